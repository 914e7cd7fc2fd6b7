/* What the operator families share with each other and with nobody else. */
#ifndef KAENA_OPS_IMPL_H
#define KAENA_OPS_IMPL_H

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "checked.h"
#include "ops.h"

#define KOP(name, min_in, max_in, min_out, max_out, infer, eval)                                   \
    kaena_status infer(kop_call *call);                                                            \
    kaena_status eval(kop_call *call);
#include "ops.def"
#undef KOP

/* The only result has the type of input 0. */
kaena_status kop_infer_same(kop_call *call);

/* Sets of element types. */
#define KOP_T(dtype) (1u << (dtype))
#define KOP_T_FLOAT (KOP_T(KAENA_F32) | KOP_T(KAENA_F64) | KOP_T(KAENA_F16) | KOP_T(KAENA_BF16))
#define KOP_T_SIGNED (KOP_T(KAENA_I8) | KOP_T(KAENA_I16) | KOP_T(KAENA_I32) | KOP_T(KAENA_I64))
#define KOP_T_UNSIGNED (KOP_T(KAENA_U8) | KOP_T(KAENA_U16) | KOP_T(KAENA_U32) | KOP_T(KAENA_U64))
#define KOP_T_INT (KOP_T_SIGNED | KOP_T_UNSIGNED)
#define KOP_T_NUM (KOP_T_FLOAT | KOP_T_INT)
#define KOP_T_BOOL KOP_T(KAENA_BOOL)
#define KOP_T_ALL (KOP_T_NUM | KOP_T_BOOL | KOP_T(KAENA_STRING))
#define KOP_T_INDEX (KOP_T(KAENA_I32) | KOP_T(KAENA_I64))

/* The wide type in which an element is computed. */
typedef enum kop_kind { KOP_KIND_FLOAT, KOP_KIND_SIGNED, KOP_KIND_UNSIGNED } kop_kind;

#define KOP_CHUNK 512 /* elements converted at a time */

#define KOP_BAD(call, ...) KAENA_FAIL((call)->err, INVALID_ARGUMENT, __VA_ARGS__)

/* The operator does not run with this type. */
kaena_status kop_bad_type(const kop_call *call, const char *what, kaena_dtype t);
/* Input |i|, where present and of known type, has a type of |set|. */
kaena_status kop_need(const kop_call *call, uint32_t i, uint32_t set) KAENA_CHECKED;
/* Inputs |i| and |j|, where present and of known type, have the same. */
kaena_status kop_need_same(const kop_call *call, uint32_t i, uint32_t j) KAENA_CHECKED;
/* Input |i|, where present and ranked, has that rank. */
kaena_status kop_need_rank(const kop_call *call, uint32_t i, int32_t rank) KAENA_CHECKED;
/* Input |i|, or NULL where it is absent. */
static inline const kop_tensor *kop_in(const kop_call *call, uint32_t i)
{
    return i < call->n_in ? call->in[i] : NULL;
}

static inline kaena_dtype kop_in_type(const kop_call *call, uint32_t i)
{
    const kop_tensor *t = kop_in(call, i);
    return t ? t->dtype : KAENA_DTYPE_NONE;
}

/* True when |t| is present with every dimension known. */
static inline bool kop_known(const kop_tensor *t)
{
    return t && t->form == KOP_FORM_TENSOR && !t->unranked && kaena_shape_known(&t->shape);
}

/* Output |i| (ignored when the call does not ask for it): type and shape, or type alone. */
void kop_out(kop_call *call, uint32_t i, kaena_dtype dtype, const kaena_shape *shape);
void kop_out_unranked(kop_call *call, uint32_t i, kaena_dtype dtype);
/* A shape of |rank| unknown dimensions. */
kaena_shape kop_shape_unknown(int32_t rank);
kaena_shape kop_shape_1d(int64_t n);

/* The values of an integer input whose data is known. |max| bounds the count; false and no error
 * when the input is absent or its data is not known; *status then is KAENA_OK. */
bool kop_in_ints(const kop_call *call, uint32_t i, int64_t *out, uint32_t max, uint32_t *n,
                 kaena_status *status);
/* The same of an input of one integer. */
bool kop_in_int(const kop_call *call, uint32_t i, int64_t *out, kaena_status *status);
/* The value of an input of one element; |otherwise| when it is absent. The data is known. */
double kop_in_scalar(const kop_call *call, uint32_t i, double otherwise);

/* The attribute |name| as an axis of |rank|. */
kaena_status kop_attr_axis(const kop_call *call, const char *name, int64_t otherwise, int32_t rank,
                           int32_t *out) KAENA_CHECKED;
/* The attribute |name| as an element type of |set|; |otherwise|, which may be KAENA_DTYPE_NONE,
 * where it is absent. */
kaena_status kop_attr_dtype(const kop_call *call, const char *name, kaena_dtype otherwise,
                            uint32_t set, kaena_dtype *out) KAENA_CHECKED;
bool kop_attr_is(const kop_call *call, const char *name, const char *otherwise, const char *value);

/* Every size of a window is below this, so that products of two of them fit in an int64. */
#define KOP_SIZE_LIMIT ((int64_t)1 << 31)

/* A list of |n| sizes of a window, each from |least| to below the limit; |otherwise| where the
 * attribute is absent. */
kaena_status kop_attr_sizes(const kop_call *call, const char *name, int64_t least,
                            int64_t otherwise, int32_t n, int64_t *out) KAENA_CHECKED;

kop_kind kop_kind_of(kaena_dtype t);

/* Converts |n| elements from |start| on. The type is numeric or bool; integers wrap, floats to
 * integers saturate. An uint64 travels as the int64 of the same bits. */
void kop_load_f64(const kop_tensor *t, size_t start, size_t n, double *out);
void kop_store_f64(kop_tensor *t, size_t start, size_t n, const double *v);
void kop_load_i64(const kop_tensor *t, size_t start, size_t n, int64_t *out);
void kop_store_i64(kop_tensor *t, size_t start, size_t n, const int64_t *v);
/* The whole tensor as doubles in temporary storage; NULL: the error is set. */
double *kop_doubles(kop_call *call, const kop_tensor *t);

/* The character of UTF-8 at |s| (its length is returned), or a byte that begins none: *c is -1
 * then. |n| is at least 1. */
size_t kop_utf8_decode(const char *s, size_t n, int32_t *c);
/* Cast where one of the types is string; shapes are inferred, the output is allocated. */
kaena_status kop_cast_to_text(kop_call *call) KAENA_CHECKED;
kaena_status kop_cast_from_text(kop_call *call) KAENA_CHECKED;

/* Mean and variance of |n| elements from |at| on, in two passes. */
void kop_moments(const kop_tensor *t, size_t at, size_t n, double *mean, double *variance);

/* --- Broadcasting --- */

/* The shape all of inputs first .. first+n-1 broadcast to; |*unranked| when one of them is. Absent
 * inputs are skipped. */
kaena_status kop_broadcast_shape(const kop_call *call, uint32_t first, uint32_t n, kaena_shape *out,
                                 bool *unranked) KAENA_CHECKED;

/* Strides of inputs that broadcast to one shape; adjacent dimensions that walk alike are merged. */
typedef struct kop_bcast {
    int32_t rank; /* >= 1 */
    int64_t dim[KAENA_MAX_RANK];
    int64_t stride[KOP_MAX_INPUTS][KAENA_MAX_RANK]; /* in elements; 0 where broadcast */
} kop_bcast;

void kop_bcast_init(kop_bcast *b, const kaena_shape *out, const kop_tensor *const *in, uint32_t n);
/* Element offsets of input |i| at outer index |row|, in the numbering of all dimensions but the
 * last. */
int64_t kop_bcast_offset(const kop_bcast *b, uint32_t i, int64_t row);

/* |n| results of two operands that walk 0 or 1 elements a step. */
typedef void (*kop_direct_fn)(void *out, const void *a, int64_t step_a, const void *b,
                              int64_t step_b, int64_t n);
/* The function of |op| for operands of |type|, or NULL: then they go through a wide type. */
kop_direct_fn kop_direct_find(kop_op op, kaena_dtype type);

/* --- Odometers --- */

/* Advances |index| within |dim|, last dimension fastest; false after the last one. */
static inline bool kop_next(int64_t *index, const int64_t *dim, int32_t rank)
{
    for (int32_t i = rank; i-- > 0;) {
        if (++index[i] < dim[i])
            return true;
        index[i] = 0;
    }
    return false;
}

/* Product of dimensions [from, to) of a checked shape. */
int64_t kop_span(const kaena_shape *s, int32_t from, int32_t to);

/* Loops over elements of one size; strides and places count in elements. */
typedef struct kop_copiers {
    size_t size;
    /* to[r][c] = from[r * row_step + c * step] */
    void (*plane)(void *to, const void *from, int64_t rows, int64_t row_step, int64_t columns,
                  int64_t step);
    /* to[i] = from[at[i]] */
    void (*pick)(void *to, const void *from, const int64_t *at, int64_t n);
    /* to[i] = c[i * step_c] ? a[i * step_a] : b[i * step_b] */
    void (*select)(void *to, const uint8_t *c, int64_t step_c, const void *a, int64_t step_a,
                   const void *b, int64_t step_b, int64_t n);
} kop_copiers;

/* Those of a type's |size|; never NULL. */
const kop_copiers *kop_copiers_of(size_t size);

/* dst[j] = src[offset of j]: copies |dim| elements of |size| bytes walking |stride| (elements,
 * maybe 0 or negative). */
kaena_status kop_copy_strided(kop_call *call, void *dst, const void *src, size_t size, int32_t rank,
                              const int64_t *dim, const int64_t *stride) KAENA_CHECKED;

/* --- Matrix product: C = A B in double, float operands converted while packing --- */

#define KOP_GEMM_MR 6
#define KOP_GEMM_NR 16

typedef struct kop_gemm {
    int64_t m, n, k;
    void *ctx;
    double *work; /* NULL before the first run; runs of the same sizes share it */
    /* dst[k][KOP_GEMM_MR] = A[m0 .. m0+mr)[k]; places past |mr| are zero already. */
    void (*pack_a)(void *ctx, int64_t m0, int64_t mr, double *dst);
    /* dst[k][KOP_GEMM_NR] = B[k][n0 .. n0+nr); places past |nr| are zero already. */
    void (*pack_b)(void *ctx, int64_t n0, int64_t nr, double *dst);
    /* |c| has rows of KOP_GEMM_NR. */
    void (*store)(void *ctx, int64_t m0, int64_t mr, int64_t n0, int64_t nr, const double *c);
} kop_gemm;

kaena_status kop_gemm_run(kop_call *call, kop_gemm *g) KAENA_CHECKED;

/* A matrix of elements anywhere in a tensor of float32 or float64. */
typedef struct kop_matrix {
    const void *data;
    bool is_f64;
    int64_t row, col; /* strides in elements */
} kop_matrix;

static inline double kop_matrix_at(const kop_matrix *m, int64_t i)
{
    return m->is_f64 ? ((const double *)m->data)[i] : (double)((const float *)m->data)[i];
}

/* |t| as float32 or float64 (other types are converted into temporary storage); false: the error is
 * set. */
bool kop_matrix_of(kop_call *call, const kop_tensor *t, kop_matrix *out);
/* What a sum of products becomes: rounded in float32, ties to even, then the zero point added; then
 * kept between the bounds that the compiler may have set (ops.h). */
typedef struct kop_quantised {
    double zero, low, high;
} kop_quantised;

static inline kop_quantised kop_quantised_of(const kop_call *call, uint32_t zero)
{
    return (kop_quantised){kop_in_scalar(call, zero, 0),
                           (double)kop_attr_int(call, "kaena.low", -128),
                           (double)kop_attr_int(call, "kaena.high", 255)};
}

static inline double kop_requantise(const kop_quantised *q, double sum, float scale)
{
    double y = (double)rintf((float)sum * scale) + q->zero;
    return y < q->low ? q->low : y > q->high ? q->high : y;
}

/* The same of quantised values less their zero points: |zero| (may be NULL) has one element, or one
 * for each index of |axis|. */
bool kop_matrix_of_quantised(kop_call *call, const kop_tensor *t, const kop_tensor *zero,
                             int32_t axis, kop_matrix *out);
void kop_pack_rows(const kop_matrix *a, int64_t k, int64_t m0, int64_t mr, double *dst);
void kop_pack_cols(const kop_matrix *b, int64_t k, int64_t n0, int64_t nr, double *dst);

#endif
