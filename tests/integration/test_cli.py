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


groups, loads, infers = [], [], []  # what the daemon has, and was asked


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

        def ListGroups(self, request, context):
            return messages.ListGroupsResponse(groups=groups)

        def CreateGroup(self, request, context):
            assert request.persistent, "the CLI ends before a session would be of use"
            groups.append(messages.Group(
                id=7, name=request.name, persistent=True,
                tpbs=[messages.TpbPlace(device=d, tpb=0) for d in request.devices or range(request.tpbs)]))
            return messages.CreateGroupResponse(group=groups[-1])

        def DestroyGroup(self, request, context):
            if request.name not in [g.name for g in groups]:
                context.abort(grpc.StatusCode.NOT_FOUND, f"no group '{request.name}'")
            groups.clear()
            return messages.DestroyGroupResponse()

        def Load(self, requests, context):
            first = next(requests).options
            list(requests)
            o = loads.append(first) or first
            return messages.LoadResponse(model=messages.Model(name=o.name or "own", num_tpbs=2))

        def Infer(self, request, context):
            infers.append(request)
            outputs = [tensors.Tensor(name=n, dtype=tensors.FLOAT32, shape=[2], data=request.inputs[0].data)
                       for n in NAMES]
            outputs.append(tensors.Tensor(name="words", dtype=tensors.STRING, shape=[3], strings=WORDS))
            return messages.InferResponse(outputs=outputs, not_finite=["a/b"] if request.check_finite else [])

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


def check_groups(address):
    assert "no groups" in run(address, "groups").stdout
    assert "pair" in run(address, "groups", "create", "pair", "--tpbs", "2", "--devices", "3,5").stdout
    assert " 3:0 5:0 " in run(address, "groups", "list").stdout
    assert json.loads(run(address, "groups", "--json").stdout)["groups"][0]["tpbs"][1] == {"device": 5, "tpb": 0}
    assert "no group 'other'" in run(address, "groups", "destroy", "other", expect=1).stderr
    run(address, "groups", "destroy", "pair")
    assert not groups


def check_load(address, directory):
    with open(f"{directory}/m.neff", "w", encoding="utf-8") as f:
        f.write("an artifact")
    run(address, "load", f"{directory}/m.neff", "--name", "n", "--group", "g", "--replicas", "max", "--timeout", "250",
        "--queue-depth", "9", "--version", "v1", "--persistent")
    o = loads[-1]
    assert (o.name, o.group, o.replicas, o.timeout_ms, o.queue_depth, o.version, o.persistent) == (
        "n", "g", 2**32 - 1, 250, 9, "v1", True), o
    assert o.file == f"{directory}/m.neff".encode(), o
    away = run(f"{address},unix:/nonexistent", "load", f"{directory}/m.neff", "--on", "all", expect=1)
    assert "own: loaded into" in away.stdout and "not in unix:/nonexistent: no daemon answers" in away.stderr, away
    assert "1 of 2 daemons" in away.stderr, away


def check_infer_options(address, directory):
    done = run(address, "infer", "--model", "odd", "--input", f"{directory}/x.npy", "--print", "--priority", "-8",
               "--check-finite")
    assert infers[-1].priority == -8 and infers[-1].check_finite, infers[-1]
    assert done.stderr.count("NaN or infinity") == 1 and "'a/b'" in done.stderr, done.stderr


def check_mistakes(address, directory):
    for arguments, status, text in [
            (["infer", "--model", "odd", "--input", "y=z.npy", "--print"], 1, "its inputs are: x"),
            (["infer", "--model", "odd", "--input", "x=/nonexistent.npy", "--print"], 1, "/nonexistent.npy"),
            (["infer", "--model", "odd", "--print"], 1, "'x' of model 'odd' is not given"),
            (["infer", "--model", "absent", "--input", "x=z.npy", "--print"], 1, "no model 'absent'"),
            (["infer", "--model", "odd"], 2, "--output-dir"),
            (["bench", "--model", "odd", "--requests", "0"], 2, "above 0"),
            (["load", "/nonexistent.neff"], 1, "/nonexistent.neff"),
            (["load", "x", "--on", "none"], 2, "--on"), (["load", "x", "--replicas", "0"], 2, "--replicas"),
            (["infer", "--model", "odd", "--print", "--priority", "8"], 2, "-8 to 7"),
            (["bench", "--model", "odd", "--async", "0"], 2, "above 0"),
            (["groups", "create", "g"], 2, "--tpbs"), (["groups", "create", "g", "--tpbs", "65"], 2, "1 to 64"),
            (["groups", "create", "g", "--tpbs", "1", "--devices", "a"], 2, "--devices"), (["groups", "burn"], 2, "usage"),
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
            check_groups(address)
            check_load(address, directory)
            check_infer_options(address, directory)
            check_mistakes(address, directory)
            bench = json.loads(run(address, "bench", "--model", "odd", "--requests", "50", "--concurrency", "3",
                                   "--json").stdout)
            assert bench["requests"] == 50 and bench["concurrency"] == 3, bench
            bench = json.loads(run(address, "bench", "--model", "odd", "--requests", "50", "--async", "10", "--json",
                                   "--shared-memory").stdout)
            assert bench["requests"] == 50, bench
        finally:
            server.stop(0)


if __name__ == "__main__":
    main()
