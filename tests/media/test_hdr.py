"""A picture of high dynamic range looks on an ordinary screen as it was meant, and is known by its own file."""

import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import av
import numpy as np
import pytest

from kinetics_sounds.clip import Clip, FetchResult, Status
from kinetics_sounds.media import ffmpeg, hdr, probe
from kinetics_sounds.pipelines.fetching.trim import to_span

GREYS = (16, 64, 100, 128, 154)
COLOURS = ((140, 50, 50), (50, 140, 50), (50, 50, 140))
BRIGHT = (200, 255)
PATCH = 16
"""Pixels of a side of a patch of one colour."""
TO_2020 = np.array([[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]])
"""Linear light of BT.709 primaries in those of BT.2020 (ITU-R BT.2087)."""


def pq(nits_N3: np.ndarray) -> np.ndarray:
    """ITU-R BT.2100, table 4: light in candelas per square metre to the signal."""
    powered = (nits_N3 / 10_000) ** (2610 / 16384)
    return np.asarray(((3424 / 4096 + 2413 / 128 * powered) / (1 + 2392 / 128 * powered)) ** (2523 / 32))


def hlg(nits_N3: np.ndarray) -> np.ndarray:
    """ITU-R BT.2100, table 5, on a screen of 1000 candelas per square metre: the inverse of its gamma, then the curve."""
    light: np.ndarray = nits_N3 / 1000
    brightness: np.ndarray = light @ np.array([0.2627, 0.6780, 0.0593])
    scene = light * brightness[:, None] ** (1 / 1.2 - 1)
    curve = 0.17883277 * np.log(np.maximum(12 * scene - 0.28466892, 1e-9)) + 0.55991073
    return np.asarray(np.where(scene <= 1 / 12, np.sqrt(3 * scene), curve))


CURVES: dict[str, Callable[[np.ndarray], np.ndarray]] = {"smpte2084": pq, "arib-std-b67": hlg}


def film(path: Path, transfer: str, patches: Sequence[tuple[int, int, int]]) -> None:
    """Patches of colours as an ordinary screen shows them (gamma 2.4), white being 203 cd/m2, in a row, as 10-bit H.264."""
    nits_N3 = (np.array(patches) / 255) ** 2.4 @ TO_2020.T * 203
    codes_N3 = np.round(CURVES[transfer](nits_N3) * 65535).astype("<u2")
    frame_HWC = np.repeat(np.repeat(codes_N3[None], PATCH, axis=0), PATCH, axis=1)
    params = f"setparams=color_primaries=bt2020:color_trc={transfer}:colorspace=bt2020nc"
    argv = [
        *(ffmpeg.executable(), "-v", "error", "-f", "rawvideo", "-pix_fmt", "rgb48le"),
        *("-s", f"{frame_HWC.shape[1]}x{PATCH}", "-r", "5", "-i", "-"),
        *("-vf", f"scale=out_color_matrix=bt2020:out_range=tv,format=yuv420p10le,{params}"),
        *("-c:v", "libx264", "-crf", "1", str(path)),
    ]
    subprocess.run(argv, input=frame_HWC.tobytes() * 3, check=True, timeout=60)


def shown(path: Path, count: int) -> np.ndarray:
    """The middle of each patch of the first frame, RGB."""
    with av.open(str(path)) as container:
        picture = next(container.decode(video=0)).reformat(format="rgb24", src_colorspace="ITU709").to_ndarray()
    return picture[PATCH // 2, PATCH // 2 :: PATCH][:count].astype(int)


def mapped(path: Path, out: Path, transfer: str) -> None:
    opened = ffmpeg.source(path)
    picture = hdr.to_sdr(opened["0"], transfer).filter("format", "yuv420p")
    ffmpeg.run(ffmpeg.sink(picture, path=out, vcodec="libx264", crf=1, format="mp4"), timeout_seconds=60)


@pytest.mark.parametrize("transfer", CURVES)
def test_tones_below_white_look_as_they_were_meant_and_brighter_ones_stay_apart(transfer: str, tmp_path: Path) -> None:
    patches = [*((grey, grey, grey) for grey in (*GREYS, *BRIGHT)), *COLOURS]
    film(tmp_path / "hdr.mp4", transfer, patches)
    mapped(tmp_path / "hdr.mp4", tmp_path / "sdr.mp4", transfer)

    told = shown(tmp_path / "sdr.mp4", len(patches))

    assert told[: len(GREYS)] == pytest.approx(np.array(patches[: len(GREYS)]), abs=2)
    assert told[-len(COLOURS) :] == pytest.approx(np.array(COLOURS), abs=6)
    bright = told[len(GREYS) : -len(COLOURS), 1]
    assert 154 < bright[0] < bright[1] < 255  # white paper is not the brightest there is


def test_a_grey_that_is_not_mapped_is_dull(tmp_path: Path) -> None:
    film(tmp_path / "hdr.mp4", "smpte2084", [(128, 128, 128)] * 4)

    assert shown(tmp_path / "hdr.mp4", 1)[0, 1] == pytest.approx(105, abs=2)


@pytest.mark.parametrize("transfer", CURVES)
def test_a_file_tells_its_transfer_and_what_was_made_of_it_has_none(transfer: str, tmp_path: Path) -> None:
    film(tmp_path / "hdr.mp4", transfer, [(128, 128, 128)] * 4)
    mapped(tmp_path / "hdr.mp4", tmp_path / "sdr.mp4", transfer)

    before, after = (probe.probe(tmp_path / name).video for name in ("hdr.mp4", "sdr.mp4"))

    assert before is not None
    assert after is not None
    assert (before.transfer, after.transfer) == (transfer, "")


def test_an_ffmpeg_that_cannot_is_the_machines_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hdr, "_missing_filters", lambda: ("filter zscale",))

    with pytest.raises(OSError, match=r"lacks filter zscale for HDR: see ks-doctor"):
        hdr.to_sdr(None, "smpte2084")


@pytest.mark.parametrize("trimmed", [False, True])
def test_a_clip_is_cut_from_it_with_its_tones_mapped(tmp_path: Path, *, trimmed: bool) -> None:
    """Also from a file that would be linked if it were an ordinary one."""
    film(tmp_path / "picture.mp4", "smpte2084", [(128, 128, 128)] * 4)
    sound = ("-f", "lavfi", "-i", "sine=d=0.6", "-map", "0:v", "-map", "1:a", "-c:v", "copy", "-t", "0.6")
    argv = [ffmpeg.executable(), "-v", "error", "-i", str(tmp_path / "picture.mp4"), *sound, str(tmp_path / "hdr.mp4")]
    subprocess.run(argv, check=True, timeout=60)
    fetched = FetchResult(status=Status.OK, path=tmp_path / "hdr.mp4", trimmed=trimmed)

    done = to_span(Clip("a", 0, 1, "humming", "train"), fetched, tmp_path, timeout_seconds=60)

    assert (done.status, done.path) == (Status.OK, tmp_path / "cut.mp4")
    assert shown(tmp_path / "cut.mp4", 1)[0, 1] == pytest.approx(128, abs=3)
