/* Fuzz target: the messages of a Load stream, each behind two bytes of length. The first is read as
 * options, the others as chunks. */
#include <grpc/byte_buffer.h>
#include <stdlib.h>
#include <string.h>

#include "kaena/v1/runtime.pb-c.h"
#include "rpc_pb.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool condition)
{
    if (!condition)
        abort();
}

static void read_options(grpc_byte_buffer *message)
{
    kaena_arena arena;
    kaena_err err;
    ProtobufCMessage *m;
    kaena_arena_init(&arena, KRPC_PB_QUOTA);
    kaena_err_init(&err);
    if (krpc_pb_parse(message, &kaena__v1__load_request__descriptor, &arena, &m, &err) ==
        KAENA_OK) {
        const Kaena__V1__LoadRequest *q = (Kaena__V1__LoadRequest *)m;
        if (q->part_case == KAENA__V1__LOAD_REQUEST__PART_OPTIONS)
            must(strlen(q->options->name) + strlen(q->options->path) < 65536);
    } else {
        must(err.what[0] != 0);
    }
    kaena_arena_fini(&arena);
}

static void read_chunk(grpc_byte_buffer *message)
{
    krpc_piece pieces[1], *made;
    krpc_message m;
    krpc_load_part part;
    krpc_range range;
    if (krpc_message_of(message, pieces, 1, &m, &made, NULL) != KAENA_OK)
        return;
    if (krpc_read_load_request(&m, &part, &range, NULL) == KAENA_OK) {
        uint8_t *to = malloc(range.size + 1);
        krpc_range_copy(&m, &range, to);
        free(to);
    }
    free(made);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    for (bool first = true; size >= 2; first = false) {
        size_t n = (size_t)(data[0] | data[1] << 8);
        data += 2;
        size -= 2;
        n = n < size ? n : size;
        /* two slices, so that fields cross the border */
        grpc_slice slices[2] = {
            grpc_slice_from_copied_buffer((const char *)data, n / 2),
            grpc_slice_from_copied_buffer((const char *)data + n / 2, n - n / 2)};
        grpc_byte_buffer *message = grpc_raw_byte_buffer_create(slices, 2);
        if (first)
            read_options(message);
        read_chunk(message);
        grpc_byte_buffer_destroy(message);
        grpc_slice_unref(slices[0]);
        grpc_slice_unref(slices[1]);
        data += n;
        size -= n;
    }
    return 0;
}
