/* stats: what the daemons have counted. */
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "cli.h"

static json_t *histogram_json(const kaena_histogram *h)
{
    json_t *bounds = json_array(), *counts = json_array();
    for (size_t i = 0; i < h->bucket_count; i++) {
        if (i + 1 < h->bucket_count)
            json_array_append_new(bounds, json_real(h->bounds[i]));
        json_array_append_new(counts, json_integer((json_int_t)h->counts[i]));
    }
    return json_pack("{s:o, s:o, s:f, s:I, s:f, s:f}", "bounds", bounds, "counts", counts, "sum",
                     h->sum, "count", (json_int_t)kaena_histogram_total(h), "p50",
                     kaena_histogram_quantile(h, 0.5), "p99", kaena_histogram_quantile(h, 0.99));
}

static json_t *model_json(const kaena_model_stats *m)
{
    json_t *requests = json_object();
    for (int code = 0; code < KAENA_STATUS_COUNT; code++)
        if (m->requests[code])
            json_object_set_new(requests, kaena_status_name((kaena_status)code),
                                json_integer((json_int_t)m->requests[code]));
    return json_pack("{s:s, s:s, s:o, s:i, s:i, s:I, s:o, s:o, s:o, s:I, s:I, s:I}", "name",
                     m->name, "version", m->version, "requests", requests, "queued", (int)m->queued,
                     "running", (int)m->running, "executions", (json_int_t)m->executions, "queue",
                     histogram_json(&m->queue), "execute", histogram_json(&m->execute), "total",
                     histogram_json(&m->total), "batch_items", (json_int_t)m->batch_items,
                     "batch_slots", (json_int_t)m->batch_slots, "timeouts",
                     (json_int_t)m->timeouts);
}

static json_t *device_json(const kaena_device_stats *d)
{
    json_t *tpbs = json_array();
    for (size_t i = 0; i < d->tpb_count; i++)
        json_array_append_new(tpbs, json_pack("{s:I, s:I, s:I}", "busy_ns",
                                              (json_int_t)d->tpbs[i].busy_ns, "dram_bytes",
                                              (json_int_t)d->tpbs[i].dram_bytes, "dram_used_bytes",
                                              (json_int_t)d->tpbs[i].dram_used_bytes));
    return json_pack("{s:i, s:s, s:I, s:I, s:o}", "device", (int)d->index, "pci", d->pci,
                     "dram_bytes", (json_int_t)d->dram_bytes, "dram_used_bytes",
                     (json_int_t)d->dram_used_bytes, "tpbs", tpbs);
}

static json_t *daemon_json(const kaena_daemon_stats *d)
{
    json_t *models = json_array(), *devices = json_array();
    for (size_t i = 0; i < d->model_count; i++)
        json_array_append_new(models, model_json(&d->models[i]));
    for (size_t i = 0; i < d->device_count; i++)
        json_array_append_new(devices, device_json(&d->devices[i]));
    return json_pack("{s:s, s:s, s:s, s:I, s:i, s:I, s:i, s:i, s:i, s:I, s:o, s:o}", "name",
                     d->name, "address", d->address, "version", d->version, "uptime_ns",
                     (json_int_t)d->uptime_ns, "restarts", (int)d->restarts, "rss_bytes",
                     (json_int_t)d->rss_bytes, "connections", (int)d->connections, "sessions",
                     (int)d->sessions, "regions", (int)d->regions, "region_bytes",
                     (json_int_t)d->region_bytes, "devices", devices, "models", models);
}

static const char *duration_text(uint64_t ns, char *buf, size_t size)
{
    unsigned long long s = ns / 1000000000u;
    if (s >= 86400)
        (void)snprintf(buf, size, "%llud %lluh", s / 86400, s / 3600 % 24);
    else if (s >= 3600)
        (void)snprintf(buf, size, "%lluh %llum", s / 3600, s / 60 % 60);
    else if (s >= 60)
        (void)snprintf(buf, size, "%llum %llus", s / 60, s % 60);
    else
        (void)snprintf(buf, size, "%.1fs", (double)ns / 1e9);
    return buf;
}

/* "p50/p99" of a histogram in milliseconds. */
static const char *times_text(const kaena_histogram *h, char *buf, size_t size)
{
    if (kaena_histogram_total(h) == 0)
        (void)snprintf(buf, size, "-");
    else
        (void)snprintf(buf, size, "%.3g/%.3g", kaena_histogram_quantile(h, 0.5) * 1e3,
                       kaena_histogram_quantile(h, 0.99) * 1e3);
    return buf;
}

static void print_devices(const kaena_daemon_stats *d)
{
    for (size_t i = 0; i < d->device_count; i++) {
        const kaena_device_stats *v = &d->devices[i];
        char used[CLI_BYTES_TEXT], all[CLI_BYTES_TEXT];
        printf("  device %u (%s): %s of %s", v->index, v->pci,
               cli_bytes_text(v->dram_used_bytes, used, sizeof used),
               cli_bytes_text(v->dram_bytes, all, sizeof all));
        for (size_t t = 0; t < v->tpb_count; t++)
            printf("%s%.1f%%", t ? " " : "; TPBs busy ",
                   d->uptime_ns ? 100.0 * (double)v->tpbs[t].busy_ns / (double)d->uptime_ns : 0);
        printf("\n");
    }
}

static void print_failures(const kaena_model_stats *m)
{
    const char *before = "    failed: ";
    for (int code = 1; code < KAENA_STATUS_COUNT; code++)
        if (m->requests[code]) {
            printf("%s%s %llu", before, kaena_status_name((kaena_status)code),
                   (unsigned long long)m->requests[code]);
            before = ", ";
        }
    if (m->timeouts)
        printf("%sstopped for taking too long %llu", before, (unsigned long long)m->timeouts);
    if (strcmp(before, ", ") == 0 || m->timeouts)
        printf("\n");
}

static void print_models(const kaena_daemon_stats *d)
{
    if (d->model_count == 0)
        return;
    printf("  %-22s %-10s %10s %8s %6s %7s %15s %15s %15s %6s\n", "MODEL", "VERSION", "OK",
           "FAILED", "QUEUED", "RUNNING", "QUEUE ms", "EXECUTE ms", "TOTAL ms", "BATCH");
    for (size_t i = 0; i < d->model_count; i++) {
        const kaena_model_stats *m = &d->models[i];
        uint64_t failed = 0;
        char queue[32], execute[32], total[32], batch[16] = "-";
        for (int code = 1; code < KAENA_STATUS_COUNT; code++)
            failed += m->requests[code];
        if (m->batch_slots)
            (void)snprintf(batch, sizeof batch, "%.0f%%",
                           100.0 * (double)m->batch_items / (double)m->batch_slots);
        printf("  %-22s %-10.10s %10llu %8llu %6u %7u %15s %15s %15s %6s\n", m->name, m->version,
               (unsigned long long)m->requests[KAENA_OK], (unsigned long long)failed, m->queued,
               m->running, times_text(&m->queue, queue, sizeof queue),
               times_text(&m->execute, execute, sizeof execute),
               times_text(&m->total, total, sizeof total), batch);
        print_failures(m);
    }
}

static void print_daemon(const kaena_daemon_stats *d)
{
    char up[32], rss[CLI_BYTES_TEXT], regions[CLI_BYTES_TEXT];
    printf("%s at %s: version %s, up %s, %u restarts, %s resident, %u connections, %u sessions, "
           "%u regions (%s)\n",
           d->name, d->address, d->version, duration_text(d->uptime_ns, up, sizeof up), d->restarts,
           cli_bytes_text(d->rss_bytes, rss, sizeof rss), d->connections, d->sessions, d->regions,
           cli_bytes_text(d->region_bytes, regions, sizeof regions));
    print_devices(d);
    print_models(d);
}

int cli_stats(const cli_command *self, int argc, char **argv)
{
    static const struct option options[] = {{"json", no_argument, NULL, 'j'}, {0}};
    bool json = false;
    for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        if (c != 'j')
            return cli_misused(self, NULL);
        json = true;
    }
    if (optind != argc)
        return cli_misused(self, "takes no arguments");
    kaena_client *client = cli_connect();
    if (!client)
        return CLI_FAILED;
    kaena_stats *stats;
    kaena_err err;
    int result = CLI_OK;
    if (kaena_stats_get(client, 0, &stats, &err) != KAENA_OK) {
        result = cli_fail(&err);
    } else if (json) {
        json_t *daemons = json_array();
        for (size_t i = 0; i < stats->count; i++)
            json_array_append_new(daemons, daemon_json(&stats->daemons[i]));
        json_t *root = json_pack("{s:o, s:I}", "daemons", daemons, "unreachable",
                                 (json_int_t)stats->unreachable);
        result = root && json_dumpf(root, stdout, JSON_INDENT(2)) == 0 ? CLI_OK : CLI_FAILED;
        printf("\n");
        json_decref(root);
        kaena_stats_free(stats);
    } else {
        for (size_t i = 0; i < stats->count; i++)
            print_daemon(&stats->daemons[i]);
        if (stats->unreachable)
            fprintf(stderr, "kaena-cli: %zu of the daemons did not answer\n", stats->unreachable);
        kaena_stats_free(stats);
    }
    kaena_client_close(client);
    return result;
}
