"""Servers of the tests' own between a reader and its files: they count, cut and refuse."""

import contextlib
import re
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

REQUEST = re.compile(rb"(GET|HEAD|PUT|POST) (\S+) HTTP/1\.1")


class Proxy:
    """A TCP proxy before a local port: whenever `cut_after` bytes more have come back, it cuts the connection they came by."""

    def __init__(self, upstream: int) -> None:
        self.upstream, self.cut_after = upstream, float("inf")
        self.cuts = 0
        """Connections that were cut."""
        self.most_cuts = float("inf")
        self.flows = threading.Event()
        """While it is not set, nothing comes back."""
        self.flows.set()
        self.requests: list[str] = []
        self.sent = 0
        """Bytes that went to the reader."""
        self._uncut, self._stop_at = 0, float("inf")
        self._lock = threading.Lock()
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def cut(self, after: int, *, most: float = float("inf")) -> None:
        """Begin to cut, at most so many times."""
        with self._lock:
            self._uncut, self.cut_after, self.most_cuts = 0, after, most

    def stop(self, after: int) -> None:
        """Let so many bytes more come back, then none until `flows` is set."""
        with self._lock:
            self._stop_at = self.sent + after

    def count(self, method: str, path: str) -> int:
        return sum(request.startswith(f"{method} ") and path in request for request in self.requests)

    def close(self) -> None:
        self._listening.close()

    def _serve(self) -> None:
        while True:
            try:
                reader, _ = self._listening.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self.upstream))
            threading.Thread(target=self._ask, args=(reader, server), daemon=True).start()
            threading.Thread(target=self._answer, args=(reader, server), daemon=True).start()

    def _ask(self, reader: socket.socket, server: socket.socket) -> None:
        try:
            while data := reader.recv(65536):
                with self._lock:
                    self.requests += [b" ".join(found).decode() for found in REQUEST.findall(data)]
                server.sendall(data)
        except OSError:
            pass
        finally:
            _hang_up(server)

    def _answer(self, reader: socket.socket, server: socket.socket) -> None:
        try:
            while data := server.recv(65536):
                self.flows.wait()
                with self._lock:
                    cut = self._uncut + len(data) > self.cut_after and self.cuts < self.most_cuts
                    data = data[: max(int(self.cut_after) - self._uncut, 0)] if cut else data
                    self._uncut = 0 if cut else self._uncut + len(data)
                    self.cuts += cut
                    self.sent += len(data)
                    if self.sent > self._stop_at:
                        self.flows.clear()
                        self._stop_at = float("inf")
                reader.sendall(data)
                if cut:
                    break
        except OSError:
            pass
        finally:
            _hang_up(reader)
            _hang_up(server)


def _hang_up(end: socket.socket) -> None:
    with contextlib.suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
    end.close()


class FileServer:
    """An HTTP server of a few files in memory, which may know of ranges or not, and may be told to refuse."""

    def __init__(self, *, ranges: bool) -> None:
        self.files: dict[str, bytes] = {}
        self.statuses: list[int] = []
        """What the next requests are answered with instead."""
        self.headers: dict[str, str] = {}
        """Of those answers."""
        self.lost = 0
        """Bytes at the end of what is put here that are lost."""
        handler = type("Handler", (_Handler,), {"owner": self, "ranges": ranges})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self._thread.start()

    def url(self, name: str, port: int | None = None) -> str:
        return f"http://127.0.0.1:{port or self.port}/{name}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    owner: FileServer
    ranges: bool

    def _answer(self, *, body: bool) -> None:
        data = self.owner.files.get(self.path.partition("?")[0].strip("/"))
        headers = self.owner.headers if self.owner.statuses else {}
        status = self.owner.statuses.pop(0) if self.owner.statuses else 404 if data is None else 200
        data = data if status == 200 and data is not None else b""
        wanted = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        if wanted and self.ranges and status == 200:
            first, last = int(wanted[1]), min(int(wanted[2]), len(data) - 1)
            status, whole, data = 206, len(data), data[first : last + 1]
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if status == 206:
            self.send_header("Content-Range", f"bytes {first}-{last}/{whole}")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if body:
            self.wfile.write(data)

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def do_PUT(self) -> None:
        data = b""
        while size := int(self.rfile.readline(), 16):  # in chunks, as fsspec sends it
            data += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        self.owner.files[self.path.partition("?")[0].strip("/")] = data[: len(data) - self.owner.lost]
        self.send_response(201)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Say nothing."""
