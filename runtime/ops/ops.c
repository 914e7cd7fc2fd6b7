#include "ops.h"

#include <math.h>

#include "ops_impl.h"

static const kop_row rows[KOP_COUNT] = {
    [KOP_NONE] = {.name = "(none)"},
#define ROW(name, min_in, max_in, min_out, max_out, infer, eval, any_form)                         \
    [KOP_##name] = {#name, min_in, max_in, min_out, max_out, infer, eval, any_form},
#define KOP(name, min_in, max_in, min_out, max_out, infer, eval)                                   \
    ROW(name, min_in, max_in, min_out, max_out, infer, eval, false)
#define KOP_ANY(name, min_in, max_in, min_out, max_out, infer, eval)                               \
    ROW(name, min_in, max_in, min_out, max_out, infer, eval, true)
#include "ops.def"
#undef KOP
#undef ROW
};

const kop_row *kop_row_of(kop_op op)
{
    return (unsigned)op < KOP_COUNT ? &rows[op] : &rows[KOP_NONE];
}

kop_op kop_find(const char *name)
{
    for (unsigned i = KOP_NONE + 1; i < KOP_COUNT; i++)
        if (strcmp(rows[i].name, name) == 0)
            return (kop_op)i;
    return KOP_NONE;
}

/* --- Attributes --- */

const kop_attr *kop_attr_find(const kop_call *call, const char *name)
{
    for (uint32_t i = 0; i < call->n_attr; i++)
        if (strcmp(call->attr[i].name, name) == 0)
            return &call->attr[i];
    return NULL;
}

int64_t kop_attr_int(const kop_call *call, const char *name, int64_t otherwise)
{
    const kop_attr *a = kop_attr_find(call, name);
    return a && a->type == KOP_ATTR_INT ? a->u.i : otherwise;
}

float kop_attr_float(const kop_call *call, const char *name, float otherwise)
{
    const kop_attr *a = kop_attr_find(call, name);
    return a && a->type == KOP_ATTR_FLOAT ? a->u.f : otherwise;
}

const char *kop_attr_string(const kop_call *call, const char *name, const char *otherwise)
{
    const kop_attr *a = kop_attr_find(call, name);
    return a && a->type == KOP_ATTR_STRING ? a->u.s : otherwise;
}

uint32_t kop_attr_ints(const kop_call *call, const char *name, const int64_t **out)
{
    const kop_attr *a = kop_attr_find(call, name);
    *out = a && a->type == KOP_ATTR_INTS ? a->u.ints : NULL;
    return *out ? a->n : 0;
}

/* --- Inference --- */

static kaena_status check_operands(const kop_call *call, const kop_row *row)
{
    if (call->n_in < row->min_in || call->n_in > row->max_in)
        return KOP_BAD(call, "%s takes %u to %u inputs, not %u", row->name, row->min_in,
                       row->max_in, call->n_in);
    if (call->n_out < row->min_out || call->n_out > row->max_out)
        return KOP_BAD(call, "%s has %u to %u outputs, not %u", row->name, row->min_out,
                       row->max_out, call->n_out);
    for (uint32_t i = 0; i < call->n_in; i++) {
        const kop_tensor *t = call->in[i];
        if (!t) {
            if (i < row->min_in)
                return KOP_BAD(call, "%s: input %u is required", row->name, i);
            continue;
        }
        if (t->form != KOP_FORM_TENSOR && !row->any_form)
            return KOP_BAD(call, "%s: input %u is not a tensor but of type %s", row->name, i,
                           kop_form_name(t->form));
        if (t->unranked)
            continue;
        int64_t n;
        if (t->shape.rank < 0 || t->shape.rank > KAENA_MAX_RANK)
            return KOP_BAD(call, "%s: input %u has rank %d; at most %d is supported", row->name, i,
                           t->shape.rank, KAENA_MAX_RANK);
        if (kaena_shape_known(&t->shape) && !kaena_shape_elements(&t->shape, &n))
            return KOP_BAD(call, "%s: input %u has more elements than can be counted", row->name,
                           i);
        if (t->form == KOP_FORM_TENSOR && t->data &&
            (!kaena_shape_known(&t->shape) || kaena_dtype_size(t->dtype) == 0))
            return KOP_BAD(call, "%s: input %u has data but no full type", row->name, i);
    }
    return KAENA_OK;
}

static kaena_status check_results(const kop_call *call, const kop_row *row)
{
    for (uint32_t i = 0; i < call->n_out; i++) {
        const kop_tensor *t = &call->out[i];
        int64_t n;
        if (!t->unranked && kaena_shape_known(&t->shape) && !kaena_shape_elements(&t->shape, &n))
            return KOP_BAD(call, "%s: output %u would have more elements than can be counted",
                           row->name, i);
    }
    return KAENA_OK;
}

/* The residual behind the row's own inputs; NULL where the call has none. |*inner| is the call the
 * row sees. */
static kaena_status split_residual(const kop_call *call, kop_call *inner,
                                   const kop_tensor **residual)
{
    *inner = *call;
    *residual = NULL;
    if (kop_attr_int(call, "kaena.residual", 0) == 0)
        return KAENA_OK;
    if (call->n_in == 0 || !call->in[call->n_in - 1])
        return KOP_BAD(call, "kaena.residual is set and there is no residual input");
    inner->n_in--;
    *residual = call->in[inner->n_in];
    return KAENA_OK;
}

static kaena_status infer_inner(kop_call *inner)
{
    const kop_row *row = kop_row_of(inner->op);
    if (!row->infer)
        return KAENA_FAIL(inner->err, INTERNAL, "%u is no operator", (unsigned)inner->op);
    KAENA_TRY(check_operands(inner, row));
    for (uint32_t i = 0; i < inner->n_out; i++)
        inner->out[i] = (kop_tensor){.unranked = true};
    KAENA_TRY(row->infer(inner));
    return check_results(inner, row);
}

kaena_status kop_infer(kop_call *call)
{
    kop_call inner;
    const kop_tensor *residual;
    KAENA_TRY(split_residual(call, &inner, &residual));
    KAENA_TRY(infer_inner(&inner));
    if (!residual)
        return KAENA_OK;
    const kop_tensor *out = &inner.out[0];
    if (residual->dtype && out->dtype && residual->dtype != out->dtype)
        return KOP_BAD(call, "the residual is %s and the result %s",
                       kaena_dtype_name(residual->dtype), kaena_dtype_name(out->dtype));
    kaena_shape both;
    if (kop_known(residual) && kop_known(out) &&
        (!kaena_shape_broadcast(&residual->shape, &out->shape, &both) ||
         !kaena_shape_equal(&both, &out->shape))) {
        char a[KAENA_SHAPE_TEXT], b[KAENA_SHAPE_TEXT];
        return KOP_BAD(call, "the residual has shape %s and the result %s",
                       kaena_shape_print(&residual->shape, a, sizeof a),
                       kaena_shape_print(&out->shape, b, sizeof b));
    }
    return KAENA_OK;
}

/* --- Evaluation --- */

void *kop_alloc(kop_call *call, size_t n, size_t size)
{
    void *p = kaena_arena_array(call->env->arena, n, size);
    if (p)
        return p;
    uint64_t bytes = UINT64_MAX;
    (void)kaena_mul_u64(n, size, &bytes);
    (void)KAENA_FAIL(call->err, RESOURCE_EXHAUSTED, "%s needs %" PRIu64 " bytes; the quota is %zu",
                     kop_row_of(call->op)->name, bytes, call->env->arena->quota);
    if (call->err) {
        const kaena_arena *arena = call->env->arena;
        call->err->needed = bytes;
        call->err->available = arena->quota > arena->used ? arena->quota - arena->used : 0;
    }
    return NULL;
}

kaena_status kop_output(kop_call *call, uint32_t i, kaena_dtype dtype, const kaena_shape *shape)
{
    int64_t n;
    if (!kaena_shape_elements(shape, &n))
        return KOP_BAD(call, "%s: output %u has no countable shape", kop_row_of(call->op)->name, i);
    void *data = kop_alloc(call, (size_t)n, kaena_dtype_size(dtype));
    if (!data)
        return KAENA_RESOURCE_EXHAUSTED;
    call->out[i] = (kop_tensor){.dtype = dtype, .shape = *shape, .data = data};
    return KAENA_OK;
}

kaena_status kop_poll(kop_call *call)
{
    const atomic_bool *stop = call->env ? call->env->stop : NULL;
    if (stop && atomic_load_explicit(stop, memory_order_relaxed))
        return KAENA_FAIL(call->err, CANCELLED, "%s was told to stop", kop_row_of(call->op)->name);
    return KAENA_OK;
}

/* |t| repeated to |shape|, which it broadcasts to; NULL: the error is set. */
static const kop_tensor *spread(kop_call *call, const kop_tensor *t, const kaena_shape *shape)
{
    kop_tensor *whole = kop_alloc(call, 1, sizeof *whole);
    kop_bcast *b = kop_alloc(call, 1, sizeof *b);
    if (!whole || !b)
        return NULL;
    *whole = (kop_tensor){.dtype = t->dtype, .shape = *shape};
    size_t n = kop_elements(whole), size = kaena_dtype_size(t->dtype);
    whole->data = kop_alloc(call, n, size);
    if (!whole->data)
        return NULL;
    const kop_tensor *in[1] = {t};
    kop_bcast_init(b, shape, in, 1);
    int64_t inner = b->dim[b->rank - 1];
    for (size_t i = 0; i < n; i++) {
        int64_t from = kop_bcast_offset(b, 0, (int64_t)i / inner) +
                       (int64_t)i % inner * b->stride[0][b->rank - 1];
        memcpy((char *)whole->data + i * size, (const char *)t->data + (size_t)from * size, size);
    }
    return whole;
}

static kaena_status apply_epilogue(kop_call *call, const kop_tensor *residual)
{
    const char *name = kop_attr_string(call, "kaena.act", NULL);
    kaena_act act = KAENA_ACT_IDENTITY;
    if (name && !kaena_act_parse(name, &act))
        return KOP_BAD(call, "there is no activation '%s'", name);
    if (!residual && act == KAENA_ACT_IDENTITY)
        return KAENA_OK;
    kop_tensor *out = &call->out[0];
    size_t n = kop_elements(out);
    kaena_shape both;
    if (residual && (residual->dtype != out->dtype || residual->unranked ||
                     !kaena_shape_broadcast(&residual->shape, &out->shape, &both) ||
                     !kaena_shape_equal(&both, &out->shape)))
        return KOP_BAD(call, "the residual differs from the result in type or shape");
    if (!kaena_dtype_is_float(out->dtype))
        return kop_bad_type(call, "a fused activation or residual", out->dtype);
    if (residual && !kaena_shape_equal(&residual->shape, &out->shape)) {
        residual = spread(call, residual, &out->shape);
        if (!residual)
            return KAENA_RESOURCE_EXHAUSTED;
    }
    float alpha = kop_attr_float(call, "kaena.act_alpha", 0),
          beta = kop_attr_float(call, "kaena.act_beta", 0);
    bool before = kop_attr_int(call, "kaena.residual", 0) == 1;
    for (size_t at = 0; at < n; at += KOP_CHUNK) {
        double x[KOP_CHUNK], r[KOP_CHUNK] = {0};
        size_t m = n - at < KOP_CHUNK ? n - at : KOP_CHUNK;
        kop_load_f64(out, at, m, x);
        if (residual)
            kop_load_f64(residual, at, m, r);
        for (size_t i = 0; i < m; i++) {
            double y = kop_act_eval(act, residual && before ? x[i] + r[i] : x[i], alpha, beta);
            x[i] = residual && !before ? y + r[i] : y;
        }
        kop_store_f64(out, at, m, x);
        KAENA_TRY(kop_poll(call));
    }
    return KAENA_OK;
}

kaena_status kop_eval(kop_call *call)
{
    KAENA_TRY(kop_poll(call));
    kop_call inner;
    const kop_tensor *residual;
    KAENA_TRY(split_residual(call, &inner, &residual));
    for (uint32_t i = 0; i < call->n_in; i++) {
        const kop_tensor *t = call->in[i];
        int64_t n;
        if (!t)
            continue;
        /* These two read no data, so that shapes can be evaluated before there is any. */
        bool needs_data = call->op != KOP_Shape && call->op != KOP_Size;
        if (t->form != KOP_FORM_TENSOR) {
            if (!t->data)
                return KOP_BAD(call, "%s: input %u has no data", kop_row_of(call->op)->name, i);
            continue;
        }
        if (t->unranked || !kaena_shape_elements(&t->shape, &n) ||
            (n > 0 && !t->data && needs_data))
            return KOP_BAD(call, "%s: input %u has no data", kop_row_of(call->op)->name, i);
    }
    KAENA_TRY(infer_inner(&inner));
    for (uint32_t i = 0; i < inner.n_out; i++) {
        kop_tensor *out = &inner.out[i];
        if (kop_known(out)) {
            kaena_shape shape = out->shape;
            KAENA_TRY(kop_output(&inner, i, out->dtype, &shape));
        }
    }
    KAENA_TRY(kop_row_of(call->op)->eval(&inner));
    return apply_epilogue(call, residual);
}
