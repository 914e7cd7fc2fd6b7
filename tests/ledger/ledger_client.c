/* A client that keeps book of its requests: the traffic of test_ledger.py.
 *
 * ledger_client --address LIST --ledger FILE [--threads N] [--artifacts DIRECTORY] [--async N]
 *               MODEL:ELEMENTS:CONSTANT...
 *
 * --artifacts: loads DIRECTORY/MODEL.neff into every daemon by itself, under a name of its own;
 * without it the models are there already. --async: each thread submits N requests at a time (of
 * models that it has loaded).
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
#define MAX_ASYNC 64
#define SPAN 1021 /* values of x; they and their sums with a constant are exact */

typedef struct model {
    const char *name;
    size_t elements;
    bool any; /* takes fewer, too */
    int constant;
    kaena_model *handle; /* NULL: asked by its name */
} model;

/* One request and its memory. */
typedef struct question {
    const model *model;
    uint64_t number;
    size_t n; /* elements */
    float *x, *y;
    kaena_tensor in, out;
    kaena_infer_call call;
} question;

static model models[MAX_MODELS];
static size_t n_models, most_elements;
static size_t n_async;
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

static void end_of(const question *q, kaena_status status, const kaena_err *err)
{
    const kaena_tensor *y = &q->out;
    if (status != KAENA_OK) {
        book("E %" PRIu64 " %s %d %s", q->number, kaena_status_name(status), (int)err->reason,
             err->what);
        return;
    }
    if (y->rank != 1 || y->shape[0] != (int64_t)q->n || y->bytes != q->n * sizeof(float)) {
        book("E %" PRIu64 " WRONG size: %zu bytes for %zu elements", q->number, y->bytes, q->n);
        return;
    }
    size_t wrong = first_wrong(q->model, q->number, y->data, q->n);
    if (wrong < q->n)
        book("E %" PRIu64 " WRONG element %zu of %zu: %g", q->number, wrong, q->n,
             (double)((const float *)y->data)[wrong]);
    else
        book("E %" PRIu64 " OK", q->number);
}

static question *make_questions(size_t n)
{
    question *q = calloc(n, sizeof *q);
    for (size_t i = 0; q && i < n; i++) {
        q[i].x = malloc(most_elements * sizeof(float));
        q[i].y = malloc(most_elements * sizeof(float));
        if (!q[i].x || !q[i].y)
            die("out of memory");
    }
    return q;
}

static void free_questions(question *q, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        free(q[i].x);
        free(q[i].y);
    }
    free(q);
}

static void begin(question *q)
{
    q->number = atomic_fetch_add(&next_number, 1);
    const model *m = q->model = &models[q->number % n_models];
    q->n = m->any ? 1 + (size_t)(q->number * 104729 % m->elements) : m->elements;
    for (size_t i = 0; i < q->n; i++) {
        q->x[i] = value(q->number, i);
        q->y[i] = -1;
    }
    q->in = (kaena_tensor){.name = "x",
                           .dtype = KAENA_F32,
                           .rank = 1,
                           .shape = {(int64_t)q->n},
                           .data = q->x,
                           .bytes = q->n * sizeof(float)};
    q->out = (kaena_tensor){.data = q->y, .bytes = q->n * sizeof(float)};
    q->call = (kaena_infer_call){.size = sizeof q->call,
                                 .model = m->name,
                                 .inputs = &q->in,
                                 .input_count = 1,
                                 .outputs = &q->out,
                                 .output_count = 1,
                                 .timeout_ms = TIMEOUT_MS};
    book("B %" PRIu64 " %s", q->number, m->name);
}

static void ask(question *q)
{
    kaena_err err;
    begin(q);
    kaena_status status = q->model->handle ? kaena_model_infer(q->model->handle, &q->call, &err)
                                           : kaena_infer(client, &q->call, &err);
    end_of(q, status, &err);
}

/* On a thread of the library. */
static void on_done(void *user, kaena_request *request)
{
    kaena_err err;
    kaena_status status = kaena_request_status(request, &err);
    end_of(user, status, &err);
}

/* |n| requests at once. */
static void ask_all(question *q, size_t n)
{
    kaena_request *requests[MAX_ASYNC];
    kaena_err err;
    for (size_t i = 0; i < n; i++) {
        begin(&q[i]);
        kaena_status status =
            kaena_model_submit(q[i].model->handle, &q[i].call, on_done, &q[i], &requests[i], &err);
        if (status == KAENA_OK)
            continue;
        requests[i] = NULL;
        end_of(&q[i], status, &err);
    }
    for (size_t i = 0; i < n; i++) {
        if (requests[i])
            (void)kaena_request_wait(requests[i], -1);
        kaena_request_release(requests[i]);
    }
}

static void *work(void *arg)
{
    (void)arg;
    size_t n = n_async ? n_async : 1;
    question *q = make_questions(n);
    while (q && !atomic_load(&stop)) {
        if (n_async)
            ask_all(q, n);
        else
            ask(q);
    }
    free_questions(q, n);
    return NULL;
}

static void open_models(const char *directory)
{
    for (size_t i = 0; i < n_models; i++) {
        char path[1024], name[100];
        (void)snprintf(path, sizeof path, "%s/%s.neff", directory, models[i].name);
        (void)snprintf(name, sizeof name, "%s-%d", models[i].name, (int)getpid());
        kaena_load_options options = {.size = sizeof options, .name = name, .daemons = KAENA_ALL};
        kaena_err err;
        if (kaena_model_open(client, path, &options, &models[i].handle, &err) != KAENA_OK)
            die(err.what);
    }
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
    most_elements = m->elements > most_elements ? m->elements : most_elements;
}

int main(int argc, char **argv)
{
    static const struct option known[] = {
        {"address", required_argument, NULL, 'a'}, {"ledger", required_argument, NULL, 'l'},
        {"threads", required_argument, NULL, 't'}, {"artifacts", required_argument, NULL, 'd'},
        {"async", required_argument, NULL, 'n'},   {NULL, 0, NULL, 0}};
    kaena_client_options options = {.size = sizeof options};
    int n_threads = 2;
    const char *artifacts = NULL;
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
        case 'd':
            artifacts = optarg;
            break;
        case 'n':
            n_async = strtoul(optarg, NULL, 10);
            break;
        default:
            return 2;
        }
    while (optind < argc)
        add_model(argv[optind++]);
    if (ledger < 0 || !n_models || n_threads < 1 || n_threads > MAX_THREADS)
        die("needs --ledger FILE (that is not there yet), models, and 1 to 16 threads");
    if (n_async > MAX_ASYNC || (n_async && !artifacts))
        die("--async is at most 64, and needs --artifacts");

    sigset_t ends;
    (void)sigemptyset(&ends);
    (void)sigaddset(&ends, SIGTERM);
    (void)pthread_sigmask(SIG_BLOCK, &ends, NULL);
    kaena_err err;
    if (kaena_client_open(&options, &client, &err) != KAENA_OK)
        die(err.what);
    if (artifacts)
        open_models(artifacts);
    pthread_t threads[MAX_THREADS];
    for (int i = 0; i < n_threads; i++)
        if (pthread_create(&threads[i], NULL, work, NULL) != 0)
            die("no thread");
    int number;
    (void)sigwait(&ends, &number);
    atomic_store(&stop, true);
    for (int i = 0; i < n_threads; i++)
        (void)pthread_join(threads[i], NULL);
    for (size_t i = 0; i < n_models; i++)
        kaena_model_close(models[i].handle);
    kaena_client_close(client);
    (void)close(ledger);
    return 0;
}
