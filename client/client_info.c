#include "client_info.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "arena.h"
#include "checked.h"
#include "dtype.h"
#include "shape.h"

/* Descriptions are small; a daemon that sends more than this is not believed. */
#define DESCRIPTION_BYTES (64u << 20)

/* The public part comes first, so that a pointer to it is a pointer to the whole. */
typedef struct model_box {
    kaena_model_info model;
    kaena_arena arena;
} model_box;

typedef struct model_list_box {
    kaena_model_list list;
    kaena_model_info **items;
} model_list_box;

typedef struct device_list_box {
    kaena_device_list list;
    kaena_arena arena;
    kaena_device **items;
} device_list_box;

static size_t tensor_bytes(const kaena_tensor_info *t)
{
    kaena_shape shape = {.rank = t->rank};
    int64_t elements;
    uint64_t bytes;
    if (t->rank > KAENA_MAX_RANK || t->dtype == KAENA_STRING)
        return 0;
    memcpy(shape.dim, t->shape, (size_t)t->rank * sizeof *t->shape);
    if (!kaena_shape_elements(&shape, &elements) ||
        !kaena_mul_u64((uint64_t)elements, kaena_dtype_size(t->dtype), &bytes))
        return 0;
    return bytes;
}

/* NULL: out of memory. */
static const kaena_tensor_info *copy_specs(kaena_arena *arena, size_t n,
                                           Kaena__V1__TensorSpec **specs)
{
    kaena_tensor_info *list = KAENA_NEW_N(arena, kaena_tensor_info, n);
    if (!list)
        return NULL;
    for (size_t i = 0; i < n; i++) {
        size_t rank = specs[i]->n_shape;
        int64_t *shape = KAENA_NEW_N(arena, int64_t, rank);
        list[i] = (kaena_tensor_info){.name = kaena_arena_strdup(arena, specs[i]->name),
                                      .shape = shape,
                                      .rank = (int32_t)rank,
                                      .dtype = (kaena_dtype)specs[i]->dtype,
                                      .kind = (kaena_kind)specs[i]->kind,
                                      .any_rank = specs[i]->any_rank != 0};
        if (!list[i].name || !shape)
            return NULL;
        if (rank > 0)
            memcpy(shape, specs[i]->shape, rank * sizeof *shape);
        if (list[i].kind == KAENA_TENSOR && !list[i].any_rank)
            list[i].bytes = tensor_bytes(&list[i]);
    }
    return list;
}

kaena_model_info *kaena_model_info_from_wire(const Kaena__V1__Model *m, const char *address)
{
    model_box *box = calloc(1, sizeof *box);
    if (!box)
        return NULL;
    kaena_arena_init(&box->arena, DESCRIPTION_BYTES);
    kaena_arena *a = &box->arena;
    box->model = (kaena_model_info){
        .name = kaena_arena_strdup(a, m->name),
        .daemon = kaena_arena_strdup(a, address),
        .digest = kaena_arena_strdup(a, m->digest),
        .compiler = kaena_arena_strdup(a, m->compiler),
        .inputs = copy_specs(a, m->n_inputs, m->inputs),
        .outputs = copy_specs(a, m->n_outputs, m->outputs),
        .input_count = m->n_inputs,
        .output_count = m->n_outputs,
        .id = m->id,
        .state = (kaena_model_state)m->state,
        .tpb_count = m->num_tpbs,
        .contexts = m->contexts,
        .queue_depth = m->queue_depth,
        .queued = m->queued,
        .dram_bytes = m->dram_bytes,
        .inferences = m->inferences,
        .failures = m->failures,
        .estimated_latency_us = m->estimated_latency_us,
        .group = kaena_arena_strdup(a, m->group),
        .version = kaena_arena_strdup(a, m->version),
        .replicas = m->replicas,
        .persistent = m->persistent != 0,
        .executions = m->executions,
    };
    const kaena_model_info *done = &box->model;
    if (!done->name || !done->daemon || !done->digest || !done->compiler || !done->inputs ||
        !done->outputs || !done->group || !done->version) {
        kaena_model_info_free(&box->model);
        return NULL;
    }
    return &box->model;
}

void kaena_model_info_free(kaena_model_info *model)
{
    if (!model)
        return;
    model_box *box = (model_box *)model;
    kaena_arena_fini(&box->arena);
    free(box);
}

kaena_model_list *kaena_model_list_create(void)
{
    return calloc(1, sizeof(model_list_box));
}

bool kaena_model_list_add(kaena_model_list *list, kaena_model_info *model)
{
    model_list_box *box = (model_list_box *)list;
    kaena_model_info **items =
        model ? realloc(box->items, (list->count + 1) * sizeof(kaena_model_info *)) : NULL;
    if (!items) {
        kaena_model_info_free(model);
        return false;
    }
    box->items = items;
    items[list->count++] = model;
    list->models = items;
    return true;
}

void kaena_model_list_free(kaena_model_list *list)
{
    if (!list)
        return;
    model_list_box *box = (model_list_box *)list;
    for (size_t i = 0; i < list->count; i++)
        kaena_model_info_free(box->items[i]);
    free(box->items);
    free(box);
}

kaena_device_list *kaena_device_list_create(void)
{
    device_list_box *box = calloc(1, sizeof *box);
    if (!box)
        return NULL;
    kaena_arena_init(&box->arena, DESCRIPTION_BYTES);
    return &box->list;
}

static kaena_device *copy_device(kaena_arena *a, const Kaena__V1__Device *d,
                                 const Kaena__V1__ListDevicesResponse *from, const char *address)
{
    kaena_device *device = KAENA_NEW(a, kaena_device);
    const char **models = KAENA_NEW_N(a, const char *, d->n_models);
    if (!device || !models)
        return NULL;
    for (size_t i = 0; i < d->n_models; i++) {
        models[i] = kaena_arena_strdup(a, d->models[i]);
        if (!models[i])
            return NULL;
    }
    *device = (kaena_device){.daemon = kaena_arena_strdup(a, from->daemon),
                             .address = kaena_arena_strdup(a, address),
                             .version = kaena_arena_strdup(a, from->version),
                             .pci = kaena_arena_strdup(a, d->pci),
                             .models = models,
                             .model_count = d->n_models,
                             .index = d->index,
                             .tpbs = d->tpbs,
                             .dram_bytes = d->dram_bytes,
                             .dram_used_bytes = d->dram_used_bytes};
    return device->daemon && device->address && device->version && device->pci ? device : NULL;
}

bool kaena_device_list_add(kaena_device_list *list, const Kaena__V1__ListDevicesResponse *from,
                           const char *address)
{
    device_list_box *box = (device_list_box *)list;
    kaena_device **items =
        realloc(box->items, (list->count + from->n_devices + 1) * sizeof(kaena_device *));
    if (!items)
        return false;
    box->items = items;
    list->devices = items;
    for (size_t i = 0; i < from->n_devices; i++) {
        kaena_device *device = copy_device(&box->arena, from->devices[i], from, address);
        if (!device)
            return false;
        items[list->count++] = device;
    }
    return true;
}

void kaena_device_list_free(kaena_device_list *list)
{
    if (!list)
        return;
    device_list_box *box = (device_list_box *)list;
    kaena_arena_fini(&box->arena);
    free(box->items);
    free(box);
}
