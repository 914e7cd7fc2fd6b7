#!/usr/bin/python3
"""Runs the client in Node (client.mjs) against a krtd over TCP and a unix socket."""

import shutil
import subprocess

import daemon

MODULES = daemon.SOURCE / "build-node" / "node_modules"


def main():
    node = shutil.which("node")
    if not node:
        daemon.skip("node is not installed (scripts/setup)")
    for package in ("@grpc/grpc-js", "@grpc/proto-loader"):
        if not (MODULES / package).is_dir():
            daemon.skip(f"{package} is not installed: npm could not be reached? (scripts/setup)")
    with daemon.Daemon() as krtd:
        neff = krtd.dir / "digits.neff"
        daemon.compile_model(daemon.DIGITS / "digits.onnx", neff)
        for target in (krtd.tcp, krtd.socket):
            subprocess.run([node, daemon.SOURCE / "tests" / "integration" / "client.mjs", target, neff, MODULES],
                           check=True, env=krtd.env)


if __name__ == "__main__":
    main()
