/* Matrix product in double: panels of A and B are converted while they are packed, a register tile
 * runs over all of K, so each element of C is one sum in ascending K whatever the vector width. */
#include "ops_impl.h"

#define MR KOP_GEMM_MR
#define NR KOP_GEMM_NR

typedef double vec8 __attribute__((vector_size(64), aligned(8), may_alias));

#define ROW(r)                                                                                     \
    c##r##0 += a[r] * b0;                                                                          \
    c##r##1 += a[r] * b1;
#define KEEP(r)                                                                                    \
    *(vec8 *)(c + (r)*NR) = c##r##0;                                                               \
    *(vec8 *)(c + (r)*NR + 8) = c##r##1;

static inline __attribute__((always_inline)) void tile_body(const double *a, const double *b,
                                                            int64_t k, double *c)
{
    vec8 c00 = {0}, c01 = {0}, c10 = {0}, c11 = {0}, c20 = {0}, c21 = {0};
    vec8 c30 = {0}, c31 = {0}, c40 = {0}, c41 = {0}, c50 = {0}, c51 = {0};
    for (int64_t p = 0; p < k; p++, a += MR, b += NR) {
        vec8 b0 = *(const vec8 *)b, b1 = *(const vec8 *)(b + 8);
        ROW(0) ROW(1) ROW(2) ROW(3) ROW(4) ROW(5)
    }
    KEEP(0) KEEP(1) KEEP(2) KEEP(3) KEEP(4) KEEP(5)
}

#undef ROW
#undef KEEP

typedef void (*tile_fn)(const double *a, const double *b, int64_t k, double *c);

static void tile_plain(const double *a, const double *b, int64_t k, double *c)
{
    tile_body(a, b, k, c);
}

#if defined(__x86_64__)
__attribute__((target("avx512f"))) static void tile_avx512(const double *a, const double *b,
                                                           int64_t k, double *c)
{
    tile_body(a, b, k, c);
}

__attribute__((target("avx2"))) static void tile_avx2(const double *a, const double *b, int64_t k,
                                                      double *c)
{
    tile_body(a, b, k, c);
}

static tile_fn choose_tile(void)
{
    if (__builtin_cpu_supports("avx512f"))
        return tile_avx512;
    return __builtin_cpu_supports("avx2") ? tile_avx2 : tile_plain;
}
#else
static tile_fn choose_tile(void)
{
    return tile_plain;
}
#endif

/* Columns of B packed at a time: a multiple of NR, so many that they stay in a second-level cache.
 */
static int64_t block_of(int64_t n, int64_t k)
{
    int64_t block = (1 << 17) / (k > 0 ? k : 1) / NR * NR;
    block = block < NR ? NR : block > 512 ? 512 : block;
    int64_t all = (n + NR - 1) / NR * NR;
    return block < all ? block : all;
}

kaena_status kop_gemm_run(kop_call *call, kop_gemm *g)
{
    if (g->m == 0 || g->n == 0)
        return KAENA_OK;
    int64_t block = block_of(g->n, g->k), size;
    if (!kaena_mul_i64(g->k, block + MR, &size))
        return KOP_BAD(call, "a matrix product over %" PRId64 " elements is too large", g->k);
    if (!g->work) {
        g->work = kop_alloc(call, (size_t)size, sizeof *g->work);
        if (!g->work)
            return KAENA_RESOURCE_EXHAUSTED;
    }
    tile_fn tile = choose_tile();
    double *pa = g->work, *pb = pa + g->k * MR;
    for (int64_t n0 = 0; n0 < g->n; n0 += block) {
        int64_t nb = g->n - n0 < block ? g->n - n0 : block;
        memset(pb, 0, (size_t)(g->k * block) * sizeof *pb);
        for (int64_t j = 0; j < nb; j += NR)
            g->pack_b(g->ctx, n0 + j, nb - j < NR ? nb - j : NR, pb + j * g->k);
        for (int64_t m0 = 0; m0 < g->m; m0 += MR) {
            int64_t mr = g->m - m0 < MR ? g->m - m0 : MR;
            if (mr < MR)
                memset(pa, 0, (size_t)(g->k * MR) * sizeof *pa);
            g->pack_a(g->ctx, m0, mr, pa);
            for (int64_t j = 0; j < nb; j += NR) {
                double c[MR * NR];
                tile(pa, pb + j * g->k, g->k, c);
                g->store(g->ctx, m0, mr, n0 + j, nb - j < NR ? nb - j : NR, c);
            }
            KAENA_TRY(kop_poll(call));
        }
    }
    return KAENA_OK;
}

bool kop_matrix_of(kop_call *call, const kop_tensor *t, kop_matrix *out)
{
    *out = (kop_matrix){.data = t->data, .is_f64 = t->dtype == KAENA_F64};
    if (t->dtype == KAENA_F32 || t->dtype == KAENA_F64)
        return true;
    size_t n = kop_elements(t);
    float *copy = kop_alloc(call, n, sizeof *copy);
    if (!copy)
        return false;
    if (n)
        kaena_cast(copy, KAENA_F32, t->data, t->dtype, n);
    out->data = copy;
    return true;
}

bool kop_matrix_of_quantised(kop_call *call, const kop_tensor *t, const kop_tensor *zero,
                             int32_t axis, kop_matrix *out)
{
    size_t n = kop_elements(t), zeros = zero ? kop_elements(zero) : 0;
    double *copy = kop_doubles(call, t);
    if (!copy)
        return false;
    *out = (kop_matrix){.data = copy, .is_f64 = true};
    size_t inner = n ? (size_t)kop_span(&t->shape, axis + 1, t->shape.rank) : 1;
    for (size_t i = 0; zeros && i < n; i++)
        copy[i] -= kop_get_float(zero, zeros == 1 ? 0 : i / inner % zeros);
    return true;
}

void kop_pack_rows(const kop_matrix *a, int64_t k, int64_t m0, int64_t mr, double *dst)
{
    for (int64_t r = 0; r < mr; r++) {
        int64_t at = (m0 + r) * a->row;
        if (a->is_f64) {
            const double *src = (const double *)a->data + at;
            for (int64_t p = 0; p < k; p++)
                dst[p * MR + r] = src[p * a->col];
        } else {
            const float *src = (const float *)a->data + at;
            for (int64_t p = 0; p < k; p++)
                dst[p * MR + r] = (double)src[p * a->col];
        }
    }
}

void kop_pack_cols(const kop_matrix *b, int64_t k, int64_t n0, int64_t nr, double *dst)
{
    for (int64_t p = 0; p < k; p++) {
        int64_t at = p * b->row + n0 * b->col;
        if (b->is_f64) {
            const double *src = (const double *)b->data + at;
            for (int64_t j = 0; j < nr; j++)
                dst[p * NR + j] = src[j * b->col];
        } else {
            const float *src = (const float *)b->data + at;
            for (int64_t j = 0; j < nr; j++)
                dst[p * NR + j] = (double)src[j * b->col];
        }
    }
}
