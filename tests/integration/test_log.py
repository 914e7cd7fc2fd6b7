#!/usr/bin/python3
"""The daemon's log: forms, files and their rotation, syslog, the journal, sinks that fail and come back."""

import fcntl
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import tempfile
import threading
import unittest

import fake
from fake import grpc

TEXT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z (error|warning|info|debug) krtd0: .+$")


class Logged(fake.Krtd):
    """A daemon with the sinks of |make(directory)|, which its own directory is given to."""

    def __init__(self, make, level=None, **more):
        directory = pathlib.Path(tempfile.mkdtemp(prefix="kaena-"))
        try:
            super().__init__(config=self.config(directory, make(directory), level), rundir=directory, **more)
        except BaseException:
            shutil.rmtree(directory)
            raise
        self.own_dir = True

    @staticmethod
    def config(directory, sinks, level):
        log = {"sinks": sinks, **({"level": level} if level else {})}
        return {"version": 1, "daemons": [{"name": "krtd0", "listen": [f"unix:{directory}/krtd.sock"], "devices": [0],
                                           "log": log}]}

    def reload(self, sinks, level=None, says="reload: done"):
        """With other sinks, one of which must be standard error."""
        before = self.log().count(says)
        (self.dir / "krtd.json").write_text(json.dumps(self.config(self.dir, sinks, level)))
        self.signal(signal.SIGHUP)
        fake.wait_until(lambda: self.log().count(says) > before, says)

    def complain(self, client, name="x" * 300):
        """Makes one line."""
        try:
            client.load("rubbish", name=name[:100])
        except grpc.RpcError:
            pass


def lines(path):
    return pathlib.Path(path).read_text().splitlines() if pathlib.Path(path).exists() else []


STDERR = {"type": "stderr"}


class Forms(fake.TestCase):
    def test_text_on_standard_error(self):
        with fake.Krtd() as krtd:
            self.assertTrue(krtd.log())
            for line in krtd.log().splitlines():
                self.assertRegex(line, TEXT)

    def test_json_by_option(self):
        with fake.Krtd("--log-format", "json", wait=False) as krtd:
            fake.wait_until(lambda: '"text":"ready' in krtd.log(), "ready")
            for line in krtd.log().splitlines():
                self.assertEqual(json.loads(line)["daemon"], "krtd0")
        with fake.Krtd("--log-format", "xml", wait=False) as krtd:
            self.assertEqual(krtd.wait(), 2)
            self.assertIn("must be text or json", krtd.log())
            krtd.process.returncode = 0

    def test_every_line_of_json_parses(self):
        with Logged(lambda d: [{"type": "stderr"}, {"type": "file", "path": f"{d}/json", "format": "json"}],
                    level="debug") as krtd, krtd.client() as client:
            client.load(fake.model())
            client.infer(fake.request())
            krtd.complain(client, 'q"\\\n')
            fake.wait_until(lambda: any('q\\"' in line for line in lines(krtd.dir / "json")), "the failure is logged")
            records = [json.loads(line) for line in lines(krtd.dir / "json")]
            for r in records:
                self.assertLessEqual({"time", "level", "daemon", "text"}, set(r))
                self.assertEqual(r["daemon"], "krtd0")
                self.assertRegex(r["time"], r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$")
                self.assertIn(r["level"], ("error", "warning", "info", "debug"))
            self.assertIn("debug", {r["level"] for r in records})

    def test_each_sink_has_its_level(self):
        with Logged(lambda d: [STDERR, {"type": "file", "path": f"{d}/all", "level": "debug"},
                               {"type": "file", "path": f"{d}/bad", "level": "error"}]) as krtd, krtd.client() as client:
            client.load(fake.model(bad_weights=1))
            fake.wait_until(lambda: any(" error " in line for line in lines(krtd.dir / "all")), "the damage is told")
            fake.wait_until(lambda: lines(krtd.dir / "bad"), "to both")
            self.assertEqual({line.split()[1] for line in lines(krtd.dir / "bad")}, {"error"})
            self.assertIn("debug", {line.split()[1] for line in lines(krtd.dir / "all")})
            self.assertNotIn(" debug ", krtd.log())


class Files(fake.TestCase):
    def test_rotation(self):
        with Logged(lambda d: [STDERR, {"type": "file", "path": f"{d}/{{daemon}}.log", "max_bytes": 5000, "keep": 2}]) as krtd, \
                krtd.client() as client:
            path = krtd.dir / "krtd0.log"
            for i in range(100):
                krtd.complain(client, f"line-{i:03}-" + "x" * 80)
            fake.wait_until(lambda: any("line-099" in line for line in lines(path)), "the last line is written")
            names = sorted(p.name for p in krtd.dir.glob("krtd0.log*"))
            self.assertEqual(names, ["krtd0.log", "krtd0.log.1", "krtd0.log.2"])
            kept = []
            for name in reversed(names):
                self.assertLessEqual((krtd.dir / name).stat().st_size, 5000)
                kept += lines(krtd.dir / name)
            for line in kept:
                self.assertRegex(line, TEXT)
            numbers = [int(m[1]) for m in (re.search(r"line-(\d+)", line) for line in kept) if m]
            self.assertEqual(numbers, list(range(numbers[0], 100)))
            self.assertGreater((krtd.dir / "krtd0.log.1").stat().st_size, 3000)

    def test_a_moved_file_is_let_go_at_sighup(self):
        with Logged(lambda d: [STDERR, {"type": "file", "path": f"{d}/f"}]) as krtd, krtd.client() as client:
            krtd.complain(client, "first")
            fake.wait_until(lambda: any("first" in line for line in lines(krtd.dir / "f")), "it is written")
            (krtd.dir / "f").rename(krtd.dir / "f.old")
            krtd.complain(client, "second")
            fake.wait_until(lambda: any("second" in line for line in lines(krtd.dir / "f.old")), "into the same file")
            krtd.signal(signal.SIGHUP)
            fake.wait_until(lambda: (krtd.dir / "f").exists() or krtd.complain(client, "more"), "the file is made anew")
            krtd.complain(client, "third")
            fake.wait_until(lambda: any("third" in line for line in lines(krtd.dir / "f")), "into the new one")

    def test_a_full_disk_is_told_once_and_got_over(self):
        with Logged(lambda d: (os.symlink("/dev/full", d / "f"), [STDERR, {"type": "file", "path": f"{d}/f"}])[1]) as krtd, \
                krtd.client() as client:
            for i in range(20):
                krtd.complain(client, f"lost-{i}")
            fake.wait_until(lambda: "No space left on device" in krtd.log(), "the failure is told")
            (krtd.dir / "g").symlink_to(krtd.dir / "real")
            (krtd.dir / "g").rename(krtd.dir / "f")
            krtd.signal(signal.SIGHUP)
            fake.wait_until(lambda: "works again;" in krtd.log() or krtd.complain(client, "more"), "it works again")
            self.assertEqual(krtd.log().count("No space left on device"), 1)
            # What waited meanwhile is not lost.
            fake.wait_until(lambda: any("lost-19" in line for line in lines(krtd.dir / "real")), "the lines are written")
            self.assertTrue(any("lost-0" in line for line in lines(krtd.dir / "real")))

    def test_a_file_that_cannot_be_opened_stops_the_start(self):
        with self.assertRaisesRegex(RuntimeError, "file '/nowhere/at/all'.*No such file"):
            Logged(lambda d: [STDERR, {"type": "file", "path": "/nowhere/at/all"}])

    def test_lines_are_flushed_at_the_end(self):
        with Logged(lambda d: [{"type": "file", "path": f"{d}/f"}], wait=False) as krtd:
            fake.wait_until(lambda: any("ready:" in line for line in lines(krtd.dir / "f")), "ready")
            krtd.signal()
            self.assertEqual(krtd.wait(), 0)
            self.assertIn("stopped", lines(krtd.dir / "f")[-1])


class Sockets(fake.TestCase):
    def receiver(self, path):
        s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        s.bind(str(path))
        s.settimeout(fake.SECONDS)
        return s

    def until(self, s, text):
        """The first datagram with |text| in it."""
        while text not in (data := s.recv(65536)):
            pass
        return data

    def test_syslog(self):
        holder = {}

        def make(directory):
            holder["socket"] = self.receiver(directory / "syslog.sock")
            return [STDERR, {"type": "syslog", "address": f"{directory}/syslog.sock"}]

        with Logged(make) as krtd, krtd.client() as client:
            s = holder["socket"]
            line = self.until(s, b"ready:").decode()
            self.assertRegex(line, r"^<30>1 \d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z \S+ krtd \d+ - "
                                   r"\[kaena@32473 daemon=\"krtd0\"[^]]*\] ready: ")
            # The socket goes, and comes back at the same place.
            s.close()
            (krtd.dir / "syslog.sock").unlink()
            for i in range(5):
                krtd.complain(client, f"lost-{i}")
            self.assertEqual(krtd.log().count("log to syslog"), 1)
            with self.receiver(krtd.dir / "syslog.sock") as again:
                def works():
                    krtd.complain(client, "found")
                    self.until(again, b"found")
                    return "works again;" in krtd.log()

                fake.wait_until(works, "it works again")
            self.assertRegex(krtd.log(), r"works again; \d+ lines were lost")

    def test_a_reader_that_stands_still_blocks_nothing(self):
        holder = {}

        def make(directory):
            holder["socket"] = self.receiver(directory / "syslog.sock")
            return [STDERR, {"type": "syslog", "address": f"{directory}/syslog.sock"}]

        with Logged(make) as krtd, krtd.client() as client:
            for i in range(400):
                krtd.complain(client, f"line-{i}")
            self.assertIn("line-399", krtd.log())
            self.assertIn("does not keep up", krtd.log())
            holder["socket"].close()

    def test_udp(self):
        s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        s.bind(("127.0.0.1", 0))
        s.settimeout(fake.SECONDS)
        with s, Logged(lambda d: [STDERR, {"type": "syslog", "address": f"127.0.0.1:{s.getsockname()[1]}"}]):
            self.assertIn(b"krtd0", self.until(s, b"ready:"))

    def test_the_journal(self):
        holder = {}

        def make(directory):
            holder["socket"] = self.receiver(directory / "journal")
            return [STDERR, {"type": "journal", "address": f"{directory}/journal"}]

        with Logged(make) as krtd, krtd.client() as client:
            s = holder["socket"]
            fields = dict(line.split("=", 1) for line in self.until(s, b"ready:").decode().splitlines())
            self.assertEqual((fields["PRIORITY"], fields["SYSLOG_IDENTIFIER"], fields["KAENA_DAEMON"]), ("6", "krtd", "krtd0"))
            s.close()
            del client

    def test_lines_for_a_journal_that_reads_standard_error(self):
        # Without the native socket the journal gets lines with the level before them.
        if pathlib.Path("/run/systemd/journal/socket").exists():
            self.skipTest("a journal runs here, and would get the lines")
        with tempfile.TemporaryDirectory() as directory:
            log = pathlib.Path(directory) / "log"
            log.touch()
            st = log.stat()
            # fake.Krtd opens its log anew, by the same name.
            with fake.Krtd(rundir=directory, env={"JOURNAL_STREAM": f"{st.st_dev}:{st.st_ino}"}.items(), wait=False) as krtd:
                fake.wait_until(lambda: "ready:" in krtd.log(), "ready")
                for line in krtd.log().splitlines():
                    self.assertRegex(line, r"^<[3467]>\S")
            with fake.Krtd(rundir=directory, env={"JOURNAL_STREAM": "1:1"}.items()) as krtd:
                for line in krtd.log().splitlines():
                    self.assertRegex(line, TEXT)


class Reload(fake.TestCase):
    def numbers(self, paths):
        return [int(m[1]) for path in paths for m in (re.search(r"'line-(\d+)'", line) for line in lines(path)) if m]

    def test_no_line_is_lost_between_sinks(self):
        def file(name, **settings):
            return {"type": "file", "path": f"{krtd.dir}/{name}", "max_bytes": 0, **settings}

        with Logged(lambda d: [STDERR]) as krtd, krtd.client() as client:
            stop, n = threading.Event(), 0

            def complain():
                nonlocal n
                while not stop.is_set():
                    krtd.complain(client, f"line-{n}")
                    n += 1

            def reload(*sinks):
                krtd.reload([*sinks])
                before = n
                fake.wait_until(lambda: n > before + 3, "lines go there")

            talker = threading.Thread(target=complain)
            krtd.reload([STDERR, file("a")])
            first = len(self.numbers([krtd.log_path]))
            talker.start()
            try:
                # Other files; the same file with other settings, and so another sink; files beside each other.
                for i, name in enumerate("aabbaabaab"):
                    reload(STDERR, file(name, buffer_bytes=100000 + i))
                reload(STDERR, file("b"), file("c"))
                reload(file("c"), STDERR)
                reload(STDERR, file("b"))
            finally:
                stop.set()
                talker.join()
            krtd.complain(client, f"line-{n}")
            fake.wait_until(lambda: n in self.numbers([krtd.dir / "b"]), "the last line is written")
            self.assertEqual(first, 0)
            self.assertEqual(self.numbers([krtd.log_path]), list(range(n + 1)), "standard error stayed")
            a, b, c = (self.numbers([krtd.dir / name]) for name in "abc")
            for each in (a, b, c):
                self.assertEqual(each, sorted(each))
            self.assertEqual(sorted(set(a + b + c)), list(range(n + 1)))
            self.assertEqual(sorted(a + b), sorted(set(a + b)), "a line went to both")
            self.assertGreater(min(len(a), len(b), len(c)), 0)

    def test_a_new_sink_of_a_file_waits_for_the_old_one(self):
        with tempfile.TemporaryDirectory() as directory:
            # A pipe that is full, and read when the sinks have changed.
            path = pathlib.Path(directory) / "pipe"
            os.mkfifo(path)
            reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
            fcntl.fcntl(reader, fcntl.F_SETPIPE_SZ, 4096)
            pipe = {"type": "file", "path": str(path), "max_bytes": 0}
            with Logged(lambda d: [STDERR, pipe]) as krtd, krtd.client() as client:
                for i in range(200):
                    krtd.complain(client, f"line-{i}")
                krtd.reload([STDERR, {**pipe, "buffer_bytes": 100000}])
                for i in range(200, 300):
                    krtd.complain(client, f"line-{i}")
                krtd.reload([STDERR])
                krtd.reload([STDERR, pipe])
                for i in range(300, 400):
                    krtd.complain(client, f"line-{i}")
                data = b""

                def numbers():
                    nonlocal data
                    try:
                        data += os.read(reader, 65536)
                    except BlockingIOError:
                        pass
                    return [int(n) for n in re.findall(rb"'line-(\d+)' is not", data)]

                fake.wait_until(lambda: len(numbers()) >= 400, "all lines come")
                self.assertEqual(numbers(), list(range(400)))
            os.close(reader)

    def test_a_sink_that_is_named_no_more_is_closed(self):
        with Logged(lambda d: [STDERR]) as krtd, krtd.client() as client:
            def held():
                """Descriptors, and threads of ours: those of libraries have names."""
                process = pathlib.Path(f"/proc/{krtd.process.pid}")
                names = []
                for task in (process / "task").iterdir():
                    try:
                        names.append((task / "comm").read_text())
                    except (FileNotFoundError, ProcessLookupError):
                        pass
                return len(list((process / "fd").iterdir())), sum("krtd" in name for name in names)

            client.models()
            before = held()
            for i in range(20):
                krtd.reload([STDERR, *({"type": "file", "path": f"{krtd.dir}/f{i}-{k}"} for k in range(3))])
            krtd.reload([STDERR], level="debug")
            fake.wait_until(lambda: held() == before, f"as many descriptors and threads as before: {before}, {held()}")
            self.assertGreater(before[1], 1)
            self.assertIn(" debug ", krtd.log() if client.load(fake.model()) else "")

    def test_what_cannot_be_opened_changes_nothing(self):
        with Logged(lambda d: [STDERR, {"type": "file", "path": f"{d}/a"}]) as krtd, krtd.client() as client:
            a = {"type": "file", "path": f"{krtd.dir}/a"}
            krtd.reload([STDERR, {"type": "file", "path": f"{krtd.dir}/b"}, {"type": "file", "path": "/nowhere/c"}], "debug",
                        says="reload: log to file '/nowhere/c': No such file or directory; the settings stay as they were")
            krtd.complain(client, "line-1")
            fake.wait_until(lambda: self.numbers([krtd.dir / "a"]) == [1], "the file of before has it")
            self.assertEqual(lines(krtd.dir / "b"), [])
            self.assertNotIn(" debug ", krtd.log())
            krtd.reload([STDERR, {**a, "level": "error"}])
            krtd.complain(client, "line-2")
            krtd.reload([STDERR, a])
            krtd.complain(client, "line-3")
            fake.wait_until(lambda: 3 in self.numbers([krtd.dir / "a"]), "the level is the old one")
            self.assertEqual(self.numbers([krtd.dir / "a"]), [1, 3])

    def test_to_syslog_and_back(self):
        with Logged(lambda d: [STDERR]) as krtd, krtd.client() as client, \
                socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
            s.bind(str(krtd.dir / "syslog.sock"))
            s.settimeout(fake.SECONDS)
            krtd.reload([STDERR, {"type": "syslog", "address": f"{krtd.dir}/syslog.sock"}])
            while b"reload: done" not in s.recv(65536):
                pass
            krtd.complain(client, "line-7")
            self.assertIn(b"'line-7'", s.recv(65536))
            krtd.reload([STDERR])
            krtd.complain(client, "line-8")
            self.assertIn("'line-8'", krtd.log())
            s.setblocking(False)
            with self.assertRaises(BlockingIOError):
                while b"line-8" not in s.recv(65536):
                    pass


class Standard(fake.TestCase):
    def test_a_pipe_that_nobody_reads_blocks_nothing(self):
        read, write = os.pipe()
        with tempfile.TemporaryDirectory() as directory:
            config = {"version": 1, "daemons": [{"name": "krtd0", "listen": [f"unix:{directory}/k"], "devices": [0],
                                                 "log": {"sinks": [STDERR, {"type": "file", "path": f"{directory}/f"}]}}]}
            (pathlib.Path(directory) / "krtd.json").write_text(json.dumps(config))
            process = fake.subprocess.Popen([str(fake.KRTD), "--config", f"{directory}/krtd.json"], stderr=write,
                                            env={**os.environ, "KAENA_RUNDIR": directory})
            os.close(write)
            try:
                log = pathlib.Path(directory) / "f"
                fake.wait_until(lambda: "ready:" in "\n".join(lines(log)), "ready")
                with fake.Client(f"unix:{directory}/k") as client:
                    for i in range(1500):
                        try:
                            client.load("rubbish", name=f"line-{i}")
                        except grpc.RpcError:
                            pass
                fake.wait_until(lambda: any("line-1499" in line for line in lines(log)), "the other sink has all")
                self.assertEqual(sum("standard error: nobody reads it" in line for line in lines(log)), 1)
                process.send_signal(signal.SIGTERM)
                self.assertEqual(process.wait(fake.SECONDS), 0)
            finally:
                process.kill()
                process.wait()
                os.close(read)


if __name__ == "__main__":
    unittest.main(verbosity=2)
