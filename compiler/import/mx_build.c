/* From a handler's wishes to nodes and values of the graph. */
#include <inttypes.h>
#include <string.h>

#include "mx_internal.h"

kaena_status mx_no_memory(const mx_import *imp)
{
    return KAENA_FAIL(imp->err, RESOURCE_EXHAUSTED, "no memory for the graph");
}

static void no_memory(mx_xlat *x)
{
    if (x->status == KAENA_OK)
        x->status = mx_no_memory(x->imp);
}

/* --- Variables ------------------------------------------------------------------------------- */

static const char *variable_text(const mx_node *n, const char *name)
{
    for (uint32_t i = 0; i < n->n_attr; i++)
        if (strcmp(n->attr[i].name, name) == 0)
            return n->attr[i].text;
    return NULL;
}

/* "__shape__": what the author said of the shape; 0 (-1 with numpy's shapes) is open. */
static void read_hint(const mx_node *n, mx_value *m)
{
    const char *text = variable_text(n, "__shape__");
    kaena_shape s = {0};
    uint32_t rank;
    if (!text || !mx_parse_ints(text, s.dim, KAENA_MAX_RANK, &rank) || rank == 0)
        return;
    s.rank = (int32_t)rank;
    for (int32_t i = 0; i < s.rank; i++)
        if (s.dim[i] < 0)
            s.dim[i] = 0;
    m->has_hint = true;
    m->hint = s;
}

static bool hint_is_whole(const mx_value *m)
{
    for (int32_t i = 0; i < m->hint.rank; i++)
        if (m->hint.dim[i] == 0)
            return false;
    return m->has_hint;
}

static kaena_status make_parameter(mx_import *imp, const mx_param *p, mx_value *out)
{
    if (p->dtype == KAENA_DTYPE_NONE)
        return KAENA_FAIL(imp->err, INVALID_ARGUMENT, "parameter '%s' has no contents", p->name);
    void *data = kaena_arena_memdup(imp->arena, p->data, p->bytes);
    out->v = data ? kgr_const_add(imp->g, p->name, p->dtype, &p->shape, data) : NULL;
    return out->v ? KAENA_OK : mx_no_memory(imp);
}

static kaena_status make_input(mx_import *imp, mx_value *m, const kaena_shape *shape)
{
    const char *name = imp->symbol->nodes[m->variable].name;
    int64_t n;
    if (!kaena_shape_elements(shape, &n))
        return KAENA_FAIL(imp->err, INVALID_ARGUMENT, "input '%s' is too large", name);
    kaena_dtype dtype = m->dtype != KAENA_DTYPE_NONE ? m->dtype : imp->float_type;
    m->v = kgr_value_add(imp->g, name, dtype, shape);
    if (!m->v)
        return mx_no_memory(imp);
    if (strcmp(m->v->name, name) != 0)
        return KAENA_FAIL(imp->err, INVALID_ARGUMENT, "two variables are called '%s'", name);
    if (imp->batch == 0 && shape->rank > 0)
        imp->batch = shape->dim[0];
    return KAENA_OK;
}

kaena_status mx_variable(mx_import *imp, uint32_t node, mx_value *out)
{
    const mx_node *n = &imp->symbol->nodes[node];
    mx_value m = {.variable = node};
    const kcc_io_input *said = kcc_io_config_input(imp->io, n->name);
    const mx_param *p = imp->params ? mx_params_find(imp->params, n->name) : NULL;
    const char *type = variable_text(n, "__dtype__");
    int64_t number;
    uint32_t count;
    if (type && mx_parse_ints(type, &number, 1, &count) && count == 1)
        m.dtype = mx_dtype_of(number);
    if (said && said->dtype != KAENA_DTYPE_NONE)
        m.dtype = said->dtype;
    read_hint(n, &m);
    *out = m;
    if (said)
        return make_input(imp, out, &said->shape);
    if (p)
        return make_parameter(imp, p, out);
    return hint_is_whole(&m) ? make_input(imp, out, &m.hint) : KAENA_OK;
}

bool mx_is_missing(const mx_import *imp, uint32_t node)
{
    const char *name = imp->symbol->nodes[node].name;
    return imp->params && !kcc_io_config_input(imp->io, name) && !mx_params_find(imp->params, name);
}

static kaena_status resolve_fill(mx_import *imp, mx_value *m, const kaena_shape *shape)
{
    int64_t n;
    if (!kaena_shape_elements(shape, &n) || n > KCC_MX_MAX_FILLED - imp->filled)
        return KAENA_FAIL(imp->err, RESOURCE_EXHAUSTED,
                          "constants that the symbol makes have more than %" PRId64 " elements",
                          KCC_MX_MAX_FILLED);
    imp->filled += n;
    kop_tensor t = {.dtype = m->dtype, .shape = *shape};
    t.data = kaena_arena_alloc(imp->arena, (size_t)n * kaena_dtype_size(m->dtype));
    for (int64_t i = 0; t.data && m->fill != 0 && i < n; i++)
        kop_set_float(&t, (size_t)i, (double)m->fill);
    m->v = t.data ? kgr_const_add(imp->g, NULL, t.dtype, shape, t.data) : NULL;
    return m->v ? KAENA_OK : mx_no_memory(imp);
}

kaena_status mx_resolve(mx_import *imp, mx_value *m, const kaena_shape *shape)
{
    bool fits = !m->has_hint || m->hint.rank == shape->rank;
    for (int32_t i = 0; fits && m->has_hint && i < shape->rank; i++)
        fits = m->hint.dim[i] == 0 || m->hint.dim[i] == shape->dim[i];
    if (!fits) {
        char a[KAENA_SHAPE_TEXT], b[KAENA_SHAPE_TEXT];
        return KAENA_FAIL(
            imp->err, INVALID_ARGUMENT, "'%s' is said to be %s but is used as %s",
            m->variable == MX_NO_NODE ? "zeros" : imp->symbol->nodes[m->variable].name,
            kaena_shape_print(&m->hint, a, sizeof a), kaena_shape_print(shape, b, sizeof b));
    }
    return m->is_fill ? resolve_fill(imp, m, shape) : make_input(imp, m, shape);
}

/* --- Operands -------------------------------------------------------------------------------- */

bool mx_has_in(const mx_xlat *x, uint32_t i)
{
    return i < x->n_in && x->in[i];
}

kgr_value *mx_in(mx_xlat *x, uint32_t i)
{
    if (x->status == KAENA_OK && (!mx_has_in(x, i) || !x->in[i]->v)) {
        char name[32], kind;
        if (!mx_row_slot(x->row, i, name, sizeof name, &kind))
            (void)MX_FAIL(x, INVALID_ARGUMENT, "input %u is missing", i);
        else
            (void)MX_FAIL(x, INVALID_ARGUMENT, "input '%s' is missing or its shape unknown", name);
    }
    return x->status == KAENA_OK ? x->in[i]->v : &x->nothing;
}

static void missing_parameter(mx_xlat *x, const char *name)
{
    (void)MX_FAIL(x, FAILED_PRECONDITION, "parameter '%s' is not in the file of parameters", name);
    kaena_err_hint(x->imp->err,
                   "give the file that was saved with this symbol as --params, or make "
                   "'%s' an input by naming it in --io-config",
                   name);
}

/* Slot |i|, which the symbol leaves out, goes by the name MXNet would give it. */
static kgr_value *find_left_out(mx_xlat *x, uint32_t i)
{
    char slot[32], kind;
    if (!mx_row_slot(x->row, i, slot, sizeof slot, &kind)) {
        (void)MX_FAIL(x, INVALID_ARGUMENT, "input %u is missing", i);
        return &x->nothing;
    }
    const char *name = kaena_arena_printf(x->imp->arena, "%s_%s", x->node->name, slot);
    const mx_param *p = x->imp->params && name ? mx_params_find(x->imp->params, name) : NULL;
    mx_value m = {.variable = MX_NO_NODE};
    if (!name)
        no_memory(x);
    else if (!p)
        missing_parameter(x, name);
    else
        x->status = make_parameter(x->imp, p, &m);
    return x->status == KAENA_OK ? m.v : &x->nothing;
}

kgr_value *mx_want(mx_xlat *x, uint32_t i, const kaena_shape *shape)
{
    if (x->status != KAENA_OK)
        return &x->nothing;
    mx_value *m = mx_has_in(x, i) ? x->in[i] : NULL;
    char slot[32], kind = ' ';
    (void)mx_row_slot(x->row, i, slot, sizeof slot, &kind);
    if (kind == '*' && m && !m->v && m->variable != MX_NO_NODE &&
        mx_is_missing(x->imp, m->variable)) {
        missing_parameter(x, x->imp->symbol->nodes[m->variable].name);
        return &x->nothing;
    }
    if (m && !m->v)
        x->status = mx_resolve(x->imp, m, shape);
    kgr_value *v = m ? m->v : find_left_out(x, i);
    if (x->status != KAENA_OK)
        return &x->nothing;
    if (!kaena_shape_equal(&v->t.shape, shape)) {
        char a[KAENA_SHAPE_TEXT], b[KAENA_SHAPE_TEXT];
        (void)MX_FAIL(x, INVALID_ARGUMENT, "'%s' is %s, but %s is needed", v->name,
                      kaena_shape_print(&v->t.shape, a, sizeof a),
                      kaena_shape_print(shape, b, sizeof b));
        return &x->nothing;
    }
    return v;
}

int64_t mx_size(mx_xlat *x, const char *what, int64_t n)
{
    if (n >= 1 && n <= INT32_MAX)
        return n;
    if (x->status == KAENA_OK)
        (void)MX_FAIL(x, INVALID_ARGUMENT, "%s is %" PRId64, what, n);
    return 1;
}

int32_t mx_axis(mx_xlat *x, const char *name, int64_t otherwise, int32_t rank)
{
    int64_t axis = mx_int(x, name, otherwise);
    int32_t at;
    if (kop_axis(axis, rank, &at))
        return at;
    if (x->status == KAENA_OK)
        (void)MX_FAIL(x, INVALID_ARGUMENT, "%s %" PRId64 " does not exist in %d dimensions", name,
                      axis, rank);
    return 0;
}

/* --- Nodes ----------------------------------------------------------------------------------- */

const char *mx_output_name(const mx_import *imp, const mx_node *node, const mx_row *row,
                           uint32_t n_out, uint32_t i)
{
    const char *list = row->outputs, *bar = *node->name ? "_" : "";
    for (uint32_t k = 0; k < i && list; k++) {
        list = strchr(list, ',');
        list = list ? list + 1 : NULL;
    }
    if (list && *list)
        return kaena_arena_printf(imp->arena, "%s%s%.*s", node->name, bar, (int)strcspn(list, ","),
                                  list);
    if (n_out == 1)
        return kaena_arena_printf(imp->arena, "%s%soutput", node->name, bar);
    return kaena_arena_printf(imp->arena, "%s%soutput%u", node->name, bar, i);
}

/* A name no framework uses. */
static const char *made_up(mx_xlat *x)
{
    return kaena_arena_printf(x->imp->arena, "%s::%u", x->node->name, x->n_made++);
}

void mx_emit_many(mx_xlat *x, int32_t out, kop_op op, kgr_value *const *in, uint32_t n_in,
                  const kop_attr *attr, uint32_t n_attr, kgr_value **results, uint32_t n_out)
{
    const char *names[KOP_MAX_OUTPUTS];
    for (uint32_t i = 0; i < n_out; i++)
        results[i] = &x->nothing;
    for (uint32_t i = 0; i < n_out && x->status == KAENA_OK; i++) {
        names[i] = out == MX_TMP
                       ? made_up(x)
                       : mx_output_name(x->imp, x->node, x->row, x->n_out, (uint32_t)out + i);
        if (!names[i])
            no_memory(x);
    }
    if (x->status != KAENA_OK)
        return;
    const char *name = out == MX_TMP ? names[0] : x->node->name;
    kgr_node *n = kgr_node_add(x->imp->g, NULL, op, name, x->node->op, in, n_in, names, n_out);
    for (uint32_t i = 0; n && i < n_attr; i++)
        if (!kgr_attr_set(x->imp->g, n, &attr[i]))
            n = NULL;
    if (!n) {
        no_memory(x);
        return;
    }
    x->status = kgr_infer_node(n, x->imp->err);
    for (uint32_t i = 0; i < n_out && x->status == KAENA_OK; i++) {
        results[i] = n->out[i];
        if (out != MX_TMP)
            x->out[out + (int32_t)i].v = n->out[i];
        if (n->out[i]->t.unranked || !kaena_shape_known(&n->out[i]->t.shape))
            (void)MX_FAIL(x, UNIMPLEMENTED, "the shape of its result depends on data");
    }
}

kgr_value *mx_emit(mx_xlat *x, int32_t out, kop_op op, kgr_value *const *in, uint32_t n_in,
                   const kop_attr *attr, uint32_t n_attr)
{
    kgr_value *v;
    mx_emit_many(x, out, op, in, n_in, attr, n_attr, &v, 1);
    return v;
}

kgr_value *mx_1(mx_xlat *x, int32_t out, kop_op op, kgr_value *a)
{
    return mx_emit(x, out, op, MX_IN(a), MX_NO_ATTRS);
}

kgr_value *mx_2(mx_xlat *x, int32_t out, kop_op op, kgr_value *a, kgr_value *b)
{
    return mx_emit(x, out, op, MX_IN(a, b), MX_NO_ATTRS);
}

kgr_value *mx_alias(mx_xlat *x, int32_t out, kgr_value *v)
{
    if (x->status == KAENA_OK && out != MX_TMP)
        x->out[out].v = v;
    return v;
}

/* --- Constants ------------------------------------------------------------------------------- */

static kgr_value *constant(mx_xlat *x, kaena_dtype dtype, const kaena_shape *shape,
                           const void *data)
{
    if (x->status != KAENA_OK)
        return &x->nothing;
    const char *name = made_up(x);
    kgr_value *v = name && data ? kgr_const_add(x->imp->g, name, dtype, shape, data) : NULL;
    if (!v)
        no_memory(x);
    return v ? v : &x->nothing;
}

kgr_value *mx_i64(mx_xlat *x, const int64_t *v, uint32_t n)
{
    return constant(x, KAENA_I64, &(kaena_shape){1, {n}},
                    kaena_arena_memdup(x->imp->arena, v, n * sizeof *v));
}

kgr_value *mx_filled(mx_xlat *x, kaena_dtype dtype, const kaena_shape *shape, double v)
{
    mx_value m = {.variable = MX_NO_NODE, .is_fill = true, .fill = (float)v, .dtype = dtype};
    if (x->status == KAENA_OK)
        x->status = mx_resolve(x->imp, &m, shape);
    return x->status == KAENA_OK ? m.v : &x->nothing;
}

kgr_value *mx_scalar(mx_xlat *x, kaena_dtype dtype, double v)
{
    kop_tensor t = {.dtype = dtype, .data = kaena_arena_alloc(x->imp->arena, 8)};
    if (t.data)
        kop_set_float(&t, 0, v);
    return constant(x, dtype, &t.shape, t.data);
}

kgr_value *mx_f32s(mx_xlat *x, const kaena_shape *shape, const float *v, kaena_dtype dtype)
{
    int64_t n;
    if (!kaena_shape_elements(shape, &n) || n > KCC_MX_MAX_FILLED - x->imp->filled) {
        if (x->status == KAENA_OK)
            (void)MX_FAIL(x, RESOURCE_EXHAUSTED, "its constants are too large");
        return &x->nothing;
    }
    x->imp->filled += n;
    void *data = kaena_arena_array(x->imp->arena, (size_t)n, kaena_dtype_size(dtype));
    if (data)
        kaena_cast(data, dtype, v, KAENA_F32, (size_t)n);
    return constant(x, dtype, shape, data);
}

/* --- Common steps ---------------------------------------------------------------------------- */

kgr_value *mx_reshape(mx_xlat *x, int32_t out, kgr_value *v, const kaena_shape *shape)
{
    kgr_value *to = mx_i64(x, shape->dim, (uint32_t)shape->rank);
    return mx_emit(x, out, KOP_Reshape, MX_IN(v, to), MX_ATTRS(MX_ATTR_INT("allowzero", 1)));
}

kgr_value *mx_transpose(mx_xlat *x, int32_t out, kgr_value *v, const int64_t *perm)
{
    return mx_emit(x, out, KOP_Transpose, MX_IN(v),
                   MX_ATTRS(MX_ATTR_INTS("perm", perm, v->t.shape.rank)));
}

kgr_value *mx_move_axis(mx_xlat *x, int32_t out, kgr_value *v, int32_t from, int32_t to)
{
    int64_t perm[KAENA_MAX_RANK];
    for (int32_t i = 0, next = 0; i < v->t.shape.rank; i++) {
        if (next == from)
            next++;
        perm[i] = i == to ? from : next++;
    }
    return mx_transpose(x, out, v, perm);
}

kgr_value *mx_cast(mx_xlat *x, int32_t out, kgr_value *v, kaena_dtype dtype)
{
    return mx_emit(x, out, KOP_Cast, MX_IN(v), MX_ATTRS(MX_ATTR_INT("to", dtype)));
}

kgr_value *mx_as(mx_xlat *x, kgr_value *v, kaena_dtype dtype)
{
    return v->t.dtype == dtype ? v : mx_cast(x, MX_TMP, v, dtype);
}

kgr_value *mx_reduce(mx_xlat *x, int32_t out, kop_op op, kgr_value *v, const int64_t *axes,
                     uint32_t n, bool keep)
{
    return mx_emit(x, out, op, MX_IN(v, mx_i64(x, axes, n)),
                   MX_ATTRS(MX_ATTR_INT("keepdims", keep), MX_ATTR_INT("noop_with_empty_axes", 1)));
}

kgr_value *mx_slice(mx_xlat *x, int32_t out, kgr_value *v, const int64_t *begin, const int64_t *end,
                    const int64_t *axes, const int64_t *steps, uint32_t n)
{
    return mx_emit(
        x, out, KOP_Slice,
        MX_IN(v, mx_i64(x, begin, n), mx_i64(x, end, n), mx_i64(x, axes, n), mx_i64(x, steps, n)),
        MX_NO_ATTRS);
}

kgr_value *mx_concat(mx_xlat *x, int32_t out, kgr_value *const *in, uint32_t n, int32_t axis)
{
    return mx_emit(x, out, KOP_Concat, in, n, MX_ATTRS(MX_ATTR_INT("axis", axis)));
}

kgr_value *mx_unsqueeze(mx_xlat *x, int32_t out, kgr_value *v, int64_t axis)
{
    return mx_2(x, out, KOP_Unsqueeze, v, mx_i64(x, &axis, 1));
}

kgr_value *mx_squeeze(mx_xlat *x, int32_t out, kgr_value *v, const int64_t *axes, uint32_t n)
{
    return mx_2(x, out, KOP_Squeeze, v, mx_i64(x, axes, n));
}
