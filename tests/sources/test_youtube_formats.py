"""Of all that YouTube's player offers, the original is taken, and the outcome says which: yt-dlp's own extractor."""

import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import av
import pytest

from kinetics_sounds.clip import Clip, FetchResult, Kind, Status
from kinetics_sounds.errors import SettingsError
from kinetics_sounds.media import ffmpeg, probe
from kinetics_sounds.sources.youtube import Options, Source, answers
from kinetics_sounds.sources.youtube.errors import RefusedError
from kinetics_sounds.sources.youtube.formats import Chosen, tracks

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")  # yt-dlp forgets the sockets of refused requests

ID = "5JzkrOVhPOw"
CLIP = Clip(ID, 3, 7, "bowling", "val")
QUICK = (
    *("sleep_interval=0", "max_sleep_interval=0", "sleep_interval_requests=0"),
    *("retries=0", "fragment_retries=0", "extractor_retries=0", "socket_timeout=2"),
)
Tube = Callable[..., Any]
Offered = dict[str, Any]


def source(option: Sequence[str] = (), **options: Any) -> Source:
    return Source("", Options(option=(*QUICK, *option), **options))


def fetch(folder: Path, *, option: Sequence[str] = (), **options: Any) -> FetchResult:
    asked = source(option, **options)
    return asked.fetch(CLIP, asked.candidates(CLIP)[0], folder)


@pytest.fixture
def choose(player: Tube, tmp_path: Path) -> Callable[..., Chosen]:
    """What is taken of what a player offers, by all but the download; raises RefusedError."""

    def chosen(offered: list[Offered], *, option: Sequence[str] = (), captions: str = "", **options: Any) -> Chosen:
        player(
            {"status": "OK"},
            [{**each, "url": f"https://host.invalid/{each['path']}"} for each in offered],
            captions=captions,
        )
        asked = source(option, **options)
        watch = asked._watch(CLIP)
        with asked._tool(CLIP, tmp_path, watch) as tool:
            watch.refuse(tool.extract_info(asked.candidates(CLIP)[0], download=False))
        return watch.chosen

    return chosen


def picture(itag: int, height: int, *, width: int = 0, codec: str = "avc1.4d401f", xtags: str = "") -> Offered:
    short = min(height, width or height)
    return {
        "itag": itag,
        "path": f"video?itag={itag}&xtags={xtags}",
        "mimeType": f'video/{"webm" if codec.startswith("vp") else "mp4"}; codecs="{codec}"',
        "width": width or height * 16 // 9,
        "height": height,
        "fps": 10,
        "quality": "large" if short == 480 else "medium",
        "qualityLabel": f"{short}p",
        "bitrate": 100_000 + itag,
    }


def sound(
    itag: int, track: str = "", *, channels: int = 2, quality: str = "MEDIUM", xtags: str = "", **more: Any
) -> Offered:
    """`track`: how the player calls it, `LANGUAGE NAME`, such as `de-DE German (default)`; empty for a video's only one."""
    language, _, name = track.partition(" ")
    named = {
        "audioTrack": {
            "id": f"{language}.4",
            "displayName": name.removesuffix(" (default)"),
            "audioIsDefault": name.endswith("(default)"),
        }
    }
    codec = 'webm; codecs="opus"' if itag in (249, 250, 251, 338) else 'mp4; codecs="mp4a.40.2"'
    return {
        "itag": itag,
        "path": f"audio?itag={itag}&xtags={xtags}",
        "mimeType": f"audio/{codec}",
        "quality": "tiny",
        "audioQuality": f"AUDIO_QUALITY_{quality}",
        "audioSampleRate": "48000",
        "audioChannels": channels,
        "bitrate": 96_000 + itag,
        **(named if track else {}),
        **more,
    }


def both(itag: int = 18, track: str = "", *, height: int = 360) -> Offered:
    heard = sound(itag, track)
    seen = picture(itag, height)
    return {**heard, **seen, "path": f"both?itag={itag}", "mimeType": 'video/mp4; codecs="avc1.42001E, mp4a.40.2"'}


EN, DE = "en-US English (United States) original", "de-DE German (Germany)"
SEEN, HEARD = picture(135, 480), sound(140)


# --- The original sound -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("offered", "taken"),
    [
        ([SEEN, sound(251, f"{DE} (default)"), sound(140, EN)], "135+140"),  # a better codec
        ([SEEN, sound(140, f"{DE} (default)"), sound(139, EN, quality="LOW")], "135+139"),
        ([SEEN, sound(140, f"{DE} (default)"), sound(139, EN, channels=1)], "135+139"),
        ([SEEN, sound(251, "en-US English (United States) descriptive"), sound(140, f"{EN} (default)")], "135+140"),
        ([picture(133, 240), both(18, f"{DE} (default)"), sound(140, EN)], "18+140"),
        ([picture(133, 240), both(18), sound(140, EN), sound(251, DE)], "18+140"),  # 18 does not say: the default's
        ([SEEN, sound(251, DE), both(22, EN, height=720)], "22"),
        ([both(18, f"{DE} (default)"), sound(140, EN)], "18+140"),
    ],
)
def test_the_original_sound_beats_one_that_is_better_in_all_else(
    offered: list[Offered], taken: str, choose: Tube
) -> None:
    for order in (offered, offered[::-1]):
        got = choose(order)

        assert (got.format_ids, got.language, got.track) == (taken, "en-US", "original")


def test_the_original_sound_alone_is_in_the_file_and_the_outcome_says_so(tube: Tube, tmp_path: Path) -> None:
    server = tube(offered=[both(18, f"{DE} (default)"), sound(251, DE), sound(140, EN)])

    got = fetch(tmp_path)

    assert (got.status, got.format_ids, got.audio_language, got.audio_track) == (
        *(Status.OK, "18+140"),
        *("en-US", "original"),
    )
    assert {path.partition("&")[0] for path in server.asked} == {"/ok/both?itag=18", "/ok/audio?itag=140"}
    assert got.path is not None
    assert probe.probe(got.path).other_streams == ""  # the dub is not beside it


@pytest.mark.parametrize(
    ("track", "xtags", "told"),
    [
        ("fr Français (par défaut) (default)", "acont%3Doriginal%3Alang%3Dfr", ("fr", "original")),
        ("", "acont%3Doriginal%3Alang%3Dfr", ("fr", "original")),
        ("", "", ("", "")),
    ],
)
def test_the_address_tells_the_original_in_any_language_and_an_only_sound_is_one(
    track: str, xtags: str, told: tuple[str, str], choose: Tube
) -> None:
    got = choose([SEEN, sound(140, track, xtags=xtags)])

    assert (got.format_ids, (got.language, got.track)) == ("135+140", told)


def test_the_address_is_believed_before_the_name(choose: Tube) -> None:
    dub = sound(251, EN, xtags="acont%3Ddubbed-auto%3Alang%3Den-US")

    assert choose([SEEN, dub, sound(140, xtags="acont%3Doriginal")]).format_ids == "135+140"


@pytest.mark.parametrize(
    ("offered", "told"),
    [
        ([SEEN, sound(140, f"{DE} (default)")], "default"),
        ([SEEN, sound(140, DE)], "unknown"),
        ([SEEN, sound(140, "en Englisch (default)"), sound(140, "de Deutsch")], "default"),  # names in another language
        ([SEEN, sound(251, "en English descriptive")], "descriptive"),
        ([SEEN, sound(140, DE, xtags="acont%3Ddubbed%3Alang%3Dde-DE")], "dubbed"),
        ([SEEN, sound(140, DE, xtags="acont%3Ddubbed-auto%3Alang%3Dde-DE")], "dubbed-auto"),
        ([SEEN, sound(140, DE, xtags="acont%3Dsecondary%3Alang%3Dde-DE")], "secondary"),
        ([SEEN, both(18), sound(140, "en English descriptive")], "unknown"),
        ([both(18, f"{DE} (default)")], "default"),
    ],
)
def test_where_no_sound_is_told_to_be_the_original_it_is_refused_unless_that_is_allowed(
    offered: list[Offered], told: str, choose: Tube
) -> None:
    with pytest.raises(RefusedError, match=rf"\b{told}\b.*--youtube.allow_dubbed true") as refused:
        choose(offered)

    assert (refused.value.status, refused.value.status.kind) == (Status.DUBBED, Kind.RETRY)
    assert choose(offered, allow_dubbed=True).track == told


def test_a_dub_is_not_downloaded_and_where_it_is_allowed_the_outcome_flags_it(tube: Tube, tmp_path: Path) -> None:
    server = tube(offered=[SEEN, sound(140, DE, xtags="acont%3Ddubbed-auto%3Alang%3Dde-DE")])

    refused = fetch(tmp_path)

    assert (refused.status, refused.path, refused.format_ids, server.asked) == (Status.DUBBED, None, "", [])
    assert "de-DE dubbed-auto" in refused.detail
    allowed = fetch(tmp_path, allow_dubbed=True)
    assert (allowed.status, allowed.audio_language, allowed.audio_track) == (Status.OK, "de-DE", "dubbed-auto")


def test_of_dubs_that_are_allowed_the_least_foreign_is_taken(choose: Tube) -> None:
    kinds = ("descriptive", "dubbed-auto", "dubbed", "secondary")
    offered = [sound(139 + n, DE, xtags=f"acont%3D{kind}%3Alang%3Dde") for n, kind in enumerate(kinds)]

    assert choose([SEEN, *offered], allow_dubbed=True).track == "secondary"


def test_a_format_that_the_user_names_is_judged_too(choose: Tube) -> None:
    offered = [SEEN, sound(251, DE), sound(140, EN)]

    assert choose(offered, option=["format=135+140"]).track == "original"
    for named, status in (("135+251", Status.DUBBED), ("135", Status.NO_FORMATS), ("140", Status.NO_FORMATS)):
        with pytest.raises(RefusedError) as refused:
            choose(offered, option=[f"format={named}"])
        assert refused.value.status is status


def test_a_format_that_names_two_files_is_refused_for_one_alone_can_be_told(tube: Tube, tmp_path: Path) -> None:
    tube()

    with pytest.raises(SettingsError, match=r"--youtube.option format=135\+140,136\+140: selects 2 files"):
        fetch(tmp_path, option=["format=135+140,136+140"])

    assert list(tmp_path.iterdir()) == []


def test_a_dub_in_an_hls_manifest_is_told_by_its_name() -> None:
    def hls(number: int, language: str, name: str | None) -> Offered:
        preference = {"language_preference": 10} if name and "(original)" in name else {}
        return {"format_id": f"233-{number}", "vcodec": "none", "language": language, "format_note": name, **preference}

    named = [hls(0, "ja", "日本語 - original"), hls(1, "en-US", "American English - dubbed-auto (default)")]
    assert tracks(named) == {"233-0": "original", "233-1": "dubbed-auto"}
    assert tracks([hls(0, "en", "Default")]) == {"233-0": ""}
    assert tracks([hls(0, "en", None), hls(1, "bn", None)]) == {"233-0": "unknown", "233-1": "unknown"}
    assert tracks([hls(0, "en", None), hls(1, "en-US", None)]) == {"233-0": "", "233-1": ""}


@pytest.mark.parametrize(
    "told",
    [
        {"qualityLabel": "360s", "projectionType": "MESH"},
        {"qualityLabel": "720p60"},
        {"qualityLabel": "2160p60 HDR"},
        {"qualityLabel": "", "quality": "", "audioQuality": "", "isDrc": True},
    ],
    ids=lambda told: str(told["qualityLabel"] or "DRC"),
)
def test_a_quality_is_no_name_of_a_track(told: dict[str, Any], choose: Tube) -> None:
    offered = [SEEN, {**both(18), **told}, HEARD]

    got = choose(offered, captions="en")

    assert (got.format_ids, got.language, got.track) == ("135+140", "en", "")
    with pytest.raises(RefusedError):  # a name is one, also where the captions tell a language
        choose([*offered, sound(251, "de Deutsch")], captions="en")


def test_the_language_that_captions_tell_of_muxed_formats_makes_no_second_track() -> None:
    alone = {"format_id": "234", "vcodec": "none", "language": "es"}
    muxed = {"format_id": "94", "language": "en"}

    assert tracks([alone, muxed, {**muxed, "format_id": "95"}]) == {"234": "", "94": "", "95": ""}
    other = {**muxed, "format_id": "94-1", "language": "de"}
    assert tracks([muxed, other]) == {"94": "unknown", "94-1": "unknown"}


def test_the_language_that_captions_tell_makes_no_second_track() -> None:
    listed = {
        "format_id": "140",
        "vcodec": "none",
        "language_preference": -1,
        "language": "es",
        "format_note": "medium",
    }
    muxed = {"format_id": "94", "language": "en"}

    assert tracks([listed, muxed]) == {"140": "", "94": ""}


# --- The picture and the sound as they were uploaded --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("offered", "taken"),
    [
        pytest.param(
            [picture(244, 480, codec="vp9", xtags="sr%3D1"), picture(134, 360), HEARD], "134+140", id="upscaled"
        ),
        pytest.param(
            [picture(397, 480, codec="av01.0.04M.08", xtags="sr%3D1"), SEEN, HEARD],
            "135+140",
            id="upscaled, same height",
        ),
        pytest.param([picture(135, 480, xtags="sr%3D1"), HEARD], "135-sr+140", id="nothing but upscaled"),
        pytest.param([SEEN, sound(251, isDrc=True), HEARD], "135+140", id="compressed"),
        pytest.param([SEEN, sound(140, isDrc=True), HEARD], "135+140", id="compressed, same itag"),
        pytest.param([SEEN, sound(251, xtags="drc%3D1"), HEARD], "135+140", id="compressed, by its address"),
        pytest.param([SEEN, sound(251, isVb=True), HEARD], "135+140", id="voice boost"),
        pytest.param([SEEN, sound(140, isVb=True, xtags="vb%3D1"), HEARD], "135+140", id="voice boost, same itag"),
        pytest.param([SEEN, sound(251, xtags="vb%3D1"), HEARD], "135+140", id="voice boost, by its address"),
        pytest.param([picture(332, 480, codec="vp09.02.10.10.01.09.16.09"), SEEN, HEARD], "135+140", id="HDR"),
        pytest.param([picture(332, 480, codec="vp9.2"), picture(136, 720), HEARD], "136+140", id="HDR of 480 lines"),
        pytest.param([SEEN, sound(338, channels=4), HEARD], "135+140", id="ambisonic"),
        pytest.param([SEEN, sound(258, channels=6), sound(139, channels=1)], "135+139", id="5.1 and mono"),
        pytest.param([SEEN, sound(139, channels=1), HEARD], "135+140", id="mono and stereo"),
        pytest.param([SEEN, both(22, height=480), HEARD], "135+140", id="a picture with a sound of its own"),
        pytest.param([picture(160, 144), both(18), HEARD], "18", id="a smaller picture without a sound of its own"),
        pytest.param([both(18), both(22, height=720)], "18", id="nothing but both together"),
        pytest.param([both(18), HEARD], "18", id="no picture alone"),
        pytest.param(
            [SEEN, {**HEARD, "approxDurationMs": "2000"}, sound(251, isDrc=True)],
            "135+251-drc",
            id="2 s of 10 are there",
        ),
    ],
)
def test_what_was_made_of_the_upload_gives_way_to_it(offered: list[Offered], taken: str, choose: Tube) -> None:
    for order in (offered, offered[::-1]):
        assert choose(order).format_ids == taken


@pytest.mark.parametrize(
    ("sizes", "taken"),
    [
        ({134: (640, 360), 135: (854, 480), 136: (1280, 720)}, "135"),
        ({134: (360, 640), 135: (480, 854), 136: (720, 1280)}, "135"),  # upright, as a telephone films
        ({134: (358, 640), 135: (480, 480), 136: (720, 720)}, "135"),
        ({136: (1280, 720), 137: (1920, 1080)}, "136"),  # the nearest above, where there is none below
        ({160: (256, 144), 136: (1280, 720)}, "160"),
        ({134: (854, 358), 135: (1280, 536)}, "134"),
    ],
)
def test_480_lines_are_those_of_the_short_side(sizes: dict[int, tuple[int, int]], taken: str, choose: Tube) -> None:
    offered = [picture(itag, high, width=wide) for itag, (wide, high) in sizes.items()]

    assert choose([*offered, HEARD]).format_ids == f"{taken}+140"


def test_a_section_is_of_the_same_formats(tube: Tube, tmp_path: Path) -> None:
    server = tube(offered=[picture(332, 480, codec="vp9.2"), SEEN, sound(251, DE), sound(140, EN)])

    got = fetch(tmp_path, sections=True)

    assert (got.status, got.format_ids) == (Status.OK, "135+140"), got.detail
    assert (got.audio_language, got.audio_track, got.trimmed) == ("en-US", "original", True)
    assert {path.partition("&")[0] for path in server.asked} == {"/ok/video?itag=135", "/ok/audio?itag=140"}


def test_a_section_of_a_high_dynamic_range_alone_keeps_it_for_the_cut_that_maps_it(tube: Tube, tmp_path: Path) -> None:
    film = tmp_path / "film.mp4"
    params = "setparams=color_primaries=bt2020:color_trc=smpte2084:colorspace=bt2020nc"
    made = ("-f", "lavfi", "-i", f"testsrc2=s=64x36:r=10:d=10,format=yuv420p10le,{params}", "-c:v", "libx264")
    subprocess.run([ffmpeg.executable(), "-v", "error", *made, str(film)], check=True)
    tube(offered=[{**picture(332, 480, codec="vp9.2"), "path": "film"}, HEARD], more={"film": film.read_bytes()})

    got = fetch(tmp_path, sections=True)

    assert (got.status, got.format_ids, got.path) == (Status.OK, "332+140", tmp_path / "video.mp4"), got.detail
    seen = probe.probe(tmp_path / "video.mp4").video
    assert seen is not None
    assert seen.transfer == "smpte2084"
    with av.open(str(tmp_path / "video.mp4")) as opened:
        assert opened.streams.video[0].format.name == "yuv420p10le"


def test_a_section_of_ten_bits_without_a_high_dynamic_range_gets_eight(tube: Tube, tmp_path: Path) -> None:
    film = tmp_path / "film.mp4"
    made = ("-f", "lavfi", "-i", "testsrc2=s=64x36:r=10:d=10,format=yuv420p10le", "-c:v", "libx264")
    subprocess.run([ffmpeg.executable(), "-v", "error", *made, str(film)], check=True)
    tube(offered=[{**SEEN, "path": "film"}, HEARD], more={"film": film.read_bytes()})

    got = fetch(tmp_path, sections=True)

    assert (got.status, got.format_ids) == (Status.OK, "135+140"), got.detail
    with av.open(str(tmp_path / "video.mp4")) as opened:
        assert opened.streams.video[0].format.name == "yuv420p"


def test_a_section_of_a_borrowed_picture_is_its_own_although_the_sound_comes_first_in_the_file(
    tube: Tube, ramp: Path, tmp_path: Path
) -> None:
    turned = tmp_path / "turned.mp4"
    streams = ("-map", "0:a", "-map", "0:v", "-c", "copy", "-movflags", "+faststart")
    subprocess.run(
        [ffmpeg.executable(), "-v", "error", "-i", str(ramp / "both.mp4"), *streams, str(turned)], check=True
    )
    offered = [{**both(18, f"{DE} (default)"), "path": "turned"}, sound(140, EN)]
    tube(offered=offered, more={"turned": turned.read_bytes()})

    got = fetch(tmp_path, sections=True)

    assert (got.status, got.format_ids) == (Status.OK, "18+140"), got.detail
    found = probe.probe(tmp_path / "video.mp4")
    assert (found.video is not None, found.audio is not None, found.other_streams) == (True, True, "")


# --- What a player does not offer ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("offered", "lacks"), [([SEEN, picture(136, 720)], "no sound"), ([HEARD, sound(251)], "no picture")]
)
def test_a_player_that_offers_no_sound_says_nothing_of_the_video(
    offered: list[Offered], lacks: str, tube: Tube, tmp_path: Path
) -> None:
    server = tube(offered=offered)

    got = fetch(tmp_path)

    assert (got.status, got.status.kind, server.asked) == (Status.NO_FORMATS, Kind.RETRY, [])
    assert lacks in got.detail


def test_a_file_without_the_sound_that_its_format_was_to_have_says_nothing_of_the_video(
    tube: Tube, tmp_path: Path
) -> None:
    tube(offered=[{**both(18), "path": "video"}])

    got = fetch(tmp_path)

    assert (got.status, got.path) == (Status.NO_FORMATS, None)
    assert "the file of format 18 has no sound" in got.detail
    assert list(tmp_path.iterdir()) == []


def test_a_players_answer_for_another_video_says_nothing_of_the_video(tube: Tube, tmp_path: Path) -> None:
    server = tube(videoId="aQvGIIdgFDM")

    got = fetch(tmp_path)

    assert (got.status, got.status.kind, server.asked) == (Status.NO_FORMATS, Kind.RETRY, [])
    assert "a player returned another video: aQvGIIdgFDM" in got.detail


@pytest.mark.parametrize("answer", [None, "text", ["text"], {"videoDetails": "text", "streamingData": ["text"]}])
def test_a_players_answer_of_another_form_is_left_to_yt_dlp(answer: object) -> None:
    class Extractor:
        def _extract_formats_and_subtitles(self, *given: object) -> object:
            return given

    extractor = Extractor()
    answers.inspect(extractor)

    for responses in (answer, [answer]):
        assert extractor._extract_formats_and_subtitles(ID, responses, 1) == (ID, responses, 1)


def test_a_reason_is_cut_to_a_length_that_a_manifest_can_hold(tube: Tube, tmp_path: Path) -> None:
    tube(offered=[picture(1000 + n, 480) for n in range(300)])

    got = fetch(tmp_path)

    assert got.status is Status.NO_FORMATS
    assert got.detail.startswith("no sound is available now")
    assert len(got.detail) < 500


def test_a_file_of_another_video_is_refused_whatever_came_before(
    tube: Tube, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tube()
    from yt_dlp import YoutubeDL

    extract = YoutubeDL.extract_info
    monkeypatch.setattr(YoutubeDL, "extract_info", lambda *a, **k: {**extract(*a, **k), "id": "AAAAAAAAAAA"})

    got = fetch(tmp_path)

    assert (got.status, got.path) == (Status.UNAVAILABLE, None)
    assert "another video was returned: AAAAAAAAAAA" in got.detail
    assert list(tmp_path.iterdir()) == []
