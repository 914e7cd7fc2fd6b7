/* Pages of models. The kernel lets no thread of the process map, or touch new pages, while it works
 * on a large mapping: so that loading and unloading stall nobody, it gets that work in pieces.
 * Under a hypervisor that keeps page tables of its own a page is mapped only when it is touched,
 * whatever the kernel has been asked to do before: so each is. */
#include <errno.h>
#include <sys/mman.h>

#include "dev_internal.h"

#define PAGE_BYTES 4096
#define PIECE_BYTES ((size_t)2 << 20)

static size_t piece_at(size_t at, size_t bytes)
{
    return bytes - at < PIECE_BYTES ? bytes - at : PIECE_BYTES;
}

void *dev_pages(size_t bytes, bool touch)
{
    if (bytes == 0)
        bytes = 1;
    char *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED)
        return NULL;
    if (touch) /* all of it is used: fewer pages to make and to touch */
        (void)madvise(p, bytes, MADV_HUGEPAGE);
    for (size_t at = 0; touch && at < bytes; at += PIECE_BYTES) {
        size_t n = piece_at(at, bytes);
        /* EINVAL: a kernel before 5.14. Other errors leave it to the first use. */
        if (madvise(p + at, n, MADV_POPULATE_WRITE) != 0 && errno != EINVAL)
            continue;
        for (size_t page = 0; page < n; page += PAGE_BYTES)
            ((volatile char *)p)[at + page] = 0;
    }
    return p;
}

void dev_pages_read(const void *p, size_t bytes)
{
    for (size_t at = 0; p && at < bytes; at += PIECE_BYTES) {
        char *piece = (char *)(uintptr_t)p + at;
        size_t n = piece_at(at, bytes);
        if (madvise(piece, n, MADV_POPULATE_READ) != 0)
            continue;
        for (size_t page = 0; page < n; page += PAGE_BYTES)
            (void)((volatile char *)piece)[page];
    }
}

void dev_pages_free(void *p, size_t bytes)
{
    if (!p)
        return;
    if (bytes == 0)
        bytes = 1;
    for (size_t at = 0; at < bytes; at += PIECE_BYTES)
        (void)munmap((char *)p + at, piece_at(at, bytes));
}
