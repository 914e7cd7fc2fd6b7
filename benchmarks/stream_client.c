/* krtd's InferStream beside its Infer: the same requests, many in flight, from one thread each.
 * Turns alternate, medians of the turns are compared.
 *
 * stream_client [--rounds N] [--seconds F] ADDRESS MODEL BYTES
 *
 * MODEL takes x and gives y: float32[BYTES / 4]. "calls": unary calls on one connection; "submit":
 * kaena_model_submit, also ("submit_stream") on a stream; "stream": one InferStream on one
 * connection. benchmarks/rpc calls it. */
#include <getopt.h>
#include <grpc/byte_buffer.h>
#include <grpc/byte_buffer_reader.h>
#include <grpc/grpc.h>
#include <grpc/grpc_security.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "kaena/client.h"
#include "kaena/v1/runtime.pb-c.h"

#define MAX_CALLS 64
#define MAX_ROUNDS 99
#define WARM_UP 0.05 /* seconds at the start of each turn that do not count */

typedef struct bench {
    char *model;
    size_t bytes;
    grpc_channel *channel;
    grpc_completion_queue *queue;
    grpc_byte_buffer *request;
    kaena_model *handles[2]; /* requests in calls, on a stream */
    float *data;
} bench;

/* A turn's count of answers. */
typedef struct counter {
    double from, to;
    size_t n;
} counter;

static double now(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void die(const char *why)
{
    (void)fprintf(stderr, "stream_client: %s\n", why);
    exit(1);
}

/* An answer has come: true, there are to be more. */
static bool count(counter *c)
{
    double t = now();
    c->n += t >= c->from && t < c->to;
    return t < c->to;
}

static void *next_event(const bench *b)
{
    grpc_event e = grpc_completion_queue_next(b->queue, gpr_inf_future(GPR_CLOCK_REALTIME), NULL);
    return e.tag;
}

/* ---- unary calls ---- */

typedef struct unary {
    grpc_call *call;
    grpc_byte_buffer *sent, *answer;
    grpc_metadata_array initial, trailing;
    grpc_status_code status;
    grpc_slice details;
} unary;

static void begin_call(const bench *b, unary *u)
{
    *u = (unary){.sent = grpc_byte_buffer_copy(b->request)};
    u->call = grpc_channel_create_call(b->channel, NULL, GRPC_PROPAGATE_DEFAULTS, b->queue,
                                       grpc_slice_from_static_string("/kaena.v1.Runtime/Infer"),
                                       NULL, gpr_inf_future(GPR_CLOCK_REALTIME), NULL);
    grpc_metadata_array_init(&u->initial);
    grpc_metadata_array_init(&u->trailing);
    grpc_op ops[] = {
        {.op = GRPC_OP_SEND_INITIAL_METADATA},
        {.op = GRPC_OP_SEND_MESSAGE, .data.send_message.send_message = u->sent},
        {.op = GRPC_OP_SEND_CLOSE_FROM_CLIENT},
        {.op = GRPC_OP_RECV_INITIAL_METADATA,
         .data.recv_initial_metadata.recv_initial_metadata = &u->initial},
        {.op = GRPC_OP_RECV_MESSAGE, .data.recv_message.recv_message = &u->answer},
        {.op = GRPC_OP_RECV_STATUS_ON_CLIENT,
         .data.recv_status_on_client = {.trailing_metadata = &u->trailing,
                                        .status = &u->status,
                                        .status_details = &u->details}},
    };
    if (grpc_call_start_batch(u->call, ops, sizeof ops / sizeof *ops, u, NULL) != GRPC_CALL_OK)
        die("a call does not start");
}

static void end_call(const bench *b, unary *u)
{
    if (u->status != GRPC_STATUS_OK)
        die(grpc_slice_to_c_string(u->details));
    if (!u->answer || grpc_byte_buffer_length(u->answer) < b->bytes)
        die("the answer is too short");
    grpc_slice_unref(u->details);
    grpc_metadata_array_destroy(&u->initial);
    grpc_metadata_array_destroy(&u->trailing);
    grpc_byte_buffer_destroy(u->sent);
    grpc_byte_buffer_destroy(u->answer);
    grpc_call_unref(u->call);
}

static void by_calls(const bench *b, int concurrency, counter *c)
{
    unary calls[MAX_CALLS];
    for (int i = 0; i < concurrency; i++)
        begin_call(b, &calls[i]);
    for (int open = concurrency; open;) {
        unary *u = next_event(b);
        bool more = count(c);
        end_call(b, u);
        if (more)
            begin_call(b, u);
        else
            open--;
    }
}

/* ---- one stream ---- */

typedef struct stream {
    const bench *b;
    grpc_call *call;
    grpc_byte_buffer *answer, *sending;
    int waiting; /* requests that are not sent yet */
    int open;    /* not answered */
    uint64_t next_id;
} stream;

static char sent_tag, received_tag, begun_tag, ended_tag;

static size_t put_varint(uint8_t *to, uint64_t v)
{
    size_t n = 0;
    for (; v >= 128; v >>= 7)
        to[n++] = (uint8_t)(v | 128);
    to[n++] = (uint8_t)v;
    return n;
}

/* An InferStreamRequest around the request, which is not copied. */
static grpc_byte_buffer *frame(const bench *b, uint64_t id)
{
    grpc_slice slices[2];
    uint8_t head[24];
    size_t n = 0;
    head[n++] = 1 << 3;
    n += put_varint(head + n, id);
    head[n++] = 2 << 3 | 2;
    n += put_varint(head + n, grpc_byte_buffer_length(b->request));
    grpc_byte_buffer_reader reader;
    if (!grpc_byte_buffer_reader_init(&reader, b->request) ||
        !grpc_byte_buffer_reader_next(&reader, &slices[1]))
        die("the request is empty");
    grpc_byte_buffer_reader_destroy(&reader);
    slices[0] = grpc_slice_from_copied_buffer((const char *)head, n);
    grpc_byte_buffer *framed = grpc_raw_byte_buffer_create(slices, 2);
    grpc_slice_unref(slices[0]);
    grpc_slice_unref(slices[1]);
    return framed;
}

static void batch(stream *s, const grpc_op *ops, size_t n, void *tag)
{
    if (grpc_call_start_batch(s->call, ops, n, tag, NULL) != GRPC_CALL_OK)
        die("a batch of the stream does not start");
}

static void send_next(stream *s)
{
    if (s->sending || !s->waiting)
        return;
    s->waiting--;
    s->sending = frame(s->b, s->next_id++);
    const grpc_op op = {.op = GRPC_OP_SEND_MESSAGE, .data.send_message.send_message = s->sending};
    batch(s, &op, 1, &sent_tag);
}

static void receive_next(stream *s)
{
    const grpc_op op = {.op = GRPC_OP_RECV_MESSAGE, .data.recv_message.recv_message = &s->answer};
    batch(s, &op, 1, &received_tag);
}

static void on_answer(stream *s, counter *c)
{
    if (!s->answer || grpc_byte_buffer_length(s->answer) < s->b->bytes)
        die("no answer, or too short");
    grpc_byte_buffer_destroy(s->answer);
    s->open--;
    if (count(c)) {
        s->open++;
        s->waiting++;
        send_next(s);
    }
    if (s->open)
        receive_next(s);
}

static void by_stream(const bench *b, int concurrency, counter *c)
{
    stream s = {.b = b, .waiting = concurrency, .open = concurrency, .next_id = 1};
    grpc_metadata_array initial, trailing;
    grpc_status_code status;
    grpc_slice details;
    s.call =
        grpc_channel_create_call(b->channel, NULL, GRPC_PROPAGATE_DEFAULTS, b->queue,
                                 grpc_slice_from_static_string("/kaena.v1.Runtime/InferStream"),
                                 NULL, gpr_inf_future(GPR_CLOCK_REALTIME), NULL);
    grpc_metadata_array_init(&initial);
    grpc_metadata_array_init(&trailing);
    const grpc_op begin[] = {
        {.op = GRPC_OP_SEND_INITIAL_METADATA},
        {.op = GRPC_OP_RECV_INITIAL_METADATA,
         .data.recv_initial_metadata.recv_initial_metadata = &initial},
    };
    const grpc_op end[] = {
        {.op = GRPC_OP_SEND_CLOSE_FROM_CLIENT},
        {.op = GRPC_OP_RECV_STATUS_ON_CLIENT,
         .data.recv_status_on_client = {.trailing_metadata = &trailing,
                                        .status = &status,
                                        .status_details = &details}},
    };
    batch(&s, begin, 2, &begun_tag);
    receive_next(&s);
    send_next(&s);
    while (s.open || s.sending) {
        void *tag = next_event(b);
        if (tag == &received_tag) {
            on_answer(&s, c);
        } else if (tag == &sent_tag) {
            grpc_byte_buffer_destroy(s.sending);
            s.sending = NULL;
            send_next(&s);
        }
    }
    batch(&s, end, 2, &ended_tag);
    while (next_event(b) != &ended_tag)
        ;
    if (status != GRPC_STATUS_OK)
        die("the stream ended with an error");
    grpc_slice_unref(details);
    grpc_metadata_array_destroy(&initial);
    grpc_metadata_array_destroy(&trailing);
    grpc_call_unref(s.call);
}

/* ---- requests of the library ---- */

typedef struct submitting {
    kaena_model *handle;
    counter *c;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    int open;
} submitting;

typedef struct question {
    submitting *all;
    kaena_tensor in, out;
    kaena_infer_call call;
} question;

static void submit(question *q);

static void on_done(void *user, kaena_request *request)
{
    question *q = user;
    submitting *all = q->all;
    kaena_err err;
    if (kaena_request_status(request, &err) != KAENA_OK)
        die(err.what);
    if (count(all->c)) {
        submit(q);
        return;
    }
    (void)pthread_mutex_lock(&all->lock);
    all->open--;
    (void)pthread_cond_signal(&all->changed);
    (void)pthread_mutex_unlock(&all->lock);
}

static void submit(question *q)
{
    kaena_err err;
    if (kaena_model_submit(q->all->handle, &q->call, on_done, q, NULL, &err) != KAENA_OK)
        die(err.what);
}

static void by_requests(const bench *b, kaena_model *handle, int concurrency, counter *c)
{
    static question questions[MAX_CALLS];
    submitting all = {.handle = handle,
                      .c = c,
                      .lock = PTHREAD_MUTEX_INITIALIZER,
                      .changed = PTHREAD_COND_INITIALIZER,
                      .open = concurrency};
    float *outputs = calloc((size_t)concurrency, b->bytes);
    if (!outputs)
        die("out of memory");
    for (int i = 0; i < concurrency; i++) {
        question *q = &questions[i];
        *q = (question){.all = &all};
        q->in = (kaena_tensor){.name = "x",
                               .dtype = KAENA_F32,
                               .rank = 1,
                               .shape = {(int64_t)(b->bytes / 4)},
                               .data = b->data,
                               .bytes = b->bytes};
        q->out = (kaena_tensor){.data = outputs + (size_t)i * (b->bytes / 4), .bytes = b->bytes};
        q->call = (kaena_infer_call){.size = sizeof q->call,
                                     .inputs = &q->in,
                                     .input_count = 1,
                                     .outputs = &q->out,
                                     .output_count = 1};
        submit(q);
    }
    (void)pthread_mutex_lock(&all.lock);
    while (all.open)
        (void)pthread_cond_wait(&all.changed, &all.lock);
    (void)pthread_mutex_unlock(&all.lock);
    free(outputs);
}

static void by_submit(const bench *b, int concurrency, counter *c)
{
    by_requests(b, b->handles[0], concurrency, c);
}

static void by_submit_stream(const bench *b, int concurrency, counter *c)
{
    by_requests(b, b->handles[1], concurrency, c);
}

/* ---- the comparison ---- */

static const struct {
    const char *name;
    void (*run)(const bench *b, int concurrency, counter *c);
} sides[] = {{"calls", by_calls},
             {"submit", by_submit},
             {"stream", by_stream},
             {"submit_stream", by_submit_stream}};

#define SIDES (sizeof sides / sizeof *sides)

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void compare(const bench *b, int concurrency, int rounds, double seconds)
{
    double rate[SIDES][MAX_ROUNDS];
    for (int r = 0; r < rounds; r++)
        for (size_t i = 0; i < SIDES; i++) {
            size_t s = (i + (size_t)r) % SIDES; /* who goes first changes */
            counter c = {.from = now() + WARM_UP};
            c.to = c.from + seconds;
            sides[s].run(b, concurrency, &c);
            rate[s][r] = (double)c.n / seconds;
        }
    (void)printf("many size=%zu c=%d", b->bytes, concurrency);
    for (size_t s = 0; s < SIDES; s++) {
        qsort(rate[s], (size_t)rounds, sizeof(double), by_value);
        (void)printf(" %s_rps=%.0f", sides[s].name, rate[s][rounds / 2]);
    }
    (void)printf("\n");
    (void)fflush(stdout);
}

static grpc_byte_buffer *make_request(const bench *b)
{
    char x[] = "x";
    int64_t dim = (int64_t)(b->bytes / 4);
    Kaena__V1__Tensor tensor, *inputs[] = {&tensor};
    kaena__v1__tensor__init(&tensor);
    tensor.name = x;
    tensor.dtype = KAENA__V1__DATA_TYPE__FLOAT32;
    tensor.n_shape = 1;
    tensor.shape = &dim;
    tensor.payload_case = KAENA__V1__TENSOR__PAYLOAD_DATA;
    tensor.data = (ProtobufCBinaryData){.len = b->bytes, .data = (uint8_t *)b->data};
    Kaena__V1__InferRequest request = KAENA__V1__INFER_REQUEST__INIT;
    request.model = b->model;
    request.n_inputs = 1;
    request.inputs = inputs;
    grpc_slice slice = grpc_slice_malloc(kaena__v1__infer_request__get_packed_size(&request));
    (void)kaena__v1__infer_request__pack(&request, GRPC_SLICE_START_PTR(slice));
    grpc_byte_buffer *out = grpc_raw_byte_buffer_create(&slice, 1);
    grpc_slice_unref(slice);
    return out;
}

int main(int argc, char **argv)
{
    static const struct option known[] = {
        {"rounds", required_argument, NULL, 'r'},
        {"seconds", required_argument, NULL, 's'},
        {NULL, 0, NULL, 0},
    };
    int rounds = 5, o;
    double seconds = 0.4;
    bool usable = true;
    while ((o = getopt_long(argc, argv, "", known, NULL)) != -1)
        if (o == 'r')
            rounds = atoi(optarg);
        else if (o == 's')
            seconds = atof(optarg);
        else
            usable = false;
    bench b = {0};
    if (usable && optind + 3 == argc) {
        b.model = argv[optind + 1];
        b.bytes = (size_t)strtoull(argv[optind + 2], NULL, 10) & ~(size_t)3;
    }
    if (b.bytes < 4 || rounds < 1 || rounds > MAX_ROUNDS || seconds <= 0) {
        (void)fprintf(stderr, "usage: stream_client [--rounds 1..99] [--seconds F] ADDRESS MODEL "
                              "BYTES\n");
        return 2;
    }
    b.data = calloc(1, b.bytes);
    if (!b.data)
        die("out of memory");
    grpc_init();
    grpc_channel_credentials *plain = grpc_insecure_credentials_create();
    grpc_arg any_size = {.type = GRPC_ARG_INTEGER,
                         .key = (char *)(uintptr_t)GRPC_ARG_MAX_RECEIVE_MESSAGE_LENGTH,
                         .value.integer = -1};
    const grpc_channel_args args = {.num_args = 1, .args = &any_size};
    b.channel = grpc_channel_create(argv[optind], plain, &args);
    grpc_channel_credentials_release(plain);
    b.queue = grpc_completion_queue_create_for_next(NULL);
    b.request = make_request(&b);
    kaena_client *clients[2];
    kaena_err err;
    const kaena_load_options load = {.size = sizeof load, .name = b.model};
    for (uint32_t i = 0; i < 2; i++) {
        const kaena_client_options options = {
            .size = sizeof options, .address = argv[optind], .streams = i};
        if (kaena_client_open(&options, &clients[i], &err) != KAENA_OK ||
            kaena_model_open(clients[i], NULL, &load, &b.handles[i], &err) != KAENA_OK)
            die(err.what);
    }
    compare(&b, 1, rounds, seconds);
    compare(&b, 8, rounds, seconds);
    compare(&b, MAX_CALLS, rounds, seconds);
    kaena_client_close(clients[0]);
    kaena_client_close(clients[1]);
    grpc_byte_buffer_destroy(b.request);
    grpc_completion_queue_shutdown(b.queue);
    grpc_completion_queue_destroy(b.queue);
    grpc_channel_destroy(b.channel);
    grpc_shutdown();
    free(b.data);
    return 0;
}
