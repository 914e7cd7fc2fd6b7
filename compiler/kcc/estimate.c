/* Layers and estimates. */
#include <stdlib.h>
#include <string.h>

#include "cost.h"
#include "meta.h"

#define INSTANCE_SIZES 3
static const uint32_t instance_chips[INSTANCE_SIZES] = {1, 4, 16};

#define TPBS_PER_CHIP 4

/* PE, ACT, POOL, DMA: all but SYNC, which is before them. */
#define LAYER_ENGINES (KISA_ENGINE_COUNT - KISA_ENGINE_PE)

/* What a part of a layer keeps the engines of its TPB busy with. A stationary tile is loaded while
 * rows stream through the one before, so that of both the longer one counts. */
static void cost_layer(const kcc_module *m, const kcc_layer *l, Kaena__V1__NeffLayer *out)
{
    double us[LAYER_ENGINES] = {0}, turns[KISA_MAX_LOOPS + 1] = {l->turns}, loads = 0;
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
            double t = cost.cycles * turns[depth] / KISA_CLOCK_HZ * 1e6;
            if (cost.engine >= KISA_ENGINE_PE)
                us[cost.engine - KISA_ENGINE_PE] += t;
            if (inst[i].op == KISA_LDW)
                loads += t;
        }
    }
    double most = 0, products = us[0] - loads;
    for (int e = 0; e < LAYER_ENGINES; e++) {
        double alone = e > 0 ? us[e] : loads > products ? loads : products;
        out->engine_us[e] += us[e];
        most = alone > most ? alone : most;
    }
    out->estimated_us += most;
}

/* The engine that a layer keeps busy longest. */
static void name_engine(Kaena__V1__NeffLayer *l)
{
    int worst = 0;
    for (int e = 0; e < LAYER_ENGINES; e++)
        if (l->engine_us[e] > l->engine_us[worst])
            worst = e;
    l->engine = (char *)(uintptr_t)kisa_engine_name((kisa_engine)(KISA_ENGINE_PE + worst));
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
            of[id]->n_engine_us = LAYER_ENGINES;
            of[id]->engine_us = KAENA_NEW_N(b->a, double, LAYER_ENGINES);
        }
        of[id]->weight_bytes += l->weight_bytes;
        cost_layer(m, l, of[id]);
        parts[id]++;
    }
    for (uint32_t id = 0; id < u->graph->n_values; id++)
        if (of[id]) {
            of[id]->estimated_us /= parts[id];
            of[id]->tpbs = parts[id];
            name_engine(of[id]);
        }
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

static void add_time(kcc_run_time *sum, const kcc_run_time *t, double turns)
{
    sum->latency_s += turns * t->latency_s;
    sum->steady_s += turns * t->steady_s;
    sum->host_s += turns * t->host_s;
    for (int e = 0; e < KISA_ENGINE_COUNT; e++)
        sum->busy_s[e] += turns * t->busy_s[e];
    if (turns * t->slowest_stage_s > sum->slowest_stage_s)
        sum->slowest_stage_s = turns * t->slowest_stage_s;
    sum->dram_bytes += turns * t->dram_bytes;
    sum->io_bytes += turns * t->io_bytes;
    sum->weight_bytes += t->weight_bytes;
    sum->streamed_bytes += turns * t->streamed_bytes;
    if (t->activation_bytes > sum->activation_bytes)
        sum->activation_bytes = t->activation_bytes;
    sum->sharded = sum->sharded || t->sharded;
}

typedef struct stretch {
    uint64_t first, end;
} stretch;

static int by_first(const void *a, const void *b)
{
    const stretch *x = a, *y = b;
    return (x->first > y->first) - (x->first < y->first);
}

/* Bytes of WEIGHTS that a program names, each once. */
static double weights_named(kcc_meta *b, const kcc_code *code)
{
    stretch *s = KAENA_NEW_N(b->a, stretch, code->n);
    uint32_t n = 0, turns[KISA_MAX_LOOPS], depth = 0;
    for (uint32_t i = 0; i < code->n; i++) {
        const kisa_inst *inst = &code->inst[i];
        if (inst->op == KISA_LOOP)
            turns[depth++] = inst->u.loop.count;
        else if (inst->op == KISA_END)
            depth--;
        else if (inst->op == KISA_LDW && inst->u.ldw.weights.space == KISA_WEIGHTS &&
                 kisa_operand_extent(&inst->u.ldw.weights, turns, depth, &s[n].first, &s[n].end))
            n++;
    }
    qsort(s, n, sizeof *s, by_first);
    uint64_t bytes = 0, upto = 0;
    for (uint32_t i = 0; i < n; i++) {
        uint64_t from = s[i].first > upto ? s[i].first : upto;
        bytes += s[i].end > from ? s[i].end - from : 0;
        upto = s[i].end > upto ? s[i].end : upto;
    }
    return (double)bytes;
}

/* Where weights that stay in the state buffer are thought to lie: apart from all activations. */
#define RESIDENT_OFFSET (UINT64_C(1) << 40)

/* |code| as it runs in a pipeline that has been running for a while: nobody to wait for, its
 * weights in the state buffer if all of them find |room| there. If not, each run drives out what
 * the next one reads first. */
static kisa_program steady_stage(kcc_meta *b, const kcc_code *code, double room)
{
    kisa_program p = {KAENA_NEW_N(b->a, kisa_inst, code->n), 0};
    bool resident = weights_named(b, code) <= room;
    for (uint32_t i = 0; i < code->n; i++) {
        kisa_inst inst = code->inst[i];
        kisa_operand *w = &inst.u.ldw.weights;
        if (inst.op == KISA_WAIT || inst.op == KISA_SIGNAL)
            continue;
        if (inst.op == KISA_LDW && w->space == KISA_WEIGHTS && resident) {
            w->space = KISA_SB;
            w->offset += RESIDENT_OFFSET;
        }
        p.inst[p.n++] = inst;
    }
    return p;
}

/* In a pipeline the slowest stage sets the pace. */
static double slowest_stage(kcc_meta *b, const kcc_module *m, double room)
{
    double slowest = 0;
    for (uint32_t t = 0; t < m->n_tpbs && m->n_nodes && m->stage[0] >= 0; t++) {
        kisa_program alone = steady_stage(b, &m->code[t], room);
        kisa_estimate stage;
        kisa_estimate_run(&alone, 1, &stage);
        slowest = stage.latency_s > slowest ? stage.latency_s : slowest;
    }
    return slowest;
}

static kcc_run_time time_of_module(kcc_meta *b, const kcc_module *m)
{
    kisa_program *slice = KAENA_NEW_N(b->a, kisa_program, m->n_tpbs);
    kisa_estimate e;
    /* Weights stay where activations leave room. */
    double room = (double)(KISA_SB_BYTES - b->meta->sb_bytes);
    kcc_run_time t = {.slowest_stage_s = slowest_stage(b, m, room)};
    for (uint32_t k = 0; k < m->n_tpbs; k++)
        slice[k] = (kisa_program){m->code[k].inst, m->code[k].n};
    kisa_estimate_run(slice, m->n_tpbs, &e);
    t.latency_s = t.steady_s = e.latency_s;
    if (m->n_tpbs == 1) {
        kisa_program again = steady_stage(b, &m->code[0], room);
        kisa_estimate steady;
        kisa_estimate_run(&again, 1, &steady);
        t.steady_s = steady.latency_s;
    }
    for (int k = 0; k < KISA_ENGINE_COUNT; k++)
        t.busy_s[k] = e.busy_s[k];
    t.dram_bytes = (double)e.dram_bytes;
    for (uint32_t k = 0; k < m->n_io; k++)
        t.io_bytes +=
            (double)kop_elements(&m->io[k]->t) * (double)kaena_dtype_size(m->io[k]->t.dtype);
    for (uint32_t k = 0; k < m->n_tpbs; k++) {
        double named = weights_named(b, &m->code[k]);
        t.weight_bytes += named;
        t.streamed_bytes += named > room ? named : 0;
    }
    t.activation_bytes = (double)m->lower_bound_bytes;
    t.sharded = m->n_tpbs > 1 && m->n_nodes && m->stage[0] < 0;
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

static kcc_run_time time_of_unit(kcc_meta *b, const kcc_unit *u)
{
    kcc_run_time sum = {0};
    for (uint32_t i = 0; i < u->plan.n_steps; i++) {
        const kcc_step *s = &u->plan.steps[i];
        kcc_run_time t = {0};
        if (s->on_device) {
            t = time_of_module(b, u->module[i]);
        } else if (!s->by_plan) {
            for (uint32_t k = 0; k < s->n_nodes; k++)
                t.host_s += 1e-6 * kcc_host_us(s->nodes[k]);
            t.latency_s = t.steady_s = t.host_s;
        } else { /* of two branches the longer one */
            for (uint32_t k = 0; k < s->nodes[0]->n_body; k++) {
                kcc_run_time of_body = time_of_unit(b, u->body[i][k]);
                t = of_body.latency_s > t.latency_s ? of_body : t;
            }
        }
        add_time(&sum, &t, s->by_plan ? turns_of(s->nodes[0]) : 1);
    }
    return sum;
}

/* What a copy alone waits for, on |tpbs| TPBs, when a run moves |dram_bytes|. */
static const char *bottleneck_of(const kcc_run_time *t, uint32_t tpbs, double dram_bytes)
{
    kisa_engine worst = KISA_ENGINE_PE;
    for (int e = 0; e < KISA_ENGINE_COUNT; e++)
        if (t->busy_s[e] > t->busy_s[worst])
            worst = (kisa_engine)e;
    double busy = t->busy_s[worst] / tpbs;
    if (t->host_s > busy)
        return "the host";
    uint32_t chips = (tpbs + TPBS_PER_CHIP - 1) / TPBS_PER_CHIP;
    if (t->slowest_stage_s <= 0 && dram_bytes / (chips * KISA_DRAM_BYTES_PER_S) > busy)
        return "DRAM";
    return kisa_engine_name(worst);
}

void kcc_meta_estimates(kcc_meta *b)
{
    kcc_compilation *c = b->c;
    kcc_run_time t = {0};
    b->meta->estimate_items = 1;
    for (uint32_t i = 0; i < c->n_graphs; i++) { /* of several shapes the slowest */
        kcc_run_time of_variant = time_of_unit(b, c->variant[i]);
        if (of_variant.latency_s > t.latency_s) {
            t = of_variant;
            b->meta->estimate_items = kcc_meta_items(c, i);
        }
    }
    double period = t.steady_s;
    if (t.slowest_stage_s > 0)
        period = t.host_s > t.slowest_stage_s ? t.host_s : t.slowest_stage_s;
    /* Once weights lie where they stay, a run reads the others and what is no weight. */
    double steady = t.dram_bytes - t.weight_bytes + t.streamed_bytes;
    steady = steady > t.io_bytes ? steady : t.io_bytes;
    b->meta->estimates = KAENA_NEW_N(b->a, Kaena__V1__NeffEstimate *, INSTANCE_SIZES);
    for (int i = 0; i < INSTANCE_SIZES; i++) {
        uint32_t tpbs = instance_chips[i] * TPBS_PER_CHIP, groups = tpbs / c->opt.num_tpbs;
        if (groups == 0 || period <= 0)
            continue;
        /* All copies on a chip share its DRAM. */
        double rate = groups / period, dram = instance_chips[i] * KISA_DRAM_BYTES_PER_S;
        bool by_dram = rate * steady > dram;
        rate = by_dram ? dram / steady : rate;
        Kaena__V1__NeffEstimate *e = KAENA_NEW(b->a, Kaena__V1__NeffEstimate);
        kaena__v1__neff_estimate__init(e);
        e->chips = instance_chips[i];
        e->latency_us = t.latency_s * 1e6;
        e->throughput_per_s = rate;
        e->items_per_s = rate * b->meta->estimate_items;
        e->tpb_utilisation = t.busy_s[KISA_ENGINE_PE] * rate / tpbs;
        e->dram_utilisation = rate * steady / dram;
        e->bottleneck =
            kaena_arena_strdup(b->a, by_dram ? "DRAM" : bottleneck_of(&t, c->opt.num_tpbs, steady));
        b->meta->estimates[b->meta->n_estimates++] = e;
    }
    kcc_meta_advice(b, &t);
}
