/* Posted requests of libkaena against a daemon of our own making, which knows no sessions. */
#include "client_fake.h"
#include "client_pool.h"

typedef struct posted {
    fake f;
    kaena_client *client;
    kaena_model *model;
} posted;

static void begin(posted *p, const char *name)
{
    kaena_err err;
    fake_start(&p->f, "a");
    p->client = open_client(p->f.address, true);
    kaena_load_options options = {.size = sizeof options, .name = name};
    KTEST_OK(err, kaena_model_open(p->client, NULL, &options, &p->model, &err));
}

static void end(posted *p)
{
    kaena_client_close(p->client);
    fake_stop(&p->f);
}

/* Posts a vector, whose memory is then overwritten: it is the caller's again. */
static kaena_status post(posted *p, float first, size_t n, kaena_cookie *cookie, kaena_err *err)
{
    float *in = calloc(n, sizeof *in);
    for (size_t i = 0; i < n; i++)
        in[i] = first + (float)i;
    kaena_tensor x = f32_tensor("x", in, (int64_t)n), y = {0};
    const kaena_infer_call call = {
        .size = sizeof call, .inputs = &x, .input_count = 1, .outputs = &y, .output_count = 1};
    kaena_status status = kaena_model_post(p->model, &call, cookie, err);
    memset(in, 0xff, n * sizeof *in);
    free(in);
    return status;
}

static kaena_infer_call answer_call(kaena_tensor *y, int64_t timeout_ms)
{
    return (kaena_infer_call){.size = sizeof(kaena_infer_call),
                              .outputs = y,
                              .output_count = 1,
                              .timeout_ms = timeout_ms};
}

static void expect_vector(const kaena_tensor *y, float first, size_t n)
{
    cr_assert(y->bytes == n * sizeof(float));
    for (size_t i = 0; i < n; i++)
        cr_assert(((const float *)y->data)[i] == first + (float)i, "value %zu", i);
}

KTEST(client_post, answers_are_fetched_once_in_any_order)
{
    posted p;
    kaena_err err;
    kaena_cookie cookies[3];
    static const size_t sizes[3] = {1, 2000, 1 << 20};
    begin(&p, "echo");
    for (size_t i = 0; i < 3; i++)
        KTEST_OK(err, post(&p, (float)(10 * i), sizes[i], &cookies[i], &err));
    for (size_t i = 3; i-- > 0;) {
        kaena_tensor y = {0};
        kaena_infer_call call = answer_call(&y, 0);
        KTEST_OK(err, kaena_wait(p.client, &cookies[i], &call, &err));
        expect_vector(&y, (float)(10 * i), sizes[i]);
        cr_assert(call.execute_ns == 5);
        kaena_tensor_free(&y);
        KTEST_FAILS(err, NOT_FOUND, "refused", kaena_wait(p.client, &cookies[i], &call, &err));
        cr_assert(err.reason == KAENA_REASON_ANSWER_FETCHED);
    }
    end(&p);
}

KTEST(client_post, memory_of_the_library_is_given_back)
{
    posted p;
    kaena_err err;
    kaena_cookie cookie;
    kaena_tensor y = {0};
    begin(&p, "echo");
    size_t bytes = 1 << 20;
    uint64_t before = 0;
    for (int i = 0; i < 40; i++) {
        KTEST_OK(err, kaena_tensor_alloc(p.client, bytes, &y, &err));
        KTEST_OK(err, post(&p, 1, bytes / sizeof(float), &cookie, &err));
        kaena_infer_call call = answer_call(&y, 0);
        KTEST_OK(err, kaena_wait(p.client, &cookie, &call, &err));
        expect_vector(&y, 1, bytes / sizeof(float));
        cr_assert(!y.memory);
        kaena_tensor_free(&y);
        if (i == 0)
            before = kaena_pool_bytes(p.client->pool);
    }
    cr_assert(kaena_pool_bytes(p.client->pool) == before, "blocks are used again");
    end(&p);
}

KTEST(client_post, a_wait_that_ends_loses_nothing)
{
    posted p;
    kaena_err err;
    kaena_cookie cookie;
    kaena_tensor y = {0};
    int done = 7;
    begin(&p, "stall");
    KTEST_OK(err, post(&p, 1, 1, &cookie, &err));
    kaena_infer_call call = answer_call(&y, 50);
    for (int i = 0; i < 2; i++)
        KTEST_FAILS(err, DEADLINE_EXCEEDED, "refused", kaena_wait(p.client, &cookie, &call, &err));
    call.timeout_ms = 0;
    KTEST_OK(err, kaena_poll(p.client, &cookie, &call, &done, &err));
    cr_assert(done == 0 && !y.data, "it has not run yet");
    end(&p);
}

KTEST(client_post, polls)
{
    posted p;
    kaena_err err;
    kaena_cookie cookie;
    kaena_tensor y = {0};
    int done = 0;
    begin(&p, "echo");
    KTEST_OK(err, post(&p, 3, 2, &cookie, &err));
    kaena_infer_call call = answer_call(&y, 0);
    KTEST_OK(err, kaena_poll(p.client, &cookie, &call, &done, &err));
    cr_assert(done == 1);
    expect_vector(&y, 3, 2);
    kaena_tensor_free(&y);
    done = 7;
    cr_assert(kaena_poll(p.client, &cookie, &call, &done, NULL) == KAENA_NOT_FOUND);
    KTEST_FAILS(err, NOT_FOUND, "refused", kaena_poll(p.client, &cookie, &call, &done, &err));
    cr_assert(done == 7, "untouched on failure");
    end(&p);
}

KTEST(client_post, expiry_and_refusals_are_told)
{
    posted p;
    kaena_err err;
    kaena_cookie cookie, untouched;
    kaena_tensor y = {0};
    kaena_infer_call call = answer_call(&y, 0);
    begin(&p, "late");
    KTEST_OK(err, post(&p, 1, 1, &cookie, &err));
    KTEST_FAILS(err, NOT_FOUND, "refused", kaena_wait(p.client, &cookie, &call, &err));
    cr_assert(err.reason == KAENA_REASON_ANSWER_EXPIRED);
    cr_assert(atomic_load(&p.f.waits) == 1, "asked once");
    end(&p);
    begin(&p, "full");
    memset(&untouched, 0xee, sizeof untouched);
    memset(&cookie, 0xee, sizeof cookie);
    KTEST_FAILS(err, RESOURCE_EXHAUSTED, "refused", post(&p, 1, 1, &cookie, &err));
    cr_assert(memcmp(&cookie, &untouched, sizeof cookie) == 0);
    end(&p);
}

/* The daemon may not know yet that a wait before this one was given up. */
KTEST(client_post, a_wait_outlasts_the_one_before)
{
    posted p;
    kaena_err err;
    kaena_cookie cookie;
    kaena_tensor y = {0};
    kaena_infer_call call = answer_call(&y, 0);
    begin(&p, "taken");
    KTEST_OK(err, post(&p, 1, 1, &cookie, &err));
    KTEST_OK(err, kaena_wait(p.client, &cookie, &call, &err));
    cr_assert(atomic_load(&p.f.waits) == 2);
    kaena_tensor_free(&y);
    end(&p);
}

KTEST(client_post, misuse_is_told)
{
    posted p;
    kaena_err err;
    kaena_cookie cookie = {0};
    kaena_tensor y = {0};
    kaena_infer_call call = answer_call(&y, 0);
    begin(&p, "echo");
    KTEST_FAILS(err, INVALID_ARGUMENT, "not a cookie", kaena_wait(p.client, &cookie, &call, &err));
    cookie = (kaena_cookie){.value = 1, .daemon = 1};
    KTEST_FAILS(err, INVALID_ARGUMENT, "not a cookie", kaena_wait(p.client, &cookie, &call, &err));
    cookie.daemon = 0;
    memset(cookie.session, 'a', sizeof cookie.session);
    KTEST_FAILS(err, INVALID_ARGUMENT, "not a cookie", kaena_wait(p.client, &cookie, &call, &err));
    cookie.session[3] = 0;
    KTEST_FAILS(err, ABORTED, "session", kaena_wait(p.client, &cookie, &call, &err));
    cr_assert(err.reason == KAENA_REASON_NO_SESSION);
    call.size = 4;
    KTEST_FAILS(err, INVALID_ARGUMENT, "size 4", kaena_wait(p.client, &cookie, &call, &err));
    KTEST_FAILS(err, INVALID_ARGUMENT, "size 4", kaena_model_post(p.model, &call, &cookie, &err));
    /* Too few outputs, and one that is too small. */
    float little;
    KTEST_OK(err, post(&p, 1, 2, &cookie, &err));
    y = (kaena_tensor){.data = &little, .bytes = sizeof little};
    call = answer_call(&y, 0);
    KTEST_FAILS(err, INVALID_ARGUMENT, "the buffer 4", kaena_wait(p.client, &cookie, &call, &err));
    KTEST_OK(err, post(&p, 1, 2, &cookie, &err));
    call.output_count = 0;
    KTEST_FAILS(err, INVALID_ARGUMENT, "gave 1 outputs, the call has 0",
                kaena_wait(p.client, &cookie, &call, &err));
    end(&p);
}

KTEST(client_post, a_daemon_that_is_away_is_told_at_once)
{
    posted p;
    kaena_err err;
    kaena_cookie cookie;
    kaena_tensor y = {0};
    kaena_infer_call call = answer_call(&y, 0);
    begin(&p, "echo");
    KTEST_OK(err, post(&p, 1, 1, &cookie, &err));
    fake_stop(&p.f);
    KTEST_FAILS(err, UNAVAILABLE, "", kaena_wait(p.client, &cookie, &call, &err));
    kaena_client_close(p.client);
}
