#include "client_async.h"

#include <errno.h>
#include <stdlib.h>
#include <time.h>

struct kaena_async {
    kaena_router *router;
    const kaena_carrier *carrier;
    void *self;
    pthread_mutex_t lock; /* of requests */
    pthread_cond_t changed;
    size_t refs;                 /* under |lock| */
    kaena_request *first, *last; /* PENDING, in the order of their coming */
};

kaena_async *kaena_async_create(kaena_router *router, const kaena_carrier *carrier, void *self)
{
    kaena_async *a = calloc(1, sizeof *a);
    if (!a)
        return NULL;
    *a = (kaena_async){.router = router, .carrier = carrier, .self = self, .refs = 1};
    pthread_mutex_init(&a->lock, NULL);
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&a->changed, &monotonic);
    pthread_condattr_destroy(&monotonic);
    return a;
}

/* With the lock held, which is let go of. */
static void unref_locked(kaena_async *a)
{
    bool last = --a->refs == 0;
    pthread_mutex_unlock(&a->lock);
    if (!last)
        return;
    pthread_cond_destroy(&a->changed);
    pthread_mutex_destroy(&a->lock);
    free(a);
}

void kaena_async_unref(kaena_async *a)
{
    if (!a)
        return;
    pthread_mutex_lock(&a->lock);
    unref_locked(a);
}

/* ---- Lists; all under the lock ---- */

static void pend(kaena_request *r, bool blocked, int64_t again_ns)
{
    kaena_async *a = r->async;
    r->state = KAENA_REQUEST_PENDING;
    r->blocked = blocked;
    r->again_ns = again_ns;
    r->next = NULL;
    r->before = a->last;
    *(a->last ? &a->last->next : &a->first) = r;
    a->last = r;
}

static void unpend(kaena_request *r)
{
    kaena_async *a = r->async;
    *(r->before ? &r->before->next : &a->first) = r->next;
    *(r->next ? &r->next->before : &a->last) = r->before;
    r->next = r->before = NULL;
    r->blocked = false;
}

static void enter(kaena_lane *lane, kaena_request *r)
{
    r->lane_next = lane->first;
    if (lane->first)
        lane->first->lane_before = r;
    lane->first = r;
    lane->live++;
    lane->async->refs++;
}

static void leave(kaena_request *r)
{
    kaena_lane *lane = r->lane;
    *(r->lane_before ? &r->lane_before->lane_next : &lane->first) = r->lane_next;
    if (r->lane_next)
        r->lane_next->lane_before = r->lane_before;
    lane->live--;
    r->lane = NULL;
}

/* ---- The way of a request; under the lock but where said ---- */

/* DONE: tells everybody who waits. The lock is let go of while the callback runs; |r| may be gone
 * afterwards. */
static void finish(kaena_request *r, kaena_status status)
{
    kaena_async *a = r->async;
    a->carrier->unload(a->self, r);
    r->state = KAENA_REQUEST_DONE;
    r->status = status;
    if (status == KAENA_OK)
        kaena_err_init(&r->err);
    pthread_cond_broadcast(&a->changed);
    if (r->done) {
        pthread_mutex_unlock(&a->lock);
        r->done(r->user, r);
        pthread_mutex_lock(&a->lock);
    }
    leave(r);
    pthread_cond_broadcast(&a->changed);
    if (!r->kept) {
        free(r);
        a->refs--; /* never the last: the carrier has one */
    }
}

/* An attempt is to be made on |daemon|: true when it is under way. The lock is let go of
 * meanwhile. */
static bool start(kaena_request *r, size_t daemon)
{
    kaena_async *a = r->async;
    kaena_err failure;
    kaena_err_init(&failure);
    kaena_outcome outcome = KAENA_OUTCOME_FINAL;
    r->state = KAENA_REQUEST_FLYING;
    r->daemon = daemon;
    pthread_mutex_unlock(&a->lock);
    kaena_status status = a->carrier->start(a->self, r, daemon, &outcome, &failure);
    pthread_mutex_lock(&a->lock);
    r->started = status == KAENA_OK;
    if (r->started && r->cancelled)
        a->carrier->cancel(a->self, r);
    if (!r->started)
        kaena_route_report(&r->route, daemon, status, outcome, &failure, kaena_now_ns());
    return r->started;
}

/* Sends it on its way to the next daemon, or has it wait, or ends it: then |r| may be gone. True:
 * there is no room for it. */
static bool advance(kaena_request *r)
{
    for (;;) {
        size_t daemon = 0;
        int64_t until_ns = 0;
        if (r->cancelled) {
            (void)KAENA_FAIL(&r->err, CANCELLED, "the request was cancelled");
            finish(r, KAENA_CANCELLED);
            return false;
        }
        switch (kaena_route_next(&r->route, kaena_now_ns(), &daemon, &until_ns)) {
        case KAENA_STEP_END:
            finish(r, kaena_route_error(&r->route, &r->err));
            return false;
        case KAENA_STEP_WAIT:
            pend(r, false, until_ns);
            return false;
        case KAENA_STEP_BLOCKED:
            pend(r, true, r->deadline_ns);
            return true;
        case KAENA_STEP_TRY:
            if (start(r, daemon))
                return false;
        }
    }
}

/* There is room at a daemon: who waited longest goes first. */
static void unblock(kaena_async *a, const kaena_lane *lane)
{
    for (kaena_request *r = a->first; r;) {
        if (!r->blocked || r->lane != lane) {
            r = r->next;
            continue;
        }
        unpend(r);
        if (advance(r)) {
            /* Not yet: it keeps its place. */
            unpend(r);
            r->blocked = true;
            r->next = a->first;
            *(a->first ? &a->first->before : &a->last) = r;
            a->first = r;
            return;
        }
        r = a->first; /* the list has changed while the lock was let go of */
    }
}

void kaena_async_landed(kaena_request *r)
{
    pthread_mutex_lock(&r->async->lock);
    r->started = false;
    pthread_mutex_unlock(&r->async->lock);
}

void kaena_async_ended(kaena_request *r, kaena_status status, kaena_outcome outcome,
                       const kaena_err *failure)
{
    kaena_async *a = r->async;
    pthread_mutex_lock(&a->lock);
    const kaena_lane *lane = r->lane;
    kaena_route_report(&r->route, r->daemon, status, outcome, failure, kaena_now_ns());
    if (status == KAENA_OK)
        finish(r, KAENA_OK);
    else
        (void)advance(r);
    unblock(a, lane);
    pthread_mutex_unlock(&a->lock);
}

void kaena_async_again(kaena_request *r)
{
    kaena_async *a = r->async;
    pthread_mutex_lock(&a->lock);
    const kaena_lane *lane = r->lane;
    if (!start(r, r->daemon))
        (void)advance(r);
    unblock(a, lane);
    pthread_mutex_unlock(&a->lock);
}

int64_t kaena_async_turn(kaena_async *a)
{
    int64_t next_ns = INT64_MAX;
    pthread_mutex_lock(&a->lock);
    int64_t now_ns = kaena_now_ns();
    for (kaena_request *r = a->first; r;) {
        if (r->again_ns > now_ns && !r->cancelled) {
            next_ns = r->again_ns < next_ns ? r->again_ns : next_ns;
            r = r->next;
            continue;
        }
        bool late = r->blocked && !r->cancelled;
        unpend(r);
        if (late) {
            (void)KAENA_FAIL(&r->err, DEADLINE_EXCEEDED,
                             "the request waited for room at the daemons until its deadline");
            finish(r, KAENA_DEADLINE_EXCEEDED);
        } else {
            (void)advance(r);
        }
        r = a->first; /* the list has changed while the lock was let go of */
        next_ns = INT64_MAX;
    }
    pthread_mutex_unlock(&a->lock);
    return next_ns;
}

kaena_status kaena_async_submit(kaena_lane *lane, void *load, int64_t deadline_ns,
                                void (*done)(void *user, kaena_request *request), void *user,
                                kaena_request **out, kaena_err *err)
{
    kaena_async *a = lane->async;
    kaena_request *r = calloc(1, sizeof *r);
    if (!r)
        return KAENA_FAIL(err, RESOURCE_EXHAUSTED, "out of memory");
    r->async = a;
    r->lane = lane;
    r->load = load;
    r->done = done;
    r->user = user;
    r->deadline_ns = deadline_ns;
    r->kept = out != NULL;
    const kaena_route_options options = {.places = lane->places,
                                         .deadline_ns = deadline_ns,
                                         .may_repeat = true,
                                         .patient = true,
                                         .windowed = true};
    kaena_route_init(&r->route, a->router, &options);
    if (out)
        *out = r;
    pthread_mutex_lock(&a->lock);
    enter(lane, r);
    bool queue = false;
    for (const kaena_request *p = a->first; p && !queue; p = p->next)
        queue = p->blocked && p->lane == lane;
    /* The thread does it: no callback runs within submit. */
    pend(r, queue, queue ? deadline_ns : kaena_now_ns());
    if (!queue)
        a->carrier->wake(a->self);
    pthread_mutex_unlock(&a->lock);
    return KAENA_OK;
}

/* ---- Handles of requests ---- */

static void cancel_locked(kaena_request *r)
{
    kaena_async *a = r->async;
    if (r->cancelled || r->state == KAENA_REQUEST_DONE)
        return;
    r->cancelled = true;
    if (r->started)
        a->carrier->cancel(a->self, r);
    else if (r->state == KAENA_REQUEST_PENDING)
        a->carrier->wake(a->self);
}

void kaena_request_cancel(kaena_request *r)
{
    pthread_mutex_lock(&r->async->lock);
    cancel_locked(r);
    pthread_mutex_unlock(&r->async->lock);
}

int kaena_request_wait(kaena_request *r, int64_t timeout_ms)
{
    kaena_async *a = r->async;
    const int64_t most_ms = INT64_C(1000) * 3600 * 24 * 365;
    int64_t until_ns =
        kaena_now_ns() + (timeout_ms < most_ms ? timeout_ms : most_ms) * INT64_C(1000000);
    const struct timespec until = {.tv_sec = until_ns / 1000000000,
                                   .tv_nsec = until_ns % 1000000000};
    pthread_mutex_lock(&a->lock);
    /* Its lane lets go of it when its callback has returned. */
    for (int e = 0;
         (r->state != KAENA_REQUEST_DONE || r->lane) && e != ETIMEDOUT && timeout_ms != 0;)
        e = timeout_ms < 0 ? pthread_cond_wait(&a->changed, &a->lock)
                           : pthread_cond_timedwait(&a->changed, &a->lock, &until);
    int done = r->state == KAENA_REQUEST_DONE && !r->lane;
    pthread_mutex_unlock(&a->lock);
    return done;
}

kaena_status kaena_request_status(const kaena_request *r, kaena_err *err)
{
    kaena_async *a = r->async;
    pthread_mutex_lock(&a->lock);
    kaena_status status = r->status;
    if (r->state != KAENA_REQUEST_DONE)
        status = KAENA_FAIL(err, FAILED_PRECONDITION, "the request is not done yet");
    else if (err)
        *err = r->err;
    pthread_mutex_unlock(&a->lock);
    return status;
}

void kaena_request_release(kaena_request *r)
{
    if (!r)
        return;
    kaena_async *a = r->async;
    pthread_mutex_lock(&a->lock);
    cancel_locked(r);
    while (r->state != KAENA_REQUEST_DONE)
        pthread_cond_wait(&a->changed, &a->lock);
    if (r->lane) {
        /* Its callback runs, perhaps here: who runs it frees it. */
        r->kept = false;
        pthread_mutex_unlock(&a->lock);
        return;
    }
    free(r);
    unref_locked(a);
}

/* ---- Lanes ---- */

void kaena_lane_init(kaena_lane *lane, kaena_async *async, kaena_places *places)
{
    *lane = (kaena_lane){.async = async, .places = places};
}

void kaena_lane_close(kaena_lane *lane)
{
    kaena_async *a = lane->async;
    pthread_mutex_lock(&a->lock);
    for (kaena_request *r = lane->first; r; r = r->lane_next)
        cancel_locked(r);
    while (lane->live > 0)
        pthread_cond_wait(&a->changed, &a->lock);
    pthread_mutex_unlock(&a->lock);
}
