#include <stdlib.h>
#include <string.h>

#include "graph.h"

/* One evaluation. A node's outputs live in an arena of its own, which goes when the last of their
 * uses has been evaluated. */
typedef struct storage {
    kaena_arena arena;
    uint32_t
        pending; /* uses of the outputs still to come; a graph output counts one that never comes */
} storage;

typedef struct evaluation {
    const kgr_graph *g;
    kop_env *env;
    kop_tensor *tensor; /* [n_values] */
    storage *storage;   /* [n_values], at the id of the producer's first output */
    size_t held;        /* bytes of all live storages */
    kaena_err *err;
} evaluation;

static storage *storage_of(const evaluation *e, const kgr_node *n)
{
    return &e->storage[n->out[0]->id];
}

static void release(evaluation *e, storage *s)
{
    e->held -= s->arena.used;
    kaena_arena_fini(&s->arena);
}

/* Moves the outputs out of an arena that is mostly the evaluation's temporaries. */
static void drop_temporaries(const kgr_node *n, kop_tensor *out, kaena_arena *arena)
{
    size_t bytes = 0;
    for (uint32_t i = 0; i < n->n_out; i++) {
        if (out[i].dtype == KAENA_STRING)
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

static kaena_status eval_node(evaluation *e, const kgr_node *n)
{
    const kop_tensor *in[KOP_MAX_INPUTS + 1];
    kop_tensor out[KOP_MAX_OUTPUTS];
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
        status = kop_eval(&call);
    if (status != KAENA_OK) {
        kaena_arena_fini(&s->arena);
        return status;
    }
    drop_temporaries(n, out, &s->arena);
    e->held += s->arena.used;
    for (uint32_t i = 0; i < n->n_out; i++) {
        e->tensor[n->out[i]->id] = out[i];
        s->pending += n->out[i]->n_uses;
    }
    if (s->pending == 0)
        release(e, s);
    for (uint32_t i = 0; i < n->n_in; i++)
        if (n->in[i] && n->in[i]->producer) {
            storage *of_input = storage_of(e, n->in[i]->producer);
            if (--of_input->pending == 0)
                release(e, of_input);
        }
    return KAENA_OK;
}

static kaena_status bind_inputs(evaluation *e, const kop_tensor *in)
{
    char want[KAENA_SHAPE_TEXT], have[KAENA_SHAPE_TEXT];
    for (uint32_t i = 0; i < e->g->n_inputs; i++) {
        const kgr_value *v = e->g->inputs[i];
        if (v->t.dtype != KAENA_DTYPE_NONE && in[i].dtype != v->t.dtype)
            return KAENA_FAIL(e->err, INVALID_ARGUMENT, "input '%s' is %s, takes %s", v->name,
                              kaena_dtype_name(in[i].dtype), kaena_dtype_name(v->t.dtype));
        bool fits = v->t.unranked || in[i].shape.rank == v->t.shape.rank;
        for (int32_t d = 0; fits && !v->t.unranked && d < v->t.shape.rank; d++)
            fits = v->t.shape.dim[d] < 0 || v->t.shape.dim[d] == in[i].shape.dim[d];
        if (!fits)
            return KAENA_FAIL(e->err, INVALID_ARGUMENT, "input '%s' has shape %s, takes %s",
                              v->name, kaena_shape_print(&in[i].shape, have, sizeof have),
                              kaena_shape_print(&v->t.shape, want, sizeof want));
        if (!in[i].data)
            return KAENA_FAIL(e->err, INVALID_ARGUMENT, "input '%s' has no data", v->name);
        e->tensor[v->id] = in[i];
    }
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

/* Copies a result into the caller's arena. */
static kaena_status copy_out(evaluation *e, const kgr_value *v, kop_tensor *out)
{
    kaena_arena *arena = e->env->arena;
    *out = e->tensor[v->id];
    size_t n = kop_elements(out);
    out->data = kaena_arena_memdup(arena, out->data, n * kaena_dtype_size(out->dtype));
    kaena_string *strings = out->dtype == KAENA_STRING ? out->data : NULL;
    for (size_t i = 0; strings && i < n; i++)
        if (!(strings[i].data = kaena_arena_memdup(arena, strings[i].data, strings[i].size)))
            out->data = strings = NULL;
    return out->data ? KAENA_OK
                     : KAENA_FAIL(e->err, RESOURCE_EXHAUSTED, "no memory for output '%s'", v->name);
}

static kaena_status run(evaluation *e, const kop_tensor *in, kop_tensor *out)
{
    KAENA_TRY(bind_inputs(e, in));
    for (const kgr_node *n = e->g->first; n; n = n->next)
        KAENA_TRY_WRAP(e->err, eval_node(e, n), "node '%s' (%s)", n->name, n->origin);
    for (uint32_t i = 0; i < e->g->n_outputs; i++)
        KAENA_TRY(copy_out(e, e->g->outputs[i], &out[i]));
    return KAENA_OK;
}

kaena_status kgr_eval(const kgr_graph *g, const kop_tensor *in, kop_tensor *out, kop_env *env,
                      kaena_err *err)
{
    size_t n = g->n_values ? g->n_values : 1;
    evaluation e = {.g = g,
                    .env = env,
                    .tensor = calloc(n, sizeof(kop_tensor)),
                    .storage = calloc(n, sizeof(storage)),
                    .err = err};
    kop_tensor *results = calloc(g->n_outputs ? g->n_outputs : 1, sizeof *results);
    kaena_status s = e.tensor && e.storage && results
                         ? run(&e, in, results)
                         : KAENA_FAIL(err, RESOURCE_EXHAUSTED, "no memory");
    if (s == KAENA_OK && g->n_outputs)
        memcpy(out, results, g->n_outputs * sizeof *results);
    for (size_t i = 0; e.storage && i < n; i++)
        kaena_arena_fini(&e.storage[i].arena);
    free(e.tensor);
    free(e.storage);
    free(results);
    return s;
}
