/* Matrix kernels: every level against the scalar one bit for bit, which is compared with the
 * definition; shapes around the register tiles, row patterns, odd K, special values, guard pages.
 */
#include <math.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <xmmintrin.h>

#include "ker.h"
#include "ktest.h"

#define MXCSR_RUN 0x9fc0 /* DAZ, FTZ, to nearest, all exceptions masked */
#define MAX_TILES 4
#define MAX_ROWS 160

static uint64_t seed = 20240607;

static uint32_t rnd(uint32_t n)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(seed >> 33) % n;
}

/* --- Memory that ends, or starts, at a page nobody may touch ------------------------------------
 */

typedef struct guarded {
    uint8_t *map, *p;
    size_t size, mapped;
} guarded;

static guarded guard(size_t size, bool at_end)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE), body = (size + page - 1) / page * page;
    guarded g = {.size = size, .mapped = body + 2 * page};
    g.map = mmap(NULL, g.mapped, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    cr_assert(g.map != MAP_FAILED);
    cr_assert(mprotect(g.map + page, body, PROT_READ | PROT_WRITE) == 0);
    g.p = at_end ? g.map + page + body - size : g.map + page;
    return g;
}

static void unguard(guarded *g)
{
    cr_assert(munmap(g->map, g->mapped) == 0);
}

/* --- A random problem --------------------------------------------------------------------------
 */

typedef struct problem {
    kaena_dtype x_type, w_type;
    uint32_t element, pair, rows, k_rows;
    ker_mm_tile tile[MAX_TILES];
    guarded x, w, residual, scale, bias;
    size_t dst_bytes;
    bool in_place; /* the sum is written where the residual lies */
    ker_mm_args a; /* dst.p and psum not set */
} problem;

static float special(uint32_t kind)
{
    static const float values[] = {NAN, INFINITY, -INFINITY, 0.0f, -0.0f, 1e-39f, -3e-39f, 3e38f};
    return kind < 8 ? values[kind] : 0;
}

static void put(uint8_t *p, kaena_dtype t, float v)
{
    uint16_t h = t == KAENA_BF16 ? kaena_bf16_from_f32(v) : kaena_f16_from_f32(v);
    if (t == KAENA_F32)
        memcpy(p, &v, 4);
    else if (t == KAENA_I8 || t == KAENA_U8)
        *p = (uint8_t)rnd(256);
    else
        memcpy(p, &h, 2);
}

/* One value in |specials| is special (0: none). */
static void fill(guarded *g, kaena_dtype t, uint32_t specials)
{
    size_t element = kaena_dtype_size(t);
    for (size_t i = 0; i + element <= g->size; i += element) {
        float v = (float)((int32_t)rnd(20001) - 10000) * (rnd(20) ? 1e-4f : 1e-20f);
        put(g->p + i, t, specials && rnd(specials) == 0 ? special(rnd(8)) : v);
    }
}

static size_t reach(const ker_ap *ap, uint32_t dims, size_t last)
{
    size_t end = last;
    for (uint32_t i = 0; i < dims; i++)
        end += (ap->count[i] - 1) * (size_t)ap->stride[i];
    return end;
}

/* Strides of |dims| dimensions, outermost first, over elements of |inner| bytes; gaps now and then.
 */
static void lay_out(ker_ap *ap, int dims, size_t inner, size_t element)
{
    for (int i = dims - 1; i >= 0; i--) {
        ap->stride[i] = (int64_t)(inner + (rnd(3) ? 0 : element * rnd(40)));
        inner = (size_t)ap->stride[i] * ap->count[i];
    }
}

static void make_operand(ker_ap *ap, const problem *p, uint32_t columns, kaena_dtype t)
{
    size_t element = kaena_dtype_size(t);
    memcpy(ap->count, p->a.x.count, 3 * sizeof ap->count[0]);
    ap->count[3] = columns;
    ap->dtype = t;
    ap->stride[3] = (int64_t)element * (rnd(8) ? 1 : 3);
    lay_out(ap, 3, (size_t)ap->stride[3] * columns, element);
}

static problem make_problem(kaena_dtype x_type, uint32_t specials)
{
    problem p = {.x_type = x_type, .w_type = x_type == KAENA_U8 ? KAENA_I8 : x_type};
    bool at_end = rnd(2);
    p.element = (uint32_t)kaena_dtype_size(x_type);
    p.pair = 4 / p.element;
    ker_mm_args *a = &p.a;
    a->panels = 1 + rnd(4);
    a->x.dtype = x_type;
    do {
        a->x.count[0] = 1 + (rnd(4) == 0) * rnd(3);
        a->x.count[1] = 1 + (rnd(2) == 0) * rnd(9);
        a->x.count[2] = 1 + rnd(rnd(4) ? 30 : 60);
        p.rows = a->x.count[0] * a->x.count[1] * a->x.count[2];
    } while (p.rows > MAX_ROWS);
    a->n_tiles = 1 + rnd(MAX_TILES);
    a->tile = NULL;
    size_t x_end = 0;
    for (uint32_t t = 0; t < a->n_tiles; t++) {
        uint32_t k = rnd(3) ? 1 + rnd(40) : 2 * (1 + rnd(30));
        size_t at = x_end + (rnd(2) ? 0 : p.element * rnd(9));
        p.tile[t] = (ker_mm_tile){.x_offset = (int64_t)at, .w_offset = p.k_rows * 64, .k = k};
        p.k_rows += (k + p.pair - 1) / p.pair;
        x_end = at + (size_t)k * p.element;
    }
    a->x.count[3] = 1;
    lay_out(&a->x, 3, x_end, p.element);
    p.x = guard(reach(&a->x, 3, x_end), at_end);
    fill(&p.x, x_type, specials);
    a->panel_stride = (int64_t)p.k_rows * 64 + 64 * rnd(2);
    p.w = guard((size_t)a->panel_stride * (a->panels - 1) + p.k_rows * 64, at_end);
    fill(&p.w, p.w_type, specials);
    a->x.p = p.x.p;
    a->w = p.w.p;

    static const kaena_dtype outs[] = {KAENA_F32, KAENA_BF16, KAENA_F16};
    kaena_dtype out = rnd(2) || p.element == 1 ? outs[rnd(3)] : x_type;
    uint32_t columns = a->panels * 16 - (rnd(2) ? 0 : rnd(16));
    make_operand(&a->dst, &p, columns, out);
    p.dst_bytes = reach(&a->dst, 4, kaena_dtype_size(out));
    if (rnd(2)) {
        p.in_place = rnd(3) == 0;
        make_operand(&a->residual, &p, columns, rnd(3) ? out : outs[rnd(3)]);
        if (p.in_place)
            a->residual = a->dst;
        p.residual = guard(reach(&a->residual, 4, kaena_dtype_size(a->residual.dtype)), at_end);
        fill(&p.residual, a->residual.dtype, specials);
        a->residual.p = p.residual.p;
    }
    p.scale = guard(columns * 4, at_end);
    p.bias = guard(columns * 4, at_end);
    fill(&p.scale, KAENA_F32, specials);
    fill(&p.bias, KAENA_F32, specials);
    static const kaena_act funcs[] = {KAENA_ACT_IDENTITY, KAENA_ACT_RELU, KAENA_ACT_CLIP,
                                      KAENA_ACT_LEAKY_RELU, KAENA_ACT_SIGMOID};
    a->ep = (ker_epilogue){.scale = rnd(3) ? NULL : (const float *)(const void *)p.scale.p,
                           .bias = rnd(3) ? (const float *)(const void *)p.bias.p : NULL,
                           .scale_all = rnd(2) ? 1.0f : 0.37f,
                           .bias_all = rnd(2) ? 0.0f : -0.6f,
                           .func = funcs[rnd(5)],
                           .alpha = -0.125f,
                           .beta = 0.75f,
                           .residual_after = rnd(4) == 0};
    return p;
}

static void free_problem(problem *p)
{
    unguard(&p->x);
    unguard(&p->w);
    unguard(&p->scale);
    unguard(&p->bias);
    if (p->a.residual.p)
        unguard(&p->residual);
}

/* --- Running and comparing ---------------------------------------------------------------------
 */

typedef void (*kernel)(const ker_mm_args *a, uint32_t row0, uint32_t row1);

static kernel kernel_of(const ker_table *t, kaena_dtype x)
{
    return x == KAENA_BF16  ? t->mm_bf16
           : x == KAENA_F16 ? t->mm_f16
           : x == KAENA_F32 ? t->mm_f32
                            : t->mm_i8;
}

static bool same(const uint8_t *a, const uint8_t *b, size_t size, kaena_dtype t, size_t *at)
{
    size_t element = kaena_dtype_size(t);
    for (size_t i = 0; i + element <= size; i += element) {
        if (memcmp(a + i, b + i, element) == 0)
            continue;
        float x = 0, y = 0;
        kaena_cast(&x, KAENA_F32, a + i, t, 1);
        kaena_cast(&y, KAENA_F32, b + i, t, 1);
        if (t != KAENA_I32 && t != KAENA_BF16 && isnan(x) && isnan(y)) /* BF16 has one NaN */
            continue;
        *at = i / element;
        return false;
    }
    return true;
}

/* Into PSUM, in |parts| calls; tile by tile if |apart|. */
static void into_psum(problem *p, const ker_table *t, uint32_t parts, bool apart, float *psum)
{
    ker_mm_args a = p->a;
    a.psum = psum;
    for (uint32_t tile = 0; tile < (apart ? p->a.n_tiles : 1); tile++) {
        a.tile = p->tile + tile;
        a.n_tiles = apart ? 1 : p->a.n_tiles;
        a.accumulate = tile > 0;
        for (uint32_t i = 0; i < parts; i++)
            kernel_of(t, p->x_type)(&a, p->rows * i / parts, p->rows * (i + 1) / parts);
    }
}

/* What |dst| holds before the sum is written there. */
static void prepare(const problem *p, uint8_t *dst)
{
    if (p->in_place)
        memcpy(dst, p->residual.p, p->dst_bytes);
    else
        memset(dst, 0, p->dst_bytes);
}

static void through_epilogue(problem *p, const ker_table *t, uint32_t parts, uint8_t *dst)
{
    ker_mm_args a = p->a;
    prepare(p, dst);
    if (p->in_place)
        a.residual.p = dst;
    a.tile = p->tile;
    a.dst.p = dst;
    a.next_w = rnd(2) ? p->w.p : NULL;
    for (uint32_t i = 0; i < parts; i++)
        kernel_of(t, p->x_type)(&a, p->rows * i / parts, p->rows * (i + 1) / parts);
}

static void psum_then_act(problem *p, const ker_table *t, float *psum, uint8_t *dst)
{
    ker_act_args act = {.dst = p->a.dst, .residual = p->a.residual, .ep = p->a.ep};
    act.dst.p = dst;
    prepare(p, dst);
    if (p->in_place)
        act.residual.p = dst;
    act.src = p->a.dst;
    act.src.p = (uint8_t *)psum;
    act.src.dtype = p->element == 1 ? KAENA_I32 : KAENA_F32;
    act.src.stride[3] = 4;
    act.src.stride[2] = 256;
    act.src.stride[1] = 256 * (int64_t)p->a.dst.count[2];
    act.src.stride[0] = act.src.stride[1] * p->a.dst.count[1];
    t->act(&act, 0, p->rows);
}

static const kaena_dtype types[] = {KAENA_BF16, KAENA_F16, KAENA_F32, KAENA_I8, KAENA_U8};

static void compare_levels(kaena_dtype type, uint32_t specials)
{
    problem p = make_problem(type, specials);
    kaena_dtype acc = p.element == 1 ? KAENA_I32 : KAENA_F32;
    size_t psum_bytes = (size_t)p.rows * 256, at = 0;
    float *want = calloc(1, psum_bytes), *got = calloc(1, psum_bytes);
    guarded dst_want = guard(p.dst_bytes, true), dst_got = guard(p.dst_bytes, true);
    const ker_table *scalar = ker_table_of(KER_SCALAR);
    into_psum(&p, scalar, 1, true, want);
    psum_then_act(&p, scalar, want, dst_want.p);
    for (ker_level l = KER_SCALAR; l < KER_LEVEL_COUNT; l = (ker_level)(l + 1)) {
        if (!ker_level_supported(l))
            continue;
        const ker_table *t = ker_table_of(l);
        memset(got, 0, psum_bytes);
        into_psum(&p, t, 1 + rnd(3), rnd(2), got);
        cr_assert(same((uint8_t *)want, (uint8_t *)got, psum_bytes, acc, &at),
                  "%s %s: psum row %zu column %zu of %u rows, %u panels", ker_level_name(l),
                  kaena_dtype_name(type), at / 64, at % 64, p.rows, p.a.panels);
        through_epilogue(&p, t, 1 + rnd(3), dst_got.p);
        cr_assert(same(dst_want.p, dst_got.p, p.dst_bytes, p.a.dst.dtype, &at),
                  "%s %s: dst element %zu of %u rows, %u columns, func %s, residual %d",
                  ker_level_name(l), kaena_dtype_name(type), at, p.rows, p.a.dst.count[3],
                  kaena_act_name(p.a.ep.func), p.a.residual.p != NULL);
    }
    free(want);
    free(got);
    unguard(&dst_want);
    unguard(&dst_got);
    free_problem(&p);
}

KTEST(mm, levels_agree)
{
    _mm_setcsr(MXCSR_RUN);
    for (int i = 0; i < 1500; i++)
        compare_levels(types[i % 5], 0);
    _mm_setcsr(0x1f80);
}

KTEST(mm, levels_agree_on_special_values)
{
    _mm_setcsr(MXCSR_RUN);
    for (int i = 0; i < 600; i++)
        compare_levels(types[i % 5], i % 2 ? 40 : 1000);
    _mm_setcsr(0x1f80);
}

/* The definition: pairs ascending, odd element first, the missing partner +0. */
static float defined(const problem *p, const uint8_t *row, uint32_t column, int32_t *whole)
{
    float acc = 0;
    uint32_t sum = 0;
    const uint8_t *w = p->w.p + column / 16 * p->a.panel_stride;
    for (uint32_t t = 0; t < p->a.n_tiles; t++) {
        const ker_mm_tile *tile = &p->tile[t];
        for (uint32_t k0 = 0; k0 < tile->k; k0 += p->pair) {
            for (uint32_t e = p->pair; e-- > 0;) {
                float xv = 0, wv;
                const uint8_t *wp = w + tile->w_offset + k0 / p->pair * 64 + column % 16 * 4;
                kaena_cast(&wv, KAENA_F32, wp + e * p->element, p->w_type, 1);
                if (k0 + e < tile->k)
                    kaena_cast(&xv, KAENA_F32, row + tile->x_offset + (k0 + e) * p->element,
                               p->x_type, 1);
                if (p->element == 1)
                    sum += (uint32_t)((int32_t)xv * (int32_t)wv);
                else
                    acc = fmaf(xv, wv, acc);
            }
        }
    }
    *whole = (int32_t)sum;
    return acc;
}

KTEST(mm, scalar_is_the_definition)
{
    for (int i = 0; i < 100; i++) {
        problem p = make_problem(types[i % 5], 0);
        float *psum = calloc(p.rows, 256);
        _mm_setcsr(MXCSR_RUN);
        into_psum(&p, ker_table_of(KER_SCALAR), 1, false, psum);
        const uint32_t *c = p.a.x.count;
        for (uint32_t r = 0; r < p.rows; r++) {
            const uint8_t *row = p.x.p + r / (c[1] * c[2]) * p.a.x.stride[0] +
                                 r / c[2] % c[1] * p.a.x.stride[1] + r % c[2] * p.a.x.stride[2];
            for (uint32_t j = 0; j < p.a.panels * 16; j++) {
                int32_t whole, got;
                float acc = defined(&p, row, j, &whole);
                memcpy(&got, &psum[r * 64 + j], 4);
                int32_t want = p.element == 1 ? whole : (int32_t)kaena_f32_bits(acc);
                cr_assert(got == want, "%s row %u column %u: %x, not %x",
                          kaena_dtype_name(p.x_type), r, j, got, want);
            }
        }
        _mm_setcsr(0x1f80);
        free(psum);
        free_problem(&p);
    }
}

/* Every count of rows up to some register tiles, every number of panels. */
KTEST(mm, every_tile)
{
    _mm_setcsr(MXCSR_RUN);
    for (int type = 0; type < 4; type++) {
        problem p = make_problem(types[type], 0);
        ker_ap pattern = p.a.x;
        for (uint32_t rows = 1; rows <= 30; rows++) {
            /* All rows the same, so that any number of them fits the buffer. */
            p.rows = rows;
            p.a.x.count[0] = p.a.x.count[1] = 1;
            p.a.x.count[2] = rows;
            p.a.x.stride[2] = 0;
            float *want = calloc(rows, 256), *got = calloc(rows, 256);
            for (ker_level l = KER_SCALAR; l < KER_LEVEL_COUNT; l = (ker_level)(l + 1)) {
                if (!ker_level_supported(l))
                    continue;
                size_t at;
                into_psum(&p, ker_table_of(l), 1, false, l == KER_SCALAR ? want : got);
                cr_assert(l == KER_SCALAR || memcmp(want, got, rows * 256) == 0 ||
                              same((uint8_t *)want, (uint8_t *)got, rows * 256,
                                   type == 3 ? KAENA_I32 : KAENA_F32, &at),
                          "%s: %u rows, %u panels", ker_level_name(l), rows, p.a.panels);
            }
            free(want);
            free(got);
        }
        p.a.x = pattern;
        free_problem(&p);
    }
    _mm_setcsr(0x1f80);
}
