#!/usr/bin/python3
"""TLS and mTLS on TCP ports: certificates of a CA made here, good and bad ones, exchanged while the daemon runs."""

import json
import os
import pathlib
import shutil
import socket
import ssl
import subprocess
import tempfile
import time
import unittest

import daemon
import fake
from fake import Krtd, model, request

if not shutil.which("openssl"):
    daemon.skip("openssl is not installed (scripts/setup)")

grpc = fake.grpc


def openssl(*arguments):
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)


class Files:
    """A CA, and what it has signed; .pem is a certificate, .key its key."""

    def __init__(self, directory):
        self.dir = pathlib.Path(directory)
        self.ca("ca")
        self.ca("other-ca")
        self.sign("server", "ca", "DNS:localhost,IP:127.0.0.1")
        self.sign("server2", "ca", "DNS:localhost,IP:127.0.0.1")
        self.sign("client", "ca")
        self.sign("stranger", "other-ca")

    def __getattr__(self, name):
        stem, _, kind = name.rpartition("_")
        return self.dir / f"{stem.replace('_', '-')}.{kind}"

    def ca(self, name):
        openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
                "-subj", f"/CN={name}", "-keyout", self.dir / f"{name}.key", "-out", self.dir / f"{name}.pem")

    def sign(self, name, ca, names=None):
        openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", f"/CN={name}",
                "-keyout", self.dir / f"{name}.key", "-out", self.dir / f"{name}.csr")
        extensions = self.dir / f"{name}.ext"
        extensions.write_text(f"subjectAltName={names}\n" if names else "basicConstraints=CA:FALSE\n")
        openssl("x509", "-req", "-in", self.dir / f"{name}.csr", "-CA", self.dir / f"{ca}.pem", "-CAkey",
                self.dir / f"{ca}.key", "-CAcreateserial", "-days", "2", "-extfile", extensions, "-out",
                self.dir / f"{name}.pem")


class SecureClient(fake.Client):
    def __init__(self, target, root, key=None, chain=None):
        super().__init__("unix:/unused")
        self.channel.close()
        credentials = grpc.ssl_channel_credentials(*(p and p.read_bytes() for p in (root, key, chain)))
        self.channel = grpc.secure_channel(target, credentials, options=[("grpc.use_local_subchannel_pool", 1)])
        self.load_call = self.method("Load", fake.rt.LoadResponse, "stream_unary")
        self.infer_call = self.method("Infer", fake.rt.InferResponse)


def served_subject(address):
    """The common name in the certificate that the daemon shows."""
    host, port = address.rsplit(":", 1)
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    with socket.create_connection((host, int(port)), timeout=fake.SECONDS) as raw, context.wrap_socket(raw) as s:
        der = s.getpeercert(binary_form=True)
    text = subprocess.run(["openssl", "x509", "-inform", "DER", "-noout", "-subject"], input=der, capture_output=True,
                          check=True).stdout.decode()
    return text.strip().split("= ")[-1].split("=")[-1].strip()


class Tls(fake.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.directory = tempfile.TemporaryDirectory(prefix="kaena-tls-")
        cls.addClassCleanup(cls.directory.cleanup)
        cls.files = Files(cls.directory.name)

    def tls(self, *more):
        f = self.files
        return Krtd("--tls-cert", f.server_pem, "--tls-key", f.server_key, *more)

    def refused(self, client):
        """A call fails before it reaches the daemon."""
        with client, self.assertRaises(grpc.RpcError) as caught:
            client.method("ListDevices", fake.rt.ListDevicesResponse)(fake.rt.ListDevicesRequest(), timeout=5)
        self.assertIn(caught.exception.code(), (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED))

    def test_tls(self):
        f = self.files
        with self.tls() as krtd:
            self.assertIn(f"listening on {krtd.tcp} with TLS", krtd.log())
            self.assertNotIn("krtd.sock with TLS", krtd.log())
            with SecureClient(krtd.tcp, f.ca_pem) as client, krtd.client() as local:
                local.load(model())
                self.assertEqual(client.infer(request()).outputs[0].data, fake.tensor().data)
                n = 1 << 20
                local.load(model("big", inputs=[f"x float32 {n}"], outputs=[f"y float32 {n}"]))
            with SecureClient(krtd.tcp, f.ca_pem) as client:
                data = bytes(range(256)) * (n // 64)
                client.channel.close()
                client.channel = grpc.secure_channel(krtd.tcp, grpc.ssl_channel_credentials(f.ca_pem.read_bytes()), options=[
                    ("grpc.max_receive_message_length", -1)])
                client.infer_call = client.method("Infer", fake.rt.InferResponse)
                answer = client.infer(request("big", [fake.tensor(shape=[n], data=data)]))
                self.assertEqual(answer.outputs[0].data, data)
            self.refused(SecureClient(krtd.tcp, f.other_ca_pem))
            self.refused(fake.Client(krtd.tcp))  # without TLS
            with krtd.client() as local:
                local.infer(request())

    def test_clients_need_a_certificate_when_it_is_asked_for(self):
        f = self.files
        with self.tls("--tls-client-ca", f.ca_pem) as krtd:
            with SecureClient(krtd.tcp, f.ca_pem, f.client_key, f.client_pem) as client:
                self.assertEqual(len(client.devices().devices), 1)
            self.refused(SecureClient(krtd.tcp, f.ca_pem))
            self.refused(SecureClient(krtd.tcp, f.ca_pem, f.stranger_key, f.stranger_pem))
            with krtd.client() as local:  # unix sockets have modes instead
                self.assertEqual(len(local.devices().devices), 1)

    def test_bad_files_are_named(self):
        f = self.files
        garbage = f.dir / "garbage.pem"
        garbage.write_text("-----BEGIN CERTIFICATE-----\nnothing\n-----END CERTIFICATE-----\n")
        empty = f.dir / "empty.pem"
        empty.write_text("")
        locked = f.dir / "locked.key"
        openssl("ec", "-in", f.server_key, "-aes128", "-passout", "pass:x", "-out", locked)
        large = f.dir / "large.pem"
        large.write_bytes(bytes((1 << 20) + 1))
        for cert, key, ca, says in (
                ("/nowhere", f.server_key, None, "certificate '/nowhere': No such file"),
                (f.server_pem, "/nowhere", None, "key '/nowhere': No such file"),
                (f.server_pem, f.server_key, "/nowhere", "client CA '/nowhere': No such file"),
                (garbage, f.server_key, None, f"certificate '{garbage}': no certificate in PEM form"),
                (empty, f.server_key, None, f"certificate '{empty}': no certificate in PEM form"),
                (f.server_key, f.server_key, None, f"certificate '{f.server_key}': no certificate in PEM form"),
                (f.server_pem, f.server_pem, None, f"key '{f.server_pem}': no private key in PEM form"),
                (f.server_pem, locked, None, f"key '{locked}': no private key in PEM form without a passphrase"),
                (f.server_pem, f.client_key, None, f"key '{f.client_key}' does not belong to certificate '{f.server_pem}'"),
                (f.server_pem, f.server_key, garbage, f"client CA '{garbage}': no certificate in PEM form"),
                (f.dir, f.server_key, None, f"certificate '{f.dir}': not a regular file"),
                (large, f.server_key, None, f"certificate '{large}': larger than")):
            options = ["--tls-cert", cert, "--tls-key", key, *(["--tls-client-ca", ca] if ca else [])]
            krtd = Krtd(*map(str, options), wait=False)
            self.assertEqual(krtd.wait(), 1)
            self.assertIn(says, krtd.log())
            self.assertEqual(len(krtd.log().splitlines()), 1, krtd.log())
            with self.subTest(says):
                path = f.dir / "krtd.json"
                path.write_text(json.dumps({"version": 1, "daemons": [{
                    "name": "a", "listen": [f"unix:{f.dir}/a.sock"], "devices": [0],
                    "tls": {"cert": str(cert), "key": str(key), "client_ca": ca and str(ca)}}]}))
                done = subprocess.run([fake.KRTD, "--check-config", "--config", path], capture_output=True, text=True,
                                      check=False, env={**daemon.os.environ, "KAENA_RUNDIR": str(f.dir)})
                self.assertEqual((done.returncode, done.stdout), (2, ""))
                self.assertIn(says, done.stderr)
            shutil.rmtree(krtd.dir)
        for options, says in ((["--tls-cert", f.server_pem], "--tls-cert and --tls-key: one without the other"),
                              (["--tls-key", f.server_key], "--tls-cert and --tls-key: one without the other"),
                              (["--tls-client-ca", f.ca_pem], "--tls-client-ca needs --tls-cert")):
            krtd = Krtd(*map(str, options), wait=False)
            self.assertEqual(krtd.wait(), 2)
            self.assertIn(says, krtd.log())
            shutil.rmtree(krtd.dir)

    def test_a_port_that_is_taken(self):
        f = self.files
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            krtd = Krtd("--listen", f"127.0.0.1:{taken.getsockname()[1]}", "--tls-cert", f.server_pem, "--tls-key",
                        f.server_key, listen=False, wait=False)
            self.assertEqual(krtd.wait(), 1)
            self.assertIn("Address already in use", krtd.log())
            shutil.rmtree(krtd.dir)

    def test_certificates_are_exchanged_while_it_runs(self):
        f = self.files
        cert, key = f.dir / "now.pem", f.dir / "now.key"

        def use(name):
            shutil.copy(f.dir / f"{name}.key", key)
            shutil.copy(f.dir / f"{name}.pem", cert)

        def reload(krtd, says):
            before = krtd.log().count(says)
            krtd.signal(fake.signal.SIGHUP)
            fake.wait_until(lambda: krtd.log().count(says) > before, says)

        use("server")
        with Krtd("--listen", "127.0.0.1:0", "--tls-cert", cert, "--tls-key", key) as krtd:
            ports = [line.split()[-3] for line in krtd.log().splitlines() if line.endswith(" with TLS")]
            self.assertEqual(len(ports), 2)
            with SecureClient(ports[0], f.ca_pem) as old:
                old.devices()
                self.assertEqual([served_subject(p) for p in ports], ["server"] * 2)
                use("server2")
                self.assertEqual([served_subject(p) for p in ports], ["server"] * 2, "only when told")
                reload(krtd, "reload: done")
                self.assertEqual([served_subject(p) for p in ports], ["server2"] * 2)
                shutil.copy(f.client_key, key)
                reload(krtd, "does not belong to certificate")
                self.assertEqual([served_subject(p) for p in ports], ["server2"] * 2)
                cert.unlink()
                reload(krtd, "No such file or directory")
                self.assertEqual([served_subject(p) for p in ports], ["server2"] * 2)
                old.devices()  # a connection outlives all that

    def test_failed_handshakes_do_not_fill_the_log(self):
        with self.tls() as krtd:
            host, port = krtd.tcp.rsplit(":", 1)
            for i in range(100):
                with socket.create_connection((host, int(port)), timeout=fake.SECONDS) as s:
                    s.sendall(b"GET / HTTP/1.1\r\n\r\n" if i % 2 else bytes([i]) * 100)
                    try:
                        while s.recv(4096):
                            pass
                    except ConnectionResetError:
                        pass
            with SecureClient(krtd.tcp, self.files.ca_pem) as client:
                client.devices()
            lines = krtd.log().splitlines()
            self.assertLessEqual(len(lines), 12, "\n".join(lines))
            self.assertTrue(all(" krtd0: " in line for line in lines), "in the daemon's own form")

    def test_sockets_of_the_service_manager_never_speak_plain_tcp_instead(self):
        f = self.files
        script = 'exec 3<&"$1" && export LISTEN_FDS=1 LISTEN_PID=$$ && shift && exec "$@"'
        for family, address, ok in ((socket.AF_INET, ("127.0.0.1", 0), False), (socket.AF_UNIX, str(f.dir / "act.sock"), True)):
            with socket.socket(family) as listener:
                listener.bind(address)
                listener.listen()
                process = subprocess.Popen(["bash", "-c", script, "bash", str(listener.fileno()), fake.KRTD, "--tls-cert",
                                            f.server_pem, "--tls-key", f.server_key], pass_fds=[listener.fileno()],
                                           stderr=subprocess.PIPE, env={**daemon.os.environ, "KAENA_RUNDIR": str(f.dir)})
                if ok:
                    with fake.Client(f"unix:{address}") as client:
                        self.assertEqual(len(client.devices().devices), 1)
                    process.terminate()
                log = process.communicate(timeout=fake.SECONDS)[1].decode()
                self.assertEqual(process.returncode, 0 if ok else 1, log)
                self.assertEqual("is a TCP socket, which could not speak TLS" in log, not ok, log)

    def test_drain(self):
        """SIGTERM: what was accepted over TLS is answered, the port takes nobody any more."""
        with self.tls() as krtd, SecureClient(krtd.tcp, self.files.ca_pem) as client, krtd.client() as local:
            local.load(model(sleep_ms=500))
            running = [client.infer_later(request()) for _ in range(3)]
            fake.wait_until(lambda: local.model("m").queued == 2, "one runs, two wait")
            krtd.signal()
            fake.wait_until(lambda: "draining" in krtd.log(), "it drains")
            self.fails(grpc.StatusCode.UNAVAILABLE, client.infer, request(), reason=fake.Reason.DRAINING)
            host, port = krtd.tcp.rsplit(":", 1)
            with self.assertRaises(OSError), socket.create_connection((host, int(port)), timeout=5) as s:
                s.sendall(b"x" * 100)
                if not s.recv(1):
                    raise ConnectionResetError
            self.assertEqual([c.code() for c in running], [grpc.StatusCode.OK] * 3)
            self.assertEqual(krtd.wait(), 0)

    def test_connections_beyond_the_limit_are_cut(self):
        f = self.files
        config = {"version": 1, "daemons": [{"name": "krtd0", "listen": ["127.0.0.1:0", "127.0.0.1:0"], "devices": [0],
                                             "tls": {"cert": str(f.server_pem), "key": str(f.server_key)},
                                             "limits": {"connections": 4}}]}
        with Krtd(config=config) as krtd:
            with SecureClient(krtd.tcp, f.ca_pem) as client:
                client.devices()
                host, port = krtd.tcp.rsplit(":", 1)
                idle = [socket.create_connection((host, int(port)), timeout=fake.SECONDS) for _ in range(10)]
                end = time.monotonic() + 5  # well below the limit of a handshake
                cut = 0
                for s in idle:
                    s.settimeout(max(0.1, end - time.monotonic()))
                    try:
                        cut += s.recv(1) == b""
                    except ConnectionResetError:
                        cut += 1
                    except TimeoutError:
                        pass
                self.assertEqual(cut, 7, "the client and three more stay")
                client.devices()
                for s in idle:
                    s.close()
            fake.wait_until(lambda: "connection limit reached" in krtd.log(), "it says so")
            with SecureClient(krtd.tcp, f.ca_pem) as client:
                client.devices()

    def test_descriptors_do_not_run_out(self):
        """The core would give up the port for good: connections are cut before that, those that were there first stay."""
        f = self.files
        most = 300
        with Krtd("--tls-cert", f.server_pem, "--tls-key", f.server_key, nofile=most) as krtd:
            host, port = krtd.tcp.rsplit(":", 1)

            def held():
                return len(os.listdir(f"/proc/{krtd.process.pid}/fd"))

            def is_open(s):
                try:
                    return s.recv(1) != b""
                except BlockingIOError:
                    return True
                except ConnectionResetError:
                    return False

            before, idle = held(), []
            for _ in range(6):
                for _ in range(50):
                    idle.append(socket.create_connection((host, int(port)), timeout=fake.SECONDS))
                    idle[-1].setblocking(False)
                fake.wait_until(lambda: before + sum(map(is_open, idle)) - 5 <= held() <= most * 3 // 4 + 5, "room is made")
            self.assertLess(sum(map(is_open, idle)), len(idle))
            for s in idle:
                s.close()
            fake.wait_until(lambda: held() < before + 10, "all are gone")
            with SecureClient(krtd.tcp, f.ca_pem) as client:
                client.devices()
            self.assertNotIn("Too many open files", krtd.log())


if __name__ == "__main__":
    unittest.main(verbosity=2)
