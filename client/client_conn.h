/* Connections to daemons: one socket that we connect ourselves, with a gRPC channel on top.
 *
 * Connecting ourselves tells a refused connection (nothing was sent, any daemon may be tried) from
 * a lost one (the request may have run), gives the reason in the system's words, and lets a stuck
 * connection be cut so that the caller's buffers are released. */
#ifndef KAENA_CLIENT_CONN_H
#define KAENA_CLIENT_CONN_H

#include <grpc/grpc.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "client_router.h"
#include "client_tls.h"

/* Shared by the calls on it and the endpoint it belongs to. */
typedef struct kaena_conn kaena_conn;

void kaena_conn_release(kaena_conn *conn); /* NULL does nothing */
grpc_channel *kaena_conn_channel(const kaena_conn *conn);
const char *kaena_conn_address(const kaena_conn *conn);

/* False once the daemon has closed its end, or the connection was cut. One system call. */
bool kaena_conn_alive(const kaena_conn *conn);
/* Whether it may be cut. Not with TLS, where gRPC connects: then the caller's buffers must not be
 * sent from where they lie, and a call that fails may have been lost even when nothing was sent. */
bool kaena_conn_is_ours(const kaena_conn *conn);

/* Ends every call on the connection. */
void kaena_conn_cut(kaena_conn *conn);

/* Calls on one connection take turns inside gRPC, at a price that grows with their number: each
 * gets a connection of its own until there are that many. */
#define KAENA_ENDPOINT_CONNS 16

/* A daemon's address and the connections to it. Any thread. */
typedef struct kaena_endpoint {
    pthread_mutex_t lock;
    char *address;
    const kaena_tls *tls;
    kaena_conn *conns[KAENA_ENDPOINT_CONNS]; /* under |lock|, as the next */
    size_t count;
} kaena_endpoint;

/* |tls| lives longer. */
kaena_status kaena_endpoint_init(kaena_endpoint *endpoint, const char *address,
                                 const kaena_tls *tls, kaena_err *err) KAENA_CHECKED;
void kaena_endpoint_fini(kaena_endpoint *endpoint);

/* Gives a live connection for one call, made now if need be; kaena_conn_release when the call is
 * over. UNAVAILABLE        nothing answers there; |err| says what the system says DEADLINE_EXCEEDED
 * not connected by |deadline_ns| INVALID_ARGUMENT, PERMISSION_DENIED, RESOURCE_EXHAUSTED
 * (descriptors) */
kaena_status kaena_endpoint_acquire(kaena_endpoint *endpoint, int64_t deadline_ns,
                                    kaena_conn **out_conn, kaena_err *err) KAENA_CHECKED;

/* INT64_MAX is for ever. */
gpr_timespec kaena_gpr_time(int64_t ns);

#endif
