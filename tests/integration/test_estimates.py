#!/usr/bin/python3
"""What kcc says a model will do: on no path more than the machine can, and the layers' shares are what the programs hold."""

import json
import pathlib
import subprocess
import tempfile
import unittest

import daemon
import onnx_text

PE_PEAK = 2 * 128 * 64 * 1e9  # FLOP/s of a TPB
DRAM = 50 * 2**30             # bytes/s of a chip
CLOSE = 1e-6


class Estimates(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.work = tempfile.TemporaryDirectory(prefix="kaena-")
        cls.dir = pathlib.Path(cls.work.name)

    @classmethod
    def tearDownClass(cls):
        cls.work.cleanup()

    def compile(self, text, *options):
        """Returns kaena-info's document, what it prints for people, and kcc's report."""
        onnx_text.write(self.dir / "m.onnx", text)
        info, neff = daemon.BUILD / "tools" / "kaena-info", self.dir / "m.neff"
        report = subprocess.run([daemon.KCC, "compile", "--framework", "ONNX", "--model", self.dir / "m.onnx", "--output", neff, *options], check=True,
                                capture_output=True, text=True).stdout
        shown = [subprocess.run([info, *how, neff], check=True, capture_output=True, text=True).stdout for how in (["--json"], [])]
        return json.loads(shown[0]), shown[1], report

    def check(self, doc):
        for engine, total in doc["engine_us"].items():
            self.assertAlmostEqual(sum(layer["engine_us"].get(engine, 0) for layer in doc["layers"]), total, delta=CLOSE * (total + 1), msg=engine)
        flops, weights = (sum(layer[key] for layer in doc["layers"]) for key in ("flops", "weight_bytes"))
        moved = weights + sum(4 * dims(t["shape"]) for t in doc["inputs"] + doc["outputs"])
        self.assertTrue(doc["estimates"])
        for e in doc["estimates"]:
            tpbs = min(e["chips"] * 4, doc["tpbs"])
            self.assertGreater(e["throughput_per_s"], 0)
            self.assertGreaterEqual(e["latency_us"] * 1e-6 * tpbs * PE_PEAK * (1 + CLOSE), flops)
            self.assertGreaterEqual(e["latency_us"] * 1e-6 * -(-tpbs // 4) * DRAM * (1 + CLOSE), moved)
            self.assertLessEqual(e["throughput_per_s"] * flops, e["chips"] * 4 * PE_PEAK * (1 + CLOSE))
            self.assertLessEqual(e["tpb_utilisation"], 1 + CLOSE)
            self.assertLessEqual(e["dram_utilisation"], 1 + CLOSE)
            self.assertAlmostEqual(e["items_per_s"], e["throughput_per_s"] * doc["advice"]["items"], delta=CLOSE * e["items_per_s"])

    def test_shares_and_peaks(self):
        for options in (["--num-tpbs", "1"], ["--num-tpbs", "4"], ["--num-tpbs", "3"], ["--num-tpbs", "4", "--optimize", "throughput"]):
            with self.subTest(options=options):
                doc, _, _ = self.compile(onnx_text.matmul(256, 256, 4), *options)
                self.check(doc)

    def test_twice_the_batch(self):
        alone = []
        for rows in (64, 128, 256, 512, 1024):
            doc, _, _ = self.compile(onnx_text.matmul(rows, 256, 4), "--num-tpbs", "1")
            self.check(doc)
            self.assertEqual(doc["advice"]["items"], rows)
            alone.append(doc["estimates"][0]["latency_us"])
        for once, twice in zip(alone, alone[1:]):
            self.assertGreaterEqual(twice, once)
            self.assertLessEqual(twice, 2.1 * once)  # what overlaps least comes in larger pieces

    def test_a_batch_item_by_item(self):
        """It outgrows a cache, so kcc puts a loop over the items around two convolutions; the weights are read in the first turn."""
        channels, size = 256, 14
        elements = channels * channels * 9
        layers = "".join(
            f' initializer {{ name: "w{i}" dims: {channels} dims: {channels} dims: 3 dims: 3 data_type: 1 raw_data: "{"ab"[i] * (4 * elements)}" }}'
            f' node {{ op_type: "Conv" input: "{x}" input: "w{i}" output: "{y}" attribute {{ name: "pads" type: 7 ints: [1, 1, 1, 1] }} }}'
            for i, (x, y) in enumerate((("x", "h"), ("h", "y"))))
        alone, batch = (self.compile(onnx_text.HEAD % "batch" + onnx_text._input(n, channels, size, size) + layers + onnx_text.TAIL,
                                     "--num-tpbs", "1")[0] for n in (1, 16))
        self.check(alone)
        self.check(batch)
        weights = sum(layer["weight_bytes"] for layer in alone["layers"])
        once, sixteen = (doc["estimates"][0]["latency_us"] for doc in (alone, batch))
        self.assertGreater(sixteen, once)
        self.assertLess(sixteen, 0.9 * 16 * weights / DRAM * 1e6)
        # What lives between the two has room for one item.
        self.assertLess(batch["sb_bytes"], 16 * alone["sb_bytes"])

    def test_instances(self):
        """Copies fill larger instances; a model of 8 TPBs has no place on one chip."""
        doc, _, _ = self.compile(onnx_text.matmul(256, 256, 8), "--num-tpbs", "1")
        self.assertEqual([e["chips"] for e in doc["estimates"]], [1, 4, 16])
        one, four, sixteen = (e["throughput_per_s"] for e in doc["estimates"])
        self.assertAlmostEqual(four, 4 * one, delta=CLOSE * four)
        self.assertAlmostEqual(sixteen, 16 * one, delta=CLOSE * sixteen)
        doc, _, report = self.compile(onnx_text.matmul(256, 256, 8), "--num-tpbs", "8", "--optimize", "throughput")
        self.assertEqual([e["chips"] for e in doc["estimates"]], [4, 16])
        self.assertIn("instances with fewer than 2 chips have too few TPBs for it", report)

    def test_advice(self):
        """Which --num-tpbs and why, in the report and in the artifact; whatever it was compiled for."""
        for tpbs in ("1", "4"):
            doc, shown, report = self.compile(onnx_text.matmul(256, 256, 4), "--num-tpbs", tpbs)
            advice = doc["advice"]
            self.assertIn(f"--num-tpbs {advice['tpbs']}", advice["why"])
            self.assertIn(advice["why"], report)
            self.assertIn(advice["why"], shown)
            best = max(c["throughput_per_s"] for c in advice["choices"])
            chosen = next(c for c in advice["choices"] if c["tpbs"] == advice["tpbs"])
            self.assertGreaterEqual(chosen["throughput_per_s"] * 1.3, best)
            # The products take longer than their tensors take to move, so copies are as good as it gets.
            self.assertEqual(advice["tpbs"], 1)

    def test_weights_that_fit_one_state_buffer(self):
        """They are read from DRAM for the first run only: copies do what the choices say, more than one run alone would have it."""
        doc, _, _ = self.compile(onnx_text.matmul(1, 1024, 4), "--num-tpbs", "1")
        self.check(doc)
        chip = doc["estimates"][0]
        self.assertLess(chip["dram_utilisation"], 0.1)
        self.assertNotEqual(chip["bottleneck"], "DRAM")
        self.assertGreater(chip["throughput_per_s"], 1.1 * 4e6 / chip["latency_us"])
        self.assertAlmostEqual(chip["throughput_per_s"], doc["advice"]["choices"][0]["throughput_per_s"], delta=0.2 * chip["throughput_per_s"])

    def test_weights_that_fit_several_state_buffers(self):
        """A row through 24 MiB of weights: on one TPB bound by reading them, over several they stay."""
        width, layers = 1024, 12
        text = onnx_text.HEAD % "deep" + onnx_text._input(1, width)
        names = ["x", *(f"h{i}" for i in range(1, layers)), "y"]
        for i, (a, b) in enumerate(zip(names, names[1:])):
            text += f' initializer {{ name: "w{i}" dims: {width} dims: {width} data_type: 1 raw_data: "{chr(ord("a") + i) * (4 * width * width)}" }}'
            text += f' node {{ op_type: "MatMul" input: "{a}" input: "w{i}" output: "{b}" }}'
        doc, _, _ = self.compile(text + onnx_text.TAIL, "--num-tpbs", "1")
        self.check(doc)
        weights = sum(layer["weight_bytes"] for layer in doc["layers"])
        self.assertGreaterEqual(weights, layers * 2 * width * width)
        self.assertEqual(doc["estimates"][0]["bottleneck"], "DRAM")
        self.assertAlmostEqual(doc["estimates"][0]["throughput_per_s"], DRAM / weights, delta=0.01 * DRAM / weights)
        self.assertGreater(doc["advice"]["tpbs"], weights / (12 << 20))
        advised = str(doc["advice"]["tpbs"])
        pipeline, _, _ = self.compile(text + onnx_text.TAIL, "--num-tpbs", advised, "--optimize", "throughput")
        pipelined, copied = (d["estimates"][-1]["throughput_per_s"] for d in (pipeline, doc))
        self.assertGreater(pipelined, 1.1 * copied)


def dims(shape):
    n = 1
    for d in shape:
        n *= d
    return n


if __name__ == "__main__":
    unittest.main()
