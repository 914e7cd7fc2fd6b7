/* InferRequest out of the caller's memory. */
#include <grpc/slice.h>
#include <limits.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "checked.h"
#include "client_fields.h"
#include "client_wire.h"
#include "dtype.h"
#include "shape.h"

/* Below this a copy costs less than a slice. */
#define COPY_BYTES 4096
#define MAX_MESSAGE ((uint64_t)INT_MAX)

static size_t varint_size(uint64_t v)
{
    size_t n = 1;
    for (; v >= 0x80; v >>= 7)
        n++;
    return n;
}

static size_t bytes_field_size(uint64_t size)
{
    return 1 + varint_size(size) + size;
}

static size_t item_count(const kaena_tensor *t)
{
    return t->bytes / sizeof(kaena_tensor);
}

/* What stands inside a value of that kind. */
static kaena_kind item_kind(kaena_kind kind)
{
    return kind == KAENA_OPTIONAL_SEQUENCE ? KAENA_SEQUENCE : KAENA_TENSOR;
}

static kaena_status check_tensor(const kaena_tensor *t, const char *name, kaena_err *err)
{
    if (t->rank < 0 || t->rank > KAENA_MAX_RANK)
        return KAENA_FAIL(err, INVALID_ARGUMENT, "input '%s': rank %d is not in 0..%d", name,
                          (int)t->rank, KAENA_MAX_RANK);
    kaena_shape shape = {.rank = t->rank};
    memcpy(shape.dim, t->shape, sizeof shape.dim);
    int64_t elements;
    char text[KAENA_SHAPE_TEXT];
    if (!kaena_shape_elements(&shape, &elements))
        return KAENA_FAIL(err, INVALID_ARGUMENT, "input '%s': %s is not a shape", name,
                          kaena_shape_print(&shape, text, sizeof text));
    uint64_t need;
    size_t element = kaena_dtype_size(t->dtype);
    if (!kaena_mul_u64((uint64_t)elements, element, &need) || need != t->bytes ||
        (need && !t->data))
        return KAENA_FAIL(
            err, INVALID_ARGUMENT, "input '%s': %zu bytes given, %s %s has %lld elements of %zu",
            name, t->data ? t->bytes : 0, kaena_dtype_name(t->dtype),
            kaena_shape_print(&shape, text, sizeof text), (long long)elements, element);
    return KAENA_OK;
}

/* Items nest twice at most: their kind follows from that of the whole. */
static kaena_status check_value(const kaena_tensor *t, const char *name, kaena_err *err)
{
    if (kaena_dtype_size(t->dtype) == 0)
        return KAENA_FAIL(err, INVALID_ARGUMENT, "input '%s': %d is not an element type", name,
                          (int)t->dtype);
    if (t->kind == KAENA_TENSOR)
        return check_tensor(t, name, err);
    if ((unsigned)t->kind > KAENA_OPTIONAL_SEQUENCE)
        return KAENA_FAIL(err, INVALID_ARGUMENT, "input '%s': %d is not a kind of value", name,
                          (int)t->kind);
    if (t->bytes % sizeof(kaena_tensor) || (t->bytes && !t->data) ||
        (t->kind != KAENA_SEQUENCE && item_count(t) > 1))
        return KAENA_FAIL(err, INVALID_ARGUMENT,
                          "input '%s': its data must be an array of kaena_tensor%s", name,
                          t->kind == KAENA_SEQUENCE ? "" : ", one or none");
    const kaena_tensor *items = t->data;
    for (size_t i = 0; i < item_count(t); i++) {
        if (items[i].kind != item_kind(t->kind) || items[i].dtype != t->dtype)
            return KAENA_FAIL(err, INVALID_ARGUMENT,
                              "input '%s': item %zu is of another kind or element type than the "
                              "whole says",
                              name, i);
        KAENA_TRY(check_value(&items[i], name, err));
    }
    return KAENA_OK;
}

static kaena_status check_input(const kaena_tensor *t, size_t index, kaena_err *err)
{
    if (!t->name)
        return KAENA_FAIL(err, INVALID_ARGUMENT, "input %zu has no name", index);
    return check_value(t, t->name, err);
}

typedef struct tensor_sizes {
    uint64_t shape;   /* content of the packed field */
    uint64_t message; /* content of the Tensor */
} tensor_sizes;

static tensor_sizes sizes_of(const kaena_tensor *t, bool named, const kaena_wire_range *range);

/* Content of a SharedRange. */
static uint64_t range_size(const kaena_wire_range *r)
{
    return 3 + varint_size(r->region) + varint_size(r->offset) + varint_size(r->size);
}

/* Content of the Sequence or Optional. */
static uint64_t inside_size(const kaena_tensor *t)
{
    const kaena_tensor *items = t->data;
    uint64_t size = 0;
    for (size_t i = 0; i < item_count(t) && size <= MAX_MESSAGE; i++)
        size += bytes_field_size(sizes_of(&items[i], false, NULL).message);
    return size;
}

/* Past MAX_MESSAGE only that it is. |range|: where the data lies instead, or NULL. */
static tensor_sizes sizes_of(const kaena_tensor *t, bool named, const kaena_wire_range *range)
{
    tensor_sizes s = {0};
    for (int32_t i = 0; i < t->rank && t->kind == KAENA_TENSOR; i++)
        s.shape += varint_size((uint64_t)t->shape[i]);
    s.message = 1 + varint_size((uint64_t)t->dtype) + (s.shape ? bytes_field_size(s.shape) : 0);
    if (named)
        s.message += bytes_field_size(strlen(t->name));
    if (range) {
        s.message += bytes_field_size(range_size(range));
    } else if (t->kind != KAENA_TENSOR) {
        s.message += bytes_field_size(inside_size(t));
    } else if (t->dtype != KAENA_STRING) {
        s.message += bytes_field_size(t->bytes);
    } else {
        const kaena_string *strings = t->data;
        for (size_t i = 0; i < t->bytes / sizeof *strings && s.message <= MAX_MESSAGE; i++)
            s.message += bytes_field_size(strings[i].size);
    }
    return s;
}

static kaena_status measure(const kaena_tensor *t, const kaena_wire_range *range, tensor_sizes *out,
                            kaena_err *err)
{
    tensor_sizes s = sizes_of(t, true, range);
    if (s.message > MAX_MESSAGE)
        return KAENA_FAIL(err, RESOURCE_EXHAUSTED,
                          "input '%s' does not fit into a message of 2 GiB", t->name);
    *out = s;
    return KAENA_OK;
}

/* A message being written: small fields go into |text|, pieces of which alternate with slices over
 * tensors. */
typedef struct writer {
    grpc_slice text;
    uint8_t *at;
    size_t cut; /* bytes of |text| that stand in |slices| already */
    grpc_slice *slices;
    size_t count;
} writer;

static void put_varint(writer *w, uint64_t v)
{
    for (; v >= 0x80; v >>= 7)
        *w->at++ = (uint8_t)(v | 0x80);
    *w->at++ = (uint8_t)v;
}

static void put_key(writer *w, int field, int type)
{
    *w->at++ = (uint8_t)(field << 3 | type);
}

static void put_bytes(writer *w, int field, const void *data, size_t size)
{
    put_key(w, field, WIRE_BYTES);
    put_varint(w, size);
    if (size)
        memcpy(w->at, data, size);
    w->at += size;
}

static void cut_text(writer *w)
{
    size_t used = (size_t)(w->at - GRPC_SLICE_START_PTR(w->text));
    if (used > w->cut)
        w->slices[w->count++] = grpc_slice_sub(w->text, w->cut, used);
    w->cut = used;
}

static void release_pin(void *data)
{
    atomic_fetch_sub(&((kaena_wire_pin *)data)->slices, 1);
}

static void put_number(writer *w, int field, uint64_t v)
{
    put_key(w, field, WIRE_VARINT);
    put_varint(w, v);
}

static void put_range(writer *w, int field, const kaena_wire_range *r)
{
    put_key(w, field, WIRE_BYTES);
    put_varint(w, range_size(r));
    put_number(w, RANGE_REGION, r->region);
    put_number(w, RANGE_OFFSET, r->offset);
    put_number(w, RANGE_SIZE, r->size);
}

/* Content of a Tensor. |range|: where its data lies instead, or NULL. |pin| NULL: everything is
 * copied. */
static void put_content(writer *w, const kaena_tensor *t, const tensor_sizes *s,
                        const kaena_wire_range *range, kaena_wire_pin *pin)
{
    put_number(w, TENSOR_DTYPE, (uint64_t)t->dtype);
    if (s->shape) {
        put_key(w, TENSOR_SHAPE, WIRE_BYTES);
        put_varint(w, s->shape);
        for (int32_t i = 0; i < t->rank; i++)
            put_varint(w, (uint64_t)t->shape[i]);
    }
    if (range) {
        put_range(w, TENSOR_SHARED, range);
    } else if (t->kind != KAENA_TENSOR) {
        const kaena_tensor *items = t->data;
        put_key(w, t->kind == KAENA_SEQUENCE ? TENSOR_SEQUENCE : TENSOR_OPTIONAL, WIRE_BYTES);
        put_varint(w, inside_size(t));
        for (size_t i = 0; i < item_count(t); i++) {
            tensor_sizes of_item = sizes_of(&items[i], false, NULL);
            put_key(w, INSIDE_TENSOR, WIRE_BYTES);
            put_varint(w, of_item.message);
            put_content(w, &items[i], &of_item, NULL, NULL);
        }
    } else if (t->dtype == KAENA_STRING) {
        const kaena_string *strings = t->data;
        for (size_t i = 0; i < t->bytes / sizeof *strings; i++)
            put_bytes(w, TENSOR_STRINGS, strings[i].data, strings[i].size);
    } else if (t->bytes <= COPY_BYTES || !pin) {
        put_bytes(w, TENSOR_DATA, t->data, t->bytes);
    } else {
        put_key(w, TENSOR_DATA, WIRE_BYTES);
        put_varint(w, t->bytes);
        cut_text(w);
        atomic_fetch_add(&pin->slices, 1);
        w->slices[w->count++] = grpc_slice_new_with_user_data(t->data, t->bytes, release_pin, pin);
    }
}

static void put_tensor(writer *w, const kaena_tensor *t, const tensor_sizes *s,
                       const kaena_wire_range *range, kaena_wire_pin *pin)
{
    put_key(w, REQUEST_INPUTS, WIRE_BYTES);
    put_varint(w, s->message);
    put_bytes(w, TENSOR_NAME, t->name, strlen(t->name));
    put_content(w, t, s, range, pin);
}

/* |range| when it names a region. */
static const kaena_wire_range *shared_input(const kaena_wire_shared *shared, size_t i)
{
    return shared && shared->inputs[i].region ? &shared->inputs[i] : NULL;
}

static uint64_t place_size(const kaena_wire_shared *shared, size_t i)
{
    return bytes_field_size(strlen(shared->output_names[i])) +
           bytes_field_size(range_size(&shared->outputs[i]));
}

static void put_place(writer *w, const kaena_wire_shared *shared, size_t i)
{
    put_key(w, REQUEST_PLACES, WIRE_BYTES);
    put_varint(w, place_size(shared, i));
    put_bytes(w, PLACE_NAME, shared->output_names[i], strlen(shared->output_names[i]));
    put_range(w, PLACE_RANGE, &shared->outputs[i]);
}

/* What a request comes to. */
typedef struct plan {
    tensor_sizes *inputs; /* [input_count] */
    uint64_t total, pinned;
} plan;

/* |pins|: large inputs are sent from where they lie. */
static kaena_status plan_inputs(const kaena_infer_call *call, const kaena_wire_shared *shared,
                                bool pins, plan *p, kaena_err *err)
{
    for (size_t i = 0; i < call->input_count; i++) {
        const kaena_tensor *t = &call->inputs[i];
        const kaena_wire_range *range = shared_input(shared, i);
        KAENA_TRY(check_input(t, i, err));
        KAENA_TRY(measure(t, range, &p->inputs[i], err));
        p->total += bytes_field_size(p->inputs[i].message);
        if (pins && !range && t->kind == KAENA_TENSOR && t->dtype != KAENA_STRING &&
            t->bytes > COPY_BYTES)
            p->pinned += t->bytes;
    }
    return KAENA_OK;
}

static kaena_status plan_outputs(const kaena_infer_call *call, const kaena_wire_shared *shared,
                                 plan *p, kaena_err *err)
{
    for (size_t i = 0; i < call->output_count; i++) {
        const char *name = call->outputs[i].name;
        if (!name != !call->outputs[0].name)
            return KAENA_FAIL(err, INVALID_ARGUMENT, "output %zu: name all outputs or none", i);
        if (name)
            p->total += bytes_field_size(strlen(name));
        if (shared && shared->outputs[i].region)
            p->total += bytes_field_size(place_size(shared, i));
    }
    return KAENA_OK;
}

static kaena_status plan_request(const kaena_infer_call *call, const kaena_wire_shared *shared,
                                 bool pins, plan *p, kaena_err *err)
{
    if (call->priority < -8 || call->priority > 7)
        return KAENA_FAIL(err, INVALID_ARGUMENT, "priority %d is not in -8..7",
                          (int)call->priority);
    p->total = bytes_field_size(strlen(call->model));
    p->total += call->priority ? 1 + varint_size((uint64_t)(int64_t)call->priority) : 0;
    p->total += call->check_finite ? 2 : 0;
    KAENA_TRY(plan_inputs(call, shared, pins, p, err));
    KAENA_TRY(plan_outputs(call, shared, p, err));
    if (p->total > MAX_MESSAGE)
        return KAENA_FAIL(err, RESOURCE_EXHAUSTED, "the inputs do not fit into a message of 2 GiB");
    return KAENA_OK;
}

static grpc_byte_buffer *write_request(const kaena_infer_call *call,
                                       const kaena_wire_shared *shared, const plan *p,
                                       kaena_wire_pin *pin, grpc_slice *slices)
{
    writer w = {.text = grpc_slice_malloc_large(p->total - p->pinned), .slices = slices};
    w.at = GRPC_SLICE_START_PTR(w.text);
    put_bytes(&w, REQUEST_MODEL, call->model, strlen(call->model));
    if (call->priority)
        put_number(&w, REQUEST_PRIORITY, (uint64_t)(int64_t)call->priority);
    if (call->check_finite)
        put_number(&w, REQUEST_CHECK_FINITE, 1);
    for (size_t i = 0; i < call->input_count; i++)
        put_tensor(&w, &call->inputs[i], &p->inputs[i], shared_input(shared, i), pin);
    for (size_t i = 0; i < call->output_count; i++) {
        const char *name = call->outputs[i].name;
        if (name)
            put_bytes(&w, REQUEST_OUTPUTS, name, strlen(name));
        if (shared && shared->outputs[i].region)
            put_place(&w, shared, i);
    }
    cut_text(&w);
    grpc_byte_buffer *request = grpc_raw_byte_buffer_create(slices, w.count);
    for (size_t i = 0; i < w.count; i++)
        grpc_slice_unref(slices[i]);
    grpc_slice_unref(w.text);
    return request;
}

kaena_status kaena_wire_encode_infer(const kaena_infer_call *call, const kaena_wire_shared *shared,
                                     kaena_wire_pin *pin, grpc_byte_buffer **out, kaena_err *err)
{
    if (!call->model)
        return KAENA_FAIL(err, INVALID_ARGUMENT, "no model is named");
    plan p = {.inputs = calloc(call->input_count + 1, sizeof *p.inputs)};
    grpc_slice *slices = calloc(2 * call->input_count + 1, sizeof *slices);
    kaena_status status = p.inputs && slices ? plan_request(call, shared, pin != NULL, &p, err)
                                             : KAENA_FAIL(err, RESOURCE_EXHAUSTED, "out of memory");
    if (status == KAENA_OK)
        *out = write_request(call, shared, &p, pin, slices);
    free(slices);
    free(p.inputs);
    return status;
}
