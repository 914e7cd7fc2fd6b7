#!/usr/bin/python3
"""Clients that die, descriptors that run out, endings with work in hand."""

import pathlib
import signal
import subprocess
import sys
import time
import unittest

import fake
import grpc
from fake import Krtd, Reason, health, model, request, rt, tensor
from grpc import StatusCode

SERVING = health.HealthCheckResponse.SERVING
IDLE = 2000


class Clients(fake.TestCase):
    """A client of its own process, killed at the worst moment."""

    def killed(self, krtd, body, when):
        script = (f"import sys; sys.path.insert(0, {str(pathlib.Path(__file__).parent)!r})\n"
                  f"import time, fake\nfrom fake import rt, model, request\nclient = fake.Client({krtd.socket!r})\n{body}")
        process = subprocess.Popen([sys.executable, "-c", script])
        try:
            fake.wait_until(when, "the client has got so far")
        finally:
            process.kill()
            process.wait()

    def test_killed_in_the_middle_of_load(self):
        body = """
def messages():
    yield rt.LoadRequest(options=rt.LoadOptions(name="half", size=100 << 20))
    for _ in range(10):
        yield rt.LoadRequest(chunk=bytes(1 << 20))
    time.sleep(600)
client.load_messages(messages())
"""
        with Krtd() as krtd, krtd.client() as client:
            for _ in range(3):
                self.killed(krtd, body, lambda: krtd.memory_files() == 1)
                fake.wait_until(lambda: krtd.memory_files() == 0, "the memory is given back")
            self.assertEqual(len(client.models()), 0)
            self.assertEqual(client.load(model("half")).name, "half")

    def test_killed_in_the_middle_of_infer(self):
        def counts():
            m = client.model("m")
            return m.executions, m.queued, m.failures

        with Krtd() as krtd, krtd.client() as client:
            client.load(model(sleep_ms=60000))  # ends when it is cancelled
            client.load(model("other"))
            mine = client.infer_later(request())  # another's, so that no end of his lets one of the killed begin
            self.killed(krtd, "calls = [client.infer_later(request()) for _ in range(5)]\ntime.sleep(600)",
                        lambda: counts() == (1, 5, 0))
            fake.wait_until(lambda: counts() == (1, 0, 5), "what waited has left the queue and never ran")
            mine.cancel()
            fake.wait_until(lambda: counts() == (1, 0, 6), "the other's has ended")
            self.killed(krtd, "call = client.infer_later(request())\ntime.sleep(600)", lambda: counts() == (2, 0, 6))
            fake.wait_until(lambda: counts() == (2, 0, 7), "what ran has ended")
            self.assertEqual(client.infer(request("other")).outputs[0].data, tensor().data)

    def test_a_cancelled_request_leaves_the_queue_and_never_runs(self):
        with Krtd() as krtd, krtd.client() as client:
            client.load(model(sleep_ms=500))
            calls = [client.infer_later(request()) for _ in range(4)]
            fake.wait_until(lambda: client.model("m").queued == 3, "three wait")
            for call in calls[1:]:
                call.cancel()
            fake.wait_until(lambda: client.model("m").queued == 0, "the cancelled ones are gone")
            self.assertEqual(calls[0].code(), StatusCode.OK)
            m = client.model("m")
            self.assertEqual((m.inferences, m.failures), (1, 3))


class Descriptors(fake.TestCase):
    def test_out_of_descriptors_and_back(self):
        with Krtd(nofile=64) as krtd, krtd.client() as client:
            client.load(model())
            idle = []
            for _ in range(200):
                idle.append(krtd.connect())
            fake.wait_until(lambda: "no file descriptors left" in krtd.log(), "the warning")
            # Who is connected is served; who is not is refused at once rather than left waiting.
            for _ in range(20):
                self.assertEqual(client.infer(request()).outputs[0].data, tensor().data)
            refused = idle[-1].recv(64)
            self.assertEqual(refused, b"")
            self.assertLess(krtd.log().count("no file descriptors left"), 10, "said once, not for each")
            self.fails(StatusCode.RESOURCE_EXHAUSTED, client.load, model("n"), says="Too many open files")
            for s in idle:
                s.close()
            with krtd.client() as fresh:
                fake.wait_until(lambda: self.serves(fresh), "new connections are served again")
                fresh.load(model("n"))

    def serves(self, client):
        try:
            return client.check(timeout=1) == SERVING
        except grpc.RpcError:
            return False

    def test_idle_connections(self):
        with Krtd() as krtd, krtd.client() as client:
            client.load(model())
            idle = [krtd.connect() for _ in range(IDLE)]
            self.assertEqual(client.infer(request()).outputs[0].data, tensor().data)
            with krtd.client() as fresh:
                self.assertEqual(fresh.infer(request()).outputs[0].data, tensor().data)
            for s in idle[::2]:
                s.close()
            self.assertEqual(client.check(), SERVING)
            # The daemon ends although a thousand are still connected.
            krtd.signal()
            self.assertEqual(krtd.wait(), 0)
            for s in idle:
                s.close()


class Endings(fake.TestCase):
    def test_accepted_work_is_finished_and_new_work_refused(self):
        with Krtd() as krtd, krtd.client() as client, krtd.client() as late:
            client.load(model(sleep_ms=200))
            late.check()  # connected before the listener goes
            calls = [client.infer_later(request()) for _ in range(5)]
            fake.wait_until(lambda: client.model("m").queued == 4, "all are accepted")
            krtd.signal()
            fake.wait_until(lambda: "draining" in krtd.log(), "the signal has arrived")
            self.fails(StatusCode.UNAVAILABLE, late.infer, request(), reason=Reason.DRAINING, says="shutting down")
            self.fails(StatusCode.UNAVAILABLE, late.load, model("n"), reason=Reason.DRAINING)
            self.fails(StatusCode.UNAVAILABLE, late.unload, "m", reason=Reason.DRAINING)
            self.assertEqual(len(late.models()), 1, "what needs no model is still answered")
            for call in calls:
                self.assertEqual(call.code(), StatusCode.OK, call.details())
                self.assertEqual(call.result().outputs[0].data, tensor().data)
            self.assertEqual(krtd.wait(), 0)
            self.assertIn("stopped", krtd.log())

    def test_large_answers_arrive_whole(self):
        n = 4 << 20
        with Krtd() as krtd, krtd.client() as client:
            client.load(model(inputs=["x float32 2"], outputs=[f"y float32 {n}"], contexts=2, sleep_ms=100))
            calls = [client.infer_later(request()) for _ in range(4)]
            fake.wait_until(lambda: client.model("m").queued == 2, "all are accepted")
            krtd.signal()
            for call in calls:
                self.assertEqual(len(call.result().outputs[0].data), 4 * n)
            self.assertEqual(krtd.wait(), 0)

    def test_a_second_signal_does_not_wait(self):
        self.cut_off(["--drain-timeout", "3600"], second=True, says="again: 1 requests are cut off")

    def test_time_is_up(self):
        self.cut_off(["--drain-timeout", "1"], second=False, says="1 seconds are over, 1 requests are cut off")

    def cut_off(self, options, second, says):
        krtd = Krtd(*options)
        try:
            with krtd.client() as client:
                client.load(model(sleep_ms=30000))
                call = client.infer_later(request())
                fake.wait_until(lambda: client.model("m").state == rt.READY, "loaded")
                time.sleep(0.2)  # until it runs: nothing tells
                krtd.signal()
                if second:
                    fake.wait_until(lambda: "draining, 1 requests" in krtd.log(), "draining")
                    krtd.signal()
                self.assertEqual(krtd.wait(), 1)
                self.assertEqual(call.code(), StatusCode.UNAVAILABLE)
                self.assertIn(says, krtd.log())
                self.assertFalse(krtd.path.exists())
        finally:
            krtd.process.kill()
            krtd.process.wait()
            fake.shutil.rmtree(krtd.dir)

    def test_a_load_in_progress_is_finished(self):
        text = model("late")

        def messages():
            yield rt.LoadRequest(options=rt.LoadOptions(name="late", size=len(text)))
            yield rt.LoadRequest(chunk=text[:10].encode())
            fake.wait_until(lambda: krtd.memory_files() == 1, "the load is accepted")
            krtd.signal()
            fake.wait_until(lambda: "draining" in krtd.log(), "the signal has arrived")
            yield rt.LoadRequest(chunk=text[10:].encode())

        with Krtd() as krtd, krtd.client() as client:
            self.assertEqual(client.load_messages(messages()).name, "late")
            self.assertEqual(krtd.wait(), 0)


if __name__ == "__main__":
    unittest.main(verbosity=2)
