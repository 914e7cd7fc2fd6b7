/* Reads a whole sorted string table: the file format of LevelDB's tables, in which TensorFlow keeps
 * the index of a checkpoint.
 *
 * The end of the file names an index block, which names the data blocks; a block is entries whose
 * keys share prefixes, a type (plain or snappy) and a checksum. Every byte is untrusted. */
#ifndef KCC_SSTABLE_H
#define KCC_SSTABLE_H

#include <stddef.h>
#include <stdint.h>

#include "arena.h"
#include "err.h"

/* Keys may have any bytes; both have a NUL behind them that does not count. */
typedef struct kcc_sstable_entry {
    const char *key;
    const uint8_t *value;
    uint32_t key_size, value_size;
} kcc_sstable_entry;

/* Keys are unique and in the order of their bytes. */
typedef struct kcc_sstable {
    kcc_sstable_entry *entries;
    uint32_t n_entries;
} kcc_sstable;

/* What the table may take in memory: this multiple of the file, plus a base that lets small files
 * have any form. Prefixes and snappy can claim much more than that. */
#define KCC_SSTABLE_EXPANSION 32
#define KCC_SSTABLE_EXPANSION_BASE ((size_t)4 << 20)

/* Everything lives in |arena|; |data| may go after the call.
 *
 * INVALID_ARGUMENT    not such a table
 * DATA_LOSS           damaged: a checksum, or a block that contradicts itself
 * UNIMPLEMENTED       a block of another compression
 * RESOURCE_EXHAUSTED  expands beyond the bound, or the arena is full */
kaena_status kcc_sstable_read(kaena_arena *arena, const void *data, size_t size, kcc_sstable *out,
                              kaena_err *err) KAENA_CHECKED;

/* The entry of that key, or NULL. */
const kcc_sstable_entry *kcc_sstable_find(const kcc_sstable *t, const char *key, size_t key_size);

#endif
