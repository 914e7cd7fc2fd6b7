#include "devcases.h"

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "devkit.h"

/* A pipeline of four TPBs: each adds 1 in its SB and hands on through SCRATCH; SB of a stage is
 * used by every inference, so a stage that began the next one early would spoil the last. */
static void pipeline(kneff *k)
{
    static char text[4][600];
    static const char *programs[4];
    for (int t = 0; t < 4; t++) {
        char from[32], to[32];
        (void)snprintf(from, sizeof from, t ? "SCRATCH+%d" : "IO0+%d", t ? (t - 1) * 256 : 0);
        (void)snprintf(to, sizeof to, t < 3 ? "SCRATCH+%d" : "IO1+%d", t < 3 ? t * 256 : 0);
        int n = 0;
        if (t)
            n = snprintf(text[t], sizeof text[t], "WAIT sem=0 value=1\n");
        n += snprintf(
            text[t] + n, sizeof text[t] - (size_t)n,
            "COPY src=%s:f32[1,1,1,64]<0,0,0,4> dst=" F32(
                "SB+0") "\n"
                        "LOOP count=50\n"
                        "TT op=ADD a=" F32("SB+0") " b=" F32("WEIGHTS+0") " dst=" F32(
                            "SB+0") "\n"
                                    "END\n"
                                    "COPY src=" F32("SB+0") " dst=%s:f32[1,1,1,64]<0,0,0,4>\n",
            from, to);
        if (t < 3)
            n += snprintf(text[t] + n, sizeof text[t] - (size_t)n,
                          "SIGNAL mask=0x%x sem=0 amount=1\n", 2u << t);
        (void)snprintf(text[t] + n, sizeof text[t] - (size_t)n, "HALT\n");
        programs[t] = text[t];
    }
    static float ones[WIDTH];
    for (int i = 0; i < WIDTH; i++)
        ones[i] = 1;
    kneff_init(k, 4, programs);
    uint32_t x = kneff_value(k, "x", KAENA_F32, 2, dims),
             y = kneff_value(k, "y", KAENA_F32, 2, dims);
    kneff_input(k, x);
    kneff_output(k, y);
    kneff_device(k, 0, 2, (uint32_t[]){x, y}, 2);
    kneff_weights(k, ones, sizeof ones);
    k->meta.contexts = 4;
    k->meta.scratch_bytes = 1024;
    k->meta.sb_bytes = 4096;
    k->meta.optimize = "throughput";
}

/* --- Cases
 * --------------------------------------------------------------------------------------------------------------
 */

void dev_case_one_inference(void)
{
    dev_system *sys = make_system(1, 2);
    kneff k;
    adder(&k, 1);
    dev_model *m = load(sys, &k, "adder");
    MUST(dev_model_device_only(m) && dev_model_contexts(m) == 1 && dev_model_idle(m));
    uint32_t n;
    MUST(dev_model_places(m, &n)->chip == 0 && n == 1);
    for (int i = 0; i < 20; i++) {
        job a, b;
        job_init(&a, 100);
        submit(m, &a);
        MUST(job_wait(&a) == KAENA_OK);
        check_added(&a, 100);
        job_init(&b, 7);
        MUST(dev_run(m, &b.request));
        MUST(b.done && b.status == KAENA_OK);
        check_added(&b, 7);
    }
    MUST(dev_model_idle(m));
    /* An output nobody wants. */
    job c;
    job_init(&c, 1);
    c.out[0] = NULL;
    MUST(dev_run(m, &c.request) && c.status == KAENA_OK);
    m = dev_model_unload(m);
    sys = dev_system_destroy(sys);
}

void dev_case_contexts_are_the_backpressure(void)
{
    dev_system *sys = make_system(1, 1);
    kneff k;
    pipeline(&k);
    dev_model *m = load(sys, &k, "pipeline");
    enum { JOBS = 200 };
    static job jobs[JOBS];
    for (int i = 0; i < JOBS; i++) {
        job_init(&jobs[i], (float)i);
        submit(m, &jobs[i]);
    }
    for (int i = 0; i < JOBS; i++) {
        MUST(job_wait(&jobs[i]) == KAENA_OK);
        for (int e = 0; e < WIDTH; e++)
            MUST(jobs[i].y[e] == (float)i + (float)e + 200);
    }
    m = dev_model_unload(m);
    sys = dev_system_destroy(sys);
}

typedef struct client {
    dev_model *model;
    float start, added;
    int n;
} client;

static void *client_main(void *arg)
{
    const client *c = arg;
    for (int i = 0; i < c->n; i++) {
        job j;
        job_init(&j, c->start + (float)i);
        if (i % 3 == 0) {
            while (!dev_run(c->model, &j.request))
                (void)usleep(20);
        } else {
            submit(c->model, &j);
        }
        MUST(job_wait(&j) == KAENA_OK);
        for (int e = 0; e < WIDTH; e++)
            MUST(j.y[e] == c->start + (float)i + (float)e + (c->added > 0 ? c->added : (float)e));
    }
    return NULL;
}

/* Models that share TPBs, clients that share models. */
static void many_clients(uint32_t threads)
{
    dev_system *sys = make_system(1, threads);
    kneff k;
    pipeline(&k);
    dev_model *pipe = load(sys, &k, "pipeline");
    adder(&k, 2);
    dev_model *add = load(sys, &k, "adder");
    pipeline(&k);
    dev_model *second = load(sys, &k, "second");
    dev_model *of[] = {pipe, add, second};
    enum { CLIENTS = 6 };
    pthread_t thread[CLIENTS];
    client c[CLIENTS];
    for (int i = 0; i < CLIENTS; i++) {
        c[i] = (client){
            .model = of[i % 3], .start = (float)(1000 * i), .added = i % 3 == 1 ? 0 : 200, .n = 60};
        MUST(pthread_create(&thread[i], NULL, client_main, &c[i]) == 0);
    }
    for (int i = 0; i < CLIENTS; i++)
        MUST(pthread_join(thread[i], NULL) == 0);
    for (int i = 0; i < 3; i++)
        (void)dev_model_unload(of[i]);
    dev_chip_info info = dev_chip_info_of(sys, 0);
    MUST(info.dram_used == 0 && info.models == 0);
    sys = dev_system_destroy(sys);
}

void dev_case_many_clients_one_worker(void)
{
    many_clients(1);
}

void dev_case_many_clients_three_workers(void)
{
    many_clients(3);
}

/* x -(device + i)-> a -(host: Relu, Shape)-> b, s -(device: + i)-> y; s is an output too. */
void dev_case_host_steps_between_device_steps(void)
{
    static const char *const text[] = {
        "TT op=ADD a=" F32("IO0+0") " b=" F32("WEIGHTS+0") " dst=" F32("IO1+0") "\nHALT\n"};
    static float weights[WIDTH];
    static const int64_t two[] = {2};
    for (int i = 0; i < WIDTH; i++)
        weights[i] = (float)i;
    kneff k;
    kneff_init(&k, 1, text);
    uint32_t x = kneff_value(&k, "x", KAENA_F32, 2, dims);
    uint32_t a = kneff_value(&k, "a", KAENA_F32, 2, dims);
    uint32_t b = kneff_value(&k, "b", KAENA_F32, 2, dims);
    uint32_t y = kneff_value(&k, "y", KAENA_F32, 2, dims);
    uint32_t s = kneff_value(&k, "s", KAENA_I64, 1, two);
    uint32_t d = kneff_value(&k, "d", KAENA_I64, 2, (int64_t[]){2, -1});
    k.values[d]->dynamic = 1;
    kneff_input(&k, x);
    kneff_output(&k, y);
    kneff_output(&k, s);
    kneff_output(&k, d);
    kneff_device(&k, 0, 2, (uint32_t[]){x, a}, 2);
    kneff_host(
        &k,
        "graph \"h\" { input %a: float32[1,64] %b: float32[1,64] = Relu(%a) "
        "%s: int64[2] = Shape(%a) %d: int64[2,?] = NonZero(%b) output %b output %s output %d }",
        1, &a, 3, (uint32_t[]){b, s, d});
    kneff_device(&k, 0, 2, (uint32_t[]){b, y}, 2);
    kneff_weights(&k, weights, sizeof weights);
    dev_system *sys = make_system(1, 2);
    dev_model *m = load(sys, &k, "mixed");
    MUST(!dev_model_device_only(m));
    for (int round = 0; round < 20; round++) {
        job j;
        int64_t shape[2] = {0};
        kop_tensor made[3];
        void *out[3];
        job_init(&j, -20);
        out[0] = j.y;
        out[1] = shape;
        out[2] = NULL;
        j.request.out = out;
        j.request.out_tensor = made;
        if (round % 2)
            submit(m, &j);
        else
            MUST(dev_run(m, &j.request));
        MUST(job_wait(&j) == KAENA_OK);
        for (int i = 0; i < WIDTH; i++) {
            float v = -20 + 2 * (float)i;
            MUST(j.y[i] == (v > 0 ? v : 0) + (float)i);
        }
        MUST(shape[0] == 1 && shape[1] == WIDTH);
        MUST(made[0].data == j.y && made[2].shape.dim[1] == WIDTH - 11);
    }
    /* A request that is given up. */
    atomic_bool stop = true;
    job j;
    job_init(&j, 0);
    void *out[3] = {j.y, NULL, NULL};
    j.request.out = out;
    j.request.stop = &stop;
    submit(m, &j);
    MUST(job_wait(&j) == KAENA_CANCELLED);
    m = dev_model_unload(m);
    sys = dev_system_destroy(sys);
}

void dev_case_a_bad_index_fails_its_request_only(void)
{
    static const char *const text[] = {
        "GATHER table=WEIGHTS+0:f32[1,4,1,16]<0,64,0,4> index=IO0+0:i32[1,1,1,4]<0,0,0,4> "
        "dst=IO1+0:f32[1,4,1,16]<0,64,0,4> bound=4\nHALT\n"};
    static float weights[WIDTH];
    static const int64_t four[] = {4};
    for (int i = 0; i < WIDTH; i++)
        weights[i] = (float)i;
    kneff k;
    kneff_init(&k, 1, text);
    uint32_t x = kneff_value(&k, "x", KAENA_I32, 1, four);
    uint32_t y = kneff_value(&k, "y", KAENA_F32, 2, dims);
    kneff_input(&k, x);
    kneff_output(&k, y);
    kneff_device(&k, 0, 2, (uint32_t[]){x, y}, 2);
    kneff_weights(&k, weights, sizeof weights);
    dev_system *sys = make_system(1, 2);
    dev_model *m = load(sys, &k, "gather");
    int32_t index[4] = {3, 2, 1, -4};
    for (int round = 0; round < 6; round++) {
        job j;
        job_init(&j, 0);
        j.in[0] = index;
        index[1] = round % 2 ? 4 : 2;
        submit(m, &j);
        MUST(job_wait(&j) == (round % 2 ? KAENA_OUT_OF_RANGE : KAENA_OK));
        MUST(!(round % 2) || strstr(j.err.what, "'gather'"));
        MUST(j.y[0] == 48 && j.y[63] == 15);
        MUST(j.y[16] == (round % 2 ? 0 : 32));
    }
    m = dev_model_unload(m);
    sys = dev_system_destroy(sys);
}

void dev_case_truncated_weights_fail_their_model_only(void)
{
    dev_system *sys = make_system(1, 2);
    kneff k;
    adder(&k, 1);
    int fd = kneff_write_fd(&k);
    dev_model *healthy = load(sys, &k, "healthy"), *hurt;
    neff_file *f;
    kaena_err err;
    MUST(neff_open_fd(fd, "hurt.neff", &f, &err) == KAENA_OK);
    MUST(dev_model_load(sys, "hurt", f, &hurt, &err) == KAENA_OK);
    (void)neff_unref(f);
    MUST(ftruncate(fd, 64) == 0);
    job j;
    for (int i = 0; i < 3; i++) {
        job_init(&j, 0);
        submit(hurt, &j);
        MUST(job_wait(&j) == KAENA_DATA_LOSS);
        job_init(&j, 5);
        submit(healthy, &j);
        MUST(job_wait(&j) == KAENA_OK);
        check_added(&j, 5);
    }
    (void)close(fd);
    (void)dev_model_unload(hurt);
    (void)dev_model_unload(healthy);
    sys = dev_system_destroy(sys);
}

void dev_case_memory_is_accounted(void)
{
    dev_config config = {.n_chips = 1, .threads = 1, .dram_bytes = 1 << 20};
    dev_system *sys;
    kaena_err err;
    MUST(dev_system_create(&config, &sys, &err) == KAENA_OK);
    kneff k;
    adder(&k, 1);
    k.meta.scratch_bytes = 600 << 10;
    neff_file *f = kneff_open(&k);
    kneff_fini(&k);
    dev_model *first, *second = NULL;
    MUST(dev_model_load(sys, "first", f, &first, &err) == KAENA_OK);
    uint64_t used = dev_chip_info_of(sys, 0).dram_used;
    MUST(used == dev_model_dram_bytes(first) && used > 600 << 10);
    MUST(dev_model_load(sys, "second", f, &second, &err) == KAENA_RESOURCE_EXHAUSTED);
    MUST(second == NULL && err.needed == used && err.available == (1 << 20) - used);
    MUST(strstr(err.hint, "'first'"));
    MUST(dev_chip_info_of(sys, 0).dram_used == used);
    first = dev_model_unload(first);
    MUST(dev_chip_info_of(sys, 0).dram_used == 0);
    MUST(dev_model_load(sys, "second", f, &second, &err) == KAENA_OK);
    second = dev_model_unload(second);
    (void)neff_unref(f);
    sys = dev_system_destroy(sys);
}

/* Two TPBs of different chips; who has a group, who has none, copies that share weights. */
void dev_case_groups_and_replicas(void)
{
    dev_system *sys = make_system(2, 2);
    kaena_err err;
    dev_group *g, *h;
    MUST(dev_group_create(sys, "g", 3, 1, &g, &err) == KAENA_OK);
    MUST(dev_group_create(sys, "h", 3, 0, &h, &err) == KAENA_OK);
    uint32_t n;
    const dev_place *p = dev_group_places(g, &n);
    MUST(n == 3 && p[0].chip == 0 && p[2].chip == 0);
    p = dev_group_places(h, &n);
    MUST(n == 3 && p[0].chip == 1 && p[2].chip == 1);
    MUST(dev_group_create(sys, "i", 3, 0, &h, &err) == KAENA_RESOURCE_EXHAUSTED);
    MUST(err.needed == 3 && err.available == 2);
    MUST(dev_group_create(sys, "i", 1, 4, &h, &err) == KAENA_INVALID_ARGUMENT);
    MUST(dev_group_create(sys, "i", 0, 0, &h, &err) == KAENA_INVALID_ARGUMENT);
    kneff k;
    adder(&k, 1);
    neff_file *f = kneff_open(&k);
    kneff_fini(&k);
    dev_model *m[3], *outside, *refused = NULL;
    for (uint32_t i = 0; i < 3; i++)
        MUST(dev_model_load_at(
                 sys, f,
                 &(dev_load_options){.name = "in", .group = g, .replicas = m, .n_replicas = i},
                 &m[i], &err) == KAENA_OK);
    MUST(dev_model_load_at(
             sys, f, &(dev_load_options){.name = "in", .group = g, .replicas = m, .n_replicas = 3},
             &refused, &err) == KAENA_FAILED_PRECONDITION);
    MUST(!refused && err.needed == 1 && err.available == 0);
    MUST(dev_model_load(sys, "out", f, &outside, &err) == KAENA_OK);
    MUST(dev_model_places(outside, &n)->tpb == 3);
    uint64_t each = dev_model_dram_bytes(m[0]);
    MUST(dev_chip_info_of(sys, 0).dram_used >= 3 * each && dev_model_chip_bytes(m[0], 0) == each);
    uint64_t used = 0;
    for (uint32_t t = 0; t < 4; t++) {
        dev_tpb_info info = dev_tpb_info_of(sys, 0, t);
        MUST(info.dram_bytes == DEV_DRAM_BYTES / 4);
        used += info.dram_used;
    }
    MUST(used + dev_tpb_info_of(sys, 1, 3).dram_used == 4 * each);
    for (uint32_t i = 0; i < 3; i++) {
        job j;
        job_init(&j, (float)i);
        submit(m[i], &j);
        MUST(job_wait(&j) == KAENA_OK);
        check_added(&j, (float)i);
        (void)dev_model_unload(m[i]);
    }
    (void)dev_model_unload(outside);
    (void)neff_unref(f);
    MUST(dev_chip_info_of(sys, 0).dram_used + dev_chip_info_of(sys, 1).dram_used == 0);
    g = dev_group_destroy(g);
    MUST(dev_group_create(sys, "again", 4, 1, &g, &err) == KAENA_OK);
    g = dev_group_destroy(g);
    h = dev_group_destroy(h);
    sys = dev_system_destroy(sys);
}

/* CPU time of the process stands still while nothing runs. */
void dev_case_an_idle_system_sleeps(void)
{
    dev_system *sys = make_system(1, 3);
    kneff k;
    adder(&k, 1);
    dev_model *m = load(sys, &k, "adder");
    job j;
    job_init(&j, 0);
    submit(m, &j);
    MUST(job_wait(&j) == KAENA_OK);
    (void)usleep(20000);
    clock_t before = clock();
    (void)usleep(300000);
    MUST(clock() - before < CLOCKS_PER_SEC / 50);
    m = dev_model_unload(m);
    sys = dev_system_destroy(sys);
}

static bool begin_slowly(dev_request *request)
{
    (void)request;
    (void)usleep(50000);
    return true;
}

/* A request that wants no workers finds its TPB taken, for so long that its thread falls asleep:
 * the workers run every step of it then, not only the one that was waited with. */
void dev_case_who_falls_asleep_leaves_all_steps_to_others(void)
{
    static const char *const text[] = {
        "TT op=ADD a=" F32("IO0+0") " b=" F32("WEIGHTS+0") " dst=" F32("IO1+0") "\nHALT\n"};
    static float weights[WIDTH];
    for (int i = 0; i < WIDTH; i++)
        weights[i] = (float)i;
    kneff k;
    kneff_init(&k, 1, text);
    uint32_t value[4];
    static const char *const names[] = {"x", "a", "b", "y"};
    for (int i = 0; i < 4; i++)
        value[i] = kneff_value(&k, names[i], KAENA_F32, 2, dims);
    kneff_input(&k, value[0]);
    kneff_output(&k, value[3]);
    for (int i = 0; i < 3; i++)
        kneff_device(&k, 0, 2, &value[i], 2);
    kneff_weights(&k, weights, sizeof weights);
    k.meta.contexts = 2;
    dev_system *sys = make_system(1, 1);
    dev_model *m = load(sys, &k, "steps");
    for (int round = 0; round < 3; round++) {
        job slow, alone;
        job_init(&slow, 1);
        slow.request.begin = begin_slowly;
        submit(m, &slow);
        job_init(&alone, 2);
        alone.request.alone = true;
        MUST(dev_run(m, &alone.request));
        MUST(job_wait(&alone) == KAENA_OK && job_wait(&slow) == KAENA_OK);
        for (int i = 0; i < WIDTH; i++)
            MUST(alone.y[i] == 2 + 4 * (float)i && slow.y[i] == 1 + 4 * (float)i);
    }
    (void)dev_model_unload(m);
    (void)dev_system_destroy(sys);
}
