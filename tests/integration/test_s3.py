#!/usr/bin/python3
"""Models in S3: kaena_mx_compile and kaena_tf_compile from and to s3:// URLs, against the server s3rver on loopback."""

import hashlib
import hmac
import http.client
import http.server
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
import urllib.request

import daemon

try:
    import numpy as np
    import mxnet_file
    import saved_model_file
except ImportError:
    daemon.skip("numpy is not installed (scripts/setup)")

TF_COMPILE = daemon.BUILD / "compiler" / "kcc" / "kaena_tf_compile"
MX_COMPILE = daemon.BUILD / "compiler" / "kcc" / "kaena_mx_compile"
BUCKET = "kaena-models"
SERVER = """
const S3rver = require(process.argv[2]);
new S3rver({address: '127.0.0.1', port: Number(process.argv[4]), silent: true, directory: process.argv[3],
            configureBuckets: [{name: 'kaena-models'}]}).run((error) => {
  if (error) throw error;
});
"""


class Server:
    """s3rver over a directory: an object is the file bucket/key._S3rver_object."""

    def __init__(self, directory):
        self.root, self.port = directory / "s3", daemon.free_port()
        self.root.mkdir()
        script = directory / "server.js"
        script.write_text(SERVER)
        module = daemon.SOURCE / "build-node" / "node_modules" / "s3rver"
        if not module.exists():
            daemon.skip("s3rver is not installed (scripts/setup)")
        # s3rver encrypts the tokens of its lists with DES.
        self.process = subprocess.Popen(["node", "--openssl-legacy-provider", script, module, self.root, str(self.port)])
        self.url = f"http://127.0.0.1:{self.port}"

    def __enter__(self):
        until = time.monotonic() + 60
        while True:
            try:
                urllib.request.urlopen(f"{self.url}/{BUCKET}?list-type=2", timeout=5).close()
                return self
            except OSError:
                if self.process.poll() is not None or time.monotonic() > until:
                    raise RuntimeError("s3rver did not start") from None
                time.sleep(0.1)

    def __exit__(self, kind, value, trace):
        self.process.kill()
        self.process.wait()

    def path(self, key):
        return self.root / BUCKET / f"{key}._S3rver_object"

    def put(self, key, data):
        request = urllib.request.Request(f"{self.url}/{BUCKET}/{urllib.request.quote(key)}", data=data, method="PUT")
        urllib.request.urlopen(request, timeout=30).close()

    def keys(self):
        return sorted(str(p.relative_to(self.root / BUCKET)).removesuffix("._S3rver_object")
                      for p in self.root.rglob("*._S3rver_object"))


def canonical(text, safe=""):
    return urllib.parse.quote(urllib.parse.unquote(text), safe=safe + "-._~")


def signature(method, target, headers, signed, scope, secret):
    """Amazon's Signature Version 4, for a request as it arrived."""
    path, _, query = target.partition("?")
    pairs = sorted((canonical(k), canonical(v)) for k, _, v in (p.partition("=") for p in query.split("&") if p))
    request = "\n".join([method, canonical(path, "/"), "&".join(f"{k}={v}" for k, v in pairs),
                         "".join(f"{n}:{' '.join(headers[n].split())}\n" for n in signed), ";".join(signed),
                         headers["x-amz-content-sha256"]])
    key = b"AWS4" + secret.encode()
    for part in scope:
        key = hmac.new(key, part.encode(), "sha256").digest()
    text = "\n".join(["AWS4-HMAC-SHA256", headers["x-amz-date"], "/".join(scope), hashlib.sha256(request.encode()).hexdigest()])
    return hmac.new(key, text.encode(), "sha256").hexdigest()


class Gate(http.server.BaseHTTPRequestHandler):
    """Stands before s3rver, which looks at no signature of version 4, and does."""

    def refusal(self, body):
        fields = dict(f.strip(" ,").split("=", 1) for f in self.headers["Authorization"].split(" ", 1)[1].split(", "))
        access, *scope = fields["Credential"].split("/")
        signed = fields["SignedHeaders"].split(";")
        must = {"host"} | {n.lower() for n in self.headers if n.lower().startswith("x-amz-")}
        if not must <= set(signed):
            return f"unsigned headers: {sorted(must - set(signed))}"
        if self.headers["x-amz-content-sha256"] != hashlib.sha256(body).hexdigest():
            return "XAmzContentSHA256Mismatch"
        if access != "S3RVER" or scope[1:] != [self.server.region, "s3", "aws4_request"]:
            return f"credential {access} {scope}"
        want = signature(self.command, self.path, {k.lower(): v for k, v in self.headers.items()}, signed, scope, "S3RVER")
        return None if hmac.compare_digest(want, fields["Signature"]) else "SignatureDoesNotMatch"

    def pass_on(self):
        body = self.rfile.read(int(self.headers["Content-Length"] or 0))
        why = self.refusal(body)
        if why:
            status, headers, answer = 403, [], f"<Error><Code>SignatureDoesNotMatch</Code><Message>{why}</Message></Error>".encode()
        else:
            back = http.client.HTTPConnection("127.0.0.1", self.server.behind, timeout=30)
            # Lists come in small pages, so that there are several.
            back.request(self.command, self.path.replace("max-keys=1000", "max-keys=3"), body, {k: v for k, v in self.headers.items() if k.lower() not in ("host", "expect")})
            reply = back.getresponse()
            status, headers, answer = reply.status, [("Content-Type", reply.getheader("Content-Type", ""))], reply.read()
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        if status != 204:
            self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    do_GET = do_PUT = do_DELETE = pass_on

    def log_message(self, *arguments):
        pass


def gate(server, region="us-east-1"):
    """The URL at which |server| checks signatures for |region|."""
    front = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Gate)
    front.behind, front.region = server.port, region
    threading.Thread(target=front.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{front.server_port}"


def environment(url, **more):
    env = {k: v for k, v in os.environ.items() if not k.startswith("AWS_") and "proxy" not in k.lower()}
    return {**env, "AWS_ENDPOINT_URL": url, "AWS_ACCESS_KEY_ID": "S3RVER", "AWS_SECRET_ACCESS_KEY": "S3RVER", **more}


def compile_mx(env, source, target, *options):
    return subprocess.run([MX_COMPILE, "--in_model_uri_prefix", source, "--out_model_uri_prefix", target, "--input_shapes",
                           '{"data":[2,3]}', *options], env=env, text=True, capture_output=True, check=False)


def expect(done, *texts):
    assert done.returncode == 1, done
    for text in texts:
        assert text in done.stderr, (text, done.stderr)


def model(prefix):
    """A network of one layer; returns its weights."""
    weights = np.arange(6, dtype="f4").reshape(2, 3)
    symbol = mxnet_file.Symbol()
    node = symbol.add("FullyConnected", "fc", [symbol.variable("data"), symbol.variable("w")], num_hidden=2, no_bias=True)
    symbol.heads.append(node)
    symbol.save(prefix)
    mxnet_file.save_params(prefix.with_name(prefix.name + "-0007.params"), {"arg:w": weights})
    return weights


def infer(directory, neff, weights):
    with daemon.Daemon("--devices", "0") as krtd:
        krtd.cli("load", neff, "--name", "m")
        x = np.array([[1, 2, 3], [-1, 0, 0.5]], "f4")
        np.save(krtd.dir / "x.npy", x)
        krtd.cli("infer", "--model", "m", "--input", f"data={krtd.dir / 'x.npy'}", "--output-dir", krtd.dir / "out")
        assert np.abs(np.load(krtd.dir / "out" / "fc_output.npy") - x @ weights.T).max() < 1e-5


def round_trip(server, directory, weights):
    """Names with what a URL must encode, there and back, and as files."""
    for key in ("plain", "with space/größe+ü&=?#%41~*'()!"):
        for end in ("-symbol.json", "-0007.params"):
            server.put(key + end, (directory / f"m{end}").read_bytes())
        source, target = f"s3://{BUCKET}/{key}", f"s3://{BUCKET}/out/{key}"
        done = compile_mx(environment(server.gate), source, target, "--epoch_number", "7", "--fp32-cast", "none")
        assert done.returncode == 0, (key, done.stderr)
        for end in ("-symbol.json", "-0007.params", "-0007.neff"):
            assert f"out/{key}{end}" in server.keys(), (key, server.keys())
        assert f"wrote {target}-symbol.json" in done.stdout
    symbol = json.loads(server.path("out/plain-symbol.json").read_text())
    assert [n["op"] for n in symbol["nodes"]] == ["null", "_kaena_neff"], symbol
    assert symbol["nodes"][1]["attrs"]["neff"] == "plain-0007.neff"
    infer(directory, server.path("out/plain-0007.neff"), weights)
    # From S3 to files, and again over what is there; the latest epoch needs no number.
    for number in (["--epoch_number", "7"], []):
        done = compile_mx(environment(server.gate), f"s3://{BUCKET}/plain", directory / "local" / "p", *number)
        assert done.returncode == 0, done.stderr
    assert sorted(p.name for p in (directory / "local").iterdir()) == ["p-0007.neff", "p-0007.params", "p-symbol.json"]
    # A session token is part of what is signed.
    done = compile_mx(environment(server.gate, AWS_SESSION_TOKEN="abc/+=def"), directory / "m", f"s3://{BUCKET}/token")
    assert done.returncode == 0, done.stderr
    assert "token-0007.neff" in server.keys()
    done = compile_mx(environment(gate(server, "eu-west-3"), AWS_DEFAULT_REGION="eu-west-3"), directory / "m", f"s3://{BUCKET}/region")
    assert done.returncode == 0, done.stderr


def failures(server, directory):
    env, source, target = environment(server.gate), f"s3://{BUCKET}/plain", f"s3://{BUCKET}/out/plain"
    before = server.keys()
    expect(compile_mx(env, f"s3://{BUCKET}/absent", target, "--epoch_number", "7"), f"s3://{BUCKET}/absent-symbol.json", "HTTP 404",
           "NoSuchKey")
    expect(compile_mx(env, source, "s3://no-such-bucket/x", "--epoch_number", "7"), "s3://no-such-bucket/x", "HTTP 404", "NoSuchBucket")
    expect(compile_mx(environment(server.gate, AWS_SECRET_ACCESS_KEY="wrong"), source, target, "--epoch_number", "7"), "HTTP 403",
           "SignatureDoesNotMatch")
    expect(compile_mx(env, f"s3://{BUCKET}/absent", target), f"there are no parameters 's3://{BUCKET}/absent-NNNN.params'")
    expect(compile_mx(env, "s3://Bad_Bucket/x", target, "--epoch_number", "7"), "does not name a bucket")
    done = compile_mx({k: v for k, v in env.items() if k != "AWS_ACCESS_KEY_ID"}, source, target, "--epoch_number", "7")
    expect(done, "no credentials", "AWS_ACCESS_KEY_ID")
    expect(compile_mx(environment("http://127.0.0.1:1"), source, target, "--epoch_number", "7"), f"s3://{BUCKET}/plain-symbol.json")
    expect(compile_mx(environment("ftp://127.0.0.1"), source, target, "--epoch_number", "7"), "no http URL")
    server.put("broken-symbol.json", b'{"nodes": [')
    server.put("broken-0007.params", b"")
    expect(compile_mx(env, f"s3://{BUCKET}/broken", f"s3://{BUCKET}/made", "--epoch_number", "7"), "not JSON")
    assert [k for k in server.keys() if not k.startswith("broken")] == before
    # No directory of the work is left, and what could not be written left nothing.
    expect(compile_mx(env, source, directory / "absent" / "p", "--epoch_number", "7"), "absent")
    assert not list(directory.glob(".kaena-*")) and not list(directory.glob("kaena-*"))


def copies(server, directory):
    """Whole prefixes, by the program s3-copy; lists that take several pages."""
    copy, env = daemon.BUILD / "tests" / "integration" / "s3-copy", environment(server.gate)
    files = {f"part{k:02}/f ü+{k}": os.urandom(100 * k) for k in range(11)}
    for name, data in files.items():
        server.put(f"tree/saved/{name}", data)
    server.put("tree/saved2/other", b"x")
    for url, cut in ((f"s3://{BUCKET}/tree/saved/", "tree/saved/"), (f"s3://{BUCKET}/tree/", "tree/")):
        into = directory / cut.replace("/", "-")
        into.mkdir()
        subprocess.run([copy, "get", url, into], env=env, check=True)
        got = {str(p.relative_to(into)): p.read_bytes() for p in into.rglob("*") if p.is_file()}
        assert {k: v for k, v in got.items() if "saved2" not in k} == {f"tree/saved/{n}"[len(cut):]: d for n, d in files.items()}, got.keys()
    done = subprocess.run([copy, "get", f"s3://{BUCKET}/none", directory], env=env, text=True, capture_output=True, check=False)
    expect(done, f"no objects s3://{BUCKET}/none")
    # The last file is there only with all others; when one fails nothing stays.
    one, two, absent = directory / "one", directory / "two", directory / "three"
    one.write_bytes(os.urandom(3 << 20))
    two.write_bytes(b"")
    urls = [f"s3://{BUCKET}/put/{n}" for n in ("one", "two")]
    subprocess.run([copy, "put", one, urls[0], two, urls[1]], env=env, check=True)
    assert server.path("put/one").read_bytes() == one.read_bytes() and server.path("put/two").read_bytes() == b""
    done = subprocess.run([copy, "put", one, f"s3://{BUCKET}/bad/one", absent, f"s3://{BUCKET}/bad/two"], env=env, text=True,
                          capture_output=True, check=False)
    expect(done, "three")
    assert not [k for k in server.keys() if k.startswith("bad/")]


def saved_models(server, directory):
    """A SavedModel there and back; its assets come along, saved_model.pb is what a reader looks for."""
    modules = saved_model_file.messages(directory)
    source = directory / "dense"
    saved_model_file.write_dense(modules, source, np.ones((6, 3), "f4"), np.zeros(3, "f4"))
    for path in source.rglob("*"):
        if path.is_file():
            server.put(f"tf/dense/{path.relative_to(source)}", path.read_bytes())

    def compile_tf(into):
        return subprocess.run([TF_COMPILE, "--in_saved_model", f"s3://{BUCKET}/tf/dense", "--out_saved_model", into, "--input_data_shapes",
                               '{"x:0":[2,6]}'], env=environment(server.gate), text=True, capture_output=True, check=False)

    done = compile_tf(f"s3://{BUCKET}/tf/out/")
    assert done.returncode == 0, done.stderr
    files = ["assets.extra/deep/warmup", "assets/labels.txt", "model.neff", "saved_model.pb"]
    assert [k for k in server.keys() if k.startswith("tf/out")] == [f"tf/out/{f}" for f in files], server.keys()
    done = compile_tf(directory / "dense-out")
    assert done.returncode == 0, done.stderr
    assert sorted(str(p.relative_to(directory / "dense-out")) for p in (directory / "dense-out").rglob("*") if p.is_file()) == files
    expect(compile_tf(f"s3://{BUCKET}-none/out"), "NoSuchBucket")


class Redirect(http.server.BaseHTTPRequestHandler):
    """Sends everybody elsewhere, where nobody may go."""

    def do_GET(self):
        self.send_response(307)
        self.send_header("Location", "http://127.0.0.1:1/")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *arguments):
        pass


def redirects(directory):
    server = http.server.HTTPServer(("127.0.0.1", 0), Redirect)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}"
    expect(compile_mx(environment(url), f"s3://{BUCKET}/x", directory / "p", "--epoch_number", "0"), "HTTP 307", "AWS_REGION")
    server.shutdown()


def main():
    with tempfile.TemporaryDirectory(prefix="kaena-") as name:
        directory = pathlib.Path(name)
        os.environ["TMPDIR"] = name
        (directory / "local").mkdir()
        weights = model(directory / "m")
        redirects(directory)
        with Server(directory) as server:
            server.gate = gate(server)
            round_trip(server, directory, weights)
            copies(server, directory)
            saved_models(server, directory)
            failures(server, directory)
    print("ok")
    sys.exit(0)


if __name__ == "__main__":
    main()
