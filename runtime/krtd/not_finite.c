#include "not_finite.h"

#include <stdint.h>
#include <string.h>

/* An exponent of ones is NaN or infinity. Blocks have no exit in them, so that they become vector
 * code; memcpy, because nobody promises alignment. */
#define BLOCK 1024

#define CHECK(bits, type, exponent)                                                                \
    static bool finite_##bits(const unsigned char *data, size_t n)                                 \
    {                                                                                              \
        for (size_t at = 0; at < n; at += BLOCK) {                                                 \
            size_t end = n - at < BLOCK ? n : at + BLOCK;                                          \
            unsigned bad = 0;                                                                      \
            for (size_t i = at; i < end; i++) {                                                    \
                type v;                                                                            \
                memcpy(&v, data + i * sizeof v, sizeof v);                                         \
                bad |= (v & (exponent)) == (exponent);                                             \
            }                                                                                      \
            if (bad)                                                                               \
                return false;                                                                      \
        }                                                                                          \
        return true;                                                                               \
    }

CHECK(f64, uint64_t, UINT64_C(0x7ff0000000000000))
CHECK(f32, uint32_t, UINT32_C(0x7f800000))
CHECK(f16, uint16_t, 0x7c00)
CHECK(bf16, uint16_t, 0x7f80)

bool krt_all_finite(kaena_dtype dtype, const void *data, size_t bytes)
{
    if (dtype == KAENA_F32)
        return finite_f32(data, bytes / 4);
    if (dtype == KAENA_F64)
        return finite_f64(data, bytes / 8);
    if (dtype == KAENA_F16)
        return finite_f16(data, bytes / 2);
    return dtype != KAENA_BF16 || finite_bf16(data, bytes / 2);
}
