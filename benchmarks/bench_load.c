/* How long a model's load by path takes, what the first inference after it costs, and what memory
 * a daemon does not share with others that have the same artifact.
 *
 * bench_load --krtd ADDRESS [--memory-of PID] [--rounds N] --name N FILE.neff
 *
 * Without --memory-of: median load, first inference and steady inference over the rounds, each of
 * which loads, infers and unloads. With it: one load and one inference, and by how much the pages
 * of process PID grew that are its own. benchmarks/load starts the daemons and calls it. */
#include <getopt.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "kaena/client.h"

#define MAX_TENSORS 16
#define MAX_ROUNDS 99
#define STEADY 9 /* inferences per round after the first */

typedef struct loaded {
    kaena_client *client;
    kaena_model_info *model;
    kaena_tensor in[MAX_TENSORS], out[MAX_TENSORS];
} loaded;

static double now_ms(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec * 1e-6;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *v, size_t n)
{
    qsort(v, n, sizeof *v, by_value);
    return v[n / 2];
}

static void die(const kaena_err *err)
{
    (void)fprintf(stderr, "bench_load: %s%s%s\n", err->what, err->hint[0] ? "; " : "", err->hint);
    exit(1);
}

static void describe(kaena_tensor *list, const kaena_tensor_info *info, size_t n)
{
    if (n > MAX_TENSORS) {
        (void)fprintf(stderr, "bench_load: more than %d tensors\n", MAX_TENSORS);
        exit(1);
    }
    for (size_t i = 0; i < n; i++) {
        list[i] = (kaena_tensor){.name = info[i].name,
                                 .data = calloc(1, info[i].bytes + 1),
                                 .bytes = info[i].bytes,
                                 .rank = info[i].rank,
                                 .dtype = info[i].dtype};
        if (!list[i].data) {
            (void)fprintf(stderr, "bench_load: out of memory\n");
            exit(1);
        }
        memcpy(list[i].shape, info[i].shape, sizeof *info[i].shape * (size_t)info[i].rank);
    }
}

/* Returns how long the load took. */
static double load(loaded *l, const char *name, const char *path)
{
    kaena_err err;
    const kaena_load_options options = {.size = sizeof options, .by_path = 1, .name = name};
    double start = now_ms();
    if (kaena_model_load(l->client, path, &options, &l->model, &err) != KAENA_OK)
        die(&err);
    double took = now_ms() - start;
    describe(l->in, l->model->inputs, l->model->input_count);
    describe(l->out, l->model->outputs, l->model->output_count);
    return took;
}

static double infer(loaded *l)
{
    kaena_err err;
    kaena_infer_call call = {.size = sizeof call,
                             .model = l->model->name,
                             .inputs = l->in,
                             .input_count = l->model->input_count,
                             .outputs = l->out,
                             .output_count = l->model->output_count};
    double start = now_ms();
    if (kaena_infer(l->client, &call, &err) != KAENA_OK)
        die(&err);
    return now_ms() - start;
}

static void unload(loaded *l)
{
    kaena_err err;
    if (kaena_model_unload(l->client, l->model->name, &err) != KAENA_OK)
        die(&err);
    for (size_t i = 0; i < l->model->input_count; i++)
        free(l->in[i].data);
    for (size_t i = 0; i < l->model->output_count; i++)
        free(l->out[i].data);
    kaena_model_info_free(l->model);
}

static void time_loads(loaded *l, const char *name, const char *path, int rounds)
{
    double took[MAX_ROUNDS], first[MAX_ROUNDS], ratio[MAX_ROUNDS], steady[STEADY];
    double middle[MAX_ROUNDS];
    for (int r = 0; r < rounds; r++) {
        took[r] = load(l, name, path);
        first[r] = infer(l);
        for (int i = 0; i < STEADY; i++)
            steady[i] = infer(l);
        middle[r] = median(steady, STEADY);
        ratio[r] = first[r] / middle[r];
        unload(l);
    }
    size_t n = (size_t)rounds;
    (void)printf("load %s load_ms=%.1f first_infer_ms=%.2f steady_ms=%.2f first/steady=%.2f\n",
                 name, median(took, n), median(first, n), median(middle, n), median(ratio, n));
}

/* Private_Clean + Private_Dirty of a process. */
static unsigned long private_kb(const char *pid)
{
    char path[64], line[256];
    (void)snprintf(path, sizeof path, "/proc/%s/smaps_rollup", pid);
    FILE *f = fopen(path, "r");
    if (!f) {
        perror(path);
        exit(1);
    }
    unsigned long sum = 0, kb;
    while (fgets(line, sizeof line, f))
        if (sscanf(line, "Private_Clean: %lu", &kb) == 1 ||
            sscanf(line, "Private_Dirty: %lu", &kb) == 1)
            sum += kb;
    (void)fclose(f);
    return sum;
}

static void measure_memory(loaded *l, const char *name, const char *path, const char *pid)
{
    unsigned long before = private_kb(pid);
    (void)load(l, name, path);
    unsigned long after_load = private_kb(pid);
    (void)infer(l);
    unsigned long after = private_kb(pid);
    (void)printf("memory %s second_daemon_private_mb=%.1f (load %.1f, first inference %.1f)\n",
                 name, (double)(after - before) / 1024, (double)(after_load - before) / 1024,
                 (double)(after - after_load) / 1024);
    unload(l);
}

int main(int argc, char **argv)
{
    static const struct option known[] = {
        {"krtd", required_argument, NULL, 'k'},
        {"memory-of", required_argument, NULL, 'm'},
        {"rounds", required_argument, NULL, 'r'},
        {"name", required_argument, NULL, 'n'},
        {NULL, 0, NULL, 0},
    };
    const char *krtd = NULL, *pid = NULL, *name = NULL;
    int rounds = 7, o;
    bool usable = true;
    while ((o = getopt_long(argc, argv, "", known, NULL)) != -1)
        switch (o) {
        case 'k':
            krtd = optarg;
            break;
        case 'm':
            pid = optarg;
            break;
        case 'r':
            rounds = atoi(optarg);
            break;
        case 'n':
            name = optarg;
            break;
        default:
            usable = false;
        }
    if (!usable || !krtd || !name || optind + 1 != argc || rounds < 1 || rounds > MAX_ROUNDS) {
        (void)fprintf(stderr, "usage: bench_load --krtd ADDRESS [--memory-of PID] [--rounds 1..99] "
                              "--name N FILE.neff\n");
        return 2;
    }
    loaded l = {0};
    kaena_err err;
    const kaena_client_options options = {.size = sizeof options, .address = krtd};
    if (kaena_client_open(&options, &l.client, &err) != KAENA_OK)
        die(&err);
    if (pid)
        measure_memory(&l, name, argv[optind], pid);
    else
        time_loads(&l, name, argv[optind], rounds);
    kaena_client_close(l.client);
    return 0;
}
