/* The answer of a request that has its outputs: heads between the model's output buffers. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "infer_request.h"
#include "not_finite.h"
#include "rpc_pb.h"

/* Answers up to this size go out as one slice; larger ones point into the output buffer. */
#define FLAT_BYTES 4096

/* An output of the answer. */
typedef struct part {
    const krt_tensor *t;
    const kop_tensor *value; /* of a model that takes values */
    const uint8_t *data;     /* of a tensor of numbers */
    size_t bytes;
    krpc_shared place; /* region 0: it travels in the answer */
    size_t head;       /* bytes of the answer before |data|, or without it */
    bool finite;
} part;

typedef struct answer {
    krt_inference *r;
    size_t n, inner;
    uint64_t queue_ns, execute_ns;
    part parts[KRPC_MAX_TENSORS];
} answer;

/* Copies an output that was not computed where the client wants it; says how much there is. */
static kaena_status place(const answer *a, part *p, size_t i, kaena_err *err)
{
    const krt_inference *r = a->r;
    const krt_range *to = &r->shared[r->m->info.n_in + i];
    p->place = r->selection.outputs[i].place;
    if (!p->place.region)
        return KAENA_OK;
    if (p->bytes > to->size) {
        kaena_status st = KRT_FAIL(err, INVALID_ARGUMENT, BAD_TENSOR,
                                   "model '%s': output '%s' has %zu bytes, its place has %zu",
                                   r->m->name, p->t->name, p->bytes, to->size);
        err->needed = p->bytes;
        err->available = to->size;
        return st;
    }
    if (p->bytes && p->data != to->data)
        memcpy(to->data, p->data, p->bytes);
    p->place.size = p->bytes;
    return KAENA_OK;
}

static void measure(part *p)
{
    const kaena_shape *shape = p->value ? &p->value->shape : &p->t->shape;
    if (p->place.region)
        p->head = krpc_shared_output_size(p->t->name, p->t->dtype, shape, &p->place);
    else if (p->value)
        p->head = krt_value_size(p->t->name, p->value);
    else
        p->head = krpc_output_head_size(p->t->name, p->t->dtype, shape, p->bytes);
}

static uint8_t *put(const part *p, uint8_t *to)
{
    const kaena_shape *shape = p->value ? &p->value->shape : &p->t->shape;
    if (p->place.region)
        return krpc_put_shared_output(to, p->t->name, p->t->dtype, shape, &p->place);
    if (p->value)
        return krt_value_put(to, p->t->name, p->value);
    return krpc_put_output_head(to, p->t->name, p->t->dtype, shape, p->bytes);
}

/* Bytes that follow |head| in the answer. */
static size_t tail_of(const part *p)
{
    return p->place.region || p->value ? 0 : p->bytes;
}

static kaena_status collect(answer *a, kaena_err *err)
{
    krt_inference *r = a->r;
    const krt_model *m = r->m;
    const krt_selection *s = &r->selection;
    for (size_t i = 0; i < s->n_outputs; i++) {
        part *p = &a->parts[i];
        uint32_t index = s->outputs[i].index;
        *p = (part){.t = &m->info.out[index], .finite = true};
        if (m->info.values) {
            p->value = &r->out_tensor[index];
            if (p->value->form == KOP_FORM_TENSOR && p->value->dtype != KAENA_STRING) {
                p->data = p->value->data;
                p->bytes = (size_t)kop_elements(p->value) * kaena_dtype_size(p->value->dtype);
            }
        } else {
            p->data = r->out_ptr[index];
            p->bytes = p->t->bytes;
        }
        KAENA_TRY(place(a, p, i, err));
        if (s->check_finite && p->data)
            p->finite = krt_all_finite(p->t->dtype, p->data, p->bytes);
        measure(p);
        size_t size = p->head + tail_of(p);
        if (size > KRT_MAX_ANSWER_BYTES || a->inner + size > KRT_MAX_ANSWER_BYTES)
            return KRT_FAIL(err, RESOURCE_EXHAUSTED, LIMIT,
                            "model '%s': output '%s' takes %zu bytes: an answer may have %u",
                            m->name, p->t->name, size, KRT_MAX_ANSWER_BYTES);
        a->inner += size;
    }
    a->n = s->n_outputs;
    return KAENA_OK;
}

/* ---- NaN and infinity ---- */

static void name_not_finite(answer *a)
{
    char list[200];
    size_t at = 0, n = 0;
    for (size_t i = 0; i < a->n; i++) {
        if (a->parts[i].finite)
            continue;
        const char *name = a->parts[i].t->name;
        a->inner += krpc_bytes_field_size(strlen(name));
        int w = snprintf(list + at, sizeof list - at, "%s'%s'", n++ ? ", " : "", name);
        if (w > 0)
            at = at + (size_t)w < sizeof list ? at + (size_t)w : sizeof list - 1;
    }
    kaena_err *detail = n ? malloc(sizeof *detail) : NULL;
    if (!detail)
        return;
    (void)KRT_FAIL(detail, UNKNOWN, NOT_FINITE, "model '%s': NaN or infinity in output %s",
                   a->r->m->name, list);
    a->r->not_finite = detail;
}

static uint8_t *put_tail(const answer *a, uint8_t *to)
{
    to = krpc_put_infer_tail(to, a->queue_ns, a->execute_ns);
    for (size_t i = 0; i < a->n; i++)
        if (!a->parts[i].finite)
            to = krpc_put_not_finite(to, a->parts[i].t->name);
    return to;
}

/* ---- slices ---- */

static size_t frame_size(const answer *a)
{
    return a->r->framed ? krpc_stream_head_size(a->r->frame_id, a->inner) : 0;
}

static uint8_t *put_frame(const answer *a, uint8_t *to)
{
    return a->r->framed ? krpc_put_stream_head(to, a->r->frame_id, a->inner) : to;
}

static grpc_byte_buffer *flat(const answer *a)
{
    grpc_slice slice = grpc_slice_malloc(frame_size(a) + a->inner);
    uint8_t *to = put_frame(a, GRPC_SLICE_START_PTR(slice));
    for (size_t i = 0; i < a->n; i++) {
        const part *p = &a->parts[i];
        to = put(p, to);
        if (tail_of(p)) {
            memcpy(to, p->data, p->bytes);
            to += p->bytes;
        }
    }
    (void)put_tail(a, to);
    grpc_byte_buffer *out = grpc_raw_byte_buffer_create(&slice, 1);
    grpc_slice_unref(slice);
    return out;
}

/* Slices of the model's output buffer, with what stands between them. */
static grpc_byte_buffer *pointing(const answer *a)
{
    grpc_slice slices[2 * KRPC_MAX_TENSORS + 1];
    size_t n = 0, heads = frame_size(a), left = a->inner;
    for (size_t i = 0; i < a->n; i++) {
        const part *p = &a->parts[i];
        size_t size = heads + p->head;
        slices[n] = grpc_slice_malloc(size);
        uint8_t *to = GRPC_SLICE_START_PTR(slices[n]);
        n++;
        if (i == 0)
            to = put_frame(a, to);
        (void)put(p, to);
        heads = 0;
        left -= p->head + tail_of(p);
        if (!tail_of(p))
            continue;
        krt_block_ref(a->r->out);
        slices[n++] = grpc_slice_new_with_user_data((void *)(uintptr_t)p->data, p->bytes,
                                                    krt_block_unref, a->r->out);
    }
    slices[n] = grpc_slice_malloc(left);
    (void)put_tail(a, GRPC_SLICE_START_PTR(slices[n]));
    n++;
    grpc_byte_buffer *out = grpc_raw_byte_buffer_create(slices, n);
    for (size_t i = 0; i < n; i++)
        grpc_slice_unref(slices[i]);
    return out;
}

static kaena_status check_regions(const krt_inference *r, kaena_err *err)
{
    for (size_t i = 0; i < r->n_shared; i++)
        if (r->shared[i].region) {
            kaena_status st = krt_region_check(r->shared[i].region, err);
            if (st != KAENA_OK)
                return kaena_err_wrap(err, st, "model '%s'", r->m->name);
        }
    return KAENA_OK;
}

grpc_byte_buffer *krt_inference_answer(krt_inference *r, kaena_err *err)
{
    answer a;
    a.r = r;
    a.n = a.inner = 0;
    a.queue_ns = r->exec.started_ns - r->accepted_ns;
    a.execute_ns = r->exec.finished_ns - r->exec.started_ns;
    if (collect(&a, err) != KAENA_OK || check_regions(r, err) != KAENA_OK)
        return NULL;
    a.inner += krpc_infer_tail_size(a.queue_ns, a.execute_ns);
    if (r->selection.check_finite)
        name_not_finite(&a);
    /* What a model with values has computed is its own until this thread returns. */
    return r->m->info.values || a.inner <= FLAT_BYTES ? flat(&a) : pointing(&a);
}
