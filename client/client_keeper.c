#include "client_keeper.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "client_ask.h"
#include "grpc/health/v1/health.pb-c.h"

#define MS INT64_C(1000000)
#define PROBE_NS (2000 * MS)

struct kaena_keeper {
    kaena_client *client;
    pthread_t thread;
    pthread_mutex_t lock; /* of what follows; taken inside no other lock but the client's */
    pthread_cond_t changed;
    bool again;          /* something changed since the keeper looked */
    kaena_kept *first;   /* the list */
    kaena_kept *current; /* being looked after: may not go */
    uint64_t round;
    atomic_bool stop;
};

/* ---- Daemons that are away ---- */

static kaena_status take_health(const ProtobufCMessage *answer, const char *address, void *to,
                                kaena_err *err)
{
    const Grpc__Health__V1__HealthCheckResponse *health = (const void *)answer;
    *(bool *)to =
        health->status == GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__SERVING;
    (void)address;
    (void)err;
    return KAENA_OK;
}

/* Whoever answers is there; a daemon that drains says so. */
static void probe(kaena_keeper *k, size_t daemon)
{
    kaena_client *client = k->client;
    Grpc__Health__V1__HealthCheckRequest request = GRPC__HEALTH__V1__HEALTH_CHECK_REQUEST__INIT;
    bool serving = true;
    kaena_ask ask = {"/grpc.health.v1.Health/Check", &request.base,
                     &grpc__health__v1__health_check_response__descriptor, take_health, &serving};
    kaena_outcome outcome = KAENA_OUTCOME_FINAL;
    kaena_err failure;
    kaena_status status = kaena_attempt_on(client, daemon, kaena_now_ns() + PROBE_NS, &k->stop,
                                           kaena_attempt_ask, &ask, &outcome, &failure);
    if ((status == KAENA_OK && serving) || status == KAENA_UNIMPLEMENTED)
        kaena_router_up(&client->router, daemon);
    else
        kaena_router_gone(&client->router, daemon,
                          status == KAENA_OK ? KAENA_DAEMON_DRAINING : KAENA_DAEMON_DOWN,
                          kaena_now_ns());
}

/* Asks those whose time has come; gives when the next one's comes. */
static int64_t probe_due(kaena_keeper *k)
{
    int64_t next_ns = INT64_MAX;
    kaena_router *router = &k->client->router;
    for (size_t i = 0; i < router->count && !atomic_load(&k->stop); i++) {
        if (kaena_router_is_up(router, i))
            continue;
        if (atomic_load(&router->daemons[i].ask_at_ns) <= kaena_now_ns())
            probe(k, i);
        int64_t at_ns = atomic_load(&router->daemons[i].ask_at_ns);
        if (!kaena_router_is_up(router, i) && at_ns < next_ns)
            next_ns = at_ns;
    }
    return next_ns;
}

/* ---- The thread ---- */

/* One look at every set of replicas. Under the lock, which is let go of meanwhile. */
static int64_t mend_all(kaena_keeper *k)
{
    int64_t next_ns = INT64_MAX;
    k->round++;
    for (kaena_kept *kept = k->first; kept && !atomic_load(&k->stop);) {
        if (kept->round == k->round) {
            kept = kept->next;
            continue;
        }
        kept->round = k->round;
        k->current = kept;
        pthread_mutex_unlock(&k->lock);
        int64_t at_ns = kaena_replicas_mend(kept->replicas);
        pthread_mutex_lock(&k->lock);
        k->current = NULL;
        pthread_cond_broadcast(&k->changed);
        next_ns = at_ns < next_ns ? at_ns : next_ns;
        kept = k->first; /* the list may have changed */
    }
    return next_ns;
}

static void *keeper_main(void *user)
{
    kaena_keeper *k = user;
    pthread_mutex_lock(&k->lock);
    while (!atomic_load(&k->stop)) {
        k->again = false;
        pthread_mutex_unlock(&k->lock);
        int64_t next_ns = probe_due(k);
        pthread_mutex_lock(&k->lock);
        int64_t at_ns = mend_all(k);
        next_ns = at_ns < next_ns ? at_ns : next_ns;
        const struct timespec until = {.tv_sec = next_ns / 1000000000,
                                       .tv_nsec = next_ns % 1000000000};
        for (int e = 0; !k->again && !atomic_load(&k->stop) && e != ETIMEDOUT;)
            e = next_ns == INT64_MAX ? pthread_cond_wait(&k->changed, &k->lock)
                                     : pthread_cond_timedwait(&k->changed, &k->lock, &until);
    }
    pthread_mutex_unlock(&k->lock);
    return NULL;
}

static void wake(void *user)
{
    kaena_keeper *k = user;
    pthread_mutex_lock(&k->lock);
    k->again = true;
    pthread_cond_broadcast(&k->changed);
    pthread_mutex_unlock(&k->lock);
}

static kaena_status create(kaena_client *client, kaena_keeper **out, kaena_err *err)
{
    kaena_keeper *k = calloc(1, sizeof *k);
    if (!k)
        return KAENA_FAIL(err, RESOURCE_EXHAUSTED, "out of memory");
    k->client = client;
    pthread_mutex_init(&k->lock, NULL);
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&k->changed, &monotonic);
    pthread_condattr_destroy(&monotonic);
    /* Signals are the application's business. */
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int e = pthread_create(&k->thread, NULL, keeper_main, k);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (e == 0) {
        *out = k;
        return KAENA_OK;
    }
    pthread_cond_destroy(&k->changed);
    pthread_mutex_destroy(&k->lock);
    free(k);
    return KAENA_FAIL(err, RESOURCE_EXHAUSTED, "no thread for the client: %s", strerror(e));
}

kaena_status kaena_keeper_start(kaena_client *client, kaena_err *err)
{
    kaena_status status = KAENA_OK;
    pthread_mutex_lock(&client->lock);
    kaena_keeper *k = NULL;
    if (!client->keeper)
        status = create(client, &k, err);
    if (k) {
        client->keeper = k;
        kaena_router_watch(&client->router, wake, k);
    }
    pthread_mutex_unlock(&client->lock);
    return status;
}

void kaena_keeper_stop(kaena_client *client)
{
    kaena_keeper *k = client->keeper;
    if (!k)
        return;
    atomic_store(&k->stop, true);
    wake(k);
    pthread_join(k->thread, NULL);
    kaena_router_watch(&client->router, NULL, NULL);
    pthread_cond_destroy(&k->changed);
    pthread_mutex_destroy(&k->lock);
    free(k);
    client->keeper = NULL;
}

void kaena_keeper_add(kaena_client *client, kaena_kept *kept)
{
    kaena_keeper *k = client->keeper;
    pthread_mutex_lock(&k->lock);
    kept->next = k->first;
    k->first = kept;
    pthread_mutex_unlock(&k->lock);
    wake(k);
}

void kaena_keeper_remove(kaena_client *client, kaena_kept *kept)
{
    kaena_keeper *k = client->keeper;
    pthread_mutex_lock(&k->lock);
    for (kaena_kept **at = &k->first; *at; at = &(*at)->next)
        if (*at == kept) {
            *at = kept->next;
            break;
        }
    while (k->current == kept)
        pthread_cond_wait(&k->changed, &k->lock);
    pthread_mutex_unlock(&k->lock);
}

const atomic_bool *kaena_keeper_stopping(const kaena_client *client)
{
    return client->keeper ? &client->keeper->stop : NULL;
}
