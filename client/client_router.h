/* Which daemon a call goes to: what is known of each daemon, and the steps of one call over them.
 * Knows neither gRPC nor sockets nor clocks: time comes in, attempts are made by the caller. */
#ifndef KAENA_CLIENT_ROUTER_H
#define KAENA_CLIENT_ROUTER_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "err.h"

#define KAENA_MAX_DAEMONS 256

typedef enum kaena_daemon_state {
    KAENA_DAEMON_UP, /* as far as is known: where every daemon begins */
    KAENA_DAEMON_DRAINING,
    KAENA_DAEMON_DOWN,
} kaena_daemon_state;

/* What is known of one daemon. Any thread. */
typedef struct kaena_daemon {
    atomic_int state;
    /* From 1; grows whenever the daemon stops being UP: what it held then may be gone. */
    atomic_uint generation;
    atomic_int in_flight;
    _Atomic int64_t queue_ns;    /* smoothed: how long its answers say that they waited */
    _Atomic int64_t queue_at_ns; /* when that was */
    _Atomic int64_t ask_at_ns;   /* not UP: when it is worth asking again */
    atomic_uint failures;        /* since it was UP */
} kaena_daemon;

typedef struct kaena_router {
    kaena_daemon *daemons; /* [count] */
    size_t count;
    atomic_size_t preferred; /* the one that answered last */
    atomic_uint turn;        /* among equals, another one begins each time */
    pthread_mutex_t lock;    /* of the next two */
    void (*changed)(void *user);
    void *user;
} kaena_router;

kaena_status kaena_router_init(kaena_router *router, size_t count, kaena_err *err) KAENA_CHECKED;
void kaena_router_fini(kaena_router *router);

/* |changed| (NULL: nothing) is called when a daemon stops being UP or a replica is found missing,
 * from any thread and with the router's lock held: it must not block. After the call returns the
 * function that was there before is not called any more. */
void kaena_router_watch(kaena_router *router, void (*changed)(void *user), void *user);

/* The daemon answered: it is UP. */
void kaena_router_up(kaena_router *router, size_t daemon);
/* It drains, cannot be reached, or lost a connection. */
void kaena_router_gone(kaena_router *router, size_t daemon, kaena_daemon_state state,
                       int64_t now_ns);
/* An answer of the daemon waited |queue_ns| there. */
void kaena_router_waited(kaena_router *router, size_t daemon, int64_t queue_ns, int64_t now_ns);
/* (in flight + 1) x (a constant + what a request waits there): the smallest is the least loaded. */
uint64_t kaena_router_cost(const kaena_router *router, size_t daemon, int64_t now_ns);
bool kaena_router_is_up(const kaena_router *router, size_t daemon);

/* Where a model lies, one entry a daemon: the generation of the daemon in which the model was known
 * to be there, 0 = it is not. */
typedef struct kaena_places {
    atomic_uint *ready; /* [router->count] */
    uint32_t wanted;    /* daemons that should have it */
    const char *model;
    /* Of calls that queue here rather than there: those under way, and how many may be. */
    atomic_uint *windowed; /* [router->count] */
    uint32_t window;
} kaena_places;

bool kaena_places_has(const kaena_places *places, const kaena_router *router, size_t daemon);

/* ---- One call ---- */

/* What a failed attempt means for the next one. */
typedef enum kaena_outcome {
    KAENA_OUTCOME_FINAL,    /* the answer, whichever daemon is asked */
    KAENA_OUTCOME_REFUSED,  /* not accepted; another daemon may */
    KAENA_OUTCOME_MISSING,  /* not accepted: the daemon has no such model */
    KAENA_OUTCOME_LATER,    /* not accepted; the same daemon may, later */
    KAENA_OUTCOME_DRAINING, /* not accepted, and the daemon is going to end */
    KAENA_OUTCOME_ABSENT,   /* nothing was sent: the daemon cannot be reached */
    KAENA_OUTCOME_LOST,     /* the connection broke after the request was sent: it may have run */
} kaena_outcome;

typedef struct kaena_route_options {
    kaena_places *places; /* NULL: any daemon may have it, the one that answered last first */
    int64_t deadline_ns;
    bool may_repeat; /* once more after a LOST */
    bool fail_fast;  /* do not wait for daemons that cannot be reached */
    bool patient;    /* wait until the deadline where all refuse */
    bool windowed;   /* of |places|: no more than its window at each daemon */
} kaena_route_options;

/* A call on its way. One thread at a time. */
typedef struct kaena_route {
    kaena_router *router;
    kaena_route_options options;
    uint64_t tried[KAENA_MAX_DAEMONS / 64]; /* in this round over the daemons */
    uint32_t generation;                    /* of the daemon that is being tried */
    bool round_up, round_refused, round_lost;
    bool failed, lost, ended;
    bool blocked; /* no daemon has room in its window */
    int64_t pause_ns;
    int told;          /* how telling |best| is */
    kaena_err best;    /* the most telling failure */
    kaena_err breakup; /* the connection that broke, when |lost| */
} kaena_route;

typedef enum kaena_step {
    KAENA_STEP_TRY,     /* |daemon|; report follows */
    KAENA_STEP_WAIT,    /* until |until_ns|, then ask again */
    KAENA_STEP_BLOCKED, /* until another call of the window ends, then ask again */
    KAENA_STEP_END,     /* with kaena_route_error */
} kaena_step;

void kaena_route_init(kaena_route *route, kaena_router *router, const kaena_route_options *options);
/* What to do next. A daemon to try counts as having one more in flight until it is reported. */
kaena_step kaena_route_next(kaena_route *route, int64_t now_ns, size_t *out_daemon,
                            int64_t *out_until_ns);
/* How the attempt on |daemon| ended; |outcome| and |failure| matter only unless |status| is OK. */
void kaena_route_report(kaena_route *route, size_t daemon, kaena_status status,
                        kaena_outcome outcome, const kaena_err *failure, int64_t now_ns);
/* What a call that has ended without success says. */
kaena_status kaena_route_error(const kaena_route *route, kaena_err *err);

/* Makes attempts, in this thread, until one succeeds or the route ends. |attempt| sets |*outcome|
 * when it fails. */
typedef kaena_status (*kaena_route_attempt)(void *user, size_t daemon, int64_t deadline_ns,
                                            kaena_outcome *outcome, kaena_err *err);
kaena_status kaena_route_run(kaena_route *route, kaena_route_attempt attempt, void *user,
                             kaena_err *err) KAENA_CHECKED;

/* CLOCK_MONOTONIC in nanoseconds: the clock of all deadlines here. */
int64_t kaena_now_ns(void);
void kaena_sleep_until(int64_t ns);

#endif
