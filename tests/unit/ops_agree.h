/* Runs a call that may be nonsense, and holds evaluation to what inference said of it. */
#ifndef OPS_AGREE_H
#define OPS_AGREE_H

#include "ktest.h"
#include "ops.h"

/* xorshift64*: the seed is fixed and printed, a failure repeats. */
static uint64_t ops_random_state;

static inline void ops_random_begin(void)
{
    const char *seed = getenv("KAENA_TEST_SEED");
    ops_random_state = seed ? strtoull(seed, NULL, 0) : UINT64_C(0x9e3779b97f4a7c15);
    fprintf(stderr, "KAENA_TEST_SEED=%llu\n", (unsigned long long)ops_random_state);
}

static inline uint32_t ops_below(uint32_t n)
{
    ops_random_state ^= ops_random_state >> 12;
    ops_random_state ^= ops_random_state << 25;
    ops_random_state ^= ops_random_state >> 27;
    return (uint32_t)(ops_random_state * UINT64_C(2685821657736338717) >> 33) % n;
}

/* What inference promised of the outputs holds for what evaluation gave. */
static inline void ops_compare_promise(const kop_call *call, const kop_tensor *said,
                                       const kop_tensor *gave)
{
    const char *name = kop_row_of(call->op)->name;
    for (uint32_t i = 0; i < call->n_out; i++) {
        cr_assert_eq(said[i].form, gave[i].form, "%s: output %u: form", name, i);
        if (gave[i].form != KOP_FORM_TENSOR)
            continue;
        cr_assert(kaena_shape_known(&gave[i].shape) && !gave[i].unranked, "%s: output %u", name, i);
        cr_assert(gave[i].data != NULL || kop_elements(&gave[i]) == 0, "%s: output %u has no data",
                  name, i);
        cr_assert_eq(said[i].dtype, gave[i].dtype, "%s: output %u: type", name, i);
        if (said[i].unranked)
            continue;
        cr_assert_eq(said[i].shape.rank, gave[i].shape.rank, "%s: output %u: rank", name, i);
        for (int32_t d = 0; d < gave[i].shape.rank; d++)
            cr_assert(said[i].shape.dim[d] < 0 || said[i].shape.dim[d] == gave[i].shape.dim[d],
                      "%s: output %u: dimension %d", name, i, d);
    }
}

/* Infers and evaluates |call|, in |quota| bytes; true when that succeeds. Whatever happens has a
 * message and one of the statuses that bad operands may give. */
static inline bool ops_try(kop_call *call, size_t quota)
{
    const char *name = kop_row_of(call->op)->name;
    kaena_arena scratch;
    kop_tensor said[KOP_MAX_OUTPUTS];
    kaena_arena_init(&scratch, quota);
    kop_env env = {.arena = &scratch};
    call->env = NULL;
    kaena_err_init(call->err);
    kaena_status inferred = kop_infer(call);
    cr_assert(inferred == KAENA_OK || call->err->what[0], "%s failed without a message", name);
    memcpy(said, call->out, call->n_out * sizeof *said);
    call->env = &env;
    kaena_err_init(call->err);
    kaena_status status = kop_eval(call);
    if (status == KAENA_OK) {
        cr_assert(inferred == KAENA_OK, "%s evaluates what inference refuses", name);
        ops_compare_promise(call, said, call->out);
    } else {
        cr_assert(call->err->what[0], "%s failed without a message", name);
        cr_assert(status == KAENA_INVALID_ARGUMENT || status == KAENA_UNIMPLEMENTED ||
                      status == KAENA_OUT_OF_RANGE || status == KAENA_RESOURCE_EXHAUSTED,
                  "%s: %s", name, kaena_status_name(status));
    }
    kaena_arena_fini(&scratch);
    return status == KAENA_OK;
}

#endif
