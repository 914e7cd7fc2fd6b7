#include "ops_impl.h"

#include <math.h>

/* --- Checks --- */

kaena_status kop_bad_type(const kop_call *call, const char *what, kaena_dtype t)
{
    return KAENA_FAIL(call->err, UNIMPLEMENTED, "%s: %s of type %s is not supported",
                      kop_row_of(call->op)->name, what, kaena_dtype_name(t));
}

kaena_status kop_need(const kop_call *call, uint32_t i, uint32_t set)
{
    kaena_dtype t = kop_in_type(call, i);
    if (t == KAENA_DTYPE_NONE || ((unsigned)t < 32 && (set & KOP_T(t))))
        return KAENA_OK;
    char what[32];
    (void)snprintf(what, sizeof what, "input %u", i);
    return kop_bad_type(call, what, t);
}

kaena_status kop_need_same(const kop_call *call, uint32_t i, uint32_t j)
{
    kaena_dtype a = kop_in_type(call, i), b = kop_in_type(call, j);
    if (a == b || a == KAENA_DTYPE_NONE || b == KAENA_DTYPE_NONE)
        return KAENA_OK;
    return KOP_BAD(call, "input %u is %s and input %u is %s; they must be of one type", i,
                   kaena_dtype_name(a), j, kaena_dtype_name(b));
}

kaena_status kop_need_rank(const kop_call *call, uint32_t i, int32_t rank)
{
    const kop_tensor *t = kop_in(call, i);
    if (!t || t->unranked || t->shape.rank == rank)
        return KAENA_OK;
    return KOP_BAD(call, "input %u has rank %d where %d is required", i, t->shape.rank, rank);
}

/* --- Shapes and outputs --- */

void kop_out(kop_call *call, uint32_t i, kaena_dtype dtype, const kaena_shape *shape)
{
    if (i < call->n_out)
        call->out[i] = (kop_tensor){.dtype = dtype, .shape = *shape};
}

void kop_out_unranked(kop_call *call, uint32_t i, kaena_dtype dtype)
{
    if (i < call->n_out)
        call->out[i] = (kop_tensor){.dtype = dtype, .unranked = true};
}

kaena_shape kop_shape_unknown(int32_t rank)
{
    kaena_shape s = {.rank = rank};
    for (int32_t i = 0; i < rank; i++)
        s.dim[i] = KAENA_DIM_UNKNOWN;
    return s;
}

kaena_shape kop_shape_1d(int64_t n)
{
    return (kaena_shape){.rank = 1, .dim = {n}};
}

size_t kop_elements(const kop_tensor *t)
{
    int64_t n = 0;
    return t->form == KOP_FORM_TENSOR && !t->unranked && kaena_shape_elements(&t->shape, &n)
               ? (size_t)n
               : 0;
}

int64_t kop_span(const kaena_shape *s, int32_t from, int32_t to)
{
    int64_t n = 1;
    for (int32_t i = from; i < to; i++)
        n *= s->dim[i];
    return n;
}

bool kop_axis(int64_t axis, int32_t rank, int32_t *out)
{
    if (axis < -(int64_t)rank || axis >= rank)
        return false;
    *out = (int32_t)(axis < 0 ? axis + rank : axis);
    return true;
}

bool kop_in_ints(const kop_call *call, uint32_t i, int64_t *out, uint32_t max, uint32_t *n,
                 kaena_status *status)
{
    const kop_tensor *t = kop_in(call, i);
    *n = 0;
    *status = kop_need(call, i, KOP_T_INDEX);
    if (*status != KAENA_OK || !t)
        return false;
    if (!t->unranked && t->shape.rank > 1) {
        *status =
            KOP_BAD(call, "input %u must be a list of integers, not of rank %d", i, t->shape.rank);
        return false;
    }
    if (!kop_known(t) || (!t->data && kop_elements(t) > 0))
        return false;
    size_t count = kop_elements(t);
    if (count > max) {
        *status = KOP_BAD(call, "input %u has %zu elements; at most %u make sense", i, count, max);
        return false;
    }
    if (count)
        kop_load_i64(t, 0, count, out);
    *n = (uint32_t)count;
    return true;
}

bool kop_in_int(const kop_call *call, uint32_t i, int64_t *out, kaena_status *status)
{
    uint32_t n;
    int64_t v;
    if (!kop_in_ints(call, i, &v, 1, &n, status))
        return false;
    if (n != 1) {
        *status = KOP_BAD(call, "input %u must have one element", i);
        return false;
    }
    *out = v;
    return true;
}

double kop_in_scalar(const kop_call *call, uint32_t i, double otherwise)
{
    const kop_tensor *t = kop_in(call, i);
    return t && kop_elements(t) > 0 ? kop_get_float(t, 0) : otherwise;
}

kaena_status kop_attr_axis(const kop_call *call, const char *name, int64_t otherwise, int32_t rank,
                           int32_t *out)
{
    int64_t axis = kop_attr_int(call, name, otherwise);
    if (!kop_axis(axis, rank, out))
        return KOP_BAD(call, "%s %" PRId64 " is not an axis of rank %d", name, axis, rank);
    return KAENA_OK;
}

kaena_status kop_attr_dtype(const kop_call *call, const char *name, kaena_dtype otherwise,
                            uint32_t set, kaena_dtype *out)
{
    int64_t v = kop_attr_int(call, name, (int64_t)otherwise);
    if (v != (int64_t)KAENA_DTYPE_NONE || otherwise != KAENA_DTYPE_NONE) {
        if (v < 0 || v > 31 || !(set & KOP_T(v)))
            return KAENA_FAIL(call->err, UNIMPLEMENTED, "%s: %s %" PRId64 " (%s) is not supported",
                              kop_row_of(call->op)->name, name, v,
                              kaena_dtype_name((kaena_dtype)(v & 31)));
    }
    *out = (kaena_dtype)v;
    return KAENA_OK;
}

bool kop_attr_is(const kop_call *call, const char *name, const char *otherwise, const char *value)
{
    return strcmp(kop_attr_string(call, name, otherwise), value) == 0;
}

/* --- Elements --- */

kop_kind kop_kind_of(kaena_dtype t)
{
    if (kaena_dtype_is_float(t))
        return KOP_KIND_FLOAT;
    return kaena_dtype_is_signed(t) ? KOP_KIND_SIGNED : KOP_KIND_UNSIGNED;
}

static const void *at(const kop_tensor *t, size_t i)
{
    return (const char *)t->data + i * kaena_dtype_size(t->dtype);
}

static void *at_mutable(kop_tensor *t, size_t i)
{
    return (char *)t->data + i * kaena_dtype_size(t->dtype);
}

void kop_load_f64(const kop_tensor *t, size_t start, size_t n, double *out)
{
    const void *src = at(t, start);
    if (t->dtype == KAENA_F32) {
        for (size_t i = 0; i < n; i++)
            out[i] = (double)((const float *)src)[i];
        return;
    }
    kaena_cast(out, KAENA_F64, src, t->dtype, n);
}

void kop_store_f64(kop_tensor *t, size_t start, size_t n, const double *v)
{
    void *dst = at_mutable(t, start);
    if (t->dtype == KAENA_F32) {
        for (size_t i = 0; i < n; i++)
            ((float *)dst)[i] = (float)v[i];
        return;
    }
    kaena_cast(dst, t->dtype, v, KAENA_F64, n);
}

void kop_load_i64(const kop_tensor *t, size_t start, size_t n, int64_t *out)
{
    kaena_cast(out, KAENA_I64, at(t, start), t->dtype, n);
}

void kop_store_i64(kop_tensor *t, size_t start, size_t n, const int64_t *v)
{
    kaena_cast(at_mutable(t, start), t->dtype, v, KAENA_I64, n);
}

double kop_get_float(const kop_tensor *t, size_t i)
{
    double v;
    kop_load_f64(t, i, 1, &v);
    return v;
}

int64_t kop_get_int(const kop_tensor *t, size_t i)
{
    int64_t v;
    kop_load_i64(t, i, 1, &v);
    return v;
}

void kop_set_float(kop_tensor *t, size_t i, double v)
{
    kop_store_f64(t, i, 1, &v);
}

void kop_set_int(kop_tensor *t, size_t i, int64_t v)
{
    kop_store_i64(t, i, 1, &v);
}

double *kop_doubles(kop_call *call, const kop_tensor *t)
{
    size_t n = kop_elements(t);
    double *out = kop_alloc(call, n, sizeof *out);
    if (out && n)
        kop_load_f64(t, 0, n, out);
    return out;
}

void kop_moments(const kop_tensor *t, size_t at, size_t n, double *mean, double *variance)
{
    double sum = 0, squares = 0, v[KOP_CHUNK];
    for (int pass = 0; pass < 2; pass++)
        for (size_t i = 0; i < n; i += KOP_CHUNK) {
            size_t m = n - i < KOP_CHUNK ? n - i : KOP_CHUNK;
            kop_load_f64(t, at + i, m, v);
            for (size_t j = 0; j < m; j++) {
                if (pass == 0)
                    sum += v[j];
                else
                    squares += (v[j] - sum / (double)n) * (v[j] - sum / (double)n);
            }
        }
    *mean = sum / (double)n;
    *variance = squares / (double)n;
}

/* --- Broadcasting --- */

kaena_status kop_broadcast_shape(const kop_call *call, uint32_t first, uint32_t n, kaena_shape *out,
                                 bool *unranked)
{
    kaena_shape r = {.rank = 0};
    *unranked = false;
    for (uint32_t i = first; i < first + n; i++) {
        const kop_tensor *t = kop_in(call, i);
        if (!t)
            continue;
        if (t->unranked) {
            *unranked = true;
            continue;
        }
        kaena_shape next = {.rank = t->shape.rank > r.rank ? t->shape.rank : r.rank};
        for (int32_t d = 0; d < next.rank; d++) {
            int32_t da = d - (next.rank - r.rank), db = d - (next.rank - t->shape.rank);
            int64_t a = da < 0 ? 1 : r.dim[da], b = db < 0 ? 1 : t->shape.dim[db];
            if (a > 1 && b > 1 && a != b) {
                char x[KAENA_SHAPE_TEXT], y[KAENA_SHAPE_TEXT];
                return KOP_BAD(call, "shapes %s and %s do not broadcast",
                               kaena_shape_print(&r, x, sizeof x),
                               kaena_shape_print(&t->shape, y, sizeof y));
            }
            if ((a == 0 && b > 1) || (b == 0 && a > 1))
                return KOP_BAD(call, "dimensions %" PRId64 " and %" PRId64 " do not broadcast", a,
                               b);
            /* An unknown dimension beside one that is not 1 can only be that one (or 1). */
            next.dim[d] = a == 1 ? b : b == 1 ? a : a < 0 ? b : a;
        }
        r = next;
    }
    *out = r;
    return KAENA_OK;
}

void kop_bcast_init(kop_bcast *b, const kaena_shape *out, const kop_tensor *const *in, uint32_t n)
{
    b->rank = 0;
    for (int32_t d = 0; d < out->rank; d++) {
        if (out->dim[d] == 1)
            continue;
        /* Merge with the dimension before where every input is either broadcast in both or dense in
         * both. */
        bool merge = b->rank > 0;
        int64_t walk[KOP_MAX_INPUTS];
        for (uint32_t i = 0; i < n; i++) {
            walk[i] = 0;
            if (!in[i])
                continue;
            int32_t di = d - (out->rank - in[i]->shape.rank);
            if (di >= 0 && in[i]->shape.dim[di] != 1) {
                int64_t strides[KAENA_MAX_RANK];
                kaena_shape_strides(&in[i]->shape, strides);
                walk[i] = strides[di];
            }
            if (b->rank > 0 && b->stride[i][b->rank - 1] != walk[i] * out->dim[d])
                merge = false;
        }
        if (merge)
            b->dim[b->rank - 1] *= out->dim[d];
        else
            b->dim[b->rank++] = out->dim[d];
        for (uint32_t i = 0; i < n; i++)
            b->stride[i][b->rank - 1] = walk[i];
    }
    if (b->rank == 0) {
        b->rank = 1;
        b->dim[0] = 1;
        for (uint32_t i = 0; i < n; i++)
            b->stride[i][0] = 0;
    }
}

int64_t kop_bcast_offset(const kop_bcast *b, uint32_t i, int64_t row)
{
    int64_t offset = 0;
    for (int32_t d = b->rank - 1; d-- > 0;) {
        offset += row % b->dim[d] * b->stride[i][d];
        row /= b->dim[d];
    }
    return offset;
}
