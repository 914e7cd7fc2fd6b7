/* requires: shapes and types; constants folded
 * establishes: constants that bodies capture stand in the bodies; an If whose condition is constant
 * is what it chooses */
#include "pass_util.h"

/* Body inputs that are always the same constant. The operand stays, for nobody to read. */
static kaena_status sink_constants(kgr_node *n, kaena_err *err)
{
    for (uint32_t i = kgr_own_inputs(n); i < n->n_in; i++) {
        const kgr_value *outer = n->in[i];
        if (!kgr_is_const(outer))
            continue;
        for (uint32_t b = 0; b < n->n_body; b++) {
            kgr_value *inner = kgr_body_input(n, b, i);
            if (!inner || inner->n_uses == 0 || inner->is_output)
                continue;
            kgr_value *copy = kgr_const_add(n->body[b], inner->name, outer->t.dtype,
                                            &outer->t.shape, outer->t.data);
            if (!copy)
                return KAENA_FAIL(err, RESOURCE_EXHAUSTED, "no memory for constant '%s'",
                                  inner->name);
            kgr_replace_uses(n->body[b], inner, copy);
        }
    }
    return KAENA_OK;
}

static bool chosen(const kgr_node *n, uint32_t *body)
{
    double condition;
    if (n->op != KOP_If || n->device == KGR_HOST || !kcc_uniform(n->in[0], &condition))
        return false;
    *body = condition == 0;
    return true;
}

kaena_status kcc_pass_bodies(kgr_graph *g, bool *inlined, kaena_err *err)
{
    for (kgr_node *n = g->first, *next; n; n = next) {
        uint32_t body;
        next = n->next;
        if (!n->n_body)
            continue;
        KAENA_TRY(sink_constants(n, err));
        if (!chosen(n, &body))
            continue;
        if (!kgr_inline_body(g, n, body))
            return KAENA_FAIL(err, RESOURCE_EXHAUSTED, "no memory for a branch of '%s'", n->name);
        *inlined = true;
    }
    return KAENA_OK;
}
