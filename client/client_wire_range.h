/* A part of a region of shared memory, as requests name it. */
#ifndef KAENA_CLIENT_WIRE_RANGE_H
#define KAENA_CLIENT_WIRE_RANGE_H

#include <stdint.h>

typedef struct kaena_wire_range {
    uint64_t region, offset, size; /* region 0: none */
} kaena_wire_range;

#endif
