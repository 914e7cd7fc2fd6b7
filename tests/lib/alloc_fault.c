#include "alloc_fault.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/types.h>
#include <unistd.h>

static alloc_fault_block local;
static alloc_fault_block *block = &local;

void *__real_mmap(void *at, size_t size, int protection, int flags, int fd, off_t offset);

__attribute__((constructor)) static void open_block(void)
{
    const char *path = getenv("KAENA_ALLOC_FAULT");
    int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    if (fd < 0)
        return;
    void *p = __real_mmap(NULL, sizeof *block, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (p != MAP_FAILED)
        block = p;
    (void)close(fd);
}

uint64_t alloc_fault_count(void)
{
    return atomic_load(&block->count);
}

void alloc_fault_arm(uint64_t nth, uint64_t n)
{
    atomic_store(&block->from, 0);
    atomic_store(&block->failed, 0);
    if (!nth)
        return;
    uint64_t from = atomic_load(&block->count) + nth;
    atomic_store(&block->to, from + n - 1);
    atomic_store(&block->from, from);
}

uint64_t alloc_fault_failed(void)
{
    return atomic_load(&block->failed);
}

static bool fails(void)
{
    uint64_t number = atomic_fetch_add(&block->count, 1) + 1, from = atomic_load(&block->from);
    if (!from || number < from || number > atomic_load(&block->to))
        return false;
    (void)atomic_fetch_add(&block->failed, 1);
    errno = ENOMEM;
    return true;
}

/* ALLOC_FAULT(type, name, parameters, arguments, what a failure returns) */
#define ALLOC_FAULT(type, name, parameters, arguments, failure)                                    \
    type __real_##name parameters;                                                                 \
    type __wrap_##name parameters;                                                                 \
    type __wrap_##name parameters                                                                  \
    {                                                                                              \
        return fails() ? (failure) : __real_##name arguments;                                      \
    }

ALLOC_FAULT(void *, malloc, (size_t n), (n), NULL)
ALLOC_FAULT(void *, calloc, (size_t n, size_t size), (n, size), NULL)
ALLOC_FAULT(void *, realloc, (void *p, size_t n), (p, n), NULL)
ALLOC_FAULT(void *, aligned_alloc, (size_t align, size_t n), (align, n), NULL)
ALLOC_FAULT(int, posix_memalign, (void **out, size_t align, size_t n), (out, align, n), ENOMEM)
ALLOC_FAULT(char *, strdup, (const char *s), (s), NULL)
ALLOC_FAULT(char *, strndup, (const char *s, size_t n), (s, n), NULL)
ALLOC_FAULT(char *, realpath, (const char *path, char *out), (path, out), NULL)
ALLOC_FAULT(void *, mmap, (void *at, size_t size, int protection, int flags, int fd, off_t offset),
            (at, size, protection, flags, fd, offset), MAP_FAILED)
