/* gRPC servers on the C core: one completion-queue thread, a method table, health and reflection.
 *
 *     krpc_server_create -> krpc_server_add_methods -> krpc_server_listen (once per address)
 *         -> krpc_server_start -> ... -> krpc_server_stop -> krpc_server_destroy
 *
 * Threads: handlers and callbacks run on the completion-queue thread and must not block. Replies
 * may be sent from any thread. */
#ifndef RPC_H
#define RPC_H

#include <grpc/grpc.h>
#include <grpc/slice.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>

#include "err.h"
#include "rpc_listen.h"
#include "rpc_tls.h"

typedef struct krpc_server krpc_server;
typedef struct krpc_call krpc_call;

/* ---- methods ---- */

typedef enum krpc_kind {
    KRPC_UNARY,         /* krpc_call_request, then krpc_reply or krpc_fail */
    KRPC_CLIENT_STREAM, /* krpc_call_read until NULL, then krpc_reply or krpc_fail */
    KRPC_SERVER_STREAM, /* krpc_call_request, krpc_call_send..., krpc_finish or krpc_fail */
    KRPC_BIDI,          /* krpc_call_read, krpc_call_send..., krpc_finish or krpc_fail */
} krpc_kind;

/* Gets a call and owes it exactly one krpc_reply, krpc_finish or krpc_fail, now or later. */
typedef void krpc_handler(krpc_call *call, void *user);

typedef struct krpc_method {
    const char *path; /* "/kaena.v1.Runtime/Infer"; static */
    krpc_kind kind;
    krpc_handler *handler;
} krpc_method;

/* ---- servers ---- */

/* A serialised FileDescriptorSet, cut up at build time (embed_descriptors.py). */
typedef struct krpc_descriptor_file {
    const char *name;
    const uint8_t *data; /* FileDescriptorProto */
    size_t size;
    const uint16_t *imports; /* indices of files, all it needs, itself first; ended by UINT16_MAX */
} krpc_descriptor_file;

typedef struct krpc_descriptor_symbol {
    const char *name; /* full name */
    uint16_t file;
    bool is_service;
} krpc_descriptor_symbol;

typedef struct krpc_descriptors {
    const krpc_descriptor_file *files;
    size_t n_files;
    const krpc_descriptor_symbol *symbols; /* sorted by name */
    size_t n_symbols;
} krpc_descriptors;

typedef struct krpc_options {
    int max_message_bytes;  /* of a request; limit is accepted, limit + 1 refused */
    size_t max_connections; /* of all plain listeners together */
    int max_streams;        /* of one connection; more calls wait in their client; 0 = any number */
    size_t quota_bytes;     /* of the core's buffers; 0 = none */
    unsigned beat_ms;       /* krpc_server_beats grows at least so often; 0 = with events only */
    const krpc_tls_files *tls;           /* of all TCP listeners; NULL = plain TCP */
    const krpc_descriptors *descriptors; /* for reflection; NULL = the service is absent */
    /* Told about trouble that no caller sees (a refused connection, ...); may be NULL. Any thread.
     */
    void (*on_warning)(void *user, const char *text);
    void *user; /* of handlers and of on_warning */
} krpc_options;

/* RESOURCE_EXHAUSTED: no descriptors or memory left; others as krpc_tls_check. */
kaena_status krpc_server_create(const krpc_options *options, krpc_server **out,
                                kaena_err *err) KAENA_CHECKED;

/* Before start; |methods| stays borrowed. */
void krpc_server_add_methods(krpc_server *s, const krpc_method *methods, size_t n);

/* Listens on "unix:PATH" or "HOST:PORT" ("[::1]:0" and port 0 are understood); see rpc_listen.h.
 * Nothing is accepted before start. |access| is that of a socket file. TCP is TLS where the options
 * have certificates: the core then accepts by itself: max_connections is enforced once a
 * second, and there is no socket activation.
 * |bound|, when not NULL, gets the address really bound ("127.0.0.1:40123").
 *
 * INVALID_ARGUMENT     not an address
 * ALREADY_EXISTS       somebody listens there
 * other                of the system call */
kaena_status krpc_server_listen(krpc_server *s, const char *address, krpc_access access,
                                char bound[256], kaena_err *err) KAENA_CHECKED;

/* Exchanges the certificates of the TLS listeners; see krpc_tls_reload. Thread: any. */
kaena_status krpc_server_reload_tls(krpc_server *s, const krpc_tls_files *files,
                                    kaena_err *err) KAENA_CHECKED;

/* Takes the sockets that systemd passed (LISTEN_PID, LISTEN_FDS); 0 when there are none. A server
 * with TLS takes no TCP sockets so: they would speak plain text. */
kaena_status krpc_server_adopt_activated(krpc_server *s, size_t *n_out,
                                         kaena_err *err) KAENA_CHECKED;

kaena_status krpc_server_start(krpc_server *s, kaena_err *err) KAENA_CHECKED;

/* Times that the completion-queue thread has come by: one that stands still has hung. Thread: any.
 */
uint64_t krpc_server_beats(krpc_server *s);

/* Closes the listeners: new connections are refused by the kernel, existing ones go on. */
void krpc_server_stop_listening(krpc_server *s);

/* Ends everything: streams of the server's own services are finished; for at most |grace_ms| calls
 * are still taken and answered, until none comes any more; then the connections are closed. Returns
 * when the last handler has answered and the threads have ended. A client whose call was under way
 * sees UNAVAILABLE, never another status that nobody gave. */
void krpc_server_stop(krpc_server *s, unsigned grace_ms);

/* A stopped, or never started, server; threads that answered its calls have ended. Accepts NULL and
 * returns it. */
krpc_server *krpc_server_destroy(krpc_server *s);

/* Connections of the server's own listeners that are open now. Thread: any. */
size_t krpc_server_connections(krpc_server *s);

/* ---- timers ---- */

/* What travels through the completion queue; private. */
typedef struct krpc_tag krpc_tag;
struct krpc_tag {
    void (*run)(krpc_tag *tag, bool ok);
};

/* A call on the completion-queue thread, now or later: in the caller's storage, which is the
 * callee's as soon as |fn| is called. All but |fn| is private. */
typedef struct krpc_timer krpc_timer;
struct krpc_timer {
    void (*fn)(krpc_timer *timer, bool fired); /* false: it was cancelled, or the server ends */
    krpc_tag tag;
    krpc_server *server;
    uint64_t at_ns;
    krpc_timer *child, *next, *prev;
    bool waiting, cancelled;
};

/* Calls timer->fn once, at |at_ns| (CLOCK_MONOTONIC nanoseconds; 0 = soon). Until then it must not
 * be started again. Of a server that has started. Thread: any. */
void krpc_timer_start(krpc_server *s, krpc_timer *timer, uint64_t at_ns);
/* Has a timer that waits called soon, with |fired| false; nothing when its call is on the way, or
 * over: the caller sees to it that |timer| still exists. Thread: any. */
void krpc_timer_cancel(krpc_timer *timer);

/* ---- health ---- */

/* Sets what grpc.health.v1 says about |service| ("" = the server); watchers hear of it. False:
 * there is no memory for a service that was not known; it stays unknown. */
bool krpc_health_set(krpc_server *s, const char *service, bool serving);
/* Forgets |service|: Check says NOT_FOUND. */
void krpc_health_remove(krpc_server *s, const char *service);

/* ---- calls ---- */

/* The request of a KRPC_UNARY or KRPC_SERVER_STREAM call: never NULL, lives until the call is
 * answered. */
grpc_byte_buffer *krpc_call_request(krpc_call *call);

/* Takes the request out of the call: it is the caller's then. */
grpc_byte_buffer *krpc_call_take_request(krpc_call *call);

/* |message| is the callee's; NULL: the client has sent all, or is gone (krpc_call_cancelled). */
typedef void krpc_read_done(krpc_call *call, grpc_byte_buffer *message, void *arg);

/* Asks for the next message of a stream; one at a time. */
void krpc_call_read(krpc_call *call, krpc_read_done *done, void *arg);

/* |ok| is false when the client is gone. */
typedef void krpc_send_done(krpc_call *call, bool ok, void *arg);

/* Sends one message of a stream and takes |message|; one at a time. */
void krpc_call_send(krpc_call *call, grpc_byte_buffer *message, krpc_send_done *done, void *arg);

/* |fn| is called exactly once, on the completion-queue thread: with |cancelled| when the client has
 * given up, is gone, or its deadline has passed before all of an answer was sent (the call is still
 * owed one, then, unless it has got one), without when the answer is out. The answer of another
 * thread may overtake it: |arg| is the callee's to keep alive, and |fn| gets no call. Only in a
 * handler, before it answers. */
void krpc_call_on_close(krpc_call *call, void (*fn)(void *arg, bool cancelled), void *arg);

/* Cancelled, gone, or past its deadline: an answer would reach nobody. Thread: any. */
bool krpc_call_cancelled(const krpc_call *call);

/* CLOCK_MONOTONIC nanoseconds; UINT64_MAX = none. */
uint64_t krpc_call_deadline_ns(const krpc_call *call);

/* What the trailing metadata will carry as "kaena-request-id": the client's own or one made here.
 */
const char *krpc_call_request_id(const krpc_call *call);

/* krpc_options.user of its server. */
void *krpc_call_user(const krpc_call *call);

/* Copies the value that the client's metadata has for |key| (lower case), cut to |size| with its
 * terminator; false when there is none. */
bool krpc_call_metadata(const krpc_call *call, const char *key, char *buf, size_t size);

/* Ends the client's part: what is read next is the end, and on_close says cancelled. The call is
 * still owed its answer, which reaches nobody. Thread: any, while it is not answered. */
void krpc_call_cancel(krpc_call *call);

/* Names the connection of |call|: never that of another while the server lives, never below
 * KRPC_CONNECTION. */
#define KRPC_CONNECTION (UINT64_C(1) << 63)
uint64_t krpc_call_connection(krpc_call *call);
/* Whether it still is. Only connections of unix sockets are known that well: others are not here.
 */
bool krpc_connection_open(krpc_server *s, uint64_t connection);

/* The process at the other end of a unix socket; false for TCP. */
bool krpc_call_peer(krpc_call *call, struct ucred *out);

/* An answer that says OK will carry no request id: for what is called often. Before the answer. */
void krpc_call_be_terse(krpc_call *call);

/* Answer a call, from any thread; the call is gone afterwards. |message| is taken. */
void krpc_reply(krpc_call *call, grpc_byte_buffer *message);
/* OK, and yet something to say: |detail| goes as grpc-status-details-bin. */
void krpc_reply_with(krpc_call *call, grpc_byte_buffer *message, const kaena_err *detail);
void krpc_finish(krpc_call *call);
/* Status err->code, message err->what and hint, and a kaena.v1.ErrorDetail as
 * grpc-status-details-bin. err->code is not KAENA_OK. */
void krpc_fail(krpc_call *call, const kaena_err *err);

/* Fails |call| with a new error: `KRPC_FAIL(call, NOT_FOUND, "no model '%s'", name);` */
#define KRPC_FAIL(call, code, ...)                                                                 \
    do {                                                                                           \
        kaena_err krpc_fail_err;                                                                   \
        (void)KAENA_FAIL(&krpc_fail_err, code, __VA_ARGS__);                                       \
        krpc_fail((call), &krpc_fail_err);                                                         \
    } while (0)

#endif
