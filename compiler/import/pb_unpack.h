/* Unpacks protobuf messages that come from outside.
 *
 * protobuf-c recurses without a limit, allocates without a limit and cuts strings at an embedded
 * NUL; here the bytes are walked once, by the message's own descriptor, before it sees them. */
#ifndef KCC_PB_UNPACK_H
#define KCC_PB_UNPACK_H

#include <protobuf-c/protobuf-c.h>

#include "arena.h"
#include "err.h"

#define KCC_PB_MAX_DEPTH 100 /* of nested messages */

/* |message| is a member of a view that |descriptor| describes; everything it points to lives in
 * |arena|, so it is never freed singly. Fields of type bytes are aligned as kcc_pb_alloc says.
 *
 * INVALID_ARGUMENT    damaged, nested too deeply, or a name with an embedded NUL; the message has
 * the byte offset RESOURCE_EXHAUSTED  expands beyond the bound, or the arena is full */
kaena_status kcc_pb_unpack(kaena_arena *arena, const ProtobufCMessageDescriptor *descriptor,
                           const void *data, size_t size, ProtobufCMessage **message,
                           kaena_err *err) KAENA_CHECKED;

#endif
