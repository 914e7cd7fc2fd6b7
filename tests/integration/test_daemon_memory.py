#!/usr/bin/python3
"""Regions of shared memory: tensors that no message carries."""

import math
import mmap
import os
import struct
import unittest

import fake
import grpc
from fake import Krtd, Reason, model, request, rt, tensor, tensors
from grpc import StatusCode

PAGE = 4096


class Memory:
    """A shared memory object of ours."""

    count = 0

    def __init__(self, size=16 * PAGE):
        Memory.count += 1
        self.name = f"/kaena-test-{os.getpid()}-{Memory.count}"
        self.path = f"/dev/shm{self.name}"
        self.fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        os.posix_fallocate(self.fd, 0, size)
        self.bytes = mmap.mmap(self.fd, size)
        self.size = size

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.bytes.close()
        os.close(self.fd)
        os.unlink(self.path)


def map_memory(client, memory, size=None, name=None):
    return client.method("MapSharedMemory", rt.MapSharedMemoryResponse)(
        rt.MapSharedMemoryRequest(name=memory.name if name is None else name, size=memory.size if size is None else size),
        timeout=fake.SECONDS).region


def unmap(client, region):
    return client.method("UnmapSharedMemory", rt.UnmapSharedMemoryResponse)(rt.UnmapSharedMemoryRequest(region=region),
                                                                             timeout=fake.SECONDS)


def unmap_later(client, region):
    return client.method("UnmapSharedMemory", rt.UnmapSharedMemoryResponse).future(
        rt.UnmapSharedMemoryRequest(region=region), timeout=fake.SECONDS)


def shared(region, offset=0, size=8, name="x", shape=(2,)):
    return tensors.Tensor(name=name, dtype=fake.FLOAT32, shape=shape,
                          shared=tensors.SharedRange(region=region, offset=offset, size=size))


def place(region, offset, size=8, name="y"):
    return rt.OutputPlace(name=name, range=tensors.SharedRange(region=region, offset=offset, size=size))


def placed(inputs, *places, **fields):
    return rt.InferRequest(model="m", inputs=inputs, places=places, **fields)


class Ranges(fake.TestCase):
    def test_inputs_and_outputs(self):
        """In place, copied because of alignment, and copied for a host step: the numbers are the same."""
        for settings in ({}, {"host": 1}):
            with Krtd() as krtd, krtd.client() as client, Memory() as memory:
                client.load(model(**settings))
                region = map_memory(client, memory)
                for at, to in ((0, 64), (128, 4), (5, 192), (7, 1001), (memory.size - 8, 0)):
                    with self.subTest(at=at, to=to, **settings):
                        memory.bytes[at:at + 8] = struct.pack("2f", at, -1.5)
                        memory.bytes[to:to + 8] = bytes(8)
                        y = client.infer(placed([shared(region, at)], place(region, to))).outputs[0]
                        self.assertEqual((y.shared.region, y.shared.offset, y.shared.size), (region, to, 8))
                        self.assertEqual((y.name, y.dtype, list(y.shape), y.data), ("y", fake.FLOAT32, [2], b""))
                        self.assertEqual(struct.unpack("2f", memory.bytes[to:to + 8]), (at, -1.5))
                        y = client.infer(placed([shared(region, at)])).outputs[0]
                        self.assertEqual(struct.unpack("2f", y.data), (at, -1.5))
                        client.infer(placed([tensor(values=(7.0, 8.0))], place(region, to)))
                        self.assertEqual(struct.unpack("2f", memory.bytes[to:to + 8]), (7.0, 8.0))

    def test_large_ones_and_several(self):
        n = 1 << 20
        with Krtd() as krtd, krtd.client() as client, Memory(16 * n + PAGE) as memory:
            client.load(model(inputs=[f"a float32 {n}", "b float32 2"], outputs=[f"c float32 {n}", "d float32 2"]))
            region = map_memory(client, memory)
            memory.bytes[0:4 * n] = b"\x01\x02\x03\x04" * n
            answer = client.infer(placed([tensor("b"), shared(region, 0, 4 * n, "a", [n])],
                                         place(region, 8 * n, 4 * n + 100, "c")))
            c, d = answer.outputs
            self.assertEqual(c.shared.size, 4 * n, "what was written, not what room there was")
            self.assertEqual(memory.bytes[8 * n:12 * n], b"\x01\x02\x03\x04" * n)
            self.assertEqual(d.data, tensor().data)
            self.assertEqual(memory.bytes[12 * n:12 * n + 100], bytes(100))

    def test_mistakes(self):
        with Krtd() as krtd, krtd.client() as client, Memory() as memory:
            client.load(model())
            region = map_memory(client, memory)
            end = memory.size
            for inputs, places, code, reason, says in (
                    ([shared(region + 1)], [], StatusCode.FAILED_PRECONDITION, Reason.BAD_REGION, f"no shared region {region + 1} is mapped"),
                    ([shared(0)], [], StatusCode.INVALID_ARGUMENT, Reason.BAD_REGION, "region 0 is none"),
                    ([shared(region, end)], [], StatusCode.OUT_OF_RANGE, Reason.BAD_REGION, f"which has {end}"),
                    ([shared(region, end - 7)], [], StatusCode.OUT_OF_RANGE, Reason.BAD_REGION, "input 'x': 8 bytes from byte"),
                    ([shared(region, 2**64 - 4)], [], StatusCode.OUT_OF_RANGE, Reason.BAD_REGION, "leave shared region"),
                    ([shared(region, 0, 12)], [], StatusCode.INVALID_ARGUMENT, Reason.BAD_TENSOR, "expected 8 bytes"),
                    ([shared(region, 0, 2**64 - 1)], [], StatusCode.INVALID_ARGUMENT, Reason.BAD_TENSOR, "expected 8 bytes"),
                    ([tensor()], [place(region, end - 7)], StatusCode.OUT_OF_RANGE, Reason.BAD_REGION, "output 'y'"),
                    ([tensor()], [place(region, 1, 2**64 - 1)], StatusCode.OUT_OF_RANGE, Reason.BAD_REGION, "output 'y'"),
                    ([tensor()], [place(0, 0)], StatusCode.INVALID_ARGUMENT, Reason.BAD_REGION, "region 0"),
                    ([tensor()], [place(region, 0, 7)], StatusCode.INVALID_ARGUMENT, Reason.BAD_TENSOR, "its place has 7"),
                    ([tensor()], [place(region, 0), place(region, 64)], StatusCode.INVALID_ARGUMENT, Reason.BAD_TENSOR, "two places"),
                    ([tensor()], [place(region, 0, name="z")], StatusCode.INVALID_ARGUMENT, Reason.BAD_TENSOR, "no output 'z'"),
                    ([shared(region, 8)], [place(region, 15)], StatusCode.INVALID_ARGUMENT, Reason.BAD_REGION, "overlaps that of input 'x'"),
                    ([shared(region, 8)], [place(region, 1)], StatusCode.INVALID_ARGUMENT, Reason.BAD_REGION, "overlaps that of input 'x'")):
                with self.subTest(says=says):
                    self.fails(code, client.infer, placed(inputs, *places), reason=reason, says=says)
            client.infer(placed([shared(region, 8)], place(region, 16)))
            self.assertEqual(client.model("m").executions, 1)

    def test_a_place_for_what_is_not_asked_for(self):
        with Krtd() as krtd, krtd.client() as client, Memory() as memory:
            client.load(model(outputs=["y float32 2", "z float32 2"]))
            region = map_memory(client, memory)
            self.fails(StatusCode.INVALID_ARGUMENT, client.infer, placed([tensor()], place(region, 0), outputs=["z"]),
                       reason=Reason.BAD_TENSOR, says="not asked for")

    def test_not_finite(self):
        nan = struct.pack("2f", math.nan, 1.0)
        with Krtd() as krtd, krtd.client() as client, Memory() as memory:
            client.load(model(inputs=["x float32 2", "k int32 2"], outputs=["y float32 2", "l int32 2"]))
            region = map_memory(client, memory)
            memory.bytes[0:8] = nan
            k = tensors.Tensor(name="k", dtype=6, shape=[2], data=b"\xff" * 8)
            for inputs, places in (([tensor(data=nan), k], []), ([shared(region), k], [place(region, 64)])):
                answer, call = client.infer_call.with_call(placed(inputs, *places, check_finite=True), timeout=fake.SECONDS)
                self.assertEqual(list(answer.not_finite), ["y"])
                metadata = dict(call.trailing_metadata())
                status = fake.status_pb2.Status.FromString(metadata["grpc-status-details-bin"])
                detail = rt.ErrorDetail.FromString(status.details[0].value)
                self.assertEqual(detail.reason, Reason.NOT_FINITE)
                self.assertIn("'y'", detail.what)
                answer, call = client.infer_call.with_call(placed(inputs, *places), timeout=fake.SECONDS)
                self.assertEqual(list(answer.not_finite), [])
                self.assertNotIn("grpc-status-details-bin", dict(call.trailing_metadata()))
            answer = client.infer(placed([tensor(), k], check_finite=True))
            self.assertEqual(list(answer.not_finite), [])


class Regions(fake.TestCase):
    def test_names_owners_and_sizes(self):
        with Krtd() as krtd, krtd.client() as client, Memory() as memory:
            for name in ("/kaena-", "kaena-x", "/other", "/kaena-a/b", "/kaena-..\n", "/kaena-" + "x" * 200, ""):
                with self.subTest(name=name):
                    self.fails(StatusCode.INVALID_ARGUMENT, map_memory, client, memory, 1, name, says="no name of shared memory")
            self.fails(StatusCode.NOT_FOUND, map_memory, client, memory, 1, "/kaena-nothing")
            self.fails(StatusCode.INVALID_ARGUMENT, map_memory, client, memory, 0, says="0 bytes")
            self.fails(StatusCode.OUT_OF_RANGE, map_memory, client, memory, memory.size + 1, reason=Reason.BAD_REGION,
                       says=f"it has {memory.size}")
            os.symlink(memory.path, memory.path + "-link")
            try:
                with self.assertRaises(grpc.RpcError):
                    map_memory(client, memory, 1, memory.name + "-link")
            finally:
                os.unlink(memory.path + "-link")
            self.assertGreater(map_memory(client, memory), 0)
            self.assertEqual(krtd.held()["mapped"], 1)

    @unittest.skipIf(os.getuid() != 0, "only root can give an object away")
    def test_memory_of_another_user(self):
        with Krtd() as krtd, krtd.client() as client, Memory() as memory:
            os.fchmod(memory.fd, 0o666)
            os.chown(memory.fd, 65534, 65534)
            self.fails(StatusCode.PERMISSION_DENIED, map_memory, client, memory, says="it belongs to uid 65534")
            os.fchmod(memory.fd, 0o600)  # not even root's daemon opens it: it has given up such rights
            self.fails(StatusCode.PERMISSION_DENIED, map_memory, client, memory)

    def test_only_over_unix_sockets(self):
        with Krtd() as krtd, fake.Client(krtd.tcp) as client, Memory() as memory:
            self.fails(StatusCode.FAILED_PRECONDITION, map_memory, client, memory, reason=Reason.BAD_REGION,
                       says="unix socket only")

    def test_limits(self):
        limits = {"regions": 2, "region_bytes": 4 * PAGE}
        with Krtd(limits=limits) as krtd, krtd.client() as client, krtd.client() as other, Memory() as memory:
            a, b = map_memory(client, memory, PAGE), map_memory(client, memory, PAGE)
            d = self.fails(StatusCode.RESOURCE_EXHAUSTED, map_memory, client, memory, PAGE, reason=Reason.LIMIT,
                           says="limits.regions")
            self.assertEqual((d.needed, d.available), (3, 2))
            unmap(client, a)
            d = self.fails(StatusCode.RESOURCE_EXHAUSTED, map_memory, client, memory, 3 * PAGE + 1, reason=Reason.LIMIT,
                           says="limits.region_bytes")
            self.assertEqual((d.needed, d.available), (4 * PAGE + 1, 4 * PAGE))
            map_memory(client, memory, 3 * PAGE)
            self.fails(StatusCode.RESOURCE_EXHAUSTED, map_memory, other, memory, 4 * PAGE + 1, reason=Reason.LIMIT)
            map_memory(other, memory, 4 * PAGE)
            self.assertNotEqual(a, b)

    def test_a_region_is_its_sessions(self):
        with Krtd() as krtd, krtd.client() as one, krtd.client() as two, Memory() as memory:
            one.load(model())
            s = one.session()
            mine = map_memory(one, memory)
            for stranger in (two,):
                self.fails(StatusCode.FAILED_PRECONDITION, stranger.infer, placed([shared(mine)]), reason=Reason.BAD_REGION)
                self.fails(StatusCode.NOT_FOUND, unmap, stranger, mine, reason=Reason.BAD_REGION)
            two.token = s.token  # another connection of the same session
            two.infer(placed([shared(mine)]))
            two.token = ""
            of_connection = map_memory(two, memory)
            self.fails(StatusCode.FAILED_PRECONDITION, one.infer, placed([shared(of_connection)]), reason=Reason.BAD_REGION)
            self.assertEqual(krtd.held()["mapped"], 2)
            s.break_off()
            fake.wait_until(lambda: krtd.held()["mapped"] == 1, "the session's region is gone")
            two.close()
            fake.wait_until(lambda: krtd.held()["mapped"] == 0, "the connection's is, too")

    def test_unmap_waits(self):
        with Krtd() as krtd, krtd.client() as client, Memory() as memory:
            client.load(model(sleep_ms=400))
            region = map_memory(client, memory)
            memory.bytes[0:8] = struct.pack("2f", 3, 4)
            calls = [client.infer_later(placed([shared(region)], place(region, 64 * (k + 1)))) for k in range(2)]
            fake.wait_until(lambda: client.model("m").queued == 1, "one runs, one waits")
            waiting = unmap_later(client, region)
            fake.wait_until(lambda: self.unknown(client, region), "nobody can use it any more")
            self.assertFalse(waiting.done())
            self.assertEqual([c.code() for c in calls], [StatusCode.OK] * 2)
            self.assertEqual(waiting.code(), StatusCode.OK)
            self.assertEqual(krtd.held()["mapped"], 0)
            self.assertEqual(struct.unpack("2f", memory.bytes[128:136]), (3, 4))
            self.fails(StatusCode.NOT_FOUND, unmap, client, region)

    def unknown(self, client, region):
        try:
            unmap(client, region)
        except grpc.RpcError as error:
            return error.code() == StatusCode.NOT_FOUND
        raise AssertionError("unmapped twice")

    def test_a_session_ends_while_its_region_is_used(self):
        with Krtd() as krtd, krtd.client() as client, krtd.client() as other, Memory() as memory:
            other.load(model(sleep_ms=300))
            s = client.session()
            region = map_memory(client, memory)
            call = client.infer_later(placed([shared(region)], place(region, 64)))
            fake.wait_until(lambda: other.model("m").executions == 1, "it runs")
            s.break_off()
            self.assertEqual(call.code(), StatusCode.OK)
            fake.wait_until(lambda: krtd.held()["mapped"] == 0, "the region is gone")


class Damage(fake.TestCase):
    def test_truncated_memory_ends_the_request_alone(self):
        for settings in ({}, {"host": 1}):
            for give in ("input", "output"):
                with self.subTest(give=give, **settings), Krtd() as krtd, krtd.client() as client, Memory() as memory:
                    client.load(model(**settings))
                    region = map_memory(client, memory)
                    os.ftruncate(memory.fd, PAGE)
                    far = 8 * PAGE
                    ask = placed([shared(region, far)]) if give == "input" else placed([tensor()], place(region, far))
                    self.fails(StatusCode.DATA_LOSS, client.infer, ask, reason=Reason.BAD_REGION, says="was truncated")
                    self.fails(StatusCode.DATA_LOSS, client.infer, placed([shared(region)]), reason=Reason.BAD_REGION)
                    self.assertEqual(client.model("m").state, rt.READY, "the model is not to blame")
                    self.assertEqual(client.infer(request()).outputs[0].data, tensor().data)
                    unmap(client, region)
                    again = map_memory(client, memory, PAGE)
                    client.infer(placed([shared(again)], place(again, 64)))


if __name__ == "__main__":
    unittest.main(verbosity=2)
