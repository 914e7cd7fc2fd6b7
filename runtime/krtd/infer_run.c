#include "infer_run.h"

#include <inttypes.h>

/* A request takes the completion-queue thread only for this long. */
#define INLINE_NS 50000
/* Larger inputs are copied by a starter, so that health checks need not wait. */
#define COPY_HERE_BYTES (256 * 1024)

static void run_items(krt_daemon *d, krt_item *items);
static void resume(krpc_timer *timer, bool fired);
static void watch(krpc_timer *timer, bool fired);

static krt_model *model_of_flow(krt_flow *f)
{
    return (krt_model *)(void *)((char *)f - offsetof(krt_model, flow));
}

/* ---- answers of what never ran ---- */

static void count_failure(krt_model *m)
{
    (void)pthread_mutex_lock(&m->lock);
    m->failures++;
    (void)pthread_mutex_unlock(&m->lock);
}

/* What has become of a request whose answer nobody waits for any more. */
static void say_pointless(const krt_inference *r, bool ran, kaena_err *err)
{
    uint64_t now = krt_now_ns();
    double ms = (double)(now - r->accepted_ns) / 1e6;
    const char *where = ran ? "while it ran" : "in the queue; it never ran";
    if (r->item.deadline_ns <= now)
        (void)KAENA_FAIL(err, DEADLINE_EXCEEDED, "model '%s': the deadline passed after %.1f ms %s",
                         r->m->name, ms, where);
    else
        (void)KAENA_FAIL(err, CANCELLED, "model '%s': cancelled after %.1f ms %s", r->m->name, ms,
                         where);
}

static void fail_expired(krt_item *items)
{
    for (krt_item *i = items, *next; i; i = next) {
        next = i->after;
        krt_inference *r = krt_inference_of_item(i);
        kaena_err err;
        count_failure(r->m);
        say_pointless(r, false, &err);
        krt_inference_fail(r, &err);
    }
}

/* ---- the scheduler ---- */

/* Feeds the scheduler and answers what has expired; the caller runs |actions->start|. */
static void step(krt_daemon *d, const krt_event *event, krt_actions *actions)
{
    uint64_t due = UINT64_MAX;
    (void)pthread_mutex_lock(&d->sched_lock);
    krt_sched_step(&d->sched, event, actions);
    for (krt_flow *f = actions->resume; f; f = f->after)
        krt_model_ref(model_of_flow(f));
    for (const krt_item *i = actions->start; i; i = i->after) {
        uint64_t limit = model_of_flow(i->flow)->timeout_ns;
        if (limit && event->now_ns + limit < due)
            due = event->now_ns + limit;
    }
    if (due < d->watch_ns) {
        bool move = d->watch_ns != UINT64_MAX;
        d->watch_moved = d->watch_moved || move;
        d->watch_ns = due;
        d->watch.fn = watch;
        if (move)
            krpc_timer_cancel(&d->watch);
        else
            krpc_timer_start(d->server, &d->watch, due);
    }
    (void)pthread_mutex_unlock(&d->sched_lock);
    for (krt_flow *f = actions->resume, *next; f; f = next) {
        next = f->after;
        model_of_flow(f)->resume.fn = resume;
        krpc_timer_start(d->server, &model_of_flow(f)->resume, 0);
    }
    fail_expired(actions->expired);
}

static void feed(krt_daemon *d, const krt_event *event, krt_actions *actions)
{
    step(d, event, actions);
    run_items(d, actions->start);
}

static void resume(krpc_timer *timer, bool fired)
{
    (void)fired; /* the server ends when nothing waits any more */
    krt_model *m = (krt_model *)((char *)timer - offsetof(krt_model, resume));
    krt_actions actions;
    krt_event event = {.kind = KRT_RESUME, .flow = &m->flow, .now_ns = krt_now_ns(), .here = true};
    feed(m->daemon, &event, &actions);
    (void)krt_model_unref(m);
}

/* ---- executions that take too long ---- */

/* Stops what is over its time; returns when the next may be, UINT64_MAX: nothing is limited. */
static uint64_t stop_overdue(krt_daemon *d, uint64_t now)
{
    uint64_t next = UINT64_MAX;
    for (krt_item *i = d->sched.running; i; i = i->next) {
        krt_inference *r = krt_inference_of_item(i);
        uint64_t limit = r->m->timeout_ns, begun = atomic_load(&r->begun_ns);
        if (!limit || atomic_load(&r->timed_out))
            continue;
        uint64_t due = (begun ? begun : now) + limit;
        if (due > now) {
            next = due < next ? due : next;
            continue;
        }
        atomic_store(&r->timed_out, true);
        atomic_store(&r->stop, true);
    }
    return next;
}

/* Waits while something runs that has a limit: at most one call per limit and not one when idle. */
static void watch(krpc_timer *timer, bool fired)
{
    krt_daemon *d = (krt_daemon *)((char *)timer - offsetof(krt_daemon, watch));
    (void)pthread_mutex_lock(&d->sched_lock);
    bool on = fired || d->watch_moved; /* else the server ends */
    d->watch_moved = false;
    uint64_t due = d->watch_ns = on ? stop_overdue(d, krt_now_ns()) : UINT64_MAX;
    if (due != UINT64_MAX)
        krpc_timer_start(d->server, timer, due);
    (void)pthread_mutex_unlock(&d->sched_lock);
}

/* ---- running ---- */

/* |r| has had its lane; |err| NULL: it has its outputs. What can start now is in |actions|. */
static void conclude(krt_inference *r, const kaena_err *err, krt_actions *actions)
{
    krt_model *m = r->m;
    if (err && err->code == KAENA_DATA_LOSS)
        krt_model_damaged(m, err->what);
    kaena_err too_large;
    grpc_byte_buffer *answer = err ? NULL : krt_inference_answer(r, &too_large);
    if (!err && !answer)
        err = &too_large;
    /* Not only when the answer has left: the next request can have them. */
    krt_inference_release_buffers(r);
    bool ran = atomic_load(&r->begun_ns) != 0;
    krt_event event = {.kind = KRT_FINISH,
                       .item = &r->item,
                       .now_ns = krt_now_ns(),
                       .ran_ns = ran ? r->exec.finished_ns - r->exec.started_ns + r->copy_ns : 0,
                       .used_ns = m->info.num_tpbs ? r->exec.tpb_ns / m->info.num_tpbs : 0};
    krt_model_ref(m);
    step(m->daemon, &event, actions);
    (void)pthread_mutex_lock(&m->lock);
    if (err)
        m->failures++;
    else
        m->inferences++;
    m->timeouts += err && atomic_load(&r->timed_out);
    krt_model_settle(m);
    (void)pthread_mutex_unlock(&m->lock);
    if (err)
        krt_inference_fail(r, err);
    else
        krt_inference_reply(r, answer);
    (void)krt_model_unref(m);
}

/* A TPB, or the host, is about to begin: what has expired or was cancelled until now never runs. */
static bool on_begin(krt_exec *exec)
{
    krt_inference *r = (krt_inference *)((char *)exec - offsetof(krt_inference, exec));
    uint64_t now = krt_now_ns();
    if (krt_inference_pointless(r, now))
        return false;
    atomic_store(&r->begun_ns, now);
    (void)atomic_fetch_add_explicit(&r->m->executions, 1, memory_order_relaxed);
    return true;
}

/* The error of an execution that has failed, or was given up. */
static void explain(krt_inference *r, kaena_status status, const kaena_err *why, kaena_err *out)
{
    bool begun = atomic_load(&r->begun_ns) != 0;
    if (status == KAENA_CANCELLED && atomic_load(&r->timed_out)) {
        double limit = (double)r->m->timeout_ns / 1e9;
        (void)KRT_FAIL(out, DEADLINE_EXCEEDED, EXECUTION_TIMEOUT,
                       "model '%s': stopped after %.3f s of execution, the limit is %.3f s",
                       r->m->name, (double)(r->exec.finished_ns - r->exec.started_ns) / 1e9, limit);
        kaena_err_hint(out, "its TPBs were reset, the model goes on; load it with a larger "
                            "timeout_ms, or raise limits.execution_seconds");
        return;
    }
    if (status == KAENA_CANCELLED && krt_inference_pointless(r, krt_now_ns())) {
        say_pointless(r, begun, out);
        return;
    }
    *out = *why;
    out->code = (int32_t)status;
    (void)kaena_err_wrap(out, status, "model '%s'", r->m->name);
    krt_reason_default(out, KRT_REASON(EXECUTION_FAILED));
}

static void on_done(krt_exec *exec, kaena_status status, const kaena_err *err)
{
    krt_inference *r = (krt_inference *)((char *)exec - offsetof(krt_inference, exec));
    krt_daemon *d = r->m->daemon;
    krt_actions actions;
    kaena_err e;
    if (atomic_load(&r->begun_ns)) /* else it was given up before */
        krt_stats_ran(&r->m->stats, exec->started_ns - r->accepted_ns,
                      exec->finished_ns - exec->started_ns, exec->batch_items, exec->batch_slots);
    if (status != KAENA_OK)
        explain(r, status, err, &e);
    conclude(r, status == KAENA_OK ? NULL : &e, &actions);
    run_items(d, actions.start);
}

/* On its way: |on_done| follows, or has been. Else it never began. */
static kaena_status launch(krt_inference *r, bool here, kaena_err *err)
{
    const krt_backend *backend = r->m->daemon->backend;
    if (krt_inference_pointless(r, krt_now_ns())) {
        say_pointless(r, false, err);
        return (kaena_status)err->code;
    }
    KAENA_TRY(krt_inference_copy(r, err));
    if (r->m->info.values) {
        r->exec.in_tensor = r->selection.values;
        r->exec.out_tensor = r->out_tensor;
    } else {
        r->exec.in = r->in_ptr;
        r->exec.out = r->out_ptr;
    }
    r->exec.stop = &r->stop;
    r->exec.begin = on_begin;
    r->exec.done = on_done;
    uint32_t replica = r->item.lane;
    if (here ? backend->run(r->m->image, replica, &r->exec)
             : backend->submit(r->m->image, replica, &r->exec))
        return KAENA_OK;
    /* The scheduler starts no more than there are contexts. */
    return KAENA_FAIL(err, INTERNAL, "model '%s': no execution context is free", r->m->name);
}

static void launch_job(krt_job *job)
{
    krt_inference *r = (krt_inference *)((char *)job - offsetof(krt_inference, job));
    krt_daemon *d = r->m->daemon;
    krt_actions actions;
    kaena_err err;
    if (launch(r, false, &err) == KAENA_OK)
        return;
    conclude(r, &err, &actions);
    run_items(d, actions.start);
}

/* What fails before it begins makes room for others: a list, so that many do not nest. */
static void run_items(krt_daemon *d, krt_item *items)
{
    krt_item **last = &items;
    while (items) {
        krt_inference *r = krt_inference_of_item(items);
        items = items->after;
        bool here = r->item.here && d->backend->idle(r->m->image, r->item.lane);
        if (!here && r->selection.input_bytes > COPY_HERE_BYTES) {
            r->job.run = launch_job;
            krt_jobs_post(d->starters, &r->job);
            continue;
        }
        krt_actions more = {0};
        kaena_err err;
        if (launch(r, here, &err) != KAENA_OK)
            conclude(r, &err, &more);
        for (last = &items; *last;)
            last = &(*last)->after;
        *last = more.start;
    }
}

/* ---- arrival, cancellation, the end of a model ---- */

static void refuse(krt_model *m, const krt_actions *actions, kaena_err *err)
{
    (void)pthread_mutex_lock(&m->daemon->sched_lock);
    uint32_t queued = m->flow.n_queued, depth = m->flow.depth;
    (void)pthread_mutex_unlock(&m->daemon->sched_lock);
    if (!actions->refused_full) {
        (void)pthread_mutex_lock(&m->lock);
        (void)krt_model_check_state(m, err);
        (void)pthread_mutex_unlock(&m->lock);
        return;
    }
    (void)KRT_FAIL(err, RESOURCE_EXHAUSTED, QUEUE_FULL,
                   "model '%s': its queue is full: %" PRIu32 " requests wait, the limit is "
                   "%" PRIu32,
                   m->name, queued, depth);
    err->needed = (uint64_t)queued + 1;
    err->available = depth;
    kaena_err_hint(err, "send fewer at a time, try again later, or load it with a larger "
                        "queue_depth");
}

void krt_run_arrive(krt_inference *r)
{
    krt_model *m = r->m;
    krt_actions actions;
    krt_event event = {.kind = KRT_ARRIVE,
                       .flow = &m->flow,
                       .item = &r->item,
                       .now_ns = r->accepted_ns,
                       .here = true};
    krt_model_ref(m);
    step(m->daemon, &event, &actions);
    /* The hold of its creation: from here what runs keeps the image, and a queue is emptied before
     * the image goes. */
    (void)pthread_mutex_lock(&m->lock);
    m->holds--;
    krt_model_settle(m);
    (void)pthread_mutex_unlock(&m->lock);
    if (actions.refused_full || actions.refused_closed) {
        kaena_err err;
        r->refused = true;
        refuse(m, &actions, &err);
        krt_inference_fail(r, &err);
    }
    run_items(m->daemon, actions.start);
    (void)krt_model_unref(m);
}

void krt_run_cancel(krt_inference *r)
{
    atomic_store(&r->stop, true);
    krt_actions actions;
    krt_event event = {.kind = KRT_CANCEL, .item = &r->item, .now_ns = krt_now_ns()};
    feed(r->m->daemon, &event, &actions);
}

void krt_run_open(krt_model *m)
{
    m->flow.holds = m->info.device_only;
    m->flow.quick_ns = m->info.device_only ? INLINE_NS : 0;
}

void krt_run_close(krt_model *m, const kaena_err *err)
{
    krt_actions actions;
    krt_event event = {.kind = KRT_CLOSE, .flow = &m->flow, .now_ns = krt_now_ns()};
    krt_model_ref(m);
    step(m->daemon, &event, &actions);
    for (krt_item *i = actions.aborted, *next; i; i = next) {
        next = i->after;
        count_failure(m);
        krt_inference_fail(krt_inference_of_item(i), err);
    }
    run_items(m->daemon, actions.start);
    (void)krt_model_unref(m);
}
