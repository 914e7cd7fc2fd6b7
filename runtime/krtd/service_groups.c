/* Runtime.CreateGroup, DestroyGroup, ListGroups. */
#include "krt_clients.h"
#include "krt_group.h"
#include "krt_log.h"
#include "krt_model.h"
#include "rpc_pb.h"

/* With the daemon's lock held; strings are the arena's. */
static Kaena__V1__Group *describe(const krt_group *g, kaena_arena *arena)
{
    krt_daemon *d = g->daemon;
    Kaena__V1__Group *out = KAENA_NEW(arena, Kaena__V1__Group);
    kaena__v1__group__init(out);
    out->id = g->id;
    out->name = kaena_arena_strdup(arena, g->name);
    out->persistent = g->owner == 0;
    out->tpbs = KAENA_NEW_N(arena, Kaena__V1__TpbPlace *, g->n_tpbs);
    out->n_tpbs = g->n_tpbs;
    for (uint32_t i = 0; i < g->n_tpbs; i++) {
        out->tpbs[i] = KAENA_NEW(arena, Kaena__V1__TpbPlace);
        kaena__v1__tpb_place__init(out->tpbs[i]);
        out->tpbs[i]->device = d->config->devices[g->places[i].chip];
        out->tpbs[i]->tpb = g->places[i].tpb;
    }
    out->models = KAENA_NEW_N(arena, char *, d->n_models);
    for (const krt_model *m = d->models; m; m = m->next)
        if (m->group == g)
            out->models[out->n_models++] = kaena_arena_strdup(arena, m->name);
    return out;
}

void krt_create_group(krpc_call *call, void *user)
{
    krt_daemon *d = user;
    kaena_arena in, arena;
    Kaena__V1__CreateGroupRequest *q = (Kaena__V1__CreateGroupRequest *)krt_request(
        call, &kaena__v1__create_group_request__descriptor, &in);
    if (!q)
        return;
    kaena_err err;
    krt_caller caller;
    krt_group *g = NULL;
    kaena_status st = KAENA_UNAVAILABLE;
    bool entered = false;
    if (krt_accept(d, &err)) {
        krpc_call_on_close(call, krt_release_on_close, d);
        st = krt_caller_enter(d, call, &caller, &err);
        entered = st == KAENA_OK;
    }
    if (st == KAENA_OK) {
        const krt_group_options options = {.name = q->name,
                                           .n_tpbs = q->tpbs,
                                           .devices = q->devices,
                                           .n_devices = q->n_devices,
                                           .owner = q->persistent ? 0 : caller.owner};
        st = krt_group_create(d, &options, &g, &err);
    }
    kaena_arena_fini(&in);
    if (entered)
        krt_caller_leave(&caller);
    if (st != KAENA_OK) {
        krt_fail(call, NULL, &err);
        return;
    }
    kaena_arena_init(&arena, 0);
    Kaena__V1__CreateGroupResponse r = KAENA__V1__CREATE_GROUP_RESPONSE__INIT;
    (void)pthread_mutex_lock(&d->lock);
    r.group = describe(g, &arena);
    (void)pthread_mutex_unlock(&d->lock);
    krpc_reply(call, krpc_pb_pack(&r.base));
    kaena_arena_fini(&arena);
    (void)krt_group_unref(g);
}

void krt_destroy_group(krpc_call *call, void *user)
{
    krt_daemon *d = user;
    kaena_arena in;
    Kaena__V1__DestroyGroupRequest *q = (Kaena__V1__DestroyGroupRequest *)krt_request(
        call, &kaena__v1__destroy_group_request__descriptor, &in);
    if (!q)
        return;
    kaena_err err;
    krt_group *g = NULL;
    if (krt_accept(d, &err)) {
        krpc_call_on_close(call, krt_release_on_close, d);
        if (!q->id == !*q->name)
            (void)KAENA_FAIL(&err, INVALID_ARGUMENT, "destroy a group by its id or by its name");
        else
            g = krt_group_find(d, q->id ? NULL : q->name, q->id, &err);
    }
    kaena_arena_fini(&in);
    if (!g) {
        krt_fail(call, NULL, &err);
        return;
    }
    krt_group_destroy(g, call);
    (void)krt_group_unref(g);
}

void krt_list_groups(krpc_call *call, void *user)
{
    krt_daemon *d = user;
    kaena_arena in, arena;
    if (!krt_request(call, &kaena__v1__list_groups_request__descriptor, &in))
        return;
    kaena_arena_fini(&in);
    kaena_arena_init(&arena, 0);
    Kaena__V1__ListGroupsResponse r = KAENA__V1__LIST_GROUPS_RESPONSE__INIT;
    (void)pthread_mutex_lock(&d->lock);
    r.groups = KAENA_NEW_N(&arena, Kaena__V1__Group *, KRT_MAX_TPBS);
    for (const krt_group *g = d->groups; g; g = g->next)
        r.groups[r.n_groups++] = describe(g, &arena);
    (void)pthread_mutex_unlock(&d->lock);
    krpc_reply(call, krpc_pb_pack(&r.base));
    kaena_arena_fini(&arena);
}
