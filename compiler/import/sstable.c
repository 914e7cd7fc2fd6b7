#include "sstable.h"

#include <snappy-c.h>
#include <stdbool.h>
#include <string.h>

#include "checked.h"
#include "crc32c.h"

enum {
    FOOTER_SIZE = 48, /* two handles, padded to 40 bytes, and the magic number */
    TRAILER_SIZE = 5, /* of a block: type and checksum */
    BLOCK_PLAIN = 0,
    BLOCK_SNAPPY = 1,
    /* Snappy's longest copy writes 64 bytes for 3 of its input. */
    SNAPPY_MAX_EXPANSION = 22,
};
#define TABLE_MAGIC UINT64_C(0xdb4775248b80fb57)

typedef struct reader {
    kaena_arena *arena;
    const uint8_t *data;
    size_t size;
    size_t budget; /* bytes that may still be allocated */
    kcc_sstable_entry *entries;
    uint32_t n, capacity;
    kaena_err *err;
} reader;

typedef struct span {
    const uint8_t *at, *end;
} span;

static uint32_t load_u32(const uint8_t *p)
{
    uint32_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

static bool read_varint(span *s, uint64_t *out)
{
    uint64_t v = 0;
    for (unsigned shift = 0; shift < 64 && s->at < s->end; shift += 7) {
        uint8_t byte = *s->at++;
        v |= (uint64_t)(byte & 0x7f) << shift;
        if (!(byte & 0x80)) {
            *out = v;
            return true;
        }
    }
    return false;
}

static kaena_status take(reader *r, size_t size, void *out_pointer)
{
    void *p = NULL;
    if (size <= r->budget)
        p = kaena_arena_alloc(r->arena, size);
    if (!p)
        return KAENA_FAIL(r->err, RESOURCE_EXHAUSTED,
                          "the table expands to more than %d times its size in memory",
                          KCC_SSTABLE_EXPANSION);
    size_t held = size < 64 ? 64 : size; /* the arena's grain */
    r->budget -= held < r->budget ? held : r->budget;
    memcpy(out_pointer, &p, sizeof p);
    return KAENA_OK;
}

/* Contents of the block that |handle| (offset and size) names. */
static kaena_status read_block(reader *r, span *handle, span *out)
{
    uint64_t offset, size;
    if (!read_varint(handle, &offset) || !read_varint(handle, &size))
        return KAENA_FAIL(r->err, DATA_LOSS, "the place of a block is cut off");
    if (!kaena_range_inside(offset, size, r->size) || r->size - offset - size < TRAILER_SIZE)
        return KAENA_FAIL(r->err, DATA_LOSS,
                          "a block of %llu bytes at byte %llu reaches past the end",
                          (unsigned long long)size, (unsigned long long)offset);
    const uint8_t *data = r->data + offset;
    if (load_u32(data + size + 1) != kcc_crc32c_mask(kcc_crc32c(0, data, size + 1)))
        return KAENA_FAIL(r->err, DATA_LOSS, "the block at byte %llu has a wrong checksum",
                          (unsigned long long)offset);
    if (data[size] == BLOCK_PLAIN) {
        *out = (span){data, data + size};
        return KAENA_OK;
    }
    if (data[size] != BLOCK_SNAPPY)
        return KAENA_FAIL(r->err, UNIMPLEMENTED,
                          "the block at byte %llu has compression %d, which is not supported",
                          (unsigned long long)offset, data[size]);
    size_t plain;
    if (snappy_uncompressed_length((const char *)data, size, &plain) != SNAPPY_OK ||
        plain / SNAPPY_MAX_EXPANSION > size)
        return KAENA_FAIL(r->err, DATA_LOSS, "the block at byte %llu is not snappy's",
                          (unsigned long long)offset);
    char *p;
    KAENA_TRY(take(r, plain, &p));
    if (snappy_uncompress((const char *)data, size, p, &plain) != SNAPPY_OK)
        return KAENA_FAIL(r->err, DATA_LOSS, "the block at byte %llu is not snappy's",
                          (unsigned long long)offset);
    *out = (span){(const uint8_t *)p, (const uint8_t *)p + plain};
    return KAENA_OK;
}

/* Walks the entries of a block: their keys share the first bytes of the one before. */
typedef struct block_walk {
    span rest;
    const char *key;
    uint32_t key_size;
    span value;
} block_walk;

/* The restart points at the end help to search; who reads everything needs only their number. */
static kaena_status walk_start(reader *r, span block, block_walk *w)
{
    size_t size = (size_t)(block.end - block.at);
    if (size >= 4) {
        uint64_t restarts = load_u32(block.end - 4);
        if (restarts <= (size - 4) / 4) {
            *w = (block_walk){.rest = {block.at, block.end - 4 - restarts * 4}, .key = ""};
            return KAENA_OK;
        }
    }
    return KAENA_FAIL(r->err, DATA_LOSS, "a block's restart points are damaged");
}

static kaena_status walk_next(reader *r, block_walk *w)
{
    uint64_t shared, unshared, value;
    if (!read_varint(&w->rest, &shared) || !read_varint(&w->rest, &unshared) ||
        !read_varint(&w->rest, &value) || shared > w->key_size ||
        unshared > (size_t)(w->rest.end - w->rest.at) ||
        value > (size_t)(w->rest.end - w->rest.at) - unshared || shared + unshared > UINT32_MAX)
        return KAENA_FAIL(r->err, DATA_LOSS, "an entry of a block is damaged");
    char *key;
    KAENA_TRY(take(r, shared + unshared + 1, &key));
    memcpy(key, w->key, shared);
    memcpy(key + shared, w->rest.at, unshared);
    w->key = key;
    w->key_size = (uint32_t)(shared + unshared);
    w->value = (span){w->rest.at + unshared, w->rest.at + unshared + value};
    w->rest.at = w->value.end;
    return KAENA_OK;
}

static int compare(const char *a, size_t na, const char *b, size_t nb)
{
    int c = memcmp(a, b, na < nb ? na : nb);
    return c ? c : (na > nb) - (na < nb);
}

static kaena_status add_entry(reader *r, const block_walk *w)
{
    if (r->n > 0) {
        const kcc_sstable_entry *last = &r->entries[r->n - 1];
        if (compare(last->key, last->key_size, w->key, w->key_size) >= 0)
            return KAENA_FAIL(r->err, DATA_LOSS, "the keys are not in order");
    }
    if (r->n == r->capacity) {
        uint32_t capacity = r->capacity ? r->capacity * 2 : 16;
        kcc_sstable_entry *entries;
        KAENA_TRY(take(r, capacity * sizeof *entries, &entries));
        if (r->n > 0)
            memcpy(entries, r->entries, r->n * sizeof *entries);
        r->entries = entries;
        r->capacity = capacity;
    }
    size_t size = (size_t)(w->value.end - w->value.at);
    uint8_t *value;
    if (size > UINT32_MAX - 1)
        return KAENA_FAIL(r->err, DATA_LOSS, "an entry of a block is damaged");
    KAENA_TRY(take(r, size + 1, &value));
    memcpy(value, w->value.at, size);
    r->entries[r->n++] = (kcc_sstable_entry){w->key, value, w->key_size, (uint32_t)size};
    return KAENA_OK;
}

static kaena_status read_data_block(reader *r, span handle)
{
    span block;
    block_walk w;
    KAENA_TRY(read_block(r, &handle, &block));
    KAENA_TRY(walk_start(r, block, &w));
    while (w.rest.at < w.rest.end) {
        KAENA_TRY(walk_next(r, &w));
        KAENA_TRY(add_entry(r, &w));
    }
    return KAENA_OK;
}

kaena_status kcc_sstable_read(kaena_arena *arena, const void *data, size_t size, kcc_sstable *out,
                              kaena_err *err)
{
    reader r = {.arena = arena, .data = data, .size = size, .err = err};
    if (__builtin_mul_overflow(size, (size_t)KCC_SSTABLE_EXPANSION, &r.budget) ||
        __builtin_add_overflow(r.budget, KCC_SSTABLE_EXPANSION_BASE, &r.budget))
        r.budget = SIZE_MAX;
    uint64_t magic = 0;
    if (size >= FOOTER_SIZE)
        memcpy(&magic, r.data + size - 8, sizeof magic);
    if (magic != TABLE_MAGIC)
        return KAENA_FAIL(err, INVALID_ARGUMENT,
                          "not a table of a checkpoint, or cut off: the last 8 bytes are wrong");
    span footer = {r.data + size - FOOTER_SIZE, r.data + size - 8};
    uint64_t skip;
    if (!read_varint(&footer, &skip) || !read_varint(&footer, &skip))
        return KAENA_FAIL(err, DATA_LOSS, "the place of a block is cut off");
    span index;
    block_walk w;
    KAENA_TRY(read_block(&r, &footer, &index));
    KAENA_TRY(walk_start(&r, index, &w));
    while (w.rest.at < w.rest.end) {
        KAENA_TRY(walk_next(&r, &w));
        KAENA_TRY(read_data_block(&r, w.value));
    }
    *out = (kcc_sstable){r.entries, r.n};
    return KAENA_OK;
}

const kcc_sstable_entry *kcc_sstable_find(const kcc_sstable *t, const char *key, size_t key_size)
{
    uint32_t low = 0, high = t->n_entries;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        const kcc_sstable_entry *e = &t->entries[middle];
        int c = compare(e->key, e->key_size, key, key_size);
        if (c == 0)
            return e;
        if (c < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return NULL;
}
