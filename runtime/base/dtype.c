#include "dtype.h"

#include <math.h>

static const struct dtype_row {
    const char *name;
    uint8_t value, bytes;
    char kind;
} rows[] = {
#define KAENA_DTYPE_ROW(NAME, value, bytes, text, kind) [value] = {text, value, bytes, #kind[0]},
#include "dtype.def"
#undef KAENA_DTYPE_ROW
};

static const struct dtype_row *row_of(kaena_dtype t)
{
    return (unsigned)t < sizeof rows / sizeof *rows && rows[t].name ? &rows[t] : NULL;
}

size_t kaena_dtype_size(kaena_dtype t)
{
    const struct dtype_row *r = row_of(t);
    return r ? r->bytes : 0;
}

const char *kaena_dtype_name(kaena_dtype t)
{
    const struct dtype_row *r = row_of(t);
    return r ? r->name : "none";
}

kaena_dtype kaena_dtype_parse(const char *name)
{
    static const struct {
        const char *name;
        kaena_dtype type;
    } other[] = {{"bf16", KAENA_BF16},
                 {"float", KAENA_F32},
                 {"double", KAENA_F64},
                 {"f32", KAENA_F32},
                 {"f16", KAENA_F16}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (rows[i].name && strcmp(rows[i].name, name) == 0)
            return (kaena_dtype)rows[i].value;
    for (size_t i = 0; i < sizeof other / sizeof *other; i++)
        if (strcmp(other[i].name, name) == 0)
            return other[i].type;
    return KAENA_DTYPE_NONE;
}

bool kaena_dtype_is_float(kaena_dtype t)
{
    const struct dtype_row *r = row_of(t);
    return r && r->kind == 'F';
}

bool kaena_dtype_is_int(kaena_dtype t)
{
    const struct dtype_row *r = row_of(t);
    return r && (r->kind == 'I' || r->kind == 'U');
}

bool kaena_dtype_is_signed(kaena_dtype t)
{
    const struct dtype_row *r = row_of(t);
    return r && (r->kind == 'I' || r->kind == 'F');
}

float kaena_f16_to_f32(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000) << 16;
    uint32_t exp = (h >> 10) & 31, man = h & 0x3ff;
    if (exp == 31)
        return kaena_f32_from_bits(sign | 0x7f800000 | man << 13);
    if (exp)
        return kaena_f32_from_bits(sign | (exp + 112) << 23 | man << 13);
    /* Denormal: man * 2^-24. Built from bits, so that it holds whatever MXCSR says. */
    if (!man)
        return kaena_f32_from_bits(sign);
    int shift = __builtin_clz(man) - 21;
    return kaena_f32_from_bits(sign | (uint32_t)(113 - shift) << 23 |
                               ((man << shift) & 0x3ff) << 13);
}

uint16_t kaena_f16_from_f32(float f)
{
    uint32_t u = kaena_f32_bits(f), sign = (u >> 16) & 0x8000, abs = u & 0x7fffffff;
    if (abs > 0x7f800000)
        return 0x7e00;
    if (abs >= 0x477ff000) /* rounds to 65536 or more */
        return (uint16_t)(sign | 0x7c00);
    if (abs >= 0x38800000) /* normal: 2^-14 and up */
        return (uint16_t)(sign | ((abs - 0x38000000 + 0xfff + ((abs >> 13) & 1)) >> 13));
    if (abs < 0x33000000) /* below half of the least denormal */
        return (uint16_t)sign;
    uint32_t man = (abs & 0x7fffff) | 0x800000, shift = 126 - (abs >> 23);
    uint32_t half = 1u << (shift - 1), rest = man & ((1u << shift) - 1), q = man >> shift;
    return (uint16_t)(sign | (q + (rest > half || (rest == half && (q & 1)))));
}

static int64_t saturate(double v, double lo, double hi)
{
    if (isnan(v))
        return 0;
    if (v <= lo)
        return (int64_t)lo;
    return v >= hi ? (hi >= 9223372036854775807.0 ? INT64_MAX : (int64_t)hi) : (int64_t)v;
}

/* One element as the widest type of its kind. */
typedef struct wide {
    double f;
    int64_t i; /* bits of an unsigned one too */
    bool is_float, is_u64;
} wide;

static wide widen(const void *p, kaena_dtype t, size_t i)
{
    wide w = {0};
    switch (t) {
    case KAENA_F32:
        w.is_float = true;
        w.f = (double)((const float *)p)[i];
        return w;
    case KAENA_F64:
        w.is_float = true;
        w.f = ((const double *)p)[i];
        return w;
    case KAENA_F16:
        w.is_float = true;
        w.f = (double)kaena_f16_to_f32(((const uint16_t *)p)[i]);
        return w;
    case KAENA_BF16:
        w.is_float = true;
        w.f = (double)kaena_bf16_to_f32(((const uint16_t *)p)[i]);
        return w;
    case KAENA_U8:
        w.i = ((const uint8_t *)p)[i];
        return w;
    case KAENA_I8:
        w.i = ((const int8_t *)p)[i];
        return w;
    case KAENA_U16:
        w.i = ((const uint16_t *)p)[i];
        return w;
    case KAENA_I16:
        w.i = ((const int16_t *)p)[i];
        return w;
    case KAENA_U32:
        w.i = ((const uint32_t *)p)[i];
        return w;
    case KAENA_I32:
        w.i = ((const int32_t *)p)[i];
        return w;
    case KAENA_I64:
        w.i = ((const int64_t *)p)[i];
        return w;
    case KAENA_U64:
        w.i = (int64_t)((const uint64_t *)p)[i];
        w.is_u64 = true;
        return w;
    case KAENA_BOOL:
        w.i = ((const uint8_t *)p)[i] != 0;
        return w;
    case KAENA_STRING:
    case KAENA_DTYPE_NONE:
        break;
    }
    return w;
}

static double as_float(wide w)
{
    return w.is_float ? w.f : w.is_u64 ? (double)(uint64_t)w.i : (double)w.i;
}

/* From double to a narrow float through float once would round twice: odd rounding in between
 * avoids it. */
static float round_to_odd(double d)
{
    float f = (float)d;
    if ((double)f == d || isnan(d) || isinf(f))
        return f;
    uint32_t u = kaena_f32_bits(f);
    bool away = fabs((double)f) > fabs(d);
    if (away)
        u--;
    return kaena_f32_from_bits(u | 1);
}

static void narrow(void *p, kaena_dtype t, size_t i, wide w)
{
    switch (t) {
    case KAENA_F32:
        ((float *)p)[i] = w.is_float || w.is_u64 ? (float)as_float(w) : (float)w.i;
        return;
    case KAENA_F64:
        ((double *)p)[i] = as_float(w);
        return;
    case KAENA_F16:
        ((uint16_t *)p)[i] = kaena_f16_from_f32(round_to_odd(as_float(w)));
        return;
    case KAENA_BF16:
        ((uint16_t *)p)[i] = kaena_bf16_from_f32(round_to_odd(as_float(w)));
        return;
    case KAENA_U8:
        ((uint8_t *)p)[i] = (uint8_t)(w.is_float ? saturate(w.f, 0, 255) : w.i);
        return;
    case KAENA_I8:
        ((int8_t *)p)[i] = (int8_t)(w.is_float ? saturate(w.f, -128, 127) : w.i);
        return;
    case KAENA_U16:
        ((uint16_t *)p)[i] = (uint16_t)(w.is_float ? saturate(w.f, 0, 65535) : w.i);
        return;
    case KAENA_I16:
        ((int16_t *)p)[i] = (int16_t)(w.is_float ? saturate(w.f, -32768, 32767) : w.i);
        return;
    case KAENA_U32:
        ((uint32_t *)p)[i] = (uint32_t)(w.is_float ? saturate(w.f, 0, 4294967295.0) : w.i);
        return;
    case KAENA_I32:
        ((int32_t *)p)[i] =
            (int32_t)(w.is_float ? saturate(w.f, -2147483648.0, 2147483647.0) : w.i);
        return;
    case KAENA_I64:
        ((int64_t *)p)[i] =
            w.is_float ? saturate(w.f, -9223372036854775808.0, 9223372036854775807.0) : w.i;
        return;
    case KAENA_U64:
        if (w.is_float)
            w.i = w.f >= 18446744073709551615.0 ? -1 : w.f > 0 ? (int64_t)(uint64_t)w.f : 0;
        ((uint64_t *)p)[i] = (uint64_t)w.i;
        return;
    case KAENA_BOOL:
        ((uint8_t *)p)[i] = w.is_float ? w.f != 0 : w.i != 0;
        return;
    case KAENA_STRING:
    case KAENA_DTYPE_NONE:
        return;
    }
}

void kaena_cast(void *dst, kaena_dtype dst_type, const void *src, kaena_dtype src_type, size_t n)
{
    if (dst_type == src_type) {
        if (n)
            memcpy(dst, src, n * kaena_dtype_size(dst_type));
        return;
    }
    if (dst_type == KAENA_BF16 && src_type == KAENA_F32) {
        for (size_t i = 0; i < n; i++)
            ((uint16_t *)dst)[i] = kaena_bf16_from_f32(((const float *)src)[i]);
        return;
    }
    if (dst_type == KAENA_F32 && src_type == KAENA_BF16) {
        for (size_t i = 0; i < n; i++)
            ((float *)dst)[i] = kaena_bf16_to_f32(((const uint16_t *)src)[i]);
        return;
    }
    for (size_t i = 0; i < n; i++)
        narrow(dst, dst_type, i, widen(src, src_type, i));
}
