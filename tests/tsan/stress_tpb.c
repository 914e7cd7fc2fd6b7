/* Many threads on groups of TPBs, executions one after the other while helpers still look around:
 * for ThreadSanitizer (meson setup -Db_sanitize=thread), and a plain test elsewhere. */
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tpbgen.h"

#define THREADS 4
#define EXECUTIONS 6
#define SEEDS 6

typedef struct team {
    tpb_run *run;
    _Atomic bool stop;
} team;

/* Half of them stay as long as they are not wanted elsewhere. */
static void *helper(void *arg)
{
    static _Atomic uint32_t helpers, wanting = 1;
    team *t = arg;
    bool stays = atomic_fetch_add(&helpers, 1) % 2;
    while (!atomic_load(&t->stop))
        if (tpb_run_help(t->run, stays ? &wanting : NULL) != TPB_WORKED)
            sched_yield();
    return NULL;
}

static bool make_run(kaena_arena *arena, const tpbgen *g, bool fuse, const tpbgen_memory *m,
                     tpb_run **out)
{
    const tpb_code *code[TPBGEN_MAX_TPBS];
    for (uint32_t i = 0; i < g->n_tpbs; i++) {
        tpb_code *c;
        if (tpb_predecode(arena, &g->program[i], fuse, &c, NULL) != KAENA_OK)
            return false;
        code[i] = c;
    }
    return tpb_run_create(code, m->bind, g->n_tpbs, out, NULL) == KAENA_OK;
}

/* Runs |n| times on one thread, or on all of them. */
static void execute(tpb_run *run, uint32_t n, bool threads)
{
    team t = {.run = run};
    pthread_t thread[THREADS];
    for (uint32_t i = 0; threads && i < THREADS; i++)
        if (pthread_create(&thread[i], NULL, helper, &t) != 0)
            abort();
    for (uint32_t i = 0; i < n; i++) {
        /* Late helpers may still cut the last execution's work into other shares. */
        if (i > 0)
            tpb_run_reset_in_turn(run, &(tpb_order){.threads = 1 + i % (THREADS + 1)});
        while (tpb_run_help(run, NULL) != TPB_DONE)
            sched_yield();
    }
    atomic_store(&t.stop, true);
    for (uint32_t i = 0; threads && i < THREADS; i++)
        pthread_join(thread[i], NULL);
}

static bool compare(uint64_t seed, const ker_table *ker)
{
    kaena_arena arena;
    kaena_arena_init(&arena, 0);
    tpbgen g;
    tpbgen_make(&g, &arena, seed, 1 + (uint32_t)(seed % TPBGEN_MAX_TPBS), 8, true);
    tpbgen_memory want, got;
    tpbgen_memory_init(&want, &g, ker);
    tpbgen_memory_init(&got, &g, ker);
    tpb_run *run;
    bool same = make_run(&arena, &g, false, &want, &run);
    if (same) {
        execute(run, EXECUTIONS, false);
        tpb_run_destroy(run);
        same = make_run(&arena, &g, true, &got, &run);
    }
    if (same) {
        execute(run, EXECUTIONS, true);
        tpb_run_destroy(run);
        same = tpbgen_memory_same(&want, &got, g.n_tpbs);
    }
    tpbgen_memory_fini(&want);
    tpbgen_memory_fini(&got);
    kaena_arena_fini(&arena);
    return same;
}

int main(void)
{
    ker_level level;
    if (!ker_level_detect(&level))
        return 1;
    for (uint64_t seed = 1001; seed < 1001 + SEEDS; seed++)
        if (!compare(seed, ker_table_of(level))) {
            fprintf(stderr, "seed %llu: other bits\n", (unsigned long long)seed);
            return 1;
        }
    return 0;
}
