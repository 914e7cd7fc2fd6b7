/* The counters as text for Prometheus. */
#include <inttypes.h>
#include <string.h>

#include "krt_metrics.h"

typedef struct writer {
    kaena_strbuf *out;
    bool open_metrics;
    const Kaena__V1__GetStatsResponse *stats;
} writer;

typedef enum family_type { COUNTER, GAUGE, HISTOGRAM, INFO } family_type;

static const char *const type_names[] = {
    [COUNTER] = "counter", [GAUGE] = "gauge", [HISTOGRAM] = "histogram", [INFO] = "gauge"};

/* The lines of one metric. In OpenMetrics a counter's family is named without "_total". */
static void family(writer *w, const char *name, family_type type, const char *help)
{
    size_t n = strlen(name);
    static const char total[] = "_total";
    if (w->open_metrics && type == COUNTER)
        n -= strlen(total);
    kaena_strbuf_printf(w->out, "# HELP %.*s %s\n# TYPE %.*s %s\n", (int)n, name, help, (int)n,
                        name, type_names[type]);
}

/* A label's value: '\', '"' and ends of lines are escaped. */
static void label(writer *w, const char *before, const char *name, const char *value)
{
    kaena_strbuf_printf(w->out, "%s%s=\"", before, name);
    for (const char *s = value; *s; s++) {
        if (*s == '\n')
            kaena_strbuf_add(w->out, "\\n", 2);
        else if (*s == '"' || *s == '\\')
            kaena_strbuf_printf(w->out, "\\%c", *s);
        else
            kaena_strbuf_add(w->out, s, 1);
    }
    kaena_strbuf_add(w->out, "\"", 1);
}

static void model_labels(writer *w, const Kaena__V1__ModelStats *m)
{
    label(w, "{", "model", m->name);
    label(w, ",", "version", m->version);
}

/* ---- of the daemon ---- */

static void one(writer *w, const char *name, family_type type, const char *help, double value)
{
    family(w, name, type, help);
    kaena_strbuf_printf(w->out, "%s %.17g\n", name, value);
}

static void write_daemon(writer *w)
{
    const Kaena__V1__GetStatsResponse *s = w->stats;
    family(w, "kaena_daemon_info", INFO, "The daemon; always 1.");
    kaena_strbuf_printf(w->out, "kaena_daemon_info");
    label(w, "{", "daemon", s->daemon);
    label(w, ",", "version", s->version);
    kaena_strbuf_printf(w->out, "} 1\n");
    one(w, "kaena_uptime_seconds", GAUGE, "Since the start of the daemon.",
        (double)s->uptime_ns / 1e9);
    one(w, "kaena_restarts", GAUGE, "Ends of the serving daemon that were none of its own.",
        s->restarts);
    one(w, "kaena_resident_memory_bytes", GAUGE, "Resident memory of the daemon.",
        (double)s->rss_bytes);
    one(w, "kaena_connections", GAUGE, "Open connections of clients.", s->connections);
    one(w, "kaena_sessions", GAUGE, "Open sessions of clients.", s->sessions);
    one(w, "kaena_shared_memory_regions", GAUGE, "Mapped regions of shared memory.", s->regions);
    one(w, "kaena_shared_memory_bytes", GAUGE, "Size of the mapped regions.",
        (double)s->region_bytes);
}

/* ---- of devices ---- */

static void device_gauge(writer *w, const char *name, const char *help, bool used)
{
    family(w, name, GAUGE, help);
    for (size_t i = 0; i < w->stats->n_devices; i++) {
        const Kaena__V1__Device *d = w->stats->devices[i];
        kaena_strbuf_printf(w->out, "%s{device=\"%" PRIu32 "\"", name, d->index);
        label(w, ",", "pci", d->pci);
        kaena_strbuf_printf(w->out, "} %" PRIu64 "\n", used ? d->dram_used_bytes : d->dram_bytes);
    }
}

static void write_devices(writer *w)
{
    device_gauge(w, "kaena_device_memory_bytes", "Memory of a device.", false);
    device_gauge(w, "kaena_device_memory_used_bytes", "Memory of a device that models have.", true);
    family(w, "kaena_tpb_busy_seconds_total", COUNTER, "Time that a TPB has run programs.");
    for (size_t i = 0; i < w->stats->n_devices; i++) {
        const Kaena__V1__Device *d = w->stats->devices[i];
        for (size_t t = 0; t < d->n_tpb; t++)
            kaena_strbuf_printf(w->out,
                                "kaena_tpb_busy_seconds_total{device=\"%" PRIu32 "\",tpb=\"%" PRIu32
                                "\"} %.9f\n",
                                d->index, d->tpb[t]->index, (double)d->tpb[t]->busy_ns / 1e9);
    }
}

/* ---- of models ---- */

static void write_count(writer *w, const Kaena__V1__ModelStats *m, int code, uint64_t count)
{
    kaena_strbuf_printf(w->out, "kaena_requests_total");
    model_labels(w, m);
    label(w, ",", "code", kaena_status_name((kaena_status)code));
    kaena_strbuf_printf(w->out, "} %" PRIu64 "\n", count);
}

static void write_requests(writer *w)
{
    family(w, "kaena_requests_total", COUNTER, "Requests answered, by gRPC status.");
    for (size_t i = 0; i < w->stats->n_models; i++) {
        const Kaena__V1__ModelStats *m = w->stats->models[i];
        /* OK is there from the beginning, so that a rate has something to begin with. */
        if (!m->n_requests || m->requests[0]->code != KAENA_OK)
            write_count(w, m, KAENA_OK, 0);
        for (size_t k = 0; k < m->n_requests; k++)
            write_count(w, m, m->requests[k]->code, m->requests[k]->count);
    }
}

static void write_counts(writer *w)
{
    static const struct {
        const char *name, *help;
        family_type type;
        size_t offset;
        bool wide; /* uint64_t, else uint32_t */
    } rows[] = {
#define ROW(name, type, field, wide, help)                                                         \
    {name, help, type, offsetof(Kaena__V1__ModelStats, field), wide}
        ROW("kaena_queued_requests", GAUGE, queued, false, "Requests that wait."),
        ROW("kaena_running_requests", GAUGE, running, false, "Requests that run."),
        ROW("kaena_executions_total", COUNTER, executions, true, "Executions begun."),
        ROW("kaena_execution_timeouts_total", COUNTER, timeouts, true,
            "Executions stopped because they took too long."),
        ROW("kaena_batch_items_total", COUNTER, batch_items, true,
            "Items of dynamic batches that ran."),
        ROW("kaena_batch_slots_total", COUNTER, batch_slots, true,
            "Room for items in the batches that ran."),
#undef ROW
    };
    for (size_t r = 0; r < sizeof rows / sizeof *rows; r++) {
        family(w, rows[r].name, rows[r].type, rows[r].help);
        for (size_t i = 0; i < w->stats->n_models; i++) {
            const Kaena__V1__ModelStats *m = w->stats->models[i];
            const char *at = (const char *)m + rows[r].offset;
            kaena_strbuf_printf(w->out, "%s", rows[r].name);
            model_labels(w, m);
            kaena_strbuf_printf(w->out, "} %" PRIu64 "\n",
                                rows[r].wide ? *(const uint64_t *)(const void *)at
                                             : *(const uint32_t *)(const void *)at);
        }
    }
}

static void write_histogram(writer *w, const char *name, const Kaena__V1__ModelStats *m,
                            const Kaena__V1__Histogram *h)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < h->n_counts; i++) {
        sum += h->counts[i];
        kaena_strbuf_printf(w->out, "%s_bucket", name);
        model_labels(w, m);
        if (i < h->n_bounds)
            kaena_strbuf_printf(w->out, ",le=\"%.6g\"} %" PRIu64 "\n", h->bounds[i], sum);
        else
            kaena_strbuf_printf(w->out, ",le=\"+Inf\"} %" PRIu64 "\n", sum);
    }
    kaena_strbuf_printf(w->out, "%s_sum", name);
    model_labels(w, m);
    kaena_strbuf_printf(w->out, "} %.9f\n%s_count", h->sum, name);
    model_labels(w, m);
    kaena_strbuf_printf(w->out, "} %" PRIu64 "\n", sum);
}

static void write_histograms(writer *w)
{
    static const struct {
        const char *name, *help;
        size_t offset;
    } rows[] = {
        {"kaena_queue_seconds", "From acceptance of a request to a free context.",
         offsetof(Kaena__V1__ModelStats, queue)},
        {"kaena_execute_seconds", "On TPBs and host.", offsetof(Kaena__V1__ModelStats, execute)},
        {"kaena_request_seconds", "From arrival of a request to its answer.",
         offsetof(Kaena__V1__ModelStats, total)},
    };
    for (size_t r = 0; r < sizeof rows / sizeof *rows; r++) {
        family(w, rows[r].name, HISTOGRAM, rows[r].help);
        for (size_t i = 0; i < w->stats->n_models; i++) {
            const Kaena__V1__ModelStats *m = w->stats->models[i];
            const char *at = (const char *)m + rows[r].offset;
            write_histogram(w, rows[r].name, m, *(Kaena__V1__Histogram *const *)(const void *)at);
        }
    }
}

static void write_without_model(writer *w, const krt_stats *s)
{
    static const char name[] = "kaena_requests_without_model_total";
    family(w, name, COUNTER, "Requests that named no model that could take them, by gRPC status.");
    for (int code = 1; code < KRT_N_CODES; code++) {
        uint64_t n = krt_stats_get(&s->answered[code]);
        if (n || code == KAENA_NOT_FOUND)
            kaena_strbuf_printf(w->out, "%s{code=\"%s\"} %" PRIu64 "\n", name,
                                kaena_status_name((kaena_status)code), n);
    }
}

void krt_metrics_text(krt_daemon *d, bool open_metrics, kaena_strbuf *out)
{
    kaena_arena arena;
    kaena_arena_init(&arena, 0);
    Kaena__V1__GetStatsResponse stats;
    krt_describe_stats(d, &stats, &arena);
    writer w = {.out = out, .open_metrics = open_metrics, .stats = &stats};
    write_daemon(&w);
    write_devices(&w);
    write_without_model(&w, &d->without_model);
    write_requests(&w);
    write_counts(&w);
    write_histograms(&w);
    if (open_metrics)
        kaena_strbuf_printf(out, "# EOF\n");
    kaena_arena_fini(&arena);
}
