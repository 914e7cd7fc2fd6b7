#include "krt_pool.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "checked.h"

#define PAGE 4096

struct krt_pool {
    pthread_mutex_t lock;
    size_t size; /* whole pages, at least one */
    size_t keep;
    krt_block *unused;
    size_t n_unused, n_used;
    bool closed;
};

krt_pool *krt_pool_create(size_t size, size_t keep)
{
    krt_pool *pool = calloc(1, sizeof *pool);
    if (!pool)
        return NULL;
    (void)pthread_mutex_init(&pool->lock, NULL);
    pool->size = (size_t)kaena_align_up(size ? size : 1, PAGE);
    pool->keep = keep;
    return pool;
}

static void free_block(krt_block *b, size_t size)
{
    (void)munmap(b->data, size);
    free(b);
}

static void free_pool(krt_pool *pool)
{
    while (pool->unused) {
        krt_block *b = pool->unused;
        pool->unused = b->next;
        free_block(b, pool->size);
    }
    (void)pthread_mutex_destroy(&pool->lock);
    free(pool);
}

krt_pool *krt_pool_destroy(krt_pool *pool)
{
    if (!pool)
        return NULL;
    (void)pthread_mutex_lock(&pool->lock);
    pool->closed = true;
    bool last = pool->n_used == 0;
    (void)pthread_mutex_unlock(&pool->lock);
    if (last)
        free_pool(pool);
    return NULL;
}

static krt_block *make_block(krt_pool *pool)
{
    krt_block *b = calloc(1, sizeof *b);
    if (!b)
        return NULL;
    void *p = mmap(NULL, pool->size, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    if (p == MAP_FAILED) {
        free(b);
        return NULL;
    }
    b->data = p;
    b->pool = pool;
    return b;
}

krt_block *krt_pool_get(krt_pool *pool)
{
    (void)pthread_mutex_lock(&pool->lock);
    krt_block *b = pool->unused;
    if (b) {
        pool->unused = b->next;
        pool->n_unused--;
    }
    pool->n_used++;
    (void)pthread_mutex_unlock(&pool->lock);
    if (!b)
        b = make_block(pool);
    if (b) {
        b->next = NULL;
        atomic_store_explicit(&b->refs, 1, memory_order_relaxed);
        return b;
    }
    (void)pthread_mutex_lock(&pool->lock);
    pool->n_used--;
    (void)pthread_mutex_unlock(&pool->lock);
    return NULL;
}

void krt_block_ref(krt_block *block)
{
    (void)atomic_fetch_add_explicit(&block->refs, 1, memory_order_relaxed);
}

void krt_block_unref(void *p)
{
    krt_block *b = p;
    if (!b || atomic_fetch_sub_explicit(&b->refs, 1, memory_order_acq_rel) != 1)
        return;
    krt_pool *pool = b->pool;
    size_t size = pool->size; /* a closed pool may be gone after the unlock */
    (void)pthread_mutex_lock(&pool->lock);
    bool keep = !pool->closed && pool->n_unused < pool->keep;
    if (keep) {
        b->next = pool->unused;
        pool->unused = b;
        pool->n_unused++;
    }
    bool last = --pool->n_used == 0 && pool->closed;
    (void)pthread_mutex_unlock(&pool->lock);
    if (!keep)
        free_block(b, size);
    if (last)
        free_pool(pool);
}
