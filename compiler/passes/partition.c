/* requires: shapes and types; pinned nodes have a device
 * establishes: device and reason of every node */
#include <stdlib.h>

#include "cost.h"
#include "pass_util.h"
#include "steps.h"

static kaena_status decide(kgr_node *n, kcc_lowerable_fn lowerable, kaena_err *err)
{
    if (n->device == KGR_HOST)
        return KAENA_OK;
    const char *reason = "no lowering";
    bool runs = true;
    for (uint32_t i = 0; i < n->n_out && runs; i++)
        if (!kcc_known(n->out[i])) {
            reason = "the shape of its result depends on data";
            runs = false;
        }
    runs = runs && lowerable(n, &reason);
    if (!runs && n->device == KGR_DEVICE)
        return KAENA_FAIL(err, UNIMPLEMENTED,
                          "--device-ops: node '%s' (%s) cannot run on the device: %s", n->name,
                          n->origin, reason);
    if (n->device == KGR_DEVICE)
        n->reason = "--device-ops";
    else if (!runs)
        n->reason = reason;
    n->device = runs ? KGR_DEVICE : KGR_HOST;
    return KAENA_OK;
}

/* --- Islands: connected nodes of one device step
 *
 * One that does little between operators of the host would wait longer for its tensors than the
 * host needs to compute it. */

typedef struct island {
    double gain;  /* microseconds that the device saves, its tensors' way counted */
    bool borders; /* on a node of the host */
    bool pinned;
} island;

typedef struct islands {
    uint32_t *step_of, *parent; /* by id of a node's first result */
    island *of;                 /* by root */
    island *whole;              /* by step */
} islands;

static uint32_t id_of(const kgr_node *n)
{
    return n->out[0]->id;
}

static uint32_t root_of(islands *s, uint32_t i)
{
    while (s->parent[i] != i) {
        s->parent[i] = s->parent[s->parent[i]];
        i = s->parent[i];
    }
    return i;
}

static void join_neighbours(const kgr_graph *g, islands *s)
{
    for (const kgr_node *n = g->first; n; n = n->next)
        s->parent[id_of(n)] = id_of(n);
    for (const kgr_node *n = g->first; n; n = n->next)
        for (uint32_t i = 0; i < n->n_in; i++) {
            const kgr_node *p = n->in[i] ? n->in[i]->producer : NULL;
            if (p && p->device == n->device && s->step_of[id_of(p)] == s->step_of[id_of(n)])
                s->parent[root_of(s, id_of(n))] = root_of(s, id_of(p));
        }
}

/* Tensors between |n|, on the device, and operators of the host. */
static double crossings(const kgr_node *n)
{
    double us = 0;
    for (uint32_t i = 0; i < n->n_in; i++)
        if (n->in[i] && n->in[i]->producer && n->in[i]->producer->device == KGR_HOST)
            us += kcc_crossing_us(n->in[i]);
    for (uint32_t i = 0; i < n->n_out; i++)
        for (const kgr_use *u = n->out[i]->first_use; u; u = u->next)
            if (u->node->device == KGR_HOST) {
                us += kcc_crossing_us(n->out[i]);
                break;
            }
    return us;
}

static void add_to(island *i, double gain, double crossing, bool pinned)
{
    i->gain += gain - crossing;
    i->borders |= crossing > 0;
    i->pinned |= pinned;
}

/* Moves to the host what does not pay; gives whether anything moved. */
static bool absorb_islands(kgr_graph *g, islands *s)
{
    uint32_t n_steps = kcc_steps_assign(g, true, s->step_of);
    join_neighbours(g, s);
    for (uint32_t i = 0; i < n_steps; i++)
        s->whole[i] = (island){.gain = -KCC_DEVICE_STEP_US};
    for (const kgr_node *n = g->first; n; n = n->next)
        s->of[id_of(n)] = (island){0};
    for (const kgr_node *n = g->first; n; n = n->next) {
        if (n->device != KGR_DEVICE)
            continue;
        double gain = kcc_host_us(n) - kcc_device_us(n), crossing = crossings(n);
        bool pinned = n->reason != NULL;
        add_to(&s->of[root_of(s, id_of(n))], gain, crossing, pinned);
        add_to(&s->whole[s->step_of[id_of(n)]], gain, crossing, pinned);
    }
    bool moved = false;
    for (kgr_node *n = g->first; n; n = n->next) {
        if (n->device != KGR_DEVICE)
            continue;
        const island *part = &s->of[root_of(s, id_of(n))], *whole = &s->whole[s->step_of[id_of(n)]];
        bool part_goes = part->borders && !part->pinned && part->gain < 0;
        bool whole_goes = whole->borders && !whole->pinned && whole->gain < 0;
        if (part_goes || whole_goes) {
            n->device = KGR_HOST;
            n->reason = "not worth the way to the device and back";
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
        if (n->device == KGR_HOST) {
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
    size_t values = g->n_values ? g->n_values : 1;
    islands s = {.step_of = calloc(values, sizeof *s.step_of),
                 .parent = calloc(values, sizeof *s.parent),
                 .of = calloc(values, sizeof *s.of),
                 .whole = calloc((size_t)g->n_nodes + 2, sizeof *s.whole)};
    kaena_status status = KAENA_OK;
    if (!s.step_of || !s.parent || !s.of || !s.whole)
        status = KAENA_FAIL(err, RESOURCE_EXHAUSTED, "no memory for %u nodes", g->n_nodes);
    for (kgr_node *n = g->first; n && status == KAENA_OK; n = n->next)
        status = decide(n, lowerable, err);
    if (status == KAENA_OK && opt->must_compile)
        status = refuse_host(g, err);
    /* Joining steps may bring others between host steps, each time fewer. */
    for (int i = 0; status == KAENA_OK && i < 16 && absorb_islands(g, &s); i++)
        ;
    free(s.step_of);
    free(s.parent);
    free(s.of);
    free(s.whole);
    return status;
}
