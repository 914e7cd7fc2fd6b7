#include "tf_bundle.h"

#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "checked.h"
#include "crc32c.h"
#include "file.h"
#include "pb_unpack.h"
#include "sstable.h"
#include "tensorflow/tensor_bundle.pb-c.h"
#include "tf_slice.h"
#include "tf_graph.h"

#define BUNDLE_VERSION 1 /* of the format; a file may ask for a newer reader */

typedef struct shard {
    kaena_file file;
    bool open, borrowed;
    uint64_t budget; /* bytes that entries may still name */
} shard;

/* A tensor's entry, read. */
typedef struct entry {
    Tensorflow__BundleEntryProto *pb;
    kop_tensor t;
    bool have; /* |t| is whole */
} entry;

struct kcc_tf_bundle {
    kaena_arena *arena;
    const char *prefix; /* "" when from memory */
    kcc_sstable table;
    entry *entries; /* beside the table's */
    shard *shards;
    uint32_t n_shards;
    bool big_endian;
};

static kaena_status no_memory(kaena_err *err)
{
    return KAENA_FAIL(err, RESOURCE_EXHAUSTED, "no memory for the tensors");
}

static void set_budget(shard *s)
{
    s->open = true;
    s->budget = (uint64_t)s->file.size * 2;
}

static kaena_status read_header(kcc_tf_bundle *b, kaena_err *err)
{
    const kcc_sstable_entry *e = kcc_sstable_find(&b->table, "", 0);
    ProtobufCMessage *m;
    if (!e)
        return KAENA_FAIL(err, INVALID_ARGUMENT, "not the index of a checkpoint: it has no header");
    KAENA_TRY(kcc_pb_unpack(b->arena, &tensorflow__bundle_header_proto__descriptor, e->value,
                            e->value_size, &m, err));
    const Tensorflow__BundleHeaderProto *h = (const Tensorflow__BundleHeaderProto *)m;
    if (h->version && h->version->min_consumer > BUNDLE_VERSION)
        return KAENA_FAIL(err, UNIMPLEMENTED,
                          "the checkpoint has version %d; %d is the newest that is supported",
                          h->version->min_consumer, BUNDLE_VERSION);
    if (h->num_shards < 1 || h->num_shards > KCC_TF_MAX_SHARDS)
        return KAENA_FAIL(err, INVALID_ARGUMENT, "the checkpoint claims %d data files",
                          h->num_shards);
    b->n_shards = (uint32_t)h->num_shards;
    b->big_endian = h->endianness == TENSORFLOW__BUNDLE_HEADER_PROTO__ENDIANNESS__BIG;
    return KAENA_OK;
}

static kaena_status open_index(kaena_arena *arena, const void *index, size_t size,
                               kcc_tf_bundle **out, kaena_err *err)
{
    kcc_tf_bundle *b = KAENA_NEW(arena, kcc_tf_bundle);
    if (!b)
        return no_memory(err);
    *b = (kcc_tf_bundle){.arena = arena, .prefix = ""};
    KAENA_TRY(kcc_sstable_read(arena, index, size, &b->table, err));
    KAENA_TRY(read_header(b, err));
    b->shards = KAENA_NEW_N(arena, shard, b->n_shards);
    b->entries = KAENA_NEW_N(arena, entry, b->table.n_entries);
    if (!b->shards || !b->entries)
        return no_memory(err);
    *out = b;
    return KAENA_OK;
}

kaena_status kcc_tf_bundle_open(kaena_arena *arena, const char *prefix, kcc_tf_bundle **out,
                                kaena_err *err)
{
    const char *path = kaena_arena_printf(arena, "%s.index", prefix);
    const char *kept = kaena_arena_strdup(arena, prefix);
    kaena_file file;
    if (!path || !kept)
        return no_memory(err);
    if (access(path, F_OK) != 0 && access(prefix, F_OK) == 0) {
        (void)KAENA_FAIL(err, UNIMPLEMENTED,
                         "'%s' is a checkpoint of format V1, which is not supported", prefix);
        kaena_err_hint(err, "save it again with write_version=tf.train.SaverDef.V2");
        return KAENA_UNIMPLEMENTED;
    }
    KAENA_TRY(kaena_file_open(path, &file, err));
    kaena_status s = open_index(arena, file.data, file.size, out, err);
    kaena_file_close(&file);
    if (s != KAENA_OK)
        return kaena_err_wrap(err, s, "checkpoint '%s'", path);
    (*out)->prefix = kept;
    return KAENA_OK;
}

kaena_status kcc_tf_bundle_open_bytes(kaena_arena *arena, const void *index, size_t index_size,
                                      const void *data, size_t data_size, kcc_tf_bundle **out,
                                      kaena_err *err)
{
    kcc_tf_bundle *b;
    KAENA_TRY(open_index(arena, index, index_size, &b, err));
    b->shards[0] = (shard){.file = {data, data_size}, .borrowed = true};
    set_budget(&b->shards[0]);
    *out = b;
    return KAENA_OK;
}

void kcc_tf_bundle_close(kcc_tf_bundle *b)
{
    if (!b)
        return;
    for (uint32_t i = 0; i < b->n_shards; i++)
        if (b->shards[i].open && !b->shards[i].borrowed)
            kaena_file_close(&b->shards[i].file);
    b->n_shards = 0;
}

bool kcc_tf_bundle_has(const kcc_tf_bundle *b, const char *name)
{
    return *name && kcc_sstable_find(&b->table, name, strlen(name));
}

const char *kcc_tf_bundle_name(const kcc_tf_bundle *b, uint32_t i)
{
    /* The header's key is the empty one, and so the first. */
    return i + 1 < b->table.n_entries ? b->table.entries[i + 1].key : NULL;
}

/* The bytes an entry names. */
static kaena_status entry_bytes(kcc_tf_bundle *b, const Tensorflow__BundleEntryProto *pb,
                                const uint8_t **out, kaena_err *err)
{
    if (pb->shard_id < 0 || (uint32_t)pb->shard_id >= b->n_shards)
        return KAENA_FAIL(err, DATA_LOSS, "it lies in data file %d of %u", pb->shard_id,
                          b->n_shards);
    shard *s = &b->shards[pb->shard_id];
    if (!s->open) {
        char path[PATH_MAX];
        int n = snprintf(path, sizeof path, "%s.data-%05d-of-%05u", b->prefix, pb->shard_id,
                         b->n_shards);
        if (!*b->prefix || n < 0 || (size_t)n >= sizeof path)
            return KAENA_FAIL(err, NOT_FOUND, "there is no data file %d of %u", pb->shard_id,
                              b->n_shards);
        KAENA_TRY(kaena_file_open(path, &s->file, err));
        set_budget(s);
    }
    if (pb->offset < 0 || pb->size < 0 ||
        !kaena_range_inside((uint64_t)pb->offset, (uint64_t)pb->size, s->file.size))
        return KAENA_FAIL(err, DATA_LOSS,
                          "%" PRId64 " bytes at byte %" PRId64
                          " of data file %d reach past its end",
                          pb->size, pb->offset, pb->shard_id);
    if ((uint64_t)pb->size > s->budget)
        return KAENA_FAIL(err, RESOURCE_EXHAUSTED,
                          "the entries of data file %d overlap: the index is damaged",
                          pb->shard_id);
    s->budget -= (uint64_t)pb->size;
    *out = pb->size ? s->file.data + pb->offset : (const uint8_t *)"";
    return KAENA_OK;
}

static kaena_status check_sum(const Tensorflow__BundleEntryProto *pb, uint32_t crc, kaena_err *err)
{
    if (pb->crc32c == kcc_crc32c_mask(crc))
        return KAENA_OK;
    (void)KAENA_FAIL(err, DATA_LOSS, "its checksum is wrong: data file %d is damaged",
                     pb->shard_id);
    kaena_err_hint(err, "copy the model again from where it came");
    return KAENA_DATA_LOSS;
}

/* The elements of a string tensor: lengths as varints, a checksum of the lengths, the bytes. Both
 * checksums take the lengths as integers of the machine that wrote them, of 4 bytes where that is
 * enough. */
static kaena_status read_strings(const kcc_tf_bundle *b, const Tensorflow__BundleEntryProto *pb,
                                 const uint8_t *data, kaena_string *out, size_t n, kaena_err *err)
{
    const uint8_t *at = data, *end = data + pb->size;
    uint32_t crc = 0;
    for (size_t i = 0; i < n; i++) {
        uint64_t length = 0;
        unsigned shift = 0;
        uint8_t byte = 0x80;
        for (; at < end && shift < 64 && byte & 0x80; shift += 7) {
            byte = *at++;
            length |= (uint64_t)(byte & 0x7f) << shift;
        }
        if (byte & 0x80 || length > (uint64_t)(end - data))
            return KAENA_FAIL(err, DATA_LOSS, "the length of string %zu is damaged", i);
        out[i].size = length;
        uint32_t word = (uint32_t)length;
        if (b->big_endian)
            word = __builtin_bswap32(word);
        crc = kcc_crc32c(crc, &word, sizeof word);
    }
    if (end - at < 4)
        return KAENA_FAIL(err, DATA_LOSS, "the checksum of the strings' lengths is missing");
    uint32_t stored;
    memcpy(&stored, at, sizeof stored);
    if (b->big_endian)
        stored = __builtin_bswap32(stored);
    if (stored != kcc_crc32c_mask(crc))
        return KAENA_FAIL(err, DATA_LOSS, "the checksum of the strings' lengths is wrong");
    crc = kcc_crc32c(crc, at, 4);
    at += 4;
    char *bytes = kaena_arena_memdup(b->arena, at, (size_t)(end - at));
    if (!bytes)
        return no_memory(err);
    size_t left = (size_t)(end - at);
    for (size_t i = 0; i < n; i++) {
        if (out[i].size > left)
            return KAENA_FAIL(err, DATA_LOSS, "string %zu reaches past the tensor's bytes", i);
        out[i].data = bytes;
        bytes += out[i].size;
        left -= out[i].size;
    }
    return check_sum(pb, kcc_crc32c(crc, at, (size_t)(end - at) - left), err);
}

static void swap_bytes(uint8_t *p, size_t n, size_t size)
{
    for (size_t i = 0; i < n; i++, p += size)
        for (size_t k = 0; k < size / 2; k++) {
            uint8_t byte = p[k];
            p[k] = p[size - 1 - k];
            p[size - 1 - k] = byte;
        }
}

/* |t| has type and shape; its data are the entry's bytes, copied. */
static kaena_status read_plain(kcc_tf_bundle *b, const Tensorflow__BundleEntryProto *pb,
                               kop_tensor *t, kaena_err *err)
{
    int64_t n;
    uint64_t bytes;
    const uint8_t *data;
    size_t size = kaena_dtype_size(t->dtype);
    if (!kaena_shape_elements(&t->shape, &n) || !kaena_mul_u64((uint64_t)n, size, &bytes))
        return KAENA_FAIL(err, DATA_LOSS, "its shape has too many elements");
    if (t->dtype == KAENA_STRING ? pb->size < n : (uint64_t)pb->size != bytes)
        return KAENA_FAIL(err, DATA_LOSS,
                          "its %" PRId64 " bytes do not hold the %" PRId64 " elements of its shape",
                          pb->size, n);
    KAENA_TRY(entry_bytes(b, pb, &data, err));
    if (t->dtype == KAENA_STRING) {
        t->data = KAENA_NEW_N(b->arena, kaena_string, (size_t)n);
        if (!t->data)
            return no_memory(err);
        return read_strings(b, pb, data, t->data, (size_t)n, err);
    }
    KAENA_TRY(check_sum(pb, kcc_crc32c(0, data, bytes), err));
    t->data = kaena_arena_memdup(b->arena, data, bytes);
    if (!t->data)
        return no_memory(err);
    if (b->big_endian)
        swap_bytes(t->data, (size_t)n, size);
    if (t->dtype == KAENA_BOOL) {
        uint8_t *p = t->data;
        for (uint64_t i = 0; i < bytes; i++)
            p[i] = p[i] != 0;
    }
    return KAENA_OK;
}

static kaena_status known_shape(const Tensorflow__TensorShapeProto *pb, kaena_shape *out,
                                kaena_err *err)
{
    kaena_shape s = {0};
    bool unranked = false;
    if (pb)
        KAENA_TRY(tf_shape(pb, &s, &unranked, err));
    if (unranked || !kaena_shape_known(&s))
        return KAENA_FAIL(err, INVALID_ARGUMENT, "a dimension of its shape is not known");
    *out = s;
    return KAENA_OK;
}

/* The entry's message with type and shape, unpacked once. */
static kaena_status find_entry(kcc_tf_bundle *b, const char *key, size_t size, entry **out,
                               kaena_err *err)
{
    const kcc_sstable_entry *row = size ? kcc_sstable_find(&b->table, key, size) : NULL;
    if (!row)
        return KAENA_FAIL(err, NOT_FOUND, "the checkpoint does not have it");
    entry *e = &b->entries[row - b->table.entries];
    if (!e->pb) {
        ProtobufCMessage *m;
        KAENA_TRY(kcc_pb_unpack(b->arena, &tensorflow__bundle_entry_proto__descriptor, row->value,
                                row->value_size, &m, err));
        kop_tensor t = {0};
        Tensorflow__BundleEntryProto *pb = (Tensorflow__BundleEntryProto *)m;
        KAENA_TRY(tf_dtype((int)pb->dtype, &t.dtype, err));
        KAENA_TRY(known_shape(pb->shape, &t.shape, err));
        e->pb = pb;
        e->t = t;
    }
    *out = e;
    return KAENA_OK;
}

/* Puts the slices of |e| together. */
static kaena_status read_slices(kcc_tf_bundle *b, const char *name, entry *e, kop_tensor *t,
                                kaena_err *err)
{
    const Tensorflow__BundleEntryProto *pb = e->pb;
    if (pb->n_slices > KCC_TF_MAX_SLICES)
        return KAENA_FAIL(err, UNIMPLEMENTED, "it has %zu slices; at most %d are supported",
                          pb->n_slices, KCC_TF_MAX_SLICES);
    tf_box *boxes = KAENA_NEW_N(b->arena, tf_box, pb->n_slices);
    if (!boxes)
        return no_memory(err);
    for (size_t i = 0; i < pb->n_slices; i++)
        KAENA_TRY_WRAP(err, tf_slice_box(pb->slices[i], &t->shape, &boxes[i], err), "slice %zu", i);
    KAENA_TRY(tf_boxes_cover(boxes, pb->n_slices, &t->shape, err));
    /* Only now is it known that the shape's claim is covered by bytes. */
    kop_tensor *parts = KAENA_NEW_N(b->arena, kop_tensor, pb->n_slices);
    if (!parts)
        return no_memory(err);
    for (size_t i = 0; i < pb->n_slices; i++) {
        size_t size;
        entry *part;
        const char *key = tf_slice_key(b->arena, name, pb->slices[i], &size);
        if (!key)
            return no_memory(err);
        KAENA_TRY_WRAP(err, find_entry(b, key, size, &part, err), "slice %zu", i);
        parts[i] = (kop_tensor){.dtype = part->t.dtype, .shape = part->t.shape};
        if (part->pb->n_slices > 0 || parts[i].dtype != t->dtype ||
            !kaena_shape_equal(&parts[i].shape, &boxes[i].size))
            return KAENA_FAIL(err, DATA_LOSS, "slice %zu has another type or shape", i);
        KAENA_TRY_WRAP(err, read_plain(b, part->pb, &parts[i], err), "slice %zu", i);
    }
    int64_t n;
    size_t element = kaena_dtype_size(t->dtype);
    t->data = kaena_shape_elements(&t->shape, &n) ? kaena_arena_array(b->arena, (size_t)n, element)
                                                  : NULL;
    if (!t->data)
        return no_memory(err);
    for (size_t i = 0; i < pb->n_slices; i++)
        tf_box_copy(&boxes[i], parts[i].data, t->data, &t->shape, element);
    return KAENA_OK;
}

static kaena_status read_tensor(kcc_tf_bundle *b, const char *name, kop_tensor *out, kaena_err *err)
{
    entry *e;
    KAENA_TRY(find_entry(b, name, strlen(name), &e, err));
    if (!e->have) {
        kop_tensor t = e->t;
        if (e->pb->n_slices > 0)
            KAENA_TRY(read_slices(b, name, e, &t, err));
        else
            KAENA_TRY(read_plain(b, e->pb, &t, err));
        e->t = t;
        e->have = true;
    }
    *out = e->t;
    return KAENA_OK;
}

kaena_status kcc_tf_bundle_read(kcc_tf_bundle *b, const char *name, kop_tensor *out, kaena_err *err)
{
    KAENA_TRY_WRAP(err, read_tensor(b, name, out, err), "tensor '%s'", name);
    return KAENA_OK;
}
