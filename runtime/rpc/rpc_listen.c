#include "rpc_listen.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>
#include <uv.h>

#include "file.h"

#define MAX_SOCKETS 32
#define BACKLOG 4096 /* the kernel cuts it to net.core.somaxconn */
/* Connections taken in one turn of the loop, so that one socket does not starve the others. */
#define ACCEPTS_PER_TURN 64
/* How long nothing is accepted when there is not even a descriptor to refuse with. */
#define PAUSE_MS 100
#define HANG_UP_STEP_MS 5
/* The core accepts without asking: what is too much is cut after at most so long. */
#define CENSUS_MS 1000
#define FIRST_ACTIVATED_FD 3
#define LIMIT_REACHED                                                                              \
    "connection limit reached: new connections are refused; raise limits.connections"

typedef struct listener {
    krpc_listeners *owner;
    uv_poll_t poll;
    int fd;
    int lock_fd; /* unix sockets of ours, else -1 */
    bool is_unix;
    char path[sizeof((struct sockaddr_un *)NULL)->sun_path]; /* to be removed; "" = nothing */
    dev_t dev;
    ino_t ino; /* of |path| */
} listener;

/* A connection, found by its descriptor. The core closes descriptors without telling us: an entry
 * is live while the descriptor still is the socket of that inode number. */
typedef struct connection {
    ino_t ino; /* 0 = none */
    uint64_t serial;
    bool has_peer;
    struct ucred peer;
} connection;

struct krpc_listeners {
    krpc_listen_options options;
    listener sockets[MAX_SOCKETS];
    size_t n_sockets;
    int reserve_fd; /* given up to refuse a connection when descriptors run out; -1 = none */
    bool started, stopped;
    bool warned_full, warned_fds; /* once per episode */
    uv_loop_t loop;
    uv_async_t stop;
    uv_timer_t pause;
    uv_timer_t census; /* of the core's connections */
    krpc_core_ports core_ports;
    pthread_t thread;
    pthread_mutex_t lock;
    connection *connections; /* by descriptor; under lock, as are the next three */
    size_t n_connections;    /* entries */
    uint64_t last_serial;
    size_t n_open;          /* at most: those seen live in the last count, and later ones */
    uint64_t next_count_ns; /* not earlier; uv_hrtime; under lock */
};

static void warn(krpc_listeners *ls, const char *text)
{
    if (ls->options.warning)
        ls->options.warning(ls->options.user, text);
}

static int open_reserve(void)
{
    return open("/dev/null", O_RDONLY | O_CLOEXEC);
}

kaena_status krpc_listeners_create(const krpc_listen_options *options, krpc_listeners **out,
                                   kaena_err *err)
{
    krpc_listeners *ls = calloc(1, sizeof *ls);
    if (!ls)
        return KAENA_FAIL(err, RESOURCE_EXHAUSTED, "listen: out of memory");
    ls->options = *options;
    ls->reserve_fd = open_reserve();
    int e = ls->reserve_fd < 0 ? errno : -uv_loop_init(&ls->loop);
    if (e) {
        if (ls->reserve_fd >= 0)
            (void)close(ls->reserve_fd);
        free(ls);
        return kaena_err_set(err, kaena_status_of_errno(e), "listen: %s", strerror(e));
    }
    (void)pthread_mutex_init(&ls->lock, NULL);
    *out = ls;
    return KAENA_OK;
}

/* ---- connections ---- */

static ino_t socket_ino(int fd)
{
    struct stat st;
    return fstat(fd, &st) == 0 && S_ISSOCK(st.st_mode) ? st.st_ino : 0;
}

/* Counts what is open now; with the lock held. */
static size_t count_open(krpc_listeners *ls)
{
    size_t n = 0;
    for (size_t fd = 0; fd < ls->n_connections; fd++) {
        connection *c = &ls->connections[fd];
        if (c->ino && c->ino == socket_ino((int)fd))
            n++;
        else
            c->ino = 0;
    }
    ls->n_open = n;
    return n;
}

/* Counts once more when there seem to be too many; with the lock held. Counting thousands for each
 * of thousands that are refused would keep the thread from those that are welcome: it takes a tenth
 * of its time at most. */
static bool count_finds_room(krpc_listeners *ls)
{
    uint64_t from = uv_hrtime();
    if (from < ls->next_count_ns)
        return false;
    bool room = count_open(ls) < ls->options.max_connections;
    uint64_t now = uv_hrtime();
    ls->next_count_ns = room ? 0 : now + 9 * (now - from);
    return room;
}

void krpc_listeners_hang_up(krpc_listeners *ls, unsigned ms)
{
    (void)pthread_mutex_lock(&ls->lock);
    for (size_t fd = 0; fd < ls->n_connections; fd++)
        if (ls->connections[fd].ino && ls->connections[fd].ino == socket_ino((int)fd))
            (void)shutdown((int)fd, SHUT_WR);
    (void)pthread_mutex_unlock(&ls->lock);
    (void)krpc_core_ports_hang_up(&ls->core_ports);
    /* The core closes descriptors without a word: looking is the only way to know. */
    for (unsigned waited = 0; waited < ms; waited += HANG_UP_STEP_MS) {
        (void)pthread_mutex_lock(&ls->lock);
        size_t open = count_open(ls);
        (void)pthread_mutex_unlock(&ls->lock);
        if (!open && !krpc_core_ports_hang_up(&ls->core_ports))
            return;
        struct timespec t = {.tv_nsec = HANG_UP_STEP_MS * 1000000L};
        (void)nanosleep(&t, NULL);
    }
}

size_t krpc_listeners_open(krpc_listeners *ls)
{
    (void)pthread_mutex_lock(&ls->lock);
    size_t n = count_open(ls);
    (void)pthread_mutex_unlock(&ls->lock);
    return n;
}

bool krpc_listeners_peer(krpc_listeners *ls, int fd, struct ucred *out)
{
    (void)pthread_mutex_lock(&ls->lock);
    const connection *c = fd >= 0 && (size_t)fd < ls->n_connections ? &ls->connections[fd] : NULL;
    bool known = c && c->has_peer && c->ino && c->ino == socket_ino(fd);
    if (known)
        *out = c->peer;
    (void)pthread_mutex_unlock(&ls->lock);
    return known;
}

/* Numbers of connections say where to look for them. */
#define FD_BITS 24

uint64_t krpc_listeners_connection(krpc_listeners *ls, int fd)
{
    uint64_t id = 0;
    (void)pthread_mutex_lock(&ls->lock);
    if (fd >= 0 && fd < 1 << FD_BITS && (size_t)fd < ls->n_connections && ls->connections[fd].ino)
        id = ls->connections[fd].serial << FD_BITS | (uint64_t)fd;
    (void)pthread_mutex_unlock(&ls->lock);
    return id;
}

bool krpc_listeners_connected(krpc_listeners *ls, uint64_t id)
{
    size_t fd = (size_t)(id & ((1 << FD_BITS) - 1));
    (void)pthread_mutex_lock(&ls->lock);
    const connection *c = fd < ls->n_connections ? &ls->connections[fd] : NULL;
    bool open = c && c->ino && c->serial == id >> FD_BITS && c->ino == socket_ino((int)fd);
    (void)pthread_mutex_unlock(&ls->lock);
    return open;
}

/* Enters |fd|; NULL, or why it is refused. */
static const char *admit(krpc_listeners *ls, int fd, bool is_unix)
{
    const char *refusal = NULL;
    (void)pthread_mutex_lock(&ls->lock);
    if (ls->n_open >= ls->options.max_connections && !count_finds_room(ls))
        refusal = LIMIT_REACHED;
    if (!refusal && (size_t)fd >= ls->n_connections) {
        size_t n = ((size_t)fd + 1) * 2;
        connection *grown = realloc(ls->connections, n * sizeof *grown);
        if (!grown) {
            refusal = "out of memory: new connections are refused";
        } else {
            memset(grown + ls->n_connections, 0, (n - ls->n_connections) * sizeof *grown);
            ls->connections = grown;
            ls->n_connections = n;
        }
    }
    if (!refusal) {
        connection *c = &ls->connections[fd];
        *c = (connection){.ino = socket_ino(fd), .serial = ++ls->last_serial};
        socklen_t size = sizeof c->peer;
        c->has_peer = is_unix && getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &c->peer, &size) == 0;
        ls->n_open++;
    }
    (void)pthread_mutex_unlock(&ls->lock);
    return refusal;
}

/* ---- accepting ---- */

static void on_readable(uv_poll_t *poll, int status, int events);

static void on_pause_over(uv_timer_t *timer)
{
    krpc_listeners *ls = timer->data;
    for (size_t i = 0; i < ls->n_sockets; i++)
        (void)uv_poll_start(&ls->sockets[i].poll, UV_READABLE, on_readable);
}

/* No descriptor is left: the reserve is given up to take one connection and close it, so that its
 * client hears a refusal instead of waiting, and the queue of the kernel does not keep us busy. */
static void refuse_one(krpc_listeners *ls, int listen_fd)
{
    if (!ls->warned_fds)
        warn(ls, "no file descriptors left: new connections are refused; raise LimitNOFILE or "
                 "lower limits.connections");
    ls->warned_fds = true;
    if (ls->reserve_fd >= 0) {
        (void)close(ls->reserve_fd);
        int fd = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC);
        if (fd >= 0)
            (void)close(fd);
    }
    ls->reserve_fd = open_reserve();
    if (ls->reserve_fd >= 0)
        return;
    for (size_t i = 0; i < ls->n_sockets; i++)
        (void)uv_poll_stop(&ls->sockets[i].poll);
    (void)uv_timer_start(&ls->pause, on_pause_over, PAUSE_MS, 0);
}

static void warn_refused(krpc_listeners *ls, const char *refusal)
{
    if (!ls->warned_full)
        warn(ls, refusal);
    ls->warned_full = true;
}

static void on_census(uv_timer_t *timer)
{
    krpc_listeners *ls = timer->data;
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
        limit.rlim_cur = RLIM_INFINITY;
    if (krpc_core_ports_cap(&ls->core_ports, ls->options.max_connections, limit.rlim_cur / 4 * 3))
        warn_refused(ls, LIMIT_REACHED);
}

static void on_readable(uv_poll_t *poll, int status, int events)
{
    (void)status;
    (void)events;
    listener *l = poll->data;
    krpc_listeners *ls = l->owner;
    for (int i = 0; i < ACCEPTS_PER_TURN; i++) {
        int fd = accept4(l->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd < 0 && (errno == EINTR || errno == ECONNABORTED))
            continue;
        if (fd < 0 && (errno == EMFILE || errno == ENFILE)) {
            refuse_one(ls, l->fd);
            return;
        }
        if (fd < 0)
            return;
        const char *refusal = admit(ls, fd, l->is_unix);
        if (refusal) {
            warn_refused(ls, refusal);
            (void)close(fd);
            continue;
        }
        ls->warned_full = ls->warned_fds = false;
        if (!l->is_unix) {
            int on = 1; /* the core sets it on sockets of its own only */
            (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        }
        ls->options.accepted(ls->options.user, fd);
    }
}

/* ---- binding ---- */

static listener *new_listener(krpc_listeners *ls, int fd, bool is_unix)
{
    listener *l = &ls->sockets[ls->n_sockets++];
    *l = (listener){.owner = ls, .fd = fd, .lock_fd = -1, .is_unix = is_unix};
    return l;
}

static kaena_status lock_socket(const char *path, int *out, kaena_err *err)
{
    char name[sizeof((struct sockaddr_un *)NULL)->sun_path + 8];
    (void)snprintf(name, sizeof name, "%s.lock", path);
    int fd = open(name, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return kaena_err_set(err, kaena_status_of_errno(errno), "lock '%s': %s", name,
                             strerror(errno));
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    if (fcntl(fd, F_OFD_SETLK, &lock) != 0) {
        (void)close(fd);
        return KAENA_FAIL(err, ALREADY_EXISTS, "another server listens there ('%s' is locked)",
                          name);
    }
    *out = fd;
    return KAENA_OK;
}

/* A server that knows nothing of our lock may listen there, too: ask. With the lock held. */
static kaena_status clear_path(const struct sockaddr_un *addr, kaena_err *err)
{
    struct stat st;
    if (lstat(addr->sun_path, &st) != 0)
        return KAENA_OK;
    if (!S_ISSOCK(st.st_mode))
        return KAENA_FAIL(err, ALREADY_EXISTS, "a file that is not a socket stands there");
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return kaena_err_set(err, kaena_status_of_errno(errno), "socket: %s", strerror(errno));
    int rc = connect(fd, (const struct sockaddr *)addr, sizeof *addr);
    bool dead = rc != 0 && errno == ECONNREFUSED;
    (void)close(fd);
    if (!dead)
        return KAENA_FAIL(err, ALREADY_EXISTS, "another server listens there");
    if (unlink(addr->sun_path) != 0)
        return kaena_err_set(err, kaena_status_of_errno(errno), "remove the old socket: %s",
                             strerror(errno));
    return KAENA_OK;
}

static kaena_status bind_unix(const struct sockaddr_un *addr, krpc_access access, int *out,
                              kaena_err *err)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return kaena_err_set(err, kaena_status_of_errno(errno), "socket: %s", strerror(errno));
    /* The mode of the descriptor becomes that of the file: its owner's alone until it has its
     * group.
     */
    bool ok = fchmod(fd, 0600) == 0 && bind(fd, (const struct sockaddr *)addr, sizeof *addr) == 0;
    bool bound = ok;
    if (ok && access.group != (gid_t)-1 && lchown(addr->sun_path, (uid_t)-1, access.group) != 0) {
        kaena_status st =
            kaena_err_set(err, kaena_status_of_errno(errno), "give it to group %ld: %s",
                          (long)access.group, strerror(errno));
        kaena_err_hint(err, "the daemon's user must be a member of that group");
        (void)unlink(addr->sun_path);
        (void)close(fd);
        return st;
    }
    ok = ok && chmod(addr->sun_path, access.mode) == 0 && listen(fd, BACKLOG) == 0;
    if (!ok) {
        int e = errno;
        if (bound)
            (void)unlink(addr->sun_path);
        (void)close(fd);
        return kaena_err_set(err, e == EADDRINUSE ? KAENA_ALREADY_EXISTS : kaena_status_of_errno(e),
                             "%s", strerror(e));
    }
    *out = fd;
    return KAENA_OK;
}

static kaena_status add_unix(krpc_listeners *ls, const char *path, krpc_access access,
                             kaena_err *err)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    size_t n = strlen(path);
    memcpy(addr.sun_path, path, n + 1);
    int lock_fd = -1, fd = -1;
    KAENA_TRY(lock_socket(path, &lock_fd, err));
    kaena_status st = clear_path(&addr, err);
    if (st == KAENA_OK)
        st = bind_unix(&addr, access, &fd, err);
    if (st != KAENA_OK) {
        (void)close(lock_fd);
        return st;
    }
    listener *l = new_listener(ls, fd, true);
    l->lock_fd = lock_fd;
    struct stat meta;
    if (lstat(path, &meta) == 0) {
        memcpy(l->path, path, n + 1);
        l->dev = meta.st_dev;
        l->ino = meta.st_ino;
    }
    return KAENA_OK;
}

static int bind_tcp(const struct addrinfo *ai)
{
    int fd = socket(ai->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -1;
    int on = 1; /* a restart need not wait for old connections; SO_REUSEPORT would let two servers
                   share the port */
    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (ai->ai_family == AF_INET6)
        (void)setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on);
    if (bind(fd, ai->ai_addr, ai->ai_addrlen) == 0 && listen(fd, BACKLOG) == 0)
        return fd;
    int e = errno;
    (void)close(fd);
    errno = e;
    return -1;
}

static void print_bound(int fd, char bound[256])
{
    struct sockaddr_storage a;
    socklen_t n = sizeof a;
    char host[128], port[16];
    if (getsockname(fd, (struct sockaddr *)&a, &n) == 0 &&
        getnameinfo((struct sockaddr *)&a, n, host, sizeof host, port, sizeof port,
                    NI_NUMERICHOST | NI_NUMERICSERV) == 0)
        (void)snprintf(bound, 256, a.ss_family == AF_INET6 ? "[%s]:%s" : "%s:%s", host, port);
}

static kaena_status resolve(const krpc_address *a, struct addrinfo **out, kaena_err *err)
{
    char port[16];
    (void)snprintf(port, sizeof port, "%u", a->port);
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE};
    int rc = getaddrinfo(a->host[0] ? a->host : NULL, port, &hints, out);
    if (rc != 0)
        return KAENA_FAIL(err, INVALID_ARGUMENT, "host '%s': %s", a->host, gai_strerror(rc));
    return KAENA_OK;
}

static kaena_status fail_bind(int e, kaena_err *err)
{
    return kaena_err_set(err, e == EADDRINUSE ? KAENA_ALREADY_EXISTS : kaena_status_of_errno(e),
                         "%s", strerror(e));
}

kaena_status krpc_tcp_probe(const krpc_address *a, kaena_err *err)
{
    struct addrinfo *list;
    KAENA_TRY(resolve(a, &list, err));
    int e = EADDRNOTAVAIL;
    for (const struct addrinfo *ai = list; ai && e != 0; ai = ai->ai_next) {
        int fd = bind_tcp(ai);
        e = fd < 0 ? errno : 0;
        if (fd >= 0)
            (void)close(fd);
        else if (e != EAFNOSUPPORT && e != EADDRNOTAVAIL)
            break;
    }
    freeaddrinfo(list);
    return e ? fail_bind(e, err) : KAENA_OK;
}

static kaena_status add_tcp(krpc_listeners *ls, const krpc_address *a, char bound[256],
                            kaena_err *err)
{
    struct addrinfo *list;
    KAENA_TRY(resolve(a, &list, err));
    size_t before = ls->n_sockets;
    int e = 0;
    for (const struct addrinfo *ai = list; ai && ls->n_sockets < MAX_SOCKETS; ai = ai->ai_next) {
        if (a->port == 0 && ls->n_sockets > before)
            break; /* another family would get another port */
        int fd = bind_tcp(ai);
        if (fd >= 0) {
            (void)new_listener(ls, fd, false);
        } else if (errno != EAFNOSUPPORT && errno != EADDRNOTAVAIL) {
            e = errno;
            break;
        }
    }
    freeaddrinfo(list);
    if (e || ls->n_sockets == before) {
        while (ls->n_sockets > before)
            (void)close(ls->sockets[--ls->n_sockets].fd);
        return fail_bind(e ? e : EADDRNOTAVAIL, err);
    }
    if (bound)
        print_bound(ls->sockets[before].fd, bound);
    return KAENA_OK;
}

kaena_status krpc_listeners_add(krpc_listeners *ls, const krpc_address *a, krpc_access access,
                                char bound[256], kaena_err *err)
{
    if (ls->n_sockets == MAX_SOCKETS)
        return KAENA_FAIL(err, RESOURCE_EXHAUSTED, "more than %d sockets", MAX_SOCKETS);
    return a->is_unix ? add_unix(ls, a->path, access, err) : add_tcp(ls, a, bound, err);
}

kaena_status krpc_listeners_add_core_port(krpc_listeners *ls, uint16_t port, kaena_err *err)
{
    krpc_core_ports *p = &ls->core_ports;
    if (p->n == KRPC_MAX_CORE_PORTS)
        return KAENA_FAIL(err, RESOURCE_EXHAUSTED, "more than %d TLS ports", KRPC_MAX_CORE_PORTS);
    p->port[p->n++] = port;
    return KAENA_OK;
}

kaena_status krpc_listeners_adopt(krpc_listeners *ls, bool unix_only, size_t *n_out, kaena_err *err)
{
    const char *pid = getenv("LISTEN_PID"), *fds = getenv("LISTEN_FDS");
    size_t n = 0;
    if (pid && fds && strtol(pid, NULL, 10) == (long)getpid())
        n = strtoul(fds, NULL, 10);
    for (size_t i = 0; i < n; i++) {
        int fd = FIRST_ACTIVATED_FD + (int)i, listening = 0, domain = 0;
        socklen_t size = sizeof listening;
        if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &size) != 0 || !listening ||
            getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &size) != 0 ||
            (domain != AF_UNIX && domain != AF_INET && domain != AF_INET6))
            return KAENA_FAIL(err, INVALID_ARGUMENT,
                              "socket activation: descriptor %d is not a listening stream socket",
                              fd);
        if (unix_only && domain != AF_UNIX)
            return KAENA_FAIL(err, FAILED_PRECONDITION,
                              "socket activation: descriptor %d is a TCP socket, which could not "
                              "speak TLS: leave TCP addresses to 'listen'",
                              fd);
        if (ls->n_sockets == MAX_SOCKETS)
            return KAENA_FAIL(err, RESOURCE_EXHAUSTED, "socket activation: more than %d sockets",
                              MAX_SOCKETS);
        (void)fcntl(fd, F_SETFD, FD_CLOEXEC);
        (void)fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
        (void)new_listener(ls, fd, domain == AF_UNIX);
    }
    (void)unsetenv("LISTEN_PID");
    (void)unsetenv("LISTEN_FDS");
    (void)unsetenv("LISTEN_FDNAMES");
    *n_out = n;
    return KAENA_OK;
}

/* ---- life ---- */

static void on_stop(uv_async_t *async)
{
    uv_stop(async->loop);
}

static void *run(void *arg)
{
    krpc_listeners *ls = arg;
    (void)uv_run(&ls->loop, UV_RUN_DEFAULT);
    return NULL;
}

kaena_status krpc_listeners_start(krpc_listeners *ls, kaena_err *err)
{
    int rc = uv_async_init(&ls->loop, &ls->stop, on_stop);
    if (rc == 0)
        rc = uv_timer_init(&ls->loop, &ls->pause);
    ls->pause.data = ls;
    if (rc == 0)
        rc = uv_timer_init(&ls->loop, &ls->census);
    ls->census.data = ls;
    if (rc == 0 && ls->core_ports.n)
        rc = uv_timer_start(&ls->census, on_census, CENSUS_MS, CENSUS_MS);
    for (size_t i = 0; i < ls->n_sockets && rc == 0; i++) {
        listener *l = &ls->sockets[i];
        l->poll.data = l;
        rc = uv_poll_init(&ls->loop, &l->poll, l->fd);
        if (rc == 0)
            rc = uv_poll_start(&l->poll, UV_READABLE, on_readable);
    }
    if (rc == 0)
        rc = -pthread_create(&ls->thread, NULL, run, ls);
    if (rc != 0)
        return kaena_err_set(err, kaena_status_of_errno(-rc), "listen: %s", strerror(-rc));
    ls->started = true;
    return KAENA_OK;
}

static void close_handle(uv_handle_t *handle, void *arg)
{
    (void)arg;
    if (!uv_is_closing(handle))
        uv_close(handle, NULL);
}

void krpc_listeners_stop(krpc_listeners *ls)
{
    if (ls->stopped)
        return;
    ls->stopped = true;
    if (ls->started) {
        (void)uv_async_send(&ls->stop);
        (void)pthread_join(ls->thread, NULL);
    }
    krpc_core_ports_stop(&ls->core_ports);
    uv_walk(&ls->loop, close_handle, NULL);
    (void)uv_run(&ls->loop, UV_RUN_DEFAULT);
    for (size_t i = 0; i < ls->n_sockets; i++) {
        listener *l = &ls->sockets[i];
        struct stat st;
        if (l->path[0] && lstat(l->path, &st) == 0 && st.st_ino == l->ino && st.st_dev == l->dev)
            (void)unlink(l->path);
        (void)close(l->fd);
        if (l->lock_fd >= 0)
            (void)close(l->lock_fd);
    }
    if (ls->reserve_fd >= 0)
        (void)close(ls->reserve_fd);
    ls->reserve_fd = -1;
}

krpc_listeners *krpc_listeners_destroy(krpc_listeners *ls)
{
    if (!ls)
        return NULL;
    krpc_listeners_stop(ls);
    (void)uv_loop_close(&ls->loop);
    (void)pthread_mutex_destroy(&ls->lock);
    krpc_core_ports_free(&ls->core_ports);
    free(ls->connections);
    free(ls);
    return NULL;
}
