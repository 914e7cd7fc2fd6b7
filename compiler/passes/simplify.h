/* The rules of the simplify pass, by what they look at. Private to this folder. */
#ifndef KCC_SIMPLIFY_H
#define KCC_SIMPLIFY_H

#include "pass_util.h"

/* One rule: sees a node of its operator, rewrites around it or leaves it; sets |changed| when it
 * did, and then may have removed |n| (no other node that stands behind it). */
typedef kaena_status (*kcc_rule_fn)(kgr_graph *g, kgr_node *n, bool *changed, kaena_err *err);

/* simplify_turn.c: Transposes of images move behind what could be fused to the node before them.
 * Near-linear. */
kaena_status kcc_turn_images(kgr_graph *g, kaena_err *err);

/* simplify_shape.c: nodes that move elements about, or do not even that. */
kaena_status kcc_rule_same(kgr_graph *g, kgr_node *n, bool *changed, kaena_err *err);
kaena_status kcc_rule_reshape(kgr_graph *g, kgr_node *n, bool *changed, kaena_err *err);
kaena_status kcc_rule_transpose(kgr_graph *g, kgr_node *n, bool *changed, kaena_err *err);
kaena_status kcc_rule_slice(kgr_graph *g, kgr_node *n, bool *changed, kaena_err *err);
kaena_status kcc_rule_concat(kgr_graph *g, kgr_node *n, bool *changed, kaena_err *err);

/* simplify_math.c: arithmetic with neutral elements, sums, means, hard-swish. */
kaena_status kcc_rule_neutral(kgr_graph *g, kgr_node *n, bool *changed, kaena_err *err);
kaena_status kcc_rule_many(kgr_graph *g, kgr_node *n, bool *changed, kaena_err *err);
kaena_status kcc_rule_hard_swish(kgr_graph *g, kgr_node *n, bool *changed, kaena_err *err);

/* simplify_gelu.c */
kaena_status kcc_rule_gelu(kgr_graph *g, kgr_node *n, bool *changed, kaena_err *err);

/* simplify_norm.c: layer normalisation, then what scales and shifts it. */
kaena_status kcc_rule_layer_norm(kgr_graph *g, kgr_node *n, bool *changed, kaena_err *err);
kaena_status kcc_rule_affine_norm(kgr_graph *g, kgr_node *n, bool *changed, kaena_err *err);

/* simplify_product.c: products of vectors, transposed and scaled ones. */
kaena_status kcc_rule_vectors(kgr_graph *g, kgr_node *n, bool *changed, kaena_err *err);
kaena_status kcc_rule_gemm(kgr_graph *g, kgr_node *n, bool *changed, kaena_err *err);

/* simplify_table.c: look-ups in constant tables. */
kaena_status kcc_rule_one_hot(kgr_graph *g, kgr_node *n, bool *changed, kaena_err *err);
kaena_status kcc_rule_table_product(kgr_graph *g, kgr_node *n, bool *changed, kaena_err *err);

/* simplify_transposed.c */
kaena_status kcc_rule_conv_transpose(kgr_graph *g, kgr_node *n, bool *changed, kaena_err *err);

/* simplify_sink.c: elementwise work goes before the Reshape of a product, where the product can
 * take it in. */
kaena_status kcc_rule_sink(kgr_graph *g, kgr_node *n, bool *changed, kaena_err *err);

/* simplify_reduce.c: norms and logarithms of sums from sums. */
kaena_status kcc_rule_statistics(kgr_graph *g, kgr_node *n, bool *changed, kaena_err *err);
kaena_status kcc_rule_norms(kgr_graph *g, kgr_node *n, bool *changed, kaena_err *err);

/* simplify_window.c: padding into windows, global pooling. */
kaena_status kcc_rule_pad(kgr_graph *g, kgr_node *n, bool *changed, kaena_err *err);
kaena_status kcc_rule_reduce(kgr_graph *g, kgr_node *n, bool *changed, kaena_err *err);
kaena_status kcc_rule_pool(kgr_graph *g, kgr_node *n, bool *changed, kaena_err *err);

/* Fixed by the pads attribute, 0 where absent: |n| is a Conv or a pooling of known input. */
kaena_status kcc_fix_pads(kgr_graph *g, kgr_node *n, kop_window *out, kaena_err *err);

#endif
