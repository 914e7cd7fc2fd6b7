/* Factors of matrices and systems of equations. The last two dimensions are a matrix's, those
 * before count matrices. Not of ONNX:
 *
 *   Cholesky(A) = L, lower triangular, with L L^T = A; A is symmetric and positive definite, and
 * only its lower half is looked at LU(A) = F, p  F holds U and, below its diagonal, L, whose
 * diagonal is 1; row i of L U is row p[i] of A; p is int64 Solve(A, B)   X with A X = B; B has as
 * many matrices as A. Attributes: adjoint: A^T X = B; triangular: "none", "lower" or "upper": the
 * half of A that is looked at
 *
 * A matrix that has no answer is an error, as in LAPACK, not a result of infinities. */
#include <math.h>

#include "ops_impl.h"

static kaena_status check_square(const kop_call *call)
{
    const kop_tensor *x = call->in[0];
    KAENA_TRY(kop_need(call, 0, KOP_T_FLOAT));
    if (x->unranked)
        return KAENA_OK;
    int32_t rank = x->shape.rank;
    if (rank < 2 || (x->shape.dim[rank - 2] >= 0 && x->shape.dim[rank - 1] >= 0 &&
                     x->shape.dim[rank - 2] != x->shape.dim[rank - 1]))
        return KOP_BAD(call, "the last two dimensions must be those of a square matrix");
    return KAENA_OK;
}

kaena_status kop_infer_factor(kop_call *call)
{
    const kop_tensor *x = call->in[0];
    KAENA_TRY(check_square(call));
    if (x->unranked) {
        kop_out_unranked(call, 0, x->dtype);
        kop_out_unranked(call, 1, KAENA_I64);
        return KAENA_OK;
    }
    kaena_shape rows = x->shape;
    rows.rank--;
    kop_out(call, 0, x->dtype, &x->shape);
    kop_out(call, 1, KAENA_I64, &rows);
    return KAENA_OK;
}

kaena_status kop_infer_solve(kop_call *call)
{
    const kop_tensor *a = call->in[0], *b = call->in[1];
    KAENA_TRY(check_square(call));
    KAENA_TRY(kop_need_same(call, 0, 1));
    bool fits = a->unranked || b->unranked || a->shape.rank == b->shape.rank;
    for (int32_t i = 0; fits && !a->unranked && !b->unranked && i < a->shape.rank - 1; i++)
        fits = a->shape.dim[i] < 0 || b->shape.dim[i] < 0 || a->shape.dim[i] == b->shape.dim[i];
    if (!fits)
        return KOP_BAD(call, "the right sides do not fit the matrices");
    if (!kop_attr_is(call, "triangular", "none", "none") &&
        !kop_attr_is(call, "triangular", "none", "lower") &&
        !kop_attr_is(call, "triangular", "none", "upper"))
        return KOP_BAD(call, "triangular must be none, lower or upper");
    if (b->unranked)
        kop_out_unranked(call, 0, a->dtype);
    else
        kop_out(call, 0, a->dtype, &b->shape);
    return KAENA_OK;
}

/* --- One matrix: [n][n] in double, row-major ---------------------------------------------------
 */

static kaena_status cholesky(kop_call *call, double *a, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        for (size_t j = 0; j <= i; j++) {
            double sum = a[i * n + j];
            for (size_t k = 0; k < j; k++)
                sum -= a[i * n + k] * a[j * n + k];
            if (i == j && !(sum > 0))
                return KOP_BAD(call, "the matrix is not positive definite");
            a[i * n + j] = i == j ? sqrt(sum) : sum / a[j * n + j];
        }
        for (size_t j = i + 1; j < n; j++)
            a[i * n + j] = 0;
        KAENA_TRY(kop_poll(call));
    }
    return KAENA_OK;
}

/* Elimination with the largest pivot of each column. */
static kaena_status eliminate(kop_call *call, double *a, size_t n, int64_t *rows)
{
    for (size_t i = 0; i < n; i++)
        rows[i] = (int64_t)i;
    for (size_t k = 0; k < n; k++) {
        size_t pivot = k;
        for (size_t i = k + 1; i < n; i++)
            if (fabs(a[i * n + k]) > fabs(a[pivot * n + k]))
                pivot = i;
        if (a[pivot * n + k] == 0)
            return KOP_BAD(call, "the matrix has no inverse");
        for (size_t j = 0; j < n && pivot != k; j++) {
            double t = a[k * n + j];
            a[k * n + j] = a[pivot * n + j];
            a[pivot * n + j] = t;
        }
        int64_t row = rows[k];
        rows[k] = rows[pivot];
        rows[pivot] = row;
        for (size_t i = k + 1; i < n; i++) {
            a[i * n + k] /= a[k * n + k];
            for (size_t j = k + 1; j < n; j++)
                a[i * n + j] -= a[i * n + k] * a[k * n + j];
        }
        KAENA_TRY(kop_poll(call));
    }
    return KAENA_OK;
}

/* A column of the answer in place of one of the right side; |unit|: the diagonal counts as 1. */
static kaena_status substitute(const kop_call *call, const double *a, size_t n, bool lower,
                               bool unit, double *x)
{
    for (size_t step = 0; step < n; step++) {
        size_t i = lower ? step : n - 1 - step;
        double sum = x[i];
        for (size_t k = lower ? 0 : i + 1; k < (lower ? i : n); k++)
            sum -= a[i * n + k] * x[k];
        if (!unit && a[i * n + i] == 0)
            return KOP_BAD(call, "the matrix has no inverse");
        x[i] = unit ? sum : sum / a[i * n + i];
    }
    return KAENA_OK;
}

static void transpose(double *a, size_t n)
{
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < i; j++) {
            double t = a[i * n + j];
            a[i * n + j] = a[j * n + i];
            a[j * n + i] = t;
        }
}

/* --- All matrices -------------------------------------------------------------------------------
 */

/* The number of matrices, and storage for one; false: the error is set, or there are none. */
static bool begin(kop_call *call, size_t *n, size_t *count, double **a, int64_t **rows)
{
    const kop_tensor *x = call->in[0];
    *n = (size_t)x->shape.dim[x->shape.rank - 1];
    *count = *n ? kop_elements(x) / (*n * *n) : 0;
    *a = kop_alloc(call, *n * *n, sizeof **a);
    *rows = kop_alloc(call, *n, sizeof **rows);
    return *a && *rows;
}

kaena_status kop_eval_factor(kop_call *call)
{
    size_t n, count;
    double *a;
    int64_t *rows;
    if (!begin(call, &n, &count, &a, &rows))
        return KAENA_RESOURCE_EXHAUSTED;
    for (size_t i = 0; i < count; i++) {
        kop_load_f64(call->in[0], i * n * n, n * n, a);
        KAENA_TRY(call->op == KOP_Cholesky ? cholesky(call, a, n) : eliminate(call, a, n, rows));
        kop_store_f64(&call->out[0], i * n * n, n * n, a);
        if (call->n_out > 1)
            memcpy((int64_t *)call->out[1].data + i * n, rows, n * sizeof *rows);
    }
    return KAENA_OK;
}

kaena_status kop_eval_solve(kop_call *call)
{
    const kop_tensor *b = call->in[1];
    size_t n, count, k = (size_t)b->shape.dim[b->shape.rank - 1];
    double *a;
    int64_t *rows;
    bool lower = kop_attr_is(call, "triangular", "none", "lower");
    bool triangular = lower || kop_attr_is(call, "triangular", "none", "upper");
    bool adjoint = kop_attr_int(call, "adjoint", 0) != 0;
    if (!begin(call, &n, &count, &a, &rows))
        return KAENA_RESOURCE_EXHAUSTED;
    double *x = kop_alloc(call, n, sizeof *x);
    if (!x)
        return KAENA_RESOURCE_EXHAUSTED;
    for (size_t i = 0; i < count; i++) {
        kop_load_f64(call->in[0], i * n * n, n * n, a);
        if (adjoint)
            transpose(a, n);
        if (!triangular)
            KAENA_TRY(eliminate(call, a, n, rows));
        for (size_t column = 0; column < k; column++) {
            for (size_t r = 0; r < n; r++)
                x[r] = kop_get_float(b, (i * n + (triangular ? r : (size_t)rows[r])) * k + column);
            /* Transposed, a lower half is an upper one. */
            if (triangular)
                KAENA_TRY(substitute(call, a, n, lower != adjoint, false, x));
            else {
                KAENA_TRY(substitute(call, a, n, true, true, x));
                KAENA_TRY(substitute(call, a, n, false, false, x));
            }
            for (size_t r = 0; r < n; r++)
                kop_set_float(&call->out[0], (i * n + r) * k + column, x[r]);
            KAENA_TRY(kop_poll(call));
        }
    }
    return KAENA_OK;
}
