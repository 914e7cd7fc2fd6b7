/* Requests that nobody waits for in a call of the library: submitted, then finished by a thread
 * that moves them on. Knows no gRPC: attempts are made by a carrier.
 *
 *     submit --> PENDING --start--> FLYING --ended--> DONE --> callback, waiters
 *                   ^------------------|
 *
 * Every request is DONE exactly once. */
#ifndef KAENA_CLIENT_ASYNC_H
#define KAENA_CLIENT_ASYNC_H

#include <pthread.h>

#include "client_router.h"
#include "kaena/client.h"

typedef struct kaena_async kaena_async;

/* Who makes attempts, and runs the thread in which everything happens but submitting, cancelling
 * and waiting. */
typedef struct kaena_carrier {
    /* Begins an attempt on |daemon|. OK: kaena_async_ended will say how it ended. Otherwise it has
     * ended; |*outcome| is set. In the thread. */
    kaena_status (*start)(void *self, kaena_request *request, size_t daemon, kaena_outcome *outcome,
                          kaena_err *err);
    /* The answer is not wanted any more; ended still follows. Any thread, with the lock of requests
     * held. */
    void (*cancel)(void *self, kaena_request *request);
    /* The request is going to be DONE: its load is let go of. In the thread. */
    void (*unload)(void *self, kaena_request *request);
    /* Makes the thread call kaena_async_turn soon. Any thread, with that lock held. */
    void (*wake)(void *self);
} kaena_carrier;

/* The requests of one model. */
typedef struct kaena_lane {
    kaena_async *async;
    kaena_places *places;
    size_t live;          /* requests that are not DONE, or whose callback runs */
    kaena_request *first; /* all of them */
} kaena_lane;

typedef enum kaena_request_state {
    KAENA_REQUEST_PENDING,
    KAENA_REQUEST_FLYING,
    KAENA_REQUEST_DONE,
} kaena_request_state;

struct kaena_request {
    kaena_async *async;
    kaena_lane *lane; /* NULL when it is done and its callback is through */
    void *load;       /* what the carrier carries; let go of before the request is DONE */
    void (*done)(void *user, kaena_request *request);
    void *user;
    void *flight; /* the carrier's */
    int64_t deadline_ns;
    /* Under the lock of requests. */
    kaena_request_state state;
    bool cancelled;
    bool blocked;     /* PENDING: waits for room at a daemon */
    bool started;     /* FLYING: may be cancelled */
    bool kept;        /* the application has a handle of it */
    int64_t again_ns; /* PENDING: when to go on */
    size_t daemon;    /* FLYING */
    kaena_route route;
    kaena_status status;
    kaena_err err;
    kaena_request *lane_next, *lane_before;
    kaena_request *next, *before; /* PENDING */
};

/* NULL: out of memory. One reference is the caller's; each request has one. */
kaena_async *kaena_async_create(kaena_router *router, const kaena_carrier *carrier, void *self);
void kaena_async_unref(kaena_async *async);

void kaena_lane_init(kaena_lane *lane, kaena_async *async, kaena_places *places);
/* Cancels what is left and returns when all of it is DONE. Not from a callback. */
void kaena_lane_close(kaena_lane *lane);

/* A new request, on its way; |load| is the carrier's on success. |done| may be NULL. |out| NULL: it
 * is freed when it is done. */
kaena_status kaena_async_submit(kaena_lane *lane, void *load, int64_t deadline_ns,
                                void (*done)(void *user, kaena_request *request), void *user,
                                kaena_request **out, kaena_err *err) KAENA_CHECKED;

/* For the carrier's thread: the flight of the request is over, cancel is not called any more. */
void kaena_async_landed(kaena_request *request);
/* For the carrier's thread, after that: how the attempt ended. */
void kaena_async_ended(kaena_request *request, kaena_status status, kaena_outcome outcome,
                       const kaena_err *failure);
/* For the carrier's thread, in place of ended: nothing was attempted yet, start is called anew. */
void kaena_async_again(kaena_request *request);
/* For the carrier's thread: moves on what is due and gives the time at which more will be. */
int64_t kaena_async_turn(kaena_async *async);

#endif
