/* Runtime.InferPost, InferWait: requests whose answer is fetched later, once.
 *
 *     (posted) --> RUNNING --answer--> KEPT --wait--> SENDING --delivered--> (fetched)
 *                                       ^               |
 *                                       +--client gone--+
 *
 * From RUNNING, KEPT and SENDING a post goes when its session ends, from KEPT when its time is
 * over. What has become of it is remembered for a while.
 *
 * A post counts as accepted work until it is gone: the daemon drains no earlier, or no earlier than
 * krt_posts_draining says. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>

#include "infer_run.h"
#include "krt_log.h"
#include "log.h"
#include "rpc_pb.h"

#define BUCKETS 1024
#define REMEMBERED 1024
#define REQUEST_ID_TEXT 80

typedef enum fate { UNKNOWN, FETCHED, EXPIRED, SESSION_ENDED } fate;

static const struct {
    Kaena__V1__ErrorDetail__Reason reason;
    const char *text;
} fates[] = {
    [UNKNOWN] = {0, "none was posted, or it is long gone"},
    [FETCHED] = {KAENA__V1__ERROR_DETAIL__REASON__ANSWER_FETCHED, "its answer has been fetched"},
    [EXPIRED] = {KAENA__V1__ERROR_DETAIL__REASON__ANSWER_EXPIRED,
                 "nobody fetched its answer in time (limits.posted_seconds)"},
    [SESSION_ENDED] = {KAENA__V1__ERROR_DETAIL__REASON__NO_SESSION, "its session has ended"},
};

/* What one client has posted. */
typedef struct use {
    struct use *next;
    uint64_t client, n, bytes;
} use;

typedef struct waiter waiter;

typedef struct post {
    krpc_timer expiry;
    krt_posts *table;
    struct post *next; /* in its bucket */
    unsigned refs;     /* the table's, the asker's, the timer's */
    bool gone;         /* out of the table */
    bool done, ticking;
    uint64_t cookie, owner, expires_ns;
    uint64_t number;                  /* in order of entry */
    use *use;                         /* while in the table */
    krt_inference *r;                 /* a reference, while in the table */
    char request_id[REQUEST_ID_TEXT]; /* of the InferPost */
    grpc_byte_buffer *answer;         /* done: NULL means |err| */
    kaena_err err;
    size_t bytes;
    waiter *waiter;
    waiter
        *next_waiter; /* came while the answer was on its way to |waiter|: gets it if that fails */
} post;

/* An InferWait call. */
struct waiter {
    krpc_timer timeout;
    krt_posts *table;
    unsigned refs; /* until the call is closed; the timer's */
    bool ticking;
    post *post;      /* NULL: it is gone, and the call answered */
    krpc_call *call; /* NULL: answered */
};

struct krt_posts {
    krt_daemon *daemon;
    pthread_mutex_t lock; /* of all below */
    post *buckets[BUCKETS];
    use *uses[BUCKETS];
    struct {
        uint64_t cookie;
        fate fate;
    } remembered[REMEMBERED];
    size_t next_remembered;
    uint64_t n_entered;
    uint64_t drained_ns; /* nothing is kept for longer */
};

/* ---- the table, with its lock held ---- */

static post **find(krt_posts *t, uint64_t cookie)
{
    post **at = &t->buckets[cookie % BUCKETS];
    while (*at && (*at)->cookie != cookie)
        at = &(*at)->next;
    return at;
}

static fate fate_of(const krt_posts *t, uint64_t cookie)
{
    for (size_t i = 0; i < REMEMBERED; i++)
        if (t->remembered[i].cookie == cookie)
            return t->remembered[i].fate;
    return UNKNOWN;
}

/* NULL: out of memory. */
static use *use_of(krt_posts *t, uint64_t client)
{
    use **at = &t->uses[client % BUCKETS];
    while (*at && (*at)->client != client)
        at = &(*at)->next;
    if (!*at && (*at = calloc(1, sizeof **at)))
        (*at)->client = client;
    return *at;
}

static void give_back(krt_posts *t, post *p)
{
    use *u = p->use;
    u->bytes -= p->bytes;
    p->use = NULL;
    if (--u->n)
        return;
    use **at = &t->uses[u->client % BUCKETS];
    while (*at != u)
        at = &(*at)->next;
    *at = u->next;
    free(u);
}

static void unref(post *p)
{
    if (--p->refs)
        return;
    grpc_byte_buffer_destroy(p->answer);
    free(p);
}

static kaena_status no_post(fate why, uint64_t cookie, kaena_err *err)
{
    (void)KAENA_FAIL(err, NOT_FOUND, "no posted request has cookie %" PRIu64 ": %s", cookie,
                     fates[why].text);
    err->reason = (int32_t)fates[why].reason;
    return KAENA_NOT_FOUND;
}

/* |w| is to be answered now. Returns its call. */
static krpc_call *end_wait(waiter *w)
{
    krpc_call *call = w->call;
    w->call = NULL;
    if (w->ticking)
        krpc_timer_cancel(&w->timeout);
    return call;
}

static void unref_waiter(waiter *w)
{
    if (--w->refs == 0)
        free(w);
}

/* |w|, which may be NULL, has waited in vain. */
static void disappoint(waiter *w, uint64_t cookie, fate why)
{
    kaena_err err;
    if (w)
        w->post = NULL;
    krpc_call *call = w ? end_wait(w) : NULL;
    if (!call)
        return;
    if (why == SESSION_ENDED)
        (void)KRT_FAIL(&err, ABORTED, NO_SESSION, "wait: the session has ended");
    else
        (void)no_post(why, cookie, &err);
    krpc_fail(call, &err);
}

/* Takes |p| out of the table. Returns its inference, to be given up without the lock. */
static krt_inference *forget(krt_posts *t, post *p, fate why)
{
    krt_inference *r = p->r;
    *find(t, p->cookie) = p->next;
    give_back(t, p);
    p->gone = true;
    p->r = NULL;
    if (why != UNKNOWN) {
        size_t i = t->next_remembered++ % REMEMBERED;
        t->remembered[i].cookie = p->cookie;
        t->remembered[i].fate = why;
    }
    disappoint(p->waiter, p->cookie, why);
    disappoint(p->next_waiter, p->cookie, why);
    p->waiter = p->next_waiter = NULL;
    if (p->ticking)
        krpc_timer_cancel(&p->expiry);
    unref(p);
    return r;
}

/* ---- keeping ---- */

static void on_expiry(krpc_timer *timer, bool fired);

/* |p| has its answer, and nobody waits for it. */
static void keep(krt_posts *t, post *p)
{
    p->expires_ns = krt_now_ns() + t->daemon->config->limits.posted_seconds * UINT64_C(1000000000);
    if (p->expires_ns > t->drained_ns)
        p->expires_ns = t->drained_ns;
    if (p->ticking)
        return; /* it looks at |expires_ns| */
    p->ticking = true;
    p->refs++;
    p->expiry.fn = on_expiry;
    krpc_timer_start(t->daemon->server, &p->expiry, p->expires_ns);
}

static void on_expiry(krpc_timer *timer, bool fired)
{
    post *p = (post *)(void *)timer;
    krt_posts *t = p->table;
    krt_inference *r = NULL;
    (void)fired; /* |expires_ns| says */
    (void)pthread_mutex_lock(&t->lock);
    p->ticking = false;
    bool idle = !p->gone && p->done && !p->waiter;
    if (idle && p->expires_ns <= krt_now_ns()) {
        kaena_log(KAENA_LOG_INFO, "answer of posted request %s expired", p->request_id);
        r = forget(t, p, EXPIRED);
    } else if (idle) {
        p->ticking = true;
        p->refs++;
        krpc_timer_start(t->daemon->server, &p->expiry, p->expires_ns);
    }
    unref(p);
    (void)pthread_mutex_unlock(&t->lock);
    if (r)
        krt_inference_unref(r);
}

/* Answers |w|, which waits for |p|, which is done. The answer is kept until it has arrived. */
static void deliver(waiter *w, post *p)
{
    krpc_call *call = end_wait(w);
    if (!p->answer)
        krpc_fail(call, &p->err);
    else if (p->r->not_finite)
        krpc_reply_with(call, grpc_byte_buffer_copy(p->answer), p->r->not_finite);
    else
        krpc_reply(call, grpc_byte_buffer_copy(p->answer));
}

/* ---- answers ---- */

/* |p| has become |answer| (taken), or (NULL) |err|. */
static void finish(post *p, grpc_byte_buffer *answer, const kaena_err *err)
{
    krt_posts *t = p->table;
    uint64_t most = t->daemon->config->limits.posted_bytes;
    (void)pthread_mutex_lock(&t->lock);
    p->done = true;
    if (err)
        p->err = *err;
    if (!p->gone && answer && p->r->m->info.values) { /* its size was not known before */
        size_t bytes = grpc_byte_buffer_length(answer);
        if (p->use->bytes + bytes > most) {
            (void)KRT_FAIL_LIMIT(&p->err, p->use->bytes + bytes, most,
                                 "the client's posted answers would have %" PRIu64
                                 " bytes, the limit of this daemon is %" PRIu64,
                                 p->use->bytes + bytes, most);
            kaena_err_hint(&p->err, "fetch them earlier, or raise limits.posted_bytes");
            grpc_byte_buffer_destroy(answer);
            answer = NULL;
            bytes = 0;
        }
        p->bytes = bytes;
        p->use->bytes += bytes;
    }
    p->answer = answer;
    if (!p->gone && p->waiter)
        deliver(p->waiter, p);
    else if (!p->gone)
        keep(t, p);
    unref(p);
    (void)pthread_mutex_unlock(&t->lock);
}

static void reply(krt_inference *r, grpc_byte_buffer *answer)
{
    finish(r->user, answer, NULL);
}

static void fail(krt_inference *r, const kaena_err *err)
{
    post *p = r->user;
    if (!r->refused) /* InferPost says that, otherwise */
        krt_log_failure(p->request_id, p->owner, r->m->name, err);
    finish(p, NULL, err);
}

static const krt_asker asker = {reply, fail};

/* ---- posting ---- */

static bool make_cookie(krt_posts *t, uint64_t *out)
{
    do {
        if (getrandom(out, sizeof *out, 0) != sizeof *out)
            return false;
    } while (*out == 0 || *find(t, *out));
    return true;
}

/* Enters |p|, whose answer takes as many bytes as is known now. */
static kaena_status enter(krt_posts *t, post *p, uint64_t client, kaena_err *err)
{
    const krt_limits *l = &t->daemon->config->limits;
    kaena_status st = KAENA_OK;
    (void)pthread_mutex_lock(&t->lock);
    use *u = use_of(t, client);
    if (!u || !make_cookie(t, &p->cookie)) {
        st = KAENA_FAIL(err, RESOURCE_EXHAUSTED, "post: out of memory or randomness");
    } else if (u->n >= l->posted_results) {
        st = KRT_FAIL_LIMIT(err, u->n + 1, l->posted_results,
                            "the client has posted %" PRIu64
                            " requests that it has not fetched, which is the limit of this daemon",
                            u->n);
        kaena_err_hint(err, "fetch them (InferWait), or raise limits.posted_results");
    } else if (u->bytes + p->bytes > l->posted_bytes) {
        st = KRT_FAIL_LIMIT(err, u->bytes + p->bytes, l->posted_bytes,
                            "the client's posted answers would have %" PRIu64
                            " bytes, the limit of this daemon is %" PRIu64,
                            u->bytes + p->bytes, l->posted_bytes);
        kaena_err_hint(err, "fetch them (InferWait), or raise limits.posted_bytes");
    }
    if (st == KAENA_OK) {
        p->number = ++t->n_entered;
        p->use = u;
        u->n++;
        u->bytes += p->bytes;
        post **at = find(t, p->cookie);
        p->next = *at;
        *at = p;
    } else if (u && !u->n) {
        u->n = 1; /* as if it had been used, to free it */
        post none = {.use = u};
        give_back(t, &none);
    }
    (void)pthread_mutex_unlock(&t->lock);
    return st;
}

/* Bytes of the answer that are known before it is there. */
static size_t known_bytes(const krt_inference *r)
{
    size_t n = 0;
    for (size_t i = 0; i < r->selection.n_outputs; i++)
        if (!r->selection.outputs[i].place.region)
            n += r->m->info.out[r->selection.outputs[i].index].bytes;
    return n;
}

/* A post of |call|'s request that has not run. */
static kaena_status create(krt_posts *t, krpc_call *call, const krt_caller *caller, post **out,
                           kaena_err *err)
{
    krt_daemon *d = t->daemon;
    krt_arrival arrival;
    uint64_t client = krt_caller_client(caller, call);
    post *p = calloc(1, sizeof *p);
    if (!p)
        return KAENA_FAIL(err, RESOURCE_EXHAUSTED, "post: out of memory");
    *p = (post){.table = t, .refs = 2, .owner = caller->owner};
    (void)snprintf(p->request_id, sizeof p->request_id, "%s", krpc_call_request_id(call));
    krt_asking asking = {.daemon = d,
                         .call = call,
                         .client = client,
                         .deadline_ns = UINT64_MAX, /* the call's is over when it is accepted */
                         .asker = &asker,
                         .user = p};
    kaena_status st = krt_arrival_init(&arrival, krpc_call_take_request(call), err);
    if (st == KAENA_OK) {
        st = krt_inference_create(&asking, &arrival, NULL, &p->r, err);
        if (st != KAENA_OK)
            krt_arrival_fini(&arrival);
    }
    if (st != KAENA_OK) {
        krt_release(d);
        free(p);
        return st;
    }
    p->bytes = known_bytes(p->r);
    st = enter(t, p, client, err);
    if (st != KAENA_OK) {
        krt_inference_abandon(p->r);
        free(p);
        return st;
    }
    krt_inference_ref(p->r);
    *out = p;
    return KAENA_OK;
}

/* Queues |p|; false: it was refused, and |err| says why. */
static bool queue(krt_posts *t, post *p, uint64_t *cookie, kaena_err *err)
{
    krt_inference *r = p->r;
    *cookie = p->cookie;
    krt_inference_ref(r);
    krt_run_arrive(r);
    bool refused = r->refused;
    krt_inference *dropped = NULL;
    if (refused) {
        (void)pthread_mutex_lock(&t->lock);
        post *still = *find(t, *cookie);
        if (still) {
            *err = still->err;
            dropped = forget(t, still, UNKNOWN);
        } else { /* its session has ended just now */
            (void)KRT_FAIL(err, ABORTED, NO_SESSION, "post: its session has ended");
        }
        (void)pthread_mutex_unlock(&t->lock);
    }
    krt_inference_unref(r);
    if (dropped)
        krt_inference_unref(dropped);
    return !refused;
}

void krt_infer_post(krpc_call *call, void *user)
{
    krt_daemon *d = user;
    krt_posts *t = d->clients->posts;
    kaena_err err;
    krt_caller caller;
    post *p = NULL;
    Kaena__V1__InferPostResponse r = KAENA__V1__INFER_POST_RESPONSE__INIT;
    kaena_status st = krt_caller_enter(d, call, &caller, &err);
    if (st != KAENA_OK) {
        krt_fail(call, NULL, &err);
        return;
    }
    bool ok = krt_accept(d, &err) && create(t, call, &caller, &p, &err) == KAENA_OK &&
              queue(t, p, &r.cookie, &err);
    krt_caller_leave(&caller);
    if (ok)
        krpc_reply(call, krpc_pb_pack(&r.base));
    else
        krt_fail(call, NULL, &err);
}

/* ---- waiting ---- */

/* |w| does not wait any more; the answer is still there for the next. */
static void leave(waiter *w)
{
    post *p = w->post;
    w->post = NULL;
    if (w == p->next_waiter) {
        p->next_waiter = NULL;
        return;
    }
    p->waiter = p->next_waiter;
    p->next_waiter = NULL;
    if (p->waiter)
        deliver(p->waiter, p);
    else if (p->done)
        keep(w->table, p);
}

static void on_wait_timeout(krpc_timer *timer, bool fired)
{
    waiter *w = (waiter *)(void *)timer;
    krt_posts *t = w->table;
    krpc_call *call = NULL;
    (void)pthread_mutex_lock(&t->lock);
    w->ticking = false;
    if (fired && w->call) {
        call = end_wait(w);
        leave(w);
    }
    unref_waiter(w);
    (void)pthread_mutex_unlock(&t->lock);
    kaena_err err;
    if (!call)
        return;
    (void)KRT_FAIL(&err, DEADLINE_EXCEEDED, NOT_DONE, "wait: there was no answer in time");
    krpc_fail(call, &err);
}

static void on_close(void *arg, bool cancelled)
{
    waiter *w = arg;
    krt_posts *t = w->table;
    krt_inference *r = NULL;
    (void)pthread_mutex_lock(&t->lock);
    post *p = w->post;
    krpc_call *call = end_wait(w);
    if (p && (cancelled || w == p->next_waiter))
        leave(w);
    else if (p)
        r = forget(t, p, FETCHED);
    unref_waiter(w);
    (void)pthread_mutex_unlock(&t->lock);
    if (call)
        KRPC_FAIL(call, CANCELLED, "the wait was cancelled; the answer is kept");
    if (r)
        krt_inference_unref(r);
}

/* Has |w| wait for the post of that cookie, or answers it at once. */
static kaena_status wait_for(krt_posts *t, waiter *w, uint64_t owner,
                             const Kaena__V1__InferWaitRequest *q, kaena_err *err)
{
    kaena_status st = KAENA_OK;
    (void)pthread_mutex_lock(&t->lock);
    post *p = *find(t, q->cookie);
    if (!p || (p->owner && p->owner != owner)) { /* strangers learn nothing */
        st = no_post(fate_of(t, q->cookie), q->cookie, err);
    } else if (q->only_look && !p->done) {
        st = KRT_FAIL(err, FAILED_PRECONDITION, NOT_DONE,
                      "the posted request of cookie %" PRIu64 " has no answer yet", q->cookie);
    } else if (p->waiter && (p->waiter->call || p->next_waiter)) {
        st = KAENA_FAIL(err, FAILED_PRECONDITION,
                        "another call waits for the posted request of cookie %" PRIu64, q->cookie);
    } else if (p->waiter) {
        p->next_waiter = w;
        w->post = p;
    } else {
        p->waiter = w;
        w->post = p;
        if (p->done)
            deliver(w, p);
    }
    if (w->call && w->post && q->timeout_ms) {
        w->ticking = true;
        w->refs++;
        w->timeout.fn = on_wait_timeout;
        krpc_timer_start(t->daemon->server, &w->timeout,
                         krt_now_ns() + q->timeout_ms * UINT64_C(1000000));
    }
    (void)pthread_mutex_unlock(&t->lock);
    return st;
}

void krt_infer_wait(krpc_call *call, void *user)
{
    krt_daemon *d = user;
    kaena_err err;
    kaena_arena arena;
    krt_caller caller;
    Kaena__V1__InferWaitRequest *q = (Kaena__V1__InferWaitRequest *)krt_request(
        call, &kaena__v1__infer_wait_request__descriptor, &arena);
    if (!q)
        return;
    kaena_status st = krt_caller_enter(d, call, &caller, &err);
    if (st != KAENA_OK) {
        kaena_arena_fini(&arena);
        krt_fail(call, NULL, &err);
        return;
    }
    waiter *w = calloc(1, sizeof *w);
    if (w) {
        *w = (waiter){.table = d->clients->posts, .refs = 1, .call = call};
        krpc_call_on_close(call, on_close, w);
        st = wait_for(w->table, w, caller.owner, q, &err);
    } else {
        st = KAENA_FAIL(&err, RESOURCE_EXHAUSTED, "wait: out of memory");
    }
    kaena_arena_fini(&arena);
    krt_caller_leave(&caller);
    if (st == KAENA_OK)
        return;
    if (w)
        w->call = NULL; /* on_close frees |w|, not before this thread is done */
    if (err.reason == (int32_t)KRT_REASON(NOT_DONE))
        krpc_fail(call, &err); /* which is no failure to log */
    else
        krt_fail(call, NULL, &err);
}

/* ---- all posts ---- */

krt_posts *krt_posts_create(krt_daemon *d)
{
    krt_posts *t = calloc(1, sizeof *t);
    if (!t)
        return NULL;
    t->daemon = d;
    t->drained_ns = UINT64_MAX;
    (void)pthread_mutex_init(&t->lock, NULL);
    return t;
}

krt_posts *krt_posts_destroy(krt_posts *t)
{
    if (!t)
        return NULL;
    (void)pthread_mutex_destroy(&t->lock);
    free(t);
    return NULL;
}

/* Takes the last post of |owner| out of the table; NULL: there is none. */
static krt_inference *take_of_owner(krt_posts *t, uint64_t owner)
{
    post *last = NULL;
    (void)pthread_mutex_lock(&t->lock);
    for (size_t b = 0; b < BUCKETS; b++)
        for (post *p = t->buckets[b]; p; p = p->next)
            if (p->owner == owner && (!last || p->number > last->number))
                last = p;
    krt_inference *r = last ? forget(t, last, SESSION_ENDED) : NULL;
    (void)pthread_mutex_unlock(&t->lock);
    return r;
}

/* The last ones first: the end of one that runs must not begin one that nobody wants. */
void krt_posts_drop(krt_posts *t, uint64_t owner)
{
    krt_inference *r;
    while ((r = take_of_owner(t, owner))) {
        krt_run_cancel(r);
        krt_inference_unref(r);
    }
}

void krt_posts_draining(krt_posts *t, uint64_t ns)
{
    (void)pthread_mutex_lock(&t->lock);
    t->drained_ns = krt_now_ns() + ns;
    for (size_t b = 0; b < BUCKETS; b++)
        for (post *p = t->buckets[b]; p; p = p->next)
            if (p->ticking && p->expires_ns > t->drained_ns) {
                p->expires_ns = t->drained_ns;
                krpc_timer_cancel(&p->expiry); /* it comes back at once, and waits anew */
            }
    (void)pthread_mutex_unlock(&t->lock);
}
