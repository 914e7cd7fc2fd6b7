/* Runtime.ListModels, GetModel, Unload. */
#include <stdlib.h>

#include "krt_log.h"
#include "krt_model.h"
#include "rpc_pb.h"

void krt_list_models(krpc_call *call, void *user)
{
    krt_daemon *d = user;
    kaena_arena in, arena;
    if (!krt_request(call, &kaena__v1__list_models_request__descriptor, &in))
        return;
    kaena_arena_fini(&in);
    kaena_arena_init(&arena, 0);
    Kaena__V1__ListModelsResponse r = KAENA__V1__LIST_MODELS_RESPONSE__INIT;
    /* References first: a model is described under its own lock, not under the daemon's. */
    (void)pthread_mutex_lock(&d->lock);
    size_t n = d->n_models;
    krt_model **models = KAENA_NEW_N(&arena, krt_model *, n);
    n = 0;
    for (krt_model *m = d->models; m; m = m->next) {
        krt_model_ref(m);
        models[n++] = m;
    }
    (void)pthread_mutex_unlock(&d->lock);
    r.models = KAENA_NEW_N(&arena, Kaena__V1__Model *, n);
    r.n_models = n;
    for (size_t i = 0; i < n; i++) {
        r.models[i] = KAENA_NEW(&arena, Kaena__V1__Model);
        krt_model_describe(models[i], r.models[i], &arena);
    }
    krpc_reply(call, krpc_pb_pack(&r.base));
    for (size_t i = 0; i < n; i++)
        (void)krt_model_unref(models[i]);
    kaena_arena_fini(&arena);
}

void krt_get_model(krpc_call *call, void *user)
{
    krt_daemon *d = user;
    kaena_arena in, arena;
    Kaena__V1__GetModelRequest *q = (Kaena__V1__GetModelRequest *)krt_request(
        call, &kaena__v1__get_model_request__descriptor, &in);
    if (!q)
        return;
    kaena_err err;
    krt_model *m = krt_model_find(d, q->name, &err);
    kaena_arena_fini(&in);
    if (!m) {
        krt_fail(call, NULL, &err);
        return;
    }
    kaena_arena_init(&arena, 0);
    Kaena__V1__GetModelResponse r = KAENA__V1__GET_MODEL_RESPONSE__INIT;
    Kaena__V1__Model description;
    krt_model_describe(m, &description, &arena);
    r.model = &description;
    krpc_reply(call, krpc_pb_pack(&r.base));
    kaena_arena_fini(&arena);
    (void)krt_model_unref(m);
}

void krt_unload(krpc_call *call, void *user)
{
    krt_daemon *d = user;
    kaena_arena in;
    Kaena__V1__UnloadRequest *q =
        (Kaena__V1__UnloadRequest *)krt_request(call, &kaena__v1__unload_request__descriptor, &in);
    if (!q)
        return;
    kaena_err err;
    krt_model *m = NULL;
    if (krt_accept(d, &err)) {
        krpc_call_on_close(call, krt_release_on_close, d);
        m = krt_model_find(d, q->name, &err);
    }
    kaena_arena_fini(&in);
    if (m) {
        krt_model_unload(m, call);
        (void)krt_model_unref(m);
        return;
    }
    krt_fail(call, NULL, &err);
}
