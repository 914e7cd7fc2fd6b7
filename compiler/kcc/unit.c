#include "unit.h"

static kaena_status create_bodies(kaena_arena *arena, kcc_unit *u, uint32_t step,
                                  const kcc_options *opt, kcc_unit ***last, kaena_err *err)
{
    const kgr_node *n = u->plan.steps[step].nodes[0];
    u->body[step] = KAENA_NEW_N(arena, kcc_unit *, n->n_body);
    for (uint32_t b = 0; b < n->n_body; b++)
        KAENA_TRY(kcc_unit_create(arena, n->body[b], opt, last, &u->body[step][b], err));
    return KAENA_OK;
}

kaena_status kcc_unit_create(kaena_arena *arena, kgr_graph *g, const kcc_options *opt,
                             kcc_unit ***last, kcc_unit **out, kaena_err *err)
{
    kcc_unit *u = KAENA_NEW(arena, kcc_unit);
    u->graph = g;
    **last = u;
    *last = &u->next;
    KAENA_TRY(kcc_pass_cast(g, opt, err));
    kcc_partition_build(g, &u->plan);
    u->module = KAENA_NEW_N(arena, kcc_module *, u->plan.n_steps);
    u->host = KAENA_NEW_N(arena, kgr_graph *, u->plan.n_steps);
    u->body = KAENA_NEW_N(arena, kcc_unit **, u->plan.n_steps);
    for (uint32_t i = 0; i < u->plan.n_steps; i++)
        if (u->plan.steps[i].by_plan)
            KAENA_TRY(create_bodies(arena, u, i, opt, last, err));
    *out = u;
    return KAENA_OK;
}

kaena_status kcc_unit_layout(kcc_unit *u, kaena_arena *arena, const kcc_options *opt,
                             kcc_weights *weights, kaena_err *err)
{
    for (uint32_t i = 0; i < u->plan.n_steps; i++) {
        const kcc_step *s = &u->plan.steps[i];
        if (!s->on_device)
            continue;
        u->module[i] = kcc_module_create(arena, opt, u->graph, s->nodes, s->n_nodes, s->in, s->n_in,
                                         s->out, s->n_out, weights);
        KAENA_TRY(kcc_layout(u->module[i], err));
    }
    return KAENA_OK;
}
