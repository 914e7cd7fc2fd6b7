#include "infer_run.h"

#include <inttypes.h>

/* A request takes the completion-queue thread only for this long. */
#define INLINE_NS 50000
/* Larger inputs are copied by a starter, so that health checks need not wait. */
#define COPY_HERE_BYTES (256 * 1024)

static void start(krt_inference *r, bool here);
static void resume(krpc_timer *timer, bool fired);

void krt_infer_fail_items(krt_item *items, const kaena_err *err)
{
    for (krt_item *i = items, *next; i; i = next) {
        next = i->next;
        krt_inference_fail(krt_inference_of_item(i), err);
    }
}

static void fail_expired(krt_item *items)
{
    for (krt_item *i = items, *next; i; i = next) {
        next = i->next;
        krt_inference *r = krt_inference_of_item(i);
        kaena_err err;
        uint64_t now = krt_now_ns();
        double ms = (double)(now - r->accepted_ns) / 1e6;
        if (r->item.deadline_ns <= now)
            (void)KAENA_FAIL(&err, DEADLINE_EXCEEDED,
                             "model '%s': the deadline passed after %.1f ms in the queue; the "
                             "request never ran",
                             r->m->name, ms);
        else
            (void)KAENA_FAIL(&err, CANCELLED,
                             "model '%s': cancelled after %.1f ms in the queue; never ran",
                             r->m->name, ms);
        krt_inference_fail(r, &err);
    }
}

/* ---- running ---- */

/* Feeds the queue and does what it says, but for a refusal, which is the arrival's. |may_run_here|:
 * this is the completion-queue thread, and no execution is on its stack. */
static void step(krt_model *m, const krt_event *event, krt_actions *actions, bool may_run_here)
{
    (void)pthread_mutex_lock(&m->lock);
    bool small = m->info.device_only && m->run_ns && m->run_ns <= INLINE_NS;
    m->queue.contexts = small ? may_run_here : m->info.contexts;
    krt_queue_step(&m->queue, event, actions);
    for (const krt_item *i = actions->expired; i; i = i->next)
        m->failures++;
    if (m->queue.head && !m->queue.n_running && !m->resuming) {
        m->resuming = true;
        krt_model_ref(m);
        m->resume.fn = resume;
        krpc_timer_start(m->daemon->server, &m->resume, 0);
    }
    krt_model_settle(m);
    (void)pthread_mutex_unlock(&m->lock);
    fail_expired(actions->expired);
    for (krt_item *i = actions->start, *next; i; i = next) {
        next = i->next;
        start(krt_inference_of_item(i), small && may_run_here);
    }
}

static void resume(krpc_timer *timer, bool fired)
{
    (void)fired; /* the server ends when nothing waits any more */
    krt_model *m = (krt_model *)((char *)timer - offsetof(krt_model, resume));
    (void)pthread_mutex_lock(&m->lock);
    m->resuming = false;
    (void)pthread_mutex_unlock(&m->lock);
    krt_actions actions;
    krt_event event = {.kind = KRT_RESUME, .now_ns = krt_now_ns()};
    step(m, &event, &actions, true);
    (void)krt_model_unref(m);
}

/* |r| has had its context; |err| NULL: it has its outputs. */
static void finish(krt_inference *r, const kaena_err *err)
{
    krt_model *m = r->m;
    if (err && err->code == KAENA_DATA_LOSS)
        krt_model_damaged(m, err->what);
    kaena_err too_large;
    grpc_byte_buffer *answer = err ? NULL : krt_inference_answer(r, &too_large);
    if (!err && !answer)
        err = &too_large;
    krt_inference_release_buffers(
        r); /* not only when the answer has left: the next request can have them */
    uint64_t ran = r->exec.finished_ns - r->exec.started_ns + r->copy_ns;
    (void)pthread_mutex_lock(&m->lock);
    if (err) {
        m->failures++;
    } else {
        m->inferences++;
        /* What makes a run longer than others, an interruption or a worker's wake-up, is not the
         * model's: shorter runs count at once, longer ones slowly and double at most. */
        if (m->run_ns && ran > 2 * m->run_ns)
            ran = 2 * m->run_ns;
        m->run_ns = ran > m->run_ns && m->run_ns ? (m->run_ns * 7 + ran) / 8 : ran;
        m->run_ns += m->run_ns < 8; /* 0 stands for "not known", and must not swallow growth */
    }
    (void)pthread_mutex_unlock(&m->lock);
    krt_actions actions;
    krt_model_ref(m);
    krt_event event = {.kind = KRT_FINISH, .item = &r->item, .now_ns = krt_now_ns()};
    step(m, &event, &actions, false);
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
    if (krt_inference_pointless(r, krt_now_ns()))
        return false;
    (void)atomic_fetch_add_explicit(&r->m->executions, 1, memory_order_relaxed);
    return true;
}

static void on_done(krt_exec *exec, kaena_status status, const kaena_err *err)
{
    krt_inference *r = (krt_inference *)((char *)exec - offsetof(krt_inference, exec));
    if (status == KAENA_OK) {
        finish(r, NULL);
        return;
    }
    kaena_err e = *err;
    e.code = (int32_t)status;
    (void)kaena_err_wrap(&e, status, "model '%s'", r->m->name);
    krt_reason_default(&e, KRT_REASON(EXECUTION_FAILED));
    finish(r, &e);
}

static void launch(krt_inference *r, bool here)
{
    const krt_backend *backend = r->m->daemon->backend;
    kaena_err err;
    if (krt_inference_pointless(r, krt_now_ns())) {
        (void)KAENA_FAIL(&err, CANCELLED, "model '%s': cancelled, or out of time, before it ran",
                         r->m->name);
        finish(r, &err);
        return;
    }
    if (krt_inference_copy(r, &err) != KAENA_OK) {
        finish(r, &err);
        return;
    }
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
    if (here ? backend->run(r->m->image, &r->exec) : backend->submit(r->m->image, &r->exec))
        return;
    /* The queue starts no more than there are contexts. */
    (void)KAENA_FAIL(&err, INTERNAL, "model '%s': no execution context is free", r->m->name);
    finish(r, &err);
}

static void launch_job(krt_job *job)
{
    launch((krt_inference *)((char *)job - offsetof(krt_inference, job)), false);
}

static void start(krt_inference *r, bool here)
{
    here = here && r->m->daemon->backend->idle(r->m->image);
    if (here || r->selection.input_bytes <= COPY_HERE_BYTES) {
        launch(r, here);
        return;
    }
    r->job.run = launch_job;
    krt_jobs_post(r->m->daemon->starters, &r->job);
}

/* ---- arrival and cancellation ---- */

static void refuse(krt_model *m, const krt_actions *actions, kaena_err *err)
{
    (void)pthread_mutex_lock(&m->lock);
    if (actions->refused_full) {
        (void)KRT_FAIL(err, RESOURCE_EXHAUSTED, QUEUE_FULL,
                       "model '%s': its queue is full: %" PRIu32 " requests wait, the limit is "
                       "%" PRIu32,
                       m->name, m->queue.n_queued, m->queue.depth);
        err->needed = (uint64_t)m->queue.n_queued + 1;
        err->available = m->queue.depth;
        kaena_err_hint(err, "send fewer at a time, try again later, or load it with a larger "
                            "queue_depth");
    } else {
        (void)krt_model_check_state(m, err);
    }
    (void)pthread_mutex_unlock(&m->lock);
}

void krt_run_arrive(krt_inference *r)
{
    krt_model *m = r->m;
    krt_actions actions;
    krt_event event = {.kind = KRT_ARRIVE, .item = &r->item, .now_ns = r->accepted_ns};
    krt_model_ref(m);
    (void)pthread_mutex_lock(&m->lock);
    m->holds--; /* of its creation: from here the queue's count keeps the image */
    (void)pthread_mutex_unlock(&m->lock);
    step(m, &event, &actions, true);
    if (actions.refused_full || actions.refused_closed) {
        kaena_err err;
        r->refused = true;
        refuse(m, &actions, &err);
        krt_inference_fail(r, &err);
    }
    (void)krt_model_unref(m);
}

void krt_run_cancel(krt_inference *r)
{
    atomic_store(&r->stop, true);
    krt_actions actions;
    krt_event event = {.kind = KRT_CANCEL, .item = &r->item};
    step(r->m, &event, &actions, false);
}
