#!/usr/bin/python3
"""Takes the first data set of a test model apart for bench_models.

usage: model_inputs.py MODEL.onnx DIRECTORY

Writes DIRECTORY/K.bin, the bytes of the model's Kth input, and DIRECTORY/io.json for kcc's --io-config.
Needs Debian's python3-onnx and python3-numpy.
"""

import json
import pathlib
import sys

import onnx
from onnx import numpy_helper


def main(model, directory):
    model, directory = pathlib.Path(model), pathlib.Path(directory)
    if not (model.parent / "test_data_set_0").is_dir():
        sys.exit(f"model_inputs: no folder 'test_data_set_0' beside '{model}': its tensors are the inputs")
    graph = onnx.load(model).graph
    held = {t.name for t in graph.initializer}
    config = {}
    directory.mkdir(parents=True, exist_ok=True)
    for k, name in enumerate(v.name for v in graph.input if v.name not in held):
        tensor = onnx.TensorProto()
        tensor.ParseFromString((model.parent / "test_data_set_0" / f"input_{k}.pb").read_bytes())
        value = numpy_helper.to_array(tensor)
        (directory / f"{k}.bin").write_bytes(value.tobytes())
        config[name] = [list(value.shape), value.dtype.name]
    (directory / "io.json").write_text(json.dumps({"inputs": config}))


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
