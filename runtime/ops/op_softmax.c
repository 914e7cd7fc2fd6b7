#include "ops_impl.h"

#include <math.h>

kaena_status kop_infer_softmax(kop_call *call)
{
    int32_t axis;
    KAENA_TRY(kop_need(call, 0, KOP_T_FLOAT));
    const kop_tensor *x = call->in[0];
    if (!x->unranked && x->shape.rank > 0)
        KAENA_TRY(kop_attr_axis(call, "axis", -1, x->shape.rank, &axis));
    return kop_infer_same(call);
}

/* One line of |n| values in place. */
static void transform(kop_op op, double *v, int64_t n)
{
    int64_t best = 0;
    for (int64_t i = 1; i < n; i++)
        if (v[i] > v[best])
            best = i;
    double top = v[best], sum = 0;
    if (op == KOP_Hardmax) {
        for (int64_t i = 0; i < n; i++)
            v[i] = i == best;
        return;
    }
    for (int64_t i = 0; i < n; i++)
        sum += exp(v[i] - top);
    for (int64_t i = 0; i < n; i++)
        v[i] = op == KOP_Softmax ? exp(v[i] - top) / sum : v[i] - top - log(sum);
}

kaena_status kop_eval_softmax(kop_call *call)
{
    const kop_tensor *x = call->in[0];
    size_t total = kop_elements(x);
    if (total == 0)
        return KAENA_OK;
    int32_t axis = 0;
    if (x->shape.rank > 0)
        KAENA_TRY(kop_attr_axis(call, "axis", -1, x->shape.rank, &axis));
    int64_t n = x->shape.rank > 0 ? x->shape.dim[axis] : 1;
    int64_t inner = kop_span(&x->shape, axis + 1, x->shape.rank);
    double *v = kop_alloc(call, (size_t)n, sizeof *v);
    if (!v)
        return KAENA_RESOURCE_EXHAUSTED;
    for (int64_t line = 0; line < (int64_t)total / n; line++) {
        size_t at = (size_t)(line / inner * n * inner + line % inner);
        for (int64_t i = 0; i < n; i++)
            v[i] = kop_get_float(x, at + (size_t)(i * inner));
        transform(call->op, v, n);
        for (int64_t i = 0; i < n; i++)
            kop_set_float(&call->out[0], at + (size_t)(i * inner), v[i]);
        KAENA_TRY(kop_poll(call));
    }
    return KAENA_OK;
}
