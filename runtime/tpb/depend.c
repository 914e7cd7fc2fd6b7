/* Dependences between units: read after write, write after read, write after write. */
#include "overlap.h"
#include "tpb_code.h"

#define MAX_READS 9

/* What a unit reads and writes. */
typedef struct reading {
    tpb_touch touch;
    bool in_place; /* may be the destination itself, element for element */
    bool moving;   /* of a fused run: all its tiles */
} reading;

typedef struct accesses {
    const tpb_unit *unit;
    tpb_touch write;
    reading read[MAX_READS];
    uint32_t n_read;
} accesses;

static reading *add_read(accesses *a, const kisa_operand *o)
{
    const tpb_unit *u = a->unit;
    a->read[a->n_read] =
        (reading){.touch = {.operand = o, .turns = u->turns, .fixed = u->fixed, .depth = u->depth}};
    return &a->read[a->n_read++];
}

static void accesses_of(const tpb_unit *u, accesses *out)
{
    kisa_operand *operand[8];
    kisa_access access[8];
    size_t n = kisa_operands((kisa_inst *)(uintptr_t)u->inst, operand, access);
    out->unit = u;
    out->n_read = 0;
    for (size_t i = 0; i < n; i++) {
        const kisa_operand *o = operand[i];
        if (access[i] == KISA_ACCESS_WRITE)
            out->write =
                (tpb_touch){.operand = o, .turns = u->turns, .fixed = u->fixed, .depth = u->depth};
        else if (o->space != KISA_NONE && o->space != KISA_WEIGHTS && o->space != KISA_PSUM)
            add_read(out, o)->in_place = true;
    }
    if (!u->moving)
        return;
    reading *x = add_read(out, u->moving);
    x->moving = true;
    x->touch.shift = u->x_low;
    x->touch.extra = u->x_extra;
    if (u->weights->space != KISA_WEIGHTS) {
        reading *w = add_read(out, u->weights);
        w->touch.shift = u->w_low;
        w->touch.extra = u->w_extra;
    }
}

/* Tile by tile, where all of them together are too coarse. */
static bool clear_of_tiles(const tpb_touch *write, const tpb_unit *u, tpb_touch touch)
{
    int64_t element = (int64_t)kaena_dtype_size((kaena_dtype)u->moving->dtype);
    for (uint32_t t = 0; t < u->n_tiles; t++) {
        int64_t more = (int64_t)u->tile[t].k - u->moving->count[3];
        touch.shift = u->tile[t].x_offset;
        touch.extra = more > 0 ? more * element : 0;
        if (!tpb_disjoint(write, &touch))
            return false;
    }
    return true;
}

static bool clear_of(const tpb_touch *write, const accesses *of, bool same_unit)
{
    for (uint32_t i = 0; i < of->n_read; i++) {
        const reading *r = &of->read[i];
        if (same_unit && r->in_place && tpb_same_pattern(write->operand, r->touch.operand))
            continue;
        if (!tpb_disjoint(write, &r->touch) &&
            !(r->moving && clear_of_tiles(write, of->unit, r->touch)))
            return false;
    }
    return true;
}

bool tpb_unit_independent(const tpb_unit *u)
{
    accesses a;
    accesses_of(u, &a);
    return tpb_distinct(&a.write) && clear_of(&a.write, &a, true);
}

bool tpb_units_independent(const tpb_unit *a, const tpb_unit *b)
{
    accesses x, y;
    accesses_of(a, &x);
    accesses_of(b, &y);
    return tpb_disjoint(&x.write, &y.write) && clear_of(&x.write, &y, false) &&
           clear_of(&y.write, &x, false);
}

bool tpb_run_legal(const tpb_unit *u)
{
    accesses a;
    accesses_of(u, &a);
    return clear_of(&a.write, &a, true);
}
