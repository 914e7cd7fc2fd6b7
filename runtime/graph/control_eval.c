/* Evaluation of nodes with bodies. */
#include <stdlib.h>
#include <string.h>

#include "checked.h"
#include "control.h"

/* One evaluation of a Loop or Scan. A turn's results live in an arena of their own until the next
 * turn has read them. */
typedef struct turns {
    const kgr_node *n;
    const kop_tensor *const *in;
    kop_env *env;
    kgr_evaluation *body;
    kop_tensor *arg;                     /* [n_in] of the turn */
    kop_tensor *result;                  /* [outputs of the body] */
    kaena_arena now, kept;               /* the last turn's results; the slices of all turns */
    kop_tensor **slice;                  /* [n_slices] lists of what each turn gave, in |kept| */
    uint32_t n_carried, n_slices, first; /* the body's first |first| results are not of the node */
    size_t n_turns, room;                /* of each list */
    kaena_err *err;
} turns;

static kaena_status no_memory(const turns *t)
{
    return KAENA_FAIL(t->err, RESOURCE_EXHAUSTED, "no memory for %s within %zu bytes",
                      kop_row_of(t->n->op)->name, t->env->arena->quota);
}

static kaena_status poll(const turns *t)
{
    kop_call call = {.op = t->n->op, .env = t->env, .err = t->err};
    return kop_poll(&call);
}

/* An arena within what the evaluation has left. */
static kaena_status open_arena(const turns *t, kaena_arena *out)
{
    size_t quota = t->env->arena->quota, used = t->env->arena->used + t->now.used + t->kept.used;
    if (quota && used >= quota)
        return no_memory(t);
    kaena_arena_init(out, quota ? quota - used : 0);
    return KAENA_OK;
}

static kaena_status bool_of(const kop_tensor *t, const char *what, bool *out, kaena_err *err)
{
    if (t->form != KOP_FORM_TENSOR || t->dtype != KAENA_BOOL || kop_elements(t) != 1)
        return KAENA_FAIL(err, INVALID_ARGUMENT, "%s must be one bool", what);
    *out = kop_get_int(t, 0) != 0;
    return KAENA_OK;
}

/* --- Lists of slices ------------------------------------------------------------------------- */

static kaena_status grow_lists(turns *t)
{
    size_t room = t->room ? t->room * 2 : 8;
    for (uint32_t i = 0; i < t->n_slices; i++) {
        kop_tensor *fresh = KAENA_NEW_N(&t->kept, kop_tensor, room);
        if (!fresh)
            return no_memory(t);
        if (t->n_turns)
            memcpy(fresh, t->slice[i], t->n_turns * sizeof *fresh);
        t->slice[i] = fresh;
    }
    t->room = room;
    return KAENA_OK;
}

static kaena_status keep_slices(turns *t)
{
    const kop_tensor *from = t->result + t->first + t->n_carried;
    if (t->n_slices == 0)
        return KAENA_OK;
    /* What the arena may hold shrinks by what everything else holds. */
    size_t quota = t->env->arena->quota, others = t->env->arena->used + t->now.used;
    if (quota && others >= quota)
        return no_memory(t);
    t->kept.quota = quota ? quota - others : 0;
    if (t->n_turns == t->room)
        KAENA_TRY(grow_lists(t));
    for (uint32_t i = 0; i < t->n_slices; i++) {
        const kop_tensor *of = t->n_turns ? &t->slice[i][0] : &from[i];
        if (from[i].form != KOP_FORM_TENSOR || from[i].dtype != of->dtype ||
            !kaena_shape_equal(&from[i].shape, &of->shape))
            return KAENA_FAIL(t->err, INVALID_ARGUMENT,
                              "turn %zu gives '%s' of another type or shape than the turns before",
                              t->n_turns,
                              t->n->body[0]->outputs[t->first + t->n_carried + i]->name);
        if (!kop_copy(&t->kept, &from[i], &t->slice[i][t->n_turns]))
            return no_memory(t);
    }
    t->n_turns++;
    return KAENA_OK;
}

/* The attribute's |i|th integer, 0 where it has none. */
static int64_t listed(const kgr_node *n, const char *name, uint32_t i)
{
    const kop_attr *a = kgr_attr_find(n, name);
    return a && a->type == KOP_ATTR_INTS && i < a->n ? a->u.ints[i] : 0;
}

/* Without a turn there is no slice: the type says what it would have been. */
static kop_tensor slice_type(const turns *t, uint32_t i)
{
    if (t->n_turns)
        return t->slice[i][0];
    kop_tensor type = t->n->body[0]->outputs[t->first + t->n_carried + i]->t;
    type.shape.rank = type.unranked ? 0 : type.shape.rank;
    type.unranked = false;
    for (int32_t d = 0; d < type.shape.rank; d++)
        if (type.shape.dim[d] < 0)
            type.shape.dim[d] = 0;
    return type;
}

/* Puts list |i| together along a new axis. */
static kaena_status stack(const turns *t, uint32_t i, kop_tensor *out)
{
    bool scan = t->n->op == KOP_Scan;
    kop_tensor type = slice_type(t, i);
    kaena_shape shape = type.shape;
    int32_t axis;
    if (shape.rank == KAENA_MAX_RANK)
        return KAENA_FAIL(t->err, UNIMPLEMENTED, "a result would have more than %d dimensions",
                          KAENA_MAX_RANK);
    if (type.dtype == KAENA_DTYPE_NONE || type.form != KOP_FORM_TENSOR ||
        !kop_axis(scan ? listed(t->n, "scan_output_axes", i) : 0, shape.rank + 1, &axis))
        return KAENA_FAIL(t->err, INVALID_ARGUMENT, "result %u cannot be put together",
                          t->n_carried + i);
    memmove(&shape.dim[axis + 1], &shape.dim[axis],
            (size_t)(shape.rank - axis) * sizeof shape.dim[0]);
    shape.rank++;
    shape.dim[axis] = (int64_t)t->n_turns;
    kop_tensor result[1];
    kop_call call = {.op = t->n->op, .n_out = 1, .out = result, .env = t->env, .err = t->err};
    KAENA_TRY(kop_output(&call, 0, type.dtype, &shape));
    bool backward = scan && listed(t->n, "scan_output_directions", i);
    size_t rows = 1, bytes = kaena_dtype_size(type.dtype);
    for (int32_t d = 0; d < shape.rank; d++)
        if (d != axis)
            *(d < axis ? &rows : &bytes) *= (size_t)shape.dim[d];
    for (size_t k = 0; k < t->n_turns && bytes; k++) {
        const char *from = t->slice[i][backward ? t->n_turns - 1 - k : k].data;
        char *to = (char *)result[0].data + k * bytes;
        for (size_t row = 0; row < rows; row++)
            memcpy(to + row * t->n_turns * bytes, from + row * bytes, bytes);
    }
    /* Strings lie in |kept|, which goes. */
    bool kept = type.dtype != KAENA_STRING || kop_copy(t->env->arena, &result[0], &result[0]);
    if (!kept)
        return no_memory(t);
    *out = result[0];
    return KAENA_OK;
}

/* --- Turns ----------------------------------------------------------------------------------- */

/* Runs the body on t->arg and makes its carried results the arguments of the next turn. */
static kaena_status one_turn(turns *t, uint32_t first_arg)
{
    kaena_arena fresh;
    KAENA_TRY(poll(t));
    KAENA_TRY(open_arena(t, &fresh));
    kop_env env = {.arena = &fresh, .stop = t->env->stop};
    kaena_status s = kgr_evaluation_run(t->body, t->arg, t->result, &env, t->err);
    kaena_arena_fini(&t->now);
    t->now = fresh;
    KAENA_TRY(s);
    for (uint32_t i = 0; i < t->n_carried; i++)
        t->arg[first_arg + i] = t->result[t->first + i];
    return keep_slices(t);
}

static kaena_status finish(const turns *t, uint32_t first_arg, kop_tensor *out)
{
    for (uint32_t i = 0; i < t->n_carried; i++) {
        const kop_tensor *from = &t->arg[first_arg + i];
        uint8_t gives = t->n->body[0]->outputs[t->first + i]->t.form;
        /* What came in as an optional goes out as what it holds if the turns make that of it. */
        if (from->form >= KOP_FORM_OPTIONAL && from->form != gives) {
            if (from->count == 0)
                return KAENA_FAIL(t->err, INVALID_ARGUMENT, "no turn made result %u", i);
            from = kop_items(from);
        }
        if (!kop_copy(t->env->arena, from, &out[i]))
            return no_memory(t);
    }
    for (uint32_t i = 0; i < t->n_slices; i++)
        KAENA_TRY(stack(t, i, &out[t->n_carried + i]));
    return KAENA_OK;
}

static kaena_status run_loop(turns *t, kop_tensor *out)
{
    const kop_tensor *most = t->in[0], *cond = t->in[1];
    bool go = true;
    int64_t turn = 0, limit = INT64_MAX;
    if (most &&
        (most->form != KOP_FORM_TENSOR || most->dtype != KAENA_I64 || kop_elements(most) != 1))
        return KAENA_FAIL(t->err, INVALID_ARGUMENT, "the number of turns must be one int64");
    if (most)
        limit = kop_get_int(most, 0);
    if (cond)
        KAENA_TRY(bool_of(cond, "the condition", &go, t->err));
    t->arg[0] = (kop_tensor){.dtype = KAENA_I64, .data = &turn};
    t->arg[1] = (kop_tensor){.dtype = KAENA_BOOL, .data = &go};
    for (; go && turn < limit; turn++) {
        bool next;
        KAENA_TRY(one_turn(t, 2));
        KAENA_TRY(bool_of(&t->result[0], "the body's condition", &next, t->err));
        /* "this value is ignored, but is required in the body": where no condition comes in. */
        go = cond ? next : true;
    }
    return finish(t, 2, out);
}

/* Slice |at| along |axis|, a view where that is the first dimension. */
static kaena_status take_slice(const turns *t, const kop_tensor *x, int32_t axis, int64_t at,
                               kop_tensor *out)
{
    kaena_shape shape = x->shape;
    memmove(&shape.dim[axis], &shape.dim[axis + 1],
            (size_t)(shape.rank - axis - 1) * sizeof shape.dim[0]);
    shape.rank--;
    size_t rows = 1, bytes = kaena_dtype_size(x->dtype), n = (size_t)x->shape.dim[axis];
    for (int32_t d = 0; d < x->shape.rank; d++)
        if (d != axis)
            *(d < axis ? &rows : &bytes) *= (size_t)x->shape.dim[d];
    const char *from = (const char *)x->data + (size_t)at * bytes;
    *out = (kop_tensor){.dtype = x->dtype, .shape = shape, .data = (void *)(uintptr_t)from};
    if (axis == 0)
        return KAENA_OK;
    char *to = kaena_arena_array(t->env->arena, rows, bytes);
    if (!to)
        return no_memory(t);
    for (size_t row = 0; row < rows && bytes; row++)
        memcpy(to + row * bytes, from + row * n * bytes, bytes);
    out->data = to;
    return KAENA_OK;
}

static kaena_status scan_length(const turns *t, uint32_t n_scans, int64_t *out)
{
    int64_t length = -1;
    for (uint32_t i = 0; i < n_scans; i++) {
        const kop_tensor *x = t->in[t->n_carried + i];
        int32_t axis;
        if (x->form != KOP_FORM_TENSOR || x->unranked ||
            !kop_axis(listed(t->n, "scan_input_axes", i), x->shape.rank, &axis))
            return KAENA_FAIL(t->err, INVALID_ARGUMENT, "scan input %u has no axis %lld", i,
                              (long long)listed(t->n, "scan_input_axes", i));
        if (i && x->shape.dim[axis] != length)
            return KAENA_FAIL(t->err, INVALID_ARGUMENT, "scan inputs of %lld and %lld slices",
                              (long long)length, (long long)x->shape.dim[axis]);
        length = x->shape.dim[axis];
    }
    *out = length;
    return KAENA_OK;
}

static kaena_status run_scan(turns *t, kop_tensor *out)
{
    uint32_t n_scans = kgr_own_inputs(t->n) - t->n_carried;
    int64_t length = 0;
    KAENA_TRY(scan_length(t, n_scans, &length));
    /* Slices that are copies go with their turn. */
    kop_env *outer = t->env;
    for (int64_t turn = 0; turn < length; turn++) {
        kaena_arena views;
        kaena_status s = open_arena(t, &views);
        kop_env env = {.arena = &views, .stop = outer->stop};
        t->env = &env;
        for (uint32_t i = 0; s == KAENA_OK && i < n_scans; i++) {
            const kop_tensor *x = t->in[t->n_carried + i];
            bool backward = listed(t->n, "scan_input_directions", i) != 0;
            int32_t axis = 0;
            (void)kop_axis(listed(t->n, "scan_input_axes", i), x->shape.rank, &axis);
            s = take_slice(t, x, axis, backward ? length - 1 - turn : turn,
                           &t->arg[t->n_carried + i]);
        }
        t->env = outer;
        if (s == KAENA_OK)
            s = one_turn(t, 0);
        kaena_arena_fini(&views);
        KAENA_TRY(s);
    }
    return finish(t, 0, out);
}

static kaena_status eval_turns(const kgr_node *n, const kop_tensor *const *in, kop_tensor *out,
                               kop_env *env, kaena_err *err)
{
    const kgr_graph *body = n->body[0];
    turns t = {.n = n,
               .in = in,
               .env = env,
               .err = err,
               .n_carried = kgr_carried(n),
               .first = n->op == KOP_Loop};
    t.n_slices = n->n_out - t.n_carried;
    t.body = kgr_evaluation_create(body);
    t.arg = calloc(n->n_in + 1, sizeof *t.arg);
    t.result = calloc(body->n_outputs + 1, sizeof *t.result);
    t.slice = calloc(t.n_slices + 1, sizeof *t.slice);
    kaena_status s;
    if (t.body && t.arg && t.result && t.slice) {
        for (uint32_t i = 0; i < n->n_in; i++)
            if (in[i])
                t.arg[i] = *in[i];
        s = n->op == KOP_Loop ? run_loop(&t, out) : run_scan(&t, out);
    } else {
        s = no_memory(&t);
    }
    kaena_arena_fini(&t.now);
    kaena_arena_fini(&t.kept);
    kgr_evaluation_destroy(t.body);
    free(t.arg);
    free(t.result);
    free(t.slice);
    return s;
}

static kaena_status eval_if(const kgr_node *n, const kop_tensor *const *in, kop_tensor *out,
                            kop_env *env, kaena_err *err)
{
    bool yes;
    KAENA_TRY(bool_of(in[0], "the condition", &yes, err));
    const kgr_graph *body = n->body[yes ? 0 : 1];
    kop_tensor *arg = calloc(n->n_in, sizeof *arg);
    if (!arg)
        return KAENA_FAIL(err, RESOURCE_EXHAUSTED, "no memory");
    for (uint32_t i = 1; i < n->n_in; i++)
        arg[i - 1] = *in[i];
    kaena_status s = kgr_eval(body, arg, out, env, err);
    free(arg);
    return s;
}

kaena_status kgr_eval_bodies(const kgr_node *n, const kop_tensor *const *in, kop_tensor *out,
                             kop_env *env, kaena_err *err)
{
    return n->op == KOP_If ? eval_if(n, in, out, env, err) : eval_turns(n, in, out, env, err);
}
