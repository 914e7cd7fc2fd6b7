/* Signs of life for systemd's watchdog (WATCHDOG_USEC): sent while the threads that every request
 * needs still come by. A daemon that hangs is so ended and started again. */
#ifndef KRT_WATCHDOG_H
#define KRT_WATCHDOG_H

#include "krt.h"

typedef struct krt_watchdog {
    krt_daemon *daemon;
    uv_timer_t timer;
    krt_job job;
    _Atomic bool job_done;
    uint64_t beats; /* of the server, at the last look */
    bool warned;
} krt_watchdog;

/* How often the server's threads must be seen; 0 when nobody watches. */
unsigned krt_watchdog_beat_ms(void);

/* Its timer on |loop|, which is to be closed like the others. */
kaena_status krt_watchdog_init(krt_watchdog *w, krt_daemon *d, uv_loop_t *loop,
                               kaena_err *err) KAENA_CHECKED;
/* Once the server has started. */
void krt_watchdog_start(krt_watchdog *w);

#endif
