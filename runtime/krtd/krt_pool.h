/* Buffers for one model's inputs or outputs: pre-faulted, recycled. A fresh page costs more than
 * many a model's run. */
#ifndef KRT_POOL_H
#define KRT_POOL_H

#include <stddef.h>
#include <stdint.h>

typedef struct krt_pool krt_pool;

/* One buffer, referenced by whoever still reads it; the last unref gives it back to its pool. */
typedef struct krt_block {
    krt_pool *pool;
    struct krt_block *next;
    _Atomic int refs;
    uint8_t *data; /* pool's size bytes, aligned to the page */
} krt_block;

/* |size| bytes each; at most |keep| unused ones are kept. NULL: out of memory. */
krt_pool *krt_pool_create(size_t size, size_t keep);
/* No new buffers; the pool goes with the last one. NULL is fine. */
krt_pool *krt_pool_destroy(krt_pool *pool);

/* A buffer with one reference and any content, or NULL when memory is out. Thread: any. */
krt_block *krt_pool_get(krt_pool *pool);
void krt_block_ref(krt_block *block);
/* Takes a void pointer so that it can be a slice's destroy function. NULL is fine. */
void krt_block_unref(void *block);

#endif
