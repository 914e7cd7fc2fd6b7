#!/usr/bin/python3
"""kaena-cli against a daemon made here, which says and sends what a good daemon would not."""

import json
import os
import subprocess
import tempfile
from concurrent import futures

import daemon

try:
    import grpc
    import numpy as np
except ImportError as missing:
    daemon.skip(f"{missing.name} is not installed (scripts/setup)")

# Output names of the model "odd", and the files they become.
NAMES = {"../../up": "_._.._up", "a/b": "a_b", "a:b": "a_b_2", "a b": "a_b_3", "": "_", ".hidden": "_hidden",
         "é": "__", "plain-1.x_y": "plain-1.x_y"}
WORDS = [b"one", b"", b"three"]


def make_service(messages, tensors, stubs):
    spec = tensors.TensorSpec(name="x", dtype=tensors.FLOAT32, shape=[2])
    odd = messages.Model(name="odd", state=messages.READY, inputs=[spec], num_tpbs=4, dram_bytes=3 << 20,
                         outputs=[tensors.TensorSpec(name=n, dtype=tensors.FLOAT32, shape=[2]) for n in NAMES])

    odd.outputs.append(tensors.TensorSpec(name="words", dtype=tensors.STRING, shape=[3]))

    class Service(stubs.RuntimeServicer):
        def ListDevices(self, request, context):
            device = messages.Device(index=3, pci="0000:00:1f.0", tpbs=4, dram_bytes=8 << 30, models=["odd"])
            return messages.ListDevicesResponse(daemon="fake", version="1", devices=[device])

        def ListModels(self, request, context):
            return messages.ListModelsResponse(models=[odd])

        def GetModel(self, request, context):
            if request.name != "odd":
                context.abort(grpc.StatusCode.NOT_FOUND, f"no model '{request.name}'")
            return messages.GetModelResponse(model=odd)

        def Infer(self, request, context):
            outputs = [tensors.Tensor(name=n, dtype=tensors.FLOAT32, shape=[2], data=request.inputs[0].data)
                       for n in NAMES]
            outputs.append(tensors.Tensor(name="words", dtype=tensors.STRING, shape=[3], strings=WORDS))
            return messages.InferResponse(outputs=outputs)

    return Service()


def run(address, *arguments, expect=0):
    done = subprocess.run([daemon.CLI, "--address", address, *arguments], check=False, text=True,
                          capture_output=True)
    assert done.returncode == expect, f"{arguments}: {done.returncode}: {done.stdout}{done.stderr}"
    return done


def check_listings(address):
    table = run(address, "devices").stdout
    assert "8.0 GiB" in table and "0000:00:1f.0" in table and "odd" in table, table
    table = run(address, "models").stdout
    assert "3.0 MiB" in table and "x float32[2]" in table, table
    assert json.loads(run(address, "models", "--json").stdout)["models"][0]["tpbs"] == 4
    two = run(f"unix:/nonexistent,{address}", "models")
    assert "1 of the daemons" in two.stderr and "odd" in two.stdout, two


def check_outputs(address, directory):
    values = np.array([1, 2], np.float32)
    np.save(f"{directory}/x.npy", values)
    out = f"{directory}/a/out"
    os.mkdir(f"{directory}/a")
    run(address, "infer", "--model", "odd", "--input", f"x={directory}/x.npy", "--output-dir", out)
    files = sorted(os.listdir(out))
    assert np.load(f"{out}/words.npy").tolist() == WORDS
    files.remove("words.npy")
    assert files == sorted(f"{name}.npy" for name in NAMES.values()), files
    for file in files:
        assert (np.load(f"{out}/{file}") == values).all()
    printed = run(address, "infer", "--model", "odd", "--input", f"{directory}/x.npy", "--print").stdout
    assert "plain-1.x_y float32[2]" in printed and "[1] 2" in printed, printed


def check_mistakes(address, directory):
    for arguments, status, text in [
            (["infer", "--model", "odd", "--input", "y=z.npy", "--print"], 1, "its inputs are: x"),
            (["infer", "--model", "odd", "--input", "x=/nonexistent.npy", "--print"], 1, "/nonexistent.npy"),
            (["infer", "--model", "odd", "--print"], 1, "'x' of model 'odd' is not given"),
            (["infer", "--model", "absent", "--input", "x=z.npy", "--print"], 1, "no model 'absent'"),
            (["infer", "--model", "odd"], 2, "--output-dir"),
            (["bench", "--model", "odd", "--requests", "0"], 2, "above 0"),
            (["load", "/nonexistent.neff"], 1, "/nonexistent.neff"),
            (["load"], 2, "usage"), (["dance"], 2, "dance"), ([], 2, "usage")]:
        done = run(address, *arguments, expect=status)
        assert text in done.stderr, done.stderr
    away = run("unix:/nonexistent", "models", expect=1)
    assert "no daemon answers at unix:/nonexistent" in away.stderr, away.stderr


def main():
    with tempfile.TemporaryDirectory() as directory:
        messages, tensors, stubs = daemon.make_stubs(directory)
        address = f"unix:{directory}/fake.sock"
        server = grpc.server(futures.ThreadPoolExecutor(4))
        stubs.add_RuntimeServicer_to_server(make_service(messages, tensors, stubs), server)
        server.add_insecure_port(address)
        server.start()
        try:
            check_listings(address)
            check_outputs(address, directory)
            check_mistakes(address, directory)
            bench = json.loads(run(address, "bench", "--model", "odd", "--requests", "50", "--concurrency", "3",
                                   "--json").stdout)
            assert bench["requests"] == 50 and bench["concurrency"] == 3, bench
        finally:
            server.stop(0)


if __name__ == "__main__":
    main()
