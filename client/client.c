/* The public calls: each builds a request and routes it. */
#include "kaena/client.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "client_address.h"
#include "client_call.h"
#include "client_model.h"
#include "client_wire.h"

#define DEFAULT_TIMEOUT_MS 30000
#define DEFAULT_LOAD_TIMEOUT_MS 300000
#define CHUNK_BYTES (1u << 20)

/* ---- Clients ---- */

kaena_status kaena_client_open(const kaena_client_options *options, kaena_client **out,
                               kaena_err *err)
{
    if (options && options->size < sizeof *options)
        return KAENA_FAIL(err, INVALID_ARGUMENT, "kaena_client_options: size %u is not %zu",
                          options->size, sizeof *options);
    kaena_addresses addresses;
    KAENA_TRY(kaena_addresses_find(options ? options->address : NULL, &addresses, err));
    kaena_client *client = calloc(1, sizeof *client);
    kaena_endpoint *endpoints = calloc(addresses.count, sizeof *endpoints);
    kaena_status status = KAENA_OK;
    if (!client || !endpoints)
        status = KAENA_FAIL(err, RESOURCE_EXHAUSTED, "out of memory");
    size_t made = 0;
    while (status == KAENA_OK && made < addresses.count) {
        status = kaena_endpoint_init(&endpoints[made], addresses.items[made], err);
        made += status == KAENA_OK;
    }
    kaena_addresses_fini(&addresses);
    if (status != KAENA_OK) {
        while (made > 0)
            kaena_endpoint_fini(&endpoints[--made]);
        free(endpoints);
        free(client);
        return status;
    }
    grpc_init();
    client->endpoints = endpoints;
    client->endpoint_count = made;
    client->timeout_ms =
        options && options->timeout_ms > 0 ? options->timeout_ms : DEFAULT_TIMEOUT_MS;
    client->fail_fast = options && options->fail_fast;
    pthread_mutex_init(&client->lock, NULL);
    *out = client;
    return KAENA_OK;
}

void kaena_client_close(kaena_client *client)
{
    if (!client)
        return;
    for (size_t i = 0; i < client->endpoint_count; i++)
        kaena_endpoint_fini(&client->endpoints[i]);
    for (size_t i = 0; i < client->idle_count; i++) {
        grpc_completion_queue_shutdown(client->idle[i]);
        grpc_completion_queue_destroy(client->idle[i]);
    }
    pthread_mutex_destroy(&client->lock);
    free(client->endpoints);
    free(client);
    grpc_shutdown();
}

void kaena_tensor_free(kaena_tensor *tensor)
{
    if (!tensor)
        return;
    kaena_tensor *items = tensor->kind == KAENA_TENSOR ? NULL : tensor->data;
    for (size_t i = 0; items && i < tensor->bytes / sizeof *items; i++)
        kaena_tensor_free(&items[i]);
    free(tensor->data);
    *tensor = (kaena_tensor){0};
}

/* ---- Small messages ---- */

/* A call whose request and answer go through protobuf-c. |take| turns the answer into what the
 * caller wants. */
typedef struct small_call {
    const char *method;
    const ProtobufCMessage *request;
    const ProtobufCMessageDescriptor *answer_type;
    kaena_status (*take)(const ProtobufCMessage *answer, const char *address, void *to,
                         kaena_err *err);
    void *to;
} small_call;

static kaena_status take_answer(const small_call *call, grpc_byte_buffer *answer,
                                const kaena_conn *conn, kaena_err *err)
{
    ProtobufCMessage *message = kaena_unpack(answer, call->answer_type);
    grpc_byte_buffer_destroy(answer);
    if (!message)
        return KAENA_FAIL(err, INTERNAL, "the daemon at %s did not answer %s with a %s",
                          kaena_conn_address(conn), call->method, call->answer_type->name);
    kaena_status status =
        call->take ? call->take(message, kaena_conn_address(conn), call->to, err) : KAENA_OK;
    protobuf_c_message_free_unpacked(message, NULL);
    return status;
}

static kaena_status attempt_small(kaena_client *client, kaena_conn *conn, int64_t deadline_ns,
                                  void *user, kaena_outcome *outcome, kaena_err *err)
{
    const small_call *call = user;
    grpc_byte_buffer *answer;
    KAENA_TRY(kaena_exchange(client, conn, call->method, kaena_pack(call->request), NULL,
                             deadline_ns, &answer, outcome, err));
    *outcome = KAENA_OUTCOME_FINAL;
    return take_answer(call, answer, conn, err);
}

/* Asks every daemon; succeeds when one answers and counts the others. */
static kaena_status ask_all(kaena_client *client, small_call *call, size_t *out_unreachable,
                            kaena_err *err)
{
    kaena_err first;
    size_t failed = 0;
    int64_t deadline_ns = kaena_deadline(0, client->timeout_ms);
    for (size_t i = 0; i < client->endpoint_count; i++) {
        /* A client of one daemon, so that a daemon that is away does not keep the others waiting.
         */
        kaena_conn *conn = NULL;
        kaena_outcome outcome;
        kaena_err failure;
        kaena_status status =
            kaena_endpoint_acquire(&client->endpoints[i], deadline_ns, &conn, &failure);
        if (status == KAENA_OK)
            status = attempt_small(client, conn, deadline_ns, call, &outcome, &failure);
        kaena_conn_release(conn);
        if (status != KAENA_OK && failed++ == 0)
            first = failure;
    }
    *out_unreachable = failed;
    if (failed < client->endpoint_count)
        return KAENA_OK;
    if (err)
        *err = first;
    return (kaena_status)first.code;
}

static kaena_status take_model(const Kaena__V1__Model *model, const char *address, kaena_model **to,
                               kaena_err *err)
{
    if (!model)
        return KAENA_FAIL(err, INTERNAL, "the daemon at %s described no model", address);
    if (!to)
        return KAENA_OK;
    *to = kaena_model_from_wire(model, address);
    return *to ? KAENA_OK : KAENA_FAIL(err, RESOURCE_EXHAUSTED, "out of memory");
}

static kaena_status take_got_model(const ProtobufCMessage *answer, const char *address, void *to,
                                   kaena_err *err)
{
    return take_model(((const Kaena__V1__GetModelResponse *)answer)->model, address, to, err);
}

static kaena_status take_loaded_model(const ProtobufCMessage *answer, const char *address, void *to,
                                      kaena_err *err)
{
    return take_model(((const Kaena__V1__LoadResponse *)answer)->model, address, to, err);
}

static kaena_status take_models(const ProtobufCMessage *answer, const char *address, void *to,
                                kaena_err *err)
{
    const Kaena__V1__ListModelsResponse *list = (const Kaena__V1__ListModelsResponse *)answer;
    for (size_t i = 0; i < list->n_models; i++)
        if (!kaena_model_list_add(to, kaena_model_from_wire(list->models[i], address)))
            return KAENA_FAIL(err, RESOURCE_EXHAUSTED, "out of memory");
    return KAENA_OK;
}

static kaena_status take_devices(const ProtobufCMessage *answer, const char *address, void *to,
                                 kaena_err *err)
{
    if (!kaena_device_list_add(to, (const Kaena__V1__ListDevicesResponse *)answer, address))
        return KAENA_FAIL(err, RESOURCE_EXHAUSTED, "out of memory");
    return KAENA_OK;
}

kaena_status kaena_model_get(kaena_client *client, const char *name, kaena_model **out,
                             kaena_err *err)
{
    Kaena__V1__GetModelRequest request = KAENA__V1__GET_MODEL_REQUEST__INIT;
    request.name = (char *)name;
    small_call call = {"GetModel", &request.base, &kaena__v1__get_model_response__descriptor,
                       take_got_model, out};
    return kaena_route(client, attempt_small, &call, true, kaena_deadline(0, client->timeout_ms),
                       err);
}

kaena_status kaena_model_unload(kaena_client *client, const char *name, kaena_err *err)
{
    Kaena__V1__UnloadRequest request = KAENA__V1__UNLOAD_REQUEST__INIT;
    request.name = (char *)name;
    small_call call = {"Unload", &request.base, &kaena__v1__unload_response__descriptor, NULL,
                       NULL};
    return kaena_route(client, attempt_small, &call, false, kaena_deadline(0, client->timeout_ms),
                       err);
}

kaena_status kaena_model_list_get(kaena_client *client, kaena_model_list **out, kaena_err *err)
{
    Kaena__V1__ListModelsRequest request = KAENA__V1__LIST_MODELS_REQUEST__INIT;
    kaena_model_list *list = kaena_model_list_create();
    if (!list)
        return KAENA_FAIL(err, RESOURCE_EXHAUSTED, "out of memory");
    small_call call = {"ListModels", &request.base, &kaena__v1__list_models_response__descriptor,
                       take_models, list};
    kaena_status status = ask_all(client, &call, &list->unreachable, err);
    if (status == KAENA_OK)
        *out = list;
    else
        kaena_model_list_free(list);
    return status;
}

kaena_status kaena_device_list_get(kaena_client *client, kaena_device_list **out, kaena_err *err)
{
    Kaena__V1__ListDevicesRequest request = KAENA__V1__LIST_DEVICES_REQUEST__INIT;
    kaena_device_list *list = kaena_device_list_create();
    if (!list)
        return KAENA_FAIL(err, RESOURCE_EXHAUSTED, "out of memory");
    small_call call = {"ListDevices", &request.base, &kaena__v1__list_devices_response__descriptor,
                       take_devices, list};
    kaena_status status = ask_all(client, &call, &list->unreachable, err);
    if (status == KAENA_OK)
        *out = list;
    else
        kaena_device_list_free(list);
    return status;
}

/* ---- Load ---- */

typedef struct load_call {
    const char *path;
    const kaena_load_options *options;
    kaena_model **to;
    int fd; /* -1: by path */
    uint64_t size, sent;
    bool began;
} load_call;

static grpc_byte_buffer *load_options_message(const load_call *load)
{
    Kaena__V1__LoadOptions options = KAENA__V1__LOAD_OPTIONS__INIT;
    Kaena__V1__LoadRequest request = KAENA__V1__LOAD_REQUEST__INIT;
    if (load->options && load->options->name)
        options.name = (char *)load->options->name;
    if (load->fd < 0)
        options.path = (char *)load->path;
    options.size = load->size;
    options.queue_depth = load->options ? load->options->queue_depth : 0;
    request.part_case = KAENA__V1__LOAD_REQUEST__PART_OPTIONS;
    request.options = &options;
    return kaena_pack(&request.base);
}

/* The file is read, not mapped: who shortens it meanwhile gets an error, not a signal. */
static kaena_status load_next(void *user, grpc_byte_buffer **out, kaena_err *err)
{
    load_call *load = user;
    if (!load->began) {
        load->began = true;
        *out = load_options_message(load);
        return KAENA_OK;
    }
    if (load->fd < 0 || load->sent == load->size) {
        *out = NULL;
        return KAENA_OK;
    }
    size_t want =
        load->size - load->sent < CHUNK_BYTES ? (size_t)(load->size - load->sent) : CHUNK_BYTES;
    /* LoadRequest.chunk, field 2, by hand: the bytes are read to where they are sent from. */
    uint8_t head[8] = {2 << 3 | 2};
    size_t head_size = 1;
    for (size_t v = want;; v >>= 7) {
        head[head_size++] = (uint8_t)(v < 0x80 ? v : v | 0x80);
        if (v < 0x80)
            break;
    }
    grpc_slice slice = grpc_slice_malloc_large(head_size + want);
    uint8_t *to = GRPC_SLICE_START_PTR(slice);
    memcpy(to, head, head_size);
    ssize_t got = 0;
    for (size_t have = 0; have < want; have += (size_t)got) {
        got = pread(load->fd, to + head_size + have, want - have, (off_t)(load->sent + have));
        if (got <= 0) {
            grpc_slice_unref(slice);
            return KAENA_FAIL(err, DATA_LOSS, "'%s' cannot be read at byte %llu: %s", load->path,
                              (unsigned long long)(load->sent + have),
                              got < 0 ? strerror(errno) : "it became shorter");
        }
    }
    load->sent += want;
    *out = grpc_raw_byte_buffer_create(&slice, 1);
    grpc_slice_unref(slice);
    return KAENA_OK;
}

static kaena_status attempt_load(kaena_client *client, kaena_conn *conn, int64_t deadline_ns,
                                 void *user, kaena_outcome *outcome, kaena_err *err)
{
    load_call *load = user;
    const small_call call = {.method = "Load",
                             .answer_type = &kaena__v1__load_response__descriptor,
                             .take = take_loaded_model,
                             .to = load->to};
    grpc_byte_buffer *answer;
    load->sent = 0;
    load->began = false;
    KAENA_TRY(kaena_exchange_stream(client, conn, call.method, load_next, load, deadline_ns,
                                    &answer, outcome, err));
    *outcome = KAENA_OUTCOME_FINAL;
    return take_answer(&call, answer, conn, err);
}

static kaena_status open_artifact(const char *path, int *out_fd, uint64_t *out_size, kaena_err *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        kaena_status code = errno == ENOENT                      ? KAENA_NOT_FOUND
                            : errno == EACCES                    ? KAENA_PERMISSION_DENIED
                            : errno == EMFILE || errno == ENFILE ? KAENA_RESOURCE_EXHAUSTED
                                                                 : KAENA_INVALID_ARGUMENT;
        return kaena_err_set(err, code, "cannot open '%s': %s", path, strerror(errno));
    }
    struct stat st;
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode) || st.st_size == 0) {
        close(fd);
        return KAENA_FAIL(err, INVALID_ARGUMENT, "'%s' is not a file, or is empty", path);
    }
    *out_fd = fd;
    *out_size = (uint64_t)st.st_size;
    return KAENA_OK;
}

kaena_status kaena_model_load(kaena_client *client, const char *path,
                              const kaena_load_options *options, kaena_model **out, kaena_err *err)
{
    if (options && options->size < sizeof *options)
        return KAENA_FAIL(err, INVALID_ARGUMENT, "kaena_load_options: size %u is not %zu",
                          options->size, sizeof *options);
    load_call load = {.path = path, .options = options, .to = out, .fd = -1};
    if (!options || !options->by_path)
        KAENA_TRY(open_artifact(path, &load.fd, &load.size, err));
    int64_t deadline_ns =
        kaena_deadline(options ? options->timeout_ms : 0, DEFAULT_LOAD_TIMEOUT_MS);
    kaena_status status = kaena_route(client, attempt_load, &load, false, deadline_ns, err);
    if (load.fd >= 0)
        close(load.fd);
    return status;
}

/* ---- Infer ---- */

static kaena_status attempt_infer(kaena_client *client, kaena_conn *conn, int64_t deadline_ns,
                                  void *user, kaena_outcome *outcome, kaena_err *err)
{
    kaena_infer_call *call = user;
    kaena_wire_pin pin = {0};
    grpc_byte_buffer *request, *answer;
    *outcome = KAENA_OUTCOME_FINAL;
    KAENA_TRY(kaena_wire_encode_infer(call, &pin, &request, err));
    KAENA_TRY(
        kaena_exchange(client, conn, "Infer", request, &pin, deadline_ns, &answer, outcome, err));
    *outcome = KAENA_OUTCOME_FINAL;
    kaena_status status = kaena_wire_decode_infer(answer, call, err);
    grpc_byte_buffer_destroy(answer);
    return status;
}

kaena_status kaena_infer(kaena_client *client, kaena_infer_call *call, kaena_err *err)
{
    if (call->size < sizeof *call)
        return KAENA_FAIL(err, INVALID_ARGUMENT, "kaena_infer_call: size %u is not %zu", call->size,
                          sizeof *call);
    return kaena_route(client, attempt_infer, call, true,
                       kaena_deadline(call->timeout_ms, client->timeout_ms), err);
}
