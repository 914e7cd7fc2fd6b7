/* The graph IR: a list of nodes in topological order over values in SSA form.
 *
 * Used by importers (build), passes (rewrite), lowering (read) and host steps (evaluate). One arena
 * owns everything; nothing is freed singly. Where the arena has a quota, functions that make
 * something return NULL (or false) when it is reached; without one they never do. Operands change
 * through the functions below, never by writing to in[]: the lists of uses hang on them.
 * Thread: one at a time per graph; a finished graph may be read by many. */
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
typedef struct kgr_value kgr_value;
typedef struct kgr_graph kgr_graph;
typedef struct kgr_names kgr_names; /* the hash table that keeps names unique (names.h) */

/* An operand slot as an entry in its value's list of uses, which is in the order of their making.
 */
typedef struct kgr_use {
    kgr_node *node;
    uint32_t slot; /* node->in[slot] is the value */
    struct kgr_use *prev, *next;
} kgr_use;

/* A value of the graph: a tensor, or a sequence or optional of them. */
struct kgr_value {
    uint32_t id;      /* index into kgr_graph.values */
    const char *name; /* unique in the graph, the framework's own where it has one */
    kop_tensor t; /* dtype (NONE while unknown), shape; data != NULL: a constant, read-only, arena's
                     or the mapped model file's */
    kgr_node *producer; /* NULL: graph input or constant */
    uint32_t n_uses;    /* operand slots of nodes, plus one if it is a graph output; kept by the
                           functions below */
    bool is_input, is_output; /* of the graph */
    kgr_use *first_use, *last_use;
    const char *output_name; /* the model's name for this output where an input has it too; else
                                NULL: |name| */
    uint64_t digest;         /* of a constant whose contents the text form left out; else 0 */
};

/* Where a node is computed. */
typedef enum kgr_place {
    KGR_UNPLACED,
    KGR_DEVICE,
    KGR_HOST, /* set before the partition pass: the user's will; the node stays in one piece */
    KGR_PLAN, /* by the plan: its bodies have steps of their own, some on the device */
} kgr_place;

struct kgr_node {
    kop_op op;
    const char *name;   /* unique; made up ("Conv_12") where the framework has none */
    const char *origin; /* the framework's operator, for messages: "Conv", "Conv2D" */
    uint32_t n_in, n_out, n_attr;
    kgr_value **in;  /* NULL entries: absent optional inputs */
    kgr_use *use;    /* [n_in], the slots' entries in the lists of uses */
    kgr_value **out; /* no NULL entries: unused optional outputs have a value too, or are cut off at
                        the end */
    kop_attr *attr;
    kgr_place device;   /* set by the partition pass, or before */
    const char *reason; /* why it is on the host */
    /* The graphs it runs: of If the one for true and the one for false; of Loop and Scan one. They
     * are closed: what a body reads from outside is an operand of the node, behind the operator's
     * own, and an input of every body, behind its formal inputs, in the same order. So
     *   If(cond, captured...)             body(captured...) -> results
     *   Loop(M, cond, v..., captured...)  body(i, cond, v..., captured...) -> cond, v..., scans...
     *   Scan(states..., scans..., captured...)
     *                                     body(states..., slices..., captured...) -> states...,
     *                                     slices...
     * The attribute kaena.carried of Loop and Scan is the number of v or states (kgr_own_inputs).
     */
    kgr_graph **body;
    uint32_t n_body;
    kgr_node *prev, *next;
};

struct kgr_graph {
    kaena_arena *arena; /* bodies share it */
    const char *name;
    kgr_node *owner;        /* the node whose body this is, or NULL */
    uint32_t rounds;        /* of the inference under way in this body (control_infer.c) */
    kgr_node *first, *last; /* topological order */
    uint32_t n_nodes;
    kgr_value **values; /* every value ever made; dead ones have neither producer, data, uses nor
                           is_input */
    uint32_t n_values, cap_values;
    kgr_value **inputs, **outputs;
    uint32_t n_inputs, n_outputs, cap_inputs, cap_outputs;
    kgr_names *value_names, *node_names; /* each graph's own: bodies may repeat names */
};

#define KGR_MAX_DEPTH 32 /* of bodies in bodies: a whole graph has depth 0 */

kgr_graph *kgr_graph_create(kaena_arena *arena, const char *name);

/* --- Building -------------------------------------------------------------------------------- */

/* A fresh value; |name| is copied and made unique ("x", "x_2"); NULL makes one up. |shape| NULL:
 * not even the rank is known. */
kgr_value *kgr_value_add(kgr_graph *g, const char *name, kaena_dtype dtype,
                         const kaena_shape *shape);
/* A constant; |data| is borrowed for the graph's life and may be NULL only where there are no
 * elements. */
kgr_value *kgr_const_add(kgr_graph *g, const char *name, kaena_dtype dtype,
                         const kaena_shape *shape, const void *data);
kgr_value *kgr_const_i64(kgr_graph *g, const char *name, const int64_t *v,
                         uint32_t n);                              /* rank 1, copied */
kgr_value *kgr_const_f32(kgr_graph *g, const char *name, float v); /* rank 0 */
/* |v| has neither producer nor data, and is no input yet. */
bool kgr_input_add(kgr_graph *g, kgr_value *v);
/* |v| is no output yet. */
bool kgr_output_add(kgr_graph *g, kgr_value *v);
/* |v|, which is no output yet, becomes output number |i| instead of the present one; both keep
 * their names. */
void kgr_output_set(kgr_graph *g, uint32_t i, kgr_value *v);
/* What the model calls that output. */
static inline const char *kgr_output_name(const kgr_value *v)
{
    return v->output_name ? v->output_name : v->name;
}
/* NULL when there is none of that name. */
kgr_value *kgr_value_find(const kgr_graph *g, const char *name);

/* A node after |after| (NULL: at the end; kgr_at_start: first). Pointers in |in| are copied;
 * outputs become fresh values named |out_names[i]| (NULL: made up) of unknown type. |name| (NULL:
 * made up) and |origin| (NULL: the operator's name) are copied. */
kgr_node *kgr_node_add(kgr_graph *g, kgr_node *after, kop_op op, const char *name,
                       const char *origin, kgr_value *const *in, uint32_t n_in,
                       const char *const *out_names, uint32_t n_out);
#define kgr_at_start ((kgr_node *)-1)

/* Gives |n| its bodies, finished or not, which belong to no node yet; the list is copied. False
 * when the arena's quota is reached. */
bool kgr_node_set_bodies(kgr_graph *g, kgr_node *n, kgr_graph *const *body, uint32_t n_body);

/* Attributes: set replaces one of the same name. Names and contents are copied into the arena. */
bool kgr_attr_set(kgr_graph *g, kgr_node *n, const kop_attr *attr);
bool kgr_attr_int(kgr_graph *g, kgr_node *n, const char *name, int64_t v);
bool kgr_attr_float(kgr_graph *g, kgr_node *n, const char *name, float v);
bool kgr_attr_string(kgr_graph *g, kgr_node *n, const char *name, const char *v);
bool kgr_attr_ints(kgr_graph *g, kgr_node *n, const char *name, const int64_t *v, uint32_t count);
void kgr_attr_remove(kgr_node *n, const char *name);

/* Look-ups; the default where it is absent or has another type. */
const kop_attr *kgr_attr_find(const kgr_node *n, const char *name);
int64_t kgr_attr_get_int(const kgr_node *n, const char *name, int64_t otherwise);
float kgr_attr_get_float(const kgr_node *n, const char *name, float otherwise);
const char *kgr_attr_get_string(const kgr_node *n, const char *name, const char *otherwise);

/* --- Rewriting ------------------------------------------------------------------------------- */

void kgr_node_set_input(kgr_node *n, uint32_t i, kgr_value *v); /* v may be NULL */
bool kgr_node_add_input(kgr_graph *g, kgr_node *n, kgr_value *v);
/* Drops the operand slots from |n_in| on. */
void kgr_node_cut_inputs(kgr_node *n, uint32_t n_in);
/* Drops the slots that |drop| [n_in] marks; those behind move up. Linear. */
void kgr_node_drop_inputs(kgr_node *n, const bool *drop);
/* Drops the graph inputs that |drop| [n_inputs] marks, which nothing uses. */
void kgr_inputs_drop(kgr_graph *g, const bool *drop);

/* The model's boundary keeps its names: as a graph output only a computed value that is no output
 * yet can stand in. */
bool kgr_can_replace(const kgr_value *from, const kgr_value *to);
/* Every use of |from| becomes a use of |to|, as a graph output too: then the two swap their names.
 * Requires kgr_can_replace. Linear in the uses. */
void kgr_replace_uses(kgr_graph *g, kgr_value *from, kgr_value *to);
/* Makes |v| a constant and parts it from its producer, which the caller removes when none of its
 * outputs is used. |data| is borrowed for the graph's life. */
bool kgr_value_make_const(kgr_graph *g, kgr_value *v, void *data);
/* Removes a node whose outputs have no uses. */
void kgr_node_remove(kgr_graph *g, kgr_node *n);
/* Moves |n| behind |after| (kgr_at_start: to the front). */
void kgr_node_move(kgr_graph *g, kgr_node *n, kgr_node *after);
/* Removes every node none of whose outputs is used, in the bodies too, and what these capture and
 * do not read; returns how many nodes. Linear. */
uint32_t kgr_remove_dead(kgr_graph *g);
/* The only node that uses |v|, in one slot, or NULL when none does, several do, it is a graph
 * output, or that node is placed on the host and so not to be merged with its neighbours. */
kgr_node *kgr_only_user(const kgr_value *v);

static inline bool kgr_is_const(const kgr_value *v)
{
    return v && v->t.data;
}

/* --- Bodies ---------------------------------------------------------------------------------- */

/* Inputs that are the operator's own, not captured: If 1, Loop 2 + v, Scan states + scans; the same
 * is the number of a Loop's or Scan's formal body inputs. n_in of a node without bodies; never more
 * than n_in. */
uint32_t kgr_own_inputs(const kgr_node *n);
/* The v of a Loop, the states of a Scan. */
uint32_t kgr_carried(const kgr_node *n);
/* The input of body |b| that operand |i| becomes; NULL where none does (an If's condition). A
 * Loop's M is the count of turns there, a Scan's input one slice. */
kgr_value *kgr_body_input(const kgr_node *n, uint32_t b, uint32_t i);

/* Calls |fn| for |g|, then for every body in it, outermost first, until one fails. */
typedef kaena_status (*kgr_graph_fn)(kgr_graph *g, void *ctx, kaena_err *err);
kaena_status kgr_each_graph(kgr_graph *g, kgr_graph_fn fn, void *ctx, kaena_err *err) KAENA_CHECKED;

/* Copies |from|'s nodes and constants (data is shared) into |to| after |after| (as kgr_node_add);
 * |from|'s inputs become |in|, |out| [n_outputs] gets what its outputs become. Bodies are copied
 * too. False when the arena's quota is reached; what was added stays then. */
bool kgr_copy_nodes(kgr_graph *to, kgr_node *after, const kgr_graph *from, kgr_value *const *in,
                    kgr_value **out);
/* A copy of |g| with all its bodies, in |arena|, that shares the constants' data. NULL: quota. */
kgr_graph *kgr_copy(kaena_arena *arena, const kgr_graph *g);
/* Puts the nodes of |n|'s body |b|, an If's, in the place of |n|, which is removed. */
bool kgr_inline_body(kgr_graph *g, kgr_node *n, uint32_t b);

/* --- Whole graphs ---------------------------------------------------------------------------- */

/* A kop_call for |n| over the values' tensors; |in| and |out| need n->n_in and n->n_out places. */
kop_call kgr_call(const kgr_node *n, const kop_tensor **in, kop_tensor *out, kop_env *env,
                  kaena_err *err);

/* Topological order, single definitions, known operators and operand counts, unique names, use
 * lists, bodies' operands and results; of the bodies too. The message names the node. */
kaena_status kgr_check(const kgr_graph *g, kaena_err *err) KAENA_CHECKED;

/* Infers type and shape of every value; |infer_data| also evaluates small chains (Shape, Gather,
 * Concat ... of known shapes) and makes them constants. Fails where an operator refuses its inputs:
 * the message names node, operator and origin. */
kaena_status kgr_infer(kgr_graph *g, bool infer_data, kaena_err *err) KAENA_CHECKED;
/* Types and shapes of one node's results; the message names it. Bodies' values get theirs on the
 * way: what a loop carries is known as far as it stays the same from turn to turn. */
kaena_status kgr_infer_node(kgr_node *n, kaena_err *err) KAENA_CHECKED;
/* Evaluates |n|, whose inputs are constants or, for Shape and Size, of known shape; makes its
 * results constants and removes it. |quota| bounds the evaluation in bytes. */
kaena_status kgr_node_fold(kgr_graph *g, kgr_node *n, size_t quota, kaena_err *err) KAENA_CHECKED;

/* Evaluates the graph: |in| in the order of g->inputs, borrowed; |out| in the order of g->outputs,
 * data in |env|'s arena. Temporaries live in arenas of their own, within the same quota, and go
 * with their last use. Fails naming the node. */
kaena_status kgr_eval(const kgr_graph *g, const kop_tensor *in, kop_tensor *out, kop_env *env,
                      kaena_err *err) KAENA_CHECKED;

/* Text form, which parses back: docs/graph.md describes it. Large constants (more than 64 elements)
 * are printed as a digest unless |with_data|. */
void kgr_print(const kgr_graph *g, bool with_data, kaena_strbuf *out);
/* The message has line and column. Bounds its memory by a multiple of |size|, and of
 * KGR_RANDOM_MAX per constant made of random numbers. */
kaena_status kgr_parse(kaena_arena *arena, const char *text, size_t size, kgr_graph **out,
                       kaena_err *err) KAENA_CHECKED;

/* Reproducible numbers in (-1, 1), a multiple of 1/128 each, for `random SEED` in the text form and
 * for tests; integers: -8..7, unsigned 0..15. */
void kgr_random_fill(kop_tensor *t, uint64_t seed);
#define KGR_RANDOM_MAX ((int64_t)1 << 20) /* elements of all `random` constants of one text */

/* Compact binary form for the HOST section of a NEFF; parse checks everything (untrusted input) and
 * bounds its memory by a multiple of |size|. Constants of the parsed graph point into |data|, which
 * the caller keeps, 8-byte aligned. */
void kgr_serialise(const kgr_graph *g, kaena_strbuf *out);
kaena_status kgr_deserialise(kaena_arena *arena, const void *data, size_t size, kgr_graph **out,
                             kaena_err *err) KAENA_CHECKED;

#endif
