"""A server whose paths say what goes wrong, and YouTube's player with canned answers."""

import contextlib
import gc
import http.server
import socket
import struct
import subprocess
import sys
import time
import urllib.parse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kinetics_sounds.media import ffmpeg
from kinetics_sounds.media.synthesize import write_mp4

from ..serving import serving
from .tar_site import Site

ID = "5JzkrOVhPOw"
FPS, SECONDS, SOUND_BEGINS = 10, 10, 5


@pytest.fixture(scope="session")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Half a second of noise and a tone."""
    path = tmp_path_factory.mktemp("videos") / f"{ID}.mp4"
    frames_THWC = np.random.default_rng(0).integers(0, 255, (5, 36, 48, 3), dtype=np.uint8)
    tone = np.sin(np.arange(8000) * 0.1).astype(np.float32) * 0.5
    write_mp4(path, frames_THWC, tone, fps=10, sample_rate=16_000)
    return path


@pytest.fixture(scope="session")
def ramp(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `video.mp4` and `audio.m4a`: frame n is as bright as 2 n + 20, and the tone begins at 5 s."""
    folder = tmp_path_factory.mktemp("ramp")
    shades = (20 + 2 * np.arange(FPS * SECONDS)).astype(np.uint8)
    grain_THWC = np.random.default_rng(0).integers(0, 16, (FPS * SECONDS, 36, 64, 3), dtype=np.uint8)
    frames_THWC = shades[:, None, None, None] - 8 + grain_THWC
    times = np.arange(16_000 * SECONDS) / 16_000
    tone = (np.sin(times * 2000) * 0.5 * (times >= SOUND_BEGINS)).astype(np.float32)
    write_mp4(folder / "both.mp4", frames_THWC, tone, fps=FPS, sample_rate=16_000)
    for kept, name in (("-an", "video.mp4"), ("-vn", "audio.m4a")):
        made = [kept, "-c", "copy", "-movflags", "+faststart", str(folder / name)]
        argv = [ffmpeg.executable(), "-v", "error", "-i", str(folder / "both.mp4"), *made]
        subprocess.run(argv, check=True)
    return folder


class Server:
    """Answers `/FAULT/NAME` with the named file, or as the fault says; remembers what it was asked."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files = files
        self.url = ""
        self.asked: list[str] = []
        """Paths."""
        self.headers: list[dict[str, str]] = []
        self.reason = ""
        """What stands behind a status code."""
        self._begun: set[str] = set()

    def answer(self, request: http.server.BaseHTTPRequestHandler) -> None:
        self.asked.append(request.path)
        self.headers.append(dict(request.headers.items()))
        path = urllib.parse.urlsplit(request.path).path  # a proxy is asked for whole URLs
        fault, _, name = path.lstrip("/").partition("/")
        if fault.isdigit():
            request.send_response(int(fault), self.reason or None)
            request.send_header("Content-Length", "0")
            request.end_headers()
        elif fault in ("silent", "hang_up", "reset"):
            request.close_connection = True
            if fault == "silent":
                time.sleep(1.5)
            if fault == "reset":
                request.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                request.connection.close()
        else:
            self._serve(request, fault, self.files.get(name, b"") if fault != "empty" else b"")

    def _serve(self, request: http.server.BaseHTTPRequestHandler, fault: str, data: bytes) -> None:
        if fault == "html" or (fault == "later_html" and request.path in self._begun):
            data = b"<html><title>no video</title></html>"
        first, last = 0, len(data) - 1
        asked = request.headers.get("Range", "").removeprefix("bytes=").partition("-")
        if asked[0] and int(asked[0]) <= last:
            first, last = int(asked[0]), min(int(asked[2] or last), last)
            request.send_response(206)
            request.send_header("Content-Range", f"bytes {first}-{last}/{len(data)}")
        else:
            request.send_response(200)
        body = data[first : last + 1]
        request.send_header("Content-Type", "text/html" if data.startswith(b"<html") else "video/mp4")
        request.send_header("Accept-Ranges", "bytes")
        if fault == "no_length":
            request.close_connection = True
        else:
            request.send_header("Content-Length", str(len(body) + (1000 if fault == "long" else 0)))
        request.end_headers()
        later = request.path in self._begun  # the first request only looks what it is
        self._begun.add(request.path)
        cut = fault in ("cut", "stall") or (fault == "cut_once" and later and first == 0)
        request.wfile.write(body[: len(body) // 3] if cut else body)
        request.close_connection = request.close_connection or cut or fault == "long"
        if fault == "stall":
            request.wfile.flush()
            time.sleep(1.5)


@pytest.fixture
def serve() -> Iterator[Callable[[dict[str, bytes]], Server]]:
    """Starts servers."""

    def start(files: dict[str, bytes]) -> Server:
        script = Server(files)

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                pass

            def do_GET(self) -> None:
                script.answer(self)

        class Listening(http.server.ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request: object, client_address: object) -> None:
                assert isinstance(sys.exc_info()[1], OSError)  # yt-dlp hangs up when it has seen enough

        server = Listening(("127.0.0.1", 0), Handler)
        script.url = f"http://127.0.0.1:{server.server_port}"
        running.enter_context(serving(server))
        return script

    with contextlib.ExitStack() as running:
        yield start
    gc.collect()  # yt-dlp leaves the sockets of refused requests to the collector: here, where that is no warning


@pytest.fixture
def faults(serve: Callable[[dict[str, bytes]], Server], video: Path) -> Server:
    """A server with one small video under its id."""
    return serve({ID: video.read_bytes()})


@pytest.fixture(autouse=True)
def _straight(monkeypatch: pytest.MonkeyPatch) -> None:
    """No proxy between us and ourselves."""
    monkeypatch.setenv("no_proxy", "*")


@pytest.fixture
def player(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Gives YouTube's extractor an answer of the player: replaces the one method that asks for it."""
    monkeypatch.setenv("YTDLP_NO_PLUGINS", "1")
    from yt_dlp.extractor.youtube import YoutubeIE

    def install(
        status: dict[str, Any],
        formats: list[dict[str, Any]] | None = None,
        manifests: dict[str, str] | None = None,
        captions: str = "",
        **details: object,
    ) -> None:
        def answer(_self: object, _url: str, _data: object, _page: str, _client: str, video_id: str) -> tuple[Any, ...]:
            told = {
                "playabilityStatus": status if video_id == ID else {"status": "OK"},
                "videoDetails": {"videoId": video_id, "title": "t", "lengthSeconds": "10", **details},
                "microformat": {"playerMicroformatRenderer": {"availableCountries": ["US"]}},
            }
            if captions:  # YouTube's own, of what it hears: yt-dlp takes their language for the sound's
                track = {"kind": "asr", "vssId": f"a.{captions}", "isTranslatable": True}
                tracks = [{"baseUrl": f"https://host.invalid/?lang={captions}", **track}]
                told["captions"] = {"playerCaptionsTracklistRenderer": {"captionTracks": tracks}}
            if formats or manifests:
                told["streamingData"] = {**_STREAMING, "adaptiveFormats": formats or [], **(manifests or {})}
            return "", {}, {}, False, [told], None

        monkeypatch.setattr(YoutubeIE, "_initial_extract", answer)

    return install


def _no_token(**_: object) -> None:
    """YouTube asks some clients for a proof of origin; not this one."""


_STREAMING: dict[str, Any] = {
    "__yt_dlp_client": "tv",
    "__yt_dlp_fetch_gvs_po_token": _no_token,
    "__yt_dlp_fetch_subs_po_token": _no_token,
    "__yt_dlp_player_token_provided": False,
    "__yt_dlp_innertube_context": {"client": {"clientName": "TVHTML5"}},
    "__yt_dlp_is_premium_subscriber": False,
    "__yt_dlp_available_at_timestamp": 0,
}


def formats() -> list[dict[str, Any]]:
    """Picture of 480 and of 720 lines and a sound track, as YouTube's player lists them."""

    def picture(itag: int, height: int) -> dict[str, Any]:
        return {
            "itag": itag,
            "path": f"video?height={height}&sig=SIGNATURE",
            "mimeType": 'video/mp4; codecs="avc1.4d401f"',
            "width": height * 16 // 9,
            "height": height,
            "fps": FPS,
            "quality": "large",
            "qualityLabel": f"{height}p",
            "bitrate": 100_000,
        }

    sound = {
        "itag": 140,
        "path": "audio?sig=SIGNATURE",
        "mimeType": 'audio/mp4; codecs="mp4a.40.2"',
        "quality": "tiny",
        "audioQuality": "AUDIO_QUALITY_MEDIUM",
        "audioSampleRate": "16000",
        "audioChannels": 1,
        "bitrate": 96_000,
    }
    return [picture(135, 480), picture(136, 720), sound]


@pytest.fixture
def tube(serve: Callable[[dict[str, bytes]], Server], player: Callable[..., None], ramp: Path) -> Callable[..., Server]:
    """A video on YouTube whose formats lie on a server of ours, where a fault may wait for them.

    `offered`: what the player lists, each with a `path` on the server in its URL's place: `video`, `audio`, `both` or one
    of `more`.
    """

    def install(
        fault: str = "ok",
        url: str = "",
        offered: list[dict[str, Any]] | None = None,
        more: dict[str, bytes] | None = None,
        streaming: dict[str, str] | None = None,
        **details: object,
    ) -> Server:
        names = {"video": "video.mp4", "audio": "audio.m4a", "both": "both.mp4"}
        files = {name: (ramp / file).read_bytes() for name, file in names.items()} | (more or {})
        server = serve(files)
        listed: list[dict[str, Any]] = []
        for told in formats() if offered is None else offered:
            path, rest = told["path"], {key: value for key, value in told.items() if key != "path"}
            size = str(len(files[path.partition("?")[0]]))
            listed.append({"url": f"{url or server.url}/{fault}/{path}", "contentLength": size, **rest})
        manifests = {name: f"{server.url}/{path}" for name, path in (streaming or {}).items()}
        player({"status": "OK"}, listed, manifests, **details)
        return server

    return install


@pytest.fixture(scope="module")
def running_site() -> Iterator[Site]:
    with serving(Site()) as site:
        yield site
        site.over.set()


@pytest.fixture
def site(running_site: Site) -> Site:
    running_site.files.clear()
    return running_site


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    """An empty folder, deep enough for `../` to be seen."""
    folder = tmp_path / "out" / "deep" / "scratch"
    folder.mkdir(parents=True)
    return folder
