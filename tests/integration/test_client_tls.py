#!/usr/bin/python3
"""libkaena over TLS: who is trusted, who is not, and what is told."""

import os
import subprocess
import tempfile
import unittest

import daemon
import fake


def make_certificates(directory):
    """A CA, a certificate of localhost and one of a client, and another CA that signed nothing."""
    def openssl(*arguments):
        subprocess.run(["openssl", *arguments], cwd=directory, check=True, capture_output=True)
    for ca in ("ca", "other"):
        openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", f"{ca}.key", "-out", f"{ca}.pem", "-days",
                "2", "-subj", f"/CN={ca}")
    for name in ("server", "client"):
        with open(f"{directory}/{name}.ext", "w", encoding="utf-8") as f:
            f.write("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
        openssl("req", "-newkey", "rsa:2048", "-nodes", "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj",
                f"/CN={name}")
        openssl("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-out",
                f"{name}.pem", "-days", "2", "-extfile", f"{name}.ext")


class Tls(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.directory = tempfile.TemporaryDirectory()
        cls.at = cls.directory.name
        make_certificates(cls.at)
        cls.port = daemon.free_port()
        cls.krtd = fake.Krtd("--listen", f"localhost:{cls.port}", "--tls-cert", f"{cls.at}/server.pem", "--tls-key",
                             f"{cls.at}/server.key", "--tls-client-ca", f"{cls.at}/ca.pem", listen=False)

    @classmethod
    def tearDownClass(cls):
        with cls.krtd:
            pass
        cls.directory.cleanup()

    def cli(self, *arguments, address=None, env=()):
        return subprocess.run([daemon.CLI, "--address", address or f"localhost:{self.port}", *arguments], text=True,
                              capture_output=True, check=False, env={**os.environ, **dict(env)})

    def options(self, ca="ca", cert="client"):
        return ["--tls-ca", f"{self.at}/{ca}.pem"] + (
            ["--tls-cert", f"{self.at}/{cert}.pem", "--tls-key", f"{self.at}/{cert}.key"] if cert else [])

    def test_a_model_is_loaded_and_asked(self):
        model = f"{self.at}/m.neff"
        with open(model, "w", encoding="utf-8") as f:
            f.write(fake.model("m", inputs=["x float32 200000"], outputs=["y float32 200000"], contexts=4))
        loaded = self.cli(*self.options(), "load", model)
        self.assertEqual(loaded.returncode, 0, loaded.stderr)
        for more in ([], ["--async", "4"]):
            asked = self.cli(*self.options(), "bench", "--model", "m", "--requests", "50", "--concurrency", "3", *more)
            self.assertEqual(asked.returncode, 0, asked.stderr)
        env = {"KAENA_TLS_CA": f"{self.at}/ca.pem", "KAENA_TLS_CERT": f"{self.at}/client.pem",
               "KAENA_TLS_KEY": f"{self.at}/client.key"}
        self.assertIn("m ", self.cli("models", env=env).stdout)
        self.assertEqual(self.cli("unload", "m", env=env).returncode, 0)

    def test_who_is_not_trusted_is_told_so(self):
        for options in (self.options(ca="other"), self.options(cert=None)):
            refused = self.cli(*options, "models")
            self.assertEqual(refused.returncode, 1)
            self.assertRegex(refused.stderr, "does not agree on TLS|broke before")
        plain = self.cli("models")
        self.assertEqual(plain.returncode, 1)

    def test_a_daemon_that_is_not_there(self):
        absent = self.cli(*self.options(), "models", address=f"localhost:{daemon.free_port()}")
        self.assertIn("no daemon answers", absent.stderr)

    def test_files_that_cannot_be_used(self):
        for options, text in (
                (["--tls-ca", "/nonexistent.pem"], "/nonexistent.pem"), (["--tls-ca", "/dev/null"], "/dev/null"),
                (["--tls-ca", f"{self.at}/ca.pem", "--tls-cert", f"{self.at}/client.pem"], "belong together"),
                (["--tls-cert", f"{self.at}/client.pem", "--tls-key", f"{self.at}/client.key"], "no CA"),
                (["--tls-ca", f"{self.at}/client.ext"], "PEM")):
            with self.subTest(options=options):
                done = self.cli(*options, "models")
                self.assertEqual(done.returncode, 1)
                self.assertIn(text, done.stderr)


if __name__ == "__main__":
    unittest.main()
