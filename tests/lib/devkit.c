#include "devkit.h"

#include <string.h>
#include <unistd.h>

const int64_t dims[2] = {1, WIDTH};

static void job_done(dev_request *r, kaena_status status, const kaena_err *err)
{
    job *j = r->user;
    (void)pthread_mutex_lock(&j->lock);
    j->status = status;
    if (err)
        j->err = *err;
    j->done = true;
    (void)pthread_cond_signal(&j->cond);
    (void)pthread_mutex_unlock(&j->lock);
}

void job_init(job *j, float start)
{
    memset(j, 0, sizeof *j);
    (void)pthread_mutex_init(&j->lock, NULL);
    (void)pthread_cond_init(&j->cond, NULL);
    for (int i = 0; i < WIDTH; i++)
        j->x[i] = start + (float)i;
    j->in[0] = j->x;
    j->out[0] = j->y;
    j->request = (dev_request){.in = j->in, .out = j->out, .done = job_done, .user = j};
}

kaena_status job_wait(job *j)
{
    (void)pthread_mutex_lock(&j->lock);
    while (!j->done)
        (void)pthread_cond_wait(&j->cond, &j->lock);
    (void)pthread_mutex_unlock(&j->lock);
    MUST(j->request.finished_ns >= j->request.started_ns && j->request.started_ns);
    return j->status;
}

void submit(dev_model *m, job *j)
{
    while (!dev_submit(m, &j->request))
        (void)usleep(100);
}

dev_system *make_system(uint32_t chips, uint32_t threads)
{
    dev_config config = {.n_chips = chips, .threads = threads};
    dev_system *sys;
    kaena_err err;
    if (dev_system_create(&config, &sys, &err) != KAENA_OK) {
        (void)fprintf(stderr, "%s\n", err.what);
        abort();
    }
    return sys;
}

dev_model *load(dev_system *sys, kneff *k, const char *name)
{
    neff_file *f = kneff_open(k);
    dev_model *m;
    kaena_err err;
    if (dev_model_load(sys, name, f, &m, &err) != KAENA_OK) {
        (void)fprintf(stderr, "%s\n", err.what);
        abort();
    }
    (void)neff_unref(f);
    kneff_fini(k);
    return m;
}

void adder(kneff *k, uint32_t contexts)
{
    static const char *const text[] = {"TT op=ADD a=" F32("IO0+0") " b=" F32(
        "WEIGHTS+0") " dst=" F32("SB+0") "\nCOPY src=" F32("SB+0") " dst=" F32("IO1+0") "\nHALT\n"};
    static float weights[WIDTH];
    for (int i = 0; i < WIDTH; i++)
        weights[i] = (float)i;
    kneff_init(k, 1, text);
    uint32_t x = kneff_value(k, "x", KAENA_F32, 2, dims),
             y = kneff_value(k, "y", KAENA_F32, 2, dims);
    kneff_input(k, x);
    kneff_output(k, y);
    kneff_device(k, 0, 2, (uint32_t[]){x, y}, 2);
    kneff_weights(k, weights, sizeof weights);
    k->meta.contexts = contexts;
    k->meta.sb_bytes = 4096;
}

void check_added(const job *j, float start)
{
    for (int i = 0; i < WIDTH; i++)
        MUST(j->y[i] == start + 2 * (float)i);
}
