/* Lines as datagrams: to the journal by its native protocol, to syslog by RFC 5424. */
#include <errno.h>
#include <netdb.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "krt_log_sink.h"

#define JOURNAL_SOCKET "/run/systemd/journal/socket"
#define SYSLOG_SOCKET "/dev/log"

typedef struct socket_sink {
    krt_sink sink;
    size_t (*format)(const struct socket_sink *s, const kaena_log_record *r,
                     char out[KRT_LOG_BYTES]);
    char host[256]; /* ours */
    struct sockaddr_storage to;
    socklen_t to_size;
    pthread_mutex_t lock; /* of |fd| */
    int fd;               /* -1: not connected */
} socket_sink;

static size_t format_journal(const socket_sink *s, const kaena_log_record *r,
                             char out[KRT_LOG_BYTES])
{
    (void)s;
    return krt_log_journal(r, out);
}

static size_t format_syslog(const socket_sink *s, const kaena_log_record *r,
                            char out[KRT_LOG_BYTES])
{
    return krt_log_rfc5424(r, s->host, (long)getpid(), out);
}

/* With the lock held. A datagram socket of UDP stays without a peer: an answer of the network that
 * nobody listens would fail the next line, which may well arrive. */
static int connect_socket(socket_sink *s)
{
    if (s->fd >= 0)
        return 0;
    int fd = socket(s->to.ss_family, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return errno;
    if (s->to.ss_family == AF_UNIX &&
        connect(fd, (const struct sockaddr *)&s->to, s->to_size) != 0) {
        int e = errno;
        (void)close(fd);
        return e;
    }
    s->fd = fd;
    return 0;
}

static void disconnect(socket_sink *s)
{
    if (s->fd >= 0)
        (void)close(s->fd);
    s->fd = -1;
}

static int send_datagram(socket_sink *s, const char *data, size_t n)
{
    bool is_unix = s->to.ss_family == AF_UNIX;
    for (int attempt = 0;; attempt++) {
        int e = connect_socket(s);
        if (e)
            return e;
        const struct sockaddr *to = is_unix ? NULL : (const struct sockaddr *)&s->to;
        if (sendto(s->fd, data, n, MSG_DONTWAIT | MSG_NOSIGNAL, to, is_unix ? 0 : s->to_size) >= 0)
            return 0;
        e = errno;
        /* The reader may have been started anew at the same place. */
        if (attempt || e == EAGAIN || e == EMSGSIZE || e == ENOBUFS)
            return e;
        disconnect(s);
    }
}

static void write_line(kaena_log_sink *base, const kaena_log_record *r)
{
    socket_sink *s = (socket_sink *)base;
    char data[KRT_LOG_BYTES];
    size_t n = s->format(s, r, data);
    (void)pthread_mutex_lock(&s->lock);
    int e = send_datagram(s, data, n);
    (void)pthread_mutex_unlock(&s->lock);
    if (e == 0) {
        krt_sink_works(&s->sink);
        return;
    }
    krt_sink_lost(&s->sink, 1);
    krt_sink_failed(&s->sink, "%s", e == EAGAIN ? "its reader does not keep up" : strerror(e));
}

static void reopen_sink(krt_sink *sink)
{
    socket_sink *s = (socket_sink *)sink;
    (void)pthread_mutex_lock(&s->lock);
    disconnect(s);
    (void)pthread_mutex_unlock(&s->lock);
}

static void destroy(krt_sink *sink)
{
    socket_sink *s = (socket_sink *)sink;
    disconnect(s);
    (void)pthread_mutex_destroy(&s->lock);
    free(s);
}

static kaena_status unix_address(socket_sink *s, const char *path, kaena_err *err)
{
    struct sockaddr_un *to = (struct sockaddr_un *)&s->to;
    if (strlen(path) >= sizeof to->sun_path)
        return KAENA_FAIL(err, INVALID_ARGUMENT,
                          "log to %s: the path of a socket has at most %zu bytes", s->sink.label,
                          sizeof to->sun_path - 1);
    to->sun_family = AF_UNIX;
    (void)strcpy(to->sun_path, path);
    s->to_size = sizeof *to;
    return KAENA_OK;
}

/* "HOST:PORT", "[::1]:514". */
static kaena_status udp_address(socket_sink *s, const char *address, kaena_err *err)
{
    char host[256];
    const char *colon = strrchr(address, ':');
    size_t n = colon ? (size_t)(colon - address) : 0;
    bool brackets = n > 2 && address[0] == '[' && address[n - 1] == ']';
    if (n == 0 || n >= sizeof host || !colon[1])
        return KAENA_FAIL(err, INVALID_ARGUMENT,
                          "log to %s: the address must be HOST:PORT or a path", s->sink.label);
    (void)snprintf(host, sizeof host, "%.*s", (int)(brackets ? n - 2 : n), address + brackets);
    struct addrinfo hints = {.ai_socktype = SOCK_DGRAM}, *found = NULL;
    int e = getaddrinfo(host, colon + 1, &hints, &found);
    if (e != 0)
        return KAENA_FAIL(err, UNAVAILABLE, "log to %s: %s", s->sink.label, gai_strerror(e));
    memcpy(&s->to, found->ai_addr, found->ai_addrlen);
    s->to_size = found->ai_addrlen;
    freeaddrinfo(found);
    return KAENA_OK;
}

/* |must|: it has to be there now. */
static kaena_status create(const char *kind, const char *address, bool must, socket_sink **out,
                           kaena_err *err)
{
    socket_sink *s = calloc(1, sizeof *s);
    if (!s)
        return KAENA_FAIL(err, RESOURCE_EXHAUSTED, "log: out of memory");
    (void)snprintf(s->sink.label, sizeof s->sink.label, "%s '%.120s'", kind, address);
    s->sink.base.write = write_line;
    s->sink.reopen = reopen_sink;
    s->sink.destroy = destroy;
    s->fd = -1;
    (void)pthread_mutex_init(&s->lock, NULL);
    if (gethostname(s->host, sizeof s->host - 1) != 0 || !s->host[0])
        (void)strcpy(s->host, "-");
    kaena_status st =
        address[0] == '/' ? unix_address(s, address, err) : udp_address(s, address, err);
    int e = st == KAENA_OK && must ? connect_socket(s) : 0;
    if (e)
        st = KAENA_FAIL(err, UNAVAILABLE, "log to %s: %s", s->sink.label, strerror(e));
    if (st == KAENA_OK)
        *out = s;
    else
        destroy(&s->sink);
    return st;
}

kaena_status krt_sink_journal(const krt_sink_config *c, krt_sink **out, kaena_err *err)
{
    socket_sink *s;
    KAENA_TRY(create("the journal at", c->address ? c->address : JOURNAL_SOCKET, true, &s, err));
    s->format = format_journal;
    *out = &s->sink;
    return KAENA_OK;
}

kaena_status krt_sink_syslog(const krt_sink_config *c, krt_sink **out, kaena_err *err)
{
    socket_sink *s;
    KAENA_TRY(create("syslog at", c->address ? c->address : SYSLOG_SOCKET, false, &s, err));
    s->format = format_syslog;
    *out = &s->sink;
    return KAENA_OK;
}
