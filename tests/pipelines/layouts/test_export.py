"""ks-export: what is there is kept, what is killed goes on, and nothing is mixed."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kinetics_sounds import files, fingerprints
from kinetics_sounds.classes import ClassList
from kinetics_sounds.clip import label_folder
from kinetics_sounds.errors import FaultError
from kinetics_sounds.media import extract
from kinetics_sounds.pipelines import export, shard
from kinetics_sounds.pipelines.exporting import journal
from kinetics_sounds.pipelines.exporting.placing import Place
from kinetics_sounds.shards.index import SkippedClip

from .conftest import LABELS, ROWS, Build, outcome, replaced, tree

pytestmark = [pytest.mark.slow]
HERE = pytest.mark.usefixtures("here")


def state(folder: Path) -> dict[str, tuple[int, int]]:
    """Which file each is, and when it was written."""
    found = {path: path.stat() for path in folder.rglob("*") if path.is_file()}
    return {str(path): (each.st_ino, each.st_mtime_ns) for path, each in found.items()}


@HERE
@pytest.mark.parametrize("option", [(), ("--check_bytes",)])
def test_a_second_run_makes_and_writes_nothing(
    option: tuple[str, ...],
    whole: Build,
    copy: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(export.executors, "start", None)
    before = state(copy)

    assert whole.export("ogm", copy, *option) == 1

    assert state(copy) == before
    assert (
        "left out of train: short_000001_000004: too_short: has 3 frames at one per second" in capsys.readouterr().err
    )


def test_killed_and_run_again_by_more_workers_it_ends_with_the_same_bytes(
    whole: Build, undisturbed: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    words = ["ogm", "--manifest", str(whole.manifest), "--out", str(out)]
    command = [sys.executable, "-m", "kinetics_sounds.pipelines.export", *words, "--workers", "1"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while not list(out.glob("audio/*/*.wav")):
            assert process.poll() is None
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
    assert not (out / "my_train.txt").exists()

    assert whole.export("ogm", out, "--workers", "2") == 1

    assert tree(out) == tree(undisturbed)
    assert not [path for path in out.rglob("*") if path.name.endswith(".part") or path.name == files.SCRATCH]


@HERE
def test_what_is_missing_or_of_another_size_is_made_anew_and_nothing_else(
    whole: Build, undisturbed: Path, copy: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (copy / "visual/train/-abc_000007_000012/frame_00002.jpg").unlink()
    (copy / "audio/val/c_000003_000008.wav").write_bytes(b"short")
    (copy / "my_train.txt").write_text("changed\n")
    kept = copy / "audio/test/d_000000_000005.wav"
    before = kept.stat().st_mtime_ns

    assert whole.export("ogm", copy) == 1

    assert tree(copy) == tree(undisturbed)
    assert kept.stat().st_mtime_ns == before
    assert "-abc_000007_000012: visual/train/-abc_000007_000012: has 4 files" in caplog.text
    assert caplog.text.count("it will be rebuilt") == 2


@HERE
def test_a_flipped_byte_is_found_with_check_bytes(whole: Build, undisturbed: Path, copy: Path) -> None:
    frame = copy / "visual/train/-abc_000007_000012/frame_00002.jpg"
    data = bytearray(frame.read_bytes())
    data[-3] ^= 1
    frame.write_bytes(data)
    torn = (copy / "export.jsonl").read_bytes()
    (copy / "export.jsonl").write_bytes(torn[: torn.rindex(b'"places"')])  # a kill as the last line was written

    assert whole.export("ogm", copy) == 1
    assert frame.read_bytes() == data
    assert whole.export("ogm", copy, "--check_bytes") == 1

    assert tree(copy) == tree(undisturbed)


@HERE
def test_a_journal_that_names_other_files_is_not_believed(
    whole: Build, undisturbed: Path, copy: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "elsewhere.wav").write_bytes(b"12")
    place = {"../elsewhere.wav": Place(files=1, bytes=2, sha256="0" * 64)}
    made = journal.Made(places=place, counts={"frames": 5})
    with (copy / "export.jsonl").open("ab") as lines:
        lines.write(journal.line("-abc_000007_000012", made))

    assert whole.export("ogm", copy) == 1

    assert "-abc_000007_000012: is recorded otherwise; it will be rebuilt" in caplog.text
    assert tree(copy) == tree(undisturbed)


@HERE
def test_a_changed_manifest_is_refused_with_what_differs(
    whole: Build, other: Build, copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = state(copy)

    def refused(*options: str) -> str:
        assert other.export("ogm", copy, *options) == 2
        assert state(copy) == before
        return capsys.readouterr().err

    rows = {each.clip.youtube_id: each for each in whole.outcomes}
    other.write([*(each for key, each in rows.items() if key != "c"), replaced(rows["c"], label="playing drums")])
    assert "contains an export of another manifest, settings or tools (other content, selection)" in refused()
    other.write([each for key, each in rows.items() if key != "d"])
    assert "(other content, selection)" in refused()
    path = other.folder / "clips/0/-abc_000007_000012.mp4"
    path.write_bytes(path.read_bytes() + b"\0")
    other.write([*(each for key, each in rows.items() if key != "-abc"), outcome(other.folder, ROWS[0], path)])
    assert "(other content)" in refused()
    other.write(list(rows.values()), labels=(*LABELS, "applauding"))
    assert "(other labels)" in refused()
    other.write(list(rows.values()))
    assert "(other options)" in refused("--short_side", "32")
    assert other.export("ogm", copy) == 1


@HERE
def test_another_layout_or_a_folder_of_something_else_is_refused(
    whole: Build, copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert whole.export("videofolder", copy) == 2
    assert "(other layout, options, recipe)" in capsys.readouterr().err
    (tmp_path / "full").mkdir()
    (tmp_path / "full/notes.txt").write_text("mine")
    assert whole.export("ogm", tmp_path / "full") == 2
    assert "full: contains 'notes.txt' and no export; choose another --out" in capsys.readouterr().err
    (copy / "export.json").write_text("{")
    assert whole.export("ogm", copy) == 2
    assert "export.json: cannot be read" in capsys.readouterr().err


@HERE
def test_what_lies_among_the_clips_and_is_none_of_them_is_named(
    whole: Build, copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (copy / "visual/train/x_000000_000005").mkdir()
    (copy / "audio/val/more.wav").write_bytes(b"")
    (copy / "audio/val/.hidden").write_bytes(b"")
    (copy / "README").write_text("mine, and no loader's")

    assert whole.export("ogm", copy) == 2

    assert (
        "contains files of something else: audio/val/more.wav, visual/train/x_000000_000005;" in capsys.readouterr().err
    )


@HERE
def test_clips_that_are_missing_or_changed_are_named_before_anything_is_made(
    other: Build, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = sorted(other.folder.rglob("*.mp4"))
    paths[0].unlink()
    paths[1].write_bytes(paths[1].read_bytes() + b"more")

    assert other.export("ogm", tmp_path / "out") == 2

    told = capsys.readouterr().err
    assert "2 clips differ from the manifest; rebuild it with the options of the build (ks-build" in told
    assert f"\n{paths[0]}: is missing\n" in told
    assert not (tmp_path / "out/visual").exists()


@HERE
def test_a_flipped_byte_of_a_clip_is_noticed_as_it_is_read(
    other: Build, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = other.path("-abc")
    data = bytearray(path.read_bytes())
    data[2000] ^= 1
    path.write_bytes(data)

    assert other.export("videofolder", tmp_path / "out") == 2

    assert f"{path}: its SHA-256 differs, so it is not the clip in the manifest" in capsys.readouterr().err
    assert not list((tmp_path / "out").rglob("*.mp4"))


@HERE
@pytest.mark.parametrize(("number", "code"), [(errno.ENOSPC, 3), (errno.EIO, 4)])
def test_a_disk_that_is_full_or_fails_is_told_as_that(
    number: int, code: int, whole: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number), "somewhere")

    monkeypatch.setattr(extract, "frames", fails)

    assert whole.export("ogm", tmp_path / "out") == code

    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [".lock", "export.json", "export.jsonl"]


@HERE
def test_a_clip_that_does_not_decode_is_named_and_left_out(
    other: Build, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = other.folder / "clips/0/-abc_000007_000012.mp4"
    path.write_bytes(b"\0" * 5000)
    rest = [each for each in other.outcomes if each.clip.youtube_id != "-abc"]
    other.write([outcome(other.folder, ROWS[0], path), *rest])

    assert other.export("ogm", tmp_path / "out", "--json") == 1

    told = capsys.readouterr()
    assert "left out of train: -abc_000007_000012: corrupt: " in told.err
    found = json.loads(told.out)
    assert found["splits"] == {
        "train": {"clips": 1, "left": 2},
        "val": {"clips": 1, "left": 0},
        "test": {"clips": 1, "left": 0},
    }
    ok = [each.clip for each in other.outcomes if each.media]
    assert found["selection"] == fingerprints.selection((each.key, each.label, each.split) for each in ok)
    assert (tmp_path / "out/my_train.txt").read_text() == "b_1_000000_000005,5,0\n"


@HERE
def test_two_clips_or_labels_of_one_name_are_refused(
    other: Build, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = {each.clip.youtube_id: each for each in other.outcomes if each.media}
    other.write([rows["d"], replaced(rows["c"], youtube_id="d", time_start=0, time_end=9)])
    assert other.export("ogm_vggsound", tmp_path / "a") == 2
    assert "d_000000_000005 and d_000000_000009 would both be named d_0" in capsys.readouterr().err.replace(
        "d_000000_000009 and d_000000_000005", "d_000000_000005 and d_000000_000009"
    )
    assert label_folder("a/b") == label_folder("a?b")
    other.write([replaced(rows["d"], label="a/b"), replaced(rows["c"], label="a?b")], labels=("a/b", "a?b"))
    assert other.export("mmaction2", tmp_path / "b") == 2
    assert "the labels 'a/b' and 'a?b' would share the folder 'a_b'" in capsys.readouterr().err


@HERE
def test_shards_suffice_for_frames_and_sound(other: Build, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    build = other
    rows = {each.clip.youtube_id: each for each in build.outcomes}
    build.write([rows["c"], rows["short"]], classes=ClassList("mine", LABELS, "a reconstruction"))
    assert shard.main(["--manifest", str(build.manifest), "--short_side", "32", "--workers", "1"]) == 0
    words = ["--shards", str(build.folder / "shards"), "--workers", "1"]

    capsys.readouterr()
    assert export.main(["ogm", *words, "--out", str(tmp_path / "small")]) == 1
    assert "class list: mine (a reconstruction)\n" in capsys.readouterr().out
    assert build.export("ogm", tmp_path / "large", "--short_side", "32") == 1
    assert export.main(["mmaction2", *words, "--out", str(tmp_path / "videos")]) == 0

    small, large = tree(tmp_path / "small"), tree(tmp_path / "large")
    assert {name for name in small if name != "export.json"} == {name for name in large if name != "export.json"}
    assert all(small[name] == large[name] for name in small if name.endswith(".txt"))
    facts = [json.loads(each["export.json"]) for each in (small, large)]
    assert facts[0]["selection"] == facts[1]["selection"]
    assert facts[0]["note"] == facts[1]["note"] == "a reconstruction"
    assert len(list((tmp_path / "videos").rglob("*.mp4"))) == 2
    capsys.readouterr()
    [tar] = (build.folder / "shards/val").glob("*.tar")
    data = bytearray(tar.read_bytes())
    data[1000] ^= 1
    tar.write_bytes(data)
    assert export.main(["ogm", *words, "--out", str(tmp_path / "bad")]) == 2
    assert "c_000003_000008" in capsys.readouterr().err


def test_a_journal_is_read_back_and_what_is_none_of_its_lines_passed_over(tmp_path: Path) -> None:
    made = journal.Made(places={"a/b.wav": Place(files=1, bytes=2, sha256="0" * 64)}, counts={"frames": 5})
    left = SkippedClip(key="b", status="too_short", detail="has 3\nframes")
    path = tmp_path / "export.jsonl"
    odd = (
        b"[]",
        b"{}",
        b"{" * 5000,
        b"\xff",
        b'{"key": "c", "places": {"x": {"files": -1}}, "counts": {}}',
        b'{"key": 1}',
    )
    path.write_bytes(
        journal.line("a", made) + b"\n".join(odd) + b"\n" + journal.line("b", left) + journal.line("c", made)[:-9]
    )

    assert journal.read(path) == {"a": made, "b": left}
    writer = journal.Writer(path)
    writer.add("c", made)
    writer.close()
    assert journal.read(path) == {"a": made, "b": left, "c": made}


@HERE
def test_a_bug_in_a_worker_is_a_bug(whole: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def odd(*_: object, **__: object) -> None:
        raise FaultError("odd")

    monkeypatch.setattr(extract, "frames", odd)

    assert whole.export("ogm", tmp_path / "out") == 4
