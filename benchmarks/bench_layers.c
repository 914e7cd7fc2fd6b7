/* bench_layers F.neff [--rounds N]: where the time of a model on one TPB goes, one line per
 * operation.
 *
 *   us, GF/s and the share of the processor's BF16 peak for products; what it does
 *
 * Operations run one after the other on this thread, with the bits in memory that happen to be
 * there; a time is the median of the rounds. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "neff.h"
#include "peak.h"
#include "tpb_code.h"

#define OPCODES 64

typedef struct line {
    double *us; /* of each round */
    uint32_t runs;
    double *unit_us; /* of each unit alone, the least, everything in the caches */
} line;

static double now_us(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec * 1e-3;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double turns_of(const tpb_unit *u)
{
    double turns = 1;
    for (uint32_t l = u->fixed; l < u->depth; l++)
        turns *= u->turns[l];
    return turns;
}

static double k_of(const tpb_unit *u)
{
    double k = 0;
    for (uint32_t i = 0; i < u->n_tiles; i++)
        k += u->tile[i].k;
    return k;
}

static double flops_of(const tpb_op *op)
{
    double flops = 0;
    for (uint32_t i = 0; i < op->n_units; i++) {
        const tpb_unit *u = &op->unit[i];
        if (u->moving)
            flops += turns_of(u) * u->rows * u->weights->count[1] * 16 * k_of(u) * 2;
    }
    return flops;
}

static void describe(const kisa_operand *o, const char *role)
{
    if (o->space == KISA_NONE)
        return;
    (void)printf(" %s %s[", role, kaena_dtype_name((kaena_dtype)o->dtype));
    for (int i = 0; i < KISA_DIMS; i++)
        (void)printf("%s%u", i ? "," : "", o->count[i]);
    (void)printf("]/%d", (int)o->stride[3]);
}

static void print_op(const tpb_op *op, const double *unit_us)
{
    for (uint32_t i = 0; i < op->n_units; i++) {
        const tpb_unit *u = &op->unit[i];
        if (op->n_units > 1 && unit_us[i] < 1)
            continue;
        (void)printf("%s%s", op->n_units > 1 ? "\n                                     " : "",
                     kisa_op_find(u->inst->op)->name);
        if (u->moving)
            (void)printf(" of product %g x [%u,%u,%u] K=%g N=%u tiles=%u", turns_of(u),
                         u->moving->count[0], u->moving->count[1], u->moving->count[2], k_of(u),
                         u->weights->count[1] * 16, u->n_tiles);
        else
            (void)printf(" %g x", turns_of(u));
        kisa_operand *operand[8];
        kisa_access access[8];
        size_t n = kisa_operands((kisa_inst *)(uintptr_t)u->inst, operand, access);
        for (size_t k = 0; k < n; k++)
            if (!u->moving || access[k] == KISA_ACCESS_WRITE)
                describe(operand[k], access[k] == KISA_ACCESS_WRITE ? "->" : "");
        (void)printf(" {%u chunks}", u->n_chunks);
        if (op->n_units > 1)
            (void)printf(" %.2f us", unit_us[i]);
    }
}

static void time_units(const tpb_op *op, const tpb_bind *bind, const tpb_step *at, line *l)
{
    for (uint32_t i = 0; i < op->n_units; i++) {
        double start = now_us();
        for (uint32_t k = 0; k < op->unit[i].n_chunks; k++)
            tpb_unit_run(&op->unit[i], bind, at->turns, k, NULL);
        double us = now_us() - start;
        if (l->unit_us[i] == 0 || us < l->unit_us[i])
            l->unit_us[i] = us;
    }
}

/* Executes the program once, node by node. */
static void run_round(tpb_run *run, const tpb_code *code, const tpb_bind *bind, line *lines,
                      uint32_t round)
{
    tpb_run_reset(run);
    for (uint32_t i = 0; i < code->n; i++)
        lines[i].us[round] = 0;
    tpb_step at = {0};
    while (!at.halted) {
        uint32_t pc = at.pc;
        double start = now_us();
        tpb_step_one(run, 0, &at);
        lines[pc].us[round] += now_us() - start;
        lines[pc].runs += round == 0;
        if (code->node[pc].kind == TPB_NODE_OP && code->node[pc].op.n_units > 1)
            time_units(&code->node[pc].op, bind, &at, &lines[pc]);
        if (at.waiting) {
            (void)fprintf(stderr,
                          "bench_layers: the program waits for another TPB: compile for one\n");
            exit(1);
        }
    }
}

static void report(const tpb_code *code, line *lines, uint32_t rounds)
{
    double peak = peak_gflops(), total = 0, kinds[OPCODES] = {0}, products = 0;
    for (uint32_t i = 0; i < code->n; i++) {
        const tpb_node *node = &code->node[i];
        qsort(lines[i].us, rounds, sizeof(double), by_value);
        double us = lines[i].us[rounds / 2];
        total += us;
        if (node->kind != TPB_NODE_OP) {
            kinds[0] += us;
            continue;
        }
        double flops = flops_of(&node->op) * lines[i].runs;
        if (flops > 0) {
            products += us;
            (void)printf("%9.2f us %5.0f GF/s %5.1f%%  ", us, flops / us * 1e-3,
                         peak > 0 ? flops / us / peak * 0.1 : 0);
        } else {
            kinds[node->op.unit->inst->op] += us;
            (void)printf("%9.2f us                   ", us);
        }
        if (node->op.n_units > 1)
            (void)printf("%u at once, those of 1 us or more alone:", node->op.n_units);
        if (lines[i].runs != 1)
            (void)printf("%u times ", lines[i].runs);
        print_op(&node->op, lines[i].unit_us);
        (void)printf("\n");
    }
    (void)printf("%9.2f us in all: products %.1f%%", total, products / total * 100);
    for (uint32_t k = 1; k < OPCODES; k++)
        if (kinds[k] > 0)
            (void)printf(", %s %.1f%%", kisa_op_find((uint16_t)k)->name, kinds[k] / total * 100);
    (void)printf(", the rest %.1f%%; peak %.0f GF/s\n", kinds[0] / total * 100, peak);
}

int main(int argc, char **argv)
{
    uint32_t rounds = 51;
    const char *path = NULL;
    for (int i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "--rounds") && i + 1 < argc)
            rounds = (uint32_t)atoi(argv[++i]);
        else
            path = argv[i];
    }
    ker_level level;
    if (!path || rounds < 1 || !ker_level_detect(&level)) {
        (void)fprintf(stderr, "usage: bench_layers F.neff [--rounds N]\n");
        return 2;
    }
    kaena_err err;
    neff_file *file;
    if (neff_open(path, &file, &err) != KAENA_OK) {
        (void)fprintf(stderr, "bench_layers: %s\n", err.what);
        return 1;
    }
    const Kaena__V1__NeffMeta *meta = neff_meta(file);
    if (meta->num_tpbs != 1) {
        (void)fprintf(stderr, "bench_layers: '%s' is for %u TPBs, not one\n", path, meta->num_tpbs);
        return 1;
    }
    const Kaena__V1__NeffPlan *plan = meta->plan;
    uint64_t weight_bytes;
    _Atomic uint32_t error = 0;
    tpb_bind bind = {.sb = aligned_alloc(4096, KISA_SB_BYTES),
                     .psum = aligned_alloc(4096, KISA_PSUM_BYTES),
                     .weights = neff_weights(file, &weight_bytes),
                     .scratch = aligned_alloc(4096, (meta->scratch_bytes / 4096 + 1) * 4096),
                     .ker = ker_table_of(level),
                     .error = &error};
    memset(bind.sb, 0, KISA_SB_BYTES);
    memset(bind.psum, 0, KISA_PSUM_BYTES);
    memset(bind.scratch, 0, meta->scratch_bytes);
    kaena_arena arena;
    kaena_arena_init(&arena, 0);
    for (size_t s = 0; s < plan->n_steps; s++) {
        if (plan->steps[s]->kind_case != KAENA__V1__NEFF_STEP__KIND_DEVICE)
            continue;
        const Kaena__V1__NeffDeviceStep *step = plan->steps[s]->device;
        uint8_t **io = KAENA_NEW_N(&arena, uint8_t *, step->n_io + 1);
        for (size_t i = 0; i < step->n_io; i++)
            io[i] = kaena_arena_alloc(&arena, neff_value(file, step->io[i]).bytes);
        bind.io = io;
        kisa_program program = neff_program_at(file, 0, step->entries[0]);
        tpb_code *code;
        tpb_run *run;
        if (tpb_predecode(&arena, &program, true, &code, &err) != KAENA_OK ||
            tpb_run_create((const tpb_code *[]){code}, &bind, 1, &run, &err) != KAENA_OK) {
            (void)fprintf(stderr, "bench_layers: %s\n", err.what);
            return 1;
        }
        line *lines = KAENA_NEW_N(&arena, line, code->n);
        for (uint32_t i = 0; i < code->n; i++) {
            lines[i].us = KAENA_NEW_N(&arena, double, rounds);
            lines[i].unit_us = KAENA_NEW_N(&arena, double, code->node[i].op.n_units);
        }
        for (uint32_t r = 0; r < rounds; r++)
            run_round(run, code, &bind, lines, r);
        (void)printf("step %zu: %u instructions, %u operations\n", s, program.n, code->n);
        report(code, lines, rounds);
        run = tpb_run_destroy(run);
    }
    kaena_arena_fini(&arena);
    free(bind.sb);
    free(bind.psum);
    free(bind.scratch);
    neff_unref(file);
    return 0;
}
