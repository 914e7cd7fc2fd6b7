"""Daemons that die, and traffic through libkaena (traffic.c) that must not show it."""

import json
import subprocess
import tempfile

import daemon
import fake

TRAFFIC = daemon.BUILD / "tests" / "integration" / "traffic"


class Traffic:
    """traffic.c as a process; with the block's end it must end well."""

    def __init__(self, *options, env=()):
        self.process = subprocess.Popen([TRAFFIC, *map(str, options)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE, text=True, env={**daemon.os.environ, **dict(env)})

    killed = False

    def ask(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise AssertionError(f"traffic ended: {self.process.stderr.read()}")
        return json.loads(line)

    def more(self, count, replica=None):
        """Waits for so many more right answers (of one replica); gives the report."""
        def right(report):
            return report["right"] if replica is None else report["replicas"][replica]["inferences"]
        first = right(self.ask())
        fake.wait_until(lambda: right(self.ask()) >= first + count, f"{count} answers of {replica}: {self.ask()}")
        return self.ask()

    def until(self, replica, state):
        fake.wait_until(lambda: self.ask()["replicas"][replica]["state"] == state, f"replica {replica} {state}")

    def kill(self):
        self.process.kill()
        self.process.communicate()
        self.killed = True

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        if self.killed:
            return
        if kind is not None:
            self.process.kill()
        _, said = self.process.communicate()
        if kind is None and self.process.returncode != 0:
            raise AssertionError(f"traffic ended with {self.process.returncode}: {said}")


class Daemons:
    """|count| krtd-fake that can be killed and started again at the same address."""

    def __init__(self, count, **options):
        self.options = options
        self.dirs = [tempfile.mkdtemp(prefix="kaena-") for _ in range(count)]
        self.krtd = [None] * count
        for i in range(count):
            self.start(i)

    def start(self, i):
        self.krtd[i] = fake.Krtd(rundir=self.dirs[i], **self.options)

    def address(self, *which):
        return ",".join(self.krtd[i].socket for i in (which or range(len(self.krtd))))

    def kill(self, i):
        self.krtd[i].process.kill()
        self.krtd[i].process.wait()

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        for k in self.krtd:
            if k.process.poll() is None:
                k.process.kill()
            k.process.wait()
            if kind is not None:
                print(k.log(), file=fake.sys.stderr)
        for d in self.dirs:
            fake.shutil.rmtree(d)
