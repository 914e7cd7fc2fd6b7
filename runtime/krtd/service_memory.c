/* Runtime.MapSharedMemory, UnmapSharedMemory. */
#include <stdlib.h>

#include "krt_clients.h"
#include "krt_log.h"
#include "rpc_pb.h"

/* Mapping makes pages present, which takes milliseconds: not on the completion-queue thread. */
typedef struct mapping {
    krt_job job;
    krt_daemon *daemon;
    krpc_call *call;
    krt_caller caller;
    uint64_t client;
    uid_t uid;
    kaena_arena arena;
    Kaena__V1__MapSharedMemoryRequest *request; /* in |arena| */
} mapping;

static void map(krt_job *job)
{
    mapping *w = (mapping *)(void *)job;
    krt_daemon *d = w->daemon;
    const krt_limits *l = &d->config->limits;
    krt_region_limits limits = {.regions = l->regions, .bytes = l->region_bytes};
    krpc_call *call = w->call;
    kaena_err err;
    Kaena__V1__MapSharedMemoryResponse r = KAENA__V1__MAP_SHARED_MEMORY_RESPONSE__INIT;
    kaena_status st = krt_region_map(d->clients->regions, &limits, w->client, w->uid,
                                     w->request->name, w->request->size, &r.region, &err);
    if (st == KAENA_OK && !w->caller.owner)
        krt_clients_watch_connections(d);
    krt_caller_leave(&w->caller);
    kaena_arena_fini(&w->arena);
    free(w);
    if (st == KAENA_OK)
        krpc_reply(call, krpc_pb_pack(&r.base));
    else
        krt_fail(call, NULL, &err);
}

/* Who may map: a process of this host, whose user the kernel vouches for. */
static kaena_status find_peer(krpc_call *call, uid_t *uid, kaena_err *err)
{
    struct ucred peer;
    if (krpc_call_peer(call, &peer)) {
        *uid = peer.uid;
        return KAENA_OK;
    }
    kaena_status st = KRT_FAIL(err, FAILED_PRECONDITION, BAD_REGION,
                               "shared memory is mapped for clients on a unix socket only");
    kaena_err_hint(err, "connect to the daemon's unix socket, or send the bytes");
    return st;
}

static kaena_status begin(mapping *w, kaena_err *err)
{
    ProtobufCMessage *m;
    KAENA_TRY(find_peer(w->call, &w->uid, err));
    KAENA_TRY(krpc_pb_parse(krpc_call_request(w->call),
                            &kaena__v1__map_shared_memory_request__descriptor, &w->arena, &m, err));
    w->request = (Kaena__V1__MapSharedMemoryRequest *)m;
    KAENA_TRY(krt_caller_enter(w->daemon, w->call, &w->caller, err));
    w->client = krt_caller_client(&w->caller, w->call);
    return KAENA_OK;
}

void krt_map_shared_memory(krpc_call *call, void *user)
{
    krt_daemon *d = user;
    kaena_err err;
    if (!krt_accept(d, &err)) {
        krt_fail(call, NULL, &err);
        return;
    }
    krpc_call_on_close(call, krt_release_on_close, d);
    mapping *w = calloc(1, sizeof *w);
    if (!w) {
        KRPC_FAIL(call, RESOURCE_EXHAUSTED, "out of memory");
        return;
    }
    *w = (mapping){.job.run = map, .daemon = d, .call = call};
    kaena_arena_init(&w->arena, KRPC_PB_QUOTA);
    if (begin(w, &err) == KAENA_OK) {
        krt_jobs_post(d->clients->mappers, &w->job);
        return;
    }
    kaena_arena_fini(&w->arena);
    free(w);
    krt_fail(call, NULL, &err);
}

static void gone(void *call)
{
    Kaena__V1__UnmapSharedMemoryResponse r = KAENA__V1__UNMAP_SHARED_MEMORY_RESPONSE__INIT;
    krpc_reply(call, krpc_pb_pack(&r.base));
}

void krt_unmap_shared_memory(krpc_call *call, void *user)
{
    krt_daemon *d = user;
    kaena_err err;
    kaena_arena arena;
    krt_caller caller;
    Kaena__V1__UnmapSharedMemoryRequest *q = (Kaena__V1__UnmapSharedMemoryRequest *)krt_request(
        call, &kaena__v1__unmap_shared_memory_request__descriptor, &arena);
    if (!q)
        return;
    uint64_t region = q->region;
    kaena_arena_fini(&arena);
    kaena_status st = krt_caller_enter(d, call, &caller, &err);
    if (st == KAENA_OK) {
        st = krt_region_unmap(d->clients->regions, krt_caller_client(&caller, call), region, gone,
                              call, &err);
        krt_caller_leave(&caller);
    }
    if (st != KAENA_OK)
        krt_fail(call, NULL, &err);
}
