/* libkaena against daemons of our own making. */
#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "client_fake.h"

KTEST(client, infers_small_and_large_tensors)
{
    fake f;
    fake_start(&f, "a");
    kaena_client *client = open_client(f.address, true);
    kaena_err err;
    static float in[2 << 20], out[2 << 20];
    for (size_t i = 0; i < 2 << 20; i++)
        in[i] = (float)i;
    for (size_t n = 1; n <= 2 << 20; n *= 8) {
        KTEST_OK(err, infer(client, "echo", in, out, n, 0, &err));
        cr_assert(memcmp(in, out, n * sizeof *in) == 0);
    }
    kaena_client_close(client);
    fake_stop(&f);
}

KTEST(client, errors_carry_reason_numbers_and_hint)
{
    fake f;
    fake_start(&f, "a");
    kaena_client *client = open_client(f.address, true);
    kaena_err err;
    float x = 1, y;
    KTEST_FAILS(err, RESOURCE_EXHAUSTED, "refused", infer(client, "full", &x, &y, 1, 0, &err));
    cr_assert(err.reason == KAENA__V1__ERROR_DETAIL__REASON__QUEUE_FULL && err.needed == 9 &&
              err.available == 8);
    cr_assert_str_eq(err.hint, "try elsewhere");
    KTEST_FAILS(err, NOT_FOUND, "no model 'nope'", infer(client, "nope", &x, &y, 1, 0, &err));
    kaena_client_close(client);
    fake_stop(&f);
}

KTEST(client, deadline_ends_a_call_nobody_answers)
{
    fake f;
    fake_start(&f, "a");
    kaena_client *client = open_client(f.address, false);
    kaena_err err;
    float x = 1, y;
    KTEST_FAILS(err, DEADLINE_EXCEEDED, "in time", infer(client, "stall", &x, &y, 1, 100, &err));
    KTEST_OK(err, infer(client, "echo", &x, &y, 1, 0, &err));
    kaena_client_close(client);
    fake_stop(&f);
}

KTEST(client, refusals_and_absent_daemons_are_routed_around)
{
    fake a, b;
    fake_start(&a, "a");
    fake_start(&b, "b");
    char address[512];
    (void)snprintf(address, sizeof address, "unix:%s/absent,%s,%s", directory, a.address,
                   b.address);
    kaena_client *client = open_client(address, true);
    kaena_err err;
    float x = 1, y;
    KTEST_OK(err, infer(client, "echo", &x, &y, 1, 0, &err));
    cr_assert(atomic_load(&a.infers) == 1 && atomic_load(&b.infers) == 0);
    KTEST_FAILS(err, RESOURCE_EXHAUSTED, "refused", infer(client, "full", &x, &y, 1, 0, &err));
    cr_assert(atomic_load(&a.infers) == 2 && atomic_load(&b.infers) == 1, "both were asked");
    fake_stop(&a);
    KTEST_OK(err, infer(client, "echo", &x, &y, 1, 0, &err));
    kaena_model_list *list;
    KTEST_OK(err, kaena_model_list_get(client, &list, &err));
    cr_assert(list->count == 1 && list->unreachable == 2);
    cr_assert(list->models[0]->inputs[0].bytes == 24 &&
              list->models[0]->state == KAENA_MODEL_READY);
    cr_assert_str_eq(list->models[0]->daemon, b.address);
    kaena_model_list_free(list);
    kaena_client_close(client);
    fake_stop(&b);
}

KTEST(client, waits_for_a_daemon_until_the_deadline)
{
    fake f;
    fake_start(&f, "a");
    kaena_client *client = open_client(f.address, false);
    kaena_err err;
    float x = 1, y;
    /* The last attempt may be the one that the deadline ends. */
    kaena_status status = infer(client, "drain", &x, &y, 1, 300, &err);
    cr_assert(status == KAENA_UNAVAILABLE || status == KAENA_DEADLINE_EXCEEDED, "%s", err.what);
    cr_assert(atomic_load(&f.infers) > 1, "asked again while it drains");
    fake_stop(&f);
    KTEST_FAILS(err, UNAVAILABLE, "no daemon answers", infer(client, "echo", &x, &y, 1, 100, &err));
    kaena_client_close(client);
}

/* A file of these bytes; |path| ends in XXXXXX, which becomes its name. */
static void write_temp(char *path, const void *bytes, size_t size)
{
    int fd = mkstemp(path);
    cr_assert(fd >= 0 && write(fd, bytes, size) == (ssize_t)size);
    close(fd);
}

KTEST(client, load_streams_the_file)
{
    fake f;
    fake_start(&f, "a");
    kaena_client *client = open_client(f.address, true);
    char path[] = "/tmp/kaena-neff-XXXXXX";
    static uint8_t bytes[(3 << 20) + 17];
    uint64_t sum = 0;
    for (size_t i = 0; i < sizeof bytes; i++) {
        bytes[i] = (uint8_t)(i * 31 + i / 1000);
        sum += bytes[i] * (i + 1);
    }
    write_temp(path, bytes, sizeof bytes);
    kaena_err err;
    kaena_model_info *model;
    KTEST_OK(err, kaena_model_load(client, path, NULL, &model, &err));
    cr_assert(f.load_size == sizeof bytes && f.loaded == sizeof bytes && f.load_sum == sum);
    cr_assert_str_eq(model->name, "loaded");
    kaena_model_info_free(model);
    /* Refused in the middle. */
    kaena_load_options options = {.size = sizeof options, .name = "too-large"};
    KTEST_FAILS(err, RESOURCE_EXHAUSTED, "refused",
                kaena_model_load(client, path, &options, NULL, &err));
    KTEST_FAILS(err, NOT_FOUND, "/nonexistent",
                kaena_model_load(client, "/nonexistent", NULL, NULL, &err));
    KTEST_FAILS(err, INVALID_ARGUMENT, "/tmp", kaena_model_load(client, "/tmp", NULL, NULL, &err));
    unlink(path);
    kaena_client_close(client);
    fake_stop(&f);
}

KTEST(client, a_daemon_that_was_restarted_before_the_load_gets_it_again)
{
    fake f;
    fake_start(&f, "a");
    kaena_client *client = open_client(f.address, false);
    char path[] = "/tmp/kaena-neff-XXXXXX";
    write_temp(path, "neff", 4);
    kaena_load_options options = {.size = sizeof options, .name = "restarted"};
    kaena_err err;
    kaena_model *model;
    KTEST_OK(err, kaena_model_open(client, path, &options, &model, &err));
    cr_assert(atomic_load(&f.loads) == 2, "%d", atomic_load(&f.loads));
    kaena_model_close(model);
    unlink(path);
    kaena_client_close(client);
    fake_stop(&f);
}

/* A socket behind which is no daemon: |read_bytes| are read from each connection, which is then
 * closed; -1: none is read and nothing is closed. */
typedef struct trap {
    char address[128];
    int fd;
    ssize_t read_bytes;
    atomic_int accepted;
    pthread_t thread;
} trap;

static void *trap_main(void *user)
{
    trap *t = user;
    int held[8];
    size_t held_count = 0;
    for (int fd; (fd = accept(t->fd, NULL, NULL)) >= 0;) {
        atomic_fetch_add(&t->accepted, 1);
        char buffer[256];
        for (ssize_t n = 0, got; n < t->read_bytes && (got = read(fd, buffer, sizeof buffer)) > 0;)
            n += got;
        if (t->read_bytes < 0 && held_count < 8)
            held[held_count++] = fd;
        else
            close(fd);
    }
    while (held_count > 0)
        close(held[--held_count]);
    return NULL;
}

static void trap_start(trap *t, ssize_t read_bytes)
{
    make_directory();
    *t = (trap){.read_bytes = read_bytes, .fd = socket(AF_UNIX, SOCK_STREAM, 0)};
    (void)snprintf(t->address, sizeof t->address, "unix:%s/trap", directory);
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    (void)snprintf(at.sun_path, sizeof at.sun_path, "%.100s", t->address + 5);
    cr_assert(bind(t->fd, (const struct sockaddr *)&at, sizeof at) == 0 && listen(t->fd, 8) == 0);
    cr_assert(pthread_create(&t->thread, NULL, trap_main, t) == 0);
}

static void trap_stop(trap *t)
{
    shutdown(t->fd, SHUT_RDWR);
    pthread_join(t->thread, NULL);
    close(t->fd);
    unlink(t->address + 5);
    if (rmdir(directory) == 0)
        *directory = 0;
}

KTEST(client, a_lost_connection_is_tried_once_more)
{
    trap t;
    trap_start(&t, 100);
    kaena_client *client = open_client(t.address, true);
    kaena_err err;
    float x = 1, y;
    KTEST_FAILS(err, UNAVAILABLE, "broke", infer(client, "echo", &x, &y, 1, 0, &err));
    cr_assert(atomic_load(&t.accepted) == 2, "%d connections", atomic_load(&t.accepted));
    /* What changes something is not repeated. */
    KTEST_FAILS(err, UNAVAILABLE, "broke", kaena_model_unload(client, "echo", &err));
    cr_assert(atomic_load(&t.accepted) == 3, "%d connections", atomic_load(&t.accepted));
    kaena_client_close(client);
    trap_stop(&t);
}

KTEST(client, a_daemon_that_stops_reading_does_not_keep_the_callers_memory)
{
    trap t;
    trap_start(&t, -1);
    kaena_client *client = open_client(t.address, true);
    kaena_err err;
    size_t n = 1 << 20;
    float *in = calloc(n, sizeof *in), *out = calloc(n, sizeof *out);
    KTEST_FAILS(err, DEADLINE_EXCEEDED, "in time", infer(client, "echo", in, out, n, 200, &err));
    free(in);
    free(out);
    kaena_client_close(client);
    trap_stop(&t);
}

typedef struct many {
    kaena_client *client;
    pthread_t thread;
    int wrong;
} many;

static void *many_main(void *user)
{
    many *m = user;
    float in[2000], out[2000];
    for (int i = 0; i < 200; i++) {
        for (size_t k = 0; k < 2000; k++)
            in[k] = (float)(i * 10) + (float)k;
        kaena_err err;
        m->wrong += infer(m->client, "echo", in, out, 2000, 0, &err) != KAENA_OK ||
                    memcmp(in, out, sizeof in) != 0;
    }
    return NULL;
}

KTEST(client, serves_many_threads)
{
    fake f;
    fake_start(&f, "a");
    many threads[24] = {{0}};
    threads[0].client = open_client(f.address, true);
    for (size_t i = 0; i < 24; i++) {
        threads[i].client = threads[0].client;
        cr_assert(pthread_create(&threads[i].thread, NULL, many_main, &threads[i]) == 0);
    }
    for (size_t i = 0; i < 24; i++) {
        pthread_join(threads[i].thread, NULL);
        cr_assert(threads[i].wrong == 0);
    }
    kaena_client_close(threads[0].client);
    fake_stop(&f);
}
