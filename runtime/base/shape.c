#include "shape.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "checked.h"

bool kaena_shape_elements(const kaena_shape *s, int64_t *out)
{
    int64_t n = 1;
    bool zero = false;
    for (int32_t i = 0; i < s->rank; i++) {
        if (s->dim[i] < 0)
            return false;
        if (s->dim[i] == 0)
            zero = true;
        else if (!kaena_mul_i64(n, s->dim[i], &n) || n > INT64_MAX / 2)
            return false;
    }
    *out = zero ? 0 : n;
    return true;
}

bool kaena_shape_known(const kaena_shape *s)
{
    for (int32_t i = 0; i < s->rank; i++)
        if (s->dim[i] < 0)
            return false;
    return true;
}

bool kaena_shape_equal(const kaena_shape *a, const kaena_shape *b)
{
    return a->rank == b->rank && memcmp(a->dim, b->dim, (size_t)a->rank * sizeof a->dim[0]) == 0;
}

const char *kaena_shape_print(const kaena_shape *s, char *buf, size_t size)
{
    size_t at = 0;
    for (int32_t i = 0; i <= s->rank; i++) {
        char one[32];
        if (i == s->rank)
            (void)snprintf(one, sizeof one, "%s]", i ? "" : "[");
        else if (s->dim[i] < 0)
            (void)snprintf(one, sizeof one, "%s?", i ? "," : "[");
        else
            (void)snprintf(one, sizeof one, "%s%" PRId64, i ? "," : "[", s->dim[i]);
        int n = snprintf(buf + at, size - at, "%s", one);
        if (n < 0 || (size_t)n >= size - at)
            break;
        at += (size_t)n;
    }
    return buf;
}

void kaena_shape_strides(const kaena_shape *s, int64_t strides[KAENA_MAX_RANK])
{
    int64_t n = 1;
    for (int32_t i = s->rank; i-- > 0;) {
        strides[i] = n;
        n *= s->dim[i] ? s->dim[i] : 1;
    }
}

bool kaena_shape_broadcast(const kaena_shape *a, const kaena_shape *b, kaena_shape *out)
{
    kaena_shape r = {.rank = a->rank > b->rank ? a->rank : b->rank};
    for (int32_t i = 0; i < r.rank; i++) {
        int32_t ia = i - (r.rank - a->rank), ib = i - (r.rank - b->rank);
        int64_t da = ia < 0 ? 1 : a->dim[ia], db = ib < 0 ? 1 : b->dim[ib];
        if (da < 0 || db < 0 || (da != db && da != 1 && db != 1))
            return false;
        r.dim[i] = da == 1 ? db : da;
    }
    *out = r;
    return true;
}
