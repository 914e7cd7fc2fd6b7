#include "neff_run.h"

#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "checked.h"
#include "host.h"
#include "tpb.h"

#define MAX_THREADS 8

/* The memories of a device step's TPBs. */
typedef struct memory {
    uint8_t *sb[KISA_MAX_TPBS], *psum[KISA_MAX_TPBS], *scratch;
    _Atomic uint32_t error;
} memory;

static uint8_t *fill(uint64_t bytes, uint8_t rubbish)
{
    size_t size = (size_t)kaena_align_up(bytes + 1, 64);
    uint8_t *p = aligned_alloc(64, size);
    if (!p)
        abort();
    memset(p, rubbish, size);
    return p;
}

static void memory_init(memory *m, const Kaena__V1__NeffMeta *meta, uint8_t rubbish)
{
    *m = (memory){.scratch = fill(meta->scratch_bytes, rubbish)};
    for (uint32_t t = 0; t < meta->num_tpbs; t++) {
        m->sb[t] = fill(meta->sb_bytes, rubbish);
        m->psum[t] = fill(KISA_PSUM_BYTES, rubbish);
    }
}

static void memory_fini(memory *m)
{
    for (uint32_t t = 0; t < KISA_MAX_TPBS; t++) {
        free(m->sb[t]);
        free(m->psum[t]);
    }
    free(m->scratch);
}

static void *help(void *run)
{
    for (tpb_help did; (did = tpb_run_help(run, NULL)) != TPB_DONE;)
        if (did == TPB_IDLE)
            (void)sched_yield();
    return NULL;
}

static void run_in_threads(tpb_run *run, uint32_t threads)
{
    pthread_t thread[MAX_THREADS];
    tpb_run_reset_in_turn(run, &(tpb_order){.threads = threads});
    for (uint32_t i = 1; i < threads; i++)
        if (pthread_create(&thread[i], NULL, help, run) != 0)
            abort();
    (void)help(run);
    for (uint32_t i = 1; i < threads; i++)
        (void)pthread_join(thread[i], NULL);
}

static void run_by_steps(tpb_run *run, uint32_t n_tpbs)
{
    bool halted[KISA_MAX_TPBS] = {0};
    for (uint32_t left = n_tpbs; left > 0;)
        for (uint32_t t = 0; t < n_tpbs; t++) {
            tpb_step state = {0};
            /* On until it waits: a step of a TPB that has to wait does nothing. */
            while (!halted[t] && !state.waiting) {
                tpb_step_one(run, t, &state);
                halted[t] = state.halted;
                left -= state.halted;
            }
        }
}

static kaena_status run_device(kaena_arena *arena, const neff_file *file, const neff_way *way,
                               const Kaena__V1__NeffDeviceStep *step, const kop_tensor *value,
                               kaena_err *err)
{
    const Kaena__V1__NeffMeta *meta = neff_meta(file);
    kisa_program program[KISA_MAX_TPBS];
    const tpb_code *code[KISA_MAX_TPBS];
    tpb_bind bind[KISA_MAX_TPBS];
    uint64_t weights_bytes;
    const uint8_t *weights = neff_weights(file, &weights_bytes);
    uint8_t **io = KAENA_NEW_N(arena, uint8_t *, step->n_io);
    for (size_t i = 0; i < step->n_io; i++)
        io[i] = value[step->io[i]].data;
    memory m;
    memory_init(&m, meta, way->rubbish);
    kaena_status status = KAENA_OK;
    for (uint32_t t = 0; t < meta->num_tpbs && status == KAENA_OK; t++) {
        tpb_code *c = NULL;
        program[t] = neff_program_at(file, t, step->entries[t]);
        status = tpb_predecode(arena, &program[t], !way->stepped, &c, err);
        code[t] = c;
        bind[t] = (tpb_bind){.sb = m.sb[t],
                             .psum = m.psum[t],
                             .weights = weights,
                             .scratch = m.scratch,
                             .io = io,
                             .ker = ker_table_of(way->level),
                             .error = &m.error};
    }
    tpb_run *run = NULL;
    if (status == KAENA_OK)
        status = tpb_run_create(code, bind, meta->num_tpbs, &run, err);
    if (status == KAENA_OK) {
        if (way->stepped)
            run_by_steps(run, meta->num_tpbs);
        else
            run_in_threads(run, way->threads);
        tpb_run_destroy(run);
        if (m.error)
            status = KAENA_FAIL(err, OUT_OF_RANGE, "an index was out of range");
    }
    memory_fini(&m);
    return status;
}

static kaena_status run_host(kaena_arena *arena, const neff_file *file,
                             const Kaena__V1__NeffHostStep *step, kop_tensor *value, kaena_err *err)
{
    kop_tensor *in = KAENA_NEW_N(arena, kop_tensor, step->n_inputs),
               *out = KAENA_NEW_N(arena, kop_tensor, step->n_outputs);
    neff_tensor *declared = KAENA_NEW_N(arena, neff_tensor, step->n_outputs);
    for (size_t i = 0; i < step->n_inputs; i++)
        in[i] = value[step->inputs[i]];
    for (size_t i = 0; i < step->n_outputs; i++)
        declared[i] = neff_value(file, step->outputs[i]);
    KAENA_TRY(host_run(neff_graph(file, step->graph), in, declared, out, arena, NULL, err));
    for (size_t i = 0; i < step->n_outputs; i++)
        value[step->outputs[i]] = out[i];
    return KAENA_OK;
}

kaena_status neff_run(kaena_arena *arena, const neff_file *file, const neff_way *way,
                      const kop_tensor *in, kop_tensor *out, kaena_err *err)
{
    const Kaena__V1__NeffMeta *meta = neff_meta(file);
    kop_tensor *value = KAENA_NEW_N(arena, kop_tensor, meta->n_values);
    for (uint32_t i = 0; i < meta->n_values; i++) {
        neff_tensor t = neff_value(file, i);
        value[i] = (kop_tensor){.dtype = t.dtype, .shape = t.shape};
        if (t.bytes) {
            value[i].data = kaena_arena_alloc(arena, (size_t)t.bytes);
            memset(value[i].data, way->rubbish, (size_t)t.bytes);
        }
    }
    for (uint32_t i = 0; i < meta->n_inputs; i++)
        value[meta->inputs[i]].data = in[i].data;
    for (size_t i = 0; i < meta->plan->n_steps; i++) {
        const Kaena__V1__NeffStep *step = meta->plan->steps[i];
        if (step->kind_case == KAENA__V1__NEFF_STEP__KIND_DEVICE)
            KAENA_TRY_WRAP(err, run_device(arena, file, way, step->device, value, err),
                           "device step %zu", i);
        else
            KAENA_TRY_WRAP(err, run_host(arena, file, step->host, value, err), "host step %zu", i);
    }
    for (uint32_t i = 0; i < meta->n_outputs; i++)
        out[i] = value[meta->outputs[i]];
    return KAENA_OK;
}
