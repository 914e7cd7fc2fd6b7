#!/usr/bin/python3
"""Every allocation of the daemon's own code fails once: it answers with a typed error or goes on, and loses nothing.

    meson test -C build faults_alloc; by hand also: test_faults_alloc.py [--all], which leaves out no allocation
"""

import mmap
import pathlib
import struct
import sys
import tempfile
import unittest

import fake
import grpc
from fake import Krtd, health, model, reflection, request, rt, tensor
from grpc import StatusCode

PROGRAM = fake.daemon.BUILD / "tests" / "integration" / "krtd-oom"
ALL = "--all" in sys.argv
MOST = 60  # allocations of one scenario that are tried without --all
TYPED = (StatusCode.RESOURCE_EXHAUSTED,)


class Faults:
    """tests/lib/alloc_fault.h from outside."""

    def __init__(self):
        self.file = tempfile.NamedTemporaryFile(prefix="kaena-faults-")
        self.file.truncate(32)
        self.map = mmap.mmap(self.file.fileno(), 32)
        self.env = {"KAENA_ALLOC_FAULT": self.file.name}

    def value(self, i):
        return struct.unpack_from("<Q", self.map, 8 * i)[0]

    def arm(self, first, n=1):
        """Allocation |first| from the start, and |n| - 1 after it; 0 = none."""
        struct.pack_into("<Q", self.map, 8, 0)
        struct.pack_into("<Q", self.map, 24, 0)
        struct.pack_into("<Q", self.map, 16, first + n - 1)
        struct.pack_into("<Q", self.map, 8, first)

    @property
    def count(self):
        return self.value(0)

    @property
    def failed(self):
        return self.value(3)

    def restart(self):
        self.map[:] = bytes(32)


def chosen(n):
    """Of the allocations 1 to n: all, or some that are spread over them."""
    step = 1 if ALL else max(1, -(-n // MOST))
    return range(1, n + 1, step)


class Allocations(fake.TestCase):
    def setUp(self):
        self.faults = Faults()

    def reflect(self, client):
        call = client.method("ServerReflectionInfo", reflection.ServerReflectionResponse, "stream_stream",
                             service="grpc.reflection.v1.ServerReflection")
        question = reflection.ServerReflectionRequest
        return list(call(iter([question(list_services="*"), question(file_containing_symbol="kaena.v1.Runtime")]),
                         timeout=fake.SECONDS))

    def steps(self, client):
        """What a client does with a daemon, call by call."""
        wide = request(inputs=[tensor(f"x{i}") for i in range(4)], outputs=["y"])
        yield "load", lambda: client.load(model(inputs=[f"x{i} float32 2" for i in range(4)]))
        yield "load by path", lambda: client.load_path("m.neff", "by-path")
        yield "models", client.models
        yield "model", lambda: client.model("m")
        yield "devices", client.devices
        yield "health", client.check
        yield "reflection", lambda: self.reflect(client)
        yield "infer", lambda: client.infer(wide)
        yield "infer", lambda: client.infer(wide)
        yield "infer by path", lambda: client.infer(request("by-path"))
        yield "watch", lambda: self.watch(client)
        yield "unload", lambda: client.unload("m")
        yield "unload", lambda: client.unload("by-path")

    def watch(self, client):
        call = client.watch()
        first = next(call).status
        call.cancel()
        return first

    def scenario(self, client):
        """Runs it; returns the calls that failed. They failed as they should, or followed from those that did."""
        failed = []
        for name, step in self.steps(client):
            try:
                step()
            except grpc.RpcError as error:
                follows = failed and error.code() in (StatusCode.NOT_FOUND, StatusCode.ALREADY_EXISTS)
                self.assertTrue(follows or error.code() in TYPED, f"{name}: {error}")
                fake.detail_of(error)
                failed.append(name)
        return failed

    def assert_clean(self, krtd, client):
        self.faults.arm(0)
        for m in client.models():
            client.unload(m.name)
        self.assertEqual(self.scenario(client), [])
        self.assertEqual(len(client.models()), 0)
        self.assertEqual([d.dram_used_bytes for d in client.devices().devices], [0])
        self.assertEqual(krtd.memory_files(), 0)
        self.assertIsNone(krtd.process.poll(), krtd.log())

    def start(self, **options):
        directory = pathlib.Path(tempfile.mkdtemp(prefix="kaena-models-"))
        self.addCleanup(fake.shutil.rmtree, directory)
        (directory / "m.neff").write_text(model("by-path"))
        self.faults.restart()
        return Krtd("--model-dir", str(directory), program=PROGRAM, env=self.faults.env, **options)

    def test_each_of_a_running_daemon(self):
        with self.start() as krtd, krtd.client() as client:
            self.assertEqual(self.scenario(client), [])
            before = self.faults.count
            self.assertEqual(self.scenario(client), [])
            n = self.faults.count - before
            self.assertGreater(n, 30)
            reached = errors = 0
            for k in chosen(n + 5):
                self.faults.arm(self.faults.count + k)
                errors += len(self.scenario(client))
                reached += self.faults.failed
                self.faults.arm(0)
                for m in client.models():
                    client.unload(m.name)
            self.assert_clean(krtd, client)
            self.assertGreater(reached, min(n, MOST) // 3)
            self.assertGreater(errors, 0)
            print(f"{n} allocations, {reached} failed, {errors} typed errors", file=sys.stderr)

    def test_many_in_a_row(self):
        """While nothing is to be had every answer is an error; with memory all is as it was."""
        with self.start() as krtd, krtd.client() as client:
            self.assertEqual(self.scenario(client), [])
            self.assert_clean(krtd, client)
            for n in (10, 100):
                self.faults.arm(self.faults.count + 1, n)
                while self.faults.failed < n:
                    self.assertNotEqual(self.infers(client), 0)
                self.assert_clean(krtd, client)

    def infers(self, client):
        errors = 0
        for _ in range(50):
            try:
                client.infer(request("nobody"))
            except grpc.RpcError as error:
                self.assertIn(error.code(), (*TYPED, StatusCode.NOT_FOUND), error)
                errors += 1
        return errors

    def serves(self, krtd):
        try:
            with krtd.client() as client:
                return client.check() == health.HealthCheckResponse.SERVING
        except grpc.RpcError as error:
            self.assertEqual(error.code(), StatusCode.UNAVAILABLE, error)
            return False

    def test_each_of_the_start(self):
        with self.start() as krtd:
            n = self.faults.count
        self.assertGreater(n, 10)
        ready = refused = 0
        for k in chosen(n):
            self.faults.restart()
            self.faults.arm(k)
            krtd = Krtd(program=PROGRAM, env=self.faults.env, wait=False)
            try:
                fake.wait_until(lambda: "ready:" in krtd.log() or krtd.process.poll() is not None, "ready or ended")
                if "ready:" in krtd.log():
                    ready += 1
                    fake.wait_until(lambda: self.serves(krtd), "answers")  # the first connection may have been refused
                    krtd.signal()
                    self.assertEqual(krtd.wait(), 0, f"allocation {k}: {krtd.log()}")
                else:
                    refused += 1
                    self.assertGreater(krtd.process.returncode, 0, f"allocation {k}: {krtd.log()}")
                    self.assertIn("memory", krtd.log(), f"allocation {k}")
            finally:
                krtd.process.kill()
                krtd.process.wait()
                fake.shutil.rmtree(krtd.dir)
        self.assertGreater(refused, 0)
        print(f"{n} allocations of the start: {ready} times ready all the same, {refused} times refused", file=sys.stderr)


if __name__ == "__main__":
    unittest.main(argv=[a for a in sys.argv if a != "--all"], verbosity=2)
