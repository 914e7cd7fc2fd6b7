#include "client_replicas.h"

#include <stdlib.h>
#include <string.h>

#define MS INT64_C(1000000)
#define AGAIN_MIN_NS (50 * MS)
#define AGAIN_MAX_NS (5000 * MS)

kaena_status kaena_replicas_init(kaena_replicas *r, kaena_router *router, uint32_t wanted,
                                 const char *model, const kaena_replica_ops *ops, void *user,
                                 kaena_err *err)
{
    atomic_uint *ready = calloc(2 * router->count, sizeof *ready);
    kaena_slot *slots = calloc(router->count, sizeof *slots);
    if (!ready || !slots) {
        free(ready);
        free(slots);
        return KAENA_FAIL(err, RESOURCE_EXHAUSTED, "out of memory");
    }
    if (wanted > router->count)
        wanted = (uint32_t)router->count;
    *r = (kaena_replicas){.router = router,
                          .places = {.ready = ready,
                                     .wanted = wanted,
                                     .model = model,
                                     .windowed = ready + router->count,
                                     .window = 1},
                          .wanted = wanted,
                          .slots = slots,
                          .ops = ops,
                          .user = user};
    pthread_mutex_init(&r->lock, NULL);
    return KAENA_OK;
}

void kaena_replicas_fini(kaena_replicas *r)
{
    pthread_mutex_destroy(&r->lock);
    free(r->places.ready);
    free(r->slots);
}

size_t kaena_replicas_count(const kaena_replicas *r)
{
    size_t n = 0;
    for (size_t i = 0; i < r->router->count; i++)
        n += kaena_places_has(&r->places, r->router, i) && kaena_router_is_up(r->router, i);
    return n;
}

/* Where to bring it now, or -1; |*next_ns| gets the earliest time at which there is more. */
static ptrdiff_t choose(const kaena_replicas *r, int64_t now_ns, int64_t *next_ns)
{
    ptrdiff_t fresh = -1;
    *next_ns = INT64_MAX;
    for (size_t i = 0; i < r->router->count; i++) {
        const kaena_slot *slot = &r->slots[i];
        if (!kaena_router_is_up(r->router, i) || kaena_places_has(&r->places, r->router, i))
            continue;
        if (slot->again_ns > now_ns)
            *next_ns = slot->again_ns < *next_ns ? slot->again_ns : *next_ns;
        else if (slot->held)
            return (ptrdiff_t)i;
        else if (fresh < 0)
            fresh = (ptrdiff_t)i;
    }
    return fresh;
}

static void bring(kaena_replicas *r, size_t daemon)
{
    kaena_slot *slot = &r->slots[daemon];
    kaena_err failure;
    kaena_err_init(&failure);
    kaena_outcome outcome = KAENA_OUTCOME_FINAL;
    /* From before: what happens to the daemon meanwhile makes the answer worthless. */
    unsigned generation = atomic_load(&r->router->daemons[daemon].generation);
    kaena_status status = KAENA_NOT_FOUND;
    if (slot->held || r->look_first)
        status = r->ops->find(r->user, daemon, &outcome, &failure);
    else
        outcome = KAENA_OUTCOME_MISSING;
    if (status != KAENA_OK && outcome == KAENA_OUTCOME_MISSING) {
        kaena_err_init(&failure);
        outcome = KAENA_OUTCOME_FINAL;
        status = r->ops->load(r->user, daemon, &outcome, &failure);
        slot->ours = status == KAENA_OK;
        slot->held = slot->held || outcome == KAENA_OUTCOME_LOST;
    }
    int64_t now_ns = kaena_now_ns();
    if (status == KAENA_OK) {
        slot->held = true;
        slot->failures = 0;
        slot->again_ns = 0;
        atomic_store(&r->places.ready[daemon], generation);
    } else {
        int64_t pause = slot->failures < 8 ? AGAIN_MIN_NS << slot->failures : AGAIN_MAX_NS;
        slot->failures++;
        slot->again_ns = now_ns + (pause < AGAIN_MAX_NS ? pause : AGAIN_MAX_NS);
        if (outcome == KAENA_OUTCOME_DRAINING)
            kaena_router_gone(r->router, daemon, KAENA_DAEMON_DRAINING, now_ns);
        else if (outcome == KAENA_OUTCOME_ABSENT || outcome == KAENA_OUTCOME_LOST)
            kaena_router_gone(r->router, daemon, KAENA_DAEMON_DOWN, now_ns);
    }
    slot->failure = failure;
}

int64_t kaena_replicas_mend(kaena_replicas *r)
{
    int64_t next_ns = INT64_MAX;
    for (bool more = true; more;) {
        /* Let go of in between: who closes need not wait for all. */
        pthread_mutex_lock(&r->lock);
        ptrdiff_t daemon = -1;
        if (r->closed || kaena_replicas_count(r) >= r->wanted)
            next_ns = INT64_MAX;
        else
            daemon = choose(r, kaena_now_ns(), &next_ns);
        more = daemon >= 0;
        if (more)
            bring(r, (size_t)daemon);
        pthread_mutex_unlock(&r->lock);
    }
    return next_ns;
}

kaena_status kaena_replicas_failure(kaena_replicas *r, kaena_err *err)
{
    const kaena_err *told = NULL;
    kaena_status status = KAENA_OK;
    pthread_mutex_lock(&r->lock);
    for (size_t i = 0; i < r->router->count; i++) {
        const kaena_err *failure = &r->slots[i].failure;
        /* What a daemon says before that there is none. */
        if (failure->code != KAENA_OK && (!told || told->code == KAENA_UNAVAILABLE))
            told = failure;
    }
    if (told) {
        status = (kaena_status)told->code;
        if (err)
            *err = *told;
    }
    pthread_mutex_unlock(&r->lock);
    return status;
}

void kaena_replicas_close(kaena_replicas *r, bool unload)
{
    pthread_mutex_lock(&r->lock);
    r->closed = true;
    for (size_t i = 0; i < r->router->count; i++)
        if (atomic_exchange(&r->places.ready[i], 0) != 0 && unload && r->slots[i].ours &&
            kaena_router_is_up(r->router, i))
            r->ops->unload(r->user, i);
    pthread_mutex_unlock(&r->lock);
}
