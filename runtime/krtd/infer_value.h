/* Values of any kind on the wire: out of a request into a kop_tensor, and back into an answer. */
#ifndef INFER_VALUE_H
#define INFER_VALUE_H

#include "ops.h"
#include "tensor_wire.h"

/* Reads a value of form |form| and checks that it is one: element type, shape and bytes agree.
 * Strings, sequences and optionals are copied to |arena|; of a tensor of numbers only type and
 * shape are set, and |*data| says where its bytes lie (krt_value_fill), unless they lie in shared
 * memory, as many as there must be, which they may at the top. INVALID_ARGUMENT says what
 * is wrong, not of what; RESOURCE_EXHAUSTED: the arena's quota. */
kaena_status krt_value_read(const krpc_message *m, const krpc_wire_tensor *w, uint8_t form,
                            kaena_arena *arena, kop_tensor *out, krpc_range *data,
                            kaena_err *err) KAENA_CHECKED;
/* Copies the bytes of a tensor of numbers; false when the quota is reached. */
bool krt_value_fill(const krpc_message *m, const krpc_range *data, kaena_arena *arena,
                    kop_tensor *t);

/* An output of an InferResponse: its bytes, and writing them (returns the end). Data is there. */
size_t krt_value_size(const char *name, const kop_tensor *t);
uint8_t *krt_value_put(uint8_t *to, const char *name, const kop_tensor *t);

#endif
