/* The boundary of an ONNX model: inputs with their shapes fixed, outputs chosen. */
#ifndef KCC_ONNX_IO_H
#define KCC_ONNX_IO_H

#include "onnx_internal.h"

/* Makes the graph's inputs and defines their names, and those of the initializers, in |s|. Symbolic
 * dimensions take what --io-config says about them, or about another dimension of the same symbol.
 */
kaena_status onnx_io_inputs(onnx_scope *s, Onnx__GraphProto *graph) KAENA_CHECKED;

/* The names of the outputs: the graph's own or those that --io-config selects, which may be any
 * values of the sorted scope |s|. */
kaena_status onnx_io_output_names(onnx_scope *s, const Onnx__GraphProto *graph,
                                  const char *const **out, uint32_t *n) KAENA_CHECKED;

#endif
