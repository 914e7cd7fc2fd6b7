/* What translations of TensorFlow's operators are made from.
 *
 * One tf_xlat is one node on its way. Errors stick: after the first, every function returns NULL or
 * 0 and does nothing, so a translation is written as an expression and its status is looked at
 * once, by tf_done. Every value is typed as soon as it is made, and small ones of known contents
 * are evaluated at once, so a translation may look at types, shapes and constants. */
#ifndef KCC_TF_XLAT_H
#define KCC_TF_XLAT_H

#include <stdbool.h>
#include <stdint.h>

#include "graph.h"
#include "tf_graph.h"
#include "tf_translate.h"

/* One translation of a graph. */
typedef struct tf_import {
    kaena_arena *arena;
    tf_graph *tf;
    kgr_graph *g;
    kaena_err *err;
    size_t fold_left; /* bytes that evaluation at once may still make */
    uint32_t depth;   /* of regions in regions; the graph itself has 0 */
} tf_import;

struct tf_xlat {
    tf_import *imp;
    const tf_node *node;
    const tf_op_row *row;
    kgr_value **in;
    uint32_t n_in;
    kgr_value **out; /* set by tf_done and tf_set_out */
    uint32_t n_out, cap_out;
    kaena_status status; /* the first error */
};

/* --- Ends and errors -------------------------------------------------------------------------- */

/* Port |i| is |v|. */
void tf_set_out(tf_xlat *x, uint32_t i, kgr_value *v);
/* Port 0 is |v|; the status. */
kaena_status tf_done(tf_xlat *x, kgr_value *v) KAENA_CHECKED;
/* A failure of this node, which the caller names. INVALID_ARGUMENT; UNIMPLEMENTED. */
kaena_status tf_bad(tf_xlat *x, const char *format, ...) KAENA_PRINTF(2, 3);
kaena_status tf_lacks(tf_xlat *x, const char *format, ...) KAENA_PRINTF(2, 3);

/* --- Attributes: the default where absent; a wrong kind is an error ----------------------------
 */

bool tf_has(const tf_xlat *x, const char *name);
int64_t tf_int(tf_xlat *x, const char *name, int64_t otherwise);
float tf_float(tf_xlat *x, const char *name, float otherwise);
bool tf_bool(tf_xlat *x, const char *name, bool otherwise);
/* NONE where absent. */
kaena_dtype tf_type(tf_xlat *x, const char *name, kaena_dtype otherwise);
/* Terminated. */
const char *tf_string(tf_xlat *x, const char *name, const char *otherwise);
/* A list of numbers; 0 where absent. |*v| is borrowed. */
uint32_t tf_ints(tf_xlat *x, const char *name, const int64_t **v);
uint32_t tf_floats(tf_xlat *x, const char *name, const float **v);

/* --- Inputs ----------------------------------------------------------------------------------- */

/* Rank of |v|; -1 and an error where it is not known. */
int32_t tf_rank(tf_xlat *x, const kgr_value *v);
/* Its shape with every dimension known, or an error. */
const kaena_shape *tf_known_shape(tf_xlat *x, const kgr_value *v);
/* The numbers of a constant of any integer type; an error calls it |what| where it is not known at
 * compile time. |*n| of them, in the arena. */
const int64_t *tf_const_ints(tf_xlat *x, const kgr_value *v, const char *what, uint32_t *n);
int64_t tf_const_int(tf_xlat *x, const kgr_value *v, const char *what);
double tf_const_float(tf_xlat *x, const kgr_value *v, const char *what);
/* A number that names a dimension of |rank|, negative from behind: an error where it is outside. */
int32_t tf_axis(tf_xlat *x, int64_t axis, int32_t rank);

/* --- Regions -----------------------------------------------------------------------------------
 */

/* Translates region |r| of x->node into |g|, a body's graph or x's own: |in| [r->n_in] are values
 * of |g| (NULL where nothing is passed), |out| [r->n_out] gets its results (untouched where it has
 * none). */
kaena_status tf_translate_region(tf_xlat *x, const tf_region *r, kgr_graph *g, kgr_value *const *in,
                                 kgr_value **out) KAENA_CHECKED;

/* --- Making values ---------------------------------------------------------------------------- */

/* A node with one result, and its typed value. */
kgr_value *tf_op1(tf_xlat *x, kop_op op, kgr_value *a);
kgr_value *tf_op2(tf_xlat *x, kop_op op, kgr_value *a, kgr_value *b);
kgr_value *tf_op3(tf_xlat *x, kop_op op, kgr_value *a, kgr_value *b, kgr_value *c);
kgr_value *tf_opn(tf_xlat *x, kop_op op, kgr_value *const *in, uint32_t n_in);

/* Nodes with attributes: tf_node_begin, tf_set_*, tf_node_end, which types the results and returns
 * result 0; more results: tf_node_result after tf_node_end. */
kgr_node *tf_node_begin(tf_xlat *x, kop_op op, kgr_value *const *in, uint32_t n_in, uint32_t n_out);
void tf_set_int(tf_xlat *x, kgr_node *n, const char *name, int64_t v);
void tf_set_float(tf_xlat *x, kgr_node *n, const char *name, float v);
void tf_set_string(tf_xlat *x, kgr_node *n, const char *name, const char *v);
void tf_set_ints(tf_xlat *x, kgr_node *n, const char *name, const int64_t *v, uint32_t count);
kgr_value *tf_node_end(tf_xlat *x, kgr_node *n);
/* All |n_out| results of |n|, typed, into |out|. */
void tf_node_results(tf_xlat *x, kgr_node *n, kgr_value **out, uint32_t n_out);

/* Constants. */
kgr_value *tf_const(tf_xlat *x, kaena_dtype dtype, const kaena_shape *shape, const void *data);
kgr_value *tf_i64s(tf_xlat *x, const int64_t *v, uint32_t n); /* rank 1 */
kgr_value *tf_i64(tf_xlat *x, int64_t v);                     /* rank 0 */
/* A scalar of |v|'s type. */
kgr_value *tf_number(tf_xlat *x, const kgr_value *like, double number);

/* --- Common shapes of nodes ------------------------------------------------------------------- */

kgr_value *tf_cast(tf_xlat *x, kgr_value *v, kaena_dtype to); /* |v| itself where it is so */
kgr_value *tf_transpose(tf_xlat *x, kgr_value *v, const int64_t *perm, uint32_t n);
/* The dimension |from| moves to place |to|. */
kgr_value *tf_move_axis(tf_xlat *x, kgr_value *v, int32_t from, int32_t to);
kgr_value *tf_reshape(tf_xlat *x, kgr_value *v, const int64_t *dims, uint32_t n);
kgr_value *tf_unsqueeze(tf_xlat *x, kgr_value *v, int64_t axis);
kgr_value *tf_squeeze(tf_xlat *x, kgr_value *v, int64_t axis);
kgr_value *tf_concat(tf_xlat *x, kgr_value *const *in, uint32_t n, int64_t axis);
/* Elements [begin, end) of one dimension. */
kgr_value *tf_slice(tf_xlat *x, kgr_value *v, int64_t axis, int64_t begin, int64_t end,
                    int64_t step);
/* Over |axes| (n = 0: none). */
kgr_value *tf_reduce(tf_xlat *x, kop_op op, kgr_value *v, const int64_t *axes, uint32_t n,
                     bool keep);
/* The shape as int64 values; a constant where it is known. */
kgr_value *tf_shape_of(tf_xlat *x, kgr_value *v);
/* The size of one dimension, rank 0, int64; a constant where it is known. */
kgr_value *tf_dim(tf_xlat *x, kgr_value *v, int32_t axis);
kgr_value *tf_expand(tf_xlat *x, kgr_value *v, kgr_value *shape);
/* |v| with channels second ("NCHW") of one with channels last, and back; rank 3 to 5. A pair
 * of both vanishes. */
kgr_value *tf_channels_second(tf_xlat *x, kgr_value *v);
kgr_value *tf_channels_last(tf_xlat *x, kgr_value *v);

/* --- Translations: one file per family ---------------------------------------------------------
 */

#define TF_OP(name, min_in, max_in, translation, canonical, results)                               \
    kaena_status tf_x_##translation(tf_xlat *x);
#define TF_NO_RESULT(name)
#include "tf_ops.def"
#undef TF_OP
#undef TF_NO_RESULT

#endif
