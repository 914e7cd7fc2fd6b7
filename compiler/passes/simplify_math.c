#include <math.h>

#include "simplify.h"

/* x + 0, x - 0, x * 1, x / 1. */
kaena_status kcc_rule_neutral(kgr_graph *g, kgr_node *n, bool *changed, kaena_err *err)
{
    (void)err;
    double neutral = n->op == KOP_Add || n->op == KOP_Sub ? 0 : 1;
    bool commutes = n->op == KOP_Add || n->op == KOP_Mul;
    for (uint32_t i = 0; i < (commutes ? 2u : 1u); i++)
        if (kcc_uniform_is(n->in[1 - i], neutral) && kcc_same_shape(n->in[i], n->out[0])) {
            *changed = kcc_bypass(g, n, n->in[i]);
            return KAENA_OK;
        }
    return KAENA_OK;
}

/* Sum, Max, Min of one or of many: nothing, or a chain of two-operand ones from left to right. */
kaena_status kcc_rule_many(kgr_graph *g, kgr_node *n, bool *changed, kaena_err *err)
{
    kop_op op = n->op == KOP_Sum ? KOP_Add : n->op;
    if (n->n_in == 1) {
        *changed = kcc_bypass(g, n, n->in[0]);
        return KAENA_OK;
    }
    if (n->n_in == 2 && n->op == op)
        return KAENA_OK;
    kgr_value *left = n->in[0];
    for (uint32_t i = 1; i + 1 < n->n_in; i++) {
        kgr_node *part;
        KAENA_TRY(kcc_insert(g, n, op, n->name, (kgr_value *[]){left, n->in[i]}, 2, &part, err));
        left = part->out[0];
    }
    kgr_value *right = n->in[n->n_in - 1];
    kgr_node_cut_inputs(n, 2);
    kgr_node_set_input(n, 0, left);
    kgr_node_set_input(n, 1, right);
    n->op = op;
    *changed = true;
    return KAENA_OK;
}

/* --- Patterns -------------------------------------------------------------------------------- */

static bool near(double a, double b)
{
    return fabs(a - b) <= 1e-6 * fabs(b);
}

/* Whether |n| is op(other, c) with a uniform constant near |c|, in any order if |op| commutes. */
static bool is_with_const(const kgr_node *n, kop_op op, double c, kgr_value **other)
{
    double x;
    if (!n || n->op != op)
        return false;
    for (uint32_t i = 0; i < (op == KOP_Div || op == KOP_Sub ? 1u : 2u); i++)
        if (kcc_uniform(n->in[1 - i], &x) && near(x, c)) {
            *other = n->in[i];
            return kcc_same_shape(n->in[i], n->out[0]);
        }
    return false;
}

/* The node that computes |v| for one reader alone. */
static kgr_node *sole(const kgr_value *v)
{
    return v->n_uses == 1 ? v->producer : NULL;
}

/* v = clip(x + 3, 0, 6), v only read here; gives x. */
static bool is_relu6_of_plus_3(const kgr_value *v, kgr_value **x)
{
    const kgr_node *clip = sole(v);
    return clip && clip->op == KOP_Clip && clip->n_in == 3 && kcc_uniform_is(clip->in[1], 0) &&
           kcc_uniform_is(clip->in[2], 6) && is_with_const(sole(clip->in[0]), KOP_Add, 3, x);
}

/* v = clip(x + 3, 0, 6) / 6 or hard_sigmoid(x) with the same slope. */
static bool is_hard_gate(const kgr_value *v, kgr_value **x)
{
    const kgr_node *p = sole(v);
    if (p && p->op == KOP_HardSigmoid) {
        *x = p->in[0];
        return near((double)kgr_attr_get_float(p, "alpha", 0.2f), 1.0 / 6) &&
               near((double)kgr_attr_get_float(p, "beta", 0.5f), 0.5);
    }
    kgr_value *clip;
    if (is_with_const(p, KOP_Div, 6, &clip) || is_with_const(p, KOP_Mul, 1.0 / 6, &clip))
        return is_relu6_of_plus_3(clip, x);
    return false;
}

/* Turns |n| into a unary |op| of |x|; what computed the rest dies. */
static void make_unary(kgr_node *n, kop_op op, kgr_value *x)
{
    kgr_node_cut_inputs(n, 1);
    kgr_node_set_input(n, 0, x);
    n->op = op;
    n->n_attr = 0;
}

/* x * hard_gate(x), and (x * clip(x + 3, 0, 6)) / 6. */
kaena_status kcc_rule_hard_swish(kgr_graph *g, kgr_node *n, bool *changed, kaena_err *err)
{
    (void)g;
    (void)err;
    kgr_value *x, *product;
    for (uint32_t i = 0; n->op == KOP_Mul && i < 2; i++)
        if (is_hard_gate(n->in[i], &x) && x == n->in[1 - i]) {
            make_unary(n, KOP_HardSwish, x);
            *changed = true;
            return KAENA_OK;
        }
    if (!is_with_const(n, KOP_Div, 6, &product) && !is_with_const(n, KOP_Mul, 1.0 / 6, &product))
        return KAENA_OK;
    const kgr_node *mul = sole(product);
    for (uint32_t i = 0; mul && mul->op == KOP_Mul && i < 2; i++)
        if (is_relu6_of_plus_3(mul->in[i], &x) && x == mul->in[1 - i]) {
            make_unary(n, KOP_HardSwish, x);
            *changed = true;
            return KAENA_OK;
        }
    return KAENA_OK;
}
