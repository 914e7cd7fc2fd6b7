/* Attributes: text, in the forms that Python's str() and C++'s streams give. */
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "mx_internal.h"

const char *mx_text(const mx_xlat *x, const char *name)
{
    for (uint32_t i = 0; i < x->node->n_attr; i++) {
        if (strcmp(x->node->attr[i].name, name) == 0)
            return strcmp(x->node->attr[i].text, "None") == 0 ? NULL : x->node->attr[i].text;
    }
    return NULL;
}

const char *mx_string(const mx_xlat *x, const char *name, const char *otherwise)
{
    const char *text = mx_text(x, name);
    return text ? text : otherwise;
}

static void refuse(mx_xlat *x, const char *name, const char *text, const char *what)
{
    if (x->status == KAENA_OK)
        (void)MX_FAIL(x, INVALID_ARGUMENT, "attribute '%s' is '%s', not %s", name, text, what);
}

bool mx_bool(mx_xlat *x, const char *name, bool otherwise)
{
    const char *text = mx_text(x, name);
    if (!text)
        return otherwise;
    if (strcasecmp(text, "true") == 0 || strcmp(text, "1") == 0)
        return true;
    if (strcasecmp(text, "false") != 0 && strcmp(text, "0") != 0)
        refuse(x, name, text, "True or False");
    return false;
}

/* A whole number at |*at|, also in the form "2L" or "2.0"; false: there is none. */
static bool scan_int(const char **at, int64_t *out)
{
    char *end;
    errno = 0;
    long long v = strtoll(*at, &end, 10);
    if (end == *at || errno == ERANGE || v == MX_NONE)
        return false;
    if (*end == 'L') {
        end++;
    } else if (*end == '.') {
        end++;
        end += strspn(end, "0");
    }
    *at = end;
    *out = v;
    return true;
}

static const char *skip(const char *at)
{
    return at + strspn(at, " \t\r\n");
}

int64_t mx_int(mx_xlat *x, const char *name, int64_t otherwise)
{
    const char *text = mx_text(x, name);
    if (!text)
        return otherwise;
    const char *at = skip(text);
    int64_t v;
    if (strcasecmp(at, "true") == 0 || strcasecmp(at, "false") == 0)
        return strcasecmp(at, "true") == 0;
    if (scan_int(&at, &v) && !*skip(at))
        return v;
    refuse(x, name, text, "a whole number");
    return otherwise;
}

int64_t mx_need_int(mx_xlat *x, const char *name)
{
    if (!mx_text(x, name) && x->status == KAENA_OK)
        (void)MX_FAIL(x, INVALID_ARGUMENT, "attribute '%s' is missing", name);
    return mx_int(x, name, 0);
}

double mx_float(mx_xlat *x, const char *name, double otherwise)
{
    const char *text = mx_text(x, name);
    if (!text)
        return otherwise;
    char *end;
    double v = strtod(text, &end);
    if (end != text && !*skip(end))
        return v;
    if (strcasecmp(text, "true") == 0 || strcasecmp(text, "false") == 0)
        return strcasecmp(text, "true") == 0;
    refuse(x, name, text, "a number");
    return otherwise;
}

typedef bool scan_element(const char **at, void *list, uint32_t i);

static bool scan_int_element(const char **at, void *list, uint32_t i)
{
    int64_t *out = list;
    if (strncmp(*at, "None", 4) == 0) {
        *at += 4;
        out[i] = MX_NONE;
        return true;
    }
    return scan_int(at, &out[i]);
}

static bool scan_float_element(const char **at, void *list, uint32_t i)
{
    char *end;
    ((float *)list)[i] = strtof(*at, &end);
    if (end == *at)
        return false;
    *at = end;
    return true;
}

/* "(1, 2,)", "[1,2]", "1": elements with commas between, brackets that match or none at all. */
static bool scan_list(const char *text, scan_element *scan, void *list, uint32_t most, uint32_t *n)
{
    const char *at = skip(text);
    char close = *at == '(' ? ')' : *at == '[' ? ']' : 0;
    *n = 0;
    if (close)
        at = skip(at + 1);
    while (*at && *at != close) {
        if (*n == most || !scan(&at, list, *n))
            return false;
        ++*n;
        at = skip(at);
        if (*at == ',')
            at = skip(at + 1);
        else if (*at != close)
            return false;
    }
    if (close && *at++ != close)
        return false;
    return !*skip(at);
}

bool mx_parse_ints(const char *text, int64_t *out, uint32_t most, uint32_t *n)
{
    return scan_list(text, scan_int_element, out, most, n);
}

uint32_t mx_ints(mx_xlat *x, const char *name, int64_t *out, uint32_t most)
{
    const char *text = mx_text(x, name);
    uint32_t n = 0;
    if (!text || mx_parse_ints(text, out, most, &n))
        return n;
    refuse(x, name, text, "a list of whole numbers, or too long");
    return 0;
}

uint32_t mx_floats(mx_xlat *x, const char *name, float *out, uint32_t most)
{
    const char *text = mx_text(x, name);
    uint32_t n = 0;
    if (!text || scan_list(text, scan_float_element, out, most, &n))
        return n;
    refuse(x, name, text, "a list of numbers, or too long");
    return 0;
}

kaena_dtype mx_dtype(mx_xlat *x, const char *name, kaena_dtype otherwise)
{
    const char *text = mx_text(x, name);
    if (!text)
        return otherwise;
    kaena_dtype t =
        isdigit((unsigned char)*text) ? mx_dtype_of(mx_int(x, name, -1)) : kaena_dtype_parse(text);
    if (t == KAENA_DTYPE_NONE)
        refuse(x, name, text, "an element type that is supported");
    return t == KAENA_DTYPE_NONE ? otherwise : t;
}
