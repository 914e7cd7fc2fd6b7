/* From a TensorFlow graph to canonical operators. */
#ifndef KCC_TF_TRANSLATE_H
#define KCC_TF_TRANSLATE_H

#include "graph.h"
#include "io_config.h"
#include "tf_graph.h"

typedef struct tf_input {
    const char *name; /* of the model's input: "x:0" */
    tf_edge edge;     /* what it stands for; whatever made it is not translated */
    kaena_dtype dtype;
    kaena_shape shape; /* every dimension known */
} tf_input;

typedef struct tf_output {
    const char *name; /* of the model's output: "y:0"; unique among the outputs */
    tf_edge edge;
} tf_output;

/* What of a graph is the model. */
typedef struct tf_boundary {
    tf_input *in;
    tf_output *out;
    uint32_t n_in, n_out;
} tf_boundary;

/* The boundary of a frozen graph: its Placeholders and what |io| names, with shapes from |io| or
 * from the Placeholder; the outputs |io| names, or else every result that no node takes, of
 * nodes that are neither constants nor inputs nor there for training and saving.
 *
 * INVALID_ARGUMENT     |io| names what the graph lacks, or contradicts it
 * FAILED_PRECONDITION  the shape of an input is not known: the hint shows what to say */
kaena_status tf_boundary_of(tf_graph *g, const kcc_io_config *io, tf_boundary *out,
                            kaena_err *err) KAENA_CHECKED;

/* The shape of an input called |name|: what |io| says about it, checked against the model's |dtype|
 * and |shape| (which may have unknown dimensions, or |unranked|), else the model's.
 * FAILED_PRECONDITION where a dimension stays unknown; the hint has an example. */
kaena_status tf_input_shape(const kcc_io_config *io, const char *name, kaena_dtype dtype,
                            const kaena_shape *shape, bool unranked, kaena_shape *out,
                            kaena_err *err) KAENA_CHECKED;

/* What |io| says about the input "x:0": under that name, or as "x". NULL: nothing. */
const kcc_io_input *tf_io_find(const kcc_io_config *io, const char *name);

/* Translates what the outputs need. Fails naming node and operator: UNIMPLEMENTED lists the
 * operators without a row in tf_ops.def; INVALID_ARGUMENT: a cycle, a port out of range, wrong
 * attributes or types. Near-linear; values are typed when it returns. */
kaena_status tf_translate(tf_graph *g, const tf_boundary *boundary, const char *name,
                          kgr_graph **out, kaena_err *err) KAENA_CHECKED;

typedef struct tf_xlat tf_xlat; /* tf_xlat.h */

/* --- The table of operators ------------------------------------------------------------------- */

typedef struct tf_op_row {
    const char *name;
    uint32_t min_in, max_in;
    kop_op canonical; /* where it runs is where this runs; KOP_NONE: nothing is left of it, or
                         it has no result */
    /* Its output arguments in order, where there is not exactly one: "values indices".
     * "output*num": a list as long as attribute num says (a number, or a list of that length);
     * "-mean": not what anybody wants of a model. "" is one result. */
    const char *results;
    kaena_status (*translate)(tf_xlat *x); /* NULL: has no result that a model could want */
} tf_op_row;

/* The row of a TensorFlow operator, or NULL. */
const tf_op_row *tf_op_find(const char *op);
/* Row |i| in the table's order, NULL behind the last. */
const tf_op_row *tf_op_at(uint32_t i);

/* How many results |n| has by its row (1 where it has none); at most TF_MAX_PORTS. */
uint32_t tf_op_ports(const tf_node *n);
/* Whether a model could want result |port|: not one of a "-name". */
bool tf_op_port_wanted(const tf_node *n, uint32_t port);
/* The port of element |index| of output argument |name|, as functions' bodies say it
 * ("node:name:index"); an operator of one argument takes any name. False where there is none. */
bool tf_op_port_of(const tf_node *n, const char *name, uint32_t index, uint32_t *port);

#endif
