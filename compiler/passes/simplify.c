/* requires: shapes and types; constants folded
 * establishes: what passes.h says of simplify */
#include "simplify.h"

static const struct rule {
    kop_op op;
    kcc_rule_fn apply;
} rules[] = {
    {KOP_Identity, kcc_rule_same},
    {KOP_Dropout, kcc_rule_same},
    {KOP_Cast, kcc_rule_same},
    {KOP_Expand, kcc_rule_same},
    {KOP_Tile, kcc_rule_same},
    {KOP_Reshape, kcc_rule_reshape},
    {KOP_Flatten, kcc_rule_reshape},
    {KOP_Squeeze, kcc_rule_reshape},
    {KOP_Unsqueeze, kcc_rule_reshape},
    {KOP_Transpose, kcc_rule_transpose},
    {KOP_Slice, kcc_rule_slice},
    {KOP_Concat, kcc_rule_concat},
    {KOP_Add, kcc_rule_neutral},
    {KOP_Sub, kcc_rule_neutral},
    {KOP_Mul, kcc_rule_neutral},
    {KOP_Div, kcc_rule_neutral},
    {KOP_Sum, kcc_rule_many},
    {KOP_Max, kcc_rule_many},
    {KOP_Min, kcc_rule_many},
    {KOP_Mul, kcc_rule_hard_swish},
    {KOP_Div, kcc_rule_hard_swish},
    {KOP_Mul, kcc_rule_gelu},
    {KOP_Div, kcc_rule_gelu},
    {KOP_Div, kcc_rule_layer_norm},
    {KOP_Mul, kcc_rule_layer_norm},
    {KOP_Add, kcc_rule_layer_norm},
    {KOP_Mul, kcc_rule_affine_norm},
    {KOP_Add, kcc_rule_affine_norm},
    {KOP_MatMul, kcc_rule_vectors},
    {KOP_Gemm, kcc_rule_gemm},
    {KOP_ReduceL2, kcc_rule_norms},
    {KOP_ReduceLogSum, kcc_rule_norms},
    {KOP_ReduceLogSumExp, kcc_rule_norms},
    {KOP_BatchNormalization, kcc_rule_statistics},
    {KOP_ConvTranspose, kcc_rule_conv_transpose},
    {KOP_OneHot, kcc_rule_one_hot},
    {KOP_MatMul, kcc_rule_table_product},
    {KOP_Add, kcc_rule_sink},
    {KOP_Sub, kcc_rule_sink},
    {KOP_Mul, kcc_rule_sink},
    {KOP_Div, kcc_rule_sink},
    {KOP_Relu, kcc_rule_sink},
    {KOP_Gelu, kcc_rule_sink},
    {KOP_Tanh, kcc_rule_sink},
    {KOP_Sigmoid, kcc_rule_sink},
    {KOP_MeanVarianceNormalization, kcc_rule_norms},
    {KOP_Pad, kcc_rule_pad},
    {KOP_ReduceMean, kcc_rule_reduce},
    {KOP_ReduceMax, kcc_rule_reduce},
    {KOP_AveragePool, kcc_rule_pool},
    {KOP_MaxPool, kcc_rule_pool},
};

/* Rules of each operator, first to last. */
typedef struct rule_index {
    uint8_t first[KOP_COUNT], next[sizeof rules / sizeof *rules]; /* 1 + index, 0: none */
} rule_index;

static rule_index index_rules(void)
{
    rule_index x = {0};
    for (size_t i = sizeof rules / sizeof *rules; i-- > 0;) {
        x.next[i] = x.first[rules[i].op];
        x.first[rules[i].op] = (uint8_t)(i + 1);
    }
    return x;
}

static kaena_status sweep(kgr_graph *g, const rule_index *x, bool *changed, kaena_err *err)
{
    for (kgr_node *n = g->first, *next; n; n = next) {
        next = n->next;
        bool done = false;
        if (!kcc_known(n->out[0]))
            continue;
        for (uint32_t r = x->first[n->op]; r && !done; r = x->next[r - 1])
            KAENA_TRY(rules[r - 1].apply(g, n, &done, err));
        *changed |= done;
    }
    (void)kgr_remove_dead(g);
    return KAENA_OK;
}

/* A model may hand on an input or a constant as an output; the plan wants a node that writes it. */
static kaena_status copy_to_outputs(kgr_graph *g, kaena_err *err)
{
    for (uint32_t i = 0; i < g->n_outputs; i++) {
        kgr_value *v = g->outputs[i];
        if (v->producer)
            continue;
        kgr_node *n = kgr_node_add(g, NULL, KOP_Identity, NULL, NULL, &v, 1, &v->name, 1);
        if (!n)
            return KAENA_FAIL(err, RESOURCE_EXHAUSTED, "no memory for output '%s'", v->name);
        KAENA_TRY(kgr_infer_node(n, err));
        n->out[0]->output_name = v->name;
        kgr_output_set(g, i, n->out[0]);
    }
    return KAENA_OK;
}

kaena_status kcc_pass_simplify(kgr_graph *g, const kcc_options *opt, kaena_err *err)
{
    (void)opt;
    const rule_index x = index_rules();
    bool changed = true;
    KAENA_TRY(kcc_turn_images(g, err));
    /* Every rule leaves fewer or simpler nodes; chains collapse in one sweep, since operands come
     * first. The bound only keeps two rules that undo each other from going on forever. */
    for (int i = 0; i < 32 && changed; i++) {
        changed = false;
        KAENA_TRY(sweep(g, &x, &changed, err));
    }
    return copy_to_outputs(g, err);
}
