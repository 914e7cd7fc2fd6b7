/* Vector functions: one body of fused multiply-adds for every level, so the same bits everywhere.
 *
 * Errors over the whole range, measured by the tests: exp, log, tanh, erf, sigmoid, sin, cos below
 * 4 ulp, pow below 8. Polynomials are minimax fits in relative error, made for these intervals. */
#ifndef KER_VMATH_H
#define KER_VMATH_H

#include "simd.h"

#define VM_INF v_bits(0x7f800000)
#define VM_NAN v_bits(0x7fc00000)

/* ln 2 in two parts: the product of the first with an exponent is exact. */
#define VM_LN2_HI 0.693359375f
#define VM_LN2_LO -2.12194440e-4f

/* p[0] + x (p[1] + x (...)) */
KER_INLINE vf v_poly(vf x, const float *p, int n)
{
    vf r = v_set1(p[n - 1]);
    KER_UNROLL
    for (int i = n - 2; i >= 0; i--)
        r = v_fma(r, x, v_set1(p[i]));
    return r;
}
#define V_POLY(x, ...)                                                                             \
    v_poly((x), (const float[]){__VA_ARGS__}, (int)(sizeof((float[]){__VA_ARGS__}) / sizeof(float)))

/* x to the nearest integer, as float and as int32; |x| < 2^22. */
KER_INLINE vf v_nearest(vf x, vi *whole)
{
    const float magic = 12582912.0f; /* 1.5 * 2^23: the sum's low bits are the integer */
    vf t = v_add(x, v_set1(magic));
    *whole = vi_sub(vf_as_vi(t), vf_as_vi(v_set1(magic)));
    return v_sub(t, v_set1(magic));
}

/* exp(x + low), low much smaller than x. */
KER_INLINE vf v_exp_sum(vf x, vf low)
{
    /* Outside, the result is 0 or infinity; a NaN passes as the second operand. */
    x = v_max(v_set1(-104.0f), v_min(v_set1(89.0f), x));
    vi whole;
    vf n = v_nearest(v_mul(x, v_set1(1.44269504f)), &whole);
    vf r = v_fnma(n, v_set1(VM_LN2_HI), x);
    r = v_add(v_fnma(n, v_set1(VM_LN2_LO), r), low);
    vf q = V_POLY(r, 0.49999994f, 0.166665211f, 0.041668389f, 0.0083687352f, 0.00138145592f);
    vf y = v_add(v_set1(1.0f), v_fma(v_mul(r, r), q, r));
    return v_scale(y, n, whole);
}

KER_INLINE vf v_exp(vf x)
{
    return v_exp_sum(x, v_zero());
}

/* x = m * 2^e with m in [sqrt(1/2), sqrt(2)), for positive normal x; gives m - 1. */
KER_INLINE vf v_split(vf x, vf *e)
{
    const int32_t least = 0x3f3504f3; /* sqrt(1/2) */
    vi d = vi_sub(vf_as_vi(x), vi_set1(least));
    *e = vi_to_float(vi_sar(d, 23));
    vf m = vi_as_vf(vi_add(vi_and(d, vi_set1(0x7fffff)), vi_set1(least)));
    return v_sub(m, v_set1(1.0f));
}

/* log(1 + f) + e log 2, f in [sqrt(1/2) - 1, sqrt(2) - 1). */
KER_INLINE vf v_log_parts(vf f, vf e)
{
    vf p = V_POLY(f, 0.333333135f, -0.250000089f, 0.200021192f, -0.166679859f, 0.14219521f,
                  -0.124057531f, 0.11888589f, -0.116748199f, 0.0674458966f);
    vf z = v_mul(f, f);
    vf y = v_mul(v_mul(f, z), p);
    y = v_fma(e, v_set1(VM_LN2_LO), y);
    y = v_fnma(v_set1(0.5f), z, y);
    return v_fma(e, v_set1(VM_LN2_HI), v_add(f, y));
}

KER_INLINE vf v_log(vf x)
{
    vf e, f = v_split(x, &e);
    vf y = v_log_parts(f, e);
    y = v_sel(v_eq(x, VM_INF), x, y);
    y = v_sel(v_eq(x, v_zero()), v_neg(VM_INF), y);
    return v_sel(vm_or(v_lt(x, v_zero()), v_unord(x, x)), VM_NAN, y);
}

/* log(1 + t), t in [0, 1] */
KER_INLINE vf v_log1p_unit(vf t)
{
    vm upper = v_lt(v_set1(0.41421354f), t);
    vf f = v_sel(upper, v_mul(v_set1(0.5f), v_sub(t, v_set1(1.0f))), t);
    return v_log_parts(f, v_sel(upper, v_set1(1.0f), v_zero()));
}

KER_INLINE vf v_softplus(vf x)
{
    vf t = v_log1p_unit(v_exp(v_neg(v_abs(x))));
    return v_add(v_max(v_zero(), x), t);
}

KER_INLINE vf v_sigmoid(vf x)
{
    return v_div(v_set1(1.0f), v_add(v_set1(1.0f), v_exp(v_neg(x))));
}

KER_INLINE vf v_tanh(vf x)
{
    vf z = v_mul(x, x), a = v_abs(x);
    vf p = V_POLY(z, -0.333332807f, 0.133314416f, -0.0537397154f, 0.0206390861f, -0.0057049864f);
    vf near = v_fma(v_mul(a, z), p, a);
    vf t = v_exp(v_add(a, a));
    vf far = v_sub(v_set1(1.0f), v_div(v_set1(2.0f), v_add(t, v_set1(1.0f))));
    return v_with_sign(v_sel(v_lt(a, v_set1(0.625f)), near, far), x);
}

KER_INLINE vf v_erf(vf x)
{
    vf z = v_mul(x, x), a = v_abs(x);
    vf p = V_POLY(z, 0.128379166f, -0.376126349f, 0.112836957f, -0.0268593989f, 0.00520103239f,
                  -0.000814270403f, 8.37010011e-05f);
    vf near = v_fma(x, p, x);
    vf c = v_min(v_set1(4.0f), a); /* from 3.92 on the result is 1 */
    vf q = V_POLY(c, 0.000174683242f, -1.12951493f, -0.633346915f, -0.108280078f, 0.0251194164f,
                  -0.004171059f, 0.00043446169f, -2.10949675e-05f);
    vf far = v_sub(v_set1(1.0f), v_exp(q));
    return v_sel(v_lt(a, v_set1(0.921875f)), near, v_with_sign(far, x));
}

/* x minus the nearest multiple of pi/2, for finite |x| >= 2^12; the multiple's number goes to
 * |quadrant|. Integers, so that no level differs: the mantissa times the bits of 2/pi that matter,
 * those from weight 2 down. */
static float reduce_large(float x, int32_t *quadrant)
{
    /* 2/pi, 32 bits a word; word 0 stands before the binary point. */
    static const uint32_t two_over_pi[8] = {0,          0xa2f9836e, 0x4e441529, 0xfc2757d1,
                                            0xf534ddc0, 0xdb629599, 0x3c439041, 0xfe5163ab};
    uint32_t bits = kaena_f32_bits(x), mantissa = (bits & 0x7fffff) | 0x800000;
    uint32_t start = ((bits >> 23) & 0xff) - 150 + 30, word = start / 32, shift = start % 32;
    /* 96 bits from |start|; the last one weighs 2^-94 beside |mantissa|. */
    uint32_t w[3];
    for (uint32_t i = 0; i < 3; i++)
        w[i] = shift ? two_over_pi[word + i] << shift | two_over_pi[word + i + 1] >> (32 - shift)
                     : two_over_pi[word + i];
    /* mantissa * w mod 2^96, in words */
    uint64_t low = (uint64_t)mantissa * w[2];
    uint64_t middle = (uint64_t)mantissa * w[1] + (low >> 32);
    uint32_t top = mantissa * w[0] + (uint32_t)(middle >> 32);
    *quadrant = (int32_t)(top >> 30);
    uint64_t fraction = (uint64_t)top << 34 | (uint64_t)(uint32_t)middle << 2 | (uint32_t)low >> 30;
    if (fraction >> 63)
        ++*quadrant;
    double r = (double)(int64_t)fraction * 0x1.921fb54442d18p-64; /* pi/2 * 2^-64 */
    if (bits >> 31) {
        *quadrant = -*quadrant;
        r = -r;
    }
    return (float)r;
}

/* sin(x + shift * pi/2) */
KER_INLINE vf v_sin_shifted(vf x, int32_t shift)
{
    const vf limit = v_set1(4096.0f);
    vi quadrant;
    vm large = v_lt(limit, v_abs(x));
    vf small = v_sel(large, v_zero(), x);
    vf n = v_nearest(v_mul(small, v_set1(0.636619772f)), &quadrant);
    /* pi/2 in four parts; products of the first three with n are exact. */
    vf r = v_fnma(n, v_set1(0x1.92p+0f), small);
    r = v_fnma(n, v_set1(0x1.fb4p-12f), r);
    r = v_fnma(n, v_set1(0x1.444p-24f), r);
    r = v_fnma(n, v_set1(0x1.68c234p-39f), r);
    unsigned lanes = vm_bits(large);
    if (__builtin_expect(lanes != 0, 0)) {
        float xs[KER_LANES], rs[KER_LANES];
        int32_t qs[KER_LANES];
        vi_store(xs, vf_as_vi(x));
        vi_store(rs, vf_as_vi(r));
        vi_store(qs, quadrant);
        for (int i = 0; i < KER_LANES; i++)
            if (lanes >> i & 1 && (kaena_f32_bits(xs[i]) & 0x7f800000) != 0x7f800000)
                rs[i] = reduce_large(xs[i], &qs[i]);
            else if (lanes >> i & 1)
                rs[i] = kaena_f32_from_bits(0x7fc00000);
        r = vi_as_vf(vi_load(rs));
        quadrant = vi_load(qs);
    }
    quadrant = vi_add(quadrant, vi_set1(shift));
    vf z = v_mul(r, r);
    vf s = V_POLY(z, -0.166666672f, 0.00833332911f, -0.000198393056f, 2.71805152e-06f);
    s = v_fma(v_mul(r, z), s, r);
    vf c = V_POLY(z, 0.0416666456f, -0.00138873106f, 2.44324638e-05f);
    c = v_add(v_set1(1.0f), v_fma(v_mul(z, z), c, v_mul(v_set1(-0.5f), z)));
    vm odd = vi_eq(vi_and(quadrant, vi_set1(1)), vi_set1(1));
    vf y = v_sel(odd, c, s);
    return vi_as_vf(vi_xor(vf_as_vi(y), vi_shl(vi_and(quadrant, vi_set1(2)), 30)));
}

KER_INLINE vf v_sin(vf x)
{
    return v_sin_shifted(x, 0);
}

KER_INLINE vf v_cos(vf x)
{
    return v_sin_shifted(x, 1);
}

/* The logarithm of positive normal x as high + low, to about 2^-30. */
KER_INLINE vf v_log_double(vf x, vf *low)
{
    const vf one = v_set1(1.0f), two = v_set1(2.0f);
    vf e, f = v_split(x, &e);
    /* log(m) = 2 atanh(s), s = f / (2 + f), itself in two parts. */
    vf m = v_add(f, one), d = v_add(m, one);
    vf d_low = v_sub(m, v_sub(d, one));
    vf s = v_div(f, d);
    vf s_low = v_div(v_fnma(s, d_low, v_fnma(s, d, f)), d);
    vf z = v_mul(s, s);
    vf p = V_POLY(z, 0.333333313f, 0.200001672f, 0.142686397f, 0.117913827f);
    vf head = v_mul(two, s), tail = v_mul(v_mul(head, z), p);
    tail = v_fma(two, s_low, tail);
    vf base = v_mul(e, v_set1(VM_LN2_HI)); /* exact, and 0 or greater than |head| */
    vf sum = v_add(base, head);
    tail = v_add(tail, v_add(v_sub(base, sum), head));
    tail = v_fma(e, v_set1(VM_LN2_LO), tail);
    vf high = v_add(sum, tail);
    *low = v_add(v_sub(sum, high), tail);
    return high;
}

/* a^b with the special cases of C's pow. */
KER_INLINE vf v_pow(vf a, vf b)
{
    const vf one = v_set1(1.0f), half = v_set1(0.5f);
    vf x = v_abs(a), low, high = v_log_double(x, &low);
    high = v_sel(v_eq(x, VM_INF), VM_INF, v_sel(v_eq(x, v_zero()), v_neg(VM_INF), high));
    vf p = v_mul(b, high);
    vf p_low = v_add(v_fma(b, high, v_neg(p)), v_mul(b, low));
    p_low = v_sel(v_lt(v_abs(p), v_set1(200.0f)), p_low, v_zero());
    vf y = v_exp_sum(p, p_low);

    vm whole = v_eq(v_rint(b), b);
    vf b_half = v_mul(b, half);
    vf odd =
        v_sel(v_eq(v_rint(b_half), b_half), v_zero(), v_sel(whole, v_bits(0x80000000), v_zero()));
    y = vi_as_vf(vi_xor(vf_as_vi(y), vi_and(vf_as_vi(a), vf_as_vi(odd))));
    vm negative = vm_and(v_lt(a, v_zero()), v_lt(v_neg(VM_INF), a));
    y = v_sel(negative, v_sel(whole, y, VM_NAN), y);
    y = v_sel(v_unord(a, b), VM_NAN, y);
    vm is_one =
        vm_or(vm_or(v_eq(a, one), v_eq(b, v_zero())), vm_and(v_eq(x, one), v_eq(v_abs(b), VM_INF)));
    return v_sel(is_one, one, y);
}

#endif
