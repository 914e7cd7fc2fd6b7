#include "krt_sched.h"

#include <assert.h>
#include <stddef.h>

/* How far a lane may be behind those that it competes with before the rest is forgiven, besides two
 * of its own executions: what it used while they could not run is not held against it for long. */
#define LAG_NS UINT64_C(100000000)

void krt_flow_init(krt_flow *f, uint32_t depth, krt_lane *lanes, uint32_t n_lanes)
{
    *f = (krt_flow){.depth = depth, .lanes = lanes, .n_lanes = n_lanes, .soonest_ns = UINT64_MAX};
}

bool krt_flow_idle(const krt_flow *f)
{
    return f->n_queued == 0 && f->n_running == 0;
}

bool krt_flow_quick(const krt_flow *f)
{
    return f->run_ns && f->run_ns <= f->quick_ns;
}

/* --- Queues
 * ------------------------------------------------------------------------------------------------------------
 */

/* The last place of each list that a step fills. */
typedef struct tails {
    krt_item **start, **expired, **aborted;
    krt_flow **resume;
} tails;

static void append(krt_item ***tail, krt_item *item)
{
    item->after = NULL;
    **tail = item;
    *tail = &item->after;
}

static uint32_t level_of(const krt_item *item)
{
    return (uint32_t)(item->priority - KRT_PRIORITY_MIN);
}

static uint32_t top_level(const krt_flow *f)
{
    return 31 - (uint32_t)__builtin_clz(f->filled);
}

static void enqueue(krt_sched *s, krt_flow *f, krt_item *item)
{
    uint32_t level = level_of(item);
    item->state = KRT_QUEUED;
    item->flow = f;
    item->next = NULL;
    item->prev = f->tail[level];
    if (item->prev)
        item->prev->next = item;
    else
        f->head[level] = item;
    f->tail[level] = item;
    f->filled |= 1u << level;
    f->soonest_ns = item->deadline_ns < f->soonest_ns ? item->deadline_ns : f->soonest_ns;
    if (f->n_queued++)
        return;
    f->next = NULL;
    f->prev = s->waiting_last;
    if (f->prev)
        f->prev->next = f;
    else
        s->waiting = f;
    s->waiting_last = f;
}

static void dequeue(krt_sched *s, krt_item *item)
{
    krt_flow *f = item->flow;
    uint32_t level = level_of(item);
    if (item->prev)
        item->prev->next = item->next;
    else
        f->head[level] = item->next;
    if (item->next)
        item->next->prev = item->prev;
    else
        f->tail[level] = item->prev;
    if (!f->head[level])
        f->filled &= ~(1u << level);
    if (--f->n_queued)
        return;
    f->soonest_ns = UINT64_MAX;
    if (f->prev)
        f->prev->next = f->next;
    else
        s->waiting = f->next;
    if (f->next)
        f->next->prev = f->prev;
    else
        s->waiting_last = f->prev;
}

static void expire(krt_item *item, tails *t)
{
    item->state = KRT_DONE;
    append(&t->expired, item);
}

/* Makes room: what has expired in the queue takes no place from what has not. */
static void sweep(krt_sched *s, krt_flow *f, uint64_t now_ns, tails *t)
{
    if (f->soonest_ns > now_ns)
        return;
    uint64_t soonest = UINT64_MAX;
    for (uint32_t level = 0; level < KRT_PRIORITIES; level++)
        for (krt_item *i = f->head[level], *next; i; i = next) {
            next = i->next;
            if (i->deadline_ns <= now_ns) {
                dequeue(s, i);
                expire(i, t);
            } else if (i->deadline_ns < soonest) {
                soonest = i->deadline_ns;
            }
        }
    f->soonest_ns = soonest;
}

/* --- Time used
 * ----------------------------------------------------------------------------------------------------------
 */

static bool is_holding(const krt_flow *f, const krt_lane *l)
{
    return f->holds && l->n_running;
}

static void charge(const krt_flow *f, krt_lane *l, uint64_t now_ns)
{
    if (now_ns <= l->since_ns) /* events of several threads come a little out of order */
        return;
    if (is_holding(f, l))
        l->used_ns += now_ns - l->since_ns;
    l->since_ns = now_ns;
}

/* The least that a lane has used which waits for, or holds, one of the TPBs; UINT64_MAX: none. */
static uint64_t least_used(krt_sched *s, const krt_flow *but, uint64_t tpbs, uint64_t now_ns)
{
    uint64_t least = UINT64_MAX;
    for (krt_flow *f = s->waiting; f; f = f->next)
        for (uint32_t i = 0; f != but && i < f->n_lanes; i++)
            if (f->lanes[i].tpbs & tpbs) {
                charge(f, &f->lanes[i], now_ns);
                least = f->lanes[i].used_ns < least ? f->lanes[i].used_ns : least;
            }
    for (uint64_t left = tpbs; left; left &= left - 1) {
        const krt_lane *l = s->holder[__builtin_ctzll(left)];
        if (l && !(l >= but->lanes && l < but->lanes + but->n_lanes) && l->used_ns < least)
            least = l->used_ns;
    }
    return least;
}

/* A flow that begins to wait has no claim to time that it did not ask for. */
static void catch_up(krt_sched *s, krt_flow *f, uint64_t now_ns)
{
    for (uint32_t i = 0; i < f->n_lanes; i++) {
        krt_lane *l = &f->lanes[i];
        uint64_t least = least_used(s, f, l->tpbs, now_ns);
        charge(f, l, now_ns);
        if (least != UINT64_MAX && l->used_ns < least)
            l->used_ns = least;
    }
}

static void forgive(const krt_flow *f, krt_lane *l, const uint64_t *least)
{
    uint64_t bound = UINT64_MAX;
    for (uint64_t left = l->tpbs; left; left &= left - 1)
        bound = least[__builtin_ctzll(left)] < bound ? least[__builtin_ctzll(left)] : bound;
    bound += LAG_NS + 2 * f->run_ns;
    if (l->used_ns > bound)
        l->used_ns = bound;
}

/* Charges all lanes that wait, and bounds how far any is behind another. */
static void settle_time(krt_sched *s, uint64_t now_ns)
{
    uint64_t least[KRT_MAX_TPBS];
    for (uint32_t t = 0; t < KRT_MAX_TPBS; t++)
        least[t] = UINT64_MAX / 2;
    for (krt_flow *f = s->waiting; f; f = f->next)
        for (uint32_t i = 0; i < f->n_lanes; i++) {
            krt_lane *l = &f->lanes[i];
            charge(f, l, now_ns);
            for (uint64_t left = l->tpbs; left; left &= left - 1) {
                uint64_t *at = &least[__builtin_ctzll(left)];
                *at = l->used_ns < *at ? l->used_ns : *at;
            }
        }
    for (krt_flow *f = s->waiting; f; f = f->next)
        for (uint32_t i = 0; i < f->n_lanes; i++)
            forgive(f, &f->lanes[i], least);
}

/* --- Who is next
 * --------------------------------------------------------------------------------------------------------
 */

/* A pipeline that is full goes on for as long again before others interrupt it: filling it anew
 * takes as long as one execution. */
static uint64_t rank(const krt_flow *f, const krt_lane *l)
{
    uint64_t bonus = is_holding(f, l) && l->contexts > 1 ? f->run_ns : 0;
    return l->used_ns > bonus ? l->used_ns - bonus : 0;
}

static bool before(const krt_flow *f, const krt_lane *a, const krt_flow *g, const krt_lane *b)
{
    if (f == g && a->n_running != b->n_running)
        return a->n_running < b->n_running;
    uint32_t p = top_level(f), q = top_level(g);
    return p != q ? p > q : rank(f, a) < rank(g, b);
}

static krt_lane *next_lane(const krt_sched *s, krt_flow **of)
{
    krt_lane *best = NULL;
    for (krt_flow *f = s->waiting; f; f = f->next)
        for (uint32_t i = 0; i < f->n_lanes; i++) {
            krt_lane *l = &f->lanes[i];
            if (l->turn != s->turn && (!best || before(f, l, *of, best))) {
                best = l;
                *of = f;
            }
        }
    return best;
}

static bool has_context(const krt_flow *f, const krt_lane *l)
{
    return krt_flow_quick(f) ? f->n_running == 0 : l->n_running < l->contexts;
}

/* TPBs of it that others hold. */
static uint64_t held_by_others(const krt_sched *s, const krt_lane *l)
{
    uint64_t held = 0;
    for (uint64_t left = l->tpbs; left; left &= left - 1) {
        const krt_lane *h = s->holder[__builtin_ctzll(left)];
        held |= h && h != l ? left & -left : 0;
    }
    return held;
}

static void hold(krt_sched *s, krt_lane *l, krt_lane *holder)
{
    for (uint64_t left = l->tpbs; left; left &= left - 1)
        s->holder[__builtin_ctzll(left)] = holder;
}

static void start(krt_sched *s, krt_item *item, krt_lane *l, const krt_event *e, tails *t)
{
    krt_flow *f = item->flow;
    dequeue(s, item);
    charge(f, l, e->now_ns);
    if (f->holds)
        hold(s, l, l);
    item->state = KRT_RUNNING;
    item->lane = (uint32_t)(l - f->lanes);
    item->here = krt_flow_quick(f);
    item->prev = NULL;
    item->next = s->running;
    if (item->next)
        item->next->prev = item;
    s->running = item;
    f->n_running++;
    l->n_running++;
    append(&t->start, item);
}

/* The oldest item of the highest priority that still matters, or NULL. */
static krt_item *first_item(krt_sched *s, krt_flow *f, uint64_t now_ns, tails *t)
{
    while (f->filled) {
        krt_item *item = f->head[top_level(f)];
        if (item->deadline_ns > now_ns)
            return item;
        dequeue(s, item);
        expire(item, t);
    }
    return NULL;
}

static void ask_to_resume(krt_flow *f, tails *t)
{
    if (f->resuming)
        return;
    f->resuming = true;
    f->after = NULL;
    *t->resume = f;
    t->resume = &f->after;
}

/* The TPBs of all lanes that wait; |all_hold|: they are all exclusive. */
static uint64_t wanted_tpbs(const krt_sched *s, bool *all_hold)
{
    uint64_t tpbs = 0;
    *all_hold = true;
    for (const krt_flow *f = s->waiting; f; f = f->next) {
        *all_hold = *all_hold && f->holds;
        for (uint32_t i = 0; i < f->n_lanes; i++)
            tpbs |= f->lanes[i].tpbs;
    }
    return tpbs;
}

/* Starts all that can be started, best first. */
static void fill(krt_sched *s, const krt_event *e, tails *t)
{
    if (!s->waiting)
        return;
    bool all_hold;
    uint64_t wanted = wanted_tpbs(s, &all_hold);
    uint64_t kept = 0;  /* for lanes that are next */
    uint64_t fresh = 0; /* just taken */
    uint64_t shut = 0;  /* no exclusive lane can start there any more */
    krt_flow *f = NULL;
    krt_lane *l;
    settle_time(s, e->now_ns);
    s->turn++;
    while (((wanted & ~shut) || !all_hold) && (l = next_lane(s, &f))) {
        uint32_t level = top_level(f);
        krt_item *item = first_item(s, f, e->now_ns, t);
        if (!item || level_of(item) != level)
            continue; /* the flow waits no more, or no more before the others */
        uint64_t held = f->holds ? held_by_others(s, l) : 0;
        bool can = !(l->tpbs & kept) && !held && has_context(f, l);
        if (can && (!krt_flow_quick(f) || e->here)) {
            start(s, item, l, e, t);
            fresh |= f->holds ? l->tpbs : 0;
            shut |= f->holds && (!f->filled || !has_context(f, l)) ? l->tpbs : 0;
            continue;
        }
        if (can)
            ask_to_resume(f, t);
        l->turn = s->turn;
        /* Behind what has just been started, or waits for its turn there itself, it is not next:
         * it keeps nothing elsewhere. */
        if (f->holds && !(l->tpbs & kept) && !(held & fresh))
            kept |= l->tpbs;
        shut |= kept;
    }
}

/* --- Events
 * ------------------------------------------------------------------------------------------------------------
 */

static void arrive(krt_sched *s, const krt_event *e, krt_actions *out, tails *t)
{
    krt_flow *f = e->flow;
    krt_item *item = e->item;
    assert(item->state == KRT_IDLE && level_of(item) < KRT_PRIORITIES);
    item->flow = f;
    if (f->closed) {
        item->state = KRT_DONE;
        out->refused_closed = true;
        return;
    }
    if (item->deadline_ns <= e->now_ns) {
        expire(item, t);
        return;
    }
    if (f->n_queued >= f->depth)
        sweep(s, f, e->now_ns, t);
    if (f->n_queued >= f->depth) {
        item->state = KRT_DONE;
        out->refused_full = true;
        return;
    }
    if (!f->n_queued)
        catch_up(s, f, e->now_ns);
    enqueue(s, f, item);
}

/* What makes a run longer than others, an interruption or a worker's wake-up, is not the model's:
 * shorter runs count at once, longer ones slowly and double at most. */
static void learn(krt_flow *f, uint64_t ran_ns)
{
    if (!ran_ns)
        return;
    if (f->run_ns && ran_ns > 2 * f->run_ns)
        ran_ns = 2 * f->run_ns;
    f->run_ns = ran_ns > f->run_ns && f->run_ns ? (f->run_ns * 7 + ran_ns) / 8 : ran_ns;
    f->run_ns += f->run_ns < 8; /* or growth is swallowed */
}

static void finish(krt_sched *s, const krt_event *e)
{
    krt_item *item = e->item;
    krt_flow *f = item->flow;
    krt_lane *l = &f->lanes[item->lane];
    assert(item->state == KRT_RUNNING && f->n_running && l->n_running);
    charge(f, l, e->now_ns);
    if (!f->holds)
        l->used_ns += e->used_ns;
    if (item->prev)
        item->prev->next = item->next;
    else
        s->running = item->next;
    if (item->next)
        item->next->prev = item->prev;
    item->state = KRT_DONE;
    f->n_running--;
    if (--l->n_running == 0 && f->holds)
        hold(s, l, NULL);
    learn(f, e->ran_ns);
}

static void close_flow(krt_sched *s, krt_flow *f, tails *t)
{
    f->closed = true;
    while (f->filled) {
        krt_item *item = f->head[top_level(f)];
        dequeue(s, item);
        item->state = KRT_DONE;
        append(&t->aborted, item);
    }
}

void krt_sched_step(krt_sched *s, const krt_event *e, krt_actions *out)
{
    *out = (krt_actions){0};
    tails t = {&out->start, &out->expired, &out->aborted, &out->resume};
    switch (e->kind) {
    case KRT_ARRIVE:
        arrive(s, e, out, &t);
        break;
    case KRT_FINISH:
        finish(s, e);
        break;
    case KRT_CANCEL:
        if (e->item->state != KRT_QUEUED)
            return;
        dequeue(s, e->item);
        expire(e->item, &t);
        break;
    case KRT_CLOSE:
        close_flow(s, e->flow, &t);
        break;
    case KRT_RESUME:
        e->flow->resuming = false;
        break;
    }
    fill(s, e, &t);
}
