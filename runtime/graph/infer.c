#include "control.h"
#include "graph.h"

/* Data is propagated through tensors of at most this many elements: shapes, sizes, scales, indices.
 */
#define SMALL 1024
#define SMALL_QUOTA ((size_t)64 << 20)

static bool is_small(const kop_tensor *t)
{
    int64_t n;
    return t->form == KOP_FORM_TENSOR && !t->unranked && kaena_shape_elements(&t->shape, &n) &&
           n <= SMALL;
}

static bool can_evaluate(const kgr_node *n)
{
    /* Weights that are dequantised are no shapes, and passes want to see where they come from. */
    if (n->n_in == 0 || n->n_body || n->op == KOP_DequantizeLinear)
        return false;
    for (uint32_t i = 0; i < n->n_out; i++)
        if (!is_small(&n->out[i]->t) || n->out[i]->t.dtype == KAENA_STRING || n->out[i]->is_output)
            return false;
    if (n->op == KOP_Shape || n->op == KOP_Size)
        return !n->in[0]->t.unranked && kaena_shape_known(&n->in[0]->t.shape);
    for (uint32_t i = 0; i < n->n_in; i++)
        if (n->in[i] && (!n->in[i]->t.data || !is_small(&n->in[i]->t)))
            return false;
    return true;
}

/* |env|'s arena goes to the graph where it holds little but the results. */
static kaena_status evaluate(kgr_graph *g, kgr_node *n, kop_env *env, kaena_err *err)
{
    const kop_tensor *in[KOP_MAX_INPUTS + 1];
    kop_tensor out[KOP_MAX_OUTPUTS];
    kop_call call = kgr_call(n, in, out, env, err);
    KAENA_TRY(kop_eval(&call));
    size_t bytes = 0;
    for (uint32_t i = 0; i < n->n_out; i++)
        bytes += kop_elements(&out[i]) * kaena_dtype_size(out[i].dtype);
    bool join = !g->arena->quota && bytes > env->arena->used / 2;
    for (uint32_t i = 0; i < n->n_out; i++) {
        kgr_value *v = n->out[i];
        size_t size = kop_elements(&out[i]) * kaena_dtype_size(out[i].dtype);
        void *data = join ? out[i].data : kaena_arena_memdup(g->arena, out[i].data, size);
        v->t.dtype = out[i].dtype;
        v->t.shape = out[i].shape;
        v->t.unranked = false;
        if (!data || !kgr_value_make_const(g, v, data))
            return KAENA_FAIL(err, RESOURCE_EXHAUSTED, "no memory for '%s'", v->name);
    }
    if (join)
        kaena_arena_join(g->arena, env->arena);
    kgr_node_remove(g, n);
    return KAENA_OK;
}

kaena_status kgr_node_fold(kgr_graph *g, kgr_node *n, size_t quota, kaena_err *err)
{
    kaena_arena scratch;
    kaena_arena_init(&scratch, quota);
    const char *name = n->name, *origin = n->origin;
    kaena_status s = evaluate(g, n, &(kop_env){.arena = &scratch}, err);
    kaena_arena_fini(&scratch);
    return s == KAENA_OK ? s : kaena_err_wrap(err, s, "node '%s' (%s)", name, origin);
}

static kaena_status infer_node(kgr_node *n, bool infer_data, kaena_err *err)
{
    const kop_tensor *in[KOP_MAX_INPUTS + 1];
    kop_tensor out[KOP_MAX_OUTPUTS];
    if (n->n_body) {
        KAENA_TRY_WRAP(err, kgr_infer_bodies(n, infer_data, err), "node '%s' (%s)", n->name,
                       n->origin);
        return KAENA_OK;
    }
    kop_call call = kgr_call(n, in, out, NULL, err);
    KAENA_TRY_WRAP(err, kop_infer(&call), "node '%s' (%s)", n->name, n->origin);
    for (uint32_t i = 0; i < n->n_out; i++) {
        out[i].data = NULL;
        n->out[i]->t = out[i];
    }
    return KAENA_OK;
}

/* The branch that a constant chooses; false where none does. */
static bool chosen_branch(const kgr_node *n, uint32_t *out)
{
    const kgr_value *cond = n->op == KOP_If && n->n_body == 2 ? n->in[0] : NULL;
    if (!kgr_is_const(cond) || cond->t.dtype != KAENA_BOOL || kop_elements(&cond->t) != 1)
        return false;
    *out = kop_get_int(&cond->t, 0) ? 0 : 1;
    return true;
}

kaena_status kgr_infer_inside(kgr_graph *g, bool infer_data, kaena_err *err)
{
    for (kgr_node *n = g->first, *next; n; n = next) {
        uint32_t branch;
        if (infer_data && chosen_branch(n, &branch)) {
            kgr_node *before = n->prev;
            if (!kgr_inline_body(g, n, branch))
                return KAENA_FAIL(err, RESOURCE_EXHAUSTED, "no memory for the branch of '%s'",
                                  n->name);
            next = before ? before->next : g->first;
            continue;
        }
        next = n->next;
        KAENA_TRY(infer_node(n, infer_data, err));
        if (infer_data && can_evaluate(n))
            KAENA_TRY(kgr_node_fold(g, n, SMALL_QUOTA, err));
    }
    return KAENA_OK;
}

/* No inference is under way in any body of |n|. */
static void start(kgr_node *n)
{
    for (uint32_t i = 0; i < n->n_body; i++) {
        n->body[i]->rounds = 0;
        for (kgr_node *inner = n->body[i]->first; inner; inner = inner->next)
            start(inner);
    }
}

kaena_status kgr_infer_node(kgr_node *n, kaena_err *err)
{
    start(n);
    return infer_node(n, false, err);
}

kaena_status kgr_infer(kgr_graph *g, bool infer_data, kaena_err *err)
{
    for (kgr_node *n = g->first; n; n = n->next)
        start(n);
    return kgr_infer_inside(g, infer_data, err);
}
