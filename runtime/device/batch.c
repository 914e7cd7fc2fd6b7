/* The inputs of a request: whether the model takes them, which case they choose, and in how many
 * passes a batch of another size than the compiled one runs.
 *
 * A pass runs the whole plan once, on a slice of the batch: rows of axis 0 lie one behind the
 * other, so a slice is a pointer; only the last pass may need a copy, padded with zeros. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "checked.h"
#include "dev_internal.h"
#include "kaena/v1/runtime.pb-c.h"

#define LISTED_CASES 8
/* The compiler could not know how large these inputs are: what host steps may take for each of
 * their bytes. */
#define QUOTA_FACTOR 8

static const Kaena__V1__NeffSelectStep *select_of(const neff_file *f)
{
    const Kaena__V1__NeffStep *s = neff_meta(f)->plan->steps[0];
    return s->kind_case == KAENA__V1__NEFF_STEP__KIND_SELECT ? s->select : NULL;
}

static bool in_list(const uint32_t *list, size_t n, size_t i)
{
    for (size_t k = 0; k < n; k++)
        if (list[k] == i)
            return true;
    return false;
}

static bool is_batched(const neff_file *f, size_t input)
{
    const Kaena__V1__NeffDynamicBatch *b = neff_meta(f)->dynamic_batch;
    return b && in_list(b->inputs, b->n_inputs, input);
}

/* --- Do the inputs fit?
 * -----------------------------------------------------------------------------------------------------
 */

/* |free_first|: dimension 0 may be anything. */
static bool shape_fits(const kaena_shape *have, const neff_tensor *want, bool free_first)
{
    if (want->any_rank)
        return true;
    if (have->rank != want->shape.rank)
        return false;
    for (int32_t d = free_first; d < have->rank; d++)
        if (want->shape.dim[d] >= 0 && have->dim[d] != want->shape.dim[d])
            return false;
    return true;
}

static kaena_status bad_tensor(kaena_status status, kaena_err *err)
{
    if (err)
        err->reason = KAENA__V1__ERROR_DETAIL__REASON__BAD_TENSOR;
    return status;
}

static const char *type_text(const kop_tensor *t, char *buf, size_t size)
{
    char shape[KAENA_SHAPE_TEXT];
    (void)snprintf(buf, size, "%s%s%s %s", t->form ? kop_form_name(t->form) : "",
                   t->form ? " of " : "", kaena_dtype_name(t->dtype),
                   t->unranked ? "of any shape"
                               : kaena_shape_print(&t->shape, shape, sizeof shape));
    return buf;
}

static kaena_status check_one(const kop_tensor *in, const neff_tensor *want, bool batched,
                              kaena_err *err)
{
    kop_tensor wanted = {
        .dtype = want->dtype, .shape = want->shape, .form = want->form, .unranked = want->any_rank};
    if (batched)
        wanted.shape.dim[0] = KAENA_DIM_UNKNOWN;
    /* What is empty may not know of what. */
    bool empty = in->form != KOP_FORM_TENSOR && in->dtype == KAENA_DTYPE_NONE && in->count == 0;
    bool fits = in->form == want->form && (in->dtype == want->dtype || empty);
    if (fits && in->form == KOP_FORM_TENSOR)
        fits = shape_fits(&in->shape, want, batched);
    char a[KAENA_SHAPE_TEXT + 32], b[KAENA_SHAPE_TEXT + 32];
    if (!fits)
        return bad_tensor(KAENA_FAIL(err, INVALID_ARGUMENT, "input '%s': expected %s, got %s",
                                     want->name, type_text(&wanted, a, sizeof a),
                                     type_text(in, b, sizeof b)),
                          err);
    const kop_tensor *items = kop_items(in);
    for (size_t i = 0; items && i < in->count; i++) {
        neff_tensor inside = *want;
        inside.form = kop_item_form(want->form);
        KAENA_TRY_WRAP(err, check_one(&items[i], &inside, false, err), "item %zu", i);
    }
    return KAENA_OK;
}

/* Items of the batch, which all its inputs agree on. */
static kaena_status count_items(const neff_file *f, const kop_tensor *in, int64_t *out,
                                kaena_err *err)
{
    const Kaena__V1__NeffDynamicBatch *b = neff_meta(f)->dynamic_batch;
    *out = 0;
    for (size_t i = 0; b && i < b->n_inputs; i++) {
        int64_t n = in[b->inputs[i]].shape.dim[0];
        const char *name = neff_input(f, b->inputs[i]).name;
        if (n < 1)
            return bad_tensor(
                KAENA_FAIL(err, INVALID_ARGUMENT, "input '%s': a batch needs an item", name), err);
        if (i > 0 && n != *out)
            return bad_tensor(KAENA_FAIL(err, INVALID_ARGUMENT,
                                         "input '%s' has %" PRId64 " items, input '%s' %" PRId64,
                                         name, n, neff_input(f, b->inputs[0]).name, *out),
                              err);
        *out = n;
    }
    return KAENA_OK;
}

static bool case_fits(const neff_file *f, const Kaena__V1__NeffSelectCase *k, const kop_tensor *in)
{
    for (size_t i = 0; i < k->n_inputs; i++) {
        neff_tensor own = neff_value(f, k->inputs[i]);
        if (!own.dynamic && !shape_fits(&in[i].shape, &own, is_batched(f, i)))
            return false;
    }
    return true;
}

/* Items that a plan over these inputs was compiled for; 0 without a dynamic batch. */
static int64_t compiled_items(const neff_file *f, const uint32_t *inputs)
{
    const Kaena__V1__NeffDynamicBatch *b = neff_meta(f)->dynamic_batch;
    return b ? neff_value(f, inputs[b->inputs[0]]).shape.dim[0] : 0;
}

/* The case for |items| (or fewer) more: the smallest that holds them all, else the largest there
 * is. Without a dynamic batch the first that fits. False: none fits. */
static bool choose(const neff_file *f, const kop_tensor *in, int64_t items, uint32_t *out,
                   int64_t *size)
{
    const Kaena__V1__NeffSelectStep *s = select_of(f);
    if (!s) {
        *out = 0;
        *size = compiled_items(f, neff_meta(f)->inputs);
        return true;
    }
    bool found = false;
    for (uint32_t i = 0; i < s->n_cases; i++) {
        if (!case_fits(f, s->cases[i], in))
            continue;
        int64_t n = compiled_items(f, s->cases[i]->inputs);
        bool better = *size < items ? n > *size : n >= items && n < *size;
        if (found && !better)
            continue;
        found = true;
        *out = i;
        *size = n;
    }
    return found;
}

static kaena_status refuse(const neff_file *f, const kop_tensor *in, kaena_err *err)
{
    const Kaena__V1__NeffSelectStep *s = select_of(f);
    const Kaena__V1__NeffMeta *m = neff_meta(f);
    kaena_strbuf have = {0}, want = {0};
    char shape[KAENA_SHAPE_TEXT];
    for (uint32_t i = 0; i < m->n_inputs; i++)
        kaena_strbuf_printf(&have, "%s%s %s", i ? ", " : "", neff_input(f, i).name,
                            kaena_shape_print(&in[i].shape, shape, sizeof shape));
    for (size_t k = 0; k < s->n_cases && k < LISTED_CASES; k++) {
        kaena_strbuf_printf(&want, "%s", k ? "; " : "");
        for (uint32_t i = 0; i < m->n_inputs; i++) {
            neff_tensor t = neff_value(f, s->cases[k]->inputs[i]);
            if (is_batched(f, i))
                t.shape.dim[0] = KAENA_DIM_UNKNOWN;
            kaena_strbuf_printf(&want, "%s%s %s", i ? ", " : "", neff_input(f, i).name,
                                kaena_shape_print(&t.shape, shape, sizeof shape));
        }
    }
    (void)KAENA_FAIL(err, INVALID_ARGUMENT, "the model was not compiled for %.*s",
                     (int)(have.size < 200 ? have.size : 200), have.data ? have.data : "");
    kaena_err_hint(err, "it takes: %.*s%s", (int)(want.size < 200 ? want.size : 200),
                   want.data ? want.data : "",
                   want.size > 200 || s->n_cases > LISTED_CASES ? " ..." : "");
    kaena_strbuf_fini(&have);
    kaena_strbuf_fini(&want);
    return bad_tensor(KAENA_INVALID_ARGUMENT, err);
}

kaena_status dev_model_check(const dev_model *m, const kop_tensor *in, uint64_t *out_items,
                             kaena_err *err)
{
    const neff_file *f = m->neff;
    int64_t items, size = 0;
    uint32_t taken;
    for (uint32_t i = 0; i < neff_n_inputs(f); i++) {
        neff_tensor want = neff_input(f, i);
        KAENA_TRY(check_one(&in[i], &want, is_batched(f, i), err));
    }
    KAENA_TRY(count_items(f, in, &items, err));
    if (!choose(f, in, items, &taken, &size))
        return refuse(f, in, err);
    *out_items = (uint64_t)items;
    return KAENA_OK;
}

/* --- Passes
 * --------------------------------------------------------------------------------------------------------------
 */

static int64_t pass_items(const dev_batch *b)
{
    return b->items - b->done < b->size ? b->items - b->done : b->size;
}

/* Rows of this pass; where they do not fill it, a copy with zeros behind them. */
static kaena_status slice(dev_context *c, kop_tensor *t, const char *name, kaena_err *err)
{
    dev_batch *b = &c->batch;
    t->shape.dim[0] = 1;
    size_t row = kop_elements(t) * kaena_dtype_size(t->dtype);
    uint8_t *from = (uint8_t *)t->data + (size_t)b->done * row;
    t->shape.dim[0] = b->size;
    t->data = from;
    size_t have = (size_t)pass_items(b) * row;
    uint64_t all;
    if (pass_items(b) == b->size)
        return KAENA_OK;
    if (!kaena_mul_u64((uint64_t)b->size, row, &all) ||
        !(t->data = kaena_arena_alloc(&b->arena, all)))
        return KAENA_FAIL(err, RESOURCE_EXHAUSTED, "input '%s': no memory for a batch of %" PRId64,
                          name, b->size);
    if (have)
        memcpy(t->data, from, have);
    if (t->dtype == KAENA_STRING)
        for (size_t i = have / sizeof(kaena_string); i < all / sizeof(kaena_string); i++)
            ((kaena_string *)t->data)[i].data = "";
    return KAENA_OK;
}

static void raise_quota(dev_context *c)
{
    const neff_file *f = c->model->neff;
    for (uint32_t i = 0; i < neff_n_inputs(f); i++) {
        neff_tensor t = neff_input(f, i);
        uint64_t more;
        if (neff_has_buffer(&t))
            continue;
        if (!kaena_mul_u64(kop_bytes(&c->request->in_tensor[i]), QUOTA_FACTOR, &more) ||
            !kaena_add_u64(c->quota, more, &more) || more > SIZE_MAX / 2)
            more = SIZE_MAX / 2;
        c->quota = (size_t)more;
    }
}

kaena_status dev_pass_begin(dev_context *c, kaena_err *err)
{
    const neff_file *f = c->model->neff;
    const Kaena__V1__NeffMeta *meta = neff_meta(f);
    const dev_request *r = c->request;
    dev_batch *b = &c->batch;
    for (uint32_t i = 0; i < meta->n_inputs; i++) {
        kop_tensor *v = &c->value[meta->inputs[i]];
        if (r->in_tensor)
            *v = r->in_tensor[i];
        else
            v->data = (void *)(uintptr_t)r->in[i];
    }
    if (!r->in_tensor)
        return KAENA_OK;
    if (!b->done)
        raise_quota(c);
    if (!b->done)
        KAENA_TRY(count_items(f, r->in_tensor, &b->items, err));
    b->size = 0;
    if (!choose(f, r->in_tensor, b->items - b->done, &b->select, &b->size))
        return refuse(f, r->in_tensor, err);
    b->on = b->on || b->items != b->size;
    c->request->batch_items = (uint64_t)b->items;
    c->request->batch_slots += b->items ? (uint64_t)b->size : 0;
    for (uint32_t i = 0; b->on && i < meta->n_inputs; i++)
        if (is_batched(f, i))
            KAENA_TRY(slice(c, &c->value[meta->inputs[i]], neff_input(f, i).name, err));
    return KAENA_OK;
}

void *dev_out_buffer(const dev_context *c, uint32_t i)
{
    const dev_request *r = c->request;
    neff_tensor t = neff_output(c->model->neff, i);
    return r->out && !c->batch.on && neff_has_buffer(&t) ? r->out[i] : NULL;
}

/* The caller's buffer or our own, for all items. */
static kaena_status start_joined(dev_context *c, uint32_t i, const kop_tensor *got, kaena_err *err)
{
    dev_batch *b = &c->batch;
    neff_tensor t = neff_output(c->model->neff, i);
    kop_tensor *all = &b->joined[i];
    *all = *got;
    int64_t rows;
    uint64_t bytes;
    if (got->form != KOP_FORM_TENSOR || got->shape.rank < 1 || got->shape.dim[0] % b->size != 0)
        return KAENA_FAIL(err, FAILED_PRECONDITION,
                          "output '%s' cannot be split into the %" PRId64 " items of its batch",
                          t.name, b->size);
    if (__builtin_mul_overflow(got->shape.dim[0] / b->size, b->items, &rows))
        return KAENA_FAIL(err, RESOURCE_EXHAUSTED, "output '%s' is too large", t.name);
    all->shape.dim[0] = 1;
    size_t row = kop_elements(all) * kaena_dtype_size(got->dtype);
    all->shape.dim[0] = rows;
    bool given = c->request->out && c->request->out[i] && neff_has_buffer(&t);
    if (given)
        all->data = c->request->out[i];
    else if (!kaena_mul_u64((uint64_t)rows, row, &bytes) ||
             !(all->data = kaena_arena_alloc(&b->arena, bytes)))
        return KAENA_FAIL(err, RESOURCE_EXHAUSTED, "no memory for output '%s'", t.name);
    return KAENA_OK;
}

static kaena_status join(dev_context *c, uint32_t i, kaena_err *err)
{
    dev_batch *b = &c->batch;
    const kop_tensor *got = &c->value[neff_meta(c->model->neff)->outputs[i]];
    kop_tensor *all = &b->joined[i], one = *got;
    if (!b->done)
        KAENA_TRY(start_joined(c, i, got, err));
    /* Every pass has the first one's rows per item and size of a row. */
    bool same = got->shape.rank == all->shape.rank && got->shape.dim[0] % b->size == 0 &&
                got->shape.dim[0] / b->size == all->shape.dim[0] / b->items;
    for (int32_t d = 1; same && d < got->shape.rank; d++)
        same = got->shape.dim[d] == all->shape.dim[d];
    if (!same)
        return KAENA_FAIL(err, FAILED_PRECONDITION,
                          "output '%s' has another shape for other items of the batch: they cannot "
                          "be joined",
                          neff_output(c->model->neff, i).name);
    one.shape.dim[0] = got->shape.dim[0] / b->size;
    size_t item = kop_elements(&one) * kaena_dtype_size(got->dtype);
    size_t bytes = (size_t)pass_items(b) * item;
    uint8_t *to = (uint8_t *)all->data + (size_t)b->done * item;
    if (got->dtype != KAENA_STRING) {
        if (bytes)
            memcpy(to, got->data, bytes);
        return KAENA_OK;
    }
    for (size_t k = 0; k < bytes / sizeof(kaena_string); k++) {
        kaena_string s = ((const kaena_string *)got->data)[k];
        s.data = kaena_arena_memdup(&b->arena, s.data, s.size);
        if (!s.data)
            return KAENA_FAIL(err, RESOURCE_EXHAUSTED, "no memory for output '%s'",
                              neff_output(c->model->neff, i).name);
        memcpy(to + k * sizeof s, &s, sizeof s);
    }
    return KAENA_OK;
}

/* Outputs that no step wrote to where the caller wants them: inputs and branches' results. */
static void copy_outputs(dev_context *c)
{
    const Kaena__V1__NeffMeta *meta = neff_meta(c->model->neff);
    for (uint32_t i = 0; i < meta->n_outputs; i++) {
        void *buffer = dev_out_buffer(c, i);
        kop_tensor *v = &c->value[meta->outputs[i]];
        if (!buffer || v->data == buffer)
            continue;
        memcpy(buffer, v->data, neff_output(c->model->neff, i).bytes);
        v->data = buffer;
    }
}

kaena_status dev_pass_end(dev_context *c, bool *again, kaena_err *err)
{
    const Kaena__V1__NeffMeta *meta = neff_meta(c->model->neff);
    dev_batch *b = &c->batch;
    *again = false;
    if (!b->on) {
        copy_outputs(c);
        return KAENA_OK;
    }
    for (uint32_t i = 0; i < meta->n_outputs; i++) {
        neff_tensor t = neff_output(c->model->neff, i);
        const kop_tensor *got = &c->value[meta->outputs[i]];
        if (in_list(meta->dynamic_batch->outputs, meta->dynamic_batch->n_outputs, i)) {
            KAENA_TRY(join(c, i, err));
        } else if (!b->done) {
            if (!kop_copy(&b->arena, got, &b->joined[i]))
                return KAENA_FAIL(err, RESOURCE_EXHAUSTED, "no memory for output '%s'", t.name);
            if (c->request->out && c->request->out[i] && neff_has_buffer(&t))
                memcpy(c->request->out[i], got->data, t.bytes);
        }
    }
    b->done += pass_items(b);
    *again = b->done < b->items;
    return KAENA_OK;
}
