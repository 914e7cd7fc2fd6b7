/* Quantised operators on the TPB: the reference evaluation's integers exactly, and bits that depend
 * on nothing. */
#include "lower_graph.h"

static const graph_case cases[] = {
    {"qlinear conv, uint8 with halo",
     "graph \"g\" { input %x: uint8[2,5,9,8] const %xs: float32[] = fill 0.02 const %xz: uint8[] = "
     "fill 131 const %w: int8[19,5,3,3] = random 1 const %ws: float32[19] = random 2 const %wz: "
     "int8[] = fill 0 const %ys: float32[] = fill 0.31 const %yz: uint8[] = fill 117 const %b: "
     "int32[19] = random 3 %y: none[*] = QLinearConv(%x, %xs, %xz, %w, %ws, %wz, %ys, %yz, %b) "
     "{pads=[1,1,1,1]} output %y }",
     0},
    {"qlinear conv, int8, strides, groups, weights of nine bits",
     "graph \"g\" { input %x: int8[1,6,11,7] const %xs: float32[] = fill 0.02 const %xz: int8[] = "
     "fill -7 const %w: uint8[8,3,3,2] = random 1 const %ws: float32[] = fill 0.01 const %wz: "
     "uint8[] = fill 251 const %ys: float32[] = fill 0.9 const %yz: int8[] = fill 3 "
     "%y: none[*] = QLinearConv(%x, %xs, %xz, %w, %ws, %wz, %ys, %yz) {pads=[1,0,2,1], "
     "strides=[2,1], group=2} output %y }",
     0},
    {"two convolutions and a pooling of bytes",
     "graph \"g\" { input %x: float32[1,3,12,12] const %xs: float32[] = fill 0.0078125 const %xz: "
     "uint8[] = fill 128 const %w: int8[16,3,3,3] = random 1 const %v: int8[70,16,3,3] = random 2 "
     "const %ws: float32[] = fill 0.05 const %wz: int8[] = fill 0 const %ys: float32[] = fill 0.07 "
     "const %yz: uint8[] = fill 90 %q: none[*] = QuantizeLinear(%x, %xs, %xz) "
     "%a: none[*] = QLinearConv(%q, %xs, %xz, %w, %ws, %wz, %ys, %yz) {pads=[1,1,1,1]} "
     "%p: none[*] = MaxPool(%a) {kernel_shape=[2,2], strides=[2,2]} "
     "%c: none[*] = QLinearConv(%p, %ys, %yz, %v, %ws, %wz, %ys, %yz) {pads=[1,1,1,1]} "
     "%y: none[*] = DequantizeLinear(%c, %ys, %yz) output %c output %y }",
     0},
    {"conv integer",
     "graph \"g\" { input %x: uint8[1,4,6,6] const %xz: uint8[] = fill 9 const %w: uint8[7,4,3,3] "
     "= random 1 const %wz: uint8[7] = {1, 2, 3, 0, 15, 128, 255} %y: none[*] = ConvInteger(%x, "
     "%w, %xz, %wz) {pads=[1,1,1,1]} output %y }",
     0},
    {"qlinear matmul of columns with scales of their own",
     "graph \"g\" { input %x: uint8[3,5,37] const %xs: float32[] = fill 0.02 const %xz: uint8[] = "
     "fill 113 const %w: int8[37,20] = random 1 const %ws: float32[20] = random 2 const %wz: "
     "int8[20] = random 3 const %ys: float32[] = fill 0.05 const %yz: uint8[] = fill 118 "
     "%y: none[*] = QLinearMatMul(%x, %xs, %xz, %w, %ws, %wz, %ys, %yz) output %y }",
     0},
    {"qlinear matmul with a bias and bounds",
     "graph \"g\" { input %x: int8[6,40] const %xs: float32[] = fill 0.02 const %xz: int8[] = fill "
     "0 const %w: int8[40,100] = random 1 const %ws: float32[] = fill 0.05 const %wz: int8[] = "
     "fill 0 const %ys: float32[] = fill 0.5 const %yz: int8[] = fill -3 const %b: int32[100] = "
     "random 5 %y: none[*] = QLinearMatMul(%x, %xs, %xz, %w, %ws, %wz, %ys, %yz, %b) "
     "{kaena.low=-3, kaena.high=30} output %y }",
     0},
    {"matmul integer, signed",
     "graph \"g\" { input %x: int8[4,300] const %w: int8[300,33] = random 1 %y: none[*] = "
     "MatMulInteger(%x, %w) output %y }",
     0},
    {"a dynamically quantised layer",
     "graph \"g\" { input %x: float32[4,30] const %w: int8[30,18] = random 1 const %s: float32[] = "
     "fill 0.03 %q: none[*], %xs: none[*], %xz: none[*] = DynamicQuantizeLinear(%x) "
     "%i: none[*] = MatMulInteger(%q, %w, %xz) %f: none[*] = Cast(%i) {to=1} %k: none[*] = "
     "Mul(%xs, %s) %y: none[*] = Mul(%f, %k) output %q output %xs output %xz output %i output %y }",
     1e-6},
    {"scales along an axis",
     "graph \"g\" { input %x: float32[2,3,4,5] const %s: float32[3] = {0.02, 0.5, 0.1} const %z: "
     "uint8[3] = {0, 128, 7} const %t: float32[5] = {0.02, 0.5, 0.1, 0.25, 1.5} const %u: int8[5] "
     "= {0, -3, 12, 127, -128} const %v: int8[5] = fill 4 %q: none[*] = QuantizeLinear(%x, %s, %z) "
     "%d: none[*] = DequantizeLinear(%q, %s, %z) %r: none[*] = QuantizeLinear(%x, %t, %u) "
     "{axis=-1} "
     "%e: none[*] = DequantizeLinear(%r, %t, %u) {axis=3} %w: none[*] = QuantizeLinear(%x, %t, %v) "
     "{axis=3} output %q output %d output %r output %e output %w }",
     0},
};
#define N_CASES (sizeof cases / sizeof *cases)

KTEST(lower_quant, computes_what_the_graph_says)
{
    for (size_t i = 0; i < N_CASES; i++)
        check_against_reference(&cases[i]);
}

KTEST(lower_quant, bits_do_not_depend_on_the_schedule)
{
    static const uint32_t counts[] = {1, 2, 4};
    for (size_t i = 0; i < N_CASES; i++)
        check_bits(&cases[i], counts, sizeof counts / sizeof *counts);
}

/* --- What exporters write: operators between DequantizeLinear and QuantizeLinear --- */

#define QUANTISED                                                                                  \
    "const %xs: float32[] = fill 0.0078125 const %xz: uint8[] = fill 128 const %ws: float32[16] "  \
    "= "                                                                                           \
    "random 9 const %as: float32[] = fill 0.04 const %az: uint8[] = fill 20 const %bs: float32[] " \
    "= fill 0.0625 const %i8: int8[] = fill 0 "                                                    \
    "%xq: none[*] = QuantizeLinear(%x, %xs, %xz) %xd: none[*] = DequantizeLinear(%xq, %xs, %xz) "

/* The results are uint8: one step of 255 apart where the float sum fell on the other side of a
 * tie. */
static const graph_case between[] = {
    {"convolutions with bias and relu, a pooling, a head",
     "graph \"g\" { input %x: float32[1,3,12,10] " QUANTISED
     "const %w: int8[16,3,3,3] = random 1 %wd: none[*] = DequantizeLinear(%w, %bs, %i8) "
     "const %b: float32[16] = random 3 %c: none[*] = Conv(%xd, %wd, %b) {pads=[1,1,1,1]} "
     "%r: none[*] = Relu(%c) %rq: none[*] = QuantizeLinear(%r, %as, %az) "
     "%rd: none[*] = DequantizeLinear(%rq, %as, %az) "
     "%p: none[*] = MaxPool(%rd) {kernel_shape=[2,2], strides=[2,2]} "
     "%pq: none[*] = QuantizeLinear(%p, %as, %az) %pd: none[*] = DequantizeLinear(%pq, %as, %az) "
     "const %v: float32[24,16,1,1] = random 4 %vq: none[*] = QuantizeLinear(%v, %bs, %i8) "
     "%vd: none[*] = DequantizeLinear(%vq, %bs, %i8) const %h: float32[] = fill 6.0 "
     "const %l: float32[] = fill 0.0 %d: none[*] = Conv(%pd, %vd) %e: none[*] = Clip(%d, %l, %h) "
     "%eq: none[*] = QuantizeLinear(%e, %as, %az) output %eq }",
     1.01 / 128},
    {"dense layers of three kinds",
     "graph \"g\" { input %x: float32[7,18] " QUANTISED
     "const %w: int8[18,16] = random 1 const %one: float32[16] = fill 0.03 const %wz: int8[16] = "
     "fill 0 %wd: none[*] = DequantizeLinear(%w, %one, %wz) {axis=1} %m: none[*] = MatMul(%xd, "
     "%wd) "
     "const %b: float32[16] = random 3 %a: none[*] = Add(%m, %b) %aq: none[*] = "
     "QuantizeLinear(%a, %as, %az) %ad: none[*] = DequantizeLinear(%aq, %as, %az) "
     "const %v: int8[9,16] = random 5 %vd: none[*] = DequantizeLinear(%v, %bs, %i8) "
     "const %ib: int32[9] = random 6 const %is: float32[] = fill 0.0025 "
     "%id: none[*] = DequantizeLinear(%ib, %is) %g: none[*] = Gemm(%ad, %vd, %id) {transB=1} "
     "%gq: none[*] = QuantizeLinear(%g, %as, %az) output %gq }",
     1.01 / 128},
};

static uint32_t count_ops(const kgr_graph *g, kop_op op)
{
    uint32_t n = 0;
    for (const kgr_node *k = g->first; k; k = k->next)
        n += k->op == op;
    return n;
}

KTEST(lower_quant, joins_what_exporters_write)
{
    static const uint32_t counts[] = {1, 2};
    for (size_t i = 0; i < sizeof between / sizeof *between; i++) {
        lowered l;
        lower_text(&l, between[i].text, KCC_CAST_ALL, KCC_OPTIMIZE_LATENCY, 1, true);
        cr_assert(count_ops(l.graph, KOP_Conv) + count_ops(l.graph, KOP_MatMul) +
                      count_ops(l.graph, KOP_Gemm) ==
                  0);
        cr_assert(count_ops(l.graph, i ? KOP_QLinearMatMul : KOP_QLinearConv) == 2);
        cr_assert(count_ops(l.graph, KOP_DequantizeLinear) == 0);
        kaena_arena_fini(&l.arena);
        check_against_reference(&between[i]);
        check_bits(&between[i], counts, 2);
    }
}
