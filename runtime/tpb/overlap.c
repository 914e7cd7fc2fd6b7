#include "overlap.h"

#include <string.h>

#include "dtype.h"

#define MAX_AXES (KISA_DIMS + KISA_MAX_LOOPS)

/* A pattern with strides made positive: |first| is its least address, |bytes| what is touched at
 * each point. */
typedef struct pattern {
    int64_t first, bytes;
    struct {
        int64_t count, stride;
    } axis[MAX_AXES];
    int n;
} pattern;

static void add_axis(pattern *p, uint32_t count, int64_t stride)
{
    if (count <= 1)
        return;
    if (stride < 0) {
        p->first += (int64_t)(count - 1) * stride;
        stride = -stride;
    }
    p->axis[p->n].count = count;
    p->axis[p->n++].stride = stride;
}

/* |other|: where the two advance alike in a fixed loop, their distance does not change; else every
 * pair of turns is assumed to meet. */
static void pattern_of(const tpb_touch *t, const kisa_operand *other, pattern *out)
{
    const kisa_operand *o = t->operand;
    out->first = (int64_t)o->offset + t->shift;
    out->bytes = (int64_t)kaena_dtype_size((kaena_dtype)o->dtype) + t->extra;
    out->n = 0;
    for (int i = 0; i < KISA_DIMS; i++)
        add_axis(out, o->count[i], o->stride[i]);
    for (uint32_t l = 0; l < t->depth; l++)
        if (l >= t->fixed || o->advance[l] != other->advance[l])
            add_axis(out, t->turns[l], o->advance[l]);
}

static int64_t reach(const pattern *p)
{
    int64_t end = p->bytes;
    for (int i = 0; i < p->n; i++)
        end += (p->axis[i].count - 1) * p->axis[i].stride;
    return end;
}

/* Modulo |pitch| the pattern lies in [*first, *first + *length). */
static void residue(const pattern *p, int64_t pitch, int64_t *first, int64_t *length)
{
    *first = p->first % pitch;
    *length = p->bytes;
    for (int i = 0; i < p->n; i++)
        if (p->axis[i].stride % pitch != 0)
            *length += (p->axis[i].count - 1) * p->axis[i].stride;
}

static bool disjoint_modulo(const pattern *a, const pattern *b, int64_t pitch)
{
    int64_t a0, an, b0, bn;
    residue(a, pitch, &a0, &an);
    residue(b, pitch, &b0, &bn);
    int64_t gap = (b0 - a0 + pitch) % pitch;
    return gap >= an && gap + bn <= pitch;
}

bool tpb_disjoint(const tpb_touch *a, const tpb_touch *b)
{
    const kisa_operand *oa = a->operand, *ob = b->operand;
    if (oa->space == KISA_NONE || ob->space == KISA_NONE || oa->space != ob->space ||
        oa->tensor != ob->tensor)
        return true;
    pattern pa, pb;
    pattern_of(a, ob, &pa);
    pattern_of(b, oa, &pb);
    if (pa.first + reach(&pa) <= pb.first || pb.first + reach(&pb) <= pa.first)
        return true;
    const pattern *both[2] = {&pa, &pb};
    for (int s = 0; s < 2; s++)
        for (int i = 0; i < both[s]->n; i++)
            if (both[s]->axis[i].stride > 0 && disjoint_modulo(&pa, &pb, both[s]->axis[i].stride))
                return true;
    return false;
}

bool tpb_distinct(const tpb_touch *a)
{
    pattern p;
    pattern_of(a, a->operand, &p);
    for (int i = 1; i < p.n; i++)
        for (int j = i; j > 0 && p.axis[j - 1].stride > p.axis[j].stride; j--) {
            int64_t count = p.axis[j].count, stride = p.axis[j].stride;
            p.axis[j] = p.axis[j - 1];
            p.axis[j - 1].count = count;
            p.axis[j - 1].stride = stride;
        }
    int64_t covered = p.bytes;
    for (int i = 0; i < p.n; i++) {
        if (p.axis[i].stride < covered)
            return false;
        covered += (p.axis[i].count - 1) * p.axis[i].stride;
    }
    return true;
}

bool tpb_same_pattern(const kisa_operand *a, const kisa_operand *b)
{
    if (a->space != b->space || a->tensor != b->tensor || a->offset != b->offset ||
        kaena_dtype_size((kaena_dtype)a->dtype) != kaena_dtype_size((kaena_dtype)b->dtype) ||
        memcmp(a->advance, b->advance, sizeof a->advance) != 0)
        return false;
    for (int i = 0; i < KISA_DIMS; i++)
        if (a->count[i] != b->count[i] || (a->count[i] > 1 && a->stride[i] != b->stride[i]))
            return false;
    return true;
}
