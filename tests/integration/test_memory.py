#!/usr/bin/python3
"""krtd is small while it has nothing to do, and gives memory back: after 200 cycles of loading, running and unloading five models it is as large as after five.

A krtd that loses 4 KiB with every unload (leaky_krtd.c) must not pass for one that does not.
"""

import os
import pathlib
import struct
import sys
import tempfile
import time

import daemon
import fake
import onnx_text
from fake import rt, tensors

CYCLES, FIRST = 200, 5
GROWTH = 1.03
IDLE_KIB = 16 * 1000 * 1000 // 1024
# What a first load makes for good (pools, backing of state buffers, caches of 20 threads) and a fifth of it.
KEPT_KIB = 7 * 1024
LEAKY = daemon.BUILD / "tests" / "integration" / "krtd-leaky"
N = {"small": 64, "large": 150528, "any": 1000, "matmul": 4 * 96, "digits": 64}
SHAPES = {"matmul": [4, 96], "digits": [1, 1, 8, 8]}


def artifacts(directory):
    def make(name, text, *options):
        return onnx_text.compile_model(directory, name, text, *options)

    digits = directory / "digits.neff"
    daemon.compile_model(daemon.DIGITS / "digits.onnx", digits)
    return {
        "small": make("small", onnx_text.add(N["small"], 1), "--num-tpbs", "1"),
        "large": make("large", onnx_text.add(N["large"], 2), "--num-tpbs", "2"),
        "any": make("any", onnx_text.add("n", 3), *onnx_text.ANY),
        "matmul": make("matmul", onnx_text.matmul(4, 96, 6), "--num-tpbs", "4", "--optimize", "throughput"),
        "digits": digits,
    }


def use(client, name, data):
    size = len(data)
    client.load_messages([rt.LoadRequest(options=rt.LoadOptions(name=name, size=size)),
                          *(rt.LoadRequest(chunk=data[at:at + (1 << 20)]) for at in range(0, size, 1 << 20))])
    n = N[name]
    x = tensors.Tensor(name="image" if name == "digits" else "x", dtype=tensors.FLOAT32, shape=SHAPES.get(name, [n]),
                       data=struct.pack(f"{n}f", *(i % 7 for i in range(n))))
    y = client.infer(rt.InferRequest(model=name, inputs=[x])).outputs[0]
    if name in ("small", "large", "any"):
        more = {"small": 1, "large": 2, "any": 3}[name]
        assert struct.unpack(f"{n}f", y.data) == tuple(i % 7 + more for i in range(n)), name
    client.unload(name)


def rss(krtd):
    with open(f"/proc/{krtd.process.pid}/status", encoding="ascii") as status:
        return int(next(line for line in status if line.startswith("VmRSS")).split()[1])


def settled(krtd):
    """RSS when it has stopped falling: what was given back leaves the process within seconds."""
    least, since = rss(krtd), time.monotonic()
    while time.monotonic() - since < 3:
        time.sleep(0.1)
        now = rss(krtd)
        if now < least:
            least, since = now, time.monotonic()
    return least


def idle():
    """RSS of a krtd that has just started, in KiB."""
    with fake.Krtd(program=daemon.KRTD) as krtd:
        return settled(krtd)


def growth(program, models):
    """RSS after the last cycle over that after cycle FIRST. jemalloc gives back at once here: what it would keep for
    some seconds comes and goes by more than what is looked for."""
    os.environ["MALLOC_CONF"] = "dirty_decay_ms:0"
    with fake.Krtd("--log-level", "error", program=program, wait=False) as krtd:
        del os.environ["MALLOC_CONF"]
        fake.wait_until(lambda: krtd.path.exists(), "listening")
        with krtd.client() as client:
            before = rss(krtd)
            for cycle in range(1, CYCLES + 1):
                for name, data in models.items():
                    use(client, name, data)
                last = rss(krtd)
                if cycle == FIRST:
                    first = last
            assert len(client.models()) == 0
            assert [d.dram_used_bytes for d in client.devices().devices] == [0]
    print(f"{pathlib.Path(program).name}: {before} KiB before, {first} after {FIRST} cycles, {last} after {CYCLES}: "
          f"{last / first:.4f}", file=sys.stderr)
    return last / first


def returned(models):
    """RSS in KiB of a krtd that is set up as users have it, seconds after some cycles."""
    with fake.Krtd(program=daemon.KRTD) as krtd, krtd.client() as client:
        for _ in range(2 * FIRST):
            for name, data in models.items():
                use(client, name, data)
        return settled(krtd)


def main():
    if os.environ.get("KAENA_SANITIZE", "none") != "none":
        daemon.skip("a sanitizer keeps freed memory: RSS says nothing")
    with tempfile.TemporaryDirectory(prefix="kaena-") as directory:
        models = {name: path.read_bytes() for name, path in artifacts(pathlib.Path(directory)).items()}
    least = idle()
    assert least <= IDLE_KIB, f"krtd has {least} KiB before it has done anything: at most {IDLE_KIB} are meant"
    kept = returned(models) - least
    assert kept <= KEPT_KIB, f"krtd keeps {kept} KiB of models that are gone: at most {KEPT_KIB} are meant"
    good = growth(daemon.KRTD, models)
    bad = growth(LEAKY, models)
    assert good <= GROWTH, f"krtd has grown by {100 * (good - 1):.1f} %"
    assert bad > GROWTH, f"krtd-leaky passes: {100 * (bad - 1):.1f} %"


if __name__ == "__main__":
    main()
