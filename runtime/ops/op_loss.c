/* NegativeLogLikelihoodLoss and SoftmaxCrossEntropyLoss: scores are [N, C, d...], targets
 * [N, d...]. */
#include "ops_impl.h"

#include <math.h>

typedef enum reduction { REDUCE_NONE, REDUCE_SUM, REDUCE_MEAN } reduction;

static kaena_status reduction_of(const kop_call *call, reduction *out)
{
    static const char *const names[] = {"none", "sum", "mean"};
    const char *name = kop_attr_string(call, "reduction", "mean");
    for (unsigned i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(name, names[i]) == 0) {
            *out = (reduction)i;
            return KAENA_OK;
        }
    return KOP_BAD(call, "there is no reduction '%s'", name);
}

/* Targets and weights fit the scores. */
static kaena_status check_shapes(const kop_call *call)
{
    const kop_tensor *x = call->in[0], *target = call->in[1], *weight = kop_in(call, 2);
    if (!x->unranked && x->shape.rank < 2)
        return KOP_BAD(call, "scores of rank %d have no classes", x->shape.rank);
    if (!x->unranked && !target->unranked) {
        bool fits = target->shape.rank == x->shape.rank - 1;
        for (int32_t i = 0; fits && i < target->shape.rank; i++) {
            int64_t a = target->shape.dim[i], b = x->shape.dim[i + (i > 0)];
            fits = a < 0 || b < 0 || a == b;
        }
        if (!fits)
            return KOP_BAD(call, "the targets must have the scores' shape without the classes");
    }
    KAENA_TRY(kop_need_rank(call, 2, 1));
    if (kop_known(weight) && !x->unranked && x->shape.dim[1] >= 0 &&
        weight->shape.dim[0] != x->shape.dim[1])
        return KOP_BAD(call, "there must be one weight for each class");
    return KAENA_OK;
}

kaena_status kop_infer_loss(kop_call *call)
{
    const kop_tensor *x = call->in[0], *target = call->in[1];
    reduction how;
    KAENA_TRY(kop_need(call, 0, KOP_T_FLOAT));
    KAENA_TRY(kop_need(call, 1, KOP_T_INDEX));
    KAENA_TRY(kop_need_same(call, 0, 2));
    KAENA_TRY(reduction_of(call, &how));
    KAENA_TRY(check_shapes(call));
    if (how != REDUCE_NONE)
        kop_out(call, 0, x->dtype, &(kaena_shape){.rank = 0});
    else if (!target->unranked)
        kop_out(call, 0, x->dtype, &target->shape);
    else
        kop_out_unranked(call, 0, x->dtype);
    if (call->n_out > 1) { /* the logarithms of the probabilities */
        call->out[1] = *x;
        call->out[1].data = NULL;
    }
    return KAENA_OK;
}

/* Scores become logarithms of probabilities: [n][classes][plane], in place. */
static kaena_status log_softmax(kop_call *call, double *v, size_t n, size_t classes, size_t plane)
{
    for (size_t i = 0; i < n * plane; i++) {
        double *at = v + i / plane * classes * plane + i % plane, top = -INFINITY, sum = 0;
        for (size_t c = 0; c < classes; c++)
            top = at[c * plane] > top ? at[c * plane] : top;
        for (size_t c = 0; c < classes; c++)
            sum += exp(at[c * plane] - top);
        for (size_t c = 0; c < classes; c++)
            at[c * plane] -= top + log(sum);
        if (i % KOP_CHUNK == 0)
            KAENA_TRY(kop_poll(call));
    }
    return KAENA_OK;
}

kaena_status kop_eval_loss(kop_call *call)
{
    const kop_tensor *x = call->in[0], *target = call->in[1], *weight = kop_in(call, 2);
    reduction how;
    KAENA_TRY(reduction_of(call, &how));
    const kop_attr *ignore = kop_attr_find(call, "ignore_index");
    size_t n = (size_t)x->shape.dim[0], classes = (size_t)x->shape.dim[1];
    size_t count = kop_elements(target), plane = n ? count / n : 0;
    double *p = kop_doubles(call, x), *w = weight && p ? kop_doubles(call, weight) : NULL;
    if (!p || (weight && !w))
        return KAENA_RESOURCE_EXHAUSTED;
    if (call->op == KOP_SoftmaxCrossEntropyLoss && classes > 0)
        KAENA_TRY(log_softmax(call, p, n, classes, plane));
    double sum = 0, weights = 0;
    for (size_t i = 0; i < count; i++) {
        int64_t label = kop_get_int(target, i);
        double loss = 0;
        if (!ignore || ignore->type != KOP_ATTR_INT || label != ignore->u.i) {
            if (label < 0 || (uint64_t)label >= classes)
                return KAENA_FAIL(call->err, OUT_OF_RANGE,
                                  "target %" PRId64 " is none of %zu classes", label, classes);
            double scale = w ? w[label] : 1;
            loss = -p[(i / plane * classes + (size_t)label) * plane + i % plane] * scale;
            weights += scale;
        }
        sum += loss;
        if (how == REDUCE_NONE)
            kop_set_float(&call->out[0], i, loss);
        if (i % KOP_CHUNK == 0)
            KAENA_TRY(kop_poll(call));
    }
    if (how != REDUCE_NONE)
        kop_set_float(&call->out[0], 0, how == REDUCE_SUM ? sum : sum / weights);
    if (call->n_out > 1 && kop_elements(x) > 0)
        kop_store_f64(&call->out[1], 0, kop_elements(x), p);
    return KAENA_OK;
}
