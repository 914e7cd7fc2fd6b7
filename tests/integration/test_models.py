#!/usr/bin/python3
"""Real networks through kcc, krtd over a socket and kaena-cli, every data set, against the outputs they came with.

usage: test_models.py [--source S]... [--only NAME]... [--tpbs N]... [--table FILE]

S is a framework whose networks lie in the shared directory (ONNX, MXNET, TENSORFLOW), or GENERATED: seeded random weights, beside
ONNX Runtime.

Prints a table (model, cast mode, TPBs, error, cosine, classes, operators on the host) and fails when a line is out of bounds
that models_xfail.txt does not name. --table keeps what FILE has of other networks.
"""

import argparse
import collections
import json
import pathlib
import re
import subprocess
import sys

import daemon

try:
    import numpy as np
    import model_cases
except ImportError:
    daemon.skip("numpy is not installed (scripts/setup)")

# |error| <= relative * max|expected| + absolute, and the least cosine of the angle between the two.
Bounds = collections.namedtuple("Bounds", "relative absolute cosine")
EXACT = Bounds(1e-4, 1e-5, 0.9999)
BOUNDS = {
    "ONNX": {"none": EXACT, "all": Bounds(0.05, 1e-5, 0.999)},
    "MXNET": {"none": EXACT, "all": Bounds(0.05, 1e-5, 0.99)},
    "TENSORFLOW": {"none": EXACT, "all": Bounds(0.05, 1e-5, 0.99)},
}
XFAIL = pathlib.Path(__file__).with_name("models_xfail.txt")
CLASSES = 10  # an output [rows, at least so many] is a classification of each row
HEAD = ["| model | framework | cast | TPBs | largest error / largest value | least cosine | same class | host operators | |",
        "|---|---|---|---|---|---|---|---|---|"]


class Result:
    """The worst of all data sets and outputs of one compiled model."""

    def __init__(self, bounds):
        self.bounds, self.error, self.cosine, self.within = bounds, 0.0, 1.0, True
        self.rows, self.same, self.host = 0, 0, 0

    def add(self, want, got):
        self.classify(want, got)
        want, got = want.astype(np.float64).ravel(), got.astype(np.float64).ravel()
        error, largest = np.abs(want - got).max(initial=0), np.abs(want).max(initial=0)
        norm = np.linalg.norm(want) * np.linalg.norm(got)
        cosine = float(want @ got / norm) if norm > 0 else 1.0
        self.error = max(self.error, error / largest if largest else error)
        self.cosine = min(self.cosine, cosine)
        if not (error <= self.bounds.relative * largest + self.bounds.absolute and
                (cosine >= self.bounds.cosine or largest == 0)):
            self.within = False

    def classify(self, want, got):
        if want.ndim != 2 or want.shape[1] < CLASSES or want.dtype.kind != "f":
            return
        self.rows += len(want)
        # Classes that the reference itself gives the same score are one.
        chosen = np.take_along_axis(want, got.argmax(1)[:, None], 1)[:, 0]
        same = int((chosen == want.max(1)).sum())
        self.same += same
        self.within = self.within and same == len(want)

    def line(self, case, mode, tpbs, reason):
        classes = f"{self.same} of {self.rows}" if self.rows else "-"
        verdict = "ok" if self.within else reason or "FAILED"
        return (f"| {case.name} | {case.framework} | {mode} | {tpbs} | {self.error:.2e} | {self.cosine:.6f} | {classes} "
                f"| {self.host} | {verdict} |")


def file_name(output):
    return re.sub(r"[^A-Za-z0-9._-]", "_", output) + ".npy"


def run_set(krtd, case, data, result):
    arguments = []
    for k, (name, value) in enumerate(data.inputs):
        path = krtd.dir / f"in{k}.npy"
        np.save(path, value)
        arguments += ["--input", f"{name}={path}"]
    krtd.cli("infer", "--model", "m", *arguments, "--output-dir", krtd.dir / "out")
    for name, want in data.outputs:
        got = np.load(krtd.dir / "out" / file_name(name))
        assert got.shape == want.shape and got.dtype == want.dtype, (case.name, name, got.shape, want.shape, got.dtype)
        result.add(want, got)


def run(krtd, case, mode, tpbs):
    """Compiles |case| for each shape that its data sets have, and runs them."""
    result = Result(BOUNDS[case.framework][mode])
    by_shape = {}
    for data in case.sets:
        by_shape.setdefault(model_cases.io_config(data), []).append(data)
    for config, sets in by_shape.items():
        neff = krtd.dir / "m.neff"
        subprocess.run([daemon.KCC, "compile", "--framework", case.framework, "--model", case.model, "--output", neff,
                        "--io-config", config, "--fp32-cast", mode, "--num-tpbs", str(tpbs), *case.options],
                       check=True, stdout=subprocess.DEVNULL)
        info = json.loads(subprocess.run([daemon.BUILD / "tools" / "kaena-info", neff, "--json"], check=True, text=True,
                                         stdout=subprocess.PIPE).stdout)
        result.host = max(result.host, len(info.get("host_operators", [])))
        krtd.cli("load", neff, "--name", "m")
        try:
            for data in sets:
                run_set(krtd, case, data, result)
        finally:
            krtd.cli("unload", "m")
    return result


def expected_failures():
    """{"network/framework/mode": reason}"""
    lines = (line.split(None, 1) for line in XFAIL.read_text().splitlines() if line and line[0] != "#")
    return {name: reason for name, reason in lines}


def write_table(path, rows):
    """|rows| and, of an older table, the rows of networks that did not run now."""
    def network(row):
        return row.split("|")[1:3]

    def order(row):
        name, framework, mode = row.split("|")[1:4]
        return framework, name, mode.strip() != "none"

    ran = [network(r) for r in rows]
    old = path.read_text().splitlines() if path.exists() else []
    kept = [r for r in old[len(HEAD):] if network(r) not in ran]
    path.write_text("\n".join(HEAD + sorted(kept + rows, key=order)) + "\n")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--source", action="append", default=[], choices=[*BOUNDS, "GENERATED"])
    parser.add_argument("--only", action="append", default=[])
    parser.add_argument("--tpbs", action="append", type=int, default=[])
    parser.add_argument("--table")
    options = parser.parse_args()
    model_cases.shared()
    rows, failed, excused = [], 0, expected_failures()
    with daemon.Daemon("--devices", "0") as krtd:
        for case in model_cases.all_cases(options.source or list(BOUNDS), krtd.dir, options.only):
            for mode in BOUNDS[case.framework]:
                for tpbs in options.tpbs or [1, 4]:
                    try:
                        result = run(krtd, case, mode, tpbs)
                    except (AssertionError, RuntimeError, subprocess.CalledProcessError) as error:
                        print(f"{case.name}: {error}", file=sys.stderr)
                        result = Result(BOUNDS[case.framework][mode])
                        result.within = False
                    reason = excused.get(f"{case.name}/{case.framework}/{mode}")
                    if result.within and reason:
                        print(f"{case.name}, {mode}: within bounds, but {XFAIL.name} names it", file=sys.stderr)
                    failed += result.within == bool(reason)
                    rows.append(result.line(case, mode, tpbs, reason))
                    print(rows[-1], flush=True)
    if options.table:
        write_table(pathlib.Path(options.table), rows)
    print(f"{len(rows) - failed} of {len(rows)} as expected")
    sys.exit(1 if failed or not rows else 0)


if __name__ == "__main__":
    main()
