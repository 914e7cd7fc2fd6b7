#!/usr/bin/python3
"""Several sets of shapes in one artifact, and requests of any batch, through kcc, krtd and kaena-cli."""

import json
import subprocess

import daemon

try:
    import numpy as np
except ImportError:
    daemon.skip("numpy is not installed (scripts/setup)")

ITEM = 48
MODEL = """
ir_version: 8
opset_import {{ version: 17 }}
graph {{
  name: "shapes"
  input {{ name: "x" type {{ tensor_type {{ elem_type: 1 shape {{ dim {{ dim_param: "n" }} dim {{ dim_value: {item} }} }} }} }} }}
  initializer {{ name: "w" dims: {item} dims: 3 data_type: 1 float_data: [{weights}] }}
  node {{ op_type: "MatMul" input: "x" input: "w" output: "p" }}
  node {{ op_type: "Relu" input: "p" output: "y" }}
  output {{ name: "y" type {{ tensor_type {{ elem_type: 1 }} }} }}
}}
"""


class Models:
    def __init__(self, krtd):
        self.krtd = krtd
        random = np.random.RandomState(1)
        self.weights = random.randint(-3, 4, (ITEM, 3)).astype(np.float32)
        self.items = random.randint(-3, 4, (40, ITEM)).astype(np.float32)  # exact in BF16, and so are the sums
        text = MODEL.format(item=ITEM, weights=", ".join(map(str, self.weights.flat)))
        self.path = krtd.dir / "model.onnx"
        self.path.write_bytes(subprocess.run(
            ["protoc", "-I", daemon.SOURCE / "proto", "--encode=onnx.ModelProto", daemon.SOURCE / "proto/onnx/onnx.proto"],
            input=text.encode(), check=True, stdout=subprocess.PIPE).stdout)

    def load(self, name, batches, *options):
        neff = self.krtd.dir / f"{name}.neff"
        shapes = [a for n in batches for a in ("--io-config", '{"inputs":{"x":[[%d,%d],"float32"]}}' % (n, ITEM))]
        daemon.compile_model(self.path, neff, "--num-tpbs", "2", *shapes, *options)
        self.krtd.cli("load", neff, "--name", name)

    def infer(self, name, n):
        """What is said if |n| items are refused; else nothing, and the answer has been checked."""
        out, items = self.krtd.dir / "out", self.krtd.dir / "items.npy"
        np.save(items, self.items[:n])
        done = self.krtd.cli("infer", "--model", name, "--input", f"x={items}", "--output-dir", out, check=False)
        if done.returncode == 0:
            want = np.maximum(self.items[:n] @ self.weights, 0)
            got = np.load(out / "y.npy")
            assert got.shape == want.shape and (got == want).all(), f"{name}, {n} items: {got}"
        return done.stderr


def main():
    with daemon.Daemon() as krtd:
        models = Models(krtd)
        models.load("buckets", [1, 8, 3])
        for n in (1, 3, 8):
            assert not models.infer("buckets", n)
        for n in (2, 9):
            said = models.infer("buckets", n)
            assert "was not compiled for x [%d,%d]" % (n, ITEM) in said and "x [8,%d]" % ITEM in said, said
        models.load("batch", [4], "--dynamic-batch")
        models.load("both", [1, 8], "--dynamic-batch")
        for name in ("batch", "both"):
            for n in (1, 3, 4, 5, 8, 9, 40):
                assert not models.infer(name, n), f"{name}, {n} items"
            said = models.infer(name, 0)
            assert "'x'" in said or "x [0" in said, said
        # 70 items: in slices of 4, and in those of 8 and 1.
        stats = json.loads(krtd.cli("stats", "--json").stdout)["daemons"][0]
        used = {m["name"]: (m["batch_items"], m["batch_slots"]) for m in stats["models"]}
        assert used == {"buckets": (0, 0), "batch": (70, 80), "both": (70, 82)}, used
        assert sum(t["busy_ns"] for d in stats["devices"] for t in d["tpbs"]) > 0, stats["devices"]
        shown = krtd.cli("models").stdout
        assert f"x float32[?,{ITEM}]" in shown, shown


if __name__ == "__main__":
    main()
