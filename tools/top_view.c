#include "top_view.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *const top_order_names[TOP_N_ORDERS] = {"rate", "name", "p99", "queue"};

#define MAX_BUCKETS 128

/* ---- lines ---- */

/* What a daemon says goes to a terminal: only characters that do nothing there. */
static void __attribute__((format(printf, 3, 4)))
add(top_view *v, top_style style, const char *fmt, ...)
{
    if (v->n == v->capacity) {
        size_t capacity = v->capacity ? v->capacity * 2 : 64;
        top_line *lines = realloc(v->lines, capacity * sizeof *lines);
        if (!lines)
            return;
        v->lines = lines;
        v->capacity = capacity;
    }
    top_line *line = &v->lines[v->n++];
    line->style = style;
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(line->text, sizeof line->text, fmt, ap);
    va_end(ap);
    for (char *c = line->text; *c; c++)
        if (*c < ' ' || *c > '~')
            *c = '?';
}

void top_view_fini(top_view *v)
{
    free(v->lines);
    *v = (top_view){0};
}

static const char *bytes_text(uint64_t bytes, char *buf, size_t size)
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    double x = (double)bytes;
    size_t u = 0;
    for (; x >= 1024 && u + 1 < sizeof units / sizeof *units; u++)
        x /= 1024;
    (void)snprintf(buf, size, u ? "%.1f %s" : "%.0f %s", x, units[u]);
    return buf;
}

static const char *duration_text(uint64_t ns, char *buf, size_t size)
{
    uint64_t s = ns / 1000000000u;
    if (s >= 86400)
        (void)snprintf(buf, size, "%" PRIu64 "d%02" PRIu64 "h", s / 86400, s / 3600 % 24);
    else if (s >= 3600)
        (void)snprintf(buf, size, "%" PRIu64 "h%02" PRIu64 "m", s / 3600, s / 60 % 60);
    else
        (void)snprintf(buf, size, "%" PRIu64 "m%02" PRIu64 "s", s / 60, s % 60);
    return buf;
}

/* "[||||    ] 50%" with |cells| between the brackets. */
static const char *bar(double part, unsigned cells, char *buf, size_t size)
{
    char fill[64];
    part = part < 0 ? 0 : part > 1 ? 1 : part;
    cells = cells < sizeof fill ? cells : (unsigned)sizeof fill - 1;
    unsigned full = (unsigned)(part * cells + 0.5);
    for (unsigned i = 0; i < cells; i++)
        fill[i] = i < full ? '|' : ' ';
    fill[cells] = 0;
    (void)snprintf(buf, size, "[%s]%3.0f%%", fill, 100 * part);
    return buf;
}

/* ---- differences ---- */

typedef struct model_row {
    const char *daemon;
    const kaena_model_stats *model;
    double rate, failures; /* a second */
    double p50, p99;       /* seconds; < 0: no requests */
    double batch;          /* part of the room; < 0: none */
} model_row;

static const kaena_model_stats *same_model(const kaena_daemon_stats *d, const kaena_model_stats *m)
{
    for (size_t i = 0; d && i < d->model_count; i++)
        if (strcmp(d->models[i].name, m->name) == 0 &&
            strcmp(d->models[i].version, m->version) == 0)
            return &d->models[i];
    return NULL;
}

static uint64_t answered(const kaena_model_stats *m, bool failed)
{
    uint64_t n = failed ? 0 : m->requests[KAENA_OK];
    for (int code = 1; code < KAENA_STATUS_COUNT; code++)
        n += m->requests[code];
    return n;
}

/* A model that was loaded anew under its name has counted from 0. */
static bool has_grown(const kaena_model_stats *now, const kaena_model_stats *before)
{
    if (!before || before->total.bucket_count != now->total.bucket_count)
        return false;
    for (size_t i = 0; i < now->total.bucket_count; i++)
        if (now->total.counts[i] < before->total.counts[i])
            return false;
    for (int code = 0; code < KAENA_STATUS_COUNT; code++)
        if (now->requests[code] < before->requests[code])
            return false;
    return now->batch_slots >= before->batch_slots && now->batch_items >= before->batch_items;
}

static void times_between(const kaena_histogram *now, const kaena_histogram *before, model_row *r)
{
    uint64_t counts[MAX_BUCKETS];
    kaena_histogram between = *now;
    if (now->bucket_count > MAX_BUCKETS)
        return;
    for (size_t i = 0; i < now->bucket_count; i++)
        counts[i] = now->counts[i] - (before ? before->counts[i] : 0);
    between.counts = counts;
    if (kaena_histogram_total(&between) == 0)
        return;
    r->p50 = kaena_histogram_quantile(&between, 0.5);
    r->p99 = kaena_histogram_quantile(&between, 0.99);
}

static model_row compare(const top_daemon *d, const kaena_model_stats *m)
{
    model_row r = {.daemon = d->now->name, .model = m, .p50 = -1, .p99 = -1, .batch = -1};
    const kaena_model_stats *before = same_model(d->before, m);
    if (before && !has_grown(m, before))
        before = NULL;
    if (!d->before)
        return r; /* there is no time to speak of */
    double seconds = (double)(d->now->uptime_ns - d->before->uptime_ns) / 1e9;
    if (seconds <= 0)
        return r;
    r.rate = (double)(answered(m, false) - (before ? answered(before, false) : 0)) / seconds;
    r.failures = (double)(answered(m, true) - (before ? answered(before, true) : 0)) / seconds;
    times_between(&m->total, before ? &before->total : NULL, &r);
    uint64_t slots = m->batch_slots - (before ? before->batch_slots : 0);
    uint64_t items = m->batch_items - (before ? before->batch_items : 0);
    if (slots)
        r.batch = (double)items / (double)slots;
    return r;
}

static int by_name(const model_row *a, const model_row *b)
{
    int c = strcmp(a->model->name, b->model->name);
    return c ? c : strcmp(a->daemon, b->daemon);
}

static double key_of(const model_row *r, top_order order)
{
    switch (order) {
    case TOP_BY_RATE:
        return r->rate;
    case TOP_BY_P99:
        return r->p99;
    case TOP_BY_QUEUE:
        return r->model->queued;
    case TOP_BY_NAME:
    case TOP_N_ORDERS:
        break;
    }
    return 0;
}

static void sort_rows(model_row *rows, size_t n, top_order order)
{
    for (size_t i = 1; i < n; i++) { /* they are few, and nearly in order */
        model_row r = rows[i];
        size_t k = i;
        for (; k > 0; k--) {
            double a = key_of(&rows[k - 1], order), b = key_of(&r, order);
            if (a > b || (!(a < b) && by_name(&rows[k - 1], &r) <= 0))
                break;
            rows[k] = rows[k - 1];
        }
        rows[k] = r;
    }
}

/* ---- the parts ---- */

static double busy_part(const top_daemon *d, const kaena_device_stats *v, size_t t)
{
    if (!d->before)
        return 0;
    double seconds = (double)(d->now->uptime_ns - d->before->uptime_ns);
    for (size_t i = 0; i < d->before->device_count; i++) {
        const kaena_device_stats *b = &d->before->devices[i];
        if (b->index == v->index && t < b->tpb_count && v->tpbs[t].busy_ns >= b->tpbs[t].busy_ns &&
            seconds > 0)
            return (double)(v->tpbs[t].busy_ns - b->tpbs[t].busy_ns) / seconds;
    }
    return 0;
}

static void draw_device(top_view *v, const top_daemon *d, const kaena_device_stats *device,
                        unsigned width)
{
    char used[24], all[24], text[TOP_LINE], one[96];
    unsigned cells = width > 100 ? 12 : width > 80 ? 8 : 5;
    int n = snprintf(text, sizeof text, "  device %-2" PRIu32 " %-13.13s TPB", device->index,
                     device->pci);
    for (size_t t = 0; t < device->tpb_count && (size_t)n < sizeof text; t++)
        n += snprintf(text + n, sizeof text - (size_t)n, " %s",
                      bar(busy_part(d, device, t), cells, one, sizeof one));
    double part =
        device->dram_bytes ? (double)device->dram_used_bytes / (double)device->dram_bytes : 0;
    if ((size_t)n < sizeof text)
        (void)snprintf(text + n, sizeof text - (size_t)n, "  memory %s %s of %s",
                       bar(part, cells, one, sizeof one),
                       bytes_text(device->dram_used_bytes, used, sizeof used),
                       bytes_text(device->dram_bytes, all, sizeof all));
    add(v, TOP_PLAIN, "%s", text);
}

static void draw_daemon(top_view *v, const top_daemon *d, unsigned width)
{
    char up[32], rss[24];
    if (!d->now) {
        add(v, TOP_ALARM, "%s: %s", d->address, *d->problem ? d->problem : "no answer yet");
        return;
    }
    const kaena_daemon_stats *s = d->now;
    add(v, TOP_BOLD,
        "%s at %s: up %s, %" PRIu32 " restarts, %s, %" PRIu32 " connections, %" PRIu32
        " sessions%s",
        s->name, d->address, duration_text(s->uptime_ns, up, sizeof up), s->restarts,
        bytes_text(s->rss_bytes, rss, sizeof rss), s->connections, s->sessions,
        d->late ? " (late)" : "");
    for (size_t i = 0; i < s->device_count; i++)
        draw_device(v, d, &s->devices[i], width);
}

static const char *ms_text(double seconds, char *buf, size_t size)
{
    if (seconds < 0)
        (void)snprintf(buf, size, "-");
    else
        (void)snprintf(buf, size, "%.3g", seconds * 1e3);
    return buf;
}

static void draw_models(top_view *v, model_row *rows, size_t n)
{
    add(v, TOP_TITLE, "%-22s %-12s %-12s %9s %8s %8s %8s %6s %4s %6s", "MODEL", "VERSION", "DAEMON",
        "REQ/S", "FAIL/S", "P50 ms", "P99 ms", "QUEUE", "RUN", "BATCH");
    for (size_t i = 0; i < n; i++) {
        const model_row *r = &rows[i];
        char p50[24], p99[24], batch[16] = "-";
        if (r->batch >= 0)
            (void)snprintf(batch, sizeof batch, "%.0f%%", 100 * r->batch);
        add(v, r->failures > 0 ? TOP_ALARM : TOP_PLAIN,
            "%-22.22s %-12.12s %-12.12s %9.1f %8.1f %8s %8s %6" PRIu32 " %4" PRIu32 " %6s",
            r->model->name, r->model->version, r->daemon, r->rate, r->failures,
            ms_text(r->p50, p50, sizeof p50), ms_text(r->p99, p99, sizeof p99), r->model->queued,
            r->model->running, batch);
    }
}

void top_view_draw(top_view *v, top_sampler *s, top_order order, unsigned width)
{
    v->n = 0;
    top_sampler_lock(s);
    size_t n_models = 0, n = 0;
    for (size_t i = 0; i < top_sampler_count(s); i++) {
        top_daemon d = top_sampler_daemon(s, i);
        draw_daemon(v, &d, width);
        n_models += d.now ? d.now->model_count : 0;
    }
    model_row *rows = calloc(n_models + 1, sizeof *rows);
    for (size_t i = 0; rows && i < top_sampler_count(s); i++) {
        top_daemon d = top_sampler_daemon(s, i);
        for (size_t k = 0; d.now && k < d.now->model_count; k++)
            rows[n++] = compare(&d, &d.now->models[k]);
    }
    if (rows) {
        sort_rows(rows, n, order);
        add(v, TOP_PLAIN, "%s", "");
        draw_models(v, rows, n);
    }
    free(rows);
    top_sampler_unlock(s);
}
