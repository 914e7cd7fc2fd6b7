#!/usr/bin/python3
"""Estimates beside published figures: the work of benchmarks/estimates.

Figures: AWS Neuron SDK 1.15.0 and 1.19.0, neuron-guide/benchmark/data.csv; SDK 1.10.0, keras_resnet50/README.md; its release notes of May 2020 (45 %)."""
import importlib.util
import json
import pathlib
import subprocess
import sys

PEAK = 2 * 128 * 64 * 1e9  # FLOP/s of a TPB's PE array
DRAM = 50 * 2**30          # bytes/s of a chip
REACHED = 0.45             # of the peak: the published share, BERT at batch 4, s128
APART = 1.5

# One row a published setting: where it ran, and how many requests of how many items took p50 ms there, if that was published.
ROWS = [
    # model, batch, TPBs, optimize, chips, published items/s, requests' items, p50 ms, label
    ("resnet50", 1, 1, "latency", 4, [3140], 0, [], "ResNet-50 FP16, 16 cores, batch 1"),
    ("resnet50", 5, 1, "latency", 4, [6550], 0, [], "ResNet-50 FP16, 16 cores, batch 5"),
    ("resnet50", 5, 1, "latency", 1, [2230, 2260], 10, [17.7, 17.5], "ResNet-50 FP16, TensorFlow, 4 cores, batch 5"),
    ("resnet50", 5, 1, "latency", 1, [821, 972], 5, [24, 20], "ResNet-50 FP32, PyTorch, 4 cores, batch 5"),
    ("bert", 6, 1, "latency", 1, [824, 966], 6, [25, 22], "BERT-base s128, PyTorch, 4 cores, batch 6"),
    ("bert", 1, 16, "throughput", 4, [1681, 2079], 1, [7, 5.7], "BERT-base s128, PyTorch, pipeline of 16, batch 1"),
]


def generator(shared, out):
    """gen_models.py as a module; it looks at the command line when it is loaded."""
    sys.argv = ["gen_models.py", str(out), f"{shared}/models/onnx/light"]
    spec = importlib.util.spec_from_file_location("gen_models", f"{shared}/bench/gen_models.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def make(gen, out, model, batch):
    path = out / f"estimate_{model}_b{batch}.onnx"
    if not path.exists():
        if model == "resnet50":
            gen.rand_light("resnet50", batch, path.name)
        else:
            gen.bert(path.stem, 13, bs=batch)
    return path


def compiled(build, onnx, tpbs, optimize):
    neff = onnx.with_name(f"{onnx.stem}-{tpbs}-{optimize}.neff")
    done = subprocess.run([f"{build}/compiler/kcc/kcc", "compile", "--framework", "ONNX", "--model", onnx, "--num-tpbs", str(tpbs), "--optimize", optimize,
                           "--output", neff], capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    return json.loads(subprocess.run([f"{build}/tools/kaena-info", "--json", neff], capture_output=True, text=True, check=True).stdout)


def why(info, estimate, chips, published, items, p50):
    """The parts of the distance, each a published figure beside what the estimate assumes in its place."""
    flops = sum(layer["flops"] for layer in info["layers"]) / info["advice"]["items"]
    peak = chips * 4 * PEAK
    print(f"    peak: {published[0]:.0f}/s x {flops / 1e9:.2f} GFLOP = {published[0] * flops / 1e12:.1f} of {peak / 1e12:.0f} TFLOP/s, "
          f"{100 * published[0] * flops / peak:.0f} %; the estimate has the PE arrays busy {100 * estimate['tpb_utilisation']:.0f} %, "
          f"the best that was published is {100 * REACHED:.0f} % = {REACHED * peak / flops:.0f}/s")
    for rate, ms in zip(published, p50):
        flight = rate / items * ms / 1e3
        alone = estimate["latency_us"] / 1e3
        runs = items / info["advice"]["items"]
        print(f"    in flight (rate x latency): {rate}/s / {items} x {ms} ms = {flight:.1f} requests for {chips * 4 // info['tpbs'] * info['contexts']} places; "
              f"{runs * alone:.1f} ms of each request's {ms} ms are the device's by the estimate, the other {ms - runs * alone:.1f} ms "
              "(host, framework, queue) it does not know")


def main():
    shared, build = sys.argv[1:3]
    out = pathlib.Path(build) / "models"
    out.mkdir(parents=True, exist_ok=True)
    gen = generator(shared, out)
    known = {}
    for model, batch, tpbs, optimize, chips, published, items, p50, label in ROWS:
        key = (model, batch, tpbs, optimize)
        if key not in known:
            known[key] = compiled(build, make(gen, out, model, batch), tpbs, optimize)
        info = known[key]
        estimate = next(e for e in info["estimates"] if e["chips"] == chips)
        ratios = [estimate["items_per_s"] / p for p in published]
        print(f"{label}: estimate {estimate['items_per_s']:.0f}/s (bound by {estimate['bottleneck']}; alone {estimate['latency_us'] / 1e3:.2f} ms), "
              f"published {', '.join(str(p) for p in published)}, ratio {', '.join(f'{r:.2f}' for r in ratios)}")
        if not all(1 / APART <= r <= APART for r in ratios):
            why(info, estimate, chips, published, items, p50)
    weights = sum(layer["weight_bytes"] for layer in known[("resnet50", 1, 1, "latency")]["layers"])
    print(f"ResNet-50 on 16 cores, a core's time for a batch of 1..5 by the published rates: "
          + ", ".join(f"{16e3 * b / rate:.1f}" for b, rate in enumerate([3140, 5240, 6180, 6440, 6550], 1))
          + f" ms; reading {weights / 2**20:.1f} MiB of weights at a quarter of a chip's DRAM takes {weights / (DRAM / 4) * 1e3:.1f} ms")
    flops = sum(layer["flops"] for layer in known[("resnet50", 1, 1, "latency")]["layers"])
    step = (16e3 * 5 / 6550 - 16e3 / 3140) / 4
    print(f"    each further image costs a core {step:.2f} ms = {flops / step / 1e9:.1f} of its {PEAK / 1e12:.1f} TFLOP/s, {1e5 * flops / step / PEAK:.0f} %")
    print("The same chip, network and batch: 2230/s with TensorFlow and FP16, 821/s with PyTorch and FP32: "
          f"a factor {2230 / 821:.1f} that the machine's rates do not know: framework, input type, perhaps other code")
    weights = sum(layer["weight_bytes"] for layer in known[("bert", 1, 16, "throughput")]["layers"])
    print(f"BERT-base: four chips can read {weights / 2**20:.0f} MiB of weights {4 * DRAM / weights:.0f} times a second; "
          "the published 1681/s and 2079/s of a pipeline are more, so weights stay in state buffers, as the estimate has it")


if __name__ == "__main__":
    main()
