/* requires: shapes and types; constants folded
 * establishes: a Transpose between channels-last and channels-second stands behind what works
 * element by element or along an axis, as far as that goes
 *
 * A network of channels-last images comes with a Transpose before and behind every convolution. The
 * layout makes views of them; but standing between a convolution and its bias and activation they
 * keep those from being fused. So they move down: T(x) + c becomes T(x + T'(c)), until they meet
 * the next convolution's, which undoes them. Only these permutations move: others (attention's)
 * stand where fusions look for them. */
#include <string.h>

#include "simplify.h"

/* A permutation and its inverse. */
typedef struct turn {
    int32_t rank;
    int64_t perm[KAENA_MAX_RANK]; /* outer dimension i is inner dimension perm[i] */
    int64_t back[KAENA_MAX_RANK];
} turn;

/* The Transpose of images that makes |v|, or NULL. */
static kgr_node *image_turn(const kgr_value *v, turn *out)
{
    kgr_node *p = kcc_made_by(v, KOP_Transpose);
    const kop_attr *a = p ? kgr_attr_find(p, "perm") : NULL;
    if (!a || a->type != KOP_ATTR_INTS || (a->n != 4 && a->n != 5) || !kcc_known(v) ||
        !kcc_known(p->in[0]))
        return NULL;
    int64_t last = (int64_t)a->n - 1;
    bool to_last = a->u.ints[0] == 0 && a->u.ints[last] == 1;
    bool to_second = a->u.ints[0] == 0 && a->u.ints[1] == last;
    for (int64_t i = 1; i <= last; i++) {
        to_last &= i == last || a->u.ints[i] == i + 1;
        to_second &= i == 1 || a->u.ints[i] == i - 1;
    }
    if (!to_last && !to_second)
        return NULL;
    out->rank = (int32_t)a->n;
    for (int32_t i = 0; i < out->rank; i++) {
        out->perm[i] = a->u.ints[i];
        out->back[a->u.ints[i]] = i;
    }
    return p;
}

static bool same_turn(const turn *a, const turn *b)
{
    return a->rank == b->rank && memcmp(a->perm, b->perm, (size_t)a->rank * sizeof *a->perm) == 0;
}

/* Operators that work element by element on operands that broadcast. */
static bool is_pointwise(kop_op op)
{
    static const kop_op ops[] = {
        KOP_Abs,   KOP_Add,         KOP_Cast,      KOP_Ceil,       KOP_Clip,
        KOP_Div,   KOP_Elu,         KOP_Erf,       KOP_Exp,        KOP_Floor,
        KOP_Gelu,  KOP_HardSigmoid, KOP_HardSwish, KOP_Identity,   KOP_LeakyRelu,
        KOP_Log,   KOP_Max,         KOP_Min,       KOP_Mish,       KOP_Mul,
        KOP_Neg,   KOP_Pow,         KOP_PRelu,     KOP_Reciprocal, KOP_Relu,
        KOP_Round, KOP_Selu,        KOP_Sigmoid,   KOP_Softplus,   KOP_Softsign,
        KOP_Sqrt,  KOP_Sub,         KOP_Sum,       KOP_Tanh,       KOP_ThresholdedRelu};
    for (size_t i = 0; i < sizeof ops / sizeof *ops; i++)
        if (ops[i] == op)
            return true;
    return false;
}

/* --- Operands on the inner side
 * --------------------------------------------------------------------- */

static kaena_status fold_node(kgr_graph *g, kgr_node *n, kaena_err *err)
{
    return kgr_node_fold(g, n, SIZE_MAX, err);
}

/* The constant |v| turned back: dimensions are added in front until there are as many as |t| has.
 */
static kaena_status turn_const(kgr_graph *g, kgr_node *before, kgr_value *v, const turn *t,
                               kgr_value **out, kaena_err *err)
{
    kgr_node *n;
    int64_t dim[KAENA_MAX_RANK];
    int32_t more = t->rank - v->t.shape.rank;
    for (int32_t i = 0; i < t->rank; i++)
        dim[i] = i < more ? 1 : v->t.shape.dim[i - more];
    kgr_value *shape = kgr_const_i64(g, "shape", dim, (uint32_t)t->rank);
    if (!shape)
        return KAENA_FAIL(err, RESOURCE_EXHAUSTED, "no memory for node '%s'", before->name);
    if (more > 0) {
        KAENA_TRY(
            kcc_insert(g, before, KOP_Reshape, v->name, (kgr_value *[]){v, shape}, 2, &n, err));
        v = n->out[0];
        KAENA_TRY(fold_node(g, n, err));
    }
    kgr_node *after = before->prev ? before->prev : kgr_at_start;
    n = kgr_node_add(g, after, KOP_Transpose, v->name, NULL, &v, 1, &v->name, 1);
    if (!n || !kgr_attr_ints(g, n, "perm", t->back, (uint32_t)t->rank))
        return KAENA_FAIL(err, RESOURCE_EXHAUSTED, "no memory for node '%s'", before->name);
    *out = n->out[0];
    KAENA_TRY(kgr_infer_node(n, err));
    return fold_node(g, n, err);
}

/* What an operand may be for |n| to move to the inner side: of the same Transpose, one number, or a
 * constant with data. */
static bool fits(const kgr_value *v, const turn *t)
{
    turn mine;
    if (image_turn(v, &mine))
        return same_turn(&mine, t);
    return v && kcc_known(v) &&
           (v->t.shape.rank == 0 || (kgr_is_const(v) && v->t.shape.rank <= t->rank));
}

/* Operands [0, n_in) of |n| move to the inner side. */
static kaena_status move_operands(kgr_graph *g, kgr_node *n, uint32_t n_in, const turn *t,
                                  kaena_err *err)
{
    turn mine;
    for (uint32_t i = 0; i < n_in; i++) {
        kgr_value *v = n->in[i];
        if (!v || v->t.shape.rank == 0)
            continue;
        const kgr_node *p = image_turn(v, &mine);
        kgr_value *inner = p ? p->in[0] : NULL;
        if (!inner)
            KAENA_TRY(turn_const(g, n, v, t, &inner, err));
        kgr_node_set_input(n, i, inner);
    }
    return KAENA_OK;
}

/* Behind result |i| of |n|, which is on the inner side now, the Transpose by |perm|. */
static kaena_status turn_result(kgr_graph *g, kgr_node *n, uint32_t i, const int64_t *perm,
                                int32_t rank, kaena_err *err)
{
    kgr_value *v = n->out[i];
    kgr_node *t = kgr_node_add(g, n, KOP_Transpose, n->name, NULL, &v, 1, &v->name, 1);
    if (!t || !kgr_attr_ints(g, t, "perm", perm, (uint32_t)rank))
        return KAENA_FAIL(err, RESOURCE_EXHAUSTED, "no memory for node '%s'", n->name);
    KAENA_TRY(kgr_infer_node(t, err));
    kgr_replace_uses(g, v, t->out[0]);
    kgr_node_set_input(t, 0, v);
    return KAENA_OK;
}

/* --- Operators with axes
 * ------------------------------------------------------------------------------ */

/* The attribute "axis" on the inner side. */
static bool move_axis_attr(kgr_graph *g, kgr_node *n, int64_t otherwise, const turn *t)
{
    int32_t axis;
    return kop_axis(kgr_attr_get_int(n, "axis", otherwise), t->rank, &axis) &&
           kgr_attr_int(g, n, "axis", t->perm[axis]);
}

static kaena_status move_concat(kgr_graph *g, kgr_node *n, const turn *t, bool *moved,
                                kaena_err *err)
{
    for (uint32_t i = 0; i < n->n_in; i++)
        if (!fits(n->in[i], t) || n->in[i]->t.shape.rank != t->rank)
            return KAENA_OK;
    if (!move_axis_attr(g, n, 0, t))
        return KAENA_OK;
    KAENA_TRY(move_operands(g, n, n->n_in, t, err));
    *moved = true;
    return KAENA_OK;
}

/* Pads for every dimension, begins then ends. */
static kaena_status move_pad(kgr_graph *g, kgr_node *n, const turn *t, bool *moved, kaena_err *err)
{
    int64_t pads[2 * KAENA_MAX_RANK], inner[2 * KAENA_MAX_RANK];
    if (kcc_const_ints(n->in[1], pads, 2 * KAENA_MAX_RANK) != 2 * t->rank ||
        (n->n_in > 3 && n->in[3]))
        return KAENA_OK;
    for (int32_t i = 0; i < t->rank; i++) {
        inner[t->perm[i]] = pads[i];
        inner[t->rank + t->perm[i]] = pads[t->rank + i];
    }
    kgr_value *c = kgr_const_i64(g, "pads", inner, 2 * (uint32_t)t->rank);
    if (!c)
        return KAENA_FAIL(err, RESOURCE_EXHAUSTED, "no memory for node '%s'", n->name);
    kgr_node_set_input(n, 1, c);
    *moved = true;
    return move_operands(g, n, 1, t, err);
}

static kaena_status move_slice(kgr_graph *g, kgr_node *n, const turn *t, bool *moved,
                               kaena_err *err)
{
    int64_t axes[KAENA_MAX_RANK];
    if (n->n_in < 4 || !n->in[3])
        return KAENA_OK;
    int32_t n_axes = kcc_const_ints(n->in[3], axes, KAENA_MAX_RANK), axis;
    for (int32_t i = 0; i < n_axes; i++) {
        if (!kop_axis(axes[i], t->rank, &axis))
            return KAENA_OK;
        axes[i] = t->perm[axis];
    }
    kgr_value *c = n_axes > 0 ? kgr_const_i64(g, "axes", axes, (uint32_t)n_axes) : NULL;
    if (!c)
        return KAENA_OK;
    kgr_node_set_input(n, 3, c);
    *moved = true;
    return move_operands(g, n, 1, t, err);
}

/* A reduction: without its dimensions the others may be in order. */
static kaena_status move_reduce(kgr_graph *g, kgr_node *n, const turn *t, kaena_err *err)
{
    int64_t axes[KAENA_MAX_RANK], perm[KAENA_MAX_RANK], place[KAENA_MAX_RANK];
    bool reduced[KAENA_MAX_RANK] = {false}, keep = kgr_attr_get_int(n, "keepdims", 1) != 0;
    int32_t n_axes = n->n_in > 1 ? kcc_const_ints(n->in[1], axes, KAENA_MAX_RANK) : -1, axis;
    int32_t rank = 0;
    for (int32_t i = 0; i < n_axes; i++) {
        if (!kop_axis(axes[i], t->rank, &axis))
            return KAENA_OK;
        axes[i] = t->perm[axis];
        reduced[axes[i]] = true;
    }
    if (n_axes < 1)
        return KAENA_OK;
    for (int32_t i = 0; i < t->rank; i++)
        if (keep || !reduced[i])
            place[i] = rank++;
    rank = 0;
    for (int32_t i = 0; i < t->rank; i++)
        if (keep || !reduced[t->perm[i]])
            perm[rank++] = place[t->perm[i]];
    kgr_value *c = kgr_const_i64(g, "axes", axes, (uint32_t)n_axes);
    if (!c)
        return KAENA_FAIL(err, RESOURCE_EXHAUSTED, "no memory for node '%s'", n->name);
    kgr_node_set_input(n, 1, c);
    KAENA_TRY(move_operands(g, n, 1, t, err));
    KAENA_TRY(kgr_infer_node(n, err));
    return rank ? turn_result(g, n, 0, perm, rank, err) : KAENA_OK;
}

/* --- The pass
 * ------------------------------------------------------------------------------------------ */

static kaena_status move_pointwise(kgr_graph *g, kgr_node *n, const turn *t, bool *moved,
                                   kaena_err *err)
{
    for (uint32_t i = 0; i < n->n_in; i++)
        if (n->in[i] && !fits(n->in[i], t))
            return KAENA_OK;
    /* An operand that adds dimensions in front would turn others. */
    if (n->out[0]->t.shape.rank != t->rank)
        return KAENA_OK;
    *moved = true;
    return move_operands(g, n, n->n_in, t, err);
}

/* A Transpose that undoes the one before it. */
static void cancel(kgr_graph *g, kgr_node *n, const turn *t)
{
    turn mine;
    if (image_turn(n->out[0], &mine) && mine.rank == t->rank &&
        memcmp(mine.perm, t->back, (size_t)t->rank * sizeof *t->back) == 0)
        (void)kcc_bypass(g, n, n->in[0]->producer->in[0]);
}

static kaena_status move(kgr_graph *g, kgr_node *n, kaena_err *err)
{
    turn t;
    const kgr_node *p = NULL;
    bool moved = false;
    for (uint32_t i = 0; i < n->n_in && !p; i++)
        p = image_turn(n->in[i], &t);
    if (!p || n->device == KGR_HOST || !kcc_known(n->out[0]))
        return KAENA_OK;
    if (n->op == KOP_Transpose) {
        cancel(g, n, &t);
        return KAENA_OK;
    }
    if (is_pointwise(n->op))
        KAENA_TRY(move_pointwise(g, n, &t, &moved, err));
    else if (n->in[0] != p->out[0] && n->op != KOP_Concat)
        return KAENA_OK;
    else if (n->op == KOP_Concat)
        KAENA_TRY(move_concat(g, n, &t, &moved, err));
    else if (n->op == KOP_Pad)
        KAENA_TRY(move_pad(g, n, &t, &moved, err));
    else if (n->op == KOP_Slice)
        KAENA_TRY(move_slice(g, n, &t, &moved, err));
    else if (n->op == KOP_ReduceMean || n->op == KOP_ReduceMax || n->op == KOP_ReduceSum)
        return move_reduce(g, n, &t, err);
    if (!moved)
        return KAENA_OK;
    KAENA_TRY(kgr_infer_node(n, err));
    return turn_result(g, n, 0, t.perm, t.rank, err);
}

kaena_status kcc_turn_images(kgr_graph *g, kaena_err *err)
{
    /* Operands come first, so that one walk moves each Transpose all of its way; the ones that are
     * put behind a node are met next. */
    for (kgr_node *n = g->first, *next; n; n = next) {
        next = n->next;
        KAENA_TRY(move(g, n, err));
    }
    (void)kgr_remove_dead(g);
    return KAENA_OK;
}
