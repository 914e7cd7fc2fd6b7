#!/usr/bin/python3
"""Sessions: what a client makes goes with it, and only then."""

import pathlib
import re
import subprocess
import sys
import threading
import unittest

import fake
import grpc
from fake import Krtd, Reason, model, request, rt, tensor
from grpc import StatusCode


def names(client):
    return sorted(m.name for m in client.models())


class Life(fake.TestCase):
    def test_a_token_of_128_bits(self):
        with Krtd() as krtd, krtd.client() as client:
            tokens = set()
            for _ in range(20):
                s = client.session()
                self.assertRegex(s.token, "^[0-9a-f]{32}$")
                self.assertFalse(s.opened.resumed)
                self.assertEqual(s.opened.daemon, "krtd0")
                tokens.add(s.token)
                s.say_goodbye()
            self.assertEqual(len(tokens), 20)

    def test_models_go_with_their_session(self):
        with Krtd() as krtd, krtd.client() as client, krtd.client() as other:
            s = client.session()
            client.load(model("mine"))
            kept = client.load(model("kept"), persistent=True)
            other.load(model("everybodys"))
            self.assertTrue(kept.persistent)
            self.assertFalse(other.model("mine").persistent)
            self.assertTrue(other.model("everybodys").persistent)
            self.assertEqual(other.infer(request("mine")).outputs[0].data, tensor().data, "others may use it")
            s.say_goodbye()
            fake.wait_until(lambda: names(other) == ["everybodys", "kept"], "the session's model is gone")

    def test_a_broken_stream_on_a_unix_socket_ends_it_at_once(self):
        with Krtd(limits={"session_seconds": 3600}) as krtd, krtd.client() as client, krtd.client() as other:
            s = client.session()
            client.load(model("mine"))
            s.break_off()
            fake.wait_until(lambda: names(other) == [], "the session's model is gone")
            self.fails(StatusCode.FAILED_PRECONDITION, client.load, model("more"), reason=Reason.NO_SESSION)

    def test_failures_name_their_session(self):
        with Krtd("--log-level", "debug") as krtd, krtd.client() as client, krtd.client() as other:
            def session_of(call, *arguments):
                with self.assertRaises(grpc.RpcError) as caught:
                    call(*arguments)
                request = dict(caught.exception.trailing_metadata())["kaena-request-id"]
                line = next(line for line in krtd.log().splitlines() if f"request {request} failed" in line)
                found = re.search(r" session=(\S+)", line)
                return found[1] if found else None

            client.session(name="first")
            s = client.session(name="second")
            number = re.search(r"session (\d+) of 'second' opened", krtd.log())[1]
            other.load(model("bad", fail="OUT_OF_RANGE"))
            post = client.method("InferPost", rt.InferPostResponse)
            calls = [(client.load, "rubbish"), (client.infer, request("nobody")), (client.infer, request("bad")),
                     (client.model, "nobody"), (client.unload, "nobody"), (post, request("nobody")),
                     (client.method("CreateGroup", rt.CreateGroupResponse), rt.CreateGroupRequest(name="g", tpbs=9999)),
                     (client.method("DestroyGroup", rt.DestroyGroupResponse), rt.DestroyGroupRequest(name="nobody")),
                     (client.method("UnmapSharedMemory", rt.UnmapSharedMemoryResponse),
                      rt.UnmapSharedMemoryRequest(region=77))]
            for call, argument in calls:
                self.assertEqual(session_of(call, argument), number, argument)
            self.assertIsNone(session_of(other.infer, request("bad")))
            self.assertIsNone(session_of(lambda: other.session("0" * 32)))
            _, posted = post.with_call(request("bad"))
            posted = dict(posted.trailing_metadata())["kaena-request-id"]
            fake.wait_until(lambda: f"request {posted} failed" in krtd.log(), "the posted request has failed")
            self.assertRegex(krtd.log(), rf"request {posted} failed: .* session={number} ")
            answers = client.method("InferStream", rt.InferStreamResponse, "stream_stream")(
                iter([rt.InferStreamRequest(id=1, request=request("bad"))]))
            failed = next(iter(answers)).error.request_id
            self.assertRegex(krtd.log(), rf"request {failed} failed: .* session={number} ")
            self.assertNotIn(s.token, krtd.log())

    def test_over_tcp_it_may_come_back(self):
        with Krtd(limits={"session_seconds": 3600}) as krtd, krtd.client() as other:
            first = fake.Client(krtd.tcp)
            s = first.session(name="one\nline")
            first.load(model("mine"))
            first.close()
            s.ended.set()
            fake.wait_until(lambda: re.search(r"stream of session \d+ of 'one\?line' broke", krtd.log()), "seen")
            with fake.Client(krtd.tcp) as second:
                back = second.session(s.token)
                self.assertTrue(back.opened.resumed)
                self.assertEqual(back.token, s.token)
                second.load(model("more"))
                self.assertEqual(names(other), ["mine", "more"])
                back.say_goodbye()
            fake.wait_until(lambda: names(other) == [], "all of both streams is gone")

    def test_over_tcp_its_time_ends(self):
        with Krtd(limits={"session_seconds": 1}) as krtd, krtd.client() as other:
            first = fake.Client(krtd.tcp)
            s = first.session()
            first.load(model("mine"))
            first.close()
            s.ended.set()
            fake.wait_until(lambda: names(other) == [], "the model is gone")
            self.assertIn("its stream did not come back", krtd.log())
            self.fails(StatusCode.FAILED_PRECONDITION, other.session, s.token, reason=Reason.NO_SESSION)

    def test_a_second_stream_takes_over(self):
        with Krtd(limits={"session_seconds": 3600}) as krtd, krtd.client() as client, krtd.client() as other:
            s = client.session()
            client.load(model("mine"))
            taken = other.session(s.token)
            with self.assertRaises(grpc.RpcError) as caught:
                next(s.call)
            self.assertEqual(caught.exception.code(), StatusCode.ABORTED)
            self.assertIn("another stream has taken it over", caught.exception.details())
            self.assertEqual(names(other), ["mine"], "the first stream's end is not the session's")
            taken.break_off()
            other.token = ""
            fake.wait_until(lambda: names(other) == [], "the second's is")

    def test_tokens_nobody_has(self):
        with Krtd() as krtd, krtd.client() as client:
            for token in ("f" * 32, "short", "f" * 33, ""):
                with self.subTest(token=token):
                    if token:
                        self.fails(StatusCode.FAILED_PRECONDITION, client.session, token, reason=Reason.NO_SESSION,
                                   says="open a new session")
                    client.token = ""
                    call = client.method("Load", rt.LoadResponse, "stream_unary")
                    self.fails(StatusCode.FAILED_PRECONDITION,
                               lambda: call(iter([]), metadata=[("kaena-session", token)], timeout=fake.SECONDS),
                               reason=Reason.NO_SESSION)

    def test_streams_that_are_wrong(self):
        with Krtd() as krtd, krtd.client() as client:
            def say(*messages):
                return list(client.method("Session", rt.SessionEvent, "stream_stream")(iter(messages)))
            self.fails(StatusCode.INVALID_ARGUMENT, say, says="ended before its message")
            two = [rt.SessionRequest(), rt.SessionRequest()]
            self.fails(StatusCode.INVALID_ARGUMENT, lambda: say(*two), says="more than one message")
            raw = client.channel.stream_stream("/kaena.v1.Runtime/Session", response_deserializer=rt.SessionEvent.FromString)
            self.fails(StatusCode.INVALID_ARGUMENT, lambda: list(raw(iter([b"\x0a\xff"]))), says="not a kaena.v1.SessionRequest")

    def test_limits(self):
        with Krtd(limits={"sessions": 3, "client_models": 2}) as krtd, krtd.client() as client:
            open_ones = [fake.Session(krtd.client()) for _ in range(3)]
            d = self.fails(StatusCode.RESOURCE_EXHAUSTED, client.session, reason=Reason.LIMIT, says="limits.sessions")
            self.assertEqual((d.needed, d.available), (4, 3))
            open_ones.pop().say_goodbye()
            s = client.session()
            for n in range(2):
                client.load(model(f"m{n}"))
            d = self.fails(StatusCode.RESOURCE_EXHAUSTED, client.load, model("m2"), reason=Reason.LIMIT,
                           says="limits.client_models")
            self.assertEqual((d.needed, d.available), (3, 2))
            client.load(model("m2"), persistent=True)
            client.unload("m0")
            client.load(model("m3"))
            s.say_goodbye()
            for other in open_ones:
                other.say_goodbye()

    def test_draining_is_told(self):
        with Krtd("--drain-timeout", "77") as krtd, krtd.client() as client:
            s = client.session()
            client.load(model(sleep_ms=300))
            running = client.infer_later(request())
            fake.wait_until(lambda: client.model("m").executions == 1, "it runs")
            krtd.signal()
            self.assertEqual(next(s.call).draining.seconds, 77)
            self.assertEqual(running.code(), StatusCode.OK)
            with self.assertRaises(grpc.RpcError) as caught:
                next(s.call)
            self.assertEqual(caught.exception.code(), StatusCode.UNAVAILABLE)
            self.assertEqual(fake.detail_of(caught.exception).reason, Reason.DRAINING)
            s.ended.set()
            self.assertEqual(krtd.wait(), 0)


class Loads(fake.TestCase):
    def test_a_load_is_abandoned_with_its_session(self):
        text = model("half")
        with Krtd() as krtd, krtd.client() as client, krtd.client() as other:
            s = client.session()
            hold = threading.Event()

            def messages():
                yield rt.LoadRequest(options=rt.LoadOptions(size=len(text)))
                yield rt.LoadRequest(chunk=text[:10].encode())
                hold.wait()

            load = client.load_call.future(messages(), timeout=fake.SECONDS)
            fake.wait_until(lambda: krtd.memory_files() == 1, "the load is under way")
            s.break_off()
            fake.wait_until(lambda: krtd.memory_files() == 0, "it is abandoned although its call still stands")
            self.assertNotEqual(load.code(), StatusCode.OK)
            hold.set()
            self.assertEqual(names(other), [])

    def test_loads_race_with_the_end(self):
        with Krtd() as krtd, krtd.client() as other:
            for n in range(40):
                with krtd.client() as client:
                    s = client.session()
                    loads = [client.load_call.future(iter([
                        rt.LoadRequest(options=rt.LoadOptions(name=f"m{k}", size=len(model()))),
                        rt.LoadRequest(chunk=model().encode())]), timeout=fake.SECONDS) for k in range(4)]
                    if n % 2:
                        loads[n % 4].exception()
                    s.break_off()
                    for load in loads:
                        load.exception()
                fake.wait_until(lambda: names(other) == [] and krtd.memory_files() == 0, "nothing is left")


class Killed(fake.TestCase):
    """A client of its own process, killed with everything in work."""

    BODY = """
import sys; sys.path.insert(0, {path!r})
import threading, time, fake
from fake import rt, model, request
from test_daemon_memory import Memory, map_memory, place, shared
from test_daemon_post import post
from test_daemon_stream import Stream
client = fake.Client({target!r})
s = client.session()
client.load(model("mine", sleep_ms=50))
client.load(model("large", outputs=["y float32 1000000"]))
memory = Memory()
region = map_memory(client, memory)
calls = [client.infer_later(request("mine")) for _ in range(20)]
calls += [client.infer_later(rt.InferRequest(model="mine", inputs=[shared(region)], places=[place(region, 64)]))
          for _ in range(20)]
stream = Stream(client)
for id in range(40):
    stream.send(id, request("mine" if id % 2 else "large"))  # nobody reads the answers
for _ in range(10):
    post(client, request("mine"))
    post(client, request("large"))
unread = client.method("InferWait", rt.InferResponse).future(rt.InferWaitRequest(cookie=post(client, request("mine"))))
def messages():
    yield rt.LoadRequest(options=rt.LoadOptions(name="half", size=100 << 20))
    for _ in range(10):
        yield rt.LoadRequest(chunk=bytes(1 << 20))
    time.sleep(600)
client.load_messages(messages())
"""

    def test_nothing_is_left(self):
        with Krtd() as krtd, krtd.client() as client:
            client.load(model("mine"))  # once, so that pools and threads are there
            client.infer(request("mine"))
            client.unload("mine")
            before = krtd.held()
            for _ in range(3):
                body = self.BODY.format(path=str(pathlib.Path(__file__).parent), target=krtd.socket)
                process = subprocess.Popen([sys.executable, "-c", body])
                try:
                    fake.wait_until(lambda: krtd.held()["mapped"] == 1 and krtd.memory_files() == 1,
                                    "a region and half a model")
                finally:
                    process.kill()
                    process.wait()
                    for left in pathlib.Path("/dev/shm").glob(f"kaena-test-{process.pid}-*"):
                        left.unlink()
                fake.wait_until(lambda: names(client) == [], "the models are gone")
                fake.wait_until(lambda: krtd.held() == before, f"descriptors and mappings are as before: {before}")


if __name__ == "__main__":
    unittest.main(verbosity=2)
