#!/usr/bin/python3
"""Trains the digits network and writes digits.onnx, images.npy and labels.npy beside this file.

Data: the 1,797 handwritten digits of scikit-learn (8x8 pixels, 17 grey levels). Every fifth image of a fixed
shuffle is held out, 360 in all; the network never sees them. The network is a small convolutional one, trained
with nothing but numpy, so that each step can be read here.

Needs the packages of `scripts/setup --dev`. Runs in about a minute; the same numpy gives the same file.
"""

import pathlib

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from sklearn.datasets import load_digits

HERE = pathlib.Path(__file__).resolve().parent
SEED = 20
EPOCHS = 30
BATCH = 32
LEARNING_RATE = 2e-3


def im2col(x):
    """[n,h,w,c] -> [n,h,w,9c]: the 3x3 neighbourhood of each pixel, zero beyond the border."""
    n, h, w, c = x.shape
    padded = np.zeros((n, h + 2, w + 2, c), np.float32)
    padded[:, 1:-1, 1:-1] = x
    taps = [padded[:, i:i + h, j:j + w] for i in range(3) for j in range(3)]
    return np.concatenate(taps, axis=3)


def col2im(cols, c):
    """The adjoint of im2col: sums what each pixel got as a neighbour."""
    n, h, w, _ = cols.shape
    padded = np.zeros((n, h + 2, w + 2, c), np.float32)
    for tap in range(9):
        i, j = divmod(tap, 3)
        padded[:, i:i + h, j:j + w] += cols[..., tap * c:(tap + 1) * c]
    return padded[:, 1:-1, 1:-1]


def initial(rng):
    """He initialisation. Convolution weights are [9 * inputs, outputs], dense ones [inputs, outputs]."""
    shapes = {"conv1": (9, 16), "conv2": (9 * 16, 32), "dense1": (4 * 4 * 32, 64), "dense2": (64, 10)}
    params = {}
    for name, shape in shapes.items():
        params[name + ".w"] = (rng.standard_normal(shape) * np.sqrt(2 / shape[0])).astype(np.float32)
        params[name + ".b"] = np.zeros(shape[1], np.float32)
    return params


def forward(p, x):
    """Images [n,8,8,1] -> probabilities [n,10], and what the backward pass needs."""
    n = len(x)
    cols1 = im2col(x)
    act1 = np.maximum(cols1 @ p["conv1.w"] + p["conv1.b"], 0)
    cols2 = im2col(act1)
    act2 = np.maximum(cols2 @ p["conv2.w"] + p["conv2.b"], 0)
    windows = act2.reshape(n, 4, 2, 4, 2, 32)
    pooled = windows.max(axis=(2, 4))
    # ONNX flattens channels first.
    flat = pooled.transpose(0, 3, 1, 2).reshape(n, -1)
    act3 = np.maximum(flat @ p["dense1.w"] + p["dense1.b"], 0)
    logits = act3 @ p["dense2.w"] + p["dense2.b"]
    e = np.exp(logits - logits.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True), (cols1, act1, cols2, act2, windows, pooled, flat, act3)


def backward(p, saved, probabilities, labels):
    """Gradients of the mean cross-entropy."""
    cols1, act1, cols2, act2, windows, pooled, flat, act3 = saved
    n = len(labels)
    g = {}

    def dense(name, inputs, d):
        g[name + ".w"] = inputs.reshape(-1, inputs.shape[-1]).T @ d.reshape(-1, d.shape[-1])
        g[name + ".b"] = d.reshape(-1, d.shape[-1]).sum(axis=0)
        return d @ p[name + ".w"].T

    d = probabilities.copy()
    d[np.arange(n), labels] -= 1
    d = dense("dense2", act3, d / n) * (act3 > 0)
    d = dense("dense1", flat, d).reshape(n, 32, 4, 4).transpose(0, 2, 3, 1)
    # The gradient of a maximum goes to where it came from, in equal parts where several are equal.
    winners = windows == pooled[:, :, None, :, None]
    share = winners / winners.sum(axis=(2, 4), keepdims=True)
    d = (share * d[:, :, None, :, None]).reshape(act2.shape).astype(np.float32) * (act2 > 0)
    d = col2im(dense("conv2", cols2, d), 16) * (act1 > 0)
    dense("conv1", cols1, d)
    return g


def shifted(images, rng):
    """Each image moved by up to half a pixel either way: people do not write in the middle of the box."""
    for axis in (1, 2):
        neighbours = np.zeros_like(images)
        up = rng.random(len(images)) < 0.5
        axis_first = np.moveaxis(images, axis, 1)
        target = np.moveaxis(neighbours, axis, 1)
        target[up, 1:] = axis_first[up, :-1]
        target[~up, :-1] = axis_first[~up, 1:]
        part = rng.uniform(0, 0.5, (len(images), 1, 1, 1)).astype(np.float32)
        images = (1 - part) * images + part * neighbours
    return images


def train(images, labels, rng):
    p = initial(rng)
    m = {k: np.zeros_like(v) for k, v in p.items()}
    v = {k: np.zeros_like(v) for k, v in p.items()}
    step = 0
    steps = EPOCHS * (len(images) // BATCH)
    for epoch in range(EPOCHS):
        order = rng.permutation(len(images))
        for first in range(0, len(order) - BATCH + 1, BATCH):
            chosen = order[first:first + BATCH]
            probabilities, saved = forward(p, shifted(images[chosen], rng))
            gradients = backward(p, saved, probabilities, labels[chosen])
            step += 1
            rate = LEARNING_RATE * (1 + np.cos(np.pi * step / steps)) / 2
            for key, g in gradients.items():
                m[key] += 0.1 * (g - m[key])
                v[key] += 0.001 * (g * g - v[key])
                p[key] -= (rate * (m[key] / (1 - 0.9 ** step)) /
                           (np.sqrt(v[key] / (1 - 0.999 ** step)) + 1e-8)).astype(np.float32)
        print(f"epoch {epoch + 1:2}: {accuracy(p, images, labels):.4f} of the training images")
    return p


def accuracy(p, images, labels):
    return float(np.mean(forward(p, images)[0].argmax(axis=1) == labels))


def conv_weights(w, inputs):
    """[9 * inputs, outputs] -> ONNX's [outputs, inputs, 3, 3]."""
    return np.ascontiguousarray(w.reshape(3, 3, inputs, -1).transpose(3, 2, 0, 1))


def export(p):
    weights = {
        "conv1.weight": conv_weights(p["conv1.w"], 1), "conv1.bias": p["conv1.b"],
        "conv2.weight": conv_weights(p["conv2.w"], 16), "conv2.bias": p["conv2.b"],
        "dense1.weight": p["dense1.w"], "dense1.bias": p["dense1.b"],
        "dense2.weight": p["dense2.w"], "dense2.bias": p["dense2.b"],
    }
    square = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}
    nodes = [
        helper.make_node("Conv", ["image", "conv1.weight", "conv1.bias"], ["c1"], "conv1", **square),
        helper.make_node("Relu", ["c1"], ["r1"], "relu1"),
        helper.make_node("Conv", ["r1", "conv2.weight", "conv2.bias"], ["c2"], "conv2", **square),
        helper.make_node("Relu", ["c2"], ["r2"], "relu2"),
        helper.make_node("MaxPool", ["r2"], ["m"], "pool", kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Flatten", ["m"], ["f"], "flatten"),
        helper.make_node("Gemm", ["f", "dense1.weight", "dense1.bias"], ["d1"], "dense1"),
        helper.make_node("Relu", ["d1"], ["r3"], "relu3"),
        helper.make_node("Gemm", ["r3", "dense2.weight", "dense2.bias"], ["d2"], "dense2"),
        helper.make_node("Softmax", ["d2"], ["probabilities"], "softmax", axis=1),
    ]
    graph = helper.make_graph(
        nodes, "digits",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 1, 8, 8])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [1, 10])],
        [numpy_helper.from_array(w, name) for name, w in weights.items()])
    model = helper.make_model(graph, producer_name="examples/digits/train.py",
                              opset_imports=[helper.make_opsetid("", 13)])
    model.ir_version = 7
    onnx.checker.check_model(model)
    onnx.save(model, str(HERE / "digits.onnx"))


def main():
    digits = load_digits()
    images = (digits.images / 16).astype(np.float32)[..., None]
    labels = digits.target.astype(np.int64)
    rng = np.random.default_rng(SEED)
    order = rng.permutation(len(images))
    held, rest = order[::5], order[np.arange(len(order)) % 5 != 0]
    p = train(images[rest], labels[rest], rng)
    print(f"held out: {accuracy(p, images[held], labels[held]):.4f} of {len(held)} images")
    print(f"parameters: {sum(v.size for v in p.values())}")
    export(p)
    np.save(HERE / "images.npy", images[held].transpose(0, 3, 1, 2))
    np.save(HERE / "labels.npy", labels[held].astype(np.uint8))


if __name__ == "__main__":
    main()
