/* RNN: several layers, one or two directions, all parameters in one list.
 *
 * The list holds, layer after layer and direction after direction, the weights of the input and of
 * the state; then in the same order the two biases. Gates of one matrix lie below each other: LSTM
 * input, forget, cell, output; GRU reset, update, new. */
#include <string.h>

#include "mx_ops.h"

#define MAX_LAYERS 64

typedef struct mode {
    const char *name;
    kop_op op;
    int64_t gates;
    int64_t order[4]; /* the canonical operator's gates by their number here */
} mode;

static const mode modes[] = {
    {"rnn_relu", KOP_RNN, 1, {0}},
    {"rnn_tanh", KOP_RNN, 1, {0}},
    {"lstm", KOP_LSTM, 4, {0, 3, 1, 2}},
    {"gru", KOP_GRU, 3, {1, 0, 2}},
};

typedef struct rnn {
    const mode *mode;
    int64_t hidden, layers, directions;
    int64_t time, batch, features; /* of the data */
    kgr_value *parameters;
    int64_t weight_at, bias_at; /* next in |parameters| */
} rnn;

/* [rows, columns] of the list from |*at| on. */
static kgr_value *take_matrix(mx_xlat *x, const rnn *r, int64_t *at, int64_t rows, int64_t columns)
{
    int64_t begin = *at, end = begin + rows * columns, axis = 0, step = 1;
    *at = end;
    kgr_value *v = mx_slice(x, MX_TMP, r->parameters, &begin, &end, &axis, &step, 1);
    return mx_reshape(x, MX_TMP, v, &(kaena_shape){2, {rows, columns}});
}

/* The gates of [gates * hidden, columns] in the canonical order. */
static kgr_value *reorder(mx_xlat *x, const rnn *r, kgr_value *v)
{
    kgr_value *gate[4];
    const int64_t axis = 0, step = 1;
    if (r->mode->gates == 1)
        return v;
    for (int64_t g = 0; g < r->mode->gates; g++) {
        int64_t begin = r->mode->order[g] * r->hidden, end = begin + r->hidden;
        gate[g] = mx_slice(x, MX_TMP, v, &begin, &end, &axis, &step, 1);
    }
    return mx_concat(x, MX_TMP, gate, (uint32_t)r->mode->gates, 0);
}

/* Both directions' [rows, columns] as [directions, rows, columns]. */
static kgr_value *both(mx_xlat *x, const rnn *r, kgr_value *const *v)
{
    kgr_value *in[2];
    for (int64_t d = 0; d < r->directions; d++)
        in[d] = mx_unsqueeze(x, MX_TMP, v[d], 0);
    return r->directions == 1 ? in[0] : mx_concat(x, MX_TMP, in, 2, 0);
}

/* The states of layer |l|: [directions, batch, hidden] of [layers * directions, batch, hidden]. */
static kgr_value *state_of(mx_xlat *x, const rnn *r, kgr_value *states, int64_t l)
{
    int64_t begin = l * r->directions, end = begin + r->directions, axis = 0, step = 1;
    return r->layers == 1 ? states : mx_slice(x, MX_TMP, states, &begin, &end, &axis, &step, 1);
}

static void take_weights(mx_xlat *x, rnn *r, int64_t features, kgr_value **w, kgr_value **u,
                         kgr_value **bias)
{
    kgr_value *ws[2], *us[2], *bs[2];
    int64_t rows = r->mode->gates * r->hidden;
    for (int64_t d = 0; d < r->directions; d++) {
        ws[d] = reorder(x, r, take_matrix(x, r, &r->weight_at, rows, features));
        us[d] = reorder(x, r, take_matrix(x, r, &r->weight_at, rows, r->hidden));
        kgr_value *pair[2];
        for (int k = 0; k < 2; k++)
            pair[k] = reorder(x, r, take_matrix(x, r, &r->bias_at, rows, 1));
        kgr_value *column = mx_concat(x, MX_TMP, pair, 2, 0);
        bs[d] = mx_reshape(x, MX_TMP, column, &(kaena_shape){1, {2 * rows}});
    }
    *w = both(x, r, ws);
    *u = both(x, r, us);
    *bias = both(x, r, bs);
}

static uint32_t attributes(const rnn *r, kop_attr *attr)
{
    static const char *const relu[2] = {"Relu", "Relu"};
    uint32_t n = 0;
    attr[n++] = MX_ATTR_INT("hidden_size", r->hidden);
    attr[n++] = MX_ATTR_STRING("direction", r->directions == 2 ? "bidirectional" : "forward");
    if (r->mode->op == KOP_GRU)
        attr[n++] = MX_ATTR_INT("linear_before_reset", 1);
    if (strcmp(r->mode->name, "rnn_relu") == 0)
        attr[n++] = (kop_attr){.name = "activations",
                               .type = KOP_ATTR_STRINGS,
                               .n = (uint32_t)r->directions,
                               .u.strings = relu};
    return n;
}

static bool find_sizes(mx_xlat *x, rnn *r)
{
    const char *name = mx_string(x, "mode", "");
    kgr_value *v = mx_in(x, 0);
    for (size_t i = 0; i < sizeof modes / sizeof *modes; i++)
        if (strcmp(modes[i].name, name) == 0)
            r->mode = &modes[i];
    r->hidden = mx_size(x, "state_size", mx_need_int(x, "state_size"));
    r->layers = mx_size(x, "num_layers", mx_need_int(x, "num_layers"));
    r->directions = mx_bool(x, "bidirectional", false) ? 2 : 1;
    if (x->status != KAENA_OK)
        return false;
    if (!r->mode)
        (void)MX_FAIL(x, UNIMPLEMENTED, "mode '%s' is not supported", name);
    else if (mx_text(x, "projection_size") || mx_text(x, "lstm_state_clip_min"))
        (void)MX_FAIL(x, UNIMPLEMENTED, "projection_size and lstm_state_clip are not supported");
    else if (r->layers > MAX_LAYERS || r->hidden > INT16_MAX)
        (void)MX_FAIL(x, INVALID_ARGUMENT, "%lld layers of %lld", (long long)r->layers,
                      (long long)r->hidden);
    else if (v->t.shape.rank != 3)
        (void)MX_FAIL(x, INVALID_ARGUMENT, "the data is not [time, batch, features]");
    r->time = v->t.shape.dim[0];
    r->batch = v->t.shape.dim[1];
    r->features = v->t.shape.dim[2];
    if (r->features > INT32_MAX && x->status == KAENA_OK)
        (void)MX_FAIL(x, INVALID_ARGUMENT, "the data is too large");
    return x->status == KAENA_OK;
}

static void find_parameters(mx_xlat *x, rnn *r)
{
    int64_t rows = r->mode->gates * r->hidden, wide = r->hidden * r->directions;
    int64_t weights =
        rows * (r->features + r->hidden) + (r->layers - 1) * rows * (wide + r->hidden);
    weights *= r->directions;
    r->bias_at = weights;
    r->parameters = mx_want_list(x, 1, weights + r->layers * r->directions * 2 * rows);
}

kaena_status mx_do_rnn(mx_xlat *x)
{
    rnn r = {0};
    kgr_value *h[MAX_LAYERS], *c[MAX_LAYERS], *v = mx_in(x, 0);
    bool states = mx_bool(x, "state_outputs", false);
    if (!find_sizes(x, &r))
        return x->status;
    find_parameters(x, &r);
    bool lstm = r.mode->op == KOP_LSTM;
    kaena_shape state = {3, {r.layers * r.directions, r.batch, r.hidden}};
    kgr_value *h0 = mx_want(x, 2, &state), *c0 = lstm ? mx_want(x, 3, &state) : NULL;
    kgr_value *lengths = NULL;
    if (mx_bool(x, "use_sequence_length", false))
        lengths = mx_as(x, mx_in(x, lstm ? 4 : 3), KAENA_I32);
    x->n_out = !states ? 1 : lstm ? 3 : 2;
    for (int64_t l = 0; l < r.layers; l++) {
        kgr_value *w, *u, *bias, *y[3];
        kop_attr attr[4];
        take_weights(x, &r, l == 0 ? r.features : r.hidden * r.directions, &w, &u, &bias);
        kgr_value *in[7] = {v, w, u, bias, lengths, state_of(x, &r, h0, l)};
        if (lstm)
            in[6] = state_of(x, &r, c0, l);
        mx_emit_many(x, MX_TMP, r.mode->op, in, lstm ? 7 : 6, attr, attributes(&r, attr), y,
                     lstm ? 3 : 2);
        /* [time, directions, batch, hidden] */
        const int64_t perm[4] = {0, 2, 1, 3};
        v = r.directions == 1 ? y[0] : mx_transpose(x, MX_TMP, y[0], perm);
        v = mx_reshape(x, l + 1 == r.layers ? 0 : MX_TMP, v,
                       &(kaena_shape){3, {r.time, r.batch, r.directions * r.hidden}});
        h[l] = y[1];
        c[l] = lstm ? y[2] : NULL;
    }
    if (states)
        (void)mx_concat(x, 1, h, (uint32_t)r.layers, 0);
    if (states && lstm)
        (void)mx_concat(x, 2, c, (uint32_t)r.layers, 0);
    return KAENA_OK;
}
