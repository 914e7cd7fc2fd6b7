#!/usr/bin/python3
"""Starting a daemon: its command line, configuration, devices, and what it tells systemd."""

import grp
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import stat
import subprocess
import tempfile
import unittest

import daemon
import fake
from fake import Krtd
from traffic import Traffic

CHIPS = [{"pci": "0000:00:1d.4"}, {"pci": "0000:00:1d.5"}]


class Start(unittest.TestCase):
    def setUp(self):
        self.dir = tempfile.TemporaryDirectory(prefix="kaena-")
        self.addCleanup(self.dir.cleanup)

    def run_krtd(self, *arguments, **env):
        done = subprocess.run([fake.KRTD, *map(str, arguments)], capture_output=True, text=True, check=False,
                              timeout=fake.SECONDS, env={**os.environ, "KAENA_RUNDIR": self.dir.name, **env})
        return done.returncode, done.stdout, done.stderr

    def config(self, **daemon):
        path = pathlib.Path(self.dir.name, "krtd.json")
        path.write_text(json.dumps({"version": 1, "chips": CHIPS, "daemons": [
            {"name": "a", "listen": [f"unix:{self.dir.name}/a.sock"], "devices": [0], **daemon},
            {"name": "b", "listen": [f"unix:{self.dir.name}/b.sock"], "devices": [1]}]}))
        return path

    def test_mistakes_on_the_command_line(self):
        for arguments, says in ((["--nonsense"], "unknown argument '--nonsense'"), (["x"], "unknown argument 'x'"),
                                (["--listen"], "--listen needs a value"), (["--version=1"], "--version takes no value"),
                                (["--threads", "-1"], "--threads '-1': must be 0 to 4096"),
                                (["--threads", "4097"], "must be 0 to 4096"), (["--threads="], "must be 0 to 4096"),
                                (["--queue-depth", "0"], "must be 1 to 65536"),
                                (["--drain-timeout", "1s"], "must be 0 to 86400 seconds"),
                                (["--log-level", "loud"], "must be error, warning, info or debug"),
                                (["--devices", "7"], "no device '7'"), (["--name", "/"], "--name '/'"),
                                (["--config", "/nowhere"], "'/nowhere'"), (["--list"], "unknown argument '--list'"),
                                (["--listen=unix:/x"] * 9, "at most 8 addresses")):
            status, out, log = self.run_krtd(*arguments)
            self.assertEqual((status, out), (2, ""), arguments)
            self.assertIn(says, log)
            self.assertLessEqual(len(log.splitlines()), 2, log)

    def test_what_it_prints(self):
        status, out, _ = self.run_krtd("--version")
        self.assertEqual(status, 0)
        self.assertRegex(out, r"^krtd \d+\.\d+\.\d+\n$")
        status, out, _ = self.run_krtd("--help")
        self.assertEqual(status, 0)
        for option in ("--config", "--name", "--listen", "--devices", "--threads", "--model-dir", "--log-level",
                       "--queue-depth", "--drain-timeout", "--socket-mode", "--socket-group", "--tls-cert", "--tls-key",
                       "--tls-client-ca", "--no-sandbox", "--check-config", "KAENA_VISIBLE_DEVICES"):
            self.assertIn(option, out)

    def test_check_config(self):
        status, out, _ = self.run_krtd("--check-config", "--config", self.config(), "--name", "b")
        self.assertEqual((status, out), (0, f"b: ok; listens on unix:{self.dir.name}/b.sock; devices 1 (0000:00:1d.5)\n"))
        status, out, _ = self.run_krtd("--check-config", "--config", self.config())
        self.assertEqual((status, out), (0, f"a: ok; listens on unix:{self.dir.name}/a.sock; devices 0 (0000:00:1d.4)\n"
                                            f"b: ok; listens on unix:{self.dir.name}/b.sock; devices 1 (0000:00:1d.5)\n"))
        status, out, log = self.run_krtd("--check-config", "--config", self.config(thread=1, limits={"models": 0}))
        self.assertEqual((status, out), (2, ""))
        self.assertIn("daemons[0].thread: unknown key; did you mean 'threads'? keys here: name, listen", log)
        self.assertIn("daemons[0].limits.models: must be an integer from 1", log)
        self.assertEqual(len(log.splitlines()), 2, log)
        status, out, log = self.run_krtd("--check-config", "--config", self.config(
            listen=["unix:/nowhere/a.sock", "0.0.0.0:1"], socket_group="no-such-group", model_dir="/nowhere"))
        self.assertEqual(status, 2)
        self.assertEqual([line.split()[0] for line in out.splitlines()], ["b:"])
        for says in ("warning: ", "'unix:/nowhere/a.sock' cannot be made", "there is no group 'no-such-group'",
                     "model directory '/nowhere'", "'0.0.0.0:1' is open to the network without TLS"):
            self.assertIn(says, log)
        self.assertEqual(log.count("warning: "), 3)
        status, _, log = self.run_krtd("--check-config", "--config", self.config(), "--name", "c")
        self.assertEqual(status, 2)
        self.assertIn("only a, b", log)

    def test_check_config_needs_no_run_directory(self):
        status, out, _ = self.run_krtd("--check-config", "--config", self.config(), KAENA_RUNDIR="/dev/null/x")
        self.assertEqual((status, out.count(": ok; ")), (0, 2))

    def test_visible_devices(self):
        check = ("--check-config", "--config", self.config(devices=[0]))
        self.assertEqual(self.run_krtd(*check, KAENA_VISIBLE_DEVICES="00:1d.4, 00:1d.5")[0], 0)
        status, _, log = self.run_krtd(*check, KAENA_VISIBLE_DEVICES="1")
        self.assertEqual(status, 2)
        self.assertIn("hides every device of daemon 'a'", log)
        status, _, log = self.run_krtd(*check, KAENA_VISIBLE_DEVICES="00:1f.0")
        self.assertIn("KAENA_VISIBLE_DEVICES '00:1f.0': no device '00:1f.0'", log)

    def test_a_start_that_cannot_be(self):
        for arguments, says in ((["--listen", "nowhere"], "neither unix:PATH nor HOST:PORT"),
                                (["--listen", "127.0.0.1:99999"], "neither unix:PATH nor HOST:PORT"),
                                (["--listen", "unix:"], "the path has 0 bytes"),
                                (["--listen", "unix:/" + "x" * 107], "the path has 108 bytes: 1 to 107"),
                                (["--listen", "unix:/nowhere/x.sock"], "No such file or directory"),
                                (["--listen", "203.0.113.1:1"], "Cannot assign requested address"),
                                (["--model-dir", "/nowhere"], "model directory '/nowhere'")):
            status, _, log = self.run_krtd(*arguments)
            self.assertEqual(status, 1, arguments)
            self.assertIn(says, log)
        status, _, log = self.run_krtd(KAENA_RUNDIR="/dev/null/x")
        self.assertEqual(status, 1)
        self.assertIn("KAENA_RUNDIR='/dev/null/x' is not a directory that can be written", log)

    def test_a_device_belongs_to_one_daemon(self):
        with Krtd() as krtd:
            other = Krtd("--listen", "127.0.0.1:0", listen=False, wait=False, rundir=krtd.dir)
            self.assertEqual(other.wait(), 1)
            self.assertIn(f"device 0000:00:1f.0 belongs to another daemon: daemon 'krtd0', pid {krtd.process.pid} (", other.log())
            with krtd.client() as client:
                self.assertEqual(len(client.devices().devices), 1)
            krtd.signal(9)  # the lock dies with its owner, whatever file is left
            krtd.wait()
            with Krtd(rundir=krtd.dir) as again:
                pass
            krtd.process = again.process

    def test_what_it_gives_up(self):
        def threads(krtd):
            for status in pathlib.Path(f"/proc/{krtd.process.pid}/task").glob("*/status"):
                yield dict(line.split(":\t", 1) for line in status.read_text().splitlines() if ":\t" in line)

        with Krtd() as krtd:
            for thread in threads(krtd):
                self.assertEqual((thread["CapPrm"], thread["CapEff"], thread["CapInh"], thread["NoNewPrivs"],
                                  thread["Seccomp"]), (*["0" * 16] * 3, "1", "2"), thread["Name"])
            with krtd.client() as client:
                client.load(fake.model())
                client.infer(fake.request())
        with Krtd("--no-sandbox") as krtd:
            own = pathlib.Path("/proc/self/status").read_text()
            for thread in threads(krtd):
                self.assertIn(f"CapEff:\t{thread['CapEff']}\n", own)
                self.assertIn(f"Seccomp:\t{thread['Seccomp']}\n", own)

    def test_who_may_use_the_socket(self):
        group = grp.getgrnam("daemon") if os.geteuid() == 0 else grp.getgrgid(os.getgid())
        for mode in ("0600", "0666", "0"):
            with Krtd("--socket-mode", mode, "--socket-group", group.gr_name) as krtd:
                meta = krtd.path.stat()
                self.assertEqual((stat.S_IMODE(meta.st_mode), meta.st_gid), (int(mode, 8), group.gr_gid))
        if os.geteuid() != 0:
            foreign = next(g for g in grp.getgrall() if g.gr_gid not in (os.getgid(), *os.getgroups()))
            status, _, log = self.run_krtd("--listen", f"unix:{self.dir.name}/a", "--socket-group", foreign.gr_name)
            self.assertEqual(status, 1)
            self.assertIn("must be a member of that group", log)
        status, _, log = self.run_krtd("--listen", f"unix:{self.dir.name}/a", "--socket-group", "no-such-group")
        self.assertEqual(status, 1)
        self.assertIn("there is no group 'no-such-group'", log)
        for mode in ("rw", "0888", "01000", ""):
            status, _, log = self.run_krtd("--socket-mode", mode)
            self.assertEqual(status, 2)
            self.assertIn(f"--socket-mode '{mode}': must be octal", log)

    def test_a_daemon_of_another_user_shares_memory_with_members_of_its_group(self):
        if os.geteuid() != 0 or not shutil.which("setpriv"):
            self.skipTest("only root may be several users (setpriv)")
        user = group = 65534
        rundir = pathlib.Path(self.dir.name, "run")
        rundir.mkdir()
        os.chown(rundir, user, group)
        pathlib.Path(self.dir.name).chmod(0o755)
        program = pathlib.Path(self.dir.name, "krtd")
        program.write_text(f'#!/bin/sh\nexec setpriv --reuid={user} --regid={group} --clear-groups {fake.KRTD} "$@"\n')
        program.chmod(0o755)
        with Krtd(program=program, rundir=rundir) as krtd:
            self.assertEqual((krtd.path.stat().st_uid, krtd.path.stat().st_gid), (user, group))
            with krtd.client() as client:
                client.load(fake.model(inputs=["x float32 100000"], outputs=["y float32 100000"]))
            with Traffic("--address", krtd.socket, "--name", "m", "--values", 100000, "--shared-memory", 64 << 20) as traffic:
                report = traffic.more(20)
                self.assertEqual((report["wrong"], report["failed"], report["said"]), (0, 0, ""))

    def test_reload(self):
        path = self.config(limits={"models": 1}, model_dir=self.dir.name)
        with Krtd("--config", path, listen=False, rundir=self.dir.name) as krtd:
            krtd.socket = f"unix:{self.dir.name}/a.sock"
            pathlib.Path(self.dir.name, "m").write_text(fake.model())
            other = pathlib.Path(self.dir.name, "other")
            other.mkdir()

            def reload(says, **daemon):
                before = krtd.log().count(says)
                self.config(**daemon)
                krtd.signal(signal.SIGHUP)
                fake.wait_until(lambda: krtd.log().count(says) > before, says)

            with krtd.client() as client:
                client.load_path("m", "1")
                with self.assertRaises(fake.grpc.RpcError):
                    client.load_path("m", "2")
                reload("reload: done", limits={"models": 2}, model_dir=self.dir.name)
                client.load_path("m", "2")
                reload("reload: done", limits={"models": 3}, model_dir=str(other))
                with self.assertRaises(fake.grpc.RpcError) as caught:
                    client.load_path("m", "3")
                self.assertEqual(caught.exception.code(), fake.grpc.StatusCode.NOT_FOUND)
                pathlib.Path(other, "n").write_text(fake.model())
                client.load_path("n", "3")
                reload("reload: done, the file has not changed", limits={"models": 3}, model_dir=str(other))
                # What cannot be done leaves everything as it was.
                reload("reload: model directory '/nowhere'", limits={"models": 9}, model_dir="/nowhere")
                reload("daemons[0].nonsense: unknown key", limits={"models": 9}, nonsense=1)
                with self.assertRaises(fake.grpc.RpcError) as caught:
                    client.load_path("n", "4")
                self.assertEqual(caught.exception.code(), fake.grpc.StatusCode.RESOURCE_EXHAUSTED)
                reload("reload: done", limits={"models": 4}, model_dir=None)
                with self.assertRaises(fake.grpc.RpcError) as caught:
                    client.load_path("n", "4")
                self.assertEqual(caught.exception.code(), fake.grpc.StatusCode.PERMISSION_DENIED)
                client.load(fake.model(), "4")
                reload("reload: done", threads=7, listen=[f"unix:{self.dir.name}/z.sock"],
                       limits={"connections": 7, "streams": 7, "message_bytes": 77777, "rpc_bytes": 1 << 30})
                for what in ("where it listens", "threads", "limits.connections", "limits.streams", "limits.message_bytes",
                             "limits.rpc_bytes"):
                    self.assertIn(f"reload: {what}", krtd.log())
                self.assertNotIn("reload: devices", krtd.log())
                self.assertEqual(len(client.models()), 4)

    def test_the_documented_limits_are_the_limits(self):
        def value(text):
            return eval(re.sub(r"UINT64_C\((\w+)\)", r"\1", text), {"INT32_MAX": 2**31 - 1})  # pylint: disable=eval-used

        source = (daemon.SOURCE / "runtime/krtd/krt_limits.def").read_text()
        rows = re.findall(r'^KRT_LIMIT(?:_FIXED)?\((\w+), ([^,]+), ([^,]+), ([^,]+), "([^"]+)"\)', source, re.M)
        expected = [f"| `{name}` | {value(fallback)} | {value(least)} | {value(most)} | {what} |"
                    for name, fallback, least, most, what in rows]
        text = (daemon.SOURCE / "docs/daemon.md").read_text().split("| limit | default |")[1].split("\n\n")[0]
        self.assertEqual(text.splitlines()[2:], expected, "the table in docs/daemon.md should be\n" + "\n".join(expected))

    def test_processors_are_shared_by_the_daemons_of_the_host(self):
        processors = len(os.sched_getaffinity(0))
        for n, more, threads in ((1, {}, None), (2, {}, None), (3, {}, None), (3, {"threads": 5}, 5)):
            path = pathlib.Path(self.dir.name, "krtd.json")
            path.write_text(json.dumps({"version": 1, "chips": [{"pci": f"00:0{i}.0"} for i in range(n)], "daemons": [
                {"name": f"d{i}", "listen": [f"unix:{self.dir.name}/{i}.sock"], "devices": [i], **more} for i in range(n)]}))
            with Krtd("--config", path, "--name", f"d{n - 1}", listen=False, rundir=self.dir.name) as krtd:
                found = int(re.search(r"ready: 1 devices, (\d+) threads", krtd.log()).group(1))
                self.assertLessEqual(found, threads or max(1, processors // n), "a quota may make it less")
                self.assertGreaterEqual(found, threads or 1)
            with Krtd("--config", path, "--name", f"d{n - 1}", "--threads", "2", listen=False, rundir=self.dir.name) as krtd:
                self.assertIn("ready: 1 devices, 2 threads", krtd.log())

    def test_two_daemons_of_one_configuration(self):
        config = self.config()
        sockets = {}
        processes = []
        for name in "ab":
            processes.append(subprocess.Popen([fake.KRTD, "--config", config, "--name", name],
                                              env={**os.environ, "KAENA_RUNDIR": self.dir.name}, stderr=subprocess.DEVNULL))
            with fake.Client(f"unix:{self.dir.name}/{name}.sock") as client:
                fake.grpc.channel_ready_future(client.channel).result(fake.SECONDS)
                answer = client.devices()
                sockets[answer.daemon] = [(d.index, d.pci) for d in answer.devices]
        self.assertEqual(sockets, {"a": [(0, "0000:00:1d.4")], "b": [(1, "0000:00:1d.5")]})
        for p in processes:
            p.terminate()
            self.assertEqual(p.wait(fake.SECONDS), 0)

    def test_systemd_is_told(self):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
            path = f"{self.dir.name}/notify"
            s.bind(path)
            s.settimeout(fake.SECONDS)
            with Krtd(env={"NOTIFY_SOCKET": path}) as krtd:
                self.assertEqual(s.recv(512), b"READY=1\nSTATUS=serving 1 devices")
                with krtd.client() as client:
                    client.load(fake.model())
                krtd.signal()
                self.assertRegex(s.recv(512), rb"^STOPPING=1\nSTATUS=draining, \d requests are in work$")
                self.assertEqual(krtd.wait(), 0)


if __name__ == "__main__":
    unittest.main(verbosity=2)
