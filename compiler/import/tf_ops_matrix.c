/* Translations: diagonals and linear algebra, over the last two dimensions. */
#include <string.h>

#include "tf_xlat.h"

/* --- Diagonals
 * ---------------------------------------------------------------------------------------- */

/* row - column of an m x n matrix, [m,n] int64. */
static kgr_value *offsets(tf_xlat *x, int64_t m, int64_t n)
{
    kgr_value *row = tf_op3(x, KOP_Range, tf_i64(x, 0), tf_i64(x, m), tf_i64(x, 1));
    kgr_value *column = tf_op3(x, KOP_Range, tf_i64(x, 0), tf_i64(x, n), tf_i64(x, 1));
    return tf_op2(x, KOP_Sub, tf_unsqueeze(x, row, 1), tf_unsqueeze(x, column, 0));
}

static kgr_value *on_diagonal(tf_xlat *x, int64_t m, int64_t n)
{
    return tf_op2(x, KOP_Equal, offsets(x, m, n), tf_i64(x, 0));
}

/* The sizes of the last two dimensions. */
static bool matrix_size(tf_xlat *x, const kgr_value *v, int64_t *m, int64_t *n)
{
    const kaena_shape *s = tf_known_shape(x, v);
    if (x->status == KAENA_OK && s->rank < 2)
        (void)tf_bad(x, "an operand has %d dimensions; it is no matrix", s->rank);
    if (x->status != KAENA_OK)
        return false;
    *m = s->dim[s->rank - 2];
    *n = s->dim[s->rank - 1];
    return true;
}

/* The V2 and V3 forms take a diagonal's number: only the main one's is understood. */
static void main_diagonal_only(tf_xlat *x, uint32_t i)
{
    uint32_t n = 0;
    if (x->n_in <= i)
        return;
    const int64_t *k = tf_const_ints(x, x->in[i], "the diagonal's number", &n);
    for (uint32_t j = 0; j < n; j++)
        if (k[j] != 0)
            (void)tf_lacks(x, "diagonals other than the main one are not supported");
}

static kgr_value *matrix_of_diagonal(tf_xlat *x, kgr_value *v)
{
    const kaena_shape *s = tf_known_shape(x, v);
    if (x->status == KAENA_OK && s->rank < 1)
        (void)tf_bad(x, "a number is no diagonal");
    if (x->status != KAENA_OK)
        return NULL;
    int64_t n = s->dim[s->rank - 1];
    return tf_op3(x, KOP_Where, on_diagonal(x, n, n), tf_unsqueeze(x, v, -1), tf_number(x, v, 0));
}

kaena_status tf_x_matrix_diag(tf_xlat *x)
{
    main_diagonal_only(x, 1);
    return tf_done(x, matrix_of_diagonal(x, x->in[0]));
}

static kgr_value *diagonal_of(tf_xlat *x, kgr_value *v)
{
    static const int64_t last = -1;
    int64_t m, n;
    if (!matrix_size(x, v, &m, &n))
        return NULL;
    /* One element of each row is left, so that their sum is it. */
    kgr_value *only = tf_op3(x, KOP_Where, on_diagonal(x, m, n), v, tf_number(x, v, 0));
    kgr_value *d = tf_reduce(x, KOP_ReduceSum, only, &last, 1, false);
    return m > n ? tf_slice(x, d, -1, 0, n, 1) : d;
}

kaena_status tf_x_matrix_diag_part(tf_xlat *x)
{
    main_diagonal_only(x, 1);
    return tf_done(x, diagonal_of(x, x->in[0]));
}

kaena_status tf_x_matrix_set_diag(tf_xlat *x)
{
    int64_t m, n;
    main_diagonal_only(x, 2);
    if (!matrix_size(x, x->in[0], &m, &n))
        return x->status;
    kgr_value *d = tf_unsqueeze(x, x->in[1], m <= n ? -1 : -2);
    return tf_done(x, tf_op3(x, KOP_Where, on_diagonal(x, m, n), d, x->in[0]));
}

/* Rows and columns of tensors: for vectors and matrices the same as the above. */
kaena_status tf_x_diag(tf_xlat *x)
{
    if (tf_rank(x, x->in[0]) > 1)
        return tf_lacks(x, "the diagonal of more than 2 dimensions is not supported");
    return tf_done(x, matrix_of_diagonal(x, x->in[0]));
}

kaena_status tf_x_diag_part(tf_xlat *x)
{
    if (tf_rank(x, x->in[0]) > 2)
        return tf_lacks(x, "the diagonal of more than 2 dimensions is not supported");
    return tf_done(x, diagonal_of(x, x->in[0]));
}

kaena_status tf_x_matrix_band_part(tf_xlat *x)
{
    int64_t m, n;
    kgr_value *v = x->in[0];
    if (!matrix_size(x, v, &m, &n))
        return x->status;
    kgr_value *below = tf_cast(x, x->in[1], KAENA_I64), *above = tf_cast(x, x->in[2], KAENA_I64);
    kgr_value *off = offsets(x, m, n), *zero = tf_i64(x, 0);
    kgr_value *low =
        tf_op2(x, KOP_Or, tf_op2(x, KOP_Less, below, zero), tf_op2(x, KOP_LessOrEqual, off, below));
    kgr_value *high = tf_op2(x, KOP_Or, tf_op2(x, KOP_Less, above, zero),
                             tf_op2(x, KOP_LessOrEqual, tf_op1(x, KOP_Neg, off), above));
    return tf_done(x, tf_op3(x, KOP_Where, tf_op2(x, KOP_And, low, high), v, tf_number(x, v, 0)));
}
