#!/usr/bin/python3
"""deploy/systemd has units that systemd takes, closed as far as they can be, and krtd speaks its protocol."""

import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import tempfile

import daemon

UNITS = daemon.SOURCE / "deploy" / "systemd"
MOST_EXPOSED = 2.0


def check_units(directory):
    """The command becomes the krtd that was built, since the installed one may be absent."""
    for name in ("krtd.service", "krtd@.service", "krtd.target"):
        text, count = re.subn(r"^ExecStart=krtd\b", f"ExecStart={daemon.KRTD}", (UNITS / name).read_text(), flags=re.M)
        assert count == name.endswith(".service"), f"{name}: no ExecStart=krtd"
        (pathlib.Path(directory) / name).write_text(text, encoding="utf-8")
    for name in ("krtd.service", "krtd@krtd0.service", "krtd.target"):
        done = subprocess.run(["systemd-analyze", "verify", os.path.join(directory, name)], check=False, text=True,
                              capture_output=True)
        complaints = [line for line in done.stderr.splitlines() if "krtd" in line]
        assert done.returncode == 0 and not complaints, done.stderr
    for name in ("krtd.service", "krtd@.service"):
        done = subprocess.run(["systemd-analyze", "security", "--offline=true", "--no-pager", os.path.join(directory, name)],
                              check=False, text=True, capture_output=True)
        level = re.search(r"Overall exposure level for .*: ([0-9.]+)", done.stdout)
        assert level and float(level.group(1)) <= MOST_EXPOSED, done.stdout + done.stderr


def check_readiness(directory):
    """READY=1 comes when the daemon answers, STOPPING=1 when it is told to end."""
    path = os.path.join(directory, "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.bind(path)
        notify.settimeout(daemon.START_SECONDS)
        address = f"{directory}/krtd.sock"
        env = dict(os.environ, NOTIFY_SOCKET=path, KAENA_RUNDIR=directory)
        process = subprocess.Popen([daemon.KRTD, "--listen", f"unix:{address}"], env=env)
        try:
            while b"READY=1" not in notify.recv(4096):
                pass
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(address)
            process.send_signal(signal.SIGTERM)
            while b"STOPPING=1" not in notify.recv(4096):
                pass
            assert process.wait(daemon.STOP_SECONDS) == 0
        finally:
            process.kill()
            process.wait()


def main():
    with tempfile.TemporaryDirectory() as directory:
        check_readiness(directory)
        if not shutil.which("systemd-analyze"):
            daemon.skip("systemd-analyze is not installed (scripts/setup)")
        check_units(directory)


if __name__ == "__main__":
    main()
