/* Loading: place, charge, predecode, allocate; unloading. */
#include <stdlib.h>
#include <string.h>

#include "checked.h"
#include "dev_internal.h"

/* --- What it takes
 * ---------------------------------------------------------------------------------------------------------
 */

/* |offset| and |size| have room for the weights of every TPB. */
static void sum_up(const dev_model *m, const dev_load_options *o, uint64_t *offset, uint64_t *size,
                   place_need *need)
{
    const Kaena__V1__NeffMeta *meta = neff_meta(m->neff);
    *need = (place_need){.name = m->name, .n_tpbs = m->n_tpbs, .idle_only = o->idle_only};
    if (o->group) {
        need->group = o->group->name;
        need->within = o->group->tpbs;
    }
    for (uint32_t i = 0; i < o->n_replicas; i++)
        need->avoid |= o->replicas[i]->place.tpbs;
    uint64_t context = meta->scratch_bytes + m->flow.values_bytes, weights;
    for (uint32_t i = 0; i < neff_n_inputs(m->neff); i++)
        context += neff_input(m->neff, i).bytes;
    need->shared = context * m->n_contexts;
    if (meta->n_weight_ranges == 0) {
        (void)neff_weights(m->neff, &weights);
        need->shared += weights;
        return;
    }
    for (uint32_t t = 0; t < m->n_tpbs; t++) {
        bool reads = t < meta->n_weight_ranges;
        offset[t] = reads ? meta->weight_ranges[t]->offset : 0;
        size[t] = reads ? meta->weight_ranges[t]->size : 0;
    }
    need->offset = offset;
    need->size = size;
}

/* --- Place
 * -----------------------------------------------------------------------------------------------------------------
 */

static void account(dev_system *sys, const dev_model *m, bool add)
{
    for (uint32_t c = 0; c < sys->config.n_chips; c++) {
        uint64_t *used = &sys->chips[c].used;
        *used = add ? *used + m->place.bytes[c] : *used - m->place.bytes[c];
    }
    for (uint32_t t = 0; t < m->n_tpbs; t++) {
        const dev_place *p = &m->place.tpb[t];
        place_tpb *tpb = &sys->chips[p->chip].tpb[p->tpb];
        tpb->models += add ? 1 : (uint32_t)-1;
        tpb->used = add ? tpb->used + m->place.tpb_bytes[t] : tpb->used - m->place.tpb_bytes[t];
    }
}

/* With the lock held. */
static kaena_status reserve(dev_system *sys, dev_model *m, const place_need *need, kaena_err *err)
{
    uint32_t n = 0;
    for (const dev_model *o = sys->models; o; o = o->next)
        n++;
    place_model *others = calloc(n + 1, sizeof *others);
    dev_context **active = realloc(sys->active, (sys->n_contexts + m->n_contexts) * sizeof *active);
    if (active)
        sys->active = active;
    kaena_status status;
    if (!others || !active) {
        status = KAENA_FAIL(err, RESOURCE_EXHAUSTED, "model '%s': no memory", m->name);
    } else {
        n = 0;
        for (const dev_model *o = sys->models; o; o = o->next)
            others[n++] = (place_model){.name = o->name, .at = &o->place};
        status = place_model_on(sys->chips, sys->config.n_chips, need, others, n, &m->place, err);
    }
    free(others);
    if (status != KAENA_OK)
        return status;
    for (uint32_t c = 0; c < sys->config.n_chips; c++)
        m->dram_bytes += m->place.bytes[c];
    account(sys, m, true);
    sys->n_contexts += m->n_contexts;
    m->next = sys->models;
    sys->models = m;
    return KAENA_OK;
}

static void give_back(dev_model *m)
{
    dev_system *sys = m->sys;
    (void)pthread_mutex_lock(&sys->lock);
    for (dev_model **at = &sys->models; *at; at = &(*at)->next)
        if (*at == m) {
            *at = m->next;
            account(sys, m, false);
            sys->n_contexts -= m->n_contexts;
            break;
        }
    (void)pthread_mutex_unlock(&sys->lock);
}

/* --- Programs
 * --------------------------------------------------------------------------------------------------------------
 */

static kaena_status predecode(dev_model *m, kaena_err *err)
{
    tpb_code *const **code = KAENA_NEW_N(&m->arena, tpb_code *const *, m->flow.n_device);
    m->code = code;
    for (uint32_t s = 0; s < m->flow.n_device && code; s++) {
        tpb_code **of_step = KAENA_NEW_N(&m->arena, tpb_code *, m->n_tpbs);
        kisa_program *slice = KAENA_NEW_N(&m->arena, kisa_program, m->n_tpbs);
        if (!of_step || !slice)
            return KAENA_FAIL(err, RESOURCE_EXHAUSTED, "no memory");
        for (uint32_t t = 0; t < m->n_tpbs; t++) {
            slice[t] = neff_program_at(m->neff, t, m->flow.device[s]->entries[t]);
            KAENA_TRY(tpb_predecode(&m->arena, &slice[t], true, &of_step[t], err));
        }
        code[s] = of_step;
    }
    return code ? KAENA_OK : KAENA_FAIL(err, RESOURCE_EXHAUSTED, "no memory");
}

/* Every MATMUL of the TPB went into a fused operation: its PSUM is never touched. */
static bool leaves_psum_alone(const dev_model *m, uint32_t tpb)
{
    for (uint32_t s = 0; s < m->flow.n_device; s++) {
        tpb_code_stats stats = tpb_code_stats_of(m->code[s][tpb]);
        if (stats.matmuls_fused != stats.matmuls)
            return false;
    }
    return true;
}

static kaena_status allocate_tpbs(dev_model *m, kaena_err *err)
{
    for (uint32_t t = 0; t < m->n_tpbs; t++) {
        m->sb_bytes[t] = kisa_space_end(neff_program(m->neff, t), KISA_SB);
        m->sb[t] = dev_pages(m->sb_bytes[t], true);
        m->psum_used[t] = !leaves_psum_alone(m, t);
        m->psum[t] = dev_pages(KISA_PSUM_BYTES, m->psum_used[t]);
        if (!m->sb[t] || !m->psum[t])
            return KAENA_FAIL(err, RESOURCE_EXHAUSTED, "no memory for the TPBs");
    }
    return KAENA_OK;
}

/* --- Contexts
 * --------------------------------------------------------------------------------------------------------------
 */

static kaena_status make_runs(dev_model *m, dev_context *c, kaena_err *err)
{
    uint64_t weights_bytes;
    const uint8_t *weights = neff_weights(m->neff, &weights_bytes);
    uint8_t **io = c->io;
    for (uint32_t s = 0; s < m->flow.n_device; s++) {
        tpb_bind *bind = c->bind + (size_t)s * m->n_tpbs;
        for (uint32_t t = 0; t < m->n_tpbs; t++)
            bind[t] = (tpb_bind){.sb = m->sb[t],
                                 .psum = m->psum[t],
                                 .weights = weights,
                                 .scratch = c->scratch,
                                 .io = io,
                                 .ker = m->sys->ker,
                                 .error = &c->bad_index,
                                 .sb_bytes = m->sb_bytes[t],
                                 .psum_bytes = m->psum_used[t] ? KISA_PSUM_BYTES : 0};
        io += m->flow.device[s]->n_io;
        KAENA_TRY(
            tpb_run_create((const tpb_code *const *)m->code[s], bind, m->n_tpbs, &c->run[s], err));
        tpb_run_on_work(c->run[s],
                        &(tpb_watch){.wake = dev_wake, .hint = dev_hint, .user = m->sys});
    }
    return KAENA_OK;
}

/* What control steps keep between operations. */
static bool make_loops(dev_model *m, dev_context *c)
{
    c->arena = KAENA_NEW_N(&m->arena, kaena_arena, m->flow.n_arenas);
    c->loop = KAENA_NEW_N(&m->arena, dev_loop, m->flow.n_loops);
    c->batch.joined = KAENA_NEW_N(&m->arena, kop_tensor, neff_n_outputs(m->neff));
    if (!c->arena || !c->loop || !c->batch.joined)
        return false;
    for (uint32_t i = 0; i < m->flow.n; i++) {
        const flow_op *op = &m->flow.op[i];
        if (op->kind != FLOW_LOOP)
            continue;
        dev_loop *l = &c->loop[op->index];
        l->part = KAENA_NEW_N(&m->arena, kop_tensor *, op->step.loop->n_scans);
        l->carried = KAENA_NEW_N(&m->arena, kop_tensor, op->step.loop->n_carried);
        if (!l->part || !l->carried)
            return false;
    }
    for (uint32_t i = 0; i < m->flow.n_arenas; i++)
        kaena_arena_init(&c->arena[i], m->quota);
    return true;
}

static kaena_status make_context(dev_model *m, dev_context *c, kaena_err *err)
{
    const Kaena__V1__NeffMeta *meta = neff_meta(m->neff);
    size_t n_io = 0;
    for (uint32_t s = 0; s < m->flow.n_device; s++)
        n_io += m->flow.device[s]->n_io;
    c->model = m;
    /* What a batch of another size than compiled takes grows with the request alone. */
    kaena_arena_init(&c->batch.arena, SIZE_MAX / 2);
    c->scratch = dev_pages(meta->scratch_bytes, true);
    c->values = dev_pages(m->flow.values_bytes, true);
    c->value = KAENA_NEW_N(&m->arena, kop_tensor, meta->n_values);
    c->io = KAENA_NEW_N(&m->arena, uint8_t *, n_io);
    c->bind = KAENA_NEW_N(&m->arena, tpb_bind, (size_t)m->flow.n_device * m->n_tpbs);
    c->turn = KAENA_NEW_N(&m->arena, tpb_turn, m->n_tpbs);
    c->run = KAENA_NEW_N(&m->arena, tpb_run *, m->flow.n_device);
    if (!c->scratch || !c->values || !c->value || !c->io || !c->bind || !c->turn || !c->run ||
        !make_loops(m, c))
        return KAENA_FAIL(err, RESOURCE_EXHAUSTED, "no memory for a context");
    KAENA_TRY(make_runs(m, c, err));
    c->is_free = true;
    c->next = m->free;
    m->free = c;
    return KAENA_OK;
}

static kaena_status build(dev_model *m, kaena_err *err)
{
    KAENA_TRY(predecode(m, err));
    KAENA_TRY(allocate_tpbs(m, err));
    m->context = KAENA_NEW_N(&m->arena, dev_context, m->n_contexts);
    if (!m->context)
        return KAENA_FAIL(err, RESOURCE_EXHAUSTED, "no memory for contexts");
    for (uint32_t i = 0; i < m->n_contexts; i++)
        KAENA_TRY(make_context(m, &m->context[i], err));
    /* So that the first inference does not fault on each of them. Where the file is gone meanwhile
     * this fails, and so will the inference. */
    uint64_t bytes;
    const uint8_t *weights = neff_weights(m->neff, &bytes);
    dev_pages_read(weights, bytes);
    return KAENA_OK;
}

/* --- Life
 * ------------------------------------------------------------------------------------------------------------------
 */

/* Of whole and half-built models alike. */
static dev_model *destroy(dev_model *m)
{
    const Kaena__V1__NeffMeta *meta = neff_meta(m->neff);
    for (uint32_t i = 0; m->context && i < m->n_contexts; i++) {
        dev_context *c = &m->context[i];
        for (uint32_t s = 0; c->run && s < m->flow.n_device; s++)
            c->run[s] = tpb_run_destroy(c->run[s]);
        for (uint32_t a = 0; c->arena && a < m->flow.n_arenas; a++)
            kaena_arena_fini(&c->arena[a]);
        dev_pages_free(c->scratch, meta->scratch_bytes);
        dev_pages_free(c->values, m->flow.values_bytes);
    }
    for (uint32_t t = 0; t < m->n_tpbs; t++) {
        dev_pages_free(m->sb[t], m->sb_bytes[t]);
        dev_pages_free(m->psum[t], KISA_PSUM_BYTES);
    }
    (void)pthread_cond_destroy(&m->quiet);
    kaena_arena_fini(&m->arena);
    m->neff = neff_unref(m->neff);
    free(m->name);
    free(m);
    return NULL;
}

kaena_status dev_model_load(dev_system *sys, const char *name, neff_file *neff, dev_model **out,
                            kaena_err *err)
{
    return dev_model_load_at(sys, neff, &(dev_load_options){.name = name}, out, err);
}

kaena_status dev_model_load_at(dev_system *sys, neff_file *neff, const dev_load_options *options,
                               dev_model **out, kaena_err *err)
{
    const Kaena__V1__NeffMeta *meta = neff_meta(neff);
    const char *name = options->name;
    dev_model *m = calloc(1, sizeof *m);
    if (!m)
        return KAENA_FAIL(err, RESOURCE_EXHAUSTED, "model '%s': no memory", name);
    m->sys = sys;
    m->neff = neff_ref(neff);
    m->n_tpbs = meta->num_tpbs;
    m->n_contexts = meta->contexts;
    m->name = strdup(name);
    (void)pthread_cond_init(&m->quiet, NULL);
    kaena_arena_init(&m->arena, SIZE_MAX / 2);
    m->quota = meta->host_quota_bytes ? meta->host_quota_bytes : 1;
    if (!m->name || flow_build(&m->arena, neff, &m->flow, err) != KAENA_OK) {
        m = destroy(m);
        return KAENA_FAIL(err, RESOURCE_EXHAUSTED, "model '%s': no memory", name);
    }
    place_need need;
    uint64_t offset[KISA_MAX_TPBS], size[KISA_MAX_TPBS];
    sum_up(m, options, offset, size, &need);
    (void)pthread_mutex_lock(&sys->lock);
    kaena_status status = reserve(sys, m, &need, err);
    (void)pthread_mutex_unlock(&sys->lock);
    if (status == KAENA_OK) {
        status = build(m, err);
        if (status == KAENA_OK) {
            *out = m;
            return KAENA_OK;
        }
        give_back(m);
        status = kaena_err_wrap(err, status, "model '%s'", name);
    }
    m = destroy(m);
    return status;
}

static bool is_quiet(const dev_model *m)
{
    for (uint32_t i = 0; i < m->n_contexts; i++)
        if (!m->context[i].is_free || m->context[i].helpers)
            return false;
    return true;
}

dev_model *dev_model_unload(dev_model *m)
{
    if (!m)
        return NULL;
    /* Requests have been answered, but threads that helped may still be on their way out. */
    (void)pthread_mutex_lock(&m->sys->lock);
    while (!is_quiet(m))
        (void)pthread_cond_wait(&m->quiet, &m->sys->lock);
    (void)pthread_mutex_unlock(&m->sys->lock);
    give_back(m);
    return destroy(m);
}

const neff_file *dev_model_neff(const dev_model *m)
{
    return m->neff;
}

uint32_t dev_model_contexts(const dev_model *m)
{
    return m->n_contexts;
}

uint64_t dev_model_dram_bytes(const dev_model *m)
{
    return m->dram_bytes;
}

uint64_t dev_model_chip_bytes(const dev_model *m, uint32_t chip)
{
    return m->place.bytes[chip];
}

const dev_place *dev_model_places(const dev_model *m, uint32_t *n)
{
    *n = m->n_tpbs;
    return m->place.tpb;
}

bool dev_model_idle(const dev_model *m)
{
    dev_system *sys = m->sys;
    bool idle = true;
    (void)pthread_mutex_lock(&sys->lock);
    for (uint32_t t = 0; t < m->n_tpbs; t++) {
        const dev_tpb *tpb =
            &sys->tpb[m->place.tpb[t].chip * DEV_TPBS_PER_CHIP + m->place.tpb[t].tpb];
        idle = idle && atomic_load_explicit(&tpb->now, memory_order_relaxed) == tpb->next;
    }
    (void)pthread_mutex_unlock(&sys->lock);
    return idle;
}

bool dev_model_device_only(const dev_model *m)
{
    return m->flow.n_host == 0;
}
