/* requires: shapes and types
 * establishes: a Scan of known length whose body has work for the device is a Loop that takes its
 * slices itself, because the plan knows loops */
#include "cost.h"
#include "pass_util.h"

typedef struct scan {
    kgr_graph *g; /* the Scan's */
    kgr_node *n;
    kgr_graph *loop; /* the new body */
    int64_t turns;
    uint32_t states, scans, collected;
    kaena_err *err;
} scan;

static int64_t listed(const kgr_node *n, const char *name, uint32_t i)
{
    const kop_attr *a = kgr_attr_find(n, name);
    return a && a->type == KOP_ATTR_INTS && i < a->n ? a->u.ints[i] : 0;
}

static kaena_status no_memory(const scan *s)
{
    return KAENA_FAIL(s->err, RESOURCE_EXHAUSTED, "no memory for the body of '%s'", s->n->name);
}

/* What the device would save in one run of the body is more than a step's start. */
static bool is_worth_it(const kgr_graph *body)
{
    double us = -KCC_DEVICE_STEP_US;
    for (const kgr_node *n = body->first; n; n = n->next)
        us += kcc_is_pe(n) || n->op == KOP_LSTM || n->op == KOP_GRU || n->op == KOP_RNN
                  ? kcc_host_us(n) - kcc_device_us(n)
                  : 0;
    return us > 0;
}

static bool turns_of(const scan *s, int64_t *turns)
{
    const kgr_value *v = s->n->in[s->states];
    int32_t axis;
    if (!kcc_known(v) || !kop_axis(listed(s->n, "scan_input_axes", 0), v->t.shape.rank, &axis))
        return false;
    *turns = v->t.shape.dim[axis];
    return true;
}

/* A node at the end of |g| with one typed result. */
static kaena_status append(const scan *s, kgr_graph *g, kgr_node *after, kop_op op,
                           kgr_value *const *in, uint32_t n_in, kgr_node **out)
{
    *out = kgr_node_add(g, after, op, NULL, s->n->origin, in, n_in, NULL, 1);
    return *out ? KAENA_OK : no_memory(s);
}

static kgr_value *scalar(kgr_graph *g, int64_t v)
{
    int64_t *data = kaena_arena_memdup(g->arena, &v, sizeof v);
    return data ? kgr_const_add(g, NULL, KAENA_I64, &(kaena_shape){.rank = 0}, data) : NULL;
}

/* Slice |k| of turn |i|. */
static kaena_status take_slice(const scan *s, uint32_t k, kgr_value *i, kgr_value *whole,
                               kgr_value **out)
{
    kgr_node *n;
    int32_t axis;
    if (listed(s->n, "scan_input_directions", k)) {
        kgr_value *in[] = {scalar(s->loop, s->turns - 1), i};
        if (!in[0])
            return no_memory(s);
        KAENA_TRY(append(s, s->loop, NULL, KOP_Sub, in, 2, &n));
        KAENA_TRY(kgr_infer_node(n, s->err));
        i = n->out[0];
    }
    if (!kcc_known(whole) ||
        !kop_axis(listed(s->n, "scan_input_axes", k), whole->t.shape.rank, &axis))
        return KAENA_FAIL(s->err, INVALID_ARGUMENT, "node '%s' (%s): operand %u has no such axis",
                          s->n->name, s->n->origin, s->states + k);
    kgr_value *in[] = {whole, i};
    KAENA_TRY(append(s, s->loop, NULL, KOP_Gather, in, 2, &n));
    if (!kgr_attr_int(s->loop, n, "axis", axis))
        return no_memory(s);
    KAENA_TRY(kgr_infer_node(n, s->err));
    *out = n->out[0];
    return KAENA_OK;
}

static kgr_value *add_input(const scan *s, const char *name, const kop_tensor *t)
{
    kgr_value *v = kgr_value_add(s->loop, name, t->dtype, &t->shape);
    if (!v || !kgr_input_add(s->loop, v))
        return NULL;
    v->t = *t;
    v->t.data = NULL;
    return v;
}

/* body(i, cond, states..., whole inputs..., captured...) -> cond, states..., slices... */
static kaena_status make_body(scan *s)
{
    const kgr_graph *from = s->n->body[0];
    uint32_t n_in = s->n->n_in;
    kgr_value **outer = KAENA_NEW_N(s->g->arena, kgr_value *, n_in),
              **in = KAENA_NEW_N(s->g->arena, kgr_value *, n_in),
              **out = KAENA_NEW_N(s->g->arena, kgr_value *, from->n_outputs);
    s->loop = kgr_graph_create(s->g->arena, from->name);
    if (!outer || !in || !out || !s->loop)
        return no_memory(s);
    const kop_tensor number = {.dtype = KAENA_I64}, flag = {.dtype = KAENA_BOOL};
    kgr_value *i = add_input(s, "turn", &number), *condition = add_input(s, "go on", &flag);
    for (uint32_t k = 0; k < n_in; k++)
        if (!(outer[k] = add_input(s, from->inputs[k]->name, &s->n->in[k]->t)))
            return no_memory(s);
    for (uint32_t k = 0; k < n_in; k++) {
        in[k] = outer[k];
        if (k >= s->states && k < s->states + s->scans)
            KAENA_TRY(take_slice(s, k - s->states, i, outer[k], &in[k]));
    }
    kgr_node *same;
    KAENA_TRY(append(s, s->loop, NULL, KOP_Identity, &condition, 1, &same));
    if (!kgr_copy_nodes(s->loop, NULL, from, in, out) || !kgr_output_add(s->loop, same->out[0]))
        return no_memory(s);
    for (uint32_t k = 0; k < from->n_outputs; k++) {
        kgr_node *copy;
        KAENA_TRY(append(s, s->loop, NULL, KOP_Identity, &out[k], 1, &copy));
        if (!kgr_output_add(s->loop, copy->out[0]))
            return no_memory(s);
    }
    return KAENA_OK;
}

/* The Loop collects along axis 0, first turn first. */
static kaena_status arrange(const scan *s, uint32_t k, kgr_value *v, kgr_node **last,
                            kgr_value **out)
{
    kgr_node *n;
    int32_t axis;
    if (listed(s->n, "scan_output_directions", k)) {
        int64_t backwards[4] = {-1, INT64_MIN + 1, 0, -1};
        kgr_value *in[5] = {v};
        for (uint32_t j = 0; j < 4; j++)
            if (!(in[j + 1] = kgr_const_i64(s->g, NULL, &backwards[j], 1)))
                return no_memory(s);
        KAENA_TRY(append(s, s->g, *last, KOP_Slice, in, 5, &n));
        KAENA_TRY(kgr_infer_node(n, s->err));
        *last = n;
        v = n->out[0];
    }
    if (kcc_known(v) && kop_axis(listed(s->n, "scan_output_axes", k), v->t.shape.rank, &axis) &&
        axis > 0) {
        int64_t perm[KAENA_MAX_RANK];
        for (int32_t d = 0; d < v->t.shape.rank; d++)
            perm[d] = d < axis ? d + 1 : d == axis ? 0 : d;
        KAENA_TRY(append(s, s->g, *last, KOP_Transpose, &v, 1, &n));
        if (!kgr_attr_ints(s->g, n, "perm", perm, (uint32_t)v->t.shape.rank))
            return no_memory(s);
        KAENA_TRY(kgr_infer_node(n, s->err));
        *last = n;
        v = n->out[0];
    }
    *out = v;
    return KAENA_OK;
}

static kaena_status rewrite(scan *s)
{
    uint32_t n_in = s->n->n_in, n_out = s->states + s->collected;
    kgr_value **in = KAENA_NEW_N(s->g->arena, kgr_value *, n_in + 2);
    kgr_value *turns = scalar(s->g, s->turns);
    KAENA_TRY(make_body(s));
    if (!in || !turns)
        return no_memory(s);
    in[0] = turns;
    for (uint32_t k = 0; k < n_in; k++)
        in[2 + k] = s->n->in[k];
    kgr_node *loop =
        kgr_node_add(s->g, s->n, KOP_Loop, s->n->name, s->n->origin, in, n_in + 2, NULL, n_out);
    if (!loop || !kgr_node_set_bodies(s->g, loop, &s->loop, 1) ||
        !kgr_attr_int(s->g, loop, "kaena.carried", s->states))
        return no_memory(s);
    KAENA_TRY(kgr_infer_node(loop, s->err));
    kgr_node *last = loop;
    for (uint32_t k = 0; k < s->n->n_out; k++) {
        kgr_value *v = loop->out[k];
        if (k >= s->states)
            KAENA_TRY(arrange(s, k - s->states, v, &last, &v));
        kgr_replace_uses(s->g, s->n->out[k], v);
    }
    kgr_node_remove(s->g, s->n);
    return KAENA_OK;
}

kaena_status kcc_pass_scan(kgr_graph *g, const kcc_options *opt, kaena_err *err)
{
    (void)opt;
    for (kgr_node *n = g->first, *next; n; n = next) {
        next = n->next;
        if (n->op != KOP_Scan || n->device == KGR_HOST || !is_worth_it(n->body[0]))
            continue;
        scan s = {.g = g, .n = n, .states = kgr_carried(n), .err = err};
        s.scans = kgr_own_inputs(n) - s.states;
        s.collected = n->body[0]->n_outputs - s.states;
        if (turns_of(&s, &s.turns))
            KAENA_TRY(rewrite(&s));
    }
    return KAENA_OK;
}
