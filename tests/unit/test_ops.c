/* The operator table, attributes, plumbing, and operators element by element. */
#include "ops_fixture.h"

KTEST(ops, table)
{
    for (unsigned i = KOP_NONE + 1; i < KOP_COUNT; i++) {
        const kop_row *row = kop_row_of((kop_op)i);
        cr_assert(row->name && row->infer && row->eval);
        cr_assert(row->min_in <= row->max_in && row->max_in <= KOP_MAX_BODY_OPERANDS, "%s",
                  row->name);
        cr_assert(row->min_out >= 1 && row->min_out <= row->max_out, "%s", row->name);
        cr_assert_eq(kop_find(row->name), (kop_op)i, "%s", row->name);
    }
    cr_assert_eq(kop_find("NoSuchOperator"), KOP_NONE);
    cr_assert_eq(kop_find("(none)"), KOP_NONE);
}

KTEST(ops, attributes)
{
    const int64_t two[] = {3, 4}, *v;
    const kop_attr attrs[] = {{.name = "i", .type = KOP_ATTR_INT, .n = 1, .u.i = 7},
                              {.name = "f", .type = KOP_ATTR_FLOAT, .n = 1, .u.f = 0.5f},
                              {.name = "s", .type = KOP_ATTR_STRING, .n = 1, .u.s = "text"},
                              {.name = "v", .type = KOP_ATTR_INTS, .n = 2, .u.ints = two}};
    kop_call call = {.op = KOP_Identity, .attr = attrs, .n_attr = 4};
    cr_assert_eq(kop_attr_int(&call, "i", 1), 7);
    cr_assert_eq(kop_attr_int(&call, "f", 1), 1, "another type counts as absent");
    cr_assert_eq(kop_attr_float(&call, "f", 0), 0.5f);
    cr_assert_str_eq(kop_attr_string(&call, "s", ""), "text");
    cr_assert_eq(kop_attr_ints(&call, "v", &v), 2);
    cr_assert_eq(v[1], 4);
    cr_assert_eq(kop_attr_ints(&call, "i", &v), 0);
    cr_assert_null(v);
    cr_assert_null(kop_attr_find(&call, "x"));
}

KTEST(ops, axes)
{
    int32_t axis = 9;
    cr_assert(kop_axis(-1, 3, &axis) && axis == 2);
    cr_assert(kop_axis(0, 3, &axis) && axis == 0);
    cr_assert(!kop_axis(3, 3, &axis) && !kop_axis(-4, 3, &axis) && !kop_axis(0, 0, &axis));
    cr_assert(!kop_axis(INT64_MIN, 8, &axis) && !kop_axis(INT64_MAX, 8, &axis));
}

KTEST(ops, operands_are_checked)
{
    ops_refuse(KOP_Add, "", "f32[1] 1", 1, KAENA_INVALID_ARGUMENT, "Add takes 2 to 2 inputs");
    ops_refuse(KOP_Add, "", "f32[1] 1 ; f32[1] 1", 2, KAENA_INVALID_ARGUMENT, "outputs");
    ops_refuse(KOP_Add, "", "- ; f32[1] 1", 1, KAENA_INVALID_ARGUMENT, "input 0 is required");
    ops_refuse(KOP_Add, "", "f32[4000000000,4000000000] ; f32[1]", 1, KAENA_INVALID_ARGUMENT,
               "input 0 has more elements");
    ops_refuse(KOP_Add, "", "f32[4000000000,1] ; f32[4000000000]", 1, KAENA_INVALID_ARGUMENT,
               "output 0 would have more elements");
}

KTEST(ops, quota_and_stop)
{
    ops_call *c = malloc(sizeof *c);
    ops_prepare(c, KOP_Expand, "", "f32[1] 1 ; int64[2] 100000 10000");
    c->call.n_out = 1;
    c->call.env = &c->env;
    cr_assert_eq(kop_eval(&c->call), KAENA_RESOURCE_EXHAUSTED);
    cr_assert_eq(c->err.needed, 4000000000u);
    atomic_bool stop = true;
    c->env.stop = &stop;
    cr_assert_eq(kop_eval(&c->call), KAENA_CANCELLED);
    kaena_arena_fini(&c->arena);
    free(c);
}

KTEST(ops, activations)
{
    static const struct {
        kaena_act act;
        float a, b;
        double x, y;
    } cases[] = {
        {KAENA_ACT_IDENTITY, 0, 0, -3, -3},
        {KAENA_ACT_RELU, 0, 0, -3, 0},
        {KAENA_ACT_LEAKY_RELU, 0.5f, 0, -3, -1.5},
        {KAENA_ACT_CLIP, 0, 6, 7, 6},
        {KAENA_ACT_CLIP, 2, 1, 5, 1},
        {KAENA_ACT_SIGMOID, 0, 0, 0, 0.5},
        {KAENA_ACT_TANH, 0, 0, 1, 0.76159415595576489},
        {KAENA_ACT_HARD_SIGMOID, 0.25f, 0.5f, 1, 0.75},
        {KAENA_ACT_HARD_SWISH, 0, 0, -1, -1.0 / 3},
        {KAENA_ACT_ELU, 2, 0, -1, -1.2642411176571153},
        {KAENA_ACT_SELU, 2, 3, -1, -3.7927233529713459},
        {KAENA_ACT_SOFTPLUS, 0, 0, 1000, 1000},
        {KAENA_ACT_SOFTPLUS, 0, 0, 0, 0.69314718055994531},
        {KAENA_ACT_SOFTSIGN, 0, 0, -3, -0.75},
        {KAENA_ACT_EXP, 0, 0, 1, 2.7182818284590451},
        {KAENA_ACT_LOG, 0, 0, 0, -INFINITY},
        {KAENA_ACT_SQRT, 0, 0, 9, 3},
        {KAENA_ACT_RECIPROCAL, 0, 0, 4, 0.25},
        {KAENA_ACT_ERF, 0, 0, 1, 0.84270079294971489},
        {KAENA_ACT_GELU, 0, 0, 1, 0.84134474606854293},
        {KAENA_ACT_GELU_TANH, 0, 0, 1, 0.84119199060827712},
        {KAENA_ACT_SILU, 0, 0, 1, 0.7310585786300049},
        {KAENA_ACT_ABS, 0, 0, -2, 2},
        {KAENA_ACT_NEG, 0, 0, -2, 2},
        {KAENA_ACT_FLOOR, 0, 0, -2.5, -3},
        {KAENA_ACT_CEIL, 0, 0, -2.5, -2},
        {KAENA_ACT_ROUND, 0, 0, 2.5, 2},
        {KAENA_ACT_SIGN, 0, 0, -2.5, -1},
        {KAENA_ACT_SQUARE, 0, 0, -3, 9},
        {KAENA_ACT_SIN, 0, 0, 1, 0.8414709848078965},
        {KAENA_ACT_COS, 0, 0, 1, 0.54030230586813977},
        {KAENA_ACT_THRESHOLDED_RELU, 1, 0, 1, 0},
    };
    bool seen[KAENA_ACT_COUNT] = {false};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        double y = kop_act_eval(cases[i].act, cases[i].x, cases[i].a, cases[i].b);
        cr_assert(y == cases[i].y || fabs(y - cases[i].y) < 1e-14, "%s(%g) = %.17g",
                  kaena_act_name(cases[i].act), cases[i].x, y);
        seen[cases[i].act] = true;
    }
    for (unsigned i = 0; i < KAENA_ACT_COUNT; i++) {
        cr_assert(seen[i], "%s is not tested", kaena_act_name(i));
        cr_assert(isnan(kop_act_eval((kaena_act)i, NAN, 1, 2)), "%s", kaena_act_name(i));
    }
}

KTEST(ops, epilogue)
{
    const char *two = "f32[2] 1 -5 ; f32[2] 1 1 ; f32[2] 3 3";
    ops_check(KOP_Add, "kaena.act='RELU' kaena.residual=1", two, "f32[2] 5 0");
    ops_check(KOP_Add, "kaena.act='RELU' kaena.residual=2", two, "f32[2] 5 3");
    ops_check(KOP_Add, "kaena.act='CLIP' kaena.act_alpha=0.5 kaena.act_beta=1.5",
              "f32[2] 1 -5 ; f32[2] 1 1", "f32[2] 1.5 0.5");
    ops_check(KOP_Add, "kaena.residual=1", "f32[2] ; f32[2] ; f32[2]", "f32[2]");
    ops_refuse(KOP_Add, "kaena.residual=1", "f32[2] ; f32[2] ; f32[3]", 1, KAENA_INVALID_ARGUMENT,
               "residual");
    ops_refuse(KOP_Add, "kaena.residual=1", "f32[2] ; f32[2] ; float16[2]", 1,
               KAENA_INVALID_ARGUMENT, "residual");
    ops_refuse(KOP_Add, "kaena.residual=1", "f32[2] 1 1 ; f32[2] 1 1", 1, KAENA_INVALID_ARGUMENT,
               "takes 2");
    ops_refuse(KOP_Add, "kaena.act='BOGUS'", "f32[1] 1 ; f32[1] 1", 1, KAENA_INVALID_ARGUMENT,
               "BOGUS");
    ops_refuse(KOP_Add, "kaena.act='RELU'", "int32[1] 1 ; int32[1] 1", 1, KAENA_UNIMPLEMENTED,
               "int32");
}

KTEST(ops_unary, values)
{
    ops_check(KOP_Abs, "", "int8[3] -128 -1 2", "int8[3] -128 1 2");
    ops_check(KOP_Abs, "", "f32[2] -1.5 2", "f32[2] 1.5 2");
    ops_check(KOP_Neg, "", "int32[2] -5 2147483647", "int32[2] 5 -2147483647");
    ops_check(KOP_Sign, "", "uint64[2] 18446744073709551615 0", "uint64[2] 1 0");
    ops_check(KOP_Relu, "", "float16[3] -1 0 2", "float16[3] 0 0 2");
    ops_check(KOP_Relu, "", "f32[1] nan", "f32[1] nan");
    ops_check(KOP_LeakyRelu, "", "f32[2] -1 1", "f32[2] -0.01 1");
    ops_check(KOP_HardSigmoid, "alpha=0.5 beta=0.6", "f32[3] -1 0 1", "f32[3] 0.1 0.6 1");
    ops_check(KOP_Elu, "alpha=2.0", "f32[1] -1", "f32[1] -1.2642411");
    ops_check(KOP_Celu, "alpha=2.0", "f32[2] -1 3", "f32[2] -0.786938 3");
    ops_check(KOP_ThresholdedRelu, "alpha=2.0", "f32[3] 1 2 3", "f32[3] 0 0 3");
    ops_check(KOP_Shrink, "lambd=1.5 bias=1.0", "f32[3] -2 0.5 2", "f32[3] -1 0 1");
    ops_check(KOP_Round, "", "f32[5] 0.5 1.5 2.5 -0.5 -1.6", "f32[5] 0 2 2 0 -2");
    ops_check(KOP_Gelu, "approximate='tanh'", "f32[1] 1", "f32[1] 0.841192");
    ops_check(KOP_Mish, "", "f32[1] 1", "f32[1] 0.8650984");
    ops_check(KOP_Not, "", "bool[2] 1 0", "bool[2] 0 1");
    ops_check(KOP_BitwiseNot, "", "uint8[1] 5", "uint8[1] 250");
    ops_check(KOP_IsNaN, "", "f32[2] nan 1", "bool[2] 1 0");
    ops_check(KOP_IsInf, "", "f32[3] -inf inf nan", "bool[3] 1 1 0");
    ops_check(KOP_IsInf, "detect_negative=0", "f32[2] -inf inf", "bool[2] 0 1");
    ops_check(KOP_Sqrt, "", "bfloat16[1] 4", "bfloat16[1] 2");
    ops_check(KOP_Exp, "", "float64[1] 1", "float64[1] 2.718281828459045");
    ops_check(KOP_Erf, "", "f32[]  1", "f32[] 0.8427008");
    ops_check(KOP_Tanh, "", "f32[0,3]", "f32[0,3]");
}

KTEST(ops_unary, inference_and_refusals)
{
    ops_check(KOP_Exp, "", "f32[?,3]", "f32[?,3]");
    ops_check(KOP_IsNaN, "", "f32*", "bool*");
    ops_refuse(KOP_Exp, "", "int32[1] 1", 1, KAENA_UNIMPLEMENTED,
               "Exp: input 0 of type int32 is not supported");
    ops_refuse(KOP_Neg, "", "uint8[1] 1", 1, KAENA_UNIMPLEMENTED, "uint8");
    ops_refuse(KOP_Gelu, "approximate='no'", "f32[1] 1", 1, KAENA_INVALID_ARGUMENT, "approximate");
}

KTEST(ops_unary, clip)
{
    ops_check(KOP_Clip, "", "f32[4] -2 0.5 3 nan ; f32[] 0 ; f32[] 1", "f32[4] 0 0.5 1 nan");
    ops_check(KOP_Clip, "", "int8[3] -5 0 9 ; - ; int8[] 4", "int8[3] -5 0 4");
    ops_check(KOP_Clip, "", "uint64[2] 18446744073709551615 1 ; uint64[] 2",
              "uint64[2] 18446744073709551615 2");
    ops_check(KOP_Clip, "", "f32[2] 1 2", "f32[2] 1 2");
    ops_refuse(KOP_Clip, "", "f32[1] 1 ; f32[2] 0 1", 1, KAENA_INVALID_ARGUMENT, "one element");
    ops_refuse(KOP_Clip, "", "f32[1] 1 ; int32[] 0", 1, KAENA_INVALID_ARGUMENT, "one type");
}

KTEST(ops_nary, arithmetic)
{
    ops_check(KOP_Add, "", "f32[2,1] 1 2 ; f32[3] 10 20 30", "f32[2,3] 11 21 31 12 22 32");
    ops_check(KOP_Sub, "", "uint8[2] 1 5 ; uint8[] 2", "uint8[2] 255 3");
    ops_check(KOP_Mul, "", "int64[2,2] 1 2 3 4 ; int64[2] 2 3", "int64[2,2] 2 6 6 12");
    ops_check(KOP_Div, "", "int32[3] -7 7 -2147483648 ; int32[3] 2 -2 -1",
              "int32[3] -3 -3 -2147483648");
    ops_check(KOP_Div, "", "int64[1] -9223372036854775808 ; int64[1] -1",
              "int64[1] -9223372036854775808");
    ops_check(KOP_Div, "", "uint64[1] 18446744073709551615 ; uint64[1] 2",
              "uint64[1] 9223372036854775807");
    ops_check(KOP_Div, "", "f32[1] 1 ; f32[1] 0", "f32[1] inf");
    ops_refuse(KOP_Div, "", "int32[1] 1 ; int32[1] 0", 1, KAENA_INVALID_ARGUMENT, "by zero");
    ops_check(KOP_Mod, "", "int32[2] -7 7 ; int32[2] 3 -3", "int32[2] 2 -2");
    ops_check(KOP_Mod, "fmod=1", "int32[2] -7 7 ; int32[2] 3 -3", "int32[2] -1 1");
    ops_check(KOP_Mod, "fmod=1", "f32[1] -7.5 ; f32[1] 2", "f32[1] -1.5");
    ops_check(KOP_Mod, "", "int64[1] -9223372036854775808 ; int64[1] -1", "int64[1] 0");
    ops_refuse(KOP_Mod, "", "uint8[1] 1 ; uint8[1] 0", 1, KAENA_INVALID_ARGUMENT, "by zero");
    ops_refuse(KOP_Mod, "", "f32[1] 1 ; f32[1] 1", 1, KAENA_INVALID_ARGUMENT, "fmod");
    ops_check(KOP_Pow, "", "f32[2] 2 9 ; f32[2] 3 0.5", "f32[2] 8 3");
    ops_check(KOP_Pow, "", "int32[2] 3 2 ; int64[] 3", "int32[2] 27 8");
    ops_check(KOP_Pow, "", "int32[2] 4 2 ; f32[] 0.5", "int32[2] 2 1");
    ops_check(KOP_Pow, "", "int32[3] 2 1 -1 ; int32[] -3", "int32[3] 0 1 -1");
}

KTEST(ops_nary, variadic)
{
    ops_check(KOP_Max, "", "f32[2] 1 5 ; f32[2] 3 2 ; f32[] 2", "f32[2] 3 5");
    ops_check(KOP_Max, "", "f32[2] nan 5 ; f32[2] 3 nan", "f32[2] nan nan");
    ops_check(KOP_Min, "", "uint64[1] 18446744073709551615 ; uint64[1] 3", "uint64[1] 3");
    ops_check(KOP_Sum, "", "f32[1] 1 ; f32[1] 2 ; f32[2] 3 4", "f32[2] 6 7");
    ops_check(KOP_Mean, "", "f32[1] 1 ; f32[1] 2 ; f32[2] 3 6", "f32[2] 2 3");
    ops_check(KOP_Sum, "", "f32[2] 4 5", "f32[2] 4 5");
    ops_check(KOP_PRelu, "", "f32[2,2] -1 2 -3 4 ; f32[2] 0.5 2", "f32[2,2] -0.5 2 -1.5 4");
    ops_refuse(KOP_PRelu, "", "f32[2] ; f32[3,2]", 1, KAENA_INVALID_ARGUMENT, "slope");
}

KTEST(ops_nary, logic_and_comparison)
{
    ops_check(KOP_And, "", "bool[4] 0 0 1 1 ; bool[4] 0 1 0 1", "bool[4] 0 0 0 1");
    ops_check(KOP_Or, "", "bool[4] 0 0 1 1 ; bool[4] 0 1 0 1", "bool[4] 0 1 1 1");
    ops_check(KOP_Xor, "", "bool[4] 0 0 1 1 ; bool[4] 0 1 0 1", "bool[4] 0 1 1 0");
    ops_check(KOP_BitwiseAnd, "", "int8[2] 6 -1 ; int8[2] 3 5", "int8[2] 2 5");
    ops_check(KOP_BitShift, "direction='LEFT'", "uint8[3] 1 255 1 ; uint8[3] 3 1 200",
              "uint8[3] 8 254 0");
    ops_check(KOP_BitShift, "direction='RIGHT'", "uint32[2] 16 1 ; uint32[2] 3 64",
              "uint32[2] 2 0");
    ops_check(KOP_Equal, "", "f32[3] 1 nan 2 ; f32[3] 1 nan 3", "bool[3] 1 0 0");
    ops_check(KOP_Equal, "", "bool[2] 1 0 ; bool[] 1", "bool[2] 1 0");
    ops_check(KOP_Less, "", "uint64[1] 1 ; uint64[1] 18446744073709551615", "bool[1] 1");
    ops_check(KOP_Greater, "", "int8[2] -1 1 ; int8[] 0", "bool[2] 0 1");
    ops_check(KOP_LessOrEqual, "", "f32[3] 1 2 3 ; f32[] 2", "bool[3] 1 1 0");
    ops_check(KOP_GreaterOrEqual, "", "int64[3] 1 2 3 ; int64[] 2", "bool[3] 0 1 1");
    ops_check(KOP_Where, "", "bool[2,1] 1 0 ; f32[2] 1 2 ; f32[] 9", "f32[2,2] 1 2 9 9");
}

KTEST(ops_nary, inference_and_refusals)
{
    ops_check(KOP_Add, "", "f32[?,1,3] ; f32[4,1]", "f32[?,4,3]");
    ops_check(KOP_Add, "", "f32[?] ; f32[5]", "f32[5]");
    ops_check(KOP_Add, "", "f32* ; f32[5]", "f32*");
    ops_check(KOP_Less, "", "f32[2] ; f32[?]", "bool[2]");
    ops_refuse(KOP_Add, "", "f32[2] ; f32[3]", 1, KAENA_INVALID_ARGUMENT, "[2] and [3]");
    ops_refuse(KOP_Add, "", "f32[0] ; f32[3]", 1, KAENA_INVALID_ARGUMENT, "broadcast");
    ops_refuse(KOP_Add, "", "f32[2] ; float64[2]", 1, KAENA_INVALID_ARGUMENT,
               "input 0 is float32 and input 1 is float64");
    ops_refuse(KOP_And, "", "int8[2] ; int8[2]", 1, KAENA_UNIMPLEMENTED, "And: input 0");
    ops_refuse(KOP_BitShift, "", "uint8[1] ; uint8[1]", 1, KAENA_INVALID_ARGUMENT, "direction");
}
