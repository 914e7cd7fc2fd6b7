/* Builds sorted tables and tensor bundles (sstable.h, tf_bundle.h) in memory for tests and fuzz
 * targets. */
#ifndef BUNDLE_BUILD_H
#define BUNDLE_BUILD_H

#include <snappy-c.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "crc32c.h"
#include "strbuf.h"
#include "tensorflow/tensor_bundle.pb-c.h"

typedef struct bb_entry {
    const void *key;
    size_t key_size;
    const void *value;
    size_t value_size;
} bb_entry;

static inline void bb_varint(kaena_strbuf *b, uint64_t v)
{
    for (; v >= 0x80; v >>= 7) {
        uint8_t byte = (uint8_t)(v | 0x80);
        kaena_strbuf_add(b, &byte, 1);
    }
    uint8_t byte = (uint8_t)v;
    kaena_strbuf_add(b, &byte, 1);
}

static inline void bb_u32(kaena_strbuf *b, uint32_t v)
{
    kaena_strbuf_add(b, &v, 4);
}

/* Adds a block of |n| entries with a restart point every |interval| to |file|; its handle goes to
 * |handle|. */
static inline void bb_block(kaena_strbuf *file, const bb_entry *e, size_t n, size_t interval,
                            bool snappy, kaena_strbuf *handle)
{
    kaena_strbuf plain = {0}, restarts = {0};
    uint32_t n_restarts = 0;
    for (size_t i = 0; i < n; i++) {
        size_t shared = 0;
        if (i % interval == 0) {
            bb_u32(&restarts, (uint32_t)plain.size);
            n_restarts++;
        } else {
            while (shared < e[i].key_size && shared < e[i - 1].key_size &&
                   ((const char *)e[i].key)[shared] == ((const char *)e[i - 1].key)[shared])
                shared++;
        }
        bb_varint(&plain, shared);
        bb_varint(&plain, e[i].key_size - shared);
        bb_varint(&plain, e[i].value_size);
        kaena_strbuf_add(&plain, (const char *)e[i].key + shared, e[i].key_size - shared);
        kaena_strbuf_add(&plain, e[i].value, e[i].value_size);
    }
    if (n_restarts > 0)
        kaena_strbuf_add(&plain, restarts.data, restarts.size);
    bb_u32(&plain, n_restarts);
    size_t offset = file->size, size = plain.size;
    if (snappy) {
        size = snappy_max_compressed_length(plain.size);
        char *packed = malloc(size);
        if (packed && snappy_compress(plain.data, plain.size, packed, &size) == SNAPPY_OK)
            kaena_strbuf_add(file, packed, size);
        free(packed);
    } else {
        kaena_strbuf_add(file, plain.data, plain.size);
    }
    kaena_strbuf_add(file, snappy ? "\1" : "\0", 1);
    bb_u32(file, kcc_crc32c_mask(kcc_crc32c(0, file->data + offset, size + 1)));
    bb_varint(handle, offset);
    bb_varint(handle, size);
    kaena_strbuf_fini(&plain);
    kaena_strbuf_fini(&restarts);
}

/* A table of |n| entries, which are in order, |per_block| (at least 1) to a block. */
static inline void bb_table(kaena_strbuf *file, const bb_entry *e, size_t n, size_t per_block,
                            size_t interval, bool snappy)
{
    size_t blocks = (n + per_block - 1) / per_block;
    bb_entry *index = calloc(blocks + 1, sizeof *index);
    kaena_strbuf *handles = calloc(blocks + 1, sizeof *handles), footer = {0};
    if (!index || !handles)
        abort();
    for (size_t i = 0; i < blocks; i++) {
        size_t first = i * per_block, count = n - first < per_block ? n - first : per_block;
        bb_block(file, e + first, count, interval, snappy, &handles[i]);
        index[i] = (bb_entry){e[first + count - 1].key, e[first + count - 1].key_size,
                              handles[i].data, handles[i].size};
    }
    bb_block(file, NULL, 0, 1, false, &footer); /* of filters: none */
    bb_block(file, index, blocks, 1, false, &footer);
    while (footer.size < 40)
        kaena_strbuf_add(&footer, "", 1);
    kaena_strbuf_add(&footer, "\x57\xfb\x80\x8b\x24\x75\x47\xdb", 8);
    kaena_strbuf_add(file, footer.data, footer.size);
    for (size_t i = 0; i < blocks; i++)
        kaena_strbuf_fini(&handles[i]);
    kaena_strbuf_fini(&footer);
    free(handles);
    free(index);
}

#define BB_MAX_ENTRIES 64

/* A bundle in the making: entries in the order they are added (which must be the keys'), all data
 * in one file. Zero is an empty one. */
typedef struct bb_bundle {
    bb_entry entries[BB_MAX_ENTRIES];
    size_t n;
    kaena_strbuf data, index;
    int32_t shards; /* claimed; 0: 1 */
    bool big_endian;
} bb_bundle;

static inline void bb_add_raw(bb_bundle *b, const void *key, size_t key_size, const void *value,
                              size_t value_size)
{
    bb_entry *e = &b->entries[b->n++];
    void *k = malloc(key_size + 1), *v = malloc(value_size + 1);
    if (!k || !v)
        abort();
    memcpy(k, key, key_size);
    memcpy(v, value, value_size);
    *e = (bb_entry){k, key_size, v, value_size};
}

/* Adds the entry |pb| for |key|. */
static inline void bb_add_entry(bb_bundle *b, const void *key, size_t key_size,
                                const Tensorflow__BundleEntryProto *pb)
{
    uint8_t packed[4096];
    bb_add_raw(b, key, key_size, packed, tensorflow__bundle_entry_proto__pack(pb, packed));
}

/* Describes a tensor; |dims| are |rank| sizes. The storage is the caller's. */
typedef struct bb_tensor {
    Tensorflow__BundleEntryProto pb;
    Tensorflow__TensorShapeProto shape;
    Tensorflow__TensorShapeProto__Dim dim[16], *dims[16];
} bb_tensor;

static inline Tensorflow__BundleEntryProto *bb_describe(bb_tensor *t, int dtype, size_t rank,
                                                        const int64_t *dims)
{
    t->pb = (Tensorflow__BundleEntryProto)TENSORFLOW__BUNDLE_ENTRY_PROTO__INIT;
    t->shape = (Tensorflow__TensorShapeProto)TENSORFLOW__TENSOR_SHAPE_PROTO__INIT;
    t->pb.dtype = (Tensorflow__DataType)dtype;
    t->pb.shape = &t->shape;
    t->shape.n_dim = rank;
    t->shape.dim = t->dims;
    for (size_t i = 0; i < rank; i++) {
        t->dim[i] = (Tensorflow__TensorShapeProto__Dim)TENSORFLOW__TENSOR_SHAPE_PROTO__DIM__INIT;
        t->dim[i].size = dims[i];
        t->dims[i] = &t->dim[i];
    }
    return &t->pb;
}

/* Adds a tensor whose bytes in the data file are |data|. */
static inline void bb_add_key(bb_bundle *b, const void *key, size_t key_size, int dtype,
                              size_t rank, const int64_t *dims, const void *data, size_t size,
                              uint32_t crc)
{
    bb_tensor t;
    Tensorflow__BundleEntryProto *pb = bb_describe(&t, dtype, rank, dims);
    pb->offset = (int64_t)b->data.size;
    pb->size = (int64_t)size;
    pb->crc32c = kcc_crc32c_mask(crc);
    kaena_strbuf_add(&b->data, data, size);
    bb_add_entry(b, key, key_size, pb);
}

static inline void bb_add(bb_bundle *b, const char *name, int dtype, size_t rank,
                          const int64_t *dims, const void *data, size_t size)
{
    bb_add_key(b, name, strlen(name), dtype, rank, dims, data, size, kcc_crc32c(0, data, size));
}

/* Adds the header; comes first. */
static inline void bb_header(bb_bundle *b, int32_t shards, bool big_endian, int32_t min_consumer)
{
    Tensorflow__BundleHeaderProto h = TENSORFLOW__BUNDLE_HEADER_PROTO__INIT;
    Tensorflow__VersionDef v = TENSORFLOW__VERSION_DEF__INIT;
    uint8_t packed[64];
    v.producer = 1;
    v.min_consumer = min_consumer;
    h.num_shards = shards;
    h.endianness = big_endian ? TENSORFLOW__BUNDLE_HEADER_PROTO__ENDIANNESS__BIG
                              : TENSORFLOW__BUNDLE_HEADER_PROTO__ENDIANNESS__LITTLE;
    h.version = &v;
    bb_add_raw(b, "", 0, packed, tensorflow__bundle_header_proto__pack(&h, packed));
}

/* Makes |index|. */
static inline void bb_finish(bb_bundle *b, size_t per_block, size_t interval, bool snappy)
{
    bb_table(&b->index, b->entries, b->n, per_block, interval, snappy);
}

static inline void bb_fini(bb_bundle *b)
{
    for (size_t i = 0; i < b->n; i++) {
        free((void *)(uintptr_t)b->entries[i].key);
        free((void *)(uintptr_t)b->entries[i].value);
    }
    kaena_strbuf_fini(&b->data);
    kaena_strbuf_fini(&b->index);
}

#endif
