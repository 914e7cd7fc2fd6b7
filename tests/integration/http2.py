"""HTTP/2 by hand, for clients that misbehave: frames, no flow control, nothing read unless asked for."""

import socket
import struct

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
END_STREAM, END_HEADERS, ACK = 1, 4, 1
INITIAL_WINDOW_SIZE = 4
WINDOW_MAX = 2**31 - 1
FRAME_MAX = 16384


def frame(kind, flags, stream, payload=b""):
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def message(body, claim=None):
    """A gRPC message; |claim|: the length that its prefix says, whatever there is."""
    return struct.pack(">BI", 0, len(body) if claim is None else claim) + body


def _literal(name, value):
    assert len(name) < 127 and len(value) < 127
    return b"\0" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode()


def headers(path, **more):
    fields = {":method": "POST", ":scheme": "http", ":path": path, ":authority": "localhost", "te": "trailers",
              "content-type": "application/grpc", **more}
    return b"".join(_literal(k, v) for k, v in fields.items())


class Connection:
    """One connection; |windows|: the server may send as much as it likes."""

    def __init__(self, address, windows=False, timeout=60):
        if isinstance(address, str) and address.startswith("unix:"):
            self.socket = socket.socket(socket.AF_UNIX)
            self.socket.connect(address[len("unix:"):])
        else:
            host, port = address.rsplit(":", 1)
            self.socket = socket.create_connection((host, int(port)))
        self.socket.settimeout(timeout)
        self.stream = -1
        self.pending = b""
        settings = struct.pack(">HI", INITIAL_WINDOW_SIZE, WINDOW_MAX) if windows else b""
        self.send(PREFACE + frame(SETTINGS, 0, 0, settings))
        if windows:
            self.send(frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", WINDOW_MAX - 65535)))

    def send(self, data):
        self.socket.sendall(data)

    def call(self, path, body=None, claim=None, end=True, **more):
        """Opens a stream; |body|: with that message. Returns its number."""
        self.stream += 2
        out = frame(HEADERS, END_HEADERS | (END_STREAM if body is None and end else 0), self.stream, headers(path, **more))
        if body is not None:
            data = message(body, claim)
            pieces = [data[at:at + FRAME_MAX] for at in range(0, len(data), FRAME_MAX)]
            for i, piece in enumerate(pieces):
                last = end and i == len(pieces) - 1
                out += frame(DATA, END_STREAM if last else 0, self.stream, piece)
        self.send(out)
        return self.stream

    def reset(self, stream, code=8):
        self.send(frame(RST_STREAM, 0, stream, struct.pack(">I", code)))

    def frames(self):
        """(kind, flags, stream, payload) of what comes, until the server closes."""
        while True:
            while len(self.pending) < 9 or len(self.pending) < 9 + int.from_bytes(self.pending[:3], "big"):
                try:
                    more = self.socket.recv(65536)
                except (ConnectionError, BrokenPipeError):
                    more = b""
                if not more:
                    return
                self.pending += more
            size = int.from_bytes(self.pending[:3], "big")
            kind, flags, stream = struct.unpack(">BBI", self.pending[3:9])
            payload, self.pending = self.pending[9:9 + size], self.pending[9 + size:]
            yield kind, flags, stream & WINDOW_MAX, payload

    def ended(self, stream):
        """Reads until |stream| ends: "end", "reset" or (the connection was closed) None."""
        for kind, flags, number, _ in self.frames():
            if number == stream and kind == RST_STREAM:
                return "reset"
            if number == stream and kind in (HEADERS, DATA) and flags & END_STREAM:
                return "end"
        return None

    def close(self):
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
