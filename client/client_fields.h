/* The fields of messages that are walked by hand. */
#ifndef KAENA_CLIENT_FIELDS_H
#define KAENA_CLIENT_FIELDS_H

/* Field numbers of proto/kaena/v1/{runtime,tensor}.proto and protobuf's wire types. */
enum {
    REQUEST_MODEL = 1,
    REQUEST_INPUTS = 2,
    REQUEST_OUTPUTS = 3,
    REQUEST_PRIORITY = 4,
    REQUEST_CHECK_FINITE = 5,
    REQUEST_PLACES = 6,
};
enum {
    RESPONSE_OUTPUTS = 1,
    RESPONSE_QUEUE_NS = 2,
    RESPONSE_EXECUTE_NS = 3,
    RESPONSE_NOT_FINITE = 4,
};
enum {
    TENSOR_NAME = 1,
    TENSOR_DTYPE = 2,
    TENSOR_SHAPE = 3,
    TENSOR_DATA = 4,
    TENSOR_STRINGS = 5,
    TENSOR_SHARED = 6,
    TENSOR_SEQUENCE = 7,
    TENSOR_OPTIONAL = 8,
    INSIDE_TENSOR = 1, /* of Sequence and Optional */
};
enum { RANGE_REGION = 1, RANGE_OFFSET = 2, RANGE_SIZE = 3 };
enum { PLACE_NAME = 1, PLACE_RANGE = 2 };
enum {
    STREAM_REQUEST_ID = 1,
    STREAM_REQUEST_REQUEST = 2,
    STREAM_REQUEST_CANCEL = 3,
    STREAM_REQUEST_TIMEOUT = 4,
};
enum { STREAM_RESPONSE_ID = 1, STREAM_RESPONSE_RESPONSE = 2, STREAM_RESPONSE_ERROR = 3 };
enum { WIRE_VARINT = 0, WIRE_FIXED64 = 1, WIRE_BYTES = 2, WIRE_FIXED32 = 5 };

#endif
