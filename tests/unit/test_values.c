/* Values of every kind on the wire: out of the client into the daemon, and back. */
#include <grpc/byte_buffer_reader.h>
#include <grpc/grpc.h>
#include <stdlib.h>
#include <string.h>

#include "client_wire.h"
#include "infer_check.h"
#include "infer_value.h"
#include "kaena/v1/runtime.pb-c.h"
#include "ktest.h"

/* What the daemon sees of a call: one message in pieces of |piece| bytes. */
typedef struct sent {
    uint8_t *bytes;
    size_t size, n;
    krpc_piece *piece;
    krpc_message message;
    krpc_infer_request *request;
} sent;

static void send_call(kaena_infer_call *call, size_t piece, sent *s)
{
    kaena_wire_pin pin = {0};
    grpc_byte_buffer *buffer;
    grpc_byte_buffer_reader reader;
    kaena_err err;
    KTEST_OK(err, kaena_wire_encode_infer(call, NULL, &pin, &buffer, &err));
    cr_assert(grpc_byte_buffer_reader_init(&reader, buffer));
    grpc_slice all = grpc_byte_buffer_reader_readall(&reader);
    s->size = GRPC_SLICE_LENGTH(all);
    s->bytes = malloc(s->size);
    memcpy(s->bytes, GRPC_SLICE_START_PTR(all), s->size);
    grpc_slice_unref(all);
    grpc_byte_buffer_reader_destroy(&reader);
    grpc_byte_buffer_destroy(buffer);
    s->n = (s->size + piece - 1) / piece;
    s->piece = calloc(s->n, sizeof *s->piece);
    for (size_t i = 0; i < s->n; i++)
        s->piece[i] =
            (krpc_piece){s->bytes + i * piece, i + 1 < s->n ? piece : s->size - i * piece};
    s->message = (krpc_message){s->piece, s->n};
    s->request = malloc(sizeof *s->request);
    KTEST_OK(err, krpc_read_infer_request(&s->message, s->request, &err));
}

static void sent_fini(sent *s)
{
    free(s->bytes);
    free(s->piece);
    free(s->request);
}

/* Reads input |i| as a value of |form|, all of it. */
static kaena_status receive(const sent *s, size_t i, uint8_t form, kaena_arena *arena,
                            kop_tensor *out, kaena_err *err)
{
    krpc_range data;
    KAENA_TRY(krt_value_read(&s->message, &s->request->inputs[i], form, arena, out, &data, err));
    if (form == KOP_FORM_TENSOR && out->dtype != KAENA_STRING)
        cr_assert(krt_value_fill(&s->message, &data, arena, out));
    return KAENA_OK;
}

/* The daemon's answer of one output, as the client takes it. */
static void answer(const kop_tensor *t, kaena_tensor *out)
{
    size_t size = krt_value_size("y", t);
    grpc_slice slice = grpc_slice_malloc(size);
    uint8_t *start = GRPC_SLICE_START_PTR(slice);
    cr_assert_eq(krt_value_put(start, "y", t), start + size, "as many bytes as it said");
    grpc_byte_buffer *buffer = grpc_raw_byte_buffer_create(&slice, 1);
    grpc_slice_unref(slice);
    kaena_infer_call call = {.size = sizeof call, .model = "m", .outputs = out, .output_count = 1};
    kaena_err err;
    *out = (kaena_tensor){.name = "y"};
    KTEST_OK(err, kaena_wire_decode_infer(buffer, &call, NULL, &err));
    grpc_byte_buffer_destroy(buffer);
}

static float ramp[3000];
static kaena_tensor items[] = {
    {.dtype = KAENA_F32, .rank = 1, .shape = {3000}, .data = ramp, .bytes = sizeof ramp},
    {.dtype = KAENA_F32, .rank = 2, .shape = {2, 0}, .data = ramp},
    {.dtype = KAENA_F32, .rank = 0, .data = ramp, .bytes = 4},
};
static kaena_string words[] = {{"one", 3}, {"", 0}, {"three\0!", 7}};
static kaena_tensor sequence[] = {
    {.kind = KAENA_SEQUENCE, .dtype = KAENA_F32, .data = items, .bytes = sizeof items}};
static const kaena_tensor inputs[] = {
    {.name = "words",
     .dtype = KAENA_STRING,
     .rank = 2,
     .shape = {3, 1},
     .data = words,
     .bytes = sizeof words},
    {.name = "sequence",
     .kind = KAENA_SEQUENCE,
     .dtype = KAENA_F32,
     .data = items,
     .bytes = sizeof items},
    {.name = "none", .kind = KAENA_OPTIONAL, .dtype = KAENA_I64},
    {.name = "both",
     .kind = KAENA_OPTIONAL_SEQUENCE,
     .dtype = KAENA_F32,
     .data = sequence,
     .bytes = sizeof sequence},
};
enum { N_INPUTS = sizeof inputs / sizeof *inputs };

static void check_same(const kaena_tensor *got, const kaena_tensor *want)
{
    cr_assert_eq(got->kind, want->kind);
    cr_assert_eq(got->dtype, want->dtype);
    cr_assert_eq(got->bytes, want->bytes);
    if (want->kind != KAENA_TENSOR) {
        for (size_t i = 0; i < want->bytes / sizeof *want; i++)
            check_same((const kaena_tensor *)got->data + i, (const kaena_tensor *)want->data + i);
        return;
    }
    cr_assert_eq(got->rank, want->rank);
    cr_assert_eq(memcmp(got->shape, want->shape, (size_t)want->rank * sizeof *want->shape), 0);
    if (want->dtype != KAENA_STRING) {
        cr_assert(want->bytes == 0 || memcmp(got->data, want->data, want->bytes) == 0);
        return;
    }
    const kaena_string *a = got->data, *b = want->data;
    for (size_t i = 0; i < want->bytes / sizeof *a; i++)
        cr_assert(a[i].size == b[i].size && memcmp(a[i].data, b[i].data, a[i].size) == 0);
}

KTEST(values, come_back_as_they_went)
{
    for (int i = 0; i < 3000; i++)
        ramp[i] = (float)i;
    static const size_t pieces[] = {1, 7, 4096, 1 << 20};
    grpc_init();
    for (size_t p = 0; p < sizeof pieces / sizeof *pieces; p++) {
        kaena_infer_call call = {
            .size = sizeof call, .model = "m", .inputs = inputs, .input_count = N_INPUTS};
        sent s;
        send_call(&call, pieces[p], &s);
        cr_assert_eq(s.request->n_inputs, N_INPUTS);
        for (size_t i = 0; i < N_INPUTS; i++) {
            kaena_arena arena;
            kaena_arena_init(&arena, 1 << 20);
            kop_tensor t;
            kaena_tensor back;
            kaena_err err;
            KTEST_OK(err, receive(&s, i, (uint8_t)inputs[i].kind, &arena, &t, &err));
            cr_assert_eq(t.form, (uint8_t)inputs[i].kind);
            answer(&t, &back);
            check_same(&back, &inputs[i]);
            kaena_tensor_free(&back);
            kaena_arena_fini(&arena);
        }
        sent_fini(&s);
    }
    grpc_shutdown();
}

KTEST(values, protobuf_c_reads_what_the_client_writes)
{
    kaena_infer_call call = {
        .size = sizeof call, .model = "m", .inputs = inputs, .input_count = N_INPUTS};
    sent s;
    grpc_init();
    send_call(&call, 1 << 20, &s);
    Kaena__V1__InferRequest *r = kaena__v1__infer_request__unpack(NULL, s.size, s.bytes);
    cr_assert(r);
    cr_assert_eq(r->inputs[0]->n_strings, 3u);
    cr_assert_eq(r->inputs[1]->payload_case, KAENA__V1__TENSOR__PAYLOAD_SEQUENCE);
    cr_assert_eq(r->inputs[1]->sequence->n_elements, 3u);
    cr_assert_eq(r->inputs[1]->sequence->elements[0]->data.len, sizeof ramp);
    cr_assert_eq(r->inputs[2]->payload_case, KAENA__V1__TENSOR__PAYLOAD_OPTIONAL);
    cr_assert_null(r->inputs[2]->optional->value);
    cr_assert_eq(r->inputs[3]->optional->value->sequence->n_elements, 3u);
    kaena__v1__infer_request__free_unpacked(r, NULL);
    sent_fini(&s);
    grpc_shutdown();
}

KTEST(values, wrong_ones_are_refused)
{
    kaena_infer_call call = {
        .size = sizeof call, .model = "m", .inputs = inputs, .input_count = N_INPUTS};
    sent s;
    grpc_init();
    send_call(&call, 1 << 20, &s);
    static const struct {
        size_t input;
        uint8_t form;
        size_t quota;
        kaena_status status;
        const char *what;
    } cases[] = {
        {0, KOP_FORM_SEQUENCE, 1 << 20, KAENA_INVALID_ARGUMENT, "expected sequence in 'sequence'"},
        {1, KOP_FORM_TENSOR, 1 << 20, KAENA_INVALID_ARGUMENT, "expected a tensor, got a sequence"},
        {1, KOP_FORM_OPTIONAL, 1 << 20, KAENA_INVALID_ARGUMENT, "expected optional in 'optional'"},
        {3, KOP_FORM_OPTIONAL, 1 << 20, KAENA_INVALID_ARGUMENT,
         "item 0: expected a tensor, got a sequence"},
        {1, KOP_FORM_SEQUENCE, 4096, KAENA_RESOURCE_EXHAUSTED, "out of all proportion"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        kaena_arena arena;
        kaena_arena_init(&arena, cases[i].quota);
        kop_tensor t;
        kaena_err err;
        cr_assert_eq(receive(&s, cases[i].input, cases[i].form, &arena, &t, &err), cases[i].status);
        cr_assert(strstr(err.what, cases[i].what), "'%s' lacks '%s'", err.what, cases[i].what);
        kaena_arena_fini(&arena);
    }
    sent_fini(&s);
    grpc_shutdown();
}

KTEST(values, the_client_checks_what_it_sends)
{
    kaena_tensor wrong[] = {{.dtype = KAENA_I64, .rank = 0, .data = ramp, .bytes = 8},
                            {.kind = KAENA_SEQUENCE, .dtype = KAENA_F32}};
    kaena_tensor t = {.name = "t",
                      .kind = KAENA_SEQUENCE,
                      .dtype = KAENA_F32,
                      .data = wrong,
                      .bytes = sizeof *wrong};
    kaena_infer_call call = {.size = sizeof call, .model = "m", .inputs = &t, .input_count = 1};
    kaena_wire_pin pin = {0};
    grpc_byte_buffer *buffer;
    kaena_err err;
    KTEST_FAILS(err, INVALID_ARGUMENT, "'t': item 0 is of another kind or element type",
                kaena_wire_encode_infer(&call, NULL, &pin, &buffer, &err));
    t.data = &wrong[1];
    KTEST_FAILS(err, INVALID_ARGUMENT, "'t': item 0 is of another kind",
                kaena_wire_encode_infer(&call, NULL, &pin, &buffer, &err));
    t.bytes = 5;
    KTEST_FAILS(err, INVALID_ARGUMENT, "array of kaena_tensor",
                kaena_wire_encode_infer(&call, NULL, &pin, &buffer, &err));
    t.kind = KAENA_OPTIONAL;
    t.bytes = 2 * sizeof *wrong;
    KTEST_FAILS(err, INVALID_ARGUMENT, "one or none",
                kaena_wire_encode_infer(&call, NULL, &pin, &buffer, &err));
    t.kind = (kaena_kind)4;
    KTEST_FAILS(err, INVALID_ARGUMENT, "4 is not a kind",
                kaena_wire_encode_infer(&call, NULL, &pin, &buffer, &err));
}

/* A daemon that nests tensors without end gets no further than the client's patience. */
KTEST(values, deep_answers_are_refused)
{
    enum { DEPTH = 5 };
    uint8_t bytes[64];
    size_t size = 0;
    for (int i = 0; i < DEPTH; i++) {
        uint8_t around[64] = {KRPC_TENSOR_SEQUENCE << 3 | 2, (uint8_t)(size + 2),
                              KRPC_INSIDE_TENSOR << 3 | 2, (uint8_t)size};
        memcpy(around + 4, bytes, size);
        size += 4;
        memcpy(bytes, around, size);
    }
    uint8_t message[80] = {KRPC_RESPONSE_OUTPUTS << 3 | 2, (uint8_t)size};
    memcpy(message + 2, bytes, size);
    grpc_init();
    grpc_slice slice = grpc_slice_from_copied_buffer((char *)message, size + 2);
    grpc_byte_buffer *buffer = grpc_raw_byte_buffer_create(&slice, 1);
    grpc_slice_unref(slice);
    kaena_tensor out = {.name = NULL};
    kaena_infer_call call = {.size = sizeof call, .model = "m", .outputs = &out, .output_count = 1};
    kaena_err err;
    KTEST_FAILS(err, INTERNAL, "malformed", kaena_wire_decode_infer(buffer, &call, NULL, &err));
    grpc_byte_buffer_destroy(buffer);
    grpc_shutdown();
}
