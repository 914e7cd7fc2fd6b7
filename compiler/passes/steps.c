/* requires: every node has a device
 * establishes: nodes sorted by step; as few steps as the data flow allows */
#include <assert.h>

#include "steps.h"

/* A step's number says its kind: even numbers are of the kind that comes first. Every node goes
 * into the earliest step of its kind that all of its operands precede or share; the last number is
 * then the longest alternation there is. */
uint32_t kcc_steps_assign(const kgr_graph *g, bool device_first, uint32_t *step_of)
{
    uint32_t most = 0;
    for (const kgr_node *n = g->first; n; n = n->next) {
        bool odd = (n->device == KGR_DEVICE) != device_first;
        uint32_t step = odd;
        for (uint32_t i = 0; i < n->n_in; i++) {
            const kgr_node *p = n->in[i] ? n->in[i]->producer : NULL;
            if (!p)
                continue;
            uint32_t at = step_of[p->out[0]->id];
            at += (p->device == KGR_DEVICE) != (n->device == KGR_DEVICE);
            step = at > step ? at : step;
        }
        step_of[n->out[0]->id] = step;
        most = step > most ? step : most;
    }
    return most + 1;
}

/* Sorts the list of nodes by step, stable. */
static void sort_nodes(kgr_graph *g, const uint32_t *step_of, uint32_t n_steps, kcc_partition *out)
{
    uint32_t *count = KAENA_NEW_N(g->arena, uint32_t, n_steps);
    for (const kgr_node *n = g->first; n; n = n->next)
        count[step_of[n->out[0]->id]]++;
    for (uint32_t i = 0; i < n_steps; i++)
        out->steps[i].nodes = KAENA_NEW_N(g->arena, kgr_node *, count[i]);
    for (kgr_node *n = g->first; n; n = n->next) {
        kcc_step *s = &out->steps[step_of[n->out[0]->id]];
        s->on_device = n->device == KGR_DEVICE;
        s->nodes[s->n_nodes++] = n;
    }
    for (uint32_t i = 0; i < n_steps; i++)
        for (uint32_t j = 0; j < out->steps[i].n_nodes; j++)
            if (out->steps[i].nodes[j] != g->last)
                kgr_node_move(g, out->steps[i].nodes[j], NULL);
}

/* What crosses the border of step |i|. |seen| has a mark per value: the last step + 1 that listed
 * it. */
static void find_boundary(kgr_graph *g, kcc_step *s, uint32_t i, const uint32_t *step_of,
                          uint32_t *seen)
{
    uint32_t most_in = 0, most_out = 0;
    for (uint32_t j = 0; j < s->n_nodes; j++) {
        most_in += s->nodes[j]->n_in;
        most_out += s->nodes[j]->n_out;
    }
    s->in = KAENA_NEW_N(g->arena, kgr_value *, most_in);
    s->out = KAENA_NEW_N(g->arena, kgr_value *, most_out);
    for (uint32_t j = 0; j < s->n_nodes; j++) {
        const kgr_node *n = s->nodes[j];
        for (uint32_t k = 0; k < n->n_in; k++) {
            kgr_value *v = n->in[k];
            if (!v || seen[v->id] == i + 1)
                continue;
            bool outside = v->is_input || (v->producer && step_of[v->producer->out[0]->id] != i);
            seen[v->id] = i + 1;
            if (outside)
                s->in[s->n_in++] = v;
        }
        for (uint32_t k = 0; k < n->n_out; k++) {
            bool read = n->out[k]->is_output;
            for (const kgr_use *u = n->out[k]->first_use; u && !read; u = u->next)
                read = step_of[u->node->out[0]->id] != i;
            if (read)
                s->out[s->n_out++] = n->out[k];
        }
    }
}

void kcc_partition_build(kgr_graph *g, kcc_partition *out)
{
    kcc_partition p = {0};
    uint32_t *a = KAENA_NEW_N(g->arena, uint32_t, g->n_values),
             *b = KAENA_NEW_N(g->arena, uint32_t, g->n_values),
             *seen = KAENA_NEW_N(g->arena, uint32_t, g->n_values);
    for (const kgr_node *n = g->first; n; n = n->next) {
        assert(n->device == KGR_DEVICE || n->device == KGR_HOST);
        *(n->device == KGR_DEVICE ? &p.n_device_nodes : &p.n_host_nodes) += 1;
    }
    /* Whichever kind comes first may leave its first step empty, so each numbering is counted
     * without. */
    uint32_t n_a = kcc_steps_assign(g, true, a), n_b = kcc_steps_assign(g, false, b);
    bool swap = n_b < n_a;
    uint32_t n = swap ? n_b : n_a;
    const uint32_t *step_of = swap ? b : a;
    p.steps = KAENA_NEW_N(g->arena, kcc_step, n);
    sort_nodes(g, step_of, n, &p);
    for (uint32_t i = 0; i < n; i++)
        find_boundary(g, &p.steps[i], i, step_of, seen);
    for (uint32_t i = 0; i < n; i++)
        if (p.steps[i].n_nodes)
            p.steps[p.n_steps++] = p.steps[i];
    *out = p;
}
