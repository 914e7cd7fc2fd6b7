/* Rewrites of a TensorFlow graph before its translation: calls become what they call, variables
 * become constants, loops and branches of control flow v1 become While and If with regions. They
 * run in this order. */
#ifndef KCC_TF_REWRITE_H
#define KCC_TF_REWRITE_H

#include "tf_bundle.h"
#include "tf_graph.h"
#include "tensorflow/saved_model.pb-c.h"

#define TF_MAX_INLINED (1u << 18)   /* nodes that come from functions' bodies */
#define TF_MAX_FUNCTIONS (1u << 16) /* of one library */
#define TF_MAX_CALL_DEPTH 64        /* of functions that call functions */

/* --- Walking ---------------------------------------------------------------------------------- */

/* What of a graph is needed: nodes that were reached from roots over data and control inputs and
 * through regions. */
typedef struct tf_walk {
    tf_graph *g;
    bool *seen; /* by node id, of |capacity| */
    uint32_t capacity;
    tf_node **stack;
    uint32_t depth, stack_capacity;
} tf_walk;

/* Adds a node to be visited, unless it was. False where the arena's memory ends. */
bool tf_walk_push(tf_walk *w, tf_node *n);
/* The next node to visit, or NULL; tf_walk_inputs goes on behind it. The graph may grow meanwhile.
 */
tf_node *tf_walk_next(tf_walk *w);
bool tf_walk_inputs(tf_walk *w, const tf_node *n);
static inline bool tf_walk_seen(const tf_walk *w, const tf_node *n)
{
    return n->id < w->capacity && w->seen[n->id];
}

/* --- Calls (tf_inline.c) ---------------------------------------------------------------------- */

/* Puts the bodies of functions in the place of the calls that |w|'s pushed nodes need, and gives
 * If, While and Case of control flow v2 their functions as regions. A call becomes an IdentityN of
 * its body's results, with control inputs from what the body does beside them. Resources are passed
 * through: a body's node takes the caller's edge. |w| has seen all that is needed then.
 *
 * INVALID_ARGUMENT  no such function, one that calls itself, a body that contradicts itself
 * RESOURCE_EXHAUSTED, UNIMPLEMENTED  beyond the limits above; what we lack */
kaena_status tf_inline_calls(tf_graph *g, tf_walk *w, kaena_err *err) KAENA_CHECKED;

/* A call of function |name| as a node of the graph with that many inputs still to be added; the
 * function's signature. NOT_FOUND: no such function. */
kaena_status tf_function_find(const tf_graph *g, const char *name,
                              const Tensorflow__FunctionDef **out, kaena_err *err) KAENA_CHECKED;

/* --- Variables (tf_variables.c) --------------------------------------------------------------- */

/* The node that makes the resource or reference |e|, through what passes it on. */
const tf_node *tf_handle_of(tf_edge e);

/* Whether tf_resolve_variables takes it away: a variable, or what reads one. */
bool tf_is_variable(const tf_node *n);

/* If |n| changes a variable (or another kept state), the edge of that; else an edge without node.
 */
tf_edge tf_changed_state(const tf_node *n);

/* Where the values of variables come from. */
typedef struct tf_checkpoint {
    kcc_tf_bundle *bundle; /* NULL: the model has none */
} tf_checkpoint;

/* Makes the variables that |w| has seen constants with their values in the checkpoint, and what
 * reads them ordinary operators.
 *
 * FAILED_PRECONDITION  inference changes a variable: the message names it
 * UNIMPLEMENTED        tables and other state
 * NOT_FOUND, DATA_LOSS, INVALID_ARGUMENT  the checkpoint lacks a variable, is damaged, or has
 * another type or shape for it */
kaena_status tf_resolve_variables(tf_graph *g, const tf_walk *w, const tf_checkpoint *c,
                                  kaena_err *err) KAENA_CHECKED;

/* --- Control flow v1 (tf_frames.c, tf_branches.c) ----------------------------------------------
 */

/* Makes every loop of Enter, Merge, Switch, NextIteration and Exit a While, inner loops inside the
 * regions of outer ones. INVALID_ARGUMENT: not such a loop. */
kaena_status tf_rewrite_loops(tf_graph *g, kaena_err *err) KAENA_CHECKED;

/* Makes the Switch and Merge an If of those that |roots| need; |cuts| are the model's inputs.
 * INVALID_ARGUMENT: branches that cross, or a root that is there in one branch only. */
kaena_status tf_rewrite_branches(tf_graph *g, const tf_edge *roots, uint32_t n_roots,
                                 const tf_edge *cuts, uint32_t n_cuts,
                                 kaena_err *err) KAENA_CHECKED;

#endif
