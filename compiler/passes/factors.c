#include "factors.h"

#include <math.h>

static bool is_float_node(const kgr_node *n)
{
    return n && n->device != KGR_HOST && n->n_out == 1 && kaena_dtype_is_float(n->out[0]->t.dtype);
}

/* The node that computes |v| for one reader alone. */
const kgr_node *kcc_sole(const kgr_value *v)
{
    return v && v->n_uses == 1 && !v->is_output && is_float_node(v->producer) ? v->producer : NULL;
}

static bool add_factor(kcc_factors *f, kgr_value *v, const kaena_shape *shape)
{
    if (f->n == KCC_MAX_FACTORS || !kcc_known(v) || !kaena_shape_equal(&v->t.shape, shape))
        return false;
    f->v[f->n++] = v;
    return true;
}

static bool collect(kcc_factors *f, kgr_value *v, const kgr_node *n, const kaena_shape *shape,
                    int depth)
{
    double c;
    if (n && depth < 8 && n->op == KOP_Mul && !n->n_attr) {
        for (uint32_t i = 0; i < 2; i++)
            if (kcc_uniform(n->in[i], &c)) {
                f->c *= c;
                return collect(f, n->in[1 - i], kcc_sole(n->in[1 - i]), shape, depth + 1);
            }
        return collect(f, n->in[0], kcc_sole(n->in[0]), shape, depth + 1) &&
               collect(f, n->in[1], kcc_sole(n->in[1]), shape, depth + 1);
    }
    if (n && depth < 8 && n->op == KOP_Div && !n->n_attr && kcc_uniform(n->in[1], &c) && c != 0) {
        f->c /= c;
        return collect(f, n->in[0], kcc_sole(n->in[0]), shape, depth + 1);
    }
    if (n && n->op == KOP_Pow && kcc_uniform(n->in[1], &c) && (c == 2 || c == 3)) {
        for (int i = 0; i < (int)c; i++)
            if (!add_factor(f, n->in[0], shape))
                return false;
        return true;
    }
    return add_factor(f, v, shape);
}

bool kcc_factors_of(const kgr_node *n, kcc_factors *out)
{
    *out = (kcc_factors){.c = 1};
    return is_float_node(n) && kcc_known(n->out[0]) &&
           collect(out, n->out[0], n, &n->out[0]->t.shape, 0) && isfinite(out->c);
}

bool kcc_factors_of_value(kgr_value *v, kcc_factors *out)
{
    *out = (kcc_factors){.c = 1};
    return kcc_known(v) && collect(out, v, kcc_sole(v), &v->t.shape, 0) && isfinite(out->c);
}

bool kcc_near(double a, double b, kaena_dtype t)
{
    double tolerance = t == KAENA_F32 || t == KAENA_F64 ? 1e-4 : 4e-3;
    return fabs(a - b) <= tolerance * fabs(b);
}
