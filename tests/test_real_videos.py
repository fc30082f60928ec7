"""Real files of many makers, held against a table of what is in them. They are not the project's: see their README."""

import csv
import random
from pathlib import Path

import pytest

from kinetics_sounds.errors import MediaError
from kinetics_sounds.media import measure, probe

VIDEOS = Path(__file__).parents[2] / "shared" / "data" / "videos"
TABLE = VIDEOS / "manifest.csv"
MOST_BYTES = 1_050_000
OTHER_LENGTH = {
    "odd/torchcodec__test_non_zero_start.mp4": "begins at 8.3 s, which the table counts in",
    "odd/torchcodec__nasa_13013.mp4": "the table's length is of another of its six streams",
}
OTHER_STREAM = {"odd/torchcodec__nasa_13013.mp4": "has two of each kind, and the table is of the first"}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not TABLE.is_file(), reason=f"no real videos here: {TABLE} is missing"),
]


def rows() -> list[dict[str, str]]:
    with TABLE.open(newline="") as table:
        return [row for row in csv.DictReader(table) if int(row["bytes"]) <= MOST_BYTES]


ROWS = rows() if TABLE.is_file() else []


def some(rows: list[dict[str, str]]) -> pytest.MarkDecorator:
    """A quarter of them; all in a campaign."""
    kept = random.Random(0).sample(range(len(rows)), -(-len(rows) // 4))
    marked = [
        pytest.param(row, marks=[] if number in kept else [pytest.mark.slow_campaign])
        for number, row in enumerate(rows)
    ]
    return pytest.mark.parametrize("row", marked or [{}], ids=lambda row: row.get("file", "none"))


def has_picture(row: dict[str, str]) -> bool:
    return row["vcodec"] != "" and row["width"] not in {"", "0"}


@some([row for row in ROWS if row["decode_rc"] == "0" and has_picture(row)])
def test_what_is_in_a_file_is_what_the_table_says(row: dict[str, str], tmp_path: Path) -> None:
    found = probe.probe(VIDEOS / row["file"])
    if row["width"] == "1":
        with pytest.raises(probe.BadAspectError):
            measure.measure(VIDEOS / row["file"], found=found, scratch=tmp_path, timeout_seconds=60)
        return
    measured = measure.measure(VIDEOS / row["file"], found=found, scratch=tmp_path, timeout_seconds=60)

    assert found.video is not None
    assert (found.audio is not None) == (measured.audio is not None) == (int(row["n_audio"]) > 0)
    assert measured.video.count > 0
    if row["file"] not in OTHER_STREAM:
        assert found.video.codec == row["vcodec"]
        upright = (int(row["width"]), int(row["height"]))
        assert (measured.width, measured.height) == (upright[::-1] if row["rotation"] in {"90", "-90"} else upright)
    if row["duration"] and row["decode_errors"] == "0" and row["file"] not in OTHER_LENGTH:
        ends = [span.last_seconds for span in (measured.video, measured.audio) if span is not None]
        assert max(ends) == pytest.approx(float(row["duration"]), abs=0.5)
    if row["mean_dB"] and float(row["mean_dB"]) > -90:
        table = float(row["mean_dB"])  # over all channels; a mono mix of unlike ones is quieter
        assert table - (0.5 if row["channels"] == "1" else 20) < measured.audio_rms_db < table + 0.5
    else:  # -91 is the lowest that the table's tool can say
        assert measured.audio_rms_db < -90


@some([row for row in ROWS if row["decode_rc"] == "0" and not has_picture(row)])
def test_sound_alone_is_told_from_a_video(row: dict[str, str], tmp_path: Path) -> None:
    found = probe.probe(VIDEOS / row["file"])

    assert found.video is None
    assert (found.audio is not None) == (int(row["n_audio"]) > 0)
    with pytest.raises(MediaError, match="no picture stream"):
        measure.measure(VIDEOS / row["file"], found=found, scratch=tmp_path, timeout_seconds=60)


@some([row for row in ROWS if row["decode_rc"] != "0"])
def test_what_does_not_decode_is_an_error(row: dict[str, str], tmp_path: Path) -> None:
    def measured() -> None:
        found = probe.probe(VIDEOS / row["file"])
        measure.measure(VIDEOS / row["file"], found=found, scratch=tmp_path, timeout_seconds=60)

    with pytest.raises(MediaError):
        measured()
