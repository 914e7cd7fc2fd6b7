/* The front half of the compiler: passes over the graph, in the order of their declaration.
 *
 * Each takes a graph that passes kgr_check and leaves one that does; what it requires beyond that
 * and establishes stands at the top of its file. A failure names the node or value. None but
 * kcc_pass_cast reads |opt|: what can change a rounding never depends on --optimize, --num-tpbs or
 * memory. Near-linear in the nodes. Thread: one per graph. */
#ifndef KCC_PASSES_H
#define KCC_PASSES_H

#include "graph.h"
#include "options.h"

/* Places what --host-ops and --device-ops name. Right after the import, so that the framework's
 * operators are still there. NOT_FOUND: the model has nothing of that name. */
kaena_status kcc_pass_pin(kgr_graph *g, const kcc_options *opt, kaena_err *err) KAENA_CHECKED;

/* Types and shapes of all values; shape arithmetic becomes constants. */
kaena_status kcc_pass_infer(kgr_graph *g, const kcc_options *opt, kaena_err *err) KAENA_CHECKED;

/* DequantizeLinear, operator, QuantizeLinear become one operator on integers. */
kaena_status kcc_pass_quantise(kgr_graph *g, const kcc_options *opt, kaena_err *err) KAENA_CHECKED;

/* Nodes whose inputs are all constants become constants. */
kaena_status kcc_pass_fold(kgr_graph *g, const kcc_options *opt, kaena_err *err) KAENA_CHECKED;

/* Constants move into the bodies that capture them, and an If of a constant condition becomes what
 * it chooses: |*inlined| is set then, and nodes may be left to fold. */
kaena_status kcc_pass_bodies(kgr_graph *g, bool *inlined, kaena_err *err) KAENA_CHECKED;

/* Fewer and more regular nodes, same function. Afterwards:
 * - Squeeze, Unsqueeze and Flatten are Reshapes by a constant shape without 0 and -1;
 * - Sum, Max and Min have two operands;
 * - means and pooling over all of a 4-D tensor's pixels are GlobalAveragePool or GlobalMaxPool;
 * - every graph output is a node's (an Identity copies inputs and constants; see output_name). */
kaena_status kcc_pass_simplify(kgr_graph *g, const kcc_options *opt, kaena_err *err) KAENA_CHECKED;

/* Scans with work for the device become Loops, which the plan can run. */
kaena_status kcc_pass_scan(kgr_graph *g, const kcc_options *opt, kaena_err *err) KAENA_CHECKED;

/* Puts what follows a node into the node. Afterwards:
 * - a product of a computed matrix by a constant one is a Gemm with operands [M,K], [K,N] and,
 * where present, a constant [N]; transA, transB, alpha and beta are absent (a transposed computed A
 * or a non-constant B stay as the model has them);
 * - Conv and Gemm carry scales, shifts and biases of their output channels in weights and bias;
 *   a Conv's bias has shape [M], in[2], NULL where there is none;
 * - kaena.act[_alpha,_beta] may stand on Conv, Gemm, MatMul, BatchNormalization, Add, Sub, Mul,
 * Div, Max and Min, kaena.residual on Conv, Gemm and MatMul (then in[3]): 1 is act(x + r), 2 is
 * act(x) + r. The residual is computed, of the result's shape and type; of a MatMul it may
 * broadcast;
 * - products of one operand by several constant matrices are one, with a Split behind it;
 * - MatMul by a constant has a bias as Gemm has; kaena.scale may stand on any MatMul. */
kaena_status kcc_pass_fuse(kgr_graph *g, const kcc_options *opt, kaena_err *err) KAENA_CHECKED;

/* --- Device and host ------------------------------------------------------------------------- */

/* Whether the device can run |n|, whose types and shapes are known; where not, |reason| says why,
 * in a few words for the report ("no lowering for operator Loop"). */
typedef bool (*kcc_lowerable_fn)(const kgr_node *n, const char **reason);

/* Sets device and reason of every node. Pinned nodes stay where they are: UNIMPLEMENTED where the
 * device cannot run one. A node whose result's shape depends on data goes to the host, and so do
 * connected nodes next to the host that would wait longer for their tensors than the host needs to
 * compute them (cost.h). An If or Loop whose bodies have work for the device becomes a part of the
 * plan (KGR_PLAN) and its bodies are partitioned likewise; other bodies stay on the host as wholes.
 * UNIMPLEMENTED with must_compile when anything is left for the host: names
 * the first nodes and their reasons. */
kaena_status kcc_pass_partition(kgr_graph *g, const kcc_options *opt, kcc_lowerable_fn lowerable,
                                kaena_err *err) KAENA_CHECKED;

/* Decides which float32 values of device nodes are stored as bfloat16, and writes it into
 * value->t.dtype. After this pass only the lowering reads the graph: operands of one node may
 * differ in type and kgr_infer and kgr_eval no longer apply to it. See cast.c for the rules. */
kaena_status kcc_pass_cast(kgr_graph *g, const kcc_options *opt, kaena_err *err) KAENA_CHECKED;

/* A run of nodes of one place: device or host; or one node of the plan, whose bodies have steps of
 * their own. */
typedef struct kcc_step {
    bool on_device, by_plan;
    kgr_node **nodes; /* in the order of the graph */
    uint32_t n_nodes;
    /* What the step reads of graph inputs and other steps' results (no constants), and which of its
     * results other steps or the model's user read; each once, in order of first appearance. */
    kgr_value **in, **out;
    uint32_t n_in, n_out;
} kcc_step;

typedef struct kcc_partition {
    kcc_step *steps; /* run one after the other */
    uint32_t n_steps;
    uint32_t n_device_nodes, n_host_nodes;
} kcc_partition;

/* Groups the nodes, all of which have a device, into as few steps as their order allows, and sorts
 * the graph's list of nodes by step. Memory is the graph's. */
void kcc_partition_build(kgr_graph *g, kcc_partition *out);

/* --- Shared with the lowering ---------------------------------------------------------------- */

/* A Conv whose every group has one input channel: work for the POOL engine, not the PE array. */
bool kcc_is_depthwise(const kgr_node *n);
/* Conv but depthwise, Gemm, MatMul. */
bool kcc_is_pe(const kgr_node *n);
/* RNN, GRU, LSTM. */
bool kcc_is_recurrent(const kgr_node *n);

#endif
