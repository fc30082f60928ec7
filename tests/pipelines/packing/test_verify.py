import dataclasses
import io
import json
import pickle
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kinetics_sounds import fingerprints, manifest, remote
from kinetics_sounds.address import Address
from kinetics_sounds.media import encode, mel, probe
from kinetics_sounds.pipelines import shard
from kinetics_sounds.pipelines.packing import verify
from kinetics_sounds.pipelines.packing.verify import Checked, TarTask
from kinetics_sounds.shards import index, layout
from kinetics_sounds.shards.writer import BLOCK

from ...shards.sets import make, parts, upload
from ..conftest import video

COUNT = 3


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """One tar of three samples, k_0 to k_2, each of four parts."""
    return sound(make(tmp_path / "set", (COUNT,)))


def sound(folder: Path, **changes: Any) -> Path:
    """The set with the facts that its maker leaves out, or others."""
    dataset = index.read_dataset(folder)
    keys = [f"k_{number}" for number in range(dataset.splits["train"].samples)]
    facts = dataclasses.replace(dataset.splits["train"], fingerprint=manifest.fingerprint(keys))
    index.write(folder / layout.DATASET, dataclasses.replace(dataset, splits={"train": facts}, **changes))
    return folder


def tar_of(folder: Path) -> Path:
    return layout.tar_path(folder, "train", 0)


def check(folder: Path | str, *, decode: bool = False) -> Checked:
    return verify.check_tar(TarTask(place=Address(str(folder)), split="train", number=0, decode=decode))


def told(folder: Path | str, *, decode: bool = False) -> list[tuple[str, str]]:
    return [(fault.key, fault.what) for fault in check(folder, decode=decode).faults]


def index_of(folder: Path) -> index.Index:
    return index.read_index(layout.index_path(tar_of(folder)))


def change_index(folder: Path, **changes: Any) -> None:
    index.write(layout.index_path(tar_of(folder)), dataclasses.replace(index_of(folder), **changes))


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


# --- Tars and indexes -----------------------------------------------------------------------------------------------


def test_a_sound_tar_has_no_fault(folder: Path) -> None:
    assert check(folder) == Checked(keys=("k_0", "k_1", "k_2"), label_indices=(0, 1, 2))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_no_flipped_bit_goes_unseen_and_in_data_its_sample_is_named(folder: Path, data: st.DataObject) -> None:
    tar, made = tar_of(folder), index_of(folder)
    whole = tar.read_bytes()
    at = data.draw(st.integers(0, len(whole) - 1))
    changed = bytearray(whole)
    changed[at] ^= 1 << data.draw(st.integers(0, 7))
    tar.write_bytes(changed)

    found = told(folder)
    tar.write_bytes(whole)

    assert found
    for key, offsets, sizes in zip(made.keys, made.offsets, made.sizes, strict=True):
        for part, offset, size in zip(made.parts, offsets, sizes, strict=True):
            if offset <= at < offset + size:
                assert found == [(key, f"its {part} is damaged")]
            elif offset - BLOCK <= at < offset:
                assert [name for name, _ in found] == [key]
                assert found[0][1].startswith(f"the header of its {part} ")


def test_every_bad_sample_is_named(folder: Path) -> None:
    for row in (0, 2):
        flip(tar_of(folder), index_of(folder).offsets[row][1])

    assert told(folder) == [("k_0", "its json is damaged"), ("k_2", "its json is damaged")]


def test_of_a_tar_cut_short_the_samples_beyond_the_cut_are_named(folder: Path) -> None:
    made = index_of(folder)
    cut = made.offsets[1][2] + 1
    tar_of(folder).write_bytes(tar_of(folder).read_bytes()[:cut])

    found = told(folder)

    assert found[0] == ("", f"is cut short: {cut} bytes, but {made.bytes} according to its index")
    lost = [("k_1", made.parts[2]), ("k_1", made.parts[3]), *(("k_2", part) for part in made.parts)]
    assert found[1:] == [(key, f"its {part} is truncated") for key, part in lost]


def test_bytes_behind_the_end_are_told(folder: Path) -> None:
    with tar_of(folder).open("ab") as file:
        file.write(b"more")

    assert told(folder)[0][1].startswith("is too long")


def test_a_change_between_the_samples_is_told(folder: Path) -> None:
    """The padding behind the last part belongs to no sample."""
    made = index_of(folder)
    at = made.offsets[-1][-1] + made.sizes[-1][-1]
    assert at % BLOCK
    flip(tar_of(folder), at)

    assert told(folder) == [("", "was changed between or after its samples: its SHA-256 differs from its index")]


def test_a_missing_tar_is_told(folder: Path) -> None:
    tar_of(folder).unlink()

    assert told(folder) == [("", "is missing, but its index exists; copy it, or make the set again with ks-shard")]


def test_a_missing_or_damaged_index_is_told(folder: Path) -> None:
    path = layout.index_path(tar_of(folder))
    flip(path, 200)
    assert index.MENDING in told(folder)[0][1]
    path.unlink()
    assert "has no index (train-000000.json is missing)" in told(folder)[0][1]


def test_an_index_of_another_set_is_told(folder: Path) -> None:
    change_index(folder, recipe="another recipe")

    assert told(folder) == [("", "its index belongs to another set than dataset.json")]


def test_a_stale_index_names_every_sample(folder: Path, tmp_path: Path) -> None:
    """The tar was made again with other bytes, and the old index stayed."""
    other = make(tmp_path / "other", (COUNT,), parts=lambda number: parts(number + 5))
    tar_of(folder).write_bytes(tar_of(other).read_bytes())

    assert {key for key, _ in told(folder)} >= {"k_0", "k_1", "k_2"}


def rewritten(folder: Path, change: Callable[[list[tuple[str, bytes]]], list[tuple[str, bytes]]]) -> None:
    """The tar with other members, by tarfile; the index is left as it was."""
    with tarfile.open(tar_of(folder)) as tar:
        members = [(member.name, tar.extractfile(member).read()) for member in tar]  # type: ignore[union-attr]
    with tarfile.open(tar_of(folder), "w", format=tarfile.USTAR_FORMAT) as tar:
        for name, data in change(members):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "k_2.pickle", "k_2/mp4", "deep/er.mp4"])
def test_a_member_that_no_index_knows_is_named_and_not_opened(folder: Path, name: str) -> None:
    rewritten(folder, lambda members: [*members, (name, pickle.dumps(print))])

    assert ("", f"contains {name!r}, which is not in its index: do not open it") in told(folder)


def test_a_member_between_two_places_of_the_index_is_named(folder: Path) -> None:
    """Its index was made to skip it, and has the right size and checksum."""
    rewritten(folder, lambda members: [*members[:4], ("../x", b"x"), *members[4:]])
    made = index_of(folder)
    rows = [made.offsets[0], *(tuple(offset + 2 * BLOCK for offset in row) for row in made.offsets[1:])]
    change_index(folder, offsets=tuple(rows), bytes=tar_of(folder).stat().st_size)

    assert ("", "contains '../x', which is not in its index: do not open it") in told(folder)


def test_of_much_rubbish_twenty_are_named(folder: Path) -> None:
    """A hundred blocks, each of which could be a header."""
    with tar_of(folder).open("ab") as file:
        file.write(b"rubbish".ljust(BLOCK, b"\0") * 100)

    found = told(folder)
    assert found.count(("", "contains further data that are not in its index")) == 1
    assert len(list(verify.tar_faults(tar_of(folder), index_of(folder)))) == 22  # with the size


def test_swapped_members_are_named(folder: Path) -> None:
    rewritten(folder, lambda members: [members[4], *members[1:4], members[0], *members[5:]])

    assert {key for key, what in told(folder) if "has the name" in what or "is damaged" in what} >= {"k_0", "k_1"}


@pytest.mark.parametrize(("kind", "target"), [(b"2", b""), (b"0", b"../"), (b"5", b""), (b"x", b"")])
def test_what_is_no_plain_file_is_no_sample(folder: Path, kind: bytes, target: bytes) -> None:
    """In a header whose checksum is right: a link, a file with a target, a folder, an extension that renames the next."""
    data = bytearray(tar_of(folder).read_bytes())
    header = bytearray(data[:BLOCK])
    header[156:157], header[157 : 157 + len(target)] = kind, target
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    tar_of(folder).write_bytes(header + data[BLOCK:])

    assert told(folder) == [("k_0", "the header of its flac is not that of a regular USTAR file")]


@pytest.mark.parametrize("key", ["../x", "k.1", "", "k\n1", "ä"])
def test_a_key_that_is_no_name_is_told(folder: Path, key: str) -> None:
    change_index(folder, keys=("k_0", key, "k_2"))

    assert told(folder, decode=True) == [(key, "is not a valid name of a sample")]


def test_a_label_that_the_set_does_not_have_is_told(folder: Path) -> None:
    """Of three labels the last is number 2."""
    change_index(folder, label_indices=(0, 1, 3))

    what = "its index: has labels that are not in dataset.json; make the set again with ks-shard"
    assert told(folder) == [("", what)]


@pytest.mark.parametrize("offsets", [(0, 0, 0, 0), (512, 512, 512, 512), (2**62,) * 4])
def test_an_index_that_lies_about_places_ends_in_faults(folder: Path, offsets: tuple[int, ...]) -> None:
    change_index(folder, offsets=(index_of(folder).offsets[0], offsets, index_of(folder).offsets[2]))

    assert "k_1" in {key for key, _ in told(folder)}


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_rubbish_crashes_the_check(folder: Path, data: st.DataObject) -> None:
    tar = tar_of(folder)
    whole = tar.read_bytes()
    start = data.draw(st.integers(0, len(whole)))
    end = data.draw(st.integers(start, len(whole)))
    changed = whole[:start] + data.draw(st.binary(max_size=2 * BLOCK)) + whole[end:]
    tar.write_bytes(changed)

    found = told(folder)
    tar.write_bytes(whole)

    assert bool(found) == (changed != whole)


# --- What the samples hold ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["h264", "jpeg"])
def packed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The real parts of one clip of 20 frames and two seconds."""
    scratch = tmp_path_factory.mktemp("clip")
    video(scratch / "clip.mp4", seconds=2)
    found, how = probe.probe(scratch / "clip.mp4"), encode.Encoding(short_side=32, codec=request.param)
    made = encode.encode(scratch / "clip.mp4", found=found, scratch=scratch, encoding=how, timeout_seconds=30)
    frames = {layout.JPEGS: b"".join(made.jpegs)} if made.jpegs else {layout.FRAMES: made.mp4}
    meta: dict[str, object] = {"num_frames": made.num_frames, "audio_samples": made.waveform.size}
    if made.jpegs:
        from zlib import crc32

        meta |= {"frame_bytes": list(map(len, made.jpegs)), "frame_crcs": list(map(crc32, made.jpegs))}
    image = mel.mel_image(made.waveform, mel.PRESETS["paper"]).astype(np.float16)
    return frames | {layout.AUDIO: made.flac, layout.MEL: npy(image), layout.META: json.dumps(meta).encode()}


def npy(array: np.ndarray) -> bytes:
    out = io.BytesIO()
    np.save(out, array)
    return out.getvalue()


def with_meta(number: int, sample: Mapping[str, bytes], **changes: object) -> dict[str, bytes]:
    meta = json.loads(sample[layout.META]) | {"label_index": number % 3} | changes
    return {**sample, layout.META: json.dumps(meta).encode()}


def holding(packed: Mapping[str, bytes], folder: Path, **wrong: bytes | object) -> Path:
    """A set of which sample 1 has other parts (by their names) or other metadata, written and summed as if they were right."""

    def of(number: int) -> dict[str, bytes]:
        changes = wrong if number == 1 else {}
        others = {name: value for name, value in changes.items() if isinstance(value, bytes)}
        meta = {name: value for name, value in changes.items() if not isinstance(value, bytes)}
        return with_meta(number, {**packed, **others}, **meta)

    made = make(folder, (COUNT,), parts=of)
    return sound(made, frames={"short_side": 32}, mel={"bands": 256, "columns": 256})


def test_sound_samples_decode(packed: dict[str, bytes], tmp_path: Path) -> None:
    assert told(holding(packed, tmp_path), decode=True) == []


WRONG: list[tuple[dict[str, Any], str]] = [
    ({layout.MEL: npy(np.zeros((256, 255), np.float16))}, "its mel-spectrogram is 256 x 255, not 256 x 256"),
    *(
        (
            {layout.MEL: npy(np.full((256, 256), value, np.float16))},
            f"its mel-spectrogram holds 65536 values {no}",
        )
        for value, no in (
            (value, f"outside of 0 to 1, such as {value}") for value in (np.nan, np.inf, -np.inf, 1.5, -0.5)
        )
    ),
    ({layout.MEL: npy(np.zeros((256, 256), np.float32))}, "its mel-spectrogram cannot be read"),
    ({layout.MEL: pickle.dumps(print)}, "its mel-spectrogram cannot be read"),
    ({layout.AUDIO: b"fLaC, but no more"}, "the stored sound does not decode"),
    ({"audio_samples": 5}, "the stored sound has 48000 samples, not 5"),
    ({"num_frames": 0, "frame_bytes": [], "frame_crcs": []}, "it has no frame"),
    ({"num_frames": -1}, "its metadata cannot be read"),
    ({"label_index": 2}, "its label is not number 1 as in its index"),
]


@pytest.mark.parametrize(("wrong", "said"), WRONG, ids=[said for _, said in WRONG])
def test_a_sample_that_is_whole_but_wrong_is_named(
    packed: dict[str, bytes], tmp_path: Path, wrong: dict[str, Any], said: str
) -> None:
    folder = holding(packed, tmp_path, **wrong)

    assert told(folder) == []
    [(key, what)] = told(folder, decode=True)
    assert (key, what[: len(said)]) == ("k_1", said)


@pytest.mark.parametrize("count", [19, 21])
def test_frames_are_as_many_as_the_metadata_says(packed: dict[str, bytes], tmp_path: Path, count: int) -> None:
    [(key, what)] = told(holding(packed, tmp_path, num_frames=count), decode=True)

    assert key == "k_1"
    assert "frames" in what or "outside" in what or "frame" in what


def test_frames_of_another_size_are_named(packed: dict[str, bytes], tmp_path: Path) -> None:
    folder = sound(holding(packed, tmp_path), frames={"short_side": 64}, mel={"bands": 256, "columns": 256})

    assert told(folder, decode=True) == [(f"k_{number}", "its frames are 32 x 32") for number in range(COUNT)]


def test_what_is_known_to_be_damaged_is_not_given_to_a_decoder(packed: dict[str, bytes], tmp_path: Path) -> None:
    folder = holding(packed, tmp_path)
    made = index_of(folder)
    flip(tar_of(folder), made.offsets[1][made.parts.index(layout.AUDIO)] + 8)

    assert told(folder, decode=True) == [("k_1", "its flac is damaged")]


# --- Sets -----------------------------------------------------------------------------------------------------------


def run(place: Path | str, *options: str) -> int:
    code: int = shard.main(["--verify", str(place), "--workers", "1", *options])
    return code


def test_a_sound_set_is_told_so(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(folder) == 0
    assert capsys.readouterr().out == f"{folder}: 3 samples in 1 shard, nothing bad\n"


def test_bad_samples_are_listed_and_the_code_says_so(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flip(tar_of(folder), index_of(folder).offsets[1][0])

    assert run(folder) == 1
    assert capsys.readouterr().out == (
        f"train/train-000000.tar: sample k_1: its flac is damaged\n{folder}: 3 samples in 1 shard, 1 bad\n{shard.MENDING}\n"
    )
    assert run(folder, "--json") == 1
    assert json.loads(capsys.readouterr().out) == {
        "shards": 1,
        "samples": 3,
        "faults": [{"place": "train/train-000000.tar", "key": "k_1", "what": "its flac is damaged", "packed": False}],
    }


def test_a_sample_that_was_packed_wrong_has_another_remedy_than_a_damaged_one(
    packed: dict[str, bytes], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = holding(packed, tmp_path, **{layout.MEL: npy(np.full((256, 256), np.nan, np.float16))})

    assert run(folder, "--verify_decode") == 1
    told = capsys.readouterr().out
    assert shard.PACKED_SO in told
    assert shard.MENDING not in told
    flip(tar_of(folder), index_of(folder).offsets[0][0])
    assert run(folder, "--verify_decode") == 1
    told = capsys.readouterr().out
    assert shard.PACKED_SO in told
    assert shard.MENDING in told


def test_where_there_is_no_set_is_a_misuse(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path) == 2
    assert "has no shard set" in capsys.readouterr().err


def test_a_set_with_parts_that_run_code_is_bad(folder: Path) -> None:
    dataset = index.read_dataset(folder)
    index.write(folder / layout.DATASET, dataclasses.replace(dataset, parts=(*dataset.parts, "pickle")))

    report = verify.verify(Address(str(folder)), decode=False, workers=1, stop=lambda: True)

    assert any("has parts 'pickle'" in fault.what for fault in report.faults)


def test_what_only_the_set_as_a_whole_shows_is_told(folder: Path) -> None:
    (folder / "train/train-000001.tar").write_bytes(tar_of(folder).read_bytes())
    dataset = index.read_dataset(folder)

    def faults(*keys: str) -> list[str]:
        clips = [(key, label_index) for label_index, key in enumerate(keys)]
        return list(verify.split_faults(Address(str(folder)), dataset, "train", clips))

    assert faults("k_0", "k_1", "k_2") == [
        "train-000001.tar is not one of its 1 shards; delete it, or make the set again with ks-shard"
    ]
    assert faults("k_0", "k_1", "k_1")[0] == "its indexes have 3 samples, which do not match the 3 of dataset.json"
    assert faults("k_0", "k_1", "k_1")[1] == "has duplicate samples"


def with_selection(folder: Path, **of_set: Any) -> index.Dataset:
    """The set with the selection of its three samples, and `of_set` besides."""
    dataset = index.read_dataset(folder)
    rows = [(f"k_{number}", dataset.labels[number], "train") for number in range(COUNT)]
    facts = dataclasses.replace(dataset.splits["train"], selection=fingerprints.selection(rows))
    changed = dataclasses.replace(dataset, splits={"train": facts}, selection=facts.selection)
    index.write(folder / layout.DATASET, dataclasses.replace(changed, **of_set))
    return index.read_dataset(folder)


def test_a_sample_whose_label_the_selection_does_not_have_is_told(folder: Path) -> None:
    dataset, place = with_selection(folder), Address(str(folder))

    assert list(verify.split_faults(place, dataset, "train", [("k_0", 0), ("k_1", 1), ("k_2", 2)])) == []
    assert list(verify.split_faults(place, dataset, "train", [("k_0", 0), ("k_1", 2), ("k_2", 2)])) == [
        "its indexes have other labels than dataset.json: its selection differs"
    ]


def test_a_selection_of_the_set_that_is_not_that_of_its_splits_is_told(folder: Path) -> None:
    with_selection(folder)
    assert verify.verify(Address(str(folder)), decode=False, workers=1, stop=lambda: False).faults == ()

    with_selection(folder, selection="0" * 64)
    (fault,) = verify.verify(Address(str(folder)), decode=False, workers=1, stop=lambda: False).faults
    assert (fault.place, fault.what) == (
        "dataset.json",
        "its selection does not match the samples in the indexes (3 in all splits)",
    )


def test_a_set_that_claims_a_milliard_of_shards_is_checked_up_to_the_first_that_is_not_there(folder: Path) -> None:
    dataset = index.read_dataset(folder)
    claimed = dataclasses.replace(dataset.splits["train"], shards=10**9)
    index.write(folder / layout.DATASET, dataclasses.replace(dataset, splits={"train": claimed}))

    report = verify.verify(Address(str(folder)), decode=False, workers=1, stop=lambda: False)

    assert (report.shards, report.samples) == (1, 3)
    [fault] = report.faults
    assert fault.place == "train/train-000001.tar"
    assert fault.what.startswith("has no index: of 1000000000 shards of train, those from here on were not checked")


def test_a_tar_at_a_url_that_is_of_another_size_is_not_fetched(
    folder: Path, s3: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with tar_of(folder).open("ab") as file:
        file.write(b"more")
    url = upload(folder, f"{s3}/set")
    monkeypatch.setattr(remote, "_pieces", None)  # nothing could be fetched by it

    [(_, what)] = told(url)
    assert what.startswith("cannot be read: ")
    assert f"has {tar_of(folder).stat().st_size} bytes, but {index_of(folder).bytes}" in what


def test_a_set_at_a_url_is_checked_too(folder: Path, s3: str) -> None:
    flip(tar_of(folder), index_of(folder).offsets[1][0])
    url = upload(folder, f"{s3}/set")

    assert told(url) == [("k_1", "its flac is damaged")]
