/* Branches, loops and cases of a plan: see flow.h for the operations. */
#include <inttypes.h>
#include <string.h>

#include "checked.h"
#include "dev_internal.h"

#define FIRST_PARTS 16

/* --- Values
 * ----------------------------------------------------------------------------------------------------------------
 */

/* Value |to| is from now on what |from| is: the same memory, which lives until what made |from|
 * runs again. In a loop that is the next turn, where |to| is made anew as well. */
static void hand(dev_context *c, uint32_t from, uint32_t to)
{
    c->value[to] = c->value[from];
}

static kaena_status one_element(const dev_context *c, uint32_t value, kaena_err *err)
{
    const kop_tensor *t = &c->value[value];
    if (t->data && kop_elements(t) == 1)
        return KAENA_OK;
    char shape[KAENA_SHAPE_TEXT];
    return KAENA_FAIL(err, INVALID_ARGUMENT, "'%s' has shape %s, one element is needed",
                      neff_value(c->model->neff, value).name,
                      kaena_shape_print(&t->shape, shape, sizeof shape));
}

static kaena_status read_bool(const dev_context *c, uint32_t value, bool *out, kaena_err *err)
{
    KAENA_TRY(one_element(c, value, err));
    *out = *(const uint8_t *)c->value[value].data != 0;
    return KAENA_OK;
}

static void set_bytes(dev_context *c, uint32_t plus_one, const void *from, size_t size)
{
    if (plus_one)
        memcpy(c->value[plus_one - 1].data, from, size);
}

static kaena_status no_room(const dev_context *c, const char *what, kaena_err *err)
{
    return KAENA_FAIL(err, RESOURCE_EXHAUSTED,
                      "no memory for '%s': values of unknown size hold %zu bytes, the limit is %zu",
                      what, c->arena_bytes, c->quota);
}

/* --- Loops
 * -----------------------------------------------------------------------------------------------------------------
 */

static bool is_declared(const dev_context *c, const Kaena__V1__NeffScan *s)
{
    neff_tensor t = neff_value(c->model->neff, s->output);
    return neff_has_buffer(&t);
}

static void start_turn(dev_context *c, const flow_op *op)
{
    const Kaena__V1__NeffLoopStep *s = op->step.loop;
    const bool yes = true;
    set_bytes(c, s->iteration, &c->loop[op->index].turn, sizeof(int64_t));
    set_bytes(c, s->condition_in, &yes, sizeof yes);
}

/* Room for one turn more in every list of parts; they double, the old lists stay in the arena. */
static bool grow_parts(dev_loop *l, kaena_arena *arena, size_t n_scans)
{
    if ((size_t)l->turn < l->cap)
        return true;
    size_t cap = l->cap ? 2 * l->cap : FIRST_PARTS;
    for (size_t i = 0; i < n_scans; i++) {
        kop_tensor *more = KAENA_NEW_N(arena, kop_tensor, cap);
        if (!more)
            return false;
        if (l->cap)
            memcpy(more, l->part[i], l->cap * sizeof *more);
        l->part[i] = more;
    }
    l->cap = cap;
    return true;
}

/* The result has a declared size: the turn's element goes to its place. */
static kaena_status put_scan(dev_context *c, const Kaena__V1__NeffScan *s, int64_t turn,
                             kaena_err *err)
{
    neff_tensor want = neff_value(c->model->neff, s->output);
    size_t bytes = neff_value(c->model->neff, s->element).bytes;
    if (turn >= want.shape.dim[0])
        return KAENA_FAIL(err, DATA_LOSS, "'%s' is declared for %" PRId64 " turns, there are more",
                          want.name, want.shape.dim[0]);
    if (bytes)
        memcpy((uint8_t *)c->value[s->output].data + (size_t)turn * bytes,
               c->value[s->element].data, bytes);
    return KAENA_OK;
}

static kaena_status keep_parts(dev_context *c, const flow_op *op, kaena_arena *arena,
                               kaena_err *err)
{
    const Kaena__V1__NeffLoopStep *s = op->step.loop;
    dev_loop *l = &c->loop[op->index];
    for (size_t i = 0; i < s->n_scans; i++) {
        if (is_declared(c, s->scans[i])) {
            KAENA_TRY(put_scan(c, s->scans[i], l->turn, err));
            continue;
        }
        if (!grow_parts(l, arena, s->n_scans) ||
            !kop_copy(arena, &c->value[s->scans[i]->element], &l->part[i][l->turn]))
            return no_room(c, neff_value(c->model->neff, s->scans[i]->output).name, err);
    }
    return KAENA_OK;
}

/* One tensor of what the turns left; without turns, an empty one of what is declared. */
static kaena_status stack(dev_context *c, const Kaena__V1__NeffScan *s, const dev_loop *l,
                          const kop_tensor *part, kaena_arena *arena, kaena_err *err)
{
    neff_tensor element = neff_value(c->model->neff, s->element);
    const char *name = neff_value(c->model->neff, s->output).name;
    kop_tensor out = {.dtype = element.dtype, .shape = element.shape};
    char a[KAENA_SHAPE_TEXT], b[KAENA_SHAPE_TEXT];
    if (l->turn)
        out.shape = part[0].shape;
    else if (element.any_rank)
        out.shape.rank = 0;
    if (out.shape.rank >= KAENA_MAX_RANK)
        return KAENA_FAIL(err, INVALID_ARGUMENT, "'%s': rank %d is too large to stack", name,
                          out.shape.rank);
    for (int32_t d = out.shape.rank++; d > 0; d--)
        out.shape.dim[d] = out.shape.dim[d - 1] < 0 ? 0 : out.shape.dim[d - 1];
    out.shape.dim[0] = l->turn;
    size_t bytes = l->turn ? kop_elements(&part[0]) * kaena_dtype_size(out.dtype) : 0;
    uint64_t all;
    for (int64_t t = 1; t < l->turn; t++)
        if (!kaena_shape_equal(&part[t].shape, &part[0].shape))
            return KAENA_FAIL(err, INVALID_ARGUMENT,
                              "'%s': turn %" PRId64 " left shape %s, the first %s", name, t,
                              kaena_shape_print(&part[t].shape, a, sizeof a),
                              kaena_shape_print(&part[0].shape, b, sizeof b));
    if (!kaena_mul_u64(bytes, (uint64_t)l->turn, &all) ||
        !(out.data = kaena_arena_alloc(arena, all)))
        return no_room(c, name, err);
    for (int64_t t = 0; t < l->turn && bytes; t++)
        memcpy((uint8_t *)out.data + (size_t)t * bytes, part[t].data, bytes);
    c->value[s->output] = out;
    return KAENA_OK;
}

static kaena_status finish_scans(dev_context *c, const flow_op *op, kaena_arena *arena,
                                 kaena_err *err)
{
    const Kaena__V1__NeffLoopStep *s = op->step.loop;
    const dev_loop *l = &c->loop[op->index];
    for (size_t i = 0; i < s->n_scans; i++) {
        neff_tensor want = neff_value(c->model->neff, s->scans[i]->output);
        if (!is_declared(c, s->scans[i]))
            KAENA_TRY(stack(c, s->scans[i], l, l->part[i], arena, err));
        else if (l->turn != want.shape.dim[0])
            return KAENA_FAIL(err, DATA_LOSS,
                              "'%s' is declared for %" PRId64 " turns, there were %" PRId64,
                              want.name, want.shape.dim[0], l->turn);
    }
    return KAENA_OK;
}

/* What a turn hands to the next goes to the buffer that this turn did not read, for all values
 * before any of them changes hands: they may be each other's. */
static kaena_status carry(dev_context *c, const flow_op *op, kaena_err *err)
{
    const Kaena__V1__NeffLoopStep *s = op->step.loop;
    uint32_t half = (uint32_t)(c->loop[op->index].turn & 1);
    for (size_t i = 0; i < s->n_carried; i++) {
        const Kaena__V1__NeffCarried *v = s->carried[i];
        neff_tensor t = neff_value(c->model->neff, v->in);
        uint32_t at = op->arena + 2 * (uint32_t)i + half;
        if (neff_has_buffer(&t)) {
            uint8_t *to = c->values + c->model->flow.value_at[v->in] + half * flow_buffer_bytes(&t);
            if (t.bytes)
                memcpy(to, c->value[v->next].data, t.bytes);
            continue;
        }
        kop_tensor copy;
        bool ok = kop_copy(dev_arena_open(c, at, false), &c->value[v->next], &copy);
        dev_arena_close(c, at);
        if (!ok)
            return no_room(c, t.name, err);
        c->loop[op->index].carried[i] = copy;
    }
    for (size_t i = 0; i < s->n_carried; i++) {
        const Kaena__V1__NeffCarried *v = s->carried[i];
        neff_tensor t = neff_value(c->model->neff, v->in);
        if (neff_has_buffer(&t))
            c->value[v->in].data =
                c->values + c->model->flow.value_at[v->in] + half * flow_buffer_bytes(&t);
        else
            c->value[v->in] = c->loop[op->index].carried[i];
    }
    return KAENA_OK;
}

/* There is no further turn. |last|: what the carried values are now is |next|, else |initial|. */
static kaena_status end_loop(dev_context *c, const flow_op *op, bool last, kaena_err *err)
{
    const Kaena__V1__NeffLoopStep *s = op->step.loop;
    uint32_t scans = op->arena + 2 * (uint32_t)s->n_carried;
    kaena_status status = finish_scans(c, op, dev_arena_open(c, scans, true), err);
    dev_arena_close(c, scans);
    KAENA_TRY(status);
    for (size_t i = 0; i < s->n_carried; i++)
        hand(c, last ? s->carried[i]->next : s->carried[i]->initial, s->carried[i]->final);
    return KAENA_OK;
}

static kaena_status start_loop(dev_context *c, const flow_op *op, kaena_err *err)
{
    const Kaena__V1__NeffLoopStep *s = op->step.loop;
    dev_loop *l = &c->loop[op->index];
    uint32_t scans = op->arena + 2 * (uint32_t)s->n_carried;
    bool first = true;
    l->turn = 0;
    l->limit = INT64_MAX;
    l->cap = 0;
    if (s->trip_count) {
        KAENA_TRY(one_element(c, s->trip_count - 1, err));
        memcpy(&l->limit, c->value[s->trip_count - 1].data, sizeof l->limit);
    }
    if (s->condition)
        KAENA_TRY(read_bool(c, s->condition - 1, &first, err));
    (void)dev_arena_open(c, scans, false);
    dev_arena_close(c, scans);
    if (!first || l->limit <= 0) {
        c->pc = op->target;
        return end_loop(c, op, false, err);
    }
    for (size_t i = 0; i < s->n_carried; i++)
        hand(c, s->carried[i]->initial, s->carried[i]->in);
    start_turn(c, op);
    c->pc++;
    return KAENA_OK;
}

static kaena_status end_turn(dev_context *c, const flow_op *op, kaena_err *err)
{
    const Kaena__V1__NeffLoopStep *s = op->step.loop;
    dev_loop *l = &c->loop[op->index];
    uint32_t scans = op->arena + 2 * (uint32_t)s->n_carried;
    bool again = true;
    if (c->request->stop && atomic_load_explicit(c->request->stop, memory_order_relaxed))
        return KAENA_FAIL(err, CANCELLED, "stopped in turn %" PRId64 " of a loop", l->turn);
    if (s->next_condition)
        KAENA_TRY(read_bool(c, s->next_condition - 1, &again, err));
    kaena_status status = keep_parts(c, op, dev_arena_open(c, scans, true), err);
    dev_arena_close(c, scans);
    KAENA_TRY(status);
    l->turn++;
    if (!again || l->turn >= l->limit) {
        c->pc++;
        return end_loop(c, op, true, err);
    }
    KAENA_TRY(carry(c, op, err));
    start_turn(c, op);
    c->pc = op->target;
    return KAENA_OK;
}

/* --- All of them
 * -----------------------------------------------------------------------------------------------------------
 */

kaena_status dev_control(dev_context *c, const flow_op *op, kaena_err *err)
{
    bool yes;
    switch (op->kind) {
    case FLOW_IF:
        KAENA_TRY(read_bool(c, op->step.branch->condition, &yes, err));
        c->pc = yes ? c->pc + 1 : op->target;
        return KAENA_OK;
    case FLOW_JUMP:
        c->pc = op->target;
        return KAENA_OK;
    case FLOW_HAND:
        for (uint32_t i = 0; i < op->n; i++)
            hand(c, op->from[i], op->to[i]);
        c->pc++;
        return KAENA_OK;
    case FLOW_LOOP:
        return start_loop(c, op, err);
    case FLOW_TURN:
        return end_turn(c, op, err);
    case FLOW_SELECT:
        for (size_t i = 0; i < op->step.select->cases[c->batch.select]->n_inputs; i++)
            hand(c, neff_meta(c->model->neff)->inputs[i],
                 op->step.select->cases[c->batch.select]->inputs[i]);
        c->pc = op->targets[c->batch.select];
        return KAENA_OK;
    case FLOW_DEVICE:
    case FLOW_HOST:
    case FLOW_END:
        break;
    }
    return KAENA_FAIL(err, INTERNAL, "operation %u of the plan is none of control", c->pc);
}
