/* Runtime.Session: the stream whose end is the session's. */
#include <inttypes.h>
#include <stdlib.h>

#include "krt_clients.h"
#include "krt_log.h"
#include "log.h"
#include "rpc_pb.h"

/* A Session call. It is answered once (|call| is NULL then), and freed when it is closed and
 * nothing is being read or sent. */
typedef struct stream {
    krt_session_streams *owner;
    struct stream *next, **at;
    krpc_call *call;
    krt_session *session; /* a reference; NULL until the first message */
    uint64_t hold;
    bool local;   /* over a unix socket, which breaks only when its client is gone */
    bool resumed; /* this and the next: SessionOpened, SessionDraining are to be sent */
    bool say_opened, say_draining;
    bool sending, reading;
    bool goodbye; /* the client has ended the stream: OK is the answer */
    bool failed;  /* |err| is the answer */
    bool closed;
    kaena_err err;
} stream;

struct krt_session_streams {
    krt_daemon *daemon;
    pthread_mutex_t lock; /* of all below, and of the streams */
    stream *list;
    bool draining, ended;
    uint32_t seconds;
};

/* ---- answers ---- */

static void sent(krpc_call *call, bool ok, void *arg);

static grpc_byte_buffer *opened(const stream *s)
{
    Kaena__V1__SessionEvent e = KAENA__V1__SESSION_EVENT__INIT;
    Kaena__V1__SessionOpened o = KAENA__V1__SESSION_OPENED__INIT;
    o.token = (char *)(uintptr_t)krt_session_token(s->session);
    o.resumed = s->resumed;
    o.daemon = (char *)(uintptr_t)s->owner->daemon->config->name;
    e.event_case = KAENA__V1__SESSION_EVENT__EVENT_OPENED;
    e.opened = &o;
    return krpc_pb_pack(&e.base);
}

static grpc_byte_buffer *draining(const stream *s)
{
    Kaena__V1__SessionEvent e = KAENA__V1__SESSION_EVENT__INIT;
    Kaena__V1__SessionDraining d = KAENA__V1__SESSION_DRAINING__INIT;
    d.seconds = s->owner->seconds;
    e.event_case = KAENA__V1__SESSION_EVENT__EVENT_DRAINING;
    e.draining = &d;
    return krpc_pb_pack(&e.base);
}

/* Frees |s| when nothing will look at it again; with the lock held. */
static void settle(stream *s)
{
    if (s->call || !s->closed || s->reading || s->sending)
        return;
    *s->at = s->next;
    if (s->next)
        s->next->at = s->at;
    if (s->session)
        krt_session_unref(s->session);
    free(s);
}

/* Does what |s| is due for; with the lock held. Settles it. */
static void advance(stream *s)
{
    krpc_call *call = s->call;
    if (call && !s->sending) {
        grpc_byte_buffer *news = NULL;
        if (s->say_opened)
            news = opened(s);
        else if (s->say_draining)
            news = draining(s);
        if (s->say_opened)
            s->say_opened = false;
        else
            s->say_draining = false;
        if (news && !s->closed) {
            s->sending = true;
            krpc_call_send(call, news, sent, s);
        } else if (s->failed || s->goodbye) {
            s->call = NULL;
            if (s->failed)
                krpc_fail(call, &s->err);
            else
                krpc_finish(call);
        }
    }
    settle(s);
}

static void sent(krpc_call *call, bool ok, void *arg)
{
    (void)call;
    (void)ok; /* on_close says so, too */
    stream *s = arg;
    krt_session_streams *t = s->owner;
    (void)pthread_mutex_lock(&t->lock);
    s->sending = false;
    advance(s);
    (void)pthread_mutex_unlock(&t->lock);
}

/* Has |s| answered with an error; with the lock held, and then it may be gone. */
static void fail(stream *s, const kaena_err *err)
{
    if (!s->failed)
        s->err = *err;
    s->failed = true;
    advance(s);
}

/* ---- the session behind the stream ---- */

/* A session whose stream broke, for as long as its client may come back. */
typedef struct grace {
    krpc_timer timer;
    krt_session *session;
    uint64_t hold;
} grace;

static void end_session(krt_session *s, uint64_t hold, const char *why)
{
    if (krt_session_end(s, hold))
        kaena_log(KAENA_LOG_INFO, "session %" PRIu64 " of '%s' ended: %s", krt_session_owner(s),
                  krt_session_client(s), why);
}

static void on_grace_over(krpc_timer *timer, bool fired)
{
    grace *g = (grace *)(void *)timer;
    (void)fired; /* the daemon ends, otherwise */
    end_session(g->session, g->hold, "its stream did not come back");
    krt_session_unref(g->session);
    free(g);
}

static void broken(krt_daemon *d, krt_session *s, uint64_t hold, bool local)
{
    uint64_t seconds = d->config->limits.session_seconds;
    grace *g = local || !seconds ? NULL : calloc(1, sizeof *g);
    if (!g) {
        end_session(s, hold, "its stream broke");
        return;
    }
    if (!krt_session_lose(s, hold)) { /* another stream has it */
        free(g);
        return;
    }
    kaena_log(KAENA_LOG_INFO, "stream of session %" PRIu64 " of '%s' broke", krt_session_owner(s),
              krt_session_client(s));
    krt_session_ref(s);
    *g = (grace){.timer.fn = on_grace_over, .session = s, .hold = hold};
    krpc_timer_start(d->server, &g->timer, krt_now_ns() + seconds * UINT64_C(1000000000));
}

static void on_close(void *arg, bool cancelled)
{
    stream *s = arg;
    krt_session_streams *t = s->owner;
    (void)pthread_mutex_lock(&t->lock);
    bool goodbye = s->goodbye && !cancelled, local = s->local;
    krt_session *session = s->session;
    uint64_t hold = s->hold;
    if (session)
        krt_session_ref(session);
    s->closed = true;
    kaena_err err;
    (void)KAENA_FAIL(&err, CANCELLED, "session: its stream broke");
    if (s->call)
        fail(s, &err);
    else
        settle(s);
    (void)pthread_mutex_unlock(&t->lock);
    if (!session)
        return;
    if (goodbye)
        end_session(session, hold, "its client said goodbye");
    else
        broken(t->daemon, session, hold, local);
    krt_session_unref(session);
}

/* ---- messages ---- */

/* Fails |s| for what its client has sent, unless it is gone. */
static void refuse(stream *s, const kaena_err *err)
{
    if (s->call)
        krt_log_failure(krpc_call_request_id(s->call),
                        s->session ? krt_session_owner(s->session) : 0, NULL, err);
    fail(s, err);
}

static void on_more(krpc_call *call, grpc_byte_buffer *message, void *arg)
{
    (void)call;
    stream *s = arg;
    krt_session_streams *t = s->owner;
    kaena_err err;
    (void)pthread_mutex_lock(&t->lock);
    s->reading = false;
    if (message) {
        (void)KAENA_FAIL(&err, INVALID_ARGUMENT, "session: more than one message came");
        refuse(s, &err);
    } else {
        s->goodbye = true;
        advance(s);
    }
    (void)pthread_mutex_unlock(&t->lock);
    grpc_byte_buffer_destroy(message);
}

/* Another stream comes for a session whose first we have not seen break. */
static void take_over(krt_session_streams *t, const stream *by)
{
    kaena_err err;
    (void)KAENA_FAIL(&err, ABORTED, "session: another stream has taken it over");
    for (stream *s = t->list, *next; s; s = next) {
        next = s->next;
        if (s != by && s->session == by->session)
            fail(s, &err);
    }
}

static kaena_status open_session(stream *s, const Kaena__V1__SessionRequest *q, kaena_err *err)
{
    krt_daemon *d = s->owner->daemon;
    krt_session *session;
    s->resumed = *q->token != 0;
    if (s->resumed)
        KAENA_TRY(krt_session_find(d->clients->sessions, q->token, &session, err));
    else
        KAENA_TRY(krt_session_open(d->clients->sessions, d->config->limits.sessions, q->client,
                                   &session, err));
    kaena_status st = krt_session_hold(session, &s->hold, err);
    if (st != KAENA_OK) {
        krt_session_unref(session);
        return st;
    }
    s->session = session;
    kaena_log(KAENA_LOG_DEBUG, "session %" PRIu64 " of '%s' %s", krt_session_owner(session),
              krt_session_client(session), s->resumed ? "resumed" : "opened");
    return KAENA_OK;
}

static kaena_status read_first(stream *s, grpc_byte_buffer *message, kaena_err *err)
{
    kaena_arena arena;
    ProtobufCMessage *m;
    if (!message)
        return KAENA_FAIL(err, INVALID_ARGUMENT, "session: the stream ended before its message");
    if (atomic_load(&s->owner->daemon->draining))
        return KRT_FAIL(err, UNAVAILABLE, DRAINING, "daemon '%s' is shutting down",
                        s->owner->daemon->config->name);
    kaena_arena_init(&arena, KRPC_PB_QUOTA);
    kaena_status st =
        krpc_pb_parse(message, &kaena__v1__session_request__descriptor, &arena, &m, err);
    if (st == KAENA_OK)
        st = open_session(s, (Kaena__V1__SessionRequest *)m, err);
    kaena_arena_fini(&arena);
    return st;
}

static void on_first(krpc_call *call, grpc_byte_buffer *message, void *arg)
{
    stream *s = arg;
    krt_session_streams *t = s->owner;
    kaena_err err;
    (void)pthread_mutex_lock(&t->lock);
    s->reading = false;
    if (read_first(s, message, &err) != KAENA_OK) {
        refuse(s, &err);
    } else {
        take_over(t, s);
        s->say_opened = true;
        s->reading = true;
        krpc_call_read(call, on_more, s);
        advance(s);
    }
    (void)pthread_mutex_unlock(&t->lock);
    grpc_byte_buffer_destroy(message);
}

void krt_session_stream(krpc_call *call, void *user)
{
    krt_daemon *d = user;
    krt_session_streams *t = d->clients->session_streams;
    struct ucred peer;
    stream *s = calloc(1, sizeof *s);
    if (!s) {
        KRPC_FAIL(call, RESOURCE_EXHAUSTED, "session: out of memory");
        return;
    }
    *s = (stream){.owner = t, .call = call, .local = krpc_call_peer(call, &peer), .reading = true};
    krpc_call_on_close(call, on_close, s);
    (void)pthread_mutex_lock(&t->lock);
    s->next = t->list;
    s->at = &t->list;
    if (s->next)
        s->next->at = &s->next;
    t->list = s;
    krpc_call_read(call, on_first, s);
    (void)pthread_mutex_unlock(&t->lock);
}

/* ---- all streams ---- */

krt_session_streams *krt_session_streams_create(krt_daemon *d)
{
    krt_session_streams *t = calloc(1, sizeof *t);
    if (!t)
        return NULL;
    t->daemon = d;
    (void)pthread_mutex_init(&t->lock, NULL);
    return t;
}

krt_session_streams *krt_session_streams_destroy(krt_session_streams *t)
{
    if (!t)
        return NULL;
    (void)pthread_mutex_destroy(&t->lock);
    free(t);
    return NULL;
}

void krt_session_streams_draining(krt_session_streams *t, uint32_t seconds)
{
    (void)pthread_mutex_lock(&t->lock);
    t->seconds = seconds;
    for (stream *s = t->list, *next; s; s = next) {
        next = s->next;
        s->say_draining = s->session != NULL;
        advance(s);
    }
    (void)pthread_mutex_unlock(&t->lock);
}

void krt_session_streams_end(krt_session_streams *t)
{
    kaena_err err;
    (void)KRT_FAIL(&err, UNAVAILABLE, DRAINING, "daemon '%s' has shut down",
                   t->daemon->config->name);
    (void)pthread_mutex_lock(&t->lock);
    for (stream *s = t->list, *next; s; s = next) {
        next = s->next;
        fail(s, &err);
    }
    (void)pthread_mutex_unlock(&t->lock);
}
