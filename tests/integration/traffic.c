/* Traffic through libkaena, for tests of what happens to it when daemons die.
 *
 *     traffic [--address A | --daemon NAME] [--model FILE] --name NAME [--daemons N] [--threads T]
 *             [--values N] [--timeout MS] [--shared-memory BYTES] [--own-memory] [--async N]
 *             [--persistent] [--streams]
 *
 * --own-memory: inputs and outputs lie in the library's memory. --async: each thread submits N
 * requests at a time. Opens the model (with FILE loaded by itself), an identity of one float32[N] x
 * to y, and asks it from T threads, every request with values of its own, until its standard input
 * ends. Each line on standard input is answered with a line of JSON:
 * {"right":N, "wrong":N, "failed":N, "error":"the first one", "said":"by the library",
 *  "replicas":[{"state":"ready", "inferences":N}...]} */
#include <getopt.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <kaena/client.h>

#define MAX_THREADS 256
#define MAX_DAEMONS 256

typedef struct traffic {
    kaena_client *client;
    kaena_model *model;
    bool own_memory;
    size_t async; /* requests a thread has under way; 0: one, in a call */
    size_t values;
    int64_t timeout_ms;
    atomic_ullong next, right, wrong, failed;
    atomic_bool stop;
    pthread_mutex_t lock;
    kaena_err first; /* under |lock|; the first failure */
    char said[200];  /* under |lock|; the last that the library said */
} traffic;

static void fail(traffic *t, const kaena_err *err)
{
    pthread_mutex_lock(&t->lock);
    if (atomic_fetch_add(&t->failed, 1) == 0)
        t->first = *err;
    pthread_mutex_unlock(&t->lock);
}

/* One request and its memory. */
typedef struct question {
    kaena_tensor in, out;
    kaena_infer_call call;
    kaena_request *request;
} question;

static bool prepare(traffic *t, question *q)
{
    size_t bytes = t->values * sizeof(float);
    *q = (question){.in = {.name = "x",
                           .dtype = KAENA_F32,
                           .rank = 1,
                           .shape = {(int64_t)t->values},
                           .bytes = bytes}};
    if (t->own_memory)
        return kaena_tensor_alloc(t->client, bytes, &q->in, NULL) == KAENA_OK;
    q->in.data = malloc(bytes);
    q->out.data = malloc(bytes);
    q->out.bytes = bytes;
    return q->in.data && q->out.data;
}

static void let_go(traffic *t, question *q)
{
    if (!t->own_memory) {
        free(q->in.data);
        free(q->out.data);
        return;
    }
    kaena_tensor_free(&q->in);
    kaena_tensor_free(&q->out);
}

static void fill(traffic *t, question *q)
{
    uint64_t number = atomic_fetch_add(&t->next, 1);
    float *x = q->in.data;
    for (size_t i = 0; i < t->values; i++)
        x[i] = (float)(number % 1000003) + (float)(i % 64) / 64;
    if (q->out.data)
        memset(q->out.data, 0, q->out.bytes);
    q->call = (kaena_infer_call){.size = sizeof q->call,
                                 .inputs = &q->in,
                                 .input_count = 1,
                                 .outputs = &q->out,
                                 .output_count = 1,
                                 .timeout_ms = t->timeout_ms};
}

static void judge(traffic *t, const question *q, kaena_status status, const kaena_err *err)
{
    if (status != KAENA_OK)
        fail(t, err);
    else if (q->out.bytes != q->in.bytes || memcmp(q->in.data, q->out.data, q->in.bytes) != 0)
        atomic_fetch_add(&t->wrong, 1);
    else
        atomic_fetch_add(&t->right, 1);
}

static void ask_and_wait(traffic *t, question *q)
{
    kaena_err err;
    fill(t, q);
    kaena_status status = kaena_model_infer(t->model, &q->call, &err);
    judge(t, q, status, &err);
}

/* All of them are under way together. */
static void submit_and_wait(traffic *t, question *q, size_t count)
{
    kaena_err err;
    for (size_t i = 0; i < count; i++) {
        fill(t, &q[i]);
        kaena_status status =
            kaena_model_submit(t->model, &q[i].call, NULL, NULL, &q[i].request, &err);
        if (status != KAENA_OK)
            judge(t, &q[i], status, &err);
    }
    for (size_t i = 0; i < count; i++) {
        if (!q[i].request)
            continue;
        (void)kaena_request_wait(q[i].request, -1);
        judge(t, &q[i], kaena_request_status(q[i].request, &err), &err);
        kaena_request_release(q[i].request);
        q[i].request = NULL;
    }
}

static void *ask(void *user)
{
    traffic *t = user;
    size_t count = t->async ? t->async : 1;
    question *q = calloc(count, sizeof *q);
    bool good = q != NULL;
    for (size_t i = 0; i < count && good; i++)
        good = prepare(t, &q[i]);
    while (good && !atomic_load(&t->stop)) {
        if (t->async)
            submit_and_wait(t, q, count);
        else
            ask_and_wait(t, q);
    }
    for (size_t i = 0; i < count && q; i++)
        let_go(t, &q[i]);
    free(q);
    return NULL;
}

static void print_text(const char *text)
{
    for (; *text; text++)
        putchar(*text == '"' || *text == '\\' || (unsigned char)*text < ' ' ? '\'' : *text);
}

static void report(traffic *t)
{
    static const char *const states[] = {"", "ready", "absent", "away"};
    static kaena_replica replicas[MAX_DAEMONS];
    size_t n = kaena_model_replicas(t->model, replicas, MAX_DAEMONS);
    printf("{\"right\":%llu, \"wrong\":%llu, \"failed\":%llu, \"error\":\"", atomic_load(&t->right),
           atomic_load(&t->wrong), atomic_load(&t->failed));
    pthread_mutex_lock(&t->lock);
    if (atomic_load(&t->failed) > 0) {
        printf("%s: ", kaena_status_name((kaena_status)t->first.code));
        print_text(t->first.what);
    }
    printf("\", \"said\":\"");
    print_text(t->said);
    pthread_mutex_unlock(&t->lock);
    printf("\", \"replicas\":[");
    for (size_t i = 0; i < n; i++) {
        printf("%s{\"state\":\"%s\", \"inferences\":%" PRIu64 ", \"why\":\"", i ? ", " : "",
               states[replicas[i].state], replicas[i].inferences);
        print_text(replicas[i].why);
        printf("\"}");
    }
    printf("]}\n");
    fflush(stdout);
}

static void hear(void *user, const char *text)
{
    traffic *t = user;
    pthread_mutex_lock(&t->lock);
    (void)snprintf(t->said, sizeof t->said, "%s", text);
    pthread_mutex_unlock(&t->lock);
}

static int die(const kaena_err *err)
{
    fprintf(stderr, "traffic: %s\n", err->what);
    return 1;
}

static int run(traffic *t, size_t threads)
{
    pthread_t thread[MAX_THREADS];
    size_t started = 0;
    while (started < threads && pthread_create(&thread[started], NULL, ask, t) == 0)
        started++;
    for (char line[64]; fgets(line, sizeof line, stdin);)
        report(t);
    atomic_store(&t->stop, true);
    for (size_t i = 0; i < started; i++)
        pthread_join(thread[i], NULL);
    return started == threads ? 0 : 1;
}

int main(int argc, char **argv)
{
    static const struct option options[] = {
        {"address", required_argument, NULL, 'a'},
        {"daemon", required_argument, NULL, 'd'},
        {"model", required_argument, NULL, 'm'},
        {"name", required_argument, NULL, 'n'},
        {"daemons", required_argument, NULL, 'N'},
        {"threads", required_argument, NULL, 't'},
        {"values", required_argument, NULL, 'v'},
        {"timeout", required_argument, NULL, 'T'},
        {"shared-memory", required_argument, NULL, 's'},
        {"own-memory", no_argument, NULL, 'o'},
        {"async", required_argument, NULL, 'A'},
        {"persistent", no_argument, NULL, 'p'},
        {"streams", no_argument, NULL, 'r'},
        {0},
    };
    kaena_client_options how = {.size = sizeof how};
    kaena_load_options load = {.size = sizeof load, .daemons = KAENA_ALL};
    traffic t = {.values = 2, .lock = PTHREAD_MUTEX_INITIALIZER};
    const char *file = NULL;
    size_t threads = 4;
    for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        switch (c) {
        case 'a':
            how.address = optarg;
            break;
        case 'd':
            how.daemon = optarg;
            break;
        case 'm':
            file = optarg;
            break;
        case 'n':
            load.name = optarg;
            break;
        case 'N':
            load.daemons = (uint32_t)strtoul(optarg, NULL, 10);
            break;
        case 't':
            threads = strtoul(optarg, NULL, 10);
            break;
        case 'v':
            t.values = strtoul(optarg, NULL, 10);
            break;
        case 's':
            how.shared_memory_bytes = strtoull(optarg, NULL, 10);
            break;
        case 'o':
            t.own_memory = true;
            break;
        case 'A':
            t.async = strtoul(optarg, NULL, 10);
            break;
        case 'p':
            load.persistent = 1;
            break;
        case 'r':
            how.streams = 1;
            break;
        case 'T':
            t.timeout_ms = strtol(optarg, NULL, 10);
            break;
        default:
            return 2;
        }
    }
    how.log = hear;
    how.log_user = &t;
    kaena_client *client;
    kaena_err err;
    if (threads > MAX_THREADS)
        return 2;
    if (kaena_client_open(&how, &client, &err) != KAENA_OK)
        return die(&err);
    t.client = client;
    if (kaena_model_open(client, file, &load, &t.model, &err) != KAENA_OK) {
        kaena_client_close(client);
        return die(&err);
    }
    int result = run(&t, threads);
    kaena_model_close(t.model);
    kaena_client_close(client);
    return result;
}
