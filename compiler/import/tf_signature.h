/* Signatures of a SavedModel: which there are, and the boundary that one draws in the graph. */
#ifndef KCC_TF_SIGNATURE_H
#define KCC_TF_SIGNATURE_H

#include "tf_rewrite.h"
#include "tf_saved_model.h"
#include "tf_translate.h"

/* Finds the signature |name| (NULL: serving_default) of |meta|, or the function of that name, which
 * gets a call and a signature in |g|; into |c|. NOT_FOUND lists what there is; FAILED_PRECONDITION:
 * what there is changes a variable. */
kaena_status tf_signature_find(tf_graph *g, const Tensorflow__MetaGraphDef *meta, const char *name,
                               kcc_tf_chosen *c, kaena_err *err) KAENA_CHECKED;

/* The inputs and outputs of the signature, in the order of their keys, with what |io| says. */
kaena_status tf_signature_boundary(tf_graph *g, const kcc_tf_chosen *c, const kcc_io_config *io,
                                   tf_boundary *out, kaena_err *err) KAENA_CHECKED;

/* A walk from the signature's outputs that stops at its inputs. */
kaena_status tf_signature_walk(tf_walk *w, tf_graph *g, const kcc_tf_chosen *c,
                               kaena_err *err) KAENA_CHECKED;

/* FAILED_PRECONDITION: another signature changes a variable that this one reads. */
kaena_status tf_signature_check_state(tf_graph *g, const kcc_tf_chosen *c, const tf_boundary *b,
                                      kaena_err *err) KAENA_CHECKED;

#endif
