#include "krt_queue.h"

#include <assert.h>
#include <stddef.h>

void krt_queue_init(krt_queue *q, uint32_t depth, uint32_t contexts)
{
    *q = (krt_queue){.depth = depth, .contexts = contexts};
    q->tail = &q->head;
}

bool krt_queue_idle(const krt_queue *q)
{
    return q->n_queued == 0 && q->n_running == 0;
}

static void append(krt_item **list, krt_item *item)
{
    while (*list)
        list = &(*list)->next;
    item->next = NULL;
    *list = item;
}

static void unlink_at(krt_queue *q, krt_item **at)
{
    krt_item *item = *at;
    *at = item->next;
    if (!*at)
        q->tail = at;
    q->n_queued--;
}

static void expire(krt_item *item, krt_actions *out)
{
    item->state = KRT_DONE;
    append(&out->expired, item);
}

/* Hands free contexts to the oldest items that still matter. */
static void fill(krt_queue *q, uint64_t now_ns, krt_actions *out)
{
    while (q->head && q->n_running < q->contexts) {
        krt_item *item = q->head;
        unlink_at(q, &q->head);
        if (item->deadline_ns <= now_ns) {
            expire(item, out);
            continue;
        }
        item->state = KRT_RUNNING;
        q->n_running++;
        append(&out->start, item);
    }
}

/* Makes room: what has expired in the queue takes no place from what has not. */
static void sweep(krt_queue *q, uint64_t now_ns, krt_actions *out)
{
    for (krt_item **at = &q->head; *at;) {
        krt_item *item = *at;
        if (item->deadline_ns <= now_ns) {
            unlink_at(q, at);
            expire(item, out);
        } else {
            at = &item->next;
        }
    }
}

static void arrive(krt_queue *q, krt_item *item, uint64_t now_ns, krt_actions *out)
{
    assert(item->state == KRT_IDLE);
    item->next = NULL;
    if (q->closed) {
        item->state = KRT_DONE;
        out->refused_closed = true;
        return;
    }
    if (item->deadline_ns <= now_ns) {
        expire(item, out);
        return;
    }
    if (q->n_queued >= q->depth)
        sweep(q, now_ns, out);
    if (q->n_queued >= q->depth) {
        item->state = KRT_DONE;
        out->refused_full = true;
        return;
    }
    item->state = KRT_QUEUED;
    *q->tail = item;
    q->tail = &item->next;
    q->n_queued++;
    fill(q, now_ns, out);
}

static void cancel(krt_queue *q, krt_item *item, krt_actions *out)
{
    if (item->state != KRT_QUEUED)
        return;
    krt_item **at = &q->head;
    while (*at != item)
        at = &(*at)->next;
    unlink_at(q, at);
    expire(item, out);
}

static void close_queue(krt_queue *q, krt_actions *out)
{
    q->closed = true;
    while (q->head) {
        krt_item *item = q->head;
        unlink_at(q, &q->head);
        item->state = KRT_DONE;
        append(&out->aborted, item);
    }
}

void krt_queue_step(krt_queue *q, const krt_event *event, krt_actions *out)
{
    *out = (krt_actions){0};
    switch (event->kind) {
    case KRT_ARRIVE:
        arrive(q, event->item, event->now_ns, out);
        break;
    case KRT_FINISH:
        assert(event->item->state == KRT_RUNNING && q->n_running > 0);
        event->item->state = KRT_DONE;
        q->n_running--;
        fill(q, event->now_ns, out);
        break;
    case KRT_CANCEL:
        cancel(q, event->item, out);
        break;
    case KRT_CLOSE:
        close_queue(q, out);
        break;
    case KRT_RESUME:
        fill(q, event->now_ns, out);
        break;
    }
}
