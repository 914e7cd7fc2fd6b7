#include <string.h>

#include "simplify.h"

/* Identity; Cast, Expand and Tile to what is there; Dropout outside training. */
kaena_status kcc_rule_same(kgr_graph *g, kgr_node *n, bool *changed, kaena_err *err)
{
    (void)err;
    kgr_value *x = n->in[0];
    if (n->op == KOP_Dropout && n->n_in > 2 && n->in[2] && !kcc_uniform_is(n->in[2], 0))
        return KAENA_OK;
    if (kcc_same_shape(x, n->out[0]) && x->t.dtype == n->out[0]->t.dtype)
        *changed = kcc_bypass(g, n, x);
    return KAENA_OK;
}

/* A Reshape to exactly the result's shape: what all of its relatives become. */
static kaena_status make_reshape(kgr_graph *g, kgr_node *n, kaena_err *err)
{
    const kaena_shape *s = &n->out[0]->t.shape;
    kgr_value *shape = kgr_const_i64(g, "shape", s->dim, (uint32_t)s->rank);
    if (!shape)
        return KAENA_FAIL(err, RESOURCE_EXHAUSTED, "no memory for node '%s'", n->name);
    bool zero = false;
    for (int32_t i = 0; i < s->rank; i++)
        zero |= s->dim[i] == 0;
    n->op = KOP_Reshape;
    n->n_attr = 0;
    if (zero)
        (void)kgr_attr_int(g, n, "allowzero", 1);
    kgr_node_cut_inputs(n, 1);
    (void)kgr_node_add_input(g, n, shape);
    return KAENA_OK;
}

static bool is_plain_reshape(const kgr_node *n)
{
    int64_t dim[KAENA_MAX_RANK];
    const kaena_shape *s = &n->out[0]->t.shape;
    if (n->op != KOP_Reshape || kcc_const_ints(n->in[1], dim, KAENA_MAX_RANK) != s->rank)
        return false;
    return memcmp(dim, s->dim, (size_t)s->rank * sizeof *dim) == 0;
}

kaena_status kcc_rule_reshape(kgr_graph *g, kgr_node *n, bool *changed, kaena_err *err)
{
    kgr_value *x = n->in[0];
    if (kcc_same_shape(x, n->out[0]) && kcc_bypass(g, n, x)) {
        *changed = true;
        return KAENA_OK;
    }
    kgr_node *before = kcc_made_by(x, KOP_Reshape);
    if (before) {
        kgr_node_set_input(n, 0, before->in[0]);
        *changed = true;
    }
    if (!is_plain_reshape(n)) {
        KAENA_TRY(make_reshape(g, n, err));
        *changed = true;
    }
    return KAENA_OK;
}

/* The permutation of a Transpose of known rank. */
static void perm_of(const kgr_node *n, int64_t perm[KAENA_MAX_RANK])
{
    int32_t rank = n->in[0]->t.shape.rank;
    const kop_attr *a = kgr_attr_find(n, "perm");
    for (int32_t i = 0; i < rank; i++)
        perm[i] = a && a->type == KOP_ATTR_INTS ? a->u.ints[i] : rank - 1 - i;
}

kaena_status kcc_rule_transpose(kgr_graph *g, kgr_node *n, bool *changed, kaena_err *err)
{
    int64_t perm[KAENA_MAX_RANK], first[KAENA_MAX_RANK];
    int32_t rank = n->in[0]->t.shape.rank;
    kgr_node *before = kcc_made_by(n->in[0], KOP_Transpose);
    perm_of(n, perm);
    if (before) {
        perm_of(before, first);
        for (int32_t i = 0; i < rank; i++)
            perm[i] = first[perm[i]];
        kgr_node_set_input(n, 0, before->in[0]);
        if (!kgr_attr_ints(g, n, "perm", perm, (uint32_t)rank))
            return KAENA_FAIL(err, RESOURCE_EXHAUSTED, "no memory for node '%s'", n->name);
        *changed = true;
    }
    /* Dimensions of 1 may go anywhere: only the order of the others tells whether elements move. */
    bool identity = true, in_order = true;
    int64_t last = -1;
    for (int32_t i = 0; i < rank; i++) {
        identity &= perm[i] == i;
        if (n->in[0]->t.shape.dim[perm[i]] == 1)
            continue;
        in_order &= perm[i] > last;
        last = perm[i];
    }
    if (identity && kcc_bypass(g, n, n->in[0])) {
        *changed = true;
    } else if (in_order && !identity) {
        KAENA_TRY(make_reshape(g, n, err));
        *changed = true;
    }
    return KAENA_OK;
}

kaena_status kcc_rule_slice(kgr_graph *g, kgr_node *n, bool *changed, kaena_err *err)
{
    (void)err;
    /* A whole axis backwards has the same shape: steps must be 1. */
    bool forward = n->n_in < 5 || !n->in[4] || kcc_uniform_is(n->in[4], 1);
    if (forward && kcc_same_shape(n->in[0], n->out[0]))
        *changed = kcc_bypass(g, n, n->in[0]);
    return KAENA_OK;
}

kaena_status kcc_rule_concat(kgr_graph *g, kgr_node *n, bool *changed, kaena_err *err)
{
    (void)err;
    if (n->n_in == 1)
        *changed = kcc_bypass(g, n, n->in[0]);
    return KAENA_OK;
}
