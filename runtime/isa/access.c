/* Verification of access patterns: one operand by itself, and a destination against the sources. */
#include <inttypes.h>
#include <string.h>

#include "isa_check.h"

__extension__ typedef __int128
    wide; /* sums of 32 x 64-bit products: no overflow in anything below */

/* Least and greatest sum of i * stride over 0 <= i < count. */
static void span(const uint32_t *count, const int64_t *stride, uint32_t n, wide *least, wide *most)
{
    for (uint32_t i = 0; i < n; i++) {
        wide reach = (wide)(count[i] - 1) * stride[i];
        *(reach < 0 ? least : most) += reach;
    }
}

static bool fits(wide least, wide most, uint64_t *first, uint64_t *end)
{
    if (least < 0 || most > (wide)INT64_MAX)
        return false;
    *first = (uint64_t)least;
    *end = (uint64_t)most;
    return true;
}

bool kisa_operand_extent(const kisa_operand *o, const uint32_t *turns, uint32_t n_loops,
                         uint64_t *first, uint64_t *end)
{
    wide least = (wide)o->offset, most = least + (wide)kaena_dtype_size((kaena_dtype)o->dtype);
    span(o->count, o->stride, KISA_DIMS, &least, &most);
    span(turns, o->advance, n_loops, &least, &most);
    return fits(least, most, first, end);
}

uint64_t kisa_space_end(const kisa_program *program, kisa_space space)
{
    uint32_t turns[KISA_MAX_LOOPS], depth = 0;
    uint64_t most = 0;
    for (uint32_t i = 0; i < program->n; i++) {
        kisa_inst *inst = (kisa_inst *)(uintptr_t)&program->inst[i];
        if (inst->op == KISA_LOOP) {
            turns[depth++] = inst->u.loop.count;
            continue;
        }
        if (inst->op == KISA_END)
            depth--;
        kisa_operand *operand[8];
        kisa_access access[8];
        size_t n = kisa_operands(inst, operand, access);
        for (size_t k = 0; k < n; k++) {
            uint64_t first, end;
            if (operand[k]->space == space &&
                kisa_operand_extent(operand[k], turns, depth, &first, &end) && end > most)
                most = end;
        }
    }
    return most;
}

static uint64_t space_bytes(const kisa_check *c, const kisa_operand *o)
{
    switch ((kisa_space)o->space) {
    case KISA_SB:
        return c->limits->sb_bytes;
    case KISA_PSUM:
        return KISA_PSUM_BYTES;
    case KISA_WEIGHTS:
        return c->limits->weights_bytes;
    case KISA_SCRATCH:
        return c->limits->scratch_bytes;
    case KISA_IO:
        return c->limits->io_bytes[o->tensor];
    case KISA_NONE:
    case KISA_SPACE_COUNT:
        break;
    }
    return 0;
}

static bool is_zero(const kisa_operand *o)
{
    uint64_t all = (uint64_t)o->dtype | o->tensor | o->offset;
    for (int i = 0; i < KISA_DIMS; i++)
        all |= o->count[i] | (uint64_t)o->stride[i];
    for (int i = 0; i < KISA_MAX_LOOPS; i++)
        all |= (uint64_t)o->advance[i];
    return all == 0;
}

static kaena_status check_space(const kisa_check *c, const kisa_field_row *row,
                                const kisa_operand *o)
{
    const char *space = kisa_space_name((kisa_space)o->space);
    if (!space)
        return kisa_refuse(c, "%s: no space %u", row->name, o->space);
    bool writes = row->access == KISA_ACCESS_WRITE;
    if (o->space == KISA_NONE || (o->space == KISA_PSUM && row->access != KISA_ACCESS_READ_PSUM) ||
        (writes && o->space == KISA_WEIGHTS))
        return kisa_refuse(c, "%s: may not be in %s", row->name, space);
    if (o->space != KISA_IO)
        return o->tensor == 0 ? KAENA_OK : kisa_refuse(c, "%s: names a tensor of IO", row->name);
    if (o->tensor >= c->limits->n_io)
        return kisa_refuse(c, "%s: no tensor %u in IO (%u)", row->name, o->tensor, c->limits->n_io);
    if (writes && !c->limits->io_written[o->tensor])
        return kisa_refuse(c, "%s: writes tensor %u of IO, which the step only reads", row->name,
                           o->tensor);
    if (!writes && c->limits->io_written[o->tensor])
        return kisa_refuse(c, "%s: reads tensor %u of IO, which the step writes", row->name,
                           o->tensor);
    return KAENA_OK;
}

static kaena_status check_pattern(const kisa_check *c, const kisa_field_row *row,
                                  const kisa_operand *o)
{
    int64_t size = (int64_t)kaena_dtype_size((kaena_dtype)o->dtype);
    bool aligned = o->offset % (uint64_t)size == 0;
    for (int i = 0; i < KISA_DIMS; i++) {
        if (o->count[i] == 0)
            return kisa_refuse(c, "%s: count 0 in dimension %d", row->name, i);
        aligned = aligned && (o->count[i] == 1 || o->stride[i] % size == 0);
    }
    for (uint32_t i = 0; i < KISA_MAX_LOOPS; i++) {
        if (i >= c->depth && o->advance[i])
            return kisa_refuse(c, "%s: advances with loop %u, inside %u loops", row->name, i,
                               c->depth);
        aligned = aligned && o->advance[i] % size == 0;
    }
    if (!aligned)
        return kisa_refuse(c, "%s: offset, strides and advances must be multiples of %d bytes",
                           row->name, (int)size);
    uint64_t first, end, limit = space_bytes(c, o);
    const char *verb = row->access == KISA_ACCESS_WRITE ? "writes" : "reads";
    const char *space = kisa_space_name((kisa_space)o->space);
    if (!kisa_operand_extent(o, c->turns, c->depth, &first, &end))
        return kisa_refuse(c, "%s: %s before the start of %s, or past 2^63", row->name, verb,
                           space);
    if (end > limit)
        return kisa_refuse(c, "%s: %s past the end of %s (%" PRIu64 " > %" PRIu64 ")", row->name,
                           verb, space, end, limit);
    return KAENA_OK;
}

/* Rows of PSUM are 256 bytes apart, columns contiguous inside one. */
static kaena_status check_psum(const kisa_check *c, const kisa_field_row *row,
                               const kisa_operand *o)
{
    bool rows = true;
    for (int i = 0; i < KISA_DIMS - 1; i++)
        rows = rows && (o->count[i] == 1 || o->stride[i] % KISA_PSUM_ROW_BYTES == 0);
    for (int i = 0; i < KISA_MAX_LOOPS; i++)
        rows = rows && o->advance[i] % KISA_PSUM_ROW_BYTES == 0;
    bool columns = o->count[3] == 1 || o->stride[3] == 4;
    if (!rows || !columns ||
        o->offset % KISA_PSUM_ROW_BYTES + 4 * (uint64_t)o->count[3] > KISA_PSUM_ROW_BYTES)
        return kisa_refuse(c, "%s: not rows of PSUM (strides multiples of %d, at most %d columns)",
                           row->name, KISA_PSUM_ROW_BYTES, KISA_PSUM_COLUMNS);
    if (o->dtype != KAENA_F32 && o->dtype != KAENA_I32)
        return kisa_refuse(c, "%s: PSUM holds float32 or int32", row->name);
    return KAENA_OK;
}

/* Elements of a destination are distinct: sorted by stride, every dimension steps over all that the
 * smaller ones cover. */
static kaena_status check_distinct(const kisa_check *c, const kisa_field_row *row,
                                   const kisa_operand *o)
{
    int order[KISA_DIMS], n = 0;
    for (int i = 0; i < KISA_DIMS; i++) {
        if (o->count[i] == 1)
            continue;
        int at = n++;
        for (; at && (wide)o->stride[order[at - 1]] * o->stride[order[at - 1]] >
                         (wide)o->stride[i] * o->stride[i];
             at--)
            order[at] = order[at - 1];
        order[at] = i;
    }
    wide covered = (wide)kaena_dtype_size((kaena_dtype)o->dtype);
    for (int k = 0; k < n; k++) {
        wide stride = o->stride[order[k]] < 0 ? -(wide)o->stride[order[k]] : o->stride[order[k]];
        if (stride < covered)
            return kisa_refuse(c, "%s: elements overlap (stride %" PRId64 " of dimension %d)",
                               row->name, o->stride[order[k]], order[k]);
        covered += stride * (o->count[order[k]] - 1);
    }
    return KAENA_OK;
}

/* Element i of both is at the same place in every turn. */
static bool same_pattern(const kisa_operand *a, const kisa_operand *b)
{
    if (a->offset != b->offset || memcmp(a->advance, b->advance, sizeof a->advance) != 0)
        return false;
    for (int i = 0; i < KISA_DIMS; i++)
        if (a->count[i] != b->count[i] || (a->count[i] > 1 && a->stride[i] != b->stride[i]))
            return false;
    return true;
}

/* In no turn do the byte ranges from first to last element touch. */
static bool ranges_disjoint(const kisa_check *c, const kisa_operand *a, const kisa_operand *b)
{
    wide a0 = 0, a1 = (wide)kaena_dtype_size((kaena_dtype)a->dtype);
    wide b0 = 0, b1 = (wide)kaena_dtype_size((kaena_dtype)b->dtype);
    span(a->count, a->stride, KISA_DIMS, &a0, &a1);
    span(b->count, b->stride, KISA_DIMS, &b0, &b1);
    /* How far b lies behind a, over all turns. */
    wide least = (wide)b->offset - (wide)a->offset, most = least;
    for (uint32_t i = 0; i < c->depth; i++) {
        wide reach = (wide)(c->turns[i] - 1) * ((wide)b->advance[i] - a->advance[i]);
        *(reach < 0 ? &least : &most) += reach;
    }
    return least + b0 >= a1 || most + b1 <= a0;
}

/* The bytes that |o| touches modulo |pitch| lie in [first, first + *length), which may wrap. */
static wide residue(const kisa_check *c, const kisa_operand *o, int64_t pitch, wide *length)
{
    wide least = 0, most = (wide)kaena_dtype_size((kaena_dtype)o->dtype);
    for (int i = 0; i < KISA_DIMS; i++)
        if (o->count[i] > 1 && o->stride[i] % pitch != 0)
            span(&o->count[i], &o->stride[i], 1, &least, &most);
    for (uint32_t i = 0; i < c->depth; i++)
        if (o->advance[i] % pitch != 0)
            span(&c->turns[i], &o->advance[i], 1, &least, &most);
    *length = most - least;
    return ((wide)o->offset + least) % pitch;
}

/* Both are columns of one table: modulo its pitch, which is a stride of the destination, they do
 * not touch. */
static bool columns_disjoint(const kisa_check *c, const kisa_operand *dst, const kisa_operand *src)
{
    for (int i = 0; i < KISA_DIMS; i++) {
        if (dst->count[i] == 1 || dst->stride[i] == 0)
            continue;
        int64_t pitch = dst->stride[i] < 0 ? -dst->stride[i] : dst->stride[i];
        wide written, read, d = residue(c, dst, pitch, &written), s = residue(c, src, pitch, &read);
        wide behind = (s - d) % pitch; /* of the source, from the destination on */
        behind += behind < 0 ? pitch : 0;
        if (behind >= written && behind + read <= pitch)
            return true;
    }
    return false;
}

static bool names(const char *list, const char *name)
{
    size_t n = strlen(name);
    for (const char *p = strstr(list, name); p; p = strstr(p + 1, name))
        if ((p == list || p[-1] == ' ') && (p[n] == 0 || p[n] == ' '))
            return true;
    return false;
}

static kaena_status check_overlap(const kisa_check *c, const kisa_field_row *dst_row,
                                  const kisa_operand *dst, const kisa_field_row *row,
                                  const kisa_operand *src)
{
    if (dst->space != src->space || dst->tensor != src->tensor)
        return KAENA_OK;
    if (names(kisa_in_place(c->op->format), row->name) && same_pattern(dst, src))
        return KAENA_OK;
    if (ranges_disjoint(c, dst, src) || columns_disjoint(c, dst, src))
        return KAENA_OK;
    return kisa_refuse(c, "%s overlaps %s", dst_row->name, row->name);
}

kaena_status kisa_check_access(const kisa_check *c, kisa_inst *inst)
{
    size_t n;
    const kisa_field_row *row = kisa_fields(c->op->format, &n);
    const uint8_t *base = (const uint8_t *)&inst->u;
    for (size_t i = 0; i < n; i++) {
        if (!row[i].is_operand)
            continue;
        const kisa_operand *o = (const void *)(base + row[i].offset);
        if (o->space == KISA_NONE && row[i].access == KISA_ACCESS_READ_OPT) {
            if (!is_zero(o))
                return kisa_refuse(c, "%s: absent but not zero", row[i].name);
            continue;
        }
        KAENA_TRY(check_space(c, &row[i], o));
        if (o->dtype >= 32 || !(row[i].types >> o->dtype & 1))
            return kisa_refuse(c, "%s: may not be of type %s", row[i].name,
                               kaena_dtype_name((kaena_dtype)o->dtype));
        KAENA_TRY(check_pattern(c, &row[i], o));
        if (o->space == KISA_PSUM)
            KAENA_TRY(check_psum(c, &row[i], o));
        if (row[i].access == KISA_ACCESS_WRITE)
            KAENA_TRY(check_distinct(c, &row[i], o));
    }
    for (size_t d = 0; d < n; d++) {
        if (!row[d].is_operand || row[d].access != KISA_ACCESS_WRITE)
            continue;
        for (size_t s = 0; s < n; s++)
            if (row[s].is_operand && row[s].access != KISA_ACCESS_WRITE)
                KAENA_TRY(check_overlap(c, &row[d], (const void *)(base + row[d].offset), &row[s],
                                        (const void *)(base + row[s].offset)));
    }
    return KAENA_OK;
}
