/* Runtime.Infer: parse, check, queue, run, answer.
 *
 * Models that are done in a moment run on the completion-queue thread, one request at a time:
 * handing over to a worker and back costs more than they do. What arrives while one runs elsewhere
 * (at first nobody knows how long it takes) waits until that thread comes by. All others run on the
 * device's workers, as many at a time as the model has contexts.
 *
 * A request has two owners: whoever will answer it (the queue, then the execution), and the call's
 * on_close. Its bytes stay in the slices they came in until a context is free; then they are
 * copied, once, into a buffer of the model. */
#include <grpc/byte_buffer.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "infer_check.h"
#include "krt_model.h"
#include "rpc_pb.h"

/* A request takes the completion-queue thread only for this long. */
#define INLINE_NS 50000
/* Larger inputs are copied by a starter, so that health checks need not wait. */
#define COPY_HERE_BYTES (256 * 1024)
/* Answers up to this size go out as one slice; larger ones point into the output buffer. */
#define FLAT_BYTES 4096
/* Slices of a request that need no list from malloc. */
#define REQUEST_PIECES 24

typedef struct request {
    krt_item item;
    krt_exec exec;
    krt_job job;
    _Atomic int refs;
    krt_model *m;
    krpc_call *call;
    grpc_byte_buffer *bytes;
    krpc_piece pieces[REQUEST_PIECES];
    krpc_piece *more_pieces;
    krpc_message message;
    uint64_t accepted_ns, copy_ns;
    krt_block *in, *out;
    krt_selection selection;
    atomic_bool stop;    /* the caller has gone */
    const void **in_ptr; /* n_in, n_out: behind this struct */
    void **out_ptr;
    kop_tensor *out_tensor; /* n_out, of a model that takes values */
} request;

static void start(request *r, bool here);
static void resume(void *arg);

static request *request_of_item(krt_item *item)
{
    return (request *)((char *)item - offsetof(request, item));
}

static void release_bytes(request *r)
{
    grpc_byte_buffer_destroy(r->bytes);
    r->bytes = NULL;
    free(r->more_pieces);
    r->more_pieces = NULL;
}

static void release_buffers(request *r)
{
    krt_block_unref(r->in);
    krt_block_unref(r->out);
    r->in = r->out = NULL;
}

static void unref(request *r)
{
    if (atomic_fetch_sub(&r->refs, 1) != 1)
        return;
    krt_daemon *d = r->m->daemon;
    release_bytes(r);
    release_buffers(r);
    krt_selection_fini(&r->selection);
    (void)krt_model_unref(r->m);
    free(r);
    krt_release(d);
}

/* ---- answers ---- */

/* Outputs whose sizes are known only now; called while the device still holds them. NULL: too large
 * for a message. */
static grpc_byte_buffer *build_values_answer(request *r, kaena_err *err)
{
    const krt_selection *s = &r->selection;
    const krt_tensor *t = r->m->info.out;
    size_t total = KRPC_TAIL_MAX;
    for (size_t i = 0; i < s->n_outputs; i++) {
        size_t size = krt_value_size(t[s->outputs[i]].name, &r->out_tensor[s->outputs[i]]);
        if (size > KRT_MAX_ANSWER_BYTES || total + size > KRT_MAX_ANSWER_BYTES) {
            (void)KRT_FAIL(err, RESOURCE_EXHAUSTED, LIMIT,
                           "model '%s': output '%s' takes %zu bytes: an answer may have %u",
                           r->m->name, t[s->outputs[i]].name, size, KRT_MAX_ANSWER_BYTES);
            return NULL;
        }
        total += size;
    }
    grpc_slice slice = grpc_slice_malloc(total);
    uint8_t *to = GRPC_SLICE_START_PTR(slice);
    for (size_t i = 0; i < s->n_outputs; i++)
        to = krt_value_put(to, t[s->outputs[i]].name, &r->out_tensor[s->outputs[i]]);
    to = krpc_put_infer_tail(to, r->exec.started_ns - r->accepted_ns,
                             r->exec.finished_ns - r->exec.started_ns);
    GRPC_SLICE_SET_LENGTH(slice, (size_t)(to - GRPC_SLICE_START_PTR(slice)));
    grpc_byte_buffer *out = grpc_raw_byte_buffer_create(&slice, 1);
    grpc_slice_unref(slice);
    return out;
}

static grpc_byte_buffer *build_answer(request *r)
{
    const krt_model *m = r->m;
    const krt_selection *s = &r->selection;
    grpc_slice slices[2 * KRPC_MAX_TENSORS + 1];
    size_t n = 0, total = KRPC_TAIL_MAX;
    for (size_t i = 0; i < s->n_outputs; i++) {
        const krt_tensor *t = &m->info.out[s->outputs[i]];
        total += krpc_output_head_size(t->name, t->dtype, &t->shape, t->bytes) + t->bytes;
    }
    bool flat = total <= FLAT_BYTES;
    uint8_t *to = NULL;
    if (flat) {
        slices[n++] = grpc_slice_malloc(total);
        to = GRPC_SLICE_START_PTR(slices[0]);
    }
    for (size_t i = 0; i < s->n_outputs; i++) {
        const krt_tensor *t = &m->info.out[s->outputs[i]];
        uint8_t *data = r->out->data + m->out_offset[s->outputs[i]];
        if (!flat) {
            slices[n] =
                grpc_slice_malloc(krpc_output_head_size(t->name, t->dtype, &t->shape, t->bytes));
            to = GRPC_SLICE_START_PTR(slices[n]); /* a macro that evaluates its argument twice */
            n++;
        }
        to = krpc_put_output_head(to, t->name, t->dtype, &t->shape, t->bytes);
        if (flat) {
            memcpy(to, data, t->bytes);
            to += t->bytes;
        } else if (t->bytes) {
            krt_block_ref(r->out);
            slices[n++] = grpc_slice_new_with_user_data(data, t->bytes, krt_block_unref, r->out);
        }
    }
    if (!flat) {
        slices[n] = grpc_slice_malloc(KRPC_TAIL_MAX);
        to = GRPC_SLICE_START_PTR(slices[n]);
        n++;
    }
    const uint8_t *end = krpc_put_infer_tail(to, r->exec.started_ns - r->accepted_ns,
                                             r->exec.finished_ns - r->exec.started_ns);
    GRPC_SLICE_SET_LENGTH(slices[n - 1], (size_t)(end - GRPC_SLICE_START_PTR(slices[n - 1])));
    grpc_byte_buffer *out = grpc_raw_byte_buffer_create(slices, n);
    for (size_t i = 0; i < n; i++)
        grpc_slice_unref(slices[i]);
    return out;
}

static void fail(request *r, const kaena_err *err)
{
    krpc_fail(r->call, err);
    unref(r);
}

void krt_infer_fail_items(krt_item *items, const kaena_err *err)
{
    for (krt_item *i = items, *next; i; i = next) {
        next = i->next;
        fail(request_of_item(i), err);
    }
}

static void fail_expired(krt_item *items)
{
    for (krt_item *i = items, *next; i; i = next) {
        next = i->next;
        request *r = request_of_item(i);
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
        fail(r, &err);
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
        krpc_call_later(request_of_item(m->queue.head)->call, resume, m);
    }
    krt_model_settle(m);
    (void)pthread_mutex_unlock(&m->lock);
    fail_expired(actions->expired);
    for (krt_item *i = actions->start, *next; i; i = next) {
        next = i->next;
        start(request_of_item(i), small && may_run_here);
    }
}

static void resume(void *arg)
{
    krt_model *m = arg;
    (void)pthread_mutex_lock(&m->lock);
    m->resuming = false;
    (void)pthread_mutex_unlock(&m->lock);
    krt_actions actions;
    krt_event event = {.kind = KRT_RESUME, .now_ns = krt_now_ns()};
    step(m, &event, &actions, true);
    (void)krt_model_unref(m);
}

/* |r| has had its context; |err| NULL: it has its outputs. */
static void finish(request *r, const kaena_err *err)
{
    krt_model *m = r->m;
    if (err && err->code == KAENA_DATA_LOSS)
        krt_model_damaged(m, err->what);
    kaena_err too_large;
    grpc_byte_buffer *answer = NULL;
    if (!err)
        answer = m->info.values ? build_values_answer(r, &too_large) : build_answer(r);
    if (!err && !answer)
        err = &too_large;
    release_buffers(r); /* not only when the answer has left: the next request can have them */
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
    if (err) {
        fail(r, err);
    } else {
        krpc_reply(r->call, answer);
        unref(r);
    }
    (void)krt_model_unref(m);
}

static void on_done(krt_exec *exec, kaena_status status, const kaena_err *err)
{
    request *r = (request *)((char *)exec - offsetof(request, exec));
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

static kaena_status copy_inputs(request *r, kaena_err *err)
{
    const krt_model *m = r->m;
    uint64_t before = krt_now_ns();
    if (m->info.values) {
        for (size_t i = 0; i < m->info.n_in; i++) {
            kop_tensor *t = &r->selection.values[i];
            if (t->form == KOP_FORM_TENSOR && t->dtype != KAENA_STRING &&
                !krt_value_fill(&r->message, &r->selection.inputs[i], &r->selection.arena, t))
                return KRT_FAIL(err, RESOURCE_EXHAUSTED, NO_MEMORY,
                                "model '%s': no memory for input '%s'", m->name,
                                m->info.in[i].name);
        }
        release_bytes(r);
        r->copy_ns = krt_now_ns() - before;
        return KAENA_OK;
    }
    r->in = krt_pool_get(m->in_pool);
    r->out = krt_pool_get(m->out_pool);
    if (!r->in || !r->out)
        return KRT_FAIL(err, RESOURCE_EXHAUSTED, NO_MEMORY,
                        "model '%s': no memory for the buffers of a request", m->name);
    for (size_t i = 0; i < m->info.n_in; i++) {
        uint8_t *to = r->in->data + m->in_offset[i];
        krpc_range_copy(&r->message, &r->selection.inputs[i], to);
        r->in_ptr[i] = to;
    }
    for (size_t i = 0; i < m->info.n_out; i++)
        r->out_ptr[i] = NULL;
    for (size_t i = 0; i < r->selection.n_outputs; i++)
        r->out_ptr[r->selection.outputs[i]] = r->out->data + m->out_offset[r->selection.outputs[i]];
    release_bytes(r);
    r->copy_ns = krt_now_ns() - before;
    return KAENA_OK;
}

static void launch(request *r, bool here)
{
    const krt_backend *backend = r->m->daemon->backend;
    kaena_err err;
    if (krpc_call_cancelled(r->call)) {
        (void)KAENA_FAIL(&err, CANCELLED, "model '%s': cancelled, or out of time, before it ran",
                         r->m->name);
        finish(r, &err);
        return;
    }
    if (copy_inputs(r, &err) != KAENA_OK) {
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
    r->exec.done = on_done;
    if (here ? backend->run(r->m->image, &r->exec) : backend->submit(r->m->image, &r->exec))
        return;
    /* The queue starts no more than there are contexts. */
    (void)KAENA_FAIL(&err, INTERNAL, "model '%s': no execution context is free", r->m->name);
    finish(r, &err);
}

static void launch_job(krt_job *job)
{
    launch((request *)((char *)job - offsetof(request, job)), false);
}

static void start(request *r, bool here)
{
    here = here && r->m->daemon->backend->idle(r->m->image);
    if (here || r->selection.input_bytes <= COPY_HERE_BYTES) {
        launch(r, here);
        return;
    }
    r->job.run = launch_job;
    krt_jobs_post(r->m->daemon->starters, &r->job);
}

/* ---- arrival ---- */

static void on_close(void *arg, bool cancelled)
{
    request *r = arg;
    if (cancelled) {
        atomic_store_explicit(&r->stop, true, memory_order_relaxed);
        krt_actions actions;
        krt_event event = {.kind = KRT_CANCEL, .item = &r->item};
        step(r->m, &event, &actions, false);
    }
    unref(r);
}

/* May requests be accepted? With m->lock held. */
static kaena_status check_state(krt_model *m, kaena_err *err)
{
    switch (m->state) {
    case KAENA__V1__MODEL_STATE__READY:
        return KAENA_OK;
    case KAENA__V1__MODEL_STATE__LOADING:
        return KRT_FAIL(err, UNAVAILABLE, NOT_ACCEPTED, "model '%s' is still being loaded",
                        m->name);
    case KAENA__V1__MODEL_STATE__FAILED: {
        kaena_status st = KRT_FAIL(err, DATA_LOSS, EXECUTION_FAILED, "model '%s' has failed: %s",
                                   m->name, m->damage);
        kaena_err_hint(err, "unload it, restore its file, and load it again");
        return st;
    }
    case KAENA__V1__MODEL_STATE__UNLOADING:
    case KAENA__V1__MODEL_STATE__MODEL_STATE_UNSPECIFIED:
    case _KAENA__V1__MODEL_STATE_IS_INT_SIZE:
        break;
    }
    return KRT_FAIL(err, UNAVAILABLE, NOT_ACCEPTED, "model '%s' is being unloaded", m->name);
}

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
        (void)check_state(m, err);
    }
    (void)pthread_mutex_unlock(&m->lock);
}

static request *create(krt_model *m, krpc_call *call, uint64_t now)
{
    size_t n_in = m->info.n_in, n_out = m->info.n_out;
    size_t pointers = (n_in + n_out) * sizeof(void *);
    request *r =
        calloc(1, sizeof *r + pointers + (m->info.values ? n_out : 0) * sizeof(kop_tensor));
    if (!r)
        return NULL;
    r->out_tensor = (kop_tensor *)(void *)((char *)(r + 1) + pointers);
    r->in_ptr = (const void **)(void *)(r + 1);
    r->out_ptr = (void **)(void *)(r->in_ptr + n_in);
    r->refs = 1;
    r->m = m;
    r->call = call;
    r->accepted_ns = now;
    r->item.deadline_ns = krpc_call_deadline_ns(call);
    return r;
}

/* From the bytes to a request that fits its model; takes the bytes out of |call| only on success.
 */
static kaena_status prepare(krt_daemon *d, krpc_call *call, request **out, kaena_err *err)
{
    krpc_piece pieces[REQUEST_PIECES], *made;
    krpc_message message;
    krpc_infer_request wire;
    krt_model *m = NULL;
    request *r = NULL;
    KAENA_TRY(
        krpc_message_of(krpc_call_request(call), pieces, REQUEST_PIECES, &message, &made, err));
    kaena_status st = krpc_read_infer_request(&message, &wire, err);
    if (st == KAENA_OK) {
        char name[256];
        m = krt_model_find(d, krpc_range_text(&message, &wire.model, name, sizeof name), err);
        st = m ? KAENA_OK : KAENA_NOT_FOUND;
    }
    if (st == KAENA_OK) {
        (void)pthread_mutex_lock(&m->lock);
        st = check_state(m, err);
        m->holds += st == KAENA_OK; /* its description is read below */
        (void)pthread_mutex_unlock(&m->lock);
    }
    if (st == KAENA_OK) {
        r = create(m, call, krt_now_ns());
        st = r ? krt_select(m->name, &m->info, &message, &wire, &r->selection, err)
               : KAENA_FAIL(err, RESOURCE_EXHAUSTED, "out of memory");
        if (st == KAENA_OK && m->info.values) {
            st = d->backend->check(m->image, r->selection.values, err);
            if (st != KAENA_OK) {
                krt_selection_fini(&r->selection);
                st = kaena_err_wrap(err, st, "model '%s'", m->name);
            }
        }
    } else {
        (void)krt_model_unref(m);
        free(made);
        return st;
    }
    if (st != KAENA_OK) {
        (void)pthread_mutex_lock(&m->lock);
        m->holds--;
        krt_model_settle(m);
        (void)pthread_mutex_unlock(&m->lock);
        free(made);
        free(r);
        (void)krt_model_unref(m);
        return st;
    }
    r->bytes = krpc_call_take_request(call);
    r->more_pieces = made;
    memcpy(r->pieces, pieces, sizeof pieces);
    r->message = (krpc_message){made ? made : r->pieces, message.n_pieces};
    *out = r;
    return KAENA_OK;
}

void krt_infer(krpc_call *call, void *user)
{
    krt_daemon *d = user;
    kaena_err err;
    if (!krt_accept(d, &err)) {
        krpc_fail(call, &err);
        return;
    }
    request *r;
    if (prepare(d, call, &r, &err) != KAENA_OK) {
        krpc_call_on_close(call, krt_release_on_close, d);
        krpc_fail(call, &err);
        return;
    }
    krt_model *m = r->m;
    r->refs = 3; /* the answer's, on_close's, and ours */
    krpc_call_on_close(call, on_close, r);
    krt_actions actions;
    krt_event event = {.kind = KRT_ARRIVE, .item = &r->item, .now_ns = r->accepted_ns};
    (void)pthread_mutex_lock(&m->lock);
    m->holds--; /* of prepare: from here the queue's count keeps the image */
    (void)pthread_mutex_unlock(&m->lock);
    step(m, &event, &actions, true);
    if (actions.refused_full || actions.refused_closed) {
        refuse(m, &actions, &err);
        fail(r, &err);
    }
    unref(r);
}
