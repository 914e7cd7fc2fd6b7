/* Allocations that fail when a test says so, of a program's own objects and static libraries only:
 * what shared libraries (gRPC, libuv, protobuf-c, libc) allocate is left alone. A program links
 * alloc_fault_dep (tests/meson.build), whose --wrap options redirect its calls.
 *
 * Within a process a test arms and reads it with these functions; a test in another process maps
 * the file that KAENA_ALLOC_FAULT names (alloc_fault_block). */
#ifndef ALLOC_FAULT_H
#define ALLOC_FAULT_H

#include <stdatomic.h>
#include <stdint.h>

/* The file's content, little-endian. */
typedef struct alloc_fault_block {
    _Atomic uint64_t count; /* allocations so far */
    _Atomic uint64_t from;  /* those with these numbers fail (from 1, both included); 0 = none */
    _Atomic uint64_t to;
    _Atomic uint64_t failed; /* that have failed */
} alloc_fault_block;

/* Allocations since the start, failed ones among them. Thread: any. */
uint64_t alloc_fault_count(void);

/* From now on the |nth| allocation (from 1) fails, and |n| - 1 after it; |nth| 0: none. */
void alloc_fault_arm(uint64_t nth, uint64_t n);

/* How many have failed since it was armed. */
uint64_t alloc_fault_failed(void);

#endif
