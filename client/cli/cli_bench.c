/* bench: requests from several threads, and what they took. */
#include <jansson.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cli.h"

#define SEED 1u
#define DEFAULT_SECONDS 5

/* One request, in nanoseconds: as the client saw it, and as the daemon says. */
typedef struct sample {
    int64_t total, queue, execute;
} sample;

/* What all threads share. */
typedef struct bench {
    kaena_client *client;
    const kaena_model_info *model;
    kaena_model *handle; /* NULL: asked by name */
    size_t async;        /* requests that a thread has under way; 0: one, in a call */
    const cli_inputs *inputs;
    atomic_long left; /* requests to make; unused with a time limit */
    bool timed;
    int64_t end_ns;
    atomic_bool stop; /* a thread failed */
} bench;

typedef struct bench_thread {
    bench *shared;
    pthread_t thread;
    sample *samples;
    size_t count, capacity;
    kaena_status status;
    kaena_err err;
} bench_thread;

static int64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static bool add_sample(bench_thread *t, sample s)
{
    if (t->count == t->capacity) {
        size_t capacity = t->capacity ? 2 * t->capacity : 4096;
        sample *grown = realloc(t->samples, capacity * sizeof *grown);
        if (!grown)
            return false;
        t->samples = grown;
        t->capacity = capacity;
    }
    t->samples[t->count++] = s;
    return true;
}

static bool more(bench *b)
{
    if (atomic_load(&b->stop))
        return false;
    return b->timed ? now_ns() < b->end_ns : atomic_fetch_sub(&b->left, 1) > 0;
}

/* Buffers for the outputs of all requests of a thread: the first request allocates, the others
 * write there. */
static kaena_status request(const bench *b, kaena_tensor *outputs, sample *out, kaena_err *err)
{
    kaena_infer_call call = {.size = sizeof call,
                             .model = b->model->name,
                             .inputs = b->inputs->tensors,
                             .input_count = b->inputs->count,
                             .outputs = outputs,
                             .output_count = b->model->output_count};
    for (size_t i = 0; i < call.output_count; i++)
        if (outputs[i].dtype == KAENA_STRING)
            kaena_tensor_free(&outputs[i]);
    int64_t begin = now_ns();
    KAENA_TRY(b->handle ? kaena_model_infer(b->handle, &call, err)
                        : kaena_infer(b->client, &call, err));
    *out = (sample){now_ns() - begin, (int64_t)call.queue_ns, (int64_t)call.execute_ns};
    return KAENA_OK;
}

/* ---- Requests by handle ---- */

/* One of those under way. */
typedef struct slot {
    kaena_infer_call call;
    kaena_tensor *outputs;
    kaena_request *request; /* NULL: none */
    int64_t begin_ns;
    _Atomic int64_t end_ns;
} slot;

static void on_done(void *user, kaena_request *request)
{
    slot *s = user;
    (void)request;
    atomic_store(&s->end_ns, now_ns());
}

static kaena_status slot_begin(bench *b, slot *s, kaena_err *err)
{
    s->call = (kaena_infer_call){.size = sizeof s->call,
                                 .inputs = b->inputs->tensors,
                                 .input_count = b->inputs->count,
                                 .outputs = s->outputs,
                                 .output_count = b->model->output_count};
    for (size_t i = 0; i < s->call.output_count; i++)
        if (s->outputs[i].dtype == KAENA_STRING)
            kaena_tensor_free(&s->outputs[i]);
    s->begin_ns = now_ns();
    atomic_store(&s->end_ns, 0);
    return kaena_model_submit(b->handle, &s->call, on_done, s, &s->request, err);
}

/* Waits for the answer; the callback may come a moment after the request is done. */
static kaena_status slot_end(slot *s, sample *out, kaena_err *err)
{
    (void)kaena_request_wait(s->request, -1);
    kaena_status status = kaena_request_status(s->request, err);
    while (atomic_load(&s->end_ns) == 0)
        sched_yield();
    kaena_request_release(s->request);
    s->request = NULL;
    *out = (sample){atomic_load(&s->end_ns) - s->begin_ns, (int64_t)s->call.queue_ns,
                    (int64_t)s->call.execute_ns};
    return status;
}

static void run_slots(bench_thread *t, slot *slots)
{
    bench *b = t->shared;
    size_t under_way = 0;
    for (size_t i = 0; i < b->async && t->status == KAENA_OK && more(b); i++, under_way++)
        t->status = slot_begin(b, &slots[i], &t->err);
    for (size_t i = 0; under_way > 0; i = (i + 1) % b->async) {
        sample s;
        kaena_err err;
        if (!slots[i].request)
            continue;
        kaena_status status = slot_end(&slots[i], &s, &err);
        under_way--;
        if (status == KAENA_OK && !add_sample(t, s))
            status = KAENA_FAIL(&err, RESOURCE_EXHAUSTED, "out of memory");
        if (status == KAENA_OK && t->status == KAENA_OK && more(b)) {
            status = slot_begin(b, &slots[i], &err);
            under_way += status == KAENA_OK;
        }
        if (status != KAENA_OK && t->status == KAENA_OK) {
            t->status = status;
            t->err = err;
        }
    }
}

static void *async_main(void *user)
{
    bench_thread *t = user;
    bench *b = t->shared;
    slot *slots = calloc(b->async, sizeof *slots);
    bool good = slots != NULL;
    for (size_t i = 0; i < b->async && good; i++) {
        slots[i].outputs = calloc(b->model->output_count + 1, sizeof(kaena_tensor));
        good = slots[i].outputs != NULL;
    }
    if (good)
        run_slots(t, slots);
    else
        t->status = KAENA_FAIL(&t->err, RESOURCE_EXHAUSTED, "out of memory");
    if (t->status != KAENA_OK)
        atomic_store(&b->stop, true);
    for (size_t i = 0; slots && i < b->async && slots[i].outputs; i++) {
        for (size_t o = 0; o < b->model->output_count; o++)
            kaena_tensor_free(&slots[i].outputs[o]);
        free(slots[i].outputs);
    }
    free(slots);
    return NULL;
}

/* ---- Calls ---- */

static void *bench_main(void *user)
{
    bench_thread *t = user;
    bench *b = t->shared;
    kaena_tensor *outputs = calloc(b->model->output_count + 1, sizeof *outputs);
    sample s;
    t->status = outputs ? request(b, outputs, &s, &t->err)
                        : KAENA_FAIL(&t->err, RESOURCE_EXHAUSTED, "out of memory");
    while (t->status == KAENA_OK && more(b)) {
        t->status = request(b, outputs, &s, &t->err);
        if (t->status == KAENA_OK && !add_sample(t, s))
            t->status = KAENA_FAIL(&t->err, RESOURCE_EXHAUSTED, "out of memory");
    }
    if (t->status != KAENA_OK)
        atomic_store(&b->stop, true);
    for (size_t i = 0; outputs && i < b->model->output_count; i++)
        kaena_tensor_free(&outputs[i]);
    free(outputs);
    return NULL;
}

static int compare_i64(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

/* p50, p90, p99 and maximum in microseconds. */
typedef struct quantiles {
    double p50, p90, p99, most;
} quantiles;

static quantiles quantiles_of(int64_t *values, size_t n)
{
    qsort(values, n, sizeof *values, compare_i64);
    const double share[3] = {0.5, 0.9, 0.99};
    double at[3];
    for (size_t i = 0; i < 3; i++)
        at[i] = (double)values[(size_t)((double)(n - 1) * share[i] + 0.5)] / 1000;
    return (quantiles){at[0], at[1], at[2], (double)values[n - 1] / 1000};
}

static void print_quantiles(const char *title, quantiles q)
{
    printf("  %-22s %10.0f %10.0f %10.0f %10.0f\n", title, q.p50, q.p90, q.p99, q.most);
}

static json_t *quantiles_json(quantiles q)
{
    return json_pack("{s:f, s:f, s:f, s:f}", "p50", q.p50, "p90", q.p90, "p99", q.p99, "max",
                     q.most);
}

static int report(const bench *b, const bench_thread *threads, size_t thread_count, double seconds,
                  bool json)
{
    size_t n = 0;
    for (size_t i = 0; i < thread_count; i++)
        n += threads[i].count;
    int64_t *columns = calloc(3 * n + 1, sizeof *columns);
    if (!columns || n == 0) {
        free(columns);
        fprintf(stderr, "kaena-cli: no request was measured\n");
        return CLI_FAILED;
    }
    size_t at = 0;
    for (size_t i = 0; i < thread_count; i++)
        for (size_t s = 0; s < threads[i].count; s++, at++) {
            columns[at] = threads[i].samples[s].total;
            columns[n + at] = threads[i].samples[s].queue;
            columns[2 * n + at] = threads[i].samples[s].execute;
        }
    quantiles total = quantiles_of(columns, n);
    quantiles queue = quantiles_of(columns + n, n);
    quantiles execute = quantiles_of(columns + 2 * n, n);
    free(columns);
    double rate = (double)n / seconds;
    if (json) {
        json_t *root =
            json_pack("{s:s, s:I, s:I, s:f, s:f, s:o, s:o, s:o, s:f}", "model", b->model->name,
                      "requests", (json_int_t)n, "concurrency", (json_int_t)thread_count, "seconds",
                      seconds, "requests_per_s", rate, "latency_us", quantiles_json(total),
                      "queue_us", quantiles_json(queue), "execute_us", quantiles_json(execute),
                      "estimated_latency_us", b->model->estimated_latency_us);
        int bad = !root || json_dumpf(root, stdout, JSON_INDENT(2)) != 0;
        json_decref(root);
        printf("\n");
        return bad ? CLI_FAILED : CLI_OK;
    }
    printf("%s: %zu requests from %zu thread%s in %.2f s, %.1f a second\n", b->model->name, n,
           thread_count, thread_count == 1 ? "" : "s", seconds, rate);
    printf("  %-22s %10s %10s %10s %10s\n", "microseconds", "p50", "p90", "p99", "max");
    print_quantiles("request", total);
    print_quantiles("waited in the daemon", queue);
    print_quantiles("ran", execute);
    if (b->model->estimated_latency_us > 0)
        printf("  kcc's estimate for the hardware it emulates: %.0f\n",
               b->model->estimated_latency_us);
    return CLI_OK;
}

static int run_threads(bench *b, size_t thread_count, long seconds, bool json)
{
    bench_thread *threads = calloc(thread_count, sizeof *threads);
    if (!threads)
        return CLI_FAILED;
    int64_t begin = now_ns();
    b->end_ns = begin + (int64_t)seconds * 1000000000;
    size_t started = 0;
    for (; started < thread_count; started++) {
        threads[started].shared = b;
        if (pthread_create(&threads[started].thread, NULL, b->async ? async_main : bench_main,
                           &threads[started]) != 0)
            break;
    }
    if (started < thread_count) {
        fprintf(stderr, "kaena-cli: only %zu threads could be started\n", started);
        atomic_store(&b->stop, true);
    }
    int result = started < thread_count ? CLI_FAILED : CLI_OK;
    for (size_t i = 0; i < started; i++) {
        pthread_join(threads[i].thread, NULL);
        if (threads[i].status != KAENA_OK && result == CLI_OK)
            result = cli_fail(&threads[i].err);
    }
    if (result == CLI_OK)
        result = report(b, threads, thread_count, (double)(now_ns() - begin) / 1e9, json);
    for (size_t i = 0; i < started; i++)
        free(threads[i].samples);
    free(threads);
    return result;
}

/* The command line of bench. */
typedef struct bench_options {
    const char *model;
    char **inputs;
    size_t input_count;
    long requests, seconds, concurrency, async;
    bool json, shared_memory;
} bench_options;

/* Moves the inputs to where a local daemon reads them. */
static kaena_status share_inputs(kaena_client *client, cli_inputs *inputs, kaena_err *err)
{
    for (size_t i = 0; i < inputs->count; i++) {
        kaena_tensor *t = &inputs->tensors[i], shared = *t;
        if (t->kind != KAENA_TENSOR || t->dtype == KAENA_STRING)
            continue;
        KAENA_TRY(kaena_tensor_alloc(client, t->bytes, &shared, err));
        if (t->bytes)
            memcpy(shared.data, t->data, t->bytes);
        kaena_tensor_free(t);
        *t = shared;
    }
    return KAENA_OK;
}

static int bench_model(const bench_options *o)
{
    kaena_client *client = o->shared_memory ? cli_connect_sharing() : cli_connect();
    if (!client)
        return CLI_FAILED;
    kaena_model_info *model = NULL;
    kaena_model *handle = NULL;
    cli_inputs inputs = {0};
    kaena_err err;
    kaena_status status = kaena_model_info_get(client, o->model, &model, &err);
    if (status == KAENA_OK)
        status = o->input_count ? cli_inputs_read(model, o->inputs, o->input_count, &inputs, &err)
                                : cli_inputs_random(model, SEED, &inputs, &err);
    const kaena_load_options load = {.size = sizeof load, .name = o->model};
    if (status == KAENA_OK && (o->shared_memory || o->async))
        status = kaena_model_open(client, NULL, &load, &handle, &err);
    if (status == KAENA_OK && o->shared_memory)
        status = share_inputs(client, &inputs, &err);
    int result;
    if (status != KAENA_OK) {
        result = cli_fail(&err);
    } else {
        bench b = {.client = client,
                   .model = model,
                   .handle = handle,
                   .async = (size_t)o->async,
                   .inputs = &inputs,
                   .timed = o->requests == 0};
        atomic_init(&b.left, o->requests);
        result = run_threads(&b, (size_t)o->concurrency, o->seconds, o->json);
    }
    cli_inputs_fini(&inputs);
    kaena_model_info_free(model);
    kaena_model_close(handle);
    kaena_client_close(client);
    return result;
}

static int parse_options(const cli_command *self, int argc, char **argv, bench_options *o)
{
    static const struct option options[] = {
        {"model", required_argument, NULL, 'm'},
        {"requests", required_argument, NULL, 'r'},
        {"seconds", required_argument, NULL, 's'},
        {"concurrency", required_argument, NULL, 'c'},
        {"input", required_argument, NULL, 'i'},
        {"json", no_argument, NULL, 'j'},
        {"shared-memory", no_argument, NULL, 'S'},
        {"async", required_argument, NULL, 'a'},
        {0},
    };
    for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        bool good = true;
        switch (c) {
        case 'm':
            o->model = optarg;
            break;
        case 'r':
            good = cli_number(optarg, 1, &o->requests);
            break;
        case 's':
            good = cli_number(optarg, 1, &o->seconds);
            break;
        case 'c':
            good = cli_number(optarg, 1, &o->concurrency) && o->concurrency <= 1024;
            break;
        case 'i':
            o->inputs[o->input_count++] = optarg;
            break;
        case 'j':
            o->json = true;
            break;
        case 'S':
            o->shared_memory = true;
            break;
        case 'a':
            good = cli_number(optarg, 1, &o->async) && o->async <= 4096;
            break;
        default:
            return cli_misused(self, NULL);
        }
        if (!good)
            return cli_misused(self, "a number of requests, seconds, threads (at most 1024) or "
                                     "requests under way (at most "
                                     "4096) is above 0");
    }
    if (!o->model || optind != argc)
        return cli_misused(self, "needs --model");
    if (o->requests && o->seconds)
        return cli_misused(self, "takes --requests or --seconds, not both");
    if (!o->requests && !o->seconds)
        o->seconds = DEFAULT_SECONDS;
    return CLI_OK;
}

int cli_bench(const cli_command *self, int argc, char **argv)
{
    bench_options o = {.inputs = calloc((size_t)argc, sizeof(char *)), .concurrency = 1};
    if (!o.inputs)
        return CLI_FAILED;
    int result = parse_options(self, argc, argv, &o);
    if (result == CLI_OK)
        result = bench_model(&o);
    free(o.inputs);
    return result;
}
