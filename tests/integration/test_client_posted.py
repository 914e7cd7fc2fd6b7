#!/usr/bin/python3
"""Requests that libkaena posts to daemons: their answers are fetched once, or it is told why there is none."""

import contextlib
import os
import re
import socket
import subprocess
import tempfile
import threading
import unittest

import daemon
import fake
from traffic import Daemons

POSTER = daemon.BUILD / "tests" / "integration" / "poster"
WAIT_MS = 1000 * int(fake.SECONDS)


class Poster:
    """poster.c as a process; with the block's end it must end well."""

    def __init__(self, address, file):
        self.process = subprocess.Popen([POSTER, address, file, "m"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE, text=True)

    def say(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline().strip()
        if not answer:
            raise AssertionError(f"poster ended: {self.process.stderr.read()}")
        return answer

    def post(self, value):
        """Gives which it is and the daemon that took it."""
        return tuple(map(int, re.fullmatch(r"posted (\d+) (\d+)", self.say(f"post {value}")).groups()))

    def wait(self, which, ms=WAIT_MS):
        return self.say(f"wait {which} {ms}")

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        if kind is not None:
            self.process.kill()
        _, said = self.process.communicate()
        if kind is None and (self.process.returncode != 0 or said):
            raise AssertionError(f"poster ended with {self.process.returncode}: {said}")


class Relay:
    """A TCP port whose connections are passed on to another, until they are cut."""

    def __init__(self, to):
        self.to = to
        self.pairs = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        with contextlib.suppress(OSError):
            while True:
                here, _ = self.listener.accept()
                there = socket.create_connection(self.to)
                self.pairs.append((here, there))
                for a, b in ((here, there), (there, here)):
                    threading.Thread(target=self.pump, args=(a, b), daemon=True).start()

    @staticmethod
    def pump(a, b):
        with contextlib.suppress(OSError):
            while data := a.recv(65536):
                b.sendall(data)
        with contextlib.suppress(OSError):
            b.shutdown(socket.SHUT_RDWR)  # so that the other direction ends, too
        a.close()

    def cut(self):
        for s in sum(self.pairs, ()):
            with contextlib.suppress(OSError):
                s.shutdown(socket.SHUT_RDWR)
        self.pairs.clear()

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.cut()


class Posts(unittest.TestCase):
    def model(self, **settings):
        with tempfile.NamedTemporaryFile("w", suffix=".neff", delete=False) as file:
            file.write(fake.model("m", **settings))
        self.addCleanup(os.unlink, file.name)
        return file.name

    def error(self, text, code, reason, says):
        match = re.fullmatch(r"error (\w+) (\d+) (.*)", text)
        self.assertTrue(match, text)
        self.assertEqual((match[1], int(match[2])), (code, reason), text)
        self.assertIn(says, match[3])

    def test_answers_are_fetched_once_from_where_they_are(self):
        with Daemons(2) as d, Poster(d.address(), self.model(contexts=2, sleep_ms=20)) as p:
            posted = [p.post(value) for value in range(20)]
            self.assertEqual({where for _, where in posted}, {0, 1}, "both daemons have some")
            for value in reversed(range(20)):
                self.assertEqual(p.wait(value), f"answer {value}")
                self.error(p.wait(value), "NOT_FOUND", fake.Reason.ANSWER_FETCHED, "has been fetched")

    def test_a_wait_that_ends_and_a_poll_lose_nothing(self):
        with Daemons(1) as d, Poster(d.address(), self.model(sleep_ms=60000)) as p:
            p.post(5)
            for _ in range(2):
                self.assertEqual(p.say("poll 0"), "not yet")
                self.error(p.wait(0, 50), "DEADLINE_EXCEEDED", fake.Reason.NOT_DONE, "in time")
            self.assertNotIn("no answer yet", d.krtd[0].log(), "looking is no failure to log")
            d.kill(0)
        with Daemons(1) as d, Poster(d.address(), self.model(sleep_ms=200)) as p:
            p.post(5)
            said = "not yet"
            while said == "not yet":
                said = p.say("poll 0")
            self.assertEqual(said, "answer 5")
            self.error(p.say("poll 0"), "NOT_FOUND", fake.Reason.ANSWER_FETCHED, "has been fetched")

    def test_the_answer_comes_when_the_wait_ends(self):
        """Many times, so that both happen at once some time."""
        with Daemons(1) as d, Poster(d.address(), self.model(sleep_ms=10)) as p:
            for which in range(100):
                p.post(which)
                said = "error DEADLINE_EXCEEDED"
                while said.startswith("error DEADLINE_EXCEEDED"):
                    said = p.wait(which, 2)
                self.assertEqual(said, f"answer {which}")

    def test_the_daemon_dies_before_the_answer_is_fetched(self):
        with Daemons(2) as d, Poster(d.address(), self.model(contexts=2)) as p:
            posted = [p.post(value) for value in range(8)]
            self.assertEqual({where for _, where in posted}, {0, 1})
            d.kill(0)
            for value, where in posted:
                if where == 0:
                    self.error(p.wait(value), "ABORTED", fake.Reason.NO_SESSION, "has ended")
                else:
                    self.assertEqual(p.wait(value), f"answer {value}", "of the daemon that lives")
            which, where = p.post(100)
            self.assertEqual((p.wait(which), where), ("answer 100", 1))

    def test_the_daemon_dies_while_one_waits(self):
        with Daemons(1) as d, Poster(d.address(), self.model(sleep_ms=60000)) as p:
            p.post(1)
            killer = threading.Timer(0.3, d.kill, [0])
            killer.start()
            self.error(p.wait(0), "ABORTED", fake.Reason.NO_SESSION, "has ended")
            killer.join()

    def test_another_daemon_at_the_same_address(self):
        with Daemons(1) as d, Poster(d.address(), self.model()) as p:
            p.post(1)
            d.kill(0)
            d.start(0)
            which, _ = p.post(2)
            self.error(p.wait(0), "ABORTED", fake.Reason.NO_SESSION, "has ended")
            self.assertEqual(p.wait(which), "answer 2")

    def test_answers_expire(self):
        with Daemons(1, limits={"posted_seconds": 1}) as d, Poster(d.address(), self.model()) as p:
            p.post(1)
            fake.wait_until(lambda: "expired" in d.krtd[0].log(), "its time is over")
            self.error(p.wait(0), "NOT_FOUND", fake.Reason.ANSWER_EXPIRED, "limits.posted_seconds")

    def test_a_failure_is_the_answer(self):
        with Daemons(1) as d, Poster(d.address(), self.model(fail="OUT_OF_RANGE")) as p:
            p.post(1)
            self.error(p.wait(0), "OUT_OF_RANGE", fake.Reason.EXECUTION_FAILED, "")
            self.error(p.wait(0), "NOT_FOUND", fake.Reason.ANSWER_FETCHED, "has been fetched")

    def test_limits(self):
        with Daemons(1, limits={"posted_results": 3}) as d, Poster(d.address(), self.model()) as p:
            for value in range(3):
                p.post(value)
            self.error(p.say("post 3"), "RESOURCE_EXHAUSTED", fake.Reason.LIMIT, "posted 3 requests")
            self.assertEqual(p.wait(1), "answer 1")
            p.post(3)

    def test_over_tcp_the_client_comes_back(self):
        """The connections break, the session is come back to, the answer is there."""
        with Daemons(1) as d:
            host, port = d.krtd[0].tcp.split(":")
            with Relay((host, int(port))) as relay, Poster(relay.address, self.model()) as p:
                for value in range(4):
                    p.post(value)
                    relay.cut()
                    self.assertEqual(p.wait(value), f"answer {value}")
                p.post(4)
                d.kill(0)
                relay.cut()
                self.error(p.wait(4, 500), "UNAVAILABLE", 0, "")


if __name__ == "__main__":
    unittest.main()
