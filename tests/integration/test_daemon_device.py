#!/usr/bin/python3
"""krtd over its emulated devices: the digits network, damaged in the ways that files can be, and under load."""

import pathlib
import struct
import subprocess
import tempfile
import threading
import unittest

import daemon
import fake
from fake import Krtd, Reason, rt, tensors
from grpc import StatusCode
from test_daemon_memory import Memory, map_memory, place

OUTPUTS = 10


class Device(fake.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.dir = tempfile.TemporaryDirectory(prefix="kaena-")
        cls.addClassCleanup(cls.dir.cleanup)
        cls.neff = pathlib.Path(cls.dir.name, "digits.neff")
        daemon.compile_model(daemon.DIGITS / "digits.onnx", cls.neff)

    def krtd(self, *options, **more):
        return Krtd("--model-dir", self.dir.name, *options, program=daemon.KRTD, **more)

    def copy(self, name, change=lambda data: data):
        path = pathlib.Path(self.dir.name, name)
        path.write_bytes(change(self.neff.read_bytes()))
        return path

    def request(self, model, shade=0.5):
        n = 1
        for d in self.shape:
            n *= d
        image = tensors.Tensor(name="image", dtype=1, shape=self.shape, data=struct.pack("f", shade) * n)
        return rt.InferRequest(model=model, inputs=[image])

    def load(self, client, path, name):
        m = client.load_path(path, name)
        self.shape = list(m.inputs[0].shape)
        return m

    def test_answers_do_not_depend_on_company(self):
        with self.krtd("--threads", "2", "--queue-depth", "1024") as krtd, krtd.client() as client:
            for name in "ab":
                self.load(client, self.neff, name)
            shades = [i / 16 for i in range(16)]
            alone = {s: client.infer(self.request("a", s)).outputs[0].data for s in shades}
            self.assertEqual(len(set(alone.values())), len(shades))
            calls = [(s, client.infer_later(self.request(name, s))) for _ in range(20) for name in "ab" for s in shades]
            for shade, call in calls:
                self.assertEqual(call.result().outputs[0].data, alone[shade])

    def test_shared_memory(self):
        with self.krtd("--threads", "2") as krtd, krtd.client() as client, Memory(1 << 20) as memory:
            self.load(client, self.neff, "a")
            region = map_memory(client, memory)
            for n in range(16):
                ask = self.request("a", n / 16)
                expected = client.infer(ask).outputs[0]
                data = ask.inputs[0].data
                at = n * 8192 + (n % 4)  # aligned, and not
                memory.bytes[at:at + len(data)] = data
                ask.inputs[0].shared.CopyFrom(tensors.SharedRange(region=region, offset=at, size=len(data)))
                self.assertEqual(client.infer(ask).outputs[0].data, expected.data)
                to = 524288 + n * 64 + (n % 3)
                ask.places.append(place(region, to, len(expected.data), expected.name))
                self.assertEqual(client.infer(ask).outputs[0].shared.size, len(expected.data))
                self.assertEqual(memory.bytes[to:to + len(expected.data)], expected.data)

    def test_a_file_that_is_truncated_while_mapped(self):
        with self.krtd() as krtd, krtd.client() as client:
            path = self.copy("short.neff")
            self.load(client, path, "short")
            self.load(client, self.neff, "whole")
            expected = client.infer(self.request("whole")).outputs[0].data
            self.assertEqual(client.infer(self.request("short")).outputs[0].data, expected)
            with open(path, "r+b") as f:
                f.truncate(4096)
            self.fails(StatusCode.DATA_LOSS, client.infer, self.request("short"), reason=None, says="model 'short'")
            self.assertEqual(client.model("short").state, rt.FAILED)
            self.assertEqual(client.infer(self.request("whole")).outputs[0].data, expected)
            client.unload("short")
            self.load(client, self.copy("short.neff"), "short")
            self.assertEqual(client.infer(self.request("short")).outputs[0].data, expected)

    def test_damaged_files_are_refused(self):
        size = self.neff.stat().st_size
        with self.krtd() as krtd, krtd.client() as client:
            for name, change in (("empty", lambda d: b""), ("magic", lambda d: b"x" + d[1:]),
                                 ("cut", lambda d: d[:size // 2]), ("head", lambda d: d[:40])):
                detail = self.fails(StatusCode.DATA_LOSS, client.load_path, self.copy(f"{name}.neff", change), name,
                                    reason=Reason.BAD_ARTIFACT)
                self.assertTrue(detail.what)
            self.assertEqual(len(client.models()), 0)
            # META, CODE and heads at once, WEIGHTS by the check in the background
            for at in range(0, size, max(1, size // 60)):
                path = self.copy("flip.neff", lambda d: d[:at] + bytes([d[at] ^ 0x10]) + d[at + 1:])
                try:
                    self.load(client, path, "flip")
                except fake.grpc.RpcError as error:
                    self.assertIn(error.code(), (StatusCode.DATA_LOSS, StatusCode.FAILED_PRECONDITION,
                                                 StatusCode.INVALID_ARGUMENT, StatusCode.RESOURCE_EXHAUSTED), error)
                else:
                    fake.wait_until(lambda: client.model("flip").state == rt.FAILED, f"damage at {at} is found")
                    client.unload("flip")
            self.load(client, self.neff, "good")
            client.infer(self.request("good"))

    def test_another_version_is_refused_with_the_remedy(self):
        with self.krtd() as krtd, krtd.client() as client:
            path = self.copy("next.neff", lambda d: d[:8] + bytes([d[8] + 1]) + d[9:])
            self.fails(StatusCode.FAILED_PRECONDITION, client.load_path, path, "next", reason=Reason.VERSION_MISMATCH,
                       says=("next.neff", "2.0", "1.0", "kcc ", "recompile"))

    def test_the_command_line_says_what_to_do_once(self):
        with self.krtd() as krtd:
            done = subprocess.run([daemon.CLI, "--address", krtd.socket, "load", self.neff, "--group", "nowhere"],
                                  text=True, capture_output=True, check=False)
            self.assertEqual(done.returncode, 1)
            self.assertIn("no group 'nowhere'", done.stderr)
            self.assertEqual(done.stderr.count("CreateGroup (kaena-cli groups) makes one"), 1, done.stderr)

    def test_more_tpbs_than_there_are(self):
        wide = pathlib.Path(self.dir.name, "wide.neff")
        daemon.compile_model(daemon.DIGITS / "digits.onnx", wide, "--num-tpbs", "8")
        with self.krtd() as krtd, krtd.client() as client:
            self.fails(StatusCode.FAILED_PRECONDITION, client.load_path, wide, "wide", reason=Reason.NO_TPBS,
                       says=("8 TPBs", "--num-tpbs 4"))
        chips = [{"pci": f"00:1d.{i}"} for i in range(3)]
        config = {"version": 1, "chips": chips, "daemons": [
            {"name": "two", "listen": ["127.0.0.1:0"], "devices": [1, 2]}]}
        with self.krtd(config=config) as krtd, fake.Client(krtd.tcp) as client:
            m = self.load(client, wide, "wide")
            self.assertEqual(sorted((p.device, p.tpb) for p in m.tpbs), [(d, t) for d in (1, 2) for t in range(4)])
            self.assertEqual([list(d.models) for d in client.devices().devices], [["wide"], ["wide"]])
            client.infer(self.request("wide"))

    def test_unload_gives_everything_back(self):
        with self.krtd() as krtd, krtd.client() as client:
            used = [d.dram_used_bytes for d in client.devices().devices]
            fds = len(list(pathlib.Path(f"/proc/{krtd.process.pid}/fd").iterdir()))
            for _ in range(20):
                m = self.load(client, self.neff, "m")
                self.assertGreater(m.dram_bytes, 0)
                client.infer(self.request("m"))
                client.unload("m")
            self.assertEqual([d.dram_used_bytes for d in client.devices().devices], used)
            self.assertLessEqual(len(list(pathlib.Path(f"/proc/{krtd.process.pid}/fd").iterdir())), fds + 1)

    def test_load_infer_unload_and_the_end_under_load(self):
        odd, stop = [], threading.Event()

        def use(krtd):
            with krtd.client() as mine:
                while not stop.is_set():
                    try:
                        if len(mine.infer(self.request("m")).outputs[0].data) != 4 * OUTPUTS:
                            odd.append("wrong size")
                    except fake.grpc.RpcError as error:
                        if error.code() == StatusCode.UNAVAILABLE and stop.is_set():
                            break
                        if error.code() not in (StatusCode.NOT_FOUND, StatusCode.ABORTED, StatusCode.UNAVAILABLE):
                            odd.append(str(error))

        with self.krtd() as krtd:
            with krtd.client() as client:
                self.load(client, self.neff, "m")
                threads = [threading.Thread(target=use, args=(krtd,)) for _ in range(3)]
                for t in threads:
                    t.start()
                for _ in range(20):
                    client.unload("m")
                    client.load_path(self.neff, "m")
                client.infer(self.request("m"))
            krtd.signal()
            self.assertEqual(krtd.wait(), 0)
            stop.set()
            for t in threads:
                t.join()
        self.assertEqual(odd, [])


if __name__ == "__main__":
    unittest.main(verbosity=2)
