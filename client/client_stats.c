/* What the daemons have counted: kaena_stats_get. */
#include <stdlib.h>
#include <string.h>

#include "arena.h"
#include "client_ask.h"
#include "kaena/v1/runtime.pb-c.h"

/* Counters of a daemon are some kilobytes for each model; more than this is not believed. */
#define STATS_BYTES (64u << 20)

/* The public part comes first, so that a pointer to it is a pointer to the whole. */
typedef struct stats_box {
    kaena_stats stats;
    kaena_arena arena;
    kaena_daemon_stats *daemons; /* one place for each of the client's */
} stats_box;

static kaena_histogram copy_histogram(kaena_arena *a, const Kaena__V1__Histogram *h)
{
    kaena_histogram out = {0};
    if (!h || h->n_counts != h->n_bounds + 1)
        return out;
    out.bounds = kaena_arena_memdup(a, h->bounds, h->n_bounds * sizeof *h->bounds);
    out.counts = kaena_arena_memdup(a, h->counts, h->n_counts * sizeof *h->counts);
    out.bucket_count = out.bounds && out.counts ? h->n_counts : 0;
    out.sum = h->sum;
    return out;
}

static bool copy_model(kaena_arena *a, const Kaena__V1__ModelStats *m, kaena_model_stats *out)
{
    *out = (kaena_model_stats){.name = kaena_arena_strdup(a, m->name),
                               .version = kaena_arena_strdup(a, m->version),
                               .queued = m->queued,
                               .running = m->running,
                               .executions = m->executions,
                               .queue = copy_histogram(a, m->queue),
                               .execute = copy_histogram(a, m->execute),
                               .total = copy_histogram(a, m->total),
                               .batch_items = m->batch_items,
                               .batch_slots = m->batch_slots,
                               .timeouts = m->timeouts};
    for (size_t i = 0; i < m->n_requests; i++) {
        int32_t code = m->requests[i]->code;
        size_t at = code >= 0 && code < KAENA_STATUS_COUNT ? (size_t)code : (size_t)KAENA_UNKNOWN;
        out->requests[at] += m->requests[i]->count;
    }
    return out->name && out->version;
}

static bool copy_device(kaena_arena *a, const Kaena__V1__Device *d, kaena_device_stats *out)
{
    kaena_tpb_stats *tpbs = KAENA_NEW_N(a, kaena_tpb_stats, d->n_tpb);
    *out = (kaena_device_stats){.pci = kaena_arena_strdup(a, d->pci),
                                .index = d->index,
                                .dram_bytes = d->dram_bytes,
                                .dram_used_bytes = d->dram_used_bytes,
                                .tpbs = tpbs,
                                .tpb_count = d->n_tpb};
    if (!tpbs || !out->pci)
        return false;
    for (size_t i = 0; i < d->n_tpb; i++)
        tpbs[i] = (kaena_tpb_stats){.busy_ns = d->tpb[i]->busy_ns,
                                    .dram_bytes = d->tpb[i]->dram_bytes,
                                    .dram_used_bytes = d->tpb[i]->dram_used_bytes};
    return true;
}

static bool copy_daemon(kaena_arena *a, const Kaena__V1__GetStatsResponse *r, const char *address,
                        kaena_daemon_stats *out)
{
    kaena_model_stats *models = KAENA_NEW_N(a, kaena_model_stats, r->n_models);
    kaena_device_stats *devices = KAENA_NEW_N(a, kaena_device_stats, r->n_devices);
    *out = (kaena_daemon_stats){.name = kaena_arena_strdup(a, r->daemon),
                                .address = kaena_arena_strdup(a, address),
                                .version = kaena_arena_strdup(a, r->version),
                                .uptime_ns = r->uptime_ns,
                                .rss_bytes = r->rss_bytes,
                                .region_bytes = r->region_bytes,
                                .connections = r->connections,
                                .sessions = r->sessions,
                                .regions = r->regions,
                                .restarts = r->restarts,
                                .models = models,
                                .model_count = r->n_models,
                                .devices = devices,
                                .device_count = r->n_devices};
    bool good = out->name && out->address && out->version && models && devices;
    for (size_t i = 0; i < r->n_models && good; i++)
        good = copy_model(a, r->models[i], &models[i]);
    for (size_t i = 0; i < r->n_devices && good; i++)
        good = copy_device(a, r->devices[i], &devices[i]);
    return good;
}

static kaena_status take(const ProtobufCMessage *answer, const char *address, void *to,
                         kaena_err *err)
{
    stats_box *box = to;
    if (!copy_daemon(&box->arena, (const Kaena__V1__GetStatsResponse *)answer, address,
                     &box->daemons[box->stats.count]))
        return KAENA_FAIL(err, RESOURCE_EXHAUSTED, "out of memory");
    box->stats.count++;
    return KAENA_OK;
}

kaena_status kaena_stats_get(kaena_client *client, int64_t timeout_ms, kaena_stats **out,
                             kaena_err *err)
{
    stats_box *box = calloc(1, sizeof *box);
    if (!box)
        return KAENA_FAIL(err, RESOURCE_EXHAUSTED, "out of memory");
    kaena_arena_init(&box->arena, STATS_BYTES);
    box->daemons = calloc(client->router.count, sizeof *box->daemons);
    kaena_status status =
        box->daemons ? KAENA_OK : KAENA_FAIL(err, RESOURCE_EXHAUSTED, "out of memory");
    Kaena__V1__GetStatsRequest request = KAENA__V1__GET_STATS_REQUEST__INIT;
    kaena_ask ask = {"GetStats", &request.base, &kaena__v1__get_stats_response__descriptor, take,
                     box};
    kaena_err first = {0};
    for (size_t i = 0; status == KAENA_OK && i < client->router.count; i++) {
        kaena_outcome outcome;
        kaena_err failure;
        kaena_err_init(&failure);
        if (kaena_attempt_on(client, i, kaena_deadline(timeout_ms, client->timeout_ms), NULL,
                             kaena_attempt_ask, &ask, &outcome, &failure) != KAENA_OK &&
            box->stats.unreachable++ == 0)
            first = failure;
    }
    if (status == KAENA_OK && box->stats.count == 0) {
        status = (kaena_status)first.code;
        if (err)
            *err = first;
    }
    box->stats.daemons = box->daemons;
    if (status == KAENA_OK)
        *out = &box->stats;
    else
        kaena_stats_free(&box->stats);
    return status;
}

void kaena_stats_free(kaena_stats *stats)
{
    if (!stats)
        return;
    stats_box *box = (stats_box *)stats;
    kaena_arena_fini(&box->arena);
    free(box->daemons);
    free(box);
}

uint64_t kaena_histogram_total(const kaena_histogram *h)
{
    uint64_t all = 0;
    for (size_t i = 0; i < h->bucket_count; i++)
        all += h->counts[i];
    return all;
}

double kaena_histogram_quantile(const kaena_histogram *h, double q)
{
    uint64_t all = kaena_histogram_total(h);
    if (all == 0)
        return 0;
    double rank = q * (double)all, before = 0;
    for (size_t i = 0; i + 1 < h->bucket_count; i++) {
        double here = (double)h->counts[i];
        if (here > 0 && before + here >= rank) {
            double low = i ? h->bounds[i - 1] : 0;
            return low + (h->bounds[i] - low) * (rank - before) / here;
        }
        before += here;
    }
    return h->bucket_count > 1 ? h->bounds[h->bucket_count - 2] : 0;
}
