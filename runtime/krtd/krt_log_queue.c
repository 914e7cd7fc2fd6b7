#include "krt_log_queue.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* Before every line. */
typedef struct head {
    uint64_t time_ms;
    uint64_t size;
} head;

struct krt_log_queue {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    size_t room;     /* of |ring| */
    size_t at, used; /* the oldest byte, and how many there are */
    size_t wanted;   /* a waiter wants so many bytes; 0 = nobody waits */
    uint64_t lost;
    uint64_t deadline_ns;
    bool kicked, held;
    char ring[];
};

krt_log_queue *krt_log_queue_create(size_t bytes)
{
    krt_log_queue *q = calloc(1, sizeof *q + bytes);
    if (!q)
        return NULL;
    pthread_condattr_t monotonic;
    (void)pthread_condattr_init(&monotonic);
    (void)pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&q->changed, &monotonic);
    (void)pthread_condattr_destroy(&monotonic);
    (void)pthread_mutex_init(&q->lock, NULL);
    q->room = bytes;
    q->deadline_ns = UINT64_MAX;
    return q;
}

krt_log_queue *krt_log_queue_destroy(krt_log_queue *q)
{
    if (!q)
        return NULL;
    (void)pthread_cond_destroy(&q->changed);
    (void)pthread_mutex_destroy(&q->lock);
    free(q);
    return NULL;
}

/* ---- the ring; with the lock held ---- */

static void copy_in(krt_log_queue *q, const void *data, size_t n)
{
    size_t at = (q->at + q->used) % q->room, first = q->room - at < n ? q->room - at : n;
    memcpy(q->ring + at, data, first);
    memcpy(q->ring, (const char *)data + first, n - first);
    q->used += n;
}

static void copy_out(const krt_log_queue *q, size_t skip, void *data, size_t n)
{
    size_t at = (q->at + skip) % q->room, first = q->room - at < n ? q->room - at : n;
    memcpy(data, q->ring + at, first);
    memcpy((char *)data + first, q->ring, n - first);
}

static void drop(krt_log_queue *q, size_t n)
{
    q->at = (q->at + n) % q->room;
    q->used -= n;
}

static head oldest(const krt_log_queue *q)
{
    head h;
    copy_out(q, 0, &h, sizeof h);
    return h;
}

void krt_log_queue_put(krt_log_queue *q, uint64_t time_ms, const char *line, size_t size)
{
    head h = {time_ms, size};
    (void)pthread_mutex_lock(&q->lock);
    if (sizeof h + size > q->room) {
        q->lost++;
    } else {
        while (q->room - q->used < sizeof h + size) {
            drop(q, sizeof h + (size_t)oldest(q).size);
            q->lost++;
        }
        copy_in(q, &h, sizeof h);
        copy_in(q, line, size);
        if (q->wanted && q->used >= q->wanted)
            (void)pthread_cond_signal(&q->changed);
    }
    (void)pthread_mutex_unlock(&q->lock);
}

/* ---- waiting; once with the lock held ---- */

/* False: |until_ns| has come. */
static bool wait_once(krt_log_queue *q, uint64_t until_ns)
{
    if (until_ns == UINT64_MAX)
        return pthread_cond_wait(&q->changed, &q->lock) == 0;
    struct timespec t = {.tv_sec = (time_t)(until_ns / 1000000000u),
                         .tv_nsec = (long)(until_ns % 1000000000u)};
    return pthread_cond_timedwait(&q->changed, &q->lock, &t) == 0;
}

size_t krt_log_queue_get(krt_log_queue *q, char *out, size_t room, uint64_t *time_ms)
{
    size_t n = 0;
    (void)pthread_mutex_lock(&q->lock);
    while (q->used && q->held && wait_once(q, q->deadline_ns))
        ;
    if (q->used) {
        head h = oldest(q);
        if (h.size <= room) {
            n = (size_t)h.size;
            *time_ms = h.time_ms;
            copy_out(q, sizeof h, out, n);
            drop(q, sizeof h + n);
        }
    }
    (void)pthread_mutex_unlock(&q->lock);
    return n;
}

void krt_log_queue_wait(krt_log_queue *q, size_t bytes, uint64_t until_ns)
{
    (void)pthread_mutex_lock(&q->lock);
    q->wanted = bytes && bytes < q->room ? bytes : 1;
    bool more = true;
    while (more && q->used < q->wanted && !q->kicked && q->deadline_ns == UINT64_MAX)
        more = wait_once(q, until_ns);
    q->wanted = 0;
    q->kicked = false;
    (void)pthread_mutex_unlock(&q->lock);
}

void krt_log_queue_pause(krt_log_queue *q, uint64_t until_ns)
{
    (void)pthread_mutex_lock(&q->lock);
    while (q->deadline_ns == UINT64_MAX && wait_once(q, until_ns))
        ;
    (void)pthread_mutex_unlock(&q->lock);
}

uint64_t krt_log_queue_lost(krt_log_queue *q)
{
    (void)pthread_mutex_lock(&q->lock);
    uint64_t n = q->lost;
    q->lost = 0;
    (void)pthread_mutex_unlock(&q->lock);
    return n;
}

void krt_log_queue_stop(krt_log_queue *q, uint64_t deadline_ns)
{
    (void)pthread_mutex_lock(&q->lock);
    q->deadline_ns = deadline_ns;
    (void)pthread_cond_broadcast(&q->changed);
    (void)pthread_mutex_unlock(&q->lock);
}

uint64_t krt_log_queue_deadline(krt_log_queue *q)
{
    (void)pthread_mutex_lock(&q->lock);
    uint64_t deadline = q->deadline_ns;
    (void)pthread_mutex_unlock(&q->lock);
    return deadline;
}

void krt_log_queue_hold(krt_log_queue *q)
{
    (void)pthread_mutex_lock(&q->lock);
    q->held = true;
    (void)pthread_mutex_unlock(&q->lock);
}

void krt_log_queue_release(krt_log_queue *q)
{
    (void)pthread_mutex_lock(&q->lock);
    q->held = false;
    (void)pthread_cond_broadcast(&q->changed);
    (void)pthread_mutex_unlock(&q->lock);
}

void krt_log_queue_kick(krt_log_queue *q)
{
    (void)pthread_mutex_lock(&q->lock);
    q->kicked = true;
    (void)pthread_cond_broadcast(&q->changed);
    (void)pthread_mutex_unlock(&q->lock);
}
