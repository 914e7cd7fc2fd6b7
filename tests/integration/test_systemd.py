#!/usr/bin/python3
"""deploy/systemd/krtd.service is a unit that systemd takes, and krtd speaks its protocol."""

import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile

import daemon

UNIT = daemon.SOURCE / "deploy" / "systemd" / "krtd.service"


def check_unit(directory):
    """The command becomes the krtd that was built, since the installed one may be absent."""
    text, count = re.subn(r"^ExecStart=krtd\b", f"ExecStart={daemon.KRTD}", UNIT.read_text(), flags=re.M)
    assert count == 1, "no ExecStart=krtd"
    unit = os.path.join(directory, "krtd.service")
    with open(unit, "w", encoding="utf-8") as file:
        file.write(text)
    done = subprocess.run(["systemd-analyze", "verify", unit], check=False, text=True, capture_output=True)
    complaints = [line for line in done.stderr.splitlines() if "krtd" in line]
    assert done.returncode == 0 and not complaints, done.stderr


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
        check_unit(directory)


if __name__ == "__main__":
    main()
