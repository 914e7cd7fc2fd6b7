/* The queue of one model: a bounded FIFO in front of a fixed number of execution contexts. Pure:
 * events in, actions out; no clock, no threads, no memory. */
#ifndef KRT_QUEUE_H
#define KRT_QUEUE_H

#include <stdbool.h>
#include <stdint.h>

/* Life of an item:
 *
 *     IDLE --arrive--> QUEUED --> RUNNING --finish--> DONE
 *       |                 |
 *       +--> RUNNING      +--cancel, expire, close--> DONE
 *       +--refused--> DONE
 */
typedef enum krt_item_state { KRT_IDLE, KRT_QUEUED, KRT_RUNNING, KRT_DONE } krt_item_state;

/* Part of the caller's request, zeroed before it arrives. */
typedef struct krt_item {
    struct krt_item *next; /* in the queue, or in a list of krt_actions */
    uint64_t deadline_ns;  /* UINT64_MAX = none; of the same clock as now_ns */
    krt_item_state state;
} krt_item;

typedef struct krt_queue {
    krt_item *head, **tail;
    uint32_t n_queued, n_running;
    uint32_t depth;    /* most that may wait, >= 1 */
    uint32_t contexts; /* most that may run; the caller may change it between events */
    bool closed;       /* nothing is accepted any more */
} krt_queue;

typedef enum krt_event_kind {
    KRT_ARRIVE, /* |item| wants to run */
    KRT_FINISH, /* |item| has run */
    KRT_CANCEL, /* |item|'s caller is gone: it leaves the queue; nothing when it runs or is done */
    KRT_CLOSE,  /* no more arrivals; what waits is aborted, what runs goes on */
    KRT_RESUME, /* |contexts| has grown */
} krt_event_kind;

typedef struct krt_event {
    krt_event_kind kind;
    krt_item *item; /* not for KRT_CLOSE and KRT_RESUME */
    uint64_t now_ns;
} krt_event;

/* What is to be done, lists in order of arrival. */
typedef struct krt_actions {
    krt_item *start;   /* has a context now: run it, then report KRT_FINISH */
    krt_item *expired; /* past its deadline or cancelled: answer it, it never ran */
    krt_item *aborted; /* by KRT_CLOSE */
    bool refused_full; /* the item that arrived was not accepted ... */
    bool refused_closed;
} krt_actions;

void krt_queue_init(krt_queue *q, uint32_t depth, uint32_t contexts);

/* Feeds one event. Never starts an item whose deadline is at or before now_ns. */
void krt_queue_step(krt_queue *q, const krt_event *event, krt_actions *out);

/* Nothing waits and nothing runs. */
bool krt_queue_idle(const krt_queue *q);

#endif
