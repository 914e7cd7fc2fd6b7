/* Einsum: operands are multiplied from left to right; each product is a batch of matrix products
 * over dimensions in the order [batch][rows][summed][columns]. */
#include "ops_impl.h"

#define MAX_LABELS 64 /* letters, and the dimensions an ellipsis stands for */
#define MAX_DIMS 24   /* of an intermediate result */
#define ELLIPSIS 52   /* the first label of an ellipsis's dimensions */

/* The labels of an operand, or of the result. */
typedef struct term {
    int32_t n;
    uint8_t label[KAENA_MAX_RANK];
} term;

typedef struct equation {
    term in[KOP_MAX_INPUTS], out;
    int64_t size[MAX_LABELS]; /* -1: not known */
} equation;

static int letter(char c)
{
    return c >= 'a' && c <= 'z' ? c - 'a' : c >= 'A' && c <= 'Z' ? 26 + c - 'A' : -1;
}

/* Reads one term up to ',', '-' or the end. |broadcast| dimensions stand behind an ellipsis;
 * |width| is the number that the widest ellipsis has. */
static const char *parse_term(const char *s, int32_t broadcast, int32_t width, term *out,
                              const char **wrong)
{
    bool ellipsis = false;
    out->n = 0;
    for (; *s && *s != ',' && *s != '-'; s++) {
        int l = letter(*s);
        int32_t more = 1;
        if (*s == ' ')
            continue;
        if (l < 0) {
            if (s[0] != '.' || s[1] != '.' || s[2] != '.' || ellipsis) {
                *wrong = "the equation has a character that is neither a letter nor an ellipsis";
                return s;
            }
            ellipsis = true;
            more = broadcast;
            l = ELLIPSIS + width - broadcast;
            s += 2;
        }
        if (out->n + more > KAENA_MAX_RANK) {
            *wrong = "a term of the equation has too many dimensions";
            return s;
        }
        for (int32_t i = 0; i < more; i++)
            out->label[out->n++] = (uint8_t)(l + i);
    }
    return s;
}

/* How many labels a term writes out, and whether there is an ellipsis. */
static int32_t count_letters(const char *s, bool *ellipsis)
{
    int32_t n = 0;
    *ellipsis = false;
    for (; *s && *s != ',' && *s != '-'; s++) {
        n += letter(*s) >= 0;
        *ellipsis |= *s == '.';
    }
    return n;
}

/* Without "->" the result has what the ellipses stand for, then the letters that occur once. */
static const char *implicit_output(equation *e, uint32_t n_in, int32_t width)
{
    uint32_t count[MAX_LABELS] = {0};
    for (uint32_t i = 0; i < n_in; i++)
        for (int32_t k = 0; k < e->in[i].n; k++)
            count[e->in[i].label[k]]++;
    e->out.n = 0;
    for (int32_t i = 0; i < width; i++)
        e->out.label[e->out.n++] = (uint8_t)(ELLIPSIS + i);
    for (uint32_t i = 0; i < ELLIPSIS; i++) {
        uint32_t l = (i + ELLIPSIS / 2) % ELLIPSIS; /* capitals come first */
        if (count[l] != 1)
            continue;
        if (e->out.n == KAENA_MAX_RANK)
            return "the result has too many dimensions";
        e->out.label[e->out.n++] = (uint8_t)l;
    }
    return NULL;
}

/* NULL, or what is wrong. */
static const char *parse(const kop_call *call, equation *e)
{
    const char *text = kop_attr_string(call, "equation", ""), *s = text, *wrong = NULL;
    int32_t width = 0;
    memset(e, 0, sizeof *e);
    for (int pass = 0; pass < 2; pass++, s = text) {
        for (uint32_t i = 0; i < call->n_in; i++) {
            bool ellipsis;
            int32_t broadcast = call->in[i]->shape.rank - count_letters(s, &ellipsis);
            if (broadcast < 0 || (broadcast > 0 && !ellipsis))
                return "an operand has another rank than its term";
            if (pass == 0 && broadcast > width)
                width = broadcast;
            if (pass == 1)
                s = parse_term(s, broadcast, width, &e->in[i], &wrong);
            else
                s += strcspn(s, ",-");
            if (wrong)
                return wrong;
            if (*s != (i + 1 < call->n_in ? ',' : *s == '-' ? '-' : '\0'))
                return "the equation has another number of terms than there are operands";
            s += *s == ',';
        }
        if (pass == 1 && !*s)
            return implicit_output(e, call->n_in, width);
        if (pass == 1)
            break;
    }
    if (s[1] != '>')
        return "the equation has '-' without '>'";
    s = parse_term(s + 2, width, width, &e->out, &wrong);
    return wrong ? wrong : *s ? "the equation goes on behind its result" : NULL;
}

static kaena_status equation_of(const kop_call *call, equation *e)
{
    const char *wrong = parse(call, e);
    if (wrong)
        return KOP_BAD(call, "%s: '%.80s'", wrong, kop_attr_string(call, "equation", ""));
    bool seen[MAX_LABELS] = {false};
    for (uint32_t i = 0; i < call->n_in; i++) {
        for (int32_t k = 0; k < e->in[i].n; k++) {
            uint8_t l = e->in[i].label[k];
            int64_t d = call->in[i]->shape.dim[k], *size = &e->size[l];
            if (!seen[l] || *size == 1)
                *size = d;
            else if (d > 1 && *size < 0)
                *size = d;
            else if (d >= 0 && d != 1 && *size >= 0 && d != *size)
                return KOP_BAD(call, "one label stands for dimensions %" PRId64 " and %" PRId64,
                               *size, d);
            seen[l] = true;
        }
    }
    for (int32_t i = 0; i < e->out.n; i++) {
        bool twice = false;
        for (int32_t k = 0; k < i; k++)
            twice |= e->out.label[k] == e->out.label[i];
        if (twice || !seen[e->out.label[i]])
            return KOP_BAD(call,
                           "a label of the result stands there twice, or in no operand: '%.80s'",
                           kop_attr_string(call, "equation", ""));
    }
    return KAENA_OK;
}

kaena_status kop_infer_einsum(kop_call *call)
{
    kaena_dtype type = kop_in_type(call, 0);
    for (uint32_t i = 0; i < call->n_in; i++) {
        if (!call->in[i])
            return KOP_BAD(call, "input %u is required", i);
        KAENA_TRY(kop_need(call, i, KOP_T_NUM));
        KAENA_TRY(kop_need_same(call, 0, i));
        if (call->in[i]->unranked) {
            kop_out_unranked(call, 0, type);
            return KAENA_OK;
        }
    }
    equation e;
    KAENA_TRY(equation_of(call, &e));
    kaena_shape shape = {.rank = e.out.n};
    for (int32_t i = 0; i < e.out.n; i++)
        shape.dim[i] = e.size[e.out.label[i]];
    kop_out(call, 0, type, &shape);
    return KAENA_OK;
}

/* --- Evaluation ------------------------------------------------------------------------------ */

/* A dense intermediate result. */
typedef struct factor {
    int32_t n;
    uint8_t label[MAX_DIMS];
    int64_t dim[MAX_DIMS];
    void *data; /* doubles or, for integers, uint64 */
} factor;

#define WIDE 8 /* bytes of an element of a factor */

static void *element(const factor *f, int64_t i)
{
    return (char *)f->data + i * WIDE;
}

static int32_t place_of(const factor *f, uint8_t label)
{
    for (int32_t i = 0; i < f->n; i++)
        if (f->label[i] == label)
            return i;
    return -1;
}

/* |f| with its dimensions in the order of |to|, whose labels it has. */
static kaena_status permute(kop_call *call, const factor *f, factor *to)
{
    int64_t stride[MAX_DIMS], step[MAX_DIMS], index[MAX_DIMS] = {0}, n = 1, at = 0;
    for (int32_t i = f->n; i-- > 0; n *= f->dim[i])
        stride[i] = n;
    to->data = kop_alloc(call, (size_t)n, WIDE);
    if (!to->data)
        return KAENA_RESOURCE_EXHAUSTED;
    for (int32_t i = 0; i < to->n; i++) {
        int32_t from = place_of(f, to->label[i]);
        to->dim[i] = f->dim[from];
        step[i] = stride[from];
    }
    for (int64_t i = 0; i < n; i++) {
        memcpy(element(to, i), element(f, at), WIDE);
        for (int32_t d = to->n; d-- > 0;) {
            at += step[d];
            if (++index[d] < to->dim[d])
                break;
            at -= step[d] * to->dim[d];
            index[d] = 0;
        }
        if (i % KOP_CHUNK == 0)
            KAENA_TRY(kop_poll(call));
    }
    return KAENA_OK;
}

/* Operand |i| in wide elements: labels that stand twice become one, over the diagonal. */
static kaena_status load(kop_call *call, const equation *e, uint32_t i, factor *out)
{
    const kop_tensor *t = call->in[i];
    int64_t stride[KAENA_MAX_RANK], step[KAENA_MAX_RANK] = {0}, n = 1;
    kaena_shape_strides(&t->shape, stride);
    *out = (factor){.n = 0};
    for (int32_t k = 0; k < e->in[i].n; k++) {
        /* What broadcasts has no part in the product. */
        if (t->shape.dim[k] == 1)
            continue;
        int32_t at = place_of(out, e->in[i].label[k]);
        if (at < 0) {
            at = out->n++;
            out->label[at] = e->in[i].label[k];
            out->dim[at] = t->shape.dim[k];
            n *= t->shape.dim[k];
        }
        step[at] += stride[k];
    }
    out->data = kop_alloc(call, (size_t)n, WIDE);
    if (!out->data)
        return KAENA_RESOURCE_EXHAUSTED;
    int64_t index[KAENA_MAX_RANK] = {0};
    for (int64_t j = 0; j < n; j++) {
        int64_t from = 0;
        for (int32_t d = 0; d < out->n; d++)
            from += index[d] * step[d];
        if (kop_kind_of(t->dtype) == KOP_KIND_FLOAT)
            kop_load_f64(t, (size_t)from, 1, element(out, j));
        else
            kop_load_i64(t, (size_t)from, 1, element(out, j));
        (void)kop_next(index, out->dim, out->n);
        if (j % KOP_CHUNK == 0)
            KAENA_TRY(kop_poll(call));
    }
    return KAENA_OK;
}

/* One product of a batch: C[m][n] = A[m][k] B[k][n]. */
typedef struct product {
    int64_t m, n, k;
    const void *a, *b;
    void *c;
} product;

static void pack_a(void *ctx, int64_t m0, int64_t mr, double *dst)
{
    const product *p = ctx;
    kop_matrix m = {.data = p->a, .is_f64 = true, .row = p->k, .col = 1};
    kop_pack_rows(&m, p->k, m0, mr, dst);
}

static void pack_b(void *ctx, int64_t n0, int64_t nr, double *dst)
{
    const product *p = ctx;
    kop_matrix m = {.data = p->b, .is_f64 = true, .row = p->n, .col = 1};
    kop_pack_cols(&m, p->k, n0, nr, dst);
}

static void store(void *ctx, int64_t m0, int64_t mr, int64_t n0, int64_t nr, const double *c)
{
    const product *p = ctx;
    for (int64_t i = 0; i < mr; i++)
        memcpy((double *)p->c + (m0 + i) * p->n + n0, c + i * KOP_GEMM_NR, (size_t)nr * sizeof *c);
}

static kaena_status multiply_ints(kop_call *call, const product *p)
{
    const uint64_t *a = p->a, *b = p->b;
    uint64_t *c = p->c;
    for (int64_t i = 0; i < p->m; i++) {
        for (int64_t k = 0; k < p->k; k++)
            for (int64_t j = 0; j < p->n; j++)
                c[i * p->n + j] += a[i * p->k + k] * b[k * p->n + j];
        KAENA_TRY(kop_poll(call));
    }
    return KAENA_OK;
}

/* Adds dimension |i| of |from| to |f|, whose data is to come. False: it has too many. */
static bool append(factor *f, const factor *from, int32_t i, int64_t *size)
{
    if (f->n == MAX_DIMS)
        return false;
    f->label[f->n] = from->label[i];
    f->dim[f->n++] = from->dim[i];
    *size *= from->dim[i];
    return true;
}

/* |*acc| becomes the product with |x|; labels that |kept| does not hold, which both of them have,
 * are summed. */
static kaena_status contract(kop_call *call, factor *acc, const factor *x, const bool *kept)
{
    factor a = {.n = 0}, b = {.n = 0}, c = {.n = 0};
    int64_t batch = 1, rows = 1, summed = 1, columns = 1, ignored = 1;
    bool real = kop_kind_of(call->in[0]->dtype) == KOP_KIND_FLOAT, fits = true;
    for (int32_t i = 0; i < acc->n; i++)
        if (kept[acc->label[i]] && place_of(x, acc->label[i]) >= 0)
            fits &= append(&a, acc, i, &batch) && append(&b, acc, i, &ignored) &&
                    append(&c, acc, i, &ignored);
    for (int32_t i = 0; i < acc->n; i++)
        if (kept[acc->label[i]] && place_of(x, acc->label[i]) < 0)
            fits &= append(&a, acc, i, &rows) && append(&c, acc, i, &ignored);
    for (int32_t i = 0; i < acc->n; i++)
        if (!kept[acc->label[i]])
            fits &= append(&a, acc, i, &summed) && append(&b, acc, i, &ignored);
    for (int32_t i = 0; i < x->n; i++)
        if (place_of(acc, x->label[i]) < 0)
            fits &= append(&b, x, i, &columns) && append(&c, x, i, &ignored);
    int64_t n;
    if (!fits || !kaena_mul_i64(batch, rows, &n) || !kaena_mul_i64(n, columns, &n))
        return KAENA_FAIL(call->err, UNIMPLEMENTED,
                          "an intermediate result has more than %d dimensions or too many elements",
                          MAX_DIMS);
    KAENA_TRY(permute(call, acc, &a));
    KAENA_TRY(permute(call, x, &b));
    c.data = kop_alloc(call, (size_t)n, WIDE);
    if (!c.data)
        return KAENA_RESOURCE_EXHAUSTED;
    product p = {.m = rows, .n = columns, .k = summed};
    kop_gemm gemm = {.m = p.m,
                     .n = p.n,
                     .k = p.k,
                     .ctx = &p,
                     .pack_a = pack_a,
                     .pack_b = pack_b,
                     .store = store};
    for (int64_t i = 0; i < batch; i++) {
        p.a = element(&a, i * p.m * p.k);
        p.b = element(&b, i * p.k * p.n);
        p.c = element(&c, i * p.m * p.n);
        KAENA_TRY(real ? kop_gemm_run(call, &gemm) : multiply_ints(call, &p));
    }
    *acc = c;
    return KAENA_OK;
}

/* Sums the labels of |f| that |wanted| does not hold. */
static kaena_status sum_out(kop_call *call, factor *f, const bool *wanted)
{
    factor ordered = {.n = 0}, out = {.n = 0};
    int64_t kept = 1, summed = 1;
    bool real = kop_kind_of(call->in[0]->dtype) == KOP_KIND_FLOAT;
    for (int32_t i = 0; i < f->n; i++)
        if (wanted[f->label[i]])
            (void)append(&ordered, f, i, &kept);
    out = ordered;
    for (int32_t i = 0; i < f->n; i++)
        if (!wanted[f->label[i]])
            (void)append(&ordered, f, i, &summed);
    if (out.n == f->n)
        return KAENA_OK;
    KAENA_TRY(permute(call, f, &ordered));
    out.data = kop_alloc(call, (size_t)kept, WIDE);
    if (!out.data)
        return KAENA_RESOURCE_EXHAUSTED;
    for (int64_t i = 0; i < kept; i++) {
        for (int64_t k = 0; k < summed; k++) {
            if (real)
                ((double *)out.data)[i] += ((const double *)ordered.data)[i * summed + k];
            else
                ((uint64_t *)out.data)[i] += ((const uint64_t *)ordered.data)[i * summed + k];
        }
        KAENA_TRY(kop_poll(call));
    }
    *f = out;
    return KAENA_OK;
}

/* What is needed behind operand |i|: labels of the result and of operands from |i| on. */
static void labels_from(const kop_call *call, const equation *e, uint32_t i, bool *out)
{
    memset(out, 0, MAX_LABELS * sizeof *out);
    for (int32_t k = 0; k < e->out.n; k++)
        out[e->out.label[k]] = true;
    for (; i < call->n_in; i++)
        for (int32_t k = 0; k < e->in[i].n; k++)
            out[e->in[i].label[k]] = true;
}

kaena_status kop_eval_einsum(kop_call *call)
{
    kop_tensor *out = &call->out[0];
    equation e;
    factor acc, x;
    bool wanted[MAX_LABELS], later[MAX_LABELS];
    KAENA_TRY(equation_of(call, &e));
    /* A label of size 0 leaves nothing to sum: the result is zeros, whatever the other sizes. */
    for (uint32_t i = 0; i < call->n_in; i++)
        if (kop_elements(call->in[i]) == 0)
            return KAENA_OK;
    KAENA_TRY(load(call, &e, 0, &acc));
    labels_from(call, &e, 1, wanted);
    KAENA_TRY(sum_out(call, &acc, wanted));
    for (uint32_t i = 1; i < call->n_in; i++) {
        KAENA_TRY(load(call, &e, i, &x));
        labels_from(call, &e, i + 1, later);
        memcpy(wanted, later, sizeof wanted);
        for (int32_t k = 0; k < acc.n; k++)
            wanted[acc.label[k]] = true;
        KAENA_TRY(sum_out(call, &x, wanted));
        for (int32_t k = 0; k < acc.n; k++)
            wanted[acc.label[k]] = later[acc.label[k]] || place_of(&x, acc.label[k]) >= 0;
        KAENA_TRY(sum_out(call, &acc, wanted));
        KAENA_TRY(contract(call, &acc, &x, later));
    }
    factor result = {.n = 0};
    int64_t n = 1;
    for (int32_t i = 0; i < e.out.n; i++) {
        int32_t at = place_of(&acc, e.out.label[i]);
        if (at >= 0)
            (void)append(&result, &acc, at, &n);
    }
    KAENA_TRY(permute(call, &acc, &result));
    if (kop_kind_of(out->dtype) == KOP_KIND_FLOAT)
        kop_store_f64(out, 0, kop_elements(out), result.data);
    else
        kop_store_i64(out, 0, kop_elements(out), result.data);
    return KAENA_OK;
}
