#include <string.h>

#include "tf_rewrite.h"

/* Room for node |id|. */
static bool reserve(tf_walk *w, uint32_t id)
{
    if (id < w->capacity)
        return true;
    uint32_t wanted = w->g->n_nodes + w->g->n_nodes / 2 + 16;
    bool *seen = KAENA_NEW_N(w->g->arena, bool, wanted);
    if (!seen)
        return false;
    if (w->capacity)
        memcpy(seen, w->seen, w->capacity * sizeof *seen);
    w->seen = seen;
    w->capacity = wanted;
    return true;
}

bool tf_walk_push(tf_walk *w, tf_node *n)
{
    if (!reserve(w, n->id))
        return false;
    if (w->seen[n->id])
        return true;
    if (w->depth == w->stack_capacity) {
        uint32_t wanted = w->stack_capacity ? w->stack_capacity * 2 : 64;
        tf_node **stack = KAENA_NEW_N(w->g->arena, tf_node *, wanted);
        if (!stack)
            return false;
        if (w->depth)
            memcpy(stack, w->stack, w->depth * sizeof *stack);
        w->stack = stack;
        w->stack_capacity = wanted;
    }
    w->seen[n->id] = true;
    w->stack[w->depth++] = n;
    return true;
}

tf_node *tf_walk_next(tf_walk *w)
{
    return w->depth ? w->stack[--w->depth] : NULL;
}

bool tf_walk_inputs(tf_walk *w, const tf_node *n)
{
    for (uint32_t i = 0; i < n->n_in; i++)
        if (!tf_walk_push(w, n->in[i].node))
            return false;
    for (uint32_t i = 0; i < n->n_control; i++)
        if (!tf_walk_push(w, n->control[i]))
            return false;
    for (uint32_t r = 0; r < n->n_region; r++)
        for (uint32_t i = 0; i < n->region[r].n_out; i++)
            if (n->region[r].out[i].node && !tf_walk_push(w, n->region[r].out[i].node))
                return false;
    return true;
}
