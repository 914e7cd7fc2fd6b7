#include "client_ask.h"

#include "client_info.h"
#include "kaena/v1/runtime.pb-c.h"

kaena_status kaena_take_answer(const kaena_ask *ask, grpc_byte_buffer *answer, const char *address,
                               kaena_err *err)
{
    ProtobufCMessage *message = kaena_unpack(answer, ask->answer_type);
    grpc_byte_buffer_destroy(answer);
    if (!message)
        return KAENA_FAIL(err, INTERNAL, "the daemon at %s did not answer %s with a %s", address,
                          ask->method, ask->answer_type->name);
    kaena_status status = ask->take ? ask->take(message, address, ask->to, err) : KAENA_OK;
    protobuf_c_message_free_unpacked(message, NULL);
    return status;
}

kaena_status kaena_attempt_ask(const kaena_target *target, void *user, kaena_outcome *outcome,
                               kaena_err *err)
{
    const kaena_ask *ask = user;
    grpc_byte_buffer *answer;
    KAENA_TRY(
        kaena_exchange(target, ask->method, kaena_pack(ask->request), NULL, &answer, outcome, err));
    *outcome = KAENA_OUTCOME_FINAL;
    return kaena_take_answer(ask, answer, kaena_conn_address(target->conn), err);
}

kaena_status kaena_ask_routed(kaena_client *client, kaena_ask *ask, bool changes, kaena_err *err)
{
    return kaena_route_call(client, NULL, kaena_attempt_ask, ask, !changes,
                            kaena_deadline(0, client->timeout_ms), err);
}

kaena_status kaena_ask_all(kaena_client *client, kaena_ask *ask, size_t *out_unreachable,
                           kaena_err *err)
{
    kaena_err first;
    size_t failed = 0;
    int64_t deadline_ns = kaena_deadline(0, client->timeout_ms);
    /* One attempt on each, so that a daemon that is away does not keep the others waiting. */
    for (size_t i = 0; i < client->router.count; i++) {
        kaena_outcome outcome;
        kaena_err failure;
        kaena_err_init(&failure);
        if (kaena_attempt_on(client, i, deadline_ns, NULL, kaena_attempt_ask, ask, &outcome,
                             &failure) != KAENA_OK &&
            failed++ == 0)
            first = failure;
    }
    *out_unreachable = failed;
    if (failed < client->router.count)
        return KAENA_OK;
    if (err)
        *err = first;
    return (kaena_status)first.code;
}

/* ---- Models ---- */

static kaena_status take_model(const Kaena__V1__Model *model, const char *address,
                               kaena_model_info **to, kaena_err *err)
{
    if (!model)
        return KAENA_FAIL(err, INTERNAL, "the daemon at %s described no model", address);
    if (!to)
        return KAENA_OK;
    *to = kaena_model_info_from_wire(model, address);
    return *to ? KAENA_OK : KAENA_FAIL(err, RESOURCE_EXHAUSTED, "out of memory");
}

kaena_status kaena_take_got_model(const ProtobufCMessage *answer, const char *address, void *to,
                                  kaena_err *err)
{
    return take_model(((const Kaena__V1__GetModelResponse *)answer)->model, address, to, err);
}

kaena_status kaena_take_loaded_model(const ProtobufCMessage *answer, const char *address, void *to,
                                     kaena_err *err)
{
    return take_model(((const Kaena__V1__LoadResponse *)answer)->model, address, to, err);
}

static kaena_status take_models(const ProtobufCMessage *answer, const char *address, void *to,
                                kaena_err *err)
{
    const Kaena__V1__ListModelsResponse *list = (const Kaena__V1__ListModelsResponse *)answer;
    for (size_t i = 0; i < list->n_models; i++)
        if (!kaena_model_list_add(to, kaena_model_info_from_wire(list->models[i], address)))
            return KAENA_FAIL(err, RESOURCE_EXHAUSTED, "out of memory");
    return KAENA_OK;
}

kaena_status kaena_model_info_get(kaena_client *client, const char *name, kaena_model_info **out,
                                  kaena_err *err)
{
    Kaena__V1__GetModelRequest request = KAENA__V1__GET_MODEL_REQUEST__INIT;
    request.name = (char *)name;
    kaena_ask ask = {"GetModel", &request.base, &kaena__v1__get_model_response__descriptor,
                     kaena_take_got_model, out};
    return kaena_ask_routed(client, &ask, false, err);
}

kaena_status kaena_model_unload(kaena_client *client, const char *name, kaena_err *err)
{
    Kaena__V1__UnloadRequest request = KAENA__V1__UNLOAD_REQUEST__INIT;
    request.name = (char *)name;
    kaena_ask ask = {"Unload", &request.base, &kaena__v1__unload_response__descriptor, NULL, NULL};
    return kaena_ask_routed(client, &ask, true, err);
}

kaena_status kaena_model_list_get(kaena_client *client, kaena_model_list **out, kaena_err *err)
{
    Kaena__V1__ListModelsRequest request = KAENA__V1__LIST_MODELS_REQUEST__INIT;
    kaena_model_list *list = kaena_model_list_create();
    if (!list)
        return KAENA_FAIL(err, RESOURCE_EXHAUSTED, "out of memory");
    kaena_ask ask = {"ListModels", &request.base, &kaena__v1__list_models_response__descriptor,
                     take_models, list};
    kaena_status status = kaena_ask_all(client, &ask, &list->unreachable, err);
    if (status == KAENA_OK)
        *out = list;
    else
        kaena_model_list_free(list);
    return status;
}

/* ---- Devices ---- */

static kaena_status take_devices(const ProtobufCMessage *answer, const char *address, void *to,
                                 kaena_err *err)
{
    if (!kaena_device_list_add(to, (const Kaena__V1__ListDevicesResponse *)answer, address))
        return KAENA_FAIL(err, RESOURCE_EXHAUSTED, "out of memory");
    return KAENA_OK;
}

kaena_status kaena_device_list_get(kaena_client *client, kaena_device_list **out, kaena_err *err)
{
    Kaena__V1__ListDevicesRequest request = KAENA__V1__LIST_DEVICES_REQUEST__INIT;
    kaena_device_list *list = kaena_device_list_create();
    if (!list)
        return KAENA_FAIL(err, RESOURCE_EXHAUSTED, "out of memory");
    kaena_ask ask = {"ListDevices", &request.base, &kaena__v1__list_devices_response__descriptor,
                     take_devices, list};
    kaena_status status = kaena_ask_all(client, &ask, &list->unreachable, err);
    if (status == KAENA_OK)
        *out = list;
    else
        kaena_device_list_free(list);
    return status;
}
