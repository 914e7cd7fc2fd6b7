"""MXNet checkpoints as the tests write them: a symbol's JSON and a list of arrays."""

import json
import struct

import numpy as np

NUMBERS = {"float32": 0, "float64": 1, "float16": 2, "uint8": 3, "int32": 4, "int8": 5, "int64": 6}


def save_params(path, arrays):
    """|arrays|: {"arg:name": array}, in the format of MXNet 1.x (version 2)."""
    out = [struct.pack("<QQQ", 0x112, 0, len(arrays))]
    for a in arrays.values():
        out.append(struct.pack("<IiI", 0xF993FAC9, 0, a.ndim) + struct.pack(f"<{a.ndim}q", *a.shape))
        out.append(struct.pack("<iii", 1, 0, NUMBERS[a.dtype.name]) + np.ascontiguousarray(a).tobytes())
    out.append(struct.pack("<Q", len(arrays)))
    out += [struct.pack("<Q", len(k.encode())) + k.encode() for k in arrays]
    path.write_bytes(b"".join(out))


class Symbol:
    """Collects nodes; an entry is (node, output)."""

    def __init__(self):
        self.nodes, self.heads = [], []

    def add(self, op, name, inputs=(), **attrs):
        node = {"op": op, "name": name, "inputs": [[n, k, 0] for n, k in inputs]}
        if attrs:
            node["attrs"] = {k.strip("."): str(v) for k, v in attrs.items()}
        self.nodes.append(node)
        return len(self.nodes) - 1, 0

    def variable(self, name, **attrs):
        return self.add("null", name, **attrs)

    def save(self, prefix):
        arguments = [i for i, n in enumerate(self.nodes) if n["op"] == "null"]
        text = {"nodes": self.nodes, "arg_nodes": arguments, "node_row_ptr": list(range(len(self.nodes) + 1)),
                "heads": [[n, k, 0] for n, k in self.heads], "attrs": {"mxnet_version": ["int", 10500]}}
        prefix.with_name(prefix.name + "-symbol.json").write_text(json.dumps(text))
