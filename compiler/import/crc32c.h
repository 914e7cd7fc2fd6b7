/* CRC-32C, and the masked form in which LevelDB's and TensorFlow's files keep it. */
#ifndef KCC_CRC32C_H
#define KCC_CRC32C_H

#include <stddef.h>
#include <stdint.h>

/* The checksum of what |crc| is the checksum of (0: of nothing) followed by |size| bytes. */
uint32_t kcc_crc32c(uint32_t crc, const void *data, size_t size);

/* A checksum kept beside its own data must not be the plain one: the checksum of such a file would
 * say little. */
static inline uint32_t kcc_crc32c_mask(uint32_t crc)
{
    return ((crc >> 15) | (crc << 17)) + 0xa282ead8u;
}

#endif
