#include "pb_text.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pb_text_lex.h"
#include "pb_unpack.h"

typedef struct parser {
    pb_lexer l;
    kcc_pb_budget budget;
    kcc_pb_unknown unknown;
} parser;

#define WORD_MAX 64 /* of a number or an enum value's name */

static kaena_status fail_field(const parser *p, const ProtobufCFieldDescriptor *f, const char *what)
{
    return KAENA_FAIL(p->l.err, INVALID_ARGUMENT, "line %d, column %d: field '%s': %s",
                      p->l.token_line, p->l.token_column, f->name, what);
}

/* --- Numbers --------------------------------------------------------------------------------- */

/* The current word, terminated; "" when it is none or too long. */
static void copy_word(const parser *p, char out[WORD_MAX])
{
    size_t n = p->l.kind == PB_TOKEN_WORD && p->l.size < WORD_MAX ? p->l.size : 0;
    if (n)
        memcpy(out, p->l.token, n);
    out[n] = 0;
}

static bool read_signed(const char *word, int64_t least, int64_t most, int64_t *out)
{
    char *end;
    errno = 0;
    long long v = strtoll(word, &end, 0);
    *out = v;
    return *word && !*end && !errno && v >= least && v <= most;
}

static bool read_unsigned(const char *word, uint64_t most, uint64_t *out)
{
    char *end;
    errno = 0;
    unsigned long long v = strtoull(word, &end, 0);
    *out = v;
    return *word && *word != '-' && !*end && !errno && v <= most;
}

static bool read_double(const char *word, double *out)
{
    char *end;
    double v = strtod(word, &end);
    if (end != word && (*end == 'f' || *end == 'F') && !end[1])
        end++;
    *out = v;
    return *word && end != word && !*end;
}

static bool read_bool(const char *word, protobuf_c_boolean *out)
{
    static const char *const words[2][4] = {{"false", "False", "f", "0"},
                                            {"true", "True", "t", "1"}};
    for (int v = 0; v < 2; v++)
        for (int i = 0; i < 4; i++)
            if (strcmp(word, words[v][i]) == 0) {
                *out = v;
                return true;
            }
    return false;
}

static kaena_status read_enum(const parser *p, const ProtobufCFieldDescriptor *f, const char *word,
                              int *out)
{
    int64_t number;
    const ProtobufCEnumValue *v = protobuf_c_enum_descriptor_get_value_by_name(f->descriptor, word);
    if (!v && !read_signed(word, INT32_MIN, INT32_MAX, &number))
        return fail_field(p, f, "one of the names of its values expected");
    *out = v ? v->value : (int)number;
    return KAENA_OK;
}

/* A number, bool or enum value into |to|. */
static kaena_status read_scalar(parser *p, const ProtobufCFieldDescriptor *f, void *to)
{
    char word[WORD_MAX];
    int64_t i = 0;
    uint64_t u = 0;
    double d = 0;
    copy_word(p, word);
    switch (f->type) {
    case PROTOBUF_C_TYPE_INT32:
    case PROTOBUF_C_TYPE_SINT32:
    case PROTOBUF_C_TYPE_SFIXED32:
        if (!read_signed(word, INT32_MIN, INT32_MAX, &i))
            return fail_field(p, f, "a whole number of 32 bits expected");
        *(int32_t *)to = (int32_t)i;
        break;
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_SINT64:
    case PROTOBUF_C_TYPE_SFIXED64:
        if (!read_signed(word, INT64_MIN, INT64_MAX, &i))
            return fail_field(p, f, "a whole number of 64 bits expected");
        *(int64_t *)to = i;
        break;
    case PROTOBUF_C_TYPE_UINT32:
    case PROTOBUF_C_TYPE_FIXED32:
        if (!read_unsigned(word, UINT32_MAX, &u))
            return fail_field(p, f, "a whole number of 32 bits, not negative, expected");
        *(uint32_t *)to = (uint32_t)u;
        break;
    case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_FIXED64:
        if (!read_unsigned(word, UINT64_MAX, &u))
            return fail_field(p, f, "a whole number of 64 bits, not negative, expected");
        *(uint64_t *)to = u;
        break;
    case PROTOBUF_C_TYPE_FLOAT:
        if (!read_double(word, &d))
            return fail_field(p, f, "a number expected");
        *(float *)to = fabs(d) > 3.5e38 && !isinf(d) ? (float)copysign(INFINITY, d) : (float)d;
        break;
    case PROTOBUF_C_TYPE_DOUBLE:
        if (!read_double(word, (double *)to))
            return fail_field(p, f, "a number expected");
        break;
    case PROTOBUF_C_TYPE_BOOL:
        if (!read_bool(word, (protobuf_c_boolean *)to))
            return fail_field(p, f, "true or false expected");
        break;
    case PROTOBUF_C_TYPE_ENUM:
        KAENA_TRY(read_enum(p, f, word, (int *)to));
        break;
    case PROTOBUF_C_TYPE_STRING:
    case PROTOBUF_C_TYPE_BYTES:
    case PROTOBUF_C_TYPE_MESSAGE:
        return fail_field(p, f, "not a number");
    }
    return pb_lexer_next(&p->l);
}

static size_t element_size(const ProtobufCFieldDescriptor *f)
{
    switch (f->type) {
    case PROTOBUF_C_TYPE_INT32:
    case PROTOBUF_C_TYPE_SINT32:
    case PROTOBUF_C_TYPE_SFIXED32:
    case PROTOBUF_C_TYPE_UINT32:
    case PROTOBUF_C_TYPE_FIXED32:
        return sizeof(int32_t);
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_SINT64:
    case PROTOBUF_C_TYPE_SFIXED64:
    case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_FIXED64:
        return sizeof(int64_t);
    case PROTOBUF_C_TYPE_FLOAT:
        return sizeof(float);
    case PROTOBUF_C_TYPE_DOUBLE:
        return sizeof(double);
    case PROTOBUF_C_TYPE_BOOL:
        return sizeof(protobuf_c_boolean);
    case PROTOBUF_C_TYPE_ENUM:
        return sizeof(int);
    case PROTOBUF_C_TYPE_BYTES:
        return sizeof(ProtobufCBinaryData);
    case PROTOBUF_C_TYPE_STRING:
    case PROTOBUF_C_TYPE_MESSAGE:
        return sizeof(void *);
    }
    return 0;
}

/* --- Messages -------------------------------------------------------------------------------- */

static kaena_status parse_fields(parser *p, ProtobufCMessage *m, char close, int depth);

static kaena_status parse_message(parser *p, const ProtobufCFieldDescriptor *f, void *to, int depth)
{
    const ProtobufCMessageDescriptor *d = f->descriptor;
    if (!pb_lexer_at_sign(&p->l, '{') && !pb_lexer_at_sign(&p->l, '<'))
        return fail_field(p, f, "'{' expected");
    if (depth == KCC_PB_MAX_DEPTH)
        return pb_lexer_fail(&p->l, "messages are nested too deeply");
    char close = pb_lexer_at_sign(&p->l, '{') ? '}' : '>';
    ProtobufCMessage *m = kcc_pb_alloc(&p->budget, d->sizeof_message);
    if (!m)
        return kcc_pb_exhausted(p->l.err);
    protobuf_c_message_init(d, m);
    KAENA_TRY(pb_lexer_next(&p->l));
    KAENA_TRY(parse_fields(p, m, close, depth + 1));
    *(ProtobufCMessage **)to = m;
    return pb_lexer_next(&p->l);
}

static kaena_status parse_value(parser *p, const ProtobufCFieldDescriptor *f, void *to, int depth)
{
    char *text;
    size_t size;
    switch ((int)f->type) {
    case PROTOBUF_C_TYPE_MESSAGE:
        return parse_message(p, f, to, depth);
    case PROTOBUF_C_TYPE_STRING:
    case PROTOBUF_C_TYPE_BYTES:
        if (p->l.kind != PB_TOKEN_STRING)
            return fail_field(p, f, "a quoted text expected");
        KAENA_TRY(pb_lexer_string(&p->l, &p->budget, &text, &size));
        if (f->type == PROTOBUF_C_TYPE_BYTES)
            *(ProtobufCBinaryData *)to = (ProtobufCBinaryData){size, (uint8_t *)text};
        else if (memchr(text, 0, size))
            return fail_field(p, f, "a NUL byte inside a name");
        else
            *(char **)to = text;
        return KAENA_OK;
    default:
        return read_scalar(p, f, to);
    }
}

/* Room for one more element of a repeated field; capacities are powers of two. */
static kaena_status repeated_slot(parser *p, const ProtobufCFieldDescriptor *f, ProtobufCMessage *m,
                                  void **slot)
{
    size_t *n = (size_t *)(void *)((char *)m + f->quantifier_offset), size = element_size(f);
    void **list = (void **)(void *)((char *)m + f->offset);
    if ((*n & (*n - 1)) == 0) { /* 0 and powers of two: full */
        void *fresh = kcc_pb_alloc(&p->budget, size * (*n ? *n * 2 : 1));
        if (!fresh)
            return kcc_pb_exhausted(p->l.err);
        if (*n)
            memcpy(fresh, *list, *n * size);
        *list = fresh;
    }
    *slot = (char *)*list + *n * size;
    return KAENA_OK;
}

static kaena_status parse_one(parser *p, const ProtobufCFieldDescriptor *f, ProtobufCMessage *m,
                              int depth)
{
    void *to = (char *)m + f->offset;
    if (f->label == PROTOBUF_C_LABEL_REPEATED) {
        KAENA_TRY(repeated_slot(p, f, m, &to));
        KAENA_TRY(parse_value(p, f, to, depth));
        ++*(size_t *)(void *)((char *)m + f->quantifier_offset);
        return KAENA_OK;
    }
    if (f->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) {
        /* Another member's value may lie there. */
        memset(to, 0, element_size(f));
        *(int *)(void *)((char *)m + f->quantifier_offset) = (int)f->id;
    } else if (f->label == PROTOBUF_C_LABEL_OPTIONAL && f->quantifier_offset) {
        *(protobuf_c_boolean *)((char *)m + f->quantifier_offset) = 1;
    }
    return parse_value(p, f, to, depth);
}

static kaena_status parse_field(parser *p, const ProtobufCFieldDescriptor *f, ProtobufCMessage *m,
                                int depth)
{
    if (pb_lexer_at_sign(&p->l, ':'))
        KAENA_TRY(pb_lexer_next(&p->l));
    else if (f->type != PROTOBUF_C_TYPE_MESSAGE)
        return pb_lexer_fail(&p->l, "':' expected");
    if (f->label != PROTOBUF_C_LABEL_REPEATED || !pb_lexer_at_sign(&p->l, '['))
        return parse_one(p, f, m, depth);
    KAENA_TRY(pb_lexer_next(&p->l));
    while (!pb_lexer_at_sign(&p->l, ']')) {
        KAENA_TRY(parse_one(p, f, m, depth));
        if (pb_lexer_at_sign(&p->l, ','))
            KAENA_TRY(pb_lexer_next(&p->l));
        else if (!pb_lexer_at_sign(&p->l, ']'))
            return pb_lexer_fail(&p->l, "',' or ']' expected");
    }
    return pb_lexer_next(&p->l);
}

/* Steps over the value of a field whose name was read. */
static kaena_status skip_field(parser *p)
{
    char open[KCC_PB_MAX_DEPTH];
    int depth = 0;
    bool bare = true; /* before a value, or a bracket that closes one */
    if (pb_lexer_at_sign(&p->l, ':'))
        KAENA_TRY(pb_lexer_next(&p->l));
    do {
        bool string = p->l.kind == PB_TOKEN_STRING;
        if (p->l.kind == PB_TOKEN_END)
            return pb_lexer_fail(&p->l, "the field has no end");
        if (p->l.kind == PB_TOKEN_SIGN) {
            char c = *p->l.token;
            char close = (char)(c == '{' ? '}' : c == '<' ? '>' : c == '[' ? ']' : 0);
            if (close && depth == KCC_PB_MAX_DEPTH)
                return pb_lexer_fail(&p->l, "messages are nested too deeply");
            if (close)
                open[depth++] = close;
            else if (depth && c == open[depth - 1])
                depth--;
            else if (bare && !depth && c != '-')
                return pb_lexer_fail(&p->l, "a value expected");
            bare = c == '-';
        } else {
            bare = false;
        }
        KAENA_TRY(pb_lexer_next(&p->l));
        bare |= string && p->l.kind == PB_TOKEN_STRING; /* the next piece */
    } while (depth || bare);
    return KAENA_OK;
}

static kaena_status refuse_field(const parser *p, const ProtobufCMessageDescriptor *d)
{
    char fields[200] = "";
    size_t n = 0;
    for (unsigned i = 0; i < d->n_fields && n < sizeof fields; i++)
        n += (size_t)snprintf(fields + n, sizeof fields - n, "%s'%s'",
                              i == 0                 ? ""
                              : i + 1 == d->n_fields ? " or "
                                                     : ", ",
                              d->fields[i].name);
    return KAENA_FAIL(p->l.err, INVALID_ARGUMENT, "line %d, column %d: %s expected",
                      p->l.token_line, p->l.token_column, fields);
}

/* Up to the sign |close|, which stays current; 0: up to the end. */
static kaena_status parse_fields(parser *p, ProtobufCMessage *m, char close, int depth)
{
    while (close ? !pb_lexer_at_sign(&p->l, close) : p->l.kind != PB_TOKEN_END) {
        const ProtobufCFieldDescriptor *f = NULL;
        char name[WORD_MAX];
        copy_word(p, name);
        if (*name)
            f = protobuf_c_message_descriptor_get_field_by_name(m->descriptor, name);
        bool extension = pb_lexer_at_sign(&p->l, '[');
        if (!f &&
            (p->unknown == KCC_PB_REFUSE_UNKNOWN || (p->l.kind != PB_TOKEN_WORD && !extension)))
            return refuse_field(p, m->descriptor);
        if (extension) /* [package.name]: its name is skipped like a list */
            KAENA_TRY(skip_field(p));
        else
            KAENA_TRY(pb_lexer_next(&p->l));
        KAENA_TRY(f ? parse_field(p, f, m, depth) : skip_field(p));
        if (pb_lexer_at_sign(&p->l, ',') || pb_lexer_at_sign(&p->l, ';'))
            KAENA_TRY(pb_lexer_next(&p->l));
    }
    return KAENA_OK;
}

kaena_status kcc_pb_text_parse(kaena_arena *arena, const ProtobufCMessageDescriptor *descriptor,
                               const char *text, size_t size, kcc_pb_unknown unknown,
                               ProtobufCMessage **message, kaena_err *err)
{
    if (size == 0)
        text = ""; /* an empty file has no address */
    parser p = {.unknown = unknown};
    pb_lexer_init(&p.l, text, size, err);
    kcc_pb_budget_init(&p.budget, arena, size);
    ProtobufCMessage *m = kcc_pb_alloc(&p.budget, descriptor->sizeof_message);
    if (!m)
        return kcc_pb_exhausted(err);
    protobuf_c_message_init(descriptor, m);
    KAENA_TRY(pb_lexer_next(&p.l));
    KAENA_TRY(parse_fields(&p, m, 0, 1));
    *message = m;
    return KAENA_OK;
}
