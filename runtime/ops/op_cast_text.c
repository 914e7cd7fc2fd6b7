/* Cast from and to strings. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <strings.h>

#include "ops_impl.h"

#define NUMBER_TEXT 40 /* the longest number with its terminator */

/* The value of |v| in the type of output elements, which |text| must give again. */
static double rounded(double v, kaena_dtype t)
{
    double back = 0;
    uint64_t element = 0;
    kaena_cast(&element, t, &v, KAENA_F64, 1);
    kaena_cast(&back, KAENA_F64, &element, t, 1);
    return back;
}

/* The fewest digits that read back as the same number of type |t|, always with a point or an
 * exponent: "1.0", "0.1", "1e+20". */
static int print_float(double v, kaena_dtype t, char *out)
{
    if (isnan(v))
        return snprintf(out, NUMBER_TEXT, "NaN");
    if (isinf(v))
        return snprintf(out, NUMBER_TEXT, v < 0 ? "-INF" : "INF");
    int n = 0;
    for (int digits = 1; digits <= 17; digits++) {
        n = snprintf(out, NUMBER_TEXT, "%.*g", digits, v);
        if (rounded(strtod(out, NULL), t) == v)
            break;
    }
    /* %g writes an exponent as soon as the digits do not reach the point. */
    if (strchr(out, 'e') && fabs(v) >= 1 && fabs(v) < 1e16)
        n = snprintf(out, NUMBER_TEXT, "%.0f", v);
    if (!strpbrk(out, ".e"))
        n += snprintf(out + n, NUMBER_TEXT - (size_t)n, ".0");
    return n;
}

kaena_status kop_cast_to_text(kop_call *call)
{
    const kop_tensor *x = call->in[0];
    kaena_string *out = call->out[0].data;
    kop_kind kind = kop_kind_of(x->dtype);
    for (size_t i = 0; i < kop_elements(x); i++) {
        char text[NUMBER_TEXT];
        int n;
        if (kind == KOP_KIND_FLOAT)
            n = print_float(kop_get_float(x, i), x->dtype, text);
        else if (kind == KOP_KIND_UNSIGNED)
            n = snprintf(text, sizeof text, "%" PRIu64, (uint64_t)kop_get_int(x, i));
        else
            n = snprintf(text, sizeof text, "%" PRId64, kop_get_int(x, i));
        char *copy = kop_alloc(call, (size_t)n, 1);
        if (!copy)
            return KAENA_RESOURCE_EXHAUSTED;
        memcpy(copy, text, (size_t)n);
        out[i] = (kaena_string){copy, (size_t)n};
        if (i % KOP_CHUNK == 0)
            KAENA_TRY(kop_poll(call));
    }
    return KAENA_OK;
}

/* False: |text| is no number of type |t|. */
static bool parse_number(const char *text, kop_tensor *out, size_t i)
{
    char *end;
    errno = 0;
    if (kop_kind_of(out->dtype) == KOP_KIND_FLOAT) {
        double v = strtod(text, &end);
        kop_set_float(out, i, v);
    } else if (out->dtype == KAENA_U64) {
        kop_set_int(out, i, (int64_t)strtoull(text, &end, 10));
        if (errno)
            return false;
    } else {
        int64_t v = strtoll(text, &end, 10);
        kop_set_int(out, i, v);
        if (errno || (out->dtype != KAENA_BOOL && kop_get_int(out, i) != v))
            return false;
    }
    while (*end == ' ')
        end++;
    return end != text && *end == '\0';
}

kaena_status kop_cast_from_text(kop_call *call)
{
    const kaena_string *in = call->in[0]->data;
    kop_tensor *out = &call->out[0];
    for (size_t i = 0; i < kop_elements(out); i++) {
        char text[128] = "";
        bool fits = in[i].size < sizeof text && in[i].size > 0;
        if (fits)
            memcpy(text, in[i].data, in[i].size);
        if (!fits || strlen(text) != in[i].size || !parse_number(text, out, i))
            return KOP_BAD(call, "element %zu, '%.*s', is no number of type %s", i,
                           (int)(in[i].size < 60 ? in[i].size : 60), in[i].data ? in[i].data : "",
                           kaena_dtype_name(out->dtype));
        if (i % KOP_CHUNK == 0)
            KAENA_TRY(kop_poll(call));
    }
    return KAENA_OK;
}
