/* Runtime.GetStats. */
#include "krt_clients.h"
#include "krt_model.h"
#include "rpc_pb.h"

static Kaena__V1__Histogram *describe_histogram(const krt_histogram *h, kaena_arena *arena)
{
    Kaena__V1__Histogram *out = KAENA_NEW(arena, Kaena__V1__Histogram);
    kaena__v1__histogram__init(out);
    out->n_bounds = KRT_N_BOUNDS;
    out->bounds = KAENA_NEW_N(arena, double, KRT_N_BOUNDS);
    out->n_counts = KRT_N_BOUNDS + 1;
    out->counts = KAENA_NEW_N(arena, uint64_t, KRT_N_BOUNDS + 1);
    for (size_t i = 0; i < KRT_N_BOUNDS; i++)
        out->bounds[i] = (double)krt_bucket_bounds[i] / 1e9;
    for (size_t i = 0; i <= KRT_N_BOUNDS; i++)
        out->counts[i] = krt_stats_get(&h->count[i]);
    out->sum = (double)krt_stats_get(&h->sum_ns) / 1e9;
    return out;
}

static Kaena__V1__ModelStats *describe_model(krt_model *m, kaena_arena *arena)
{
    Kaena__V1__ModelStats *out = KAENA_NEW(arena, Kaena__V1__ModelStats);
    kaena__v1__model_stats__init(out);
    out->name = kaena_arena_strdup(arena, m->name);
    (void)pthread_mutex_lock(&m->lock);
    out->version = kaena_arena_strdup(arena, m->version);
    out->timeouts = m->timeouts;
    (void)pthread_mutex_unlock(&m->lock);
    (void)pthread_mutex_lock(&m->daemon->sched_lock);
    out->queued = m->flow.n_queued;
    out->running = m->flow.n_running;
    (void)pthread_mutex_unlock(&m->daemon->sched_lock);
    const krt_stats *s = &m->stats;
    out->requests = KAENA_NEW_N(arena, Kaena__V1__StatusCount *, KRT_N_CODES);
    for (int code = 0; code < KRT_N_CODES; code++) {
        uint64_t n = krt_stats_get(&s->answered[code]);
        if (n == 0)
            continue;
        Kaena__V1__StatusCount *c = KAENA_NEW(arena, Kaena__V1__StatusCount);
        kaena__v1__status_count__init(c);
        c->code = code;
        c->count = n;
        out->requests[out->n_requests++] = c;
    }
    out->executions = krt_stats_get(&m->executions);
    out->queue = describe_histogram(&s->queue, arena);
    out->execute = describe_histogram(&s->execute, arena);
    out->total = describe_histogram(&s->total, arena);
    out->batch_items = krt_stats_get(&s->batch_items);
    out->batch_slots = krt_stats_get(&s->batch_slots);
    return out;
}

void krt_describe_stats(krt_daemon *d, Kaena__V1__GetStatsResponse *out, kaena_arena *arena)
{
    kaena__v1__get_stats_response__init(out);
    out->daemon = (char *)(uintptr_t)d->config->name;
    out->version = (char *)(uintptr_t)KAENA_VERSION;
    out->uptime_ns = krt_now_ns() - d->started_ns;
    out->rss_bytes = krt_rss_bytes();
    out->connections = (uint32_t)krpc_server_connections(d->server);
    out->sessions = (uint32_t)krt_sessions_count(d->clients->sessions);
    size_t regions;
    krt_regions_count(d->clients->regions, &regions, &out->region_bytes);
    out->regions = (uint32_t)regions;
    out->restarts = d->restarts;
    out->devices = krt_describe_devices(d, arena);
    out->n_devices = d->config->n_devices;
    /* References first: a model is described under its own lock, not under the daemon's. */
    (void)pthread_mutex_lock(&d->lock);
    krt_model **models = KAENA_NEW_N(arena, krt_model *, d->n_models);
    size_t n = 0;
    for (krt_model *m = d->models; m; m = m->next) {
        krt_model_ref(m);
        models[n++] = m;
    }
    (void)pthread_mutex_unlock(&d->lock);
    out->models = KAENA_NEW_N(arena, Kaena__V1__ModelStats *, n);
    out->n_models = n;
    for (size_t i = 0; i < n; i++) {
        out->models[i] = describe_model(models[i], arena);
        (void)krt_model_unref(models[i]);
    }
}

void krt_get_stats(krpc_call *call, void *user)
{
    krt_daemon *d = user;
    kaena_arena in, arena;
    if (!krt_request(call, &kaena__v1__get_stats_request__descriptor, &in))
        return;
    kaena_arena_fini(&in);
    kaena_arena_init(&arena, 0);
    Kaena__V1__GetStatsResponse r;
    krt_describe_stats(d, &r, &arena);
    krpc_reply(call, krpc_pb_pack(&r.base));
    kaena_arena_fini(&arena);
}
