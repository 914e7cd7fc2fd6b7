#include "isa.h"

#include <assert.h>
#include <string.h>

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "fields are copied as they lie in memory");

static const kisa_op_row op_rows[] = {
#define KISA_OP(name, opcode, engine, format, text)                                                \
    {#name, opcode, KISA_ENGINE_##engine, KISA_FORMAT_##format, text},
#include "isa.def"
};

/* The sets of element types that isa.def names. */
#define TYPE(name) (1u << KAENA_##name)
#define TYPES_FLOAT (TYPE(F32) | TYPE(BF16) | TYPE(F16))
#define TYPES_F32 TYPE(F32)
#define TYPES_PE (TYPES_FLOAT | TYPE(I8) | TYPE(U8))
#define TYPES_I32 TYPE(I32)
#define TYPES_INDEX (TYPE(I32) | TYPE(I64))
#define TYPES_ARITH (TYPES_FLOAT | TYPE(I32))
#define TYPES_QUANT (TYPES_ARITH | TYPE(I8) | TYPE(U8))
#define TYPES_POOLED (TYPES_FLOAT | TYPE(I8) | TYPE(U8))
#define TYPES_COND (TYPES_FLOAT | TYPE(BOOL))
enum {
    TYPES_ALL = 0
#define KAENA_DTYPE_ROW(NAME, value, bytes, text, kind) | TYPE(NAME)
#include "dtype.def"
#undef KAENA_DTYPE_ROW
};
#define TYPES_NUMBER ((unsigned)TYPES_ALL & ~TYPE(STRING))

/* One function per format, so that offsetof has a type to work on; the rows end with an empty one
 * because a format may have no fields. */
#define KISA_FORMAT_BEGIN(format)                                                                  \
    static const kisa_field_row *fields_##format(size_t *n)                                        \
    {                                                                                              \
        typedef kisa_##format self;                                                                \
        static const kisa_field_row rows[] = {
#define KISA_OPERAND(member, access_, types_, text_)                                               \
    {.name = #member,                                                                              \
     .offset = offsetof(self, member),                                                             \
     .bytes = KISA_OPERAND_BYTES,                                                                  \
     .is_operand = true,                                                                           \
     .access = KISA_ACCESS_##access_,                                                              \
     .types = TYPES_##types_,                                                                      \
     .text = text_},
#define KISA_FIELD(ctype, member, kind_, least_, most_, text_)                                     \
    {.name = #member,                                                                              \
     .offset = offsetof(self, member),                                                             \
     .bytes = sizeof(ctype),                                                                       \
     .kind = KISA_KIND_##kind_,                                                                    \
     .is_signed = (ctype)-1 < (ctype)1,                                                            \
     .least = least_,                                                                              \
     .most = most_,                                                                                \
     .text = text_},
#define KISA_FORMAT_END(format)                                                                    \
    {                                                                                              \
        .offset = offsetof(self, end)                                                              \
    }                                                                                              \
    }                                                                                              \
    ;                                                                                              \
    *n = sizeof rows / sizeof *rows - 1;                                                           \
    return rows;                                                                                   \
    }
#include "isa.def"

static const kisa_field_row *(*const fields_of[KISA_FORMAT_COUNT])(size_t *) = {
#define KISA_FORMAT_BEGIN(format) [KISA_FORMAT_##format] = fields_##format,
#include "isa.def"
};

static const char *const engine_names[KISA_ENGINE_COUNT] = {
    [KISA_ENGINE_SYNC] = "SYNC", [KISA_ENGINE_PE] = "PE",   [KISA_ENGINE_ACT] = "ACT",
    [KISA_ENGINE_POOL] = "POOL", [KISA_ENGINE_DMA] = "DMA",
};

static const char *const space_names[KISA_SPACE_COUNT] = {
    [KISA_NONE] = "NONE",       [KISA_SB] = "SB",           [KISA_PSUM] = "PSUM",
    [KISA_WEIGHTS] = "WEIGHTS", [KISA_SCRATCH] = "SCRATCH", [KISA_IO] = "IO",
};

static const char *const tt_names[] = {
#define KISA_TT_KIND(name, value, text) [value] = #name,
#include "isa_kinds.def"
};
static const char *const ttt_names[] = {
#define KISA_TTT_KIND(name, value, text) [value] = #name,
#include "isa_kinds.def"
};
static const char *const reduce_names[] = {
#define KISA_REDUCE_KIND(name, value, text) [value] = #name,
#include "isa_kinds.def"
};
static const char *const window_names[] = {
#define KISA_WINDOW_KIND(name, value, text) [value] = #name,
#include "isa_kinds.def"
};
static const char *const softmax_names[] = {
#define KISA_SOFTMAX_KIND(name, value, text) [value] = #name,
#include "isa_kinds.def"
};
static const char *const norm_names[] = {
#define KISA_NORM_KIND(name, value, text) [value] = #name,
#include "isa_kinds.def"
};

const kisa_op_row *kisa_op_find(uint16_t op)
{
    for (size_t i = 0; i < sizeof op_rows / sizeof *op_rows; i++)
        if (op_rows[i].op == op)
            return &op_rows[i];
    return NULL;
}

const kisa_op_row *kisa_op_rows(size_t *n)
{
    *n = sizeof op_rows / sizeof *op_rows;
    return op_rows;
}

const kisa_field_row *kisa_fields(kisa_format format, size_t *n)
{
    return fields_of[format](n);
}

const char *kisa_engine_name(kisa_engine e)
{
    return (unsigned)e < KISA_ENGINE_COUNT ? engine_names[e] : NULL;
}

const char *kisa_space_name(kisa_space s)
{
    return (unsigned)s < KISA_SPACE_COUNT ? space_names[s] : NULL;
}

static const char *name_at(const char *const *names, size_t n, uint64_t value)
{
    return value < n ? names[value] : NULL;
}

const char *kisa_kind_name(kisa_kind kind, uint64_t value)
{
    switch (kind) {
    case KISA_KIND_ACT:
        return value <= UINT32_MAX ? kaena_act_name((unsigned)value) : NULL;
    case KISA_KIND_TT:
        return name_at(tt_names, sizeof tt_names / sizeof *tt_names, value);
    case KISA_KIND_TTT:
        return name_at(ttt_names, sizeof ttt_names / sizeof *ttt_names, value);
    case KISA_KIND_REDUCE:
        return name_at(reduce_names, sizeof reduce_names / sizeof *reduce_names, value);
    case KISA_KIND_WINDOW:
        return name_at(window_names, sizeof window_names / sizeof *window_names, value);
    case KISA_KIND_SOFTMAX:
        return name_at(softmax_names, sizeof softmax_names / sizeof *softmax_names, value);
    case KISA_KIND_NORM:
        return name_at(norm_names, sizeof norm_names / sizeof *norm_names, value);
    case KISA_KIND_NUMBER:
    case KISA_KIND_REAL:
    case KISA_KIND_BITS:
        break;
    }
    return NULL;
}

uint64_t kisa_field_bits(const kisa_inst *inst, const kisa_field_row *row)
{
    uint64_t v = 0;
    memcpy(&v, (const uint8_t *)&inst->u + row->offset, row->bytes);
    unsigned unused = 64 - 8u * row->bytes;
    if (row->is_signed && row->kind != KISA_KIND_REAL)
        v = (uint64_t)((int64_t)(v << unused) >> unused);
    return v;
}

size_t kisa_operands(kisa_inst *inst, kisa_operand *out[8], kisa_access access[8])
{
    const kisa_op_row *op = kisa_op_find(inst->op);
    if (!op)
        return 0;
    size_t n_fields, n = 0;
    const kisa_field_row *row = kisa_fields(op->format, &n_fields);
    for (size_t i = 0; i < n_fields; i++) {
        if (!row[i].is_operand)
            continue;
        if (access)
            access[n] = (kisa_access)row[i].access;
        out[n++] = (kisa_operand *)(void *)((uint8_t *)&inst->u + row[i].offset);
    }
    return n;
}
