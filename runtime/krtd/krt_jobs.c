#include "krt_jobs.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

struct krt_jobs {
    pthread_mutex_t lock;
    pthread_cond_t posted;
    krt_job *head, **tail;
    bool stop;
    int nice;
    unsigned n_threads;
    pthread_t threads[];
};

static void *work(void *arg)
{
    krt_jobs *jobs = arg;
    if (jobs->nice)
        (void)setpriority(PRIO_PROCESS, 0, jobs->nice); /* in Linux this thread's */
    (void)pthread_mutex_lock(&jobs->lock);
    for (;;) {
        while (!jobs->head && !jobs->stop)
            (void)pthread_cond_wait(&jobs->posted, &jobs->lock);
        krt_job *job = jobs->head;
        if (!job)
            break;
        jobs->head = job->next;
        if (!jobs->head)
            jobs->tail = &jobs->head;
        (void)pthread_mutex_unlock(&jobs->lock);
        job->run(job);
        (void)pthread_mutex_lock(&jobs->lock);
    }
    (void)pthread_mutex_unlock(&jobs->lock);
    return NULL;
}

kaena_status krt_jobs_create(unsigned n_threads, int nice, krt_jobs **out, kaena_err *err)
{
    krt_jobs *jobs = calloc(1, sizeof *jobs + n_threads * sizeof *jobs->threads);
    if (!jobs)
        return KAENA_FAIL(err, RESOURCE_EXHAUSTED, "threads: out of memory");
    jobs->nice = nice;
    jobs->tail = &jobs->head;
    (void)pthread_mutex_init(&jobs->lock, NULL);
    (void)pthread_cond_init(&jobs->posted, NULL);
    for (; jobs->n_threads < n_threads; jobs->n_threads++) {
        int e = pthread_create(&jobs->threads[jobs->n_threads], NULL, work, jobs);
        if (e) {
            (void)krt_jobs_destroy(jobs);
            return KAENA_FAIL(err, RESOURCE_EXHAUSTED, "threads: %s", strerror(e));
        }
    }
    *out = jobs;
    return KAENA_OK;
}

krt_jobs *krt_jobs_destroy(krt_jobs *jobs)
{
    if (!jobs)
        return NULL;
    (void)pthread_mutex_lock(&jobs->lock);
    jobs->stop = true;
    (void)pthread_cond_broadcast(&jobs->posted);
    (void)pthread_mutex_unlock(&jobs->lock);
    for (unsigned i = 0; i < jobs->n_threads; i++)
        (void)pthread_join(jobs->threads[i], NULL);
    (void)pthread_cond_destroy(&jobs->posted);
    (void)pthread_mutex_destroy(&jobs->lock);
    free(jobs);
    return NULL;
}

void krt_jobs_post(krt_jobs *jobs, krt_job *job)
{
    job->next = NULL;
    (void)pthread_mutex_lock(&jobs->lock);
    *jobs->tail = job;
    jobs->tail = &job->next;
    (void)pthread_cond_signal(&jobs->posted);
    (void)pthread_mutex_unlock(&jobs->lock);
}
