/* krtd over models that live in this file, for tests of the daemon itself: slow, failing, large or
 * tiny ones at will, before and without a compiler. A model's file is text:
 *
 *     kaena-fake
 *     name identity
 *     input x float32 2,3          (any number; "-" for a scalar)
 *     output y float32 2,3         (gets the bytes of the input of the same position, else zeros)
 *     tpbs 2                       (1 otherwise; the least loaded ones that it may have)
 *     contexts 2
 *     sleep_ms 50                  (an execution takes that long)
 *     host 1                       (has a host step)
 *     dram 1000                    (bytes of device memory; a chip has 1000000)
 *     fail DATA_LOSS               (every execution fails so)
 *     bad_weights 1                (the check in the background fails)
 */
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "krt.h"

#define MAX_TENSORS 8
#define CHIP_BYTES 1000000
#define TPBS_PER_CHIP 4
#define FILE_BYTES 65536
#define SLEEP_STEP_NS 5000000

typedef struct fake_system {
    krt_jobs *workers;
    uint32_t n_tpbs;
    _Atomic uint64_t busy_ns[KRT_MAX_TPBS];
    pthread_mutex_t lock; /* of all below */
    uint64_t used[KRT_MAX_CHIPS];
    uint32_t models[KRT_MAX_TPBS]; /* on each TPB */
    uint64_t grouped;              /* TPBs of groups */
} fake_system;

typedef struct fake_group {
    fake_system *system;
    uint64_t tpbs;
} fake_group;

struct krt_image {
    fake_system *system;
    char name[128], fail[32];
    char tensor_names[2 * MAX_TENSORS][64];
    krt_tensor in[MAX_TENSORS], out[MAX_TENSORS];
    size_t n_in, n_out;
    uint32_t contexts, sleep_ms;
    uint64_t dram;
    uint32_t n_tpbs;
    bool host, bad_weights;
    uint32_t n_replicas;
    krt_place places[KRT_MAX_TPBS];
    uint64_t chip_bytes[KRT_MAX_CHIPS];
    _Atomic uint32_t busy[KRT_MAX_TPBS]; /* contexts of each replica */
};

typedef struct fake_run {
    krt_job job;
    krt_image *image;
    uint32_t replica;
} fake_run;

static uint64_t now_ns(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static kaena_status fake_create(uint32_t n_chips, uint32_t n_threads, void **out, kaena_err *err)
{
    fake_system *s = calloc(1, sizeof *s);
    if (!s)
        return KAENA_FAIL(err, RESOURCE_EXHAUSTED, "out of memory");
    s->n_tpbs = n_chips * TPBS_PER_CHIP;
    (void)pthread_mutex_init(&s->lock, NULL);
    *out = s;
    return krt_jobs_create(n_threads, 0, &s->workers, err);
}

static void fake_destroy(void *self)
{
    fake_system *s = self;
    (void)krt_jobs_destroy(s->workers);
    (void)pthread_mutex_destroy(&s->lock);
    free(s);
}

static krt_chip_info fake_chip(void *self, uint32_t chip)
{
    fake_system *s = self;
    (void)pthread_mutex_lock(&s->lock);
    krt_chip_info info = {.dram_bytes = CHIP_BYTES, .dram_used = s->used[chip]};
    (void)pthread_mutex_unlock(&s->lock);
    return info;
}

static krt_tpb_info fake_tpb(void *self, uint32_t chip, uint32_t tpb)
{
    (void)self;
    (void)chip;
    (void)tpb;
    return (krt_tpb_info){.dram_bytes = CHIP_BYTES / TPBS_PER_CHIP};
}

static uint64_t fake_busy_ns(void *self, uint32_t chip, uint32_t tpb)
{
    fake_system *s = self;
    return atomic_load(&s->busy_ns[chip * TPBS_PER_CHIP + tpb]);
}

/* The least loaded |n| of the TPBs, as a set; 0: there are not so many. With the lock held. */
static uint64_t least_loaded(const fake_system *s, uint64_t allowed, uint32_t n)
{
    uint64_t taken = 0;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t best = KRT_MAX_TPBS;
        for (uint32_t t = 0; t < s->n_tpbs; t++)
            if (((allowed & ~taken) >> t & 1) &&
                (best == KRT_MAX_TPBS || s->models[t] < s->models[best]))
                best = t;
        if (best == KRT_MAX_TPBS)
            return 0;
        taken |= UINT64_C(1) << best;
    }
    return taken;
}

static void list_places(uint64_t tpbs, krt_place *places)
{
    for (uint32_t t = 0; t < KRT_MAX_TPBS; t++)
        if (tpbs >> t & 1)
            *places++ = (krt_place){t / TPBS_PER_CHIP, t % TPBS_PER_CHIP};
}

static kaena_status fake_group_create(void *self, const char *name, uint32_t n, uint32_t chips,
                                      krt_place *places, void **out, kaena_err *err)
{
    fake_system *s = self;
    fake_group *g = calloc(1, sizeof *g);
    if (!g)
        return KAENA_FAIL(err, RESOURCE_EXHAUSTED, "out of memory");
    uint64_t on = 0;
    for (uint32_t t = 0; t < s->n_tpbs; t++)
        on |= !chips || chips >> (t / TPBS_PER_CHIP) & 1 ? UINT64_C(1) << t : 0;
    (void)pthread_mutex_lock(&s->lock);
    g->system = s;
    g->tpbs = least_loaded(s, on & ~s->grouped, n);
    s->grouped |= g->tpbs;
    (void)pthread_mutex_unlock(&s->lock);
    if (!g->tpbs) {
        free(g);
        return KAENA_FAIL(err, RESOURCE_EXHAUSTED, "group '%s': no %" PRIu32 " TPBs are free", name,
                          n);
    }
    list_places(g->tpbs, places);
    *out = g;
    return KAENA_OK;
}

static void fake_group_destroy(void *group)
{
    fake_group *g = group;
    (void)pthread_mutex_lock(&g->system->lock);
    g->system->grouped &= ~g->tpbs;
    (void)pthread_mutex_unlock(&g->system->lock);
    free(g);
}

static bool parse_tensor(krt_image *m, const char *rest, krt_tensor *t, char *name)
{
    char type[32], dims[128];
    if (sscanf(rest, "%63s %31s %127s", name, type, dims) != 3)
        return false;
    *t = (krt_tensor){.name = name, .dtype = kaena_dtype_parse(type)};
    for (char *p = dims; *p >= '0' && *p <= '9' && t->shape.rank < KAENA_MAX_RANK;) {
        t->shape.dim[t->shape.rank++] = strtoll(p, &p, 10);
        p += *p == ',';
    }
    int64_t n;
    if (!kaena_shape_elements(&t->shape, &n))
        return false;
    t->bytes = (size_t)n * kaena_dtype_size(t->dtype);
    (void)m;
    return t->dtype != KAENA_DTYPE_NONE;
}

static bool parse_line(krt_image *m, const char *line)
{
    char key[32], rest[256] = "";
    if (sscanf(line, "%31s %255[^\n]", key, rest) < 1)
        return true;
    if (!strcmp(key, "name"))
        (void)snprintf(m->name, sizeof m->name, "%.100s", rest);
    else if (!strcmp(key, "input") && m->n_in < MAX_TENSORS)
        return parse_tensor(m, rest, &m->in[m->n_in], m->tensor_names[m->n_in]) && ++m->n_in;
    else if (!strcmp(key, "output") && m->n_out < MAX_TENSORS)
        return parse_tensor(m, rest, &m->out[m->n_out], m->tensor_names[MAX_TENSORS + m->n_out]) &&
               ++m->n_out;
    else if (!strcmp(key, "tpbs"))
        m->n_tpbs = (uint32_t)atoi(rest);
    else if (!strcmp(key, "contexts"))
        m->contexts = (uint32_t)atoi(rest);
    else if (!strcmp(key, "sleep_ms"))
        m->sleep_ms = (uint32_t)atoi(rest);
    else if (!strcmp(key, "host"))
        m->host = atoi(rest) != 0;
    else if (!strcmp(key, "bad_weights"))
        m->bad_weights = atoi(rest) != 0;
    else if (!strcmp(key, "dram"))
        m->dram = (uint64_t)atoll(rest);
    else if (!strcmp(key, "fail"))
        (void)snprintf(m->fail, sizeof m->fail, "%.30s", rest);
    else
        return false;
    return true;
}

static kaena_status fake_open(void *self, int fd, const char *label, krt_image **out,
                              kaena_err *err)
{
    char *text = calloc(1, FILE_BYTES + 1);
    krt_image *m = calloc(1, sizeof *m);
    if (!text || !m) {
        free(text);
        free(m);
        return KAENA_FAIL(err, RESOURCE_EXHAUSTED, "out of memory");
    }
    m->system = self;
    m->contexts = m->n_tpbs = 1;
    ssize_t n = pread(fd, text, FILE_BYTES, 0);
    bool ok = n > 0 && strncmp(text, "kaena-fake\n", 11) == 0;
    char *rest; /* several loads are under way at a time */
    for (char *line = ok ? strtok_r(text + 11, "\n", &rest) : NULL; line && ok;
         line = strtok_r(NULL, "\n", &rest))
        ok = parse_line(m, line);
    free(text);
    if (!ok) {
        free(m);
        return KAENA_FAIL(err, DATA_LOSS, "'%s' is not a model", label);
    }
    *out = m;
    return KAENA_OK;
}

static uint64_t replica_tpbs(const krt_image *m, uint32_t replica)
{
    uint64_t tpbs = 0;
    for (uint32_t t = 0; t < m->n_tpbs; t++) {
        const krt_place *p = &m->places[replica * m->n_tpbs + t];
        tpbs |= UINT64_C(1) << (p->chip * TPBS_PER_CHIP + p->tpb);
    }
    return tpbs;
}

/* With the lock held. */
static void count_models(fake_system *s, uint64_t tpbs, uint32_t by)
{
    for (uint32_t t = 0; t < s->n_tpbs; t++)
        if (tpbs >> t & 1)
            s->models[t] += by;
}

static void fake_close(krt_image *m)
{
    fake_system *s = m->system;
    (void)pthread_mutex_lock(&s->lock);
    for (uint32_t r = 0; r < m->n_replicas; r++) {
        count_models(s, replica_tpbs(m, r), (uint32_t)-1);
        s->used[m->places[r * m->n_tpbs].chip] -= m->dram;
    }
    (void)pthread_mutex_unlock(&s->lock);
    free(m);
}

/* With the lock held. */
static kaena_status add_replica(krt_image *m, const krt_placing *placing, uint64_t allowed,
                                kaena_err *err)
{
    fake_system *s = m->system;
    for (uint32_t r = 0; r < m->n_replicas; r++)
        allowed &= ~replica_tpbs(m, r);
    uint64_t tpbs = least_loaded(s, allowed, m->n_tpbs);
    if (!tpbs)
        return KAENA_FAIL(err, FAILED_PRECONDITION, "'%s' needs %" PRIu32 " TPBs", placing->name,
                          m->n_tpbs);
    krt_place *places = &m->places[m->n_replicas * m->n_tpbs];
    list_places(tpbs, places);
    uint64_t free_bytes = CHIP_BYTES - s->used[places->chip];
    if (m->dram > free_bytes) {
        (void)KAENA_FAIL(err, RESOURCE_EXHAUSTED,
                         "'%s' needs %" PRIu64 " bytes of device memory, %" PRIu64 " are free",
                         placing->name, m->dram, free_bytes);
        err->needed = m->dram;
        err->available = free_bytes;
        return KAENA_RESOURCE_EXHAUSTED;
    }
    s->used[places->chip] += m->dram;
    m->chip_bytes[places->chip] += m->dram;
    count_models(s, tpbs, 1);
    m->n_replicas++;
    return KAENA_OK;
}

static kaena_status fake_load(krt_image *m, const krt_placing *placing, kaena_err *err)
{
    fake_system *s = m->system;
    const fake_group *g = placing->group;
    kaena_status st = KAENA_OK;
    (void)pthread_mutex_lock(&s->lock);
    while (st == KAENA_OK && m->n_replicas < placing->replicas)
        st = add_replica(m, placing, g ? g->tpbs : ~s->grouped, err);
    (void)pthread_mutex_unlock(&s->lock);
    return placing->replicas == UINT32_MAX && m->n_replicas ? KAENA_OK : st;
}

static krt_image_info fake_info(const krt_image *m)
{
    return (krt_image_info){.model_name = m->name,
                            .digest = "fake",
                            .compiler = "none",
                            .in = m->in,
                            .out = m->out,
                            .n_in = m->n_in,
                            .n_out = m->n_out,
                            .device_only = !m->host,
                            .num_tpbs = m->n_tpbs,
                            .contexts = m->contexts,
                            .dram_bytes = m->dram * m->n_replicas,
                            .chip_bytes = m->chip_bytes,
                            .places = m->places,
                            .n_replicas = m->n_replicas};
}

static kaena_status fake_verify(krt_image *m, bool (*go_on)(void *user), void *user, kaena_err *err)
{
    if (!go_on(user))
        return KAENA_FAIL(err, CANCELLED, "given up");
    if (m->bad_weights)
        return KAENA_FAIL(err, DATA_LOSS, "checksum of WEIGHTS does not match");
    return KAENA_OK;
}

/* The context is free again before the caller hears of the end. */
static void end(krt_image *m, uint32_t replica, krt_exec *exec, kaena_status st,
                const kaena_err *err)
{
    exec->finished_ns = now_ns();
    exec->tpb_ns = exec->finished_ns - exec->started_ns;
    uint64_t tpbs = replica_tpbs(m, replica);
    for (uint32_t t = 0; t < m->system->n_tpbs; t++)
        if (tpbs >> t & 1)
            (void)atomic_fetch_add(&m->system->busy_ns[t], exec->tpb_ns);
    exec->tpb_ns *= m->n_tpbs;
    (void)atomic_fetch_sub(&m->busy[replica], 1);
    exec->done(exec, st, err);
}

/* False: it has been told to stop. */
static bool sleep_long(const krt_image *m, const krt_exec *exec)
{
    uint64_t until = now_ns() + m->sleep_ms * UINT64_C(1000000);
    for (uint64_t now = now_ns(); now < until; now = now_ns()) {
        if (atomic_load(exec->stop))
            return false;
        uint64_t left = until - now;
        struct timespec t = {.tv_nsec = (long)(left < SLEEP_STEP_NS ? left : SLEEP_STEP_NS)};
        (void)nanosleep(&t, NULL);
    }
    return true;
}

static void execute(krt_image *m, uint32_t replica, krt_exec *exec)
{
    kaena_err err;
    exec->started_ns = now_ns();
    if (!exec->begin(exec)) {
        end(m, replica, exec, KAENA_FAIL(&err, CANCELLED, "not wanted any more"), &err);
        return;
    }
    if (!sleep_long(m, exec)) {
        end(m, replica, exec, KAENA_FAIL(&err, CANCELLED, "stopped"), &err);
        return;
    }
    for (size_t i = 0; i < m->n_out; i++) {
        size_t n = i < m->n_in ? m->in[i].bytes : 0;
        if (!exec->out[i])
            continue;
        memset(exec->out[i], 0, m->out[i].bytes);
        memcpy(exec->out[i], n ? exec->in[i] : exec->out[i],
               n < m->out[i].bytes ? n : m->out[i].bytes);
    }
    if (!m->fail[0]) {
        end(m, replica, exec, KAENA_OK, NULL);
        return;
    }
    kaena_status st = strcmp(m->fail, "DATA_LOSS") == 0
                          ? KAENA_FAIL(&err, DATA_LOSS, "its weights are gone")
                          : KAENA_FAIL(&err, OUT_OF_RANGE, "an index is out of range");
    end(m, replica, exec, st, &err);
}

static bool take_context(krt_image *m, uint32_t replica)
{
    if (atomic_fetch_add(&m->busy[replica], 1) < m->contexts)
        return true;
    (void)atomic_fetch_sub(&m->busy[replica], 1);
    return false;
}

static void work(krt_job *job)
{
    krt_exec *exec = (krt_exec *)((char *)job - offsetof(krt_exec, of_backend));
    const fake_run *run = (fake_run *)(void *)job;
    execute(run->image, run->replica, exec);
}

static bool fake_submit(krt_image *m, uint32_t replica, krt_exec *exec)
{
    if (!take_context(m, replica))
        return false;
    fake_run *run = (fake_run *)(void *)exec->of_backend;
    *run = (fake_run){.job.run = work, .image = m, .replica = replica};
    krt_jobs_post(m->system->workers, &run->job);
    return true;
}

static bool fake_run_here(krt_image *m, uint32_t replica, krt_exec *exec)
{
    if (!take_context(m, replica))
        return false;
    execute(m, replica, exec);
    return true;
}

static bool fake_idle(const krt_image *m, uint32_t replica)
{
    return atomic_load(&((krt_image *)(uintptr_t)m)->busy[replica]) == 0;
}

int main(int argc, char **argv)
{
    static const krt_backend backend = {
        .create = fake_create,
        .destroy = fake_destroy,
        .tpbs_per_chip = TPBS_PER_CHIP,
        .chip = fake_chip,
        .tpb = fake_tpb,
        .busy_ns = fake_busy_ns,
        .group_create = fake_group_create,
        .group_destroy = fake_group_destroy,
        .open = fake_open,
        .close = fake_close,
        .load = fake_load,
        .info = fake_info,
        .verify = fake_verify,
        .submit = fake_submit,
        .run = fake_run_here,
        .idle = fake_idle,
    };
    return krt_main(argc, argv, &backend);
}
