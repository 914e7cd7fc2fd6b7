/* Memory that a client shares with daemons of its machine: regions, cut into blocks of one size
 * each. Knows no gRPC.
 *
 * A region is a POSIX shared memory object whose name is gone as soon as the daemons have mapped
 * it, so that nothing is left behind whoever dies. Its pages are present from the beginning, and
 * blocks are used again: a new page costs more than the copy of what goes into it.
 *
 * Threads: any. */
#ifndef KAENA_CLIENT_POOL_H
#define KAENA_CLIENT_POOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "client_wire_range.h"
#include "err.h"

/* Tensors below this are sent: it costs no more. */
#define KAENA_POOL_LEAST_BYTES (64u << 10)

/* A block that is in use. */
typedef struct kaena_memory kaena_memory;
typedef struct kaena_pool kaena_pool;

/* How regions get to daemons. */
typedef struct kaena_pool_ops {
    /* Whether memory can be shared with the daemon at all now. */
    bool (*usable)(void *user, size_t daemon);
    /* Grows whenever the daemon has forgotten all regions; 0: it cannot have any now. */
    uint64_t (*epoch)(void *user, size_t daemon);
    /* Has the daemon map |size| bytes of the object |name|. May block. */
    kaena_status (*map)(void *user, size_t daemon, const char *name, uint64_t size,
                        uint64_t *out_region, uint64_t *out_epoch, kaena_err *err);
    /* May block; failures matter to nobody. */
    void (*unmap)(void *user, size_t daemon, uint64_t region, uint64_t epoch);
    /* A reason why memory is not shared. */
    void (*say)(void *user, const char *text);
} kaena_pool_ops;

/* Of |limit| bytes at most. NULL: out of memory. */
kaena_pool *kaena_pool_create(size_t daemons, uint64_t limit, const kaena_pool_ops *ops,
                              void *user);
/* Blocks in use stay until they are given back; |ops| are not called any more. NULL does nothing.
 */
void kaena_pool_close(kaena_pool *pool);

/* A block of |bytes| at least; NULL: there is none, and the caller does without. Where |may_grow| a
 * new region may be made, which blocks. */
kaena_memory *kaena_pool_take(kaena_pool *pool, size_t bytes, bool may_grow);
/* Gives a block back. |dirty|: a daemon may still write to it; then nobody gets it again. NULL does
 * nothing. */
void kaena_pool_give(kaena_memory *memory, bool dirty);

void *kaena_memory_data(const kaena_memory *memory);
size_t kaena_memory_bytes(const kaena_memory *memory);
/* Where |data|, inside the block, lies for |daemon|. False: the daemon does not have the region. */
bool kaena_memory_range(const kaena_memory *memory, size_t daemon, const void *data, size_t bytes,
                        kaena_wire_range *out);

/* The daemon says that it has not got a region that it should have: none is used there again. */
void kaena_pool_distrust(kaena_pool *pool, size_t daemon);

/* For tests: bytes of all regions. */
uint64_t kaena_pool_bytes(kaena_pool *pool);

#endif
