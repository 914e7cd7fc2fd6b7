/* Work of the PE array: convolutions and products, as nests of LDW/MATMUL runs drained by ACT. */
#include <string.h>

#include "lower.h"
#include "product.h"
#include "passes.h"

/* The dimensions of a job's blocks, outermost first. */
enum { BATCH, PANELS = 2, ROWS, MAX_DIMS = 6 };

typedef kcc_product job;

/* Base and advances of the operands while blocks are laid out. */
typedef struct cursor {
    int64_t size[MAX_DIMS]; /* of the block; batch: 1 */
    int64_t start[MAX_DIMS];
    int64_t step[MAX_DIMS][KISA_MAX_LOOPS]; /* of start per turn of each open loop */
} cursor;

static void set_advance(kisa_operand *o, const cursor *c, int32_t dim, int64_t bytes)
{
    for (int32_t l = 0; l < KISA_MAX_LOOPS; l++)
        o->advance[l] += c->step[dim][l] * bytes;
}

static void set_batch(kisa_operand *o, const cursor *c, const int64_t stride[2])
{
    for (int32_t d = 0; d < 2; d++) {
        o->offset += (uint64_t)(c->start[BATCH + d] * stride[d]);
        set_advance(o, c, BATCH + d, stride[d]);
    }
}

/* Rows of the block as the first three dimensions. */
static void set_rows(kisa_operand *o, const cursor *c, const int64_t batch[2],
                     const int64_t stride[3])
{
    set_batch(o, c, batch);
    for (int32_t d = 0; d < 3; d++) {
        o->count[d] = (uint32_t)c->size[ROWS + d];
        o->stride[d] = stride[d];
        o->offset += (uint64_t)(c->start[ROWS + d] * stride[d]);
        set_advance(o, c, ROWS + d, stride[d]);
    }
}

/* Columns of the block as the last dimension, from column |first|. */
static void set_columns(kisa_operand *o, const cursor *c, int64_t first, int64_t columns,
                        int64_t stride)
{
    o->count[3] = (uint32_t)columns;
    o->stride[3] = stride;
    o->offset += (uint64_t)(first * stride);
    set_advance(o, c, PANELS, KISA_PANEL_COLUMNS * stride);
}

static kisa_quant quant_of(const kcc_scaling *s, const kisa_operand *src, const kisa_operand *dst)
{
    return (kisa_quant){.src = *src,
                        .dst = *dst,
                        .scale_all = s->scale_all,
                        .bias_all = s->bias_all,
                        .divide = s->divide,
                        .zero = s->zero,
                        .low = s->low,
                        .high = s->high};
}

void kcc_emit_scaling(kcc_module *m, uint32_t tpb, const kcc_scaling *s, const kisa_operand *src,
                      const kisa_operand *dst)
{
    kcc_inst(m, tpb, KISA_QUANT)->u.quant = quant_of(s, src, dst);
}

static void emit_act(kcc_module *m, uint32_t tpb, const job *j, const cursor *c, uint16_t psum_row)
{
    int64_t first = j->column0 + c->start[PANELS] * KISA_PANEL_COLUMNS,
            columns = c->size[PANELS] * KISA_PANEL_COLUMNS;
    if (columns > j->column0 + j->columns - first)
        columns = j->column0 + j->columns - first;
    kisa_operand dst = kcc_operand(m, tpb, &j->dst);
    dst.offset += (uint64_t)j->dst_offset;
    set_rows(&dst, c, j->dst_batch, j->dst_stride);
    set_columns(&dst, c, first, columns, j->dst_column);
    kisa_operand src = {.space = KISA_PSUM,
                        .dtype = j->integer ? KAENA_I32 : KAENA_F32,
                        .offset = (uint64_t)psum_row * KISA_PSUM_ROW_BYTES};
    int64_t rows = KISA_PSUM_ROW_BYTES;
    for (int32_t d = 3; d-- > 0;) {
        src.count[d] = dst.count[d];
        src.stride[d] = rows;
        rows *= dst.count[d];
    }
    src.count[3] = dst.count[3];
    src.stride[3] = 4;
    if (j->integer) {
        kisa_quant *q = &kcc_inst(m, tpb, KISA_QUANT)->u.quant;
        *q = quant_of(&j->scaling, &src, &dst);
        if (j->scaling.scale.buf) {
            q->scale = kcc_operand(m, tpb, &j->scaling.scale);
            set_columns(&q->scale, c, first, columns, 4);
        }
        if (j->scaling.bias.buf) {
            q->bias = kcc_operand(m, tpb, &j->scaling.bias);
            set_columns(&q->bias, c, first, columns, 4);
        }
        return;
    }
    kisa_operand residual = {0}, bias = {0};
    if (j->residual.buf) {
        residual = kcc_operand(m, tpb, &j->residual);
        residual.offset += (uint64_t)j->res_offset;
        set_rows(&residual, c, j->res_batch, j->res_stride);
        set_columns(&residual, c, first, columns, j->res_column);
    }
    if (j->bias.buf) {
        bias = kcc_operand(m, tpb, &j->bias);
        set_columns(&bias, c, first, columns, 4);
    }
    kisa_inst *inst = kcc_inst(m, tpb, KISA_ACT);
    inst->u.act = (kisa_act){.src = src,
                             .dst = dst,
                             .bias = bias,
                             .residual = residual,
                             .scale_all = j->ep.scale,
                             .bias_all = 0,
                             .func = (uint8_t)j->ep.act,
                             .residual_after = j->ep.residual_after,
                             .alpha = j->ep.alpha,
                             .beta = j->ep.beta};
}

/* One PSUM tile: all K tiles, then what drains it. */
static void emit_run(kcc_module *m, uint32_t tpb, const job *j, const cursor *c)
{
    const kcc_packed *w = j->w;
    uint32_t element = (uint32_t)kaena_dtype_size(j->x.dtype), pair = 4 / element;
    /* Banks take turns, so that the PE array fills one while ACT drains another. */
    uint16_t psum_row = (uint16_t)((m->code[tpb].n / 2 % 4) * KISA_TILE_ROWS);
    const kcc_view weights = {
        .buf = w->buf, .dtype = j->integer ? KAENA_I8 : j->x.dtype, .per_turn = j->w_per_turn};
    for (const kcc_packed *joined = w->joined; joined; joined = joined->joined)
        (void)kcc_operand(m, tpb, &(kcc_view){.buf = joined->buf}); /* notes that it is used */
    for (uint32_t t = 0; t < w->n_tiles; t++) {
        kisa_operand o = kcc_operand(m, tpb, &weights);
        o.offset +=
            (uint64_t)((c->start[PANELS] + j->column0 / KISA_PANEL_COLUMNS) * w->panel_stride +
                       j->w_offset + w->tile[t].w_offset);
        set_batch(&o, c, j->w_batch);
        o.count[1] = (uint32_t)c->size[PANELS];
        o.count[2] = (w->tile[t].k + pair - 1) / pair;
        o.count[3] = KISA_PANEL_COLUMNS * pair;
        o.stride[1] = w->panel_stride;
        o.stride[2] = 64;
        o.stride[3] = element;
        set_advance(&o, c, PANELS, w->panel_stride);
        kisa_inst *inst = kcc_inst(m, tpb, KISA_LDW);
        inst->u.ldw.weights = o;
        inst->u.ldw.k = (uint16_t)w->tile[t].k;
        o = kcc_operand(m, tpb, &j->x);
        o.offset += (uint64_t)(j->x_offset + w->tile[t].x_offset);
        set_rows(&o, c, j->x_batch, j->x_stride);
        o.count[3] = w->tile[t].k;
        o.stride[3] = element;
        inst = kcc_inst(m, tpb, KISA_MATMUL);
        inst->u.matmul.moving = o;
        inst->u.matmul.psum_row = psum_row;
        inst->u.matmul.accumulate = t > 0;
    }
    emit_act(m, tpb, j, c, psum_row);
}

/* Lays out dimension |d| in blocks: a loop over the whole ones, then the rest. */
static void emit_blocks(kcc_module *m, uint32_t tpb, const job *j, const int64_t extent[MAX_DIMS],
                        const int64_t block[MAX_DIMS], int32_t d, cursor *c)
{
    if (d == MAX_DIMS) {
        emit_run(m, tpb, j, c);
        return;
    }
    int64_t whole = extent[d] / block[d], rest = extent[d] % block[d];
    c->start[d] = 0;
    c->size[d] = block[d];
    if (whole > 1) {
        uint32_t level = m->code[tpb].depth;
        kcc_loop(m, tpb, (uint32_t)whole);
        c->step[d][level] = block[d];
        emit_blocks(m, tpb, j, extent, block, d + 1, c);
        c->step[d][level] = 0;
        kcc_end(m, tpb);
    } else if (whole == 1) {
        emit_blocks(m, tpb, j, extent, block, d + 1, c);
    }
    if (rest) {
        c->start[d] = whole * block[d];
        c->size[d] = rest;
        emit_blocks(m, tpb, j, extent, block, d + 1, c);
    }
}

/* Neighbouring row dimensions that all operands walk evenly become one: longer blocks, regular
 * strides. */
static void merge_rows(job *j)
{
    for (int32_t d = 1; d >= 0; d--) {
        if (j->rows[d] == 1 || j->rows[d + 1] == 1) {
            if (j->rows[d + 1] == 1) {
                j->rows[d + 1] = j->rows[d];
                j->x_stride[d + 1] = j->x_stride[d];
                j->dst_stride[d + 1] = j->dst_stride[d];
                j->res_stride[d + 1] = j->res_stride[d];
                j->rows[d] = 1;
            }
            continue;
        }
        bool even = j->x_stride[d] == j->x_stride[d + 1] * j->rows[d + 1] &&
                    j->dst_stride[d] == j->dst_stride[d + 1] * j->rows[d + 1] &&
                    (!j->residual.buf || j->res_stride[d] == j->res_stride[d + 1] * j->rows[d + 1]);
        if (even) {
            j->rows[d + 1] *= j->rows[d];
            j->rows[d] = 1;
        }
    }
}

static void emit_job(kcc_module *m, uint32_t tpb, job *j)
{
    merge_rows(j);
    int64_t panels = (j->columns + KISA_PANEL_COLUMNS - 1) / KISA_PANEL_COLUMNS;
    const int64_t extent[MAX_DIMS] = {j->batch[0], j->batch[1], panels,
                                      j->rows[0],  j->rows[1],  j->rows[2]};
    int64_t block[MAX_DIMS] = {1, 1, panels < KISA_TILE_PANELS ? panels : KISA_TILE_PANELS,
                               1, 1, 1};
    int64_t room = KISA_TILE_ROWS;
    for (int32_t d = MAX_DIMS - 1; d >= ROWS; d--) {
        block[d] = extent[d] < room ? extent[d] : room;
        room = block[d] == extent[d] ? room / block[d] : 1;
        if (room < 1)
            room = 1;
    }
    /* The last columns may not fill the last panel of a whole group: they make a block of their
     * own, since all turns of a loop are alike. */
    cursor c = {0};
    int64_t ragged = j->columns % KISA_PANEL_COLUMNS;
    if (ragged && panels % block[PANELS] == 0 && panels > block[PANELS]) {
        job rest = *j;
        int64_t whole = (panels - block[PANELS]) * KISA_PANEL_COLUMNS;
        rest.column0 += whole;
        rest.columns -= whole;
        j->columns = whole;
        int64_t first[MAX_DIMS], last[MAX_DIMS];
        memcpy(first, extent, sizeof first);
        memcpy(last, extent, sizeof last);
        first[PANELS] = panels - block[PANELS];
        last[PANELS] = block[PANELS];
        emit_blocks(m, tpb, j, first, block, 0, &c);
        emit_blocks(m, tpb, &rest, last, block, 0, &c);
        return;
    }
    emit_blocks(m, tpb, j, extent, block, 0, &c);
}

/* The longest of batch, rows or panels that shares out evenly; weights that outgrow a cache are
 * better split by panels. */
typedef enum split { SPLIT_BATCH, SPLIT_ROWS, SPLIT_PANELS } split;

static double evenness(int64_t units, uint32_t parts)
{
    int64_t most = (units + parts - 1) / parts;
    return units ? (double)units / (double)(most * parts) : 0;
}

#define CACHED_WEIGHTS (512 << 10)

static split choose_split(int64_t batch, int64_t rows, int64_t columns, uint64_t weight_bytes,
                          uint32_t parts)
{
    double by_batch = evenness(batch, parts), by_rows = evenness(rows, parts);
    double by_panels = evenness((columns + KISA_PANEL_COLUMNS - 1) / KISA_PANEL_COLUMNS, parts);
    if (by_batch == 1)
        return SPLIT_BATCH;
    if (weight_bytes > CACHED_WEIGHTS)
        by_panels *= 1.15;
    else
        by_rows *= 1.15;
    return by_rows >= by_panels ? SPLIT_ROWS : SPLIT_PANELS;
}

/* Restricts a job to a part; false when it is empty. */
static bool take_part(job *j, split how, uint32_t part, uint32_t parts)
{
    int64_t lo, hi;
    if (parts == 1)
        return true;
    if (how == SPLIT_PANELS) {
        kcc_part(j->columns, KISA_PANEL_COLUMNS, part, parts, &lo, &hi);
        j->column0 += lo;
        j->columns = hi - lo;
        return lo < hi;
    }
    int32_t d = how == SPLIT_BATCH ? 0 : 1;
    kcc_part(j->rows[d], 1, part, parts, &lo, &hi);
    if (lo >= hi)
        return false;
    j->rows[d] = hi - lo;
    j->x_offset += lo * j->x_stride[d];
    j->dst_offset += lo * j->dst_stride[d];
    j->res_offset += lo * j->res_stride[d];
    return true;
}

static kaena_status bias_view(kcc_module *m, const kgr_node *n, uint32_t at, uint32_t n_in,
                              int64_t columns, kcc_view *out, kaena_err *err)
{
    *out = (kcc_view){0};
    if (n_in <= at || !n->in[at])
        return KAENA_OK;
    int64_t elements;
    if (!kaena_shape_elements(&n->in[at]->t.shape, &elements) ||
        (elements != columns && elements != 1))
        return KAENA_FAIL(err, INTERNAL, "bias '%s' is not one value per column", n->in[at]->name);
    if (elements == columns)
        return kcc_const_view(m, n->in[at], KAENA_F32, out, err);
    float *spread = KAENA_NEW_N(m->arena, float, columns);
    for (int64_t c = 0; c < columns; c++)
        spread[c] = (float)kop_get_float(&n->in[at]->t, 0);
    *out = (kcc_view){.buf = kcc_weights_add(m, spread, (uint64_t)columns * sizeof(float)),
                      .dtype = KAENA_F32};
    return KAENA_OK;
}

static kaena_status residual_view(kcc_module *m, const kcc_epilogue *ep, kcc_view *out,
                                  kaena_err *err)
{
    *out = (kcc_view){0};
    return ep->residual ? kcc_input_view(m, ep->residual, out, err) : KAENA_OK;
}

static int64_t stride_at(const kcc_view *v, int32_t d)
{
    return d < v->shape.rank ? v->stride[d] : 0;
}

/* Depthwise: one channel in, one out, on the POOL engine. */
static kaena_status emit_depthwise(kcc_module *m, const kgr_node *n, const kop_window *w,
                                   uint32_t tpb, uint32_t part, uint32_t parts, kaena_err *err)
{
    kcc_view x, dst = *kcc_view_of(m, n->out[0]), bias, residual;
    kcc_epilogue ep = kcc_epilogue_of(n);
    KAENA_TRY(kcc_input_view(m, n->in[0], &x, err));
    KAENA_TRY(bias_view(m, n, 2, ep.n_in, dst.shape.dim[1], &bias, err));
    KAENA_TRY(residual_view(m, &ep, &residual, err));
    const kcc_packed *packed;
    const kaena_dtype w_type = n->in[1]->t.dtype;
    KAENA_TRY(kcc_pack_depthwise(m, n->in[1], w_type, w, &packed, err));
    int32_t sy = w->spatial == 2 ? 0 : -1, sx = w->spatial - 1;
    int64_t oh = sy < 0 ? 1 : w->out[sy], lo, hi, kh = sy < 0 ? 1 : w->kernel[sy],
            stride_h = sy < 0 ? 1 : w->stride[sy], dilation_h = sy < 0 ? 1 : w->dilation[sy],
            pad_h = sy < 0 ? 0 : w->pad_begin[sy];
    int32_t dy = sy < 0 ? KAENA_MAX_RANK - 1 : 2, dx = 2 + sx;
    kcc_part(oh, 1, part, parts, &lo, &hi);
    if (lo >= hi)
        return KAENA_OK;
    const int64_t in_y = sy < 0 ? 0 : x.stride[dy], out_y = sy < 0 ? 0 : dst.stride[dy];
    kisa_operand src = kcc_operand(m, tpb, &x), out = kcc_operand(m, tpb, &dst);
    src.offset += (uint64_t)((lo * stride_h - pad_h) * in_y - w->pad_begin[sx] * x.stride[dx]);
    out.offset += (uint64_t)(lo * out_y);
    const int64_t h = (hi - lo - 1) * stride_h + (kh - 1) * dilation_h + 1,
                  wide =
                      (w->out[sx] - 1) * w->stride[sx] + (w->kernel[sx] - 1) * w->dilation[sx] + 1;
    const uint32_t in_count[4] = {(uint32_t)x.shape.dim[0], (uint32_t)h, (uint32_t)wide,
                                  (uint32_t)x.shape.dim[1]};
    const uint32_t out_count[4] = {in_count[0], (uint32_t)(hi - lo), (uint32_t)w->out[sx],
                                   in_count[3]};
    memcpy(src.count, in_count, sizeof in_count);
    memcpy(out.count, out_count, sizeof out_count);
    const int64_t in_stride[4] = {x.stride[0], in_y, x.stride[dx], x.stride[1]},
                  out_stride[4] = {dst.stride[0], out_y, dst.stride[dx], dst.stride[1]};
    memcpy(src.stride, in_stride, sizeof in_stride);
    memcpy(out.stride, out_stride, sizeof out_stride);
    kisa_operand weights = kcc_operand(m, tpb, &(kcc_view){.buf = packed->buf, .dtype = w_type});
    int64_t element = (int64_t)kaena_dtype_size(w_type);
    weights.count[1] = (uint32_t)kh;
    weights.count[2] = (uint32_t)w->kernel[sx];
    weights.count[3] = in_count[3];
    weights.stride[3] = element;
    weights.stride[2] = element * in_count[3];
    weights.stride[1] = weights.stride[2] * w->kernel[sx];
    kisa_operand b = {0}, r = {0};
    if (bias.buf) {
        b = kcc_operand(m, tpb, &bias);
        b.count[3] = in_count[3];
        b.stride[3] = 4;
    }
    if (residual.buf) {
        r = kcc_operand(m, tpb, &residual);
        const int64_t r_y = sy < 0 ? 0 : residual.stride[dy];
        const int64_t res_stride[4] = {residual.stride[0], r_y, residual.stride[dx],
                                       residual.stride[1]};
        r.offset += (uint64_t)(lo * r_y);
        memcpy(r.count, out_count, sizeof out_count);
        memcpy(r.stride, res_stride, sizeof res_stride);
    }
    kisa_inst *inst = kcc_inst(m, tpb, KISA_DWCONV);
    inst->u.dwconv = (kisa_dwconv){.src = src,
                                   .weights = weights,
                                   .bias = b,
                                   .residual = r,
                                   .dst = out,
                                   .stride_h = (uint16_t)stride_h,
                                   .stride_w = (uint16_t)w->stride[sx],
                                   .dilation_h = (uint16_t)dilation_h,
                                   .dilation_w = (uint16_t)w->dilation[sx],
                                   .func = (uint8_t)ep.act,
                                   .residual_after = ep.residual_after,
                                   .alpha = ep.alpha,
                                   .beta = ep.beta};
    return KAENA_OK;
}

kaena_status kcc_emit_conv_product(kcc_module *m, const kgr_node *n, const kop_window *w,
                                   const kgr_value *const *weights, uint32_t n_weights,
                                   const kcc_product *p, uint32_t tpb, uint32_t part,
                                   uint32_t parts, kaena_err *err)
{
    job j = *p;
    int64_t channels = n->in[0]->t.shape.dim[1], columns = j.dst.shape.dim[1];
    int32_t dx = 1 + w->spatial, sx = w->spatial - 1;
    bool plane = w->spatial == 2;
    const int64_t rows[3] = {j.dst.shape.dim[0], plane ? w->out[0] : 1, w->out[sx]};
    memcpy(j.rows, rows, sizeof rows);
    j.x_stride[0] = j.x.stride[0];
    j.x_stride[1] = plane ? j.x.stride[2] * w->stride[0] : 0;
    j.x_stride[2] = j.x.stride[dx] * w->stride[sx];
    j.x_offset = -w->pad_begin[sx] * j.x.stride[dx] - (plane ? w->pad_begin[0] * j.x.stride[2] : 0);
    const kcc_view *sides[2] = {&j.dst, &j.residual};
    int64_t *strides[2] = {j.dst_stride, j.res_stride};
    for (int32_t s = 0; s < 2; s++) {
        strides[s][0] = stride_at(sides[s], 0);
        strides[s][1] = plane ? stride_at(sides[s], 2) : 0;
        strides[s][2] = stride_at(sides[s], dx);
    }
    j.dst_column = j.dst.stride[1];
    j.res_column = stride_at(&j.residual, 1);
    int64_t group_columns = columns / w->group;
    uint64_t weight_bytes = (uint64_t)kop_elements(&weights[0]->t) * kaena_dtype_size(j.x.dtype);
    split how = choose_split(rows[0], rows[1], group_columns, weight_bytes, parts);
    kcc_view as_packed = j.x;
    if (j.integer)
        as_packed.dtype = KAENA_I8;
    for (int64_t g = 0; g < w->group; g++) {
        job one = j;
        KAENA_TRY(kcc_pack_conv(m, weights[0], &as_packed, w, g, &one.w, err));
        for (uint32_t i = 1; i < n_weights; i++) {
            const kcc_packed *more;
            KAENA_TRY(kcc_pack_conv(m, weights[i], &as_packed, w, g, &more, err));
            one.w = kcc_packed_join(m, one.w, more);
        }
        one.x_offset += g * (channels / w->group) * j.x.stride[1];
        one.dst_offset += g * group_columns * j.dst_column;
        one.res_offset += g * group_columns * j.res_column;
        kcc_view *const vectors[] = {&one.bias, &one.scaling.bias, &one.scaling.scale};
        for (int i = 0; i < 3; i++)
            if (vectors[i]->buf)
                vectors[i]->offset += g * group_columns * 4;
        one.columns = group_columns;
        if (take_part(&one, how, part, parts))
            emit_job(m, tpb, &one);
    }
    return KAENA_OK;
}

kaena_status kcc_emit_conv(kcc_module *m, const kgr_node *n, uint32_t tpb, uint32_t part,
                           uint32_t parts, kaena_err *err)
{
    const kop_tensor *tensors[KOP_MAX_INPUTS];
    kop_tensor result[1];
    kop_call call = kgr_call(n, tensors, result, NULL, err);
    kop_window w;
    KAENA_TRY(kop_window_of(&call, &w));
    kcc_view dst = *kcc_view_of(m, n->out[0]);
    if (part == 0)
        kcc_fill_halo(m, tpb, &dst);
    int64_t channels = n->in[0]->t.shape.dim[1], columns = dst.shape.dim[1];
    if (kcc_is_depthwise(n) && columns == channels)
        return emit_depthwise(m, n, &w, tpb, part, parts, err);
    job j = {.dst = dst, .batch = {1, 1}, .ep = kcc_epilogue_of(n)};
    KAENA_TRY(kcc_input_view(m, n->in[0], &j.x, err));
    KAENA_TRY(bias_view(m, n, 2, j.ep.n_in, columns, &j.bias, err));
    KAENA_TRY(residual_view(m, &j.ep, &j.residual, err));
    const kgr_value *weights = n->in[1];
    return kcc_emit_conv_product(m, n, &w, &weights, 1, &j, tpb, part, parts, err);
}

/* Strides of |v|, which broadcasts to the result of |rank| dimensions, as those of the job. */
static void spread(const kcc_view *v, int32_t rank, int32_t n_batch, int64_t batch[2],
                   int64_t rows[3], int64_t outer[KAENA_MAX_RANK])
{
    int64_t stride[KAENA_MAX_RANK] = {0};
    int32_t skip = rank - v->shape.rank;
    for (int32_t d = 0; v->buf && d < v->shape.rank; d++)
        stride[d + skip] = v->shape.dim[d] == 1 ? 0 : v->stride[d];
    int32_t n_rows = rank - 1 - n_batch, first = n_batch > 2 ? n_batch - 2 : 0;
    for (int32_t d = 0; d < n_batch; d++) {
        if (d < first)
            outer[d] = stride[d];
        else
            batch[2 - n_batch + d] = stride[d];
    }
    for (int32_t d = 0; d < n_rows; d++)
        rows[3 - n_rows + d] = stride[n_batch + d];
}

/* Two batch dimensions that all operands walk evenly become one. */
static void merge_batch(job *j)
{
    bool even = true;
    const int64_t *const stride[4] = {j->x_batch, j->dst_batch, j->res_batch, j->w_batch};
    for (int i = 0; i < 4; i++)
        even = even && stride[i][0] == stride[i][1] * j->batch[1];
    if (!even)
        return;
    j->batch[1] *= j->batch[0];
    j->batch[0] = 1;
}

/* A dimension of the job, |unit| steps of it at a time, for TPBs to share. */
static bool take_batch(job *j, uint32_t part, uint32_t parts, bool *empty)
{
    int32_t d = j->batch[1] >= j->batch[0];
    if (evenness(j->batch[d], parts) < 1)
        return false;
    int64_t lo, hi;
    kcc_part(j->batch[d], 1, part, parts, &lo, &hi);
    j->batch[d] = hi - lo;
    j->x_offset += lo * j->x_batch[d];
    j->dst_offset += lo * j->dst_batch[d];
    j->res_offset += lo * j->res_batch[d];
    j->w_offset += lo * j->w_batch[d];
    *empty = lo >= hi;
    return true;
}

void kcc_emit_products(kcc_module *m, job *j, uint64_t weight_bytes, uint32_t tpb, uint32_t part,
                       uint32_t parts)
{
    merge_batch(j);
    /* Rows sit in the last dimension of few; take_part cuts dimension 1. */
    if (j->rows[1] == 1) {
        j->rows[1] = j->rows[2];
        j->x_stride[1] = j->x_stride[2];
        j->dst_stride[1] = j->dst_stride[2];
        j->res_stride[1] = j->res_stride[2];
        j->rows[2] = 1;
    }
    bool empty = false;
    if (parts > 1 && !take_batch(j, part, parts, &empty)) {
        split how = choose_split(j->rows[0], j->rows[1], j->columns, weight_bytes, parts);
        empty = !take_part(j, how, part, parts);
    }
    if (!empty)
        emit_job(m, tpb, j);
}

/* Batch dimensions: all but the matrices' own where products have weights of their own, none where
 * the rows of one product have room for them. */
static int32_t weight_batch(const kaena_shape *b, int32_t out_rank)
{
    bool one = true;
    for (int32_t d = 0; d + 2 < b->rank; d++)
        one = one && b->dim[d] == 1;
    return one && out_rank <= 4 ? 0 : out_rank - 2;
}

kaena_status kcc_emit_matmul(kcc_module *m, const kgr_node *n, uint32_t tpb, uint32_t part,
                             uint32_t parts, kaena_err *err)
{
    const kop_tensor *tensors[KOP_MAX_INPUTS];
    kop_tensor result[1];
    kop_call call = kgr_call(n, tensors, result, NULL, err);
    job j = {.dst = *kcc_view_of(m, n->out[0]), .batch = {1, 1}, .ep = kcc_epilogue_of(n)};
    KAENA_TRY(kcc_input_view(m, n->in[0], &j.x, err));
    const kaena_shape *b = &n->in[1]->t.shape, *out = &j.dst.shape;
    bool transposed = n->op == KOP_Gemm && kop_attr_int(&call, "transB", 0);
    j.columns = out->dim[out->rank - 1];
    KAENA_TRY(bias_view(m, n, 2, j.ep.n_in, j.columns, &j.bias, err));
    KAENA_TRY(residual_view(m, &j.ep, &j.residual, err));
    if (n->in[1]->t.data)
        KAENA_TRY(kcc_pack_matrix(m, n->in[1], j.x.dtype, transposed, &j.w, err));
    else
        j.w = kcc_packed_of(m, n->in[1]);
    if (!n->in[1]->t.data) {
        const kcc_view *panels = kcc_view_of(m, n->in[1]);
        j.w_offset = panels->offset;
        j.w_per_turn = panels->per_turn;
    }
    int32_t n_batch = weight_batch(b, out->rank), n_rows = out->rank - 1 - n_batch;
    int64_t outer[4][KAENA_MAX_RANK] = {{0}}; /* x, dst, residual, weights */
    spread(&j.x, out->rank, n_batch, j.x_batch, j.x_stride, outer[0]);
    spread(&j.dst, out->rank, n_batch, j.dst_batch, j.dst_stride, outer[1]);
    spread(&j.residual, out->rank, n_batch, j.res_batch, j.res_stride, outer[2]);
    /* The weights of a batch follow each other. */
    kcc_view w = {.buf = j.w->buf, .shape = *b};
    int64_t matrix = (j.columns + KISA_PANEL_COLUMNS - 1) / KISA_PANEL_COLUMNS * j.w->panel_stride;
    for (int32_t d = b->rank - 2; d-- > 0; matrix *= b->dim[d])
        w.stride[d] = matrix;
    int64_t none[3];
    spread(&w, out->rank, n_batch, j.w_batch, none, outer[3]);
    int64_t extent[KAENA_MAX_RANK], products = 1;
    int32_t n_outer = n_batch > 2 ? n_batch - 2 : 0;
    for (int32_t d = 0; d < n_outer; d++)
        products *= extent[d] = out->dim[d];
    for (int32_t d = n_outer; d < n_batch; d++)
        j.batch[2 - n_batch + d] = out->dim[d];
    for (int32_t d = 0; d < 3; d++)
        j.rows[d] = d < 3 - n_rows ? 1 : out->dim[n_batch + d - (3 - n_rows)];
    j.dst_column = j.dst.stride[out->rank - 1];
    int32_t last = j.residual.shape.rank - 1;
    j.res_column = j.residual.buf && last >= 0 && j.residual.shape.dim[last] != 1
                       ? j.residual.stride[last]
                       : 0;
    if (part == 0)
        kcc_fill_halo(m, tpb, &j.dst);
    uint64_t weight_bytes = (uint64_t)matrix;
    for (int64_t i = 0; i < products; i++) {
        job one = j;
        int64_t rest = i;
        for (int32_t d = n_outer; d-- > 0; rest /= extent[d]) {
            int64_t at = rest % extent[d];
            one.x_offset += at * outer[0][d];
            one.dst_offset += at * outer[1][d];
            one.res_offset += at * outer[2][d];
            one.w_offset += at * outer[3][d];
        }
        kcc_emit_products(m, &one, weight_bytes, tpb, part, parts);
    }
    return KAENA_OK;
}

kaena_status kcc_emit_panels(kcc_module *m, const kgr_node *n, uint32_t tpb, uint32_t part,
                             uint32_t parts, kaena_err *err)
{
    kcc_view src, dst = *kcc_view_of(m, n->out[0]);
    KAENA_TRY(kcc_input_view(m, n->in[0], &src, err));
    int32_t rank = src.shape.rank, cut = rank - 1;
    int64_t columns = src.shape.dim[rank - 1], k = src.shape.dim[rank - 2], lo, hi;
    int64_t pair = 4 / (int64_t)kaena_dtype_size(dst.dtype), panel_rows = (k + pair - 1) / pair;
    /* Matrices are shared out where there are enough, else panels. */
    for (int32_t d = 0; d + 2 < rank; d++)
        if (src.shape.dim[d] >= (int64_t)parts &&
            (cut == rank - 1 || src.shape.dim[d] > src.shape.dim[cut]))
            cut = d;
    kcc_part(src.shape.dim[cut], cut == rank - 1 ? KISA_PANEL_COLUMNS : 1, part, parts, &lo, &hi);
    if (lo >= hi)
        return KAENA_OK;
    int64_t panel = panel_rows * 64,
            matrix = (columns + KISA_PANEL_COLUMNS - 1) / KISA_PANEL_COLUMNS * panel;
    int64_t stride[KAENA_MAX_RANK] = {0}, count[KAENA_MAX_RANK];
    for (int32_t d = rank - 2; d-- > 0; matrix *= src.shape.dim[d])
        stride[d] = matrix;
    for (int32_t d = 0; d < rank; d++)
        count[d] = d == cut ? hi - lo : src.shape.dim[d];
    kisa_operand from = kcc_operand(m, tpb, &src), to = kcc_operand(m, tpb, &dst);
    from.offset += (uint64_t)(lo * src.stride[cut]);
    to.offset += (uint64_t)(cut == rank - 1 ? lo / KISA_PANEL_COLUMNS * panel : lo * stride[cut]);
    uint32_t loops = 0;
    for (int32_t d = 0; d + 3 < rank; d++) {
        if (count[d] == 1)
            continue;
        uint32_t level = m->code[tpb].depth;
        kcc_loop(m, tpb, (uint32_t)count[d]);
        from.advance[level] = src.stride[d];
        to.advance[level] = stride[d];
        loops++;
    }
    from.count[0] = to.count[0] = rank > 2 ? (uint32_t)count[rank - 3] : 1;
    from.stride[0] = rank > 2 ? src.stride[rank - 3] : 0;
    to.stride[0] = rank > 2 ? stride[rank - 3] : 0;
    from.count[2] = (uint32_t)k;
    from.stride[2] = src.stride[rank - 2];
    from.count[3] = (uint32_t)count[rank - 1];
    from.stride[3] = src.stride[rank - 1];
    to.count[1] = (uint32_t)((count[rank - 1] + KISA_PANEL_COLUMNS - 1) / KISA_PANEL_COLUMNS);
    to.stride[1] = panel;
    to.count[2] = (uint32_t)panel_rows;
    to.stride[2] = 64;
    to.count[3] = (uint32_t)(KISA_PANEL_COLUMNS * pair);
    to.stride[3] = (int64_t)kaena_dtype_size(dst.dtype);
    kcc_inst(m, tpb, KISA_PACK)->u.pack = (kisa_pack){.src = from, .dst = to};
    while (loops--)
        kcc_end(m, tpb);
    return KAENA_OK;
}
