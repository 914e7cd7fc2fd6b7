/* Runtime.ListDevices, and the method table. */
#include <stdio.h>
#include <time.h>

#include "krt_group.h"
#include "krt_log.h"
#include "krt_model.h"
#include "rpc_pb.h"

const krpc_method krt_methods[] = {
    {"/kaena.v1.Runtime/ListDevices", KRPC_UNARY, krt_list_devices},
    {"/kaena.v1.Runtime/CreateGroup", KRPC_UNARY, krt_create_group},
    {"/kaena.v1.Runtime/DestroyGroup", KRPC_UNARY, krt_destroy_group},
    {"/kaena.v1.Runtime/ListGroups", KRPC_UNARY, krt_list_groups},
    {"/kaena.v1.Runtime/Load", KRPC_CLIENT_STREAM, krt_load},
    {"/kaena.v1.Runtime/Unload", KRPC_UNARY, krt_unload},
    {"/kaena.v1.Runtime/ListModels", KRPC_UNARY, krt_list_models},
    {"/kaena.v1.Runtime/GetModel", KRPC_UNARY, krt_get_model},
    {"/kaena.v1.Runtime/Infer", KRPC_UNARY, krt_infer},
    {"/kaena.v1.Runtime/MapSharedMemory", KRPC_UNARY, krt_map_shared_memory},
    {"/kaena.v1.Runtime/UnmapSharedMemory", KRPC_UNARY, krt_unmap_shared_memory},
    {"/kaena.v1.Runtime/InferPost", KRPC_UNARY, krt_infer_post},
    {"/kaena.v1.Runtime/InferWait", KRPC_UNARY, krt_infer_wait},
    {"/kaena.v1.Runtime/InferStream", KRPC_BIDI, krt_infer_stream},
    {"/kaena.v1.Runtime/Session", KRPC_BIDI, krt_session_stream},
    {"/kaena.v1.Runtime/GetStats", KRPC_UNARY, krt_get_stats},
};
const size_t krt_n_methods = sizeof krt_methods / sizeof *krt_methods;

uint64_t krt_now_ns(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

ProtobufCMessage *krt_request(krpc_call *call, const ProtobufCMessageDescriptor *type,
                              kaena_arena *arena)
{
    ProtobufCMessage *m;
    kaena_err err;
    kaena_arena_init(arena, KRPC_PB_QUOTA);
    if (krpc_pb_parse(krpc_call_request(call), type, arena, &m, &err) == KAENA_OK)
        return m;
    kaena_arena_fini(arena);
    krt_fail(call, NULL, &err);
    return NULL;
}

/* --- What lies where; with the daemon's lock held ---
 */

static size_t n_places(const krt_model *m)
{
    return m->image ? (size_t)m->info.n_replicas * m->info.num_tpbs : 0;
}

static bool is_on(const krt_model *m, uint32_t chip, uint32_t tpb)
{
    for (size_t i = 0; i < n_places(m); i++)
        if (m->info.places[i].chip == chip && m->info.places[i].tpb == tpb)
            return true;
    return false;
}

/* What |m| has of the chip; NULL: nothing. */
static Kaena__V1__DeviceModel *use_of(krt_model *m, uint32_t chip, uint32_t n_tpbs,
                                      kaena_arena *arena)
{
    Kaena__V1__DeviceModel *use = NULL;
    (void)pthread_mutex_lock(&m->lock);
    uint32_t here = 0;
    for (uint32_t t = 0; t < n_tpbs; t++)
        here += is_on(m, chip, t);
    uint64_t bytes = m->image ? m->info.chip_bytes[chip] : 0;
    if (here || bytes) {
        use = KAENA_NEW(arena, Kaena__V1__DeviceModel);
        kaena__v1__device_model__init(use);
        use->model = kaena_arena_strdup(arena, m->name);
        use->dram_bytes = bytes;
        use->tpbs = KAENA_NEW_N(arena, uint32_t, here);
        for (uint32_t t = 0; t < n_tpbs; t++)
            if (is_on(m, chip, t))
                use->tpbs[use->n_tpbs++] = t;
    }
    (void)pthread_mutex_unlock(&m->lock);
    return use;
}

static void describe_models(krt_daemon *d, uint32_t chip, Kaena__V1__Device *out,
                            kaena_arena *arena)
{
    out->models = KAENA_NEW_N(arena, char *, d->n_models);
    out->model_use = KAENA_NEW_N(arena, Kaena__V1__DeviceModel *, d->n_models);
    for (krt_model *m = d->models; m; m = m->next) {
        Kaena__V1__DeviceModel *use = use_of(m, chip, out->tpbs, arena);
        if (!use)
            continue;
        out->model_use[out->n_model_use++] = use;
        if (use->n_tpbs)
            out->models[out->n_models++] = use->model;
    }
}

static uint64_t group_of(const krt_daemon *d, uint32_t chip, uint32_t tpb)
{
    for (const krt_group *g = d->groups; g; g = g->next)
        for (uint32_t i = 0; i < g->n_tpbs; i++)
            if (g->places[i].chip == chip && g->places[i].tpb == tpb)
                return g->id;
    return 0;
}

static void describe_tpbs(krt_daemon *d, uint32_t chip, Kaena__V1__Device *out, kaena_arena *arena)
{
    out->tpb = KAENA_NEW_N(arena, Kaena__V1__Tpb *, out->tpbs);
    out->n_tpb = out->tpbs;
    for (uint32_t t = 0; t < out->tpbs; t++) {
        Kaena__V1__Tpb *v = out->tpb[t] = KAENA_NEW(arena, Kaena__V1__Tpb);
        kaena__v1__tpb__init(v);
        krt_tpb_info info = d->backend->tpb(d->devices, chip, t);
        v->index = t;
        v->dram_bytes = info.dram_bytes;
        v->dram_used_bytes = info.dram_used;
        v->busy_ns = d->backend->busy_ns(d->devices, chip, t);
        v->group = group_of(d, chip, t);
        v->models = KAENA_NEW_N(arena, char *, out->n_model_use);
        for (size_t i = 0; i < out->n_model_use; i++)
            for (size_t k = 0; k < out->model_use[i]->n_tpbs; k++)
                if (out->model_use[i]->tpbs[k] == t)
                    v->models[v->n_models++] = out->model_use[i]->model;
    }
}

Kaena__V1__Device **krt_describe_devices(krt_daemon *d, kaena_arena *arena)
{
    size_t n = d->config->n_devices;
    Kaena__V1__Device **devices = KAENA_NEW_N(arena, Kaena__V1__Device *, n);
    (void)pthread_mutex_lock(&d->lock);
    for (uint32_t i = 0; i < n; i++) {
        Kaena__V1__Device *v = devices[i] = KAENA_NEW(arena, Kaena__V1__Device);
        kaena__v1__device__init(v);
        krt_chip_info chip = d->backend->chip(d->devices, i);
        v->index = d->config->devices[i];
        v->pci = (char *)(uintptr_t)d->chips[v->index];
        v->tpbs = d->backend->tpbs_per_chip;
        v->dram_bytes = chip.dram_bytes;
        v->dram_used_bytes = chip.dram_used;
        describe_models(d, i, v, arena);
        describe_tpbs(d, i, v, arena);
    }
    (void)pthread_mutex_unlock(&d->lock);
    return devices;
}

void krt_list_devices(krpc_call *call, void *user)
{
    krt_daemon *d = user;
    kaena_arena in, arena;
    if (!krt_request(call, &kaena__v1__list_devices_request__descriptor, &in))
        return;
    kaena_arena_fini(&in);
    kaena_arena_init(&arena, 0);
    Kaena__V1__ListDevicesResponse r = KAENA__V1__LIST_DEVICES_RESPONSE__INIT;
    r.daemon = (char *)(uintptr_t)d->config->name;
    r.version = (char *)(uintptr_t)KAENA_VERSION;
    r.devices = krt_describe_devices(d, &arena);
    r.n_devices = d->config->n_devices;
    krpc_reply(call, krpc_pb_pack(&r.base));
    kaena_arena_fini(&arena);
}
