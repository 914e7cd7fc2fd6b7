/* Which request runs next, and on which TPBs. Pure: events in, actions out; no clock, no threads,
 * no memory.
 *
 * A flow is the bounded queue of one model: a FIFO for each priority. It has a lane for every copy
 * (replica) of the model: TPBs, and how many executions they take at a time. Lanes whose TPBs
 * overlap compete: the higher priority goes first, and among equal ones that which has used its
 * TPBs less (start-time fair queueing by time used). A lane that is next but for TPBs that others
 * still hold keeps the rest of its own free until then, so that a wide model is not starved by
 * narrow ones.
 *
 * An exclusive lane holds its TPBs while any of its executions runs. A model with host steps does
 * not hold: what others run then goes in between, step by step. */
#ifndef KRT_SCHED_H
#define KRT_SCHED_H

#include <stdbool.h>
#include <stdint.h>

#define KRT_PRIORITY_MIN (-8)
#define KRT_PRIORITY_MAX 7
#define KRT_PRIORITIES 16
#define KRT_MAX_TPBS 64 /* of all devices; a bit each */

typedef struct krt_flow krt_flow;

/* Life of an item:
 *
 *     IDLE --arrive--> QUEUED --> RUNNING --finish--> DONE
 *       |                 |
 *       +--> RUNNING      +--cancel, expire, close--> DONE
 *       +--refused--> DONE
 */
typedef enum krt_item_state { KRT_IDLE, KRT_QUEUED, KRT_RUNNING, KRT_DONE } krt_item_state;

/* Part of the caller's request; zeroed, with a deadline and a priority, before it arrives. */
typedef struct krt_item {
    struct krt_item *next, *prev; /* in its queue, or among what runs */
    struct krt_item *after;       /* in a list of krt_actions */
    krt_flow *flow;
    uint64_t deadline_ns; /* UINT64_MAX = none; of the same clock as now_ns */
    int32_t priority;     /* KRT_PRIORITY_MIN..KRT_PRIORITY_MAX */
    krt_item_state state;
    uint32_t lane; /* RUNNING: which of the flow's */
    bool here;     /* RUNNING: on the thread of the event that started it */
} krt_item;

typedef struct krt_lane {
    uint64_t tpbs;     /* a bit each */
    uint32_t contexts; /* executions that it takes at a time, >= 1 */
    uint32_t n_running;
    uint64_t used_ns;  /* TPB time that counts against it; comparable among lanes that compete */
    uint64_t since_ns; /* while it holds its TPBs: used_ns counts up to here */
    uint64_t turn;     /* krt_sched.turn in which it has been looked at */
} krt_lane;

struct krt_flow {
    krt_flow *next, *prev; /* among flows with a queue */
    krt_flow *after;       /* in a list of krt_actions */
    krt_item *head[KRT_PRIORITIES], *tail[KRT_PRIORITIES];
    uint32_t filled; /* a bit for each priority that has items */
    uint32_t n_queued, n_running;
    uint32_t depth;      /* most that may wait, >= 1 */
    uint64_t soonest_ns; /* nothing in the queue has an earlier deadline */
    bool closed;         /* nothing is accepted any more */
    bool holds;          /* its lanes are exclusive */
    bool resuming;       /* has been on a resume list, KRT_RESUME has not come yet */
    uint64_t quick_ns; /* executions not longer than this run on an event's own thread; 0 = never */
    uint64_t run_ns;   /* smoothed time of an execution, 0 = not known yet */
    krt_lane *lanes;   /* the caller's; [n_lanes], at least one */
    uint32_t n_lanes;
};

typedef struct krt_sched {
    krt_flow *waiting, *waiting_last; /* flows with a queue, in order of its beginning */
    krt_item *running;                /* all items that run */
    krt_lane *holder[KRT_MAX_TPBS];   /* NULL: free */
    uint64_t turn;
} krt_sched;

typedef enum krt_event_kind {
    KRT_ARRIVE, /* |item| wants to run in |flow| */
    KRT_FINISH, /* |item| has run, or was given up after it had been started */
    KRT_CANCEL, /* |item| is not wanted: it leaves the queue; nothing when it runs or is done */
    KRT_CLOSE,  /* no more arrivals in |flow|; what waits is aborted, what runs goes on */
    KRT_RESUME, /* |flow| was on a resume list, and this thread may run here */
} krt_event_kind;

typedef struct krt_event {
    krt_event_kind kind;
    krt_item *item; /* not for KRT_CLOSE and KRT_RESUME */
    krt_flow *flow; /* KRT_ARRIVE, KRT_CLOSE, KRT_RESUME */
    uint64_t now_ns;
    bool here; /* this thread may run quick executions itself */
    /* KRT_FINISH: */
    uint64_t ran_ns;  /* how long its execution took; 0 = it did not come to an end */
    uint64_t used_ns; /* of the time of each of its TPBs; looked at where the lane does not hold */
} krt_event;

/* What is to be done; lists go on through |after|, in order. */
typedef struct krt_actions {
    krt_item *start;   /* has a lane now: run it, then report KRT_FINISH */
    krt_item *expired; /* past its deadline or cancelled: answer it, it never ran */
    krt_item *aborted; /* by KRT_CLOSE */
    krt_flow *resume; /* quick and next, but this is not the thread: let that one send KRT_RESUME */
    bool refused_full; /* the item that arrived was not accepted ... */
    bool refused_closed;
} krt_actions;

/* |lanes| [n_lanes] have |tpbs| and |contexts|, the rest zero; they are the flow's until it is
 * closed and idle. */
void krt_flow_init(krt_flow *f, uint32_t depth, krt_lane *lanes, uint32_t n_lanes);

/* Feeds one event. Never starts an item whose deadline is at or before now_ns. */
void krt_sched_step(krt_sched *s, const krt_event *event, krt_actions *out);

/* Nothing of it waits and nothing runs. */
bool krt_flow_idle(const krt_flow *f);
/* Its executions are quick: they wait for a thread that may run them itself. */
bool krt_flow_quick(const krt_flow *f);

#endif
