/* kaena.v1.IoConfig in protobuf's text form, as far as that message needs it. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "io_config.h"
#include "kaena/v1/tensor.pb-c.h"

#define MAX_ENTRIES 4096 /* inputs, and outputs */

typedef enum token_kind {
    TOKEN_END,
    TOKEN_WORD,
    TOKEN_NUMBER,
    TOKEN_STRING,
    TOKEN_SIGN
} token_kind;

typedef struct parser {
    kaena_arena *arena;
    const char *at, *end;
    const char *line_start;
    int line;
    /* The current token: */
    token_kind kind;
    const char *text; /* WORD, NUMBER, STRING: terminated, the arena's */
    char sign;        /* SIGN */
    int token_line, token_column;
    kcc_io_config *config;
    kaena_err *err;
} parser;

static kaena_status fail(const parser *p, const char *what)
{
    return KAENA_FAIL(p->err, INVALID_ARGUMENT, "io-config: line %d, column %d: %s", p->token_line,
                      p->token_column, what);
}

static kaena_status no_memory(const parser *p)
{
    return KAENA_FAIL(p->err, RESOURCE_EXHAUSTED, "no memory");
}

static bool is_word(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}

static void skip_space(parser *p)
{
    while (p->at < p->end) {
        if (*p->at == '\n') {
            p->line++;
            p->line_start = p->at + 1;
        } else if (*p->at == '#') {
            while (p->at < p->end && *p->at != '\n')
                p->at++;
            continue;
        } else if (*p->at != ' ' && *p->at != '\t' && *p->at != '\r') {
            return;
        }
        p->at++;
    }
}

static kaena_status read_string(parser *p)
{
    char quote = *p->at++;
    const char *close = p->at;
    while (close < p->end && *close != quote && *close != '\n')
        close += close[0] == '\\' && close + 1 < p->end ? 2 : 1;
    if (close >= p->end || *close != quote)
        return fail(p, "the string does not end on its line");
    char *out = kaena_arena_alloc(p->arena, (size_t)(close - p->at) + 1);
    size_t n = 0;
    if (!out)
        return no_memory(p);
    while (p->at < close) {
        char c = *p->at++;
        if (c == '\\') {
            c = *p->at++;
            c = (char)(c == 'n' ? '\n' : c == 't' ? '\t' : c == 'r' ? '\r' : c);
            if (c >= '0' && c <= '9')
                return fail(p, "numbers behind a backslash are not supported");
        }
        if (c == 0)
            return fail(p, "a NUL byte inside a string");
        out[n++] = c;
    }
    p->at = close + 1;
    p->kind = TOKEN_STRING;
    p->text = out;
    return KAENA_OK;
}

static kaena_status next(parser *p)
{
    skip_space(p);
    p->token_line = p->line;
    p->token_column = (int)(p->at - p->line_start) + 1;
    if (p->at == p->end) {
        p->kind = TOKEN_END;
        return KAENA_OK;
    }
    if (*p->at == '"' || *p->at == '\'')
        return read_string(p);
    const char *start = p->at;
    bool negative = *p->at == '-';
    p->at += negative;
    while (p->at < p->end && is_word(*p->at))
        p->at++;
    size_t n = (size_t)(p->at - start);
    if (n == 0) {
        p->kind = TOKEN_SIGN;
        p->sign = *p->at++;
        return KAENA_OK;
    }
    char *copy = kaena_arena_alloc(p->arena, n + 1);
    if (!copy)
        return no_memory(p);
    memcpy(copy, start, n);
    p->text = copy;
    p->kind = negative || (*start >= '0' && *start <= '9') ? TOKEN_NUMBER : TOKEN_WORD;
    return KAENA_OK;
}

static bool at_sign(const parser *p, char sign)
{
    return p->kind == TOKEN_SIGN && p->sign == sign;
}

/* A field may be followed by a comma or semicolon. */
static kaena_status skip_separator(parser *p)
{
    return at_sign(p, ',') || at_sign(p, ';') ? next(p) : KAENA_OK;
}

/* The field's name has been read; stands on the first token of the value afterwards. */
static kaena_status value_follows(parser *p, bool colon_needed)
{
    KAENA_TRY(next(p));
    if (at_sign(p, ':'))
        return next(p);
    return colon_needed ? fail(p, "':' expected") : KAENA_OK;
}

static kaena_status add_dim(parser *p, kaena_shape *s)
{
    char *end;
    if (p->kind != TOKEN_NUMBER)
        return fail(p, "a whole number expected");
    errno = 0;
    long long v = strtoll(p->text, &end, 10);
    if (errno || *end || v < 0)
        return fail(p, "a dimension is a whole number from 0 up");
    if (s->rank == KAENA_MAX_RANK)
        return fail(p, "too many dimensions");
    s->dim[s->rank++] = v;
    return next(p);
}

/* `shape: 1 shape: 224` or `shape: [1, 224]` */
static kaena_status parse_shape(parser *p, kaena_shape *s)
{
    if (!at_sign(p, '['))
        return add_dim(p, s);
    KAENA_TRY(next(p));
    while (!at_sign(p, ']')) {
        KAENA_TRY(add_dim(p, s));
        if (at_sign(p, ','))
            KAENA_TRY(next(p));
        else if (!at_sign(p, ']'))
            return fail(p, "',' or ']' expected");
    }
    return next(p);
}

static kaena_status parse_dtype(parser *p, kaena_dtype *out)
{
    int value = -1;
    if (p->kind == TOKEN_WORD) {
        const ProtobufCEnumValue *v = protobuf_c_enum_descriptor_get_value_by_name(
            &kaena__v1__data_type__descriptor, p->text);
        value = v ? v->value : -1;
    } else if (p->kind == TOKEN_NUMBER && strlen(p->text) <= 4) {
        value = atoi(p->text);
    }
    if (value != 0 && (value < 0 || kaena_dtype_size((kaena_dtype)value) == 0))
        return fail(p, "an element type such as FLOAT32 expected");
    *out = (kaena_dtype)value;
    return next(p);
}

static kaena_status parse_name(parser *p, const char **out)
{
    if (p->kind != TOKEN_STRING)
        return fail(p, "a quoted name expected");
    *out = p->text;
    return next(p);
}

static kaena_status parse_input(parser *p, kcc_io_input *in)
{
    if (!at_sign(p, '{') && !at_sign(p, '<'))
        return fail(p, "'{' expected");
    char close = p->sign == '{' ? '}' : '>';
    KAENA_TRY(next(p));
    while (!at_sign(p, close)) {
        const char *field = p->text;
        if (p->kind != TOKEN_WORD)
            return fail(p, "a field (name, dtype, shape) or the closing bracket expected");
        bool name = strcmp(field, "name") == 0, dtype = strcmp(field, "dtype") == 0;
        if (!name && !dtype && strcmp(field, "shape") != 0)
            return fail(p, "an input has the fields name, dtype and shape");
        KAENA_TRY(value_follows(p, /* colon_needed= */ true));
        KAENA_TRY(name    ? parse_name(p, &in->name)
                  : dtype ? parse_dtype(p, &in->dtype)
                          : parse_shape(p, &in->shape));
        KAENA_TRY(skip_separator(p));
    }
    if (!in->name)
        return fail(p, "the input has no name");
    if (kcc_io_config_input(p->config, in->name))
        return fail(p, "the input is named twice");
    return next(p);
}

static kaena_status parse_output(parser *p)
{
    kcc_io_config *c = p->config;
    for (uint32_t i = 0; p->kind == TOKEN_STRING && i < c->n_outputs; i++) {
        if (strcmp(c->outputs[i], p->text) == 0)
            return fail(p, "the output is named twice");
    }
    if (c->n_outputs == MAX_ENTRIES)
        return fail(p, "too many outputs");
    KAENA_TRY(parse_name(p, &c->outputs[c->n_outputs]));
    c->n_outputs++;
    return KAENA_OK;
}

/* `outputs: "y"` or `outputs: ["y", "z"]` */
static kaena_status parse_outputs(parser *p)
{
    if (!at_sign(p, '['))
        return parse_output(p);
    KAENA_TRY(next(p));
    while (!at_sign(p, ']')) {
        KAENA_TRY(parse_output(p));
        if (at_sign(p, ','))
            KAENA_TRY(next(p));
        else if (!at_sign(p, ']'))
            return fail(p, "',' or ']' expected");
    }
    return next(p);
}

static kaena_status parse_config(parser *p)
{
    kcc_io_config *c = p->config;
    KAENA_TRY(next(p));
    while (p->kind != TOKEN_END) {
        bool inputs = p->kind == TOKEN_WORD && strcmp(p->text, "inputs") == 0;
        if (!inputs && (p->kind != TOKEN_WORD || strcmp(p->text, "outputs") != 0))
            return fail(p, "'inputs' or 'outputs' expected");
        KAENA_TRY(value_follows(p, /* colon_needed= */ !inputs));
        if (!inputs) {
            KAENA_TRY(parse_outputs(p));
        } else {
            if (c->n_inputs == MAX_ENTRIES)
                return fail(p, "too many inputs");
            kcc_io_input in = {0};
            KAENA_TRY(parse_input(p, &in));
            c->inputs[c->n_inputs++] = in;
        }
        KAENA_TRY(skip_separator(p));
    }
    return KAENA_OK;
}

kaena_status kcc_io_config_parse_pbtxt(kaena_arena *arena, const char *text, size_t size,
                                       kcc_io_config *out, kaena_err *err)
{
    if (size == 0)
        text = ""; /* an empty file has no address */
    kcc_io_config c = {.inputs = KAENA_NEW_N(arena, kcc_io_input, MAX_ENTRIES),
                       .outputs = KAENA_NEW_N(arena, const char *, MAX_ENTRIES)};
    if (!c.inputs || !c.outputs)
        return KAENA_FAIL(err, RESOURCE_EXHAUSTED, "no memory");
    parser p = {.arena = arena,
                .at = text,
                .end = text + size,
                .line_start = text,
                .line = 1,
                .config = &c,
                .err = err};
    KAENA_TRY(parse_config(&p));
    *out = c;
    return KAENA_OK;
}
