/* One request: its buffers become values, the plan's steps run, the caller gets the answer. */
#include <string.h>

#include "dev_internal.h"
#include "host.h"

/* --- Values
 * ----------------------------------------------------------------------------------------------------------------
 */

/* What counts against the quota: not the block that an arena keeps. */
static size_t arena_holds(const kaena_arena *a)
{
    return kaena_arena_empty(a) ? 0 : a->used;
}

kaena_arena *dev_arena_open(dev_context *c, uint32_t i, bool keep)
{
    kaena_arena *a = &c->arena[i];
    c->arena_bytes -= arena_holds(a);
    if (!keep)
        kaena_arena_rewind(a);
    a->quota = c->quota > c->arena_bytes ? c->quota - c->arena_bytes : 1;
    return a;
}

void dev_arena_close(dev_context *c, uint32_t i)
{
    c->arena_bytes += arena_holds(&c->arena[i]);
}

/* Every value as it is declared, in the memory that is its own. */
static void bind_values(dev_context *c)
{
    const dev_model *m = c->model;
    const Kaena__V1__NeffMeta *meta = neff_meta(m->neff);
    for (uint32_t v = 0; v < meta->n_values; v++) {
        neff_tensor t = neff_value(m->neff, v);
        c->value[v] = (kop_tensor){
            .dtype = t.dtype, .shape = t.shape, .form = t.form, .unranked = t.any_rank};
        if (m->flow.value_at[v] >= 0)
            c->value[v].data = c->values + m->flow.value_at[v];
    }
}

static void bind_outputs(dev_context *c)
{
    const Kaena__V1__NeffMeta *meta = neff_meta(c->model->neff);
    for (uint32_t i = 0; i < meta->n_outputs; i++) {
        void *buffer = dev_out_buffer(c, i);
        if (buffer && c->model->flow.value_at[meta->outputs[i]] >= 0)
            c->value[meta->outputs[i]].data = buffer;
    }
}

/* --- Steps
 * -----------------------------------------------------------------------------------------------------------------
 */

/* The execution begins, unless nobody wants it any more. */
static bool begin(void *context)
{
    dev_context *c = context;
    dev_request *r = c->request;
    c->begun = true;
    r->started_ns = dev_now_ns();
    return !r->begin || r->begin(r);
}

static kaena_status not_wanted(const dev_context *c, kaena_err *err)
{
    return KAENA_FAIL(err, CANCELLED, "model '%s': not wanted any more when its turn came",
                      c->model->name);
}

/* After it any thread may help, finish the step and go on: the context is no longer ours. */
static void start_device(dev_context *c)
{
    dev_model *m = c->model;
    dev_system *sys = m->sys;
    const flow_op *op = &m->flow.op[c->pc];
    const Kaena__V1__NeffDeviceStep *d = op->step.device;
    uint8_t **io = (uint8_t **)(uintptr_t)c->bind[(size_t)op->index * m->n_tpbs].io;
    for (size_t i = 0; i < d->n_io; i++)
        io[i] = c->value[d->io[i]].data;
    (void)pthread_mutex_lock(&sys->lock);
    /* Tickets for all TPBs at once: runs pass every TPB in the same order, so none can wait for
     * one behind it. */
    for (uint32_t t = 0; t < m->n_tpbs; t++) {
        const dev_place *p = &m->place.tpb[t];
        dev_tpb *tpb = &sys->tpb[p->chip * DEV_TPBS_PER_CHIP + p->tpb];
        c->turn[t] = (tpb_turn){.now = &tpb->now, .mine = tpb->next++, .clock = &tpb->clock};
    }
    c->running = c->run[op->index];
    c->on_device = true;
    c->round++;
    c->alone = c->waiter && c->request->alone;
    tpb_run_reset_in_turn(
        c->running,
        &(tpb_order){.turn = c->turn,
                     .stop = c->request->stop,
                     .begin = c->begun ? NULL : begin,
                     .user = c,
                     .threads = c->alone ? 1 : sys->config.threads + (c->waiter != NULL)});
    dev_want(sys, !c->alone, true);
    sys->active[sys->n_active++] = c;
    bool waited_for = c->waiter != NULL;
    (void)pthread_mutex_unlock(&sys->lock);
    /* Who waits in dev_run works himself; the others are woken when there is enough to share. */
    if (!waited_for)
        dev_wake(sys);
}

static kaena_status run_graph(dev_context *c, const Kaena__V1__NeffHostStep *h, kaena_arena *arena,
                              bool *keep, kaena_err *err)
{
    const dev_model *m = c->model;
    size_t n_in = h->n_inputs, n_out = h->n_outputs;
    kop_tensor *in = KAENA_NEW_N(arena, kop_tensor, n_in);
    kop_tensor *out = KAENA_NEW_N(arena, kop_tensor, n_out);
    neff_tensor *declared = KAENA_NEW_N(arena, neff_tensor, n_out);
    if (!in || !out || !declared)
        return KAENA_FAIL(err, RESOURCE_EXHAUSTED, "the limit of %zu bytes is reached", c->quota);
    for (size_t i = 0; i < n_in; i++)
        in[i] = c->value[h->inputs[i]];
    for (size_t i = 0; i < n_out; i++)
        declared[i] = neff_value(m->neff, h->outputs[i]);
    KAENA_TRY(
        host_run(neff_graph(m->neff, h->graph), in, declared, out, arena, c->request->stop, err));
    *keep = false;
    for (size_t i = 0; i < n_out; i++) {
        kop_tensor *value = &c->value[h->outputs[i]];
        if (!neff_has_buffer(&declared[i])) {
            *value = out[i];
            *keep = true;
        } else if (declared[i].bytes) {
            memcpy(value->data, out[i].data, declared[i].bytes);
        }
    }
    return KAENA_OK;
}

static kaena_status run_host(dev_context *c, const flow_op *op, kaena_err *err)
{
    bool keep = false;
    kaena_status status =
        run_graph(c, op->step.host, dev_arena_open(c, op->arena, false), &keep, err);
    if (!keep)
        kaena_arena_rewind(&c->arena[op->arena]);
    dev_arena_close(c, op->arena);
    if (status == KAENA_OK)
        return KAENA_OK;
    return kaena_err_wrap(err, status, "model '%s': host step %u", c->model->name, c->pc);
}

/* --- The whole
 * -------------------------------------------------------------------------------------------------------------
 */

static kaena_status verdict(dev_context *c, kaena_err *err)
{
    const dev_model *m = c->model;
    if (neff_weights_lost(m->neff))
        return KAENA_FAIL(err, DATA_LOSS, "model '%s': the file with its weights was truncated",
                          m->name);
    if (atomic_load_explicit(&c->bad_index, memory_order_relaxed))
        return KAENA_FAIL(err, OUT_OF_RANGE, "model '%s': an index in the input is out of range",
                          m->name);
    return KAENA_OK;
}

/* Takes what lives in the context's arenas out of it. */
static void empty_arenas(dev_context *c, kaena_arena *out)
{
    kaena_arena_init(out, 0);
    kaena_arena_join(out, &c->batch.arena);
    for (uint32_t i = 0; i < c->model->flow.n_arenas; i++)
        if (!kaena_arena_empty(&c->arena[i]))
            kaena_arena_join(out, &c->arena[i]);
    c->arena_bytes = 0;
}

static void finish(dev_context *c, kaena_status status, kaena_err *err)
{
    dev_model *m = c->model;
    dev_system *sys = m->sys;
    dev_request *r = c->request;
    if (status == KAENA_OK)
        status = verdict(c, err);
    for (uint32_t i = 0; r->out_tensor && i < neff_n_outputs(m->neff); i++)
        r->out_tensor[i] =
            c->batch.on ? c->batch.joined[i] : c->value[neff_meta(m->neff)->outputs[i]];
    r->finished_ns = dev_now_ns();
    if (!r->started_ns)
        r->started_ns = r->finished_ns;
    /* The context is free before the caller hears of it, so that he can start the next request
     * from |done|; what he still reads is taken along. */
    kaena_arena arena;
    empty_arenas(c, &arena);
    (void)pthread_mutex_lock(&sys->lock);
    dev_waiter *waiter = c->waiter;
    c->waiter = NULL;
    c->request = NULL;
    c->is_free = true;
    c->next = m->free;
    m->free = c;
    (void)pthread_cond_broadcast(&m->quiet);
    (void)pthread_mutex_unlock(&sys->lock);
    r->done(r, status, status == KAENA_OK ? NULL : err);
    kaena_arena_fini(&arena);
    if (waiter)
        dev_waiter_signal(sys, waiter);
}

static kaena_status begin_pass(dev_context *c, kaena_err *err)
{
    c->pc = 0;
    bind_values(c);
    KAENA_TRY(dev_pass_begin(c, err));
    bind_outputs(c);
    return KAENA_OK;
}

void dev_advance(dev_context *c)
{
    kaena_err err;
    kaena_err_init(&err);
    kaena_status status = c->refused;
    bool again = true;
    if (status != KAENA_OK)
        err = c->refusal;
    while (status == KAENA_OK && again) {
        const flow_op *op = &c->model->flow.op[c->pc];
        switch (op->kind) {
        case FLOW_DEVICE:
            start_device(c);
            return;
        case FLOW_HOST:
            status = c->begun || begin(c) ? run_host(c, op, &err) : not_wanted(c, &err);
            c->pc++;
            break;
        case FLOW_END:
            status = dev_pass_end(c, &again, &err);
            if (status == KAENA_OK && again)
                status = begin_pass(c, &err);
            break;
        case FLOW_IF:
        case FLOW_JUMP:
        case FLOW_HAND:
        case FLOW_LOOP:
        case FLOW_TURN:
        case FLOW_SELECT:
            status = dev_control(c, op, &err);
            break;
        }
    }
    finish(c, status, &err);
}

void dev_step_done(dev_context *c)
{
    dev_request *r = c->request;
    uint64_t busy_ns = tpb_run_busy_ns(c->running);
    bool wanted = busy_ns || r->tpb_ns; /* else not even its first step has begun */
    r->tpb_ns += busy_ns;
    if (!tpb_run_stopped(c->running)) {
        c->pc++;
        dev_advance(c);
        return;
    }
    kaena_err err;
    kaena_status status = !wanted ? not_wanted(c, &err)
                                  : KAENA_FAIL(&err, CANCELLED, "model '%s': stopped in step %u",
                                               c->model->name, c->pc);
    finish(c, status, &err);
}

static dev_context *take(dev_model *m, dev_request *request, dev_waiter *waiter)
{
    (void)pthread_mutex_lock(&m->sys->lock);
    dev_context *c = m->free;
    if (c) {
        m->free = c->next;
        c->is_free = false;
        c->request = request;
        c->waiter = waiter;
        c->helpers += waiter != NULL;
    }
    (void)pthread_mutex_unlock(&m->sys->lock);
    if (!c)
        return NULL;
    atomic_store_explicit(&c->bad_index, 0, memory_order_relaxed);
    request->started_ns = request->tpb_ns = 0;
    request->batch_items = request->batch_slots = 0;
    c->begun = false;
    c->quota = m->quota;
    c->batch.on = false;
    c->batch.items = c->batch.done = 0;
    c->refused = begin_pass(c, &c->refusal);
    return c;
}

bool dev_submit(dev_model *m, dev_request *request)
{
    dev_context *c = take(m, request, NULL);
    if (!c)
        return false;
    if (c->refused == KAENA_OK && m->flow.op[0].kind == FLOW_DEVICE)
        start_device(c);
    else
        dev_make_ready(c);
    return true;
}

bool dev_run(dev_model *m, dev_request *request)
{
    dev_waiter waiter = {0};
    dev_context *c = take(m, request, &waiter);
    if (!c)
        return false;
    bool alone = request->alone; /* it may change, and be the caller's again */
    dev_advance(c);
    dev_work_until(c, &waiter, alone);
    (void)pthread_mutex_lock(&m->sys->lock);
    if (--c->helpers == 0)
        (void)pthread_cond_broadcast(&m->quiet);
    (void)pthread_mutex_unlock(&m->sys->lock);
    return true;
}
