/* A compiled model in the shape of an MXNet checkpoint.
 *
 *     P-symbol.json    one node `_kaena_neff` over the inputs; its attributes are the signature
 *     P-NNNN.neff      what the node names
 *     P-NNNN.params    a list of no arrays: the weights are in the NEFF
 *
 * Attributes of the node: "neff" (a file beside the symbol), "compiler", "num_tpbs",
 * "output_names", "output_shapes" and "output_dtypes" (JSON lists). Inputs are variables with
 * "__shape__" and
 * "__dtype__" (MXNet's number). */
#ifndef KCC_MX_ARTIFACT_H
#define KCC_MX_ARTIFACT_H

#include "compile.h"

/* Writes the symbol of the finished compilation |c|, called |name|, whose NEFF is |neff|. */
kaena_status kcc_mx_write_symbol(const kcc_compilation *c, const char *name, const char *neff,
                                 const char *path, kaena_err *err) KAENA_CHECKED;
kaena_status kcc_mx_write_no_params(const char *path, kaena_err *err) KAENA_CHECKED;

#endif
