#include "client_pool.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "client_router.h"

#define REGION_LEAST_BYTES (UINT64_C(4) << 20)
#define REGION_MOST_BYTES (UINT64_C(64) << 20)
#define MAX_REGIONS 48 /* daemons bound them, too */
#define MAX_REASONS 8
#define NAME_PREFIX "kaena-pool" /* of objects of this library, whoever else makes some */
#define ABANDONED_SECONDS 10
/* After a region could not be made, for so long none is tried. */
#define AGAIN_NS (INT64_C(5000) * 1000000)

typedef struct region region;

struct kaena_memory {
    region *home;
    struct kaena_memory *next; /* when free */
};

/* A region as one daemon knows it. */
typedef struct mapping {
    uint64_t epoch; /* in which it was mapped, or refused */
    uint64_t id;    /* 0: refused */
} mapping;

struct region {
    kaena_pool *pool;
    region *next;
    uint8_t *base;
    size_t bytes, block_bytes, block_count;
    size_t used;  /* blocks */
    bool retired; /* no block is handed out any more */
    kaena_memory *blocks, *free;
    mapping *maps; /* [daemons] */
};

/* A region that is gone here but not yet at a daemon. */
typedef struct leftover {
    struct leftover *next;
    size_t daemon;
    mapping map;
} leftover;

struct kaena_pool {
    pthread_mutex_t growing;   /* taken first: one region at a time is made */
    pthread_mutex_t lock;      /* of what follows */
    const kaena_pool_ops *ops; /* NULL: closed */
    void *user;
    size_t daemons;
    uint64_t limit, bytes;
    size_t refs; /* the owner's, and one a block in use */
    region *regions;
    size_t region_count;
    leftover *leftovers;
    int64_t again_ns;
    char reasons[MAX_REASONS][96]; /* said already */
    size_t reason_count;
};

kaena_pool *kaena_pool_create(size_t daemons, uint64_t limit, const kaena_pool_ops *ops, void *user)
{
    kaena_pool *p = calloc(1, sizeof *p);
    if (!p)
        return NULL;
    *p = (kaena_pool){.daemons = daemons, .limit = limit, .ops = ops, .user = user, .refs = 1};
    pthread_mutex_init(&p->growing, NULL);
    pthread_mutex_init(&p->lock, NULL);
    return p;
}

/* Says each reason once. Without the lock. */
static void say(kaena_pool *p, const char *what, const char *why)
{
    char text[512];
    bool fresh = p->reason_count < MAX_REASONS;
    (void)snprintf(text, sizeof text, "%s: tensors go through sockets: %s", what, why);
    for (size_t i = 0; i < p->reason_count; i++)
        fresh = fresh && strncmp(p->reasons[i], text, sizeof p->reasons[i] - 1) != 0;
    if (!fresh)
        return;
    (void)snprintf(p->reasons[p->reason_count++], sizeof p->reasons[0], "%.95s", text);
    p->ops->say(p->user, text);
}

/* ---- Regions ---- */

static void free_region(region *r)
{
    if (r->base)
        (void)munmap(r->base, r->bytes);
    free(r->blocks);
    free(r->maps);
    free(r);
}

/* Takes the region out of the pool; what daemons still have of it is left over. Under the lock. */
static void drop_region(region *r)
{
    kaena_pool *p = r->pool;
    for (region **at = &p->regions; *at; at = &(*at)->next)
        if (*at == r) {
            *at = r->next;
            break;
        }
    p->bytes -= r->bytes;
    p->region_count--;
    for (size_t i = 0; i < p->daemons && p->ops; i++) {
        /* Without memory for it the daemon keeps it until the session ends. */
        leftover *l = r->maps[i].id ? calloc(1, sizeof *l) : NULL;
        if (l) {
            *l = (leftover){p->leftovers, i, r->maps[i]};
            p->leftovers = l;
        }
    }
    free_region(r);
}

/* Has daemons forget what is gone. With |growing|, without the lock. */
static void sweep(kaena_pool *p)
{
    pthread_mutex_lock(&p->lock);
    leftover *list = p->leftovers;
    p->leftovers = NULL;
    pthread_mutex_unlock(&p->lock);
    while (list) {
        leftover *l = list;
        list = l->next;
        if (p->ops->epoch(p->user, l->daemon) == l->map.epoch)
            p->ops->unmap(p->user, l->daemon, l->map.id, l->map.epoch);
        free(l);
    }
}

/* A daemon that can have regions has not got this one. */
static bool is_stale(const region *r)
{
    const kaena_pool *p = r->pool;
    for (size_t i = 0; i < p->daemons; i++) {
        uint64_t epoch = p->ops->epoch(p->user, i);
        if (epoch && r->maps[i].epoch != epoch)
            return true;
    }
    return false;
}

/* Gives up unused regions until |bytes| more are within the limit, stale ones first. Under the
 * lock. */
static bool make_room(kaena_pool *p, uint64_t bytes)
{
    for (int all = 0; all < 2; all++)
        for (region *r = p->regions, *next; r; r = next) {
            next = r->next;
            bool enough = p->bytes + bytes <= p->limit && p->region_count < MAX_REGIONS;
            if (r->used == 0 && (is_stale(r) || (all && !enough)))
                drop_region(r);
        }
    return p->bytes + bytes <= p->limit && p->region_count < MAX_REGIONS;
}

/* A client that is killed while daemons open its region leaves the name behind. It had the object
 * locked, which a live one still has: the next client of that user takes such names away. */
static void unlink_abandoned(void)
{
    DIR *dir = opendir("/dev/shm");
    for (const struct dirent *e; dir && (e = readdir(dir));) {
        char name[sizeof e->d_name + 1];
        struct stat st;
        if (strncmp(e->d_name, NAME_PREFIX, strlen(NAME_PREFIX)) != 0)
            continue;
        (void)snprintf(name, sizeof name, "/%s", e->d_name);
        int fd = shm_open(name, O_RDWR | O_CLOEXEC, 0);
        if (fd < 0)
            continue;
        if (fstat(fd, &st) == 0 && st.st_uid == geteuid() &&
            time(NULL) - st.st_mtime > ABANDONED_SECONDS && flock(fd, LOCK_EX | LOCK_NB) == 0)
            (void)shm_unlink(name);
        close(fd);
    }
    if (dir)
        closedir(dir);
}

/* An object of our own in /dev/shm with all its pages, its name, and the descriptor that locks it
 * as long as it has one. */
static uint8_t *make_object(kaena_pool *p, size_t bytes, char name[40], int *out_fd)
{
    uint64_t random[2] = {0};
    if (getrandom(random, sizeof random, 0) != sizeof random)
        return NULL;
    (void)snprintf(name, 40, "/" NAME_PREFIX "%016llx%08x", (unsigned long long)random[0],
                   (unsigned)random[1]);
    int fd = shm_open(name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0) {
        say(p, "shared memory", strerror(errno));
        return NULL;
    }
    (void)flock(fd, LOCK_EX | LOCK_NB);
    /* Allocated now: a page that is missing later would be a SIGBUS. */
    int e;
    do
        e = posix_fallocate(fd, 0, (off_t)bytes);
    while (e == EINTR);
    void *base = e ? MAP_FAILED
                   : mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, 0);
    if (base == MAP_FAILED) {
        say(p, "shared memory", strerror(e ? e : errno));
        (void)shm_unlink(name);
        close(fd);
        return NULL;
    }
    *out_fd = fd;
    return base;
}

/* True: a daemon has it. */
static bool map_everywhere(region *r, const char *name)
{
    kaena_pool *p = r->pool;
    bool any = false;
    for (size_t i = 0; i < p->daemons; i++) {
        kaena_err err;
        if (!p->ops->usable(p->user, i))
            continue;
        mapping *m = &r->maps[i];
        if (p->ops->map(p->user, i, name, r->bytes, &m->id, &m->epoch, &err) == KAENA_OK) {
            any = true;
            continue;
        }
        *m = (mapping){.epoch = p->ops->epoch(p->user, i)};
        say(p, "shared memory", err.what);
    }
    return any;
}

static region *create_region(kaena_pool *p, size_t block_bytes, size_t count)
{
    region *r = calloc(1, sizeof *r);
    kaena_memory *blocks = calloc(count, sizeof *blocks);
    mapping *maps = calloc(p->daemons, sizeof *maps);
    if (!r || !blocks || !maps) {
        free(r);
        free(blocks);
        free(maps);
        return NULL;
    }
    *r = (region){.pool = p,
                  .bytes = block_bytes * count,
                  .block_bytes = block_bytes,
                  .block_count = count,
                  .blocks = blocks,
                  .maps = maps};
    for (size_t i = 0; i < count; i++) {
        blocks[i] = (kaena_memory){.home = r, .next = r->free};
        r->free = &blocks[i];
    }
    char name[40];
    int fd = -1;
    r->base = make_object(p, r->bytes, name, &fd);
    bool good = r->base && map_everywhere(r, name);
    if (r->base) {
        (void)shm_unlink(name);
        close(fd);
    }
    if (good)
        return r;
    free_region(r);
    return NULL;
}

/* ---- Blocks ---- */

/* Four sizes for each power of two, in pages. */
static size_t block_size(size_t bytes)
{
    size_t step = KAENA_POOL_LEAST_BYTES / 4;
    while (step * 8 < bytes)
        step *= 2;
    return (bytes + step - 1) / step * step;
}

/* Under the lock. */
static kaena_memory *take_free(kaena_pool *p, size_t block_bytes, bool stale_too)
{
    for (region *r = p->regions; r; r = r->next)
        if (r->block_bytes == block_bytes && !r->retired && r->free &&
            (stale_too || !is_stale(r))) {
            kaena_memory *m = r->free;
            r->free = m->next;
            m->next = NULL;
            r->used++;
            p->refs++;
            return m;
        }
    return NULL;
}

/* A region for blocks of that size, larger the more there are. With |growing|. */
static void grow(kaena_pool *p, size_t block_bytes)
{
    uint64_t wanted = REGION_LEAST_BYTES;
    bool room;
    pthread_mutex_lock(&p->lock);
    for (const region *r = p->regions; r; r = r->next)
        if (r->block_bytes == block_bytes && !r->retired && wanted < REGION_MOST_BYTES)
            wanted *= 2;
    if (wanted < block_bytes)
        wanted = block_bytes;
    wanted = wanted / block_bytes * block_bytes;
    room = make_room(p, wanted);
    if (!room && wanted > block_bytes) {
        wanted = block_bytes;
        room = make_room(p, wanted);
    }
    bool first = !p->regions;
    pthread_mutex_unlock(&p->lock);
    sweep(p);
    if (first)
        unlink_abandoned();
    region *r = room ? create_region(p, block_bytes, (size_t)(wanted / block_bytes)) : NULL;
    if (!room)
        say(p, "shared memory", "all that the client may take is in use");
    pthread_mutex_lock(&p->lock);
    if (r) {
        r->next = p->regions;
        p->regions = r;
        p->bytes += r->bytes;
        p->region_count++;
    } else {
        p->again_ns = kaena_now_ns() + AGAIN_NS;
    }
    pthread_mutex_unlock(&p->lock);
}

kaena_memory *kaena_pool_take(kaena_pool *p, size_t bytes, bool may_grow)
{
    if (bytes > p->limit)
        return NULL;
    size_t size = block_size(bytes);
    pthread_mutex_lock(&p->lock);
    kaena_memory *m = take_free(p, size, false);
    may_grow = may_grow && !m && kaena_now_ns() >= p->again_ns;
    pthread_mutex_unlock(&p->lock);
    if (may_grow) {
        pthread_mutex_lock(&p->growing);
        pthread_mutex_lock(&p->lock);
        m = take_free(p, size, false); /* another thread has grown meanwhile */
        pthread_mutex_unlock(&p->lock);
        if (!m)
            grow(p, size);
        pthread_mutex_unlock(&p->growing);
    }
    if (!m) {
        pthread_mutex_lock(&p->lock);
        m = take_free(p, size, true);
        pthread_mutex_unlock(&p->lock);
    }
    return m;
}

static void free_pool(kaena_pool *p)
{
    while (p->leftovers) {
        leftover *l = p->leftovers;
        p->leftovers = l->next;
        free(l);
    }
    pthread_mutex_destroy(&p->growing);
    pthread_mutex_destroy(&p->lock);
    free(p);
}

void kaena_pool_give(kaena_memory *m, bool dirty)
{
    if (!m)
        return;
    region *r = m->home;
    kaena_pool *p = r->pool;
    pthread_mutex_lock(&p->lock);
    m->next = r->free;
    r->free = m;
    r->used--;
    /* The whole region: it is unmapped as soon as nobody uses it. */
    r->retired = r->retired || dirty;
    if (r->used == 0 && (r->retired || !p->ops))
        drop_region(r);
    bool last = --p->refs == 0;
    pthread_mutex_unlock(&p->lock);
    if (last)
        free_pool(p);
}

void kaena_pool_close(kaena_pool *p)
{
    if (!p)
        return;
    pthread_mutex_lock(&p->lock);
    p->ops = NULL;
    for (region *r = p->regions, *next; r; r = next) {
        next = r->next;
        if (r->used == 0)
            drop_region(r);
    }
    bool last = --p->refs == 0;
    pthread_mutex_unlock(&p->lock);
    if (last)
        free_pool(p);
}

void *kaena_memory_data(const kaena_memory *m)
{
    return m->home->base + (size_t)(m - m->home->blocks) * m->home->block_bytes;
}

size_t kaena_memory_bytes(const kaena_memory *m)
{
    return m->home->block_bytes;
}

bool kaena_memory_range(const kaena_memory *m, size_t daemon, const void *data, size_t bytes,
                        kaena_wire_range *out)
{
    const region *r = m->home;
    kaena_pool *p = r->pool;
    uintptr_t from = (uintptr_t)data, begin = (uintptr_t)kaena_memory_data(m);
    if (from < begin || bytes > r->block_bytes || from - begin > r->block_bytes - bytes)
        return false;
    pthread_mutex_lock(&p->lock);
    const mapping map = r->maps[daemon];
    bool there = p->ops && map.id && p->ops->epoch(p->user, daemon) == map.epoch;
    pthread_mutex_unlock(&p->lock);
    if (there)
        *out = (kaena_wire_range){map.id, from - (uintptr_t)r->base, bytes};
    return there;
}

void kaena_pool_distrust(kaena_pool *p, size_t daemon)
{
    pthread_mutex_lock(&p->lock);
    for (region *r = p->regions; r; r = r->next)
        r->maps[daemon].id = 0;
    pthread_mutex_unlock(&p->lock);
}

uint64_t kaena_pool_bytes(kaena_pool *p)
{
    pthread_mutex_lock(&p->lock);
    uint64_t bytes = p->bytes;
    pthread_mutex_unlock(&p->lock);
    return bytes;
}
