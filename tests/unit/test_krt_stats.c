#include "ktest.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "krt_stats.h"

static uint64_t sum_of(const krt_histogram *h)
{
    uint64_t n = 0;
    for (size_t i = 0; i <= KRT_N_BOUNDS; i++)
        n += krt_stats_get(&h->count[i]);
    return n;
}

KTEST(krt_stats, bounds_ascend)
{
    for (size_t i = 1; i < KRT_N_BOUNDS; i++)
        cr_assert(krt_bucket_bounds[i - 1] < krt_bucket_bounds[i]);
}

KTEST(krt_stats, a_bound_belongs_to_its_own_bucket)
{
    for (size_t i = 0; i < KRT_N_BOUNDS; i++) {
        krt_stats s = {0};
        krt_stats_ran(&s, krt_bucket_bounds[i], 0, 0, 0);
        cr_assert(krt_stats_get(&s.queue.count[i]) == 1 && sum_of(&s.queue) == 1);
        krt_stats_ran(&s, krt_bucket_bounds[i] + 1, 0, 0, 0);
        cr_assert(krt_stats_get(&s.queue.count[i + 1]) == 1 && sum_of(&s.queue) == 2);
        cr_assert(krt_stats_get(&s.queue.sum_ns) == 2 * krt_bucket_bounds[i] + 1);
    }
    krt_stats s = {0};
    krt_stats_ran(&s, 0, 0, 0, 0);
    krt_stats_ran(&s, UINT64_MAX, 0, 0, 0);
    cr_assert(krt_stats_get(&s.queue.count[0]) == 1);
    cr_assert(krt_stats_get(&s.queue.count[KRT_N_BOUNDS]) == 1);
}

KTEST(krt_stats, a_request_is_counted_once)
{
    krt_stats s = {0};
    krt_stats_ran(&s, 1000, 2000, 3, 8);
    krt_stats_ran(&s, 1000, 2000, 0, 0);
    krt_stats_answer(&s, KAENA_OK, 3000);
    krt_stats_answer(&s, KAENA_ABORTED, 10);
    krt_stats_answer(&s, (kaena_status)99, 10);
    cr_assert(krt_stats_get(&s.batch_items) == 3 && krt_stats_get(&s.batch_slots) == 8);
    cr_assert(krt_stats_get(&s.answered[KAENA_OK]) == 1);
    cr_assert(krt_stats_get(&s.answered[KAENA_ABORTED]) == 1);
    cr_assert(krt_stats_get(&s.answered[KAENA_UNKNOWN]) == 1);
    cr_assert(sum_of(&s.total) == 3 && sum_of(&s.execute) == 2 && sum_of(&s.queue) == 2);
}

KTEST(krt_stats, what_is_resident_is_more_than_nothing)
{
    cr_assert(krt_rss_bytes() > 100000 && krt_rss_bytes() < UINT64_C(1) << 40);
}

static uint32_t restarts_of(const char *dir, const char *name)
{
    uint32_t n = krt_restarts_read(dir, name);
    krt_restarts_serving(dir, name, n);
    return n;
}

KTEST(krt_stats, a_restart_is_a_start_after_an_end_that_was_none)
{
    char dir[] = "/tmp/kaena-starts-XXXXXX";
    cr_assert(mkdtemp(dir));
    cr_assert(restarts_of(dir, "a") == 0);
    cr_assert(restarts_of(dir, "a") == 1);
    cr_assert(restarts_of(dir, "a") == 2);
    cr_assert(restarts_of(dir, "b") == 0);
    krt_restarts_end(dir, "a");
    cr_assert(restarts_of(dir, "a") == 0);
    /* Starts that come to nothing count for nothing, and hide no end that came before them. */
    cr_assert(krt_restarts_read(dir, "a") == 1);
    cr_assert(krt_restarts_read(dir, "a") == 1);
    cr_assert(restarts_of(dir, "a") == 1);
    cr_assert(krt_restarts_read(dir, "never") == 0);
    cr_assert(krt_restarts_read(dir, "never") == 0);
    /* What is not a number, or a directory that cannot be written, is a beginning. */
    char path[64];
    (void)snprintf(path, sizeof path, "%s/c.starts", dir);
    int fd = open(path, O_CREAT | O_WRONLY, 0600);
    cr_assert(fd >= 0 && write(fd, "nonsense", 8) == 8 && close(fd) == 0);
    cr_assert(restarts_of(dir, "c") == 0);
    cr_assert(restarts_of(dir, "c") == 1);
    cr_assert(restarts_of("/nowhere/at/all", "c") == 0);
    krt_restarts_end("/nowhere/at/all", "c");
    krt_restarts_end(dir, "a");
    krt_restarts_end(dir, "b");
    krt_restarts_end(dir, "c");
    cr_assert(rmdir(dir) == 0);
}
