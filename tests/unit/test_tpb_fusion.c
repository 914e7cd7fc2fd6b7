/* What fuses and what must not: each condition of docs/tpb.md broken once, with the same bits. */
#include <string.h>

#include "ktest.h"
#include "tpbgen.h"

/* A K tile of 8, rows and drains of 8 rows by 16 columns. */
#define LOAD "LDW weights=WEIGHTS+64:bf16[1,1,4,32]<0,256,64,2> k=8\n"
#define TILE(row, accumulate)                                                                      \
    LOAD "MATMUL moving=SB+0:bf16[1,1,8,8]<0,0,16,2> psum_row=" row " accumulate=" accumulate "\n"
#define DRAIN(psum, dst)                                                                           \
    "ACT src=PSUM+" psum ":f32[1,1,8,16]<0,0,256,4> dst=SB+" dst                                   \
    ":bf16[1,1,8,16]<0,0,32,2> scale_all=1\n"
#define RUN(row, psum, dst) TILE(row, "0") TILE(row, "1") DRAIN(psum, dst)

typedef struct fusion_case {
    const char *what, *text;
    uint32_t operations, fused, matmuls_fused;
} fusion_case;

static const fusion_case cases[] = {
    {"a run", RUN("0", "0", "4096"), 1, 1, 2},
    {"runs that are independent are one operation",
     RUN("0", "0", "4096") RUN("0", "0", "8192") RUN("512", "131072", "12288"), 1, 1, 6},
    {"runs that depend on each other are not",
     RUN("0", "0", "4096") LOAD
     "MATMUL moving=SB+4096:bf16[1,1,8,8]<0,0,16,2> psum_row=0 accumulate=0\n" DRAIN("0", "8192"),
     2, 2, 3},
    {"a nest is one operation",
     "LOOP count=3\nLOOP count=2\n" LOAD
     "MATMUL moving=SB+0:bf16[1,1,8,8]<0,0,16,2>{0,128} psum_row=0 accumulate=0\n"
     "ACT src=PSUM+0:f32[1,1,8,16]<0,0,256,4> dst=SB+4096:bf16[1,1,8,16]<0,0,96,2>{32,768} "
     "scale_all=1\nEND\nEND\n",
     1, 1, 1},
    {"fewer columns than the tile has",
     TILE("0", "0") "ACT src=PSUM+0:f32[1,1,8,10]<0,0,256,4> "
                    "dst=SB+4096:bf16[1,1,8,10]<0,0,32,2> scale_all=1\n",
     1, 1, 1},
    {"a residual in place",
     TILE("0", "0") "ACT src=PSUM+0:f32[1,1,8,16]<0,0,256,4> "
                    "dst=SB+4096:bf16[1,1,8,16]<0,0,32,2> "
                    "residual=SB+4096:bf16[1,1,8,16]<0,0,32,2> scale_all=1\n",
     1, 1, 1},
    {"a destination beside its source in one table",
     LOAD "MATMUL moving=SB+0:bf16[1,1,8,8]<0,0,64,2> psum_row=0 accumulate=0\n"
          "ACT src=PSUM+0:f32[1,1,8,16]<0,0,256,4> dst=SB+16:bf16[1,1,8,16]<0,0,64,2> "
          "scale_all=1\n",
     1, 1, 1},
    /* (a) the tile is read again */
    {"(a) two ACTs drain a tile", RUN("0", "0", "4096") DRAIN("0", "8192"), 4, 0, 0},
    {"(a) a later ACT reads one row of a tile",
     RUN("0", "0", "4096") RUN("512", "131072", "12288") DRAIN("1792", "8192"), 5, 1, 2},
    {"(a) a later MATMUL accumulates on a tile",
     RUN("0", "0", "4096") TILE("7", "1") DRAIN("1792", "8192"), 5, 0, 0},
    {"(a) the next turn reads the tile before it is overwritten",
     "LOOP count=2\n" DRAIN("0", "8192") RUN("0", "0", "4096") "END\n", 4, 0, 0},
    {"(a) the run does not overwrite its tile", TILE("0", "1") DRAIN("0", "4096"), 2, 0, 0},
    {"(a) the run overwrites fewer rows than it accumulates on",
     LOAD "MATMUL moving=SB+0:bf16[1,1,4,8]<0,0,16,2> psum_row=0 accumulate=0\n" TILE("0", "1")
         DRAIN("0", "4096"),
     3, 0, 0},
    {"(a) the ACT reads columns the run has not written",
     TILE("0", "0") "ACT src=PSUM+0:f32[1,1,8,20]<0,0,256,4> "
                    "dst=SB+4096:bf16[1,1,8,20]<0,0,64,2> scale_all=1\n",
     2, 0, 0},
    {"(a) the ACT reads the bits of accumulators",
     TILE("0", "0") "ACT src=PSUM+0:i32[1,1,8,16]<0,0,256,4> "
                    "dst=SB+4096:bf16[1,1,8,16]<0,0,32,2> scale_all=1e-9\n",
     2, 0, 0},
    /* (b) the destination overlaps a source */
    {"(b) the destination overlaps moving rows", RUN("0", "0", "64"), 3, 0, 0},
    {"(b) the destination is the moving operand",
     "LDW weights=WEIGHTS+64:bf16[1,1,8,32]<0,512,64,2> k=16\n"
     "MATMUL moving=SB+0:bf16[1,1,8,16]<0,0,32,2> psum_row=0 accumulate=0\n" DRAIN("0", "0"),
     2, 0, 0},
    {"(b) the destination overlaps the moving rows of one tile",
     TILE("0", "0") LOAD
     "MATMUL moving=SB+4160:bf16[1,1,8,8]<0,0,16,2> psum_row=0 accumulate=1\n" DRAIN("0", "4096"),
     3, 0, 0},
    {"(b) the destination overlaps weights in SB",
     "LDW weights=SB+4096:bf16[1,1,4,32]<0,256,64,2> k=8\n"
     "MATMUL moving=SB+0:bf16[1,1,8,8]<0,0,16,2> psum_row=0 accumulate=0\n" DRAIN("0", "4128"),
     2, 0, 0},
    {"(b) the destination of a turn is the source of the next",
     "LOOP count=5\n" LOAD
     "MATMUL moving=SB+0:bf16[1,1,8,8]<0,0,16,2>{256} psum_row=0 accumulate=0\n"
     "ACT src=PSUM+0:f32[1,1,8,16]<0,0,256,4> dst=SB+256:bf16[1,1,8,16]<0,0,32,2>{256} "
     "scale_all=1\nEND\n",
     1, 1, 1},
    {"(b) turns write the same place",
     "LOOP count=5\n" LOAD
     "MATMUL moving=SB+0:bf16[1,1,8,8]<0,0,16,2>{128} psum_row=0 accumulate=0\n" DRAIN(
         "0", "4096") "END\n",
     1, 1, 1},
    /* (c) something stands inside the run */
    {"(c) a semaphore inside",
     TILE("0", "0") "SIGNAL mask=0x1 sem=0 amount=1\nWAIT sem=0 value=1\n" TILE("0", "1")
         DRAIN("0", "4096"),
     3, 0, 0},
    {"(c) a loop edge inside",
     TILE("0", "0") "LOOP count=3\n" TILE("0", "1") "END\n" DRAIN("0", "4096"), 3, 0, 0},
    {"(c) another tile is filled inside",
     TILE("0", "0") TILE("512", "0") TILE("0", "1") DRAIN("0", "4096"), 4, 0, 0},
    {"(c) another instruction inside",
     TILE("0", "0") "FILL dst=SB+64:bf16[1,1,1,8]<0,0,0,2> value=0x3f80\n" TILE("0", "1")
         DRAIN("0", "4096"),
     4, 0, 0},
    /* The stationary tile is a value. */
    {"weights in SB are overwritten before the MATMUL",
     "LDW weights=SB+4096:bf16[1,1,4,32]<0,256,64,2> k=8\n"
     "FILL dst=SB+4096:bf16[1,1,1,128]<0,0,0,2> value=0x3f80\n"
     "MATMUL moving=SB+0:bf16[1,1,8,8]<0,0,16,2> psum_row=0 accumulate=0\n" DRAIN("0", "8192"),
     3, 0, 0},
    {"a tile is used by two runs",
     TILE("0", "0") DRAIN("0", "4096") "MATMUL moving=SB+128:bf16[1,1,8,8]<0,0,16,2> psum_row=0 "
                                       "accumulate=0\n" DRAIN("0", "8192"),
     4, 0, 0},
};

static void execute(kaena_arena *arena, const tpbgen *g, bool fuse, tpbgen_memory *m,
                    tpb_code_stats *stats)
{
    tpb_code *code;
    kaena_err err;
    KTEST_OK(err, tpb_predecode(arena, &g->program[0], fuse, &code, &err));
    const tpb_code *codes[] = {code};
    tpb_run *run;
    KTEST_OK(err, tpb_run_create(codes, m->bind, 1, &run, &err));
    tpb_step state = {0};
    if (fuse)
        tpb_run_alone(run);
    else
        while (!state.halted)
            tpb_step_one(run, 0, &state);
    *stats = tpb_code_stats_of(code);
    tpb_run_destroy(run);
}

static void check(const fusion_case *c)
{
    kaena_arena arena;
    kaena_arena_init(&arena, 0);
    tpbgen g;
    kaena_err err;
    tpbgen_make(&g, &arena, 1, 1, 0, false);
    char *text = kaena_arena_printf(&arena, "%sHALT\n", c->text);
    KTEST_OK(err, kisa_assemble(&arena, text, &g.program[0], &err));
    KTEST_OK(err, kisa_verify(g.program, 1, &g.limits, &err));
    tpbgen_memory want, got;
    tpb_code_stats s;
    tpbgen_memory_init(&want, &g, ker_table_of(KER_SCALAR));
    execute(&arena, &g, false, &want, &s);
    for (ker_level l = KER_SCALAR; l < KER_LEVEL_COUNT; l = (ker_level)(l + 1)) {
        if (!ker_level_supported(l))
            continue;
        tpbgen_memory_init(&got, &g, ker_table_of(l));
        execute(&arena, &g, true, &got, &s);
        cr_assert(tpbgen_memory_same(&want, &got, 1), "%s: %s: other bits", c->what,
                  ker_level_name(l));
        tpbgen_memory_fini(&got);
        cr_assert(s.operations == c->operations && s.fused == c->fused &&
                      s.matmuls_fused == c->matmuls_fused,
                  "%s: %u operations, %u fused, %u of %u MATMULs", c->what, s.operations, s.fused,
                  s.matmuls_fused, s.matmuls);
    }
    tpbgen_memory_fini(&want);
    kaena_arena_fini(&arena);
}

KTEST(tpb_fusion, conditions)
{
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        check(&cases[i]);
}
