/* One inference on its way, whoever carries it: from the caller's call to a message, and from the
 * answer to the caller's memory; what is large goes through memory shared with the daemon. */
#ifndef KAENA_CLIENT_INFER_H
#define KAENA_CLIENT_INFER_H

#include "client_call.h"
#include "client_model.h"
#include "client_pool.h"
#include "client_session.h"

/* Of a call of which something lies in shared memory. */
typedef struct kaena_shares {
    kaena_memory **copies;    /* [input_count] blocks that hold copies of inputs, or NULL */
    kaena_memory **rooms;     /* [output_count] blocks that an attempt gives the daemon, or NULL */
    kaena_memory **replaced;  /* [output_count] that the caller's outputs lie in, or NULL */
    size_t *room_bytes;       /* [output_count] 0: sent */
    kaena_wire_range *ranges; /* [input_count + output_count] */
    const char **names;       /* [output_count] */
    void **data;              /* [output_count] */
    kaena_wire_shared wire;
    char token[KAENA_TOKEN_TEXT]; /* of the session that knows the regions */
} kaena_shares;

typedef struct kaena_inference {
    kaena_client *client;
    kaena_infer_call *call; /* the caller's */
    kaena_model *model;     /* NULL: by name */
    kaena_infer_call made;  /* what is sent */
    kaena_shares *shares;   /* NULL: nothing is shared */
    bool may_grow;          /* this thread may wait for new regions */
} kaena_inference;

/* INVALID_ARGUMENT: not such a structure. */
kaena_status kaena_infer_call_check(const kaena_infer_call *call, kaena_err *err) KAENA_CHECKED;

/* Copies large inputs to shared memory where that is possible. */
void kaena_inference_init(kaena_inference *inference, kaena_client *client, kaena_infer_call *call,
                          kaena_model *model, bool may_grow);
void kaena_inference_fini(kaena_inference *inference);

/* Whether all inputs, and all outputs of the model, are sent, and have no more bytes than that each
 * way. */
bool kaena_inference_is_small(const kaena_inference *inference, size_t most);

/* The request for |target| (without a |pin| its connection does not matter); |pin| as in
 * kaena_wire_encode_infer. Each is followed by over. */
kaena_status kaena_inference_encode(kaena_inference *inference, kaena_target *target,
                                    kaena_wire_pin *pin, grpc_byte_buffer **out_request,
                                    kaena_err *err) KAENA_CHECKED;
/* Takes the answer, which stays the caller's, and what it says about the daemon. */
kaena_status kaena_inference_decode(kaena_inference *inference, const kaena_target *target,
                                    grpc_byte_buffer *answer, kaena_err *err) KAENA_CHECKED;
/* An attempt is over, with |status| and |err|. */
void kaena_inference_over(kaena_inference *inference, const kaena_target *target,
                          kaena_status status, kaena_outcome *outcome, const kaena_err *err);

#endif
