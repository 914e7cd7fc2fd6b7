/* Traffic through libkaena, for tests of what happens to it when daemons die.
 *
 *     traffic [--address A | --daemon NAME] [--model FILE] --name NAME [--daemons N] [--threads T]
 *             [--values N] [--timeout MS]
 *
 * Opens the model (with FILE loaded by itself), an identity of one float32[N] x to y, and asks it
 * from T threads, every request with values of its own, until its standard input ends. Each line on
 * standard input is answered with a line of JSON:
 * {"right":N, "wrong":N, "failed":N, "error":"the first one",
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
    kaena_model *model;
    size_t values;
    int64_t timeout_ms;
    atomic_ullong next, right, wrong, failed;
    atomic_bool stop;
    pthread_mutex_t lock;
    kaena_err first; /* under |lock|; the first failure */
} traffic;

static void fail(traffic *t, const kaena_err *err)
{
    pthread_mutex_lock(&t->lock);
    if (atomic_fetch_add(&t->failed, 1) == 0)
        t->first = *err;
    pthread_mutex_unlock(&t->lock);
}

static void request(traffic *t, float *x, float *y)
{
    uint64_t number = atomic_fetch_add(&t->next, 1);
    for (size_t i = 0; i < t->values; i++)
        x[i] = (float)(number % 1000003) + (float)(i % 64) / 64;
    memset(y, 0, t->values * sizeof *y);
    kaena_tensor in = {.name = "x",
                       .dtype = KAENA_F32,
                       .rank = 1,
                       .shape = {(int64_t)t->values},
                       .data = x,
                       .bytes = t->values * sizeof *x};
    kaena_tensor out = {.data = y, .bytes = t->values * sizeof *y};
    kaena_infer_call call = {.size = sizeof call,
                             .inputs = &in,
                             .input_count = 1,
                             .outputs = &out,
                             .output_count = 1,
                             .timeout_ms = t->timeout_ms};
    kaena_err err;
    if (kaena_model_infer(t->model, &call, &err) != KAENA_OK)
        fail(t, &err);
    else if (memcmp(x, y, t->values * sizeof *x) != 0)
        atomic_fetch_add(&t->wrong, 1);
    else
        atomic_fetch_add(&t->right, 1);
}

static void *ask(void *user)
{
    traffic *t = user;
    float *x = calloc(t->values, sizeof *x), *y = calloc(t->values, sizeof *y);
    while (x && y && !atomic_load(&t->stop))
        request(t, x, y);
    free(x);
    free(y);
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
        case 'T':
            t.timeout_ms = strtol(optarg, NULL, 10);
            break;
        default:
            return 2;
        }
    }
    kaena_client *client;
    kaena_err err;
    if (threads > MAX_THREADS)
        return 2;
    if (kaena_client_open(&how, &client, &err) != KAENA_OK)
        return die(&err);
    if (kaena_model_open(client, file, &load, &t.model, &err) != KAENA_OK) {
        kaena_client_close(client);
        return die(&err);
    }
    int result = run(&t, threads);
    kaena_model_close(t.model);
    kaena_client_close(client);
    return result;
}
