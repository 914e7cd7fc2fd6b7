/* Mappings that somebody else may truncate under us: the SIGBUS becomes an error of one model.
 *
 * One handler looks the address up in a lock-free table of ranges, maps a page of zeros over the
 * place, sets that range's flag and returns. Whoever works on the range looks at the flag when he
 * is done. An address in no range goes to the handler that was there before, which usually means
 * death. */
#ifndef KAENA_BASE_FAULT_H
#define KAENA_BASE_FAULT_H

#include <stdbool.h>
#include <stddef.h>

/* Ranges watched at a time by one process. */
#define KAENA_FAULT_MAX 4096

/* Installs the handler, once per process; later calls do nothing. Programs call it before they map
 * what others may change. Thread: any. */
void kaena_fault_install(void);

/* Watches [data, data + size). Returns a handle >= 0, or -1 when the table is full or the range
 * empty: then a truncation is deadly, which the caller may refuse. Thread: any. */
int kaena_fault_add(const void *data, size_t size);

/* A place of the range was gone when it was touched. It stays so. -1 is never hit. Thread: any. */
bool kaena_fault_hit(int handle);

/* Stops watching; before munmap, when nobody touches the range any more. -1 is fine. */
void kaena_fault_remove(int handle);

#endif
