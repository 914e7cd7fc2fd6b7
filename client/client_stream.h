/* Small requests of a client, many on one InferStream to each daemon: a call of its own costs more
 * than such a request does. Each ends alone, as a call would: by its answer, its
 * deadline, its cancellation or with the stream.
 *
 * A stream takes no more requests than a daemon reads ahead of its answers, so nothing queues up in
 * it behind requests of another model; what finds no room, or is large, travels in a call. A daemon
 * without InferStream is asked in calls, which is told once.
 *
 * Thread: the loop's, but where said. */
#ifndef KAENA_CLIENT_STREAM_H
#define KAENA_CLIENT_STREAM_H

#include "client_call.h"

/* Requests and answers up to this do not keep others waiting on the stream. */
#define KAENA_STREAM_BYTES (32u << 10)
/* Requests under way on a stream: what daemons take unless they are configured otherwise. */
#define KAENA_STREAM_SEATS 64

typedef struct kaena_streams kaena_streams;
typedef struct kaena_seat kaena_seat;

/* A request on a stream. */
typedef struct kaena_passenger {
    /* It has ended, once. OK: |answer| is its InferResponse, the stream's; NULL otherwise. The
     * passenger may be freed. */
    void (*over)(struct kaena_passenger *passenger, kaena_status status, kaena_outcome outcome,
                 grpc_byte_buffer *answer, const kaena_err *err);
    int64_t deadline_ns;
    atomic_bool recalled;
    bool refused;     /* when it is over: the daemon takes it in a call only, and has not seen it */
    kaena_seat *seat; /* the stream's */
} kaena_passenger;

/* NULL: out of memory. */
kaena_streams *kaena_streams_create(kaena_client *client);
/* Ends all streams; nobody boards any more. Their queue must be run until it is empty. */
void kaena_streams_stop(kaena_streams *streams);
/* After that. */
void kaena_streams_destroy(kaena_streams *streams);

/* Whether the stream to |daemon|, opened if need be, takes one more now; then |*target| is where an
 * attempt on it goes, without a connection that it would have to release. */
bool kaena_stream_has_room(kaena_streams *streams, size_t daemon, int64_t deadline_ns,
                           kaena_target *target);
/* Sends |request|, which it takes, on that stream. RESOURCE_EXHAUSTED: no memory; over is not
 * called. */
kaena_status kaena_stream_board(kaena_streams *streams, size_t daemon, kaena_passenger *passenger,
                                grpc_byte_buffer *request, kaena_err *err) KAENA_CHECKED;
/* The answer is not wanted any more: over follows in a turn, which the caller sees to. Any thread;
 * not after over. */
void kaena_stream_recall(kaena_streams *streams, kaena_passenger *passenger);
/* Ends what is recalled or late. */
void kaena_streams_turn(kaena_streams *streams);
/* When there will be more to do. */
int64_t kaena_streams_next(const kaena_streams *streams);

#endif
