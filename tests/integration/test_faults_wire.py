#!/usr/bin/python3
"""Clients that misbehave on the wire: the daemon's memory stays bounded, and everybody else is served.

What is bounded is asserted generously: allocators and sanitizers keep more than is in use.
"""

import os
import resource
import socket
import subprocess
import unittest

import fake
import grpc
import http2
from fake import Krtd, Reason, health, model, request, rt, tensor
from grpc import StatusCode

MIB = 1 << 20
GIB = 1 << 30
SERVING = health.HealthCheckResponse.SERVING
INFER = "/kaena.v1.Runtime/Infer"
LOAD = "/kaena.v1.Runtime/Load"
CONNECTIONS = 10000
LIMIT = 64 * MIB  # of answers on their way, where a test says so
SANITIZED = os.environ.get("KAENA_SANITIZE", "none") != "none"
KEEPALIVE_SECONDS = 80  # after which the daemon drops a peer that gives no sign of life (rpc_server.c)


def rss(krtd):
    with open(f"/proc/{krtd.process.pid}/status", encoding="ascii") as status:
        return int(next(line for line in status if line.startswith("VmRSS")).split()[1]) * 1024


class Faults(fake.TestCase):
    def bounded(self, krtd, before, most):
        """The daemon has grown by at most |most| bytes; sanitizers keep what was freed."""
        self.assertLess(rss(krtd) - before, most * (4 if SANITIZED else 1))

    def serves(self, krtd, client, name="m"):
        """Who was connected before and who comes now get right answers."""
        self.assertEqual(client.infer(request(name)).outputs[0].data, tensor().data)
        fake.wait_until(lambda: self.answers(krtd, name), "a new client is served")

    def answers(self, krtd, name):
        try:
            with krtd.client() as fresh:
                return fresh.infer(request(name)).outputs[0].data == tensor().data
        except grpc.RpcError as error:
            self.assertEqual(error.code(), StatusCode.UNAVAILABLE, error)
            return False


class Readers(Faults):
    """Clients that ask and do not take the answers."""

    N = MIB // 4  # floats of an answer

    def ask(self, krtd, client, count, windows):
        c = http2.Connection(krtd.socket, windows=windows)
        body = request("large").SerializeToString()
        for i in range(count):
            c.call(INFER, body)
            if i % 50 == 49:  # not more than the queue takes
                self.settled(client)
        return c

    def load(self, client):
        client.load(model())
        client.load(model("large", outputs=[f"y float32 {self.N}"], contexts=4))

    def settled(self, client):
        """All that was accepted has run."""
        fake.wait_until(lambda: client.model("large").queued == 0, "the queue is empty")

    def test_a_client_that_never_reads(self):
        with Krtd(limits={"rpc_bytes": LIMIT}) as krtd, krtd.client() as client:
            self.load(client)
            self.serves(krtd, client)
            before = rss(krtd)
            with self.ask(krtd, client, 1000, windows=True):
                self.settled(client)
                self.serves(krtd, client)
                # Its own requests may be refused; what it does not fetch must not pile up without end.
                self.bounded(krtd, before, 250 * MIB)
                self.assertEqual(len(client.infer(request("large")).outputs[0].data), 4 * self.N)
            fake.wait_until(lambda: rss(krtd) - before < (400 if SANITIZED else 150) * MIB, "memory comes back")
            self.serves(krtd, client)

    def test_a_client_whose_window_is_shut(self):
        with Krtd(limits={"rpc_bytes": LIMIT}) as krtd, krtd.client() as client:
            self.load(client)
            self.serves(krtd, client)
            before = rss(krtd)
            with self.ask(krtd, client, 1000, windows=False):
                self.settled(client)
                self.serves(krtd, client)
                self.bounded(krtd, before, 250 * MIB)
            fake.wait_until(lambda: rss(krtd) - before < (400 if SANITIZED else 150) * MIB, "memory comes back")

    def test_a_slow_reader_gets_all_and_keeps_nobody_waiting(self):
        with Krtd() as krtd, krtd.client() as client:
            self.load(client)
            with self.ask(krtd, client, 8, windows=True) as slow:
                slow.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                ended, others = 0, 0
                for kind, flags, _, _ in slow.frames():
                    if others < 100:  # a frame for each answer that the others get
                        self.assertEqual(client.infer(request()).outputs[0].data, tensor().data)
                        others += 1
                    self.assertNotEqual(kind, http2.RST_STREAM)
                    ended += kind == http2.HEADERS and bool(flags & http2.END_STREAM)
                    if ended == 8:
                        break
                self.assertEqual(ended, 8)


class Messages(Faults):
    def test_nothing_at_all(self):
        """A call without a message, one with a message of 0 bytes, and streams that say nothing."""
        with Krtd() as krtd, krtd.client() as client:
            client.load(model())
            raw = client.channel.unary_unary
            for name, code in (("Infer", StatusCode.NOT_FOUND), ("Unload", StatusCode.NOT_FOUND),
                               ("GetModel", StatusCode.NOT_FOUND)):
                self.fails(code, lambda: raw(f"/kaena.v1.Runtime/{name}")(b"", timeout=fake.SECONDS))
            self.assertEqual(raw("/kaena.v1.Runtime/ListModels")(b"", timeout=fake.SECONDS)[:1], b"\x0a")
            self.fails(StatusCode.INVALID_ARGUMENT, client.load_messages, [], says="ended before the options")
            self.fails(StatusCode.INVALID_ARGUMENT, client.load_messages, [rt.LoadRequest()])
            with http2.Connection(krtd.socket) as c:
                for path in (INFER, LOAD):
                    self.assertEqual(c.ended(c.call(path)), "end", path)
            self.serves(krtd, client)

    def test_at_the_limit_and_above_it(self):
        limit = 4 * MIB
        floats = limit // 4 - 16
        with Krtd(limits={"message_bytes": limit}) as krtd, krtd.client() as client:
            client.load(model())
            client.load(model("large", inputs=[f"x float32 {floats}"], outputs=["y float32 2"]))
            big = request("large", [tensor(shape=[floats], data=bytes(4 * floats))])
            big.outputs.append("")
            big.outputs[0] = "y" * (limit - big.ByteSize() - (1 if limit - big.ByteSize() < 128 else 2))
            while big.ByteSize() < limit:
                big.outputs[0] += "y"
            self.assertEqual(big.ByteSize(), limit)
            self.fails(StatusCode.INVALID_ARGUMENT, client.infer, big, says="has no output")  # it was read
            big.outputs[0] += "y"
            for _ in range(3):
                with self.assertRaises(grpc.RpcError) as caught:
                    client.infer(big)
                self.assertEqual(caught.exception.code(), StatusCode.RESOURCE_EXHAUSTED)
            del big.outputs[:]
            self.assertEqual(len(client.infer(big).outputs), 1)
            chunk = bytes(limit + 1)
            with self.assertRaises(grpc.RpcError) as caught:
                client.load_messages([rt.LoadRequest(options=rt.LoadOptions(name="n", size=len(chunk))),
                                      rt.LoadRequest(chunk=chunk)])
            self.assertEqual(caught.exception.code(), StatusCode.RESOURCE_EXHAUSTED)
            fake.wait_until(lambda: krtd.memory_files() == 0, "the upload is given up")
            self.serves(krtd, client)

    def test_lengths_that_promise_a_gibibyte(self):
        with Krtd(limits={"message_bytes": 2**31 - 1}) as krtd, krtd.client() as client:
            client.load(model())
            self.serves(krtd, client)
            before = rss(krtd)
            promises = [http2.Connection(krtd.socket) for _ in range(20)]
            for c in promises:
                for _ in range(20):  # messages that never come
                    c.call(INFER, b"\x0a\x01m", claim=GIB, end=False)
            for c in promises:
                self.assertIn(c.ended(c.call(INFER, b"\x0a\x01m", claim=GIB)), ("end", "reset"))
            self.serves(krtd, client)
            self.bounded(krtd, before, 100 * MIB)
            for c in promises:
                c.close()

    def test_fields_that_promise_a_gibibyte(self):
        length = b"\x80\x80\x80\x80\x04"  # 1 GiB as a varint
        tensor_head = b"\x0a\x01x"
        with Krtd() as krtd, krtd.client() as client:
            client.load(model())
            raw = client.channel.unary_unary(INFER)
            for body in (b"\x0a" + length, b"\x0a\x01m\x12" + length, b"\x0a\x01m\x12\x08" + tensor_head + b"\x22" + length[:3],
                         b"\x0a\x01m\x1a" + length + b"y", b"\x0a\x01m\x12\x09" + tensor_head + b"\x1a" + length):
                self.fails(StatusCode.INVALID_ARGUMENT, lambda: raw(body, timeout=fake.SECONDS))
            self.serves(krtd, client)

    def test_uploads_that_promise_a_gibibyte(self):
        with Krtd() as krtd, krtd.client() as client:
            client.load(model())
            before = rss(krtd)
            options = rt.LoadRequest(options=rt.LoadOptions(name="big", size=GIB)).SerializeToString()
            with http2.Connection(krtd.socket) as c:
                streams = [c.call(LOAD, options, end=False) for _ in range(8)]
                fake.wait_until(lambda: krtd.memory_files() == 8, "eight uploads have begun")
                self.fails(StatusCode.RESOURCE_EXHAUSTED, client.load, model("n"), reason=Reason.LIMIT,
                           says="8 loads are in progress")
                self.bounded(krtd, before, 50 * MIB)
                self.serves(krtd, client)
                for s in streams[:4]:
                    c.reset(s)
            fake.wait_until(lambda: krtd.memory_files() == 0, "all are given up")
            client.load(model("n"))
            self.fails(StatusCode.RESOURCE_EXHAUSTED, client.load_messages,
                       [rt.LoadRequest(options=rt.LoadOptions(name="huge", size=2**63))], reason=Reason.LIMIT)


class Connections(Faults):
    def test_ten_thousand(self):
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(15000, resource.getrlimit(resource.RLIMIT_NOFILE)[1]),) * 2)
        with Krtd() as krtd, krtd.client() as client:
            client.load(model())
            self.serves(krtd, client)
            before = rss(krtd)
            held, refused = [], 0
            for i in range(CONNECTIONS):
                s = socket.socket(socket.AF_UNIX)
                self.addCleanup(s.close)
                s.connect(str(krtd.path))  # waits while the backlog is full
                s.settimeout(fake.SECONDS)
                held.append(s)
                if i % 1000 == 0:
                    self.assertEqual(client.infer(request()).outputs[0].data, tensor().data)
            fake.wait_until(lambda: "connection limit reached" in krtd.log(), "the warning")
            for s in held:  # a greeting (SETTINGS), or a clean end
                try:
                    refused += s.recv(1) == b""
                except ConnectionResetError:
                    refused += 1
            self.assertGreaterEqual(refused, CONNECTIONS - 4096)
            self.assertLess(refused, CONNECTIONS - 3000)
            self.assertEqual(client.infer(request()).outputs[0].data, tensor().data)
            self.assertLess(krtd.log().count("connection limit reached"), 50)
            self.bounded(krtd, before, 600 * MIB)
            for s in held:
                s.close()
            self.serves(krtd, client)

    def test_noise(self):
        noise = bytes(i * 167 % 251 for i in range(4096))
        greetings = (b"", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", noise, http2.PREFACE[:10], http2.PREFACE + noise,
                     http2.PREFACE + http2.frame(http2.SETTINGS, 0, 0, b"abc"),
                     http2.PREFACE + http2.frame(http2.SETTINGS, 0, 0) + http2.frame(http2.HEADERS, 5, 1, noise),
                     http2.PREFACE + http2.frame(http2.SETTINGS, 0, 0) + http2.frame(http2.DATA, 1, 7, noise),
                     b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + noise)
        with Krtd() as krtd, krtd.client() as client:
            client.load(model())
            before = rss(krtd)
            for _ in range(20):
                for greeting in greetings:
                    s = krtd.connect()
                    s.sendall(greeting)
                    s.close()
            self.serves(krtd, client)
            self.bounded(krtd, before, 100 * MIB)

    def test_calls_that_are_taken_back_at_once(self):
        """Streams opened and reset as fast as they can be written."""
        with Krtd() as krtd, krtd.client() as client:
            client.load(model())
            client.load(model("slow", sleep_ms=200))
            self.serves(krtd, client)
            before = rss(krtd)
            body = request("slow").SerializeToString()
            for _ in range(10):
                with http2.Connection(krtd.socket) as c:
                    try:
                        for _ in range(2000):
                            c.reset(c.call(INFER, body))
                    except (ConnectionError, BrokenPipeError):
                        pass  # the core may well have enough of it
            self.serves(krtd, client)
            fake.wait_until(lambda: client.model("slow").queued == 0, "what was taken back has left the queue")
            self.assertLess(client.model("slow").inferences, 2000)
            self.bounded(krtd, before, 200 * MIB)

    def test_a_peer_that_vanished(self):
        """Nothing comes from it any more, not even an acknowledgement: the connection and its work are given up."""
        with Krtd() as krtd, krtd.client() as client:
            client.load(model())
            gone = http2.Connection(krtd.socket, timeout=3 * KEEPALIVE_SECONDS)
            self.addCleanup(gone.close)
            upload = rt.LoadRequest(options=rt.LoadOptions(name="half", size=100)).SerializeToString()
            gone.call(LOAD, upload, end=False)
            fake.wait_until(lambda: krtd.memory_files() == 1, "its upload has begun")
            self.assertIsNone(gone.ended(0), "the daemon closes the connection")
            fake.wait_until(lambda: krtd.memory_files() == 0, "its upload is given up")
            self.serves(krtd, client)


class Files(Faults):
    """What the daemon writes cannot be written."""

    def test_no_room_for_an_upload(self):
        with Krtd() as krtd, krtd.client() as client:
            client.load(model())
            size = 64 * 1024
            subprocess.run(["prlimit", "--pid", str(krtd.process.pid), f"--fsize={size}"], check=True)
            for _ in range(3):
                self.fails(StatusCode.RESOURCE_EXHAUSTED, client.load_messages,
                           [rt.LoadRequest(options=rt.LoadOptions(name="big", size=MIB)),
                            rt.LoadRequest(chunk=bytes(MIB))])
                self.assertEqual(krtd.memory_files(), 0)
            self.assertEqual(client.load(model("small")).name, "small")
            self.serves(krtd, client)

    def test_a_log_that_is_full(self):
        for size in (0, 200):
            with self.subTest(size=size), Krtd("--log-level", "debug") as krtd, krtd.client() as client:
                client.load(model())
                written = krtd.log_path.stat().st_size
                subprocess.run(["prlimit", "--pid", str(krtd.process.pid), f"--fsize={written + size}"], check=True)
                for _ in range(20):  # a line for each
                    client.load(model("n"))
                    client.unload("n")
                self.serves(krtd, client)
                self.assertLessEqual(krtd.log_path.stat().st_size, written + size)


if __name__ == "__main__":
    unittest.main(verbosity=2)
