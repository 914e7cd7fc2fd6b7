/* Operators of strings. Text is UTF-8; bytes that are not stand for themselves. */
#include "ops_impl.h"

#include <locale.h>
#include <wctype.h>

#include "regex.h"

static const kaena_string *strings_of(const kop_tensor *t)
{
    return t->data;
}

static bool same(kaena_string a, kaena_string b)
{
    return a.size == b.size && (a.size == 0 || memcmp(a.data, b.data, a.size) == 0);
}

/* --- Upper and lower case -------------------------------------------------------------------- */

typedef enum letter_case { CASE_NONE, CASE_LOWER, CASE_UPPER } letter_case;

size_t kop_utf8_decode(const char *s, size_t n, int32_t *c)
{
    const unsigned char *u = (const unsigned char *)s;
    size_t length = u[0] < 0x80                   ? 1
                    : u[0] >= 0xc2 && u[0] < 0xe0 ? 2
                    : (u[0] & 0xf0) == 0xe0       ? 3
                                                  : 0;
    length = u[0] >= 0xf0 && u[0] < 0xf5 ? 4 : length;
    *c = -1;
    if (length == 0 || length > n)
        return 1;
    int32_t v = length == 1 ? u[0] : u[0] & (0x7f >> length);
    for (size_t i = 1; i < length; i++) {
        if ((u[i] & 0xc0) != 0x80)
            return 1;
        v = v << 6 | (u[i] & 0x3f);
    }
    *c = v;
    return length;
}

static size_t encode(int32_t c, char *out)
{
    if (c < 0x80) {
        out[0] = (char)c;
        return 1;
    }
    size_t length = c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    for (size_t i = length; --i > 0; c >>= 6)
        out[i] = (char)(0x80 | (c & 0x3f));
    out[0] = (char)(c | (0xf0 << (4 - length) & 0xff));
    return length;
}

/* |s| in the other case, in temporary storage; a character whose counterpart is longer keeps its
 * case's length at most doubled. */
static kaena_status change_case(kop_call *call, kaena_string s, letter_case to, locale_t locale,
                                kaena_string *out)
{
    *out = s;
    if (to == CASE_NONE || s.size == 0)
        return KAENA_OK;
    char *text = kop_alloc(call, s.size, 4);
    if (!text)
        return KAENA_RESOURCE_EXHAUSTED;
    size_t n = 0;
    for (size_t i = 0; i < s.size;) {
        int32_t c;
        size_t length = kop_utf8_decode(s.data + i, s.size - i, &c);
        if (c < 0) {
            text[n++] = s.data[i];
        } else {
            wint_t w = (wint_t)c;
            w = to == CASE_LOWER ? towlower_l(w, locale) : towupper_l(w, locale);
            n += encode((int32_t)w, text + n);
        }
        i += length;
    }
    *out = (kaena_string){text, n};
    return KAENA_OK;
}

/* --- StringNormalizer: removes stop words, changes the case --- */

static kaena_status case_of(const kop_call *call, letter_case *out)
{
    static const char *const names[] = {"NONE", "LOWER", "UPPER"};
    const char *name = kop_attr_string(call, "case_change_action", "NONE");
    for (unsigned i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(name, names[i]) == 0) {
            *out = (letter_case)i;
            return KAENA_OK;
        }
    return KOP_BAD(call, "there is no case_change_action '%s'", name);
}

kaena_status kop_infer_string_normalizer(kop_call *call)
{
    const kop_tensor *x = call->in[0];
    letter_case to;
    KAENA_TRY(kop_need(call, 0, KOP_T(KAENA_STRING)));
    KAENA_TRY(case_of(call, &to));
    if (x->unranked) {
        kop_out_unranked(call, 0, KAENA_STRING);
        return KAENA_OK;
    }
    if (x->shape.rank != 1 &&
        (x->shape.rank != 2 || (x->shape.dim[0] != 1 && x->shape.dim[0] >= 0)))
        return KOP_BAD(call, "the strings must be [C] or [1,C]");
    kaena_shape shape = kop_shape_unknown(x->shape.rank);
    if (shape.rank == 2)
        shape.dim[0] = 1;
    kop_out(call, 0, KAENA_STRING, &shape);
    return KAENA_OK;
}

static kaena_status normalize(kop_call *call, letter_case to, locale_t locale)
{
    const kop_tensor *x = call->in[0];
    size_t n = kop_elements(x), kept = 0;
    const kop_attr *stop = kop_attr_find(call, "stopwords");
    uint32_t n_stop = stop && stop->type == KOP_ATTR_STRINGS ? stop->n : 0;
    letter_case compared = kop_attr_int(call, "is_case_sensitive", 0) != 0 ? CASE_NONE : CASE_LOWER;
    kaena_string *words = kop_alloc(call, n_stop, sizeof *words);
    kaena_string *result = words ? kop_alloc(call, n + 1, sizeof *result) : NULL;
    if (!result)
        return KAENA_RESOURCE_EXHAUSTED;
    for (uint32_t i = 0; i < n_stop; i++) {
        kaena_string word = {stop->u.strings[i], strlen(stop->u.strings[i])};
        KAENA_TRY(change_case(call, word, compared, locale, &words[i]));
    }
    for (size_t i = 0; i < n; i++) {
        kaena_string s = strings_of(x)[i], key;
        bool drop = false;
        if (n_stop)
            KAENA_TRY(change_case(call, s, compared, locale, &key));
        for (uint32_t k = 0; k < n_stop && !drop; k++)
            drop = same(key, words[k]);
        if (!drop)
            KAENA_TRY(change_case(call, s, to, locale, &result[kept++]));
        KAENA_TRY(kop_poll(call));
    }
    /* Nothing left is one empty string, ONNX StringNormalizer. */
    kept = kept ? kept : 1;
    kaena_shape shape = {.rank = x->shape.rank, .dim = {1}};
    shape.dim[shape.rank - 1] = (int64_t)kept;
    KAENA_TRY(kop_output(call, 0, KAENA_STRING, &shape));
    memcpy(call->out[0].data, result, kept * sizeof *result);
    return KAENA_OK;
}

kaena_status kop_eval_string_normalizer(kop_call *call)
{
    letter_case to;
    KAENA_TRY(case_of(call, &to));
    /* Every character has its usual counterpart; the attribute 'locale' chooses none of its own. */
    locale_t locale = newlocale(LC_CTYPE_MASK, "C.UTF-8", NULL);
    if (!locale)
        return KAENA_FAIL(call->err, FAILED_PRECONDITION, "this system has no locale C.UTF-8");
    kaena_status status = normalize(call, to, locale);
    freelocale(locale);
    return status;
}

/* --- StringConcat: element by element --- */

kaena_status kop_infer_string_concat(kop_call *call)
{
    kaena_shape shape;
    bool unranked;
    for (uint32_t i = 0; i < 2; i++)
        KAENA_TRY(kop_need(call, i, KOP_T(KAENA_STRING)));
    KAENA_TRY(kop_broadcast_shape(call, 0, 2, &shape, &unranked));
    if (unranked)
        kop_out_unranked(call, 0, KAENA_STRING);
    else
        kop_out(call, 0, KAENA_STRING, &shape);
    return KAENA_OK;
}

kaena_status kop_eval_string_concat(kop_call *call)
{
    kaena_string *out = call->out[0].data;
    int64_t n = (int64_t)kop_elements(&call->out[0]);
    kop_bcast *b = kop_alloc(call, 1, sizeof *b);
    if (!b)
        return KAENA_RESOURCE_EXHAUSTED;
    kop_bcast_init(b, &call->out[0].shape, call->in, 2);
    int64_t inner = b->dim[b->rank - 1];
    for (int64_t i = 0; i < n; i++) {
        kaena_string part[2];
        for (uint32_t k = 0; k < 2; k++)
            part[k] = strings_of(call->in[k])[kop_bcast_offset(b, k, i / inner) +
                                              i % inner * b->stride[k][b->rank - 1]];
        uint64_t size;
        char *text =
            kaena_add_u64(part[0].size, part[1].size, &size) ? kop_alloc(call, size, 1) : NULL;
        if (!text)
            return KAENA_RESOURCE_EXHAUSTED;
        if (part[0].size)
            memcpy(text, part[0].data, part[0].size);
        if (part[1].size)
            memcpy(text + part[0].size, part[1].data, part[1].size);
        out[i] = (kaena_string){text, size};
        KAENA_TRY(kop_poll(call));
    }
    return KAENA_OK;
}

/* --- StringSplit: at a delimiter, or at white space --- */

kaena_status kop_infer_string_split(kop_call *call)
{
    const kop_tensor *x = call->in[0];
    KAENA_TRY(kop_need(call, 0, KOP_T(KAENA_STRING)));
    if (x->unranked) {
        kop_out_unranked(call, 0, KAENA_STRING);
        kop_out_unranked(call, 1, KAENA_I64);
        return KAENA_OK;
    }
    if (x->shape.rank == KAENA_MAX_RANK)
        return KOP_BAD(call, "the result would have rank %d", KAENA_MAX_RANK + 1);
    kaena_shape shape = x->shape;
    shape.dim[shape.rank++] = KAENA_DIM_UNKNOWN;
    kop_out(call, 0, KAENA_STRING, &shape);
    kop_out(call, 1, KAENA_I64, &x->shape);
    return KAENA_OK;
}

static bool is_blank(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

/* The next piece of |*rest|; false at the end. Runs of white space are one delimiter and none at
 * the ends; every occurrence of a delimiter that is given counts. */
static bool next_piece(kaena_string delimiter, int64_t splits_left, bool first, kaena_string *rest,
                       kaena_string *piece)
{
    kaena_string s = *rest;
    if (delimiter.size == 0) {
        while (s.size > 0 && is_blank(*s.data)) {
            s.data++;
            s.size--;
        }
        if (s.size == 0)
            return false;
        size_t n = 0;
        while (n < s.size && !is_blank(s.data[n]))
            n++;
        n = splits_left == 0 ? s.size : n;
        *piece = (kaena_string){s.data, n};
        *rest = (kaena_string){s.data + n, s.size - n};
        return true;
    }
    /* |data| is NULL once the last piece is out. */
    if (!s.data || (first && s.size == 0))
        return false;
    const char *at = splits_left == 0 || s.size < delimiter.size
                         ? NULL
                         : memmem(s.data, s.size, delimiter.data, delimiter.size);
    *piece = at ? (kaena_string){s.data, (size_t)(at - s.data)} : s;
    size_t used = piece->size + delimiter.size;
    *rest = at ? (kaena_string){s.data + used, s.size - used} : (kaena_string){NULL, 0};
    return true;
}

kaena_status kop_eval_string_split(kop_call *call)
{
    const kop_tensor *x = call->in[0];
    size_t n = kop_elements(x);
    const char *text = kop_attr_string(call, "delimiter", "");
    kaena_string delimiter = {text, strlen(text)}, *pieces = NULL;
    int64_t max = kop_attr_int(call, "maxsplit", -1);
    size_t most = 0;
    for (int pass = 0; pass < 2; pass++) {
        for (size_t i = 0; i < n; i++) {
            kaena_string rest = strings_of(x)[i], piece;
            size_t k = 0;
            rest.data = rest.data ? rest.data : "";
            for (; next_piece(delimiter, max < 0 ? -1 : max - (int64_t)k, k == 0, &rest, &piece);
                 k++)
                if (pass)
                    pieces[i * most + k] = piece;
            if (pass == 0 && k > most)
                most = k;
            if (pass && call->n_out > 1)
                kop_set_int(&call->out[1], i, (int64_t)k);
            for (; pass && k < most; k++)
                pieces[i * most + k] = (kaena_string){"", 0};
            KAENA_TRY(kop_poll(call));
        }
        if (pass == 0) {
            kaena_shape shape = x->shape;
            shape.dim[shape.rank++] = (int64_t)most;
            KAENA_TRY(kop_output(call, 0, KAENA_STRING, &shape));
            pieces = call->out[0].data;
        }
    }
    return KAENA_OK;
}

/* --- RegexFullMatch --- */

kaena_status kop_infer_regex(kop_call *call)
{
    KAENA_TRY(kop_need(call, 0, KOP_T(KAENA_STRING)));
    if (!kop_attr_find(call, "pattern"))
        return KOP_BAD(call, "the attribute 'pattern' is required");
    call->out[0] = *call->in[0];
    call->out[0].data = NULL;
    call->out[0].dtype = KAENA_BOOL;
    return KAENA_OK;
}

kaena_status kop_eval_regex(kop_call *call)
{
    const kop_tensor *x = call->in[0];
    bool *out = call->out[0].data;
    kop_regex re;
    KAENA_TRY(kop_regex_compile(call, kop_attr_string(call, "pattern", ""), &re));
    for (size_t i = 0; i < kop_elements(x); i++)
        KAENA_TRY(kop_regex_match(call, &re, strings_of(x)[i], &out[i]));
    return KAENA_OK;
}
