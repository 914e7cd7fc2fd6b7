/* libkaena's walkers over messages of tensors, and where daemons are found. */
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "client_address.h"
#include "client_fake.h"
#include "client_wire.h"

/* ---- Wire ---- */

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
    KTEST_OK(err, kaena_wire_encode_infer(&call, NULL, &pin, &buffer, &err));
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
    KTEST_FAILS(err, INVALID_ARGUMENT, "'x'",
                kaena_wire_encode_infer(&call, NULL, &pin, &buffer, &err));
    in.bytes = 16;
    in.rank = 9;
    KTEST_FAILS(err, INVALID_ARGUMENT, "rank 9",
                kaena_wire_encode_infer(&call, NULL, &pin, &buffer, &err));
    in.rank = 1;
    in.shape[0] = -4;
    KTEST_FAILS(err, INVALID_ARGUMENT, "shape",
                kaena_wire_encode_infer(&call, NULL, &pin, &buffer, &err));
    in.shape[0] = 4;
    in.dtype = (kaena_dtype)14;
    KTEST_FAILS(err, INVALID_ARGUMENT, "14",
                kaena_wire_encode_infer(&call, NULL, &pin, &buffer, &err));
    in.dtype = KAENA_F32;
    in.name = NULL;
    KTEST_FAILS(err, INVALID_ARGUMENT, "no name",
                kaena_wire_encode_infer(&call, NULL, &pin, &buffer, &err));
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
        KTEST_OK(err, kaena_wire_decode_infer(buffer, &call, NULL, &err));
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
    KTEST_OK(err, kaena_wire_decode_infer(buffer, &call, NULL, &err));
    cr_assert(outputs[0].dtype == KAENA_STRING && outputs[1].dtype == KAENA_F32);
    kaena_tensor_free(&outputs[0]);
    kaena_tensor_free(&outputs[1]);
    outputs[0].name = "s";
    outputs[1].name = "b";
    KTEST_FAILS(err, INTERNAL, "'b'", kaena_wire_decode_infer(buffer, &call, NULL, &err));
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
                kaena_wire_decode_infer(buffer, &call, NULL, &err));
    cr_assert(err.needed == 24 && err.available == 20 && outputs[0].bytes == 20 &&
              !outputs[1].data);
    call.output_count = 1;
    KTEST_FAILS(err, INVALID_ARGUMENT, "2 outputs",
                kaena_wire_decode_infer(buffer, &call, NULL, &err));
    grpc_byte_buffer_destroy(buffer);
    /* Every way of ending early: an error or an answer, never a read past the end. */
    call.output_count = 2;
    outputs[0].bytes = sizeof a;
    for (size_t cut = 0; cut < size; cut++) {
        uint8_t *exact = malloc(cut + 1);
        memcpy(exact, bytes, cut);
        buffer = in_slices(exact, cut, 7);
        if (kaena_wire_decode_infer(buffer, &call, NULL, &err) == KAENA_OK) {
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
        (void)!kaena_wire_decode_infer(buffer, &call, NULL, NULL);
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
