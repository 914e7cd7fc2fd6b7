/* What kaena-top knows of each daemon: its last two answers, asked for by a thread of its own, so
 * that one that hangs holds up nobody. */
#ifndef TOP_SAMPLE_H
#define TOP_SAMPLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kaena/client.h"

typedef struct top_sampler top_sampler;

/* A copy of pointers under the sampler's lock: valid between lock and unlock. */
typedef struct top_daemon {
    const char *address;
    const kaena_daemon_stats *now;    /* NULL: it has never answered, or not the last time */
    const kaena_daemon_stats *before; /* NULL: nothing to compare with */
    const char *problem;              /* why it did not answer; "" otherwise */
    bool late;                        /* it should have answered by now */
} top_daemon;

/* One thread for each of |addresses| [n]. |changed| is called on those threads. NULL: |err| says
 * why. */
top_sampler *top_sampler_create(char *const *addresses, size_t n, int64_t timeout_ms,
                                void (*changed)(void *user), void *user, kaena_err *err);
/* Waits for answers under way. Accepts NULL. */
void top_sampler_destroy(top_sampler *s);

/* Asks all daemons but those that still owe an answer. */
void top_sampler_ask(top_sampler *s);
/* All have answered, or failed to. */
bool top_sampler_complete(top_sampler *s);

void top_sampler_lock(top_sampler *s);
void top_sampler_unlock(top_sampler *s);
size_t top_sampler_count(const top_sampler *s);
/* With the lock held. */
top_daemon top_sampler_daemon(const top_sampler *s, size_t i);

#endif
