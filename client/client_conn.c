#include "client_conn.h"

#include <errno.h>
#include <fcntl.h>
#include <grpc/grpc_posix.h>
#include <grpc/grpc_security.h>
#include <limits.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

/* A daemon that hangs, or whose machine is gone, is asked for a sign of life while a call waits for
 * it; without one the connection is lost. The daemon allows a ping every 4 s. */
#define KEEPALIVE_MS 5000
#define KEEPALIVE_TIMEOUT_MS 5000
/* A host that does not even refuse is left after so long, however long the call may take. */
#define CONNECT_NS (INT64_C(5000) * 1000000)

struct kaena_conn {
    atomic_int refs; /* the endpoint's, and one for each call */
    atomic_bool cut;
    int fd; /* a duplicate of the one gRPC owns, to poll and to cut; -1 with TLS */
    grpc_channel *channel;
    char *address;
};

gpr_timespec kaena_gpr_time(int64_t ns)
{
    if (ns == INT64_MAX)
        return gpr_inf_future(GPR_CLOCK_MONOTONIC);
    return (gpr_timespec){.tv_sec = ns / 1000000000,
                          .tv_nsec = (int32_t)(ns % 1000000000),
                          .clock_type = GPR_CLOCK_MONOTONIC};
}

void kaena_conn_release(kaena_conn *conn)
{
    if (!conn || atomic_fetch_sub(&conn->refs, 1) != 1)
        return;
    if (conn->channel)
        grpc_channel_destroy(conn->channel);
    if (conn->fd >= 0)
        close(conn->fd);
    free(conn->address);
    free(conn);
}

grpc_channel *kaena_conn_channel(const kaena_conn *conn)
{
    return conn->channel;
}

const char *kaena_conn_address(const kaena_conn *conn)
{
    return conn->address;
}

bool kaena_conn_alive(const kaena_conn *conn)
{
    if (atomic_load(&conn->cut))
        return false;
    if (conn->fd < 0) /* TLS */
        return grpc_channel_check_connectivity_state(conn->channel, 0) == GRPC_CHANNEL_READY;
    struct pollfd p = {.fd = conn->fd, .events = POLLRDHUP};
    return poll(&p, 1, 0) == 0;
}

bool kaena_conn_is_ours(const kaena_conn *conn)
{
    return conn->fd >= 0;
}

void kaena_conn_cut(kaena_conn *conn)
{
    atomic_store(&conn->cut, true);
    if (conn->fd >= 0)
        (void)shutdown(conn->fd, SHUT_RDWR);
}

static kaena_status fail_errno(const char *address, int e, kaena_err *err)
{
    char text[128];
    const char *said = strerror_r(e, text, sizeof text);
    if (e == EMFILE || e == ENFILE || e == ENOMEM)
        return KAENA_FAIL(err, RESOURCE_EXHAUSTED, "cannot connect to %s: %s", address, said);
    if (e == EACCES || e == EPERM) {
        (void)KAENA_FAIL(err, PERMISSION_DENIED, "not allowed to connect to %s: %s", address, said);
        kaena_err_hint(err, "add this user to the group that owns the socket");
        return KAENA_PERMISSION_DENIED;
    }
    (void)KAENA_FAIL(err, UNAVAILABLE, "no daemon answers at %s: %s", address, said);
    kaena_err_hint(err, "start krtd, or say where it listens (KAENA_KRTD_ADDRESS, --address)");
    return KAENA_UNAVAILABLE;
}

/* Connects |fd|, which does not block, until |deadline_ns|. 0 or an errno. */
static int connect_until(int fd, const struct sockaddr *to, socklen_t size, int64_t deadline_ns)
{
    if (connect(fd, to, size) == 0)
        return 0;
    /* A unix socket answers EAGAIN when its backlog is full. */
    if (errno != EINPROGRESS)
        return errno == EAGAIN ? ECONNREFUSED : errno;
    struct pollfd p = {.fd = fd, .events = POLLOUT};
    for (;;) {
        int64_t left_ms = (deadline_ns - kaena_now_ns()) / 1000000;
        if (left_ms <= 0)
            return ETIMEDOUT;
        int ready = poll(&p, 1, left_ms > INT_MAX ? INT_MAX : (int)left_ms);
        if (ready < 0 && errno != EINTR)
            return errno;
        if (ready > 0)
            break;
    }
    int e = 0;
    socklen_t length = sizeof e;
    return getsockopt(fd, SOL_SOCKET, SO_ERROR, &e, &length) == 0 ? e : errno;
}

static kaena_status connect_unix(const char *address, int64_t deadline_ns, int *out_fd,
                                 kaena_err *err)
{
    const char *path = address + strlen("unix:");
    if (strncmp(path, "//", 2) == 0)
        path += 2; /* unix:///run/... is the same place as unix:/run/... */
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    size_t size = strlen(path);
    if (size >= sizeof to.sun_path) {
        (void)KAENA_FAIL(err, INVALID_ARGUMENT, "the socket path in '%s' is longer than %zu bytes",
                         address, sizeof to.sun_path - 1);
        kaena_err_hint(err, "use a path relative to the current directory, or a symbolic link");
        return KAENA_INVALID_ARGUMENT;
    }
    memcpy(to.sun_path, path, size);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return fail_errno(address, errno, err);
    int e = connect_until(fd, (const struct sockaddr *)&to, sizeof to, deadline_ns);
    if (e) {
        close(fd);
        return fail_errno(address, e, err);
    }
    *out_fd = fd;
    return KAENA_OK;
}

/* Looking up a name has no deadline: the resolver's own time limits hold. */
static kaena_status connect_tcp(const char *address, int64_t deadline_ns, int *out_fd,
                                kaena_err *err)
{
    char host[256];
    const char *colon = strrchr(address, ':');
    const char *first = address;
    size_t size = (size_t)(colon - address);
    if (size >= 2 && first[0] == '[' && first[size - 1] == ']') {
        first++;
        size -= 2;
    }
    if (size >= sizeof host)
        return KAENA_FAIL(err, INVALID_ARGUMENT, "the host in '%s' is too long", address);
    memcpy(host, first, size);
    host[size] = 0;

    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_ADDRCONFIG};
    struct addrinfo *list;
    int problem = getaddrinfo(host, colon + 1, &hints, &list);
    if (problem) {
        (void)KAENA_FAIL(err, UNAVAILABLE, "cannot find the host of %s: %s", address,
                         gai_strerror(problem));
        return KAENA_UNAVAILABLE;
    }
    int fd = -1, e = ECONNREFUSED;
    for (const struct addrinfo *a = list; a && fd < 0; a = a->ai_next) {
        fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, a->ai_protocol);
        if (fd < 0) {
            e = errno;
            continue;
        }
        e = connect_until(fd, a->ai_addr, a->ai_addrlen, deadline_ns);
        if (e) {
            close(fd);
            fd = -1;
        }
    }
    freeaddrinfo(list);
    if (fd < 0)
        return fail_errno(address, e, err);
    const int on = 1;
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    (void)setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
    *out_fd = fd;
    return KAENA_OK;
}

static grpc_arg integer(const char *key, int value)
{
    return (grpc_arg){.type = GRPC_ARG_INTEGER, .key = (char *)key, .value.integer = value};
}

#define CHANNEL_ARGS 9

/* How every channel behaves; |list| has room for CHANNEL_ARGS. */
static grpc_channel_args channel_args(grpc_arg *list)
{
    static char agent[] = "libkaena/" KAENA_VERSION;
    const grpc_arg common[] = {
        {.type = GRPC_ARG_STRING,
         .key = (char *)GRPC_ARG_PRIMARY_USER_AGENT_STRING,
         .value.string = agent},
        integer(GRPC_ARG_ENABLE_RETRIES, 0),
        integer(GRPC_ARG_MAX_RECEIVE_MESSAGE_LENGTH, INT_MAX),
        integer(GRPC_ARG_KEEPALIVE_TIME_MS, KEEPALIVE_MS),
        integer(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, KEEPALIVE_TIMEOUT_MS),
        integer(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0), /* any number */
    };
    memcpy(list, common, sizeof common);
    return (grpc_channel_args){.num_args = sizeof common / sizeof common[0], .args = list};
}

static grpc_channel *channel_on(int fd, const char *address)
{
    static char authority[] = "localhost";
    grpc_arg list[CHANNEL_ARGS];
    grpc_channel_args args = channel_args(list);
    list[args.num_args++] = (grpc_arg){.type = GRPC_ARG_STRING,
                                       .key = (char *)GRPC_ARG_DEFAULT_AUTHORITY,
                                       .value.string = authority};
    grpc_channel_credentials *plain = grpc_insecure_credentials_create();
    grpc_channel *channel = grpc_channel_create_from_fd(address, fd, plain, &args);
    grpc_channel_credentials_release(plain);
    return channel;
}

/* ---- TLS ---- */

/* gRPC takes no descriptor of ours for TLS: the channel connects itself. */
static grpc_channel *channel_to(const char *address, const kaena_tls *tls)
{
    grpc_arg list[CHANNEL_ARGS];
    grpc_channel_args args = channel_args(list);
    /* A connection of its own, which is not made anew behind our back within a call. */
    list[args.num_args++] = integer(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    list[args.num_args++] = integer(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, 1000);
    if (tls->name)
        list[args.num_args++] = (grpc_arg){.type = GRPC_ARG_STRING,
                                           .key = (char *)GRPC_SSL_TARGET_NAME_OVERRIDE_ARG,
                                           .value.string = tls->name};
    return grpc_channel_create(address, tls->credentials, &args);
}

/* Waits until the channel is connected. What gRPC says of why it is not stays in gRPC: so a daemon
 * that is looked for in the plain way first tells whether anybody listens at all. */
static kaena_status wait_ready(grpc_channel *channel, const char *address, int64_t deadline_ns,
                               kaena_err *err)
{
    grpc_completion_queue *queue = grpc_completion_queue_create_for_pluck(NULL);
    grpc_connectivity_state state = grpc_channel_check_connectivity_state(channel, 1);
    while (state != GRPC_CHANNEL_READY && state != GRPC_CHANNEL_TRANSIENT_FAILURE &&
           state != GRPC_CHANNEL_SHUTDOWN && kaena_now_ns() < deadline_ns) {
        grpc_channel_watch_connectivity_state(channel, state, kaena_gpr_time(deadline_ns), queue,
                                              queue);
        (void)grpc_completion_queue_pluck(queue, queue, gpr_inf_future(GPR_CLOCK_REALTIME), NULL);
        state = grpc_channel_check_connectivity_state(channel, 1);
    }
    grpc_completion_queue_shutdown(queue);
    grpc_completion_queue_destroy(queue);
    if (state == GRPC_CHANNEL_READY)
        return KAENA_OK;
    (void)KAENA_FAIL(err, UNAVAILABLE, "the daemon at %s does not agree on TLS", address);
    kaena_err_hint(err, "does it speak TLS there, is its certificate for that host and of our CA, "
                        "and does it want one of ours (--tls-cert)?");
    return KAENA_UNAVAILABLE;
}

/* A connection over |fd|, which it takes; |tls|: over one that gRPC makes. */
static kaena_status conn_create(const char *address, int fd, const kaena_tls *tls, kaena_conn **out,
                                kaena_err *err)
{
    kaena_conn *conn = calloc(1, sizeof *conn);
    char *copy = strdup(address);
    int twin = tls ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, 0);
    if (!conn || !copy || (!tls && twin < 0)) {
        kaena_status status = fail_errno(address, !conn || !copy ? ENOMEM : errno, err);
        free(conn);
        free(copy);
        if (twin >= 0)
            close(twin);
        close(fd);
        return status;
    }
    if (tls)
        close(fd);
    *conn = (kaena_conn){.refs = 1,
                         .fd = twin,
                         .address = copy,
                         .channel = tls ? channel_to(address, tls) : channel_on(fd, address)};
    *out = conn;
    return KAENA_OK;
}

static kaena_status conn_open(const char *address, const kaena_tls *tls, int64_t deadline_ns,
                              kaena_conn **out, kaena_err *err)
{
    int fd = -1;
    int64_t latest_ns = kaena_now_ns() + CONNECT_NS;
    if (deadline_ns > latest_ns)
        deadline_ns = latest_ns;
    bool is_unix = strncmp(address, "unix:", 5) == 0;
    if (is_unix || !tls->credentials)
        tls = NULL;
    if (is_unix)
        KAENA_TRY(connect_unix(address, deadline_ns, &fd, err));
    else
        KAENA_TRY(connect_tcp(address, deadline_ns, &fd, err));
    KAENA_TRY(conn_create(address, fd, tls, out, err));
    kaena_status status = tls ? wait_ready((*out)->channel, address, deadline_ns, err) : KAENA_OK;
    if (status != KAENA_OK)
        kaena_conn_release(*out);
    return status;
}

kaena_status kaena_endpoint_init(kaena_endpoint *e, const char *address, const kaena_tls *tls,
                                 kaena_err *err)
{
    char *copy = strdup(address);
    if (!copy)
        return KAENA_FAIL(err, RESOURCE_EXHAUSTED, "out of memory");
    *e = (kaena_endpoint){.address = copy, .tls = tls};
    pthread_mutex_init(&e->lock, NULL);
    return KAENA_OK;
}

void kaena_endpoint_fini(kaena_endpoint *e)
{
    for (size_t i = 0; i < e->count; i++)
        kaena_conn_release(e->conns[i]);
    free(e->address);
    pthread_mutex_destroy(&e->lock);
}

/* The live connection with the fewest calls, dead ones being dropped on the way; NULL: none, or all
 * are busy and there may be one more. Under the lock. */
static kaena_conn *least_busy(kaena_endpoint *e)
{
    kaena_conn *best = NULL;
    size_t live = 0;
    for (size_t i = 0; i < e->count; i++) {
        kaena_conn *conn = e->conns[i];
        if (atomic_load(&conn->cut)) {
            kaena_conn_release(conn);
            continue;
        }
        e->conns[live++] = conn;
        if (!best || atomic_load(&conn->refs) < atomic_load(&best->refs))
            best = conn;
    }
    e->count = live;
    bool busy = best && atomic_load(&best->refs) > 1;
    return busy && live < KAENA_ENDPOINT_CONNS ? NULL : best;
}

kaena_status kaena_endpoint_acquire(kaena_endpoint *e, int64_t deadline_ns, kaena_conn **out,
                                    kaena_err *err)
{
    kaena_conn *conn;
    do {
        pthread_mutex_lock(&e->lock);
        conn = least_busy(e);
        if (conn)
            atomic_fetch_add(&conn->refs, 1);
        pthread_mutex_unlock(&e->lock);
        if (conn && kaena_conn_alive(conn)) {
            *out = conn;
            return KAENA_OK;
        }
        if (conn)
            kaena_conn_cut(conn);
        kaena_conn_release(conn);
    } while (conn);
    /* Not under the lock: another thread's deadline may be shorter. */
    KAENA_TRY(conn_open(e->address, e->tls, deadline_ns, &conn, err));
    pthread_mutex_lock(&e->lock);
    if (e->count < KAENA_ENDPOINT_CONNS) {
        atomic_fetch_add(&conn->refs, 1);
        e->conns[e->count++] = conn;
    }
    pthread_mutex_unlock(&e->lock);
    *out = conn;
    return KAENA_OK;
}
