/* One model, Kaena beside ONNX Runtime in one process: blocks of inferences take turns, medians are
 * compared. With --onednn the sum of the model's products as oneDNN's primitives takes turns too.
 *
 * bench_models --ort LIBONNXRUNTIME --onnx F --neff F --name N [--threads N] [--rounds N] [--krtd
 * ADDRESS] [--inputs DIR] [--onednn BENCH_DNNL --products LIST]
 *
 * benchmarks/models makes the files and calls it. */
#include <getopt.h>
#include <math.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "dev.h"
#include "kaena/client.h"
#include "neff.h"
#include "ort.h"
#include "side.h"

#define MAX_TENSORS 16
#define MAX_SAMPLES 100000
#define QUICK_NS 50000 /* a model that takes less runs without workers: krtd's rule */

typedef struct settings {
    const char *ort, *onnx, *neff, *name, *krtd;
    const char *inputs;            /* directory of K.bin, or NULL: random numbers */
    const char *onednn, *products; /* NULL: not compared with */
    int threads, rounds;
    bool alone;
} settings;

/* Kaena's side: the model loaded in this process, or in a daemon. */
typedef struct kaena_side {
    neff_file *file;
    dev_system *sys;
    dev_model *model;
    kaena_client *client;
    const char *name;
    const void *in[MAX_TENSORS];
    void *out[MAX_TENSORS];
    kaena_tensor in_tensor[MAX_TENSORS], out_tensor[MAX_TENSORS];
    uint32_t n_in, n_out;
    bool quick;
} kaena_side;

static double now_ms(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec * 1e-6;
}

static void die(const kaena_err *err)
{
    (void)fprintf(stderr, "benchmark: %s%s%s\n", err->what, err->hint[0] ? "; " : "", err->hint);
    exit(1);
}

static void on_done(dev_request *request, kaena_status status, const kaena_err *err)
{
    if (status != KAENA_OK)
        die(err);
    atomic_store((atomic_bool *)request->user, true);
}

static void kaena_run(kaena_side *k)
{
    if (k->client) {
        kaena_err err;
        kaena_infer_call call = {.size = sizeof call,
                                 .model = k->name,
                                 .inputs = k->in_tensor,
                                 .input_count = k->n_in,
                                 .outputs = k->out_tensor,
                                 .output_count = k->n_out};
        if (kaena_infer(k->client, &call, &err) != KAENA_OK)
            die(&err);
        return;
    }
    atomic_bool done = false;
    dev_request request = {
        .in = k->in, .out = k->out, .done = on_done, .user = &done, .alone = k->quick};
    /* The calling thread computes, as ONNX Runtime's does. */
    if (!dev_run(k->model, &request)) {
        (void)fprintf(stderr, "benchmark: the device did not take the request\n");
        exit(1);
    }
    while (!atomic_load(&done)) /* it was quick the last time, but has been left to workers now */
        (void)sched_yield();
    k->quick = request.finished_ns - request.started_ns < QUICK_NS;
}

static void describe(kaena_tensor *t, neff_tensor from, void *data)
{
    *t = (kaena_tensor){.name = from.name,
                        .data = data,
                        .bytes = from.bytes,
                        .rank = from.shape.rank,
                        .dtype = from.dtype};
    memcpy(t->shape, from.shape.dim, sizeof from.shape.dim[0] * (size_t)from.shape.rank);
}

/* Loads; returns how long the load itself took. */
static double kaena_open(kaena_side *k, const settings *s, void *const *data)
{
    kaena_err err;
    double start = now_ms();
    if (neff_open(s->neff, &k->file, &err) != KAENA_OK)
        die(&err);
    k->name = s->name;
    if (s->krtd) {
        const kaena_client_options options = {.size = sizeof options, .address = s->krtd};
        const kaena_load_options load = {.size = sizeof load, .by_path = 1, .name = s->name};
        if (kaena_client_open(&options, &k->client, &err) != KAENA_OK)
            die(&err);
        start = now_ms();
        if (kaena_model_load(k->client, s->neff, &load, NULL, &err) != KAENA_OK)
            die(&err);
    } else {
        const dev_config config = {
            .n_chips = (neff_meta(k->file)->num_tpbs + DEV_TPBS_PER_CHIP - 1) / DEV_TPBS_PER_CHIP,
            .threads = (uint32_t)s->threads - 1};
        if (dev_system_create(&config, &k->sys, &err) != KAENA_OK ||
            dev_model_load(k->sys, s->name, k->file, &k->model, &err) != KAENA_OK)
            die(&err);
    }
    double took = now_ms() - start;
    k->n_in = neff_n_inputs(k->file);
    k->n_out = neff_n_outputs(k->file);
    for (uint32_t i = 0; i < k->n_in; i++) {
        k->in[i] = data[i];
        describe(&k->in_tensor[i], neff_input(k->file, i), data[i]);
    }
    for (uint32_t i = 0; i < k->n_out; i++) {
        neff_tensor t = neff_output(k->file, i);
        k->out[i] = aligned_alloc(64, (size_t)(t.bytes / 64 + 1) * 64);
        memset(k->out[i], 0, (size_t)t.bytes);
        describe(&k->out_tensor[i], t, k->out[i]);
    }
    return took;
}

static void kaena_close(kaena_side *k)
{
    kaena_err err;
    if (k->client) {
        (void)kaena_model_unload(k->client, k->name, &err);
        kaena_client_close(k->client);
    }
    dev_model_unload(k->model);
    if (k->sys)
        dev_system_destroy(k->sys);
    neff_unref(k->file);
    for (uint32_t i = 0; i < k->n_out; i++)
        free(k->out[i]);
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

typedef struct samples {
    double ms[MAX_SAMPLES];
    int n;
} samples;

static double quantile(samples *s, double q)
{
    qsort(s->ms, (size_t)s->n, sizeof *s->ms, by_value);
    return s->ms[(int)((s->n - 1) * q)];
}

#define BLOCK_MS 150.0 /* one side's turn */
#define SETTLE_RUNS                                                                                \
    2 /* at the start of a turn, not counted: the other side's threads go to sleep, caches fill */

/* Takes a turn of one side. */
static void take_turn(samples *s, void (*run)(void *), void *side)
{
    for (int i = 0; i < SETTLE_RUNS; i++)
        run(side);
    double start = now_ms(), last = start;
    int counted = 0;
    while ((last - start < BLOCK_MS || counted < 3) && s->n < MAX_SAMPLES) {
        run(side);
        double t = now_ms();
        s->ms[s->n++] = t - last;
        last = t;
        counted++;
    }
}

static void run_kaena(void *side)
{
    kaena_run(side);
}

static void run_ort(void *side)
{
    ort_run(side);
}

static long status_kb(const char *key)
{
    FILE *f = fopen("/proc/self/status", "re");
    char line[256];
    long kb = 0;
    while (f && fgets(line, sizeof line, f))
        if (strncmp(line, key, strlen(key)) == 0)
            kb = atol(line + strlen(key) + 1);
    if (f)
        (void)fclose(f);
    return kb;
}

/* Load time, first inference and memory of Kaena alone: what this program does with --alone. */
static int measure_alone(const settings *s)
{
    void *data[MAX_TENSORS];
    kaena_err err;
    neff_file *file;
    if (neff_open(s->neff, &file, &err) != KAENA_OK)
        die(&err);
    for (uint32_t i = 0; i < neff_n_inputs(file) && i < MAX_TENSORS; i++) {
        size_t bytes = (size_t)neff_input(file, i).bytes;
        data[i] = aligned_alloc(64, (bytes / 64 + 1) * 64);
        memset(data[i], 0, bytes); /* whoever sends something has written it before */
    }
    neff_unref(file);
    static kaena_side k;
    long before = status_kb("VmRSS");
    double load = kaena_open(&k, s, data), start = now_ms();
    kaena_run(&k);
    double first = now_ms() - start;
    kaena_run(&k);
    (void)printf("  load %.1f ms, first inference %.2f ms, RSS %ld MB (%ld MB of it pages of the "
                 "file; %ld MB before the load)\n",
                 load, first, status_kb("VmRSS") / 1024, status_kb("RssFile") / 1024,
                 before / 1024);
    return 0;
}

/* In a process of its own, which has never seen ONNX Runtime. */
static void run_alone(char **argv)
{
    char *alone[32];
    size_t n = 0;
    while (argv[n] && n < 30) {
        alone[n] = argv[n];
        n++;
    }
    alone[n++] = "--alone";
    alone[n] = NULL;
    (void)fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) {
        (void)execv("/proc/self/exe", alone);
        _exit(127);
    }
    (void)waitpid(pid, NULL, 0);
}

static double cosine(const float *a, const float *b, size_t n)
{
    double ab = 0, aa = 0, bb = 0;
    for (size_t i = 0; i < n; i++) {
        ab += (double)a[i] * (double)b[i];
        aa += (double)a[i] * (double)a[i];
        bb += (double)b[i] * (double)b[i];
    }
    return aa > 0 && bb > 0 ? ab / sqrt(aa * bb) : 0;
}

static void fill_random(float *v, size_t n)
{
    uint64_t s = 88172645463325252u;
    for (size_t i = 0; i < n; i++) {
        s ^= s << 13;
        s ^= s >> 7;
        s ^= s << 17;
        v[i] = (float)((double)(s >> 40) / (double)(1 << 23) - 1.0);
    }
}

static void fill_from(const char *dir, size_t k, void *data, size_t bytes)
{
    char path[4096];
    (void)snprintf(path, sizeof path, "%s/%zu.bin", dir, k);
    FILE *f = fopen(path, "re");
    if (!f || fread(data, 1, bytes, f) != bytes || fgetc(f) != EOF) {
        (void)fprintf(stderr, "benchmark: '%s' does not have the %zu bytes of the input\n", path,
                      bytes);
        exit(1);
    }
    (void)fclose(f);
}

/* Both sides read the same buffers, of the shapes that the NEFF was compiled for: |data| in its
 * order. */
static void make_inputs(const settings *s, ort_session *ort, void **data)
{
    neff_file *file;
    kaena_err err;
    size_t n;
    ort_input *in = ort_inputs(ort, &n);
    if (neff_open(s->neff, &file, &err) != KAENA_OK)
        die(&err);
    bool same = neff_n_inputs(file) == n && n <= MAX_TENSORS && neff_n_outputs(file) <= MAX_TENSORS;
    for (size_t i = 0; same && i < n; i++) {
        uint32_t k = 0;
        while (k < n && strcmp(neff_input(file, k).name, in[i].name) != 0)
            k++;
        same = k < n;
        if (!same)
            break;
        neff_tensor t = neff_input(file, k);
        data[k] = ort_set_input(ort, i, t.shape.dim, t.shape.rank);
        same = t.bytes == in[i].bytes;
        if (s->inputs)
            fill_from(s->inputs, i, data[k], in[i].bytes);
        else if (t.dtype == KAENA_F32)
            fill_random(data[k], in[i].bytes / sizeof(float));
    }
    neff_unref(file);
    if (!same) {
        (void)fprintf(stderr, "benchmark: the two models do not have the same inputs\n");
        exit(1);
    }
}

static bool parse(int argc, char **argv, settings *s)
{
    static const struct option options[] = {
        {"ort", 1, NULL, 'o'},    {"onnx", 1, NULL, 'm'},     {"neff", 1, NULL, 'n'},
        {"name", 1, NULL, 'N'},   {"krtd", 1, NULL, 'k'},     {"threads", 1, NULL, 't'},
        {"rounds", 1, NULL, 'r'}, {"inputs", 1, NULL, 'i'},   {"alone", 0, NULL, 'a'},
        {"onednn", 1, NULL, 'd'}, {"products", 1, NULL, 'p'}, {NULL, 0, NULL, 0}};
    int c;
    while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
        switch (c) {
        case 'o':
            s->ort = optarg;
            break;
        case 'm':
            s->onnx = optarg;
            break;
        case 'n':
            s->neff = optarg;
            break;
        case 'N':
            s->name = optarg;
            break;
        case 'k':
            s->krtd = optarg;
            break;
        case 'a':
            s->alone = true;
            break;
        case 'i':
            s->inputs = optarg;
            break;
        case 'd':
            s->onednn = optarg;
            break;
        case 'p':
            s->products = optarg;
            break;
        case 't':
            s->threads = atoi(optarg);
            break;
        case 'r':
            s->rounds = atoi(optarg);
            break;
        default:
            return false;
        }
    }
    return s->ort && s->onnx && s->neff && s->name && s->threads > 0 && s->rounds > 0 &&
           !s->onednn == !s->products;
}

/* Before this process has files and threads of its own. */
static bench_side *start_onednn(const settings *s)
{
    char threads[16];
    (void)snprintf(threads, sizeof threads, "%d", s->threads);
    (void)setenv("OMP_NUM_THREADS", threads, 1);
    return side_open(
        (const char *const[]){s->onednn, s->products, "--name", s->name, "--follow", NULL});
}

int main(int argc, char **argv)
{
    settings s = {.threads = 1, .rounds = 10};
    if (!parse(argc, argv, &s)) {
        (void)fprintf(stderr,
                      "usage: bench_models --ort LIB --onnx F --neff F --name N [--threads "
                      "N] [--rounds N] [--krtd ADDRESS] [--inputs DIR] [--onednn BENCH_DNNL "
                      "--products LIST]\n");
        return 2;
    }
    if (s.alone)
        return measure_alone(&s);
    static samples ours, theirs;
    void *data[MAX_TENSORS];
    bench_side *onednn = s.onednn ? start_onednn(&s) : NULL;
    const char *of_onednn = "";
    ort_session *ort = ort_open(s.ort, s.onnx, s.threads);
    make_inputs(&s, ort, data);
    kaena_side k = {0};
    (void)kaena_open(&k, &s, data);
    kaena_run(&k);
    ort_run(ort);
    size_t elements;
    const float *expected = ort_output(ort, 0, &elements);
    double same = cosine(expected, k.out[0], elements);
    for (int r = 0; r < s.rounds; r++) {
        take_turn(&ours, run_kaena, &k);
        take_turn(&theirs, run_ort, ort);
        if (onednn)
            of_onednn = side_turn(onednn);
    }
    double our_ms = quantile(&ours, 0.5), their_ms = quantile(&theirs, 0.5);
    (void)printf("%s threads=%d ours_ms=%.3f ort_ms=%.3f ratio=%.2f\n", s.name, s.threads, our_ms,
                 their_ms, their_ms / our_ms);
    (void)printf("  p99 ours %.3f ms, ort %.3f ms; %s; cosine of the first output %.5f\n",
                 quantile(&ours, 0.99), quantile(&theirs, 0.99),
                 s.krtd ? "through krtd" : "in-process", same);
    if (onednn) {
        double ms = side_number(of_onednn, "onednn_ms=");
        (void)printf("%s", of_onednn);
        if (ms > 0)
            (void)printf(" ours/onednn=%.2f", our_ms / ms);
        (void)printf("\n");
    }
    onednn = side_close(onednn);
    kaena_close(&k);
    ort_close(ort);
    if (!s.krtd)
        run_alone(argv);
    return same > 0.95 ? 0 : 1;
}
