/* Copies of elements that do not lie side by side. The loops are compiled for each size of an
 * element. */
#include "ops_impl.h"

#define TILE 16 /* rows and columns copied together: a line of the cache serves several rows */

/* to[r][c] = from[r * row_step + c * step], [rows][columns]. */
#define PLANE(type)                                                                                \
    static void plane_##type(void *to_, const void *from_, int64_t rows, int64_t row_step,         \
                             int64_t columns, int64_t step)                                        \
    {                                                                                              \
        type *to = to_;                                                                            \
        const type *from = from_;                                                                  \
        for (int64_t c0 = 0; c0 < columns; c0 += TILE) {                                           \
            int64_t end = columns - c0 < TILE ? columns : c0 + TILE;                               \
            for (int64_t r = 0; r < rows; r++)                                                     \
                for (int64_t c = c0; c < end; c++)                                                 \
                    to[r * columns + c] = from[r * row_step + c * step];                           \
        }                                                                                          \
    }

/* |n| elements from the places |at|. */
#define PICK(type)                                                                                 \
    static void pick_##type(void *to_, const void *from_, const int64_t *at, int64_t n)            \
    {                                                                                              \
        type *to = to_;                                                                            \
        const type *from = from_;                                                                  \
        for (int64_t i = 0; i < n; i++)                                                            \
            to[i] = from[at[i]];                                                                   \
    }

/* to[i] = c[i] ? a[i] : b[i], each walking 0 or more elements. */
#define SELECT(type)                                                                               \
    static void select_##type(void *to_, const uint8_t *c, int64_t step_c, const void *a_,         \
                              int64_t step_a, const void *b_, int64_t step_b, int64_t n)           \
    {                                                                                              \
        type *to = to_;                                                                            \
        const type *a = a_, *b = b_;                                                               \
        for (int64_t i = 0; i < n; i++)                                                            \
            to[i] = c[i * step_c] ? a[i * step_a] : b[i * step_b];                                 \
    }

#define ALL(type) PLANE(type) PICK(type) SELECT(type)
ALL(uint8_t)
ALL(uint16_t)
ALL(uint32_t)
ALL(uint64_t)
ALL(kaena_string)

static const kop_copiers copiers[] = {
    {1, plane_uint8_t, pick_uint8_t, select_uint8_t},
    {2, plane_uint16_t, pick_uint16_t, select_uint16_t},
    {4, plane_uint32_t, pick_uint32_t, select_uint32_t},
    {8, plane_uint64_t, pick_uint64_t, select_uint64_t},
    {sizeof(kaena_string), plane_kaena_string, pick_kaena_string, select_kaena_string},
};

const kop_copiers *kop_copiers_of(size_t size)
{
    const kop_copiers *c = copiers;
    while (c->size != size)
        c++;
    return c;
}

/* Dimensions of 1 go, and those that walk on where the next ends become one with it. */
static int32_t merge(int32_t rank, const int64_t *dim, const int64_t *stride, int64_t *out_dim,
                     int64_t *out_stride)
{
    int32_t n = 0;
    for (int32_t d = 0; d < rank; d++) {
        if (dim[d] == 1)
            continue;
        if (n > 0 && out_stride[n - 1] == stride[d] * dim[d]) {
            out_dim[n - 1] *= dim[d];
            out_stride[n - 1] = stride[d];
        } else {
            out_dim[n] = dim[d];
            out_stride[n++] = stride[d];
        }
    }
    while (n < 2) { /* a plane has two */
        for (int32_t d = n; d > 0; d--) {
            out_dim[d] = out_dim[d - 1];
            out_stride[d] = out_stride[d - 1];
        }
        out_dim[0] = 1;
        out_stride[0] = 0;
        n++;
    }
    return n;
}

kaena_status kop_copy_strided(kop_call *call, void *dst, const void *src, size_t size, int32_t rank,
                              const int64_t *dim, const int64_t *stride)
{
    int64_t d[KAENA_MAX_RANK + 2], s[KAENA_MAX_RANK + 2], index[KAENA_MAX_RANK] = {0};
    for (int32_t i = 0; i < rank; i++)
        if (dim[i] == 0)
            return KAENA_OK;
    const kop_copiers *copy = kop_copiers_of(size);
    int32_t n = merge(rank, dim, stride, d, s);
    int64_t rows = d[n - 2], columns = d[n - 1], bytes = (int64_t)size;
    char *to = dst;
    do {
        const char *from = src;
        for (int32_t i = 0; i < n - 2; i++)
            from += index[i] * s[i] * bytes;
        for (int64_t r = 0, m; r < rows; r += m, to += m * columns * bytes) {
            m = rows - r < TILE ? rows - r : TILE;
            const char *row = from + r * s[n - 2] * bytes;
            if (s[n - 1] == 1)
                for (int64_t k = 0; k < m; k++)
                    memcpy(to + k * columns * bytes, row + k * s[n - 2] * bytes,
                           (size_t)(columns * bytes));
            else
                copy->plane(to, row, m, s[n - 2], columns, s[n - 1]);
            KAENA_TRY(kop_poll(call));
        }
    } while (n > 2 && kop_next(index, d, n - 2));
    return KAENA_OK;
}
