/* Fuzz target: the compiler's passes over any graph that the text form can say. They may refuse it;
 * what they leave passes the check. */
#include <stdlib.h>

#include "passes.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define LARGEST ((int64_t)1 << 16) /* elements of a tensor: more would only be slow */

static void must(bool condition)
{
    if (!condition)
        abort();
}

/* Half of the operators, so that steps alternate. */
static bool every_other(const kgr_node *n, const char **reason)
{
    *reason = "an odd number";
    return (n->op & 1) == 0;
}

static bool is_small(const kgr_graph *g)
{
    for (uint32_t i = 0; i < g->n_values; i++) {
        const kop_tensor *t = &g->values[i]->t;
        int64_t n;
        if (!t->unranked && kaena_shape_known(&t->shape) &&
            (!kaena_shape_elements(&t->shape, &n) || n > LARGEST))
            return false;
    }
    return true;
}

static void run(kgr_graph *g, kcc_cast cast)
{
    static kaena_status (*const passes[])(kgr_graph *, const kcc_options *, kaena_err *) = {
        kcc_pass_infer, kcc_pass_quantise, kcc_pass_fold, kcc_pass_simplify, kcc_pass_fuse};
    const kcc_options opt = {.cast = cast, .num_tpbs = 1};
    kaena_err err;
    kaena_err_init(&err);
    for (size_t i = 0; i < sizeof passes / sizeof *passes; i++) {
        if (passes[i](g, &opt, &err) != KAENA_OK) {
            must(err.what[0] != 0);
            return;
        }
        must(kgr_check(g, &err) == KAENA_OK);
        if (!is_small(g))
            return;
    }
    kcc_partition p;
    if (kcc_pass_partition(g, &opt, every_other, &err) != KAENA_OK ||
        kcc_pass_cast(g, &opt, &err) != KAENA_OK)
        return;
    must(kgr_check(g, &err) == KAENA_OK);
    kcc_partition_build(g, &p);
    must(kgr_check(g, &err) == KAENA_OK);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    for (int cast = KCC_CAST_ALL; cast <= KCC_CAST_NONE; cast++) {
        kaena_arena arena;
        kgr_graph *g;
        kaena_arena_init(&arena, 0);
        if (kgr_parse(&arena, (const char *)data, size, &g, NULL) == KAENA_OK && is_small(g))
            run(g, (kcc_cast)cast);
        kaena_arena_fini(&arena);
    }
    return 0;
}
