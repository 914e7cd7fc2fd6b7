/* krtd's Infer beside a bare echo server, one load client for both: turns alternate, medians of the
 * turns are compared.
 *
 * rpc_client --krtd ADDRESS --echo ADDRESS --bytes N [--rounds N] [--seconds F]
 *            MODEL
 *
 * MODEL is loaded, takes x and gives y: float32[N / 4]; both servers get the same request. While
 * krtd is under load a second connection asks for its health. benchmarks/rpc makes the models and
 * calls it. */
#include <getopt.h>
#include <grpc/byte_buffer.h>
#include <grpc/byte_buffer_reader.h>
#include <grpc/grpc.h>
#include <grpc/grpc_security.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "kaena/v1/runtime.pb-c.h"

#define MAX_CALLS 64
#define MAX_SAMPLES 1000000
#define MAX_ROUNDS 99
#define WARM_UP 0.15 /* seconds at the start of each turn that do not count */
#define HEALTH_EVERY_US 500

typedef struct peer {
    const char *what;
    grpc_channel *channel;
    void *method;
    grpc_completion_queue *cq;
    grpc_byte_buffer *request;
    size_t least_answer; /* bytes: an answer is never shorter */
} peer;

typedef struct client_call {
    grpc_call *core;
    grpc_byte_buffer *sent, *answer;
    grpc_metadata_array initial, trailing;
    grpc_status_code status;
    grpc_slice details;
    double start;
} client_call;

typedef struct turn {
    double p50, p99, max, per_second;
} turn;

static double now(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void die(const char *who, const char *why)
{
    (void)fprintf(stderr, "rpc_client: %s: %s\n", who, why);
    exit(1);
}

/* ---- calls ---- */

static peer connect_to(const char *what, const char *address, const char *method,
                       grpc_byte_buffer *request, size_t least_answer)
{
    grpc_arg list[2] = {
        {.type = GRPC_ARG_INTEGER,
         .key = (char *)(uintptr_t)GRPC_ARG_MAX_RECEIVE_MESSAGE_LENGTH,
         .value.integer = -1},
        /* Its own connection, whoever else talks to the same address. */
        {.type = GRPC_ARG_INTEGER,
         .key = (char *)(uintptr_t)GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL,
         .value.integer = 1},
    };
    grpc_channel_args args = {.num_args = 2, .args = list};
    grpc_channel_credentials *insecure = grpc_insecure_credentials_create();
    peer p = {.what = what, .request = request, .least_answer = least_answer};
    p.channel = grpc_channel_create(address, insecure, &args);
    grpc_channel_credentials_release(insecure);
    p.method = grpc_channel_register_call(p.channel, method, NULL, NULL);
    p.cq = grpc_completion_queue_create_for_next(NULL);
    return p;
}

static void begin(const peer *p, client_call *c)
{
    c->core =
        grpc_channel_create_registered_call(p->channel, NULL, GRPC_PROPAGATE_DEFAULTS, p->cq,
                                            p->method, gpr_inf_future(GPR_CLOCK_REALTIME), NULL);
    grpc_metadata_array_init(&c->initial);
    grpc_metadata_array_init(&c->trailing);
    c->answer = NULL;
    c->sent = grpc_byte_buffer_copy(p->request); /* sending empties it */
    grpc_op ops[] = {
        {.op = GRPC_OP_SEND_INITIAL_METADATA},
        {.op = GRPC_OP_SEND_MESSAGE, .data.send_message.send_message = c->sent},
        {.op = GRPC_OP_SEND_CLOSE_FROM_CLIENT},
        {.op = GRPC_OP_RECV_INITIAL_METADATA,
         .data.recv_initial_metadata.recv_initial_metadata = &c->initial},
        {.op = GRPC_OP_RECV_MESSAGE, .data.recv_message.recv_message = &c->answer},
        {.op = GRPC_OP_RECV_STATUS_ON_CLIENT,
         .data.recv_status_on_client = {.trailing_metadata = &c->trailing,
                                        .status = &c->status,
                                        .status_details = &c->details}},
    };
    c->start = now();
    if (grpc_call_start_batch(c->core, ops, sizeof ops / sizeof *ops, c, NULL) != GRPC_CALL_OK)
        die(p->what, "a call does not start");
}

static void end(const peer *p, client_call *c)
{
    if (c->status != GRPC_STATUS_OK) {
        char *details = grpc_slice_to_c_string(c->details);
        die(p->what, details);
    }
    if (!c->answer || grpc_byte_buffer_length(c->answer) < p->least_answer)
        die(p->what, "the answer is too short");
    grpc_slice_unref(c->details);
    grpc_metadata_array_destroy(&c->initial);
    grpc_metadata_array_destroy(&c->trailing);
    grpc_byte_buffer_destroy(c->sent);
    grpc_byte_buffer_destroy(c->answer);
    grpc_call_unref(c->core);
}

static client_call *next_answer(const peer *p)
{
    return grpc_completion_queue_next(p->cq, gpr_inf_future(GPR_CLOCK_REALTIME), NULL).tag;
}

/* |concurrency| calls in flight for |seconds|, and until one is answered; microseconds. */
static turn take_turn(const peer *p, int concurrency, double seconds, double *samples)
{
    client_call calls[MAX_CALLS];
    double from = now() + WARM_UP, to = from + seconds, last = from;
    size_t n = 0;
    int open = concurrency;
    for (int i = 0; i < concurrency; i++)
        begin(p, &calls[i]);
    while (open) {
        client_call *c = next_answer(p);
        double t = now();
        if (t >= from && (t < to || !n) && n < MAX_SAMPLES) {
            samples[n++] = (t - c->start) * 1e6;
            last = t;
        }
        end(p, c);
        if (t < to || !n)
            begin(p, c);
        else
            open--;
    }
    qsort(samples, n, sizeof *samples, by_value);
    return (turn){samples[n / 2], samples[n * 99 / 100], samples[n - 1], (double)n / (last - from)};
}

/* ---- health ---- */

typedef struct prober {
    peer peer;
    _Atomic bool stop;
    double *samples;
    size_t n;
} prober;

static void *probe(void *arg)
{
    prober *p = arg;
    while (!atomic_load(&p->stop) && p->n < MAX_SAMPLES) {
        client_call c;
        begin(&p->peer, &c);
        (void)next_answer(&p->peer);
        p->samples[p->n++] = (now() - c.start) * 1e6;
        end(&p->peer, &c);
        (void)usleep(HEALTH_EVERY_US);
    }
    return NULL;
}

/* ---- the machine's limit ---- */

typedef struct bouncer {
    int fd;
    size_t bytes;
} bouncer;

static bool move(int fd, uint8_t *data, size_t n, bool out)
{
    while (n) {
        ssize_t got = out ? write(fd, data, n) : read(fd, data, n);
        if (got <= 0)
            return false;
        data += got;
        n -= (size_t)got;
    }
    return true;
}

static void *bounce(void *arg)
{
    bouncer *b = arg;
    uint8_t *data = calloc(1, b->bytes);
    while (data && move(b->fd, data, b->bytes, false) && move(b->fd, data, b->bytes, true))
        ;
    free(data);
    return NULL;
}

/* Median time of |bytes| through a unix socket to another thread and back. */
static double socket_round_trip(size_t bytes, double seconds, double *samples)
{
    int fd[2];
    uint8_t *data = calloc(1, bytes);
    if (!data || socketpair(AF_UNIX, SOCK_STREAM, 0, fd) != 0)
        die("socket", "cannot be made");
    bouncer b = {fd[1], bytes};
    pthread_t thread;
    if (pthread_create(&thread, NULL, bounce, &b) != 0)
        die("thread", "cannot be made");
    size_t n = 0;
    for (double t0 = now(), t = t0; t < t0 + seconds && n < MAX_SAMPLES;) {
        if (!move(fd[0], data, bytes, true) || !move(fd[0], data, bytes, false))
            die("socket", "does not carry");
        double after = now();
        samples[n++] = (after - t) * 1e6;
        t = after;
    }
    (void)close(fd[0]);
    (void)pthread_join(thread, NULL);
    (void)close(fd[1]);
    free(data);
    qsort(samples, n, sizeof *samples, by_value);
    return samples[n / 2];
}

/* ---- the comparison ---- */

static grpc_byte_buffer *buffer_of(const void *data, size_t size)
{
    grpc_slice slice = grpc_slice_from_copied_buffer(data, size);
    grpc_byte_buffer *b = grpc_raw_byte_buffer_create(&slice, 1);
    grpc_slice_unref(slice);
    return b;
}

static grpc_byte_buffer *make_request(char *model, size_t bytes)
{
    char x[] = "x";
    int64_t dim = (int64_t)(bytes / 4);
    Kaena__V1__Tensor tensor;
    kaena__v1__tensor__init(&tensor);
    tensor.name = x;
    tensor.dtype = KAENA__V1__DATA_TYPE__FLOAT32;
    tensor.n_shape = 1;
    tensor.shape = &dim;
    tensor.payload_case = KAENA__V1__TENSOR__PAYLOAD_DATA;
    tensor.data = (ProtobufCBinaryData){.len = bytes, .data = calloc(1, bytes)};
    Kaena__V1__Tensor *inputs[] = {&tensor};
    Kaena__V1__InferRequest request = KAENA__V1__INFER_REQUEST__INIT;
    request.model = model;
    request.n_inputs = 1;
    request.inputs = inputs;
    size_t size = kaena__v1__infer_request__get_packed_size(&request);
    uint8_t *packed = malloc(size);
    if (!packed || !tensor.data.data)
        die("request", "out of memory");
    (void)kaena__v1__infer_request__pack(&request, packed);
    grpc_byte_buffer *out = buffer_of(packed, size);
    free(packed);
    free(tensor.data.data);
    return out;
}

static turn median_turn(const turn *turns, int n)
{
    turn out = {0};
    double column[4][MAX_ROUNDS];
    for (int i = 0; i < n; i++) {
        column[0][i] = turns[i].p50;
        column[1][i] = turns[i].p99;
        column[2][i] = turns[i].max;
        column[3][i] = turns[i].per_second;
    }
    for (int c = 0; c < 4; c++)
        qsort(column[c], (size_t)n, sizeof(double), by_value);
    out.p50 = column[0][n / 2];
    out.p99 = column[1][n / 2];
    out.max = column[2][n - 1];
    out.per_second = column[3][n / 2];
    return out;
}

static void compare(const peer side[2], int concurrency, int rounds, double seconds, size_t bytes,
                    double *samples)
{
    turn turns[2][MAX_ROUNDS], median[2];
    for (int r = 0; r < rounds; r++)
        for (int i = 0; i < 2; i++) {
            int s = (i + r) & 1; /* who goes first changes */
            turns[s][r] = take_turn(&side[s], concurrency, seconds, samples);
        }
    for (int s = 0; s < 2; s++)
        median[s] = median_turn(turns[s], rounds);
    (void)printf("rpc size=%zu c=%d krtd_p50_us=%.1f echo_p50_us=%.1f p50_ratio=%.2f krtd_rps=%.0f "
                 "echo_rps=%.0f rps_ratio=%.2f krtd_p99_us=%.1f echo_p99_us=%.1f\n",
                 bytes, concurrency, median[0].p50, median[1].p50, median[0].p50 / median[1].p50,
                 median[0].per_second, median[1].per_second,
                 median[0].per_second / median[1].per_second, median[0].p99, median[1].p99);
    (void)fflush(stdout);
}

static void health_under_load(const char *krtd, const peer *busy, double seconds, size_t bytes,
                              double *samples)
{
    prober p = {.samples = malloc(sizeof(double) * MAX_SAMPLES)};
    if (!p.samples)
        die("health", "out of memory");
    p.peer = connect_to("health", krtd, "/grpc.health.v1.Health/Check", buffer_of("", 0), 1);
    pthread_t thread;
    if (pthread_create(&thread, NULL, probe, &p) != 0)
        die("health", "no thread");
    turn load = take_turn(busy, 8, seconds, samples);
    atomic_store(&p.stop, true);
    (void)pthread_join(thread, NULL);
    if (!p.n)
        die("health", "no answer");
    qsort(p.samples, p.n, sizeof *p.samples, by_value);
    (void)printf("health while size=%zu c=8 rps=%.0f: p50_us=%.1f p99_us=%.1f max_us=%.1f n=%zu\n",
                 bytes, load.per_second, p.samples[p.n / 2], p.samples[p.n * 99 / 100],
                 p.samples[p.n - 1], p.n);
    free(p.samples);
}

int main(int argc, char **argv)
{
    static const struct option known[] = {
        {"krtd", required_argument, NULL, 'k'},    {"echo", required_argument, NULL, 'e'},
        {"bytes", required_argument, NULL, 'b'},   {"rounds", required_argument, NULL, 'r'},
        {"seconds", required_argument, NULL, 's'}, {NULL, 0, NULL, 0},
    };
    const char *krtd = NULL, *echo = NULL;
    size_t bytes = 0;
    int rounds = 5, o;
    double seconds = 0.4;
    bool usable = true;
    while ((o = getopt_long(argc, argv, "", known, NULL)) != -1)
        switch (o) {
        case 'k':
            krtd = optarg;
            break;
        case 'e':
            echo = optarg;
            break;
        case 'b':
            bytes = (size_t)strtoull(optarg, NULL, 10);
            break;
        case 'r':
            rounds = atoi(optarg);
            break;
        case 's':
            seconds = atof(optarg);
            break;
        default:
            usable = false;
        }
    usable = usable && krtd && echo && bytes >= 4 && optind + 1 == argc && rounds >= 1 &&
             rounds <= MAX_ROUNDS && seconds > 0;
    if (!usable) {
        (void)fprintf(stderr, "usage: rpc_client --krtd ADDRESS --echo ADDRESS --bytes N "
                              "[--rounds 1..99] [--seconds F] MODEL\n");
        return 2;
    }
    double *samples = malloc(sizeof *samples * MAX_SAMPLES);
    if (!samples)
        die("samples", "out of memory");
    grpc_init();
    grpc_byte_buffer *request = make_request(argv[optind], bytes);
    const peer side[2] = {
        connect_to("krtd", krtd, "/kaena.v1.Runtime/Infer", request, bytes),
        connect_to("echo", echo, "/echo/Echo", request, bytes),
    };
    (void)printf("limit size=%zu unix_socket_round_trip_us=%.1f\n", bytes,
                 socket_round_trip(bytes, seconds, samples));
    compare(side, 1, rounds, seconds, bytes, samples);
    compare(side, 8, rounds, seconds, bytes, samples);
    compare(side, MAX_CALLS, rounds, seconds, bytes, samples);
    health_under_load(krtd, &side[0], seconds * rounds, bytes, samples);
    return 0;
}
