/* Execution of a group of TPBs by any number of threads.
 *
 * The state of a TPB is explicit and belongs to one thread at a time:
 *
 *   GATED (waits for its turn on the physical TPB)
 *     |
 *   READY ----> RUNNING ----> WAITING      (WAIT not satisfied; whoever finds that it now is
 *     ^           |  ^           |          takes the TPB on)
 *     |           |  +-----------+
 *     +-----------+ (the owner leaves tpb_run_help)
 *                 |
 *                 +----> PUBLISHED ----> RUNNING, by the thread that finishes the last chunk;
 *                 |                      or READY, for the one at home
 *                 +----> HALTED
 *
 * A run that is told to stop halts each TPB where its owner would go on; who waits need not any
 * more.
 *
 * A published operation is cut into lanes, runs of neighbouring chunks: every thread has a seat in
 * the run and takes chunks of its seat's lane first, so that from operation to operation it finds
 * in its cache what it left there. For the same reason each of several TPBs is at home with one
 * seat: that thread carries it on, others help with its chunks. A lane counts the chunks not yet
 * taken. Taking one (the count before the decrement was positive) is a promise to run it: until
 * then the operation cannot end, so what it points to stays as it is.
 *
 * A cache line takes as long from processor to processor as hundreds of multiply-adds, so a lane is
 * one line with all that its taker reads, and the publisher has its first chunk without asking. */
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <x86intrin.h>

#include "tpb_code.h"

#define MXCSR_RUN 0x9fc0  /* DAZ, FTZ, to nearest, all exceptions masked */
#define NODES_PER_HELP 64 /* an owner offers its TPB to others this often */
#define MAX_LANES 8
#define IDLE_POLLS 200 /* of a thread that nobody else wants: some microseconds */
#define HOME_POLLS 8   /* before a thread takes on the TPB of another */
#define PAUSES 2       /* between polls, whose cache lines the busy ones write */

typedef enum core_state { GATED, READY, RUNNING, WAITING, PUBLISHED, HALTED } core_state;

/* A share of the published operation's chunks, [end - left, end). */
typedef struct lane {
    _Alignas(64) _Atomic int64_t left; /* not yet taken; may be < 0 */
    const tpb_op *op;
    uint32_t end;
    uint32_t turns[KISA_MAX_LOOPS]; /* of the program's loops */
} lane;

typedef struct core {
    /* The same in every execution, or for one. */
    const tpb_code *code;
    const tpb_bind *bind;
    const atomic_bool *stop; /* asked by the owner, and by those who hold a chunk */
    /* The turn of a GATED TPB; NULL: none. The pointer is the same in every execution. */
    _Atomic uint32_t *now;
    _Atomic uint32_t mine;
    tpb_clock *clock; /* the owner's */
    lane lane[MAX_LANES];
    _Alignas(64) _Atomic uint32_t done; /* chunks finished of the published operation */
    _Atomic uint32_t state;             /* core_state */
    /* The WAIT of a WAITING TPB. */
    _Atomic uint32_t wait_value;
    _Atomic uint32_t wait_sem;
    _Alignas(64) _Atomic uint32_t sem[KISA_SEMAPHORES];
    /* The owner's. */
    _Alignas(64) uint32_t pc;
    uint32_t depth;
    uint32_t turns[KISA_MAX_LOOPS];
    uint64_t began_ns;
    bool began; /* its turn has come */
    /* The stationary tile of unfused MATMULs: in WEIGHTS, or a copy. */
    const uint8_t *tile;
    int64_t tile_stride;
    uint32_t tile_panels;
    _Alignas(64) uint8_t tile_copy[KISA_TILE_PANELS * KISA_TILE_K * 64];
} core;

/* Whether the execution may begin: asked once, of whoever finds the first TPB's gate open. */
typedef enum verdict { UNASKED, ASKING, GO, REFUSED } verdict;

struct tpb_run {
    uint32_t n;
    _Atomic uint32_t lanes; /* changes between executions */
    _Atomic uint32_t seats; /* a bit for each that is taken */
    _Atomic uint32_t halted;
    _Atomic uint32_t verdict;
    _Atomic bool stopped; /* every TPB is to halt */
    _Atomic bool cut;     /* one did before its program's end */
    _Atomic uint64_t busy_ns;
    bool (*begin)(void *user); /* of the thread that asks */
    void *begin_user;
    core *core;
    tpb_watch watch;
};

/* A TPB may go on that nobody might look at otherwise. */
static void wake(const tpb_run *run)
{
    if (run->watch.wake)
        run->watch.wake(run->watch.user);
}

kaena_status tpb_run_create(const tpb_code *const *code, const tpb_bind *bind, uint32_t n,
                            tpb_run **out, kaena_err *err)
{
    tpb_run *run = calloc(1, sizeof *run);
    if (run)
        run->core = aligned_alloc(_Alignof(core), n * sizeof *run->core);
    if (!run || !run->core) {
        free(run);
        return KAENA_FAIL(err, RESOURCE_EXHAUSTED, "no memory for a run of %u TPBs", n);
    }
    memset(run->core, 0, n * sizeof *run->core);
    run->n = n;
    for (uint32_t i = 0; i < n; i++) {
        run->core[i].code = code[i];
        run->core[i].bind = &bind[i];
    }
    tpb_run_reset(run);
    *out = run;
    return KAENA_OK;
}

tpb_run *tpb_run_destroy(tpb_run *run)
{
    if (run) {
        free(run->core);
        free(run);
    }
    return NULL;
}

static uint64_t now_ns(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void clock_set(tpb_clock *clock, uint64_t ns, bool runs)
{
    atomic_store_explicit(clock, ns << 1 | runs, memory_order_release);
}

static uint64_t clock_at(uint64_t word, uint64_t now)
{
    return word & 1 ? (now + (word >> 1)) & (UINT64_MAX >> 1) : word >> 1;
}

uint64_t tpb_clock_read(tpb_clock *clock)
{
    uint64_t word = atomic_load_explicit(clock, memory_order_acquire);
    return clock_at(word, word & 1 ? now_ns() : 0); /* later than the beginning in |word| */
}

void tpb_run_reset_in_turn(tpb_run *run, const tpb_order *order)
{
    for (uint32_t i = 0; i < run->n; i++) {
        core *c = &run->core[i];
        const tpb_turn *turn = order->turn ? &order->turn[i] : NULL;
        for (uint32_t s = 0; s < KISA_SEMAPHORES; s++)
            atomic_store_explicit(&c->sem[s], 0, memory_order_relaxed);
        c->pc = c->depth = 0;
        c->tile = NULL;
        if (c->now != (turn ? turn->now : NULL))
            c->now = turn ? turn->now : NULL;
        atomic_store_explicit(&c->mine, turn ? turn->mine : 0, memory_order_relaxed);
        c->clock = turn ? turn->clock : NULL;
        c->began = false;
        c->stop = order->stop;
        memset(c->turns, 0, sizeof c->turns);
    }
    const uint32_t threads = order->threads;
    atomic_store_explicit(&run->lanes,
                          threads < 1           ? 1
                          : threads > MAX_LANES ? MAX_LANES
                                                : threads,
                          memory_order_relaxed);
    run->begin = order->begin;
    run->begin_user = order->user;
    atomic_store_explicit(&run->verdict, order->begin ? UNASKED : GO, memory_order_relaxed);
    atomic_store_explicit(&run->stopped, false, memory_order_relaxed);
    atomic_store_explicit(&run->cut, false, memory_order_relaxed);
    atomic_store_explicit(&run->busy_ns, 0, memory_order_relaxed);
    atomic_store_explicit(&run->halted, 0, memory_order_relaxed);
    for (uint32_t i = 0; i < run->n; i++)
        atomic_store_explicit(&run->core[i].state, order->turn ? GATED : READY,
                              memory_order_release);
}

void tpb_run_reset(tpb_run *run)
{
    tpb_run_reset_in_turn(run, &(tpb_order){0});
}

bool tpb_run_stopped(const tpb_run *run)
{
    return atomic_load_explicit(&run->cut, memory_order_relaxed);
}

uint64_t tpb_run_busy_ns(const tpb_run *run)
{
    return atomic_load_explicit(&run->busy_ns, memory_order_relaxed);
}

void tpb_run_on_work(tpb_run *run, const tpb_watch *watch)
{
    run->watch = *watch;
}

/* --- One node ----------------------------------------------------------------------------------
 */

/* The stationary tile is a value: what is not read-only is copied. */
static void load_tile(core *c, const kisa_ldw *f)
{
    const kisa_operand *w = &f->weights;
    const uint8_t *p = tpb_address(c->bind, w, c->turns);
    c->tile_panels = w->count[1];
    c->tile = p;
    c->tile_stride = w->count[1] > 1 ? w->stride[1] : 0;
    if (w->space == KISA_WEIGHTS)
        return;
    size_t bytes = (size_t)w->count[2] * 64;
    for (uint32_t i = 0; i < w->count[1]; i++)
        memcpy(c->tile_copy + i * bytes, p + i * c->tile_stride, bytes);
    c->tile = c->tile_copy;
    c->tile_stride = (int64_t)bytes;
}

static void matmul(core *c, const kisa_matmul *f)
{
    const ker_mm_tile whole = {.k = f->moving.count[3]};
    ker_mm_args a = {
        .x = tpb_resolve(c->bind, &f->moving, c->turns),
        .w = c->tile,
        .panel_stride = c->tile_stride,
        .panels = c->tile_panels,
        .tile = &whole,
        .n_tiles = 1,
        .psum = (float *)(void *)(c->bind->psum + (size_t)f->psum_row * KISA_PSUM_ROW_BYTES),
        .accumulate = f->accumulate != 0};
    tpb_matmul(c->bind->ker, &a, 0, a.x.count[0] * a.x.count[1] * a.x.count[2]);
}

/* Asked by who owns the TPB or holds a chunk of it. */
static bool told_to_stop(const core *c)
{
    return c->stop && atomic_load_explicit(c->stop, memory_order_relaxed);
}

static void run_chunk(const core *c, const tpb_op *op, const uint32_t *turns, uint32_t chunk)
{
    if (told_to_stop(c))
        return;
    const tpb_unit *u = op->unit;
    while (chunk >= u->first_chunk + u->n_chunks)
        u++;
    tpb_unit_run(u, c->bind, turns, chunk - u->first_chunk, c->stop);
}

static void add_to_semaphores(tpb_run *run, const kisa_signal *f)
{
    for (uint32_t i = 0; i < run->n; i++)
        if (f->mask >> i & 1)
            atomic_fetch_add_explicit(&run->core[i].sem[f->sem], f->amount, memory_order_release);
}

static bool satisfied(core *c)
{
    uint32_t sem = atomic_load_explicit(&c->wait_sem, memory_order_relaxed);
    return atomic_load_explicit(&c->sem[sem], memory_order_acquire) >=
           atomic_load_explicit(&c->wait_value, memory_order_relaxed);
}

/* Executes a node of control or an unfused matrix instruction and moves on; false where the TPB
 * stands still. */
static bool step(tpb_run *run, core *c, const tpb_node *node)
{
    switch (node->kind) {
    case TPB_NODE_HALT:
        return false;
    case TPB_NODE_LOOP:
        c->turns[c->depth++] = 0;
        break;
    case TPB_NODE_END:
        if (++c->turns[c->depth - 1] < node->count) {
            c->pc = node->target + 1;
            return true;
        }
        c->turns[--c->depth] = 0;
        break;
    case TPB_NODE_SIGNAL:
        add_to_semaphores(run, &node->inst->u.signal);
        wake(run);
        break;
    case TPB_NODE_WAIT:
        atomic_store_explicit(&c->wait_sem, node->inst->u.wait.sem, memory_order_relaxed);
        atomic_store_explicit(&c->wait_value, node->inst->u.wait.value, memory_order_relaxed);
        if (!satisfied(c))
            return false;
        break;
    case TPB_NODE_LDW:
        load_tile(c, &node->inst->u.ldw);
        break;
    case TPB_NODE_MATMUL:
        matmul(c, &node->inst->u.matmul);
        break;
    case TPB_NODE_OP:
        for (uint32_t i = 0; i < node->op.n_chunks; i++)
            run_chunk(c, &node->op, c->turns, i);
        break;
    }
    c->pc++;
    return true;
}

/* --- Threads -----------------------------------------------------------------------------------
 */

/* Late helpers of an execution may ask in the next. */
static uint32_t lanes_of(const tpb_run *run)
{
    return atomic_load_explicit(&run->lanes, memory_order_relaxed);
}

/* Where the first |part| of |parts| of the operation's work ends. */
static uint32_t share_end(const tpb_op *op, uint32_t part, uint32_t parts)
{
    if (part == parts)
        return op->n_chunks;
    float ns = op->ns * (float)part / (float)parts;
    const tpb_unit *u = op->unit, *end = u + op->n_units;
    for (; u + 1 < end && ns >= u->chunk_ns * (float)u->n_chunks; u++)
        ns -= u->chunk_ns * (float)u->n_chunks;
    uint32_t chunks = (uint32_t)(ns / u->chunk_ns + 0.5f);
    return u->first_chunk + (chunks < u->n_chunks ? chunks : u->n_chunks);
}

/* A thread that is preempted with a chunk in hand keeps all others waiting for it. Where that has
 * happened it gives its processor away itself, often and with nothing in hand. */
typedef struct pace {
    uint64_t now, slice_began, contended_until; /* ticks */
} pace;

/* Of the processor's time stamp counter, which runs at 2 to 4 GHz: the limits are what they say, or
 * down to half of it. The clocks of the system wait for all loads under way, the weights called
 * ahead among them: 3 % of a chunk of one microsecond. */
#define TICKS_PER_US UINT64_C(2000)
#define PREEMPTED_TICKS (1000 * TICKS_PER_US)   /* chunks take some 10 microseconds */
#define CONTENDED_TICKS (100000 * TICKS_PER_US) /* how long it is believed */
#define SLICE_TICKS (1000 * TICKS_PER_US)       /* shorter than the scheduler's */

static bool slice_is_over(const pace *p)
{
    return p->now < p->contended_until && p->now - p->slice_began > SLICE_TICKS;
}

static void give_way(pace *p)
{
    (void)sched_yield();
    p->slice_began = p->now = __rdtsc();
}

/* A chunk of a published operation that this thread has promised to run. */
static void run_promised(const core *c, const tpb_op *op, const uint32_t *turns, uint32_t chunk,
                         pace *p)
{
    run_chunk(c, op, turns, chunk);
    uint64_t ended = __rdtsc();
    if (ended - p->now > PREEMPTED_TICKS) {
        p->contended_until = ended + CONTENDED_TICKS;
        p->slice_began = ended;
    }
    p->now = ended;
}

/* Where there is one TPB, or one thread, each thread is as good as the others. */
static bool has_homes(const tpb_run *run)
{
    return run->n > 1 && lanes_of(run) > 1;
}

/* Whether the thread of |seat| is the one to carry |c| on: it has in its cache what the TPB reads
 * next. */
static bool is_home(const tpb_run *run, const core *c, uint32_t seat)
{
    return !has_homes(run) || (uint32_t)(c - run->core) % lanes_of(run) == seat;
}

/* Counts |n| chunks of the operation as finished. True: they were the last, and this thread owns
 * the TPB now; where it is not at home it leaves that to who is. */
static bool count_finished(const tpb_run *run, core *c, const tpb_op *op, uint32_t seat, uint32_t n)
{
    /* Until ours are counted it is not over. The publisher counts one more. */
    const uint32_t all = op->n_chunks + 1;
    if (atomic_fetch_add_explicit(&c->done, n, memory_order_acq_rel) + n != all)
        return false;
    c->pc++;
    const bool home = is_home(run, c, seat);
    atomic_store_explicit(&c->state, home ? RUNNING : READY, memory_order_release);
    return home;
}

/* Offers the chunks of an operation to all threads, all but the first of lane |seat|, if it has
 * one: that is run here, unless it is somebody else's turn. Returns what the caller has still to
 * count: as long as that is more than 0 the operation is not over. */
static uint32_t publish(const tpb_run *run, core *c, const tpb_op *op, uint32_t seat, pace *p)
{
    const uint32_t lanes = lanes_of(run);
    const bool away = slice_is_over(p);
    uint32_t begin = 0, first = UINT32_MAX;
    atomic_store_explicit(&c->done, 0, memory_order_relaxed);
    atomic_store_explicit(&c->state, PUBLISHED, memory_order_relaxed);
    for (uint32_t i = 0; i < lanes; i++) {
        lane *l = &c->lane[i];
        const uint32_t end = share_end(op, i + 1, lanes);
        l->op = op;
        l->end = end;
        memcpy(l->turns, c->turns, sizeof l->turns);
        if (i == seat && !away && begin < end)
            first = begin++;
        atomic_store_explicit(&l->left, end - begin, memory_order_release);
        begin = end;
    }
    if (run->watch.hint)
        run->watch.hint(run->watch.user);
    if (first == UINT32_MAX)
        return 1;
    run_promised(c, op, c->turns, first, p);
    return 2;
}

/* Runs chunks of the published operation as long as there are any, those of lane |seat| first;
 * |op|: NULL, or the one of which this thread has |finished| still to count. True: it has finished
 * the last one and owns the TPB now. */
static bool help_with(const tpb_run *run, core *c, uint32_t seat, const tpb_op *op,
                      uint32_t finished, pace *p, bool *worked)
{
    const uint32_t lanes = lanes_of(run);
    for (uint32_t i = 0; i < lanes; i++) {
        lane *l = &c->lane[(seat + i) % lanes];
        while (atomic_load_explicit(&l->left, memory_order_relaxed) > 0) {
            if (slice_is_over(p)) {
                if (finished && count_finished(run, c, op, seat, finished))
                    return true;
                finished = 0;
                give_way(p);
            }
            int64_t left = atomic_fetch_sub_explicit(&l->left, 1, memory_order_acquire);
            if (left <= 0)
                break;
            op = l->op;
            run_promised(c, op, l->turns, l->end - (uint32_t)left, p);
            finished++;
            *worked = true;
        }
    }
    return finished && count_finished(run, c, op, seat, finished);
}

/* Whether the run is to stop. Who finds it out calls those who wait for what will not happen. */
static bool is_stopped(tpb_run *run, const core *c)
{
    if (atomic_load_explicit(&run->stopped, memory_order_relaxed))
        return true;
    if (!told_to_stop(c))
        return false;
    atomic_store_explicit(&run->stopped, true, memory_order_release);
    wake(run);
    return true;
}

/* The TPB of this thread is through, |early| or not: the next in turn may have it. */
static void halt(tpb_run *run, core *c, bool early)
{
    if (early) {
        bool begun = atomic_load_explicit(&run->verdict, memory_order_relaxed) == GO;
        if (begun && c->bind->sb_bytes)
            memset(c->bind->sb, 0, c->bind->sb_bytes);
        if (begun && c->bind->psum_bytes)
            memset(c->bind->psum, 0, c->bind->psum_bytes);
        atomic_store_explicit(&run->cut, true, memory_order_relaxed);
    }
    atomic_store_explicit(&c->state, HALTED, memory_order_release);
    if (c->now) {
        if (c->clock && c->began) {
            uint64_t ended = now_ns();
            clock_set(c->clock, clock_at(*c->clock, ended), false);
            atomic_fetch_add_explicit(&run->busy_ns, ended - c->began_ns, memory_order_relaxed);
        }
        atomic_fetch_add_explicit(c->now, 1, memory_order_release);
        wake(run);
    }
    /* Last: when all have halted the run may be used anew. */
    atomic_fetch_add_explicit(&run->halted, 1, memory_order_release);
}

/* Carries on a TPB this thread owns until it stands still, its operation is in other hands, or it
 * is time to look around. */
static void advance(tpb_run *run, core *c, uint32_t seat, pace *p)
{
    bool worked = false;
    for (uint32_t i = 0; i < NODES_PER_HELP; i++) {
        const tpb_node *node = &c->code->node[c->pc];
        if (is_stopped(run, c)) {
            halt(run, c, node->kind != TPB_NODE_HALT);
            return;
        }
        if (node->kind == TPB_NODE_OP && !node->op.alone) {
            uint32_t held = publish(run, c, &node->op, seat, p);
            if (!help_with(run, c, seat, &node->op, held, p, &worked))
                return;
            continue;
        }
        if (step(run, c, node))
            continue;
        if (node->kind == TPB_NODE_WAIT)
            atomic_store_explicit(&c->state, WAITING, memory_order_release);
        else
            halt(run, c, false);
        return;
    }
    atomic_store_explicit(&c->state, READY, memory_order_release);
}

static bool gate_open(const core *c)
{
    return atomic_load_explicit(c->now, memory_order_acquire) ==
           atomic_load_explicit(&c->mine, memory_order_relaxed);
}

/* The first TPB whose gate is open asks whether the execution is still wanted. False: another
 * thread is asking. */
static bool ask_to_begin(tpb_run *run)
{
    uint32_t have = atomic_load_explicit(&run->verdict, memory_order_acquire);
    if (have == GO || have == REFUSED)
        return true;
    if (have != UNASKED ||
        !atomic_compare_exchange_strong_explicit(&run->verdict, &have, ASKING, memory_order_acquire,
                                                 memory_order_acquire))
        return have == GO || have == REFUSED;
    bool wanted = run->begin(run->begin_user);
    if (!wanted)
        atomic_store_explicit(&run->stopped, true, memory_order_relaxed);
    atomic_store_explicit(&run->verdict, wanted ? GO : REFUSED, memory_order_release);
    if (run->n > 1) /* whoever came meanwhile has left again */
        wake(run);
    return true;
}

/* The gate was found open, the TPB is this thread's. */
static bool enter(tpb_run *run, core *c)
{
    if (!gate_open(c) || !ask_to_begin(run))
        return false;
    c->began = !atomic_load_explicit(&run->stopped, memory_order_relaxed);
    if (c->clock && c->began) {
        c->began_ns = now_ns();
        clock_set(c->clock, clock_at(*c->clock, 0) - c->began_ns, true);
    }
    return true;
}

/* Takes a TPB that can go on. */
static bool claim(tpb_run *run, core *c)
{
    uint32_t state = atomic_load_explicit(&c->state, memory_order_acquire);
    bool ready = state == READY || (state == GATED && gate_open(c)) ||
                 (state == WAITING &&
                  (satisfied(c) || atomic_load_explicit(&run->stopped, memory_order_acquire)));
    if (!ready)
        return false;
    if (!atomic_compare_exchange_strong_explicit(&c->state, &state, RUNNING, memory_order_acquire,
                                                 memory_order_relaxed))
        return false;
    /* What was read before may have been of an earlier execution. A WAIT is looked at again in any
     * case, a gate here. */
    if (state == GATED && !enter(run, c)) {
        atomic_store_explicit(&c->state, GATED, memory_order_release);
        return false;
    }
    return true;
}

/* One look round; false: nothing to do. |patient|: no TPB is taken on that is at home elsewhere. */
static bool help(tpb_run *run, uint32_t seat, bool patient)
{
    /* Where this thread worked last: its cache has the data. */
    static _Thread_local uint32_t last;
    static _Thread_local pace p;
    p.now = __rdtsc();
    for (uint32_t i = 0; i < run->n; i++) {
        uint32_t at = (last + i) % run->n;
        core *c = &run->core[at];
        if ((!patient || is_home(run, c, seat)) && claim(run, c)) {
            last = at;
            advance(run, c, seat, &p);
            return true;
        }
    }
    for (uint32_t i = 0; i < run->n; i++) {
        uint32_t at = (last + i) % run->n;
        bool worked = false;
        if (help_with(run, &run->core[at], seat, NULL, 0, &p, &worked))
            advance(run, &run->core[at], seat, &p);
        if (worked)
            return true;
    }
    return false;
}

/* The seat of last time where it is free and one of those that TPBs are at home with, else the
 * first that is free; |*taken| false: there is none, it is shared. */
static uint32_t sit_down(tpb_run *run, bool *taken)
{
    static _Thread_local uint32_t last;
    const uint32_t lanes = lanes_of(run);
    const bool stays = last < lanes && (last < run->n || run->n == 1);
    for (uint32_t i = stays ? 0 : 1; i <= lanes; i++) {
        uint32_t seat = i == 0 ? last : i - 1, bit = 1u << seat;
        if (!(atomic_fetch_or_explicit(&run->seats, bit, memory_order_relaxed) & bit)) {
            last = seat;
            *taken = true;
            return seat;
        }
    }
    *taken = false;
    return last % lanes;
}

static bool is_done(const tpb_run *run)
{
    return atomic_load_explicit(&run->halted, memory_order_acquire) == run->n;
}

tpb_help tpb_run_help(tpb_run *run, const _Atomic uint32_t *wanting)
{
    if (is_done(run))
        return TPB_DONE;
    bool taken, worked = false;
    uint32_t seat = sit_down(run, &taken), saved = _mm_getcsr();
    _mm_setcsr(MXCSR_RUN);
    /* It may be that nobody else comes: a thread that is IDLE has looked at every TPB. */
    const uint32_t patience = has_homes(run) ? HOME_POLLS : 0;
    for (uint32_t idle = 0; idle < IDLE_POLLS;) {
        if (help(run, seat, idle < patience)) {
            worked = true;
            idle = 0;
        } else {
            idle++;
            for (int i = 0; i < PAUSES; i++)
                _mm_pause();
        }
        bool stays = wanting && atomic_load_explicit(wanting, memory_order_relaxed) == 1;
        if (is_done(run) || (!stays && (worked || idle > patience)))
            break;
    }
    _mm_setcsr(saved);
    if (taken)
        atomic_fetch_and_explicit(&run->seats, ~(1u << seat), memory_order_relaxed);
    return is_done(run) ? TPB_DONE : worked ? TPB_WORKED : TPB_IDLE;
}

void tpb_run_alone(tpb_run *run)
{
    while (tpb_run_help(run, NULL) != TPB_DONE)
        ;
}

/* --- Single step -------------------------------------------------------------------------------
 */

void tpb_step_one(tpb_run *run, uint32_t tpb, tpb_step *state)
{
    core *c = &run->core[tpb];
    const tpb_node *node = &c->code->node[c->pc];
    uint32_t saved = _mm_getcsr();
    _mm_setcsr(MXCSR_RUN);
    bool moved = step(run, c, node);
    _mm_setcsr(saved);
    *state = (tpb_step){.pc = c->pc,
                        .depth = c->depth,
                        .halted = node->kind == TPB_NODE_HALT,
                        .waiting = !moved && node->kind == TPB_NODE_WAIT};
    memcpy(state->turns, c->turns, sizeof state->turns);
}
