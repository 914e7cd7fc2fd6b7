/* The META section: values, sizes and what holds the rest together. */
#include <string.h>

#include "host_graph.h"
#include "meta.h"

#define HOST_QUOTA_FACTOR 4 /* of the bytes of all values a host step knows at compile time */
#define HOST_QUOTA_FLOOR (UINT64_C(64) << 20)
#define HOST_QUOTA_LOOP (UINT64_C(1) << 30) /* what turns, whose number is not known, may leave */

/* --- Values ---------------------------------------------------------------------------------- */

static Kaena__V1__TensorSpec *spec_of(kcc_meta *b, const char *name, const kop_tensor *t)
{
    Kaena__V1__TensorSpec *spec = KAENA_NEW(b->a, Kaena__V1__TensorSpec);
    kaena__v1__tensor_spec__init(spec);
    spec->name = kaena_arena_strdup(b->a, name);
    spec->dtype = (Kaena__V1__DataType)t->dtype;
    spec->kind = (Kaena__V1__ValueKind)t->form;
    spec->any_rank = t->unranked;
    if (!t->unranked) {
        spec->n_shape = (size_t)t->shape.rank;
        spec->shape = kaena_arena_memdup(b->a, t->shape.dim, spec->n_shape * sizeof *spec->shape);
    }
    return spec;
}

uint32_t kcc_meta_add_value(kcc_meta *b, const char *name, const kop_tensor *t)
{
    Kaena__V1__NeffMeta *m = b->meta;
    if (m->n_values == b->cap_values) {
        b->cap_values = b->cap_values ? b->cap_values * 2 : 64;
        Kaena__V1__NeffValue **grown = KAENA_NEW_N(b->a, Kaena__V1__NeffValue *, b->cap_values);
        if (m->n_values)
            memcpy(grown, m->values, m->n_values * sizeof *grown);
        m->values = grown;
    }
    Kaena__V1__NeffValue *value = KAENA_NEW(b->a, Kaena__V1__NeffValue);
    kaena__v1__neff_value__init(value);
    value->spec = spec_of(b, name, t);
    value->dynamic = t->form != KOP_FORM_TENSOR || t->unranked || !kaena_shape_known(&t->shape);
    m->values[m->n_values++] = value;
    return (uint32_t)m->n_values - 1;
}

/* |name|, or with a number behind it if another value has it. */
static const char *unique(kcc_meta *b, const char *name)
{
    const char *candidate = name;
    for (uint32_t i = 2; kcc_name_add(&b->names, candidate, 0) != KCC_NAME_ADDED; i++)
        candidate = kaena_arena_printf(b->a, "%s_%u", name, i);
    return candidate;
}

uint32_t kcc_meta_value(kcc_meta *b, kcc_unit *u, const kgr_value *v, const char *prefix)
{
    if (!u->index[v->id]) {
        const char *name = kaena_arena_printf(b->a, "%s%s", prefix, v->name);
        u->index[v->id] = kcc_meta_add_value(b, unique(b, name), &v->t) + 1;
    }
    return u->index[v->id] - 1;
}

/* What a boundary value is to requests: open where the sets of shapes differ. */
static kop_tensor common_type(const kcc_compilation *c, bool output, uint32_t i)
{
    kop_tensor t = {0};
    for (uint32_t k = 0; k < c->n_graphs; k++) {
        const kgr_graph *g = c->graphs[k];
        const kop_tensor *own = output ? &g->outputs[i]->t : &g->inputs[i]->t;
        if (k == 0)
            t = *own;
        else if (own->unranked || own->shape.rank != t.shape.rank)
            t.unranked = true;
        for (int32_t d = 0; k && !t.unranked && d < t.shape.rank; d++)
            if (own->shape.dim[d] != t.shape.dim[d])
                t.shape.dim[d] = KAENA_DIM_UNKNOWN;
    }
    t.data = NULL;
    return t;
}

/* Inputs and outputs under the names the framework gives them; these may be the same for an input
 * that is handed on, so they stay out of the table until all are there. */
static void add_boundary(kcc_meta *b)
{
    const kgr_graph *g = b->c->graph;
    kcc_unit *only = b->c->n_graphs == 1 ? b->c->variant[0] : NULL;
    b->meta->n_inputs = g->n_inputs;
    b->meta->inputs = KAENA_NEW_N(b->a, uint32_t, g->n_inputs);
    b->meta->n_outputs = g->n_outputs;
    b->meta->outputs = KAENA_NEW_N(b->a, uint32_t, g->n_outputs);
    for (uint32_t i = 0; i < g->n_inputs + g->n_outputs; i++) {
        bool output = i >= g->n_inputs;
        uint32_t k = output ? i - g->n_inputs : i;
        const kgr_value *v = output ? g->outputs[k] : g->inputs[k];
        const char *name = output ? kgr_output_name(v) : v->name;
        kop_tensor t = common_type(b->c, output, k);
        uint32_t at = kcc_meta_add_value(b, name, &t);
        *(output ? &b->meta->outputs[k] : &b->meta->inputs[k]) = at;
        (void)kcc_name_add(&b->names, b->meta->values[at]->spec->name, 0);
        if (only)
            only->index[v->id] = at + 1;
    }
}

/* The signature of a SavedModel that this is, in the names of the NEFF's tensors. */
static void add_signature(kcc_meta *b)
{
    Kaena__V1__NeffMeta *m = b->meta;
    const char *name = b->c->chosen.signature_name;
    if (!name)
        return;
    Kaena__V1__NeffSignature *s = KAENA_NEW(b->a, Kaena__V1__NeffSignature);
    *s = (Kaena__V1__NeffSignature)KAENA__V1__NEFF_SIGNATURE__INIT;
    s->name = kaena_arena_strdup(b->a, name);
    s->n_inputs = m->n_inputs;
    s->inputs = KAENA_NEW_N(b->a, char *, m->n_inputs);
    for (size_t i = 0; i < m->n_inputs; i++)
        s->inputs[i] = m->values[m->inputs[i]]->spec->name;
    s->n_outputs = m->n_outputs;
    s->outputs = KAENA_NEW_N(b->a, char *, m->n_outputs);
    for (size_t i = 0; i < m->n_outputs; i++)
        s->outputs[i] = m->values[m->outputs[i]]->spec->name;
    m->n_signatures = 1;
    m->signatures = KAENA_NEW(b->a, Kaena__V1__NeffSignature *);
    m->signatures[0] = s;
}

/* --- Programs and host graphs ---------------------------------------------------------------- */

static bool has_loop(const kcc_step *s)
{
    for (uint32_t i = 0; i < s->n_nodes; i++)
        if (s->nodes[i]->op == KOP_Loop || s->nodes[i]->op == KOP_Scan)
            return true;
    return false;
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

/* The programs of all device steps of a TPB, one after another. */
static void join_programs(kcc_meta *b)
{
    kcc_compilation *c = b->c;
    uint32_t n_steps = 0, n_tpbs = c->opt.num_tpbs;
    uint32_t *total = KAENA_NEW_N(b->a, uint32_t, n_tpbs);
    for (const kcc_unit *u = c->units; u; u = u->next)
        for (uint32_t i = 0; i < u->plan.n_steps; i++)
            for (uint32_t t = 0; u->module[i] && t < n_tpbs; t++) {
                n_steps += t == 0;
                total[t] += u->module[i]->code[t].n;
            }
    c->program = KAENA_NEW_N(b->a, kisa_program, n_tpbs);
    for (uint32_t t = 0; t < n_tpbs; t++)
        c->program[t].inst = KAENA_NEW_N(b->a, kisa_inst, total[t]);
    b->entry = KAENA_NEW_N(b->a, uint32_t *, n_steps);
    n_steps = 0;
    for (const kcc_unit *u = c->units; u; u = u->next)
        for (uint32_t i = 0; i < u->plan.n_steps; i++) {
            if (!u->module[i])
                continue;
            uint32_t *entry = b->entry[n_steps++] = KAENA_NEW_N(b->a, uint32_t, n_tpbs);
            for (uint32_t t = 0; t < n_tpbs; t++) {
                const kcc_code *code = &u->module[i]->code[t];
                kisa_program *p = &c->program[t];
                entry[t] = p->n;
                memcpy(&p->inst[p->n], code->inst, code->n * sizeof *code->inst);
                p->n += code->n;
            }
        }
}

static void add_unit(kcc_meta *b, kcc_unit *u, uint32_t *graphs, uint32_t *devices)
{
    Kaena__V1__NeffMeta *m = b->meta;
    u->first_graph = *graphs;
    u->first_device = *devices;
    for (uint32_t i = 0; i < u->plan.n_steps; i++) {
        const kcc_step *s = &u->plan.steps[i];
        const kcc_module *module = u->module[i];
        if (module) {
            ++*devices;
            m->sb_bytes = module->sb_bytes > m->sb_bytes ? module->sb_bytes : m->sb_bytes;
            m->scratch_bytes =
                module->scratch_bytes > m->scratch_bytes ? module->scratch_bytes : m->scratch_bytes;
        } else {
            m->host_quota_bytes += step_bytes(s) * HOST_QUOTA_FACTOR +
                                   (has_loop(s) ? HOST_QUOTA_LOOP : HOST_QUOTA_FLOOR);
            if (s->by_plan)
                continue;
            ++*graphs;
            u->host[i] = kcc_host_graph(b->a, u->graph, s);
        }
    }
    kcc_meta_layers(b, u);
}

static void add_weight_ranges(kcc_meta *b)
{
    kcc_compilation *c = b->c;
    b->meta->n_weight_ranges = c->opt.num_tpbs;
    b->meta->weight_ranges = KAENA_NEW_N(b->a, Kaena__V1__NeffWeightRange *, c->opt.num_tpbs);
    for (uint32_t t = 0; t < c->opt.num_tpbs; t++) {
        Kaena__V1__NeffWeightRange *r = KAENA_NEW(b->a, Kaena__V1__NeffWeightRange);
        kaena__v1__neff_weight_range__init(r);
        uint64_t end = 0;
        bool any = false;
        for (const kcc_unit *u = c->units; u; u = u->next)
            for (uint32_t i = 0; i < u->plan.n_steps; i++) {
                const kcc_code *code = u->module[i] ? &u->module[i]->code[t] : NULL;
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

/* --- Dynamic batch --------------------------------------------------------------------------- */

/* Items along axis 0 of input 0, which every batched tensor has. */
static int64_t batch_of(const kgr_graph *g)
{
    const kop_tensor *t = g->n_inputs ? &g->inputs[0]->t : NULL;
    return t && !t->unranked && t->shape.rank > 0 ? t->shape.dim[0] : 0;
}

static bool is_batched(const kcc_compilation *c, bool output, uint32_t i)
{
    for (uint32_t k = 0; k < c->n_graphs; k++) {
        const kgr_graph *g = c->graphs[k];
        const kop_tensor *t = output ? &g->outputs[i]->t : &g->inputs[i]->t;
        if (t->unranked || t->shape.rank < 1 || t->shape.dim[0] != batch_of(g))
            return false;
    }
    return true;
}

uint32_t kcc_meta_items(const kcc_compilation *c, uint32_t variant)
{
    const kgr_graph *g = c->graphs[variant];
    int64_t items = batch_of(g);
    if (items <= 1 || g->inputs[0]->t.shape.rank < 2) /* a vector's axis is what it holds */
        return 1;
    for (uint32_t i = 0; i < g->n_inputs + g->n_outputs; i++) {
        const kop_tensor *t = i < g->n_inputs ? &g->inputs[i]->t : &g->outputs[i - g->n_inputs]->t;
        if (t->unranked || t->shape.rank < 1 || t->shape.dim[0] != items)
            return 1;
    }
    return items <= INT32_MAX ? (uint32_t)items : 1;
}

static kaena_status add_dynamic_batch(kcc_meta *b)
{
    const kcc_compilation *c = b->c;
    const kgr_graph *g = c->graph;
    for (uint32_t k = 0; k < c->n_graphs; k++)
        if (batch_of(c->graphs[k]) < 1)
            return KAENA_FAIL(b->err, INVALID_ARGUMENT,
                              "--dynamic-batch: the first input has no axis 0 of known size");
    Kaena__V1__NeffDynamicBatch *d = KAENA_NEW(b->a, Kaena__V1__NeffDynamicBatch);
    kaena__v1__neff_dynamic_batch__init(d);
    d->inputs = KAENA_NEW_N(b->a, uint32_t, g->n_inputs);
    d->outputs = KAENA_NEW_N(b->a, uint32_t, g->n_outputs);
    for (uint32_t i = 0; i < g->n_inputs; i++)
        if (is_batched(c, false, i))
            d->inputs[d->n_inputs++] = i;
    for (uint32_t i = 0; i < g->n_outputs; i++)
        if (is_batched(c, true, i))
            d->outputs[d->n_outputs++] = i;
    if (d->n_outputs < g->n_outputs)
        return KAENA_FAIL(b->err, INVALID_ARGUMENT,
                          "--dynamic-batch: an output's axis 0 is not the batch of %lld items",
                          (long long)batch_of(g));
    b->meta->dynamic_batch = d;
    return KAENA_OK;
}

/* --- The whole ------------------------------------------------------------------------------- */

static const char *const cast_names[] = {
    [KCC_CAST_ALL] = "all", [KCC_CAST_MATMUL] = "matmul", [KCC_CAST_NONE] = "none"};

kaena_status kcc_meta_build(kcc_compilation *c, kaena_err *err)
{
    kaena_arena *a = c->arena;
    Kaena__V1__NeffMeta *meta = KAENA_NEW(a, Kaena__V1__NeffMeta);
    kaena__v1__neff_meta__init(meta);
    kcc_meta b = {.c = c, .a = a, .meta = meta, .names = {.arena = a}, .err = err};
    bool pipeline = c->opt.optimize == KCC_OPTIMIZE_THROUGHPUT && c->opt.num_tpbs > 1;
    meta->model_name = kaena_arena_strdup(a, c->graph->name ? c->graph->name : "");
    meta->compiler = KCC_VERSION_TEXT;
    meta->framework = kaena_arena_strdup(a, c->info.framework);
    meta->cast_mode = (char *)(uintptr_t)cast_names[c->opt.cast];
    meta->optimize = pipeline ? "throughput" : "latency";
    meta->num_tpbs = c->opt.num_tpbs;
    meta->contexts = pipeline ? c->opt.num_tpbs : 1;
    for (kcc_unit *u = c->units; u; u = u->next)
        u->index = KAENA_NEW_N(a, uint32_t, u->graph->n_values);
    add_boundary(&b);
    add_signature(&b);
    join_programs(&b);
    uint32_t graphs = 0, devices = 0;
    for (kcc_unit *u = c->units; u; u = u->next)
        add_unit(&b, u, &graphs, &devices);
    KAENA_TRY(kcc_meta_plan(&b));
    if (c->dynamic_batch)
        KAENA_TRY(add_dynamic_batch(&b));
    add_weight_ranges(&b);
    kcc_meta_estimates(&b);
    c->meta = meta;
    return KAENA_OK;
}
