"""A krtd of the test's own, and what the integration tests in Python share."""

import importlib
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

BUILD = pathlib.Path(os.environ["KAENA_BUILD_DIR"])
SOURCE = pathlib.Path(os.environ["KAENA_SOURCE_DIR"])
DIGITS = SOURCE / "examples" / "digits"
KCC = BUILD / "compiler" / "kcc" / "kcc"
KRTD = BUILD / "runtime" / "krtd" / "krtd"
CLI = BUILD / "client" / "kaena-cli"
START_SECONDS = 60
STOP_SECONDS = 60
SKIPPED = 77  # what meson takes for "skipped"


def skip(why):
    print(f"SKIPPED: {why}", file=sys.stderr)
    sys.exit(SKIPPED)


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def make_stubs(directory):
    """The modules runtime_pb2, tensor_pb2 and runtime_pb2_grpc of kaena.v1, made in |directory| from our schemas."""
    proto = SOURCE / "proto"
    subprocess.run(["protoc", "-I", proto, f"--python_out={directory}", f"--grpc_out={directory}",
                    "--plugin=protoc-gen-grpc=/usr/bin/grpc_python_plugin",
                    "kaena/v1/runtime.proto", "kaena/v1/tensor.proto"], check=True)
    sys.path.insert(0, str(directory))
    return [importlib.import_module(f"kaena.v1.{name}") for name in ("runtime_pb2", "tensor_pb2", "runtime_pb2_grpc")]


def compile_model(model, output, *options):
    subprocess.run([KCC, "compile", "--framework", "ONNX", "--model", model, "--output", output, *options],
                   check=True, stdout=subprocess.DEVNULL)


class Daemon:
    """Starts krtd on a unix socket and a TCP port; with the block's end it is told to end and must exit with 0."""

    def __init__(self, *options):
        self.options = options

    def __enter__(self):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="kaena-"))
        self.socket = f"unix:{self.dir}/krtd.sock"
        self.tcp = f"127.0.0.1:{free_port()}"
        self.env = dict(os.environ, KAENA_RUNDIR=str(self.dir), KAENA_KRTD_ADDRESS=self.socket)
        self.process = subprocess.Popen([KRTD, "--listen", self.socket, "--listen", self.tcp, *self.options],
                                        env=self.env)
        until = time.monotonic() + START_SECONDS
        while not self.answers():
            if self.process.poll() is not None or time.monotonic() > until:
                self.process.kill()
                raise RuntimeError(f"krtd did not start: {self.process.wait()}")
            time.sleep(0.05)
        return self

    def answers(self):
        with socket.socket(socket.AF_UNIX) as s:
            return s.connect_ex(self.socket[len("unix:"):]) == 0

    def cli(self, *arguments, check=True):
        done = subprocess.run([CLI, *arguments], env=self.env, check=False, text=True, capture_output=True)
        if check and done.returncode != 0:
            raise RuntimeError(f"kaena-cli {arguments}: {done.stderr}")
        return done

    def __exit__(self, kind, value, trace):
        status = self.process.poll()
        if status is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                status = self.process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.process.kill()
                status = self.process.wait()
        shutil.rmtree(self.dir)
        if kind is None and status != 0:
            raise RuntimeError(f"krtd ended with {status}")
