/* Fuzz target: a checkpoint's index and its data file. The first byte says what follows it: 0 an
 * index as in its file; else entries (a byte of key size, two of value size, both), from which an
 * index with right checksums is made, so that what lies behind them is reached. Then two bytes of
 * size for that part come first, and the rest is the data file. */
#include <stdlib.h>

#include "bundle_build.h"
#include "tf_bundle.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool condition)
{
    if (!condition)
        abort();
}

static void index_of_entries(const uint8_t *at, const uint8_t *end, bool snappy, kaena_strbuf *out)
{
    bb_entry entries[256];
    size_t n = 0;
    while (n < 256 && end - at >= 3) {
        size_t key = at[0], value = (size_t)(at[1] | at[2] << 8);
        at += 3;
        if (key + value > (size_t)(end - at))
            break;
        entries[n++] = (bb_entry){at, key, at + key, value};
        at += key + value;
    }
    bb_table(out, entries, n, 5, 3, snappy);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    kaena_arena arena;
    kaena_err err;
    kaena_strbuf index = {0};
    kcc_tf_bundle *b;
    if (size < 3)
        return 0;
    size_t first = (size_t)(data[1] | data[2] << 8);
    if (first > size - 3)
        first = size - 3;
    if (data[0])
        index_of_entries(data + 3, data + 3 + first, data[0] & 1, &index);
    else
        kaena_strbuf_add(&index, data + 3, first);
    kaena_arena_init(&arena, (size_t)256 << 20);
    kaena_err_init(&err);
    if (kcc_tf_bundle_open_bytes(&arena, index.data, index.size, data + 3 + first, size - 3 - first,
                                 &b, &err) == KAENA_OK) {
        kop_tensor t;
        const char *name;
        for (uint32_t i = 0; (name = kcc_tf_bundle_name(b, i)); i++) {
            kaena_err_init(&err);
            if (kcc_tf_bundle_read(b, name, &t, &err) != KAENA_OK)
                must(err.what[0] != 0);
            else
                must(t.data != NULL);
        }
        kcc_tf_bundle_close(b);
    } else {
        must(err.what[0] != 0);
    }
    kaena_strbuf_fini(&index);
    kaena_arena_fini(&arena);
    return 0;
}
