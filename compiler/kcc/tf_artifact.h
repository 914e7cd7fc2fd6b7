/* A compiled model in the shape of a SavedModel directory.
 *
 *     saved_model.pb   the signature that was compiled, over one node of operator KaenaNeff
 *     model.neff       what the node names
 *     assets/, assets.extra/   as they were
 *
 * The graph has a Placeholder per input and, under the outputs' own names, what the node gives.
 * Attributes of the node: "neff" (a file beside saved_model.pb), "compiler", "num_tpbs",
 * "input_names" and "output_names" (of the NEFF, in its order), "Tin", "Tout", "output_shapes". */
#ifndef KCC_TF_ARTIFACT_H
#define KCC_TF_ARTIFACT_H

#include "compile.h"

#define KCC_TF_NEFF_NAME "model.neff"

/* Writes saved_model.pb of the finished compilation |c| of a SavedModel to |path|. */
kaena_status kcc_tf_write_saved_model(const kcc_compilation *c, const char *path,
                                      kaena_err *err) KAENA_CHECKED;

/* Copies the directories of assets that |from| has, with all that is in them, into |to|. Links and
 * special files are refused. */
kaena_status kcc_tf_copy_assets(const char *from, const char *to, kaena_err *err) KAENA_CHECKED;

/* Fails unless a directory may be written at |path|: nothing is there, an empty directory, or a
 * compiled SavedModel, which |*replaces| says. ALREADY_EXISTS: something else. */
kaena_status kcc_tf_check_output(kaena_arena *arena, const char *path, bool *replaces,
                                 kaena_err *err) KAENA_CHECKED;

/* Puts the whole directory |from| in the place of |to| in one step; what was there is at |from|
 * then. */
kaena_status kcc_tf_deliver(const char *from, const char *to, kaena_err *err) KAENA_CHECKED;

#endif
