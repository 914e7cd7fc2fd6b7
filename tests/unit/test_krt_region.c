#include "ktest.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "fault.h"
#include "kaena/v1/runtime.pb-c.h"
#include "krt_region.h"

#define BAD_REGION KAENA__V1__ERROR_DETAIL__REASON__BAD_REGION
#define PAGE 4096u
#define PAGES 4u
#define ME 7u
#define OTHER 8u

static const krt_region_limits limits = {.regions = 2, .bytes = 6 * PAGE};

typedef struct fixture {
    krt_regions *t;
    char name[64];
    int fd;
    uint8_t *data;
} fixture;

static void begin(fixture *f)
{
    (void)snprintf(f->name, sizeof f->name, "/kaena-unit-%ld", (long)getpid());
    f->fd = shm_open(f->name, O_RDWR | O_CREAT | O_EXCL, 0600);
    cr_assert(f->fd >= 0 && posix_fallocate(f->fd, 0, PAGES * PAGE) == 0);
    f->data = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, f->fd, 0);
    f->t = krt_regions_create();
    cr_assert(f->data != MAP_FAILED && f->t);
    kaena_fault_install();
}

static void end(fixture *f)
{
    (void)krt_regions_destroy(f->t);
    (void)munmap(f->data, PAGES * PAGE);
    (void)close(f->fd);
    (void)shm_unlink(f->name);
}

static kaena_status map(fixture *f, uint64_t client, uint64_t size, uint64_t *id, kaena_err *err)
{
    return krt_region_map(f->t, &limits, client, getuid(), f->name, size, id, err);
}

static size_t count(fixture *f)
{
    size_t n;
    uint64_t bytes;
    krt_regions_count(f->t, &n, &bytes);
    cr_assert((n == 0) == (bytes == 0));
    return n;
}

KTEST(krt_region, ranges_are_checked)
{
    fixture f;
    kaena_err err;
    krt_region *r;
    uint8_t *data;
    uint64_t id, size = PAGE + 100;
    begin(&f);
    KTEST_OK(err, map(&f, ME, size, &id, &err));
    static const struct {
        uint64_t offset, size;
    } bad[] = {{0, PAGE + 101}, {PAGE + 100, 1},          {PAGE + 101, 0}, {UINT64_MAX, 1},
               {1, UINT64_MAX}, {UINT64_MAX, UINT64_MAX}, {PAGE, 101}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        KTEST_FAILS(err, OUT_OF_RANGE, "which has 4196",
                    krt_region_use(f.t, ME, id, bad[i].offset, bad[i].size, &r, &data, &err));
        cr_assert(err.reason == BAD_REGION);
    }
    KTEST_OK(err, krt_region_use(f.t, ME, id, PAGE + 99, 1, &r, &data, &err));
    *data = 77;
    cr_assert(f.data[PAGE + 99] == 77);
    krt_region_unuse(r);
    KTEST_OK(err, krt_region_use(f.t, ME, id, size, 0, &r, &data, &err));
    krt_region_unuse(r);
    KTEST_FAILS(err, FAILED_PRECONDITION, "no shared region",
                krt_region_use(f.t, OTHER, id, 0, 1, &r, &data, &err));
    KTEST_FAILS(err, FAILED_PRECONDITION, "no shared region",
                krt_region_use(f.t, ME, id + 1, 0, 1, &r, &data, &err));
    end(&f);
}

static int gone;

static void on_gone(void *arg)
{
    gone += *(int *)arg;
}

KTEST(krt_region, unmap_waits_for_its_users)
{
    fixture f;
    kaena_err err;
    krt_region *a, *b;
    uint8_t *data;
    uint64_t id;
    int one = 1;
    begin(&f);
    gone = 0;
    KTEST_OK(err, map(&f, ME, PAGE, &id, &err));
    KTEST_OK(err, krt_region_use(f.t, ME, id, 0, 8, &a, &data, &err));
    KTEST_OK(err, krt_region_use(f.t, ME, id, 8, 8, &b, &data, &err));
    KTEST_FAILS(err, NOT_FOUND, "", krt_region_unmap(f.t, OTHER, id, on_gone, &one, &err));
    KTEST_OK(err, krt_region_unmap(f.t, ME, id, on_gone, &one, &err));
    cr_assert(gone == 0 && count(&f) == 1);
    KTEST_FAILS(err, NOT_FOUND, "", krt_region_unmap(f.t, ME, id, on_gone, &one, &err));
    KTEST_FAILS(err, FAILED_PRECONDITION, "", krt_region_use(f.t, ME, id, 0, 8, &a, &data, &err));
    krt_region_unuse(a);
    *data = 1; /* still there */
    cr_assert(gone == 0);
    krt_region_unuse(b);
    cr_assert(gone == 1 && count(&f) == 0);
    KTEST_OK(err, map(&f, ME, PAGE, &id, &err));
    KTEST_OK(err, krt_region_unmap(f.t, ME, id, on_gone, &one, &err));
    cr_assert(gone == 2);
    end(&f);
}

KTEST(krt_region, limits_of_a_client)
{
    fixture f;
    kaena_err err;
    uint64_t id;
    begin(&f);
    KTEST_OK(err, map(&f, ME, 3 * PAGE, &id, &err));
    KTEST_FAILS(err, RESOURCE_EXHAUSTED, "regions would have",
                map(&f, ME, 3 * PAGE + 1, &id, &err));
    cr_assert(err.needed == 6 * PAGE + 1 && err.available == 6 * PAGE);
    KTEST_OK(err, map(&f, ME, 3 * PAGE, &id, &err));
    KTEST_FAILS(err, RESOURCE_EXHAUSTED, "has 2 regions", map(&f, ME, 1, &id, &err));
    cr_assert(err.needed == 3 && err.available == 2);
    KTEST_OK(err, map(&f, OTHER, 1, &id, &err));
    cr_assert(count(&f) == 3);
    krt_regions_drop(f.t, ME);
    cr_assert(count(&f) == 1);
    KTEST_FAILS(err, RESOURCE_EXHAUSTED, "", map(&f, ME, UINT64_MAX, &id, &err));
    KTEST_FAILS(err, OUT_OF_RANGE, "it has 16384", map(&f, ME, 4 * PAGE + 1, &id, &err));
    KTEST_FAILS(err, INVALID_ARGUMENT, "0 bytes", map(&f, ME, 0, &id, &err));
    end(&f);
}

KTEST(krt_region, memory_that_is_truncated)
{
    fixture f;
    kaena_err err;
    krt_region *r;
    uint8_t *data;
    uint64_t id;
    begin(&f);
    KTEST_OK(err, map(&f, ME, PAGES * PAGE, &id, &err));
    KTEST_OK(err, krt_region_use(f.t, ME, id, 2 * PAGE, PAGE, &r, &data, &err));
    data[5] = 9;
    KTEST_OK(err, krt_region_check(r, &err));
    cr_assert(ftruncate(f.fd, PAGE) == 0);
    cr_assert(data[5] == 0, "it reads as zeros");
    data[5] = 1;
    KTEST_FAILS(err, DATA_LOSS, "was truncated", krt_region_check(r, &err));
    cr_assert(err.reason == BAD_REGION);
    krt_region_unuse(r);
    KTEST_FAILS(err, DATA_LOSS, "", krt_region_use(f.t, ME, id, 0, 1, &r, &data, &err));
    end(&f);
}

static bool is_other(void *arg, uint64_t client)
{
    (*(int *)arg)++;
    return client == OTHER;
}

KTEST(krt_region, clients_that_are_gone)
{
    fixture f;
    kaena_err err;
    uint64_t id;
    int asked = 0;
    begin(&f);
    KTEST_OK(err, map(&f, 1, PAGE, &id, &err));
    KTEST_OK(err, map(&f, ME, PAGE, &id, &err));
    KTEST_OK(err, map(&f, OTHER, PAGE, &id, &err));
    cr_assert(krt_regions_sweep(f.t, ME, is_other, &asked) && asked == 2 && count(&f) == 2);
    krt_regions_drop(f.t, ME);
    asked = 0;
    cr_assert(!krt_regions_sweep(f.t, ME, is_other, &asked) && asked == 0 && count(&f) == 1);
    end(&f);
}
