/* Imports MXNet checkpoints into the graph IR: P-symbol.json (the graph) and P-NNNN.params (what
 * was learned).
 *
 * Symbols of every version from 0.8 (the keys `param`, `attr` and `attrs` hold what later is all in
 * `attrs`), parameter files of all four array formats. Variables that have no parameter become
 * inputs; labels of output operators are dropped; shapes that only follow from their use (weights,
 * initial states) are inferred. Every byte of both files is untrusted: the memory taken is at most
 * some 200 bytes per byte of the symbol, plus the parameters once, plus what zeros and ones of the
 * symbol's own take (KCC_MX_MAX_FILLED elements in all). */
#ifndef KCC_MX_IMPORT_H
#define KCC_MX_IMPORT_H

#include "arena.h"
#include "census.h"
#include "err.h"
#include "graph.h"
#include "import_info.h"
#include "io_config.h"

#define KCC_MX_MAX_SYMBOL ((size_t)256 << 20) /* bytes of JSON */
#define KCC_MX_MAX_DEPTH 24                   /* of brackets in it */
#define KCC_MX_MAX_VALUES (1u << 25)          /* in it; a node takes about a dozen */
#define KCC_MX_MAX_FILLED ((int64_t)1 << 24)  /* elements of _zeros, _ones, _arange, ... */

/* |params| of kcc_import_mx that asks for none: all variables become inputs. */
#define KCC_MX_NO_PARAMS "none"

/* Imports the checkpoint |prefix| (a path, or file:// URI, to which "-symbol.json" is added unless
 * it ends so). |params| is a file; NULL: the |prefix|-NNNN.params with the highest number. |io| may
 * be NULL; it gives shapes and types of inputs and selects outputs (any node's: "conv1_output").
 * The graph and what it borrows live in |arena|.
 *
 * NOT_FOUND            no such symbol or parameters
 * INVALID_ARGUMENT     damaged, contradicts itself, or |io| does not fit it
 * FAILED_PRECONDITION  an input whose shape nothing says, or a parameter that is missing
 * UNIMPLEMENTED        an operator, mode or storage type we do not have: the message names node and
 * operator */
kaena_status kcc_import_mx(kaena_arena *arena, const char *prefix, const char *params,
                           const kcc_io_config *io, kgr_graph **out, kcc_import_info *info,
                           kaena_err *err) KAENA_CHECKED;

/* The same from memory, which may go after the call. |params| NULL: none. */
kaena_status kcc_import_mx_bytes(kaena_arena *arena, const void *symbol, size_t symbol_size,
                                 const void *params, size_t params_size, const kcc_io_config *io,
                                 kgr_graph **out, kcc_import_info *info,
                                 kaena_err *err) KAENA_CHECKED;

/* The parameter file that belongs to |prefix|: of epoch |epoch|, or the highest there is when
 * |epoch| is negative. NOT_FOUND names the pattern. */
kaena_status kcc_mx_params_path(kaena_arena *arena, const char *prefix, int64_t epoch,
                                const char **out, kaena_err *err) KAENA_CHECKED;

/* The number in "<base>-0012.params"; negative where |file| is not called so. */
int64_t kcc_mx_epoch_of(const char *file, const char *base, size_t n_base);

/* Counts the operators of the symbol of |prefix|. */
kaena_status kcc_mx_census(const char *prefix, kcc_census *out, kaena_err *err) KAENA_CHECKED;

/* The operators that are understood, one after another, and the canonical operator that does the
 * work; NULL after the last. */
const char *kcc_mx_operator(uint32_t i, kop_op *op);

#endif
