/* Random numbers and signals. */
#include "ops_fixture.h"

#define BAD KAENA_INVALID_ARGUMENT

/* Evaluates a call of one output into |c|, which the caller ends. */
static const kop_tensor *evaluate(ops_call *c, kop_op op, const char *attrs, const char *in)
{
    ops_prepare(c, op, attrs, in);
    c->call.n_out = 1;
    c->call.env = &c->env;
    cr_assert_eq(kop_eval(&c->call), KAENA_OK, "%s: %s", kop_row_of(op)->name, c->err.what);
    return &c->out[0];
}

/* Mean and variance of many numbers lie near |mean| and |variance|. */
static void check_moments(kop_op op, const char *attrs, const char *in, double mean,
                          double variance)
{
    ops_call *c = malloc(sizeof *c);
    const kop_tensor *t = evaluate(c, op, attrs, in);
    double n = (double)kop_elements(t), sum = 0, squares = 0;
    for (size_t i = 0; i < kop_elements(t); i++)
        sum += kop_get_float(t, i);
    for (size_t i = 0; i < kop_elements(t); i++) {
        double off = kop_get_float(t, i) - sum / n;
        squares += off * off;
    }
    cr_assert(fabs(sum / n - mean) < 0.05 * sqrt(variance), "%s: mean %g", kop_row_of(op)->name,
              sum / n);
    cr_assert(fabs(squares / n - variance) < 0.05 * variance, "%s: variance %g",
              kop_row_of(op)->name, squares / n);
    kaena_arena_fini(&c->arena);
    free(c);
}

KTEST(ops_random, distributions)
{
    check_moments(KOP_RandomNormal, "shape=[20000] mean=2.0 scale=3.0 seed=1.0", "", 2, 9);
    check_moments(KOP_RandomUniform, "shape=[100,200] low=-1.0 high=3.0", "", 1, 16.0 / 12);
    check_moments(KOP_Multinomial, "sample_size=20000", "f32[1,2] 0 1.0986123", 0.75, 0.1875);
}

/* Whether two calls, the second by another name, give the same numbers. */
static bool same_numbers(const char *attrs, const char *other_attrs, const char *other_name)
{
    ops_call *a = malloc(sizeof *a), *b = malloc(sizeof *b);
    const kop_tensor *x = evaluate(a, KOP_RandomUniform, attrs, "");
    ops_prepare(b, KOP_RandomUniform, other_attrs, "");
    b->call.n_out = 1;
    b->call.name = other_name;
    b->call.env = &b->env;
    cr_assert_eq(kop_eval(&b->call), KAENA_OK);
    bool same = memcmp(x->data, b->out[0].data, kop_elements(x) * 4) == 0;
    kaena_arena_fini(&a->arena);
    kaena_arena_fini(&b->arena);
    free(a);
    free(b);
    return same;
}

KTEST(ops_random, seeds)
{
    cr_assert(same_numbers("shape=[8]", "shape=[8]", "node"), "every run gives the same");
    cr_assert(!same_numbers("shape=[8]", "shape=[8]", "other"), "nodes without seed differ");
    cr_assert(same_numbers("shape=[8] seed=3.0", "shape=[8] seed=3.0", "other"));
    cr_assert(!same_numbers("shape=[8] seed=3.0", "shape=[8] seed=4.0", "node"));
}

KTEST(ops_random, certain_outcomes)
{
    ops_check(KOP_Bernoulli, "", "f32[4] 0 1 0 1", "f32[4] 0 1 0 1");
    ops_check(KOP_Bernoulli, "dtype=9", "float64[2] 0 1", "bool[2] 0 1");
    ops_check(KOP_Multinomial, "dtype=7 sample_size=3", "f32[1,3] -1000 0 -1000",
              "int64[1,3] 1 1 1");
    ops_check(KOP_RandomUniform, "shape=[2] low=5.0 high=5.0 dtype=11", "", "float64[2] 5 5");
    ops_check(KOP_RandomNormalLike, "mean=1.0 scale=0.0 dtype=10", "int8[2] 3 4", "float16[2] 1 1");
    ops_check(KOP_Dropout, "", "f32[2] 1 2 ; f32[] 0.5 ; bool[] 0", "f32[2] 1 2 ; bool[2] 1 1");
    ops_check(KOP_Dropout, "", "f32[2] 1 2 ; f32[] 0 ; bool[] 1", "f32[2] 1 2 ; bool[2] 1 1");
}

/* What dropout keeps is scaled, so that the mean stays. */
KTEST(ops_random, dropout_in_training)
{
    ops_call *c = malloc(sizeof *c);
    ops_prepare(c, KOP_Dropout, "seed=2", "f32[1] 1 ; f32[] 0.75 ; bool[] 1");
    static float ones[4000];
    for (size_t i = 0; i < 4000; i++)
        ones[i] = 1;
    c->in[0].shape.dim[0] = 4000;
    c->in[0].data = ones;
    c->call.n_out = 2;
    c->call.env = &c->env;
    cr_assert_eq(kop_eval(&c->call), KAENA_OK, "%s", c->err.what);
    uint32_t kept = 0;
    for (size_t i = 0; i < 4000; i++) {
        bool keep = kop_get_int(&c->out[1], i) != 0;
        cr_assert_eq(kop_get_float(&c->out[0], i), keep ? 4 : 0);
        kept += keep;
    }
    cr_assert(kept > 900 && kept < 1100, "%u", kept);
    kaena_arena_fini(&c->arena);
    free(c);
}

KTEST(ops_random, refusals)
{
    ops_refuse(KOP_RandomNormal, "", "", 1, BAD, "'shape' is required");
    ops_refuse(KOP_RandomNormal, "shape=[2,-1]", "", 1, BAD, "-1");
    ops_refuse(KOP_RandomUniform, "shape=[2] dtype=7", "", 1, KAENA_UNIMPLEMENTED, "int64");
    ops_refuse(KOP_RandomNormalLike, "", "int32[2]", 1, KAENA_UNIMPLEMENTED, "int32");
    ops_refuse(KOP_Multinomial, "", "f32[1,0]", 1, BAD, "no classes");
    ops_refuse(KOP_Dropout, "", "f32[1] 1 ; f32[] 1 ; bool[] 1", 1, BAD, "ratio");
}

KTEST(ops_signal, windows)
{
    ops_check(KOP_HannWindow, "", "int64[] 4", "f32[4] 0 0.5 1 0.5");
    ops_check(KOP_HannWindow, "periodic=0", "int32[] 5", "f32[5] 0 0.5 1 0.5 0");
    ops_check(KOP_HammingWindow, "output_datatype=11", "int64[] 4",
              "float64[4] 0.0869565 0.5434783 1 0.5434783");
    ops_check(KOP_BlackmanWindow, "periodic=0", "int64[] 5", "f32[5] 0 0.34 1 0.34 0");
    ops_check(KOP_HannWindow, "periodic=0", "int64[] 1", "f32[1] 1");
    ops_check(KOP_HannWindow, "", "int64[] 0", "f32[0]");
    ops_check(KOP_HannWindow, "", "int64[]", "f32[?]");
    ops_refuse(KOP_HannWindow, "", "int64[] -1", 1, BAD, "-1");
    ops_refuse(KOP_HannWindow, "output_datatype=8", "int64[] 1", 1, KAENA_UNIMPLEMENTED, "string");
}

KTEST(ops_signal, dft)
{
    /* A length that is a power of two, and one that is none. */
    ops_check(KOP_DFT, "", "f32[1,4,1] 1 2 3 4 ; - ; int64[] 1", "f32[1,4,2] 10 0 -2 2 -2 0 -2 -2");
    ops_check(KOP_DFT, "", "float64[1,5,1] 1 2 3 4 5 ; - ; int64[] -2",
              "float64[1,5,2] 15 0 -2.5 3.4409548 -2.5 0.8122992 -2.5 -0.8122992 -2.5 -3.4409548");
    ops_check(KOP_DFT, "onesided=1", "f32[1,4,1] 1 2 3 4 ; - ; int64[] 1",
              "f32[1,3,2] 10 0 -2 2 -2 0");
    ops_check(KOP_DFT, "inverse=1", "f32[1,4,2] 10 0 -2 2 -2 0 -2 -2 ; - ; int64[] 1",
              "f32[1,4,2] 1 0 2 0 3 0 4 0");
    ops_check(KOP_DFT, "", "f32[1,2,2] 1 0 0 2 ; - ; int64[] 1", "f32[1,2,2] 1 2 1 -2");
    /* Cut to two elements, filled up to four. */
    ops_check(KOP_DFT, "", "f32[1,3,1] 1 2 9 ; int64[] 2 ; int64[] 1", "f32[1,2,2] 3 0 -1 0");
    ops_check(KOP_DFT, "", "f32[1,2,1] 1 2 ; int64[] 4 ; int64[] 1",
              "f32[1,4,2] 3 0 1 -2 -1 0 1 2");
    /* Along the first of two dimensions. */
    ops_check(KOP_DFT, "", "f32[2,2,1] 1 2 3 4 ; - ; int64[] 0", "f32[2,2,2] 4 0 6 0 -2 0 -2 0");
    ops_check(KOP_DFT, "", "f32[?,8,1] ; - ; int64[] 1", "f32[?,8,2]");
    ops_check(KOP_DFT, "", "f32[2,8,1] ; - ; int64[]", "f32[?,?,2]");
    ops_refuse(KOP_DFT, "", "f32[1,4,3]", 1, BAD, "last dimension");
    ops_refuse(KOP_DFT, "", "f32[1,4,1] ; - ; int64[] 2", 1, BAD, "axis 2");
    ops_refuse(KOP_DFT, "onesided=1", "f32[1,4,2]", 1, BAD, "real");
    ops_refuse(KOP_DFT, "", "f32[1,4,1] ; int64[] 0", 1, BAD, "length 0");
}

KTEST(ops_signal, stft)
{
    ops_check(KOP_STFT, "", "f32[1,4,1] 1 2 3 4 ; int64[] 2 ; - ; int64[] 2",
              "f32[1,2,2,2] 3 0 -1 0 7 0 -1 0");
    ops_check(KOP_STFT, "onesided=0", "f32[1,3] 1 2 3 ; int64[] 1 ; f32[2] 1 0",
              "f32[1,2,2,2] 1 0 1 0 2 0 2 0");
    ops_check(KOP_STFT, "", "f32[2,?,1] ; int64[] 2 ; - ; int64[] 16", "f32[2,?,9,2]");
    ops_refuse(KOP_STFT, "", "f32[1,4,1] ; int64[] 2", 1, BAD, "a window or");
    ops_refuse(KOP_STFT, "", "f32[1,4,1] ; int64[] 2 ; - ; int64[] 5", 1, BAD, "shorter");
    ops_refuse(KOP_STFT, "", "f32[1,4,1] ; int64[] 0 ; f32[2]", 1, BAD, "step of 0");
    ops_refuse(KOP_STFT, "", "f32[1,4,1] ; int64[] 1 ; f32[2] ; int64[] 3", 1, BAD, "do not fit");
}

KTEST(ops_signal, mel_weights)
{
    ops_check(KOP_MelWeightMatrix, "", "int64[] 2 ; int64[] 16 ; int64[] 16 ; f32[] 0 ; f32[] 8",
              "f32[9,2] 0 0 0.5 0 1 0 0.5 0.5 0 1 0 0.5 0 0 0 0 0 0");
    ops_check(KOP_MelWeightMatrix, "output_datatype=11",
              "int64[] 8 ; int64[] 16 ; int64[] ; f32[] ; f32[]", "float64[9,8]");
    ops_refuse(KOP_MelWeightMatrix, "", "int64[] -1 ; int64[] 8 ; int64[] 8 ; f32[] 0 ; f32[] 4", 1,
               BAD, "must not be negative");
    ops_refuse(KOP_MelWeightMatrix, "", "int64[] 1 ; int64[] 8 ; int64[] 0 ; f32[] 0 ; f32[] 4", 1,
               BAD, "sample rate");
}
