/* Fuzz target: --io-config, as JSON and as protobuf text. A { first says JSON; what is accepted
 * has known shapes, unique names and types we have. */
#include <stdlib.h>
#include <string.h>

#include "io_config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool condition)
{
    if (!condition)
        abort();
}

static void check(const kcc_io_config *c)
{
    for (uint32_t i = 0; i < c->n_inputs; i++) {
        must(kaena_shape_known(&c->inputs[i].shape));
        must(kcc_io_config_input(c, c->inputs[i].name) == &c->inputs[i]);
    }
    for (uint32_t i = 0; i < c->n_outputs && i < 64; i++)
        for (uint32_t k = 0; k < i; k++)
            must(strcmp(c->outputs[i], c->outputs[k]) != 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    kaena_arena arena;
    kaena_err err;
    kcc_io_config c;
    if (size == 0)
        return 0;
    kaena_arena_init(&arena, (size_t)64 << 20);
    kaena_err_init(&err);
    const char *text = (const char *)data + 1;
    kaena_status s = data[0] == '{'
                         ? kcc_io_config_parse_json(&arena, (const char *)data, size, &c, &err)
                         : kcc_io_config_parse_pbtxt(&arena, text, size - 1, &c, &err);
    if (s == KAENA_OK)
        check(&c);
    else
        must(err.what[0] != 0);
    kaena_arena_fini(&arena);
    return 0;
}
