#!/usr/bin/python3
"""Writes the convolutions and matrix products of an ONNX model, one a line, for bench_dnnl.

usage: model_products.py MODEL.onnx LIST [IO.json]

IO.json: shapes of the inputs, as kcc's --io-config has them. Lines of LIST:
  conv TIMES  N GROUPS  IC IH IW  OC OH OW  KH KW  SH SW  DH DW  TOP LEFT  BIAS RELU
  gemm TIMES  BATCH M N K  PACKED BIAS RELU
  # what was left out: its number, operator and why
TIMES: how often in one inference (steps of a recurrent layer); PACKED: the right matrix is constant. A batch normalisation or an addition of a
constant that only follows the product is its BIAS, a Relu or Clip after that its RELU. Needs Debian's python3-onnx and python3-numpy.
"""

import collections
import json
import pathlib
import sys

import numpy as np
import onnx
from onnx import AttributeProto, helper, numpy_helper

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
PRODUCTS = {"Conv", "MatMul", "Gemm", *GATES}
# Products as well, but without a BF16 primitive of the same arithmetic, or without a rule here.
OTHERS = {"ConvTranspose", "ConvInteger", "QLinearConv", "MatMulInteger", "QLinearMatMul", "Einsum", "DeformConv"}
SMALL = 4096  # elements; of larger constants only the shape is of interest


class Unknown(Exception):
    """Why a product can't be listed."""


def attributes(node):
    return {a.name: helper.get_attribute_value(a) for a in node.attribute}


def bodies(node):
    for a in node.attribute:
        if a.type == AttributeProto.GRAPH:
            yield a.g
        yield from a.graphs


def sliced(x, starts, ends, axes=None, steps=None):
    axes = range(len(starts)) if axes is None else axes
    steps = [1] * len(starts) if steps is None else steps
    index = [slice(None)] * x.ndim
    for start, end, axis, step in zip(starts, ends, axes, steps):
        index[axis] = slice(start, end, step)
    return x[tuple(index)]


def axes_of(a, inputs):
    return tuple(a["axes"] if "axes" in a else inputs[0].tolist() if inputs else [])


# What exporters compute shapes with: (attributes, inputs...) -> value
ARITHMETIC = {
    "Add": lambda a, x, y: x + y,
    "Sub": lambda a, x, y: x - y,
    "Mul": lambda a, x, y: x * y,
    "Div": lambda a, x, y: np.asarray(np.trunc(x / y), x.dtype) if x.dtype.kind == "i" else x / y,
    "Cast": lambda a, x: x.astype(onnx.mapping.TENSOR_TYPE_TO_NP_TYPE[a["to"]]),
    "Concat": lambda a, *x: np.concatenate(x, a["axis"]),
    "Constant": lambda a: numpy_helper.to_array(a["value"]),
    "Floor": lambda a, x: np.floor(x),
    "Gather": lambda a, x, i: np.take(x, i, a.get("axis", 0)),
    "Identity": lambda a, x: x,
    "ReduceProd": lambda a, x: np.prod(x, tuple(a["axes"]) if "axes" in a else None, keepdims=bool(a.get("keepdims", 1))),
    "Reshape": lambda a, x, s: x.reshape(s),
    "Slice": lambda a, x, *s: sliced(x, *s) if s else sliced(x, a["starts"], a["ends"], a.get("axes")),
    "Squeeze": lambda a, x, *s: np.squeeze(x, axes_of(a, s) or None),
    "Unsqueeze": lambda a, x, *s: np.expand_dims(x, axes_of(a, s)),
}


def folded(graph):
    """Shapes that are computed become constants. Returns how many were found."""
    shapes = known_shapes(graph)
    values = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
    kept, found = [], 0
    for node in graph.node:
        inputs = [i for i in node.input if i]
        value = None
        if node.op_type == "Shape" and None not in shapes.get(inputs[0], [None]):
            value = np.array(shapes[inputs[0]], np.int64)
        elif node.op_type in ARITHMETIC and all(i in values for i in inputs):
            try:
                value = np.asarray(ARITHMETIC[node.op_type](attributes(node), *(values[i] for i in inputs)))
            except (KeyError, TypeError, ValueError):
                pass  # a form that isn't known here: stays a node
        elif node.op_type == "OneHot" and inputs[1] in values and inputs[0] in shapes:
            # Inference wants the depth as a scalar, the standard takes a vector of one as well.
            shape = list(shapes[inputs[0]])
            axis = attributes(node).get("axis", -1)
            shape.insert(axis if axis >= 0 else len(shape) + 1 + axis, int(values[inputs[1]].ravel()[0]))
            if shapes.get(node.output[0]) != shape:
                del_value_info(graph, node.output[0])
                graph.value_info.append(helper.make_tensor_value_info(node.output[0], onnx.TensorProto.FLOAT, shape))
                found += 1
        if value is None or value.size > SMALL or value.dtype == object:
            kept.append(node)
            continue
        values[node.output[0]] = value
        graph.initializer.append(numpy_helper.from_array(value, node.output[0]))
        found += 1
    del graph.node[:]
    graph.node.extend(kept)
    return found


def del_value_info(graph, name):
    for i, value in enumerate(graph.value_info):
        if value.name == name:
            del graph.value_info[i]
            return


def known_shapes(graph):
    """name -> sizes, None where one is open"""
    shapes = {t.name: list(t.dims) for t in graph.initializer}
    for value in [*graph.input, *graph.output, *graph.value_info]:
        tensor = value.type.tensor_type
        if tensor.HasField("shape"):
            shapes[value.name] = [d.dim_value if d.HasField("dim_value") else None for d in tensor.shape.dim]
    return shapes


def inferred(path, config):
    """The model with the shapes of |config|, and the names of its constants; large ones have become inputs."""
    model = onnx.load(path)
    graph = model.graph
    constants = {t.name for t in graph.initializer}
    for value in graph.input:
        if value.name in config:
            tensor = value.type.tensor_type
            tensor.shape.Clear()
            for size in config[value.name][0]:
                tensor.shape.dim.add().dim_value = size
    for value in graph.output:
        value.type.tensor_type.ClearField("shape")
    del graph.value_info[:]
    declared = {v.name for v in graph.input}
    kept = []
    for t in graph.initializer:
        size = 1
        for d in t.dims:
            size *= d
        if size <= SMALL:
            kept.append(t)
        elif t.name not in declared:
            graph.input.append(helper.make_tensor_value_info(t.name, t.data_type, list(t.dims)))
    del graph.initializer[:]
    graph.initializer.extend(kept)
    model.ir_version = max(model.ir_version, 4)  # before, every constant is an input too
    model = onnx.shape_inference.infer_shapes(model, data_prop=True)
    while folded(model.graph):
        constants.update(t.name for t in model.graph.initializer)
        model = onnx.shape_inference.infer_shapes(model, data_prop=True)
    return model.graph, constants


class Model:
    """Shapes, constants and readers of a graph's values."""

    def __init__(self, graph, constants):
        self.graph = graph
        self.shapes = known_shapes(graph)
        self.constants = set(constants)
        self.readers = collections.defaultdict(list)
        for node in graph.node:
            inputs = [i for i in node.input if i]
            if all(i in self.constants for i in inputs) and not list(bodies(node)) and not node.op_type.startswith("Random"):
                self.constants.update(node.output)
            for i in inputs:
                self.readers[i].append(node)
        self.ends = {v.name for v in graph.output}

    def shape(self, name):
        shape = self.shapes.get(name)
        if shape is None or None in shape:
            raise Unknown("no shape")
        return shape

    def only_reader(self, name):
        readers = self.readers[name]
        return readers[0] if len(readers) == 1 and name not in self.ends else None

    def epilogue(self, node, bias):
        """Whether a bias and a Relu can be part of the product."""
        after = self.only_reader(node.output[0])
        while after and (after.op_type == "BatchNormalization" or
                         after.op_type in ("Add", "Mul") and any(i in self.constants for i in after.input)):
            bias = True
            after = self.only_reader(after.output[0])
        return int(bias), int(bool(after) and after.op_type in ("Relu", "Clip"))


def product(numbers):
    result = 1
    for n in numbers:
        result *= n
    return result


def conv(model, node):
    x, w, y = (model.shape(n) for n in (node.input[0], node.input[1], node.output[0]))
    a = attributes(node)
    rank = len(x) - 2
    if rank not in (1, 2):
        raise Unknown(f"{rank} dimensions")
    kernel = w[2:]
    strides, dilations = a.get("strides", [1] * rank), a.get("dilations", [1] * rank)
    before = list(a.get("pads", [0] * rank))[:rank]
    auto = a.get("auto_pad", b"NOTSET").decode()
    if auto.startswith("SAME"):
        total = [max((y[2 + i] - 1) * strides[i] + (kernel[i] - 1) * dilations[i] + 1 - x[2 + i], 0) for i in range(rank)]
        before = [(t + 1) // 2 if auto == "SAME_LOWER" else t // 2 for t in total]

    def both(sizes, missing):  # a signal is an image one pixel high
        return [missing] * (2 - rank) + list(sizes)

    bias, relu = model.epilogue(node, len(node.input) > 2)
    return [["conv", 1, x[0], a.get("group", 1), x[1], *both(x[2:], 1), y[1], *both(y[2:], 1), *both(kernel, 1), *both(strides, 1),
             *both(dilations, 1), *both(before, 0), bias, relu]]


def matmul(model, node):
    a, b = (model.shape(n) for n in node.input)
    if node.input[0] in model.constants and node.input[1] not in model.constants:
        a, b = ([*s[:-2], *s[:-3:-1]] for s in (b, a))  # the constant one is what is packed
    packed = any(i in model.constants for i in node.input)
    a = [1, *a] if len(a) == 1 else a
    b = [*b, 1] if len(b) == 1 else b
    m, k, n = a[-2], a[-1], b[-1]
    of_a, of_b = product(a[:-2]), product(b[:-2])
    batch = max(of_a, of_b)
    if of_b == 1:
        m, batch = m * of_a, 1
    return [["gemm", 1, batch, m, n, k, int(packed and batch == 1), *model.epilogue(node, False)]]


def gemm(model, node):
    a, b = (model.shape(n) for n in node.input[:2])
    attribute = attributes(node)
    m, k = reversed(a) if attribute.get("transA") else a
    n = b[0] if attribute.get("transB") else b[1]
    return [["gemm", 1, 1, m, n, k, int(node.input[1] in model.constants), *model.epilogue(node, len(node.input) > 2)]]


def recurrent(model, node):
    steps, batch, size = model.shape(node.input[0])
    if attributes(node).get("layout"):
        steps, batch = batch, steps
    directions, _, hidden = model.shape(node.input[2])
    gates = GATES[node.op_type] * hidden
    return [["gemm", directions, 1, steps * batch, gates, size, 1, 1, 0],
            ["gemm", directions * steps, 1, batch, gates, hidden, 1, 0, 0]]


RULES = {"Conv": conv, "MatMul": matmul, "Gemm": gemm, **dict.fromkeys(GATES, recurrent)}


def inside(node):
    """Products in the bodies of a node, at any depth."""
    for body in bodies(node):
        for n in body.node:
            if n.op_type in PRODUCTS or n.op_type in OTHERS:
                yield n.op_type
            yield from inside(n)


def main(path, out, config=None):
    config = json.loads(pathlib.Path(config).read_text())["inputs"] if config else {}
    graph, constants = inferred(path, config)
    model = Model(graph, constants)
    lines, left_out = [], collections.Counter()
    for node in graph.node:
        if node.op_type in RULES:
            try:
                lines += RULES[node.op_type](model, node)
            except Unknown as why:
                left_out[f"{node.op_type}: {why}"] += 1
        elif node.op_type in OTHERS:
            left_out[f"{node.op_type}: no BF16 primitive for it"] += 1
        for op in inside(node):
            left_out[f"{op}: in {node.op_type}"] += 1
    text = "".join(" ".join(map(str, line)) + "\n" for line in lines)
    text += "".join(f"# {count} {what}\n" for what, count in left_out.items())
    pathlib.Path(out).write_text(text)


if __name__ == "__main__":
    if len(sys.argv) not in (3, 4):
        sys.exit(__doc__)
    main(*sys.argv[1:])
