#include "ktest.h"

#include <string.h>

#include "kaena/v1/runtime.pb-c.h"
#include "tensor_wire.h"

#define SEED 0x6b61656eu

/* An InferRequest of two inputs and an output name, as protobuf-c writes it; |*out| is malloc'd. */
static size_t pack_request(uint8_t **out)
{
    int64_t shape[2] = {2, 300};
    uint8_t data[600];
    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (uint8_t)i;
    Kaena__V1__Tensor a, b;
    kaena__v1__tensor__init(&a);
    kaena__v1__tensor__init(&b);
    a.name = "x:0";
    a.dtype = KAENA__V1__DATA_TYPE__UINT8;
    a.shape = shape;
    a.n_shape = 2;
    a.payload_case = KAENA__V1__TENSOR__PAYLOAD_DATA;
    a.data = (ProtobufCBinaryData){.len = sizeof data, .data = data};
    Kaena__V1__SharedRange range = KAENA__V1__SHARED_RANGE__INIT;
    range.region = 7;
    range.offset = UINT64_MAX;
    range.size = 4;
    b.name = "scalar";
    b.dtype = KAENA__V1__DATA_TYPE__FLOAT32;
    b.payload_case = KAENA__V1__TENSOR__PAYLOAD_SHARED;
    b.shared = &range;
    Kaena__V1__Tensor *inputs[2] = {&a, &b};
    char *outputs[1] = {"y"};
    Kaena__V1__InferRequest r = KAENA__V1__INFER_REQUEST__INIT;
    r.model = "digits";
    r.inputs = inputs;
    r.n_inputs = 2;
    r.outputs = outputs;
    r.n_outputs = 1;
    *out = malloc(kaena__v1__infer_request__get_packed_size(&r));
    return kaena__v1__infer_request__pack(&r, *out);
}

static kaena_status read_flat(const uint8_t *bytes, size_t size, krpc_infer_request *out,
                              kaena_err *err)
{
    krpc_piece piece = {bytes, size};
    krpc_message m = {&piece, 1};
    return krpc_read_infer_request(&m, out, err);
}

static void check_request(const krpc_message *m, const krpc_infer_request *r)
{
    cr_assert(krpc_range_equals(m, &r->model, "digits"));
    cr_assert(!krpc_range_equals(m, &r->model, "digit") &&
              !krpc_range_equals(m, &r->model, "digitz"));
    cr_assert(r->n_inputs == 2 && r->n_outputs == 1);
    const krpc_wire_tensor *a = &r->inputs[0], *b = &r->inputs[1];
    cr_assert(krpc_range_equals(m, &a->name, "x:0") && a->dtype == KAENA_U8 && a->rank == 2 &&
              a->dim[0] == 2 && a->dim[1] == 300);
    cr_assert(a->payload == KRPC_PAYLOAD_DATA && a->data.size == 600);
    uint8_t data[600];
    krpc_range_copy(m, &a->data, data);
    for (size_t i = 0; i < sizeof data; i++)
        cr_assert(data[i] == (uint8_t)i);
    cr_assert(b->rank == 0 && b->payload == KRPC_PAYLOAD_SHARED && b->shared.region == 7 &&
              b->shared.offset == UINT64_MAX && b->shared.size == 4);
    cr_assert(krpc_range_equals(m, &r->outputs[0], "y"));
}

KTEST(tensor_wire, a_request_cut_anywhere_reads_the_same)
{
    static krpc_infer_request r;
    uint8_t *bytes;
    size_t size = pack_request(&bytes);
    kaena_err err;
    for (size_t cut = 0; cut <= size; cut++) {
        /* the pieces stand in memory of their own, so that a step past one is seen */
        uint8_t *first = malloc(cut ? cut : 1), *second = malloc(size - cut ? size - cut : 1);
        memcpy(first, bytes, cut);
        memcpy(second, bytes + cut, size - cut);
        krpc_piece pieces[] = {{NULL, 0}, {first, cut}, {NULL, 0}, {second, size - cut}, {NULL, 0}};
        krpc_message m = {pieces, 5};
        KTEST_OK(err, krpc_read_infer_request(&m, &r, &err));
        check_request(&m, &r);
        free(first);
        free(second);
    }
    /* one piece per byte */
    krpc_piece *pieces = calloc(size, sizeof *pieces);
    for (size_t i = 0; i < size; i++)
        pieces[i] = (krpc_piece){bytes + i, 1};
    krpc_message m = {pieces, size};
    KTEST_OK(err, krpc_read_infer_request(&m, &r, &err));
    check_request(&m, &r);
    free(pieces);
    free(bytes);
}

KTEST(tensor_wire, truncation_is_refused_or_harmless)
{
    static krpc_infer_request r;
    uint8_t *bytes;
    size_t size = pack_request(&bytes), whole_fields = 0;
    for (size_t n = 0; n < size; n++) {
        uint8_t *part = malloc(n ? n : 1);
        memcpy(part, bytes, n);
        whole_fields += read_flat(part, n, &r, NULL) == KAENA_OK;
        free(part);
    }
    cr_assert(whole_fields == 4, "cuts between the four fields, not %zu", whole_fields);
    free(bytes);
}

KTEST(tensor_wire, random_damage_never_reads_outside)
{
    static krpc_infer_request r;
    uint8_t *bytes;
    size_t size = pack_request(&bytes);
    uint32_t state = SEED;
    for (int round = 0; round < 20000; round++) {
        uint8_t *copy = malloc(size);
        memcpy(copy, bytes, size);
        for (int k = 0; k < 4; k++) {
            state = state * 1664525u + 1013904223u;
            /* mostly the heads: the data is 600 bytes of nothing */
            size_t at = (state >> 8) % (k & 1 ? size : 40);
            copy[at] = (uint8_t)(state >> 24);
        }
        krpc_piece piece = {copy, size};
        krpc_message m = {&piece, 1};
        if (krpc_read_infer_request(&m, &r, NULL) == KAENA_OK)
            for (size_t i = 0; i < r.n_inputs; i++) {
                uint8_t *data = malloc(r.inputs[i].data.size + 1);
                krpc_range_copy(&m, &r.inputs[i].data, data);
                free(data);
                char text[16];
                cr_assert(strlen(krpc_range_text(&m, &r.inputs[i].name, text, sizeof text)) < 16);
            }
        free(copy);
    }
    free(bytes);
}

#define READ(err, out, ...)                                                                        \
    read_flat((const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__}), (out), (err))

KTEST(tensor_wire, the_last_of_a_field_counts)
{
    static krpc_infer_request r;
    kaena_err err;
    /* dtype 1 then 7; data "a" then "bc"; shape unpacked 2, packed 3 4, unpacked 5 */
    KTEST_OK(err, READ(&err, &r, 0x12, 19, 0x10, 1, 0x10, 7, 0x22, 1, 'a', 0x22, 2, 'b', 'c', 0x18,
                       2, 0x1a, 2, 3, 4, 0x18, 5));
    cr_assert(r.n_inputs == 1 && r.inputs[0].dtype == 7 && r.inputs[0].data.size == 2);
    cr_assert(r.inputs[0].rank == 4 && r.inputs[0].dim[0] == 2 && r.inputs[0].dim[1] == 3 &&
              r.inputs[0].dim[2] == 4 && r.inputs[0].dim[3] == 5);
    /* data, then shared: shared; and the other way round */
    KTEST_OK(err, READ(&err, &r, 0x12, 7, 0x22, 1, 'a', 0x32, 2, 8, 9));
    cr_assert(r.inputs[0].payload == KRPC_PAYLOAD_SHARED && r.inputs[0].shared.region == 9);
    KTEST_OK(err, READ(&err, &r, 0x12, 7, 0x32, 2, 8, 9, 0x22, 1, 'a'));
    cr_assert(r.inputs[0].payload == KRPC_PAYLOAD_DATA && r.inputs[0].data.size == 1);
    /* model "a" then "" */
    KTEST_OK(err, READ(&err, &r, 0x0a, 1, 'a', 0x0a, 0));
    cr_assert(r.model.size == 0);
}

KTEST(tensor_wire, unknown_fields_are_skipped)
{
    static krpc_infer_request r;
    kaena_err err;
    /* 100: varint, fixed64, bytes, fixed32, a group in a group; then model "m" */
    KTEST_OK(err, READ(&err, &r, 0xa0, 6, 0xff, 0x7f, 0xa1, 6, 1, 2, 3, 4, 5, 6, 7, 8, 0xa2, 6, 2,
                       'x', 'y', 0xa5, 6, 1, 2, 3, 4, 0xa3, 6, 0x08, 5, 0xab, 6, 0xac, 6, 0xa4, 6,
                       0x0a, 1, 'm'));
    cr_assert(r.model.size == 1 && r.n_inputs == 0);
    /* known numbers of another wire type are unknown fields: model as varint */
    KTEST_OK(err, READ(&err, &r, 0x08, 5));
    cr_assert(r.model.size == 0);
}

KTEST(tensor_wire, damage_is_named)
{
    static krpc_infer_request r;
    kaena_err err;
    KTEST_FAILS(err, INVALID_ARGUMENT, "byte 0 of 2", READ(&err, &r, 0x0a, 5)); /* length */
    KTEST_FAILS(err, INVALID_ARGUMENT, "byte 3 of 4", READ(&err, &r, 0x0a, 1, 'm', 0x8a)); /* key */
    KTEST_FAILS(err, INVALID_ARGUMENT, "byte 0", READ(&err, &r, 0x00, 0));    /* field number 0 */
    KTEST_FAILS(err, INVALID_ARGUMENT, "byte 0", READ(&err, &r, 0x0f));       /* wire type 7 */
    KTEST_FAILS(err, INVALID_ARGUMENT, "byte 0", READ(&err, &r, 0xa4, 6));    /* end of no group */
    KTEST_FAILS(err, INVALID_ARGUMENT, "byte 0", READ(&err, &r, 0xa3, 6, 8)); /* open group */
    KTEST_FAILS(err, INVALID_ARGUMENT, "byte 0",
                READ(&err, &r, 0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f));
    KTEST_FAILS(err, INVALID_ARGUMENT, "byte 0", /* the tensor's data is longer than the tensor */
                READ(&err, &r, 0x12, 2, 0x22, 3, 'a', 'b', 'c'));
    uint8_t groups[100];
    memset(groups, 0xa3, sizeof groups);
    for (size_t i = 1; i < sizeof groups; i += 2)
        groups[i] = 6;
    cr_assert(read_flat(groups, sizeof groups, &r, &err) == KAENA_INVALID_ARGUMENT);
}

KTEST(tensor_wire, tensors_are_bounded)
{
    static krpc_infer_request r;
    uint8_t bytes[2 * (KRPC_MAX_TENSORS + 1)];
    for (size_t i = 0; i < sizeof bytes; i += 2) {
        bytes[i] = 0x12;
        bytes[i + 1] = 0;
    }
    kaena_err err;
    KTEST_OK(err, read_flat(bytes, sizeof bytes - 2, &r, &err));
    cr_assert(r.n_inputs == KRPC_MAX_TENSORS);
    KTEST_FAILS(err, INVALID_ARGUMENT, "more than 256 inputs",
                read_flat(bytes, sizeof bytes, &r, &err));
    /* nine dimensions are counted, eight kept */
    KTEST_OK(err, READ(&err, &r, 0x12, 11, 0x1a, 9, 1, 1, 1, 1, 1, 1, 1, 1, 1));
    cr_assert(r.inputs[0].rank == 9);
}

KTEST(tensor_wire, load_parts)
{
    kaena_err err;
    krpc_load_part part;
    krpc_range range;
    static const uint8_t chunk[] = {0x12, 3, 'a', 'b', 'c'}, options[] = {0x0a, 2, 0x18, 5},
                         damaged[] = {0x12, 9, 'a'};
    krpc_piece p = {chunk, sizeof chunk};
    krpc_message m = {&p, 1};
    KTEST_OK(err, krpc_read_load_request(&m, &part, &range, &err));
    cr_assert(part == KRPC_LOAD_CHUNK && krpc_range_equals(&m, &range, "abc"));
    p = (krpc_piece){options, sizeof options};
    KTEST_OK(err, krpc_read_load_request(&m, &part, &range, &err));
    cr_assert(part == KRPC_LOAD_OPTIONS && range.size == 2);
    p = (krpc_piece){damaged, sizeof damaged};
    KTEST_FAILS(err, INVALID_ARGUMENT, "not a LoadRequest",
                krpc_read_load_request(&m, &part, &range, &err));
    p.size = 0;
    KTEST_OK(err, krpc_read_load_request(&m, &part, &range, &err));
    cr_assert(part == KRPC_LOAD_NOTHING);
}

KTEST(tensor_wire, a_written_response_reads_back)
{
    static const struct {
        const char *name;
        kaena_shape shape;
        size_t bytes;
    } rows[] = {{"y", {2, {1, 1000}}, 4000}, {"", {0, {0}}, 4}, {"empty:0", {2, {0, 3}}, 0}};
    uint8_t buf[8192], *to = buf;
    for (size_t i = 0; i < 3; i++) {
        uint8_t *end =
            krpc_put_output_head(to, rows[i].name, KAENA_F32, &rows[i].shape, rows[i].bytes);
        cr_assert((size_t)(end - to) ==
                  krpc_output_head_size(rows[i].name, KAENA_F32, &rows[i].shape, rows[i].bytes));
        memset(end, (int)i + 1, rows[i].bytes);
        to = end + rows[i].bytes;
    }
    uint8_t *end = krpc_put_infer_tail(to, UINT64_MAX, 5);
    cr_assert((size_t)(end - to) == krpc_infer_tail_size(UINT64_MAX, 5));
    to = end;
    end = krpc_put_not_finite(to, "y");
    cr_assert((size_t)(end - to) == krpc_bytes_field_size(1));
    Kaena__V1__InferResponse *r = kaena__v1__infer_response__unpack(NULL, (size_t)(end - buf), buf);
    cr_assert(r && r->n_outputs == 3 && r->queue_ns == UINT64_MAX && r->execute_ns == 5);
    cr_assert(r->n_not_finite == 1 && strcmp(r->not_finite[0], "y") == 0);
    for (size_t i = 0; i < 3; i++) {
        const Kaena__V1__Tensor *t = r->outputs[i];
        cr_assert(strcmp(t->name, rows[i].name) == 0 && t->dtype == KAENA__V1__DATA_TYPE__FLOAT32 &&
                  t->n_shape == (size_t)rows[i].shape.rank);
        for (size_t k = 0; k < t->n_shape; k++)
            cr_assert(t->shape[k] == rows[i].shape.dim[k]);
        cr_assert(t->payload_case == KAENA__V1__TENSOR__PAYLOAD_DATA &&
                  t->data.len == rows[i].bytes);
        cr_assert(!t->data.len || t->data.data[t->data.len - 1] == i + 1);
    }
    kaena__v1__infer_response__free_unpacked(r, NULL);
}

KTEST(tensor_wire, what_an_infer_request_asks_for)
{
    static krpc_infer_request r;
    kaena_err err;
    Kaena__V1__InferRequest q = KAENA__V1__INFER_REQUEST__INIT;
    Kaena__V1__OutputPlace place[2];
    Kaena__V1__OutputPlace *places[2] = {&place[0], &place[1]};
    Kaena__V1__SharedRange range = KAENA__V1__SHARED_RANGE__INIT;
    kaena__v1__output_place__init(&place[0]);
    kaena__v1__output_place__init(&place[1]);
    place[0].name = (char[]){"y"};
    place[0].range = &range;
    range.region = UINT64_MAX;
    range.offset = 128;
    range.size = 1u << 31;
    q.priority = -8;
    q.check_finite = true;
    q.n_places = 2;
    q.places = places;
    uint8_t buf[256];
    KTEST_OK(err, read_flat(buf, kaena__v1__infer_request__pack(&q, buf), &r, &err));
    cr_assert(r.priority == -8 && r.check_finite && r.n_places == 2);
    krpc_piece piece = {buf, sizeof buf};
    krpc_message m = {&piece, 1};
    cr_assert(krpc_range_equals(&m, &r.places[0].name, "y"));
    cr_assert(r.places[0].range.region == UINT64_MAX && r.places[0].range.offset == 128 &&
              r.places[0].range.size == 1u << 31);
    cr_assert(r.places[1].range.region == 0 && r.places[1].name.size == 0);
    /* nothing of it is left over in the next */
    KTEST_OK(err, READ(&err, &r, 0x0a, 1, 'm'));
    cr_assert(r.priority == 0 && !r.check_finite && r.n_places == 0);
    KTEST_FAILS(err, INVALID_ARGUMENT, "byte 0", READ(&err, &r, 0x32, 3, 0x12, 9, 1));
}

KTEST(tensor_wire, messages_of_streams)
{
    kaena_err err;
    krpc_stream_request s;
    Kaena__V1__InferStreamRequest q = KAENA__V1__INFER_STREAM_REQUEST__INIT;
    Kaena__V1__InferRequest inner = KAENA__V1__INFER_REQUEST__INIT;
    uint8_t buf[64];
    inner.model = (char[]){"mm"};
    q.id = UINT64_MAX;
    q.timeout_ms = 77;
    q.what_case = KAENA__V1__INFER_STREAM_REQUEST__WHAT_REQUEST;
    q.request = &inner;
    size_t size = kaena__v1__infer_stream_request__pack(&q, buf);
    for (size_t cut = 0; cut <= size; cut++) {
        static krpc_infer_request r;
        krpc_piece pieces[2] = {{buf, cut}, {buf + cut, size - cut}};
        krpc_message m = {pieces, 2};
        KTEST_OK(err, krpc_read_stream_request(&m, &s, &err));
        cr_assert(s.id == UINT64_MAX && s.timeout_ms == 77 && s.what == KRPC_STREAM_REQUEST);
        KTEST_OK(err, krpc_read_infer_request_in(&m, &s.request, &r, &err));
        cr_assert(krpc_range_equals(&m, &r.model, "mm"));
    }
    krpc_piece piece = {buf, 0};
    krpc_message m = {&piece, 1};
    KTEST_OK(err, krpc_read_stream_request(&m, &s, &err));
    cr_assert(s.what == KRPC_STREAM_NOTHING && s.id == 0);
    /* id 5, a request, then cancel: the last counts */
    static const uint8_t both[] = {8, 5, 0x12, 0, 0x18, 1}, twice[] = {0x12, 0, 0x12, 0};
    piece = (krpc_piece){both, sizeof both};
    KTEST_OK(err, krpc_read_stream_request(&m, &s, &err));
    cr_assert(s.what == KRPC_STREAM_CANCEL && s.id == 5);
    piece = (krpc_piece){twice, sizeof twice};
    KTEST_FAILS(err, INVALID_ARGUMENT, "not an InferStreamRequest",
                krpc_read_stream_request(&m, &s, &err));
}

KTEST(tensor_wire, written_outputs_in_shared_memory_read_back)
{
    static const kaena_shape shape = {3, {1, 300, 2}};
    static const uint64_t sizes[] = {0, 1, 127, 128, UINT64_MAX};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        krpc_shared range = {.region = sizes[i], .offset = sizes[i] / 2, .size = sizes[i] / 3};
        uint8_t buf[256];
        uint64_t id = sizes[i] * 7;
        size_t inner = krpc_shared_output_size("out", KAENA_F32, &shape, &range);
        uint8_t *to = krpc_put_stream_head(buf, id, inner);
        cr_assert((size_t)(to - buf) == krpc_stream_head_size(id, inner));
        uint8_t *end = krpc_put_shared_output(to, "out", KAENA_F32, &shape, &range);
        cr_assert((size_t)(end - to) == inner);
        Kaena__V1__InferStreamResponse *r =
            kaena__v1__infer_stream_response__unpack(NULL, (size_t)(end - buf), buf);
        cr_assert(r && r->id == id && r->response && r->response->n_outputs == 1);
        const Kaena__V1__Tensor *t = r->response->outputs[0];
        cr_assert(t->payload_case == KAENA__V1__TENSOR__PAYLOAD_SHARED && t->n_shape == 3 &&
                  t->shape[1] == 300 && strcmp(t->name, "out") == 0);
        cr_assert(t->shared->region == range.region && t->shared->offset == range.offset &&
                  t->shared->size == range.size);
        kaena__v1__infer_stream_response__free_unpacked(r, NULL);
    }
}
