#include "tf_prepare.h"

#include <string.h>

static kaena_status no_memory(kaena_err *err)
{
    return KAENA_FAIL(err, RESOURCE_EXHAUSTED, "no memory for the graph");
}

bool tf_walk_boundary(tf_walk *w, tf_graph *g, const tf_boundary *b)
{
    *w = (tf_walk){.g = g};
    /* An input that is the only result of its node stands in for it. */
    for (uint32_t i = 0; i < b->n_in; i++)
        if (tf_op_ports(b->in[i].edge.node) == 1 && !tf_walk_push(w, b->in[i].edge.node))
            return false;
    w->depth = 0;
    for (uint32_t i = 0; i < b->n_out; i++)
        if (!tf_walk_push(w, b->out[i].edge.node))
            return false;
    return true;
}

/* The part of the graph that restores variables, its calls inlined: what it says is read by
 * tf_resolve_variables. */
static kaena_status inline_restore(tf_graph *g, const Tensorflow__SaverDef *saver, kaena_err *err)
{
    tf_node *n = saver && *saver->restore_op_name ? tf_graph_find(g, saver->restore_op_name) : NULL;
    tf_walk w = {.g = g};
    if (!n)
        return KAENA_OK;
    if (!tf_walk_push(&w, n))
        return no_memory(err);
    return tf_inline_calls(g, &w, err);
}

static kaena_status rewrite_control(tf_graph *g, const tf_boundary *b, kaena_err *err)
{
    tf_edge *roots = KAENA_NEW_N(g->arena, tf_edge, b->n_out);
    tf_edge *cuts = KAENA_NEW_N(g->arena, tf_edge, b->n_in);
    if (!roots || !cuts)
        return no_memory(err);
    for (uint32_t i = 0; i < b->n_out; i++)
        roots[i] = b->out[i].edge;
    for (uint32_t i = 0; i < b->n_in; i++)
        cuts[i] = b->in[i].edge;
    KAENA_TRY(tf_rewrite_loops(g, err));
    return tf_rewrite_branches(g, roots, b->n_out, cuts, b->n_in, err);
}

kaena_status tf_prepare(tf_graph *g, const tf_boundary *b, const Tensorflow__SaverDef *saver,
                        const tf_checkpoint *checkpoint, kaena_err *err)
{
    tf_walk w;
    if (!tf_walk_boundary(&w, g, b))
        return no_memory(err);
    KAENA_TRY(tf_inline_calls(g, &w, err));
    KAENA_TRY_WRAP(err, inline_restore(g, saver, err), "the restoring of variables");
    KAENA_TRY(tf_resolve_variables(g, &w, checkpoint, err));
    return rewrite_control(g, b, err);
}
