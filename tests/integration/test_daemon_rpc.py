#!/usr/bin/python3
"""What every gRPC server of ours must do, numbered after the pitfalls of the C core that it guards against: replies that
send their buffer twice, calls without a message, unknown methods, limits, shared ports, endings."""

import os
import pathlib
import signal
import socket
import stat
import subprocess
import threading
import unittest

import fake
import grpc
from fake import Krtd, Reason, health, model, reflection, request, rt, tensor
from grpc import StatusCode

SERVING = health.HealthCheckResponse.SERVING
NOT_SERVING = health.HealthCheckResponse.NOT_SERVING
SERVICE_UNKNOWN = health.HealthCheckResponse.SERVICE_UNKNOWN


class Pitfalls(fake.TestCase):
    def test_01_an_answer_can_be_given_again(self):
        with Krtd() as krtd, krtd.client() as client:
            client.load(model())
            first, second = client.infer(request()), client.infer(request())
            self.assertEqual(first.outputs[0].data, tensor().data)
            self.assertEqual(second.outputs[0].data, tensor().data)
            self.assertEqual([client.check() for _ in range(3)], [SERVING] * 3)
            watches = [client.watch() for _ in range(3)]
            self.assertEqual([next(w).status for w in watches], [SERVING] * 3)
            for w in watches:
                w.cancel()

    def test_02_a_call_without_a_message(self):
        with Krtd() as krtd, krtd.client() as client:
            for name in ("Infer", "ListDevices", "Unload"):
                empty = client.method(name, rt.InferResponse, "stream_unary")
                self.fails(StatusCode.INVALID_ARGUMENT, lambda: empty(iter([]), timeout=fake.SECONDS),
                           says="no request message")
            big = request(inputs=[tensor(data=bytes(1 << 20))])
            for _ in range(50):  # the message is cut off on its way
                client.infer_later(big).cancel()
            self.assertEqual(client.check(), SERVING)

    def test_03_unknown_methods_are_answered(self):
        with Krtd() as krtd, krtd.client() as client:
            for service, name in (("kaena.v1.Runtime", "Nothing"), ("x.Y", "Z"), ("", "")):
                for kind in ("unary_unary", "stream_unary"):
                    call = client.method(name, rt.InferResponse, kind, service=service)
                    argument = iter([rt.InferRequest()]) if kind == "stream_unary" else rt.InferRequest()
                    self.fails(StatusCode.UNIMPLEMENTED, lambda: call(argument, timeout=fake.SECONDS),
                               says=f"no method '/{service}/{name}'")

    def test_04_clients_get_settings_on_both_kinds_of_socket(self):
        with Krtd() as krtd:
            for target in (krtd.socket, f"unix://{krtd.path}", krtd.tcp):
                with fake.Client(target) as client:
                    grpc.channel_ready_future(client.channel).result(fake.SECONDS)
                    self.assertEqual(client.check(), SERVING)

    def test_05_addresses_are_not_shared(self):
        with Krtd() as krtd, krtd.client() as client:
            for address, says in ((krtd.tcp, "Address already in use"), (krtd.socket, "another server listens there")):
                with self.subTest(address=address):
                    other = Krtd("--listen", address, listen=False, wait=False)
                    self.assertEqual(other.wait(), 1)
                    self.assertIn(f"listen on '{address}'", other.log())
                    self.assertIn(says, other.log())
            self.assertEqual(client.check(), SERVING)

    def test_05_the_socket_of_a_dead_daemon_is_replaced(self):
        with Krtd() as krtd:
            krtd.signal(signal.SIGKILL)
            krtd.wait()
            self.assertTrue(krtd.path.exists())
            with Krtd(rundir=krtd.dir) as next_one, next_one.client() as client:
                self.assertEqual(client.check(), SERVING)
            self.assertFalse(krtd.path.exists(), "a daemon that ends takes its socket along")
            krtd.process = next_one.process

    def test_05_what_is_not_ours_is_left_alone(self):
        with Krtd() as krtd:
            foreign = krtd.dir / "foreign.sock"
            with socket.socket(socket.AF_UNIX) as s:
                s.bind(str(foreign))
                s.listen()
                other = Krtd("--listen", f"unix:{foreign}", listen=False, wait=False)
                self.assertEqual(other.wait(), 1)
                self.assertIn("another server listens there", other.log())
            foreign.unlink()
            foreign.write_text("precious")
            other = Krtd("--listen", f"unix:{foreign}", listen=False, wait=False)
            self.assertEqual(other.wait(), 1)
            self.assertIn("not a socket", other.log())
            self.assertEqual(foreign.read_text(), "precious")

    def test_06_messages_at_the_limit_and_above(self):
        limit = 65536
        with Krtd(limits={"message_bytes": limit}) as krtd, krtd.client() as client:
            def sized(n):
                r = rt.InferRequest(model="m")
                r.outputs.append("y" * (n - r.ByteSize() - 4))
                self.assertEqual(r.ByteSize(), n)
                return r
            self.fails(StatusCode.NOT_FOUND, client.infer, sized(limit), says="no model 'm'")
            with self.assertRaises(grpc.RpcError) as caught:
                client.infer(sized(limit + 1))
            self.assertEqual(caught.exception.code(), StatusCode.RESOURCE_EXHAUSTED)
            self.assertEqual(client.check(), SERVING)

    def test_07_memory_for_messages_is_bounded(self):
        with Krtd(limits={"rpc_bytes": 16 << 20}) as krtd, krtd.client() as client:
            n = 2 << 20
            client.load(model(inputs=[f"x float32 {n}"], outputs=["y float32 2"], sleep_ms=20))
            big = request(inputs=[tensor(shape=[n], data=bytes(4 * n))])
            calls = [client.infer_later(big) for _ in range(12)]
            for call in calls:
                self.assertIn(call.code(), (StatusCode.OK, StatusCode.RESOURCE_EXHAUSTED, StatusCode.UNAVAILABLE),
                              call.details())
            self.assertEqual(client.check(), SERVING)
            with krtd.client() as fresh:
                self.assertEqual(fresh.check(), SERVING)

    def test_08_a_busy_model_keeps_nobody_else_waiting(self):
        with Krtd() as krtd, krtd.client() as client:
            client.load(model("slow", sleep_ms=8000))
            client.load(model("large", inputs=["x float32 4000000"], sleep_ms=8000))
            client.load(model("quick"))
            slow = client.infer_later(request("slow"))
            large = client.infer_later(request("large", [tensor(shape=[4000000], data=bytes(16000000))]))
            for _ in range(5):
                self.assertEqual(client.check(), SERVING)
                self.assertEqual(len(client.models()), 3)
            self.assertFalse(slow.done() or large.done(), "health waited for a model")
            self.assertEqual(slow.code(), StatusCode.OK)
            self.assertEqual(large.code(), StatusCode.OK)
            self.assertEqual(client.infer(request("quick")).outputs[0].data, tensor().data)

    def test_09_an_end_under_load_fails_nobody(self):
        outcomes, lock = {}, threading.Lock()

        def use(krtd, stop):
            client = krtd.client()
            while not stop.is_set():
                try:
                    client.infer(request())
                    outcome = "OK"
                except grpc.RpcError as error:
                    metadata = dict(error.trailing_metadata() or ())
                    refused = "grpc-status-details-bin" in metadata and fake.detail_of(error).reason == Reason.DRAINING
                    outcome = "refused" if refused else f"{error.code()}: {error.details()}"
                with lock:
                    outcomes[outcome] = outcomes.get(outcome, 0) + 1
                if outcome != "OK":
                    break
            client.close()

        for _ in range(3):
            with Krtd() as krtd:
                with krtd.client() as client:
                    client.load(model(contexts=2))
                stop = threading.Event()
                threads = [threading.Thread(target=use, args=(krtd, stop)) for _ in range(8)]
                for t in threads:
                    t.start()
                fake.wait_until(lambda: outcomes.get("OK", 0) > 500, "500 answers")
                krtd.signal()
                self.assertEqual(krtd.wait(), 0)
                stop.set()
                for t in threads:
                    t.join()
                outcomes.pop("OK")
        # Besides refusals there may be calls that found no connection any more: nobody had accepted them.
        rest = {k: v for k, v in outcomes.items() if k != "refused"}
        for outcome in rest:
            self.assertTrue(outcome.startswith("StatusCode.UNAVAILABLE"), rest)

    def test_10_the_daemon_never_forks(self):
        with Krtd() as krtd, krtd.client() as client:
            client.load(model())
            client.infer(request())
            tasks = f"/proc/{krtd.process.pid}/task"
            children = "".join(pathlib.Path(tasks, t, "children").read_text() for t in os.listdir(tasks))
            self.assertEqual(children, "")

    def test_10_loads_stand_back_and_nobody_else(self):
        """Two loaders at nice 10, one checker at 19: threads that these began would have their priority, too."""
        if os.nice(0) != 0:
            self.skipTest("the tests themselves stand back")
        with Krtd() as krtd, krtd.client() as client:
            client.load(model())
            client.infer(request())
            tasks = pathlib.Path(f"/proc/{krtd.process.pid}/task").glob("*/stat")
            nice = [int(stat.read_text().rpartition(")")[2].split()[16]) for stat in tasks]
            self.assertEqual(sorted(n for n in nice if n), [10, 10, 19], nice)

    def test_11_calls_of_a_connection_are_bounded(self):
        """What is too much for a connection waits in its client: nobody else notices, and nothing is lost."""
        with Krtd(limits={"streams": 3}) as krtd, krtd.client() as client, krtd.client() as other:
            other.load(model(sleep_ms=1500))
            for others, answered_first in ((2, True), (3, False)):
                before = other.model("m").inferences
                calls = [client.infer_later(request()) for _ in range(others)]
                fake.wait_until(lambda: other.model("m").queued == others - 1, "one runs, the others wait")
                client.devices()
                self.assertEqual(other.model("m").inferences == before, answered_first)
                self.assertEqual([c.code() for c in calls], [grpc.StatusCode.OK] * others)

    def test_11_connections_are_counted(self):
        with Krtd(limits={"connections": 5}) as krtd:
            idle = [krtd.connect() for _ in range(5)]
            refused = krtd.connect()
            self.assertEqual(refused.recv(1), b"", "the sixth connection is closed")
            refused.close()
            self.assertIn("connection limit reached", krtd.log())
            for s in idle:
                s.recv(64)  # the server's SETTINGS: it has been accepted
            idle.pop().close()
            idle.pop().close()
            with krtd.client() as client:
                fake.wait_until(lambda: self.serves(client), "room after two have gone")
            for s in idle:
                s.close()

    def serves(self, client):
        try:
            return client.check(timeout=1) == SERVING
        except grpc.RpcError:
            return False

    def test_11_unix_peers_are_known_and_the_socket_has_its_mode(self):
        with Krtd() as krtd:
            self.assertEqual(stat.S_IMODE(krtd.path.stat().st_mode), 0o660)
            with krtd.client() as client:
                client.load(model("local"))
            with fake.Client(krtd.tcp) as client:
                client.load(model("remote"))
            log = krtd.log().splitlines()
            self.assertTrue(any("'local' loaded" in line and f"pid {os.getpid()}" in line for line in log), log)
            self.assertTrue(any("'remote' loaded" in line and "over TCP" in line for line in log), log)

    def test_11_sockets_of_the_service_manager(self):
        with Krtd(listen=False, wait=False) as unused, socket.socket() as listener:
            unused.wait_ready()
            listener.bind(("127.0.0.1", 0))
            listener.listen()
            directory = unused.dir / "activated"
            directory.mkdir()
            # As systemd does it: descriptor 3, and the pid of the process itself.
            script = 'exec 3<&"$1" && export LISTEN_FDS=1 LISTEN_PID=$$ && exec "$2"'
            process = subprocess.Popen(["bash", "-c", script, "bash", str(listener.fileno()), fake.KRTD],
                                       pass_fds=[listener.fileno()], stderr=subprocess.PIPE,
                                       env={**os.environ, "KAENA_RUNDIR": str(directory)})
            with fake.Client(f"127.0.0.1:{listener.getsockname()[1]}") as client:
                self.assertEqual(client.check(), SERVING)
            process.terminate()
            log = process.communicate()[1].decode()
            self.assertEqual(process.returncode, 0, log)
            self.assertIn("listening on 1 sockets of the service manager", log)
            self.assertFalse((directory / "krtd0.sock").exists())


class Services(fake.TestCase):
    def test_health_of_daemon_and_models(self):
        with Krtd() as krtd, krtd.client() as client:
            self.assertEqual(client.check(), SERVING)
            self.assertEqual(client.check("kaena.v1.Runtime"), SERVING)
            self.fails(StatusCode.NOT_FOUND, client.check, "model/m", says="health of 'model/m' is not known")
            watch = client.watch("model/m")
            self.assertEqual(next(watch).status, SERVICE_UNKNOWN)
            client.load(model())
            self.assertEqual(next(watch).status, SERVING)
            self.assertEqual(client.check("model/m"), SERVING)
            client.unload("m")
            seen = [next(watch).status]
            while seen[-1] != SERVICE_UNKNOWN:
                seen.append(next(watch).status)
            self.assertLessEqual(len(seen), 2)
            self.fails(StatusCode.NOT_FOUND, client.check, "model/m")

    def test_watchers_hear_of_the_end(self):
        with Krtd() as krtd, krtd.client() as client:
            client.load(model())
            watches = {name: client.watch(name) for name in ("", "kaena.v1.Runtime", "model/m")}
            for w in watches.values():
                self.assertEqual(next(w).status, SERVING)
            running = client.infer_later(request())
            krtd.signal()
            for w in watches.values():
                self.assertEqual(next(w).status, NOT_SERVING)
                with self.assertRaises(grpc.RpcError) as caught:
                    next(w)
                self.assertEqual(caught.exception.code(), StatusCode.UNAVAILABLE)
            self.assertIn(running.code(), (StatusCode.OK, StatusCode.UNAVAILABLE))
            self.assertEqual(krtd.wait(), 0)

    def test_many_watchers_come_and_go(self):
        with Krtd() as krtd, krtd.client() as client:
            for _ in range(200):
                w = client.watch()
                self.assertEqual(next(w).status, SERVING)
                w.cancel()
            self.assertEqual(client.check(), SERVING)

    def ask(self, client, version, *questions):
        call = client.method("ServerReflectionInfo", reflection.ServerReflectionResponse, "stream_stream",
                             service=f"grpc.reflection.{version}.ServerReflection")
        return list(call(iter(questions), timeout=fake.SECONDS))

    def test_reflection(self):
        question = reflection.ServerReflectionRequest
        with Krtd() as krtd, krtd.client() as client:
            for version in ("v1", "v1alpha"):
                listed, by_symbol, by_method, by_file, unknown, extension, nothing = self.ask(
                    client, version, question(list_services="*"),
                    question(file_containing_symbol="kaena.v1.Runtime"),
                    question(file_containing_symbol="kaena.v1.Runtime.Infer"),
                    question(file_by_filename="kaena/v1/tensor.proto"),
                    question(file_containing_symbol="kaena.v1.Nobody"),
                    question(all_extension_numbers_of_type="kaena.v1.Tensor"), question(host="h"))
                services = {s.name for s in listed.list_services_response.service}
                self.assertEqual(services, {"kaena.v1.Runtime", "grpc.health.v1.Health",
                                            "grpc.reflection.v1.ServerReflection",
                                            "grpc.reflection.v1alpha.ServerReflection"})
                files = [fake.descriptor_pb2.FileDescriptorProto.FromString(f)
                         for f in by_symbol.file_descriptor_response.file_descriptor_proto]
                self.assertEqual([f.name for f in files], ["kaena/v1/runtime.proto", "kaena/v1/tensor.proto"])
                self.assertIn("Infer", [m.name for m in files[0].service[0].method])
                self.assertEqual(by_method.file_descriptor_response, by_symbol.file_descriptor_response)
                self.assertEqual(len(by_file.file_descriptor_response.file_descriptor_proto), 1)
                self.assertEqual(unknown.error_response.error_code, 5)
                self.assertEqual(unknown.original_request.file_containing_symbol, "kaena.v1.Nobody")
                self.assertEqual(extension.error_response.error_code, 5)
                self.assertEqual(nothing.error_response.error_code, 3)
                self.assertEqual(nothing.valid_host, "h")

    def test_request_ids(self):
        with Krtd() as krtd, krtd.client() as client:
            def ids(*metadata):
                call = client.method("ListModels", rt.ListModelsResponse)
                _, done = call.with_call(rt.ListModelsRequest(), metadata=metadata, timeout=fake.SECONDS)
                return dict(done.trailing_metadata())["kaena-request-id"]
            self.assertEqual(ids(("kaena-request-id", "mine-1")), "mine-1")
            for bad in ("x" * 65, "two words"):
                self.assertRegex(ids(("kaena-request-id", bad)), "^[0-9a-f]{16}$")
            self.assertNotEqual(ids(), ids())
            client.load(model())
            infer = client.method("Infer", rt.InferResponse)
            mine = (("kaena-request-id", "mine-2"),)
            _, done = infer.with_call(request(), metadata=mine, timeout=fake.SECONDS)
            self.assertNotIn("kaena-request-id", dict(done.trailing_metadata()), "nobody would look for it")
            with self.assertRaises(grpc.RpcError) as failed:
                infer(request("nobody"), metadata=mine, timeout=fake.SECONDS)
            self.assertEqual(dict(failed.exception.trailing_metadata())["kaena-request-id"], "mine-2")

    def test_requests_that_are_not_what_they_should_be(self):
        with Krtd() as krtd, krtd.client() as client:
            raw = client.channel.unary_unary
            for name, data in (("GetModel", b"\x0a\x05ab"), ("GetModel", b"\x0a\x03a\x00b"),
                               ("GetModel", b"\x0a\x02\xc3\x28"), ("Infer", b"\x0a\xff"), ("Unload", b"\x07")):
                self.fails(StatusCode.INVALID_ARGUMENT,
                           lambda: raw(f"/kaena.v1.Runtime/{name}")(data, timeout=fake.SECONDS), says="request: ")
            self.assertEqual(client.check(), SERVING)


if __name__ == "__main__":
    unittest.main(verbosity=2)
