#include "infer_request.h"

#include <grpc/byte_buffer.h>
#include <stdlib.h>
#include <string.h>

#include "rpc_pb.h"

/* Answers up to this size go out as one slice; larger ones point into the output buffer. */
#define FLAT_BYTES 4096

/* ---- life ---- */

kaena_status krt_arrival_init(krt_arrival *a, grpc_byte_buffer *bytes, kaena_err *err)
{
    a->bytes = bytes;
    a->more_pieces = NULL;
    kaena_status st =
        krpc_message_of(bytes, a->pieces, KRT_REQUEST_PIECES, &a->message, &a->more_pieces, err);
    if (st != KAENA_OK)
        krt_arrival_fini(a);
    return st;
}

void krt_arrival_fini(krt_arrival *a)
{
    grpc_byte_buffer_destroy(a->bytes);
    a->bytes = NULL;
    free(a->more_pieces);
    a->more_pieces = NULL;
}

static void move_arrival(krt_arrival *to, krt_arrival *from)
{
    size_t n = from->message.n_pieces;
    *to = *from;
    to->message = (krpc_message){to->more_pieces ? to->more_pieces : to->pieces, n};
    from->bytes = NULL;
    from->more_pieces = NULL;
}

static krt_inference *allocate(krt_model *m)
{
    size_t n_in = m->info.n_in, n_out = m->info.n_out;
    size_t pointers = (n_in + n_out) * sizeof(void *);
    krt_inference *r =
        calloc(1, sizeof *r + pointers + (m->info.values ? n_out : 0) * sizeof(kop_tensor));
    if (!r)
        return NULL;
    r->out_tensor = (kop_tensor *)(void *)((char *)(r + 1) + pointers);
    r->in_ptr = (const void **)(void *)(r + 1);
    r->out_ptr = (void **)(void *)(r->in_ptr + n_in);
    r->refs = 1;
    r->m = m;
    return r;
}

/* Chooses the inputs and outputs of |wire|, for a model that is held. */
static kaena_status select_tensors(krt_inference *r, const krpc_message *message,
                                   const krpc_infer_request *wire, kaena_err *err)
{
    const krt_model *m = r->m;
    KAENA_TRY(krt_select(m->name, &m->info, message, wire, &r->selection, err));
    if (!m->info.values)
        return KAENA_OK;
    kaena_status st = m->daemon->backend->check(m->image, r->selection.values, err);
    if (st == KAENA_OK)
        return KAENA_OK;
    krt_selection_fini(&r->selection);
    return kaena_err_wrap(err, st, "model '%s'", m->name);
}

/* A reference to the model that |wire| names, held: its description may be read. */
static kaena_status find_model(krt_daemon *d, const krpc_message *message,
                               const krpc_infer_request *wire, krt_model **out, kaena_err *err)
{
    char name[256];
    krt_model *m =
        krt_model_find(d, krpc_range_text(message, &wire->model, name, sizeof name), err);
    if (!m)
        return KAENA_NOT_FOUND;
    (void)pthread_mutex_lock(&m->lock);
    kaena_status st = krt_model_check_state(m, err);
    m->holds += st == KAENA_OK;
    (void)pthread_mutex_unlock(&m->lock);
    if (st == KAENA_OK)
        *out = m;
    else
        (void)krt_model_unref(m);
    return st;
}

kaena_status krt_inference_create(krt_daemon *d, krt_arrival *arrival, uint64_t deadline_ns,
                                  const krt_asker *asker, void *user, krt_inference **out,
                                  kaena_err *err)
{
    krpc_infer_request wire;
    krt_model *m;
    KAENA_TRY(krpc_read_infer_request(&arrival->message, &wire, err));
    KAENA_TRY(find_model(d, &arrival->message, &wire, &m, err));
    krt_inference *r = allocate(m);
    kaena_status st = r ? select_tensors(r, &arrival->message, &wire, err)
                        : KAENA_FAIL(err, RESOURCE_EXHAUSTED, "out of memory");
    if (st != KAENA_OK) {
        (void)pthread_mutex_lock(&m->lock);
        m->holds--;
        krt_model_settle(m);
        (void)pthread_mutex_unlock(&m->lock);
        (void)krt_model_unref(m);
        free(r);
        return st;
    }
    move_arrival(&r->arrival, arrival);
    r->asker = asker;
    r->user = user;
    r->accepted_ns = krt_now_ns();
    r->item.deadline_ns = deadline_ns;
    *out = r;
    return KAENA_OK;
}

void krt_inference_ref(krt_inference *r)
{
    (void)atomic_fetch_add(&r->refs, 1);
}

void krt_inference_release_buffers(krt_inference *r)
{
    krt_block_unref(r->in);
    krt_block_unref(r->out);
    r->in = r->out = NULL;
}

void krt_inference_unref(krt_inference *r)
{
    if (atomic_fetch_sub(&r->refs, 1) != 1)
        return;
    krt_daemon *d = r->m->daemon;
    krt_arrival_fini(&r->arrival);
    krt_inference_release_buffers(r);
    krt_selection_fini(&r->selection);
    (void)krt_model_unref(r->m);
    free(r);
    krt_release(d);
}

bool krt_inference_pointless(const krt_inference *r, uint64_t now_ns)
{
    return atomic_load(&((krt_inference *)(uintptr_t)r)->stop) || r->item.deadline_ns <= now_ns;
}

/* ---- inputs ---- */

kaena_status krt_inference_copy(krt_inference *r, kaena_err *err)
{
    const krt_model *m = r->m;
    uint64_t before = krt_now_ns();
    if (m->info.values) {
        for (size_t i = 0; i < m->info.n_in; i++) {
            kop_tensor *t = &r->selection.values[i];
            if (t->form == KOP_FORM_TENSOR && t->dtype != KAENA_STRING &&
                !krt_value_fill(&r->arrival.message, &r->selection.inputs[i], &r->selection.arena,
                                t))
                return KRT_FAIL(err, RESOURCE_EXHAUSTED, NO_MEMORY,
                                "model '%s': no memory for input '%s'", m->name,
                                m->info.in[i].name);
        }
        krt_arrival_fini(&r->arrival);
        r->copy_ns = krt_now_ns() - before;
        return KAENA_OK;
    }
    r->in = krt_pool_get(m->in_pool);
    r->out = krt_pool_get(m->out_pool);
    if (!r->in || !r->out)
        return KRT_FAIL(err, RESOURCE_EXHAUSTED, NO_MEMORY,
                        "model '%s': no memory for the buffers of a request", m->name);
    for (size_t i = 0; i < m->info.n_in; i++) {
        uint8_t *to = r->in->data + m->in_offset[i];
        krpc_range_copy(&r->arrival.message, &r->selection.inputs[i], to);
        r->in_ptr[i] = to;
    }
    for (size_t i = 0; i < m->info.n_out; i++)
        r->out_ptr[i] = NULL;
    for (size_t i = 0; i < r->selection.n_outputs; i++)
        r->out_ptr[r->selection.outputs[i]] = r->out->data + m->out_offset[r->selection.outputs[i]];
    krt_arrival_fini(&r->arrival);
    r->copy_ns = krt_now_ns() - before;
    return KAENA_OK;
}

/* ---- answers ---- */

/* Outputs whose sizes are known only now; called while the device still holds them. NULL: too large
 * for a message. */
static grpc_byte_buffer *values_answer(krt_inference *r, kaena_err *err)
{
    const krt_selection *s = &r->selection;
    const krt_tensor *t = r->m->info.out;
    size_t total = KRPC_TAIL_MAX;
    for (size_t i = 0; i < s->n_outputs; i++) {
        size_t size = krt_value_size(t[s->outputs[i]].name, &r->out_tensor[s->outputs[i]]);
        if (size > KRT_MAX_ANSWER_BYTES || total + size > KRT_MAX_ANSWER_BYTES) {
            (void)KRT_FAIL(err, RESOURCE_EXHAUSTED, LIMIT,
                           "model '%s': output '%s' takes %zu bytes: an answer may have %u",
                           r->m->name, t[s->outputs[i]].name, size, KRT_MAX_ANSWER_BYTES);
            return NULL;
        }
        total += size;
    }
    grpc_slice slice = grpc_slice_malloc(total);
    uint8_t *to = GRPC_SLICE_START_PTR(slice);
    for (size_t i = 0; i < s->n_outputs; i++)
        to = krt_value_put(to, t[s->outputs[i]].name, &r->out_tensor[s->outputs[i]]);
    to = krpc_put_infer_tail(to, r->exec.started_ns - r->accepted_ns,
                             r->exec.finished_ns - r->exec.started_ns);
    GRPC_SLICE_SET_LENGTH(slice, (size_t)(to - GRPC_SLICE_START_PTR(slice)));
    grpc_byte_buffer *out = grpc_raw_byte_buffer_create(&slice, 1);
    grpc_slice_unref(slice);
    return out;
}

static grpc_byte_buffer *plain_answer(krt_inference *r)
{
    const krt_model *m = r->m;
    const krt_selection *s = &r->selection;
    grpc_slice slices[2 * KRPC_MAX_TENSORS + 1];
    size_t n = 0, total = KRPC_TAIL_MAX;
    for (size_t i = 0; i < s->n_outputs; i++) {
        const krt_tensor *t = &m->info.out[s->outputs[i]];
        total += krpc_output_head_size(t->name, t->dtype, &t->shape, t->bytes) + t->bytes;
    }
    bool flat = total <= FLAT_BYTES;
    uint8_t *to = NULL;
    if (flat) {
        slices[n++] = grpc_slice_malloc(total);
        to = GRPC_SLICE_START_PTR(slices[0]);
    }
    for (size_t i = 0; i < s->n_outputs; i++) {
        const krt_tensor *t = &m->info.out[s->outputs[i]];
        uint8_t *data = r->out->data + m->out_offset[s->outputs[i]];
        if (!flat) {
            slices[n] =
                grpc_slice_malloc(krpc_output_head_size(t->name, t->dtype, &t->shape, t->bytes));
            to = GRPC_SLICE_START_PTR(slices[n]); /* a macro that evaluates its argument twice */
            n++;
        }
        to = krpc_put_output_head(to, t->name, t->dtype, &t->shape, t->bytes);
        if (flat) {
            memcpy(to, data, t->bytes);
            to += t->bytes;
        } else if (t->bytes) {
            krt_block_ref(r->out);
            slices[n++] = grpc_slice_new_with_user_data(data, t->bytes, krt_block_unref, r->out);
        }
    }
    if (!flat) {
        slices[n] = grpc_slice_malloc(KRPC_TAIL_MAX);
        to = GRPC_SLICE_START_PTR(slices[n]);
        n++;
    }
    const uint8_t *end = krpc_put_infer_tail(to, r->exec.started_ns - r->accepted_ns,
                                             r->exec.finished_ns - r->exec.started_ns);
    GRPC_SLICE_SET_LENGTH(slices[n - 1], (size_t)(end - GRPC_SLICE_START_PTR(slices[n - 1])));
    grpc_byte_buffer *out = grpc_raw_byte_buffer_create(slices, n);
    for (size_t i = 0; i < n; i++)
        grpc_slice_unref(slices[i]);
    return out;
}

grpc_byte_buffer *krt_inference_answer(krt_inference *r, kaena_err *err)
{
    return r->m->info.values ? values_answer(r, err) : plain_answer(r);
}

void krt_inference_reply(krt_inference *r, grpc_byte_buffer *answer)
{
    r->asker->reply(r, answer);
    krt_inference_unref(r);
}

void krt_inference_fail(krt_inference *r, const kaena_err *err)
{
    r->asker->fail(r, err);
    krt_inference_unref(r);
}
