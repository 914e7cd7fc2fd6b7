/* Checks of steps with bodies: branches, loops, cases.
 *
 * What a body makes is visible in it and in its own bodies and goes out of sight at its end; its
 * results are handed to values of the plan around it by the step. */
#include <inttypes.h>

#include "plan_check.h"

/* --- Types
 * ----------------------------------------------------------------------------------------------------------------
 */

static kaena_status misfit(const plan_check *c, const neff_tensor *from, const neff_tensor *to)
{
    char have[KAENA_SHAPE_TEXT], want[KAENA_SHAPE_TEXT];
    return KAENA_FAIL(
        c->err, DATA_LOSS, "hands '%s' (%s%s) to '%s' (%s%s)", from->name,
        kaena_dtype_name(from->dtype), kaena_shape_print(&from->shape, have, sizeof have), to->name,
        kaena_dtype_name(to->dtype), kaena_shape_print(&to->shape, want, sizeof want));
}

/* |from| can be handed to |to|: a value of known shape takes only one of the same. */
static kaena_status check_hand(const plan_check *c, uint32_t from, uint32_t to)
{
    const neff_tensor *a = &c->f->value[from], *b = &c->f->value[to];
    bool fits = a->dtype == b->dtype && a->form == b->form;
    if (fits && !b->dynamic)
        fits = !a->dynamic && kaena_shape_equal(&a->shape, &b->shape);
    return fits ? KAENA_OK : misfit(c, a, b);
}

/* |value|, which is visible, is one number of |dtype|; of a dynamic one execution checks that. */
static kaena_status check_number(const plan_check *c, uint32_t value, kaena_dtype dtype,
                                 bool may_be_dynamic)
{
    const neff_tensor *t = &c->f->value[value];
    int64_t elements;
    bool fits = t->dtype == dtype && t->form == KOP_FORM_TENSOR;
    if (fits && t->dynamic)
        fits = may_be_dynamic;
    else if (fits)
        fits = kaena_shape_elements(&t->shape, &elements) && elements == 1;
    if (!fits)
        return KAENA_FAIL(c->err, DATA_LOSS, "'%s' is not one %s", t->name,
                          kaena_dtype_name(dtype));
    return KAENA_OK;
}

static kaena_status use_number(const plan_check *c, uint32_t value, kaena_dtype dtype)
{
    KAENA_TRY(neff_plan_use(c, value));
    return check_number(c, value, dtype, true);
}

/* An optional value, given as index + 1, that the step writes. */
static kaena_status make_number(plan_check *c, uint32_t plus_one, kaena_dtype dtype)
{
    if (!plus_one)
        return KAENA_OK;
    KAENA_TRY(neff_plan_make(c, plus_one - 1));
    return check_number(c, plus_one - 1, dtype, false);
}

/* --- Bodies
 * ---------------------------------------------------------------------------------------------------------------
 */

typedef struct scope {
    size_t trail;
    int64_t body;
} scope;

/* From here on values are made in body |i|. Each stands after the body that names it, so none can
 * contain itself. */
static kaena_status enter(plan_check *c, uint32_t i, scope *out)
{
    if (i >= c->f->meta->n_bodies)
        return KAENA_FAIL(c->err, DATA_LOSS, "no body %u (of %zu)", i, c->f->meta->n_bodies);
    if ((int64_t)i <= c->body || c->body_used[i])
        return KAENA_FAIL(c->err, DATA_LOSS, "body %u belongs to another step", i);
    if (c->depth == NEFF_MAX_NESTING)
        return KAENA_FAIL(c->err, DATA_LOSS, "bodies are nested more than %d deep",
                          NEFF_MAX_NESTING);
    *out = (scope){.trail = c->n_trail, .body = c->body};
    c->body_used[i] = true;
    c->body = i;
    c->depth++;
    return KAENA_OK;
}

static void leave(plan_check *c, const scope *s)
{
    while (c->n_trail > s->trail)
        c->made[c->trail[--c->n_trail]] = PLAN_GONE;
    c->body = s->body;
    c->depth--;
}

static kaena_status check_body(plan_check *c, uint32_t i)
{
    return neff_plan_steps(c, c->f->meta->bodies[i]);
}

static kaena_status check_results(const plan_check *c, const uint32_t *results, size_t n_results,
                                  const uint32_t *outputs, size_t n_outputs)
{
    if (n_results != n_outputs)
        return KAENA_FAIL(c->err, DATA_LOSS, "%zu results for %zu outputs", n_results, n_outputs);
    for (size_t i = 0; i < n_results; i++) {
        KAENA_TRY(neff_plan_use(c, results[i]));
        KAENA_TRY(check_hand(c, results[i], outputs[i]));
    }
    return KAENA_OK;
}

/* So that their types can be looked at before they are made. */
static kaena_status check_indices(const plan_check *c, const uint32_t *values, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (values[i] >= c->f->meta->n_values)
            return KAENA_FAIL(c->err, DATA_LOSS, "no value %u", values[i]);
    return KAENA_OK;
}

static kaena_status make_all(plan_check *c, const uint32_t *values, size_t n)
{
    for (size_t i = 0; i < n; i++)
        KAENA_TRY(neff_plan_make(c, values[i]));
    return KAENA_OK;
}

/* --- Steps
 * ----------------------------------------------------------------------------------------------------------------
 */

static kaena_status check_arm(plan_check *c, uint32_t body, const uint32_t *results,
                              size_t n_results, const Kaena__V1__NeffIfStep *s)
{
    scope around;
    KAENA_TRY(enter(c, body, &around));
    KAENA_TRY(check_body(c, body));
    KAENA_TRY(check_results(c, results, n_results, s->outputs, s->n_outputs));
    leave(c, &around);
    return KAENA_OK;
}

kaena_status neff_plan_branch(plan_check *c, const Kaena__V1__NeffIfStep *s)
{
    KAENA_TRY(use_number(c, s->condition, KAENA_BOOL));
    KAENA_TRY(check_indices(c, s->outputs, s->n_outputs));
    KAENA_TRY_WRAP(c->err, check_arm(c, s->then_body, s->then_results, s->n_then_results, s),
                   "then");
    KAENA_TRY_WRAP(c->err, check_arm(c, s->else_body, s->else_results, s->n_else_results, s),
                   "else");
    return make_all(c, s->outputs, s->n_outputs);
}

static kaena_status check_carried(const plan_check *c, const Kaena__V1__NeffCarried *v)
{
    KAENA_TRY(check_indices(c, (const uint32_t[]){v->in, v->final}, 2));
    KAENA_TRY(neff_plan_use(c, v->initial));
    KAENA_TRY(check_hand(c, v->initial, v->in));
    return check_hand(c, v->in, v->final);
}

/* A static result has room for as many turns as its shape says; execution counts them. */
static kaena_status check_scan(const plan_check *c, const Kaena__V1__NeffScan *v)
{
    KAENA_TRY(neff_plan_use(c, v->element));
    KAENA_TRY(check_indices(c, &v->output, 1));
    const neff_tensor *e = &c->f->value[v->element], *o = &c->f->value[v->output];
    bool fits = e->dtype == o->dtype && e->form == KOP_FORM_TENSOR && o->form == KOP_FORM_TENSOR;
    if (fits && !o->dynamic) {
        fits = !e->dynamic && o->shape.rank == e->shape.rank + 1;
        for (int32_t d = 0; fits && d < e->shape.rank; d++)
            fits = o->shape.dim[d + 1] == e->shape.dim[d];
    }
    if (fits && !e->dynamic)
        fits = e->shape.rank < KAENA_MAX_RANK;
    return fits ? KAENA_OK : misfit(c, e, o);
}

static kaena_status check_turn(plan_check *c, const Kaena__V1__NeffLoopStep *s)
{
    KAENA_TRY(make_number(c, s->iteration, KAENA_I64));
    KAENA_TRY(make_number(c, s->condition_in, KAENA_BOOL));
    for (size_t i = 0; i < s->n_carried; i++)
        KAENA_TRY(neff_plan_make(c, s->carried[i]->in));
    KAENA_TRY(check_body(c, s->body));
    if (s->next_condition)
        KAENA_TRY(use_number(c, s->next_condition - 1, KAENA_BOOL));
    for (size_t i = 0; i < s->n_carried; i++) {
        KAENA_TRY(neff_plan_use(c, s->carried[i]->next));
        KAENA_TRY(check_hand(c, s->carried[i]->next, s->carried[i]->in));
    }
    for (size_t i = 0; i < s->n_scans; i++)
        KAENA_TRY(check_scan(c, s->scans[i]));
    return KAENA_OK;
}

kaena_status neff_plan_loop(plan_check *c, const Kaena__V1__NeffLoopStep *s)
{
    scope around;
    if (s->trip_count)
        KAENA_TRY(use_number(c, s->trip_count - 1, KAENA_I64));
    if (s->condition)
        KAENA_TRY(use_number(c, s->condition - 1, KAENA_BOOL));
    for (size_t i = 0; i < s->n_carried; i++)
        KAENA_TRY(check_carried(c, s->carried[i]));
    KAENA_TRY(enter(c, s->body, &around));
    KAENA_TRY_WRAP(c->err, check_turn(c, s), "loop");
    leave(c, &around);
    for (size_t i = 0; i < s->n_carried; i++)
        KAENA_TRY(neff_plan_make(c, s->carried[i]->final));
    for (size_t i = 0; i < s->n_scans; i++)
        KAENA_TRY(neff_plan_make(c, s->scans[i]->output));
    return KAENA_OK;
}

/* Shapes the request must have to take this case: those of the model's inputs where they are fixed.
 */
static kaena_status check_case_inputs(plan_check *c, const Kaena__V1__NeffSelectCase *k)
{
    const Kaena__V1__NeffMeta *m = c->f->meta;
    if (k->n_inputs != m->n_inputs)
        return KAENA_FAIL(c->err, DATA_LOSS, "%zu inputs, the model has %zu", k->n_inputs,
                          m->n_inputs);
    for (size_t i = 0; i < k->n_inputs; i++) {
        KAENA_TRY(neff_plan_make(c, k->inputs[i]));
        const neff_tensor *own = &c->f->value[k->inputs[i]], *model = &c->f->value[m->inputs[i]];
        bool fits = own->dtype == model->dtype && own->form == model->form;
        if (own->dynamic || (!model->dynamic && !m->dynamic_batch))
            fits = fits && own->dynamic == model->dynamic &&
                   (own->dynamic || kaena_shape_equal(&own->shape, &model->shape));
        if (!fits)
            return misfit(c, model, own);
    }
    return KAENA_OK;
}

static kaena_status check_case(plan_check *c, const Kaena__V1__NeffSelectCase *k,
                               const Kaena__V1__NeffSelectStep *s)
{
    const Kaena__V1__NeffMeta *m = c->f->meta;
    scope around;
    KAENA_TRY(enter(c, k->body, &around));
    KAENA_TRY(check_case_inputs(c, k));
    /* The model's own inputs have other shapes: nothing inside may read them. */
    for (size_t i = 0; i < m->n_inputs; i++)
        c->made[m->inputs[i]] = PLAN_GONE;
    KAENA_TRY(check_body(c, k->body));
    KAENA_TRY(check_results(c, k->results, k->n_results, s->outputs, s->n_outputs));
    KAENA_TRY(neff_plan_batch(c, k->inputs, k->n_inputs, k->results, k->n_results));
    for (size_t i = 0; i < m->n_inputs; i++)
        c->made[m->inputs[i]] = PLAN_VISIBLE;
    leave(c, &around);
    return KAENA_OK;
}

kaena_status neff_plan_select(plan_check *c, const Kaena__V1__NeffSelectStep *s)
{
    const Kaena__V1__NeffMeta *m = c->f->meta;
    if (s->n_cases == 0)
        return KAENA_FAIL(c->err, DATA_LOSS, "step 0 has no case to choose");
    KAENA_TRY(check_indices(c, s->outputs, s->n_outputs));
    /* The batch's outputs are the step's: a case's results say how many rows an item has. */
    bool same = s->n_outputs == m->n_outputs;
    for (size_t i = 0; same && i < s->n_outputs; i++)
        same = s->outputs[i] == m->outputs[i];
    if (!same)
        return KAENA_FAIL(c->err, DATA_LOSS, "step 0 does not make the model's outputs");
    for (size_t i = 0; i < s->n_cases; i++)
        KAENA_TRY_WRAP(c->err, check_case(c, s->cases[i], s), "case %zu", i);
    return make_all(c, s->outputs, s->n_outputs);
}

/* --- Dynamic batch
 * --------------------------------------------------------------------------------------------------------
 */

kaena_status neff_plan_batch(const plan_check *c, const uint32_t *inputs, size_t n_inputs,
                             const uint32_t *outputs, size_t n_outputs)
{
    const Kaena__V1__NeffDynamicBatch *b = c->f->meta->dynamic_batch;
    int64_t batch = 0;
    (void)n_inputs;
    (void)n_outputs;
    for (size_t i = 0; b && i < b->n_inputs; i++) {
        const neff_tensor *t = &c->f->value[inputs[b->inputs[i]]];
        if (t->dynamic || t->shape.rank < 1 || t->shape.dim[0] < 1 ||
            (batch && t->shape.dim[0] != batch))
            return KAENA_FAIL(c->err, DATA_LOSS, "dynamic batch: '%s' does not say how many items",
                              t->name);
        batch = t->shape.dim[0];
    }
    for (size_t i = 0; b && i < b->n_outputs; i++) {
        const neff_tensor *t = &c->f->value[outputs[b->outputs[i]]];
        if (!t->dynamic && (t->shape.rank < 1 || t->shape.dim[0] % batch != 0))
            return KAENA_FAIL(c->err, DATA_LOSS,
                              "dynamic batch: '%s' cannot be split into %" PRId64 " items", t->name,
                              batch);
    }
    return KAENA_OK;
}
