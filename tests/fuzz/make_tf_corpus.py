#!/usr/bin/python3
"""Writes the seeds of fuzz_tf_graphdef: small graphs of many operators, binary and as text, and damaged ones.

usage: make_tf_corpus.py DIRECTORY      (needs protoc)
"""
import pathlib
import random
import subprocess
import sys

PROTO = pathlib.Path(__file__).resolve().parents[2] / "proto"


def node(name, op, inputs="", *attributes):
    listed = "".join(f" input:'{i}'" for i in inputs.split())
    return f"node{{name:'{name}' op:'{op}'{listed}{''.join(attributes)}}}\n"


def attribute(key, value):
    return f" attr{{key:'{key}' value{{{value}}}}}"


def numbers(key, *values):
    return attribute(key, f"list{{i:{list(values)}}}")


def text(key, value):
    return attribute(key, f"s:'{value}'")


def shape(*dims):
    return "".join(f"dim{{size:{d}}}" for d in dims)


def x(*dims, dtype="DT_FLOAT"):
    return node("x", "Placeholder", "", attribute("dtype", f"type:{dtype}"), attribute("shape", f"shape{{{shape(*dims)}}}"))


def const(name, values, *dims, dtype="DT_INT32", field="int_val"):
    return node(name, "Const", "", attribute("value", f"tensor{{dtype:{dtype} tensor_shape{{{shape(*dims)}}} {field}:{values}}}"))


def floats(name, values, *dims):
    return const(name, values, *dims, dtype="DT_FLOAT", field="float_val")


def seeds():
    image = x(1, 4, 4, 2)
    same = text("padding", "SAME")
    steps = numbers("strides", 1, 2, 2, 1)
    yield "conv", image + floats("w", [1, 0.5], 3, 3, 2, 4) + floats("b", [1], 4) + node("c", "Conv2D", "x w", same, steps) + \
        node("d", "BiasAdd", "c b") + node("y", "Relu6", "d")
    yield "depthwise", image + floats("w", [1], 3, 3, 2, 2) + node("y", "DepthwiseConv2dNative", "x w", same, steps)
    yield "conv_back", image + floats("w", [1], 3, 3, 4, 2) + const("n", [1, 8, 8, 4], 4) + \
        node("y", "Conv2DBackpropInput", "n w x", same, steps)
    yield "pool", image + node("m", "MaxPool", "x", same, steps, numbers("ksize", 1, 2, 2, 1)) + \
        node("a", "AvgPool", "m", text("padding", "VALID"), numbers("ksize", 1, 2, 2, 1)) + \
        node("g", "MaxPoolWithArgmax", "x", same, steps, numbers("ksize", 1, 2, 2, 1))
    yield "norm", image + floats("s", [2], 2) + node("y", "FusedBatchNormV3", "x s s s s", attribute("is_training", "b:false")) + \
        node("l", "LRN", "x") + node("t", "FusedBatchNorm", "x s s s s")
    yield "slice", x(2, 3, 4) + const("b", [0, 1], 2) + const("e", [2, 3], 2) + const("s", [1, -1], 2) + \
        node("y", "StridedSlice", "x b e s", attribute("ellipsis_mask", "i:1"), attribute("shrink_axis_mask", "i:2")) + \
        const("o", [0, 1, 2], 3) + const("m", [-1, 2, 2], 3) + node("z", "Slice", "x o m")
    yield "shape", x(2, 3, 4) + node("s", "Shape", "x") + const("i", [0], 1) + const("a", [0]) + node("g", "GatherV2", "s i a") + \
        const("m", [-1], 1) + node("c", "ConcatV2", "g m a") + node("y", "Reshape", "x c")
    yield "pack", x(2, 3) + node("p", "Pack", "x x", attribute("axis", "i:1")) + node("u", "Unpack", "p", attribute("num", "i:2"),
        attribute("axis", "i:1")) + const("a", [1]) + node("s", "Split", "a x", attribute("num_split", "i:3"))
    yield "reduce", x(2, 3) + const("a", [1], 1) + node("s", "Sum", "x a", attribute("keep_dims", "b:true")) + \
        node("t", "TopKV2", "x k") + const("k", [2]) + node("m", "ArgMax", "x k0") + const("k0", [1])
    yield "segments", x(4, 2) + const("i", [0, 0, 2, 2], 4) + node("s", "SegmentMean", "x i") + const("n", [3]) + \
        node("u", "UnsortedSegmentMax", "x i n")
    yield "diagonal", x(3, 3) + node("d", "MatrixDiagPart", "x") + node("m", "MatrixDiag", "d") + const("b", [1]) + \
        node("p", "MatrixBandPart", "x b b") + node("s", "MatrixSetDiag", "x d")
    yield "blocks", x(1, 4, 4, 1) + const("b", [2, 2], 2) + const("p", [0, 0, 0, 0], 2, 2) + node("s", "SpaceToBatchND", "x b p") + \
        node("t", "BatchToSpaceND", "s b p") + node("d", "SpaceToDepth", "x", attribute("block_size", "i:2"))
    yield "images", x(1, 4, 4, 3) + const("n", [8, 6], 2) + node("b", "ResizeBilinear", "x n") + node("a", "ResizeArea", "x n") + \
        node("h", "RGBToHSV", "x") + floats("f", [0.5]) + node("c", "AdjustHue", "x f")
    yield "cells", x(1, 2) + floats("c", [0.1], 1, 3) + floats("w", [0.1], 5, 12) + floats("p", [0.1], 3) + floats("b", [0], 12) + \
        node("y", "LSTMBlockCell", "x c c w p p p b")
    yield "boxes", x(3, 4) + floats("s", [0.9, 0.8, 0.7], 3) + const("n", [2]) + floats("t", [0.5]) + \
        node("y", "NonMaxSuppressionV4", "x s n t t", attribute("pad_to_max_output_size", "b:true"))
    yield "constants", const("h", [15360], 2, dtype="DT_HALF", field="half_val") + node("a", "Cast", "h", attribute("DstT", "type:DT_INT64")) + \
        node("c", "Const", "", attribute("value", "tensor{dtype:DT_INT16 tensor_shape{dim{size:1}} tensor_content:'ab'}")) + \
        node("b", "Bitcast", "c", attribute("type", "type:DT_UINT8"))
    yield "loop", x(2) + node("e", "Enter", "x", text("frame_name", "f")) + node("m", "Merge", "e n") + node("l", "LoopCond", "k") + \
        const("k", ["true"], dtype="DT_BOOL", field="bool_val").replace("'true'", "true") + node("s", "Switch", "m l") + \
        node("i", "Neg", "s:1") + node("n", "NextIteration", "i") + node("y", "Exit", "s")
    yield "choice", x(2) + const("p", ["true"], dtype="DT_BOOL", field="bool_val").replace("'true'", "true") + \
        node("s", "Switch", "x p") + node("a", "Neg", "s:1") + node("b", "Exp", "s") + node("y", "Merge", "b a")
    yield "cycle", node("a", "Neg", "b") + node("b", "Neg", "a") + node("y", "Neg", "b")
    yield "missing", node("a", "Neg", "nowhere:3")
    yield "huge", floats("c", [1], 1048576, 1048576) + node("y", "Identity", "c")


def damaged(data, seed):
    generator = random.Random(seed)
    data = bytearray(data)
    for _ in range(3):
        data[generator.randrange(len(data))] = generator.randrange(256)
    return bytes(data[: generator.randrange(len(data) // 2, len(data))])


def main():
    directory = pathlib.Path(sys.argv[1])
    directory.mkdir(parents=True, exist_ok=True)
    for i, (name, graph) in enumerate(seeds()):
        graph += "versions{producer:26}\n"
        binary = subprocess.run(["protoc", "-I", PROTO, "--encode=tensorflow.GraphDef", "tensorflow/graph.proto"], check=True,
                                input=graph.encode(), stdout=subprocess.PIPE).stdout
        (directory / name).write_bytes(binary)
        (directory / f"{name}_text").write_bytes(b"#\n" + graph.encode())
        (directory / f"{name}_damaged").write_bytes(damaged(binary, i))


main()
