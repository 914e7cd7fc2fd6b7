#include "client_session.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "client_loop.h"
#include "kaena/v1/runtime.pb-c.h"

#define MS INT64_C(1000000)
#define LOOK_NS (20 * MS)      /* for |stop|, while a session is opened */
#define OPEN_NS (10000 * MS)   /* a daemon that takes longer has none */
#define GOODBYE_NS (1000 * MS) /* for a daemon to take note of the end */

typedef enum session_state { CLOSED, OPENING, OPEN } session_state;

/* A session and its stream. Fields are under the lock of all sessions but where said. */
typedef struct session {
    kaena_tag sent, received, ended, closed; /* batches of the stream */
    kaena_sessions *all;
    size_t daemon;
    session_state state;
    unsigned batches;             /* under way: the stream is freed when there are none */
    uint64_t number;              /* of the last one */
    char token[KAENA_TOKEN_TEXT]; /* of the last one: to come back to; "" = none */
    bool none;                    /* the daemon knows no sessions */
    kaena_status status;          /* of the last stream, when CLOSED */
    kaena_outcome outcome;
    kaena_err err;
    /* The stream's; in the loop's thread once it was begun. */
    kaena_target target;
    kaena_exchange_state exchange;
    grpc_byte_buffer *request;
} session;

struct kaena_sessions {
    kaena_client *client;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    session *list; /* [router.count] */
};

static void on_sent(kaena_tag *tag, bool ok);
static void on_received(kaena_tag *tag, bool ok);
static void on_ended(kaena_tag *tag, bool ok);
static void on_closed(kaena_tag *tag, bool ok);

kaena_sessions *kaena_sessions_create(kaena_client *client)
{
    kaena_sessions *all = calloc(1, sizeof *all);
    session *list = calloc(client->endpoint_count, sizeof *list);
    if (!all || !list) {
        free(all);
        free(list);
        return NULL;
    }
    *all = (kaena_sessions){.client = client, .list = list};
    for (size_t i = 0; i < client->endpoint_count; i++)
        list[i] = (session){.sent.run = on_sent,
                            .received.run = on_received,
                            .ended.run = on_ended,
                            .closed.run = on_closed,
                            .all = all,
                            .daemon = i};
    pthread_mutex_init(&all->lock, NULL);
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&all->changed, &monotonic);
    pthread_condattr_destroy(&monotonic);
    return all;
}

static void wait_until(kaena_sessions *all, int64_t ns)
{
    const struct timespec until = {.tv_sec = ns / 1000000000, .tv_nsec = ns % 1000000000};
    (void)pthread_cond_timedwait(&all->changed, &all->lock, &until);
}

/* ---- The stream; in the loop's thread, under the lock ---- */

static bool begin_batch(session *s, const grpc_op *ops, size_t count, kaena_tag *tag)
{
    bool good = grpc_call_start_batch(s->exchange.call, ops, count, tag, NULL) == GRPC_CALL_OK;
    s->batches += good;
    return good;
}

static void receive(session *s)
{
    const grpc_op op = {.op = GRPC_OP_RECV_MESSAGE,
                        .data.recv_message.recv_message = &s->exchange.answer};
    (void)begin_batch(s, &op, 1, &s->received);
}

/* A batch has ended. With the last one the stream is over. Unlocks. */
static void settle(session *s)
{
    kaena_sessions *all = s->all;
    bool over = --s->batches == 0, was_open = s->state == OPEN;
    if (over) {
        s->outcome = KAENA_OUTCOME_FINAL;
        s->status = kaena_exchange_finish(&s->exchange, &s->outcome, &s->err);
        /* Without a session of that token there is nothing to come back to. */
        if (!was_open)
            s->token[0] = 0;
        s->none = s->status == KAENA_UNIMPLEMENTED;
        s->state = CLOSED;
        grpc_byte_buffer_destroy(s->request);
        kaena_exchange_end(&s->exchange);
        kaena_target_close(&s->target);
        pthread_cond_broadcast(&all->changed);
    }
    pthread_mutex_unlock(&all->lock);
    if (over && was_open)
        kaena_router_gone(&all->client->router, s->daemon, KAENA_DAEMON_DOWN, kaena_now_ns());
}

static void on_sent(kaena_tag *tag, bool ok)
{
    session *s = (session *)(void *)((char *)tag - offsetof(session, sent));
    (void)ok;
    pthread_mutex_lock(&s->all->lock);
    settle(s);
}

static void on_closed(kaena_tag *tag, bool ok)
{
    session *s = (session *)(void *)((char *)tag - offsetof(session, closed));
    (void)ok;
    pthread_mutex_lock(&s->all->lock);
    settle(s);
}

static void on_ended(kaena_tag *tag, bool ok)
{
    session *s = (session *)(void *)((char *)tag - offsetof(session, ended));
    (void)ok;
    pthread_mutex_lock(&s->all->lock);
    settle(s);
}

/* Whether the daemon is going to end. */
static bool take_event(session *s, const Kaena__V1__SessionEvent *event)
{
    if (event->event_case == KAENA__V1__SESSION_EVENT__EVENT_OPENED && s->state == OPENING) {
        (void)snprintf(s->token, sizeof s->token, "%s", event->opened->token);
        s->state = OPEN;
        s->number++;
        pthread_cond_broadcast(&s->all->changed);
    }
    return event->event_case == KAENA__V1__SESSION_EVENT__EVENT_DRAINING;
}

static void on_received(kaena_tag *tag, bool ok)
{
    session *s = (session *)(void *)((char *)tag - offsetof(session, received));
    kaena_sessions *all = s->all;
    bool draining = false;
    size_t daemon = s->daemon;
    pthread_mutex_lock(&all->lock);
    if (ok && s->exchange.answer) {
        Kaena__V1__SessionEvent *event = (Kaena__V1__SessionEvent *)kaena_unpack(
            s->exchange.answer, &kaena__v1__session_event__descriptor);
        if (event) {
            draining = take_event(s, event);
            kaena__v1__session_event__free_unpacked(event, NULL);
        }
        grpc_byte_buffer_destroy(s->exchange.answer);
        s->exchange.answer = NULL;
        receive(s);
    }
    settle(s);
    if (draining)
        kaena_router_gone(&all->client->router, daemon, KAENA_DAEMON_DRAINING, kaena_now_ns());
}

/* ---- Opening ---- */

/* Begins the stream; under the lock, which is let go of meanwhile. */
static kaena_status begin(session *s, const atomic_bool *stop, kaena_outcome *outcome,
                          kaena_err *err)
{
    kaena_client *client = s->all->client;
    char token[KAENA_TOKEN_TEXT];
    s->state = OPENING;
    memcpy(token, s->token, sizeof token);
    pthread_mutex_unlock(&s->all->lock);
    Kaena__V1__SessionRequest request = KAENA__V1__SESSION_REQUEST__INIT;
    request.token = token;
    request.client = program_invocation_short_name;
    kaena_status status = kaena_target_open(&s->target, client, s->daemon, kaena_now_ns() + OPEN_NS,
                                            stop, outcome, err);
    if (status == KAENA_OK) {
        s->target.deadline_ns = INT64_MAX;
        s->target.stop = NULL;
        status = kaena_exchange_begin(&s->exchange, &s->target, "Session", kaena_loop_queue(client),
                                      err);
        if (status != KAENA_OK)
            kaena_target_close(&s->target);
    }
    pthread_mutex_lock(&s->all->lock);
    if (status != KAENA_OK) {
        s->state = CLOSED;
        pthread_cond_broadcast(&s->all->changed);
        return status;
    }
    s->request = kaena_pack(&request.base);
    kaena_exchange_state *x = &s->exchange;
    const grpc_op open[] = {
        {.op = GRPC_OP_SEND_INITIAL_METADATA,
         .data.send_initial_metadata = {.count = x->sent_count, .metadata = x->sent}},
        {.op = GRPC_OP_SEND_MESSAGE, .data.send_message.send_message = s->request},
        {.op = GRPC_OP_RECV_INITIAL_METADATA,
         .data.recv_initial_metadata.recv_initial_metadata = &x->initial},
    };
    const grpc_op end = {.op = GRPC_OP_RECV_STATUS_ON_CLIENT,
                         .data.recv_status_on_client = {.trailing_metadata = &x->trailing,
                                                        .status = &x->code,
                                                        .status_details = &x->message}};
    /* One more, so that it does not end before all have begun. */
    s->batches = 1;
    (void)begin_batch(s, open, 3, &s->sent);
    (void)begin_batch(s, &end, 1, &s->ended);
    receive(s);
    s->batches--;
    return KAENA_OK;
}

kaena_status kaena_session_open(kaena_client *client, size_t daemon, int64_t deadline_ns,
                                const atomic_bool *stop, char token[KAENA_TOKEN_TEXT],
                                kaena_outcome *outcome, kaena_err *err)
{
    KAENA_TRY(kaena_loop_start(client, err));
    kaena_sessions *all = client->sessions;
    session *s = &all->list[daemon];
    const int64_t latest_ns = kaena_now_ns() + OPEN_NS;
    const int64_t until_ns = deadline_ns < latest_ns ? deadline_ns : latest_ns;
    kaena_status status = KAENA_OK;
    pthread_mutex_lock(&all->lock);
    bool begun = s->state != CLOSED;
    if (!begun)
        status = begin(s, stop, outcome, err);
    while (status == KAENA_OK && s->state == OPENING) {
        int64_t now_ns = kaena_now_ns();
        if (now_ns >= until_ns || (stop && atomic_load(stop))) {
            /* A daemon that does not answer: the stream ends, whoever waits for it. */
            if (now_ns >= until_ns && s->batches > 0)
                (void)grpc_call_cancel(s->exchange.call, NULL);
            *outcome = KAENA_OUTCOME_ABSENT;
            status = KAENA_FAIL(err, UNAVAILABLE, "the daemon at %s opened no session in time",
                                client->endpoints[daemon].address);
            break;
        }
        wait_until(all, now_ns + LOOK_NS < until_ns ? now_ns + LOOK_NS : until_ns);
    }
    token[0] = 0;
    if (status == KAENA_OK && s->state == OPEN) {
        memcpy(token, s->token, KAENA_TOKEN_TEXT);
    } else if (status == KAENA_OK && !s->none) {
        *outcome = s->outcome == KAENA_OUTCOME_LOST ? KAENA_OUTCOME_ABSENT : s->outcome;
        status = s->status == KAENA_OK ? KAENA_UNAVAILABLE : s->status;
        if (err)
            *err = s->err;
    }
    pthread_mutex_unlock(&all->lock);
    return status;
}

uint64_t kaena_session_current(kaena_client *client, size_t daemon, char token[KAENA_TOKEN_TEXT])
{
    kaena_sessions *all = client->sessions;
    pthread_mutex_lock(&all->lock);
    const session *s = &all->list[daemon];
    uint64_t number = s->state == OPEN ? s->number : 0;
    memcpy(token, s->token, KAENA_TOKEN_TEXT);
    pthread_mutex_unlock(&all->lock);
    return number;
}

/* ---- The end ---- */

static bool all_closed(const kaena_sessions *all)
{
    for (size_t i = 0; i < all->client->endpoint_count; i++)
        if (all->list[i].state != CLOSED)
            return false;
    return true;
}

void kaena_sessions_close(kaena_sessions *all)
{
    const int64_t cancel_ns = kaena_now_ns() + GOODBYE_NS;
    pthread_mutex_lock(&all->lock);
    for (size_t i = 0; i < all->client->endpoint_count; i++) {
        const grpc_op op = {.op = GRPC_OP_SEND_CLOSE_FROM_CLIENT};
        if (all->list[i].state == OPEN)
            (void)begin_batch(&all->list[i], &op, 1, &all->list[i].closed);
    }
    while (!all_closed(all)) {
        bool late = kaena_now_ns() >= cancel_ns;
        for (size_t i = 0; i < all->client->endpoint_count; i++) {
            session *s = &all->list[i];
            if (s->state == OPENING || (s->state == OPEN && late))
                (void)grpc_call_cancel(s->exchange.call, NULL);
        }
        wait_until(all, kaena_now_ns() + LOOK_NS);
    }
    pthread_mutex_unlock(&all->lock);
}

void kaena_sessions_destroy(kaena_sessions *all)
{
    if (!all)
        return;
    pthread_cond_destroy(&all->changed);
    pthread_mutex_destroy(&all->lock);
    free(all->list);
    free(all);
}
