#include "rpc_health.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "grpc/health/v1/health.pb-c.h"
#include "rpc_internal.h"
#include "rpc_pb.h"

typedef Grpc__Health__V1__HealthCheckResponse__ServingStatus serving_status;

#define SERVING GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__SERVING
#define NOT_SERVING GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__NOT_SERVING
#define SERVICE_UNKNOWN GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__SERVICE_UNKNOWN
#define NEVER_SENT (-1)

typedef struct service {
    struct service *next;
    bool serving;
    char name[];
} service;

/* A Watch call: answered once (then |call| is NULL), freed when it is answered and closed. */
typedef struct watcher {
    struct watcher *next;
    krpc_health *owner;
    krpc_call *call;
    int sent;     /* serving_status last sent, or NEVER_SENT */
    bool sending; /* one message at a time */
    bool gone;    /* the client is: answer as soon as nothing is being sent */
    bool closed;
    char service[];
} watcher;

struct krpc_health {
    pthread_mutex_t lock; /* of all below */
    service *services;
    watcher *watchers;
    bool stopped;
};

krpc_health *krpc_health_create(void)
{
    krpc_health *h = calloc(1, sizeof *h);
    if (h)
        (void)pthread_mutex_init(&h->lock, NULL);
    return h;
}

krpc_health *krpc_health_destroy(krpc_health *h)
{
    if (!h)
        return NULL;
    for (service *s = h->services, *next; s; s = next) {
        next = s->next;
        free(s);
    }
    (void)pthread_mutex_destroy(&h->lock);
    free(h);
    return NULL;
}

static service **find(krpc_health *h, const char *name)
{
    service **at = &h->services;
    while (*at && strcmp((*at)->name, name) != 0)
        at = &(*at)->next;
    return at;
}

static serving_status status_of(krpc_health *h, const char *name)
{
    const service *s = *find(h, name);
    return !s ? SERVICE_UNKNOWN : s->serving ? SERVING : NOT_SERVING;
}

static grpc_byte_buffer *response(serving_status status)
{
    Grpc__Health__V1__HealthCheckResponse r = GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__INIT;
    r.status = status;
    return krpc_pb_pack(&r.base);
}

static void sent(krpc_call *call, bool ok, void *arg);

static void release(watcher *w)
{
    for (watcher **at = &w->owner->watchers; *at; at = &(*at)->next)
        if (*at == w) {
            *at = w->next;
            break;
        }
    free(w);
}

/* Does what |w| is due for; with the lock held. May free it. */
static void advance(watcher *w)
{
    if (!w->call || w->sending)
        return;
    serving_status now = status_of(w->owner, w->service);
    bool news = w->sent != (int)now;
    if (w->gone || (w->owner->stopped && !news)) { /* the last news still goes out */
        krpc_call *call = w->call;
        w->call = NULL;
        KRPC_FAIL(call, UNAVAILABLE, "the server is shutting down");
        if (w->closed)
            release(w);
        return;
    }
    if (!news)
        return;
    w->sent = (int)now;
    w->sending = true;
    krpc_call_send(w->call, response(now), sent, w);
}

static void sent(krpc_call *call, bool ok, void *arg)
{
    (void)call;
    watcher *w = arg;
    krpc_health *h = w->owner;
    (void)pthread_mutex_lock(&h->lock);
    w->sending = false;
    w->gone = w->gone || !ok;
    advance(w);
    (void)pthread_mutex_unlock(&h->lock);
}

static void watch_closed(void *arg, bool cancelled)
{
    watcher *w = arg;
    krpc_health *h = w->owner;
    (void)pthread_mutex_lock(&h->lock);
    w->closed = true;
    w->gone = w->gone || cancelled;
    if (w->call)
        advance(w);
    else
        release(w);
    (void)pthread_mutex_unlock(&h->lock);
}

/* Visits every watcher; advance may free the one it is at. */
static void advance_all(krpc_health *h)
{
    for (watcher *w = h->watchers, *next; w; w = next) {
        next = w->next;
        advance(w);
    }
}

static bool parse(krpc_call *call, kaena_arena *arena, Grpc__Health__V1__HealthCheckRequest **out)
{
    ProtobufCMessage *m;
    kaena_err err;
    kaena_arena_init(arena, KRPC_PB_QUOTA);
    if (krpc_pb_parse(krpc_call_request(call), &grpc__health__v1__health_check_request__descriptor,
                      arena, &m, &err) == KAENA_OK) {
        *out = (Grpc__Health__V1__HealthCheckRequest *)m;
        return true;
    }
    kaena_arena_fini(arena);
    krpc_fail(call, &err);
    return false;
}

static void check(krpc_call *call, void *user)
{
    krpc_health *h = user;
    kaena_arena arena;
    Grpc__Health__V1__HealthCheckRequest *request;
    if (!parse(call, &arena, &request))
        return;
    (void)pthread_mutex_lock(&h->lock);
    serving_status status = status_of(h, request->service);
    (void)pthread_mutex_unlock(&h->lock);
    if (status == SERVICE_UNKNOWN)
        KRPC_FAIL(call, NOT_FOUND, "health of '%.200s' is not known", request->service);
    else
        krpc_reply(call, response(status));
    kaena_arena_fini(&arena);
}

static void watch(krpc_call *call, void *user)
{
    krpc_health *h = user;
    kaena_arena arena;
    Grpc__Health__V1__HealthCheckRequest *request;
    if (!parse(call, &arena, &request))
        return;
    size_t n = strlen(request->service) + 1;
    watcher *w = calloc(1, sizeof *w + n);
    if (!w) {
        KRPC_FAIL(call, RESOURCE_EXHAUSTED, "out of memory");
    } else {
        w->owner = h;
        w->call = call;
        w->sent = NEVER_SENT;
        memcpy(w->service, request->service, n);
        krpc_call_on_close(call, watch_closed, w);
        (void)pthread_mutex_lock(&h->lock);
        w->next = h->watchers;
        h->watchers = w;
        advance(w);
        (void)pthread_mutex_unlock(&h->lock);
    }
    kaena_arena_fini(&arena);
}

const krpc_method krpc_health_methods[2] = {
    {"/grpc.health.v1.Health/Check", KRPC_UNARY, check},
    {"/grpc.health.v1.Health/Watch", KRPC_SERVER_STREAM, watch},
};

bool krpc_health_set(krpc_server *server, const char *name, bool serving)
{
    krpc_health *h = server->health;
    size_t n = strlen(name) + 1;
    (void)pthread_mutex_lock(&h->lock);
    service **at = find(h, name);
    if (!*at) {
        service *s = calloc(1, sizeof *s + n);
        if (s)
            memcpy(s->name, name, n);
        *at = s;
    }
    bool known = *at != NULL;
    if (known)
        (*at)->serving = serving;
    advance_all(h);
    (void)pthread_mutex_unlock(&h->lock);
    return known;
}

void krpc_health_remove(krpc_server *server, const char *name)
{
    krpc_health *h = server->health;
    (void)pthread_mutex_lock(&h->lock);
    service **at = find(h, name), *s = *at;
    if (s) {
        *at = s->next;
        free(s);
    }
    advance_all(h);
    (void)pthread_mutex_unlock(&h->lock);
}

void krpc_health_stop(krpc_health *h)
{
    (void)pthread_mutex_lock(&h->lock);
    h->stopped = true;
    advance_all(h);
    (void)pthread_mutex_unlock(&h->lock);
}
