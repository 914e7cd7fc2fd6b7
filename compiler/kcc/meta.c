/* The META section: values, plan, layers, estimates. */
#include <string.h>

#include "compile.h"
#include "cost.h"
#include "host_graph.h"

#define INSTANCE_SIZES 3
static const uint32_t instance_chips[INSTANCE_SIZES] = {1, 4, 16};

#define TPBS_PER_CHIP 4
#define HOST_QUOTA_FACTOR 4 /* of the bytes of all values a host step knows at compile time */
#define HOST_QUOTA_FLOOR (UINT64_C(64) << 20)

typedef struct builder {
    kcc_compilation *c;
    kaena_arena *a;
    uint32_t *index; /* value id -> index into values, plus one */
    Kaena__V1__NeffMeta *meta;
} builder;

static uint32_t add_value(builder *b, const kgr_value *v)
{
    if (b->index[v->id])
        return b->index[v->id] - 1;
    Kaena__V1__NeffValue *value = KAENA_NEW(b->a, Kaena__V1__NeffValue);
    Kaena__V1__TensorSpec *spec = KAENA_NEW(b->a, Kaena__V1__TensorSpec);
    kaena__v1__neff_value__init(value);
    kaena__v1__tensor_spec__init(spec);
    spec->name = kaena_arena_strdup(b->a, kgr_output_name(v));
    spec->dtype = (Kaena__V1__DataType)v->t.dtype;
    value->dynamic = v->t.unranked || !kaena_shape_known(&v->t.shape);
    if (!value->dynamic) {
        spec->n_shape = (size_t)v->t.shape.rank;
        spec->shape = kaena_arena_memdup(b->a, v->t.shape.dim, spec->n_shape * sizeof *spec->shape);
    }
    value->spec = spec;
    b->meta->values[b->meta->n_values++] = value;
    b->index[v->id] = (uint32_t)b->meta->n_values;
    return b->index[v->id] - 1;
}

static uint32_t *add_values(builder *b, kgr_value *const *v, uint32_t n)
{
    uint32_t *out = KAENA_NEW_N(b->a, uint32_t, n);
    for (uint32_t i = 0; i < n; i++)
        out[i] = add_value(b, v[i]);
    return out;
}

static Kaena__V1__NeffStep *device_step(builder *b, const kcc_step *s, const kcc_module *m)
{
    Kaena__V1__NeffDeviceStep *d = KAENA_NEW(b->a, Kaena__V1__NeffDeviceStep);
    Kaena__V1__NeffStep *step = KAENA_NEW(b->a, Kaena__V1__NeffStep);
    kaena__v1__neff_device_step__init(d);
    kaena__v1__neff_step__init(step);
    step->kind_case = KAENA__V1__NEFF_STEP__KIND_DEVICE;
    step->device = d;
    d->n_entries = m->n_tpbs;
    d->entries = KAENA_NEW_N(b->a, uint32_t, m->n_tpbs);
    for (uint32_t t = 0; t < m->n_tpbs; t++)
        d->entries[t] = b->c->program[t].n;
    d->n_io = d->n_io_written = s->n_in + s->n_out;
    d->io = KAENA_NEW_N(b->a, uint32_t, d->n_io);
    d->io_written = KAENA_NEW_N(b->a, protobuf_c_boolean, d->n_io);
    for (uint32_t i = 0; i < d->n_io; i++) {
        d->io[i] = add_value(b, i < s->n_in ? s->in[i] : s->out[i - s->n_in]);
        d->io_written[i] = i >= s->n_in;
    }
    return step;
}

static Kaena__V1__NeffStep *host_step(builder *b, const kcc_step *s, uint32_t graph)
{
    Kaena__V1__NeffHostStep *h = KAENA_NEW(b->a, Kaena__V1__NeffHostStep);
    Kaena__V1__NeffStep *step = KAENA_NEW(b->a, Kaena__V1__NeffStep);
    kaena__v1__neff_host_step__init(h);
    kaena__v1__neff_step__init(step);
    step->kind_case = KAENA__V1__NEFF_STEP__KIND_HOST;
    step->host = h;
    h->graph = graph;
    h->n_inputs = s->n_in;
    h->inputs = add_values(b, s->in, s->n_in);
    h->n_outputs = s->n_out;
    h->outputs = add_values(b, s->out, s->n_out);
    return step;
}

static void append_program(builder *b, const kcc_module *m)
{
    for (uint32_t t = 0; t < m->n_tpbs; t++) {
        kisa_program *p = &b->c->program[t];
        kisa_inst *inst = KAENA_NEW_N(b->a, kisa_inst, p->n + m->code[t].n);
        if (p->n)
            memcpy(inst, p->inst, p->n * sizeof *inst);
        memcpy(inst + p->n, m->code[t].inst, m->code[t].n * sizeof *inst);
        *p = (kisa_program){inst, p->n + m->code[t].n};
    }
}

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

static Kaena__V1__NeffLayer *new_layer(builder *b, const kgr_node *n)
{
    Kaena__V1__NeffLayer *l = KAENA_NEW(b->a, Kaena__V1__NeffLayer);
    kaena__v1__neff_layer__init(l);
    l->name = kaena_arena_strdup(b->a, n->name);
    l->operator_name = kaena_arena_strdup(b->a, n->origin);
    b->meta->layers[b->meta->n_layers++] = l;
    return l;
}

/* A layer per node: its parts on several TPBs, which were emitted one after another or TPB by TPB,
 * are one layer, whose time is the mean. */
static void add_layers(builder *b, const kcc_module *m)
{
    Kaena__V1__NeffLayer **of = KAENA_NEW_N(b->a, Kaena__V1__NeffLayer *, b->c->graph->n_values);
    uint32_t *parts = KAENA_NEW_N(b->a, uint32_t, b->c->graph->n_values);
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
    for (uint32_t id = 0; id < b->c->graph->n_values; id++)
        if (of[id])
            of[id]->estimated_us /= parts[id];
}

/* Bytes of everything a host step touches, as far as shapes are known. */
static uint64_t step_bytes(const kcc_step *s)
{
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < s->n_nodes; i++)
        for (uint32_t k = 0; k < s->nodes[i]->n_out; k++) {
            const kop_tensor *t = &s->nodes[i]->out[k]->t;
            int64_t n;
            if (!t->unranked && kaena_shape_elements(&t->shape, &n))
                bytes += (uint64_t)n * kaena_dtype_size(t->dtype);
        }
    return bytes;
}

static void add_host_operators(builder *b, const kcc_step *s)
{
    for (uint32_t i = 0; i < s->n_nodes; i++) {
        const kgr_node *n = s->nodes[i];
        b->meta->host_operators[b->meta->n_host_operators++] =
            kaena_arena_printf(b->a, "%s (%s): %s", n->name, n->origin,
                               n->reason ? n->reason : "computed on the host");
        Kaena__V1__NeffLayer *l = new_layer(b, n);
        l->on_host = true;
        l->estimated_us = kcc_host_us(n);
        l->engine = kaena_arena_strdup(b->a, "host");
    }
}

static void add_estimates(builder *b)
{
    kcc_compilation *c = b->c;
    kisa_estimate sum = {0};
    double slowest_stage = 0;
    kisa_program *slice = KAENA_NEW_N(b->a, kisa_program, c->opt.num_tpbs);
    for (uint32_t i = 0; i < c->plan.n_steps; i++) {
        const kcc_module *m = c->module[i];
        if (!m)
            continue;
        for (uint32_t t = 0; t < m->n_tpbs; t++)
            slice[t] = (kisa_program){m->code[t].inst, m->code[t].n};
        kisa_estimate e;
        kisa_estimate_run(slice, m->n_tpbs, &e);
        sum.latency_s += e.latency_s;
        sum.pe_flops += e.pe_flops;
        for (int k = 0; k < KISA_ENGINE_COUNT; k++)
            sum.busy_s[k] += e.busy_s[k];
        /* In a pipeline the slowest stage sets the pace. */
        for (uint32_t t = 0; t < m->n_tpbs && m->n_nodes && m->stage[0] >= 0; t++) {
            kisa_program alone = {KAENA_NEW_N(b->a, kisa_inst, m->code[t].n), 0};
            for (uint32_t k = 0; k < m->code[t].n; k++)
                if (m->code[t].inst[k].op != KISA_WAIT && m->code[t].inst[k].op != KISA_SIGNAL)
                    alone.inst[alone.n++] = m->code[t].inst[k];
            kisa_estimate stage;
            kisa_estimate_run(&alone, 1, &stage);
            slowest_stage = stage.latency_s > slowest_stage ? stage.latency_s : slowest_stage;
        }
    }
    kisa_engine worst = KISA_ENGINE_PE;
    for (int e = 0; e < KISA_ENGINE_COUNT; e++)
        if (sum.busy_s[e] > sum.busy_s[worst])
            worst = (kisa_engine)e;
    const char *bottleneck = kisa_engine_name(worst);
    double host_s = 0;
    for (size_t i = 0; i < b->meta->n_layers; i++)
        if (b->meta->layers[i]->on_host)
            host_s += 1e-6 * b->meta->layers[i]->estimated_us;
    sum.latency_s += host_s;
    if (host_s > sum.busy_s[worst])
        bottleneck = "the host";
    if (host_s > slowest_stage && slowest_stage > 0)
        slowest_stage = host_s;
    double period = slowest_stage > 0 ? slowest_stage : sum.latency_s;
    for (int i = 0; i < INSTANCE_SIZES; i++) {
        uint32_t groups = instance_chips[i] * TPBS_PER_CHIP / c->opt.num_tpbs;
        if (groups == 0 || period <= 0)
            continue;
        Kaena__V1__NeffEstimate *e = KAENA_NEW(b->a, Kaena__V1__NeffEstimate);
        kaena__v1__neff_estimate__init(e);
        e->chips = instance_chips[i];
        e->latency_us = sum.latency_s * 1e6;
        e->throughput_per_s = groups / period;
        e->tpb_utilisation = sum.busy_s[KISA_ENGINE_PE] / (period * c->opt.num_tpbs);
        e->bottleneck = kaena_arena_strdup(b->a, bottleneck);
        b->meta->estimates[b->meta->n_estimates++] = e;
    }
}

static void add_weight_ranges(builder *b)
{
    kcc_compilation *c = b->c;
    b->meta->n_weight_ranges = c->opt.num_tpbs;
    for (uint32_t t = 0; t < c->opt.num_tpbs; t++) {
        Kaena__V1__NeffWeightRange *r = KAENA_NEW(b->a, Kaena__V1__NeffWeightRange);
        kaena__v1__neff_weight_range__init(r);
        uint64_t end = 0;
        bool any = false;
        for (uint32_t i = 0; i < c->plan.n_steps; i++) {
            const kcc_code *code = c->module[i] ? &c->module[i]->code[t] : NULL;
            if (!code || code->weights_end == 0)
                continue;
            if (!any || code->weights_first < r->offset)
                r->offset = code->weights_first;
            end = code->weights_end > end ? code->weights_end : end;
            any = true;
        }
        r->size = any ? end - r->offset : 0;
        b->meta->weight_ranges[t] = r;
    }
}

static const char *const cast_names[] = {
    [KCC_CAST_ALL] = "all", [KCC_CAST_MATMUL] = "matmul", [KCC_CAST_NONE] = "none"};

kaena_status kcc_meta_build(kcc_compilation *c, kaena_err *err)
{
    (void)err;
    kaena_arena *a = c->arena;
    const kgr_graph *g = c->graph;
    Kaena__V1__NeffMeta *meta = KAENA_NEW(a, Kaena__V1__NeffMeta);
    kaena__v1__neff_meta__init(meta);
    builder b = {.c = c, .a = a, .index = KAENA_NEW_N(a, uint32_t, g->n_values), .meta = meta};
    uint32_t n_nodes = 0;
    for (uint32_t i = 0; i < c->plan.n_steps; i++)
        n_nodes += c->plan.steps[i].n_nodes + (c->module[i] ? c->module[i]->n_nodes : 0);
    meta->values = KAENA_NEW_N(a, Kaena__V1__NeffValue *, g->n_values);
    meta->layers = KAENA_NEW_N(a, Kaena__V1__NeffLayer *, n_nodes);
    meta->estimates = KAENA_NEW_N(a, Kaena__V1__NeffEstimate *, INSTANCE_SIZES);
    meta->host_operators = KAENA_NEW_N(a, char *, n_nodes);
    meta->weight_ranges = KAENA_NEW_N(a, Kaena__V1__NeffWeightRange *, c->opt.num_tpbs);
    bool pipeline = c->opt.optimize == KCC_OPTIMIZE_THROUGHPUT && c->opt.num_tpbs > 1;
    meta->model_name = kaena_arena_strdup(a, g->name ? g->name : "");
    meta->compiler = KCC_VERSION_TEXT;
    meta->framework = kaena_arena_strdup(a, c->info.framework);
    meta->cast_mode = (char *)(uintptr_t)cast_names[c->opt.cast];
    meta->optimize = pipeline ? "throughput" : "latency";
    meta->num_tpbs = c->opt.num_tpbs;
    meta->contexts = pipeline ? c->opt.num_tpbs : 1;
    meta->n_inputs = g->n_inputs;
    meta->inputs = add_values(&b, g->inputs, g->n_inputs);
    meta->n_outputs = g->n_outputs;
    meta->outputs = add_values(&b, g->outputs, g->n_outputs);
    meta->plan = KAENA_NEW(a, Kaena__V1__NeffPlan);
    kaena__v1__neff_plan__init(meta->plan);
    meta->plan->n_steps = c->plan.n_steps;
    meta->plan->steps = KAENA_NEW_N(a, Kaena__V1__NeffStep *, c->plan.n_steps);
    c->program = KAENA_NEW_N(a, kisa_program, c->opt.num_tpbs);
    c->host = KAENA_NEW_N(a, kgr_graph *, c->plan.n_steps);
    uint32_t graphs = 0;
    for (uint32_t i = 0; i < c->plan.n_steps; i++) {
        const kcc_step *s = &c->plan.steps[i];
        const kcc_module *m = c->module[i];
        if (m) {
            meta->plan->steps[i] = device_step(&b, s, m);
            append_program(&b, m);
            add_layers(&b, m);
            meta->sb_bytes = m->sb_bytes > meta->sb_bytes ? m->sb_bytes : meta->sb_bytes;
            meta->scratch_bytes =
                m->scratch_bytes > meta->scratch_bytes ? m->scratch_bytes : meta->scratch_bytes;
        } else {
            c->host[i] = kcc_host_graph(a, g, s);
            meta->plan->steps[i] = host_step(&b, s, graphs++);
            add_host_operators(&b, s);
            meta->host_quota_bytes += step_bytes(s) * HOST_QUOTA_FACTOR + HOST_QUOTA_FLOOR;
        }
    }
    add_weight_ranges(&b);
    add_estimates(&b);
    c->meta = meta;
    return KAENA_OK;
}
