#include <math.h>
#include <stdlib.h>

#include "fuse.h"

/* y[c] = scale[c] * x[c] + shift[c] over the channels of a result. */
typedef struct affine {
    double *scale, *shift; /* [n], one allocation at scale */
    int64_t n;
} affine;

/* |c| as one number per channel (dimension |axis|) of |like|; false where it varies along another
 * axis. */
static bool per_channel(const kgr_value *c, const kgr_value *like, int32_t axis, double *out)
{
    const kaena_shape *s = &c->t.shape, *l = &like->t.shape;
    if (!kgr_is_const(c) || s->rank > l->rank || c->t.dtype != like->t.dtype)
        return false;
    int64_t n = 1;
    for (int32_t i = 0; i < s->rank; i++) {
        bool channel = i + l->rank - s->rank == axis;
        if (s->dim[i] != 1 && (!channel || s->dim[i] != l->dim[axis]))
            return false;
        n *= s->dim[i];
    }
    for (int64_t i = 0; i < l->dim[axis]; i++)
        out[i] = kop_get_float(&c->t, n == 1 ? 0 : (size_t)i);
    return true;
}

static bool of_batch_norm(const kgr_node *bn, affine *a)
{
    for (uint32_t i = 1; i < 5; i++)
        if (!kgr_is_const(bn->in[i]) || (int64_t)kop_elements(&bn->in[i]->t) != a->n)
            return false;
    double epsilon = (double)kgr_attr_get_float(bn, "epsilon", 1e-5f);
    for (int64_t i = 0; i < a->n; i++) {
        double gamma = kop_get_float(&bn->in[1]->t, (size_t)i),
               beta = kop_get_float(&bn->in[2]->t, (size_t)i),
               mean = kop_get_float(&bn->in[3]->t, (size_t)i),
               variance = kop_get_float(&bn->in[4]->t, (size_t)i);
        a->scale[i] = gamma / sqrt(variance + epsilon);
        a->shift[i] = beta - mean * a->scale[i];
    }
    return true;
}

/* What |user| does to |x|, if that is an affine function of each channel. */
static bool of_user(const kgr_node *user, const kgr_value *x, int32_t axis, affine *a)
{
    if (user->op == KOP_BatchNormalization)
        return axis == 1 && user->in[0] == x && of_batch_norm(user, a);
    bool left = user->in[0] == x;
    const kgr_value *c = user->in[left];
    if (user->op == KOP_Add || user->op == KOP_Sub) {
        if (!per_channel(c, x, axis, a->shift))
            return false;
        bool minus_x = user->op == KOP_Sub && !left, minus_c = user->op == KOP_Sub && left;
        for (int64_t i = 0; i < a->n; i++) {
            a->scale[i] = minus_x ? -1 : 1;
            a->shift[i] = minus_c ? -a->shift[i] : a->shift[i];
        }
        return true;
    }
    if (user->op != KOP_Mul && !(user->op == KOP_Div && left))
        return false;
    if (!per_channel(c, x, axis, a->scale))
        return false;
    for (int64_t i = 0; i < a->n; i++) {
        a->scale[i] = user->op == KOP_Div ? 1 / a->scale[i] : a->scale[i];
        a->shift[i] = 0;
    }
    return true;
}

/* |count| elements of |from|, from |at| on, times |scale|, into |to|. */
static void scale_run(kop_tensor *to, const kop_tensor *from, size_t at, size_t count, double scale)
{
    if (from->dtype == KAENA_F32) {
        const float *x = (const float *)from->data + at;
        float *y = (float *)to->data + at;
        for (size_t i = 0; i < count; i++)
            y[i] = (float)((double)x[i] * scale);
        return;
    }
    for (size_t i = at; i < at + count; i++)
        kop_set_float(to, i, kop_get_float(from, i) * scale);
}

/* |w| with every element times its output channel's scale: the first dimension of a Conv's weights,
 * the last of a Gemm's. */
static kgr_value *scaled_weights(kgr_graph *g, const kgr_value *w, const affine *a, bool first)
{
    kgr_value *r = kgr_value_add(g, w->name, w->t.dtype, &w->t.shape);
    size_t n = kop_elements(&w->t), channels = (size_t)a->n, run = first ? n / channels : 1;
    r->t.data = kaena_arena_array(g->arena, n, kaena_dtype_size(w->t.dtype));
    for (size_t at = 0; at < n;)
        for (size_t c = 0; c < channels; c++, at += run)
            scale_run(&r->t, &w->t, at, run, a->scale[c]);
    return r;
}

static void fold(kgr_graph *g, kgr_node *n, affine *a)
{
    bool scales = false;
    for (int64_t i = 0; i < a->n; i++)
        scales |= a->scale[i] != 1;
    if (scales)
        kgr_node_set_input(n, 1, scaled_weights(g, n->in[1], a, n->op == KOP_Conv));
    const kgr_value *bias = n->n_in > 2 ? n->in[2] : NULL;
    for (int64_t i = 0; bias && i < a->n; i++)
        a->shift[i] += a->scale[i] * kop_get_float(&bias->t, (size_t)i);
    kgr_value *fresh = kcc_const_floats(g, bias ? bias->name : "bias", n->in[1]->t.dtype,
                                        &(kaena_shape){1, {a->n}}, a->shift);
    if (n->n_in > 2)
        kgr_node_set_input(n, 2, fresh);
    else
        (void)kgr_node_add_input(g, n, fresh);
}

kaena_status kcc_fuse_affine(kgr_graph *g, kgr_node *n, kgr_node *user, bool *done, kaena_err *err)
{
    bool bias_is_constant = n->n_in < 3 || !n->in[2] || kgr_is_const(n->in[2]);
    if ((n->op != KOP_Conv && n->op != KOP_Gemm && n->op != KOP_MatMul) ||
        kgr_attr_find(n, "kaena.act") || kgr_attr_find(n, "kaena.scale") ||
        kgr_attr_find(n, "kaena.residual") || !kgr_is_const(n->in[1]) || !bias_is_constant ||
        !kaena_dtype_is_float(n->in[1]->t.dtype) || kgr_attr_find(n, "alpha") ||
        kgr_attr_find(n, "beta") || kgr_attr_find(n, "transB"))
        return KAENA_OK;
    if ((user->op != KOP_BatchNormalization && user->op != KOP_Add && user->op != KOP_Sub &&
         user->op != KOP_Mul && user->op != KOP_Div) ||
        !kcc_same_shape(user->out[0], n->out[0]) || kgr_attr_find(user, "kaena.act"))
        return KAENA_OK;
    /* A product's columns are the channels of its result. */
    int32_t axis = n->op == KOP_MatMul ? n->out[0]->t.shape.rank - 1 : 1;
    if (n->op == KOP_MatMul && (n->in[0]->t.shape.rank < 2 || n->in[1]->t.shape.rank < 2))
        return KAENA_OK;
    affine a = {.n = n->out[0]->t.shape.dim[axis]};
    a.scale = calloc((size_t)a.n * 2 + 1, sizeof(double));
    if (!a.scale)
        return KAENA_FAIL(err, RESOURCE_EXHAUSTED, "no memory to fuse '%s'", user->name);
    a.shift = a.scale + a.n;
    bool fits = a.n > 0 && of_user(user, n->out[0], axis, &a);
    for (int64_t i = 0; fits && i < a.n; i++)
        fits = isfinite(a.scale[i]) && isfinite(a.shift[i]);
    if (fits && kcc_bypass(g, user, n->out[0])) {
        fold(g, n, &a);
        *done = true;
    }
    free(a.scale);
    return KAENA_OK;
}
