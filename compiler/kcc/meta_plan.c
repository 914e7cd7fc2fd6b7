/* The plan: steps, and the bodies of those that have some. */
#include <string.h>

#include "meta.h"

/* A unit's values inside the plan around them. */
typedef struct place {
    kcc_unit *unit;
    const char *prefix; /* of its values' names */
} place;

static Kaena__V1__NeffStep *new_step(kcc_meta *b, Kaena__V1__NeffStep__KindCase kind)
{
    Kaena__V1__NeffStep *step = KAENA_NEW(b->a, Kaena__V1__NeffStep);
    kaena__v1__neff_step__init(step);
    step->kind_case = kind;
    return step;
}

static uint32_t value_of(kcc_meta *b, const place *at, const kgr_value *v)
{
    return kcc_meta_value(b, at->unit, v, at->prefix);
}

static uint32_t *values_of(kcc_meta *b, const place *at, kgr_value *const *v, uint32_t n)
{
    uint32_t *out = KAENA_NEW_N(b->a, uint32_t, n);
    for (uint32_t i = 0; i < n; i++)
        out[i] = value_of(b, at, v[i]);
    return out;
}

static Kaena__V1__NeffStep *device_step(kcc_meta *b, const place *at, const kcc_step *s,
                                        const kcc_module *m, uint32_t device)
{
    Kaena__V1__NeffStep *step = new_step(b, KAENA__V1__NEFF_STEP__KIND_DEVICE);
    Kaena__V1__NeffDeviceStep *d = step->device = KAENA_NEW(b->a, Kaena__V1__NeffDeviceStep);
    kaena__v1__neff_device_step__init(d);
    d->n_entries = m->n_tpbs;
    d->entries = b->entry[device];
    d->n_io = d->n_io_written = s->n_in + s->n_out;
    d->io = KAENA_NEW_N(b->a, uint32_t, d->n_io);
    d->io_written = KAENA_NEW_N(b->a, protobuf_c_boolean, d->n_io);
    for (uint32_t i = 0; i < d->n_io; i++) {
        d->io[i] = value_of(b, at, i < s->n_in ? s->in[i] : s->out[i - s->n_in]);
        d->io_written[i] = i >= s->n_in;
    }
    return step;
}

static Kaena__V1__NeffStep *host_step(kcc_meta *b, const place *at, const kcc_step *s,
                                      uint32_t graph)
{
    Kaena__V1__NeffStep *step = new_step(b, KAENA__V1__NEFF_STEP__KIND_HOST);
    Kaena__V1__NeffHostStep *h = step->host = KAENA_NEW(b->a, Kaena__V1__NeffHostStep);
    kaena__v1__neff_host_step__init(h);
    h->graph = graph;
    h->n_inputs = s->n_in;
    h->inputs = values_of(b, at, s->in, s->n_in);
    h->n_outputs = s->n_out;
    h->outputs = values_of(b, at, s->out, s->n_out);
    return step;
}

/* --- Bodies ---------------------------------------------------------------------------------- */

/* A body's number comes before those of the bodies in it. */
static uint32_t reserve_body(kcc_meta *b)
{
    Kaena__V1__NeffMeta *m = b->meta;
    if (m->n_bodies == b->cap_bodies) {
        uint32_t capacity = b->cap_bodies = b->cap_bodies ? b->cap_bodies * 2 : 16;
        Kaena__V1__NeffPlan **grown = KAENA_NEW_N(b->a, Kaena__V1__NeffPlan *, capacity);
        if (m->n_bodies)
            memcpy(grown, m->bodies, m->n_bodies * sizeof *grown);
        m->bodies = grown;
    }
    return (uint32_t)m->n_bodies++;
}

static Kaena__V1__NeffPlan *plan_of(kcc_meta *b, const place *at);

static place place_of(kcc_meta *b, kcc_unit *unit, uint32_t body)
{
    return (place){unit, kaena_arena_printf(b->a, "body%u/", body)};
}

/* Captured values are the outer ones. */
static void bind_captured(kcc_meta *b, const place *outer, const kgr_node *n, uint32_t body,
                          kcc_unit *inner)
{
    for (uint32_t i = kgr_own_inputs(n); i < n->n_in; i++) {
        const kgr_value *v = kgr_body_input(n, body, i);
        if (v && v->n_uses && n->in[i])
            inner->index[v->id] = value_of(b, outer, n->in[i]) + 1;
    }
}

static Kaena__V1__NeffStep *if_step(kcc_meta *b, const place *at, const kgr_node *n,
                                    kcc_unit *const *body)
{
    Kaena__V1__NeffStep *step = new_step(b, KAENA__V1__NEFF_STEP__KIND_BRANCH);
    Kaena__V1__NeffIfStep *s = step->branch = KAENA_NEW(b->a, Kaena__V1__NeffIfStep);
    kaena__v1__neff_if_step__init(s);
    s->condition = value_of(b, at, n->in[0]);
    for (uint32_t k = 0; k < 2; k++) {
        uint32_t number = reserve_body(b);
        place inside = place_of(b, body[k], number);
        bind_captured(b, at, n, k, body[k]);
        Kaena__V1__NeffPlan *plan = plan_of(b, &inside);
        b->meta->bodies[number] = plan;
        uint32_t *results = values_of(b, &inside, body[k]->graph->outputs, n->n_out);
        if (k == 0) {
            s->then_body = number;
            s->then_results = results;
            s->n_then_results = n->n_out;
        } else {
            s->else_body = number;
            s->else_results = results;
            s->n_else_results = n->n_out;
        }
    }
    s->n_outputs = n->n_out;
    s->outputs = values_of(b, at, n->out, n->n_out);
    return step;
}

/* Index + 1 of a value that the body may not read at all. */
static uint32_t used_value(kcc_meta *b, const place *at, const kgr_value *v)
{
    return v->n_uses ? value_of(b, at, v) + 1 : 0;
}

/* A result that the node does not have, because nobody reads it. */
static uint32_t nameless(kcc_meta *b, const kgr_value *like, uint32_t number)
{
    kop_tensor t = like->t;
    t.data = NULL;
    return kcc_meta_add_value(b, kaena_arena_printf(b->a, "body%u:unread %u", number, like->id),
                              &t);
}

static Kaena__V1__NeffStep *loop_step(kcc_meta *b, const place *at, const kgr_node *n,
                                      kcc_unit *body)
{
    Kaena__V1__NeffStep *step = new_step(b, KAENA__V1__NEFF_STEP__KIND_LOOP);
    Kaena__V1__NeffLoopStep *s = step->loop = KAENA_NEW(b->a, Kaena__V1__NeffLoopStep);
    kgr_graph *g = body->graph;
    uint32_t carried = kgr_carried(n), number = reserve_body(b);
    place inside = place_of(b, body, number);
    kaena__v1__neff_loop_step__init(s);
    s->body = number;
    s->trip_count = n->in[0] ? value_of(b, at, n->in[0]) + 1 : 0;
    s->condition = n->in[1] ? value_of(b, at, n->in[1]) + 1 : 0;
    s->iteration = used_value(b, &inside, g->inputs[0]);
    s->condition_in = used_value(b, &inside, g->inputs[1]);
    bind_captured(b, at, n, 0, body);
    s->n_carried = carried;
    s->carried = KAENA_NEW_N(b->a, Kaena__V1__NeffCarried *, carried);
    for (uint32_t i = 0; i < carried; i++) {
        Kaena__V1__NeffCarried *v = s->carried[i] = KAENA_NEW(b->a, Kaena__V1__NeffCarried);
        kaena__v1__neff_carried__init(v);
        v->initial = value_of(b, at, n->in[2 + i]);
        v->in = value_of(b, &inside, g->inputs[2 + i]);
    }
    Kaena__V1__NeffPlan *plan = plan_of(b, &inside); /* may move the list of bodies */
    b->meta->bodies[number] = plan;
    s->next_condition = value_of(b, &inside, g->outputs[0]) + 1;
    s->n_scans = g->n_outputs - 1 - carried;
    s->scans = KAENA_NEW_N(b->a, Kaena__V1__NeffScan *, s->n_scans);
    for (uint32_t i = 0; i + 1 < g->n_outputs; i++) {
        uint32_t inner = value_of(b, &inside, g->outputs[1 + i]);
        if (i < carried) {
            s->carried[i]->next = inner;
            s->carried[i]->final =
                i < n->n_out ? value_of(b, at, n->out[i]) : nameless(b, g->inputs[2 + i], number);
        } else if (i < n->n_out) {
            Kaena__V1__NeffScan *v = s->scans[i - carried] = KAENA_NEW(b->a, Kaena__V1__NeffScan);
            kaena__v1__neff_scan__init(v);
            v->element = inner;
            v->output = value_of(b, at, n->out[i]);
        } else {
            s->n_scans = i - carried;
            break;
        }
    }
    return step;
}

/* --- Plans ----------------------------------------------------------------------------------- */

static Kaena__V1__NeffPlan *new_plan(kcc_meta *b, uint32_t n_steps)
{
    Kaena__V1__NeffPlan *plan = KAENA_NEW(b->a, Kaena__V1__NeffPlan);
    kaena__v1__neff_plan__init(plan);
    plan->n_steps = n_steps;
    plan->steps = KAENA_NEW_N(b->a, Kaena__V1__NeffStep *, n_steps);
    return plan;
}

static Kaena__V1__NeffPlan *plan_of(kcc_meta *b, const place *at)
{
    const kcc_unit *u = at->unit;
    uint32_t graph = u->first_graph, device = u->first_device;
    Kaena__V1__NeffPlan *plan = new_plan(b, u->plan.n_steps);
    for (uint32_t i = 0; i < u->plan.n_steps; i++) {
        const kcc_step *s = &u->plan.steps[i];
        if (s->on_device)
            plan->steps[i] = device_step(b, at, s, u->module[i], device++);
        else if (!s->by_plan)
            plan->steps[i] = host_step(b, at, s, graph++);
        else if (s->nodes[0]->op == KOP_If)
            plan->steps[i] = if_step(b, at, s->nodes[0], u->body[i]);
        else
            plan->steps[i] = loop_step(b, at, s->nodes[0], u->body[i][0]);
    }
    return plan;
}

static Kaena__V1__NeffPlan *select_plan(kcc_meta *b)
{
    kcc_compilation *c = b->c;
    Kaena__V1__NeffMeta *m = b->meta;
    Kaena__V1__NeffStep *step = new_step(b, KAENA__V1__NEFF_STEP__KIND_SELECT);
    Kaena__V1__NeffSelectStep *s = step->select = KAENA_NEW(b->a, Kaena__V1__NeffSelectStep);
    kaena__v1__neff_select_step__init(s);
    s->n_outputs = m->n_outputs;
    s->outputs = m->outputs;
    s->n_cases = c->n_graphs;
    s->cases = KAENA_NEW_N(b->a, Kaena__V1__NeffSelectCase *, c->n_graphs);
    for (uint32_t i = 0; i < c->n_graphs; i++) {
        Kaena__V1__NeffSelectCase *k = s->cases[i] = KAENA_NEW(b->a, Kaena__V1__NeffSelectCase);
        const kgr_graph *g = c->graphs[i];
        uint32_t number = reserve_body(b);
        place inside = place_of(b, c->variant[i], number);
        kaena__v1__neff_select_case__init(k);
        k->body = number;
        k->n_inputs = g->n_inputs;
        k->inputs = values_of(b, &inside, g->inputs, g->n_inputs);
        Kaena__V1__NeffPlan *plan = plan_of(b, &inside);
        m->bodies[number] = plan;
        k->n_results = g->n_outputs;
        k->results = values_of(b, &inside, g->outputs, g->n_outputs);
    }
    Kaena__V1__NeffPlan *plan = new_plan(b, 1);
    plan->steps[0] = step;
    return plan;
}

static bool same_boundary(const kgr_graph *a, const kgr_graph *b)
{
    bool same = a->n_inputs == b->n_inputs && a->n_outputs == b->n_outputs;
    for (uint32_t i = 0; same && i < a->n_inputs; i++)
        same = strcmp(a->inputs[i]->name, b->inputs[i]->name) == 0 &&
               a->inputs[i]->t.dtype == b->inputs[i]->t.dtype;
    for (uint32_t i = 0; same && i < a->n_outputs; i++)
        same = strcmp(kgr_output_name(a->outputs[i]), kgr_output_name(b->outputs[i])) == 0 &&
               a->outputs[i]->t.dtype == b->outputs[i]->t.dtype;
    return same;
}

kaena_status kcc_meta_plan(kcc_meta *b)
{
    kcc_compilation *c = b->c;
    for (uint32_t i = 1; i < c->n_graphs; i++)
        if (!same_boundary(c->graph, c->graphs[i]))
            return KAENA_FAIL(b->err, INVALID_ARGUMENT,
                              "--io-config number %u gives other inputs, outputs or types than the "
                              "first; they may differ in shapes alone",
                              i + 1);
    const place whole = {c->variant[0], ""};
    b->meta->plan = c->n_graphs > 1 ? select_plan(b) : plan_of(b, &whole);
    return KAENA_OK;
}
