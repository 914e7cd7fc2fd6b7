/* The parts of the MXNet importer to each other: nodes of the symbol -> one handler per family of
 * operators -> nodes of the graph.
 *
 * Every node's types and shapes are inferred as soon as it is added, so handlers see the shapes of
 * what they read, and shapes that the symbol leaves open (weights, initial states) follow from how
 * a handler uses them. */
#ifndef KCC_MX_INTERNAL_H
#define KCC_MX_INTERNAL_H

#include <stdbool.h>
#include <stdint.h>

#include "graph.h"
#include "io_config.h"
#include "mx_import.h"
#include "mx_params.h"
#include "mx_symbol.h"

/* What a variable or a node's output stands for. */
typedef struct mx_value {
    kgr_value *v;      /* NULL while its shape is open */
    uint32_t variable; /* node number, of a variable; else MX_NO_NODE */
    bool is_fill;      /* zeros, ones, ... whose shape is open */
    float fill;
    kaena_dtype dtype; /* of a fill, or of a variable where anything says; else NONE */
    bool has_hint;     /* the shape said so far; dimensions of 0 are open */
    kaena_shape hint;
} mx_value;

#define MX_NO_NODE UINT32_MAX
#define MX_MAX_INPUTS KOP_MAX_INPUTS
#define MX_MAX_OUTPUTS KOP_MAX_OUTPUTS

typedef struct mx_xlat mx_xlat;

/* A row of mx_ops.def. */
typedef struct mx_row {
    const char *name;
    kaena_status (*translate)(mx_xlat *x);
    kop_op op;
    const char *inputs;  /* "data,weight*,bias*": mx_ops.def has the legend */
    const char *outputs; /* "" or names as MXNet lists them: "output,mean,var" */
} mx_row;

typedef struct mx_import {
    kaena_arena *arena;
    kgr_graph *g;
    const mx_symbol *symbol;
    const mx_params *params; /* NULL: none, variables become inputs */
    const kcc_io_config *io;
    kaena_err *err;
    mx_value **values;      /* [n_nodes] of each node's outputs; NULL: not needed, or not yet */
    uint32_t *n_values;     /* [n_nodes] */
    kaena_dtype float_type; /* of inputs of which nothing is said */
    int64_t filled;         /* elements of constants made from nothing so far */
    int64_t batch;          /* dimension 0 of the first input that has one; 0: none yet */
} mx_import;

/* One node on its way into the graph. */
struct mx_xlat {
    mx_import *imp;
    const mx_node *node;
    const mx_row *row;
    uint32_t n_in;
    mx_value *in[MX_MAX_INPUTS];
    uint32_t n_out; /* set before outputs are made where it is not 1 */
    mx_value out[MX_MAX_OUTPUTS];
    /* The first failure. From then on everything below does nothing and returns |nothing|, so a
     * handler needs not look after every step. */
    kaena_status status;
    kgr_value nothing;
    uint32_t n_made; /* values made so far, for their names */
};

#define MX_FAIL(x, code, ...) ((x)->status = KAENA_FAIL((x)->imp->err, code, __VA_ARGS__))

/* --- mx_ops.c -------------------------------------------------------------------------------- */

/* NULL: we do not have it. */
const mx_row *mx_row_find(const char *op);
/* Names, kind and number of the input slots: slot |i| into |name| (size bytes); its kind is ' ', or
 * a sign of the legend. False behind the last. */
bool mx_row_slot(const mx_row *row, uint32_t i, char *name, size_t size, char *kind);

/* --- mx_attr.c: what the symbol says, as values ---------------------------------------------- */

#define MX_NONE INT64_MIN /* "None" inside a tuple */

/* NULL where it is absent or "None". */
const char *mx_text(const mx_xlat *x, const char *name);
const char *mx_string(const mx_xlat *x, const char *name, const char *otherwise);
bool mx_bool(mx_xlat *x, const char *name, bool otherwise);
int64_t mx_int(mx_xlat *x, const char *name, int64_t otherwise);
double mx_float(mx_xlat *x, const char *name, double otherwise);
/* An attribute that must be there. */
int64_t mx_need_int(mx_xlat *x, const char *name);
/* "(1, 2)", "[1,2]" or "1"; returns how many, 0 where it is absent; at most |most|. */
uint32_t mx_ints(mx_xlat *x, const char *name, int64_t *out, uint32_t most);
uint32_t mx_floats(mx_xlat *x, const char *name, float *out, uint32_t most);
/* The same of a node's text, for variables. False: malformed. */
bool mx_parse_ints(const char *text, int64_t *out, uint32_t most, uint32_t *n);
/* "float16"; |otherwise| where it is absent. */
kaena_dtype mx_dtype(mx_xlat *x, const char *name, kaena_dtype otherwise);

/* --- mx_build.c: operands -------------------------------------------------------------------- */

/* Input |i|, which is there and whose shape is known. */
kgr_value *mx_in(mx_xlat *x, uint32_t i);
bool mx_has_in(const mx_xlat *x, uint32_t i);
/* Input |i|, which must have |shape|: where it is open, it gets it. What old symbols leave out (the
 * statistics of BatchNorm) is found by its name. */
kgr_value *mx_want(mx_xlat *x, uint32_t i, const kaena_shape *shape);
static inline kgr_value *mx_want_list(mx_xlat *x, uint32_t i, int64_t n)
{
    return mx_want(x, i, &(kaena_shape){1, {n}});
}
/* A dimension that the graph can hold, else a failure. */
int64_t mx_size(mx_xlat *x, const char *what, int64_t n);
/* The axis of attribute |name|, from 0; |rank| counts one more where a new one may be named. */
int32_t mx_axis(mx_xlat *x, const char *name, int64_t otherwise, int32_t rank);
kaena_status mx_no_memory(const mx_import *imp);
/* Gives an open value its shape: a new input, or the constant. |label| names it in messages. */
kaena_status mx_resolve(mx_import *imp, mx_value *m, const kaena_shape *shape) KAENA_CHECKED;
/* What a variable is before anything reads it: its parameter, or an input of a known shape, or
 * open. */
kaena_status mx_variable(mx_import *imp, uint32_t node, mx_value *out) KAENA_CHECKED;
/* There are parameters, but not for this variable, and nobody said it is an input. */
bool mx_is_missing(const mx_import *imp, uint32_t node);

/* --- mx_build.c: nodes ----------------------------------------------------------------------- */

#define MX_TMP (-1)

/* What MXNet calls output |i| of |n_out|: "conv1_output", "split_output0", "bn_mean". */
const char *mx_output_name(const mx_import *imp, const mx_node *node, const mx_row *row,
                           uint32_t n_out, uint32_t i);

#define MX_ATTR_INT(key, value) ((kop_attr){.name = (key), .type = KOP_ATTR_INT, .u.i = (value)})
#define MX_ATTR_FLOAT(key, value)                                                                  \
    ((kop_attr){.name = (key), .type = KOP_ATTR_FLOAT, .u.f = (float)(value)})
#define MX_ATTR_STRING(key, value)                                                                 \
    ((kop_attr){.name = (key), .type = KOP_ATTR_STRING, .u.s = (value)})
#define MX_ATTR_INTS(key, list, count)                                                             \
    ((kop_attr){.name = (key), .type = KOP_ATTR_INTS, .n = (uint32_t)(count), .u.ints = (list)})
/* Arguments |attr|, |n_attr|. */
#define MX_ATTRS(...)                                                                              \
    (const kop_attr[]){__VA_ARGS__},                                                               \
        (uint32_t)(sizeof((kop_attr[]){__VA_ARGS__}) / sizeof(kop_attr))
#define MX_NO_ATTRS NULL, 0
/* Arguments |in|, |n_in|. */
#define MX_IN(...)                                                                                 \
    (kgr_value *const[]){__VA_ARGS__},                                                             \
        (uint32_t)(sizeof((kgr_value *[]){__VA_ARGS__}) / sizeof(kgr_value *))

/* Adds a node and returns its result, which becomes the handler's output |out| unless that is
 * MX_TMP. */
kgr_value *mx_emit(mx_xlat *x, int32_t out, kop_op op, kgr_value *const *in, uint32_t n_in,
                   const kop_attr *attr, uint32_t n_attr);
/* The same for |n_out| results: outputs from |out| on, or with MX_TMP none of them. */
void mx_emit_many(mx_xlat *x, int32_t out, kop_op op, kgr_value *const *in, uint32_t n_in,
                  const kop_attr *attr, uint32_t n_attr, kgr_value **results, uint32_t n_out);
kgr_value *mx_1(mx_xlat *x, int32_t out, kop_op op, kgr_value *a);
kgr_value *mx_2(mx_xlat *x, int32_t out, kop_op op, kgr_value *a, kgr_value *b);
/* |v| itself is the output. */
kgr_value *mx_alias(mx_xlat *x, int32_t out, kgr_value *v);

/* Constants. */
kgr_value *mx_i64(mx_xlat *x, const int64_t *v, uint32_t n);
kgr_value *mx_scalar(mx_xlat *x, kaena_dtype dtype, double v);
kgr_value *mx_f32s(mx_xlat *x, const kaena_shape *shape, const float *v, kaena_dtype dtype);
kgr_value *mx_filled(mx_xlat *x, kaena_dtype dtype, const kaena_shape *shape, double v);

/* Common steps. */
kgr_value *mx_reshape(mx_xlat *x, int32_t out, kgr_value *v, const kaena_shape *shape);
kgr_value *mx_transpose(mx_xlat *x, int32_t out, kgr_value *v, const int64_t *perm);
/* Moves axis |from| to |to|, the others keep their order. */
kgr_value *mx_move_axis(mx_xlat *x, int32_t out, kgr_value *v, int32_t from, int32_t to);
kgr_value *mx_cast(mx_xlat *x, int32_t out, kgr_value *v, kaena_dtype dtype);
/* |v| itself where it has that type. */
kgr_value *mx_as(mx_xlat *x, kgr_value *v, kaena_dtype dtype);
kgr_value *mx_reduce(mx_xlat *x, int32_t out, kop_op op, kgr_value *v, const int64_t *axes,
                     uint32_t n, bool keep);
kgr_value *mx_slice(mx_xlat *x, int32_t out, kgr_value *v, const int64_t *begin, const int64_t *end,
                    const int64_t *axes, const int64_t *steps, uint32_t n);
kgr_value *mx_concat(mx_xlat *x, int32_t out, kgr_value *const *in, uint32_t n, int32_t axis);
kgr_value *mx_unsqueeze(mx_xlat *x, int32_t out, kgr_value *v, int64_t axis);
kgr_value *mx_squeeze(mx_xlat *x, int32_t out, kgr_value *v, const int64_t *axes, uint32_t n);

#endif
