/* Passes over nodes with bodies: the function of the graph stays. What they leave is in
 * tests/golden. */
#include <math.h>
#include <string.h>

#include "ktest.h"
#include "passes.h"

static const kcc_options options = {.num_tpbs = 4};

static kgr_graph *parse(kaena_arena *a, const char *text)
{
    kgr_graph *g = NULL;
    kaena_err err;
    KTEST_OK(err, kgr_parse(a, text, strlen(text), &g, &err));
    KTEST_OK(err, kgr_infer(g, true, &err));
    return g;
}

/* Evaluates |g| on random inputs; bools are |flag|. */
static kop_tensor *evaluate(kaena_arena *a, const kgr_graph *g, bool flag)
{
    kop_tensor *in = KAENA_NEW_N(a, kop_tensor, g->n_inputs + 1),
               *out = KAENA_NEW_N(a, kop_tensor, g->n_outputs + 1);
    kaena_err err;
    for (uint32_t i = 0; i < g->n_inputs; i++) {
        in[i] = g->inputs[i]->t;
        in[i].data = kaena_arena_array(a, kop_elements(&in[i]), kaena_dtype_size(in[i].dtype));
        if (in[i].dtype == KAENA_BOOL)
            memset(in[i].data, flag, kop_elements(&in[i]));
        else
            kgr_random_fill(&in[i], i + 1);
    }
    KTEST_OK(err, kgr_eval(g, in, out, &(kop_env){.arena = a}, &err));
    return out;
}

static void check_same(const kgr_graph *g, const kop_tensor *want, const kop_tensor *got)
{
    for (uint32_t i = 0; i < g->n_outputs; i++) {
        cr_assert(kaena_shape_equal(&want[i].shape, &got[i].shape));
        for (size_t k = 0; k < kop_elements(&want[i]); k++) {
            double w = kop_get_float(&want[i], k), x = kop_get_float(&got[i], k);
            cr_assert(fabs(w - x) <= 1e-5 * (1 + fabs(w)), "output %u, element %zu: %g, not %g", i,
                      k, x, w);
        }
    }
}

/* |in| and |out| are 0 or 1 for each direction, |axis| where what is collected goes. */
static void check_scan(int in, int out, int axis)
{
    kaena_arena a;
    kaena_arena_init(&a, 0);
    kaena_err err;
    const char *text = kaena_arena_printf(
        &a,
        "graph \"g\" { input %%s: float32[2,64] input %%x: float32[2,5,64] input %%b: float32[64]\n"
        "const %%w: float32[64,64] = random 3\n"
        "%%f: none[*], %%y: none[*] = Scan(%%s, %%x, %%w, %%b) {kaena.carried=1, "
        "num_scan_inputs=1, scan_input_axes=[-2], scan_input_directions=[%d], "
        "scan_output_axes=[%d], scan_output_directions=[%d]} body \"b\" {\n"
        "input %%s: none[*] input %%x: none[*] input %%w: none[*] input %%b: none[*]\n"
        "%%p: none[*] = MatMul(%%x, %%w) %%q: none[*] = Add(%%p, %%s) %%t: none[*] = Tanh(%%q)\n"
        "%%o: none[*] = Add(%%t, %%b) output %%t output %%o }\n"
        "output %%f output %%y }",
        in, axis, out);
    kgr_graph *g = parse(&a, text);
    kop_tensor *want = evaluate(&a, g, false);
    KTEST_OK(err, kcc_pass_scan(g, &options, &err));
    KTEST_OK(err, kgr_check(g, &err));
    for (const kgr_node *n = g->first; n; n = n->next)
        cr_assert(n->op != KOP_Scan, "a product is worth a loop");
    check_same(g, want, evaluate(&a, g, false));
    kaena_arena_fini(&a);
}

KTEST(passes_body, scan_as_loop)
{
    for (int in = 0; in < 2; in++)
        for (int out = 0; out < 2; out++)
            for (int axis = 0; axis < 3; axis++)
                check_scan(in, out, axis);
}

static const char nested[] =
    "graph \"g\" { input %c: bool[] input %x: float32[1,32,16,16]\n"
    "const %w: float32[32,32,1,1] = random 1 const %m: int64[] = {3} const %t: bool[] = {true}\n"
    "%y: none[*] = If(%c, %c, %x, %w, %m, %t) @\"outer\" body \"then\" {\n"
    "  input %c: none[*] input %x: none[*] input %w: none[*] input %m: none[*] input %t: none[*]\n"
    "  %r: none[*] = Loop(%m, %t, %x, %w) {kaena.carried=1} @\"loop\" body \"b\" {\n"
    "    input %i: none[*] input %t: none[*] input %v: none[*] input %w: none[*]\n"
    "    %k: none[*] = Conv(%v, %w) %z: none[*] = Tanh(%k) %on: none[*] = Identity(%t)\n"
    "    output %on output %z }\n"
    "  output %r\n"
    "} body \"else\" {\n"
    "  input %c: none[*] input %x: none[*] input %w: none[*] input %m: none[*] input %t: none[*]\n"
    "  %z: none[*] = Conv(%x, %w) output %z }\n"
    "output %y }";

static bool anything(const kgr_node *n, const char **reason)
{
    (void)reason;
    return n->op == KOP_Conv || n->op == KOP_Tanh;
}

static kaena_status simplify(kgr_graph *g, void *ctx, kaena_err *err)
{
    bool inlined = false;
    (void)ctx;
    KAENA_TRY(kcc_pass_fold(g, &options, err));
    KAENA_TRY(kcc_pass_bodies(g, &inlined, err));
    KAENA_TRY(kcc_pass_simplify(g, &options, err));
    KAENA_TRY(kcc_pass_bodies(g, &inlined, err));
    return kcc_pass_fuse(g, &options, err);
}

KTEST(passes_body, branches_and_loops)
{
    for (int flag = 0; flag < 2; flag++) {
        kaena_arena a;
        kaena_arena_init(&a, 0);
        kaena_err err;
        kgr_graph *g = parse(&a, nested);
        kop_tensor *want = evaluate(&a, g, flag);
        KTEST_OK(err, kgr_each_graph(g, simplify, NULL, &err));
        KTEST_OK(err, kgr_check(g, &err));
        check_same(g, want, evaluate(&a, g, flag));
        KTEST_OK(err, kcc_pass_partition(g, &options, anything, &err));
        KTEST_OK(err, kgr_check(g, &err));
        const kgr_node *outer = g->first;
        while (outer->op != KOP_If)
            outer = outer->next;
        cr_assert(outer->device == KGR_PLAN);
        for (uint32_t b = 0; b < 2; b++)
            for (const kgr_node *n = outer->body[b]->first; n; n = n->next)
                cr_assert(n->device == (n->op == KOP_Loop       ? KGR_PLAN
                                        : n->op == KOP_Identity ? KGR_HOST
                                                                : KGR_DEVICE));
        check_same(g, want, evaluate(&a, g, flag));
        kcc_partition p;
        kcc_partition_build(g, &p);
        for (uint32_t i = 0; i < p.n_steps; i++)
            cr_assert(!p.steps[i].by_plan || p.steps[i].n_nodes == 1);
        kaena_arena_fini(&a);
    }
}
