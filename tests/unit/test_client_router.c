/* The way of a call over daemons, and replicas, with daemons that are a few lines of this file. */
#include <string.h>

#include "client_replicas.h"
#include "client_router.h"
#include "ktest.h"

#define MS INT64_C(1000000)
#define DAEMONS 3

static kaena_router router;

static void start(void)
{
    kaena_err err;
    KTEST_OK(err, kaena_router_init(&router, DAEMONS, &err));
}

static kaena_route begin(kaena_places *places, int64_t deadline_ns, bool fail_fast)
{
    kaena_route route;
    const kaena_route_options options = {
        .places = places, .deadline_ns = deadline_ns, .may_repeat = true, .fail_fast = fail_fast};
    kaena_route_init(&route, &router, &options);
    return route;
}

/* The next step is a try; gives the daemon. */
static size_t tries(kaena_route *route, int64_t now_ns)
{
    size_t daemon = 99;
    int64_t until_ns = 0;
    cr_assert(kaena_route_next(route, now_ns, &daemon, &until_ns) == KAENA_STEP_TRY);
    return daemon;
}

static int64_t waits(kaena_route *route, int64_t now_ns)
{
    size_t daemon;
    int64_t until_ns = 0;
    kaena_step step = kaena_route_next(route, now_ns, &daemon, &until_ns);
    cr_assert(step == KAENA_STEP_WAIT, "%d", (int)step);
    cr_assert(until_ns > now_ns);
    return until_ns;
}

static void ends(kaena_route *route, int64_t now_ns, kaena_status status, const char *text)
{
    size_t daemon;
    int64_t until_ns;
    kaena_err err;
    kaena_step step = kaena_route_next(route, now_ns, &daemon, &until_ns);
    cr_assert(step == KAENA_STEP_END, "%d", (int)step);
    cr_assert(kaena_route_error(route, &err) == status, "%s", err.what);
    cr_assert(strstr(err.what, text), "'%s' lacks '%s'", err.what, text);
}

static void fails(kaena_route *route, size_t daemon, kaena_outcome outcome, kaena_status code,
                  const char *text, int64_t now_ns)
{
    kaena_err failure;
    (void)kaena_err_set(&failure, code, "%s", text);
    kaena_route_report(route, daemon, code, outcome, &failure, now_ns);
}

KTEST(router, the_one_that_answered_last_is_asked_first)
{
    start();
    kaena_route route = begin(NULL, 1000 * MS, false);
    cr_assert(tries(&route, 0) == 0);
    fails(&route, 0, KAENA_OUTCOME_MISSING, KAENA_NOT_FOUND, "no model", 0);
    cr_assert(tries(&route, 0) == 1);
    kaena_route_report(&route, 1, KAENA_OK, KAENA_OUTCOME_FINAL, NULL, 0);
    route = begin(NULL, 1000 * MS, false);
    cr_assert(tries(&route, 0) == 1);
    kaena_route_report(&route, 1, KAENA_OK, KAENA_OUTCOME_FINAL, NULL, 0);
    for (size_t i = 0; i < DAEMONS; i++)
        cr_assert(atomic_load(&router.daemons[i].in_flight) == 0);
    kaena_router_fini(&router);
}

KTEST(router, refusals_by_all_are_an_answer_and_the_most_telling_is_told)
{
    start();
    kaena_route route = begin(NULL, 1000 * MS, false);
    static const kaena_outcome outcomes[] = {KAENA_OUTCOME_MISSING, KAENA_OUTCOME_REFUSED,
                                             KAENA_OUTCOME_ABSENT};
    static const kaena_status codes[] = {KAENA_NOT_FOUND, KAENA_RESOURCE_EXHAUSTED,
                                         KAENA_UNAVAILABLE};
    static const char *const texts[] = {"no model", "full", "nobody"};
    for (size_t i = 0; i < 3; i++) {
        cr_assert(tries(&route, 0) == i);
        fails(&route, i, outcomes[i], codes[i], texts[i], 0);
    }
    ends(&route, 0, KAENA_RESOURCE_EXHAUSTED, "full");
    kaena_router_fini(&router);
}

KTEST(router, a_call_is_repeated_once_after_it_may_have_run)
{
    start();
    kaena_route route = begin(NULL, 1000 * MS, false);
    cr_assert(tries(&route, 0) == 0);
    fails(&route, 0, KAENA_OUTCOME_LOST, KAENA_UNAVAILABLE, "broke at 0", 0);
    cr_assert(!kaena_router_is_up(&router, 0));
    cr_assert(tries(&route, 0) == 1);
    /* What is refused before it ran does not count. */
    fails(&route, 1, KAENA_OUTCOME_ABSENT, KAENA_UNAVAILABLE, "nobody", 0);
    cr_assert(tries(&route, 0) == 2);
    fails(&route, 2, KAENA_OUTCOME_LOST, KAENA_UNAVAILABLE, "broke at 2", 0);
    ends(&route, 0, KAENA_UNAVAILABLE, "broke at 2");
    kaena_router_fini(&router);
}

KTEST(router, nobody_is_waited_for_longer_than_the_deadline)
{
    start();
    kaena_route route = begin(NULL, 300 * MS, false);
    int64_t now_ns = 0;
    unsigned rounds = 0;
    for (;; rounds++) {
        size_t daemon;
        int64_t until_ns = now_ns;
        kaena_step step = kaena_route_next(&route, now_ns, &daemon, &until_ns);
        if (step == KAENA_STEP_END)
            break;
        if (step == KAENA_STEP_TRY)
            fails(&route, daemon, KAENA_OUTCOME_ABSENT, KAENA_UNAVAILABLE, "nobody", now_ns);
        now_ns = until_ns;
        cr_assert(now_ns < 300 * MS && rounds < 1000);
    }
    cr_assert(rounds > 2 * DAEMONS, "%u", rounds);
    ends(&route, now_ns, KAENA_UNAVAILABLE, "nobody");
    /* In a hurry, one round is enough. */
    route = begin(NULL, now_ns + 300 * MS, true);
    for (size_t i = 0; i < DAEMONS; i++)
        fails(&route, tries(&route, now_ns), KAENA_OUTCOME_ABSENT, KAENA_UNAVAILABLE, "x", now_ns);
    ends(&route, now_ns, KAENA_UNAVAILABLE, "x");
    kaena_router_fini(&router);
}

KTEST(router, a_daemon_that_is_away_is_not_asked_while_another_answers)
{
    start();
    kaena_router_gone(&router, 0, KAENA_DAEMON_DOWN, 0);
    kaena_route route = begin(NULL, 1000 * MS, false);
    cr_assert(tries(&route, 1) == 1);
    fails(&route, 1, KAENA_OUTCOME_MISSING, KAENA_NOT_FOUND, "no", 1);
    cr_assert(tries(&route, 1) == 2);
    fails(&route, 2, KAENA_OUTCOME_MISSING, KAENA_NOT_FOUND, "no", 1);
    ends(&route, 1, KAENA_NOT_FOUND, "no");
    /* When its time has come it is. */
    route = begin(NULL, 1000 * MS, false);
    int64_t later_ns = atomic_load(&router.daemons[0].ask_at_ns);
    fails(&route, tries(&route, later_ns), KAENA_OUTCOME_MISSING, KAENA_NOT_FOUND, "no", later_ns);
    fails(&route, tries(&route, later_ns), KAENA_OUTCOME_MISSING, KAENA_NOT_FOUND, "no", later_ns);
    cr_assert(tries(&route, later_ns) == 0);
    kaena_route_report(&route, 0, KAENA_OK, KAENA_OUTCOME_FINAL, NULL, later_ns);
    cr_assert(kaena_router_is_up(&router, 0));
    kaena_router_fini(&router);
}

KTEST(router, an_answer_from_before_the_drain_does_not_end_it)
{
    start();
    kaena_route early = begin(NULL, 1000 * MS, false);
    size_t d = tries(&early, 0);
    kaena_route late = begin(NULL, 1000 * MS, false);
    cr_assert(tries(&late, 0) == d);
    fails(&late, d, KAENA_OUTCOME_DRAINING, KAENA_UNAVAILABLE, "drains", 0);
    kaena_route_report(&early, d, KAENA_OK, KAENA_OUTCOME_FINAL, NULL, 0);
    cr_assert(!kaena_router_is_up(&router, d));
    kaena_router_fini(&router);
}

/* ---- Replicas ---- */

/* What the daemons of a test do. */
static struct world {
    bool has[DAEMONS], away[DAEMONS], full[DAEMONS];
    unsigned finds, loads, unloads;
} world;

static kaena_status unavailable(size_t daemon, kaena_outcome *outcome, kaena_err *err)
{
    *outcome = KAENA_OUTCOME_ABSENT;
    return KAENA_FAIL(err, UNAVAILABLE, "nobody at %zu", daemon);
}

static kaena_status find(void *user, size_t daemon, kaena_outcome *outcome, kaena_err *err)
{
    struct world *w = user;
    w->finds++;
    if (w->away[daemon])
        return unavailable(daemon, outcome, err);
    *outcome = KAENA_OUTCOME_MISSING;
    return w->has[daemon] ? KAENA_OK : KAENA_FAIL(err, NOT_FOUND, "none at %zu", daemon);
}

static kaena_status load(void *user, size_t daemon, kaena_outcome *outcome, kaena_err *err)
{
    struct world *w = user;
    w->loads++;
    if (w->away[daemon])
        return unavailable(daemon, outcome, err);
    *outcome = KAENA_OUTCOME_REFUSED;
    if (w->full[daemon])
        return KAENA_FAIL(err, RESOURCE_EXHAUSTED, "no room at %zu", daemon);
    w->has[daemon] = true;
    return KAENA_OK;
}

static void unload(void *user, size_t daemon)
{
    struct world *w = user;
    w->unloads++;
    w->has[daemon] = false;
}

static const kaena_replica_ops ops = {find, load, unload};

static kaena_replicas open_replicas(uint32_t wanted)
{
    kaena_replicas r;
    kaena_err err;
    start();
    world = (struct world){0};
    KTEST_OK(err, kaena_replicas_init(&r, &router, wanted, "m", &ops, &world, &err));
    return r;
}

static void close_replicas(kaena_replicas *r)
{
    kaena_replicas_close(r, true);
    kaena_replicas_fini(r);
    kaena_router_fini(&router);
}

KTEST(replicas, are_made_where_they_are_wanted)
{
    kaena_replicas r = open_replicas(2);
    cr_assert(kaena_replicas_mend(&r) == INT64_MAX);
    cr_assert(world.has[0] && world.has[1] && !world.has[2] && world.loads == 2);
    cr_assert(kaena_replicas_mend(&r) == INT64_MAX && world.loads == 2, "nothing is missing");
    close_replicas(&r);
    cr_assert(world.unloads == 2 && !world.has[0]);
    r = open_replicas(UINT32_MAX);
    world.full[1] = true;
    int64_t next_ns = kaena_replicas_mend(&r);
    cr_assert(next_ns > kaena_now_ns() - 1000 * MS && next_ns < INT64_MAX, "one is missing");
    cr_assert(kaena_replicas_count(&r) == 2);
    kaena_err err;
    KTEST_FAILS(err, RESOURCE_EXHAUSTED, "no room at 1", kaena_replicas_failure(&r, &err));
    close_replicas(&r);
}

KTEST(replicas, come_back_with_their_daemon_and_move_when_it_does_not)
{
    kaena_replicas r = open_replicas(1);
    (void)kaena_replicas_mend(&r);
    cr_assert(world.has[0] && world.loads == 1);
    /* The daemon was unreachable for a moment: its replica is looked for, not loaded again. */
    kaena_router_gone(&router, 0, KAENA_DAEMON_DOWN, kaena_now_ns());
    cr_assert(kaena_replicas_count(&r) == 0 && !kaena_places_has(&r.places, &router, 0));
    kaena_router_up(&router, 0);
    (void)kaena_replicas_mend(&r);
    cr_assert(world.loads == 1 && world.finds == 1 && kaena_places_has(&r.places, &router, 0));
    /* It died: another one takes over. */
    world.has[0] = false;
    kaena_router_gone(&router, 0, KAENA_DAEMON_DOWN, kaena_now_ns());
    (void)kaena_replicas_mend(&r);
    cr_assert(world.has[1] && world.loads == 2);
    kaena_router_up(&router, 0);
    (void)kaena_replicas_mend(&r);
    cr_assert(!world.has[0], "there are as many as wanted");
    /* That one dies too: the first had it before and gets it again. */
    kaena_router_gone(&router, 1, KAENA_DAEMON_DOWN, kaena_now_ns());
    (void)kaena_replicas_mend(&r);
    cr_assert(world.has[0] && !world.has[2] && world.loads == 3);
    close_replicas(&r);
}

KTEST(replicas, of_a_daemon_that_cannot_be_reached_wait)
{
    kaena_replicas r = open_replicas(UINT32_MAX);
    world.away[2] = true;
    cr_assert(kaena_replicas_mend(&r) == INT64_MAX, "only the daemon's return would help");
    cr_assert(kaena_replicas_count(&r) == 2 && !kaena_router_is_up(&router, 2));
    world.away[2] = false;
    kaena_router_up(&router, 2);
    (void)kaena_replicas_mend(&r);
    cr_assert(kaena_replicas_count(&r) <= 3);
    close_replicas(&r);
}

KTEST(replicas, take_calls_by_load)
{
    kaena_replicas r = open_replicas(2);
    (void)kaena_replicas_mend(&r);
    kaena_route busy[4];
    size_t per_daemon[DAEMONS] = {0};
    for (size_t i = 0; i < 4; i++) {
        busy[i] = begin(&r.places, 1000 * MS, false);
        per_daemon[tries(&busy[i], 0)]++;
    }
    cr_assert(per_daemon[0] == 2 && per_daemon[1] == 2 && per_daemon[2] == 0);
    /* Requests wait long at 0. */
    for (int i = 0; i < 10; i++)
        kaena_router_waited(&router, 0, 100 * MS, 1);
    kaena_route next = begin(&r.places, 1000 * MS, false);
    cr_assert(tries(&next, 1) == 1);
    kaena_router_gone(&router, 1, KAENA_DAEMON_DOWN, 1);
    fails(&next, 1, KAENA_OUTCOME_LOST, KAENA_UNAVAILABLE, "broke", 1);
    cr_assert(tries(&next, 1) == 0);
    kaena_route_report(&next, 0, KAENA_OK, KAENA_OUTCOME_FINAL, NULL, 1);
    close_replicas(&r);
}

KTEST(replicas, full_queues_are_an_answer_only_of_all_that_should_be)
{
    kaena_replicas r = open_replicas(2);
    (void)kaena_replicas_mend(&r);
    kaena_route route = begin(&r.places, 1000 * MS, false);
    for (int i = 0; i < 2; i++)
        fails(&route, tries(&route, 0), KAENA_OUTCOME_REFUSED, KAENA_RESOURCE_EXHAUSTED, "full", 0);
    ends(&route, 0, KAENA_RESOURCE_EXHAUSTED, "full");
    kaena_router_gone(&router, 1, KAENA_DAEMON_DOWN, 0);
    route = begin(&r.places, 1000 * MS, false);
    fails(&route, tries(&route, 0), KAENA_OUTCOME_REFUSED, KAENA_RESOURCE_EXHAUSTED, "full", 0);
    int64_t now_ns = waits(&route, 0);
    cr_assert(tries(&route, now_ns) == 0);
    kaena_route_report(&route, 0, KAENA_OK, KAENA_OUTCOME_FINAL, NULL, now_ns);
    close_replicas(&r);
}

KTEST(replicas, that_vanished_are_not_asked_and_are_waited_for)
{
    kaena_replicas r = open_replicas(1);
    (void)kaena_replicas_mend(&r);
    kaena_route route = begin(&r.places, 1000 * MS, false);
    fails(&route, tries(&route, 0), KAENA_OUTCOME_MISSING, KAENA_NOT_FOUND, "unloaded", 0);
    cr_assert(kaena_replicas_count(&r) == 0);
    int64_t now_ns = waits(&route, 0);
    world.has[0] = false;
    (void)kaena_replicas_mend(&r);
    cr_assert(tries(&route, now_ns) == 0);
    kaena_route_report(&route, 0, KAENA_OK, KAENA_OUTCOME_FINAL, NULL, now_ns);
    cr_assert(world.loads == 2);
    close_replicas(&r);
}
