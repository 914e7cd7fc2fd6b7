/* Operators of two operands of one type without a detour over a wide type: the same results as
 * op_nary.c gives (a sum, difference, product or quotient of floats that is rounded to double first
 * is the same after rounding to float), several times faster. And those of strings, which have no
 * wide type. */
#include "ops_impl.h"

#define DIRECT(name, type, out_type, expression)                                                   \
    static void direct_##name##_##type(void *out_, const void *a_, int64_t step_a, const void *b_, \
                                       int64_t step_b, int64_t n)                                  \
    {                                                                                              \
        const type *pa = a_, *pb = b_;                                                             \
        out_type *out = out_;                                                                      \
        if (step_a && step_b) {                                                                    \
            for (int64_t i = 0; i < n; i++) {                                                      \
                type a = pa[i], b = pb[i];                                                         \
                out[i] = (out_type)(expression);                                                   \
            }                                                                                      \
        } else if (step_a) {                                                                       \
            type b = *pb;                                                                          \
            for (int64_t i = 0; i < n; i++) {                                                      \
                type a = pa[i];                                                                    \
                out[i] = (out_type)(expression);                                                   \
            }                                                                                      \
        } else {                                                                                   \
            type a = *pa;                                                                          \
            for (int64_t i = 0; i < n; i++) {                                                      \
                type b = pb[i * step_b];                                                           \
                out[i] = (out_type)(expression);                                                   \
            }                                                                                      \
        }                                                                                          \
    }

#define DIRECT_NUMBERS(name, out_of_float, out_of_double, out_of_32, out_of_64, expression)        \
    DIRECT(name, float, out_of_float, expression)                                                  \
    DIRECT(name, double, out_of_double, expression)                                                \
    DIRECT(name, uint32_t, out_of_32, expression)                                                  \
    DIRECT(name, uint64_t, out_of_64, expression)

/* Integers wrap, so one function serves both signs. */
DIRECT_NUMBERS(Add, float, double, uint32_t, uint64_t, a + b)
DIRECT_NUMBERS(Sub, float, double, uint32_t, uint64_t, a - b)
DIRECT_NUMBERS(Mul, float, double, uint32_t, uint64_t, a *b)
DIRECT_NUMBERS(Equal, uint8_t, uint8_t, uint8_t, uint8_t, a == b)
DIRECT(Div, float, float, a / b)
DIRECT(Div, double, double, a / b)
DIRECT(Greater, float, uint8_t, a > b)
DIRECT(Greater, int64_t, uint8_t, a > b)
DIRECT(Less, float, uint8_t, a < b)
DIRECT(Less, int64_t, uint8_t, a < b)
DIRECT(And, uint8_t, uint8_t, a &b)
DIRECT(Or, uint8_t, uint8_t, a | b)
DIRECT(Equal, kaena_string, uint8_t,
       a.size == b.size && (a.size == 0 || memcmp(a.data, b.data, a.size) == 0))

#define BOTH_SIGNS(op, name)                                                                       \
    {KOP_##op, KAENA_F32, direct_##name##_float}, {KOP_##op, KAENA_F64, direct_##name##_double},   \
        {KOP_##op, KAENA_I32, direct_##name##_uint32_t},                                           \
        {KOP_##op, KAENA_U32, direct_##name##_uint32_t},                                           \
        {KOP_##op, KAENA_I64, direct_##name##_uint64_t},                                           \
    {                                                                                              \
        KOP_##op, KAENA_U64, direct_##name##_uint64_t                                              \
    }

static const struct {
    kop_op op;
    kaena_dtype type;
    kop_direct_fn function;
} rows[] = {
    BOTH_SIGNS(Add, Add),
    BOTH_SIGNS(Sub, Sub),
    BOTH_SIGNS(Mul, Mul),
    BOTH_SIGNS(Equal, Equal),
    {KOP_Sum, KAENA_F32, direct_Add_float},
    {KOP_Div, KAENA_F32, direct_Div_float},
    {KOP_Div, KAENA_F64, direct_Div_double},
    {KOP_Greater, KAENA_F32, direct_Greater_float},
    {KOP_Greater, KAENA_I64, direct_Greater_int64_t},
    {KOP_Less, KAENA_F32, direct_Less_float},
    {KOP_Less, KAENA_I64, direct_Less_int64_t},
    {KOP_And, KAENA_BOOL, direct_And_uint8_t},
    {KOP_Or, KAENA_BOOL, direct_Or_uint8_t},
    {KOP_Equal, KAENA_STRING, direct_Equal_kaena_string},
};

kop_direct_fn kop_direct_find(kop_op op, kaena_dtype type)
{
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        if (rows[i].op == op && rows[i].type == type)
            return rows[i].function;
    return NULL;
}
