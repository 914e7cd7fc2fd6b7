#include "client_infer.h"

#include <stdlib.h>
#include <string.h>

#include "client_loop.h"
#include "kaena/v1/runtime.pb-c.h"

/* ---- What is shared ---- */

static bool is_large(size_t bytes)
{
    return bytes >= KAENA_POOL_LEAST_BYTES;
}

static bool is_plain(kaena_kind kind, kaena_dtype dtype)
{
    return kind == KAENA_TENSOR && dtype != KAENA_STRING;
}

/* What the model says of output |i| of the call, or NULL. */
static const kaena_tensor_info *output_info(const kaena_inference *inf, size_t i)
{
    const kaena_model_info *info = inf->model ? inf->model->info : NULL;
    const char *name = inf->call->outputs[i].name;
    if (!info)
        return NULL;
    if (!name)
        return i < info->output_count ? &info->outputs[i] : NULL;
    for (size_t k = 0; k < info->output_count; k++)
        if (strcmp(info->outputs[k].name, name) == 0)
            return &info->outputs[k];
    return NULL;
}

/* How much room output |i| gets in shared memory, and the name the daemon knows it by; 0: it is
 * sent. */
static size_t room_of(const kaena_inference *inf, size_t i, const char **name)
{
    const kaena_tensor *t = &inf->call->outputs[i];
    const kaena_tensor_info *info = output_info(inf, i);
    *name = info ? info->name : t->name;
    if (!*name || (info && !is_plain(info->kind, info->dtype)))
        return 0;
    size_t bytes = info && info->bytes ? info->bytes : t->data ? t->bytes : 0;
    /* Too small a buffer is told when the answer is there. */
    return is_large(bytes) ? bytes : 0;
}

static bool wants_shares(const kaena_inference *inf)
{
    const kaena_infer_call *call = inf->call;
    const char *name;
    for (size_t i = 0; i < call->input_count; i++) {
        const kaena_tensor *t = &call->inputs[i];
        if (t->memory || (is_plain(t->kind, t->dtype) && is_large(t->bytes) && t->data))
            return true;
    }
    for (size_t i = 0; i < call->output_count; i++)
        if (call->outputs[i].memory || room_of(inf, i, &name))
            return true;
    return false;
}

static kaena_shares *make_shares(size_t n_in, size_t n_out)
{
    /* One allocation for all arrays. */
    size_t pointers = n_in + 2 * n_out, all = n_in + n_out;
    kaena_shares *s = calloc(1, sizeof *s + pointers * sizeof(void *) + n_out * sizeof(size_t) +
                                    all * sizeof(kaena_wire_range) + 2 * n_out * sizeof(void *));
    if (!s)
        return NULL;
    s->ranges = (kaena_wire_range *)(void *)(s + 1);
    s->copies = (kaena_memory **)(void *)(s->ranges + all);
    s->rooms = s->copies + n_in;
    s->replaced = s->rooms + n_out;
    s->room_bytes = (size_t *)(void *)(s->replaced + n_out);
    s->names = (const char **)(void *)(s->room_bytes + n_out);
    s->data = (void **)(void *)(s->names + n_out);
    s->wire = (kaena_wire_shared){s->ranges, s->ranges + n_in, s->names, s->data};
    return s;
}

void kaena_inference_init(kaena_inference *inf, kaena_client *client, kaena_infer_call *call,
                          kaena_model *model, bool may_grow)
{
    *inf = (kaena_inference){
        .client = client, .call = call, .model = model, .made = *call, .may_grow = may_grow};
    if (model)
        inf->made.model = model->info->name;
    if (!client->pool || !wants_shares(inf))
        return;
    kaena_shares *s = make_shares(call->input_count, call->output_count);
    if (!s)
        return; /* then everything is sent */
    inf->shares = s;
    for (size_t i = 0; i < call->input_count; i++) {
        const kaena_tensor *t = &call->inputs[i];
        if (t->memory || !is_plain(t->kind, t->dtype) || !is_large(t->bytes) || !t->data)
            continue;
        s->copies[i] = kaena_pool_take(client->pool, t->bytes, may_grow);
        if (s->copies[i])
            memcpy(kaena_memory_data(s->copies[i]), t->data, t->bytes);
    }
    for (size_t i = 0; i < call->output_count; i++) {
        s->replaced[i] = call->outputs[i].memory;
        s->room_bytes[i] = room_of(inf, i, &s->names[i]);
        /* Now, for the first attempt: later nothing may be made. */
        if (s->room_bytes[i])
            s->rooms[i] = kaena_pool_take(client->pool, s->room_bytes[i], may_grow);
    }
}

void kaena_inference_fini(kaena_inference *inf)
{
    kaena_shares *s = inf->shares;
    for (size_t i = 0; s && i < inf->made.input_count; i++)
        kaena_pool_give(s->copies[i], false);
    for (size_t i = 0; s && i < inf->made.output_count; i++)
        kaena_pool_give(s->rooms[i], false);
    free(s);
    inf->shares = NULL;
}

/* Where everything that is shared lies for |daemon|. False: nothing does. */
static bool share_with(kaena_inference *inf, size_t daemon)
{
    kaena_shares *s = inf->shares;
    size_t n_in = inf->made.input_count;
    bool any = false;
    if (kaena_session_current(inf->client, daemon, s->token) == 0)
        return false;
    for (size_t i = 0; i < n_in; i++) {
        const kaena_tensor *t = &inf->made.inputs[i];
        const kaena_memory *m = s->copies[i] ? s->copies[i] : t->memory;
        const void *data = s->copies[i] ? kaena_memory_data(m) : t->data;
        s->ranges[i].region = 0;
        any |= m && is_plain(t->kind, t->dtype) && t->bytes &&
               kaena_memory_range(m, daemon, data, t->bytes, &s->ranges[i]);
    }
    for (size_t i = 0; i < inf->made.output_count; i++) {
        s->ranges[n_in + i].region = 0;
        if (!s->room_bytes[i])
            continue;
        if (!s->rooms[i])
            s->rooms[i] = kaena_pool_take(inf->client->pool, s->room_bytes[i], inf->may_grow);
        kaena_memory *m = s->rooms[i];
        s->data[i] = m ? kaena_memory_data(m) : NULL;
        any |=
            m && kaena_memory_range(m, daemon, s->data[i], s->room_bytes[i], &s->ranges[n_in + i]);
    }
    return any;
}

bool kaena_inference_is_small(const kaena_inference *inf, size_t most)
{
    const kaena_model_info *info = inf->model ? inf->model->info : NULL;
    size_t in = 0, out = 0;
    if (inf->shares || !info)
        return false;
    for (size_t i = 0; i < inf->made.input_count; i++) {
        const kaena_tensor *t = &inf->made.inputs[i];
        if (!is_plain(t->kind, t->dtype) || t->bytes > most)
            return false;
        in += t->bytes;
    }
    for (size_t i = 0; i < info->output_count; i++) {
        if (!info->outputs[i].bytes || info->outputs[i].bytes > most)
            return false;
        out += info->outputs[i].bytes;
    }
    return in <= most && out <= most;
}

/* ---- One attempt ---- */

kaena_status kaena_inference_encode(kaena_inference *inf, kaena_target *target, kaena_wire_pin *pin,
                                    grpc_byte_buffer **out_request, kaena_err *err)
{
    bool shared = inf->shares && share_with(inf, target->daemon);
    target->session = shared ? inf->shares->token : NULL;
    if (pin && !kaena_conn_is_ours(target->conn))
        pin = NULL;
    return kaena_wire_encode_infer(&inf->made, shared ? &inf->shares->wire : NULL, pin, out_request,
                                   err);
}

/* Outputs that lie in shared memory are the caller's now, in place of what he had. */
static void hand_over(kaena_inference *inf)
{
    kaena_shares *s = inf->shares;
    for (size_t i = 0; i < inf->made.output_count; i++) {
        kaena_tensor *t = &inf->call->outputs[i];
        if (s->rooms[i] && t->data == s->data[i]) {
            t->memory = s->rooms[i];
            s->rooms[i] = NULL;
        }
        kaena_pool_give(s->replaced[i], false);
        s->replaced[i] = NULL;
    }
}

kaena_status kaena_inference_decode(kaena_inference *inf, const kaena_target *target,
                                    grpc_byte_buffer *answer, kaena_err *err)
{
    KAENA_TRY(kaena_wire_decode_infer(answer, &inf->made,
                                      target->session ? &inf->shares->wire : NULL, err));
    if (inf->shares)
        hand_over(inf);
    kaena_router_waited(&inf->client->router, target->daemon, (int64_t)inf->made.queue_ns,
                        kaena_now_ns());
    if (inf->model)
        atomic_fetch_add(&inf->model->replicas.slots[target->daemon].answered, 1);
    inf->call->queue_ns = inf->made.queue_ns;
    inf->call->execute_ns = inf->made.execute_ns;
    return KAENA_OK;
}

void kaena_inference_over(kaena_inference *inf, const kaena_target *target, kaena_status status,
                          kaena_outcome *outcome, const kaena_err *err)
{
    kaena_shares *s = inf->shares;
    if (!s)
        return;
    /* The daemon may still write an answer that nobody waits for. */
    bool dirty = status == KAENA_DEADLINE_EXCEEDED || status == KAENA_CANCELLED ||
                 (status != KAENA_OK && *outcome == KAENA_OUTCOME_LOST);
    for (size_t i = 0; i < inf->made.output_count; i++) {
        if (!dirty || !target->session || !s->wire.outputs[i].region)
            continue;
        kaena_pool_give(s->rooms[i], true);
        s->rooms[i] = NULL;
    }
    if (status != KAENA_OK && err->reason == KAENA__V1__ERROR_DETAIL__REASON__BAD_REGION) {
        kaena_pool_distrust(inf->client->pool, target->daemon);
        *outcome = KAENA_OUTCOME_LATER;
    }
}

static kaena_status attempt_infer(const kaena_target *given, void *user, kaena_outcome *outcome,
                                  kaena_err *err)
{
    kaena_inference *inf = user;
    kaena_target target = *given;
    kaena_wire_pin pin = {0};
    grpc_byte_buffer *request, *answer;
    *outcome = KAENA_OUTCOME_FINAL;
    kaena_status status = kaena_inference_encode(inf, &target, &pin, &request, err);
    if (status == KAENA_OK)
        status = kaena_exchange(&target, "Infer", request, &pin, &answer, outcome, err);
    if (status == KAENA_OK) {
        *outcome = KAENA_OUTCOME_FINAL;
        status = kaena_inference_decode(inf, &target, answer, err);
        grpc_byte_buffer_destroy(answer);
    }
    kaena_inference_over(inf, &target, status, outcome, err);
    return status;
}

/* ---- Calls that wait ---- */

kaena_status kaena_infer_call_check(const kaena_infer_call *call, kaena_err *err)
{
    if (call->size < sizeof *call)
        return KAENA_FAIL(err, INVALID_ARGUMENT, "kaena_infer_call: size %u is not %zu", call->size,
                          sizeof *call);
    return KAENA_OK;
}

static kaena_status infer(kaena_client *client, kaena_model *model, kaena_infer_call *call,
                          kaena_err *err)
{
    KAENA_TRY(kaena_infer_call_check(call, err));
    kaena_inference inf;
    int64_t deadline_ns = kaena_deadline(call->timeout_ms, client->timeout_ms);
    kaena_inference_init(&inf, client, call, model, true);
    kaena_status status = kaena_route_call(client, model ? &model->replicas.places : NULL,
                                           attempt_infer, &inf, true, deadline_ns, err);
    kaena_inference_fini(&inf);
    return status;
}

kaena_status kaena_infer(kaena_client *client, kaena_infer_call *call, kaena_err *err)
{
    return infer(client, NULL, call, err);
}

kaena_status kaena_model_infer(kaena_model *model, kaena_infer_call *call, kaena_err *err)
{
    return infer(model->client, model, call, err);
}

/* ---- Requests ---- */

kaena_model *kaena_lane_model(kaena_lane *lane)
{
    return (kaena_model *)(void *)((char *)lane - offsetof(kaena_model, lane));
}

static kaena_status open_lane(kaena_model *model, kaena_err *err)
{
    KAENA_TRY(kaena_loop_start(model->client, err));
    pthread_mutex_lock(&model->client->lock);
    if (!model->lane.async)
        kaena_lane_init(&model->lane, kaena_loop_async(model->client), &model->replicas.places);
    pthread_mutex_unlock(&model->client->lock);
    return KAENA_OK;
}

kaena_status kaena_model_submit(kaena_model *model, kaena_infer_call *call, kaena_done *done,
                                void *user, kaena_request **out, kaena_err *err)
{
    KAENA_TRY(kaena_infer_call_check(call, err));
    if (!done && !out)
        return KAENA_FAIL(err, INVALID_ARGUMENT,
                          "neither a callback nor a handle: nobody would see the answer");
    KAENA_TRY(open_lane(model, err));
    kaena_inference *inf = malloc(sizeof *inf);
    if (!inf)
        return KAENA_FAIL(err, RESOURCE_EXHAUSTED, "out of memory");
    int64_t deadline_ns = kaena_deadline(call->timeout_ms, model->client->timeout_ms);
    kaena_inference_init(inf, model->client, call, model, !kaena_loop_is_here(model->client));
    inf->may_grow = false; /* from now on the loop carries it */
    kaena_status status = kaena_async_submit(&model->lane, inf, deadline_ns, done, user, out, err);
    if (status != KAENA_OK) {
        kaena_inference_fini(inf);
        free(inf);
    }
    return status;
}
