/* Element types and shapes of TensorFlow's messages. */
#ifndef KCC_TF_TYPE_H
#define KCC_TF_TYPE_H

#include "dtype.h"
#include "err.h"
#include "shape.h"
#include "tensorflow/graph.pb-c.h"

/* UNIMPLEMENTED: TensorFlow has the type and we do not; INVALID_ARGUMENT: nobody has it. */
kaena_status tf_file_dtype(int type, kaena_dtype *out, kaena_err *err) KAENA_CHECKED;

/* The shape of a tensor that exists; NULL is a scalar's. */
kaena_status tf_file_shape(const Tensorflow__TensorShapeProto *pb, kaena_shape *out,
                           kaena_err *err) KAENA_CHECKED;

#endif
