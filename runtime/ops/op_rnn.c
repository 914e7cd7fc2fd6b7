/* RNN, GRU and LSTM: one step after the other, in double. */
#include "ops_impl.h"

#include <math.h>
#include <strings.h>

/* --- Activations by ONNX's names --- */

static const struct rnn_act {
    const char *name;
    kaena_act act; /* IDENTITY: one of the two that only these operators have */
    bool has_alpha, has_beta;
    float alpha, beta;
} acts[] = {
    {"Affine", KAENA_ACT_IDENTITY, true, true, 1, 0},
    {"Elu", KAENA_ACT_ELU, true, false, 1, 0},
    {"HardSigmoid", KAENA_ACT_HARD_SIGMOID, true, true, 0.2f, 0.5f},
    {"LeakyRelu", KAENA_ACT_LEAKY_RELU, true, false, 0.01f, 0},
    {"Relu", KAENA_ACT_RELU, false, false, 0, 0},
    {"ScaledTanh", KAENA_ACT_IDENTITY, true, true, 1, 1},
    {"Sigmoid", KAENA_ACT_SIGMOID, false, false, 0, 0},
    {"Softplus", KAENA_ACT_SOFTPLUS, false, false, 0, 0},
    {"Softsign", KAENA_ACT_SOFTSIGN, false, false, 0, 0},
    {"Tanh", KAENA_ACT_TANH, false, false, 0, 0},
    {"ThresholdedRelu", KAENA_ACT_THRESHOLDED_RELU, true, false, 1, 0},
};

static double apply(const kop_recurrent_fn *f, double x)
{
    const struct rnn_act *row = &acts[f->row];
    if (row->act != KAENA_ACT_IDENTITY)
        return kop_act_eval(row->act, x, f->alpha, f->beta);
    double a = (double)f->alpha, b = (double)f->beta;
    return strcmp(row->name, "Affine") == 0 ? a * x + b : a * tanh(b * x);
}

/* --- Shapes --- */

static kaena_status read_functions(const kop_call *call, kop_recurrent *p)
{
    static const char *const rnn[] = {"Tanh"}, *const gru[] = {"Sigmoid", "Tanh"},
                             *const lstm[] = {"Sigmoid", "Tanh", "Tanh"};
    const char *const *names = call->op == KOP_RNN ? rnn : call->op == KOP_GRU ? gru : lstm;
    const kop_attr *list = kop_attr_find(call, "activations");
    const kop_attr *alpha = kop_attr_find(call, "activation_alpha");
    const kop_attr *beta = kop_attr_find(call, "activation_beta");
    uint32_t used_alpha = 0, used_beta = 0, want = p->n_fns * (uint32_t)p->dirs;
    bool given = list && list->type == KOP_ATTR_STRINGS && list->n > 0;
    if (given && list->n != want)
        return KOP_BAD(call, "there are %u activations where %u are required", list->n, want);
    for (uint32_t i = 0; i < want; i++) {
        const char *name = given ? list->u.strings[i] : names[i % p->n_fns];
        kop_recurrent_fn *f = &p->fn[i / p->n_fns][i % p->n_fns];
        uint32_t n = sizeof acts / sizeof *acts;
        for (f->row = 0; f->row < n && strcasecmp(acts[f->row].name, name) != 0;)
            f->row++;
        if (f->row == n)
            return KAENA_FAIL(call->err, UNIMPLEMENTED, "%s: activation '%s' is not supported",
                              kop_row_of(call->op)->name, name);
        const struct rnn_act *a = &acts[f->row];
        f->act = a->act == KAENA_ACT_IDENTITY ? KAENA_ACT_COUNT : a->act;
        f->alpha = a->alpha;
        f->beta = a->beta;
        if (a->has_alpha && alpha && alpha->type == KOP_ATTR_FLOATS && used_alpha < alpha->n)
            f->alpha = alpha->u.floats[used_alpha++];
        if (a->has_beta && beta && beta->type == KOP_ATTR_FLOATS && used_beta < beta->n)
            f->beta = beta->u.floats[used_beta++];
    }
    return KAENA_OK;
}

/* Input |i|, where present, has these dimensions; |*d[j]| unknown takes the input's. */
static kaena_status match(const kop_call *call, uint32_t i, int32_t rank, int64_t **d,
                          const int64_t *factor)
{
    const kop_tensor *t = kop_in(call, i);
    if (!t || t->unranked)
        return KAENA_OK;
    KAENA_TRY(kop_need_rank(call, i, rank));
    for (int32_t j = 0; j < rank; j++) {
        int64_t have = t->shape.dim[j], want = *d[j];
        if (have < 0)
            continue;
        if (want < 0 && have % factor[j] == 0)
            *d[j] = have / factor[j];
        else if (want < 0 || want > INT64_MAX / factor[j] || have != want * factor[j])
            return KOP_BAD(call, "dimension %d of input %u is %" PRId64 " and does not fit", j, i,
                           have);
    }
    return KAENA_OK;
}

kaena_status kop_recurrent_of(const kop_call *call, kop_recurrent *p)
{
    *p = (kop_recurrent){.gates = call->op == KOP_RNN   ? 1
                                  : call->op == KOP_GRU ? 3
                                                        : 4,
                         .n_fns = call->op == KOP_RNN   ? 1
                                  : call->op == KOP_GRU ? 2
                                                        : 3,
                         .dirs = 1,
                         .seq = KAENA_DIM_UNKNOWN,
                         .batch = KAENA_DIM_UNKNOWN,
                         .input = KAENA_DIM_UNKNOWN,
                         .hidden = kop_attr_int(call, "hidden_size", KAENA_DIM_UNKNOWN)};
    if (kop_attr_is(call, "direction", "forward", "bidirectional"))
        p->dirs = 2;
    else if (kop_attr_is(call, "direction", "forward", "reverse"))
        p->reverse_first = true;
    else if (!kop_attr_is(call, "direction", "forward", "forward"))
        return KOP_BAD(call, "there is no direction '%s'", kop_attr_string(call, "direction", ""));
    p->batch_first = kop_attr_int(call, "layout", 0) != 0;
    p->clip = (double)kop_attr_float(call, "clip", INFINITY);
    if (p->hidden < KAENA_DIM_UNKNOWN || p->hidden == 0 || isnan(p->clip))
        return KOP_BAD(call, "hidden_size or clip is not possible");
    KAENA_TRY(read_functions(call, p));
    const int64_t one[] = {1, 1, 1}, by_gate[] = {1, p->gates, 1};
    const int64_t bias[] = {1, 2 * p->gates}, peephole[] = {1, 3};
    int64_t *x0[] = {&p->seq, &p->batch, &p->input}, *x1[] = {&p->batch, &p->seq, &p->input};
    int64_t *w[] = {&p->dirs, &p->hidden, &p->input}, *r[] = {&p->dirs, &p->hidden, &p->hidden};
    int64_t *s0[] = {&p->dirs, &p->batch, &p->hidden}, *s1[] = {&p->batch, &p->dirs, &p->hidden};
    int64_t *b[] = {&p->dirs, &p->hidden}, *lens[] = {&p->batch};
    KAENA_TRY(match(call, 0, 3, p->batch_first ? x1 : x0, one));
    KAENA_TRY(match(call, 1, 3, w, by_gate));
    KAENA_TRY(match(call, 2, 3, r, by_gate));
    KAENA_TRY(match(call, 3, 2, b, bias));
    KAENA_TRY(match(call, 4, 1, lens, one));
    KAENA_TRY(match(call, 5, 3, p->batch_first ? s1 : s0, one));
    KAENA_TRY(match(call, 6, 3, p->batch_first ? s1 : s0, one));
    return match(call, 7, 2, b, peephole);
}

kaena_status kop_infer_rnn(kop_call *call)
{
    kaena_dtype type = kop_in_type(call, 0);
    for (uint32_t i = 0; i < 8; i++) {
        KAENA_TRY(kop_need(call, i, i == 4 ? KOP_T(KAENA_I32) : KOP_T_FLOAT));
        if (i != 4)
            KAENA_TRY(kop_need_same(call, 0, i));
    }
    kop_recurrent p;
    KAENA_TRY(kop_recurrent_of(call, &p));
    kaena_shape y = {.rank = 4, .dim = {p.seq, p.dirs, p.batch, p.hidden}};
    kaena_shape last = {.rank = 3, .dim = {p.dirs, p.batch, p.hidden}};
    if (p.batch_first) {
        y = (kaena_shape){.rank = 4, .dim = {p.batch, p.seq, p.dirs, p.hidden}};
        last = (kaena_shape){.rank = 3, .dim = {p.batch, p.dirs, p.hidden}};
    }
    kop_out(call, 0, type, &y);
    kop_out(call, 1, type, &last);
    kop_out(call, 2, type, &last);
    return KAENA_OK;
}

/* --- Evaluation --- */

typedef struct rnn_run {
    kop_recurrent p;
    kop_op op;
    bool linear_before_reset, input_forget;
    const double *x, *w, *r, *b,
        *peephole; /* w .. peephole: of the direction at hand; b may be NULL */
    const kop_recurrent_fn *fn;
    double *gate, *h, *c, *next; /* gates * hidden, then one state each */
} rnn_run;

static double clipped(const rnn_run *run, double v)
{
    return v > run->p.clip ? run->p.clip : v < -run->p.clip ? -run->p.clip : v;
}

static double dot(const double *a, const double *b, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += a[i] * b[i];
    return sum;
}

/* Row |g| of the input's product, with both biases but for GRU's last gate, whose recurrent bias
 * goes elsewhere. */
static double from_input(const rnn_run *run, int64_t g, const double *x)
{
    return dot(run->w + g * run->p.input, x, run->p.input) + (run->b ? run->b[g] : 0);
}

static double from_state(const rnn_run *run, int64_t g, const double *h)
{
    double bias = run->b ? run->b[run->p.gates * run->p.hidden + g] : 0;
    return dot(run->r + g * run->p.hidden, h, run->p.hidden) + bias;
}

static void step_rnn(rnn_run *run, const double *x)
{
    for (int64_t i = 0; i < run->p.hidden; i++)
        run->next[i] =
            apply(&run->fn[0], clipped(run, from_input(run, i, x) + from_state(run, i, run->h)));
    memcpy(run->h, run->next, (size_t)run->p.hidden * sizeof *run->h);
}

static void step_gru(rnn_run *run, const double *x)
{
    int64_t n = run->p.hidden;
    double *update = run->gate, *reset = update + n, *gated = reset + n;
    for (int64_t i = 0; i < 2 * n; i++)
        run->gate[i] =
            apply(&run->fn[0], clipped(run, from_input(run, i, x) + from_state(run, i, run->h)));
    for (int64_t i = 0; i < n; i++)
        gated[i] = reset[i] * run->h[i];
    for (int64_t i = 0; i < n; i++) {
        double state = run->linear_before_reset ? reset[i] * from_state(run, 2 * n + i, run->h)
                                                : from_state(run, 2 * n + i, gated);
        double hidden = apply(&run->fn[1], clipped(run, from_input(run, 2 * n + i, x) + state));
        run->next[i] = (1 - update[i]) * hidden + update[i] * run->h[i];
    }
    memcpy(run->h, run->next, (size_t)n * sizeof *run->h);
}

/* Gates in ONNX's order: input, output, forget, cell. */
static void step_lstm(rnn_run *run, const double *x)
{
    int64_t n = run->p.hidden;
    const double *peep = run->peephole;
    for (int64_t i = 0; i < 4 * n; i++)
        run->gate[i] = from_input(run, i, x) + from_state(run, i, run->h);
    for (int64_t i = 0; i < n; i++) {
        double c = run->c[i];
        double in = run->gate[i] + (peep ? peep[i] * c : 0);
        double forget = run->gate[2 * n + i] + (peep ? peep[2 * n + i] * c : 0);
        in = apply(&run->fn[0], clipped(run, in));
        forget = run->input_forget ? 1 - in : apply(&run->fn[0], clipped(run, forget));
        double cell = apply(&run->fn[1], clipped(run, run->gate[3 * n + i]));
        run->c[i] = c = forget * c + in * cell;
        double out = run->gate[n + i] + (peep ? peep[n + i] * c : 0);
        run->next[i] = apply(&run->fn[0], clipped(run, out)) * apply(&run->fn[2], c);
    }
    memcpy(run->h, run->next, (size_t)n * sizeof *run->h);
}

/* The whole sequence of one batch element in one direction. */
static kaena_status run_sequence(kop_call *call, rnn_run *run, int64_t d, int64_t b)
{
    const kop_recurrent *p = &run->p;
    int64_t length = p->seq, state = p->batch_first ? b * p->dirs + d : d * p->batch + b;
    if (kop_in(call, 4))
        length = kop_get_int(call->in[4], (size_t)b);
    if (length < 0 || length > p->seq)
        return KAENA_FAIL(call->err, OUT_OF_RANGE,
                          "a length of %" PRId64 " for sequences of %" PRId64, length, p->seq);
    size_t n = (size_t)p->hidden, at = (size_t)state * n;
    memset(run->h, 0, n * sizeof *run->h);
    memset(run->c, 0, n * sizeof *run->c);
    if (kop_in(call, 5))
        kop_load_f64(call->in[5], at, n, run->h);
    if (kop_in(call, 6))
        kop_load_f64(call->in[6], at, n, run->c);
    bool reverse = p->reverse_first || d == 1;
    for (int64_t s = 0; s < length; s++) {
        int64_t t = reverse ? length - 1 - s : s;
        const double *x = run->x + (p->batch_first ? b * p->seq + t : t * p->batch + b) * p->input;
        if (run->op == KOP_RNN)
            step_rnn(run, x);
        else if (run->op == KOP_GRU)
            step_gru(run, x);
        else
            step_lstm(run, x);
        int64_t y =
            p->batch_first ? (b * p->seq + t) * p->dirs + d : (t * p->dirs + d) * p->batch + b;
        kop_store_f64(&call->out[0], (size_t)y * n, n, run->h);
        KAENA_TRY(kop_poll(call));
    }
    if (call->n_out > 1)
        kop_store_f64(&call->out[1], at, n, run->h);
    if (call->n_out > 2)
        kop_store_f64(&call->out[2], at, n, run->c);
    return KAENA_OK;
}

kaena_status kop_eval_rnn(kop_call *call)
{
    rnn_run run = {.op = call->op,
                   .linear_before_reset = kop_attr_int(call, "linear_before_reset", 0) != 0,
                   .input_forget = kop_attr_int(call, "input_forget", 0) != 0};
    kop_recurrent *p = &run.p;
    KAENA_TRY(kop_recurrent_of(call, p));
    if (p->batch == 0 || p->hidden == 0)
        return KAENA_OK;
    const double *w, *r, *b = NULL, *peephole = NULL;
    size_t n = (size_t)p->hidden;
    if (!(run.x = kop_doubles(call, call->in[0])) || !(w = kop_doubles(call, call->in[1])) ||
        !(r = kop_doubles(call, call->in[2])) ||
        (kop_in(call, 3) && !(b = kop_doubles(call, call->in[3]))) ||
        (kop_in(call, 7) && !(peephole = kop_doubles(call, call->in[7]))) ||
        !(run.gate = kop_alloc(call, 7 * n, sizeof(double))))
        return KAENA_RESOURCE_EXHAUSTED;
    run.h = run.gate + 4 * n;
    run.c = run.h + n;
    run.next = run.c + n;
    int64_t rows = p->gates * p->hidden;
    for (int64_t d = 0; d < p->dirs; d++) {
        run.w = w + d * rows * p->input;
        run.r = r + d * rows * p->hidden;
        run.b = b ? b + d * 2 * rows : NULL;
        run.peephole = peephole ? peephole + d * 3 * p->hidden : NULL;
        run.fn = p->fn[d];
        for (int64_t i = 0; i < p->batch; i++)
            KAENA_TRY(run_sequence(call, &run, d, i));
    }
    return KAENA_OK;
}
