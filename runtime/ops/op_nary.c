#include "ops_impl.h"

#include <math.h>

/* Operators of several inputs that broadcast. Each folds the next operand into the accumulator,
 * element by element, in the wide type of its operands; false: a division by zero. */
typedef union wide_chunk {
    double f[KOP_CHUNK];
    int64_t i[KOP_CHUNK];
    uint64_t u[KOP_CHUNK];
} wide_chunk;

typedef bool (*fold_fn)(wide_chunk *acc, const wide_chunk *x, size_t n);

#define FOLD(name, field, type, expression)                                                        \
    static bool fold_##name##_##field(wide_chunk *acc, const wide_chunk *x_, size_t n)             \
    {                                                                                              \
        for (size_t j = 0; j < n; j++) {                                                           \
            type a = acc->field[j], x = x_->field[j];                                              \
            acc->field[j] = (type)(expression);                                                    \
        }                                                                                          \
        return true;                                                                               \
    }
/* The same for integers, where a zero divisor ends the run. */
#define FOLD_DIVIDE(name, field, type, expression)                                                 \
    static bool fold_##name##_##field(wide_chunk *acc, const wide_chunk *x_, size_t n)             \
    {                                                                                              \
        for (size_t j = 0; j < n; j++) {                                                           \
            type a = acc->field[j], x = x_->field[j];                                              \
            if (x == 0)                                                                            \
                return false;                                                                      \
            acc->field[j] = (type)(expression);                                                    \
        }                                                                                          \
        return true;                                                                               \
    }
#define FOLD3(name, expression)                                                                    \
    FOLD(name, f, double, expression)                                                              \
    FOLD(name, i, int64_t, expression)                                                             \
    FOLD(name, u, uint64_t, expression)

static int64_t power_i(int64_t base, int64_t exponent)
{
    if (exponent < 0)
        return base == 1 ? 1 : base == -1 ? (exponent & 1 ? -1 : 1) : 0;
    uint64_t r = 1, b = (uint64_t)base;
    for (uint64_t e = (uint64_t)exponent; e; e >>= 1, b *= b)
        if (e & 1)
            r *= b;
    return (int64_t)r;
}

static double mod_floor(double a, double x)
{
    double r = fmod(a, x);
    return r != 0 && (r < 0) != (x < 0) ? r + x : r;
}

/* INT64_MIN / -1 wraps; its remainder is 0. */
static int64_t div_i(int64_t a, int64_t x)
{
    return x == -1 ? (int64_t)(0 - (uint64_t)a) : a / x;
}

static int64_t mod_i(int64_t a, int64_t x)
{
    return x == -1 ? 0 : a % x;
}

static int64_t mod_floor_i(int64_t a, int64_t x)
{
    int64_t r = mod_i(a, x);
    return r != 0 && (r < 0) != (x < 0) ? r + x : r;
}

FOLD(Add, f, double, a + x)
FOLD(Add, u, uint64_t, a + x)
FOLD(Sub, f, double, a - x)
FOLD(Sub, u, uint64_t, a - x)
FOLD(Mul, f, double, a *x)
FOLD(Mul, u, uint64_t, a *x)
FOLD(Div, f, double, a / x)
FOLD_DIVIDE(Div, i, int64_t, div_i(a, x))
FOLD_DIVIDE(Div, u, uint64_t, a / x)
FOLD(Fmod, f, double, fmod(a, x))
FOLD_DIVIDE(Fmod, i, int64_t, mod_i(a, x))
FOLD(Mod, f, double, mod_floor(a, x))
FOLD_DIVIDE(Mod, i, int64_t, mod_floor_i(a, x))
FOLD_DIVIDE(Mod, u, uint64_t, a % x)
FOLD(Pow, f, double, pow(a, x))
FOLD(Pow, i, int64_t, power_i(a, x))
FOLD(Max, f, double, isnan(a) || a > x ? a : x)
FOLD(Max, i, int64_t, a > x ? a : x)
FOLD(Max, u, uint64_t, a > x ? a : x)
FOLD(Min, f, double, isnan(a) || a < x ? a : x)
FOLD(Min, i, int64_t, a < x ? a : x)
FOLD(Min, u, uint64_t, a < x ? a : x)
FOLD(And, u, uint64_t, a &x)
FOLD(Or, u, uint64_t, a | x)
FOLD(Xor, u, uint64_t, a ^ x)
FOLD(Left, u, uint64_t, x > 63 ? 0 : a << x)
FOLD(Right, u, uint64_t, x > 63 ? 0 : a >> x)
FOLD(PRelu, f, double, a < 0 ? a * x : a)
FOLD(PRelu, i, int64_t, a < 0 ? (int64_t)((uint64_t)a * (uint64_t)x) : a)
FOLD(PRelu, u, uint64_t, ((void)x, a))
FOLD3(Equal, a == x)
FOLD3(Greater, a > x)
FOLD3(GreaterOrEqual, a >= x)
FOLD3(Less, a < x)
FOLD3(LessOrEqual, a <= x)

#define SAME_INTS(name)                                                                            \
    {                                                                                              \
        fold_##name##_f, fold_##name##_u, fold_##name##_u                                          \
    }
#define BITS(name)                                                                                 \
    {                                                                                              \
        NULL, fold_##name##_u, fold_##name##_u                                                     \
    }
#define THREE(name)                                                                                \
    {                                                                                              \
        fold_##name##_f, fold_##name##_i, fold_##name##_u                                          \
    }

static const struct nary_row {
    uint32_t types;
    fold_fn fold[3]; /* by kop_kind */
    bool to_bool;
} table[KOP_COUNT] = {
    [KOP_Add] = {.types = KOP_T_NUM, .fold = SAME_INTS(Add)},
    [KOP_Sub] = {.types = KOP_T_NUM, .fold = SAME_INTS(Sub)},
    [KOP_Mul] = {.types = KOP_T_NUM, .fold = SAME_INTS(Mul)},
    [KOP_Div] = {.types = KOP_T_NUM, .fold = THREE(Div)},
    [KOP_Mod] = {.types = KOP_T_NUM, .fold = THREE(Mod)},
    [KOP_Pow] = {.types = KOP_T_NUM, .fold = {fold_Pow_f, fold_Pow_i, fold_Pow_i}},
    [KOP_Max] = {.types = KOP_T_NUM, .fold = THREE(Max)},
    [KOP_Min] = {.types = KOP_T_NUM, .fold = THREE(Min)},
    [KOP_Sum] = {.types = KOP_T_NUM, .fold = SAME_INTS(Add)},
    [KOP_Mean] = {.types = KOP_T_FLOAT, .fold = {fold_Add_f, NULL, NULL}},
    [KOP_And] = {.types = KOP_T_BOOL, .fold = BITS(And)},
    [KOP_Or] = {.types = KOP_T_BOOL, .fold = BITS(Or)},
    [KOP_Xor] = {.types = KOP_T_BOOL, .fold = BITS(Xor)},
    [KOP_BitwiseAnd] = {.types = KOP_T_INT, .fold = BITS(And)},
    [KOP_BitwiseOr] = {.types = KOP_T_INT, .fold = BITS(Or)},
    [KOP_BitwiseXor] = {.types = KOP_T_INT, .fold = BITS(Xor)},
    [KOP_BitShift] = {.types = KOP_T_UNSIGNED, .fold = BITS(Left)},
    [KOP_PRelu] = {.types = KOP_T_NUM, .fold = THREE(PRelu)},
    [KOP_Equal] = {.types = KOP_T_ALL, .fold = THREE(Equal), .to_bool = true},
    [KOP_Greater] = {.types = KOP_T_NUM, .fold = THREE(Greater), .to_bool = true},
    [KOP_GreaterOrEqual] = {.types = KOP_T_NUM, .fold = THREE(GreaterOrEqual), .to_bool = true},
    [KOP_Less] = {.types = KOP_T_NUM, .fold = THREE(Less), .to_bool = true},
    [KOP_LessOrEqual] = {.types = KOP_T_NUM, .fold = THREE(LessOrEqual), .to_bool = true},
};

static kaena_status infer_types(kop_call *call, const struct nary_row *row)
{
    for (uint32_t i = 0; i < call->n_in; i++) {
        if (!call->in[i])
            return KOP_BAD(call, "input %u is required", i);
        KAENA_TRY(kop_need(call, i, row->types));
        if (call->op != KOP_Pow)
            KAENA_TRY(kop_need_same(call, 0, i));
    }
    if (call->op == KOP_BitShift && !kop_attr_is(call, "direction", "", "LEFT") &&
        !kop_attr_is(call, "direction", "", "RIGHT"))
        return KOP_BAD(call, "direction must be LEFT or RIGHT");
    if (call->op == KOP_Mod && kaena_dtype_is_float(kop_in_type(call, 0)) &&
        kop_attr_int(call, "fmod", 0) == 0)
        return KOP_BAD(call, "fmod must be 1 for floating point");
    return KAENA_OK;
}

kaena_status kop_infer_nary(kop_call *call)
{
    const struct nary_row *row = &table[call->op];
    KAENA_TRY(infer_types(call, row));
    kaena_dtype type = row->to_bool ? KAENA_BOOL : kop_in_type(call, 0);
    for (uint32_t i = 1; i < call->n_in && type == KAENA_DTYPE_NONE && call->op != KOP_Pow; i++)
        type = kop_in_type(call, i);
    kaena_shape shape;
    bool unranked;
    KAENA_TRY(kop_broadcast_shape(call, 0, call->n_in, &shape, &unranked));
    if (unranked) {
        kop_out_unranked(call, 0, type);
        return KAENA_OK;
    }
    /* The slope broadcasts to the data, never the other way. */
    const kop_tensor *x = call->in[0];
    if (call->op == KOP_PRelu && kop_known(x) && kaena_shape_known(&shape) &&
        !kaena_shape_equal(&x->shape, &shape))
        return KOP_BAD(call, "the slope does not broadcast to the shape of the data");
    kop_out(call, 0, type, &shape);
    return KAENA_OK;
}

/* The functions of this call: attributes and mixed types can choose others than the row's. */
static fold_fn choose(const kop_call *call, kop_kind *kind)
{
    *kind = kop_kind_of(call->in[0]->dtype);
    if (call->op == KOP_Pow && call->n_in > 1) {
        kop_kind exponent = kop_kind_of(call->in[1]->dtype);
        if (exponent == KOP_KIND_FLOAT)
            *kind = KOP_KIND_FLOAT;
    }
    if (call->op == KOP_Mod && kop_attr_int(call, "fmod", 0) != 0) {
        static const fold_fn fmods[3] = {fold_Fmod_f, fold_Fmod_i, fold_Mod_u};
        return fmods[*kind];
    }
    if (call->op == KOP_BitShift && kop_attr_is(call, "direction", "", "RIGHT"))
        return fold_Right_u;
    return table[call->op].fold[*kind];
}

/* Elements |at| .. |at|+n of an operand that walks |step| (0 or more elements). */
static void load(const kop_tensor *t, kop_kind kind, int64_t at, int64_t step, size_t n,
                 wide_chunk *out)
{
    if (step == 1 && kind == KOP_KIND_FLOAT) {
        kop_load_f64(t, (size_t)at, n, out->f);
    } else if (step == 1) {
        kop_load_i64(t, (size_t)at, n, out->i);
    } else {
        for (size_t i = 0; i < n; i++) {
            if (step == 0 && i > 0)
                out->u[i] = out->u[0];
            else if (kind == KOP_KIND_FLOAT)
                kop_load_f64(t, (size_t)at, 1, &out->f[i]);
            else
                kop_load_i64(t, (size_t)at, 1, &out->i[i]);
            at += step;
        }
    }
}

#define DIRECT_CHUNK 16384 /* elements between two looks whether to stop */

static kaena_status eval_direct(kop_call *call, kop_direct_fn direct, const kop_bcast *b)
{
    const kop_tensor *x = call->in[0], *y = call->in[1];
    size_t size = kaena_dtype_size(x->dtype), out_size = kaena_dtype_size(call->out[0].dtype);
    int64_t inner = b->dim[b->rank - 1], total = (int64_t)kop_elements(&call->out[0]);
    int64_t step_x = b->stride[0][b->rank - 1], step_y = b->stride[1][b->rank - 1];
    char *out = call->out[0].data;
    for (int64_t row = 0; row * inner < total; row++) {
        const char *from_x = (const char *)x->data + (size_t)kop_bcast_offset(b, 0, row) * size;
        const char *from_y = (const char *)y->data + (size_t)kop_bcast_offset(b, 1, row) * size;
        for (int64_t at = 0; at < inner; at += DIRECT_CHUNK) {
            int64_t n = inner - at < DIRECT_CHUNK ? inner - at : DIRECT_CHUNK;
            direct(out, from_x + (size_t)(at * step_x) * size, step_x,
                   from_y + (size_t)(at * step_y) * size, step_y, n);
            out += (size_t)n * out_size;
            KAENA_TRY(kop_poll(call));
        }
    }
    return KAENA_OK;
}

kaena_status kop_eval_nary(kop_call *call)
{
    kop_tensor *out = &call->out[0];
    size_t total = kop_elements(out);
    if (total == 0)
        return KAENA_OK;
    kop_bcast *b = kop_alloc(call, 1, sizeof *b);
    if (!b)
        return KAENA_RESOURCE_EXHAUSTED;
    kop_bcast_init(b, &out->shape, call->in, call->n_in);
    kop_direct_fn direct = call->n_in == 2 ? kop_direct_find(call->op, call->in[0]->dtype) : NULL;
    if (direct)
        return eval_direct(call, direct, b);
    kop_kind kind;
    fold_fn fold = choose(call, &kind);
    int64_t inner = b->dim[b->rank - 1], done = 0;
    for (int64_t row = 0; done < (int64_t)total; row++) {
        int64_t base[KOP_MAX_INPUTS];
        for (uint32_t i = 0; i < call->n_in; i++)
            base[i] = kop_bcast_offset(b, i, row);
        for (int64_t at = 0; at < inner; at += KOP_CHUNK) {
            size_t n = (size_t)(inner - at < KOP_CHUNK ? inner - at : KOP_CHUNK);
            wide_chunk acc, x;
            for (uint32_t i = 0; i < call->n_in; i++) {
                int64_t step = b->stride[i][b->rank - 1];
                load(call->in[i], kind, base[i] + at * step, step, n, i ? &x : &acc);
                if (i && !fold(&acc, &x, n))
                    return KOP_BAD(call, "integer division by zero");
            }
            if (call->op == KOP_Mean)
                for (size_t j = 0; j < n; j++)
                    acc.f[j] /= call->n_in;
            if (kind == KOP_KIND_FLOAT)
                kop_store_f64(out, (size_t)(done + at), n, acc.f);
            else
                kop_store_i64(out, (size_t)(done + at), n, acc.i);
            KAENA_TRY(kop_poll(call));
        }
        done += inner;
    }
    return KAENA_OK;
}

/* --- Where --- */

kaena_status kop_infer_where(kop_call *call)
{
    KAENA_TRY(kop_need(call, 0, KOP_T_BOOL));
    KAENA_TRY(kop_need_same(call, 1, 2));
    kaena_dtype type = kop_in_type(call, 1) ? kop_in_type(call, 1) : kop_in_type(call, 2);
    kaena_shape shape;
    bool unranked;
    KAENA_TRY(kop_broadcast_shape(call, 0, 3, &shape, &unranked));
    if (unranked)
        kop_out_unranked(call, 0, type);
    else
        kop_out(call, 0, type, &shape);
    return KAENA_OK;
}

kaena_status kop_eval_where(kop_call *call)
{
    kop_tensor *out = &call->out[0];
    size_t total = kop_elements(out), size = kaena_dtype_size(out->dtype);
    if (total == 0)
        return KAENA_OK;
    kop_bcast *b = kop_alloc(call, 1, sizeof *b);
    if (!b)
        return KAENA_RESOURCE_EXHAUSTED;
    kop_bcast_init(b, &out->shape, call->in, 3);
    int64_t inner = b->dim[b->rank - 1];
    const int64_t step[3] = {b->stride[0][b->rank - 1], b->stride[1][b->rank - 1],
                             b->stride[2][b->rank - 1]};
    const kop_copiers *copy = kop_copiers_of(size);
    char *to = out->data;
    for (int64_t row = 0; row * inner < (int64_t)total; row++) {
        const char *from[3];
        for (uint32_t i = 0; i < 3; i++)
            from[i] = (const char *)call->in[i]->data +
                      (size_t)kop_bcast_offset(b, i, row) * (i ? size : 1);
        copy->select(to, (const uint8_t *)from[0], step[0], from[1], step[1], from[2], step[2],
                     inner);
        to += (size_t)inner * size;
        KAENA_TRY(kop_poll(call));
    }
    return KAENA_OK;
}
