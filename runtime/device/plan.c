/* One request: its buffers become values, the plan's steps run, the caller gets the answer. */
#include <string.h>

#include "dev_internal.h"
#include "host.h"

static const Kaena__V1__NeffStep *step_at(const dev_model *m, uint32_t i)
{
    return neff_meta(m->neff)->plan->steps[i];
}

static bool has_buffer(const neff_tensor *t)
{
    return !t->dynamic && t->dtype != KAENA_STRING;
}

/* --- Values
 * ----------------------------------------------------------------------------------------------------------------
 */

static void bind_values(dev_context *c)
{
    const dev_model *m = c->model;
    const Kaena__V1__NeffMeta *meta = neff_meta(m->neff);
    for (uint32_t v = 0; v < meta->n_values; v++) {
        neff_tensor t = neff_value(m->neff, v);
        c->value[v] = (kop_tensor){.dtype = t.dtype, .shape = t.shape};
        if (m->value_at[v] >= 0)
            c->value[v].data = c->values + m->value_at[v];
    }
    for (uint32_t i = 0; i < meta->n_inputs; i++)
        c->value[meta->inputs[i]].data = (void *)(uintptr_t)c->request->in[i];
    for (uint32_t i = 0; i < meta->n_outputs; i++) {
        neff_tensor t = neff_output(m->neff, i);
        if (has_buffer(&t) && c->request->out && c->request->out[i])
            c->value[meta->outputs[i]].data = c->request->out[i];
    }
}

/* --- Steps
 * -----------------------------------------------------------------------------------------------------------------
 */

/* After it any thread may help, finish the step and go on: the context is no longer ours. */
static void start_device(dev_context *c)
{
    dev_model *m = c->model;
    dev_system *sys = m->sys;
    const Kaena__V1__NeffDeviceStep *d = step_at(m, c->step)->device;
    uint8_t **io = (uint8_t **)(uintptr_t)c->bind[(size_t)c->step * m->n_tpbs].io;
    for (size_t i = 0; i < d->n_io; i++)
        io[i] = c->value[d->io[i]].data;
    (void)pthread_mutex_lock(&sys->lock);
    /* Tickets for all TPBs at once: runs pass every TPB in the same order, so none can wait for
     * one behind it. */
    for (uint32_t t = 0; t < m->n_tpbs; t++) {
        const dev_place *p = &m->place.tpb[t];
        dev_tpb *tpb = &sys->tpb[p->chip * DEV_TPBS_PER_CHIP + p->tpb];
        c->turn[t] = (tpb_turn){.now = &tpb->now, .mine = tpb->next++};
    }
    tpb_run_reset_in_turn(c->run[c->step], c->turn);
    c->on_device = true;
    c->round++;
    c->alone = c->waiter && c->request->alone;
    dev_want(sys, !c->alone, true);
    sys->active[sys->n_active++] = c;
    bool waited_for = c->waiter != NULL;
    (void)pthread_mutex_unlock(&sys->lock);
    /* Who waits in dev_run works himself; the others are woken when there is enough to share. */
    if (!waited_for)
        dev_wake(sys);
}

static kaena_status run_host(dev_context *c, kaena_err *err)
{
    const dev_model *m = c->model;
    const Kaena__V1__NeffHostStep *h = step_at(m, c->step)->host;
    size_t n_in = h->n_inputs, n_out = h->n_outputs;
    kop_tensor *in = KAENA_NEW_N(&c->arena, kop_tensor, n_in);
    kop_tensor *out = KAENA_NEW_N(&c->arena, kop_tensor, n_out);
    neff_tensor *declared = KAENA_NEW_N(&c->arena, neff_tensor, n_out);
    if (!in || !out || !declared)
        return KAENA_FAIL(err, RESOURCE_EXHAUSTED, "host step %u: no memory", c->step);
    for (size_t i = 0; i < n_in; i++)
        in[i] = c->value[h->inputs[i]];
    for (size_t i = 0; i < n_out; i++)
        declared[i] = neff_value(m->neff, h->outputs[i]);
    KAENA_TRY_WRAP(err,
                   host_run(neff_graph(m->neff, h->graph), in, declared, out, &c->arena,
                            c->request->stop, err),
                   "model '%s': host step %u", m->name, c->step);
    for (size_t i = 0; i < n_out; i++) {
        kop_tensor *value = &c->value[h->outputs[i]];
        if (has_buffer(&declared[i])) {
            memcpy(value->data, out[i].data, declared[i].bytes);
        } else {
            *value = out[i];
            c->keeps_arena = true;
        }
    }
    if (!c->keeps_arena) {
        size_t quota = c->arena.quota;
        kaena_arena_fini(&c->arena);
        kaena_arena_init(&c->arena, quota);
    }
    return KAENA_OK;
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

static void finish(dev_context *c, kaena_status status, kaena_err *err)
{
    dev_model *m = c->model;
    dev_system *sys = m->sys;
    dev_request *r = c->request;
    if (status == KAENA_OK)
        status = verdict(c, err);
    for (uint32_t i = 0; r->out_tensor && i < neff_n_outputs(m->neff); i++)
        r->out_tensor[i] = c->value[neff_meta(m->neff)->outputs[i]];
    r->finished_ns = dev_now_ns();
    /* The context is free before the caller hears of it, so that he can start the next request
     * from |done|; what he still reads is taken along. */
    kaena_arena arena = c->arena;
    kaena_arena_init(&c->arena, arena.quota);
    c->keeps_arena = false;
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
        dev_waiter_signal(waiter);
}

void dev_advance(dev_context *c)
{
    const Kaena__V1__NeffPlan *plan = neff_meta(c->model->neff)->plan;
    kaena_err err;
    kaena_err_init(&err);
    kaena_status status = KAENA_OK;
    for (; status == KAENA_OK && c->step < plan->n_steps; c->step++) {
        if (c->run[c->step]) {
            start_device(c);
            return;
        }
        status = run_host(c, &err);
    }
    finish(c, status, &err);
}

void dev_step_done(dev_context *c)
{
    c->step++;
    dev_advance(c);
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
    c->step = 0;
    atomic_store_explicit(&c->bad_index, 0, memory_order_relaxed);
    request->started_ns = dev_now_ns();
    bind_values(c);
    return c;
}

bool dev_submit(dev_model *m, dev_request *request)
{
    dev_context *c = take(m, request, NULL);
    if (!c)
        return false;
    if (c->run[0])
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
    dev_advance(c);
    dev_work_until(c, &waiter);
    (void)pthread_mutex_lock(&m->sys->lock);
    if (--c->helpers == 0)
        (void)pthread_cond_broadcast(&m->quiet);
    (void)pthread_mutex_unlock(&m->sys->lock);
    return true;
}
