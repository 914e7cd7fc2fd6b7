#include "krt_model.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "checked.h"
#include "infer_run.h"
#include "krt_group.h"
#include "krt_log.h"
#include "log.h"
#include "rpc_pb.h"

#define MODEL_NAME_MAX 128
/* Digits of the digest that name a version. */
#define DIGEST_VERSION 12
/* Output buffers of a model that wait for use: so many bytes, but no more buffers than this. */
#define KEEP_BYTES (64u << 20)
#define MAX_KEPT 64u
/* Between two mebibytes of a check of a file whose model works: 50 a second at least. */
#define CHECK_PAUSE_NS 20000000

#define LOADING KAENA__V1__MODEL_STATE__LOADING
#define READY KAENA__V1__MODEL_STATE__READY
#define UNLOADING KAENA__V1__MODEL_STATE__UNLOADING
#define FAILED KAENA__V1__MODEL_STATE__FAILED
#define BIT(state) (1u << (state))

/* Row: a state; column: where it may go. */
static const unsigned allowed[] = {
    [LOADING] = BIT(READY),
    [READY] = BIT(UNLOADING) | BIT(FAILED),
    [UNLOADING] = 0,
    [FAILED] = BIT(UNLOADING),
};

/* Moves |m|, with its lock held; false when there is no such edge. */
static bool move(krt_model *m, Kaena__V1__ModelState to)
{
    if (!(allowed[m->state] & BIT(to)))
        return false;
    kaena_log(KAENA_LOG_DEBUG, "model '%s' (%" PRIu64 "): %s -> %s", m->name, m->id,
              kaena__v1__model_state__descriptor.values[m->state].name,
              kaena__v1__model_state__descriptor.values[to].name);
    m->state = to;
    return true;
}

static bool set_health(krt_model *m, bool serving)
{
    char service[MODEL_NAME_MAX + 8];
    (void)snprintf(service, sizeof service, "model/%s", m->name);
    return krpc_health_set(m->daemon->server, service,
                           serving && !atomic_load(&m->daemon->draining));
}

static void remove_health(krt_model *m)
{
    char service[MODEL_NAME_MAX + 8];
    (void)snprintf(service, sizeof service, "model/%s", m->name);
    krpc_health_remove(m->daemon->server, service);
}

void krt_model_ref(krt_model *m)
{
    (void)atomic_fetch_add(&m->refs, 1);
}

krt_model *krt_model_unref(krt_model *m)
{
    if (!m || atomic_fetch_sub(&m->refs, 1) != 1)
        return NULL;
    (void)krt_pool_destroy(m->in_pool);
    (void)krt_pool_destroy(m->out_pool);
    (void)pthread_mutex_destroy(&m->lock);
    free(m->in_offset);
    free(m->out_offset);
    free(m->waiters);
    free(m->lanes);
    free(m->name);
    free(m);
    return NULL;
}

static krt_model **find_name(krt_daemon *d, const char *name)
{
    krt_model **at = &d->models;
    while (*at && strcmp((*at)->name, name) != 0)
        at = &(*at)->next;
    return at;
}

/* Names show up in health services, messages and file names of reports. */
static kaena_status check_name(const char *name, kaena_err *err)
{
    size_t n = strlen(name);
    bool ok = n > 0 && n <= MODEL_NAME_MAX;
    for (size_t i = 0; i < n && ok; i++)
        ok = isalnum((unsigned char)name[i]) || strchr("._-/:@+", name[i]);
    if (ok)
        return KAENA_OK;
    kaena_status st = KAENA_FAIL(err, INVALID_ARGUMENT,
                                 "model name '%.160s': must be 1 to %d of [A-Za-z0-9._-/:@+]", name,
                                 MODEL_NAME_MAX);
    kaena_err_hint(err, "give the model another name when you load it");
    return st;
}

/* With the daemon's lock held: |again| waits for |m|, if that is on its way out. */
static bool inherit(krt_model *m, krt_job *again)
{
    (void)pthread_mutex_lock(&m->lock);
    bool leaving = m->state == UNLOADING;
    (void)pthread_mutex_unlock(&m->lock);
    if (leaving) {
        again->next = m->heirs;
        m->heirs = again;
    }
    return leaving;
}

kaena_status krt_model_reserve(krt_daemon *d, const char *name, uint64_t owner, krt_job *again,
                               krt_model **out, kaena_err *err)
{
    *out = NULL;
    KAENA_TRY(check_name(name, err));
    krt_model *m = calloc(1, sizeof *m);
    if (m)
        m->name = strdup(name);
    if (!m || !m->name) {
        free(m);
        return KAENA_FAIL(err, RESOURCE_EXHAUSTED, "out of memory");
    }
    m->daemon = d;
    m->owner = owner;
    m->state = LOADING;
    m->refs = 2; /* the list's and the caller's */
    (void)pthread_mutex_init(&m->lock, NULL);
    kaena_status st = KAENA_OK;
    bool reserved = false;
    (void)pthread_mutex_lock(&d->lock);
    krt_model **at = find_name(d, name);
    uint64_t owned = 0;
    for (const krt_model *i = d->models; i; i = i->next)
        owned += i->owner == owner;
    if (*at && inherit(*at, again)) {
        kaena_log(KAENA_LOG_DEBUG, "a load waits for the end of model '%s'", name);
    } else if (*at) {
        st = KAENA_FAIL(err, ALREADY_EXISTS, "a model '%s' is loaded already", name);
        kaena_err_hint(err, "unload it first, or load this one under another name");
    } else if (d->n_models >= d->config->limits.models) {
        st = KRT_FAIL_LIMIT(err, d->n_models + 1, d->config->limits.models,
                            "%zu models are loaded, the limit of this daemon is %" PRIu64,
                            d->n_models, d->config->limits.models);
        kaena_err_hint(err, "unload one, or raise limits.models");
    } else if (owner && owned >= d->config->limits.client_models) {
        st = KRT_FAIL_LIMIT(err, owned + 1, d->config->limits.client_models,
                            "the session owns %" PRIu64 " models, which is the limit", owned);
        kaena_err_hint(err, "unload one, make it persistent, or raise limits.client_models");
    } else {
        m->id = ++d->next_id;
        *at = m;
        d->n_models++;
        reserved = true;
    }
    (void)pthread_mutex_unlock(&d->lock);
    if (reserved) {
        *out = m;
    } else {
        m->refs = 1;
        (void)krt_model_unref(m);
    }
    return st;
}

kaena_status krt_model_join(krt_model *m, krt_group *group, kaena_err *err)
{
    krt_daemon *d = m->daemon;
    (void)pthread_mutex_lock(&d->lock);
    bool open = !group->closing;
    if (open)
        m->group = group;
    (void)pthread_mutex_unlock(&d->lock);
    return open
               ? KAENA_OK
               : KAENA_FAIL(err, FAILED_PRECONDITION, "group '%s' is being destroyed", group->name);
}

/* The image is gone, or there has never been one: its TPBs are the group's again. */
static void leave_list(krt_model *m)
{
    krt_daemon *d = m->daemon;
    (void)pthread_mutex_lock(&d->lock);
    krt_group *group = m->group;
    m->group = NULL;
    krt_job *heirs = m->heirs;
    m->heirs = NULL;
    krt_model **at = find_name(d, m->name);
    if (*at == m) {
        *at = m->next;
        d->n_models--;
    }
    (void)pthread_mutex_unlock(&d->lock);
    for (krt_job *next; heirs; heirs = next) {
        next = heirs->next;
        krt_jobs_post(d->loaders, heirs);
    }
    (void)krt_group_unref(group);
    (void)krt_model_unref(m);
}

void krt_model_abandon(krt_model *m)
{
    leave_list(m);
}

/* Places |n| tensors in one buffer; false on overflow. */
static bool lay_out(const krt_tensor *t, size_t n, size_t **offsets, size_t *size)
{
    uint64_t at = 0;
    *offsets = calloc(n ? n : 1, sizeof **offsets);
    for (size_t i = 0; i < n && *offsets; i++) {
        (*offsets)[i] = (size_t)at;
        if (t[i].bytes > SIZE_MAX / 4 ||
            !kaena_add_u64(at, kaena_align_up(t[i].bytes, KRT_TENSOR_ALIGN), &at) ||
            at > SIZE_MAX / 2)
            return false;
    }
    *size = (size_t)at;
    return *offsets != NULL;
}

/* A check takes processor time and memory bandwidth that requests want: while the model works it
 * goes on in small steps only. */
static bool check_goes_on(void *user)
{
    krt_model *m = user;
    bool idle = true;
    for (uint32_t i = 0; i < m->info.n_replicas; i++)
        idle = idle && m->daemon->backend->idle(m->image, i);
    if (!idle) {
        struct timespec t = {.tv_nsec = CHECK_PAUSE_NS};
        (void)nanosleep(&t, NULL);
    }
    (void)pthread_mutex_lock(&m->lock);
    bool wanted = m->state == READY;
    (void)pthread_mutex_unlock(&m->lock);
    return wanted && !atomic_load(&m->daemon->draining);
}

/* A lane for each replica. */
static krt_lane *make_lanes(const krt_daemon *d, const krt_image_info *info)
{
    krt_lane *lanes = calloc(info->n_replicas, sizeof *lanes);
    for (uint32_t r = 0; lanes && r < info->n_replicas; r++) {
        lanes[r].contexts = info->contexts ? info->contexts : 1;
        for (uint32_t t = 0; t < info->num_tpbs; t++) {
            const krt_place *p = &info->places[(size_t)r * info->num_tpbs + t];
            lanes[r].tpbs |= UINT64_C(1) << (p->chip * d->backend->tpbs_per_chip + p->tpb);
        }
    }
    return lanes;
}

static void check_all_bytes(krt_job *job)
{
    krt_model *m = (krt_model *)((char *)job - offsetof(krt_model, check_job));
    kaena_err err;
    kaena_err_init(&err);
    kaena_status st = m->daemon->backend->verify(m->image, check_goes_on, m, &err);
    if (st != KAENA_OK && st != KAENA_CANCELLED)
        krt_model_damaged(m, err.what);
    (void)pthread_mutex_lock(&m->lock);
    m->holds--;
    krt_model_settle(m);
    (void)pthread_mutex_unlock(&m->lock);
    (void)krt_model_unref(m);
}

kaena_status krt_model_ready(krt_model *m, krt_image *image, const krt_load_options *options,
                             kaena_err *err)
{
    krt_image_info info = m->daemon->backend->info(image);
    size_t in_size, out_size;
    if (!lay_out(info.in, info.n_in, &m->in_offset, &in_size) ||
        !lay_out(info.out, info.n_out, &m->out_offset, &out_size))
        return KRT_FAIL(err, RESOURCE_EXHAUSTED, LIMIT,
                        "its tensors need more memory than there is");
    if (out_size > KRT_MAX_ANSWER_BYTES)
        return KRT_FAIL(err, RESOURCE_EXHAUSTED, LIMIT,
                        "its outputs take %zu bytes: an answer may have %u", out_size,
                        KRT_MAX_ANSWER_BYTES);
    m->in_pool = krt_pool_create(in_size, (size_t)info.contexts * info.n_replicas);
    /* Outputs are held until they are sent: as many again as run, and what a busy client has
     * asked for before the first is on its way. */
    size_t waiting = KEEP_BYTES / (out_size + 1);
    waiting = waiting < MAX_KEPT ? waiting : MAX_KEPT;
    m->out_pool = krt_pool_create(out_size, (size_t)info.contexts * info.n_replicas * 2 + waiting);
    /* The first of each is made now, so that the first request finds it. */
    krt_block *in = m->in_pool ? krt_pool_get(m->in_pool) : NULL;
    krt_block *out = m->out_pool ? krt_pool_get(m->out_pool) : NULL;
    m->lanes = make_lanes(m->daemon, &info);
    bool ok = in && out && m->lanes;
    krt_block_unref(in);
    krt_block_unref(out);
    if (!ok)
        return KRT_FAIL(err, RESOURCE_EXHAUSTED, NO_MEMORY,
                        "no memory for its inputs and outputs (%zu + %zu bytes)", in_size,
                        out_size);
    (void)pthread_mutex_lock(&m->lock);
    if (!set_health(m, true)) { /* who heard of it gets no further than our lock */
        (void)pthread_mutex_unlock(&m->lock);
        return KRT_FAIL(err, RESOURCE_EXHAUSTED, NO_MEMORY, "health: out of memory");
    }
    m->image = image;
    m->info = info;
    if (*options->version)
        (void)snprintf(m->version, sizeof m->version, "%s", options->version);
    else
        (void)snprintf(m->version, sizeof m->version, "%.*s", DIGEST_VERSION, info.digest);
    uint32_t depth = options->queue_depth ? options->queue_depth
                                          : (uint32_t)m->daemon->config->limits.queue_depth;
    krt_flow_init(&m->flow, depth, m->lanes, info.n_replicas);
    krt_run_open(m);
    m->timeout_ns = options->timeout_ms ? options->timeout_ms * UINT64_C(1000000)
                                        : m->daemon->config->limits.execution_seconds * 1000000000u;
    (void)move(m, READY);
    m->holds = 1;
    krt_model_ref(m);
    m->check_job.run = check_all_bytes;
    (void)pthread_mutex_unlock(&m->lock);
    krt_jobs_post(m->daemon->checkers, &m->check_job);
    return KAENA_OK;
}

void krt_model_damaged(krt_model *m, const char *what)
{
    (void)pthread_mutex_lock(&m->lock);
    bool moved = move(m, FAILED);
    if (moved) {
        (void)snprintf(m->damage, sizeof m->damage, "%s", what);
        (void)set_health(m, false);
    }
    (void)pthread_mutex_unlock(&m->lock);
    if (!moved)
        return;
    kaena_log(KAENA_LOG_ERROR, "model '%s' failed: %s", m->name, what);
    kaena_err err;
    (void)KRT_FAIL(&err, DATA_LOSS, EXECUTION_FAILED, "model '%s': %s", m->name, what);
    kaena_err_hint(&err, "unload it, restore its file, and load it again");
    krt_run_close(m, &err);
}

/* The last step of an unload, on a loader. */
static void give_back(krt_job *job)
{
    krt_model *m = (krt_model *)((char *)job - offsetof(krt_model, unload_job));
    krt_daemon *d = m->daemon;
    (void)pthread_mutex_lock(&m->lock); /* whoever describes the model looks at |image| under it */
    krt_image *image = m->image;
    m->image = NULL;
    (void)pthread_mutex_unlock(&m->lock);
    d->backend->close(image);
    kaena_log(KAENA_LOG_INFO, "model '%s' unloaded", m->name);
    remove_health(m);
    Kaena__V1__UnloadResponse empty = KAENA__V1__UNLOAD_RESPONSE__INIT;
    krt_model_ref(m);
    leave_list(m);
    /* No more waiters come: the model cannot be found any more, and krt_model_unload of one that
     * had found it takes the lock and sees |image|. */
    (void)pthread_mutex_lock(&m->lock);
    krpc_call **waiters = m->waiters;
    size_t n = m->n_waiters;
    m->waiters = NULL;
    m->n_waiters = 0;
    (void)pthread_mutex_unlock(&m->lock);
    for (size_t i = 0; i < n; i++)
        krpc_reply(waiters[i], krpc_pb_pack(&empty.base));
    free(waiters);
    (void)krt_model_unref(m);
}

void krt_model_settle(krt_model *m)
{
    if (m->state != UNLOADING || m->holds || m->unload_job.run)
        return;
    (void)pthread_mutex_lock(&m->daemon->sched_lock);
    bool idle = m->flow.closed && krt_flow_idle(&m->flow);
    (void)pthread_mutex_unlock(&m->daemon->sched_lock);
    if (!idle)
        return;
    m->unload_job.run = give_back;
    krt_jobs_post(m->daemon->loaders, &m->unload_job);
}

void krt_model_unload(krt_model *m, krpc_call *call)
{
    kaena_err err;
    kaena_status st = KAENA_OK;
    (void)pthread_mutex_lock(&m->lock);
    krpc_call **grown = realloc(m->waiters, (m->n_waiters + 1) * sizeof *grown);
    if (grown)
        m->waiters = grown;
    if (!grown)
        st = KAENA_FAIL(&err, RESOURCE_EXHAUSTED, "out of memory");
    else if (m->state == LOADING)
        st = KAENA_FAIL(&err, FAILED_PRECONDITION, "model '%s' is still being loaded", m->name);
    else if (!m->image)
        st = KAENA_FAIL(&err, NOT_FOUND, "no model '%s': it has just been unloaded", m->name);
    else if (call)
        m->waiters[m->n_waiters++] = call;
    bool moved = st == KAENA_OK && move(m, UNLOADING);
    if (moved) {
        (void)set_health(m, false);
        m->holds++; /* until its queue is closed */
    }
    (void)pthread_mutex_unlock(&m->lock);
    if (st != KAENA_OK) {
        if (call)
            krt_fail(call, m->name, &err);
        return;
    }
    (void)KRT_FAIL(&err, ABORTED, MODEL_UNLOADED,
                   "model '%s' was unloaded while the request waited", m->name);
    kaena_err_hint(&err, "it has not run; send it to another replica");
    if (!moved)
        return;
    krt_run_close(m, &err);
    (void)pthread_mutex_lock(&m->lock);
    m->holds--;
    krt_model_settle(m);
    (void)pthread_mutex_unlock(&m->lock);
}

/* The first model of |owner| after number |after|, with a reference; NULL: no more. */
static krt_model *next_of_owner(krt_daemon *d, uint64_t owner, uint64_t after)
{
    krt_model *next = NULL;
    (void)pthread_mutex_lock(&d->lock);
    for (krt_model *m = d->models; m; m = m->next)
        if (m->owner == owner && m->id > after && (!next || m->id < next->id))
            next = m;
    if (next)
        krt_model_ref(next);
    (void)pthread_mutex_unlock(&d->lock);
    return next;
}

void krt_models_drop(krt_daemon *d, uint64_t owner)
{
    krt_model *m;
    for (uint64_t after = 0; (m = next_of_owner(d, owner, after)); (void)krt_model_unref(m)) {
        after = m->id;
        krt_model_unload(m, NULL);
    }
}

krt_model *krt_model_find(krt_daemon *d, const char *name, kaena_err *err)
{
    krt_name_list known = {""};
    (void)pthread_mutex_lock(&d->lock);
    krt_model *m = *find_name(d, name);
    if (m)
        krt_model_ref(m);
    const krt_model *k = m ? NULL : d->models;
    while (k && krt_name_list_add(&known, k->name))
        k = k->next;
    (void)pthread_mutex_unlock(&d->lock);
    if (!m)
        (void)KAENA_FAIL(err, NOT_FOUND,
                         *known.text ? "no model '%.100s'; loaded: %s"
                                     : "no model '%.100s'; none is loaded",
                         name, known.text);
    return m;
}

kaena_status krt_model_check_state(krt_model *m, kaena_err *err)
{
    switch (m->state) {
    case READY:
        return KAENA_OK;
    case LOADING:
        return KRT_FAIL(err, UNAVAILABLE, NOT_ACCEPTED, "model '%s' is still being loaded",
                        m->name);
    case FAILED: {
        kaena_status st = KRT_FAIL(err, DATA_LOSS, EXECUTION_FAILED, "model '%s' has failed: %s",
                                   m->name, m->damage);
        kaena_err_hint(err, "unload it, restore its file, and load it again");
        return st;
    }
    case UNLOADING:
    case KAENA__V1__MODEL_STATE__MODEL_STATE_UNSPECIFIED:
    case _KAENA__V1__MODEL_STATE_IS_INT_SIZE:
        break;
    }
    return KRT_FAIL(err, UNAVAILABLE, NOT_ACCEPTED, "model '%s' is being unloaded", m->name);
}

void krt_models_clear(krt_daemon *d)
{
    while (d->models) {
        krt_model *m = d->models;
        if (m->image)
            d->backend->close(m->image);
        m->image = NULL;
        leave_list(m);
    }
}

static Kaena__V1__TensorSpec **describe_tensors(const krt_tensor *t, size_t n, kaena_arena *arena)
{
    Kaena__V1__TensorSpec **list = KAENA_NEW_N(arena, Kaena__V1__TensorSpec *, n);
    for (size_t i = 0; i < n; i++) {
        list[i] = KAENA_NEW(arena, Kaena__V1__TensorSpec);
        kaena__v1__tensor_spec__init(list[i]);
        list[i]->name = (char *)(uintptr_t)t[i].name;
        list[i]->dtype = (Kaena__V1__DataType)t[i].dtype;
        list[i]->kind = (Kaena__V1__ValueKind)t[i].form;
        list[i]->any_rank = t[i].any_rank;
        list[i]->n_shape = t[i].any_rank ? 0 : (size_t)t[i].shape.rank;
        list[i]->shape =
            kaena_arena_memdup(arena, t[i].shape.dim, list[i]->n_shape * sizeof *t[i].shape.dim);
    }
    return list;
}

void krt_model_describe(krt_model *m, Kaena__V1__Model *out, kaena_arena *arena)
{
    kaena__v1__model__init(out);
    (void)pthread_mutex_lock(&m->daemon->lock);
    if (m->group)
        out->group = kaena_arena_strdup(arena, m->group->name);
    (void)pthread_mutex_unlock(&m->daemon->lock);
    (void)pthread_mutex_lock(&m->lock);
    out->id = m->id;
    out->name = m->name;
    out->state = m->state;
    out->version = kaena_arena_strdup(arena, m->version);
    out->persistent = m->owner == 0;
    (void)pthread_mutex_lock(&m->daemon->sched_lock);
    out->queued = m->flow.n_queued;
    out->queue_depth = m->flow.depth;
    (void)pthread_mutex_unlock(&m->daemon->sched_lock);
    out->inferences = m->inferences;
    out->failures = m->failures;
    out->executions = atomic_load_explicit(&m->executions, memory_order_relaxed);
    if (m->image) { /* what the image lends is copied: it may be gone before the answer is packed */
        const krt_image_info *info = &m->info;
        out->digest = kaena_arena_strdup(arena, info->digest);
        out->compiler = kaena_arena_strdup(arena, info->compiler);
        out->inputs = describe_tensors(info->in, info->n_in, arena);
        out->n_inputs = info->n_in;
        out->outputs = describe_tensors(info->out, info->n_out, arena);
        out->n_outputs = info->n_out;
        for (size_t i = 0; i < out->n_inputs; i++)
            out->inputs[i]->name = kaena_arena_strdup(arena, out->inputs[i]->name);
        for (size_t i = 0; i < out->n_outputs; i++)
            out->outputs[i]->name = kaena_arena_strdup(arena, out->outputs[i]->name);
        size_t n_places = (size_t)info->n_replicas * info->num_tpbs;
        out->num_tpbs = info->num_tpbs;
        out->replicas = info->n_replicas;
        out->dram_bytes = info->dram_bytes;
        out->contexts = info->contexts * info->n_replicas;
        out->estimated_latency_us = info->estimated_latency_us;
        out->tpbs = KAENA_NEW_N(arena, Kaena__V1__TpbPlace *, n_places);
        out->n_tpbs = n_places;
        for (size_t i = 0; i < n_places; i++) {
            out->tpbs[i] = KAENA_NEW(arena, Kaena__V1__TpbPlace);
            kaena__v1__tpb_place__init(out->tpbs[i]);
            /* the client counts devices as the configuration does */
            out->tpbs[i]->device = m->daemon->config->devices[info->places[i].chip];
            out->tpbs[i]->tpb = info->places[i].tpb;
        }
    }
    (void)pthread_mutex_unlock(&m->lock);
}
