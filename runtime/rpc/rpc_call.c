/* The life of one call: arrival, batches, answer. */
#include <errno.h>
#include <grpc/byte_buffer.h>
#include <grpc/support/alloc.h>
#include <grpc/support/time.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "google/rpc/status.pb-c.h"
#include "rpc_internal.h"
#include "rpc_pb.h"

#define REQUEST_ID_KEY "kaena-request-id"
#define REQUEST_ID_MAX 64
/* Smaller answers are bounded by the number of streams. */
#define COUNTED_BYTES (64 * 1024)
/* When answers on their way are over the limit, who has more than this part of it is served no more
 * until he has fetched some; the others never notice. */
#define PEER_SHARE 64
#define DETAIL_URL "type.googleapis.com/kaena.v1.ErrorDetail"

/* Owned by its references: the handler's until the call is answered, then the final batch's; one
 * per batch in flight; one while the handler runs. */
struct krpc_call {
    krpc_server *server;
    krpc_entry *entry; /* NULL: a method nobody has */
    grpc_call *core;
    gpr_timespec deadline;
    uint64_t deadline_ns;
    grpc_metadata_array metadata;
    grpc_call_details details; /* unknown methods only */
    grpc_byte_buffer *request;
    _Atomic int refs;

    krpc_tag arrived;
    krpc_tag closed; /* RECV_CLOSE alone */
    krpc_tag final;  /* the answer, with RECV_CLOSE when nobody had asked for it yet */
    krpc_tag read;
    krpc_tag sent;

    _Atomic bool close_asked;
    bool close_in_final;
    bool close_seen, answer_left; /* this and the next: completion-queue thread only */
    bool answer_lost;             /* the client went before it was sent */
    int core_cancelled;           /* written by the core with RECV_CLOSE */
    _Atomic bool cancelled;
    void (*on_close)(void *arg, bool cancelled);
    void *on_close_arg;

    krpc_read_done *read_done;
    void *read_arg;
    grpc_byte_buffer *read_message;
    krpc_send_done *send_done;
    void *send_arg;
    grpc_byte_buffer *send_message;
    bool terse;         /* an answer that says OK does without the request id */
    bool sent_metadata; /* streams: initial metadata went with the first message */

    size_t unsent; /* bytes of the answer that are counted in the server's |unsent| */
    unsigned peer; /* in unsent.of_peer */
    char request_id[REQUEST_ID_MAX + 1];
};

static void arm(krpc_call *call, krpc_server *s, krpc_entry *entry);

static _Atomic unsigned *missing_of(krpc_server *s, krpc_entry *entry)
{
    return entry ? &entry->missing : &s->unknown_missing;
}

/* One of the calls that are not armed for want of memory may be armed now. */
static bool take_missing(krpc_server *s, krpc_entry *entry)
{
    _Atomic unsigned *missing = missing_of(s, entry);
    unsigned n = atomic_load(missing);
    while (n && !atomic_compare_exchange_weak(missing, &n, n - 1))
        ;
    return n != 0;
}

static void unref(krpc_call *call)
{
    if (atomic_fetch_sub_explicit(&call->refs, 1, memory_order_acq_rel) != 1)
        return;
    krpc_server *s = call->server;
    grpc_byte_buffer_destroy(call->request);
    grpc_byte_buffer_destroy(call->read_message);
    grpc_byte_buffer_destroy(call->send_message);
    grpc_metadata_array_destroy(&call->metadata);
    if (!call->entry)
        grpc_call_details_destroy(&call->details);
    bool lived = call->core != NULL, due = !call->entry || !call->entry->endless;
    if (lived)
        grpc_call_unref(call->core);
    if (lived && take_missing(s, call->entry))
        arm(call, s, call->entry);
    else
        free(call);
    if (!lived)
        return;
    (void)pthread_mutex_lock(&s->lock);
    s->live--;
    s->due -= due;
    if (!s->live || !s->due)
        (void)pthread_cond_signal(&s->changed);
    (void)pthread_mutex_unlock(&s->lock);
}

static void ref(krpc_call *call)
{
    (void)atomic_fetch_add_explicit(&call->refs, 1, memory_order_relaxed);
}

/* A batch only fails to start through a mistake of ours: two of a kind at once, or after the end.
 */
static void start(krpc_call *call, const grpc_op *ops, size_t n, krpc_tag *tag)
{
    grpc_call *core = call->core; /* |call| may be gone as soon as the batch has started */
    KRPC_HANDED_OVER(tag);
    grpc_call_error e = grpc_call_start_batch(core, ops, n, tag, NULL);
    if (e != GRPC_CALL_OK) {
        (void)fprintf(stderr, "krpc: batch of %s refused: %s\n",
                      call->entry ? call->entry->method.path : "an unknown method",
                      grpc_call_error_to_string(e));
        abort();
    }
}

static void closed(krpc_call *call, bool cancelled)
{
    if (cancelled)
        atomic_store(&call->cancelled, true);
    if (call->on_close)
        call->on_close(call->on_close_arg, cancelled);
}

static void on_closed(krpc_tag *tag, bool ok)
{
    (void)ok;
    krpc_call *call = KRPC_CONTAINER(tag, krpc_call, closed);
    if (call->core_cancelled)
        closed(call, true);
    else if (call->answer_left)
        closed(call, call->answer_lost);
    else /* the core closes a call when its last bytes are about to be written */
        call->close_seen = true;
    unref(call);
}

/* ---- answers on their way ---- */

static unsigned peer_of(krpc_call *call)
{
    char *name = grpc_call_get_peer(call->core);
    uint32_t hash = 2166136261u;
    for (const char *c = name; c && *c; c++)
        hash = (hash ^ (uint8_t)*c) * 16777619u;
    gpr_free(name);
    return (hash ^ hash >> 16) % KRPC_PEERS;
}

static void count_unsent(krpc_call *call, const grpc_byte_buffer *message)
{
    size_t bytes = message ? grpc_byte_buffer_length((grpc_byte_buffer *)(uintptr_t)message) : 0;
    if (bytes < COUNTED_BYTES)
        return;
    krpc_unsent *u = &call->server->unsent;
    call->peer = peer_of(call);
    call->unsent = bytes;
    (void)atomic_fetch_add(&u->of_peer[call->peer], bytes);
    (void)atomic_fetch_add(&u->total, bytes);
}

static void uncount_unsent(krpc_call *call)
{
    krpc_unsent *u = &call->server->unsent;
    if (!call->unsent)
        return;
    (void)atomic_fetch_sub(&u->of_peer[call->peer], call->unsent);
    (void)atomic_fetch_sub(&u->total, call->unsent);
    call->unsent = 0;
}

/* The caller lets answers pile up, more than there is room for: refused. */
static bool refuse_hoarder(krpc_call *call)
{
    krpc_unsent *u = &call->server->unsent;
    size_t limit = call->server->options.quota_bytes;
    if (!limit || atomic_load(&u->total) <= limit)
        return false;
    size_t own = atomic_load(&u->of_peer[peer_of(call)]);
    if (own <= limit / PEER_SHARE)
        return false;
    kaena_err err;
    (void)KAENA_FAIL(
        &err, RESOURCE_EXHAUSTED,
        "answers of %zu bytes wait to be fetched on this connection, and all there are "
        "take more than the limit of %zu",
        own, limit);
    kaena_err_hint(&err, "read the answers; or raise limits.rpc_bytes");
    err.reason = KAENA__V1__ERROR_DETAIL__REASON__LIMIT;
    err.needed = own;
    err.available = limit / PEER_SHARE;
    krpc_fail(call, &err);
    return true;
}

static void on_final(krpc_tag *tag, bool ok)
{
    krpc_call *call = KRPC_CONTAINER(tag, krpc_call, final);
    uncount_unsent(call);
    call->answer_left = true;
    call->answer_lost = !ok || (call->close_in_final && call->core_cancelled);
    if (call->close_in_final || call->close_seen)
        closed(call, call->answer_lost);
    unref(call);
}

static void ask_for_close(krpc_call *call)
{
    if (atomic_exchange(&call->close_asked, true))
        return;
    ref(call);
    grpc_op op = {.op = GRPC_OP_RECV_CLOSE_ON_SERVER,
                  .data.recv_close_on_server.cancelled = &call->core_cancelled};
    start(call, &op, 1, &call->closed);
}

static bool usable_request_id(grpc_slice v)
{
    size_t n = GRPC_SLICE_LENGTH(v);
    if (n == 0 || n > REQUEST_ID_MAX)
        return false;
    for (size_t i = 0; i < n; i++)
        if (GRPC_SLICE_START_PTR(v)[i] <= ' ' || GRPC_SLICE_START_PTR(v)[i] > '~')
            return false;
    return true;
}

static void set_request_id(krpc_call *call)
{
    for (size_t i = 0; i < call->metadata.count; i++) {
        const grpc_metadata *md = &call->metadata.metadata[i];
        if (grpc_slice_str_cmp(md->key, REQUEST_ID_KEY) == 0 && usable_request_id(md->value)) {
            memcpy(call->request_id, GRPC_SLICE_START_PTR(md->value), GRPC_SLICE_LENGTH(md->value));
            return;
        }
    }
    uint64_t id = call->server->id_base + atomic_fetch_add(&call->server->id_next, 1);
    static const char digits[] = "0123456789abcdef";
    for (int i = 15; i >= 0; i--, id >>= 4)
        call->request_id[i] = digits[id & 15];
}

static uint64_t deadline_ns(gpr_timespec t)
{
    t = gpr_convert_clock_type(t, GPR_CLOCK_MONOTONIC);
    if (gpr_time_cmp(t, gpr_inf_future(GPR_CLOCK_MONOTONIC)) == 0)
        return UINT64_MAX;
    return t.tv_sec < 0 ? 0 : (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void fail_unknown(krpc_call *call)
{
    char *path = grpc_slice_to_c_string(call->details.method);
    kaena_err err;
    (void)KAENA_FAIL(&err, UNIMPLEMENTED, "no method '%.200s' here", path);
    kaena_err_hint(&err, "server reflection lists the services; see that client and server are of "
                         "the same version");
    gpr_free(path);
    krpc_fail(call, &err);
}

static void handle(krpc_call *call)
{
    const krpc_entry *e = call->entry;
    if (!e) {
        fail_unknown(call);
    } else if ((e->method.kind == KRPC_UNARY || e->method.kind == KRPC_SERVER_STREAM) &&
               !call->request) {
        /* The client sent no message, took the call back, or the core had no memory for it. */
        KRPC_FAIL(call, INVALID_ARGUMENT, "%s: the call carried no request message",
                  e->method.path);
    } else {
        e->method.handler(call, e->user);
    }
}

static void on_arrived(krpc_tag *tag, bool ok)
{
    krpc_call *call = KRPC_CONTAINER(tag, krpc_call, arrived);
    krpc_server *s = call->server;
    if (!ok) { /* the server shuts down */
        call->core = NULL;
        unref(call);
        return;
    }
    krpc_call_arm(s, call->entry);
    (void)pthread_mutex_lock(&s->lock);
    s->live++;
    s->due += !call->entry || !call->entry->endless;
    s->arrived++;
    (void)pthread_mutex_unlock(&s->lock);
    if (!call->entry)
        call->deadline = call->details.deadline;
    call->deadline_ns = deadline_ns(call->deadline);
    set_request_id(call);
    ref(call);
    if (!refuse_hoarder(call))
        handle(call);
    /* An answer inside the handler has taken RECV_CLOSE along: one batch for a quick call. */
    ask_for_close(call);
    unref(call);
}

static void on_read(krpc_tag *tag, bool ok)
{
    krpc_call *call = KRPC_CONTAINER(tag, krpc_call, read);
    grpc_byte_buffer *message = call->read_message;
    call->read_message = NULL;
    if (!ok && message) {
        grpc_byte_buffer_destroy(message);
        message = NULL;
    }
    call->read_done(call, message, call->read_arg);
    unref(call);
}

static void on_sent(krpc_tag *tag, bool ok)
{
    krpc_call *call = KRPC_CONTAINER(tag, krpc_call, sent);
    grpc_byte_buffer_destroy(call->send_message);
    call->send_message = NULL;
    call->send_done(call, ok, call->send_arg);
    unref(call);
}

/* |call| is memory for a call: what it held is over. */
static void arm(krpc_call *call, krpc_server *s, krpc_entry *entry)
{
    memset(call, 0, sizeof *call);
    call->server = s;
    call->entry = entry;
    call->refs = 1;
    call->arrived.run = on_arrived;
    call->closed.run = on_closed;
    call->final.run = on_final;
    call->read.run = on_read;
    call->sent.run = on_sent;
    grpc_metadata_array_init(&call->metadata);
    KRPC_HANDED_OVER(&call->arrived);
    grpc_call_error e;
    if (entry) {
        bool payload = entry->method.kind == KRPC_UNARY || entry->method.kind == KRPC_SERVER_STREAM;
        e = grpc_server_request_registered_call(
            s->core, entry->registered, &call->core, &call->deadline, &call->metadata,
            payload ? &call->request : NULL, s->cq, s->cq, &call->arrived);
    } else {
        grpc_call_details_init(&call->details);
        e = grpc_server_request_call(s->core, &call->core, &call->details, &call->metadata, s->cq,
                                     s->cq, &call->arrived);
    }
    if (e != GRPC_CALL_OK) /* the queue has been shut down */
        unref(call);
}

void krpc_call_arm(krpc_server *s, krpc_entry *entry)
{
    krpc_call *call = malloc(sizeof *call);
    if (call) {
        arm(call, s, entry);
        return;
    }
    /* One call fewer waits for clients; the memory of the next that ends is taken for it. */
    (void)atomic_fetch_add(missing_of(s, entry), 1);
    if (s->options.on_warning)
        s->options.on_warning(s->options.user, "out of memory: a method takes fewer calls for now");
}

krpc_server *krpc_call_server(krpc_call *call)
{
    return call->server;
}

grpc_byte_buffer *krpc_call_request(krpc_call *call)
{
    return call->request;
}

grpc_byte_buffer *krpc_call_take_request(krpc_call *call)
{
    grpc_byte_buffer *out = call->request;
    call->request = NULL;
    return out;
}

void krpc_call_read(krpc_call *call, krpc_read_done *done, void *arg)
{
    call->read_done = done;
    call->read_arg = arg;
    ref(call);
    grpc_op op = {.op = GRPC_OP_RECV_MESSAGE,
                  .data.recv_message.recv_message = &call->read_message};
    start(call, &op, 1, &call->read);
}

void krpc_call_send(krpc_call *call, grpc_byte_buffer *message, krpc_send_done *done, void *arg)
{
    call->send_done = done;
    call->send_arg = arg;
    call->send_message = message;
    ref(call);
    grpc_op ops[2];
    size_t n = 0;
    if (!call->sent_metadata)
        ops[n++] = (grpc_op){.op = GRPC_OP_SEND_INITIAL_METADATA};
    call->sent_metadata = true;
    ops[n++] = (grpc_op){.op = GRPC_OP_SEND_MESSAGE, .data.send_message.send_message = message};
    start(call, ops, n, &call->sent);
}

void krpc_call_on_close(krpc_call *call, void (*fn)(void *arg, bool cancelled), void *arg)
{
    call->on_close = fn;
    call->on_close_arg = arg;
}

bool krpc_call_cancelled(const krpc_call *call)
{
    if (atomic_load(&((krpc_call *)(uintptr_t)call)->cancelled))
        return true;
    if (call->deadline_ns == UINT64_MAX)
        return false;
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec >= call->deadline_ns;
}

uint64_t krpc_call_deadline_ns(const krpc_call *call)
{
    return call->deadline_ns;
}

const char *krpc_call_request_id(const krpc_call *call)
{
    return call->request_id;
}

void *krpc_call_user(const krpc_call *call)
{
    return call->server->options.user;
}

bool krpc_call_metadata(const krpc_call *call, const char *key, char *buf, size_t size)
{
    for (size_t i = 0; i < call->metadata.count; i++) {
        const grpc_metadata *md = &call->metadata.metadata[i];
        if (grpc_slice_str_cmp(md->key, key) != 0)
            continue;
        size_t n = GRPC_SLICE_LENGTH(md->value);
        n = n < size - 1 ? n : size - 1;
        memcpy(buf, GRPC_SLICE_START_PTR(md->value), n);
        buf[n] = 0;
        return true;
    }
    return false;
}

void krpc_call_cancel(krpc_call *call)
{
    (void)grpc_call_cancel(call->core, NULL);
}

/* The core names connections that it got as descriptors "fd:N". -1: it is another. */
static int connection_fd(const char *peer)
{
    int fd = -1;
    return peer && sscanf(peer, "fd:%d", &fd) == 1 ? fd : -1;
}

uint64_t krpc_call_connection(krpc_call *call)
{
    char *peer = grpc_call_get_peer(call->core);
    int fd = connection_fd(peer);
    uint64_t id = fd >= 0 ? krpc_listeners_connection(call->server->listeners, fd) : 0;
    if (!id) {
        id = UINT64_C(0xcbf29ce484222325); /* FNV-1a of "ipv4:1.2.3.4:5678" */
        for (const char *p = peer ? peer : ""; *p; p++)
            id = (id ^ (uint8_t)*p) * UINT64_C(0x100000001b3);
    }
    gpr_free(peer);
    return id | KRPC_CONNECTION;
}

bool krpc_connection_open(krpc_server *s, uint64_t connection)
{
    return krpc_listeners_connected(s->listeners, connection & ~KRPC_CONNECTION);
}

bool krpc_call_peer(krpc_call *call, struct ucred *out)
{
    char *peer = grpc_call_get_peer(call->core);
    int fd = connection_fd(peer);
    gpr_free(peer);
    return fd >= 0 && krpc_listeners_peer(call->server->listeners, fd, out);
}

/* ---- answers ---- */

void krpc_call_be_terse(krpc_call *call)
{
    call->terse = true;
}

/* |detail|: grpc-status-details-bin, NULL = none; taken. */
static void answer(krpc_call *call, grpc_byte_buffer *message, grpc_status_code code,
                   const char *text, const grpc_slice *detail)
{
    grpc_metadata trailing[2] = {{.key = grpc_slice_from_static_string(REQUEST_ID_KEY),
                                  .value = grpc_slice_from_copied_string(call->request_id)}};
    if (detail)
        trailing[1] = (grpc_metadata){
            .key = grpc_slice_from_static_string("grpc-status-details-bin"), .value = *detail};
    grpc_slice status_text = grpc_slice_from_copied_string(text);
    grpc_op ops[4];
    size_t n = 0;
    if (!call->sent_metadata)
        ops[n++] = (grpc_op){.op = GRPC_OP_SEND_INITIAL_METADATA};
    if (message) {
        count_unsent(call, message);
        call->send_message = message;
        ops[n++] = (grpc_op){.op = GRPC_OP_SEND_MESSAGE, .data.send_message.send_message = message};
    }
    ops[n] = (grpc_op){.op = GRPC_OP_SEND_STATUS_FROM_SERVER};
    ops[n].data.send_status_from_server.trailing_metadata = trailing;
    const bool terse = call->terse && code == GRPC_STATUS_OK && !detail;
    ops[n].data.send_status_from_server.trailing_metadata_count = terse ? 0 : detail ? 2 : 1;
    ops[n].data.send_status_from_server.status = code;
    ops[n++].data.send_status_from_server.status_details = *text ? &status_text : NULL;
    if (!atomic_exchange(&call->close_asked, true)) {
        call->close_in_final = true;
        ops[n++] = (grpc_op){.op = GRPC_OP_RECV_CLOSE_ON_SERVER,
                             .data.recv_close_on_server.cancelled = &call->core_cancelled};
    }
    start(call, ops, n, &call->final); /* the call may be gone from here on */
    grpc_slice_unref(status_text);
    grpc_slice_unref(trailing[0].value);
    if (detail)
        grpc_slice_unref(*detail);
}

void krpc_reply(krpc_call *call, grpc_byte_buffer *message)
{
    answer(call, message, GRPC_STATUS_OK, "", NULL);
}

void krpc_finish(krpc_call *call)
{
    answer(call, NULL, GRPC_STATUS_OK, "", NULL);
}

#define STATUS_TEXT (sizeof((kaena_err *)NULL)->what + sizeof((kaena_err *)NULL)->hint + 2)

/* A google.rpc.Status of |err|, whose message also goes to |text|. */
static grpc_slice pack_status(const kaena_err *err, grpc_status_code code, char text[STATUS_TEXT])
{
    kaena_err e = *err;
    Kaena__V1__ErrorDetail d;
    krpc_pb_detail(&e, &d);
    (void)snprintf(text, STATUS_TEXT, e.hint[0] ? "%s; %s" : "%s", e.what, e.hint);
    uint8_t packed[STATUS_TEXT + 64];
    Google__Rpc__Any any = GOOGLE__RPC__ANY__INIT;
    any.type_url = (char *)(uintptr_t)DETAIL_URL;
    any.value.data = packed;
    any.value.len = kaena__v1__error_detail__pack(&d, packed);
    Google__Rpc__Any *details[1] = {&any};
    Google__Rpc__Status status = GOOGLE__RPC__STATUS__INIT;
    status.code = (int32_t)code;
    status.message = text;
    status.n_details = 1;
    status.details = details;
    grpc_slice slice = grpc_slice_malloc(google__rpc__status__get_packed_size(&status));
    (void)google__rpc__status__pack(&status, GRPC_SLICE_START_PTR(slice));
    return slice;
}

void krpc_reply_with(krpc_call *call, grpc_byte_buffer *message, const kaena_err *detail)
{
    char text[STATUS_TEXT];
    grpc_slice slice = pack_status(detail, GRPC_STATUS_OK, text);
    answer(call, message, GRPC_STATUS_OK, "", &slice);
}

void krpc_fail(krpc_call *call, const kaena_err *err)
{
    char text[STATUS_TEXT];
    grpc_slice slice = pack_status(err, (grpc_status_code)err->code, text);
    answer(call, NULL, (grpc_status_code)err->code, text, &slice);
}
