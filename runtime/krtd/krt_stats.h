/* Counters of a model beside those in krt_model, kept as long as the model is loaded: what GetStats
 * and the metrics say.
 *
 * Counting takes no lock, allocates nothing and costs some nanoseconds; a reader may see one
 * counter of a request already and another not yet. Thread: any. */
#ifndef KRT_STATS_H
#define KRT_STATS_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "err.h"

/* krt_stats.def has the bounds; the last bucket has none. */
enum {
    KRT_N_BOUNDS = 0
#define KRT_BUCKET(ns) +1
#include "krt_stats.def"
#undef KRT_BUCKET
};
extern const uint64_t krt_bucket_bounds[KRT_N_BOUNDS]; /* nanoseconds, ascending */

/* gRPC's codes; another is counted as UNKNOWN. */
#define KRT_N_CODES 17

typedef struct krt_histogram {
    _Atomic uint64_t count[KRT_N_BOUNDS + 1];
    _Atomic uint64_t sum_ns;
} krt_histogram;

typedef struct krt_stats {
    _Atomic uint64_t answered[KRT_N_CODES]; /* requests, by status */
    _Atomic uint64_t batch_items, batch_slots;
    krt_histogram queue, execute, total; /* waited; ran; from arrival to the answer */
} krt_stats;

/* A request has been executed: it waited |queue_ns|, ran |execute_ns|, and used |items| of |slots|
 * of a dynamic batch (0 of 0 where there is none). */
void krt_stats_ran(krt_stats *s, uint64_t queue_ns, uint64_t execute_ns, uint64_t items,
                   uint64_t slots);
/* It has been answered, |total_ns| after it came; whatever came of it, once per request. */
void krt_stats_answer(krt_stats *s, kaena_status code, uint64_t total_ns);

static inline uint64_t krt_stats_get(const _Atomic uint64_t *counter)
{
    return atomic_load_explicit(counter, memory_order_relaxed);
}

/* Of this process, in bytes; 0 where /proc does not say. */
uint64_t krt_rss_bytes(void);

/* How often the daemon |name| has been serving and then ended otherwise than it should have, since
 * its last proper end: what the file |rundir|/|name|.starts says, 0 where there is none. Starts
 * that fail do not count. By the one daemon that has the name, as are the next two. */
uint32_t krt_restarts_read(const char *rundir, const char *name);
/* It serves: from here on an end that it does not tell is one more than |restarts|. A directory
 * that cannot be written is none to count in. */
void krt_restarts_serving(const char *rundir, const char *name, uint32_t restarts);
/* It ends as it should. */
void krt_restarts_end(const char *rundir, const char *name);

#endif
