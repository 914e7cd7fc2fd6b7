#include "tf_type.h"

#include <inttypes.h>

static const struct {
    kaena_dtype dtype; /* NONE: not supported */
    const char *name;
} types[] = {
    [TENSORFLOW__DATA_TYPE__DT_FLOAT] = {KAENA_F32, "float"},
    [TENSORFLOW__DATA_TYPE__DT_DOUBLE] = {KAENA_F64, "double"},
    [TENSORFLOW__DATA_TYPE__DT_INT32] = {KAENA_I32, "int32"},
    [TENSORFLOW__DATA_TYPE__DT_UINT8] = {KAENA_U8, "uint8"},
    [TENSORFLOW__DATA_TYPE__DT_INT16] = {KAENA_I16, "int16"},
    [TENSORFLOW__DATA_TYPE__DT_INT8] = {KAENA_I8, "int8"},
    [TENSORFLOW__DATA_TYPE__DT_STRING] = {KAENA_STRING, "string"},
    [TENSORFLOW__DATA_TYPE__DT_COMPLEX64] = {KAENA_DTYPE_NONE, "complex64"},
    [TENSORFLOW__DATA_TYPE__DT_INT64] = {KAENA_I64, "int64"},
    [TENSORFLOW__DATA_TYPE__DT_BOOL] = {KAENA_BOOL, "bool"},
    [TENSORFLOW__DATA_TYPE__DT_QINT8] = {KAENA_I8, "qint8"},
    [TENSORFLOW__DATA_TYPE__DT_QUINT8] = {KAENA_U8, "quint8"},
    [TENSORFLOW__DATA_TYPE__DT_QINT32] = {KAENA_I32, "qint32"},
    [TENSORFLOW__DATA_TYPE__DT_BFLOAT16] = {KAENA_BF16, "bfloat16"},
    [TENSORFLOW__DATA_TYPE__DT_QINT16] = {KAENA_I16, "qint16"},
    [TENSORFLOW__DATA_TYPE__DT_QUINT16] = {KAENA_U16, "quint16"},
    [TENSORFLOW__DATA_TYPE__DT_UINT16] = {KAENA_U16, "uint16"},
    [TENSORFLOW__DATA_TYPE__DT_COMPLEX128] = {KAENA_DTYPE_NONE, "complex128"},
    [TENSORFLOW__DATA_TYPE__DT_HALF] = {KAENA_F16, "half"},
    [TENSORFLOW__DATA_TYPE__DT_RESOURCE] = {KAENA_DTYPE_NONE, "resource"},
    [TENSORFLOW__DATA_TYPE__DT_VARIANT] = {KAENA_DTYPE_NONE, "variant"},
    [TENSORFLOW__DATA_TYPE__DT_UINT32] = {KAENA_U32, "uint32"},
    [TENSORFLOW__DATA_TYPE__DT_UINT64] = {KAENA_U64, "uint64"},
};

kaena_status tf_file_dtype(int type, kaena_dtype *out, kaena_err *err)
{
    if (type < 1 || (size_t)type >= sizeof types / sizeof *types || !types[type].name)
        return KAENA_FAIL(err, INVALID_ARGUMENT, "element type %d does not exist", type);
    if (types[type].dtype == KAENA_DTYPE_NONE)
        return KAENA_FAIL(err, UNIMPLEMENTED, "element type %s is not supported", types[type].name);
    *out = types[type].dtype;
    return KAENA_OK;
}

kaena_status tf_file_shape(const Tensorflow__TensorShapeProto *pb, kaena_shape *out, kaena_err *err)
{
    kaena_shape s = {0};
    if (pb) {
        if (pb->unknown_rank)
            return KAENA_FAIL(err, INVALID_ARGUMENT, "its shape is not known");
        if (pb->n_dim > KAENA_MAX_RANK)
            return KAENA_FAIL(err, UNIMPLEMENTED, "%zu dimensions; at most %d are supported",
                              pb->n_dim, KAENA_MAX_RANK);
        s.rank = (int32_t)pb->n_dim;
        for (size_t i = 0; i < pb->n_dim; i++) {
            s.dim[i] = pb->dim[i]->size;
            if (s.dim[i] < 0)
                return KAENA_FAIL(err, INVALID_ARGUMENT, "dimension %zu is %" PRId64, i, s.dim[i]);
        }
    }
    *out = s;
    return KAENA_OK;
}
