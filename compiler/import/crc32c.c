#include "crc32c.h"

#include <isa-l/crc.h>

uint32_t kcc_crc32c(uint32_t crc, const void *data, size_t size)
{
    const unsigned char *at = data;
    crc = ~crc;
    while (size > 0) {
        int n = size > (size_t)1 << 30 ? 1 << 30 : (int)size;
        /* The library does not write through its pointer. */
        crc = crc32_iscsi((unsigned char *)(uintptr_t)at, n, crc);
        at += n;
        size -= (size_t)n;
    }
    return ~crc;
}
