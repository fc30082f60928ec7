import hashlib
import json
import os
import shutil
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from kinetics_sounds import annotations, ledger, manifest, sources
from kinetics_sounds.clip import Clip, Outcome, Status
from kinetics_sounds.errors import ManifestError
from kinetics_sounds.ledger import Ledger
from kinetics_sounds.media import probe
from kinetics_sounds.pipelines import build
from kinetics_sounds.pipelines.fetching.task import ClipDone
from kinetics_sounds.pipelines.synthetic import http_server

from .conftest import Inline, inline

if TYPE_CHECKING:
    from .conftest import Folder


def arguments(folder: "Folder", out: Path, *more: str) -> list[str]:
    return [
        *("--classes", str(folder.classes), "--annotations", str(folder.annotations)),
        *("--source", f"local:{folder.videos}", "--out", str(out), "--workers", "2", *more),
    ]


@pytest.fixture(scope="module")
def built(folder: "Folder", tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int]:
    out = tmp_path_factory.mktemp("build") / "out"
    return out, build.main(arguments(folder, out))


def test_every_annotation_has_a_row_with_the_right_status(folder: "Folder", built: tuple[Path, int]) -> None:
    out, code = built

    outcomes = manifest.read(out / "manifest.parquet").outcomes

    assert code == 1
    assert {outcome.clip.key: str(outcome.status) for outcome in outcomes} == folder.expected


def test_a_clip_that_is_cut_to_its_span_is_linked_and_not_encoded(folder: "Folder", built: tuple[Path, int]) -> None:
    out, _ = built
    found = {o.clip.key: o.media for o in manifest.read(out / "manifest.parquet").outcomes if o.media}
    media = found["-trimmed_0_000007_000009"]

    assert (out / media.path).is_symlink()
    assert (out / media.path).resolve() == (folder.videos / "humming" / "-trimmed_0_000007_000009.mp4").resolve()
    assert (media.num_frames, media.fps, media.width, media.audio_rate) == (20, 10.0, 48, 24_000)


def test_clips_of_a_whole_video_are_cut_to_their_spans(built: tuple[Path, int]) -> None:
    out, _ = built
    media = {o.clip.key: o.media for o in manifest.read(out / "manifest.parquet").outcomes if o.media}

    for key in ("whole_000001_000003", "whole_000002_000004"):
        path = out / media[key].path
        video, audio = probe.spans(path)
        assert not path.is_symlink()
        assert video is not None
        assert audio is not None
        assert (video.count, video.first_seconds, video.last_seconds) == (20, 0.0, 2.0)
        assert audio.last_seconds == pytest.approx(2.0, abs=0.03)


def test_labels_with_quotes_and_slashes_name_harmless_folders(built: tuple[Path, int]) -> None:
    out, _ = built

    assert sorted(path.name for path in (out / "clips").iterdir()) == ["humming", "person's _buzz_ _ zoom"]


def test_the_report_counts_what_the_manifest_holds(folder: "Folder", built: tuple[Path, int]) -> None:
    out, _ = built
    report = json.loads((out / "report.json").read_text())

    assert report["annotated"] == len(folder.expected)
    assert report["statuses"] == dict(Counter(folder.expected.values()))
    assert report["coverage"]["test"] == {"humming": {"annotated": 1, "ok": 0}}
    assert sum(report["kinds"].values()) == len(folder.expected)


def test_a_second_run_asks_only_for_what_may_have_changed(
    folder: "Folder", built: tuple[Path, int], capsys: pytest.CaptureFixture[str]
) -> None:
    out, _ = built
    before = (out / "manifest.csv").read_bytes()

    assert build.main(arguments(folder, out, "--json")) == 1

    assert json.loads(capsys.readouterr().out)["this_run"]["clips"] == 1  # the one that was not in the source
    assert (out / "manifest.csv").read_bytes() == before


@pytest.mark.parametrize(
    ("names", "refused"), [(("door-17", "door-18", "dQw4w9WgXcQ"), True), (("dQw4w9WgXcQ",), False)]
)
def test_own_videos_are_not_asked_of_youtube_by_default(
    names: tuple[str, ...], refused: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.txt").write_text("dog\n")
    rows = [f"dog,{name},0,10,train" for name in names]
    (tmp_path / "mine.csv").write_text("\n".join(["label,youtube_id,time_start,time_end,split", *rows, ""]))
    words = ["--classes", str(tmp_path / "mine.txt"), "--annotations", str(tmp_path / "mine.csv"), "--dry_run"]

    assert build.main([*words, "--out", str(tmp_path / "out")]) == (2 if refused else 0)

    told = (
        "cannot have 2 clips of videos such as door-17, door-18 (its IDs have 11 characters); give --source local:DIR"
    )
    assert (told in capsys.readouterr().err) == refused
    assert not (tmp_path / "out").exists()


def test_a_source_that_is_no_default_must_be_given_again(
    folder: "Folder", built: tuple[Path, int], capsys: pytest.CaptureFixture[str]
) -> None:
    """Its options are not recorded; YouTube would be asked for own clips."""
    out, _ = built
    before = (out / "manifest.csv").read_bytes()
    argv = [word for word in arguments(folder, out) if word not in ("--source", f"local:{folder.videos}")]

    for more in ([], ["--dry_run"]):
        assert build.main([*argv, *more]) == 2
        told = f"--source: {out} was built from local:{folder.videos}; give --source and its options as before\n"
        assert told in capsys.readouterr().err
    assert (out / "manifest.csv").read_bytes() == before


def test_status_knows_how_many_clips_a_build_was_to_make(
    folder: "Folder", built: tuple[Path, int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert build.main(["--status", "--json", "--out", str(built[0])]) == 0

    found = json.loads(capsys.readouterr().out)
    assert found["clips"] == found["answered"] == len(folder.expected)
    assert found["statuses"] == dict(Counter(folder.expected.values()))


def test_the_command_that_follows_is_told(
    folder: "Folder", built: tuple[Path, int], capsys: pytest.CaptureFixture[str]
) -> None:
    out, _ = built

    build.main(arguments(folder, out))

    assert capsys.readouterr().out.endswith(f"\nnext: ks-shard --manifest {out / 'manifest.parquet'}\n")


def test_a_clip_whose_file_is_lost_is_made_again(folder: "Folder", built: tuple[Path, int], tmp_path: Path) -> None:
    out = tmp_path / "copy"
    shutil.copytree(built[0], out, symlinks=True)
    lost = next((out / "clips").rglob("whole_000001_000003.mp4"))
    before = lost.read_bytes()
    lost.unlink()

    build.main(arguments(folder, out))

    assert lost.read_bytes() == before


def test_a_linked_file_that_changed_in_its_source_is_audited_anew(folder: "Folder", tmp_path: Path) -> None:
    """One letter of the muxer's name in a file that plays as before; and one that became noise of the same size."""
    videos, out = tmp_path / "videos", tmp_path / "out"
    places = [folder.videos / f"humming/-trimmed_{number}_000007_000009.mp4" for number in (0, 2, 4)]
    videos.mkdir()
    for place in places:
        shutil.copy(place, videos)
    command = [*("--classes", str(folder.classes), "--annotations", str(folder.annotations)), "--workers", "1"]
    command += ["--source", f"local:{videos}", "--out", str(out)]
    build.main(command)
    before = {o.clip.youtube_id: o for o in manifest.read(out / "manifest.parquet").outcomes}
    other, noise, same = (videos / place.name for place in places)
    data = other.read_bytes()
    other.write_bytes(data.replace(b"SoundHandler", b"soundHandler"))
    noise.write_bytes(b"?" * noise.stat().st_size)

    build.main(command)
    assert {o.clip.youtube_id: o for o in manifest.read(out / "manifest.parquet").outcomes} == before
    build.main([*command, "--check_bytes"])

    after = {o.clip.youtube_id: o for o in manifest.read(out / "manifest.parquet").outcomes}
    media = after["-trimmed_0"].media
    assert data != other.read_bytes()
    assert media is not None
    assert media.sha256 == hashlib.sha256(other.read_bytes()).hexdigest()
    assert (out / media.path).samefile(other)
    assert after["-trimmed_2"].status is Status.CORRUPT
    assert after["-trimmed_4"] == before["-trimmed_4"]
    assert same.exists()


def test_permanent_outcomes_are_tried_again_only_when_asked(
    folder: "Folder", built: tuple[Path, int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "copy"
    shutil.copytree(built[0], out, symlinks=True)

    build.main(arguments(folder, out, "--retry", "corrupt", "--json"))

    assert json.loads(capsys.readouterr().out)["this_run"]["clips"] == 3


def test_sources_are_tried_in_the_order_given(folder: "Folder", tmp_path: Path) -> None:
    annotations, classes, here = tmp_path / "a.csv", tmp_path / "c.txt", tmp_path / "here"
    annotations.write_text("label,youtube_id,time_start,time_end,split\nhum,whole,1,3,val\nhum,gone,1,3,val\n")
    classes.write_text("hum\n")
    here.mkdir()
    common = ["--classes", str(classes), "--annotations", str(annotations), "--splits", "val", "--workers", "1"]

    with http_server.videos(folder.videos) as url:
        mirror = f"youtube:{url}/{{youtube_id}}.mp4"
        code = build.main([*common, "--source", f"local:{here}", "--source", mirror, "--out", str(tmp_path / "out")])

    gone, whole = manifest.read(tmp_path / "out/manifest.parquet").outcomes
    assert code == 1
    assert (whole.status, whole.source) == (Status.OK, mirror)
    assert (gone.status, gone.source) == (Status.NOT_IN_SOURCE, mirror)
    assert "404" in gone.detail
    assert "yt-dlp" in gone.tool_versions


def test_a_dry_run_says_what_would_be_asked_and_writes_nothing(
    folder: "Folder", tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert build.main(arguments(folder, tmp_path / "out", "--source", "youtube", "--dry_run")) == 0

    said = capsys.readouterr().out
    assert f"would request from local:{folder.videos}: 14 clips" in said
    assert "opened 14 of them, 8 readable and long enough by their headers" in said
    assert "would request from youtube: 7 clips" in said  # the six that are no good, and the one that is not there
    assert not (tmp_path / "out").exists()


def test_a_full_disk_stops_the_build_and_burns_no_clip(
    folder: "Folder", tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(task: Any) -> ClipDone:
        return ClipDone(outcome=Outcome(clip=task.clip, status=Status.DISK_FULL, detail="No space left on device"))

    monkeypatch.setattr(build.executors, "start", lambda *_, **__: Inline(full))
    out = tmp_path / "out"
    out.mkdir()
    for name in ("film.mp4.part", f"report.json.{os.getpid()}.part"):  # a browser's, and that of a killed build
        (out / name).touch()

    assert build.main(arguments(folder, out)) == 3

    assert [path.name for path in out.glob("*.part")] == ["film.mp4.part"]
    rows = manifest.read(out / "manifest.parquet").outcomes
    assert Counter(str(row.status) for row in rows) == {"disk_full": 1, "not_tried": len(folder.expected) - 1}
    assert "stopped: disk_full: No space left on device" in capsys.readouterr().err


def test_a_build_writes_nothing_outside_of_its_folder(
    folder: "Folder", tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So a folder for temporary files that is full, or keeps what was in it, is nothing to it."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    monkeypatch.setattr(build.executors, "start", lambda _name, function, **_: Inline(function))
    one = [*own_list(tmp_path, "hum,-trimmed_0,7,9,val"), "--source", f"local:{folder.videos}"]

    assert build.main([*one, "--out", str(tmp_path / "out")]) == 0


def test_two_builds_in_one_folder_are_refused(
    folder: "Folder", tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from kinetics_sounds import files

    with files.exclusive(tmp_path, command="ks-build"):
        assert build.main(arguments(folder, tmp_path)) == 2

    assert "another ks-build is running in this folder" in capsys.readouterr().err


def test_a_ledger_of_something_else_is_refused(
    folder: "Folder", tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "ledger.sqlite").write_bytes(b"no database" * 100)

    assert build.main(arguments(folder, tmp_path)) == 2
    assert "is not a ledger" in capsys.readouterr().err


def test_the_ledger_keeps_every_outcome_that_there_was(folder: "Folder", built: tuple[Path, int]) -> None:
    with Ledger(built[0] / "ledger.sqlite") as ledger:
        assert {entry.key: str(entry.status) for entry in ledger.latest()} == folder.expected


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every folder")
def test_a_folder_that_cannot_be_read_is_refused(
    folder: "Folder", tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0)

    assert build.main([*arguments(folder, tmp_path / "out"), "--source", f"local:{closed}"]) == 2
    assert "cannot be read" in capsys.readouterr().err


def test_a_damaged_copy_in_one_source_does_not_keep_a_good_one_away(folder: "Folder", tmp_path: Path) -> None:
    annotations, classes = tmp_path / "a.csv", tmp_path / "c.txt"
    annotations.write_text("label,youtube_id,time_start,time_end,split\nhum,whole,1,3,val\n")
    classes.write_text("hum\n")
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad/whole.mp4").write_bytes(b"\0" * 1000)
    sources = ["--source", f"local:{tmp_path / 'bad'}", "--source", f"local:{folder.videos}"]
    common = ["--classes", str(classes), "--annotations", str(annotations), "--splits", "val", "--workers", "1"]

    assert build.main([*common, *sources, "--out", str(tmp_path / "out")]) == 0

    (outcome,) = manifest.read(tmp_path / "out/manifest.parquet").outcomes
    assert outcome.source == f"local:{folder.videos}"


def own_list(folder: Path, *rows: str) -> list[str]:
    """Class list and annotations of a few clips."""
    (folder / "own.csv").write_text(
        "label,youtube_id,time_start,time_end,split\n" + "".join(f"{row}\n" for row in rows)
    )
    (folder / "own.txt").write_text("hum\n")
    lists = ["--classes", str(folder / "own.txt"), "--annotations", str(folder / "own.csv"), "--splits", "val"]
    return [*lists, "--workers", "1", "--retry_wait", "0"]


def test_a_clip_that_lies_in_its_place_already_stays_the_file_that_it_is(folder: "Folder", tmp_path: Path) -> None:
    place = tmp_path / "out/clips/hum/-trimmed_0_000007_000009.mp4"
    place.parent.mkdir(parents=True)
    shutil.copyfile(next(folder.videos.rglob(place.name)), place)
    before = place.read_bytes()

    code = build.main(
        [
            *own_list(tmp_path, "hum,-trimmed_0,7,9,val"),
            *("--source", f"local:{tmp_path / 'out/clips'}", "--out", str(tmp_path / "out")),
        ]
    )

    assert code == 0
    assert not place.is_symlink()
    assert place.read_bytes() == before


def test_a_message_holds_no_folder_of_this_machine(folder: "Folder", tmp_path: Path) -> None:
    lists = own_list(tmp_path, "hum,garbage,0,2,val", "hum,cutoff,0,2,val", "hum,empty,0,2,val")

    assert build.main([*lists, "--source", f"local:{folder.videos}", "--out", str(tmp_path / "out")]) == 1

    rows = manifest.read(tmp_path / "out/manifest.parquet").outcomes
    assert {str(row.status) for row in rows} == {"corrupt"}
    assert [row.detail for row in rows if "/" in row.detail.replace("http://", "")] == []


def test_a_source_s_folder_may_be_told_from_where_one_stands(
    folder: "Folder", tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder.videos.parent)

    assert (
        build.main([*own_list(tmp_path, "hum,whole,1,3,val"), "--source", "local:videos", "--out", str(tmp_path)]) == 0
    )

    (row,) = manifest.read(tmp_path / "manifest.parquet").outcomes
    assert row.source == f"local:{folder.videos}"


TOY = """
import pathlib
from kinetics_sounds.clip import SPLITS, FetchResult, Status

built = []


class Source:
    notice, versions, videos_per_hour, requests_per_hour = "", "", None, None
    share = dict.fromkeys(SPLITS, 1.0)

    def __init__(self, argument):
        built.append(argument)

    def candidates(self, clip):
        return ["anywhere"]

    def fetch(self, clip, location, folder):
        return FetchResult(status=Status.REMOVED, detail="a toy has nothing")
"""


def test_an_argument_that_is_no_path_stays_what_it_is_for_driver_and_workers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "toy.py").write_text(TOY)
    monkeypatch.setattr(sources, "__path__", [*sources.__path__, str(tmp_path)])
    inline(monkeypatch)

    assert build.main([*own_list(tmp_path, "hum,a,1,3,val"), "--source", "toy:x", "--out", str(tmp_path / "out")]) == 1

    module = sys.modules.pop("kinetics_sounds.sources.toy")
    del sources.toy  # type: ignore[attr-defined]
    assert module.built == ["x", "x"]  # the driver's, and the worker's
    (row,) = manifest.read(tmp_path / "out/manifest.parquet").outcomes
    assert (row.source, row.status) == ("toy:x", Status.REMOVED)


@pytest.mark.parametrize(
    ("spec", "absolute"),
    [
        ("local:videos", "local:HERE/videos"),
        ("local:/data/videos", "local:/data/videos"),
        ("local:~/videos", "local:/home/me/videos"),
        ("cvdf", "cvdf"),
        ("cvdf:parts", "cvdf:HERE/parts"),
        ("cvdf:HTTPS://host.example/k400", "cvdf:https://host.example/k400"),
        ("youtube", "youtube"),
        ("youtube:http://host/{youtube_id}", "youtube:http://host/{youtube_id}"),
    ],
)
def test_a_source_says_how_its_argument_is_told_in_another_folder(
    spec: str, absolute: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.chdir(tmp_path)

    assert sources.absolute(spec).real == absolute.replace("HERE", str(tmp_path))


def test_whoever_reads_a_ledger_slowly_does_not_keep_the_driver_from_writing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger, "PAGE", 2)
    clips = [Clip(f"id{number}", 0, 2, "hum", "val") for number in range(5)]
    with Ledger(tmp_path / "ledger.sqlite") as driver:
        driver._database.execute("PRAGMA busy_timeout = 0")
        driver.record(Outcome(clip=clip, status=Status.PRIVATE, source="a") for clip in clips)
        with Ledger(tmp_path / "ledger.sqlite", only_read=True) as reader:
            words = reader.latest()
            first = next(words)
            driver.record([Outcome(clip=clips[0], status=Status.REMOVED, source="a")])

            assert [first.key, *(word.key for word in words)] == [clip.key for clip in clips]
            with pytest.raises(ManifestError, match="read-only"):
                reader.record([Outcome(clip=clips[0], status=Status.REMOVED, source="a")])


def test_a_token_in_the_address_of_a_list_is_not_told(
    folder: "Folder", tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lists = own_list(tmp_path, "hum,whole,1,3,val")
    monkeypatch.setattr(annotations, "fetch", lambda *_: tmp_path / "own.csv")
    lists[lists.index("--annotations") + 1] = "https://host.example/own.csv?sig=hunter22"

    assert build.main([*lists, "--source", f"local:{folder.videos}", "--out", str(tmp_path / "out"), "--dry_run"]) == 0

    said = capsys.readouterr()
    assert "https://host.example/own.csv" in said.out
    assert "hunter22" not in said.out + said.err
