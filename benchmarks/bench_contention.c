/* What others on the machine, and on other TPBs, cost an inference.
 *
 * bench_contention foreign F.neff        beside a busy process of somebody else's on one processor
 * bench_contention pair A.neff B.neff    two models at once, a thread each, in this process
 * bench_contention pipeline P.neff F.neff
 *                                        P's stages on their TPBs, as many inferences in flight as
 *                                        it takes, beside two copies of F; each in its own process
 *
 * --threads N, --rounds N, --seconds F of a turn. Conditions take turns, medians are compared.
 * benchmarks/contention makes the files and calls it; `serve F.neff COPIES` is a process of
 * pipeline: a turn for each line of the standard input. */
#include <getopt.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "dev.h"
#include "machine.h"
#include "neff.h"
#include "peak.h"
#include "side.h"

#define MAX_TENSORS 16
#define MAX_FLIGHT 64
#define MAX_SAMPLES 1000000
#define SETTLE_MS 200.0 /* at the start of a turn, not counted */

typedef struct settings {
    int threads, rounds;
    double seconds;
} settings;

typedef struct samples {
    double *value; /* [MAX_SAMPLES], reserved */
    size_t n;
} samples;

/* A loaded model and the buffers of its inferences. */
typedef struct loaded {
    const char *path;
    neff_file *file;
    dev_model *model;
    const void *in[MAX_TENSORS];
    void *out[MAX_TENSORS];
} loaded;

static double now_ms(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec * 1e-6;
}

static void sleep_ms(double ms)
{
    struct timespec t = {.tv_sec = (time_t)(ms / 1e3)};
    t.tv_nsec = (long)((ms - (double)t.tv_sec * 1e3) * 1e6);
    while (nanosleep(&t, &t) != 0)
        ;
}

static void die(const char *path, const kaena_err *err)
{
    (void)fprintf(stderr, "bench_contention: '%s': %s%s%s\n", path, err->what,
                  err->hint[0] ? "; " : "", err->hint);
    exit(1);
}

static void fail(const char *what)
{
    (void)fprintf(stderr, "bench_contention: %s\n", what);
    exit(1);
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double quantile(samples *s, double q)
{
    if (s->n == 0)
        fail("nothing was measured");
    qsort(s->value, s->n, sizeof *s->value, by_value);
    return s->value[(size_t)((double)(s->n - 1) * q)];
}

static void samples_init(samples *s)
{
    *s = (samples){.value = malloc(MAX_SAMPLES * sizeof *s->value)};
    if (!s->value)
        fail("no memory");
}

static void add_sample(samples *s, double value)
{
    if (s->n < MAX_SAMPLES)
        s->value[s->n++] = value;
}

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

/* --- Models
 * ----------------------------------------------------------------------------------------------------------------
 */

static dev_system *make_system(uint32_t n_tpbs, int workers)
{
    const dev_config config = {.n_chips = (n_tpbs + DEV_TPBS_PER_CHIP - 1) / DEV_TPBS_PER_CHIP,
                               .threads = (uint32_t)workers};
    dev_system *sys;
    kaena_err err;
    if (dev_system_create(&config, &sys, &err) != KAENA_OK)
        die("devices", &err);
    return sys;
}

static void *buffer(uint64_t bytes)
{
    void *data = aligned_alloc(64, (size_t)(bytes / 64 + 1) * 64);
    if (!data)
        fail("no memory");
    memset(data, 0, (size_t)bytes);
    return data;
}

static void make_outputs(const neff_file *file, void **out)
{
    for (uint32_t i = 0; i < neff_n_outputs(file); i++)
        out[i] = buffer(neff_output(file, i).bytes);
}

static void open_file(loaded *l, const char *path)
{
    kaena_err err;
    *l = (loaded){.path = path};
    if (neff_open(path, &l->file, &err) != KAENA_OK)
        die(path, &err);
    if (neff_n_inputs(l->file) > MAX_TENSORS || neff_n_outputs(l->file) > MAX_TENSORS)
        fail("more inputs or outputs than expected");
    for (uint32_t i = 0; i < neff_n_inputs(l->file); i++)
        l->in[i] = buffer(neff_input(l->file, i).bytes);
    make_outputs(l->file, l->out);
}

static void load(loaded *l, dev_system *sys)
{
    kaena_err err;
    if (dev_model_load(sys, base_name(l->path), l->file, &l->model, &err) != KAENA_OK)
        die(l->path, &err);
}

static void close_loaded(loaded *l)
{
    l->model = dev_model_unload(l->model);
    for (uint32_t i = 0; i < neff_n_inputs(l->file); i++)
        free((void *)(uintptr_t)l->in[i]);
    for (uint32_t i = 0; i < neff_n_outputs(l->file); i++)
        free(l->out[i]);
    neff_unref(l->file);
}

static void on_done(dev_request *request, kaena_status status, const kaena_err *err)
{
    (void)request;
    if (status != KAENA_OK)
        die("inference", err);
}

static void infer(loaded *l)
{
    dev_request request = {.in = l->in, .out = l->out, .done = on_done};
    if (!dev_run(l->model, &request))
        fail("the device did not take the request");
}

/* Inferences one after the other on this thread. */
static void take_turn(loaded *l, double seconds, samples *s)
{
    for (double end = now_ms() + SETTLE_MS; now_ms() < end;)
        infer(l);
    double last = now_ms(), end = last + seconds * 1e3;
    while (last < end) {
        infer(l);
        double t = now_ms();
        add_sample(s, t - last);
        last = t;
    }
}

/* --- foreign
 * ---------------------------------------------------------------------------------------------------------------
 */

/* A process that keeps the last of this one's processors busy while it is not stopped. It is
 * stopped. */
static pid_t start_foreign(int *processor)
{
    cpu_set_t mine, one;
    if (sched_getaffinity(0, sizeof mine, &mine) != 0)
        fail("which processors there are is not known");
    for (int c = 0; c < CPU_SETSIZE; c++)
        if (CPU_ISSET(c, &mine))
            *processor = c;
    CPU_ZERO(&one);
    CPU_SET(*processor, &one);
    pid_t parent = getpid(), pid = fork();
    if (pid < 0)
        fail("no process");
    if (pid == 0) {
        if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 || getppid() != parent ||
            sched_setaffinity(0, sizeof one, &one) != 0)
            _exit(1);
        (void)raise(SIGSTOP);
        for (volatile unsigned long n = 0;;)
            n = n + 1;
    }
    int status;
    if (waitpid(pid, &status, WUNTRACED) != pid || !WIFSTOPPED(status))
        fail("the busy process does not start");
    return pid;
}

static void measure_foreign(const settings *s, char **path)
{
    int processor = 0;
    pid_t foreign = start_foreign(&processor);
    loaded model;
    samples idle, busy;
    samples_init(&idle);
    samples_init(&busy);
    open_file(&model, path[0]);
    uint32_t n_tpbs = neff_meta(model.file)->num_tpbs;
    dev_system *sys = make_system(n_tpbs, s->threads - 1);
    load(&model, sys);
    for (int r = 0; r < s->rounds; r++) {
        take_turn(&model, s->seconds, &idle);
        (void)kill(foreign, SIGCONT);
        take_turn(&model, s->seconds, &busy);
        (void)kill(foreign, SIGSTOP);
    }
    (void)kill(foreign, SIGKILL);
    (void)waitpid(foreign, NULL, 0);
    double quiet = quantile(&idle, 0.5), quiet99 = quantile(&idle, 0.99);
    double median = quantile(&busy, 0.5), p99 = quantile(&busy, 0.99);
    (void)printf("foreign model=%s threads=%d tpbs=%u idle_ms=%.3f busy_ms=%.3f ratio=%.2f "
                 "asked=1.60 idle_p99_ms=%.3f busy_p99_ms=%.3f p99_ratio=%.2f asked=3.00\n",
                 base_name(path[0]), s->threads, n_tpbs, quiet, median, median / quiet, quiet99,
                 p99, p99 / quiet99);
    double processors = (double)sysconf(_SC_NPROCESSORS_ONLN);
    double left = processors - 0.5; /* of two on one processor each gets half */
    (void)printf("  a process that never sleeps on processor %d of %.0f; %zu and %zu inferences; "
                 "fair shares would make ratio=%.2f\n",
                 processor, processors, idle.n, busy.n, s->threads > left ? s->threads / left : 1);
    close_loaded(&model);
    sys = dev_system_destroy(sys);
    free(idle.value);
    free(busy.value);
}

/* --- pair
 * ------------------------------------------------------------------------------------------------------------------
 */

typedef struct player {
    loaded model;
    samples alone, both, *into;
    double seconds;
    pthread_barrier_t *start;
    double gflops;
} player;

static void *play(void *arg)
{
    player *p = arg;
    (void)pthread_barrier_wait(p->start);
    take_turn(&p->model, p->seconds, p->into);
    return NULL;
}

static void *play_peak(void *arg)
{
    player *p = arg;
    (void)pthread_barrier_wait(p->start);
    p->gflops = peak_gflops();
    return NULL;
}

/* |n| players at once. */
static void play_all(player *p, size_t n, void *(*what)(void *))
{
    pthread_barrier_t start;
    pthread_t thread[2];
    (void)pthread_barrier_init(&start, NULL, (unsigned)n);
    for (size_t i = 0; i < n; i++) {
        p[i].start = &start;
        p[i].into = n > 1 ? &p[i].both : &p[i].alone;
        if (pthread_create(&thread[i], NULL, what, &p[i]) != 0)
            fail("no thread");
    }
    for (size_t i = 0; i < n; i++)
        (void)pthread_join(thread[i], NULL);
    (void)pthread_barrier_destroy(&start);
}

static void measure_pair(const settings *s, char **path)
{
    static player p[2];
    dev_system *sys = make_system(2, 0); /* the callers compute */
    for (int i = 0; i < 2; i++) {
        samples_init(&p[i].alone);
        samples_init(&p[i].both);
        p[i].seconds = s->seconds;
        open_file(&p[i].model, path[i]);
        if (neff_meta(p[i].model.file)->num_tpbs != 1)
            fail("pair wants models for one TPB");
        load(&p[i].model, sys);
    }
    uint32_t n;
    const dev_place *at = dev_model_places(p[0].model.model, &n);
    const dev_place *other = dev_model_places(p[1].model.model, &n);
    if (at->chip == other->chip && at->tpb == other->tpb)
        fail("both models are on the same TPB");
    for (int r = 0; r < s->rounds; r++) {
        play_all(&p[0], 1, play);
        play_all(&p[1], 1, play);
        play_all(p, 2, play);
    }
    play_all(&p[0], 1, play_peak);
    double peak = p[0].gflops;
    play_all(p, 2, play_peak);
    for (int i = 0; i < 2; i++) {
        double alone = quantile(&p[i].alone, 0.5), both = quantile(&p[i].both, 0.5);
        (void)printf("pair model=%s beside=%s alone_ms=%.3f both_ms=%.3f ratio=%.3f asked=1.050 "
                     "alone_p99_ms=%.3f both_p99_ms=%.3f\n",
                     base_name(path[i]), base_name(path[1 - i]), alone, both, both / alone,
                     quantile(&p[i].alone, 0.99), quantile(&p[i].both, 0.99));
    }
    (void)printf("  limit of the machine: BF16 from registers %.0f GF/s on one thread, %.0f and "
                 "%.0f on two at once\n",
                 peak, p[0].gflops, p[1].gflops);
    for (int i = 0; i < 2; i++) {
        close_loaded(&p[i].model);
        free(p[i].alone.value);
        free(p[i].both.value);
    }
    sys = dev_system_destroy(sys);
}

/* --- pipeline
 * --------------------------------------------------------------------------------------------------------------
 */

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

/* What a turn's requests share. */
typedef struct flight {
    _Atomic uint64_t finished;
    atomic_bool over;
    sem_t landed; /* posted by each that does not start again */
} flight;

typedef struct passenger {
    dev_request request;
    dev_model *model;
    flight *flight;
    void *out[MAX_TENSORS];
} passenger;

static void depart(passenger *p)
{
    if (!dev_submit(p->model, &p->request))
        fail("the device did not take a request although a context was free");
}

static void on_landed(dev_request *request, kaena_status status, const kaena_err *err)
{
    passenger *p = request->user;
    if (status != KAENA_OK)
        die("inference", err);
    atomic_fetch_add(&p->flight->finished, 1);
    if (atomic_load(&p->flight->over))
        (void)sem_post(&p->flight->landed);
    else
        depart(p);
}

/* Copies of a model share the file, each has a TPB or a group of them, and as many requests in
 * flight as it takes. */
static int serve(const settings *s, const char *path, uint32_t copies)
{
    static passenger all[MAX_FLIGHT];
    static flight f;
    long before_kb = status_kb("VmRSS");
    uint32_t n = 0;
    loaded first;
    open_file(&first, path);
    dev_system *sys = make_system(neff_meta(first.file)->num_tpbs * copies, s->threads);
    (void)sem_init(&f.landed, 0, 0);
    for (uint32_t i = 0; i < copies; i++) {
        load(&first, sys); /* never unloaded: the process ends with them */
        for (uint32_t k = 0; k < dev_model_contexts(first.model) && n < MAX_FLIGHT; k++, n++) {
            passenger *p = &all[n];
            *p = (passenger){.model = first.model, .flight = &f};
            make_outputs(first.file, p->out);
            p->request = (dev_request){.in = first.in, .out = p->out, .done = on_landed, .user = p};
        }
    }
    for (char line[16]; fgets(line, sizeof line, stdin);) {
        atomic_store(&f.over, false);
        for (uint32_t i = 0; i < n; i++)
            depart(&all[i]);
        sleep_ms(SETTLE_MS);
        double start = now_ms();
        uint64_t finished = atomic_load(&f.finished);
        sleep_ms(s->seconds * 1e3);
        finished = atomic_load(&f.finished) - finished;
        double took = now_ms() - start;
        atomic_store(&f.over, true);
        for (uint32_t i = 0; i < n; i++)
            while (sem_wait(&f.landed) != 0)
                ;
        (void)printf("per_second=%.3f in_flight=%u rss_kb=%ld anon_kb=%ld before_kb=%ld\n",
                     (double)finished / took * 1e3, n, status_kb("VmRSS"), status_kb("RssAnon"),
                     before_kb);
        (void)fflush(stdout);
    }
    (void)fflush(NULL);
    _exit(0);
}

/* A process of its own, and what its turns gave. */
typedef struct server {
    bench_side *side;
    samples per_second;
    double rss_mb; /* with the program itself */
    double own_mb; /* what loading and inferences added */
    double anon_mb, in_flight;
} server;

static void start_server(server *v, const settings *s, const char *path, const char *copies)
{
    char threads[16], seconds[32];
    (void)snprintf(threads, sizeof threads, "%d", s->threads);
    (void)snprintf(seconds, sizeof seconds, "%g", s->seconds);
    v->side = side_open((const char *const[]){"/proc/self/exe", "serve", path, copies, "--threads",
                                              threads, "--seconds", seconds, NULL});
    samples_init(&v->per_second);
}

static void serve_turn(server *v)
{
    const char *line = side_turn(v->side);
    add_sample(&v->per_second, side_number(line, "per_second="));
    v->rss_mb = side_number(line, "rss_kb=") / 1024;
    v->own_mb = v->rss_mb - side_number(line, "before_kb=") / 1024;
    v->anon_mb = side_number(line, "anon_kb=") / 1024;
    v->in_flight = side_number(line, "in_flight=");
}

static void measure_pipeline(const settings *s, char **path)
{
    server pipeline = {0}, copies = {0}, one = {0};
    start_server(&pipeline, s, path[0], "1");
    start_server(&copies, s, path[1], "2");
    start_server(&one, s, path[1], "1");
    for (int r = 0; r < s->rounds; r++) {
        serve_turn(&pipeline);
        serve_turn(&copies);
        if (r == 0)
            serve_turn(&one);
    }
    double of_pipeline = quantile(&pipeline.per_second, 0.5);
    double of_copies = quantile(&copies.per_second, 0.5);
    (void)printf("pipeline model=%s threads=%d pipeline_per_s=%.2f copies_per_s=%.2f ratio=%.3f "
                 "asked=0.950 rss_mb=%.1f one_rss_mb=%.1f rss_ratio=%.2f asked=1.20\n",
                 base_name(path[0]), s->threads, of_pipeline, of_copies, of_pipeline / of_copies,
                 pipeline.rss_mb, one.rss_mb, pipeline.rss_mb / one.rss_mb);
    (void)printf("  in flight %.0f and %.0f; without the program itself %.1f MB, one copy %.1f MB, "
                 "two %.1f MB; not of files %.1f, %.1f, %.1f MB\n",
                 pipeline.in_flight, copies.in_flight, pipeline.own_mb, one.own_mb, copies.own_mb,
                 pipeline.anon_mb, one.anon_mb, copies.anon_mb);
    server *all[] = {&pipeline, &copies, &one};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        all[i]->side = side_close(all[i]->side);
        free(all[i]->per_second.value);
    }
}

typedef void part_fn(const settings *s, char **path);

static int measure(part_fn *part, const settings *s, char **path)
{
    machine_use before = machine_use_now();
    part(s, path);
    machine_print_others(before);
    return 0;
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        int n_files;
        part_fn *measure;
    } parts[] = {{"foreign", 1, measure_foreign},
                 {"pair", 2, measure_pair},
                 {"pipeline", 2, measure_pipeline}};
    static const struct option options[] = {{"threads", 1, NULL, 't'},
                                            {"rounds", 1, NULL, 'r'},
                                            {"seconds", 1, NULL, 's'},
                                            {NULL, 0, NULL, 0}};
    settings s = {.threads = 2, .rounds = 5, .seconds = 2};
    bool good = true;
    int c;
    while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (c == 't')
            s.threads = atoi(optarg);
        else if (c == 'r')
            s.rounds = atoi(optarg);
        else if (c == 's')
            s.seconds = atof(optarg);
        else
            good = false;
    }
    good = good && s.threads > 0 && s.rounds > 0 && s.seconds > 0;
    int n = argc - optind;
    if (good && n == 3 && strcmp(argv[optind], "serve") == 0 && atoi(argv[optind + 2]) > 0)
        return serve(&s, argv[optind + 1], (uint32_t)atoi(argv[optind + 2]));
    for (size_t i = 0; good && n > 0 && i < sizeof parts / sizeof *parts; i++)
        if (strcmp(argv[optind], parts[i].name) == 0 && n == 1 + parts[i].n_files)
            return measure(parts[i].measure, &s, argv + optind + 1);
    (void)fprintf(stderr, "usage: bench_contention {foreign F.neff | pair A.neff B.neff | pipeline "
                          "P.neff F.neff} [--threads N] [--rounds N] [--seconds F]\n");
    return 2;
}
