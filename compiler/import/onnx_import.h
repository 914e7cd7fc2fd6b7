/* Imports ONNX models into the graph IR.
 *
 * Every IR version from 1, operator sets 1 to KCC_ONNX_MAX_OPSET of the default domain: older forms
 * are translated into the canonical operators of ops.def. Model-local functions are inlined; nodes
 * that no output needs are left out. Every byte of a model is untrusted. */
#ifndef KCC_ONNX_IMPORT_H
#define KCC_ONNX_IMPORT_H

#include "arena.h"
#include "census.h"
#include "err.h"
#include "graph.h"
#include "import_info.h"
#include "io_config.h"

#define KCC_ONNX_MAX_IR 13
#define KCC_ONNX_MAX_OPSET 21
/* Lists that are searched one by one; real models stay far below. */
#define KCC_ONNX_MAX_FUNCTIONS 4096
#define KCC_ONNX_MAX_OPERATOR_SETS 256
#define KCC_ONNX_MAX_ATTRIBUTES 256     /* of one node */
#define KCC_ONNX_MAX_CALL_DEPTH 16      /* of functions that call functions */
#define KCC_ONNX_MAX_INLINED (1u << 17) /* nodes that come from function bodies */

/* Imports the file |path| (or file:// URI). |io| may be NULL; it fixes symbolic dimensions and
 * selects outputs. The graph and what it borrows live in |arena|: weights are copied once, from the
 * file. Types and shapes beyond the inputs are not inferred yet (kgr_infer).
 *
 * NOT_FOUND            no such file, or none of the external data it names
 * INVALID_ARGUMENT     not an ONNX model, damaged, contradicts itself, or |io| does not fit it: the
 * message names the part, the hint says what to do FAILED_PRECONDITION  a symbolic dimension that
 * |io| does not fix UNIMPLEMENTED        an operator, element type or version we do not have: the
 * message names node, operator, domain and operator set */
kaena_status kcc_import_onnx(kaena_arena *arena, const char *path, const kcc_io_config *io,
                             kgr_graph **out, kcc_import_info *info, kaena_err *err) KAENA_CHECKED;

/* The same from memory, which may go after the call. |dir| is where external data may lie; NULL:
 * external data is refused. */
kaena_status kcc_import_onnx_bytes(kaena_arena *arena, const void *data, size_t size,
                                   const char *dir, const kcc_io_config *io, kgr_graph **out,
                                   kcc_import_info *info, kaena_err *err) KAENA_CHECKED;

/* Counts the operators of the file |path|; out->arena is set. */
kaena_status kcc_onnx_census(const char *path, kcc_census *out, kaena_err *err) KAENA_CHECKED;

/* Operator |i| of other domains than ONNX's own, "com.microsoft.Gelu", and what computes its first
 * output; false behind the last. */
bool kcc_onnx_foreign_operator(uint32_t i, const char **name, kop_op *canonical);

#endif
