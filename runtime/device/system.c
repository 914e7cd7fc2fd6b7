/* Threads: workers take contexts whose plan wants a thread, and help running device steps in turn.
 * A worker that finds nothing spins for a moment, then sleeps until somebody has work: an idle
 * system does not wake up. */
#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "dev_internal.h"

#define SPIN_NS 15000 /* about what falling asleep and waking up costs */

uint64_t dev_now_ns(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void futex_wait(_Atomic uint32_t *word, uint32_t value)
{
    (void)syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, value, NULL, NULL, 0);
}

static void futex_wake(_Atomic uint32_t *word, int n)
{
    (void)syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, n, NULL, NULL, 0);
}

void dev_wake(void *system)
{
    dev_system *sys = system;
    /* Pairs with the fence of sleep_until_work: either we see the sleeper or he sees the work; and
     * with our own in another thread: a run that starts to want workers sees a TPB that we have
     * just left, or we see the run. */
    atomic_thread_fence(memory_order_seq_cst);
    if (atomic_load_explicit(&sys->sleepers, memory_order_relaxed) == 0 ||
        atomic_load_explicit(&sys->wanting, memory_order_relaxed) == 0)
        return;
    atomic_fetch_add_explicit(&sys->alarm, 1, memory_order_release);
    futex_wake(&sys->alarm, 1);
}

void dev_hint(void *system)
{
    dev_system *sys = system;
    if (atomic_load_explicit(&sys->sleepers, memory_order_relaxed))
        dev_wake(sys);
}

void dev_waiter_signal(dev_system *sys, dev_waiter *waiter)
{
    /* After the exchange the waiter may be gone; waking its address then wakes nobody. */
    uint32_t was = atomic_exchange_explicit(&waiter->state, DEV_WAITER_DONE, memory_order_acq_rel);
    if (was == DEV_WAITER_ASLEEP)
        futex_wake(&waiter->state, INT_MAX);
    if (was != DEV_WAITER_ON_CALL)
        return;
    atomic_fetch_add_explicit(&sys->alarm, 1, memory_order_release);
    futex_wake(&sys->alarm, INT_MAX);
}

void dev_want(dev_system *sys, bool wants, bool begin)
{
    if (wants)
        atomic_fetch_add_explicit(&sys->wanting, begin ? 1 : (uint32_t)-1, memory_order_relaxed);
}

static void push_ready(dev_system *sys, dev_context *c)
{
    dev_want(sys, true, true);
    c->next = NULL;
    if (sys->ready_last)
        sys->ready_last->next = c;
    else
        sys->ready_first = c;
    sys->ready_last = c;
}

void dev_make_ready(dev_context *c)
{
    dev_system *sys = c->model->sys;
    (void)pthread_mutex_lock(&sys->lock);
    push_ready(sys, c);
    (void)pthread_mutex_unlock(&sys->lock);
    dev_wake(sys);
}

/* --- Helping
 * --------------------------------------------------------------------------------------------------------------
 */

/* Takes the context off the list of running steps; with the lock held. */
static void deactivate(dev_system *sys, dev_context *c)
{
    for (uint32_t i = 0; i < sys->n_active; i++)
        if (sys->active[i] == c) {
            sys->active[i] = sys->active[--sys->n_active];
            break;
        }
    dev_want(sys, !c->alone, false);
    c->on_device = false;
}

/* Helps the running step of |c| once; called and left with the lock held, which is dropped in
 * between. True: this thread has found the step done and the context is its own now. */
static bool help_once(dev_system *sys, dev_context *c, tpb_help *did)
{
    uint64_t round = c->round;
    tpb_run *run = c->running;
    const _Atomic uint32_t *wanting = c->alone ? NULL : &sys->wanting;
    c->helpers++;
    (void)pthread_mutex_unlock(&sys->lock);
    *did = tpb_run_help(run, wanting);
    (void)pthread_mutex_lock(&sys->lock);
    if (--c->helpers == 0)
        (void)pthread_cond_broadcast(&c->model->quiet);
    if (*did != TPB_DONE || !c->on_device || c->round != round)
        return false;
    deactivate(sys, c);
    return true;
}

/* One piece of work, whatever there is; called and left with the lock held. */
static bool work_once(dev_system *sys)
{
    dev_context *c = sys->ready_first;
    if (c) {
        dev_want(sys, true, false);
        sys->ready_first = c->next;
        if (!sys->ready_first)
            sys->ready_last = NULL;
        (void)pthread_mutex_unlock(&sys->lock);
        dev_advance(c);
        (void)pthread_mutex_lock(&sys->lock);
        return true;
    }
    /* Running steps in turn: each gets its share, however long the others are. */
    for (uint32_t tried = 0, n = sys->n_active; tried < n && sys->n_active; tried++) {
        tpb_help did;
        c = sys->active[sys->cursor++ % sys->n_active];
        if (c->alone)
            continue;
        if (help_once(sys, c, &did)) {
            (void)pthread_mutex_unlock(&sys->lock);
            dev_step_done(c);
            (void)pthread_mutex_lock(&sys->lock);
            return true;
        }
        if (did != TPB_IDLE)
            return true;
    }
    return false;
}

static bool work_unlocked(dev_system *sys)
{
    (void)pthread_mutex_lock(&sys->lock);
    bool worked = work_once(sys);
    (void)pthread_mutex_unlock(&sys->lock);
    return worked;
}

/* Looks for work for a while, only where something runs. */
static bool spin(dev_system *sys)
{
    uint64_t end = 0;
    do {
        (void)pthread_mutex_lock(&sys->lock);
        bool worked = work_once(sys);
        (void)pthread_mutex_unlock(&sys->lock);
        if (worked)
            return true;
        if (atomic_load_explicit(&sys->wanting, memory_order_relaxed) == 0)
            return false;
        for (int i = 0; i < 32; i++)
            __builtin_ia32_pause();
        if (!end)
            end = dev_now_ns() + SPIN_NS;
    } while (dev_now_ns() < end);
    return false;
}

static void sleep_until_work(dev_system *sys)
{
    uint32_t alarm = atomic_load_explicit(&sys->alarm, memory_order_acquire);
    atomic_fetch_add_explicit(&sys->sleepers, 1, memory_order_relaxed);
    atomic_thread_fence(memory_order_seq_cst);
    /* Whoever published before seeing this sleeper is seen now. */
    bool worked = work_unlocked(sys);
    (void)pthread_mutex_lock(&sys->lock);
    bool stop = sys->stop;
    (void)pthread_mutex_unlock(&sys->lock);
    if (!worked && !stop)
        futex_wait(&sys->alarm, alarm);
    atomic_fetch_sub_explicit(&sys->sleepers, 1, memory_order_relaxed);
    /* Where there is work for one there may be some for two. */
    if (work_unlocked(sys))
        dev_wake(sys);
}

static void *worker(void *arg)
{
    dev_system *sys = arg;
    for (;;) {
        (void)pthread_mutex_lock(&sys->lock);
        while (work_once(sys))
            ;
        bool stop = sys->stop;
        (void)pthread_mutex_unlock(&sys->lock);
        if (stop)
            return NULL;
        if (!spin(sys))
            sleep_until_work(sys);
    }
}

/* The run turns out to be long: workers go on with it, nobody waits. False: it is not on the TPBs.
 */
static bool leave(dev_context *c, dev_waiter *waiter)
{
    dev_system *sys = c->model->sys;
    (void)pthread_mutex_lock(&sys->lock);
    bool left = c->on_device && c->waiter == waiter;
    if (left) {
        c->waiter = NULL;
        if (c->alone)
            dev_want(sys, true, true);
        c->alone = false;
    }
    (void)pthread_mutex_unlock(&sys->lock);
    if (left)
        dev_wake(sys);
    return left;
}

/* Sleeps until there is work for any thread, or |waiter| is done. */
static void sleep_on_call(dev_system *sys, dev_waiter *waiter)
{
    uint32_t alarm = atomic_load_explicit(&sys->alarm, memory_order_acquire);
    uint32_t busy = DEV_WAITER_BUSY, on_call = DEV_WAITER_ON_CALL;
    atomic_fetch_add_explicit(&sys->sleepers, 1, memory_order_relaxed);
    atomic_thread_fence(memory_order_seq_cst); /* as in sleep_until_work */
    if (!work_unlocked(sys) &&
        atomic_compare_exchange_strong_explicit(&waiter->state, &busy, DEV_WAITER_ON_CALL,
                                                memory_order_acq_rel, memory_order_acquire)) {
        futex_wait(&sys->alarm, alarm);
        (void)atomic_compare_exchange_strong_explicit(&waiter->state, &on_call, DEV_WAITER_BUSY,
                                                      memory_order_acq_rel, memory_order_acquire);
    }
    atomic_fetch_sub_explicit(&sys->sleepers, 1, memory_order_relaxed);
    if (work_unlocked(sys))
        dev_wake(sys);
}

/* Sleeps until |waiter| is done: it waits for a TPB, whoever comes by may go on with it. */
static void sleep_until_done(dev_context *c, dev_waiter *waiter)
{
    dev_system *sys = c->model->sys;
    (void)pthread_mutex_lock(&sys->lock);
    if (c->waiter == waiter) {
        c->request->alone = false; /* and with the steps that follow */
        if (c->on_device && c->alone) {
            c->alone = false;
            dev_want(sys, true, true);
        }
    }
    (void)pthread_mutex_unlock(&sys->lock);
    dev_wake(sys);
    uint32_t busy = DEV_WAITER_BUSY;
    (void)atomic_compare_exchange_strong_explicit(&waiter->state, &busy, DEV_WAITER_ASLEEP,
                                                  memory_order_acq_rel, memory_order_acquire);
    futex_wait(&waiter->state, DEV_WAITER_ASLEEP);
}

void dev_work_until(dev_context *c, dev_waiter *waiter, bool alone)
{
    dev_system *sys = c->model->sys;
    const bool may_leave = alone && sys->config.threads;
    uint64_t idle_since = 0, until = 0;
    while (atomic_load_explicit(&waiter->state, memory_order_acquire) != DEV_WAITER_DONE) {
        if (may_leave && until && dev_now_ns() >= until && leave(c, waiter))
            return;
        if (may_leave && !until)
            until = dev_now_ns() + DEV_ALONE_NS;
        tpb_help did = TPB_IDLE;
        (void)pthread_mutex_lock(&sys->lock);
        bool mine = c->on_device && c->waiter == waiter && help_once(sys, c, &did);
        (void)pthread_mutex_unlock(&sys->lock);
        if (mine)
            dev_step_done(c);
        if (mine || did != TPB_IDLE) {
            idle_since = 0;
            continue;
        }
        /* Others have all there is to do, or hold the TPBs. */
        uint64_t now = dev_now_ns();
        idle_since = idle_since ? idle_since : now;
        if (now - idle_since < SPIN_NS)
            __builtin_ia32_pause();
        else if (alone)
            sleep_until_done(c, waiter);
        else
            sleep_on_call(sys, waiter);
    }
}

/* --- Life
 * ------------------------------------------------------------------------------------------------------------------
 */

static void join_all(dev_system *sys, uint32_t n)
{
    (void)pthread_mutex_lock(&sys->lock);
    sys->stop = true;
    (void)pthread_mutex_unlock(&sys->lock);
    atomic_fetch_add_explicit(&sys->alarm, 1, memory_order_release);
    futex_wake(&sys->alarm, INT_MAX);
    for (uint32_t i = 0; i < n; i++)
        (void)pthread_join(sys->threads[i], NULL);
}

static void release(dev_system *sys)
{
    (void)pthread_mutex_destroy(&sys->lock);
    free(sys->threads);
    free(sys->active);
    free(sys);
}

kaena_status dev_system_create(const dev_config *config, dev_system **out, kaena_err *err)
{
    if (config->n_chips < 1 || config->n_chips > DEV_MAX_CHIPS)
        return KAENA_FAIL(err, INVALID_ARGUMENT, "%u chips, not 1 to %d", config->n_chips,
                          DEV_MAX_CHIPS);
    ker_level level;
    if (!ker_level_detect(&level))
        return KAENA_FAIL(err, INVALID_ARGUMENT,
                          "KRT_CPU is '%s', not avx512_bf16, avx512, avx2 or scalar",
                          getenv("KRT_CPU"));
    dev_system *sys = calloc(1, sizeof *sys);
    if (sys)
        sys->threads = calloc(config->threads + 1, sizeof *sys->threads);
    if (!sys || !sys->threads) {
        free(sys);
        return KAENA_FAIL(err, RESOURCE_EXHAUSTED, "no memory for a system");
    }
    sys->config = *config;
    sys->ker = ker_table_of(level);
    for (uint32_t i = 0; i < config->n_chips; i++)
        sys->chips[i].dram = config->dram_bytes ? config->dram_bytes : DEV_DRAM_BYTES;
    (void)pthread_mutex_init(&sys->lock, NULL);
    for (uint32_t i = 0; i < config->threads; i++) {
        int e = pthread_create(&sys->threads[i], NULL, worker, sys);
        if (e) {
            join_all(sys, i);
            release(sys);
            return KAENA_FAIL(err, RESOURCE_EXHAUSTED, "worker %u: %s", i, strerror(e));
        }
    }
    *out = sys;
    return KAENA_OK;
}

dev_system *dev_system_destroy(dev_system *sys)
{
    if (sys) {
        join_all(sys, sys->config.threads);
        release(sys);
    }
    return NULL;
}

uint64_t dev_busy_ns(dev_system *sys, uint32_t chip, uint32_t tpb)
{
    return tpb_clock_read(&sys->tpb[chip * DEV_TPBS_PER_CHIP + tpb].clock);
}

dev_tpb_info dev_tpb_info_of(dev_system *sys, uint32_t chip, uint32_t tpb)
{
    (void)pthread_mutex_lock(&sys->lock);
    const place_tpb *t = &sys->chips[chip].tpb[tpb];
    dev_tpb_info info = {.dram_bytes = sys->chips[chip].dram / DEV_TPBS_PER_CHIP,
                         .dram_used = t->used,
                         .models = t->models};
    (void)pthread_mutex_unlock(&sys->lock);
    return info;
}

dev_chip_info dev_chip_info_of(dev_system *sys, uint32_t chip)
{
    (void)pthread_mutex_lock(&sys->lock);
    dev_chip_info info = {.dram_bytes = sys->chips[chip].dram, .dram_used = sys->chips[chip].used};
    for (const dev_model *m = sys->models; m; m = m->next)
        info.models += m->place.bytes[chip] != 0 ||
                       (m->place.tpbs >> (chip * DEV_TPBS_PER_CHIP)) % (1 << DEV_TPBS_PER_CHIP);
    (void)pthread_mutex_unlock(&sys->lock);
    return info;
}
