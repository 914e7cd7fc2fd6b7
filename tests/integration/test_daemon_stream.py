#!/usr/bin/python3
"""Many requests on one stream."""

import math
import queue
import signal
import struct
import threading
import time
import unittest

import fake
import grpc
from fake import Krtd, Reason, model, request, rt, tensor
from grpc import StatusCode

CODE = {code.value[0]: code for code in StatusCode}


class Stream:
    """An InferStream of |client|: what is sent, and what came, by id."""

    def __init__(self, client, timeout=fake.SECONDS):
        self.queue = queue.Queue()
        self.call = client.method("InferStream", rt.InferStreamResponse, "stream_stream")(iter(self.queue.get, None),
                                                                                          timeout=timeout)

    def send(self, id, what=None, **fields):
        self.queue.put(rt.InferStreamRequest(id=id, request=request() if what is None else what, **fields))

    def cancel(self, id):
        self.queue.put(rt.InferStreamRequest(id=id, cancel=True))

    def half_close(self):
        self.queue.put(None)

    def take(self, n=1):
        return [next(self.call) for _ in range(n)]


def error_of(answer, code, reason=None):
    assert answer.WhichOneof("what") == "error", answer
    assert CODE[answer.error.code] == code, answer
    assert answer.error.request_id.endswith(f"-{answer.id}"), answer
    assert reason is None or answer.error.detail.reason == reason, answer
    return answer.error.detail


class Answers(fake.TestCase):
    def test_each_gets_its_own(self):
        with Krtd() as krtd, krtd.client() as client:
            client.load(model("slow", contexts=2, sleep_ms=3))
            client.load(model("quick"))
            client.load(model("large", inputs=["x float32 300000"], outputs=["y float32 300000"]))
            s = Stream(client)
            expected = {}
            for id in range(300):
                name = ("slow", "quick", "large")[id % 3]
                n = 300000 if name == "large" else 2
                values = struct.pack("f", id) * n
                expected[id + (1 << 60)] = values
                s.send(id + (1 << 60), request(name, [tensor(shape=[n], data=values)]))
            s.half_close()
            answers = list(s.call)
            self.assertEqual(s.call.code(), StatusCode.OK)
            self.assertEqual({a.id: a.response.outputs[0].data for a in answers}, expected)
            self.assertEqual(len(answers), 300)

    def test_as_they_finish(self):
        with Krtd() as krtd, krtd.client() as client:
            client.load(model("slow", sleep_ms=1000))
            client.load(model("quick"))
            s = Stream(client)
            s.send(1, request("slow"))
            fake.wait_until(lambda: client.model("slow").executions == 1, "the slow one runs")
            s.send(2, request("quick"))
            self.assertEqual([a.id for a in s.take(2)], [2, 1])
            s.half_close()
            self.assertEqual(list(s.call), [])

    def test_errors_are_answers(self):
        with Krtd() as krtd, krtd.client() as client:
            client.load(model(fail="OUT_OF_RANGE"))
            client.load(model("good"))
            s = Stream(client)
            s.send(1, request("nothing"))
            s.send(2)
            s.send(3, request("good", [tensor("wrong")]))
            s.queue.put(rt.InferStreamRequest(id=4))
            s.send(0, request("good"))
            answers = {a.id: a for a in s.take(5)}
            error_of(answers[1], StatusCode.NOT_FOUND)
            self.assertIn("an index is out of range", error_of(answers[2], StatusCode.OUT_OF_RANGE, Reason.EXECUTION_FAILED).what)
            error_of(answers[3], StatusCode.INVALID_ARGUMENT, Reason.BAD_TENSOR)
            self.assertIn("neither a request nor", error_of(answers[4], StatusCode.INVALID_ARGUMENT).what)
            self.assertEqual(answers[0].response.outputs[0].data, tensor().data)
            s.half_close()
            self.assertEqual(list(s.call), [])
            for id in (1, 2, 3, 4):
                self.assertEqual(krtd.log().count(f"request {answers[id].error.request_id} "), 1, "a line each in the log")

    def test_an_id_that_is_taken(self):
        with Krtd() as krtd, krtd.client() as client:
            client.load(model(sleep_ms=300))
            s = Stream(client)
            s.send(7)
            s.send(7)
            first, second = s.take(2)
            error_of(first, StatusCode.ALREADY_EXISTS)
            self.assertEqual(second.response.outputs[0].data, tensor().data, "the earlier one goes on")
            s.send(7)
            self.assertEqual(s.take()[0].response.outputs[0].data, tensor().data, "answered ids are free again")
            s.half_close()
            self.assertEqual(list(s.call), [])

    def test_cancel(self):
        with Krtd() as krtd, krtd.client() as client:
            client.load(model(sleep_ms=300))
            s = Stream(client)
            for id in range(5):
                s.send(id)
            fake.wait_until(lambda: client.model("m").queued == 4, "four wait")
            for id in (1, 3, 99):
                s.cancel(id)
            answers = {a.id: a for a in s.take(5)}
            for id in (1, 3):
                error_of(answers[id], StatusCode.CANCELLED)
            for id in (0, 2, 4):
                self.assertEqual(answers[id].response.outputs[0].data, tensor().data)
            self.assertEqual(client.model("m").executions, 3, "what was cancelled never ran")
            s.half_close()
            self.assertEqual(list(s.call), [])

    def test_timeouts(self):
        with Krtd() as krtd, krtd.client() as client:
            client.load(model(sleep_ms=1000))
            s = Stream(client)
            s.send(1)
            fake.wait_until(lambda: client.model("m").executions == 1, "it runs")
            s.send(2, timeout_ms=50)
            s.send(3, timeout_ms=3600000)
            first, second, third = s.take(3)
            self.assertEqual((first.id, second.id, third.id), (2, 1, 3), "told when it is time, not when there is room")
            error_of(first, StatusCode.DEADLINE_EXCEEDED)
            self.assertEqual(client.model("m").executions, 2)
            s.half_close()
            self.assertEqual(list(s.call), [])

    def test_not_finite(self):
        with Krtd() as krtd, krtd.client() as client:
            client.load(model())
            s = Stream(client)
            for id, value in ((1, math.inf), (2, 1.0)):
                r = request(inputs=[tensor(values=(value, 0.0))])
                r.check_finite = True
                s.send(id, r)
            self.assertEqual({a.id: list(a.response.not_finite) for a in s.take(2)}, {1: ["y"], 2: []})
            s.half_close()


class Flow(fake.TestCase):
    def test_never_more_than_the_limit(self):
        with Krtd(limits={"stream_requests": 3, "queue_depth": 100}) as krtd, krtd.client() as client:
            client.load(model(sleep_ms=50))
            s = Stream(client)
            for id in range(20):
                s.send(id)
            most = 0
            for _ in range(20):
                s.take()
                m = client.model("m")
                most = max(most, m.queued + 1)
            self.assertLessEqual(most, 3)
            s.half_close()
            self.assertEqual(list(s.call), [])
            self.assertEqual(client.model("m").inferences, 20)

    def test_a_full_stream_can_cancel(self):
        with Krtd(limits={"stream_requests": 2}) as krtd, krtd.client() as client:
            client.load(model(sleep_ms=2000))
            s = Stream(client)
            s.send(1)
            s.send(2)
            fake.wait_until(lambda: client.model("m").queued == 1, "it is full")
            s.cancel(2)
            a, = s.take()
            self.assertEqual(a.id, 2)
            error_of(a, StatusCode.CANCELLED)
            s.call.cancel()

    def test_a_client_that_never_reads(self):
        n = 1 << 20
        with Krtd(limits={"stream_requests": 4}) as krtd, krtd.client(**{"grpc.http2.lookahead_bytes": 65536}) as client, \
                krtd.client() as other:
            client.load(model(inputs=["x float32 2"], outputs=[f"y float32 {n}"], contexts=4))
            s = Stream(client)
            for id in range(200):
                s.send(id)
            fake.wait_until(lambda: other.model("m").inferences >= 4, "some run")
            settled = self.settled(other)
            self.assertLess(settled, 30, "the others are not even read")
            self.assertEqual(other.infer(request()).outputs[0].name, "y", "nobody else waits")
            answers = s.take(200)
            self.assertEqual(sorted(a.id for a in answers), list(range(200)))
            s.half_close()
            self.assertEqual(list(s.call), [])

    def settled(self, client):
        """How many inferences there are when there come no more."""
        before = -1
        while before != (now := client.model("m").inferences):
            before = now
            time.sleep(0.5)  # longer than one takes
        return now

    def test_limits_of_streams(self):
        with Krtd(limits={"infer_streams": 2}) as krtd, krtd.client() as client, krtd.client() as other:
            client.load(model())
            streams = [Stream(client) for _ in range(2)]
            for s in streams:
                s.send(1)
                s.take()
            third = Stream(client)
            d = self.fails(StatusCode.RESOURCE_EXHAUSTED, third.take, reason=Reason.LIMIT, says="limits.infer_streams")
            self.assertEqual((d.needed, d.available), (3, 2))
            of_other = Stream(other)
            of_other.send(1)
            of_other.take()
            of_other.half_close()
            streams[0].half_close()
            self.assertEqual(list(streams[0].call), [])
            fourth = Stream(client)
            fourth.send(1)
            fourth.take()
            for s in (streams[1], fourth):
                s.half_close()


class Endings(fake.TestCase):
    def test_a_client_that_goes_takes_its_requests_along(self):
        with Krtd() as krtd, krtd.client() as other:
            other.load(model(sleep_ms=300))
            with krtd.client() as client:
                s = Stream(client)
                for id in range(30):
                    s.send(id, timeout_ms=3600000)
                fake.wait_until(lambda: other.model("m").queued == 29, "all wait")
            fake.wait_until(lambda: other.model("m").queued == 0, "they have left the queue")
            fake.wait_until(lambda: other.model("m").inferences + other.model("m").failures == 30, "the one that ran has ended")
            self.assertEqual(other.model("m").executions, 1)

    def test_unread_answers_of_a_client_that_goes(self):
        n = 1 << 20
        with Krtd() as krtd, krtd.client() as other:
            other.load(model(inputs=["x float32 2"], outputs=[f"y float32 {n}"], contexts=4))
            for _ in range(3):
                with krtd.client() as client:
                    s = Stream(client)
                    for id in range(40):
                        s.send(id)
                    fake.wait_until(lambda: other.model("m").inferences >= 4, "some run")
            other.unload("m")
            other.load(model())

    def test_the_streams_deadline(self):
        with Krtd() as krtd, krtd.client() as client:
            client.load(model(sleep_ms=500))
            s = Stream(client, timeout=1)
            for id in range(10):
                s.send(id)
            with self.assertRaises(grpc.RpcError) as caught:
                s.take(10)
            self.assertEqual(caught.exception.code(), StatusCode.DEADLINE_EXCEEDED)
            fake.wait_until(lambda: client.model("m").queued == 0, "what waited is gone")

    def test_draining(self):
        with Krtd() as krtd, krtd.client() as client:
            client.load(model(sleep_ms=300))
            idle, s = Stream(client), Stream(client)
            for id in range(4):
                s.send(id)
            fake.wait_until(lambda: client.model("m").queued == 3, "all are accepted")
            krtd.signal()
            fake.wait_until(lambda: "draining" in krtd.log(), "the signal has arrived")
            s.send(9)
            answers = {a.id: a for a in s.take(5)}
            error_of(answers[9], StatusCode.UNAVAILABLE, Reason.DRAINING)
            for id in range(4):
                self.assertEqual(answers[id].response.outputs[0].data, tensor().data)
            for each in (s, idle):
                self.fails(StatusCode.UNAVAILABLE, each.take, reason=Reason.DRAINING)
                each.half_close()
            self.assertEqual(krtd.wait(), 0)

    def test_requests_that_cross_the_end(self):
        """They come when their stream has been answered already: nobody is there to be told, and nothing is kept."""
        with Krtd() as krtd, krtd.client() as client:
            client.load(model())
            streams = [Stream(client) for _ in range(32)]
            for s in streams:
                s.send(0)
                s.take()
            krtd.signal(signal.SIGSTOP)
            for s in streams:
                for id in range(50):
                    s.send(id)
            time.sleep(0.3)  # all are in the daemon's socket, and it reads them while it ends the streams
            krtd.signal()
            krtd.signal(signal.SIGCONT)
            self.assertEqual(krtd.wait(), 0, "under AddressSanitizer: no leaks")
            for s in streams:
                s.half_close()

    def test_damaged_messages_end_the_stream(self):
        with Krtd() as krtd, krtd.client() as client:
            raw = client.channel.stream_stream("/kaena.v1.Runtime/InferStream")
            self.fails(StatusCode.INVALID_ARGUMENT, lambda: list(raw(iter([b"\x0a"]), timeout=fake.SECONDS)),
                       says="not an InferStreamRequest")
            hold = threading.Event()

            def messages():
                yield rt.InferStreamRequest(id=1, request=request()).SerializeToString()
                yield b"\x12\xff"
                hold.wait()

            client.load(model(sleep_ms=100))
            call = raw(messages(), timeout=fake.SECONDS)
            self.assertEqual(rt.InferStreamResponse.FromString(next(call)).id, 1, "what was accepted is answered")
            self.fails(StatusCode.INVALID_ARGUMENT, lambda: next(call))
            hold.set()


if __name__ == "__main__":
    unittest.main(verbosity=2)
