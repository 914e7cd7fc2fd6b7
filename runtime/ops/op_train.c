/* One step of an optimiser, of the operator set ai.onnx.preview.training: inputs are the learning
 * rate R, the count of updates T, and then for n tensors each: the tensors X, their gradients G,
 * and one (Adagrad, Momentum) or two (Adam) accumulators. Outputs are the new X and accumulators.
 */
#include "ops_impl.h"

#include <math.h>

static uint32_t accumulators(kop_op op)
{
    return op == KOP_Adam ? 2 : 1;
}

kaena_status kop_infer_optimiser(kop_call *call)
{
    uint32_t groups = 2 + accumulators(call->op), n = (call->n_in - 2) / groups;
    KAENA_TRY(kop_need(call, 0, KOP_T(KAENA_F32) | KOP_T(KAENA_F64)));
    KAENA_TRY(kop_need(call, 1, KOP_T(KAENA_I64)));
    for (uint32_t i = 0; i < 2; i++)
        if (kop_known(call->in[i]) && kop_elements(call->in[i]) != 1)
            return KOP_BAD(call, "input %u must have one element", i);
    if (n == 0 || (call->n_in - 2) % groups || call->n_out != n * (groups - 1))
        return KOP_BAD(call,
                       "%u inputs and %u outputs are not the rate, the count and %u tensors each",
                       call->n_in, call->n_out, groups);
    if (call->op == KOP_Momentum && !kop_attr_is(call, "mode", "", "standard") &&
        !kop_attr_is(call, "mode", "", "nesterov"))
        return KOP_BAD(call, "mode must be 'standard' or 'nesterov'");
    for (uint32_t i = 2; i < call->n_in; i++) {
        const kop_tensor *x = call->in[2 + (i - 2) % n], *t = kop_in(call, i);
        if (!t)
            return KOP_BAD(call, "input %u is required", i);
        KAENA_TRY(kop_need(call, i, KOP_T(KAENA_F32) | KOP_T(KAENA_F64)));
        KAENA_TRY(kop_need_same(call, i, 2 + (i - 2) % n));
        if (kop_known(x) && kop_known(t) && !kaena_shape_equal(&x->shape, &t->shape))
            return KOP_BAD(call, "input %u has another shape than its tensor", i);
    }
    for (uint32_t i = 0; i < call->n_out; i++) {
        call->out[i] = *call->in[2 + i % n];
        call->out[i].data = NULL;
    }
    return KAENA_OK;
}

/* The attributes, and what of them and R and T does not depend on the element. */
typedef struct step {
    kop_op op;
    double rate, alpha, beta, epsilon, norm, norm_post;
    bool nesterov;
} step;

static step step_of(const kop_call *call)
{
    bool adam = call->op == KOP_Adam;
    step s = {.op = call->op,
              .rate = kop_get_float(call->in[0], 0),
              .alpha = (double)kop_attr_float(call, "alpha", adam ? 0.9f : 0),
              .beta = (double)kop_attr_float(call, "beta", adam ? 0.999f : 0),
              .epsilon = (double)kop_attr_float(call, "epsilon", 1e-6f),
              .norm = (double)kop_attr_float(call, "norm_coefficient", 0),
              .norm_post = (double)kop_attr_float(call, "norm_coefficient_post", 0),
              .nesterov = kop_attr_is(call, "mode", "", "nesterov")};
    double count = (double)kop_get_int(call->in[1], 0);
    if (call->op == KOP_Adagrad)
        s.rate /= 1 + count * (double)kop_attr_float(call, "decay_factor", 0);
    else if (adam && count > 0)
        s.rate *= sqrt(1 - pow(s.beta, count)) / (1 - pow(s.alpha, count));
    else if (call->op == KOP_Momentum && count <= 0)
        s.beta = 1;
    return s;
}

/* Element by element; |v| and |h| are the accumulators, in and out. */
static double move(const step *s, double x, double gradient, double *v, double *h)
{
    double g = s->norm * x + gradient;
    if (s->op == KOP_Momentum) {
        *v = s->alpha * *v + s->beta * g;
        return x - s->rate * (s->nesterov ? g + s->alpha * *v : *v);
    }
    if (s->op == KOP_Adagrad) {
        *v += g * g;
        return x - s->rate * g / (sqrt(*v) + s->epsilon);
    }
    *v = s->alpha * *v + (1 - s->alpha) * g;
    *h = s->beta * *h + (1 - s->beta) * g * g;
    return (1 - s->norm_post) * (x - s->rate * *v / (sqrt(*h) + s->epsilon));
}

kaena_status kop_eval_optimiser(kop_call *call)
{
    bool adam = call->op == KOP_Adam;
    uint32_t n = (call->n_in - 2) / (2 + accumulators(call->op));
    step s = step_of(call);
    for (uint32_t t = 0; t < n; t++) {
        const kop_tensor *const *in = call->in + 2 + t;
        kop_tensor *out = call->out + t;
        for (size_t i = 0; i < kop_elements(in[0]); i++) {
            double v = kop_get_float(in[2 * n], i), h = adam ? kop_get_float(in[3 * n], i) : 0;
            double x = move(&s, kop_get_float(in[0], i), kop_get_float(in[n], i), &v, &h);
            kop_set_float(&out[0], i, x);
            kop_set_float(&out[n], i, v);
            if (adam)
                kop_set_float(&out[2 * n], i, h);
            if (i % KOP_CHUNK == 0)
                KAENA_TRY(kop_poll(call));
        }
    }
    return KAENA_OK;
}
