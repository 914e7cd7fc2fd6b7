/* Fuzz target: a SavedModel with its checkpoint. A byte of flags (1: the message is text), two of
 * size for the checkpoint's entries (a byte of key size, two of value size, both), two of size for
 * its data file, then these, and the message. The index is made from the entries, so that its
 * checksums are right. */
#include <stdlib.h>

#include "bundle_build.h"
#include "tf_saved_model.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool condition)
{
    if (!condition)
        abort();
}

static void index_of_entries(const uint8_t *at, const uint8_t *end, kaena_strbuf *out)
{
    bb_entry entries[64];
    size_t n = 0;
    while (n < 64 && end - at >= 3) {
        size_t key = at[0], value = (size_t)(at[1] | at[2] << 8);
        at += 3;
        if (key + value > (size_t)(end - at))
            break;
        entries[n++] = (bb_entry){at, key, at + key, value};
        at += key + value;
    }
    bb_table(out, entries, n, 5, 3, false);
}

static size_t take_size(const uint8_t *p, size_t most)
{
    size_t n = (size_t)(p[0] | p[1] << 8);
    return n < most ? n : most;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    kaena_arena arena;
    kaena_err err;
    kaena_strbuf index = {0};
    kcc_tf_bundle *bundle = NULL;
    kgr_graph *g;
    kcc_import_info info;
    if (size < 5)
        return 0;
    const uint8_t *at = data + 5;
    size_t left = size - 5, n_entries = take_size(data + 1, left);
    size_t n_bytes = take_size(data + 3, left - n_entries);
    index_of_entries(at, at + n_entries, &index);
    at += n_entries;
    kaena_arena_init(&arena, (size_t)256 << 20);
    kaena_err_init(&err);
    if (kcc_tf_bundle_open_bytes(&arena, index.data, index.size, at, n_bytes, &bundle, &err) !=
        KAENA_OK)
        bundle = NULL;
    kaena_err_init(&err);
    if (kcc_import_saved_model_bytes(&arena, at + n_bytes, left - n_entries - n_bytes, data[0] & 1,
                                     bundle, NULL, NULL, &g, &info, NULL, &err) == KAENA_OK) {
        must(kgr_check(g, &err) == KAENA_OK);
        if (kgr_infer(g, /* infer_data= */ true, &err) == KAENA_OK)
            must(kgr_check(g, &err) == KAENA_OK);
    } else {
        must(err.what[0] != 0);
    }
    kcc_tf_bundle_close(bundle);
    kaena_strbuf_fini(&index);
    kaena_arena_fini(&arena);
    return 0;
}
