"""A manifest says the same when it is read, in both its files, and a damaged one is found."""

import csv
import dataclasses
import errno
import hashlib
import io
import json
import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any, cast

import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from kinetics_sounds import files, fingerprints, manifest
from kinetics_sounds.classes import ClassList
from kinetics_sounds.clip import SPLITS, Clip, Media, Outcome, Status
from kinetics_sounds.errors import ManifestError
from kinetics_sounds.manifest import COLUMNS, Manifest

LABELS = ("zumba", "bowling", "=SUM(A1)", "tango, 'slow'", 'say "é"')
MEDIA = Media(
    path="clips/bowling/-5JzkrOVhPO_000027_000037.mp4",
    bytes=2**40,
    sha256="ab" * 32,
    duration_seconds=9.976633333333334,
    fps=30000 / 1001,
    width=340,
    height=256,
    num_frames=299,
    audio_rate=44_100,
    audio_channels=2,
    audio_rms_db=-21.123456789,
    audio_offset_seconds=0.013,
    silent=False,
    still=True,
    other_streams="1 video, 2 audio",
    rotation=90,
    decode_errors=3,
    audio_channel="left",
    origin="part_0/-5JzkrOVhPO_000027_000037.mp4",
    format_ids="136+140",
    audio_language="en",
    audio_track="original",
)
CLIP = Clip("-5JzkrOVhPO", 27, 37, "bowling", "val")
OK = Outcome(clip=CLIP, status=Status.OK, source="local:/a", media=MEDIA, tool_versions="av 18")
GONE = Outcome(
    clip=Clip("abc", 0, 10, "zumba", "train"), status=Status.PRIVATE, detail="Private video", source="youtube"
)


def of(*outcomes: Outcome) -> Manifest:
    return Manifest(classes=ClassList("mine", LABELS), outcomes=outcomes)


def write(folder: Path, made: Manifest | None = None) -> Path:
    path = folder / "manifest.parquet"
    made = made or of(OK, GONE)
    manifest.write(path, made.classes, made.outcomes)
    return path


def refusal(path: Path) -> str:
    with pytest.raises(ManifestError) as caught:
        manifest.read(path)
    return str(caught.value)


def many(count: int) -> Manifest:
    """Every third clip is gone."""
    outcomes = []
    for number in range(count):
        clip = Clip(f"{number:011d}", 1, 11, LABELS[number % 5], SPLITS[number % 3])
        digest = hashlib.sha256(clip.key.encode()).hexdigest()
        media = dataclasses.replace(MEDIA, path=f"clips/{clip.key}.mp4", sha256=digest, bytes=number)
        outcomes.append(
            Outcome(clip=clip, status=Status.OK, media=media)
            if number % 3
            else Outcome(clip=clip, status=Status.REMOVED, detail="Video unavailable. This video has been removed")
        )
    return of(*outcomes)


# --- There and back ---------------------------------------------------------------------------------------------------


def test_a_manifest_is_read_as_it_was_written(tmp_path: Path) -> None:
    assert manifest.read(write(tmp_path)) == of(OK, GONE)


def test_its_metadata_tell_the_fingerprints_of_the_clips_that_are_ok(tmp_path: Path) -> None:
    told = parquet.read_metadata(write(tmp_path)).metadata
    row = (CLIP.key, "bowling", "val", MEDIA.sha256)

    assert told[b"kinetics_sounds.selection"].decode() == fingerprints.selection([row[:3]])
    assert told[b"kinetics_sounds.content"].decode() == fingerprints.content([row])


def test_an_empty_manifest_keeps_its_classes(tmp_path: Path) -> None:
    assert manifest.read(write(tmp_path, of())) == of()


@pytest.mark.parametrize("status", [status for status in Status if status is not Status.OK])
def test_every_status_is_read_back_as_itself(status: Status, tmp_path: Path) -> None:
    (read,) = manifest.read(write(tmp_path, of(dataclasses.replace(GONE, status=status)))).outcomes

    assert read.status is status


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
LINE = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=20)
OUTCOMES = st.builds(
    lambda number, label, split, status, detail, source, versions: Outcome(
        clip=Clip(f"-{number}", number, number + 10, label, split),
        status=status,
        detail=detail,
        source=source,
        tool_versions=versions,
        media=MEDIA if status is Status.OK else None,
    ),
    st.integers(0, 999_000),
    st.sampled_from(LABELS),
    st.sampled_from(SPLITS),
    st.sampled_from(list(Status)),
    TEXT
    | st.sampled_from(
        [
            "",
            "NA",
            "nan",
            "None",
            "null",
            "=1+1",
            "'x",
            "'=x",
            "''-x",
            "\r=",
            "a\r\nb",
            'a"b',
            "a,b",
            " a ",
            "\ufeff",
            "\0",
        ]
    ),
    LINE,
    LINE,
)


@pytest.mark.slow
@settings(max_examples=40, deadline=None, phases=(Phase.reuse, Phase.generate))  # to shrink takes minutes here
@given(outcomes=st.lists(OUTCOMES, max_size=3, unique_by=lambda outcome: outcome.clip.key))
def test_whatever_the_details_say_is_read_back(
    outcomes: list[Outcome], tmp_path_factory: pytest.TempPathFactory
) -> None:
    made = of(*outcomes)

    path = write(tmp_path_factory.mktemp("manifest"), made)

    assert manifest.read(path) == made
    assert manifest.read(path.with_suffix(".csv")).outcomes == tuple(map(with_line_ends, outcomes))
    assert rows(path.with_suffix(".csv")) == [in_csv(row) for row in pd.read_parquet(path).to_dict("records")]


# --- The CSV beside it ------------------------------------------------------------------------------------------------


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as text:
        return list(csv.DictReader(text))


def in_csv(row: dict[Any, Any]) -> dict[str, str]:
    """A row of the Parquet file as the CSV must have it."""
    found = {name: "" if pd.isna(value) else str(value) for name, value in row.items()}
    for name in ("label", "detail", *manifest.ADDED):
        text = found[name].replace("\r\n", "\n").replace("\r", "\n")
        found[name] = f"'{text}" if text.lstrip("'")[:1] in tuple("=+-@\t\n") else text
    return found


def with_line_ends(outcome: Outcome) -> Outcome:
    """As a CSV keeps it."""
    return dataclasses.replace(outcome, detail=outcome.detail.replace("\r\n", "\n").replace("\r", "\n"))


def test_the_csv_has_the_same_rows_and_columns(tmp_path: Path) -> None:
    path = write(tmp_path)

    first, second = rows(path.with_suffix(".csv"))

    assert list(first) == list(COLUMNS)
    assert first["key"] == "-5JzkrOVhPO_000027_000037"
    assert float(first["fps"]) == 30000 / 1001
    assert (first["bytes"], first["label_index"]) == (str(2**40), "1")
    assert (second["status"], second["detail"], second["bytes"], second["sha256"]) == (
        "private",
        "Private video",
        "",
        "",
    )


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@x", "\tx", "\rx", "=cmd|' /C calc'!A0"])
def test_a_formula_is_harmless_in_the_csv_and_whole_in_the_manifest(text: str, tmp_path: Path) -> None:
    made = of(dataclasses.replace(GONE, detail=text))
    path = write(tmp_path, made)

    assert rows(path.with_suffix(".csv"))[0]["detail"].startswith("'")
    assert manifest.read(path) == made


def test_a_key_is_never_escaped_so_that_scripts_find_it(tmp_path: Path) -> None:
    path = write(tmp_path, of(dataclasses.replace(OK, clip=dataclasses.replace(CLIP, label="=SUM(A1)"))))

    (row,) = rows(path.with_suffix(".csv"))

    assert (row["key"], row["youtube_id"], row["label"]) == (CLIP.key, CLIP.youtube_id, "'=SUM(A1)")


# --- Files ------------------------------------------------------------------------------------------------------------


def test_writing_again_replaces_both_files_and_leaves_nothing_else(tmp_path: Path) -> None:
    write(tmp_path)
    path = write(tmp_path, of(GONE))

    assert manifest.read(path) == of(GONE)
    assert len(rows(path.with_suffix(".csv"))) == 1
    assert sorted(file.name for file in tmp_path.iterdir()) == ["manifest.csv", "manifest.parquet"]


def test_a_write_that_fails_leaves_the_old_manifest(tmp_path: Path) -> None:
    path = write(tmp_path)
    before = path.read_bytes()

    with pytest.raises(KeyError):
        manifest.write(path, ClassList("mine", ("another",)), (OK,))

    assert path.read_bytes() == before


def test_the_same_manifest_is_the_same_bytes(tmp_path: Path) -> None:
    one, two = write(tmp_path / "a"), write(tmp_path / "b")

    assert one.read_bytes() == two.read_bytes()
    assert one.with_suffix(".csv").read_bytes() == two.with_suffix(".csv").read_bytes()


# --- What is refused --------------------------------------------------------------------------------------------------


def test_a_missing_manifest_is_told_who_makes_one(tmp_path: Path) -> None:
    for path in (tmp_path / "manifest.parquet", tmp_path):
        assert refusal(path) == f"{path}: there is no manifest; make one with ks-build, or ks-shard --dataset"


@pytest.mark.parametrize("cut", [0, 4, 100, -1, -8])
def test_a_truncated_manifest_is_refused(cut: int, tmp_path: Path) -> None:
    path = write(tmp_path)
    path.write_bytes(path.read_bytes()[:cut])

    assert refusal(path).startswith(f"{path}: cannot be read as Parquet")
    assert refusal(path).endswith("give the manifest.parquet of a build")


# --- Copies that others wrote -----------------------------------------------------------------------------------------

PLAIN = dataclasses.replace(OK, clip=Clip("00000000001", 27, 37, "zumba", "val"))


def copied(folder: Path, change: Callable[[pd.DataFrame], pd.DataFrame] = lambda table: table) -> Path:
    """What a user's three lines of pandas leave of a manifest: no metadata of ours."""
    path = folder / "filtered.parquet"
    change(pd.read_parquet(write(folder, of(PLAIN, OK, GONE)))).to_parquet(path)
    assert b"kinetics_sounds" not in parquet.read_schema(path).metadata
    return path


def test_a_manifest_that_pandas_filtered_is_read_and_says_where_its_labels_come_from(tmp_path: Path) -> None:
    path = copied(tmp_path, lambda table: table[table.status == "ok"])

    read = manifest.read(path)

    assert read.outcomes == (PLAIN, OK)
    assert read.classes == ClassList(
        "filtered", ("zumba", "bowling"), "labels derived from the rows of filtered.parquet"
    )
    assert manifest.read_classes(path) == read.classes


def test_labels_of_which_no_row_is_left_are_missing_and_the_others_numbered_anew(tmp_path: Path) -> None:
    read = manifest.read(copied(tmp_path, lambda table: table[table.label == "bowling"]))

    assert read.classes.labels == ("bowling",)
    assert read.classes.note.endswith("filtered.parquet, numbered anew: some labels have no row")


def test_a_copy_needs_the_columns_that_schema_2_had_and_no_more(tmp_path: Path) -> None:
    older = copied(tmp_path, lambda table: table.drop(columns=list(manifest.ADDED)).assign(mine=1))
    media = dataclasses.replace(MEDIA, **dict.fromkeys(manifest.ADDED, ""))  # type: ignore[arg-type]
    assert [outcome.media for outcome in manifest.read(older).outcomes] == [media, media, None]

    lacking = copied(tmp_path, lambda table: table.drop(columns=["sha256", "split"]))
    assert refusal(lacking) == (
        f"{lacking}: is neither a manifest nor a copy of one: it lacks the columns split, sha256; keep them all"
    )


def test_an_empty_copy_has_nothing(tmp_path: Path) -> None:
    assert manifest.read(copied(tmp_path, lambda table: table[:0])).outcomes == ()


def test_the_csv_beside_the_manifest_says_the_same(tmp_path: Path) -> None:
    made = of(*(dataclasses.replace(each, detail="=1+1") for each in (PLAIN, OK, GONE)))

    read = manifest.read(write(tmp_path, made).with_suffix(".csv"))

    assert read.outcomes == made.outcomes
    assert read.classes.labels == ("zumba", "bowling")


@pytest.mark.parametrize("words", [{"index": False}, {}, {"float_format": "%.9f", "index": False}])
def test_a_csv_that_went_through_pandas_is_read(words: dict[str, Any], tmp_path: Path) -> None:
    """There a column with gaps becomes floats: 340.0 pixels, and True beside nothing."""
    path = write(tmp_path).with_suffix(".csv")
    pd.read_csv(path).to_csv(tmp_path / "again.csv", **words)

    one, two = manifest.read(tmp_path / "again.csv").outcomes

    assert (one.clip, one.status, two) == (CLIP, Status.OK, GONE)
    assert one.media is not None
    assert (one.media.bytes, one.media.width, one.media.silent, one.media.still) == (2**40, 340, False, True)
    assert one.media.fps == pytest.approx(30000 / 1001)


def test_an_id_that_pandas_took_for_a_number_is_found_out(tmp_path: Path) -> None:
    path = write(tmp_path, of(PLAIN)).with_suffix(".csv")
    pd.read_csv(path).to_csv(path, index=False)

    assert "the row '00000000001_000027_000037' has youtube_id '1' and times (27, 37); read ids as text" in refusal(
        path
    )


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda text: text.replace(",", ";"), "its columns are separated by ';', not by commas"),
        (lambda text: text + "abc,1\n", "the row of abc has too many cells or too few"),
        (lambda text: text.replace(",340,", ",340.5,"), "'340.5' is not a whole number"),
        (lambda text: text.replace(",zumba,0,", ",zumba,1,"), "two labels have the same label_index"),
        (lambda text: text.replace(",False,", ",maybe,"), "maybe"),
        (
            lambda text: text.replace(",clips/", ",../clips/"),
            "path '../clips/bowling/-5JzkrOVhPO_000027_000037.mp4' leads out",
        ),
        (lambda text: text.replace(",clips/", ",/clips/"), "leads out of the build's folder"),
    ],
)
def test_a_csv_that_is_no_copy_is_refused(change: Callable[[str], str], said: str, tmp_path: Path) -> None:
    path = write(tmp_path).with_suffix(".csv")
    path.write_text(change(path.read_text()))

    assert refusal(path).startswith(f"{path}: is invalid (")
    assert said in refusal(path)


def test_a_csv_in_another_encoding_is_told_with_the_remedy(tmp_path: Path) -> None:
    path = write(tmp_path).with_suffix(".csv")
    path.write_text(path.read_text(), encoding="utf-16")

    assert "it is UTF-16; save it as UTF-8" in refusal(path)


def changed(folder: Path, change: Callable[[pd.DataFrame], pd.DataFrame], **facts: object) -> Path:
    """A manifest after somebody else's hand; a fact that is None is lost."""
    path = write(folder)
    before = parquet.read_table(path)
    known = json.loads(before.schema.metadata[b"kinetics_sounds"]) | facts
    metadata = {b"kinetics_sounds": json.dumps({name: fact for name, fact in known.items() if fact is not None})}
    after = pa.Table.from_pandas(change(before.to_pandas()), preserve_index=False)
    parquet.write_table(after.replace_schema_metadata(metadata), path)
    return path


def same(table: pd.DataFrame) -> pd.DataFrame:
    return table


def test_another_schema_is_refused_with_both_numbers(tmp_path: Path) -> None:
    said = refusal(changed(tmp_path, same, schema=6))

    assert "has schema 6, but this version reads the schemas 3 to 5; run ks-build" in said


def test_a_manifest_of_schema_2_is_read_without_the_columns_that_came_later(tmp_path: Path) -> None:
    path = changed(tmp_path, lambda table: table.drop(columns=list(manifest.ADDED)), schema=2)

    media = dataclasses.replace(MEDIA, audio_channel="", origin="", format_ids="", audio_language="", audio_track="")
    assert manifest.read(path) == of(dataclasses.replace(OK, media=media), GONE)


def test_a_manifest_of_schema_3_must_have_the_columns_that_came_with_it(tmp_path: Path) -> None:
    said = refusal(changed(tmp_path, lambda table: table.drop(columns=["audio_channel"])))

    assert "lacks the columns audio_channel" in said


def test_the_classes_of_another_schema_are_known_all_the_same(tmp_path: Path) -> None:
    path = changed(tmp_path, lambda table: table.drop(columns=["fps"]), schema=manifest.SCHEMA + 1)

    assert manifest.read_classes(path) == of(OK).classes


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    said = refusal(changed(tmp_path, lambda table: table.drop(columns=["fps", "split"])))

    assert "lacks the columns split, fps" in said


def test_a_table_that_no_build_wrote_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.parquet"
    pd.DataFrame({"a": [1]}).to_parquet(path)

    assert "is neither a manifest nor a copy of one: it lacks the columns key, youtube_id" in refusal(path)


def test_a_column_more_does_not_matter(tmp_path: Path) -> None:
    assert manifest.read(changed(tmp_path, lambda table: table.assign(mine=1))) == of(OK, GONE)


@pytest.mark.parametrize(
    "change",
    [
        lambda table: table.assign(status="a status of next year"),
        lambda table: table.assign(split="dev"),
        lambda table: table.assign(youtube_id="../x"),
        lambda table: table.assign(youtube_id=pd.NA),
        lambda table: table.assign(time_start="soon"),
    ],
)
def test_rows_that_no_build_writes_are_refused(change: Callable[[pd.DataFrame], pd.DataFrame], tmp_path: Path) -> None:
    path = changed(tmp_path, change)

    assert refusal(path).startswith(f"{path}: is invalid (")


def test_facts_that_were_lost_are_refused(tmp_path: Path) -> None:
    assert "is invalid ('classes')" in refusal(changed(tmp_path, same, classes=None))


def test_a_flipped_bit_is_found_or_harmless(tmp_path: Path) -> None:
    made = many(60)
    path = write(tmp_path, made)
    data = path.read_bytes()
    drawn = random.Random(0)
    found = 0
    for _ in range(150):
        where = drawn.randrange(len(data))
        path.write_bytes(data[:where] + bytes([data[where] ^ 1 << drawn.randrange(8)]) + data[where + 1 :])
        try:
            assert manifest.read(path).outcomes == made.outcomes
        except ManifestError:
            found += 1
    assert found > 50  # without the pages' checksums most went unseen


@pytest.mark.parametrize(
    ("column", "value", "said"),
    [
        ("path", "", "is not a file's"),
        ("path", ".", "is not a file's"),
        ("path", "clips/a\0b.mp4", "is not a file's"),
        ("path", "../x.mp4", "leads out of the build's folder"),
        ("sha256", "", "is not a checksum"),
        ("sha256", "AB" * 32, "is not a checksum"),
        ("bytes", -1, "is not the size"),
        ("audio_channel", "0|0", "is none of mix, left, right, a number"),
    ],
)
def test_an_ok_row_that_names_no_file_is_refused(column: str, value: object, said: str, tmp_path: Path) -> None:
    def change(table: pd.DataFrame) -> pd.DataFrame:
        return table.assign(**{column: table[column].where(table["status"] != "ok", value)})

    assert said in refusal(changed(tmp_path, change))


def test_a_clip_that_stands_in_it_twice_is_refused(tmp_path: Path) -> None:
    assert f"{CLIP.key} is in it twice" in refusal(write(tmp_path, of(OK, OK)))


def test_a_clip_whose_label_is_no_class_is_refused(tmp_path: Path) -> None:
    path = changed(tmp_path, lambda table: table.assign(label="golf"))

    assert f"{CLIP.key} has the unknown label 'golf'" in refusal(path)


# --- Fingerprints -----------------------------------------------------------------------------------------------------


def test_a_fingerprint_is_sha256_over_the_sorted_keys() -> None:
    assert manifest.fingerprint(["b", "a"]) == hashlib.sha256(b"a\nb\n").hexdigest()
    assert manifest.fingerprint([]) == hashlib.sha256(b"").hexdigest()


@given(keys=st.lists(st.text("ab_-0", min_size=1, max_size=4), unique=True, max_size=6), data=st.data())
def test_a_fingerprint_does_not_know_the_order(keys: list[str], data: st.DataObject) -> None:
    shuffled: Sequence[str] = data.draw(st.permutations(keys))

    assert manifest.fingerprint(shuffled) == manifest.fingerprint(keys)
    assert manifest.fingerprint(iter(keys)) == manifest.fingerprint(keys)


def test_a_fingerprint_tells_sets_apart_that_spell_the_same() -> None:
    assert manifest.fingerprint(["ab", "c"]) != manifest.fingerprint(["a", "bc"])
    assert manifest.fingerprint(["a", "b"]) != manifest.fingerprint(["a"])


# --- Size -------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_twenty_thousand_rows_take_seconds(tmp_path: Path) -> None:
    made = many(20_000)
    began = time.process_time()

    path = write(tmp_path, made)
    read = manifest.read(path)

    assert time.process_time() - began < 10  # half a second each way when this was written
    assert read == made


def test_a_user_s_own_list_of_a_shipped_name_has_no_shipped_note(tmp_path: Path) -> None:
    path = tmp_path / "manifest.parquet"

    manifest.write(path, ClassList("k100", LABELS), (OK,))

    assert manifest.read(path).classes == ClassList("k100", LABELS, note="")


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ({"labels": [["humming"], "clapping"]}, "its classes are not a list of labels"),
        ({"labels": {"humming": 1}}, "its classes are not a list of labels"),
        ({"labels": "humming"}, "its classes are not a list of labels"),
        ({"labels": ["humming", "humming"]}, "its classes contain a label twice"),
        ({"classes": ["k32"]}, "its classes are not a list of labels"),
        ({"note": 3}, "its classes are not a list of labels"),
    ],
)
def test_classes_that_no_build_writes_are_refused(facts: dict[str, Any], said: str, tmp_path: Path) -> None:
    path = changed(tmp_path, same, **facts)

    assert f"is invalid ({said}" in refusal(path)
    with pytest.raises(ManifestError, match=said):
        manifest.read_classes(path)


def test_facts_that_are_nested_without_end_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "manifest.parquet"
    table = pa.table({"key": ["a"]}).replace_schema_metadata({b"kinetics_sounds": b"[" * 100_000})
    parquet.write_table(table, path)

    assert "is invalid (" in refusal(path)


@pytest.mark.parametrize("name", ["manifest.parquet", "manifest.csv"])
def test_of_two_files_the_one_that_could_not_be_written_is_named(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken(io.FileIO):
        def write(self, data: Any) -> int:
            raise OSError(errno.EIO, "Input/output error")

    real = Path.open

    def opened(path: Path, mode: str) -> IO[bytes]:
        if path.name.startswith(name) and mode == "wb":
            return cast("IO[bytes]", Broken(path, mode))
        return cast("IO[bytes]", real(path, mode))

    monkeypatch.setattr(Path, "open", opened)
    with pytest.raises(OSError, match="Input/output error") as caught:
        manifest.write(tmp_path / "manifest.parquet", ClassList("mine", LABELS), [])
    assert caught.value.filename == str(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["manifest.parquet", "manifest.csv"])
def test_a_disk_that_fails_is_no_damage(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The build that made the file need not be run again."""

    def fails(*_: object, **__: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    (tmp_path / name).touch()
    monkeypatch.setattr(parquet, "ParquetFile", fails)
    monkeypatch.setattr(files, "read_text", fails)
    with pytest.raises(
        ManifestError, match=rf"{tmp_path}/{name}: cannot be read: .*Input/output error; check that the disk"
    ) as e:
        manifest.read(tmp_path / name)
    assert isinstance(e.value.__cause__, OSError)
