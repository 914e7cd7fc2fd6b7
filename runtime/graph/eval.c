#include <stdlib.h>
#include <string.h>

#include "control.h"
#include "graph.h"

/* A node's outputs live in an arena of their own, which goes when the last of their uses has been
 * evaluated. */
typedef struct storage {
    kaena_arena arena;
    uint32_t pending; /* uses of the outputs still to come, and storages that hold this one; a graph
                         output counts one that never comes */
    const kgr_node *holds; /* the results may point into this node's operands, which live as long;
                              NULL: they do not */
    struct storage *next;  /* to be released */
} storage;

struct kgr_evaluation {
    const kgr_graph *g;
    kop_env *env;
    kop_tensor *tensor; /* [n_values] */
    storage *storage;   /* [n_values], at the id of the producer's first output */
    kop_tensor *result; /* [n_outputs] */
    size_t held;        /* bytes of all live storages */
    kaena_err *err;
};

typedef kgr_evaluation evaluation;

static storage *storage_of(const evaluation *e, const kgr_node *n)
{
    return &e->storage[n->out[0]->id];
}

/* Releases |s|, which nobody needs any more, and what it alone held; a chain of those may be long.
 */
static void release(evaluation *e, storage *s)
{
    for (s->next = NULL; s;) {
        storage *more = s->next;
        const kgr_node *n = s->holds;
        e->held -= s->arena.used;
        kaena_arena_fini(&s->arena);
        s->holds = NULL;
        for (uint32_t i = 0; n && i < n->n_in; i++) {
            storage *held =
                n->in[i] && n->in[i]->producer ? storage_of(e, n->in[i]->producer) : NULL;
            if (held && --held->pending == 0) {
                held->next = more;
                more = held;
            }
        }
        s = more;
    }
}

/* Moves the outputs out of an arena that is mostly the evaluation's temporaries. */
static void drop_temporaries(const kgr_node *n, kop_tensor *out, kaena_arena *arena)
{
    size_t bytes = 0;
    for (uint32_t i = 0; i < n->n_out; i++) {
        if (out[i].dtype == KAENA_STRING || out[i].form != KOP_FORM_TENSOR)
            return;
        bytes += kop_elements(&out[i]) * kaena_dtype_size(out[i].dtype) + 64;
    }
    if (arena->used <= 2 * bytes + 256 * 1024)
        return;
    kaena_arena fresh;
    kaena_arena_init(&fresh, bytes + 4096);
    void *data[KOP_MAX_OUTPUTS];
    for (uint32_t i = 0; i < n->n_out; i++) {
        size_t size = kop_elements(&out[i]) * kaena_dtype_size(out[i].dtype);
        data[i] = kaena_arena_memdup(&fresh, out[i].data, size);
        if (!data[i]) {
            kaena_arena_fini(&fresh);
            return;
        }
    }
    for (uint32_t i = 0; i < n->n_out; i++)
        out[i].data = data[i];
    kaena_arena_fini(arena);
    *arena = fresh;
}

/* Whether the results may point into the operands: those of strings, and of sequences. */
static bool may_share(const kgr_node *n, const kop_tensor *const *in, const kop_tensor *out)
{
    for (uint32_t i = 0; i < n->n_out; i++)
        if (out[i].dtype == KAENA_STRING || out[i].form != KOP_FORM_TENSOR)
            return n->n_body == 0;
    for (uint32_t i = 0; i < n->n_in; i++)
        if (in[i] && in[i]->form != KOP_FORM_TENSOR)
            return n->n_body == 0;
    return false;
}

/* |in| and |out| have room for the operands and results. */
static kaena_status eval_with(evaluation *e, const kgr_node *n, const kop_tensor **in,
                              kop_tensor *out)
{
    storage *s = storage_of(e, n);
    size_t quota = e->env->arena->quota, taken = e->env->arena->used + e->held;
    if (quota && taken >= quota)
        return KAENA_FAIL(e->err, RESOURCE_EXHAUSTED, "%zu bytes in use, the limit is %zu", taken,
                          quota);
    kaena_arena_init(&s->arena, quota ? quota - taken : 0);
    kop_env env = {.arena = &s->arena, .stop = e->env->stop};
    kop_call call = kgr_call(n, in, out, &env, e->err);
    for (uint32_t i = 0; i < n->n_in; i++)
        if (n->in[i])
            in[i] = &e->tensor[n->in[i]->id];
    kaena_status status = kop_poll(&call);
    if (status == KAENA_OK)
        status = n->n_body ? kgr_eval_bodies(n, in, out, &env, e->err) : kop_eval(&call);
    if (status != KAENA_OK) {
        kaena_arena_fini(&s->arena);
        return status;
    }
    if (may_share(n, in, out))
        s->holds = n;
    else
        drop_temporaries(n, out, &s->arena);
    e->held += s->arena.used;
    for (uint32_t i = 0; i < n->n_out; i++) {
        e->tensor[n->out[i]->id] = out[i];
        s->pending += n->out[i]->n_uses;
    }
    for (uint32_t i = 0; !s->holds && i < n->n_in; i++)
        if (n->in[i] && n->in[i]->producer) {
            storage *of_input = storage_of(e, n->in[i]->producer);
            if (--of_input->pending == 0)
                release(e, of_input);
        }
    if (s->pending == 0)
        release(e, s);
    return KAENA_OK;
}

static kaena_status eval_node(evaluation *e, const kgr_node *n)
{
    const kop_tensor *in[KOP_MAX_INPUTS + 1];
    kop_tensor out[KOP_MAX_OUTPUTS];
    if (n->n_body == 0)
        return eval_with(e, n, in, out);
    const kop_tensor **many_in = calloc(n->n_in + 1, sizeof(kop_tensor *));
    kop_tensor *many_out = calloc(n->n_out, sizeof *many_out);
    kaena_status s = many_in && many_out ? eval_with(e, n, many_in, many_out)
                                         : KAENA_FAIL(e->err, RESOURCE_EXHAUSTED, "no memory");
    free(many_in);
    free(many_out);
    return s;
}

static kaena_status bind_input(evaluation *e, const kgr_value *v, const kop_tensor *in)
{
    char want[KAENA_SHAPE_TEXT], have[KAENA_SHAPE_TEXT];
    kop_tensor *to = &e->tensor[v->id];
    if (!in->data)
        return KAENA_FAIL(e->err, INVALID_ARGUMENT, "input '%s' has no data", v->name);
    *to = *in;
    /* A value is an optional that is there. */
    if (in->form != v->t.form && v->t.form >= KOP_FORM_OPTIONAL &&
        in->form == kop_item_form(v->t.form)) {
        to->form = v->t.form;
        to->data = (void *)(uintptr_t)in;
        to->count = 1;
    }
    if (to->form != v->t.form)
        return KAENA_FAIL(e->err, INVALID_ARGUMENT, "input '%s' is of type %s, takes %s", v->name,
                          kop_form_name(in->form), kop_form_name(v->t.form));
    if (to->form != KOP_FORM_TENSOR && to->dtype == KAENA_DTYPE_NONE)
        to->dtype = v->t.dtype; /* there are no elements to say it */
    if (v->t.dtype != KAENA_DTYPE_NONE && to->dtype != v->t.dtype)
        return KAENA_FAIL(e->err, INVALID_ARGUMENT, "input '%s' is %s, takes %s", v->name,
                          kaena_dtype_name(in->dtype), kaena_dtype_name(v->t.dtype));
    /* At the elements of a sequence each operator looks itself. */
    if (v->t.form != KOP_FORM_TENSOR || v->t.unranked)
        return KAENA_OK;
    bool fits = in->shape.rank == v->t.shape.rank;
    for (int32_t d = 0; fits && d < v->t.shape.rank; d++)
        fits = v->t.shape.dim[d] < 0 || v->t.shape.dim[d] == in->shape.dim[d];
    if (fits)
        return KAENA_OK;
    return KAENA_FAIL(e->err, INVALID_ARGUMENT, "input '%s' has shape %s, takes %s", v->name,
                      kaena_shape_print(&in->shape, have, sizeof have),
                      kaena_shape_print(&v->t.shape, want, sizeof want));
}

static kaena_status bind_inputs(evaluation *e, const kop_tensor *in)
{
    for (uint32_t i = 0; i < e->g->n_inputs; i++)
        KAENA_TRY(bind_input(e, e->g->inputs[i], &in[i]));
    for (uint32_t i = 0; i < e->g->n_values; i++) {
        const kgr_value *v = e->g->values[i];
        if (v->t.data)
            e->tensor[i] = v->t;
        else if (v->digest && v->n_uses)
            return KAENA_FAIL(
                e->err, FAILED_PRECONDITION,
                "constant '%s' is known by its digest alone: print the graph with data", v->name);
    }
    return KAENA_OK;
}

static kaena_status run(evaluation *e, const kop_tensor *in, kop_tensor *out)
{
    KAENA_TRY(bind_inputs(e, in));
    for (const kgr_node *n = e->g->first; n; n = n->next)
        KAENA_TRY_WRAP(e->err, eval_node(e, n), "node '%s' (%s)", n->name, n->origin);
    for (uint32_t i = 0; i < e->g->n_outputs; i++) {
        const kgr_value *v = e->g->outputs[i];
        if (!kop_copy(e->env->arena, &e->tensor[v->id], &e->result[i]))
            return KAENA_FAIL(e->err, RESOURCE_EXHAUSTED, "no memory for output '%s'", v->name);
    }
    if (e->g->n_outputs)
        memcpy(out, e->result, e->g->n_outputs * sizeof *out);
    return KAENA_OK;
}

kgr_evaluation *kgr_evaluation_create(const kgr_graph *g)
{
    size_t n = g->n_values ? g->n_values : 1;
    evaluation *e = calloc(1, sizeof *e);
    if (!e)
        return NULL;
    e->g = g;
    e->tensor = calloc(n, sizeof *e->tensor);
    e->storage = calloc(n, sizeof *e->storage);
    e->result = calloc(g->n_outputs + 1, sizeof *e->result);
    return e->tensor && e->storage && e->result ? e : kgr_evaluation_destroy(e);
}

kgr_evaluation *kgr_evaluation_destroy(kgr_evaluation *e)
{
    if (e) {
        free(e->tensor);
        free(e->storage);
        free(e->result);
        free(e);
    }
    return NULL;
}

kaena_status kgr_evaluation_run(kgr_evaluation *e, const kop_tensor *in, kop_tensor *out,
                                kop_env *env, kaena_err *err)
{
    e->env = env;
    e->err = err;
    e->held = 0;
    kaena_status s = run(e, in, out);
    for (const kgr_node *n = e->g->first; n; n = n->next) {
        storage *of = storage_of(e, n);
        kaena_arena_fini(&of->arena);
        of->pending = 0;
        of->holds = NULL;
    }
    return s;
}

kaena_status kgr_eval(const kgr_graph *g, const kop_tensor *in, kop_tensor *out, kop_env *env,
                      kaena_err *err)
{
    kgr_evaluation *e = kgr_evaluation_create(g);
    kaena_status s = e ? kgr_evaluation_run(e, in, out, env, err)
                       : KAENA_FAIL(err, RESOURCE_EXHAUSTED, "no memory");
    kgr_evaluation_destroy(e);
    return s;
}
