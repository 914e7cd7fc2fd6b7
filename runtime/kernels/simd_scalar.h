/* simd.h for any x86-64: plain C, lane by lane. */
#ifndef KER_SIMD_SCALAR_H
#define KER_SIMD_SCALAR_H

#include <math.h>

typedef struct vf {
    float l[16];
} vf;
typedef struct vi {
    int32_t l[16];
} vi;
typedef struct vm {
    int32_t l[16]; /* 0 or 1 */
} vm;
typedef struct vh {
    uint16_t l[16];
} vh;

/* Defines a function whose lane i of the result is |expression|. Not inlined: this level is for
 * correctness, and inlined it would be the largest by far. */
#define SIMD_LANES(result, name, parameters, expression)                                           \
    __attribute__((noinline, unused)) static result name parameters                                \
    {                                                                                              \
        result r;                                                                                  \
        for (int i = 0; i < 16; i++)                                                               \
            r.l[i] = (expression);                                                                 \
        return r;                                                                                  \
    }

SIMD_LANES(vf, v_set1, (float x), x)
SIMD_LANES(vi, vi_set1, (int32_t x), x)
SIMD_LANES(vi, vf_as_vi, (vf a), (int32_t)kaena_f32_bits(a.l[i]))
SIMD_LANES(vf, vi_as_vf, (vi a), kaena_f32_from_bits((uint32_t)a.l[i]))

SIMD_LANES(vf, v_add, (vf a, vf b), a.l[i] + b.l[i])
SIMD_LANES(vf, v_sub, (vf a, vf b), a.l[i] - b.l[i])
SIMD_LANES(vf, v_mul, (vf a, vf b), a.l[i] * b.l[i])
SIMD_LANES(vf, v_div, (vf a, vf b), a.l[i] / b.l[i])
SIMD_LANES(vf, v_sqrt, (vf a), sqrtf(a.l[i]))
SIMD_LANES(vf, v_fma, (vf a, vf b, vf c), fmaf(a.l[i], b.l[i], c.l[i]))
SIMD_LANES(vf, v_fnma, (vf a, vf b, vf c), fmaf(-a.l[i], b.l[i], c.l[i]))
SIMD_LANES(vf, v_max, (vf a, vf b), a.l[i] > b.l[i] ? a.l[i] : b.l[i])
SIMD_LANES(vf, v_min, (vf a, vf b), a.l[i] < b.l[i] ? a.l[i] : b.l[i])
SIMD_LANES(vf, v_floor, (vf a), floorf(a.l[i]))
SIMD_LANES(vf, v_ceil, (vf a), ceilf(a.l[i]))
SIMD_LANES(vf, v_rint, (vf a), rintf(a.l[i]))

SIMD_LANES(vm, v_lt, (vf a, vf b), a.l[i] < b.l[i])
SIMD_LANES(vm, v_eq, (vf a, vf b), a.l[i] == b.l[i])
SIMD_LANES(vm, v_unord, (vf a, vf b), isunordered(a.l[i], b.l[i]) != 0)
SIMD_LANES(vf, v_sel, (vm m, vf a, vf b), m.l[i] ? a.l[i] : b.l[i])
SIMD_LANES(vm, vm_or, (vm a, vm b), a.l[i] | b.l[i])
SIMD_LANES(vm, vm_and, (vm a, vm b), a.l[i] & b.l[i])
SIMD_LANES(vm, vm_none, (void), 0)
KER_INLINE unsigned vm_bits(vm m)
{
    unsigned bits = 0;
    for (int i = 0; i < 16; i++)
        bits |= (unsigned)m.l[i] << i;
    return bits;
}

SIMD_LANES(vi, vi_add, (vi a, vi b), (int32_t)((uint32_t)a.l[i] + (uint32_t)b.l[i]))
SIMD_LANES(vi, vi_sub, (vi a, vi b), (int32_t)((uint32_t)a.l[i] - (uint32_t)b.l[i]))
SIMD_LANES(vi, vi_mul, (vi a, vi b), (int32_t)((uint32_t)a.l[i] * (uint32_t)b.l[i]))
SIMD_LANES(vi, vi_max, (vi a, vi b), a.l[i] > b.l[i] ? a.l[i] : b.l[i])
SIMD_LANES(vi, vi_min, (vi a, vi b), a.l[i] < b.l[i] ? a.l[i] : b.l[i])
SIMD_LANES(vi, vi_and, (vi a, vi b), a.l[i] & b.l[i])
SIMD_LANES(vi, vi_or, (vi a, vi b), a.l[i] | b.l[i])
SIMD_LANES(vi, vi_xor, (vi a, vi b), a.l[i] ^ b.l[i])
SIMD_LANES(vi, vi_shl, (vi a, int bits), (int32_t)((uint32_t)a.l[i] << bits))
SIMD_LANES(vi, vi_shr, (vi a, int bits), (int32_t)((uint32_t)a.l[i] >> bits))
SIMD_LANES(vi, vi_sar, (vi a, int bits), a.l[i] >> bits)
SIMD_LANES(vm, vi_eq, (vi a, vi b), a.l[i] == b.l[i])
SIMD_LANES(vm, vi_lt, (vi a, vi b), a.l[i] < b.l[i])
SIMD_LANES(vf, vi_to_float, (vi a), (float)a.l[i])
SIMD_LANES(vi, v_to_int, (vf a), (int32_t)rintf(a.l[i]))

KER_INLINE vf v_scale(vf x, vf n, vi whole)
{
    /* Two steps, of which the first is exact, reach beyond the exponents of a float. */
    (void)n;
    vi half = vi_sar(whole, 1), rest = vi_sub(whole, half);
    vi bias = vi_set1(127);
    x = v_mul(x, vi_as_vf(vi_shl(vi_add(half, bias), 23)));
    return v_mul(x, vi_as_vf(vi_shl(vi_add(rest, bias), 23)));
}

KER_INLINE uint32_t simd_flush(float x)
{
    uint32_t u = kaena_f32_bits(x);
    return u & 0x7f800000 ? u : u & 0x80000000;
}
SIMD_LANES(vf, v_flush, (vf a), kaena_f32_from_bits(simd_flush(a.l[i])))

/* --- Memory ------------------------------------------------------------------------------ */

KER_INLINE vi vi_load_n(const void *p, unsigned n)
{
    vi r = {0};
    memcpy(r.l, p, n * 4);
    return r;
}
KER_INLINE vi vi_load(const void *p)
{
    return vi_load_n(p, 16);
}
KER_INLINE void vi_store_n(void *p, vi a, unsigned n)
{
    memcpy(p, a.l, n * 4);
}
KER_INLINE void vi_store(void *p, vi a)
{
    vi_store_n(p, a, 16);
}
KER_INLINE vh vh_load_n(const void *p, unsigned n)
{
    vh r = {0};
    memcpy(r.l, p, n * 2);
    return r;
}
KER_INLINE vh vh_load(const void *p)
{
    return vh_load_n(p, 16);
}
KER_INLINE void vh_store_n(void *p, vh a, unsigned n)
{
    memcpy(p, a.l, n * 2);
}
KER_INLINE void vh_store(void *p, vh a)
{
    vh_store_n(p, a, 16);
}
/* One-byte elements as int32, zero- and sign-extended; the low bytes of int32. */
KER_INLINE vi vi_load_u8(const uint8_t *p, unsigned n)
{
    vi r = {0};
    for (unsigned i = 0; i < n; i++)
        r.l[i] = p[i];
    return r;
}
KER_INLINE vi vi_load_i8(const uint8_t *p, unsigned n)
{
    vi r = {0};
    for (unsigned i = 0; i < n; i++)
        r.l[i] = (int8_t)p[i];
    return r;
}
KER_INLINE void vi_store_8(uint8_t *p, vi a, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        p[i] = (uint8_t)a.l[i];
}
SIMD_LANES(vi, vh_widen, (vh a), a.l[i])
SIMD_LANES(vh, vi_narrow, (vi a), (uint16_t)a.l[i])
SIMD_LANES(vf, v_from_f16, (vh a), kaena_f16_to_f32(a.l[i]))
SIMD_LANES(vh, v_pack_f16, (vf a), kaena_f16_from_f32(a.l[i]))
SIMD_LANES(vh, v_pack_bf16, (vf a), kaena_bf16_from_f32(kaena_f32_from_bits(simd_flush(a.l[i]))))

/* --- Across lanes ------------------------------------------------------------------------ */

SIMD_LANES(vf, v_upper8, (vf a), a.l[(i + 8) % 16])
SIMD_LANES(vf, v_upper4, (vf a), a.l[(i + 4) % 16])
SIMD_LANES(vf, v_upper2, (vf a), a.l[(i + 2) % 16])
SIMD_LANES(vf, v_upper1, (vf a), a.l[(i + 1) % 16])
KER_INLINE float v_first(vf a)
{
    return a.l[0];
}

KER_INLINE void vi_transpose(vi r[16])
{
    for (int i = 0; i < 16; i++)
        for (int j = 0; j < i; j++) {
            int32_t t = r[i].l[j];
            r[i].l[j] = r[j].l[i];
            r[j].l[i] = t;
        }
}

#endif
