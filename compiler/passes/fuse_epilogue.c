#include <math.h>
#include <string.h>

#include "fuse.h"

/* Operators that are activations, with the attributes that hold alpha and beta and ONNX's defaults.
 */
static const struct act_row {
    kop_op op;
    kaena_act act;
    const char *alpha, *beta; /* NULL: has none */
    float alpha_default, beta_default;
} acts[] = {
    {KOP_Relu, KAENA_ACT_RELU, NULL, NULL, 0, 0},
    {KOP_LeakyRelu, KAENA_ACT_LEAKY_RELU, "alpha", NULL, 0.01f, 0},
    {KOP_Clip, KAENA_ACT_CLIP, NULL, NULL, -INFINITY, INFINITY}, /* bounds are operands */
    {KOP_Sigmoid, KAENA_ACT_SIGMOID, NULL, NULL, 0, 0},
    {KOP_Tanh, KAENA_ACT_TANH, NULL, NULL, 0, 0},
    {KOP_HardSigmoid, KAENA_ACT_HARD_SIGMOID, "alpha", "beta", 0.2f, 0.5f},
    {KOP_HardSwish, KAENA_ACT_HARD_SWISH, NULL, NULL, 0, 0},
    {KOP_Elu, KAENA_ACT_ELU, "alpha", NULL, 1, 0},
    {KOP_Selu, KAENA_ACT_SELU, "alpha", "gamma", 1.67326319217681884765625f,
     1.05070102214813232421875f},
    {KOP_Softplus, KAENA_ACT_SOFTPLUS, NULL, NULL, 0, 0},
    {KOP_Softsign, KAENA_ACT_SOFTSIGN, NULL, NULL, 0, 0},
    {KOP_Exp, KAENA_ACT_EXP, NULL, NULL, 0, 0},
    {KOP_Log, KAENA_ACT_LOG, NULL, NULL, 0, 0},
    {KOP_Sqrt, KAENA_ACT_SQRT, NULL, NULL, 0, 0},
    {KOP_Reciprocal, KAENA_ACT_RECIPROCAL, NULL, NULL, 0, 0},
    {KOP_Erf, KAENA_ACT_ERF, NULL, NULL, 0, 0},
    {KOP_Gelu, KAENA_ACT_GELU, NULL, NULL, 0, 0}, /* or GELU_TANH, by an attribute */
    {KOP_Abs, KAENA_ACT_ABS, NULL, NULL, 0, 0},
    {KOP_Neg, KAENA_ACT_NEG, NULL, NULL, 0, 0},
    {KOP_Floor, KAENA_ACT_FLOOR, NULL, NULL, 0, 0},
    {KOP_Ceil, KAENA_ACT_CEIL, NULL, NULL, 0, 0},
    {KOP_Round, KAENA_ACT_ROUND, NULL, NULL, 0, 0},
    {KOP_Sign, KAENA_ACT_SIGN, NULL, NULL, 0, 0},
    {KOP_Sin, KAENA_ACT_SIN, NULL, NULL, 0, 0},
    {KOP_Cos, KAENA_ACT_COS, NULL, NULL, 0, 0},
    {KOP_ThresholdedRelu, KAENA_ACT_THRESHOLDED_RELU, "alpha", NULL, 1, 0},
};

typedef struct act_of {
    kaena_act act;
    float alpha, beta;
} act_of;

/* A bound of Clip: absent leaves |out| alone; false where it is not a constant. */
static bool clip_bound(const kgr_node *n, uint32_t i, float *out)
{
    double v;
    if (i >= n->n_in || !n->in[i])
        return true;
    if (!kcc_uniform(n->in[i], &v))
        return false;
    *out = (float)v;
    return true;
}

static bool find_act(const kgr_node *n, act_of *out)
{
    const struct act_row *row = NULL;
    for (size_t i = 0; i < sizeof acts / sizeof *acts; i++)
        if (acts[i].op == n->op)
            row = &acts[i];
    if (!row)
        return false;
    act_of a = {row->act, row->alpha_default, row->beta_default};
    if (row->alpha)
        a.alpha = kgr_attr_get_float(n, row->alpha, a.alpha);
    if (row->beta)
        a.beta = kgr_attr_get_float(n, row->beta, a.beta);
    if (n->op == KOP_Clip) {
        if (!clip_bound(n, 1, &a.alpha) || !clip_bound(n, 2, &a.beta))
            return false;
        if (a.alpha == 0 && a.beta == INFINITY)
            a = (act_of){KAENA_ACT_RELU, 0, 0};
    }
    if (n->op == KOP_Gelu && strcmp(kgr_attr_get_string(n, "approximate", "none"), "tanh") == 0)
        a.act = KAENA_ACT_GELU_TANH;
    *out = a;
    return true;
}

static bool takes_residual(const kgr_node *n)
{
    return n->op == KOP_Conv || n->op == KOP_Gemm || n->op == KOP_MatMul;
}

bool kcc_takes_act(const kgr_node *n)
{
    const kgr_value *y = n->out[0];
    bool fits = takes_residual(n) || n->op == KOP_BatchNormalization || n->op == KOP_Add ||
                n->op == KOP_Sub || n->op == KOP_Mul || n->op == KOP_Div ||
                ((n->op == KOP_Max || n->op == KOP_Min) && n->n_in == 2);
    return fits && n->device != KGR_HOST && n->n_out == 1 && kcc_known(y) &&
           kaena_dtype_is_float(y->t.dtype) && y->t.dtype != KAENA_F64 &&
           !kgr_attr_find(n, "kaena.act") && kgr_attr_get_int(n, "kaena.residual", 0) != 2;
}

static void set_act(kgr_graph *g, kgr_node *n, const act_of *a)
{
    (void)kgr_attr_string(g, n, "kaena.act", kaena_act_name(a->act));
    if (a->alpha != 0)
        (void)kgr_attr_float(g, n, "kaena.act_alpha", a->alpha);
    if (a->beta != 0)
        (void)kgr_attr_float(g, n, "kaena.act_beta", a->beta);
}

/* x * sigmoid(x) over |n|'s result, which nobody else reads. */
static bool fuse_silu(kgr_graph *g, kgr_node *n)
{
    kgr_value *x = n->out[0];
    if (x->n_uses != 2 || x->is_output)
        return false;
    kgr_node *gate = x->first_use->node, *mul = x->last_use->node;
    if (gate->op != KOP_Sigmoid) {
        kgr_node *t = gate;
        gate = mul;
        mul = t;
    }
    if (gate->op != KOP_Sigmoid || mul->op != KOP_Mul || kgr_only_user(gate->out[0]) != mul ||
        !kcc_bypass(g, mul, x))
        return false;
    kgr_node_remove(g, gate);
    set_act(g, n, &(act_of){KAENA_ACT_SILU, 0, 0});
    return true;
}

bool kcc_fuse_act(kgr_graph *g, kgr_node *n)
{
    if (!kcc_takes_act(n))
        return false;
    if (fuse_silu(g, n))
        return true;
    act_of a;
    kgr_node *user = kgr_only_user(n->out[0]);
    if (!user || user->in[0] != n->out[0] || !find_act(user, &a) || !kcc_bypass(g, user, n->out[0]))
        return false;
    set_act(g, n, &a);
    return true;
}

bool kcc_fuse_scale(kgr_graph *g, kgr_node *n)
{
    const kgr_node *user = kgr_only_user(n->out[0]);
    double x;
    if (n->op != KOP_MatMul || n->n_in > 2 || !user || user->device == KGR_HOST ||
        (user->op != KOP_Mul && user->op != KOP_Div) || kgr_attr_find(n, "kaena.act") ||
        kgr_attr_find(user, "kaena.act") || !kaena_dtype_is_float(n->out[0]->t.dtype) ||
        n->out[0]->t.dtype == KAENA_F64)
        return false;
    bool left = user->in[0] == n->out[0];
    if (!kcc_same_shape(user->out[0], n->out[0]) || !kcc_uniform(user->in[left], &x) ||
        (user->op == KOP_Div && (!left || x == 0)) || !isfinite(x))
        return false;
    double scale = (double)kgr_attr_get_float(n, "kaena.scale", 1);
    if (!kcc_bypass(g, (kgr_node *)(uintptr_t)user, n->out[0]))
        return false;
    (void)kgr_attr_float(g, n, "kaena.scale", (float)(user->op == KOP_Div ? scale / x : scale * x));
    return true;
}

bool kcc_can_fuse_residual(const kgr_node *n, const kgr_node *add)
{
    const kgr_value *y = n->out[0];
    if (!takes_residual(n) || add->op != KOP_Add || kgr_attr_find(n, "kaena.residual") ||
        kgr_attr_find(add, "kaena.act") || !kaena_dtype_is_float(y->t.dtype) ||
        y->t.dtype == KAENA_F64)
        return false;
    const kgr_value *r = add->in[add->in[0] == y];
    kaena_shape both;
    bool fits = kcc_same_shape(r, y) || (n->op == KOP_MatMul && kcc_known(r) && kcc_known(y) &&
                                         kaena_shape_broadcast(&r->t.shape, &y->t.shape, &both) &&
                                         kaena_shape_equal(&both, &y->t.shape));
    return r != y && (r->producer || r->is_input) && fits && r->t.dtype == y->t.dtype &&
           kgr_can_replace(add->out[0], y);
}

void kcc_fuse_residual(kgr_graph *g, kgr_node *n, kgr_node *add)
{
    kgr_value *r = add->in[add->in[0] == n->out[0]];
    while (n->n_in < 3) /* an absent bias keeps its place */
        (void)kgr_node_add_input(g, n, NULL);
    (void)kgr_node_add_input(g, n, r);
    (void)kgr_attr_int(g, n, "kaena.residual", kgr_attr_find(n, "kaena.act") ? 2 : 1);
    (void)kcc_bypass(g, add, n->out[0]);
}
