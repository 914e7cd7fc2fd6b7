/* The pipeline of kcc, readable as the table |stages|. */
#include "compile.h"

#include <string.h>
#include <stdio.h>
#include <time.h>

#include "file.h"
#include "neff.h"
#include "release.h"

static kaena_status import_one(kcc_compilation *c, kaena_err *err)
{
    c->io = (kcc_io_config){0};
    if (c->io_config)
        KAENA_TRY(kcc_io_config_parse(c->arena, c->io_config, &c->io, err));
    return c->framework->import(c, err);
}

static kaena_status stage_import(kcc_compilation *c, kaena_err *err)
{
    bool given = c->graph;
    c->n_graphs = c->n_io_configs > 1 && !given ? c->n_io_configs : 1;
    c->graphs = KAENA_NEW_N(c->arena, kgr_graph *, c->n_graphs);
    for (uint32_t i = 0; i < c->n_graphs; i++) {
        if (c->n_io_configs)
            c->io_config = c->io_configs[i];
        if (!given)
            KAENA_TRY(import_one(c, err));
        c->graphs[i] = c->graph;
    }
    c->graph = c->graphs[0];
    return KAENA_OK;
}

typedef kaena_status graph_pass(kgr_graph *g, const kcc_options *opt, kaena_err *err);

/* For the graphs alone. */
static kaena_status each_whole(kcc_compilation *c, graph_pass *pass, kaena_err *err)
{
    for (uint32_t i = 0; i < c->n_graphs; i++)
        KAENA_TRY(pass(c->graphs[i], &c->opt, err));
    return KAENA_OK;
}

typedef struct passing {
    graph_pass *pass;
    const kcc_options *opt;
} passing;

static kaena_status pass_one(kgr_graph *g, void *ctx, kaena_err *err)
{
    const passing *p = ctx;
    return p->pass(g, p->opt, err);
}

/* For the graphs and their bodies. */
static kaena_status each_graph(kcc_compilation *c, graph_pass *pass, kaena_err *err)
{
    passing p = {pass, &c->opt};
    for (uint32_t i = 0; i < c->n_graphs; i++)
        KAENA_TRY(kgr_each_graph(c->graphs[i], pass_one, &p, err));
    return KAENA_OK;
}

static kaena_status stage_pin(kcc_compilation *c, kaena_err *err)
{
    return each_whole(c, kcc_pass_pin, err);
}

static kaena_status stage_infer(kcc_compilation *c, kaena_err *err)
{
    return each_whole(c, kcc_pass_infer, err);
}

/* What an If chose may be folded further. */
static kaena_status fold_graph(kgr_graph *g, const kcc_options *opt, kaena_err *err)
{
    bool inlined = true;
    while (inlined) {
        inlined = false;
        KAENA_TRY(kcc_pass_fold(g, opt, err));
        KAENA_TRY(kcc_pass_bodies(g, &inlined, err));
    }
    return KAENA_OK;
}

static kaena_status stage_quantise(kcc_compilation *c, kaena_err *err)
{
    return each_graph(c, kcc_pass_quantise, err);
}

static kaena_status stage_fold(kcc_compilation *c, kaena_err *err)
{
    return each_graph(c, fold_graph, err);
}

static kaena_status simplify_graph(kgr_graph *g, const kcc_options *opt, kaena_err *err)
{
    bool inlined = false;
    KAENA_TRY(kcc_pass_scan(g, opt, err));
    KAENA_TRY(kcc_pass_simplify(g, opt, err));
    return kcc_pass_bodies(g, &inlined, err);
}

static kaena_status stage_simplify(kcc_compilation *c, kaena_err *err)
{
    return each_graph(c, simplify_graph, err);
}

/* Makes a value an output of the model, if it is not one. */
static void keep_value(kgr_graph *g, kgr_value *v)
{
    for (uint32_t i = 0; i < g->n_outputs; i++)
        if (g->outputs[i] == v)
            return;
    kgr_output_add(g, v);
}

static kaena_status stage_fuse(kcc_compilation *c, kaena_err *err)
{
    KAENA_TRY(each_graph(c, kcc_pass_fuse, err));
    if (c->keep_all)
        for (const kgr_node *n = c->graph->first; n; n = n->next)
            for (uint32_t k = 0; k < n->n_out; k++)
                keep_value(c->graph, n->out[k]);
    return KAENA_OK;
}

static kaena_status partition_graph(kgr_graph *g, const kcc_options *opt, kaena_err *err)
{
    return kcc_pass_partition(g, opt, kcc_lowerable, err);
}

static kaena_status stage_partition(kcc_compilation *c, kaena_err *err)
{
    return each_whole(c, partition_graph, err);
}

static kaena_status stage_cast(kcc_compilation *c, kaena_err *err)
{
    kcc_unit **last = &c->units;
    c->variant = KAENA_NEW_N(c->arena, kcc_unit *, c->n_graphs);
    for (uint32_t i = 0; i < c->n_graphs; i++)
        KAENA_TRY(kcc_unit_create(c->arena, c->graphs[i], &c->opt, &last, &c->variant[i], err));
    for (const kcc_unit *u = c->units; u; u = u->next) {
        c->n_device_nodes += u->plan.n_device_nodes;
        c->n_host_nodes += u->plan.n_host_nodes;
    }
    return kcc_release_constants(c->graphs, c->n_graphs, err);
}

static kaena_status stage_layout(kcc_compilation *c, kaena_err *err)
{
    c->weights = kcc_weights_create(c->arena);
    for (kcc_unit *u = c->units; u; u = u->next)
        KAENA_TRY(kcc_unit_layout(u, c->arena, &c->opt, c->weights, err));
    return KAENA_OK;
}

typedef kaena_status module_pass(kcc_module *m, kaena_err *err);

static kaena_status each_module(kcc_compilation *c, module_pass *pass, kaena_err *err)
{
    for (const kcc_unit *u = c->units; u; u = u->next)
        for (uint32_t i = 0; i < u->plan.n_steps; i++)
            if (u->module[i])
                KAENA_TRY(pass(u->module[i], err));
    return KAENA_OK;
}

static kaena_status stage_place(kcc_compilation *c, kaena_err *err)
{
    return each_module(c, kcc_place, err);
}

static kaena_status stage_plan(kcc_compilation *c, kaena_err *err)
{
    return each_module(c, kcc_plan, err);
}

static kaena_status stage_lower(kcc_compilation *c, kaena_err *err)
{
    return each_module(c, kcc_emit, err);
}

static kaena_status stage_estimate(kcc_compilation *c, kaena_err *err)
{
    return kcc_meta_build(c, err);
}

static kaena_status stage_write(kcc_compilation *c, kaena_err *err)
{
    uint32_t n_pieces, n_graphs = 0;
    uint64_t bytes;
    const kcc_piece *pieces = kcc_weights_pieces(c->weights, &n_pieces, &bytes);
    struct neff_piece *weights = KAENA_NEW_N(c->arena, struct neff_piece, n_pieces);
    for (uint32_t i = 0; i < n_pieces; i++)
        weights[i] = (struct neff_piece){pieces[i].offset, pieces[i].size, pieces[i].data};
    for (const kcc_unit *u = c->units; u; u = u->next)
        n_graphs += u->plan.n_steps;
    const kgr_graph **graphs = KAENA_NEW_N(c->arena, const kgr_graph *, n_graphs);
    n_graphs = 0;
    for (const kcc_unit *u = c->units; u; u = u->next)
        for (uint32_t i = 0; i < u->plan.n_steps; i++)
            if (u->host[i])
                graphs[n_graphs++] = u->host[i];
    kaena_strbuf debug = {0};
    if (c->opt.debug)
        kcc_debug_text(c, &debug);
    const neff_content content = {.meta = c->meta,
                                  .programs = c->program,
                                  .graphs = graphs,
                                  .n_graphs = n_graphs,
                                  .weights = weights,
                                  .n_pieces = n_pieces,
                                  .weights_bytes = bytes,
                                  .debug = debug.data,
                                  .debug_bytes = debug.size};
    kaena_status status = neff_write(c->output, &content, err);
    kaena_strbuf_fini(&debug);
    return status;
}

/* A stage: what it does, and what holds of the compilation when it has run. */
static const struct stage {
    const char *name;
    kaena_status (*run)(kcc_compilation *c, kaena_err *err);
    const char *establishes;
} stages[] = {
    {"import", stage_import, "a graph of canonical operators"},
    {"pin", stage_pin, "places of the nodes that the user placed"},
    {"infer", stage_infer, "types and shapes of all values"},
    {"quantise", stage_quantise, "products between Dequantize- and QuantizeLinear on integers"},
    {"fold", stage_fold, "no node has constant inputs alone"},
    {"simplify", stage_simplify, "fewer and more regular nodes"},
    {"fuse", stage_fuse, "scales, biases, residuals and activations inside the nodes before them"},
    {"partition", stage_partition, "device or host for every node"},
    {"cast", stage_cast, "element types as stored on the device; the steps of the plan"},
    {"layout", stage_layout, "a view of memory for every device value"},
    {"place", stage_place, "TPBs and times of the nodes"},
    {"plan", stage_plan, "addresses of the buffers"},
    {"lower", stage_lower, "programs and packed weights"},
    {"estimate", stage_estimate, "metadata, estimates, host graphs"},
    {"write", stage_write, "the NEFF file"},
};

const char *kcc_stage_name(uint32_t i)
{
    return i < sizeof stages / sizeof *stages ? stages[i].name : NULL;
}

static double seconds(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void dump(const kcc_compilation *c)
{
    kaena_strbuf text = {0};
    kgr_print(c->graph, false, &text);
    (void)fwrite(text.data, 1, text.size, stdout);
    kaena_strbuf_fini(&text);
}

kaena_status kcc_compile(kcc_compilation *c, const char *last, kaena_err *err)
{
    for (size_t i = 0; i < sizeof stages / sizeof *stages; i++) {
        double start = seconds();
        KAENA_TRY_WRAP(err, stages[i].run(c, err), "%s", stages[i].name);
        if (c->progress)
            c->progress(stages[i].name, seconds() - start);
        if (c->dump_after && strcmp(c->dump_after, stages[i].name) == 0)
            dump(c);
        if (strcmp(last, stages[i].name) == 0)
            break;
    }
    return KAENA_OK;
}
