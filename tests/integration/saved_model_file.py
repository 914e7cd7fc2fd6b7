"""Writes SavedModel directories with our own schemas: no TensorFlow needed."""

import importlib
import struct
import subprocess
import sys

import daemon

FLOAT, STRING, RESOURCE = 1, 7, 20


def messages(directory):
    """The modules saved_model_pb2 and tensor_bundle_pb2, made in |directory|."""
    subprocess.run(["protoc", "-I", daemon.SOURCE / "proto", f"--python_out={directory}", "tensorflow/graph.proto",
                    "tensorflow/saved_model.proto", "tensorflow/tensor_bundle.proto"], check=True)
    sys.path.insert(0, str(directory))
    return [importlib.import_module(f"tensorflow.{name}") for name in ("saved_model_pb2", "tensor_bundle_pb2")]


def make_table():
    for i in range(256):
        for _ in range(8):
            i = (i >> 1) ^ (0x82f63b78 if i & 1 else 0)
        yield i


TABLE = list(make_table())


def masked_crc(data):
    crc = 0xffffffff
    for byte in data:
        crc = TABLE[(crc ^ byte) & 0xff] ^ (crc >> 8)
    crc ^= 0xffffffff
    return (((crc >> 15) | (crc << 17)) + 0xa282ead8) & 0xffffffff


def varint(n):
    out = b""
    while n >= 0x80:
        out += bytes([n & 0x7f | 0x80])
        n >>= 7
    return out + bytes([n])


def block(entries):
    data = b"".join(b"\0" + varint(len(k)) + varint(len(v)) + k + v for k, v in entries) + struct.pack("<II", 0, 1)
    return data + b"\0" + struct.pack("<I", masked_crc(data + b"\0")), len(data)


def table(entries):
    data, size = block(entries)
    meta, meta_size = block([])
    handle = varint(0) + varint(size)
    index, index_size = block([(b"\xff", handle)])
    footer = varint(len(data)) + varint(meta_size) + varint(len(data) + len(meta)) + varint(index_size)
    return data + meta + index + footer.ljust(40, b"\0") + bytes.fromhex("57fb808b247547db")


def write_bundle(bundle, directory, tensors):
    """variables/variables.* of |tensors|, name -> float32 array."""
    directory.mkdir()
    data = b""
    header = bundle.BundleHeaderProto(num_shards=1)
    header.version.producer = 1
    entries = [(b"", header.SerializeToString())]
    for name, value in sorted(tensors.items()):
        raw = value.astype("<f4").tobytes()
        entry = bundle.BundleEntryProto(dtype=FLOAT, offset=len(data), size=len(raw), crc32c=masked_crc(raw))
        for n in value.shape:
            entry.shape.dim.add(size=n)
        entries.append((name.encode(), entry.SerializeToString()))
        data += raw
    (directory / "variables.index").write_bytes(table(entries))
    (directory / "variables.data-00000-of-00001").write_bytes(data)


class Graph:
    """A GraphDef in the making."""

    def __init__(self, graph):
        self.graph = graph

    def node(self, name, op, *inputs, **attrs):
        n = self.graph.node.add(name=name, op=op, input=inputs)
        for key, (kind, value) in attrs.items():
            a = n.attr.add(key=key).value
            if kind == "shape":
                for size in value:
                    a.shape.dim.add(size=size)
                a.shape.SetInParent()
            else:
                setattr(a, kind, value)
        return name

    def variable(self, name, shape):
        self.node(name, "VarHandleOp", dtype=("type", FLOAT), shape=("shape", shape), shared_name=("s", name.encode()))
        return self.node(f"{name}/read", "ReadVariableOp", name, dtype=("type", FLOAT))


def signature(meta, key, inputs, outputs):
    """inputs, outputs: key -> (tensor, shape)"""
    s = meta.signature_def.add(key=key).value
    s.method_name = "tensorflow/serving/predict"
    for where, tensors in ((s.inputs, inputs), (s.outputs, outputs)):
        for k, (name, shape) in tensors.items():
            t = where.add(key=k).value
            t.name, t.dtype = name, FLOAT
            for size in shape:
                t.tensor_shape.dim.add(size=size)


def write_dense(modules, directory, weight, bias):
    """y = relu(x W + b) with two signatures, a training step's leavings and an asset."""
    saved_model, bundle = modules
    directory.mkdir()
    model = saved_model.SavedModel(saved_model_schema_version=1)
    meta = model.meta_graphs.add()
    meta.meta_info_def.tags.append("serve")
    meta.meta_info_def.tensorflow_version = "2.9.0"
    g = Graph(meta.graph_def)
    g.node("x", "Placeholder", dtype=("type", FLOAT), shape=("shape", (-1, weight.shape[0])))
    g.variable("w", weight.shape)
    g.variable("b", bias.shape)
    g.node("product", "MatMul", "x", "w/read", T=("type", FLOAT))
    g.node("sum", "BiasAdd", "product", "b/read", T=("type", FLOAT))
    g.node("y", "Relu", "sum", T=("type", FLOAT))
    g.node("step", "AssignSubVariableOp", "b", "b/read", dtype=("type", FLOAT))
    signature(meta, "serving_default", {"features": ("x:0", (-1, weight.shape[0]))}, {"scores": ("y:0", (-1, bias.shape[0]))})
    signature(meta, "raw", {"features": ("x:0", (-1, weight.shape[0]))}, {"sums": ("sum:0", (-1, bias.shape[0]))})
    meta.asset_file_def.add(filename="labels.txt").tensor_info.name = "labels:0"
    (directory / "saved_model.pb").write_bytes(model.SerializeToString())
    write_bundle(bundle, directory / "variables", {"w": weight, "b": bias})
    (directory / "assets").mkdir()
    (directory / "assets" / "labels.txt").write_text("one\ntwo\n")
    (directory / "assets.extra" / "deep").mkdir(parents=True)
    (directory / "assets.extra" / "deep" / "warmup").write_bytes(b"\1\2")
