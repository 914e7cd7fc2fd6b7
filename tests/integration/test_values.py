#!/usr/bin/python3
"""Strings, shapes that only a run can tell, sequences, optionals and branches through kcc, krtd and kaena-cli."""

import os
import pathlib
import sys

import daemon

try:
    import numpy as np
except ImportError:
    daemon.skip("numpy is not installed (scripts/setup)")

NODES = pathlib.Path("/usr/share/libonnx-testdata/data/node")


class Model:
    """One of ONNX's node cases, loaded as |name|."""

    def __init__(self, krtd, case, name):
        self.krtd, self.name = krtd, name
        neff = krtd.dir / f"{name}.neff"
        daemon.compile_model(NODES / case / "model.onnx", neff, "--num-tpbs", "1", "--fp32-cast", "none")
        krtd.cli("load", neff, "--name", name)

    def infer(self, *inputs, check=True):
        """Inputs are "x=file"; gives what was printed and the directory of outputs."""
        out = self.krtd.dir / f"{self.name}-out"
        arguments = [a for i in inputs for a in ("--input", i)]
        return self.krtd.cli("infer", "--model", self.name, *arguments, "--output-dir", out, "--print", check=check), out


def save(krtd, name, array):
    path = krtd.dir / name
    np.save(path, array)
    return path


def check_strings(krtd):
    model = Model(krtd, "test_strnormalizer_nostopwords_nochangecase", "strings")
    for kind in ("S", "U"):
        words = np.array(["monday", "tuesday"], kind)
        out = model.infer(f"x={save(krtd, 'words.npy', words)}")[1]
        assert np.load(out / "y.npy").tolist() == [b"monday", b"tuesday"]
    umlauts = save(krtd, "umlauts.npy", np.array(["gr\u00fc\u00df", "\U0001f600"]))
    out = model.infer(f"x={umlauts}")[1]
    assert [s.decode() for s in np.load(out / "y.npy").tolist()] == ["gr\u00fc\u00df", "\U0001f600"]
    refused = model.infer(f"x={save(krtd, 'numbers.npy', np.zeros(2, np.float32))}", check=False)[0]
    assert refused.returncode != 0 and "input 'x': expected string [2], got float32 [2]" in refused.stderr, refused.stderr


def check_unknown_shapes(krtd):
    model = Model(krtd, "test_nonzero_example", "nonzero")
    for condition in ([[1, 0], [1, 1]], [[0, 0], [0, 0]], [[1, 1], [1, 1]]):
        array = np.array(condition, bool)
        out = model.infer(f"condition={save(krtd, 'condition.npy', array)}")[1]
        got = np.load(out / "result.npy")
        assert got.dtype == np.int64 and (got == np.array(np.nonzero(array))).all(), got
    shown = krtd.cli("models").stdout
    assert "nonzero" in shown, shown


def check_sequences(krtd):
    model = Model(krtd, "test_sequence_insert_at_back", "insert")
    items = [np.arange(4), np.arange(3) + 10, np.arange(2) + 20]
    for i, item in enumerate(items):
        save(krtd, f"sequence.{i}.npy", item)
    tensor = save(krtd, "tensor.npy", np.array([7, 8, 9]))
    out = model.infer(f"sequence={krtd.dir / 'sequence.npy'}", f"tensor={tensor}")[1]
    for i, want in enumerate([*items, np.array([7, 8, 9])]):
        assert np.load(out / f"output_sequence.{i}.npy").tolist() == want.tolist()
    assert not (out / "output_sequence.4.npy").exists()
    printed = model.infer("sequence=", f"tensor={tensor}")[0].stdout
    assert "output_sequence sequence of int64" in printed and " item 0: int64[3]" in printed, printed
    wrong = save(krtd, "wrong.npy", np.zeros(3, np.float32))
    refused = model.infer("sequence=", f"tensor={wrong}", check=False)[0]
    assert refused.returncode != 0 and "tensor" in refused.stderr and "got float32 [3]" in refused.stderr, refused.stderr
    refused = krtd.cli("infer", "--model", "insert", "--input", f"sequence={tensor}", "--input", f"tensor={tensor}", "--print",
                       check=False)
    assert refused.returncode != 0 and "tensor.0.npy" in refused.stderr, refused.stderr


def check_optionals(krtd):
    model = Model(krtd, "test_optional_has_element", "has")
    given = save(krtd, "given.npy", np.arange(4, dtype=np.float32))
    for argument, want in ((f"optional_input={given}", True), ("optional_input=", False)):
        out = model.infer(argument)[1]
        assert bool(np.load(out / "output.npy")) is want


SILERO_INPUTS = ("input", "sr", "h", "c")
SILERO_OUTPUTS = ("output", "hn", "cn")


def silero(krtd, name, values, *options):
    """Compiles the model for the shapes of |values|, gives its outputs."""
    import model_cases
    neff = krtd.dir / f"{name}.neff"
    config = model_cases.io_config(model_cases.DataSet([(n, values[n]) for n in SILERO_INPUTS if n != "sr"], []))
    model = model_cases.shared() / "onnx" / "models" / "silero_vad_v4" / "model.onnx"
    daemon.compile_model(model, neff, "--num-tpbs", "1", "--fp32-cast", "none", "--io-config", config, *options)
    krtd.cli("load", neff, "--name", name)
    out = krtd.dir / f"{name}-out"
    files = [a for n in SILERO_INPUTS for a in ("--input", f"{n}={save(krtd, n + '.npy', values[n])}")]
    krtd.cli("infer", "--model", name, *files, "--output-dir", out)
    return [np.load(out / f"{n}.npy") for n in SILERO_OUTPUTS]


def check_close(got, want):
    for g, w in zip(got, want):
        assert np.abs(w - g).max() <= 1e-4 * np.abs(w).max() + 1e-6, np.abs(w - g).max()


def check_branches(krtd):
    """silero_vad_v4 is one If, whose condition is the sampling rate: both branches have steps on the device."""
    if not os.environ.get("KAENA_SHARED_DIR"):
        print("SKIPPED: silero_vad_v4 is in the shared directory (meson option shared_dir)", file=sys.stderr)
        return
    import model_cases
    directory = model_cases.shared() / "onnx" / "models" / "silero_vad_v4"
    onnx = model_cases.onnx_classes(krtd.dir)
    for data in sorted(directory.glob("test_data_set_*")):
        values = {n: model_cases.read_tensor(onnx, data / f"input_{i}.pb") for i, n in enumerate(SILERO_INPUTS)}
        wanted = [model_cases.read_tensor(onnx, data / f"output_{i}.pb") for i in range(len(SILERO_OUTPUTS))]
        assert values["sr"] == 16000
        check_close(silero(krtd, data.name, values), wanted)
    # The data has one rate only: what the host makes of the whole If stands in for the other.
    values["sr"] = np.array(8000)
    other = silero(krtd, "eight", values)
    check_close(other, silero(krtd, "host", values, "--host-ops", "If"))
    assert np.abs(other[0] - wanted[0]).max() > 1e-6


def main():
    if not NODES.is_dir():
        daemon.skip(f"{NODES} is missing: apt-get install libonnx-testdata")
    with daemon.Daemon() as krtd:
        for check in (check_strings, check_unknown_shapes, check_sequences, check_optionals, check_branches):
            check(krtd)


if __name__ == "__main__":
    main()
