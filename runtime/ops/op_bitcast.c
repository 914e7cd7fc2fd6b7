/* BitCast: the same bytes as another type. Where the types differ in size, the last dimension does:
 * an element of k times the size takes the last dimension, which has k elements; one of a k-th of
 * the size adds a dimension of k behind the others (TensorFlow's Bitcast; ONNX has equal sizes). */
#include "ops_impl.h"

#define CASTABLE (KOP_T_NUM | KOP_T_BOOL)

kaena_status kop_infer_bitcast(kop_call *call)
{
    const kop_tensor *x = call->in[0];
    int64_t to = kop_attr_int(call, "to", -1);
    KAENA_TRY(kop_need(call, 0, CASTABLE));
    if (to < 1 || to > 31 || !(CASTABLE & KOP_T(to)))
        return KOP_BAD(call, "attribute 'to' is %" PRId64 ", no type of numbers", to);
    size_t from_size = kaena_dtype_size(x->dtype), to_size = kaena_dtype_size((kaena_dtype)to);
    if (x->unranked || x->dtype == KAENA_DTYPE_NONE) {
        kop_out_unranked(call, 0, (kaena_dtype)to);
        return KAENA_OK;
    }
    kaena_shape s = x->shape;
    if (to_size > from_size) {
        int64_t k = (int64_t)(to_size / from_size);
        if (s.rank == 0 || (s.dim[s.rank - 1] != k && s.dim[s.rank - 1] != KAENA_DIM_UNKNOWN))
            return KOP_BAD(call, "the last dimension must have %" PRId64 " elements", k);
        s.rank--;
    } else if (to_size < from_size) {
        if (s.rank == KAENA_MAX_RANK)
            return KOP_BAD(call, "the result has more than %d dimensions", KAENA_MAX_RANK);
        s.dim[s.rank++] = (int64_t)(from_size / to_size);
    }
    kop_out(call, 0, (kaena_dtype)to, &s);
    return KAENA_OK;
}

kaena_status kop_eval_bitcast(kop_call *call)
{
    const kop_tensor *x = call->in[0];
    kop_tensor *out = &call->out[0];
    size_t n = kop_elements(out), size = kaena_dtype_size(out->dtype);
    /* A last dimension that was not known during inference. */
    if (n * size != kop_elements(x) * kaena_dtype_size(x->dtype))
        return KOP_BAD(call, "the last dimension does not make whole elements");
    if (out->dtype == KAENA_BOOL)
        for (size_t i = 0; i < n; i++)
            ((uint8_t *)out->data)[i] = ((const uint8_t *)x->data)[i] != 0;
    else if (n)
        memcpy(out->data, x->data, n * size);
    return KAENA_OK;
}
