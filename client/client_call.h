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
#include "client_router.h"
#include "client_wire.h"
#include "kaena/client.h"

#define KAENA_CLIENT_IDLE_QUEUES 16

struct Kaena__V1__ErrorDetail;

typedef struct kaena_keeper kaena_keeper;
typedef struct kaena_loop kaena_loop;
typedef struct kaena_sessions kaena_sessions;

struct kaena_client {
    kaena_router router;
    kaena_endpoint *endpoints; /* [endpoint_count], as many as the router has daemons */
    size_t endpoint_count;
    int64_t timeout_ms;
    bool fail_fast;
    bool streams;     /* small requests share one */
    uint64_t id_base; /* of request ids: random, then counted */
    atomic_ullong id_next;
    pthread_mutex_t lock; /* of what follows */
    /* Completion queues between calls. A call polls its own, so it needs no thread but the
     * caller's. */
    grpc_completion_queue *idle[KAENA_CLIENT_IDLE_QUEUES];
    size_t idle_count;
    kaena_keeper *keeper; /* NULL: nothing has needed it yet; as the next */
    kaena_loop *loop;
    kaena_sessions *sessions; /* made with the client */
    kaena_model *models;      /* open handles */
    kaena_tls tls;            /* of its endpoints */
    struct kaena_pool *pool;  /* made with the client; NULL: memory is shared with no daemon */
    void (*log)(void *user, const char *text);
    void *log_user;
};

/* Where one attempt goes. */
typedef struct kaena_target {
    kaena_client *client;
    size_t daemon;
    kaena_conn *conn;
    int64_t deadline_ns;
    const atomic_bool *stop; /* becoming true cancels the call; NULL: nothing does */
    const char *session;     /* in whose name the call is made: a token; NULL: nobody's */
} kaena_target;

/* A live connection to |daemon|, made now if need be. On failure sets |*outcome|. */
kaena_status kaena_target_open(kaena_target *target, kaena_client *client, size_t daemon,
                               int64_t deadline_ns, const atomic_bool *stop, kaena_outcome *outcome,
                               kaena_err *err) KAENA_CHECKED;
void kaena_target_close(kaena_target *target);

/* One attempt. On failure sets |*outcome|, which begins as FINAL. */
typedef kaena_status (*kaena_attempt)(const kaena_target *target, void *user,
                                      kaena_outcome *outcome, kaena_err *err);

/* One attempt on |daemon|, over a connection of its own if need be. |stop| as in kaena_target. */
kaena_status kaena_attempt_on(kaena_client *client, size_t daemon, int64_t deadline_ns,
                              const atomic_bool *stop, kaena_attempt attempt, void *user,
                              kaena_outcome *outcome, kaena_err *err) KAENA_CHECKED;

/* Makes attempts until one succeeds, fails for good, or the deadline has passed. Without |places|
 * every daemon is asked in turn, beginning with the one that answered last. After a lost connection
 * there is one more attempt if |may_repeat|, none otherwise. */
kaena_status kaena_route_call(kaena_client *client, kaena_places *places, kaena_attempt attempt,
                              void *user, bool may_repeat, int64_t deadline_ns,
                              kaena_err *err) KAENA_CHECKED;

/* Sends |request|, which it destroys, to |method| ("ListModels" of kaena.v1.Runtime, or
 * "/package.Service/Method") and gives the answer, which the caller destroys. Slices of |pin| (may
 * be NULL) are let go of before it returns, whatever happens. */
kaena_status kaena_exchange(const kaena_target *target, const char *method,
                            grpc_byte_buffer *request, const kaena_wire_pin *pin,
                            grpc_byte_buffer **out_answer, kaena_outcome *outcome,
                            kaena_err *err) KAENA_CHECKED;

/* A stream of requests with one answer: |next| gives the messages one by one, NULL after the last;
 * when it fails, the call is cancelled. */
typedef kaena_status (*kaena_next_message)(void *user, grpc_byte_buffer **out, kaena_err *err);
kaena_status kaena_exchange_stream(const kaena_target *target, const char *method,
                                   kaena_next_message next, void *user,
                                   grpc_byte_buffer **out_answer, kaena_outcome *outcome,
                                   kaena_err *err) KAENA_CHECKED;

/* The parts of an exchange, for who polls by himself: begin, start a batch of kaena_exchange_ops,
 * and when it has ended finish and end. */
typedef struct kaena_exchange_state {
    const kaena_target *target; /* borrowed until the end */
    grpc_completion_queue *queue;
    grpc_call *call;
    grpc_metadata sent[3];
    size_t sent_count;
    char id[17]; /* of the request */
    grpc_metadata_array initial, trailing;
    grpc_byte_buffer *answer;
    grpc_status_code code;
    grpc_slice message;
} kaena_exchange_state;

#define KAENA_EXCHANGE_OPS 6

kaena_status kaena_exchange_begin(kaena_exchange_state *x, const kaena_target *target,
                                  const char *method, grpc_completion_queue *queue,
                                  kaena_err *err) KAENA_CHECKED;
/* The operations of a call with one message each way; |request| is destroyed by the caller once
 * they have ended. */
void kaena_exchange_ops(kaena_exchange_state *x, grpc_byte_buffer *request,
                        grpc_op ops[KAENA_EXCHANGE_OPS]);
/* Turns the status of the call into |err|. OK: x->answer is there. */
kaena_status kaena_exchange_finish(const kaena_exchange_state *x, kaena_outcome *outcome,
                                   kaena_err *err) KAENA_CHECKED;
void kaena_exchange_end(kaena_exchange_state *x);

/* What the daemon says of a failure, into |err|, which has its code and keeps it; |detail| NULL: it
 * says nothing. */
void kaena_detail_read(const struct Kaena__V1__ErrorDetail *detail, kaena_err *err);
/* What a failure that the daemon tells means for the next attempt. */
kaena_outcome kaena_outcome_of(const kaena_err *err);

/* Between messages of protobuf-c and byte buffers. */
grpc_byte_buffer *kaena_pack(const ProtobufCMessage *message);
/* NULL: not such a message. The caller frees it with protobuf_c_message_free_unpacked. */
ProtobufCMessage *kaena_unpack(grpc_byte_buffer *buffer, const ProtobufCMessageDescriptor *type);

/* Deadline of a call that asks for |timeout_ms|, 0 = |otherwise_ms|. */
int64_t kaena_deadline(int64_t timeout_ms, int64_t otherwise_ms);

#endif
