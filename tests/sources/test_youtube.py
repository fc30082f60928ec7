"""Real yt-dlp against servers of our own: what comes of it is a status with the reason, and never an exception.

Here yt-dlp's generic extractor; YouTube's own is in `test_youtube_player.py`, what can be asked for in
`test_youtube_options.py`.
"""

import errno
import io
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from kinetics_sounds import sources
from kinetics_sounds.clip import Clip, FetchResult, Kind, Status
from kinetics_sounds.errors import SourceError
from kinetics_sounds.media import probe
from kinetics_sounds.pipelines.synthetic.http_server import videos
from kinetics_sounds.sources.youtube import Options, Source
from kinetics_sounds.sources.youtube.errors import classify

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")  # yt-dlp forgets the sockets of refused requests

ID = "5JzkrOVhPOw"
QUICK = ("retries=1", "extractor_retries=0", "socket_timeout=0.5", 'retry_sleep_functions={"http": 0}')


def clip(youtube_id: str = ID) -> Clip:
    return Clip(youtube_id, 0, 1, "bowling", "val")


def fetch(argument: str, youtube_id: str, folder: Path, **options: Any) -> FetchResult:
    source = Source(argument, Options(option=(*QUICK, *options.pop("option", ())), **options))
    (location,) = source.candidates(clip(youtube_id))
    return source.fetch(clip(youtube_id), location, folder)


def loaded(spec: str) -> Source:
    source = sources.load(spec)
    assert isinstance(source, Source)
    return source


# --- What it is made from ---------------------------------------------------------------------------------------------


def test_youtube_itself_is_asked_by_default_and_tells_its_terms() -> None:
    source = loaded("youtube")

    assert source.candidates(clip()) == (f"https://www.youtube.com/watch?v={ID}",)
    assert "terms of service" in source.notice
    assert source.versions.startswith("yt-dlp 20")


def test_another_server_is_asked_in_the_same_way_and_has_no_terms_that_we_know() -> None:
    source = loaded("youtube:https://mirror.example:8080/v/{youtube_id}.mp4?x=1")

    assert source.candidates(clip()) == (f"https://mirror.example:8080/v/{ID}.mp4?***",)
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
    with pytest.raises(ValueError, match="is not a video ID"):
        loaded("youtube").candidates(clip(youtube_id))


def test_an_id_that_begins_with_a_dash_stays_inside_its_url() -> None:
    assert Source("").candidates(clip("-rf-")) == ("https://www.youtube.com/watch?v=-rf-",)


# --- Against a server that works --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["work", "100%(id)s done", "%%d", "with space é", "-x"])
def test_a_video_is_fetched_whole_into_its_folder(name: str, video: Path, tmp_path: Path) -> None:
    folder = tmp_path / name
    folder.mkdir()
    with videos(video.parent) as url:
        got = fetch(f"{url}/{{youtube_id}}.mp4", ID, folder)

    size = video.stat().st_size
    taken = FetchResult(status=Status.OK, path=folder / "video.mp4", format_ids="mp4", requests=2, bytes=size)
    assert (got, got.trimmed) == (taken, False)
    assert [file.name for file in folder.iterdir()] == ["video.mp4"]
    assert (folder / "video.mp4").read_bytes() == video.read_bytes()


def test_what_was_fetched_can_be_probed(video: Path, tmp_path: Path) -> None:
    with videos(video.parent) as url:
        got = fetch(f"{url}/{{youtube_id}}.mp4", ID, tmp_path)

    assert got.path is not None
    assert probe.probe(got.path)


def test_one_source_fetches_many(video: Path, tmp_path: Path) -> None:
    with videos(video.parent) as url:
        source = Source(f"{url}/{{youtube_id}}.mp4")
        asked = [clip(youtube_id) for youtube_id in (ID, "gone", ID)]
        got = [source.fetch(each, source.candidates(each)[0], tmp_path).status for each in asked]

    assert got == [Status.OK, Status.NOT_IN_SOURCE, Status.OK]


# --- Against a server that does not -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "status", "said"),
    [
        ("403", Status.HTTP_4XX, "HTTP Error 403"),
        ("451", Status.HTTP_4XX, "HTTP Error 451"),
        ("404", Status.NOT_IN_SOURCE, "HTTP Error 404"),
        ("410", Status.NOT_IN_SOURCE, "HTTP Error 410"),
        ("429", Status.RATE_LIMITED, "HTTP Error 429"),
        ("500", Status.HTTP_5XX, "HTTP Error 500"),
        ("503", Status.HTTP_5XX, "HTTP Error 503"),
        ("cut", Status.TRUNCATED, "more expected"),
        ("long", Status.TRUNCATED, "1000 more expected"),
        ("empty", Status.TRUNCATED, "Did not get any data blocks"),
        ("silent", Status.TIMEOUT, "timed out"),
        ("stall", Status.TIMEOUT, "timed out"),
        ("hang_up", Status.NETWORK, "without response"),
        ("reset", Status.NETWORK, "reset by peer"),
        ("html", Status.NO_FORMATS, "Unsupported URL"),
    ],
)
def test_a_fault_of_the_server_is_a_status_with_its_reason(
    fault: str, status: Status, said: str, faults: Any, tmp_path: Path
) -> None:
    got = fetch(f"{faults.url}/{fault}/{{youtube_id}}", ID, tmp_path)

    assert (got.status, got.path) == (status, None)
    assert said in got.detail
    assert got.detail.endswith(f"[{Source('').versions}]")
    assert "\n" not in got.detail
    assert list(tmp_path.iterdir()) == []


def test_a_body_that_is_cut_off_once_is_completed(faults: Any, tmp_path: Path) -> None:
    got = fetch(f"{faults.url}/cut_once/{{youtube_id}}", ID, tmp_path)

    assert got.status is Status.OK
    assert got.path is not None
    assert got.path.read_bytes() == faults.files[ID]


def test_a_server_that_is_not_there_is_the_networks_fault(tmp_path: Path) -> None:
    got = fetch("http://127.0.0.1:1/{youtube_id}", ID, tmp_path)

    assert got.status is Status.NETWORK
    assert "Connection refused" in got.detail


def test_a_folder_that_cannot_be_written_is_the_callers_error(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.touch()

    with pytest.raises(NotADirectoryError):
        fetch("http://127.0.0.1:1/{youtube_id}", ID, blocked / "below")


def test_a_folder_named_after_a_variable_is_refused_and_not_filled_in(tmp_path: Path) -> None:
    folder = tmp_path / "$HOME"
    folder.mkdir()

    with pytest.raises(SourceError, match="choose another folder"):
        fetch("http://127.0.0.1:1/{youtube_id}", ID, folder)


def test_a_message_has_no_colours_even_on_a_terminal(
    faults: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setenv("TERM", "xterm-256color")

    assert "\x1b" not in fetch(f"{faults.url}/403/{{youtube_id}}", ID, tmp_path).detail


def test_yt_dlp_says_nothing_by_itself(faults: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for fault in ("403", "ok"):
        fetch(f"{faults.url}/{fault}/{{youtube_id}}", ID, tmp_path)

    assert capfd.readouterr() == ("", "")


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
        ("This video is unavailable", Status.UNAVAILABLE),
        ("Video unavailable. This video is not available", Status.UNAVAILABLE),
        ("This live stream recording is not available.", Status.UNAVAILABLE),
        ("This video is only available to Music Premium members", Status.LOGIN_REQUIRED),
        ("This video is DRM protected", Status.NO_FORMATS),
        ("The page needs to be reloaded.", Status.NO_FORMATS),
        ("Failed to extract any player response", Status.NO_FORMATS),
        ("The following content is not available on this app.. Watch on the latest version", Status.NO_FORMATS),
        ("We're processing this video. Check back later.", Status.NO_FORMATS),
        ("[Errno 111] Connection refused", Status.NETWORK),
        ("Failed to resolve hostname youtube.example", Status.NETWORK),
        ("Unable to download webpage: ('Unable to connect to proxy', OSError('Tunnel failed'))", Status.NETWORK),
        ("Something that nobody has seen yet", Status.NO_FORMATS),
        ("", Status.NO_FORMATS),
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
        (404, Status.NOT_IN_SOURCE),
        (410, Status.NOT_IN_SOURCE),
        (429, Status.RATE_LIMITED),
        (500, Status.HTTP_5XX),
        (599, Status.HTTP_5XX),
    ],
)
def test_a_status_code_decides_before_the_words(code: int, status: Status) -> None:
    assert classify(error(HttpError(code), "Private video")) is status


def not_found(url: str) -> Exception:
    from yt_dlp.networking.common import Response
    from yt_dlp.networking.exceptions import HTTPError

    made: Exception = HTTPError(Response(io.BytesIO(), url, {}, 404))
    return made


@pytest.mark.parametrize(
    ("cause", "status"),
    [
        (not_found("https://www.youtube.com/watch?v=x"), Status.UNAVAILABLE),
        (not_found("https://www.youtube.com/youtubei/v1/player"), Status.HTTP_4XX),
        (not_found("https://rr3---sn-ab5.googlevideo.com/videoplayback"), Status.HTTP_4XX),
        (Exception("Server returned 404 Not Found"), Status.HTTP_4XX),
    ],
)
def test_only_the_videos_own_page_tells_that_a_video_of_youtube_is_gone(cause: Exception, status: Status) -> None:
    assert classify(error(cause, str(cause)), there=True) is status
    assert classify(error(cause, str(cause))) is Status.NOT_IN_SOURCE  # a mirror may have it later


def test_what_the_network_did_is_told_by_its_kind() -> None:
    from yt_dlp.networking.exceptions import TransportError
    from yt_dlp.utils import ExtractorError

    assert classify(error(TransportError("odd"))) is Status.NETWORK
    assert classify(error(ConnectionResetError())) is Status.NETWORK
    assert classify(error(ExtractorError("odd", cause=TransportError("odd"), expected=True))) is Status.NETWORK
    assert classify(error(ExtractorError("odd", expected=True))) is Status.NO_FORMATS
    assert classify(error(KeyError("odd"))) is Status.NO_FORMATS


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
    assert Status.DISK_FULL.kind is Kind.BLOCKED


def test_a_time_out_is_told_by_its_kind() -> None:
    assert classify(error(TimeoutError())) is Status.TIMEOUT


def test_an_id_that_spells_a_refusal_does_not_decide() -> None:
    from yt_dlp.utils import ExtractorError

    odd = ExtractorError("The page needs to be reloaded", video_id="login-copyright", ie="youtube", expected=True)

    assert "copyright" in str(odd)
    assert classify(error(odd, str(odd))) is Status.NO_FORMATS


def test_asking_again_never_helps_where_youtube_has_said_no_and_may_where_it_has_not() -> None:
    kinds = {
        classify(Exception(message)).kind
        for message in ("Private video", "removed by the uploader", "confirm your age")
    }

    assert kinds == {Kind.PERMANENT}
    assert classify(Exception("Requested format is not available")).kind is Kind.RETRY
    assert classify(Exception("connection reset by peer")).kind is Kind.RETRY


# --- What it must not get ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["ok", "no_length"])
def test_a_video_that_is_too_large_is_refused_whether_the_server_says_so_or_not(
    fault: str, faults: Any, tmp_path: Path
) -> None:
    got = fetch(f"{faults.url}/{fault}/{{youtube_id}}", ID, tmp_path, max_bytes=5000)

    assert (got.status, got.path) == (Status.TOO_LARGE, None)
    assert list(tmp_path.iterdir()) == []


def test_a_video_of_exactly_the_most_is_taken(faults: Any, tmp_path: Path) -> None:
    got = fetch(f"{faults.url}/ok/{{youtube_id}}", ID, tmp_path, max_bytes=len(faults.files[ID]))

    assert got.status is Status.OK


def test_where_the_tool_gives_no_file_asking_again_may_help(
    faults: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from yt_dlp import YoutubeDL

    monkeypatch.setattr(YoutubeDL, "extract_info", lambda *_, **__: None)

    got = fetch(f"{faults.url}/ok/{{youtube_id}}", ID, tmp_path)

    assert (got.status, got.status.kind) == (Status.NO_FORMATS, Kind.RETRY)
    assert "gave no file" in got.detail


def test_a_page_that_leads_to_youtube_is_not_followed_there(serve: Any, tmp_path: Path) -> None:
    page = f'<html><iframe src="https://www.youtube.com/embed/{ID}"></iframe></html>'.encode()
    server = serve({ID: page})

    got = fetch(f"{server.url}/ok/{{youtube_id}}", ID, tmp_path)

    assert got.status.kind is not Kind.OK
    assert got.requests == len(server.asked)
