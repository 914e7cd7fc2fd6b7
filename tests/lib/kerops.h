/* Operands for tests of kernels: random layouts between guard pages, and comparison of what levels
 * leave behind.
 *
 * Every operand lies against an inaccessible page at one of its ends, so that a kernel which
 * touches a byte before or after it dies. Bytes between elements hold a pattern; comparison covers
 * them too. */
#ifndef KEROPS_H
#define KEROPS_H

#include <immintrin.h>
#include <math.h>
#include <sys/mman.h>
#include <unistd.h>

#include "ker.h"
#include "ktest.h"

#define KEROPS_PATTERN 0xa5

/* What tpb_run sets: DAZ, FTZ, round to nearest, all masked. */
static inline void kerops_mode(void)
{
    _mm_setcsr(0x1f80 | 0x8040);
}

typedef struct kerops_rng {
    uint64_t state;
} kerops_rng;

static inline uint32_t kerops_next(kerops_rng *r)
{
    r->state = r->state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    uint64_t x = r->state ^ r->state >> 29;
    return (uint32_t)(x * UINT64_C(0x9e3779b97f4a7c15) >> 32);
}

/* In [0, n). */
static inline uint32_t kerops_below(kerops_rng *r, uint32_t n)
{
    return kerops_next(r) % n;
}

static inline float kerops_uniform(kerops_rng *r, float lo, float hi)
{
    return lo + (hi - lo) * (float)(kerops_next(r) >> 8) * 0x1p-24f;
}

/* --- Operands ---------------------------------------------------------------------------- */

typedef struct kerops_operand {
    ker_ap ap;
    uint8_t *map, *bytes; /* the mapping; the operand's lowest byte */
    size_t map_size, size;
} kerops_operand;

typedef enum kerops_layout {
    KEROPS_PACKED, /* row-major without gaps */
    KEROPS_PADDED, /* gaps between rows, columns contiguous */
    KEROPS_STRIDED,
    KEROPS_CHANNELS_FIRST, /* columns outside rows */
    KEROPS_BACKWARDS,      /* a negative stride */
    KEROPS_LAYOUTS
} kerops_layout;

static inline kerops_layout kerops_any_layout(kerops_rng *r)
{
    return kerops_below(r, 2) ? KEROPS_PACKED : (kerops_layout)kerops_below(r, KEROPS_LAYOUTS);
}

/* |count| elements of |type|. Dimensions whose bit is set in |broadcast| get stride 0. */
static inline kerops_operand kerops_make(kerops_rng *r, kaena_dtype type, const uint32_t count[4],
                                         kerops_layout layout, unsigned broadcast)
{
    static const uint8_t orders[2][4] = {{3, 2, 1, 0}, {2, 1, 3, 0}}; /* innermost first */
    kerops_operand o = {.ap = {.dtype = type}};
    const int64_t element = (int64_t)kaena_dtype_size(type);
    const uint8_t *order = orders[layout == KEROPS_CHANNELS_FIRST];
    int64_t step = element * (layout == KEROPS_STRIDED ? 1 + kerops_below(r, 3) : 1);
    int64_t low = 0, high = 0;
    for (int k = 0; k < 4; k++) {
        const int d = order[k];
        o.ap.count[d] = count[d];
        if (broadcast >> d & 1)
            continue;
        o.ap.stride[d] = layout == KEROPS_BACKWARDS && kerops_below(r, 2) ? -step : step;
        const int64_t reach = (int64_t)(count[d] - 1) * o.ap.stride[d];
        low += reach < 0 ? reach : 0;
        high += reach > 0 ? reach : 0;
        step *= count[d];
        if (layout == KEROPS_PADDED || layout == KEROPS_STRIDED)
            step += element * kerops_below(r, 5);
    }
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    o.size = (size_t)(high - low + element);
    const size_t inner = (o.size + page - 1) / page * page;
    o.map_size = inner + 2 * page;
    o.map = mmap(NULL, o.map_size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    cr_assert(o.map != MAP_FAILED);
    cr_assert(mprotect(o.map + page, inner, PROT_READ | PROT_WRITE) == 0);
    o.bytes = o.map + page + (kerops_below(r, 2) ? inner - o.size : 0);
    memset(o.bytes, KEROPS_PATTERN, o.size);
    o.ap.p = o.bytes - low;
    return o;
}

static inline void kerops_free(kerops_operand *o)
{
    if (o->map)
        munmap(o->map, o->map_size);
    *o = (kerops_operand){0};
}

#define KEROPS_EACH(ap, i)                                                                         \
    for (uint32_t i[4] = {0}; i[0] < (ap)->count[0]; i[0]++)                                       \
        for (i[1] = 0; i[1] < (ap)->count[1]; i[1]++)                                              \
            for (i[2] = 0; i[2] < (ap)->count[2]; i[2]++)                                          \
                for (i[3] = 0; i[3] < (ap)->count[3]; i[3]++)

static inline uint8_t *kerops_at(const ker_ap *ap, const uint32_t i[4])
{
    return ap->p + i[0] * ap->stride[0] + i[1] * ap->stride[1] + i[2] * ap->stride[2] +
           i[3] * ap->stride[3];
}

static inline double kerops_get(const ker_ap *ap, uint32_t i0, uint32_t i1, uint32_t i2,
                                uint32_t i3)
{
    uint64_t raw = 0;
    double d;
    memcpy(&raw, kerops_at(ap, (const uint32_t[]){i0, i1, i2, i3}), kaena_dtype_size(ap->dtype));
    kaena_cast(&d, KAENA_F64, &raw, ap->dtype, 1);
    return d;
}

static inline void kerops_set(const ker_ap *ap, const uint32_t i[4], double d)
{
    uint64_t raw = 0;
    kaena_cast(&raw, ap->dtype, &d, KAENA_F64, 1);
    memcpy(kerops_at(ap, i), &raw, kaena_dtype_size(ap->dtype));
}

/* Values in [lo, hi]. */
static inline void kerops_fill(kerops_rng *r, const ker_ap *ap, float lo, float hi)
{
    KEROPS_EACH(ap, i)
    {
        kerops_set(ap, i, (double)kerops_uniform(r, lo, hi));
    }
}

/* Any bits: half of the elements zeros, denormals, infinities, NaNs and their neighbours. */
static inline void kerops_fill_special(kerops_rng *r, const ker_ap *ap)
{
    static const uint32_t special[] = {0,          0x80000000, 0x00010000, 0x80010000, 0x007f0000,
                                       0x00000001, 0x80000001, 0x7f800000, 0xff800000, 0x7fc00000,
                                       0xffc12345, 0x7f812345, 0x3f800000, 0xbf800000, 0x7f7fffff,
                                       0xff7fffff, 0x00800000, 0x80800000, 0x40490fdb, 0x42b17218,
                                       0x3effffff, 0x3f000000, 0x4b000000, 0xc2cff1b5};
    const size_t size = kaena_dtype_size(ap->dtype);
    KEROPS_EACH(ap, i)
    {
        uint32_t bits = kerops_next(r);
        if (kerops_below(r, 2))
            bits = special[kerops_below(r, sizeof special / sizeof *special)];
        else if (kerops_below(r, 2))
            bits = kaena_f32_bits(kerops_uniform(r, -8, 8));
        uint64_t raw = bits;
        if (ap->dtype == KAENA_BF16)
            raw = bits >> 16;
        else if (ap->dtype == KAENA_F16)
            raw =
                kerops_below(r, 2) ? kaena_f16_from_f32(kaena_f32_from_bits(bits)) : bits & 0xffff;
        else if (size == 8)
            raw = (uint64_t)bits << 32 | kerops_next(r);
        memcpy(kerops_at(ap, i), &raw, size);
    }
}

/* --- Comparison -------------------------------------------------------------------------- */

/* The operand's bytes, with one NaN for all of its type; BF16 has one NaN only. Free with free. */
static inline uint8_t *kerops_snapshot(const kerops_operand *o)
{
    uint8_t *copy = malloc(o->size);
    cr_assert(copy != NULL);
    memcpy(copy, o->bytes, o->size);
    KEROPS_EACH(&o->ap, i)
    {
        uint8_t *at = copy + (kerops_at(&o->ap, i) - o->bytes);
        uint32_t bits = 0;
        if (o->ap.dtype == KAENA_F32) {
            memcpy(&bits, at, 4);
            if ((bits & 0x7fffffff) > 0x7f800000)
                memcpy(at, &(uint32_t){0x7fc00000}, 4);
        } else if (o->ap.dtype == KAENA_F16) {
            memcpy(&bits, at, 2);
            if ((bits & 0x7fff) > 0x7c00)
                memcpy(at, &(uint16_t){0x7e00}, 2);
        }
    }
    return copy;
}

/* Where two snapshots differ, as text; NULL: nowhere. */
static inline const char *kerops_difference(const kerops_operand *o, const uint8_t *a,
                                            const uint8_t *b)
{
    static char text[200];
    if (memcmp(a, b, o->size) == 0)
        return NULL;
    const size_t size = kaena_dtype_size(o->ap.dtype);
    KEROPS_EACH(&o->ap, i)
    {
        const size_t at = (size_t)(kerops_at(&o->ap, i) - o->bytes);
        if (memcmp(a + at, b + at, size) == 0)
            continue;
        uint64_t x = 0, y = 0;
        memcpy(&x, a + at, size);
        memcpy(&y, b + at, size);
        snprintf(
            text, sizeof text, "%s element [%u][%u][%u][%u] of [%u][%u][%u][%u]: %#llx, not %#llx",
            kaena_dtype_name(o->ap.dtype), i[0], i[1], i[2], i[3], o->ap.count[0], o->ap.count[1],
            o->ap.count[2], o->ap.count[3], (unsigned long long)y, (unsigned long long)x);
        return text;
    }
    return "bytes between elements";
}

/* Runs |family| on |args| on every level, at once and in chunks, and compares what |dst| (a
 * kerops_operand) then holds with what the scalar level left, which stays in dst at the end. */
#define KEROPS_CHECK(rng, family, args, dst)                                                       \
    do {                                                                                           \
        const uint32_t rows_ = (dst)->ap.count[0] * (dst)->ap.count[1] * (dst)->ap.count[2];       \
        uint8_t *start_ = malloc((dst)->size);                                                     \
        cr_assert(start_ != NULL);                                                                 \
        memcpy(start_, (dst)->bytes, (dst)->size);                                                 \
        ker_table_of(KER_SCALAR)->family((args), 0, rows_);                                        \
        uint8_t *want_ = kerops_snapshot(dst);                                                     \
        for (int level_ = KER_SCALAR; level_ < KER_LEVEL_COUNT; level_++)                          \
            for (int cut_ = 0; cut_ < 2; cut_++) {                                                 \
                if (!ker_level_supported((ker_level)level_))                                       \
                    continue;                                                                      \
                memcpy((dst)->bytes, start_, (dst)->size);                                         \
                for (uint32_t row_ = 0; row_ < rows_;) {                                           \
                    uint32_t n_ = cut_ ? 1 + kerops_below((rng), rows_ - row_) : rows_;            \
                    ker_table_of((ker_level)level_)->family((args), row_, row_ + n_);              \
                    row_ += n_;                                                                    \
                }                                                                                  \
                uint8_t *got_ = kerops_snapshot(dst);                                              \
                const char *difference_ = kerops_difference((dst), want_, got_);                   \
                cr_assert(difference_ == NULL, #family " %s%s: %s", ker_level_name(level_),        \
                          cut_ ? " in chunks" : "", difference_);                                  \
                free(got_);                                                                        \
            }                                                                                      \
        memcpy((dst)->bytes, start_, (dst)->size);                                                 \
        ker_table_of(KER_SCALAR)->family((args), 0, rows_);                                        \
        free(want_);                                                                               \
        free(start_);                                                                              \
    } while (0)

/* |got| is |want| to |relative| of |scale|'s magnitude, plus the rounding of |type|. */
static inline bool kerops_near(kaena_dtype type, double got, double want, double scale,
                               double relative)
{
    if (type == KAENA_F16 && fabs(want) > 65500) /* its greatest, but for rounding */
        return fabs(got) > 65400 && (got > 0) == (want > 0);
    if (isnan(want) || isinf(want))
        return isnan(want) ? isnan(got) != 0 : got == want;
    const double step = type == KAENA_BF16 ? 0x1p-8 : type == KAENA_F16 ? 0x1p-11 : 0x1p-24;
    return fabs(got - want) <= relative * fabs(scale) + 1.01 * step * fabs(want) +
                                   (type == KAENA_F16 ? 0x1p-24 : 1e-37);
}

#endif
