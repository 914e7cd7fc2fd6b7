/* Checks of the plan: what steps exchange, and the programs of device steps. */
#include <inttypes.h>
#include <stdlib.h>

#include "checked.h"
#include "neff_file.h"

typedef struct plan_check {
    const neff_file *f;
    uint8_t *made;         /* [n_values]: an input, or written by an earlier step */
    uint64_t instructions; /* of all device steps so far */
    size_t step;
    kaena_err *err;
} plan_check;

static kaena_status use(const plan_check *c, uint32_t value)
{
    if (value >= c->f->meta->n_values)
        return KAENA_FAIL(c->err, DATA_LOSS, "no value %u", value);
    if (!c->made[value])
        return KAENA_FAIL(c->err, DATA_LOSS, "reads '%s', which no earlier step has made",
                          c->f->value[value].name);
    return KAENA_OK;
}

static kaena_status make(plan_check *c, uint32_t value)
{
    if (value >= c->f->meta->n_values)
        return KAENA_FAIL(c->err, DATA_LOSS, "no value %u", value);
    if (c->made[value])
        return KAENA_FAIL(c->err, DATA_LOSS, "writes '%s', which is an input or was made before",
                          c->f->value[value].name);
    c->made[value] = 1;
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
                KAENA_TRY(pass ? make(c, d->io[i]) : use(c, d->io[i]));
    for (size_t i = 0; i < d->n_io; i++) {
        const neff_tensor *t = &f->value[d->io[i]];
        if (t->dynamic || t->dtype == KAENA_STRING)
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
    bool same = g->t.dtype == KAENA_DTYPE_NONE || g->t.dtype == t->dtype;
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
        KAENA_TRY(use(c, h->inputs[i]));
        KAENA_TRY(check_match(c, g->inputs[i], h->inputs[i]));
    }
    for (size_t i = 0; i < h->n_outputs; i++) {
        KAENA_TRY(make(c, h->outputs[i]));
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
    case KAENA__V1__NEFF_STEP__KIND_LOOP:
    case KAENA__V1__NEFF_STEP__KIND_SELECT:
    case KAENA__V1__NEFF_STEP__KIND__NOT_SET:
    case _KAENA__V1__NEFF_STEP__KIND__CASE_IS_INT_SIZE:
        break;
    }
    return KAENA_FAIL(c->err, DATA_LOSS, "of a kind this reader does not know");
}

static kaena_status check_steps(plan_check *c, const Kaena__V1__NeffPlan *plan)
{
    const Kaena__V1__NeffMeta *m = c->f->meta;
    for (size_t i = 0; i < m->n_inputs; i++)
        c->made[m->inputs[i]] = 1;
    for (c->step = 0; c->step < plan->n_steps; c->step++)
        KAENA_TRY_WRAP(c->err, check_step(c, plan->steps[c->step]), "plan: step %zu", c->step);
    for (size_t i = 0; i < m->n_outputs; i++)
        if (!c->made[m->outputs[i]])
            return KAENA_FAIL(c->err, DATA_LOSS, "plan: no step makes output '%s'",
                              c->f->value[m->outputs[i]].name);
    return KAENA_OK;
}

kaena_status neff_check_plan(const neff_file *f, kaena_err *err)
{
    const Kaena__V1__NeffPlan *plan = f->meta->plan;
    if (!plan || plan->n_steps == 0)
        return KAENA_FAIL(err, DATA_LOSS, "plan: no steps");
    if (plan->n_steps > NEFF_MAX_STEPS)
        return KAENA_FAIL(err, DATA_LOSS, "plan: %zu steps, more than %d", plan->n_steps,
                          NEFF_MAX_STEPS);
    plan_check c = {.f = f, .err = err};
    c.made = calloc(f->meta->n_values + 1, 1);
    kaena_status status =
        c.made ? check_steps(&c, plan) : KAENA_FAIL(err, RESOURCE_EXHAUSTED, "no memory");
    free(c.made);
    return status;
}
