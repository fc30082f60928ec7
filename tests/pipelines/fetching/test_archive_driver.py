"""Whole builds from a mirror that is made here and served over HTTP, with real clips and the faults that mirrors have."""

import contextlib
import errno
import gzip
import json
import os
import random
import signal
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kinetics_sounds import files, manifest
from kinetics_sounds.archives import http_stream, reader, tar_stream
from kinetics_sounds.archives.wanted import read_once
from kinetics_sounds.clip import Status
from kinetics_sounds.pipelines import build
from kinetics_sounds.pipelines.executors import Cause, Failed
from kinetics_sounds.pipelines.fetching import driver
from kinetics_sounds.pipelines.fetching.task import PartTask
from kinetics_sounds.pipelines.fetching.worker import work
from kinetics_sounds.pipelines.synthetic import http_server

from ..conftest import Inline, video
from ..mirror import Fault, Mirror, Place, clips, key, link, tar


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_stream, "BACKOFF", replace(http_stream.BACKOFF, longest_seconds=0.001))
    monkeypatch.setattr(http_stream, "ATTEMPTS", 2)
    monkeypatch.setattr(driver, "SECONDS_BETWEEN_LOOKS", 0.01)


class Pool(Inline):
    """Carries tasks out here, and keeps them for the test to see."""

    def __init__(self, do: Callable[[Any], Any] = work) -> None:
        super().__init__(do)
        self.done: list[Any] = []

    def submit(self, task: Any, *, timeout_seconds: float) -> None:
        super().submit(task, timeout_seconds=timeout_seconds)
        self.done.append(task)

    def finished(self, seconds: float) -> list[tuple[Any, Any]]:
        if seconds and not self.tasks:
            time.sleep(seconds)
        return super().finished(seconds)


@pytest.fixture
def pool(monkeypatch: pytest.MonkeyPatch) -> Pool:
    """Tasks are carried out in this process, which the mirror's impatience needs and which saves seconds."""
    here = Pool()
    monkeypatch.setattr(build.executors, "start", lambda *_, **__: here)
    return here


# What comes of it.


def test_the_wanted_clips_are_kept_and_nothing_else(place: Place, mirror: Mirror, sound: bytes, pool: Pool) -> None:
    no_moov = sound.replace(b"moov", b"free")
    mirror.parts(
        "train",
        plain=tar(*clips(sound, "a", "-b"), (f"./{key('broken')}.mp4", no_moov), *clips(sound, "other")),
        zipped=gzip.compress(tar(("deep/er/" + key("deep") + ".mp4", sound), ("readme.txt", b"hello"))),
        others=tar(*clips(sound, "other2", "other3")),
    )
    mirror.parts(
        "val",
        hostile=tar(
            link(f"{key('link')}.mp4", "/etc/passwd"),
            link(f"{key('hard')}.mp4", f"./{key('other4')}.mp4", tarfile.LNKTYPE),
            (f"../../../{key('up')}.mp4", sound),
            (f"/abs/{key('abs')}.mp4", sound),
            ("../../../../evil_000003_000005.txt", b"evil"),
            (f"{key('empty')}.mp4", b""),
            *clips(sound, "other4"),
        ),
    )
    mirror.put("replacement_for_corrupted_k400.tgz", gzip.compress(tar(*clips(sound, "broken", "other5"))))
    place.annotate("a", "-b", "broken", "deep", "gone").annotate("other", "other2", label="humming not")
    place.annotate("link", "hard", "up", "abs", "empty", split="val")

    assert place.build() == 1

    assert place.statuses() == {
        **dict.fromkeys(["a", "-b", "broken", "deep", "up", "abs"], "ok"),
        **dict.fromkeys(["gone", "link", "hard"], "not_in_source"),
        "empty": "corrupt",
    }
    assert {outcome.source for outcome in place.outcomes().values()} == {mirror.spec}
    kept = ["a", "-b", "broken", "deep", "up", "abs"]
    assert place.files() == {f"clips/humming/{key(name)}.mp4" for name in kept}
    assert all((place.out / name).read_bytes() == sound for name in place.files())
    assert not list(place.root.rglob("evil*"))
    assert mirror.parts_read() == {
        "replacement_for_corrupted_k400.tgz": 1,
        **{f"train/{name}.tar.gz": 1 for name in ("plain", "zipped", "others")},
        "val/hostile.tar.gz": 1,
    }

    before = (place.out / "manifest.csv").read_bytes()
    assert place.build() == 1  # asks nothing but the lists
    assert mirror.parts_read() == {}
    assert (place.out / "manifest.csv").read_bytes() == before
    report = json.loads((place.out / "report.json").read_text())
    assert report["this_run"]["tries"] == 0


def test_no_part_is_stored(place: Place, mirror: Mirror, sound: bytes, pool: Pool) -> None:
    noise = random.Random(0).randbytes(8_000_000)
    mirror.parts("train", **{f"part_{n}": tar(*clips(noise, "x", "y", "z"), *clips(sound, f"a{n}")) for n in range(3)})
    place.annotate("a0", "a1", "a2")
    over, peak = threading.Event(), [0]

    def watch() -> None:
        while not over.wait(0.002):
            size = 0
            for folder, _, names in os.walk(place.out):
                for name in names:
                    with contextlib.suppress(OSError):
                        size += (Path(folder) / name).stat().st_size
            peak[0] = max(peak[0], size)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        assert place.build() == 0
    finally:
        over.set()
        watcher.join()

    assert len(sound) < peak[0] < 1_000_000  # of parts of 24 million bytes each


def test_a_build_that_was_stopped_asks_only_for_the_parts_that_are_missing(
    place: Place, mirror: Mirror, sound: bytes, pool: Pool
) -> None:
    mirror.parts("train", **{f"part_{number}": tar(*clips(sound, f"a{number}")) for number in range(4)})
    place.annotate("a0", "a1", "a2", "a3", "gone")
    mirror.asked = lambda part: os.kill(os.getpid(), signal.SIGTERM) if "part_2" in part else None

    assert place.build() == 3

    assert place.statuses() == {
        **dict.fromkeys(["a0", "a1"], "ok"),
        **dict.fromkeys(["a2", "a3", "gone"], "not_tried"),
    }
    assert mirror.parts_read() == {f"train/part_{number}.tar.gz": 1 for number in (0, 1, 2)}
    mirror.asked = lambda _part: None
    assert place.build() == 1
    assert mirror.parts_read() == {
        f"train/part_{number}.tar.gz": 1 for number in (2, 3)
    }  # 2: its clip had no place yet
    assert place.statuses() == {**dict.fromkeys(["a0", "a1", "a2", "a3"], "ok"), "gone": "not_in_source"}


def test_a_part_that_breaks_gives_its_clips_so_far_and_its_word_to_the_rest(
    place: Place, mirror: Mirror, sound: bytes, pool: Pool
) -> None:
    whole = tar(*clips(sound, "a", "b"))
    mirror.parts("train", broken=whole, fine=tar(*clips(sound, "c")))
    mirror.put("train/broken.tar.gz", whole, always=Fault(cut=len(whole) // 2))
    mirror.parts("val", fine=tar())
    place.annotate("a", "b", "c", "gone").annotate("gone_val", split="val")

    assert place.build("--attempts", "3") == 1

    assert place.statuses() == {
        **dict.fromkeys(["a", "c"], "ok"),
        **dict.fromkeys(["b", "gone"], "truncated"),
        "gone_val": "not_in_source",
    }
    assert "part train/broken.tar.gz" in place.outcomes()["b"].detail
    assert mirror.parts_read()["train/broken.tar.gz"] == 3 * 2  # tries of ours, connections of each
    cut = [task.clip.youtube_id for task in pool.done if not isinstance(task, PartTask)]
    assert cut == ["a", "c"]  # once, though its part was read three times

    mirror.put("train/broken.tar.gz", whole)
    assert place.build() == 1
    assert mirror.parts_read() == {"train/broken.tar.gz": 1}
    assert place.statuses()["b"] == "ok"
    assert place.statuses()["gone"] == "not_in_source"


def test_a_part_that_breaks_once_is_read_again_in_the_same_run(
    place: Place, mirror: Mirror, sound: bytes, pool: Pool
) -> None:
    whole = tar(*clips(sound, "a", "b"))
    mirror.parts("train", part=whole)
    mirror.put("train/part.tar.gz", whole, *[Fault(cut=len(whole) // 2)] * 2)
    place.annotate("a", "b")

    assert place.build() == 0
    assert place.files() == {f"clips/humming/{key(name)}.mp4" for name in "ab"}


def test_a_part_that_is_missing_is_told_at_once_and_asked_again_by_the_next_run(
    place: Place, mirror: Mirror, sound: bytes, pool: Pool, caplog: pytest.LogCaptureFixture
) -> None:
    mirror.parts("train", here=tar(*clips(sound, "a")), missing=b"")
    del mirror.files[f"{mirror.root}train/missing.tar.gz"]
    place.annotate("a", "b")

    assert place.build("--attempts", "2") == 1
    assert place.statuses() == {"a": "ok", "b": "http_4xx"}
    assert "HTTP 404" in place.outcomes()["b"].detail
    told = [record.message for record in caplog.records if "missing.tar.gz" in record.message]
    first, last = told
    assert last.startswith("http_4xx: part train/missing.tar.gz")
    assert "HTTP 404" in last
    assert first == f"{last}; trying again"
    assert mirror.parts_read() == {"train/here.tar.gz": 1, "train/missing.tar.gz": 2}

    mirror.put("train/missing.tar.gz", tar(*clips(sound, "b")))
    assert place.build() == 0
    assert mirror.parts_read() == {"train/missing.tar.gz": 1}


def test_a_damaged_part_is_asked_again_only_when_that_is_wished(
    place: Place, mirror: Mirror, sound: bytes, pool: Pool
) -> None:
    whole = tar(*clips(sound, "a", "b"))
    mirror.parts("train", part=_spoilt(whole, "b"))
    place.annotate("a", "b")

    assert place.build() == 1
    assert place.statuses() == {"a": "ok", "b": "not_in_source"}  # what is damaged is the part
    assert "the tar is damaged" in place.outcomes()["b"].detail
    assert place.outcomes()["b"].detail.endswith("once it is fixed there, build again with --retry retry,corrupt")
    assert mirror.parts_read() == {"train/part.tar.gz": 1}
    mirror.put("train/part.tar.gz", whole)
    assert place.build() == 1
    assert mirror.parts_read() == {}
    assert place.build("--retry", "retry,corrupt") == 0
    assert mirror.parts_read() == {"train/part.tar.gz": 1}


def test_what_is_said_of_a_clip_in_no_part_changes_when_a_damaged_part_is_mended(
    place: Place, mirror: Mirror, sound: bytes, pool: Pool
) -> None:
    whole = tar(*clips(sound, "a", "b"))
    mirror.parts("train", part=_spoilt(whole, "b"))
    place.annotate("a", "gone")

    assert place.build() == 1
    assert "the tar is damaged" in place.outcomes()["gone"].detail
    mirror.put("train/part.tar.gz", whole)
    assert place.build("--retry", "retry,corrupt") == 1
    assert place.outcomes()["gone"].detail == "no file for this clip"


def _spoilt(data: bytes, name: str) -> bytes:
    """The same tar with a wrong checksum in the header of a member."""
    at = data.index(f"./{key(name)}".encode())
    return data[: at + 148] + b"9999999\0" + data[at + 156 :]


# Clips that are damaged in one part and sound in another.

MENDED = "replacement_for_corrupted_k400.tgz"


def _damaged(*names: str) -> list[tuple[str, bytes]]:
    return [(f"./{key(name)}.mp4", b"no video") for name in names]


class Killed(BaseException):
    """Ends a build as a kill would: nobody catches it."""


def _kill_at(name: str) -> Callable[[Any], Any]:
    """Work until a part is to be read, and die."""

    def do(task: Any) -> Any:
        if isinstance(task, PartTask) and name in task.part.name:
            raise Killed
        return work(task)

    return do


def test_a_damaged_clip_waits_for_an_archive_of_replacements_that_cannot_be_read(
    place: Place, mirror: Mirror, sound: bytes, pool: Pool
) -> None:
    mirror.parts("train", part=tar(*clips(sound, "a"), *_damaged("b")))
    mended = tar(*clips(sound, "b"))
    mirror.put(MENDED, mended, always=Fault(code=503))
    place.annotate("a", "b")

    assert place.build() == 1
    assert place.outcomes()["b"].status is Status.HTTP_5XX
    assert place.outcomes()["b"].detail.startswith("corrupt: ")
    assert f"part {MENDED}" in place.outcomes()["b"].detail
    assert sum(not isinstance(task, PartTask) for task in pool.done) == 2  # to cut it again would not help
    mirror.parts_read()
    assert place.build() == 1
    assert set(mirror.parts_read()) == {MENDED}  # what the other part holds is known

    mirror.put(MENDED, mended)
    assert place.build() == 0
    assert mirror.parts_read() == {MENDED: 1}


def test_a_damaged_clip_is_called_so_once_no_part_is_left_that_may_mend_it(
    place: Place, mirror: Mirror, sound: bytes, pool: Pool
) -> None:
    mirror.parts("train", part=tar(*clips(sound, "a"), *_damaged("b")))
    mirror.put(MENDED, tar(), always=Fault(code=503))
    place.annotate("a", "b")
    assert place.build() == 1
    waiting = place.outcomes()["b"].detail
    mirror.parts_read()

    mirror.put(MENDED, tar())
    assert place.build() == 1

    assert place.outcomes()["b"].status is Status.CORRUPT
    assert waiting.startswith(f"corrupt: {place.outcomes()['b'].detail};")
    assert mirror.parts_read() == {MENDED: 1}
    assert place.build() == 1
    assert mirror.parts_read() == {}


def test_a_part_is_read_again_for_a_damaged_clip_where_that_is_wished(
    place: Place, mirror: Mirror, sound: bytes, pool: Pool
) -> None:
    mirror.parts("train", part=tar(*_damaged("b")))
    mirror.put(MENDED, tar(), always=Fault(code=503))
    place.annotate("b")
    assert place.build() == 1

    mirror.put("train/part.tar.gz", tar(*clips(sound, "b")))
    assert place.build() == 1
    assert place.build("--retry", "retry,corrupt") == 0


@pytest.mark.parametrize("mended", ["train/two.tar.gz", MENDED])
def test_a_build_that_is_killed_before_it_reads_the_sound_copy_has_it_from_the_next_run(
    place: Place, mirror: Mirror, sound: bytes, mended: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    mirror.parts("train", one=tar(*_damaged("b")), two=tar(*clips(sound, "a")))
    mirror.put(mended, tar(*clips(sound, "a", "b")), always=Fault(code=503))
    place.annotate("a", "b")
    monkeypatch.setattr(build.executors, "start", lambda *_, **__: Pool(_kill_at("two")))
    with pytest.raises(Killed):
        place.build()
    monkeypatch.setattr(build.executors, "start", lambda *_, **__: Pool())
    mirror.put(mended, tar(*clips(sound, "a", "b")))
    mirror.parts_read()

    assert place.build() == 0
    assert "train/one.tar.gz" not in mirror.parts_read()


class _PartsFirst(Pool):
    """Several workers; parts are read before any clip of them is cut."""

    workers = 4

    def finished(self, seconds: float) -> list[tuple[Any, Any]]:
        self.tasks.sort(key=lambda task: not isinstance(task, PartTask))
        return super().finished(seconds)


@pytest.mark.parametrize("kind", [Pool, _PartsFirst], ids=["one by one", "parts first"])
@pytest.mark.parametrize("sound_part", [0, 1, 2])
def test_of_several_copies_the_sound_one_is_kept(
    place: Place, mirror: Mirror, sound: bytes, kind: type[Pool], sound_part: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    members = [_damaged("a"), [(f"./{key('a')}.mp4", b"")], _damaged("a")]
    members[sound_part] = clips(sound, "a")
    mirror.parts("train", **{f"part_{number}": tar(*each) for number, each in enumerate(members)})
    place.annotate("a")
    monkeypatch.setattr(build.executors, "start", lambda *_, **__: kind())

    assert place.build() == 0
    assert [path.read_bytes() for path in place.out.rglob("*.mp4")] == [sound]
    assert place.files() == {f"clips/humming/{key('a')}.mp4"}


def test_a_clip_of_which_every_copy_is_damaged_is_so_for_good(
    place: Place, mirror: Mirror, sound: bytes, pool: Pool
) -> None:
    mirror.parts("train", one=tar(*_damaged("a")), two=tar(*_damaged("a")))
    place.annotate("a")

    assert place.build() == 1
    assert place.statuses() == {"a": "corrupt"}
    mirror.parts_read()
    assert place.build() == 1
    assert mirror.parts_read() == {}


def test_a_damaged_clip_of_which_a_copy_lay_in_a_part_that_was_known_is_read_from_there(
    place: Place, mirror: Mirror, sound: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    mirror.parts("train", one=tar(*_damaged("a"), *clips(sound, "b")), two=tar(*clips(sound, "a")))
    place.annotate("b").annotate("a", label="zoom")
    monkeypatch.setattr(build.executors, "start", lambda *_, **__: Pool())
    assert place.build() == 0
    mirror.parts("train", one=tar(*_damaged("a"), *clips(sound, "b")), two=tar(*clips(sound, "a")), new=tar())
    place.labels.append("zoom")
    (place.out / "manifest.parquet").unlink()  # it is of other classes
    place.annotate("c")
    monkeypatch.setattr(build.executors, "start", lambda *_, **__: Pool(_kill_at("two")))
    with pytest.raises(Killed):
        place.build()

    monkeypatch.setattr(build.executors, "start", lambda *_, **__: Pool())
    assert place.build() == 1
    assert place.statuses() == {"a": "ok", "b": "ok", "c": "not_in_source"}


# Archives of a stranger: long ones, and ones that hold a clip twice.


class _Counting(Pool):
    """Counts the clips that each reading of a part gives."""

    def __init__(self) -> None:
        super().__init__(self.counted)
        self.given: list[list[str]] = []

    def counted(self, task: Any) -> Any:
        done = work(task)
        if isinstance(task, PartTask):
            self.given.append([each for each, _ in done.clips])
        return done


@pytest.mark.parametrize(("limit", "value"), [("READ_SECONDS", 0.0), ("READ_BYTES", 1)])
def test_an_archive_that_takes_longer_than_one_reading_gives_all_its_clips(
    place: Place, sound: bytes, tmp_path: Path, limit: str, value: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At most one clip waits on disk; what the archive holds is recorded when it was read to its end."""
    monkeypatch.setattr(reader, limit, value)
    here = _Counting()
    monkeypatch.setattr(build.executors, "start", lambda *_, **__: here)
    archive = tmp_path / "a.tar"
    archive.write_bytes(tar(*clips(sound, "a"), *_damaged("b"), ("notes.txt", b"-"), *clips(sound, "other", "c", "b")))
    place.annotate("a", "b", "c", "gone")

    assert place.build(sources=(f"archives:{archive}",)) == 1

    assert place.statuses() == {**dict.fromkeys("abc", "ok"), "gone": "not_in_source"}
    assert [each for each in here.given if each] == [[key("a")], [key("b")], [key("c")], [key("b")]]
    assert place.build(sources=(f"archives:{archive}",)) == 1
    assert sum(map(len, here.given)) == 4  # nothing was read again


def test_a_reading_has_more_time_if_the_one_before_took_long(
    place: Place, sound: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It must pass over the bytes of the one before first."""
    assert reader.READ_SECONDS + tar_stream.MEMBER_SECONDS < driver.PART_SECONDS
    monkeypatch.setattr(reader, "READ_SECONDS", 0.0)
    limits: list[float] = []

    class Timed(Pool):
        def submit(self, task: Any, *, timeout_seconds: float) -> None:
            super().submit(task, timeout_seconds=timeout_seconds)
            if isinstance(task, PartTask):
                limits.append(timeout_seconds)

    def slow(task: Any) -> Any:
        done = work(task)
        return replace(done, seconds=3600.0) if isinstance(task, PartTask) else done

    monkeypatch.setattr(build.executors, "start", lambda *_, **__: Timed(slow))
    (tmp_path / "a.tar").write_bytes(tar(*clips(sound, "a", "b")))
    place.annotate("a", "b")

    assert place.build(sources=(f"archives:{tmp_path}/a.tar",)) == 0
    assert limits == [driver.PART_SECONDS, driver.PART_SECONDS + 7200.0]


@pytest.mark.parametrize("sound_one", [0, 1, 3, 4])
def test_of_copies_in_one_archive_the_sound_one_among_the_first_four_is_kept(
    place: Place, sound: bytes, tmp_path: Path, sound_one: int, pool: Pool
) -> None:
    folders = [(f"{number}/{key('a')}.mp4", sound if number == sound_one else b"no video") for number in range(5)]
    (tmp_path / "a.tar").write_bytes(tar(*folders))
    place.annotate("a")

    place.build(sources=(f"archives:{tmp_path}/a.tar",))

    assert place.statuses() == {"a": "ok" if sound_one < 4 else "corrupt"}
    assert [path.read_bytes() for path in place.out.rglob("*.mp4")] == ([sound] if sound_one < 4 else [])


def test_names_of_wanted_clips_are_parsed_once_for_all_archives(
    place: Place, sound: bytes, tmp_path: Path, pool: Pool
) -> None:
    for name in "abc":
        (tmp_path / f"{name}.tar").write_bytes(tar(*clips(sound, name)))
    place.annotate(*"abc")
    before = read_once.cache_info()

    assert place.build(sources=(f"archives:{tmp_path}/{{a,b,c}}.tar",)) == 0

    after = read_once.cache_info()
    assert (after.misses - before.misses, after.hits - before.hits) == (1, 2)


# What was streamed.


def test_what_was_streamed_is_counted_also_what_came_twice(
    place: Place, mirror: Mirror, sound: bytes, pool: Pool
) -> None:
    whole = tar(*clips(sound, "a"))
    mirror.parts("train", part=whole, other=tar(*clips(sound, "x")))
    mirror.put("train/part.tar.gz", whole, Fault(cut=5000))
    place.annotate("a")

    assert place.build() == 0

    report = json.loads((place.out / "report.json").read_text())
    assert report["this_run"]["bytes_downloaded"] == 2 * len(whole) + 5000


# A mirror that refuses.


def test_a_mirror_that_refuses_ends_the_run_and_burns_nothing(
    place: Place, mirror: Mirror, sound: bytes, pool: Pool, capsys: pytest.CaptureFixture[str]
) -> None:
    mirror.parts("train", **{f"part_{number}": tar(*clips(sound, f"a{number}")) for number in range(3)})
    mirror.put("train/part_1.tar.gz", tar(*clips(sound, "a1")), *[Fault(code=429)] * 2)
    place.annotate("a0", "a1", "a2", "gone")

    assert place.build("--patience", "0") == 3

    assert "stopped: rate_limited: part train/part_1.tar.gz" in capsys.readouterr().err
    assert place.statuses() == {"a0": "ok", **dict.fromkeys(["a1", "a2", "gone"], "not_tried")}
    assert mirror.parts_read() == {"train/part_0.tar.gz": 1, "train/part_1.tar.gz": 2}
    assert place.build() == 1
    assert place.statuses() == {**dict.fromkeys(["a0", "a1", "a2"], "ok"), "gone": "not_in_source"}
    assert mirror.parts_read() == {"train/part_1.tar.gz": 1, "train/part_2.tar.gz": 1}


def test_a_mirror_that_refuses_for_a_while_is_probed_until_it_answers(
    place: Place, mirror: Mirror, sound: bytes, pool: Pool, caplog: pytest.LogCaptureFixture
) -> None:
    mirror.parts("train", **{f"part_{number}": tar(*clips(sound, f"a{number}")) for number in range(3)})
    for number in range(2):
        mirror.put(f"train/part_{number}.tar.gz", tar(*clips(sound, f"a{number}")), *[Fault(code=429)] * 2)
    place.annotate("a0", "a1", "a2")

    assert place.build("--patience", "3") == 0

    said = [record.message for record in caplog.records if "source" in record.message]
    assert "paused, the source refuses requests (rate_limited: part train/part_0.tar.gz" in said[0]
    assert said[-1] == "the source responds again: resuming"


def test_a_list_that_cannot_be_read_leaves_what_is_done_in_the_manifest(
    place: Place, mirror: Mirror, sound: bytes, pool: Pool, capsys: pytest.CaptureFixture[str]
) -> None:
    (place.root / "here").mkdir()
    (place.root / f"here/{key('a')}.mp4").write_bytes(sound)
    place.annotate("a", "b")

    code = place.build(sources=(f"local:{place.root / 'here'}", mirror.spec))

    assert code == 2
    assert "the list of parts cannot be read" in capsys.readouterr().err
    assert place.statuses() == {"a": "ok", "b": "not_in_source"}


def test_a_list_that_the_server_fails_to_give_is_waited_for(
    place: Place, mirror: Mirror, sound: bytes, pool: Pool, caplog: pytest.LogCaptureFixture
) -> None:
    mirror.parts("train", part=tar(*clips(sound, "a")))
    mirror.put(LIST, b"part.tar.gz", *[Fault(code=503)] * 2, *[Fault(code=429)] * 2)
    place.annotate("a")

    assert place.build("--patience", "1") == 0

    said = [record.message for record in caplog.records if "waiting" in record.message]
    assert [text.partition("HTTP ")[2][:3] for text in said] == ["503", "429"]
    assert f"{mirror.spec}: waiting for its list of archives" in said[0]


LIST = "train/k400_train_path.txt"


def test_a_list_that_the_server_fails_to_give_ends_the_run_after_a_while_and_burns_nothing(
    place: Place, mirror: Mirror, sound: bytes, pool: Pool, capsys: pytest.CaptureFixture[str]
) -> None:
    mirror.put(LIST, b"", always=Fault(code=503))
    place.annotate("a")

    assert place.build("--patience", "0.3") == 3
    assert "stopped: http_5xx: " in capsys.readouterr().err
    assert place.statuses() == {"a": "not_tried"}


def test_a_build_that_waits_for_a_list_can_be_stopped(place: Place, mirror: Mirror, pool: Pool) -> None:
    mirror.put(LIST, b"", always=Fault(code=503))
    place.annotate("a")

    def stop_once_asked() -> None:
        while not mirror.gets:
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)

    stopping = threading.Thread(target=stop_once_asked, daemon=True)
    stopping.start()

    assert place.build() == 3
    stopping.join()
    assert place.statuses() == {"a": "not_tried"}


@pytest.mark.parametrize("broken", ["tempfile.mkdtemp", "pathlib.Path.replace"], ids=["its folder", "a clip in it"])
def test_a_disk_that_fills_while_a_part_is_read_ends_the_run_and_burns_nothing(
    place: Place,
    mirror: Mirror,
    sound: bytes,
    broken: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def full(*_: object, **__: object) -> str:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def work_on_a_full_disk(task: Any) -> Any:
        with monkeypatch.context() as patch:
            patch.setattr(broken, full)
            return work(task)

    mirror.parts("train", one=tar(*clips(sound, "a")), two=tar(*clips(sound, "b")))
    place.annotate("a", "b", "gone")
    monkeypatch.setattr(build.executors, "start", lambda *_, **__: Pool(work_on_a_full_disk))

    assert place.build() == 3
    assert "stopped: disk_full: " in capsys.readouterr().err
    assert set(place.statuses().values()) == {"not_tried"}
    monkeypatch.setattr(build.executors, "start", lambda *_, **__: Pool())
    assert place.build() == 1
    assert place.statuses() == {"a": "ok", "b": "ok", "gone": "not_in_source"}


# More clips, more sources.


def test_more_classes_later_need_only_the_parts_that_hold_them(
    place: Place, mirror: Mirror, sound: bytes, pool: Pool
) -> None:
    whole = {"hums": tar(*clips(sound, "a")), "both": tar(*clips(sound, "b", "c")), "none": tar(*clips(sound, "z"))}
    mirror.parts("train", **whole)
    mirror.parts("val", only=tar(*clips(sound, "v", "w")))
    place.annotate("a", "b").annotate("c", label="zoom").annotate("v", split="val", label="zoom")
    place.annotate("gone", label="zoom")
    assert place.build() == 0
    assert set(mirror.parts_read()) == {f"train/{name}.tar.gz" for name in whole}

    place.labels.append("zoom")
    (place.out / "manifest.parquet").unlink()  # it is of other classes
    assert place.build() == 1

    assert mirror.parts_read() == {"train/both.tar.gz": 1, "val/only.tar.gz": 1}
    assert place.statuses() == {**dict.fromkeys("abcv", "ok"), "gone": "not_in_source"}


def test_a_clip_whose_file_is_lost_is_had_from_its_part_alone(
    place: Place, mirror: Mirror, sound: bytes, pool: Pool
) -> None:
    mirror.parts("train", one=tar(*clips(sound, "a")), two=tar(*clips(sound, "b")))
    place.annotate("a", "b")
    assert place.build() == 0
    mirror.parts_read()
    (place.out / f"clips/humming/{key('b')}.mp4").unlink()

    assert place.build() == 0
    assert mirror.parts_read() == {"train/two.tar.gz": 1}


def test_three_sources_in_turn_each_give_what_the_others_lack(
    place: Place, mirror: Mirror, sound: bytes, pool: Pool, tmp_path: Path
) -> None:
    local, videos = tmp_path / "local", tmp_path / "videos"
    local.mkdir()
    (local / f"{key('here')}.mp4").write_bytes(sound)
    (local / f"{key('bad')}.mp4").write_bytes(b"no video")
    mirror.parts("train", part=tar(*clips(sound, "here", "bad", "there")))
    video(videos / "far.mp4", seconds=6)
    place.annotate("here", "bad", "there", "far", "nowhere")
    with http_server.videos(videos) as url:
        sources = (f"local:{local}", mirror.spec, f"youtube:{url}/{{youtube_id}}.mp4")
        assert place.build(sources=sources) == 1
        read = mirror.parts_read()
        assert place.build(sources=sources) == 1

    assert {name: (str(each.status), each.source) for name, each in place.outcomes().items()} == {
        "here": ("ok", sources[0]),
        "bad": ("ok", sources[1]),
        "there": ("ok", sources[1]),
        "far": ("ok", sources[2]),
        "nowhere": ("not_in_source", sources[2]),
    }
    assert read == {"train/part.tar.gz": 1}
    assert mirror.parts_read() == {}
    assert json.loads((place.out / "report.json").read_text())["sources"] == {
        sources[0]: 1,
        sources[1]: 2,
        sources[2]: 1,
    }


# Workers that die.


def test_a_part_whose_second_reader_dies_leaves_the_clips_of_the_first(
    place: Place, mirror: Mirror, sound: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its clips still wait in the part's folder while the part is tried again."""
    whole = tar(*clips(sound, "a", "b"))
    mirror.parts("train", part=whole)
    mirror.put("train/part.tar.gz", whole, *[Fault(cut=len(whole) // 2)] * 2)
    place.annotate("a", "b")
    here = _DyingPool()
    monkeypatch.setattr(build.executors, "start", lambda *_, **__: here)

    assert place.build("--attempts", "4") == 0


class _DyingPool(Pool):
    """Two workers; the second reader of a part dies before the first's clips are cut."""

    workers = 2

    def __init__(self) -> None:
        super().__init__()
        self.parts = 0

    def finished(self, seconds: float) -> list[tuple[Any, Any]]:
        part = next((task for task in self.tasks if isinstance(task, PartTask)), None)
        if part is None or not seconds:
            return super().finished(seconds)
        self.tasks.remove(part)
        self.parts += 1
        if self.parts == 2:
            half = part.folder / "half"
            half.mkdir()
            (half / "clip.mp4.part").write_bytes(b"half a clip")
            return [(part, Failed(Cause.DIED, "its process died"))]
        return [(part, self.work(part))]


def test_a_clip_whose_worker_dies_after_it_had_its_place_is_tried_again(
    place: Place, mirror: Mirror, sound: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    mirror.parts("train", part=tar(*clips(sound, "a")))
    place.annotate("a")
    died: list[Any] = []

    def work_and_die(task: Any) -> Any:
        result = work(task)
        if isinstance(task, PartTask) or died:
            return result
        died.append(task)
        return Failed(Cause.DIED, "its process died")

    monkeypatch.setattr(build.executors, "start", lambda *_, **__: Pool(work_and_die))

    assert place.build() == 0  # by another try, which still finds the file
    assert mirror.parts_read() == {"train/part.tar.gz": 1}
    assert place.files() == {f"clips/humming/{key('a')}.mp4"}


def test_a_file_system_without_hard_links_gets_copies(
    place: Place, mirror: Mirror, sound: bytes, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    mirror.parts("train", part=tar(*clips(sound, "a")))
    place.annotate("a")
    monkeypatch.setattr(os, "link", refuse)

    assert place.build() == 0
    assert (place.out / f"clips/humming/{key('a')}.mp4").read_bytes() == sound


ONE_BY_ONE = "archives:{mirror}/{{replacement_for_corrupted_k400.tgz,train/part_{{0..2}}.tar.gz}}"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kills", "spec"),
    [(2, "cvdf:{mirror}"), (1, ONE_BY_ONE), pytest.param(5, "cvdf:{mirror}", marks=pytest.mark.slow_campaign)],
)
def test_a_build_killed_in_the_middle_of_parts_ends_with_the_same_manifest(
    kills: int, spec: str, place: Place, mirror: Mirror, sound: bytes, pool: Pool
) -> None:
    whole = {f"part_{number}": tar(*clips(sound, f"a{number}", f"b{number}", "x")) for number in range(3)}
    mirror.parts("train", **whole)
    mirror.put("replacement_for_corrupted_k400.tgz", tar(*clips(sound, "r")))
    place.annotate(*(f"{letter}{number}" for letter in "ab" for number in range(3)), "r", "gone")
    undisturbed = place.root / "undisturbed"
    words = place.arguments(sources=(spec.format(mirror=mirror.spec.removeprefix("cvdf:")),))
    assert build.main([*words, "--out", str(undisturbed)]) == 1
    command = [sys.executable, "-m", "kinetics_sounds.pipelines.build", *words]
    held = [("replacement_for_corrupted_k400.tgz", 0), *((f"train/part_{part}.tar.gz", part) for part in (0, 0, 1, 2))]
    for kill, (name, clip) in enumerate(held[-kills:]):
        hold = Fault(hold=clip * (len(sound) // 512 + 2) * 512 + 700)  # in the middle of a clip
        mirror.put(name, mirror.files[mirror.root + name], hold)
        mirror.holding.clear()
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
            reached = mirror.holding.wait(30)
            process.send_signal(signal.SIGKILL)
            assert reached, (kill, process.communicate())

    code = subprocess.run(command, check=False, capture_output=True, timeout=120).returncode

    assert code == 1
    assert manifest.read(place.out / "manifest.parquet") == manifest.read(undisturbed / "manifest.parquet")
    assert not (place.out / files.SCRATCH).exists()
    assert place.files() == {str(path.relative_to(undisturbed)) for path in undisturbed.rglob("*.mp4")}
