/* Fuzz target: the importer of TensorFlow's frozen graphs, binary or, behind a '#', as text. What
 * it accepts must pass the graph's check, and inference over it ends in one way or the other. */
#include <stdlib.h>

#include "tf_import.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool condition)
{
    if (!condition)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    kaena_arena arena;
    kaena_err err;
    kgr_graph *g;
    kcc_import_info info;
    bool text = size > 0 && data[0] == '#'; /* a comment, and no field's tag */
    kaena_arena_init(&arena, (size_t)256 << 20);
    kaena_err_init(&err);
    if (kcc_import_tf_bytes(&arena, data, size, text, /* io= */ NULL, &g, &info, &err) ==
        KAENA_OK) {
        must(kgr_check(g, &err) == KAENA_OK);
        if (kgr_infer(g, /* infer_data= */ true, &err) == KAENA_OK)
            must(kgr_check(g, &err) == KAENA_OK);
    } else {
        must(err.what[0] != 0);
    }
    kaena_arena_fini(&arena);
    return 0;
}
