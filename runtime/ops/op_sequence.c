/* Sequences and optionals. Results share their elements with the inputs: graph/eval.c keeps these
 * alive. */
#include "ops_impl.h"

static kaena_status need_form(const kop_call *call, uint32_t i, uint8_t form)
{
    if (call->in[i]->form == form)
        return KAENA_OK;
    return KOP_BAD(call, "%s: input %u is of type %s, must be %s", kop_row_of(call->op)->name, i,
                   kop_form_name(call->in[i]->form), kop_form_name(form));
}

static kaena_status need_tensors(const kop_call *call, uint32_t first)
{
    for (uint32_t i = first; i < call->n_in; i++)
        if (call->in[i])
            KAENA_TRY(need_form(call, i, KOP_FORM_TENSOR));
    return KAENA_OK;
}

/* The type alone of |t|, of another form perhaps. */
static kop_tensor type_of(const kop_tensor *t, unsigned form)
{
    return (kop_tensor){
        .dtype = t->dtype, .shape = t->shape, .unranked = t->unranked, .form = (uint8_t)form};
}

/* Gives output 0 room for |n| items; what is common to them is the inferred type. */
static kop_tensor *make_items(kop_call *call, size_t n)
{
    kop_tensor *items = kop_alloc(call, n, sizeof *items);
    if (items) {
        call->out[0].data = items;
        call->out[0].count = n;
    }
    return items;
}

/* An operand that counts the places of a sequence: from -|most| to below |end|. */
static kaena_status position(kop_call *call, uint32_t i, size_t n, size_t end, size_t *out)
{
    const kop_tensor *t = call->in[i];
    if (kop_elements(t) != 1)
        return KOP_BAD(call, "%s: the position must be one number", kop_row_of(call->op)->name);
    int64_t at = kop_get_int(t, 0);
    if (at < -(int64_t)n || at >= (int64_t)end)
        return KOP_BAD(call, "%s: position %" PRId64 " in a sequence of %zu",
                       kop_row_of(call->op)->name, at, n);
    *out = (size_t)(at < 0 ? at + (int64_t)n : at);
    return KAENA_OK;
}

/* --- Identity --- */

kaena_status kop_infer_form(kop_call *call)
{
    if (call->in[0]->form == KOP_FORM_TENSOR)
        return kop_infer_same(call);
    call->out[0] = type_of(call->in[0], call->in[0]->form);
    return KAENA_OK;
}

kaena_status kop_eval_form(kop_call *call)
{
    if (call->in[0]->form == KOP_FORM_TENSOR)
        return kop_eval_identity(call);
    call->out[0] = *call->in[0];
    return KAENA_OK;
}

/* --- Making and taking apart --- */

kaena_status kop_infer_sequence_construct(kop_call *call)
{
    KAENA_TRY(need_tensors(call, 0));
    kop_tensor t = type_of(call->in[0], KOP_FORM_TENSOR);
    for (uint32_t i = 1; i < call->n_in; i++)
        if (!call->in[i])
            return KOP_BAD(call, "SequenceConstruct: input %u is absent", i);
        else if (!kop_join_types(&t, call->in[i], &t))
            return KOP_BAD(call, "SequenceConstruct: %s and %s do not go into one sequence",
                           kaena_dtype_name(t.dtype), kaena_dtype_name(call->in[i]->dtype));
    call->out[0] = type_of(&t, KOP_FORM_SEQUENCE);
    return KAENA_OK;
}

kaena_status kop_eval_sequence_construct(kop_call *call)
{
    kop_tensor *items = make_items(call, call->n_in);
    if (!items)
        return KAENA_RESOURCE_EXHAUSTED;
    for (uint32_t i = 0; i < call->n_in; i++)
        items[i] = *call->in[i];
    return KAENA_OK;
}

static kaena_status attr_dtype(const kop_call *call, const char *name, kaena_dtype *out)
{
    int64_t dtype = kop_attr_int(call, name, KAENA_F32);
    if (dtype < 1 || dtype > UINT8_MAX || !kaena_dtype_size((kaena_dtype)dtype))
        return KOP_BAD(call, "%s %" PRId64 " is no element type", name, dtype);
    *out = (kaena_dtype)dtype;
    return KAENA_OK;
}

kaena_status kop_infer_sequence_empty(kop_call *call)
{
    kop_tensor *out = &call->out[0];
    out->form = KOP_FORM_SEQUENCE;
    return attr_dtype(call, "dtype", &out->dtype);
}

kaena_status kop_infer_sequence_at(kop_call *call)
{
    KAENA_TRY(need_form(call, 0, KOP_FORM_SEQUENCE));
    KAENA_TRY(need_tensors(call, 1));
    KAENA_TRY(kop_need(call, 1, KOP_T_INDEX));
    call->out[0] = type_of(call->in[0], KOP_FORM_TENSOR);
    return KAENA_OK;
}

kaena_status kop_eval_sequence_at(kop_call *call)
{
    const kop_tensor *from = call->in[0];
    size_t at = 0;
    KAENA_TRY(position(call, 1, from->count, from->count, &at));
    call->out[0] = kop_items(from)[at];
    return KAENA_OK;
}

kaena_status kop_infer_sequence_length(kop_call *call)
{
    KAENA_TRY(need_form(call, 0, KOP_FORM_SEQUENCE));
    kop_out(call, 0, KAENA_I64, &(kaena_shape){0});
    return KAENA_OK;
}

kaena_status kop_eval_sequence_length(kop_call *call)
{
    kop_set_int(&call->out[0], 0, (int64_t)call->in[0]->count);
    return KAENA_OK;
}

kaena_status kop_infer_sequence_insert(kop_call *call)
{
    KAENA_TRY(need_form(call, 0, KOP_FORM_SEQUENCE));
    KAENA_TRY(need_tensors(call, 1));
    KAENA_TRY(kop_need(call, 2, KOP_T_INDEX));
    kop_tensor of = type_of(call->in[0], KOP_FORM_TENSOR);
    /* The first element says what the sequence is of. */
    if (call->in[0]->data && call->in[0]->count == 0 && of.dtype == call->in[1]->dtype)
        of = type_of(call->in[1], KOP_FORM_TENSOR);
    if (!kop_join_types(&of, call->in[1], &of))
        return KOP_BAD(call, "SequenceInsert: %s into a sequence of %s",
                       kaena_dtype_name(call->in[1]->dtype), kaena_dtype_name(of.dtype));
    call->out[0] = type_of(&of, KOP_FORM_SEQUENCE);
    return KAENA_OK;
}

kaena_status kop_eval_sequence_insert(kop_call *call)
{
    const kop_tensor *from = call->in[0];
    size_t at = from->count;
    if (kop_in(call, 2))
        KAENA_TRY(position(call, 2, from->count, from->count + 1, &at));
    kop_tensor *items = make_items(call, from->count + 1);
    if (!items)
        return KAENA_RESOURCE_EXHAUSTED;
    memcpy(items, from->data, at * sizeof *items);
    items[at] = *call->in[1];
    memcpy(items + at + 1, kop_items(from) + at, (from->count - at) * sizeof *items);
    return KAENA_OK;
}

kaena_status kop_infer_sequence_erase(kop_call *call)
{
    KAENA_TRY(need_form(call, 0, KOP_FORM_SEQUENCE));
    KAENA_TRY(need_tensors(call, 1));
    KAENA_TRY(kop_need(call, 1, KOP_T_INDEX));
    call->out[0] = type_of(call->in[0], KOP_FORM_SEQUENCE);
    return KAENA_OK;
}

kaena_status kop_eval_sequence_erase(kop_call *call)
{
    const kop_tensor *from = call->in[0];
    size_t n = from->count, at = n - 1;
    if (kop_in(call, 1))
        KAENA_TRY(position(call, 1, n, n, &at));
    else if (n == 0)
        return KOP_BAD(call, "SequenceErase: the sequence is empty");
    kop_tensor *items = make_items(call, n - 1);
    if (!items)
        return KAENA_RESOURCE_EXHAUSTED;
    memcpy(items, from->data, at * sizeof *items);
    memcpy(items + at, kop_items(from) + at + 1, (n - 1 - at) * sizeof *items);
    return KAENA_OK;
}

/* --- Optionals --- */

/* Without an operand the attributes kaena.form (of the optional) and kaena.dtype say of what. */
kaena_status kop_infer_optional(kop_call *call)
{
    const kop_tensor *x = kop_in(call, 0);
    if (x) {
        if (x->form != KOP_FORM_TENSOR && x->form != KOP_FORM_SEQUENCE)
            return KOP_BAD(call, "Optional of an optional");
        call->out[0] =
            type_of(x, x->form == KOP_FORM_TENSOR ? KOP_FORM_OPTIONAL : KOP_FORM_OPTIONAL_SEQUENCE);
        return KAENA_OK;
    }
    int64_t form = kop_attr_int(call, "kaena.form", KOP_FORM_OPTIONAL);
    if (form != KOP_FORM_OPTIONAL && form != KOP_FORM_OPTIONAL_SEQUENCE)
        return KOP_BAD(call, "kaena.form %" PRId64 " is no optional", form);
    call->out[0].form = (uint8_t)form;
    return attr_dtype(call, "kaena.dtype", &call->out[0].dtype);
}

kaena_status kop_eval_optional(kop_call *call)
{
    const kop_tensor *x = kop_in(call, 0);
    kop_tensor *items = make_items(call, x != NULL);
    if (!items)
        return KAENA_RESOURCE_EXHAUSTED;
    if (x)
        items[0] = *x;
    return KAENA_OK;
}

static bool is_optional(const kop_tensor *x)
{
    return x->form == KOP_FORM_OPTIONAL || x->form == KOP_FORM_OPTIONAL_SEQUENCE;
}

/* Since opset 18 both take what is no optional, which always is there. */
kaena_status kop_infer_optional_has(kop_call *call)
{
    kop_out(call, 0, KAENA_BOOL, &(kaena_shape){0});
    return KAENA_OK;
}

kaena_status kop_eval_optional_has(kop_call *call)
{
    const kop_tensor *x = kop_in(call, 0);
    kop_set_int(&call->out[0], 0, x && (!is_optional(x) || x->count > 0));
    return KAENA_OK;
}

kaena_status kop_infer_optional_get(kop_call *call)
{
    const kop_tensor *x = call->in[0];
    call->out[0] = type_of(x, is_optional(x) ? kop_item_form(x->form) : x->form);
    return KAENA_OK;
}

kaena_status kop_eval_optional_get(kop_call *call)
{
    const kop_tensor *x = call->in[0];
    if (is_optional(x) && x->count == 0)
        return KOP_BAD(call, "OptionalGetElement: there is no element");
    call->out[0] = is_optional(x) ? kop_items(x)[0] : *x;
    return KAENA_OK;
}

/* --- To and from one tensor --- */

/* Copies |rows| runs of |bytes|, |to_step| and |from_step| apart. */
static void copy_rows(char *to, const char *from, size_t rows, size_t bytes, size_t to_step,
                      size_t from_step)
{
    for (size_t i = 0; i < rows && bytes; i++)
        memcpy(to + i * to_step, from + i * from_step, bytes);
}

static kaena_status concat_axis(const kop_call *call, int32_t rank, bool *fresh, int32_t *axis)
{
    if (!kop_attr_find(call, "axis"))
        return KOP_BAD(call, "ConcatFromSequence: there is no axis");
    *fresh = kop_attr_int(call, "new_axis", 0) != 0;
    if (rank + *fresh > KAENA_MAX_RANK)
        return KOP_BAD(call, "ConcatFromSequence: more than %d dimensions", KAENA_MAX_RANK);
    return kop_attr_axis(call, "axis", 0, rank + *fresh, axis);
}

kaena_status kop_infer_concat_from_sequence(kop_call *call)
{
    const kop_tensor *x = call->in[0];
    bool fresh;
    int32_t axis;
    KAENA_TRY(need_form(call, 0, KOP_FORM_SEQUENCE));
    kop_out_unranked(call, 0, x->dtype);
    if (x->unranked)
        return KAENA_OK;
    KAENA_TRY(concat_axis(call, x->shape.rank, &fresh, &axis));
    kaena_shape shape = x->shape;
    if (fresh) {
        memmove(&shape.dim[axis + 1], &shape.dim[axis],
                (size_t)(shape.rank - axis) * sizeof shape.dim[0]);
        shape.rank++;
    }
    shape.dim[axis] = KAENA_DIM_UNKNOWN;
    kop_out(call, 0, x->dtype, &shape);
    return KAENA_OK;
}

kaena_status kop_eval_concat_from_sequence(kop_call *call)
{
    const kop_tensor *x = call->in[0], *items = kop_items(x);
    bool fresh;
    int32_t axis;
    if (x->count == 0)
        return KOP_BAD(call, "ConcatFromSequence: the sequence is empty");
    kaena_shape shape = items[0].shape;
    KAENA_TRY(concat_axis(call, shape.rank, &fresh, &axis));
    int64_t sum = 0;
    for (size_t i = 0; i < x->count; i++) {
        const kaena_shape *s = &items[i].shape;
        bool fits = items[i].dtype == x->dtype && s->rank == shape.rank;
        for (int32_t d = 0; fits && d < s->rank; d++)
            fits = s->dim[d] == shape.dim[d] || (!fresh && d == axis);
        if (!fits || !kaena_add_i64(sum, fresh ? 1 : s->dim[axis], &sum))
            return KOP_BAD(call, "ConcatFromSequence: element %zu does not fit the first", i);
    }
    kaena_shape out = shape;
    if (fresh) {
        memmove(&out.dim[axis + 1], &out.dim[axis], (size_t)(out.rank - axis) * sizeof out.dim[0]);
        out.rank++;
    }
    out.dim[axis] = sum;
    KAENA_TRY(kop_output(call, 0, x->dtype, &out));
    size_t rows = (size_t)kop_span(&out, 0, axis), size = kaena_dtype_size(x->dtype),
           inner = (size_t)kop_span(&out, axis + 1, out.rank) * size;
    char *to = call->out[0].data;
    for (size_t i = 0; i < x->count; i++) {
        size_t bytes = (fresh ? 1 : (size_t)items[i].shape.dim[axis]) * inner;
        copy_rows(to, items[i].data, rows, bytes, (size_t)sum * inner, bytes);
        to += bytes;
        KAENA_TRY(kop_poll(call));
    }
    return KAENA_OK;
}

kaena_status kop_infer_split_to_sequence(kop_call *call)
{
    const kop_tensor *x = call->in[0];
    KAENA_TRY(need_tensors(call, 0));
    KAENA_TRY(kop_need(call, 1, KOP_T_INDEX));
    call->out[0] = type_of(x, KOP_FORM_SEQUENCE);
    if (x->unranked)
        return KAENA_OK;
    int32_t axis;
    kaena_shape *shape = &call->out[0].shape;
    KAENA_TRY(kop_attr_axis(call, "axis", 0, x->shape.rank, &axis));
    shape->dim[axis] = kop_in(call, 1) ? KAENA_DIM_UNKNOWN : 1;
    if (kop_in(call, 1) || kop_attr_int(call, "keepdims", 1))
        return KAENA_OK;
    memmove(&shape->dim[axis], &shape->dim[axis + 1],
            (size_t)(shape->rank - axis - 1) * sizeof shape->dim[0]);
    shape->rank--;
    return KAENA_OK;
}

/* The size of part |i|: all alike but the last where |split| has one number, else as listed. */
static int64_t part_size(const kop_tensor *split, size_t i)
{
    if (!split)
        return 1;
    return kop_get_int(split, split->shape.rank == 0 ? 0 : i);
}

static kaena_status count_parts(const kop_call *call, int64_t all, size_t *out)
{
    const kop_tensor *split = kop_in(call, 1);
    if (!split || split->shape.rank == 0) {
        int64_t each = part_size(split, 0);
        if (each < 1)
            return KOP_BAD(call, "SplitToSequence: parts of %" PRId64, each);
        *out = (size_t)(all / each + (all % each != 0));
        return KAENA_OK;
    }
    int64_t sum = 0;
    size_t n = kop_elements(split);
    for (size_t i = 0; i < n; i++)
        if (part_size(split, i) < 0 || !kaena_add_i64(sum, part_size(split, i), &sum))
            return KOP_BAD(call, "SplitToSequence: a part of %" PRId64, part_size(split, i));
    if (split->shape.rank != 1 || sum != all)
        return KOP_BAD(call, "SplitToSequence: parts of %" PRId64 " in all, there are %" PRId64,
                       sum, all);
    *out = n;
    return KAENA_OK;
}

kaena_status kop_eval_split_to_sequence(kop_call *call)
{
    const kop_tensor *x = call->in[0], *split = kop_in(call, 1);
    int32_t axis, rank = x->shape.rank;
    size_t n = 0;
    KAENA_TRY(kop_attr_axis(call, "axis", 0, rank, &axis));
    int64_t all = x->shape.dim[axis];
    KAENA_TRY(count_parts(call, all, &n));
    kop_tensor *items = make_items(call, n);
    if (!items)
        return KAENA_RESOURCE_EXHAUSTED;
    size_t rows = (size_t)kop_span(&x->shape, 0, axis), size = kaena_dtype_size(x->dtype),
           inner = (size_t)kop_span(&x->shape, axis + 1, rank) * size;
    int64_t at = 0;
    for (size_t i = 0; i < n; i++) {
        int64_t part = part_size(split, i);
        part = part < all - at ? part : all - at;
        items[i] = type_of(x, KOP_FORM_TENSOR);
        items[i].shape.dim[axis] = part;
        if (call->out[0].shape.rank < rank)
            items[i].shape = call->out[0].shape;
        items[i].data = kop_alloc(call, rows * (size_t)part, inner);
        if (!items[i].data)
            return KAENA_RESOURCE_EXHAUSTED;
        copy_rows(items[i].data, (const char *)x->data + (size_t)at * inner, rows,
                  (size_t)part * inner, (size_t)part * inner, (size_t)all * inner);
        at += part;
        KAENA_TRY(kop_poll(call));
    }
    return KAENA_OK;
}

/* --- Nodes with bodies --- */

kaena_status kop_infer_bodies(kop_call *call)
{
    return KOP_BAD(call, "%s has no body", kop_row_of(call->op)->name);
}

kaena_status kop_eval_bodies(kop_call *call)
{
    return KOP_BAD(call, "%s has no body", kop_row_of(call->op)->name);
}
