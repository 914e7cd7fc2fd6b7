#include "client_router.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define MS INT64_C(1000000)
#define PAUSE_MIN_NS (10 * MS)
#define PAUSE_MAX_NS (200 * MS)
/* With replicas somebody looks after the daemons meanwhile; what they find is to be used soon. */
#define PAUSE_MAX_PLACES_NS (20 * MS)
#define ASK_MIN_NS (50 * MS)
#define ASK_MAX_NS (2000 * MS)
/* What any request costs a daemon, beside waiting. */
#define BASE_NS (500 * 1000)
/* Without news, half of what was known of a queue is forgotten in so long. */
#define FORGET_NS (20 * MS)

int64_t kaena_now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

void kaena_sleep_until(int64_t ns)
{
    const struct timespec t = {.tv_sec = ns / 1000000000, .tv_nsec = ns % 1000000000};
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL) == EINTR)
        ;
}

/* ---- Daemons ---- */

kaena_status kaena_router_init(kaena_router *router, size_t count, kaena_err *err)
{
    kaena_daemon *daemons = calloc(count, sizeof *daemons);
    if (!daemons)
        return KAENA_FAIL(err, RESOURCE_EXHAUSTED, "out of memory");
    *router = (kaena_router){.daemons = daemons, .count = count};
    pthread_mutex_init(&router->lock, NULL);
    for (size_t i = 0; i < count; i++)
        atomic_init(&daemons[i].generation, 1);
    return KAENA_OK;
}

void kaena_router_fini(kaena_router *router)
{
    pthread_mutex_destroy(&router->lock);
    free(router->daemons);
    router->daemons = NULL;
}

void kaena_router_watch(kaena_router *router, void (*changed)(void *user), void *user)
{
    pthread_mutex_lock(&router->lock);
    router->changed = changed;
    router->user = user;
    pthread_mutex_unlock(&router->lock);
}

static void tell(kaena_router *router)
{
    pthread_mutex_lock(&router->lock);
    if (router->changed)
        router->changed(router->user);
    pthread_mutex_unlock(&router->lock);
}

bool kaena_router_is_up(const kaena_router *router, size_t daemon)
{
    return atomic_load(&router->daemons[daemon].state) == KAENA_DAEMON_UP;
}

void kaena_router_up(kaena_router *router, size_t daemon)
{
    kaena_daemon *d = &router->daemons[daemon];
    atomic_store(&d->failures, 0);
    atomic_store(&d->state, KAENA_DAEMON_UP);
}

void kaena_router_gone(kaena_router *router, size_t daemon, kaena_daemon_state state,
                       int64_t now_ns)
{
    kaena_daemon *d = &router->daemons[daemon];
    unsigned failures = atomic_fetch_add(&d->failures, 1);
    int64_t pause = failures < 6 ? ASK_MIN_NS << failures : ASK_MAX_NS;
    atomic_store(&d->ask_at_ns, now_ns + (pause < ASK_MAX_NS ? pause : ASK_MAX_NS));
    if (atomic_exchange(&d->state, (int)state) == KAENA_DAEMON_UP) {
        atomic_fetch_add(&d->generation, 1);
        tell(router);
    }
}

static int64_t queue_now(const kaena_daemon *d, int64_t now_ns)
{
    int64_t age = now_ns - atomic_load(&d->queue_at_ns);
    int64_t halves = age > 0 ? age / FORGET_NS : 0;
    return halves < 40 ? atomic_load(&d->queue_ns) >> halves : 0;
}

void kaena_router_waited(kaena_router *router, size_t daemon, int64_t queue_ns, int64_t now_ns)
{
    /* Threads that do this at once overwrite each other: it is an estimate. */
    kaena_daemon *d = &router->daemons[daemon];
    int64_t before = queue_now(d, now_ns);
    atomic_store(&d->queue_ns, before + (queue_ns - before) / 4);
    atomic_store(&d->queue_at_ns, now_ns);
}

uint64_t kaena_router_cost(const kaena_router *router, size_t daemon, int64_t now_ns)
{
    const kaena_daemon *d = &router->daemons[daemon];
    int in_flight = atomic_load(&d->in_flight);
    int64_t queue = queue_now(d, now_ns);
    return (uint64_t)(in_flight < 0 ? 1 : in_flight + 1) *
           (uint64_t)(BASE_NS + (queue > 0 ? queue : 0));
}

bool kaena_places_has(const kaena_places *places, const kaena_router *router, size_t daemon)
{
    return atomic_load(&places->ready[daemon]) == atomic_load(&router->daemons[daemon].generation);
}

/* Daemons that have the model and are UP. */
static size_t places_count(const kaena_places *places, const kaena_router *router)
{
    size_t n = 0;
    for (size_t i = 0; i < router->count; i++)
        n += kaena_places_has(places, router, i);
    return n;
}

/* ---- One call ---- */

void kaena_route_init(kaena_route *route, kaena_router *router, const kaena_route_options *options)
{
    *route = (kaena_route){.router = router, .options = *options, .pause_ns = PAUSE_MIN_NS};
    kaena_err_init(&route->best);
}

static bool was_tried(const kaena_route *route, size_t daemon)
{
    return route->tried[daemon / 64] >> daemon % 64 & 1;
}

/* The daemon to try now, or -1. Those that are UP come first; one that is not is asked when it is
 * time, or when there is no other. */
static ptrdiff_t choose(kaena_route *route, int64_t now_ns)
{
    kaena_router *router = route->router;
    kaena_places *places = route->options.places;
    size_t first = places ? atomic_fetch_add(&router->turn, 1) : atomic_load(&router->preferred);
    ptrdiff_t best = -1, other = -1;
    route->blocked = false;
    uint64_t best_cost = UINT64_MAX;
    for (size_t i = 0; i < router->count; i++) {
        size_t d = (first + i) % router->count;
        bool up = kaena_router_is_up(router, d);
        if (places && !kaena_places_has(places, router, d))
            continue;
        route->round_up = route->round_up || up;
        if (was_tried(route, d))
            continue;
        if (route->options.windowed && atomic_load(&places->windowed[d]) >= places->window) {
            route->blocked = true;
            continue;
        }
        if (!up) {
            other = other < 0 ? (ptrdiff_t)d : other;
            continue;
        }
        uint64_t cost = places ? kaena_router_cost(router, d, now_ns) : 0;
        if (cost < best_cost) {
            best = (ptrdiff_t)d;
            best_cost = cost;
        }
    }
    if (best >= 0 || other < 0)
        return best;
    /* |other| is the first of them: with a daemon UP, only one whose time has come is asked. */
    for (size_t i = 0; i < router->count && route->round_up; i++) {
        size_t d = (first + i) % router->count;
        if (!was_tried(route, d) && !kaena_router_is_up(router, d) && !places &&
            atomic_load(&router->daemons[d].ask_at_ns) <= now_ns)
            return (ptrdiff_t)d;
    }
    return route->round_up ? -1 : other;
}

/* Every daemon that may be tried has been: wait and begin anew, or give up. */
static bool gives_up(const kaena_route *route, int64_t now_ns)
{
    const kaena_route_options *o = &route->options;
    if (now_ns + route->pause_ns >= o->deadline_ns)
        return true;
    /* A full queue is the answer only where it is that of all daemons that should have the model:
     * those that are missing may take the load soon. */
    bool complete = !o->places || places_count(o->places, route->router) >= o->places->wanted;
    if (route->round_refused)
        return complete && !o->patient;
    return o->fail_fast && !route->round_lost && !(o->patient && route->round_up);
}

kaena_step kaena_route_next(kaena_route *route, int64_t now_ns, size_t *out_daemon,
                            int64_t *out_until_ns)
{
    if (route->ended)
        return KAENA_STEP_END;
    ptrdiff_t d = choose(route, now_ns);
    if (d >= 0) {
        route->tried[d / 64] |= UINT64_C(1) << d % 64;
        route->generation = atomic_load(&route->router->daemons[d].generation);
        atomic_fetch_add(&route->router->daemons[d].in_flight, 1);
        if (route->options.windowed)
            atomic_fetch_add(&route->options.places->windowed[d], 1);
        *out_daemon = (size_t)d;
        return KAENA_STEP_TRY;
    }
    if (route->blocked)
        return KAENA_STEP_BLOCKED;
    route->ended = gives_up(route, now_ns);
    if (route->ended)
        return KAENA_STEP_END;
    *out_until_ns = now_ns + route->pause_ns;
    int64_t most = route->options.places ? PAUSE_MAX_PLACES_NS : PAUSE_MAX_NS;
    route->pause_ns = route->pause_ns * 2 < most ? route->pause_ns * 2 : most;
    memset(route->tried, 0, sizeof route->tried);
    route->round_up = route->round_refused = route->round_lost = false;
    return KAENA_STEP_WAIT;
}

/* Which failure is told: a refusal before a daemon that could not be reached, a daemon that has the
 * model and is full before one that has no such model. */
static int weight(kaena_outcome outcome)
{
    switch (outcome) {
    case KAENA_OUTCOME_FINAL:
        return 5;
    case KAENA_OUTCOME_REFUSED:
        return 4;
    case KAENA_OUTCOME_MISSING:
        return 3;
    case KAENA_OUTCOME_LATER:
    case KAENA_OUTCOME_DRAINING:
        return 2;
    case KAENA_OUTCOME_LOST:
    case KAENA_OUTCOME_ABSENT:
        break;
    }
    return 1;
}

static void remember(kaena_route *route, const kaena_err *failure, kaena_outcome outcome)
{
    if (weight(outcome) > route->told) {
        char before[sizeof route->best.hint];
        (void)snprintf(before, sizeof before, "%.200s", route->best.what);
        const bool had = route->failed;
        route->best = *failure;
        if (had && failure->code == KAENA_DEADLINE_EXCEEDED && !failure->hint[0])
            kaena_err_hint(&route->best, "the attempt before it: %s", before);
        route->told = weight(outcome);
    }
    route->failed = true;
}

void kaena_route_report(kaena_route *route, size_t daemon, kaena_status status,
                        kaena_outcome outcome, const kaena_err *failure, int64_t now_ns)
{
    kaena_router *router = route->router;
    atomic_fetch_sub(&router->daemons[daemon].in_flight, 1);
    if (route->options.windowed)
        atomic_fetch_sub(&route->options.places->windowed[daemon], 1);
    if (status == KAENA_OK) {
        /* A call from before the daemon began to drain says nothing about now. */
        if (route->generation == atomic_load(&router->daemons[daemon].generation))
            kaena_router_up(router, daemon);
        atomic_store(&router->preferred, daemon);
        route->ended = true;
        return;
    }
    switch (outcome) {
    case KAENA_OUTCOME_FINAL:
        route->ended = true;
        break;
    case KAENA_OUTCOME_MISSING:
        if (route->options.places) {
            unsigned there = route->generation;
            (void)atomic_compare_exchange_strong(&route->options.places->ready[daemon], &there, 0);
            tell(router);
            break;
        }
        route->round_refused = true;
        break;
    case KAENA_OUTCOME_REFUSED:
        route->round_refused = true;
        break;
    case KAENA_OUTCOME_LATER:
        break;
    case KAENA_OUTCOME_DRAINING:
        kaena_router_gone(router, daemon, KAENA_DAEMON_DRAINING, now_ns);
        break;
    case KAENA_OUTCOME_ABSENT:
        kaena_router_gone(router, daemon, KAENA_DAEMON_DOWN, now_ns);
        break;
    case KAENA_OUTCOME_LOST:
        kaena_router_gone(router, daemon, KAENA_DAEMON_DOWN, now_ns);
        route->ended = !route->options.may_repeat || route->lost;
        route->lost = route->round_lost = true;
        route->breakup = *failure;
        break;
    }
    remember(route, failure, outcome);
}

kaena_status kaena_route_error(const kaena_route *route, kaena_err *err)
{
    /* The connection that broke says more than that there is no other daemon. */
    const bool broke = route->lost && route->told <= weight(KAENA_OUTCOME_DRAINING);
    if (!route->failed) {
        (void)KAENA_FAIL(err, UNAVAILABLE, "no daemon that can be reached has the model '%s'",
                         route->options.places ? route->options.places->model : "");
        kaena_err_hint(err, "it is loaded again as soon as there is one: is krtd running?");
        return KAENA_UNAVAILABLE;
    }
    const kaena_err *told = broke ? &route->breakup : &route->best;
    if (err)
        *err = *told;
    return (kaena_status)told->code;
}

kaena_status kaena_route_run(kaena_route *route, kaena_route_attempt attempt, void *user,
                             kaena_err *err)
{
    for (;;) {
        size_t daemon = 0;
        int64_t until_ns = 0;
        switch (kaena_route_next(route, kaena_now_ns(), &daemon, &until_ns)) {
        case KAENA_STEP_END:
            return kaena_route_error(route, err);
        case KAENA_STEP_BLOCKED: /* calls of a thread have no window */
        case KAENA_STEP_WAIT:
            kaena_sleep_until(until_ns);
            break;
        case KAENA_STEP_TRY: {
            kaena_err failure;
            kaena_err_init(&failure);
            kaena_outcome outcome = KAENA_OUTCOME_FINAL;
            kaena_status status =
                attempt(user, daemon, route->options.deadline_ns, &outcome, &failure);
            kaena_route_report(route, daemon, status, outcome, &failure, kaena_now_ns());
            if (status == KAENA_OK)
                return KAENA_OK;
        }
        }
    }
}
