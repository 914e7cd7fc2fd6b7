/* Fuzz target: the text form of graphs. What parses must pass the check, and survive printing and
 * the binary form unchanged. */
#include <stdlib.h>
#include <string.h>

#include "graph.h"

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
    kaena_arena_init(&arena, (size_t)256 << 20);
    kaena_err_init(&err);
    if (kgr_parse(&arena, (const char *)data, size, &g, &err) != KAENA_OK) {
        must(err.what[0] != 0);
        kaena_arena_fini(&arena);
        return 0;
    }
    kaena_strbuf first = {0}, second = {0}, third = {0}, bytes = {0};
    kgr_print(g, true, &first);
    must(kgr_parse(&arena, first.data, first.size, &g, &err) == KAENA_OK);
    kgr_print(g, true, &second);
    must(first.size == second.size && memcmp(first.data, second.data, first.size) == 0);
    kgr_serialise(g, &bytes);
    must(kgr_deserialise(&arena, bytes.data, bytes.size, &g, &err) == KAENA_OK);
    kgr_print(g, true, &third);
    must(first.size == third.size && memcmp(first.data, third.data, first.size) == 0);
    /* Inference and removal may refuse, not crash. */
    (void)!kgr_infer(g, true, &err);
    (void)kgr_remove_dead(g);
    must(kgr_check(g, &err) == KAENA_OK);
    kaena_strbuf_fini(&first);
    kaena_strbuf_fini(&second);
    kaena_strbuf_fini(&third);
    kaena_strbuf_fini(&bytes);
    kaena_arena_fini(&arena);
    return 0;
}
