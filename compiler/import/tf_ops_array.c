/* Translations: arrays and lists of tensors as dense tensors (tf_array.h). */
#include <string.h>

#include "tf_array.h"
#include "tf_rewrite.h"

/* --- Fresh arrays --------------------------------------------------------------------------------
 */

bool tf_array_is_fresh(const kop_tensor *t)
{
    if (t->unranked || t->shape.rank != KAENA_MAX_RANK)
        return false;
    for (int32_t i = 1; i < KAENA_MAX_RANK; i++)
        if (t->shape.dim[i] != 0)
            return false;
    return true;
}

/* A number in the shape of a result: a constant dimension, or element |at| of |v|'s shape. */
static kgr_value *length_of(tf_xlat *x, kgr_value *v)
{
    if (x->status == KAENA_OK && v && !v->t.unranked && v->t.shape.rank > 0 &&
        v->t.shape.dim[0] >= 0)
        return tf_i64s(x, &v->t.shape.dim[0], 1);
    return tf_slice(x, tf_op1(x, KOP_Shape, v), 0, 0, 1, 1);
}

/* Zeros of that element type and shape, a list of numbers. */
static kgr_value *zeros(tf_xlat *x, kaena_dtype dtype, kgr_value *shape)
{
    if (x->status != KAENA_OK)
        return NULL;
    int64_t one = 1;
    kop_tensor t = {.dtype = dtype, .shape = {.rank = 1, .dim = {one}}};
    t.data = kaena_arena_alloc(x->imp->arena, kaena_dtype_size(dtype));
    kgr_node *n = tf_node_begin(x, KOP_ConstantOfShape, &shape, 1, 1);
    const kop_attr value = {.name = "value", .type = KOP_ATTR_TENSOR, .u.tensor = &t};
    if (x->status == KAENA_OK && (!t.data || !kgr_attr_set(x->imp->g, n, &value)))
        x->status = KAENA_FAIL(x->imp->err, RESOURCE_EXHAUSTED, "no memory for the graph");
    return tf_node_end(x, n);
}

/* An array of |length| (a list of one number) elements that |element| says, dimensions from
 * |first| on. */
static kgr_value *array_of(tf_xlat *x, kaena_dtype dtype, kgr_value *length,
                           const kop_tensor *element, int32_t first)
{
    if (x->status != KAENA_OK)
        return NULL;
    if (dtype == KAENA_STRING) {
        (void)tf_lacks(x, "arrays of strings are not supported");
        return NULL;
    }
    if (element->unranked) {
        (void)tf_lacks(x, "the shape of the array's elements is not known at compile time");
        return NULL;
    }
    for (int32_t i = first; i < element->shape.rank; i++)
        if (element->shape.dim[i] < 0) {
            (void)tf_lacks(x, "the shape of the array's elements is not known at compile time");
            return NULL;
        }
    if (element->shape.rank - first + 1 > KAENA_MAX_RANK) {
        (void)tf_lacks(x, "an array of elements with %d dimensions", element->shape.rank - first);
        return NULL;
    }
    kgr_value *rest =
        tf_i64s(x, element->shape.dim + first, (uint32_t)(element->shape.rank - first));
    kgr_value *parts[2] = {length, rest};
    return zeros(x, dtype, tf_concat(x, parts, 2, 0));
}

static kgr_value *fresh(tf_xlat *x, kaena_dtype dtype, kgr_value *length)
{
    static const kop_tensor element = {.shape = {.rank = KAENA_MAX_RANK - 1}};
    return array_of(x, dtype, length, &element, 0);
}

kgr_value *tf_array_settle(tf_xlat *x, kgr_value *v, const kop_tensor *like)
{
    return array_of(x, like->dtype, length_of(x, v), like, 1);
}

/* --- Elements ------------------------------------------------------------------------------------
 */

static kgr_value *as_list(tf_xlat *x, kgr_value *index)
{
    return tf_reshape(x, tf_cast(x, index, KAENA_I64), (const int64_t[]){1}, 1);
}

static bool known_number(const kgr_value *v, int64_t *out)
{
    if (!v || !kgr_is_const(v) || !kaena_dtype_is_int(v->t.dtype) || kop_elements(&v->t) != 1)
        return false;
    *out = kop_get_int(&v->t, 0);
    return true;
}

/* |array| with room for |length| (a list of one number) elements at least. */
static kgr_value *with_room(tf_xlat *x, kgr_value *array, kgr_value *length)
{
    int64_t wanted, dim;
    if (x->status != KAENA_OK || !array)
        return NULL;
    dim = array->t.unranked ? -1 : array->t.shape.dim[0];
    if (known_number(length, &wanted) && dim >= wanted)
        return array;
    kgr_value *none = tf_i64s(x, (const int64_t[]){0}, 1);
    kgr_value *missing = tf_op2(x, KOP_Max, tf_op2(x, KOP_Sub, length, length_of(x, array)), none);
    kgr_value *parts[2] = {
        array, x->status == KAENA_OK ? array_of(x, array->t.dtype, missing, &array->t, 1) : NULL};
    return tf_concat(x, parts, 2, 0);
}

static kgr_value *read_element(tf_xlat *x, kgr_value *array, kgr_value *index)
{
    if (x->status == KAENA_OK && tf_array_is_fresh(&array->t)) {
        (void)tf_bad(x, "nothing was written to the array");
        return NULL;
    }
    return tf_op2(x, KOP_Gather, array, index);
}

/* |array| whose elements at |indices| (a list) become |values|; it grows if |grows|. */
static kgr_value *write_elements(tf_xlat *x, kgr_value *array, kgr_value *indices,
                                 kgr_value *values, bool grows)
{
    if (x->status != KAENA_OK)
        return NULL;
    if (tf_array_is_fresh(&array->t))
        array = tf_array_settle(x, array, &values->t);
    kgr_value *list = tf_cast(x, indices, KAENA_I64);
    if (grows && x->status == KAENA_OK) {
        kgr_value *one = tf_i64s(x, (const int64_t[]){1}, 1);
        kgr_value *last = tf_reduce(x, KOP_ReduceMax, list, (const int64_t[]){0}, 1, true);
        array = with_room(x, array, tf_op2(x, KOP_Add, last, one));
    }
    return tf_op3(x, KOP_ScatterND, array, tf_unsqueeze(x, list, 1), values);
}

static kgr_value *write_element(tf_xlat *x, kgr_value *array, kgr_value *index, kgr_value *value,
                                bool grows)
{
    return write_elements(x, array, as_list(x, index), tf_unsqueeze(x, value, 0), grows);
}

/* Whether |v| is 0, 1, ... n - 1. */
static bool is_range(const kgr_value *v, int64_t n)
{
    if (!kgr_is_const(v) || !kaena_dtype_is_int(v->t.dtype) || v->t.shape.rank != 1 ||
        v->t.shape.dim[0] != n)
        return false;
    for (int64_t i = 0; i < n; i++)
        if (kop_get_int(&v->t, (size_t)i) != i)
            return false;
    return true;
}

static int64_t first_dim(const kgr_value *v)
{
    return v && !v->t.unranked && v->t.shape.rank > 0 ? v->t.shape.dim[0] : -1;
}

static kgr_value *gather(tf_xlat *x, kgr_value *array, kgr_value *indices)
{
    if (x->status == KAENA_OK && is_range(indices, first_dim(array)) &&
        !tf_array_is_fresh(&array->t))
        return array;
    return read_element(x, array, indices);
}

/* |array| with |values| at |indices|: all of it, where these are all. */
static kgr_value *scatter(tf_xlat *x, kgr_value *array, kgr_value *indices, kgr_value *values,
                          bool grows)
{
    if (x->status != KAENA_OK)
        return NULL;
    if (first_dim(values) >= 0 && is_range(indices, first_dim(values)) &&
        (first_dim(array) == first_dim(values) ||
         (grows && first_dim(array) >= 0 && first_dim(array) <= first_dim(values))))
        return values;
    return write_elements(x, array, indices, values, grows);
}

/* The elements one behind the other along their first axis, and how long each is. */
static kaena_status concat_elements(tf_xlat *x, kgr_value *array)
{
    const kaena_shape *s = tf_known_shape(x, array);
    if (x->status == KAENA_OK && (s->rank < 2 || tf_array_is_fresh(&array->t)))
        return tf_bad(x, "elements without dimensions cannot be joined");
    if (x->status != KAENA_OK)
        return x->status;
    int64_t dims[KAENA_MAX_RANK] = {s->dim[0] * s->dim[1]};
    for (int32_t i = 2; i < s->rank; i++)
        dims[i - 1] = s->dim[i];
    int64_t *lengths = KAENA_NEW_N(x->imp->arena, int64_t, (size_t)s->dim[0]);
    if (!lengths)
        return KAENA_FAIL(x->imp->err, RESOURCE_EXHAUSTED, "no memory for the graph");
    for (int64_t i = 0; i < s->dim[0]; i++)
        lengths[i] = s->dim[1];
    kaena_shape list = {.rank = 1, .dim = {s->dim[0]}};
    tf_set_out(x, 0, tf_reshape(x, array, dims, (uint32_t)s->rank - 1));
    tf_set_out(x, 1, tf_const(x, KAENA_I64, &list, lengths));
    return x->status;
}

/* The array of pieces of |value|, all of one length. */
static kgr_value *split(tf_xlat *x, kgr_value *value, kgr_value *lengths)
{
    uint32_t n;
    const int64_t *length = tf_const_ints(x, lengths, "the lengths of the pieces", &n);
    const kaena_shape *s = tf_known_shape(x, value);
    for (uint32_t i = 0; x->status == KAENA_OK && i < n; i++)
        if (length[i] != length[0])
            (void)tf_lacks(x, "an array of elements of different shapes is not supported");
    if (x->status != KAENA_OK || n == 0 || s->rank == 0 || s->rank == KAENA_MAX_RANK) {
        (void)tf_lacks(x, "pieces of such a tensor are not supported");
        return NULL;
    }
    int64_t dims[KAENA_MAX_RANK] = {n, length[0]};
    for (int32_t i = 1; i < s->rank; i++)
        dims[i + 1] = s->dim[i];
    return tf_reshape(x, value, dims, (uint32_t)s->rank + 1);
}

/* --- TensorArray
 * ---------------------------------------------------------------------------------- */

/* Element type and shape that an attribute and an input say; fresh where not all of it is known. */
static kgr_value *new_array(tf_xlat *x, kaena_dtype dtype, kgr_value *length,
                            const kop_tensor *element)
{
    bool known = !element->unranked && kaena_shape_known(&element->shape);
    return known ? array_of(x, dtype, length, element, 0) : fresh(x, dtype, length);
}

kaena_status tf_x_array(tf_xlat *x)
{
    kaena_dtype dtype = tf_type(x, "dtype", KAENA_F32);
    const Tensorflow__AttrValue *a = tf_node_attr(x->node, "element_shape");
    kop_tensor element = {.unranked = true};
    if (a && a->value_case == TENSORFLOW__ATTR_VALUE__VALUE_SHAPE)
        KAENA_TRY(tf_shape(a->shape, &element.shape, &element.unranked, x->imp->err));
    tf_set_out(x, 0, x->in[0]); /* nobody looks at the handle itself */
    tf_set_out(x, 1, new_array(x, dtype, as_list(x, x->in[0]), &element));
    return x->status;
}

/* Whether the array of this node's handle grows. */
static bool is_dynamic(const tf_xlat *x)
{
    const tf_node *n = tf_handle_of(x->node->in[0]);
    const Tensorflow__AttrValue *a = n ? tf_node_attr(n, "dynamic_size") : NULL;
    return a && a->value_case == TENSORFLOW__ATTR_VALUE__VALUE_B && a->b;
}

kaena_status tf_x_array_read(tf_xlat *x)
{
    return tf_done(x, read_element(x, x->in[2], x->in[1]));
}

kaena_status tf_x_array_write(tf_xlat *x)
{
    return tf_done(x, write_element(x, x->in[3], x->in[1], x->in[2], is_dynamic(x)));
}

kaena_status tf_x_array_gather(tf_xlat *x)
{
    return tf_done(x, gather(x, x->in[2], x->in[1]));
}

kaena_status tf_x_array_scatter(tf_xlat *x)
{
    return tf_done(x, scatter(x, x->in[3], x->in[1], x->in[2], is_dynamic(x)));
}

kaena_status tf_x_array_size(tf_xlat *x)
{
    kgr_value *n = tf_reshape(x, length_of(x, x->in[1]), NULL, 0);
    return tf_done(x, tf_cast(x, n, KAENA_I32));
}

kaena_status tf_x_array_concat(tf_xlat *x)
{
    return concat_elements(x, x->in[1]);
}

kaena_status tf_x_array_split(tf_xlat *x)
{
    return tf_done(x, split(x, x->in[1], x->in[2]));
}

/* --- TensorList
 * ----------------------------------------------------------------------------------- */

/* What input |v|, a shape or -1, says of the elements. */
static kop_tensor element_shape(const kgr_value *v)
{
    kop_tensor t = {.unranked = true};
    if (!v || !kgr_is_const(v) || !kaena_dtype_is_int(v->t.dtype) || v->t.shape.rank != 1 ||
        v->t.shape.dim[0] > KAENA_MAX_RANK)
        return t;
    t.unranked = false;
    t.shape.rank = (int32_t)v->t.shape.dim[0];
    for (int32_t i = 0; i < t.shape.rank; i++)
        t.shape.dim[i] =
            kop_get_int(&v->t, (size_t)i) < 0 ? KAENA_DIM_UNKNOWN : kop_get_int(&v->t, (size_t)i);
    return t;
}

kaena_status tf_x_list_empty(tf_xlat *x)
{
    const kop_tensor element = element_shape(x->in[0]);
    kaena_dtype dtype = tf_type(x, "element_dtype", KAENA_F32);
    return tf_done(x, new_array(x, dtype, tf_i64s(x, (const int64_t[]){0}, 1), &element));
}

kaena_status tf_x_list_reserve(tf_xlat *x)
{
    const kop_tensor element = element_shape(x->in[0]);
    kaena_dtype dtype = tf_type(x, "element_dtype", KAENA_F32);
    return tf_done(x, new_array(x, dtype, as_list(x, x->in[1]), &element));
}

kaena_status tf_x_list_from_tensor(tf_xlat *x)
{
    return tf_done(x, x->in[0]);
}

kaena_status tf_x_list_stack(tf_xlat *x)
{
    const kop_tensor element = element_shape(x->in[1]);
    if (!tf_array_is_fresh(&x->in[0]->t))
        return tf_done(x, x->in[0]);
    if (element.unranked || !kaena_shape_known(&element.shape))
        return tf_bad(x, "nothing was written to the list");
    return tf_done(x, array_of(x, x->in[0]->t.dtype, length_of(x, x->in[0]), &element, 0));
}

kaena_status tf_x_list_get(tf_xlat *x)
{
    return tf_done(x, read_element(x, x->in[0], x->in[1]));
}

kaena_status tf_x_list_set(tf_xlat *x)
{
    return tf_done(x, write_element(x, x->in[0], x->in[1], x->in[2],
                                    tf_bool(x, "resize_if_index_out_of_bounds", false)));
}

kaena_status tf_x_list_gather(tf_xlat *x)
{
    return tf_done(x, gather(x, x->in[0], x->in[1]));
}

/* TensorListScatter(tensor, indices, element_shape [, elements]). */
kaena_status tf_x_list_scatter(tf_xlat *x)
{
    kgr_value *length = NULL;
    int64_t said;
    if (first_dim(x->in[0]) >= 0 && is_range(x->in[1], first_dim(x->in[0])))
        return tf_done(x, x->in[0]);
    if (x->n_in == 4 && !(known_number(x->in[3], &said) && said < 0)) {
        length = as_list(x, x->in[3]);
    } else {
        kgr_value *one = tf_i64s(x, (const int64_t[]){1}, 1);
        length = tf_cast(x, x->in[1], KAENA_I64);
        length = tf_reduce(x, KOP_ReduceMax, length, (const int64_t[]){0}, 1, true);
        length = tf_op2(x, KOP_Add, length, one);
    }
    KAENA_TRY(x->status);
    kgr_value *array = array_of(x, x->in[0]->t.dtype, length, &x->in[0]->t, 1);
    return tf_done(x, write_elements(x, array, x->in[1], x->in[0], false));
}

/* TensorListScatterIntoExistingList(list, tensor, indices). */
kaena_status tf_x_list_scatter_into(tf_xlat *x)
{
    return tf_done(x, scatter(x, x->in[0], x->in[2], x->in[1], true));
}

kaena_status tf_x_list_length(tf_xlat *x)
{
    kgr_value *n = tf_reshape(x, length_of(x, x->in[0]), NULL, 0);
    return tf_done(x, tf_cast(x, n, KAENA_I32));
}

kaena_status tf_x_list_push(tf_xlat *x)
{
    kgr_value *parts[2] = {x->in[0], tf_unsqueeze(x, x->in[1], 0)};
    KAENA_TRY(x->status);
    if (tf_array_is_fresh(&parts[0]->t)) {
        if (first_dim(parts[0]) == 0)
            return tf_done(x, parts[1]);
        parts[0] = tf_array_settle(x, parts[0], &parts[1]->t);
    }
    return tf_done(x, tf_concat(x, parts, 2, 0));
}

kaena_status tf_x_list_pop(tf_xlat *x)
{
    kgr_value *last = tf_i64(x, -1);
    tf_set_out(x, 1, read_element(x, x->in[0], last));
    tf_set_out(x, 0, tf_slice(x, x->in[0], 0, 0, -1, 1));
    return x->status;
}

kaena_status tf_x_list_resize(tf_xlat *x)
{
    int64_t wanted;
    if (!known_number(x->in[1], &wanted) || wanted < 0)
        return tf_lacks(x, "the new length of the list is not known at compile time");
    kgr_value *list = tf_slice(x, x->in[0], 0, 0, wanted, 1);
    return tf_done(x, with_room(x, list, tf_i64s(x, &wanted, 1)));
}

kaena_status tf_x_list_concat(tf_xlat *x)
{
    return concat_elements(x, x->in[0]);
}

kaena_status tf_x_list_split(tf_xlat *x)
{
    return tf_done(x, split(x, x->in[0], x->in[2]));
}

kaena_status tf_x_list_element_shape(tf_xlat *x)
{
    const kaena_shape *s = tf_known_shape(x, x->in[0]);
    KAENA_TRY(x->status);
    kgr_value *v = tf_array_is_fresh(&x->in[0]->t)
                       ? tf_i64(x, -1)
                       : tf_i64s(x, s->dim + 1, (uint32_t)(s->rank - 1));
    return tf_done(x, tf_cast(x, v, tf_type(x, "shape_type", KAENA_I32)));
}
