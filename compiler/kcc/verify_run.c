#include "verify_run.h"

#include <string.h>

#include "dev.h"
#include "neff.h"

/* --- Inputs ---------------------------------------------------------------------------------- */

/* Uniform in [-1, 1], 0 or 1 for integers (which may be indices), short words for strings. */
static void fill(kop_tensor *t, uint64_t seed)
{
    static char *const words[] = {"a", "two", "words here"};
    uint64_t s = seed * UINT64_C(0x9e3779b97f4a7c15) + 1;
    size_t n = kop_elements(t);
    for (size_t i = 0; i < n; i++) {
        s ^= s << 13;
        s ^= s >> 7;
        s ^= s << 17;
        if (t->dtype == KAENA_STRING)
            ((kaena_string *)t->data)[i] = (kaena_string){words[s % 3], strlen(words[s % 3])};
        else if (kaena_dtype_is_float(t->dtype))
            kop_set_float(t, i, (double)(s >> 40) / (double)(1 << 23) - 1.0);
        else
            kop_set_int(t, i, (int64_t)(s >> 33 & 1));
    }
}

static kaena_status make_input(kaena_arena *arena, const kgr_value *v, uint64_t seed,
                               kop_tensor *out, kaena_err *err)
{
    kop_tensor t = v->t;
    if (t.form != KOP_FORM_TENSOR)
        return KAENA_FAIL(err, UNIMPLEMENTED,
                          "input '%s' is no tensor: there is nothing to try it with", v->name);
    t.data = kaena_arena_array(arena, kop_elements(&t), kaena_dtype_size(t.dtype));
    if (!t.data)
        return KAENA_FAIL(err, RESOURCE_EXHAUSTED, "no memory for input '%s'", v->name);
    fill(&t, seed);
    *out = t;
    return KAENA_OK;
}

/* --- The reference --------------------------------------------------------------------------- */

static kaena_status import_again(const kcc_compilation *c, uint32_t variant, kaena_arena *arena,
                                 kgr_graph **out, kaena_err *err)
{
    kcc_compilation source = {.framework = c->framework,
                              .model = c->model,
                              .params = c->params,
                              .choice = c->choice,
                              .io_config = c->n_io_configs ? c->io_configs[variant] : c->io_config,
                              .arena = arena};
    if (source.io_config)
        KAENA_TRY(kcc_io_config_parse(arena, source.io_config, &source.io, err));
    KAENA_TRY(c->framework->import(&source, err));
    KAENA_TRY(kcc_pass_infer(source.graph, &c->opt, err));
    *out = source.graph;
    return KAENA_OK;
}

/* Where |v| stands among the outputs, which it joins if need be. */
static uint32_t output_place(kgr_graph *g, kgr_value *v)
{
    for (uint32_t k = 0; v->is_output && k < g->n_outputs; k++)
        if (g->outputs[k] == v)
            return k;
    kgr_output_add(g, v);
    return g->n_outputs - 1;
}

kaena_status kcc_run_reference(const kcc_compilation *c, uint32_t variant, kaena_arena *arena,
                               const char *const *names, uint32_t n, kcc_values *in,
                               kcc_values *out, kaena_err *err)
{
    kgr_graph *g;
    KAENA_TRY(import_again(c, variant, arena, &g, err));
    uint32_t *at = KAENA_NEW_N(arena, uint32_t, n);
    for (uint32_t i = 0; i < n; i++) {
        kgr_value *v = kgr_value_find(g, names[i]);
        at[i] = v ? output_place(g, v) : UINT32_MAX;
    }
    *in = (kcc_values){KAENA_NEW_N(arena, kop_tensor, g->n_inputs), g->n_inputs};
    for (uint32_t i = 0; i < g->n_inputs; i++)
        KAENA_TRY(make_input(arena, g->inputs[i], i + 1, &in->list[i], err));
    kop_tensor *all = KAENA_NEW_N(arena, kop_tensor, g->n_outputs);
    kop_env env = {.arena = arena};
    KAENA_TRY(kgr_eval(g, in->list, all, &env, err));
    *out = (kcc_values){all, g->n_outputs};
    if (!names)
        return KAENA_OK;
    *out = (kcc_values){KAENA_NEW_N(arena, kop_tensor, n), n};
    for (uint32_t i = 0; i < n; i++)
        if (at[i] != UINT32_MAX)
            out->list[i] = all[at[i]];
    return KAENA_OK;
}

/* --- The compiled model ---------------------------------------------------------------------- */

typedef struct answer {
    kaena_arena *arena;
    const kop_tensor *from; /* the device's; valid until |done| returns */
    kcc_values *out;
    kaena_status status;
    kaena_err err;
} answer;

static void on_done(dev_request *request, kaena_status status, const kaena_err *err)
{
    answer *a = request->user;
    a->status = status;
    if (err)
        a->err = *err;
    for (uint32_t i = 0; status == KAENA_OK && i < a->out->n; i++)
        (void)kop_copy(a->arena, &a->from[i], &a->out->list[i]); /* an arena without a quota */
}

static kaena_status run_model(kaena_arena *arena, dev_model *model, const kcc_values *in,
                              kcc_values *out, kaena_err *err)
{
    uint32_t n = neff_n_outputs(dev_model_neff(model));
    *out = (kcc_values){KAENA_NEW_N(arena, kop_tensor, n), n};
    kop_tensor *from = KAENA_NEW_N(arena, kop_tensor, n);
    answer a = {.arena = arena, .from = from, .out = out, .status = KAENA_UNAVAILABLE};
    dev_request request = {.in_tensor = in->list, .out_tensor = from, .done = on_done, .user = &a};
    (void)dev_run(model, &request); /* a context is free: nobody else uses the model */
    if (a.status != KAENA_OK && err)
        *err = a.err;
    return a.status;
}

kaena_status kcc_run_neff(kaena_arena *arena, const char *path, const kcc_values *in,
                          kcc_values *out, kaena_err *err)
{
    neff_file *file;
    dev_system *sys = NULL;
    dev_model *model = NULL;
    KAENA_TRY(neff_open(path, &file, err));
    const dev_config config = {.n_chips = (neff_meta(file)->num_tpbs + DEV_TPBS_PER_CHIP - 1) /
                                          DEV_TPBS_PER_CHIP,
                               .threads = 1};
    kaena_status status = dev_system_create(&config, &sys, err);
    if (status == KAENA_OK)
        status = dev_model_load(sys, path, file, &model, err);
    if (status == KAENA_OK)
        status = run_model(arena, model, in, out, err);
    dev_model_unload(model);
    if (sys)
        dev_system_destroy(sys);
    neff_unref(file);
    return status;
}
