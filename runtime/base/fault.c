#include "fault.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

/* |begin| says what a row is, and is written last when a row is filled: the handler, which may
 * interrupt any instruction, reads it first. */
#define FREE ((uintptr_t)0)
#define TAKEN ((uintptr_t)1)

static struct {
    _Atomic uintptr_t begin; /* FREE, TAKEN (being filled) or an address */
    _Atomic uintptr_t end;
    _Atomic bool hit;
} ranges[KAENA_FAULT_MAX];

static _Atomic int used; /* rows at and above it were never taken */
static struct sigaction before;
static uintptr_t page_mask; /* set before the handler: sysconf is not async-signal-safe */

static void on_sigbus(int sig, siginfo_t *info, void *context)
{
    (void)context;
    uintptr_t at = (uintptr_t)info->si_addr;
    int n = atomic_load(&used);
    for (int i = 0; i < n; i++) {
        uintptr_t begin = atomic_load(&ranges[i].begin);
        if (begin <= TAKEN || at < begin || at >= atomic_load(&ranges[i].end))
            continue;
        int saved = errno;
        void *page = mmap((void *)(at & ~page_mask), page_mask + 1, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
        errno = saved;
        if (page == MAP_FAILED)
            break;
        atomic_store(&ranges[i].hit, true);
        return;
    }
    /* Not ours: the instruction is run again under the handler that was there before. */
    (void)sigaction(sig, &before, NULL);
}

static void install(void)
{
    page_mask = (uintptr_t)sysconf(_SC_PAGESIZE) - 1;
    struct sigaction sa = {.sa_sigaction = on_sigbus, .sa_flags = SA_SIGINFO | SA_RESTART};
    (void)sigemptyset(&sa.sa_mask);
    (void)sigaction(SIGBUS, &sa, &before);
}

void kaena_fault_install(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    (void)pthread_once(&once, install);
}

int kaena_fault_add(const void *data, size_t size)
{
    if (!data || !size)
        return -1;
    for (int i = 0; i < KAENA_FAULT_MAX; i++) {
        uintptr_t expected = FREE;
        if (!atomic_compare_exchange_strong(&ranges[i].begin, &expected, TAKEN))
            continue;
        int seen = atomic_load(&used);
        while (seen <= i && !atomic_compare_exchange_weak(&used, &seen, i + 1))
            ;
        atomic_store(&ranges[i].hit, false);
        atomic_store(&ranges[i].end, (uintptr_t)data + size);
        atomic_store(&ranges[i].begin, (uintptr_t)data);
        return i;
    }
    return -1;
}

bool kaena_fault_hit(int handle)
{
    return handle >= 0 && atomic_load(&ranges[handle].hit);
}

void kaena_fault_remove(int handle)
{
    if (handle >= 0)
        atomic_store(&ranges[handle].begin, FREE);
}
