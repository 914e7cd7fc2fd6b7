/* The daemon's devices: runtime/device behind krt_backend. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "dev.h"
#include "krt_backend.h"

struct krt_image {
    dev_system *system;
    neff_file *neff;
    dev_model **replicas; /* [n_replicas], once loaded */
    uint32_t n_replicas;
    krt_tensor *in, *out;
    krt_place *places;
    uint64_t chip_bytes[DEV_MAX_CHIPS];
};

/* What a krt_exec carries for us. */
static_assert(sizeof(dev_request) <= sizeof((krt_exec *)NULL)->of_backend, "dev_request must fit");

static kaena_status create(uint32_t n_chips, uint32_t n_threads, void **out, kaena_err *err)
{
    dev_config config = {.n_chips = n_chips, .threads = n_threads};
    dev_system *system;
    KAENA_TRY(dev_system_create(&config, &system, err));
    *out = system;
    return KAENA_OK;
}

static void destroy(void *self)
{
    (void)dev_system_destroy(self);
}

static krt_chip_info chip(void *self, uint32_t i)
{
    dev_chip_info info = dev_chip_info_of(self, i);
    return (krt_chip_info){.dram_bytes = info.dram_bytes, .dram_used = info.dram_used};
}

static krt_tpb_info tpb_info(void *self, uint32_t chip_index, uint32_t tpb)
{
    dev_tpb_info info = dev_tpb_info_of(self, chip_index, tpb);
    return (krt_tpb_info){.dram_bytes = info.dram_bytes, .dram_used = info.dram_used};
}

static kaena_status group_create(void *self, const char *name, uint32_t n, uint32_t chips,
                                 krt_place *places, void **out, kaena_err *err)
{
    dev_group *group;
    KAENA_TRY(dev_group_create(self, name, n, chips, &group, err));
    const dev_place *p = dev_group_places(group, &n);
    for (uint32_t i = 0; i < n; i++)
        places[i] = (krt_place){p[i].chip, p[i].tpb};
    *out = group;
    return KAENA_OK;
}

static void group_destroy(void *group)
{
    (void)dev_group_destroy(group);
}

static uint64_t busy_ns(void *self, uint32_t chip_index, uint32_t tpb)
{
    return dev_busy_ns(self, chip_index, tpb);
}

static void close_image(krt_image *image)
{
    for (uint32_t r = 0; r < image->n_replicas; r++)
        (void)dev_model_unload(image->replicas[r]);
    free(image->replicas);
    (void)neff_unref(image->neff);
    free(image->in);
    free(image->out);
    free(image->places);
    free(image);
}

static krt_tensor *describe(const neff_file *f, uint32_t n,
                            neff_tensor (*get)(const neff_file *f, uint32_t i))
{
    krt_tensor *list = calloc((size_t)n + 1, sizeof *list);
    for (uint32_t i = 0; i < n && list; i++) {
        neff_tensor t = get(f, i);
        list[i] = (krt_tensor){.name = t.name,
                               .dtype = t.dtype,
                               .shape = t.shape,
                               .bytes = (size_t)t.bytes,
                               .form = t.form,
                               .any_rank = t.any_rank};
    }
    return list;
}

/* Without fixed sizes there can be no buffers that are made once per model. */
static bool takes_values(const neff_file *f)
{
    bool values = neff_meta(f)->dynamic_batch != NULL;
    for (uint32_t i = 0; i < neff_n_inputs(f); i++) {
        neff_tensor t = neff_input(f, i);
        values = values || !neff_has_buffer(&t);
    }
    for (uint32_t i = 0; i < neff_n_outputs(f); i++) {
        neff_tensor t = neff_output(f, i);
        values = values || !neff_has_buffer(&t);
    }
    return values;
}

/* Clients see that they may bring as many items as they like. */
static void free_batches(krt_tensor *list, const uint32_t *at, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        list[at[i]].shape.dim[0] = KAENA_DIM_UNKNOWN;
        list[at[i]].bytes = 0;
    }
}

static kaena_status open_image(void *self, int fd, const char *label, krt_image **out,
                               kaena_err *err)
{
    krt_image *image = calloc(1, sizeof *image);
    if (!image)
        return KAENA_FAIL(err, RESOURCE_EXHAUSTED, "out of memory");
    image->system = self;
    kaena_status st = neff_open_fd(fd, label, &image->neff, err);
    if (st != KAENA_OK) {
        free(image);
        return st;
    }
    image->in = describe(image->neff, neff_n_inputs(image->neff), neff_input);
    image->out = describe(image->neff, neff_n_outputs(image->neff), neff_output);
    if (!image->in || !image->out) {
        close_image(image);
        return KAENA_FAIL(err, RESOURCE_EXHAUSTED, "out of memory");
    }
    const Kaena__V1__NeffDynamicBatch *batch = neff_meta(image->neff)->dynamic_batch;
    if (batch) {
        free_batches(image->in, batch->inputs, batch->n_inputs);
        free_batches(image->out, batch->outputs, batch->n_outputs);
    }
    *out = image;
    return KAENA_OK;
}

/* One replica more; |at_most|: only where TPBs are idle. */
static kaena_status add_replica(krt_image *image, const krt_placing *placing, bool at_most,
                                kaena_err *err)
{
    uint32_t n = image->n_replicas, n_tpbs = neff_meta(image->neff)->num_tpbs;
    dev_model **grown = realloc(image->replicas, (n + 1) * sizeof *grown);
    if (grown)
        image->replicas = grown;
    krt_place *places = realloc(image->places, (size_t)(n + 1) * n_tpbs * sizeof *places);
    if (places)
        image->places = places;
    if (!grown || !places)
        return KAENA_FAIL(err, RESOURCE_EXHAUSTED, "out of memory");
    const dev_load_options options = {.name = placing->name,
                                      .group = placing->group,
                                      .replicas = image->replicas,
                                      .n_replicas = n,
                                      .idle_only = at_most && n > 0};
    KAENA_TRY(dev_model_load_at(image->system, image->neff, &options, &image->replicas[n], err));
    image->n_replicas++;
    const dev_place *p = dev_model_places(image->replicas[n], &n_tpbs);
    for (uint32_t t = 0; t < n_tpbs; t++)
        image->places[n * n_tpbs + t] = (krt_place){p[t].chip, p[t].tpb};
    for (uint32_t c = 0; c < DEV_MAX_CHIPS; c++)
        image->chip_bytes[c] += dev_model_chip_bytes(image->replicas[n], c);
    return KAENA_OK;
}

static kaena_status load(krt_image *image, const krt_placing *placing, kaena_err *err)
{
    bool at_most = placing->replicas == UINT32_MAX;
    while (image->n_replicas < placing->replicas) {
        kaena_status st = add_replica(image, placing, at_most, err);
        if (st != KAENA_OK && at_most && image->n_replicas)
            return KAENA_OK;
        if (st != KAENA_OK)
            return placing->replicas == 1
                       ? st
                       : kaena_err_wrap(err, st, "replica %u of %u", image->n_replicas + 1,
                                        placing->replicas);
    }
    return KAENA_OK;
}

static krt_image_info info(const krt_image *image)
{
    const Kaena__V1__NeffMeta *meta = neff_meta(image->neff);
    krt_image_info i = {
        .model_name = meta->model_name,
        .digest = neff_digest(image->neff),
        .compiler = meta->compiler,
        .in = image->in,
        .out = image->out,
        .n_in = neff_n_inputs(image->neff),
        .n_out = neff_n_outputs(image->neff),
        .values = takes_values(image->neff),
        .num_tpbs = meta->num_tpbs,
        .estimated_latency_us = meta->n_estimates ? meta->estimates[0]->latency_us : 0,
    };
    if (image->n_replicas) {
        i.device_only = dev_model_device_only(image->replicas[0]);
        i.contexts = dev_model_contexts(image->replicas[0]);
        for (uint32_t r = 0; r < image->n_replicas; r++)
            i.dram_bytes += dev_model_dram_bytes(image->replicas[r]);
        i.chip_bytes = image->chip_bytes;
        i.places = image->places;
        i.n_replicas = image->n_replicas;
    }
    return i;
}

static kaena_status verify(krt_image *image, bool (*go_on)(void *user), void *user, kaena_err *err)
{
    const neff_pace pace = {go_on, user};
    KAENA_TRY(neff_check_weights(image->neff, &pace, err));
    return neff_check_digest(image->neff, &pace, err);
}

/* ---- running ---- */

static void done(dev_request *request, kaena_status status, const kaena_err *err)
{
    krt_exec *exec = request->user;
    exec->started_ns = request->started_ns;
    exec->finished_ns = request->finished_ns;
    exec->tpb_ns = request->tpb_ns;
    exec->batch_items = request->batch_items;
    exec->batch_slots = request->batch_slots;
    exec->done(exec, status, err);
}

static bool begin(dev_request *request)
{
    krt_exec *exec = request->user;
    return exec->begin(exec);
}

static dev_request *request_of(krt_exec *exec)
{
    dev_request *request = (dev_request *)(void *)exec->of_backend;
    *request = (dev_request){.in = exec->in,
                             .out = exec->out,
                             .in_tensor = exec->in_tensor,
                             .out_tensor = exec->out_tensor,
                             .stop = exec->stop,
                             .begin = begin,
                             .done = done,
                             .user = exec};
    return request;
}

static kaena_status check(const krt_image *image, const kop_tensor *in, kaena_err *err)
{
    uint64_t items;
    return dev_model_check(image->replicas[0], in, &items, err);
}

static bool submit(krt_image *image, uint32_t replica, krt_exec *exec)
{
    return dev_submit(image->replicas[replica], request_of(exec));
}

static bool run(krt_image *image, uint32_t replica, krt_exec *exec)
{
    dev_request *request = request_of(exec);
    request->alone = true; /* whoever runs a model in place knows it to be short */
    return dev_run(image->replicas[replica], request);
}

static bool idle(const krt_image *image, uint32_t replica)
{
    return dev_model_idle(image->replicas[replica]);
}

const krt_backend krt_device_backend = {
    .create = create,
    .destroy = destroy,
    .tpbs_per_chip = DEV_TPBS_PER_CHIP,
    .chip = chip,
    .tpb = tpb_info,
    .busy_ns = busy_ns,
    .group_create = group_create,
    .group_destroy = group_destroy,
    .open = open_image,
    .close = close_image,
    .load = load,
    .info = info,
    .verify = verify,
    .check = check,
    .submit = submit,
    .run = run,
    .idle = idle,
};
