/* Layers and estimates. */
#include <string.h>

#include "cost.h"
#include "meta.h"

#define INSTANCE_SIZES 3
static const uint32_t instance_chips[INSTANCE_SIZES] = {1, 4, 16};

#define TPBS_PER_CHIP 4

/* Time of a layer's instructions alone on their engines, the dearest engine's name, over all its
 * TPBs. */
static void cost_layer(const kcc_module *m, const kcc_layer *l, Kaena__V1__NeffLayer *out)
{
    double cycles[KISA_ENGINE_COUNT] = {0}, turns[KISA_MAX_LOOPS + 1] = {1};
    uint32_t depth = 0;
    const kisa_inst *inst = m->code[l->tpb].inst;
    for (uint32_t i = l->first; i < l->end; i++) {
        if (inst[i].op == KISA_LOOP) {
            turns[depth + 1] = turns[depth] * inst[i].u.loop.count;
            depth++;
        } else if (inst[i].op == KISA_END) {
            depth--;
        } else {
            kisa_cost_of cost = kisa_cost(&inst[i]);
            cycles[cost.engine] += cost.cycles * turns[depth];
        }
    }
    kisa_engine worst = KISA_ENGINE_PE;
    for (int e = 0; e < KISA_ENGINE_COUNT; e++)
        if (cycles[e] > cycles[worst])
            worst = (kisa_engine)e;
    out->estimated_us += cycles[worst] / KISA_CLOCK_HZ * 1e6;
    out->engine = (char *)(uintptr_t)kisa_engine_name(worst);
}

static Kaena__V1__NeffLayer *new_layer(kcc_meta *b, const kgr_node *n)
{
    Kaena__V1__NeffMeta *m = b->meta;
    if (m->n_layers == b->cap_layers) {
        b->cap_layers = b->cap_layers ? b->cap_layers * 2 : 128;
        Kaena__V1__NeffLayer **grown = KAENA_NEW_N(b->a, Kaena__V1__NeffLayer *, b->cap_layers);
        if (m->n_layers)
            memcpy(grown, m->layers, m->n_layers * sizeof *grown);
        m->layers = grown;
    }
    Kaena__V1__NeffLayer *l = KAENA_NEW(b->a, Kaena__V1__NeffLayer);
    kaena__v1__neff_layer__init(l);
    l->name = kaena_arena_strdup(b->a, n->name);
    l->operator_name = kaena_arena_strdup(b->a, n->origin);
    m->layers[m->n_layers++] = l;
    return l;
}

/* A layer per node: its parts on several TPBs, which were emitted one after another or TPB by TPB,
 * are one layer, whose time is the mean. */
static void add_layers(kcc_meta *b, const kcc_unit *u, const kcc_module *m)
{
    Kaena__V1__NeffLayer **of = KAENA_NEW_N(b->a, Kaena__V1__NeffLayer *, u->graph->n_values);
    uint32_t *parts = KAENA_NEW_N(b->a, uint32_t, u->graph->n_values);
    for (uint32_t k = 0; k < m->n_layers; k++) {
        const kcc_layer *l = &m->layer[k];
        uint32_t id = l->node->out[0]->id; /* a node's first result names it */
        if (!of[id]) {
            of[id] = new_layer(b, l->node);
            of[id]->flops = l->flops;
        }
        of[id]->weight_bytes += l->weight_bytes;
        cost_layer(m, l, of[id]);
        parts[id]++;
    }
    for (uint32_t id = 0; id < u->graph->n_values; id++)
        if (of[id])
            of[id]->estimated_us /= parts[id];
}

static void add_host_operators(kcc_meta *b, const kcc_step *s)
{
    Kaena__V1__NeffMeta *m = b->meta;
    for (uint32_t i = 0; i < s->n_nodes; i++) {
        const kgr_node *n = s->nodes[i];
        if (m->n_host_operators == b->cap_host) {
            b->cap_host = b->cap_host ? b->cap_host * 2 : 64;
            char **grown = KAENA_NEW_N(b->a, char *, b->cap_host);
            if (m->n_host_operators)
                memcpy(grown, m->host_operators, m->n_host_operators * sizeof *grown);
            m->host_operators = grown;
        }
        m->host_operators[m->n_host_operators++] =
            kaena_arena_printf(b->a, "%s (%s): %s", n->name, n->origin,
                               n->reason ? n->reason : "computed on the host");
        Kaena__V1__NeffLayer *l = new_layer(b, n);
        l->on_host = true;
        l->estimated_us = kcc_host_us(n);
        l->engine = kaena_arena_strdup(b->a, "host");
    }
}

void kcc_meta_layers(kcc_meta *b, const kcc_unit *u)
{
    for (uint32_t i = 0; i < u->plan.n_steps; i++) {
        if (u->module[i])
            add_layers(b, u, u->module[i]);
        else if (!u->plan.steps[i].by_plan)
            add_host_operators(b, &u->plan.steps[i]);
    }
}

/* --- Estimates ------------------------------------------------------------------------------- */

/* Time of one run of a plan. */
typedef struct run_time {
    double latency_s, host_s, busy_s[KISA_ENGINE_COUNT];
    double slowest_stage_s; /* of the modules that are pipelines; 0: none is */
} run_time;

static void add_time(run_time *sum, const run_time *t, double turns)
{
    sum->latency_s += turns * t->latency_s;
    sum->host_s += turns * t->host_s;
    for (int e = 0; e < KISA_ENGINE_COUNT; e++)
        sum->busy_s[e] += turns * t->busy_s[e];
    if (turns * t->slowest_stage_s > sum->slowest_stage_s)
        sum->slowest_stage_s = turns * t->slowest_stage_s;
}

/* In a pipeline the slowest stage sets the pace. */
static double slowest_stage(kcc_meta *b, const kcc_module *m)
{
    double slowest = 0;
    for (uint32_t t = 0; t < m->n_tpbs && m->n_nodes && m->stage[0] >= 0; t++) {
        kisa_program alone = {KAENA_NEW_N(b->a, kisa_inst, m->code[t].n), 0};
        for (uint32_t k = 0; k < m->code[t].n; k++)
            if (m->code[t].inst[k].op != KISA_WAIT && m->code[t].inst[k].op != KISA_SIGNAL)
                alone.inst[alone.n++] = m->code[t].inst[k];
        kisa_estimate stage;
        kisa_estimate_run(&alone, 1, &stage);
        slowest = stage.latency_s > slowest ? stage.latency_s : slowest;
    }
    return slowest;
}

static run_time time_of_module(kcc_meta *b, const kcc_module *m)
{
    kisa_program *slice = KAENA_NEW_N(b->a, kisa_program, m->n_tpbs);
    kisa_estimate e;
    run_time t = {.slowest_stage_s = slowest_stage(b, m)};
    for (uint32_t k = 0; k < m->n_tpbs; k++)
        slice[k] = (kisa_program){m->code[k].inst, m->code[k].n};
    kisa_estimate_run(slice, m->n_tpbs, &e);
    t.latency_s = e.latency_s;
    for (int k = 0; k < KISA_ENGINE_COUNT; k++)
        t.busy_s[k] = e.busy_s[k];
    return t;
}

/* Turns of a loop where they are written down; one where not. */
static double turns_of(const kgr_node *n)
{
    const kgr_value *m = n->op == KOP_Loop ? n->in[0] : NULL;
    if (m && m->producer && m->producer->op == KOP_Identity)
        m = m->producer->in[0];
    return m && kgr_is_const(m) && kop_elements(&m->t) == 1 ? (double)kop_get_int(&m->t, 0) : 1;
}

static run_time time_of_unit(kcc_meta *b, const kcc_unit *u)
{
    run_time sum = {0};
    for (uint32_t i = 0; i < u->plan.n_steps; i++) {
        const kcc_step *s = &u->plan.steps[i];
        run_time t = {0};
        if (s->on_device) {
            t = time_of_module(b, u->module[i]);
        } else if (!s->by_plan) {
            for (uint32_t k = 0; k < s->n_nodes; k++)
                t.host_s += 1e-6 * kcc_host_us(s->nodes[k]);
            t.latency_s = t.host_s;
        } else { /* of two branches the longer one */
            for (uint32_t k = 0; k < s->nodes[0]->n_body; k++) {
                run_time of_body = time_of_unit(b, u->body[i][k]);
                t = of_body.latency_s > t.latency_s ? of_body : t;
            }
        }
        add_time(&sum, &t, s->by_plan ? turns_of(s->nodes[0]) : 1);
    }
    return sum;
}

void kcc_meta_estimates(kcc_meta *b)
{
    kcc_compilation *c = b->c;
    run_time t = {0};
    for (uint32_t i = 0; i < c->n_graphs; i++) { /* of several shapes the slowest */
        run_time of_variant = time_of_unit(b, c->variant[i]);
        t = of_variant.latency_s > t.latency_s ? of_variant : t;
    }
    kisa_engine worst = KISA_ENGINE_PE;
    for (int e = 0; e < KISA_ENGINE_COUNT; e++)
        if (t.busy_s[e] > t.busy_s[worst])
            worst = (kisa_engine)e;
    const char *bottleneck = t.host_s > t.busy_s[worst] ? "the host" : kisa_engine_name(worst);
    double period = t.latency_s;
    if (t.slowest_stage_s > 0)
        period = t.host_s > t.slowest_stage_s ? t.host_s : t.slowest_stage_s;
    b->meta->estimates = KAENA_NEW_N(b->a, Kaena__V1__NeffEstimate *, INSTANCE_SIZES);
    for (int i = 0; i < INSTANCE_SIZES; i++) {
        uint32_t groups = instance_chips[i] * TPBS_PER_CHIP / c->opt.num_tpbs;
        if (groups == 0 || period <= 0)
            continue;
        Kaena__V1__NeffEstimate *e = KAENA_NEW(b->a, Kaena__V1__NeffEstimate);
        kaena__v1__neff_estimate__init(e);
        e->chips = instance_chips[i];
        e->latency_us = t.latency_s * 1e6;
        e->throughput_per_s = groups / period;
        e->tpb_utilisation = t.busy_s[KISA_ENGINE_PE] / (period * c->opt.num_tpbs);
        e->bottleneck = kaena_arena_strdup(b->a, bottleneck);
        b->meta->estimates[b->meta->n_estimates++] = e;
    }
}
