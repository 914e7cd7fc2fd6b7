/* The report of a compilation, and `kcc check`. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "compile.h"

#define SLOWEST_LAYERS 8

static int by_time(const void *a, const void *b)
{
    const Kaena__V1__NeffLayer *x = *(Kaena__V1__NeffLayer *const *)a,
                               *y = *(Kaena__V1__NeffLayer *const *)b;
    return x->estimated_us < y->estimated_us ? 1 : x->estimated_us > y->estimated_us ? -1 : 0;
}

static const char *size_text(char buf[32], uint64_t bytes)
{
    static const char *const unit[] = {"B", "KiB", "MiB", "GiB"};
    double v = (double)bytes;
    int u = 0;
    while (v >= 1024 && u < 3) {
        v /= 1024;
        u++;
    }
    (void)snprintf(buf, 32, u ? "%.1f %s" : "%.0f %s", v, unit[u]);
    return buf;
}

static void report_memory(const kcc_compilation *c, kaena_strbuf *out)
{
    char a[32], b[32], d[32], e[32];
    uint32_t pieces;
    uint64_t weights, bound = 0;
    (void)kcc_weights_pieces(c->weights, &pieces, &weights);
    for (const kcc_unit *u = c->units; u; u = u->next)
        for (uint32_t i = 0; i < u->plan.n_steps; i++)
            if (u->module[i] && u->module[i]->lower_bound_bytes > bound)
                bound = u->module[i]->lower_bound_bytes;
    kaena_strbuf_printf(out,
                        "memory per TPB: %s of state buffer; per execution: %s of device DRAM; "
                        "weights %s (least possible for activations: %s)\n",
                        size_text(a, c->meta->sb_bytes), size_text(b, c->meta->scratch_bytes),
                        size_text(d, weights), size_text(e, bound));
}

static void report_layers(const kcc_compilation *c, kaena_strbuf *out)
{
    const Kaena__V1__NeffMeta *m = c->meta;
    Kaena__V1__NeffLayer **sorted = malloc((m->n_layers + 1) * sizeof *sorted);
    double total = 0;
    if (!sorted)
        return;
    for (size_t i = 0; i < m->n_layers; i++) {
        sorted[i] = m->layers[i];
        total += m->layers[i]->estimated_us;
    }
    qsort(sorted, m->n_layers, sizeof *sorted, by_time);
    if (total > 0)
        kaena_strbuf_printf(out, "where the time goes (estimate per TPB, %zu layers):\n",
                            m->n_layers);
    for (size_t i = 0; i < m->n_layers && i < SLOWEST_LAYERS && sorted[i]->estimated_us > 0; i++)
        kaena_strbuf_printf(out, "  %5.1f %%  %9.1f us  %-4s  %s (%s)\n",
                            100 * sorted[i]->estimated_us / total, sorted[i]->estimated_us,
                            sorted[i]->engine, sorted[i]->name, sorted[i]->operator_name);
    free(sorted);
}

/* Every operator on the host with its share of the estimated time. */
static void report_host(const Kaena__V1__NeffMeta *m, kaena_strbuf *out)
{
    double total = 0;
    size_t k = 0;
    for (size_t i = 0; i < m->n_layers; i++)
        total += m->layers[i]->estimated_us;
    for (size_t i = 0; i < m->n_layers && k < m->n_host_operators; i++)
        if (m->layers[i]->on_host)
            kaena_strbuf_printf(out, "  on the host: %4.1f %% of the time: %s\n",
                                100 * m->layers[i]->estimated_us / total, m->host_operators[k++]);
}

static void report_estimates(const Kaena__V1__NeffMeta *m, kaena_strbuf *out)
{
    for (size_t i = 0; i < m->n_estimates; i++) {
        const Kaena__V1__NeffEstimate *e = m->estimates[i];
        kaena_strbuf_printf(out,
                            "estimate for %2u chip%s latency %.3f ms, throughput %.0f/s, PE array "
                            "busy %.0f %%, DRAM %.0f %%, bound by %s\n",
                            e->chips, e->chips == 1 ? ": " : "s:", e->latency_us / 1000,
                            e->items_per_s, 100 * e->tpb_utilisation, 100 * e->dram_utilisation,
                            e->bottleneck);
    }
    if (m->estimate_items > 1 && m->n_estimates)
        kaena_strbuf_printf(out, "  a run takes %u items, throughput is in items\n",
                            m->estimate_items);
    if (m->num_tpbs > 4 && m->n_estimates < 3)
        kaena_strbuf_printf(out, "instances with fewer than %u chips have too few TPBs for it\n",
                            (m->num_tpbs + 3) / 4);
    kaena_strbuf_printf(out, "%s\n", m->advice);
}

void kcc_report(const kcc_compilation *c, kaena_strbuf *out)
{
    const Kaena__V1__NeffMeta *m = c->meta;
    uint32_t device = c->n_device_nodes, host = c->n_host_nodes;
    size_t steps = m->plan->n_steps;
    for (size_t i = 0; i < m->n_bodies; i++)
        steps += m->bodies[i]->n_steps;
    kaena_strbuf_printf(
        out, "%s: %u operators on the device, %u on the host, %zu step%s; %u TPB%s, %s\n", c->model,
        device, host, steps, steps == 1 ? "" : "s", m->num_tpbs, m->num_tpbs == 1 ? "" : "s",
        m->optimize);
    if (c->n_graphs > 1)
        kaena_strbuf_printf(out, "for %u sets of input shapes, which share their weights\n",
                            c->n_graphs);
    report_host(m, out);
    report_memory(c, out);
    report_estimates(m, out);
    report_layers(c, out);
    kaena_strbuf_printf(out, "wrote %s\n", c->output);
}
