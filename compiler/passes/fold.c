/* requires: shapes and types
 * establishes: no node computes from constants alone, unless its result is a model output, holds
 * strings or is larger than 1 GiB */
#include "pass_util.h"

#define FOLD_LIMIT ((size_t)1 << 30)

/* Without inputs there are only generators of random numbers. */
static bool can_fold(const kgr_node *n)
{
    if (n->n_in == 0 || n->n_body)
        return false;
    for (uint32_t i = 0; i < n->n_in; i++)
        if (n->in[i] && !n->in[i]->t.data)
            return false;
    for (uint32_t i = 0; i < n->n_out; i++) {
        const kgr_value *v = n->out[i];
        int64_t elements;
        if (v->is_output || v->t.dtype == KAENA_STRING || v->t.form != KOP_FORM_TENSOR)
            return false;
        /* A shape that depends on data is bounded by the evaluation's quota. */
        if (kcc_known(v) && (!kaena_shape_elements(&v->t.shape, &elements) ||
                             (uint64_t)elements > FOLD_LIMIT / kaena_dtype_size(v->t.dtype)))
            return false;
    }
    return true;
}

/* After something was folded whose shape was not known, those that read it can be inferred. */
static bool knows_results(const kgr_node *n)
{
    for (uint32_t i = 0; i < n->n_out; i++)
        if (!kcc_known(n->out[i]))
            return false;
    return true;
}

kaena_status kcc_pass_fold(kgr_graph *g, const kcc_options *opt, kaena_err *err)
{
    (void)opt;
    for (kgr_node *n = g->first, *next; n; n = next) {
        next = n->next;
        if (!knows_results(n))
            KAENA_TRY(kgr_infer_node(n, err));
        kaena_status s = can_fold(n) ? kgr_node_fold(g, n, 2 * FOLD_LIMIT, err) : KAENA_OK;
        if (s == KAENA_RESOURCE_EXHAUSTED)
            kaena_err_init(err); /* too large to keep in the artifact: computed at run time */
        else if (s != KAENA_OK)
            return s;
    }
    (void)kgr_remove_dead(g);
    return KAENA_OK;
}
