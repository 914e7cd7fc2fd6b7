/* Imports TensorFlow's SavedModel directories, of TensorFlow 1 and 2. */
#ifndef KCC_TF_SAVED_MODEL_H
#define KCC_TF_SAVED_MODEL_H

#include "arena.h"
#include "census.h"
#include "err.h"
#include "graph.h"
#include "import_info.h"
#include "io_config.h"
#include "tensorflow/saved_model.pb-c.h"
#include "tf_bundle.h"

#define KCC_TF_DEFAULT_TAGS "serve"
#define KCC_TF_DEFAULT_SIGNATURE "serving_default"
/* The operator of the only node of a SavedModel that kaena_tf_compile has made. */
#define KCC_TF_COMPILED_OP "KaenaNeff"

/* Which of a SavedModel's graphs, and what of it. */
typedef struct kcc_tf_choice {
    const char *tags;      /* with commas between them; NULL: the default */
    const char *signature; /* NULL: the default */
} kcc_tf_choice;

/* What was chosen; the arena's. */
typedef struct kcc_tf_chosen {
    const Tensorflow__MetaGraphDef *meta;
    const char *signature_name;
    const Tensorflow__SignatureDef *signature; /* made up where a function was named */
} kcc_tf_chosen;

/* Imports the SavedModel in |dir|: variables become constants, functions are put in the place of
 * their calls, what the signature's outputs do not need is left out. The model's inputs and outputs
 * are the signature's, in the order of their keys, under the names of their tensors ("x:0"); |io|
 * (may be NULL) may call them by key as well, and select among the outputs. |choice| and |chosen|
 * may be NULL. A function's name, or that of an attribute of the saved object, may stand for a
 * signature's.
 *
 * NOT_FOUND            no such directory, graph (the message lists tags), signature (it lists
 *                      signatures) or value of a variable
 * FAILED_PRECONDITION  inference changes a variable, which the message names; a shape is not fixed;
 *                      the model is compiled already
 * UNIMPLEMENTED        legacy formats, tables, operators we lack
 * and what kcc_import_tf_graph and kcc_tf_bundle_read say. */
kaena_status kcc_import_saved_model(kaena_arena *arena, const char *dir,
                                    const kcc_tf_choice *choice, const kcc_io_config *io,
                                    kgr_graph **out, kcc_import_info *info, kcc_tf_chosen *chosen,
                                    kaena_err *err) KAENA_CHECKED;

/* The same from memory: a SavedModel message (as text if |text|), which may go after the call, and
 * its checkpoint (NULL: none). */
kaena_status kcc_import_saved_model_bytes(kaena_arena *arena, const void *data, size_t size,
                                          bool text, kcc_tf_bundle *bundle,
                                          const kcc_tf_choice *choice, const kcc_io_config *io,
                                          kgr_graph **out, kcc_import_info *info,
                                          kcc_tf_chosen *chosen, kaena_err *err) KAENA_CHECKED;

/* Counts the operators that the signature's outputs need, those inside of functions too. */
kaena_status kcc_saved_model_census(const char *dir, const kcc_tf_choice *choice, kcc_census *out,
                                    kaena_err *err) KAENA_CHECKED;

#endif
