/* The end of the daemon: accepted work is finished, new work refused.
 *
 *     SERVING --SIGTERM--> DRAINING --nothing accepted is left--> stopped, exit 0
 *                             +--second SIGTERM, or time is up--> stopped, exit 1
 */
#ifndef KRT_DRAIN_H
#define KRT_DRAIN_H

#include "krt.h"

typedef struct krt_drain {
    krt_daemon *daemon;
    uv_signal_t term, interrupt;
    uv_timer_t limit;
    uv_async_t idle;
    bool cut; /* ended before all accepted work was done */
} krt_drain;

/* Watches SIGTERM and SIGINT on |loop|; the loop is stopped when the daemon may end. */
kaena_status krt_drain_init(krt_drain *dr, krt_daemon *d, uv_loop_t *loop,
                            kaena_err *err) KAENA_CHECKED;
/* The server has stopped. Closes all handles of |loop|, which runs once more to finish that. */
void krt_loop_close(uv_loop_t *loop);

#endif
