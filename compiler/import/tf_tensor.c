/* Element types, shapes and tensors of TensorFlow's messages. */
#include <inttypes.h>
#include <string.h>

#include "checked.h"
#include "tf_graph.h"

#define REF_OFFSET 100 /* DT_FLOAT_REF is DT_FLOAT + 100 */

static const struct {
    int number;
    kaena_dtype dtype; /* NONE: known, not supported */
    const char *name;
} types[] = {
    {TENSORFLOW__DATA_TYPE__DT_FLOAT, KAENA_F32, "float32"},
    {TENSORFLOW__DATA_TYPE__DT_DOUBLE, KAENA_F64, "float64"},
    {TENSORFLOW__DATA_TYPE__DT_INT32, KAENA_I32, "int32"},
    {TENSORFLOW__DATA_TYPE__DT_UINT8, KAENA_U8, "uint8"},
    {TENSORFLOW__DATA_TYPE__DT_INT16, KAENA_I16, "int16"},
    {TENSORFLOW__DATA_TYPE__DT_INT8, KAENA_I8, "int8"},
    {TENSORFLOW__DATA_TYPE__DT_STRING, KAENA_STRING, "string"},
    {TENSORFLOW__DATA_TYPE__DT_COMPLEX64, KAENA_DTYPE_NONE, "complex64"},
    {TENSORFLOW__DATA_TYPE__DT_INT64, KAENA_I64, "int64"},
    {TENSORFLOW__DATA_TYPE__DT_BOOL, KAENA_BOOL, "bool"},
    {TENSORFLOW__DATA_TYPE__DT_QINT8, KAENA_I8, "qint8"},
    {TENSORFLOW__DATA_TYPE__DT_QUINT8, KAENA_U8, "quint8"},
    {TENSORFLOW__DATA_TYPE__DT_QINT32, KAENA_I32, "qint32"},
    {TENSORFLOW__DATA_TYPE__DT_BFLOAT16, KAENA_BF16, "bfloat16"},
    {TENSORFLOW__DATA_TYPE__DT_QINT16, KAENA_I16, "qint16"},
    {TENSORFLOW__DATA_TYPE__DT_QUINT16, KAENA_U16, "quint16"},
    {TENSORFLOW__DATA_TYPE__DT_UINT16, KAENA_U16, "uint16"},
    {TENSORFLOW__DATA_TYPE__DT_COMPLEX128, KAENA_DTYPE_NONE, "complex128"},
    {TENSORFLOW__DATA_TYPE__DT_HALF, KAENA_F16, "float16"},
    {TENSORFLOW__DATA_TYPE__DT_RESOURCE, KAENA_DTYPE_NONE, "resource"},
    {TENSORFLOW__DATA_TYPE__DT_VARIANT, KAENA_DTYPE_NONE, "variant"},
    {TENSORFLOW__DATA_TYPE__DT_UINT32, KAENA_U32, "uint32"},
    {TENSORFLOW__DATA_TYPE__DT_UINT64, KAENA_U64, "uint64"},
};

const char *tf_dtype_name(int number)
{
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++)
        if (types[i].number == number || types[i].number + REF_OFFSET == number)
            return types[i].name;
    return "an unknown type";
}

kaena_status tf_dtype(int number, kaena_dtype *out, kaena_err *err)
{
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        if (types[i].number != number && types[i].number + REF_OFFSET != number)
            continue;
        if (types[i].dtype == KAENA_DTYPE_NONE)
            return KAENA_FAIL(err, UNIMPLEMENTED, "element type %s is not supported",
                              types[i].name);
        *out = types[i].dtype;
        return KAENA_OK;
    }
    return KAENA_FAIL(err, INVALID_ARGUMENT, "there is no element type number %d", number);
}

kaena_status tf_shape(const Tensorflow__TensorShapeProto *pb, kaena_shape *out, bool *unranked,
                      kaena_err *err)
{
    if (!pb || pb->unknown_rank) {
        *out = (kaena_shape){0};
        *unranked = true;
        return KAENA_OK;
    }
    if (pb->n_dim > KAENA_MAX_RANK)
        return KAENA_FAIL(err, UNIMPLEMENTED, "%zu dimensions; at most %d are supported", pb->n_dim,
                          KAENA_MAX_RANK);
    kaena_shape s = {.rank = (int32_t)pb->n_dim};
    for (size_t i = 0; i < pb->n_dim; i++)
        s.dim[i] = pb->dim[i]->size < 0 ? KAENA_DIM_UNKNOWN : pb->dim[i]->size;
    *out = s;
    *unranked = false;
    return KAENA_OK;
}

/* --- Tensors ---------------------------------------------------------------------------------- */

/* The list of a type as bytes: |stride| is of one element of the list. */
typedef struct values {
    const void *data;
    size_t n, stride;
} values;

static values values_of(const Tensorflow__TensorProto *pb, kaena_dtype dtype)
{
    switch (dtype) {
    case KAENA_F32:
        return (values){pb->float_val, pb->n_float_val, sizeof(float)};
    case KAENA_F64:
        return (values){pb->double_val, pb->n_double_val, sizeof(double)};
    case KAENA_I32:
    case KAENA_U8:
    case KAENA_I16:
    case KAENA_I8:
    case KAENA_U16:
        return (values){pb->int_val, pb->n_int_val, sizeof(int32_t)};
    case KAENA_I64:
        return (values){pb->int64_val, pb->n_int64_val, sizeof(int64_t)};
    case KAENA_BOOL:
        return (values){pb->bool_val, pb->n_bool_val, sizeof(protobuf_c_boolean)};
    case KAENA_F16:
    case KAENA_BF16:
        return (values){pb->half_val, pb->n_half_val, sizeof(int32_t)};
    case KAENA_U32:
        return (values){pb->uint32_val, pb->n_uint32_val, sizeof(uint32_t)};
    case KAENA_U64:
        return (values){pb->uint64_val, pb->n_uint64_val, sizeof(uint64_t)};
    case KAENA_STRING:
        return (values){pb->string_val, pb->n_string_val, sizeof(ProtobufCBinaryData)};
    case KAENA_DTYPE_NONE:
        break;
    }
    return (values){0};
}

/* Element |i| of |v| into |to|. Shorter integers and halves stand in the low bytes. */
static void put(void *to, kaena_dtype dtype, const values *v, size_t i)
{
    const char *from = (const char *)v->data + i * v->stride;
    if (dtype == KAENA_STRING) {
        const ProtobufCBinaryData *s = (const void *)from;
        *(kaena_string *)to = (kaena_string){s->len ? (const char *)s->data : "", s->len};
    } else if (dtype == KAENA_BOOL) {
        protobuf_c_boolean b;
        memcpy(&b, from, sizeof b);
        *(uint8_t *)to = b != 0;
    } else {
        memcpy(to, from, kaena_dtype_size(dtype));
    }
}

static kaena_status of_values(kaena_arena *arena, const Tensorflow__TensorProto *pb, size_t n,
                              kop_tensor *t, kaena_err *err)
{
    size_t size = kaena_dtype_size(t->dtype);
    values v = values_of(pb, t->dtype);
    if (v.n > n)
        return KAENA_FAIL(err, INVALID_ARGUMENT, "%zu values for %zu elements", v.n, n);
    /* A claim of one value for 2^40 elements fails here where the arena has a quota, and by the
     * bound of a constant's size otherwise. */
    if (n > TF_MAX_FILL && v.n < n / 4)
        return KAENA_FAIL(err, RESOURCE_EXHAUSTED,
                          "%zu elements filled from %zu values; at most %d make sense", n, v.n,
                          TF_MAX_FILL);
    t->data = kaena_arena_array(arena, n, size);
    if (!t->data)
        return KAENA_FAIL(err, RESOURCE_EXHAUSTED, "no memory for the tensor");
    for (size_t i = 0; i < n; i++) {
        void *to = (char *)t->data + i * size;
        if (v.n)
            put(to, t->dtype, &v, i < v.n ? i : v.n - 1);
        else if (t->dtype == KAENA_STRING)
            *(kaena_string *)to = (kaena_string){"", 0};
    }
    return KAENA_OK;
}

static kaena_status of_content(kaena_arena *arena, const ProtobufCBinaryData *content, size_t n,
                               kop_tensor *t, kaena_err *err)
{
    size_t size = kaena_dtype_size(t->dtype);
    if (t->dtype == KAENA_STRING)
        return KAENA_FAIL(err, UNIMPLEMENTED, "strings in tensor_content are not supported");
    if (content->len / size != n || content->len % size)
        return KAENA_FAIL(err, INVALID_ARGUMENT, "%zu bytes of content for %zu elements of %zu",
                          content->len, n, size);
    t->data = content->data;
    if (t->dtype == KAENA_BOOL) {
        t->data = kaena_arena_memdup(arena, content->data, n);
        if (!t->data)
            return KAENA_FAIL(err, RESOURCE_EXHAUSTED, "no memory for the tensor");
        for (size_t i = 0; i < n; i++)
            ((uint8_t *)t->data)[i] = ((uint8_t *)t->data)[i] != 0;
    }
    return KAENA_OK;
}

kaena_status tf_tensor(kaena_arena *arena, const Tensorflow__TensorProto *pb, kop_tensor *out,
                       kaena_err *err)
{
    kop_tensor t = {0};
    int64_t n;
    KAENA_TRY(tf_dtype((int)pb->dtype, &t.dtype, err));
    if (pb->tensor_shape)
        KAENA_TRY(tf_shape(pb->tensor_shape, &t.shape, &t.unranked, err));
    if (t.unranked || !kaena_shape_elements(&t.shape, &n))
        return KAENA_FAIL(err, INVALID_ARGUMENT, "the tensor's shape is not fixed, or too large");
    if (pb->tensor_content.len)
        KAENA_TRY(of_content(arena, &pb->tensor_content, (size_t)n, &t, err));
    else
        KAENA_TRY(of_values(arena, pb, (size_t)n, &t, err));
    *out = t;
    return KAENA_OK;
}
