#!/usr/bin/python3
"""MXNet's operators one by one, all in one network, through kcc, krtd and kaena-cli, beside what numpy says they mean."""

import json
import math
import subprocess
import sys

import daemon

try:
    import numpy as np
    import mxnet_file
except ImportError:
    daemon.skip("numpy is not installed (scripts/setup)")

RNG = np.random.RandomState(7)
LIMIT = 2e-5  # |error| <= LIMIT * (1 + |expected|)


def normal(*shape):
    return RNG.standard_normal(shape).astype("f4")


# Inputs of the network, by name.
IMAGE, SMALL, MATRIX = normal(2, 4, 7, 6), normal(1, 2, 5, 5), normal(3, 5)
INPUTS = {"image": IMAGE, "small": SMALL, "matrix": MATRIX, "other": normal(3, 5), "row": normal(1, 5),
          "positive": np.abs(normal(3, 5)) + 0.1, "half": np.array([[-2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 0.2]], "f4"),
          "cube": normal(2, 3, 4), "cube2": normal(2, 4, 5), "index": np.array([[0, 2, 9], [1, -3, 1]], "f4"),
          "pick": np.array([0, 4, 2], "f4"), "mask": np.array([[1, 0, 0, 2, 0], [0, 0, 1, 1, 1], [0, 0, 0, 0, 0]], "f4"),
          "sequence": normal(4, 3, 5), "lengths": np.array([2, 4, 1], "f4"), "volume": normal(1, 2, 3, 4, 3),
          "line": normal(2, 3, 9), "nhwc": normal(1, 5, 6, 3), "qkv": normal(4, 2, 2 * 3 * 3),
          "scores": normal(2 * 2, 4, 4)}


def window(x, kernel, stride, pad, full, reduce, fill):
    """Pooling of the last two dimensions in float64; |reduce| gets the window's values and its size inside the padding."""
    n, c, h, w = x.shape
    rounded = math.ceil if full else math.floor
    size = [rounded((d + 2 * p - k) / s) + 1 for d, k, s, p in zip((h, w), kernel, stride, pad)]
    out = np.empty((n, c, *size))
    for i in range(size[0]):
        for j in range(size[1]):
            y, z = i * stride[0] - pad[0], j * stride[1] - pad[1]
            y1, z1 = min(y + kernel[0], h + pad[0]), min(z + kernel[1], w + pad[1])
            part = x[:, :, max(y, 0):min(y1, h), max(z, 0):min(z1, w)].astype("f8")
            out[:, :, i, j] = reduce(part, (y1 - y) * (z1 - z)) if part.size else fill
    return out


def average(part, size):
    return part.sum((2, 3)) / size


def largest(part, size):
    return part.max((2, 3))


def convolve(x, w, stride=(1, 1), pad=(0, 0), dilate=(1, 1), group=1):
    x = np.pad(x.astype("f8"), [(0, 0), (0, 0), (pad[0],) * 2, (pad[1],) * 2])
    n, c, h, wide = x.shape
    f, cg, kh, kw = w.shape
    oh = (h - dilate[0] * (kh - 1) - 1) // stride[0] + 1
    ow = (wide - dilate[1] * (kw - 1) - 1) // stride[1] + 1
    out = np.zeros((n, f, oh, ow))
    for o in range(f):
        first = o // (f // group) * cg
        for i in range(kh):
            for j in range(kw):
                y, z = i * dilate[0], j * dilate[1]
                part = x[:, first:first + cg, y:y + (oh - 1) * stride[0] + 1:stride[0], z:z + (ow - 1) * stride[1] + 1:stride[1]]
                out[:, o] += (part * w[o, :, i, j][None, :, None, None]).sum(1)
    return out


def deconvolve(x, w, stride, pad, adjust, group=1):
    n, c, h, wide = x.shape
    _, fg, kh, kw = w.shape
    full = np.zeros((n, fg * group, (h - 1) * stride[0] + kh + adjust[0], (wide - 1) * stride[1] + kw + adjust[1]))
    for k in range(c):
        first = k // (c // group) * fg
        for y in range(h):
            for z in range(wide):
                at = (slice(None), slice(first, first + fg), slice(y * stride[0], y * stride[0] + kh), slice(z * stride[1], z * stride[1] + kw))
                full[at] += x[:, k, y, z].astype("f8")[:, None, None, None] * w[k][None]
    return full[:, :, pad[0]:full.shape[2] - pad[0], pad[1]:full.shape[3] - pad[1]]


def softmax(x, axis=-1):
    e = np.exp(x - x.max(axis, keepdims=True).astype("f8"))
    return e / e.sum(axis, keepdims=True)


def erf(x):
    return np.vectorize(math.erf)(x.astype("f8"))


def sigmoid(x):
    return 1 / (1 + np.exp(-x.astype("f8")))


def channels(v, rank=4):
    return v.reshape((1, -1) + (1,) * (rank - 2))


GATES = {"lstm": 4, "gru": 3, "rnn_tanh": 1, "rnn_relu": 1}


def rnn_size(mode, features, hidden, layers, directions):
    rows = GATES[mode] * hidden
    weights = rows * (features + hidden) + (layers - 1) * rows * (hidden * directions + hidden)
    return directions * (weights + layers * 2 * rows)


def rnn(x, params, h0, c0, mode, hidden, layers, directions):
    x, params, rows, weights, biases, at = x.astype("f8"), params.astype("f8"), GATES[mode] * hidden, [], [], 0

    def take(*shape):
        nonlocal at
        n = int(np.prod(shape))
        at += n
        return params[at - n:at].reshape(shape)

    for layer in range(layers):
        features = x.shape[2] if layer == 0 else hidden * directions
        weights += [(take(rows, features), take(rows, hidden)) for _ in range(directions)]
    biases = [(take(rows), take(rows)) for _ in range(layers * directions)]
    last_h, last_c = [], []
    for layer in range(layers):
        outs = []
        for d in range(directions):
            k = layer * directions + d
            (wi, wh), (bi, bh), h, c, out = weights[k], biases[k], h0[k].astype("f8"), c0[k].astype("f8"), [None] * len(x)
            for t in range(len(x)) if d == 0 else reversed(range(len(x))):
                a, b = np.split(x[t] @ wi.T + bi, GATES[mode], 1), np.split(h @ wh.T + bh, GATES[mode], 1)
                if mode == "lstm":
                    i, f, g, o = (p + q for p, q in zip(a, b))
                    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
                    h = sigmoid(o) * np.tanh(c)
                elif mode == "gru":
                    r, z = sigmoid(a[0] + b[0]), sigmoid(a[1] + b[1])
                    h = (1 - z) * np.tanh(a[2] + r * b[2]) + z * h
                else:
                    h = np.tanh(a[0] + b[0]) if mode == "rnn_tanh" else np.maximum(a[0] + b[0], 0)
                out[t] = h
            outs.append(np.stack(out))
            last_h.append(h)
            last_c.append(c)
        x = np.concatenate(outs, 2)
    return x, np.stack(last_h), np.stack(last_c)


def attention(qkv, heads=2):
    t, b, size = qkv.shape
    v = qkv.reshape(t, b, heads, 3, size // heads // 3).transpose(3, 1, 2, 0, 4)
    return v.reshape(3, b * heads, t, -1)


class Network:
    """The symbol, its parameters, and what each output must be."""

    def __init__(self):
        self.symbol, self.params, self.want = mxnet_file.Symbol(), {}, {}
        self.inputs = {name: self.symbol.variable(name) for name in INPUTS}
        self.n = 0

    def parameter(self, value, kind="arg"):
        name = f"p{len(self.params)}"
        self.params[f"{kind}:{name}"] = value
        return self.symbol.variable(name)

    def case(self, op, inputs, expected, **attrs):
        """|inputs|: names of INPUTS, arrays (parameters) or entries; |expected|: an array, or a list of all outputs."""
        self.n += 1
        name = f"n{self.n}"
        entries = []
        for k, i in enumerate(inputs):
            if isinstance(i, str):
                entries.append(self.inputs[i])
            else:
                entries.append(i if isinstance(i, tuple) else self.parameter(i, "aux" if op == "BatchNorm" and k > 2 else "arg"))
        node, _ = self.symbol.add(op, name, entries, **attrs)
        many = isinstance(expected, list)
        names = {"RNN": ["output", "state", "state_cell"]}.get(op) or [f"output{k}" for k in range(len(expected))]
        for k, value in enumerate(expected if many else [expected]):
            self.symbol.heads.append((node, k))
            self.want[f"{name}_{names[k] if many else 'output'}"] = (op, attrs, np.asarray(value))


def windows(net):
    w, b = normal(6, 4, 3, 3), normal(6)
    net.case("Convolution", ["image", w, b], convolve(IMAGE, w) + channels(b), kernel=(3, 3), num_filter=6)
    net.case("Convolution", ["image", w], convolve(IMAGE, w, (2, 1), (1, 2), (2, 1)), kernel="(3,3)", num_filter=6, no_bias=True,
             stride=(2, 1), pad=(1, 2), dilate=(2, 1))
    w = normal(8, 2, 3, 3)
    net.case("Convolution", ["image", w], convolve(IMAGE, w, group=2), kernel=(3, 3), num_filter=8, num_group=2, no_bias=1)
    w = normal(4, 1, 3, 3)
    net.case("Convolution", ["image", w], convolve(IMAGE, w, pad=(1, 1), group=4), kernel=(3, 3), num_filter=4, num_group=4,
             no_bias="True", pad=(1, 1))
    w, nhwc = normal(4, 2, 2, 3), INPUTS["nhwc"]
    net.case("Convolution", ["nhwc", w], convolve(nhwc.transpose(0, 3, 1, 2), w.transpose(0, 3, 1, 2)).transpose(0, 2, 3, 1),
             kernel=(2, 2), num_filter=4, no_bias=True, layout="NHWC")
    w, line = normal(5, 3, 3), INPUTS["line"]
    net.case("Convolution", ["line", w], convolve(line[:, :, None], w[:, :, None], pad=(0, 1))[:, :, 0], kernel=(3,), num_filter=5,
             no_bias=True, pad=(1,))
    w = normal(4, 3, 3, 2)
    net.case("Deconvolution", ["image", w], deconvolve(IMAGE, w, (2, 2), (1, 0), (1, 1)), kernel=(3, 2), num_filter=3, stride=(2, 2),
             pad=(1, 0), adj=(1, 1))
    net.case("Deconvolution", ["image", w], deconvolve(IMAGE, w, (2, 2), (1, 1), (1, 0)), kernel=(3, 2), num_filter=3, stride=(2, 2),
             target_shape=(14, 10))
    w, b = normal(4, 2, 2, 2), normal(4)
    net.case("Deconvolution", ["image", w, b], deconvolve(IMAGE, w, (1, 1), (0, 0), (0, 0), 2) + channels(b), kernel=(2, 2),
             num_filter=4, num_group=2, no_bias=False)
    for full in (False, True):
        convention = {"pooling_convention": "full" if full else "valid"}
        net.case("Pooling", ["image"], window(IMAGE, (3, 3), (2, 2), (0, 0), full, largest, 0), kernel=(3, 3), stride=(2, 2),
                 pool_type="max", **convention)
        net.case("Pooling", ["image"], window(IMAGE, (2, 3), (2, 2), (1, 1), full, average, 0), kernel=(2, 3), stride=(2, 2), pad=(1, 1),
                 pool_type="avg", **convention)
        net.case("Pooling", ["image"], window(IMAGE, (3, 3), (2, 2), (1, 1), full, lambda p, n: p.mean((2, 3)), 0), kernel=(3, 3),
                 stride=(2, 2), pad=(1, 1), pool_type="avg", count_include_pad=False, **convention)
        net.case("Pooling", ["image"], window(IMAGE, (3, 3), (2, 2), (1, 1), full, lambda p, n: p.sum((2, 3)), 0), kernel=(3, 3),
                 stride=(2, 2), pad=(1, 1), pool_type="sum", **convention)
    net.case("Pooling", ["image"], window(IMAGE, (2, 2), (2, 2), (0, 0), False, lambda p, n: np.sqrt((p * p).sum((2, 3))), 0),
             kernel=(2, 2), stride=(2, 2), pool_type="lp", p_value=2)
    for kind, f in (("max", np.max), ("avg", np.mean), ("sum", np.sum)):
        net.case("Pooling", ["image"], f(IMAGE, (2, 3), keepdims=True), kernel=(1, 1), global_pool=True, pool_type=kind)
    net.case("Pooling", ["nhwc"], nhwc.max((1, 2), keepdims=True), global_pool=True, pool_type="max", layout="NHWC")
    same = np.stack([line[:, :, i:i + 3].max(2) for i in range(0, 9, 2)], 2)
    net.case("Pooling", ["line"], same, kernel=(3,), stride=(2,), pooling_convention="same", pool_type="max")
    adaptive = np.stack([np.stack([IMAGE[:, :, i * 7 // 3:-(-(i + 1) * 7 // 3), j * 3:j * 3 + 3].mean((2, 3)) for j in range(2)], 2)
                         for i in range(3)], 2)
    net.case("_contrib_AdaptiveAvgPooling2D", ["image"], adaptive, output_size=(3, 2))
    net.case("UpSampling", ["small"], SMALL.repeat(2, 2).repeat(2, 3), scale=2, sample_type="nearest", num_args=1)
    w = normal(2, 1, 4, 4)
    net.case("UpSampling", ["small", w], deconvolve(SMALL, w, (2, 2), (1, 1), (0, 0), 2), scale=2, sample_type="bilinear", num_filter=2,
             num_args=2)


def networks_parts(net):
    w, b = normal(4, 168), normal(4)
    net.case("FullyConnected", ["image", w, b], IMAGE.reshape(2, -1) @ w.T + b, num_hidden=4)
    w = normal(6, 4)
    net.case("FullyConnected", ["cube", w], INPUTS["cube"] @ w.T, num_hidden=6, no_bias=True, flatten=False)
    w = normal(5, 2)
    net.case("dot", ["matrix", w], MATRIX @ w)
    net.case("dot", ["matrix", "other"], MATRIX.T @ INPUTS["other"], transpose_a=True)
    net.case("dot", ["matrix", "other"], MATRIX @ INPUTS["other"].T, transpose_b=True)
    net.case("batch_dot", ["cube", "cube2"], INPUTS["cube"] @ INPUTS["cube2"])
    net.case("batch_dot", ["cube", "cube"], INPUTS["cube"] @ INPUTS["cube"].transpose(0, 2, 1), transpose_b=True)
    net.case("_linalg_gemm2", ["cube", "cube2"], 0.5 * INPUTS["cube"] @ INPUTS["cube2"], alpha=0.5)
    q, k, v = attention(INPUTS["qkv"])
    net.case("_contrib_interleaved_matmul_selfatt_qk", ["qkv"], (q / math.sqrt(3)) @ k.transpose(0, 2, 1), heads=2)
    joined = (INPUTS["scores"] @ v).reshape(2, 2, 4, 3).transpose(2, 0, 1, 3).reshape(4, 2, 6)
    net.case("_contrib_interleaved_matmul_selfatt_valatt", ["qkv", "scores"], joined, heads=2)
    g, b, m, s = normal(4), normal(4), normal(4), np.abs(normal(4)) + 0.5
    plain = (IMAGE - channels(m)) / np.sqrt(channels(s) + 1e-3)
    net.case("BatchNorm", ["image", g, b, m, s], plain + channels(b))
    net.case("BatchNorm", ["image", g, b, m, s], (IMAGE - channels(m)) / np.sqrt(channels(s) + 1e-5) * channels(g) + channels(b),
             fix_gamma=False, eps=1e-05, use_global_stats=True)
    g, b, m, s = normal(3), normal(3), normal(3), np.abs(normal(3)) + 0.5
    net.case("BatchNorm", ["nhwc", g, b, m, s], (INPUTS["nhwc"] - m) / np.sqrt(s + 1e-3) * g + b, fix_gamma="False", axis=3)
    g, b = normal(4), normal(4)
    mean, var = IMAGE.mean((2, 3), keepdims=True), IMAGE.var((2, 3), keepdims=True)
    net.case("InstanceNorm", ["image", g, b], (IMAGE - mean) / np.sqrt(var + 1e-3) * channels(g) + channels(b))
    x = INPUTS["cube"]
    mean, var = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    net.case("LayerNorm", ["cube", g, b], (x - mean) / np.sqrt(var + 1e-5) * g + b)
    grouped = IMAGE.reshape(2, 2, -1)
    grouped = ((grouped - grouped.mean(2, keepdims=True)) / np.sqrt(grouped.var(2, keepdims=True) + 1e-5)).reshape(IMAGE.shape)
    net.case("GroupNorm", ["image", g, b], grouped * channels(g) + channels(b), num_groups=2)
    for mode, axes in (("instance", (1, 2, 3)), ("channel", (1,)), ("spatial", (2, 3))):
        net.case("L2Normalization", ["image"], IMAGE / np.sqrt((IMAGE**2).sum(axes, keepdims=True) + 1e-10), mode=mode)
    padded = np.pad(IMAGE.astype("f8")**2, [(0, 0), (1, 1), (0, 0), (0, 0)])
    around = sum(padded[:, i:i + 4] for i in range(3))
    net.case("LRN", ["image"], IMAGE / (2 + 1e-2 / 3 * around)**0.75, nsize=3, alpha=0.01)
    for kind, f in (("relu", lambda v: np.maximum(v, 0)), ("sigmoid", sigmoid), ("tanh", np.tanh), ("softrelu", lambda v: np.logaddexp(0, v)),
                    ("softsign", lambda v: v / (1 + abs(v)))):
        net.case("Activation", ["matrix"], f(MATRIX), act_type=kind)
    a = np.abs(normal(4))
    net.case("LeakyReLU", ["image", a], np.where(IMAGE > 0, IMAGE, IMAGE * channels(a)), act_type="prelu")
    net.case("LeakyReLU", ["matrix"], np.where(MATRIX > 0, MATRIX, MATRIX * 0.25))
    net.case("LeakyReLU", ["matrix"], np.where(MATRIX > 0, MATRIX, np.expm1(MATRIX) * 0.5), act_type="elu", slope=0.5)
    net.case("LeakyReLU", ["matrix"], 1.0507009873554805 * np.where(MATRIX > 0, MATRIX, 1.6732632423543772 * np.expm1(MATRIX)), act_type="selu")
    net.case("LeakyReLU", ["matrix"], MATRIX * (1 + erf(MATRIX / math.sqrt(2))) / 2, act_type="gelu")
    net.case("LeakyReLU", ["matrix"], np.where(MATRIX > 0, MATRIX, MATRIX * 0.3), act_type="rrelu", lower_bound=0.2, upper_bound=0.4)
    label = net.symbol.variable("some_label")
    net.case("SoftmaxOutput", ["image", label], softmax(IMAGE.reshape(2, -1)).reshape(IMAGE.shape))
    net.case("SoftmaxOutput", ["image", label], softmax(IMAGE, 1), multi_output=True)
    net.case("SoftmaxOutput", ["image", label], softmax(IMAGE), preserve_shape=True)
    net.case("SoftmaxActivation", ["image"], softmax(IMAGE, 1), mode="channel")
    net.case("softmax", ["image"], softmax(IMAGE / 2.0, 2), axis=2, temperature=2.0)
    net.case("log_softmax", ["matrix"], np.log(softmax(MATRIX)))
    net.case("LogisticRegressionOutput", ["matrix", label], sigmoid(MATRIX))
    net.case("LinearRegressionOutput", ["matrix", label], MATRIX)


def recurrent(net):
    x = INPUTS["sequence"]
    for mode in GATES:
        for layers, directions in ((1, 1), (2, 2)):
            params = normal(rnn_size(mode, 5, 4, layers, directions)) * 0.5
            states = [normal(layers * directions, 3, 4) for _ in range(2)]
            y, h, c = rnn(x, params, *states, mode, 4, layers, directions)
            lstm = mode == "lstm"
            net.case("RNN", ["sequence", params] + states[:2 if lstm else 1], [y, h, c][:3 if lstm else 2], mode=mode, state_size=4,
                     num_layers=layers, bidirectional=directions == 2, state_outputs=True, p="0.5")
    params = normal(rnn_size("lstm", 5, 4, 1, 1))
    zeros = [net.symbol.add("_zeros", f"z{k}", shape="(1, 0, 4)") for k in range(2)]
    y, _, _ = rnn(x, params, np.zeros((1, 3, 4)), np.zeros((1, 3, 4)), "lstm", 4, 1, 1)
    net.case("RNN", ["sequence", params, *zeros], y, mode="lstm", state_size=4, num_layers=1)
    backwards, last, masked = x.copy(), np.empty((3, 5)), x.copy()
    for b, n in enumerate((2, 4, 1)):
        backwards[:n, b], last[b], masked[n:, b] = x[:n, b][::-1], x[n - 1, b], -1
    net.case("SequenceReverse", ["sequence", "lengths"], backwards, use_sequence_length=True)
    net.case("SequenceReverse", ["sequence"], x[::-1])
    net.case("SequenceLast", ["sequence", "lengths"], last, use_sequence_length=True)
    net.case("SequenceLast", ["sequence"], x[:, -1], axis=1)
    net.case("SequenceMask", ["sequence", "lengths"], masked, use_sequence_length=True, value=-1)


def elements(net):
    m, o, r, p, half = (INPUTS[k] for k in ("matrix", "other", "row", "positive", "half"))
    away = np.sign(half) * np.floor(np.abs(half) + 0.5)
    for op, x, f in (("square", "matrix", m * m), ("sqrt", "positive", np.sqrt(p)), ("rsqrt", "positive", 1 / np.sqrt(p)),
                     ("cbrt", "matrix", np.cbrt(m)), ("exp", "matrix", np.exp(m)), ("expm1", "matrix", np.expm1(m)),
                     ("log", "positive", np.log(p)), ("log1p", "positive", np.log1p(p)), ("log2", "positive", np.log2(p)),
                     ("log10", "positive", np.log10(p)), ("round", "half", away), ("rint", "half", np.ceil(half - 0.5)),
                     ("trunc", "half", np.trunc(half)), ("ceil", "half", np.ceil(half)), ("floor", "half", np.floor(half)),
                     ("sign", "half", np.sign(half)), ("abs", "half", np.abs(half)), ("negative", "matrix", -m), ("erf", "matrix", erf(m)),
                     ("reciprocal", "positive", 1 / p), ("degrees", "matrix", np.degrees(m)), ("arctan", "matrix", np.arctan(m)),
                     ("logical_not", "mask", INPUTS["mask"] == 0), ("relu", "matrix", np.maximum(m, 0)), ("Dropout", "matrix", m),
                     ("BlockGrad", "matrix", m), ("_copy", "matrix", m), ("zeros_like", "matrix", m * 0), ("ones_like", "matrix", m * 0 + 1)):
        net.case(op, [x], f.astype("f4"))
    net.case("hard_sigmoid", ["matrix"], np.clip(0.2 * m + 0.5, 0, 1))
    net.case("smooth_l1", ["matrix"], np.where(abs(m) < 0.25, 2 * m * m, abs(m) - 0.125), scalar=2.0)
    net.case("clip", ["matrix"], np.clip(m, -0.5, 0.75), a_min=-0.5, a_max=0.75)
    net.case("Cast", ["half"], half.astype("i4"), dtype="int32")
    for name, f in (("add", m + o), ("sub", m - o), ("mul", m * o), ("div", m / o)):
        net.case("elemwise_" + name, ["matrix", "other"], f)
        net.case("broadcast_" + name, ["matrix", "row"], {"add": m + r, "sub": m - r, "mul": m * r, "div": m / r}[name])
    net.case("_Plus", ["matrix", "other"], m + o)
    net.case("_maximum", ["matrix", "other"], np.maximum(m, o))
    net.case("broadcast_minimum", ["matrix", "row"], np.minimum(m, r))
    net.case("broadcast_power", ["positive", "row"], p**r)
    net.case("broadcast_mod", ["matrix", "row"], np.mod(m, r))
    net.case("broadcast_hypot", ["matrix", "row"], np.hypot(m, r))
    net.case("add_n", ["matrix", "other", "positive"], m + o + p, num_args=3)
    net.case("broadcast_greater", ["matrix", "row"], (m > r).astype("f4"))
    net.case("broadcast_not_equal", ["mask", "row"], (INPUTS["mask"] != r).astype("f4"))
    net.case("broadcast_logical_and", ["mask", "row"], np.logical_and(INPUTS["mask"], r).astype("f4"))
    net.case("where", ["mask", "matrix", "other"], np.where(INPUTS["mask"] != 0, m, o))
    for op, f in (("_plus_scalar", m + 1.5), ("_minus_scalar", m - 1.5), ("_rminus_scalar", 1.5 - m), ("_mul_scalar", m * 1.5),
                  ("_div_scalar", m / 1.5), ("_rdiv_scalar", 1.5 / m), ("_maximum_scalar", np.maximum(m, 1.5)), ("_mod_scalar", np.mod(m, 1.5)),
                  ("_rpower_scalar", 1.5**m), ("_MulScalar", m * 1.5), ("_greater_scalar", (m > 1.5).astype("f4"))):
        net.case(op, ["matrix"], f, scalar=1.5)
    net.case("_power_scalar", ["positive"], p**1.5, scalar="1.5")


def shapes(net):
    x, m, c = IMAGE, MATRIX, INPUTS["cube"]
    net.case("Reshape", ["image"], x.reshape(2, -1), shape=(0, -1))
    net.case("Reshape", ["image"], x.reshape(2, 28, 6), shape=(0, -3, 0))
    net.case("Reshape", ["image"], x.reshape(2, 2, 2, 7, 6), shape=(0, -4, 2, -1, -2))
    net.case("Reshape", ["image"], x.reshape(8, 7, 6), shape=(-3, -2))
    net.case("Reshape", ["cube"], c.reshape(6, 4), shape=(-1, 0), reverse=True)
    net.case("Reshape", ["image"], x.reshape(2, 168), target_shape=(2, 0))
    net.case("reshape_like", ["cube", "cube"], c)
    net.case("Flatten", ["image"], x.reshape(2, -1))
    net.case("transpose", ["image"], x.transpose(0, 2, 3, 1), axes=(0, 2, 3, 1))
    net.case("transpose", ["cube"], c.transpose())
    net.case("SwapAxis", ["cube"], c.swapaxes(0, 2), dim1=0, dim2=2)
    net.case("expand_dims", ["cube"], c[:, :, None], axis=2)
    net.case("squeeze", ["row"], INPUTS["row"][0])
    net.case("Concat", ["matrix", "other"], np.concatenate([m, INPUTS["other"]], 1), num_args=2)
    net.case("Concat", ["matrix", "other"], np.concatenate([m, INPUTS["other"]]), num_args=2, dim=0)
    net.case("stack", ["matrix", "other"], np.stack([m, INPUTS["other"]], 1), axis=1, num_args=2)
    net.case("slice", ["image"], x[0:1, ::-1, 1:5:2], begin="(0, None, 1)", end="(1, None, 5)", step="(None, -1, 2)")
    net.case("slice_axis", ["image"], x[:, :, 1:-1], axis=2, begin=1, end=-1)
    net.case("slice_axis", ["image"], x[..., 2:], axis=-1, begin=2, end=None)
    net.case("slice_like", ["image", "small"], x[:, :, :5, :5], axes=(2, 3))
    net.case("SliceChannel", ["image"], np.split(x, 2, 1), num_outputs=2)
    net.case("SliceChannel", ["cube"], [v[:, 0] for v in np.split(c, 3, 1)], num_outputs=3, axis=1, squeeze_axis=True)
    net.case("_split_v2", ["image"], [x[:, :, :2], x[:, :, 2:5], x[:, :, 5:]], indices=(0, 2, 5), axis=2)
    net.case("Crop", ["image", "small"], x[:, :, 1:6, 1:6], offset=(1, 1), num_args=2)
    net.case("Crop", ["image"], x[:, :, 1:5, 1:5], h_w=(4, 4), center_crop=True, num_args=1)
    pad = dict(pad_width=(0, 0, 0, 0, 1, 2, 2, 1))
    widths = [(0, 0), (0, 0), (1, 2), (2, 1)]
    net.case("Pad", ["image"], np.pad(x, widths, constant_values=3), mode="constant", constant_value=3, **pad)
    net.case("Pad", ["image"], np.pad(x, widths, "edge"), mode="edge", **pad)
    net.case("Pad", ["image"], np.pad(x, widths, "reflect"), mode="reflect", **pad)
    net.case("tile", ["matrix"], np.tile(m, (2, 1, 3)), reps=(2, 1, 3))
    net.case("repeat", ["cube"], c.repeat(3, 1), repeats=3, axis=1)
    net.case("repeat", ["matrix"], m.repeat(2), repeats=2)
    net.case("reverse", ["cube"], c[:, ::-1], axis=1)
    net.case("broadcast_to", ["row"], np.broadcast_to(INPUTS["row"], (4, 5)), shape=(4, 0))
    net.case("broadcast_axis", ["row"], np.broadcast_to(INPUTS["row"], (3, 5)), axis=0, size=3)
    net.case("broadcast_like", ["row", "matrix"], np.broadcast_to(INPUTS["row"], (3, 5)))
    net.case("depth_to_space", ["image"], x.reshape(2, 2, 2, 1, 7, 6).transpose(0, 3, 4, 1, 5, 2).reshape(2, 1, 14, 12), block_size=2)
    net.case("_arange", [], np.repeat(np.arange(2, 5, 0.5), 2), start=2, stop=5, step=0.5, repeat=2)
    net.case("_contrib_arange_like", ["matrix"], np.arange(5.0), axis=1)
    net.case("_full", [], np.full((2, 3), 2.5), shape=(2, 3), value=2.5)
    for op, f in (("sum", np.sum), ("mean", np.mean), ("max", np.max), ("min", np.min), ("prod", np.prod)):
        net.case(op, ["cube"], f(c, 1), axis=1)
        net.case(op, ["cube"], f(c, (0, 2), keepdims=True), axis="(0, 2)", keepdims=True)
    net.case("sum", ["cube"], c.sum((0, 2)), axis=1, exclude=True)
    net.case("mean", ["cube"], c.mean().reshape(1))
    net.case("norm", ["cube"], np.sqrt((c.astype("f8")**2).sum(2)), axis=2)
    net.case("argmax", ["cube"], c.argmax(1), axis=1)
    net.case("argmin", ["cube"], c.argmin(2)[:, :, None], axis=2, keepdims=True)
    net.case("argmax", ["matrix"], np.array([m.argmax()]))
    net.case("argmax_channel", ["matrix"], m.argmax(1))


def indices(net):
    table, m, index = normal(4, 3), MATRIX, INPUTS["index"].astype(int)
    net.case("Embedding", ["index", table], table[index.clip(0, 3)], input_dim=4, output_dim=3)
    net.case("take", ["matrix", "index"], m[index.clip(0, 2)])
    net.case("take", ["matrix", "index"], m[:, index % 5], axis=1, mode="wrap")
    net.case("pick", ["matrix", "pick"], m[np.arange(3), [0, 4, 2]], axis=1)
    at = np.array([[0, 2, 1], [4, 1, 0]], "f4")
    net.case("gather_nd", ["matrix", at], m[[0, 2, 1], [4, 1, 0]])
    net.case("one_hot", ["pick"], np.eye(6)[[0, 4, 2]] * 3 - 1, depth=6, on_value=2, off_value=-1)
    order = np.argsort(-m, 1, kind="stable")
    net.case("topk", ["matrix"], order[:, :2], k=2)
    net.case("topk", ["matrix"], np.take_along_axis(m, order, 1)[:, :2], k=2, ret_typ="value")
    net.case("topk", ["matrix"], [np.sort(m, 0)[:2], np.argsort(m, 0)[:2]], k=2, axis=0, ret_typ="both", is_ascend=True)
    net.case("sort", ["matrix"], np.sort(m, 1))
    net.case("argsort", ["matrix"], order, is_ascend=False)


def main():
    net = Network()
    for part in (windows, networks_parts, recurrent, elements, shapes, indices):
        part(net)
    wrong = 0
    with daemon.Daemon("--devices", "0") as krtd:
        prefix, neff = krtd.dir / "all", krtd.dir / "all.neff"
        net.symbol.save(prefix)
        mxnet_file.save_params(krtd.dir / "all-0003.params", net.params)
        used = {net.symbol.nodes[n]["name"] for node in net.symbol.nodes for n, _, _ in node["inputs"]}
        inputs = {k: v for k, v in INPUTS.items() if k in used}
        config = json.dumps({"inputs": {k: [list(v.shape), "float32"] for k, v in inputs.items()}})
        subprocess.run([daemon.KCC, "compile", "--framework", "MXNET", "--model", prefix, "--io-config", config, "--output", neff,
                        "--fp32-cast", "none", "--num-tpbs", "2"], check=True, stdout=subprocess.DEVNULL)
        krtd.cli("load", neff, "--name", "m")
        arguments = []
        for name, value in inputs.items():
            np.save(krtd.dir / f"{name}.npy", value)
            arguments += ["--input", f"{name}={krtd.dir / name}.npy"]
        krtd.cli("infer", "--model", "m", *arguments, "--output-dir", krtd.dir / "out")
        for name, (op, attrs, want) in net.want.items():
            got = np.load(krtd.dir / "out" / f"{name}.npy")
            if got.shape != want.shape:
                error = f"shape {got.shape} instead of {want.shape}"
            else:
                worst = np.max(np.abs(got - want) / (1 + np.abs(want)), initial=0)
                error = None if worst <= LIMIT else f"error {worst:.3g}"
            if error:
                print(f"{name}: {op} {attrs}: {error}")
                wrong += 1
    print(f"{len(net.want) - wrong} of {len(net.want)} outputs agree")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
