#include "krt_clients.h"

#include <stdlib.h>

#include "krt_group.h"
#include "krt_model.h"

#define N_MAPPERS 1
#define SESSION_KEY "kaena-session"
/* The core says nothing when a connection ends: those with regions are looked at so often. */
#define SWEEP_NS UINT64_C(1000000000)

/* ---- ends ---- */

static void abandon_loads(krt_clients *c, uint64_t owner)
{
    (void)pthread_mutex_lock(&c->lock);
    for (krt_loading *l = c->loads; l; l = l->next)
        if (l->owner == owner) {
            l->abandoned = true;
            krpc_call_cancel(l->call); /* it may wait for a chunk that never comes */
        }
    (void)pthread_mutex_unlock(&c->lock);
}

/* Everything that is made in the name of a session goes here. */
static void drop(void *user, uint64_t owner)
{
    krt_clients *c = user;
    abandon_loads(c, owner);
    krt_groups_drop(c->daemon, owner);
    krt_models_drop(c->daemon, owner);
    krt_posts_drop(c->posts, owner);
    krt_regions_drop(c->regions, owner);
}

static bool connection_gone(void *arg, uint64_t client)
{
    krt_daemon *d = arg;
    return !krpc_connection_open(d->server, client);
}

static void on_sweep(krpc_timer *timer, bool fired)
{
    krt_clients *c = (krt_clients *)(void *)((char *)timer - offsetof(krt_clients, sweep));
    (void)pthread_mutex_lock(&c->lock);
    c->sweeping = false;
    (void)pthread_mutex_unlock(&c->lock);
    if (fired && krt_regions_sweep(c->regions, KRPC_CONNECTION, connection_gone, c->daemon))
        krt_clients_watch_connections(c->daemon);
}

void krt_clients_watch_connections(krt_daemon *d)
{
    krt_clients *c = d->clients;
    (void)pthread_mutex_lock(&c->lock);
    bool start = !c->sweeping;
    c->sweeping = true;
    (void)pthread_mutex_unlock(&c->lock);
    if (!start)
        return;
    c->sweep.fn = on_sweep;
    krpc_timer_start(d->server, &c->sweep, krt_now_ns() + SWEEP_NS);
}

/* ---- life ---- */

kaena_status krt_clients_create(krt_daemon *d, kaena_err *err)
{
    krt_clients *c = calloc(1, sizeof *c);
    if (!c)
        return KAENA_FAIL(err, RESOURCE_EXHAUSTED, "out of memory");
    d->clients = c;
    c->daemon = d;
    (void)pthread_mutex_init(&c->lock, NULL);
    c->sessions = krt_sessions_create(drop, c);
    c->regions = krt_regions_create();
    c->session_streams = krt_session_streams_create(d);
    c->streams = krt_streams_create(d);
    c->posts = krt_posts_create(d);
    KAENA_TRY(krt_jobs_create(N_MAPPERS, 0, &c->mappers, err));
    return c->sessions && c->regions && c->session_streams && c->streams && c->posts
               ? KAENA_OK
               : KAENA_FAIL(err, RESOURCE_EXHAUSTED, "out of memory");
}

void krt_clients_draining(krt_daemon *d, uint32_t seconds)
{
    krt_posts_draining(d->clients->posts, seconds * UINT64_C(500000000));
    krt_session_streams_draining(d->clients->session_streams, seconds);
}

void krt_clients_end(krt_daemon *d)
{
    krt_streams_end(d->clients->streams);
    krt_session_streams_end(d->clients->session_streams);
}

void krt_clients_destroy(krt_daemon *d)
{
    krt_clients *c = d->clients;
    if (!c)
        return;
    (void)krt_jobs_destroy(c->mappers);
    (void)krt_streams_destroy(c->streams);
    (void)krt_posts_destroy(c->posts);
    (void)krt_session_streams_destroy(c->session_streams);
    (void)krt_sessions_destroy(c->sessions);
    (void)krt_regions_destroy(c->regions);
    (void)pthread_mutex_destroy(&c->lock);
    free(c);
    d->clients = NULL;
}

/* ---- who calls ---- */

kaena_status krt_caller_enter(krt_daemon *d, krpc_call *call, krt_caller *out, kaena_err *err)
{
    char token[KRT_TOKEN_TEXT + 1]; /* a longer one is seen to be longer */
    krt_caller c = {0};
    if (krpc_call_metadata(call, SESSION_KEY, token, sizeof token)) {
        KAENA_TRY(krt_session_enter(d->clients->sessions, token, &c.session, err));
        c.owner = krt_session_owner(c.session);
    }
    *out = c;
    return KAENA_OK;
}

void krt_caller_leave(krt_caller *c)
{
    if (c->session)
        krt_session_leave(c->session);
    *c = (krt_caller){0};
}

uint64_t krt_caller_session(krpc_call *call)
{
    const krt_daemon *d = krpc_call_user(call);
    char token[KRT_TOKEN_TEXT + 1];
    krt_session *s;
    kaena_err ignored;
    if (!krpc_call_metadata(call, SESSION_KEY, token, sizeof token) ||
        krt_session_find(d->clients->sessions, token, &s, &ignored) != KAENA_OK)
        return 0;
    uint64_t number = krt_session_owner(s);
    krt_session_unref(s);
    return number;
}

uint64_t krt_caller_client(const krt_caller *c, krpc_call *call)
{
    return c->owner ? c->owner : krpc_call_connection(call);
}

/* ---- loads in progress ---- */

void krt_loading_enter(krt_daemon *d, krt_loading *l)
{
    krt_clients *c = d->clients;
    (void)pthread_mutex_lock(&c->lock);
    l->next = c->loads;
    l->at = &c->loads;
    if (l->next)
        l->next->at = &l->next;
    c->loads = l;
    (void)pthread_mutex_unlock(&c->lock);
}

void krt_loading_leave(krt_daemon *d, krt_loading *l)
{
    (void)pthread_mutex_lock(&d->clients->lock);
    *l->at = l->next;
    if (l->next)
        l->next->at = l->at;
    (void)pthread_mutex_unlock(&d->clients->lock);
}

bool krt_loading_abandoned(krt_daemon *d, const krt_loading *l)
{
    (void)pthread_mutex_lock(&d->clients->lock);
    bool abandoned = l->abandoned;
    (void)pthread_mutex_unlock(&d->clients->lock);
    return abandoned;
}
