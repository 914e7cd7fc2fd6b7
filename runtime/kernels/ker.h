/* SIMD kernels of the emulated engines, one table of functions per ISA level, the same bits on
 * every level (ARCHITECTURE.md, the machine).
 *
 * Rules: no allocation, no globals, no OS calls, reentrant. Callers run with MXCSR = DAZ | FTZ |
 * nearest, all masked (tpb sets it). Pointers carry the element type beside them; strides are in
 * bytes. Vector tails are masked: nothing outside an operand is read or written. A kernel works on
 * a range of rows, so that one operation can be cut into chunks; results do not depend on the cut.
 */
#ifndef KAENA_KER_H
#define KAENA_KER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "act.h"
#include "dtype.h"

typedef enum ker_level {
    KER_SCALAR,
    KER_AVX2,
    KER_AVX512,
    KER_AVX512_BF16,
    KER_LEVEL_COUNT
} ker_level;

/* The best level of this processor, capped by KRT_CPU=scalar|avx2|avx512|avx512_bf16 in the
 * environment (unknown values: false and *out untouched). */
bool ker_level_detect(ker_level *out);
const char *ker_level_name(ker_level level);
/* The processor can run |level|. */
bool ker_level_supported(ker_level level);

/* A resolved access pattern: as kisa_operand, with an address. p == NULL: absent. */
typedef struct ker_ap {
    uint8_t *p;
    kaena_dtype dtype;
    uint32_t count[4]; /* outermost first */
    int64_t stride[4]; /* bytes */
} ker_ap;

/* What follows an accumulator: y = cast(func(fma(x, scale, bias) [+ r]) [+ r]). |scale| and |bias|
 * are per column or NULL. */
typedef struct ker_epilogue {
    const float *scale, *bias;
    float scale_all, bias_all; /* where the pointer is NULL */
    kaena_act func;
    float alpha, beta;
    bool residual_after;
} ker_epilogue;

/* --- PE array
 * -----------------------------------------------------------------------------------------------------------------------------
 */

/* Between integers and what they stand for: fields as in isa.def's format quant. |scale| and |bias|
 * are per column or NULL. */
typedef struct ker_scaling {
    const float *scale;
    const int32_t *bias;
    float scale_all;
    int32_t bias_all; /* where the pointer is NULL */
    bool divide;
    int zero, low, high;
} ker_scaling;

/* One K tile of a chained product: |k| elements at x + x_offset against panel rows at w + w_offset.
 */
typedef struct ker_mm_tile {
    int64_t x_offset, w_offset; /* bytes */
    uint32_t k;
} ker_mm_tile;

/* out[r][c] = epilogue(sum over tiles in order, k ascending, of x[r][k] * w[k][c]) in the defined
 * order: BF16 and F16 pairs odd then even, F32 one FMA each, INT8 exact. An odd k counts its
 * missing partner as +0 whatever memory holds, and does not read it. Rows are a pattern of three
 * dimensions shared by x, dst and residual (their count[0..2] agree; x.count[3] is not used;
 * columns of dst and residual are count[3]). */
typedef struct ker_mm_args {
    ker_ap x;         /* moving; elements of a tile are contiguous */
    const uint8_t *w; /* panel 0 */
    int64_t panel_stride;
    uint32_t panels; /* 1..4 */
    const ker_mm_tile *tile;
    uint32_t n_tiles;
    /* Either into PSUM, where row r (flattened) is at psum + 64 * r floats (or int32) ... */
    float *psum; /* NULL: through the epilogue */
    bool accumulate;
    /* ... or through the epilogue: */
    ker_ap dst, residual; /* dst.count[3] <= 16 * panels columns */
    ker_epilogue ep;
    /* ... or, instead of the epilogue, through this; no residual. */
    bool quantise;
    ker_scaling scaling;
    /* Hint: the weights the next call will use, prefetched while this one runs; NULL: none. */
    const uint8_t *next_w;
} ker_mm_args;

/* --- Element-wise, pooling, DMA: fields as in isa.def's formats of the same name
 * ---------------------------------------------------------- */

typedef struct ker_act_args {
    ker_ap src, dst, residual;
    ker_epilogue ep;
} ker_act_args;

typedef struct ker_tt_args {
    ker_ap a, b, dst;
    int op; /* kisa_tt_kind: ADD 0, SUB 1, MUL 2, DIV 3, MAX 4, MIN 5, PRELU 6, POW 7 */
    kaena_act func;
    float alpha, beta;
} ker_tt_args;

typedef struct ker_quant_args {
    ker_ap src, dst;
    ker_scaling scaling;
} ker_quant_args;

typedef struct ker_ttt_args {
    ker_ap a, b, c, dst;
    int op; /* kisa_ttt_kind: FMA 0, BLEND 1, SELECT 2 */
    kaena_act func;
    float alpha, beta;
} ker_ttt_args;

typedef struct ker_window_args {
    ker_ap src, dst;
    int kind; /* MAX 0, AVG 1, AVG_PAD 2 */
    uint32_t kernel_h, kernel_w, stride_h, stride_w, dilation_h, dilation_w;
    int32_t y0, x0, pad_y0, pad_y1, pad_x0, pad_x1;
} ker_window_args;

typedef struct ker_dwconv_args {
    ker_ap src, weights, dst, residual;
    uint32_t stride_h, stride_w, dilation_h, dilation_w;
    ker_epilogue ep;
} ker_dwconv_args;

typedef struct ker_reduce_args {
    ker_ap src, dst;
    int op; /* SUM 0, MAX 1, MIN 2, SUM_SQUARE 3, PROD 4, SUM_ABS 5 */
    uint32_t axes;
    float scale;
} ker_reduce_args;

typedef struct ker_softmax_args {
    ker_ap src, dst;
    int kind; /* PLAIN 0, LOG 1 */
} ker_softmax_args;

typedef struct ker_lrn_args {
    ker_ap src, dst;
    uint32_t size;
    float alpha, beta, bias;
} ker_lrn_args;

typedef struct ker_norm_args {
    ker_ap src, scale, bias, dst; /* scale and bias: F32, strides may be 0 */
    int kind;                     /* MEAN 0, RMS 1 */
    float epsilon;
} ker_norm_args;

/* src [batch][1][k][columns]; dst as isa.def's PACK says. */
typedef struct ker_pack_args {
    ker_ap src, dst;
} ker_pack_args;

/* |bad_index| is set (never cleared) when an index was out of range and element 0 was read instead;
 * may be shared by threads. */
typedef struct ker_resize_args {
    ker_ap src, dst, y_index, y_weight, x_index, x_weight;
    _Atomic uint32_t *bad_index;
} ker_resize_args;

typedef struct ker_copy_args {
    ker_ap src, dst;
} ker_copy_args;

typedef struct ker_fill_args {
    ker_ap dst;
    uint64_t value;
} ker_fill_args;

typedef struct ker_gather_args {
    ker_ap table, index, dst;
    uint32_t bound;
    _Atomic uint32_t *bad_index;
} ker_gather_args;

/* The families: KER(name, arguments). Rows of a call are [row0, row1) of the product of
 * dst.count[0..2] (mm: x.count[0..2]; reduce: of dst, whose columns may be cut no further). */
#define KER_FAMILIES(KER)                                                                          \
    KER(mm_bf16, ker_mm_args)                                                                      \
    KER(mm_f16, ker_mm_args)                                                                       \
    KER(mm_f32, ker_mm_args)                                                                       \
    KER(mm_i8, ker_mm_args)                                                                        \
    KER(act, ker_act_args)                                                                         \
    KER(quant, ker_quant_args)                                                                     \
    KER(tt, ker_tt_args)                                                                           \
    KER(ttt, ker_ttt_args)                                                                         \
    KER(window, ker_window_args)                                                                   \
    KER(dwconv, ker_dwconv_args)                                                                   \
    KER(reduce, ker_reduce_args)                                                                   \
    KER(softmax, ker_softmax_args)                                                                 \
    KER(lrn, ker_lrn_args)                                                                         \
    KER(resize, ker_resize_args)                                                                   \
    KER(copy, ker_copy_args)                                                                       \
    KER(fill, ker_fill_args)                                                                       \
    KER(gather, ker_gather_args)                                                                   \
    KER(norm, ker_norm_args)                                                                       \
    KER(pack, ker_pack_args)

typedef struct ker_table {
#define KER(name, args) void (*name)(const args *a, uint32_t row0, uint32_t row1);
    KER_FAMILIES(KER)
#undef KER
} ker_table;

/* The functions of a level that the processor supports. */
const ker_table *ker_table_of(ker_level level);

#endif
