/* The passes leave the function of a graph alone: random graphs and long ones. What each pass does
 * is in tests/golden. */
#include <math.h>
#include <string.h>

#include "ktest.h"
#include "passes.h"

static const kcc_options options = {.num_tpbs = 4};

/* --- Random graphs --------------------------------------------------------------------------- */

#define CHANNELS 4
#define PIXELS 6
#define POOL 64 /* values of one shape to choose from */

typedef struct builder {
    kaena_arena *arena;
    kgr_graph *g;
    uint64_t seed;
    kgr_value *values[POOL];
    uint32_t n_values;
} builder;

static uint32_t pick(builder *b, uint32_t n)
{
    b->seed = b->seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(b->seed >> 40) % n;
}

static kgr_value *random_const(builder *b, const kaena_shape *shape)
{
    kop_tensor t = {.dtype = KAENA_F32, .shape = *shape};
    t.data = kaena_arena_array(b->arena, kop_elements(&t), sizeof(float));
    kgr_random_fill(&t, b->seed);
    return kgr_const_add(b->g, "c", KAENA_F32, shape, t.data);
}

/* A constant in [0.5, 1.5) per channel, or one for all. */
static kgr_value *factor(builder *b, int32_t rank)
{
    kaena_shape s = {.rank = rank, .dim = {CHANNELS, 1, 1}};
    kgr_value *v = random_const(b, &s);
    for (size_t i = 0; i < kop_elements(&v->t); i++)
        kop_set_float(&v->t, i, 1 + kop_get_float(&v->t, i) / 2);
    return v;
}

static kgr_value *node(builder *b, kop_op op, uint32_t n_in, kgr_value **in)
{
    return kgr_node_add(b->g, NULL, op, NULL, NULL, in, n_in, NULL, 1)->out[0];
}

static kgr_value *unary(builder *b, kop_op op, kgr_value *x)
{
    return node(b, op, 1, &x);
}

static kgr_value *binary(builder *b, kop_op op, kgr_value *x, kgr_value *y)
{
    return pick(b, 2) && op != KOP_Div ? node(b, op, 2, (kgr_value *[]){y, x})
                                       : node(b, op, 2, (kgr_value *[]){x, y});
}

static kgr_value *transposed(builder *b, kgr_value *x, const int64_t perm[4])
{
    kgr_value *y = unary(b, KOP_Transpose, x);
    (void)kgr_attr_ints(b->g, y->producer, "perm", perm, 4);
    return y;
}

/* A convolution that keeps the shape: by a window of 1 or 3, with padding of its own or a Pad
 * before it. */
static kgr_value *conv(builder *b, kgr_value *x)
{
    int64_t k = pick(b, 2) ? 3 : 1;
    bool depthwise = pick(b, 4) == 0;
    bool pad = k == 3 && pick(b, 2);
    if (pad) {
        kgr_value *pads = kgr_const_i64(b->g, "p", (int64_t[]){0, 0, 1, 1, 0, 0, 1, 1}, 8);
        x = node(b, KOP_Pad, 2, (kgr_value *[]){x, pads});
    }
    kgr_value *w = random_const(b, &(kaena_shape){4, {CHANNELS, depthwise ? 1 : CHANNELS, k, k}});
    kgr_value *bias = pick(b, 2) ? random_const(b, &(kaena_shape){1, {CHANNELS}}) : NULL;
    kgr_value *y = node(b, KOP_Conv, bias ? 3 : 2, (kgr_value *[]){x, w, bias});
    if (k == 3 && !pad)
        (void)kgr_attr_ints(b->g, y->producer, "pads", (int64_t[]){1, 1, 1, 1}, 4);
    if (depthwise)
        (void)kgr_attr_int(b->g, y->producer, "group", CHANNELS);
    return y;
}

static kgr_value *batch_norm(builder *b, kgr_value *x)
{
    kgr_value *in[5] = {x};
    for (uint32_t i = 1; i < 5; i++)
        in[i] = factor(b, 1);
    return node(b, KOP_BatchNormalization, 5, in);
}

static kgr_value *max_pool(builder *b, kgr_value *x)
{
    kgr_value *y = unary(b, KOP_MaxPool, x);
    (void)kgr_attr_ints(b->g, y->producer, "kernel_shape", (int64_t[]){3, 3}, 2);
    (void)kgr_attr_ints(b->g, y->producer, "pads", (int64_t[]){1, 1, 1, 1}, 4);
    return y;
}

static kgr_value *hard_swish(builder *b, kgr_value *x)
{
    kgr_value *y = binary(b, KOP_Add, x, kgr_const_f32(b->g, "three", 3));
    y = node(b, KOP_Clip, 3,
             (kgr_value *[]){y, kgr_const_f32(b->g, "zero", 0), kgr_const_f32(b->g, "six", 6)});
    return binary(b, KOP_Div, binary(b, KOP_Mul, x, y), kgr_const_f32(b->g, "six", 6));
}

static kgr_value *relu6(builder *b, kgr_value *x)
{
    return node(b, KOP_Clip, 3,
                (kgr_value *[]){x, kgr_const_f32(b->g, "lo", 0), kgr_const_f32(b->g, "hi", 6)});
}

/* One more value of the common shape. */
static kgr_value *grow(builder *b)
{
    static const kop_op acts[] = {KOP_Relu, KOP_Sigmoid,     KOP_Tanh,      KOP_LeakyRelu,
                                  KOP_Elu,  KOP_HardSigmoid, KOP_HardSwish, KOP_Softplus};
    static const int64_t there[4] = {0, 2, 3, 1}, back[4] = {0, 3, 1, 2};
    /* The newest as a rule, so that chains form; sometimes an older one. */
    kgr_value *x = b->values[pick(b, 4) ? b->n_values - 1 : pick(b, b->n_values)];
    kgr_value *y = b->values[pick(b, b->n_values)];
    switch (pick(b, 13)) {
    case 0:
    case 1:
    case 2:
        return conv(b, x);
    case 3:
        return batch_norm(b, x);
    case 4:
    case 5:
        return unary(b, acts[pick(b, 8)], x);
    case 6:
        return binary(b, KOP_Add, x, y);
    case 7:
        return binary(b, pick(b, 2) ? KOP_Mul : KOP_Add, x, factor(b, 3));
    case 8:
        return binary(b, pick(b, 2) ? KOP_Div : KOP_Sub, x, factor(b, 3));
    case 9:
        return binary(b, KOP_Mul, x, unary(b, KOP_Sigmoid, x));
    case 10:
        return pick(b, 2) ? max_pool(b, x) : relu6(b, x);
    case 11:
        return transposed(b, transposed(b, x, there), back);
    default:
        return hard_swish(b, x);
    }
}

static kgr_graph *random_graph(kaena_arena *arena, uint64_t seed)
{
    builder b = {.arena = arena, .g = kgr_graph_create(arena, "random"), .seed = seed * 977 + 13};
    kaena_shape s = {4, {1, CHANNELS, PIXELS, PIXELS}};
    kgr_value *x = kgr_value_add(b.g, "x", KAENA_F32, &s);
    (void)kgr_input_add(b.g, x);
    b.values[b.n_values++] = x;
    uint32_t n = 4 + pick(&b, 16);
    for (; b.n_values < n; b.n_values++)
        b.values[b.n_values] = grow(&b);
    /* A head: mean, flatten, product, bias, softmax. */
    kgr_value *last = b.values[n - 1];
    kgr_value *axes = kgr_const_i64(b.g, "axes", (int64_t[]){2, 3}, 2);
    kgr_value *mean = node(&b, KOP_ReduceMean, 2, (kgr_value *[]){last, axes});
    kgr_value *flat = unary(&b, KOP_Flatten, mean);
    kgr_value *w = random_const(&b, &(kaena_shape){2, {CHANNELS, 3}});
    kgr_value *product = node(&b, KOP_MatMul, 2, (kgr_value *[]){flat, w});
    kgr_value *head = binary(&b, KOP_Add, product, random_const(&b, &(kaena_shape){1, {3}}));
    (void)kgr_output_add(b.g, unary(&b, KOP_Softmax, head));
    if (last->producer && !last->is_output)
        (void)kgr_output_add(b.g, last);
    return b.g;
}

/* --- Equivalence ----------------------------------------------------------------------------- */

static void evaluate(const kgr_graph *g, kaena_arena *arena, kop_tensor *out)
{
    kaena_err err;
    kop_tensor x = {.dtype = KAENA_F32, .shape = g->inputs[0]->t.shape};
    x.data = kaena_arena_array(arena, kop_elements(&x), sizeof(float));
    kgr_random_fill(&x, 99);
    KTEST_OK(err, kgr_eval(g, &x, out, &(kop_env){.arena = arena}, &err));
}

static void compare(const kop_tensor *want, const kop_tensor *have, uint64_t seed)
{
    double most = 0;
    cr_assert(kaena_shape_equal(&want->shape, &have->shape), "seed %lu", (unsigned long)seed);
    for (size_t i = 0; i < kop_elements(want); i++)
        most = fmax(most, fabs(kop_get_float(want, i)));
    for (size_t i = 0; i < kop_elements(want); i++) {
        double a = kop_get_float(want, i), b = kop_get_float(have, i);
        cr_assert(fabs(a - b) <= 1e-5 * most + 1e-6, "seed %lu, element %zu: %.9g, was %.9g",
                  (unsigned long)seed, i, b, a);
    }
}

static void run_all(kgr_graph *g, uint64_t seed)
{
    static kaena_status (*const passes[])(kgr_graph *, const kcc_options *, kaena_err *) = {
        kcc_pass_infer, kcc_pass_quantise, kcc_pass_fold, kcc_pass_simplify, kcc_pass_fuse};
    kaena_err err;
    for (size_t i = 0; i < sizeof passes / sizeof *passes; i++) {
        KTEST_OK(err, passes[i](g, &options, &err));
        kaena_err_init(&err);
        cr_assert(kgr_check(g, &err) == KAENA_OK, "seed %lu, pass %zu: %s", (unsigned long)seed, i,
                  err.what);
    }
}

KTEST(passes, keep_the_function_of_random_graphs)
{
    uint32_t before = 0, after = 0;
    for (uint64_t seed = 1; seed <= 300; seed++) {
        kaena_arena a;
        kaena_arena_init(&a, 0);
        kop_tensor want[2], have[2];
        kgr_graph *g = random_graph(&a, seed);
        evaluate(g, &a, want);
        before += g->n_nodes;
        run_all(g, seed);
        after += g->n_nodes;
        evaluate(g, &a, have);
        for (uint32_t i = 0; i < g->n_outputs; i++)
            compare(&want[i], &have[i], seed);
        /* Nothing is left to do: the passes are done after one round. */
        uint32_t n = g->n_nodes;
        run_all(g, seed);
        cr_assert(g->n_nodes == n, "seed %lu: a second round finds more", (unsigned long)seed);
        kaena_arena_fini(&a);
    }
    cr_assert(after < before * 2 / 3, "%u nodes became %u", before, after);
}

/* What fuse and simplify do may not depend on anything but the graph (the bits are defined). */
KTEST(passes, fusion_depends_on_no_option)
{
    for (uint64_t seed = 1; seed <= 20; seed++) {
        kaena_strbuf first = {0};
        for (uint32_t variant = 0; variant < 6; variant++) {
            kaena_arena a;
            kaena_arena_init(&a, 0);
            kaena_err err;
            kcc_options opt = {.cast = (kcc_cast)(variant % 3),
                               .optimize = (kcc_optimize)(variant / 3),
                               .num_tpbs = 1 + variant * 3};
            kgr_graph *g = random_graph(&a, seed);
            kaena_strbuf text = {0};
            KTEST_OK(err, kcc_pass_infer(g, &opt, &err));
            KTEST_OK(err, kcc_pass_fold(g, &opt, &err));
            KTEST_OK(err, kcc_pass_simplify(g, &opt, &err));
            KTEST_OK(err, kcc_pass_fuse(g, &opt, &err));
            kgr_print(g, true, variant ? &text : &first);
            if (variant)
                cr_assert_str_eq(text.data, first.data);
            kaena_strbuf_fini(&text);
            kaena_arena_fini(&a);
        }
        kaena_strbuf_fini(&first);
    }
}

/* --- Device and host ------------------------------------------------------------------------- */

static bool no_sigmoid(const kgr_node *n, const char **reason)
{
    *reason = "a test";
    return n->op != KOP_Sigmoid && n->op != KOP_Tanh && n->op != KOP_Softmax;
}

/* Each node stands in one step, after all it reads; steps of one kind do not follow each other;
 * what a step reads is what others give. */
static void check_steps(const kgr_graph *g, const kcc_partition *p)
{
    uint8_t *given = calloc(g->n_values, 1);
    const kgr_node *n = g->first;
    uint32_t count = 0;
    for (uint32_t i = 0; i < g->n_inputs; i++)
        given[g->inputs[i]->id] = 1;
    for (uint32_t i = 0; i < p->n_steps; i++) {
        const kcc_step *s = &p->steps[i];
        cr_assert(s->n_nodes > 0 && s->n_out > 0);
        cr_assert(i == 0 || p->steps[i - 1].on_device != s->on_device);
        for (uint32_t j = 0; j < s->n_in; j++)
            cr_assert(given[s->in[j]->id], "%s is not there yet", s->in[j]->name);
        for (uint32_t j = 0; j < s->n_nodes; j++, n = n->next, count++) {
            cr_assert(s->nodes[j] == n && (n->device == KGR_DEVICE) == s->on_device);
            cr_assert(n->device == KGR_DEVICE || n->reason);
        }
        for (uint32_t j = 0; j < s->n_out; j++)
            given[s->out[j]->id] = 1;
    }
    cr_assert(count == g->n_nodes && count == p->n_device_nodes + p->n_host_nodes);
    for (uint32_t i = 0; i < g->n_outputs; i++)
        cr_assert(given[g->outputs[i]->id]);
    free(given);
}

/* What cast promises of every operand and result. */
static void check_types(const kgr_graph *g, kcc_cast mode)
{
    for (uint32_t i = 0; i < g->n_inputs; i++)
        cr_assert(g->inputs[i]->t.dtype == KAENA_F32);
    for (uint32_t i = 0; i < g->n_outputs; i++)
        cr_assert(g->outputs[i]->t.dtype == KAENA_F32);
    for (const kgr_node *n = g->first; n; n = n->next) {
        for (uint32_t i = 0; i < n->n_in && n->device == KGR_HOST; i++)
            cr_assert(!n->in[i] || n->in[i]->t.dtype != KAENA_BF16, "%s", n->name);
        if (kcc_is_pe(n) && n->device == KGR_DEVICE && mode != KCC_CAST_NONE)
            cr_assert(n->in[0]->t.dtype == KAENA_BF16 && n->in[1]->t.dtype == KAENA_BF16);
        if (mode == KCC_CAST_NONE)
            cr_assert(n->out[0]->t.dtype == KAENA_F32);
        if (n->op == KOP_Cast)
            cr_assert(kgr_attr_get_int(n, "to", 0) == n->out[0]->t.dtype);
        if (n->op == KOP_MaxPool)
            cr_assert(n->in[0]->t.dtype == n->out[0]->t.dtype);
    }
}

KTEST(passes, partition_and_cast_random_graphs)
{
    for (uint64_t seed = 1; seed <= 200; seed++)
        for (uint32_t mode = 0; mode < 3; mode++) {
            kaena_arena a;
            kaena_arena_init(&a, 0);
            kaena_err err;
            kcc_options opt = {.cast = (kcc_cast)mode, .num_tpbs = 1};
            kgr_graph *g = random_graph(&a, seed);
            run_all(g, seed);
            kcc_partition p;
            KTEST_OK(err, kcc_pass_partition(g, &opt, no_sigmoid, &err));
            KTEST_OK(err, kcc_pass_cast(g, &opt, &err));
            KTEST_OK(err, kgr_check(g, &err));
            kcc_partition_build(g, &p);
            KTEST_OK(err, kgr_check(g, &err));
            check_steps(g, &p);
            check_types(g, opt.cast);
            kaena_arena_fini(&a);
        }
}

/* --- Size ------------------------------------------------------------------------------------ */

/* A chain of |n| convolutions with all that follows them, whose every value the last nodes read
 * again. What is not near-linear would not end within the test's limit. */
KTEST(passes, long_graphs)
{
    kaena_arena a;
    kaena_arena_init(&a, 0);
    builder b = {.arena = &a, .g = kgr_graph_create(&a, "long"), .seed = 1};
    kgr_value *x =
        kgr_value_add(b.g, "x", KAENA_F32, &(kaena_shape){4, {1, CHANNELS, PIXELS, PIXELS}});
    (void)kgr_input_add(b.g, x);
    kgr_value *in = x;
    for (uint32_t i = 0; i < 5000; i++) {
        kgr_value *y = unary(&b, KOP_Relu, batch_norm(&b, conv(&b, x)));
        x = binary(&b, KOP_Add, y, i % 2 ? x : in);
        if (i % 50 == 0)
            x = unary(&b, KOP_Sigmoid, x);
    }
    (void)kgr_output_add(b.g, x);
    uint32_t before = b.g->n_nodes;
    run_all(b.g, 0);
    cr_assert(b.g->n_nodes < before / 3, "%u nodes became %u", before, b.g->n_nodes);
    kcc_partition p;
    kaena_err err;
    KTEST_OK(err, kcc_pass_partition(b.g, &options, no_sigmoid, &err));
    KTEST_OK(err, kcc_pass_cast(b.g, &options, &err));
    kcc_partition_build(b.g, &p);
    KTEST_OK(err, kgr_check(b.g, &err));
    check_steps(b.g, &p);
    kaena_arena_fini(&a);
}
