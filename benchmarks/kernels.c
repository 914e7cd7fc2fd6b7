/* kernels [NAME]: speed of the kernels, one line per row of the table and ISA level.
 *
 *   NAME level us=.. GB/s=.. GFLOP/s=.. share=..%
 *
 * share: the time that the limits measured in this run (copying inside L2, multiply-adds in
 * registers, of the same level) would allow, divided by the time taken. Times are the least of many
 * repetitions: the machine may be shared. With NAME only rows whose name contains it. */
#include <immintrin.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "ker.h"

static double now_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec * 1e-3;
}

/* One measured call: operands live in |memory|, which is far larger than any row needs. */
typedef struct bench {
    const ker_table *table;
    uint8_t *memory;
    size_t used;
} bench;

/* A row-major operand of [n][h][w][c] elements. */
static ker_ap operand(bench *b, kaena_dtype type, uint32_t n, uint32_t h, uint32_t w, uint32_t c)
{
    const int64_t e = (int64_t)kaena_dtype_size(type);
    ker_ap ap = {.p = b->memory + b->used,
                 .dtype = type,
                 .count = {n, h, w, c},
                 .stride = {e * c * w * h, e * c * w, e * c, e}};
    b->used += ((size_t)e * n * h * w * c + 127) / 64 * 64;
    return ap;
}

/* The same elements with the columns outside: [n][c][h][w] in memory. */
static ker_ap channels_first(ker_ap ap)
{
    const int64_t e = (int64_t)kaena_dtype_size(ap.dtype);
    const int64_t plane = (int64_t)ap.count[1] * ap.count[2];
    ap.stride[0] = e * plane * ap.count[3];
    ap.stride[3] = e * plane;
    ap.stride[1] = e * ap.count[2];
    ap.stride[2] = e;
    return ap;
}

static uint32_t rows_of(const ker_ap *ap)
{
    return ap->count[0] * ap->count[1] * ap->count[2];
}

/* Each sets up its arguments on the first call (args zeroed) and runs the kernel. */
typedef struct arguments {
    union {
        ker_act_args act;
        ker_tt_args tt;
        ker_window_args window;
        ker_dwconv_args dwconv;
        ker_reduce_args reduce;
        ker_softmax_args softmax;
        ker_lrn_args lrn;
        ker_resize_args resize;
        ker_copy_args copy;
        ker_fill_args fill;
        ker_quant_args quant;
        ker_mm_args mm;
    } u;
    ker_mm_tile tile;
} arguments;

typedef struct row {
    const char *name;
    void (*prepare)(bench *b, const struct row *row, arguments *a);
    void (*run)(const bench *b, const arguments *a);
    uint32_t n, h, w, c; /* of the result, but for reductions */
    kaena_dtype from, to;
    int variant, stride;
    double flops, bytes; /* of the whole call */
} row;

static void prepare_copy(bench *b, const row *r, arguments *a)
{
    a->u.copy.src = operand(b, r->from, r->n, r->h, r->w, r->c);
    a->u.copy.dst = operand(b, r->to, r->n, r->h, r->w, r->c);
    if (r->variant == 1)
        a->u.copy.src = channels_first(a->u.copy.src);
    if (r->variant == 2)
        a->u.copy.dst = channels_first(a->u.copy.dst);
}

static void run_copy(const bench *b, const arguments *a)
{
    b->table->copy(&a->u.copy, 0, rows_of(&a->u.copy.dst));
}

static void prepare_fill(bench *b, const row *r, arguments *a)
{
    a->u.fill.dst = operand(b, r->to, r->n, r->h, r->w, r->c);
}

static void run_fill(const bench *b, const arguments *a)
{
    b->table->fill(&a->u.fill, 0, rows_of(&a->u.fill.dst));
}

enum { WITH_BIAS = 1, WITH_RESIDUAL = 2 };

static void prepare_act(bench *b, const row *r, arguments *a)
{
    ker_act_args *k = &a->u.act;
    k->src = operand(b, r->from, r->n, r->h, r->w, r->c);
    k->dst = operand(b, r->to, r->n, r->h, r->w, r->c);
    k->ep.scale_all = 1;
    k->ep.func = (kaena_act)r->stride;
    if (r->variant & WITH_BIAS)
        k->ep.bias = (const float *)(const void *)operand(b, KAENA_F32, 1, 1, 1, r->c).p;
    if (r->variant & WITH_RESIDUAL)
        k->residual = operand(b, r->to, r->n, r->h, r->w, r->c);
}

static void run_act(const bench *b, const arguments *a)
{
    b->table->act(&a->u.act, 0, rows_of(&a->u.act.dst));
}

static void prepare_tt(bench *b, const row *r, arguments *a)
{
    ker_tt_args *k = &a->u.tt;
    k->a = operand(b, r->from, r->n, r->h, r->w, r->c);
    k->b = operand(b, r->from, r->n, r->h, r->w, r->c);
    k->dst = operand(b, r->to, r->n, r->h, r->w, r->c);
    k->op = r->variant;
    if (r->stride) /* a factor per channel, as squeeze-and-excite has */
        k->b.stride[0] = k->b.stride[1] = k->b.stride[2] = 0;
}

static void run_tt(const bench *b, const arguments *a)
{
    b->table->tt(&a->u.tt, 0, rows_of(&a->u.tt.dst));
}

static void prepare_window(bench *b, const row *r, arguments *a)
{
    ker_window_args *k = &a->u.window;
    const uint32_t s = (uint32_t)r->stride;
    k->src = operand(b, r->from, r->n, r->h * s, r->w * s, r->c);
    k->dst = operand(b, r->to, r->n, r->h, r->w, r->c);
    k->kind = r->variant;
    k->kernel_h = k->kernel_w = 3;
    k->stride_h = k->stride_w = s;
    k->dilation_h = k->dilation_w = 1;
    k->y0 = k->x0 = -1;
}

static void run_window(const bench *b, const arguments *a)
{
    b->table->window(&a->u.window, 0, rows_of(&a->u.window.dst));
}

static void prepare_dwconv(bench *b, const row *r, arguments *a)
{
    ker_dwconv_args *k = &a->u.dwconv;
    const uint32_t s = (uint32_t)r->stride, size = (uint32_t)r->variant;
    k->src = operand(b, r->from, r->n, (r->h - 1) * s + size, (r->w - 1) * s + size, r->c);
    k->weights = operand(b, r->from, 1, size, size, r->c);
    k->dst = operand(b, r->to, r->n, r->h, r->w, r->c);
    k->stride_h = k->stride_w = s;
    k->dilation_h = k->dilation_w = 1;
    k->ep = (ker_epilogue){.scale_all = 1, .func = KAENA_ACT_CLIP, .beta = 6};
    k->ep.bias = (const float *)(const void *)operand(b, KAENA_F32, 1, 1, 1, r->c).p;
}

static void run_dwconv(const bench *b, const arguments *a)
{
    b->table->dwconv(&a->u.dwconv, 0, rows_of(&a->u.dwconv.dst));
}

static void prepare_reduce(bench *b, const row *r, arguments *a)
{
    ker_reduce_args *k = &a->u.reduce;
    k->axes = (uint32_t)r->variant;
    k->src = operand(b, r->from, r->n, r->h, r->w, r->c);
    k->dst = operand(b, r->to, r->n, k->axes & 2 ? 1 : r->h, k->axes & 4 ? 1 : r->w,
                     k->axes & 8 ? 1 : r->c);
    k->scale = 0.5f;
}

static void run_reduce(const bench *b, const arguments *a)
{
    b->table->reduce(&a->u.reduce, 0, rows_of(&a->u.reduce.dst));
}

static void prepare_softmax(bench *b, const row *r, arguments *a)
{
    a->u.softmax.src = operand(b, r->from, r->n, r->h, r->w, r->c);
    a->u.softmax.dst = operand(b, r->to, r->n, r->h, r->w, r->c);
}

static void run_softmax(const bench *b, const arguments *a)
{
    b->table->softmax(&a->u.softmax, 0, rows_of(&a->u.softmax.dst));
}

static void prepare_lrn(bench *b, const row *r, arguments *a)
{
    a->u.lrn = (ker_lrn_args){.src = operand(b, r->from, r->n, r->h, r->w, r->c),
                              .dst = operand(b, r->to, r->n, r->h, r->w, r->c),
                              .size = 5,
                              .alpha = 1e-4f,
                              .beta = 0.75f,
                              .bias = 1};
}

static void run_lrn(const bench *b, const arguments *a)
{
    b->table->lrn(&a->u.lrn, 0, rows_of(&a->u.lrn.dst));
}

/* Twice the size in both directions, two taps each way. */
static void prepare_resize(bench *b, const row *r, arguments *a)
{
    ker_resize_args *k = &a->u.resize;
    k->src = operand(b, r->from, r->n, r->h / 2, r->w / 2, r->c);
    k->dst = operand(b, r->to, r->n, r->h, r->w, r->c);
    k->y_index = operand(b, KAENA_I32, 1, 1, r->h, 2);
    k->x_index = operand(b, KAENA_I32, 1, 1, r->w, 2);
    k->y_weight = operand(b, KAENA_F32, 1, 1, r->h, 2);
    k->x_weight = operand(b, KAENA_F32, 1, 1, r->w, 2);
    for (uint32_t i = 0; i < 2 * r->h; i++)
        ((int32_t *)(void *)k->y_index.p)[i] = (int32_t)(i / 4);
    for (uint32_t i = 0; i < 2 * r->w; i++)
        ((int32_t *)(void *)k->x_index.p)[i] = (int32_t)(i / 4);
}

static void run_resize(const bench *b, const arguments *a)
{
    b->table->resize(&a->u.resize, 0, rows_of(&a->u.resize.dst));
}

static void prepare_quant(bench *b, const row *r, arguments *a)
{
    a->u.quant = (ker_quant_args){
        .src = operand(b, r->from, r->n, r->h, r->w, r->c),
        .dst = operand(b, r->to, r->n, r->h, r->w, r->c),
        .scaling = {.scale_all = 0.01f, .divide = r->from == KAENA_F32, .high = 100}};
}

static void run_quant(const bench *b, const arguments *a)
{
    b->table->quant(&a->u.quant, 0, rows_of(&a->u.quant.dst));
}

/* w rows of K = |variant| by c columns, four panels a call, drained as a layer's is: BF16 by a bias
 * and a clamp, bytes by a bias and scales of their columns. */
static void prepare_mm(bench *b, const row *r, arguments *a)
{
    ker_mm_args *m = &a->u.mm;
    uint32_t k = (uint32_t)r->variant, size = (uint32_t)kaena_dtype_size(r->from);
    m->x = operand(b, r->from, 1, 1, r->w, k);
    m->dst = operand(b, r->to, 1, 1, r->w, r->c);
    m->dst.count[3] = 64;
    m->w = operand(b, KAENA_F32, 1, 1, k * size / 4, r->c).p;
    m->panel_stride = (int64_t)k * size / 4 * 64;
    m->panels = 4;
    m->n_tiles = 1;
    a->tile.k = k;
    m->ep.scale_all = 1;
    m->ep.func = KAENA_ACT_RELU;
    m->ep.bias = (const float *)(const void *)operand(b, KAENA_F32, 1, 1, 1, r->c).p;
    m->quantise = size == 1;
    m->scaling = (ker_scaling){
        .scale = m->ep.bias, .bias = (const int32_t *)(const void *)m->ep.bias, .high = 127};
}

static void run_mm(const bench *b, const arguments *a)
{
    ker_mm_args m = a->u.mm;
    m.tile = &a->tile;
    for (uint32_t c = 0; c < m.dst.stride[2] / m.dst.stride[3]; c += 64) {
        (m.quantise ? b->table->mm_i8 : b->table->mm_bf16)(&m, 0, m.x.count[2]);
        m.w += 4 * m.panel_stride;
        m.dst.p += 64 * m.dst.stride[3];
    }
}

/* name, kernel, [n][h][w][c], types, variant, stride, FLOP and bytes per element of [n][h][w][c] */
#define ROW(name, kernel, n, h, w, c, from, to, variant, stride, flop, byte)                       \
    {name,                                                                                         \
     prepare_##kernel,                                                                             \
     run_##kernel,                                                                                 \
     n,                                                                                            \
     h,                                                                                            \
     w,                                                                                            \
     c,                                                                                            \
     KAENA_##from,                                                                                 \
     KAENA_##to,                                                                                   \
     variant,                                                                                      \
     stride,                                                                                       \
     (double)(flop)*n * h * w * c,                                                                 \
     (double)(byte)*n * h * w * c},

static const row rows[] = {
    ROW("copy_f32_l1", copy, 1, 1, 1, 3072, F32, F32, 0, 0, 0,
        8) ROW("copy_f32_l2", copy, 1, 1, 1, 65536, F32, F32, 0, 0, 0,
               8) ROW("copy_f32_bf16", copy, 1, 1, 1, 65536, F32, BF16, 0, 0, 0,
                      6) ROW("copy_bf16_f32", copy, 1, 1, 1, 65536, BF16, F32, 0, 0, 0, 6)
        ROW("copy_nchw3_nhwc_bf16", copy, 1, 128, 128, 3, F32, BF16, 1, 0, 0,
            6) ROW("copy_nchw_nhwc_bf16", copy, 1, 28, 28, 64, F32, BF16, 1, 0, 0, 6)
            ROW("copy_nhwc_nchw_f32", copy, 1, 28, 28, 64, BF16, F32, 2, 0, 0,
                6) ROW("fill_bf16", fill, 1, 1, 1, 131072, BF16, BF16, 0, 0, 0, 2)
                ROW("act_bias_relu_f32_bf16", act, 1, 28, 28, 64, F32,
                    BF16, WITH_BIAS, KAENA_ACT_RELU, 2,
                    6) ROW("act_residual_relu_bf16", act, 1, 28, 28, 64, BF16,
                           BF16, WITH_RESIDUAL, KAENA_ACT_RELU, 3, 6)
                    ROW("act_gelu_bf16", act, 1, 1, 128, 512, BF16, BF16, 0, KAENA_ACT_GELU, 0, 4)
                        ROW("act_sigmoid_bf16", act, 1, 1, 128, 512, BF16, BF16, 0,
                            KAENA_ACT_SIGMOID, 0,
                            4) ROW("act_tanh_f32", act, 1, 1, 128, 512, F32, F32, 0, KAENA_ACT_TANH,
                                   0, 8) ROW("act_hard_swish_bf16", act, 1, 28, 28,
                                             64, BF16, BF16, 0, KAENA_ACT_HARD_SWISH, 0, 4)
                            ROW("tt_add_bf16", tt, 1, 28, 28, 64, BF16, BF16, 0, 0, 1, 6) ROW(
                                "tt_mul_channel_bf16", tt, 1, 28, 28, 72, BF16, BF16, 2, 1, 1,
                                4) ROW("tt_add_f32", tt, 1, 28, 28, 64, F32, F32, 0, 0, 1, 12)
                                ROW("maxpool_3x3s2_bf16", window, 1, 28, 28, 64, BF16, BF16, 0, 2,
                                    0, 10) ROW("avgpool_3x3s1_bf16", window, 1, 28, 28, 64, BF16,
                                               BF16, 1, 1, 9, 4)
                                    ROW("dwconv_3x3s1_bf16", dwconv, 1, 28, 28, 96, BF16, BF16, 3,
                                        1, 18, 4) ROW("dwconv_3x3s2_bf16", dwconv, 1, 28, 28, 96,
                                                      BF16, BF16, 3, 2, 18, 10)
                                        ROW("dwconv_3x3s1_7x7_bf16", dwconv, 1, 7, 7, 960, BF16,
                                            BF16, 3, 1, 18, 4) ROW("dwconv_5x5s1_bf16", dwconv, 1,
                                                                   28, 28, 96, BF16, BF16, 5, 1, 50,
                                                                   4)
                                            ROW("dwconv_3x3s1_f32", dwconv, 1, 28, 28, 96, F32, F32,
                                                3, 1, 18, 8) ROW("global_average_bf16", reduce, 1,
                                                                 7, 7, 2048, BF16, F32, 6, 0, 1, 2)
                                                ROW("reduce_rows_f32", reduce, 1, 1, 64, 768, F32,
                                                    F32, 8, 0, 1, 4) ROW("softmax_128_f32", softmax,
                                                                         1, 1, 256, 128, F32, F32,
                                                                         0, 0, 0, 8)
                                                    ROW("softmax_1000_f32", softmax, 1, 1, 16, 1000,
                                                        F32, BF16, 0, 0, 0,
                                                        6) ROW("lrn_5_bf16", lrn, 1, 28, 28, 64,
                                                               BF16, BF16, 0, 0, 0, 4)
                                                        ROW("resize_2x_bf16", resize, 1, 32, 32, 64,
                                                            BF16, BF16, 0, 0, 12,
                                                            2.5) ROW("quantise_f32_u8", quant, 1, 1,
                                                                     128, 512, F32, U8, 0, 0, 0, 5)
                                                            ROW("quantise_i32_s8", quant, 1, 1, 128,
                                                                512, I32, I8, 0, 0, 0, 5)
                                                                ROW("mm_576_bf16", mm, 1, 1, 196,
                                                                    256, BF16, BF16, 576, 0, 1152,
                                                                    0) ROW("mm_576_u8", mm, 1, 1,
                                                                           196, 256, U8, U8, 576, 0,
                                                                           1152, 0)
                                                                    ROW("mm_576_s8", mm, 1, 1, 196,
                                                                        256, I8, I8, 576, 0, 1152,
                                                                        0) ROW("mm_64_bf16", mm, 1,
                                                                               1, 784, 256, BF16,
                                                                               BF16, 64, 0, 128, 0)
                                                                        ROW("mm_64_s8", mm, 1, 1,
                                                                            784, 256, I8, I8, 64, 0,
                                                                            128, 0)};
#undef ROW

/* --- Limits ------------------------------------------------------------------------------ */

#if defined(__clang__)
#define BENCH_UNROLL _Pragma("unroll")
#else
#define BENCH_UNROLL _Pragma("GCC unroll 16")
#endif

/* Multiply-adds in registers: 12 chains of |vector|. */
#define FMA_LOOP(name, flags, vector, set1, fma, add)                                              \
    __attribute__((noinline, target(flags))) static float name(int n)                              \
    {                                                                                              \
        vector acc[12], x = set1(0.999f), y = set1(1e-3f);                                         \
        BENCH_UNROLL                                                                               \
        for (int k = 0; k < 12; k++)                                                               \
            acc[k] = set1((float)k);                                                               \
        for (int i = 0; i < n; i++) {                                                              \
            BENCH_UNROLL                                                                           \
            for (int k = 0; k < 12; k++)                                                           \
                acc[k] = fma(acc[k], x, y);                                                        \
        }                                                                                          \
        BENCH_UNROLL                                                                               \
        for (int k = 1; k < 12; k++)                                                               \
            acc[0] = add(acc[0], acc[k]);                                                          \
        float one;                                                                                 \
        memcpy(&one, acc, sizeof one);                                                             \
        return one;                                                                                \
    }
FMA_LOOP(fma_avx2, "avx2,fma", __m256, _mm256_set1_ps, _mm256_fmadd_ps, _mm256_add_ps)
FMA_LOOP(fma_avx512, "avx512f", __m512, _mm512_set1_ps, _mm512_fmadd_ps, _mm512_add_ps)

static double fma_peak(ker_level level)
{
    enum { N = 20000 };
    volatile float sink = 0;
    double best = 1e30;
    if (level == KER_SCALAR)
        return 0;
    for (int i = 0; i < 200; i++) {
        double t = now_us();
        sink = sink + (level == KER_AVX2 ? fma_avx2(N) : fma_avx512(N));
        t = now_us() - t;
        best = t < best ? t : best;
    }
    return 2.0 * (level == KER_AVX2 ? 8 : 16) * 12 * N / best * 1e-3;
}

/* Least time of one call in microseconds. */
static double least_time(const bench *b, const row *r, const arguments *a)
{
    double best = 1e30, start = now_us();
    for (int i = 0; i < 5 || now_us() - start < 60e3; i++) {
        double t = now_us();
        for (int k = 0; k < 4; k++)
            r->run(b, a);
        t = (now_us() - t) / 4;
        best = t < best ? t : best;
    }
    return best;
}

int main(int argc, char **argv)
{
    enum { MEMORY = 64 << 20 };
    const char *only = argc > 1 ? argv[1] : "";
    double gb_limit[KER_LEVEL_COUNT] = {0}, gflop_limit[KER_LEVEL_COUNT] = {0};
    _Atomic uint32_t bad = 0;
    bench b = {.memory = aligned_alloc(4096, MEMORY)};
    ker_level best;
    if (!b.memory || !ker_level_detect(&best)) {
        fprintf(stderr, "kernels: no memory, or KRT_CPU names no level\n");
        return 1;
    }
    _mm_setcsr(0x1f80 | 0x8040); /* as tpb_run does */
    for (int level = 0; level <= (int)best; level++) {
        gflop_limit[level] = fma_peak((ker_level)level);
        b.table = ker_table_of((ker_level)level);
        for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
            const row *r = &rows[i];
            arguments a = {0};
            /* The second row is the limit of the others: it always runs. */
            if (i != 1 && !strstr(r->name, only))
                continue;
            memset(b.memory, 0, MEMORY / 4);
            b.used = 0;
            r->prepare(&b, r, &a);
            if (r->run == run_resize)
                a.u.resize.bad_index = &bad;
            for (size_t k = 0; k < b.used / 2 && r->run != run_resize; k++)
                ((uint16_t *)(void *)b.memory)[k] = (uint16_t)(0x3f80 + k % 61);
            const double us = least_time(&b, r, &a);
            const double gb = r->bytes / us * 1e-3, gflop = r->flops / us * 1e-3;
            if (i == 1)
                gb_limit[level] = gb;
            if (!strstr(r->name, only))
                continue;
            double floor_us = r->bytes / gb_limit[level] * 1e-3;
            if (gflop_limit[level] > 0 && r->flops / gflop_limit[level] * 1e-3 > floor_us)
                floor_us = r->flops / gflop_limit[level] * 1e-3;
            printf("%-24s %-12s us=%-9.2f GB/s=%-7.1f GFLOP/s=%-7.1f", r->name,
                   ker_level_name((ker_level)level), us, gb, gflop);
            if (gb_limit[level] > 0)
                printf(" share=%.0f%%", 100 * floor_us / us);
            printf("\n");
        }
        printf("limits %s: %.1f GB/s copied inside L2, %.1f GFLOP/s\n",
               ker_level_name((ker_level)level), gb_limit[level], gflop_limit[level]);
    }
    free(b.memory);
    return 0;
}
