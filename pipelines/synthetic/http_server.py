"""Local web server for a folder of videos, with byte ranges like a video host."""

import http.server
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http import HTTPStatus
from pathlib import Path

_NAME = re.compile(r"/([A-Za-z0-9_-]+\.mp4)")
_RANGE = re.compile(r"bytes=(\d+)-(\d*)")


class _Videos(http.server.BaseHTTPRequestHandler):
    """Handles GET and HEAD for files of one flat folder."""

    protocol_version = "HTTP/1.1"

    def __init__(self, folder: Path, *args: object) -> None:
        self.folder = folder
        super().__init__(*args)  # type: ignore[arg-type]

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's own name
        """Log nothing."""

    def do_HEAD(self) -> None:
        """Send the headers."""
        self._answer(body=False)

    def do_GET(self) -> None:
        """Send a whole file, or the requested range."""
        self._answer(body=True)

    def _answer(self, *, body: bool) -> None:
        name = _NAME.fullmatch(self.path)
        path = self.folder / name[1] if name else None
        if path is None or not path.is_file():
            self.send_response(HTTPStatus.NOT_FOUND)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        data = path.read_bytes()
        first, last = 0, len(data) - 1
        asked = _RANGE.fullmatch(self.headers.get("Range", ""))
        if asked and int(asked[1]) < len(data):
            first, last = int(asked[1]), min(int(asked[2] or last), last)  # an end past the file's is clamped
            self.send_response(HTTPStatus.PARTIAL_CONTENT)
            self.send_header("Content-Range", f"bytes {first}-{last}/{len(data)}")
        else:
            self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", "video/mp4")
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(last - first + 1))
        self.end_headers()
        if body:
            self.wfile.write(data[first : last + 1])


class _Server(http.server.ThreadingHTTPServer):
    """Ignores clients that hang up."""

    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Print nothing about clients that disconnect."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


@contextmanager
def videos(folder: Path) -> Iterator[str]:
    """Serve the mp4 files of `folder` on a free port of the loopback address; yields the URL, without a trailing slash."""
    server = _Server(("127.0.0.1", 0), partial(_Videos, folder))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
