/* Encoding and decoding: loops over the rows of isa.def. */
#include <assert.h>
#include <string.h>

#include "isa.h"

#define HEADER_BYTES 4 /* u16 opcode, u16 bytes of the whole instruction */

/* File and memory hold an operand's members in the same order; memory has padding before |offset|.
 */
#define OPERAND_HEAD (4 + 4 * KISA_DIMS)
static_assert(offsetof(kisa_operand, stride) == offsetof(kisa_operand, offset) + 8 &&
                  offsetof(kisa_operand, advance) ==
                      offsetof(kisa_operand, stride) + 8 * KISA_DIMS &&
                  offsetof(kisa_operand, count) + 4 * KISA_DIMS == OPERAND_HEAD,
              "kisa_operand lies as encoded");

static size_t encoded_bytes(kisa_format format)
{
    size_t n, bytes = HEADER_BYTES;
    const kisa_field_row *row = kisa_fields(format, &n);
    for (size_t i = 0; i < n; i++)
        bytes += row[i].bytes;
    return bytes;
}

static void encode_one(const kisa_inst *inst, kaena_strbuf *out)
{
    const kisa_op_row *op = kisa_op_find(inst->op);
    assert(op);
    uint16_t header[2] = {inst->op, (uint16_t)encoded_bytes(op->format)};
    kaena_strbuf_add(out, header, sizeof header);
    size_t n;
    const kisa_field_row *row = kisa_fields(op->format, &n);
    for (size_t i = 0; i < n; i++) {
        const uint8_t *p = (const uint8_t *)&inst->u + row[i].offset;
        if (row[i].is_operand) {
            kaena_strbuf_add(out, p, OPERAND_HEAD);
            kaena_strbuf_add(out, p + offsetof(kisa_operand, offset),
                             KISA_OPERAND_BYTES - OPERAND_HEAD);
        } else {
            kaena_strbuf_add(out, p, row[i].bytes);
        }
    }
}

void kisa_encode(const kisa_program *p, kaena_strbuf *out)
{
    for (uint32_t i = 0; i < p->n; i++)
        encode_one(&p->inst[i], out);
}

static void decode_one(const uint8_t *p, const kisa_op_row *op, kisa_inst *out)
{
    out->op = op->op;
    size_t n;
    const kisa_field_row *row = kisa_fields(op->format, &n);
    for (size_t i = 0; i < n; i++) {
        uint8_t *to = (uint8_t *)&out->u + row[i].offset;
        if (row[i].is_operand) {
            memcpy(to, p, OPERAND_HEAD);
            memcpy(to + offsetof(kisa_operand, offset), p + OPERAND_HEAD,
                   KISA_OPERAND_BYTES - OPERAND_HEAD);
        } else {
            memcpy(to, p, row[i].bytes);
        }
        p += row[i].bytes;
    }
}

/* The row of the instruction at |at|, whose bytes all lie inside the section. */
static kaena_status header_at(const uint8_t *code, size_t size, size_t at, uint32_t index,
                              const kisa_op_row **out, kaena_err *err)
{
    uint16_t header[2];
    if (size - at < sizeof header)
        return KAENA_FAIL(err, DATA_LOSS, "instruction %u: cut off at byte %zu", index, size);
    memcpy(header, code + at, sizeof header);
    const kisa_op_row *op = kisa_op_find(header[0]);
    if (!op)
        return KAENA_FAIL(err, DATA_LOSS, "instruction %u: unknown opcode 0x%04x", index,
                          header[0]);
    size_t bytes = encoded_bytes(op->format);
    if (header[1] != bytes)
        return KAENA_FAIL(err, DATA_LOSS, "instruction %u: %s takes %zu bytes, not %u", index,
                          op->name, bytes, header[1]);
    if (size - at < bytes)
        return KAENA_FAIL(err, DATA_LOSS, "instruction %u: %s is cut off at byte %zu", index,
                          op->name, size);
    *out = op;
    return KAENA_OK;
}

kaena_status kisa_decode(kaena_arena *arena, const void *code, size_t size, kisa_program *out,
                         kaena_err *err)
{
    const uint8_t *bytes = code;
    const kisa_op_row *op = NULL;
    uint32_t n = 0;
    for (size_t at = 0; at < size; at += encoded_bytes(op->format)) {
        if (n == KISA_MAX_INSTRUCTIONS)
            return KAENA_FAIL(err, DATA_LOSS, "more than %u instructions", KISA_MAX_INSTRUCTIONS);
        KAENA_TRY(header_at(bytes, size, at, n, &op, err));
        n++;
    }
    kisa_inst *inst = KAENA_NEW_N(arena, kisa_inst, n);
    if (!inst)
        return KAENA_FAIL(err, RESOURCE_EXHAUSTED, "no memory for %u instructions", n);
    size_t at = 0;
    for (uint32_t i = 0; i < n; i++) {
        KAENA_TRY(header_at(bytes, size, at, i, &op, err));
        decode_one(bytes + at + HEADER_BYTES, op, &inst[i]);
        at += encoded_bytes(op->format);
    }
    *out = (kisa_program){.inst = inst, .n = n};
    return KAENA_OK;
}
