#include "client_call.h"

#include <grpc/byte_buffer_reader.h>
#include <grpc/support/alloc.h>
#include <grpc/support/time.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "google/rpc/status.pb-c.h"
#include "kaena/v1/runtime.pb-c.h"

#define SERVICE "/kaena.v1.Runtime/"
#define DETAIL_TYPE "kaena.v1.ErrorDetail"
#define NS_PER_MS 1000000LL
/* How long a finished call waits for gRPC to let go of the caller's tensors before it cuts the
 * connection. */
#define PIN_GRACE_MS 50
/* How soon a call notices that it is to stop. */
#define STOP_POLL_MS 20

int64_t kaena_deadline(int64_t timeout_ms, int64_t otherwise_ms)
{
    const int64_t most_ms = INT64_C(1000) * 3600 * 24 * 365;
    int64_t ms = timeout_ms > 0 ? timeout_ms : otherwise_ms;
    return kaena_now_ns() + (ms < most_ms ? ms : most_ms) * NS_PER_MS;
}

static grpc_completion_queue *take_queue(kaena_client *client)
{
    grpc_completion_queue *queue = NULL;
    pthread_mutex_lock(&client->lock);
    if (client->idle_count > 0)
        queue = client->idle[--client->idle_count];
    pthread_mutex_unlock(&client->lock);
    return queue ? queue : grpc_completion_queue_create_for_pluck(NULL);
}

static void give_queue(kaena_client *client, grpc_completion_queue *queue)
{
    pthread_mutex_lock(&client->lock);
    bool kept = client->idle_count < KAENA_CLIENT_IDLE_QUEUES;
    if (kept)
        client->idle[client->idle_count++] = queue;
    pthread_mutex_unlock(&client->lock);
    if (!kept) {
        grpc_completion_queue_shutdown(queue);
        grpc_completion_queue_destroy(queue);
    }
}

grpc_byte_buffer *kaena_pack(const ProtobufCMessage *message)
{
    grpc_slice slice = grpc_slice_malloc(protobuf_c_message_get_packed_size(message));
    (void)protobuf_c_message_pack(message, GRPC_SLICE_START_PTR(slice));
    grpc_byte_buffer *buffer = grpc_raw_byte_buffer_create(&slice, 1);
    grpc_slice_unref(slice);
    return buffer;
}

ProtobufCMessage *kaena_unpack(grpc_byte_buffer *buffer, const ProtobufCMessageDescriptor *type)
{
    grpc_byte_buffer_reader reader;
    if (!buffer || !grpc_byte_buffer_reader_init(&reader, buffer))
        return NULL;
    grpc_slice all = grpc_byte_buffer_reader_readall(&reader);
    ProtobufCMessage *message =
        protobuf_c_message_unpack(type, NULL, GRPC_SLICE_LENGTH(all), GRPC_SLICE_START_PTR(all));
    grpc_slice_unref(all);
    grpc_byte_buffer_reader_destroy(&reader);
    return message;
}

/* ---- One exchange ---- */

/* |key| is a literal. */
static void add_metadata(kaena_exchange_state *x, const char *key, const char *value)
{
    x->sent[x->sent_count++] = (grpc_metadata){.key = grpc_slice_from_static_string(key),
                                               .value = grpc_slice_from_copied_string(value)};
}

kaena_status kaena_exchange_begin(kaena_exchange_state *x, const kaena_target *target,
                                  const char *method, grpc_completion_queue *queue, kaena_err *err)
{
    kaena_client *client = target->client;
    char path[128];
    (void)snprintf(path, sizeof path, "%s%s", *method == '/' ? "" : SERVICE, method);
    *x = (kaena_exchange_state){.target = target, .queue = queue, .message = grpc_empty_slice()};
    grpc_metadata_array_init(&x->initial);
    grpc_metadata_array_init(&x->trailing);
    grpc_slice name = grpc_slice_from_copied_string(path);
    x->call =
        grpc_channel_create_call(kaena_conn_channel(target->conn), NULL, GRPC_PROPAGATE_DEFAULTS,
                                 x->queue, name, NULL, kaena_gpr_time(target->deadline_ns), NULL);
    grpc_slice_unref(name);
    if (!x->call)
        return KAENA_FAIL(err, INTERNAL, "gRPC made no call");
    (void)snprintf(x->id, sizeof x->id, "%016llx",
                   (unsigned long long)(client->id_base + atomic_fetch_add(&client->id_next, 1)));
    add_metadata(x, "kaena-request-id", x->id);
    if (target->session)
        add_metadata(x, "kaena-session", target->session);
    return KAENA_OK;
}

/* A finished call may leave slices of the caller's tensors in the connection's output, when the
 * daemon stopped reading. Nobody else may be polling the connection, so it is polled here, and cut
 * when that does not help. */
static void wait_for_pin(kaena_exchange_state *x, const kaena_wire_pin *pin)
{
    int64_t cut_at = kaena_now_ns() + PIN_GRACE_MS * NS_PER_MS;
    while (atomic_load(&pin->slices) > 0) {
        if (kaena_now_ns() > cut_at)
            kaena_conn_cut(x->target->conn);
        (void)grpc_completion_queue_pluck(x->queue, x, kaena_gpr_time(kaena_now_ns() + NS_PER_MS),
                                          NULL);
    }
}

void kaena_exchange_end(kaena_exchange_state *x)
{
    grpc_call_unref(x->call);
    if (x->answer)
        grpc_byte_buffer_destroy(x->answer);
    grpc_metadata_array_destroy(&x->initial);
    grpc_metadata_array_destroy(&x->trailing);
    grpc_slice_unref(x->message);
    for (size_t i = 0; i < x->sent_count; i++)
        grpc_slice_unref(x->sent[i].value);
}

/* Runs operations to their end; false: the stream is over. The queue holds one call, so a tag is
 * any address. */
static bool run_ops(kaena_exchange_state *x, const grpc_op *ops, size_t count)
{
    if (grpc_call_start_batch(x->call, ops, count, x, NULL) != GRPC_CALL_OK)
        return false;
    const atomic_bool *stop = x->target->stop;
    for (bool cancelled = false;;) {
        gpr_timespec until = stop && !cancelled
                                 ? kaena_gpr_time(kaena_now_ns() + STOP_POLL_MS * NS_PER_MS)
                                 : gpr_inf_future(GPR_CLOCK_REALTIME);
        grpc_event event = grpc_completion_queue_pluck(x->queue, x, until, NULL);
        if (event.type == GRPC_OP_COMPLETE)
            return event.success != 0;
        if (atomic_load(stop)) {
            (void)grpc_call_cancel(x->call, NULL);
            cancelled = true;
        }
    }
}

/* Ends an exchange of this thread. */
static void end_here(kaena_exchange_state *x, const kaena_wire_pin *pin)
{
    kaena_exchange_end(x);
    if (pin)
        wait_for_pin(x, pin);
    give_queue(x->target->client, x->queue);
}

static grpc_op send_metadata_op(kaena_exchange_state *x)
{
    return (grpc_op){.op = GRPC_OP_SEND_INITIAL_METADATA,
                     .data.send_initial_metadata = {.count = x->sent_count, .metadata = x->sent}};
}

static grpc_op send_message_op(grpc_byte_buffer *message)
{
    return (grpc_op){.op = GRPC_OP_SEND_MESSAGE, .data.send_message.send_message = message};
}

/* The operations that receive; |ops| has room for three. */
static void receive_ops(kaena_exchange_state *x, grpc_op *ops)
{
    ops[0] = (grpc_op){.op = GRPC_OP_RECV_INITIAL_METADATA,
                       .data.recv_initial_metadata.recv_initial_metadata = &x->initial};
    ops[1] = (grpc_op){.op = GRPC_OP_RECV_MESSAGE, .data.recv_message.recv_message = &x->answer};
    ops[2] = (grpc_op){.op = GRPC_OP_RECV_STATUS_ON_CLIENT,
                       .data.recv_status_on_client = {.trailing_metadata = &x->trailing,
                                                      .status = &x->code,
                                                      .status_details = &x->message}};
}

void kaena_detail_read(const Kaena__V1__ErrorDetail *detail, kaena_err *err)
{
    if (!detail)
        return;
    /* The status' own text has the hint in it. */
    if (*detail->what)
        (void)kaena_err_set(err, (kaena_status)err->code, "%s", detail->what);
    err->reason = (int32_t)detail->reason;
    err->needed = detail->needed;
    err->available = detail->available;
    kaena_err_hint(err, "%s", detail->hint);
}

/* Fills |err| from google.rpc.Status; false: the daemon sent none. */
static bool decode_details(const kaena_exchange_state *x, kaena_err *err)
{
    Google__Rpc__Status *status = NULL;
    for (size_t i = 0; i < x->trailing.count && !status; i++)
        if (grpc_slice_str_cmp(x->trailing.metadata[i].key, "grpc-status-details-bin") == 0) {
            const grpc_slice *value = &x->trailing.metadata[i].value;
            status = google__rpc__status__unpack(NULL, GRPC_SLICE_LENGTH(*value),
                                                 GRPC_SLICE_START_PTR(*value));
        }
    Kaena__V1__ErrorDetail *detail = NULL;
    for (size_t i = 0; status && i < status->n_details && !detail; i++) {
        const char *slash = strrchr(status->details[i]->type_url, '/');
        if (strcmp(slash ? slash + 1 : status->details[i]->type_url, DETAIL_TYPE) == 0)
            detail = kaena__v1__error_detail__unpack(NULL, status->details[i]->value.len,
                                                     status->details[i]->value.data);
    }
    kaena_detail_read(detail, err);
    if (detail)
        kaena__v1__error_detail__free_unpacked(detail, NULL);
    if (status)
        google__rpc__status__free_unpacked(status, NULL);
    return detail != NULL;
}

kaena_outcome kaena_outcome_of(const kaena_err *err)
{
    switch (err->reason) {
    case KAENA__V1__ERROR_DETAIL__REASON__NOT_ACCEPTED:
    case KAENA__V1__ERROR_DETAIL__REASON__NO_SESSION:
        return KAENA_OUTCOME_LATER;
    case KAENA__V1__ERROR_DETAIL__REASON__DRAINING:
        return KAENA_OUTCOME_DRAINING;
    case KAENA__V1__ERROR_DETAIL__REASON__QUEUE_FULL:
    case KAENA__V1__ERROR_DETAIL__REASON__NO_MEMORY:
    case KAENA__V1__ERROR_DETAIL__REASON__NO_TPBS:
    case KAENA__V1__ERROR_DETAIL__REASON__LIMIT:
        return KAENA_OUTCOME_REFUSED;
    case KAENA__V1__ERROR_DETAIL__REASON__MODEL_UNLOADED: /* it waited and did not run */
        return KAENA_OUTCOME_MISSING;
    default:
        return err->code == KAENA_NOT_FOUND ? KAENA_OUTCOME_MISSING : KAENA_OUTCOME_FINAL;
    }
}

kaena_status kaena_exchange_finish(const kaena_exchange_state *x, kaena_outcome *outcome,
                                   kaena_err *err)
{
    kaena_conn *conn = x->target->conn;
    kaena_err local;
    if (!err)
        err = &local;
    if (x->code == GRPC_STATUS_OK) {
        if (x->answer)
            return KAENA_OK;
        *outcome = KAENA_OUTCOME_FINAL;
        return KAENA_FAIL(err, INTERNAL, "the daemon at %s sent success without an answer",
                          kaena_conn_address(conn));
    }
    char *text = grpc_slice_to_c_string(x->message);
    kaena_status code = (kaena_status)x->code;
    (void)kaena_err_set(err, code, "%s", text);
    bool detailed = decode_details(x, err);
    *outcome = kaena_outcome_of(err);
    if (!detailed && code == KAENA_DEADLINE_EXCEEDED) {
        (void)kaena_err_set(err, code, "the daemon at %s did not answer in time",
                            kaena_conn_address(conn));
    } else if (!detailed && (code == KAENA_UNAVAILABLE || !kaena_conn_alive(conn))) {
        code = kaena_err_set(err, KAENA_UNAVAILABLE,
                             "the connection to %s broke before the answer came (%s)",
                             kaena_conn_address(conn), text);
        kaena_err_hint(err, "the daemon may have died or been restarted: its log says");
        kaena_conn_cut(conn);
        *outcome = KAENA_OUTCOME_LOST;
    }
    memcpy(err->request_id, x->id, sizeof x->id);
    gpr_free(text);
    return code;
}

void kaena_exchange_ops(kaena_exchange_state *x, grpc_byte_buffer *request,
                        grpc_op ops[KAENA_EXCHANGE_OPS])
{
    ops[0] = send_metadata_op(x);
    ops[1] = send_message_op(request);
    ops[2] = (grpc_op){.op = GRPC_OP_SEND_CLOSE_FROM_CLIENT};
    receive_ops(x, ops + 3);
}

/* Begins an exchange that this thread polls. */
static kaena_status begin_here(kaena_exchange_state *x, const kaena_target *target,
                               const char *method, kaena_err *err)
{
    grpc_completion_queue *queue = take_queue(target->client);
    kaena_status status = kaena_exchange_begin(x, target, method, queue, err);
    if (status != KAENA_OK)
        give_queue(target->client, queue);
    return status;
}

kaena_status kaena_exchange(const kaena_target *target, const char *method,
                            grpc_byte_buffer *request, const kaena_wire_pin *pin,
                            grpc_byte_buffer **out_answer, kaena_outcome *outcome, kaena_err *err)
{
    kaena_exchange_state x;
    *outcome = KAENA_OUTCOME_FINAL;
    kaena_status status = begin_here(&x, target, method, err);
    if (status != KAENA_OK) {
        grpc_byte_buffer_destroy(request);
        return status;
    }
    grpc_op ops[KAENA_EXCHANGE_OPS];
    kaena_exchange_ops(&x, request, ops);
    (void)run_ops(&x, ops, KAENA_EXCHANGE_OPS);
    grpc_byte_buffer_destroy(request);
    status = kaena_exchange_finish(&x, outcome, err);
    if (status == KAENA_OK) {
        *out_answer = x.answer;
        x.answer = NULL;
    }
    end_here(&x, pin);
    return status;
}

kaena_status kaena_exchange_stream(const kaena_target *target, const char *method,
                                   kaena_next_message next, void *user,
                                   grpc_byte_buffer **out_answer, kaena_outcome *outcome,
                                   kaena_err *err)
{
    kaena_exchange_state x;
    *outcome = KAENA_OUTCOME_FINAL;
    KAENA_TRY(begin_here(&x, target, method, err));
    grpc_op op = send_metadata_op(&x);
    bool open = run_ops(&x, &op, 1);
    kaena_status own = KAENA_OK;
    while (open) {
        grpc_byte_buffer *message = NULL;
        own = next(user, &message, err);
        if (own != KAENA_OK) {
            (void)grpc_call_cancel(x.call, NULL);
            break;
        }
        op = message ? send_message_op(message) : (grpc_op){.op = GRPC_OP_SEND_CLOSE_FROM_CLIENT};
        open = run_ops(&x, &op, 1) && message;
        if (message)
            grpc_byte_buffer_destroy(message);
    }
    grpc_op ops[3];
    receive_ops(&x, ops);
    (void)run_ops(&x, ops, 3);
    kaena_status status = own != KAENA_OK ? own : kaena_exchange_finish(&x, outcome, err);
    if (status == KAENA_OK) {
        *out_answer = x.answer;
        x.answer = NULL;
    }
    end_here(&x, NULL);
    return status;
}

/* ---- Routing ---- */

kaena_status kaena_target_open(kaena_target *target, kaena_client *client, size_t daemon,
                               int64_t deadline_ns, const atomic_bool *stop, kaena_outcome *outcome,
                               kaena_err *err)
{
    *target = (kaena_target){
        .client = client, .daemon = daemon, .deadline_ns = deadline_ns, .stop = stop};
    kaena_status status =
        kaena_endpoint_acquire(&client->endpoints[daemon], deadline_ns, &target->conn, err);
    /* Without descriptors of our own nothing is said about the daemon. */
    *outcome = status == KAENA_OK || status == KAENA_INVALID_ARGUMENT ? KAENA_OUTCOME_FINAL
               : status == KAENA_RESOURCE_EXHAUSTED                   ? KAENA_OUTCOME_LATER
                                                                      : KAENA_OUTCOME_ABSENT;
    return status;
}

void kaena_target_close(kaena_target *target)
{
    kaena_conn_release(target->conn);
    target->conn = NULL;
}

kaena_status kaena_attempt_on(kaena_client *client, size_t daemon, int64_t deadline_ns,
                              const atomic_bool *stop, kaena_attempt attempt, void *user,
                              kaena_outcome *outcome, kaena_err *err)
{
    kaena_target target;
    KAENA_TRY(kaena_target_open(&target, client, daemon, deadline_ns, stop, outcome, err));
    kaena_status status = attempt(&target, user, outcome, err);
    kaena_target_close(&target);
    return status;
}

typedef struct routed {
    kaena_client *client;
    kaena_attempt attempt;
    void *user;
} routed;

static kaena_status attempt_routed(void *user, size_t daemon, int64_t deadline_ns,
                                   kaena_outcome *outcome, kaena_err *err)
{
    const routed *r = user;
    return kaena_attempt_on(r->client, daemon, deadline_ns, NULL, r->attempt, r->user, outcome,
                            err);
}

kaena_status kaena_route_call(kaena_client *client, kaena_places *places, kaena_attempt attempt,
                              void *user, bool may_repeat, int64_t deadline_ns, kaena_err *err)
{
    const kaena_route_options options = {.places = places,
                                         .deadline_ns = deadline_ns,
                                         .may_repeat = may_repeat,
                                         .fail_fast = client->fail_fast};
    routed r = {client, attempt, user};
    kaena_route route;
    kaena_route_init(&route, &client->router, &options);
    return kaena_route_run(&route, attempt_routed, &r, err);
}
