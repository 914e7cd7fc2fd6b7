/* Types of values: tensors, and sequences and optionals of them. */
#include "onnx_internal.h"
#include "tensor_pb.h"

static kaena_status tensor_type(const Onnx__TypeTensor *pb, const char *what, kop_tensor *out,
                                kaena_err *err)
{
    kop_tensor t = {.unranked = !pb->shape};
    KAENA_TRY_WRAP(err, kcc_dtype_of_pb(pb->elem_type, &t.dtype, err), "%s", what);
    if (pb->shape && pb->shape->n_dim > KAENA_MAX_RANK)
        return KAENA_FAIL(err, UNIMPLEMENTED, "%s has %zu dimensions; at most %d are supported",
                          what, pb->shape->n_dim, KAENA_MAX_RANK);
    t.shape.rank = pb->shape ? (int32_t)pb->shape->n_dim : 0;
    for (int32_t i = 0; i < t.shape.rank; i++) {
        const Onnx__TensorShapeDimension *d = pb->shape->dim[i];
        bool known = d->value_case == ONNX__TENSOR_SHAPE_DIMENSION__VALUE_DIM_VALUE;
        t.shape.dim[i] = known && d->dim_value >= 0 ? d->dim_value : KAENA_DIM_UNKNOWN;
    }
    *out = t;
    return KAENA_OK;
}

kaena_status onnx_type_of_pb(const Onnx__TypeProto *type, const char *what, kop_tensor *out,
                             kaena_err *err)
{
    bool optional = false, sequence = false;
    if (type && type->value_case == ONNX__TYPE_PROTO__VALUE_OPTIONAL_TYPE) {
        optional = true;
        type = type->optional_type->elem_type;
    }
    if (type && type->value_case == ONNX__TYPE_PROTO__VALUE_SEQUENCE_TYPE) {
        sequence = true;
        type = type->sequence_type->elem_type;
    }
    if (!type || type->value_case == ONNX__TYPE_PROTO__VALUE__NOT_SET)
        return KAENA_FAIL(err, INVALID_ARGUMENT, "%s has no type", what);
    if (type->value_case != ONNX__TYPE_PROTO__VALUE_TENSOR_TYPE) {
        const char *kind = type->value_case == ONNX__TYPE_PROTO__VALUE_MAP_TYPE ? "maps"
                           : type->value_case == ONNX__TYPE_PROTO__VALUE_SPARSE_TENSOR_TYPE
                               ? "sparse tensors"
                               : "sequences and optionals nested deeper than an optional sequence";
        return KAENA_FAIL(err, UNIMPLEMENTED, "%s: %s are not supported", what, kind);
    }
    KAENA_TRY(tensor_type(type->tensor_type, what, out, err));
    out->form = (uint8_t)(optional && sequence ? KOP_FORM_OPTIONAL_SEQUENCE
                          : optional           ? KOP_FORM_OPTIONAL
                          : sequence           ? KOP_FORM_SEQUENCE
                                               : KOP_FORM_TENSOR);
    return KAENA_OK;
}
