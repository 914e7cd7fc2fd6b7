#include "ops_impl.h"

#include <math.h>

/* Which dimensions of input 0 are reduced. */
typedef struct reduce_plan {
    bool reduced[KAENA_MAX_RANK];
    bool keep;
} reduce_plan;

/* False and KAENA_OK: the axes are not known. */
static bool read_plan(const kop_call *call, int32_t rank, reduce_plan *plan, kaena_status *status)
{
    *plan = (reduce_plan){.keep = kop_attr_int(call, "keepdims", 1) != 0};
    int64_t axes[KAENA_MAX_RANK];
    uint32_t n = 0;
    *status = KAENA_OK;
    if (kop_in(call, 1) && !kop_in_ints(call, 1, axes, KAENA_MAX_RANK, &n, status))
        return false;
    for (uint32_t i = 0; i < n; i++) {
        int32_t axis;
        if (!kop_axis(axes[i], rank, &axis)) {
            *status = KOP_BAD(call, "axes: %" PRId64 " is not an axis of rank %d", axes[i], rank);
            return false;
        }
        plan->reduced[axis] = true;
    }
    if (n == 0 && kop_attr_int(call, "noop_with_empty_axes", 0) == 0)
        memset(plan->reduced, 1, sizeof plan->reduced);
    return true;
}

static kaena_shape reduced_shape(const kaena_shape *x, const reduce_plan *plan)
{
    kaena_shape shape = {.rank = 0};
    for (int32_t i = 0; i < x->rank; i++) {
        if (!plan->reduced[i])
            shape.dim[shape.rank++] = x->dim[i];
        else if (plan->keep)
            shape.dim[shape.rank++] = 1;
    }
    return shape;
}

kaena_status kop_infer_reduce(kop_call *call)
{
    const kop_tensor *x = call->in[0];
    uint32_t types = KOP_T_NUM;
    if (call->op == KOP_ReduceMax || call->op == KOP_ReduceMin)
        types |= KOP_T_BOOL;
    KAENA_TRY(kop_need(call, 0, types));
    KAENA_TRY(kop_need(call, 1, KOP_T_INDEX));
    reduce_plan plan;
    kaena_status status = KAENA_OK;
    if (x->unranked || !read_plan(call, x->shape.rank, &plan, &status)) {
        KAENA_TRY(status);
        if (!x->unranked && kop_attr_int(call, "keepdims", 1) != 0) {
            kaena_shape shape = kop_shape_unknown(x->shape.rank);
            kop_out(call, 0, x->dtype, &shape);
        } else {
            kop_out_unranked(call, 0, x->dtype);
        }
        return KAENA_OK;
    }
    kaena_shape shape = reduced_shape(&x->shape, &plan);
    kop_out(call, 0, x->dtype, &shape);
    return KAENA_OK;
}

/* Dimensions of a tensor in two groups: those walked once per result, and those walked for each. */
typedef struct reduce_walk {
    int32_t n[2];
    int64_t dim[2][KAENA_MAX_RANK], stride[2][KAENA_MAX_RANK];
} reduce_walk;

static reduce_walk walk_of(const kaena_shape *x, const bool *reduced)
{
    reduce_walk w = {.n = {0}};
    int64_t stride[KAENA_MAX_RANK];
    kaena_shape_strides(x, stride);
    for (int32_t i = 0; i < x->rank; i++) {
        int g = reduced[i];
        w.dim[g][w.n[g]] = x->dim[i];
        w.stride[g][w.n[g]++] = stride[i];
    }
    return w;
}

static int64_t offset_of(const reduce_walk *w, int g, const int64_t *index)
{
    int64_t at = 0;
    for (int32_t i = 0; i < w->n[g]; i++)
        at += index[i] * w->stride[g][i];
    return at;
}

static double first_float(kop_op op)
{
    return op == KOP_ReduceMax ? -INFINITY : op == KOP_ReduceMin ? INFINITY : op == KOP_ReduceProd;
}

#define FOLD_RUN(expression)                                                                       \
    for (int64_t i = 0; i < n; i++) {                                                              \
        double v = kop_matrix_at(x, at + i * step);                                                \
        acc = (expression);                                                                        \
    }                                                                                              \
    return acc;

/* Folds |n| elements that are |step| apart into |acc|. */
static double fold_run(kop_op op, double acc, const kop_matrix *x, int64_t at, int64_t step,
                       int64_t n, double top)
{
    if (op == KOP_ReduceMax) {
        FOLD_RUN(isnan(acc) || acc > v ? acc : v)
    } else if (op == KOP_ReduceMin) {
        FOLD_RUN(isnan(acc) || acc < v ? acc : v)
    } else if (op == KOP_ReduceProd) {
        FOLD_RUN(acc * v)
    } else if (op == KOP_ReduceL1) {
        FOLD_RUN(acc + fabs(v))
    } else if (op == KOP_ReduceL2 || op == KOP_ReduceSumSquare) {
        FOLD_RUN(acc + v * v)
    } else if (op == KOP_ReduceLogSumExp) {
        FOLD_RUN(acc + exp(v - top))
    }
    FOLD_RUN(acc + v)
}

static double last_float(kop_op op, double acc, double n, double top)
{
    if (op == KOP_ReduceMean)
        return acc / n;
    if (op == KOP_ReduceL2)
        return sqrt(acc);
    if (op == KOP_ReduceLogSum)
        return log(acc);
    return op == KOP_ReduceLogSumExp ? top + log(acc) : acc;
}

/* One result: folds the elements of group 1 from |base| on. */
static double reduce_floats(kop_op op, const kop_matrix *x, const reduce_walk *w, int64_t base,
                            double n)
{
    int32_t last = w->n[1] - 1;
    int64_t run = last < 0 ? 1 : w->dim[1][last], step = last < 0 ? 0 : w->stride[1][last];
    double top = 0;
    for (int pass = op == KOP_ReduceLogSumExp ? 0 : 1; pass < 2; pass++) {
        kop_op how = pass == 0 ? KOP_ReduceMax : op;
        double acc = first_float(how);
        int64_t index[KAENA_MAX_RANK] = {0};
        if (n > 0)
            do /* index[last] stays 0 */
                acc = fold_run(how, acc, x, base + offset_of(w, 1, index), step, run, top);
            while (kop_next(index, w->dim[1], last));
        if (pass == 1)
            return last_float(op, acc, n, top);
        top = isfinite(acc) ? acc : 0;
    }
    return top;
}

static uint64_t reduce_ints(kop_op op, const kop_tensor *x, const reduce_walk *w, int64_t base,
                            int64_t n)
{
    bool is_signed = kop_kind_of(x->dtype) == KOP_KIND_SIGNED, first = true;
    uint64_t acc = op == KOP_ReduceProd;
    int64_t index[KAENA_MAX_RANK] = {0};
    do {
        uint64_t v = (uint64_t)kop_get_int(x, (size_t)(base + offset_of(w, 1, index)));
        bool less = is_signed ? (int64_t)v < (int64_t)acc : v < acc;
        if (op == KOP_ReduceMax)
            acc = first || !less ? v : acc;
        else if (op == KOP_ReduceMin)
            acc = first || less ? v : acc;
        else if (op == KOP_ReduceProd)
            acc *= v;
        else if (op == KOP_ReduceSumSquare)
            acc += v * v;
        else if (op == KOP_ReduceL1)
            acc += is_signed && (int64_t)v < 0 ? 0 - v : v;
        else
            acc += v;
        first = false;
    } while (kop_next(index, w->dim[1], w->n[1]));
    if (op == KOP_ReduceMean)
        acc = is_signed ? (uint64_t)((int64_t)acc / n) : acc / (uint64_t)n;
    return acc;
}

kaena_status kop_eval_reduce(kop_call *call)
{
    const kop_tensor *x = call->in[0];
    kop_tensor *out = &call->out[0];
    if (kop_elements(out) == 0)
        return KAENA_OK;
    reduce_plan plan;
    kaena_status status;
    if (!read_plan(call, x->shape.rank, &plan, &status))
        return status;
    reduce_walk w = walk_of(&x->shape, plan.reduced);
    int64_t n = (int64_t)(kop_elements(x) / kop_elements(out));
    bool exact = kop_kind_of(x->dtype) != KOP_KIND_FLOAT && call->op != KOP_ReduceL2 &&
                 call->op != KOP_ReduceLogSum && call->op != KOP_ReduceLogSumExp;
    if (exact && n == 0 && call->op == KOP_ReduceMean)
        return KOP_BAD(call, "the mean of no integers");
    kop_matrix values = {.data = x->data, .is_f64 = x->dtype != KAENA_F32};
    bool wide = x->dtype != KAENA_F32 && x->dtype != KAENA_F64 && !(exact && n > 0);
    if (wide && !(values.data = kop_doubles(call, x)))
        return KAENA_RESOURCE_EXHAUSTED;
    int64_t index[KAENA_MAX_RANK] = {0};
    size_t at = 0;
    do {
        int64_t base = offset_of(&w, 0, index);
        if (exact && n > 0)
            kop_set_int(out, at, (int64_t)reduce_ints(call->op, x, &w, base, n));
        else /* the least or largest value stands for infinity where the type has none */
            kop_set_float(out, at, reduce_floats(call->op, &values, &w, base, (double)n));
        at++;
        KAENA_TRY(kop_poll(call));
    } while (kop_next(index, w.dim[0], w.n[0]));
    return KAENA_OK;
}

/* --- ArgMax, ArgMin --- */

kaena_status kop_infer_arg(kop_call *call)
{
    const kop_tensor *x = call->in[0];
    KAENA_TRY(kop_need(call, 0, KOP_T_NUM));
    if (x->unranked) {
        kop_out_unranked(call, 0, KAENA_I64);
        return KAENA_OK;
    }
    int32_t axis;
    KAENA_TRY(kop_attr_axis(call, "axis", 0, x->shape.rank, &axis));
    if (x->shape.dim[axis] == 0)
        return KOP_BAD(call, "dimension %d is empty", axis);
    reduce_plan plan = {.keep = kop_attr_int(call, "keepdims", 1) != 0};
    plan.reduced[axis] = true;
    kaena_shape shape = reduced_shape(&x->shape, &plan);
    kop_out(call, 0, KAENA_I64, &shape);
    return KAENA_OK;
}

kaena_status kop_eval_arg(kop_call *call)
{
    const kop_tensor *x = call->in[0];
    if (kop_elements(x) == 0)
        return KAENA_OK;
    int32_t axis;
    KAENA_TRY(kop_attr_axis(call, "axis", 0, x->shape.rank, &axis));
    int64_t n = x->shape.dim[axis], inner = kop_span(&x->shape, axis + 1, x->shape.rank);
    bool last = kop_attr_int(call, "select_last_index", 0) != 0, max = call->op == KOP_ArgMax;
    kop_kind kind = kop_kind_of(x->dtype);
    for (int64_t line = 0; line < (int64_t)kop_elements(x) / n; line++) {
        size_t base = (size_t)(line / inner * n * inner + line % inner);
        int64_t best = 0;
        for (int64_t i = 1; i < n; i++) {
            size_t a = base + (size_t)(best * inner), b = base + (size_t)(i * inner);
            bool less, equal; /* element i against the best so far */
            if (kind == KOP_KIND_FLOAT) {
                less = kop_get_float(x, b) < kop_get_float(x, a);
                equal = kop_get_float(x, b) == kop_get_float(x, a);
            } else {
                int64_t va = kop_get_int(x, a), vb = kop_get_int(x, b);
                less = kind == KOP_KIND_SIGNED ? vb < va : (uint64_t)vb < (uint64_t)va;
                equal = va == vb;
            }
            if (equal ? last : less != max)
                best = i;
        }
        kop_set_int(&call->out[0], (size_t)line, best);
        KAENA_TRY(kop_poll(call));
    }
    return KAENA_OK;
}

/* --- CumSum, CumProd --- */

static kaena_status cumsum_axis(const kop_call *call, int32_t rank, int32_t *axis, bool *known)
{
    int64_t v;
    uint32_t n;
    kaena_status status;
    *known = kop_in_ints(call, 1, &v, 1, &n, &status);
    KAENA_TRY(status);
    if (*known && (n != 1 || !kop_axis(v, rank, axis)))
        return KOP_BAD(call, "the axis is not one of rank %d", rank);
    return KAENA_OK;
}

kaena_status kop_infer_cumsum(kop_call *call)
{
    KAENA_TRY(kop_need(call, 0, KOP_T_NUM));
    int32_t axis;
    bool known;
    if (!call->in[0]->unranked)
        KAENA_TRY(cumsum_axis(call, call->in[0]->shape.rank, &axis, &known));
    return kop_infer_same(call);
}

kaena_status kop_eval_cumsum(kop_call *call)
{
    const kop_tensor *x = call->in[0];
    if (kop_elements(x) == 0)
        return KAENA_OK;
    int32_t axis = 0;
    bool known;
    KAENA_TRY(cumsum_axis(call, x->shape.rank, &axis, &known));
    int64_t n = x->shape.dim[axis], inner = kop_span(&x->shape, axis + 1, x->shape.rank);
    bool exclusive = kop_attr_int(call, "exclusive", 0) != 0;
    bool reverse = kop_attr_int(call, "reverse", 0) != 0;
    bool real = kop_kind_of(x->dtype) == KOP_KIND_FLOAT, product = call->op == KOP_CumProd;
    for (int64_t line = 0; line < (int64_t)kop_elements(x) / n; line++) {
        int64_t base = line / inner * n * inner + line % inner;
        double all = product;
        uint64_t iall = product;
        for (int64_t i = 0; i < n; i++) {
            size_t at = (size_t)(base + (reverse ? n - 1 - i : i) * inner);
            double before = all, v = real ? kop_get_float(x, at) : 0;
            uint64_t ibefore = iall, iv = real ? 0 : (uint64_t)kop_get_int(x, at);
            all = product ? all * v : all + v;
            iall = product ? iall * iv : iall + iv;
            if (real)
                kop_set_float(&call->out[0], at, exclusive ? before : all);
            else
                kop_set_int(&call->out[0], at, (int64_t)(exclusive ? ibefore : iall));
        }
        KAENA_TRY(kop_poll(call));
    }
    return KAENA_OK;
}
