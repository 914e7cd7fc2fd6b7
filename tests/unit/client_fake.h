/* A daemon of the test's own, in its process, for tests of libkaena. */
#ifndef CLIENT_FAKE_H
#define CLIENT_FAKE_H

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#include "client_call.h"
#include "kaena/client.h"
#include "kaena/v1/runtime.pb-c.h"
#include "ktest.h"
#include "rpc.h"

#define FAKE_STALLED 2000
#define FAKE_POSTS 64

static inline kaena_tensor f32_tensor(const char *name, float *data, int64_t n)
{
    return (kaena_tensor){.name = name,
                          .dtype = KAENA_F32,
                          .rank = 1,
                          .shape = {n},
                          .data = data,
                          .bytes = (size_t)n * sizeof *data};
}

/* A daemon that does as |model| says: "echo", "full", "drain", "stall" (no answer). Anything else
 * is not found. Loads of "too-large" are refused, the first of "restarted" for its session. */
typedef struct fake {
    char address[128];
    krpc_server *server;
    atomic_int infers, loads;
    uint32_t queue_depth; /* of its models */
    pthread_mutex_t lock; /* of |stalled| */
    krpc_call *stalled[FAKE_STALLED];
    size_t stalled_count;
    uint64_t load_size, loaded; /* announced and received by Load */
    uint64_t load_sum;
    /* Posted requests, under |lock|: the cookie is the position + 1; NULL: fetched. */
    Kaena__V1__InferRequest *posts[FAKE_POSTS];
    size_t post_count;
    atomic_int waits;
} fake;

static inline void reply_message(krpc_call *call, const ProtobufCMessage *m)
{
    krpc_reply(call, kaena_pack(m));
}

static inline void fake_echo(krpc_call *call, Kaena__V1__InferRequest *r)
{
    Kaena__V1__InferResponse answer = KAENA__V1__INFER_RESPONSE__INIT;
    answer.n_outputs = r->n_inputs;
    answer.outputs = r->inputs;
    answer.execute_ns = 5;
    reply_message(call, &answer.base);
}

static inline void fake_refuse(krpc_call *call, kaena_status code, int32_t reason)
{
    kaena_err err;
    (void)kaena_err_set(&err, code, "refused");
    err.reason = reason;
    err.needed = 9;
    err.available = 8;
    kaena_err_hint(&err, "try elsewhere");
    krpc_fail(call, &err);
}

static inline void fake_stall(fake *f, krpc_call *call)
{
    pthread_mutex_lock(&f->lock);
    bool room = f->stalled_count < FAKE_STALLED;
    if (room)
        f->stalled[f->stalled_count++] = call;
    pthread_mutex_unlock(&f->lock);
    if (!room)
        fake_refuse(call, KAENA_RESOURCE_EXHAUSTED, KAENA__V1__ERROR_DETAIL__REASON__QUEUE_FULL);
}

static inline void fake_infer(krpc_call *call, void *user)
{
    fake *f = user;
    atomic_fetch_add(&f->infers, 1);
    Kaena__V1__InferRequest *r = (Kaena__V1__InferRequest *)kaena_unpack(
        krpc_call_request(call), &kaena__v1__infer_request__descriptor);
    if (!r)
        KRPC_FAIL(call, INVALID_ARGUMENT, "not a request");
    else if (strcmp(r->model, "echo") == 0)
        fake_echo(call, r);
    else if (strcmp(r->model, "full") == 0)
        fake_refuse(call, KAENA_RESOURCE_EXHAUSTED, KAENA__V1__ERROR_DETAIL__REASON__QUEUE_FULL);
    else if (strcmp(r->model, "drain") == 0)
        fake_refuse(call, KAENA_UNAVAILABLE, KAENA__V1__ERROR_DETAIL__REASON__DRAINING);
    else if (strcmp(r->model, "stall") == 0)
        fake_stall(f, call);
    else
        KRPC_FAIL(call, NOT_FOUND, "no model '%s'", r->model);
    if (r)
        kaena__v1__infer_request__free_unpacked(r, NULL);
}

/* Posted requests of "echo" are answered at once, those of "stall" have no answer when the time of
 * a wait is over, those of "late" have expired; of "taken" another call waits, the first time. */
static inline void fake_post(krpc_call *call, void *user)
{
    fake *f = user;
    Kaena__V1__InferPostResponse answer = KAENA__V1__INFER_POST_RESPONSE__INIT;
    Kaena__V1__InferRequest *r = (Kaena__V1__InferRequest *)kaena_unpack(
        krpc_call_request(call), &kaena__v1__infer_request__descriptor);
    bool accepted = false;
    if (!r)
        KRPC_FAIL(call, INVALID_ARGUMENT, "not a request");
    else if (strcmp(r->model, "full") == 0)
        fake_refuse(call, KAENA_RESOURCE_EXHAUSTED, KAENA__V1__ERROR_DETAIL__REASON__QUEUE_FULL);
    else
        accepted = true;
    pthread_mutex_lock(&f->lock);
    if (accepted && f->post_count < FAKE_POSTS) {
        f->posts[f->post_count++] = r;
        answer.cookie = f->post_count;
    }
    pthread_mutex_unlock(&f->lock);
    if (accepted)
        reply_message(call, &answer.base);
    else if (r)
        kaena__v1__infer_request__free_unpacked(r, NULL);
}

static inline void fake_wait(krpc_call *call, void *user)
{
    fake *f = user;
    Kaena__V1__InferWaitRequest *w = (Kaena__V1__InferWaitRequest *)kaena_unpack(
        krpc_call_request(call), &kaena__v1__infer_wait_request__descriptor);
    bool only_look = w && w->only_look;
    uint32_t timeout_ms = w ? w->timeout_ms : 0;
    int waits = atomic_fetch_add(&f->waits, 1);
    Kaena__V1__InferRequest *r = NULL;
    pthread_mutex_lock(&f->lock);
    size_t i = w && w->cookie ? w->cookie - 1 : FAKE_POSTS;
    r = i < f->post_count ? f->posts[i] : NULL;
    bool taken = r && strcmp(r->model, "taken") == 0 && waits == 0;
    bool stall = r && strcmp(r->model, "stall") == 0, late = r && strcmp(r->model, "late") == 0;
    if (r && !taken && !stall && !late)
        f->posts[i] = NULL;
    pthread_mutex_unlock(&f->lock);
    if (w)
        kaena__v1__infer_wait_request__free_unpacked(w, NULL);
    if (!r) {
        fake_refuse(call, KAENA_NOT_FOUND, KAENA__V1__ERROR_DETAIL__REASON__ANSWER_FETCHED);
    } else if (late) {
        fake_refuse(call, KAENA_NOT_FOUND, KAENA__V1__ERROR_DETAIL__REASON__ANSWER_EXPIRED);
    } else if (stall && only_look) {
        fake_refuse(call, KAENA_FAILED_PRECONDITION, KAENA__V1__ERROR_DETAIL__REASON__NOT_DONE);
    } else if (stall && timeout_ms) {
        usleep(timeout_ms * 1000);
        fake_refuse(call, KAENA_DEADLINE_EXCEEDED, KAENA__V1__ERROR_DETAIL__REASON__NOT_DONE);
    } else if (stall) {
        fake_stall(f, call);
    } else if (taken) {
        KRPC_FAIL(call, FAILED_PRECONDITION, "another call waits");
    } else {
        fake_echo(call, r);
        kaena__v1__infer_request__free_unpacked(r, NULL);
    }
}

static inline void fake_load_chunk(krpc_call *call, grpc_byte_buffer *message, void *user)
{
    fake *f = user;
    if (!message) {
        Kaena__V1__LoadResponse answer = KAENA__V1__LOAD_RESPONSE__INIT;
        Kaena__V1__Model model = KAENA__V1__MODEL__INIT;
        model.name = (char *)"loaded";
        answer.model = &model;
        reply_message(call, &answer.base);
        return;
    }
    Kaena__V1__LoadRequest *r =
        (Kaena__V1__LoadRequest *)kaena_unpack(message, &kaena__v1__load_request__descriptor);
    grpc_byte_buffer_destroy(message);
    bool refuse = false, forgot = false;
    if (r && r->part_case == KAENA__V1__LOAD_REQUEST__PART_OPTIONS) {
        f->load_size = r->options->size;
        refuse = strcmp(r->options->name, "too-large") == 0;
        forgot = atomic_fetch_add(&f->loads, 1) == 0 && strcmp(r->options->name, "restarted") == 0;
    } else if (r && r->part_case == KAENA__V1__LOAD_REQUEST__PART_CHUNK) {
        for (size_t i = 0; i < r->chunk.len; i++)
            f->load_sum += r->chunk.data[i] * (f->loaded + i + 1);
        f->loaded += r->chunk.len;
    }
    if (r)
        kaena__v1__load_request__free_unpacked(r, NULL);
    if (refuse)
        fake_refuse(call, KAENA_RESOURCE_EXHAUSTED, KAENA__V1__ERROR_DETAIL__REASON__NO_MEMORY);
    else if (forgot)
        fake_refuse(call, KAENA_FAILED_PRECONDITION, KAENA__V1__ERROR_DETAIL__REASON__NO_SESSION);
    else
        krpc_call_read(call, fake_load_chunk, f);
}

static inline void fake_load(krpc_call *call, void *user)
{
    krpc_call_read(call, fake_load_chunk, user);
}

static inline void fake_list(krpc_call *call, void *user)
{
    (void)user;
    Kaena__V1__ListModelsResponse answer = KAENA__V1__LIST_MODELS_RESPONSE__INIT;
    Kaena__V1__Model model = KAENA__V1__MODEL__INIT, *list[] = {&model};
    Kaena__V1__TensorSpec spec = KAENA__V1__TENSOR_SPEC__INIT, *specs[] = {&spec};
    int64_t shape[] = {2, 3};
    spec.name = (char *)"x";
    spec.dtype = KAENA__V1__DATA_TYPE__FLOAT32;
    spec.n_shape = 2;
    spec.shape = shape;
    model.name = (char *)"echo";
    model.state = KAENA__V1__MODEL_STATE__READY;
    model.n_inputs = 1;
    model.inputs = specs;
    answer.n_models = 1;
    answer.models = list;
    reply_message(call, &answer.base);
}

static inline void fake_get(krpc_call *call, void *user)
{
    fake *f = user;
    Kaena__V1__GetModelRequest *r = (Kaena__V1__GetModelRequest *)kaena_unpack(
        krpc_call_request(call), &kaena__v1__get_model_request__descriptor);
    Kaena__V1__GetModelResponse answer = KAENA__V1__GET_MODEL_RESPONSE__INIT;
    Kaena__V1__Model model = KAENA__V1__MODEL__INIT;
    if (!r)
        KRPC_FAIL(call, INVALID_ARGUMENT, "not a request");
    else if (strcmp(r->name, "absent") == 0)
        KRPC_FAIL(call, NOT_FOUND, "no model '%s'", r->name);
    else {
        model.name = r->name;
        model.state = KAENA__V1__MODEL_STATE__READY;
        model.queue_depth = f->queue_depth;
        answer.model = &model;
        reply_message(call, &answer.base);
    }
    if (r)
        kaena__v1__get_model_request__free_unpacked(r, NULL);
}

static const krpc_method fake_methods[] = {
    {"/kaena.v1.Runtime/Infer", KRPC_UNARY, fake_infer},
    {"/kaena.v1.Runtime/InferPost", KRPC_UNARY, fake_post},
    {"/kaena.v1.Runtime/InferWait", KRPC_UNARY, fake_wait},
    {"/kaena.v1.Runtime/Load", KRPC_CLIENT_STREAM, fake_load},
    {"/kaena.v1.Runtime/ListModels", KRPC_UNARY, fake_list},
    {"/kaena.v1.Runtime/GetModel", KRPC_UNARY, fake_get},
};

static char directory[32]; /* of the test's sockets, once there are any */

/* The name that mkdtemp makes may itself contain an X: it says nothing about who made it. */
static inline void make_directory(void)
{
    if (*directory)
        return;
    (void)strcpy(directory, "/tmp/kaena-client-XXXXXX");
    cr_assert(mkdtemp(directory));
}

static inline void fake_start(fake *f, const char *name)
{
    kaena_err err;
    *f = (fake){.queue_depth = 100, .lock = PTHREAD_MUTEX_INITIALIZER};
    make_directory();
    (void)snprintf(f->address, sizeof f->address, "unix:%s/%s", directory, name);
    krpc_options options = {.max_message_bytes = 64 << 20, .max_connections = 100, .user = f};
    KTEST_OK(err, krpc_server_create(&options, &f->server, &err));
    krpc_server_add_methods(f->server, fake_methods, sizeof fake_methods / sizeof fake_methods[0]);
    KTEST_OK(err,
             krpc_server_listen(f->server, f->address, (krpc_access){0600, (gid_t)-1}, NULL, &err));
    KTEST_OK(err, krpc_server_start(f->server, &err));
}

static inline void fake_stop(fake *f)
{
    for (size_t i = 0; i < f->stalled_count; i++)
        KRPC_FAIL(f->stalled[i], ABORTED, "the test is over");
    for (size_t i = 0; i < f->post_count; i++)
        if (f->posts[i])
            kaena__v1__infer_request__free_unpacked(f->posts[i], NULL);
    krpc_server_stop(f->server, 0);
    f->server = krpc_server_destroy(f->server);
    unlink(f->address + 5);
    if (rmdir(directory) == 0)
        *directory = 0;
}

static inline kaena_client *open_client(const char *address, bool fail_fast)
{
    kaena_client *client;
    kaena_err err;
    kaena_client_options options = {
        .size = sizeof options, .address = address, .fail_fast = fail_fast};
    KTEST_OK(err, kaena_client_open(&options, &client, &err));
    return client;
}

/* One inference of a vector through |model|. */
static inline kaena_status infer(kaena_client *client, const char *model, float *in, float *out,
                                 size_t n, int64_t timeout_ms, kaena_err *err)
{
    kaena_tensor x = f32_tensor("x", in, (int64_t)n);
    kaena_tensor y = {.data = out, .bytes = n * sizeof *out};
    kaena_infer_call call = {.size = sizeof call,
                             .model = model,
                             .inputs = &x,
                             .input_count = 1,
                             .outputs = &y,
                             .output_count = 1,
                             .timeout_ms = timeout_ms};
    return kaena_infer(client, &call, err);
}

#endif
