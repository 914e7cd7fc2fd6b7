#!/usr/bin/python3
"""kaena_tf_compile: what it writes, that it is written whole or not at all, and that what it names runs."""

import json
import os
import pathlib
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time

import daemon

try:
    import numpy as np
    import saved_model_file
except ImportError:
    daemon.skip("numpy or protobuf is not installed (scripts/setup)")

TF_COMPILE = daemon.BUILD / "compiler" / "kcc" / "kaena_tf_compile"
INFO = daemon.BUILD / "tools" / "kaena-info"
SHAPES = '{"x:0":[4,6]}'
KILLS = 12


class Model:
    def __init__(self, directory):
        self.directory = directory
        self.modules = saved_model_file.messages(directory)
        numbers = np.random.RandomState(7)
        self.weight, self.bias = numbers.randn(6, 3).astype(np.float32), numbers.randn(3).astype(np.float32)
        self.path = directory / "model"
        saved_model_file.write_dense(self.modules, self.path, self.weight, self.bias)
        self.x = numbers.randn(4, 6).astype(np.float32)

    def read(self, path):
        m = self.modules[0].SavedModel()
        m.ParseFromString((path / "saved_model.pb").read_bytes())
        return m.meta_graphs[0]


def run(model, out, *options, check=True, **how):
    done = subprocess.run([TF_COMPILE, "--in_saved_model", model, "--out_saved_model", out, *options], check=False, text=True,
                          capture_output=True, **how)
    assert not check or done.returncode == 0, done.stderr
    return done


def is_whole(model, out):
    """Whether |out| is a complete compiled SavedModel."""
    meta = model.read(out)
    node = [n for n in meta.graph_def.node if n.op == "KaenaNeff"]
    assert len(node) == 1, meta
    neff = out / {a.key: a.value for a in node[0].attr}["neff"].s.decode()
    info = json.loads(subprocess.run([INFO, neff, "--json"], check=True, text=True, stdout=subprocess.PIPE).stdout)
    assert (out / "assets" / "labels.txt").read_text() == "one\ntwo\n"
    return [i["name"] for i in info["inputs"]] == ["x:0"]


def only(directory, *names):
    """Nothing else is left beside the output."""
    left = sorted(p.name for p in directory.iterdir())
    assert left == sorted(names), left


def test_contents(model, work):
    out = work / "out"
    report = run(model.path, out, "--input_data_shapes", SHAPES, "--fp32-cast", "none", "--num-tpbs", "1").stdout
    assert "signature 'serving_default'; 1 other of the model is left out" in report, report
    assert is_whole(model, out)
    only(work, "out")
    meta = model.read(out)
    assert list(meta.meta_info_def.tags) == ["serve"] and meta.asset_file_def[0].filename == "labels.txt"
    (entry,) = meta.signature_def
    assert entry.key == "serving_default" and entry.value.method_name == "tensorflow/serving/predict"
    (features,), (scores,) = entry.value.inputs, entry.value.outputs
    assert (features.key, features.value.name) == ("features", "x:0") and (scores.key, scores.value.name) == ("scores", "y:0")
    assert [d.size for d in features.value.tensor_shape.dim] == [4, 6] and [d.size for d in scores.value.tensor_shape.dim] == [4, 3]
    nodes = {n.name: n for n in meta.graph_def.node}
    assert nodes["x"].op == "Placeholder" and nodes["y"].op == "Identity" and list(nodes["y"].input) == ["kaena_neff"]
    assert (out / "assets.extra" / "deep" / "warmup").read_bytes() == b"\1\2" and not (out / "variables").exists()


def test_runs(model, work):
    out = work / "out"
    run(model.path, out, "--input_data_shapes", SHAPES, "--fp32-cast", "none")
    with daemon.Daemon("--devices", "0") as krtd:
        krtd.cli("load", out / "model.neff", "--name", "m")
        np.save(krtd.dir / "x.npy", model.x)
        krtd.cli("infer", "--model", "m", "--input", f"x:0={krtd.dir}/x.npy", "--output-dir", krtd.dir / "y")
        got = np.load(krtd.dir / "y" / "y_0.npy")
    np.testing.assert_allclose(got, np.maximum(model.x @ model.weight + model.bias, 0), rtol=1e-5, atol=1e-6)


def test_shapes(model, work):
    np.save(work / "x.npy", model.x)
    run(model.path, work / "a", "--input_data_shapes", json.dumps({"features": str(work / "x.npy")}))
    (work / "shapes.json").write_text(SHAPES)
    run(model.path, work / "b", "--input_data_shapes", work / "shapes.json", "--signature", "raw")
    assert [e.key for e in model.read(work / "b").signature_def] == ["raw"]
    for shapes, what in (("{", "column"), ("[]", "shapes"), ('{"x:0":3}', "input 'x:0': neither"),
                         ('{"x:0":[4,-1]}', "dimension 1"), ('{"z:0":[4,6]}', "there is no input 'z:0'"),
                         ('{"x:0":[4,7]}', "[4,7]"), ('{"x:0":"none.npy"}', "none.npy")):
        done = run(model.path, work / "c", "--input_data_shapes", shapes, check=False)
        assert done.returncode == 1 and (what in done.stderr or what == "shapes"), (shapes, done.stderr)
        assert not (work / "c").exists()
    done = run(model.path, work / "c", check=False)
    assert done.returncode == 1 and "--input_data_shapes '{\"x:0\":[1,6]}'" in done.stderr, done.stderr


def test_existing(model, work):
    out = work / "out"
    run(model.path, out, "--input_data_shapes", SHAPES)
    first = (out / "model.neff").read_bytes()
    run(model.path, out, "--input_data_shapes", '{"x:0":[9,6]}')
    assert is_whole(model, out) and (out / "model.neff").read_bytes() != first
    second = (out / "model.neff").read_bytes()
    done = run(model.path, out, "--input_data_shapes", SHAPES, "--signature", "none", check=False)
    assert done.returncode == 1 and "'raw'" in done.stderr and "is as it was" in done.stderr, done.stderr
    assert (out / "model.neff").read_bytes() == second and is_whole(model, out)
    only(work, "out")
    # A compiled one is not compiled again, by neither program.
    done = run(out, work / "again", "--input_data_shapes", SHAPES, check=False)
    assert done.returncode == 1 and "compiled already" in done.stderr, done.stderr
    done = subprocess.run([daemon.KCC, "compile", "--framework", "TENSORFLOW", "--model", out], check=False, text=True, capture_output=True)
    assert done.returncode == 1 and "compiled already" in done.stderr, done.stderr
    # What is something else is not replaced: the model itself, a directory with files, a file.
    (work / "file").write_text("mine")
    (work / "full").mkdir()
    (work / "full" / "file").write_text("mine")
    for there in (model.path, work / "file", work / "full"):
        done = run(model.path, there, "--input_data_shapes", SHAPES, check=False)
        assert done.returncode == 1 and "is no compiled SavedModel" in done.stderr, done.stderr
    assert (work / "file").read_text() == (work / "full" / "file").read_text() == "mine" and (model.path / "variables").exists()
    (work / "empty").mkdir()
    run(model.path, work / "empty", "--input_data_shapes", SHAPES)
    assert is_whole(model, work / "empty")


def test_full_disk(model, work):
    def small_files():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (2048, 2048))
    done = run(model.path, work / "out", "--input_data_shapes", SHAPES, check=False, preexec_fn=small_files)
    assert done.returncode == 1 and "too large" in done.stderr, done.stderr
    only(work)
    done = run(model.path, work / "none" / "out", "--input_data_shapes", SHAPES, check=False)
    assert done.returncode == 1 and "none" in done.stderr, done.stderr


def test_kill(model, work):
    """Killed at any moment: the output is not there, or it is whole."""
    start = time.monotonic()
    run(model.path, work / "old", "--input_data_shapes", SHAPES)
    seconds, numbers, survived = time.monotonic() - start, random.Random(11), 0
    for k in range(KILLS):
        out = work / ("old" if k % 2 else f"new{k}")
        process = subprocess.Popen([TF_COMPILE, "--in_saved_model", model.path, "--out_saved_model", out, "--input_data_shapes", SHAPES],
                                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(seconds * (0.2 + 0.8 * numbers.random()))
        process.kill()
        survived += process.wait() == 0
        assert not out.exists() and k % 2 == 0 or is_whole(model, out), k
    print(f"{KILLS - survived} of {KILLS} were killed in time")


def main():
    os.environ.pop("TMPDIR", None)
    with tempfile.TemporaryDirectory(prefix="kaena-") as directory:
        model = Model(pathlib.Path(directory))
        for name, test in list(globals().items()):
            if name.startswith("test_"):
                work = pathlib.Path(directory) / name
                work.mkdir()
                test(model, work)
                print(f"{name}: ok")
    return 0


if __name__ == "__main__":
    sys.exit(main())
