/* Every operator in every element type that ONNX gives it. */
#include "ops_samples.h"

KTEST(ops_types, every_operator_has_a_sample)
{
    bool seen[KOP_COUNT] = {false};
    for (size_t i = 0; i < OPS_N_SAMPLES; i++)
        seen[ops_samples[i].op] = true;
    for (unsigned op = KOP_NONE + 1; op < KOP_COUNT; op++)
        cr_assert(seen[op] || kop_row_of((kop_op)op)->any_form, "%s has no sample",
                  kop_row_of((kop_op)op)->name);
}

KTEST(ops_types, every_type_is_evaluated)
{
    uint32_t n_bad = 0;
    for (size_t i = 0; i < OPS_N_SAMPLES; i++) {
        const ops_sample *s = &ops_samples[i];
        for (unsigned type = 1; type < 32; type++) {
            if (!(s->types & KOP_T(type)))
                continue;
            ops_call *c = malloc(sizeof *c);
            ops_sample_call(c, s, (kaena_dtype)type);
            cr_assert(c->all_data, "%s: %s", kop_row_of(s->op)->name, s->in);
            if (kop_eval(&c->call) != KAENA_OK) {
                fprintf(stderr, "%s(%s) of %s: %s\n", kop_row_of(s->op)->name, s->in,
                        kaena_dtype_name((kaena_dtype)type), c->err.what);
                n_bad++;
            }
            kaena_arena_fini(&c->arena);
            free(c);
        }
    }
    cr_assert_eq(n_bad, 0, "%u calls failed", n_bad);
}

/* No evaluation takes what the specification has for none of its versions. */
KTEST(ops_types, others_are_refused_by_name)
{
    ops_refuse(KOP_Add, "", "string[1] a ; string[1] a", 1, KAENA_UNIMPLEMENTED, "string");
    ops_refuse(KOP_And, "", "int32[1] 1 ; int32[1] 1", 1, KAENA_UNIMPLEMENTED, "int32");
    ops_refuse(KOP_Sqrt, "", "int32[1] 1", 1, KAENA_UNIMPLEMENTED, "int32");
    ops_refuse(KOP_StringConcat, "", "f32[1] 1 ; f32[1] 1", 1, KAENA_UNIMPLEMENTED, "float32");
}
