#!/usr/bin/python3
"""kaena-ls and kaena-top: what they say of daemons that live, that die, and that are not there."""

import fcntl
import json
import os
import pathlib
import pty
import re
import select
import shutil
import signal
import struct
import subprocess
import tempfile
import termios
import time
import unittest

import daemon
import fake

LS = daemon.BUILD / "tools" / "kaena-ls"
TOP = daemon.BUILD / "tools" / "kaena-top"


class Host:
    """A run directory and a configuration of two daemons and a device that nobody serves."""

    def __init__(self):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="kaena-"))
        self.config = self.dir / "krtd.json"
        self.config.write_text(json.dumps({
            "version": 1, "chips": [{"pci": "0000:00:1d.0"}, {"pci": "0000:00:1e.0"}, {"pci": "0000:00:1f.0"}],
            "daemons": [{"name": "a", "listen": [f"unix:{self.dir}/a.sock"], "devices": [0]},
                        {"name": "b", "listen": [f"unix:{self.dir}/b.sock"], "devices": [1]}]}))

    def start(self, name):
        krtd = fake.Krtd("--config", str(self.config), "--name", name, "--threads", "2", rundir=self.dir, listen=False)
        krtd.path = self.dir / f"{name}.sock"
        krtd.socket = f"unix:{krtd.path}"
        return krtd

    def run(self, *arguments):
        return subprocess.run([str(a) for a in arguments], capture_output=True, text=True, timeout=60,
                              env={**os.environ, "KAENA_RUNDIR": str(self.dir), "KAENA_CONFIG": str(self.config)})

    def __enter__(self):
        return self

    def __exit__(self, *_):
        shutil.rmtree(self.dir)


class Ls(fake.TestCase):
    def devices(self, host):
        result = host.run(LS, "--json")
        self.assertEqual(result.returncode, 0, result.stderr)
        return json.loads(result.stdout)["devices"]

    def test_nobody_runs(self):
        with Host() as host:
            table = host.run(LS)
            self.assertEqual(table.returncode, 0, table.stderr)
            rows = table.stdout.splitlines()
            self.assertEqual(len(rows), 4)
            self.assertIn("no daemon runs (a would serve it)", rows[1])
            self.assertIn("no daemon runs, and none is configured for it", rows[3])
            self.assertEqual([(d["device"], d["configured"], d["owned"], d["pid"]) for d in self.devices(host)],
                             [(0, "a", False, None), (1, "b", False, None), (2, None, False, None)])

    def test_daemons_their_models_and_their_end(self):
        with Host() as host:
            with host.start("a") as a, host.start("b") as b, a.client() as client:
                client.load(fake.model(dram=1000))
                devices = self.devices(host)
                self.assertEqual([(d["daemon"], d["pid"], d["answers"]) for d in devices],
                                 [("a", a.process.pid, True), ("b", b.process.pid, True), (None, None, False)])
                self.assertEqual((devices[0]["models"], devices[0]["dram_used_bytes"], devices[0]["address"]),
                                 (["m"], 1000, a.socket))
                self.assertRegex(devices[0]["version"], r"^\d+\.\d+")
                row = host.run(LS).stdout.splitlines()[1]
                for text in ("0000:00:1d.0", " a ", str(a.process.pid), a.socket, " m"):
                    self.assertIn(text, row)
                # One that hangs is said to, and keeps nobody.
                b.signal(signal.SIGSTOP)
                try:
                    second = self.devices(host)[1]
                    self.assertEqual((second["daemon"], second["owned"], second["answers"]), ("b", True, False))
                    self.assertIn("its daemon does not answer", host.run(LS).stdout)
                finally:
                    b.signal(signal.SIGCONT)
                b.signal(signal.SIGKILL)
                b.wait()
                b.process.returncode = 0
                self.assertEqual([d["owned"] for d in self.devices(host)], [True, False, False])

    def test_bad_command_lines_and_files(self):
        with Host() as host:
            self.assertEqual(host.run(LS, "more").returncode, 2)
            self.assertEqual(host.run(LS, "--nothing").returncode, 2)
            self.assertEqual(host.run(LS, "--help").returncode, 0)
            missing = host.run(LS, "--config", "/nowhere.json")
            self.assertEqual(missing.returncode, 1)
            self.assertIn("/nowhere.json", missing.stderr)
            host.config.write_text("{")
            broken = host.run(LS)
            self.assertEqual(broken.returncode, 1)
            self.assertIn(str(host.config), broken.stderr)


class Screen:
    """kaena-top under a terminal of its own: what it has written, and what of that is on the screen."""

    def __init__(self, host, *arguments, rows=30, columns=120):
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.environ.update(TERM="xterm", KAENA_RUNDIR=str(host.dir), KAENA_CONFIG=str(host.config))
            os.execv(TOP, [str(TOP), "--interval", "0.2", *arguments])
        self.resize(rows, columns)
        self.seen = ""

    def resize(self, rows, columns):
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def read(self):
        try:
            if select.select([self.fd], [], [], 0.05)[0]:
                self.seen += re.sub(r"\x1b(\[[0-9;?]*[ -/]*[@-~]|[()].|[=>78])", "\x00", os.read(self.fd, 65536).decode())
        except OSError:
            pass

    def until(self, text):
        """Waits for |text| among what comes from now on."""
        self.seen = ""
        until = time.monotonic() + fake.SECONDS
        again = 0.0
        while not re.search(text, self.seen):
            if time.monotonic() > until:
                raise AssertionError(f"never seen: {text} in {self.seen[-2000:]}")
            if time.monotonic() > again:  # all of it: otherwise only what changes is written
                self.key("\x0c")
                again = time.monotonic() + 0.3
            self.read()

    def key(self, key):
        os.write(self.fd, key.encode())

    def wait(self):
        until = time.monotonic() + fake.SECONDS
        while time.monotonic() < until:
            self.read()
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                os.close(self.fd)
                return os.waitstatus_to_exitcode(status)
        os.kill(self.pid, signal.SIGKILL)
        raise AssertionError("it does not end")


class Top(fake.TestCase):
    def test_plain_text(self):
        with Host() as host, host.start("a") as a, a.client() as client:
            client.load(fake.model("alpha", dram=500000))
            client.load(fake.model("beta", host=1, sleep_ms=10000))
            held = client.infer_later(fake.request("beta"))
            fake.wait_until(lambda: client.model("beta").executions == 1, "it runs")
            process = subprocess.Popen([str(TOP), "--interval", "0.5", "--batch", "4"], stdout=subprocess.PIPE, text=True,
                                       env={**os.environ, "KAENA_CONFIG": str(host.config), "KAENA_RUNDIR": str(host.dir)})
            while process.poll() is None:
                client.infer(fake.request("alpha"))
            out = process.stdout.read()
            process.stdout.close()
            held.cancel()
            self.assertEqual(process.returncode, 0)
            frames = [f for f in out.split("kaena-top ") if f]
            self.assertEqual(len(frames), 4)
            last = frames[-1].splitlines()
            self.assertIn("2 daemons, 1 without an answer", last[0])
            self.assertRegex(frames[-1], r"(?m)^a at unix:\S+a\.sock: up ")
            self.assertRegex(frames[-1], r"(?m)^unix:\S+b\.sock: .*No such file")
            self.assertRegex(frames[-1], r"device 0 +0000:00:1d\.0  +TPB .*memory \[\|+ *\] +50% 488\.3 KiB of 976\.6 KiB")
            rows = {line.split()[0]: line.split() for line in last if line.startswith(("alpha", "beta"))}
            self.assertGreater(float(rows["alpha"][3]), 1)
            self.assertEqual(float(rows["alpha"][4]), 0)
            self.assertGreater(float(rows["alpha"][6]), 0)
            self.assertEqual(rows["beta"][5:9], ["-", "-", "0", "1"])
            # By rate: the busy one first.
            self.assertLess(frames[-1].index("alpha"), frames[-1].index("beta"))

    def test_without_a_terminal_one_frame(self):
        with Host() as host, host.start("a"):
            result = host.run(TOP, "--interval", "0.1")
            self.assertEqual(result.returncode, 0, result.stderr)
            self.assertEqual(result.stdout.count("kaena-top "), 1)
            self.assertNotIn("\x1b", result.stdout)

    def test_nobody_answers(self):
        with Host() as host:
            result = host.run(TOP, "--once", "--interval", "0.1")
            self.assertEqual(result.returncode, 1)
            self.assertIn("2 daemons, 2 without an answer", result.stdout)

    def test_bad_command_lines(self):
        with Host() as host:
            for arguments in (["--interval", "0"], ["--interval", "nan"], ["--sort", "x"], ["--batch", "-1"], ["x"], ["--x"]):
                result = host.run(TOP, *arguments)
                self.assertEqual(result.returncode, 2, arguments)
                self.assertIn("usage: kaena-top", result.stderr)
            self.assertIn("keys:", host.run(TOP, "--help").stdout)

    def test_the_screen(self):
        with Host() as host, host.start("a") as a, a.client() as client:
            client.load(fake.model("alpha"))
            screen = Screen(host)
            screen.until(r"2 daemons, 1 without an answer")
            screen.until(r"\d\d:\d\d:\d\d")
            screen.key("s")
            screen.until(r"name")
            screen.key("p")
            screen.until(r"PAUSED")
            screen.key("p")
            # Another size draws everything anew, in its width.
            screen.resize(12, 60)
            screen.until(r"MODEL +VERSION")
            screen.resize(3, 10)
            screen.resize(40, 200)
            screen.until(r"BATCH")
            # The second daemon comes, dies, and comes back.
            with host.start("b") as b:
                screen.until(r"b at")
                b.signal(signal.SIGKILL)
                b.wait()
                b.process.returncode = 0
                screen.until(r"without an answer")
                with host.start("b"):
                    screen.until(r"b at")
            screen.key("q")
            self.assertEqual(screen.wait(), 0)

    def test_a_signal_restores_the_terminal(self):
        with Host() as host:
            screen = Screen(host)
            screen.until(r"kaena-top")
            os.kill(screen.pid, signal.SIGTERM)
            self.assertEqual(screen.wait(), 0)

    def test_a_daemon_that_hangs_does_not_hang_the_screen(self):
        with Host() as host, host.start("a") as a, host.start("b"):
            screen = Screen(host)
            screen.until(r"a at")
            a.signal(signal.SIGSTOP)
            try:
                screen.until(r"late|without an answer")
                screen.key("s")
                screen.until(r"name")
                screen.key("q")
                self.assertEqual(screen.wait(), 0)
            finally:
                a.signal(signal.SIGCONT)


if __name__ == "__main__":
    unittest.main(verbosity=2)
