#!/usr/bin/python3
"""Tensors in memory that libkaena shares with daemons: used by itself, given up when it cannot be, and gone with
whoever dies."""

import fcntl
import os
import pathlib
import re
import tempfile
import unittest

import fake
from traffic import Daemons, Traffic

VALUES = 100000  # 400 kB
REGION = re.compile(r"/dev/shm/(kaena-\w+)")


def regions(process):
    """Names of the regions that a process has mapped; they are deleted already."""
    maps = pathlib.Path(f"/proc/{process.pid}/maps").read_text()
    return set(REGION.findall(maps))


class Memory(unittest.TestCase):
    def setUp(self):
        with tempfile.NamedTemporaryFile("w", suffix=".neff", delete=False) as file:
            file.write(fake.model("m", inputs=[f"x float32 {VALUES}"], outputs=[f"y float32 {VALUES}"], contexts=4))
        self.file = file.name
        self.addCleanup(os.unlink, self.file)

    def traffic(self, daemons, *options, address=None):
        return Traffic("--address", address or daemons.address(), "--model", self.file, "--name", "m", "--values",
                       VALUES, *options)

    def nothing_failed(self, traffic):
        report = traffic.ask()
        self.assertEqual((report["failed"], report["wrong"], report["error"]), (0, 0, ""), report)
        return report

    def test_is_used_by_itself_and_leaves_no_names(self):
        for options in ([], ["--own-memory"], ["--async", 8], ["--async", 8, "--own-memory"]):
            with self.subTest(options=options), Daemons(2) as d, self.traffic(d, *options) as t:
                t.more(50, 0)
                t.more(50, 1)
                self.assertEqual(self.nothing_failed(t)["said"], "")
                ours = regions(t.process)
                self.assertTrue(ours)
                for i in range(2):
                    self.assertTrue(regions(d.krtd[i].process) <= ours)
                    self.assertTrue(regions(d.krtd[i].process))
                # A region that is just being made has its name for a moment.
                fake.wait_until(lambda ours=ours: not ours & set(os.listdir("/dev/shm")), "no names")

    def test_goes_with_the_client(self):
        with Daemons(1) as d, self.traffic(d) as t:
            t.more(50)
            self.assertTrue(regions(d.krtd[0].process))
            t.kill()
            fake.wait_until(lambda: not regions(d.krtd[0].process), "no regions")

    def test_names_of_the_dead_are_taken_away(self):
        """A client that died while a daemon opened its region; one that lives has the object locked."""
        paths = [pathlib.Path(tempfile.mktemp(prefix=f"kaena-pool{kind}", dir="/dev/shm")) for kind in ("dead", "live")]
        for path in paths:
            path.touch()
            os.utime(path, (0, 0))
        with open(paths[1], "rb") as live:
            fcntl.flock(live, fcntl.LOCK_EX)
            with Daemons(1) as d, self.traffic(d) as t:
                t.more(10)
                self.assertEqual([path.exists() for path in paths], [False, True])
            paths[1].unlink()

    def test_daemons_die_and_come_back(self):
        for options in ([], ["--own-memory"]):
            with self.subTest(options=options), Daemons(2) as d, self.traffic(d, *options) as t:
                for i in (0, 1):
                    t.more(50, i)
                    d.kill(i)
                    t.more(50, 1 - i)
                    d.start(i)
                    t.more(50, i)
                self.nothing_failed(t)
                fake.wait_until(lambda: t.ask() and regions(d.krtd[1].process), "shared again")

    def test_what_the_daemon_refuses_is_sent_and_said_once(self):
        with Daemons(1, limits={"region_bytes": 4096}) as d, self.traffic(d) as t:
            t.more(50)
            report = self.nothing_failed(t)
            self.assertIn("tensors go through sockets", report["said"])
            self.assertEqual(regions(t.process), set())

    def test_a_bound_is_kept(self):
        with Daemons(1) as d, self.traffic(d, "--shared-memory", 1 << 20, "--threads", 8) as t:
            t.more(200)
            self.nothing_failed(t)
            sizes = [int(end, 16) - int(begin, 16) for begin, end, *_ in
                     (re.split("[- ]", line) for line in
                      pathlib.Path(f"/proc/{t.process.pid}/maps").read_text().splitlines() if REGION.search(line))]
            self.assertLessEqual(sum(sizes), 1 << 20)

    def test_over_tcp_everything_is_sent(self):
        with Daemons(1) as d, self.traffic(d, address=d.krtd[0].tcp) as t:
            t.more(50)
            self.assertEqual(self.nothing_failed(t)["said"], "")
            self.assertEqual(regions(t.process), set())


if __name__ == "__main__":
    unittest.main()
