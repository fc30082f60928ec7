"""YouTube itself, without the internet: yt-dlp's own extractor, choice of formats, downloader and merger."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from kinetics_sounds.clip import Clip, FetchResult, Kind, Status
from kinetics_sounds.pipelines.fetching.audit import audit
from kinetics_sounds.pipelines.fetching.trim import to_span
from kinetics_sounds.sources.youtube import Options, Source

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")  # yt-dlp forgets the sockets of refused requests

ID = "5JzkrOVhPOw"
CLIP = Clip(ID, 3, 7, "bowling", "val")
QUICK = (
    *("sleep_interval=0", "max_sleep_interval=0", "sleep_interval_requests=0"),
    *("retries=1", "extractor_retries=0", "socket_timeout=0.5", 'retry_sleep_functions={"http": 0}'),
)
Tube = Callable[..., Any]


def fetch(folder: Path, clip: Clip = CLIP, **options: Any) -> FetchResult:
    source = Source("", Options(option=QUICK, **options))
    return source.fetch(clip, source.candidates(clip)[0], folder)


def brightness(path: Path) -> list[float]:
    with av.open(str(path)) as opened:
        return [float(frame.to_ndarray(format="gray").mean()) for frame in opened.decode(video=0)]


def sound_begins(path: Path) -> float:
    """Seconds into the file."""
    with av.open(str(path)) as opened:
        for frame in opened.decode(audio=0):
            loud = np.flatnonzero(np.abs(frame.to_ndarray()[0]) > 0.2)
            if loud.size and frame.time is not None:
                return float(frame.time + loud[0] / frame.sample_rate)
    raise AssertionError("it is silent")


# --- What works -------------------------------------------------------------------------------------------------------


def test_the_best_picture_up_to_480_lines_and_the_sound_are_merged(tube: Tube, tmp_path: Path, ramp: Path) -> None:
    server = tube()

    got = fetch(tmp_path)

    assert (got.status, got.path, got.trimmed, got.detail) == (Status.OK, tmp_path / "video.mkv", False, "")
    assert [file.name for file in tmp_path.iterdir()] == ["video.mkv"]
    assert {path.partition("&")[0] for path in server.asked} == {"/ok/video?height=480", "/ok/audio?sig=SIGNATURE"}
    assert len(brightness(tmp_path / "video.mkv")) == 100
    assert sound_begins(tmp_path / "video.mkv") == pytest.approx(5, abs=0.07)
    assert got.bytes == sum((ramp / name).stat().st_size for name in ("video.mp4", "audio.m4a"))
    assert got.requests == len(server.asked)


def test_the_whole_video_is_cut_to_the_span_and_passes_the_audit(tube: Tube, tmp_path: Path) -> None:
    tube()

    trimmed = to_span(CLIP, fetch(tmp_path), tmp_path, timeout_seconds=60)

    assert trimmed.measured is not None
    assert audit(CLIP, trimmed.measured, min_coverage=0.9) == (Status.OK, "")


def test_a_section_is_the_span_to_the_frame_and_needs_no_second_cut(tube: Tube, tmp_path: Path) -> None:
    tube()

    got = fetch(tmp_path, sections=True)

    path = tmp_path / "video.mp4"
    assert (got.status, got.path, got.trimmed, got.detail) == (Status.OK, path, True, "")
    assert [file.name for file in tmp_path.iterdir()] == ["video.mp4"]
    assert brightness(path) == pytest.approx([20 + 2 * n for n in range(30, 70)], abs=1.5)
    assert sound_begins(path) == pytest.approx(2, abs=0.07)
    trimmed = to_span(CLIP, got, tmp_path, timeout_seconds=60)
    assert trimmed.path == path
    assert trimmed.measured is not None
    assert audit(CLIP, trimmed.measured, min_coverage=0.9) == (Status.OK, "")


def test_a_section_at_the_very_beginning_is_exact_too(tube: Tube, tmp_path: Path) -> None:
    tube()

    got = fetch(tmp_path, Clip(ID, 0, 2, "bowling", "val"), sections=True)

    assert got.path is not None
    assert brightness(got.path) == pytest.approx([20 + 2 * n for n in range(20)], abs=1.5)


def test_a_section_that_ends_after_the_video_is_what_there_is(tube: Tube, tmp_path: Path) -> None:
    tube()

    got = fetch(tmp_path, Clip(ID, 8, 12, "bowling", "val"), sections=True)

    assert got.path is not None
    assert brightness(got.path) == pytest.approx([20 + 2 * n for n in range(80, 100)], abs=1.5)


@pytest.mark.parametrize("sections", [False, True])
def test_a_span_that_begins_after_the_end_is_too_short_and_not_asked_for(
    tube: Tube, tmp_path: Path, *, sections: bool
) -> None:
    server = tube()

    got = fetch(tmp_path, Clip(ID, 10, 20, "bowling", "val"), sections=sections)

    assert (got.status, server.asked) == (Status.TOO_SHORT, [])
    assert "the video ends at 10 s" in got.detail


# --- What is refused before anything is downloaded --------------------------------------------------------------------


def test_a_stream_that_is_live_is_refused_before_the_download(tube: Tube, tmp_path: Path) -> None:
    server = tube(isLive=True, isLiveContent=True)

    got = fetch(tmp_path)

    assert (got.status, got.path) == (Status.LIVE, None)
    assert "is_live" in got.detail
    assert server.asked == []


def test_a_video_that_says_it_is_too_large_is_refused_before_the_download(tube: Tube, tmp_path: Path) -> None:
    server = tube()

    got = fetch(tmp_path, max_bytes=1000)

    assert (got.status, got.status.kind) == (Status.TOO_LARGE, Kind.PERMANENT)
    assert "--youtube.max_bytes is 1,000" in got.detail
    assert server.asked == []


def test_a_trailer_in_a_videos_place_is_not_the_video(tube: Tube, player: Tube, tmp_path: Path, ramp: Path) -> None:
    trailer = {"errorScreen": {"playerLegacyDesktopYpcTrailerRenderer": {"trailerVideoId": "AAAAAAAAAAA"}}}
    server = tube()
    player(
        {"status": "UNPLAYABLE", **trailer}, [{"itag": 18, "url": f"{server.url}/ok/video", "mimeType": "video/mp4"}]
    )

    got = fetch(tmp_path)

    assert got.status is Status.UNAVAILABLE
    assert "another video was returned: AAAAAAAAAAA" in got.detail
    assert server.asked == []


@pytest.mark.parametrize("youtube_id", ["short", f"{ID}more", "-"])
def test_an_id_that_cannot_be_youtubes_is_never_asked_for(youtube_id: str, tube: Tube, tmp_path: Path) -> None:
    server = tube()

    got = fetch(tmp_path, Clip(youtube_id, 0, 1, "bowling", "val"))

    assert (got.status, got.requests, server.asked) == (Status.UNAVAILABLE, 0, [])


# --- What goes wrong on the way ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "status"),
    [
        ("403", Status.HTTP_4XX),
        ("404", Status.HTTP_4XX),
        ("429", Status.RATE_LIMITED),
        ("500", Status.HTTP_5XX),
        ("503", Status.HTTP_5XX),
        ("cut", Status.TRUNCATED),
        ("long", Status.TRUNCATED),
        ("empty", Status.TRUNCATED),
        ("html", Status.TRUNCATED),
        ("stall", Status.TIMEOUT),
        ("silent", Status.TIMEOUT),
        ("reset", Status.NETWORK),
        ("hang_up", Status.NETWORK),
    ],
)
def test_a_fault_of_the_media_host_is_a_status_and_leaves_nothing(
    fault: str, status: Status, tube: Tube, tmp_path: Path
) -> None:
    tube(fault)

    got = fetch(tmp_path)

    assert (got.status, got.path) == (status, None), got.detail
    assert got.detail
    assert "SIGNATURE" not in got.detail
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("fault", "status", "said"),
    [
        ("403", Status.HTTP_4XX, "403 Forbidden"),
        ("404", Status.HTTP_4XX, "404 Not Found"),
        ("429", Status.RATE_LIMITED, "429"),
        ("503", Status.HTTP_5XX, "5XX Server Error"),
        ("cut", Status.TRUNCATED, "ends prematurely"),
        ("html", Status.TRUNCATED, "Invalid data"),
        ("silent", Status.TIMEOUT, "timed out"),
    ],
)
def test_a_fault_in_a_section_is_told_in_ffmpegs_own_words(
    fault: str, status: Status, said: str, tube: Tube, tmp_path: Path
) -> None:
    tube(fault)

    got = fetch(tmp_path, sections=True)

    assert (got.status, got.path) == (status, None), got.detail
    assert said in got.detail
    assert "SIGNATURE" not in got.detail
    assert list(tmp_path.iterdir()) == []


def test_a_section_that_breaks_off_is_not_a_short_video(tube: Tube, tmp_path: Path) -> None:
    tube("cut")

    got = fetch(tmp_path, Clip(ID, 0, 5, "bowling", "val"), sections=True)

    assert (got.status, got.path) == (Status.TRUNCATED, None)
    assert "the section is incomplete" in got.detail


@pytest.mark.parametrize("sections", [False, True])
def test_a_media_host_that_is_not_there_is_the_networks_fault(tube: Tube, tmp_path: Path, *, sections: bool) -> None:
    tube(url="http://127.0.0.1:1")

    got = fetch(tmp_path, sections=sections)

    assert got.status is Status.NETWORK
    assert "Connection refused" in got.detail


def test_a_bug_of_the_tool_is_an_outcome_with_its_place(
    tube: Tube, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tube()
    from yt_dlp.extractor.youtube import YoutubeIE

    monkeypatch.setattr(YoutubeIE, "_initial_extract", lambda *_: 1 + "https://user:password@host/?token=1")  # type: ignore[operator]

    got = fetch(tmp_path)

    assert got.status is Status.CRASHED
    assert "TypeError" in got.detail
    assert "test_youtube_player.py" in got.detail


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
    (Status.LOGIN_REQUIRED, refused("UNPLAYABLE", "This video is only available to Music Premium members")),
    (Status.UNAVAILABLE, refused("ERROR", "This video is unavailable")),
    (Status.NO_FORMATS, refused("UNPLAYABLE", "The page needs to be reloaded.")),
    (Status.NO_FORMATS, {"status": "OK"}),
]


@pytest.mark.parametrize(("status", "answer"), PLAYER)
def test_a_refusal_of_youtube_is_told_by_its_own_words(
    status: Status, answer: dict[str, Any], player: Tube, tmp_path: Path
) -> None:
    player(answer)

    got = fetch(tmp_path)

    assert (got.status, got.path) == (status, None)
    reason = answer.get("reason", "No video formats found")
    assert f"[youtube] {ID}: " in got.detail
    assert reason in got.detail or reason == GONE  # the first words are kept, not yt-dlp's advice at the end
    assert got.detail.endswith(f"[{Source('').versions}]")
    assert list(tmp_path.iterdir()) == []


def test_where_no_format_is_left_the_warning_before_says_why(player: Tube, tmp_path: Path, tube: Tube) -> None:
    tube()
    player({"status": "OK"}, [{"itag": 135, "mimeType": "video/mp4", "quality": "large"}])

    got = fetch(tmp_path)

    assert got.status is Status.NO_FORMATS
    assert "earlier warning: " in got.detail
    assert "SABR" in got.detail
