/* One inference on its way, whoever carries it: from the caller's call to a message, and from the
 * answer to the caller's memory. */
#ifndef KAENA_CLIENT_INFER_H
#define KAENA_CLIENT_INFER_H

#include "client_call.h"
#include "client_model.h"

typedef struct kaena_inference {
    kaena_infer_call *call; /* the caller's */
    kaena_model *model;     /* NULL: by name */
    kaena_infer_call made;  /* what is sent */
} kaena_inference;

void kaena_inference_init(kaena_inference *inference, kaena_infer_call *call, kaena_model *model);

/* The request for |target|; |pin| as in kaena_wire_encode_infer. */
kaena_status kaena_inference_encode(kaena_inference *inference, const kaena_target *target,
                                    kaena_wire_pin *pin, grpc_byte_buffer **out_request,
                                    kaena_err *err) KAENA_CHECKED;
/* Takes the answer, which stays the caller's, and what it says about the daemon. */
kaena_status kaena_inference_decode(kaena_inference *inference, const kaena_target *target,
                                    grpc_byte_buffer *answer, kaena_err *err) KAENA_CHECKED;

#endif
