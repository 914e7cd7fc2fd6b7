/* The assembler: reads what print.c writes, for tests and kdb. */
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "isa.h"
#include "isa_text.h"

typedef struct reader {
    const char *start; /* of the line */
    const char *p;
    uint32_t line;
    kaena_err *err;
} reader;

#define FAIL_AT(r, ...) fail_at((r), __VA_ARGS__)

static kaena_status fail_at(const reader *r, const char *fmt, ...) KAENA_PRINTF(2, 3);
static kaena_status fail_at(const reader *r, const char *fmt, ...)
{
    char what[256];
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(what, sizeof what, fmt, ap);
    va_end(ap);
    return KAENA_FAIL(r->err, INVALID_ARGUMENT, "line %u, column %u: %s", r->line,
                      (unsigned)(r->p - r->start) + 1, what);
}

static void skip_blanks(reader *r)
{
    while (*r->p == ' ' || *r->p == '\t' || *r->p == '\r')
        r->p++;
}

static bool at_line_end(const reader *r)
{
    return *r->p == 0 || *r->p == '\n' || *r->p == '#';
}

static bool take(reader *r, char c)
{
    if (*r->p != c)
        return false;
    r->p++;
    return true;
}

static kaena_status expect(reader *r, char c)
{
    return take(r, c) ? KAENA_OK : FAIL_AT(r, "expected '%c'", c);
}

/* Letters, digits and '_'; "" when there are none. Longer words than |size| are cut, so that they
 * match nothing. */
static void word(reader *r, char *buf, size_t size)
{
    size_t n = 0;
    for (; isalnum((unsigned char)*r->p) || *r->p == '_'; r->p++)
        if (n + 1 < size)
            buf[n++] = *r->p;
    buf[n] = 0;
}

/* A number, decimal or 0x, of |bytes| bytes. */
static kaena_status number(reader *r, unsigned bytes, bool is_signed, uint64_t *out)
{
    const char *p = r->p;
    bool negative = *p == '-';
    if (negative)
        p++;
    if (!isdigit((unsigned char)*p))
        return FAIL_AT(r, "expected a number");
    char *end;
    errno = 0;
    uint64_t v = strtoull(p, &end, p[0] == '0' && (p[1] == 'x' || p[1] == 'X') ? 16 : 10);
    uint64_t most = bytes == 8 ? UINT64_MAX : (UINT64_C(1) << 8 * bytes) - 1;
    if (is_signed)
        most >>= 1;
    if (errno || v > most + (is_signed && negative) || (negative && !is_signed && v))
        return FAIL_AT(r, "number does not fit");
    r->p = end;
    *out = negative ? 0 - v : v;
    return KAENA_OK;
}

static kaena_status real(reader *r, uint64_t *out)
{
    if (strncmp(r->p, "nan:", 4) == 0) {
        r->p += 4;
        KAENA_TRY(number(r, 4, false, out));
        return isnan(kaena_f32_from_bits((uint32_t)*out)) ? KAENA_OK
                                                          : FAIL_AT(r, "not the bits of a NaN");
    }
    char *end;
    float f = strtof(r->p, &end);
    if (end == r->p)
        return FAIL_AT(r, "expected a number");
    r->p = end;
    *out = kaena_f32_bits(f);
    return KAENA_OK;
}

/* "a,b,c" up to |close|; returns how many through |n| when it may be less than |most|. */
static kaena_status list(reader *r, char close, unsigned bytes, bool is_signed, int most, int *n,
                         void *out)
{
    int i = 0;
    do {
        uint64_t v = 0;
        if (i == most)
            return FAIL_AT(r, "more than %d numbers", most);
        KAENA_TRY(number(r, bytes, is_signed, &v));
        memcpy((uint8_t *)out + (size_t)i++ * bytes, &v, bytes);
    } while (take(r, ','));
    KAENA_TRY(expect(r, close));
    if (!n && i != most)
        return FAIL_AT(r, "expected %d numbers", most);
    if (n)
        *n = i;
    return KAENA_OK;
}

static kaena_status space(reader *r, kisa_operand *o)
{
    char name[16];
    size_t n = 0;
    while (isalpha((unsigned char)*r->p) && n + 1 < sizeof name)
        name[n++] = *r->p++;
    name[n] = 0;
    for (unsigned s = 0; s < KISA_SPACE_COUNT; s++)
        if (strcmp(kisa_space_name((kisa_space)s), name) == 0) {
            o->space = (uint8_t)s;
            uint64_t tensor = 0;
            if (isdigit((unsigned char)*r->p))
                KAENA_TRY(number(r, 2, false, &tensor));
            o->tensor = (uint16_t)tensor;
            return KAENA_OK;
        }
    r->p -= n;
    return FAIL_AT(r, "no space '%s'", name);
}

static kaena_status dtype(reader *r, kisa_operand *o)
{
    char name[16], text[8];
    const char *start = r->p;
    word(r, name, sizeof name);
    for (unsigned t = 0; t < 256; t++)
        if (strcmp(kisa_dtype_text((kaena_dtype)t, text), name) == 0) {
            o->dtype = (uint8_t)t;
            return KAENA_OK;
        }
    r->p = start;
    return FAIL_AT(r, "no element type '%s'", name);
}

static kaena_status operand(reader *r, kisa_operand *o)
{
    KAENA_TRY(space(r, o));
    KAENA_TRY(expect(r, '+'));
    KAENA_TRY(number(r, 8, false, &o->offset));
    KAENA_TRY(expect(r, ':'));
    KAENA_TRY(dtype(r, o));
    KAENA_TRY(expect(r, '['));
    KAENA_TRY(list(r, ']', 4, false, KISA_DIMS, NULL, o->count));
    KAENA_TRY(expect(r, '<'));
    KAENA_TRY(list(r, '>', 8, true, KISA_DIMS, NULL, o->stride));
    int n;
    if (take(r, '{'))
        KAENA_TRY(list(r, '}', 8, true, KISA_MAX_LOOPS, &n, o->advance));
    return KAENA_OK;
}

static kaena_status scalar(reader *r, const kisa_field_row *row, void *out)
{
    uint64_t v = 0;
    if (row->kind == KISA_KIND_REAL) {
        KAENA_TRY(real(r, &v));
    } else if (isalpha((unsigned char)*r->p)) {
        char name[32];
        const char *start = r->p;
        word(r, name, sizeof name);
        for (; v < 256; v++) {
            const char *known = kisa_kind_name((kisa_kind)row->kind, v);
            if (known && strcmp(known, name) == 0)
                break;
        }
        if (v == 256) {
            r->p = start;
            return FAIL_AT(r, "%s: no value '%s'", row->name, name);
        }
    } else {
        KAENA_TRY(number(r, row->bytes, row->is_signed, &v));
    }
    memcpy(out, &v, row->bytes);
    return KAENA_OK;
}

static kaena_status field(reader *r, const kisa_op_row *op, uint64_t *seen, kisa_inst *inst)
{
    char name[32];
    const char *start = r->p;
    word(r, name, sizeof name);
    size_t n;
    const kisa_field_row *row = kisa_fields(op->format, &n);
    for (size_t i = 0; i < n; i++) {
        if (strcmp(row[i].name, name) != 0)
            continue;
        if (*seen >> i & 1) {
            r->p = start;
            return FAIL_AT(r, "%s is given twice", name);
        }
        *seen |= UINT64_C(1) << i;
        KAENA_TRY(expect(r, '='));
        void *to = (uint8_t *)&inst->u + row[i].offset;
        return row[i].is_operand ? operand(r, to) : scalar(r, &row[i], to);
    }
    r->p = start;
    return FAIL_AT(r, "%s has no field '%s'", op->name, name);
}

static kaena_status instruction(reader *r, kisa_inst *inst)
{
    char name[32];
    const char *start = r->p;
    word(r, name, sizeof name);
    const kisa_op_row *op = NULL;
    size_t n;
    const kisa_op_row *rows = kisa_op_rows(&n);
    for (size_t i = 0; i < n; i++)
        if (strcmp(rows[i].name, name) == 0)
            op = &rows[i];
    if (!op) {
        r->p = start;
        return FAIL_AT(r, "no instruction '%s'", name);
    }
    inst->op = op->op;
    uint64_t seen = 0;
    for (skip_blanks(r); !at_line_end(r); skip_blanks(r))
        KAENA_TRY(field(r, op, &seen, inst));
    return KAENA_OK;
}

kaena_status kisa_assemble(kaena_arena *arena, const char *text, kisa_program *out, kaena_err *err)
{
    size_t lines = 1;
    for (const char *p = text; *p; p++)
        lines += *p == '\n';
    if (lines > KISA_MAX_INSTRUCTIONS)
        return KAENA_FAIL(err, INVALID_ARGUMENT, "more than %u lines", KISA_MAX_INSTRUCTIONS);
    kisa_inst *inst = KAENA_NEW_N(arena, kisa_inst, lines);
    if (!inst)
        return KAENA_FAIL(err, RESOURCE_EXHAUSTED, "no memory for %zu instructions", lines);
    uint32_t n = 0;
    reader r = {.p = text, .line = 1, .err = err};
    for (;; r.line++) {
        r.start = r.p;
        skip_blanks(&r);
        if (!at_line_end(&r))
            KAENA_TRY(instruction(&r, &inst[n++]));
        while (*r.p && *r.p != '\n')
            r.p++;
        if (!*r.p)
            break;
        r.p++;
    }
    *out = (kisa_program){.inst = inst, .n = n};
    return KAENA_OK;
}
