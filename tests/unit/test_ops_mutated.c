/* Valid calls of every operator with one thing or two made wrong: whatever comes back, nothing
 * crashes, and what succeeds agrees with what inference said. test_ops_hostile.c makes calls of
 * nothing but noise, which rarely get past the first checks of operators with many operands. */
#include "ops_agree.h"
#include "ops_samples.h"

#define ROUNDS 150 /* of each sample, in a type of its own each */
#define QUOTA (4u << 20)

static int64_t odd_int(void)
{
    static const int64_t odd[] = {
        INT64_MIN,        INT64_MAX,          -1, 0, 1, 2, 3, 7, -2, 100, INT64_C(1) << 31,
        INT64_C(1) << 40, -(INT64_C(1) << 40)};
    return odd[ops_below(sizeof odd / sizeof *odd)];
}

static double odd_float(void)
{
    static const double odd[] = {0, -1, 1e-30, 1e30, 0.5, NAN, INFINITY, -INFINITY, -3.5, 2};
    return odd[ops_below(sizeof odd / sizeof *odd)];
}

static kaena_dtype pick_type(uint32_t set)
{
    for (;;) {
        uint32_t t = ops_below(32);
        if (set & (1u << t))
            return (kaena_dtype)t;
    }
}

static void change_attribute(ops_call *c)
{
    kop_attr *a = &c->attr[ops_below(c->call.n_attr)];
    if (a->type == KOP_ATTR_INT)
        a->u.i = odd_int();
    else if (a->type == KOP_ATTR_FLOAT)
        a->u.f = (float)odd_float();
    else if (a->type == KOP_ATTR_STRING)
        a->u.s = ops_below(2) ? "bogus" : "";
    else if (a->n > 0 && ops_below(3) == 0)
        a->n--;
    else if (a->type == KOP_ATTR_INTS && a->n > 0)
        ((int64_t *)(uintptr_t)a->u.ints)[ops_below(a->n)] = odd_int();
    else if (a->type == KOP_ATTR_FLOATS && a->n > 0)
        ((float *)(uintptr_t)a->u.floats)[ops_below(a->n)] = (float)odd_float();
    else
        *a = c->attr[--c->call.n_attr];
}

/* Another type or shape, with data of that size. */
static void change_type(ops_call *c, kop_tensor *t)
{
    int64_t n;
    if (ops_below(3) == 0)
        t->dtype = pick_type(KOP_T_ALL);
    else if (ops_below(4) == 0 && t->shape.rank > 0)
        t->shape.rank--;
    else if (ops_below(4) == 0 && t->shape.rank < KAENA_MAX_RANK)
        t->shape.dim[t->shape.rank++] = 1 + ops_below(2);
    else if (t->shape.rank > 0)
        t->shape.dim[ops_below((uint32_t)t->shape.rank)] =
            ops_below(10) ? (int64_t)ops_below(5) : odd_int();
    t->data = NULL;
    if (!kaena_shape_elements(&t->shape, &n) || n > 4096)
        return;
    t->data = kaena_arena_array(&c->arena, (size_t)n, kaena_dtype_size(t->dtype));
    for (int64_t i = 0; i < n && t->dtype != KAENA_STRING; i++)
        kop_set_float(t, (size_t)i, (double)ops_below(4));
}

static void change_value(kop_tensor *t)
{
    size_t n = kop_elements(t);
    if (n == 0 || t->dtype == KAENA_STRING || !t->data)
        return;
    if (kaena_dtype_is_float(t->dtype))
        kop_set_float(t, ops_below((uint32_t)n), odd_float());
    else
        kop_set_int(t, ops_below((uint32_t)n), odd_int());
}

static void mutate(ops_call *c)
{
    uint32_t i = c->call.n_in ? ops_below(c->call.n_in) : 0;
    uint32_t what = ops_below(10);
    if ((what < 3 || c->call.n_in == 0) && c->call.n_attr > 0)
        change_attribute(c);
    else if (what < 6 && c->in_ptr[i])
        change_type(c, &c->in[i]);
    else if (what < 8 && c->in_ptr[i])
        change_value(&c->in[i]);
    else if (what == 8 && c->call.n_in > 0)
        c->in_ptr[i] = NULL;
    else if (c->call.n_in > 0)
        c->call.n_in--;
}

/* Inference alone, from types of which something is not known. */
static void forget(ops_call *c)
{
    kop_tensor *t = &c->in[ops_below(c->call.n_in)];
    t->data = NULL;
    if (ops_below(2))
        t->unranked = true;
    else if (t->shape.rank > 0)
        t->shape.dim[ops_below((uint32_t)t->shape.rank)] = KAENA_DIM_UNKNOWN;
    c->call.env = NULL;
    kaena_status status = kop_infer(&c->call);
    cr_assert(status == KAENA_OK || c->err.what[0], "%s failed without a message",
              kop_row_of(c->call.op)->name);
}

KTEST(ops_mutated, samples)
{
    ops_random_begin();
    for (size_t s = 0; s < OPS_N_SAMPLES; s++) {
        uint32_t good = 0;
        for (uint32_t round = 0; round < ROUNDS; round++) {
            ops_call *c = malloc(sizeof *c);
            ops_sample_call(c, &ops_samples[s], pick_type(ops_samples[s].types));
            for (uint32_t n = round ? 1 + ops_below(2) : 0; n > 0; n--)
                mutate(c);
            good += ops_try(&c->call, QUOTA);
            if (c->call.n_in > 0 && ops_below(3) == 0)
                forget(c);
            kaena_arena_fini(&c->arena);
            free(c);
        }
        cr_assert(good > 0, "%s was only ever refused", kop_row_of(ops_samples[s].op)->name);
    }
}
