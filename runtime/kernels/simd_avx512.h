/* simd.h for AVX-512 (F, BW, DQ, VL; with BF16 where the flags say so): one zmm. */
#ifndef KER_SIMD_AVX512_H
#define KER_SIMD_AVX512_H

#include <immintrin.h>

typedef __m512 vf;
typedef __m512i vi;
typedef __mmask16 vm;
typedef __m256i vh; /* 16 elements of two bytes */

KER_INLINE vf v_set1(float x)
{
    return _mm512_set1_ps(x);
}
KER_INLINE vi vi_set1(int32_t x)
{
    return _mm512_set1_epi32(x);
}
KER_INLINE vi vf_as_vi(vf a)
{
    return _mm512_castps_si512(a);
}
KER_INLINE vf vi_as_vf(vi a)
{
    return _mm512_castsi512_ps(a);
}

KER_INLINE vf v_add(vf a, vf b)
{
    return _mm512_add_ps(a, b);
}
KER_INLINE vf v_sub(vf a, vf b)
{
    return _mm512_sub_ps(a, b);
}
KER_INLINE vf v_mul(vf a, vf b)
{
    return _mm512_mul_ps(a, b);
}
KER_INLINE vf v_div(vf a, vf b)
{
    return _mm512_div_ps(a, b);
}
KER_INLINE vf v_sqrt(vf a)
{
    return _mm512_sqrt_ps(a);
}
/* a * b + c */
KER_INLINE vf v_fma(vf a, vf b, vf c)
{
    return _mm512_fmadd_ps(a, b, c);
}
/* c - a * b */
KER_INLINE vf v_fnma(vf a, vf b, vf c)
{
    return _mm512_fnmadd_ps(a, b, c);
}
KER_INLINE vf v_max(vf a, vf b)
{
    return _mm512_max_ps(a, b);
}
KER_INLINE vf v_min(vf a, vf b)
{
    return _mm512_min_ps(a, b);
}
KER_INLINE vf v_floor(vf a)
{
    return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
}
KER_INLINE vf v_ceil(vf a)
{
    return _mm512_roundscale_ps(a, _MM_FROUND_TO_POS_INF | _MM_FROUND_NO_EXC);
}
KER_INLINE vf v_rint(vf a)
{
    return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

KER_INLINE vm v_lt(vf a, vf b)
{
    return _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ);
}
KER_INLINE vm v_eq(vf a, vf b)
{
    return _mm512_cmp_ps_mask(a, b, _CMP_EQ_OQ);
}
KER_INLINE vm v_unord(vf a, vf b)
{
    return _mm512_cmp_ps_mask(a, b, _CMP_UNORD_Q);
}
/* m ? a : b */
KER_INLINE vf v_sel(vm m, vf a, vf b)
{
    return _mm512_mask_blend_ps(m, b, a);
}
KER_INLINE vm vm_or(vm a, vm b)
{
    return (vm)(a | b);
}
KER_INLINE vm vm_and(vm a, vm b)
{
    return (vm)(a & b);
}
KER_INLINE vm vm_none(void)
{
    return 0;
}
/* Bit i is lane i. */
KER_INLINE unsigned vm_bits(vm m)
{
    return m;
}

KER_INLINE vi vi_add(vi a, vi b)
{
    return _mm512_add_epi32(a, b);
}
KER_INLINE vi vi_sub(vi a, vi b)
{
    return _mm512_sub_epi32(a, b);
}
KER_INLINE vi vi_mul(vi a, vi b)
{
    return _mm512_mullo_epi32(a, b);
}
KER_INLINE vi vi_max(vi a, vi b)
{
    return _mm512_max_epi32(a, b);
}
KER_INLINE vi vi_min(vi a, vi b)
{
    return _mm512_min_epi32(a, b);
}
KER_INLINE vi vi_and(vi a, vi b)
{
    return _mm512_and_si512(a, b);
}
KER_INLINE vi vi_or(vi a, vi b)
{
    return _mm512_or_si512(a, b);
}
KER_INLINE vi vi_xor(vi a, vi b)
{
    return _mm512_xor_si512(a, b);
}
#define vi_shl(a, bits) _mm512_slli_epi32((a), (bits))
#define vi_shr(a, bits) _mm512_srli_epi32((a), (bits))
#define vi_sar(a, bits) _mm512_srai_epi32((a), (bits))
KER_INLINE vm vi_eq(vi a, vi b)
{
    return _mm512_cmpeq_epi32_mask(a, b);
}
KER_INLINE vm vi_lt(vi a, vi b)
{
    return _mm512_cmplt_epi32_mask(a, b);
}
KER_INLINE vf vi_to_float(vi a)
{
    return _mm512_cvtepi32_ps(a);
}

/* To the nearest integer, ties to even; |a| < 2^31. */
KER_INLINE vi v_to_int(vf a)
{
    return _mm512_cvtps_epi32(a);
}

/* x * 2^n, rounded once; n and whole are the same integers, |n| < 250. */
KER_INLINE vf v_scale(vf x, vf n, vi whole)
{
    (void)whole;
    return _mm512_scalef_ps(x, n);
}

/* A denormal becomes a zero of its sign. */
KER_INLINE vf v_flush(vf a)
{
    vi bits = vf_as_vi(a);
    __mmask16 tiny = _mm512_testn_epi32_mask(bits, vi_set1(0x7f800000));
    return vi_as_vf(_mm512_mask_and_epi32(bits, tiny, bits, vi_set1((int32_t)0x80000000)));
}

/* --- Memory ------------------------------------------------------------------------------ */

KER_INLINE __mmask16 simd_first(unsigned n)
{
    return (__mmask16)((1u << n) - 1);
}

KER_INLINE vi vi_load(const void *p)
{
    return _mm512_loadu_si512(p);
}
KER_INLINE vi vi_load_n(const void *p, unsigned n)
{
    return _mm512_maskz_loadu_epi32(simd_first(n), p);
}
KER_INLINE void vi_store(void *p, vi a)
{
    _mm512_storeu_si512(p, a);
}
KER_INLINE void vi_store_n(void *p, vi a, unsigned n)
{
    _mm512_mask_storeu_epi32(p, simd_first(n), a);
}
KER_INLINE vh vh_load(const void *p)
{
    return _mm256_loadu_si256((const __m256i *)p);
}
KER_INLINE vh vh_load_n(const void *p, unsigned n)
{
    return _mm256_maskz_loadu_epi16(simd_first(n), p);
}
KER_INLINE void vh_store(void *p, vh a)
{
    _mm256_storeu_si256((__m256i *)p, a);
}
KER_INLINE void vh_store_n(void *p, vh a, unsigned n)
{
    _mm256_mask_storeu_epi16(p, simd_first(n), a);
}
/* Two vh at once: 32 elements of two bytes. */
typedef __m512i vw;
KER_INLINE vw vw_zero(void)
{
    return _mm512_setzero_si512();
}
KER_INLINE vw vw_load(const void *p)
{
    return _mm512_loadu_si512(p);
}
KER_INLINE void vw_store(void *p, vw a)
{
    _mm512_storeu_si512(p, a);
}
KER_INLINE vw vw_or(vw a, vw b)
{
    return _mm512_or_si512(a, b);
}
/* The larger one of signed integers, which is that of BF16 without signs. */
KER_INLINE vw vw_max(vw a, vw b)
{
    return _mm512_max_epi16(a, b);
}
KER_INLINE bool vw_any_sign(vw a)
{
    return _mm512_movepi16_mask(a) != 0;
}
/* BF16 without signs: a denormal gives +0, and any NaN 0x7fc0. */
KER_INLINE vw vw_bf16_flush(vw a)
{
    const vw exponent = _mm512_set1_epi16(0x7f80);
    a = _mm512_maskz_mov_epi16(_mm512_test_epi16_mask(a, exponent), a);
    return _mm512_mask_mov_epi16(a, _mm512_cmpgt_epi16_mask(a, exponent),
                                 _mm512_set1_epi16(0x7fc0));
}
#define KER_HALVES 1 /* there are vw */
/* a0 b0 c0 a1 b1 c1 ...: 48 elements. */
KER_INLINE void vh_store_3(void *p, vh a, vh b, vh c)
{
    static const uint16_t order[48] = {0,  16, 32, 1,  17, 33, 2,  18, 34, 3,  19, 35,
                                       4,  20, 36, 5,  21, 37, 6,  22, 38, 7,  23, 39,
                                       8,  24, 40, 9,  25, 41, 10, 26, 42, 11, 27, 43,
                                       12, 28, 44, 13, 29, 45, 14, 30, 46, 15, 31, 47};
    const __m512i ab = _mm512_inserti64x4(_mm512_castsi256_si512(a), b, 1);
    const __m512i c0 = _mm512_castsi256_si512(c);
    const __m512i last = _mm512_castsi256_si512(_mm256_loadu_si256((const __m256i *)(order + 32)));
    _mm512_storeu_si512(p, _mm512_permutex2var_epi16(ab, _mm512_loadu_si512(order), c0));
    _mm256_storeu_si256((__m256i *)((uint8_t *)p + 64),
                        _mm512_castsi512_si256(_mm512_permutex2var_epi16(ab, last, c0)));
}
/* One-byte elements as int32, zero- and sign-extended; the low bytes of int32. */
KER_INLINE vi vi_load_u8(const uint8_t *p, unsigned n)
{
    return _mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(simd_first(n), p));
}
KER_INLINE vi vi_load_i8(const uint8_t *p, unsigned n)
{
    return _mm512_cvtepi8_epi32(_mm_maskz_loadu_epi8(simd_first(n), p));
}
KER_INLINE void vi_store_8(uint8_t *p, vi a, unsigned n)
{
    _mm_mask_storeu_epi8(p, simd_first(n), _mm512_cvtepi32_epi8(a));
}
/* Two-byte elements as int32, zero-extended, and the low halves of int32. */
KER_INLINE vi vh_widen(vh a)
{
    return _mm512_cvtepu16_epi32(a);
}
KER_INLINE vh vi_narrow(vi a)
{
    return _mm512_cvtepi32_epi16(a);
}
KER_INLINE vf v_from_f16(vh a)
{
    return _mm512_cvtph_ps(a);
}
KER_INLINE vh v_pack_f16(vf a)
{
    return _mm512_cvtps_ph(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

KER_INLINE vh v_pack_bf16(vf a)
{
    vi bits = vf_as_vi(a);
#if defined(__AVX512BF16__)
    /* The instruction rounds and flushes as defined, but keeps a NaN's payload. */
    __mmask16 nan = _mm512_cmp_ps_mask(a, a, _CMP_UNORD_Q);
    a = vi_as_vf(_mm512_mask_mov_epi32(bits, nan, vi_set1(0x7fc00000)));
    return (__m256i)_mm512_cvtneps_pbh(a);
#else
    __mmask16 nan = _mm512_cmp_ps_mask(a, a, _CMP_UNORD_Q);
    bits = vf_as_vi(v_flush(a));
    vi odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), vi_set1(1));
    bits = _mm512_add_epi32(_mm512_add_epi32(bits, vi_set1(0x7fff)), odd);
    bits = _mm512_mask_mov_epi32(bits, nan, vi_set1(0x7fc00000));
    return _mm512_cvtepi32_epi16(_mm512_srli_epi32(bits, 16));
#endif
}

/* --- Across lanes ------------------------------------------------------------------------ */

KER_INLINE vf v_upper8(vf a)
{
    return _mm512_shuffle_f32x4(a, a, 0x4e);
}
KER_INLINE vf v_upper4(vf a)
{
    return _mm512_shuffle_f32x4(a, a, 0xb1);
}
KER_INLINE vf v_upper2(vf a)
{
    return _mm512_permute_ps(a, 0x4e);
}
KER_INLINE vf v_upper1(vf a)
{
    return _mm512_permute_ps(a, 0xb1);
}
KER_INLINE float v_first(vf a)
{
    return _mm512_cvtss_f32(a);
}

/* Rows of a 16 x 16 matrix become its columns. */
KER_INLINE void vi_transpose(vi r[16])
{
    vi t[16];
    KER_UNROLL
    for (int i = 0; i < 16; i += 2) {
        t[i] = _mm512_unpacklo_epi32(r[i], r[i + 1]);
        t[i + 1] = _mm512_unpackhi_epi32(r[i], r[i + 1]);
    }
    KER_UNROLL
    for (int i = 0; i < 16; i += 4) {
        r[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
        r[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
        r[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
        r[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
    }
    /* r[4g + j] holds, in its 128-bit part q, column 4q + j of rows 4g..4g+3. */
    KER_UNROLL
    for (int j = 0; j < 4; j++) {
        vi lo01 = _mm512_shuffle_i32x4(r[j], r[4 + j], 0x44);
        vi hi01 = _mm512_shuffle_i32x4(r[j], r[4 + j], 0xee);
        vi lo23 = _mm512_shuffle_i32x4(r[8 + j], r[12 + j], 0x44);
        vi hi23 = _mm512_shuffle_i32x4(r[8 + j], r[12 + j], 0xee);
        t[j] = _mm512_shuffle_i32x4(lo01, lo23, 0x88);
        t[4 + j] = _mm512_shuffle_i32x4(lo01, lo23, 0xdd);
        t[8 + j] = _mm512_shuffle_i32x4(hi01, hi23, 0x88);
        t[12 + j] = _mm512_shuffle_i32x4(hi01, hi23, 0xdd);
    }
    KER_UNROLL
    for (int i = 0; i < 16; i++)
        r[i] = t[i];
}

#endif
