#!/usr/bin/python3
"""libkaena while each of its allocations fails in turn: it ends with an error or without, and leaks nothing."""

import re
import subprocess
import tempfile
import unittest

import daemon
import fake

FAULTS = daemon.BUILD / "tests" / "integration" / "client_faults"


class Faults(unittest.TestCase):
    def test_allocations(self):
        with fake.Krtd() as krtd, tempfile.NamedTemporaryFile("w", suffix=".neff") as file:
            file.write(fake.model("m", inputs=["x float32 20000"], outputs=["y float32 20000"], contexts=2))
            file.flush()
            done = subprocess.run([FAULTS, krtd.socket, file.name], text=True, capture_output=True, check=False,
                                  timeout=500)
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
            hit, told = map(int, re.match(r"(\d+) allocations failed in turn, (\d+) calls told", done.stdout).groups())
            self.assertGreater(hit, 50)
            self.assertGreater(told, 20)
            with krtd.client() as client:
                self.assertEqual(list(client.models()), [])


if __name__ == "__main__":
    unittest.main()
