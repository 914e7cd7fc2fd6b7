#!/usr/bin/python3
"""Nothing is lost when a daemon dies.

Four daemons, eight client processes (ledger_client.c), KAENA_LEDGER_SECONDS of mixed traffic. Meanwhile one daemon is killed with
SIGKILL every five seconds and another restarted with SIGTERM, models come and go, clients are killed and replaced. Every request
is booked when it begins and when it ends. Then the books are checked: each request has one end; every answer was the right one;
clients of daemons that lived saw no error, nor did those whose models are on several daemons; the others saw errors of the
kinds that a dead daemon gives; and the daemons have nothing left of clients that are gone.
"""

import collections
import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "integration"))

import daemon  # noqa: E402
import fake  # noqa: E402
import grpc  # noqa: E402
import onnx_text  # noqa: E402
from fake import rt  # noqa: E402

CLIENT = daemon.BUILD / "tests" / "ledger" / "ledger_client"
SECONDS = float(os.environ.get("KAENA_LEDGER_SECONDS") or os.environ.get("KAENA_LEDGER_DEFAULT") or 60)
SEED = int(os.environ.get("KAENA_LEDGER_SEED") or time.time_ns() % 1000000)
KILL_SECONDS, RESTART_SECONDS, CHURN_SECONDS, CLIENT_SECONDS = 5, 7, 0.5, 4
KILLED, RESTARTED, SAFE, SAFE_TOO = range(4)  # the daemons' fates

# name -> elements ("-": any number up to it), what it adds, and how it is compiled
MODELS = {
    "tiny": ("64", 1, ("--num-tpbs", "1")),
    "middle": ("4096", 2, ("--num-tpbs", "2")),
    "large": ("150528", 3, ("--num-tpbs", "4")),
    "any": ("-2000", 4, onnx_text.ANY),
}

# What clients of a daemon that dies may see besides answers: nobody there, the model not loaded again yet, or given up.
ALLOWED = {"UNAVAILABLE", "NOT_FOUND", "ABORTED", "CANCELLED", "DEADLINE_EXCEEDED"}

# Clients: the daemons they know, the errors they may see, and how they ask. With --artifacts they load their models themselves.
LOADS, AT_ONCE = ("--artifacts", "."), ("--async", "8")
ROLES = {
    "safe": ([SAFE], set(), ()),
    "safe-at-once": ([SAFE_TOO], set(), LOADS + AT_ONCE),
    "replicated": ([KILLED, RESTARTED, SAFE, SAFE_TOO], set(), LOADS),
    "replicated-at-once": ([KILLED, RESTARTED, SAFE], set(), LOADS + AT_ONCE),
    "loaded-by-others": ([SAFE_TOO, SAFE, RESTARTED, KILLED], set(), ()),
    "killed-alone": ([KILLED], ALLOWED, ()),
    "killed-alone-at-once": ([KILLED], ALLOWED, LOADS + AT_ONCE),
    "both-dying": ([RESTARTED, KILLED], ALLOWED, LOADS),
}


class Host:
    """The daemons of a configuration file, each with its models."""

    def __init__(self, directory, artifacts):
        self.dir, self.artifacts = directory, artifacts
        names = [f"krtd{i}" for i in range(4)]
        self.config = directory / "krtd.json"
        self.config.write_text(json.dumps({
            "version": 1,
            "chips": [{"pci": f"0000:00:1{c}.0"} for c in "cdef"],
            "daemons": [{"name": n, "listen": [self.address(i)], "devices": [i], "threads": 1} for i, n in enumerate(names)]}))
        self.daemons = [None] * 4
        self.starts = [0] * 4

    def address(self, i):
        return f"unix:{self.dir}/krtd{i}.sock"

    def log(self, i):
        return self.dir / f"krtd{i}.log"

    def client(self, i):
        return fake.Client(self.address(i))

    def start(self, i):
        with open(self.log(i), "ab") as log:
            at = log.tell()
            self.daemons[i] = subprocess.Popen(
                [daemon.KRTD, "--config", self.config, "--name", f"krtd{i}"], stdout=log, stderr=log,
                env={**os.environ, "KAENA_RUNDIR": str(self.dir)})
        self.starts[i] += 1
        fake.wait_until(lambda: b"ready:" in self.log(i).read_bytes()[at:] or self.daemons[i].poll() is not None, "ready")
        assert self.daemons[i].poll() is None, self.tail(i)
        with self.client(i) as client:
            for name, path in self.artifacts.items():
                load(client, path, name)

    def tail(self, i):
        return f"krtd{i}: " + self.log(i).read_text(errors="replace")[-4000:]

    def end(self, i, number):
        self.daemons[i].send_signal(number)
        status = self.daemons[i].wait(fake.SECONDS)
        want = -signal.SIGKILL if number == signal.SIGKILL else 0
        assert status == want, f"krtd{i} ended with {status}, not {want}: {self.tail(i)}"

    def destroy(self):
        for d in self.daemons:
            if d and d.poll() is None:
                d.kill()
                d.wait()


def load(client, path, name):
    data = path.read_bytes()
    return client.load_messages([rt.LoadRequest(options=rt.LoadOptions(name=name, size=len(data), persistent=True)),
                                 *(rt.LoadRequest(chunk=data[at:at + (1 << 20)]) for at in range(0, len(data), 1 << 20))])


class Clients:
    """The client processes, and the ledgers of all that there ever were."""

    def __init__(self, host):
        self.host, self.count, self.ledgers, self.running = host, 0, [], {}

    def start(self, role):
        self.count += 1
        ledger = self.host.dir / f"{role}.{self.count}.ledger"
        models = [f"{name}:{elements}:{constant}" for name, (elements, constant, _) in MODELS.items()]
        addresses = ",".join(self.host.address(i) for i in ROLES[role][0])
        process = subprocess.Popen([CLIENT, "--address", addresses, "--ledger", ledger, *ROLES[role][2], *models], cwd=self.host.dir)
        self.running[role] = (process, ledger)

    def end(self, role, number):
        process, ledger = self.running.pop(role)
        assert process.poll() is None, f"client '{role}' ended with {process.returncode}"
        process.send_signal(number)
        status = process.wait(fake.SECONDS)
        assert status == (-signal.SIGKILL if number == signal.SIGKILL else 0), f"client '{role}' ended with {status}"
        self.ledgers.append((role, ledger, number == signal.SIGKILL))

    def destroy(self):
        for process, _ in self.running.values():
            process.kill()
            process.wait()


class Trouble:
    """Does something again and again on a thread of its own; what goes wrong there fails the test."""

    def __init__(self, every, what):
        self.every, self.what, self.error, self.times = every, what, None, 0
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self.run)

    def run(self):
        try:
            while not self.stop.wait(self.every):
                self.what()
                self.times += 1
        except BaseException as error:  # pylint: disable=broad-except
            self.error = error

    def end(self):
        self.stop.set()
        self.thread.join()
        if self.error:
            raise self.error


class Check:
    """Reads ledgers; what is wrong is a line in |problems|."""

    def __init__(self):
        self.problems = []
        self.ends = collections.defaultdict(collections.Counter)  # of each role: outcome -> requests
        self.open = 0

    def problem(self, ledger, text):
        self.problems.append(f"{ledger.name}: {text}")

    def read(self, role, ledger, killed):
        begun, ended = {}, set()
        text = ledger.read_text()
        lines = text.splitlines()
        if text and not text.endswith("\n"):
            self.problem(ledger, f"half a line: {lines[-1]}")
        for line in lines:
            kind, number, rest = line.split(" ", 2)
            if kind == "B":
                if number in begun:
                    self.problem(ledger, f"begun twice: {line}")
                begun[number] = rest
                continue
            if number not in begun:
                self.problem(ledger, f"an end without a beginning: {line}")
            if number in ended:
                self.problem(ledger, f"ended twice: {line}")
            ended.add(number)
            outcome = rest.split(" ", 1)[0]
            self.ends[role][outcome] += 1
            if outcome == "WRONG":
                self.problem(ledger, f"a wrong answer of '{begun.get(number)}': {line}")
            elif outcome != "OK" and outcome not in ROLES[role][1]:
                self.problem(ledger, f"'{begun.get(number)}' should have been answered: {line}")
        lost = sorted(set(begun) - ended)
        if lost and not killed:
            self.problem(ledger, f"{len(lost)} requests have no end, the first {lost[0]} ('{begun[lost[0]]}')")
        self.open += len(lost)

    def report(self):
        for role, ends in self.ends.items():
            print(f"{role}: {', '.join(f'{n} {outcome}' for outcome, n in ends.most_common())}", file=sys.stderr)


def churn(host, path, random_source):
    """A model comes to a safe daemon, is used, and goes."""
    right = fake.tensor(values=[6.0] * 64).data
    with host.client(random_source.choice([SAFE, SAFE_TOO])) as client:
        name = f"churn-{random_source.randrange(1 << 30)}"
        load(client, path, name)
        request = fake.request(name, [fake.tensor(values=[5.0] * 64)])
        assert client.infer(request).outputs[0].data == right
        post, wait = client.method("InferPost", rt.InferPostResponse), client.method("InferWait", rt.InferResponse)
        cookies = {post(request, timeout=fake.SECONDS).cookie for _ in range(8)}
        assert len(cookies) == 8
        for cookie in cookies:
            assert wait(rt.InferWaitRequest(cookie=cookie), timeout=fake.SECONDS).outputs[0].data == right
        stream = client.method("InferStream", rt.InferStreamResponse, "stream_stream")
        answers = list(stream(iter([rt.InferStreamRequest(id=i, request=request) for i in range(1, 9)]), timeout=fake.SECONDS))
        assert sorted(a.id for a in answers) == list(range(1, 9))
        assert all(a.response.outputs[0].data == right for a in answers), answers
        client.unload(name)


def check_left(host):
    """The daemons hold their own models and nothing else."""
    for i in range(4):
        with host.client(i) as client:
            fake.wait_until(lambda: {m.name for m in client.models()} == set(MODELS), f"krtd{i} has only its own models")
            assert sum(m.queued for m in client.models()) == 0
            check_stats(client)


def check_stats(client):
    def left():
        try:
            stats = client.method("GetStats", rt.GetStatsResponse)(rt.GetStatsRequest(), timeout=fake.SECONDS)
        except grpc.RpcError as error:
            assert error.code() == grpc.StatusCode.UNIMPLEMENTED, error
            return (0, 0, 0)
        return (stats.sessions, stats.regions, stats.region_bytes)
    fake.wait_until(lambda: left() == (0, 0, 0), "no sessions and regions are left")


def run(directory):
    print(f"{SECONDS:g} s, seed {SEED}", file=sys.stderr)
    source = random.Random(SEED)
    artifacts = {name: onnx_text.compile_model(directory, name, onnx_text.add(
        "n" if elements[0] == "-" else int(elements), constant, name), "--fp32-cast", "none", *options)
        for name, (elements, constant, options) in MODELS.items()}
    host, check = Host(directory, artifacts), Check()
    clients = Clients(host)

    def restart(i, number):
        host.end(i, number)
        host.start(i)

    def replace():
        role = source.choice(list(ROLES))
        clients.end(role, signal.SIGKILL)
        clients.start(role)

    churn_source = random.Random(SEED + 1)
    troubles = [Trouble(KILL_SECONDS, lambda: restart(KILLED, signal.SIGKILL)),
                Trouble(RESTART_SECONDS, lambda: restart(RESTARTED, signal.SIGTERM)),
                Trouble(CHURN_SECONDS, lambda: churn(host, artifacts["tiny"], churn_source)),
                Trouble(CLIENT_SECONDS, replace)]
    try:
        for i in range(4):
            host.start(i)
        for role in ROLES:
            clients.start(role)
        for t in troubles:
            t.thread.start()
        until = time.monotonic() + SECONDS
        while time.monotonic() < until and not any(t.error for t in troubles):
            time.sleep(0.1)
        for t in troubles:
            t.end()
        for role in list(clients.running):
            clients.end(role, signal.SIGTERM)
        for i in (SAFE, SAFE_TOO):
            assert host.starts[i] == 1 and host.daemons[i].poll() is None, host.tail(i)
        check_left(host)
        for i in range(4):
            host.end(i, signal.SIGTERM)
    finally:
        for t in troubles:
            t.stop.set()
        clients.destroy()
        host.destroy()
    for ledger in clients.ledgers:
        check.read(*ledger)
    check.report()
    answered = sum(ends["OK"] for ends in check.ends.values())
    print(f"{answered} answers, {check.open} requests of killed clients; kills {troubles[0].times}, restarts {troubles[1].times}, "
          f"models that came and went {troubles[2].times}, clients killed {troubles[3].times}", file=sys.stderr)
    for problem in check.problems[:40]:
        print(problem, file=sys.stderr)
    assert not check.problems, f"{len(check.problems)} problems (seed {SEED})"
    for role in ROLES:
        assert check.ends[role]["OK"] > 0, f"no answer for '{role}'"
    assert troubles[0].times >= SECONDS // (KILL_SECONDS + 5) and troubles[3].times > 0


def main():
    with tempfile.TemporaryDirectory(prefix="kaena-ledger-") as directory:
        run(pathlib.Path(directory))


if __name__ == "__main__":
    main()
