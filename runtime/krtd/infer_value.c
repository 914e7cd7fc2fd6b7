#include "infer_value.h"

#include <inttypes.h>
#include <string.h>

#include "checked.h"

/* --- Reading
 * ---------------------------------------------------------------------------------------------------------------
 */

static kaena_status no_room(const kaena_arena *arena, kaena_err *err)
{
    return KAENA_FAIL(err, RESOURCE_EXHAUSTED,
                      "its parts take more than %zu bytes, out of all proportion to the request",
                      arena->quota);
}

static kaena_status read_type(const krpc_wire_tensor *w, kop_tensor *out, kaena_err *err)
{
    char text[KAENA_SHAPE_TEXT];
    int64_t elements;
    *out = (kop_tensor){.dtype = (kaena_dtype)w->dtype};
    if (kaena_dtype_size(out->dtype) == 0)
        return KAENA_FAIL(err, INVALID_ARGUMENT, "%" PRId32 " is no element type", w->dtype);
    if (w->rank > KAENA_MAX_RANK)
        return KAENA_FAIL(err, INVALID_ARGUMENT, "rank %" PRIu32 " is more than %d", w->rank,
                          KAENA_MAX_RANK);
    out->shape.rank = (int32_t)w->rank;
    memcpy(out->shape.dim, w->dim, sizeof out->shape.dim);
    if (!kaena_shape_elements(&out->shape, &elements))
        return KAENA_FAIL(err, INVALID_ARGUMENT, "%s is no shape",
                          kaena_shape_print(&out->shape, text, sizeof text));
    return KAENA_OK;
}

/* Strings lie behind their array. */
static kaena_status read_strings(const krpc_message *m, const krpc_wire_tensor *w,
                                 kaena_arena *arena, kop_tensor *t, kaena_err *err)
{
    char shape[KAENA_SHAPE_TEXT];
    size_t n = kop_elements(t);
    if (w->n_strings != n || w->data.size)
        return KAENA_FAIL(err, INVALID_ARGUMENT,
                          "%zu strings%s for string %s of %zu: one entry of 'strings' each",
                          w->n_strings, w->data.size ? " and data" : "",
                          kaena_shape_print(&t->shape, shape, sizeof shape), n);
    kaena_string *strings = KAENA_NEW_N(arena, kaena_string, n);
    char *text = kaena_arena_alloc(arena, w->whole.size);
    if (!strings || !text)
        return no_room(arena, err);
    krpc_range rest = w->whole, one;
    for (size_t i = 0; i < n && krpc_next_string(m, &rest, &one); i++) {
        krpc_range_copy(m, &one, text);
        strings[i] = (kaena_string){.data = text, .size = one.size};
        text += one.size;
    }
    t->data = strings;
    return KAENA_OK;
}

static kaena_status read_tensor(const krpc_message *m, const krpc_wire_tensor *w, bool may_share,
                                kaena_arena *arena, kop_tensor *out, krpc_range *data,
                                kaena_err *err)
{
    char shape[KAENA_SHAPE_TEXT];
    KAENA_TRY(read_type(w, out, err));
    if (w->payload == KRPC_PAYLOAD_SEQUENCE || w->payload == KRPC_PAYLOAD_OPTIONAL)
        return KAENA_FAIL(err, INVALID_ARGUMENT, "expected a tensor, got %s",
                          w->payload == KRPC_PAYLOAD_SEQUENCE ? "a sequence" : "an optional");
    bool shared = w->payload == KRPC_PAYLOAD_SHARED;
    if (shared && (out->dtype == KAENA_STRING || !may_share))
        return KAENA_FAIL(err, INVALID_ARGUMENT, "%s cannot lie in shared memory: send %s",
                          may_share ? "strings" : "what stands in a sequence or optional",
                          may_share ? "them in 'strings'" : "the bytes in 'data'");
    if (out->dtype == KAENA_STRING)
        return read_strings(m, w, arena, out, err);
    uint64_t bytes;
    if (w->n_strings)
        return KAENA_FAIL(err, INVALID_ARGUMENT,
                          "'strings' is for STRING tensors; send %s bytes in 'data'",
                          kaena_dtype_name(out->dtype));
    if (!kaena_mul_u64(kop_elements(out), kaena_dtype_size(out->dtype), &bytes) ||
        bytes != (shared ? w->shared.size : w->data.size))
        return KAENA_FAIL(err, INVALID_ARGUMENT, "%" PRIu64 " bytes for %s %s",
                          shared ? w->shared.size : w->data.size, kaena_dtype_name(out->dtype),
                          kaena_shape_print(&out->shape, shape, sizeof shape));
    *data = w->data;
    return KAENA_OK;
}

static kaena_status read_value(const krpc_message *m, const krpc_wire_tensor *w, uint8_t form,
                               bool may_share, kaena_arena *arena, kop_tensor *out,
                               krpc_range *data, kaena_err *err);

/* What stands inside a sequence or optional, with its data. */
static kaena_status read_inside(const krpc_message *m, const krpc_wire_tensor *w, uint8_t form,
                                kaena_arena *arena, kop_tensor *out, kaena_err *err)
{
    krpc_wire_tensor item;
    krpc_range rest = w->inside, data;
    krpc_next next;
    size_t n = 0;
    while ((next = krpc_next_tensor(m, &rest, &item)) == KRPC_NEXT_TENSOR)
        n++;
    if (next == KRPC_NEXT_DAMAGED)
        return KAENA_FAIL(err, INVALID_ARGUMENT, "item %zu is damaged", n);
    if (form != KOP_FORM_SEQUENCE && n > 1)
        return KAENA_FAIL(err, INVALID_ARGUMENT, "an optional of %zu values", n);
    kop_tensor *items = KAENA_NEW_N(arena, kop_tensor, n);
    if (!items)
        return no_room(arena, err);
    rest = w->inside;
    for (size_t i = 0; i < n; i++) {
        (void)krpc_next_tensor(m, &rest, &item);
        kaena_status st =
            read_value(m, &item, kop_item_form(form), false, arena, &items[i], &data, err);
        if (st == KAENA_OK && items[i].form == KOP_FORM_TENSOR && !items[i].data &&
            !krt_value_fill(m, &data, arena, &items[i]))
            st = no_room(arena, err);
        if (st == KAENA_OK && items[i].dtype != (kaena_dtype)w->dtype)
            st = KAENA_FAIL(err, INVALID_ARGUMENT, "is %s, the whole %s",
                            kaena_dtype_name(items[i].dtype),
                            kaena_dtype_name((kaena_dtype)w->dtype));
        if (st != KAENA_OK)
            return kaena_err_wrap(err, st, "item %zu", i);
    }
    *out = (kop_tensor){
        .dtype = (kaena_dtype)w->dtype, .form = form, .unranked = true, .data = items, .count = n};
    return KAENA_OK;
}

static kaena_status read_value(const krpc_message *m, const krpc_wire_tensor *w, uint8_t form,
                               bool may_share, kaena_arena *arena, kop_tensor *out,
                               krpc_range *data, kaena_err *err)
{
    if (form == KOP_FORM_TENSOR)
        return read_tensor(m, w, may_share, arena, out, data, err);
    krpc_payload payload =
        form == KOP_FORM_SEQUENCE ? KRPC_PAYLOAD_SEQUENCE : KRPC_PAYLOAD_OPTIONAL;
    if (w->payload != payload)
        return KAENA_FAIL(err, INVALID_ARGUMENT, "expected %s in '%s'", kop_form_name(form),
                          form == KOP_FORM_SEQUENCE ? "sequence" : "optional");
    if (kaena_dtype_size((kaena_dtype)w->dtype) == 0)
        return KAENA_FAIL(err, INVALID_ARGUMENT, "%" PRId32 " is no element type", w->dtype);
    return read_inside(m, w, form, arena, out, err);
}

kaena_status krt_value_read(const krpc_message *m, const krpc_wire_tensor *w, uint8_t form,
                            kaena_arena *arena, kop_tensor *out, krpc_range *data, kaena_err *err)
{
    return read_value(m, w, form, true, arena, out, data, err);
}

bool krt_value_fill(const krpc_message *m, const krpc_range *data, kaena_arena *arena,
                    kop_tensor *t)
{
    t->data = kaena_arena_alloc(arena, data->size);
    if (!t->data)
        return false;
    krpc_range_copy(m, data, t->data);
    return true;
}

/* --- Writing
 * ---------------------------------------------------------------------------------------------------------------
 */

static size_t shape_size(const kaena_shape *shape)
{
    size_t n = 0;
    for (int32_t i = 0; i < shape->rank; i++)
        n += krpc_varint_size((uint64_t)shape->dim[i]);
    return n;
}

static size_t message_size(const char *name, const kop_tensor *t);

/* Of the Sequence or Optional. */
static size_t inside_size(const kop_tensor *t)
{
    const kop_tensor *items = kop_items(t);
    size_t size = 0;
    for (size_t i = 0; i < t->count; i++)
        size += krpc_bytes_field_size(message_size(NULL, &items[i]));
    return size;
}

static size_t payload_size(const kop_tensor *t)
{
    if (t->form != KOP_FORM_TENSOR)
        return krpc_bytes_field_size(inside_size(t));
    size_t size = 0, n = kop_elements(t), dims = shape_size(&t->shape);
    if (dims)
        size += krpc_bytes_field_size(dims);
    if (t->dtype != KAENA_STRING)
        return size + krpc_bytes_field_size(n * kaena_dtype_size(t->dtype));
    for (size_t i = 0; i < n; i++)
        size += krpc_bytes_field_size(((const kaena_string *)t->data)[i].size);
    return size;
}

/* Of the Tensor; values nest at most twice. */
static size_t message_size(const char *name, const kop_tensor *t)
{
    size_t size = 1 + krpc_varint_size((uint64_t)t->dtype) + payload_size(t);
    return name ? size + krpc_bytes_field_size(strlen(name)) : size;
}

static uint8_t *put_bytes(uint8_t *to, unsigned field, const void *data, size_t size)
{
    to = krpc_put_bytes_head(to, field, size);
    if (size)
        memcpy(to, data, size);
    return to + size;
}

static uint8_t *put_message(uint8_t *to, const char *name, const kop_tensor *t)
{
    if (name)
        to = put_bytes(to, KRPC_TENSOR_NAME, name, strlen(name));
    to = krpc_put_varint_field(to, KRPC_TENSOR_DTYPE, (uint64_t)t->dtype);
    if (t->form != KOP_FORM_TENSOR) {
        const kop_tensor *items = kop_items(t);
        to = krpc_put_bytes_head(
            to, t->form == KOP_FORM_SEQUENCE ? KRPC_TENSOR_SEQUENCE : KRPC_TENSOR_OPTIONAL,
            inside_size(t));
        for (size_t i = 0; i < t->count; i++) {
            to = krpc_put_bytes_head(to, KRPC_INSIDE_TENSOR, message_size(NULL, &items[i]));
            to = put_message(to, NULL, &items[i]);
        }
        return to;
    }
    size_t n = kop_elements(t), dims = shape_size(&t->shape);
    if (dims)
        to = krpc_put_bytes_head(to, KRPC_TENSOR_SHAPE, dims);
    for (int32_t i = 0; i < t->shape.rank; i++)
        to = krpc_put_varint(to, (uint64_t)t->shape.dim[i]);
    if (t->dtype != KAENA_STRING)
        return put_bytes(to, KRPC_TENSOR_DATA, t->data, n * kaena_dtype_size(t->dtype));
    const kaena_string *s = t->data;
    for (size_t i = 0; i < n; i++)
        to = put_bytes(to, KRPC_TENSOR_STRINGS, s[i].data, s[i].size);
    return to;
}

size_t krt_value_size(const char *name, const kop_tensor *t)
{
    return krpc_bytes_field_size(message_size(name, t));
}

uint8_t *krt_value_put(uint8_t *to, const char *name, const kop_tensor *t)
{
    to = krpc_put_bytes_head(to, KRPC_RESPONSE_OUTPUTS, message_size(name, t));
    return put_message(to, name, t);
}
