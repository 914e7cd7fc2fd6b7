/* The bits of a model do not depend on how it is run: compiles it for several numbers of TPBs, in
 * parts and as a pipeline, and compares the outputs of stepped and fused execution, of every ISA
 * level of this processor, and of one and two threads.
 *
 *     bits [--all] MODEL...
 *     MODEL   an ONNX file (seeded inputs), or a directory with model.onnx and test_data_set_0
 *     --all   large models too; they are otherwise refused
 *
 * Prints a line per model and cast mode; the exit code is 1 when any bit differs. How much is
 * compared goes by the model's arithmetic: see |efforts|. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "compile.h"
#include "conformance.h"
#include "neff.h"
#include "neff_run.h"
#include "onnx_import.h"

/* What is compared of models with at most |flops|. */
typedef struct effort {
    const char *name;
    double flops;
    ker_level lowest; /* level of all configurations */
    ker_level base;   /* level of the first one, which the others are compared with */
    bool stepped, all_tpbs, pipeline;
} effort;

static const effort efforts[] = {
    {"small", 2e7, KER_SCALAR, KER_SCALAR, true, true, true},
    {"medium", 2e9, KER_AVX2, KER_SCALAR, true, true, true},
    {"large", INFINITY, KER_AVX512, KER_AVX512, false, false, false},
};
#define LARGE (&efforts[sizeof efforts / sizeof *efforts - 1])

typedef struct configuration {
    uint32_t tpbs;
    kcc_optimize optimize;
    bool large; /* of large models too */
} configuration;

static const configuration configurations[] = {
    {1, KCC_OPTIMIZE_LATENCY, true},      {4, KCC_OPTIMIZE_LATENCY, true},
    {2, KCC_OPTIMIZE_LATENCY, false},     {16, KCC_OPTIMIZE_LATENCY, false},
    {2, KCC_OPTIMIZE_THROUGHPUT, false},  {4, KCC_OPTIMIZE_THROUGHPUT, false},
    {16, KCC_OPTIMIZE_THROUGHPUT, false},
};

static const struct cast_mode {
    const char *name;
    kcc_cast cast;
} casts[] = {{"none", KCC_CAST_NONE}, {"all", KCC_CAST_ALL}};

/* One model in one cast mode. */
typedef struct subject {
    const char *path;
    bool is_case; /* a directory */
    const struct cast_mode *cast;
    const effort *effort; /* NULL until the first compilation says how much work it is */
    double flops;
    kaena_arena kept; /* inputs and what all outputs have to be */
    const kop_tensor *in;
    kop_tensor *want;
    uint32_t n_out, runs, differences;
} subject;

static double now(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* --- Compiling ------------------------------------------------------------------------------- */

/* Uniform in [-1, 1], or 0 and 1. */
static const kop_tensor *seeded_inputs(kaena_arena *arena, const kgr_graph *g)
{
    kop_tensor *in = KAENA_NEW_N(arena, kop_tensor, g->n_inputs);
    uint64_t s = 88172645463325252u;
    for (uint32_t i = 0; i < g->n_inputs; i++) {
        in[i] = g->inputs[i]->t;
        size_t n = kop_elements(&in[i]);
        in[i].data = kaena_arena_array(arena, n, kaena_dtype_size(in[i].dtype));
        for (size_t k = 0; k < n; k++) {
            s ^= s << 13;
            s ^= s >> 7;
            s ^= s << 17;
            if (kaena_dtype_is_float(in[i].dtype))
                kop_set_float(&in[i], k, (double)(s >> 40) / (double)(1 << 23) - 1.0);
            else
                kop_set_int(&in[i], k, (int64_t)(s >> 33 & 1));
        }
    }
    return in;
}

static kaena_status import(subject *s, kaena_arena *arena, kgr_graph **g, kcc_import_info *info,
                           kaena_err *err)
{
    if (!s->is_case) {
        KAENA_TRY(kcc_import_onnx(arena, s->path, NULL, g, info, err));
        if (!s->in)
            s->in = seeded_inputs(&s->kept, *g);
        return KAENA_OK;
    }
    /* Its tensors stay until the subject goes. */
    conf_set *set = KAENA_NEW(&s->kept, conf_set);
    KAENA_TRY(conf_onnx_set(&s->kept, s->path, 0, set, err));
    KAENA_TRY(conf_onnx_import(arena, s->path, set, g, err));
    info->framework = "ONNX";
    if (!s->in)
        s->in = set->in;
    return KAENA_OK;
}

static kaena_status compile(subject *s, const configuration *at, const char *path, kaena_err *err)
{
    kaena_arena arena;
    kaena_arena_init(&arena, 0);
    kcc_compilation c = {
        .model = s->path,
        .output = path,
        .opt = {.cast = s->cast->cast, .optimize = at->optimize, .num_tpbs = at->tpbs},
        .arena = &arena};
    kaena_status status = import(s, &arena, &c.graph, &c.info, err);
    if (status == KAENA_OK)
        status = kcc_compile(&c, "write", err);
    kaena_arena_fini(&arena);
    return status;
}

static double flops_of(const neff_file *file)
{
    const Kaena__V1__NeffMeta *meta = neff_meta(file);
    double sum = 0;
    for (size_t i = 0; i < meta->n_layers; i++)
        sum += meta->layers[i]->flops;
    return sum;
}

/* --- Comparing ------------------------------------------------------------------------------- */

static bool same_element(const kop_tensor *a, const kop_tensor *b, size_t i, size_t size)
{
    if (memcmp((const char *)a->data + i * size, (const char *)b->data + i * size, size) == 0)
        return true;
    return kaena_dtype_is_float(a->dtype) && isnan(kop_get_float(a, i)) &&
           isnan(kop_get_float(b, i));
}

/* The first element in which they differ; their number where they do not. */
static size_t first_difference(const kop_tensor *a, const kop_tensor *b)
{
    size_t n = kop_elements(a), size = kaena_dtype_size(a->dtype);
    if (!kaena_shape_equal(&a->shape, &b->shape) || a->dtype != b->dtype)
        return 0;
    for (size_t i = 0; i < n; i++)
        if (!same_element(a, b, i, size))
            return i;
    return n;
}

static void compare(subject *s, const configuration *at, const neff_way *way, const kop_tensor *got)
{
    for (uint32_t i = 0; i < s->n_out; i++) {
        size_t k = first_difference(&s->want[i], &got[i]), n = kop_elements(&s->want[i]);
        if (k == n && kop_elements(&got[i]) == n)
            continue;
        s->differences++;
        printf("%s cast %s, %u TPBs %s, %s, %s, %u threads: output %u element %zu of %zu: %.9g, "
               "not %.9g\n",
               s->path, s->cast->name, at->tpbs,
               at->optimize == KCC_OPTIMIZE_LATENCY ? "in parts" : "as a pipeline",
               ker_level_name(way->level), way->stepped ? "stepped" : "fused", way->threads, i, k,
               n, kop_get_float(&got[i], k), kop_get_float(&s->want[i], k));
        return;
    }
}

static kaena_status run_way(subject *s, const configuration *at, const neff_file *file,
                            const neff_way *way, kaena_err *err)
{
    kaena_arena arena, *home = s->want ? &arena : &s->kept;
    kaena_arena_init(&arena, 0);
    kop_tensor *got = KAENA_NEW_N(home, kop_tensor, s->n_out);
    kaena_status status = neff_run(home, file, way, s->in, got, err);
    s->runs++;
    if (status == KAENA_OK) {
        if (s->want)
            compare(s, at, way, got);
        else
            s->want = got;
    }
    kaena_arena_fini(&arena);
    return status;
}

/* All ways of one artifact. Memory holds other rubbish at first than it does for what is compared
 * with, so that nothing can come from there. */
static kaena_status run_ways(subject *s, const configuration *at, const neff_file *file,
                             kaena_err *err)
{
    const effort *e = s->effort;
    if (!s->want) {
        const neff_way base = {
            .level = e->base, .stepped = e->stepped, .threads = 1, .rubbish = 0xff};
        KAENA_TRY(run_way(s, at, file, &base, err));
    }
    for (ker_level l = e->lowest; l < KER_LEVEL_COUNT; l = (ker_level)(l + 1)) {
        if (!ker_level_supported(l))
            continue;
        for (uint32_t threads = e->stepped ? 0 : 1; threads <= 2; threads++) {
            const neff_way way = {.level = l,
                                  .stepped = threads == 0,
                                  .threads = threads ? threads : 1,
                                  .rubbish = 0x3c};
            KAENA_TRY(run_way(s, at, file, &way, err));
        }
    }
    return KAENA_OK;
}

/* --- Models ---------------------------------------------------------------------------------- */

static kaena_status run_configuration(subject *s, const configuration *at, const char *path,
                                      bool all, kaena_err *err)
{
    neff_file *file;
    KAENA_TRY(compile(s, at, path, err));
    KAENA_TRY(neff_open(path, &file, err));
    kaena_status status = KAENA_OK;
    if (!s->effort) {
        s->flops = flops_of(file);
        s->n_out = neff_n_outputs(file);
        for (s->effort = efforts; s->flops > s->effort->flops; s->effort++)
            ;
        if (s->effort == LARGE && !all)
            status = KAENA_FAIL(err, FAILED_PRECONDITION, "%.1f GFLOP: give --all", s->flops / 1e9);
        if (s->effort == LARGE && !ker_level_supported(LARGE->base))
            status =
                KAENA_FAIL(err, FAILED_PRECONDITION, "large models take a processor with AVX-512");
    }
    if (status == KAENA_OK)
        status = run_ways(s, at, file, err);
    neff_unref(file);
    return status;
}

static kaena_status run_configurations(subject *s, bool all, kaena_err *err)
{
    char path[] = "/tmp/kaena-bits-XXXXXX";
    int fd = mkstemp(path);
    if (fd < 0)
        return KAENA_FAIL(err, RESOURCE_EXHAUSTED, "no temporary file in /tmp");
    (void)close(fd);
    kaena_status status = KAENA_OK;
    for (size_t i = 0; i < sizeof configurations / sizeof *configurations; i++) {
        const configuration *at = &configurations[i];
        if (s->effort == LARGE && !at->large)
            continue;
        status = run_configuration(s, at, path, all, err);
        if (status != KAENA_OK)
            break;
    }
    (void)unlink(path);
    return status;
}

/* True when all its bits agree. */
static bool run_model(const char *path, const struct cast_mode *cast, bool all)
{
    struct stat st;
    subject s = {.path = path, .cast = cast};
    kaena_err err;
    double start = now();
    kaena_err_init(&err);
    kaena_arena_init(&s.kept, 0);
    s.is_case = stat(path, &st) == 0 && S_ISDIR(st.st_mode);
    kaena_status status = run_configurations(&s, all, &err);
    const char *name = strrchr(path, '/');
    name = name && name[1] ? name + 1 : path;
    if (status != KAENA_OK)
        printf("%-24s %-5s %s: %s\n", name, cast->name, kaena_status_name(status), err.what);
    else
        printf("%-24s %-5s %-6s %9.1f MFLOP %4u runs %3u differ %6.1f s\n", name, cast->name,
               s.effort->name, s.flops / 1e6, s.runs, s.differences, now() - start);
    (void)fflush(stdout);
    kaena_arena_fini(&s.kept);
    return status == KAENA_OK && s.differences == 0;
}

int main(int argc, char **argv)
{
    bool all = false, good = true;
    int n_models = 0;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--all") == 0) {
            all = true;
            continue;
        }
        n_models++;
        for (size_t k = 0; k < sizeof casts / sizeof *casts; k++)
            good &= run_model(argv[i], &casts[k], all);
    }
    if (n_models == 0) {
        (void)fprintf(stderr, "usage: bits [--all] MODEL...\n");
        return 2;
    }
    return good ? 0 : 1;
}
