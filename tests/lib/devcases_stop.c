/* Executions that are stopped, or not wanted any more before they begin. */
#include <string.h>

#include "devcases.h"
#include "devkit.h"
#include "kmodels.h"

static const bool yes = true, no = false;

/* A job that counts how often it began, and does not where |refuse| is set. */
typedef struct watched {
    job j;
    atomic_bool stop, refuse;
    atomic_uint begun;
} watched;

static bool count_begin(dev_request *r)
{
    watched *w = (watched *)r->user;
    (void)atomic_fetch_add(&w->begun, 1);
    return !atomic_load(&w->refuse);
}

static void watch(watched *w, float start, bool forever)
{
    memset(w, 0, sizeof *w);
    job_init(&w->j, start);
    w->j.in[1] = forever ? &yes : &no;
    w->j.request.stop = &w->stop;
    w->j.request.begin = count_begin;
}

static void wait_begun(watched *w)
{
    while (!atomic_load(&w->begun))
        sched_yield();
}

static void run_short(dev_model *m, float start, float factor)
{
    watched w;
    watch(&w, start, false);
    submit(m, &w.j);
    MUST(job_wait(&w.j) == KAENA_OK && w.begun == 1);
    for (int i = 0; i < WIDTH; i++)
        MUST(w.j.y[i] == factor * (start + (float)i));
}

void dev_case_a_stopped_execution_leaves_its_model_whole(void)
{
    dev_system *sys = make_system(1, 2);
    kneff k;
    km_moody(&k);
    dev_model *m = load(sys, &k, "moody");
    adder(&k, 1);
    dev_model *other = load(sys, &k, "other");
    for (int round = 0; round < 3; round++) {
        run_short(m, 8, 1);
        run_short(m, 8, 2); /* SB keeps what it has */
        watched stuck;
        watch(&stuck, 1, true);
        submit(m, &stuck.j);
        wait_begun(&stuck);
        uint64_t busy = dev_busy_ns(sys, 0, 0);
        while (dev_busy_ns(sys, 0, 0) - busy < 1000000) /* it works, and is seen to */
            sched_yield();
        MUST(!dev_model_idle(m) && !stuck.j.done);
        job j;
        job_init(&j, 3);
        submit(other, &j);
        atomic_store(&stuck.stop, true);
        MUST(job_wait(&stuck.j) == KAENA_CANCELLED && stuck.begun == 1);
        MUST(strstr(stuck.j.err.what, "'moody': stopped in step"));
        MUST(stuck.j.request.tpb_ns >= 1000000);
        MUST(job_wait(&j) == KAENA_OK);
        check_added(&j, 3);
        run_short(m, 5, 1);      /* SB is zeros again */
        atomic_bool stop = true; /* of a request that is never looked at again */
        job late;
        job_init(&late, 0);
        late.in[1] = &yes;
        late.request.stop = &stop;
        MUST(dev_run(m, &late.request));
        MUST(late.done && late.status == KAENA_CANCELLED);
        watched alone; /* its caller did not expect it to take so long, and is not kept */
        watch(&alone, 1, true);
        alone.j.request.alone = true;
        MUST(dev_run(m, &alone.j.request) && alone.begun == 1);
        atomic_store(&alone.stop, true);
        MUST(job_wait(&alone.j) == KAENA_CANCELLED);
    }
    uint64_t busy = dev_busy_ns(sys, 0, 0);
    MUST(dev_model_idle(m) && dev_busy_ns(sys, 0, 0) == busy);
    MUST(dev_busy_ns(sys, 0, 3) == 0);
    (void)dev_model_unload(other);
    (void)dev_model_unload(m);
    sys = dev_system_destroy(sys);
}

/* Whatever waits behind another execution is asked for when its turn comes, and not before. */
void dev_case_what_nobody_wants_never_begins(void)
{
    dev_system *sys = make_system(1, 2);
    kneff k;
    km_moody(&k);
    dev_model *m = load(sys, &k, "moody");
    run_short(m, 8, 1);
    watched stuck, behind;
    watch(&stuck, 1, true);
    submit(m, &stuck.j);
    wait_begun(&stuck);
    watch(&behind, 2, false);
    behind.refuse = true;
    submit(m, &behind.j);
    MUST(!behind.begun && !behind.j.done);
    atomic_store(&stuck.stop, true);
    MUST(job_wait(&stuck.j) == KAENA_CANCELLED);
    MUST(job_wait(&behind.j) == KAENA_CANCELLED && behind.begun == 1);
    MUST(strstr(behind.j.err.what, "not wanted any more when its turn came"));
    MUST(behind.j.y[1] == 0 && behind.j.request.tpb_ns == 0);
    run_short(m, 8, 1); /* what was stopped was cleared, what never began did nothing */
    m = dev_model_unload(m);
    /* The host's work likewise. */
    static const char *const text[] = {"HALT\n"};
    kneff_init(&k, 1, text);
    uint32_t x = kneff_value(&k, "x", KAENA_F32, 2, dims),
             y = kneff_value(&k, "y", KAENA_F32, 2, dims);
    kneff_input(&k, x);
    kneff_output(&k, y);
    kneff_host(&k, "graph \"h\" { input %x: float32[1,64] %y: float32[1,64] = Neg(%x) output %y }",
               1, &x, 1, &y);
    m = load(sys, &k, "host");
    for (int round = 0; round < 2; round++) {
        watched w;
        watch(&w, 4, false);
        w.refuse = round == 0;
        submit(m, &w.j);
        MUST(job_wait(&w.j) == (round ? KAENA_OK : KAENA_CANCELLED) && w.begun == 1);
        MUST(w.j.y[1] == (round ? -5 : 0));
    }
    m = dev_model_unload(m);
    sys = dev_system_destroy(sys);
}
