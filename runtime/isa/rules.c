/* Verification of formats: how the operands and fields of one instruction fit together. One
 * function per format, each the sentences of isa.def. */
#include <inttypes.h>

#include "isa_check.h"

/* Every format has its function: a missing one does not link. */
#define KISA_FORMAT_BEGIN(format)                                                                  \
    static kaena_status rule_##format(const kisa_check *c, const kisa_##format *f);
#include "isa.def"

/* --- What rules are made of
 * -------------------------------------------------------------------------------------------- */

static kaena_status want_counts(const kisa_check *c, const char *name, const kisa_operand *o,
                                uint64_t c0, uint64_t c1, uint64_t c2, uint64_t c3)
{
    if (o->count[0] == c0 && o->count[1] == c1 && o->count[2] == c2 && o->count[3] == c3)
        return KAENA_OK;
    return kisa_refuse(
        c, "%s: counts are [%u,%u,%u,%u], not [%" PRIu64 ",%" PRIu64 ",%" PRIu64 ",%" PRIu64 "]",
        name, o->count[0], o->count[1], o->count[2], o->count[3], c0, c1, c2, c3);
}

static kaena_status want_same_counts(const kisa_check *c, const char *name, const kisa_operand *o,
                                     const kisa_operand *as)
{
    return want_counts(c, name, o, as->count[0], as->count[1], as->count[2], as->count[3]);
}

static kaena_status want_columns(const kisa_check *c, const char *name, const kisa_operand *o)
{
    int64_t size = (int64_t)kaena_dtype_size((kaena_dtype)o->dtype);
    if (o->count[3] == 1 || o->stride[3] == size)
        return KAENA_OK;
    return kisa_refuse(c, "%s: columns are not contiguous (stride %" PRId64 ")", name,
                       o->stride[3]);
}

/* A float32 for each column, or nothing. */
static kaena_status want_vector(const kisa_check *c, const char *name, const kisa_operand *o,
                                uint32_t columns)
{
    if (o->space == KISA_NONE)
        return KAENA_OK;
    KAENA_TRY(want_counts(c, name, o, 1, 1, 1, columns));
    return want_columns(c, name, o);
}

static kaena_status want_residual(const kisa_check *c, const kisa_operand *o,
                                  const kisa_operand *dst)
{
    return o->space == KISA_NONE ? KAENA_OK : want_same_counts(c, "residual", o, dst);
}

static uint64_t rows_of(const kisa_operand *o)
{
    /* At most 2^96: saturated, as every use is a comparison with something small. */
    uint64_t n;
    if (__builtin_mul_overflow((uint64_t)o->count[0] * o->count[1], o->count[2], &n))
        return UINT64_MAX;
    return n;
}

/* Last position that a window of |taps| taps reaches when it is moved |n| - 1 times. */
static uint64_t reach(uint32_t n, uint32_t stride, uint32_t taps, uint32_t dilation)
{
    return (uint64_t)(n - 1) * stride + (uint64_t)(taps - 1) * dilation;
}

/* --- The formats
 * -------------------------------------------------------------------------------------------------------
 */

static kaena_status rule_none(const kisa_check *c, const kisa_none *f)
{
    (void)c;
    (void)f;
    return KAENA_OK;
}

static kaena_status rule_loop(const kisa_check *c, const kisa_loop *f)
{
    (void)f;
    if (c->depth == KISA_MAX_LOOPS)
        return kisa_refuse(c, "nests more than %d deep", KISA_MAX_LOOPS);
    return KAENA_OK;
}

static kaena_status rule_signal(const kisa_check *c, const kisa_signal *f)
{
    if (c->n_tpbs < 64 && f->mask >> c->n_tpbs != 0)
        return kisa_refuse(c, "mask 0x%" PRIx64 " names a TPB past the last (%u)", f->mask,
                           c->n_tpbs);
    return KAENA_OK;
}

static kaena_status rule_wait(const kisa_check *c, const kisa_wait *f)
{
    (void)c;
    (void)f;
    return KAENA_OK;
}

static kaena_status rule_ldw(const kisa_check *c, const kisa_ldw *f)
{
    const kisa_operand *w = &f->weights;
    if (w->dtype == KAENA_U8)
        return kisa_refuse(c, "weights: may not be of type uint8");
    if (w->space == KISA_IO)
        return kisa_refuse(c, "weights: may not be in IO, whose tensors are not aligned");
    uint32_t pair = 4 / (uint32_t)kaena_dtype_size((kaena_dtype)w->dtype);
    if (w->count[1] > KISA_TILE_PANELS)
        return kisa_refuse(c, "weights: %u panels, more than %d", w->count[1], KISA_TILE_PANELS);
    KAENA_TRY(want_counts(c, "weights", w, 1, w->count[1], (f->k + pair - 1) / pair,
                          (uint64_t)KISA_PANEL_COLUMNS * pair));
    KAENA_TRY(want_columns(c, "weights", w));
    if (w->count[2] > 1 && w->stride[2] != 64)
        return kisa_refuse(c, "weights: panel rows are %" PRId64 " bytes apart, not 64",
                           w->stride[2]);
    bool aligned = w->offset % 64 == 0 && (w->count[1] == 1 || w->stride[1] % 64 == 0);
    for (int i = 0; i < KISA_MAX_LOOPS; i++)
        aligned = aligned && w->advance[i] % 64 == 0;
    if (!aligned)
        return kisa_refuse(c, "weights: panels are not aligned to 64 bytes");
    return KAENA_OK;
}

static kaena_status rule_matmul(const kisa_check *c, const kisa_matmul *f)
{
    if (!c->tile)
        return kisa_refuse(c, "no LDW before it in the same straight line");
    const kisa_operand *m = &f->moving;
    uint8_t tile = c->tile->weights.dtype;
    if (m->dtype != tile && !(m->dtype == KAENA_U8 && tile == KAENA_I8))
        return kisa_refuse(c, "moving: type %s does not go with a tile of %s",
                           kaena_dtype_name((kaena_dtype)m->dtype),
                           kaena_dtype_name((kaena_dtype)tile));
    if (m->count[3] != c->tile->k)
        return kisa_refuse(c, "moving: %u columns, but the tile has k = %u", m->count[3],
                           c->tile->k);
    KAENA_TRY(want_columns(c, "moving", m));
    uint64_t rows = rows_of(m);
    if (rows > KISA_TILE_ROWS)
        return kisa_refuse(c, "moving: %" PRIu64 " rows, more than %d", rows, KISA_TILE_ROWS);
    if (f->psum_row + rows > KISA_PSUM_ROWS)
        return kisa_refuse(c, "psum_row: rows %u to %" PRIu64 " pass the last (%d)", f->psum_row,
                           f->psum_row + rows - 1, KISA_PSUM_ROWS - 1);
    return KAENA_OK;
}

static kaena_status rule_act(const kisa_check *c, const kisa_act *f)
{
    KAENA_TRY(want_same_counts(c, "src", &f->src, &f->dst));
    KAENA_TRY(want_vector(c, "scale", &f->scale, f->dst.count[3]));
    KAENA_TRY(want_vector(c, "bias", &f->bias, f->dst.count[3]));
    return want_residual(c, &f->residual, &f->dst);
}

static kaena_status rule_tt(const kisa_check *c, const kisa_tt *f)
{
    KAENA_TRY(want_same_counts(c, "a", &f->a, &f->dst));
    KAENA_TRY(want_same_counts(c, "b", &f->b, &f->dst));
    int ints = (f->a.dtype == KAENA_I32) + (f->b.dtype == KAENA_I32) + (f->dst.dtype == KAENA_I32);
    if (ints == 0)
        return KAENA_OK;
    if (ints != 3)
        return kisa_refuse(c, "a, b and dst must all be int32, or none of them");
    if (f->op == KISA_TT_DIV || f->op == KISA_TT_PRELU || f->op == KISA_TT_POW)
        return kisa_refuse(c, "op: %s is not for int32", kisa_kind_name(KISA_KIND_TT, f->op));
    if (f->func != KAENA_ACT_IDENTITY)
        return kisa_refuse(c, "func: int32 takes IDENTITY only");
    return KAENA_OK;
}

static bool is_integer(const kisa_operand *o)
{
    return o->dtype == KAENA_I8 || o->dtype == KAENA_U8 || o->dtype == KAENA_I32;
}

static kaena_status rule_quant(const kisa_check *c, const kisa_quant *f)
{
    KAENA_TRY(want_same_counts(c, "src", &f->src, &f->dst));
    KAENA_TRY(want_vector(c, "scale", &f->scale, f->dst.count[3]));
    KAENA_TRY(want_vector(c, "bias", &f->bias, f->dst.count[3]));
    bool bytes = f->dst.dtype == KAENA_I8 || f->dst.dtype == KAENA_U8;
    int least = f->dst.dtype == KAENA_I8 ? -128 : 0, most = f->dst.dtype == KAENA_I8 ? 127 : 255;
    if (!bytes)
        least = most = 0;
    if (!is_integer(&f->src) && (f->bias.space != KISA_NONE || f->bias_all != 0))
        return kisa_refuse(c, "bias: not for a src of floats");
    if (f->low < least || f->high > most || f->low > f->high)
        return kisa_refuse(c, "low, high: %d to %d is not in the range of %s", f->low, f->high,
                           kaena_dtype_name((kaena_dtype)f->dst.dtype));
    if (f->dst.dtype == KAENA_I32 &&
        (!is_integer(&f->src) || f->scale.space != KISA_NONE || f->scale_all != 1 || f->divide))
        return kisa_refuse(c, "dst: int32 takes integers and no scale");
    return !bytes && f->zero ? kisa_refuse(c, "zero: for int8 and uint8 only") : KAENA_OK;
}

static kaena_status rule_ttt(const kisa_check *c, const kisa_ttt *f)
{
    KAENA_TRY(want_same_counts(c, "a", &f->a, &f->dst));
    KAENA_TRY(want_same_counts(c, "b", &f->b, &f->dst));
    KAENA_TRY(want_same_counts(c, "c", &f->c, &f->dst));
    if (f->a.dtype == KAENA_BOOL && f->op != KISA_TTT_SELECT)
        return kisa_refuse(c, "a: bool is for SELECT only");
    return KAENA_OK;
}

/* Positions are computed in 32 bits by kernels. */
static kaena_status want_position(const kisa_check *c, const char *axis, int32_t start,
                                  uint64_t moved)
{
    if (moved > INT32_MAX || start + (int64_t)moved > INT32_MAX)
        return kisa_refuse(c, "windows reach %s past 2^31", axis);
    return KAENA_OK;
}

static kaena_status rule_window(const kisa_check *c, const kisa_window *f)
{
    const uint32_t *dst = f->dst.count;
    KAENA_TRY(want_counts(c, "src", &f->src, dst[0], f->src.count[1], f->src.count[2], dst[3]));
    if ((is_integer(&f->src) || is_integer(&f->dst)) &&
        (f->kind != KISA_WINDOW_MAX || f->src.dtype != f->dst.dtype))
        return kisa_refuse(c, "bytes take MAX of their own type only");
    if (f->src.count[1] > INT32_MAX || f->src.count[2] > INT32_MAX)
        return kisa_refuse(c, "src: a dimension is longer than 2^31");
    if (f->pad_y0 > f->pad_y1 || f->pad_x0 > f->pad_x1)
        return kisa_refuse(c, "the padded range ends before it starts");
    KAENA_TRY(
        want_position(c, "a row", f->y0, reach(dst[1], f->stride_h, f->kernel_h, f->dilation_h)));
    return want_position(c, "a column", f->x0,
                         reach(dst[2], f->stride_w, f->kernel_w, f->dilation_w));
}

static kaena_status rule_dwconv(const kisa_check *c, const kisa_dwconv *f)
{
    const uint32_t *dst = f->dst.count, *w = f->weights.count;
    KAENA_TRY(want_counts(c, "weights", &f->weights, 1, w[1], w[2], dst[3]));
    KAENA_TRY(want_counts(c, "src", &f->src, dst[0],
                          reach(dst[1], f->stride_h, w[1], f->dilation_h) + 1,
                          reach(dst[2], f->stride_w, w[2], f->dilation_w) + 1, dst[3]));
    KAENA_TRY(want_vector(c, "bias", &f->bias, dst[3]));
    return want_residual(c, &f->residual, &f->dst);
}

static kaena_status rule_reduce(const kisa_check *c, const kisa_reduce *f)
{
    uint32_t want[KISA_DIMS];
    for (int i = 0; i < KISA_DIMS; i++)
        want[i] = f->axes >> i & 1 ? 1 : f->src.count[i];
    KAENA_TRY(want_counts(c, "dst", &f->dst, want[0], want[1], want[2], want[3]));
    if (f->op != KISA_REDUCE_SUM && f->op != KISA_REDUCE_SUM_SQUARE && f->scale != 1)
        return kisa_refuse(c, "scale: must be 1 for %s", kisa_kind_name(KISA_KIND_REDUCE, f->op));
    return KAENA_OK;
}

static kaena_status rule_softmax(const kisa_check *c, const kisa_softmax *f)
{
    KAENA_TRY(want_same_counts(c, "src", &f->src, &f->dst));
    KAENA_TRY(want_columns(c, "src", &f->src));
    return want_columns(c, "dst", &f->dst);
}

static kaena_status rule_norm(const kisa_check *c, const kisa_norm *f)
{
    KAENA_TRY(want_same_counts(c, "src", &f->src, &f->dst));
    KAENA_TRY(want_columns(c, "src", &f->src));
    if (f->scale.space != KISA_NONE)
        KAENA_TRY(want_same_counts(c, "scale", &f->scale, &f->dst));
    if (f->bias.space != KISA_NONE)
        KAENA_TRY(want_same_counts(c, "bias", &f->bias, &f->dst));
    return want_columns(c, "dst", &f->dst);
}

static kaena_status rule_lrn(const kisa_check *c, const kisa_lrn *f)
{
    KAENA_TRY(want_same_counts(c, "src", &f->src, &f->dst));
    KAENA_TRY(want_columns(c, "src", &f->src));
    return want_columns(c, "dst", &f->dst);
}

static kaena_status rule_resize(const kisa_check *c, const kisa_resize *f)
{
    const uint32_t *dst = f->dst.count;
    KAENA_TRY(want_counts(c, "src", &f->src, dst[0], f->src.count[1], f->src.count[2], dst[3]));
    KAENA_TRY(want_counts(c, "y_index", &f->y_index, 1, 1, dst[1], f->y_index.count[3]));
    KAENA_TRY(want_same_counts(c, "y_weight", &f->y_weight, &f->y_index));
    KAENA_TRY(want_counts(c, "x_index", &f->x_index, 1, 1, dst[2], f->x_index.count[3]));
    return want_same_counts(c, "x_weight", &f->x_weight, &f->x_index);
}

static kaena_status rule_copy(const kisa_check *c, const kisa_copy *f)
{
    return want_same_counts(c, "src", &f->src, &f->dst);
}

static kaena_status rule_fill(const kisa_check *c, const kisa_fill *f)
{
    size_t bits = 8 * kaena_dtype_size((kaena_dtype)f->dst.dtype);
    if (bits < 64 && f->value >> bits != 0)
        return kisa_refuse(c, "value: 0x%" PRIx64 " has more than %zu bits", f->value, bits);
    return KAENA_OK;
}

static kaena_status rule_gather(const kisa_check *c, const kisa_gather *f)
{
    const uint32_t *dst = f->dst.count;
    KAENA_TRY(want_counts(c, "table", &f->table, dst[0], f->bound, dst[2], dst[3]));
    KAENA_TRY(want_counts(c, "index", &f->index, 1, 1, 1, dst[1]));
    if (f->table.dtype != f->dst.dtype)
        return kisa_refuse(c, "dst: type %s is not table's (%s)",
                           kaena_dtype_name((kaena_dtype)f->dst.dtype),
                           kaena_dtype_name((kaena_dtype)f->table.dtype));
    return KAENA_OK;
}

static kaena_status rule_pack(const kisa_check *c, const kisa_pack *f)
{
    const kisa_operand *d = &f->dst;
    bool bytes = d->dtype == KAENA_I8;
    if (d->dtype == KAENA_U8 || (bytes && f->src.dtype != KAENA_I8) ||
        (!bytes && (f->src.dtype == KAENA_I8 || f->src.dtype == KAENA_U8)))
        return kisa_refuse(c, "src, dst: types %s and %s are neither both float nor both int8",
                           kaena_dtype_name((kaena_dtype)f->src.dtype),
                           kaena_dtype_name((kaena_dtype)d->dtype));
    uint32_t pair = 4 / (uint32_t)kaena_dtype_size((kaena_dtype)d->dtype);
    const uint32_t *n = f->src.count;
    KAENA_TRY(want_counts(c, "src", &f->src, d->count[0], 1, n[2], n[3]));
    KAENA_TRY(want_counts(c, "dst", d, n[0],
                          ((uint64_t)n[3] + KISA_PANEL_COLUMNS - 1) / KISA_PANEL_COLUMNS,
                          ((uint64_t)n[2] + pair - 1) / pair, (uint64_t)KISA_PANEL_COLUMNS * pair));
    KAENA_TRY(want_columns(c, "dst", d));
    if (d->count[2] > 1 && d->stride[2] != 64)
        return kisa_refuse(c, "dst: panel rows are %" PRId64 " bytes apart, not 64", d->stride[2]);
    return KAENA_OK;
}

kaena_status kisa_check_rules(const kisa_check *c, const kisa_inst *inst)
{
    switch (c->op->format) {
#define KISA_FORMAT_BEGIN(format)                                                                  \
    case KISA_FORMAT_##format:                                                                     \
        return rule_##format(c, &inst->u.format);
#include "isa.def"
    case KISA_FORMAT_COUNT:
        break;
    }
    return kisa_refuse(c, "no such format");
}

const char *kisa_in_place(kisa_format format)
{
    static const char *const of[KISA_FORMAT_COUNT] = {
        [KISA_FORMAT_act] = "src residual", [KISA_FORMAT_tt] = "a b",
        [KISA_FORMAT_dwconv] = "residual",  [KISA_FORMAT_softmax] = "src",
        [KISA_FORMAT_copy] = "src",         [KISA_FORMAT_norm] = "src",
        [KISA_FORMAT_ttt] = "a b c",        [KISA_FORMAT_quant] = "src",
    };
    return of[format] ? of[format] : "";
}
