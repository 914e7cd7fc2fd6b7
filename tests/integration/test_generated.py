#!/usr/bin/python3
"""Networks with seeded random weights (tests/models/generate.py) against ONNX Runtime: float32 within 1e-3, bfloat16 by the
cosine, and the same bits on one and on four TPBs.

usage: test_generated.py [--only NAME]...
"""

import argparse
import json
import subprocess
import sys

import daemon

try:
    import numpy as np
    import onnxruntime_c
except ImportError:
    daemon.skip("numpy is not installed (scripts/setup)")

GENERATE = daemon.SOURCE / "tests" / "models" / "generate.py"
RELATIVE, COSINE = 1e-3, 0.999


def model_file(name):
    """Made once per build directory, again when the generator changed."""
    directory = daemon.BUILD / "tests" / "models"
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{name}.onnx"
    if not path.exists() or path.stat().st_mtime < GENERATE.stat().st_mtime:
        subprocess.run(["/usr/bin/python3", GENERATE, directory, name], check=True)
    return path


def boundary(neff):
    """Inputs and outputs as the artifact declares them: [(name, dtype, shape)]."""
    text = subprocess.run([daemon.BUILD / "tools" / "kaena-info", neff, "--json"], check=True, text=True, stdout=subprocess.PIPE).stdout
    info = json.loads(text)
    return [[(t["name"], t["dtype"], t["shape"]) for t in info[kind]] for kind in ("inputs", "outputs")]


def random_input(random, name, dtype, shape):
    if dtype == "int64":
        return random.integers(0, 10000, shape)
    if name == "attention_mask":
        return (np.arange(shape[-1]) < shape[-1] * 3 // 4).astype(np.float32).reshape(1, -1)
    return random.standard_normal(shape, np.float32)


def check(krtd, library, name):
    model, neff = model_file(name), krtd.dir / "m.neff"
    rows, ok, inputs, want = [], True, None, None
    for mode in ("none", "all"):
        bits = []
        for tpbs in (1, 4):
            daemon.compile_model(model, neff, "--fp32-cast", mode, "--num-tpbs", str(tpbs))
            declared, results = boundary(neff)
            if want is None:
                random = np.random.default_rng(7)
                inputs = {n: random_input(random, n, t, s) for n, t, s in declared}
                want = onnxruntime_c.Session(library, model).run(inputs, [n for n, _, _ in results])
            arguments = []
            for k, (n, value) in enumerate(inputs.items()):
                np.save(krtd.dir / f"in{k}.npy", value)
                arguments += ["--input", f"{n}={krtd.dir}/in{k}.npy"]
            krtd.cli("load", neff, "--name", "m")
            try:
                krtd.cli("infer", "--model", "m", *arguments, "--output-dir", krtd.dir / "out")
            finally:
                krtd.cli("unload", "m")
            got = {n: np.load(krtd.dir / "out" / f"{n}.npy") for n in want}
            bits.append(b"".join(v.tobytes() for v in got.values()))
            worst, least = 0.0, 1.0
            for n, expected in want.items():
                a, b = expected.astype(np.float64).ravel(), got[n].astype(np.float64).ravel()
                worst = max(worst, np.abs(a - b).max() / np.abs(a).max())
                least = min(least, float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b))))
            within = least >= COSINE and (mode == "all" or worst <= RELATIVE)
            ok = ok and within
            print(f"| {name} | {mode} | {tpbs} | {worst:.2e} | {least:.6f} | {'ok' if within else 'FAILED'} |", flush=True)
        if bits[0] != bits[1]:
            print(f"{name}, {mode}: one TPB and four differ")
            ok = False
    return ok


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", action="append", default=[])
    options = parser.parse_args()
    library = onnxruntime_c.library(daemon.SOURCE)
    if not library:
        daemon.skip("ONNX Runtime is not installed (scripts/setup --bench)")
    listed = subprocess.run(["/usr/bin/python3", GENERATE, "--list"], text=True, capture_output=True)
    if listed.returncode != 0:
        daemon.skip("python3-onnx is not installed (scripts/setup --bench)")
    print("| model | cast | TPBs | largest error / largest value | least cosine | |\n|---|---|---|---|---|---|")
    failed = []
    for name in options.only or listed.stdout.split():
        with daemon.Daemon("--devices", "0") as krtd:
            if not check(krtd, library, name):
                failed.append(name)
    sys.exit(f"out of bounds: {', '.join(failed)}" if failed else 0)


if __name__ == "__main__":
    main()
