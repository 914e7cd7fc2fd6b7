#include "ktest.h"

#include "krt_queue.h"

#define NEVER UINT64_MAX

static krt_actions step(krt_queue *q, krt_event_kind kind, krt_item *item, uint64_t now)
{
    krt_event e = {.kind = kind, .item = item, .now_ns = now};
    krt_actions a;
    krt_queue_step(q, &e, &a);
    return a;
}

KTEST(krt_queue, runs_up_to_its_contexts_then_queues_in_order)
{
    krt_queue q;
    krt_queue_init(&q, 3, 2);
    krt_item item[5];
    for (int i = 0; i < 5; i++) {
        item[i] = (krt_item){.deadline_ns = NEVER};
        krt_actions a = step(&q, KRT_ARRIVE, &item[i], 0);
        cr_assert(a.start == (i < 2 ? &item[i] : NULL) && !a.refused_full);
    }
    cr_assert(q.n_running == 2 && q.n_queued == 3 && !krt_queue_idle(&q));
    krt_actions a = step(&q, KRT_FINISH, &item[1], 0);
    cr_assert(a.start == &item[2] && !a.start->next);
    a = step(&q, KRT_FINISH, &item[0], 0);
    cr_assert(a.start == &item[3]);
    a = step(&q, KRT_FINISH, &item[2], 0);
    cr_assert(a.start == &item[4]);
    (void)step(&q, KRT_FINISH, &item[3], 0);
    a = step(&q, KRT_FINISH, &item[4], 0);
    cr_assert(!a.start && krt_queue_idle(&q));
}

KTEST(krt_queue, the_limit_is_accepted_and_one_more_refused)
{
    krt_queue q;
    krt_queue_init(&q, 2, 1);
    krt_item item[4];
    for (int i = 0; i < 4; i++) {
        item[i] = (krt_item){.deadline_ns = NEVER};
        krt_actions a = step(&q, KRT_ARRIVE, &item[i], 0);
        cr_assert(a.refused_full == (i == 3));
    }
    cr_assert(item[3].state == KRT_DONE && q.n_queued == 2);
}

KTEST(krt_queue, what_has_expired_never_starts)
{
    krt_queue q;
    krt_queue_init(&q, 2, 1);
    krt_item running = {.deadline_ns = NEVER}, late = {.deadline_ns = 50},
             later = {.deadline_ns = 100}, dead = {.deadline_ns = 10};
    cr_assert(step(&q, KRT_ARRIVE, &running, 0).start == &running);
    (void)step(&q, KRT_ARRIVE, &late, 0);
    (void)step(&q, KRT_ARRIVE, &later, 0);
    krt_actions a = step(&q, KRT_ARRIVE, &dead, 10); /* at the deadline, not only past it */
    cr_assert(a.expired == &dead && !a.refused_full && q.n_queued == 2);
    a = step(&q, KRT_FINISH, &running, 50);
    cr_assert(a.expired == &late && !late.next && a.start == &later);
    cr_assert(late.state == KRT_DONE && later.state == KRT_RUNNING);
}

KTEST(krt_queue, expired_items_make_room_before_one_is_refused)
{
    krt_queue q;
    krt_queue_init(&q, 2, 1);
    krt_item a = {.deadline_ns = NEVER}, b = {.deadline_ns = 5}, c = {.deadline_ns = NEVER},
             d = {.deadline_ns = NEVER};
    (void)step(&q, KRT_ARRIVE, &a, 0);
    (void)step(&q, KRT_ARRIVE, &b, 0);
    (void)step(&q, KRT_ARRIVE, &c, 0);
    krt_actions r = step(&q, KRT_ARRIVE, &d, 6);
    cr_assert(!r.refused_full && r.expired == &b && q.n_queued == 2);
    cr_assert(step(&q, KRT_FINISH, &a, 6).start == &c);
    cr_assert(step(&q, KRT_FINISH, &c, 6).start == &d);
}

KTEST(krt_queue, cancel_takes_out_what_waits_and_leaves_what_runs)
{
    krt_queue q;
    krt_queue_init(&q, 3, 1);
    krt_item item[4];
    for (int i = 0; i < 4; i++) {
        item[i] = (krt_item){.deadline_ns = NEVER};
        (void)step(&q, KRT_ARRIVE, &item[i], 0);
    }
    krt_actions a = step(&q, KRT_CANCEL, &item[0], 0);
    cr_assert(!a.expired && item[0].state == KRT_RUNNING);
    a = step(&q, KRT_CANCEL, &item[3], 0); /* the last: the tail must follow */
    cr_assert(a.expired == &item[3]);
    a = step(&q, KRT_CANCEL, &item[3], 0); /* a second time: nothing */
    cr_assert(!a.expired);
    krt_item more = {.deadline_ns = NEVER};
    (void)step(&q, KRT_ARRIVE, &more, 0);
    a = step(&q, KRT_CANCEL, &item[1], 0);
    cr_assert(a.expired == &item[1]);
    cr_assert(step(&q, KRT_FINISH, &item[0], 0).start == &item[2]);
    cr_assert(step(&q, KRT_FINISH, &item[2], 0).start == &more);
    a = step(&q, KRT_CANCEL, &item[0], 0); /* done long ago */
    cr_assert(!a.expired && q.n_queued == 0 && q.n_running == 1);
}

KTEST(krt_queue, contexts_may_change_between_events)
{
    krt_queue q;
    krt_queue_init(&q, 3, 0);
    krt_item item[3];
    for (int i = 0; i < 3; i++) {
        item[i] = (krt_item){.deadline_ns = NEVER};
        cr_assert(!step(&q, KRT_ARRIVE, &item[i], 0).start);
    }
    q.contexts = 2;
    krt_actions a = step(&q, KRT_RESUME, NULL, 0);
    cr_assert(a.start == &item[0] && item[0].next == &item[1] && !item[1].next);
    q.contexts = 1; /* fewer than run */
    cr_assert(!step(&q, KRT_FINISH, &item[0], 0).start);
    cr_assert(!step(&q, KRT_RESUME, NULL, 0).start);
    cr_assert(step(&q, KRT_FINISH, &item[1], 0).start == &item[2]);
}

KTEST(krt_queue, close_aborts_what_waits)
{
    krt_queue q;
    krt_queue_init(&q, 3, 1);
    krt_item item[3], late = {.deadline_ns = NEVER};
    for (int i = 0; i < 3; i++) {
        item[i] = (krt_item){.deadline_ns = NEVER};
        (void)step(&q, KRT_ARRIVE, &item[i], 0);
    }
    krt_actions a = step(&q, KRT_CLOSE, NULL, 0);
    cr_assert(a.aborted == &item[1] && item[1].next == &item[2] && !item[2].next);
    a = step(&q, KRT_ARRIVE, &late, 0);
    cr_assert(a.refused_closed && late.state == KRT_DONE);
    a = step(&q, KRT_FINISH, &item[0], 0);
    cr_assert(!a.start && krt_queue_idle(&q));
    a = step(&q, KRT_CLOSE, NULL, 0);
    cr_assert(!a.aborted);
}

/* Random events against plain counting: nothing is lost, nothing runs twice. */
KTEST(krt_queue, every_item_has_one_end)
{
    enum { N = 4000 };
    static krt_item item[N];
    static int ended[N];
    krt_queue q;
    krt_queue_init(&q, 5, 3);
    uint32_t state = 0x4b414541u;
    int next = 0;
    uint64_t now = 0;
    while (next < N || !krt_queue_idle(&q)) {
        state = state * 1664525u + 1013904223u;
        now += state >> 30;
        krt_actions a = {0};
        unsigned pick = (state >> 16) % 8;
        if (pick < 4 && next < N) {
            item[next].deadline_ns = now + (state >> 8) % 40;
            a = step(&q, KRT_ARRIVE, &item[next], now);
            ended[next] += a.refused_full;
            next++;
        } else if (pick < 7) {
            int i = (int)((state >> 4) % N);
            for (int k = 0; k < N && item[i].state != KRT_RUNNING; k++)
                i = (i + 1) % N;
            if (item[i].state == KRT_RUNNING) {
                a = step(&q, KRT_FINISH, &item[i], now);
                ended[i]++;
            }
        } else if (next) {
            a = step(&q, KRT_CANCEL, &item[(state >> 4) % (uint32_t)next], now);
        }
        for (krt_item *i = a.expired; i; i = i->next)
            ended[i - item]++;
        for (krt_item *i = a.start; i; i = i->next)
            cr_assert(i->state == KRT_RUNNING && i->deadline_ns > now);
        cr_assert(q.n_running <= 3 && q.n_queued <= 5);
    }
    for (int i = 0; i < N; i++)
        cr_assert(ended[i] == 1, "item %d ended %d times", i, ended[i]);
}
