/* The server: creation, the completion-queue thread, the end. */
#include <errno.h>
#include <grpc/grpc_posix.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "rpc_internal.h"

/* Calls of one method that the core may hand over before the queue is polled again. */
#define ARMED_PER_METHOD 32
/* A client that says nothing is asked for a sign of life: dead connections do not fill the limit.
 */
#define KEEPALIVE_MS 60000
#define KEEPALIVE_TIMEOUT_MS 20000
/* Clients that wait for an answer may ask for one, too: libkaena does every 5 s. */
#define CLIENT_PING_MS 4000
/* A connection that says nothing holds a descriptor for so long. */
#define HANDSHAKE_MS 10000
/* How long connections may take to end by themselves when no call is left. */
#define GOAWAY_MS 300
/* A client that has been refused goes elsewhere: without calls for so long, none will come. */
#define QUIET_MS 50

static void connection_accepted(void *user, int fd)
{
    krpc_server *s = user;
    grpc_server_add_channel_from_fd(s->core, fd, s->insecure);
}

static void listener_warning(void *user, const char *text)
{
    krpc_server *s = user;
    if (s->options.on_warning)
        s->options.on_warning(s->options.user, text);
}

static grpc_arg int_arg(const char *key, int value)
{
    return (grpc_arg){
        .type = GRPC_ARG_INTEGER, .key = (char *)(uintptr_t)key, .value.integer = value};
}

static grpc_server *create_core(const krpc_options *o)
{
    grpc_arg args[10] = {
        int_arg(GRPC_ARG_MAX_RECEIVE_MESSAGE_LENGTH, o->max_message_bytes),
        int_arg(GRPC_ARG_MAX_SEND_MESSAGE_LENGTH, -1),
        int_arg(GRPC_ARG_ALLOW_REUSEPORT, 0),
        int_arg(GRPC_ARG_KEEPALIVE_TIME_MS, KEEPALIVE_MS),
        int_arg(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, KEEPALIVE_TIMEOUT_MS),
        int_arg(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1),
        int_arg(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, CLIENT_PING_MS),
        int_arg(GRPC_ARG_SERVER_HANDSHAKE_TIMEOUT_MS, HANDSHAKE_MS),
    };
    grpc_channel_args list = {.num_args = 8, .args = args};
    if (o->max_streams)
        args[list.num_args++] = int_arg(GRPC_ARG_MAX_CONCURRENT_STREAMS, o->max_streams);
    grpc_resource_quota *quota = NULL;
    if (o->quota_bytes) {
        quota = grpc_resource_quota_create("krpc");
        grpc_resource_quota_resize(quota, o->quota_bytes);
        args[list.num_args++] =
            (grpc_arg){.type = GRPC_ARG_POINTER,
                       .key = (char *)(uintptr_t)GRPC_ARG_RESOURCE_QUOTA,
                       .value.pointer = {.p = quota, .vtable = grpc_resource_quota_arg_vtable()}};
    }
    grpc_server *core = grpc_server_create(&list, NULL);
    if (quota)
        grpc_resource_quota_unref(quota);
    return core;
}

static void add(krpc_server *s, const krpc_method *m, void *user, bool endless)
{
    if (s->n_entries == KRPC_MAX_METHODS)
        abort(); /* the tables are ours */
    bool payload = m->kind == KRPC_UNARY || m->kind == KRPC_SERVER_STREAM;
    void *registered = grpc_server_register_method(
        s->core, m->path, NULL,
        payload ? GRPC_SRM_PAYLOAD_READ_INITIAL_BYTE_BUFFER : GRPC_SRM_PAYLOAD_NONE, 0);
    s->entries[s->n_entries++] =
        (krpc_entry){.method = *m, .registered = registered, .user = user, .endless = endless};
}

static void on_shut_down(krpc_tag *tag, bool ok)
{
    (void)ok;
    krpc_server *s = KRPC_CONTAINER(tag, krpc_server, shutdown_tag);
    (void)pthread_mutex_lock(&s->lock);
    s->shut_down = true;
    (void)pthread_cond_signal(&s->changed);
    (void)pthread_mutex_unlock(&s->lock);
}

kaena_status krpc_server_create(const krpc_options *options, krpc_server **out, kaena_err *err)
{
    krpc_server *s = calloc(1, sizeof *s);
    krpc_health *health = krpc_health_create();
    krpc_clock *clock = s ? krpc_clock_create(s) : NULL;
    if (!s || !health || !clock) {
        free(s);
        (void)krpc_health_destroy(health);
        (void)krpc_clock_destroy(clock);
        return KAENA_FAIL(err, RESOURCE_EXHAUSTED, "server: out of memory");
    }
    s->options = *options;
    s->health = health;
    s->clock = clock;
    krpc_listen_options lo = {.max_connections = options->max_connections,
                              .accepted = connection_accepted,
                              .warning = listener_warning,
                              .user = s};
    kaena_status st = options->tls ? krpc_tls_create(options->tls, &s->tls, err) : KAENA_OK;
    if (st == KAENA_OK)
        st = krpc_listeners_create(&lo, &s->listeners, err);
    if (st != KAENA_OK) {
        s->tls = krpc_tls_destroy(s->tls);
        (void)krpc_health_destroy(health);
        (void)krpc_clock_destroy(clock);
        free(s);
        return st;
    }
    pthread_condattr_t attr;
    (void)pthread_condattr_init(&attr);
    (void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&s->changed, &attr);
    (void)pthread_condattr_destroy(&attr);
    (void)pthread_mutex_init(&s->lock, NULL);
    if (getrandom(&s->id_base, sizeof s->id_base, 0) != sizeof s->id_base)
        s->id_base = (uint64_t)time(NULL) << 20;
    s->shutdown_tag.run = on_shut_down;
    grpc_init();
    s->core = create_core(options);
    s->cq = grpc_completion_queue_create_for_next(NULL);
    grpc_server_register_completion_queue(s->core, s->cq, NULL);
    krpc_clock_start(s->clock);
    s->insecure = grpc_insecure_server_credentials_create();
    for (size_t i = 0; i < 2; i++)
        add(s, &krpc_health_methods[i], s->health, false); /* krpc_health_stop ends them */
    for (size_t i = 0; i < 2 && options->descriptors; i++)
        add(s, &krpc_reflect_methods[i], NULL, true);
    *out = s;
    return KAENA_OK;
}

void krpc_server_add_methods(krpc_server *s, const krpc_method *methods, size_t n)
{
    for (size_t i = 0; i < n; i++)
        add(s, &methods[i], s->options.user, false);
}

/* The core binds and accepts by itself where it does the handshake. */
static kaena_status listen_tls(krpc_server *s, const krpc_address *a, char bound[256],
                               kaena_err *err)
{
    /* The core tells nobody why it could not bind. */
    KAENA_TRY(krpc_tcp_probe(a, err));
    char target[sizeof a->host + 16];
    bool brackets = !a->host[0] || strchr(a->host, ':');
    (void)snprintf(target, sizeof target, brackets ? "[%s]:%u" : "%s:%u",
                   a->host[0] ? a->host : "::", a->port);
    grpc_server_credentials *creds = krpc_tls_credentials(s->tls);
    int port = creds ? grpc_server_add_http2_port(s->core, target, creds) : 0;
    grpc_server_credentials_release(creds);
    if (!port)
        return KAENA_FAIL(err, INTERNAL, "the gRPC core could not listen there");
    if (bound)
        (void)snprintf(bound, 256, brackets ? "[%s]:%d" : "%s:%d",
                       a->host[0] ? a->host : "::", port);
    return krpc_listeners_add_core_port(s->listeners, (uint16_t)port, err);
}

kaena_status krpc_server_listen(krpc_server *s, const char *address, krpc_access access,
                                char bound[256], kaena_err *err)
{
    krpc_address a;
    kaena_status st = krpc_address_parse(address, &a, err);
    if (st == KAENA_OK && s->tls && !a.is_unix)
        st = listen_tls(s, &a, bound, err);
    else if (st == KAENA_OK)
        st = krpc_listeners_add(s->listeners, &a, access, bound, err);
    if (st == KAENA_OK && bound && a.is_unix)
        (void)snprintf(bound, 256, "%s", address);
    return st == KAENA_OK ? st : kaena_err_wrap(err, st, "listen on '%s'", address);
}

kaena_status krpc_server_reload_tls(krpc_server *s, const krpc_tls_files *files, kaena_err *err)
{
    return krpc_tls_reload(s->tls, files, err);
}

kaena_status krpc_server_adopt_activated(krpc_server *s, size_t *n_out, kaena_err *err)
{
    return krpc_listeners_adopt(s->listeners, s->tls != NULL, n_out, err);
}

static void *poll_queue(void *arg)
{
    krpc_server *s = arg;
    const unsigned beat_ms = s->options.beat_ms;
    for (;;) {
        gpr_timespec until = krpc_clock_next(s->clock);
        if (beat_ms)
            until = gpr_time_min(until, gpr_time_add(gpr_now(until.clock_type),
                                                     gpr_time_from_millis(beat_ms, GPR_TIMESPAN)));
        grpc_event e = grpc_completion_queue_next(s->cq, until, NULL);
        if (e.type == GRPC_QUEUE_SHUTDOWN)
            return NULL;
        krpc_clock_run(s->clock);
        /* This thread is the only writer. */
        atomic_store_explicit(&s->beats, atomic_load_explicit(&s->beats, memory_order_relaxed) + 1,
                              memory_order_relaxed);
        if (e.type == GRPC_QUEUE_TIMEOUT)
            continue;
        krpc_tag *tag = e.tag;
        KRPC_TAKEN_OVER(tag);
        tag->run(tag, e.success != 0);
    }
}

kaena_status krpc_server_start(krpc_server *s, kaena_err *err)
{
    grpc_server_start(s->core);
    for (int k = 0; k < ARMED_PER_METHOD; k++) {
        for (size_t i = 0; i < s->n_entries; i++)
            krpc_call_arm(s, &s->entries[i]);
        krpc_call_arm(s, NULL);
    }
    int e = pthread_create(&s->thread, NULL, poll_queue, s);
    if (e)
        return kaena_err_set(err, KAENA_RESOURCE_EXHAUSTED, "server thread: %s", strerror(e));
    s->started = true;
    return krpc_listeners_start(s->listeners, err);
}

uint64_t krpc_server_beats(krpc_server *s)
{
    return atomic_load_explicit(&s->beats, memory_order_relaxed);
}

size_t krpc_server_connections(krpc_server *s)
{
    return krpc_listeners_open(s->listeners);
}

void krpc_server_stop_listening(krpc_server *s)
{
    krpc_listeners_stop(s->listeners);
}

static struct timespec in_ms(unsigned ms)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    t.tv_sec += ms / 1000;
    t.tv_nsec += (long)(ms % 1000) * 1000000;
    if (t.tv_nsec >= 1000000000) {
        t.tv_nsec -= 1000000000;
        t.tv_sec++;
    }
    return t;
}

static bool before(const struct timespec *a, const struct timespec *b)
{
    return a->tv_sec != b->tv_sec ? a->tv_sec < b->tv_sec : a->tv_nsec < b->tv_nsec;
}

/* Waits until every call is answered and no new one has come for QUIET_MS; with the lock held. */
static void wait_quiet(krpc_server *s, unsigned grace_ms)
{
    struct timespec limit = in_ms(grace_ms);
    for (;;) {
        uint64_t arrived = s->arrived;
        struct timespec quiet = in_ms(QUIET_MS);
        if (before(&limit, &quiet))
            return;
        while (s->due && pthread_cond_timedwait(&s->changed, &s->lock, &limit) != ETIMEDOUT)
            ;
        while (arrived == s->arrived &&
               pthread_cond_timedwait(&s->changed, &s->lock, &quiet) != ETIMEDOUT)
            ;
        if (!s->due && arrived == s->arrived)
            return;
    }
}

void krpc_server_stop(krpc_server *s, unsigned grace_ms)
{
    krpc_listeners_stop(s->listeners);
    if (!s->started)
        return;
    krpc_health_stop(s->health);
    (void)pthread_mutex_lock(&s->lock);
    wait_quiet(s, grace_ms);
    (void)pthread_mutex_unlock(&s->lock);
    s->started = false;
    /* Once the core shuts down it drops calls that come in with a bare CANCELLED, which no client
     * can take for "not accepted". So the connections end first, ours by hand: what the core says
     * about later calls reaches nobody, and their clients see a lost connection. */
    krpc_listeners_hang_up(s->listeners, GOAWAY_MS);
    /* The order matters: the queue may be shut down only when nothing can start a batch any more,
     * and the server destroyed only when the queue is empty. */
    grpc_server_shutdown_and_notify(s->core, s->cq, &s->shutdown_tag);
    struct timespec limit = in_ms(GOAWAY_MS);
    (void)pthread_mutex_lock(&s->lock);
    while (!s->shut_down && pthread_cond_timedwait(&s->changed, &s->lock, &limit) != ETIMEDOUT)
        ;
    bool done = s->shut_down;
    (void)pthread_mutex_unlock(&s->lock);
    if (!done)
        grpc_server_cancel_all_calls(s->core);
    (void)pthread_mutex_lock(&s->lock);
    while (s->live || !s->shut_down || !krpc_clock_end(s->clock))
        (void)pthread_cond_wait(&s->changed, &s->lock);
    (void)pthread_mutex_unlock(&s->lock);
    krpc_clock_stop(s->clock);
    grpc_completion_queue_shutdown(s->cq);
    (void)pthread_join(s->thread, NULL);
}

krpc_server *krpc_server_destroy(krpc_server *s)
{
    if (!s)
        return NULL;
    krpc_server_stop(s, 0);
    if (!s->shut_down) { /* never started */
        krpc_clock_stop(s->clock);
        grpc_server_shutdown_and_notify(s->core, s->cq, &s->shutdown_tag);
        grpc_completion_queue_shutdown(s->cq);
        while (grpc_completion_queue_next(s->cq, gpr_inf_future(GPR_CLOCK_REALTIME), NULL).type !=
               GRPC_QUEUE_SHUTDOWN)
            ;
    }
    grpc_server_destroy(s->core);
    grpc_completion_queue_destroy(s->cq);
    grpc_server_credentials_release(s->insecure);
    grpc_shutdown_blocking();
    s->tls = krpc_tls_destroy(s->tls);
    (void)krpc_listeners_destroy(s->listeners);
    (void)krpc_health_destroy(s->health);
    (void)krpc_clock_destroy(s->clock);
    (void)pthread_cond_destroy(&s->changed);
    (void)pthread_mutex_destroy(&s->lock);
    free(s);
    return NULL;
}
