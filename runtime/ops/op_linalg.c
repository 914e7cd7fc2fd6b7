/* Det. */
#include "ops_impl.h"

#include <math.h>

kaena_status kop_infer_det(kop_call *call)
{
    const kop_tensor *x = call->in[0];
    KAENA_TRY(kop_need(call, 0, KOP_T_FLOAT));
    if (x->unranked) {
        kop_out_unranked(call, 0, x->dtype);
        return KAENA_OK;
    }
    int32_t rank = x->shape.rank;
    if (rank < 2 || (x->shape.dim[rank - 2] >= 0 && x->shape.dim[rank - 1] >= 0 &&
                     x->shape.dim[rank - 2] != x->shape.dim[rank - 1]))
        return KOP_BAD(call, "the last two dimensions must be those of a square matrix");
    kaena_shape shape = x->shape;
    shape.rank = rank - 2;
    kop_out(call, 0, x->dtype, &shape);
    return KAENA_OK;
}

/* By elimination with the largest pivot of a column; overwrites |a|, [n][n]. */
static kaena_status determinant(kop_call *call, double *a, size_t n, double *out)
{
    double det = 1;
    for (size_t k = 0; k < n; k++) {
        size_t pivot = k;
        for (size_t i = k + 1; i < n; i++)
            if (fabs(a[i * n + k]) > fabs(a[pivot * n + k]))
                pivot = i;
        for (size_t j = k; j < n && pivot != k; j++) {
            double t = a[k * n + j];
            a[k * n + j] = a[pivot * n + j];
            a[pivot * n + j] = t;
        }
        det *= pivot != k ? -a[k * n + k] : a[k * n + k];
        if (det == 0)
            break;
        for (size_t i = k + 1; i < n; i++) {
            double factor = a[i * n + k] / a[k * n + k];
            for (size_t j = k + 1; j < n; j++)
                a[i * n + j] -= factor * a[k * n + j];
        }
        KAENA_TRY(kop_poll(call));
    }
    *out = det;
    return KAENA_OK;
}

kaena_status kop_eval_det(kop_call *call)
{
    const kop_tensor *x = call->in[0];
    size_t n = (size_t)x->shape.dim[x->shape.rank - 1];
    double *a = kop_alloc(call, n * n, sizeof *a);
    if (!a)
        return KAENA_RESOURCE_EXHAUSTED;
    for (size_t i = 0; i < kop_elements(&call->out[0]); i++) {
        double det;
        if (n > 0)
            kop_load_f64(x, i * n * n, n * n, a);
        KAENA_TRY(determinant(call, a, n, &det));
        kop_set_float(&call->out[0], i, det);
    }
    return KAENA_OK;
}
