/* Products of the PE array as lowerings describe them; pe.c lays them out and shares them out. */
#ifndef KCC_PRODUCT_H
#define KCC_PRODUCT_H

#include "lower.h"
#include "pack.h"

/* How integers become what they stand for, or other integers: isa.def's format quant. */
typedef struct kcc_scaling {
    kcc_view scale, bias; /* per column, F32 and I32; buf NULL: scale_all, bias_all */
    float scale_all;
    int32_t bias_all;
    bool divide;
    int16_t zero, low, high;
} kcc_scaling;

/* Products, one for each of two batch dimensions: rows of x (three dimensions) against packed
 * weights, through the epilogue into dst. */
typedef struct kcc_product {
    kcc_view x, dst, residual; /* residual.buf NULL: none */
    int64_t batch[2];
    int64_t x_batch[2], dst_batch[2], res_batch[2], w_batch[2]; /* bytes per batch dimension */
    int64_t w_offset, w_per_turn; /* bytes added to the weights, and as a view's per_turn */
    int64_t rows[3];
    int64_t x_stride[3], dst_stride[3], res_stride[3]; /* bytes per row dimension */
    int64_t x_offset, dst_offset, res_offset;          /* bytes added to the views */
    int64_t dst_column, res_column;                    /* bytes per column */
    int64_t column0, columns;                          /* the part of the columns to compute */
    const kcc_packed *w;
    kcc_view bias; /* buf NULL: none; F32 per column */
    kcc_epilogue ep;
    bool integer;        /* bytes times bytes, drained by QUANT with the following */
    kcc_scaling scaling; /* in place of bias, residual and epilogue */
} kcc_product;

/* Work of |weight_bytes| of weights in all, part |part| of |parts|. */
void kcc_emit_products(kcc_module *m, kcc_product *p, uint64_t weight_bytes, uint32_t tpb,
                       uint32_t part, uint32_t parts);

/* A convolution of in[0] with the sum of |n_weights| constants of one shape, its columns' operands
 * prepared in |p|: fills in rows and offsets, packs and emits, group by group. */
kaena_status kcc_emit_conv_product(kcc_module *m, const kgr_node *n, const kop_window *w,
                                   const kgr_value *const *weights, uint32_t n_weights,
                                   const kcc_product *p, uint32_t tpb, uint32_t part,
                                   uint32_t parts, kaena_err *err) KAENA_CHECKED;

/* The QUANT of |s| between two operands of equal counts, appended. */
void kcc_emit_scaling(kcc_module *m, uint32_t tpb, const kcc_scaling *s, const kisa_operand *src,
                      const kisa_operand *dst);

#endif
