/* Rows of constant tables: one-hot vectors, and products of what is looked up. */
#include "simplify.h"

#define MOST_TABLE ((size_t)16 << 20) /* bytes of a table that the compiler makes */

static kaena_status no_memory(const kgr_node *n, kaena_err *err)
{
    return KAENA_FAIL(err, RESOURCE_EXHAUSTED, "no memory for node '%s'", n->name);
}

/* One-hot vectors of numbers 0 to depth - 1, then nothing for what is larger or smaller, then those
 * of -depth to -1, so that any index may be looked up after it is clipped to [-depth - 1, depth].
 */
static kgr_value *one_hot_table(kgr_graph *g, const kgr_value *values, int64_t depth)
{
    int64_t rows = 2 * depth + 2;
    kgr_value *t = kgr_value_add(g, "one_hot", values->t.dtype, &(kaena_shape){2, {rows, depth}});
    double off = kop_get_float(&values->t, 0), on = kop_get_float(&values->t, 1);
    t->t.data = kaena_arena_array(g->arena, (size_t)(rows * depth), kaena_dtype_size(t->t.dtype));
    for (int64_t r = 0; r < rows; r++)
        for (int64_t c = 0; c < depth; c++)
            kop_set_float(&t->t, (size_t)(r * depth + c),
                          c == r || c == r - (depth + 2) ? on : off);
    return t;
}

/* OneHot of int32 becomes a look-up. */
kaena_status kcc_rule_one_hot(kgr_graph *g, kgr_node *n, bool *changed, kaena_err *err)
{
    kgr_value *index = n->in[0], *values = n->in[2];
    int64_t depth;
    if (n->device == KGR_HOST || index->t.dtype != KAENA_I32 || !kgr_is_const(values) ||
        !kaena_dtype_is_float(values->t.dtype) || values->t.dtype == KAENA_F64 ||
        !kgr_is_const(n->in[1]) || kop_elements(&n->in[1]->t) != 1)
        return KAENA_OK;
    depth = kop_get_int(&n->in[1]->t, 0);
    int32_t rank = n->out[0]->t.shape.rank, axis;
    if (depth < 1 || (size_t)depth > MOST_TABLE ||
        (size_t)((2 * depth + 2) * depth) > MOST_TABLE / 4 ||
        !kop_axis(kgr_attr_get_int(n, "axis", -1), rank, &axis))
        return KAENA_OK;
    const double bounds[2] = {(double)(-depth - 1), (double)depth};
    static const kop_op clip[2] = {KOP_Max, KOP_Min};
    for (int i = 0; i < 2; i++) {
        kgr_value *bound = kcc_const_floats(g, "bound", KAENA_I32, &(kaena_shape){0}, &bounds[i]);
        kgr_node *made;
        KAENA_TRY(kcc_insert(g, n, clip[i], n->name, (kgr_value *[]){index, bound}, 2, &made, err));
        index = made->out[0];
    }
    kgr_value *in[2] = {one_hot_table(g, values, depth), index};
    *changed = true;
    kgr_node *look_up = n;
    int64_t perm[KAENA_MAX_RANK];
    for (int32_t d = 0; d < rank; d++) /* the last dimension goes to |axis| */
        perm[d] = d < axis ? d : d == axis ? rank - 1 : d - 1;
    if (axis + 1 < rank)
        KAENA_TRY(kcc_insert(g, n, KOP_Gather, n->name, in, 2, &look_up, err));
    kgr_node_cut_inputs(n, look_up == n ? 2 : 1);
    kgr_node_set_input(n, 0, look_up == n ? in[0] : look_up->out[0]);
    n->n_attr = 0;
    n->op = look_up == n ? KOP_Gather : KOP_Transpose;
    if (look_up == n)
        kgr_node_set_input(n, 1, in[1]);
    else if (!kgr_attr_ints(g, n, "perm", perm, (uint32_t)rank))
        return no_memory(n, err);
    return KAENA_OK;
}

/* Rows of a constant table times a constant matrix are rows of their product. */
kaena_status kcc_rule_table_product(kgr_graph *g, kgr_node *n, bool *changed, kaena_err *err)
{
    kgr_value *rows = n->in[0];
    const kgr_node *shaped = kcc_made_by(rows, KOP_Reshape);
    const kgr_node *look_up = kcc_made_by(shaped ? shaped->in[0] : rows, KOP_Gather);
    if (n->n_in != 2 || n->n_attr || n->device == KGR_HOST || !look_up ||
        !kgr_is_const(look_up->in[0]) || !kgr_is_const(n->in[1]) ||
        look_up->in[0]->t.shape.rank != 2 || n->in[1]->t.shape.rank != 2 ||
        kgr_attr_get_int(look_up, "axis", 0) != 0 || !kcc_known(look_up->out[0]) ||
        !kaena_dtype_is_float(n->out[0]->t.dtype))
        return KAENA_OK;
    const kaena_shape *s = &rows->t.shape, *t = &look_up->in[0]->t.shape;
    int64_t columns = n->in[1]->t.shape.dim[1];
    if (s->rank < 2 || s->dim[s->rank - 1] != t->dim[1] || columns > t->dim[1] ||
        (size_t)(t->dim[0] * columns) > MOST_TABLE / 4)
        return KAENA_OK;
    kgr_node *product, *found;
    kgr_value *in[2] = {look_up->in[0], n->in[1]};
    KAENA_TRY(kcc_insert(g, n, KOP_MatMul, n->name, in, 2, &product, err));
    in[0] = product->out[0];
    in[1] = look_up->in[1];
    KAENA_TRY(kgr_node_fold(g, product, SIZE_MAX, err));
    KAENA_TRY(kcc_insert(g, n, KOP_Gather, n->name, in, 2, &found, err));
    kgr_value *shape =
        kgr_const_i64(g, "shape", n->out[0]->t.shape.dim, (uint32_t)n->out[0]->t.shape.rank);
    if (!shape)
        return no_memory(n, err);
    kgr_node_set_input(n, 0, found->out[0]);
    kgr_node_set_input(n, 1, shape);
    n->op = KOP_Reshape;
    *changed = true;
    return KAENA_OK;
}
