"""People's folders: copies of copies, trimmed or not under any name, and files that no build may touch."""

import dataclasses
import errno
import json
import os
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from kinetics_sounds import manifest
from kinetics_sounds.clip import Clip, FetchResult, Outcome, Status
from kinetics_sounds.ledger import Ledger
from kinetics_sounds.media import ffmpeg, probe
from kinetics_sounds.pipelines import build, shard
from kinetics_sounds.pipelines.fetching import trim
from kinetics_sounds.pipelines.packing import encode_sample
from kinetics_sounds.shards import index
from kinetics_sounds.sources import local

from ..conftest import video
from ..mirror import Place, clips, key, tar
from .test_archive_driver import Pool

SPAN_ALONE = "named like a whole video but as long as the span: used as the span (see --local.trimmed)"
GBK = os.fsdecode(b"\xb5\xaf\xbc\xaa")
"""A folder's name in the encoding of a machine of long ago."""
A = key("a")
"""Of the clip "a": seconds 3 to 5."""


@pytest.fixture(autouse=True)
def pool(monkeypatch: pytest.MonkeyPatch) -> Pool:
    """Tasks are carried out in this process, which saves seconds."""
    here = Pool()
    monkeypatch.setattr(build.executors, "start", lambda *_, **__: here)
    return here


@pytest.fixture(scope="session")
def long(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Eight seconds."""
    path = tmp_path_factory.mktemp("long") / "long.mp4"
    video(path, seconds=8, seed=1)
    return path.read_bytes()


@pytest.fixture
def there(tmp_path: Path) -> Place:
    """A build from one folder, `videos`, of the clip "a"."""
    (tmp_path / "videos").mkdir()
    return Place(tmp_path, f"local:{tmp_path / 'videos'}").annotate("a")


def lay(place: Place, name: str, data: bytes) -> Path:
    path = place.root / "videos" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def became(place: Place, name: str = "a") -> tuple[str, str]:
    """A clip's status and detail."""
    outcome = place.outcomes()[name]
    return str(outcome.status), outcome.detail


def origin(place: Place, name: str = "a") -> str:
    media = place.outcomes()[name].media
    assert media is not None
    return media.origin


# --- Several copies ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bad", "good"),
    [
        (f"part_0/{A}.mp4", f"repairs/{A}.mp4"),
        (f"{A}.mp4", "a.mp4"),
        (f"{A}.mp4", "a_3_5.mkv"),
        ("x/a.mp4", "y/a.mp4"),
    ],
)
def test_a_broken_copy_hides_no_sound_one_and_the_manifest_says_which_was_taken(
    there: Place, bad: str, good: str, sound: bytes, long: bytes
) -> None:
    lay(there, bad, b"\0" * 4000)
    lay(there, good, long if good.endswith("a.mp4") else sound)

    assert there.build() == 0

    told = "taken from another file of the name, since the first is corrupt"
    several = "; taken from one of several different files of the name" if bad == "x/a.mp4" else ""
    assert became(there) == ("ok", told + several)
    assert origin(there) == good


def test_a_whole_video_that_is_broken_hides_no_trimmed_copy(there: Place, sound: bytes) -> None:
    lay(there, "a.mp4", b"")
    lay(there, f"{A}.mp4", sound)

    assert there.build() == 0
    assert origin(there) == f"{A}.mp4"


def test_where_no_copy_is_sound_the_one_that_may_yet_do_is_told_and_the_others_beside_it(
    there: Place, long: bytes, tmp_path: Path
) -> None:
    video(tmp_path / "short.mp4", seconds=1)
    lay(there, f"b/{A}.mp4", b"")
    lay(there, f"c/{A}.mp4", (tmp_path / "short.mp4").read_bytes())
    lay(there, "a.mp4", b"\0" * 100)

    assert there.build() == 1

    status, detail = became(there)
    first, second, third = detail.split("; ")
    assert status == "too_short"
    assert first == f"c/{A}.mp4: the picture covers 1.00 s of the 2 s requested"
    assert second.startswith(f"b/{A}.mp4: corrupt: cannot be opened")
    assert third.startswith("a.mp4: corrupt: cannot be opened")
    assert there.build("--retry", "permanent") == 1
    assert became(there) == (status, detail)


def test_a_copy_that_the_disk_does_not_give_keeps_the_clip_from_being_given_up(
    there: Place, sound: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    lay(there, f"{A}.mp4", sound)
    lay(there, "a.mp4", b"")
    fetch = local.Source.fetch

    def fail(self: local.Source, clip: Clip, location: str, folder: Path) -> FetchResult:
        if Path(location).name == f"{A}.mp4":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return fetch(self, clip, location, folder)

    with monkeypatch.context() as patched:
        patched.setattr(local.Source, "fetch", fail)
        assert there.build("--attempts", "1") == 1
    outcome = there.outcomes()["a"]
    assert outcome.status.kind == "retry"
    assert "Input/output error" in outcome.detail
    assert "a.mp4: corrupt: cannot be opened" in outcome.detail

    assert there.build() == 0
    assert origin(there) == f"{A}.mp4"


def test_a_named_pipe_is_told_and_the_next_copy_is_taken(there: Place, long: bytes) -> None:
    os.mkfifo(there.root / f"videos/{A}.mp4")

    assert there.build() == 1
    assert became(there) == ("not_in_source", f"{A}.mp4 is a named pipe, not a file; replace it by the video itself")

    lay(there, "a.mp4", long)
    assert there.build() == 0
    assert origin(there) == "a.mp4"


def test_a_part_of_an_archive_is_named_as_the_origin(place: Place, sound: bytes) -> None:
    (place.root / "parts/train").mkdir(parents=True)
    (place.root / "parts/train/one.tar").write_bytes(tar(*clips(sound, "a")))

    assert place.annotate("a").build(sources=(f"cvdf:{place.root}/parts",)) == 0
    assert origin(place) == "train/one.tar"


def test_a_folder_of_archives_whose_name_is_not_utf_8_is_read(place: Place, sound: bytes) -> None:
    (place.root / "parts" / GBK).mkdir(parents=True)
    (place.root / "parts" / GBK / "one.tar").write_bytes(tar(*clips(sound, "a")))

    assert place.annotate("a", "b").build(sources=(f"cvdf:{place.root}/parts",)) == 1
    assert origin(place) == r"\xb5\xaf\xbc\xaa/one.tar"
    assert place.build(sources=(f"cvdf:{place.root}/parts",)) == 1


# --- Trimmed already, though named by the id alone --------------------------------------------------------------------


def test_a_file_of_an_id_s_name_that_can_only_be_the_span_is_taken_for_it_and_told(
    there: Place, sound: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    own = lay(there, "a.mp4", sound)

    assert there.build() == 0

    outcome = there.outcomes()["a"]
    assert outcome.media is not None
    assert outcome.detail == SPAN_ALONE
    assert (there.out / outcome.media.path).resolve() == own
    assert outcome.media.num_frames == 20
    assert json.loads((there.out / "report.json").read_text())["remarks"] == {SPAN_ALONE: 1}
    assert (
        "1 file ends before the end of its span (a: 2.0 s, span 3 to 5 s), so it was taken for the span itself; if it is a "
        "whole video, the times are wrong: mend them, and build with --local.trimmed no into another --out\n"
    ) in capsys.readouterr().out


def test_who_insists_that_it_is_the_whole_video_gets_what_it_holds(there: Place, sound: bytes) -> None:
    lay(there, "a.mp4", sound)

    assert there.build("--local.trimmed", "no") == 1
    assert became(there)[0] == "too_short"
    assert there.build("--retry", "too_short") == 0


def test_a_whole_video_is_cut_unless_its_owner_says_that_it_is_trimmed(
    there: Place, long: bytes, tmp_path: Path
) -> None:
    lay(there, "a.mp4", long)
    other = Place(tmp_path / "other", there.spec, rows=there.rows)
    other.root.mkdir()

    assert there.build() == 0
    assert other.build("--local.trimmed", "yes") == 0

    cuts = [next(each.out.glob("clips/*/*.mp4")) for each in (there, other)]
    assert [probe.probe(cut).seconds for cut in cuts] == pytest.approx([2.0, 2.0], abs=0.05)
    assert cuts[0].read_bytes() != cuts[1].read_bytes()  # seconds 3 to 5, and 0 to 2
    assert (became(there), became(other)) == (("ok", ""), ("ok", ""))


@pytest.mark.parametrize(
    ("seconds", "start", "end", "taken"),
    [
        (10.0, 27, 37, True),
        (8.6, 27, 37, True),
        (11.4, 27, 37, True),
        (8.4, 27, 37, False),  # neither as long as the span
        (11.6, 27, 37, False),
        (10.0, 0, 10, False),  # the same thing either way
        (10.0, 1, 11, True),
        (10.05, 1, 11, True),
        (10.3, 1, 11, False),  # a whole video, whose last second was rounded up
        (2.4, 3, 5, True),
        (2.6, 3, 5, False),
    ],
)
def test_which_lengths_can_only_be_those_of_a_span(
    seconds: float, start: int, end: int, taken: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    span = probe.Span(count=1, first_seconds=0.0, last_seconds=seconds, covered_seconds=seconds)
    monkeypatch.setattr(trim.probe, "spans", lambda _: (span, span))
    found = probe.Probe(video=None, audio=None, seconds=None, seekable=True, sound_seekable=True, other_streams="")

    assert trim.is_span_alone(Path(), found, Clip("a", start, end, "humming", "val")) is taken


def test_a_container_that_claims_the_span_s_length_and_holds_more_is_a_whole_video(there: Place, long: bytes) -> None:
    node = ffmpeg.source(lay(there, "a.mp4", long))
    made = there.root / "videos/a.mkv"
    ffmpeg.run(ffmpeg.sink(node.video, node.audio, path=made, vcodec="copy", acodec="copy"), timeout_seconds=30)
    (there.root / "videos/a.mp4").unlink()
    data = bytearray(made.read_bytes())
    place = data.index(b"\x44\x89\x88") + 3
    data[place : place + 8] = bytes.fromhex("409f400000000000")  # 2000.0 ms
    made.write_bytes(data)
    assert probe.probe(made).seconds == 2.0

    assert there.build() == 0
    assert became(there) == ("ok", "")  # cut from 3 to 5


def test_of_two_spans_of_a_video_a_file_of_its_name_is_neither(there: Place, sound: bytes) -> None:
    lay(there, "a.mp4", sound)
    there.rows.append("humming,a,30,32,train")

    assert there.build() == 1

    rows = manifest.read(there.out / "manifest.parquet").outcomes
    assert [str(row.status) for row in rows] == ["too_short", "too_short"]


# --- What a dry run says ----------------------------------------------------------------------------------------------


def test_a_dry_run_opens_some_files_and_counts_what_it_saw(
    there: Place, sound: bytes, long: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    there.annotate("b", "c", "d", "e", "f")
    lay(there, f"{A}.mp4", sound)
    lay(there, "b.mp4", long)
    lay(there, "c.mp4", sound)
    lay(there, f"{key('d')}.mp4", b"")
    lay(there, "e.mp4", sound[: len(sound) // 2])
    lay(there, "f_000003.mp4", sound)

    assert there.build("--dry_run") == 0

    said = capsys.readouterr().out.splitlines()
    assert f"would request from {there.spec}: 5 clips" in said
    assert "  opened 5 of them, 3 readable and long enough by their headers" in said
    assert any(line.startswith(f"    {key('d')}: corrupt: cannot be opened") for line in said)
    assert any(line.startswith(f"    {key('e')}: corrupt: cannot be opened") for line in said)
    assert f"    1 of them {SPAN_ALONE}" in said
    renamed = (
        "f_000003.mp4 has no end time in its name; if it is the clip's span, give --local.names '{id}_{start:06d}'"
    )
    assert f"  files not used: 1, such as: {renamed}" in said
    assert said[-1].startswith("expect 3 of 6 clips at most")
    assert not there.out.exists()

    there.build()
    capsys.readouterr()
    assert sum(status == "ok" for status in there.statuses().values()) == 3
    assert became(there, "f") == ("not_in_source", renamed)


def test_what_a_forecast_opens_is_drawn_and_the_same_each_time(
    there: Place, sound: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(40):
        there.annotate(f"v{number}")
        lay(there, f"{key(f'v{number}')}.mp4", sound if number % 2 else b"")

    assert there.build("--dry_run", "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert there.build("--dry_run", "--json") == 0
    again = json.loads(capsys.readouterr().out)
    assert again | {"free_bytes": 0} == document | {"free_bytes": 0}  # others write to the disk too

    (source,) = document["sources"]
    assert (source["clips"], source["opened"], source["files"]) == (40, 20, 40)
    assert 0 < source["good"] < 20
    assert len(source["bad"]) == 20 - source["good"]
    assert source["expected"] == pytest.approx(40 * source["good"] / 20)
    assert document["expected"] == source["expected"]
    assert document["annotated"] == 41


def test_a_file_that_may_not_be_read_does_not_end_a_dry_run(
    there: Place, sound: bytes, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lay(there, f"{A}.mp4", sound)

    def refuse(*_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(local.Source, "fetch", refuse)  # not by its mode: root may read everything

    assert there.build("--dry_run") == 0
    assert f"    {A}: unreadable: Permission denied" in capsys.readouterr().out


def test_a_wrong_folder_is_told_by_what_lies_in_it(
    there: Place, sound: bytes, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("movies/b.mp4", "movies/a title.mp4", "notes.txt", "z.mp4"):
        lay(there, name, sound)
    told = "none of its 4 files (such as movies/a title.mp4, movies/b.mp4, notes.txt) is named after a requested clip"

    assert there.build("--dry_run") == 0
    assert f"  {told}; recognised names: ID_000027_000037.mp4" in capsys.readouterr().out

    assert there.build() == 1
    assert f"{there.spec}: {told}" in caplog.text


def test_a_folder_whose_clips_were_built_or_rejected_is_no_wrong_one(
    there: Place, sound: bytes, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    lay(there, f"{A}.mp4", b"")
    there.annotate("c")
    assert there.build() == 1
    capsys.readouterr()

    assert there.build("--dry_run") == 0
    rejected = capsys.readouterr().out
    assert there.build() == 1
    lay(there, f"{A}.mp4", sound)
    assert there.build("--retry=permanent") == 1
    capsys.readouterr()
    assert there.build("--dry_run") == 0
    built = capsys.readouterr().out

    told = "1 clip without success before, not tried again (to try: --retry retry,stop,permanent)"
    assert f"\n  {told}\n" in rejected
    assert f"\n1 clip not available from any source\n  such as {key('c')}\n" in rejected
    assert "without success" not in built
    assert "named after" not in rejected + caplog.text + built


@pytest.mark.parametrize("retry", ["permanent", "stop", "retry,stop"])
def test_a_clip_that_was_never_found_is_not_one_without_success(
    there: Place, sound: bytes, capsys: pytest.CaptureFixture[str], retry: str
) -> None:
    lay(there, "foo.mp4", sound)
    assert there.build() == 1
    capsys.readouterr()

    assert there.build("--dry_run", f"--retry={retry}") == 0

    said = capsys.readouterr().out
    assert "none of its 1 files (such as foo.mp4) is named after a requested clip" in said
    assert f"\n1 clip not available from any source\n  such as {A}\n" in said
    assert "without success" not in said


# --- Names that are no UTF-8 ------------------------------------------------------------------------------------------


def test_a_folder_whose_name_is_not_utf_8_is_read_linked_and_packed(
    there: Place, sound: bytes, long: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    linked = lay(there, f"{GBK}/{A}.mp4", sound)
    lay(there.annotate("b"), f"{GBK}/b.mp4", long)
    lay(there.annotate("c"), f"{GBK}/{key('c')}.mp4", b"\0" * 100)

    assert there.build() == 1

    assert there.statuses() == {"a": "ok", "b": "ok", "c": "corrupt"}
    assert origin(there) == rf"\xb5\xaf\xbc\xaa/{A}.mp4"
    (place,) = there.out.glob(f"clips/*/{A}.mp4")
    assert place.readlink() == linked
    monkeypatch.setattr(build.executors, "start", lambda *_, **__: Pool(encode_sample.pack))
    assert shard.main(["--manifest", str(there.out / "manifest.parquet"), "--short_side", "32"]) == 0


def test_a_build_may_lie_in_such_a_folder_too(
    there: Place, long: bytes, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root = there.root / GBK
    lay(there, "a.mp4", long)
    words = there.arguments()
    root.mkdir()
    monkeypatch.chdir(root)
    for option, value in {"--source": "local:../videos", "--out": "out"}.items():
        words[words.index(option) + 1] = value

    assert build.main(words) == 0
    assert build.main(words) == 0

    assert (root / "out/manifest.parquet").is_file()
    capsys.readouterr().out.encode()


# --- Files of the user's own ------------------------------------------------------------------------------------------


def in_place(place: Place, data: bytes, suffix: str = ".mp4") -> Path:
    """A file where the clip would be put."""
    path = place.out / f"clips/humming/{A}{suffix}"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("where", ["out/clips", "."])
@pytest.mark.parametrize("other", ["", "videos/a.mp4", "videos/a_3_5.mp4"])
def test_an_original_that_lies_where_its_cut_would_go_is_left_alone(
    there: Place, where: str, other: str, sound: bytes, long: bytes
) -> None:
    """Eight seconds under the name of two; whether or not there is another copy that would do."""
    own = in_place(there, long)
    if other:
        (there.root / other).write_bytes(sound if "3_5" in other else long)

    assert there.build(sources=(f"local:{there.root / where}", there.spec)) == 1

    assert own.read_bytes() == long
    assert not own.is_symlink()
    status, detail = became(there)
    assert status == "occupied"
    assert f"clips/humming/{A}.mp4 is your own file, which the clip would overwrite" in detail
    assert "move it out of the build's clips folder" in detail
    own.rename(there.root / f"videos/{A}.mp4")
    assert there.build() == 0


def test_an_original_is_left_alone_whichever_source_has_the_clip(place: Place, sound: bytes, long: bytes) -> None:
    (place.root / "parts/train").mkdir(parents=True)
    (place.root / "parts/train/one.tar").write_bytes(tar(*clips(sound, "a")))
    own = in_place(place.annotate("a"), long)

    assert place.build(sources=(f"cvdf:{place.root}/parts", f"local:{place.out}/clips")) == 1
    assert became(place)[0] == "occupied"
    assert own.read_bytes() == long


def test_an_original_that_is_the_clip_stays_and_is_the_clip(there: Place, sound: bytes) -> None:
    own = in_place(there, sound)

    assert there.build(sources=(f"local:{there.out}/clips",)) == 0
    assert own.read_bytes() == sound
    assert not own.is_symlink()


def test_a_link_in_the_clip_s_place_is_replaced_and_what_it_leads_to_is_not(there: Place, long: bytes) -> None:
    own = lay(there, f"{A}.mp4", long)
    place = in_place(there, b"")
    place.unlink()
    place.symlink_to(own)

    assert there.build() == 0
    assert own.read_bytes() == long
    assert not place.is_symlink()


@pytest.mark.parametrize("name", [f"{A}.mp4", "a.mp4"], ids=["linked", "cut"])
def test_a_clip_is_on_disk_with_its_name_before_it_is_told_of(
    there: Place, disk_acts: list[str], name: str, sound: bytes, long: bytes
) -> None:
    lay(there, name, sound if name == f"{A}.mp4" else long)

    assert there.build() == 0

    made = f"{A}.mp4" if name == f"{A}.mp4" else "cut.mp4"
    place = disk_acts.index(f"rename {made} {A}.mp4")
    assert disk_acts[place + 1] == "sync humming"
    assert (disk_acts[place - 1] == "sync cut.mp4") == (made == "cut.mp4")  # a source's own file is not ours to sync


def test_a_build_within_the_source_s_folder_does_not_feed_on_itself(there: Place, long: bytes) -> None:
    """A cut that lost its end is found there under a trimmed clip's name; it is made anew from the original."""
    lay(there, "a.mp4", long)
    assert there.build(sources=(f"local:{there.root}",)) == 0
    (cut,) = there.out.glob("clips/*/*.mp4")
    whole = cut.read_bytes()
    cut.write_bytes(whole[: len(whole) // 2])

    assert there.build(sources=(f"local:{there.root}",)) == 0

    assert cut.read_bytes() == whole
    assert origin(there) == "videos/a.mp4"


@pytest.mark.parametrize("rot", [lambda data: data[:-1] + bytes([data[-1] ^ 1]), lambda data: bytes(len(data))])
def test_rot_in_a_build_within_the_source_s_folder_is_not_taken_for_a_copy(
    there: Place, long: bytes, rot: Callable[[bytes], bytes]
) -> None:
    """The damaged cut lies where the source finds it, under a trimmed clip's name; the video itself is there too."""
    lay(there, "a.mp4", long)
    spec = f"local:{there.root}"
    assert there.build(sources=(spec,)) == 0
    (made,) = there.out.glob(f"clips/*/{A}.mp4")
    whole = made.read_bytes()
    made.write_bytes(rot(whole))

    assert there.build("--check_bytes", sources=(spec,)) == 0

    assert made.read_bytes() == whole
    assert origin(there) == "videos/a.mp4"


def test_rot_that_a_killed_check_has_found_is_not_taken_for_a_copy_by_a_later_run(there: Place, long: bytes) -> None:
    lay(there, "a.mp4", long)
    spec = f"local:{there.root}"
    assert there.build(sources=(spec,)) == 0
    (made,) = there.out.glob(f"clips/*/{A}.mp4")
    whole = made.read_bytes()
    made.write_bytes(bytes(len(whole)))
    with Ledger(there.out / "ledger.sqlite") as ledger:  # what the check says before the clip is made anew
        (entry,) = ledger.latest()
        found = Outcome(clip=Clip("a", 3, 5, "humming", "train"), status=Status.NOT_TRIED, source=entry.source)
        assert found.clip.key == entry.key
        ledger.record([found])

    assert there.build(sources=(spec,)) == 0

    assert made.read_bytes() == whole


def test_clips_that_vanished_are_told_of_and_made_again(
    there: Place, long: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    there.annotate("b", "c", "d")
    for name in "abcd":
        lay(there, f"{name}.mp4", long)
    assert there.build() == 0
    assert not caplog.records
    for name in "ab":
        (there.out / f"clips/humming/{key(name)}.mp4").unlink()
    (there.out / f"clips/humming/{key('c')}.mp4").write_bytes(b"")

    assert there.build() == 0

    assert [record.getMessage() for record in caplog.records] == [
        f"{there.out}: 2 clips had vanished, to be made again",
        f"{there.out}: 1 clip had changed, to be made again",
    ]
    caplog.clear()
    assert there.build() == 0
    assert not caplog.records


def test_clips_of_another_build_below_the_source_s_folder_are_no_originals(
    there: Place, long: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """The whole video is gone, the other build's cut of it is there; who wants it names that build's clips."""
    whole = lay(there, "a.mp4", long)
    other = there.root / "videos/mine"
    assert build.main([*there.arguments(), "--out", str(other)]) == 0
    whole.unlink()
    assert list(other.glob(f"clips/*/{A}.mp4"))

    assert there.build() == 1

    assert became(there)[0] == "not_in_source"
    told = "has the clips of a build, which are not taken for originals; to use them, add --source"
    said = f"'{other}/clips': {told} 'local:{other}/clips'"
    assert [record.getMessage() for record in caplog.records].count(said) == 1
    assert there.build(sources=(f"local:{other}/clips",)) == 0


def test_originals_beside_the_clips_of_another_build_are_found(there: Place, long: bytes) -> None:
    other = there.root / "videos/mine"
    other.mkdir(parents=True)
    assert build.main([*there.arguments(), "--out", str(other)]) == 1  # nothing there yet
    (other / "clips").mkdir(exist_ok=True)
    (other / "own").mkdir()
    (other / "own/a.mp4").write_bytes(long)

    assert there.build() == 0


def test_an_own_file_in_a_build_below_another_build_is_left_alone(there: Place, long: bytes, sound: bytes) -> None:
    lay(there, "a.mp4", long)
    above = there.root / "videos/above"
    assert build.main([*there.arguments(), "--out", str(above)]) == 0
    below = above / "below"
    own = below / f"clips/humming/{A}.mp4"
    own.parent.mkdir(parents=True)
    own.write_bytes(sound)

    assert build.main([*there.arguments(), "--out", str(below)]) == 0  # it is the clip, by its name

    assert own.read_bytes() == sound
    assert not own.is_symlink()


def test_a_folder_s_name_writes_no_line_of_its_own(there: Place, long: bytes, caplog: pytest.LogCaptureFixture) -> None:
    lay(there, "a.mp4", long)
    other = there.root / "videos/ev\x1b[31mil\nks-build: all clips ok"
    other.mkdir(parents=True)
    assert build.main([*there.arguments(), "--out", str(other)]) == 0
    caplog.clear()

    there.build()

    (told,) = [text for record in caplog.records if "clips of a build" in (text := record.getMessage())]
    assert told.isprintable()


def test_the_folder_of_a_source_is_no_output_folder(
    there: Place, sound: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    lay(there, f"{A}.mp4", sound)
    videos = there.root / "videos"

    assert build.main([*there.arguments(), "--out", f"{videos}/../videos"]) == 2

    assert f"is the folder of --source local:{videos}, so clips and originals would be mixed" in capsys.readouterr().err
    assert [path.name for path in videos.iterdir()] == [f"{A}.mp4"]


def test_an_original_is_left_alone_by_a_later_run_of_other_sources(there: Place, long: bytes, sound: bytes) -> None:
    own = in_place(there, long)
    assert there.build(sources=(f"local:{there.out}/clips",)) == 1
    assert became(there)[0] == "occupied"
    (there.root / f"videos/{A}.mp4").write_bytes(sound)

    assert there.build() == 1

    assert own.read_bytes() == long
    assert not own.is_symlink()


def test_a_clip_that_a_killed_build_left_in_its_place_is_that_clip(there: Place, long: bytes) -> None:
    """It was published and never recorded."""
    lay(there, "a.mp4", long)
    assert there.build(sources=(f"local:{there.root}",)) == 0
    (cut,) = there.out.glob("clips/*/*.mp4")
    before = cut.read_bytes()
    (there.out / "ledger.sqlite").unlink()

    assert there.build() == 0
    assert there.build(sources=(f"local:{there.root}",)) == 0
    assert cut.read_bytes() == before


def test_a_file_of_which_an_older_ledger_does_not_say_where_it_came_from_is_kept(there: Place, sound: bytes) -> None:
    """Version 0.1.0 kept no origins: what lies in the clip's place may be the user's own."""
    own = in_place(there, sound)
    spec = f"local:{there.out}/clips"
    assert there.build(sources=(spec,)) == 0
    outcome = there.outcomes()["a"]
    assert outcome.media is not None
    with Ledger(there.out / "ledger.sqlite") as ledger:
        ledger.record([dataclasses.replace(outcome, media=dataclasses.replace(outcome.media, origin="", bytes=1))])
    own.write_bytes(b"no video")
    (there.root / "videos/a_3_5.mp4").write_bytes(sound)

    assert there.build(sources=(spec, there.spec)) == 1

    assert own.read_bytes() == b"no video"
    assert became(there)[0] == "occupied"


# --- Copies of the manifest -------------------------------------------------------------------------------------------


@pytest.fixture
def built(there: Place, sound: bytes) -> Place:
    """A build of two clips, one of each of two labels."""
    there.labels.append("tapping")
    there.annotate("b", label="tapping")
    for name in "ab":
        lay(there, f"{key(name)}.mp4", sound)
    assert there.build() == 0
    return there


def packed(monkeypatch: pytest.MonkeyPatch, path: Path, out: Path) -> dict[str, bytes]:
    """The tars that ks-shard makes of a manifest."""
    monkeypatch.setattr(build.executors, "start", lambda *_, **__: Pool(encode_sample.pack))
    assert shard.main(["--manifest", str(path), "--out", str(out), "--short_side", "32"]) == 0
    return {str(tar.relative_to(out)): tar.read_bytes() for tar in out.rglob("*.tar")}


def test_a_copy_of_a_manifest_is_packed_as_the_manifest_is(
    built: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = built.out / "mine.parquet"
    pd.read_parquet(built.out / "manifest.parquet").to_parquet(copy)
    tars = packed(monkeypatch, built.out / "manifest.parquet", tmp_path / "one")
    capsys.readouterr()

    assert packed(monkeypatch, copy, tmp_path / "two") == tars
    assert "class list: mine (labels derived from the rows of mine.parquet)" in capsys.readouterr().out
    assert packed(monkeypatch, built.out / "manifest.csv", tmp_path / "three") == tars
    assert index.read_dataset(tmp_path / "three").labels == ("humming", "tapping")


def test_a_copy_away_from_its_build_is_told_where_it_belongs(
    built: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (built.out / "manifest.csv").rename(tmp_path / "mine.csv")

    assert shard.main(["--manifest", str(tmp_path / "mine.csv")]) == 2
    assert "its clips (clips/humming/a_000003_000005.mp4 and so on) are not beside it; keep" in capsys.readouterr().err


def test_a_filtered_copy_in_the_manifest_s_own_place_keeps_no_build_from_going_on(
    built: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    path = built.out / "manifest.parquet"
    table = pd.read_parquet(path)
    table[table.label == "tapping"].to_parquet(path)

    built.labels.remove("tapping")
    assert built.build() == 2
    told = capsys.readouterr().err
    assert "contains a build of other classes" in told
    assert f"choose another --out: --source local:{built.out}/clips takes the clips over\n" in told
    built.labels.append("tapping")
    assert built.build() == 0
    assert len(manifest.read(path).outcomes) == 2
