/* Work on rows of dense tensors: normalisation, look-up in tables. */
#include <string.h>

#include "lower.h"

/* A constant's |n| elements as float32 in WEIGHTS, each once or all alike. */
static kaena_status vector(kcc_module *m, const kgr_value *v, int64_t n, kcc_view *out,
                           kaena_err *err)
{
    *out = (kcc_view){0};
    if (!v)
        return KAENA_OK;
    KAENA_TRY(kcc_const_view(m, v, KAENA_F32, out, err));
    int64_t elements = (int64_t)kop_elements(&v->t);
    if (elements != n && elements != 1)
        return KAENA_FAIL(err, INTERNAL, "'%s' has %lld elements, not %lld", v->name,
                          (long long)elements, (long long)n);
    out->stride[0] = elements == 1 ? 0 : (int64_t)sizeof(float);
    return KAENA_OK;
}

/* A scale or bias with |dst|'s counts: |row| and |column| say along what it varies. */
static kisa_operand along(kcc_module *m, uint32_t tpb, const kcc_view *v, const kisa_operand *dst,
                          int64_t first, bool rows)
{
    if (!v->buf)
        return (kisa_operand){0};
    kisa_operand o = kcc_operand(m, tpb, v);
    memcpy(o.count, dst->count, sizeof o.count);
    o.stride[rows ? 2 : 3] = v->stride[0];
    o.offset += (uint64_t)(first * v->stride[0]);
    return o;
}

/* |v| as [outer][rows][columns], where the shape says so. */
static bool as_rows(const kcc_view *v, int64_t outer, int64_t rows, int64_t columns, kcc_view *out)
{
    const kaena_shape shape = {3, {outer, rows, columns}};
    return kcc_reshape_view(v, &shape, out);
}

kaena_status kcc_emit_norm(kcc_module *m, const kgr_node *n, uint32_t tpb, uint32_t part,
                           uint32_t parts, kaena_err *err)
{
    const kop_tensor *in[KOP_MAX_INPUTS];
    kop_tensor result[KOP_MAX_OUTPUTS];
    kop_call call = kgr_call(n, in, result, NULL, err);
    kcc_view src, dst = *kcc_view_of(m, n->out[0]), scale, bias;
    KAENA_TRY(kcc_input_view(m, n->in[0], &src, err));
    if (part == 0)
        kcc_fill_halo(m, tpb, &dst);
    /* Rows are everything before the axis; of an instance they are its channels, each with a scale
     * and a bias of its own. */
    const kaena_shape *s = &n->in[0]->t.shape;
    bool channels = n->op == KOP_InstanceNormalization;
    int32_t axis = 2;
    if (!channels && !kop_axis(kop_attr_int(&call, "axis", -1), s->rank, &axis))
        return KAENA_FAIL(err, INVALID_ARGUMENT, "axis out of range");
    int64_t outer = 1, rows = 1, columns = 1;
    for (int32_t d = 0; d < s->rank; d++) {
        int64_t *of = d >= axis ? &columns : channels && d == 0 ? &outer : &rows;
        *of *= s->dim[d];
    }
    int64_t n_affine = channels ? rows : columns;
    KAENA_TRY(vector(m, n->n_in > 1 ? n->in[1] : NULL, n_affine, &scale, err));
    KAENA_TRY(vector(m, n->n_in > 2 ? n->in[2] : NULL, n_affine, &bias, err));
    kcc_view x, y;
    if (!as_rows(&src, outer, rows, columns, &x) || !as_rows(&dst, outer, rows, columns, &y))
        return KAENA_FAIL(err, INTERNAL, "rows of '%s' are not dense", n->in[0]->name);
    int64_t lo, hi;
    kcc_part(rows, 1, part, parts, &lo, &hi);
    if (lo >= hi)
        return KAENA_OK;
    kisa_operand from = kcc_operand(m, tpb, &x), to = kcc_operand(m, tpb, &y);
    const uint32_t count[4] = {1, (uint32_t)outer, (uint32_t)(hi - lo), (uint32_t)columns};
    memcpy(from.count, count, sizeof count);
    memcpy(to.count, count, sizeof count);
    for (int32_t d = 0; d < 3; d++) {
        from.stride[d + 1] = x.stride[d];
        to.stride[d + 1] = y.stride[d];
    }
    from.offset += (uint64_t)(lo * x.stride[1]);
    to.offset += (uint64_t)(lo * y.stride[1]);
    int64_t first = channels ? lo : 0;
    kisa_operand by = along(m, tpb, &scale, &to, first, channels),
                 plus = along(m, tpb, &bias, &to, first, channels);
    kcc_inst(m, tpb, KISA_NORM)->u.norm =
        (kisa_norm){.src = from,
                    .dst = to,
                    .scale = by,
                    .bias = plus,
                    .kind = n->op == KOP_RMSNormalization ? KISA_NORM_RMS : KISA_NORM_MEAN,
                    .epsilon = kop_attr_float(&call, "epsilon", 1e-5f)};
    return KAENA_OK;
}

kaena_status kcc_emit_gather(kcc_module *m, const kgr_node *n, uint32_t tpb, uint32_t part,
                             uint32_t parts, kaena_err *err)
{
    const kop_tensor *in[KOP_MAX_INPUTS];
    kop_tensor result[1];
    kop_call call = kgr_call(n, in, result, NULL, err);
    kcc_view table, index, dst = *kcc_view_of(m, n->out[0]), t, i, y;
    KAENA_TRY(kcc_input_view(m, n->in[0], &table, err));
    KAENA_TRY(kcc_input_view(m, n->in[1], &index, err));
    if (part == 0)
        kcc_fill_halo(m, tpb, &dst);
    const kaena_shape *s = &table.shape;
    int32_t axis;
    if (!kop_axis(kop_attr_int(&call, "axis", 0), s->rank, &axis))
        return KAENA_FAIL(err, INVALID_ARGUMENT, "axis out of range");
    int64_t before = 1, after = 1, wanted;
    for (int32_t d = 0; d < s->rank; d++)
        if (d != axis)
            *(d < axis ? &before : &after) *= s->dim[d];
    (void)kaena_shape_elements(&index.shape, &wanted);
    if (!as_rows(&table, before, s->dim[axis], after, &t) ||
        !as_rows(&dst, before, wanted, after, &y) || !as_rows(&index, 1, 1, wanted, &i))
        return KAENA_FAIL(err, INTERNAL, "'%s' is not dense", n->in[0]->name);
    int64_t lo, hi;
    kcc_part(wanted, 1, part, parts, &lo, &hi);
    if (lo >= hi)
        return KAENA_OK;
    kisa_operand from = kcc_operand(m, tpb, &t), at = kcc_operand(m, tpb, &i),
                 to = kcc_operand(m, tpb, &y);
    const uint32_t rows[4] = {(uint32_t)before, (uint32_t)s->dim[axis], 1, (uint32_t)after};
    const uint32_t some[4] = {(uint32_t)before, (uint32_t)(hi - lo), 1, (uint32_t)after};
    memcpy(from.count, rows, sizeof rows);
    memcpy(to.count, some, sizeof some);
    for (int32_t d = 0; d < 3; d++) {
        from.stride[d < 2 ? d : 3] = t.stride[d];
        to.stride[d < 2 ? d : 3] = y.stride[d];
    }
    at.count[3] = (uint32_t)(hi - lo);
    at.stride[3] = i.stride[2];
    at.offset += (uint64_t)(lo * i.stride[2]);
    to.offset += (uint64_t)(lo * y.stride[1]);
    kcc_inst(m, tpb, KISA_GATHER)->u.gather =
        (kisa_gather){.table = from, .index = at, .dst = to, .bound = (uint32_t)s->dim[axis]};
    return KAENA_OK;
}
