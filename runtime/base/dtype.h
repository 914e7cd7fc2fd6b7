/* Element types and the conversions between them. */
#ifndef KAENA_BASE_DTYPE_H
#define KAENA_BASE_DTYPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* client.h declares the same; whichever header comes first does it. */
#ifndef KAENA_DTYPE_DECLARED
#define KAENA_DTYPE_DECLARED
typedef enum kaena_dtype {
    KAENA_DTYPE_NONE = 0,
#define KAENA_DTYPE_ROW(NAME, value, bytes, text, kind) KAENA_##NAME = value,
#include "dtype.def"
#undef KAENA_DTYPE_ROW
} kaena_dtype;

/* An element of a KAENA_STRING tensor: borrowed bytes, not terminated. */
typedef struct kaena_string {
    const char *data;
    size_t size;
} kaena_string;
#endif

/* Bytes of one element; 0 for KAENA_DTYPE_NONE and for numbers without a row. */
size_t kaena_dtype_size(kaena_dtype t);
/* "float32"; "none" for numbers without a row. */
const char *kaena_dtype_name(kaena_dtype t);
/* The type of that name (also "bf16", "float", "double" and numpy's spellings), or
 * KAENA_DTYPE_NONE. */
kaena_dtype kaena_dtype_parse(const char *name);
bool kaena_dtype_is_float(kaena_dtype t);
bool kaena_dtype_is_int(kaena_dtype t); /* signed or unsigned, not bool */
bool kaena_dtype_is_signed(kaena_dtype t);

static inline float kaena_f32_from_bits(uint32_t u)
{
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}

static inline uint32_t kaena_f32_bits(float f)
{
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    return u;
}

static inline float kaena_bf16_to_f32(uint16_t b)
{
    return kaena_f32_from_bits((uint32_t)b << 16);
}

/* Round to nearest even; any NaN becomes 0x7fc0 (ARCHITECTURE.md: the bits are defined).
 * Denormals are kept: who wants them flushed sets MXCSR and uses the kernels' cast. */
static inline uint16_t kaena_bf16_from_f32(float f)
{
    uint32_t u = kaena_f32_bits(f);
    if ((u & 0x7fffffff) > 0x7f800000)
        return 0x7fc0;
    return (uint16_t)((u + 0x7fff + ((u >> 16) & 1)) >> 16);
}

/* IEEE 754 binary16, exact. */
float kaena_f16_to_f32(uint16_t h);
/* Round to nearest even; any NaN becomes 0x7e00. */
uint16_t kaena_f16_from_f32(float f);

/* Casts |n| elements as ONNX Cast does: float to integer truncates and saturates (NaN: 0), integer
 * to integer wraps, to bool is "not zero". Not for strings. Buffers must not overlap. */
void kaena_cast(void *dst, kaena_dtype dst_type, const void *src, kaena_dtype src_type, size_t n);

#endif
