/* Small protobuf-c messages in and out of byte buffers. Tensors go through tensor_wire.h. */
#ifndef RPC_PB_H
#define RPC_PB_H

#include <grpc/byte_buffer.h>
#include <protobuf-c/protobuf-c.h>

#include "arena.h"
#include "err.h"
#include "kaena/v1/runtime.pb-c.h"
#include "tensor_wire.h"

/* Bounds what parsing one small request may hold; a message of empty map entries grows about
 * sixtyfold. */
#define KRPC_PB_QUOTA (4u << 20)

/* Parses |message| into |arena|, which has a quota; the result dies with the arena. Safe for
 * any bytes: nesting is bounded, strings are UTF-8 without NUL bytes.
 * INVALID_ARGUMENT: not such a message.
 * RESOURCE_EXHAUSTED: more than the arena's quota. */
kaena_status krpc_pb_parse(grpc_byte_buffer *message, const ProtobufCMessageDescriptor *type,
                           kaena_arena *arena, ProtobufCMessage **out,
                           kaena_err *err) KAENA_CHECKED;

/* The pieces of |message|, for tensor_wire.h: valid while it lives. |pieces| has room for |max|; a
 * message of more gets a list from malloc, in |*to_free|. RESOURCE_EXHAUSTED: out of memory. */
kaena_status krpc_message_of(grpc_byte_buffer *message, krpc_piece *pieces, size_t max,
                             krpc_message *out, krpc_piece **to_free, kaena_err *err) KAENA_CHECKED;

/* |err| as it travels: its texts become UTF-8, and |out| borrows them. */
void krpc_pb_detail(kaena_err *err, Kaena__V1__ErrorDetail *out);

/* A byte buffer with one slice; the caller's. */
grpc_byte_buffer *krpc_pb_pack(const ProtobufCMessage *message);

#endif
