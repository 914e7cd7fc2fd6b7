/* Lowers a graph given as text and runs it on an emulated TPB group in-process: for tests of
 * lowering and scheduling. */
#ifndef KTEST_LOWER_GRAPH_H
#define KTEST_LOWER_GRAPH_H

#include <math.h>
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
        KTEST_OK(err, kcc_pass_quantise(l->graph, &l->opt, &err));
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

/* --- Graphs as cases --- */

/* A graph, and how far float32 on the device may be from the reference, as a part of the largest
 * value. */
typedef struct graph_case {
    const char *name, *text;
    double tolerance;
} graph_case;

/* Storage for what a graph takes and gives. */
typedef struct io_set {
    uint8_t *io[64];
} io_set;

static inline io_set make_io(const lowered *l)
{
    io_set s = {0};
    for (uint32_t i = 0; i < l->module->n_io; i++) {
        kop_tensor t = l->module->io[i]->t;
        size_t n = kop_elements(&t);
        s.io[i] = calloc(n + 1, kaena_dtype_size(t.dtype));
        t.data = s.io[i];
        for (size_t k = 0; k < n && !l->module->io_written[i]; k++)
            if (kaena_dtype_is_float(t.dtype))
                kop_set_float(&t, k, (double)((k * 2654435761u + i * 97u) % 2048) / 1024.0 - 1.0);
            else /* bytes of all values; indices and lengths that are small */
                kop_set_int(&t, k,
                            (int64_t)((k * 2654435761u + i * 97u) >> 7) %
                                (kaena_dtype_size(t.dtype) == 1 ? 256 : 4));
    }
    return s;
}

static inline void free_io(io_set *s)
{
    for (int i = 0; i < 64; i++)
        free(s->io[i]);
}

/* The reference evaluation of the text on the same inputs. */
static inline kop_tensor *reference(kaena_arena *arena, const char *text, const lowered *l,
                                    const io_set *io, uint32_t *n_out)
{
    kaena_err err;
    kgr_graph *g;
    KTEST_OK(err, kgr_parse(arena, text, strlen(text), &g, &err));
    KTEST_OK(err, kgr_infer(g, true, &err));
    kop_tensor *in = KAENA_NEW_N(arena, kop_tensor, g->n_inputs),
               *out = KAENA_NEW_N(arena, kop_tensor, g->n_outputs);
    const kcc_step *s = &l->plan.steps[0];
    for (uint32_t i = 0; i < g->n_inputs; i++) {
        in[i] = g->inputs[i]->t;
        for (uint32_t k = 0; k < s->n_in; k++)
            if (strcmp(s->in[k]->name, g->inputs[i]->name) == 0)
                in[i].data = io->io[k];
    }
    kop_env env = {.arena = arena};
    KTEST_OK(err, kgr_eval(g, in, out, &env, &err));
    /* In the order of the step's outputs. */
    kop_tensor *ordered = KAENA_NEW_N(arena, kop_tensor, s->n_out);
    for (uint32_t k = 0; k < s->n_out; k++)
        for (uint32_t i = 0; i < g->n_outputs; i++)
            if (strcmp(s->out[k]->name, g->outputs[i]->name) == 0)
                ordered[k] = out[i];
    *n_out = s->n_out;
    return ordered;
}

static inline void compare(const graph_case *c, const kop_tensor *want, const void *got,
                           double tolerance)
{
    kop_tensor have = {.dtype = want->dtype, .shape = want->shape};
    have.data = (void *)(uintptr_t)got;
    size_t n = kop_elements(want);
    double most = 0, worst = 0;
    for (size_t k = 0; k < n; k++) {
        double w = kop_get_float(want, k), e = fabs(w - kop_get_float(&have, k));
        most = fabs(w) > most ? fabs(w) : most;
        worst = e > worst || isnan(e) ? e : worst;
    }
    cr_assert(worst <= tolerance * most + 1e-6, "%s: error %g of %g", c->name, worst, most);
}

/* One TPB, float32, against the reference evaluation. */
static inline void check_against_reference(const graph_case *c)
{
    lowered l;
    lower_text(&l, c->text, KCC_CAST_NONE, KCC_OPTIMIZE_LATENCY, 1, true);
    io_set io = make_io(&l);
    run_lowered(&l, io.io, true, KER_SCALAR);
    uint32_t n_out;
    kop_tensor *want = reference(&l.arena, c->text, &l, &io, &n_out);
    for (uint32_t k = 0; k < n_out; k++)
        compare(c, &want[k], io.io[l.plan.steps[0].n_in + k], c->tolerance);
    free_io(&io);
    kaena_arena_fini(&l.arena);
}

/* The same bits with every cast mode's programs for |counts| TPBs, either schedule, fused and
 * stepped, on the lowest and the best level. */
static inline void check_bits(const graph_case *c, const uint32_t *counts, size_t n_counts)
{
    ker_level best = KER_SCALAR;
    cr_assert(ker_level_detect(&best));
    for (int cast = 0; cast < 3; cast++) {
        lowered base;
        lower_text(&base, c->text, (kcc_cast)cast, KCC_OPTIMIZE_LATENCY, 1, true);
        io_set want = make_io(&base);
        run_lowered(&base, want.io, false, KER_SCALAR);
        for (size_t n = 0; n < n_counts; n++)
            for (int opt = 0; opt < 2; opt++) {
                lowered l;
                lower_text(&l, c->text, (kcc_cast)cast, (kcc_optimize)opt, counts[n], true);
                io_set got = make_io(&l);
                run_lowered(&l, got.io, true, best);
                for (uint32_t k = 0; k < l.module->n_io; k++)
                    cr_assert(memcmp(got.io[k], want.io[k], (size_t)l.io_bytes[k]) == 0,
                              "%s: cast %d, %u TPBs, optimize %d differs", c->name, cast, counts[n],
                              opt);
                free_io(&got);
                kaena_arena_fini(&l.arena);
            }
        free_io(&want);
        kaena_arena_fini(&base.arena);
    }
}

#endif
