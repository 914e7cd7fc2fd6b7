/* Applies the table of older forms. */
#include <string.h>

#include "onnx_internal.h"

typedef enum row_kind { ROW_MOVED, ROW_ATTR, ROW_RENAMED, ROW_SPECIAL, ROW_REPLACED } row_kind;
typedef enum moved_form { FORM_INTS, FORM_INT, FORM_SCALAR, FORM_FLOATS, FORM_LIKE } moved_form;

typedef struct row {
    const char *op;
    row_kind kind;
    int64_t first, last;                    /* operator sets */
    const char *attr;                       /* MOVED, ATTR; RENAMED: the new name */
    uint32_t slot;                          /* MOVED */
    moved_form form;                        /* MOVED */
    kop_attr value;                         /* ATTR */
    kaena_status (*function)(onnx_xlat *x); /* SPECIAL, REPLACED */
} row;

#define ATTR_TYPE_i KOP_ATTR_INT
#define ATTR_TYPE_f KOP_ATTR_FLOAT
#define ATTR_TYPE_s KOP_ATTR_STRING

static const row rows[] = {
#define ONNX_MOVED(OP, LAST, ATTR, SLOT, FORM)                                                     \
    {.op = #OP,                                                                                    \
     .kind = ROW_MOVED,                                                                            \
     .first = 1,                                                                                   \
     .last = (LAST),                                                                               \
     .attr = #ATTR,                                                                                \
     .slot = (SLOT),                                                                               \
     .form = FORM_##FORM},
#define ONNX_ATTR(OP, LAST, ATTR, FIELD, VALUE)                                                    \
    {.op = #OP,                                                                                    \
     .kind = ROW_ATTR,                                                                             \
     .first = 1,                                                                                   \
     .last = (LAST),                                                                               \
     .attr = #ATTR,                                                                                \
     .value = {.name = #ATTR, .type = ATTR_TYPE_##FIELD, .u.FIELD = (VALUE)}},
#define ONNX_RENAMED(OP, LAST, NEW)                                                                \
    {.op = #OP, .kind = ROW_RENAMED, .first = 1, .last = (LAST), .attr = #NEW},
#define ONNX_SPECIAL(OP, FIRST, LAST, FUNCTION)                                                    \
    {.op = #OP,                                                                                    \
     .kind = ROW_SPECIAL,                                                                          \
     .first = (FIRST),                                                                             \
     .last = (LAST),                                                                               \
     .function = onnx_legacy_##FUNCTION},
#define ONNX_REPLACED(OP, FIRST, LAST, FUNCTION)                                                   \
    {.op = #OP,                                                                                    \
     .kind = ROW_REPLACED,                                                                         \
     .first = (FIRST),                                                                             \
     .last = (LAST),                                                                               \
     .function = onnx_legacy_##FUNCTION},
#include "onnx_legacy.def"
#undef ONNX_MOVED
#undef ONNX_ATTR
#undef ONNX_RENAMED
#undef ONNX_SPECIAL
#undef ONNX_REPLACED
};

#define N_ROWS (sizeof rows / sizeof rows[0])

static bool applies(const row *r, const char *op, int64_t opset)
{
    return opset >= r->first && opset <= r->last && strcmp(r->op, op) == 0;
}

bool onnx_legacy_knows(const char *op, int64_t opset)
{
    for (size_t i = 0; i < N_ROWS; i++) {
        if ((rows[i].kind == ROW_RENAMED || rows[i].kind == ROW_REPLACED) &&
            applies(&rows[i], op, opset))
            return true;
    }
    return false;
}

/* One number of the type that input 0 has. */
static kaena_status like_first_input(onnx_xlat *x, const kop_attr *a, kgr_value **out)
{
    kgr_value *first = onnx_xlat_in(x, 0);
    if (!first || (a->type != KOP_ATTR_FLOAT && a->type != KOP_ATTR_INT))
        return KAENA_FAIL(x->imp->err, INVALID_ARGUMENT,
                          "attribute '%s' is not a number, or "
                          "input 0 is left out",
                          a->name);
    KAENA_TRY(onnx_xlat_need_type(x, first));
    if (first->t.dtype == KAENA_DTYPE_NONE || first->t.dtype == KAENA_STRING)
        return KAENA_FAIL(x->imp->err, INVALID_ARGUMENT, "input 0 is not numeric");
    double v = a->type == KOP_ATTR_FLOAT ? (double)a->u.f : (double)a->u.i;
    void *data = kaena_arena_alloc(x->imp->arena, kaena_dtype_size(first->t.dtype));
    if (!data)
        return onnx_xlat_no_memory(x);
    kaena_cast(data, first->t.dtype, &v, KAENA_F64, 1);
    *out = onnx_xlat_const(x, a->name, first->t.dtype, &(kaena_shape){0}, data);
    return KAENA_OK;
}

static kaena_status make_moved(onnx_xlat *x, const row *r, const kop_attr *a, kgr_value **out)
{
    kop_attr_type wants = r->form == FORM_INTS     ? KOP_ATTR_INTS
                          : r->form == FORM_FLOATS ? KOP_ATTR_FLOATS
                                                   : KOP_ATTR_INT;
    if (r->form == FORM_LIKE)
        return like_first_input(x, a, out);
    if (a->type != wants)
        return KAENA_FAIL(x->imp->err, INVALID_ARGUMENT, "attribute '%s' has the wrong type",
                          a->name);
    switch (r->form) {
    case FORM_INTS:
        *out = onnx_xlat_i64(x, a->name, a->u.ints, a->n);
        return KAENA_OK;
    case FORM_INT:
        *out = onnx_xlat_i64(x, a->name, &a->u.i, 1);
        return KAENA_OK;
    case FORM_SCALAR: {
        const int64_t *copy = kaena_arena_memdup(x->imp->arena, &a->u.i, sizeof a->u.i);
        *out = onnx_xlat_const(x, a->name, KAENA_I64, &(kaena_shape){0}, copy);
        return KAENA_OK;
    }
    case FORM_FLOATS:
        *out = onnx_xlat_const(x, a->name, KAENA_F32, &(kaena_shape){1, {a->n}}, a->u.floats);
        return KAENA_OK;
    case FORM_LIKE:
        break;
    }
    return KAENA_OK;
}

static kaena_status apply_moved(onnx_xlat *x, const row *r)
{
    const kop_attr *a = onnx_xlat_attr(x, r->attr);
    if (!a)
        return KAENA_OK;
    kop_op op = kop_find(x->op);
    bool empty = (r->form == FORM_INTS || r->form == FORM_FLOATS) && a->n == 0;
    kgr_value *v = NULL;
    /* An empty list is how exporters say that an optional attribute is absent. */
    if (!empty || (op != KOP_NONE && r->slot < kop_row_of(op)->min_in)) {
        KAENA_TRY(make_moved(x, r, a, &v));
        KAENA_TRY(onnx_xlat_set_in(x, r->slot, v));
    }
    onnx_xlat_drop(x, r->attr);
    return KAENA_OK;
}

kaena_status onnx_legacy(onnx_xlat *x)
{
    /* Memory hints of operator set 1. */
    onnx_xlat_drop(x, "consumed_inputs");
    for (size_t i = 0; i < N_ROWS && !x->done; i++) {
        const row *r = &rows[i];
        if (!applies(r, x->op, x->opset))
            continue;
        switch (r->kind) {
        case ROW_MOVED:
            KAENA_TRY(apply_moved(x, r));
            break;
        case ROW_ATTR:
            if (!onnx_xlat_attr(x, r->attr))
                KAENA_TRY(onnx_xlat_set(x, &r->value));
            break;
        case ROW_RENAMED:
            x->op = r->attr;
            break;
        case ROW_SPECIAL:
        case ROW_REPLACED:
            KAENA_TRY(r->function(x));
            break;
        }
    }
    return KAENA_OK;
}
