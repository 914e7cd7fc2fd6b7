#include "infer_request.h"

#include <grpc/byte_buffer.h>
#include <stdlib.h>
#include <string.h>

#include "rpc_pb.h"

/* ---- arrival ---- */

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

void krt_arrival_move(krt_arrival *to, krt_arrival *from)
{
    size_t n = from->message.n_pieces;
    *to = *from;
    to->message = (krpc_message){to->more_pieces ? to->more_pieces : to->pieces, n};
    from->bytes = NULL;
    from->more_pieces = NULL;
}

static krt_inference *allocate(krt_model *m, size_t n_wanted)
{
    size_t n_in = m->info.n_in, n_out = m->info.n_out, n_shared = n_in + n_wanted;
    size_t pointers = (n_in + n_out) * sizeof(void *), ranges = n_shared * sizeof(krt_range);
    krt_inference *r = calloc(1, sizeof *r + pointers + ranges +
                                     (m->info.values ? n_out : 0) * sizeof(kop_tensor));
    if (!r)
        return NULL;
    char *at = (char *)(r + 1);
    r->in_ptr = (const void **)(void *)at;
    r->out_ptr = (void **)(void *)(r->in_ptr + n_in);
    r->shared = (krt_range *)(void *)(at + pointers);
    r->n_shared = n_shared;
    r->out_tensor = (kop_tensor *)(void *)(at + pointers + ranges);
    r->refs = 1;
    r->m = m;
    return r;
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

/* ---- shared memory ---- */

static kaena_status use(krt_inference *r, const krt_asking *asking, uint64_t client, size_t i,
                        const krpc_shared *at, const char *kind, const char *name, kaena_err *err)
{
    krt_range *to = &r->shared[i];
    kaena_status st = krt_region_use(asking->daemon->clients->regions, client, at->region,
                                     at->offset, at->size, &to->region, &to->data, err);
    to->size = (size_t)at->size;
    if (st == KAENA_OK)
        return KAENA_OK;
    return kaena_err_wrap(err, st, "model '%s': %s '%s'", r->m->name, kind, name);
}

static bool overlap(const krt_range *a, const krt_range *b)
{
    return a->region && a->region == b->region && a->data < b->data + b->size &&
           b->data < a->data + a->size;
}

/* Outputs are written while inputs are still read. */
static kaena_status check_overlap(const krt_inference *r, kaena_err *err)
{
    const krt_image_info *info = &r->m->info;
    for (size_t i = info->n_in; i < r->n_shared; i++)
        for (size_t k = 0; k < i; k++) {
            if (!overlap(&r->shared[i], &r->shared[k]))
                continue;
            const krt_wanted *w = r->selection.outputs;
            return KRT_FAIL(
                err, INVALID_ARGUMENT, BAD_REGION,
                "model '%s': the place of output '%s' overlaps that of %s '%s'", r->m->name,
                info->out[w[i - info->n_in].index].name, k < info->n_in ? "input" : "output",
                k < info->n_in ? info->in[k].name : info->out[w[k - info->n_in].index].name);
        }
    return KAENA_OK;
}

static kaena_status use_regions(krt_inference *r, const krt_asking *asking, kaena_err *err)
{
    const krt_image_info *info = &r->m->info;
    const krt_selection *s = &r->selection;
    if (!s->shared)
        return KAENA_OK;
    uint64_t client = asking->client ? asking->client : krpc_call_connection(asking->call);
    for (size_t i = 0; i < info->n_in; i++)
        if (s->inputs[i].shared.region)
            KAENA_TRY(
                use(r, asking, client, i, &s->inputs[i].shared, "input", info->in[i].name, err));
    for (size_t i = 0; i < s->n_outputs; i++)
        if (s->outputs[i].place.region)
            KAENA_TRY(use(r, asking, client, info->n_in + i, &s->outputs[i].place, "output",
                          info->out[s->outputs[i].index].name, err));
    return check_overlap(r, err);
}

/* ---- life ---- */

/* Chooses the inputs and outputs of |wire|, for a model that is held. */
static kaena_status choose(krt_model *m, const krt_asking *asking, const krpc_message *message,
                           const krpc_infer_request *wire, krt_inference **out, kaena_err *err)
{
    krt_selection s;
    KAENA_TRY(krt_select(m->name, &m->info, message, wire, &s, err));
    kaena_status st = KAENA_OK;
    if (m->info.values) {
        st = m->daemon->backend->check(m->image, s.values, err);
        if (st != KAENA_OK)
            (void)kaena_err_wrap(err, st, "model '%s'", m->name);
    }
    krt_inference *r = st == KAENA_OK ? allocate(m, s.n_outputs) : NULL;
    if (st == KAENA_OK && !r)
        st = KAENA_FAIL(err, RESOURCE_EXHAUSTED, "out of memory");
    if (!r) {
        krt_selection_fini(&s);
        return st;
    }
    r->selection = s;
    st = use_regions(r, asking, err);
    if (st == KAENA_OK) {
        *out = r;
        return KAENA_OK;
    }
    krt_inference_release_buffers(r);
    krt_selection_fini(&r->selection);
    free(r);
    return st;
}

/* The hold of find_model. */
static void let_go(krt_model *m)
{
    (void)pthread_mutex_lock(&m->lock);
    m->holds--;
    krt_model_settle(m);
    (void)pthread_mutex_unlock(&m->lock);
}

kaena_status krt_inference_create(const krt_asking *asking, krt_arrival *arrival,
                                  const krpc_range *part, krt_inference **out, kaena_err *err)
{
    const krpc_message *message = &arrival->message;
    krpc_infer_request wire;
    krt_model *m;
    krt_inference *r = NULL;
    uint64_t now = krt_now_ns();
    kaena_status st = part ? krpc_read_infer_request_in(message, part, &wire, err)
                           : krpc_read_infer_request(message, &wire, err);
    if (st == KAENA_OK)
        st = find_model(asking->daemon, message, &wire, &m, err);
    if (st != KAENA_OK) {
        krt_stats_answer(&asking->daemon->without_model, st, 0);
        return st;
    }
    st = choose(m, asking, message, &wire, &r, err);
    if (st != KAENA_OK) {
        krt_stats_answer(&m->stats, st, krt_now_ns() - now);
        let_go(m);
        (void)krt_model_unref(m);
        return st;
    }
    krt_arrival_move(&r->arrival, arrival);
    r->asker = asking->asker;
    r->user = asking->user;
    r->session = asking->session;
    r->accepted_ns = now;
    r->item.deadline_ns = asking->deadline_ns;
    r->item.priority = r->selection.priority;
    *out = r;
    return KAENA_OK;
}

void krt_inference_abandon(krt_inference *r)
{
    let_go(r->m);
    krt_inference_unref(r);
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
    for (size_t i = 0; i < r->n_shared; i++)
        if (r->shared[i].region)
            krt_region_unuse(r->shared[i].region);
    r->n_shared = 0;
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
    free(r->not_finite);
    free(r);
    krt_release(d);
}

bool krt_inference_pointless(const krt_inference *r, uint64_t now_ns)
{
    return atomic_load(&((krt_inference *)(uintptr_t)r)->stop) || r->item.deadline_ns <= now_ns;
}

/* ---- inputs ---- */

static kaena_status fill_values(krt_inference *r, kaena_err *err)
{
    const krt_image_info *info = &r->m->info;
    for (size_t i = 0; i < info->n_in; i++) {
        kop_tensor *t = &r->selection.values[i];
        const krt_range *shared = &r->shared[i];
        bool ok = true;
        if (shared->region) {
            void *to = kaena_arena_alloc(&r->selection.arena, shared->size);
            ok = to != NULL;
            if (ok && shared->size)
                memcpy(to, shared->data, shared->size);
            t->data = to;
        } else if (t->form == KOP_FORM_TENSOR && t->dtype != KAENA_STRING) {
            ok = krt_value_fill(&r->arrival.message, &r->selection.inputs[i].data,
                                &r->selection.arena, t);
        }
        if (!ok)
            return KRT_FAIL(err, RESOURCE_EXHAUSTED, NO_MEMORY,
                            "model '%s': no memory for input '%s'", r->m->name, info->in[i].name);
    }
    return KAENA_OK;
}

/* Whether the execution may work in |shared| itself: kernels want it aligned, and host steps trust
 * what they have read not to change. */
static bool in_place(const krt_inference *r, const krt_range *shared)
{
    return shared->region && r->m->info.device_only &&
           ((uintptr_t)shared->data & (KRT_TENSOR_ALIGN - 1)) == 0;
}

static bool need_blocks(krt_inference *r)
{
    const krt_model *m = r->m;
    bool in = false, out = false;
    for (size_t i = 0; i < m->info.n_in; i++)
        in = in || !in_place(r, &r->shared[i]);
    for (size_t i = 0; i < r->selection.n_outputs; i++)
        out = out || !in_place(r, &r->shared[m->info.n_in + i]);
    if (in)
        r->in = krt_pool_get(m->in_pool);
    if (out)
        r->out = krt_pool_get(m->out_pool);
    return (r->in || !in) && (r->out || !out);
}

static kaena_status fill_buffers(krt_inference *r, kaena_err *err)
{
    const krt_model *m = r->m;
    const krt_selection *s = &r->selection;
    if (!need_blocks(r))
        return KRT_FAIL(err, RESOURCE_EXHAUSTED, NO_MEMORY,
                        "model '%s': no memory for the buffers of a request", m->name);
    for (size_t i = 0; i < m->info.n_in; i++) {
        const krt_range *shared = &r->shared[i];
        if (in_place(r, shared)) {
            r->in_ptr[i] = shared->data;
            continue;
        }
        uint8_t *to = r->in->data + m->in_offset[i];
        if (shared->region)
            memcpy(to, shared->data, shared->size);
        else
            krpc_range_copy(&r->arrival.message, &s->inputs[i].data, to);
        r->in_ptr[i] = to;
    }
    for (size_t i = 0; i < s->n_outputs; i++) {
        const krt_range *shared = &r->shared[m->info.n_in + i];
        uint32_t index = s->outputs[i].index;
        r->out_ptr[index] =
            in_place(r, shared) ? shared->data : r->out->data + m->out_offset[index];
    }
    return KAENA_OK;
}

kaena_status krt_inference_copy(krt_inference *r, kaena_err *err)
{
    uint64_t before = krt_now_ns();
    KAENA_TRY(r->m->info.values ? fill_values(r, err) : fill_buffers(r, err));
    krt_arrival_fini(&r->arrival);
    r->copy_ns = krt_now_ns() - before;
    return KAENA_OK;
}

/* ---- answers ---- */

void krt_inference_reply(krt_inference *r, grpc_byte_buffer *answer)
{
    krt_stats_answer(&r->m->stats, KAENA_OK, krt_now_ns() - r->accepted_ns);
    r->asker->reply(r, answer);
    krt_inference_unref(r);
}

void krt_inference_fail(krt_inference *r, const kaena_err *err)
{
    krt_stats_answer(&r->m->stats, (kaena_status)err->code, krt_now_ns() - r->accepted_ns);
    r->asker->fail(r, err);
    krt_inference_unref(r);
}
