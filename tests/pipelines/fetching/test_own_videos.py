"""A build of somebody's own recordings tells what is likely to be wrong with their files and rows."""

import csv
import json
import re
from pathlib import Path

import pytest

from kinetics_sounds import annotations
from kinetics_sounds.clip import Clip
from kinetics_sounds.media import ffmpeg
from kinetics_sounds.pipelines import build
from kinetics_sounds.sources import local

from ..conftest import inline, video

HEAD = "label,youtube_id,time_start,time_end,split\n"


def arguments(folder: Path, *rows: str) -> list[str]:
    (folder / "mine.csv").write_text(HEAD + "".join(f"{row}\n" for row in rows))
    (folder / "mine.txt").write_text("\n".join(dict.fromkeys(row.partition(",")[0] for row in rows)))
    argv = ["--classes", str(folder / "mine.txt"), "--annotations", str(folder / "mine.csv"), "--workers", "1"]
    return [*argv, "--source", f"local:{folder / 'videos'}", "--local.trimmed", "no", "--out", str(folder / "out")]


def put(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / "videos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())


def test_two_recordings_of_one_name_are_told_by_the_dry_run_and_the_build(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    put(tmp_path, "phone/IMG_1.mp4", "camera/IMG_1.mp4")
    argv = arguments(tmp_path, "dog,IMG_1,0,2,train", "cat,IMG_1,3,5,train")
    told = "1 name stands for several different files: IMG_1 (camera/IMG_1.mp4, phone/IMG_1.mp4)"

    assert build.main([*argv, "--dry_run"]) == 0
    assert told in capsys.readouterr().out
    assert build.main(argv) == 1
    assert caplog.text.count(told) == 1


def test_clips_whose_name_is_of_several_files_say_so_and_every_run_counts_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The camera's video ends after 2 s, so the later clip is taken from the phone's; only one file has the third name."""
    inline(monkeypatch)
    video(tmp_path / "videos/camera/IMG_1.mp4", seconds=2)
    video(tmp_path / "videos/phone/IMG_1.mp4", seconds=4)
    video(tmp_path / "videos/phone/IMG_2.mp4", seconds=2)
    argv = arguments(tmp_path, "dog,IMG_1,0,2,train", "dog,IMG_1,2,4,train", "dog,IMG_2,0,2,train")
    asked: list[int] = []
    ambiguous = local.Source.ambiguous

    def counted(self: local.Source, clips: list[Clip]) -> tuple[frozenset[str], str]:
        asked.append(len(clips))
        return ambiguous(self, clips)

    monkeypatch.setattr(local.Source, "ambiguous", counted)
    one = "taken from one of several different files of the name"
    another = "taken from another file of the name, since the first is"
    told_of = f"\nof the ok clips, 2 {one}\nof the ok clips, 1 {another} not usable\n"

    assert build.main(argv) == 0
    assert told_of in capsys.readouterr().out
    assert asked == [3]  # all clips at once: each one by itself takes the square of their number
    monkeypatch.delattr(local, "walk")  # with nothing to do, the folder is not read again
    assert build.main(argv) == 0
    assert told_of in capsys.readouterr().out

    with (tmp_path / "out/manifest.csv").open() as file:
        told = {row["key"]: (row["origin"], row["detail"]) for row in csv.DictReader(file)}
    assert told == {
        "IMG_1_000000_000002": ("camera/IMG_1.mp4", one),
        "IMG_1_000002_000004": ("phone/IMG_1.mp4", f"{another} too_short; {one}"),
        "IMG_2_000000_000002": ("phone/IMG_2.mp4", ""),
    }


def test_a_video_in_several_splits_is_told_by_the_dry_run_and_the_build(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    inline(monkeypatch)
    video(tmp_path / "videos/a.mp4", seconds=2)
    argv = arguments(tmp_path, "dog,a,0,1,train", "dog,a,1,2,test")

    for each in ([*argv, "--dry_run"], argv):
        assert build.main(each) == 0
        told = "\n1 video has clips in more than one split (such as a: test, train), so scores may be too high\n"
        assert told in capsys.readouterr().out


def test_overlapping_rows_of_two_classes_are_warned_of_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    put(tmp_path, "a.mp4")
    argv = arguments(tmp_path, "dog,a,0,4,train", "cat,a,3,5,train")
    told = "1 video with overlapping clips of two classes, one of which may be wrong: a_000000_000004 'dog' and a_0"

    assert build.main([*argv, "--dry_run"]) == 0
    assert caplog.text.count(told) == 1
    assert build.main(argv) == 1
    assert caplog.text.count(told) == 2
    caplog.clear()
    build.main([*argv[4:], "--clips", str(tmp_path / "mine.csv"), "--out", str(tmp_path / "other"), "--dry_run"])
    assert caplog.text.count(told) == 1


def test_where_names_have_the_class_one_id_is_no_single_video(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    inline(monkeypatch)
    for name in ("dog/a.mp4", "cat/a.mp4"):
        video(tmp_path / "videos" / name, seconds=4)
    argv = [*arguments(tmp_path, "dog,a,0,3,train", "cat,a,1,4,test"), "--local.names", "{label}/{id}"]

    for each in ([*argv, "--dry_run"], argv):
        assert build.main(each) == 0
        assert "in more than one split" not in capsys.readouterr().out
        assert caplog.text == ""
    assert json.loads((tmp_path / "out/report.json").read_text())["in_several_splits"] == {}


def test_a_file_that_is_cut_off_is_told_from_one_that_is_too_short(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The half of a video of 8 s, whose table of frames comes first, has its first seconds."""
    inline(monkeypatch)
    video(tmp_path / "whole.mp4", seconds=8)
    table_first = {"codec": "copy", "movflags": "+faststart", "format": "mp4"}
    ffmpeg.run(
        ffmpeg.sink(ffmpeg.source(tmp_path / "whole.mp4"), path=tmp_path / "a.mp4", **table_first), timeout_seconds=30
    )
    put(tmp_path, "half.mp4")
    data = (tmp_path / "a.mp4").read_bytes()
    (tmp_path / "videos/half.mp4").write_bytes(data[: len(data) // 2])
    video(tmp_path / "videos/short.mp4", seconds=4)

    assert build.main(arguments(tmp_path, "dog,half,0,1,train", "dog,half,0,8,train", "dog,short,0,8,train")) == 1

    with (tmp_path / "out/manifest.csv").open() as file:
        told = {row["key"]: (row["status"], row["detail"]) for row in csv.DictReader(file)}
    assert told["half_000000_000001"] == ("ok", "")
    status, detail = told["half_000000_000008"]
    covers = r"the picture covers [34]\.\d\d s of the 8 s requested"
    assert status == "too_short"
    assert re.fullmatch(covers + r"; the file says 8\.0 s, but ends after [34]\.\d s: it may be cut off", detail)
    assert told["short_000000_000008"] == ("too_short", "the picture covers 4.00 s of the 8 s requested")


def test_clips_with_a_corrected_label_are_told_until_they_are_made_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    inline(monkeypatch)
    video(tmp_path / "videos/a.mp4", seconds=3)
    argv = arguments(tmp_path, "dog,a,0,1,train", "dog,a,1,2,train", "cat,a,2,3,train")
    assert build.main(argv) == 0
    assert "former label" not in capsys.readouterr().out
    arguments(tmp_path, "dog,a,0,1,train", "cat,a,1,2,train", "cat,a,2,3,train")
    old, new = (tmp_path / "out/clips" / label / "a_000001_000002.mp4" for label in ("dog", "cat"))

    assert build.main(argv) == 0

    assert "\n1 clip lies in the folder of a former label (clips/dog/a_000001_000002.mp4)" in capsys.readouterr().out
    assert (old.is_file(), new.is_file()) == (True, False)
    old.unlink()
    assert build.main(argv) == 0
    assert "former label" not in capsys.readouterr().out
    assert new.is_file()


def test_duplicate_rows_and_names_in_another_case_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put(tmp_path, "IMG_1.mp4", "b.mp4")
    argv = arguments(tmp_path, "dog,img_1,0,2,train", "dog,b,0,2,train", "dog,b,0,2,train")

    assert build.main([*argv, "--dry_run"]) == 0

    said = capsys.readouterr().out
    assert "mine.csv: 3 rows, 2 clips, 1 duplicate row of a clip\n" in said
    assert (
        "files not used: 1, such as: IMG_1.mp4 is img_1 but for upper and lower case; rename the file, or change"
        in said
    )
    build.main([*argv, "--dry_run", "--json"])
    assert json.loads(capsys.readouterr().out)["annotations"] == {"rows": 3, "repeated": 1, "other_classes": 0}


def test_rows_that_contradict_earlier_ones_are_told_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put(tmp_path, "a.mp4", "b.mp4")
    rows = [f"{label},{name},0,2,train" for label in ("dog", "cat") for name in ("a", "b")]

    assert build.main([*arguments(tmp_path, *rows), "--dry_run"]) == 2

    assert capsys.readouterr().err.count("; remove one of the two rows\n") == 2


def test_labels_of_a_list_that_are_nearly_the_same_are_warned_about(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    put(tmp_path, "a.mp4")
    argv = arguments(tmp_path, "clapping,a,0,2,train", "clapping,a,2,4,train", "claping,a,4,6,train")
    told = "classes with nearly the same name: 'claping' (1 clip) and 'clapping' (2 clips)"

    assert build.main(["--clips", argv[3], *argv[4:], "--dry_run"]) == 0
    assert caplog.text.count(told) == 1
    caplog.clear()
    assert build.main([*argv[:2], "--clips", *argv[3:], "--dry_run"]) == 0  # whose classes were chosen
    assert told not in caplog.text


@pytest.mark.parametrize(
    "rows", [["door-17,clapping,train"], ["IMG_1,clapping,train", "v_Archery_g01_c01,Archery,all"]]
)
def test_keys_of_a_data_set_s_files_are_refused_before_any_annotations_are_sought(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, rows: list[str]
) -> None:
    monkeypatch.setattr(annotations, "fetch", None)
    (tmp_path / "clips.csv").write_text("\n".join(["key,label,split", *rows]))
    argv = ["--clips", str(tmp_path / "clips.csv"), "--source", f"local:{tmp_path}", "--out", str(tmp_path / "out")]

    assert build.main(argv) == 2

    said = capsys.readouterr().err
    assert (
        f"such as {rows[0].partition(',')[0]!r}, have no times and are no IDs of YouTube: they name files of a" in said
    )
    assert "list them with examples/list_folders.py, then: ks-build" in said
