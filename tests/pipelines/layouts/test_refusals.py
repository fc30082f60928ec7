"""ks-export: what a class list needs to have said of it, and what is refused before anything is changed."""

import csv
import dataclasses
import errno
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from kinetics_sounds import classes, files, manifest
from kinetics_sounds.classes import ClassList
from kinetics_sounds.clip import Clip, Outcome, Status
from kinetics_sounds.pipelines import export
from kinetics_sounds.pipelines.exporting import placing

from .conftest import INDEX, LABELS, Build, tree

HERE = pytest.mark.usefixtures("here")
pytestmark = [HERE]


def filtered(build: Build, path: Path, *, without: str) -> Path:
    """What a user's pandas leaves of a manifest: no row of one label, no metadata of ours."""
    table = pd.read_parquet(build.manifest)
    table = table[table.label != without]
    if path.suffix == ".csv":
        table.to_csv(path, index=False)
    else:
        table.to_parquet(path)
    return path


def laid_out(path: Path, out: Path) -> int:
    words = ["videofolder", "--manifest", str(path), "--out", str(out), "--workers", "1", "--link"]
    return int(export.main(words))


def numbers(out: Path) -> dict[str, int]:
    """The class of each label that a split's table has."""
    tables = [csv.DictReader(path.read_text().splitlines()) for path in out.glob("*/metadata.csv")]
    return {files.from_people(row["label"]): int(row["label_index"]) for table in tables for row in table}


# --- Class lists --------------------------------------------------------------------------------------------------------


def test_a_build_that_was_stopped_is_exported_with_a_warning(
    whole: Build, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Six clips, and one more to which the build never came."""
    made = manifest.read(whole.manifest)
    path = whole.folder / "stopped.parquet"
    waiting = Outcome(clip=Clip("waiting", 0, 5, LABELS[0], "train"), status=Status.NOT_TRIED)
    manifest.write(path, made.classes, [*made.outcomes, waiting])

    assert laid_out(path, tmp_path / "out") == 0

    path.unlink()
    assert f"{path}: 1 of 7 clips was not tried yet; finish the build first" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["few.parquet", "few.csv"])
@pytest.mark.parametrize("without", LABELS)
def test_a_copy_that_lacks_a_label_keeps_the_classes_of_the_build(
    other: Build, tmp_path: Path, name: str, without: str
) -> None:
    """Wherever that label stands: the first, one in the middle, or the last of the list."""
    copy = filtered(other, other.folder / name, without=without)

    assert laid_out(copy, tmp_path / "out") == 0

    assert numbers(tmp_path / "out") == {label: index for label, index in INDEX.items() if label != without}
    assert json.loads((tmp_path / "out/export.json").read_text())["labels"] == sorted(LABELS)


def test_a_copy_alone_that_is_seen_to_lack_a_label_is_refused_with_the_remedy(
    other: Build, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = filtered(other, other.folder / "few.parquet", without=LABELS[0])
    other.manifest.unlink()

    assert laid_out(copy, tmp_path / "out") == 2

    assert "few.parquet: is a copy of a manifest without rows of some labels" in (told := capsys.readouterr().err)
    assert "keep it beside the build's own manifest.parquet" in told
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("labels", [("other", "labels"), tuple(reversed(LABELS))])
def test_the_manifest_of_another_build_says_nothing_of_a_copy(
    other: Build, tmp_path: Path, labels: tuple[str, ...]
) -> None:
    copy = filtered(other, other.folder / "few.parquet", without=LABELS[0])
    other.write([], labels=labels)

    assert laid_out(copy, tmp_path / "out") == 2


@pytest.mark.parametrize("option", [(), ("--json",)])
def test_what_a_user_must_know_of_the_classes_is_said_and_kept(
    other: Build, tmp_path: Path, capsys: pytest.CaptureFixture[str], option: tuple[str, ...]
) -> None:
    other.write(other.outcomes, classes=ClassList("k100", LABELS, classes.NOTES["k100"]))

    assert other.export("videofolder", tmp_path / "out", "--link", *option) == 0

    told = capsys.readouterr()
    assert "class list: k100 (a reconstruction: " in (told.err if option else told.out)
    facts = json.loads((tmp_path / "out/export.json").read_text())
    assert (facts["classes"], facts["note"]) == ("k100", classes.NOTES["k100"])


def test_a_copy_alone_says_that_its_labels_are_those_of_its_rows(
    other: Build, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = filtered(other, other.folder / "few.parquet", without="none")
    other.manifest.unlink()

    assert laid_out(copy, tmp_path / "out") == 0

    assert "class list: few (labels derived from the rows of few.parquet)\n" in capsys.readouterr().out
    assert numbers(tmp_path / "out") == INDEX


# --- Folders ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["notes.txt", "export.json"])
def test_a_folder_that_is_refused_is_not_changed(whole: Build, tmp_path: Path, name: str) -> None:
    folder = tmp_path / "full"
    (folder / ".ks-scratch").mkdir(parents=True)
    (folder / name).write_text("{}")
    before = (sorted(folder.iterdir()), folder.stat().st_mtime_ns)

    assert whole.export("videofolder", folder) == 2

    assert (sorted(folder.iterdir()), folder.stat().st_mtime_ns) == before


def test_a_folder_that_leads_to_another_disk_is_refused_with_the_reason(
    whole: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As the system says it of a link or a mount."""
    real = Path.replace

    def replace(self: Path, target: Path) -> Path:
        if target.parent.name == "train":
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), str(self), None, str(target))
        return real(self, target)

    monkeypatch.setattr(Path, "replace", replace)

    assert whole.export("videofolder", tmp_path / "out") == 2

    assert f"{tmp_path}/out/train: is on another disk than its export" in (told := capsys.readouterr().err)
    assert "choose another --out, or take away the link" in told


def test_what_lies_in_the_way_on_another_disk_is_refused_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def rename(self: Path, target: Path) -> Path:
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), str(self), None, str(target))

    (tmp_path / "out/there").mkdir(parents=True)
    (tmp_path / "staged").mkdir()
    monkeypatch.setattr(Path, "rename", rename)

    with pytest.raises(placing.SettingsError, match="out: is on another disk"):
        placing.put(tmp_path / "staged", tmp_path / "out/there", trash=tmp_path)


# --- Journal, frames, options, help -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        {"counts": {}},
        {"counts": {"frames": 5, "more": 1}},
        {"counts": {"frames": "5"}},
        {"counts": [5]},
        {"counts": None},
        {"places": []},
        {"places": "audio"},
        {"status": "ok", "detail": ""},
        {"status": "network", "detail": "no clip is left out for that"},
        {"status": "odd", "detail": ""},
        {"status": ["too_short"], "detail": ""},
    ],
    ids=json.dumps,
)
def test_a_line_of_the_journal_that_was_changed_is_as_if_it_were_not_there(
    undisturbed: Path, whole: Build, copy: Path, change: dict[str, object]
) -> None:
    lines = (copy / "export.jsonl").read_text().splitlines()
    place = next(number for number, line in enumerate(lines) if '"-abc_' in line)
    lines[place] = json.dumps(json.loads(lines[place]) | change)
    (copy / "export.jsonl").write_text("\n".join(lines) + "\n")

    assert whole.export("ogm", copy) == 1

    assert tree(copy) == tree(undisturbed)


def test_a_clip_of_other_frames_than_were_measured_is_named_and_left_out(
    other: Build, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = {each.clip.youtube_id: each for each in other.outcomes if each.media}
    media: Any = rows["c"].media
    wrong = dataclasses.replace(rows["c"], media=dataclasses.replace(media, num_frames=49))
    other.write([wrong, rows["b_1"]])

    assert other.export("mmaction2", tmp_path / "out", "--rawframes", "--short_side", "16") == 1

    told = capsys.readouterr().err
    assert "left out of val: c_000003_000008: corrupt: decodes to 50 frames, twice, where 49 are recorded of it" in told
    assert not list((tmp_path / "out").glob("rawframes_val/*/*"))


@pytest.mark.parametrize("layout", ["ogm", "ogm_vggsound"])
@pytest.mark.parametrize("rate", ["7999", "192001"])
def test_a_rate_that_cannot_be_is_refused(
    whole: Build, tmp_path: Path, capsys: pytest.CaptureFixture[str], layout: str, rate: str
) -> None:
    assert whole.export(layout, tmp_path / "out", "--sample_rate", rate) == 2
    assert f"--sample_rate {rate}: must be from 8000 to 192000" in capsys.readouterr().err


@pytest.mark.slow
def test_help_that_nobody_reads_or_that_has_no_room_is_no_traceback() -> None:
    command = f"{sys.executable} -m kinetics_sounds.pipelines.export --help"
    scripts = [f"{command} | exec >&-; exit ${{PIPESTATUS[0]}}", f"{command} > /dev/full"]
    started = [
        subprocess.Popen(["bash", "-c", each], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        for each in scripts
    ]
    found = [(each.communicate()[1], each.returncode) for each in started]

    assert found[0] == ("", 0)
    assert found[1][1] == 3
    assert found[1][0].startswith("ks-export: stopped: No space left on device: standard output")
