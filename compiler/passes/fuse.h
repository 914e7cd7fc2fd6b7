/* The parts of the fuse pass. Private to this folder. */
#ifndef KCC_FUSE_H
#define KCC_FUSE_H

#include "pass_util.h"

/* fuse_gemm.c: MatMul by a constant matrix and Gemm become a Gemm without transposes and factors.
 */
kaena_status kcc_fuse_gemm(kgr_graph *g, kgr_node *n, kaena_err *err) KAENA_CHECKED;

/* fuse_affine.c: |user|, the only reader of |n|'s result, scales or shifts channels: it goes into
 * weights and bias. |done| says whether. */
kaena_status kcc_fuse_affine(kgr_graph *g, kgr_node *n, kgr_node *user, bool *done,
                             kaena_err *err) KAENA_CHECKED;

/* fuse_epilogue.c: likewise an activation (which may be x * sigmoid(x), two nodes) ... */
bool kcc_fuse_act(kgr_graph *g, kgr_node *n);
/* ... a factor that is the same for a whole MatMul ... */
bool kcc_fuse_scale(kgr_graph *g, kgr_node *n);
/* ... and an Add of another computed tensor. */
bool kcc_can_fuse_residual(const kgr_node *n, const kgr_node *add);
void kcc_fuse_residual(kgr_graph *g, kgr_node *n, kgr_node *add);

/* fuse_merge.c: of the products that read |v|, those by constant matrices that go together become
 * one. */
kaena_status kcc_fuse_siblings(kgr_graph *g, kgr_value *v, kaena_err *err) KAENA_CHECKED;

/* Whether an epilogue may follow. */
bool kcc_takes_act(const kgr_node *n);

#endif
