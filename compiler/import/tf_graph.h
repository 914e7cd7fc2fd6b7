/* A TensorFlow graph in memory: what a GraphDef or a function's body says, with names resolved.
 *
 * The importer reads it from a file, SavedModel and control flow rewrite it (variables become
 * constants, calls become bodies, Switch and Merge become If), tf_translate.h makes canonical
 * operators of it. Nodes are never removed: what no output needs is not translated. Cycles are
 * allowed here, because loops of control flow v1 are cycles. One arena owns everything; strings and
 * attributes may be borrowed from messages that live as long. Thread: one at a time. */
#ifndef KCC_TF_GRAPH_H
#define KCC_TF_GRAPH_H

#include <stdbool.h>
#include <stdint.h>

#include "arena.h"
#include "err.h"
#include "name_table.h"
#include "ops.h"
#include "tensorflow/graph.pb-c.h"

#define TF_MAX_PORTS 65536 /* of one node */
/* Elements of a constant that stands in the file as fewer values; real ones are padding and masks.
 */
#define TF_MAX_FILL (1 << 26)

typedef struct tf_node tf_node;

/* A result of a node: "node:port". */
typedef struct tf_edge {
    tf_node *node;
    uint32_t port;
} tf_edge;

typedef struct tf_attr {
    const char *name;
    const Tensorflow__AttrValue *value;
} tf_attr;

/* A part of the graph that a node runs: a branch of an If or Case, the condition or the body of a
 * While. Its nodes are the graph's; what cuts them off is |in|. */
typedef struct tf_region {
    tf_edge *in;  /* what stands inside for each input that the region gets; node NULL: nothing */
    tf_edge *out; /* its results */
    uint32_t n_in, n_out;
} tf_region;

struct tf_node {
    uint32_t id;      /* index into tf_graph.nodes */
    const char *name; /* unique in the graph */
    const char *op;
    tf_edge *in; /* data inputs, in order */
    uint32_t n_in, cap_in;
    tf_node **control; /* runs after these */
    uint32_t n_control, cap_control;
    tf_attr *attr;
    uint32_t n_attr, cap_attr;
    const kop_tensor *tensor; /* of a Const that tf_node_make_const made; else NULL: attribute
                                 "value" */
    tf_region *region;        /* of If: true and false; Case: one each; While: condition and body */
    uint32_t n_region;
};

typedef struct tf_graph {
    kaena_arena *arena;
    tf_node **nodes;
    uint32_t n_nodes, cap_nodes;
    kcc_name_table names;
    const Tensorflow__FunctionDefLibrary *library; /* may be NULL */
    int32_t producer; /* GraphDef version of whoever wrote it; it decides some defaults */
} tf_graph;

/* NULL (or false) only where the arena has a quota, as everywhere below. */
tf_graph *tf_graph_create(kaena_arena *arena);

/* Whether a file of that name holds text: *.pbtxt. */
bool tf_is_text(const char *path);
/* A GraphDef from a file's bytes, which may go after the call. INVALID_ARGUMENT: damaged. */
kaena_status tf_graph_def_parse(kaena_arena *arena, const void *data, size_t size, bool text,
                                Tensorflow__GraphDef **out, kaena_err *err) KAENA_CHECKED;

/* The nodes of |pb|, which is borrowed for the graph's life. INVALID_ARGUMENT: a name given twice,
 * or an input that is no node's. */
kaena_status tf_graph_of_pb(kaena_arena *arena, const Tensorflow__GraphDef *pb, tf_graph **out,
                            kaena_err *err) KAENA_CHECKED;

/* --- Building and rewriting ------------------------------------------------------------------- */

/* A node without inputs and attributes; |name| and |op| are borrowed. |name| must be new: NULL if
 * it is not (tf_graph_fresh_name makes new ones). */
tf_node *tf_node_add(tf_graph *g, const char *name, const char *op);
/* |name|, or |name|_1, ... if there is such a node. */
const char *tf_graph_fresh_name(tf_graph *g, const char *name);
bool tf_node_add_input(tf_graph *g, tf_node *n, tf_edge e);
void tf_node_set_input(tf_node *n, uint32_t i, tf_edge e); /* i < n->n_in */
bool tf_node_add_control(tf_graph *g, tf_node *n, tf_node *before);
/* Replaces one of the same name; |name| and |value| are borrowed. */
bool tf_node_set_attr(tf_graph *g, tf_node *n, const char *name,
                      const Tensorflow__AttrValue *value);
/* Makes |n| a Const without inputs; |t| is borrowed. */
void tf_node_make_const(tf_node *n, const kop_tensor *t);
/* Drops inputs, control inputs, attributes and regions of |n|, which becomes |op|. */
void tf_node_reset(tf_node *n, const char *op);
/* Makes |n| an Identity of |e|. */
bool tf_node_make_identity(tf_graph *g, tf_node *n, tf_edge e);

/* --- Looking ---------------------------------------------------------------------------------- */

/* NULL where there is none. */
tf_node *tf_graph_find(const tf_graph *g, const char *name);
/* "node", "node:0", "node:1". INVALID_ARGUMENT: no such node, or not a tensor's name ("^node"). */
kaena_status tf_graph_find_edge(const tf_graph *g, const char *name, tf_edge *out,
                                kaena_err *err) KAENA_CHECKED;
/* The part of a tensor's name before ":PORT" copied into |arena|, and the port; false for "^node",
 * for a port above TF_MAX_PORTS and where memory ends. */
bool tf_split_name(kaena_arena *arena, const char *name, const char **node, uint32_t *port);
/* |e| without the Identity nodes it goes through, a few at most: there may be long chains, and
 * cycles.
 */
tf_edge tf_edge_origin(tf_edge e);
/* The attribute's value, or NULL. */
const Tensorflow__AttrValue *tf_node_attr(const tf_node *n, const char *name);

/* --- Values ----------------------------------------------------------------------------------- */

/* Our element type for TensorFlow's (X and X_REF): UNIMPLEMENTED names the ones we lack. */
kaena_status tf_dtype(int number, kaena_dtype *out, kaena_err *err) KAENA_CHECKED;
/* "float", "int32" ... as TensorFlow calls it, for messages. */
const char *tf_dtype_name(int number);
/* Dimensions below 0 become KAENA_DIM_UNKNOWN; a missing shape and unknown rank give
 * |*unranked|. */
kaena_status tf_shape(const Tensorflow__TensorShapeProto *pb, kaena_shape *out, bool *unranked,
                      kaena_err *err) KAENA_CHECKED;
/* The tensor in |pb|: data is borrowed from it where it has our form, else |arena|'s.
 * INVALID_ARGUMENT: sizes that do not fit the shape. */
kaena_status tf_tensor(kaena_arena *arena, const Tensorflow__TensorProto *pb, kop_tensor *out,
                       kaena_err *err) KAENA_CHECKED;

#endif
