/* Attributes, inputs and ends of a translation. */
#include "tf_xlat.h"

#include <stdio.h>
#include <string.h>

/* --- Ends and errors -------------------------------------------------------------------------- */

static void fail_no_memory(tf_xlat *x)
{
    if (x->status == KAENA_OK)
        x->status = KAENA_FAIL(x->imp->err, RESOURCE_EXHAUSTED, "no memory for the graph");
}

static kaena_status fail(tf_xlat *x, kaena_status code, const char *format, va_list list)
{
    if (x->status != KAENA_OK)
        return x->status;
    char text[400];
    (void)vsnprintf(text, sizeof text, format, list);
    x->status = kaena_err_set(x->imp->err, code, "%s", text);
    return x->status;
}

kaena_status tf_bad(tf_xlat *x, const char *format, ...)
{
    va_list list;
    va_start(list, format);
    kaena_status s = fail(x, KAENA_INVALID_ARGUMENT, format, list);
    va_end(list);
    return s;
}

kaena_status tf_lacks(tf_xlat *x, const char *format, ...)
{
    va_list list;
    va_start(list, format);
    kaena_status s = fail(x, KAENA_UNIMPLEMENTED, format, list);
    va_end(list);
    return s;
}

void tf_set_out(tf_xlat *x, uint32_t i, kgr_value *v)
{
    if (x->status != KAENA_OK)
        return;
    if (i >= x->cap_out) {
        uint32_t cap = i < 4 ? 4 : i * 2;
        kgr_value **fresh = KAENA_NEW_N(x->imp->arena, kgr_value *, cap);
        if (!fresh) {
            fail_no_memory(x);
            return;
        }
        if (x->n_out)
            memcpy(fresh, x->out, x->n_out * sizeof *fresh);
        x->out = fresh;
        x->cap_out = cap;
    }
    if (i >= x->n_out)
        x->n_out = i + 1;
    x->out[i] = v;
}

kaena_status tf_done(tf_xlat *x, kgr_value *v)
{
    tf_set_out(x, 0, v);
    return x->status;
}

/* --- Attributes ------------------------------------------------------------------------------- */

bool tf_has(const tf_xlat *x, const char *name)
{
    return tf_node_attr(x->node, name) != NULL;
}

/* The attribute, if it is of that kind. */
static const Tensorflow__AttrValue *
attr_of(tf_xlat *x, const char *name, Tensorflow__AttrValue__ValueCase kind, const char *kind_name)
{
    const Tensorflow__AttrValue *a = tf_node_attr(x->node, name);
    if (!a || x->status != KAENA_OK)
        return NULL;
    if (a->value_case == kind)
        return a;
    (void)tf_bad(x, "attribute '%s' is not %s", name, kind_name);
    return NULL;
}

int64_t tf_int(tf_xlat *x, const char *name, int64_t otherwise)
{
    const Tensorflow__AttrValue *a =
        attr_of(x, name, TENSORFLOW__ATTR_VALUE__VALUE_I, "a whole number");
    return a ? a->i : otherwise;
}

float tf_float(tf_xlat *x, const char *name, float otherwise)
{
    const Tensorflow__AttrValue *a = attr_of(x, name, TENSORFLOW__ATTR_VALUE__VALUE_F, "a number");
    return a ? a->f : otherwise;
}

bool tf_bool(tf_xlat *x, const char *name, bool otherwise)
{
    const Tensorflow__AttrValue *a =
        attr_of(x, name, TENSORFLOW__ATTR_VALUE__VALUE_B, "true or false");
    return a ? a->b != 0 : otherwise;
}

kaena_dtype tf_type(tf_xlat *x, const char *name, kaena_dtype otherwise)
{
    const Tensorflow__AttrValue *a = attr_of(x, name, TENSORFLOW__ATTR_VALUE__VALUE_TYPE, "a type");
    kaena_dtype t = otherwise;
    if (a)
        x->status = tf_dtype((int)a->type, &t, x->imp->err);
    return t;
}

const char *tf_string(tf_xlat *x, const char *name, const char *otherwise)
{
    const Tensorflow__AttrValue *a = attr_of(x, name, TENSORFLOW__ATTR_VALUE__VALUE_S, "a text");
    if (!a)
        return otherwise;
    const char *s = kaena_arena_printf(x->imp->arena, "%.*s", (int)a->s.len,
                                       a->s.len ? (const char *)a->s.data : "");
    if (!s)
        fail_no_memory(x);
    return s ? s : otherwise;
}

static const Tensorflow__AttrValue__ListValue *list_of(tf_xlat *x, const char *name)
{
    const Tensorflow__AttrValue *a = attr_of(x, name, TENSORFLOW__ATTR_VALUE__VALUE_LIST, "a list");
    return a ? a->list : NULL;
}

uint32_t tf_ints(tf_xlat *x, const char *name, const int64_t **v)
{
    const Tensorflow__AttrValue__ListValue *l = list_of(x, name);
    *v = l ? l->i : NULL;
    return l ? (uint32_t)l->n_i : 0;
}

uint32_t tf_floats(tf_xlat *x, const char *name, const float **v)
{
    const Tensorflow__AttrValue__ListValue *l = list_of(x, name);
    *v = l ? l->f : NULL;
    return l ? (uint32_t)l->n_f : 0;
}

/* --- Inputs ----------------------------------------------------------------------------------- */

int32_t tf_rank(tf_xlat *x, const kgr_value *v)
{
    if (x->status != KAENA_OK || !v)
        return -1;
    if (!v->t.unranked)
        return v->t.shape.rank;
    (void)tf_lacks(x, "the rank of an operand ('%s') is not known at compile time", v->name);
    return -1;
}

const kaena_shape *tf_known_shape(tf_xlat *x, const kgr_value *v)
{
    static const kaena_shape none;
    if (tf_rank(x, v) < 0)
        return &none;
    if (kaena_shape_known(&v->t.shape))
        return &v->t.shape;
    (void)tf_lacks(x, "the shape of an operand ('%s') is not known at compile time", v->name);
    return &none;
}

/* A constant of numbers, or an error. */
static const kop_tensor *const_of(tf_xlat *x, const kgr_value *v, const char *what)
{
    if (x->status != KAENA_OK || !v)
        return NULL;
    if (!kgr_is_const(v)) {
        (void)tf_lacks(x, "%s ('%s') is not known at compile time", what, v->name);
        return NULL;
    }
    if (v->t.dtype == KAENA_STRING) {
        (void)tf_bad(x, "%s is not a number", what);
        return NULL;
    }
    return &v->t;
}

const int64_t *tf_const_ints(tf_xlat *x, const kgr_value *v, const char *what, uint32_t *n)
{
    const kop_tensor *t = const_of(x, v, what);
    *n = 0;
    if (!t)
        return NULL;
    size_t count = kop_elements(t);
    if (!kaena_dtype_is_int(t->dtype) || count > INT32_MAX) {
        (void)tf_bad(x, "%s is not a list of whole numbers", what);
        return NULL;
    }
    int64_t *out = KAENA_NEW_N(x->imp->arena, int64_t, count);
    if (!out) {
        fail_no_memory(x);
        return NULL;
    }
    for (size_t i = 0; i < count; i++)
        out[i] = kop_get_int(t, i);
    *n = (uint32_t)count;
    return out;
}

int64_t tf_const_int(tf_xlat *x, const kgr_value *v, const char *what)
{
    uint32_t n;
    const int64_t *i = tf_const_ints(x, v, what, &n);
    if (n == 1)
        return i[0];
    (void)tf_bad(x, "%s has %u elements, not one", what, n);
    return 0;
}

double tf_const_float(tf_xlat *x, const kgr_value *v, const char *what)
{
    const kop_tensor *t = const_of(x, v, what);
    if (!t)
        return 0;
    if (kop_elements(t) == 1)
        return kop_get_float(t, 0);
    (void)tf_bad(x, "%s has %zu elements, not one", what, kop_elements(t));
    return 0;
}

int32_t tf_axis(tf_xlat *x, int64_t axis, int32_t rank)
{
    int32_t a = 0;
    if (x->status == KAENA_OK && !kop_axis(axis, rank, &a))
        (void)tf_bad(x, "there is no dimension %lld of %d", (long long)axis, rank);
    return a;
}
