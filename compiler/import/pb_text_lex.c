#include "pb_text_lex.h"

#include <string.h>

void pb_lexer_init(pb_lexer *l, const char *text, size_t size, kaena_err *err)
{
    *l = (pb_lexer){.at = text, .end = text + size, .line_start = text, .line = 1, .err = err};
}

kaena_status pb_lexer_fail(const pb_lexer *l, const char *what)
{
    return KAENA_FAIL(l->err, INVALID_ARGUMENT, "line %d, column %d: %s", l->token_line,
                      l->token_column, what);
}

bool pb_lexer_at_sign(const pb_lexer *l, char sign)
{
    return l->kind == PB_TOKEN_SIGN && *l->token == sign;
}

bool pb_lexer_at_word(const pb_lexer *l, const char *word)
{
    return l->kind == PB_TOKEN_WORD && l->size == strlen(word) &&
           memcmp(l->token, word, l->size) == 0;
}

static bool is_word(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '.';
}

static void skip_space(pb_lexer *l)
{
    while (l->at < l->end) {
        if (*l->at == '\n') {
            l->line++;
            l->line_start = l->at + 1;
        } else if (*l->at == '#') {
            const char *newline = memchr(l->at, '\n', (size_t)(l->end - l->at));
            l->at = newline ? newline : l->end;
            continue;
        } else if (*l->at != ' ' && *l->at != '\t' && *l->at != '\r' && *l->at != '\v' &&
                   *l->at != '\f') {
            return;
        }
        l->at++;
    }
}

/* "1e+5" and "-2.5e-3" are one word. */
static void skip_word(pb_lexer *l)
{
    const char *start = l->at;
    bool number = *start == '-' || *start == '.' || (*start >= '0' && *start <= '9');
    bool hexadecimal = false;
    if (*l->at == '-')
        l->at++;
    for (; l->at < l->end; l->at++) {
        char c = *l->at, before = l->at > start ? l->at[-1] : 0;
        hexadecimal |= c == 'x' || c == 'X';
        bool exponent =
            number && !hexadecimal && (c == '+' || c == '-') && (before == 'e' || before == 'E');
        if (!is_word(c) && !exponent)
            return;
    }
}

kaena_status pb_lexer_next(pb_lexer *l)
{
    skip_space(l);
    l->token_line = l->line;
    l->token_column = (int)(l->at - l->line_start) + 1;
    l->token = l->at;
    l->size = 0;
    if (l->at == l->end) {
        l->kind = PB_TOKEN_END;
        return KAENA_OK;
    }
    if (*l->at == '"' || *l->at == '\'') {
        char quote = *l->at++;
        while (l->at < l->end && *l->at != quote && *l->at != '\n')
            l->at += *l->at == '\\' && l->at + 1 < l->end ? 2 : 1;
        if (l->at >= l->end || *l->at != quote)
            return pb_lexer_fail(l, "the string does not end on its line");
        l->at++;
        l->kind = PB_TOKEN_STRING;
    } else if (is_word(*l->at) || (*l->at == '-' && l->at + 1 < l->end && is_word(l->at[1]))) {
        skip_word(l);
        l->kind = PB_TOKEN_WORD;
    } else {
        l->at++;
        l->kind = PB_TOKEN_SIGN;
    }
    l->size = (size_t)(l->at - l->token);
    return KAENA_OK;
}

/* --- Strings --------------------------------------------------------------------------------- */

static int digit_of(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return 99;
}

/* Up to |most| digits of |base|; returns how many there are. */
static int read_digits(const char **at, const char *end, int base, int most, uint32_t *out)
{
    int n = 0;
    uint32_t v = 0;
    for (; n < most && *at < end && digit_of(**at) < base; n++)
        v = v * (uint32_t)base + (uint32_t)digit_of(*(*at)++);
    *out = v;
    return n;
}

static size_t put_utf8(char *out, uint32_t c)
{
    unsigned char *p = (unsigned char *)out;
    if (c < 0x80) {
        p[0] = (unsigned char)c;
        return 1;
    }
    if (c < 0x800) {
        p[0] = (unsigned char)(0xc0 | c >> 6);
        p[1] = (unsigned char)(0x80 | (c & 0x3f));
        return 2;
    }
    if (c < 0x10000) {
        p[0] = (unsigned char)(0xe0 | c >> 12);
        p[1] = (unsigned char)(0x80 | (c >> 6 & 0x3f));
        p[2] = (unsigned char)(0x80 | (c & 0x3f));
        return 3;
    }
    p[0] = (unsigned char)(0xf0 | c >> 18);
    p[1] = (unsigned char)(0x80 | (c >> 12 & 0x3f));
    p[2] = (unsigned char)(0x80 | (c >> 6 & 0x3f));
    p[3] = (unsigned char)(0x80 | (c & 0x3f));
    return 4;
}

/* One escape, |*at| behind its backslash. No escape is shorter than what it stands for. */
static bool read_escape(const char **at, const char *end, char *out, size_t *n)
{
    static const char from[] = "abfnrtv\\'\"?", to[] = "\a\b\f\n\r\t\v\\'\"?";
    uint32_t v;
    if (read_digits(at, end, 8, 3, &v)) {
        out[(*n)++] = (char)(v & 0xff);
        return v <= 0xff;
    }
    char c = *(*at)++;
    if (c == 'x' || c == 'X') {
        bool good = read_digits(at, end, 16, 2, &v) > 0;
        out[(*n)++] = (char)v;
        return good;
    }
    if (c == 'u' || c == 'U') {
        int digits = c == 'u' ? 4 : 8;
        bool good = read_digits(at, end, 16, digits, &v) == digits && v <= 0x10ffff;
        *n += good ? put_utf8(out + *n, v) : 0;
        return good;
    }
    const char *known = memchr(from, c, sizeof from - 1);
    if (known)
        out[(*n)++] = to[known - from];
    return known != NULL;
}

static kaena_status add_piece(const pb_lexer *l, char *out, size_t *n)
{
    const char *at = l->token + 1, *end = l->token + l->size - 1;
    while (at < end) {
        if (*at != '\\')
            out[(*n)++] = *at++;
        else if (at++, !read_escape(&at, end, out, n))
            return pb_lexer_fail(l, "the string has an escape that does not exist");
    }
    return KAENA_OK;
}

kaena_status pb_lexer_string(pb_lexer *l, kcc_pb_budget *budget, char **out, size_t *out_size)
{
    /* The pieces are found twice: first their size, then their text. */
    pb_lexer ahead = *l;
    size_t most = 0, n = 0;
    while (ahead.kind == PB_TOKEN_STRING) {
        most += ahead.size - 2;
        KAENA_TRY(pb_lexer_next(&ahead));
    }
    char *s = kcc_pb_alloc(budget, most + 1);
    if (!s)
        return kcc_pb_exhausted(l->err);
    while (l->kind == PB_TOKEN_STRING) {
        KAENA_TRY(add_piece(l, s, &n));
        KAENA_TRY(pb_lexer_next(l));
    }
    *out = s;
    *out_size = n;
    return KAENA_OK;
}
