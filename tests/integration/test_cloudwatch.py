#!/usr/bin/python3
"""The log in CloudWatch Logs, against a stand-in that checks signatures and can refuse, stall, throttle and die."""

import datetime
import hashlib
import hmac
import http.server
import json
import pathlib
import shutil
import ssl
import subprocess
import tempfile
import threading
import unittest

import fake
from fake import grpc

ACCESS, SECRET, REGION = "AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", "eu-central-1"


def signature(headers, signed, scope, body):
    """Amazon's Signature Version 4 of a POST to /."""
    request = "\n".join(["POST", "/", "", "".join(f"{n}:{' '.join(headers[n].split())}\n" for n in signed), ";".join(signed),
                         hashlib.sha256(body).hexdigest()])
    key = b"AWS4" + SECRET.encode()
    for part in scope:
        key = hmac.new(key, part.encode(), "sha256").digest()
    text = "\n".join(["AWS4-HMAC-SHA256", headers["x-amz-date"], "/".join(scope),
                      hashlib.sha256(request.encode()).hexdigest()])
    return hmac.new(key, text.encode(), "sha256").hexdigest()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def refusal(self, headers, body):
        fields = dict(f.strip(" ,").split("=", 1) for f in headers["authorization"].split(" ", 1)[1].split(", "))
        access, *scope = fields["Credential"].split("/")
        signed = fields["SignedHeaders"].split(";")
        must = {"host", "content-type"} | {n for n in headers if n.startswith("x-amz-")}
        if not headers["authorization"].startswith("AWS4-HMAC-SHA256 "):
            return "no signature"
        if not must <= set(signed) or signed != sorted(signed):
            return f"signed {signed}, must {sorted(must)}"
        if access != ACCESS or scope != [headers["x-amz-date"][:8], REGION, "logs", "aws4_request"]:
            return f"credential {access} {scope}"
        now = datetime.datetime.now(datetime.timezone.utc).replace(tzinfo=None)
        if abs(datetime.datetime.strptime(headers["x-amz-date"], "%Y%m%dT%H%M%SZ") - now) > datetime.timedelta(minutes=5):
            return "the date"
        if not hmac.compare_digest(signature(headers, signed, scope, body), fields["Signature"]):
            return "SignatureDoesNotMatch"
        return None

    def do_POST(self):
        server = self.server.stand_in
        headers = {k.lower(): v for k, v in self.headers.items()}
        body = self.rfile.read(int(headers["content-length"]))
        why = self.refusal(headers, body)
        target = headers.get("x-amz-target", "")
        with server.lock:
            server.calls.append(target)
            if why:
                server.refused.append(why)
                status, answer = 403, {"__type": "InvalidSignatureException", "message": why}
            elif server.script and (step := server.script.pop(0)) is not None:
                status, answer = step
            else:
                status, answer = server.serve(target.split(".")[-1], headers, body)
        if status == "stall":
            answer.wait(fake.SECONDS)
            self.close_connection = True
            return
        if status == "die":
            self.close_connection = True
            self.connection.close()
            return
        data = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/x-amz-json-1.1")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *arguments):
        pass


class StandIn:
    """What PutLogEvents, CreateLogGroup and CreateLogStream do."""

    def __init__(self, script=(), streams=(), certificate=None, port=0):
        self.lock = threading.Lock()
        self.script = list(script)  # answers to be given before those it would give; None: its own
        self.groups, self.streams = {g for g, _ in streams}, set(streams)
        self.batches, self.calls, self.refused, self.tokens = [], [], [], []
        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.http.daemon_threads = True
        self.http.stand_in = self
        self.port = self.http.server_port
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*certificate)
            self.http.socket = context.wrap_socket(self.http.socket, server_side=True)
        self.url = f"{'https' if certificate else 'http'}://127.0.0.1:{self.port}"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def serve(self, operation, headers, body):
        q = json.loads(body)
        group, stream = q["logGroupName"], q.get("logStreamName")
        self.tokens.append(headers.get("x-amz-security-token"))
        assert headers["content-type"] == "application/x-amz-json-1.1"
        if operation == "CreateLogGroup":
            if group in self.groups:
                return 400, {"__type": "com.amazonaws.logs#ResourceAlreadyExistsException", "message": "there"}
            self.groups.add(group)
            return 200, {}
        if operation == "CreateLogStream":
            if group not in self.groups:
                return 400, {"__type": "ResourceNotFoundException", "message": "no group"}
            self.streams.add((group, stream))
            return 200, {}
        assert operation == "PutLogEvents", operation
        if (group, stream) not in self.streams:
            return 400, {"__type": "ResourceNotFoundException", "message": "The specified log stream does not exist."}
        events = q["logEvents"]
        assert 1 <= len(events) <= 10000
        assert sum(len(e["message"].encode()) + 26 for e in events) <= 1048576
        assert [e["timestamp"] for e in events] == sorted(e["timestamp"] for e in events)
        self.batches.append(events)
        return 200, {"nextSequenceToken": "1"}

    def messages(self):
        with self.lock:
            return [json.loads(e["message"]) for batch in self.batches for e in batch]

    def has(self, text):
        return any(text in m["text"] for m in self.messages())

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.http.shutdown()
        self.http.server_close()


THROTTLED = (400, {"__type": "ThrottlingException", "message": "Rate exceeded"})


class Logged(fake.Krtd):
    def __init__(self, url, keys=True, env=(), **settings):
        directory = pathlib.Path(tempfile.mkdtemp(prefix="kaena-"))
        sink = {"type": "cloudwatch", "group": "kaena", "stream": "host/{daemon}", "endpoint": url, "flush_ms": 50, **settings}
        if keys:
            sink |= {"region": REGION, "access_key_id": ACCESS, "secret_access_key": SECRET}
        sink = {k: v for k, v in sink.items() if v is not None}
        config = {"version": 1, "log": {"sinks": [{"type": "stderr"}, sink]},
                  "daemons": [{"name": "krtd0", "listen": [f"unix:{directory}/krtd.sock"], "devices": [0]}]}
        try:
            super().__init__(config=config, rundir=directory, env=env)
        except BaseException:
            shutil.rmtree(directory)
            raise
        self.own_dir = True


def complain(client, name):
    """Makes one line."""
    try:
        client.load("rubbish", name=name)
    except grpc.RpcError:
        pass


class CloudWatch(fake.TestCase):
    def test_group_and_stream_are_made_and_lines_arrive(self):
        with StandIn() as aws, Logged(aws.url) as krtd, krtd.client() as client:
            for i in range(20):
                complain(client, f"line-{i}")
            fake.wait_until(lambda: aws.has("line-19"), "the lines arrive")
            texts = [m["text"] for m in aws.messages()]
            self.assertTrue(any("ready:" in t for t in texts), texts)
            self.assertEqual([i for i in range(20) for t in texts if f"'line-{i}' is not" in t], list(range(20)))
            self.assertEqual({m["daemon"] for m in aws.messages()}, {"krtd0"})
            self.assertEqual(aws.streams, {("kaena", "host/krtd0")})
            self.assertEqual(aws.refused, [])
            self.assertEqual([c.split(".")[-1] for c in aws.calls[:4]],
                             ["PutLogEvents", "CreateLogGroup", "CreateLogStream", "PutLogEvents"])
            self.assertTrue(all(c.startswith("Logs_20140328.") for c in aws.calls))

    def test_settings_from_the_environment(self):
        env = {"AWS_ACCESS_KEY_ID": ACCESS, "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_SESSION_TOKEN": "a/token+=",
               "AWS_REGION": REGION}
        with StandIn(streams=[("kaena", "host/krtd0")]) as aws:
            env["AWS_ENDPOINT_URL"] = aws.url
            with Logged(None, keys=False, env=env.items()):
                fake.wait_until(lambda: aws.has("ready:"), "the lines arrive")
                self.assertEqual((aws.refused, set(aws.tokens)), ([], {"a/token+="}))

    def test_without_credentials_the_daemon_says_so(self):
        empty = {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}
        with self.assertRaisesRegex(RuntimeError, "no credentials for AWS; set access_key_id"):
            Logged("http://127.0.0.1:9", keys=False, env=empty.items())

    def test_only_this_sink_needs_libcurl(self):
        with tempfile.TemporaryDirectory() as directory:
            pathlib.Path(directory, "libcurl.so.4").write_bytes(b"rubbish")
            broken = {"LD_LIBRARY_PATH": directory}
            with fake.Krtd(env=broken.items()) as krtd, krtd.client() as client:
                self.assertEqual(len(client.models()), 0)
            with self.assertRaisesRegex(RuntimeError, r"log to CloudWatch 'kaena/host/krtd0': libcurl: .*; "
                                                      r"install libcurl\.so\.4 \(Debian: libcurl4\)"):
                Logged("http://127.0.0.1:9", env=broken.items())

    def test_a_reload_brings_it_and_takes_it_away(self):
        with StandIn() as aws, Logged(aws.url, flush_ms=3600000) as krtd, krtd.client() as client:
            config = krtd.dir / "krtd.json"
            with_sink = config.read_text()
            without = json.loads(with_sink)
            without["log"]["sinks"].pop()

            def reload(text):
                before = krtd.log().count("reload: done")
                config.write_text(text)
                krtd.signal(fake.signal.SIGHUP)
                fake.wait_until(lambda: krtd.log().count("reload: done") > before, "reloaded")

            complain(client, "first")
            self.assertEqual(aws.batches, [], "lines wait for others")
            reload(json.dumps(without))
            fake.wait_until(lambda: aws.has("'first' is not"), "what waited arrives")
            complain(client, "second")
            reload(with_sink)
            complain(client, "third")
            reload(json.dumps(without))
            fake.wait_until(lambda: aws.has("'third' is not"), "what waited arrives")
            self.assertFalse(aws.has("'second' is not"))
            self.assertNotIn("lines were lost", krtd.log())
            self.assertEqual(aws.refused, [])

    def test_tls(self):
        with tempfile.TemporaryDirectory() as directory:
            certificate = (f"{directory}/cert.pem", f"{directory}/key.pem")
            subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1",
                            "-addext", "subjectAltName=IP:127.0.0.1", "-out", certificate[0], "-keyout", certificate[1]],
                           check=True, capture_output=True)
            with StandIn(streams=[("kaena", "host/krtd0")], certificate=certificate) as aws:
                with Logged(aws.url, ca_file=certificate[0]):
                    fake.wait_until(lambda: aws.has("ready:"), "the lines arrive")
                with Logged(aws.url) as krtd:  # whom nobody has vouched for
                    fake.wait_until(lambda: "certificate" in krtd.log(), "it is told")
                    krtd.signal()
                    self.assertEqual(krtd.wait(), 0)
                self.assertEqual(aws.refused, [])

    def test_throttling_and_errors_are_got_over_and_told_once(self):
        script = [THROTTLED, (500, {}), (503, {"__type": "ServiceUnavailableException"}), ("die", None), THROTTLED]
        with StandIn(script, [("kaena", "host/krtd0")]) as aws, Logged(aws.url) as krtd, krtd.client() as client:
            fake.wait_until(lambda: aws.has("ready:"), "the lines arrive all the same")
            complain(client, "later")
            fake.wait_until(lambda: aws.has("later"), "and later ones")
            self.assertEqual(aws.script, [])
            self.assertEqual(krtd.log().count("it will try again"), 1)
            self.assertIn("HTTP 400, ThrottlingException: Rate exceeded", krtd.log())
            fake.wait_until(lambda: "works again; 0 lines were lost" in krtd.log() or complain(client, "more"), "nothing was lost")
            texts = [m["text"] for m in aws.messages()]
            self.assertEqual(len([t for t in texts if "ready:" in t]), 1)

    def test_a_request_that_is_wrong_is_not_repeated(self):
        script = [(400, {"__type": "InvalidParameterException", "message": "no"})]
        with StandIn(script, [("kaena", "host/krtd0")]) as aws, Logged(aws.url) as krtd, krtd.client() as client:
            fake.wait_until(lambda: "InvalidParameterException" in krtd.log(), "it is told")
            fake.wait_until(lambda: aws.has("after") or complain(client, "after"), "what comes later arrives")
            fake.wait_until(lambda: "lines were lost" in krtd.log() or complain(client, "more"), "the loss is told")
            self.assertNotIn("0 lines were lost", krtd.log())

    def test_events_that_the_service_rejects_are_counted(self):
        script = [(200, {"rejectedLogEventsInfo": {"tooOldLogEventEndIndex": 1}})]
        with StandIn(script, [("kaena", "host/krtd0")]) as aws, Logged(aws.url) as krtd, krtd.client() as client:
            fake.wait_until(lambda: "1 lines were lost" in krtd.log() or complain(client, "more"), "the loss is told")

    def test_a_service_that_is_not_there_blocks_nothing_and_comes_back(self):
        with StandIn() as gone:
            port = gone.port
        with Logged(f"http://127.0.0.1:{port}", buffer_bytes=65536) as krtd, krtd.client() as client:
            client.load(fake.model())
            for i in range(600):  # more than the buffer holds
                complain(client, f"line-{i:03}-" + "x" * 80)
                if i % 50 == 0:
                    client.infer(fake.request())
            self.assertIn("line-599", krtd.log())
            with StandIn(port=port) as aws:
                fake.wait_until(lambda: aws.has("line-599"), "the newest arrive")
                self.assertFalse(aws.has("line-100-"))
                fake.wait_until(lambda: "works again;" in krtd.log() or complain(client, "more"), "it is told")
                lost = int(krtd.log().split("works again; ")[1].split()[0])
                kept = sum("line-" in m["text"] and "failed:" in m["text"] for m in aws.messages())
                self.assertGreater(lost, 100)
                self.assertGreater(kept, 50)
                self.assertLessEqual(kept + lost, 700)

    def test_a_service_that_stalls_blocks_neither_requests_nor_the_end(self):
        released = threading.Event()
        with StandIn([("stall", released)] * 20, [("kaena", "host/krtd0")]) as aws, Logged(aws.url) as krtd, krtd.client() as client:
            fake.wait_until(lambda: aws.calls, "it is asked")
            client.load(fake.model())
            for _ in range(20):
                client.infer(fake.request())
            krtd.signal()
            self.assertEqual(krtd.wait(), 0)
            self.assertRegex(krtd.log(), r"lines were lost")
            released.set()

    def test_what_waits_is_sent_at_the_end(self):
        with StandIn(streams=[("kaena", "host/krtd0")]) as aws:
            with Logged(aws.url, flush_ms=3600000) as krtd:
                krtd.signal()
                self.assertEqual(krtd.wait(), 0)
            self.assertTrue(aws.has("ready:"))
            self.assertTrue(aws.has("stopped"))
            self.assertEqual(len(aws.batches), 1)

    def test_many_lines_go_in_few_batches(self):
        with StandIn(streams=[("kaena", "host/krtd0")]) as aws, Logged(aws.url, flush_ms=2000) as krtd, krtd.client() as client:
            for i in range(300):
                complain(client, f"line-{i}")
            fake.wait_until(lambda: aws.has("line-299"), "all arrive")
            self.assertLess(len(aws.batches), 20)
            self.assertEqual(len({m["text"] for m in aws.messages() if "failed:" in m["text"]}), 300)


if __name__ == "__main__":
    unittest.main(verbosity=2)
