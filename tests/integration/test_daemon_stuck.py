#!/usr/bin/python3
"""Executions of real models that would run for days: stopped by their limit or by their client, and what is left."""

import pathlib
import shutil
import struct
import subprocess
import tempfile
import unittest

import daemon
import fake
from fake import Krtd, Reason, request, rt, tensor, tensors
from grpc import StatusCode

PROGRAM = daemon.BUILD / "runtime" / "krtd" / "krtd"
X = [float(i + 1) for i in range(64)]


def moody(forever=False):
    return request("moody", [tensor("x", X, [1, 64]), tensors.Tensor(name="forever", dtype=9, shape=[1],
                                                                     data=bytes([forever]))])


def turns(n):
    return request("turns", [tensors.Tensor(name="n", dtype=7, shape=[1], data=struct.pack("q", n)),
                             tensor("x", X, [1, 64])])


def values(answer):
    return list(struct.unpack("64f", answer.outputs[0].data))


class Stuck(fake.TestCase):
    def setUp(self):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="kaena-neffs-"))
        subprocess.run([daemon.BUILD / "tests" / "integration" / "write-neffs", self.dir], check=True)

    def tearDown(self):
        shutil.rmtree(self.dir)

    def krtd(self):
        return Krtd("--model-dir", str(self.dir), "--threads", "2", program=PROGRAM,
                    env={"KAENA_TPB_GROUP_SIZES": "2"}.items())

    def load(self, client, name, **options):
        return client.load_messages([rt.LoadRequest(options=rt.LoadOptions(path=f"{name}.neff", name=name, group="g0",
                                                                           **options))])

    def test_the_limit_of_a_model(self):
        with self.krtd() as krtd, krtd.client() as client:
            self.load(client, "moody", timeout_ms=200)
            self.load(client, "turns", timeout_ms=200)
            for stuck, fine, want in ((moody(True), moody, X), (turns(1 << 62), lambda: turns(2), X)):
                name = stuck.model
                for _ in range(2):
                    self.assertEqual(values(client.infer(fine())), want)
                    calls = [client.infer_later(stuck) for _ in range(2)]
                    others = [client.infer_later(turns(3)) for _ in range(3)]
                    for call in calls:
                        self.fails(StatusCode.DEADLINE_EXCEEDED, call.result, reason=Reason.EXECUTION_TIMEOUT,
                                   says=(f"model '{name}': stopped after 0.2", "the limit is 0.200 s"))
                    for other in others:
                        self.assertEqual(values(other.result()), [-x for x in X])
                m = client.model(name)
                self.assertEqual((m.state, m.failures), (rt.READY, 4))
            self.assertEqual(values(client.infer(moody())), X, "its memories were reset")
            self.assertEqual(values(client.infer(moody())), [2 * x for x in X])
            busy = [t.busy_ns for t in client.devices().devices[0].tpb]
            self.assertGreater(busy[0], 4 * 200e6)
            self.assertEqual([t.busy_ns for t in client.devices().devices[0].tpb], busy, "nothing runs any more")

    def test_a_client_that_goes(self):
        with self.krtd() as krtd, krtd.client() as client:
            self.load(client, "moody")
            self.load(client, "turns")
            for stuck in (moody(True), turns(1 << 62)):
                call = client.infer_later(stuck)
                fake.wait_until(lambda: client.model(stuck.model).executions == 1, "it runs")
                waiting = client.infer_later(moody(), timeout=0.1) if stuck.model == "moody" else None
                if waiting:
                    self.assertEqual(waiting.code(), StatusCode.DEADLINE_EXCEEDED)
                call.cancel()
                fake.wait_until(lambda: client.model(stuck.model).failures >= 1, "it has been stopped")
            self.assertEqual(values(client.infer(moody())), X)
            self.assertEqual(values(client.infer(turns(1))), [-x for x in X])
            self.assertEqual((client.model("moody").executions, client.model("turns").executions), (2, 2))
            client.unload("moody")
            client.unload("turns")
            self.assertEqual(client.devices().devices[0].dram_used_bytes, 0)


if __name__ == "__main__":
    unittest.main(verbosity=2)
