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

/* Sorts the list of nodes by |number|, stable. */
static void sort_nodes(kgr_graph *g, const uint32_t *number, uint32_t n_numbers)
{
    uint32_t n = 0, *end = KAENA_NEW_N(g->arena, uint32_t, n_numbers + 1);
    kgr_node **sorted = KAENA_NEW_N(g->arena, kgr_node *, g->n_nodes);
    for (const kgr_node *node = g->first; node; node = node->next)
        end[number[node->out[0]->id] + 1]++;
    for (uint32_t i = 1; i <= n_numbers; i++)
        end[i] += end[i - 1];
    for (kgr_node *node = g->first; node; node = node->next, n++)
        sorted[end[number[node->out[0]->id]]++] = node;
    for (uint32_t i = 0; i < n; i++)
        if (sorted[i] != g->last)
            kgr_node_move(g, sorted[i], NULL);
}

/* Makes the steps of the sorted list, and |step_of| from the numbers: a node of the plan is a step
 * of its own, which parts what stands before and behind it. */
static void make_steps(kgr_graph *g, const uint32_t *number, uint32_t *step_of, kcc_partition *out)
{
    kgr_node **nodes = KAENA_NEW_N(g->arena, kgr_node *, g->n_nodes);
    kcc_step *s = NULL;
    uint32_t at = 0, last = 0;
    out->steps = KAENA_NEW_N(g->arena, kcc_step, g->n_nodes);
    for (kgr_node *n = g->first; n; n = n->next) {
        bool apart = n->device == KGR_PLAN;
        if (!s || apart || s->by_plan || number[n->out[0]->id] != last) {
            s = &out->steps[out->n_steps++];
            *s = (kcc_step){
                .on_device = n->device == KGR_DEVICE, .by_plan = apart, .nodes = &nodes[at]};
        }
        last = number[n->out[0]->id];
        step_of[n->out[0]->id] = out->n_steps - 1;
        nodes[at++] = n;
        s->n_nodes++;
    }
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
        assert(n->device != KGR_UNPLACED);
        p.n_device_nodes += n->device == KGR_DEVICE;
        p.n_host_nodes += n->device == KGR_HOST;
    }
    /* Whichever kind comes first may leave its first step empty, so each numbering is counted
     * without. */
    uint32_t n_a = kcc_steps_assign(g, true, a), n_b = kcc_steps_assign(g, false, b);
    bool swap = n_b < n_a;
    uint32_t *number = swap ? b : a, *step_of = swap ? a : b;
    sort_nodes(g, number, swap ? n_b : n_a);
    make_steps(g, number, step_of, &p);
    for (uint32_t i = 0; i < p.n_steps; i++)
        find_boundary(g, &p.steps[i], i, step_of, seen);
    *out = p;
}
