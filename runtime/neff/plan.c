/* Checks of the plan: what steps exchange, and the programs of device steps. */
#include <inttypes.h>
#include <stdlib.h>

#include "checked.h"
#include "plan_check.h"

kaena_status neff_plan_use(const plan_check *c, uint32_t value)
{
    if (value >= c->f->meta->n_values)
        return KAENA_FAIL(c->err, DATA_LOSS, "no value %u", value);
    if (c->made[value] != PLAN_VISIBLE)
        return KAENA_FAIL(c->err, DATA_LOSS, "reads '%s', which no earlier step has made",
                          c->f->value[value].name);
    return KAENA_OK;
}

kaena_status neff_plan_make(plan_check *c, uint32_t value)
{
    if (value >= c->f->meta->n_values)
        return KAENA_FAIL(c->err, DATA_LOSS, "no value %u", value);
    if (c->made[value] != PLAN_UNMADE)
        return KAENA_FAIL(c->err, DATA_LOSS, "writes '%s', which is an input or was made before",
                          c->f->value[value].name);
    c->made[value] = PLAN_VISIBLE;
    c->trail[c->n_trail++] = value;
    return KAENA_OK;
}

/* Reads first, so that a step does not feed itself. */
static kaena_status check_device_io(plan_check *c, const Kaena__V1__NeffDeviceStep *d)
{
    const neff_file *f = c->f;
    if (d->n_io_written != d->n_io)
        return KAENA_FAIL(c->err, DATA_LOSS, "%zu tensors, but %zu say whether they are written",
                          d->n_io, d->n_io_written);
    if (d->n_io > UINT16_MAX)
        return KAENA_FAIL(c->err, DATA_LOSS, "%zu tensors, more than %d", d->n_io, UINT16_MAX);
    for (int pass = 0; pass < 2; pass++)
        for (size_t i = 0; i < d->n_io; i++)
            if ((d->io_written[i] != 0) == (pass == 1))
                KAENA_TRY(pass ? neff_plan_make(c, d->io[i]) : neff_plan_use(c, d->io[i]));
    for (size_t i = 0; i < d->n_io; i++) {
        const neff_tensor *t = &f->value[d->io[i]];
        if (!neff_has_buffer(t))
            return KAENA_FAIL(c->err, DATA_LOSS, "'%s' is of a kind that a device cannot hold",
                              t->name);
    }
    return KAENA_OK;
}

static kaena_status verify_programs(plan_check *c, const Kaena__V1__NeffDeviceStep *d)
{
    const neff_file *f = c->f;
    kisa_program slice[KISA_MAX_TPBS];
    if (d->n_entries != f->header.n_tpbs)
        return KAENA_FAIL(c->err, DATA_LOSS, "%zu entries for %u TPBs", d->n_entries,
                          f->header.n_tpbs);
    for (uint32_t t = 0; t < f->header.n_tpbs; t++) {
        if (d->entries[t] >= f->program[t].n)
            return KAENA_FAIL(c->err, DATA_LOSS,
                              "tpb %u: entry %u is past the program's %u instructions", t,
                              d->entries[t], f->program[t].n);
        slice[t] = neff_program_at(f, t, d->entries[t]);
        c->instructions += slice[t].n;
    }
    if (c->instructions > NEFF_MAX_STEP_INSTRUCTIONS)
        return KAENA_FAIL(c->err, DATA_LOSS,
                          "the steps have more than %" PRIu64 " instructions together",
                          NEFF_MAX_STEP_INSTRUCTIONS);
    uint64_t *bytes = calloc(d->n_io + 1, sizeof *bytes);
    bool *written = calloc(d->n_io + 1, sizeof *written);
    kaena_status status;
    if (!bytes || !written) {
        status = KAENA_FAIL(c->err, RESOURCE_EXHAUSTED, "no memory");
    } else {
        for (size_t i = 0; i < d->n_io; i++) {
            bytes[i] = f->value[d->io[i]].bytes;
            written[i] = d->io_written[i] != 0;
        }
        kisa_limits limits = {.sb_bytes = f->meta->sb_bytes,
                              .weights_bytes = f->weights_bytes,
                              .scratch_bytes = f->meta->scratch_bytes,
                              .n_io = (uint32_t)d->n_io,
                              .io_bytes = bytes,
                              .io_written = written};
        status = kisa_verify(slice, f->header.n_tpbs, &limits, c->err);
    }
    free(bytes);
    free(written);
    return status;
}

/* What a graph takes or gives is what the plan says of the value. */
static kaena_status check_match(const plan_check *c, const kgr_value *g, uint32_t value)
{
    const neff_tensor *t = &c->f->value[value];
    bool same = g->t.form == t->form && (g->t.dtype == KAENA_DTYPE_NONE || g->t.dtype == t->dtype);
    if (same && !g->t.unranked && g->t.dtype != KAENA_DTYPE_NONE && !t->dynamic &&
        kaena_shape_known(&g->t.shape))
        same = kaena_shape_equal(&g->t.shape, &t->shape);
    if (!same)
        return KAENA_FAIL(c->err, DATA_LOSS,
                          "'%s' is of another type or shape than '%s' of the graph", t->name,
                          g->name);
    return KAENA_OK;
}

static kaena_status check_host(plan_check *c, const Kaena__V1__NeffHostStep *h)
{
    const neff_file *f = c->f;
    if (h->graph >= f->n_graphs)
        return KAENA_FAIL(c->err, DATA_LOSS, "no graph %u in HOST (%u)", h->graph, f->n_graphs);
    const kgr_graph *g = f->graph[h->graph];
    if (h->n_inputs != g->n_inputs || h->n_outputs != g->n_outputs)
        return KAENA_FAIL(c->err, DATA_LOSS,
                          "graph %u takes %u and gives %u values, the step says %zu and %zu",
                          h->graph, g->n_inputs, g->n_outputs, h->n_inputs, h->n_outputs);
    if (f->meta->host_quota_bytes == 0)
        return KAENA_FAIL(c->err, DATA_LOSS, "host steps may allocate nothing (host_quota_bytes)");
    for (size_t i = 0; i < h->n_inputs; i++) {
        KAENA_TRY(neff_plan_use(c, h->inputs[i]));
        KAENA_TRY(check_match(c, g->inputs[i], h->inputs[i]));
    }
    for (size_t i = 0; i < h->n_outputs; i++) {
        KAENA_TRY(neff_plan_make(c, h->outputs[i]));
        KAENA_TRY(check_match(c, g->outputs[i], h->outputs[i]));
    }
    return KAENA_OK;
}

static kaena_status check_step(plan_check *c, const Kaena__V1__NeffStep *s)
{
    switch (s->kind_case) {
    case KAENA__V1__NEFF_STEP__KIND_DEVICE:
        KAENA_TRY(check_device_io(c, s->device));
        return verify_programs(c, s->device);
    case KAENA__V1__NEFF_STEP__KIND_HOST:
        return check_host(c, s->host);
    case KAENA__V1__NEFF_STEP__KIND_BRANCH:
        return neff_plan_branch(c, s->branch);
    case KAENA__V1__NEFF_STEP__KIND_LOOP:
        return neff_plan_loop(c, s->loop);
    case KAENA__V1__NEFF_STEP__KIND_SELECT:
        return KAENA_FAIL(c->err, DATA_LOSS, "chooses a case, but is not the whole plan");
    case KAENA__V1__NEFF_STEP__KIND__NOT_SET:
    case _KAENA__V1__NEFF_STEP__KIND__CASE_IS_INT_SIZE:
        break;
    }
    return KAENA_FAIL(c->err, DATA_LOSS, "of a kind this reader does not know");
}

kaena_status neff_plan_steps(plan_check *c, const Kaena__V1__NeffPlan *plan)
{
    for (size_t i = 0; i < plan->n_steps; i++)
        KAENA_TRY_WRAP(c->err, check_step(c, plan->steps[i]), "step %zu", i);
    return KAENA_OK;
}

static kaena_status check_all(plan_check *c, const Kaena__V1__NeffPlan *plan)
{
    const Kaena__V1__NeffMeta *m = c->f->meta;
    for (size_t i = 0; i < m->n_inputs; i++)
        KAENA_TRY(neff_plan_make(c, m->inputs[i]));
    bool select = plan->steps[0]->kind_case == KAENA__V1__NEFF_STEP__KIND_SELECT;
    if (select && plan->n_steps > 1)
        return KAENA_FAIL(c->err, DATA_LOSS, "step 0 chooses a case, but is not the whole plan");
    if (select)
        KAENA_TRY(neff_plan_select(c, plan->steps[0]->select));
    else
        KAENA_TRY(neff_plan_steps(c, plan));
    for (size_t i = 0; i < m->n_outputs; i++)
        if (c->made[m->outputs[i]] != PLAN_VISIBLE)
            return KAENA_FAIL(c->err, DATA_LOSS, "no step makes output '%s'",
                              c->f->value[m->outputs[i]].name);
    for (size_t i = 0; i < m->n_bodies; i++)
        if (!c->body_used[i])
            return KAENA_FAIL(c->err, DATA_LOSS, "body %zu belongs to no step", i);
    return select ? KAENA_OK : neff_plan_batch(c, m->inputs, m->n_inputs, m->outputs, m->n_outputs);
}

kaena_status neff_check_plan(const neff_file *f, kaena_err *err)
{
    const Kaena__V1__NeffMeta *m = f->meta;
    const Kaena__V1__NeffPlan *plan = m->plan;
    if (!plan || plan->n_steps == 0)
        return KAENA_FAIL(err, DATA_LOSS, "plan: no steps");
    if (m->n_bodies > NEFF_MAX_BODIES)
        return KAENA_FAIL(err, DATA_LOSS, "plan: %zu bodies, more than %d", m->n_bodies,
                          NEFF_MAX_BODIES);
    size_t n_steps = plan->n_steps;
    for (size_t i = 0; i < m->n_bodies; i++)
        n_steps += m->bodies[i]->n_steps;
    if (n_steps > NEFF_MAX_STEPS)
        return KAENA_FAIL(err, DATA_LOSS, "plan: %zu steps, more than %d", n_steps, NEFF_MAX_STEPS);
    plan_check c = {.f = f, .err = err, .body = -1};
    c.made = calloc(m->n_values + 1, 1);
    c.trail = calloc(m->n_values + 1, sizeof *c.trail);
    c.body_used = calloc(m->n_bodies + 1, sizeof *c.body_used);
    kaena_status status = c.made && c.trail && c.body_used
                              ? check_all(&c, plan)
                              : KAENA_FAIL(err, RESOURCE_EXHAUSTED, "no memory");
    free(c.made);
    free(c.trail);
    free(c.body_used);
    return status == KAENA_OK ? KAENA_OK : kaena_err_wrap(err, status, "plan");
}
