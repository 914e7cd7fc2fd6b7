/* Fuzz target: the NEFF reader with everything it verifies, and a bounded run of what verifies:
 * device steps one by one, which never touch memory outside their spaces, and plans with branches,
 * loops or cases as a whole. Checksums are made right before, so that a changed byte gets past
 * them. */
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#define XXH_STATIC_LINKING_ONLY
#include <xxhash.h>

#include "checked.h"
#include "dev.h"
#include "format.h"
#include "neff.h"
#include "tpb.h"

/* What a run may take, so that an input ends within milliseconds. */
#define MAX_BYTES (4u << 20)
#define MAX_WORK (1u << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Makes the checksums of sections and header those of their contents, and the size the file's. */
static void seal(uint8_t *file, size_t size)
{
    neff_disk_header h;
    if (size < sizeof h)
        return;
    memcpy(&h, file, sizeof h);
    if (h.n_sections > NEFF_MAX_SECTIONS ||
        size < sizeof h + h.n_sections * sizeof(neff_disk_section))
        return;
    h.file_bytes = size;
    h.xxh64 = 0;
    memset(h.digest, 0, sizeof h.digest);
    XXH64_state_t x;
    (void)XXH64_reset(&x, 0);
    (void)XXH64_update(&x, &h, sizeof h);
    for (uint32_t i = 0; i < h.n_sections; i++) {
        neff_disk_section s;
        uint8_t *at = file + sizeof h + i * sizeof s;
        memcpy(&s, at, sizeof s);
        if (kaena_range_inside(s.offset, s.size, size))
            s.xxh64 = XXH64(file + s.offset, s.size, 0);
        memcpy(at, &s, sizeof s);
        (void)XXH64_update(&x, &s, sizeof s);
    }
    h.xxh64 = XXH64_digest(&x);
    memcpy(file, &h, sizeof h);
}

static void must(bool condition)
{
    if (!condition)
        abort();
}

/* Elementary steps of a program, loops multiplied out. */
static uint64_t work_of(const kisa_program *p)
{
    uint64_t turns[KISA_MAX_LOOPS + 1] = {1}, sum = 0;
    uint32_t depth = 0;
    for (uint32_t i = 0; i < p->n; i++) {
        uint64_t w = kisa_work(&p->inst[i], KISA_TILE_PANELS);
        if (p->inst[i].op == KISA_END)
            depth--;
        if (p->inst[i].op == KISA_LOOP) {
            turns[depth + 1] = turns[depth] * p->inst[i].u.loop.count;
            depth++;
        }
        if (w > MAX_WORK || turns[depth] > MAX_WORK)
            return UINT64_MAX;
        sum += w * turns[depth];
    }
    return sum;
}

/* Every space is a block of its own and of exactly its size: sanitizers guard the ends. */
static uint8_t *block(uint64_t bytes)
{
    void *p = NULL;
    must(posix_memalign(&p, 64, bytes ? bytes : 1) == 0);
    memset(p, 0x3c, bytes); /* a small number in every type */
    return p;
}

/* Runs one device step, fused or instruction by instruction. */
static void run_step(const neff_file *f, const Kaena__V1__NeffDeviceStep *d, bool fuse)
{
    uint32_t n = neff_meta(f)->num_tpbs;
    kaena_arena arena;
    kaena_arena_init(&arena, 0);
    kisa_program *slice = KAENA_NEW_N(&arena, kisa_program, n);
    tpb_code **code = KAENA_NEW_N(&arena, tpb_code *, n);
    tpb_bind *bind = KAENA_NEW_N(&arena, tpb_bind, n);
    uint8_t **io = KAENA_NEW_N(&arena, uint8_t *, d->n_io);
    _Atomic uint32_t error = 0;
    ker_level level;
    kaena_err err;
    uint64_t weights_bytes;
    const uint8_t *mapped = neff_weights(f, &weights_bytes);
    uint8_t *weights = block(weights_bytes), *scratch = block(neff_meta(f)->scratch_bytes);
    if (weights_bytes)
        memcpy(weights, mapped, weights_bytes);
    must(ker_level_detect(&level));
    for (size_t i = 0; i < d->n_io; i++)
        io[i] = block(neff_value(f, d->io[i]).bytes);
    for (uint32_t t = 0; t < n; t++) {
        slice[t] = neff_program_at(f, t, d->entries[t]);
        must(tpb_predecode(&arena, &slice[t], fuse, &code[t], &err) == KAENA_OK);
        bind[t] = (tpb_bind){.sb = block(neff_meta(f)->sb_bytes),
                             .psum = block(KISA_PSUM_BYTES),
                             .weights = weights,
                             .scratch = scratch,
                             .io = io,
                             .ker = ker_table_of(level),
                             .error = &error};
    }
    tpb_run *run;
    must(tpb_run_create((const tpb_code *const *)code, bind, n, &run, &err) == KAENA_OK);
    tpb_run_alone(run);
    run = tpb_run_destroy(run);
    for (uint32_t t = 0; t < n; t++) {
        free(bind[t].sb);
        free(bind[t].psum);
    }
    for (size_t i = 0; i < d->n_io; i++)
        free(io[i]);
    free(weights);
    free(scratch);
    kaena_arena_fini(&arena);
}

static bool small_enough(const neff_file *f, const Kaena__V1__NeffDeviceStep *d)
{
    const Kaena__V1__NeffMeta *m = neff_meta(f);
    uint64_t bytes = m->scratch_bytes + m->sb_bytes * m->num_tpbs, work = 0;
    for (size_t i = 0; i < d->n_io; i++)
        bytes += neff_value(f, d->io[i]).bytes;
    for (uint32_t t = 0; t < m->num_tpbs; t++) {
        kisa_program p = neff_program_at(f, t, d->entries[t]);
        uint64_t w = work_of(&p);
        if (w > MAX_WORK)
            return false;
        work += w;
    }
    return bytes <= MAX_BYTES && work <= MAX_WORK && m->num_tpbs <= 4;
}

/* --- Whole plans
 * --------------------------------------------------------------------------------------------------------------
 */

#define MAX_QUOTA (16u << 20)
#define RUN_MS 20
#define MAX_DIM 16

static const Kaena__V1__NeffPlan *plan_at(const Kaena__V1__NeffMeta *m, size_t i)
{
    return i < m->n_bodies ? m->bodies[i] : m->plan;
}

static bool plan_is_small(const neff_file *f)
{
    const Kaena__V1__NeffMeta *m = neff_meta(f);
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < neff_n_values(f); i++)
        bytes += neff_value(f, i).bytes;
    bool small = m->n_bodies > 0 && bytes <= MAX_BYTES && m->host_quota_bytes <= MAX_QUOTA &&
                 m->contexts <= 2 && m->num_tpbs <= 4 && m->scratch_bytes <= MAX_BYTES;
    for (size_t i = 0; small && i <= m->n_bodies; i++)
        for (size_t k = 0; small && k < plan_at(m, i)->n_steps; k++) {
            const Kaena__V1__NeffStep *s = plan_at(m, i)->steps[k];
            small = s->kind_case != KAENA__V1__NEFF_STEP__KIND_DEVICE || small_enough(f, s->device);
        }
    return small;
}

/* Small numbers, empty strings, empty sequences; what has no size gets size 1. */
static kop_tensor some_input(kaena_arena *arena, const neff_tensor *want)
{
    kop_tensor t = {.dtype = want->dtype, .form = want->form, .shape = want->shape};
    t.data = kaena_arena_alloc(arena, 1);
    if (want->form != KOP_FORM_TENSOR)
        return t;
    if (want->any_rank)
        t.shape.rank = 0;
    for (int32_t d = 0; d < t.shape.rank; d++)
        if (t.shape.dim[d] < 0 || t.shape.dim[d] > MAX_DIM)
            t.shape.dim[d] = 1; /* too large a one is not what the model takes */
    int64_t elements;
    if (!kaena_shape_elements(&t.shape, &elements) || elements > MAX_WORK)
        t.shape.rank = 0;
    size_t size = kaena_dtype_size(t.dtype), n = kop_elements(&t);
    t.data = kaena_arena_array(arena, n ? n : 1, size);
    memset(t.data, want->dtype == KAENA_STRING ? 0 : 1, n * size);
    for (size_t i = 0; want->dtype == KAENA_STRING && i < n; i++)
        ((kaena_string *)t.data)[i].data = "";
    return t;
}

static void plan_done(dev_request *request, kaena_status status, const kaena_err *err)
{
    must(status == KAENA_OK || err->what[0]);
    atomic_store((atomic_bool *)request->user, true);
}

static void run_plan(neff_file *f)
{
    const dev_config config = {.n_chips = 1, .threads = 1};
    dev_system *sys;
    dev_model *model;
    kaena_err err;
    uint64_t items;
    kaena_arena arena;
    kaena_arena_init(&arena, 0);
    kop_tensor *in = KAENA_NEW_N(&arena, kop_tensor, neff_n_inputs(f)),
               *out = KAENA_NEW_N(&arena, kop_tensor, neff_n_outputs(f));
    for (uint32_t i = 0; i < neff_n_inputs(f); i++) {
        neff_tensor want = neff_input(f, i);
        in[i] = some_input(&arena, &want);
    }
    must(dev_system_create(&config, &sys, &err) == KAENA_OK);
    if (dev_model_load(sys, "fuzz", f, &model, &err) == KAENA_OK) {
        atomic_bool stop = false, done = false;
        dev_request request = {
            .in_tensor = in, .out_tensor = out, .stop = &stop, .done = plan_done, .user = &done};
        if (dev_model_check(model, in, &items, &err) == KAENA_OK && dev_submit(model, &request)) {
            for (int ms = 0; !atomic_load(&done); ms++) {
                atomic_store(&stop, ms >= RUN_MS);
                (void)usleep(1000);
            }
        }
        model = dev_model_unload(model);
    }
    sys = dev_system_destroy(sys);
    kaena_arena_fini(&arena);
}

static void use(neff_file *f)
{
    const Kaena__V1__NeffMeta *m = neff_meta(f);
    kaena_err err;
    must(neff_check_weights(f, NULL, &err) == KAENA_OK);
    for (size_t i = 0; i < m->plan->n_steps && i < 4; i++) {
        const Kaena__V1__NeffStep *s = m->plan->steps[i];
        if (s->kind_case != KAENA__V1__NEFF_STEP__KIND_DEVICE || !small_enough(f, s->device))
            continue;
        run_step(f, s->device, false);
        run_step(f, s->device, true);
    }
    if (plan_is_small(f))
        run_plan(f);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size > 1 << 18)
        return 0;
    uint8_t *file = malloc(size + 1);
    int fd = memfd_create("neff", MFD_CLOEXEC);
    if (!file || fd < 0)
        abort();
    memcpy(file, data, size);
    seal(file, size);
    if (write(fd, file, size) != (ssize_t)size)
        abort();
    neff_file *f;
    kaena_err err;
    kaena_err_init(&err);
    if (neff_open_fd(fd, "fuzz.neff", &f, &err) == KAENA_OK) {
        use(f);
        f = neff_unref(f);
    } else if (!err.what[0]) {
        abort();
    }
    (void)close(fd);
    free(file);
    return 0;
}
