#!/usr/bin/python3
"""Writes the quantised twin of an ONNX model that is one chain of layers: QLinearConv and QLinearMatMul on bytes.

usage: quantise_onnx.py MODEL.onnx QUANTISED.onnx

Knows Conv, Gemm, Relu, MaxPool, Reshape, Dropout and Softmax. Weights keep their values, in 127 steps a layer; activations get scales that suit
noise, since the twin is there to be timed. A Relu is what unsigned bytes with zero point 0 do anyhow; a Gemm's bias is left out. Needs Debian's
python3-onnx and python3-numpy.
"""

import sys

import numpy as np
import onnx
from onnx import helper, numpy_helper

SCALE = 0.05  # of every activation


def quantise(model):
    graph = model.graph
    known = {t.name: t for t in graph.initializer}
    constants, nodes = [], []

    def constant(name, array):
        constants.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def weights(name, transpose):
        w = numpy_helper.to_array(known[name])
        w = w.T if transpose else w
        scale = np.float32(np.abs(w).max() / 127)
        q = np.clip(np.rint(w / scale), -127, 127).astype(np.int8)
        return [constant(name + "_q", q), constant(name + "_scale", scale), constant(name + "_zero", np.int8(0))], scale

    scale, zero = constant("scale", np.float32(SCALE)), constant("zero", np.uint8(0))
    byte = [scale, zero]
    value = {graph.input[0].name: "input_q"}  # float value -> its bytes
    nodes.append(helper.make_node("QuantizeLinear", [graph.input[0].name, *byte], ["input_q"]))
    for node in graph.node:
        x, y = node.input[0], node.output[0]
        if node.op_type in ("Relu", "Dropout"):
            value[y] = value[x]
        elif node.op_type == "Conv":
            w, w_scale = weights(node.input[1], False)
            bias = []
            if len(node.input) > 2:
                b = numpy_helper.to_array(known[node.input[2]]) / (np.float32(SCALE) * w_scale)
                bias = [constant(node.input[2] + "_q", np.rint(b).astype(np.int32))]
            made = helper.make_node("QLinearConv", [value[x], *byte, *w, *byte, *bias], [y + "_q"])
            made.attribute.extend(node.attribute)
            nodes.append(made)
            value[y] = y + "_q"
        elif node.op_type == "Gemm":
            transposed = any(a.name == "transB" and a.i for a in node.attribute)
            w, _ = weights(node.input[1], transposed)
            nodes.append(helper.make_node("QLinearMatMul", [value[x], *byte, *w, *byte], [y + "_q"]))
            value[y] = y + "_q"
        elif node.op_type in ("MaxPool", "Reshape"):
            made = helper.make_node(node.op_type, [value[x], *node.input[1:]], [y + "_q"])
            made.attribute.extend(node.attribute)
            nodes.append(made)
            constants.extend(known[name] for name in node.input[1:])
            value[y] = y + "_q"
        elif node.op_type == "Softmax":
            nodes.append(helper.make_node("DequantizeLinear", [value[x], *byte], [x + "_f"]))
            nodes.append(helper.make_node("Softmax", [x + "_f"], [y], axis=-1))
        else:
            sys.exit(f"quantise_onnx.py: {node.op_type} '{node.name}' is not a layer it knows")
    inputs = [i for i in graph.input if i.name not in known]
    made = helper.make_graph(nodes, graph.name + "_int8", inputs, graph.output, constants)
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 13)], ir_version=7)


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__.split("\n\n")[1])
    try:
        onnx.save(quantise(onnx.load(sys.argv[1])), sys.argv[2])
    except OSError as e:
        sys.exit(f"quantise_onnx.py: {e.filename}: {e.strerror}")


main()
