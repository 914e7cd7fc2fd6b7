#!/usr/bin/python3
"""The units under a systemd of their own: a container boots with this machine's /usr and what was built in /usr/local, and
the daemons of a mapping are started, killed, stopped dead, reloaded and drained in it."""

import json
import os
import pathlib
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
import unittest

import daemon
import fake

SECONDS = 120  # for what takes a second: only a hang reaches it
NAMES = ("krtd0", "krtd1")
UNITS = [f"krtd@{name}.service" for name in NAMES]


def lacking():
    """Why no container can boot here, or None."""
    if os.geteuid() != 0:
        return "a container with systemd needs root"
    for program in ("systemd-nspawn", "nsenter", "meson"):
        if not shutil.which(program):
            return f"{program} is not installed (scripts/setup)"
    if not pathlib.Path("/usr/lib/systemd/systemd").exists():
        return "systemd is not installed (scripts/setup)"
    if not pathlib.Path("/bin").is_symlink():
        return "/usr is not merged here: a container cannot live on it alone"
    return None


class Machine:
    """A booted container. Its /etc, /run and /var are its own and vanish with it."""

    def __init__(self):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="kaena-boot-"))
        self.root = self.dir / "root"
        self.log = self.dir / "console"
        self.models = self.dir / "models"
        self.models.mkdir()
        self.leader = None
        self.nspawn = None

    def prepare(self):
        for name in ("etc/kaena", "etc/systemd/system", "usr/lib", "var", "run", "proc", "sys", "dev", "tmp", "root"):
            (self.root / name).mkdir(parents=True)
        for name in ("bin", "sbin", "lib", "lib64"):
            if pathlib.Path("/", name).is_symlink():
                (self.root / name).symlink_to(os.readlink(f"/{name}"))
        shutil.copy("/usr/lib/os-release", self.root / "usr/lib/os-release")
        (self.root / "etc/machine-id").write_text("6b61656e61" + "0" * 21 + "1\n")  # not a first boot: no presets
        (self.root / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
        (self.root / "etc/group").write_text("root:x:0:\n")
        subprocess.run(["meson", "install", "-C", daemon.BUILD, "--no-rebuild", "--quiet", "--destdir",
                        self.dir / "install"], check=True, stdout=subprocess.DEVNULL)

    def boot(self):
        with open(self.log, "wb") as log:
            self.nspawn = subprocess.Popen(
                ["systemd-nspawn", "--quiet", "--boot", "--directory", self.root, "--bind-ro=/usr:/usr",
                 f"--bind-ro={self.dir}/install/usr/local:/usr/local", f"--bind={self.models}:/models",
                 "--register=no", "--keep-unit", f"--machine=kaena-{os.getpid()}", "systemd.firstboot=off"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self.until(self.is_up, "the container is up")

    def is_up(self):
        if self.nspawn.poll() is not None:
            return True
        children = pathlib.Path(f"/proc/{self.nspawn.pid}/task/{self.nspawn.pid}/children").read_text().split()
        if not children:
            return False
        self.leader = int(children[0])
        state = self.run("systemctl", "is-system-running", check=False).stdout.strip()
        return state in ("running", "degraded")

    def until(self, condition, what):
        end = time.monotonic() + SECONDS
        while not condition():
            if time.monotonic() > end:
                raise AssertionError(f"never: {what}\n{self.journal()}")
            time.sleep(0.1)

    def run(self, *command, check=True, **options):
        done = subprocess.run(["nsenter", "-t", str(self.leader), "-a", "--", *map(str, command)], text=True,
                              capture_output=True, check=False, timeout=SECONDS, **options)
        if check and done.returncode != 0:
            raise AssertionError(f"{command}: {done.returncode}\n{done.stdout}{done.stderr}\n{self.journal()}")
        return done

    def journal(self):
        if self.leader is None:
            return self.log.read_text()
        return self.run("journalctl", "--no-pager", "--lines=200", "-u", "krtd*", check=False).stdout

    def show(self, unit, name):
        return self.run("systemctl", "show", unit, f"--property={name}", "--value").stdout.strip()

    def pid(self, unit):
        """Of the unit's main process, as this machine counts."""
        inside = self.show(unit, "MainPID")
        for status in pathlib.Path("/proc").glob("[0-9]*/status"):
            try:
                lines = dict(line.split(":\t", 1) for line in status.read_text().splitlines() if ":\t" in line)
            except (FileNotFoundError, ProcessLookupError):
                continue
            if lines["NSpid"].split()[1:] == [inside] and self.same_container(status.parent):
                return int(lines["Pid"])
        return None

    def same_container(self, process):
        try:
            return os.readlink(process / "ns/pid") == os.readlink(f"/proc/{self.leader}/ns/pid")
        except OSError:
            return False

    def path(self, inside):
        return pathlib.Path(f"/proc/{self.leader}/root{inside}")

    def client(self, name):
        return fake.Client(f"unix:{self.path(f'/run/kaena/{name}.sock')}")

    def cli(self, name, *arguments):
        return self.run("env", "LD_LIBRARY_PATH=/usr/local/lib",
                        f"KAENA_KRTD_ADDRESS=unix:/run/kaena/{name}.sock", "kaena-cli", *arguments)

    def write_mapping(self, limits=None, text=None):
        mapping = {"version": 1, "chips": [{"pci": "0000:00:1e.0"}, {"pci": "0000:00:1f.0"}],
                   "daemons": [{"name": name, "listen": [f"unix:/run/kaena/{name}.sock"], "devices": [i], "threads": 1,
                                "model_dir": "/models", "limits": limits or {}} for i, name in enumerate(NAMES)]}
        # In one step, as editors write: a daemon that starts must not meet half a file.
        new = self.root / "etc/kaena/krtd.json.new"
        new.write_text(json.dumps(mapping) if text is None else text)
        new.rename(self.root / "etc/kaena/krtd.json")

    def close(self):
        if self.nspawn and self.nspawn.poll() is None:
            if self.leader:
                self.run("systemctl", "poweroff", check=False)
            try:
                self.nspawn.wait(30)
            except subprocess.TimeoutExpired:
                if self.leader:
                    os.kill(self.leader, signal.SIGKILL)
                self.nspawn.kill()
                self.nspawn.wait()
        shutil.rmtree(self.dir)


class Load:
    """Requests to one daemon, one after another, until told to end; they are counted and compared."""

    def __init__(self, machine, name):
        self.client = machine.client(name)
        self.answers, self.errors, self.wrong = 0, [], 0
        info = self.client.model("digits")
        self.input = fake.tensors.Tensor(name=info.inputs[0].name, dtype=FLOAT32, shape=[1, 1, 8, 8], data=bytes(256))
        self.expected = None
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self.work)
        self.thread.start()

    def work(self):
        while not self.stop.is_set():
            try:
                answer = self.client.infer(fake.rt.InferRequest(model="digits", inputs=[self.input]))
            except fake.grpc.RpcError as error:
                self.errors.append(str(error))
                return
            data = answer.outputs[0].data
            self.expected = self.expected or data
            self.wrong += data != self.expected
            self.answers += 1

    def end(self):
        self.stop.set()
        self.thread.join()
        self.client.close()


FLOAT32 = fake.FLOAT32


class Boot(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.machine = m = Machine()
        try:
            m.prepare()
            m.write_mapping()
            if b"__asan_init" in daemon.KRTD.read_bytes():
                for unit in ("krtd.service", "krtd@.service"):  # looking for leaks takes ptrace
                    cls.drop_in(unit, "asan", "[Service]\nEnvironment=ASAN_OPTIONS=detect_leaks=0\n")
            daemon.compile_model(daemon.DIGITS / "digits.onnx", m.models / "digits.neff")
            (m.models / "digits.neff").chmod(0o644)
            m.dir.chmod(0o755)
            m.models.chmod(0o755)
            m.boot()
            if m.nspawn.poll() is not None:
                console = m.log.read_text()
                m.close()
                daemon.skip(f"systemd-nspawn does not work here: {console}")
            m.run("systemctl", "enable", "--now", "krtd.target", *UNITS)
        except BaseException:
            cls.tearDownClass()
            raise

    @classmethod
    def tearDownClass(cls):
        cls.machine.close()

    @classmethod
    def drop_in(cls, unit, name, text):
        directory = cls.machine.root / "etc/systemd/system" / f"{unit}.d"
        directory.mkdir(exist_ok=True)
        (directory / f"{name}.conf").write_text(text)

    def wait_active(self, unit, pid_before=None):
        m = self.machine
        m.until(lambda: m.show(unit, "ActiveState") == "active" and m.show(unit, "MainPID") not in ("0", pid_before),
                f"{unit} is active")

    def load_models(self):
        for name in NAMES:
            with self.machine.client(name) as client:
                if not client.models():
                    self.machine.cli(name, "load", "/models/digits.neff", "--name", "digits", "--by-path")

    def setUp(self):
        for unit in UNITS:
            self.machine.run("systemctl", "start", unit)
            self.wait_active(unit)

    def test_ready_means_that_models_can_be_loaded(self):
        m = self.machine
        for name, unit in zip(NAMES, UNITS):
            self.assertEqual(m.show(unit, "StatusText"), "serving 1 devices")
            meta = m.path(f"/run/kaena/{name}.sock").stat()
            self.assertEqual(stat.S_IMODE(meta.st_mode), 0o660)
            group = [line for line in m.path("/etc/group").read_text().splitlines() if line.startswith("kaena:")]
            self.assertEqual(meta.st_gid, int(group[0].split(":")[2]))
        self.load_models()
        for i, name in enumerate(NAMES):
            with m.client(name) as client:
                answer = client.devices()
                self.assertEqual((answer.daemon, [d.index for d in answer.devices]), (name, [i]))
                self.assertEqual([x.name for x in client.models()], ["digits"])
        self.assertEqual(m.run("krtd", "--check-config").returncode, 0)
        # One file for units, daemons and clients.
        found = json.loads(m.run("env", "LD_LIBRARY_PATH=/usr/local/lib", "kaena-cli", "devices", "--json").stdout)
        text = json.dumps(found)
        for chip in ("0000:00:1e.0", "0000:00:1f.0"):
            self.assertIn(chip, text)

    def test_nothing_is_left_to_misuse(self):
        m = self.machine
        for unit in UNITS:
            status = pathlib.Path(f"/proc/{m.pid(unit)}/status").read_text()
            for line in ("CapPrm:\t0000000000000000", "CapEff:\t0000000000000000", "CapBnd:\t0000000000000000",
                         "NoNewPrivs:\t1", "Seccomp:\t2"):
                self.assertIn(line, status)
            self.assertNotIn("Uid:\t0", status)

    def test_a_killed_daemon_returns_and_the_other_never_noticed(self):
        m = self.machine
        self.load_models()
        load = Load(m, "krtd1")
        try:
            m.until(lambda: load.answers > 100 or load.errors, "requests are answered")
            for _ in range(2):
                before, restarts = m.show(UNITS[0], "MainPID"), int(m.show(UNITS[0], "NRestarts"))
                os.kill(m.pid(UNITS[0]), signal.SIGKILL)
                self.wait_active(UNITS[0], before)
                self.assertEqual(int(m.show(UNITS[0], "NRestarts")), restarts + 1)
                with m.client("krtd0") as client:
                    self.assertEqual(len(client.models()), 0, "what it had loaded died with it")
                m.cli("krtd0", "load", "/models/digits.neff", "--name", "digits", "--by-path")
                answers = load.answers
                m.until(lambda: load.answers > answers + 100 or load.errors, "the other one goes on answering")
        finally:
            load.end()
        self.assertEqual((load.errors, load.wrong), ([], 0))
        self.assertEqual(m.show(UNITS[1], "NRestarts"), "0")

    def test_reload(self):
        m = self.machine
        self.load_models()
        before = [m.show(unit, "MainPID") for unit in UNITS]
        load = Load(m, "krtd0")
        try:
            m.write_mapping(limits={"models": 1})
            m.run("systemctl", "reload", *UNITS)
            m.until(lambda: m.show(UNITS[0], "ActiveState") == "active", "reloaded")
            with m.client("krtd0") as client, self.assertRaises(fake.grpc.RpcError) as caught:
                client.load_path("/models/digits.neff", "second")
            self.assertIn("1", caught.exception.details())
            self.assertEqual(caught.exception.code(), fake.grpc.StatusCode.RESOURCE_EXHAUSTED)
            m.write_mapping(text='{"version":1,')
            m.run("systemctl", "reload", UNITS[0])
            m.until(lambda: "the last reload failed: configuration" in m.show(UNITS[0], "StatusText"), "it says so")
            self.assertIn("the settings stay as they were", m.journal())
            m.write_mapping()
            m.run("systemctl", "reload", UNITS[0])
            m.until(lambda: m.show(UNITS[0], "StatusText") == "serving 1 devices", "reloaded")
        finally:
            m.write_mapping()
            load.end()
        self.assertEqual((load.errors, load.wrong), ([], 0))
        self.assertEqual([m.show(unit, "MainPID") for unit in UNITS], before)

    def test_the_watchdog_ends_a_daemon_that_hangs(self):
        m = self.machine
        self.drop_in(UNITS[0], "watchdog", "[Service]\nWatchdogSec=3\nTimeoutAbortSec=1\nLimitCORE=0\n")
        m.run("systemctl", "daemon-reload")
        m.run("systemctl", "restart", UNITS[0])
        self.load_models()
        load = Load(m, "krtd1")
        try:
            before = m.show(UNITS[0], "MainPID")
            os.kill(m.pid(UNITS[0]), signal.SIGSTOP)
            self.wait_active(UNITS[0], before)
            # Left alone it is not ended: signs of life come.
            again, answers = m.show(UNITS[0], "MainPID"), load.answers
            end = time.monotonic() + 8
            m.until(lambda: time.monotonic() > end and load.answers > answers or load.errors, "two periods pass")
            self.assertEqual(m.show(UNITS[0], "MainPID"), again)
        finally:
            load.end()
        self.assertEqual((load.errors, load.wrong), ([], 0))
        self.assertIn("Watchdog timeout", m.run("journalctl", "--no-pager", "-u", UNITS[0]).stdout)

    def test_stopping_answers_what_was_accepted(self):
        m = self.machine
        self.load_models()
        with m.client("krtd0") as client:
            request = fake.rt.InferRequest(model="digits", inputs=[fake.tensors.Tensor(
                name=client.model("digits").inputs[0].name, dtype=FLOAT32, shape=[1, 1, 8, 8], data=bytes(256))])
            calls = [client.infer_later(request) for _ in range(50)]
            m.run("systemctl", "stop", UNITS[0])
            codes = {call.code() for call in calls}
        self.assertLessEqual(codes, {fake.grpc.StatusCode.OK, fake.grpc.StatusCode.UNAVAILABLE})
        self.assertEqual((m.show(UNITS[0], "Result"), m.show(UNITS[0], "ExecMainStatus")), ("success", "0"))
        self.assertFalse(m.path("/run/kaena/krtd0.sock").exists())
        self.assertTrue(m.path("/run/kaena/krtd1.sock").exists())

    def test_the_target_stops_and_starts_all(self):
        m = self.machine
        m.run("systemctl", "stop", "krtd.target")
        for unit in UNITS:
            m.until(lambda unit=unit: m.show(unit, "ActiveState") == "inactive", f"{unit} has ended")
        self.assertEqual([p.name for p in m.path("/run/kaena").glob("*.sock")], [])
        # The default unit is the first entry of the mapping; its device would be taken twice.
        m.run("systemctl", "start", "krtd.service")
        with m.client("krtd0") as client:
            self.assertEqual(client.devices().daemon, "krtd0")
        self.assertNotEqual(m.run("systemctl", "start", UNITS[0], check=False).returncode, 0)
        self.assertIn("belongs to another daemon: daemon 'krtd0'", m.journal())
        m.run("systemctl", "stop", UNITS[0], "krtd.service")
        m.run("systemctl", "reset-failed", check=False)
        m.run("systemctl", "start", "krtd.target")
        for unit in UNITS:
            self.wait_active(unit)

    def test_memory_is_shared_with_the_hardened_daemon(self):
        m = self.machine
        name = "/kaena-" + "5" * 32
        path = m.path(f"/dev/shm{name}")
        with m.client("krtd1") as client:
            path.write_bytes(bytes(65536))
            map_call = client.method("MapSharedMemory", fake.rt.MapSharedMemoryResponse)
            asked = fake.rt.MapSharedMemoryRequest(name=name, size=65536)
            path.chmod(0o600)
            with self.assertRaises(fake.grpc.RpcError) as caught:
                map_call(asked, timeout=fake.SECONDS)
            self.assertEqual(caught.exception.code(), fake.grpc.StatusCode.PERMISSION_DENIED)
            os.chown(path, 0, m.path("/run/kaena/krtd1.sock").stat().st_gid)
            path.chmod(0o660)
            self.assertGreater(map_call(asked, timeout=fake.SECONDS).region, 0)
            path.unlink()

    def test_the_journal_has_levels(self):
        lines = [json.loads(line) for line in self.machine.run(
            "journalctl", "--no-pager", "--output=json", "-u", UNITS[1], "_COMM=krtd").stdout.splitlines()]
        ready = [line for line in lines if line["MESSAGE"].startswith("ready: ")]
        self.assertTrue(ready, lines)
        self.assertEqual(ready[0]["PRIORITY"], "6")


if __name__ == "__main__":
    why = lacking()
    if why:
        daemon.skip(why)
    unittest.main(verbosity=2, argv=sys.argv)
