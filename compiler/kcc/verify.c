#include "verify.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "dev.h"
#include "neff.h"

/* How far apart a result may be: |error| <= relative * max|expected| + absolute, and the cosine of
 * the angle between the two. */
typedef struct bound {
    double relative, absolute, cosine;
} bound;

static const bound bounds[] = {
    [KCC_CAST_ALL] = {0.05, 1e-5, 0.99},
    [KCC_CAST_MATMUL] = {0.05, 1e-5, 0.99},
    [KCC_CAST_NONE] = {1e-4, 1e-5, 0.999999},
};

typedef struct difference {
    double error, largest, cosine;
    bool agrees;
} difference;

static difference compare(const kop_tensor *want, const kop_tensor *got, const bound *b)
{
    difference d = {.cosine = 1};
    double dot = 0, ww = 0, gg = 0;
    size_t n = kop_elements(want);
    bool nan = false;
    for (size_t i = 0; i < n; i++) {
        double w = kop_get_float(want, i), g = kop_get_float(got, i), e = fabs(w - g);
        if (isnan(w) != isnan(g) || isinf(w) != isinf(g))
            nan = true;
        if (!isfinite(w) || !isfinite(g))
            continue;
        d.error = e > d.error ? e : d.error;
        d.largest = fabs(w) > d.largest ? fabs(w) : d.largest;
        dot += w * g;
        ww += w * w;
        gg += g * g;
    }
    if (ww > 0 || gg > 0)
        d.cosine = ww > 0 && gg > 0 ? dot / sqrt(ww * gg) : 0;
    d.agrees = !nan && d.error <= b->relative * d.largest + b->absolute &&
               (d.cosine >= b->cosine || d.largest <= b->absolute);
    return d;
}

/* Seeded input: uniform in [-1, 1], small integers for integer types. */
static void fill_input(kop_tensor *t, uint64_t seed)
{
    uint64_t s = seed * UINT64_C(0x9e3779b97f4a7c15) + 1;
    size_t n = kop_elements(t);
    for (size_t i = 0; i < n; i++) {
        s ^= s << 13;
        s ^= s >> 7;
        s ^= s << 17;
        if (kaena_dtype_is_float(t->dtype))
            kop_set_float(t, i, (double)(s >> 40) / (double)(1 << 23) - 1.0);
        else
            kop_set_int(t, i, (int64_t)(s >> 33 & 1));
    }
}

typedef struct wait {
    kaena_status status;
    kaena_err err;
} wait;

static void on_done(dev_request *request, kaena_status status, const kaena_err *err)
{
    wait *w = request->user;
    w->status = status;
    if (err)
        w->err = *err;
}

/* Runs the file once on emulated devices of its own. |out| gets types, shapes and data in |arena|.
 */
static kaena_status run_neff(kaena_arena *arena, const char *path, const kop_tensor *in,
                             kop_tensor *out, kaena_err *err)
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
    if (status == KAENA_OK) {
        const void **in_data = KAENA_NEW_N(arena, const void *, neff_n_inputs(file));
        void **out_data = KAENA_NEW_N(arena, void *, neff_n_outputs(file));
        for (uint32_t i = 0; i < neff_n_inputs(file); i++)
            in_data[i] = in[i].data;
        for (uint32_t i = 0; i < neff_n_outputs(file); i++) {
            neff_tensor t = neff_output(file, i);
            out[i] = (kop_tensor){.dtype = t.dtype,
                                  .shape = t.shape,
                                  .data = kaena_arena_alloc(arena, (size_t)t.bytes)};
            out_data[i] = out[i].data;
        }
        wait w = {.status = KAENA_UNAVAILABLE};
        dev_request request = {.in = in_data, .out = out_data, .done = on_done, .user = &w};
        (void)dev_run(model, &request);
        status = w.status;
        if (status != KAENA_OK && err)
            *err = w.err;
    }
    dev_model_unload(model);
    if (sys)
        dev_system_destroy(sys);
    neff_unref(file);
    return status;
}

/* The model as imported, evaluated; |names| [n] are the values wanted, made outputs of the graph.
 */
static kaena_status run_reference(const kcc_compilation *c, kaena_arena *arena,
                                  const char *const *names, uint32_t n, kop_tensor *in,
                                  kop_tensor *out, kaena_err *err)
{
    kcc_compilation source = {.framework = c->framework,
                              .model = c->model,
                              .params = c->params,
                              .choice = c->choice,
                              .io_config = c->io_config,
                              .io = c->io,
                              .arena = arena};
    KAENA_TRY(c->framework->import(&source, err));
    kgr_graph *g = source.graph;
    KAENA_TRY(kcc_pass_infer(g, &c->opt, err));
    uint32_t *at = KAENA_NEW_N(arena, uint32_t, n);
    for (uint32_t i = 0; i < n; i++) {
        kgr_value *v = kgr_value_find(g, names[i]);
        at[i] = UINT32_MAX;
        if (!v)
            continue;
        for (uint32_t k = 0; k < g->n_outputs && at[i] == UINT32_MAX; k++)
            if (g->outputs[k] == v)
                at[i] = k;
        if (at[i] == UINT32_MAX) {
            at[i] = g->n_outputs;
            kgr_output_add(g, v);
        }
    }
    for (uint32_t i = 0; i < g->n_inputs; i++) {
        in[i] = g->inputs[i]->t;
        in[i].data = kaena_arena_array(arena, kop_elements(&in[i]), kaena_dtype_size(in[i].dtype));
        fill_input(&in[i], i + 1);
    }
    kop_tensor *all = KAENA_NEW_N(arena, kop_tensor, g->n_outputs);
    kop_env env = {.arena = arena};
    KAENA_TRY(kgr_eval(g, in, all, &env, err));
    for (uint32_t i = 0; i < n; i++)
        if (at[i] != UINT32_MAX)
            out[i] = all[at[i]];
    return KAENA_OK;
}

/* Compiles again with every value an output and names the first layer whose result is out of
 * bounds. */
static kaena_status find_layer(const kcc_compilation *c, kaena_strbuf *out, kaena_err *err)
{
    kaena_arena arena;
    kaena_arena_init(&arena, 0);
    char path[] = "/tmp/kcc-verify-XXXXXX";
    int fd = mkstemp(path);
    if (fd < 0) {
        kaena_arena_fini(&arena);
        return KAENA_FAIL(err, RESOURCE_EXHAUSTED, "verify: no temporary file in /tmp");
    }
    (void)close(fd);
    kcc_compilation whole = {.framework = c->framework,
                             .model = c->model,
                             .params = c->params,
                             .choice = c->choice,
                             .io_config = c->io_config,
                             .output = path,
                             .opt = c->opt,
                             .keep_all = true,
                             .arena = &arena};
    kaena_status status = kcc_compile(&whole, "write", err);
    if (status == KAENA_OK) {
        uint32_t n = whole.graph->n_outputs;
        const char **names = KAENA_NEW_N(&arena, const char *, n);
        for (uint32_t i = 0; i < n; i++)
            names[i] = whole.graph->outputs[i]->name;
        kop_tensor *in = KAENA_NEW_N(&arena, kop_tensor, whole.graph->n_inputs + 1),
                   *want = KAENA_NEW_N(&arena, kop_tensor, n),
                   *got = KAENA_NEW_N(&arena, kop_tensor, n);
        status = run_reference(&whole, &arena, names, n, in, want, err);
        if (status == KAENA_OK)
            status = run_neff(&arena, path, in, got, err);
        for (const kgr_node *node = whole.graph->first; node && status == KAENA_OK;
             node = node->next)
            for (uint32_t i = 0; i < n; i++) {
                if (whole.graph->outputs[i]->producer != node || !want[i].data)
                    continue;
                difference d = compare(&want[i], &got[i], &bounds[c->opt.cast]);
                if (d.agrees)
                    continue;
                kaena_strbuf_printf(
                    out, "verify: they part at %s (%s): '%s', error %.3g of %.3g, cosine %.6f\n",
                    node->name, node->origin, names[i], d.error, d.largest, d.cosine);
                goto done;
            }
    }
done:
    (void)unlink(path);
    kaena_arena_fini(&arena);
    return status;
}

kaena_status kcc_verify(const kcc_compilation *c, kaena_strbuf *out, bool *agrees, kaena_err *err)
{
    kaena_arena *a = c->arena;
    uint32_t n = (uint32_t)c->meta->n_outputs;
    const char **names = KAENA_NEW_N(a, const char *, n);
    for (uint32_t i = 0; i < n; i++)
        names[i] = c->meta->values[c->meta->outputs[i]]->spec->name;
    kop_tensor *in = KAENA_NEW_N(a, kop_tensor, c->meta->n_inputs + 1),
               *want = KAENA_NEW_N(a, kop_tensor, n), *got = KAENA_NEW_N(a, kop_tensor, n);
    KAENA_TRY_WRAP(err, run_reference(c, a, names, n, in, want, err), "verify: reference");
    KAENA_TRY_WRAP(err, run_neff(a, c->output, in, got, err), "verify: compiled model");
    bool all = true;
    for (uint32_t i = 0; i < n; i++) {
        difference d = compare(&want[i], &got[i], &bounds[c->opt.cast]);
        kaena_strbuf_printf(out, "verify: '%s': largest error %.3g of %.3g, cosine %.6f: %s\n",
                            names[i], d.error, d.largest, d.cosine,
                            d.agrees ? "agrees" : "DIFFERS");
        all = all && d.agrees;
    }
    if (!all)
        KAENA_TRY(find_layer(c, out, err));
    *agrees = all;
    return KAENA_OK;
}
