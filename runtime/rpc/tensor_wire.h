/* InferRequest, InferStreamRequest, their responses and LoadRequest on the wire, without copies of
 * tensor data.
 *
 * A request arrives in pieces; it is walked where it lies, and |data| of a tensor stays a range of
 * the message until it is copied, once, into the model's buffer. A response is written as small
 * heads between the model's output buffers. Pure: no sockets, no allocation, any bytes are safe
 * input. */
#ifndef TENSOR_WIRE_H
#define TENSOR_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "dtype.h"
#include "err.h"
#include "shape.h"

/* Most tensors of one request, or wanted outputs; a model with more is refused at load. */
#define KRPC_MAX_TENSORS 256

/* Field numbers of proto/kaena/v1/tensor.proto and of InferResponse. */
enum {
    KRPC_TENSOR_NAME = 1,
    KRPC_TENSOR_DTYPE = 2,
    KRPC_TENSOR_SHAPE = 3,
    KRPC_TENSOR_DATA = 4,
    KRPC_TENSOR_STRINGS = 5,
    KRPC_TENSOR_SHARED = 6,
    KRPC_TENSOR_SEQUENCE = 7,
    KRPC_TENSOR_OPTIONAL = 8,
    KRPC_INSIDE_TENSOR = 1, /* of Sequence and Optional */
    KRPC_RESPONSE_OUTPUTS = 1,
};

typedef struct krpc_piece {
    const uint8_t *data;
    size_t size;
} krpc_piece;

/* A message: the pieces one after the other. Borrowed. */
typedef struct krpc_message {
    const krpc_piece *pieces;
    size_t n_pieces;
} krpc_message;

/* |size| bytes of a message, which all exist, from byte |at| of piece |piece| on. */
typedef struct krpc_range {
    size_t piece, at;
    size_t size;
} krpc_range;

typedef enum krpc_payload {
    KRPC_PAYLOAD_NONE,
    KRPC_PAYLOAD_DATA,
    KRPC_PAYLOAD_SHARED,
    KRPC_PAYLOAD_SEQUENCE,
    KRPC_PAYLOAD_OPTIONAL,
} krpc_payload;

/* A part of a region of shared memory, as sent. */
typedef struct krpc_shared {
    uint64_t region, offset, size;
} krpc_shared;

typedef struct krpc_wire_tensor {
    krpc_range name;
    int32_t dtype; /* as sent: perhaps none of kaena_dtype */
    uint32_t rank; /* as sent; only the first KAENA_MAX_RANK dimensions are kept */
    int64_t dim[KAENA_MAX_RANK];
    krpc_payload payload;
    krpc_range data;    /* KRPC_PAYLOAD_DATA */
    krpc_shared shared; /* KRPC_PAYLOAD_SHARED */
    size_t n_strings;
    krpc_range whole;  /* the Tensor: for its strings */
    krpc_range inside; /* KRPC_PAYLOAD_SEQUENCE, _OPTIONAL: for its tensors */
} krpc_wire_tensor;

/* Goes through the strings of a tensor that has been read: |rest| begins as its |whole|. False: no
 * more. */
bool krpc_next_string(const krpc_message *m, krpc_range *rest, krpc_range *out);

typedef enum krpc_next {
    KRPC_NEXT_END,
    KRPC_NEXT_TENSOR,
    KRPC_NEXT_DAMAGED,
} krpc_next;
/* Goes through the tensors of a sequence or optional: |rest| begins as its |inside|. */
krpc_next krpc_next_tensor(const krpc_message *m, krpc_range *rest, krpc_wire_tensor *out);

/* Where an output is to be written. */
typedef struct krpc_place {
    krpc_range name;
    krpc_shared range;
} krpc_place;

typedef struct krpc_infer_request {
    krpc_range model;
    int32_t priority;
    bool check_finite;
    krpc_wire_tensor inputs[KRPC_MAX_TENSORS];
    size_t n_inputs;
    krpc_range outputs[KRPC_MAX_TENSORS]; /* names; none = all */
    size_t n_outputs;
    krpc_place places[KRPC_MAX_TENSORS];
    size_t n_places;
} krpc_infer_request;

/* INVALID_ARGUMENT: not an InferRequest (the message says where); more than KRPC_MAX_TENSORS. As
 * protobuf has it: of a field that repeats the last counts, unknown fields are skipped. */
kaena_status krpc_read_infer_request(const krpc_message *m, krpc_infer_request *out,
                                     kaena_err *err) KAENA_CHECKED;

/* The same of the part |range| of |m|. */
kaena_status krpc_read_infer_request_in(const krpc_message *m, const krpc_range *range,
                                        krpc_infer_request *out, kaena_err *err) KAENA_CHECKED;

typedef enum krpc_stream_what {
    KRPC_STREAM_NOTHING,
    KRPC_STREAM_REQUEST,
    KRPC_STREAM_CANCEL, /* whatever the flag says: it is there */
} krpc_stream_what;

typedef struct krpc_stream_request {
    uint64_t id;
    krpc_stream_what what;
    krpc_range request; /* an InferRequest */
    uint32_t timeout_ms;
} krpc_stream_request;

/* INVALID_ARGUMENT: not an InferStreamRequest. */
kaena_status krpc_read_stream_request(const krpc_message *m, krpc_stream_request *out,
                                      kaena_err *err) KAENA_CHECKED;

typedef enum krpc_load_part {
    KRPC_LOAD_NOTHING,
    KRPC_LOAD_OPTIONS,
    KRPC_LOAD_CHUNK,
} krpc_load_part;

/* Which part of the stream this message is; |range| is the options message or the chunk. */
kaena_status krpc_read_load_request(const krpc_message *m, krpc_load_part *part, krpc_range *range,
                                    kaena_err *err) KAENA_CHECKED;

/* Copies |r| to |to|, r->size bytes. */
void krpc_range_copy(const krpc_message *m, const krpc_range *r, void *to);
bool krpc_range_equals(const krpc_message *m, const krpc_range *r, const char *text);
/* For messages: at most size - 1 bytes, terminated; returns |buf|. */
const char *krpc_range_text(const krpc_message *m, const krpc_range *r, char *buf, size_t size);

/* ---- writing ---- */

/* Bytes of an InferResponse that stand before |data_bytes| of one output's data. */
size_t krpc_output_head_size(const char *name, kaena_dtype dtype, const kaena_shape *shape,
                             size_t data_bytes);
/* Writes them; returns the end. The data must follow. */
uint8_t *krpc_put_output_head(uint8_t *to, const char *name, kaena_dtype dtype,
                              const kaena_shape *shape, size_t data_bytes);

/* An output that lies in shared memory: its bytes, and writing them. */
size_t krpc_shared_output_size(const char *name, kaena_dtype dtype, const kaena_shape *shape,
                               const krpc_shared *range);
uint8_t *krpc_put_shared_output(uint8_t *to, const char *name, kaena_dtype dtype,
                                const kaena_shape *shape, const krpc_shared *range);

/* Fields of a message, for values that have no fixed form (krtd's infer_value.c). Each gives the
 * end of what it wrote. */
size_t krpc_varint_size(uint64_t v);
uint8_t *krpc_put_varint_field(uint8_t *to, unsigned field, uint64_t v);
/* The head of a field of |size| bytes that follow. */
uint8_t *krpc_put_bytes_head(uint8_t *to, unsigned field, size_t size);
uint8_t *krpc_put_varint(uint8_t *to, uint64_t v);
/* Bytes that a field of |size| bytes takes; of the fields below 16. */
size_t krpc_bytes_field_size(size_t size);

/* What follows the last output. */
size_t krpc_infer_tail_size(uint64_t queue_ns, uint64_t execute_ns);
uint8_t *krpc_put_infer_tail(uint8_t *to, uint64_t queue_ns, uint64_t execute_ns);
/* The name of an output that is not finite: krpc_bytes_field_size(strlen(name)) bytes. */
uint8_t *krpc_put_not_finite(uint8_t *to, const char *name);

/* Bytes of an InferStreamResponse that stand before its InferResponse of |size| bytes. */
size_t krpc_stream_head_size(uint64_t id, size_t size);
uint8_t *krpc_put_stream_head(uint8_t *to, uint64_t id, size_t size);

#endif
