/* The graph IR: a list of nodes in topological order over values in SSA form.
 *
 * Used by importers (build), passes (rewrite), lowering (read) and host steps (evaluate). One arena
 * owns everything; nothing is freed singly. Thread: one at a time per graph; a finished graph may
 * be read by many. */
#ifndef KAENA_GRAPH_H
#define KAENA_GRAPH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "arena.h"
#include "err.h"
#include "ops.h"
#include "strbuf.h"

typedef struct kgr_node kgr_node;

/* A tensor of the graph. */
typedef struct kgr_value {
    uint32_t id;      /* index into kgr_graph.values */
    const char *name; /* unique in the graph, the framework's own where it has one */
    kop_tensor t; /* dtype (NONE while unknown), shape; data != NULL: a constant, read-only, arena's
                     or the mapped model file's */
    kgr_node *producer; /* NULL: graph input or constant */
    uint32_t
        n_uses; /* operand slots of nodes, plus one per graph output; kept by the functions below */
} kgr_value;

struct kgr_node {
    kop_op op;
    const char *name;   /* unique; made up ("Conv_12") where the framework has none */
    const char *origin; /* the framework's operator, for messages: "Conv", "Conv2D" */
    uint32_t n_in, n_out, n_attr;
    kgr_value **in;  /* NULL entries: absent optional inputs */
    kgr_value **out; /* no NULL entries: unused optional outputs have a value too, or are cut off at
                        the end */
    kop_attr *attr;
    int32_t device;     /* set by the partition pass: 0 undecided, 1 device, 2 host */
    const char *reason; /* why it is on the host */
    kgr_node *prev, *next;
};

typedef struct kgr_graph {
    kaena_arena *arena;
    const char *name;
    kgr_node *first, *last; /* topological order */
    uint32_t n_nodes;
    kgr_value **values; /* every value ever made; dead ones have neither producer, data, uses nor
                           is_input */
    uint32_t n_values, cap_values;
    kgr_value **inputs, **outputs;
    uint32_t n_inputs, n_outputs;
} kgr_graph;

kgr_graph *kgr_graph_create(kaena_arena *arena, const char *name);

/* --- Building
 * -------------------------------------------------------------------------------------------------------------------------
 */

/* A fresh value; |name| is copied and made unique ("x", "x_2"); NULL makes one up. */
kgr_value *kgr_value_add(kgr_graph *g, const char *name, kaena_dtype dtype,
                         const kaena_shape *shape);
/* A constant; |data| is borrowed for the graph's life. */
kgr_value *kgr_const_add(kgr_graph *g, const char *name, kaena_dtype dtype,
                         const kaena_shape *shape, const void *data);
kgr_value *kgr_const_i64(kgr_graph *g, const char *name, const int64_t *v,
                         uint32_t n);                              /* rank 1, copied */
kgr_value *kgr_const_f32(kgr_graph *g, const char *name, float v); /* rank 0 */
void kgr_input_add(kgr_graph *g, kgr_value *v);
void kgr_output_add(kgr_graph *g, kgr_value *v);
kgr_value *kgr_value_find(const kgr_graph *g,
                          const char *name); /* linear; importers keep their own table */

/* A node after |after| (NULL: at the end; kgr_at_start: first). Pointers in |in| are copied;
 * outputs become fresh values named |out_names[i]| (NULL: made up) of unknown type. |name| and
 * |origin| are copied. */
kgr_node *kgr_node_add(kgr_graph *g, kgr_node *after, kop_op op, const char *name,
                       const char *origin, kgr_value *const *in, uint32_t n_in,
                       const char *const *out_names, uint32_t n_out);
#define kgr_at_start ((kgr_node *)-1)

/* Attributes: set replaces one of the same name. Names and contents are copied into the arena. */
void kgr_attr_set(kgr_graph *g, kgr_node *n, const kop_attr *attr);
void kgr_attr_int(kgr_graph *g, kgr_node *n, const char *name, int64_t v);
void kgr_attr_float(kgr_graph *g, kgr_node *n, const char *name, float v);
void kgr_attr_string(kgr_graph *g, kgr_node *n, const char *name, const char *v);
void kgr_attr_ints(kgr_graph *g, kgr_node *n, const char *name, const int64_t *v, uint32_t count);
void kgr_attr_remove(kgr_node *n, const char *name);

/* --- Rewriting
 * ------------------------------------------------------------------------------------------------------------------------
 */

void kgr_node_set_input(kgr_node *n, uint32_t i, kgr_value *v); /* v may be NULL */
void kgr_node_add_input(kgr_graph *g, kgr_node *n, kgr_value *v);
/* Every use of |from| (graph outputs too) becomes a use of |to|. Linear in the graph. */
void kgr_replace_uses(kgr_graph *g, kgr_value *from, kgr_value *to);
/* Removes a node whose outputs have no uses. */
void kgr_node_remove(kgr_graph *g, kgr_node *n);
/* Removes every node none of whose outputs is used; returns how many. */
uint32_t kgr_remove_dead(kgr_graph *g);
/* The only node that uses |v|, or NULL when it is used by none, several, or a graph output. Linear
 * unless |users| was built. */
kgr_node *kgr_only_user(const kgr_graph *g, const kgr_value *v);

/* Users of every value at one moment, to be rebuilt after rewriting; index by value id. */
typedef struct kgr_users {
    kgr_node ***of; /* of[id][0 .. n[id]) */
    uint32_t *n;
} kgr_users;
kgr_users kgr_users_build(const kgr_graph *g, kaena_arena *arena);

/* --- Whole graphs
 * ---------------------------------------------------------------------------------------------------------------------
 */

/* A kop_call for |n| over the values' tensors; |in| and |out| need n->n_in and n->n_out places. */
kop_call kgr_call(const kgr_node *n, const kop_tensor **in, kop_tensor *out, kop_env *env,
                  kaena_err *err);

/* Topological order, single definitions, known operators and operand counts, unique names, use
 * counts. The message names the node. */
kaena_status kgr_check(const kgr_graph *g, kaena_err *err) KAENA_CHECKED;

/* Infers type and shape of every value; |infer_data| also evaluates small integer chains (Shape,
 * Gather, Concat ... of known shapes) and makes them constants. Fails where an operator refuses its
 * inputs: the message names node, operator and origin. */
kaena_status kgr_infer(kgr_graph *g, bool infer_data, kaena_err *err) KAENA_CHECKED;

/* Evaluates the graph: |in| in the order of g->inputs, borrowed; |out| in the order of g->outputs,
 * data in |env|'s arena. Frees no intermediate early unless |release| (then temporaries live in
 * arenas of their own and go with their last use). Fails naming the node. */
kaena_status kgr_eval(const kgr_graph *g, const kop_tensor *in, kop_tensor *out, kop_env *env,
                      kaena_err *err) KAENA_CHECKED;

/* Text form, which parses back: docs/graph.md describes it. Large constants (more than 64 elements)
 * are printed as a digest unless |with_data|. */
void kgr_print(const kgr_graph *g, bool with_data, kaena_strbuf *out);
/* The message has line and column. */
kaena_status kgr_parse(kaena_arena *arena, const char *text, size_t size, kgr_graph **out,
                       kaena_err *err) KAENA_CHECKED;

/* Compact binary form for the HOST section of a NEFF; parse checks everything (untrusted input) and
 * bounds its memory by a multiple of |size|. Constants of the parsed graph point into |data|, which
 * the caller keeps, 8-byte aligned. */
void kgr_serialise(const kgr_graph *g, kaena_strbuf *out);
kaena_status kgr_deserialise(kaena_arena *arena, const void *data, size_t size, kgr_graph **out,
                             kaena_err *err) KAENA_CHECKED;

#endif
