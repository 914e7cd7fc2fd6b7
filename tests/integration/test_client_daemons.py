#!/usr/bin/python3
"""libkaena over several daemons: they die, drain, hang and come back under load, and no call notices."""

import json
import os
import signal
import subprocess
import tempfile
import unittest

import daemon
import fake
from traffic import TRAFFIC, Daemons, Traffic


class Replicas(unittest.TestCase):
    def setUp(self):
        file = tempfile.NamedTemporaryFile("w", suffix=".neff", delete=False)
        file.write(fake.model("m", contexts=4))
        file.close()
        self.file = file.name
        self.addCleanup(os.unlink, self.file)

    def traffic(self, daemons, *options, **more):
        return Traffic("--address", daemons.address(), "--model", self.file, "--name", "m", *options, **more)

    def nothing_failed(self, traffic):
        report = traffic.ask()
        self.assertEqual((report["failed"], report["wrong"], report["error"]), (0, 0, ""), report)
        return report

    def test_a_daemon_is_killed_and_comes_back(self):
        with Daemons(2) as d, self.traffic(d) as t:
            for i in (0, 1, 0):
                t.more(100, i)
                d.kill(i)
                t.more(200, 1 - i)
                self.nothing_failed(t)
                d.start(i)
                t.until(i, "ready")
                t.more(100, i)
            self.nothing_failed(t)

    def test_a_daemon_drains(self):
        with Daemons(2) as d, self.traffic(d) as t:
            t.more(100, 0)
            d.krtd[0].signal()
            self.assertEqual(d.krtd[0].wait(), 0)
            t.more(200, 1)
            d.start(0)
            t.more(100, 0)
            self.nothing_failed(t)

    def test_a_daemon_hangs(self):
        """Nothing but a sign of life that does not come tells a call that its daemon hangs."""
        with Daemons(2) as d, self.traffic(d, "--threads", 8) as t:
            t.more(100, 0)
            d.krtd[0].signal(signal.SIGSTOP)
            t.until(0, "away")
            t.more(200, 1)
            d.krtd[0].signal(signal.SIGCONT)
            t.more(100, 0)
            self.nothing_failed(t)

    def test_the_only_daemon_restarts(self):
        """Without another replica calls wait for it."""
        with Daemons(1) as d, self.traffic(d) as t:
            t.more(100)
            d.kill(0)
            t.until(0, "away")
            d.start(0)
            t.more(100)
            report = t.ask()
            # What was under way when it died is tried once more, and there may be nobody yet.
            self.assertEqual(report["wrong"], 0)
            self.assertEqual(report["failed"], 0, report)

    def test_one_of_three_moves(self):
        with Daemons(3) as d, self.traffic(d, "--daemons", 1) as t:
            report = t.more(50)
            self.assertEqual([r["state"] for r in report["replicas"]], ["ready", "absent", "absent"])
            d.kill(0)
            t.until(1, "ready")
            report = t.more(50, 1)
            self.assertEqual([r["state"] for r in report["replicas"]], ["away", "ready", "absent"])
            self.nothing_failed(t)

    def test_load_is_spread(self):
        with Daemons(3) as d, self.traffic(d, "--threads", 6) as t:
            for i in range(3):
                t.more(200, i)
            counts = [r["inferences"] for r in self.nothing_failed(t)["replicas"]]
            self.assertLess(max(counts), 20 * min(counts), counts)  # the machine favours one or the other

    def test_somebody_unloads_a_replica(self):
        with Daemons(2) as d, self.traffic(d) as t:
            with d.krtd[0].client() as client:
                for _ in range(3):
                    t.more(50, 0)
                    client.unload("m")
                    t.more(50, 1)
            t.more(50, 0)
            self.nothing_failed(t)

    def test_addresses_of_nobody(self):
        with Daemons(1) as d, tempfile.TemporaryDirectory() as empty, \
                Traffic("--address", f"unix:{empty}/a,{d.address()},127.0.0.1:1", "--model", self.file,
                        "--name", "m") as t:
            report = t.more(100)
            self.assertEqual([r["state"] for r in report["replicas"]], ["away", "ready", "away"])
            self.nothing_failed(t)

    def test_daemons_of_the_configuration(self):
        with Daemons(2) as d, tempfile.TemporaryDirectory() as here:
            config = {"version": 1, "daemons": [{"name": f"krtd{i}", "listen": [d.address(i)], "devices": [i]}
                                                for i in range(2)]}
            with open(f"{here}/krtd.json", "w", encoding="utf-8") as f:
                json.dump(config, f)
            env = {"KAENA_CONFIG": f"{here}/krtd.json"}
            with Traffic("--model", self.file, "--name", "m", env=env) as t:
                t.more(20, 0)
                t.more(20, 1)
            with Traffic("--daemon", "krtd1", "--model", self.file, "--name", "m", env=env) as t:
                self.assertEqual(len(t.more(20)["replicas"]), 1)
                with d.krtd[1].client() as one, d.krtd[0].client() as other:
                    self.assertEqual((len(one.models()), len(other.models())), (1, 0), "unloaded when closed")
            away = subprocess.run([TRAFFIC, "--daemon", "krtd7", "--name", "m"], stdin=subprocess.DEVNULL, text=True,
                                  capture_output=True, env={**os.environ, **env}, check=False)
            self.assertEqual(away.returncode, 1)
            self.assertIn("no daemon 'krtd7'", away.stderr)

    def test_models_that_others_loaded(self):
        with Daemons(2) as d:
            with d.krtd[1].client() as client:
                client.load(fake.model("m"))
            with Traffic("--address", d.address(), "--name", "m") as t:
                report = t.more(50)
                self.assertEqual([r["state"] for r in report["replicas"]], ["absent", "ready"])
            with d.krtd[1].client() as client:
                self.assertEqual(len(client.models()), 1, "the handle is closed, the model stays")
            absent = subprocess.run([TRAFFIC, "--address", d.address(), "--name", "other"], text=True,
                                    stdin=subprocess.DEVNULL, capture_output=True, check=False)
            self.assertIn("no model 'other'", absent.stderr)

    def test_requests_that_nobody_waits_for(self):
        for options in ([], ["--streams"]):
            with self.subTest(options=options), Daemons(2) as d, \
                    self.traffic(d, "--threads", 2, "--async", 200, *options) as t:
                t.more(1000)
                d.kill(1)
                t.more(1000)
                d.start(1)
                t.more(200, 1)
                d.krtd[0].signal()
                self.assertEqual(d.krtd[0].wait(), 0)
                t.more(200, 1)
                self.nothing_failed(t)


    def test_requests_on_a_stream_end_by_their_deadline_alone(self):
        """What has expired never runs, and the stream goes on; with the end those under way are cancelled."""
        with tempfile.NamedTemporaryFile("w", suffix=".neff") as file, Daemons(1) as d:
            file.write(fake.model("m", contexts=1, sleep_ms=300))
            file.flush()
            with Traffic("--address", d.address(), "--model", file.name, "--name", "m", "--threads", 1, "--async", 20,
                         "--streams", "--timeout", 700) as t:
                report = t.more(3)
                fake.wait_until(lambda: t.ask()["failed"] > 20, "most have no time to run")
                report = t.ask()
                self.assertEqual(report["wrong"], 0)
                self.assertIn("time", report["error"])
                with d.krtd[0].client() as client:
                    m = client.model("m")
                    self.assertLess(m.executions, report["right"] + report["failed"])


class Sessions(unittest.TestCase):
    setUp = Replicas.setUp
    traffic = Replicas.traffic

    def models(self, daemons, i):
        with daemons.krtd[i].client() as client:
            return [m.name for m in client.models()]

    def test_models_go_with_their_client(self):
        with Daemons(2) as d:
            with self.traffic(d) as t:
                t.more(10, 0)
                t.more(10, 1)
                t.kill()
                for i in range(2):
                    fake.wait_until(lambda i=i: self.models(d, i) == [], "no models")

    def test_a_session_over_tcp_is_come_back_to(self):
        """The daemon hangs until its client takes it for lost; the model has not gone when it goes on."""
        with Daemons(1) as d, Traffic("--address", d.krtd[0].tcp, "--model", self.file, "--name", "m", "--timeout",
                                      60000) as t:
            t.more(50)
            d.krtd[0].signal(signal.SIGSTOP)
            t.until(0, "away")
            d.krtd[0].signal(signal.SIGCONT)
            t.until(0, "ready")
            report = t.more(50)
            self.assertEqual((report["wrong"], report["failed"]), (0, 0), report)
            self.assertEqual(d.krtd[0].log().count("loaded over TCP"), 1, "it was found, not loaded again")

    def test_persistent_models_stay(self):
        with Daemons(1) as d:
            with self.traffic(d, "--persistent") as t:
                t.more(10)
            self.assertEqual(self.models(d, 0), ["m"])


if __name__ == "__main__":
    unittest.main()
