/* Regions of shared memory that clients lend us: POSIX objects "/kaena-*" of their own user, mapped
 * once, read and written in place.
 *
 * A region is known to one client (a session, or else a connection) under a number. Requests hold
 * references while they use it; an unmap waits for them. Another process may change the memory at
 * any time, and truncate it: then what is gone reads as zeros, and the region is damaged from there
 * on (base/fault.h).
 *
 * Threads: any. */
#ifndef KRT_REGION_H
#define KRT_REGION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "err.h"

typedef struct krt_region krt_region;
typedef struct krt_regions krt_regions;

/* What one client may have. */
typedef struct krt_region_limits {
    uint64_t regions, bytes;
} krt_region_limits;

/* NULL: out of memory. */
krt_regions *krt_regions_create(void);
/* No request uses a region any more. NULL is fine. */
krt_regions *krt_regions_destroy(krt_regions *t);

/* Maps the first |size| bytes of |name|; |*id| is never 0 and never used again. Blocks: the pages
 * of an object that has them all are made present.
 *
 * INVALID_ARGUMENT    not such a name; 0 bytes
 * NOT_FOUND           no such object
 * PERMISSION_DENIED   it belongs to another user than |uid|, or we may not open it
 * OUT_OF_RANGE        it is smaller (BAD_REGION)
 * RESOURCE_EXHAUSTED  the client has too many, or too large ones (LIMIT); no memory */
kaena_status krt_region_map(krt_regions *t, const krt_region_limits *limits, uint64_t client,
                            uid_t uid, const char *name, uint64_t size, uint64_t *id,
                            kaena_err *err) KAENA_CHECKED;

/* A reference to region |id| of |client| for the use of |size| bytes from |offset|, which begin at
 * |*data|.
 *
 * FAILED_PRECONDITION (BAD_REGION)  no such region of this client
 * OUT_OF_RANGE (BAD_REGION)         the range leaves it
 * DATA_LOSS (BAD_REGION)            it is damaged */
kaena_status krt_region_use(krt_regions *t, uint64_t client, uint64_t id, uint64_t offset,
                            uint64_t size, krt_region **out, uint8_t **data,
                            kaena_err *err) KAENA_CHECKED;
void krt_region_unuse(krt_region *r);
/* Part of it was gone when it was touched. DATA_LOSS (BAD_REGION). */
kaena_status krt_region_check(const krt_region *r, kaena_err *err) KAENA_CHECKED;

/* Tells |fn| when nobody uses the region and it is unmapped: perhaps at once, on any thread. */
typedef void krt_region_gone(void *arg);
/* Nobody can use region |id| from now on. NOT_FOUND (BAD_REGION): |fn| is not called. */
kaena_status krt_region_unmap(krt_regions *t, uint64_t client, uint64_t id, krt_region_gone *fn,
                              void *arg, kaena_err *err) KAENA_CHECKED;
/* The same for all regions of |client|, told to nobody. */
void krt_regions_drop(krt_regions *t, uint64_t client);

/* Drops the regions of the clients from number |from| on that |is_gone|; true when some of such
 * clients are left. */
bool krt_regions_sweep(krt_regions *t, uint64_t from, bool (*is_gone)(void *arg, uint64_t client),
                       void *arg);

/* All that are mapped. */
void krt_regions_count(krt_regions *t, size_t *n, uint64_t *bytes);

#endif
