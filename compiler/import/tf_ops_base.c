/* Translations: what a graph itself is made of. */
#include "tf_xlat.h"

/* A constant that is filled stands for more bytes than the file has; all of them together are
 * bounded as evaluation is. */
static size_t filled_bytes(const tf_node *n, const kop_tensor *t)
{
    const Tensorflow__AttrValue *a = tf_node_attr(n, "value");
    return n->tensor || a->tensor->tensor_content.len
               ? 0
               : kop_elements(t) * kaena_dtype_size(t->dtype);
}

kaena_status tf_x_const(tf_xlat *x)
{
    const Tensorflow__AttrValue *a = tf_node_attr(x->node, "value");
    kop_tensor t;
    if (x->node->tensor) {
        t = *x->node->tensor;
    } else {
        if (!a || a->value_case != TENSORFLOW__ATTR_VALUE__VALUE_TENSOR)
            return tf_bad(x, "attribute 'value' is not a tensor");
        KAENA_TRY(tf_tensor(x->imp->arena, a->tensor, &t, x->imp->err));
    }
    size_t filled = filled_bytes(x->node, &t);
    if (filled > x->imp->fold_left)
        return KAENA_FAIL(x->imp->err, RESOURCE_EXHAUSTED,
                          "the graph's constants expand to too many bytes");
    x->imp->fold_left -= filled;
    return tf_done(x, tf_const(x, t.dtype, &t.shape, t.data));
}

kaena_status tf_x_placeholder(tf_xlat *x)
{
    return tf_bad(x, "the placeholder is no input of the model");
}

kaena_status tf_x_identity(tf_xlat *x)
{
    return tf_done(x, x->in[0]);
}

kaena_status tf_x_identity_n(tf_xlat *x)
{
    for (uint32_t i = 0; i < x->n_in; i++)
        tf_set_out(x, i, x->in[i]);
    return x->status;
}

/* A variable that is given a value is that value. */
kaena_status tf_x_assign(tf_xlat *x)
{
    return tf_done(x, x->in[1]);
}
