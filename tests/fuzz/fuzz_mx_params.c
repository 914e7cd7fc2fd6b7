/* Fuzz target: MXNet's parameters, by themselves and under a small network that reads some. */
#include <stdlib.h>
#include <string.h>

#include "mx_import.h"
#include "mx_params.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool condition)
{
    if (!condition)
        abort();
}

/* What an arena takes at once. */
#define FIRST_BLOCK ((size_t)128 << 10)

static const char symbol[] =
    "{\"nodes\":[{\"op\":\"null\",\"name\":\"data\",\"inputs\":[],"
    "\"attrs\":{\"__shape__\":\"(1, 2, 3, 3)\"}},"
    "{\"op\":\"null\",\"name\":\"w\",\"inputs\":[]},"
    "{\"op\":\"Convolution\",\"name\":\"c\",\"inputs\":[[0,0],[1,0]],"
    "\"attrs\":{\"kernel\":\"(1, 1)\",\"num_filter\":\"2\",\"no_bias\":\"True\"}},"
    "{\"op\":\"BatchNorm\",\"name\":\"bn\",\"inputs\":[[2,0]]}],\"heads\":[[3,0]]}";

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    kaena_arena arena;
    kaena_err err;
    kgr_graph *g;
    kcc_import_info info;
    mx_params p;
    kaena_arena_init(&arena, (size_t)256 << 20);
    kaena_err_init(&err);
    if (mx_params_parse(&arena, data, size, &p, &err) == KAENA_OK) {
        must(arena.used <= FIRST_BLOCK + 512 * size);
        /* Every array lies inside of the file. */
        for (uint32_t i = 0; i < p.n; i++) {
            const uint8_t *at = p.list[i].data;
            must(!at || (at >= data && p.list[i].bytes <= (size_t)(data + size - at)));
        }
    } else {
        must(err.what[0] != 0);
    }
    kaena_err_init(&err);
    if (kcc_import_mx_bytes(&arena, symbol, strlen(symbol), data, size, NULL, &g, &info, &err) ==
        KAENA_OK)
        must(kgr_check(g, &err) == KAENA_OK);
    else
        must(err.what[0] != 0);
    kaena_arena_fini(&arena);
    return 0;
}
