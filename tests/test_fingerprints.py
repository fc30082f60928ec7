"""Fingerprints, held against sort and sha256sum, as anyone has them."""

import os
import random
import re
import shutil
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest

from kinetics_sounds import fingerprints, manifest
from kinetics_sounds.classes import ClassList
from kinetics_sounds.clip import SPLITS, Clip, Media, Outcome, Status

ROWS = [
    ("-a_000001_000011", "playing drums", "train"),
    ("b_000001_000011", "playing “guitar”, loud", "val"),
    ("a_000001_000011", "tapping pen", "test"),
]


@pytest.mark.skipif(not shutil.which("sha256sum"), reason="no sha256sum here")
def test_sort_and_sha256sum_say_the_same() -> None:
    lines = "".join("\t".join(row) + "\n" for row in ROWS)
    out = subprocess.run(
        "LC_ALL=C sort | sha256sum", shell=True, input=lines.encode(), capture_output=True, check=True
    ).stdout.decode()

    assert fingerprints.selection(ROWS) == out.split()[0]


def test_the_order_of_the_rows_does_not_matter() -> None:
    rows = random.Random(0).sample([(*row, "0" * 64) for row in ROWS], len(ROWS))

    assert fingerprints.selection(row[:3] for row in rows) == fingerprints.selection(ROWS)
    assert fingerprints.content(rows) == fingerprints.content((*row, "0" * 64) for row in ROWS)


def test_each_column_counts() -> None:
    key, label, split = ROWS[0]
    changed = [("c_000001_000011", label, split), (key, "tapping pens", split), (key, label, "val")]

    assert len({fingerprints.selection([row, *ROWS[1:]]) for row in (ROWS[0], *changed)}) == 4
    assert fingerprints.content([(*ROWS[0], "0" * 64)]) != fingerprints.content([(*ROWS[0], "1" * 64)])


def test_a_label_is_one_label_in_whichever_form_unicode_writes_it() -> None:
    forms = {unicodedata.normalize(form, "playing accordéon") for form in ("NFC", "NFD")}
    assert len(forms) == 2
    assert len({fingerprints.selection([("a_000001_000011", label, "val")]) for label in forms}) == 1


def test_nothing_is_the_hash_of_nothing() -> None:
    assert (
        fingerprints.selection([])
        == fingerprints.content([])
        == ("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")
    )


def recipe() -> str:
    """The line of docs/formats.md."""
    (found,) = re.findall(
        r"(?ms)^```sh\n(python3 .*?)\n```$", (Path(__file__).parents[1] / "docs/formats.md").read_text()
    )
    return str(found)


@pytest.mark.skipif(not shutil.which("sha256sum"), reason="no sha256sum here")
def test_the_line_of_the_documents_makes_both_of_a_manifest(tmp_path: Path) -> None:
    labels = ['playing "guitar", loud', "=cmd()", "'=quoted", "'tis", "playing accorde\u0301on", "clapping"]
    clips = [Clip(f"-id{n}", n, n + 10, label, SPLITS[n % 3]) for n, label in enumerate(labels)]
    outcomes = [Outcome(clip=clip, status=Status.OK, detail='a, "b"\n,,ok,', media=media(clip)) for clip in clips]
    outcomes += [Outcome(clip=Clip("gone", 0, 10, "clapping", "val"), status=Status.PRIVATE)]
    manifest.write(tmp_path / "manifest.parquet", ClassList("odd", tuple(labels)), outcomes)
    rows = [(each.clip.key, each.clip.label, each.clip.split, each.media.sha256) for each in outcomes if each.media]

    for what, expected in (
        ("selection", fingerprints.selection(row[:3] for row in rows)),
        ("content", fingerprints.content(rows)),
    ):
        line = recipe().replace(" selection manifest.csv ", f" {what} manifest.csv ").replace("python3", sys.executable)
        out = subprocess.run(
            line,
            shell=True,
            cwd=tmp_path,
            capture_output=True,
            check=True,
            env={"PYTHONUTF8": "1", "PATH": os.environ["PATH"]},
        )
        assert out.stdout.decode().split()[0] == expected, out.stderr


def media(clip: Clip) -> Media:
    """What an audit may measure of a clip."""
    return Media(
        path=f"clips/{clip.key}.mp4",
        bytes=1,
        sha256=f"{clip.time_start:064x}",
        duration_seconds=10.0,
        fps=10.0,
        width=48,
        height=48,
        num_frames=100,
        audio_rate=24_000,
        audio_channels=1,
        audio_rms_db=-20.0,
        audio_offset_seconds=0.0,
        silent=False,
        still=False,
        other_streams="",
        rotation=0,
        decode_errors=0,
    )
