/* simd.h for AVX2 + FMA + F16C: two ymm. */
#ifndef KER_SIMD_AVX2_H
#define KER_SIMD_AVX2_H

#include <immintrin.h>

typedef struct vf {
    __m256 lo, hi;
} vf;
typedef struct vi {
    __m256i lo, hi;
} vi;
typedef struct vm {
    __m256 lo, hi; /* all bits of a lane */
} vm;
typedef __m256i vh; /* 16 elements of two bytes */

#define SIMD_BOTH1(type, f, a) ((type){f((a).lo), f((a).hi)})
#define SIMD_BOTH2(type, f, a, b) ((type){f((a).lo, (b).lo), f((a).hi, (b).hi)})
#define SIMD_BOTH3(type, f, a, b, c) ((type){f((a).lo, (b).lo, (c).lo), f((a).hi, (b).hi, (c).hi)})
#define SIMD_IMM(type, f, a, imm) ((type){f((a).lo, imm), f((a).hi, imm)})

KER_INLINE vf v_set1(float x)
{
    return (vf){_mm256_set1_ps(x), _mm256_set1_ps(x)};
}
KER_INLINE vi vi_set1(int32_t x)
{
    return (vi){_mm256_set1_epi32(x), _mm256_set1_epi32(x)};
}
KER_INLINE vi vf_as_vi(vf a)
{
    return SIMD_BOTH1(vi, _mm256_castps_si256, a);
}
KER_INLINE vf vi_as_vf(vi a)
{
    return SIMD_BOTH1(vf, _mm256_castsi256_ps, a);
}

KER_INLINE vf v_add(vf a, vf b)
{
    return SIMD_BOTH2(vf, _mm256_add_ps, a, b);
}
KER_INLINE vf v_sub(vf a, vf b)
{
    return SIMD_BOTH2(vf, _mm256_sub_ps, a, b);
}
KER_INLINE vf v_mul(vf a, vf b)
{
    return SIMD_BOTH2(vf, _mm256_mul_ps, a, b);
}
KER_INLINE vf v_div(vf a, vf b)
{
    return SIMD_BOTH2(vf, _mm256_div_ps, a, b);
}
KER_INLINE vf v_sqrt(vf a)
{
    return SIMD_BOTH1(vf, _mm256_sqrt_ps, a);
}
KER_INLINE vf v_fma(vf a, vf b, vf c)
{
    return SIMD_BOTH3(vf, _mm256_fmadd_ps, a, b, c);
}
KER_INLINE vf v_fnma(vf a, vf b, vf c)
{
    return SIMD_BOTH3(vf, _mm256_fnmadd_ps, a, b, c);
}
KER_INLINE vf v_max(vf a, vf b)
{
    return SIMD_BOTH2(vf, _mm256_max_ps, a, b);
}
KER_INLINE vf v_min(vf a, vf b)
{
    return SIMD_BOTH2(vf, _mm256_min_ps, a, b);
}
KER_INLINE vf v_floor(vf a)
{
    return SIMD_BOTH1(vf, _mm256_floor_ps, a);
}
KER_INLINE vf v_ceil(vf a)
{
    return SIMD_BOTH1(vf, _mm256_ceil_ps, a);
}
KER_INLINE vf v_rint(vf a)
{
    return SIMD_IMM(vf, _mm256_round_ps, a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

KER_INLINE vm v_lt(vf a, vf b)
{
    return (vm){_mm256_cmp_ps(a.lo, b.lo, _CMP_LT_OQ), _mm256_cmp_ps(a.hi, b.hi, _CMP_LT_OQ)};
}
KER_INLINE vm v_eq(vf a, vf b)
{
    return (vm){_mm256_cmp_ps(a.lo, b.lo, _CMP_EQ_OQ), _mm256_cmp_ps(a.hi, b.hi, _CMP_EQ_OQ)};
}
KER_INLINE vm v_unord(vf a, vf b)
{
    return (vm){_mm256_cmp_ps(a.lo, b.lo, _CMP_UNORD_Q), _mm256_cmp_ps(a.hi, b.hi, _CMP_UNORD_Q)};
}
KER_INLINE vf v_sel(vm m, vf a, vf b)
{
    return SIMD_BOTH3(vf, _mm256_blendv_ps, b, a, m);
}
KER_INLINE vm vm_or(vm a, vm b)
{
    return SIMD_BOTH2(vm, _mm256_or_ps, a, b);
}
KER_INLINE vm vm_and(vm a, vm b)
{
    return SIMD_BOTH2(vm, _mm256_and_ps, a, b);
}
KER_INLINE vm vm_none(void)
{
    return (vm){_mm256_setzero_ps(), _mm256_setzero_ps()};
}
KER_INLINE unsigned vm_bits(vm m)
{
    return (unsigned)_mm256_movemask_ps(m.lo) | (unsigned)_mm256_movemask_ps(m.hi) << 8;
}

KER_INLINE vi vi_add(vi a, vi b)
{
    return SIMD_BOTH2(vi, _mm256_add_epi32, a, b);
}
KER_INLINE vi vi_sub(vi a, vi b)
{
    return SIMD_BOTH2(vi, _mm256_sub_epi32, a, b);
}
KER_INLINE vi vi_mul(vi a, vi b)
{
    return SIMD_BOTH2(vi, _mm256_mullo_epi32, a, b);
}
KER_INLINE vi vi_max(vi a, vi b)
{
    return SIMD_BOTH2(vi, _mm256_max_epi32, a, b);
}
KER_INLINE vi vi_min(vi a, vi b)
{
    return SIMD_BOTH2(vi, _mm256_min_epi32, a, b);
}
KER_INLINE vi vi_and(vi a, vi b)
{
    return SIMD_BOTH2(vi, _mm256_and_si256, a, b);
}
KER_INLINE vi vi_or(vi a, vi b)
{
    return SIMD_BOTH2(vi, _mm256_or_si256, a, b);
}
KER_INLINE vi vi_xor(vi a, vi b)
{
    return SIMD_BOTH2(vi, _mm256_xor_si256, a, b);
}
#define vi_shl(a, bits) SIMD_IMM(vi, _mm256_slli_epi32, (a), (bits))
#define vi_shr(a, bits) SIMD_IMM(vi, _mm256_srli_epi32, (a), (bits))
#define vi_sar(a, bits) SIMD_IMM(vi, _mm256_srai_epi32, (a), (bits))
KER_INLINE vm vi_eq(vi a, vi b)
{
    return (vm){_mm256_castsi256_ps(_mm256_cmpeq_epi32(a.lo, b.lo)),
                _mm256_castsi256_ps(_mm256_cmpeq_epi32(a.hi, b.hi))};
}
KER_INLINE vm vi_lt(vi a, vi b)
{
    return (vm){_mm256_castsi256_ps(_mm256_cmpgt_epi32(b.lo, a.lo)),
                _mm256_castsi256_ps(_mm256_cmpgt_epi32(b.hi, a.hi))};
}
KER_INLINE vf vi_to_float(vi a)
{
    return SIMD_BOTH1(vf, _mm256_cvtepi32_ps, a);
}

/* To the nearest integer, ties to even; |a| < 2^31. */
KER_INLINE vi v_to_int(vf a)
{
    return SIMD_BOTH1(vi, _mm256_cvtps_epi32, a);
}

KER_INLINE vf v_scale(vf x, vf n, vi whole)
{
    /* Two steps, of which the first is exact, reach beyond the exponents of a float. */
    (void)n;
    vi half = vi_sar(whole, 1), rest = vi_sub(whole, half);
    vi bias = vi_set1(127);
    x = v_mul(x, vi_as_vf(vi_shl(vi_add(half, bias), 23)));
    return v_mul(x, vi_as_vf(vi_shl(vi_add(rest, bias), 23)));
}

KER_INLINE vf v_flush(vf a)
{
    vi bits = vf_as_vi(a);
    vm tiny = vi_eq(vi_and(bits, vi_set1(0x7f800000)), vi_set1(0));
    return v_sel(tiny, vi_as_vf(vi_and(bits, vi_set1((int32_t)0x80000000))), a);
}

/* --- Memory ------------------------------------------------------------------------------ */

KER_INLINE __m256i simd_first(int n)
{
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

KER_INLINE vi vi_load(const void *p)
{
    const __m256i *q = (const __m256i *)p;
    return (vi){_mm256_loadu_si256(q), _mm256_loadu_si256(q + 1)};
}
KER_INLINE vi vi_load_n(const void *p, unsigned n)
{
    const int *q = (const int *)p;
    return (vi){_mm256_maskload_epi32(q, simd_first((int)n)),
                _mm256_maskload_epi32(q + 8, simd_first((int)n - 8))};
}
KER_INLINE void vi_store(void *p, vi a)
{
    __m256i *q = (__m256i *)p;
    _mm256_storeu_si256(q, a.lo);
    _mm256_storeu_si256(q + 1, a.hi);
}
KER_INLINE void vi_store_n(void *p, vi a, unsigned n)
{
    int *q = (int *)p;
    _mm256_maskstore_epi32(q, simd_first((int)n), a.lo);
    _mm256_maskstore_epi32(q + 8, simd_first((int)n - 8), a.hi);
}
KER_INLINE vh vh_load(const void *p)
{
    return _mm256_loadu_si256((const __m256i *)p);
}
KER_INLINE vh vh_load_n(const void *p, unsigned n)
{
    uint16_t all[16] = {0};
    memcpy(all, p, n * 2);
    return _mm256_loadu_si256((const __m256i *)all);
}
KER_INLINE void vh_store(void *p, vh a)
{
    _mm256_storeu_si256((__m256i *)p, a);
}
KER_INLINE void vh_store_n(void *p, vh a, unsigned n)
{
    uint16_t all[16];
    _mm256_storeu_si256((__m256i *)all, a);
    memcpy(p, all, n * 2);
}
/* One-byte elements as int32, zero- and sign-extended; the low bytes of int32. */
KER_INLINE __m128i simd_load_bytes(const uint8_t *p, unsigned n)
{
    uint8_t all[16] = {0};
    if (n == KER_LANES)
        return _mm_loadu_si128((const __m128i *)p);
    memcpy(all, p, n);
    return _mm_loadu_si128((const __m128i *)all);
}
KER_INLINE vi vi_load_u8(const uint8_t *p, unsigned n)
{
    __m128i b = simd_load_bytes(p, n);
    return (vi){_mm256_cvtepu8_epi32(b), _mm256_cvtepu8_epi32(_mm_srli_si128(b, 8))};
}
KER_INLINE vi vi_load_i8(const uint8_t *p, unsigned n)
{
    __m128i b = simd_load_bytes(p, n);
    return (vi){_mm256_cvtepi8_epi32(b), _mm256_cvtepi8_epi32(_mm_srli_si128(b, 8))};
}
KER_INLINE void vi_store_8(uint8_t *p, vi a, unsigned n)
{
    vi low = vi_and(a, vi_set1(0xff));
    __m256i h = _mm256_permute4x64_epi64(_mm256_packus_epi32(low.lo, low.hi), 0xd8);
    __m128i b = _mm_packus_epi16(_mm256_castsi256_si128(h), _mm256_extracti128_si256(h, 1));
    uint8_t all[16];
    if (n == KER_LANES) {
        _mm_storeu_si128((__m128i *)p, b);
        return;
    }
    _mm_storeu_si128((__m128i *)all, b);
    memcpy(p, all, n);
}
KER_INLINE vi vh_widen(vh a)
{
    return (vi){_mm256_cvtepu16_epi32(_mm256_castsi256_si128(a)),
                _mm256_cvtepu16_epi32(_mm256_extracti128_si256(a, 1))};
}
KER_INLINE vh vi_narrow(vi a)
{
    vi low = vi_and(a, vi_set1(0xffff));
    return _mm256_permute4x64_epi64(_mm256_packus_epi32(low.lo, low.hi), 0xd8);
}
KER_INLINE vf v_from_f16(vh a)
{
    return (vf){_mm256_cvtph_ps(_mm256_castsi256_si128(a)),
                _mm256_cvtph_ps(_mm256_extracti128_si256(a, 1))};
}
KER_INLINE vh v_pack_f16(vf a)
{
    return _mm256_set_m128i(_mm256_cvtps_ph(a.hi, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC),
                            _mm256_cvtps_ph(a.lo, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}

KER_INLINE vh v_pack_bf16(vf a)
{
    vm nan = v_unord(a, a);
    vi bits = vf_as_vi(v_flush(a));
    vi odd = vi_and(vi_shr(bits, 16), vi_set1(1));
    bits = vi_add(vi_add(bits, vi_set1(0x7fff)), odd);
    bits = vf_as_vi(v_sel(nan, vi_as_vf(vi_set1(0x7fc00000)), vi_as_vf(bits)));
    return vi_narrow(vi_shr(bits, 16));
}

/* --- Across lanes ------------------------------------------------------------------------ */

KER_INLINE vf v_upper8(vf a)
{
    return (vf){a.hi, a.lo};
}
KER_INLINE vf v_upper4(vf a)
{
    return (vf){_mm256_permute2f128_ps(a.lo, a.lo, 1), a.hi};
}
KER_INLINE vf v_upper2(vf a)
{
    return SIMD_IMM(vf, _mm256_permute_ps, a, 0x4e);
}
KER_INLINE vf v_upper1(vf a)
{
    return SIMD_IMM(vf, _mm256_permute_ps, a, 0xb1);
}
KER_INLINE float v_first(vf a)
{
    return _mm256_cvtss_f32(a.lo);
}

/* Rows of an 8 x 8 matrix become its columns. */
KER_INLINE void simd_transpose8(__m256i m[8])
{
    __m256i t[8];
    KER_UNROLL
    for (int i = 0; i < 8; i += 2) {
        t[i] = _mm256_unpacklo_epi32(m[i], m[i + 1]);
        t[i + 1] = _mm256_unpackhi_epi32(m[i], m[i + 1]);
    }
    KER_UNROLL
    for (int i = 0; i < 8; i += 4) {
        m[i] = _mm256_unpacklo_epi64(t[i], t[i + 2]);
        m[i + 1] = _mm256_unpackhi_epi64(t[i], t[i + 2]);
        m[i + 2] = _mm256_unpacklo_epi64(t[i + 1], t[i + 3]);
        m[i + 3] = _mm256_unpackhi_epi64(t[i + 1], t[i + 3]);
    }
    KER_UNROLL
    for (int j = 0; j < 4; j++) {
        t[j] = _mm256_permute2x128_si256(m[j], m[4 + j], 0x20);
        t[4 + j] = _mm256_permute2x128_si256(m[j], m[4 + j], 0x31);
    }
    KER_UNROLL
    for (int i = 0; i < 8; i++)
        m[i] = t[i];
}

KER_INLINE void vi_transpose(vi r[16])
{
    __m256i part[2][2][8]; /* [row half][column half][row] */
    KER_UNROLL
    for (int i = 0; i < 16; i++) {
        part[i / 8][0][i % 8] = r[i].lo;
        part[i / 8][1][i % 8] = r[i].hi;
    }
    KER_UNROLL
    for (int i = 0; i < 4; i++)
        simd_transpose8(part[i / 2][i % 2]);
    KER_UNROLL
    for (int i = 0; i < 16; i++) {
        r[i].lo = part[0][i / 8][i % 8];
        r[i].hi = part[1][i / 8][i % 8];
    }
}

#endif
