/* Translations: diagonals and linear algebra, over the last two dimensions. */
#include <string.h>

#include "tf_xlat.h"

/* --- Diagonals
 * ---------------------------------------------------------------------------------------- */

/* The size of dimension |axis| from behind, int64 of rank 0. */
static kgr_value *size_of(tf_xlat *x, kgr_value *v, int32_t axis)
{
    if (tf_rank(x, v) >= 0 && tf_rank(x, v) < -axis)
        (void)tf_bad(x, "an operand of %d dimensions is no matrix", tf_rank(x, v));
    return tf_dim(x, v, axis);
}

static kgr_value *places(tf_xlat *x, kgr_value *n)
{
    return tf_op3(x, KOP_Range, tf_i64(x, 0), n, tf_i64(x, 1));
}

/* row - column of an m x n matrix, [m,n] int64. */
static kgr_value *offsets(tf_xlat *x, kgr_value *m, kgr_value *n)
{
    return tf_op2(x, KOP_Sub, tf_unsqueeze(x, places(x, m), 1), tf_unsqueeze(x, places(x, n), 0));
}

static kgr_value *on_diagonal(tf_xlat *x, kgr_value *m, kgr_value *n)
{
    return tf_op2(x, KOP_Equal, offsets(x, m, n), tf_i64(x, 0));
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
    kgr_value *n = size_of(x, v, -1);
    return tf_op3(x, KOP_Where, on_diagonal(x, n, n), tf_unsqueeze(x, v, -1), tf_number(x, v, 0));
}

kaena_status tf_x_matrix_diag(tf_xlat *x)
{
    main_diagonal_only(x, 1);
    return tf_done(x, matrix_of_diagonal(x, x->in[0]));
}

static kgr_value *diagonal_of(tf_xlat *x, kgr_value *v)
{
    static const int64_t last = -1, zero = 0;
    kgr_value *m = size_of(x, v, -2), *n = size_of(x, v, -1);
    /* One element of each row is left, so that their sum is it. */
    kgr_value *only = tf_op3(x, KOP_Where, on_diagonal(x, m, n), v, tf_number(x, v, 0));
    kgr_value *d = tf_reduce(x, KOP_ReduceSum, only, &last, 1, false);
    kgr_value *end = tf_unsqueeze(x, tf_op2(x, KOP_Min, m, n), 0);
    return tf_opn(x, KOP_Slice, (kgr_value *[]){d, tf_i64s(x, &zero, 1), end, tf_i64s(x, &last, 1)},
                  4);
}

kaena_status tf_x_matrix_diag_part(tf_xlat *x)
{
    main_diagonal_only(x, 1);
    return tf_done(x, diagonal_of(x, x->in[0]));
}

kaena_status tf_x_matrix_set_diag(tf_xlat *x)
{
    int64_t none[KAENA_MAX_RANK] = {0};
    main_diagonal_only(x, 2);
    kgr_value *m = size_of(x, x->in[0], -2), *n = size_of(x, x->in[0], -1), *d = x->in[1];
    int32_t rank = tf_rank(x, d);
    if (rank < 1)
        return tf_bad(x, "a number is no diagonal");
    /* As long as the matrix is high. */
    kgr_value *missing = tf_unsqueeze(x, tf_op2(x, KOP_Sub, m, tf_dim(x, d, -1)), 0);
    kgr_value *pads[] = {tf_i64s(x, none, 2 * (uint32_t)rank - 1), missing};
    d = tf_op2(x, KOP_Pad, d, tf_concat(x, pads, 2, 0));
    return tf_done(x, tf_op3(x, KOP_Where, on_diagonal(x, m, n), tf_unsqueeze(x, d, -1), x->in[0]));
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
    kgr_value *v = x->in[0], *m = size_of(x, v, -2), *n = size_of(x, v, -1);
    kgr_value *below = tf_cast(x, x->in[1], KAENA_I64), *above = tf_cast(x, x->in[2], KAENA_I64);
    kgr_value *off = offsets(x, m, n), *zero = tf_i64(x, 0);
    kgr_value *low =
        tf_op2(x, KOP_Or, tf_op2(x, KOP_Less, below, zero), tf_op2(x, KOP_LessOrEqual, off, below));
    kgr_value *high = tf_op2(x, KOP_Or, tf_op2(x, KOP_Less, above, zero),
                             tf_op2(x, KOP_LessOrEqual, tf_op1(x, KOP_Neg, off), above));
    return tf_done(x, tf_op3(x, KOP_Where, tf_op2(x, KOP_And, low, high), v, tf_number(x, v, 0)));
}

/* --- Systems of equations ------------------------------------------------------------------------
 */

static kaena_status solve(tf_xlat *x, kgr_value *b, const char *triangular)
{
    kgr_node *n = tf_node_begin(x, KOP_Solve, (kgr_value *[]){x->in[0], b}, 2, 1);
    tf_set_string(x, n, "triangular", triangular);
    tf_set_int(x, n, "adjoint", tf_bool(x, "adjoint", false));
    return tf_done(x, tf_node_end(x, n));
}

kaena_status tf_x_matrix_solve(tf_xlat *x)
{
    return solve(x, x->in[1], "none");
}

kaena_status tf_x_triangular_solve(tf_xlat *x)
{
    return solve(x, x->in[1], tf_bool(x, "lower", true) ? "lower" : "upper");
}

/* The answers for the unit vectors. */
kaena_status tf_x_matrix_inverse(tf_xlat *x)
{
    kgr_value *v = x->in[0], *n = size_of(x, v, -1);
    kgr_value *unit =
        tf_op3(x, KOP_Where, on_diagonal(x, n, n), tf_number(x, v, 1), tf_number(x, v, 0));
    return solve(x, tf_expand(x, unit, tf_shape_of(x, v)), "none");
}

kaena_status tf_x_lu(tf_xlat *x)
{
    kgr_value *out[2];
    tf_node_results(x, tf_node_begin(x, KOP_LU, x->in, 1, 2), out, 2);
    tf_set_out(x, 0, out[0]);
    tf_set_out(x, 1, tf_cast(x, out[1], tf_type(x, "output_idx_type", KAENA_I32)));
    return x->status;
}

kaena_status tf_x_log_determinant(tf_xlat *x)
{
    kgr_value *det = tf_op1(x, KOP_Det, x->in[0]);
    tf_set_out(x, 0, tf_op1(x, KOP_Sign, det));
    tf_set_out(x, 1, tf_op1(x, KOP_Log, tf_op1(x, KOP_Abs, det)));
    return x->status;
}
