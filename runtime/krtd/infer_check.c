#include "infer_check.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "krt_reason.h"

#define NAME_TEXT 128

/* "x float32 [1,4], y int64 []", cut to fit. */
static void list_tensors(const krt_tensor *t, size_t n, char *buf, size_t size)
{
    size_t at = 0;
    buf[0] = 0;
    for (size_t i = 0; i < n; i++) {
        char shape[KAENA_SHAPE_TEXT];
        int w = snprintf(buf + at, size - at, "%s%s %s%s%s %s", i ? ", " : "", t[i].name,
                         t[i].form ? kop_form_name(t[i].form) : "", t[i].form ? " of " : "",
                         kaena_dtype_name(t[i].dtype),
                         t[i].any_rank ? "of any shape"
                                       : kaena_shape_print(&t[i].shape, shape, sizeof shape));
        if (w < 0 || (size_t)w >= size - at) {
            (void)snprintf(buf + (at > 5 ? at : 0), at > 5 ? size - at : size, ", ...");
            return;
        }
        at += (size_t)w;
    }
}

static kaena_status bad(const char *kind, const krt_tensor *t, size_t n, kaena_err *err,
                        kaena_status st)
{
    char list[200];
    list_tensors(t, n, list, sizeof list);
    kaena_err_hint(err, "the model's %s: %s", kind, n ? list : "none");
    err->reason = KAENA__V1__ERROR_DETAIL__REASON__BAD_TENSOR;
    return st;
}

#define BAD_INPUT(...)                                                                             \
    bad("inputs", info->in, info->n_in, err, KAENA_FAIL(err, INVALID_ARGUMENT, __VA_ARGS__))
#define BAD_OUTPUT(...)                                                                            \
    bad("outputs", info->out, info->n_out, err, KAENA_FAIL(err, INVALID_ARGUMENT, __VA_ARGS__))

static size_t find(const krt_tensor *t, size_t n, const krpc_message *message,
                   const krpc_range *name)
{
    size_t i = 0;
    while (i < n && !krpc_range_equals(message, name, t[i].name))
        i++;
    return i;
}

static bool shape_fits(const krpc_wire_tensor *w, const kaena_shape *s)
{
    if (w->rank != (uint32_t)s->rank)
        return false;
    for (int32_t i = 0; i < s->rank; i++)
        if (w->dim[i] != s->dim[i])
            return false;
    return true;
}

static const char *print_wire_shape(const krpc_wire_tensor *w, char buf[KAENA_SHAPE_TEXT])
{
    size_t at = (size_t)snprintf(buf, KAENA_SHAPE_TEXT, "[");
    for (uint32_t i = 0; i < w->rank && i < KAENA_MAX_RANK; i++)
        at += (size_t)snprintf(buf + at, KAENA_SHAPE_TEXT - at, "%s%" PRId64, i ? "," : "",
                               w->dim[i]);
    (void)snprintf(buf + at, KAENA_SHAPE_TEXT - at, w->rank > KAENA_MAX_RANK ? ",...]" : "]");
    return buf;
}

static kaena_status check_input(const char *model, const krt_image_info *info,
                                const krpc_wire_tensor *w, const krt_tensor *t, kaena_err *err)
{
    if (w->dtype != (int32_t)t->dtype) {
        const char *got = kaena_dtype_name((kaena_dtype)w->dtype);
        return BAD_INPUT("model '%s': input '%s': expected %s, got %s (%" PRId32 ")", model,
                         t->name, kaena_dtype_name(t->dtype), w->dtype ? got : "no element type",
                         w->dtype);
    }
    if (!shape_fits(w, &t->shape)) {
        char expected[KAENA_SHAPE_TEXT], got[KAENA_SHAPE_TEXT];
        return BAD_INPUT("model '%s': input '%s': expected shape %s, got %s", model, t->name,
                         kaena_shape_print(&t->shape, expected, sizeof expected),
                         print_wire_shape(w, got));
    }
    if (w->n_strings)
        return BAD_INPUT(
            "model '%s': input '%s': 'strings' is for STRING tensors; send %s bytes in "
            "'data'",
            model, t->name, kaena_dtype_name(t->dtype));
    uint64_t size = w->payload == KRPC_PAYLOAD_SHARED ? w->shared.size : w->data.size;
    if (size != t->bytes) {
        char shape[KAENA_SHAPE_TEXT];
        return BAD_INPUT("model '%s': input '%s': expected %zu bytes (%s %s), got %" PRIu64, model,
                         t->name, t->bytes, kaena_dtype_name(t->dtype),
                         kaena_shape_print(&t->shape, shape, sizeof shape), size);
    }
    return KAENA_OK;
}

/* What small parts of a request may take in memory: a string is an entry of 16 bytes, an item of a
 * sequence a whole tensor. */
#define VALUES_FACTOR 64
#define VALUES_FLOOR ((size_t)1 << 20)

static kaena_status read_value(const char *model, const krt_image_info *info,
                               const krpc_message *message, const krpc_wire_tensor *w, size_t i,
                               krt_selection *s, kaena_err *err)
{
    const krt_tensor *t = &info->in[i];
    char list[200];
    kaena_status st =
        krt_value_read(message, w, t->form, &s->arena, &s->values[i], &s->inputs[i].data, err);
    if (st == KAENA_OK)
        return KAENA_OK;
    list_tensors(info->in, info->n_in, list, sizeof list);
    kaena_err_hint(err, "the model's inputs: %s", list);
    err->reason = KAENA__V1__ERROR_DETAIL__REASON__BAD_TENSOR;
    return kaena_err_wrap(err, st, "model '%s': input '%s'", model, t->name);
}

/* Numbers of regions begin with 1. */
static kaena_status check_region(const char *model, const char *kind, const char *name,
                                 const krpc_shared *r, kaena_err *err)
{
    if (r->region)
        return KAENA_OK;
    kaena_status st = KRT_FAIL(err, INVALID_ARGUMENT, BAD_REGION,
                               "model '%s': %s '%s': region 0 is none", model, kind, name);
    kaena_err_hint(err, "MapSharedMemory gives a region its number");
    return st;
}

static kaena_status select_inputs(const char *model, const krt_image_info *info,
                                  const krpc_message *message, const krpc_infer_request *wire,
                                  krt_selection *s, kaena_err *err)
{
    char name[NAME_TEXT];
    bool seen[KRPC_MAX_TENSORS] = {false};
    for (size_t k = 0; k < wire->n_inputs; k++) {
        const krpc_wire_tensor *w = &wire->inputs[k];
        size_t i = find(info->in, info->n_in, message, &w->name);
        if (i == info->n_in)
            return BAD_INPUT("model '%s' has no input '%s'", model,
                             krpc_range_text(message, &w->name, name, sizeof name));
        if (seen[i])
            return BAD_INPUT("model '%s': input '%s' is given twice", model, info->in[i].name);
        seen[i] = true;
        if (info->values) {
            KAENA_TRY(read_value(model, info, message, w, i, s, err));
        } else {
            KAENA_TRY(check_input(model, info, w, &info->in[i], err));
            s->inputs[i].data = w->data;
        }
        if (w->payload == KRPC_PAYLOAD_SHARED) {
            KAENA_TRY(check_region(model, "input", info->in[i].name, &w->shared, err));
            s->inputs[i].shared = w->shared;
            s->shared = true;
        } else {
            s->input_bytes += w->data.size;
        }
    }
    for (size_t i = 0; i < info->n_in; i++)
        if (!seen[i])
            return BAD_INPUT("model '%s': input '%s' is missing", model, info->in[i].name);
    return KAENA_OK;
}

static kaena_status select_outputs(const char *model, const krt_image_info *info,
                                   const krpc_message *message, const krpc_infer_request *wire,
                                   krt_selection *s, kaena_err *err)
{
    char name[NAME_TEXT];
    for (size_t k = 0; k < wire->n_outputs; k++) {
        size_t i = find(info->out, info->n_out, message, &wire->outputs[k]);
        if (i == info->n_out)
            return BAD_OUTPUT("model '%s' has no output '%s'", model,
                              krpc_range_text(message, &wire->outputs[k], name, sizeof name));
        for (size_t j = 0; j < k; j++)
            if (s->outputs[j].index == i)
                return BAD_OUTPUT("model '%s': output '%s' is asked for twice", model,
                                  info->out[i].name);
        s->outputs[s->n_outputs++].index = (uint32_t)i;
    }
    for (size_t i = 0; i < info->n_out && !wire->n_outputs; i++)
        s->outputs[s->n_outputs++].index = (uint32_t)i;
    return KAENA_OK;
}

/* Puts an output that is wanted into shared memory. */
static kaena_status place_output(const char *model, const krt_image_info *info,
                                 const krpc_shared *range, size_t i, krt_selection *s,
                                 kaena_err *err)
{
    const krt_tensor *t = &info->out[i];
    size_t k = 0;
    while (k < s->n_outputs && s->outputs[k].index != i)
        k++;
    if (k == s->n_outputs)
        return BAD_OUTPUT("model '%s': a place for output '%s', which is not asked for", model,
                          t->name);
    if (s->outputs[k].place.region)
        return BAD_OUTPUT("model '%s': output '%s' has two places", model, t->name);
    if (t->form != KOP_FORM_TENSOR || t->dtype == KAENA_STRING)
        return BAD_OUTPUT("model '%s': output '%s' is no tensor of numbers: it cannot be placed in "
                          "shared memory",
                          model, t->name);
    if (range->size < t->bytes) {
        kaena_status st =
            BAD_OUTPUT("model '%s': output '%s' has %zu bytes, its place has %" PRIu64, model,
                       t->name, t->bytes, range->size);
        err->needed = t->bytes;
        err->available = range->size;
        return st;
    }
    s->outputs[k].place = *range;
    s->shared = true;
    return check_region(model, "output", t->name, range, err);
}

static kaena_status select_places(const char *model, const krt_image_info *info,
                                  const krpc_message *message, const krpc_infer_request *wire,
                                  krt_selection *s, kaena_err *err)
{
    char name[NAME_TEXT];
    for (size_t k = 0; k < wire->n_places; k++) {
        const krpc_place *p = &wire->places[k];
        size_t i = find(info->out, info->n_out, message, &p->name);
        if (i == info->n_out)
            return BAD_OUTPUT("model '%s' has no output '%s'", model,
                              krpc_range_text(message, &p->name, name, sizeof name));
        KAENA_TRY(place_output(model, info, &p->range, i, s, err));
    }
    return KAENA_OK;
}

static kaena_status select_rest(const char *model, const krt_image_info *info,
                                const krpc_message *message, const krpc_infer_request *wire,
                                krt_selection *s, kaena_err *err)
{
    KAENA_TRY(select_outputs(model, info, message, wire, s, err));
    KAENA_TRY(select_places(model, info, message, wire, s, err));
    if (wire->priority < KRT_PRIORITY_MIN || wire->priority > KRT_PRIORITY_MAX) {
        kaena_status st =
            KAENA_FAIL(err, INVALID_ARGUMENT, "model '%s': priority %" PRId32 ": must be %d to %d",
                       model, wire->priority, KRT_PRIORITY_MIN, KRT_PRIORITY_MAX);
        kaena_err_hint(err, "0 is normal, higher goes first");
        return st;
    }
    s->priority = wire->priority;
    s->check_finite = wire->check_finite;
    return KAENA_OK;
}

kaena_status krt_select(const char *model, const krt_image_info *info, const krpc_message *message,
                        const krpc_infer_request *wire, krt_selection *out, kaena_err *err)
{
    krt_selection s = {0};
    s.inputs = calloc(info->n_in + 1, sizeof *s.inputs);
    s.outputs = calloc(info->n_out + 1, sizeof *s.outputs);
    size_t bytes = 0;
    for (size_t i = 0; i < message->n_pieces; i++)
        bytes += message->pieces[i].size;
    bytes = VALUES_FLOOR + VALUES_FACTOR * bytes;
    for (size_t i = 0; i < wire->n_inputs; i++) /* these are copied, too */
        if (wire->inputs[i].payload == KRPC_PAYLOAD_SHARED &&
            wire->inputs[i].shared.size <= SIZE_MAX / 2 - bytes)
            bytes += wire->inputs[i].shared.size;
    kaena_arena_init(&s.arena, bytes);
    if (info->values)
        s.values = calloc(info->n_in + 1, sizeof *s.values);
    bool ok = s.inputs && s.outputs && (s.values || !info->values);
    kaena_status st = ok ? select_inputs(model, info, message, wire, &s, err)
                         : KAENA_FAIL(err, RESOURCE_EXHAUSTED, "out of memory");
    if (st == KAENA_OK)
        st = select_rest(model, info, message, wire, &s, err);
    if (st == KAENA_OK)
        *out = s;
    else
        krt_selection_fini(&s);
    return st;
}

void krt_selection_fini(krt_selection *s)
{
    free(s->inputs);
    free(s->outputs);
    free(s->values);
    kaena_arena_fini(&s->arena);
}
