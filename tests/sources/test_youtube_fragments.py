"""A video in fragments, by HLS and DASH, of which some are gone: it is asked for again, and never taken with a hole."""

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kinetics_sounds.clip import Clip, FetchResult, Kind, Status
from kinetics_sounds.media import ffmpeg, probe
from kinetics_sounds.sources.youtube import Options, Source

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")  # yt-dlp forgets the sockets of refused requests

ID = "5JzkrOVhPOw"
CLIP = Clip(ID, 3, 7, "bowling", "val")
QUICK = (
    *("sleep_interval=0", "max_sleep_interval=0", "sleep_interval_requests=0"),
    *("retries=0", "fragment_retries=1", "extractor_retries=0", "socket_timeout=0.5"),
    'retry_sleep_functions={"http": 0, "fragment": 0}',
)
Tube = Callable[..., Any]
Faults = dict[int, str]
SECONDS = 10
"""Of the video; a fragment is one."""


MANY = dict.fromkeys(range(2, 9), "404")


@pytest.fixture(scope="session")
def fragments(ramp: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The ramp as HLS and as DASH: file names and what is in them. Fragment n, from 0, is the second n of the video."""
    folder = tmp_path_factory.mktemp("fragments")
    coded = ("-c:v", "libx264", "-g", "10", "-keyint_min", "10", "-sc_threshold", "0", "-c:a", "aac", "-b:a", "64k")
    hls = ("-f", "hls", "-hls_time", "1", "-hls_list_size", "0", "-hls_segment_filename", str(folder / "seg%d.ts"))
    names = ("-init_seg_name", "init$RepresentationID$.m4s", "-media_seg_name", "dash$RepresentationID$-$Number$.m4s")
    dash = ("-f", "dash", "-seg_duration", "1", *names)
    for how, name in ((hls, "index.m3u8"), (dash, "index.mpd")):
        argv = [ffmpeg.executable(), "-v", "error", "-i", str(ramp / "both.mp4"), *coded, *how, str(folder / name)]
        subprocess.run(argv, check=True)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def offer_hls(tube: Tube, fragments: dict[str, bytes], faults: Faults) -> Any:
    """A player that offers the video by HLS alone; `faults`: what is wrong with some fragments, by number from 0."""
    lines = [f"#EXTINF:1.0,\n/{faults.get(number, 'ok')}/seg{number}.ts" for number in range(SECONDS)]
    media = "\n".join(("#EXTM3U", "#EXT-X-TARGETDURATION:1", *lines, "#EXT-X-ENDLIST"))
    variant = '#EXT-X-STREAM-INF:BANDWIDTH=500000,CODECS="avc1.4d401f,mp4a.40.2",RESOLUTION=854x480'
    main = f"#EXTM3U\n{variant}\n/ok/itag/94/media.m3u8"
    manifests = {"main.m3u8": main.encode(), "itag/94/media.m3u8": media.encode()}
    return tube(offered=[], more=fragments | manifests, streaming={"hlsManifestUrl": "ok/main.m3u8"})


def offer_dash(tube: Tube, fragments: dict[str, bytes], faults: Faults) -> Any:
    """The same by DASH, where what is wrong is so with the picture."""

    def stream(itag: int, kind: str, number: int, faults: Faults, more: str) -> str:
        places = (f"../{faults.get(each, 'ok')}/dash{number}-{each + 1}.m4s" for each in range(SECONDS))
        listed = "".join(f'<SegmentURL media="{place}"/>' for place in places)
        return (
            f'<AdaptationSet mimeType="{kind}/mp4"><Representation id="{itag}" bandwidth="100000" {more}>'
            f'<SegmentList timescale="1" duration="1"><Initialization sourceURL="../ok/init{number}.m4s"/>{listed}'
            "</SegmentList></Representation></AdaptationSet>"
        )

    picture = stream(135, "video", 0, faults, 'codecs="avc1.4d401f" width="854" height="480"')
    sound = stream(140, "audio", 1, {}, 'codecs="mp4a.40.2" audioSamplingRate="16000"')
    names = 'xmlns="urn:mpeg:dash:schema:mpd:2011" profiles="urn:mpeg:dash:profile:isoff-main:2011"'
    head = f'<MPD {names} type="static" mediaPresentationDuration="PT{SECONDS}S"><Period>'
    manifest = {"main.mpd": f"{head}{picture}{sound}</Period></MPD>".encode()}
    return tube(offered=[], more=fragments | manifest, streaming={"dashManifestUrl": "ok/main.mpd"})


def fetch(folder: Path, *, option: tuple[str, ...] = (), **options: Any) -> FetchResult:
    source = Source("", Options(option=(*QUICK, *option), **options))
    return source.fetch(CLIP, source.candidates(CLIP)[0], folder)


@pytest.mark.parametrize("sections", [False, True])
@pytest.mark.parametrize(("offer", "ids"), [(offer_hls, "94"), (offer_dash, "135+140")])
def test_a_video_in_fragments_is_taken_where_none_is_gone(
    offer: Tube, ids: str, tube: Tube, fragments: dict[str, bytes], tmp_path: Path, *, sections: bool
) -> None:
    offer(tube, fragments, {})

    got = fetch(tmp_path, sections=sections)

    assert (got.status, got.format_ids) == (Status.OK, ids), got.detail
    assert got.path is not None
    picture, sound = probe.spans(got.path)
    assert picture is not None
    assert sound is not None
    seconds = CLIP.seconds if sections else SECONDS
    assert (picture.covered_seconds, sound.covered_seconds) == pytest.approx((seconds, seconds), abs=0.15)


@pytest.mark.parametrize("offer", [offer_hls, offer_dash])
def test_a_video_of_which_fragments_are_gone_or_refused_is_asked_for_again(
    offer: Tube, tube: Tube, fragments: dict[str, bytes], tmp_path: Path
) -> None:
    for faults in ({4: "404"}, {4: "404", 6: "404"}, MANY, {5: "403"}):
        offer(tube, fragments, faults)

        got = fetch(tmp_path)

        assert (got.status, got.status.kind, got.path) == (Status.HTTP_4XX, Kind.RETRY, None), faults
        assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("offer", [offer_hls, offer_dash])
def test_a_section_of_which_fragments_are_gone_is_asked_for_again(
    offer: Tube, tube: Tube, fragments: dict[str, bytes], tmp_path: Path
) -> None:
    for faults in ({4: "404"}, MANY):
        offer(tube, fragments, faults)

        got = fetch(tmp_path, sections=True)

        assert (got.status, got.path) == (Status.HTTP_4XX, None), faults
        assert "the section is incomplete" in got.detail
        assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("fault", "status"), [("429", Status.RATE_LIMITED), ("503", Status.HTTP_5XX), ("cut", Status.TRUNCATED)]
)
def test_what_a_fragments_server_says_decides(
    fault: str, status: Status, tube: Tube, fragments: dict[str, bytes], tmp_path: Path
) -> None:
    offer_hls(tube, fragments, {5: fault})

    assert fetch(tmp_path).status is status


def test_what_the_server_of_a_sections_fragment_says_decides(
    tube: Tube, fragments: dict[str, bytes], tmp_path: Path
) -> None:
    offer_hls(tube, fragments, {5: "429"})

    assert fetch(tmp_path, sections=True).status is Status.RATE_LIMITED


def test_the_first_and_the_last_fragment_count_too(tube: Tube, fragments: dict[str, bytes], tmp_path: Path) -> None:
    for number in (0, SECONDS - 1):
        offer_hls(tube, fragments, {number: "404"})

        assert fetch(tmp_path).status is Status.HTTP_4XX


def test_fragments_that_come_side_by_side_are_judged_alike(
    tube: Tube, fragments: dict[str, bytes], tmp_path: Path
) -> None:
    for fault, status in (("404", Status.HTTP_4XX), ("429", Status.RATE_LIMITED), ("ok", Status.OK)):
        offer_hls(tube, fragments, {9: fault, 4: fault})

        got = fetch(tmp_path, option=("concurrent_fragment_downloads=3",))

        assert got.status is status, got.detail


def test_a_mirror_that_lacks_a_fragment_has_the_video(serve: Tube, fragments: dict[str, bytes], tmp_path: Path) -> None:
    lines = [f"#EXTINF:1.0,\n/{'404' if number == 5 else 'ok'}/seg{number}.ts" for number in range(SECONDS)]
    media = "\n".join(("#EXTM3U", "#EXT-X-TARGETDURATION:1", *lines, "#EXT-X-ENDLIST"))
    server = serve(fragments | {f"{ID}.m3u8": media.encode()})

    def get(folder: str) -> Status:
        source = Source(f"{server.url}/{folder}/{{youtube_id}}.m3u8", Options(option=QUICK))
        return source.fetch(CLIP, source.candidates(CLIP)[0], tmp_path).status

    assert get("ok") is Status.HTTP_4XX
    assert get("404") is Status.NOT_IN_SOURCE
