/* bench_mm [NAME] [--threads N | --cpu-time] [--seconds S]: matrix products on an emulated TPB, one
 * line per layer of the table, then all convolutions of ResNet-50 one after the other.
 *
 *   NAME us=.. GF/s=.. share=..% of the peak measured in the same run (times the threads)
 *
 * --cpu-time counts the thread's processor time, for machines that are busy with other things.
 * Every layer is a program as the compiler writes it, executed by a team of threads; times are the
 * least of many executions. */
#include <immintrin.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "peak.h"
#include "tpb.h"

#define MAX_INSTRUCTIONS 65536
#define REGION (3u << 20) /* of SB: source, destination, residual */

static clockid_t time_of = CLOCK_MONOTONIC;

static double now_us(void)
{
    struct timespec t;
    clock_gettime(time_of, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec * 1e-3;
}

/* A convolution to |side| x |side| pixels; |times| it occurs in ResNet-50 (0: not part of it). */
typedef struct layer {
    const char *name;
    uint32_t side, in, out, kernel, stride, times;
    bool residual;
} layer;

static const layer layers[] = {
    {"conv7x7/2 3->64 @112", 112, 3, 64, 7, 2, 1, false},
    {"conv1x1 64->64 @56", 56, 64, 64, 1, 1, 1, false},
    {"conv1x1 256->64 @56", 56, 256, 64, 1, 1, 2, false},
    {"conv3x3 64->64 @56", 56, 64, 64, 3, 1, 3, false},
    {"conv1x1 64->256 @56", 56, 64, 256, 1, 1, 4, true},
    {"conv1x1 256->128 @56", 56, 256, 128, 1, 1, 1, false},
    {"conv3x3/2 128->128 @28", 28, 128, 128, 3, 2, 1, false},
    {"conv1x1 512->128 @28", 28, 512, 128, 1, 1, 3, false},
    {"conv3x3 128->128 @28", 28, 128, 128, 3, 1, 3, false},
    {"conv1x1 128->512 @28", 28, 128, 512, 1, 1, 4, true},
    {"conv1x1/2 256->512 @28", 28, 256, 512, 1, 2, 1, false},
    {"conv1x1 512->256 @28", 28, 512, 256, 1, 1, 1, false},
    {"conv3x3/2 256->256 @14", 14, 256, 256, 3, 2, 1, false},
    {"conv1x1 1024->256 @14", 14, 1024, 256, 1, 1, 5, false},
    {"conv3x3 256->256 @14", 14, 256, 256, 3, 1, 5, false},
    {"conv1x1 256->1024 @14", 14, 256, 1024, 1, 1, 6, true},
    {"conv1x1/2 512->1024 @14", 14, 512, 1024, 1, 2, 1, false},
    {"conv1x1 1024->512 @14", 14, 1024, 512, 1, 1, 1, false},
    {"conv3x3/2 512->512 @7", 7, 512, 512, 3, 2, 1, false},
    {"conv1x1 2048->512 @7", 7, 2048, 512, 1, 1, 2, false},
    {"conv3x3 512->512 @7", 7, 512, 512, 3, 1, 2, false},
    {"conv1x1 512->2048 @7", 7, 512, 2048, 1, 1, 3, true},
    {"conv1x1/2 1024->2048 @7", 7, 1024, 2048, 1, 2, 1, false},
    {"fc 2048->1000", 1, 2048, 1008, 1, 1, 1, false},
    {"matmul 128x768x3072", 0, 768, 3072, 1, 1, 0, false},
    {"matmul 504x1024x1024", 0, 1024, 1024, 1, 1, 0, false},
    {"gemv 4096->4096", 1, 4096, 4096, 1, 1, 0, false},
};

typedef struct program {
    kisa_inst *inst;
    uint32_t n;
    uint64_t weights; /* bytes taken so far */
    uint32_t side;    /* which region is the source */
} program;

static kisa_inst *add(program *p, kisa_op op)
{
    kisa_inst *inst = &p->inst[p->n++];
    memset(inst, 0, sizeof *inst);
    inst->op = (uint16_t)op;
    return inst;
}

static double flops_of(const layer *l)
{
    uint32_t rows = l->side ? l->side * l->side : l->in == 768 ? 128 : 504;
    return 2.0 * rows * l->in * l->out * l->kernel * l->kernel;
}

/* K tiles of one kernel row: |kernel| pixels of |in| channels lie one after the other. */
static void add_run(program *p, const layer *l, uint32_t rows, uint32_t wide, uint32_t panels,
                    uint64_t row0)
{
    uint32_t run = l->kernel * l->in, n_k = 0;
    int64_t pixel = l->in * 2, line = (int64_t)(wide * l->stride + l->kernel - 1) * pixel;
    uint64_t panel_rows = (uint64_t)l->kernel * ((run + 1) / 2), w_offset = 0;
    for (uint32_t ky = 0; ky < l->kernel; ky++)
        for (uint32_t at = 0; at < run; at += 128, n_k++) {
            uint32_t k = run - at < 128 ? run - at : 128;
            kisa_ldw *f = &add(p, KISA_LDW)->u.ldw;
            f->k = (uint16_t)k;
            f->weights = (kisa_operand){.space = KISA_WEIGHTS,
                                        .dtype = KAENA_BF16,
                                        .count = {1, panels, (k + 1) / 2, 32},
                                        .offset = p->weights + w_offset,
                                        .stride = {0, (int64_t)panel_rows * 64, 64, 2},
                                        .advance = {(int64_t)panel_rows * 64 * panels}};
            w_offset += (k + 1) / 2 * 64;
            kisa_matmul *m = &add(p, KISA_MATMUL)->u.matmul;
            m->accumulate = n_k > 0;
            m->moving = (kisa_operand){.space = KISA_SB,
                                       .dtype = KAENA_BF16,
                                       .count = {1, rows, wide, k},
                                       .offset = p->side * REGION +
                                                 (row0 * l->stride + ky) * (uint64_t)line + at * 2,
                                       .stride = {0, line * l->stride, pixel * l->stride, 2},
                                       .advance = {0, (int64_t)rows * l->stride * line}};
        }
    kisa_act *a = &add(p, KISA_ACT)->u.act;
    a->src = (kisa_operand){.space = KISA_PSUM,
                            .dtype = KAENA_F32,
                            .count = {1, rows, wide, panels * 16},
                            .stride = {0, (int64_t)wide * 256, 256, 4}};
    int64_t d_pixel = l->out * 2;
    a->dst = (kisa_operand){.space = KISA_SB,
                            .dtype = KAENA_BF16,
                            .count = {1, rows, wide, panels * 16},
                            .offset = !p->side * REGION + row0 * wide * (uint64_t)d_pixel,
                            .stride = {0, wide * d_pixel, d_pixel, 2},
                            .advance = {panels * 32, (int64_t)rows * wide * d_pixel}};
    if (l->residual) {
        a->residual = a->dst;
        a->residual.offset += (2 - !p->side) * REGION;
    }
    a->bias = (kisa_operand){.space = KISA_WEIGHTS,
                             .dtype = KAENA_F32,
                             .count = {1, 1, 1, panels * 16},
                             .stride = {0, 0, 0, 4},
                             .advance = {panels * 64}};
    a->scale_all = 1;
    a->func = KAENA_ACT_RELU;
}

static void add_layer(program *p, const layer *l)
{
    uint32_t wide = l->side, lines = l->side;
    if (!l->side) {
        wide = (uint32_t)(flops_of(l) / 2 / l->in / l->out);
        lines = 1;
    }
    uint32_t panels = l->out / 16, group = panels % 4 == 0 ? 4 : 3, block = 512 / wide;
    if (l->kernel == 1 && l->stride == 1) {
        /* Lines follow each other without a halo: longer blocks. */
        wide *= lines;
        lines = 1;
        block = 1;
        while (wide > 512) {
            uint32_t parts = 2;
            while (wide % parts || wide / parts > 512)
                parts++;
            lines *= parts;
            wide /= parts;
        }
    }
    if (block > lines)
        block = lines;
    add(p, KISA_LOOP)->u.loop.count = panels / group;
    add(p, KISA_LOOP)->u.loop.count = lines / block;
    add_run(p, l, block, wide, group, 0);
    add(p, KISA_END);
    if (lines % block)
        add_run(p, l, lines % block, wide, group, lines / block * block);
    add(p, KISA_END);
    uint64_t panel_rows = (uint64_t)l->kernel * ((l->kernel * l->in + 1) / 2);
    p->weights += panel_rows * 64 * panels;
    p->side = !p->side;
}

/* --- Execution ---------------------------------------------------------------------------------
 */

typedef struct team {
    tpb_run *_Atomic run;
    _Atomic bool stop;
} team;

static void *helper(void *arg)
{
    team *t = arg;
    while (!atomic_load_explicit(&t->stop, memory_order_acquire)) {
        tpb_run *run = atomic_load_explicit(&t->run, memory_order_acquire);
        if (!run || tpb_run_help(run, NULL) != TPB_WORKED)
            _mm_pause();
    }
    return NULL;
}

static double measure(const program *p, const tpb_bind *bind, uint32_t threads, double seconds)
{
    kaena_arena arena;
    kaena_arena_init(&arena, 0);
    tpb_code *code;
    tpb_run *run;
    kaena_err err;
    const kisa_program whole = {.inst = p->inst, .n = p->n};
    if (tpb_predecode(&arena, &whole, true, &code, &err) != KAENA_OK ||
        tpb_run_create((const tpb_code *[]){code}, bind, 1, &run, &err) != KAENA_OK) {
        fprintf(stderr, "bench_mm: %s\n", err.what);
        exit(1);
    }
    team t = {.run = NULL};
    pthread_t thread[8];
    atomic_store(&t.run, run);
    for (uint32_t i = 1; i < threads; i++)
        if (pthread_create(&thread[i], NULL, helper, &t) != 0)
            exit(1);
    double best = 1e30, end = now_us() + seconds * 1e6;
    for (int i = 0; i < 5 || now_us() < end; i++) {
        double start = now_us();
        tpb_run_reset_in_turn(run, &(tpb_order){.threads = threads});
        while (tpb_run_help(run, NULL) != TPB_DONE)
            _mm_pause();
        double took = now_us() - start;
        if (took < best)
            best = took;
    }
    atomic_store(&t.stop, true);
    for (uint32_t i = 1; i < threads; i++)
        pthread_join(thread[i], NULL);
    tpb_run_destroy(run);
    kaena_arena_fini(&arena);
    return best;
}

int main(int argc, char **argv)
{
    const char *only = "";
    uint32_t threads = 1;
    double seconds = 0.2;
    for (int i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "--threads") && i + 1 < argc)
            threads = (uint32_t)atoi(argv[++i]);
        else if (!strcmp(argv[i], "--seconds") && i + 1 < argc)
            seconds = atof(argv[++i]);
        else if (!strcmp(argv[i], "--cpu-time"))
            time_of = CLOCK_THREAD_CPUTIME_ID;
        else
            only = argv[i];
    }
    ker_level level;
    if (threads < 1 || threads > 8 || !ker_level_detect(&level)) {
        fprintf(stderr, "usage: bench_mm [NAME] [--threads 1..8 | --cpu-time] [--seconds S]\n");
        return 2;
    }
    double peak = peak_gflops();
    printf("level %s, peak %.0f GF/s a thread\n", ker_level_name(level), peak);
    size_t weight_bytes = 64u << 20;
    uint8_t *weights = aligned_alloc(4096, weight_bytes), *sb = aligned_alloc(4096, KISA_SB_BYTES);
    for (size_t i = 0; i < weight_bytes; i += 2)
        memcpy(weights + i, &(uint16_t){(uint16_t)(0x3c00 + i % 97)}, 2);
    for (size_t i = 0; i < KISA_SB_BYTES; i += 2)
        memcpy(sb + i, &(uint16_t){(uint16_t)(0x3c00 + i % 89)}, 2);
    uint8_t *psum = aligned_alloc(4096, KISA_PSUM_BYTES);
    _Atomic uint32_t error = 0;
    const tpb_bind bind = {
        .sb = sb, .psum = psum, .weights = weights, .ker = ker_table_of(level), .error = &error};
    program net = {.inst = malloc(MAX_INSTRUCTIONS * sizeof(kisa_inst))};
    program one = {.inst = malloc(MAX_INSTRUCTIONS * sizeof(kisa_inst))};
    double net_flops = 0, sum = 0;
    for (size_t i = 0; i < sizeof layers / sizeof *layers; i++) {
        const layer *l = &layers[i];
        one.n = one.side = 0;
        one.weights = 0;
        add_layer(&one, l);
        add(&one, KISA_HALT);
        for (uint32_t n = 0; n < l->times; n++)
            add_layer(&net, l);
        net_flops += l->times * flops_of(l);
        if (!strstr(l->name, only))
            continue;
        double us = measure(&one, &bind, threads, seconds);
        sum += us * l->times;
        double gflops = flops_of(l) / us * 1e-3;
        printf("%-26s us=%-8.1f GF/s=%-6.0f share=%.1f%%\n", l->name, us, gflops,
               peak > 0 ? gflops / peak / threads * 100 : 0);
    }
    if (!*only || strstr("resnet50", only)) {
        add(&net, KISA_HALT);
        double us = measure(&net, &bind, threads, seconds * 10);
        printf(
            "resnet50 products          us=%-8.1f GF/s=%-6.0f share=%.1f%% (layers alone: %.1f)\n",
            us, net_flops / us * 1e-3, peak > 0 ? net_flops / us * 1e-3 / peak / threads * 100 : 0,
            sum);
    }
    free(net.inst);
    free(one.inst);
    free(weights);
    free(sb);
    free(psum);
    return 0;
}
