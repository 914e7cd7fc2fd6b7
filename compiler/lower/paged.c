#include "paged.h"

#include <string.h>

#define PAGE 32 /* entries */

void *kcc_paged_find(const kcc_paged *p, uint32_t id, size_t size)
{
    char *page = id / PAGE < p->n_pages ? p->page[id / PAGE] : NULL;
    return page ? page + id % PAGE * size : NULL;
}

void *kcc_paged_at(kcc_paged *p, kaena_arena *arena, uint32_t id, size_t size)
{
    uint32_t number = id / PAGE;
    if (number >= p->n_pages) {
        uint32_t n = number + number / 2 + 1;
        void **grown = KAENA_NEW_N(arena, void *, n);
        if (p->n_pages)
            memcpy(grown, p->page, p->n_pages * sizeof *grown);
        p->page = grown;
        p->n_pages = n;
    }
    if (!p->page[number])
        p->page[number] = kaena_arena_array(arena, PAGE, size);
    return (char *)p->page[number] + id % PAGE * size;
}
