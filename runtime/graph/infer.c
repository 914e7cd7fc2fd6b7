#include <string.h>

#include "graph.h"

/* Data is propagated through tensors of at most this many elements: shapes, sizes, scales, indices.
 */
#define SMALL 1024

static bool is_small(const kop_tensor *t)
{
    int64_t n;
    return !t->unranked && kaena_shape_elements(&t->shape, &n) && n <= SMALL;
}

/* The value of these depends on their input's shape alone. */
static bool reads_shape_only(const kgr_node *n)
{
    return strcmp(kop_row_of(n->op)->name, "Shape") == 0 ||
           strcmp(kop_row_of(n->op)->name, "Size") == 0;
}

static bool can_evaluate(const kgr_node *n)
{
    for (uint32_t i = 0; i < n->n_out; i++)
        if (!is_small(&n->out[i]->t) || n->out[i]->t.dtype == KAENA_STRING || n->out[i]->is_output)
            return false;
    if (reads_shape_only(n))
        return !n->in[0]->t.unranked && kaena_shape_known(&n->in[0]->t.shape);
    for (uint32_t i = 0; i < n->n_in; i++)
        if (n->in[i] && (!n->in[i]->t.data || !is_small(&n->in[i]->t)))
            return false;
    return true;
}

/* Evaluates |n| in |env| and makes its outputs constants. */
static kaena_status evaluate(kgr_graph *g, kgr_node *n, kop_env *env, kaena_err *err)
{
    const kop_tensor *in[KOP_MAX_INPUTS + 1];
    kop_tensor out[KOP_MAX_OUTPUTS];
    kop_call call = kgr_call(n, in, out, env, err);
    KAENA_TRY(kop_eval(&call));
    for (uint32_t i = 0; i < n->n_out; i++) {
        kgr_value *v = n->out[i];
        size_t bytes = kop_elements(&out[i]) * kaena_dtype_size(out[i].dtype);
        void *data = kaena_arena_memdup(g->arena, out[i].data, bytes);
        v->t.dtype = out[i].dtype;
        v->t.shape = out[i].shape;
        if (!data || !kgr_value_make_const(g, v, data))
            return KAENA_FAIL(err, RESOURCE_EXHAUSTED, "no memory for '%s'", v->name);
    }
    kgr_node_remove(g, n);
    return KAENA_OK;
}

static kaena_status infer_node(kgr_graph *g, kgr_node *n, bool infer_data, kaena_err *err)
{
    const kop_tensor *in[KOP_MAX_INPUTS + 1];
    kop_tensor out[KOP_MAX_OUTPUTS];
    kop_call call = kgr_call(n, in, out, NULL, err);
    KAENA_TRY(kop_infer(&call));
    for (uint32_t i = 0; i < n->n_out; i++) {
        out[i].data = NULL;
        n->out[i]->t = out[i];
    }
    if (!infer_data || !can_evaluate(n))
        return KAENA_OK;
    kaena_arena scratch;
    kaena_arena_init(&scratch, (size_t)64 << 20);
    kop_env env = {.arena = &scratch};
    kaena_status s = evaluate(g, n, &env, err);
    kaena_arena_fini(&scratch);
    return s;
}

kaena_status kgr_infer(kgr_graph *g, bool infer_data, kaena_err *err)
{
    for (kgr_node *n = g->first, *next; n; n = next) {
        next = n->next;
        KAENA_TRY_WRAP(err, infer_node(g, n, infer_data, err), "node '%s' (%s)", n->name,
                       n->origin);
    }
    return KAENA_OK;
}
