#include "tf_slice.h"

#include <stdbool.h>
#include <string.h>

/* The code is TensorFlow's "ordered code": numbers and strings as bytes that compare as the values
 * do. Returns the bytes written. */
static size_t put_unsigned(char *to, uint64_t v)
{
    int n = v ? (71 - __builtin_clzll(v)) / 8 : 0;
    to[0] = (char)n;
    for (int i = 0; i < n; i++)
        to[1 + i] = (char)(v >> (8 * (n - 1 - i)));
    return (size_t)n + 1;
}

/* At most twice the length, and 2. 0 and 255 are escaped, 0 1 ends the string. */
static size_t put_string(char *to, const char *s)
{
    char *start = to;
    for (; *s; s++) {
        *to++ = *s;
        if ((unsigned char)*s == 0xff)
            *to++ = 0;
    }
    *to++ = 0;
    *to++ = 1;
    return (size_t)(to - start);
}

/* One bit of sign, as many bits of 1 (negative: 0) as bytes follow the first, the number in what is
 * left, big-endian. */
static size_t put_signed(char *to, int64_t v)
{
    uint64_t magnitude = (uint64_t)(v < 0 ? ~v : v);
    int bits = magnitude ? 64 - __builtin_clzll(magnitude) : 0;
    int n = bits / 7 + 1;
    for (int i = 0; i < n; i++) {
        int shift = 8 * (n - 1 - i);
        to[i] = (char)((shift < 64 ? v >> shift : v >> 63) & 0xff);
    }
    to[0] = (char)(to[0] ^ (n >= 8 ? 0xff : 0xff << (8 - n)));
    if (n > 8)
        to[1] = (char)(to[1] ^ (n == 9 ? 0x80 : 0xc0));
    return (size_t)n;
}

const char *tf_slice_key(kaena_arena *arena, const char *name,
                         const Tensorflow__TensorSliceProto *pb, size_t *size)
{
    char *key = kaena_arena_alloc(arena, 2 * strlen(name) + 20 * pb->n_extent + 12), *at = key;
    if (!key)
        return NULL;
    at += put_unsigned(at, 0);
    at += put_string(at, name);
    at += put_unsigned(at, pb->n_extent);
    for (size_t d = 0; d < pb->n_extent; d++) {
        const Tensorflow__TensorSliceProto__Extent *e = pb->extent[d];
        bool part = e->has_length_case == TENSORFLOW__TENSOR_SLICE_PROTO__EXTENT__HAS_LENGTH_LENGTH;
        at += put_signed(at, part ? e->start : 0);
        at += put_signed(at, part ? e->length : -1);
    }
    *size = (size_t)(at - key);
    return key;
}

kaena_status tf_slice_box(const Tensorflow__TensorSliceProto *pb, const kaena_shape *whole,
                          tf_box *out, kaena_err *err)
{
    tf_box box = {.size = *whole};
    if (pb->n_extent != (size_t)whole->rank)
        return KAENA_FAIL(err, DATA_LOSS, "it has %zu dimensions, the tensor %d", pb->n_extent,
                          whole->rank);
    for (int32_t d = 0; d < whole->rank; d++) {
        const Tensorflow__TensorSliceProto__Extent *e = pb->extent[d];
        if (e->has_length_case != TENSORFLOW__TENSOR_SLICE_PROTO__EXTENT__HAS_LENGTH_LENGTH)
            continue;
        if (e->start < 0 || e->length < 0 || e->start > whole->dim[d] ||
            e->length > whole->dim[d] - e->start)
            return KAENA_FAIL(err, DATA_LOSS, "dimension %d reaches outside the tensor", d);
        box.start[d] = e->start;
        box.size.dim[d] = e->length;
    }
    *out = box;
    return KAENA_OK;
}

static bool overlap(const tf_box *a, const tf_box *b)
{
    for (int32_t d = 0; d < a->size.rank; d++)
        if (b->size.dim[d] == 0 || a->start[d] >= b->start[d] + b->size.dim[d] ||
            b->start[d] >= a->start[d] + a->size.dim[d])
            return false;
    return true;
}

kaena_status tf_boxes_cover(const tf_box *boxes, size_t n, const kaena_shape *whole, kaena_err *err)
{
    int64_t all, sum = 0, part;
    if (!kaena_shape_elements(whole, &all))
        return KAENA_FAIL(err, DATA_LOSS, "its shape has too many elements");
    for (size_t i = 0; i < n; i++) {
        if (!kaena_shape_elements(&boxes[i].size, &part) || part > all - sum)
            return KAENA_FAIL(err, DATA_LOSS, "its slices overlap");
        sum += part;
        for (size_t k = 0; part > 0 && k < i; k++)
            if (overlap(&boxes[i], &boxes[k]))
                return KAENA_FAIL(err, DATA_LOSS, "its slices overlap");
    }
    if (sum != all)
        return KAENA_FAIL(err, DATA_LOSS, "its slices do not cover it");
    return KAENA_OK;
}

typedef void copy_row(char *whole, char *part, size_t bytes);

static void copy_in(char *whole, char *part, size_t bytes)
{
    memcpy(whole, part, bytes);
}

static void copy_out(char *whole, char *part, size_t bytes)
{
    memcpy(part, whole, bytes);
}

/* Calls |copy| for every row of the box: |all| is the whole's data, |part| the box's. */
static void each_row(const tf_box *box, char *all, char *part, const kaena_shape *whole,
                     size_t element, copy_row *copy)
{
    int64_t strides[KAENA_MAX_RANK], at[KAENA_MAX_RANK] = {0}, n;
    int32_t rank = whole->rank;
    if (!kaena_shape_elements(&box->size, &n) || n == 0)
        return;
    if (rank == 0) {
        copy(all, part, element);
        return;
    }
    kaena_shape_strides(whole, strides);
    size_t row = (size_t)box->size.dim[rank - 1] * element;
    for (;;) {
        int64_t offset = 0;
        for (int32_t d = 0; d < rank; d++)
            offset += (box->start[d] + at[d]) * strides[d];
        copy(all + (size_t)offset * element, part, row);
        part += row;
        int32_t d = rank - 2;
        for (; d >= 0 && ++at[d] == box->size.dim[d]; d--)
            at[d] = 0;
        if (d < 0)
            return;
    }
}

void tf_box_copy(const tf_box *box, const void *from, void *to, const kaena_shape *whole,
                 size_t element)
{
    each_row(box, to, (char *)(uintptr_t)from, whole, element, copy_in);
}

void tf_box_extract(const tf_box *box, const void *from, void *to, const kaena_shape *whole,
                    size_t element)
{
    each_row(box, (char *)(uintptr_t)from, to, whole, element, copy_out);
}

/* Takes digits up to a byte that is none. */
static bool take_number(const char **at, const char *end, int64_t *out)
{
    const char *s = *at;
    int64_t v = 0;
    for (; s < end && *s >= '0' && *s <= '9' && v < INT64_MAX / 10 - 10; s++)
        v = v * 10 + (*s - '0');
    bool some = s > *at;
    *at = s;
    *out = v;
    return some;
}

static bool take(const char **at, const char *end, char c)
{
    if (*at == end || **at != c)
        return false;
    (*at)++;
    return true;
}

kaena_status tf_slice_parse(const char *text, size_t size, const kaena_shape *whole, tf_box *out,
                            kaena_err *err)
{
    const char *at = text, *end = text + size;
    tf_box box = {.size = *whole};
    bool good = true;
    for (int32_t d = 0; good && size && d < whole->rank; d++) {
        int64_t dim;
        good = take_number(&at, end, &dim) && dim == whole->dim[d] && take(&at, end, ' ');
    }
    for (int32_t d = 0; good && size && d < whole->rank; d++) {
        if (!take(&at, end, '-'))
            good = take_number(&at, end, &box.start[d]) && take(&at, end, ',') &&
                   take_number(&at, end, &box.size.dim[d]) && box.start[d] <= whole->dim[d] &&
                   box.size.dim[d] <= whole->dim[d] - box.start[d];
        good = good && (d + 1 == whole->rank || take(&at, end, ':'));
    }
    if (!good || at != end)
        return KAENA_FAIL(err, INVALID_ARGUMENT, "'%.*s' is not a slice of it",
                          size < 64 ? (int)size : 64, text);
    *out = box;
    return KAENA_OK;
}
