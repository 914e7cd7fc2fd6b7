#!/usr/bin/python3
"""Real networks through kcc, krtd over a socket and kaena-cli, every data set, against the outputs they came with.

usage: test_models.py [--only NAME]... [--tpbs N]... [--table FILE]

Prints a table (model, cast mode, TPBs, error, cosine, operators on the host) and fails when a line is out of bounds.
"""

import argparse
import importlib
import json
import os
import pathlib
import re
import subprocess
import sys

import daemon

try:
    import numpy as np
except ImportError:
    daemon.skip("numpy is not installed (scripts/setup)")

# Bounds: |error| <= relative * max|expected| + absolute, and the cosine of the angle between the two.
BOUNDS = {"none": (1e-4, 1e-5, 0.9999), "all": (0.03, 1e-5, 0.999)}
DTYPES = {1: "float32", 2: "uint8", 3: "int8", 6: "int32", 7: "int64", 9: "bool", 10: "float16", 11: "float64"}


def tensor_reader(directory):
    """Reads onnx.TensorProto files with classes made from our own schema."""
    subprocess.run(["protoc", "-I", daemon.SOURCE / "proto" / "onnx", f"--python_out={directory}", "onnx.proto"], check=True)
    sys.path.insert(0, str(directory))
    onnx = importlib.import_module("onnx_pb2")

    def read(path):
        tensor = onnx.TensorProto()
        tensor.ParseFromString(path.read_bytes())
        dtype = np.dtype(DTYPES[tensor.data_type])
        if tensor.raw_data:
            data = np.frombuffer(tensor.raw_data, dtype)
        else:
            field = {"float32": "float_data", "int64": "int64_data", "float64": "double_data"}.get(dtype.name, "int32_data")
            data = np.array(getattr(tensor, field), dtype)
        return tensor.name, data.reshape(list(tensor.dims))

    def names(path):
        model = onnx.ModelProto()
        model.ParseFromString(path.read_bytes())
        held = {t.name for t in model.graph.initializer}
        return [v.name for v in model.graph.input if v.name not in held], [v.name for v in model.graph.output]

    return read, names


def read_all(read, directory, kind):
    files = sorted(directory.glob(f"{kind}_*.pb"), key=lambda p: int(re.findall(r"\d+", p.stem)[0]))
    return [read(f)[1] for f in files]


def difference(want, got):
    want, got = want.astype(np.float64).ravel(), got.astype(np.float64).ravel()
    error, largest = np.abs(want - got).max(initial=0), np.abs(want).max(initial=0)
    norm = np.linalg.norm(want) * np.linalg.norm(got)
    return error, largest, float(want @ got / norm) if norm > 0 else 1.0


def file_name(output):
    return re.sub(r"[^A-Za-z0-9._-]", "_", output) + ".npy"


def run_sets(krtd, name, model, sets, read, names):
    """The worst error relative to the largest expected value, that value, and the least cosine over all sets and outputs."""
    inputs, outputs = names
    worst, least, within = 0.0, 1.0, True
    relative, absolute, cosine = BOUNDS[name.split("/")[1]]
    for data in sets:
        arguments = []
        for k, value in enumerate(read_all(read, data, "input")):
            path = krtd.dir / f"in{k}.npy"
            np.save(path, value)
            arguments += ["--input", f"{inputs[k]}={path}"]
        krtd.cli("infer", "--model", "m", *arguments, "--output-dir", krtd.dir / "out")
        for k, want in enumerate(read_all(read, data, "output")):
            got = np.load(krtd.dir / "out" / file_name(outputs[k]))
            assert got.shape == want.shape and got.dtype == want.dtype, (model, outputs[k], got.shape, want.shape, got.dtype)
            error, largest, angle = difference(want, got)
            worst = max(worst, error / largest if largest else error)
            least = min(least, angle)
            if not (error <= relative * largest + absolute and (angle >= cosine or largest == 0)):
                within = False
    return worst, least, within


def io_config(read, names, data):
    inputs = {n: [list(v.shape), v.dtype.name] for n, v in zip(names[0], read_all(read, data, "input"))}
    return json.dumps({"inputs": inputs})


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", action="append", default=[])
    parser.add_argument("--tpbs", action="append", type=int, default=[])
    parser.add_argument("--table")
    options = parser.parse_args()
    if not os.environ.get("KAENA_SHARED_DIR"):
        daemon.skip("the models are in the shared directory (meson option shared_dir)")
    prepare = daemon.SOURCE / "tests" / "conformance" / "prepare_models.sh"
    models = pathlib.Path(subprocess.run([prepare], check=True, text=True, stdout=subprocess.PIPE).stdout.strip())
    rows, failed = [], 0
    with daemon.Daemon("--devices", "0") as krtd:
        read, model_names = tensor_reader(krtd.dir)
        for directory in sorted(p for p in models.iterdir() if (p / "model.onnx").exists()):
            if options.only and directory.name not in options.only:
                continue
            names = model_names(directory / "model.onnx")
            by_shape = {}
            for data in sorted(directory.glob("test_data_set_*")):
                by_shape.setdefault(io_config(read, names, data), []).append(data)
            for mode in BOUNDS:
                for tpbs in options.tpbs or [1, 4]:
                    worst, least, within, host = 0.0, 1.0, True, 0
                    for config, sets in by_shape.items():
                        neff = krtd.dir / "m.neff"
                        daemon.compile_model(directory / "model.onnx", neff, "--io-config", config, "--fp32-cast", mode,
                                             "--num-tpbs", str(tpbs))
                        info = json.loads(subprocess.run([daemon.BUILD / "tools" / "kaena-info", neff, "--json"], check=True, text=True,
                                                         stdout=subprocess.PIPE).stdout)
                        host = max(host, len(info.get("host_operators", [])))
                        krtd.cli("load", neff, "--name", "m")
                        try:
                            w, l, ok = run_sets(krtd, f"{directory.name}/{mode}", directory.name, sets, read, names)
                        finally:
                            krtd.cli("unload", "m")
                        worst, least, within = max(worst, w), min(least, l), within and ok
                    failed += not within
                    rows.append(f"| {directory.name} | {mode} | {tpbs} | {worst:.2e} | {least:.6f} | {host} | {'ok' if within else 'FAILED'} |")
                    print(rows[-1], flush=True)
    table = "\n".join(["| model | cast | TPBs | largest error / largest value | least cosine | host operators | |",
                       "|---|---|---|---|---|---|---|"] + rows) + "\n"
    if options.table:
        pathlib.Path(options.table).write_text(table)
    print(f"{len(rows) - failed} of {len(rows)} within bounds")
    sys.exit(1 if failed or not rows else 0)


if __name__ == "__main__":
    main()
