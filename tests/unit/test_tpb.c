/* One emulated TPB and groups of them: stepped = fused = every level = any number of threads, bit
 * for bit, and what must not be fused is not. */
#include <pthread.h>
#include <sched.h>
#include <string.h>

#include "ktest.h"
#include "tpbgen.h"

static tpb_run *run_of(kaena_arena *arena, const tpbgen *g, bool fuse, const tpbgen_memory *m,
                       tpb_code_stats *stats)
{
    const tpb_code *code[TPBGEN_MAX_TPBS];
    kaena_err err;
    for (uint32_t i = 0; i < g->n_tpbs; i++) {
        tpb_code *c;
        KTEST_OK(err, tpb_predecode(arena, &g->program[i], fuse, &c, &err));
        code[i] = c;
        tpb_code_stats s = tpb_code_stats_of(c);
        stats->operations += s.operations;
        stats->fused += s.fused;
        stats->matmuls += s.matmuls;
        stats->matmuls_fused += s.matmuls_fused;
    }
    tpb_run *run;
    KTEST_OK(err, tpb_run_create(code, m->bind, g->n_tpbs, &run, &err));
    return run;
}

/* Instruction by instruction, TPBs taking turns. */
static void step_to_end(tpb_run *run, uint32_t n_tpbs)
{
    bool halted[TPBGEN_MAX_TPBS] = {0};
    for (uint32_t left = n_tpbs; left > 0;)
        for (uint32_t i = 0; i < n_tpbs; i++) {
            tpb_step state;
            if (halted[i])
                continue;
            tpb_step_one(run, i, &state);
            halted[i] = state.halted;
            left -= state.halted;
        }
}

static void *helper(void *arg)
{
    tpb_help did;
    while ((did = tpb_run_help(arg, NULL)) != TPB_DONE)
        if (did == TPB_IDLE)
            sched_yield();
    return NULL;
}

static void run_with_threads(tpb_run *run, uint32_t threads)
{
    pthread_t t[8];
    tpb_run_reset_in_turn(run, &(tpb_order){.threads = threads});
    for (uint32_t i = 0; i < threads; i++)
        cr_assert(pthread_create(&t[i], NULL, helper, run) == 0);
    for (uint32_t i = 0; i < threads; i++)
        cr_assert(pthread_join(t[i], NULL) == 0);
}

/* |threads| are expected, this one comes: what it does not take on nobody does, so it may not be
 * told that there is nothing. */
static void run_forsaken(tpb_run *run, uint32_t threads)
{
    const _Atomic uint32_t wanting = 2;
    tpb_run_reset_in_turn(run, &(tpb_order){.threads = threads});
    tpb_help did;
    while ((did = tpb_run_help(run, &wanting)) != TPB_DONE)
        cr_assert(did == TPB_WORKED, "a TPB stands that can go on");
}

static void compare(uint64_t seed, uint32_t n_tpbs, uint32_t steps, bool large,
                    tpb_code_stats *stats)
{
    kaena_arena arena;
    kaena_arena_init(&arena, 0);
    tpbgen g;
    tpbgen_make(&g, &arena, seed, n_tpbs, steps, large);
    kaena_err err;
    KTEST_OK(err, kisa_verify(g.program, n_tpbs, &g.limits, &err));
    tpbgen_memory want;
    tpb_code_stats none = {0};
    tpbgen_memory_init(&want, &g, ker_table_of(large ? KER_AVX2 : KER_SCALAR));
    tpb_run *run = run_of(&arena, &g, false, &want, &none);
    cr_assert(none.fused == 0 && none.matmuls_fused == 0);
    step_to_end(run, n_tpbs);
    run = tpb_run_destroy(run);
    static const struct {
        bool fuse, forsaken;
        uint32_t threads;
    } ways[] = {{true, .threads = 1},
                {true, .threads = 2},
                {true, .threads = 4},
                {true, .forsaken = true, .threads = 4},
                {false, .threads = 1}};
    for (ker_level l = KER_SCALAR; l < KER_LEVEL_COUNT; l = (ker_level)(l + 1)) {
        if (!ker_level_supported(l) || (large && l == KER_SCALAR))
            continue;
        for (uint32_t v = 0; v < 5; v++) {
            const bool fuse = ways[v].fuse;
            tpbgen_memory got;
            tpb_code_stats s = {0};
            tpbgen_memory_init(&got, &g, ker_table_of(l));
            run = run_of(&arena, &g, fuse, &got, &s);
            if (ways[v].forsaken)
                run_forsaken(run, ways[v].threads);
            else if (ways[v].threads == 1)
                tpb_run_alone(run);
            else
                run_with_threads(run, ways[v].threads);
            run = tpb_run_destroy(run);
            cr_assert(tpbgen_memory_same(&want, &got, n_tpbs),
                      "seed %llu: %s, %s, %u threads: other bits", (unsigned long long)seed,
                      ker_level_name(l), fuse ? "fused" : "not fused", ways[v].threads);
            tpbgen_memory_fini(&got);
            if (v == 0 && l == KER_AVX2) {
                stats->operations += s.operations;
                stats->fused += s.fused;
                stats->matmuls += s.matmuls;
                stats->matmuls_fused += s.matmuls_fused;
            }
        }
    }
    tpbgen_memory_fini(&want);
    kaena_arena_fini(&arena);
}

KTEST(tpb, random_programs_small)
{
    tpb_code_stats s = {0};
    for (uint64_t seed = 1; seed <= 60; seed++)
        compare(seed, 1 + (uint32_t)(seed % 3), 12, false, &s);
    /* The programs are worth comparing: many products fuse, some may not. */
    cr_assert(s.matmuls_fused * 4 > s.matmuls && s.matmuls_fused < s.matmuls, "%u of %u fused",
              s.matmuls_fused, s.matmuls);
}

KTEST(tpb, random_programs_large)
{
    tpb_code_stats s = {0};
    for (uint64_t seed = 101; seed <= 112; seed++)
        compare(seed, 1 + (uint32_t)(seed % 3), 10, true, &s);
    cr_assert(s.matmuls_fused * 4 > s.matmuls && s.matmuls_fused < s.matmuls, "%u of %u fused",
              s.matmuls_fused, s.matmuls);
}
