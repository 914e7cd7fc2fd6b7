#!/usr/bin/python3
"""Prometheus metrics of the daemon over HTTP, and its bad clients."""

import http.client
import pathlib
import re
import shutil
import socket
import subprocess
import unittest

import daemon
import fake
from fake import grpc

SAMPLE = re.compile(r'([a-zA-Z_:][a-zA-Z0-9_:]*)(\{.*\})? ([0-9.e+-]+|\+Inf|NaN)$')


def promtool():
    """From the distribution's prometheus, unpacked by scripts/setup; None: not there."""
    found = shutil.which("promtool")
    local = daemon.SOURCE / "build-tools" / "prometheus" / "usr" / "bin" / "promtool"
    return found or (str(local) if local.exists() else None)


class Scraped(fake.Krtd):
    def __init__(self, *options, address="127.0.0.1:0", **more):
        super().__init__("--metrics", address, **more)
        line = next(line for line in self.log().splitlines() if "metrics on " in line)
        self.address = line.split("metrics on ")[1]

    def connect_http(self):
        if self.address.startswith("unix:"):
            s = socket.socket(socket.AF_UNIX)
            s.connect(self.address[5:])
        else:
            host, port = self.address.rsplit(":", 1)
            s = socket.create_connection((host.strip("[]"), int(port)))
        s.settimeout(fake.SECONDS)
        return s

    def get(self, path="/metrics", method="GET", **headers):
        connection = http.client.HTTPConnection("krtd")
        connection.sock = self.connect_http()
        try:
            connection.request(method, path, headers=headers)
            answer = connection.getresponse()
            return answer.status, dict((k.lower(), v) for k, v in answer.getheaders()), answer.read().decode()
        finally:
            connection.close()

    def raw(self, data):
        """All that comes back, until the end."""
        with self.connect_http() as s:
            s.sendall(data)
            answer = b""
            while piece := s.recv(65536):
                answer += piece
            return answer


def samples(text):
    out = {}
    for line in text.splitlines():
        if line and not line.startswith("#"):
            match = SAMPLE.match(line)
            assert match, line
            assert match[1] + (match[2] or "") not in out, f"twice: {line}"
            out[match[1] + (match[2] or "")] = float(match[3])
    return out


class Metrics(fake.TestCase):
    def test_they_are_off_unless_asked_for(self):
        with fake.Krtd() as krtd:
            self.assertNotIn("metrics on", krtd.log())

    def test_counters_and_histograms(self):
        with Scraped() as krtd, krtd.client() as client:
            client.load(fake.model(dram=1000), version='v"1\\')
            client.load(fake.model("bad", fail="OUT_OF_RANGE"))
            for _ in range(7):
                client.infer(fake.request())
            for _ in range(2):
                self.fails(grpc.StatusCode.OUT_OF_RANGE, client.infer, fake.request("bad"))
            self.fails(grpc.StatusCode.NOT_FOUND, client.infer, fake.request("nobody"))
            status, headers, text = krtd.get()
            self.assertEqual((status, headers["content-type"]), (200, "text/plain; version=0.0.4; charset=utf-8"))
            s = samples(text)
            version = 'version="v\\"1\\\\"'
            m = f'model="m",{version}'
            self.assertEqual(s[f'kaena_requests_total{{{m},code="OK"}}'], 7)
            self.assertEqual([v for k, v in s.items() if 'model="bad"' in k and 'code="OUT_OF_RANGE"' in k], [2])
            self.assertEqual([v for k, v in s.items() if 'model="bad"' in k and 'code="OK"' in k], [0])
            self.assertEqual(s['kaena_requests_without_model_total{code="NOT_FOUND"}'], 1)
            self.assertEqual(s[f'kaena_executions_total{{{m}}}'], 7)
            for name in ("kaena_queue_seconds", "kaena_execute_seconds", "kaena_request_seconds"):
                buckets = [(float(re.search('le="([^"]*)"', k)[1]), v) for k, v in s.items()
                           if k.startswith(f"{name}_bucket{{{m}")]
                self.assertEqual(buckets, sorted(buckets))
                self.assertEqual(buckets[-1], (float("inf"), 7))
                self.assertEqual([v for _, v in buckets], sorted(v for _, v in buckets))
                self.assertEqual(s[f"{name}_count{{{m}}}"], 7)
                self.assertGreaterEqual(s[f"{name}_sum{{{m}}}"], 0)
            self.assertEqual(s['kaena_device_memory_bytes{device="0",pci="0000:00:1f.0"}'], 1000000)
            self.assertGreater(s['kaena_device_memory_used_bytes{device="0",pci="0000:00:1f.0"}'], 999)
            self.assertGreaterEqual(s["kaena_connections"], 1)
            self.assertGreater(s["kaena_resident_memory_bytes"], 1 << 20)
            self.assertEqual(s["kaena_restarts"], 0)
            # What is unloaded is gone, so that the number of series is bounded by what is loaded.
            client.unload("m")
            self.assertNotIn('model="m"', krtd.get()[2])

    def test_open_metrics(self):
        with Scraped() as krtd, krtd.client() as client:
            client.load(fake.model())
            client.infer(fake.request())
            status, headers, text = krtd.get(Accept="application/openmetrics-text;version=1.0.0,text/plain;q=0.5")
            self.assertEqual(status, 200)
            self.assertTrue(headers["content-type"].startswith("application/openmetrics-text"))
            self.assertTrue(text.endswith("# EOF\n"))
            self.assertIn("# TYPE kaena_requests counter\n", text)
            families = [line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")]
            self.assertEqual(len(families), len(set(families)))

    def test_promtool_finds_nothing_to_say(self):
        tool = promtool()
        if not tool:
            self.skipTest("promtool is not installed (scripts/setup)")
        with Scraped() as krtd, krtd.client() as client:
            client.load(fake.model())
            client.infer(fake.request())
            for headers in ({},):
                text = krtd.get(**headers)[2]
                check = subprocess.run([tool, "check", "metrics"], input=text, capture_output=True, text=True, timeout=60)
                self.assertEqual((check.returncode, check.stdout + check.stderr), (0, ""))
            bad = subprocess.run([tool, "check", "metrics"], input=text + "x{\n", capture_output=True, text=True, timeout=60)
            self.assertNotEqual(bad.returncode, 0)

    def test_paths_and_methods(self):
        with Scraped() as krtd:
            self.assertEqual(krtd.get("/healthz")[0::2], (200, "OK\n"))
            self.assertEqual(krtd.get("/metrics?x=1")[0], 200)
            for path in ("/", "/metric", "/metrics/", "/../metrics", "*"):
                self.assertEqual(krtd.get(path)[0], 404, path)
            for method in ("POST", "PUT", "DELETE", "OPTIONS"):
                status, headers, _ = krtd.get(method=method)
                self.assertEqual((status, headers["allow"]), (405, "GET, HEAD"))
            status, headers, body = krtd.get(method="HEAD")
            self.assertEqual((status, body), (200, ""))
            self.assertGreater(int(headers["content-length"]), 100)

    def test_one_connection_several_requests(self):
        with Scraped() as krtd:
            connection = http.client.HTTPConnection("krtd")
            connection.sock = sock = krtd.connect_http()
            for path in ("/metrics", "/nothing", "/healthz", "/metrics"):
                connection.request("GET", path)
                connection.getresponse().read()
                self.assertIs(connection.sock, sock)
            connection.close()

    def test_a_head_in_single_bytes(self):
        with Scraped() as krtd, krtd.connect_http() as s:
            for b in b"GET /healthz HTTP/1.1\r\nHost: x\r\nAccept: text/plain\r\nConnection: close\r\n\r\n":
                s.sendall(bytes([b]))
            self.assertIn(b"200 OK", s.recv(65536))

    def test_hostile_requests(self):
        with Scraped() as krtd:
            cases = {
                b"\0\xff\x00garbage\r\n\r\n": b"400",
                b"GET /metrics HTTP/9.9\r\n\r\n": b"400",
                b"GET /" + b"a" * 300 + b" HTTP/1.1\r\nHost: x\r\n\r\n": b"414",
                b"GET /metrics HTTP/1.1\r\n" + b"X: " + b"a" * 20000: b"431",
                b"GET /metrics HTTP/1.1\r\n" + b"X: 1\r\n" * 5000: b"431",
                b"POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000000\r\n\r\n": b"405",
                b"GET /metrics HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n": b"400",
                b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n": b"40",
            }
            for data, status in cases.items():
                try:
                    answer = krtd.raw(data)
                except ConnectionResetError:
                    continue  # it was closed with bytes unread; that it lives is seen below
                self.assertTrue(answer.startswith(b"HTTP/1.1 " + status), (data[:60], answer[:80]))
                self.assertIn(b"Connection: close", answer)
            pipelined = krtd.raw(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n" * 3)
            self.assertEqual(pipelined.count(b"HTTP/1.1 200"), 1)
            self.assertEqual(krtd.get("/healthz")[0], 200)

    def test_a_crowd_keeps_nobody_out(self):
        with Scraped(nofile=200) as krtd:
            crowd = [krtd.connect_http() for _ in range(100)]
            for s in crowd[::2]:
                s.sendall(b"GET /metrics HTTP/1.1\r\n")
            self.assertEqual(krtd.get("/healthz")[0], 200)
            descriptors = len(list(pathlib.Path(f"/proc/{krtd.process.pid}/fd").iterdir()))
            self.assertLess(descriptors, 100)
            for s in crowd:
                s.close()

    def test_a_client_that_does_not_read(self):
        with Scraped() as krtd, krtd.client() as client:
            for i in range(40):
                client.load(fake.model(f"model-{i}"))
            s = krtd.connect_http()
            s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            s.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
            self.assertEqual(krtd.get("/healthz")[0], 200)
            client.infer(fake.request("model-1"))
            s.close()

    def test_a_unix_socket(self):
        directory = fake.tempfile.mkdtemp(prefix="kaena-")
        try:
            path = pathlib.Path(directory) / "metrics.sock"
            stale = socket.socket(socket.AF_UNIX)
            stale.bind(str(path))
            stale.close()  # what a crash leaves
            with Scraped(address=f"unix:{path}") as krtd:
                self.assertEqual(krtd.get("/healthz")[0], 200)
                self.assertEqual(path.stat().st_mode & 0o777, 0o660)
            self.assertFalse(path.exists())
        finally:
            shutil.rmtree(directory)

    def test_addresses_that_cannot_be(self):
        with Scraped() as krtd:
            for address, says in ((krtd.address, "address already in use"), ("nonsense", "neither unix:path nor host:port"),
                                  ("127.0.0.1:99999", "port"), ("unix:" + "x" * 200, "path")):
                with fake.Krtd("--metrics", address, "--name", "other", "--devices", "0", wait=False, listen=False) as other:
                    self.assertNotEqual(other.wait(), 0, address)
                    self.assertIn(says, other.log().lower(), address)
                    other.process.returncode = 0

    def test_a_reload_moves_them(self):
        def free():
            with socket.socket() as s:
                s.bind(("127.0.0.1", 0))
                return s.getsockname()[1]

        class Moved(Scraped):
            def __init__(self, address):  # pylint: disable=super-init-not-called
                self.home = pathlib.Path(fake.tempfile.mkdtemp(prefix="kaena-"))
                fake.Krtd.__init__(self, config=self.settings(address), rundir=self.home)
                self.own_dir = True
                self.address = address

            def settings(self, address):
                return {"version": 1, "daemons": [{"name": "krtd0", "listen": [f"unix:{self.home}/krtd.sock"], "devices": [0],
                                                   **({"metrics": address} if address else {})}]}

            def move(self, address, says="reload: done"):
                before = self.log().count(says)
                (self.home / "krtd.json").write_text(fake.json.dumps(self.settings(address)))
                self.signal(fake.signal.SIGHUP)
                fake.wait_until(lambda: self.log().count(says) > before, says)

            def refuses(self, address):
                self.address = address
                try:
                    self.get("/healthz")
                except (ConnectionError, FileNotFoundError):
                    return True
                return False

        with Moved(None) as krtd, socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            first, second = f"127.0.0.1:{free()}", f"127.0.0.1:{free()}"
            unix = f"unix:{krtd.home}/metrics.sock"
            old = None
            # The same port with another host cannot be bound while the old one is.
            for address in (first, second, unix, first, "0.0.0.0" + first[9:], first, None, unix, None):
                krtd.move(address)
                if old and old[-6:] != (address or "")[-6:]:
                    self.assertTrue(krtd.refuses(old), (old, address))
                if address:
                    krtd.address = address.replace("0.0.0.0", "127.0.0.1")
                    self.assertEqual(krtd.get("/healthz")[0], 200)
                old = address
            self.assertFalse((krtd.home / "metrics.sock").exists())
            # Where they cannot be changes nothing.
            krtd.move(first)
            for bad in (f"127.0.0.1:{taken.getsockname()[1]}", "unix:/nowhere/metrics.sock"):
                krtd.move(bad, says=f"reload: metrics '{bad}': ")
                self.assertIn("the settings stay as they were", krtd.log().splitlines()[-1])
                krtd.address = first
                self.assertEqual(krtd.get("/healthz")[0], 200)

    def test_healthz_while_it_drains(self):
        with Scraped() as krtd, krtd.client() as client:
            client.load(fake.model(sleep_ms=1500, host=1))
            call = client.infer_later(fake.request())
            fake.wait_until(lambda: 'kaena_running_requests{model="m"' in krtd.get()[2] and
                            re.search(r'kaena_running_requests\{model="m",[^}]*\} 1\n', krtd.get()[2]), "it runs")
            krtd.signal()
            fake.wait_until(lambda: krtd.get("/healthz")[0] == 503, "not healthy any more")
            call.result()
            krtd.wait()


if __name__ == "__main__":
    unittest.main(verbosity=2)
