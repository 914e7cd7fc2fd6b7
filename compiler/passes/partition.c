/* requires: shapes and types; pinned nodes have a device
 * establishes: device and reason of every node */
#include <stdlib.h>

#include "cost.h"
#include "pass_util.h"
#include "steps.h"

#define NOT_WORTH_IT "not worth the way to the device and back"

static kaena_status decide(kgr_node *n, kcc_lowerable_fn lowerable, kaena_err *err)
{
    if (n->device == KGR_HOST || n->n_body)
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

/* Moves to the host what does not pay; gives whether anything moved, and what the device saves as
 * things stand. */
static bool absorb_islands(kgr_graph *g, islands *s, double *gain_us)
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
    *gain_us = 0;
    for (uint32_t i = 0; i < n_steps; i++)
        if (s->whole[i].gain != -KCC_DEVICE_STEP_US)
            *gain_us += s->whole[i].gain;
    bool moved = false;
    for (kgr_node *n = g->first; n; n = n->next) {
        if (n->device != KGR_DEVICE)
            continue;
        const island *part = &s->of[root_of(s, id_of(n))], *whole = &s->whole[s->step_of[id_of(n)]];
        bool part_goes = part->borders && !part->pinned && part->gain < 0;
        bool whole_goes = whole->borders && !whole->pinned && whole->gain < 0;
        if (part_goes || whole_goes) {
            n->device = KGR_HOST;
            n->reason = NOT_WORTH_IT;
            moved = true;
        }
    }
    return moved;
}

/* Joining steps may bring others between host steps, each time fewer. */
static kaena_status absorb(kgr_graph *g, double *gain_us, kaena_err *err)
{
    size_t values = g->n_values ? g->n_values : 1;
    islands s = {.step_of = calloc(values, sizeof *s.step_of),
                 .parent = calloc(values, sizeof *s.parent),
                 .of = calloc(values, sizeof *s.of),
                 .whole = calloc((size_t)g->n_nodes + 2, sizeof *s.whole)};
    kaena_status status = KAENA_OK;
    if (!s.step_of || !s.parent || !s.of || !s.whole)
        status = KAENA_FAIL(err, RESOURCE_EXHAUSTED, "no memory for %u nodes", g->n_nodes);
    for (int i = 0; status == KAENA_OK && i < 16 && absorb_islands(g, &s, gain_us); i++)
        ;
    free(s.step_of);
    free(s.parent);
    free(s.of);
    free(s.whole);
    return status;
}

/* --- Bodies ---------------------------------------------------------------------------------- */

typedef struct partition {
    const kcc_options *opt;
    kcc_lowerable_fn lowerable;
    kaena_err *err;
} partition;

/* Whether anything in |g| or its bodies is to run on the device because the user says so. */
static bool has_pinned(const kgr_graph *g)
{
    for (const kgr_node *n = g->first; n; n = n->next) {
        if (n->device == KGR_DEVICE && n->reason)
            return true;
        for (uint32_t b = 0; b < n->n_body; b++)
            if (has_pinned(n->body[b]))
                return true;
    }
    return false;
}

static kaena_status to_host(kgr_graph *g, void *ctx, kaena_err *err)
{
    (void)ctx;
    (void)err;
    for (kgr_node *n = g->first; n; n = n->next) {
        n->reason = n->device == KGR_HOST ? n->reason : NOT_WORTH_IT;
        n->device = KGR_HOST;
    }
    return KAENA_OK;
}

/* The plan hands on values: what a step with bodies reads must be one. */
static kaena_status make_values(kgr_graph *g, kgr_node *n, kaena_err *err)
{
    for (uint32_t i = 0; i < n->n_in; i++) {
        kgr_value *v = n->in[i];
        bool used = i < kgr_own_inputs(n);
        for (uint32_t b = 0; b < n->n_body && !used; b++) {
            const kgr_value *inner = kgr_body_input(n, b, i);
            used = inner && inner->n_uses;
        }
        if (!v || !v->t.data || !used)
            continue;
        kgr_node *copy;
        KAENA_TRY(kcc_insert(g, n, KOP_Identity, v->name, &v, 1, &copy, err));
        copy->device = KGR_HOST;
        copy->reason = "a constant that a step of the plan reads";
        kgr_node_set_input(n, i, copy->out[0]);
    }
    return KAENA_OK;
}

static kaena_status partition_graph(partition *p, kgr_graph *g, double *gain_us);

/* A node with bodies becomes a part of the plan if the device has something to win inside. */
static kaena_status place_bodies(partition *p, kgr_node *n, double *gain_us)
{
    bool pinned = p->opt->must_compile;
    for (uint32_t b = 0; b < n->n_body; b++) {
        double of_body;
        KAENA_TRY(partition_graph(p, n->body[b], &of_body));
        *gain_us += of_body;
        pinned = pinned || has_pinned(n->body[b]);
    }
    bool by_plan = n->op == KOP_If || n->op == KOP_Loop;
    if (n->device == KGR_HOST || !by_plan || (*gain_us <= 0 && !pinned)) {
        n->reason = n->device == KGR_HOST ? n->reason : "nothing in its bodies is worth a step";
        n->device = KGR_HOST;
        for (uint32_t b = 0; b < n->n_body; b++)
            KAENA_TRY(kgr_each_graph(n->body[b], to_host, NULL, p->err));
        return KAENA_OK;
    }
    n->device = KGR_PLAN;
    return KAENA_OK;
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

/* |*gain_us|: what the device saves of the time of one run of |g|. */
static kaena_status partition_graph(partition *p, kgr_graph *g, double *gain_us)
{
    double of_bodies = 0, of_nodes;
    for (kgr_node *n = g->first; n; n = n->next)
        KAENA_TRY(decide(n, p->lowerable, p->err));
    for (kgr_node *n = g->first; n; n = n->next) {
        double of_node = 0;
        if (n->n_body)
            KAENA_TRY(place_bodies(p, n, &of_node));
        of_bodies += n->device == KGR_PLAN ? of_node : 0;
    }
    if (p->opt->must_compile)
        KAENA_TRY(refuse_host(g, p->err));
    KAENA_TRY(absorb(g, &of_nodes, p->err));
    for (kgr_node *n = g->first; n; n = n->next)
        if (n->device == KGR_PLAN)
            KAENA_TRY(make_values(g, n, p->err));
    *gain_us = of_nodes + of_bodies;
    return KAENA_OK;
}

kaena_status kcc_pass_partition(kgr_graph *g, const kcc_options *opt, kcc_lowerable_fn lowerable,
                                kaena_err *err)
{
    partition p = {opt, lowerable, err};
    double gain_us;
    return partition_graph(&p, g, &gain_us);
}
