/* Posted requests: InferPost, and InferWait for what became of them. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "client_infer.h"
#include "client_session.h"
#include "kaena/v1/runtime.pb-c.h"

#define MS INT64_C(1000000)
#define PAUSE_MIN_NS (10 * MS)
#define PAUSE_MAX_NS (200 * MS)
/* So long after a wait was given up its daemon may not know yet. */
#define GIVEN_UP_NS (2000 * MS)
/* The daemon ends a wait in time; one that does not even do that is given up so much later. An
 * answer that arrives when we have given up is lost. */
#define GRACE_NS (5000 * MS)

_Static_assert(sizeof((kaena_cookie){0}.session) == KAENA_TOKEN_TEXT, "a cookie holds a token");

/* ---- Posting ---- */

typedef struct posting {
    kaena_infer_call made; /* what is sent */
    kaena_cookie cookie;
} posting;

static kaena_status take_cookie(grpc_byte_buffer *answer, uint64_t *out, kaena_err *err)
{
    Kaena__V1__InferPostResponse *r = (Kaena__V1__InferPostResponse *)kaena_unpack(
        answer, &kaena__v1__infer_post_response__descriptor);
    uint64_t cookie = r ? r->cookie : 0;
    if (r)
        kaena__v1__infer_post_response__free_unpacked(r, NULL);
    if (!cookie)
        return KAENA_FAIL(err, INTERNAL, "the daemon's answer is not an InferPostResponse");
    *out = cookie;
    return KAENA_OK;
}

static kaena_status attempt_post(const kaena_target *given, void *user, kaena_outcome *outcome,
                                 kaena_err *err)
{
    posting *p = user;
    kaena_target target = *given;
    kaena_wire_pin pin = {0};
    grpc_byte_buffer *request, *answer;
    kaena_cookie *c = &p->cookie;
    KAENA_TRY(kaena_session_open(target.client, target.daemon, target.deadline_ns, target.stop,
                                 c->session, outcome, err));
    target.session = *c->session ? c->session : NULL;
    c->daemon = (uint32_t)target.daemon;
    *outcome = KAENA_OUTCOME_FINAL;
    KAENA_TRY(kaena_wire_encode_infer(&p->made, NULL, kaena_conn_is_ours(target.conn) ? &pin : NULL,
                                      &request, err));
    KAENA_TRY(kaena_exchange(&target, "InferPost", request, &pin, &answer, outcome, err));
    *outcome = KAENA_OUTCOME_FINAL;
    kaena_status status = take_cookie(answer, &c->value, err);
    grpc_byte_buffer_destroy(answer);
    return status;
}

kaena_status kaena_model_post(kaena_model *model, const kaena_infer_call *call,
                              kaena_cookie *out_cookie, kaena_err *err)
{
    KAENA_TRY(kaena_infer_call_check(call, err));
    posting p = {.made = *call};
    p.made.model = model->info->name;
    int64_t deadline_ns = kaena_deadline(call->timeout_ms, model->client->timeout_ms);
    KAENA_TRY(kaena_route_call(model->client, &model->replicas.places, attempt_post, &p, true,
                               deadline_ns, err));
    *out_cookie = p.cookie;
    return KAENA_OK;
}

/* ---- Fetching ---- */

typedef struct fetching {
    const kaena_cookie *cookie;
    kaena_infer_call *call; /* the caller's */
    int64_t deadline_ns;
    bool only_look;
} fetching;

/* Takes the answer; memory of the library that the outputs lay in is given back. */
static kaena_status take_answer(kaena_infer_call *call, grpc_byte_buffer *answer, kaena_err *err)
{
    kaena_infer_call made = *call;
    made.model = "that was posted to";
    kaena_memory **replaced = calloc(call->output_count + 1, sizeof *replaced);
    if (!replaced)
        return KAENA_FAIL(err, RESOURCE_EXHAUSTED, "out of memory");
    for (size_t i = 0; i < call->output_count; i++)
        replaced[i] = call->outputs[i].memory;
    kaena_status status = kaena_wire_decode_infer(answer, &made, NULL, err);
    for (size_t i = 0; i < call->output_count && status == KAENA_OK; i++)
        kaena_pool_give(replaced[i], false);
    free(replaced);
    if (status == KAENA_OK) {
        call->queue_ns = made.queue_ns;
        call->execute_ns = made.execute_ns;
    }
    return status;
}

static kaena_status attempt_fetch(const kaena_target *given, void *user, kaena_outcome *outcome,
                                  kaena_err *err)
{
    const fetching *f = user;
    kaena_target target = *given;
    grpc_byte_buffer *answer;
    Kaena__V1__InferWaitRequest request = KAENA__V1__INFER_WAIT_REQUEST__INIT;
    request.cookie = f->cookie->value;
    request.only_look = f->only_look;
    int64_t left_ms = (f->deadline_ns - kaena_now_ns()) / MS;
    request.timeout_ms = left_ms < 1 ? 1 : left_ms < UINT32_MAX ? (uint32_t)left_ms : UINT32_MAX;
    target.deadline_ns = f->deadline_ns + GRACE_NS;
    target.session = *f->cookie->session ? f->cookie->session : NULL;
    KAENA_TRY(kaena_exchange(&target, "InferWait", kaena_pack(&request.base), NULL, &answer,
                             outcome, err));
    *outcome = KAENA_OUTCOME_FINAL;
    kaena_status status = take_answer(f->call, answer, err);
    grpc_byte_buffer_destroy(answer);
    return status;
}

static kaena_status lost(const kaena_client *client, const kaena_cookie *cookie, kaena_err *err)
{
    (void)KAENA_FAIL(err, ABORTED,
                     "the session with %s in which the request was posted has ended, and its "
                     "answer with it",
                     client->endpoints[cookie->daemon].address);
    kaena_err_hint(err, "post it again");
    if (err)
        err->reason = KAENA_REASON_NO_SESSION;
    return KAENA_ABORTED;
}

/* OK: the session of the cookie is open. Over TCP it may be come back to, and is. ABORTED: it has
 * ended. Otherwise |*outcome| is set. */
static kaena_status find_session(kaena_client *client, const kaena_cookie *cookie,
                                 int64_t deadline_ns, kaena_outcome *outcome, kaena_err *err)
{
    char token[KAENA_TOKEN_TEXT];
    const char *address = client->endpoints[cookie->daemon].address;
    if (!*cookie->session)
        return KAENA_OK;
    *outcome = KAENA_OUTCOME_FINAL;
    bool open = kaena_session_current(client, cookie->daemon, token) != 0;
    if (!open && strncmp(address, "unix:", 5) != 0) {
        kaena_status status =
            kaena_session_open(client, cookie->daemon, deadline_ns, NULL, token, outcome, err);
        if (status != KAENA_OK && err->reason != KAENA_REASON_NO_SESSION)
            return status;
        open = status == KAENA_OK;
    }
    return open && strcmp(token, cookie->session) == 0 ? KAENA_OK : lost(client, cookie, err);
}

/* Whether a failure says nothing about the posted request. */
static bool may_ask_again(const kaena_client *client, kaena_outcome outcome, const kaena_err *err,
                          int64_t since_ns)
{
    if (err->code == KAENA_FAILED_PRECONDITION && err->reason == KAENA_REASON_NONE)
        return kaena_now_ns() - since_ns < GIVEN_UP_NS;
    return outcome == KAENA_OUTCOME_LOST || outcome == KAENA_OUTCOME_LATER ||
           (outcome == KAENA_OUTCOME_ABSENT && !client->fail_fast);
}

static kaena_status fetch(kaena_client *client, fetching *f, kaena_err *err)
{
    const kaena_cookie *cookie = f->cookie;
    KAENA_TRY(kaena_infer_call_check(f->call, err));
    if (!cookie->value || cookie->daemon >= client->endpoint_count ||
        !memchr(cookie->session, 0, sizeof cookie->session))
        return KAENA_FAIL(err, INVALID_ARGUMENT, "not a cookie of this client");
    const int64_t begun_ns = kaena_now_ns();
    const int64_t deadline_ns = kaena_deadline(f->call->timeout_ms, client->timeout_ms);
    f->deadline_ns = deadline_ns;
    for (int64_t pause_ns = PAUSE_MIN_NS;;) {
        kaena_outcome outcome = KAENA_OUTCOME_FINAL;
        kaena_status status = find_session(client, cookie, deadline_ns, &outcome, err);
        if (status == KAENA_OK)
            status = kaena_attempt_on(client, cookie->daemon, deadline_ns, NULL, attempt_fetch, f,
                                      &outcome, err);
        if (status == KAENA_OK || status == KAENA_DEADLINE_EXCEEDED)
            return status;
        if (err->reason == KAENA_REASON_NO_SESSION)
            return lost(client, cookie, err);
        int64_t now_ns = kaena_now_ns();
        if (now_ns + pause_ns >= deadline_ns || !may_ask_again(client, outcome, err, begun_ns))
            return status;
        kaena_sleep_until(now_ns + pause_ns);
        pause_ns = pause_ns * 2 < PAUSE_MAX_NS ? pause_ns * 2 : PAUSE_MAX_NS;
    }
}

kaena_status kaena_wait(kaena_client *client, const kaena_cookie *cookie, kaena_infer_call *call,
                        kaena_err *err)
{
    fetching f = {.cookie = cookie, .call = call};
    kaena_err local;
    return fetch(client, &f, err ? err : &local);
}

kaena_status kaena_poll(kaena_client *client, const kaena_cookie *cookie, kaena_infer_call *call,
                        int *out_done, kaena_err *err)
{
    fetching f = {.cookie = cookie, .call = call, .only_look = true};
    kaena_err local;
    err = err ? err : &local;
    kaena_status status = fetch(client, &f, err);
    bool not_yet = status == KAENA_FAILED_PRECONDITION && err->reason == KAENA_REASON_NOT_DONE;
    if (status == KAENA_OK || not_yet)
        *out_done = !not_yet;
    return not_yet ? KAENA_OK : status;
}
