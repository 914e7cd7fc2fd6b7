/* Tensors on the wire: kaena.v1.InferRequest out of the caller's memory, kaena.v1.InferResponse
 * into it.
 *
 * protobuf-c would copy every tensor twice each way; here large inputs are sent from where they
 * lie, and outputs are copied once, from the received slices to their place. Everything else the
 * client says goes through protobuf-c. */
#ifndef KAENA_CLIENT_WIRE_H
#define KAENA_CLIENT_WIRE_H

#include <grpc/byte_buffer.h>
#include <stdatomic.h>

#include "client_wire_range.h"
#include "err.h"
#include "kaena/client.h"

/* Counts the slices that still point into the caller's tensors. */
typedef struct kaena_wire_pin {
    atomic_int slices;
} kaena_wire_pin;

/* What of a call lies in shared memory. */
typedef struct kaena_wire_shared {
    const kaena_wire_range *inputs;  /* [input_count] of the call */
    const kaena_wire_range *outputs; /* [output_count]: room for them */
    const char *const *output_names; /* [output_count], where there is room */
    void *const *output_data;        /* [output_count]: where the room is in our memory */
} kaena_wire_shared;

/* Encodes the request; |shared| may be NULL. Without a |pin| everything is copied; with one, inputs
 * above a few KiB are not: their memory must not change or go away until |pin|, which begins at 0,
 * is 0 again, after the buffer was destroyed and gRPC has let go of it.
 *
 * INVALID_ARGUMENT names the tensor; RESOURCE_EXHAUSTED past 2 GiB. */
kaena_status kaena_wire_encode_infer(const kaena_infer_call *call, const kaena_wire_shared *shared,
                                     kaena_wire_pin *pin, grpc_byte_buffer **out,
                                     kaena_err *err) KAENA_CHECKED;

/* Decodes the answer into call->outputs (client.h says how) and the two times. An output that lies
 * in shared memory is copied, too, unless the caller gave no memory for it: then its |data| is the
 * |output_data| of |shared|.
 *
 * INVALID_ARGUMENT  the number of outputs does not fit, or a buffer of the caller is too small: its
 * size is in |needed| INTERNAL          not an answer to this request */
kaena_status kaena_wire_decode_infer(grpc_byte_buffer *answer, kaena_infer_call *call,
                                     const kaena_wire_shared *shared, kaena_err *err) KAENA_CHECKED;

#endif
