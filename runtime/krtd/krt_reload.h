/* SIGHUP: the configuration is read again, and what can change while a daemon runs changes. */
#ifndef KRT_RELOAD_H
#define KRT_RELOAD_H

#include "krt.h"
#include "krt_metrics.h"
#include "krt_settings.h"

typedef struct krt_reload {
    krt_daemon *daemon;
    krt_settings **settings; /* the newest, with all older ones */
    const krt_arguments *arguments;
    const char *rundir;
    uv_signal_t hangup;
    krt_metrics *metrics; /* NULL: none */
} krt_reload;

/* Watches SIGHUP on |loop|. |*settings| are those in force; a reload puts newer ones before them,
 * which own the older. All pointers are borrowed. */
kaena_status krt_reload_init(krt_reload *r, krt_daemon *d, krt_settings **settings,
                             const krt_arguments *arguments, const char *rundir, uv_loop_t *loop,
                             kaena_err *err) KAENA_CHECKED;

/* Serves metrics at |to| and no more at |from|; NULL: nowhere. Fails as krt_metrics_open, and they
 * stay where they were. Thread: the event loop's. */
kaena_status krt_reload_metrics(krt_reload *r, const char *from, const char *to,
                                kaena_err *err) KAENA_CHECKED;

/* Makes |path| (NULL: nothing) the directory of loads by path; loads under way keep the older one.
 * NOT_FOUND, PERMISSION_DENIED. Thread: the event loop's. */
kaena_status krt_model_dir_open(krt_daemon *d, const char *path, kaena_err *err) KAENA_CHECKED;
/* No load is under way. */
void krt_model_dirs_close(krt_daemon *d);

#endif
