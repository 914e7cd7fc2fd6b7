/* What translations of nodes are made from. */
#include <string.h>

#include "onnx_internal.h"

kaena_status onnx_xlat_no_memory(onnx_xlat *x)
{
    return KAENA_FAIL(x->imp->err, RESOURCE_EXHAUSTED, "no memory for the graph");
}

kaena_status onnx_xlat_bad(onnx_xlat *x, const char *what)
{
    return KAENA_FAIL(x->imp->err, INVALID_ARGUMENT, "%s", what);
}

/* --- Attributes ------------------------------------------------------------------------------ */

const kop_attr *onnx_xlat_attr(const onnx_xlat *x, const char *name)
{
    for (uint32_t i = 0; i < x->n_attr; i++) {
        if (strcmp(x->attr[i].name, name) == 0)
            return &x->attr[i];
    }
    return NULL;
}

int64_t onnx_xlat_int(const onnx_xlat *x, const char *name, int64_t otherwise)
{
    const kop_attr *a = onnx_xlat_attr(x, name);
    return a && a->type == KOP_ATTR_INT ? a->u.i : otherwise;
}

float onnx_xlat_float(const onnx_xlat *x, const char *name, float otherwise)
{
    const kop_attr *a = onnx_xlat_attr(x, name);
    return a && a->type == KOP_ATTR_FLOAT ? a->u.f : otherwise;
}

const char *onnx_xlat_string(const onnx_xlat *x, const char *name, const char *otherwise)
{
    const kop_attr *a = onnx_xlat_attr(x, name);
    return a && a->type == KOP_ATTR_STRING ? a->u.s : otherwise;
}

void onnx_xlat_drop(onnx_xlat *x, const char *name)
{
    for (uint32_t i = 0; i < x->n_attr; i++) {
        if (strcmp(x->attr[i].name, name) == 0) {
            x->attr[i] = x->attr[--x->n_attr];
            return;
        }
    }
}

kaena_status onnx_xlat_set(onnx_xlat *x, const kop_attr *attr)
{
    onnx_xlat_drop(x, attr->name);
    if (x->n_attr == x->cap_attr) {
        uint32_t cap = x->cap_attr ? x->cap_attr * 2 : 8;
        kop_attr *fresh = KAENA_NEW_N(x->imp->arena, kop_attr, cap);
        if (!fresh)
            return onnx_xlat_no_memory(x);
        if (x->n_attr)
            memcpy(fresh, x->attr, x->n_attr * sizeof *fresh);
        x->attr = fresh;
        x->cap_attr = cap;
    }
    x->attr[x->n_attr++] = *attr;
    return KAENA_OK;
}

/* --- Inputs ---------------------------------------------------------------------------------- */

kgr_value *onnx_xlat_in(const onnx_xlat *x, uint32_t i)
{
    return i < x->n_in ? x->in[i] : NULL;
}

kaena_status onnx_xlat_set_in(onnx_xlat *x, uint32_t i, kgr_value *v)
{
    if (!v)
        return onnx_xlat_no_memory(x);
    while (x->n_in <= i)
        x->in[x->n_in++] = NULL;
    x->in[i] = v;
    return KAENA_OK;
}

static bool type_known(const kgr_value *v)
{
    return v->t.dtype != KAENA_DTYPE_NONE && !v->t.unranked;
}

void onnx_infer_so_far(onnx_import *imp)
{
    kaena_err refused;
    for (kgr_node *n = imp->inferred ? imp->inferred->next : imp->g->first; n && !imp->untyped;
         n = n->next) {
        kaena_err_init(&refused);
        if (kgr_infer_node(n, &refused) == KAENA_OK)
            imp->inferred = n;
        else
            imp->untyped = true;
    }
}

kaena_status onnx_xlat_need_type(onnx_xlat *x, const kgr_value *v)
{
    onnx_import *imp = x->imp;
    if (type_known(v))
        return KAENA_OK;
    onnx_infer_so_far(imp);
    if (type_known(v))
        return KAENA_OK;
    /* A shape is computed by nodes: evaluate these too. That removes nodes, |inferred| perhaps
     * among them. */
    KAENA_TRY(kgr_infer(imp->g, /* infer_data= */ true, imp->err));
    imp->inferred = imp->g->last;
    return KAENA_OK;
}

kaena_status onnx_xlat_need_rank(onnx_xlat *x, const kgr_value *v, int32_t *rank)
{
    KAENA_TRY(onnx_xlat_need_type(x, v));
    if (v->t.unranked)
        return KAENA_FAIL(x->imp->err, UNIMPLEMENTED,
                          "in operator set %lld it needs the rank of '%s', which depends on data; "
                          "export the model with operator set 13 or newer",
                          (long long)x->opset, v->name);
    *rank = v->t.shape.rank;
    return KAENA_OK;
}

/* --- Making things --------------------------------------------------------------------------- */

/* A name no framework uses, so that the model's own names stay free. */
static const char *made_up(onnx_xlat *x, const char *what)
{
    return kaena_arena_printf(x->imp->arena, "%s::%s", x->label, what);
}

kgr_value *onnx_xlat_const(onnx_xlat *x, const char *what, kaena_dtype dtype,
                           const kaena_shape *shape, const void *data)
{
    const char *name = made_up(x, what);
    return name && data ? kgr_const_add(x->imp->g, name, dtype, shape, data) : NULL;
}

kgr_value *onnx_xlat_i64(onnx_xlat *x, const char *what, const int64_t *v, uint32_t n)
{
    const int64_t *copy = kaena_arena_memdup(x->imp->arena, v, n * sizeof *v);
    return onnx_xlat_const(x, what, KAENA_I64, &(kaena_shape){1, {n}}, copy);
}

kaena_status onnx_xlat_add(onnx_xlat *x, kop_op op, const char *what, kgr_value *const *in,
                           uint32_t n_in, kgr_node **out)
{
    const char *name = made_up(x, what);
    kgr_node *n =
        name ? kgr_node_add(x->imp->g, NULL, op, name, x->pb->op_type, in, n_in, &name, 1) : NULL;
    if (!n)
        return onnx_xlat_no_memory(x);
    *out = n;
    return KAENA_OK;
}

kaena_status onnx_xlat_append_ones(onnx_xlat *x, kgr_value *v, int32_t n, kgr_value **out)
{
    kaena_shape shape = v->t.shape;
    int64_t axes[KAENA_MAX_RANK];
    if (shape.rank + n > KAENA_MAX_RANK)
        return KAENA_FAIL(x->imp->err, UNIMPLEMENTED, "'%s' would get more than %d dimensions",
                          v->name, KAENA_MAX_RANK);
    for (int32_t i = 0; i < n; i++) {
        axes[i] = shape.rank;
        shape.dim[shape.rank++] = 1;
    }
    if (kgr_is_const(v)) {
        *out = onnx_xlat_const(x, "aligned", v->t.dtype, &shape, v->t.data);
        return *out ? KAENA_OK : onnx_xlat_no_memory(x);
    }
    kgr_value *in[2] = {v, onnx_xlat_i64(x, "axes", axes, (uint32_t)n)};
    kgr_node *node;
    if (!in[1])
        return onnx_xlat_no_memory(x);
    KAENA_TRY(onnx_xlat_add(x, KOP_Unsqueeze, "aligned", in, 2, &node));
    *out = node->out[0];
    return KAENA_OK;
}

static kaena_status check_operands(const onnx_xlat *x, kop_op op)
{
    const kop_row *row = kop_row_of(op);
    uint32_t most = op == KOP_MatMul ? 2 : row->max_in; /* its bias is the compiler's own */
    if (x->n_in < row->min_in || x->n_in > most)
        return KAENA_FAIL(x->imp->err, INVALID_ARGUMENT, "%u inputs; the operator takes %u to %u",
                          x->n_in, row->min_in, most);
    if (x->n_out > row->max_out)
        return KAENA_FAIL(x->imp->err, UNIMPLEMENTED, "%u outputs; at most %u are supported",
                          x->n_out, row->max_out);
    for (uint32_t i = 0; i < row->min_in; i++) {
        if (!x->in[i])
            return KAENA_FAIL(x->imp->err, INVALID_ARGUMENT,
                              "input %u is left out but the operator needs it", i);
    }
    return KAENA_OK;
}

kaena_status onnx_xlat_finish(onnx_xlat *x, kop_op op)
{
    while (x->n_in > 0 && !x->in[x->n_in - 1])
        x->n_in--;
    uint32_t least = kop_row_of(op)->min_out;
    while (x->n_out > least && !x->out_names[x->n_out - 1])
        x->n_out--;
    while (x->n_out < least)
        x->out_names[x->n_out++] = NULL;
    KAENA_TRY(check_operands(x, op));
    for (uint32_t i = 0; i < x->n_out; i++) {
        if (!x->out_names[i] && !(x->out_names[i] = made_up(x, "unused")))
            return onnx_xlat_no_memory(x);
    }
    kgr_node *n = kgr_node_add(x->imp->g, NULL, op, x->name, x->pb->op_type, x->in, x->n_in,
                               x->out_names, x->n_out);
    if (!n)
        return onnx_xlat_no_memory(x);
    for (uint32_t i = 0; i < x->n_attr; i++) {
        if (!kgr_attr_set(x->imp->g, n, &x->attr[i]))
            return onnx_xlat_no_memory(x);
    }
    for (uint32_t i = 0; i < x->n_out; i++)
        x->out[i] = n->out[i];
    x->done = true;
    return KAENA_OK;
}
