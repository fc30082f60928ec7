"""Tars written by hand, and a server that does what it is told."""

import gzip
import hashlib
import http.server
import random
import re
import socket
import struct
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from kinetics_sounds.sources import TarPart

# A tar written by hand, since tarfile refuses to write what must be refused when read.


def header(name: bytes, size: int, *, kind: bytes = b"0", link: bytes = b"") -> bytes:
    """One ustar header block."""
    assert len(name) <= 100
    assert len(link) <= 100
    block = bytearray(512)
    for at, value in ((0, name), (100, b"0000644\0"), (124, b"%011o\0" % size), (156, kind), (157, link)):
        block[at : at + len(value)] = value
    block[257:265] = b"ustar\x0000"
    return signed(block)


def signed(block: bytearray) -> bytes:
    """The block with the checksum that it should have."""
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def member(name: str | bytes, data: bytes = b"", *, kind: bytes = b"0", link: bytes = b"") -> bytes:
    """One header and its bytes, as far as a type has some."""
    raw = name.encode() if isinstance(name, str) else name
    return header(raw, len(data), kind=kind, link=link) + data + bytes(-len(data) % 512)


def pax(**records: str | bytes) -> bytes:
    """A pax header of records for the next member."""
    lines = b""
    for key, value in records.items():
        body = key.replace("__", ".").encode() + b"=" + (value.encode() if isinstance(value, str) else value) + b"\n"
        length = len(body) + 2
        while len(b"%d " % length + body) != length:
            length += 1
        lines += b"%d " % length + body
    return member("././@PaxHeader", lines, kind=b"x")


END = bytes(1024)


def key(number: int, name: str = "clip") -> str:
    return f"{name}{number}_{number:06d}_{number + 10:06d}"


def noise(seed: int, size: int) -> bytes:
    return random.Random(seed).randbytes(size)


CLIPS = {key(number): noise(number, 700 * number + 1) for number in range(1, 9)}
PLAIN = b"".join(member(f"./{name}.mp4", data) for name, data in CLIPS.items()) + END
ZIPPED = gzip.compress(PLAIN, mtime=0)
TWICE_ZIPPED = gzip.compress(PLAIN[:5000], mtime=0) + gzip.compress(PLAIN[5000:], mtime=0)

# A server that does what it is told.


@dataclass(frozen=True)
class Step:
    """What one request meets."""

    code: int = 200
    cut: int | None = None
    """Bytes of the body after which it ends."""
    then: str = "close"
    """How: close, reset, silence, or drip (a byte now and then)."""
    swap: bytes | None = None
    """The file is this one from now on."""
    answer_range: str = ""
    """Answer this range instead of the one asked for."""
    location: str = ""
    """Redirect to this."""


@dataclass
class File:
    """A file on the server."""

    data: bytes | Callable[[], Iterator[bytes]]
    size: int = -1
    steps: list[Step] = field(default_factory=list)
    """One a request; the last stays."""
    etag: str = "strong"
    ranges: bool = True
    framing: str = "length"
    """How the body's end is told: length, chunked, close."""
    asked: list[str] = field(default_factory=list)
    """The range of each GET, empty for a whole one."""


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: "Site"

    def log_message(self, *_args: object) -> None:
        pass

    def do_HEAD(self) -> None:
        file = self.server.files.get(self.path.partition("?")[0])
        step = file.steps[0] if file and file.steps else Step()
        self.send_response(step.code if file else 404)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_GET(self) -> None:
        self.close_connection = True
        file = self.server.files.get(self.path.partition("?")[0])
        if file is None:
            self.send_error(404)
            return
        file.asked.append(self.headers.get("Range", "").removeprefix("bytes="))
        step = (file.steps.pop(0) if len(file.steps) > 1 else file.steps[0]) if file.steps else Step()
        file.data = step.swap if step.swap is not None else file.data
        if step.location:
            self.redirect(step)
        elif step.code != 200:
            self.send_error(step.code)
        elif isinstance(file.data, bytes):
            self.answer(file, file.data, step)
        else:
            self.send_response(200)
            self.send_header("Content-Length", str(file.size))
            self.end_headers()
            for chunk in file.data():
                self.wfile.write(chunk)

    def redirect(self, step: Step) -> None:
        self.send_response(302)
        self.send_header("Location", step.location)
        self.end_headers()
        if step.then == "drip":
            while True:  # until the client hangs up
                self.wfile.write(bytes(1 << 16))

    def answer(self, file: File, data: bytes, step: Step) -> None:
        etag = {"strong": '"%s"', "weak": 'W/"%s"', "none": ""}[file.etag]
        etag = etag and etag % hashlib.sha256(data).hexdigest()[:16]
        first, found = 0, re.fullmatch(r"bytes=(\d+)-", step.answer_range or self.headers.get("Range", ""))
        current = self.headers.get("If-Range") in (None, etag) or step.answer_range
        if found and file.ranges and current:
            first = int(found[1])
            if first >= len(data):
                self.send_error(416)
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {first}-{len(data) - 1}/{len(data)}")
        else:
            self.send_response(200)
        if etag:
            self.send_header("ETag", etag)
        body = data[first:]
        if file.framing == "length":
            self.send_header("Content-Length", str(len(body)))
        elif file.framing == "chunked":
            self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        body, whole = (body, True) if step.cut is None else (body[: step.cut], False)
        if file.framing == "chunked":
            for at in range(0, len(body), 1000):
                piece = body[at : at + 1000]
                self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            self.wfile.write(b"0\r\n\r\n" if whole else b"")
        else:
            self.wfile.write(body)
        if not whole:
            self.end(step, data[first + len(body) :])

    def end(self, step: Step, rest: bytes) -> None:
        self.wfile.flush()
        if step.then == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
        elif step.then == "silence":
            self.server.over.wait(5)
        elif step.then == "drip":
            for byte in rest:
                if self.server.over.wait(0.01):
                    break
                self.wfile.write(bytes([byte]))


class Site(http.server.ThreadingHTTPServer):
    """Files under paths, on a free port of this machine."""

    daemon_threads = True
    block_on_close = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, File] = {}
        self.over = threading.Event()
        self.base = f"http://127.0.0.1:{self.server_port}/kinetics/400"

    def handle_error(self, request: object, client_address: object) -> None:
        if not isinstance(
            sys.exc_info()[1], (OSError, ValueError)
        ):  # a client that hung up, a connection that was reset
            super().handle_error(request, client_address)  # type: ignore[arg-type]

    def put(self, place: str, data: bytes | Callable[[], Iterator[bytes]] = b"", **settings: object) -> File:
        file = self.files[f"/kinetics/400/{place}"] = File(data, **settings)  # type: ignore[arg-type]
        return file

    def lists(self, split: str, *lines: str) -> None:
        self.put(f"{split}/k400_{split}_path.txt", "".join(f"{line}\n" for line in lines).encode())

    def part(self, data: bytes | Callable[[], Iterator[bytes]], **settings: object) -> tuple[TarPart, File]:
        """A part of the training split, and the file behind it."""
        file = self.put("train/part_0.tar.gz", data, **settings)
        return TarPart("train/part_0.tar.gz", f"{self.base}/train/part_0.tar.gz", "train", replacement=False), file
