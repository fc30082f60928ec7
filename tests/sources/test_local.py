"""A folder's clips are found however they lie there, and what is wrong with the folder is said."""

import os
from pathlib import Path
from typing import Literal

import pytest

from kinetics_sounds import sources
from kinetics_sounds.clip import SUFFIXES, Clip, FetchResult, Status
from kinetics_sounds.errors import SettingsError, SourceError
from kinetics_sounds.sources.local import Options, Source

CLIP = Clip("5JzkrOVhPOw", 27, 37, "bowling", "val")
KEY = "5JzkrOVhPOw_000027_000037"


def put(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())


def found(folder: Path, clip: Clip = CLIP) -> str | None:
    """Where a source finds a clip first, relative to its folder."""
    return next(iter(all_found(folder, clip)), None)


def all_found(folder: Path, clip: Clip = CLIP) -> list[str]:
    """Every place where a source finds a clip, relative to its folder."""
    return [str(Path(place).relative_to(folder)) for place in Source(str(folder)).candidates(clip)]


# --- Finding ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        f"{KEY}.mp4",
        f"bowling/{KEY}.mp4",
        f"playing piano/{KEY}.mp4",
        f"a/b/c/d/{KEY}.mp4",
        f".hidden/{KEY}.mp4",
        *(f"{KEY}{suffix}" for suffix in SUFFIXES),
        f"{KEY}.MP4",
        "5JzkrOVhPOw.mp4",
        "bowling/5JzkrOVhPOw.webm",
        "5JzkrOVhPOw_27_37.mp4",
        "5JzkrOVhPOw_27000_37000.mp4",
        f"{KEY}.mp4.mkv",
        "5JzkrOVhPOw.webm.MP4",
    ],
)
def test_a_clip_is_found_flat_in_class_folders_and_deeper(name: str, tmp_path: Path) -> None:
    put(tmp_path, name)

    assert found(tmp_path) == name


@pytest.mark.parametrize(
    "name",
    [
        f"{KEY}.mp4.part",
        f"{KEY}.txt",
        KEY,
        f"{KEY}.mp4/other.txt",
        "5JzkrOVhPOw_000027_000038.mp4",
        "5JzkrOVhPOw_27_38.mp4",
        "5JzkrOVhPOw_27000_38000.mp4",
        "5JzkrOVhPOw_027_037.mp4",
        "5JzkrOVhPOw_000027.mp4",
        f"{KEY}.txt.mp4",
        "5jzkrovhpow.mp4",
        "a title.5JzkrOVhPOw.mp4",
        f" {KEY}.mp4",
        ".mp4",
    ],
)
def test_other_files_are_not_taken_for_the_clip(name: str, tmp_path: Path) -> None:
    put(tmp_path, name)

    assert found(tmp_path) is None


def test_an_empty_folder_has_nothing(tmp_path: Path) -> None:
    assert found(tmp_path) is None


@pytest.mark.parametrize("youtube_id", ["-abcdefghij", "_", "a_000001_000011", "x" * 64])
def test_odd_ids_are_found_too(youtube_id: str, tmp_path: Path) -> None:
    clip = Clip(youtube_id, 1, 11, "bowling", "val")
    put(tmp_path, f"{clip.key}.mp4")

    assert found(tmp_path, clip) == f"{clip.key}.mp4"


@pytest.mark.parametrize("worse", SUFFIXES[1:])
def test_the_better_container_wins_wherever_it_lies(worse: str, tmp_path: Path) -> None:
    put(tmp_path, f"a/{KEY}{worse}", f"z/{KEY}.mp4", f"zz/{KEY}{worse}")

    assert found(tmp_path) == f"z/{KEY}.mp4"


def test_of_two_alike_the_first_by_name_wins(tmp_path: Path) -> None:
    put(tmp_path, f"b/{KEY}.mp4", f"a/{KEY}.mp4", f"c/{KEY}.mp4")

    assert found(tmp_path) == f"a/{KEY}.mp4"


def test_a_trimmed_clip_beats_the_whole_video_even_in_a_worse_container(tmp_path: Path) -> None:
    put(tmp_path, "5JzkrOVhPOw.mp4", f"other/{KEY}.avi")

    assert found(tmp_path) == f"other/{KEY}.avi"


def test_all_copies_are_found_trimmed_ones_first_and_each_kind_by_container_and_path(tmp_path: Path) -> None:
    whole = ["a/5JzkrOVhPOw.mp4", "z/5JzkrOVhPOw.mp4", "a/5JzkrOVhPOw.mkv"]
    trimmed = [
        f"b/{KEY}.mp4",
        f"c/{KEY}.mp4.mp4",
        f"a/{KEY}.webm",
        "a/5JzkrOVhPOw_27_37.mp4",
        "a/5JzkrOVhPOw_27000_37000.avi",
    ]
    put(tmp_path, *reversed(whole), *reversed(trimmed))

    assert all_found(tmp_path) == [*trimmed, *whole]


def test_a_name_that_is_a_clip_s_in_two_ways_is_found_once(tmp_path: Path) -> None:
    """Six digits are six digits, padded or not."""
    put(tmp_path, "abc_100000_100010.mp4")

    assert all_found(tmp_path, Clip("abc", 100_000, 100_010, "bowling", "val")) == ["abc_100000_100010.mp4"]


def test_a_folder_is_read_once(tmp_path: Path) -> None:
    source = Source(str(tmp_path))
    assert source.candidates(CLIP) == []
    put(tmp_path, f"{KEY}.mp4")

    assert source.candidates(CLIP) == []
    assert Source(str(tmp_path)).candidates(CLIP) == [f"{tmp_path}/{KEY}.mp4"]


def test_a_location_holds_in_another_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path, f"videos/{KEY}.mp4")
    monkeypatch.chdir(tmp_path)
    (location,) = Source("videos").candidates(CLIP)
    monkeypatch.chdir("/")

    assert location == f"{tmp_path}/videos/{KEY}.mp4"
    assert Source(f"{tmp_path}/videos").fetch(CLIP, location, tmp_path).status is Status.OK


def test_a_home_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path, f"videos/{KEY}.mp4")
    monkeypatch.setenv("HOME", str(tmp_path))

    assert Source("~/videos").candidates(CLIP) == [f"{tmp_path}/videos/{KEY}.mp4"]


# --- Links ------------------------------------------------------------------------------------------------------------


def test_links_to_files_and_folders_are_followed(tmp_path: Path) -> None:
    put(tmp_path, f"disk/{KEY}.mp4", "disk/abc.mp4")
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "bowling").symlink_to(tmp_path / "disk")

    assert found(tmp_path / "videos") == f"bowling/{KEY}.mp4"


def test_a_folder_that_is_a_link_is_read(tmp_path: Path) -> None:
    put(tmp_path, f"disk/{KEY}.mp4")
    (tmp_path / "link").symlink_to(tmp_path / "disk")

    assert found(tmp_path / "link") == f"{KEY}.mp4"


@pytest.mark.timeout(20)
def test_links_that_lead_round_in_circles_end(tmp_path: Path) -> None:
    put(tmp_path, f"a/b/{KEY}.mp4", "c/abc.mp4")
    for number in range(5):  # each may be entered from each: more paths than can be walked
        (tmp_path / "a" / f"up{number}").symlink_to(tmp_path)
        (tmp_path / "a" / "b" / f"here{number}").symlink_to(".")
        (tmp_path / "c" / f"across{number}").symlink_to("../a")

    assert found(tmp_path) == f"a/b/{KEY}.mp4"


def test_a_link_to_nowhere_is_bad_luck_when_it_is_fetched(tmp_path: Path) -> None:
    (tmp_path / f"{KEY}.mp4").symlink_to(tmp_path / "nowhere.mp4")
    source = Source(str(tmp_path))
    (location,) = source.candidates(CLIP)

    got = source.fetch(CLIP, location, tmp_path)

    assert (got.status, got.detail) == (Status.NOT_IN_SOURCE, f"{KEY}.mp4 is a broken link")


def test_a_link_to_itself_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    put(tmp_path, f"{KEY}.mp4")

    assert found(tmp_path) == f"{KEY}.mp4"


# --- Fetching ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "trimmed"), [(f"a/{KEY}.mkv", True), ("5JzkrOVhPOw.mp4", None)])
def test_a_file_is_handed_over_where_it_lies(name: str, trimmed: bool | None, tmp_path: Path) -> None:
    put(tmp_path / "videos", name)
    source, work = Source(str(tmp_path / "videos")), tmp_path / "work"
    work.mkdir()
    (location,) = source.candidates(CLIP)

    got = source.fetch(CLIP, location, work)

    assert got == FetchResult(status=Status.OK, path=tmp_path / "videos" / name, trimmed=trimmed, origin=name)
    assert list(work.iterdir()) == []
    assert (tmp_path / "videos" / name).read_bytes() == name.encode()


def test_a_whole_video_whose_id_looks_like_a_key_is_not_taken_for_trimmed(tmp_path: Path) -> None:
    clip = Clip(KEY, 5, 15, "bowling", "val")
    put(tmp_path, f"{KEY}.mp4")

    assert not Source(str(tmp_path)).fetch(clip, f"{tmp_path}/{KEY}.mp4", tmp_path).trimmed


def test_a_file_that_has_gone_since_is_a_status(tmp_path: Path) -> None:
    put(tmp_path, f"{KEY}.mp4")
    source = Source(str(tmp_path))
    (location,) = source.candidates(CLIP)
    Path(location).unlink()

    got = source.fetch(CLIP, location, tmp_path)

    assert (got.status, got.path) == (Status.NOT_IN_SOURCE, None)
    assert got.detail == f"{KEY}.mp4 was deleted after the folder was read"


@pytest.mark.parametrize(("insisted", "trimmed"), [("auto", None), ("yes", True), ("no", False)])
def test_who_knows_what_files_of_an_id_s_name_are_may_say_it(
    insisted: Literal["auto", "yes", "no"], trimmed: bool | None, tmp_path: Path
) -> None:
    put(tmp_path, f"{KEY}.mp4", "5JzkrOVhPOw.mp4")
    source = Source(str(tmp_path), Options(trimmed=insisted))

    assert [source.fetch(CLIP, place, tmp_path).trimmed for place in source.candidates(CLIP)] == [True, trimmed]


@pytest.mark.timeout(20)
def test_a_pipe_or_a_folder_in_a_video_s_place_is_named_and_never_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / f"{KEY}.mp4")
    source = Source(str(tmp_path))
    (location,) = source.candidates(CLIP)

    got = source.fetch(CLIP, location, tmp_path)

    assert (got.status, got.path) == (Status.NOT_IN_SOURCE, None)
    assert got.detail == f"{KEY}.mp4 is a named pipe, not a file; replace it by the video itself"
    (tmp_path / "5JzkrOVhPOw.mp4").mkdir()
    assert source.fetch(CLIP, f"{tmp_path}/5JzkrOVhPOw.mp4", tmp_path).detail.startswith("5JzkrOVhPOw.mp4 is a folder")


def test_where_a_file_comes_from_is_told_in_utf_8(tmp_path: Path) -> None:
    """The folder's name is Chinese in the encoding of a machine of long ago."""
    folder = tmp_path / os.fsdecode(b"\xb5\xaf\xbc\xaa \xc3\xa9")
    put(folder, f"{KEY}.mp4")
    source = Source(str(tmp_path))
    (location,) = source.candidates(CLIP)

    got = source.fetch(CLIP, location, tmp_path)

    assert got.path == folder / f"{KEY}.mp4"
    assert got.origin == rf"\xb5\xaf\xbc\xaa é/{KEY}.mp4"


# --- What is told of a folder -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "start", "told"),
    [
        ("a/5JzkrOVhPOw_000027.mp4", 27, "{id}_{start:06d}"),
        ("5JzkrOVhPOw_27.mkv", 27, "{id}_{start}"),
        ("5JzkrOVhPOw_27000.mp4", 27, "{id}_{start_ms}"),
        ("5JzkrOVhPOw_0.mp4", 0, "{id}_{start}"),
    ],
)
def test_a_file_named_by_its_start_alone_is_told_with_the_pattern_that_it_needs(
    name: str, start: int, told: str, tmp_path: Path
) -> None:
    put(tmp_path, name)
    clip = Clip("5JzkrOVhPOw", start, 37, "bowling", "val")

    assert Source(str(tmp_path)).candidates(clip) == []
    said = Source(str(tmp_path)).near_miss(clip)
    assert said == f"{name} has no end time in its name; if it is the clip's span, give --local.names '{told}'"
    (location,) = Source(str(tmp_path), Options(names=told)).candidates(clip)
    assert location == f"{tmp_path}/{name}"


@pytest.mark.parametrize("name", ["a/IMG_1002.mp4", "Img_1002_000000_000010.MOV"])
def test_a_file_whose_name_differs_in_case_is_told(name: str, tmp_path: Path) -> None:
    put(tmp_path, name, "IMG_1003.mp4")
    clip = Clip("img_1002", 0, 10, "bowling", "val")

    said = Source(str(tmp_path)).near_miss(clip)

    assert said.startswith(f"{name} is img_1002")
    assert said.endswith(" but for upper and lower case; rename the file, or change the row")
    assert Source(str(tmp_path)).near_miss(Clip("img_1004", 0, 10, "bowling", "val")) == ""
    assert Source(str(tmp_path)).near_miss(Clip("IMG_1003", 0, 10, "bowling", "val")) == ""  # that is its name


@pytest.mark.parametrize("name", ["a/IMG_1002.MXF", "img_1002_000000_000010.dv"])
def test_a_video_in_a_container_that_is_not_read_is_told_if_its_name_is_the_clip_s(name: str, tmp_path: Path) -> None:
    put(tmp_path, name, "IMG_1003.txt", "IMG_1004.mp4", "IMG_1004.gif")
    clip = Clip("IMG_1002" if "IMG" in name else "img_1002", 0, 10, "bowling", "val")
    source = Source(str(tmp_path))

    assert source.candidates(clip) == []
    told = f"{name} is in a container that is not read; convert it to mp4, such as with ffmpeg"
    assert source.near_miss(clip) == told
    assert [source.near_miss(Clip(f"IMG_100{number}", 0, 10, "bowling", "val")) for number in (1, 3)] == ["", ""]
    deeper = Source(str(tmp_path), Options(names="a/{id}"))
    assert deeper.near_miss(clip) == (told if name.startswith("a/") else "")


def test_a_folder_says_how_many_files_it_has_and_three_of_them(tmp_path: Path) -> None:
    put(tmp_path, "z.txt", "b/y.mp4", "b/x.mp4", "a/1.mp4", "c.mp4")
    source = Source(str(tmp_path))

    assert source.seen() == (5, ["a/1.mp4", "b/x.mp4", "b/y.mp4"])
    assert source.near_miss(CLIP) == ""
    (told,) = sources.advice([], found=0, files=5, first=source.seen()[1], patterns=source.patterns)
    assert told.startswith("none of its 5 files (such as a/1.mp4, b/x.mp4, b/y.mp4) is named after a requested clip")
    assert told.endswith(
        "recognised names: ID_000027_000037.mp4, ID_27_37.mp4, ID_27000_37000.mp4 (milliseconds), ID.mp4"
    )
    assert sources.advice([], found=1, files=5, first=(), patterns=()) == []
    (empty,) = sources.advice([], found=0, files=0, first=(), patterns=("ID.mp4",))
    assert empty == "no file was found in it that is named after a requested clip; recognised names: ID.mp4"


def test_a_name_is_not_of_several_files_if_one_has_the_times_or_they_are_of_two_containers(tmp_path: Path) -> None:
    put(
        tmp_path,
        f"{KEY}.mp4",
        f"x/{CLIP.youtube_id}.mp4",
        f"other/{CLIP.youtube_id}.mp4",
        "IMG_1.mp4",
        "long/IMG_1.webm",
    )

    assert Source(str(tmp_path)).ambiguous([CLIP, Clip("IMG_1", 0, 2, "bowling", "val")]) == (frozenset(), "")


def test_a_name_of_several_different_files_is_told_once_with_them(tmp_path: Path) -> None:
    put(tmp_path, "phone/IMG_1.mp4", "camera/IMG_1.mp4", "phone/IMG_2.mp4", f"a/{KEY}.mp4", f"other/{KEY}.mp4")
    clips = [Clip("IMG_1", start, start + 2, "bowling", "val") for start in (0, 3)] + [CLIP]
    put(tmp_path, "one/same.mp4")
    (tmp_path / "same.mp4").write_bytes(b"one/same.mp4")  # a copy
    (tmp_path / "lost.mp4").symlink_to("nowhere")
    put(tmp_path, "one/lost.mp4")
    clips += [Clip(name, 0, 2, "bowling", "val") for name in ("IMG_2", "same", "lost")]

    keys, said = Source(str(tmp_path)).ambiguous(clips)

    assert keys == {"IMG_1_000000_000002", "IMG_1_000003_000005"}
    assert said.startswith(
        "1 name stands for several different files: IMG_1 (camera/IMG_1.mp4, phone/IMG_1.mp4); the first is"
    )
    assert Source(str(tmp_path), Options(names="phone/{id}")).ambiguous(clips) == (frozenset(), "")
    put(tmp_path, "camera/IMG_2.mp4")
    two = "IMG_1 (camera/IMG_1.mp4, phone/IMG_1.mp4), IMG_2 (camera/IMG_2.mp4, phone/IMG_2.mp4)"
    assert (
        f"2 names stand for several different files: {two}; the first is" in Source(str(tmp_path)).ambiguous(clips)[1]
    )


def test_a_file_that_goes_while_names_are_compared_is_no_other_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path, "phone/IMG_1.mp4", "camera/IMG_1.mp4")
    source, clip = Source(str(tmp_path)), Clip("IMG_1", 0, 2, "bowling", "val")
    assert source.ambiguous([clip])[0] == {clip.key}
    (tmp_path / "phone/IMG_1.mp4").unlink()
    monkeypatch.setattr(Path, "exists", lambda _: True)  # it was there when it was looked for

    assert source.ambiguous([clip]) == (frozenset(), "")


def test_what_tells_more_comes_before_a_container_that_is_not_read(tmp_path: Path) -> None:
    put(tmp_path, "a_000027.mp4", "a.mxf", "B.mp4", "b.mxf", "c.gif", "d.mxf")
    source = Source(str(tmp_path))

    said = [source.near_miss(Clip(name, 27, 37, "bowling", "val")) for name in "abcd"]
    assert said[0].startswith("a_000027.mp4 has no end time")
    assert said[1].startswith("B.mp4 is b but for upper and lower case")
    assert said[2] == ""  # it never has sound
    assert said[3].startswith("d.mxf is in a container that is not read")


# --- What is refused --------------------------------------------------------------------------------------------------


def test_a_source_without_a_folder_is_refused() -> None:
    with pytest.raises(SourceError, match="--source local needs a folder: --source local:DIR"):
        sources.load("local")


def test_a_folder_that_is_not_there_or_a_file_is_refused(tmp_path: Path) -> None:
    put(tmp_path, "file")

    with pytest.raises(SourceError, match=f"--source local:{tmp_path}/none: .*cannot be read: No such file"):
        sources.load(f"local:{tmp_path}/none")
    with pytest.raises(SourceError, match=f"--source local:{tmp_path}/file: .*cannot be read: Not a directory"):
        sources.load(f"local:{tmp_path}/file")
    with pytest.raises(SourceError, match=r"--source local:~no-such-user/x: .*cannot be read: No such file"):
        sources.load("local:~no-such-user/x")


def test_a_folder_inside_that_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path, f"open/{KEY}.mp4", "shut/x.mp4")
    scan = os.scandir

    def refuse(path: str | Path) -> object:
        if str(path).endswith("shut"):
            raise PermissionError(13, "Permission denied", path)
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)  # not by its mode: root may read everything

    with pytest.raises(SourceError, match=f"{tmp_path}/shut: the folder cannot be read: Permission denied"):
        found(tmp_path)


def test_a_source_has_no_notice_and_no_tools(tmp_path: Path) -> None:
    source = sources.load(f"local:{tmp_path}")

    assert (source.notice, source.versions) == ("", "")


@pytest.mark.parametrize("spec", ["", "locale:x", "__init__", "http://x"])
def test_a_source_that_does_not_exist_is_told_the_valid_ones(spec: str) -> None:
    with pytest.raises(SettingsError, match=r"no source is called '.*'; there are: .*local, youtube"):
        sources.load(spec)
