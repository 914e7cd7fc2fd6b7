/* requires: shapes and types
 * establishes: device and reason of every node */
#include <stdlib.h>

#include "pass_util.h"
#include "steps.h"

static void decide(kgr_node *n, kcc_lowerable_fn lowerable)
{
    n->device = 2;
    for (uint32_t i = 0; i < n->n_out; i++)
        if (!kcc_known(n->out[i])) {
            n->reason = "the shape of its result depends on data";
            return;
        }
    const char *reason = "no lowering";
    if (lowerable(n, &reason)) {
        n->device = 1;
        n->reason = NULL;
    } else {
        n->reason = reason;
    }
}

/* Work worth a trip to the device and back. */
static bool is_work(const kgr_node *n)
{
    return kcc_is_pe(n) || kcc_is_depthwise(n) || n->op == KOP_MaxPool ||
           n->op == KOP_AveragePool || n->op == KOP_LRN || n->op == KOP_Resize ||
           n->op == KOP_BatchNormalization;
}

/* Whether |n| only hands on from one operator of the host to another. */
static bool is_between_hosts(const kgr_node *n)
{
    bool from_host = false, to_host = false;
    for (uint32_t i = 0; i < n->n_in; i++) {
        const kgr_value *v = n->in[i];
        if (!v || (!v->producer && !v->is_input))
            continue;
        if (v->is_input || v->producer->device != 2)
            return false;
        from_host = true;
    }
    for (uint32_t i = 0; i < n->n_out; i++)
        for (const kgr_use *u = n->out[i]->first_use; u; u = u->next) {
            if (u->node->device != 2)
                return false;
            to_host = true;
        }
    return from_host && to_host;
}

/* A device step that does no work, with host steps around it, joins them; so does such a node.
 * |step_of| and |work| are scratch. Gives whether anything moved. */
static bool absorb_idle_steps(kgr_graph *g, uint32_t *step_of, uint8_t *work)
{
    uint32_t n_steps = kcc_steps_assign(g, true, step_of);
    bool moved = false;
    for (uint32_t i = 0; i < n_steps; i++)
        work[i] = 0;
    for (const kgr_node *n = g->first; n; n = n->next)
        work[step_of[n->out[0]->id]] |= is_work(n);
    for (kgr_node *n = g->first; n; n = n->next) {
        uint32_t step = step_of[n->out[0]->id];
        if (n->device != 1 || is_work(n))
            continue;
        if ((!work[step] && step > 0 && step + 1 < n_steps) || is_between_hosts(n)) {
            n->device = 2;
            n->reason = "stands between operators of the host";
            moved = true;
        }
    }
    return moved;
}

static kaena_status refuse_host(const kgr_graph *g, kaena_err *err)
{
    const kgr_node *first = NULL;
    uint32_t count = 0;
    for (const kgr_node *n = g->first; n; n = n->next)
        if (n->device == 2) {
            first = first ? first : n;
            count++;
        }
    if (!first)
        return KAENA_OK;
    (void)KAENA_FAIL(err, UNIMPLEMENTED,
                     "node '%s' (%s) cannot run on the device: %s (%u such nodes in all)",
                     first->name, first->origin, first->reason, count);
    kaena_err_hint(err, "without --must-compile they run on the host");
    return KAENA_UNIMPLEMENTED;
}

kaena_status kcc_pass_partition(kgr_graph *g, const kcc_options *opt, kcc_lowerable_fn lowerable,
                                kaena_err *err)
{
    uint32_t *step_of = calloc(g->n_values ? g->n_values : 1, sizeof *step_of);
    uint8_t *work = calloc((size_t)g->n_nodes + 2, 1);
    kaena_status s = KAENA_OK;
    if (!step_of || !work) {
        s = KAENA_FAIL(err, RESOURCE_EXHAUSTED, "no memory for %u nodes", g->n_nodes);
    } else {
        for (kgr_node *n = g->first; n; n = n->next)
            decide(n, lowerable);
        if (opt->must_compile)
            s = refuse_host(g, err);
        /* Joining steps may bring others between host steps, each time fewer. */
        for (int i = 0; s == KAENA_OK && i < 16 && absorb_idle_steps(g, step_of, work); i++)
            ;
    }
    free(step_of);
    free(work);
    return s;
}
