#include "ktest.h"

#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "fault.h"

#define PAGES 4

/* A mapped file of PAGES pages of |fill|, cut to one page afterwards. */
static unsigned char *map_truncated(int fill, size_t *size)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    int fd = memfd_create("fault", MFD_CLOEXEC);
    cr_assert(fd >= 0 && ftruncate(fd, (off_t)(PAGES * page)) == 0);
    unsigned char *p = mmap(NULL, PAGES * page, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    cr_assert(p != MAP_FAILED);
    memset(p, fill, PAGES * page);
    cr_assert(ftruncate(fd, (off_t)page) == 0);
    (void)close(fd);
    *size = PAGES * page;
    return p;
}

KTEST(fault, truncated_mapping_reads_zero_and_sets_its_flag_only)
{
    kaena_fault_install();
    size_t size;
    volatile unsigned char *a = map_truncated(7, &size), *b = map_truncated(9, &size);
    int ha = kaena_fault_add((void *)(uintptr_t)a, size);
    int hb = kaena_fault_add((void *)(uintptr_t)b, size);
    cr_assert(ha >= 0 && hb >= 0 && ha != hb);
    cr_assert(a[0] == 7 && !kaena_fault_hit(ha));
    cr_assert(a[size - 1] == 0);
    cr_assert(kaena_fault_hit(ha) && !kaena_fault_hit(hb));
    cr_assert(a[0] == 7, "the page that is there stays");
    kaena_fault_remove(ha);
    int hc = kaena_fault_add((void *)(uintptr_t)a, size);
    cr_assert(!kaena_fault_hit(hc), "a new watch starts clean");
    kaena_fault_remove(hb);
    kaena_fault_remove(hc);
    (void)munmap((void *)(uintptr_t)a, size);
    (void)munmap((void *)(uintptr_t)b, size);
}

static void *read_all(void *arg)
{
    volatile unsigned char *p = arg;
    unsigned sum = 0;
    for (size_t i = 0; i < PAGES * (size_t)sysconf(_SC_PAGESIZE); i++)
        sum += p[i];
    return (void *)(uintptr_t)sum;
}

KTEST(fault, several_threads_at_once)
{
    kaena_fault_install();
    size_t size;
    unsigned char *p = map_truncated(1, &size);
    int h = kaena_fault_add(p, size);
    pthread_t t[4];
    for (int i = 0; i < 4; i++)
        cr_assert(pthread_create(&t[i], NULL, read_all, p) == 0);
    for (int i = 0; i < 4; i++) {
        void *sum;
        (void)pthread_join(t[i], &sum);
        cr_assert((size_t)(uintptr_t)sum == size / PAGES);
    }
    cr_assert(kaena_fault_hit(h));
    kaena_fault_remove(h);
    (void)munmap(p, size);
}

KTEST(fault, table_is_bounded)
{
    static char bytes[KAENA_FAULT_MAX + 1];
    for (int i = 0; i < KAENA_FAULT_MAX; i++)
        cr_assert(kaena_fault_add(&bytes[i], 1) >= 0);
    cr_assert(kaena_fault_add(&bytes[KAENA_FAULT_MAX], 1) == -1);
    cr_assert(!kaena_fault_hit(-1));
    kaena_fault_remove(-1);
    kaena_fault_remove(5);
    cr_assert(kaena_fault_add(&bytes[KAENA_FAULT_MAX], 1) == 5);
}

Test(fault, other_addresses_die, .signal = SIGBUS)
{
    /* Under AddressSanitizer the handler that was there before is its own. */
    (void)signal(SIGBUS, SIG_DFL);
    kaena_fault_install();
    size_t size;
    volatile unsigned char *p = map_truncated(1, &size);
    cr_assert(p[size - 1] == 0);
}
