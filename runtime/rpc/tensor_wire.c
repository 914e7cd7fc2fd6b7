#include "tensor_wire.h"

#include <string.h>

/* proto/kaena/v1: field numbers. */
enum {
    INFER_MODEL = 1,
    INFER_INPUTS = 2,
    INFER_OUTPUTS = 3,
    INFER_PRIORITY = 4,
    INFER_CHECK_FINITE = 5,
    INFER_PLACES = 6,
    PLACE_NAME = 1,
    PLACE_RANGE = 2,
    STREAM_ID = 1,
    STREAM_REQUEST = 2,
    STREAM_CANCEL = 3,
    STREAM_TIMEOUT_MS = 4,
    STREAM_RESPONSE = 2,
    LOAD_OPTIONS = 1,
    LOAD_CHUNK = 2,
    SHARED_REGION = 1,
    SHARED_OFFSET = 2,
    SHARED_SIZE = 3,
    RESPONSE_QUEUE_NS = 2,
    RESPONSE_EXECUTE_NS = 3,
    RESPONSE_NOT_FINITE = 4,
};

enum { VARINT = 0, FIXED64 = 1, BYTES = 2, GROUP = 3, END_GROUP = 4, FIXED32 = 5 };

/* Groups in unknown fields; nothing of ours has any. */
#define MAX_GROUPS 16

/* Where the walk stands; |left| bytes of the (sub)message follow, and all of them exist. */
typedef struct cursor {
    const krpc_message *m;
    size_t piece, at;
    size_t left;
} cursor;

static cursor whole(const krpc_message *m)
{
    cursor c = {.m = m};
    for (size_t i = 0; i < m->n_pieces; i++)
        c.left += m->pieces[i].size;
    return c;
}

/* Passes empty and finished pieces; only called while bytes are left. */
static void settle(cursor *c)
{
    while (c->at == c->m->pieces[c->piece].size) {
        c->piece++;
        c->at = 0;
    }
}

static bool skip(cursor *c, uint64_t n)
{
    if (n > c->left)
        return false;
    c->left -= (size_t)n;
    while (n) {
        settle(c);
        size_t here = c->m->pieces[c->piece].size - c->at;
        size_t step = n < here ? (size_t)n : here;
        c->at += step;
        n -= step;
    }
    return true;
}

static bool read_varint(cursor *c, uint64_t *out)
{
    uint64_t v = 0;
    for (unsigned shift = 0; shift < 70 && c->left; shift += 7) {
        settle(c);
        uint8_t b = c->m->pieces[c->piece].data[c->at++];
        c->left--;
        if (shift < 63)
            v |= (uint64_t)(b & 0x7f) << shift;
        else if (b > 1)
            return false; /* more than 64 bits */
        else
            v |= (uint64_t)b << shift;
        if (!(b & 0x80)) {
            *out = v;
            return true;
        }
    }
    return false;
}

/* A length and the bytes it counts: |c| stands behind them afterwards. */
static bool read_range(cursor *c, krpc_range *out)
{
    uint64_t n;
    if (!read_varint(c, &n) || n > c->left)
        return false;
    if (n)
        settle(c);
    *out = (krpc_range){.piece = c->piece, .at = c->at, .size = (size_t)n};
    return skip(c, n);
}

static cursor inside(const krpc_message *m, const krpc_range *r)
{
    return (cursor){.m = m, .piece = r->piece, .at = r->at, .left = r->size};
}

static bool read_key(cursor *c, uint64_t *field, unsigned *kind)
{
    uint64_t key;
    if (!read_varint(c, &key) || key >> 3 == 0 || key > UINT32_MAX)
        return false;
    *field = key >> 3;
    *kind = (unsigned)(key & 7);
    return true;
}

/* Skips a field that nobody asked for. */
static bool skip_field(cursor *c, unsigned kind)
{
    unsigned depth = 0;
    do {
        uint64_t n = 0;
        bool ok = true;
        switch (kind) {
        case VARINT:
            ok = read_varint(c, &n);
            break;
        case FIXED64:
            ok = skip(c, 8);
            break;
        case BYTES:
            ok = read_varint(c, &n) && skip(c, n);
            break;
        case FIXED32:
            ok = skip(c, 4);
            break;
        case GROUP:
            ok = ++depth <= MAX_GROUPS;
            break;
        case END_GROUP:
            ok = depth-- > 0;
            break;
        default:
            ok = false;
        }
        if (!ok || (depth && !read_key(c, &n, &kind)))
            return false;
    } while (depth);
    return true;
}

static void add_dimension(krpc_wire_tensor *t, uint64_t v)
{
    if (t->rank < KAENA_MAX_RANK)
        t->dim[t->rank] = (int64_t)v;
    if (t->rank < UINT32_MAX)
        t->rank++;
}

/* Packed or not: a reader has to take both. */
static bool read_shape(cursor *c, unsigned kind, krpc_wire_tensor *t)
{
    uint64_t v;
    if (kind == VARINT) {
        if (!read_varint(c, &v))
            return false;
        add_dimension(t, v);
        return true;
    }
    krpc_range r;
    if (!read_range(c, &r))
        return false;
    for (cursor in = inside(c->m, &r); in.left;) {
        if (!read_varint(&in, &v))
            return false;
        add_dimension(t, v);
    }
    return true;
}

static bool read_shared(cursor c, krpc_shared *out)
{
    while (c.left) {
        uint64_t field, v = 0;
        unsigned kind;
        if (!read_key(&c, &field, &kind))
            return false;
        bool ours = kind == VARINT && field <= SHARED_SIZE;
        if (!(ours ? read_varint(&c, &v) : skip_field(&c, kind)))
            return false;
        if (ours && field == SHARED_REGION)
            out->region = v;
        else if (ours && field == SHARED_OFFSET)
            out->offset = v;
        else if (ours)
            out->size = v;
    }
    return true;
}

static bool read_tensor(cursor c, krpc_wire_tensor *t)
{
    *t = (krpc_wire_tensor){.whole = {c.piece, c.at, c.left}};
    while (c.left) {
        uint64_t field, v;
        unsigned kind;
        krpc_range r;
        bool ok = read_key(&c, &field, &kind);
        if (!ok)
            return false;
        if (field == KRPC_TENSOR_NAME && kind == BYTES) {
            ok = read_range(&c, &t->name);
        } else if (field == KRPC_TENSOR_DTYPE && kind == VARINT) {
            ok = read_varint(&c, &v);
            t->dtype = ok ? (int32_t)(uint32_t)v : 0;
        } else if (field == KRPC_TENSOR_SHAPE && (kind == VARINT || kind == BYTES)) {
            ok = read_shape(&c, kind, t);
        } else if (field == KRPC_TENSOR_DATA && kind == BYTES) {
            ok = read_range(&c, &t->data);
            t->payload = KRPC_PAYLOAD_DATA;
        } else if (field == KRPC_TENSOR_SHARED && kind == BYTES) {
            /* Parts of one message field merge, but a payload of the other kind in between wipes
             * the earlier parts out. */
            if (t->payload != KRPC_PAYLOAD_SHARED)
                memset(&t->shared, 0, sizeof t->shared);
            t->payload = KRPC_PAYLOAD_SHARED;
            ok = read_range(&c, &r) && read_shared(inside(c.m, &r), &t->shared);
        } else if (field == KRPC_TENSOR_STRINGS && kind == BYTES) {
            ok = read_range(&c, &r);
            t->n_strings++;
        } else if ((field == KRPC_TENSOR_SEQUENCE || field == KRPC_TENSOR_OPTIONAL) &&
                   kind == BYTES) {
            /* Parts of one message field would have to be merged; no encoder writes parts. */
            krpc_payload payload =
                field == KRPC_TENSOR_SEQUENCE ? KRPC_PAYLOAD_SEQUENCE : KRPC_PAYLOAD_OPTIONAL;
            ok = t->payload != payload && read_range(&c, &t->inside);
            t->payload = payload;
        } else {
            ok = skip_field(&c, kind);
        }
        if (!ok)
            return false;
    }
    return true;
}

bool krpc_next_string(const krpc_message *m, krpc_range *rest, krpc_range *out)
{
    cursor c = inside(m, rest);
    bool found = false;
    while (c.left && !found) {
        uint64_t field;
        unsigned kind;
        if (!read_key(&c, &field, &kind))
            return false;
        found = field == KRPC_TENSOR_STRINGS && kind == BYTES;
        if (!(found ? read_range(&c, out) : skip_field(&c, kind)))
            return false;
    }
    *rest = (krpc_range){c.piece, c.at, c.left};
    return found;
}

krpc_next krpc_next_tensor(const krpc_message *m, krpc_range *rest, krpc_wire_tensor *out)
{
    cursor c = inside(m, rest);
    bool found = false;
    while (c.left && !found) {
        uint64_t field;
        unsigned kind;
        krpc_range r;
        if (!read_key(&c, &field, &kind))
            return KRPC_NEXT_DAMAGED;
        found = field == KRPC_INSIDE_TENSOR && kind == BYTES;
        if (!(found ? read_range(&c, &r) && read_tensor(inside(m, &r), out) : skip_field(&c, kind)))
            return KRPC_NEXT_DAMAGED;
    }
    *rest = (krpc_range){c.piece, c.at, c.left};
    return found ? KRPC_NEXT_TENSOR : KRPC_NEXT_END;
}

static kaena_status too_many(const char *what, kaena_err *err)
{
    return KAENA_FAIL(err, INVALID_ARGUMENT, "request: more than %d %s", KRPC_MAX_TENSORS, what);
}

static bool read_place(cursor c, krpc_place *out)
{
    *out = (krpc_place){0};
    while (c.left) {
        uint64_t field;
        unsigned kind;
        krpc_range r;
        bool ok = read_key(&c, &field, &kind);
        if (ok && field == PLACE_NAME && kind == BYTES)
            ok = read_range(&c, &out->name);
        else if (ok && field == PLACE_RANGE && kind == BYTES)
            ok = read_range(&c, &r) && read_shared(inside(c.m, &r), &out->range);
        else if (ok)
            ok = skip_field(&c, kind);
        if (!ok)
            return false;
    }
    return true;
}

static kaena_status read_infer(cursor c, krpc_infer_request *out, kaena_err *err)
{
    const krpc_message *m = c.m;
    size_t size = c.left;
    out->model = (krpc_range){0};
    out->n_inputs = out->n_outputs = out->n_places = 0;
    out->priority = 0;
    out->check_finite = false;
    while (c.left) {
        uint64_t field;
        unsigned kind;
        krpc_range r;
        uint64_t v;
        size_t start = size - c.left;
        bool ok = read_key(&c, &field, &kind);
        if (ok && field == INFER_MODEL && kind == BYTES) {
            ok = read_range(&c, &out->model);
        } else if (ok && field == INFER_INPUTS && kind == BYTES) {
            if (out->n_inputs == KRPC_MAX_TENSORS)
                return too_many("inputs", err);
            ok = read_range(&c, &r) && read_tensor(inside(m, &r), &out->inputs[out->n_inputs++]);
        } else if (ok && field == INFER_OUTPUTS && kind == BYTES) {
            if (out->n_outputs == KRPC_MAX_TENSORS)
                return too_many("outputs", err);
            ok = read_range(&c, &out->outputs[out->n_outputs++]);
        } else if (ok && field == INFER_PLACES && kind == BYTES) {
            if (out->n_places == KRPC_MAX_TENSORS)
                return too_many("places", err);
            ok = read_range(&c, &r) && read_place(inside(m, &r), &out->places[out->n_places++]);
        } else if (ok && field == INFER_PRIORITY && kind == VARINT) {
            ok = read_varint(&c, &v);
            out->priority = ok ? (int32_t)(uint32_t)v : 0;
        } else if (ok && field == INFER_CHECK_FINITE && kind == VARINT) {
            ok = read_varint(&c, &v);
            out->check_finite = ok && v;
        } else if (ok) {
            ok = skip_field(&c, kind);
        }
        if (!ok)
            return KAENA_FAIL(
                err, INVALID_ARGUMENT,
                "request: not an InferRequest: the field at byte %zu of %zu is damaged", start,
                size);
    }
    return KAENA_OK;
}

kaena_status krpc_read_infer_request(const krpc_message *m, krpc_infer_request *out, kaena_err *err)
{
    return read_infer(whole(m), out, err);
}

kaena_status krpc_read_infer_request_in(const krpc_message *m, const krpc_range *range,
                                        krpc_infer_request *out, kaena_err *err)
{
    return read_infer(inside(m, range), out, err);
}

kaena_status krpc_read_stream_request(const krpc_message *m, krpc_stream_request *out,
                                      kaena_err *err)
{
    krpc_stream_request s = {0};
    for (cursor c = whole(m); c.left;) {
        uint64_t field, v;
        unsigned kind;
        bool ok = read_key(&c, &field, &kind);
        if (ok && field == STREAM_REQUEST && kind == BYTES) {
            /* Parts of one message field would have to be merged; no encoder writes parts. */
            ok = s.what != KRPC_STREAM_REQUEST && read_range(&c, &s.request);
            s.what = KRPC_STREAM_REQUEST;
        } else if (ok && kind == VARINT && field >= STREAM_ID && field <= STREAM_TIMEOUT_MS) {
            ok = read_varint(&c, &v);
            if (ok && field == STREAM_ID)
                s.id = v;
            else if (ok && field == STREAM_CANCEL)
                s.what = KRPC_STREAM_CANCEL;
            else if (ok && field == STREAM_TIMEOUT_MS)
                s.timeout_ms = (uint32_t)v;
        } else if (ok) {
            ok = skip_field(&c, kind);
        }
        if (!ok)
            return KAENA_FAIL(err, INVALID_ARGUMENT, "request: not an InferStreamRequest");
    }
    *out = s;
    return KAENA_OK;
}

kaena_status krpc_read_load_request(const krpc_message *m, krpc_load_part *part, krpc_range *range,
                                    kaena_err *err)
{
    cursor c = whole(m);
    krpc_load_part seen = KRPC_LOAD_NOTHING;
    krpc_range r = {0};
    while (c.left) {
        uint64_t field;
        unsigned kind;
        bool ok = read_key(&c, &field, &kind);
        if (ok && kind == BYTES && (field == LOAD_OPTIONS || field == LOAD_CHUNK)) {
            ok = read_range(&c, &r);
            seen = field == LOAD_CHUNK ? KRPC_LOAD_CHUNK : KRPC_LOAD_OPTIONS;
        } else if (ok) {
            ok = skip_field(&c, kind);
        }
        if (!ok)
            return KAENA_FAIL(err, INVALID_ARGUMENT, "request: not a LoadRequest");
    }
    *part = seen;
    *range = r;
    return KAENA_OK;
}

void krpc_range_copy(const krpc_message *m, const krpc_range *r, void *to)
{
    uint8_t *out = to;
    cursor c = inside(m, r);
    while (c.left) {
        settle(&c);
        size_t here = m->pieces[c.piece].size - c.at;
        size_t n = here < c.left ? here : c.left;
        memcpy(out, m->pieces[c.piece].data + c.at, n);
        out += n;
        c.at += n;
        c.left -= n;
    }
}

bool krpc_range_equals(const krpc_message *m, const krpc_range *r, const char *text)
{
    if (strlen(text) != r->size)
        return false;
    for (cursor c = inside(m, r); c.left; c.left--, text++) {
        settle(&c);
        if (m->pieces[c.piece].data[c.at++] != (uint8_t)*text)
            return false;
    }
    return true;
}

const char *krpc_range_text(const krpc_message *m, const krpc_range *r, char *buf, size_t size)
{
    krpc_range part = *r;
    if (part.size > size - 1)
        part.size = size - 1;
    krpc_range_copy(m, &part, buf);
    for (size_t i = 0; i < part.size; i++)
        if ((uint8_t)buf[i] < ' ')
            buf[i] = '?';
    buf[part.size] = 0;
    return buf;
}

/* ---- writing ---- */

static size_t varint_size(uint64_t v)
{
    size_t n = 1;
    for (; v >= 0x80; v >>= 7)
        n++;
    return n;
}

static uint8_t *put_varint(uint8_t *to, uint64_t v)
{
    for (; v >= 0x80; v >>= 7)
        *to++ = (uint8_t)(v | 0x80);
    *to++ = (uint8_t)v;
    return to;
}

static uint8_t *put_key(uint8_t *to, unsigned field, unsigned kind)
{
    return put_varint(to, field << 3 | kind);
}

size_t krpc_varint_size(uint64_t v)
{
    return varint_size(v);
}

uint8_t *krpc_put_varint(uint8_t *to, uint64_t v)
{
    return put_varint(to, v);
}

uint8_t *krpc_put_varint_field(uint8_t *to, unsigned field, uint64_t v)
{
    return put_varint(put_key(to, field, VARINT), v);
}

uint8_t *krpc_put_bytes_head(uint8_t *to, unsigned field, size_t size)
{
    return put_varint(put_key(to, field, BYTES), size);
}

size_t krpc_bytes_field_size(size_t size)
{
    return 1 + varint_size(size) + size;
}

static size_t shape_size(const kaena_shape *shape)
{
    size_t n = 0;
    for (int32_t i = 0; i < shape->rank; i++)
        n += varint_size((uint64_t)shape->dim[i]);
    return n;
}

/* Of the Tensor message without its payload; every key is one byte. */
static size_t tensor_head_size(const char *name, kaena_dtype dtype, const kaena_shape *shape)
{
    size_t name_size = strlen(name), dims = shape_size(shape);
    size_t n = 1 + varint_size((uint64_t)dtype);
    if (name_size)
        n += krpc_bytes_field_size(name_size);
    if (shape->rank)
        n += krpc_bytes_field_size(dims);
    return n;
}

/* The field of the response, and the Tensor's up to its payload of |payload| bytes. */
static uint8_t *put_tensor_head(uint8_t *to, const char *name, kaena_dtype dtype,
                                const kaena_shape *shape, size_t payload)
{
    to = krpc_put_bytes_head(to, KRPC_RESPONSE_OUTPUTS,
                             tensor_head_size(name, dtype, shape) + payload);
    size_t name_size = strlen(name);
    if (name_size) {
        to = krpc_put_bytes_head(to, KRPC_TENSOR_NAME, name_size);
        memcpy(to, name, name_size);
        to += name_size;
    }
    to = krpc_put_varint_field(to, KRPC_TENSOR_DTYPE, (uint64_t)dtype);
    if (shape->rank) {
        to = krpc_put_bytes_head(to, KRPC_TENSOR_SHAPE, shape_size(shape));
        for (int32_t i = 0; i < shape->rank; i++)
            to = put_varint(to, (uint64_t)shape->dim[i]);
    }
    return to;
}

size_t krpc_output_head_size(const char *name, kaena_dtype dtype, const kaena_shape *shape,
                             size_t data_bytes)
{
    size_t tensor = tensor_head_size(name, dtype, shape) + krpc_bytes_field_size(data_bytes);
    return krpc_bytes_field_size(tensor) - data_bytes;
}

uint8_t *krpc_put_output_head(uint8_t *to, const char *name, kaena_dtype dtype,
                              const kaena_shape *shape, size_t data_bytes)
{
    to = put_tensor_head(to, name, dtype, shape, krpc_bytes_field_size(data_bytes));
    return krpc_put_bytes_head(to, KRPC_TENSOR_DATA, data_bytes);
}

static size_t shared_size(const krpc_shared *r)
{
    return 3 + varint_size(r->region) + varint_size(r->offset) + varint_size(r->size);
}

size_t krpc_shared_output_size(const char *name, kaena_dtype dtype, const kaena_shape *shape,
                               const krpc_shared *range)
{
    return krpc_bytes_field_size(tensor_head_size(name, dtype, shape) +
                                 krpc_bytes_field_size(shared_size(range)));
}

uint8_t *krpc_put_shared_output(uint8_t *to, const char *name, kaena_dtype dtype,
                                const kaena_shape *shape, const krpc_shared *range)
{
    size_t size = shared_size(range);
    to = put_tensor_head(to, name, dtype, shape, krpc_bytes_field_size(size));
    to = krpc_put_bytes_head(to, KRPC_TENSOR_SHARED, size);
    to = krpc_put_varint_field(to, SHARED_REGION, range->region);
    to = krpc_put_varint_field(to, SHARED_OFFSET, range->offset);
    return krpc_put_varint_field(to, SHARED_SIZE, range->size);
}

size_t krpc_infer_tail_size(uint64_t queue_ns, uint64_t execute_ns)
{
    return 2 + varint_size(queue_ns) + varint_size(execute_ns);
}

uint8_t *krpc_put_infer_tail(uint8_t *to, uint64_t queue_ns, uint64_t execute_ns)
{
    to = krpc_put_varint_field(to, RESPONSE_QUEUE_NS, queue_ns);
    return krpc_put_varint_field(to, RESPONSE_EXECUTE_NS, execute_ns);
}

uint8_t *krpc_put_not_finite(uint8_t *to, const char *name)
{
    size_t size = strlen(name);
    to = krpc_put_bytes_head(to, RESPONSE_NOT_FINITE, size);
    memcpy(to, name, size);
    return to + size;
}

size_t krpc_stream_head_size(uint64_t id, size_t size)
{
    return 1 + varint_size(id) + krpc_bytes_field_size(size) - size;
}

uint8_t *krpc_put_stream_head(uint8_t *to, uint64_t id, size_t size)
{
    to = krpc_put_varint_field(to, STREAM_ID, id);
    return krpc_put_bytes_head(to, STREAM_RESPONSE, size);
}
