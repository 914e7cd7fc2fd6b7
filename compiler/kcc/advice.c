/* What --num-tpbs to pick: pipelines of several lengths, from the layers' times. */
#include <string.h>

#include "meta.h"
#include "schedule.h"

#define TPBS_PER_CHIP 4
#define MOST_TPBS 64
#define WORTH_IT 1.1 /* more TPBs are advised where they give this much more */

typedef struct choice {
    uint32_t tpbs;
    double runs_per_s, dram_bytes; /* per chip; per run */
    bool by_dram;
} choice;

/* What the choices have in common. */
typedef struct load {
    double *seconds, *weights; /* [n] of each layer, in order: on one TPB; bytes */
    uint32_t n;
    double host_s, weight_bytes, other_bytes;
    double room; /* bytes of a state buffer that activations leave to weights */
} load;

static load load_of(kcc_meta *b, const kcc_run_time *t)
{
    const Kaena__V1__NeffMeta *m = b->meta;
    load out = {.seconds = KAENA_NEW_N(b->a, double, m->n_layers + 1),
                .weights = KAENA_NEW_N(b->a, double, m->n_layers + 1),
                .host_s = t->host_s};
    for (size_t i = 0; i < m->n_layers; i++) {
        const Kaena__V1__NeffLayer *l = m->layers[i];
        out.weight_bytes += (double)l->weight_bytes;
        if (l->on_host)
            continue;
        out.weights[out.n] = (double)l->weight_bytes;
        out.seconds[out.n++] = l->estimated_us * l->tpbs * 1e-6;
    }
    /* A split model's traffic is that of its splitting. Another one's is the model's own tensors,
     * and activations that find no room go out and back. */
    double spilt = t->activation_bytes - KISA_SB_BYTES, other = t->dram_bytes - t->weight_bytes;
    if (t->sharded)
        other = t->io_bytes + (spilt > 0 ? 2 * spilt : 0);
    out.other_bytes = other > t->io_bytes ? other : t->io_bytes;
    out.room = t->activation_bytes < KISA_SB_BYTES ? KISA_SB_BYTES - t->activation_bytes : 0;
    return out;
}

static choice weigh(kcc_meta *b, const load *of, uint32_t tpbs)
{
    int32_t *run = KAENA_NEW_N(b->a, int32_t, of->n);
    double *stage = KAENA_NEW_N(b->a, double, tpbs), *weights = KAENA_NEW_N(b->a, double, tpbs);
    double slowest = of->host_s;
    choice c = {.tpbs = tpbs, .dram_bytes = of->other_bytes};
    kcc_cut_evenly(of->seconds, of->n, tpbs, run);
    for (uint32_t i = 0; i < of->n; i++) {
        stage[run[i]] += of->seconds[i];
        weights[run[i]] += of->weights[i];
    }
    for (uint32_t i = 0; i < tpbs; i++) {
        slowest = stage[i] > slowest ? stage[i] : slowest;
        c.dram_bytes += weights[i] > of->room ? weights[i] : 0;
    }
    c.runs_per_s = (double)TPBS_PER_CHIP / tpbs / slowest;
    c.by_dram = c.runs_per_s * c.dram_bytes > KISA_DRAM_BYTES_PER_S;
    if (c.by_dram)
        c.runs_per_s = KISA_DRAM_BYTES_PER_S / c.dram_bytes;
    return c;
}

static const char *reason(kcc_meta *b, const choice *one, const choice *best, double weights)
{
    double mib = weights / (1 << 20), left = best->dram_bytes / (1 << 20);
    if (best->tpbs > 1 && one->by_dram)
        return kaena_arena_printf(
            b->a,
            "of %.1f MiB of weights more stay in the state buffers of %u TPBs: a run moves %.1f "
            "MiB of DRAM instead of the %.1f that bound --num-tpbs 1",
            mib, best->tpbs, left, one->dram_bytes / (1 << 20));
    if (best->tpbs > 1)
        return kaena_arena_printf(b->a, "its stages keep more of a chip busy than copies would");
    if (best->by_dram)
        return kaena_arena_printf(b->a,
                                  "%.1f MiB of DRAM a run bound it, and no longer pipeline comes "
                                  "past that by more than %.0f %%",
                                  left, 100 * (WORTH_IT - 1));
    return kaena_arena_printf(b->a,
                              "copies on all TPBs keep their engines busy: %.1f MiB of DRAM a run "
                              "take %.0f %% of the chip's rate",
                              left,
                              100 * best->runs_per_s * best->dram_bytes / KISA_DRAM_BYTES_PER_S);
}

void kcc_meta_advice(kcc_meta *b, const kcc_run_time *t)
{
    Kaena__V1__NeffMeta *m = b->meta;
    load of = load_of(b, t);
    choice one = {0}, best = {0};
    if (of.n == 0) {
        m->advice =
            kaena_arena_strdup(b->a, "nothing runs on TPBs: --num-tpbs makes no difference");
        return;
    }
    m->choices = KAENA_NEW_N(b->a, Kaena__V1__NeffChoice *, MOST_TPBS);
    for (uint32_t tpbs = 1; tpbs <= MOST_TPBS && tpbs <= of.n;
         tpbs = tpbs < TPBS_PER_CHIP ? tpbs * 2 : tpbs + TPBS_PER_CHIP) {
        choice c = weigh(b, &of, tpbs);
        if (tpbs == 1)
            one = c;
        if (c.runs_per_s > best.runs_per_s * WORTH_IT)
            best = c;
        Kaena__V1__NeffChoice *out = KAENA_NEW(b->a, Kaena__V1__NeffChoice);
        kaena__v1__neff_choice__init(out);
        out->num_tpbs = tpbs;
        out->throughput_per_s = c.runs_per_s;
        out->dram_bytes = c.dram_bytes;
        out->bottleneck = kaena_arena_strdup(b->a, c.by_dram ? "DRAM" : "TPB");
        m->choices[m->n_choices++] = out;
    }
    m->advised_tpbs = best.tpbs;
    m->advice = kaena_arena_printf(b->a, "for throughput --num-tpbs %u%s (about %.0f/s a chip): %s",
                                   best.tpbs, best.tpbs > 1 ? " --optimize throughput" : "",
                                   best.runs_per_s * m->estimate_items,
                                   reason(b, &one, &best, of.weight_bytes));
}
