/* A few threads that do what must not block the completion-queue thread. */
#ifndef KRT_JOBS_H
#define KRT_JOBS_H

#include "err.h"

typedef struct krt_jobs krt_jobs;

/* Part of the caller's object; the callee of |run| may free it. */
typedef struct krt_job {
    struct krt_job *next;
    void (*run)(struct krt_job *job);
} krt_job;

/* |nice|: 0 (like everybody) to 19, how far the threads stand back for those that answer requests.
 */
kaena_status krt_jobs_create(unsigned n_threads, int nice, krt_jobs **out,
                             kaena_err *err) KAENA_CHECKED;
/* Runs what is posted, then joins. NULL is fine. */
krt_jobs *krt_jobs_destroy(krt_jobs *jobs);
/* First come, first run. Thread: any. */
void krt_jobs_post(krt_jobs *jobs, krt_job *job);

#endif
