/* Fuzz target: an Infer request, and a message of an InferStream, as bytes, cut into pieces as the
 * input's first bytes say, against a model of three inputs and one that takes strings, a sequence
 * and an optional. What is accepted must have the model's sizes, and protobuf-c must see the same
 * number of tensors. */
#include <stdlib.h>
#include <string.h>

#include "infer_check.h"
#include "kaena/v1/runtime.pb-c.h"

#define CUTS 3

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool condition)
{
    if (!condition)
        abort();
}

/* |q| as protobuf-c writes it: on foreign bytes it takes scalars of any wire type for its own,
 * which are unknown fields. */
static uint8_t *canonical(const ProtobufCMessage *q, krpc_piece *piece, krpc_message *m)
{
    uint8_t *bytes = malloc(protobuf_c_message_get_packed_size(q) + 1);
    *piece = (krpc_piece){bytes, protobuf_c_message_pack(q, bytes)};
    *m = (krpc_message){piece, 1};
    return bytes;
}

static void check_against_protobuf_c(const uint8_t *data, size_t size, const krpc_infer_request *r)
{
    static krpc_infer_request own;
    Kaena__V1__InferRequest *q = kaena__v1__infer_request__unpack(NULL, size, data);
    if (!q)
        return; /* it takes no groups */
    must(q->n_inputs == r->n_inputs && q->n_outputs == r->n_outputs && q->n_places == r->n_places);
    krpc_piece piece;
    krpc_message m;
    uint8_t *bytes = canonical(&q->base, &piece, &m);
    if (krpc_read_infer_request(&m, &own, NULL) == KAENA_OK) {
        must(q->priority == own.priority && (q->check_finite != 0) == own.check_finite);
        for (size_t i = 0; i < q->n_inputs; i++)
            must(own.inputs[i].rank == q->inputs[i]->n_shape &&
                 own.inputs[i].dtype == (int32_t)q->inputs[i]->dtype &&
                 own.inputs[i].n_strings == q->inputs[i]->n_strings);
    }
    free(bytes);
    kaena__v1__infer_request__free_unpacked(q, NULL);
}

static void check_value(const kop_tensor *t)
{
    const kop_tensor *items = kop_items(t);
    for (size_t i = 0; items && i < t->count; i++)
        check_value(&items[i]);
    for (size_t i = 0;
         t->form == KOP_FORM_TENSOR && t->dtype == KAENA_STRING && t->data && i < kop_elements(t);
         i++)
        must(((const kaena_string *)t->data)[i].data != NULL);
}

/* What is read can be written: into exactly as many bytes as are asked for. */
static void run_values(const krpc_message *m, const krpc_infer_request *request)
{
    static const krt_tensor in[] = {{"x", KAENA_STRING, {1, {-1}}, 0, 0, false},
                                    {"s", KAENA_F32, {0, {0}}, 0, KOP_FORM_SEQUENCE, true},
                                    {"e", KAENA_F32, {0, {0}}, 0, KOP_FORM_OPTIONAL_SEQUENCE, true},
                                    {"d", KAENA_U8, {1, {-1}}, 0, 0, false}};
    static const krt_tensor out[] = {{"y", KAENA_F32, {0, {0}}, 0, 0, true}};
    static const krt_image_info info = {
        .in = in, .out = out, .n_in = 4, .n_out = 1, .values = true};
    kaena_err err;
    krt_selection s;
    kaena_err_init(&err);
    if (krt_select("m", &info, m, request, &s, &err) != KAENA_OK) {
        must(err.what[0] != 0 && err.hint[0] != 0);
        return;
    }
    for (size_t i = 0; i < 4; i++) {
        kop_tensor *t = &s.values[i];
        if (t->form == KOP_FORM_TENSOR && t->dtype != KAENA_STRING &&
            (s.inputs[i].shared.region || !krt_value_fill(m, &s.inputs[i].data, &s.arena, t)))
            continue;
        check_value(t);
        size_t size = krt_value_size(in[i].name, t);
        uint8_t *to = malloc(size);
        must(krt_value_put(to, in[i].name, t) == to + size);
        free(to);
    }
    krt_selection_fini(&s);
}

static void run(const krpc_message *m, const uint8_t *flat, size_t size)
{
    static const krt_tensor in[] = {{"x", KAENA_F32, {2, {1, 4}}, 16, 0, false},
                                    {"s", KAENA_I64, {0, {0}}, 8, 0, false},
                                    {"e", KAENA_U8, {1, {0}}, 0, 0, false}};
    static const krt_tensor out[] = {{"y", KAENA_F32, {1, {2}}, 8, 0, false},
                                     {"z", KAENA_F32, {1, {2}}, 8, 0, false}};
    static const krt_image_info info = {.in = in, .out = out, .n_in = 3, .n_out = 2};
    static krpc_infer_request request;
    kaena_err err;
    krt_selection selection;
    kaena_err_init(&err);
    if (krpc_read_infer_request(m, &request, &err) != KAENA_OK) {
        must(err.what[0] != 0);
        return;
    }
    check_against_protobuf_c(flat, size, &request);
    run_values(m, &request);
    char text[32];
    must(strlen(krpc_range_text(m, &request.model, text, sizeof text)) < sizeof text);
    if (krt_select("m", &info, m, &request, &selection, &err) != KAENA_OK) {
        must(err.what[0] != 0 && err.hint[0] != 0);
        return;
    }
    must(selection.n_outputs >= 1 && selection.n_outputs <= 2);
    must(selection.priority >= KRT_PRIORITY_MIN && selection.priority <= KRT_PRIORITY_MAX);
    for (size_t i = 0; i < selection.n_outputs; i++)
        must(!selection.outputs[i].place.region || selection.outputs[i].place.size >= 8);
    size_t bytes = selection.input_bytes;
    for (size_t i = 0; i < 3; i++) {
        if (selection.inputs[i].shared.region) {
            must(selection.shared && selection.inputs[i].shared.size == in[i].bytes);
            continue;
        }
        bytes -= in[i].bytes;
        uint8_t *to = malloc(in[i].bytes ? in[i].bytes : 1); /* exact: a byte more is seen */
        krpc_range_copy(m, &selection.inputs[i].data, to);
        free(to);
    }
    must(bytes == 0);
    krt_selection_fini(&selection);
}

/* A message of a stream: what it carries is a request like any other. */
static void run_stream(const krpc_message *m, const uint8_t *flat, size_t size)
{
    krpc_stream_request s;
    static krpc_infer_request request;
    if (krpc_read_stream_request(m, &s, NULL) != KAENA_OK)
        return;
    Kaena__V1__InferStreamRequest *q = kaena__v1__infer_stream_request__unpack(NULL, size, flat);
    if (q) {
        krpc_piece piece;
        krpc_message own;
        krpc_stream_request t;
        uint8_t *bytes = canonical(&q->base, &piece, &own);
        if (krpc_read_stream_request(&own, &t, NULL) == KAENA_OK)
            must(q->id == t.id && q->timeout_ms == t.timeout_ms &&
                 (q->what_case == KAENA__V1__INFER_STREAM_REQUEST__WHAT_REQUEST) ==
                     (t.what == KRPC_STREAM_REQUEST));
        free(bytes);
        kaena__v1__infer_stream_request__free_unpacked(q, NULL);
    }
    if (s.what == KRPC_STREAM_REQUEST &&
        krpc_read_infer_request_in(m, &s.request, &request, NULL) == KAENA_OK)
        run_values(m, &request);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < CUTS)
        return 0;
    const uint8_t *flat = data + CUTS;
    size -= CUTS;
    uint8_t *copies[CUTS + 1];
    krpc_piece pieces[CUTS + 1];
    size_t at = 0;
    for (size_t i = 0; i <= CUTS; i++) {
        size_t n = i < CUTS ? data[i] : size - at;
        n = n < size - at ? n : size - at;
        copies[i] = malloc(n ? n : 1);
        memcpy(copies[i], flat + at, n);
        pieces[i] = (krpc_piece){copies[i], n};
        at += n;
    }
    krpc_message m = {pieces, CUTS + 1};
    run(&m, flat, size);
    run_stream(&m, flat, size);
    for (size_t i = 0; i <= CUTS; i++)
        free(copies[i]);
    return 0;
}
