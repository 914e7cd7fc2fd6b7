#!/usr/bin/python3
"""Writes the first inputs of corpus/mx_symbol and corpus/mx_params: make_mx_corpus.py (run it here)."""

import json
import pathlib
import struct

HERE = pathlib.Path(__file__).parent / "corpus"
SHAPES = {"data": "(1, 2, 6, 5)", "rows": "(2, 6)", "cube": "(2, 3, 4)"}
# name: nodes after the variables data, rows, cube, w, b, c, d (0 to 6): (operator, inputs, attributes)
NETWORKS = {
    "conv": [("Convolution", [0, 3, 4], {"kernel": "(3, 3)", "num_filter": "4", "pad": "(1, 1)", "num_group": "2"}),
             ("BatchNorm", [7], {"eps": "1e-05"}), ("Activation", [8], {"act_type": "relu"}),
             ("Pooling", [9], {"kernel": "(2, 2)", "stride": "(2, 2)", "pool_type": "avg", "pooling_convention": "full", "pad": "(1, 1)"})],
    "conv_nhwc": [("Convolution", [0, 3], {"kernel": "(2, 2)", "num_filter": "4", "no_bias": "True", "layout": "NHWC"})],
    "deconv": [("Deconvolution", [0, 3], {"kernel": "(2, 2)", "num_filter": "4", "stride": "(2, 2)", "target_shape": "(11, 9)"})],
    "mlp": [("Flatten", [0], {}), ("FullyConnected", [7, 3, 4], {"num_hidden": "3"}), ("SoftmaxOutput", [8, 5], {})],
    "rnn": [("RNN", [2, 3, 4, 5], {"mode": "lstm", "state_size": "2", "num_layers": "2", "bidirectional": "True", "state_outputs": "True"})],
    "reshape": [("Reshape", [0], {"shape": "(0, -4, 2, -1, -3)"}), ("transpose", [7], {"axes": "(0, 2, 1, 3)"}),
                ("slice", [8], {"begin": "(0, None)", "end": "(1, 1)", "step": "(1, -1)"})],
    "split": [("SliceChannel", [2], {"num_outputs": "3", "squeeze_axis": "1"}), ("Concat", [7], {"dim": "0", "num_args": "1"})],
    "order": [("topk", [1], {"k": "2", "ret_typ": "both"}), ("one_hot", [7], {"depth": "4"})],
    "take": [("Embedding", [1, 3], {"input_dim": "4", "output_dim": "3"}), ("take", [7, 1], {"axis": "1", "mode": "wrap"}),
             ("pick", [7, 4], {"axis": "-1"})],
    "fill": [("_zeros", [], {"shape": "(0, 4)"}), ("Reshape", [7], {"shape": "(-1, 4)"}), ("_arange", [], {"start": "0", "stop": "8"})],
    "norm": [("LRN", [0], {"nsize": "3"}), ("L2Normalization", [7], {"mode": "spatial"}), ("GroupNorm", [8, 3, 4], {"num_groups": "2"})],
    "resize": [("UpSampling", [0], {"scale": "2", "sample_type": "nearest", "num_args": "1"}),
               ("_contrib_BilinearResize2D", [7], {"height": "4", "width": "9"}), ("Crop", [8, 0], {"num_args": "2"})],
    "sequence": [("SequenceMask", [2, 1], {"use_sequence_length": "True"}), ("SequenceLast", [2], {}), ("SequenceReverse", [7], {})],
    "scalars": [("_plus_scalar", [0], {"scalar": "1e10"}), ("clip", [7], {"a_min": "-inf", "a_max": "nan"}),
                ("broadcast_mod", [7, 8], {}), ("mean", [9], {"axis": "(1, 2)", "exclude": "True"})],
    "pad": [("Pad", [0], {"mode": "reflect", "pad_width": "(0, 0, 0, 0, 1, 1, 2, 2)"}), ("tile", [7], {"reps": "(2, 1)"}),
            ("repeat", [8], {"repeats": "2", "axis": "-1"})],
    "dot": [("dot", [1, 3], {}), ("dot", [1, 1], {"transpose_b": "True"}), ("batch_dot", [2, 2], {"transpose_a": "1"})],
}


def symbol(nodes, form="attrs", wide=True):
    out = []
    for name in ("data", "rows", "cube", "w", "b", "c", "d"):
        node = {"op": "null", "name": name, "inputs": []}
        if name in SHAPES:
            node[form] = {"__shape__": SHAPES[name]}
        out.append(node)
    for k, (op, inputs, attrs) in enumerate(nodes):
        out.append({"op": op, "name": f"n{k}", "inputs": [[i, 0, 0] if wide else [i, 0] for i in inputs], form: attrs})
    last = [len(out) - 1, 0, 0] if wide else [len(out) - 1, 0]
    return {"nodes": out, "arg_nodes": list(range(7)), "heads": [last], **({"attrs": {"mxnet_version": ["int", 10500]}} if wide else {})}


def array(version, shape, data, storage=0):
    magic = {0: b"", 1: struct.pack("<I", 0xF993FAC8), 2: struct.pack("<Ii", 0xF993FAC9, storage), 3: struct.pack("<Ii", 0xF993FACA, storage)}
    dims = struct.pack(f"<{len(shape)}{'I' if version == 0 else 'q'}", *shape)
    return magic[version] + struct.pack("<I", len(shape)) + dims + struct.pack("<iii", 1, 0, 0) + data


def params(arrays, names):
    return (struct.pack("<QQQ", 0x112, 0, len(arrays)) + b"".join(arrays) + struct.pack("<Q", len(names)) +
            b"".join(struct.pack("<Q", len(n)) + n for n in names))


def write(folder, name, data):
    (HERE / folder).mkdir(parents=True, exist_ok=True)
    (HERE / folder / name).write_bytes(data)


def main():
    for name, nodes in NETWORKS.items():
        write("mx_symbol", name + ".json", json.dumps(symbol(nodes)).encode())
    write("mx_symbol", "old.json", json.dumps(symbol(NETWORKS["conv"], "param", False)).encode())
    circle = symbol([("relu", [8], {}), ("relu", [7], {})])
    write("mx_symbol", "circle.json", json.dumps(circle).encode())
    write("mx_symbol", "deep.json", b"[" * 100)
    floats = struct.pack("<4f", 1, 2, 3, 4)
    names = [b"arg:w", b"arg:bn_gamma", b"arg:bn_beta", b"aux:bn_moving_mean", b"aux:bn_moving_var"]
    for version in range(4):
        arrays = [array(version, (2, 2, 1, 1), floats)] + [array(version, (2,), floats[:8])] * 4
        write("mx_params", f"version{version}", params(arrays, names))
    write("mx_params", "nameless", params([array(2, (4,), floats)], []))
    write("mx_params", "sparse", params([array(2, (4,), floats, 1)], [b"w"]))
    write("mx_params", "huge", params([array(2, (1 << 20, 1 << 20), floats)], [b"w"]))
    write("mx_params", "claims", struct.pack("<QQQ", 0x112, 0, 1 << 40))
    write("mx_params", "scalar", params([array(3, (), floats[:4])], [b"arg:w"]))


main()
