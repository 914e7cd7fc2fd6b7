/* How much one instruction does. */
#include "isa.h"

static uint64_t times(uint64_t a, uint64_t b)
{
    uint64_t r;
    return __builtin_mul_overflow(a, b, &r) ? UINT64_MAX : r;
}

static uint64_t elements(const kisa_operand *o)
{
    uint64_t n = 1;
    for (int i = 0; i < KISA_DIMS; i++)
        n = times(n, o->count[i]);
    return n;
}

/* What each element of the largest operand costs beyond one step. */
static uint64_t factor(const kisa_inst *inst, kisa_format format, uint32_t panels)
{
    switch (format) {
    case KISA_FORMAT_matmul:
        return (uint64_t)panels * KISA_PANEL_COLUMNS;
    case KISA_FORMAT_window:
        return (uint64_t)inst->u.window.kernel_h * inst->u.window.kernel_w;
    case KISA_FORMAT_dwconv:
        return (uint64_t)inst->u.dwconv.weights.count[1] * inst->u.dwconv.weights.count[2];
    case KISA_FORMAT_lrn:
        return inst->u.lrn.size;
    case KISA_FORMAT_resize:
        return times(inst->u.resize.y_index.count[3], inst->u.resize.x_index.count[3]);
    case KISA_FORMAT_none:
    case KISA_FORMAT_loop:
    case KISA_FORMAT_signal:
    case KISA_FORMAT_wait:
    case KISA_FORMAT_ldw:
    case KISA_FORMAT_act:
    case KISA_FORMAT_quant:
    case KISA_FORMAT_tt:
    case KISA_FORMAT_ttt:
    case KISA_FORMAT_reduce:
    case KISA_FORMAT_softmax:
    case KISA_FORMAT_copy:
    case KISA_FORMAT_fill:
    case KISA_FORMAT_gather:
    case KISA_FORMAT_norm:
    case KISA_FORMAT_pack:
    case KISA_FORMAT_COUNT:
        break;
    }
    return 1;
}

uint64_t kisa_work(const kisa_inst *inst, uint32_t panels)
{
    const kisa_op_row *op = kisa_op_find(inst->op);
    if (!op)
        return 1;
    uint64_t most = 1;
    size_t n;
    const kisa_field_row *row = kisa_fields(op->format, &n);
    for (size_t i = 0; i < n; i++) {
        const kisa_operand *o = (const void *)((const uint8_t *)&inst->u + row[i].offset);
        if (row[i].is_operand && o->space != KISA_NONE) {
            uint64_t e = elements(o);
            most = e > most ? e : most;
        }
    }
    return times(most, factor(inst, op->format, panels));
}
