/* Rows and spans: walking access patterns, and moving elements of any type and stride from and to
 * floats. */
#ifndef KER_SPAN_H
#define KER_SPAN_H

#include "ker.h"
#include "simd.h"

/* --- Sixteen elements -------------------------------------------------------------------- */

KER_INLINE uint32_t type_size(kaena_dtype t)
{
    if (t == KAENA_I8 || t == KAENA_U8 || t == KAENA_BOOL)
        return 1;
    return t == KAENA_F32 || t == KAENA_I32 ? 4 : 2;
}

/* |n| <= 16 contiguous elements of an integer type of the engines, or BOOL. */
KER_INLINE vi v_load_int(const uint8_t *p, kaena_dtype t, unsigned n)
{
    if (t == KAENA_I32)
        return n == KER_LANES ? vi_load(p) : vi_load_n(p, n);
    return t == KAENA_I8 ? vi_load_i8(p, n) : vi_load_u8(p, n);
}

/* |n| <= 16 contiguous elements of a FLOAT type, I32, I8, U8 or BOOL; n constant 16 is the fast
 * form. */
KER_INLINE vf v_load(const uint8_t *p, kaena_dtype t, unsigned n)
{
    if (t == KAENA_F32)
        return vi_as_vf(n == KER_LANES ? vi_load(p) : vi_load_n(p, n));
    if (t == KAENA_I32 || type_size(t) == 1)
        return vi_to_float(v_load_int(p, t, n));
    vh h = n == KER_LANES ? vh_load(p) : vh_load_n(p, n);
    return t == KAENA_F16 ? v_from_f16(h) : vi_as_vf(vi_shl(vh_widen(h), 16));
}

KER_INLINE void v_store(uint8_t *p, kaena_dtype t, vf x, unsigned n)
{
    if (t == KAENA_F32) {
        if (n == KER_LANES)
            vi_store(p, vf_as_vi(x));
        else
            vi_store_n(p, vf_as_vi(x), n);
        return;
    }
    if (type_size(t) == 1) { /* whole numbers in the type's range */
        vi_store_8(p, v_to_int(x), n);
        return;
    }
    vh h = t == KAENA_F16 ? v_pack_f16(x) : v_pack_bf16(x);
    if (n == KER_LANES)
        vh_store(p, h);
    else
        vh_store_n(p, h, n);
}

/* The same of elements |stride_bytes| apart. */
__attribute__((unused)) static vf v_gather(const uint8_t *p, int64_t stride_bytes, kaena_dtype t,
                                           unsigned n)
{
    uint8_t all[KER_LANES * 4] = {0};
    if (type_size(t) == 4)
        for (unsigned i = 0; i < n; i++)
            memcpy(all + 4 * i, p + i * stride_bytes, 4);
    else if (type_size(t) == 1)
        for (unsigned i = 0; i < n; i++)
            all[i] = p[i * stride_bytes];
    else
        for (unsigned i = 0; i < n; i++)
            memcpy(all + 2 * i, p + i * stride_bytes, 2);
    return v_load(all, t, KER_LANES);
}

__attribute__((unused)) static void v_scatter(uint8_t *p, int64_t stride_bytes, kaena_dtype t, vf x,
                                              unsigned n)
{
    uint8_t all[KER_LANES * 4];
    v_store(all, t, x, KER_LANES);
    if (type_size(t) == 4)
        for (unsigned i = 0; i < n; i++)
            memcpy(p + i * stride_bytes, all + 4 * i, 4);
    else if (type_size(t) == 1)
        for (unsigned i = 0; i < n; i++)
            p[i * stride_bytes] = all[i];
    else
        for (unsigned i = 0; i < n; i++)
            memcpy(p + i * stride_bytes, all + 2 * i, 2);
}

/* Whatever the stride. */
KER_INLINE vf v_load_any(const uint8_t *p, int64_t stride_bytes, kaena_dtype t, unsigned n)
{
    if (stride_bytes == (int64_t)type_size(t))
        return v_load(p, t, n);
    return v_gather(p, stride_bytes, t, n);
}

KER_INLINE void v_store_any(uint8_t *p, int64_t stride_bytes, kaena_dtype t, vf x, unsigned n)
{
    if (stride_bytes == (int64_t)type_size(t))
        v_store(p, t, x, n);
    else
        v_scatter(p, stride_bytes, t, x, n);
}

KER_INLINE bool is_contiguous(const ker_ap *ap)
{
    return ap->stride[3] == (int64_t)type_size(ap->dtype);
}

/* CALL(T) with a constant T for the FLOAT type |t|, so that CALL is compiled for each. */
#define SPAN_BY_TYPE(t, CALL)                                                                      \
    do {                                                                                           \
        if ((t) == KAENA_BF16)                                                                     \
            CALL(KAENA_BF16);                                                                      \
        else if ((t) == KAENA_F32)                                                                 \
            CALL(KAENA_F32);                                                                       \
        else                                                                                       \
            CALL(KAENA_F16);                                                                       \
    } while (0)

/* --- Many elements through a buffer of floats -------------------------------------------- */

#define SPAN_BLOCK 512 /* floats of a buffer: three of them stay in L1 */

/* |n| <= SPAN_BLOCK elements of a FLOAT type or I32 as floats; lanes up to a multiple of 16 are
 * written too. */
__attribute__((unused)) static void span_load(float *x, const uint8_t *p, int64_t stride_bytes,
                                              kaena_dtype t, uint32_t n)
{
    uint32_t size = type_size(t), i = 0;
    if (stride_bytes == 0) {
        float all[KER_LANES];
        vi_store(all, vf_as_vi(v_load(p, t, 1)));
        for (; i < n; i += KER_LANES)
            vi_store(x + i, vf_as_vi(v_set1(all[0])));
        return;
    }
#define SPAN_LOAD(T)                                                                               \
    for (; i + KER_LANES <= n; i += KER_LANES)                                                     \
    vi_store(x + i, vf_as_vi(v_load(p + i * size, T, KER_LANES)))
    if (stride_bytes == (int64_t)size) {
        if (t == KAENA_BF16)
            SPAN_LOAD(KAENA_BF16);
        else if (t == KAENA_F32)
            SPAN_LOAD(KAENA_F32);
        else if (t == KAENA_F16)
            SPAN_LOAD(KAENA_F16);
        else if (t == KAENA_I32)
            SPAN_LOAD(KAENA_I32);
        else if (t == KAENA_I8)
            SPAN_LOAD(KAENA_I8);
        else
            SPAN_LOAD(KAENA_U8);
    }
#undef SPAN_LOAD
    for (; i < n; i += KER_LANES) {
        unsigned rest = n - i < KER_LANES ? n - i : KER_LANES;
        vi_store(x + i, vf_as_vi(v_load_any(p + i * stride_bytes, stride_bytes, t, rest)));
    }
}

__attribute__((unused)) static void span_store(uint8_t *p, int64_t stride_bytes, kaena_dtype t,
                                               const float *x, uint32_t n)
{
    uint32_t size = type_size(t), i = 0;
#define SPAN_STORE(T)                                                                              \
    for (; i + KER_LANES <= n; i += KER_LANES)                                                     \
    v_store(p + i * size, T, vi_as_vf(vi_load(x + i)), KER_LANES)
    if (stride_bytes == (int64_t)size) {
        if (t == KAENA_BF16)
            SPAN_STORE(KAENA_BF16);
        else if (t == KAENA_F32)
            SPAN_STORE(KAENA_F32);
        else if (t == KAENA_F16)
            SPAN_STORE(KAENA_F16);
        else if (t == KAENA_I8)
            SPAN_STORE(KAENA_I8);
        else
            SPAN_STORE(KAENA_U8);
    }
#undef SPAN_STORE
    for (; i < n; i += KER_LANES) {
        unsigned rest = n - i < KER_LANES ? n - i : KER_LANES;
        v_store_any(p + i * stride_bytes, stride_bytes, t, vi_as_vf(vi_load(x + i)), rest);
    }
}

/* --- Rows -------------------------------------------------------------------------------- */

/* Indices of a row in the product of count[0..2]. */
typedef struct row_pos {
    uint32_t i[3];
} row_pos;

KER_INLINE row_pos row_at(const uint32_t count[4], uint32_t row)
{
    uint32_t rest = row / count[2];
    return (row_pos){{rest / count[1], rest % count[1], row % count[2]}};
}

KER_INLINE void row_next(row_pos *at, const uint32_t count[4])
{
    if (++at->i[2] < count[2])
        return;
    at->i[2] = 0;
    if (++at->i[1] < count[1])
        return;
    at->i[1] = 0;
    at->i[0]++;
}

/* First element of the row; NULL of an absent operand. */
KER_INLINE uint8_t *row_ptr(const ker_ap *ap, const row_pos *at)
{
    if (!ap->p)
        return NULL;
    return ap->p + at->i[0] * ap->stride[0] + at->i[1] * ap->stride[1] + at->i[2] * ap->stride[2];
}

/* How many consecutive rows, from a row that is a multiple of it, go on in step: in each of the
 * |n| operands that is there, element c of the r-th is at (r * columns + c) * stride[3]. */
KER_INLINE uint32_t rows_in_step(const ker_ap *const *ap, int n, const uint32_t count[4])
{
    uint64_t rows = 1;
    for (int d = 2; d >= 0; d--) {
        uint64_t next = rows * count[d];
        if (next * count[3] > INT32_MAX)
            break;
        for (int i = 0; i < n; i++)
            if (ap[i]->p && count[d] != 1 &&
                ap[i]->stride[d] != (int64_t)(rows * count[3]) * ap[i]->stride[3])
                return (uint32_t)rows;
        rows = next;
    }
    return (uint32_t)rows;
}

#endif
