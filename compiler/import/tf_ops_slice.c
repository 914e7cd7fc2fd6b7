/* Translations: Slice and StridedSlice. */
#include <stdint.h>

#include "tf_xlat.h"

/* Counts of a list of axes: what one slice does, in the canonical operator's terms. */
typedef struct slices {
    int64_t begin[KAENA_MAX_RANK], end[KAENA_MAX_RANK], step[KAENA_MAX_RANK], axis[KAENA_MAX_RANK];
    uint32_t n;
} slices;

static kgr_value *apply(tf_xlat *x, kgr_value *v, const slices *s)
{
    kgr_value *in[] = {v, tf_i64s(x, s->begin, s->n), tf_i64s(x, s->end, s->n),
                       tf_i64s(x, s->axis, s->n), tf_i64s(x, s->step, s->n)};
    return s->n ? tf_opn(x, KOP_Slice, in, 5) : v;
}

/* |size| from |begin|; a size of -1 reaches to the end. */
kaena_status tf_x_slice(tf_xlat *x)
{
    kgr_value *begin = tf_cast(x, x->in[1], KAENA_I64), *size = tf_cast(x, x->in[2], KAENA_I64);
    kgr_value *open = tf_op2(x, KOP_Less, size, tf_i64(x, 0));
    kgr_value *end =
        tf_op3(x, KOP_Where, open, tf_i64(x, INT64_MAX), tf_op2(x, KOP_Add, begin, size));
    return tf_done(x, tf_op3(x, KOP_Slice, x->in[0], begin, end));
}

/* The attributes of StridedSlice: bit i is about entry i of its lists. */
typedef struct masks {
    int64_t begin, end, ellipsis, new_axis, shrink;
} masks;

static masks read_masks(tf_xlat *x)
{
    return (masks){tf_int(x, "begin_mask", 0), tf_int(x, "end_mask", 0),
                   tf_int(x, "ellipsis_mask", 0), tf_int(x, "new_axis_mask", 0),
                   tf_int(x, "shrink_axis_mask", 0)};
}

static bool bit(int64_t mask, uint32_t i)
{
    return i < 63 && (mask >> i & 1);
}

/* Removes and adds dimensions of the sliced value: |shrunk| are its axes, |fresh| places of the
 * result. */
static kgr_value *reform(tf_xlat *x, kgr_value *v, const int64_t *shrunk, uint32_t n_shrunk,
                         const int64_t *fresh, uint32_t n_fresh)
{
    if (n_shrunk)
        v = tf_op2(x, KOP_Squeeze, v, tf_i64s(x, shrunk, n_shrunk));
    if (n_fresh)
        v = tf_op2(x, KOP_Unsqueeze, v, tf_i64s(x, fresh, n_fresh));
    return v;
}

/* One entry of the lists. */
static void add_entry(slices *s, const masks *m, uint32_t i, int64_t axis, int64_t begin,
                      int64_t end, int64_t step)
{
    uint32_t k = s->n;
    s->axis[k] = axis;
    s->step[k] = step;
    s->begin[k] = bit(m->begin, i) ? (step > 0 ? 0 : INT64_MAX) : begin;
    s->end[k] = bit(m->end, i) ? (step > 0 ? INT64_MAX : INT64_MIN) : end;
    if (bit(m->shrink, i)) {
        s->begin[k] = begin;
        s->end[k] = begin == -1 ? INT64_MAX : begin + 1;
        s->step[k] = 1;
    }
    if (s->begin[k] != 0 || s->end[k] != INT64_MAX || s->step[k] != 1)
        s->n++;
}

static kgr_value *known_slice(tf_xlat *x, const masks *m)
{
    uint32_t n, n_end, n_step, n_shrunk = 0, n_fresh = 0, named = 0;
    const int64_t *begin = tf_const_ints(x, x->in[1], "the begin", &n);
    const int64_t *end = tf_const_ints(x, x->in[2], "the end", &n_end);
    const int64_t *step = tf_const_ints(x, x->in[3], "the step", &n_step);
    int64_t shrunk[KAENA_MAX_RANK], fresh[KAENA_MAX_RANK], axis = 0, place = 0;
    int32_t rank = tf_rank(x, x->in[0]);
    slices s = {.n = 0};
    if (x->status != KAENA_OK)
        return NULL;
    for (uint32_t i = 0; i < n; i++)
        named += !bit(m->new_axis, i) && !bit(m->ellipsis, i);
    if (n != n_end || n != n_step || (int64_t)named > rank) {
        (void)tf_bad(x, "%u begins, %u ends, %u steps for %d dimensions", n, n_end, n_step, rank);
        return NULL;
    }
    for (uint32_t i = 0; i < n; i++) {
        if (bit(m->ellipsis, i)) {
            axis += rank - (int64_t)named;
            place += rank - (int64_t)named;
        } else if (bit(m->new_axis, i)) {
            if (rank + (int32_t)n_fresh >= KAENA_MAX_RANK) {
                (void)tf_lacks(x, "more than %d dimensions", KAENA_MAX_RANK);
                return NULL;
            }
            fresh[n_fresh++] = place++;
        } else if (axis >= rank || step[i] == 0) {
            (void)tf_bad(x, "entry %u has a step of 0 or no dimension", i);
            return NULL;
        } else {
            add_entry(&s, m, i, axis, begin[i], end[i], step[i]);
            if (bit(m->shrink, i))
                shrunk[n_shrunk++] = axis;
            else
                place++;
            axis++;
        }
    }
    return reform(x, apply(x, x->in[0], &s), shrunk, n_shrunk, fresh, n_fresh);
}

/* Begins and ends are computed: only steps are known, and there is one entry per dimension. */
static kgr_value *computed_slice(tf_xlat *x, const masks *m)
{
    uint32_t n, n_shrunk = 0;
    const int64_t *step = tf_const_ints(x, x->in[3], "the step", &n);
    int64_t shrunk[KAENA_MAX_RANK], axes[KAENA_MAX_RANK], first[KAENA_MAX_RANK],
        last[KAENA_MAX_RANK];
    int64_t one[KAENA_MAX_RANK];
    bool masked = false;
    if (x->status != KAENA_OK)
        return NULL;
    if (m->ellipsis || m->new_axis || n > KAENA_MAX_RANK || (int32_t)n > tf_rank(x, x->in[0])) {
        (void)tf_lacks(x, "a begin that is not known at compile time beside new dimensions");
        return NULL;
    }
    kgr_value *begin = tf_cast(x, x->in[1], KAENA_I64), *end = tf_cast(x, x->in[2], KAENA_I64);
    for (uint32_t i = 0; i < n && i < KAENA_MAX_RANK; i++) {
        axes[i] = i;
        first[i] = bit(m->begin, i);
        last[i] = bit(m->end, i);
        one[i] = bit(m->shrink, i);
        masked |= first[i] || last[i] || step[i] < 0;
        if (one[i])
            shrunk[n_shrunk++] = i;
    }
    if (masked && n_shrunk < n) {
        int64_t from[KAENA_MAX_RANK], to[KAENA_MAX_RANK];
        for (uint32_t i = 0; i < n; i++) {
            from[i] = step[i] > 0 ? 0 : INT64_MAX;
            to[i] = step[i] > 0 ? INT64_MAX : INT64_MIN;
        }
        begin = tf_op3(x, KOP_Where, tf_cast(x, tf_i64s(x, first, n), KAENA_BOOL),
                       tf_i64s(x, from, n), begin);
        end = tf_op3(x, KOP_Where, tf_cast(x, tf_i64s(x, last, n), KAENA_BOOL), tf_i64s(x, to, n),
                     end);
    }
    if (n_shrunk) {
        kgr_value *next = tf_op2(x, KOP_Add, begin, tf_i64(x, 1));
        kgr_value *last_one = tf_op2(x, KOP_Equal, next, tf_i64(x, 0));
        next = tf_op3(x, KOP_Where, last_one, tf_i64(x, INT64_MAX), next);
        end = tf_op3(x, KOP_Where, tf_cast(x, tf_i64s(x, one, n), KAENA_BOOL), next, end);
    }
    kgr_value *in[] = {x->in[0], begin, end, tf_i64s(x, axes, n), tf_i64s(x, step, n)};
    return reform(x, tf_opn(x, KOP_Slice, in, 5), shrunk, n_shrunk, NULL, 0);
}

kaena_status tf_x_strided_slice(tf_xlat *x)
{
    masks m = read_masks(x);
    bool known = kgr_is_const(x->in[1]) && kgr_is_const(x->in[2]);
    return tf_done(x, known ? known_slice(x, &m) : computed_slice(x, &m));
}
