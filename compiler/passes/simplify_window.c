#include <string.h>

#include "simplify.h"

kaena_status kcc_fix_pads(kgr_graph *g, kgr_node *n, kop_window *out, kaena_err *err)
{
    const kop_tensor *in[KOP_MAX_INPUTS + 1];
    kop_tensor results[KOP_MAX_OUTPUTS];
    kop_call call = kgr_call(n, in, results, NULL, err);
    KAENA_TRY_WRAP(err, kop_window_of(&call, out), "node '%s' (%s)", n->name, n->origin);
    int64_t pads[2 * KOP_MAX_SPATIAL];
    for (int32_t i = 0; i < out->spatial; i++) {
        pads[i] = out->pad_begin[i];
        pads[out->spatial + i] = out->pad_end[i];
    }
    kgr_attr_remove(n, "auto_pad");
    if (!kgr_attr_ints(g, n, "pads", pads, 2 * (uint32_t)out->spatial))
        return KAENA_FAIL(err, RESOURCE_EXHAUSTED, "no memory for node '%s'", n->name);
    return KAENA_OK;
}

/* --- Pad ------------------------------------------------------------------------------------- */

/* A Pad by constants: |pads| [2 * rank] of the whole tensor. */
static bool pads_of(const kgr_node *n, int64_t pads[2 * KAENA_MAX_RANK])
{
    int64_t given[2 * KAENA_MAX_RANK], axes[KAENA_MAX_RANK];
    int32_t rank = n->in[0]->t.shape.rank, count = rank, axis;
    for (int32_t i = 0; i < rank; i++)
        axes[i] = i;
    if (n->n_in > 3 && n->in[3])
        count = kcc_const_ints(n->in[3], axes, KAENA_MAX_RANK);
    if (count < 0 || kcc_const_ints(n->in[1], given, 2 * KAENA_MAX_RANK) != 2 * count)
        return false;
    memset(pads, 0, 2 * KAENA_MAX_RANK * sizeof *pads);
    for (int32_t i = 0; i < count; i++) {
        if (!kop_axis(axes[i], rank, &axis))
            return false;
        pads[axis] += given[i];
        pads[rank + axis] += given[count + i];
    }
    return true;
}

/* Values that are never below zero: a pad of 0 then loses against any of them, as -inf does. */
static bool never_negative(const kgr_value *v)
{
    const kgr_node *n = v->producer;
    return n && (n->op == KOP_Relu || n->op == KOP_Sigmoid || n->op == KOP_HardSigmoid ||
                 (n->op == KOP_Clip && n->n_in > 1 && n->in[1] && kcc_uniform_is(n->in[1], 0)));
}

/* Whether |user| computes the same when its own padding adds |pads| zeros. */
static bool can_absorb(const kgr_node *pad, const kgr_node *user, const kop_window *w,
                       const int64_t *pads, int32_t rank)
{
    bool no_pads = true;
    for (int32_t i = 0; i < w->spatial; i++)
        no_pads &= w->pad_begin[i] == 0 && w->pad_end[i] == 0;
    if (user->op == KOP_Conv)
        return true;
    if (kgr_attr_get_int(user, "ceil_mode", 0))
        return false;
    if (user->op == KOP_AveragePool)
        return no_pads || kgr_attr_get_int(user, "count_include_pad", 0);
    if (user->op != KOP_MaxPool || user->n_out > 1 || !never_negative(pad->in[0]))
        return false;
    for (int32_t i = 0; i < w->spatial; i++) {
        int64_t reach = (w->kernel[i] - 1) * w->dilation[i] + 1;
        if (w->dilation[i] != 1 || w->pad_begin[i] + pads[2 + i] >= reach ||
            w->pad_end[i] + pads[rank + 2 + i] >= reach)
            return false;
    }
    return true;
}

static kaena_status absorb(kgr_graph *g, kgr_node *pad, kgr_node *user, const int64_t *pads,
                           bool *changed, kaena_err *err)
{
    int32_t rank = pad->in[0]->t.shape.rank;
    kop_window w;
    KAENA_TRY(kcc_fix_pads(g, user, &w, err));
    if (!can_absorb(pad, user, &w, pads, rank))
        return KAENA_OK;
    int64_t sum[2 * KOP_MAX_SPATIAL];
    for (int32_t i = 0; i < w.spatial; i++) {
        sum[i] = w.pad_begin[i] + pads[2 + i];
        sum[w.spatial + i] = w.pad_end[i] + pads[rank + 2 + i];
    }
    if (!kgr_attr_ints(g, user, "pads", sum, 2 * (uint32_t)w.spatial) ||
        (user->op == KOP_AveragePool && !kgr_attr_int(g, user, "count_include_pad", 1)))
        return KAENA_FAIL(err, RESOURCE_EXHAUSTED, "no memory for node '%s'", user->name);
    kgr_node_set_input(user, 0, pad->in[0]);
    kgr_node_remove(g, pad);
    *changed = true;
    return KAENA_OK;
}

/* Pads nothing, or zeros around the pixels of one convolution or pooling. */
kaena_status kcc_rule_pad(kgr_graph *g, kgr_node *n, bool *changed, kaena_err *err)
{
    int64_t pads[2 * KAENA_MAX_RANK];
    int32_t rank = n->in[0]->t.shape.rank;
    if (!pads_of(n, pads))
        return KAENA_OK;
    bool none = true, spatial = rank >= 3 && rank <= 2 + KOP_MAX_SPATIAL;
    for (int32_t i = 0; i < 2 * rank; i++) {
        none &= pads[i] == 0;
        spatial &= pads[i] >= 0 && (pads[i] == 0 || i % rank >= 2);
    }
    if (none) {
        *changed = kcc_bypass(g, n, n->in[0]);
        return KAENA_OK;
    }
    kgr_node *user = kgr_only_user(n->out[0]);
    bool zeros = n->n_in < 3 || !n->in[2] || kcc_uniform_is(n->in[2], 0);
    bool constant = strcmp(kgr_attr_get_string(n, "mode", "constant"), "constant") == 0;
    if (!spatial || !zeros || !constant || !user || user->in[0] != n->out[0] ||
        (user->op != KOP_Conv && user->op != KOP_AveragePool && user->op != KOP_MaxPool) ||
        (user->op == KOP_Conv && !kcc_known(user->in[1])))
        return KAENA_OK;
    return absorb(g, n, user, pads, changed, err);
}

/* --- Global pooling -------------------------------------------------------------------------- */

static bool reduces_all_pixels(const kgr_node *n)
{
    int64_t axes[KAENA_MAX_RANK];
    int32_t count = n->n_in > 1 && n->in[1] ? kcc_const_ints(n->in[1], axes, KAENA_MAX_RANK) : 0;
    unsigned mask = 0;
    for (int32_t i = 0, axis; i < count; i++) {
        if (!kop_axis(axes[i], 4, &axis))
            return false;
        mask |= 1u << axis;
    }
    return n->in[0]->t.shape.rank == 4 && mask == (1u << 2 | 1u << 3);
}

/* A mean or maximum over the pixels of a 4-D float tensor. */
kaena_status kcc_rule_reduce(kgr_graph *g, kgr_node *n, bool *changed, kaena_err *err)
{
    if (!reduces_all_pixels(n) || !kaena_dtype_is_float(n->in[0]->t.dtype))
        return KAENA_OK;
    kop_op op = n->op == KOP_ReduceMean ? KOP_GlobalAveragePool : KOP_GlobalMaxPool;
    if (kgr_attr_get_int(n, "keepdims", 1)) {
        kgr_node_cut_inputs(n, 1);
        n->op = op;
        n->n_attr = 0;
        *changed = true;
        return KAENA_OK;
    }
    kgr_node *pool;
    KAENA_TRY(kcc_insert(g, n, op, n->name, n->in, 1, &pool, err));
    kgr_value *shape = kgr_const_i64(g, "shape", n->out[0]->t.shape.dim, 2);
    if (!shape)
        return KAENA_FAIL(err, RESOURCE_EXHAUSTED, "no memory for node '%s'", n->name);
    kgr_node_set_input(n, 0, pool->out[0]);
    kgr_node_set_input(n, 1, shape);
    n->op = KOP_Reshape;
    n->n_attr = 0;
    *changed = true;
    return KAENA_OK;
}

/* One window over all pixels of a 4-D tensor, without padding. */
kaena_status kcc_rule_pool(kgr_graph *g, kgr_node *n, bool *changed, kaena_err *err)
{
    const kop_tensor *in[KOP_MAX_INPUTS + 1];
    kop_tensor results[KOP_MAX_OUTPUTS];
    kop_call call = kgr_call(n, in, results, NULL, err);
    kop_window w;
    if (n->n_out > 1 || n->in[0]->t.shape.rank != 4)
        return KAENA_OK;
    KAENA_TRY_WRAP(err, kop_window_of(&call, &w), "node '%s' (%s)", n->name, n->origin);
    for (int32_t i = 0; i < w.spatial; i++)
        if (w.kernel[i] != w.in[i] || w.out[i] != 1 || w.pad_begin[i] || w.pad_end[i] ||
            w.dilation[i] != 1)
            return KAENA_OK;
    n->op = n->op == KOP_AveragePool ? KOP_GlobalAveragePool : KOP_GlobalMaxPool;
    n->n_attr = 0;
    *changed = true;
    (void)g;
    return KAENA_OK;
}
