"""The real networks there are to test with: where they lie, and what they answer to which inputs."""

import collections
import importlib
import json
import os
import pathlib
import re
import subprocess
import sys

import daemon
import numpy as np
import onnxruntime_c
import test_generated

# A network: name, framework, what --model takes, more options for kcc, and its data sets.
Case = collections.namedtuple("Case", "name framework model options sets")
# One data set: lists of (name, array) in the model's order.
DataSet = collections.namedtuple("DataSet", "inputs outputs")

TENSOR_DTYPES = {1: "float32", 2: "uint8", 3: "int8", 6: "int32", 7: "int64", 9: "bool", 10: "float16", 11: "float64"}


def shared():
    if not os.environ.get("KAENA_SHARED_DIR"):
        daemon.skip("the models are in the shared directory (meson option shared_dir)")
    return pathlib.Path(os.environ["KAENA_SHARED_DIR"]) / "models"


def io_config(data):
    """What --io-config says about this data set's inputs."""
    return json.dumps({"inputs": {n: [list(v.shape), v.dtype.name] for n, v in data.inputs}})


def in_order(directory, pattern):
    return sorted(directory.glob(pattern), key=lambda p: int(re.findall(r"\d+", p.stem)[0]))


# --- ONNX: model.onnx, test_data_set_K with TensorProto files ---


def onnx_classes(directory):
    """onnx.* messages with classes made from our own schema."""
    if "onnx_pb2" not in sys.modules:
        subprocess.run(["protoc", "-I", daemon.SOURCE / "proto" / "onnx", f"--python_out={directory}", "onnx.proto"], check=True)
        sys.path.insert(0, str(directory))
    return importlib.import_module("onnx_pb2")


def read_tensor(onnx, path):
    tensor = onnx.TensorProto()
    tensor.ParseFromString(path.read_bytes())
    dtype = np.dtype(TENSOR_DTYPES[tensor.data_type])
    if tensor.raw_data:
        data = np.frombuffer(tensor.raw_data, dtype)
    else:
        field = {"float32": "float_data", "int64": "int64_data", "float64": "double_data"}.get(dtype.name, "int32_data")
        data = np.array(getattr(tensor, field), dtype)
    return data.reshape(list(tensor.dims))


def onnx_names(onnx, path):
    model = onnx.ModelProto()
    model.ParseFromString(path.read_bytes())
    held = {t.name for t in model.graph.initializer}
    return [v.name for v in model.graph.input if v.name not in held], [v.name for v in model.graph.output]


def onnx_cases(directory):
    """Classes for reading are made in |directory|."""
    prepare = daemon.SOURCE / "tests" / "conformance" / "prepare_models.sh"
    root = pathlib.Path(subprocess.run([prepare], check=True, text=True, stdout=subprocess.PIPE).stdout.strip())
    onnx = onnx_classes(directory)
    found = {p.name: p / "model.onnx" for d in (shared() / "onnx" / "models", root) for p in d.iterdir()}
    for model in sorted(p for p in found.values() if p.exists()):
        inputs, outputs = onnx_names(onnx, model)
        sets = []
        for data in in_order(model.parent, "test_data_set_*"):
            sets.append(DataSet([(n, read_tensor(onnx, f)) for n, f in zip(inputs, in_order(data, "input_*.pb"))],
                                [(n, read_tensor(onnx, f)) for n, f in zip(outputs, in_order(data, "output_*.pb"))]))
        yield Case(model.parent.name, "ONNX", model, [], sets)


# --- TensorFlow and MXNet: set_K/io.json with .npy files ---


def json_sets(model, name_of):
    for data in in_order(model, "set_*"):
        io = json.loads((data / "io.json").read_text())
        yield DataSet(*([(name_of(t), np.load(data / t["file"])) for t in io[kind]] for kind in ("inputs", "outputs")))


def materialise(model):
    """Parameters that were not shipped are made from their seed, which the manifest names."""
    manifest = (shared() / "manifest.md").read_text()
    seed = re.search(rf"^\| {re.escape(model.name)} \|.*?\bseed (\d+)", manifest, re.M)
    if not seed:
        return None
    kept = os.environ.get("KAENA_MODELS_DIR") or daemon.BUILD / "tests" / "conformance" / "models"
    params = pathlib.Path(kept) / "mxnet" / f"{model.name}.params"
    if not params.exists():
        params.parent.mkdir(parents=True, exist_ok=True)
        data = next(json_sets(model, lambda t: t["name"]))
        feeds = []
        for name, value in data.inputs:
            np.save(params.parent / f"{name}.npy", value)
            feeds.append(f"{name}={params.parent / name}.npy")
        made = params.parent / f"{model.name}.{os.getpid()}"
        subprocess.run(["/usr/bin/python3", "-B", shared() / "mxnet" / "mxref.py", model / "model-symbol.json",
                        f"seed:{seed[1]}", *feeds, made], check=True, stdout=subprocess.DEVNULL)
        (made / "seeded.params").rename(params)
    return params


def mxnet_cases():
    for model in sorted((shared() / "mxnet" / "models").iterdir()):
        sets = list(json_sets(model, lambda t: t["name"]))
        params = model / "model-0000.params"
        params = params if params.exists() else materialise(model)
        if sets and params:
            yield Case(model.name, "MXNET", model / "model", ["--params", params], sets)


def tensorflow_cases():
    for model in sorted((shared() / "tensorflow" / "models").iterdir()):
        saved = (model / "saved_model").is_dir()
        sets = list(json_sets(model, lambda t: t["tensor"]))
        yield Case(model.name, "TENSORFLOW", model / ("saved_model" if saved else "model.pb"), [], sets)
    yield from serving_cases()


# --- Networks with seeded random weights, whose outputs ONNX Runtime says ---


def generated_cases(directory, only):
    library = onnxruntime_c.library(daemon.SOURCE)
    listed = subprocess.run(["/usr/bin/python3", test_generated.GENERATE, "--list"], text=True, capture_output=True, check=False)
    if not library or listed.returncode != 0:
        daemon.skip("ONNX Runtime or python3-onnx is not installed (scripts/setup --bench)")
    onnx = onnx_classes(directory)
    for name in listed.stdout.split():
        if only and name not in only:
            continue
        path, random, inputs = test_generated.model_file(name), np.random.default_rng(7), {}
        model = onnx.ModelProto()
        model.ParseFromString(path.read_bytes())
        for v in model.graph.input:
            shape = [d.dim_value for d in v.type.tensor_type.shape.dim]
            inputs[v.name] = test_generated.random_input(random, v.name, TENSOR_DTYPES[v.type.tensor_type.elem_type], shape)
        want = onnxruntime_c.Session(library, path).run(inputs, [v.name for v in model.graph.output])
        yield Case(name, "ONNX", path, [], [DataSet(list(inputs.items()), list(want.items()))])


def serving_cases():
    """Models of TensorFlow Serving's tests, which say what they compute."""
    root = shared() / "tensorflow" / "serving"
    x = np.array([[1], [-2.5], [1000]], "float32")
    known = {"saved_model_half_plus_two*/*": (x, 2), "saved_model_half_plus_three/*": (x, 3),
             "matrix_half_plus_two/*": (np.arange(18, dtype="float32").reshape(2, 3, 3), 2)}
    for pattern, (value, plus) in known.items():
        for model in sorted(p for p in root.glob(pattern) if p.is_dir()):
            data = DataSet([("x:0", value)], [("y:0", 0.5 * value + np.float32(plus))])
            yield Case(str(model.relative_to(root)), "TENSORFLOW", model, [], [data])


def all_cases(sources, directory, only):
    """Cases called as |only| says, all where it is empty."""
    cases = {"ONNX": lambda: onnx_cases(directory), "MXNET": mxnet_cases, "TENSORFLOW": tensorflow_cases,
             "GENERATED": lambda: generated_cases(directory, only)}
    for name in sources:
        yield from (c for c in cases[name]() if not only or c.name in only)
