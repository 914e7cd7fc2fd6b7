#!/usr/bin/python3
"""Requests whose answer is fetched later."""

import math
import unittest

import fake
import grpc
from fake import Krtd, Reason, model, request, rt, tensor
from grpc import StatusCode


def post(client, r=None, **options):
    return client.method("InferPost", rt.InferPostResponse)(request() if r is None else r, timeout=fake.SECONDS,
                                                            **options).cookie


def wait(client, cookie, timeout=fake.SECONDS):
    return client.method("InferWait", rt.InferResponse)(rt.InferWaitRequest(cookie=cookie), timeout=timeout)


def wait_later(client, cookie):
    return client.method("InferWait", rt.InferResponse).future(rt.InferWaitRequest(cookie=cookie), timeout=fake.SECONDS)


class Posts(fake.TestCase):
    def test_fetched_once(self):
        with Krtd() as krtd, krtd.client() as client, krtd.client() as other:
            client.load(model(sleep_ms=100, contexts=2))
            cookies = [post(client, request(inputs=[tensor(values=(n, 0))])) for n in range(8)]
            self.assertEqual(len(set(cookies)), 8)
            self.assertNotIn(0, cookies)
            for n, cookie in reversed(list(enumerate(cookies))):
                answer = wait(other if n % 2 else client, cookie)  # without a session anybody with the cookie
                self.assertEqual(answer.outputs[0].data, tensor(values=(n, 0)).data)
                self.fails(StatusCode.NOT_FOUND, wait, client, cookie, reason=Reason.ANSWER_FETCHED, says="has been fetched")
            self.fails(StatusCode.NOT_FOUND, wait, client, 12345, says="none was posted")
            self.fails(StatusCode.NOT_FOUND, wait, client, 0)

    def test_large_answers(self):
        n = 1 << 20
        with Krtd() as krtd, krtd.client() as client:
            client.load(model(inputs=[f"x float32 {n}"], outputs=[f"y float32 {n}"]))
            data = b"\x01\x02\x03\x04" * n
            cookies = [post(client, request(inputs=[tensor(shape=[n], data=data)])) for _ in range(3)]
            for cookie in cookies:
                self.assertEqual(wait(client, cookie).outputs[0].data, data)

    def test_refusals_and_failures(self):
        with Krtd() as krtd, krtd.client() as client:
            client.load(model(fail="OUT_OF_RANGE"))
            client.load(model("full", sleep_ms=1000), queue_depth=1)
            self.fails(StatusCode.NOT_FOUND, post, client, request("nothing"))
            self.fails(StatusCode.INVALID_ARGUMENT, post, client, request(inputs=[]), reason=Reason.BAD_TENSOR)
            cookie = post(client)
            self.fails(StatusCode.OUT_OF_RANGE, wait, client, cookie, reason=Reason.EXECUTION_FAILED)
            self.fails(StatusCode.NOT_FOUND, wait, client, cookie, says="has been fetched")
            kept = [post(client, request("full")) for _ in range(2)]
            self.fails(StatusCode.RESOURCE_EXHAUSTED, post, client, request("full"), reason=Reason.QUEUE_FULL)
            for cookie in kept:
                self.assertEqual(wait(client, cookie).outputs[0].data, tensor().data)

    def test_not_finite_is_told_with_the_answer(self):
        with Krtd() as krtd, krtd.client() as client:
            client.load(model())
            r = request(inputs=[tensor(values=(math.nan, 0))])
            r.check_finite = True
            answer, call = client.method("InferWait", rt.InferResponse).with_call(
                rt.InferWaitRequest(cookie=post(client, r)), timeout=fake.SECONDS)
            self.assertEqual(list(answer.not_finite), ["y"])
            status = fake.status_pb2.Status.FromString(dict(call.trailing_metadata())["grpc-status-details-bin"])
            self.assertEqual(rt.ErrorDetail.FromString(status.details[0].value).reason, Reason.NOT_FINITE)

    def test_a_cancelled_wait_loses_nothing(self):
        with Krtd() as krtd, krtd.client() as client:
            client.load(model(sleep_ms=500))
            cookie = post(client)
            first = wait_later(client, cookie)
            fake.wait_until(lambda: self.taken(client, cookie), "the first waits")
            first.cancel()
            with self.assertRaises(grpc.RpcError) as caught:
                wait(client, cookie, timeout=0.05)
            self.assertIn(caught.exception.code(), (StatusCode.DEADLINE_EXCEEDED, StatusCode.FAILED_PRECONDITION))
            fake.wait_until(lambda: not self.taken_now(client, cookie), "nobody waits any more")
            self.assertEqual(self.last.outputs[0].data, tensor().data)

    def taken(self, client, cookie):
        """Somebody else waits; asking takes no time of his."""
        try:
            wait(client, cookie, timeout=0.02)
        except grpc.RpcError as error:
            return error.code() == StatusCode.FAILED_PRECONDITION
        raise AssertionError("fetched")

    def taken_now(self, client, cookie):
        try:
            self.last = wait(client, cookie)
        except grpc.RpcError as error:
            self.assertEqual(error.code(), StatusCode.FAILED_PRECONDITION)
            return True
        return False

    def test_a_client_that_goes_while_the_answer_is_on_its_way(self):
        n = 4 << 20
        with Krtd() as krtd, krtd.client() as client:
            client.load(model(inputs=["x float32 2"], outputs=[f"y float32 {n}"]))
            cookie = post(client)
            fake.wait_until(lambda: client.model("m").inferences == 1, "it is there")
            unread = client.method("InferWait", rt.InferResponse, "unary_stream")  # a stream is read only on demand
            for _ in range(3):
                first = unread(rt.InferWaitRequest(cookie=cookie), timeout=fake.SECONDS)
                first.initial_metadata()  # it is being sent
                second = unread(rt.InferWaitRequest(cookie=cookie), timeout=fake.SECONDS)
                fake.wait_until(lambda: self.taken(client, cookie), "the second waits for what becomes of the first")
                first.cancel()
                second.initial_metadata()  # now it is the second's
                second.cancel()
            fake.wait_until(lambda: not self.taken_now(client, cookie), "nobody waits any more")
            self.assertEqual(len(self.last.outputs[0].data), 4 * n)
            self.fails(StatusCode.NOT_FOUND, wait, client, cookie, says="has been fetched")

    def test_looking(self):
        look = lambda client, cookie: client.method("InferWait", rt.InferResponse)(
            rt.InferWaitRequest(cookie=cookie, only_look=True), timeout=fake.SECONDS)
        with Krtd() as krtd, krtd.client() as client:
            client.load(model(sleep_ms=300))
            cookie = post(client)
            waiting = wait_later(client, cookie)
            self.fails(StatusCode.FAILED_PRECONDITION, look, client, cookie, reason=Reason.NOT_DONE, says="no answer yet")
            self.assertEqual(waiting.result().outputs[0].data, tensor().data)
            self.fails(StatusCode.NOT_FOUND, look, client, cookie, reason=Reason.ANSWER_FETCHED)
            cookie = post(client)
            fake.wait_until(lambda: client.model("m").inferences == 2, "it is there")
            self.assertEqual(look(client, cookie).outputs[0].data, tensor().data)

    def test_waits_of_a_limited_time(self):
        def wait_for_ms(client, cookie, ms):
            return client.method("InferWait", rt.InferResponse)(rt.InferWaitRequest(cookie=cookie, timeout_ms=ms),
                                                                timeout=fake.SECONDS)
        with Krtd() as krtd, krtd.client() as client:
            client.load(model(sleep_ms=1000))
            cookie = post(client)
            for _ in range(3):
                self.fails(StatusCode.DEADLINE_EXCEEDED, wait_for_ms, client, cookie, 10, reason=Reason.NOT_DONE,
                           says="no answer in time")
            self.assertEqual(wait_for_ms(client, cookie, 1000 * fake.SECONDS).outputs[0].data, tensor().data)
            self.fails(StatusCode.NOT_FOUND, wait_for_ms, client, cookie, 10, reason=Reason.ANSWER_FETCHED)
            cookie = post(client)
            fake.wait_until(lambda: client.model("m").inferences == 2, "it is there")
            self.assertEqual(wait_for_ms(client, cookie, 1).outputs[0].data, tensor().data)

    def test_the_posting_client_may_go(self):
        with Krtd() as krtd, krtd.client() as other:
            other.load(model(sleep_ms=200))
            with krtd.client() as client:
                cookie = post(client)
            self.assertEqual(wait(other, cookie).outputs[0].data, tensor().data)

    def test_they_expire(self):
        with Krtd(limits={"posted_seconds": 1}) as krtd, krtd.client() as client:
            client.load(model())
            cookies = [post(client) for _ in range(5)]
            fake.wait_until(lambda: krtd.log().count("expired") == 5, "their time is over")
            for cookie in cookies:
                self.fails(StatusCode.NOT_FOUND, wait, client, cookie, reason=Reason.ANSWER_EXPIRED,
                           says="limits.posted_seconds")

    def test_limits(self):
        with Krtd(limits={"posted_results": 3, "posted_bytes": 4096}) as krtd, krtd.client() as client, krtd.client() as other:
            client.load(model())
            client.load(model("large", outputs=["y float32 512"]))
            cookies = [post(client) for _ in range(3)]
            d = self.fails(StatusCode.RESOURCE_EXHAUSTED, post, client, reason=Reason.LIMIT, says="limits.posted_results")
            self.assertEqual((d.needed, d.available), (4, 3))
            theirs = post(other)
            wait(client, cookies.pop())
            fake.wait_until(lambda: self.fits(client, cookies), "there is room for one again")
            for cookie in cookies:
                wait(client, cookie)
            wait(other, theirs)
            with krtd.client() as third:
                large = [post(third, request("large")) for _ in range(2)]
                d = self.fails(StatusCode.RESOURCE_EXHAUSTED, post, third, reason=Reason.LIMIT, says="limits.posted_bytes")
                self.assertEqual((d.needed, d.available), (4096 + 8, 4096))
                for cookie in large:
                    wait(third, cookie)

    def fits(self, client, cookies):
        try:
            cookies.append(post(client))
        except grpc.RpcError as error:
            self.assertEqual(error.code(), StatusCode.RESOURCE_EXHAUSTED)
            return False
        return True


class Sessions(fake.TestCase):
    def test_only_its_session_fetches(self):
        with Krtd() as krtd, krtd.client() as client, krtd.client() as other:
            other.load(model())
            s = client.session()
            cookie = post(client)
            self.fails(StatusCode.NOT_FOUND, wait, other, cookie, says="none was posted")
            t = other.session()
            self.fails(StatusCode.NOT_FOUND, wait, other, cookie, says="none was posted")
            self.assertEqual(wait(client, cookie).outputs[0].data, tensor().data)
            s.say_goodbye()
            t.say_goodbye()

    def test_they_go_with_their_session(self):
        with Krtd() as krtd, krtd.client() as client, krtd.client() as other:
            other.load(model(sleep_ms=300))
            s = client.session()
            cookies = [post(client) for _ in range(6)]
            waiting = wait_later(client, cookies[5])
            client.devices()  # on the same connection: the wait has come before it
            fake.wait_until(lambda: other.model("m").executions == 1, "the first runs")
            s.break_off()
            self.assertEqual(waiting.code(), StatusCode.ABORTED)
            self.assertEqual(fake.detail_of(waiting).reason, Reason.NO_SESSION)
            fake.wait_until(lambda: other.model("m").queued == 0, "what waited has left the queue")
            fake.wait_until(lambda: other.model("m").inferences + other.model("m").failures == 6, "all is over")
            self.assertEqual(other.model("m").executions, 1, "and never ran")
            for cookie in cookies:
                self.fails(StatusCode.NOT_FOUND, wait, other, cookie, says="its session has ended")


class Endings(fake.TestCase):
    def test_answers_are_fetched_while_the_daemon_drains(self):
        with Krtd() as krtd, krtd.client() as client:
            client.load(model(sleep_ms=300))
            cookies = [post(client) for _ in range(3)]
            krtd.signal()
            fake.wait_until(lambda: "draining, 3 requests" in krtd.log(), "the signal has arrived")
            self.fails(StatusCode.UNAVAILABLE, post, client, reason=Reason.DRAINING)
            for cookie in cookies:
                self.assertEqual(wait(client, cookie).outputs[0].data, tensor().data)
            self.assertEqual(krtd.wait(), 0)

    def test_what_nobody_fetches_does_not_hold_it(self):
        with Krtd("--drain-timeout", "2") as krtd, krtd.client() as client:
            client.load(model())
            post(client)
            fake.wait_until(lambda: client.model("m").inferences == 1, "it has run")
            krtd.signal()
            self.assertEqual(krtd.wait(), 0)


if __name__ == "__main__":
    unittest.main(verbosity=2)
