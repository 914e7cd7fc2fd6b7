/* Runtime.InferStream: many requests on one stream, answered as they finish.
 *
 * A request counts as unanswered until its answer has been handed to the core, which takes no more
 * than the client reads: at the limit nothing is read any more, so neither requests nor answers
 * pile up. One message beyond the limit is read, so that a client with a full stream may still
 * cancel; a request is held back until there is room for it.
 *
 * Reading, timeouts, and the end of sending are on the completion-queue thread; answers come from
 * any. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "infer_run.h"
#include "krt_log.h"
#include "rpc_pb.h"

/* Answers that wait for a slow client stop the reading when they are larger than this together. */
#define UNSENT_BYTES ((size_t)16 << 20)
#define BUCKETS 64
#define REQUEST_ID_TEXT 96

typedef struct stream stream;

/* A request of a stream. */
typedef struct ask {
    krpc_timer timeout;
    stream *stream;
    struct ask *next;      /* in its bucket, while |known| */
    struct ask *next_send; /* in the queue of answers */
    struct ask *next_cancel;
    uint64_t id;
    krt_inference *r;      /* a reference; NULL: it never became one */
    krt_inference *cancel; /* the same, while its cancellation is under way */
    unsigned refs;         /* until it is answered; the timeout's; passing ones */
    bool known;            /* its id is taken */
    bool answered;         /* |answer| is there, or has been */
    bool ticking;
    _Atomic bool timed_out;
    grpc_byte_buffer *answer;
    size_t answer_bytes;
    char request_id[REQUEST_ID_TEXT];
} ask;

/* Answered once (|call| is NULL then), which what it still reads may cross; freed when it is
 * closed, and nothing reads, sends or refers to it. */
struct stream {
    krt_streams *owner;
    stream *next, **at;
    uint64_t client;
    pthread_mutex_t lock; /* of all below */
    krpc_call *call;
    krt_caller caller;
    ask *buckets[BUCKETS];
    ask *unsent, **unsent_tail;
    size_t unsent_bytes;
    uint64_t n_unanswered, n_asks;
    krt_arrival held; /* a request that came when there was no room; |bytes| NULL: none */
    krpc_stream_request held_head;
    ask *sending;
    bool reading;
    bool read_all; /* the client sends no more */
    bool gone;     /* the client is */
    bool failed;   /* |err| is how it ends */
    bool closed;
    bool over; /* somebody is on the way to take it off the list and free it */
    kaena_err err;
};

struct krt_streams {
    krt_daemon *daemon;
    pthread_mutex_t lock; /* of the list; before a stream's */
    stream *list;
};

/* ---- life ---- */

static void drop_ask(ask *a)
{
    if (--a->refs)
        return;
    a->stream->n_asks--;
    free(a);
}

static void free_stream(stream *s)
{
    krt_streams *t = s->owner;
    (void)pthread_mutex_lock(&t->lock);
    *s->at = s->next;
    if (s->next)
        s->next->at = s->at;
    (void)pthread_mutex_unlock(&t->lock);
    krt_caller_leave(&s->caller);
    krt_arrival_fini(&s->held);
    (void)pthread_mutex_destroy(&s->lock);
    free(s);
}

static ask **find(stream *s, uint64_t id)
{
    ask **at = &s->buckets[id % BUCKETS];
    while (*at && (*at)->id != id)
        at = &(*at)->next;
    return at;
}

/* |a| has been answered, or nobody is there to be told; with the lock held. */
static void retire(ask *a)
{
    stream *s = a->stream;
    if (a->known) {
        ask **at = find(s, a->id);
        *at = a->next;
    }
    s->n_unanswered--;
    if (a->r)
        krt_inference_unref(a->r);
    a->r = NULL;
    drop_ask(a);
}

/* ---- advancing ---- */

static void on_read(krpc_call *call, grpc_byte_buffer *message, void *arg);
static void on_sent(krpc_call *call, bool ok, void *arg);

static uint64_t most_unanswered(const stream *s)
{
    return s->owner->daemon->config->limits.stream_requests;
}

static void send_next(stream *s)
{
    ask *a = s->unsent;
    s->unsent = a->next_send;
    if (!s->unsent)
        s->unsent_tail = &s->unsent;
    s->unsent_bytes -= a->answer_bytes;
    s->sending = a;
    grpc_byte_buffer *answer = a->answer;
    a->answer = NULL;
    krpc_call_send(s->call, answer, on_sent, s);
}

/* Answers the call when that is due. */
static void end_call(stream *s)
{
    krpc_call *call = s->call;
    if (!s->gone && !s->failed && !s->read_all)
        return;
    if (s->n_unanswered || s->sending || s->held.bytes)
        return;
    s->call = NULL;
    kaena_err gone;
    (void)KAENA_FAIL(&gone, CANCELLED, "the client has gone");
    if (s->failed)
        krpc_fail(call, &s->err);
    else if (s->gone)
        krpc_fail(call, &gone);
    else
        krpc_finish(call);
}

/* Drops what nobody will read. */
static void drop_unsent(stream *s)
{
    while (s->unsent) {
        ask *a = s->unsent;
        s->unsent = a->next_send;
        grpc_byte_buffer_destroy(a->answer);
        retire(a);
    }
    s->unsent_tail = &s->unsent;
    s->unsent_bytes = 0;
}

/* Does what |s| is due for, takes its lock off, and frees it when it is over. */
static void advance(stream *s)
{
    if (s->gone || !s->call)
        drop_unsent(s);
    if (s->call && !s->sending && s->unsent)
        send_next(s);
    bool wanted = s->call && !s->read_all && !s->gone && !s->failed;
    if (wanted && !s->reading && !s->held.bytes && s->n_unanswered <= most_unanswered(s) &&
        s->unsent_bytes <= UNSENT_BYTES) {
        s->reading = true;
        krpc_call_read(s->call, on_read, s);
    }
    if (s->call)
        end_call(s);
    bool over = !s->call && s->closed && !s->reading && !s->sending && !s->n_asks && !s->over;
    s->over = s->over || over;
    (void)pthread_mutex_unlock(&s->lock);
    if (over)
        free_stream(s);
}

/* ---- answers ---- */

static void answer(ask *a, grpc_byte_buffer *message)
{
    stream *s = a->stream;
    (void)pthread_mutex_lock(&s->lock);
    a->answered = true;
    a->answer = message;
    a->answer_bytes = grpc_byte_buffer_length(message);
    a->next_send = NULL;
    *s->unsent_tail = a;
    s->unsent_tail = &a->next_send;
    s->unsent_bytes += a->answer_bytes;
    if (a->ticking)
        krpc_timer_cancel(&a->timeout);
    advance(s);
}

static void answer_error(ask *a, const char *model, const kaena_err *err)
{
    kaena_err e = *err;
    if (a->timed_out && e.code == KAENA_CANCELLED)
        e.code = KAENA_DEADLINE_EXCEEDED;
    krt_log_failure(a->request_id, a->stream->caller.owner, model, &e);
    Kaena__V1__InferStreamResponse r = KAENA__V1__INFER_STREAM_RESPONSE__INIT;
    Kaena__V1__InferError error = KAENA__V1__INFER_ERROR__INIT;
    Kaena__V1__ErrorDetail detail;
    krpc_pb_detail(&e, &detail);
    error.code = e.code;
    error.detail = &detail;
    error.request_id = a->request_id;
    r.id = a->id;
    r.what_case = KAENA__V1__INFER_STREAM_RESPONSE__WHAT_ERROR;
    r.error = &error;
    answer(a, krpc_pb_pack(&r.base));
}

static void reply(krt_inference *r, grpc_byte_buffer *message)
{
    answer(r->user, message);
}

static void fail(krt_inference *r, const kaena_err *err)
{
    answer_error(r->user, r->m->name, err);
}

static const krt_asker asker = {reply, fail};

/* ---- requests ---- */

static void on_timeout(krpc_timer *timer, bool fired)
{
    ask *a = (ask *)(void *)timer;
    stream *s = a->stream;
    krt_inference *r = NULL;
    (void)pthread_mutex_lock(&s->lock);
    a->ticking = false;
    if (fired && !a->answered) {
        a->timed_out = true;
        r = a->r;
        krt_inference_ref(r);
    }
    (void)pthread_mutex_unlock(&s->lock);
    if (r) {
        krt_run_cancel(r);
        krt_inference_unref(r);
    }
    (void)pthread_mutex_lock(&s->lock);
    drop_ask(a);
    advance(s);
}

/* Enters a request of that id; NULL: out of memory. |*taken|: an earlier one has the id. */
static ask *enter(stream *s, krpc_call *call, uint64_t id, bool *taken)
{
    ask *a = calloc(1, sizeof *a);
    if (!a)
        return NULL;
    a->stream = s;
    a->id = id;
    a->refs = 1;
    (void)snprintf(a->request_id, sizeof a->request_id, "%s-%" PRIu64, krpc_call_request_id(call),
                   id);
    (void)pthread_mutex_lock(&s->lock);
    ask **at = find(s, id);
    *taken = *at != NULL;
    if (!*taken) {
        a->known = true;
        *at = a;
    }
    s->n_unanswered++;
    s->n_asks++;
    (void)pthread_mutex_unlock(&s->lock);
    return a;
}

static kaena_status accept_request(ask *a, krpc_call *call, const krpc_stream_request *head,
                                   krt_arrival *arrival, kaena_err *err)
{
    stream *s = a->stream;
    krt_daemon *d = s->owner->daemon;
    uint64_t deadline = krpc_call_deadline_ns(call);
    uint64_t until = krt_now_ns() + head->timeout_ms * UINT64_C(1000000);
    if (head->timeout_ms && until < deadline)
        deadline = until;
    krt_asking asking = {.daemon = d,
                         .call = call,
                         .client = s->client,
                         .deadline_ns = deadline,
                         .asker = &asker,
                         .user = a};
    if (!krt_accept(d, err))
        return KAENA_UNAVAILABLE;
    kaena_status st = krt_inference_create(&asking, arrival, &head->request, &a->r, err);
    if (st != KAENA_OK) {
        krt_release(d);
        return st;
    }
    a->r->framed = true;
    a->r->frame_id = a->id;
    krt_inference_ref(a->r); /* |a|'s: the request counts as accepted until its answer is sent */
    if (head->timeout_ms) {
        a->refs++;
        a->ticking = true;
        a->timeout.fn = on_timeout;
        krpc_timer_start(d->server, &a->timeout, until);
    }
    return KAENA_OK;
}

/* Takes |arrival|. */
static void begin(stream *s, krpc_call *call, const krpc_stream_request *head, krt_arrival *arrival)
{
    kaena_err err;
    bool taken;
    ask *a = enter(s, call, head->id, &taken);
    if (!a) {
        krt_arrival_fini(arrival);
        (void)pthread_mutex_lock(&s->lock);
        (void)KAENA_FAIL(&s->err, RESOURCE_EXHAUSTED, "stream: out of memory");
        s->failed = true;
        advance(s);
        return;
    }
    kaena_status st;
    if (taken) {
        st = KAENA_FAIL(&err, ALREADY_EXISTS,
                        "stream: a request of id %" PRIu64 " is not answered yet", head->id);
        kaena_err_hint(&err, "the earlier one goes on; give each an id of its own");
    } else if (head->what != KRPC_STREAM_REQUEST) {
        st = KAENA_FAIL(&err, INVALID_ARGUMENT, "stream: neither a request nor a cancellation");
    } else {
        st = accept_request(a, call, head, arrival, &err);
    }
    if (st == KAENA_OK) {
        krt_run_arrive(a->r);
        return;
    }
    krt_arrival_fini(arrival);
    answer_error(a, NULL, &err);
}

static void cancel(stream *s, uint64_t id)
{
    (void)pthread_mutex_lock(&s->lock);
    ask *a = *find(s, id);
    krt_inference *r = a && !a->answered ? a->r : NULL;
    if (r)
        krt_inference_ref(r);
    (void)pthread_mutex_unlock(&s->lock);
    if (!r)
        return; /* answered already, or never there */
    krt_run_cancel(r);
    krt_inference_unref(r);
}

/* Takes |message|. */
static void take(stream *s, krpc_call *call, grpc_byte_buffer *message)
{
    krt_arrival arrival;
    krpc_stream_request head;
    kaena_err err;
    kaena_status st = krt_arrival_init(&arrival, message, &err);
    if (st == KAENA_OK) {
        st = krpc_read_stream_request(&arrival.message, &head, &err);
        if (st != KAENA_OK)
            krt_arrival_fini(&arrival);
    }
    if (st != KAENA_OK) { /* whose request that was, nobody knows */
        (void)pthread_mutex_lock(&s->lock);
        s->err = err;
        s->failed = true;
        advance(s);
        return;
    }
    if (head.what == KRPC_STREAM_CANCEL) {
        krt_arrival_fini(&arrival);
        cancel(s, head.id);
        return;
    }
    (void)pthread_mutex_lock(&s->lock);
    bool wanted = s->call && !s->gone, full = s->n_unanswered >= most_unanswered(s);
    if (wanted && full) {
        krt_arrival_move(&s->held, &arrival);
        s->held_head = head;
    }
    (void)pthread_mutex_unlock(&s->lock);
    if (!wanted)
        krt_arrival_fini(&arrival);
    else if (!full)
        begin(s, call, &head, &arrival); /* which the end of the stream may cross, too */
}

static void on_read(krpc_call *call, grpc_byte_buffer *message, void *arg)
{
    stream *s = arg;
    if (message) {
        take(s, call, message); /* |s| lives: it is still reading */
        (void)pthread_mutex_lock(&s->lock);
    } else {
        (void)pthread_mutex_lock(&s->lock);
        s->read_all = true;
    }
    s->reading = false;
    advance(s);
}

static void on_sent(krpc_call *call, bool ok, void *arg)
{
    stream *s = arg;
    (void)ok; /* on_close says so, too */
    krt_arrival arrival = {.bytes = NULL};
    krpc_stream_request head;
    (void)pthread_mutex_lock(&s->lock);
    retire(s->sending);
    if (s->held.bytes && s->n_unanswered < most_unanswered(s) && !s->gone) {
        krt_arrival_move(&arrival, &s->held);
        head = s->held_head;
    }
    (void)pthread_mutex_unlock(&s->lock);
    if (arrival.bytes)
        begin(s, call, &head, &arrival); /* |s| lives: it is still sending */
    (void)pthread_mutex_lock(&s->lock);
    s->sending = NULL;
    advance(s);
}

/* All that is not answered is not wanted any more. */
static void cancel_all(stream *s)
{
    ask *list = NULL;
    (void)pthread_mutex_lock(&s->lock);
    for (size_t b = 0; b < BUCKETS; b++)
        for (ask *a = s->buckets[b]; a; a = a->next)
            if (a->r && !a->answered) {
                krt_inference_ref(a->r);
                a->refs++;
                a->cancel = a->r;
                a->next_cancel = list;
                list = a;
            }
    (void)pthread_mutex_unlock(&s->lock);
    while (list) {
        ask *a = list;
        list = a->next_cancel;
        krt_run_cancel(a->cancel);
        krt_inference_unref(a->cancel);
        (void)pthread_mutex_lock(&s->lock);
        drop_ask(a);
        (void)pthread_mutex_unlock(&s->lock);
    }
}

static void on_close(void *arg, bool cancelled)
{
    stream *s = arg;
    if (cancelled) {
        (void)pthread_mutex_lock(&s->lock);
        s->gone = true;
        krt_arrival_fini(&s->held);
        (void)pthread_mutex_unlock(&s->lock);
        cancel_all(s);
    }
    (void)pthread_mutex_lock(&s->lock);
    s->closed = true;
    advance(s);
}

/* ---- streams ---- */

/* Enters |s| when its client may have one more. */
static kaena_status enter_stream(krt_streams *t, stream *s, kaena_err *err)
{
    uint64_t n = 0, most = t->daemon->config->limits.infer_streams;
    (void)pthread_mutex_lock(&t->lock);
    for (const stream *i = t->list; i; i = i->next)
        n += i->client == s->client;
    if (n < most) {
        s->next = t->list;
        s->at = &t->list;
        if (s->next)
            s->next->at = &s->next;
        t->list = s;
    }
    (void)pthread_mutex_unlock(&t->lock);
    if (n < most)
        return KAENA_OK;
    kaena_status st = KRT_FAIL_LIMIT(
        err, n + 1, most,
        "the client has %" PRIu64 " inference streams, which is the limit of this daemon", n);
    kaena_err_hint(err, "many requests fit on one stream; or raise limits.infer_streams");
    return st;
}

static kaena_status open_stream(krt_streams *t, krpc_call *call, stream **out, kaena_err *err)
{
    krt_caller caller;
    if (!krt_accept(t->daemon, err))
        return KAENA_UNAVAILABLE;
    krt_release(t->daemon); /* the stream itself is no work */
    KAENA_TRY(krt_caller_enter(t->daemon, call, &caller, err));
    stream *s = calloc(1, sizeof *s);
    kaena_status st = KAENA_OK;
    if (s) {
        *s = (stream){.owner = t, .call = call, .caller = caller, .reading = true};
        s->unsent_tail = &s->unsent;
        s->client = krt_caller_client(&caller, call);
        (void)pthread_mutex_init(&s->lock, NULL);
        st = enter_stream(t, s, err);
    } else {
        st = KAENA_FAIL(err, RESOURCE_EXHAUSTED, "stream: out of memory");
    }
    if (st == KAENA_OK) {
        *out = s;
        return KAENA_OK;
    }
    krt_caller_leave(&caller);
    free(s);
    return st;
}

void krt_infer_stream(krpc_call *call, void *user)
{
    krt_daemon *d = user;
    kaena_err err;
    stream *s;
    if (open_stream(d->clients->streams, call, &s, &err) != KAENA_OK) {
        krt_fail(call, NULL, &err);
        return;
    }
    krpc_call_on_close(call, on_close, s);
    krpc_call_read(call, on_read, s);
}

/* The next stream that is not told to end, with its lock and a passing reference, or NULL. */
static stream *next_to_end(krt_streams *t)
{
    stream *found = NULL;
    (void)pthread_mutex_lock(&t->lock);
    for (stream *s = t->list; s && !found; s = s->next) {
        (void)pthread_mutex_lock(&s->lock);
        if (s->failed || s->over) {
            (void)pthread_mutex_unlock(&s->lock);
            continue;
        }
        s->n_asks++; /* so that it lives without the list's lock */
        found = s;
    }
    (void)pthread_mutex_unlock(&t->lock);
    return found;
}

void krt_streams_end(krt_streams *t)
{
    stream *s;
    while ((s = next_to_end(t))) {
        (void)KRT_FAIL(&s->err, UNAVAILABLE, DRAINING, "daemon '%s' has shut down",
                       t->daemon->config->name);
        s->failed = true;
        s->n_asks--;
        advance(s);
    }
}

krt_streams *krt_streams_create(krt_daemon *d)
{
    krt_streams *t = calloc(1, sizeof *t);
    if (!t)
        return NULL;
    t->daemon = d;
    (void)pthread_mutex_init(&t->lock, NULL);
    return t;
}

krt_streams *krt_streams_destroy(krt_streams *t)
{
    if (!t)
        return NULL;
    (void)pthread_mutex_destroy(&t->lock);
    free(t);
    return NULL;
}
