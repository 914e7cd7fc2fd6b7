/* Tensors of ONNX files: TensorProto to kop_tensor. */
#ifndef KCC_TENSOR_PB_H
#define KCC_TENSOR_PB_H

#include "arena.h"
#include "err.h"
#include "onnx/onnx.pb-c.h"
#include "ops.h"

/* Gives |pb| its canonical form. Data of the tensor's own representation is borrowed from |pb|,
 * which kcc_pb_unpack made and which must live as long as |out|; everything else is converted into
 * |arena|. Booleans are normalised to 0 and 1 in place. |dir| is the directory that external data
 * must lie beneath; NULL: external data is refused.
 *
 * INVALID_ARGUMENT   the size, type or place of the data is wrong
 * UNIMPLEMENTED      an element type without a row in dtype.def
 * NOT_FOUND          the file of external data */
kaena_status kcc_tensor_of_pb(kaena_arena *arena, Onnx__TensorProto *pb, const char *dir,
                              kop_tensor *out, kaena_err *err) KAENA_CHECKED;

/* Checks that |number| of a file is an element type we have: UNIMPLEMENTED names the ones we know
 * of but lack. */
kaena_status kcc_dtype_of_pb(int32_t number, kaena_dtype *out, kaena_err *err) KAENA_CHECKED;

/* Reads a file that is one TensorProto, as test data sets have. |name| (may be NULL) gets the
 * tensor's own name or "". Everything lives in |arena|. */
kaena_status kcc_tensor_read(kaena_arena *arena, const char *path, kop_tensor *out,
                             const char **name, kaena_err *err) KAENA_CHECKED;

/* The same for a value of |form|: a TensorProto, SequenceProto or OptionalProto. */
kaena_status kcc_value_read(kaena_arena *arena, const char *path, uint8_t form, kop_tensor *out,
                            const char **name, kaena_err *err) KAENA_CHECKED;

#endif
