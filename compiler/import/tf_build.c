/* Values and nodes of a translation. */
#include <string.h>

#include "tf_xlat.h"

#define FOLD_ELEMENTS 4096 /* results up to here are evaluated at once */

static void fail_no_memory(tf_xlat *x)
{
    if (x->status == KAENA_OK)
        x->status = KAENA_FAIL(x->imp->err, RESOURCE_EXHAUSTED, "no memory for the graph");
}

/* --- Nodes ------------------------------------------------------------------------------------ */

kgr_node *tf_node_begin(tf_xlat *x, kop_op op, kgr_value *const *in, uint32_t n_in, uint32_t n_out)
{
    const char *names[KOP_MAX_OUTPUTS];
    if (x->status != KAENA_OK)
        return NULL;
    if (n_in > KOP_MAX_INPUTS || n_out > KOP_MAX_OUTPUTS) {
        (void)tf_lacks(x, "%u inputs and %u results are too many", n_in, n_out);
        return NULL;
    }
    /* The node that the report should call by the framework's name is the canonical one. */
    const char *name = x->node->name;
    if (!x->row || op != x->row->canonical)
        name = kaena_arena_printf(x->imp->arena, "%s/%s", name, kop_row_of(op)->name);
    for (uint32_t i = 0; i < n_out; i++)
        names[i] = name;
    kgr_node *n =
        name ? kgr_node_add(x->imp->g, NULL, op, name, x->node->op, in, n_in, names, n_out) : NULL;
    if (!n)
        fail_no_memory(x);
    return n;
}

void tf_set_int(tf_xlat *x, kgr_node *n, const char *name, int64_t v)
{
    if (x->status == KAENA_OK && !kgr_attr_int(x->imp->g, n, name, v))
        fail_no_memory(x);
}

void tf_set_float(tf_xlat *x, kgr_node *n, const char *name, float v)
{
    if (x->status == KAENA_OK && !kgr_attr_float(x->imp->g, n, name, v))
        fail_no_memory(x);
}

void tf_set_string(tf_xlat *x, kgr_node *n, const char *name, const char *v)
{
    if (x->status == KAENA_OK && !kgr_attr_string(x->imp->g, n, name, v))
        fail_no_memory(x);
}

void tf_set_ints(tf_xlat *x, kgr_node *n, const char *name, const int64_t *v, uint32_t count)
{
    if (x->status == KAENA_OK && !kgr_attr_ints(x->imp->g, n, name, v, count))
        fail_no_memory(x);
}

static kaena_status infer(tf_xlat *x, kgr_node *n)
{
    const kop_tensor *in[KOP_MAX_INPUTS + 1];
    kop_tensor out[KOP_MAX_OUTPUTS];
    kop_call call = kgr_call(n, in, out, NULL, x->imp->err);
    KAENA_TRY(kop_infer(&call));
    for (uint32_t i = 0; i < n->n_out; i++) {
        out[i].data = NULL;
        n->out[i]->t = out[i];
    }
    return KAENA_OK;
}

/* The bytes that evaluating |n| now makes; 0: it is not to be evaluated now. */
static size_t foldable(const kgr_node *n)
{
    bool of_shape = n->op == KOP_Shape || n->op == KOP_Size;
    if (n->op == KOP_RandomNormalLike || n->op == KOP_RandomUniformLike)
        return 0;      /* new numbers in each inference */
    bool small = true; /* all operands; then a result of unknown size is small too */
    size_t bytes = 0;
    for (uint32_t i = 0; i < n->n_in; i++) {
        const kgr_value *v = n->in[i];
        small = small && (!v || (kgr_is_const(v) && kop_elements(&v->t) <= FOLD_ELEMENTS));
        bool known =
            !v || kgr_is_const(v) || (of_shape && !v->t.unranked && kaena_shape_known(&v->t.shape));
        if (!known)
            return 0;
    }
    for (uint32_t i = 0; i < n->n_out; i++) {
        const kop_tensor *t = &n->out[i]->t;
        int64_t elements = FOLD_ELEMENTS;
        if (t->form != KOP_FORM_TENSOR || t->unranked || t->dtype == KAENA_STRING ||
            (!kaena_shape_elements(&t->shape, &elements) && !small) || elements > FOLD_ELEMENTS)
            return 0;
        bytes += 64 + (size_t)elements * kaena_dtype_size(t->dtype);
    }
    return bytes;
}

void tf_node_results(tf_xlat *x, kgr_node *n, kgr_value **out, uint32_t n_out)
{
    memset(out, 0, n_out * sizeof *out);
    if (x->status != KAENA_OK)
        return;
    x->status = infer(x, n);
    if (x->status != KAENA_OK)
        return;
    memcpy(out, n->out, n_out * sizeof *out);
    size_t bytes = foldable(n);
    if (bytes == 0 || bytes > x->imp->fold_left)
        return;
    x->imp->fold_left -= bytes;
    x->status = kgr_node_fold(x->imp->g, n, (size_t)64 << 20, x->imp->err);
}

kgr_value *tf_node_end(tf_xlat *x, kgr_node *n)
{
    kgr_value *out[KOP_MAX_OUTPUTS];
    tf_node_results(x, n, out, x->status == KAENA_OK ? n->n_out : 1);
    return x->status == KAENA_OK ? out[0] : NULL;
}

kgr_value *tf_opn(tf_xlat *x, kop_op op, kgr_value *const *in, uint32_t n_in)
{
    return tf_node_end(x, tf_node_begin(x, op, in, n_in, 1));
}

kgr_value *tf_op1(tf_xlat *x, kop_op op, kgr_value *a)
{
    return tf_opn(x, op, &a, 1);
}

kgr_value *tf_op2(tf_xlat *x, kop_op op, kgr_value *a, kgr_value *b)
{
    return tf_opn(x, op, (kgr_value *[]){a, b}, 2);
}

kgr_value *tf_op3(tf_xlat *x, kop_op op, kgr_value *a, kgr_value *b, kgr_value *c)
{
    return tf_opn(x, op, (kgr_value *[]){a, b, c}, 3);
}

/* --- Constants -------------------------------------------------------------------------------- */

kgr_value *tf_const(tf_xlat *x, kaena_dtype dtype, const kaena_shape *shape, const void *data)
{
    if (x->status != KAENA_OK)
        return NULL;
    kgr_value *v = kgr_const_add(x->imp->g, x->node->name, dtype, shape, data);
    if (!v)
        fail_no_memory(x);
    return v;
}

kgr_value *tf_i64s(tf_xlat *x, const int64_t *v, uint32_t n)
{
    if (x->status != KAENA_OK)
        return NULL;
    kgr_value *c = kgr_const_i64(x->imp->g, x->node->name, v, n);
    if (!c)
        fail_no_memory(x);
    return c;
}

kgr_value *tf_i64(tf_xlat *x, int64_t v)
{
    int64_t *data = x->status == KAENA_OK ? KAENA_NEW(x->imp->arena, int64_t) : NULL;
    if (!data) {
        fail_no_memory(x);
        return NULL;
    }
    *data = v;
    return tf_const(x, KAENA_I64, &(kaena_shape){0}, data);
}

kgr_value *tf_number(tf_xlat *x, const kgr_value *like, double number)
{
    if (x->status != KAENA_OK || !like)
        return NULL;
    kop_tensor t = {.dtype = like->t.dtype, .data = kaena_arena_alloc(x->imp->arena, 16)};
    if (!t.data) {
        fail_no_memory(x);
        return NULL;
    }
    if (t.dtype == KAENA_STRING) {
        (void)tf_bad(x, "the operator does not take strings");
        return NULL;
    }
    kop_set_float(&t, 0, number);
    return tf_const(x, t.dtype, &(kaena_shape){0}, t.data);
}

/* --- Common shapes of nodes ------------------------------------------------------------------- */

kgr_value *tf_cast(tf_xlat *x, kgr_value *v, kaena_dtype to)
{
    if (x->status != KAENA_OK || v->t.dtype == to)
        return v;
    kgr_node *n = tf_node_begin(x, KOP_Cast, &v, 1, 1);
    tf_set_int(x, n, "to", to);
    return tf_node_end(x, n);
}

/* |perm| undoes the Transpose that makes |v|. */
static bool undoes(const kgr_value *v, const int64_t *perm, uint32_t n)
{
    const kgr_node *p = v->producer;
    const kop_attr *before = p && p->op == KOP_Transpose ? kgr_attr_find(p, "perm") : NULL;
    if (!before || before->type != KOP_ATTR_INTS || before->n != n)
        return false;
    for (uint32_t i = 0; i < n; i++)
        if (perm[i] < 0 || perm[i] >= n || before->u.ints[perm[i]] != i)
            return false;
    return true;
}

kgr_value *tf_transpose(tf_xlat *x, kgr_value *v, const int64_t *perm, uint32_t n)
{
    if (x->status != KAENA_OK)
        return NULL;
    bool same = true;
    for (uint32_t i = 0; i < n; i++)
        same = same && perm[i] == i;
    if (same)
        return v;
    if (undoes(v, perm, n))
        return v->producer->in[0];
    kgr_node *t = tf_node_begin(x, KOP_Transpose, &v, 1, 1);
    tf_set_ints(x, t, "perm", perm, n);
    return tf_node_end(x, t);
}

kgr_value *tf_move_axis(tf_xlat *x, kgr_value *v, int32_t from, int32_t to)
{
    int64_t perm[KAENA_MAX_RANK];
    int32_t rank = tf_rank(x, v), n = 0;
    if (rank < 0)
        return NULL;
    for (int32_t i = 0; i < rank; i++)
        if (i != from)
            perm[n++] = i;
    memmove(&perm[to + 1], &perm[to], (size_t)(rank - 1 - to) * sizeof perm[0]);
    perm[to] = from;
    return tf_transpose(x, v, perm, (uint32_t)rank);
}

kgr_value *tf_reshape(tf_xlat *x, kgr_value *v, const int64_t *dims, uint32_t n)
{
    kgr_node *r = tf_node_begin(x, KOP_Reshape, (kgr_value *[]){v, tf_i64s(x, dims, n)}, 2, 1);
    tf_set_int(x, r, "allowzero", 1);
    return tf_node_end(x, r);
}

kgr_value *tf_unsqueeze(tf_xlat *x, kgr_value *v, int64_t axis)
{
    return tf_op2(x, KOP_Unsqueeze, v, tf_i64s(x, &axis, 1));
}

kgr_value *tf_squeeze(tf_xlat *x, kgr_value *v, int64_t axis)
{
    return tf_op2(x, KOP_Squeeze, v, tf_i64s(x, &axis, 1));
}

kgr_value *tf_concat(tf_xlat *x, kgr_value *const *in, uint32_t n, int64_t axis)
{
    kgr_value *parts[KOP_MAX_INPUTS];
    if (x->status != KAENA_OK)
        return NULL;
    if (n == 1)
        return in[0];
    /* More than one node takes: a tree. */
    uint32_t width = KOP_MAX_INPUTS, n_parts = 0;
    if (n > width * width) {
        (void)tf_lacks(x, "%u inputs are too many", n);
        return NULL;
    }
    for (uint32_t i = 0; n > width && i < n; i += width)
        parts[n_parts++] = tf_concat(x, in + i, n - i < width ? n - i : width, axis);
    if (n > width) {
        in = parts;
        n = n_parts;
    }
    kgr_node *c = tf_node_begin(x, KOP_Concat, in, n, 1);
    tf_set_int(x, c, "axis", axis);
    return tf_node_end(x, c);
}

kgr_value *tf_slice(tf_xlat *x, kgr_value *v, int64_t axis, int64_t begin, int64_t end,
                    int64_t step)
{
    kgr_value *in[] = {v, tf_i64s(x, &begin, 1), tf_i64s(x, &end, 1), tf_i64s(x, &axis, 1),
                       tf_i64s(x, &step, 1)};
    return tf_opn(x, KOP_Slice, in, 5);
}

kgr_value *tf_reduce(tf_xlat *x, kop_op op, kgr_value *v, const int64_t *axes, uint32_t n,
                     bool keep)
{
    kgr_node *r = tf_node_begin(x, op, (kgr_value *[]){v, tf_i64s(x, axes, n)}, 2, 1);
    tf_set_int(x, r, "keepdims", keep);
    tf_set_int(x, r, "noop_with_empty_axes", 1);
    return tf_node_end(x, r);
}

kgr_value *tf_shape_of(tf_xlat *x, kgr_value *v)
{
    return tf_op1(x, KOP_Shape, v);
}

kgr_value *tf_dim(tf_xlat *x, kgr_value *v, int32_t axis)
{
    int32_t rank = tf_rank(x, v), a = tf_axis(x, axis, rank);
    if (x->status != KAENA_OK)
        return NULL;
    if (v->t.shape.dim[a] >= 0)
        return tf_i64(x, v->t.shape.dim[a]);
    return tf_op2(x, KOP_Gather, tf_shape_of(x, v), tf_i64(x, a));
}

kgr_value *tf_expand(tf_xlat *x, kgr_value *v, kgr_value *shape)
{
    return tf_op2(x, KOP_Expand, v, shape);
}

kgr_value *tf_channels_second(tf_xlat *x, kgr_value *v)
{
    int32_t rank = tf_rank(x, v);
    return rank > 2 ? tf_move_axis(x, v, rank - 1, 1) : v;
}

kgr_value *tf_channels_last(tf_xlat *x, kgr_value *v)
{
    int32_t rank = tf_rank(x, v);
    return rank > 2 ? tf_move_axis(x, v, 1, rank - 1) : v;
}
