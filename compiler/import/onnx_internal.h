/* The parts of the ONNX importer to each other: model -> scopes of names -> nodes -> translations
 * of old forms. */
#ifndef KCC_ONNX_INTERNAL_H
#define KCC_ONNX_INTERNAL_H

#include <stdbool.h>
#include <stdint.h>

#include "graph.h"
#include "io_config.h"
#include "name_table.h"
#include "onnx/onnx.pb-c.h"

/* A string of a message, which may be absent. */
static inline const char *onnx_text(const char *s)
{
    return s ? s : "";
}

/* One import. */
typedef struct onnx_import {
    kaena_arena *arena;
    kgr_graph *g; /* of the scope whose nodes are being added */
    Onnx__ModelProto *model;
    const char *dir; /* of external data, or NULL */
    const kcc_io_config *io;
    kaena_err *err;
    kgr_node *inferred; /* the last node of |g| whose outputs' types are known; NULL: none */
    bool untyped; /* what follows it refuses to be inferred, perhaps in a branch never taken */
    uint32_t n_inlined; /* nodes of function bodies so far */
} onnx_import;

/* What a name of a scope stands for. */
typedef struct onnx_def {
    const char *name;
    kgr_value *value; /* once it exists; of a function input that the call leaves out: never */
    Onnx__TensorProto *init; /* an initializer: becomes a constant at its first use */
    int32_t producer;        /* index of the node that makes it, or -1 */
    uint32_t n_uses;         /* by nodes of the scope and as its output */
    const char *out_name;    /* the name outside of a function's output; else NULL */
} onnx_def;

typedef struct onnx_opset {
    const char *domain; /* "" for the default one */
    int64_t version;
} onnx_opset;

/* An attribute of a node with references to a function's call resolved. */
typedef struct onnx_attr {
    const char *name;
    Onnx__AttributeProto *pb;
} onnx_attr;

/* Names that a node's subgraphs read from around them, each once. */
typedef struct onnx_captures {
    const char **name;
    uint32_t n;
} onnx_captures;

/* A namespace: the main graph, a function's body at one call, or a subgraph of a node. */
typedef struct onnx_scope {
    onnx_import *imp;
    Onnx__NodeProto **nodes;
    uint32_t n_nodes;
    onnx_captures *captures; /* [n_nodes] */
    uint32_t *order;         /* [n_nodes] topological */
    bool *needed;            /* [n_nodes] by the outputs */
    kcc_name_table names;
    onnx_def *defs; /* names' numbers are indices */
    uint32_t n_defs, cap_defs;
    onnx_opset *opsets;
    uint32_t n_opsets;
    const char *prefix; /* of values and nodes: "" or "call::" */
    /* A function's body: */
    const onnx_attr *call_attr; /* what the call gives */
    uint32_t n_call_attr;
    const Onnx__FunctionProto *function; /* NULL in the main graph */
    const struct onnx_scope *caller;     /* or what surrounds a subgraph; NULL in the main graph */
    uint32_t depth;                      /* of calls; 0 in the main graph */
    uint32_t level;                      /* of subgraphs; 0 in the main graph */
} onnx_scope;

/* One node on its way into the graph. Translations change what it is before it is added. */
typedef struct onnx_xlat {
    onnx_import *imp;
    onnx_scope *scope;
    const Onnx__NodeProto *pb;
    const onnx_captures *captures;
    const char *name; /* with the scope's prefix; "" where it has none */
    const char
        *label; /* for messages and for naming what is made up: |name| or the first output's name */
    const char *op; /* the ONNX name, current */
    int64_t opset;
    kgr_value *in[KOP_MAX_INPUTS]; /* NULL: left out */
    uint32_t n_in;
    const char *out_names[KOP_MAX_OUTPUTS]; /* with prefix; NULL: nobody wants it */
    uint32_t n_out;
    kop_attr *attr;
    uint32_t n_attr, cap_attr;
    bool done; /* the translation has added everything itself and filled |out| */
    kgr_value *out[KOP_MAX_OUTPUTS];
} onnx_xlat;

/* --- onnx_scope.c ---------------------------------------------------------------------------- */

/* Adds a name; INVALID_ARGUMENT when it is there already. |*out| moves with the next call. */
kaena_status onnx_scope_define(onnx_scope *s, const char *name, onnx_def **out) KAENA_CHECKED;
/* Defines what the scope's nodes make (inputs and initializers are defined before) and sorts the
 * nodes topologically. */
kaena_status onnx_scope_sort(onnx_scope *s) KAENA_CHECKED;
/* Marks the nodes that |outputs| need, and counts uses by these. After sorting. */
kaena_status onnx_scope_mark(onnx_scope *s, const char *const *outputs,
                             uint32_t n_outputs) KAENA_CHECKED;
onnx_def *onnx_scope_find(const onnx_scope *s, const char *name);
/* The value of a name that is defined; makes an initializer's constant. |*out| is NULL for what a
 * function's call leaves out. */
kaena_status onnx_scope_value(onnx_scope *s, const char *name, kgr_value **out) KAENA_CHECKED;
/* What to call a node in messages: its name, or its first output's. */
const char *onnx_node_label(const Onnx__NodeProto *n);
/* "" for the default domain, by either of its names. */
const char *onnx_domain(const char *domain);
/* The version of |domain| the scope imports, 0 when it imports none. */
int64_t onnx_scope_opset(const onnx_scope *s, const char *domain);
/* Fills |s|->opsets from a model's or function's list. */
kaena_status onnx_scope_set_opsets(onnx_scope *s, Onnx__OperatorSetIdProto **list,
                                   size_t n) KAENA_CHECKED;

/* --- onnx_import.c --------------------------------------------------------------------------- */

/* Fills the main scope's operator sets from the model; refuses versions we do not know. */
kaena_status onnx_model_set_opsets(onnx_scope *s) KAENA_CHECKED;

/* --- onnx_node.c ----------------------------------------------------------------------------- */

/* Whether there is a function, a canonical operator or a translation for it. */
bool onnx_operator_known(const onnx_scope *s, const char *domain, const char *op);
/* Adds the scope's needed nodes to the graph. Fails first if any has an operator that we do not
 * have, naming them all. */
kaena_status onnx_import_nodes(onnx_scope *s) KAENA_CHECKED;
/* The attributes of |node| with references to the scope's call resolved. */
kaena_status onnx_attrs_resolve(onnx_scope *s, const Onnx__NodeProto *node, onnx_attr **out,
                                uint32_t *n) KAENA_CHECKED;

/* --- onnx_function.c ------------------------------------------------------------------------- */

Onnx__FunctionProto *onnx_function_find(const onnx_import *imp, const char *domain,
                                        const char *name);
/* Adds the body of |f| in place of |x|, which fills |x|->out. */
kaena_status onnx_function_inline(onnx_xlat *x, Onnx__FunctionProto *f) KAENA_CHECKED;

/* --- onnx_body.c ----------------------------------------------------------------------------- */

/* The graph of an attribute, or NULL. */
Onnx__GraphProto *onnx_attr_graph(const Onnx__AttributeProto *a);
/* Finds what the subgraphs of |n| read from around them; nothing where it has none. */
kaena_status onnx_captures_of(onnx_import *imp, const Onnx__NodeProto *n,
                              onnx_captures *out) KAENA_CHECKED;
/* The values of |x|'s captures; |out| [x->captures->n], NULL where a function's call left one out.
 */
kaena_status onnx_capture_values(onnx_xlat *x, kgr_value **out) KAENA_CHECKED;
/* Makes a graph of |pb|, whose inputs are its own |n_formal|, then one for each of |captured|, the
 * values of |x|'s captures.
 */
kaena_status onnx_body_import(onnx_xlat *x, Onnx__GraphProto *pb, uint32_t n_formal,
                              kgr_value *const *captured, kgr_graph **out) KAENA_CHECKED;

/* --- onnx_control.c -------------------------------------------------------------------------- */

/* Whether |op| of the default domain is a node with subgraphs that we know. */
bool onnx_has_bodies(const char *op);
/* Adds |x|, whose attributes are converted, with its subgraphs. */
kaena_status onnx_control(onnx_xlat *x) KAENA_CHECKED;

/* --- onnx_type.c ----------------------------------------------------------------------------- */

/* Form, element type and shape that |type| says, symbols as unknown dimensions. |what| names the
 * thing in messages ("input 'x'"). UNIMPLEMENTED: maps, sparse tensors, deeper nesting. */
kaena_status onnx_type_of_pb(const Onnx__TypeProto *type, const char *what, kop_tensor *out,
                             kaena_err *err) KAENA_CHECKED;

/* --- onnx_xlat.c: what translations use ------------------------------------------------------ */

/* Failures; the caller puts the node's name in front. */
kaena_status onnx_xlat_no_memory(onnx_xlat *x);
kaena_status onnx_xlat_bad(onnx_xlat *x, const char *what);
const kop_attr *onnx_xlat_attr(const onnx_xlat *x, const char *name);
int64_t onnx_xlat_int(const onnx_xlat *x, const char *name, int64_t otherwise);
float onnx_xlat_float(const onnx_xlat *x, const char *name, float otherwise);
const char *onnx_xlat_string(const onnx_xlat *x, const char *name, const char *otherwise);
kaena_status onnx_xlat_set(onnx_xlat *x, const kop_attr *attr) KAENA_CHECKED;
void onnx_xlat_drop(onnx_xlat *x, const char *name);
/* Input |i|, or NULL. */
kgr_value *onnx_xlat_in(const onnx_xlat *x, uint32_t i);
kaena_status onnx_xlat_set_in(onnx_xlat *x, uint32_t i, kgr_value *v) KAENA_CHECKED;
/* Makes sure that type and shape of |v| (one of the inputs) are known as far as they can be: infers
 * what stands in front of it. */
kaena_status onnx_xlat_need_type(onnx_xlat *x, const kgr_value *v) KAENA_CHECKED;
/* Infers types up to the end of the graph so far, where nothing refuses to. */
void onnx_infer_so_far(onnx_import *imp);
/* As onnx_xlat_need_type, and fails when the rank stays unknown. */
kaena_status onnx_xlat_need_rank(onnx_xlat *x, const kgr_value *v, int32_t *rank) KAENA_CHECKED;
/* Constants, named after the node. */
kgr_value *onnx_xlat_const(onnx_xlat *x, const char *what, kaena_dtype dtype,
                           const kaena_shape *shape, const void *data);
kgr_value *onnx_xlat_i64(onnx_xlat *x, const char *what, const int64_t *v, uint32_t n);
/* |v| with |n| dimensions of 1 behind its own: a constant again, or a node. */
kaena_status onnx_xlat_append_ones(onnx_xlat *x, kgr_value *v, int32_t n,
                                   kgr_value **out) KAENA_CHECKED;
/* A helper node with one output. */
kaena_status onnx_xlat_add(onnx_xlat *x, kop_op op, const char *what, kgr_value *const *in,
                           uint32_t n_in, kgr_node **out) KAENA_CHECKED;
/* The node that makes the outputs: |op| with |x|'s inputs and attributes. Fills x->out and sets
 * done. */
kaena_status onnx_xlat_finish(onnx_xlat *x, kop_op op) KAENA_CHECKED;

/* --- onnx_legacy.c: the table; onnx_legacy_forms.c and onnx_legacy_ops.c: its functions ---------
 */

#define ONNX_MOVED(op, last, attr, slot, form)
#define ONNX_ATTR(op, last, attr, field, value)
#define ONNX_RENAMED(op, last, new_name)
#define ONNX_SPECIAL(op, first, last, function) kaena_status onnx_legacy_##function(onnx_xlat *x);
#define ONNX_REPLACED(op, first, last, function) kaena_status onnx_legacy_##function(onnx_xlat *x);
#include "onnx_legacy.def"
#undef ONNX_MOVED
#undef ONNX_ATTR
#undef ONNX_RENAMED
#undef ONNX_SPECIAL
#undef ONNX_REPLACED

#define ONNX_NEWEST INT64_MAX

/* Applies the rows of onnx_legacy.def. */
kaena_status onnx_legacy(onnx_xlat *x) KAENA_CHECKED;
/* The table makes other operators of |op| at |opset|: ops.def need not have it. */
bool onnx_legacy_knows(const char *op, int64_t opset);

/* --- onnx_foreign.c: operators of other domains -------------------------------------------------
 */

/* The table has |op| of |domain|, which is not the default one. */
bool onnx_foreign_knows(const char *domain, const char *op);
/* Translates a node of such a domain. */
kaena_status onnx_foreign(onnx_xlat *x, const char *domain) KAENA_CHECKED;

#define ONNX_SAME(domain, op, name)
#define ONNX_FORM(domain, op, name, function) kaena_status onnx_foreign_##function(onnx_xlat *x);
#include "onnx_foreign.def"
#undef ONNX_SAME
#undef ONNX_FORM

#endif
