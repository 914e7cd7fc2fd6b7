/* The register tiles of one element type on one level: include once per type, after defining
 *
 *   MM_NAME            prefix of the functions
 *   MM_VEC, MM_LANES   accumulator vector and its columns (16, 8 or 1)
 *   MM_OPERAND         vector of prepared weights and moving elements
 *   MM_PHASES          multiply-adds per panel row: 1, or 2 (pairs odd, then even)
 *   MM_PAIR            elements of K per panel row
 *   MM_W(phase, p)     MM_LANES columns of a panel row, prepared for a phase; |p| is their address
 *   MM_X(phase, bits, flip)  four bytes of a moving row, broadcast and prepared
 *   MM_DOT(acc, x, w)  the multiply-add
 *   MM_TILES(TILE)     TILE(rows, panels) of every tile
 *   MM_START(p)        a first accumulator (p: int32_t const *, INT8's start)
 *   MM_LOAD(p), MM_STORE(p, v)        accumulators in memory
 *   MM_VF(v)           MM_PARTS vectors at v as one vf of simd.h
 *   MM_FINISH          optional: bytes of a dst element of the type finished in registers, with
 *   MM_WIDEN(p)        its 16 elements at p as floats, and
 *   MM_NARROW(p, y)    their store;
 *   MM_NARROW2(p, y, z) optional: 32 at once
 *
 * All loops over rows and panels have constant counts after inlining, so accumulators live in
 * registers. This header undefines everything it was given. */

#define MM_PASTE2(a, b) a##b
#define MM_PASTE(a, b) MM_PASTE2(a, b)
#define MM_PARTS (MM_PANEL / MM_LANES)
#define MM_ID(suffix) MM_PASTE(MM_NAME, suffix)

/* One panel row of every panel into all accumulators. */
MM_INLINE void MM_ID(_step)(MM_VEC acc[][4 * MM_PARTS], const int rows, const int panels,
                            const uint8_t *w, int64_t stride, const uint32_t *x, uint32_t flip)
{
    (void)flip; /* INT8 only */
    MM_UNROLL for (int phase = 0; phase < MM_PHASES; phase++)
    {
        MM_OPERAND wv[4 * MM_PARTS];
        MM_UNROLL for (int j = 0; j < panels; j++)
        {
            MM_UNROLL for (int q = 0; q < MM_PARTS; q++) wv[j * MM_PARTS + q] =
                MM_W(phase, w + j * stride + q * (MM_PANEL_ROW / MM_PARTS));
        }
        MM_UNROLL for (int i = 0; i < rows; i++)
        {
            const MM_OPERAND xv = MM_X(phase, x[i], flip);
            MM_UNROLL for (int j = 0; j < panels * MM_PARTS; j++) acc[i][j] =
                MM_DOT(acc[i][j], xv, wv[j]);
        }
    }
}

#ifdef MM_FINISH
/* clamp(fma(acc, scale, bias) [+ residual]): IDENTITY and RELU are clamps too, as in act. */
MM_INLINE vf MM_ID(_finish)(const mm_block *b, const MM_VEC *acc, int i, int j)
{
    vf y = v_fma(MM_VF(acc + j * MM_PARTS), vi_as_vf(vi_load(b->scale + j * MM_PANEL)),
                 vi_as_vf(vi_load(b->bias + j * MM_PANEL)));
    if (b->has_residual)
        y = v_add(y, MM_WIDEN(b->residual[i] + j * MM_PANEL * MM_FINISH));
    return v_min(v_set1(b->high), v_max(v_set1(b->low), y));
}
#endif

MM_INLINE void MM_ID(_tile)(const mm_block *b, const int rows, const int panels)
{
    MM_VEC acc[MM_MAX_ROWS][4 * MM_PARTS];
    const uint8_t *row[MM_MAX_ROWS];
    uint32_t x[MM_MAX_ROWS];
    const int64_t stride = b->panel_stride, ahead = b->ahead;
    MM_UNROLL for (int i = 0; i < rows; i++)
    {
        row[i] = b->row[i];
        MM_UNROLL for (int j = 0; j < panels * MM_PARTS; j++)
        {
            if (b->accumulate)
                acc[i][j] = MM_LOAD(b->c + i * MM_C_COLUMNS + j * MM_LANES);
            else
                acc[i][j] = MM_START(b->start + j * MM_LANES);
        }
    }
    for (uint32_t t = 0; t < b->n_tiles; t++) {
        const uint8_t *w = b->w + b->tile[t].w_offset;
        const uint32_t k = b->tile[t].k;
        int64_t at = b->tile[t].x_offset;
        const int64_t end = at + (int64_t)(k / MM_PAIR) * MM_STEP;
        for (; at != end; at += MM_STEP) {
            __builtin_prefetch(mm_at(w, ahead), 0, 2);
            MM_UNROLL for (int i = 0; i < rows; i++) memcpy(&x[i], row[i] + at, MM_STEP);
            MM_ID(_step)(acc, rows, panels, w, stride, x, b->flip);
            w += MM_PANEL_ROW;
        }
#if MM_PAIR > 1
        const uint32_t rest = k % MM_PAIR;
        if (rest) {
            MM_UNROLL for (int i = 0; i < rows; i++)
            {
                x[i] = 0;
                for (uint32_t e = 0; e < rest; e++)
                    memcpy((uint8_t *)&x[i] + e * (MM_STEP / MM_PAIR),
                           row[i] + at + e * (MM_STEP / MM_PAIR), MM_STEP / MM_PAIR);
            }
            MM_ID(_step)(acc, rows, panels, w, stride, x, b->flip);
        }
#endif
    }
#ifdef MM_FINISH
    if (b->finish) {
        MM_UNROLL for (int i = 0; i < rows; i++)
        {
            int j = 0;
#ifdef MM_NARROW2
            MM_UNROLL for (; j + 1 < panels; j += 2)
                MM_NARROW2(b->dst[i] + j * MM_PANEL * MM_FINISH, MM_ID(_finish)(b, acc[i], i, j),
                           MM_ID(_finish)(b, acc[i], i, j + 1));
#endif
            MM_UNROLL for (; j < panels; j++)
                MM_NARROW(b->dst[i] + j * MM_PANEL * MM_FINISH, MM_ID(_finish)(b, acc[i], i, j));
        }
        return;
    }
#endif
    MM_UNROLL for (int i = 0; i < rows; i++)
    {
        MM_UNROLL for (int j = 0; j < panels * MM_PARTS; j++)
            MM_STORE(b->c + i * MM_C_COLUMNS + j * MM_LANES, acc[i][j]);
    }
}

#define MM_TILE(rows, panels)                                                                      \
    MM_TILE_FUNCTION void MM_PASTE(MM_NAME, _##rows##x##panels)(const mm_block *b)                 \
    {                                                                                              \
        MM_ID(_tile)(b, rows, panels);                                                             \
    }
MM_TILES(MM_TILE)
#undef MM_TILE

static const mm_tile_function MM_ID(_tiles)[5][MM_MAX_ROWS + 1] = {
#define MM_TILE(rows, panels) [panels][rows] = MM_PASTE(MM_NAME, _##rows##x##panels),
    MM_TILES(MM_TILE)
#undef MM_TILE
};

#undef MM_PASTE2
#undef MM_PASTE
#undef MM_PARTS
#undef MM_ID
#undef MM_NAME
#undef MM_VEC
#undef MM_LANES
#undef MM_OPERAND
#undef MM_PHASES
#undef MM_PAIR
#undef MM_W
#undef MM_X
#undef MM_DOT
#undef MM_START
#undef MM_LOAD
#undef MM_STORE
#undef MM_VF
#undef MM_FINISH
#undef MM_WIDEN
#undef MM_NARROW
#undef MM_NARROW2
#undef MM_TILES
