/* Tensor data that ONNX keeps in files beside the model. */
#ifndef KCC_EXTERNAL_DATA_H
#define KCC_EXTERNAL_DATA_H

#include <stdint.h>

#include "arena.h"
#include "err.h"
#include "onnx/onnx.pb-c.h"
#include "ops.h"

/* Reads the |bytes| that |pb|->external_data names into |arena| and sets |t|->data. The location is
 * relative and, symbolic links followed, lies beneath |dir| (NULL: external data is refused): a
 * model file must not make the compiler read what its sender may not. */
kaena_status kcc_external_read(kaena_arena *arena, const Onnx__TensorProto *pb, const char *dir,
                               uint64_t bytes, kop_tensor *t, kaena_err *err) KAENA_CHECKED;

#endif
