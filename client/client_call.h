/* Calls: one exchange with a daemon, and the routing of an exchange over the daemons of a client.
 */
#ifndef KAENA_CLIENT_CALL_H
#define KAENA_CLIENT_CALL_H

#include <grpc/grpc.h>
#include <protobuf-c/protobuf-c.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "client_conn.h"
#include "client_wire.h"
#include "kaena/client.h"

#define KAENA_CLIENT_IDLE_QUEUES 16

struct kaena_client {
    kaena_endpoint *endpoints;
    size_t endpoint_count;
    atomic_size_t preferred; /* the endpoint that answered last */
    int64_t timeout_ms;
    bool fail_fast;
    /* Completion queues between calls. A call polls its own, so it needs no thread but the
     * caller's. */
    pthread_mutex_t lock;
    grpc_completion_queue *idle[KAENA_CLIENT_IDLE_QUEUES];
    size_t idle_count;
};

/* What a failed attempt means for the next one. */
typedef enum kaena_outcome {
    KAENA_OUTCOME_FINAL,   /* the answer, whichever daemon is asked */
    KAENA_OUTCOME_REFUSED, /* not accepted; another daemon may */
    KAENA_OUTCOME_LATER,   /* not accepted or not reachable; the same daemon may, later */
    KAENA_OUTCOME_LOST,    /* the connection broke after the request was sent: it may have run */
} kaena_outcome;

/* One attempt over |conn|. On failure sets |*outcome|. */
typedef kaena_status (*kaena_attempt)(kaena_client *client, kaena_conn *conn, int64_t deadline_ns,
                                      void *user, kaena_outcome *outcome, kaena_err *err);

/* Makes attempts until one succeeds, fails for good, or the deadline has passed: every daemon in
 * turn, beginning with the one that answered last. After a lost connection there is one more
 * attempt if |may_repeat|, none otherwise. */
kaena_status kaena_route(kaena_client *client, kaena_attempt attempt, void *user, bool may_repeat,
                         int64_t deadline_ns, kaena_err *err) KAENA_CHECKED;

/* Sends |request|, which it destroys, to |method| ("ListModels") of kaena.v1.Runtime and gives the
 * answer, which the caller destroys. Slices of |pin| (may be NULL) are let go of before it returns,
 * whatever happens. */
kaena_status kaena_exchange(kaena_client *client, kaena_conn *conn, const char *method,
                            grpc_byte_buffer *request, const kaena_wire_pin *pin,
                            int64_t deadline_ns, grpc_byte_buffer **out_answer,
                            kaena_outcome *outcome, kaena_err *err) KAENA_CHECKED;

/* A stream of requests with one answer: |next| gives the messages one by one, NULL after the last;
 * when it fails, the call is cancelled. */
typedef kaena_status (*kaena_next_message)(void *user, grpc_byte_buffer **out, kaena_err *err);
kaena_status kaena_exchange_stream(kaena_client *client, kaena_conn *conn, const char *method,
                                   kaena_next_message next, void *user, int64_t deadline_ns,
                                   grpc_byte_buffer **out_answer, kaena_outcome *outcome,
                                   kaena_err *err) KAENA_CHECKED;

/* Between messages of protobuf-c and byte buffers. */
grpc_byte_buffer *kaena_pack(const ProtobufCMessage *message);
/* NULL: not such a message. The caller frees it with protobuf_c_message_free_unpacked. */
ProtobufCMessage *kaena_unpack(grpc_byte_buffer *buffer, const ProtobufCMessageDescriptor *type);

/* Deadline of a call that asks for |timeout_ms|, 0 = |otherwise_ms|. */
int64_t kaena_deadline(int64_t timeout_ms, int64_t otherwise_ms);

#endif
