"""A krtd over models of a few lines of text (fake_krtd.c), and what the tests of the daemon share."""

import json
import pathlib
import resource
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import unittest

import daemon

try:
    import grpc
except ImportError as missing:
    daemon.skip(f"{missing.name} is not installed (scripts/setup)")

KRTD = daemon.BUILD / "tests" / "integration" / "krtd-fake"
PROTOS = ["kaena/v1/runtime.proto", "kaena/v1/tensor.proto", "google/rpc/status.proto", "grpc/health/v1/health.proto",
          "grpc/reflection/v1/reflection.proto", "grpc/reflection/v1alpha/reflection.proto"]
SECONDS = 60  # for what takes milliseconds: only a hang reaches it
FLOAT32 = 1


def _generate():
    directory = tempfile.mkdtemp(prefix="kaena-stubs-")
    subprocess.run(["protoc", "-I", daemon.SOURCE / "proto", f"--python_out={directory}", *PROTOS], check=True)
    sys.path.insert(0, directory)
    grpc.__path__.append(f"{directory}/grpc")  # grpc.health is ours, grpc itself is not
    return directory


_stubs = _generate()

from google.protobuf import descriptor_pb2  # noqa: E402
from google.rpc import status_pb2  # noqa: E402
from grpc.health.v1 import health_pb2 as health  # noqa: E402
from grpc.reflection.v1 import reflection_pb2 as reflection  # noqa: E402
from kaena.v1 import runtime_pb2 as rt, tensor_pb2 as tensors  # noqa: E402

Reason = rt.ErrorDetail

shutil.rmtree(_stubs)


def wait_until(condition, what):
    """For what the daemon does without telling us."""
    until = time.monotonic() + SECONDS
    while not condition():
        if time.monotonic() > until:
            raise AssertionError(f"never: {what}")
        time.sleep(0.01)


class _Method:
    """A method of |client|, in the name of its session."""

    def __init__(self, client, call):
        self.client = client
        self.call = call

    def _metadata(self, given):
        token = self.client.token
        return [*given, *([("kaena-session", token)] if token else [])]

    def __call__(self, argument, metadata=(), **options):
        return self.call(argument, metadata=self._metadata(metadata), **options)

    def future(self, argument, metadata=(), **options):
        return self.call.future(argument, metadata=self._metadata(metadata), **options)

    def with_call(self, argument, metadata=(), **options):
        return self.call.with_call(argument, metadata=self._metadata(metadata), **options)


class Session:
    """A session's stream over the channel of |client|; what that client does from now on is in its name."""

    def __init__(self, client, token="", name="test"):
        self.client = client
        self.ended = threading.Event()
        client.token = ""
        self.call = client.method("Session", rt.SessionEvent, "stream_stream")(self._requests(token, name))
        self.opened = next(self.call).opened
        self.token = client.token = self.opened.token

    def _requests(self, token, name):
        yield rt.SessionRequest(token=token, client=name)
        self.ended.wait()

    def say_goodbye(self):
        """Ends it in good order."""
        self.ended.set()
        assert not list(self.call) and self.call.code() == grpc.StatusCode.OK, self.call
        self.client.token = ""

    def break_off(self):
        self.call.cancel()
        self.ended.set()


class Client:
    """The daemon's methods over a channel of its own."""

    def __init__(self, target, **options):
        options = {"grpc.use_local_subchannel_pool": 1, "grpc.max_receive_message_length": -1, "grpc.enable_retries": 0,
                   **options}
        self.token = ""
        self.channel = grpc.insecure_channel(target, options=list(options.items()))
        self.load_call = self.method("Load", rt.LoadResponse, "stream_unary")
        self.infer_call = self.method("Infer", rt.InferResponse)

    def method(self, name, answer, kind="unary_unary", service="kaena.v1.Runtime"):
        call = getattr(self.channel, kind)(f"/{service}/{name}", request_serializer=lambda m: m.SerializeToString(),
                                           response_deserializer=answer.FromString)
        return _Method(self, call)

    def close(self):
        self.channel.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def devices(self):
        return self.method("ListDevices", rt.ListDevicesResponse)(rt.ListDevicesRequest(), timeout=SECONDS)

    def models(self):
        return self.method("ListModels", rt.ListModelsResponse)(rt.ListModelsRequest(), timeout=SECONDS).models

    def model(self, name):
        return self.method("GetModel", rt.GetModelResponse)(rt.GetModelRequest(name=name), timeout=SECONDS).model

    def unload(self, name):
        return self.method("Unload", rt.UnloadResponse)(rt.UnloadRequest(name=name), timeout=SECONDS)

    def load(self, text, name="", chunk=7, **options):
        data = text.encode()
        options = rt.LoadOptions(**{"name": name, "size": len(data), **options})
        return self.load_messages([rt.LoadRequest(options=options)] + [
            rt.LoadRequest(chunk=data[at:at + chunk]) for at in range(0, len(data), chunk)])

    def load_messages(self, messages):
        return self.load_call(iter(messages), timeout=SECONDS).model

    def session(self, token="", **options):
        return Session(self, token, **options)

    def load_path(self, path, name=""):
        return self.load_messages([rt.LoadRequest(options=rt.LoadOptions(path=str(path), name=name))])

    def infer(self, request, timeout=SECONDS):
        return self.infer_call(request, timeout=timeout)

    def infer_later(self, request, timeout=SECONDS):
        return self.infer_call.future(request, timeout=timeout)

    def check(self, service="", timeout=SECONDS):
        return self.method("Check", health.HealthCheckResponse, service="grpc.health.v1.Health")(
            health.HealthCheckRequest(service=service), timeout=timeout).status

    def watch(self, service=""):
        return self.method("Watch", health.HealthCheckResponse, "unary_stream", service="grpc.health.v1.Health")(
            health.HealthCheckRequest(service=service), timeout=SECONDS)


def model(name="m", inputs=("x float32 2",), outputs=("y float32 2",), **settings):
    lines = ["kaena-fake", f"name {name}", *(f"input {i}" for i in inputs), *(f"output {o}" for o in outputs),
             *(f"{k} {v}" for k, v in settings.items())]
    return "\n".join(lines) + "\n"


def tensor(name="x", values=(1.0, 2.0), shape=None, **fields):
    shape = [len(values)] if shape is None else shape
    return tensors.Tensor(**{"name": name, "dtype": FLOAT32, "shape": shape,
                             "data": struct.pack(f"{len(values)}f", *values), **fields})


def request(name="m", inputs=None, outputs=()):
    return rt.InferRequest(model=name, inputs=[tensor()] if inputs is None else inputs, outputs=outputs)


def detail_of(error):
    """The kaena.v1.ErrorDetail of a grpc.RpcError, after checking what carries it."""
    metadata = dict(error.trailing_metadata())
    assert metadata["kaena-request-id"], metadata
    status = status_pb2.Status.FromString(metadata["grpc-status-details-bin"])
    assert status.code == error.code().value[0] and status.message == error.details(), (status, error)
    assert [d.type_url for d in status.details] == ["type.googleapis.com/kaena.v1.ErrorDetail"], status
    return rt.ErrorDetail.FromString(status.details[0].value)


class Krtd:
    """krtd-fake (or another |program|) on a unix socket and a TCP port, in a run directory of its own."""

    def __init__(self, *options, config=None, limits=None, nofile=None, env=(), listen=True, wait=True, rundir=None,
                 program=KRTD):
        self.dir = pathlib.Path(rundir or tempfile.mkdtemp(prefix="kaena-"))
        self.own_dir = rundir is None
        self.path = self.dir / "krtd.sock"
        self.socket = f"unix:{self.path}"
        self.tcp = None
        if limits is not None:
            config = {"version": 1, "daemons": [{"name": "krtd0", "listen": [self.socket, "127.0.0.1:0"],
                                                 "devices": [0], "limits": limits}]}
        arguments = [str(program)]
        if config is not None:
            (self.dir / "krtd.json").write_text(json.dumps(config))
            arguments += ["--config", str(self.dir / "krtd.json")]
        elif listen:
            arguments += ["--listen", self.socket, "--listen", "127.0.0.1:0"]
        self.log_path = self.dir / "log"
        limit = (lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (nofile, nofile))) if nofile else None
        with open(self.log_path, "wb") as log:
            self.process = subprocess.Popen(
                arguments + list(options), stderr=log, stdout=log, preexec_fn=limit,
                env={**daemon.os.environ, "KAENA_RUNDIR": str(self.dir), **dict(env)})
        if wait:
            self.wait_ready()

    def wait_ready(self):
        wait_until(lambda: "ready:" in self.log() or self.process.poll() is not None, "ready")
        if self.process.poll() is not None:
            raise RuntimeError(f"krtd ended with {self.process.returncode}: {self.log()}")
        for line in self.log().splitlines():
            if "listening on 127.0.0.1:" in line:
                self.tcp = line.split("listening on ")[1].split()[0]

    def log(self):
        return self.log_path.read_text()

    def client(self, **options):
        return Client(self.socket, **options)

    def connect(self):
        """A connection that says nothing."""
        s = socket.socket(socket.AF_UNIX)
        s.connect(str(self.path))
        s.settimeout(SECONDS)
        return s

    def memory_files(self):
        """Memory files that the daemon holds: streamed models, whole or in part."""
        held = 0
        for fd in pathlib.Path(f"/proc/{self.process.pid}/fd").iterdir():
            try:
                held += "kaena-neff" in str(fd.readlink())
            except FileNotFoundError:
                pass
        return held

    def held(self):
        """Descriptors by what they are, and mappings of files of clients."""
        process = pathlib.Path(f"/proc/{self.process.pid}")
        kinds = {}
        for fd in (process / "fd").iterdir():
            try:
                kind = str(fd.readlink()).split("[")[0].split(" ")[0]
            except FileNotFoundError:
                continue
            kinds[kind] = kinds.get(kind, 0) + 1
        maps = [line.split()[-1] for line in (process / "maps").read_text().splitlines()]
        kinds["mapped"] = sum("kaena-" in m and "memfd" in m or m.startswith("/dev/shm/") for m in maps)
        return kinds

    def signal(self, number=signal.SIGTERM):
        self.process.send_signal(number)

    def wait(self):
        return self.process.wait(SECONDS)

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        try:
            if self.process.poll() is None:
                self.signal()
                self.wait()
            if kind is not None:
                print(self.log(), file=sys.stderr)
            elif self.process.returncode != 0:
                raise AssertionError(f"krtd ended with {self.process.returncode}: {self.log()}")
        finally:
            if self.process.poll() is None:
                self.process.kill()
                self.process.wait()
            if self.own_dir:
                shutil.rmtree(self.dir)


class TestCase(unittest.TestCase):
    def fails(self, code, call, *arguments, reason=None, says=()):
        """|call| ends with that status; returns its detail."""
        with self.assertRaises(grpc.RpcError) as caught:
            call(*arguments)
        error = caught.exception
        self.assertEqual(error.code(), code, error)
        for text in [says] if isinstance(says, str) else says:
            self.assertIn(text, error.details())
        detail = detail_of(error)
        if reason is not None:
            self.assertEqual(detail.reason, reason, detail)
        return detail
