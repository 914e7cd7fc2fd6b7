#include <math.h>
#include <stdio.h>
#include <string.h>

#include "conformance.h"

static bool same_shape(const kop_tensor *got, const kop_tensor *want, conf_difference *d)
{
    char a[KAENA_SHAPE_TEXT], b[KAENA_SHAPE_TEXT];
    if (got->dtype == want->dtype && kaena_shape_equal(&got->shape, &want->shape))
        return true;
    (void)snprintf(d->text, sizeof d->text, "is %.12s%.100s, expected %.12s%.100s",
                   kaena_dtype_name(got->dtype), kaena_shape_print(&got->shape, a, sizeof a),
                   kaena_dtype_name(want->dtype), kaena_shape_print(&want->shape, b, sizeof b));
    return false;
}

static bool compare_strings(const kop_tensor *got, const kop_tensor *want, conf_difference *d)
{
    const kaena_string *a = got->data, *b = want->data;
    for (size_t i = 0; i < kop_elements(want); i++) {
        if (a[i].size == b[i].size &&
            (a[i].size == 0 || memcmp(a[i].data, b[i].data, a[i].size) == 0))
            continue;
        (void)snprintf(d->text, sizeof d->text, "string %zu is '%.*s', expected '%.*s'", i,
                       (int)(a[i].size < 80 ? a[i].size : 80), a[i].data,
                       (int)(b[i].size < 80 ? b[i].size : 80), b[i].data);
        return false;
    }
    return true;
}

static bool compare_exact(const kop_tensor *got, const kop_tensor *want, conf_difference *d)
{
    for (size_t i = 0; i < kop_elements(want); i++) {
        long long a = kop_get_int(got, i), b = kop_get_int(want, i);
        if (a == b)
            continue;
        (void)snprintf(d->text, sizeof d->text, "element %zu is %lld, expected %lld", i, a, b);
        return false;
    }
    return true;
}

static double largest_of(const kop_tensor *t)
{
    double largest = 0;
    for (size_t i = 0; i < kop_elements(t); i++) {
        double v = fabs(kop_get_float(t, i));
        if (isfinite(v) && v > largest)
            largest = v;
    }
    return largest;
}

static bool compare_floats(const kop_tensor *got, const kop_tensor *want,
                           const conf_tolerance *tolerance, conf_difference *d)
{
    double scale = tolerance->of_largest ? largest_of(want) : 0;
    for (size_t i = 0; i < kop_elements(want); i++) {
        double a = kop_get_float(got, i), b = kop_get_float(want, i);
        if ((isnan(a) && isnan(b)) || a == b)
            continue;
        double off = fabs(a - b);
        double bound = tolerance->rel * (tolerance->of_largest ? scale : fabs(b)) + tolerance->abs;
        double ratio = isfinite(off) && isfinite(b) ? off / bound : INFINITY;
        if (off > d->largest)
            d->largest = off;
        if (ratio > d->worst) {
            d->worst = ratio;
            (void)snprintf(d->text, sizeof d->text,
                           "element %zu is %.9g, expected %.9g (bound %.3g)", i, a, b, bound);
        }
    }
    return d->worst <= 1;
}

/* Forms other than tensors: element by element. */
static bool compare_items(const kop_tensor *got, const kop_tensor *want,
                          const conf_tolerance *tolerance, conf_difference *d)
{
    if (got->form != want->form || got->count != want->count) {
        (void)snprintf(d->text, sizeof d->text, "is %s of %zu, expected %s of %zu",
                       kop_form_name(got->form), got->count, kop_form_name(want->form),
                       want->count);
        return false;
    }
    for (size_t i = 0; i < want->count; i++)
        if (!conf_compare(&kop_items(got)[i], &kop_items(want)[i], tolerance, d))
            return false;
    return true;
}

bool conf_compare(const kop_tensor *got, const kop_tensor *want, const conf_tolerance *tolerance,
                  conf_difference *d)
{
    *d = (conf_difference){0};
    if (got->form != KOP_FORM_TENSOR || want->form != KOP_FORM_TENSOR)
        return compare_items(got, want, tolerance, d);
    if (!same_shape(got, want, d))
        return false;
    if (want->dtype == KAENA_STRING)
        return compare_strings(got, want, d);
    if (!kaena_dtype_is_float(want->dtype))
        return compare_exact(got, want, d);
    return compare_floats(got, want, tolerance, d);
}
