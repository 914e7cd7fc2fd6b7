#include "krt_region.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "checked.h"
#include "fault.h"
#include "file.h"
#include "krt_reason.h"

#define PREFIX "/kaena-"
#define NAME_MAX_BYTES 128

struct krt_region {
    krt_regions *table;
    krt_region *next; /* while it is known; under lock, as are the next three */
    unsigned refs;    /* users, and one while it is known */
    krt_region_gone *gone;
    void *gone_arg;
    uint64_t client, id;
    uint8_t *data;
    size_t size;
    int fault;
};

struct krt_regions {
    pthread_mutex_t lock;
    krt_region *list;
    size_t n; /* that are mapped, also unknown ones in use */
    uint64_t bytes;
    uint64_t last_id;
};

krt_regions *krt_regions_create(void)
{
    krt_regions *t = calloc(1, sizeof *t);
    if (!t)
        return NULL;
    (void)pthread_mutex_init(&t->lock, NULL);
    return t;
}

static void free_region(krt_region *r)
{
    kaena_fault_remove(r->fault);
    if (r->data)
        (void)munmap(r->data, r->size);
    free(r);
}

krt_regions *krt_regions_destroy(krt_regions *t)
{
    if (!t)
        return NULL;
    while (t->list) {
        krt_region *r = t->list;
        t->list = r->next;
        free_region(r);
    }
    (void)pthread_mutex_destroy(&t->lock);
    free(t);
    return NULL;
}

/* ---- mapping ---- */

static kaena_status check_name(const char *name, kaena_err *err)
{
    size_t n = strlen(name), prefix = strlen(PREFIX);
    bool ok = strncmp(name, PREFIX, prefix) == 0 && n > prefix && n <= NAME_MAX_BYTES;
    for (size_t i = prefix; i < n && ok; i++)
        ok = isalnum((unsigned char)name[i]) || strchr("._-", name[i]);
    if (ok)
        return KAENA_OK;
    return KAENA_FAIL(err, INVALID_ARGUMENT,
                      "'%.160s' is no name of shared memory: must be " PREFIX
                      " and [A-Za-z0-9._-], at most %d bytes",
                      name, NAME_MAX_BYTES);
}

static kaena_status check_object(int fd, uid_t uid, uint64_t size, bool *present, kaena_err *err)
{
    struct stat st;
    if (fstat(fd, &st) != 0)
        return kaena_err_set(err, kaena_status_of_errno(errno), "%s", strerror(errno));
    if (!S_ISREG(st.st_mode) || st.st_uid != uid)
        return KAENA_FAIL(err, PERMISSION_DENIED,
                          "it belongs to uid %ld, the caller is uid %ld: only one's own memory is "
                          "mapped",
                          (long)st.st_uid, (long)uid);
    if (size == 0)
        return KAENA_FAIL(err, INVALID_ARGUMENT, "0 bytes are asked for");
    if (size > (uint64_t)st.st_size)
        return KRT_FAIL(err, OUT_OF_RANGE, BAD_REGION,
                        "%" PRIu64 " bytes are asked for, it has %" PRIu64, size,
                        (uint64_t)st.st_size);
    *present = (uint64_t)st.st_blocks * 512 >= size;
    return KAENA_OK;
}

static kaena_status open_object(const char *name, int *fd, kaena_err *err)
{
    *fd = shm_open(name, O_RDWR | O_CLOEXEC | O_NOFOLLOW, 0);
    if (*fd >= 0)
        return KAENA_OK;
    kaena_status st = kaena_err_set(err, kaena_status_of_errno(errno), "%s", strerror(errno));
    if (st == KAENA_PERMISSION_DENIED)
        kaena_err_hint(err,
                       "let the daemon's user read and write it: mode 0660 and a group of his, "
                       "or 0666");
    return st;
}

/* What others may truncate under us is watched, or not mapped at all. */
static kaena_status map_object(krt_region *r, int fd, bool present, kaena_err *err)
{
    void *p = mmap(NULL, r->size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (p == MAP_FAILED)
        return kaena_err_set(err, kaena_status_of_errno(errno), "%s", strerror(errno));
    r->data = p;
    r->fault = kaena_fault_add(p, r->size);
    if (r->fault < 0)
        return KRT_FAIL_LIMIT(err, KAENA_FAULT_MAX + 1, KAENA_FAULT_MAX,
                              "the daemon watches %d mappings already, which is the most",
                              KAENA_FAULT_MAX);
    /* Its first user would pay for every page. Pages that the client has not made are not made
     * here either: they would be charged to us. */
    if (present)
        (void)madvise(p, r->size, MADV_POPULATE_WRITE);
    return KAENA_OK;
}

/* Enters |r|, whose size counts as mapped from here on. Its client may have gone: once the lock is
 * off, |r| is whoever's takes it out. */
static kaena_status enter(krt_regions *t, const krt_region_limits *limits, krt_region *r,
                          uint64_t *id, kaena_err *err)
{
    kaena_status st = KAENA_OK;
    uint64_t n = 0, bytes = 0;
    (void)pthread_mutex_lock(&t->lock);
    for (const krt_region *i = t->list; i; i = i->next)
        if (i->client == r->client) {
            n++;
            bytes += i->size;
        }
    if (n >= limits->regions) {
        st = KRT_FAIL_LIMIT(err, n + 1, limits->regions,
                            "the client has %" PRIu64 " regions, which is the limit of this daemon",
                            n);
        kaena_err_hint(err, "unmap one, use one larger region, or raise limits.regions");
    } else if (bytes + r->size > limits->bytes) {
        st = KRT_FAIL_LIMIT(err, bytes + r->size, limits->bytes,
                            "the client's regions would have %" PRIu64
                            " bytes, the limit of this daemon is %" PRIu64,
                            bytes + r->size, limits->bytes);
        kaena_err_hint(err, "unmap one, or raise limits.region_bytes");
    } else {
        *id = r->id = ++t->last_id;
        r->refs = 1;
        r->next = t->list;
        t->list = r;
        t->n++;
        t->bytes += r->size;
    }
    (void)pthread_mutex_unlock(&t->lock);
    return st;
}

kaena_status krt_region_map(krt_regions *t, const krt_region_limits *limits, uint64_t client,
                            uid_t uid, const char *name, uint64_t size, uint64_t *id,
                            kaena_err *err)
{
    bool present = false;
    int fd = -1;
    KAENA_TRY(check_name(name, err));
    if (size > limits->bytes) /* before anything is mapped for it */
        return KRT_FAIL_LIMIT(err, size, limits->bytes,
                              "shared memory '%s': %" PRIu64
                              " bytes, the limit of a client is %" PRIu64,
                              name, size, limits->bytes);
    krt_region *r = calloc(1, sizeof *r);
    if (!r)
        return KAENA_FAIL(err, RESOURCE_EXHAUSTED, "shared memory '%s': out of memory", name);
    *r = (krt_region){.table = t, .client = client, .size = (size_t)size, .fault = -1};
    kaena_status st = open_object(name, &fd, err);
    if (st == KAENA_OK)
        st = check_object(fd, uid, size, &present, err);
    if (st == KAENA_OK)
        st = map_object(r, fd, present, err);
    if (fd >= 0)
        (void)close(fd);
    if (st == KAENA_OK)
        st = enter(t, limits, r, id, err);
    if (st != KAENA_OK) {
        free_region(r);
        return kaena_err_wrap(err, st, "shared memory '%s'", name);
    }
    return KAENA_OK;
}

/* ---- use ---- */

/* With the lock held. */
static krt_region **find(krt_regions *t, uint64_t client, uint64_t id)
{
    krt_region **at = &t->list;
    while (*at && ((*at)->id != id || (*at)->client != client))
        at = &(*at)->next;
    return at;
}

static kaena_status no_region(uint64_t id, kaena_status code, kaena_err *err)
{
    kaena_status st = krt_fail_set(
        err, KRT_REASON(BAD_REGION),
        kaena_err_set(err, code, "no shared region %" PRIu64 " is mapped for this client", id));
    kaena_err_hint(err,
                   "map it first (MapSharedMemory): in the same session, or without one on the "
                   "same connection; or send the bytes");
    return st;
}

static kaena_status damaged(uint64_t id, kaena_err *err)
{
    kaena_status st = KRT_FAIL(
        err, DATA_LOSS, BAD_REGION,
        "shared region %" PRIu64 " was truncated, or lost its memory, while it was used", id);
    kaena_err_hint(err, "unmap it, and map memory that keeps its size");
    return st;
}

kaena_status krt_region_use(krt_regions *t, uint64_t client, uint64_t id, uint64_t offset,
                            uint64_t size, krt_region **out, uint8_t **data, kaena_err *err)
{
    (void)pthread_mutex_lock(&t->lock);
    krt_region *r = *find(t, client, id);
    uint64_t has = r ? r->size : 0;
    bool inside = r && offset <= has && size <= has - offset;
    if (inside)
        r->refs++;
    (void)pthread_mutex_unlock(&t->lock);
    if (!r)
        return no_region(id, KAENA_FAILED_PRECONDITION, err);
    if (!inside)
        return KRT_FAIL(err, OUT_OF_RANGE, BAD_REGION,
                        "%" PRIu64 " bytes from byte %" PRIu64 " leave shared region %" PRIu64
                        ", which has %" PRIu64,
                        size, offset, id, has);
    if (kaena_fault_hit(r->fault)) {
        krt_region_unuse(r);
        return damaged(id, err);
    }
    *out = r;
    *data = r->data + offset;
    return KAENA_OK;
}

kaena_status krt_region_check(const krt_region *r, kaena_err *err)
{
    return kaena_fault_hit(r->fault) ? damaged(r->id, err) : KAENA_OK;
}

/* One reference less, with the lock held; returns |r| when it was the last. */
static krt_region *drop_ref(krt_region *r)
{
    if (--r->refs)
        return NULL;
    r->table->n--;
    r->table->bytes -= r->size;
    return r;
}

/* |r| is of nobody. */
static void finish(krt_region *r)
{
    krt_region_gone *gone = r->gone;
    void *arg = r->gone_arg;
    free_region(r);
    if (gone)
        gone(arg);
}

void krt_region_unuse(krt_region *r)
{
    krt_regions *t = r->table;
    (void)pthread_mutex_lock(&t->lock);
    krt_region *last = drop_ref(r);
    (void)pthread_mutex_unlock(&t->lock);
    if (last)
        finish(last);
}

/* ---- the end ---- */

/* Takes the region at |at| out of the list, with the lock held; returns it when nobody uses it. */
static krt_region *forget(krt_region **at, krt_region_gone *fn, void *arg)
{
    krt_region *r = *at;
    *at = r->next;
    r->gone = fn;
    r->gone_arg = arg;
    return drop_ref(r);
}

kaena_status krt_region_unmap(krt_regions *t, uint64_t client, uint64_t id, krt_region_gone *fn,
                              void *arg, kaena_err *err)
{
    krt_region *last = NULL;
    (void)pthread_mutex_lock(&t->lock);
    krt_region **at = find(t, client, id);
    bool known = *at != NULL;
    if (known)
        last = forget(at, fn, arg);
    (void)pthread_mutex_unlock(&t->lock);
    if (!known)
        return no_region(id, KAENA_NOT_FOUND, err);
    if (last)
        finish(last);
    return KAENA_OK;
}

/* Takes out what |is_of| says true of, and frees what is not in use. */
static void drop_where(krt_regions *t, bool (*is_of)(void *arg, uint64_t client), void *arg)
{
    krt_region *unused = NULL;
    (void)pthread_mutex_lock(&t->lock);
    for (krt_region **at = &t->list; *at;) {
        if (!is_of(arg, (*at)->client)) {
            at = &(*at)->next;
            continue;
        }
        krt_region *r = forget(at, NULL, NULL);
        if (r) {
            r->next = unused;
            unused = r;
        }
    }
    (void)pthread_mutex_unlock(&t->lock);
    while (unused) {
        krt_region *r = unused;
        unused = r->next;
        finish(r);
    }
}

static bool same_client(void *arg, uint64_t client)
{
    return *(uint64_t *)arg == client;
}

void krt_regions_drop(krt_regions *t, uint64_t client)
{
    drop_where(t, same_client, &client);
}

typedef struct sweep {
    uint64_t from;
    bool (*is_gone)(void *arg, uint64_t client);
    void *arg;
    bool left;
} sweep;

static bool swept(void *arg, uint64_t client)
{
    sweep *s = arg;
    if (client < s->from)
        return false;
    bool gone = s->is_gone(s->arg, client);
    s->left = s->left || !gone;
    return gone;
}

bool krt_regions_sweep(krt_regions *t, uint64_t from, bool (*is_gone)(void *arg, uint64_t client),
                       void *arg)
{
    sweep s = {.from = from, .is_gone = is_gone, .arg = arg};
    drop_where(t, swept, &s);
    return s.left;
}

void krt_regions_count(krt_regions *t, size_t *n, uint64_t *bytes)
{
    (void)pthread_mutex_lock(&t->lock);
    *n = t->n;
    *bytes = t->bytes;
    (void)pthread_mutex_unlock(&t->lock);
}
