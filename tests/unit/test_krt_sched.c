/* The scheduler: queues, priorities, fairness, TPBs that flows share. */
#include "ktest.h"

#include "krt_sched.h"

#define NEVER UINT64_MAX
#define MS UINT64_C(1000000)

static krt_actions step(krt_sched *s, krt_event e)
{
    krt_actions a;
    krt_sched_step(s, &e, &a);
    return a;
}

static krt_actions arrive(krt_sched *s, krt_flow *f, krt_item *i, uint64_t now)
{
    return step(s, (krt_event){.kind = KRT_ARRIVE, .flow = f, .item = i, .now_ns = now});
}

static krt_actions finish(krt_sched *s, krt_item *i, uint64_t now)
{
    return step(s, (krt_event){.kind = KRT_FINISH, .item = i, .now_ns = now});
}

static krt_actions cancel(krt_sched *s, krt_item *i)
{
    return step(s, (krt_event){.kind = KRT_CANCEL, .item = i});
}

static krt_item item(int32_t priority)
{
    return (krt_item){.deadline_ns = NEVER, .priority = priority};
}

/* A flow with one exclusive lane. */
typedef struct one {
    krt_flow f;
    krt_lane lane;
} one;

static void make(one *o, uint32_t depth, uint64_t tpbs, uint32_t contexts)
{
    o->lane = (krt_lane){.tpbs = tpbs, .contexts = contexts};
    krt_flow_init(&o->f, depth, &o->lane, 1);
    o->f.holds = true;
}

/* --- One flow
 * --------------------------------------------------------------------------------------------------------------
 */

KTEST(krt_sched, runs_up_to_its_contexts_then_queues_in_order)
{
    krt_sched s = {0};
    one q;
    make(&q, 3, 1, 2);
    krt_item i[5];
    for (int k = 0; k < 5; k++) {
        i[k] = item(0);
        krt_actions a = arrive(&s, &q.f, &i[k], 0);
        cr_assert(a.start == (k < 2 ? &i[k] : NULL) && !a.refused_full);
    }
    cr_assert(q.f.n_running == 2 && q.f.n_queued == 3 && !krt_flow_idle(&q.f));
    krt_actions a = finish(&s, &i[1], 0);
    cr_assert(a.start == &i[2] && !a.start->after);
    a = finish(&s, &i[0], 0);
    cr_assert(a.start == &i[3]);
    a = finish(&s, &i[2], 0);
    cr_assert(a.start == &i[4]);
    (void)finish(&s, &i[3], 0);
    a = finish(&s, &i[4], 0);
    cr_assert(!a.start && krt_flow_idle(&q.f) && !s.waiting && !s.running && !s.holder[0]);
}

KTEST(krt_sched, the_limit_is_accepted_and_one_more_refused)
{
    krt_sched s = {0};
    one q;
    make(&q, 2, 1, 1);
    krt_item i[4];
    for (int k = 0; k < 4; k++) {
        i[k] = item(0);
        cr_assert(arrive(&s, &q.f, &i[k], 0).refused_full == (k == 3));
    }
    cr_assert(i[3].state == KRT_DONE && q.f.n_queued == 2);
}

KTEST(krt_sched, what_has_expired_never_starts_and_makes_room)
{
    krt_sched s = {0};
    one q;
    make(&q, 2, 1, 1);
    krt_item running = item(0), late = {.deadline_ns = 50}, later = {.deadline_ns = 100},
             dead = {.deadline_ns = 10}, next = item(0), more = item(0);
    cr_assert(arrive(&s, &q.f, &running, 0).start == &running);
    (void)arrive(&s, &q.f, &late, 0);
    (void)arrive(&s, &q.f, &later, 0);
    krt_actions a = arrive(&s, &q.f, &dead, 10); /* at the deadline, not only past it */
    cr_assert(a.expired == &dead && !a.refused_full && q.f.n_queued == 2);
    a = arrive(&s, &q.f, &next, 60);
    cr_assert(a.expired == &late && !late.after && !a.refused_full && q.f.n_queued == 2);
    a = arrive(&s, &q.f, &more, 99);
    cr_assert(a.refused_full && !a.expired);
    a = finish(&s, &running, 100);
    cr_assert(a.expired == &later && a.start == &next && later.state == KRT_DONE);
}

KTEST(krt_sched, cancel_takes_out_what_waits_and_leaves_what_runs)
{
    krt_sched s = {0};
    one q;
    make(&q, 3, 1, 1);
    krt_item i[4], more = item(0);
    for (int k = 0; k < 4; k++) {
        i[k] = item(0);
        (void)arrive(&s, &q.f, &i[k], 0);
    }
    cr_assert(!cancel(&s, &i[0]).expired && i[0].state == KRT_RUNNING);
    cr_assert(cancel(&s, &i[3]).expired == &i[3]); /* the last: the tail must follow */
    cr_assert(!cancel(&s, &i[3]).expired);         /* a second time: nothing */
    (void)arrive(&s, &q.f, &more, 0);
    cr_assert(cancel(&s, &i[1]).expired == &i[1]);
    cr_assert(finish(&s, &i[0], 0).start == &i[2]);
    cr_assert(finish(&s, &i[2], 0).start == &more);
    cr_assert(!cancel(&s, &i[0]).expired && q.f.n_queued == 0 && q.f.n_running == 1);
}

KTEST(krt_sched, higher_priorities_go_first_and_equal_ones_in_order)
{
    krt_sched s = {0};
    one q;
    make(&q, 10, 1, 1);
    krt_item running = item(0), i[6];
    static const int32_t priority[6] = {0, -8, 7, 0, 7, -1};
    static const int order[6] = {2, 4, 0, 3, 5, 1};
    (void)arrive(&s, &q.f, &running, 0);
    for (int k = 0; k < 6; k++) {
        i[k] = item(priority[k]);
        cr_assert(!arrive(&s, &q.f, &i[k], 0).start);
    }
    krt_item *now = &running;
    for (int k = 0; k < 6; k++) {
        krt_actions a = finish(&s, now, 0);
        cr_assert(a.start == &i[order[k]], "%d", k);
        now = a.start;
    }
}

KTEST(krt_sched, close_aborts_what_waits)
{
    krt_sched s = {0};
    one q;
    make(&q, 3, 1, 1);
    krt_item i[3], late = item(0);
    for (int k = 0; k < 3; k++) {
        i[k] = item(k == 2 ? 5 : 0);
        (void)arrive(&s, &q.f, &i[k], 0);
    }
    const krt_event close = {.kind = KRT_CLOSE, .flow = &q.f};
    krt_actions a = step(&s, close);
    cr_assert(a.aborted == &i[2] && i[2].after == &i[1] && !i[1].after);
    a = arrive(&s, &q.f, &late, 0);
    cr_assert(a.refused_closed && late.state == KRT_DONE);
    a = finish(&s, &i[0], 0);
    cr_assert(!a.start && krt_flow_idle(&q.f));
    cr_assert(!step(&s, close).aborted);
}

/* Quick models run one at a time on the thread that can; others ask it to come by. */
KTEST(krt_sched, quick_executions_wait_for_their_thread)
{
    krt_sched s = {0};
    one q, big;
    make(&q, 4, 1, 2);
    make(&big, 4, 1, 1);
    q.f.quick_ns = 50000;
    krt_item i[4], b = item(0);
    for (int k = 0; k < 4; k++)
        i[k] = item(0);
    /* Nobody knows yet how long it takes: any thread, both contexts. */
    cr_assert(arrive(&s, &q.f, &i[0], 0).start == &i[0] && !i[0].here);
    (void)step(&s, (krt_event){.kind = KRT_FINISH, .item = &i[0], .now_ns = 10, .ran_ns = 20000});
    cr_assert(krt_flow_quick(&q.f));
    krt_actions a = arrive(&s, &q.f, &i[1], 20);
    cr_assert(!a.start && a.resume == &q.f && !q.f.after && q.f.resuming);
    a = arrive(&s, &q.f, &i[2], 30);
    cr_assert(!a.start && !a.resume); /* it has been asked */
    cr_assert(!arrive(&s, &big.f, &b, 40).start, "the TPB is kept for what is next");
    a = step(&s, (krt_event){.kind = KRT_RESUME, .flow = &q.f, .now_ns = 50, .here = true});
    cr_assert(a.start == &i[1] && i[1].here && !i[1].after);
    a = finish(&s, &i[1], 60); /* here is not said: an execution is on this stack */
    cr_assert(a.start == &b && !b.here && !a.resume);
    a = finish(&s, &b, 100);
    cr_assert(!a.start && a.resume == &q.f);
    a = step(&s, (krt_event){
                     .kind = KRT_ARRIVE, .flow = &q.f, .item = &i[3], .now_ns = 110, .here = true});
    cr_assert(a.start == &i[2] && !i[2].after && q.f.n_queued == 1);
}

/* --- Several flows
 * ---------------------------------------------------------------------------------------------------------
 */

/* A world in virtual time: flows that always have work, each execution of which takes |cost|. */
#define WORLD 8
typedef struct world {
    krt_sched s;
    krt_flow f[WORLD];
    krt_lane lanes[WORLD][4];
    krt_item items[WORLD][6];
    uint64_t cost[WORLD], end[WORLD][6], ran[WORLD], now;
    uint64_t longest_wait[WORLD], since[WORLD]; /* between starts */
    uint32_t n;
    bool off[WORLD];
} world;

static krt_flow *world_add(world *w, uint64_t cost, uint32_t contexts, bool holds, uint64_t tpbs)
{
    uint32_t k = w->n++;
    w->lanes[k][0] = (krt_lane){.tpbs = tpbs, .contexts = contexts};
    krt_flow_init(&w->f[k], 6, w->lanes[k], 1);
    w->f[k].holds = holds;
    w->cost[k] = cost;
    return &w->f[k];
}

static void world_started(world *w, const krt_actions *a)
{
    for (krt_item *i = a->start; i; i = i->after) {
        uint32_t k = (uint32_t)(i->flow - w->f);
        w->end[k][i - w->items[k]] = w->now + w->cost[k];
        uint64_t waited = w->now - w->since[k];
        w->longest_wait[k] = waited > w->longest_wait[k] ? waited : w->longest_wait[k];
        w->since[k] = w->now;
    }
}

static void world_send(world *w)
{
    for (uint32_t k = 0; k < w->n; k++)
        for (int i = 0; i < 6 && !w->off[k]; i++)
            if (w->items[k][i].state == KRT_IDLE || w->items[k][i].state == KRT_DONE) {
                int32_t priority = w->items[k][i].priority;
                w->items[k][i] = item(priority);
                krt_actions a = arrive(&w->s, &w->f[k], &w->items[k][i], w->now);
                world_started(w, &a);
            }
}

static void world_run(world *w, uint64_t until)
{
    for (;;) {
        world_send(w);
        krt_item *first = NULL;
        uint64_t at = NEVER;
        for (krt_item *i = w->s.running; i; i = i->next) {
            uint32_t k = (uint32_t)(i->flow - w->f);
            uint64_t end = w->end[k][i - w->items[k]];
            if (end < at) {
                at = end;
                first = i;
            }
        }
        cr_assert(first, "nothing runs");
        if (at > until)
            return;
        uint32_t k = (uint32_t)(first->flow - w->f);
        w->now = at;
        w->ran[k] += w->cost[k];
        krt_actions a = step(&w->s, (krt_event){.kind = KRT_FINISH,
                                                .item = first,
                                                .now_ns = at,
                                                .ran_ns = w->cost[k],
                                                .used_ns = w->cost[k]});
        world_started(w, &a);
    }
}

static void about(uint64_t have, uint64_t want, const char *what)
{
    cr_assert(have > want - want / 10 && have < want + want / 10, "%s: %llu, not about %llu", what,
              (unsigned long long)have, (unsigned long long)want);
}

KTEST(krt_sched, flows_that_share_a_tpb_get_the_same_time)
{
    static world w;
    world_add(&w, 1 * MS, 1, true, 1);
    world_add(&w, 10 * MS, 1, true, 1);
    world_add(&w, 3 * MS, 1, true, 1);
    world_run(&w, 3000 * MS);
    for (int k = 0; k < 3; k++)
        about(w.ran[k], 1000 * MS, "a third");
    /* One leaves, and comes back without a claim to what it did not use. */
    w.off[0] = true;
    world_run(&w, 5000 * MS);
    about(w.ran[1] + w.ran[2], 4000 * MS, "the rest");
    w.off[0] = false;
    uint64_t before = w.ran[0];
    world_run(&w, 5300 * MS);
    about(w.ran[0] - before, 100 * MS, "a third again");
}

KTEST(krt_sched, one_execution_of_seconds_does_not_starve_short_ones)
{
    static world w;
    world_add(&w, 1 * MS, 1, true, 1);
    world_add(&w, 2000 * MS, 1, true, 1);
    world_run(&w, 40000 * MS);
    cr_assert(w.ran[0] > 15000 * MS && w.ran[1] > 15000 * MS);
}

KTEST(krt_sched, priorities_go_before_fairness)
{
    static world w;
    world_add(&w, 1 * MS, 1, true, 1);
    world_add(&w, 1 * MS, 1, true, 1);
    for (int i = 0; i < 6; i++)
        w.items[1][i].priority = 3;
    world_run(&w, 100 * MS);
    cr_assert(w.ran[0] <= 1 * MS && w.ran[1] >= 98 * MS);
}

KTEST(krt_sched, a_wide_model_is_not_starved_by_narrow_ones)
{
    static world w;
    for (int t = 0; t < 4; t++)
        world_add(&w, (uint64_t)(5 + t) * MS, 1, true, 1u << t);
    world_add(&w, 4 * MS, 1, true, 15);
    world_run(&w, 4000 * MS);
    for (int k = 0; k < 5; k++)
        cr_assert(w.ran[k] > 1000 * MS, "%d: %llu", k, (unsigned long long)w.ran[k]);
    cr_assert(w.longest_wait[4] < 100 * MS);
}

/* A has a TPB nearly for itself while B is held up elsewhere: that is not held against A for long.
 */
KTEST(krt_sched, what_others_could_not_use_is_forgiven)
{
    static world w;
    world_add(&w, 1 * MS, 1, true, 1); /* A */
    world_add(&w, 1 * MS, 1, true, 3); /* B */
    world_add(&w, 1 * MS, 1, true, 2); /* C */
    world_add(&w, 1 * MS, 1, true, 2);
    world_add(&w, 1 * MS, 1, true, 2);
    world_run(&w, 10000 * MS);
    uint64_t a = w.ran[0];
    cr_assert(a > 6000 * MS && w.ran[1] > 2000 * MS);
    w.off[2] = w.off[3] = w.off[4] = true;
    world_run(&w, 11000 * MS);
    cr_assert(w.ran[0] - a > 350 * MS, "%llu", (unsigned long long)(w.ran[0] - a));
}

/* Full contexts between changes, or a pipeline is no faster than its latency. */
KTEST(krt_sched, a_pipeline_keeps_its_contexts_in_flight)
{
    static world w;
    const krt_flow *p = world_add(&w, 4 * MS, 4, true, 15);
    world_run(&w, 100 * MS);
    cr_assert(p->n_running == 4);
    cr_assert(w.ran[0] >= 4 * 96 * MS);
    memset(&w, 0, sizeof w);
    world_add(&w, 4 * MS, 4, true, 15);
    world_add(&w, 1 * MS, 1, true, 1);
    world_run(&w, 2000 * MS);
    cr_assert(w.ran[0] > 3 * w.ran[1], "%llu %llu", (unsigned long long)w.ran[0],
              (unsigned long long)w.ran[1]);
    about(w.ran[1], 1000 * MS, "half of the time");
}

/* While the host works for one model its TPBs are the others', and it does not wait for them. */
KTEST(krt_sched, models_with_host_steps_hold_nothing)
{
    krt_sched s = {0};
    one host, device;
    make(&host, 4, 1, 1);
    make(&device, 4, 1, 1);
    host.f.holds = false;
    krt_item h[2] = {item(0), item(0)}, d[3] = {item(0), item(0), item(0)};
    cr_assert(arrive(&s, &device.f, &d[0], 0).start == &d[0]);
    cr_assert(arrive(&s, &host.f, &h[0], 1).start == &h[0]);
    cr_assert(!arrive(&s, &host.f, &h[1], 2).start);
    cr_assert(!arrive(&s, &device.f, &d[1], 2).start);
    krt_actions a = finish(&s, &d[0], 10);
    cr_assert(a.start == &d[1], "what waits for a context keeps no TPBs");
    (void)arrive(&s, &device.f, &d[2], 11);
    a = step(&s, (krt_event){.kind = KRT_FINISH, .item = &h[0], .now_ns = 20, .used_ns = 1000});
    cr_assert(!a.start && host.lane.used_ns > device.lane.used_ns, "it is the other's turn");
    a = finish(&s, &d[1], 5000);
    cr_assert(a.start == &h[1] && h[1].after == &d[2]);
}

KTEST(krt_sched, replicas_share_one_queue)
{
    krt_sched s = {0};
    krt_lane lanes[3];
    for (uint32_t i = 0; i < 3; i++)
        lanes[i] = (krt_lane){.tpbs = UINT64_C(1) << (63 - i), .contexts = 2};
    krt_flow f;
    krt_flow_init(&f, 10, lanes, 3);
    f.holds = true;
    one other;
    make(&other, 4, lanes[1].tpbs, 1);
    krt_item o[2] = {item(0), item(0)}, i[8];
    cr_assert(arrive(&s, &other.f, &o[0], 0).start == &o[0]);
    uint32_t of[3] = {0};
    for (int k = 0; k < 8; k++) {
        i[k] = item(0);
        krt_actions a = arrive(&s, &f, &i[k], 1);
        cr_assert(a.start == (k < 4 ? &i[k] : NULL), "%d", k);
        if (a.start)
            of[i[k].lane]++;
        cr_assert(k != 1 || i[0].lane != i[1].lane); /* an idle one before a second context */
    }
    cr_assert(of[0] == 2 && of[1] == 0 && of[2] == 2);
    krt_actions a = finish(&s, &o[0], 100);
    cr_assert(a.start == &i[4] && i[4].after == &i[5] && i[4].lane == 1 && i[5].lane == 1);
}

/* --- Anything
 * --------------------------------------------------------------------------------------------------------------
 */

#define FLOWS 6
#define ITEMS 3000

typedef struct chaos {
    krt_sched s;
    krt_flow f[FLOWS];
    krt_lane lanes[FLOWS][3];
    krt_item item[ITEMS];
    int ends[ITEMS], starts[ITEMS];
    int order[ITEMS]; /* of arrival */
    bool resuming[FLOWS];
    uint64_t now;
    uint32_t random;
} chaos;

static uint32_t draw(chaos *c, uint32_t n)
{
    c->random = c->random * 1664525u + 1013904223u;
    return (c->random >> 8) % n;
}

static void check_start(chaos *c, const krt_item *i)
{
    const krt_flow *f = i->flow;
    cr_assert(i->state == KRT_RUNNING && i->deadline_ns > c->now);
    cr_assert(!i->here || krt_flow_quick(f));
    c->starts[i - c->item]++;
    /* Nothing of its flow should have gone before it. */
    for (int k = 0; k < ITEMS; k++) {
        const krt_item *o = &c->item[k];
        if (o->state != KRT_QUEUED || o->flow != f || o->deadline_ns <= c->now)
            continue;
        cr_assert(o->priority <= i->priority);
        cr_assert(o->priority < i->priority || c->order[k] > c->order[i - c->item]);
    }
}

static void check_world(chaos *c)
{
    uint64_t held = 0;
    uint32_t running = 0, queued = 0, resuming = 0;
    for (int k = 0; k < FLOWS; k++) {
        uint32_t of_lanes = 0;
        for (uint32_t l = 0; l < c->f[k].n_lanes; l++) {
            const krt_lane *lane = &c->lanes[k][l];
            of_lanes += lane->n_running;
            cr_assert(lane->n_running <= lane->contexts);
            if (lane->n_running && c->f[k].holds) {
                cr_assert(!(held & lane->tpbs), "two hold a TPB");
                held |= lane->tpbs;
            }
        }
        cr_assert(of_lanes == c->f[k].n_running && c->f[k].n_queued <= c->f[k].depth);
        running += of_lanes;
        queued += c->f[k].n_queued;
        resuming += c->resuming[k];
    }
    for (uint32_t t = 0; t < KRT_MAX_TPBS; t++)
        cr_assert((c->s.holder[t] != NULL) == (held >> t & 1));
    cr_assert(running || resuming || !queued, "%u wait for nothing", queued);
}

static void take_actions(chaos *c, const krt_actions *a)
{
    for (const krt_item *i = a->expired; i; i = i->after)
        c->ends[i - c->item]++;
    for (const krt_item *i = a->aborted; i; i = i->after)
        c->ends[i - c->item]++;
    for (const krt_item *i = a->start; i; i = i->after)
        check_start(c, i);
    for (const krt_flow *f = a->resume; f; f = f->after) {
        cr_assert(!c->resuming[f - c->f]);
        c->resuming[f - c->f] = true;
    }
}

static krt_item *any_running(chaos *c)
{
    uint32_t n = 0;
    for (krt_item *i = c->s.running; i; i = i->next)
        n++;
    krt_item *i = c->s.running;
    for (uint32_t k = n ? draw(c, n) : 0; k; k--)
        i = i->next;
    return i;
}

static void one_event(chaos *c, int *next)
{
    krt_event e = {.now_ns = c->now += draw(c, 30000), .here = draw(c, 3) == 0};
    uint32_t pick = draw(c, 40), k = draw(c, FLOWS);
    if (pick < 16 && *next < ITEMS) {
        krt_item *i = e.item = &c->item[*next];
        i->deadline_ns = draw(c, 3) ? NEVER : c->now + draw(c, 100000);
        i->priority = (int32_t)draw(c, 4) * 5 - 8;
        c->order[*next] = *next;
        (*next)++;
        e.kind = KRT_ARRIVE;
        e.flow = &c->f[k];
    } else if (pick < 32 && c->s.running) {
        e.kind = KRT_FINISH;
        e.item = any_running(c);
        e.ran_ns = draw(c, 4) ? 1 + draw(c, 120000) : 0;
        e.used_ns = draw(c, 50000);
        c->ends[e.item - c->item]++;
    } else if (pick < 36 && *next) {
        e.kind = KRT_CANCEL;
        e.item = &c->item[draw(c, (uint32_t)*next)];
    } else if (pick < 39) {
        if (!c->resuming[k])
            return;
        e.kind = KRT_RESUME;
        e.flow = &c->f[k];
        e.here = true;
        c->resuming[k] = false;
    } else if (draw(c, 60) == 0) {
        e.kind = KRT_CLOSE;
        e.flow = &c->f[k];
    } else {
        return;
    }
    krt_actions a = step(&c->s, e);
    if (e.kind == KRT_ARRIVE)
        c->ends[e.item - c->item] += a.refused_full + a.refused_closed;
    take_actions(c, &a);
    check_world(c);
}

KTEST(krt_sched, whatever_happens_every_item_has_one_end)
{
    static chaos c;
    for (uint32_t seed = 1; seed <= 60; seed++) {
        memset(&c, 0, sizeof c);
        c.random = seed * 2654435761u;
        for (uint32_t k = 0; k < FLOWS; k++) {
            uint32_t n = 1 + draw(&c, 3);
            for (uint32_t l = 0; l < n; l++)
                c.lanes[k][l] =
                    (krt_lane){.tpbs = UINT64_C(1) << draw(&c, 5) | UINT64_C(1) << draw(&c, 5),
                               .contexts = 1 + draw(&c, 3)};
            krt_flow_init(&c.f[k], 1 + draw(&c, 6), c.lanes[k], n);
            c.f[k].holds = draw(&c, 4) != 0;
            c.f[k].quick_ns = draw(&c, 2) ? 50000 : 0;
            /* Copies of one model share no TPB. */
            for (uint32_t l = 1; l < n; l++)
                for (uint32_t m = 0; m < l; m++)
                    if (c.lanes[k][l].tpbs & c.lanes[k][m].tpbs)
                        c.lanes[k][l].tpbs = UINT64_C(1) << (10 + 3 * k + l);
        }
        int next = 0;
        for (uint32_t turn = 0; turn < 200000; turn++) {
            one_event(&c, &next);
            bool idle = next == ITEMS;
            for (uint32_t k = 0; k < FLOWS; k++)
                idle = idle && krt_flow_idle(&c.f[k]);
            if (idle)
                break;
        }
        for (int i = 0; i < ITEMS; i++) {
            cr_assert(c.ends[i] == 1, "seed %u: item %d ended %d times", seed, i, c.ends[i]);
            cr_assert(c.starts[i] <= 1, "seed %u: item %d started %d times", seed, i, c.starts[i]);
        }
    }
}
