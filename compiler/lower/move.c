/* Data movement: operators whose output is their input's data in another arrangement. */
#include <string.h>

#include "lower.h"

bool kcc_reshape_view(const kcc_view *in, const kaena_shape *shape, kcc_view *out)
{
    kcc_view v = *in;
    v.shape = *shape;
    memset(v.stride, 0, sizeof v.stride);
    memset(v.before, 0, sizeof v.before);
    memset(v.after, 0, sizeof v.after);
    int32_t i = 0, o = 0;
    while (i < in->shape.rank || o < shape->rank) {
        /* The smallest groups of old and new dimensions with the same number of elements. */
        int32_t i0 = i, o0 = o;
        int64_t a = i < in->shape.rank ? in->shape.dim[i++] : 1,
                b = o < shape->rank ? shape->dim[o++] : 1;
        while (a != b) {
            if (a < b) {
                if (i == in->shape.rank)
                    return false;
                a *= in->shape.dim[i++];
            } else {
                if (o == shape->rank)
                    return false;
                b *= shape->dim[o++];
            }
        }
        /* The old ones must be one even walk. */
        int64_t stride = 0;
        bool first = true;
        for (int32_t d = i; d-- > i0;) {
            if (in->shape.dim[d] == 1)
                continue;
            if (first)
                stride = in->stride[d];
            int64_t inner = 1;
            for (int32_t k = d + 1; k < i; k++)
                inner *= in->shape.dim[k];
            if (in->stride[d] != stride * inner)
                return false;
            first = false;
        }
        for (int32_t d = o; d-- > o0;) {
            v.stride[d] = stride;
            stride *= shape->dim[d];
        }
    }
    *out = v;
    return true;
}

static bool slice_view(const kgr_node *n, kcc_view *v)
{
    const kop_tensor *starts = &n->in[1]->t, *axes = n->n_in > 3 && n->in[3] ? &n->in[3]->t : NULL,
                     *steps = n->n_in > 4 && n->in[4] ? &n->in[4]->t : NULL;
    for (size_t k = 0; k < kop_elements(starts); k++) {
        int32_t axis = (int32_t)k;
        if (axes && !kop_axis(kop_get_int(axes, k), v->shape.rank, &axis))
            return false;
        int64_t dim = v->shape.dim[axis], step = steps ? kop_get_int(steps, k) : 1,
                start = kop_get_int(starts, k);
        if (start < 0)
            start += dim;
        int64_t most = step > 0 ? dim : dim - 1;
        start = start < 0 ? 0 : start > most ? most : start;
        v->offset += start * v->stride[axis];
        v->stride[axis] *= step;
    }
    return true;
}

static bool transpose_view(const kop_call *call, kcc_view *v)
{
    const int64_t *perm = NULL;
    const kcc_view in = *v;
    uint32_t given = kop_attr_ints(call, "perm", &perm);
    for (int32_t d = 0; d < in.shape.rank; d++) {
        int64_t from = given ? perm[d] : in.shape.rank - 1 - d;
        v->stride[d] = in.stride[from];
    }
    return true;
}

static bool split_view(const kgr_node *n, const kop_call *call, uint32_t k, kcc_view *v)
{
    int32_t axis;
    if (!kop_axis(kop_attr_int(call, "axis", 0), v->shape.rank, &axis))
        return false;
    for (uint32_t i = 0; i < k; i++)
        v->offset += n->out[i]->t.shape.dim[axis] * v->stride[axis];
    return true;
}

static bool expand_view(const kgr_node *n, kcc_view *v)
{
    const kcc_view in = *v;
    int32_t rank = n->out[0]->t.shape.rank, skip = rank - in.shape.rank;
    for (int32_t d = 0; d < rank; d++)
        v->stride[d] = d < skip || in.shape.dim[d - skip] == 1 ? 0 : in.stride[d - skip];
    return true;
}

bool kcc_move_view(const kgr_node *n, uint32_t k, const kcc_view *in, kcc_view *out)
{
    const kop_tensor *tensors[KOP_MAX_INPUTS];
    kop_tensor results[KOP_MAX_OUTPUTS];
    kop_call call = kgr_call(n, tensors, results, NULL, NULL);
    kcc_view v = *in;
    memset(v.before, 0, sizeof v.before);
    memset(v.after, 0, sizeof v.after);
    bool ok;
    if (n->op == KOP_Transpose)
        ok = transpose_view(&call, &v);
    else if (n->op == KOP_Slice)
        ok = slice_view(n, &v);
    else if (n->op == KOP_Split)
        ok = split_view(n, &call, k, &v);
    else if (n->op == KOP_Expand)
        ok = expand_view(n, &v);
    else
        return kcc_reshape_view(in, &n->out[k]->t.shape, out);
    v.shape = n->out[k]->t.shape;
    if (ok)
        *out = v;
    return ok;
}

static bool same_place(const kcc_view *a, const kcc_view *b)
{
    return a->buf == b->buf && a->offset == b->offset;
}

kaena_status kcc_emit_move(kcc_module *m, const kgr_node *n, uint32_t tpb, uint32_t part,
                           uint32_t parts, kaena_err *err)
{
    kcc_view in;
    KAENA_TRY(kcc_input_view(m, n->in[0], &in, err));
    for (uint32_t k = 0; k < n->n_out; k++) {
        kcc_view out = *kcc_view_of(m, n->out[k]), moved;
        if (kcc_move_view(n, k, &in, &moved)) {
            if (!same_place(&moved, &out))
                kcc_emit_copy(m, tpb, part, parts, &moved, &out);
            continue;
        }
        /* The output is dense, so it can always be seen in the input's shape. */
        if (!kcc_reshape_view(&out, &in.shape, &moved))
            return KAENA_FAIL(err, INTERNAL, "reshape of '%s': output is not dense",
                              n->in[0]->name);
        kcc_emit_copy(m, tpb, part, parts, &in, &moved);
    }
    return KAENA_OK;
}

kaena_status kcc_emit_concat(kcc_module *m, const kgr_node *n, uint32_t tpb, uint32_t part,
                             uint32_t parts, kaena_err *err)
{
    const kop_tensor *tensors[KOP_MAX_INPUTS];
    kop_tensor result[1];
    kop_call call = kgr_call(n, tensors, result, NULL, NULL);
    kcc_view out = *kcc_view_of(m, n->out[0]);
    int32_t axis = 0;
    (void)kop_axis(kop_attr_int(&call, "axis", 0), out.shape.rank, &axis);
    int64_t at = 0;
    if (part == 0)
        kcc_fill_halo(m, tpb, &out);
    for (uint32_t k = 0; k < n->n_in; k++) {
        kcc_view in, slot = out;
        KAENA_TRY(kcc_input_view(m, n->in[k], &in, err));
        slot.offset += at * out.stride[axis];
        slot.shape = in.shape;
        if (!same_place(&in, &slot))
            kcc_emit_copy(m, tpb, part, parts, &in, &slot);
        at += in.shape.dim[axis];
    }
    return KAENA_OK;
}

/* DepthToSpace and SpaceToDepth as a six-dimensional transposition: the permutation of the split
 * dimensions. */
static void block_shapes(const kgr_node *n, const kcc_view *in, kaena_shape *split, int32_t perm[6])
{
    const kop_tensor *tensors[KOP_MAX_INPUTS];
    kop_tensor result[1];
    kop_call call = kgr_call(n, tensors, result, NULL, NULL);
    int64_t b = kop_attr_int(&call, "blocksize", 1);
    const int64_t *d = in->shape.dim;
    if (n->op == KOP_SpaceToDepth) {
        static const int32_t order[6] = {0, 3, 5, 1, 2, 4};
        *split = (kaena_shape){6, {d[0], d[1], d[2] / b, b, d[3] / b, b}};
        memcpy(perm, order, sizeof order);
    } else if (strcmp(kop_attr_string(&call, "mode", "DCR"), "CRD") == 0) {
        static const int32_t order[6] = {0, 1, 4, 2, 5, 3};
        *split = (kaena_shape){6, {d[0], d[1] / (b * b), b, b, d[2], d[3]}};
        memcpy(perm, order, sizeof order);
    } else {
        static const int32_t order[6] = {0, 3, 4, 1, 5, 2};
        *split = (kaena_shape){6, {d[0], b, b, d[1] / (b * b), d[2], d[3]}};
        memcpy(perm, order, sizeof order);
    }
}

kaena_status kcc_emit_blocks(kcc_module *m, const kgr_node *n, uint32_t tpb, uint32_t part,
                             uint32_t parts, kaena_err *err)
{
    kcc_view in, out = *kcc_view_of(m, n->out[0]), src, dst;
    KAENA_TRY(kcc_input_view(m, n->in[0], &in, err));
    kaena_shape split;
    int32_t perm[6];
    block_shapes(n, &in, &split, perm);
    if (!kcc_reshape_view(&in, &split, &src))
        return KAENA_FAIL(err, INTERNAL, "'%s' cannot be split into blocks", n->in[0]->name);
    const kcc_view before = src;
    for (int32_t d = 0; d < 6; d++) {
        src.shape.dim[d] = before.shape.dim[perm[d]];
        src.stride[d] = before.stride[perm[d]];
    }
    if (!kcc_reshape_view(&out, &src.shape, &dst))
        return KAENA_FAIL(err, INTERNAL, "'%s' cannot be split into blocks", n->out[0]->name);
    if (part == 0)
        kcc_fill_halo(m, tpb, &out);
    kcc_emit_copy(m, tpb, part, parts, &src, &dst);
    return KAENA_OK;
}

kaena_status kcc_emit_pad(kcc_module *m, const kgr_node *n, uint32_t tpb, uint32_t part,
                          uint32_t parts, kaena_err *err)
{
    kcc_view in, out = *kcc_view_of(m, n->out[0]);
    KAENA_TRY(kcc_input_view(m, n->in[0], &in, err));
    const kop_tensor *pads = &n->in[1]->t;
    int32_t rank = in.shape.rank;
    double value = n->n_in > 2 && n->in[2] ? kop_get_float(&n->in[2]->t, 0) : 0;
    const kop_tensor *axes = n->n_in > 3 && n->in[3] ? &n->in[3]->t : NULL;
    size_t listed = axes ? kop_elements(axes) : (size_t)rank;
    kcc_view inner = out;
    inner.shape = in.shape;
    for (size_t k = 0; k < listed; k++) {
        int32_t d = (int32_t)k;
        if (axes && !kop_axis(kop_get_int(axes, k), rank, &d))
            return KAENA_FAIL(err, INVALID_ARGUMENT, "Pad: axis out of range");
        int64_t before = kop_get_int(pads, k), after = kop_get_int(pads, k + listed);
        inner.offset += before * out.stride[d];
        const int64_t at[2] = {0, out.shape.dim[d] - after}, size[2] = {before, after};
        for (int e = 0; e < 2 && part == 0; e++) {
            if (size[e] <= 0)
                continue;
            kcc_view slab = out;
            slab.offset += at[e] * out.stride[d];
            slab.shape.dim[d] = size[e];
            uint64_t bits = 0;
            kop_tensor one = {.dtype = out.dtype, .shape = {.rank = 0}, .data = &bits};
            kop_set_float(&one, 0, value);
            kcc_nest nest;
            kcc_nest_init(&nest, &slab.shape, (const kcc_view *const[]){&slab}, 1);
            kcc_nest_normalise(&nest, -1);
            kisa_operand o;
            uint32_t loops = kcc_nest_open(m, tpb, &nest, &o);
            kisa_inst *inst = kcc_inst(m, tpb, KISA_FILL);
            inst->u.fill.dst = o;
            inst->u.fill.value = bits;
            while (loops--)
                kcc_end(m, tpb);
        }
    }
    if (part == 0)
        kcc_fill_halo(m, tpb, &out);
    kcc_emit_copy(m, tpb, part, parts, &in, &inner);
    return KAENA_OK;
}
