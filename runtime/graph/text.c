#include "text.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

kaena_status kgr_text_fail(const kgr_cursor *c, const char *fmt, ...)
{
    char text[256];
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    return KAENA_FAIL(c->err, INVALID_ARGUMENT, "line %u, column %zu: %s", c->line,
                      (size_t)(c->p - c->line_start) + 1, text);
}

kaena_status kgr_text_no_memory(const kgr_cursor *c)
{
    return KAENA_FAIL(c->err, RESOURCE_EXHAUSTED, "line %u: the graph takes more than %zu bytes",
                      c->line, c->arena->quota);
}

char kgr_text_peek(kgr_cursor *c)
{
    for (bool comment = false; c->p < c->end; c->p++) {
        char ch = *c->p;
        if (ch == '\n') {
            comment = false;
            c->line++;
            c->line_start = c->p + 1;
        } else if (ch == '#') {
            comment = true;
        } else if (!comment && ch != ' ' && ch != '\t' && ch != '\r') {
            return ch;
        }
    }
    return 0;
}

bool kgr_text_take(kgr_cursor *c, char ch)
{
    if (kgr_text_peek(c) != ch || c->p == c->end)
        return false;
    c->p++;
    return true;
}

kaena_status kgr_text_expect(kgr_cursor *c, char ch)
{
    if (kgr_text_take(c, ch))
        return KAENA_OK;
    return kgr_text_fail(c, "'%c' expected", ch);
}

static size_t word_length(kgr_cursor *c)
{
    size_t n = 0;
    (void)kgr_text_peek(c);
    while (c->p + n < c->end &&
           ((kgr_is_name_char(c->p[n]) && c->p[n] != ':' && c->p[n] != '/') || c->p[n] == '+'))
        n++;
    return n;
}

kaena_status kgr_text_word(kgr_cursor *c, char out[KGR_WORD])
{
    size_t n = word_length(c);
    if (n == 0 || n >= KGR_WORD)
        return kgr_text_fail(c, n ? "the word is too long" : "a word or number expected");
    memcpy(out, c->p, n);
    out[n] = 0;
    c->p += n;
    return KAENA_OK;
}

bool kgr_text_take_word(kgr_cursor *c, const char *word)
{
    size_t n = word_length(c);
    if (n != strlen(word) || memcmp(c->p, word, n) != 0)
        return false;
    c->p += n;
    return true;
}

static int hex_digit(char ch)
{
    const char *digits = "0123456789abcdef", *at = ch ? strchr(digits, ch) : NULL;
    return at ? (int)(at - digits) : -1;
}

/* The byte behind a backslash at c->p; moves to its last character. */
static kaena_status unescape(kgr_cursor *c, char *out)
{
    c->p++;
    if (c->p < c->end && (*c->p == '"' || *c->p == '\\')) {
        *out = *c->p;
        return KAENA_OK;
    }
    if (c->p < c->end && *c->p == 'n') {
        *out = '\n';
        return KAENA_OK;
    }
    if (c->end - c->p >= 3 && *c->p == 'x') {
        int high = hex_digit(c->p[1]), low = hex_digit(c->p[2]);
        if (high >= 0 && low >= 0) {
            *out = (char)(high * 16 + low);
            c->p += 2;
            return KAENA_OK;
        }
    }
    return kgr_text_fail(c, "escapes are \\\" \\\\ \\n and \\xHH with lower-case digits");
}

kaena_status kgr_text_quoted(kgr_cursor *c, kaena_string *out)
{
    KAENA_TRY(kgr_text_expect(c, '"'));
    size_t most = 0;
    while (c->p + most < c->end && c->p[most] != '"' && c->p[most] != '\n')
        most += c->p[most] == '\\' ? 2 : 1;
    char *text = kaena_arena_alloc(c->arena, most + 1);
    if (!text)
        return kgr_text_no_memory(c);
    size_t n = 0;
    for (; c->p < c->end && *c->p != '"'; c->p++) {
        if (*c->p == '\n')
            break;
        if (*c->p == '\\')
            KAENA_TRY(unescape(c, &text[n]));
        else
            text[n] = *c->p;
        n++;
    }
    if (c->p >= c->end || *c->p != '"')
        return kgr_text_fail(c, "the string does not end");
    c->p++;
    *out = (kaena_string){text, n};
    return KAENA_OK;
}

kaena_status kgr_text_name(kgr_cursor *c, const char **out)
{
    if (kgr_text_peek(c) == '"') {
        kaena_string s;
        KAENA_TRY(kgr_text_quoted(c, &s));
        if (s.size == 0 || memchr(s.data, 0, s.size))
            return kgr_text_fail(c, "a name is not empty and has no zero byte");
        *out = s.data;
        return KAENA_OK;
    }
    size_t n = 0;
    while (c->p + n < c->end && kgr_is_name_char(c->p[n]))
        n++;
    while (n && c->p[n - 1] == ':')
        n--;
    if (n == 0)
        return kgr_text_fail(c, "a name expected");
    char *name = kaena_arena_alloc(c->arena, n + 1);
    if (!name)
        return kgr_text_no_memory(c);
    memcpy(name, c->p, n);
    c->p += n;
    *out = name;
    return KAENA_OK;
}

static bool parse_int(const char *word, int64_t *out)
{
    char *end;
    errno = 0;
    long long v = strtoll(word, &end, 10);
    *out = v;
    return errno == 0 && *end == 0;
}

kaena_status kgr_text_int(kgr_cursor *c, int64_t *out)
{
    char word[KGR_WORD];
    KAENA_TRY(kgr_text_word(c, word));
    return parse_int(word, out) ? KAENA_OK : kgr_text_fail(c, "'%s' is not a 64-bit integer", word);
}

static kaena_status parse_dims(kgr_cursor *c, kop_tensor *t)
{
    KAENA_TRY(kgr_text_expect(c, '['));
    if (kgr_text_take(c, '*')) {
        t->unranked = true;
        return kgr_text_expect(c, ']');
    }
    while (!kgr_text_take(c, ']')) {
        if (t->shape.rank == KAENA_MAX_RANK)
            return kgr_text_fail(c, "more than %d dimensions", KAENA_MAX_RANK);
        if (t->shape.rank)
            KAENA_TRY(kgr_text_expect(c, ','));
        int64_t dim = KAENA_DIM_UNKNOWN;
        if (!kgr_text_take(c, '?')) {
            KAENA_TRY(kgr_text_int(c, &dim));
            if (dim < 0)
                return kgr_text_fail(c, "a dimension is not negative");
        }
        t->shape.dim[t->shape.rank++] = dim;
    }
    return KAENA_OK;
}

kaena_status kgr_text_type(kgr_cursor *c, kop_tensor *out)
{
    char word[KGR_WORD];
    kop_tensor t = {0};
    KAENA_TRY(kgr_text_word(c, word));
    for (t.form = KOP_FORM_COUNT - 1; t.form && strcmp(word, kop_form_name(t.form)) != 0;)
        t.form--;
    if (t.form) {
        KAENA_TRY(kgr_text_expect(c, '('));
        KAENA_TRY(kgr_text_word(c, word));
    }
    t.dtype = kaena_dtype_parse(word);
    if (t.dtype == KAENA_DTYPE_NONE && strcmp(word, kaena_dtype_name(KAENA_DTYPE_NONE)) != 0)
        return kgr_text_fail(c, "'%s' is not an element type", word);
    KAENA_TRY(parse_dims(c, &t));
    if (t.form)
        KAENA_TRY(kgr_text_expect(c, ')'));
    *out = t;
    return KAENA_OK;
}

kaena_status kgr_text_element(kgr_cursor *c, kop_tensor *t, size_t i)
{
    if (t->dtype == KAENA_STRING)
        return kgr_text_quoted(c, &((kaena_string *)t->data)[i]);
    char word[KGR_WORD], *end;
    KAENA_TRY(kgr_text_word(c, word));
    int64_t v;
    errno = 0;
    if (kaena_dtype_is_float(t->dtype)) {
        double f = strtod(word, &end);
        if (*end == 0) {
            kop_set_float(t, i, f);
            return KAENA_OK;
        }
    } else if (t->dtype == KAENA_BOOL) {
        bool yes = strcmp(word, "true") == 0;
        if (yes || strcmp(word, "false") == 0) {
            kop_set_int(t, i, yes);
            return KAENA_OK;
        }
    } else if (t->dtype == KAENA_U64) {
        unsigned long long u = strtoull(word, &end, 10);
        if (errno == 0 && *end == 0 && *word != '-') {
            ((uint64_t *)t->data)[i] = u;
            return KAENA_OK;
        }
    } else if (parse_int(word, &v)) {
        kop_set_int(t, i, v);
        if (kop_get_int(t, i) == v)
            return KAENA_OK;
    }
    return kgr_text_fail(c, "'%s' is not an element of %s", word, kaena_dtype_name(t->dtype));
}

/* Room for |n| elements; the caller has bounded them. */
static kaena_status make_room(kgr_cursor *c, kop_tensor *t, int64_t n)
{
    t->data = kaena_arena_array(c->arena, (size_t)n, kaena_dtype_size(t->dtype));
    return t->data ? KAENA_OK : kgr_text_no_memory(c);
}

kaena_status kgr_text_data(kgr_cursor *c, kop_tensor *t)
{
    int64_t n;
    KAENA_TRY(kgr_text_expect(c, '{'));
    if (t->unranked || !kaena_shape_elements(&t->shape, &n) || t->dtype == KAENA_DTYPE_NONE)
        return kgr_text_fail(c, "contents need a type and a known shape");
    if (n > (c->end - c->p) / 2 + 1) /* "1,1}": so memory stays a multiple of the text */
        return kgr_text_fail(c, "%" PRId64 " elements expected, the text is too short", n);
    KAENA_TRY(make_room(c, t, n));
    for (int64_t i = 0; i < n; i++) {
        if (i)
            KAENA_TRY(kgr_text_expect(c, ','));
        KAENA_TRY(kgr_text_element(c, t, (size_t)i));
    }
    return kgr_text_expect(c, '}');
}

void kgr_random_fill(kop_tensor *t, uint64_t seed)
{
    size_t n = kop_elements(t);
    uint64_t x = seed * 0x9e3779b97f4a7c15u + 1;
    for (size_t i = 0; i < n; i++) {
        x = x * 6364136223846793005u + 1442695040888963407u;
        int64_t r = (int64_t)(x >> 56); /* 0..255 */
        if (kaena_dtype_is_float(t->dtype))
            kop_set_float(t, i, (double)(r - 128) / 128 + 1.0 / 256);
        else if (t->dtype == KAENA_BOOL)
            kop_set_int(t, i, r & 1);
        else
            kop_set_int(t, i, kaena_dtype_is_signed(t->dtype) ? r % 16 - 8 : r % 16);
    }
}

/* `random SEED` or `fill ELEMENT`. */
static kaena_status parse_generated(kgr_cursor *c, kop_tensor *t, bool random)
{
    int64_t n, seed;
    if (t->unranked || !kaena_shape_elements(&t->shape, &n) || t->dtype == KAENA_DTYPE_NONE ||
        t->dtype == KAENA_STRING)
        return kgr_text_fail(c, "generated contents need a numeric type and a known shape");
    if (n > c->random_left)
        return kgr_text_fail(c, "more than %" PRId64 " generated elements", KGR_RANDOM_MAX);
    c->random_left -= n;
    KAENA_TRY(make_room(c, t, n));
    if (random) {
        KAENA_TRY(kgr_text_int(c, &seed));
        kgr_random_fill(t, (uint64_t)seed);
        return KAENA_OK;
    }
    uint64_t one_data[2];
    kop_tensor one = {.dtype = t->dtype, .data = one_data};
    KAENA_TRY(kgr_text_element(c, &one, 0));
    size_t width = kaena_dtype_size(t->dtype);
    for (int64_t i = 0; i < n; i++)
        memcpy((char *)t->data + (size_t)i * width, one_data, width);
    return KAENA_OK;
}

kaena_status kgr_text_contents(kgr_cursor *c, kop_tensor *t, uint64_t *digest)
{
    bool random = kgr_text_take_word(c, "random");
    if (random || kgr_text_take_word(c, "fill"))
        return parse_generated(c, t, random);
    if (!kgr_text_take_word(c, "digest"))
        return kgr_text_data(c, t);
    char word[KGR_WORD];
    KAENA_TRY(kgr_text_word(c, word));
    uint64_t hash = 0;
    for (size_t i = 0; word[i]; i++) {
        if (i == 16 || hex_digit(word[i]) < 0)
            return kgr_text_fail(c, "'%s' is not a digest of 16 hexadecimal digits", word);
        hash = hash << 4 | (uint64_t)hex_digit(word[i]);
    }
    if (hash == 0)
        return kgr_text_fail(c, "a digest is not 0");
    *digest = hash;
    return KAENA_OK;
}
