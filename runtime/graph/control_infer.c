/* Types of nodes with bodies.
 *
 * What a loop carries is typed by rounds: the body is inferred with what is known of the carried
 * values, which then becomes what is common to that and to what the body makes of them, until it
 * stays. The rounds of a body that changed something are counted over the whole inference, inner
 * loops' over all rounds of the outer ones, and after a few everything carried counts as unknown:
 * so bodies in bodies cost a sum of rounds, not a product. */
#include "control.h"

#define ROUNDS_TO_UNRANKED 4 /* from here on a value that changes loses its rank */
#define ROUNDS_IN_ALL 8      /* from here on all do if one changes */

static kop_tensor type_of(const kop_tensor *t)
{
    kop_tensor type = *t;
    type.data = NULL;
    type.count = 0;
    return type;
}

static bool same_type(const kop_tensor *a, const kop_tensor *b)
{
    return a->form == b->form && a->dtype == b->dtype && a->unranked == b->unranked &&
           (a->unranked || kaena_shape_equal(&a->shape, &b->shape));
}

static void make_unranked(kop_tensor *t)
{
    t->unranked = true;
    t->shape = (kaena_shape){0};
}

/* |t| without dimension |axis|, or with one of |dim| at |axis|. */
static kaena_status drop_axis(kop_tensor *t, int64_t axis, kaena_err *err)
{
    int32_t at;
    if (t->unranked)
        return KAENA_OK;
    if (!kop_axis(axis, t->shape.rank, &at))
        return KAENA_FAIL(err, INVALID_ARGUMENT, "a scan input of rank %d has no axis %lld",
                          t->shape.rank, (long long)axis);
    for (int32_t d = at; d + 1 < t->shape.rank; d++)
        t->shape.dim[d] = t->shape.dim[d + 1];
    t->shape.rank--;
    return KAENA_OK;
}

static kaena_status add_axis(kop_tensor *t, int64_t axis, int64_t dim, kaena_err *err)
{
    int32_t at;
    if (t->unranked)
        return KAENA_OK;
    if (t->shape.rank == KAENA_MAX_RANK)
        return KAENA_FAIL(err, UNIMPLEMENTED, "a result would have more than %d dimensions",
                          KAENA_MAX_RANK);
    if (!kop_axis(axis, t->shape.rank + 1, &at))
        return KAENA_FAIL(err, INVALID_ARGUMENT, "a result of rank %d has no axis %lld",
                          t->shape.rank + 1, (long long)axis);
    for (int32_t d = t->shape.rank++; d > at; d--)
        t->shape.dim[d] = t->shape.dim[d - 1];
    t->shape.dim[at] = dim;
    return KAENA_OK;
}

static int64_t listed(const kgr_node *n, const char *name, uint32_t i)
{
    const kop_attr *a = kgr_attr_find(n, name);
    return a && a->type == KOP_ATTR_INTS && i < a->n ? a->u.ints[i] : 0;
}

/* --- If -------------------------------------------------------------------------------------- */

static kaena_status infer_if(kgr_node *n, bool infer_data, kaena_err *err)
{
    for (uint32_t b = 0; b < n->n_body; b++) {
        for (uint32_t i = 1; i < n->n_in; i++)
            n->body[b]->inputs[i - 1]->t = type_of(&n->in[i]->t);
        KAENA_TRY(kgr_infer_inside(n->body[b], infer_data, err));
    }
    for (uint32_t i = 0; i < n->n_out; i++) {
        const kgr_value *yes = n->body[0]->outputs[i], *no = n->body[1]->outputs[i];
        if (!kop_join_types(&yes->t, &no->t, &n->out[i]->t))
            return KAENA_FAIL(err, INVALID_ARGUMENT,
                              "result %u is %s of %s in one branch and %s of %s in the other", i,
                              kop_form_name(yes->t.form), kaena_dtype_name(yes->t.dtype),
                              kop_form_name(no->t.form), kaena_dtype_name(no->t.dtype));
    }
    return KAENA_OK;
}

/* --- Loop and Scan --------------------------------------------------------------------------- */

/* What operand |i| is in the body, before what the turns make of it. */
static kaena_status type_at_start(const kgr_node *n, uint32_t i, kop_tensor *out, kaena_err *err)
{
    uint32_t carried = kgr_carried(n);
    if (n->op == KOP_Loop && i < 2) {
        *out = (kop_tensor){.dtype = i == 0 ? KAENA_I64 : KAENA_BOOL};
        return KAENA_OK;
    }
    *out = type_of(&n->in[i]->t);
    if (n->op == KOP_Scan && i >= carried && i < kgr_own_inputs(n))
        return drop_axis(out, listed(n, "scan_input_axes", i - carried), err);
    return KAENA_OK;
}

/* Gives the body's inputs their types: in the first round as they come in, later no more than was
 * known before. */
static kaena_status bind(kgr_node *n, kaena_err *err)
{
    kgr_graph *body = n->body[0];
    for (uint32_t i = 0; i < n->n_in; i++) {
        kop_tensor t;
        KAENA_TRY(type_at_start(n, i, &t, err));
        kgr_value *v = body->inputs[i];
        if (body->rounds == 0)
            v->t = t;
        else if (!kop_join_types(&v->t, &t, &v->t))
            return KAENA_FAIL(err, INVALID_ARGUMENT, "operand %u changes its type", i);
    }
    return KAENA_OK;
}

static bool is_optional_of(const kop_tensor *optional, const kop_tensor *element)
{
    return optional->form >= KOP_FORM_OPTIONAL && kop_item_form(optional->form) == element->form;
}

/* What a turn makes of the carried values goes into their types. */
static kaena_status merge(kgr_node *n, bool *changed, kaena_err *err)
{
    kgr_graph *body = n->body[0];
    uint32_t first_in = n->op == KOP_Loop ? 2 : 0, first_out = n->op == KOP_Loop;
    for (uint32_t i = 0; i < kgr_carried(n); i++) {
        kgr_value *in = body->inputs[first_in + i];
        const kop_tensor *made = &body->outputs[first_out + i]->t;
        kop_tensor t;
        kop_tensor next = type_of(made);
        if (is_optional_of(&in->t, made)) /* the next turn gets one that is there */
            next.form = in->t.form;
        if (!kop_join_types(&in->t, &next, &t))
            return KAENA_FAIL(err, INVALID_ARGUMENT,
                              "'%s' is %s of %s and becomes %s of %s in the next turn", in->name,
                              kop_form_name(in->t.form), kaena_dtype_name(in->t.dtype),
                              kop_form_name(next.form), kaena_dtype_name(next.dtype));
        if (same_type(&t, &in->t))
            continue;
        if (body->rounds >= ROUNDS_TO_UNRANKED)
            make_unranked(&t);
        *changed = true;
        in->t = t;
    }
    for (uint32_t i = 0; *changed && body->rounds >= ROUNDS_IN_ALL && i < kgr_carried(n); i++)
        make_unranked(&body->inputs[first_in + i]->t);
    return KAENA_OK;
}

static kaena_status infer_rounds(kgr_node *n, kaena_err *err)
{
    KAENA_TRY(bind(n, err));
    for (bool changed = true; changed;) {
        changed = false;
        KAENA_TRY(kgr_infer_inside(n->body[0], false, err));
        KAENA_TRY(merge(n, &changed, err));
        n->body[0]->rounds += changed || n->body[0]->rounds == 0;
    }
    return KAENA_OK;
}

/* |v| is true whatever happens: a constant, or the condition that came in as true. */
static bool stays_true(const kgr_graph *body, const kgr_value *v)
{
    while (v->producer && v->producer->op == KOP_Identity)
        v = v->producer->in[0];
    if (kgr_is_const(v))
        return v->t.dtype == KAENA_BOOL && kop_elements(&v->t) == 1 && kop_get_int(&v->t, 0);
    return v == body->inputs[1];
}

/* Turns of a Loop that runs them all, or of a Scan; else unknown. */
static int64_t count_turns(const kgr_node *n)
{
    uint32_t carried = kgr_carried(n);
    int32_t axis;
    if (n->op == KOP_Scan) {
        const kop_tensor *x = &n->in[carried]->t;
        return !x->unranked && kop_axis(listed(n, "scan_input_axes", 0), x->shape.rank, &axis)
                   ? x->shape.dim[axis]
                   : KAENA_DIM_UNKNOWN;
    }
    const kgr_value *most = n->in[0], *cond = n->in[1];
    bool starts = !cond || (kgr_is_const(cond) && cond->t.dtype == KAENA_BOOL &&
                            kop_elements(&cond->t) == 1 && kop_get_int(&cond->t, 0));
    if (!starts || !kgr_is_const(most) || most->t.dtype != KAENA_I64 ||
        kop_elements(&most->t) != 1 || (cond && !stays_true(n->body[0], n->body[0]->outputs[0])))
        return KAENA_DIM_UNKNOWN;
    int64_t turns = kop_get_int(&most->t, 0);
    return turns < 0 ? 0 : turns;
}

static kaena_status infer_results(kgr_node *n, kaena_err *err)
{
    const kgr_graph *body = n->body[0];
    uint32_t carried = kgr_carried(n), first_in = n->op == KOP_Loop ? 2 : 0,
             first_out = n->op == KOP_Loop;
    int64_t turns = count_turns(n);
    for (uint32_t i = 0; i < n->n_out; i++) {
        kop_tensor *t = &n->out[i]->t;
        if (i < carried) { /* without a turn it is what came in */
            *t = type_of(&body->inputs[first_in + i]->t);
            const kop_tensor *made = &body->outputs[first_out + i]->t;
            if (is_optional_of(t, made)) /* it is given up as what it holds */
                t->form = made->form;
            continue;
        }
        *t = type_of(&body->outputs[first_out + i]->t);
        if (t->form != KOP_FORM_TENSOR)
            return KAENA_FAIL(err, INVALID_ARGUMENT, "result %u collects what is no tensor", i);
        int64_t axis = n->op == KOP_Scan ? listed(n, "scan_output_axes", i - carried) : 0;
        KAENA_TRY(add_axis(t, axis, turns, err));
    }
    return KAENA_OK;
}

kaena_status kgr_infer_bodies(kgr_node *n, bool infer_data, kaena_err *err)
{
    if (n->op == KOP_If)
        return infer_if(n, infer_data, err);
    KAENA_TRY(infer_rounds(n, err));
    if (infer_data)
        KAENA_TRY(kgr_infer_inside(n->body[0], true, err));
    return infer_results(n, err);
}
