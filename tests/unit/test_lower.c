/* Lowering: what the compiler makes verifies for any number of TPBs, and computes what the graph
 * says. */
#include <stdio.h>

#include "lower_graph.h"

static const graph_case cases[] = {
    {"conv",
     "graph \"g\" { input %x: float32[1,3,13,11] const %w: float32[37,3,3,3] = random 1 const %b: "
     "float32[37] = random 2 "
     "%y: none[*] = Conv(%x, %w, %b) {pads=[1,1,1,1]} output %y }",
     1e-5},
    {"conv chain with residual and halo reuse",
     "graph \"g\" { input %x: float32[2,16,14,14] const %w: float32[16,16,3,3] = random 1 const "
     "%v: "
     "float32[64,16,1,1] = random 2 "
     "const %u: float32[16,64,3,3] = random 3 "
     "%a: none[*] = Conv(%x, %w) {pads=[1,1,1,1]} %r: none[*] = Relu(%a) %c: none[*] = Conv(%r, "
     "%v) "
     "%d: none[*] = Conv(%c, %u) {pads=[1,1,1,1]} %e: none[*] = Add(%d, %r) %f: none[*] = Relu(%e) "
     "output %f }",
     1e-5},
    {"strided stem with odd channels",
     "graph \"g\" { input %x: float32[1,3,30,30] const %w: float32[64,3,7,7] = random 1 %c: "
     "none[*] = "
     "Conv(%x, %w) {pads=[3,3,3,3], strides=[2,2]} "
     "%r: none[*] = Relu(%c) %p: none[*] = MaxPool(%r) {kernel_shape=[3,3], strides=[2,2], "
     "pads=[1,1,1,1]} output %p }",
     1e-5},
    {"groups and depthwise",
     "graph \"g\" { input %x: float32[1,32,9,9] const %w: float32[48,16,3,3] = random 1 const %d: "
     "float32[48,1,3,3] = random 2 "
     "const %b: float32[48] = random 3 %g: none[*] = Conv(%x, %w) {group=2, pads=[1,1,1,1]} "
     "%h: none[*] = Conv(%g, %d, %b) {group=48, strides=[2,2], pads=[1,1,1,1]} output %h }",
     1e-5},
    {"asymmetric padding and dilation",
     "graph \"g\" { input %x: float32[1,8,12,15] const %w: float32[24,8,3,3] = random 1 "
     "%y: none[*] = Conv(%x, %w) {pads=[2,0,1,3], dilations=[2,2]} output %y }",
     1e-5},
    {"inception: branches joined by concat",
     "graph \"g\" { input %x: float32[1,24,10,10] const %w: float32[16,24,1,1] = random 1 const "
     "%v: "
     "float32[20,24,3,3] = random 2 "
     "%a: none[*] = Conv(%x, %w) %b: none[*] = Conv(%x, %v) {pads=[1,1,1,1]} "
     "%p: none[*] = MaxPool(%x) {kernel_shape=[3,3], strides=[1,1], pads=[1,1,1,1]} %c: none[*] = "
     "Concat(%a, %b, %p) {axis=1} "
     "const %u: float32[8,60,3,3] = random 3 %y: none[*] = Conv(%c, %u) {pads=[1,1,1,1]} output %y "
     "}",
     1e-5},
    {"classifier head",
     "graph \"g\" { input %x: float32[1,20,7,7] %p: none[*] = GlobalAveragePool(%x) %f: none[*] = "
     "Flatten(%p) const %w: float32[20,101] = random 1 "
     "const %b: float32[101] = random 2 %g: none[*] = Gemm(%f, %w, %b) %s: none[*] = Softmax(%g) "
     "output %s }",
     1e-5},
    {"rows of two columns",
     "graph \"g\" { input %x: float32[1,300,4] const %p: float32[1,300,2] = random 1 "
     "const %k: float32[2] = random 2 "
     "const %s0: int64[1] = {0} const %s2: int64[1] = {2} const %s4: int64[1] = {4} "
     "%a: none[*] = Slice(%x, %s0, %s2, %s2) %b: none[*] = Slice(%x, %s2, %s4, %s2) "
     "%m: none[*] = Mul(%a, %k) %n: none[*] = Add(%m, %p) %t: none[*] = Tanh(%b) "
     "%y: none[*] = Concat(%n, %t) {axis=2} output %y }",
     1e-5},
    {"flatten of a convolution",
     "graph \"g\" { input %x: float32[2,4,6,6] const %w: float32[5,4,3,3] = random 1 %c: none[*] = "
     "Conv(%x, %w) "
     "%f: none[*] = Flatten(%c) const %v: float32[80,9] = random 2 %y: none[*] = MatMul(%f, %v) "
     "output %y }",
     1e-5},
    {"average pooling and local response",
     "graph \"g\" { input %x: float32[1,17,11,11] %n: none[*] = LRN(%x) {size=5, alpha=0.0001, "
     "beta=0.75, bias=1.0} "
     "%a: none[*] = AveragePool(%n) {kernel_shape=[3,3], strides=[2,2], pads=[1,1,1,1], "
     "count_include_pad=1} output %a }",
     1e-5},
    {"elementwise and broadcast",
     "graph \"g\" { input %x: float32[2,6,5,7] const %s: float32[1,6,1,1] = random 1 const %t: "
     "float32[] = fill 0.25 %a: none[*] = Mul(%x, %s) "
     "%b: none[*] = Add(%a, %t) %c: none[*] = Sigmoid(%b) %d: none[*] = Sub(%c, %x) %e: none[*] = "
     "Max(%d, %a) output %e }",
     1e-5},
    {"views and movement",
     "graph \"g\" { input %x: float32[1,12,4,6] %t: none[*] = Transpose(%x) {perm=[0,2,3,1]} const "
     "%s: "
     "int64[3] = {1, 24, 12} "
     "%r: none[*] = Reshape(%t, %s) const %b: int64[1] = {4} const %e: int64[1] = {20} const %ax: "
     "int64[1] = {1} "
     "%l: none[*] = Slice(%r, %b, %e, %ax) %y: none[*] = Relu(%l) %z: none[*] = Softmax(%r) "
     "{axis=1} output %y output %z }",
     1e-5},
    {"softmax along axes that are innermost in no order of their own",
     "graph \"g\" { input %x: float32[6,5,4] input %z: float32[1,3,7,6] const %w: "
     "float32[5,3,3,3] = random 1 %a: none[*] = Softmax(%x) {axis=0} "
     "%c: none[*] = Conv(%z, %w) {pads=[1,1,1,1]} %b: none[*] = LogSoftmax(%c) {axis=2} "
     "%d: none[*] = Relu(%b) output %a output %d }",
     1e-5},
    {"pixel shuffle",
     "graph \"g\" { input %x: float32[1,9,5,4] const %w: float32[9,9,3,3] = random 1 %c: none[*] = "
     "Conv(%x, %w) {pads=[1,1,1,1]} "
     "const %s: int64[6] = {1, 1, 3, 3, 5, 4} %r: none[*] = Reshape(%c, %s) %t: none[*] = "
     "Transpose(%r) {perm=[0,1,4,2,5,3]} "
     "const %u: int64[4] = {1, 1, 15, 12} %y: none[*] = Reshape(%t, %u) output %y }",
     1e-5},
    {"blocks",
     "graph \"g\" { input %x: float32[1,8,4,6] %a: none[*] = DepthToSpace(%x) {blocksize=2} %b: "
     "none[*] = SpaceToDepth(%a) {blocksize=2} "
     "%c: none[*] = DepthToSpace(%b) {blocksize=2, mode=\"CRD\"} output %c }",
     1e-6},
    {"pad and batch normalisation",
     "graph \"g\" { input %x: float32[1,5,6,7] const %p: int64[8] = {0, 1, 2, 0, 0, 2, 1, 3} const "
     "%v: "
     "float32[] = fill 0.5 "
     "%a: none[*] = Pad(%x, %p, %v) const %s: float32[8] = random 1 const %b: float32[8] = random "
     "2 const %m: float32[8] = random 3 "
     "const %q: float32[8] = fill 0.75 %y: none[*] = BatchNormalization(%a, %s, %b, %m, %q) output "
     "%y }",
     1e-5},
    {"resize",
     "graph \"g\" { input %x: float32[1,3,5,4] const %r: float32[4] = {1.0, 1.0, 2.0, 3.0} "
     "%a: none[*] = Resize(%x, _, %r) {mode=\"linear\"} %b: none[*] = Resize(%a, _, %r) "
     "{mode=\"nearest\"} output %b }",
     1e-5},
    {"reductions",
     "graph \"g\" { input %x: float32[3,5,4,37] const %a: int64[1] = {-1} %m: none[*] = "
     "ReduceMean(%x, "
     "%a) const %c: int64[2] = {1, 2} "
     "%n: none[*] = ReduceMax(%x, %c) {keepdims=0} output %m output %n }",
     1e-5},
    {"one dimension",
     "graph \"g\" { input %x: float32[2,6,40] const %w: float32[10,6,5] = random 1 %c: none[*] = "
     "Conv(%x, %w) {pads=[2,2], strides=[2]} "
     "%r: none[*] = Relu(%c) %p: none[*] = MaxPool(%r) {kernel_shape=[2], strides=[2]} output %p }",
     1e-5},
    {"many rows and panels",
     "graph \"g\" { input %x: float32[600,130] const %w: float32[130,200] = random 1 %y: none[*] = "
     "MatMul(%x, %w) output %y }",
     1e-5},
    {"products of two computed batches",
     "graph \"g\" { input %x: float32[2,3,17,40] input %z: float32[2,3,40,21] %y: none[*] = "
     "MatMul(%x, %z) output %y }",
     1e-5},
    {"broadcast batches of products",
     "graph \"g\" { input %x: float32[2,1,7,9] input %z: float32[3,9,5] %a: none[*] = MatMul(%x, "
     "%z) const %w: float32[3,5,6] = random 1 %b: none[*] = MatMul(%a, %w) input %v: "
     "float32[1,6,130] %c: none[*] = MatMul(%b, %v) output %c }",
     1e-5},
    {"products of many dimensions, a constant on the left",
     "graph \"g\" { input %x: float32[2,3,2,2,4,6] input %z: float32[3,1,2,6,5] const %w: "
     "float32[3,4] = random 1 %a: none[*] = MatMul(%x, %z) %y: none[*] = MatMul(%w, %a) output %y "
     "}",
     1e-5},
    {"heads: transposed operands, a result that is transposed",
     "graph \"g\" { input %x: float32[2,20,48] const %s: int64[4] = {2, 20, 3, 16} const %t: "
     "int64[3] = {2, 20, 48} const %w: float32[48,48] = random 1 %p: none[*] = MatMul(%x, %w) "
     "%h: none[*] = Reshape(%p, %s) %q: none[*] = Transpose(%h) {perm=[0,2,1,3]} %k: none[*] = "
     "Transpose(%h) {perm=[0,2,3,1]} %a: none[*] = MatMul(%q, %k) %b: none[*] = Softmax(%a) "
     "{axis=-1} %c: none[*] = MatMul(%b, %q) %d: none[*] = Transpose(%c) {perm=[0,2,1,3]} "
     "%e: none[*] = Reshape(%d, %t) %f: none[*] = MatMul(%e, %w) output %f }",
     1e-5},
    {"layer normalisation over one and two axes",
     "graph \"g\" { input %x: float32[5,3,4,37] const %s: float32[37] = random 1 const %b: "
     "float32[37] = random 2 const %u: float32[4,37] = random 3 %a: none[*] = "
     "LayerNormalization(%x, %s, %b) {epsilon=0.001} %t: none[*] = Transpose(%a) "
     "{perm=[1,0,2,3]} %y: none[*] = LayerNormalization(%t, %u) {axis=2} output %y }",
     1e-5},
    {"instance normalisation between convolutions",
     "graph \"g\" { input %x: float32[2,3,9,8] const %w: float32[6,3,3,3] = random 1 const %v: "
     "float32[4,6,3,3] = random 2 const %s: float32[6] = random 3 const %b: float32[6] = random 4 "
     "%c: none[*] = Conv(%x, %w) {pads=[1,1,1,1]} %n: none[*] = InstanceNormalization(%c, %s, %b) "
     "%y: none[*] = Conv(%n, %v) {pads=[1,1,1,1]} output %y }",
     1e-5},
    {"rows of tables by computed and constant indices",
     "graph \"g\" { input %x: float32[3,5] const %k: float32[] = fill 8.0 %m: none[*] = Mul(%x, "
     "%k) "
     "%f: none[*] = Floor(%m) %i: none[*] = Cast(%f) {to=7} const %t: float32[9,4] = random 1 "
     "%a: none[*] = Gather(%t, %i) const %j: int64[2] = {2, -1} %b: none[*] = Gather(%a, %j) "
     "{axis=1} %u: none[*] = Transpose(%i) {perm=[1,0]} %c: none[*] = Gather(%t, %u) "
     "output %b output %c }",
     1e-5},
    {"attention with a mask",
     "graph \"attention\" { input %x: float32[2,4,32] input %mask: float32[2,1,1,4] const %wq: "
     "float32[32,32] = random 1 const %wk: float32[32,32] = random 2 const %wv: float32[32,32] = "
     "random 3 const %wo: float32[32,32] = random 4 const %bq: float32[32] = random 5 const %bk: "
     "float32[32] = random 6 const %eight: float32[] = {4} const %heads: int64[4] = {2, 4, 2, 16} "
     "const %joined: int64[3] = {2, 4, 32} %q1: none[*] = MatMul(%x, %wq) %q2: none[*] = Add(%bq, "
     "%q1) %q3: none[*] = Reshape(%q2, %heads) %q: none[*] = Transpose(%q3) {perm=[0,2,1,3]} %k1: "
     "none[*] = MatMul(%x, %wk) %k2: none[*] = Add(%k1, %bk) %k3: none[*] = Reshape(%k2, %heads) "
     "%k: none[*] = Transpose(%k3) {perm=[0,2,3,1]} %v1: none[*] = MatMul(%x, %wv) %v3: none[*] = "
     "Reshape(%v1, %heads) %v: none[*] = Transpose(%v3) {perm=[0,2,1,3]} %s1: none[*] = MatMul(%q, "
     "%k) %s2: none[*] = Div(%s1, %eight) %s3: none[*] = Add(%s2, %mask) %p: none[*] = "
     "Softmax(%s3) {axis=-1} %c1: none[*] = MatMul(%p, %v) %c2: none[*] = Transpose(%c1) "
     "{perm=[0,2,1,3]} %c3: none[*] = Reshape(%c2, %joined) %o1: none[*] = MatMul(%c3, %wo) %o: "
     "none[*] = Add(%o1, %x) output %o }",
     1e-05},
    {"gelu in its spellings",
     "graph \"gelu\" { input %x: float32[2,3] const %root: float32[] = {1.4142135} const %inverse: "
     "float32[] = {0.70710677} const %one: float32[] = {1} const %half: float32[] = {0.5} const "
     "%three: float32[] = {3} const %k: float32[] = {0.044715} const %c: float32[] = {0.7978846} "
     "const %other: float32[] = {0.9} %a1: none[*] = Div(%x, %root) %a2: none[*] = Erf(%a1) %a3: "
     "none[*] = Add(%a2, %one) %a4: none[*] = Mul(%x, %a3) %a: none[*] = Mul(%a4, %half) %b1: "
     "none[*] = Mul(%a, %inverse) %b2: none[*] = Erf(%b1) %b3: none[*] = Add(%one, %b2) %b4: "
     "none[*] = Mul(%a, %half) %b: none[*] = Mul(%b4, %b3) %c1: none[*] = Mul(%b, %inverse) %c2: "
     "none[*] = Erf(%c1) %c3: none[*] = Mul(%c2, %half) %c4: none[*] = Add(%c3, %half) %d: none[*] "
     "= Mul(%c4, %b) %d1: none[*] = Pow(%d, %three) %d2: none[*] = Mul(%d1, %k) %d3: none[*] = "
     "Add(%d, %d2) %d4: none[*] = Mul(%d3, %c) %d5: none[*] = Tanh(%d4) %d6: none[*] = Add(%d5, "
     "%one) %d7: none[*] = Mul(%d, %half) %e: none[*] = Mul(%d7, %d6) %e1: none[*] = Mul(%e, %e) "
     "%e2: none[*] = Mul(%e1, %e) %e3: none[*] = Mul(%k, %e2) %e4: none[*] = Add(%e, %e3) %e5: "
     "none[*] = Mul(%e4, %c) %e6: none[*] = Tanh(%e5) %e7: none[*] = Add(%one, %e6) %e8: none[*] = "
     "Mul(%half, %e7) %f: none[*] = Mul(%e, %e8) %f1: none[*] = Mul(%f, %k) %f2: none[*] = "
     "Mul(%f1, %f) %f3: none[*] = Add(%f2, %one) %f4: none[*] = Mul(%f, %c) %f5: none[*] = "
     "Mul(%f4, %f3) %f6: none[*] = Tanh(%f5) %f7: none[*] = Add(%f6, %one) %f8: none[*] = Mul(%f7, "
     "%f) %g: none[*] = Mul(%half, %f8) %g1: none[*] = Mul(%g, %other) %g2: none[*] = Erf(%g1) "
     "%g3: none[*] = Add(%one, %g2) %g4: none[*] = Mul(%g, %half) %h: none[*] = Mul(%g4, %g3) "
     "output %h }",
     0.0001},
    {"normalisation in its spellings",
     "graph \"norms\" { input %x: float32[2,3,4] const %last: int64[1] = {-1} const %two: "
     "float32[] = {2} const %half: float32[] = {0.5} const %one: float32[] = {1} const %eps: "
     "float32[] = {1e-05} const %s: float32[4] = {1, 2, 3, 4} const %b: float32[4] = {5, 6, 7, 8} "
     "%a1: none[*] = ReduceMean(%x, %last) {keepdims=1} %a2: none[*] = Sub(%x, %a1) %a3: none[*] = "
     "Pow(%a2, %two) %a4: none[*] = ReduceMean(%a3, %last) {keepdims=1} %a5: none[*] = Add(%a4, "
     "%eps) %a6: none[*] = Sqrt(%a5) %a7: none[*] = Div(%a2, %a6) %a8: none[*] = Mul(%a7, %s) %a: "
     "none[*] = Add(%a8, %b) %b1: none[*] = ReduceMean(%a, %last) %b2: none[*] = Sub(%a, %b1) %b3: "
     "none[*] = Sub(%a, %b1) %b4: none[*] = Mul(%b3, %b3) %b5: none[*] = ReduceMean(%b4, %last) "
     "%b6: none[*] = Add(%eps, %b5) %b7: none[*] = Sqrt(%b6) %b8: none[*] = Reciprocal(%b7) %b9: "
     "none[*] = Mul(%b2, %b8) %c: none[*] = Mul(%s, %b9) %c1: none[*] = ReduceMean(%c, %last) %c2: "
     "none[*] = Sub(%c, %c1) %c3: none[*] = Mul(%c2, %c2) %c4: none[*] = ReduceMean(%c3, %last) "
     "%c5: none[*] = Add(%c4, %eps) %c6: none[*] = Pow(%c5, %half) %d: none[*] = Div(%c2, %c6) "
     "%d1: none[*] = ReduceMean(%d, %last) %d2: none[*] = Sub(%d, %d1) %d3: none[*] = Mul(%d2, "
     "%d2) %d4: none[*] = ReduceMean(%d3, %last) %d5: none[*] = Add(%d4, %eps) %d6: none[*] = "
     "Sqrt(%d5) %d7: none[*] = Div(%one, %d6) %d8: none[*] = Mul(%d7, %s) %d9: none[*] = Mul(%d, "
     "%d8) %d10: none[*] = Mul(%d1, %d8) %d11: none[*] = Sub(%b, %d10) %e: none[*] = Add(%d9, "
     "%d11) %e1: none[*] = Pow(%e, %two) %e2: none[*] = ReduceMean(%e1, %last) %e3: none[*] = "
     "Add(%e2, %eps) %e4: none[*] = Sqrt(%e3) %e5: none[*] = Div(%e, %e4) %f: none[*] = Mul(%s, "
     "%e5) const %middle: int64[1] = {1} %f1: none[*] = ReduceMean(%f, %middle) %f2: none[*] = "
     "Sub(%f, %f1) %f3: none[*] = Mul(%f2, %f2) %f4: none[*] = ReduceMean(%f3, %middle) %f5: "
     "none[*] = Add(%f4, %eps) %f6: none[*] = Sqrt(%f5) %g: none[*] = Div(%f2, %f6) const %first: "
     "int64[1] = {0} %g1: none[*] = ReduceMean(%g, %first) %g2: none[*] = Sub(%g, %g1) %g3: "
     "none[*] = Mul(%g2, %g2) %g4: none[*] = ReduceMean(%g3, %first) %g5: none[*] = Add(%g4, %eps) "
     "%g6: none[*] = Sqrt(%g5) %h: none[*] = Div(%g2, %g6) output %h }",
     0.0001},
    {"vectors, and a matrix product of two computed, transposed, scaled matrices",
     "graph \"g\" { input %x: float32[7] input %y: float32[7,5] input %z: float32[3,5] %a: none[*] "
     "= MatMul(%x, %y) %b: none[*] = MatMul(%y, %a) %c: none[*] = MatMul(%b, %x) %d: none[*] = "
     "Gemm(%y, %z) {transA=0, transB=1, alpha=0.5} %e: none[*] = Gemm(%y, %d) {transA=1} output %c "
     "output %e }",
     1e-05},
    {"sums that engines have not",
     "graph \"g\" { input %x: float32[3,5,4,6] const %a: int64[2] = {1, -1} %l: none[*] = "
     "ReduceL2(%x, %a) %m: none[*] = ReduceLogSumExp(%x, %a) {keepdims=0} %n: none[*] = "
     "ReduceLogSumExp(%x) %q: none[*] = Mul(%x, %x) %s: none[*] = ReduceLogSum(%q, %a) %v: none[*] "
     "= MeanVarianceNormalization(%x) output %l output %m output %n output %s output %v }",
     1e-05},
    {"a bias, an activation and a residual behind a product of many rows",
     "graph \"g\" { input %x: float32[2,3,20] const %w: float32[20,37] = random 1 const %b: "
     "float32[37] = random 2 input %r: float32[3,1] %p: none[*] = MatMul(%x, %w) %q: none[*] = "
     "Add(%p, %b) %s: none[*] = Add(%q, %r) %t: none[*] = Tanh(%s) output %t }",
     1e-05},
    {"one-hot vectors, rows of products, a bias behind a reshape",
     "graph \"tables\" { input %x: float32[2,3] const %depth: int64[] = {2} const %values: "
     "float32[2] = {0, 1} const %w: float32[2,2] = {1, 2, 3, 4} const %b: float32[2] = {5, 6} "
     "const %flat: int64[2] = {6, 2} const %shape: int64[3] = {2, 3, 2} const %k: float32[] = fill "
     "4.0 %m: none[*] = Mul(%x, %k) %i: none[*] = Cast(%m) {to=6} %a: none[*] = OneHot(%i, %depth, "
     "%values) %a1: none[*] = Reshape(%a, %flat) %c: none[*] = MatMul(%a1, %w) %c1: none[*] = "
     "Reshape(%c, %shape) %d: none[*] = OneHot(%i, %depth, %values) {axis=1} const %v: "
     "float32[2,4] = {1, 2, 3, 4, 5, 6, 7, 8} input %y: float32[6,2] %p: none[*] = MatMul(%y, %v) "
     "const %back: int64[3] = {2, 3, 4} %q: none[*] = Reshape(%p, %back) const %bias: float32[4] = "
     "{1, 2, 3, 4} %r: none[*] = Add(%q, %bias) %s: none[*] = Relu(%r) output %c1 output %d output "
     "%s }",
     1e-05},
    {"batch normalisation by computed statistics",
     "graph \"g\" { input %x: float32[2,3,4,5] input %m: float32[3] input %v: float32[3] const %s: "
     "float32[3] = random 1 const %b: float32[3] = random 2 %q: none[*] = Mul(%v, %v) %y: none[*] "
     "= BatchNormalization(%x, %s, %b, %m, %q) {epsilon=0.01} output %y }",
     1e-05},
    {"transposed convolutions",
     "graph \"g\" { input %x: float32[2,6,5,7] const %w: float32[6,4,3,3] = random 1 const %b: "
     "float32[4] = random 2 const %v: float32[4,3,4,2] = random 3 const %u: float32[3,2,2,3] = "
     "random 4 %a: none[*] = ConvTranspose(%x, %w, %b) {strides=[2,2], pads=[1,1,1,1], "
     "output_padding=[1,1]} %r: none[*] = Relu(%a) %c: none[*] = ConvTranspose(%r, %v) {group=1, "
     "strides=[3,1], dilations=[2,2], pads=[0,1,2,0]} %d: none[*] = ConvTranspose(%c, %u) "
     "{auto_pad=\"SAME_UPPER\", strides=[2,3]} output %d }",
     1e-5},
    {"transposed convolutions of one dimension, in groups",
     "graph \"g\" { input %x: float32[2,6,9] const %w: float32[6,4,5] = random 1 const %v: "
     "float32[8,1,3] = random 2 const %b: float32[2] = random 3 %a: none[*] = ConvTranspose(%x, "
     "%w) {group=2, strides=[2], pads=[2,1], output_padding=[1]} %c: none[*] = ConvTranspose(%a, "
     "%v, %b) {group=2, dilations=[2], pads=[1,1]} output %c }",
     1e-5},
    {"a transformer in float16",
     "graph \"g\" { input %i: float32[2,6,32] %x: none[*] = Cast(%i) {to=10} const %w: "
     "float16[32,96] = random 1 const %u: float16[32,32] = random 2 const %s: float16[32] = random "
     "3 const %q: float16[] = fill 0.25 const %b: float16[96] = random 4 %p: none[*] = MatMul(%x, "
     "%w) %pb: none[*] = Add(%p, %b) %a: none[*], %c: none[*], %d: none[*] = Split(%pb) {axis=-1} "
     "%t: none[*] = Transpose(%c) {perm=[0,2,1]} %e: none[*] = MatMul(%a, %t) %f: none[*] = "
     "Mul(%e, %q) %g: none[*] = Softmax(%f) {axis=-1} %h: none[*] = MatMul(%g, %d) %k: none[*] = "
     "MatMul(%h, %u) %l: none[*] = Add(%k, %x) %m: none[*] = LayerNormalization(%l, %s) %n: "
     "none[*] = Gelu(%m) %y: none[*] = Cast(%n) {to=1} output %y }",
     4e-3},
    {"a transformer in bfloat16",
     "graph \"g\" { input %i: float32[2,6,32] %x: none[*] = Cast(%i) {to=16} const %w: "
     "bfloat16[32,96] = random 1 const %u: bfloat16[32,32] = random 2 const %s: bfloat16[32] = "
     "random 3 const %q: bfloat16[] = fill 0.25 const %b: bfloat16[96] = random 4 %p: none[*] = "
     "MatMul(%x, %w) %pb: none[*] = Add(%p, %b) %a: none[*], %c: none[*], %d: none[*] = Split(%pb) "
     "{axis=-1} %t: none[*] = Transpose(%c) {perm=[0,2,1]} %e: none[*] = MatMul(%a, %t) %f: "
     "none[*] = Mul(%e, %q) %g: none[*] = Softmax(%f) {axis=-1} %h: none[*] = MatMul(%g, %d) %k: "
     "none[*] = MatMul(%h, %u) %l: none[*] = Add(%k, %x) %m: none[*] = LayerNormalization(%l, %s) "
     "%n: none[*] = Gelu(%m) %y: none[*] = Cast(%n) {to=1} output %y }",
     3e-2},
    {"a convolution in float16",
     "graph \"g\" { input %i: float32[1,3,9,9] const %w: float16[17,3,3,3] = random 1 const %b: "
     "float16[17] = random 2 %x: none[*] = Cast(%i) {to=10} %c: none[*] = Conv(%x, %w, %b) "
     "{pads=[1,1,1,1]} %r: none[*] = Relu(%c) %p: none[*] = GlobalAveragePool(%r) %y: none[*] = "
     "Cast(%p) {to=1} output %y }",
     2e-3},
    {"an output that others read",
     "graph \"g\" { input %x: float32[1,4,6,6] const %w: float32[4,4,3,3] = random 1 %a: none[*] = "
     "Conv(%x, %w) {pads=[1,1,1,1]} "
     "%b: none[*] = Conv(%a, %w) output %a output %b }",
     1e-5},
};
#define N_CASES (sizeof cases / sizeof *cases)

/* Attention with a softmax along |axis| (a text). */
#define ATTENTION(axis)                                                                            \
    "graph \"g\" { input %x: float32[1,160,64] input %mask: float32[1,1,1,160] "                   \
    "const %wq: float32[64,64] = random 1 const %wk: float32[64,64] = random 2 "                   \
    "const %wv: float32[64,64] = random 3 const %wo: float32[64,64] = random 4 "                   \
    "const %heads: int64[4] = {1, 160, 8, 8} const %joined: int64[3] = {1, 160, 64} "              \
    "const %s: float32[] = {0.4} "                                                                 \
    "%q1: none[*] = MatMul(%x, %wq) %q2: none[*] = Reshape(%q1, %heads) "                          \
    "%q: none[*] = Transpose(%q2) {perm=[0,2,1,3]} "                                               \
    "%k1: none[*] = MatMul(%x, %wk) %k2: none[*] = Reshape(%k1, %heads) "                          \
    "%k: none[*] = Transpose(%k2) {perm=[0,2,3,1]} "                                               \
    "%v1: none[*] = MatMul(%x, %wv) %v2: none[*] = Reshape(%v1, %heads) "                          \
    "%v: none[*] = Transpose(%v2) {perm=[0,2,1,3]} "                                               \
    "%a: none[*] = MatMul(%q, %k) %b: none[*] = Mul(%a, %s) %c: none[*] = Add(%b, %mask) "         \
    "%p: none[*] = Softmax(%c) {axis=" axis "} %o1: none[*] = MatMul(%p, %v) "                     \
    "%o2: none[*] = Transpose(%o1) {perm=[0,2,1,3]} %o3: none[*] = Reshape(%o2, %joined) "         \
    "%o: none[*] = MatMul(%o3, %wo) output %o }"

/* Batches and heads that outgrow a cache: a section ends at the constant that differs from item to
 * item, and before the product of few rows. */
static const graph_case batches[] = {
    {"batch by items",
     "graph \"g\" { input %x: float32[4,3,64,64] const %w: float32[24,3,3,3] = random 1 "
     "const %v: float32[24,48,3,3] = random 2 const %u: float32[24,9] = random 3 "
     "%a: none[*] = Conv(%x, %w) {pads=[1,1,1,1]} %r: none[*] = Relu(%a) "
     "%p: none[*] = MaxPool(%r) {kernel_shape=[3,3], strides=[1,1], pads=[1,1,1,1]} "
     "%c: none[*] = Concat(%r, %p) {axis=1} %d: none[*] = Conv(%c, %v) {pads=[1,1,1,1]} "
     "%e: none[*] = Add(%d, %r) %f: none[*] = Relu(%e) %g: none[*] = GlobalAveragePool(%f) "
     "%h: none[*] = Flatten(%g) %y: none[*] = MatMul(%h, %u) output %y output %f }",
     1e-5},
    {"items of their own in between",
     "graph \"g\" { input %x: float32[6,8,48,48] const %w: float32[24,8,3,3] = random 1 "
     "const %k: float32[6,24,1,1] = random 2 const %v: float32[24,24,3,3] = random 3 "
     "const %d: float32[24,1,3,3] = random 4 const %q: float32[1,24,1,1] = random 5 "
     "%a: none[*] = Conv(%x, %w) {pads=[1,1,1,1]} %l: none[*] = LRN(%a) {size=5} "
     "%b: none[*] = Mul(%l, %k) %c: none[*] = Conv(%b, %v) {pads=[1,1,1,1]} "
     "%e: none[*] = Conv(%c, %d) {group=24, pads=[1,1,1,1]} %f: none[*] = Mul(%e, %q) "
     "%g: none[*] = Add(%f, %b) output %g }",
     1e-5},
    {"attention by heads", ATTENTION("-1"), 1e-5},
    {"attention whose heads meet", ATTENTION("1"), 1e-5},
};
#define N_BATCHES (sizeof batches / sizeof *batches)

/* Sums and the residuals they may take the place of: |in_place| of them on one TPB and on two. */
static const struct sum_case {
    graph_case graph;
    uint32_t in_place[2];
} sums[] = {
    {{"two blocks, one after the other",
      "graph \"g\" { input %x: float32[1,8,9,9] const %w: float32[16,8,1,1] = random 1 "
      "const %v: float32[8,16,1,1] = random 2 const %u: float32[16,8,1,1] = random 3 "
      "%a: none[*] = Conv(%x, %w) %r: none[*] = Relu(%a) %b: none[*] = Conv(%r, %v) "
      "%c: none[*] = Conv(%b, %u) %d: none[*] = Add(%c, %r) %e: none[*] = Relu(%d) "
      "%f: none[*] = Conv(%e, %v) %g: none[*] = Conv(%f, %u) %h: none[*] = Add(%g, %e) "
      "%y: none[*] = Conv(%h, %v) output %y }",
      1e-5},
     {2, 2}},
    {{"a residual that is read again",
      "graph \"g\" { input %x: float32[1,8,9,9] const %w: float32[16,8,1,1] = random 1 "
      "const %v: float32[8,16,1,1] = random 2 const %u: float32[16,8,1,1] = random 3 "
      "%r: none[*] = Conv(%x, %w) %b: none[*] = Conv(%r, %v) %c: none[*] = Conv(%b, %u) "
      "%d: none[*] = Add(%c, %r) %y: none[*] = Conv(%d, %v) %z: none[*] = Conv(%r, %v) "
      "%s: none[*] = Concat(%y, %z) {axis=1} output %s }",
      1e-5},
     {0, 0}},
    {{"a product with its own residual",
      "graph \"g\" { input %x: float32[1,16,9,9] const %w: float32[16,16,1,1] = random 1 "
      "%r: none[*] = Conv(%x, %w) %c: none[*] = Conv(%r, %w) %d: none[*] = Add(%c, %r) "
      "%y: none[*] = Conv(%d, %w) output %y }",
      1e-5},
     {0, 0}},
    {{"a halo around the residual alone",
      "graph \"g\" { input %x: float32[1,16,9,9] const %w: float32[16,16,1,1] = random 1 "
      "const %v: float32[16,16,3,3] = random 2 %r: none[*] = Conv(%x, %w) "
      "%b: none[*] = Conv(%r, %v) {pads=[1,1,1,1]} %c: none[*] = Conv(%b, %w) "
      "%d: none[*] = Add(%c, %r) %y: none[*] = Conv(%d, %w) output %y }",
      1e-5},
     {0, 0}},
    {{"a reader of the same time",
      "graph \"g\" { input %x: float32[1,16,9,9] const %w: float32[16,16,1,1] = random 1 "
      "const %v: float32[16,16,1,1] = random 2 %r: none[*] = Conv(%x, %w) "
      "%a: none[*] = Conv(%x, %v) %k: none[*] = Conv(%r, %v) %c: none[*] = Conv(%a, %w) "
      "%d: none[*] = Add(%c, %r) %y: none[*] = Conv(%d, %w) %z: none[*] = Conv(%k, %w) "
      "%s: none[*] = Mul(%y, %z) output %s }",
      1e-5},
     {1, 0}},
};
#define N_SUMS (sizeof sums / sizeof *sums)

static const uint32_t tpb_counts[] = {1, 2, 3, 4, 16};

KTEST(lower, verifies_for_any_tpbs)
{
    for (size_t i = 0; i < N_CASES; i++)
        for (size_t n = 0; n < sizeof tpb_counts / sizeof *tpb_counts; n++)
            for (int opt = 0; opt < 2; opt++)
                for (int cast = 0; cast < 3; cast++) {
                    lowered l;
                    lower_text(&l, cases[i].text, (kcc_cast)cast, (kcc_optimize)opt, tpb_counts[n],
                               true);
                    kaena_arena_fini(&l.arena);
                }
}

KTEST(lower, computes_what_the_graph_says)
{
    for (size_t i = 0; i < N_CASES; i++)
        check_against_reference(&cases[i]);
}

/* Bits must not depend on how many TPBs there are, on the schedule, on fusion of runs, or on the
 * kernels' level. */
KTEST(lower, bits_do_not_depend_on_the_schedule)
{
    for (size_t i = 0; i < N_CASES; i++)
        check_bits(&cases[i], tpb_counts, sizeof tpb_counts / sizeof *tpb_counts);
}

KTEST(lower, batches_run_item_by_item)
{
    static const uint32_t counts[] = {1, 2, 3},
                          sections[N_BATCHES][3] = {{1, 1, 0}, {2, 2, 2}, {0, 1, 0}, {0, 0, 0}};
    for (size_t i = 0; i < N_BATCHES; i++) {
        check_against_reference(&batches[i]);
        check_bits(&batches[i], counts, sizeof counts / sizeof *counts);
        for (size_t n = 0; n < sizeof counts / sizeof *counts; n++) {
            lowered l;
            lower_text(&l, batches[i].text, KCC_CAST_NONE, KCC_OPTIMIZE_LATENCY, counts[n], true);
            uint32_t found = 0;
            for (const kcc_section *s = l.module->sections; s; s = s->next, found++)
                cr_assert(s->frame && s->frame_bytes * (uint64_t)s->items > 1 << 20,
                          "%s: nothing lives for one item", batches[i].name);
            cr_assert(found == sections[i][n], "%s: %u sections for %u TPBs", batches[i].name,
                      found, counts[n]);
            kaena_arena_fini(&l.arena);
        }
    }
}

static uint32_t sums_in_place(const kcc_module *m)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < m->n_nodes; i++) {
        const kgr_value *r = kcc_epilogue_of(m->node[i]).residual;
        n += r && kcc_view_of(m, r)->buf == kcc_view_of(m, m->node[i]->out[0])->buf;
    }
    return n;
}

KTEST(lower, sums_take_the_place_of_residuals)
{
    static const uint32_t counts[] = {1, 2};
    for (size_t i = 0; i < N_SUMS; i++) {
        const graph_case *g = &sums[i].graph;
        check_against_reference(g);
        check_bits(g, tpb_counts, sizeof tpb_counts / sizeof *tpb_counts);
        for (size_t n = 0; n < sizeof counts / sizeof *counts; n++) {
            lowered l;
            lower_text(&l, g->text, KCC_CAST_ALL, KCC_OPTIMIZE_LATENCY, counts[n], true);
            uint32_t found = sums_in_place(l.module);
            cr_assert(found == sums[i].in_place[n], "%s: %u sums in place on %u TPBs", g->name,
                      found, counts[n]);
            kaena_arena_fini(&l.arena);
        }
    }
}

/* What comes from a host step, whatever operator made it, is never written in place by this one. */
KTEST(lower, concatenates_results_of_the_host)
{
    static const char *const makers[] = {"Gather(%x, %i) {axis=1}", "Concat(%q, %q) {axis=1}"};
    for (size_t k = 0; k < sizeof makers / sizeof *makers; k++) {
        lowered l = {0};
        kaena_err err;
        char text[512];
        kaena_arena_init(&l.arena, 0);
        l.opt = (kcc_options){.cast = KCC_CAST_NONE, .num_tpbs = 1};
        (void)snprintf(text, sizeof text,
                       "graph \"g\" { input %%x: float32[2,3] const %%i: int64[2] = {0, 1} "
                       "%%q: none[*] = Gather(%%x, %%i) {axis=1} %%h: none[*] = %s "
                       "%%y: none[*] = Concat(%%h, %%x) {axis=1} output %%y }",
                       makers[k]);
        KTEST_OK(err, kgr_parse(&l.arena, text, strlen(text), &l.graph, &err));
        KTEST_OK(err, kcc_pass_infer(l.graph, &l.opt, &err));
        for (kgr_node *n = l.graph->first; n; n = n->next)
            n->device = n == l.graph->last ? 1 : 2;
        kcc_partition_build(l.graph, &l.plan);
        const kcc_step *s = &l.plan.steps[l.plan.n_steps - 1];
        cr_assert(s->on_device && s->n_nodes == 1);
        l.weights = kcc_weights_create(&l.arena);
        l.module = kcc_module_create(&l.arena, &l.opt, l.graph, s->nodes, s->n_nodes, s->in,
                                     s->n_in, s->out, s->n_out, l.weights);
        KTEST_OK(err, kcc_layout(l.module, &err));
        KTEST_OK(err, kcc_place(l.module, &err));
        KTEST_OK(err, kcc_plan(l.module, &err));
        KTEST_OK(err, kcc_emit(l.module, &err));
        for (uint32_t i = 0; i < l.module->n_io; i++)
            l.io_bytes[i] = kop_elements(&l.module->io[i]->t) * sizeof(float);
        l.program[0] = (kisa_program){l.module->code[0].inst, l.module->code[0].n};
        io_set io = make_io(&l);
        run_lowered(&l, io.io, true, KER_SCALAR);
        const float *y = (const float *)(const void *)io.io[s->n_in];
        size_t columns = (size_t)s->in[0]->t.shape.dim[1], wide = columns + 3;
        for (size_t r = 0; r < 2; r++)
            for (size_t c = 0; c < wide; c++) {
                const float *from = (const float *)(const void *)io.io[c >= columns];
                float want = c < columns ? from[r * columns + c] : from[r * 3 + c - columns];
                cr_assert(y[r * wide + c] == want, "row %zu, column %zu", r, c);
            }
        free_io(&io);
        kaena_arena_fini(&l.arena);
    }
}
