#!/usr/bin/python3
"""Statistics: GetStats, and what kaena-cli makes of them."""

import json
import signal
import socket
import subprocess
import tempfile
import unittest

import daemon
import fake
from fake import grpc, rt

CLI = daemon.BUILD / "client" / "kaena-cli"


def stats_of(client):
    return client.method("GetStats", rt.GetStatsResponse)(rt.GetStatsRequest(), timeout=fake.SECONDS)


def model_of(client, name="m"):
    return next(m for m in stats_of(client).models if m.name == name)


def requests_of(model):
    return {c.code: c.count for c in model.requests}


def cli(address, *arguments):
    return subprocess.run([str(CLI), "--address", address, "stats", *arguments], capture_output=True, text=True, timeout=60)


class Stats(fake.TestCase):
    def test_what_a_daemon_is(self):
        with fake.Krtd() as krtd, krtd.client() as client:
            s = stats_of(client)
            self.assertEqual((s.daemon, s.restarts, s.sessions, s.regions, len(s.models)), ("krtd0", 0, 0, 0, 0))
            self.assertGreater(s.rss_bytes, 1 << 20)
            self.assertGreater(s.uptime_ns, 0)
            self.assertEqual(s.connections, 1)
            with krtd.connect():
                fake.wait_until(lambda: stats_of(client).connections == 2, "the second connection is counted")
            fake.wait_until(lambda: stats_of(client).connections == 1, "the second connection is gone")
            self.assertEqual([d.index for d in s.devices], [0])
            self.assertEqual(s.devices[0].dram_bytes, 1000000)
            self.assertGreaterEqual(stats_of(client).uptime_ns, s.uptime_ns)

    def test_every_request_is_counted_once(self):
        with fake.Krtd() as krtd, krtd.client() as client:
            client.load(fake.model(dram=1000), version="7")
            client.load(fake.model("bad", fail="OUT_OF_RANGE"))
            for _ in range(5):
                client.infer(fake.request())
            for _ in range(3):
                self.fails(grpc.StatusCode.OUT_OF_RANGE, client.infer, fake.request("bad"))
            self.fails(grpc.StatusCode.INVALID_ARGUMENT, client.infer, fake.request(inputs=[fake.tensor("z")]))
            self.fails(grpc.StatusCode.NOT_FOUND, client.infer, fake.request("nobody"))
            m, bad = model_of(client), model_of(client, "bad")
            self.assertEqual(requests_of(m), {0: 5, 3: 1})
            self.assertEqual(requests_of(bad), {11: 3})
            self.assertEqual((m.version, m.executions, m.queued, m.running, m.timeouts), ("7", 5, 0, 0, 0))
            self.assertEqual(bad.version, bad.version[:12])
            self.assertEqual(bad.executions, 3)
            for h, n in ((m.queue, 5), (m.execute, 5), (m.total, 6)):
                self.assertEqual(sum(h.counts), n)
                self.assertEqual(len(h.counts), len(h.bounds) + 1)
                self.assertEqual(list(h.bounds), sorted(h.bounds))
            self.assertGreater(m.total.sum, 0)
            self.assertEqual(client.model("m").executions, 5)

    def test_what_waits_and_what_runs(self):
        with fake.Krtd() as krtd, krtd.client() as client:
            client.load(fake.model(sleep_ms=400, host=1))
            calls = [client.infer_later(fake.request()) for _ in range(3)]
            fake.wait_until(lambda: (model_of(client).running, model_of(client).queued) == (1, 2), "one runs, two wait")
            calls[2].cancel()
            for c in calls[:2]:
                c.result()
            fake.wait_until(lambda: requests_of(model_of(client)) == {0: 2, 1: 1}, "two answered, one cancelled")
            m = model_of(client)
            self.assertEqual(m.executions, 2)
            self.assertEqual(sum(m.queue.counts), 2)
            self.assertEqual(sum(m.total.counts), 3)
            # The second waited while the first ran.
            self.assertGreater(m.queue.sum, 0.3)
            self.assertGreater(m.execute.sum, 0.7)

    def test_an_unloaded_model_leaves_nothing(self):
        with fake.Krtd() as krtd, krtd.client() as client:
            for _ in range(3):
                client.load(fake.model())
                client.infer(fake.request())
                self.assertEqual(requests_of(model_of(client)), {0: 1})
                client.unload("m")
                self.assertEqual(len(stats_of(client).models), 0)

    def test_restarts_are_counted(self):
        directory = tempfile.mkdtemp(prefix="kaena-")
        with fake.Krtd(rundir=directory) as krtd:
            krtd.signal(signal.SIGKILL)
            krtd.wait()
            with fake.Krtd(rundir=directory) as second, second.client() as client:
                self.assertEqual(stats_of(client).restarts, 1)
            # It ended as it should: what comes now is a start.
            with fake.Krtd(rundir=directory) as third, third.client() as client:
                self.assertEqual(stats_of(client).restarts, 0)
            krtd.process.returncode = 0
        fake.shutil.rmtree(directory)

    def test_starts_that_fail_are_no_restarts(self):
        directory = tempfile.mkdtemp(prefix="kaena-")
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            metrics = f"127.0.0.1:{taken.getsockname()[1]}"

            def fail():
                for _ in range(3):
                    with fake.Krtd("--metrics", metrics, rundir=directory, wait=False) as failing:
                        self.assertEqual(failing.wait(), 1)
                        self.assertIn("address already in use", failing.log())
                        failing.process.returncode = 0

            fail()
            with fake.Krtd(rundir=directory) as krtd:
                with krtd.client() as client:
                    self.assertEqual(stats_of(client).restarts, 0)
                krtd.signal(signal.SIGKILL)
                krtd.wait()
                krtd.process.returncode = 0
            fail()
            with fake.Krtd(rundir=directory) as krtd, krtd.client() as client:
                self.assertEqual(stats_of(client).restarts, 1)
        fake.shutil.rmtree(directory)


class Cli(fake.TestCase):
    def test_table_and_json(self):
        with fake.Krtd() as krtd, krtd.client() as client:
            empty = cli(krtd.socket)
            self.assertEqual(empty.returncode, 0, empty.stderr)
            self.assertIn("krtd0 at unix:", empty.stdout)
            client.load(fake.model(), version="v1.2")
            client.load(fake.model("bad", fail="OUT_OF_RANGE"))
            for _ in range(4):
                client.infer(fake.request())
            self.fails(grpc.StatusCode.OUT_OF_RANGE, client.infer, fake.request("bad"))
            table = cli(krtd.socket)
            self.assertEqual(table.returncode, 0, table.stderr)
            row = next(line.split() for line in table.stdout.splitlines() if line.startswith("  m "))
            self.assertEqual(row[:6], ["m", "v1.2", "4", "0", "0", "0"])
            self.assertIn("failed: OUT_OF_RANGE 1\n", table.stdout)
            self.assertIn("device 0 (0000:00:1f.0):", table.stdout)
            daemons = json.loads(cli(krtd.socket, "--json").stdout)
            self.assertEqual(daemons["unreachable"], 0)
            models = {m["name"]: m for m in daemons["daemons"][0]["models"]}
            self.assertEqual(models["m"]["requests"], {"OK": 4})
            self.assertEqual(models["bad"]["requests"], {"OUT_OF_RANGE": 1})
            self.assertEqual(models["m"]["total"]["count"], 4)
            self.assertGreater(models["m"]["total"]["p99"], 0)
            self.assertLessEqual(models["m"]["total"]["p50"], models["m"]["total"]["p99"])

    def test_daemons_that_do_not_answer(self):
        with fake.Krtd() as krtd:
            both = cli(f"{krtd.socket},unix:/nowhere.sock")
            self.assertEqual(both.returncode, 0, both.stderr)
            self.assertIn("1 of the daemons did not answer", both.stderr)
            self.assertEqual(json.loads(cli(f"{krtd.socket},unix:/nowhere.sock", "--json").stdout)["unreachable"], 1)
        none = cli("unix:/nowhere.sock")
        self.assertEqual(none.returncode, 1)
        self.assertIn("/nowhere.sock", none.stderr)
        self.assertEqual(cli("unix:/x", "more").returncode, 2)


if __name__ == "__main__":
    unittest.main(verbosity=2)
