/* The Gaussian error linear unit in the spellings of exporters. */
#include <math.h>

#include "factors.h"
#include "simplify.h"

#define SQRT_2_OVER_PI 0.79788456080286536
#define CUBE 0.044715

/* The constant of v = c + other, in either order. */
static bool plus_const(const kgr_node *n, double *c, kgr_value **other)
{
    if (!n || n->op != KOP_Add || n->n_attr)
        return false;
    for (uint32_t i = 0; i < 2; i++)
        if (kcc_uniform(n->in[i], c)) {
            *other = n->in[1 - i];
            return true;
        }
    return false;
}

/* All factors are one value. */
static bool power_of(const kcc_factors *f, kgr_value **x)
{
    for (int i = 1; i < f->n; i++)
        if (f->v[i] != f->v[0])
            return false;
    *x = f->n ? f->v[0] : NULL;
    return f->n > 0;
}

/* v = sqrt(2 / pi) * (x + 0.044715 x^3), multiplied out or not. */
static bool is_tanh_argument(kgr_value *v, kgr_value **x)
{
    kcc_factors f, a, b;
    kaena_dtype t = v->t.dtype;
    double one;
    kgr_value *square, *y, *z;
    if (!kcc_factors_of_value(v, &f))
        return false;
    /* c * x * (1 + k * x * x) */
    for (int i = 0; i < 2 && f.n == 2; i++)
        if (plus_const(kcc_sole(f.v[i]), &one, &square) && kcc_factors_of_value(square, &a) &&
            a.n == 2 && power_of(&a, x) && *x == f.v[1 - i])
            return kcc_near(f.c * one, SQRT_2_OVER_PI, t) &&
                   kcc_near(f.c * a.c, SQRT_2_OVER_PI * CUBE, t);
    /* c * (x + k * x^3) */
    const kgr_node *sum = f.n == 1 ? kcc_sole(f.v[0]) : NULL;
    if (!sum || sum->op != KOP_Add || sum->n_attr)
        return false;
    for (uint32_t i = 0; i < 2; i++)
        if (kcc_factors_of_value(sum->in[i], &a) && kcc_factors_of_value(sum->in[1 - i], &b) &&
            a.n == 1 && b.n == 3 && power_of(&a, &y) && power_of(&b, &z) && y == z) {
            *x = y;
            return kcc_near(f.c * a.c, SQRT_2_OVER_PI, t) &&
                   kcc_near(f.c * b.c, SQRT_2_OVER_PI * CUBE, t);
        }
    return false;
}

/* v = c * (1 + erf(x / sqrt(2))), or with tanh. */
static bool is_gate(kgr_value *v, double *c, kgr_value **x, bool *tanh)
{
    kgr_value *curve;
    kcc_factors f, argument;
    if (!plus_const(kcc_sole(v), c, &curve) || !kcc_factors_of_value(curve, &f) || f.n != 1 ||
        !kcc_near(f.c, *c, v->t.dtype))
        return false;
    const kgr_node *n = kcc_sole(f.v[0]);
    *tanh = n && n->op == KOP_Tanh;
    if (*tanh)
        return is_tanh_argument(n->in[0], x);
    if (!n || n->op != KOP_Erf || !kcc_factors_of_value(n->in[0], &argument) || argument.n != 1)
        return false;
    *x = argument.v[0];
    return kcc_near(argument.c, M_SQRT1_2, v->t.dtype);
}

kaena_status kcc_rule_gelu(kgr_graph *g, kgr_node *n, bool *changed, kaena_err *err)
{
    kcc_factors f;
    if (n->n_attr || !kcc_factors_of(n, &f) || f.n != 2)
        return KAENA_OK;
    for (int i = 0; i < 2; i++) {
        double c;
        bool tanh;
        kgr_value *x;
        if (!is_gate(f.v[i], &c, &x, &tanh) || x != f.v[1 - i] ||
            !kcc_near(f.c * c, 0.5, n->out[0]->t.dtype))
            continue;
        kgr_node_cut_inputs(n, 1);
        kgr_node_set_input(n, 0, x);
        n->op = KOP_Gelu;
        if (tanh && !kgr_attr_string(g, n, "approximate", "tanh"))
            return KAENA_FAIL(err, RESOURCE_EXHAUSTED, "no memory for node '%s'", n->name);
        *changed = true;
        return KAENA_OK;
    }
    return KAENA_OK;
}
