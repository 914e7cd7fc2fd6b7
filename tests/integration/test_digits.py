#!/usr/bin/python3
"""The digits network through kcc, krtd, kaena-cli and the example program, as a newcomer would."""

import json
import subprocess

import daemon

try:
    import numpy as np
except ImportError:
    daemon.skip("numpy is not installed (scripts/setup)")

CLASSIFY = daemon.BUILD / "examples" / "digits" / "classify"


def check_cli(krtd, neff):
    krtd.cli("load", neff, "--name", "digits")
    devices = json.loads(krtd.cli("devices", "--json").stdout)["devices"]
    assert any("digits" in d["models"] and d["dram_used_bytes"] > 0 for d in devices), devices
    model = json.loads(krtd.cli("models", "--json").stdout)["models"][0]
    assert model["name"] == "digits" and model["state"] == "ready", model
    assert model["inputs"] == [{"name": "image", "dtype": "float32", "shape": [1, 1, 8, 8]}], model

    images = np.load(daemon.DIGITS / "images.npy")
    np.save(krtd.dir / "one.npy", images[:1])
    krtd.cli("infer", "--model", "digits", "--input", f"image={krtd.dir}/one.npy", "--output-dir", krtd.dir / "out")
    probabilities = np.load(krtd.dir / "out" / "probabilities.npy")
    assert probabilities.shape == (1, 10) and abs(probabilities.sum() - 1) < 1e-2, probabilities
    krtd.cli("infer", "--model", "digits", "--input", krtd.dir / "one.npy", "--print")

    again = krtd.cli("load", neff, "--name", "digits", check=False)
    assert again.returncode == 1 and "digits" in again.stderr, again.stderr
    np.save(krtd.dir / "two.npy", images[:2])
    wrong = krtd.cli("infer", "--model", "digits", "--input", krtd.dir / "two.npy", "--print", check=False)
    assert wrong.returncode == 1 and "image" in wrong.stderr, wrong.stderr

    bench = json.loads(krtd.cli("bench", "--model", "digits", "--requests", "200", "--concurrency", "4",
                                "--json").stdout)
    assert bench["requests"] == 200 and bench["latency_us"]["p50"] > 0, bench


def main():
    with daemon.Daemon() as krtd:
        neff = krtd.dir / "digits.neff"
        daemon.compile_model(daemon.DIGITS / "digits.onnx", neff)
        check_cli(krtd, neff)
        # Fails below 97 %.
        subprocess.run([CLASSIFY, "digits", daemon.DIGITS / "images.npy", daemon.DIGITS / "labels.npy"],
                       check=True, env=krtd.env)
        krtd.cli("unload", "digits")
        assert json.loads(krtd.cli("models", "--json").stdout)["models"] == []
        gone = krtd.cli("unload", "digits", check=False)
        assert gone.returncode == 1 and "digits" in gone.stderr, gone.stderr


if __name__ == "__main__":
    main()
