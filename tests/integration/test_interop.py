#!/usr/bin/python3
"""Clients in C++ and Go, made from our .proto files alone, run the scenario of the ones in Python and Node; so do tools that know
nothing of ours: a client of server reflection (buf) and a watcher of health.

What is built lands in build-interop/ of the source tree, which all build directories share: it depends on the sources alone.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import unittest

import daemon
import fake
from fake import health

HERE = daemon.SOURCE / "tests" / "integration" / "interop"
OUT = daemon.SOURCE / "build-interop"
PROTO = daemon.SOURCE / "proto"
OURS = ["kaena/v1/runtime.proto", "kaena/v1/tensor.proto"]
FOREIGN = ["google/rpc/status.proto", "grpc/health/v1/health.proto"]
GO_CODE = "/usr/share/gocode"  # where Debian's packages of Go sources are
BUF = daemon.SOURCE / "build-node" / "node_modules" / "@bufbuild" / "buf" / "bin" / "buf"


def run(*command, **options):
    subprocess.run([str(c) for c in command], check=True, **options)


def protoc(*arguments):
    run("protoc", "-I", PROTO, *arguments)


def build_cpp(directory, program):
    files = OURS + FOREIGN
    protoc(f"--cpp_out={directory}", f"--grpc_out={directory}",
           f"--plugin=protoc-gen-grpc={shutil.which('grpc_cpp_plugin')}", *files)
    generated = [directory / f.replace(".proto", end) for f in files for end in (".pb.cc", ".grpc.pb.cc")]
    flags = subprocess.run(["pkg-config", "--cflags", "--libs", "grpc++", "protobuf"], check=True, text=True,
                           capture_output=True).stdout.split()
    run("g++", "-std=c++17", "-Wall", "-Wextra", "-O0", "-I", directory, HERE / "client.cc", *generated, *flags, "-o", program)


def build_go(directory, program):
    source = directory / "src"
    package = ",".join(f"M{f}=kaena/v1" for f in OURS)
    source.mkdir()
    protoc(f"--go_out=plugins=grpc,{package}:{source}", *OURS)
    shutil.copy(HERE / "client.go", directory)
    env = {**os.environ, "GO111MODULE": "off", "GOPATH": f"{directory}:{GO_CODE}", "GOCACHE": str(OUT / "go-cache"), "GOFLAGS": "-p=1"}
    run("go", "build", "-o", program, "client.go", cwd=directory, env=env)


def built(name, build, source):
    """The program, made anew when its sources have changed."""
    OUT.mkdir(exist_ok=True)
    with open(OUT / f"{name}.lock", "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # tests of two build directories may run at once
        program = OUT / f"{name}-client"
        made_of = hashlib.sha256(b"".join(s.read_bytes() for s in [source, *(PROTO / f for f in OURS + FOREIGN)])).hexdigest()
        stamp = OUT / f"{name}.digest"
        if not program.exists() or not stamp.exists() or stamp.read_text() != made_of:
            directory = OUT / name
            shutil.rmtree(directory, ignore_errors=True)
            directory.mkdir()
            build(directory, program)
            stamp.write_text(made_of)
        return program


class Clients(unittest.TestCase):
    def needs(self, *programs):
        for p in programs:
            if not shutil.which(p):
                self.skipTest(f"{p} is not installed (scripts/setup)")

    def use(self, program):
        with daemon.Daemon() as krtd:
            neff = krtd.dir / "digits.neff"
            daemon.compile_model(daemon.DIGITS / "digits.onnx", neff)
            for target in (krtd.socket, krtd.tcp):
                run(program, target, neff, daemon.DIGITS, timeout=fake.SECONDS)

    def test_cpp(self):
        self.needs("protoc", "grpc_cpp_plugin", "g++", "pkg-config")
        self.use(built("cpp", build_cpp, HERE / "client.cc"))

    def test_go(self):
        self.needs("protoc", "protoc-gen-go", "go")
        self.use(built("go", build_go, HERE / "client.go"))


class Tools(fake.TestCase):
    """What everybody's tools ask of a gRPC server."""

    def test_buf_by_reflection(self):
        if not BUF.exists():
            self.skipTest("@bufbuild/buf is not installed: npm could not be reached? (scripts/setup)")
        with fake.Krtd() as krtd, krtd.client() as client:
            client.load(fake.model("by-buf"))
            url = f"http://{krtd.tcp}"
            environment = {**os.environ, "BUF_CACHE_DIR": str(krtd.dir), "HOME": str(krtd.dir)}

            def buf(*arguments):
                done = subprocess.run([BUF, "curl", "--http2-prior-knowledge", "--protocol", "grpc", *arguments], env=environment,
                                      capture_output=True, text=True, timeout=fake.SECONDS, check=False)
                return done.returncode, done.stdout, done.stderr

            code, out, err = buf("--list-methods", url)
            self.assertEqual(code, 0, err)
            for method in ("kaena.v1.Runtime/Infer", "kaena.v1.Runtime/Load", "grpc.health.v1.Health/Check"):
                self.assertIn(method, out)
            code, out, err = buf(url + "/kaena.v1.Runtime/ListModels")
            self.assertEqual(code, 0, err)
            self.assertIn('"by-buf"', out)
            code, out, err = buf("-d", '{"service": "model/by-buf"}', url + "/grpc.health.v1.Health/Check")
            self.assertEqual(code, 0, err)
            self.assertIn("SERVING", out)
            code, out, err = buf("-d", '{"name": "nobody"}', url + "/kaena.v1.Runtime/GetModel")
            self.assertNotEqual(code, 0)
            self.assertIn("not_found", out + err)
            self.assertIn("kaena.v1.ErrorDetail", out + err)

    def test_a_watcher_of_health(self):
        """Over a whole life: before the model, with it, after it, and when the daemon goes."""
        status = health.HealthCheckResponse
        with fake.Krtd() as krtd, krtd.client() as client, krtd.client() as watcher:
            server, of_model = watcher.watch(), watcher.watch("model/m")
            self.assertEqual(next(server).status, status.SERVING)
            self.assertEqual(next(of_model).status, status.SERVICE_UNKNOWN)
            for _ in range(3):
                client.load(fake.model())
                seen = next(of_model).status
                while seen != status.SERVING:
                    seen = next(of_model).status
                client.unload("m")
                while seen != status.SERVICE_UNKNOWN:
                    seen = next(of_model).status
            krtd.signal()
            self.assertEqual(next(server).status, status.NOT_SERVING)


if __name__ == "__main__":
    unittest.main(argv=sys.argv, verbosity=2)
