#include "rpc_pb.h"

#include <grpc/byte_buffer_reader.h>
#include <grpc/slice.h>
#include <stdlib.h>
#include <string.h>

#include "utf8.h"

typedef struct parse_memory {
    kaena_arena *arena;
    bool short_of; /* the arena had none */
} parse_memory;

static void *arena_alloc(void *user, size_t size)
{
    parse_memory *memory = user;
    void *p = kaena_arena_alloc(memory->arena, size);
    memory->short_of = memory->short_of || !p;
    return p;
}

/* The arena frees everything at once. */
static void arena_free(void *user, void *p)
{
    (void)user;
    (void)p;
}

/* Deepest message that is read: ours are three deep. */
#define MAX_DEPTH 16

static bool read_varint(const uint8_t **p, const uint8_t *end, uint64_t *out)
{
    uint64_t v = 0;
    for (unsigned shift = 0; shift < 64 && *p < end; shift += 7) {
        uint8_t b = *(*p)++;
        v |= (uint64_t)(b & 0x7f) << shift;
        if (!(b & 0x80)) {
            *out = v;
            return true;
        }
    }
    return false;
}

/* What protobuf-c does not look at: it keeps strings as C strings, so that "a\0b" would become "a"
 * without a word, takes any bytes for UTF-8, and descends as deep as the input says. */
static kaena_status check_wire(const ProtobufCMessageDescriptor *type, const uint8_t *p,
                               const uint8_t *end, int depth, kaena_err *err)
{
    if (depth > MAX_DEPTH)
        return KAENA_FAIL(err, INVALID_ARGUMENT, "request: %s nested too deep", type->name);
    while (p < end) {
        uint64_t key, n = 0;
        bool ok = read_varint(&p, end, &key);
        switch (ok ? key & 7 : 7) {
        case 0:
            ok = read_varint(&p, end, &n), n = 0;
            break;
        case 1:
            n = 8;
            break;
        case 2:
            ok = read_varint(&p, end, &n);
            break;
        case 5:
            n = 4;
            break;
        default:
            ok = false;
        }
        if (!ok || n > (uint64_t)(end - p))
            return KAENA_FAIL(err, INVALID_ARGUMENT, "request: not a %s", type->name);
        const ProtobufCFieldDescriptor *f =
            (key & 7) == 2 && key >> 3 <= UINT32_MAX
                ? protobuf_c_message_descriptor_get_field(type, (unsigned)(key >> 3))
                : NULL;
        if (f && f->type == PROTOBUF_C_TYPE_STRING) {
            if (n && memchr(p, 0, n))
                return KAENA_FAIL(err, INVALID_ARGUMENT, "request: %s of %s holds a NUL byte",
                                  f->name, type->name);
            if (!krpc_utf8_valid(p, n))
                return KAENA_FAIL(err, INVALID_ARGUMENT, "request: %s of %s is not UTF-8", f->name,
                                  type->name);
        } else if (f && f->type == PROTOBUF_C_TYPE_MESSAGE) {
            KAENA_TRY(check_wire(f->descriptor, p, p + n, depth + 1, err));
        }
        p += n;
    }
    return KAENA_OK;
}

kaena_status krpc_pb_parse(grpc_byte_buffer *message, const ProtobufCMessageDescriptor *type,
                           kaena_arena *arena, ProtobufCMessage **out, kaena_err *err)
{
    size_t size = grpc_byte_buffer_length(message);
    if (size > KRPC_PB_QUOTA)
        return KAENA_FAIL(err, RESOURCE_EXHAUSTED, "request of %zu bytes: at most %u are read",
                          size, KRPC_PB_QUOTA);
    uint8_t *flat = kaena_arena_alloc(arena, size);
    if (!flat)
        return KAENA_FAIL(err, RESOURCE_EXHAUSTED, "request of %zu bytes: too large", size);
    grpc_byte_buffer_reader reader;
    if (!grpc_byte_buffer_reader_init(&reader, message))
        return KAENA_FAIL(err, INVALID_ARGUMENT, "request: damaged compression");
    size_t at = 0;
    grpc_slice *slice;
    while (grpc_byte_buffer_reader_peek(&reader, &slice) && at < size) {
        size_t n = GRPC_SLICE_LENGTH(*slice);
        n = n < size - at ? n : size - at;
        memcpy(flat + at, GRPC_SLICE_START_PTR(*slice), n);
        at += n;
    }
    grpc_byte_buffer_reader_destroy(&reader);
    KAENA_TRY(check_wire(type, flat, flat + at, 0, err));
    parse_memory memory = {.arena = arena};
    ProtobufCAllocator allocator = {
        .alloc = arena_alloc, .free = arena_free, .allocator_data = &memory};
    ProtobufCMessage *m = protobuf_c_message_unpack(type, &allocator, at, flat);
    if (!m)
        return memory.short_of
                   ? KAENA_FAIL(err, RESOURCE_EXHAUSTED, "request: too many parts, or no memory")
                   : KAENA_FAIL(err, INVALID_ARGUMENT, "request: not a %s", type->name);
    *out = m;
    return KAENA_OK;
}

kaena_status krpc_message_of(grpc_byte_buffer *message, krpc_piece *pieces, size_t max,
                             krpc_message *out, krpc_piece **to_free, kaena_err *err)
{
    grpc_byte_buffer_reader reader;
    krpc_piece *list = pieces, *made = NULL;
    size_t n = 0;
    for (int pass = 0; pass < 2; pass++) { /* the first only counts what does not fit */
        grpc_slice *slice;
        n = 0;
        if (!grpc_byte_buffer_reader_init(&reader, message))
            return KAENA_FAIL(err, INVALID_ARGUMENT, "request: damaged compression");
        for (; grpc_byte_buffer_reader_peek(&reader, &slice); n++)
            if (n < max)
                list[n] = (krpc_piece){GRPC_SLICE_START_PTR(*slice), GRPC_SLICE_LENGTH(*slice)};
        grpc_byte_buffer_reader_destroy(&reader);
        if (n <= max)
            break;
        made = calloc(n, sizeof *made);
        if (!made)
            return KAENA_FAIL(err, RESOURCE_EXHAUSTED, "request: out of memory");
        list = made;
        max = n;
    }
    *out = (krpc_message){.pieces = list, .n_pieces = n};
    *to_free = made;
    return KAENA_OK;
}

void krpc_pb_detail(kaena_err *err, Kaena__V1__ErrorDetail *out)
{
    krpc_utf8_scrub(err->what);
    krpc_utf8_scrub(err->hint);
    kaena__v1__error_detail__init(out);
    out->reason = (Kaena__V1__ErrorDetail__Reason)err->reason;
    out->what = err->what;
    out->needed = err->needed;
    out->available = err->available;
    out->hint = err->hint;
}

grpc_byte_buffer *krpc_pb_pack(const ProtobufCMessage *message)
{
    grpc_slice slice = grpc_slice_malloc(protobuf_c_message_get_packed_size(message));
    (void)protobuf_c_message_pack(message, GRPC_SLICE_START_PTR(slice));
    grpc_byte_buffer *out = grpc_raw_byte_buffer_create(&slice, 1);
    grpc_slice_unref(slice);
    return out;
}
