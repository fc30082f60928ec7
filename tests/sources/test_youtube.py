"""Real yt-dlp against servers of our own: what comes of it is a status with the reason, and never an exception.

Two servers: plain HTTP with its faults (yt-dlp's generic extractor), and canned answers of YouTube's player, which the
installed version's own YouTube extractor turns into its own messages.
"""

import errno
import http.server
import io
import os
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kinetics_sounds import sources
from kinetics_sounds.clip import Clip, Fetched, Kind, Status
from kinetics_sounds.errors import SourceError
from kinetics_sounds.media import probe
from kinetics_sounds.media.synthesize import write_mp4
from kinetics_sounds.pipelines.serve import videos
from kinetics_sounds.sources import youtube
from kinetics_sounds.sources.youtube import Source, classify

ID = "5JzkrOVhPOw"


def clip(youtube_id: str = ID) -> Clip:
    return Clip(youtube_id, 0, 1, "bowling", "val")


@pytest.fixture(scope="session")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Half a second of noise and a tone."""
    path = tmp_path_factory.mktemp("videos") / f"{ID}.mp4"
    frames_THWC = np.random.default_rng(0).integers(0, 255, (5, 36, 48, 3), dtype=np.uint8)
    tone = np.sin(np.arange(8000) * 0.1).astype(np.float32) * 0.5
    write_mp4(path, frames_THWC, tone, fps=10, sample_rate=16_000)
    return path


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No pauses, one retry, a second's patience, and no proxy between us and ourselves."""
    options = youtube._options

    def impatient(folder: Path, *, polite: bool) -> dict[str, Any]:
        few = {"retries": 1, "fragment_retries": 1, "extractor_retries": 0, "socket_timeout": 1}
        return {**options(folder, polite=False), **few, "retry_sleep_functions": {}}

    monkeypatch.setattr(youtube, "_options", impatient)
    monkeypatch.setenv("no_proxy", "*")


def fetch(source: Source, youtube_id: str, folder: Path) -> Fetched:
    location = source.locate(clip(youtube_id))
    assert location is not None
    return source.fetch(clip(youtube_id), location, folder)


# --- What it is made from ---------------------------------------------------------------------------------------------


def test_youtube_itself_is_asked_by_default_and_tells_its_terms() -> None:
    source = sources.load("youtube")

    assert source.locate(clip()) == f"https://www.youtube.com/watch?v={ID}"
    assert "terms of service" in source.notice
    assert source.versions.startswith("yt-dlp 20")


def test_another_server_is_asked_in_the_same_way_and_has_no_terms_that_we_know() -> None:
    source = sources.load("youtube:https://mirror.example:8080/v/{youtube_id}.mp4?x=1")

    assert source.locate(clip()) == f"https://mirror.example:8080/v/{ID}.mp4?x=1"
    assert source.notice == ""


@pytest.mark.parametrize(
    "argument",
    [
        "mirror",
        "https://mirror.example/video.mp4",
        "{youtube_id}",
        "file:///data/{youtube_id}.mp4",
        "ftp://mirror.example/{youtube_id}",
        "ytsearch:{youtube_id}",
        "https://mirror.example/{youtube_id}/{youtube_id}",
        "https://mirror.example/{id}/{youtube_id}",
        " https://mirror.example/{youtube_id}",
    ],
)
def test_what_is_no_url_template_is_refused(argument: str) -> None:
    with pytest.raises(SourceError, match=r"must be an http\(s\) URL with \{youtube_id\} in it, or be left out"):
        sources.load(f"youtube:{argument}")


@pytest.mark.parametrize(
    "youtube_id", ["a/../b", "a b", "x&list=PL1", "http://evil", "a\nb", "{youtube_id}", "a%2f", "--x y"]
)
def test_a_hostile_id_never_comes_as_far_as_a_url(youtube_id: str) -> None:
    with pytest.raises(ValueError, match="is no video id"):
        sources.load("youtube").locate(clip(youtube_id))


def test_an_id_that_begins_with_a_dash_stays_inside_its_url() -> None:
    assert Source("").locate(clip("-rf-")) == "https://www.youtube.com/watch?v=-rf-"


# --- Against a server that works --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["work", "100%(id)s done", "%%d", "with space é", "-x"])
def test_a_video_is_fetched_whole_into_its_folder(name: str, video: Path, tmp_path: Path) -> None:
    folder = tmp_path / name
    folder.mkdir()
    with videos(video.parent) as url:
        got = fetch(Source(f"{url}/{{youtube_id}}.mp4"), ID, folder)

    assert got == Fetched(status=Status.OK, path=folder / "video.mp4", trimmed=False)
    assert [file.name for file in folder.iterdir()] == ["video.mp4"]
    assert (folder / "video.mp4").read_bytes() == video.read_bytes()


def test_what_was_fetched_can_be_probed(video: Path, tmp_path: Path) -> None:
    with videos(video.parent) as url:
        got = fetch(Source(f"{url}/{{youtube_id}}.mp4"), ID, tmp_path)

    assert got.path is not None
    assert probe.probe(got.path)


def test_one_source_fetches_many(video: Path, tmp_path: Path) -> None:
    with videos(video.parent) as url:
        source = Source(f"{url}/{{youtube_id}}.mp4")
        got = [fetch(source, youtube_id, tmp_path).status for youtube_id in (ID, "gone", ID)]

    assert got == [Status.OK, Status.UNAVAILABLE, Status.OK]


# --- Against a server that does not -----------------------------------------------------------------------------------


class Faults:
    """A server whose paths say what goes wrong: `/503/ID`; counts what was asked of it."""

    def __init__(self, data: bytes) -> None:
        self.data, self.asked, self.url = data, 0, ""

    def serve(self, request: http.server.BaseHTTPRequestHandler) -> None:
        self.asked += 1
        fault = request.path.split("/")[1]
        if fault.isdigit():
            request.send_response(int(fault))
            request.send_header("Content-Length", "0")
            request.end_headers()
            return
        if fault == "silent":
            time.sleep(1.5)
        if fault in ("silent", "hang_up"):
            request.close_connection = True
            return
        body = {"empty": b"", "html": b"<html><title>no video</title></html>"}.get(fault, self.data)
        request.send_response(200)
        request.send_header("Content-Type", "text/html" if fault == "html" else "video/mp4")
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        cut = fault == "cut" or (fault == "cut_once" and self.asked == 2)  # request 1 only looks what it is
        request.wfile.write(body[: len(body) // 3] if cut else body)
        request.close_connection = cut


@pytest.fixture
def faults(video: Path) -> Iterator[Faults]:
    script = Faults(video.read_bytes())

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

        def do_GET(self) -> None:
            script.serve(self)

    class Server(http.server.ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: object, client_address: object) -> None:
            assert isinstance(sys.exc_info()[1], ConnectionError)  # yt-dlp hangs up when it has seen enough

    with Server(("127.0.0.1", 0), Handler) as listening:
        script.url = f"http://127.0.0.1:{listening.server_port}"
        thread = threading.Thread(target=listening.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield script
        listening.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("fault", "status", "said"),
    [
        ("403", Status.HTTP_4XX, "HTTP Error 403"),
        ("451", Status.HTTP_4XX, "HTTP Error 451"),
        ("404", Status.UNAVAILABLE, "HTTP Error 404"),
        ("410", Status.UNAVAILABLE, "HTTP Error 410"),
        ("429", Status.RATE_LIMITED, "HTTP Error 429"),
        ("500", Status.HTTP_5XX, "HTTP Error 500"),
        ("503", Status.HTTP_5XX, "HTTP Error 503"),
        ("cut", Status.TRUNCATED, "more expected"),
        ("empty", Status.TRUNCATED, "Did not get any data blocks"),
        ("silent", Status.TIMEOUT, "timed out"),
        ("hang_up", Status.NETWORK, "without response"),
        ("html", Status.NETWORK, "Unsupported URL"),
    ],
)
def test_a_fault_of_the_server_is_a_status_with_its_reason(
    fault: str, status: Status, said: str, faults: Faults, tmp_path: Path
) -> None:
    got = fetch(Source(f"{faults.url}/{fault}/{{youtube_id}}"), ID, tmp_path)

    assert (got.status, got.path) == (status, None)
    assert said in got.detail
    assert got.detail.endswith(f"[{Source('').versions}]")
    assert "\n" not in got.detail
    assert not [file for file in tmp_path.iterdir() if file.suffix == ".mp4"]


def test_a_body_that_is_cut_off_once_is_completed(faults: Faults, tmp_path: Path) -> None:
    got = fetch(Source(f"{faults.url}/cut_once/{{youtube_id}}"), ID, tmp_path)

    assert got.status is Status.OK
    assert got.path is not None
    assert got.path.read_bytes() == faults.data


def test_a_server_that_is_not_there_is_the_networks_fault(tmp_path: Path) -> None:
    got = fetch(Source("http://127.0.0.1:1/{youtube_id}"), ID, tmp_path)

    assert got.status is Status.NETWORK
    assert "Connection refused" in got.detail


def test_a_folder_that_cannot_be_written_is_bad_luck_too(video: Path, tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.touch()
    with videos(video.parent) as url:
        got = fetch(Source(f"{url}/{{youtube_id}}.mp4"), ID, blocked / "below")

    assert got.status.kind is not Kind.OK
    assert got.detail


def test_a_message_has_no_colours_even_on_a_terminal(
    faults: Faults, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setenv("TERM", "xterm-256color")

    assert "\x1b" not in fetch(Source(f"{faults.url}/403/{{youtube_id}}"), ID, tmp_path).detail


def test_yt_dlp_says_nothing_by_itself(faults: Faults, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for fault in ("403", "ok"):
        fetch(Source(f"{faults.url}/{fault}/{{youtube_id}}"), ID, tmp_path)

    assert capfd.readouterr() == ("", "")


# --- YouTube's own refusals -------------------------------------------------------------------------------------------


def refused(status: str, reason: str, more: str = "") -> dict[str, Any]:
    screen = {"reason": {"simpleText": reason}, "subreason": {"simpleText": more}}
    extra = {"errorScreen": {"playerErrorMessageRenderer": screen}} if more else {}
    return {"status": status, "reason": reason, **extra}


GONE = "Video unavailable"
PLAYER: list[tuple[Status, dict[str, Any]]] = [
    (Status.PRIVATE, refused("LOGIN_REQUIRED", "Private video", "Sign in if you've been granted access to this video")),
    (Status.REMOVED, refused("ERROR", GONE, "This video has been removed by the uploader")),
    (
        Status.REMOVED,
        refused("ERROR", GONE, "This video has been removed for violating YouTube's Community Guidelines"),
    ),
    (Status.REMOVED, refused("ERROR", GONE, "This video is no longer available due to a copyright claim by Somebody")),
    (
        Status.ACCOUNT_TERMINATED,
        refused(
            "ERROR",
            GONE,
            "This video is no longer available because the YouTube account associated with this video has been terminated.",
        ),
    ),
    (
        Status.ACCOUNT_TERMINATED,
        refused(
            "ERROR", GONE, "This video is no longer available because the uploader has closed their YouTube account."
        ),
    ),
    (
        Status.GEO_BLOCKED,
        refused("UNPLAYABLE", GONE, "The uploader has not made this video available in your country"),
    ),
    (
        Status.GEO_BLOCKED,
        refused(
            "UNPLAYABLE",
            GONE,
            "This video contains content from UMG, who has blocked it in your country on copyright grounds",
        ),
    ),
    (Status.AGE_RESTRICTED, refused("LOGIN_REQUIRED", "Sign in to confirm your age")),
    (
        Status.AGE_RESTRICTED,
        refused("LOGIN_REQUIRED", "Sign in to confirm your age", "This video may be inappropriate for some users."),
    ),
    (
        Status.BOT_CHECK,
        refused(
            "LOGIN_REQUIRED", "Sign in to confirm you\u2019re not a bot", "This helps protect our community. Learn more"
        ),
    ),
    (Status.BOT_CHECK, refused("LOGIN_REQUIRED", "Sign in to confirm you're not a bot")),
    (Status.RATE_LIMITED, refused("UNPLAYABLE", "This content isn't available, try again later.")),
    (
        Status.LOGIN_REQUIRED,
        refused("UNPLAYABLE", "Join this channel to get access to members-only content like this video"),
    ),
    (Status.LOGIN_REQUIRED, refused("UNPLAYABLE", "This video requires payment to watch.")),
    (Status.LIVE, refused("LIVE_STREAM_OFFLINE", "This live event will begin in 3 hours.")),
    (Status.LIVE, refused("LIVE_STREAM_OFFLINE", "Premieres in 2 days")),
    (Status.UNAVAILABLE, refused("UNPLAYABLE", GONE, "This video is not available")),
    (Status.UNAVAILABLE, refused("ERROR", GONE)),
    (Status.NO_FORMATS, {"status": "OK"}),
]


@pytest.mark.parametrize(("status", "answer"), PLAYER)
def test_a_refusal_of_youtube_is_told_by_its_own_words(
    status: Status, answer: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("YTDLP_NO_PLUGINS", "1")
    from yt_dlp.extractor.youtube import YoutubeIE

    player = {
        "playabilityStatus": answer,
        "videoDetails": {"videoId": ID, "title": "t", "lengthSeconds": "30"},
        "microformat": {"playerMicroformatRenderer": {"availableCountries": ["US"]}},
    }
    monkeypatch.setattr(YoutubeIE, "_initial_extract", lambda *_: ("", {}, {}, False, [player], None))

    got = fetch(Source(""), ID, tmp_path)

    assert (got.status, got.path) == (status, None)
    reason = answer.get("reason", "No video formats found")
    assert f"[youtube] {ID}: " in got.detail
    assert reason in got.detail or reason == GONE  # the first words are kept, not yt-dlp's advice at the end


# --- Telling failures apart -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("message", "status"),
    [
        ("Sign in to confirm you\u2019re not a bot. This helps protect our community", Status.BOT_CHECK),
        ("This content isn't available, try again later.", Status.RATE_LIMITED),
        ("Your session has been rate-limited by YouTube for up to an hour", Status.RATE_LIMITED),
        ("HTTP Error 429: Too Many Requests", Status.RATE_LIMITED),
        ("This is a private video. Sign in if you've been granted access", Status.PRIVATE),
        ("PRIVATE VIDEO", Status.PRIVATE),
        ("This live stream is live now", Status.LIVE),
        ("The read operation timed out", Status.TIMEOUT),
        ("[Errno 110] Connection time out", Status.TIMEOUT),
        ("1000 bytes read, 500 more expected", Status.TRUNCATED),
        ("unable to write data: [Errno 28] No space left on device", Status.DISK_FULL),
        ("unable to write data: [Errno 122] Disk quota exceeded", Status.DISK_FULL),
        ("Requested format is not available. Use --list-formats for a list of available formats", Status.NO_FORMATS),
        ("Something that nobody has seen yet", Status.NETWORK),
        ("", Status.NETWORK),
    ],
)
def test_a_message_decides_where_there_is_nothing_better(message: str, status: Status) -> None:
    assert classify(Exception(message)) is status


def error(cause: Exception, message: str = "something") -> Exception:
    """As yt-dlp raises what happened below it."""
    from yt_dlp.utils import DownloadError

    made: Exception = DownloadError(message, (type(cause), cause, None))
    return made


class HttpError(Exception):
    def __init__(self, status: int) -> None:
        super().__init__(f"HTTP Error {status}")
        self.status = status


@pytest.mark.parametrize(
    ("code", "status"),
    [
        (400, Status.HTTP_4XX),
        (403, Status.HTTP_4XX),
        (404, Status.UNAVAILABLE),
        (410, Status.UNAVAILABLE),
        (429, Status.RATE_LIMITED),
        (500, Status.HTTP_5XX),
        (599, Status.HTTP_5XX),
    ],
)
def test_a_status_code_decides_before_the_words(code: int, status: Status) -> None:
    assert classify(error(HttpError(code), "Private video")) is status


def test_a_status_code_is_found_however_deep() -> None:
    from yt_dlp.utils import ExtractorError

    inner = ExtractorError("Unable to download webpage", cause=HttpError(503), expected=True)
    chained = ValueError("odd")
    chained.__cause__ = HttpError(429)

    assert classify(error(inner)) is Status.HTTP_5XX
    assert classify(error(chained)) is Status.RATE_LIMITED


def test_a_country_decides_before_the_words() -> None:
    from yt_dlp.utils import GeoRestrictedError

    assert classify(error(GeoRestrictedError("Video unavailable", countries=["DE"]))) is Status.GEO_BLOCKED


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_stops_the_world(number: int) -> None:
    full = OSError(number, os.strerror(number), "/data/video.mp4.part")

    for seen in (full, error(full)):
        assert classify(seen) is Status.DISK_FULL
    assert Status.DISK_FULL.kind is Kind.STOP


def test_a_time_out_is_told_by_its_kind() -> None:
    assert classify(error(TimeoutError())) is Status.TIMEOUT


def test_an_id_that_spells_a_refusal_does_not_decide() -> None:
    from yt_dlp.utils import ExtractorError

    odd = ExtractorError("The page needs to be reloaded", video_id="login-copyright", ie="youtube", expected=True)

    assert "copyright" in str(odd)
    assert classify(error(odd, str(odd))) is Status.NETWORK


def test_asking_again_never_helps_where_youtube_has_said_no_and_may_where_it_has_not() -> None:
    kinds = {
        classify(Exception(message)).kind
        for message in ("Private video", "removed by the uploader", "confirm your age")
    }

    assert kinds == {Kind.PERMANENT}
    assert classify(Exception("Requested format is not available")).kind is Kind.RETRY
    assert classify(Exception("connection reset by peer")).kind is Kind.RETRY


# --- Manners ----------------------------------------------------------------------------------------------------------


def test_youtube_is_asked_politely_and_another_server_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    polite, own = (youtube._options(tmp_path, polite=polite) for polite in (True, False))

    assert (polite["sleep_interval"], polite["max_sleep_interval"]) == (10, 20)
    assert "sleep_interval" not in own
    for options in (polite, own):
        assert options["allowed_extractors"] == ["youtube", "generic"]
        assert options["socket_timeout"] == 20
        assert options["retry_sleep_functions"]["http"](10) == 30.0  # seconds, and never more
        assert not set(options) & {"nocheckcertificate", "external_downloader", "cookiefile", "enable_file_urls"}
