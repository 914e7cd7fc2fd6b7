/* Nodes with bodies: If, Loop, Scan. Private to this folder. */
#ifndef KGR_CONTROL_H
#define KGR_CONTROL_H

#include "graph.h"

/* One graph to be evaluated several times, with the storage that takes. NULL: no memory. */
typedef struct kgr_evaluation kgr_evaluation;
kgr_evaluation *kgr_evaluation_create(const kgr_graph *g);
kgr_evaluation *kgr_evaluation_destroy(kgr_evaluation *e);
/* As kgr_eval. */
kaena_status kgr_evaluation_run(kgr_evaluation *e, const kop_tensor *in, kop_tensor *out,
                                kop_env *env, kaena_err *err) KAENA_CHECKED;

/* Evaluates a node with bodies; |in| [n_in] has NULL where an operand is absent. Results are copies
 * in |env|'s arena. Polls and has its quota per turn. */
kaena_status kgr_eval_bodies(const kgr_node *n, const kop_tensor *const *in, kop_tensor *out,
                             kop_env *env, kaena_err *err) KAENA_CHECKED;

/* Types of the bodies' values and of the node's results. |infer_data| as kgr_infer. */
kaena_status kgr_infer_bodies(kgr_node *n, bool infer_data, kaena_err *err) KAENA_CHECKED;
/* kgr_infer of a graph whose |rounds| and bodies' are as the inference around it left them. */
kaena_status kgr_infer_inside(kgr_graph *g, bool infer_data, kaena_err *err) KAENA_CHECKED;

#endif
