#!/usr/bin/python3
"""Writes networks with seeded random weights as ONNX files, for tests and benchmarks against ONNX Runtime.

usage: generate.py DIRECTORY [NAME]...      without a name: all
       generate.py --list

Needs Debian's python3-onnx and python3-numpy.
"""

import pathlib
import sys

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64


class Graph:
    """A graph under construction: methods append nodes and give the names of results."""

    def __init__(self, seed):
        self.random = np.random.default_rng(seed)
        self.nodes, self.weights, self.count = [], [], 0

    def constant(self, value, dtype=np.float32):
        self.count += 1
        name = f"c{self.count}"
        self.weights.append(numpy_helper.from_array(np.ascontiguousarray(value, dtype), name))
        return name

    def normal(self, *shape, std, mean=0.0):
        return self.constant(self.random.standard_normal(shape, np.float32) * np.float32(std) + np.float32(mean))

    def op(self, kind, *inputs, outputs=1, **attributes):
        self.count += 1
        names = [f"{kind.lower()}{self.count}"] if outputs == 1 else [f"{kind.lower()}{self.count}_{k}" for k in range(outputs)]
        self.nodes.append(helper.make_node(kind, list(inputs), names, name=f"{kind}_{self.count}", **attributes))
        return names[0] if outputs == 1 else names

    def save(self, path, inputs, outputs, opset):
        """|inputs| and |outputs|: {name: (type, shape)}; an output's name replaces that of the value in its third place."""
        for name, (_, _, value) in outputs.items():
            for node in self.nodes:
                node.output[:] = [name if o == value else o for o in node.output]
                node.input[:] = [name if i == value else i for i in node.input]
        graph = helper.make_graph(self.nodes, path.stem, [helper.make_tensor_value_info(n, t, s) for n, (t, s) in inputs.items()],
                                  [helper.make_tensor_value_info(n, t, s) for n, (t, s, _) in outputs.items()], self.weights)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], producer_name="kaena-generate")
        model.ir_version = 8
        onnx.save(model, str(path))


def bert_base(path, opset=13, tokens=128, width=768, heads=12, inner=3072, layers=12):
    """The encoder of BERT as exporters spell it out: opset 13 has no LayerNormalization."""
    g = Graph(1)

    def norm(x):
        scale, bias = g.normal(width, std=0.1, mean=1), g.normal(width, std=0.1)
        if opset >= 17:
            return g.op("LayerNormalization", x, scale, bias, axis=-1, epsilon=1e-12)
        centred = g.op("Sub", x, g.op("ReduceMean", x, axes=[-1]))
        variance = g.op("ReduceMean", g.op("Pow", centred, g.constant(2)), axes=[-1])
        unit = g.op("Div", centred, g.op("Sqrt", g.op("Add", variance, g.constant(1e-12))))
        return g.op("Add", g.op("Mul", unit, scale), bias)

    def dense(x, n, m):
        return g.op("Add", g.normal(m, std=0.02), g.op("MatMul", x, g.normal(n, m, std=0.02)))

    def split(x, perm):
        return g.op("Transpose", g.op("Reshape", x, g.constant([1, tokens, heads, width // heads], np.int64)), perm=perm)

    open_mask = g.op("Unsqueeze", "attention_mask", g.constant([1, 2], np.int64))
    mask = g.op("Mul", g.op("Sub", g.constant(1), open_mask), g.constant(-10000))
    x = norm("hidden")
    for _ in range(layers):
        q, k, v = (split(dense(x, width, width), perm) for perm in ([0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3]))
        scores = g.op("Div", g.op("MatMul", q, k), g.constant(np.sqrt(width / heads)))
        context = g.op("MatMul", g.op("Softmax", g.op("Add", scores, mask), axis=-1), v)
        joined = g.op("Reshape", g.op("Transpose", context, perm=[0, 2, 1, 3]), g.constant([1, tokens, width], np.int64))
        x = norm(g.op("Add", dense(joined, width, width), x))
        h = dense(x, width, inner)
        gate = g.op("Add", g.op("Erf", g.op("Div", h, g.constant(np.sqrt(2)))), g.constant(1))
        h = g.op("Mul", g.op("Mul", h, gate), g.constant(0.5))
        x = norm(g.op("Add", dense(h, inner, width), x))
    g.save(path, {"hidden": (FLOAT, [1, tokens, width]), "attention_mask": (FLOAT, [1, tokens])},
           {"last_hidden": (FLOAT, [1, tokens, width], x)}, opset)


def lstm_ptb(path, batch=1, steps=35, hidden=650, words=10000, layers=2):
    """A word-level language model: embedding, LSTM layers, projection to all words."""
    g = Graph(2)
    x = g.op("Gather", g.normal(words, hidden, std=0.05), "ids")
    for _ in range(layers):
        y = g.op("LSTM", x, g.normal(1, 4 * hidden, hidden, std=0.05), g.normal(1, 4 * hidden, hidden, std=0.05),
                 g.normal(1, 8 * hidden, std=0.05), outputs=3, hidden_size=hidden)[0]
        x = g.op("Squeeze", y, g.constant([1], np.int64))
    logits = g.op("Add", g.op("MatMul", x, g.normal(hidden, words, std=0.05)), g.normal(words, std=0.05))
    g.save(path, {"ids": (INT64, [steps, batch])}, {"probs": (FLOAT, [steps, batch, words], g.op("Softmax", logits, axis=-1))}, 13)


def convolution(g, x, channels, n, kernel=(1, 1), stride=1, pads=None, group=1, bias=True):
    """Weights that keep the variance of what a rectifier follows."""
    std = np.sqrt(2 / (channels // group * np.prod(kernel)))
    weights = [g.normal(n, channels // group, *kernel, std=std)] + ([g.normal(n, std=0.1)] if bias else [])
    if pads is None:
        pads = [k // 2 for k in kernel] * 2
    return g.op("Conv", x, *weights, kernel_shape=list(kernel), strides=[stride] * len(kernel), pads=pads, group=group)


def mobilenet_v2(path):
    g = Graph(3)
    low, high = g.constant(np.float32(0)), g.constant(np.float32(6))

    def rectified(x, *args, **kwargs):
        return g.op("Clip", convolution(g, x, *args, **kwargs), low, high)

    x, channels = rectified("input", 3, 32, (3, 3), 2), 32
    for widen, n, repeats, first in ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2),
                                     (6, 320, 1, 1)):
        for k in range(repeats):
            wide = channels * widen
            y = rectified(x, channels, wide) if widen > 1 else x
            y = rectified(y, wide, wide, (3, 3), first if k == 0 else 1, group=wide)
            y = convolution(g, y, wide, n)
            x, channels = (g.op("Add", x, y) if k > 0 else y), n
    x = g.op("Flatten", g.op("GlobalAveragePool", rectified(x, channels, 1280)))
    logits = g.op("Gemm", x, g.normal(1000, 1280, std=0.02), g.normal(1000, std=0.02), transB=1)
    g.save(path, {"input": (FLOAT, [1, 3, 224, 224])}, {"logits": (FLOAT, [1, 1000], logits)}, 13)


def inception_v3(path):
    """Szegedy et al. 2015, table 1, with factorised convolutions; batch normalisation is left as nodes of its own."""
    g = Graph(4)
    widths = {"input": 3}

    def conv(x, n, kernel, stride=1, pads=None):
        y = convolution(g, x, widths[x], n, kernel, stride, pads, bias=False)
        scale, shift = g.constant(g.random.uniform(0.8, 1.2, n)), g.normal(n, std=0.1)
        mean, variance = g.normal(n, std=0.1), g.constant(g.random.uniform(0.8, 1.2, n))
        y = g.op("Relu", g.op("BatchNormalization", y, scale, shift, mean, variance, epsilon=1e-3))
        widths[y] = n
        return y

    def chain(x, *steps):
        for step in steps:
            x = conv(x, *step)
        return x

    def pool(kind, x, stride=1):
        pads = [1] * 4 if stride == 1 else [0] * 4
        y = g.op(kind, x, kernel_shape=[3, 3], strides=[stride] * 2, pads=pads)
        widths[y] = widths[x]
        return y

    def join(*branches):
        y = g.op("Concat", *branches, axis=1)
        widths[y] = sum(widths[b] for b in branches)
        return y

    none = [0] * 4
    x = chain("input", (32, (3, 3), 2, none), (32, (3, 3), 1, none), (64, (3, 3)))
    x = chain(pool("MaxPool", x, 2), (80, (1, 1)), (192, (3, 3), 1, none))
    x = pool("MaxPool", x, 2)
    for n in (32, 64, 64):
        x = join(conv(x, 64, (1, 1)), chain(x, (48, (1, 1)), (64, (5, 5))), chain(x, (64, (1, 1)), (96, (3, 3)), (96, (3, 3))),
                 conv(pool("AveragePool", x), n, (1, 1)))
    x = join(conv(x, 384, (3, 3), 2, none), chain(x, (64, (1, 1)), (96, (3, 3)), (96, (3, 3), 2, none)), pool("MaxPool", x, 2))
    for n in (128, 160, 160, 192):
        x = join(conv(x, 192, (1, 1)), chain(x, (n, (1, 1)), (n, (1, 7)), (192, (7, 1))),
                 chain(x, (n, (1, 1)), (n, (7, 1)), (n, (1, 7)), (n, (7, 1)), (192, (1, 7))),
                 conv(pool("AveragePool", x), 192, (1, 1)))
    x = join(chain(x, (192, (1, 1)), (320, (3, 3), 2, none)),
             chain(x, (192, (1, 1)), (192, (1, 7)), (192, (7, 1)), (192, (3, 3), 2, none)), pool("MaxPool", x, 2))
    for _ in range(2):
        middle, double = conv(x, 384, (1, 1)), chain(x, (448, (1, 1)), (384, (3, 3)))
        x = join(conv(x, 320, (1, 1)), conv(middle, 384, (1, 3)), conv(middle, 384, (3, 1)), conv(double, 384, (1, 3)),
                 conv(double, 384, (3, 1)), conv(pool("AveragePool", x), 192, (1, 1)))
    flat = g.op("Flatten", g.op("GlobalAveragePool", x))
    logits = g.op("Gemm", flat, g.normal(1000, widths[x], std=0.02), g.normal(1000, std=0.02), transB=1)
    g.save(path, {"input": (FLOAT, [1, 3, 299, 299])}, {"probs": (FLOAT, [1, 1000], g.op("Softmax", logits, axis=-1))}, 13)


def wavenet(path, samples=2048, residual=64, skip=128, blocks=2, dilations=10):
    """A stack of WaveNet's gated, dilated, causal convolutions over a waveform, and its output layers."""
    g = Graph(5)
    x = convolution(g, "wave", 1, residual, (1,))
    total = None
    for layer in range(blocks * dilations):
        dilation = 1 << layer % dilations
        both = g.op("Conv", x, g.normal(2 * residual, residual, 2, std=np.sqrt(1 / (2 * residual))), g.normal(2 * residual, std=0.1),
                    kernel_shape=[2], dilations=[dilation], pads=[dilation, 0])
        filtered, gate = g.op("Split", both, g.constant([residual, residual], np.int64), outputs=2, axis=1)
        gated = g.op("Mul", g.op("Tanh", filtered), g.op("Sigmoid", gate))
        out = g.op("Conv", gated, g.normal(skip, residual, 1, std=np.sqrt(1 / residual)), g.normal(skip, std=0.1), kernel_shape=[1])
        total = out if total is None else g.op("Add", total, out)
        back = g.op("Conv", gated, g.normal(residual, residual, 1, std=np.sqrt(1 / residual)), g.normal(residual, std=0.1),
                    kernel_shape=[1])
        x = g.op("Add", x, back)
    y = g.op("Relu", convolution(g, g.op("Relu", total), skip, skip, (1,)))
    logits = convolution(g, y, skip, 256, (1,))
    g.save(path, {"wave": (FLOAT, [1, 1, samples])}, {"logits": (FLOAT, [1, 256, samples], logits)}, 13)


def wavernn(path, hidden=896, features=80, classes=256):
    """One step of WaveRNN: a gated recurrent cell whose halves give the coarse and the fine byte of a sample."""
    g = Graph(6)
    half = hidden // 2
    x = g.op("Concat", "sample", "features", axis=1)
    std = 1 / np.sqrt(hidden)
    into = g.op("Add", g.op("MatMul", x, g.normal(3 + features, 3 * hidden, std=0.2)), g.normal(3 * hidden, std=0.1))
    back = g.op("MatMul", "state", g.normal(hidden, 3 * hidden, std=std))
    sizes = g.constant([hidden] * 3, np.int64)
    iu, ir, ie = g.op("Split", into, sizes, outputs=3, axis=1)
    bu, br, be = g.op("Split", back, sizes, outputs=3, axis=1)
    update, reset = g.op("Sigmoid", g.op("Add", iu, bu)), g.op("Sigmoid", g.op("Add", ir, br))
    candidate = g.op("Tanh", g.op("Add", g.op("Mul", reset, be), ie))
    kept = g.op("Mul", update, "state")
    state = g.op("Add", kept, g.op("Mul", g.op("Sub", g.constant(1), update), candidate))
    outputs = {"next_state": (FLOAT, [1, hidden], state)}
    halves = g.op("Split", state, g.constant([half, half], np.int64), outputs=2, axis=1)
    for name, part in zip(("coarse", "fine"), halves):
        h = g.op("Relu", g.op("Gemm", part, g.normal(half, half, std=1 / np.sqrt(half)), g.normal(half, std=0.1)))
        logits = g.op("Gemm", h, g.normal(half, classes, std=1 / np.sqrt(half)), g.normal(classes, std=0.1))
        outputs[name] = (FLOAT, [1, classes], g.op("Softmax", logits, axis=-1))
    g.save(path, {"sample": (FLOAT, [1, 3]), "features": (FLOAT, [1, features]), "state": (FLOAT, [1, hidden])}, outputs, 13)


MODELS = {
    "bert_base": bert_base,
    "bert_base_op17": lambda path: bert_base(path, opset=17),
    "lstm_ptb": lstm_ptb,
    "lstm_ptb_b20": lambda path: lstm_ptb(path, batch=20),
    "mobilenet_v2": mobilenet_v2,
    "inception_v3": inception_v3,
    "wavenet": wavenet,
    "wavernn": wavernn,
}


def main():
    if sys.argv[1:] == ["--list"]:
        print("\n".join(MODELS))
        return
    if len(sys.argv) < 2 or any(name not in MODELS for name in sys.argv[2:]):
        sys.exit(__doc__)
    for name in sys.argv[2:] or MODELS:
        path = pathlib.Path(sys.argv[1]) / f"{name}.onnx"
        unfinished = path.with_suffix(".tmp")
        MODELS[name](unfinished)
        unfinished.rename(path)


if __name__ == "__main__":
    main()
