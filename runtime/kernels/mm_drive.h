/* What the matmul kernels of every level share: the block a register tile works on, and the walk
 * over rows and panels that hands blocks to tiles.
 *
 * A level instantiates mm_body.h per element type; that gives one function per tile (rows x
 * panels) and a table of them. Everything here is static inline, because the same source is
 * compiled with other flags for each level. */
#ifndef KAENA_KER_MM_DRIVE_H
#define KAENA_KER_MM_DRIVE_H

#include <math.h>
#include <string.h>

#include "ker_levels.h"

#define MM_MAX_ROWS 14                /* of a register tile */
#define MM_PANEL 16                   /* columns */
#define MM_PANEL_ROW 64               /* bytes */
#define MM_C_COLUMNS KER_TILE_COLUMNS /* from a row of PSUM, or of the tile, to the next */
#define MM_STACK_ROWS 56              /* of the tile that is drained */
#define MM_FETCH_ROWS 16              /* panel rows from a prefetch to its use */
#define MM_ZEROS 512                  /* bytes of a moving row of zeros */
#define MM_STEP 4 /* bytes of a moving row per panel row: 1 F32, 2 BF16 or F16, 4 INT8 */

#if defined(__clang__)
#define MM_UNROLL _Pragma("clang loop unroll(full)")
#define MM_TILE_FUNCTION __attribute__((noinline)) static
#else
#define MM_UNROLL _Pragma("GCC unroll 16")
/* noipa: GCC would clone tiles for strides it believes to be constant. */
#define MM_TILE_FUNCTION __attribute__((noipa)) static
#endif
#define MM_INLINE static inline __attribute__((always_inline))

/* One register tile: some rows by 1..4 panels, all of K. */
typedef struct mm_block {
    const uint8_t *row[MM_MAX_ROWS]; /* moving */
    const uint8_t *w;
    int64_t panel_stride;
    const ker_mm_tile *tile;
    uint32_t n_tiles;
    uint32_t flip; /* INT8: exclusive-or that makes four moving elements unsigned */
    /* INT8: what the accumulators start from, [panels * 16]: takes back the offset of |flip|. */
    const int32_t *start;
    /* Prefetch distance from a panel row of this block to one of the next weights; 0: none. */
    int64_t ahead;
    /* Accumulators go to c + 64 * row, and come from there if |accumulate| ... */
    float *c;
    bool accumulate;
    /* ... unless finish: bias, residual and clamp in registers, dst of the family's own type or,
     * |floats|, F32; so the residual: F32 if |wide|. */
    bool finish, floats, wide;
    bool has_residual;
    uint8_t *dst[MM_MAX_ROWS];
    const uint8_t *residual[MM_MAX_ROWS];
    const float *scale, *bias; /* [panels * 16] */
    float low, high;
} mm_block;

typedef void (*mm_tile_function)(const mm_block *b);

/* The tiles of an element type on a level. */
typedef struct mm_family {
    uint32_t panels;                                 /* most panels of a tile */
    uint32_t rows[5];                                /* most rows of a tile, by panels */
    const mm_tile_function (*tile)[MM_MAX_ROWS + 1]; /* [panels][rows] */
    kaena_dtype finish; /* dst type that tiles finish in registers besides F32; NONE: no such */
    bool integer;
    void (*drain)(const ker_drain_args *a);
    void (*quant)(const ker_quant_args *a, uint32_t row0, uint32_t row1);
} mm_family;

/* Walks rows in order. */
typedef struct mm_cursor {
    const ker_mm_args *a;
    uint32_t i1, i2;
    int64_t x, dst, residual; /* byte offsets of the row */
    int64_t x_line, dst_line, residual_line, x_plane, dst_plane, residual_plane;
} mm_cursor;

static inline void mm_cursor_init(mm_cursor *c, const ker_mm_args *a, uint32_t row)
{
    const uint32_t c1 = a->x.count[1], c2 = a->x.count[2];
    uint32_t i2 = row, i1 = 0, i0 = 0;
    if (row >= c2) {
        i2 = row % c2;
        i1 = row / c2 % c1;
        i0 = row / c2 / c1;
    }
    c->a = a;
    c->i1 = i1;
    c->i2 = i2;
#define MM_AT(ap, i0, i1, i2)                                                                      \
    ((int64_t)(i0) * (ap).stride[0] + (int64_t)(i1) * (ap).stride[1] +                             \
     (int64_t)(i2) * (ap).stride[2])
    c->x = MM_AT(a->x, i0, i1, i2);
    c->x_line = MM_AT(a->x, 0, 1, 0) - MM_AT(a->x, 0, 0, c2);
    c->x_plane = MM_AT(a->x, 1, 0, 0) - MM_AT(a->x, 0, c1, 0);
    c->dst = MM_AT(a->dst, i0, i1, i2);
    c->dst_line = MM_AT(a->dst, 0, 1, 0) - MM_AT(a->dst, 0, 0, c2);
    c->dst_plane = MM_AT(a->dst, 1, 0, 0) - MM_AT(a->dst, 0, c1, 0);
    c->residual = MM_AT(a->residual, i0, i1, i2);
    c->residual_line = MM_AT(a->residual, 0, 1, 0) - MM_AT(a->residual, 0, 0, c2);
    c->residual_plane = MM_AT(a->residual, 1, 0, 0) - MM_AT(a->residual, 0, c1, 0);
#undef MM_AT
}

static inline void mm_cursor_next(mm_cursor *c)
{
    c->x += c->a->x.stride[2];
    c->dst += c->a->dst.stride[2];
    c->residual += c->a->residual.stride[2];
    if (++c->i2 < c->a->x.count[2])
        return;
    c->i2 = 0;
    c->x += c->x_line;
    c->dst += c->dst_line;
    c->residual += c->residual_line;
    if (++c->i1 < c->a->x.count[1])
        return;
    c->i1 = 0;
    c->x += c->x_plane;
    c->dst += c->dst_plane;
    c->residual += c->residual_plane;
}

/* Address arithmetic that may pass outside the operand on the way. */
static inline uint8_t *mm_at(const void *p, int64_t offset)
{
    return (uint8_t *)((uintptr_t)p + (uintptr_t)offset);
}

/* 128 times the column sums of the weights, negated: what a signed moving operand is off by when
 * its elements are read as unsigned with 128 added. A row of zeros, so read, multiplies them. Pad
 * elements count on both sides. |b| has weights and flip. */
static inline void mm_offset_columns(const ker_mm_args *a, const mm_family *f, mm_block b,
                                     int32_t *out)
{
    static const uint8_t zeros[MM_ZEROS];
    _Alignas(64) float c[MM_C_COLUMNS];
    memset(c, 0, sizeof c);
    b.n_tiles = 1;
    b.row[0] = zeros;
    b.c = c;
    b.accumulate = true;
    for (uint32_t t = 0; t < a->n_tiles; t++)
        for (uint32_t k = 0; k < a->tile[t].k; k += MM_ZEROS) {
            const uint32_t left = a->tile[t].k - k;
            const ker_mm_tile piece = {.w_offset = a->tile[t].w_offset + k / MM_STEP * MM_PANEL_ROW,
                                       .k = left < MM_ZEROS ? left : MM_ZEROS};
            b.tile = &piece;
            f->tile[a->panels][1](&b);
        }
    for (uint32_t i = 0; i < a->panels * MM_PANEL; i++) {
        uint32_t sum;
        memcpy(&sum, &c[i], sizeof sum);
        out[i] = (int32_t)(0u - sum);
    }
}

/* Accumulators that come from PSUM do not start from |start|: it is added to them there. */
static inline void mm_add_start(const ker_mm_args *a, const int32_t *start, uint32_t row0,
                                uint32_t row1)
{
    for (uint32_t row = row0; row < row1; row++) {
        for (uint32_t c = 0; c < a->panels * MM_PANEL; c++) {
            uint32_t sum;
            float *at = a->psum + (size_t)row * MM_C_COLUMNS + c;
            memcpy(&sum, at, sizeof sum);
            sum += (uint32_t)start[c];
            memcpy(at, &sum, sizeof sum);
        }
    }
}

static inline int64_t mm_bytes(kaena_dtype of_finish)
{
    return of_finish == KAENA_F32 ? 4 : 2;
}

/* The in-register epilogue covers this call. */
static inline bool mm_can_finish(const ker_mm_args *a, const mm_family *f)
{
    const ker_epilogue *ep = &a->ep;
    const kaena_dtype dst = a->dst.dtype, residual = a->residual.dtype;
    if (f->finish == KAENA_DTYPE_NONE || a->quantise || (dst != f->finish && dst != KAENA_F32))
        return false;
    if (a->dst.count[3] != a->panels * MM_PANEL || a->dst.stride[3] != mm_bytes(dst))
        return false;
    if (ep->func != KAENA_ACT_IDENTITY && ep->func != KAENA_ACT_RELU && ep->func != KAENA_ACT_CLIP)
        return false;
    return !a->residual.p || ((residual == dst || residual == f->finish) && !ep->residual_after &&
                              a->residual.stride[3] == mm_bytes(residual));
}

/* Drains rows [row0, row1) from the tile |c|; |dst_at| and |residual_at| are theirs. */
static inline void mm_drain(const ker_mm_args *a, const mm_family *f, const float *c,
                            const int64_t *dst_at, const int64_t *residual_at, uint32_t row0,
                            uint32_t row1)
{
    if (!a->quantise) {
        f->drain(&(ker_drain_args){.c = c,
                                   .rows = row1 - row0,
                                   .columns = a->dst.count[3],
                                   .integer = f->integer,
                                   .ep = a->ep,
                                   .dst = a->dst.p,
                                   .residual = a->residual.p,
                                   .dst_at = dst_at,
                                   .residual_at = residual_at,
                                   .dst_type = a->dst.dtype,
                                   .residual_type = a->residual.dtype,
                                   .dst_stride = a->dst.stride[3],
                                   .residual_stride = a->residual.stride[3]});
        return;
    }
    const int64_t stride = MM_C_COLUMNS * (int64_t)sizeof(float);
    ker_ap src = {.p = mm_at(c, -(int64_t)row0 * stride), .dtype = KAENA_I32};
    memcpy(src.count, a->dst.count, sizeof src.count);
    src.stride[3] = sizeof(float);
    src.stride[2] = stride;
    src.stride[1] = stride * a->dst.count[2];
    src.stride[0] = src.stride[1] * a->dst.count[1];
    f->quant(&(ker_quant_args){src, a->dst, a->scaling}, row0, row1);
}

/* Rows [row0, row1) of a call whose panels fit one tile. */
static inline void mm_rows(const ker_mm_args *a, const mm_family *f, uint32_t row0, uint32_t row1)
{
    int32_t start[4 * MM_PANEL];
    float scale[4 * MM_PANEL], bias[4 * MM_PANEL];
    _Alignas(64) float c[MM_STACK_ROWS * MM_C_COLUMNS];
    mm_block b = {.w = a->w, .panel_stride = a->panel_stride, .tile = a->tile};
    b.n_tiles = a->n_tiles;
    b.start = start;
    b.accumulate = a->psum && a->accumulate;
    b.finish = !a->psum && mm_can_finish(a, f);
    b.floats = a->dst.dtype == KAENA_F32;
    b.wide = a->residual.p && a->residual.dtype == KAENA_F32;
    b.has_residual = a->residual.p != NULL;
    b.scale = scale;
    b.bias = bias;
    b.low = a->ep.func == KAENA_ACT_RELU   ? 0.0f
            : a->ep.func == KAENA_ACT_CLIP ? a->ep.alpha
                                           : -INFINITY;
    b.high = a->ep.func == KAENA_ACT_CLIP ? a->ep.beta : INFINITY;
    if (f->integer)
        memset(start, 0, sizeof start);
    if (f->integer && a->x.dtype == KAENA_I8) {
        b.flip = 0x80808080;
        mm_offset_columns(a, f, b, start);
        if (b.accumulate)
            mm_add_start(a, start, row0, row1);
    }
    for (uint32_t i = 0; b.finish && i < a->panels * MM_PANEL; i++) {
        scale[i] = a->ep.scale ? a->ep.scale[i] : a->ep.scale_all;
        bias[i] = a->ep.bias ? a->ep.bias[i] : a->ep.bias_all;
    }

    const mm_tile_function *tile = f->tile[a->panels];
    uint32_t most = f->rows[a->panels];
    uint32_t blocks = (row1 - row0 + most - 1) / most, block = 0;
    uint32_t least = (row1 - row0) / blocks, larger = (row1 - row0) % blocks;
    bool drain = !a->psum && !b.finish;
    uint32_t drained = row0; /* rows before it have left the tile */
    int64_t dst_at[MM_STACK_ROWS], residual_at[MM_STACK_ROWS];
    mm_cursor at;
    mm_cursor_init(&at, a, row0);
    for (uint32_t row = row0; row < row1; block++) {
        uint32_t n = least + (block < larger);
        if (drain && row + n - drained > MM_STACK_ROWS) {
            mm_drain(a, f, c, dst_at, residual_at, drained, row);
            drained = row;
        }
        for (uint32_t i = 0; i < n; i++) {
            b.row[i] = a->x.p + at.x;
            if (b.finish) {
                b.dst[i] = a->dst.p + at.dst;
                b.residual[i] = a->residual.p ? a->residual.p + at.residual : b.dst[i];
            } else if (drain) {
                dst_at[row + i - drained] = at.dst;
                residual_at[row + i - drained] = at.residual;
            }
            mm_cursor_next(&at);
        }
        b.ahead = 0;
        if (a->next_w && block < a->panels)
            b.ahead = (int64_t)((uintptr_t)a->next_w - (uintptr_t)a->w) + block * a->panel_stride;
        b.c = a->psum ? a->psum + (size_t)row * MM_C_COLUMNS
                      : c + (size_t)(row - drained) * MM_C_COLUMNS;
        tile[n](&b);
        row += n;
    }
    if (drain)
        mm_drain(a, f, c, dst_at, residual_at, drained, row1);
}

/* A kernel: splits the panels as the level's tiles need it. */
static inline void mm_run(const ker_mm_args *a, const mm_family *f, uint32_t row0, uint32_t row1)
{
    if (row0 >= row1)
        return;
    if (a->panels <= f->panels && (a->psum || a->dst.count[3] <= a->panels * MM_PANEL)) {
        mm_rows(a, f, row0, row1);
        return;
    }
    for (uint32_t p = 0; p < a->panels; p += f->panels) {
        ker_mm_args part = *a;
        uint32_t column = p * MM_PANEL;
        part.panels = a->panels - p < f->panels ? a->panels - p : f->panels;
        part.w = a->w + p * a->panel_stride;
        part.next_w = a->next_w ? a->next_w + p * a->panel_stride : NULL;
        if (a->psum) {
            part.psum = a->psum + column;
        } else {
            if (column >= a->dst.count[3])
                break;
            if (a->dst.count[3] - column < part.panels * MM_PANEL)
                part.dst.count[3] = a->dst.count[3] - column;
            else
                part.dst.count[3] = part.panels * MM_PANEL;
            part.dst.p = a->dst.p + column * a->dst.stride[3];
            if (a->residual.p)
                part.residual.p = a->residual.p + column * a->residual.stride[3];
            part.residual.count[3] = part.dst.count[3];
            part.ep.scale = a->ep.scale ? a->ep.scale + column : NULL;
            part.ep.bias = a->ep.bias ? a->ep.bias + column : NULL;
            part.scaling.scale = a->scaling.scale ? a->scaling.scale + column : NULL;
            part.scaling.bias = a->scaling.bias ? a->scaling.bias + column : NULL;
        }
        mm_rows(&part, f, row0, row1);
    }
}

/* Defines ker_mm_<type>_<level> over the tiles of mm_body.h; |rows| is {0, most rows by panels}. */
#define MM_KERNEL(type, level, most_panels, most_rows, finish_type, is_integer)                    \
    void ker_mm_##type##_##level(const ker_mm_args *a, uint32_t row0, uint32_t row1)               \
    {                                                                                              \
        static const mm_family family = {.panels = (most_panels),                                  \
                                         .rows = most_rows,                                        \
                                         .tile = type##_tiles,                                     \
                                         .finish = (finish_type),                                  \
                                         .integer = (is_integer),                                  \
                                         .drain = ker_drain_##level,                               \
                                         .quant = ker_quant_##level};                              \
        mm_run(a, &family, row0, row1);                                                            \
    }

#endif
