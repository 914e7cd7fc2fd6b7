/* Fuzz target: MXNet's symbol.json, without parameters: all variables become inputs. What is
 * accepted must pass the graph's check. */
#include <stdlib.h>

#include "mx_import.h"

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
    if (kcc_import_mx_bytes(&arena, data, size, NULL, 0, /* io= */ NULL, &g, &info, &err) ==
        KAENA_OK)
        must(kgr_check(g, &err) == KAENA_OK);
    else
        must(err.what[0] != 0);
    kaena_arena_fini(&arena);
    return 0;
}
