/* A bounded queue of lines between those who log and the one thread that writes. When it is full
 * the oldest lines go. */
#ifndef KRT_LOG_QUEUE_H
#define KRT_LOG_QUEUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct krt_log_queue krt_log_queue;

/* For |bytes| of lines and their heads. NULL: out of memory. */
krt_log_queue *krt_log_queue_create(size_t bytes);
/* Accepts NULL and returns it. */
krt_log_queue *krt_log_queue_destroy(krt_log_queue *q);

/* Thread: any; holds the lock for a copy of |line|. A line larger than the queue is lost. */
void krt_log_queue_put(krt_log_queue *q, uint64_t time_ms, const char *line, size_t size);

/* Of the thread that writes: */

/* The oldest line, when it has at most |room| bytes; 0: there is none, or it is larger. */
size_t krt_log_queue_get(krt_log_queue *q, char *out, size_t room, uint64_t *time_ms);
/* Waits until there are lines of |bytes| in all (at least one line), the queue is stopped or
 * kicked, or |until_ns| of CLOCK_MONOTONIC (UINT64_MAX: never). */
void krt_log_queue_wait(krt_log_queue *q, size_t bytes, uint64_t until_ns);
/* Waits until the queue is stopped, or |until_ns|. */
void krt_log_queue_pause(krt_log_queue *q, uint64_t until_ns);
/* Lines stay until krt_log_queue_release, or the deadline of krt_log_queue_stop: who asks for one
 * waits. Before there are lines. */
void krt_log_queue_hold(krt_log_queue *q);
/* The last that the caller does with |q|, if he likes. Thread: any. */
void krt_log_queue_release(krt_log_queue *q);
/* Lines that went unwritten since the last call. */
uint64_t krt_log_queue_lost(krt_log_queue *q);

/* No more waiting: what is there should be written until |deadline_ns|. */
void krt_log_queue_stop(krt_log_queue *q, uint64_t deadline_ns);
/* The deadline; UINT64_MAX: not stopped. Thread: any. */
uint64_t krt_log_queue_deadline(krt_log_queue *q);
/* Ends a wait. */
void krt_log_queue_kick(krt_log_queue *q);

#endif
