#include "rpc_core_ports.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

typedef enum kind {
    OTHER,
    LISTENER,
    CONNECTION,
} kind;

static kind kind_of(const krpc_core_ports *p, int fd)
{
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
        struct sockaddr_storage storage;
    } a;
    socklen_t size = sizeof a;
    if (getsockname(fd, &a.any, &size) != 0 ||
        (a.any.sa_family != AF_INET && a.any.sa_family != AF_INET6))
        return OTHER;
    uint16_t port = ntohs(a.any.sa_family == AF_INET ? a.v4.sin_port : a.v6.sin6_port);
    for (size_t i = 0; i < p->n; i++) {
        if (p->port[i] != port)
            continue;
        int listening = 0;
        size = sizeof listening;
        if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &size) != 0)
            return OTHER;
        return listening ? LISTENER : CONNECTION;
    }
    return OTHER;
}

/* Calls |fn| with a descriptor of its own for each socket of |wanted|: the core may close its, and
 * the number be another's, at any time. Returns how many descriptors of any kind there are, about.
 */
static size_t each(const krpc_core_ports *p, kind wanted, void (*fn)(void *arg, int fd), void *arg)
{
    DIR *dir = p->n ? opendir("/proc/self/fd") : NULL;
    size_t all = 0;
    if (!dir)
        return 0;
    for (const struct dirent *e; (e = readdir(dir));) {
        int fd = atoi(e->d_name);
        all++;
        if (e->d_name[0] == '.' || fd == dirfd(dir) || kind_of(p, fd) != wanted)
            continue;
        int own = fcntl(fd, F_DUPFD_CLOEXEC, 0);
        if (own < 0)
            continue;
        if (kind_of(p, own) == wanted)
            fn(arg, own);
        (void)close(own);
    }
    (void)closedir(dir);
    return all;
}

/* ---- too many ---- */

typedef struct peer {
    ino_t ino;
    bool kept;         /* by an earlier census */
    uint64_t received; /* bytes */
} peer;

typedef struct census {
    krpc_core_ports *ports;
    peer *peers;
    size_t n, capacity;
} census;

static ino_t ino_of(int fd)
{
    struct stat st;
    return fstat(fd, &st) == 0 ? st.st_ino : 0;
}

static int by_ino(const void *a, const void *b)
{
    ino_t x = *(const ino_t *)a, y = *(const ino_t *)b;
    return (x > y) - (x < y);
}

static bool is_kept(const krpc_core_ports *p, ino_t ino)
{
    return p->n_kept && bsearch(&ino, p->kept, p->n_kept, sizeof ino, by_ino);
}

static void count(void *arg, int fd)
{
    census *c = arg;
    if (c->n == c->capacity) {
        size_t capacity = c->capacity * 2 + 64;
        peer *grown = realloc(c->peers, capacity * sizeof *grown);
        if (!grown)
            return;
        c->peers = grown;
        c->capacity = capacity;
    }
    struct tcp_info info = {0};
    socklen_t size = sizeof info;
    (void)getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size);
    ino_t ino = ino_of(fd);
    c->peers[c->n++] =
        (peer){.ino = ino, .kept = is_kept(c->ports, ino), .received = info.tcpi_bytes_received};
}

/* Who was there before comes first, then who has said most: numbers of sockets tell no age. */
static int by_merit(const void *a, const void *b)
{
    const peer *x = a, *y = b;
    if (x->kept != y->kept)
        return y->kept - x->kept;
    if (x->received != y->received)
        return x->received < y->received ? 1 : -1;
    return by_ino(&x->ino, &y->ino);
}

static void cut(void *arg, int fd)
{
    const census *c = arg;
    if (!is_kept(c->ports, ino_of(fd)))
        (void)shutdown(fd, SHUT_RDWR);
}

size_t krpc_core_ports_cap(krpc_core_ports *p, size_t max, size_t max_fds)
{
    census c = {.ports = p};
    size_t all = each(p, CONNECTION, count, &c), others = all > c.n ? all - c.n : 0;
    size_t room = max_fds > others ? max_fds - others : 0;
    max = room < max ? room : max;
    size_t n_kept = c.n < max ? c.n : max, excess = c.n - n_kept;
    ino_t *kept = n_kept ? realloc(p->kept, n_kept * sizeof *kept) : NULL;
    if (kept) {
        p->kept = kept;
        qsort(c.peers, c.n, sizeof *c.peers, by_merit);
        for (size_t i = 0; i < n_kept; i++)
            kept[i] = c.peers[i].ino;
        qsort(kept, n_kept, sizeof *kept, by_ino);
    }
    p->n_kept = kept ? n_kept : 0;
    if (excess)
        (void)each(p, CONNECTION, cut, &c);
    free(c.peers);
    return excess;
}

void krpc_core_ports_free(krpc_core_ports *p)
{
    free(p->kept);
    *p = (krpc_core_ports){0};
}

/* ---- the end ---- */

static void refuse(void *arg, int fd)
{
    (void)arg;
    (void)shutdown(fd, SHUT_RD);
}

static void hang_up(void *arg, int fd)
{
    (void)shutdown(fd, SHUT_WR);
    ++*(size_t *)arg;
}

void krpc_core_ports_stop(const krpc_core_ports *p)
{
    (void)each(p, LISTENER, refuse, NULL);
}

size_t krpc_core_ports_hang_up(const krpc_core_ports *p)
{
    size_t n = 0;
    (void)each(p, CONNECTION, hang_up, &n);
    return n;
}
