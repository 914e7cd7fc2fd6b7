/* Sessions and regions of shared memory, used and ended by many threads at a time: for
 * ThreadSanitizer, and a plain test elsewhere. Nothing may be left, and nothing is dropped early.
 */
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "fault.h"
#include "krt_region.h"
#include "krt_session.h"

#define THREADS 4
#define ROUNDS 2000
#define OWNERS 4096
#define SIZE 65536

static krt_regions *regions;
static krt_sessions *sessions;
static atomic_int made[OWNERS]; /* what sessions own */
static char name[64];

static void must(bool condition, const char *what)
{
    if (condition)
        return;
    fprintf(stderr, "%s\n", what);
    abort();
}

static void drop(void *user, uint64_t owner)
{
    (void)user;
    atomic_store(&made[owner % OWNERS], 0);
    krt_regions_drop(regions, owner);
}

/* Maps a region in the name of a session and works in it, while others end the session. */
static void work(const char *token, unsigned seed)
{
    krt_session *s;
    kaena_err err;
    const krt_region_limits limits = {.regions = 64, .bytes = 64 * SIZE};
    if (krt_session_enter(sessions, token, &s, &err) != KAENA_OK)
        return;
    uint64_t owner = krt_session_owner(s), id;
    atomic_store(&made[owner % OWNERS], 1);
    if (krt_region_map(regions, &limits, owner, getuid(), name, SIZE, &id, &err) == KAENA_OK) {
        krt_region *r;
        uint8_t *data;
        if (krt_region_use(regions, owner, id, 64 * (seed % 64), 64, &r, &data, &err) == KAENA_OK) {
            /* each thread its own bytes */
            memset(data, (int)seed, 16);
            must(krt_region_check(r, &err) == KAENA_OK, "damaged");
            krt_region_unuse(r);
        }
        if (seed % 3 == 0 && krt_region_unmap(regions, owner, id, NULL, NULL, &err) != KAENA_OK)
            must(krt_session_ended(s), "who has taken it away?");
    }
    krt_session_leave(s);
}

typedef struct shared {
    pthread_mutex_t lock;
    char token[KRT_TOKEN_TEXT];
} shared;

static shared current;

static void *worker(void *arg)
{
    unsigned seed = (unsigned)(uintptr_t)arg;
    for (unsigned i = 0; i < ROUNDS; i++) {
        char token[KRT_TOKEN_TEXT];
        (void)pthread_mutex_lock(&current.lock);
        memcpy(token, current.token, sizeof token);
        (void)pthread_mutex_unlock(&current.lock);
        work(token, seed + i * THREADS);
    }
    return NULL;
}

/* Opens sessions, lets their streams break, come back and end. */
static void *streams(void *arg)
{
    (void)arg;
    for (unsigned i = 0; i < ROUNDS; i++) {
        krt_session *s, *again;
        uint64_t hold, second;
        kaena_err err;
        must(krt_session_open(sessions, 8, "racer", &s, &err) == KAENA_OK, "open");
        must(krt_session_hold(s, &hold, &err) == KAENA_OK, "hold");
        (void)pthread_mutex_lock(&current.lock);
        memcpy(current.token, krt_session_token(s), sizeof current.token);
        (void)pthread_mutex_unlock(&current.lock);
        must(krt_session_lose(s, hold), "lose");
        must(krt_session_find(sessions, krt_session_token(s), &again, &err) == KAENA_OK, "find");
        must(krt_session_hold(again, &second, &err) == KAENA_OK, "come back");
        must(!krt_session_lose(s, hold) && !krt_session_end(s, hold),
             "the first stream is history");
        must(krt_session_end(again, second), "end");
        must(krt_session_ended(s), "ended");
        krt_session_unref(again);
        krt_session_unref(s);
    }
    return NULL;
}

int main(void)
{
    kaena_fault_install();
    (void)snprintf(name, sizeof name, "/kaena-tsan-%ld", (long)getpid());
    int fd = shm_open(name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    must(fd >= 0 && posix_fallocate(fd, 0, SIZE) == 0, "shared memory");
    regions = krt_regions_create();
    sessions = krt_sessions_create(drop, NULL);
    must(regions && sessions, "memory");
    (void)pthread_mutex_init(&current.lock, NULL);
    pthread_t threads[THREADS + 1];
    must(pthread_create(&threads[THREADS], NULL, streams, NULL) == 0, "thread");
    for (unsigned i = 0; i < THREADS; i++)
        must(pthread_create(&threads[i], NULL, worker, (void *)(uintptr_t)i) == 0, "thread");
    for (unsigned i = 0; i <= THREADS; i++)
        (void)pthread_join(threads[i], NULL);
    size_t n;
    uint64_t bytes;
    krt_regions_count(regions, &n, &bytes);
    must(n == 0 && bytes == 0, "regions are left");
    must(krt_sessions_count(sessions) == 0, "sessions are left");
    for (size_t i = 0; i < OWNERS; i++)
        must(atomic_load(&made[i]) == 0, "a session's things are left");
    (void)krt_sessions_destroy(sessions);
    (void)krt_regions_destroy(regions);
    (void)close(fd);
    (void)shm_unlink(name);
    return 0;
}
