/* Handles of models: where their replicas are, and calls to them. */
#include "client_model.h"

#include <stdlib.h>
#include <string.h>

#include "client_ask.h"
#include "client_session.h"
#include "kaena/v1/runtime.pb-c.h"

#define MS INT64_C(1000000)
#define LOOK_NS (5 * MS) /* while opening waits for a daemon */
#define FIND_NS (5000 * MS)
#define UNLOAD_NS (10000 * MS)
/* Requests under way at a daemon that does not say how many it takes. */
#define DEFAULT_WINDOW 64

/* ---- What the keeper does for a handle ---- */

static const char *address_of(const kaena_model *m, size_t daemon)
{
    return m->client->endpoints[daemon].address;
}

/* The description that came with the first replica says what all others have to be. Under the
 * replicas' lock. */
static kaena_status accept(kaena_model *m, kaena_model_info *info, kaena_err *err)
{
    if (m->info && strcmp(m->info->digest, info->digest) != 0) {
        kaena_status status =
            KAENA_FAIL(err, FAILED_PRECONDITION, "the model '%s' on %s is another one than on %s",
                       info->name, info->daemon, m->info->daemon);
        kaena_err_hint(err, "unload one of them, or open this one under another name");
        kaena_model_info_free(info);
        return status;
    }
    if (m->info) {
        kaena_model_info_free(info);
    } else {
        uint32_t room = info->queue_depth + info->contexts;
        m->info = info;
        m->replicas.places.model = info->name;
        m->replicas.places.window = room > 0 ? room : DEFAULT_WINDOW;
    }
    return KAENA_OK;
}

static kaena_status find_replica(void *user, size_t daemon, kaena_outcome *outcome, kaena_err *err)
{
    kaena_model *m = user;
    kaena_model_info *info = NULL;
    Kaena__V1__GetModelRequest request = KAENA__V1__GET_MODEL_REQUEST__INIT;
    request.name = (char *)m->replicas.places.model;
    kaena_ask ask = {"GetModel", &request.base, &kaena__v1__get_model_response__descriptor,
                     kaena_take_got_model, &info};
    const atomic_bool *stop = kaena_keeper_stopping(m->client);
    int64_t deadline_ns = kaena_now_ns() + FIND_NS;
    char token[KAENA_TOKEN_TEXT];
    /* Over TCP a model outlives its session's stream for a while: it is kept by coming back. */
    if (m->has_artifact && !m->artifact.options.persistent)
        KAENA_TRY(kaena_session_open(m->client, daemon, deadline_ns, stop, token, outcome, err));
    KAENA_TRY(kaena_attempt_on(m->client, daemon, deadline_ns, stop, kaena_attempt_ask, &ask,
                               outcome, err));
    if (info->state != KAENA_MODEL_READY) {
        *outcome = KAENA_OUTCOME_LATER;
        kaena_status status = KAENA_FAIL(err, UNAVAILABLE, "the model '%s' on %s is not ready",
                                         info->name, address_of(m, daemon));
        kaena_model_info_free(info);
        return status;
    }
    *outcome = KAENA_OUTCOME_FINAL;
    return accept(m, info, err);
}

static kaena_status load_replica(void *user, size_t daemon, kaena_outcome *outcome, kaena_err *err)
{
    kaena_model *m = user;
    if (!m->has_artifact) {
        *outcome = KAENA_OUTCOME_FINAL;
        return KAENA_FAIL(err, NOT_FOUND, "the daemon at %s has no model '%s'",
                          address_of(m, daemon), m->replicas.places.model);
    }
    kaena_model_info *info = NULL;
    kaena_load load = {
        .artifact = &m->artifact, .persistent = m->artifact.options.persistent, .to = &info};
    const atomic_bool *stop = kaena_keeper_stopping(m->client);
    int64_t deadline_ns = kaena_artifact_deadline(&m->artifact);
    char token[KAENA_TOKEN_TEXT] = "";
    /* In the name of a session, which takes the model with it. */
    if (!load.persistent)
        KAENA_TRY(kaena_session_open(m->client, daemon, deadline_ns, stop, token, outcome, err));
    kaena_target target;
    KAENA_TRY(kaena_target_open(&target, m->client, daemon, deadline_ns, stop, outcome, err));
    target.session = *token ? token : NULL;
    kaena_status status = kaena_attempt_load(&target, &load, outcome, err);
    kaena_target_close(&target);
    return status == KAENA_OK ? accept(m, info, err) : status;
}

static void unload_replica(void *user, size_t daemon)
{
    kaena_model *m = user;
    Kaena__V1__UnloadRequest request = KAENA__V1__UNLOAD_REQUEST__INIT;
    request.name = (char *)m->replicas.places.model;
    kaena_ask ask = {"Unload", &request.base, &kaena__v1__unload_response__descriptor, NULL, NULL};
    kaena_outcome outcome;
    /* A daemon that does not answer has lost the model, or will with the session. */
    (void)!kaena_attempt_on(m->client, daemon, kaena_now_ns() + UNLOAD_NS, NULL, kaena_attempt_ask,
                            &ask, &outcome, NULL);
}

static const kaena_replica_ops replica_ops = {find_replica, load_replica, unload_replica};

/* ---- Opening ---- */

static void free_model(kaena_model *m)
{
    kaena_replicas_fini(&m->replicas);
    kaena_model_info_free(m->info);
    if (m->has_artifact)
        kaena_artifact_close(&m->artifact);
    free(m->name);
    free(m);
}

static kaena_status create_model(kaena_client *client, const char *path,
                                 const kaena_load_options *options, kaena_model **out,
                                 kaena_err *err)
{
    if (!path && (!options || !options->name))
        return KAENA_FAIL(err, INVALID_ARGUMENT, "neither an artifact nor a model is named");
    kaena_artifact artifact = {.fd = -1};
    if (path)
        KAENA_TRY(kaena_artifact_open(path, options, &artifact, err));
    else if (options->size < sizeof *options)
        return KAENA_FAIL(err, INVALID_ARGUMENT, "kaena_load_options: size %u is not %zu",
                          options->size, sizeof *options);
    kaena_model *m = calloc(1, sizeof *m);
    char *name = strdup(options && options->name ? options->name : path);
    uint32_t wanted = options && options->daemons ? options->daemons : path ? 1 : KAENA_ALL;
    if (!m || !name) {
        free(m);
        free(name);
        kaena_artifact_close(&artifact);
        return KAENA_FAIL(err, RESOURCE_EXHAUSTED, "out of memory");
    }
    kaena_status status =
        kaena_replicas_init(&m->replicas, &client->router, wanted, name, &replica_ops, m, err);
    if (status != KAENA_OK) {
        free(m);
        free(name);
        kaena_artifact_close(&artifact);
        return status;
    }
    m->client = client;
    m->artifact = artifact;
    m->has_artifact = path != NULL;
    m->name = name;
    m->timeout_ms = options ? options->timeout_ms : 0;
    m->replicas.look_first = !path || options->share;
    if (!path)
        m->replicas.places.wanted = 1; /* those that have it are all there should be */
    m->kept.replicas = &m->replicas;
    *out = m;
    return KAENA_OK;
}

/* Whether the daemon may still take the model: it was away, or has been restarted since the session
 * with it was opened. */
static bool may_pass(const kaena_err *failure)
{
    return failure->code == KAENA_UNAVAILABLE || failure->reason == KAENA_REASON_NO_SESSION;
}

/* Until a daemon has it; what a daemon says against it ends that. */
static kaena_status wait_for_first(kaena_model *m, kaena_err *err)
{
    const int64_t deadline_ns = m->has_artifact
                                    ? kaena_artifact_deadline(&m->artifact)
                                    : kaena_deadline(m->timeout_ms, m->client->timeout_ms);
    (void)kaena_replicas_mend(&m->replicas);
    kaena_keeper_add(m->client, &m->kept);
    for (;;) {
        if (kaena_replicas_count(&m->replicas) > 0)
            return KAENA_OK;
        kaena_err failure;
        kaena_status status = kaena_replicas_failure(&m->replicas, &failure);
        int64_t now_ns = kaena_now_ns();
        if (status != KAENA_OK &&
            (!may_pass(&failure) || m->client->fail_fast || now_ns >= deadline_ns)) {
            if (err)
                *err = failure;
            return status;
        }
        if (now_ns >= deadline_ns)
            return KAENA_FAIL(err, UNAVAILABLE, "no daemon answers");
        kaena_sleep_until(now_ns + LOOK_NS);
    }
}

static void enlist(kaena_model *m)
{
    kaena_client *client = m->client;
    pthread_mutex_lock(&client->lock);
    m->next = client->models;
    m->before = NULL;
    if (m->next)
        m->next->before = m;
    client->models = m;
    pthread_mutex_unlock(&client->lock);
}

static void unlist(kaena_model *m)
{
    kaena_client *client = m->client;
    pthread_mutex_lock(&client->lock);
    *(m->before ? &m->before->next : &client->models) = m->next;
    if (m->next)
        m->next->before = m->before;
    pthread_mutex_unlock(&client->lock);
}

kaena_status kaena_model_open(kaena_client *client, const char *path,
                              const kaena_load_options *options, kaena_model **out, kaena_err *err)
{
    kaena_model *m = NULL;
    KAENA_TRY(kaena_keeper_start(client, err));
    KAENA_TRY(create_model(client, path, options, &m, err));
    enlist(m);
    kaena_status status = wait_for_first(m, err);
    if (status != KAENA_OK) {
        kaena_model_close(m);
        return status;
    }
    *out = m;
    return KAENA_OK;
}

void kaena_model_close(kaena_model *m)
{
    if (!m)
        return;
    unlist(m);
    if (m->lane.async)
        kaena_lane_close(&m->lane);
    kaena_keeper_remove(m->client, &m->kept);
    kaena_replicas_close(&m->replicas, m->has_artifact && !m->artifact.options.persistent);
    free_model(m);
}

const kaena_model_info *kaena_model_describe(const kaena_model *m)
{
    return m->info;
}

size_t kaena_model_replicas(kaena_model *m, kaena_replica *out, size_t room)
{
    kaena_replicas *r = &m->replicas;
    pthread_mutex_lock(&r->lock);
    for (size_t i = 0; i < r->router->count && i < room; i++) {
        const kaena_slot *slot = &r->slots[i];
        out[i] = (kaena_replica){
            .address = address_of(m, i),
            .state = !kaena_router_is_up(r->router, i)            ? KAENA_REPLICA_AWAY
                     : kaena_places_has(&r->places, r->router, i) ? KAENA_REPLICA_READY
                                                                  : KAENA_REPLICA_ABSENT,
            .inferences = atomic_load(&slot->answered),
        };
        if (out[i].state != KAENA_REPLICA_READY)
            memcpy(out[i].why, slot->failure.what, sizeof out[i].why);
    }
    pthread_mutex_unlock(&r->lock);
    return r->router->count;
}
