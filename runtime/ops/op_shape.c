#include "ops_impl.h"

kaena_status kop_infer_same(kop_call *call)
{
    call->out[0] = *call->in[0];
    call->out[0].data = NULL;
    return KAENA_OK;
}

kaena_status kop_eval_identity(kop_call *call)
{
    const kop_tensor *in = call->in[0];
    size_t bytes = kop_elements(in) * kaena_dtype_size(in->dtype);
    if (bytes)
        memcpy(call->out[0].data, in->data, bytes);
    return KAENA_OK;
}
