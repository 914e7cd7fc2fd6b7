#include "krt_stats.h"

#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

const uint64_t krt_bucket_bounds[KRT_N_BOUNDS] = {
#define KRT_BUCKET(ns) UINT64_C(ns),
#include "krt_stats.def"
#undef KRT_BUCKET
};

static void add(_Atomic uint64_t *counter, uint64_t n)
{
    (void)atomic_fetch_add_explicit(counter, n, memory_order_relaxed);
}

static void observe(krt_histogram *h, uint64_t ns)
{
    size_t low = 0, high = KRT_N_BOUNDS; /* the first bound that is not below |ns| */
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (krt_bucket_bounds[middle] < ns)
            low = middle + 1;
        else
            high = middle;
    }
    add(&h->count[low], 1);
    add(&h->sum_ns, ns);
}

void krt_stats_ran(krt_stats *s, uint64_t queue_ns, uint64_t execute_ns, uint64_t items,
                   uint64_t slots)
{
    observe(&s->queue, queue_ns);
    observe(&s->execute, execute_ns);
    if (slots) {
        add(&s->batch_items, items);
        add(&s->batch_slots, slots);
    }
}

void krt_stats_answer(krt_stats *s, kaena_status code, uint64_t total_ns)
{
    add(&s->answered[(unsigned)code < KRT_N_CODES ? (unsigned)code : (unsigned)KAENA_UNKNOWN], 1);
    observe(&s->total, total_ns);
}

uint64_t krt_rss_bytes(void)
{
    unsigned long long all, resident = 0;
    FILE *f = fopen("/proc/self/statm", "re");
    if (!f)
        return 0;
    if (fscanf(f, "%llu %llu", &all, &resident) != 2)
        resident = 0;
    (void)fclose(f);
    return resident * (uint64_t)sysconf(_SC_PAGESIZE);
}

static bool starts_path(const char *rundir, const char *name, char path[PATH_MAX])
{
    return snprintf(path, PATH_MAX, "%s/%s.starts", rundir, name) < PATH_MAX;
}

uint32_t krt_restarts_read(const char *rundir, const char *name)
{
    char path[PATH_MAX], text[16] = "";
    int fd = starts_path(rundir, name, path) ? open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW) : -1;
    if (fd < 0)
        return 0;
    ssize_t n = pread(fd, text, sizeof text - 1, 0);
    (void)close(fd);
    return n > 0 ? (uint32_t)strtoul(text, NULL, 10) : 0;
}

void krt_restarts_serving(const char *rundir, const char *name, uint32_t restarts)
{
    char path[PATH_MAX], text[16];
    int fd = starts_path(rundir, name, path)
                 ? open(path, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644)
                 : -1;
    if (fd < 0)
        return;
    /* Of fixed width: a write that is cut short by a full disk leaves no other number. */
    int n = snprintf(text, sizeof text, "%010" PRIu32 "\n", restarts + 1);
    ssize_t ignored = pwrite(fd, text, (size_t)n, 0);
    (void)ignored;
    (void)close(fd);
}

void krt_restarts_end(const char *rundir, const char *name)
{
    char path[PATH_MAX];
    if (starts_path(rundir, name, path))
        (void)unlink(path);
}
