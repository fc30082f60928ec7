"""What a page says of a set is what the set says: rows, outcomes, flags, duplicates and leaks."""

import dataclasses
import json
from collections import Counter
from pathlib import Path

import pytest

from kinetics_sounds.address import Address
from kinetics_sounds.clip import Clip, Status
from kinetics_sounds.errors import PublishError, SettingsError
from kinetics_sounds.pipelines.viewing import sets
from kinetics_sounds.shards import index, layout, reader
from kinetics_sounds.shards.index import SkippedClip
from kinetics_sounds.shards.writer import Sample, ShardWriter

from ...shards.sets import make
from ...shards.sets import parts as parts_of_set
from ..publishing import builds
from . import made


def test_a_manifest_s_rows_are_all_there_with_what_became_of_them(tmp_path: Path) -> None:
    path = builds.write(tmp_path, made.outcomes(), labels=made.LABELS, note="a note")

    found = sets.read(path)

    assert (found.kind, found.classes, found.note, found.folder) == ("manifest", "few", "a note", tmp_path)
    assert sets.read(tmp_path).kind == "build"
    assert Counter(row.status for row in found.rows) == {"ok": 7, "private": 2, "too_short": 1}
    assert Counter(row.label for row in found.rows) == {made.LABELS[0]: 4, made.LABELS[1]: 3, made.LABELS[2]: 3}
    assert Counter(flag for row in found.rows for flag in row.flags) == {"silent": 2, "decode errors": 1}
    (third,) = (row for row in found.rows if row.key == made.clips()[3].key)
    assert (third.duration_seconds, third.fps, third.short_side, third.decode_errors) == (2.03, 29.97, 36, 3)
    assert third.file == f"clips/0 #?%/{third.key}.mp4"
    (gone,) = (row for row in found.rows if row.status == "too_short")
    assert (gone.file, gone.bytes, gone.detail) == ("", None, f"ERROR: {made.HOSTILE}")


def test_the_same_bytes_twice_and_a_video_in_two_splits_are_flagged(tmp_path: Path) -> None:
    twice = [builds.outcome(builds.clip(n, split="train"), sha256="ab" * 32) for n in (0, 1)]
    leaking = [
        builds.outcome(Clip("same", n, n + 10, builds.LABELS[0], split)) for n, split in ((3, "train"), (40, "test"))
    ]
    lost = builds.outcome(Clip(builds.clip(9).youtube_id, 60, 70, builds.LABELS[0], "train"), Status.PRIVATE)
    builds.write(tmp_path, [*twice, *leaking, builds.outcome(builds.clip(9)), lost])

    found = sets.read(tmp_path)

    flags = {row.key: row.flags for row in found.rows}
    assert flags == {
        twice[0].clip.key: {"duplicate"},
        twice[1].clip.key: {"duplicate"},
        leaking[0].clip.key: {"leak"},
        leaking[1].clip.key: {"leak"},
        builds.clip(9).key: frozenset(),
        lost.clip.key: frozenset(),  # it is not there
    }
    assert [finding.kind for finding in found.findings] == ["video_leak", "same_content"]


def test_a_published_folder_says_the_same_as_its_build(tmp_path: Path) -> None:
    folder = builds.published(tmp_path, builds.outcomes(20))

    published, build = sets.read(folder), sets.read(tmp_path / "build")

    assert published.kind == "published folder"
    assert {(r.key, r.label, r.split, r.status, r.bytes) for r in published.rows} == {
        (r.key, r.label, r.split, r.status, r.bytes) for r in build.rows
    }
    assert {row.file for row in published.rows} == {""}


def test_a_published_folder_that_lacks_a_split_is_refused(tmp_path: Path) -> None:
    folder = builds.published(tmp_path, builds.outcomes(20))
    (folder / "splits/train.csv").unlink()

    with pytest.raises(
        PublishError, match=r"out: has the splits .*, but by its fingerprints\.json .*get the folder again"
    ):
        sets.read(folder)


def test_a_list_without_outcomes_is_a_set_of_listed_clips(tmp_path: Path) -> None:
    (tmp_path / "splits").mkdir()
    (tmp_path / "splits/val.csv").write_text(
        "label,youtube_id,time_start,time_end,split\nhumming,abcdefghijk,3,13,val\n"
    )

    (row,) = sets.read(tmp_path).rows

    assert (row.key, row.label, row.split, row.status) == ("abcdefghijk_000003_000013", "humming", "val", "listed")


def parts(number: int) -> dict[str, bytes]:
    facts = {"num_frames": 50 + number, "fps": 25.0} if number != 2 else {"number": 2}
    return {layout.MEL: b"mel", layout.META: json.dumps(facts).encode()}


def test_shards_say_their_samples_and_what_could_not_be_packed(tmp_path: Path) -> None:
    folder = make(tmp_path / "shards", (2, 1), parts=parts)
    path = layout.index_path(layout.tar_path(folder, "train", 1))
    read = index.read_index(path)
    left = tuple(SkippedClip(key=key, status="corrupt", detail="it is torn") for key in ("k_8", "k_9"))
    index.write(path, dataclasses.replace(read, left=left))

    found = sets.read(folder)

    assert found.kind == "shard set"
    assert [(row.key, row.label, row.status, row.sample) for row in found.rows] == [
        ("k_0", "humming", "ok", 0),
        ("k_1", "clapping", "ok", 1),
        ("k_2", "singing", "bad_sample", 2),
        ("k_8", "", "corrupt", -1),
        ("k_9", "", "corrupt", -1),
    ]
    assert [row.duration_seconds for row in found.rows] == [2.0, 2.04, None, None, None]
    assert (found.rows[3].detail, found.rows[3].flags) == ("it is torn", frozenset())  # nothing packed is no duplicate


def test_spans_of_a_video_in_two_splits_of_a_shard_set_are_a_leak(tmp_path: Path) -> None:
    folder = make(tmp_path, (1,))
    dataset = reader.read_dataset(folder)
    for number, split in enumerate(("train", "test")):
        with ShardWriter(layout.tar_path(folder, split, 0), recipe="a recipe") as writer:
            key = f"abcdefghijk_{number:06}_{number + 1:06}"
            writer.write(Sample(key=key, label_index=0, parts=parts_of_set(number)))
            facts = dataclasses.replace(dataset.splits["train"], bytes=writer.close().bytes)
        dataset.splits[split] = facts
    index.write(folder / layout.DATASET, dataset)

    found = sets.read(folder)

    assert {row.split: row.flags for row in found.rows} == {"train": {"leak"}, "test": {"leak"}}
    assert [each.kind for each in found.findings] == ["video_leak"]


def test_samples_of_the_same_picture_and_sound_are_duplicates_whatever_their_metadata(tmp_path: Path) -> None:
    def same(number: int) -> dict[str, bytes]:
        picture = b"a picture" if number in (0, 2) else b"another picture"
        return {layout.FRAMES: picture, layout.MEL: b"a mel", layout.META: b'{"num_frames": %d}' % number}

    found = sets.read(make(tmp_path / "shards", (2, 2), parts=same))

    assert {row.key: row.flags for row in found.rows} == {key: {"duplicate"} for key in ("k_0", "k_1", "k_2", "k_3")}
    assert [(each.kind, each.keys) for each in found.findings] == [
        ("same_content", ("k_0", "k_2")),
        ("same_content", ("k_1", "k_3")),
    ]


def test_of_a_set_at_a_url_nothing_but_its_indexes_is_needed(tmp_path: Path) -> None:
    folder = make(tmp_path / "shards", (2, 1), parts=parts, frames={"short_side": 128})
    here = sets.read(folder)
    for tar in folder.rglob("*.tar"):
        tar.unlink()

    found = sets.read(Address(f"file://{folder}"))

    assert (found.name, found.kind, found.folder) == (f"file://{folder}", "shard set", None)
    assert [(row.key, row.label, row.split, row.bytes) for row in found.rows] == [
        (row.key, row.label, row.split, row.bytes) for row in here.rows
    ]
    assert {(row.status, row.sample, row.duration_seconds, row.short_side) for row in found.rows} == {
        ("ok", -1, None, 128)
    }


def test_at_a_url_without_a_set_it_is_told_what_can_be_shown(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"is not a shard set \(dataset.json is missing\), and nothing else"):
        sets.read(Address(f"file://{tmp_path}"))


def test_what_is_nothing_of_ours_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="is not a manifest, build, shard set, published folder or run"):
        sets.read(tmp_path)
