#!/usr/bin/python3
"""Requests of models that share TPBs: what waits, what never runs, what is stopped."""

import unittest

import fake
from fake import Krtd, Reason, model, request, rt
from grpc import StatusCode


class Sharing(fake.TestCase):
    """Models in a group of one TPB."""

    def test_what_waits_behind_another_model_and_is_given_up_never_runs(self):
        with Krtd(env={"KAENA_TPB_GROUP_SIZES": "1"}.items()) as krtd, krtd.client() as client:
            client.load(model("slow", sleep_ms=400), group="g0")
            client.load(model("other", contexts=4), group="g0")
            slow = client.infer_later(request("slow"))
            fake.wait_until(lambda: client.model("slow").executions == 1, "the slow one runs")
            cancelled = [client.infer_later(request("other")) for _ in range(3)]
            late = client.infer_later(request("other"), timeout=0.1)
            wanted = client.infer_later(request("other"))
            fake.wait_until(lambda: client.model("other").queued == 5, "all of them wait")
            for call in cancelled:
                call.cancel()
            self.assertEqual(late.code(), StatusCode.DEADLINE_EXCEEDED)
            self.assertFalse(slow.done())
            wanted.result()
            slow.result()
            other = client.model("other")
            self.assertEqual((other.executions, other.inferences, other.failures), (1, 1, 4))
            self.assertEqual(client.model("slow").executions, 1)
            tpbs = client.devices().devices[0].tpb
            self.assertEqual([t.index for t in tpbs], [0, 1, 2, 3])
            self.assertGreater(tpbs[0].busy_ns, 400e6)
            self.assertEqual(tpbs[1].busy_ns, 0)

    def test_higher_priorities_go_first(self):
        with Krtd(env={"KAENA_TPB_GROUP_SIZES": "1"}.items()) as krtd, krtd.client() as client:
            client.load(model("a", sleep_ms=200), group="g0")
            client.load(model("b", sleep_ms=20), group="g0")
            calls = {"first": client.infer_later(request("a"))}
            fake.wait_until(lambda: client.model("a").executions == 1, "the first one runs")
            ended = []
            for name, of, priority in (("low", "a", -8), ("normal", "b", 0), ("high", "b", 7), ("higher", "a", 3)):
                message = request(of)
                message.priority = priority
                calls[name] = client.infer_later(message)
                calls[name].add_done_callback(lambda _, name=name: ended.append(name))
            fake.wait_until(lambda: client.model("a").queued == 2 and client.model("b").queued == 2, "four wait")
            for call in calls.values():
                call.result()
            fake.wait_until(lambda: len(ended) == 4, "all have ended")
            self.assertEqual(ended, ["high", "higher", "normal", "low"])
            for priority in (-9, 8):
                message = request("a")
                message.priority = priority
                self.fails(StatusCode.INVALID_ARGUMENT, client.infer, message, says="must be -8 to 7")

    def test_unloading_one_lets_the_next_go_on(self):
        with Krtd(env={"KAENA_TPB_GROUP_SIZES": "1"}.items()) as krtd, krtd.client() as client:
            client.load(model("slow", sleep_ms=300), group="g0")
            client.load(model("other"), group="g0")
            slow = client.infer_later(request("slow"))
            fake.wait_until(lambda: client.model("slow").executions == 1, "the slow one runs")
            queued = client.infer_later(request("slow"))
            other = client.infer_later(request("other"))
            fake.wait_until(lambda: client.model("other").queued + client.model("slow").queued == 2, "both wait")
            client.unload("slow")
            slow.result()
            self.assertEqual(queued.code(), StatusCode.ABORTED)
            other.result()


class Replicas(fake.TestCase):
    def test_one_queue_before_several_copies(self):
        with Krtd("--threads", "4") as krtd, krtd.client() as client:
            m = client.load(model("m", sleep_ms=400, contexts=1, dram=100), replicas=3)
            self.assertEqual((m.replicas, m.num_tpbs, m.contexts, m.dram_bytes), (3, 1, 3, 300))
            self.assertEqual(sorted((p.device, p.tpb) for p in m.tpbs), [(0, 0), (0, 1), (0, 2)])
            calls = [client.infer_later(request()) for _ in range(6)]
            fake.wait_until(lambda: client.model("m").executions == 3 and client.model("m").queued == 3,
                            "all copies run, the rest waits")
            for call in calls:
                call.result()
            self.assertEqual([t.busy_ns > 0 for t in client.devices().devices[0].tpb], [True] * 3 + [False])

    def test_as_many_as_there_is_room_for(self):
        with Krtd() as krtd, krtd.client() as client:
            m = client.load(model("all"), replicas=0xffffffff)
            self.assertEqual((m.replicas, len(m.tpbs)), (4, 4))
            client.unload("all")
            with self.assertRaises(fake.grpc.RpcError) as caught:
                client.load(model("five"), replicas=5)
            self.assertEqual(caught.exception.code(), StatusCode.FAILED_PRECONDITION)
            self.assertEqual(len(client.models()), 0)
            self.assertEqual(client.load(model("pair", tpbs=2), replicas=2).replicas, 2)


class Timeouts(fake.TestCase):
    def test_a_stuck_execution_is_stopped_and_the_model_goes_on(self):
        with Krtd(limits={"execution_seconds": 1}, env={"KAENA_TPB_GROUP_SIZES": "1"}.items()) as krtd, \
                krtd.client() as client:
            for host in (0, 1):
                name = f"stuck{host}"
                client.load(model(name, sleep_ms=600000, host=host), group="g0")
                client.load(model(f"fine{host}"), group="g0")
                calls = [client.infer_later(request(name)) for _ in range(2)]
                fine = client.infer_later(request(f"fine{host}"))
                detail = self.fails(StatusCode.DEADLINE_EXCEEDED, calls[0].result, reason=Reason.EXECUTION_TIMEOUT,
                                    says=(f"model '{name}': stopped after 1.", "the limit is 1.000 s"))
                self.assertIn("limits.execution_seconds", detail.hint)
                self.assertEqual(fine.result().outputs[0].data, fake.tensor().data)
                self.fails(StatusCode.DEADLINE_EXCEEDED, calls[1].result, reason=Reason.EXECUTION_TIMEOUT)
                m = client.model(name)
                self.assertEqual((m.state, m.executions, m.inferences, m.failures), (rt.READY, 2, 0, 2))
                client.unload(name)

    def test_a_model_has_a_limit_of_its_own(self):
        with Krtd() as krtd, krtd.client() as client:
            client.load(model("stuck", sleep_ms=600000), timeout_ms=50)
            client.load(model("long", sleep_ms=600000), timeout_ms=3600000)
            long = client.infer_later(request("long"))
            fake.wait_until(lambda: client.model("long").executions == 1, "it runs")
            for _ in range(3):
                self.fails(StatusCode.DEADLINE_EXCEEDED, client.infer, request("stuck"),
                           reason=Reason.EXECUTION_TIMEOUT, says="the limit is 0.050 s")
            self.assertFalse(long.done())
            long.cancel()
            fake.wait_until(lambda: client.model("long").failures == 1, "it has been stopped")

    def test_no_limit_is_no_limit(self):
        with Krtd(limits={"execution_seconds": 0}) as krtd, krtd.client() as client:
            client.load(model("m", sleep_ms=1200))
            client.infer(request())


if __name__ == "__main__":
    unittest.main(verbosity=2)
