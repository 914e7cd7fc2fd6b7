/* Layer normalisation spelled out: (x - mean) / sqrt(mean of the square + epsilon), and what scales
 * and shifts it, becomes one node. */
#include <math.h>

#include "factors.h"
#include "simplify.h"

#define INNER                                                                                      \
    (-1) /* the axes between the first and the last: those of each image, channels last            \
          */

/* v = mean of |*of| over the last axes, from |*axis| on, or over the inner ones; they stay as 1. */
static bool is_mean(const kgr_value *v, kgr_value **of, int32_t *axis)
{
    const kgr_node *n = kcc_made_by(v, KOP_ReduceMean);
    int64_t axes[KAENA_MAX_RANK];
    if (!n || !kgr_attr_get_int(n, "keepdims", 1) || n->n_in < 2 || !n->in[1] ||
        !kcc_known(n->in[0]))
        return false;
    int32_t rank = n->in[0]->t.shape.rank, count = kcc_const_ints(n->in[1], axes, KAENA_MAX_RANK);
    uint32_t reduced = 0;
    for (int32_t i = 0; i < count; i++) {
        int32_t a;
        if (!kop_axis(axes[i], rank, &a))
            return false;
        reduced |= 1u << a;
    }
    /* All of the last ones and no other. */
    for (*axis = rank; *axis > 0 && reduced >> (*axis - 1) & 1;)
        --*axis;
    *of = n->in[0];
    if (rank >= 3 && reduced == (1u << (rank - 1)) - 2) {
        *axis = INNER;
        return true;
    }
    return count > 0 && *axis < rank && reduced == ((1u << rank) - 1) >> *axis << *axis;
}

/* v = x - mean(x) */
static bool is_centred(const kgr_value *v, kgr_value **x, int32_t *axis)
{
    const kgr_node *n = kcc_made_by(v, KOP_Sub);
    kgr_value *of;
    if (!n || !is_mean(n->in[1], &of, axis) || of != n->in[0])
        return false;
    *x = of;
    return true;
}

/* v = y^2; gives y. */
static bool is_square(const kgr_value *v, kgr_value **y)
{
    const kgr_node *n = v->producer;
    if (!n || n->device == KGR_HOST)
        return false;
    *y = n->in[0];
    return (n->op == KOP_Mul && n->in[0] == n->in[1]) ||
           (n->op == KOP_Pow && kcc_uniform_is(n->in[1], 2));
}

/* What divides: the root of a mean square plus epsilon. */
typedef struct deviation {
    kgr_value *of; /* whose squares */
    int32_t axis;
    double epsilon;
} deviation;

static bool is_square_plus(const kgr_value *v, deviation *d)
{
    const kgr_node *add = kcc_made_by(v, KOP_Add);
    kgr_value *square;
    for (uint32_t i = 0; add && i < 2; i++)
        if (kcc_uniform(add->in[i], &d->epsilon) && is_mean(add->in[1 - i], &square, &d->axis))
            return d->epsilon >= 0 && is_square(square, &d->of);
    return false;
}

/* v = sqrt(...) */
static bool is_root(const kgr_value *v, deviation *d)
{
    const kgr_node *n = v->producer;
    if (!n || n->device == KGR_HOST)
        return false;
    return (n->op == KOP_Sqrt || (n->op == KOP_Pow && kcc_uniform_is(n->in[1], 0.5))) &&
           is_square_plus(n->in[0], d);
}

/* v = 1 / sqrt(...) */
static bool is_inverse_root(const kgr_value *v, deviation *d)
{
    const kgr_node *n = v->producer;
    if (!n || n->device == KGR_HOST)
        return false;
    if (n->op == KOP_Pow && kcc_uniform_is(n->in[1], -0.5))
        return is_square_plus(n->in[0], d);
    if (n->op == KOP_Reciprocal)
        return is_root(n->in[0], d);
    return n->op == KOP_Div && kcc_uniform_is(n->in[0], 1) && is_root(n->in[1], d);
}

/* Of |v|, which is normalised by |d|: the value whose rows it is, and whether its mean was taken
 * away. */
static bool agrees(kgr_value *v, const deviation *d, kgr_value **x, bool *centred)
{
    int32_t axis;
    kgr_value *of;
    *centred = is_centred(v, x, &axis);
    if (*centred) /* the squares may be of another node that does the same */
        return axis == d->axis &&
               (d->of == v || (is_centred(d->of, &of, &axis) && of == *x && axis == d->axis));
    *x = v;
    return d->of == v;
}

/* |n| channels of one value. */
static kgr_value *all(kgr_graph *g, const char *name, kaena_dtype t, int64_t n, double value)
{
    kgr_value *v = kgr_value_add(g, name, t, &(kaena_shape){1, {n}});
    v->t.data = kaena_arena_array(g->arena, (size_t)n, kaena_dtype_size(t));
    for (int64_t i = 0; i < n; i++)
        kop_set_float(&v->t, (size_t)i, value);
    return v;
}

/* The channels come first, images are normalised, the channels go last again. */
static kaena_status make_instance_norm(kgr_graph *g, kgr_node *n, kgr_value *x, const deviation *d,
                                       kgr_value *scale, kgr_value *bias, kaena_err *err)
{
    int32_t rank = x->t.shape.rank;
    int64_t to[KAENA_MAX_RANK], back[KAENA_MAX_RANK], channels = x->t.shape.dim[rank - 1];
    for (int32_t i = 0; i < rank; i++) {
        to[i] = i == 0 ? 0 : i == 1 ? rank - 1 : i - 1;
        back[i] = i == 0 ? 0 : i == rank - 1 ? 1 : i + 1;
    }
    kgr_node *turned, *norm;
    KAENA_TRY(kcc_insert(g, n, KOP_Transpose, n->name, &x, 1, &turned, err));
    if (!kgr_attr_ints(g, turned, "perm", to, (uint32_t)rank))
        return KAENA_FAIL(err, RESOURCE_EXHAUSTED, "no memory for node '%s'", n->name);
    KAENA_TRY(kgr_infer_node(turned, err));
    kgr_value *in[3] = {turned->out[0], scale, bias};
    in[1] = scale ? scale : all(g, "ones", x->t.dtype, channels, 1);
    in[2] = bias ? bias : all(g, "zeros", x->t.dtype, channels, 0);
    KAENA_TRY(kcc_insert(g, n, KOP_InstanceNormalization, n->name, in, 3, &norm, err));
    kgr_node_cut_inputs(n, 1);
    kgr_node_set_input(n, 0, norm->out[0]);
    n->op = KOP_Transpose;
    n->n_attr = 0;
    if (!kgr_attr_float(g, norm, "epsilon", (float)d->epsilon) ||
        !kgr_attr_ints(g, n, "perm", back, (uint32_t)rank))
        return KAENA_FAIL(err, RESOURCE_EXHAUSTED, "no memory for node '%s'", n->name);
    return KAENA_OK;
}

static kaena_status make_norm(kgr_graph *g, kgr_node *n, kgr_value *x, const deviation *d,
                              bool centred, kgr_value *scale, kgr_value *bias, kaena_err *err)
{
    if (d->axis == INNER)
        return make_instance_norm(g, n, x, d, scale, bias, err);
    if (!scale) {
        kaena_shape shape = {.rank = 0};
        for (int32_t i = d->axis; i < x->t.shape.rank; i++)
            shape.dim[shape.rank++] = x->t.shape.dim[i];
        size_t count = 1;
        for (int32_t i = 0; i < shape.rank; i++)
            count *= (size_t)shape.dim[i];
        scale = kgr_value_add(g, "ones", x->t.dtype, &shape);
        scale->t.data = kaena_arena_array(g->arena, count, kaena_dtype_size(x->t.dtype));
        for (size_t i = 0; i < count; i++)
            kop_set_float(&scale->t, i, 1);
    }
    kgr_node_cut_inputs(n, 1);
    kgr_node_set_input(n, 0, x);
    n->op = centred ? KOP_LayerNormalization : KOP_RMSNormalization;
    n->n_attr = 0;
    if (!kgr_node_add_input(g, n, scale) || (bias && !kgr_node_add_input(g, n, bias)) ||
        !kgr_attr_int(g, n, "axis", d->axis) || !kgr_attr_float(g, n, "epsilon", (float)d->epsilon))
        return KAENA_FAIL(err, RESOURCE_EXHAUSTED, "no memory for node '%s'", n->name);
    return KAENA_OK;
}

/* A constant that scales or shifts the normalised dimensions alone, in their shape. */
static bool is_affine(const kgr_value *c, const kgr_value *x, int32_t axis)
{
    if (!kgr_is_const(c) || c->t.dtype != x->t.dtype || c->t.shape.rank > x->t.shape.rank)
        return false;
    if (axis == INNER) /* of channels */
        axis = x->t.shape.rank - 1;
    int32_t normal = x->t.shape.rank - axis;
    int64_t count = 1;
    for (int32_t i = 0; i < c->t.shape.rank; i++) {
        int32_t at = i + x->t.shape.rank - c->t.shape.rank;
        if (at < axis ? c->t.shape.dim[i] != 1 : c->t.shape.dim[i] != x->t.shape.dim[at])
            return false;
        count *= c->t.shape.dim[i];
    }
    return c->t.shape.rank >= normal && count > 0;
}

/* |c| in the shape of the normalised dimensions, times |with| where there is one. */
static kgr_value *reshaped(kgr_graph *g, const kgr_value *c, const kgr_value *with, int32_t axis,
                           const kgr_value *x)
{
    kaena_shape shape = {.rank = 0};
    for (int32_t i = axis == INNER ? x->t.shape.rank - 1 : axis; i < x->t.shape.rank; i++)
        shape.dim[shape.rank++] = x->t.shape.dim[i];
    size_t n = kop_elements(&c->t);
    kgr_value *r = kgr_value_add(g, c->name, c->t.dtype, &shape);
    r->t.data = kaena_arena_array(g->arena, n, kaena_dtype_size(c->t.dtype));
    for (size_t i = 0; i < n; i++)
        kop_set_float(&r->t, i, kop_get_float(&c->t, i) * (with ? kop_get_float(&with->t, i) : 1));
    return r;
}

/* TensorFlow's form: x * (r * scale) + (bias - mean * (r * scale)). */
static bool is_folded(const kgr_node *n, deviation *d, kgr_value **x, kgr_value **scale,
                      kgr_value **bias)
{
    for (uint32_t i = 0; n->op == KOP_Add && i < 2; i++) {
        const kgr_node *mul = kcc_made_by(n->in[i], KOP_Mul),
                       *sub = kcc_made_by(n->in[1 - i], KOP_Sub),
                       *shift = sub ? kcc_made_by(sub->in[1], KOP_Mul) : NULL;
        for (uint32_t k = 0; mul && shift && k < 2; k++) {
            kgr_value *factor = mul->in[1 - k], *of;
            const kgr_node *product = kcc_made_by(factor, KOP_Mul);
            int32_t axis, other;
            *x = mul->in[k];
            if (!product || (shift->in[0] != factor && shift->in[1] != factor) ||
                !is_mean(shift->in[shift->in[0] == factor], &of, &axis) || of != *x)
                continue;
            for (uint32_t s = 0; s < 2; s++)
                if (is_inverse_root(product->in[s], d) && d->axis == axis &&
                    is_centred(d->of, &of, &other) && of == *x && other == axis &&
                    is_affine(product->in[1 - s], *x, axis) && is_affine(sub->in[0], *x, axis)) {
                    *scale = product->in[1 - s];
                    *bias = sub->in[0];
                    return true;
                }
        }
    }
    return false;
}

kaena_status kcc_rule_layer_norm(kgr_graph *g, kgr_node *n, bool *changed, kaena_err *err)
{
    deviation d;
    kgr_value *x, *scale, *bias;
    bool centred, found = false;
    if (n->n_attr || !kaena_dtype_is_float(n->out[0]->t.dtype))
        return KAENA_OK;
    if (is_folded(n, &d, &x, &scale, &bias)) {
        *changed = true;
        scale = reshaped(g, scale, NULL, d.axis, x);
        bias = reshaped(g, bias, NULL, d.axis, x);
        return make_norm(g, n, x, &d, true, scale, bias, err);
    }
    for (uint32_t i = 0; i < (n->op == KOP_Div ? 1u : 2u) && n->op != KOP_Add && !found; i++)
        found = (n->op == KOP_Div ? is_root(n->in[1], &d) : is_inverse_root(n->in[1 - i], &d)) &&
                agrees(n->in[i], &d, &x, &centred);
    if (!found || !kcc_same_shape(x, n->out[0]) || (d.axis == INNER && !centred))
        return KAENA_OK;
    *changed = true;
    return make_norm(g, n, x, &d, centred, NULL, NULL, err);
}

kaena_status kcc_rule_affine_norm(kgr_graph *g, kgr_node *n, bool *changed, kaena_err *err)
{
    if (n->n_attr)
        return KAENA_OK;
    for (uint32_t i = 0; i < 2; i++) {
        kgr_node *norm = kcc_made_by(n->in[i], KOP_LayerNormalization);
        if (!norm && n->op == KOP_Mul)
            norm = kcc_made_by(n->in[i], KOP_RMSNormalization);
        const kgr_value *c = n->in[1 - i];
        if (!norm || norm->n_out != 1 || kgr_only_user(norm->out[0]) != n ||
            !kcc_same_shape(norm->out[0], n->out[0]))
            continue;
        int32_t axis;
        const kgr_value *x = norm->in[0];
        if (!kop_axis(kgr_attr_get_int(norm, "axis", -1), x->t.shape.rank, &axis) ||
            !is_affine(c, x, axis) || (norm->n_in > 2 && norm->in[2]))
            continue;
        kgr_value *vector;
        if (n->op == KOP_Mul) {
            if (!is_affine(norm->in[1], x, axis))
                continue;
            vector = reshaped(g, c, norm->in[1], axis, x);
        } else {
            vector = reshaped(g, c, NULL, axis, x);
        }
        if (!kcc_bypass(g, n, norm->out[0]))
            continue;
        if (n->op == KOP_Mul)
            kgr_node_set_input(norm, 1, vector);
        else if (norm->n_in > 2)
            kgr_node_set_input(norm, 2, vector);
        else if (!kgr_node_add_input(g, norm, vector))
            return KAENA_FAIL(err, RESOURCE_EXHAUSTED, "no memory for node '%s'", norm->name);
        *changed = true;
        return KAENA_OK;
    }
    return KAENA_OK;
}
