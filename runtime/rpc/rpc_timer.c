/* Timers of the completion-queue thread. The core has none for users in C: this thread waits for
 * the queue until the first is due. Others wake it with the tag of an empty batch, which comes out
 * of the queue at once, on a call of a channel that leads nowhere.
 *
 * Pending timers lie in a pairing heap, the first at the top: a node's |child| is its first child,
 * |next| its next sibling, |prev| the previous one or, of a first child, the parent. */
#include <grpc/support/time.h>
#include <stdlib.h>
#include <time.h>

#include "rpc_internal.h"

struct krpc_clock {
    krpc_server *server;
    pthread_mutex_t lock; /* of the next, but for |due_ns| */
    krpc_timer *first;
    _Atomic uint64_t due_ns; /* of |first|; UINT64_MAX = none */
    size_t n_live;           /* timers in the heap or on the way to |fn|; and |wake| */
    bool ending;             /* timers are cancelled, and so are later ones */
    bool woken;
    krpc_tag wake;
    grpc_channel *nowhere;
    grpc_call *call;
};

static uint64_t now_ns(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* ---- the heap ---- */

static krpc_timer *merge(krpc_timer *a, krpc_timer *b)
{
    if (!a || !b)
        return a ? a : b;
    if (b->at_ns < a->at_ns) {
        krpc_timer *t = a;
        a = b;
        b = t;
    }
    b->prev = a;
    b->next = a->child;
    if (a->child)
        a->child->prev = b;
    a->child = b;
    return a;
}

/* One heap of a list of siblings: neighbours first, then all, from the last on. */
static krpc_timer *merge_siblings(krpc_timer *t)
{
    krpc_timer *pairs = NULL, *all = NULL;
    while (t) {
        krpc_timer *a = t, *b = t->next;
        t = b ? b->next : NULL;
        a->next = a->prev = NULL;
        if (b)
            b->next = b->prev = NULL;
        a = merge(a, b);
        a->next = pairs;
        pairs = a;
    }
    while (pairs) {
        krpc_timer *a = pairs;
        pairs = a->next;
        a->next = NULL;
        all = merge(all, a);
    }
    return all;
}

static void take_out(krpc_clock *c, krpc_timer *t)
{
    krpc_timer *rest = merge_siblings(t->child);
    if (t == c->first) {
        c->first = rest;
    } else {
        if (t->prev->child == t)
            t->prev->child = t->next;
        else
            t->prev->next = t->next;
        if (t->next)
            t->next->prev = t->prev;
        c->first = merge(c->first, rest);
    }
    t->child = t->next = t->prev = NULL;
    t->waiting = false;
    atomic_store(&c->due_ns, c->first ? c->first->at_ns : UINT64_MAX);
}

/* ---- running ---- */

/* One thing less is under way. */
static void over(krpc_clock *c)
{
    (void)pthread_mutex_lock(&c->lock);
    bool last = --c->n_live == 0;
    (void)pthread_mutex_unlock(&c->lock);
    if (!last)
        return;
    (void)pthread_mutex_lock(&c->server->lock);
    (void)pthread_cond_signal(&c->server->changed);
    (void)pthread_mutex_unlock(&c->server->lock);
}

static void run(krpc_timer *t, bool fired)
{
    krpc_clock *c = t->server->clock;
    t->fn(t, fired);
    over(c);
}

static void on_posted(krpc_tag *tag, bool ok)
{
    (void)ok;
    krpc_timer *t = KRPC_CONTAINER(tag, krpc_timer, tag);
    run(t, !t->cancelled);
}

static void post(krpc_clock *c, krpc_tag *tag)
{
    KRPC_HANDED_OVER(tag);
    if (grpc_call_start_batch(c->call, NULL, 0, tag, NULL) != GRPC_CALL_OK)
        abort(); /* an empty batch has nothing to be wrong */
}

static void on_wake(krpc_tag *tag, bool ok)
{
    (void)ok;
    krpc_clock *c = KRPC_CONTAINER(tag, krpc_clock, wake);
    (void)pthread_mutex_lock(&c->lock);
    c->woken = false;
    (void)pthread_mutex_unlock(&c->lock);
    over(c);
}

void krpc_timer_start(krpc_server *s, krpc_timer *t, uint64_t at_ns)
{
    krpc_clock *c = s->clock;
    t->server = s;
    t->tag.run = on_posted;
    t->cancelled = t->waiting = false;
    t->child = t->next = t->prev = NULL;
    t->at_ns = at_ns;
    (void)pthread_mutex_lock(&c->lock);
    c->n_live++;
    t->cancelled = c->ending && at_ns;
    if (at_ns == 0 || c->ending) {
        post(c, &t->tag);
    } else {
        t->waiting = true;
        c->first = merge(c->first, t);
        atomic_store(&c->due_ns, c->first->at_ns);
        if (c->first == t && !c->woken) {
            c->woken = true;
            c->n_live++;
            post(c, &c->wake);
        }
    }
    (void)pthread_mutex_unlock(&c->lock);
}

void krpc_timer_cancel(krpc_timer *t)
{
    krpc_clock *c = t->server->clock;
    (void)pthread_mutex_lock(&c->lock);
    if (t->waiting) {
        take_out(c, t);
        t->cancelled = true;
        post(c, &t->tag);
    }
    (void)pthread_mutex_unlock(&c->lock);
}

bool krpc_clock_end(krpc_clock *c)
{
    (void)pthread_mutex_lock(&c->lock);
    c->ending = true;
    while (c->first) {
        krpc_timer *t = c->first;
        take_out(c, t);
        t->cancelled = true;
        post(c, &t->tag);
    }
    bool idle = c->n_live == 0;
    (void)pthread_mutex_unlock(&c->lock);
    return idle;
}

gpr_timespec krpc_clock_next(krpc_clock *c)
{
    uint64_t due = atomic_load(&c->due_ns);
    if (due == UINT64_MAX)
        return gpr_inf_future(GPR_CLOCK_MONOTONIC);
    return (gpr_timespec){.tv_sec = (int64_t)(due / 1000000000u),
                          .tv_nsec = (int32_t)(due % 1000000000u),
                          .clock_type = GPR_CLOCK_MONOTONIC};
}

void krpc_clock_run(krpc_clock *c)
{
    while (atomic_load(&c->due_ns) != UINT64_MAX && atomic_load(&c->due_ns) <= now_ns()) {
        (void)pthread_mutex_lock(&c->lock);
        krpc_timer *t = c->first;
        if (t)
            take_out(c, t);
        (void)pthread_mutex_unlock(&c->lock);
        if (t)
            run(t, true);
    }
}

/* ---- life ---- */

krpc_clock *krpc_clock_create(krpc_server *s)
{
    krpc_clock *c = calloc(1, sizeof *c);
    if (!c)
        return NULL;
    c->server = s;
    (void)pthread_mutex_init(&c->lock, NULL);
    atomic_store(&c->due_ns, UINT64_MAX);
    c->wake.run = on_wake;
    return c;
}

void krpc_clock_start(krpc_clock *c)
{
    c->nowhere = grpc_lame_client_channel_create("timers", GRPC_STATUS_UNAVAILABLE, "no server");
    c->call = grpc_channel_create_call(c->nowhere, NULL, GRPC_PROPAGATE_DEFAULTS, c->server->cq,
                                       grpc_slice_from_static_string("/timers"), NULL,
                                       gpr_inf_future(GPR_CLOCK_MONOTONIC), NULL);
}

void krpc_clock_stop(krpc_clock *c)
{
    if (c->call)
        grpc_call_unref(c->call);
    if (c->nowhere)
        grpc_channel_destroy(c->nowhere);
    c->call = NULL;
    c->nowhere = NULL;
}

krpc_clock *krpc_clock_destroy(krpc_clock *c)
{
    if (!c)
        return NULL;
    (void)pthread_mutex_destroy(&c->lock);
    free(c);
    return NULL;
}
