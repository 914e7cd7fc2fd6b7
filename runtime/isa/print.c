/* Instructions as text. assemble.c reads what this writes. */
#include <ctype.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "isa.h"
#include "isa_text.h"

const char *kisa_dtype_text(kaena_dtype t, char buf[8])
{
    static const char *const names[] = {
#define KAENA_DTYPE_ROW(NAME, value, bytes, text, kind) [value] = #NAME,
#include "dtype.def"
#undef KAENA_DTYPE_ROW
    };
    if ((unsigned)t >= sizeof names / sizeof *names || !names[t]) {
        (void)snprintf(buf, 8, "%u", (unsigned)t & 255);
        return buf;
    }
    size_t i = 0;
    for (; names[t][i] && i < 7; i++)
        buf[i] = (char)tolower((unsigned char)names[t][i]);
    buf[i] = 0;
    return buf;
}

static void print_operand(const kisa_operand *o, kaena_strbuf *out)
{
    char type[8];
    const char *space = kisa_space_name((kisa_space)o->space);
    if (space)
        kaena_strbuf_printf(out, "%s", space);
    else
        kaena_strbuf_printf(out, "?%u:", o->space);
    if (o->space == KISA_IO || o->tensor)
        kaena_strbuf_printf(out, "%u", o->tensor);
    kaena_strbuf_printf(out, "+0x%" PRIx64 ":%s[", o->offset,
                        kisa_dtype_text((kaena_dtype)o->dtype, type));
    for (int i = 0; i < KISA_DIMS; i++)
        kaena_strbuf_printf(out, "%s%u", i ? "," : "", o->count[i]);
    for (int i = 0; i < KISA_DIMS; i++)
        kaena_strbuf_printf(out, "%s%" PRId64, i ? "," : "]<", o->stride[i]);
    kaena_strbuf_printf(out, ">");
    int last = KISA_MAX_LOOPS;
    while (last && !o->advance[last - 1])
        last--;
    for (int i = 0; i < last; i++)
        kaena_strbuf_printf(out, "%s%" PRId64, i ? "," : "{", o->advance[i]);
    if (last)
        kaena_strbuf_printf(out, "}");
}

static bool is_absent(const kisa_operand *o)
{
    static const kisa_operand none;
    return o->space == KISA_NONE && o->dtype == none.dtype && o->tensor == none.tensor &&
           o->offset == 0 && memcmp(o->count, none.count, sizeof none.count) == 0 &&
           memcmp(o->stride, none.stride, sizeof none.stride) == 0 &&
           memcmp(o->advance, none.advance, sizeof none.advance) == 0;
}

static void print_scalar(const kisa_inst *inst, const kisa_field_row *row, kaena_strbuf *out)
{
    uint64_t bits = kisa_field_bits(inst, row);
    const char *name = kisa_kind_name((kisa_kind)row->kind, bits);
    if (name) {
        kaena_strbuf_printf(out, "%s", name);
    } else if (row->kind == KISA_KIND_REAL) {
        float f = kaena_f32_from_bits((uint32_t)bits);
        if (isnan(f)) /* its bits count too */
            kaena_strbuf_printf(out, "nan:0x%" PRIx64, bits);
        else
            kaena_strbuf_printf(out, "%.9g", (double)f);
    } else if (row->kind == KISA_KIND_BITS) {
        kaena_strbuf_printf(out, "0x%" PRIx64, bits);
    } else {
        kaena_strbuf_printf(out, "%" PRId64, (int64_t)bits);
    }
}

void kisa_print(const kisa_inst *inst, kaena_strbuf *out)
{
    const kisa_op_row *op = kisa_op_find(inst->op);
    if (!op) {
        kaena_strbuf_printf(out, "# opcode 0x%04x", inst->op);
        return;
    }
    kaena_strbuf_printf(out, "%s", op->name);
    size_t n;
    const kisa_field_row *row = kisa_fields(op->format, &n);
    for (size_t i = 0; i < n; i++) {
        const kisa_operand *o = (const void *)((const uint8_t *)&inst->u + row[i].offset);
        if (row[i].is_operand && is_absent(o))
            continue;
        kaena_strbuf_printf(out, " %s=", row[i].name);
        if (row[i].is_operand)
            print_operand(o, out);
        else
            print_scalar(inst, &row[i], out);
    }
}

void kisa_print_program(const kisa_program *p, kaena_strbuf *out)
{
    int depth = 0;
    for (uint32_t i = 0; i < p->n; i++) {
        if (p->inst[i].op == KISA_END && depth)
            depth--;
        kaena_strbuf_printf(out, "%*s", 4 * (depth < 8 ? depth : 8), "");
        kisa_print(&p->inst[i], out);
        kaena_strbuf_printf(out, "\n");
        if (p->inst[i].op == KISA_LOOP)
            depth++;
    }
}
