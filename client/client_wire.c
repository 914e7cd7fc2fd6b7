#include "client_wire.h"

#include <grpc/byte_buffer_reader.h>
#include <grpc/slice.h>
#include <limits.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "checked.h"
#include "dtype.h"
#include "shape.h"

/* Below this a copy costs less than a slice. */
#define COPY_BYTES 4096
#define MAX_MESSAGE ((uint64_t)INT_MAX)
#define MAX_DEPTH 2 /* of tensors in a tensor */

/* Field numbers of proto/kaena/v1/{runtime,tensor}.proto and protobuf's wire types. */
enum { REQUEST_MODEL = 1, REQUEST_INPUTS = 2, REQUEST_OUTPUTS = 3 };
enum { RESPONSE_OUTPUTS = 1, RESPONSE_QUEUE_NS = 2, RESPONSE_EXECUTE_NS = 3 };
enum {
    TENSOR_NAME = 1,
    TENSOR_DTYPE = 2,
    TENSOR_SHAPE = 3,
    TENSOR_DATA = 4,
    TENSOR_STRINGS = 5,
    TENSOR_SEQUENCE = 7,
    TENSOR_OPTIONAL = 8,
    INSIDE_TENSOR = 1, /* of Sequence and Optional */
};
enum { WIRE_VARINT = 0, WIRE_FIXED64 = 1, WIRE_BYTES = 2, WIRE_FIXED32 = 5 };

/* ---- Encoding ---- */

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

static tensor_sizes sizes_of(const kaena_tensor *t, bool named);

/* Content of the Sequence or Optional. */
static uint64_t inside_size(const kaena_tensor *t)
{
    const kaena_tensor *items = t->data;
    uint64_t size = 0;
    for (size_t i = 0; i < item_count(t) && size <= MAX_MESSAGE; i++)
        size += bytes_field_size(sizes_of(&items[i], false).message);
    return size;
}

/* Past MAX_MESSAGE only that it is. */
static tensor_sizes sizes_of(const kaena_tensor *t, bool named)
{
    tensor_sizes s = {0};
    for (int32_t i = 0; i < t->rank && t->kind == KAENA_TENSOR; i++)
        s.shape += varint_size((uint64_t)t->shape[i]);
    s.message = 1 + varint_size((uint64_t)t->dtype) + (s.shape ? bytes_field_size(s.shape) : 0);
    if (named)
        s.message += bytes_field_size(strlen(t->name));
    if (t->kind != KAENA_TENSOR) {
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

static kaena_status measure(const kaena_tensor *t, tensor_sizes *out, kaena_err *err)
{
    tensor_sizes s = sizes_of(t, true);
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

/* Content of a Tensor. |pin| NULL: everything is copied. */
static void put_content(writer *w, const kaena_tensor *t, const tensor_sizes *s,
                        kaena_wire_pin *pin)
{
    put_key(w, TENSOR_DTYPE, WIRE_VARINT);
    put_varint(w, (uint64_t)t->dtype);
    if (s->shape) {
        put_key(w, TENSOR_SHAPE, WIRE_BYTES);
        put_varint(w, s->shape);
        for (int32_t i = 0; i < t->rank; i++)
            put_varint(w, (uint64_t)t->shape[i]);
    }
    if (t->kind != KAENA_TENSOR) {
        const kaena_tensor *items = t->data;
        put_key(w, t->kind == KAENA_SEQUENCE ? TENSOR_SEQUENCE : TENSOR_OPTIONAL, WIRE_BYTES);
        put_varint(w, inside_size(t));
        for (size_t i = 0; i < item_count(t); i++) {
            tensor_sizes of_item = sizes_of(&items[i], false);
            put_key(w, INSIDE_TENSOR, WIRE_BYTES);
            put_varint(w, of_item.message);
            put_content(w, &items[i], &of_item, NULL);
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

static void put_tensor(writer *w, const kaena_tensor *t, const tensor_sizes *s, kaena_wire_pin *pin)
{
    put_key(w, REQUEST_INPUTS, WIRE_BYTES);
    put_varint(w, s->message);
    put_bytes(w, TENSOR_NAME, t->name, strlen(t->name));
    put_content(w, t, s, pin);
}

kaena_status kaena_wire_encode_infer(const kaena_infer_call *call, kaena_wire_pin *pin,
                                     grpc_byte_buffer **out, kaena_err *err)
{
    if (!call->model)
        return KAENA_FAIL(err, INVALID_ARGUMENT, "no model is named");
    tensor_sizes *sizes = calloc(call->input_count + 1, sizeof *sizes);
    grpc_slice *slices = calloc(2 * call->input_count + 1, sizeof *slices);
    kaena_status status = KAENA_OK;
    if (!sizes || !slices)
        status = KAENA_FAIL(err, RESOURCE_EXHAUSTED, "out of memory");
    uint64_t total = bytes_field_size(strlen(call->model));
    uint64_t pinned = 0;
    for (size_t i = 0; i < call->input_count && status == KAENA_OK; i++) {
        const kaena_tensor *t = &call->inputs[i];
        status = check_input(t, i, err);
        if (status == KAENA_OK)
            status = measure(t, &sizes[i], err);
        total += bytes_field_size(sizes[i].message);
        if (t->kind == KAENA_TENSOR && t->dtype != KAENA_STRING && t->bytes > COPY_BYTES)
            pinned += t->bytes;
    }
    for (size_t i = 0; i < call->output_count && status == KAENA_OK; i++) {
        const char *name = call->outputs[i].name;
        if (!name != !call->outputs[0].name)
            status = KAENA_FAIL(err, INVALID_ARGUMENT, "output %zu: name all outputs or none", i);
        else if (name)
            total += bytes_field_size(strlen(name));
    }
    if (status == KAENA_OK && total > MAX_MESSAGE)
        status =
            KAENA_FAIL(err, RESOURCE_EXHAUSTED, "the inputs do not fit into a message of 2 GiB");
    if (status == KAENA_OK) {
        writer w = {.text = grpc_slice_malloc_large(total - pinned), .slices = slices};
        w.at = GRPC_SLICE_START_PTR(w.text);
        put_bytes(&w, REQUEST_MODEL, call->model, strlen(call->model));
        for (size_t i = 0; i < call->input_count; i++)
            put_tensor(&w, &call->inputs[i], &sizes[i], pin);
        for (size_t i = 0; i < call->output_count; i++)
            if (call->outputs[i].name)
                put_bytes(&w, REQUEST_OUTPUTS, call->outputs[i].name,
                          strlen(call->outputs[i].name));
        cut_text(&w);
        *out = grpc_raw_byte_buffer_create(slices, w.count);
        for (size_t i = 0; i < w.count; i++)
            grpc_slice_unref(slices[i]);
        grpc_slice_unref(w.text);
    }
    free(slices);
    free(sizes);
    return status;
}

/* ---- Decoding ---- */

typedef struct segment {
    const uint8_t *data;
    size_t size;
} segment;

/* A place in a received message; never past |left| bytes. */
typedef struct cursor {
    const segment *seg;
    size_t offset; /* in |seg| */
    uint64_t left;
} cursor;

static bool take(cursor *c, void *dst, uint64_t size)
{
    uint8_t *to = dst;
    if (size > c->left)
        return false;
    c->left -= size;
    while (size > 0) {
        size_t here = c->seg->size - c->offset;
        if (here == 0) {
            c->seg++;
            c->offset = 0;
            continue;
        }
        if (here > size)
            here = (size_t)size;
        if (to) {
            memcpy(to, c->seg->data + c->offset, here);
            to += here;
        }
        c->offset += here;
        size -= here;
    }
    return true;
}

static bool skip(cursor *c, uint64_t size)
{
    return take(c, NULL, size);
}

static bool take_varint(cursor *c, uint64_t *out)
{
    uint64_t v = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
        uint8_t byte;
        if (!take(c, &byte, 1))
            return false;
        v |= (uint64_t)(byte & 0x7f) << shift;
        if (!(byte & 0x80)) {
            *out = v;
            return true;
        }
    }
    return false;
}

/* A field: its number, and its value or a cursor over its bytes. |c| is past it afterwards. */
typedef struct field {
    uint64_t number;
    uint64_t value;
    cursor bytes;
    bool is_bytes;
} field;

static bool take_field(cursor *c, field *out)
{
    uint64_t key;
    *out = (field){0};
    if (!take_varint(c, &key))
        return false;
    out->number = key >> 3;
    switch (key & 7) {
    case WIRE_VARINT:
        return take_varint(c, &out->value);
    case WIRE_FIXED64:
        return skip(c, 8);
    case WIRE_FIXED32:
        return skip(c, 4);
    case WIRE_BYTES:
        out->is_bytes = true;
        if (!take_varint(c, &out->value))
            return false;
        out->bytes = *c;
        out->bytes.left = out->value;
        return skip(c, out->value);
    default:
        return false; /* groups and unknown wire types */
    }
}

/* One output as received: where its parts lie. */
typedef struct received {
    cursor name;
    kaena_dtype dtype;
    kaena_shape shape;
    cursor data;
    cursor message; /* for a second walk over the strings */
    uint64_t strings, string_bytes;
    kaena_kind kind;
    cursor inside; /* of sequences and optionals */
    uint64_t items;
} received;

static bool add_dim(kaena_shape *s, uint64_t dim)
{
    if (s->rank == KAENA_MAX_RANK)
        return false;
    s->dim[s->rank++] = (int64_t)dim;
    return true;
}

static bool parse_tensor(cursor message, int depth, received *out);

/* The next Tensor of a Sequence or Optional; false at the end or where it is damaged. */
static bool next_item(cursor *inside, int depth, received *out)
{
    field f = {0};
    while (inside->left > 0 && !(f.number == INSIDE_TENSOR && f.is_bytes))
        if (!take_field(inside, &f))
            return false;
    return f.is_bytes && f.number == INSIDE_TENSOR && parse_tensor(f.bytes, depth, out);
}

/* Values nest no deeper than a sequence in an optional; |depth| keeps this from going further. */
static bool parse_inside(received *out, int depth)
{
    received item;
    cursor inside = out->inside;
    while (inside.left > 0) {
        if (depth == MAX_DEPTH || !next_item(&inside, depth + 1, &item) ||
            item.kind > KAENA_SEQUENCE ||
            (item.kind == KAENA_SEQUENCE && out->kind == KAENA_SEQUENCE))
            return false;
        if (item.kind == KAENA_SEQUENCE)
            out->kind = KAENA_OPTIONAL_SEQUENCE;
        out->items++;
    }
    return out->kind == KAENA_SEQUENCE || out->items <= 1;
}

static bool parse_tensor(cursor message, int depth, received *out)
{
    *out = (received){.message = message};
    field f;
    while (message.left > 0) {
        if (!take_field(&message, &f))
            return false;
        if (f.number == TENSOR_NAME && f.is_bytes) {
            out->name = f.bytes;
        } else if (f.number == TENSOR_DTYPE && !f.is_bytes) {
            out->dtype = (kaena_dtype)f.value;
        } else if (f.number == TENSOR_SHAPE && !f.is_bytes) {
            if (!add_dim(&out->shape, f.value))
                return false;
        } else if (f.number == TENSOR_SHAPE) {
            for (uint64_t dim; f.bytes.left > 0;)
                if (!take_varint(&f.bytes, &dim) || !add_dim(&out->shape, dim))
                    return false;
        } else if (f.number == TENSOR_DATA && f.is_bytes) {
            out->data = f.bytes;
        } else if (f.number == TENSOR_STRINGS && f.is_bytes) {
            out->strings++;
            out->string_bytes += f.value;
        } else if ((f.number == TENSOR_SEQUENCE || f.number == TENSOR_OPTIONAL) && f.is_bytes) {
            out->kind = f.number == TENSOR_SEQUENCE ? KAENA_SEQUENCE : KAENA_OPTIONAL;
            out->inside = f.bytes;
        }
    }
    int64_t elements;
    uint64_t bytes;
    if (out->kind != KAENA_TENSOR)
        return parse_inside(out, depth);
    if (!kaena_shape_elements(&out->shape, &elements) || kaena_dtype_size(out->dtype) == 0)
        return false;
    if (out->dtype == KAENA_STRING)
        return out->strings == (uint64_t)elements;
    return kaena_mul_u64((uint64_t)elements, kaena_dtype_size(out->dtype), &bytes) &&
           bytes == out->data.left;
}

static bool has_name(const received *r, const char *name)
{
    cursor c = r->name;
    if (c.left != strlen(name))
        return false;
    for (uint8_t byte; take(&c, &byte, 1); name++)
        if (byte != (uint8_t)*name)
            return false;
    return true;
}

/* The name for a message, cut to |size|. */
static const char *name_text(const received *r, char *buf, size_t size)
{
    cursor c = r->name;
    size_t n = c.left < size ? (size_t)c.left : size - 1;
    (void)take(&c, buf, n);
    buf[n] = 0;
    return buf;
}

/* Strings lie behind their array, in one allocation. */
static void *copy_strings(const received *r)
{
    size_t head = (size_t)r->strings * sizeof(kaena_string);
    kaena_string *strings = malloc(head + (size_t)r->string_bytes + 1);
    if (!strings)
        return NULL;
    char *text = (char *)strings + head;
    cursor message = r->message;
    field f;
    for (size_t i = 0; message.left > 0 && take_field(&message, &f);) {
        if (f.number != TENSOR_STRINGS || !f.is_bytes)
            continue;
        strings[i++] = (kaena_string){.data = text, .size = (size_t)f.value};
        (void)take(&f.bytes, text, f.value);
        text += f.value;
    }
    return strings;
}

static kaena_status no_memory(const received *r, kaena_err *err)
{
    char name[128];
    return KAENA_FAIL(err, RESOURCE_EXHAUSTED, "no memory for output '%s'",
                      name_text(r, name, sizeof name));
}

/* A copy in memory of its own. */
static kaena_status copy_value(const received *r, kaena_tensor *out, kaena_err *err)
{
    kaena_tensor t = {.name = out->name, .dtype = r->dtype, .rank = r->shape.rank, .kind = r->kind};
    memcpy(t.shape, r->shape.dim, sizeof t.shape);
    if (r->kind == KAENA_TENSOR) {
        cursor data = r->data;
        bool strings = r->dtype == KAENA_STRING;
        t.bytes = strings ? (size_t)r->strings * sizeof(kaena_string) : (size_t)r->data.left;
        t.data = strings ? copy_strings(r) : malloc(t.bytes ? t.bytes : 1);
        if (!t.data)
            return no_memory(r, err);
        if (!strings)
            (void)take(&data, t.data, t.bytes);
        *out = t;
        return KAENA_OK;
    }
    cursor inside = r->inside;
    received item;
    kaena_tensor *items = calloc((size_t)r->items + 1, sizeof *items);
    if (!items)
        return no_memory(r, err);
    t.data = items;
    for (size_t i = 0; i < r->items && next_item(&inside, 0, &item); i++) {
        kaena_status status = copy_value(&item, &items[i], err);
        if (status != KAENA_OK) {
            kaena_tensor_free(&t);
            return status;
        }
        t.bytes += sizeof *items;
    }
    *out = t;
    return KAENA_OK;
}

/* Copies one output to its place; allocates where the caller gave none. */
static kaena_status place(const received *r, const kaena_tensor *wanted, kaena_tensor *out,
                          kaena_err *err)
{
    size_t bytes = (size_t)r->data.left;
    cursor data = r->data;
    char name[128];
    *out = (kaena_tensor){.name = wanted->name};
    if (!wanted->data)
        return copy_value(r, out, err);
    if (r->kind != KAENA_TENSOR || r->dtype == KAENA_STRING)
        return KAENA_FAIL(err, INVALID_ARGUMENT, "output '%s' holds %s: leave its data NULL",
                          name_text(r, name, sizeof name),
                          r->kind != KAENA_TENSOR ? "other tensors" : "strings");
    if (wanted->bytes < bytes) {
        (void)KAENA_FAIL(err, INVALID_ARGUMENT, "output '%s' has %zu bytes, the buffer %zu",
                         name_text(r, name, sizeof name), bytes, wanted->bytes);
        if (err) {
            err->needed = bytes;
            err->available = wanted->bytes;
        }
        return KAENA_INVALID_ARGUMENT;
    }
    *out = (kaena_tensor){.name = wanted->name,
                          .data = wanted->data,
                          .bytes = bytes,
                          .dtype = r->dtype,
                          .rank = r->shape.rank};
    memcpy(out->shape, r->shape.dim, sizeof out->shape);
    (void)take(&data, wanted->data, bytes);
    return KAENA_OK;
}

static const received *find_output(const received *list, size_t count, const kaena_tensor *wanted,
                                   size_t index)
{
    if (!wanted->name)
        return index < count ? &list[index] : NULL;
    for (size_t i = 0; i < count; i++) /* usually in the order asked for */
        if (has_name(&list[(index + i) % count], wanted->name))
            return &list[(index + i) % count];
    return NULL;
}

static kaena_status deliver(const received *list, size_t count, kaena_infer_call *call,
                            kaena_tensor *made, kaena_err *err)
{
    for (size_t i = 0; i < call->output_count; i++) {
        const received *r = find_output(list, count, &call->outputs[i], i);
        if (!r)
            return KAENA_FAIL(err, INTERNAL, "the daemon's answer lacks output '%s'",
                              call->outputs[i].name);
        KAENA_TRY(place(r, &call->outputs[i], &made[i], err));
    }
    memcpy(call->outputs, made, call->output_count * sizeof *made);
    return KAENA_OK;
}

static kaena_status decode(cursor message, kaena_infer_call *call, kaena_err *err)
{
    size_t wanted = call->output_count, count = 0;
    received *list = calloc(wanted + 1, sizeof *list);
    kaena_tensor *made = calloc(wanted + 1, sizeof *made);
    uint64_t queue_ns = 0, execute_ns = 0;
    kaena_status status = KAENA_OK;
    if (!list || !made)
        status = KAENA_FAIL(err, RESOURCE_EXHAUSTED, "out of memory");
    while (message.left > 0 && status == KAENA_OK) {
        field f;
        if (!take_field(&message, &f))
            status = KAENA_FAIL(err, INTERNAL, "the daemon's answer is not an InferResponse");
        else if (f.number == RESPONSE_QUEUE_NS)
            queue_ns = f.value;
        else if (f.number == RESPONSE_EXECUTE_NS)
            execute_ns = f.value;
        else if (f.number == RESPONSE_OUTPUTS && f.is_bytes && count++ < wanted &&
                 !parse_tensor(f.bytes, 0, &list[count - 1]))
            status = KAENA_FAIL(err, INTERNAL, "output %zu of the daemon's answer is malformed",
                                count - 1);
    }
    if (status == KAENA_OK && count != wanted) {
        status = KAENA_FAIL(err, INVALID_ARGUMENT, "model '%s' gave %zu outputs, the call has %zu",
                            call->model, count, wanted);
        kaena_err_hint(err, "name the outputs you want, or give a tensor for each");
    }
    if (status == KAENA_OK)
        status = deliver(list, count, call, made, err);
    if (status == KAENA_OK) {
        call->queue_ns = queue_ns;
        call->execute_ns = execute_ns;
    } else if (made) {
        for (size_t i = 0; i < wanted; i++)
            if (made[i].data != call->outputs[i].data)
                kaena_tensor_free(&made[i]);
    }
    free(list);
    free(made);
    return status;
}

kaena_status kaena_wire_decode_infer(grpc_byte_buffer *answer, kaena_infer_call *call,
                                     kaena_err *err)
{
    grpc_byte_buffer_reader reader;
    if (!grpc_byte_buffer_reader_init(&reader, answer))
        return KAENA_FAIL(err, INTERNAL, "the daemon's answer cannot be read");
    /* peek gives pointers into the slices, which stay until the reader is destroyed. */
    segment *segments = NULL;
    size_t count = 0, capacity = 0;
    uint64_t size = 0;
    kaena_status status = KAENA_OK;
    for (grpc_slice *slice; grpc_byte_buffer_reader_peek(&reader, &slice);) {
        if (count == capacity) {
            capacity = capacity ? 2 * capacity : 16;
            segment *grown = realloc(segments, capacity * sizeof *grown);
            if (!grown) {
                status = KAENA_FAIL(err, RESOURCE_EXHAUSTED, "out of memory");
                break;
            }
            segments = grown;
        }
        segments[count++] = (segment){GRPC_SLICE_START_PTR(*slice), GRPC_SLICE_LENGTH(*slice)};
        size += GRPC_SLICE_LENGTH(*slice);
    }
    if (status == KAENA_OK)
        status = decode((cursor){.seg = segments, .left = size}, call, err);
    free(segments);
    grpc_byte_buffer_reader_destroy(&reader);
    return status;
}
