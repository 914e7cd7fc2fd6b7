#include "client_infer.h"

#include "client_loop.h"

void kaena_inference_init(kaena_inference *inf, kaena_infer_call *call, kaena_model *model)
{
    *inf = (kaena_inference){.call = call, .model = model, .made = *call};
    if (model)
        inf->made.model = model->info->name;
}

kaena_status kaena_inference_encode(kaena_inference *inf, const kaena_target *target,
                                    kaena_wire_pin *pin, grpc_byte_buffer **out_request,
                                    kaena_err *err)
{
    (void)target;
    return kaena_wire_encode_infer(&inf->made, pin, out_request, err);
}

kaena_status kaena_inference_decode(kaena_inference *inf, const kaena_target *target,
                                    grpc_byte_buffer *answer, kaena_err *err)
{
    KAENA_TRY(kaena_wire_decode_infer(answer, &inf->made, err));
    kaena_router_waited(&target->client->router, target->daemon, (int64_t)inf->made.queue_ns,
                        kaena_now_ns());
    if (inf->model)
        atomic_fetch_add(&inf->model->replicas.slots[target->daemon].answered, 1);
    inf->call->queue_ns = inf->made.queue_ns;
    inf->call->execute_ns = inf->made.execute_ns;
    return KAENA_OK;
}

/* ---- Calls that wait ---- */

static kaena_status attempt_infer(const kaena_target *target, void *user, kaena_outcome *outcome,
                                  kaena_err *err)
{
    kaena_inference *inf = user;
    kaena_wire_pin pin = {0};
    grpc_byte_buffer *request, *answer;
    *outcome = KAENA_OUTCOME_FINAL;
    KAENA_TRY(kaena_inference_encode(inf, target, &pin, &request, err));
    KAENA_TRY(kaena_exchange(target, "Infer", request, &pin, &answer, outcome, err));
    *outcome = KAENA_OUTCOME_FINAL;
    kaena_status status = kaena_inference_decode(inf, target, answer, err);
    grpc_byte_buffer_destroy(answer);
    return status;
}

static kaena_status check_call(const kaena_infer_call *call, kaena_err *err)
{
    if (call->size < sizeof *call)
        return KAENA_FAIL(err, INVALID_ARGUMENT, "kaena_infer_call: size %u is not %zu", call->size,
                          sizeof *call);
    return KAENA_OK;
}

static kaena_status infer(kaena_client *client, kaena_model *model, kaena_infer_call *call,
                          kaena_err *err)
{
    KAENA_TRY(check_call(call, err));
    kaena_inference inf;
    kaena_inference_init(&inf, call, model);
    return kaena_route_call(client, model ? &model->replicas.places : NULL, attempt_infer, &inf,
                            true, kaena_deadline(call->timeout_ms, client->timeout_ms), err);
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
    return (kaena_model *)((char *)lane - offsetof(kaena_model, lane));
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
    KAENA_TRY(check_call(call, err));
    if (!done && !out)
        return KAENA_FAIL(err, INVALID_ARGUMENT,
                          "neither a callback nor a handle: nobody would see the answer");
    KAENA_TRY(open_lane(model, err));
    return kaena_async_submit(&model->lane, call,
                              kaena_deadline(call->timeout_ms, model->client->timeout_ms), done,
                              user, out, err);
}
