/* libkaena against daemons of our own making. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "client_address.h"
#include "client_call.h"
#include "client_wire.h"
#include "kaena/client.h"
#include "kaena/v1/runtime.pb-c.h"
#include "ktest.h"
#include "rpc.h"

/* ---- Wire ---- */

static kaena_tensor f32_tensor(const char *name, float *data, int64_t n)
{
    return (kaena_tensor){.name = name,
                          .dtype = KAENA_F32,
                          .rank = 1,
                          .shape = {n},
                          .data = data,
                          .bytes = (size_t)n * sizeof *data};
}

KTEST(client_wire, request_is_what_protobuf_reads)
{
    grpc_init();
    static float large[5000];
    for (int i = 0; i < 5000; i++)
        large[i] = (float)i;
    float small[3] = {1, 2, 3};
    int64_t scalar = -7;
    kaena_string strings[2] = {{"ab", 2}, {"", 0}};
    kaena_tensor inputs[] = {
        f32_tensor("large", large, 5000),
        f32_tensor("small", small, 3),
        {.name = "scalar", .dtype = KAENA_I64, .data = &scalar, .bytes = sizeof scalar},
        {.name = "words",
         .dtype = KAENA_STRING,
         .rank = 1,
         .shape = {2},
         .data = strings,
         .bytes = sizeof strings},
        {.name = "none", .dtype = KAENA_U8, .rank = 2, .shape = {3, 0}},
    };
    kaena_tensor outputs[] = {{.name = "y"}, {.name = "z"}};
    kaena_infer_call call = {.size = sizeof call,
                             .model = "m",
                             .inputs = inputs,
                             .input_count = 5,
                             .outputs = outputs,
                             .output_count = 2};
    kaena_wire_pin pin = {0};
    grpc_byte_buffer *buffer;
    kaena_err err;
    KTEST_OK(err, kaena_wire_encode_infer(&call, &pin, &buffer, &err));
    cr_assert(atomic_load(&pin.slices) == 1, "only the large input is sent from where it lies");
    Kaena__V1__InferRequest *r =
        (Kaena__V1__InferRequest *)kaena_unpack(buffer, &kaena__v1__infer_request__descriptor);
    cr_assert(r, "not an InferRequest");
    cr_assert_str_eq(r->model, "m");
    cr_assert(r->n_inputs == 5 && r->n_outputs == 2);
    cr_assert_str_eq(r->outputs[1], "z");
    for (size_t i = 0; i < 5; i++) {
        cr_assert_str_eq(r->inputs[i]->name, inputs[i].name);
        cr_assert((int)r->inputs[i]->dtype == (int)inputs[i].dtype);
        cr_assert(r->inputs[i]->n_shape == (size_t)inputs[i].rank);
        for (int d = 0; d < inputs[i].rank; d++)
            cr_assert(r->inputs[i]->shape[d] == inputs[i].shape[d]);
        if (inputs[i].dtype != KAENA_STRING) {
            cr_assert(r->inputs[i]->data.len == inputs[i].bytes, "input %zu", i);
            cr_assert(inputs[i].bytes == 0 ||
                      memcmp(r->inputs[i]->data.data, inputs[i].data, inputs[i].bytes) == 0);
        }
    }
    cr_assert(r->inputs[3]->n_strings == 2 && r->inputs[3]->strings[0].len == 2);
    kaena__v1__infer_request__free_unpacked(r, NULL);
    grpc_byte_buffer_destroy(buffer);
    cr_assert(atomic_load(&pin.slices) == 0);
    grpc_shutdown();
}

KTEST(client_wire, wrong_inputs_are_named)
{
    float x[4] = {0};
    kaena_tensor in = f32_tensor("x", x, 4);
    kaena_infer_call call = {.size = sizeof call, .model = "m", .inputs = &in, .input_count = 1};
    kaena_wire_pin pin = {0};
    grpc_byte_buffer *buffer;
    kaena_err err;
    in.bytes = 15;
    KTEST_FAILS(err, INVALID_ARGUMENT, "'x'", kaena_wire_encode_infer(&call, &pin, &buffer, &err));
    in.bytes = 16;
    in.rank = 9;
    KTEST_FAILS(err, INVALID_ARGUMENT, "rank 9",
                kaena_wire_encode_infer(&call, &pin, &buffer, &err));
    in.rank = 1;
    in.shape[0] = -4;
    KTEST_FAILS(err, INVALID_ARGUMENT, "shape",
                kaena_wire_encode_infer(&call, &pin, &buffer, &err));
    in.shape[0] = 4;
    in.dtype = (kaena_dtype)14;
    KTEST_FAILS(err, INVALID_ARGUMENT, "14", kaena_wire_encode_infer(&call, &pin, &buffer, &err));
    in.dtype = KAENA_F32;
    in.name = NULL;
    KTEST_FAILS(err, INVALID_ARGUMENT, "no name",
                kaena_wire_encode_infer(&call, &pin, &buffer, &err));
}

/* An answer with outputs a float32[2,3] and s string[2]; |size| bytes of |out|. */
static size_t pack_answer(uint8_t *out)
{
    static float values[6] = {1, 2, 3, 4, 5, 6};
    int64_t shape_a[] = {2, 3}, shape_s[] = {2};
    Kaena__V1__Tensor a, s;
    kaena__v1__tensor__init(&a);
    kaena__v1__tensor__init(&s);
    ProtobufCBinaryData strings[2] = {{3, (uint8_t *)"one"}, {0, NULL}};
    a.name = (char *)"a";
    a.dtype = KAENA__V1__DATA_TYPE__FLOAT32;
    a.n_shape = 2;
    a.shape = shape_a;
    a.payload_case = KAENA__V1__TENSOR__PAYLOAD_DATA;
    a.data = (ProtobufCBinaryData){sizeof values, (uint8_t *)values};
    s.name = (char *)"s";
    s.dtype = KAENA__V1__DATA_TYPE__STRING;
    s.n_shape = 1;
    s.shape = shape_s;
    s.n_strings = 2;
    s.strings = strings;
    Kaena__V1__Tensor *list[] = {&a, &s};
    Kaena__V1__InferResponse r = KAENA__V1__INFER_RESPONSE__INIT;
    r.n_outputs = 2;
    r.outputs = list;
    r.queue_ns = 300;
    r.execute_ns = 70000;
    return kaena__v1__infer_response__pack(&r, out);
}

/* |data| in slices of |step| bytes. */
static grpc_byte_buffer *in_slices(const uint8_t *data, size_t size, size_t step)
{
    grpc_slice slices[512];
    size_t n = 0;
    for (size_t at = 0; at < size; at += step)
        slices[n++] = grpc_slice_from_copied_buffer((const char *)data + at,
                                                    size - at < step ? size - at : step);
    grpc_byte_buffer *buffer = grpc_raw_byte_buffer_create(slices, n);
    for (size_t i = 0; i < n; i++)
        grpc_slice_unref(slices[i]);
    return buffer;
}

KTEST(client_wire, answer_lands_in_buffers_however_it_is_cut)
{
    grpc_init();
    uint8_t bytes[512];
    size_t size = pack_answer(bytes);
    for (size_t step = 1; step <= size; step++) {
        float a[6] = {0};
        kaena_tensor outputs[2] = {{.data = a, .bytes = sizeof a}};
        kaena_infer_call call = {
            .size = sizeof call, .model = "m", .outputs = outputs, .output_count = 2};
        grpc_byte_buffer *buffer = in_slices(bytes, size, step);
        kaena_err err;
        KTEST_OK(err, kaena_wire_decode_infer(buffer, &call, &err));
        cr_assert(outputs[0].data == a && a[0] == 1 && a[5] == 6 && outputs[0].rank == 2);
        cr_assert(outputs[0].shape[0] == 2 && outputs[0].shape[1] == 3 &&
                  outputs[0].dtype == KAENA_F32);
        const kaena_string *s = outputs[1].data;
        cr_assert(outputs[1].bytes == 2 * sizeof *s && s[0].size == 3 &&
                  memcmp(s[0].data, "one", 3) == 0);
        cr_assert(s[1].size == 0 && call.queue_ns == 300 && call.execute_ns == 70000);
        kaena_tensor_free(&outputs[1]);
        grpc_byte_buffer_destroy(buffer);
    }
    grpc_shutdown();
}

KTEST(client_wire, named_outputs_may_come_in_any_order)
{
    grpc_init();
    uint8_t bytes[512];
    grpc_byte_buffer *buffer = in_slices(bytes, pack_answer(bytes), 100);
    kaena_tensor outputs[2] = {{.name = "s"}, {.name = "a"}};
    kaena_infer_call call = {
        .size = sizeof call, .model = "m", .outputs = outputs, .output_count = 2};
    kaena_err err;
    KTEST_OK(err, kaena_wire_decode_infer(buffer, &call, &err));
    cr_assert(outputs[0].dtype == KAENA_STRING && outputs[1].dtype == KAENA_F32);
    kaena_tensor_free(&outputs[0]);
    kaena_tensor_free(&outputs[1]);
    outputs[0].name = "s";
    outputs[1].name = "b";
    KTEST_FAILS(err, INTERNAL, "'b'", kaena_wire_decode_infer(buffer, &call, &err));
    grpc_byte_buffer_destroy(buffer);
    grpc_shutdown();
}

KTEST(client_wire, answers_that_do_not_fit_leave_the_outputs)
{
    grpc_init();
    uint8_t bytes[512];
    size_t size = pack_answer(bytes);
    grpc_byte_buffer *buffer = in_slices(bytes, size, size);
    float a[6];
    kaena_tensor outputs[2] = {{.data = a, .bytes = 20}};
    kaena_infer_call call = {
        .size = sizeof call, .model = "m", .outputs = outputs, .output_count = 2};
    kaena_err err;
    KTEST_FAILS(err, INVALID_ARGUMENT, "'a' has 24 bytes",
                kaena_wire_decode_infer(buffer, &call, &err));
    cr_assert(err.needed == 24 && err.available == 20 && outputs[0].bytes == 20 &&
              !outputs[1].data);
    call.output_count = 1;
    KTEST_FAILS(err, INVALID_ARGUMENT, "2 outputs", kaena_wire_decode_infer(buffer, &call, &err));
    grpc_byte_buffer_destroy(buffer);
    /* Every way of ending early: an error or an answer, never a read past the end. */
    call.output_count = 2;
    outputs[0].bytes = sizeof a;
    for (size_t cut = 0; cut < size; cut++) {
        uint8_t *exact = malloc(cut + 1);
        memcpy(exact, bytes, cut);
        buffer = in_slices(exact, cut, 7);
        if (kaena_wire_decode_infer(buffer, &call, &err) == KAENA_OK) {
            kaena_tensor_free(&outputs[1]);
            outputs[0] = (kaena_tensor){.data = a, .bytes = sizeof a};
        }
        grpc_byte_buffer_destroy(buffer);
        free(exact);
    }
    grpc_shutdown();
}

KTEST(client_wire, damaged_answers_never_crash)
{
    grpc_init();
    unsigned seed = 1;
    for (int round = 0; round < 20000; round++) {
        uint8_t bytes[512];
        size_t size = pack_answer(bytes);
        for (int i = 0; i < 3; i++)
            bytes[(size_t)rand_r(&seed) % size] = (uint8_t)rand_r(&seed);
        kaena_tensor outputs[2] = {{0}};
        kaena_infer_call call = {
            .size = sizeof call, .model = "m", .outputs = outputs, .output_count = 2};
        grpc_byte_buffer *buffer = in_slices(bytes, size, 13);
        (void)!kaena_wire_decode_infer(buffer, &call, NULL);
        kaena_tensor_free(&outputs[0]);
        kaena_tensor_free(&outputs[1]);
        grpc_byte_buffer_destroy(buffer);
    }
    grpc_shutdown();
}

/* ---- Addresses ---- */

static void expect_addresses(const char *argument, size_t count, const char *first)
{
    kaena_addresses a;
    kaena_err err;
    KTEST_OK(err, kaena_addresses_find(argument, NULL, &a, &err));
    cr_assert(a.count == count, "%zu", a.count);
    cr_assert_str_eq(a.items[0].address, first);
    kaena_addresses_fini(&a);
}

KTEST(client_address, argument_then_environment_then_configuration)
{
    kaena_addresses a;
    kaena_err err;
    char path[] = "/tmp/kaena-test-XXXXXX";
    int fd = mkstemp(path);
    const char text[] =
        "{\"version\":1,\"daemons\":[{\"name\":\"a\",\"listen\":[\"unix:/c\",\"h:1\"]},"
        "{\"name\":\"b\",\"listen\":[\"[::1]:70\"]}]}";
    cr_assert(write(fd, text, sizeof text - 1) == (ssize_t)sizeof text - 1);
    setenv("KAENA_CONFIG", path, 1);
    unsetenv("KAENA_KRTD_ADDRESS");
    expect_addresses(NULL, 2, "unix:/c");
    setenv("KAENA_KRTD_ADDRESS", "localhost:50051, unix:/b ,", 1);
    expect_addresses(NULL, 2, "localhost:50051");
    expect_addresses("unix:/a", 1, "unix:/a");
    unsetenv("KAENA_KRTD_ADDRESS");
    cr_assert(ftruncate(fd, 20) == 0);
    KTEST_FAILS(err, INVALID_ARGUMENT, path, kaena_addresses_find(NULL, NULL, &a, &err));
    setenv("KAENA_CONFIG", "/nonexistent", 1);
    KTEST_FAILS(err, NOT_FOUND, "/nonexistent", kaena_addresses_find(NULL, NULL, &a, &err));
    close(fd);
    unlink(path);
}

KTEST(client_address, default_is_where_a_krtd_without_configuration_listens)
{
    if (access("/etc/kaena/krtd.json", F_OK) == 0 || access("/run/kaena/krtd0.sock", F_OK) == 0)
        cr_skip_test("a krtd is installed on this machine");
    char dir[] = "/tmp/kaena-xdg-XXXXXX", path[128], expected[160];
    unsetenv("KAENA_KRTD_ADDRESS");
    unsetenv("KAENA_CONFIG");
    setenv("KAENA_RUNDIR", "/nonexistent/run", 1);
    expect_addresses(NULL, 1, "unix:/nonexistent/run/krtd0.sock");
    unsetenv("KAENA_RUNDIR");
    cr_assert(mkdtemp(dir));
    setenv("XDG_RUNTIME_DIR", dir, 1);
    (void)snprintf(path, sizeof path, "%s/kaena", dir);
    cr_assert(mkdir(path, 0700) == 0);
    (void)snprintf(path, sizeof path, "%s/kaena/krtd0.sock", dir);
    cr_assert(close(creat(path, 0600)) == 0);
    (void)snprintf(expected, sizeof expected, "unix:%s", path);
    expect_addresses(NULL, 1, expected);
    unlink(path);
    unsetenv("XDG_RUNTIME_DIR");
    expect_addresses(NULL, 1, "unix:/run/kaena/krtd0.sock");
    (void)snprintf(path, sizeof path, "%s/kaena", dir);
    rmdir(path);
    rmdir(dir);
}

KTEST(client_address, what_is_no_address_is_named)
{
    static const char *const bad[] = {"localhost", "unix:", ":1", "host:", "host:http", "", " , "};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        kaena_addresses a;
        kaena_err err;
        kaena_err_init(&err);
        cr_assert(kaena_addresses_find(bad[i], NULL, &a, &err) == KAENA_INVALID_ARGUMENT, "'%s'",
                  bad[i]);
        cr_assert(strstr(err.what, "address"));
    }
}

/* ---- Calls ---- */

/* A daemon that does as |model| says: "echo", "full", "drain", "stall" (no answer). Anything else
 * is not found. */
typedef struct fake {
    char address[128];
    krpc_server *server;
    atomic_int infers;
    krpc_call *stalled;
    pthread_mutex_t lock;
    uint64_t load_size, loaded; /* announced and received by Load */
    uint64_t load_sum;
} fake;

static void reply_message(krpc_call *call, const ProtobufCMessage *m)
{
    krpc_reply(call, kaena_pack(m));
}

static void fake_echo(krpc_call *call, Kaena__V1__InferRequest *r)
{
    Kaena__V1__InferResponse answer = KAENA__V1__INFER_RESPONSE__INIT;
    answer.n_outputs = r->n_inputs;
    answer.outputs = r->inputs;
    answer.execute_ns = 5;
    reply_message(call, &answer.base);
}

static void fake_refuse(krpc_call *call, kaena_status code, int32_t reason)
{
    kaena_err err;
    (void)kaena_err_set(&err, code, "refused");
    err.reason = reason;
    err.needed = 9;
    err.available = 8;
    kaena_err_hint(&err, "try elsewhere");
    krpc_fail(call, &err);
}

static void fake_infer(krpc_call *call, void *user)
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
        f->stalled = call;
    else
        KRPC_FAIL(call, NOT_FOUND, "no model '%s'", r->model);
    if (r)
        kaena__v1__infer_request__free_unpacked(r, NULL);
}

static void fake_load_chunk(krpc_call *call, grpc_byte_buffer *message, void *user)
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
    bool refuse = false;
    if (r && r->part_case == KAENA__V1__LOAD_REQUEST__PART_OPTIONS) {
        f->load_size = r->options->size;
        refuse = strcmp(r->options->name, "too-large") == 0;
    } else if (r && r->part_case == KAENA__V1__LOAD_REQUEST__PART_CHUNK) {
        for (size_t i = 0; i < r->chunk.len; i++)
            f->load_sum += r->chunk.data[i] * (f->loaded + i + 1);
        f->loaded += r->chunk.len;
    }
    if (r)
        kaena__v1__load_request__free_unpacked(r, NULL);
    if (refuse)
        fake_refuse(call, KAENA_RESOURCE_EXHAUSTED, KAENA__V1__ERROR_DETAIL__REASON__NO_MEMORY);
    else
        krpc_call_read(call, fake_load_chunk, f);
}

static void fake_load(krpc_call *call, void *user)
{
    krpc_call_read(call, fake_load_chunk, user);
}

static void fake_list(krpc_call *call, void *user)
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

static const krpc_method fake_methods[] = {
    {"/kaena.v1.Runtime/Infer", KRPC_UNARY, fake_infer},
    {"/kaena.v1.Runtime/Load", KRPC_CLIENT_STREAM, fake_load},
    {"/kaena.v1.Runtime/ListModels", KRPC_UNARY, fake_list},
};

static char directory[32]; /* of the test's sockets, once there are any */

/* The name that mkdtemp makes may itself contain an X: it says nothing about who made it. */
static void make_directory(void)
{
    if (*directory)
        return;
    (void)strcpy(directory, "/tmp/kaena-client-XXXXXX");
    cr_assert(mkdtemp(directory));
}

static void fake_start(fake *f, const char *name)
{
    kaena_err err;
    *f = (fake){0};
    make_directory();
    (void)snprintf(f->address, sizeof f->address, "unix:%s/%s", directory, name);
    krpc_options options = {.max_message_bytes = 64 << 20, .max_connections = 100, .user = f};
    KTEST_OK(err, krpc_server_create(&options, &f->server, &err));
    krpc_server_add_methods(f->server, fake_methods, sizeof fake_methods / sizeof fake_methods[0]);
    KTEST_OK(err,
             krpc_server_listen(f->server, f->address, (krpc_access){0600, (gid_t)-1}, NULL, &err));
    KTEST_OK(err, krpc_server_start(f->server, &err));
}

static void fake_stop(fake *f)
{
    if (f->stalled)
        KRPC_FAIL(f->stalled, ABORTED, "the test is over");
    krpc_server_stop(f->server, 0);
    f->server = krpc_server_destroy(f->server);
    unlink(f->address + 5);
    if (rmdir(directory) == 0)
        *directory = 0;
}

static kaena_client *open_client(const char *address, bool fail_fast)
{
    kaena_client *client;
    kaena_err err;
    kaena_client_options options = {
        .size = sizeof options, .address = address, .fail_fast = fail_fast};
    KTEST_OK(err, kaena_client_open(&options, &client, &err));
    return client;
}

/* One inference of a vector through |model|. */
static kaena_status infer(kaena_client *client, const char *model, float *in, float *out, size_t n,
                          int64_t timeout_ms, kaena_err *err)
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

KTEST(client, infers_small_and_large_tensors)
{
    fake f;
    fake_start(&f, "a");
    kaena_client *client = open_client(f.address, true);
    kaena_err err;
    static float in[2 << 20], out[2 << 20];
    for (size_t i = 0; i < 2 << 20; i++)
        in[i] = (float)i;
    for (size_t n = 1; n <= 2 << 20; n *= 8) {
        KTEST_OK(err, infer(client, "echo", in, out, n, 0, &err));
        cr_assert(memcmp(in, out, n * sizeof *in) == 0);
    }
    kaena_client_close(client);
    fake_stop(&f);
}

KTEST(client, errors_carry_reason_numbers_and_hint)
{
    fake f;
    fake_start(&f, "a");
    kaena_client *client = open_client(f.address, true);
    kaena_err err;
    float x = 1, y;
    KTEST_FAILS(err, RESOURCE_EXHAUSTED, "refused", infer(client, "full", &x, &y, 1, 0, &err));
    cr_assert(err.reason == KAENA__V1__ERROR_DETAIL__REASON__QUEUE_FULL && err.needed == 9 &&
              err.available == 8);
    cr_assert_str_eq(err.hint, "try elsewhere");
    KTEST_FAILS(err, NOT_FOUND, "no model 'nope'", infer(client, "nope", &x, &y, 1, 0, &err));
    kaena_client_close(client);
    fake_stop(&f);
}

KTEST(client, deadline_ends_a_call_nobody_answers)
{
    fake f;
    fake_start(&f, "a");
    kaena_client *client = open_client(f.address, false);
    kaena_err err;
    float x = 1, y;
    KTEST_FAILS(err, DEADLINE_EXCEEDED, "in time", infer(client, "stall", &x, &y, 1, 100, &err));
    KTEST_OK(err, infer(client, "echo", &x, &y, 1, 0, &err));
    kaena_client_close(client);
    fake_stop(&f);
}

KTEST(client, refusals_and_absent_daemons_are_routed_around)
{
    fake a, b;
    fake_start(&a, "a");
    fake_start(&b, "b");
    char address[512];
    (void)snprintf(address, sizeof address, "unix:%s/absent,%s,%s", directory, a.address,
                   b.address);
    kaena_client *client = open_client(address, true);
    kaena_err err;
    float x = 1, y;
    KTEST_OK(err, infer(client, "echo", &x, &y, 1, 0, &err));
    cr_assert(atomic_load(&a.infers) == 1 && atomic_load(&b.infers) == 0);
    KTEST_FAILS(err, RESOURCE_EXHAUSTED, "refused", infer(client, "full", &x, &y, 1, 0, &err));
    cr_assert(atomic_load(&a.infers) == 2 && atomic_load(&b.infers) == 1, "both were asked");
    fake_stop(&a);
    KTEST_OK(err, infer(client, "echo", &x, &y, 1, 0, &err));
    kaena_model_list *list;
    KTEST_OK(err, kaena_model_list_get(client, &list, &err));
    cr_assert(list->count == 1 && list->unreachable == 2);
    cr_assert(list->models[0]->inputs[0].bytes == 24 &&
              list->models[0]->state == KAENA_MODEL_READY);
    cr_assert_str_eq(list->models[0]->daemon, b.address);
    kaena_model_list_free(list);
    kaena_client_close(client);
    fake_stop(&b);
}

KTEST(client, waits_for_a_daemon_until_the_deadline)
{
    fake f;
    fake_start(&f, "a");
    kaena_client *client = open_client(f.address, false);
    kaena_err err;
    float x = 1, y;
    KTEST_FAILS(err, UNAVAILABLE, "refused", infer(client, "drain", &x, &y, 1, 300, &err));
    cr_assert(atomic_load(&f.infers) > 1, "asked again while it drains");
    fake_stop(&f);
    KTEST_FAILS(err, UNAVAILABLE, "no daemon answers", infer(client, "echo", &x, &y, 1, 100, &err));
    kaena_client_close(client);
}

KTEST(client, load_streams_the_file)
{
    fake f;
    fake_start(&f, "a");
    kaena_client *client = open_client(f.address, true);
    char path[] = "/tmp/kaena-neff-XXXXXX";
    int fd = mkstemp(path);
    static uint8_t bytes[(3 << 20) + 17];
    uint64_t sum = 0;
    for (size_t i = 0; i < sizeof bytes; i++) {
        bytes[i] = (uint8_t)(i * 31 + i / 1000);
        sum += bytes[i] * (i + 1);
    }
    cr_assert(write(fd, bytes, sizeof bytes) == (ssize_t)sizeof bytes);
    kaena_err err;
    kaena_model_info *model;
    KTEST_OK(err, kaena_model_load(client, path, NULL, &model, &err));
    cr_assert(f.load_size == sizeof bytes && f.loaded == sizeof bytes && f.load_sum == sum);
    cr_assert_str_eq(model->name, "loaded");
    kaena_model_info_free(model);
    /* Refused in the middle. */
    kaena_load_options options = {.size = sizeof options, .name = "too-large"};
    KTEST_FAILS(err, RESOURCE_EXHAUSTED, "refused",
                kaena_model_load(client, path, &options, NULL, &err));
    KTEST_FAILS(err, NOT_FOUND, "/nonexistent",
                kaena_model_load(client, "/nonexistent", NULL, NULL, &err));
    KTEST_FAILS(err, INVALID_ARGUMENT, "/tmp", kaena_model_load(client, "/tmp", NULL, NULL, &err));
    close(fd);
    unlink(path);
    kaena_client_close(client);
    fake_stop(&f);
}

/* A socket behind which is no daemon: |read_bytes| are read from each connection, which is then
 * closed; -1: none is read and nothing is closed. */
typedef struct trap {
    char address[128];
    int fd;
    ssize_t read_bytes;
    atomic_int accepted;
    pthread_t thread;
} trap;

static void *trap_main(void *user)
{
    trap *t = user;
    int held[8];
    size_t held_count = 0;
    for (int fd; (fd = accept(t->fd, NULL, NULL)) >= 0;) {
        atomic_fetch_add(&t->accepted, 1);
        char buffer[256];
        for (ssize_t n = 0, got; n < t->read_bytes && (got = read(fd, buffer, sizeof buffer)) > 0;)
            n += got;
        if (t->read_bytes < 0 && held_count < 8)
            held[held_count++] = fd;
        else
            close(fd);
    }
    while (held_count > 0)
        close(held[--held_count]);
    return NULL;
}

static void trap_start(trap *t, ssize_t read_bytes)
{
    make_directory();
    *t = (trap){.read_bytes = read_bytes, .fd = socket(AF_UNIX, SOCK_STREAM, 0)};
    (void)snprintf(t->address, sizeof t->address, "unix:%s/trap", directory);
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    (void)snprintf(at.sun_path, sizeof at.sun_path, "%.100s", t->address + 5);
    cr_assert(bind(t->fd, (const struct sockaddr *)&at, sizeof at) == 0 && listen(t->fd, 8) == 0);
    cr_assert(pthread_create(&t->thread, NULL, trap_main, t) == 0);
}

static void trap_stop(trap *t)
{
    shutdown(t->fd, SHUT_RDWR);
    pthread_join(t->thread, NULL);
    close(t->fd);
    unlink(t->address + 5);
    if (rmdir(directory) == 0)
        *directory = 0;
}

KTEST(client, a_lost_connection_is_tried_once_more)
{
    trap t;
    trap_start(&t, 100);
    kaena_client *client = open_client(t.address, true);
    kaena_err err;
    float x = 1, y;
    KTEST_FAILS(err, UNAVAILABLE, "broke", infer(client, "echo", &x, &y, 1, 0, &err));
    cr_assert(atomic_load(&t.accepted) == 2, "%d connections", atomic_load(&t.accepted));
    /* What changes something is not repeated. */
    KTEST_FAILS(err, UNAVAILABLE, "broke", kaena_model_unload(client, "echo", &err));
    cr_assert(atomic_load(&t.accepted) == 3, "%d connections", atomic_load(&t.accepted));
    kaena_client_close(client);
    trap_stop(&t);
}

KTEST(client, a_daemon_that_stops_reading_does_not_keep_the_callers_memory)
{
    trap t;
    trap_start(&t, -1);
    kaena_client *client = open_client(t.address, true);
    kaena_err err;
    size_t n = 1 << 20;
    float *in = calloc(n, sizeof *in), *out = calloc(n, sizeof *out);
    KTEST_FAILS(err, DEADLINE_EXCEEDED, "in time", infer(client, "echo", in, out, n, 200, &err));
    free(in);
    free(out);
    kaena_client_close(client);
    trap_stop(&t);
}

typedef struct many {
    kaena_client *client;
    pthread_t thread;
    int wrong;
} many;

static void *many_main(void *user)
{
    many *m = user;
    float in[2000], out[2000];
    for (int i = 0; i < 200; i++) {
        for (size_t k = 0; k < 2000; k++)
            in[k] = (float)(i * 10) + (float)k;
        kaena_err err;
        m->wrong += infer(m->client, "echo", in, out, 2000, 0, &err) != KAENA_OK ||
                    memcmp(in, out, sizeof in) != 0;
    }
    return NULL;
}

KTEST(client, serves_many_threads)
{
    fake f;
    fake_start(&f, "a");
    many threads[24] = {{0}};
    threads[0].client = open_client(f.address, true);
    for (size_t i = 0; i < 24; i++) {
        threads[i].client = threads[0].client;
        cr_assert(pthread_create(&threads[i].thread, NULL, many_main, &threads[i]) == 0);
    }
    for (size_t i = 0; i < 24; i++) {
        pthread_join(threads[i].thread, NULL);
        cr_assert(threads[i].wrong == 0);
    }
    kaena_client_close(threads[0].client);
    fake_stop(&f);
}
