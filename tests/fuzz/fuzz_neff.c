/* Fuzz target: the NEFF reader with everything it verifies, and a bounded run of what verifies:
 * it never touches memory outside its spaces. Checksums are made right before, so that a changed
 * byte gets past them. */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#define XXH_STATIC_LINKING_ONLY
#include <xxhash.h>

#include "checked.h"
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

static void use(const neff_file *f)
{
    const Kaena__V1__NeffPlan *plan = neff_meta(f)->plan;
    kaena_err err;
    must(neff_check_weights(f, &err) == KAENA_OK);
    for (size_t i = 0; i < plan->n_steps && i < 4; i++) {
        const Kaena__V1__NeffStep *s = plan->steps[i];
        if (s->kind_case != KAENA__V1__NEFF_STEP__KIND_DEVICE || !small_enough(f, s->device))
            continue;
        run_step(f, s->device, false);
        run_step(f, s->device, true);
    }
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
