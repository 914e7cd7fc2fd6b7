/* The WEIGHTS section under construction. Equal contents are stored once, whoever asks: plans for
 * several shapes of one model share their weights. */
#include <inttypes.h>
#include <string.h>

#include <xxhash.h>

#include "checked.h"
#include "lower.h"

struct kcc_weights {
    kaena_arena *arena;
    kcc_piece *piece;
    uint64_t *digest; /* of the piece's contents */
    uint32_t n, capacity;
    uint32_t *slot; /* hash table: index of a piece plus one; twice |capacity| places */
    uint64_t bytes;
};

kcc_weights *kcc_weights_create(kaena_arena *arena)
{
    kcc_weights *w = KAENA_NEW(arena, kcc_weights);
    w->arena = arena;
    return w;
}

const kcc_piece *kcc_weights_pieces(const kcc_weights *w, uint32_t *n, uint64_t *bytes)
{
    *n = w->n;
    *bytes = w->bytes;
    return w->piece;
}

/* The place of a piece with that content, or the free place where it belongs. */
static uint32_t *slot_of(const kcc_weights *w, uint64_t digest, const void *data, uint64_t bytes)
{
    uint32_t mask = 2 * w->capacity - 1;
    for (uint64_t at = digest;; at++) {
        uint32_t *slot = &w->slot[at & mask];
        const kcc_piece *p = *slot ? &w->piece[*slot - 1] : NULL;
        if (!p || (w->digest[*slot - 1] == digest && p->size == bytes &&
                   (bytes == 0 || memcmp(p->data, data, bytes) == 0)))
            return slot;
    }
}

static void grow(kcc_weights *w)
{
    kcc_weights old = *w;
    w->capacity = old.capacity ? old.capacity * 2 : 64;
    w->piece = KAENA_NEW_N(w->arena, kcc_piece, w->capacity);
    w->digest = KAENA_NEW_N(w->arena, uint64_t, w->capacity);
    w->slot = KAENA_NEW_N(w->arena, uint32_t, 2 * (size_t)w->capacity);
    for (uint32_t i = 0; i < old.n; i++) {
        w->piece[i] = old.piece[i];
        w->digest[i] = old.digest[i];
        *slot_of(w, old.digest[i], old.piece[i].data, old.piece[i].size) = i + 1;
    }
}

kcc_buffer *kcc_weights_add(kcc_module *m, const void *data, uint64_t bytes)
{
    kcc_weights *w = m->weights;
    if (w->n == w->capacity)
        grow(w);
    uint64_t digest = XXH3_64bits(data, bytes), offset;
    uint32_t *slot = slot_of(w, digest, data, bytes);
    if (*slot) {
        offset = w->piece[*slot - 1].offset;
    } else {
        offset = kaena_align_up(w->bytes, 64);
        w->digest[w->n] = digest;
        w->piece[w->n++] = (kcc_piece){offset, bytes, data};
        w->bytes = offset + bytes;
        *slot = w->n;
    }
    kcc_buffer *b = KAENA_NEW(m->arena, kcc_buffer);
    *b = (kcc_buffer){.bytes = bytes,
                      .space = KISA_WEIGHTS,
                      .offset = offset,
                      .first = -1,
                      .last = -1,
                      .tpb = -1};
    return b;
}

kaena_status kcc_const_view(kcc_module *m, const kgr_value *v, kaena_dtype dtype, kcc_view *out,
                            kaena_err *err)
{
    const kcc_view *known = kcc_view_of(m, v);
    if (known->buf && known->dtype == dtype) {
        *out = *known;
        return KAENA_OK;
    }
    int64_t n;
    if (!v->t.data || !kaena_shape_elements(&v->t.shape, &n))
        return KAENA_FAIL(err, INTERNAL, "'%s' is neither in device memory nor a constant",
                          v->name);
    kcc_view view = {.dtype = dtype, .shape = v->t.shape};
    uint64_t bytes = (uint64_t)n * kaena_dtype_size(dtype);
    const void *data = v->t.data;
    if (dtype != v->t.dtype) {
        void *cast = kaena_arena_alloc(m->arena, bytes);
        kaena_cast(cast, dtype, v->t.data, v->t.dtype, (size_t)n);
        data = cast;
    }
    view.buf = kcc_weights_add(m, data, bytes);
    kaena_shape_strides(&view.shape, view.stride);
    for (int32_t d = 0; d < view.shape.rank; d++)
        view.stride[d] *= (int64_t)kaena_dtype_size(dtype);
    if (!known->buf)
        kcc_view_set(m, v, &view);
    *out = view;
    return KAENA_OK;
}

kaena_status kcc_input_view(kcc_module *m, const kgr_value *v, kcc_view *out, kaena_err *err)
{
    const kcc_view *known = kcc_view_of(m, v);
    if (known->buf) {
        *out = *known;
        return KAENA_OK;
    }
    return kcc_const_view(m, v, v->t.dtype, out, err);
}
