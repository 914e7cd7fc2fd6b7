/* Fuzz target: the ONNX importer. What it accepts must pass the graph's check, and inference over
 * it ends in one way or the other. */
#include <stdlib.h>

#include "onnx_import.h"

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
    kaena_arena_init(&arena, (size_t)256 << 20);
    kaena_err_init(&err);
    if (kcc_import_onnx_bytes(&arena, data, size, /* dir= */ NULL, /* io= */ NULL, &g, &info,
                              &err) == KAENA_OK) {
        must(kgr_check(g, &err) == KAENA_OK);
        if (kgr_infer(g, /* infer_data= */ true, &err) == KAENA_OK)
            must(kgr_check(g, &err) == KAENA_OK);
    } else {
        must(err.what[0] != 0);
    }
    kaena_arena_fini(&arena);
    return 0;
}
