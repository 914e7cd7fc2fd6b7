/* Sockets that listen, accepted on a libuv thread of their own; knows who is connected. */
#ifndef RPC_LISTEN_H
#define RPC_LISTEN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>

#include "err.h"
#include "rpc_address.h"
#include "rpc_core_ports.h"

typedef struct krpc_listeners krpc_listeners;

typedef struct krpc_listen_options {
    size_t max_connections;
    /* A new connection: non-blocking, close-on-exec; the callee's, who closes it when it ends. On
     * the listeners' thread. */
    void (*accepted)(void *user, int fd);
    void (*warning)(void *user, const char *text); /* may be NULL */
    void *user;
} krpc_listen_options;

/* RESOURCE_EXHAUSTED: no descriptors or memory. */
kaena_status krpc_listeners_create(const krpc_listen_options *options, krpc_listeners **out,
                                   kaena_err *err) KAENA_CHECKED;

/* Who may connect to a unix socket. */
typedef struct krpc_access {
    mode_t mode;
    gid_t group; /* (gid_t)-1 = the process's own */
} krpc_access;

/* Binds and listens. A unix socket is guarded by an OFD lock on PATH.lock: the file of a dead
 * server is replaced, a live one is left alone (ALREADY_EXISTS). TCP ports are not shared. */
kaena_status krpc_listeners_add(krpc_listeners *ls, const krpc_address *address, krpc_access access,
                                char bound[256], kaena_err *err) KAENA_CHECKED;

/* Binds a TCP address and lets it go again, so that whoever binds it next has no excuse. Fails as
 * krpc_listeners_add. */
kaena_status krpc_tcp_probe(const krpc_address *address, kaena_err *err) KAENA_CHECKED;

/* Before start: the core listens on |port|. Its connections, counted once a second, are held to the
 * limit, those beyond are cut; stop and hang_up are for them, too. RESOURCE_EXHAUSTED: too many. */
kaena_status krpc_listeners_add_core_port(krpc_listeners *ls, uint16_t port,
                                          kaena_err *err) KAENA_CHECKED;

/* Takes what systemd passed, |*n_out| sockets, perhaps none. FAILED_PRECONDITION: one is TCP, and
 * that is |unix_only|. */
kaena_status krpc_listeners_adopt(krpc_listeners *ls, bool unix_only, size_t *n_out,
                                  kaena_err *err) KAENA_CHECKED;

kaena_status krpc_listeners_start(krpc_listeners *ls, kaena_err *err) KAENA_CHECKED;

/* Ends the thread, closes the sockets, removes the socket files; connections live on. */
void krpc_listeners_stop(krpc_listeners *ls);

/* Stops first where that has not happened. Accepts NULL and returns it. */
krpc_listeners *krpc_listeners_destroy(krpc_listeners *ls);

/* Says on every open connection that nothing more comes, and waits at most |ms| for the clients to
 * close them: a connection closed from here with bytes unread would take what it has just sent
 * along. After stop. */
void krpc_listeners_hang_up(krpc_listeners *ls, unsigned ms);

/* How many are open now. Thread: any. */
size_t krpc_listeners_open(krpc_listeners *ls);

/* Who is at the other end of connection |fd|; false when it is not a unix socket of ours. Thread:
 * any. */
bool krpc_listeners_peer(krpc_listeners *ls, int fd, struct ucred *out);

/* A number for connection |fd| that no other connection gets; 0 when it is none of ours. */
uint64_t krpc_listeners_connection(krpc_listeners *ls, int fd);
/* Whether the connection of that number still is. */
bool krpc_listeners_connected(krpc_listeners *ls, uint64_t id);

#endif
