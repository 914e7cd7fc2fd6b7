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
 *   MM_FINISH          optional: bytes of a dst element of the type finished in registers, besides
 *                      F32, with
 *   MM_WIDEN(p)        its 16 elements at p as floats, and
 *   MM_NARROW(p, y)    their store;
 *   MM_NARROW2(p, y, z, ordered) optional: 32 at once, where NaN may become any; returns |ordered|
 *                      without the lanes that are NaN in y or z: of every lane ordered when the
 *                      bits of MM_ORDERED are all still there. Else
 *   MM_MEND2(p)        gives the 32 elements at p the one NaN there is
 *   MM_X_FIRST(p)      optional: the first of two moving elements broadcast, the other +0
 *
 * All loops over rows and panels have constant counts after inlining, so accumulators live in
 * registers. This header undefines everything it was given. */

#define MM_PASTE2(a, b) a##b
#define MM_PASTE(a, b) MM_PASTE2(a, b)
#define MM_PARTS (MM_PANEL / MM_LANES)
#define MM_ID(suffix) MM_PASTE(MM_NAME, suffix)

/* One panel row of every panel into all accumulators. |rest| is 0, or how many of the MM_PAIR
 * moving elements there are: the others count as +0. */
MM_INLINE void MM_ID(_step)(MM_VEC acc[][4 * MM_PARTS], const int rows, const int panels,
                            const uint8_t *w, int64_t stride, const uint8_t *const *row, int64_t at,
                            uint32_t rest, uint32_t flip)
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
            MM_OPERAND xv;
            uint32_t x = 0;
            /* Two phases read a row twice: kept for the second, or read long before it is needed,
             * it would take the register of an accumulator. */
            if (MM_PHASES > 1)
                __asm__ volatile("" ::: "memory");
            if (rest == 0) {
                memcpy(&x, row[i] + at, MM_STEP);
                xv = MM_X(phase, x, flip);
            } else {
#ifdef MM_X_FIRST
                xv = MM_X_FIRST(row[i] + at);
#else
                for (uint32_t e = 0; e < rest; e++)
                    memcpy((uint8_t *)&x + e * (MM_STEP / MM_PAIR),
                           row[i] + at + e * (MM_STEP / MM_PAIR), MM_STEP / MM_PAIR);
                xv = MM_X(phase, x, flip);
#endif
            }
            MM_UNROLL for (int j = 0; j < panels * MM_PARTS; j++) acc[i][j] =
                MM_DOT(acc[i][j], xv, wv[j]);
        }
    }
}

#ifdef MM_FINISH
/* What the epilogue of a tile needs for one panel. */
typedef struct MM_ID(_columns) {
    vf scale, bias, low, high;
    bool has_residual;
} MM_ID(_columns);

MM_INLINE MM_ID(_columns) MM_ID(_panel)(const mm_block *b, int j)
{
    return (MM_ID(_columns)){.scale = vi_as_vf(vi_load(b->scale + j * MM_PANEL)),
                             .bias = vi_as_vf(vi_load(b->bias + j * MM_PANEL)),
                             .low = v_set1(b->low),
                             .high = v_set1(b->high),
                             .has_residual = b->has_residual};
}

/* clamp(fma(acc, scale, bias) [+ residual]): IDENTITY and RELU are clamps too, as in act. |wide|:
 * the residual is F32; |bounded|: there is an upper bound. */
MM_INLINE vf MM_ID(_value)(const MM_ID(_columns) * c, vf acc, const uint8_t *residual,
                           const bool wide, const bool bounded)
{
    vf y = v_fma(acc, c->scale, c->bias);
    if (c->has_residual)
        y = v_add(y, wide ? vi_as_vf(vi_load(residual)) : MM_WIDEN(residual));
    y = v_max(c->low, y);
    return bounded ? v_min(c->high, y) : y;
}

/* |floats|: dst is F32; |wide| and |bounded| as above. */
MM_INLINE void MM_ID(_finish)(const mm_block *b, MM_VEC acc[][4 * MM_PARTS], const int rows,
                              const int panels, const bool floats, const bool wide,
                              const bool bounded)
{
    const int step = MM_PANEL * (floats ? 4 : MM_FINISH);
    const int residual_step = MM_PANEL * (wide ? 4 : MM_FINISH);
    int j = 0;
#ifdef MM_NARROW2
    const int pairs = floats ? 0 : panels / 2;
    MM_ORDERED ordered = (MM_ORDERED)-1;
    MM_UNROLL for (; j < 2 * pairs; j += 2)
    {
        const MM_ID(_columns) c = MM_ID(_panel)(b, j), d = MM_ID(_panel)(b, j + 1);
        MM_UNROLL for (int i = 0; i < rows; i++)
        {
            const uint8_t *r = b->residual[i] + j * step;
            const vf y = MM_ID(_value)(&c, MM_VF(acc[i] + j * MM_PARTS), r, false, bounded);
            const vf z =
                MM_ID(_value)(&d, MM_VF(acc[i] + (j + 1) * MM_PARTS), r + step, false, bounded);
            ordered = MM_NARROW2(b->dst[i] + j * step, y, z, ordered);
        }
    }
    if (ordered != (MM_ORDERED)-1)
        for (int p = 0; p < pairs; p++)
            for (int i = 0; i < rows; i++)
                MM_MEND2(b->dst[i] + 2 * p * step);
#endif
    MM_UNROLL for (; j < panels; j++)
    {
        const MM_ID(_columns) c = MM_ID(_panel)(b, j);
        MM_UNROLL for (int i = 0; i < rows; i++)
        {
            const vf y = MM_ID(_value)(&c, MM_VF(acc[i] + j * MM_PARTS),
                                       b->residual[i] + j * residual_step, wide, bounded);
            if (floats)
                vi_store(b->dst[i] + j * step, vf_as_vi(y));
            else
                MM_NARROW(b->dst[i] + j * step, y);
        }
    }
}
#endif

MM_INLINE void MM_ID(_tile)(const mm_block *b, const int rows, const int panels)
{
    MM_VEC acc[MM_MAX_ROWS][4 * MM_PARTS];
    const uint8_t *row[MM_MAX_ROWS];
    const int64_t stride = b->panel_stride, ahead = b->ahead;
    float *const c = b->c;
    MM_UNROLL for (int i = 0; i < rows; i++)
    {
        row[i] = b->row[i];
        MM_UNROLL for (int j = 0; j < panels * MM_PARTS; j++)
        {
            if (b->accumulate)
                acc[i][j] = MM_LOAD(c + i * MM_C_COLUMNS + j * MM_LANES);
            else
                acc[i][j] = MM_START(b->start + j * MM_LANES);
        }
    }
    const ker_mm_tile *tile = b->tile, *const last = tile + b->n_tiles;
    for (; tile != last; tile++) {
        const uint8_t *w = b->w + tile->w_offset;
        const uint32_t k = tile->k;
        int64_t at = tile->x_offset;
        const int64_t end = at + (int64_t)(k / MM_PAIR) * MM_STEP;
        /* One row takes as long as its weights: they are called a little before their time, after
         * the last of them the next call's. More rows leave time to call those of the next whole
         * call. */
        int64_t fetch = rows == 1 ? MM_FETCH_ROWS * MM_PANEL_ROW : ahead;
        const int64_t turn = rows == 1 && ahead ? end - MM_FETCH_ROWS * MM_STEP : end;
        for (; at != end; at += MM_STEP) {
            if (at == turn)
                fetch += ahead - (int64_t)(k / MM_PAIR) * MM_PANEL_ROW;
            if (rows == 1) {
                MM_UNROLL for (int j = 0; j < panels; j++)
                    __builtin_prefetch(mm_at(w, j * stride + fetch), 0, 3);
            } else {
                __builtin_prefetch(mm_at(w, fetch), 0, 2);
            }
            MM_ID(_step)(acc, rows, panels, w, stride, row, at, 0, b->flip);
            w += MM_PANEL_ROW;
        }
#if MM_PAIR > 1
        if (k % MM_PAIR)
            MM_ID(_step)(acc, rows, panels, w, stride, row, at, k % MM_PAIR, b->flip);
#endif
    }
#ifdef MM_FINISH
    if (b->finish) {
        if (b->floats && b->wide)
            MM_ID(_finish)(b, acc, rows, panels, true, true, true);
        else if (b->floats)
            MM_ID(_finish)(b, acc, rows, panels, true, false, true);
        else if (b->high < INFINITY)
            MM_ID(_finish)(b, acc, rows, panels, false, false, true);
        else
            MM_ID(_finish)(b, acc, rows, panels, false, false, false);
        return;
    }
#endif
    MM_UNROLL for (int i = 0; i < rows; i++)
    {
        MM_UNROLL for (int j = 0; j < panels * MM_PARTS; j++)
            MM_STORE(c + i * MM_C_COLUMNS + j * MM_LANES, acc[i][j]);
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
#undef MM_ORDERED
#undef MM_MEND2
#undef MM_X_FIRST
#undef MM_TILES
