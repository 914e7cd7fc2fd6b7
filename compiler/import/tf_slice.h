/* Slices of a partitioned tensor in a tensor bundle: their keys, and how they fill the whole. */
#ifndef KCC_TF_SLICE_H
#define KCC_TF_SLICE_H

#include "arena.h"
#include "err.h"
#include "shape.h"
#include "tensorflow/tensor_bundle.pb-c.h"

/* A box of the tensor's index space; |start| has size.rank elements. */
typedef struct tf_box {
    int64_t start[KAENA_MAX_RANK];
    kaena_shape size;
} tf_box;

/* The key under which the table keeps the slice |pb| of tensor |name|: an order-preserving code of
 * name, rank, and start and length (-1: all) per dimension. NULL: the arena is full. */
const char *tf_slice_key(kaena_arena *arena, const char *name,
                         const Tensorflow__TensorSliceProto *pb, size_t *size);

/* DATA_LOSS: the slice does not lie inside |whole|. */
kaena_status tf_slice_box(const Tensorflow__TensorSliceProto *pb, const kaena_shape *whole,
                          tf_box *out, kaena_err *err) KAENA_CHECKED;

/* DATA_LOSS unless every element of |whole| lies in exactly one box. Quadratic in |n|. */
kaena_status tf_boxes_cover(const tf_box *boxes, size_t n, const kaena_shape *whole,
                            kaena_err *err) KAENA_CHECKED;

/* Copies the elements of a box, row-major in |from|, to their places in the whole. */
void tf_box_copy(const tf_box *box, const void *from, void *to, const kaena_shape *whole,
                 size_t element);

/* The other way: copies the box's elements out of the whole |from|, row-major. */
void tf_box_extract(const tf_box *box, const void *from, void *to, const kaena_shape *whole,
                    size_t element);

/* Reads a slice as restoring operators write it: "10 20 0,5:-" is the first five rows of [10,20];
 * "" is everything. INVALID_ARGUMENT: malformed, or not a slice of |whole|. */
kaena_status tf_slice_parse(const char *text, size_t size, const kaena_shape *whole, tf_box *out,
                            kaena_err *err) KAENA_CHECKED;

#endif
