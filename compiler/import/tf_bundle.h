/* Reads tensors of a tensor bundle: TensorFlow's checkpoint format V2.
 *
 * PREFIX.index is a sorted table (sstable.h) from names to entries (BundleEntryProto): type, shape,
 * and where in which of the files PREFIX.data-0000x-of-0000y the elements lie. A partitioned tensor
 * has an entry that lists its slices, which have entries of their own. Every byte is untrusted;
 * tensors take at most KCC_TF_BUNDLE_EXPANSION times the size of the data files. */
#ifndef KCC_TF_BUNDLE_H
#define KCC_TF_BUNDLE_H

#include <stdbool.h>

#include "arena.h"
#include "err.h"
#include "ops.h"

#define KCC_TF_MAX_SHARDS 99999 /* five digits of the files' names */
#define KCC_TF_MAX_SLICES 4096  /* of one tensor */
/* A short string takes a record of 16 bytes in memory and one in the file; besides, damaged entries
 * may overlap, each byte of a data file is read twice at most. */
#define KCC_TF_BUNDLE_EXPANSION 34

typedef struct kcc_tf_bundle kcc_tf_bundle;

/* Opens PREFIX.index; data files are mapped when they are needed first. The bundle and what is read
 * from it live in |arena|; close it to unmap the files.
 *
 * NOT_FOUND         no such file
 * UNIMPLEMENTED     PREFIX is a checkpoint of format V1, or of a newer version
 * INVALID_ARGUMENT, DATA_LOSS, RESOURCE_EXHAUSTED  see sstable.h */
kaena_status kcc_tf_bundle_open(kaena_arena *arena, const char *prefix, kcc_tf_bundle **out,
                                kaena_err *err) KAENA_CHECKED;
/* The same from memory: an index and the contents of its only data file, both borrowed. */
kaena_status kcc_tf_bundle_open_bytes(kaena_arena *arena, const void *index, size_t index_size,
                                      const void *data, size_t data_size, kcc_tf_bundle **out,
                                      kaena_err *err) KAENA_CHECKED;
/* |b| may be NULL. */
void kcc_tf_bundle_close(kcc_tf_bundle *b);

bool kcc_tf_bundle_has(const kcc_tf_bundle *b, const char *name);
/* Names in the order of their bytes, slices' included; NULL after the last. */
const char *kcc_tf_bundle_name(const kcc_tf_bundle *b, uint32_t i);

/* Reads the tensor |name|; a second time it is the same data.
 *
 * NOT_FOUND           no tensor of that name, or no such data file
 * DATA_LOSS           damaged: a checksum, a place past the end, slices that do not cover the whole
 * UNIMPLEMENTED       an element type we do not have
 * RESOURCE_EXHAUSTED  entries that overlap, or the arena is full */
kaena_status kcc_tf_bundle_read(kcc_tf_bundle *b, const char *name, kop_tensor *out,
                                kaena_err *err) KAENA_CHECKED;

#endif
