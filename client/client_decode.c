/* InferResponse into the caller's memory. */
#include <grpc/byte_buffer_reader.h>
#include <grpc/slice.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "checked.h"
#include "client_fields.h"
#include "client_wire.h"
#include "dtype.h"
#include "shape.h"

#define MAX_DEPTH 2 /* of tensors in a tensor */

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
    kaena_wire_range range; /* of a tensor in shared memory; else its region is 0 */
    bool not_finite;
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

static bool parse_range(cursor c, kaena_wire_range *out)
{
    for (field f; c.left > 0;) {
        if (!take_field(&c, &f))
            return false;
        if (f.number == RANGE_REGION)
            out->region = f.value;
        else if (f.number == RANGE_OFFSET)
            out->offset = f.value;
        else if (f.number == RANGE_SIZE)
            out->size = f.value;
    }
    return out->region != 0;
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
        } else if (f.number == TENSOR_SHARED && f.is_bytes) {
            if (depth > 0 || !parse_range(f.bytes, &out->range))
                return false;
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
           bytes == (out->range.region ? out->range.size : out->data.left);
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
    if (!wanted->data || wanted->memory)
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

/* An output that the daemon wrote to shared memory: where we said that it may, or nowhere. */
static kaena_status place_shared(const received *r, const kaena_tensor *wanted,
                                 const kaena_wire_shared *shared, size_t index, kaena_tensor *out,
                                 kaena_err *err)
{
    const kaena_wire_range *room = shared ? &shared->outputs[index] : NULL;
    char name[128];
    if (!room || room->region != r->range.region || room->offset != r->range.offset ||
        room->size < r->range.size || r->kind != KAENA_TENSOR || r->dtype == KAENA_STRING)
        return KAENA_FAIL(err, INTERNAL, "the daemon put output '%s' where it was not to be",
                          name_text(r, name, sizeof name));
    void *data = shared->output_data[index];
    if (wanted->data && !wanted->memory) {
        const segment here = {data, (size_t)r->range.size};
        received copied = *r;
        copied.data = (cursor){.seg = &here, .left = r->range.size};
        return place(&copied, wanted, out, err);
    }
    *out = (kaena_tensor){.name = wanted->name,
                          .data = data,
                          .bytes = (size_t)r->range.size,
                          .dtype = r->dtype,
                          .rank = r->shape.rank};
    memcpy(out->shape, r->shape.dim, sizeof out->shape);
    return KAENA_OK;
}

static kaena_status deliver(const received *list, size_t count, kaena_infer_call *call,
                            const kaena_wire_shared *shared, kaena_tensor *made, kaena_err *err)
{
    for (size_t i = 0; i < call->output_count; i++) {
        const received *r = find_output(list, count, &call->outputs[i], i);
        if (!r)
            return KAENA_FAIL(err, INTERNAL, "the daemon's answer lacks output '%s'",
                              call->outputs[i].name);
        if (r->range.region)
            KAENA_TRY(place_shared(r, &call->outputs[i], shared, i, &made[i], err));
        else
            KAENA_TRY(place(r, &call->outputs[i], &made[i], err));
        made[i].not_finite = r->not_finite;
    }
    return KAENA_OK;
}

/* Marks the outputs that the answer says have NaN or infinity. */
static void mark_not_finite(cursor message, received *list, size_t count)
{
    for (field f; message.left > 0 && take_field(&message, &f);) {
        char name[1024];
        if (f.number != RESPONSE_NOT_FINITE || !f.is_bytes || f.value >= sizeof name)
            continue;
        (void)take(&f.bytes, name, f.value);
        name[f.value] = 0;
        for (size_t i = 0; i < count; i++)
            list[i].not_finite = list[i].not_finite || has_name(&list[i], name);
    }
}

/* Output |i| was put into memory of its own, for nobody: the call has failed. */
static bool is_own(const kaena_tensor *made, const kaena_infer_call *call,
                   const kaena_wire_shared *shared, size_t i)
{
    return made[i].data != call->outputs[i].data &&
           !(shared && made[i].data == shared->output_data[i]);
}

static kaena_status decode(cursor message, kaena_infer_call *call, const kaena_wire_shared *shared,
                           kaena_err *err)
{
    const cursor whole = message;
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
    if (status == KAENA_OK) {
        mark_not_finite(whole, list, count);
        status = deliver(list, count, call, shared, made, err);
    }
    if (status == KAENA_OK) {
        memcpy(call->outputs, made, wanted * sizeof *made);
        call->queue_ns = queue_ns;
        call->execute_ns = execute_ns;
    } else if (made) {
        for (size_t i = 0; i < wanted; i++)
            if (is_own(made, call, shared, i))
                kaena_tensor_free(&made[i]);
    }
    free(list);
    free(made);
    return status;
}

kaena_status kaena_wire_decode_infer(grpc_byte_buffer *answer, kaena_infer_call *call,
                                     const kaena_wire_shared *shared, kaena_err *err)
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
        status = decode((cursor){.seg = segments, .left = size}, call, shared, err);
    free(segments);
    grpc_byte_buffer_reader_destroy(&reader);
    return status;
}
