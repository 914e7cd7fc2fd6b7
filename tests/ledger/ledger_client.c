/* A client that keeps book of its requests: the traffic of test_ledger.py.
 *
 * ledger_client --address LIST --ledger FILE [--threads N] MODEL:ELEMENTS:CONSTANT...
 *
 * A MODEL takes x and gives y = x + CONSTANT, float32[ELEMENTS], or of any length up to ELEMENTS
 * where these begin with "-". What x holds follows from the request's number, so that an answer to
 * another request, of another model, or to half of a request is not taken for the right one. Every
 * request is a line in FILE before it is sent and a second one when it has ended; lines are whole
 * whatever happens to the process:
 *
 *     B <number> <model>
 *     E <number> OK | WRONG <where> | <status> <reason> <text>
 *
 * Runs until SIGTERM, then ends what it has begun. */
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kaena/client.h"

#define MAX_MODELS 16
#define MAX_THREADS 16
#define LINE 900
#define TIMEOUT_MS 20000
#define SPAN 1021 /* values of x; they and their sums with a constant are exact */

typedef struct model {
    const char *name;
    size_t elements;
    bool any; /* takes fewer, too */
    int constant;
} model;

static model models[MAX_MODELS];
static size_t n_models;
static int ledger = -1;
static kaena_client *client;
static _Atomic uint64_t next_number = 1;
static _Atomic bool stop;

static void die(const char *what)
{
    (void)fprintf(stderr, "ledger_client: %s\n", what);
    exit(2);
}

/* One write to a file that is only appended to: never half a line, never in another. */
__attribute__((format(printf, 1, 2))) static void book(const char *format, ...)
{
    char line[LINE];
    va_list ap;
    va_start(ap, format);
    int n = vsnprintf(line, sizeof line - 1, format, ap);
    va_end(ap);
    if (n < 0)
        die("a line cannot be made");
    size_t size = (size_t)n < sizeof line - 2 ? (size_t)n : sizeof line - 2;
    for (size_t i = 0; i < size; i++)
        line[i] = line[i] == '\n' ? ' ' : line[i];
    line[size++] = '\n';
    if (write(ledger, line, size) != (ssize_t)size)
        die("the ledger cannot be written");
}

static float value(uint64_t number, size_t i)
{
    return (float)((number * 7919 + i * 31) % SPAN);
}

/* The first wrong element; |n|: none is. */
static size_t first_wrong(const model *m, uint64_t number, const float *y, size_t n)
{
    size_t i = 0;
    while (i < n && y[i] == value(number, i) + (float)m->constant)
        i++;
    return i;
}

static void end_of(uint64_t number, const model *m, const kaena_tensor *y, size_t n,
                   kaena_status status, const kaena_err *err)
{
    if (status != KAENA_OK) {
        book("E %" PRIu64 " %s %d %s", number, kaena_status_name(status), (int)err->reason,
             err->what);
        return;
    }
    if (y->rank != 1 || y->shape[0] != (int64_t)n || y->bytes != n * sizeof(float)) {
        book("E %" PRIu64 " WRONG size: %zu bytes for %zu elements", number, y->bytes, n);
        return;
    }
    size_t wrong = first_wrong(m, number, y->data, n);
    if (wrong < n)
        book("E %" PRIu64 " WRONG element %zu of %zu: %g", number, wrong, n,
             (double)((const float *)y->data)[wrong]);
    else
        book("E %" PRIu64 " OK", number);
}

static void ask(const model *m, uint64_t number, float *x, float *y)
{
    size_t n = m->any ? 1 + (size_t)(number * 104729 % m->elements) : m->elements;
    for (size_t i = 0; i < n; i++) {
        x[i] = value(number, i);
        y[i] = -1;
    }
    kaena_tensor in = {.name = "x",
                       .dtype = KAENA_F32,
                       .rank = 1,
                       .shape = {(int64_t)n},
                       .data = x,
                       .bytes = n * sizeof *x};
    kaena_tensor out = {.data = y, .bytes = n * sizeof *y};
    kaena_infer_call call = {.size = sizeof call,
                             .model = m->name,
                             .inputs = &in,
                             .input_count = 1,
                             .outputs = &out,
                             .output_count = 1,
                             .timeout_ms = TIMEOUT_MS};
    kaena_err err;
    book("B %" PRIu64 " %s", number, m->name);
    kaena_status status = kaena_infer(client, &call, &err);
    end_of(number, m, &out, n, status, &err);
}

static void *work(void *arg)
{
    (void)arg;
    size_t most = 0;
    for (size_t i = 0; i < n_models; i++)
        most = models[i].elements > most ? models[i].elements : most;
    float *x = malloc(most * sizeof *x), *y = malloc(most * sizeof *y);
    if (!x || !y)
        die("out of memory");
    while (!atomic_load(&stop)) {
        uint64_t number = atomic_fetch_add(&next_number, 1);
        ask(&models[number % n_models], number, x, y);
    }
    free(x);
    free(y);
    return NULL;
}

static void add_model(char *text)
{
    char *elements = strchr(text, ':'), *constant = elements ? strchr(elements + 1, ':') : NULL;
    if (!constant || n_models == MAX_MODELS)
        die("a model is NAME:ELEMENTS:CONSTANT");
    *elements++ = *constant++ = 0;
    model *m = &models[n_models++];
    m->name = text;
    m->any = *elements == '-';
    m->elements = strtoull(elements + m->any, NULL, 10);
    m->constant = atoi(constant);
    if (!m->elements)
        die("a model without elements");
}

int main(int argc, char **argv)
{
    static const struct option known[] = {{"address", required_argument, NULL, 'a'},
                                          {"ledger", required_argument, NULL, 'l'},
                                          {"threads", required_argument, NULL, 't'},
                                          {NULL, 0, NULL, 0}};
    kaena_client_options options = {.size = sizeof options};
    int n_threads = 2;
    for (int o; (o = getopt_long(argc, argv, "", known, NULL)) != -1;)
        switch (o) {
        case 'a':
            options.address = optarg;
            break;
        case 'l':
            ledger = open(optarg, O_WRONLY | O_CREAT | O_APPEND | O_EXCL | O_CLOEXEC, 0600);
            break;
        case 't':
            n_threads = atoi(optarg);
            break;
        default:
            return 2;
        }
    while (optind < argc)
        add_model(argv[optind++]);
    if (ledger < 0 || !n_models || n_threads < 1 || n_threads > MAX_THREADS)
        die("needs --ledger FILE (that is not there yet), models, and 1 to 16 threads");

    sigset_t ends;
    (void)sigemptyset(&ends);
    (void)sigaddset(&ends, SIGTERM);
    (void)pthread_sigmask(SIG_BLOCK, &ends, NULL);
    kaena_err err;
    if (kaena_client_open(&options, &client, &err) != KAENA_OK)
        die(err.what);
    pthread_t threads[MAX_THREADS];
    for (int i = 0; i < n_threads; i++)
        if (pthread_create(&threads[i], NULL, work, NULL) != 0)
            die("no thread");
    int number;
    (void)sigwait(&ends, &number);
    atomic_store(&stop, true);
    for (int i = 0; i < n_threads; i++)
        (void)pthread_join(threads[i], NULL);
    kaena_client_close(client);
    (void)close(ledger);
    return 0;
}
