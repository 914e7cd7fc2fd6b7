/* Races libkaena's routing, replicas and requests against each other, over daemons that are a few
 * lines of this file: they die and come back while threads make calls, submit, cancel and release.
 * No call may fail but by cancellation, and each ends once. */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "client_async.h"
#include "client_pool.h"
#include "client_replicas.h"

#define DAEMONS 3
#define CALLERS 3
#define CALLS 1500
#define SUBMITTERS 2
#define REQUESTS 1500
#define WINDOW 16
#define FLIGHTS 256
#define SHARERS 3
#define BLOCKS 300
#define POOL_BYTES (UINT64_C(24) << 20)
#define FAR_NS (INT64_C(600) * 1000000000)

static kaena_router router;
static kaena_replicas replicas;
static atomic_int alive[DAEMONS]; /* the number of its life; 0 = dead */
static atomic_int holds[DAEMONS]; /* the life in which it got the model */
static atomic_bool over;
static atomic_int deaths, answered, cancelled;

static void check(bool good, const char *what)
{
    if (good)
        return;
    fprintf(stderr, "stress_client: %s\n", what);
    abort();
}

/* ---- Daemons ---- */

static bool has_model(size_t daemon)
{
    int life = atomic_load(&alive[daemon]);
    return life && atomic_load(&holds[daemon]) == life;
}

static kaena_status absent(kaena_outcome *outcome, kaena_err *err)
{
    *outcome = KAENA_OUTCOME_ABSENT;
    return KAENA_FAIL(err, UNAVAILABLE, "nobody there");
}

static kaena_status find(void *user, size_t daemon, kaena_outcome *outcome, kaena_err *err)
{
    (void)user;
    if (!atomic_load(&alive[daemon]))
        return absent(outcome, err);
    *outcome = KAENA_OUTCOME_MISSING;
    return has_model(daemon) ? KAENA_OK : KAENA_FAIL(err, NOT_FOUND, "no model");
}

static kaena_status load(void *user, size_t daemon, kaena_outcome *outcome, kaena_err *err)
{
    (void)user;
    int life = atomic_load(&alive[daemon]);
    if (!life)
        return absent(outcome, err);
    atomic_store(&holds[daemon], life);
    return KAENA_OK;
}

static void unload(void *user, size_t daemon)
{
    (void)user;
    atomic_store(&holds[daemon], 0);
}

/* One request at a daemon, which may die while it runs. */
static kaena_status serve(size_t daemon, int life_before, kaena_outcome *outcome, kaena_err *err)
{
    int life = atomic_load(&alive[daemon]);
    if (!life_before)
        return absent(outcome, err);
    if (life != life_before) {
        *outcome = KAENA_OUTCOME_LOST;
        return KAENA_FAIL(err, UNAVAILABLE, "it died");
    }
    *outcome = KAENA_OUTCOME_MISSING;
    if (!has_model(daemon))
        return KAENA_FAIL(err, NOT_FOUND, "no model");
    kaena_router_waited(&router, daemon, 1000, kaena_now_ns());
    return KAENA_OK;
}

/* ---- The thread of requests ---- */

typedef struct flight {
    kaena_request *request;
    size_t daemon;
    int life;
} flight;

static kaena_async *async;
static flight flights[FLIGHTS]; /* the carrier's thread's */
static size_t flight_count;

static kaena_status take_off(void *self, kaena_request *request, size_t daemon,
                             kaena_outcome *outcome, kaena_err *err)
{
    (void)self;
    check(flight_count < FLIGHTS, "more are under way than the window allows");
    flights[flight_count++] = (flight){request, daemon, atomic_load(&alive[daemon])};
    request->flight = &flights[flight_count - 1];
    (void)outcome;
    (void)err;
    return KAENA_OK;
}

static void recall(void *self, kaena_request *request)
{
    (void)self;
    (void)request; /* it is served anyway */
}

static void unload_request(void *self, kaena_request *request)
{
    (void)self;
    (void)request;
}

static void wake(void *self)
{
    (void)self; /* the thread never sleeps long */
}

static const kaena_carrier carrier = {take_off, recall, unload_request, wake};

static void *carry(void *user)
{
    unsigned seed = 7;
    (void)user;
    while (!atomic_load(&over)) {
        (void)kaena_async_turn(async);
        if (flight_count == 0) {
            usleep(50);
            continue;
        }
        size_t i = (size_t)rand_r(&seed) % flight_count;
        flight f = flights[i];
        flights[i] = flights[--flight_count];
        kaena_err err;
        kaena_err_init(&err);
        kaena_outcome outcome = KAENA_OUTCOME_FINAL;
        kaena_async_landed(f.request);
        kaena_status status = serve(f.daemon, f.life, &outcome, &err);
        kaena_async_ended(f.request, status, outcome, &err);
    }
    return NULL;
}

/* ---- Who keeps, who kills ---- */

static void *keep(void *user)
{
    (void)user;
    while (!atomic_load(&over)) {
        for (size_t i = 0; i < DAEMONS; i++)
            if (!kaena_router_is_up(&router, i) && atomic_load(&alive[i]))
                kaena_router_up(&router, i);
        (void)kaena_replicas_mend(&replicas);
        usleep(200);
    }
    return NULL;
}

static void *kill_daemons(void *user)
{
    (void)user;
    for (size_t turn = 0; !atomic_load(&over); turn++) {
        size_t victim = turn % DAEMONS;
        /* One at a time, so that there is always another. */
        while (!atomic_load(&over) && kaena_replicas_count(&replicas) < DAEMONS)
            usleep(200);
        usleep(1000);
        int life = atomic_exchange(&alive[victim], 0);
        atomic_fetch_add(&deaths, 1);
        usleep(1000);
        atomic_store(&alive[victim], life + 1);
        /* Somebody has to ask it before it counts as dead. */
        for (int i = 0; i < 50 && kaena_places_has(&replicas.places, &router, victim); i++)
            usleep(200);
    }
    return NULL;
}

/* ---- Who calls ---- */

/* A call that two deaths interrupted may fail: it is repeated once. */
static bool died_twice(int deaths_before)
{
    return atomic_load(&deaths) >= deaths_before + 2;
}

static kaena_status attempt(void *user, size_t daemon, int64_t deadline_ns, kaena_outcome *outcome,
                            kaena_err *err)
{
    (void)user;
    (void)deadline_ns;
    int life = atomic_load(&alive[daemon]);
    usleep(10);
    return serve(daemon, life, outcome, err);
}

static void *call(void *user)
{
    (void)user;
    for (int i = 0; i < CALLS; i++) {
        const kaena_route_options options = {
            .places = &replicas.places, .deadline_ns = kaena_now_ns() + FAR_NS, .may_repeat = true};
        kaena_route route;
        kaena_err err;
        kaena_route_init(&route, &router, &options);
        int before = atomic_load(&deaths);
        kaena_status status = kaena_route_run(&route, attempt, NULL, &err);
        check(status == KAENA_OK || died_twice(before), err.what);
        atomic_fetch_add(&answered, 1);
    }
    return NULL;
}

static atomic_int outstanding;

/* Of one request. */
typedef struct ending {
    atomic_int times;
    int deaths; /* before it */
} ending;

static void on_done(void *user, kaena_request *request)
{
    kaena_err err;
    kaena_status status = kaena_request_status(request, &err);
    ending *e = user;
    check(status == KAENA_OK || status == KAENA_CANCELLED || died_twice(e->deaths), err.what);
    atomic_fetch_add(status == KAENA_CANCELLED ? &cancelled : &answered, 1);
    check(atomic_fetch_add(&e->times, 1) == 0, "a request ended twice");
    atomic_fetch_sub(&outstanding, 1);
}

typedef struct submitter {
    pthread_t thread;
    kaena_lane *lane;
    unsigned seed;
    ending ends[REQUESTS];
} submitter;

static void *submit(void *user)
{
    submitter *s = user;
    for (int i = 0; i < REQUESTS; i++) {
        kaena_request *request = NULL;
        int how = rand_r(&s->seed) % 3;
        atomic_fetch_add(&outstanding, 1);
        s->ends[i].deaths = atomic_load(&deaths);
        kaena_status status = kaena_async_submit(s->lane, NULL, kaena_now_ns() + FAR_NS, on_done,
                                                 &s->ends[i], how ? &request : NULL, NULL);
        check(status == KAENA_OK, "nothing was submitted");
        if (how == 1)
            (void)kaena_request_wait(request, -1);
        else if (how == 2)
            kaena_request_cancel(request);
        kaena_request_release(request);
    }
    return NULL;
}

/* ---- Who shares memory ---- */

static kaena_pool *pool;

static bool usable(void *user, size_t daemon)
{
    (void)user;
    return atomic_load(&alive[daemon]) != 0;
}

static uint64_t epoch(void *user, size_t daemon)
{
    (void)user;
    return (uint64_t)atomic_load(&alive[daemon]);
}

static kaena_status map(void *user, size_t daemon, const char *name, uint64_t size,
                        uint64_t *out_region, uint64_t *out_epoch, kaena_err *err)
{
    static atomic_ullong next;
    (void)name;
    (void)size;
    *out_epoch = epoch(user, daemon);
    if (*out_epoch == 0)
        return KAENA_FAIL(err, UNAVAILABLE, "it died");
    *out_region = atomic_fetch_add(&next, 1) + 1;
    return KAENA_OK;
}

static void unmap(void *user, size_t daemon, uint64_t region, uint64_t in_epoch)
{
    (void)user;
    (void)daemon;
    (void)region;
    (void)in_epoch;
}

static void say(void *user, const char *text)
{
    (void)user;
    (void)text;
}

static void *use_memory(void *user)
{
    unsigned seed = (unsigned)(uintptr_t)user;
    for (int i = 0; i < BLOCKS; i++) {
        size_t bytes = KAENA_POOL_LEAST_BYTES + (size_t)rand_r(&seed) % (2u << 20);
        kaena_memory *m = kaena_pool_take(pool, bytes, true);
        if (!m)
            continue;
        check(kaena_memory_bytes(m) >= bytes, "a block is too small");
        int *first = kaena_memory_data(m), mark = rand_r(&seed);
        int *last = first + bytes / sizeof *first - 1;
        *first = *last = mark;
        kaena_wire_range range;
        for (size_t d = 0; d < DAEMONS; d++)
            if (kaena_memory_range(m, d, first, bytes, &range))
                check(range.region != 0 && range.size == bytes, "a range is wrong");
        check(*first == mark && *last == mark, "two have one block");
        kaena_pool_give(m, rand_r(&seed) % 50 == 0);
    }
    return NULL;
}

int main(void)
{
    static const kaena_pool_ops memory = {usable, epoch, map, unmap, say};
    pthread_t using[SHARERS];
    static const kaena_replica_ops ops = {find, load, unload};
    static submitter submitters[SUBMITTERS];
    pthread_t carrying, keeping, killing, calling[CALLERS];
    kaena_lane lane;
    for (size_t i = 0; i < DAEMONS; i++)
        atomic_store(&alive[i], 1);
    check(kaena_router_init(&router, DAEMONS, NULL) == KAENA_OK, "no memory");
    check(kaena_replicas_init(&replicas, &router, DAEMONS, "m", &ops, NULL, NULL) == KAENA_OK,
          "no memory");
    replicas.places.window = WINDOW;
    (void)kaena_replicas_mend(&replicas);
    async = kaena_async_create(&router, &carrier, NULL);
    kaena_lane_init(&lane, async, &replicas.places);
    pthread_create(&carrying, NULL, carry, NULL);
    pthread_create(&keeping, NULL, keep, NULL);
    pthread_create(&killing, NULL, kill_daemons, NULL);
    pool = kaena_pool_create(DAEMONS, POOL_BYTES, &memory, NULL);
    for (size_t i = 0; i < SHARERS; i++)
        pthread_create(&using[i], NULL, use_memory, (void *)(i + 1));
    for (size_t i = 0; i < CALLERS; i++)
        pthread_create(&calling[i], NULL, call, NULL);
    for (size_t i = 0; i < SUBMITTERS; i++) {
        submitters[i].lane = &lane;
        submitters[i].seed = (unsigned)i + 1;
        pthread_create(&submitters[i].thread, NULL, submit, &submitters[i]);
    }
    for (size_t i = 0; i < CALLERS; i++)
        pthread_join(calling[i], NULL);
    for (size_t i = 0; i < SUBMITTERS; i++)
        pthread_join(submitters[i].thread, NULL);
    for (size_t i = 0; i < SHARERS; i++)
        pthread_join(using[i], NULL);
    check(kaena_pool_bytes(pool) <= POOL_BYTES, "the pool is larger than it may be");
    kaena_pool_close(pool);
    kaena_lane_close(&lane);
    check(atomic_load(&outstanding) == 0, "requests are left");
    atomic_store(&over, true);
    pthread_join(carrying, NULL);
    pthread_join(keeping, NULL);
    pthread_join(killing, NULL);
    for (size_t i = 0; i < DAEMONS; i++)
        check(atomic_load(&router.daemons[i].in_flight) == 0, "a call is still counted");
    kaena_async_unref(async);
    kaena_replicas_close(&replicas, true);
    kaena_replicas_fini(&replicas);
    kaena_router_fini(&router);
    printf("%d answered, %d cancelled, %d deaths\n", atomic_load(&answered),
           atomic_load(&cancelled), atomic_load(&deaths));
    check(atomic_load(&answered) + atomic_load(&cancelled) ==
              CALLERS * CALLS + SUBMITTERS * REQUESTS,
          "calls are missing");
    check(atomic_load(&deaths) > 0, "nobody died");
    return 0;
}
