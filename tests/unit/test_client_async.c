/* Requests that nobody waits for in a call. */
#include <semaphore.h>

#include "client_fake.h"

#define MANY 1000

typedef struct ask {
    float x, y;
    kaena_tensor in, out;
    kaena_infer_call call;
    kaena_request *request;
    atomic_int calls; /* of the callback */
    kaena_status status;
} ask;

static atomic_int pending;

static void on_done(void *user, kaena_request *request)
{
    ask *a = user;
    a->status = kaena_request_status(request, NULL);
    atomic_fetch_add(&a->calls, 1);
    atomic_fetch_sub(&pending, 1);
}

static void prepare(ask *a, float x, int64_t timeout_ms)
{
    memset(a, 0, sizeof *a);
    a->x = x;
    a->in = f32_tensor("x", &a->x, 1);
    a->out = (kaena_tensor){.data = &a->y, .bytes = sizeof a->y};
    a->call = (kaena_infer_call){.size = sizeof a->call,
                                 .inputs = &a->in,
                                 .input_count = 1,
                                 .outputs = &a->out,
                                 .output_count = 1,
                                 .timeout_ms = timeout_ms};
}

static void wait_for_callbacks(void)
{
    while (atomic_load(&pending) > 0)
        usleep(1000);
}

/* Waits until the daemon has seen |count| requests. */
static void wait_for_arrival(const fake *f, int count)
{
    while (atomic_load(&f->infers) < count)
        usleep(1000);
}

static kaena_model *open_model(kaena_client *client, const char *name)
{
    kaena_load_options options = {.size = sizeof options, .name = name};
    kaena_model *model = NULL;
    kaena_err err;
    KTEST_OK(err, kaena_model_open(client, NULL, &options, &model, &err));
    return model;
}

KTEST(client_async, a_thousand_requests_from_one_thread)
{
    fake f;
    fake_start(&f, "a");
    kaena_client *client = open_client(f.address, true);
    kaena_model *model = open_model(client, "echo");
    static ask asks[MANY];
    kaena_err err;
    atomic_store(&pending, MANY / 2);
    for (size_t i = 0; i < MANY; i++) {
        prepare(&asks[i], (float)i, 0);
        /* One half by callback, the other by handle. */
        if (i % 2)
            KTEST_OK(err, kaena_model_submit(model, &asks[i].call, on_done, &asks[i], NULL, &err));
        else
            KTEST_OK(err,
                     kaena_model_submit(model, &asks[i].call, NULL, NULL, &asks[i].request, &err));
    }
    for (size_t i = 0; i < MANY; i += 2) {
        cr_assert(kaena_request_wait(asks[i].request, -1) == 1);
        KTEST_OK(err, kaena_request_status(asks[i].request, &err));
        kaena_request_release(asks[i].request);
    }
    wait_for_callbacks();
    for (size_t i = 0; i < MANY; i++) {
        cr_assert(asks[i].y == (float)i, "%zu: %g", i, (double)asks[i].y);
        cr_assert(asks[i].call.execute_ns == 5);
        cr_assert(i % 2 == 0 || (asks[i].calls == 1 && asks[i].status == KAENA_OK));
    }
    cr_assert(atomic_load(&f.infers) == MANY);
    kaena_model_close(model);
    kaena_client_close(client);
    fake_stop(&f);
}

KTEST(client_async, no_more_are_under_way_than_the_daemon_has_room_for)
{
    fake f;
    fake_start(&f, "a");
    f.queue_depth = 10;
    kaena_client *client = open_client(f.address, true);
    kaena_model *model = open_model(client, "stall");
    static ask asks[50];
    kaena_err err;
    for (size_t i = 0; i < 50; i++) {
        prepare(&asks[i], 1, i < 30 ? 0 : 200);
        KTEST_OK(err, kaena_model_submit(model, &asks[i].call, NULL, NULL, &asks[i].request, &err));
    }
    wait_for_arrival(&f, 10);
    /* Those that wait here for room give up by themselves. */
    for (size_t i = 30; i < 50; i++) {
        cr_assert(kaena_request_wait(asks[i].request, -1) == 1);
        KTEST_FAILS(err, DEADLINE_EXCEEDED, "waited for room",
                    kaena_request_status(asks[i].request, &err));
    }
    cr_assert(atomic_load(&f.infers) == 10, "%d", atomic_load(&f.infers));
    cr_assert(kaena_request_wait(asks[0].request, 0) == 0);
    KTEST_FAILS(err, FAILED_PRECONDITION, "not done", kaena_request_status(asks[0].request, &err));
    /* One that ends makes room for one. */
    kaena_request_cancel(asks[0].request);
    cr_assert(kaena_request_wait(asks[0].request, -1) == 1);
    KTEST_FAILS(err, CANCELLED, "cancelled", kaena_request_status(asks[0].request, &err));
    wait_for_arrival(&f, 11);
    /* Handles outlive their model and client. */
    kaena_client_close(client);
    for (size_t i = 0; i < 50; i++) {
        cr_assert(kaena_request_wait(asks[i].request, 0) == 1);
        kaena_status status = kaena_request_status(asks[i].request, NULL);
        cr_assert(status == (i < 30 ? KAENA_CANCELLED : KAENA_DEADLINE_EXCEEDED));
        kaena_request_release(asks[i].request);
    }
    fake_stop(&f);
}

KTEST(client_async, closing_cancels_each_exactly_once)
{
    fake f;
    fake_start(&f, "a");
    kaena_client *client = open_client(f.address, true);
    kaena_model *model = open_model(client, "stall");
    static ask asks[200];
    kaena_err err;
    atomic_store(&pending, 200);
    for (size_t i = 0; i < 200; i++) {
        prepare(&asks[i], 1, 0);
        KTEST_OK(err, kaena_model_submit(model, &asks[i].call, on_done, &asks[i], NULL, &err));
    }
    wait_for_arrival(&f, 50);
    kaena_client_close(client);
    cr_assert(atomic_load(&pending) == 0);
    for (size_t i = 0; i < 200; i++)
        cr_assert(asks[i].calls == 1 && asks[i].status == KAENA_CANCELLED, "%zu: %d calls, %s", i,
                  asks[i].calls, kaena_status_name(asks[i].status));
    fake_stop(&f);
}

KTEST(client_async, deadlines_hold_and_errors_arrive)
{
    fake f;
    fake_start(&f, "a");
    kaena_client *client = open_client(f.address, true);
    kaena_model *model = open_model(client, "stall");
    kaena_err err;
    ask a;
    prepare(&a, 1, 50);
    KTEST_OK(err, kaena_model_submit(model, &a.call, NULL, NULL, &a.request, &err));
    cr_assert(kaena_request_wait(a.request, -1) == 1);
    KTEST_FAILS(err, DEADLINE_EXCEEDED, "in time", kaena_request_status(a.request, &err));
    cr_assert(strlen(err.request_id) == 16);
    kaena_request_release(a.request);
    kaena_model_close(model);
    model = open_model(client, "full");
    prepare(&a, 1, 300);
    int before = atomic_load(&f.infers);
    KTEST_OK(err, kaena_model_submit(model, &a.call, NULL, NULL, &a.request, &err));
    cr_assert(kaena_request_wait(a.request, 1000000) == 1);
    /* The last attempt may be the one that the deadline ends; then the hint has it. */
    kaena_status status = kaena_request_status(a.request, &err);
    cr_assert((status == KAENA_RESOURCE_EXHAUSTED && strstr(err.what, "refused")) ||
                  (status == KAENA_DEADLINE_EXCEEDED && strstr(err.hint, "refused")),
              "%s; %s", err.what, err.hint);
    cr_assert(atomic_load(&f.infers) > before + 1, "a full queue is asked again");
    kaena_request_release(a.request);
    a.in.bytes = 3;
    KTEST_OK(err, kaena_model_submit(model, &a.call, NULL, NULL, &a.request, &err));
    cr_assert(kaena_request_wait(a.request, -1) == 1);
    KTEST_FAILS(err, INVALID_ARGUMENT, "'x'", kaena_request_status(a.request, &err));
    kaena_request_release(a.request);
    KTEST_FAILS(err, INVALID_ARGUMENT, "nobody",
                kaena_model_submit(model, &a.call, NULL, NULL, NULL, &err));
    kaena_client_close(client);
    fake_stop(&f);
}

/* Each request that is done submits the next. */
typedef struct chain {
    ask ask;
    kaena_model *model;
    int left;
    sem_t over;
} chain;

static void next_of_chain(void *user, kaena_request *request)
{
    chain *c = user;
    c->ask.status = kaena_request_status(request, NULL);
    if (c->ask.status != KAENA_OK || --c->left == 0) {
        sem_post(&c->over);
        return;
    }
    kaena_err err;
    KTEST_OK(err, kaena_model_submit(c->model, &c->ask.call, next_of_chain, c, NULL, &err));
}

KTEST(client_async, callbacks_submit)
{
    fake f;
    fake_start(&f, "a");
    kaena_client *client = open_client(f.address, true);
    chain c = {.model = open_model(client, "echo"), .left = 100};
    kaena_err err;
    prepare(&c.ask, 3, 0);
    sem_init(&c.over, 0, 0);
    KTEST_OK(err, kaena_model_submit(c.model, &c.ask.call, next_of_chain, &c, NULL, &err));
    sem_wait(&c.over);
    cr_assert(c.left == 0 && c.ask.status == KAENA_OK && atomic_load(&f.infers) == 100);
    kaena_client_close(client);
    fake_stop(&f);
}

static void done_slowly(void *user, kaena_request *request)
{
    ask *a = user;
    (void)request;
    usleep(50000);
    a->status = a->y == a->x ? KAENA_OK : KAENA_INTERNAL;
    atomic_fetch_add(&a->calls, 1);
}

/* Who has waited may free what the callback uses. */
KTEST(client_async, waiting_waits_for_the_callback)
{
    fake f;
    fake_start(&f, "a");
    kaena_client *client = open_client(f.address, true);
    kaena_model *model = open_model(client, "echo");
    for (int i = 0; i < 3; i++) {
        ask *a = calloc(1, sizeof *a);
        kaena_err err;
        prepare(a, 1, 0);
        KTEST_OK(err, kaena_model_submit(model, &a->call, done_slowly, a, &a->request, &err));
        kaena_request *request = a->request;
        cr_assert(kaena_request_wait(request, -1) == 1);
        cr_assert(atomic_load(&a->calls) == 1);
        free(a);
        kaena_request_release(request);
    }
    kaena_client_close(client);
    fake_stop(&f);
}

KTEST(client_async, release_cancels_and_memory_is_the_callers_again)
{
    fake f;
    fake_start(&f, "a");
    kaena_client *client = open_client(f.address, true);
    kaena_model *model = open_model(client, "stall");
    size_t n = 1 << 20;
    float *large = calloc(n, sizeof *large);
    ask a;
    kaena_err err;
    prepare(&a, 1, 0);
    a.in = f32_tensor("x", large, (int64_t)n);
    KTEST_OK(err, kaena_model_submit(model, &a.call, NULL, NULL, &a.request, &err));
    kaena_request_release(a.request);
    free(large);
    kaena_client_close(client);
    fake_stop(&f);
}

static void count_lines(void *user, const char *text)
{
    atomic_fetch_add((atomic_int *)user, strstr(text, "calls of their own") != NULL);
}

/* The daemon of the test has no InferStream. */
KTEST(client_async, without_streams_requests_travel_in_calls)
{
    fake f;
    atomic_int told = 0;
    fake_start(&f, "a");
    const kaena_client_options options = {.size = sizeof options,
                                          .address = f.address,
                                          .streams = 1,
                                          .log = count_lines,
                                          .log_user = &told};
    kaena_client *client;
    kaena_err err;
    static ask asks[50];
    KTEST_OK(err, kaena_client_open(&options, &client, &err));
    kaena_model *model = open_model(client, "echo");
    for (size_t i = 0; i < 50; i++) {
        prepare(&asks[i], (float)i, 0);
        KTEST_OK(err, kaena_model_submit(model, &asks[i].call, NULL, NULL, &asks[i].request, &err));
    }
    for (size_t i = 0; i < 50; i++) {
        cr_assert(kaena_request_wait(asks[i].request, -1) == 1);
        KTEST_OK(err, kaena_request_status(asks[i].request, &err));
        cr_assert(asks[i].y == (float)i);
        kaena_request_release(asks[i].request);
    }
    cr_assert(atomic_load(&told) == 1 && atomic_load(&f.infers) == 50);
    kaena_client_close(client);
    fake_stop(&f);
}
