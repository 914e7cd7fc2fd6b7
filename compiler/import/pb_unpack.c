#include "pb_unpack.h"

#include <stdbool.h>
#include <string.h>

#include "pb_budget.h"

/* What is left of the bytes, and where they began: messages name offsets in the file. */
typedef struct wire {
    const uint8_t *start, *at, *end;
    kaena_err *err;
} wire;

static bool wire_varint(wire *w, uint64_t *out)
{
    uint64_t v = 0;
    for (unsigned shift = 0; shift < 70 && w->at < w->end; shift += 7) {
        uint8_t byte = *w->at++;
        if (shift < 64)
            v |= (uint64_t)(byte & 0x7f) << shift;
        if (!(byte & 0x80)) {
            *out = v;
            return true;
        }
    }
    return false;
}

static kaena_status wire_damaged(const wire *w, const ProtobufCMessageDescriptor *d,
                                 const char *what)
{
    return KAENA_FAIL(w->err, INVALID_ARGUMENT,
                      "byte %zu: %s inside %s: the file is damaged or is "
                      "not of this format",
                      (size_t)(w->at - w->start), what, d->short_name);
}

/* Walks one message that ends at |end|. */
static kaena_status scan(wire *w, const ProtobufCMessageDescriptor *d, const uint8_t *end,
                         int depth)
{
    if (depth > KCC_PB_MAX_DEPTH)
        return KAENA_FAIL(w->err, INVALID_ARGUMENT,
                          "byte %zu: messages are nested more than %d deep",
                          (size_t)(w->at - w->start), KCC_PB_MAX_DEPTH);
    while (w->at < end) {
        uint64_t tag, size = 0;
        if (!wire_varint(w, &tag) || tag >> 3 == 0 || tag >> 32)
            return wire_damaged(w, d, "a field tag is wrong");
        switch (tag & 7) {
        case PROTOBUF_C_WIRE_TYPE_VARINT:
            if (!wire_varint(w, &size))
                return wire_damaged(w, d, "a number is cut off");
            size = 0;
            break;
        case PROTOBUF_C_WIRE_TYPE_64BIT:
            size = 8;
            break;
        case PROTOBUF_C_WIRE_TYPE_32BIT:
            size = 4;
            break;
        case PROTOBUF_C_WIRE_TYPE_LENGTH_PREFIXED:
            if (!wire_varint(w, &size))
                return wire_damaged(w, d, "a length is cut off");
            break;
        default:
            return wire_damaged(w, d, "a field has an unknown wire type");
        }
        if (w->at > end || size > (uint64_t)(end - w->at))
            return wire_damaged(w, d, "a field reaches past the end");
        const ProtobufCFieldDescriptor *f =
            protobuf_c_message_descriptor_get_field(d, (unsigned)(tag >> 3));
        if (f && (tag & 7) == PROTOBUF_C_WIRE_TYPE_LENGTH_PREFIXED) {
            if (f->type == PROTOBUF_C_TYPE_STRING && memchr(w->at, 0, size))
                return KAENA_FAIL(w->err, INVALID_ARGUMENT,
                                  "byte %zu: field '%s' of %s has a NUL byte inside",
                                  (size_t)(w->at - w->start), f->name, d->short_name);
            if (f->type == PROTOBUF_C_TYPE_MESSAGE) {
                KAENA_TRY(scan(w, f->descriptor, w->at + size, depth + 1));
                continue;
            }
        }
        w->at += size;
    }
    return KAENA_OK;
}

static void *budget_alloc(void *data, size_t size)
{
    return kcc_pb_alloc(data, size);
}

static void budget_free(void *data, void *p)
{
    (void)data; /* the arena gives everything back at once */
    (void)p;
}

kaena_status kcc_pb_unpack(kaena_arena *arena, const ProtobufCMessageDescriptor *descriptor,
                           const void *data, size_t size, ProtobufCMessage **message,
                           kaena_err *err)
{
    if (size == 0)
        data = ""; /* an empty file has no address */
    wire w = {.start = data, .at = data, .end = (const uint8_t *)data + size, .err = err};
    KAENA_TRY(scan(&w, descriptor, w.end, 1));
    kcc_pb_budget b;
    kcc_pb_budget_init(&b, arena, size);
    ProtobufCAllocator allocator = {budget_alloc, budget_free, &b};
    ProtobufCMessage *m = protobuf_c_message_unpack(descriptor, &allocator, size, data);
    if (!m && b.exhausted)
        return kcc_pb_exhausted(err);
    if (!m)
        return KAENA_FAIL(err, INVALID_ARGUMENT, "not a %s, or damaged", descriptor->short_name);
    *message = m;
    return KAENA_OK;
}
