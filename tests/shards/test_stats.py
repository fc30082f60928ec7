import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kinetics_sounds import hub
from kinetics_sounds.address import Address
from kinetics_sounds.errors import ShardError
from kinetics_sounds.media.log_mel import LogMel
from kinetics_sounds.media.spectrogram import Spectrogram
from kinetics_sounds.shards import index, layout, stats
from kinetics_sounds.shards.stats import Statistics

from ..hub_server import Hub
from .sets import make

COARSE = Spectrogram(window_seconds=0.5, n_fft=8, hop_seconds=0.1)
ENTRY = Statistics(
    split="train",
    fingerprint="",  # that of sets that tests make
    samples=3,
    windows=15,
    numbers=COARSE,
    mean=(-40.5, -50.0, -1 / 3),
    std=(10.0, 0.0, 1e-9),
    data_recipe="a recipe",  # as well
)


@pytest.fixture(params=["folder", "URL"])
def place(tmp_path: Path, request: pytest.FixtureRequest) -> Address:
    """A set without statistics."""
    folder = make(tmp_path / "set", (3,))
    return Address(str(folder) if request.param == "folder" else f"file://{folder}")


def file_of(place: Address) -> Path:
    return Path(place.real.removeprefix("file://")) / layout.STATS


def find(place: Address, numbers: stats.Numbers = COARSE, split: str = "train") -> Statistics:
    return stats.find(place, index.read_dataset(file_of(place).parent), split, numbers)


def test_what_is_written_is_read(place: Address) -> None:
    stats.add(place, ENTRY)

    assert stats.read(place) == (ENTRY,)
    assert find(place) == ENTRY


LOG_MEL = LogMel(window_seconds=0.5, n_fft=64, frame_seconds=0.004, hop_seconds=0.1, bands=3)


def test_log_mel_spectrograms_stand_beside_the_others_with_a_command_of_their_own(place: Address) -> None:
    entry = dataclasses.replace(ENTRY, numbers=LOG_MEL)
    with pytest.raises(
        ShardError, match=r"of train for log-mel spectrograms of .* --split train --kind log_mel --window_seconds"
    ):
        find(place, LOG_MEL)

    for each in (ENTRY, entry):
        stats.add(place, each)

    assert stats.read(place) == (ENTRY, entry)
    assert (find(place), find(place, LOG_MEL)) == (ENTRY, entry)
    with pytest.raises(ShardError, match=r"for log spectrograms of window_seconds 0.5.*for log-mel .* bands 3"):
        find(place, dataclasses.replace(LOG_MEL, bands=4))


def test_a_set_may_have_none(place: Address) -> None:
    assert stats.read(place) == ()


def test_entries_stand_beside_each_other_and_a_new_one_takes_the_place_of_its_like(place: Address) -> None:
    fine = dataclasses.replace(ENTRY, numbers=dataclasses.replace(COARSE, n_fft=12), mean=(0.0,) * 4, std=(1.0,) * 4)
    other = dataclasses.replace(ENTRY, split="val")
    newer = dataclasses.replace(ENTRY, samples=4)

    for each in (ENTRY, fine, other, newer):
        stats.add(place, each)

    assert stats.read(place) == (fine, other, newer)
    assert find(place) == newer
    assert find(place, fine.numbers) == fine


def test_what_is_missing_is_told_with_what_is_there_and_the_command(place: Address) -> None:
    with pytest.raises(ShardError) as nothing:
        find(place)
    stats.add(place, ENTRY)
    with pytest.raises(ShardError) as unlike:
        find(place, dataclasses.replace(COARSE, hop_seconds=0.05))

    command = f"compute them with: ks-shard stats {place} --split train --window_seconds 0.5 --n_fft 8 --hop_seconds"
    assert str(nothing.value).endswith(f"{command} 0.1")
    assert (
        "has no statistics of train for log spectrograms of window_seconds 0.5, n_fft 8, hop_seconds 0.1; comp"
        in str(nothing.value)
    )
    assert "; it has those for log spectrograms of window_seconds 0.5, n_fft 8, hop_seconds 0.1; compute" in str(
        unlike.value
    )
    assert str(unlike.value).endswith(f"{command} 0.05")


def test_those_of_other_clips_are_refused(place: Address) -> None:
    stats.add(place, dataclasses.replace(ENTRY, fingerprint="of other clips"))

    with pytest.raises(
        ShardError, match=r"belong to other clips \(fingerprint of other clips, not \); compute them with"
    ):
        find(place)


@pytest.mark.parametrize("recipe", ["of another packing", ""])
def test_those_of_the_same_clips_packed_otherwise_are_refused(place: Address, recipe: str) -> None:
    """As after a pack with other audio, whose keys are the same; old entries do not tell."""
    stats.add(place, dataclasses.replace(ENTRY, data_recipe=recipe))

    told = recipe[:16] or "not recorded"
    with pytest.raises(
        ShardError, match=rf"the same clips packed with other settings \(data recipe {told}, .*compute them with: ks"
    ):
        find(place)


def test_an_entry_of_before_the_recipe_was_kept_is_read(place: Address) -> None:
    file_of(place).write_bytes(spoilt(lambda entry: entry.pop("data_recipe")))

    assert stats.read(place) == (dataclasses.replace(ENTRY, data_recipe=""),)


def spoilt(change: Callable[[dict[str, Any]], object]) -> bytes:
    """The file with one thing changed, and a checksum of its own."""
    entry = json.loads(json.dumps(dataclasses.asdict(ENTRY)))
    change(entry)
    return index.seal({"entries": [entry]})


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda entry: entry.update(mean=[1.0, 2.0]), "do not have 3 bins"),
        (lambda entry: entry.update(std=[1.0, 2.0]), "do not have 3 bins"),
        (lambda entry: entry.update(std=[1.0, 2.0, -1.0]), "do not have 3 bins"),
        (lambda entry: entry.update(std=[1.0, 2.0, "3"]), "is no float"),
        (lambda entry: entry.update(mean=[1.0, 2.0, 1e999]), "cannot be read as JSON"),
        (lambda entry: entry["numbers"].update(n_fft=10), "n_fft 10 must be a multiple of 4"),
        (lambda entry: entry["numbers"].update(n_fft=2**30), "n_fft 1073741824 must be"),
        (
            lambda entry: entry["numbers"].update(bands=3),
            "unknown fields bands, hop_seconds, n_fft, window_seconds",
        ),
        (lambda entry: entry.pop("split"), "is not a valid set's statistics"),
        (lambda entry: entry.update(extra=1), "is not a valid set's statistics"),
    ],
)
def test_what_no_writer_of_ours_wrote_is_refused_with_a_remedy(
    place: Address, change: Callable[[dict[str, Any]], object], complaint: str
) -> None:
    file_of(place).write_bytes(spoilt(change))

    with pytest.raises(ShardError, match=f"{complaint}.*delete it, and compute it again with ks-shard stats"):
        stats.read(place)


def test_a_changed_byte_is_found(place: Address) -> None:
    stats.add(place, ENTRY)
    file_of(place).write_bytes(file_of(place).read_bytes().replace(b"-40.5", b"-41.5"))

    with pytest.raises(ShardError, match="its checksum differs"):
        stats.read(place)


def test_an_entry_that_cannot_be_added_leaves_the_others(place: Address, monkeypatch: pytest.MonkeyPatch) -> None:
    stats.add(place, ENTRY)

    def fail(_: object) -> bytes:
        raise KeyboardInterrupt

    monkeypatch.setattr(index, "seal", fail)
    with pytest.raises(KeyboardInterrupt):
        stats.add(place, dataclasses.replace(ENTRY, split="val"))

    assert stats.read(place) == (ENTRY,)
    assert sorted(path.name for path in file_of(place).parent.iterdir() if path.is_file() and path.suffix) == [
        layout.DATASET,
        layout.STATS,
    ]


@pytest.mark.slow
def test_on_the_hub_they_are_a_file_of_the_set(tmp_path: Path, hub_server: Hub) -> None:
    """In a commit of their own; the set's other files stay, and the same again is no commit."""
    url, folder = "hf://datasets/ann/k32/shards", make(tmp_path / "set", (1,))
    files = [path.relative_to(folder).as_posix() for path in folder.rglob("*.*") if path.is_file()]
    hub.push(hub.parse(url), [hub.Item(path=folder / name, name=name) for name in files], what="", message="Add shards")
    before = hub_server.commits("datasets/ann/k32")

    for _ in range(2):
        stats.add(Address(url), ENTRY)

    assert stats.read(Address(url)) == (ENTRY,)
    assert hub_server.commits("datasets/ann/k32") == before + 1
    assert set(hub_server.repos["datasets/ann/k32"].files) == {f"shards/{name}" for name in (*files, layout.STATS)}
