#include "pack.h"

#include <string.h>

#include "checked.h"

/* Packed weights made before: looked up by constant, group and how they are read. */
typedef struct kcc_packed_entry {
    const void *data;
    int64_t group;
    int64_t key[3]; /* dtype and strides that shape the tiles */
    kcc_packed packed;
    struct kcc_packed_entry *next;
} entry;

#define BUCKETS 1024

static entry **bucket(kcc_module *m, const void *data, int64_t group)
{
    if (!m->packed)
        m->packed = KAENA_NEW_N(m->arena, entry *, BUCKETS);
    uint64_t h =
        ((uint64_t)(uintptr_t)data >> 4) * UINT64_C(0x9e3779b97f4a7c15) + (uint64_t)group * 31;
    return &m->packed[h >> 32 & (BUCKETS - 1)];
}

static entry *find_or_add(kcc_module *m, const void *data, int64_t group, const int64_t key[3],
                          bool *found)
{
    entry **head = bucket(m, data, group);
    for (entry *e = *head; e; e = e->next)
        if (e->data == data && e->group == group && memcmp(e->key, key, sizeof e->key) == 0) {
            *found = true;
            return e;
        }
    entry *e = KAENA_NEW(m->arena, entry);
    e->data = data;
    e->group = group;
    memcpy(e->key, key, sizeof e->key);
    e->next = *head;
    *head = e;
    *found = false;
    return e;
}

/* The constant's elements in |dtype|. */
static const void *elements(kcc_module *m, const kgr_value *v, kaena_dtype dtype)
{
    if (v->t.dtype == dtype)
        return v->t.data;
    size_t n = kop_elements(&v->t);
    void *cast = kaena_arena_array(m->arena, n, kaena_dtype_size(dtype));
    kaena_cast(cast, dtype, v->t.data, v->t.dtype, n);
    return cast;
}

/* Cuts a stretch of |k| contiguous elements, |x_offset| from the row's start, into tiles. */
static void add_tiles(kcc_packed *p, int64_t k, int64_t x_offset, uint32_t element,
                      int64_t *w_offset)
{
    uint32_t pair = 4 / element;
    for (int64_t at = 0; at < k; at += KISA_TILE_K) {
        uint32_t part = (uint32_t)(k - at < KISA_TILE_K ? k - at : KISA_TILE_K);
        p->tile[p->n_tiles++] = (kcc_tile){part, *w_offset, x_offset + at * element};
        *w_offset += (part + pair - 1) / pair * 64;
    }
}

/* Writes element (k of tile, column) of all panels; |column_stride| and the source positions |at[]|
 * are in elements. */
static void fill_panels(const kcc_packed *p, uint8_t *dst, const uint8_t *src, uint32_t element,
                        int64_t columns, int64_t column_stride, const int64_t *at)
{
    uint32_t pair = 4 / element;
    int64_t panels = (columns + KISA_PANEL_COLUMNS - 1) / KISA_PANEL_COLUMNS;
    for (int64_t panel = 0; panel < panels; panel++) {
        int64_t first = panel * KISA_PANEL_COLUMNS;
        uint32_t live =
            (uint32_t)(columns - first < KISA_PANEL_COLUMNS ? columns - first : KISA_PANEL_COLUMNS);
        const int64_t *where = at;
        for (uint32_t t = 0; t < p->n_tiles; t++) {
            uint8_t *row = dst + panel * p->panel_stride + p->tile[t].w_offset;
            for (uint32_t k = 0; k < p->tile[t].k; k++) {
                const uint8_t *from = src + (where[k] + first * column_stride) * element;
                uint8_t *to = row + k / pair * 64 + k % pair * element;
                if (element == 1) {
                    for (uint32_t c = 0; c < live; c++)
                        to[c * 4] = from[(int64_t)c * column_stride];
                } else if (element == 2) {
                    for (uint32_t c = 0; c < live; c++)
                        memcpy(to + c * 4, from + (int64_t)c * column_stride * 2, 2);
                } else {
                    for (uint32_t c = 0; c < live; c++)
                        memcpy(to + c * 4, from + (int64_t)c * column_stride * 4, 4);
                }
            }
            where += p->tile[t].k;
        }
    }
}

/* |batch| matrices, |matrix| elements apart. */
static kaena_status finish(kcc_module *m, kcc_packed *p, const void *src, uint32_t element,
                           int64_t columns, int64_t column_stride, const int64_t *at,
                           int64_t panel_bytes, int64_t batch, int64_t matrix, kaena_err *err)
{
    int64_t panels = (columns + KISA_PANEL_COLUMNS - 1) / KISA_PANEL_COLUMNS, each, bytes;
    if (!kaena_mul_i64(panels, panel_bytes, &each) || !kaena_mul_i64(each, batch, &bytes))
        return KAENA_FAIL(err, RESOURCE_EXHAUSTED, "weights do not fit in memory");
    p->panel_stride = panel_bytes;
    uint8_t *dst = kaena_arena_alloc(m->weights_arena, (size_t)bytes);
    for (int64_t i = 0; i < batch; i++)
        fill_panels(p, dst + i * each, (const uint8_t *)src + i * matrix * element, element,
                    columns, column_stride, at);
    p->buf = kcc_weights_add(m, dst, (uint64_t)bytes);
    return KAENA_OK;
}

kaena_status kcc_pack_conv(kcc_module *m, const kgr_value *w, const kcc_view *x,
                           const kop_window *window, int64_t group, const kcc_packed **out,
                           kaena_err *err)
{
    int32_t sx = window->spatial - 1;
    int64_t kh = window->spatial == 2 ? window->kernel[0] : 1, kw = window->kernel[sx],
            columns = w->t.shape.dim[0] / window->group, channels = w->t.shape.dim[1],
            in_y = window->spatial == 2 ? x->stride[2] * window->dilation[0] : 0,
            in_x = x->stride[2 + sx] * window->dilation[sx];
    uint32_t element = (uint32_t)kaena_dtype_size(x->dtype);
    const int64_t key[3] = {(int64_t)x->dtype, in_y, in_x};
    bool found;
    entry *e = find_or_add(m, w->t.data, group, key, &found);
    *out = &e->packed;
    if (found)
        return KAENA_OK;
    bool stretch = in_x == channels * (int64_t)element;
    int64_t per_row = stretch ? 1 : kw, length = stretch ? kw * channels : channels;
    kcc_packed *p = &e->packed;
    p->tile = KAENA_NEW_N(m->arena, kcc_tile, (size_t)(kh * per_row * (length / KISA_TILE_K + 1)));
    int64_t *at = KAENA_NEW_N(m->arena, int64_t, (size_t)(kh * kw * channels)), n = 0,
            panel_bytes = 0;
    for (int64_t y = 0; y < kh; y++) {
        for (int64_t s = 0; s < per_row; s++)
            add_tiles(p, length, y * in_y + s * in_x, element, &panel_bytes);
        for (int64_t i = 0; i < kw * channels; i++)
            at[n++] = (i % channels * kh + y) * kw + i / channels;
    }
    int64_t per_column = channels * kh * kw;
    for (int64_t i = 0; i < n; i++)
        at[i] += group * columns * per_column;
    return finish(m, p, elements(m, w, x->dtype), element, columns, per_column, at, panel_bytes, 1,
                  0, err);
}

kaena_status kcc_pack_matrix(kcc_module *m, const kgr_value *b, kaena_dtype dtype, bool transposed,
                             const kcc_packed **out, kaena_err *err)
{
    int32_t rank = b->t.shape.rank;
    int64_t k = b->t.shape.dim[transposed ? rank - 1 : rank - 2],
            columns = b->t.shape.dim[transposed ? rank - 2 : rank - 1], batch = 1;
    for (int32_t d = 0; d + 2 < rank; d++)
        batch *= b->t.shape.dim[d];
    uint32_t element = (uint32_t)kaena_dtype_size(dtype);
    const int64_t key[3] = {(int64_t)dtype, transposed, 0};
    bool found;
    entry *e = find_or_add(m, b->t.data, 0, key, &found);
    *out = &e->packed;
    if (found)
        return KAENA_OK;
    kcc_packed *p = &e->packed;
    p->tile = KAENA_NEW_N(m->arena, kcc_tile, (size_t)(k / KISA_TILE_K + 1));
    int64_t panel_bytes = 0, *at = KAENA_NEW_N(m->arena, int64_t, (size_t)k);
    add_tiles(p, k, 0, element, &panel_bytes);
    for (int64_t i = 0; i < k; i++)
        at[i] = transposed ? i : i * columns;
    return finish(m, p, elements(m, b, dtype), element, columns, transposed ? k : 1, at,
                  panel_bytes, batch, k * columns, err);
}

uint64_t kcc_packed_bytes(const kaena_shape *b, kaena_dtype dtype)
{
    uint64_t pair = 4 / kaena_dtype_size(dtype);
    uint64_t k = (uint64_t)b->dim[b->rank - 2], columns = (uint64_t)b->dim[b->rank - 1];
    uint64_t bytes;
    if (!kaena_mul_u64((k + pair - 1) / pair * 64,
                       (columns + KISA_PANEL_COLUMNS - 1) / KISA_PANEL_COLUMNS, &bytes))
        return 0;
    for (int32_t d = 0; d + 2 < b->rank; d++)
        if (!kaena_mul_u64(bytes, (uint64_t)b->dim[d], &bytes))
            return 0;
    return bytes;
}

const kcc_packed *kcc_packed_of(kcc_module *m, const kgr_value *b)
{
    const kcc_view *view = kcc_view_of(m, b);
    int64_t k = b->t.shape.dim[b->t.shape.rank - 2];
    kcc_packed *p = KAENA_NEW(m->arena, kcc_packed);
    p->buf = view->buf;
    p->tile = KAENA_NEW_N(m->arena, kcc_tile, (size_t)(k / KISA_TILE_K + 1));
    add_tiles(p, k, 0, (uint32_t)kaena_dtype_size(view->dtype), &p->panel_stride);
    return p;
}

const kcc_packed *kcc_packed_join(kcc_module *m, const kcc_packed *a, const kcc_packed *b)
{
    kcc_packed *p = KAENA_NEW(m->arena, kcc_packed);
    kcc_packed *last = KAENA_NEW(m->arena, kcc_packed);
    *last = *b;
    last->joined = a->joined;
    *p = *a;
    p->joined = last;
    p->n_tiles = a->n_tiles + b->n_tiles;
    p->tile = KAENA_NEW_N(m->arena, kcc_tile, p->n_tiles);
    memcpy(p->tile, a->tile, a->n_tiles * sizeof *p->tile);
    memcpy(p->tile + a->n_tiles, b->tile, b->n_tiles * sizeof *p->tile);
    for (uint32_t t = a->n_tiles; t < p->n_tiles; t++)
        p->tile[t].w_offset += (int64_t)(b->buf->offset - a->buf->offset);
    return p;
}

kaena_status kcc_pack_depthwise(kcc_module *m, const kgr_value *w, kaena_dtype dtype,
                                const kop_window *window, const kcc_packed **out, kaena_err *err)
{
    (void)err;
    int64_t taps = window->spatial == 2 ? window->kernel[0] * window->kernel[1] : window->kernel[0],
            channels = w->t.shape.dim[0];
    size_t element = kaena_dtype_size(dtype);
    const int64_t key[3] = {(int64_t)dtype, -1, 0};
    bool found;
    entry *e = find_or_add(m, w->t.data, 0, key, &found);
    *out = &e->packed;
    if (found)
        return KAENA_OK;
    const uint8_t *src = elements(m, w, dtype);
    uint8_t *dst = kaena_arena_alloc(m->weights_arena, (size_t)(taps * channels) * element);
    for (int64_t t = 0; t < taps; t++)
        for (int64_t c = 0; c < channels; c++)
            memcpy(dst + (size_t)(t * channels + c) * element,
                   src + (size_t)(c * taps + t) * element, element);
    e->packed.buf = kcc_weights_add(m, dst, (uint64_t)(taps * channels) * element);
    return KAENA_OK;
}
