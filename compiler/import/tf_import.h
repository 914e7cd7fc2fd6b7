/* Imports TensorFlow's frozen graphs: a GraphDef, binary (.pb) or as text (.pbtxt). */
#ifndef KCC_TF_IMPORT_H
#define KCC_TF_IMPORT_H

#include "arena.h"
#include "census.h"
#include "err.h"
#include "graph.h"
#include "import_info.h"
#include "io_config.h"

/* Reads the GraphDef in |path| (path or file:// URI; text if it is named *.pbtxt) and translates
 * it. |io| fixes shapes and selects outputs; it may be NULL. Everything lives in |arena|. Every
 * byte is untrusted.
 *
 * INVALID_ARGUMENT     damaged, or it contradicts itself or |io|
 * FAILED_PRECONDITION  an input's shape is not fixed: the hint shows what to say
 * UNIMPLEMENTED        operators or element types that we lack: the message names node and operator
 * RESOURCE_EXHAUSTED   expands beyond a bound
 * NOT_FOUND            no such file */
kaena_status kcc_import_tf_graph(kaena_arena *arena, const char *path, const kcc_io_config *io,
                                 kgr_graph **out, kcc_import_info *info,
                                 kaena_err *err) KAENA_CHECKED;

/* The same from memory, which may go after the call. */
kaena_status kcc_import_tf_bytes(kaena_arena *arena, const void *data, size_t size, bool text,
                                 const kcc_io_config *io, kgr_graph **out, kcc_import_info *info,
                                 kaena_err *err) KAENA_CHECKED;

/* Counts the operators of the GraphDef in |path|, its functions' too; out->arena is set. */
kaena_status kcc_tf_census(const char *path, kcc_census *out, kaena_err *err) KAENA_CHECKED;

#endif
