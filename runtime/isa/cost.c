/* What one instruction costs on the hardware's rates (ARCHITECTURE.md, the machine). */
#include "cost.h"

#define ACT_FLOPS_PER_CYCLE 512.0
#define POOL_FLOPS_PER_CYCLE 256.0
/* Both take one element a lane and cycle, however little is done with it. */
#define LANES 64.0
/* 12 DMA engines a chip move 16 bytes a cycle each: three engines a TPB. */
#define DMA_BYTES_PER_CYCLE 48.0

static double elements(const kisa_operand *o)
{
    return (double)o->count[0] * o->count[1] * o->count[2] * o->count[3];
}

double kisa_operand_bytes(const kisa_operand *o)
{
    double n = (double)kaena_dtype_size((kaena_dtype)o->dtype);
    for (int i = 0; i < KISA_DIMS; i++)
        n *= o->stride[i] ? o->count[i] : 1;
    return n;
}

bool kisa_in_dram(const kisa_operand *o)
{
    return o->space == KISA_WEIGHTS || o->space == KISA_SCRATCH || o->space == KISA_IO;
}

static double pe_rate(kaena_dtype t)
{
    if (t == KAENA_F32)
        return 0.25;
    return t == KAENA_I8 || t == KAENA_U8 ? 2.0 : 1.0;
}

static double max_of(double a, double b)
{
    return a > b ? a : b;
}

/* Elements that go through the POOL engine: each tap of each result where results have taps, the
 * data as often as it is passed over where a row has to be known before it is changed. */
static double pool_steps(const kisa_inst *inst, kisa_format format)
{
    switch ((int)format) {
    case KISA_FORMAT_window:
        return elements(&inst->u.window.dst) * inst->u.window.kernel_h * inst->u.window.kernel_w;
    case KISA_FORMAT_dwconv:
        return elements(&inst->u.dwconv.dst) * inst->u.dwconv.weights.count[1] *
               inst->u.dwconv.weights.count[2];
    case KISA_FORMAT_softmax: /* greatest; exponentials and their sum; quotients */
        return 3 * elements(&inst->u.softmax.src);
    case KISA_FORMAT_norm: /* mean; variance; result */
        return 3 * elements(&inst->u.norm.src);
    default:
        return (double)kisa_work(inst, 0);
    }
}

/* FLOPs of the ACT and POOL engines, bytes of the DMA engines become cycles. */
static void engine_cost(const kisa_inst *inst, const kisa_op_row *op, uint32_t panels, double moved,
                        kisa_cost_of *out)
{
    switch (op->engine) {
    case KISA_ENGINE_PE:
        if (op->format == KISA_FORMAT_ldw) {
            out->cycles = inst->u.ldw.k;
        } else {
            const kisa_operand *m = &inst->u.matmul.moving;
            out->cycles = elements(m) / m->count[3] / pe_rate((kaena_dtype)m->dtype);
            out->flops = 2 * elements(m) * panels * KISA_PANEL_COLUMNS;
        }
        break;
    case KISA_ENGINE_ACT: {
        if (op->format == KISA_FORMAT_quant) {
            out->flops = 3 * elements(&inst->u.quant.dst);
            out->cycles =
                max_of(out->flops / ACT_FLOPS_PER_CYCLE, elements(&inst->u.quant.dst) / LANES);
            break;
        }
        const kisa_act *a = &inst->u.act;
        double each = 2 + (a->func != KAENA_ACT_IDENTITY) + (a->residual.space != KISA_NONE);
        out->flops = each * elements(&a->dst);
        out->cycles = max_of(out->flops / ACT_FLOPS_PER_CYCLE, elements(&a->dst) / LANES);
        break;
    }
    case KISA_ENGINE_POOL: {
        /* A multiply and an add for each step. */
        double steps = pool_steps(inst, op->format);
        out->flops = 2 * steps;
        out->cycles = max_of(out->flops / POOL_FLOPS_PER_CYCLE, steps / LANES);
        break;
    }
    case KISA_ENGINE_DMA:
        out->cycles = moved / DMA_BYTES_PER_CYCLE;
        break;
    case KISA_ENGINE_SYNC:
    case KISA_ENGINE_COUNT:
        out->cycles = 1;
        break;
    }
}

kisa_cost_of kisa_cost_with(const kisa_inst *inst, uint32_t panels)
{
    const kisa_op_row *op = kisa_op_find(inst->op);
    kisa_cost_of out = {.engine = KISA_ENGINE_SYNC};
    if (!op)
        return out;
    out.engine = op->engine;
    double moved = 0, dram = 0;
    size_t n;
    const kisa_field_row *row = kisa_fields(op->format, &n);
    for (size_t i = 0; i < n; i++) {
        const kisa_operand *o = (const void *)((const uint8_t *)&inst->u + row[i].offset);
        if (!row[i].is_operand || o->space == KISA_NONE)
            continue;
        /* Of a gather's table only the rows asked for are read: as much as is written. */
        double b = op->format == KISA_FORMAT_gather && o == &inst->u.gather.table
                       ? kisa_operand_bytes(&inst->u.gather.dst)
                       : kisa_operand_bytes(o);
        moved = max_of(moved, b);
        if (kisa_in_dram(o))
            dram += b;
    }
    out.dram_bytes = (uint64_t)dram;
    engine_cost(inst, op, panels, moved, &out);
    return out;
}

kisa_cost_of kisa_cost(const kisa_inst *inst)
{
    return kisa_cost_with(inst, KISA_TILE_PANELS);
}
