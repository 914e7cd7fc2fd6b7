#!/usr/bin/python3
"""Requests of models that share TPBs: what waits, what never runs, what is stopped."""

import unittest

import fake
from fake import Krtd, Reason, model, request, rt
from grpc import StatusCode


class Sharing(fake.TestCase):
    """All models of krtd-fake are on one TPB unless they say otherwise."""

    def test_what_waits_behind_another_model_and_is_given_up_never_runs(self):
        with Krtd() as krtd, krtd.client() as client:
            client.load(model("slow", sleep_ms=400))
            client.load(model("other", contexts=4))
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

    def test_unloading_one_lets_the_next_go_on(self):
        with Krtd() as krtd, krtd.client() as client:
            client.load(model("slow", sleep_ms=300))
            client.load(model("other"))
            slow = client.infer_later(request("slow"))
            fake.wait_until(lambda: client.model("slow").executions == 1, "the slow one runs")
            queued = client.infer_later(request("slow"))
            other = client.infer_later(request("other"))
            fake.wait_until(lambda: client.model("other").queued + client.model("slow").queued == 2, "both wait")
            client.unload("slow")
            slow.result()
            self.assertEqual(queued.code(), StatusCode.ABORTED)
            other.result()


class Timeouts(fake.TestCase):
    def test_a_stuck_execution_is_stopped_and_the_model_goes_on(self):
        with Krtd(limits={"execution_seconds": 1}) as krtd, krtd.client() as client:
            for host in (0, 1):
                name = f"stuck{host}"
                client.load(model(name, sleep_ms=600000, host=host))
                client.load(model(f"fine{host}"))
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

    def test_no_limit_is_no_limit(self):
        with Krtd(limits={"execution_seconds": 0}) as krtd, krtd.client() as client:
            client.load(model("m", sleep_ms=1200))
            client.infer(request())


if __name__ == "__main__":
    unittest.main(verbosity=2)
