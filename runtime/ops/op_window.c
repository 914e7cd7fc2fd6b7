#include "ops_impl.h"

kaena_status kop_attr_sizes(const kop_call *call, const char *name, int64_t least,
                            int64_t otherwise, int32_t n, int64_t *out)
{
    const int64_t *v;
    uint32_t count = kop_attr_ints(call, name, &v);
    if (count != 0 && count != (uint32_t)n)
        return KOP_BAD(call, "%s has %u values where %d are required", name, count, n);
    for (int32_t i = 0; i < n; i++) {
        out[i] = count ? v[i] : otherwise;
        if (out[i] < least || out[i] >= KOP_SIZE_LIMIT)
            return KOP_BAD(call, "%s has the value %" PRId64 " out of range", name, out[i]);
    }
    return KAENA_OK;
}

/* Output size and padding of dimension |i|. */
static kaena_status place(const kop_call *call, kop_window *w, int32_t i, const char *auto_pad,
                          bool ceil_mode)
{
    int64_t reach = (w->kernel[i] - 1) * w->dilation[i] + 1, stride = w->stride[i];
    if (strncmp(auto_pad, "SAME_", 5) == 0) {
        w->out[i] = (w->in[i] + stride - 1) / stride;
        int64_t total = (w->out[i] - 1) * stride + reach - w->in[i];
        total = total > 0 ? total : 0;
        bool upper = strcmp(auto_pad, "SAME_UPPER") == 0;
        w->pad_begin[i] = upper ? total / 2 : total - total / 2;
        w->pad_end[i] = total - w->pad_begin[i];
    } else {
        if (strcmp(auto_pad, "VALID") == 0)
            w->pad_begin[i] = w->pad_end[i] = 0;
        int64_t room = w->in[i] + w->pad_begin[i] + w->pad_end[i] - reach;
        if (room < 0)
            return KOP_BAD(call,
                           "the window of %" PRId64 " is larger than dimension %d of %" PRId64
                           " with its padding",
                           reach, i, w->in[i]);
        w->out[i] = room / stride + 1;
        if (ceil_mode && room % stride) {
            w->out[i]++;
            /* A window that begins past the data and its front padding would see nothing. */
            if ((w->out[i] - 1) * stride >= w->in[i] + w->pad_begin[i])
                w->out[i]--;
        }
    }
    if (w->out[i] < 1)
        return KOP_BAD(call, "dimension %d of the output would be empty", i);
    return KAENA_OK;
}

kaena_status kop_window_of(const kop_call *call, kop_window *out)
{
    const kop_tensor *x = kop_in(call, 0);
    bool conv = call->op == KOP_Conv || call->op == KOP_ConvInteger || call->op == KOP_QLinearConv;
    uint32_t w_index = call->op == KOP_QLinearConv ? 3 : 1;
    if (!kop_known(x))
        return KOP_BAD(call, "the shape of input 0 is not fully known");
    kop_window w = {.spatial = x->shape.rank - 2};
    if (w.spatial < 1 || w.spatial > KOP_MAX_SPATIAL)
        return KOP_BAD(call, "input 0 has rank %d; 3 to %d are supported", x->shape.rank,
                       KOP_MAX_SPATIAL + 2);
    KAENA_TRY(kop_attr_sizes(call, "kernel_shape", 1, 0x7fffffff, w.spatial, w.kernel));
    if (conv) {
        const kop_tensor *f = kop_in(call, w_index);
        const int64_t *given;
        bool has = kop_attr_ints(call, "kernel_shape", &given) > 0;
        if (!kop_known(f) || f->shape.rank != x->shape.rank)
            return KOP_BAD(call, "input %u, the weights, must have rank %d", w_index,
                           x->shape.rank);
        for (int32_t i = 0; i < w.spatial; i++) {
            int64_t d = f->shape.dim[2 + i];
            if (has && given[i] != d)
                return KOP_BAD(call,
                               "kernel_shape says %" PRId64 " where the weights have %" PRId64,
                               given[i], d);
            if (d < 1 || d >= KOP_SIZE_LIMIT)
                return KOP_BAD(call, "a kernel of size %" PRId64 " is not possible", d);
            w.kernel[i] = d;
        }
    } else {
        const int64_t *given;
        if (kop_attr_ints(call, "kernel_shape", &given) == 0)
            return KOP_BAD(call, "kernel_shape is required");
    }
    KAENA_TRY(kop_attr_sizes(call, "strides", 1, 1, w.spatial, w.stride));
    KAENA_TRY(kop_attr_sizes(call, "dilations", 1, 1, w.spatial, w.dilation));
    int64_t pads[2 * KOP_MAX_SPATIAL];
    KAENA_TRY(kop_attr_sizes(call, "pads", 0, 0, 2 * w.spatial, pads));
    const char *auto_pad = kop_attr_string(call, "auto_pad", "NOTSET");
    if (strcmp(auto_pad, "NOTSET") != 0 && strcmp(auto_pad, "VALID") != 0 &&
        strcmp(auto_pad, "SAME_UPPER") != 0 && strcmp(auto_pad, "SAME_LOWER") != 0)
        return KOP_BAD(call, "there is no auto_pad '%s'", auto_pad);
    w.group = conv ? kop_attr_int(call, "group", 1) : 1;
    if (w.group < 1)
        return KOP_BAD(call, "group %" PRId64 " is not possible", w.group);
    for (int32_t i = 0; i < w.spatial; i++) {
        w.in[i] = x->shape.dim[2 + i];
        if (w.in[i] >= KOP_SIZE_LIMIT)
            return KOP_BAD(call, "dimension %d of %" PRId64 " is too large", 2 + i, w.in[i]);
        w.pad_begin[i] = pads[i];
        w.pad_end[i] = pads[w.spatial + i];
        KAENA_TRY(place(call, &w, i, auto_pad, !conv && kop_attr_int(call, "ceil_mode", 0) != 0));
    }
    *out = w;
    return KAENA_OK;
}
