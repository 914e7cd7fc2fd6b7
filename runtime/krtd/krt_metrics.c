#include "krt_metrics.h"

#include <errno.h>
#include <llhttp.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "rpc_address.h"

#define BACKLOG 64
#define SOCKET_MODE 0660
#define URL_BYTES 256
#define IDLE_SECONDS 120 /* between requests: those who scrape come again */
#define OPEN_METRICS "application/openmetrics-text"

typedef union stream {
    uv_handle_t handle;
    uv_stream_t stream;
    uv_tcp_t tcp;
    uv_pipe_t pipe;
} stream;

typedef struct peer {
    stream stream;
    uv_timer_t timer;
    krt_metrics *owner;
    struct peer *next, *previous; /* of the owner; the first has been quiet longest */
    unsigned n_handles;           /* to be closed before it can go */
    llhttp_t parser;
    /* Of the request: */
    size_t n_head;
    char url[URL_BYTES];
    size_t n_url;
    char name[16], accept[512]; /* of a header; values of Accept, cut where they are longer */
    size_t n_name, n_accept;
    bool name_ended, complete;
    /* Of the answer: */
    uv_write_t write;
    char head[512];
    kaena_strbuf body;
    bool keep;
    char in[4096];
} peer;

struct krt_metrics {
    krt_daemon *daemon;
    uv_loop_t *loop;
    stream listener;
    char path[KRPC_UNIX_PATH_MAX]; /* "": not a unix socket */
    peer *first, *last;
    size_t n_peers;
    llhttp_settings_t settings;
};

/* ---- peers ---- */

static void leave(peer *p)
{
    krt_metrics *m = p->owner;
    *(p->previous ? &p->previous->next : &m->first) = p->next;
    *(p->next ? &p->next->previous : &m->last) = p->previous;
    m->n_peers--;
}

static void enter(peer *p)
{
    krt_metrics *m = p->owner;
    p->previous = m->last;
    p->next = NULL;
    *(m->last ? &m->last->next : &m->first) = p;
    m->last = p;
    m->n_peers++;
}

static void on_closed(uv_handle_t *handle)
{
    peer *p = handle->data;
    if (--p->n_handles)
        return;
    kaena_strbuf_fini(&p->body);
    free(p);
}

static void hang_up(peer *p)
{
    if (uv_is_closing(&p->stream.handle))
        return;
    leave(p);
    uv_close(&p->stream.handle, on_closed);
    uv_close((uv_handle_t *)&p->timer, on_closed);
}

static void on_timeout(uv_timer_t *timer)
{
    hang_up(timer->data);
}

static void wait_for(peer *p, unsigned seconds)
{
    (void)uv_timer_start(&p->timer, on_timeout, seconds * UINT64_C(1000), 0);
}

/* ---- answers ---- */

static void begin_request(peer *p)
{
    llhttp_init(&p->parser, HTTP_REQUEST, &p->owner->settings);
    p->parser.data = p;
    p->n_head = p->n_url = p->n_accept = p->n_name = 0;
    p->complete = p->name_ended = false;
}

static void on_allocate(uv_handle_t *handle, size_t size, uv_buf_t *buf)
{
    (void)size;
    peer *p = handle->data;
    *buf = uv_buf_init(p->in, sizeof p->in);
}

static void on_read(uv_stream_t *handle, ssize_t n, const uv_buf_t *buf);

static void on_written(uv_write_t *write, int status)
{
    peer *p = write->data;
    if (status < 0 || !p->keep || uv_is_closing(&p->stream.handle)) {
        hang_up(p);
        return;
    }
    kaena_strbuf_fini(&p->body);
    begin_request(p);
    wait_for(p, IDLE_SECONDS);
    leave(p);
    enter(p);
    (void)uv_read_start(&p->stream.stream, on_allocate, on_read);
}

/* With what is in p->body. */
static void answer(peer *p, const char *status, const char *type, const char *more)
{
    bool head_only = p->parser.method == HTTP_HEAD;
    int n = snprintf(p->head, sizeof p->head,
                     "HTTP/1.1 %s\r\nContent-Type: %s\r\nContent-Length: %zu\r\n%s"
                     "Connection: %s\r\n\r\n",
                     status, type, p->body.size, more, p->keep ? "keep-alive" : "close");
    uv_buf_t bufs[] = {uv_buf_init(p->head, (unsigned)n),
                       uv_buf_init(p->body.data, head_only ? 0 : (unsigned)p->body.size)};
    (void)uv_read_stop(&p->stream.stream);
    wait_for(p, KRT_METRICS_SECONDS);
    p->write.data = p;
    if (uv_write(&p->write, &p->stream.stream, bufs, 2, on_written) != 0)
        hang_up(p);
}

static void answer_text(peer *p, const char *status, const char *more)
{
    kaena_strbuf_printf(&p->body, "%s\n", status + strlen("200 "));
    answer(p, status, "text/plain; charset=utf-8", more);
}

/* What is wrong with a request ends its connection: nobody knows where the next begins. */
static void refuse(peer *p, const char *status, const char *more)
{
    p->keep = false;
    answer_text(p, status, more);
}

static bool wants_open_metrics(peer *p)
{
    p->accept[p->n_accept] = 0;
    return strcasestr(p->accept, OPEN_METRICS) != NULL;
}

static void serve(peer *p)
{
    krt_daemon *d = p->owner->daemon;
    p->url[p->n_url] = 0;
    p->url[strcspn(p->url, "?")] = 0;
    bool metrics = strcmp(p->url, "/metrics") == 0;
    if (!metrics && strcmp(p->url, "/healthz") != 0) {
        answer_text(p, "404 Not Found", "");
    } else if (p->parser.method != HTTP_GET && p->parser.method != HTTP_HEAD) {
        answer_text(p, "405 Method Not Allowed", "Allow: GET, HEAD\r\n");
    } else if (metrics) {
        bool open = wants_open_metrics(p);
        krt_metrics_text(d, open, &p->body);
        answer(p, "200 OK",
               open ? OPEN_METRICS "; version=1.0.0; charset=utf-8"
                    : "text/plain; version=0.0.4; charset=utf-8",
               "Vary: Accept\r\n");
    } else {
        answer_text(p, atomic_load(&d->draining) ? "503 Service Unavailable" : "200 OK", "");
    }
}

/* ---- requests ---- */

static int on_url(llhttp_t *parser, const char *at, size_t n)
{
    peer *p = parser->data;
    if (n >= sizeof p->url - p->n_url)
        return HPE_USER;
    memcpy(p->url + p->n_url, at, n);
    p->n_url += n;
    return 0;
}

/* Names and values come in pieces. */
static int on_name(llhttp_t *parser, const char *at, size_t n)
{
    peer *p = parser->data;
    if (p->name_ended)
        p->n_name = 0;
    p->name_ended = false;
    size_t room = sizeof p->name - p->n_name;
    memcpy(p->name + p->n_name, at, n < room ? n : room);
    p->n_name += n < room ? n : room;
    return 0;
}

static int on_value(llhttp_t *parser, const char *at, size_t n)
{
    static const char accept[] = "accept";
    peer *p = parser->data;
    p->name_ended = true;
    if (p->n_name != strlen(accept) || strncasecmp(p->name, accept, p->n_name) != 0)
        return 0;
    size_t room = sizeof p->accept - 1 - p->n_accept;
    memcpy(p->accept + p->n_accept, at, n < room ? n : room);
    p->n_accept += n < room ? n : room;
    return 0;
}

/* The head is all that matters: a body is not waited for. */
static int on_head(llhttp_t *parser)
{
    peer *p = parser->data;
    bool body = (parser->flags & F_CHUNKED) || parser->content_length > 0;
    p->keep = llhttp_should_keep_alive(parser) && !body && !parser->upgrade;
    p->complete = true;
    return HPE_PAUSED;
}

static void on_read(uv_stream_t *handle, ssize_t n, const uv_buf_t *buf)
{
    peer *p = handle->data;
    if (n == 0)
        return;
    if (n < 0) {
        hang_up(p);
        return;
    }
    if (p->n_head == 0)
        wait_for(p, KRT_METRICS_SECONDS); /* for all of the head, however it comes */
    llhttp_errno_t e = llhttp_execute(&p->parser, buf->base, (size_t)n);
    p->n_head += (size_t)n;
    if (p->complete) {
        /* One request after the other; who sends more at once gets one answer. */
        const char *end = llhttp_get_error_pos(&p->parser);
        size_t used = end ? (size_t)(end - buf->base) : 0;
        if (used + 2 < (size_t)n) /* the end of line that ends the head may stay behind */
            p->keep = false;
        serve(p);
    } else if (p->n_head > KRT_METRICS_HEAD_BYTES) {
        refuse(p, "431 Request Header Fields Too Large", "");
    } else if (e == HPE_USER) {
        refuse(p, "414 URI Too Long", "");
    } else if (e != HPE_OK) {
        refuse(p, "400 Bad Request", "");
    }
}

/* ---- listening ---- */

static int init_stream(krt_metrics *m, stream *s)
{
    return m->path[0] ? uv_pipe_init(m->loop, &s->pipe, 0) : uv_tcp_init(m->loop, &s->tcp);
}

static void on_refused(uv_handle_t *handle)
{
    free(handle);
}

static void on_connection(uv_stream_t *listener, int status)
{
    krt_metrics *m = listener->data;
    peer *p = status == 0 ? calloc(1, sizeof *p) : NULL;
    if (!p)
        return; /* libuv asks again */
    if (init_stream(m, &p->stream) != 0) {
        free(p);
        return;
    }
    if (uv_accept(listener, &p->stream.stream) != 0) {
        uv_close(&p->stream.handle, on_refused); /* the stream is what |p| begins with */
        return;
    }
    (void)uv_timer_init(m->loop, &p->timer);
    p->owner = m;
    p->n_handles = 2;
    p->stream.handle.data = p->timer.data = p;
    if (m->n_peers == KRT_METRICS_CONNECTIONS)
        hang_up(m->first); /* a crowd of quiet ones keeps nobody out */
    enter(p);
    begin_request(p);
    wait_for(p, KRT_METRICS_SECONDS);
    (void)uv_read_start(&p->stream.stream, on_allocate, on_read);
}

/* A socket file that nobody listens on is what a crash has left. */
static int bind_unix(krt_metrics *m)
{
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    (void)strcpy(to.sun_path, m->path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd >= 0 && connect(fd, (struct sockaddr *)&to, sizeof to) != 0 && errno == ECONNREFUSED)
        (void)unlink(m->path);
    if (fd >= 0)
        (void)close(fd);
    int rc = uv_pipe_bind(&m->listener.pipe, m->path);
    if (rc == 0 && chmod(m->path, SOCKET_MODE) != 0)
        rc = -errno;
    return rc;
}

static int bind_tcp(krt_metrics *m, const krpc_address *a)
{
    char port[8];
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE}, *found = NULL;
    (void)snprintf(port, sizeof port, "%u", (unsigned)a->port);
    if (getaddrinfo(*a->host ? a->host : NULL, port, &hints, &found) != 0)
        return UV_EADDRNOTAVAIL;
    int rc = uv_tcp_bind(&m->listener.tcp, found->ai_addr, 0);
    freeaddrinfo(found);
    return rc;
}

static void describe(krt_metrics *m, char bound[256])
{
    struct sockaddr_storage a;
    int size = sizeof a;
    char host[64] = "", port[16] = "";
    if (m->path[0]) {
        (void)snprintf(bound, 256, "unix:%s", m->path);
        return;
    }
    (void)uv_tcp_getsockname(&m->listener.tcp, (struct sockaddr *)&a, &size);
    (void)getnameinfo((struct sockaddr *)&a, (socklen_t)size, host, sizeof host, port, sizeof port,
                      NI_NUMERICHOST | NI_NUMERICSERV);
    (void)snprintf(bound, 256, strchr(host, ':') ? "[%s]:%s" : "%s:%s", host, port);
}

static kaena_status listen_on(krt_metrics *m, const char *address, kaena_err *err)
{
    krpc_address a;
    KAENA_TRY_WRAP(err, krpc_address_parse(address, &a, err), "metrics '%.100s'", address);
    if (a.is_unix)
        (void)strcpy(m->path, a.path);
    int rc = init_stream(m, &m->listener);
    if (rc != 0)
        return KAENA_FAIL(err, INTERNAL, "metrics: %s", uv_strerror(rc));
    m->listener.handle.data = m;
    rc = m->path[0] ? bind_unix(m) : bind_tcp(m, &a);
    if (rc == 0)
        rc = uv_listen(&m->listener.stream, BACKLOG, on_connection);
    if (rc == 0)
        return KAENA_OK;
    m->path[0] = 0; /* it is not ours to remove */
    return kaena_err_set(err,
                         rc == UV_EADDRINUSE ? KAENA_ALREADY_EXISTS : KAENA_FAILED_PRECONDITION,
                         "metrics '%.100s': %s", address, uv_strerror(rc));
}

kaena_status krt_metrics_open(krt_daemon *d, uv_loop_t *loop, const char *address, char bound[256],
                              krt_metrics **out, kaena_err *err)
{
    krt_metrics *m = calloc(1, sizeof *m);
    if (!m)
        return KAENA_FAIL(err, RESOURCE_EXHAUSTED, "metrics: out of memory");
    m->daemon = d;
    m->loop = loop;
    llhttp_settings_init(&m->settings);
    m->settings.on_url = on_url;
    m->settings.on_header_field = on_name;
    m->settings.on_header_value = on_value;
    m->settings.on_headers_complete = on_head;
    kaena_status st = listen_on(m, address, err);
    if (st != KAENA_OK) {
        (void)krt_metrics_close(m);
        return st;
    }
    describe(m, bound);
    *out = m;
    return KAENA_OK;
}

static void on_listener_closed(uv_handle_t *handle)
{
    free(handle->data);
}

krt_metrics *krt_metrics_close(krt_metrics *m)
{
    if (!m)
        return NULL;
    while (m->first)
        hang_up(m->first);
    if (m->listener.handle.loop)
        uv_close(&m->listener.handle, on_listener_closed); /* removes the file of a pipe */
    else
        free(m);
    return NULL;
}
