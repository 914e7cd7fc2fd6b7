/* Shapes: rank and dimensions of a dense tensor. */
#ifndef KAENA_BASE_SHAPE_H
#define KAENA_BASE_SHAPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define KAENA_MAX_RANK 8
#define KAENA_DIM_UNKNOWN (-1)

/* Rank 0 is a scalar. A dimension is >= 0, or KAENA_DIM_UNKNOWN while a graph is not yet
 * specialised. */
typedef struct kaena_shape {
    int32_t rank;
    int64_t dim[KAENA_MAX_RANK];
} kaena_shape;

/* Number of elements; false when a dimension is unknown or negative, or the product does not fit in
 * 62 bits. */
bool kaena_shape_elements(const kaena_shape *s, int64_t *out);
bool kaena_shape_known(const kaena_shape *s);
bool kaena_shape_equal(const kaena_shape *a, const kaena_shape *b);

/* Writes "[1,3,?,224]" (scalar: "[]"), at most |size| bytes with the terminator; returns |buf|. 192
 * bytes always suffice. */
#define KAENA_SHAPE_TEXT 192
const char *kaena_shape_print(const kaena_shape *s, char *buf, size_t size);

/* Row-major strides in elements; the shape is known. */
void kaena_shape_strides(const kaena_shape *s, int64_t strides[KAENA_MAX_RANK]);

/* Numpy broadcasting of two shapes; false when they do not fit or a dimension is unknown. */
bool kaena_shape_broadcast(const kaena_shape *a, const kaena_shape *b, kaena_shape *out);

#endif
