/* Lowers a graph given as text and runs it on an emulated TPB group in-process: for tests of
 * lowering and scheduling. */
#ifndef KTEST_LOWER_GRAPH_H
#define KTEST_LOWER_GRAPH_H

#include <stdlib.h>
#include <string.h>

#include "graph.h"
#include "ktest.h"
#include "passes.h"
#include "schedule.h"
#include "tpb.h"

typedef struct lowered {
    kaena_arena arena;
    kcc_options opt;
    kgr_graph *graph;
    kcc_partition plan;
    kcc_weights *weights;
    kcc_module *module;
    kisa_program program[KISA_MAX_TPBS];
    uint64_t io_bytes[64];
} lowered;

/* Parses, infers, fuses if asked, puts all on the device, casts, lowers and verifies; every failure
 * fails the test. |inputs| keeps the graph before passes. */
static inline void lower_text(lowered *l, const char *text, kcc_cast cast, kcc_optimize optimize,
                              uint32_t tpbs, bool fuse)
{
    kaena_err err;
    kaena_arena_init(&l->arena, 0);
    l->opt =
        (kcc_options){.cast = cast, .optimize = optimize, .num_tpbs = tpbs, .must_compile = true};
    KTEST_OK(err, kgr_parse(&l->arena, text, strlen(text), &l->graph, &err));
    KTEST_OK(err, kcc_pass_infer(l->graph, &l->opt, &err));
    if (fuse) {
        KTEST_OK(err, kcc_pass_fold(l->graph, &l->opt, &err));
        KTEST_OK(err, kcc_pass_simplify(l->graph, &l->opt, &err));
        KTEST_OK(err, kcc_pass_fuse(l->graph, &l->opt, &err));
    }
    KTEST_OK(err, kcc_pass_partition(l->graph, &l->opt, kcc_lowerable, &err));
    KTEST_OK(err, kcc_pass_cast(l->graph, &l->opt, &err));
    kcc_partition_build(l->graph, &l->plan);
    cr_assert(l->plan.n_steps == 1 && l->plan.steps[0].on_device, "not one device step");
    const kcc_step *s = &l->plan.steps[0];
    l->weights = kcc_weights_create(&l->arena);
    l->module = kcc_module_create(&l->arena, &l->opt, l->graph, s->nodes, s->n_nodes, s->in,
                                  s->n_in, s->out, s->n_out, l->weights);
    KTEST_OK(err, kcc_layout(l->module, &err));
    KTEST_OK(err, kcc_place(l->module, &err));
    KTEST_OK(err, kcc_plan(l->module, &err));
    KTEST_OK(err, kcc_emit(l->module, &err));
    for (uint32_t t = 0; t < tpbs; t++)
        l->program[t] = (kisa_program){l->module->code[t].inst, l->module->code[t].n};
    uint32_t pieces;
    kisa_limits limits = {.sb_bytes = l->module->sb_bytes,
                          .scratch_bytes = l->module->scratch_bytes,
                          .n_io = l->module->n_io,
                          .io_bytes = l->io_bytes,
                          .io_written = l->module->io_written};
    (void)kcc_weights_pieces(l->weights, &pieces, &limits.weights_bytes);
    for (uint32_t i = 0; i < l->module->n_io; i++)
        l->io_bytes[i] =
            kop_elements(&l->module->io[i]->t) * kaena_dtype_size(l->module->io[i]->t.dtype);
    KTEST_OK(err, kisa_verify(l->program, tpbs, &limits, &err));
}

/* Runs what lower_text made; io as the module orders it. |threads| helpers are the caller's
 * business: this runs alone. */
static inline void run_lowered(lowered *l, uint8_t *const *io, bool fuse, ker_level level)
{
    kaena_err err;
    uint32_t n = l->module->n_tpbs, pieces;
    uint64_t bytes;
    const kcc_piece *piece = kcc_weights_pieces(l->weights, &pieces, &bytes);
    uint8_t *weights = aligned_alloc(64, (size_t)(bytes / 64 + 1) * 64),
            *scratch = aligned_alloc(64, (size_t)(l->module->scratch_bytes / 64 + 1) * 64);
    memset(weights, 0, (size_t)bytes);
    memset(scratch, 0xff,
           (size_t)l->module->scratch_bytes); /* NaNs: nothing may be read before it is written */
    for (uint32_t i = 0; i < pieces; i++)
        if (piece[i].size)
            memcpy(weights + piece[i].offset, piece[i].data, (size_t)piece[i].size);
    size_t sb_bytes = (size_t)(l->module->sb_bytes / 64 + 1) * 64;
    _Atomic uint32_t error = 0;
    tpb_bind *bind = calloc(n, sizeof *bind);
    const tpb_code **code = calloc(n, sizeof *code);
    for (uint32_t t = 0; t < n; t++) {
        tpb_code *c;
        KTEST_OK(err, tpb_predecode(&l->arena, &l->program[t], fuse, &c, &err));
        code[t] = c;
        bind[t] = (tpb_bind){.sb = aligned_alloc(64, sb_bytes),
                             .psum = aligned_alloc(64, KISA_PSUM_BYTES),
                             .weights = weights,
                             .scratch = scratch,
                             .io = io,
                             .ker = ker_table_of(level),
                             .error = &error};
        memset(bind[t].sb, 0xff, sb_bytes);
        memset(bind[t].psum, 0, KISA_PSUM_BYTES);
    }
    tpb_run *run;
    KTEST_OK(err, tpb_run_create(code, bind, n, &run, &err));
    tpb_run_alone(run);
    tpb_run_destroy(run);
    for (uint32_t t = 0; t < n; t++) {
        free(bind[t].sb);
        free(bind[t].psum);
    }
    free(bind);
    free(code);
    free(weights);
    free(scratch);
    cr_assert(error == 0, "an index was out of range");
}

#endif
