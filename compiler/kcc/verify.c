#include "verify.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "verify_run.h"

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

/* --- Comparison ------------------------------------------------------------------------------ */

typedef struct difference {
    double error, largest;   /* of finite elements */
    double dot, want2, got2; /* sums of products */
    bool other;              /* types, shapes, strings, NaNs or infinities differ */
} difference;

static void compare_numbers(const kop_tensor *want, const kop_tensor *got, difference *d)
{
    size_t n = kop_elements(want);
    for (size_t i = 0; i < n; i++) {
        double w = kop_get_float(want, i), g = kop_get_float(got, i), e = fabs(w - g);
        if (isnan(w) != isnan(g) || isinf(w) != isinf(g))
            d->other = true;
        if (!isfinite(w) || !isfinite(g))
            continue;
        d->error = e > d->error ? e : d->error;
        d->largest = fabs(w) > d->largest ? fabs(w) : d->largest;
        d->dot += w * g;
        d->want2 += w * w;
        d->got2 += g * g;
    }
}

static void compare_strings(const kop_tensor *want, const kop_tensor *got, difference *d)
{
    const kaena_string *w = want->data, *g = got->data;
    for (size_t i = 0; i < kop_elements(want); i++)
        d->other |= w[i].size != g[i].size || memcmp(w[i].data, g[i].data, w[i].size) != 0;
}

static void compare(const kop_tensor *want, const kop_tensor *got, difference *d)
{
    bool same = want->form == got->form && want->dtype == got->dtype &&
                kaena_shape_equal(&want->shape, &got->shape);
    if (!same)
        d->other = true;
    else if (want->form != KOP_FORM_TENSOR)
        for (size_t i = 0; i < kop_elements(want); i++)
            compare((const kop_tensor *)want->data + i, (const kop_tensor *)got->data + i, d);
    else if (want->dtype == KAENA_STRING)
        compare_strings(want, got, d);
    else
        compare_numbers(want, got, d);
}

static double cosine_of(const difference *d)
{
    if (d->want2 > 0 && d->got2 > 0)
        return d->dot / sqrt(d->want2 * d->got2);
    return d->want2 == d->got2;
}

static bool agrees_within(const difference *d, const bound *b)
{
    return !d->other && d->error <= b->relative * d->largest + b->absolute &&
           (cosine_of(d) >= b->cosine || d->largest <= b->absolute);
}

/* --- The layer where they part --------------------------------------------------------------- */

static void name_layer(const kcc_compilation *whole, const kcc_values *want, const kcc_values *got,
                       kaena_strbuf *out)
{
    const kgr_graph *g = whole->graph;
    uint32_t *place = KAENA_NEW_N(whole->arena, uint32_t, g->n_values); /* plus one */
    for (uint32_t i = 0; i < g->n_outputs; i++)
        place[g->outputs[i]->id] = i + 1;
    for (const kgr_node *n = g->first; n; n = n->next)
        for (uint32_t k = 0; k < n->n_out; k++) {
            uint32_t i = place[n->out[k]->id];
            difference d = {0};
            if (!i || !want->list[i - 1].data)
                continue;
            compare(&want->list[i - 1], &got->list[i - 1], &d);
            if (agrees_within(&d, &bounds[whole->opt.cast]))
                continue;
            kaena_strbuf_printf(
                out, "verify: they part at %s (%s): '%s', error %.3g of %.3g, cosine %.6f\n",
                n->name, n->origin, n->out[k]->name, d.error, d.largest, cosine_of(&d));
            return;
        }
}

static kaena_status run_both(kcc_compilation *whole, kaena_strbuf *out, kaena_err *err)
{
    kcc_values in, want, got;
    KAENA_TRY(kcc_compile(whole, "write", err));
    uint32_t n = whole->graph->n_outputs;
    const char **names = KAENA_NEW_N(whole->arena, const char *, n);
    for (uint32_t i = 0; i < n; i++)
        names[i] = whole->graph->outputs[i]->name;
    KAENA_TRY(kcc_run_reference(whole, 0, whole->arena, names, n, &in, &want, err));
    KAENA_TRY(kcc_run_neff(whole->arena, whole->output, &in, &got, err));
    name_layer(whole, &want, &got, out);
    return KAENA_OK;
}

/* Compiles again with every value an output and names the first layer whose result is out of
 * bounds. */
static kaena_status find_layer(const kcc_compilation *c, uint32_t variant, kaena_strbuf *out,
                               kaena_err *err)
{
    char path[] = "/tmp/kcc-verify-XXXXXX";
    int fd = mkstemp(path);
    if (fd < 0)
        return KAENA_FAIL(err, RESOURCE_EXHAUSTED, "verify: no temporary file in /tmp");
    (void)close(fd);
    kaena_arena arena;
    kaena_arena_init(&arena, 0);
    kcc_compilation whole = {.framework = c->framework,
                             .model = c->model,
                             .params = c->params,
                             .choice = c->choice,
                             .io_config = c->n_io_configs ? c->io_configs[variant] : c->io_config,
                             .output = path,
                             .opt = c->opt,
                             .keep_all = true,
                             .arena = &arena};
    kaena_status status = run_both(&whole, out, err);
    (void)unlink(path);
    kaena_arena_fini(&arena);
    return status;
}

/* --- The whole ------------------------------------------------------------------------------- */

static kaena_status verify_variant(const kcc_compilation *c, uint32_t variant, kaena_strbuf *out,
                                   bool *agrees, kaena_err *err)
{
    kcc_values in, want, got;
    KAENA_TRY_WRAP(err, kcc_run_reference(c, variant, c->arena, NULL, 0, &in, &want, err),
                   "verify: reference");
    KAENA_TRY_WRAP(err, kcc_run_neff(c->arena, c->output, &in, &got, err),
                   "verify: compiled model");
    bool all = true;
    if (c->n_graphs > 1)
        kaena_strbuf_printf(out, "verify: --io-config %s\n", c->io_configs[variant]);
    for (uint32_t i = 0; i < got.n; i++) {
        difference d = {0};
        compare(&want.list[i], &got.list[i], &d);
        bool same = agrees_within(&d, &bounds[c->opt.cast]);
        kaena_strbuf_printf(out, "verify: '%s': largest error %.3g of %.3g, cosine %.6f: %s\n",
                            c->meta->values[c->meta->outputs[i]]->spec->name, d.error, d.largest,
                            cosine_of(&d), same ? "agrees" : "DIFFERS");
        all = all && same;
    }
    if (!all)
        KAENA_TRY(find_layer(c, variant, out, err));
    *agrees = *agrees && all;
    return KAENA_OK;
}

kaena_status kcc_verify(const kcc_compilation *c, kaena_strbuf *out, bool *agrees, kaena_err *err)
{
    *agrees = true;
    for (uint32_t i = 0; i < c->n_graphs; i++)
        KAENA_TRY(verify_variant(c, i, out, agrees, err));
    return KAENA_OK;
}
