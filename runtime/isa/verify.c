/* Verification: one walk over each program, then the semaphores of all of them together. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "isa_check.h"

kaena_status kisa_refuse(const kisa_check *c, const char *fmt, ...)
{
    char what[256];
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(what, sizeof what, fmt, ap);
    va_end(ap);
    return KAENA_FAIL(c->err, DATA_LOSS, "tpb %u: instruction %u: %s: %s", c->tpb, c->index,
                      c->op ? c->op->name : "?", what);
}

static kaena_status check_scalars(const kisa_check *c, const kisa_inst *inst)
{
    size_t n;
    const kisa_field_row *row = kisa_fields(c->op->format, &n);
    for (size_t i = 0; i < n; i++) {
        if (row[i].is_operand || row[i].kind == KISA_KIND_REAL)
            continue;
        uint64_t v = kisa_field_bits(inst, &row[i]);
        bool inside = row[i].kind == KISA_KIND_BITS
                          ? v >= (uint64_t)row[i].least && v <= (uint64_t)row[i].most
                          : (int64_t)v >= row[i].least && (int64_t)v <= row[i].most;
        if (!inside)
            return kisa_refuse(c, "%s: %" PRId64 " is not in [%" PRId64 ", %" PRId64 "]",
                               row[i].name, (int64_t)v, row[i].least, row[i].most);
    }
    return KAENA_OK;
}

/* |work| += what the instruction does in all turns. */
static kaena_status add_work(const kisa_check *c, const kisa_inst *inst, uint64_t *work)
{
    uint64_t w = kisa_work(inst, c->tile ? c->tile->weights.count[1] : 0);
    bool fits = true;
    for (uint32_t i = 0; i < c->depth; i++)
        fits = fits && !__builtin_mul_overflow(w, c->turns[i], &w);
    if (!fits || __builtin_add_overflow(*work, w, work) || *work > KISA_MAX_WORK)
        return kisa_refuse(c, "the program does more than 2^46 elementary steps");
    return KAENA_OK;
}

/* HALT, LOOP and END: the structure of the program. */
static kaena_status check_control(kisa_check *c, const kisa_inst *inst, uint32_t n)
{
    switch (inst->op) {
    case KISA_HALT:
        if (c->index != n - 1)
            return kisa_refuse(c, "instructions follow");
        if (c->depth)
            return kisa_refuse(c, "inside %u loops", c->depth);
        break;
    case KISA_LOOP:
        c->turns[c->depth++] = inst->u.loop.count;
        c->tile = NULL;
        break;
    case KISA_END:
        if (!c->depth)
            return kisa_refuse(c, "without a LOOP");
        c->depth--;
        c->tile = NULL;
        break;
    case KISA_LDW:
        c->tile = &inst->u.ldw;
        break;
    default:
        break;
    }
    return KAENA_OK;
}

static kaena_status check_program(kisa_check *c, const kisa_program *p)
{
    if (p->n == 0 || p->inst[p->n - 1].op != KISA_HALT)
        return KAENA_FAIL(c->err, DATA_LOSS, "tpb %u: the program does not end with HALT", c->tpb);
    if (p->n > KISA_MAX_INSTRUCTIONS)
        return KAENA_FAIL(c->err, DATA_LOSS, "tpb %u: more than %u instructions", c->tpb,
                          KISA_MAX_INSTRUCTIONS);
    uint64_t work = 0;
    for (c->index = 0; c->index < p->n; c->index++) {
        kisa_inst *inst = &p->inst[c->index];
        c->op = kisa_op_find(inst->op);
        if (!c->op)
            return kisa_refuse(c, "unknown opcode 0x%04x", inst->op);
        KAENA_TRY(check_scalars(c, inst));
        KAENA_TRY(kisa_check_access(c, inst));
        KAENA_TRY(kisa_check_rules(c, inst));
        KAENA_TRY(check_control(c, inst, p->n));
        KAENA_TRY(add_work(c, inst, &work));
    }
    return KAENA_OK;
}

kaena_status kisa_verify(const kisa_program *programs, uint32_t n_tpbs, const kisa_limits *limits,
                         kaena_err *err)
{
    if (n_tpbs < 1 || n_tpbs > KISA_MAX_TPBS)
        return KAENA_FAIL(err, DATA_LOSS, "%u TPBs, not 1 to %d", n_tpbs, KISA_MAX_TPBS);
    for (uint32_t t = 0; t < n_tpbs; t++) {
        kisa_check c = {.limits = limits, .n_tpbs = n_tpbs, .tpb = t, .err = err};
        KAENA_TRY(check_program(&c, &programs[t]));
    }
    return kisa_check_semaphores(programs, n_tpbs, err);
}
