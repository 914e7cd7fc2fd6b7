/* Everything between reading a TensorFlow graph and translating it. */
#ifndef KCC_TF_PREPARE_H
#define KCC_TF_PREPARE_H

#include "tf_rewrite.h"
#include "tf_translate.h"

/* Rewrites |g| so that what |b|'s outputs need are only operators, If, While and Case: calls,
 * variables and control flow v1 are gone. |saver| (may be NULL) tells how variables are restored
 * from |checkpoint|. Errors are those of tf_rewrite.h. */
kaena_status tf_prepare(tf_graph *g, const tf_boundary *b, const Tensorflow__SaverDef *saver,
                        const tf_checkpoint *checkpoint, kaena_err *err) KAENA_CHECKED;

/* A walk from the outputs of |b| that stops at its inputs. False where the arena's memory ends. */
bool tf_walk_boundary(tf_walk *w, tf_graph *g, const tf_boundary *b);

#endif
