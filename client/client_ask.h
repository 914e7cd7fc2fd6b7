/* Calls whose request and answer are small: they go through protobuf-c. */
#ifndef KAENA_CLIENT_ASK_H
#define KAENA_CLIENT_ASK_H

#include "client_call.h"

typedef struct kaena_ask {
    const char *method; /* as of kaena_exchange */
    const ProtobufCMessage *request;
    const ProtobufCMessageDescriptor *answer_type;
    /* Turns the answer into what the caller wants; NULL: nothing of it is wanted. */
    kaena_status (*take)(const ProtobufCMessage *answer, const char *address, void *to,
                         kaena_err *err);
    void *to;
} kaena_ask;

/* A kaena_attempt; |user| is a kaena_ask. */
kaena_status kaena_attempt_ask(const kaena_target *target, void *user, kaena_outcome *outcome,
                               kaena_err *err) KAENA_CHECKED;

/* Asks whichever daemon answers for good. |changes|: it is not repeated after a lost connection. */
kaena_status kaena_ask_routed(kaena_client *client, kaena_ask *ask, bool changes,
                              kaena_err *err) KAENA_CHECKED;

/* Asks every daemon once; succeeds when one answers and counts the others. */
kaena_status kaena_ask_all(kaena_client *client, kaena_ask *ask, size_t *out_unreachable,
                           kaena_err *err) KAENA_CHECKED;

/* What became of an answer received by other means. Destroys |answer|. */
kaena_status kaena_take_answer(const kaena_ask *ask, grpc_byte_buffer *answer, const char *address,
                               kaena_err *err) KAENA_CHECKED;

/* For kaena_ask.take of GetModel and Load: |to| is a kaena_model_info ** or NULL. */
kaena_status kaena_take_got_model(const ProtobufCMessage *answer, const char *address, void *to,
                                  kaena_err *err) KAENA_CHECKED;
kaena_status kaena_take_loaded_model(const ProtobufCMessage *answer, const char *address, void *to,
                                     kaena_err *err) KAENA_CHECKED;

#endif
