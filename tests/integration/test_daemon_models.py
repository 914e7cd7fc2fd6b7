#!/usr/bin/python3
"""Models in a daemon: load, infer, queues, damage, unload, and what is said when one of them goes wrong."""

import struct
import threading
import unittest

import fake
from fake import FLOAT32, Krtd, Reason, health, model, request, rt, tensor, tensors
from grpc import StatusCode

SERVING = health.HealthCheckResponse.SERVING
NOT_SERVING = health.HealthCheckResponse.NOT_SERVING
TWO = dict(inputs=["x float32 2", "n int64 -"], outputs=["y float32 2", "z int64 -", "w float32 3"])


class Load(fake.TestCase):
    def test_a_model_is_described(self):
        with Krtd() as krtd, krtd.client() as client:
            m = client.load(model("net", contexts=2, dram=1000, **TWO), name="given", queue_depth=9)
            self.assertEqual(m, client.model("given"))
            self.assertEqual([m], list(client.models()))
            self.assertEqual((m.name, m.state, m.queue_depth, m.contexts, m.dram_bytes), ("given", rt.READY, 9, 2, 1000))
            self.assertEqual([(t.name, t.dtype, list(t.shape)) for t in m.inputs], [("x", 1, [2]), ("n", 7, [])])
            self.assertEqual([t.name for t in m.outputs], ["y", "z", "w"])
            device = client.devices().devices[0]
            self.assertEqual((list(device.models), device.dram_used_bytes, device.tpbs, device.pci),
                             (["given"], 1000, 4, "0000:00:1f.0"))
            client.unload("given")
            self.assertEqual(client.devices().devices[0].dram_used_bytes, 0)
            self.fails(StatusCode.NOT_FOUND, client.model, "given", says="no model 'given'; none is loaded")

    def test_names(self):
        with Krtd(limits={"models": 3}) as krtd, krtd.client() as client:
            client.load(model("a"))
            client.load(model("a"), name="b/v1:2@x+y")
            self.fails(StatusCode.ALREADY_EXISTS, client.load, model("a"), says=("a model 'a' is loaded already", "unload"))
            for bad in ("a b", "x" * 129, "ü", "a\n"):
                self.fails(StatusCode.INVALID_ARGUMENT, client.load, model(), bad, says="model name")
            self.fails(StatusCode.INVALID_ARGUMENT, client.load, model(""), says="model name ''")
            client.load(model("x"), name="x" * 128)
            detail = self.fails(StatusCode.RESOURCE_EXHAUSTED, client.load, model("d"), reason=Reason.LIMIT,
                                says="the limit of this daemon is 3")
            self.assertEqual((detail.needed, detail.available), (4, 3))
            self.fails(StatusCode.NOT_FOUND, client.unload, "q", says="no model 'q'; loaded: a, b/v1:2@x+y, ")

    def test_streams_that_are_wrong(self):
        size = lambda n, **more: rt.LoadRequest(options=rt.LoadOptions(size=n, **more))
        chunk = lambda n: rt.LoadRequest(chunk=bytes(n))
        with Krtd(limits={"model_bytes": 4096, "queue_depth": 8}) as krtd, krtd.client() as client:
            for messages, says in (
                    ([], "ended before the options"), ([chunk(3)], "first message must carry options"),
                    ([rt.LoadRequest()], "first message must carry options"),
                    ([size(0)], "neither path nor size"), ([size(5)], "ended after 0 of 5 bytes"),
                    ([size(5), chunk(3)], "ended after 3 of 5 bytes"), ([size(5), chunk(6)], "more than the 5 bytes"),
                    ([size(5), chunk(3), chunk(3)], "more than the 5 bytes"), ([size(5), size(5)], "got options again"),
                    ([size(5), rt.LoadRequest()], "got an empty message"), ([size(5, path="x")], "path or size, not both"),
                    ([size(5, queue_depth=9)], "queue_depth 9, the limit of this daemon is 8")):
                self.fails(StatusCode.INVALID_ARGUMENT, client.load_messages, messages, says=says)
            detail = self.fails(StatusCode.RESOURCE_EXHAUSTED, client.load_messages, [size(4097)], reason=Reason.LIMIT,
                                says="4097 bytes, the limit of this daemon is 4096")
            self.assertEqual((detail.needed, detail.available), (4097, 4096))
            self.fails(StatusCode.DATA_LOSS, client.load_messages, [size(4096), chunk(4096)],
                       reason=Reason.BAD_ARTIFACT, says="is not a model")
            self.assertEqual(len(client.models()), 0)
            client.load(model(), chunk=1)
            client.load(model("whole"), chunk=4096)

    def test_messages_call_what_is_sent_what_its_client_does(self):
        with Krtd() as krtd, krtd.client() as client:
            long = b"/" + b"x" * 300 + b"/m.neff"
            for called, options in (("given", {"name": "given", "file": b"my/file.neff"}), ("my/file.neff", {"file": b"my/file.neff"}),
                                    (long[-100:].decode(), {"file": long}), ("unnamed", {}), ("a", {"file": b"a\0b"}),
                                    ("?.neff", {"file": b"\xff.neff"})):
                self.fails(StatusCode.DATA_LOSS, lambda: client.load("rubbish", **options), says=f"'{called}' is not a model")
            self.fails(StatusCode.RESOURCE_EXHAUSTED, lambda: client.load(model(dram=1 << 40), file=b"my/file.neff"),
                       says="load 'my/file.neff': ")

    def test_loads_at_a_time_are_bounded(self):
        with Krtd(limits={"loads": 2}) as krtd, krtd.client() as client:
            go = threading.Event()
            text = model()

            def messages(name):
                yield rt.LoadRequest(options=rt.LoadOptions(name=name, size=len(text)))
                go.wait(fake.SECONDS)
                yield rt.LoadRequest(chunk=text.encode())

            loads = [client.load_call.future(messages(name), timeout=fake.SECONDS) for name in "ab"]
            fake.wait_until(lambda: krtd.memory_files() == 2, "two loads are in progress")
            self.fails(StatusCode.RESOURCE_EXHAUSTED, client.load, text, reason=Reason.LIMIT,
                       says="2 loads are in progress")
            go.set()
            self.assertEqual([load.result().model.name for load in loads], ["a", "b"])
            client.load(model("c"))

    def test_by_path(self):
        with Krtd() as krtd, krtd.client() as client:
            self.fails(StatusCode.PERMISSION_DENIED, client.load_path, "a.neff", says=("no model directory", "--model-dir"))
        directory = krtd.dir.parent / (krtd.dir.name + "-models")
        outside = krtd.dir.parent / (krtd.dir.name + "-models-secret")
        directory.mkdir()
        try:
            (directory / "sub").mkdir()
            (directory / "sub" / "a.neff").write_text(model("a"))
            (directory / "link.neff").symlink_to("sub/a.neff")
            outside.write_text(model("secret"))
            (directory / "out.neff").symlink_to(outside)
            (directory / "out").symlink_to("/")
            with Krtd("--model-dir", str(directory)) as krtd, krtd.client() as client:
                for path, name in (("sub/a.neff", "1"), (directory / "sub/a.neff", "2"), ("link.neff", "3"),
                                   ("sub/../link.neff", "4"), (f"{directory}//sub/a.neff", "5")):
                    self.assertEqual(client.load_path(path, name).name, name)
                self.assertEqual(client.load_path("sub/a.neff").name, "a")
                for path in ("out.neff", outside, f"../{outside.name}", f"sub/../../{outside.name}", "/etc/passwd",
                             "out/etc/passwd", f"{directory}/../{outside.name}"):
                    self.fails(StatusCode.PERMISSION_DENIED, client.load_path, path, "x",
                               says="leads out of the model directory")
                self.fails(StatusCode.NOT_FOUND, client.load_path, "none.neff", says="No such file")
                self.fails(StatusCode.INVALID_ARGUMENT, client.load_path, "sub", says="not a regular file")
                self.fails(StatusCode.INVALID_ARGUMENT, client.load_path, "sub/a.neff", "no good")
        finally:
            fake.shutil.rmtree(directory)
            outside.unlink()

    def test_answers_that_no_message_can_carry(self):
        with Krtd() as krtd, krtd.client() as client:
            self.fails(StatusCode.RESOURCE_EXHAUSTED, client.load, model(outputs=["y float32 500000001"]),
                       reason=Reason.LIMIT, says="an answer may have 2000000000")
            self.assertEqual(len(client.models()), 0)

    def test_memory(self):
        with Krtd() as krtd, krtd.client() as client:
            client.load(model("a", dram=600000))
            detail = self.fails(StatusCode.RESOURCE_EXHAUSTED, client.load, model("b", dram=500000),
                                reason=Reason.NO_MEMORY, says="needs 500000 bytes of device memory, 400000 are free")
            self.assertEqual((detail.needed, detail.available), (500000, 400000))
            client.unload("a")
            client.load(model("b", dram=500000))


class Infer(fake.TestCase):
    def test_outputs_as_asked_for(self):
        with Krtd() as krtd, krtd.client() as client:
            client.load(model(**TWO))
            inputs = [tensors.Tensor(name="n", dtype=7, data=struct.pack("q", -5)), tensor()]
            answer = client.infer(request(inputs=inputs))
            self.assertEqual([(t.name, t.dtype, list(t.shape), t.data) for t in answer.outputs], [
                ("y", 1, [2], tensor().data), ("z", 7, [], struct.pack("q", -5)), ("w", 1, [3], bytes(12))])
            answer = client.infer(request(inputs=inputs, outputs=["z", "y"]))
            self.assertEqual([t.name for t in answer.outputs], ["z", "y"])

    def test_sizes_from_nothing_to_large(self):
        with Krtd() as krtd, krtd.client() as client:
            for n in (0, 1, 1000, 1024, 1025, 70000, 1 << 20, 5 << 20):
                name = f"n{n}"
                client.load(model(name, inputs=[f"x float32 {n}"], outputs=[f"y float32 {n}"]))
                data = bytes(range(256)) * (n // 64) + bytes(4 * (n % 64))
                for _ in range(3):
                    answer = client.infer(request(name, [tensor(shape=[n], data=data)]))
                    self.assertEqual(answer.outputs[0].data, data)
                client.unload(name)

    def test_mistakes_are_named(self):
        n = tensors.Tensor(name="n", dtype=7, data=bytes(8))
        with Krtd() as krtd, krtd.client() as client:
            client.load(model(**TWO))
            for inputs, outputs, says in (
                    ([tensor()], [], "input 'n' is missing"), ([], [], "input 'x' is missing"),
                    ([tensor(), n, n], [], "input 'n' is given twice"),
                    ([tensor(), n, tensor("q")], [], "has no input 'q'"), ([tensor(name=""), n], [], "has no input ''"),
                    ([tensor(dtype=11), n], [], "input 'x': expected float32, got float64"),
                    ([tensor(dtype=99), n], [], "input 'x': expected float32, got none (99)"),
                    ([tensor(dtype=0), n], [], "input 'x': expected float32, got no element type"),
                    ([tensor(shape=[1, 2]), n], [], "input 'x': expected shape [2], got [1,2]"),
                    ([tensor(shape=[]), n], [], "expected shape [2], got []"),
                    ([tensor(shape=[-2]), n], [], "got [-2]"), ([tensor(shape=[1] * 9), n], [], "got [1,1,1,1,1,1,1,1,...]"),
                    ([tensor(data=bytes(7)), n], [], "input 'x': expected 8 bytes (float32 [2]), got 7"),
                    ([tensor(data=b""), n], [], "expected 8 bytes (float32 [2]), got 0"),
                    ([tensor(strings=[b"a"]), n], [], "'strings' is for STRING tensors"),
                    ([tensor(), n], ["v"], "has no output 'v'"), ([tensor(), n], ["y", "y"], "output 'y' is asked for twice")):
                detail = self.fails(StatusCode.INVALID_ARGUMENT, client.infer, request(inputs=inputs, outputs=outputs),
                                    reason=Reason.BAD_TENSOR, says=("model 'm'", says))
                expected = "y float32 [2], z int64 [], w float32 [3]" if outputs else "x float32 [2], n int64 []"
                self.assertIn(expected, detail.hint)
            self.fails(StatusCode.NOT_FOUND, client.infer, request("k"), says="no model 'k'; loaded: m")
            m = client.model("m")
            self.assertEqual((m.inferences, m.failures), (0, 0), "none of them was accepted")

    def test_a_full_queue(self):
        with Krtd("--queue-depth", "3") as krtd, krtd.client() as client:
            client.load(model(sleep_ms=500, contexts=2))
            calls = [client.infer_later(request()) for _ in range(5)]
            fake.wait_until(lambda: client.model("m").queued == 3, "the queue is full")
            detail = self.fails(StatusCode.RESOURCE_EXHAUSTED, client.infer, request(), reason=Reason.QUEUE_FULL,
                                says="3 requests wait, the limit is 3")
            self.assertEqual((detail.needed, detail.available), (4, 3))
            self.assertEqual([c.code() for c in calls], [StatusCode.OK] * 5)
            client.infer(request())

    def test_what_expires_in_the_queue_never_runs(self):
        with Krtd() as krtd, krtd.client() as client:
            client.load(model(sleep_ms=600))
            first = client.infer_later(request())
            fake.wait_until(lambda: client.model("m").queued == 0, "it runs")
            late = [client.infer_later(request(), timeout=0.2) for _ in range(3)]
            self.assertEqual([c.code() for c in late], [StatusCode.DEADLINE_EXCEEDED] * 3)
            self.assertEqual(first.code(), StatusCode.OK)
            fake.wait_until(lambda: client.model("m").failures == 3, "they are counted")
            self.assertEqual(client.model("m").inferences, 1)

    def test_models_do_not_mix(self):
        """Many requests in flight on several models, with and without host steps, small and large."""
        with Krtd("--threads", "2") as krtd, krtd.client() as client:
            sizes = {"a": 2, "b": 300, "c": 100000}
            for name, n in sizes.items():
                client.load(model(name, inputs=[f"x float32 {n}"], outputs=[f"y float32 {n}"], contexts=3,
                                  host=int(name == "b")))
            calls = []
            for i in range(60):
                for name, n in sizes.items():
                    data = struct.pack("f", i) * n
                    calls.append((client.infer_later(request(name, [tensor(shape=[n], data=data)])), data))
            for call, data in calls:
                self.assertEqual(call.result().outputs[0].data, data)


class Unload(fake.TestCase):
    def test_what_runs_is_finished_what_waits_aborted(self):
        with Krtd() as krtd, krtd.client() as client:
            client.load(model(sleep_ms=400))
            running = client.infer_later(request())
            waiting = [client.infer_later(request()) for _ in range(2)]
            fake.wait_until(lambda: client.model("m").queued == 2, "two wait")
            client.unload("m")
            self.assertEqual(running.code(), StatusCode.OK)
            for call in waiting:
                self.assertEqual(call.code(), StatusCode.ABORTED)
                self.assertEqual(fake.detail_of(call).reason, Reason.MODEL_UNLOADED)
            self.fails(StatusCode.NOT_FOUND, client.infer, request())
            client.load(model())
            client.infer(request())

    def test_a_load_waits_for_the_name(self):
        """Of a model that is on its way out: who unloads and loads anew need not know that it still works."""
        with Krtd() as krtd, krtd.client() as client, krtd.client() as other:
            client.load(model(sleep_ms=700, dram=900000))
            running = client.infer_later(request())
            waiting = client.infer_later(request())
            fake.wait_until(lambda: client.model("m").queued == 1, "the other runs")
            unload = threading.Thread(target=client.unload, args=("m",))
            unload.start()
            self.assertEqual(waiting.code(), StatusCode.ABORTED)
            self.assertEqual(client.model("m").state, rt.UNLOADING)
            self.assertEqual(other.load(model(dram=800000)).state, rt.READY)
            unload.join()
            self.assertEqual(running.code(), StatusCode.OK)
            client.infer(request())
            self.fails(StatusCode.ALREADY_EXISTS, client.load, model(), says="a model 'm' is loaded already")

    def test_a_load_that_nobody_waits_for(self):
        with Krtd() as krtd, krtd.client() as client:
            data = model().encode()
            load = [rt.LoadRequest(options=rt.LoadOptions(size=len(data))), rt.LoadRequest(chunk=data)]
            client.load(model(sleep_ms=900))
            running, waiting = client.infer_later(request()), client.infer_later(request())
            fake.wait_until(lambda: client.model("m").queued == 1, "the other runs")
            unload = threading.Thread(target=client.unload, args=("m",))
            unload.start()
            self.assertEqual(waiting.code(), StatusCode.ABORTED)
            self.assertEqual(client.load_call.future(iter(load), timeout=0.2).code(), StatusCode.DEADLINE_EXCEEDED)
            unload.join()
            self.assertEqual(running.code(), StatusCode.OK)
            fake.wait_until(lambda: "its caller has stopped waiting" in krtd.log(), "the load ends")
            self.assertEqual(len(client.models()), 0)

    def test_again_and_again_under_load(self):
        with Krtd() as krtd, krtd.client() as client:
            stop, odd = threading.Event(), []

            def use():
                with krtd.client() as mine:
                    while not stop.is_set():
                        try:
                            if mine.infer(request()).outputs[0].data != tensor().data:
                                odd.append("wrong data")
                        except fake.grpc.RpcError as error:
                            if error.code() not in (StatusCode.NOT_FOUND, StatusCode.ABORTED, StatusCode.UNAVAILABLE):
                                odd.append(str(error))

            threads = [threading.Thread(target=use) for _ in range(3)]
            for t in threads:
                t.start()
            for _ in range(40):
                client.load(model())
                client.unload("m")
            stop.set()
            for t in threads:
                t.join()
            self.assertEqual(odd, [])
            self.assertEqual(len(client.models()), 0)


class Damage(fake.TestCase):
    def test_damaged_weights_fail_their_model_only(self):
        with Krtd() as krtd, krtd.client() as client:
            client.load(model("bad", fail="DATA_LOSS"))
            client.load(model("good"))
            self.fails(StatusCode.DATA_LOSS, client.infer, request("bad"), reason=Reason.EXECUTION_FAILED,
                       says=("model 'bad'", "its weights are gone"))
            self.assertEqual(client.model("bad").state, rt.FAILED)
            self.assertEqual(client.check("model/bad"), NOT_SERVING)
            self.fails(StatusCode.DATA_LOSS, client.infer, request("bad"), says=("has failed", "load it again"))
            self.assertEqual(client.infer(request("good")).outputs[0].data, tensor().data)
            self.assertEqual(client.check("model/good"), SERVING)
            client.unload("bad")
            client.load(model("bad"))
            client.infer(request("bad"))

    def test_the_check_in_the_background(self):
        with Krtd() as krtd, krtd.client() as client:
            client.load(model(bad_weights=1))
            fake.wait_until(lambda: client.model("m").state == rt.FAILED, "the model fails")
            self.fails(StatusCode.DATA_LOSS, client.infer, request(), says="checksum of WEIGHTS does not match")

    def test_other_failures_are_of_the_request(self):
        with Krtd() as krtd, krtd.client() as client:
            client.load(model(fail="OUT_OF_RANGE"))
            self.fails(StatusCode.OUT_OF_RANGE, client.infer, request(), says="an index is out of range")
            self.assertEqual(client.model("m").state, rt.READY)
            self.assertEqual(client.model("m").failures, 1)


if __name__ == "__main__":
    unittest.main(verbosity=2)
