"""Sets whose samples have several labels: all of them are in the index and the samples, the class first."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from kinetics_sounds import manifest, remote, stream
from kinetics_sounds.address import Address
from kinetics_sounds.cache import Cache
from kinetics_sounds.clip import Clip
from kinetics_sounds.errors import ShardError
from kinetics_sounds.pipelines.packing import verify
from kinetics_sounds.pipelines.packing.verify import TarTask
from kinetics_sounds.shards import index, layout
from kinetics_sounds.shards.index import SplitFacts
from kinetics_sounds.shards.split import LabelSets
from kinetics_sounds.shards.writer import Sample, ShardWriter
from kinetics_sounds.train.data import dataset
from kinetics_sounds.train.data.loader import _Sent

from .sets import LABELS, make, upload

SETS = {"a": (2, 0), "b": (1,), "c": (0, 2, 1)}
"""Label indices of each sample, its class first; `b` also has a label that is not in the class list."""
NAMES = {"a": ["singing", "humming"], "b": ["clapping", "cheering"], "c": ["humming", "singing", "clapping"]}


def several(folder: Path, *, sets: dict[str, tuple[int, ...]] = SETS, schema: int = layout.LABELS_SCHEMA) -> Path:
    """A set of two shards, `a` and `b` in the first."""
    make(folder, (), schema=schema)
    made = []
    for number, keys in enumerate(("ab", "c")):
        with ShardWriter(layout.tar_path(folder, "train", number), recipe="a recipe") as writer:
            for key in keys:
                told = {"num_frames": 0, "label_index": SETS[key][0], "labels": NAMES[key], "label_indices": SETS[key]}
                parts = {layout.META: json.dumps(told).encode()}
                writer.write(Sample(key=key, label_index=SETS[key][0], parts=parts, label_indices=sets.get(key, ())))
            made.append(writer.close())
    facts = SplitFacts(shards=2, samples=3, bytes=1, left=0, fingerprint=manifest.fingerprint("abc"), selection="")
    read = index.read_dataset(folder)
    index.write(folder / layout.DATASET, dataclasses.replace(read, parts=made[0].parts, splits={"train": facts}))
    return folder


def faults(folder: Path) -> list[str]:
    """Of both tars, by what a worker of `ks-shard --verify --verify_decode` does."""
    tasks = [TarTask(place=Address(str(folder)), split="train", number=number, decode=True) for number in (0, 1)]
    return [fault.what for task in tasks for fault in verify.check_tar(task).faults]


def test_a_split_has_all_labels_of_each_sample(tmp_path: Path) -> None:
    split = stream.open_split(several(tmp_path), "train")

    assert [split.label_indices(number).tolist() for number in range(3)] == [[2, 0], [1], [0, 2, 1]]
    assert split.label_index_N.tolist() == [2, 1, 0]
    assert split.label_sets is not None
    assert split.label_sets.several == 2


def test_a_sample_also_has_those_that_are_not_in_the_class_list(tmp_path: Path) -> None:
    split = stream.open_split(several(tmp_path), "train")

    with stream.sample(split, 1) as sample:
        assert (sample.labels, sample.label_index) == (("clapping", "cheering"), 1)


def test_a_url_s_labels_are_the_same(tmp_path: Path) -> None:
    url = upload(several(tmp_path / "set"), "memory://labels")
    split = stream.open_split(url, "train", cache=Cache(tmp_path / "cache", most_bytes=1 << 20))

    assert split.label_indices(2).tolist() == [0, 2, 1]
    remote.forget(Address(url))


def test_a_set_of_one_label_a_sample_is_as_it_was(tmp_path: Path) -> None:
    split = stream.open_split(make(tmp_path, (2,)), "train")

    assert (split.label_sets, split.label_indices(1).tolist()) == (None, [1])
    assert "label_sets" not in json.loads((tmp_path / "train/train-000000.json").read_text())
    assert json.loads((tmp_path / layout.DATASET).read_text())["schema"] == 2
    with stream.sample(split, 1) as sample:  # whose metadata are too few for `labels`
        assert sample.label_index == 1


def test_a_reader_that_knows_no_label_sets_refuses_them(tmp_path: Path) -> None:
    """Versions before this one read the schemas 1, 2 and 3, and no index with a field that they do not know."""
    several(tmp_path)

    assert json.loads((tmp_path / layout.DATASET).read_text())["schema"] == 4
    assert json.loads((tmp_path / "train/train-000000.json").read_text())["label_sets"] == [[2, 0], [1]]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"label_sets": [[0, 2], [1]]}, "a sample's first label is not that of its class"),
        ({"label_sets": [[2, 0]]}, "a sample's first label is not that of its class"),
        ({"label_sets": [[2, 0], []]}, "a sample's first label is not that of its class"),
        ({"label_sets": [[2, 3], [1]]}, "has labels that are not in dataset.json"),
        ({"label_sets": []}, "has other labels than dataset.json says"),
    ],
)
def test_labels_that_cannot_be_right_are_refused(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    several(tmp_path)
    path = tmp_path / "train/train-000000.json"
    document = json.loads(path.read_text())
    path.write_bytes(index.seal({name: value for name, value in (document | change).items() if name != "checksum"}))

    with pytest.raises(ShardError, match=said):
        stream.open_split(tmp_path, "train")


def test_label_sets_in_a_set_that_has_none_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ShardError, match=r"has other labels than dataset\.json says"):
        stream.open_split(several(tmp_path, schema=layout.DATASET_SCHEMA), "train")


def test_verify_compares_the_labels_of_index_and_sample(tmp_path: Path) -> None:
    assert faults(several(tmp_path / "right")) == []
    wrong = several(tmp_path / "wrong", sets=SETS | {"c": (0, 1)})

    assert faults(wrong) == ["its labels are not numbers 0, 1 as in its index"]


def test_a_worker_that_loads_data_does_not_get_them(tmp_path: Path) -> None:
    @dataclasses.dataclass(frozen=True)
    class Held:
        split: stream.Split

    sent = _Sent(Held(stream.open_split(several(tmp_path), "train")), {})
    bare, _ = sent.__reduce__()[1]

    assert bare.split.label_sets is None
    with pytest.raises(ValueError, match="a worker process does not have all labels"):
        bare.split.label_indices(0)


def test_training_says_once_which_label_it_uses(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    @dataclasses.dataclass(frozen=True)
    class Asked:
        cache: Path = tmp_path / "cache"
        cache_gb: float = 1.0

    folder = Address(str(several(tmp_path / "set")))
    for _ in range(2):
        dataset.open_split(Asked(), folder, "train")
    dataset.open_split(Asked(), Address(str(make(tmp_path / "one", (3,)))), "train")

    assert [record.getMessage() for record in caplog.records] == [
        (
            f"{folder}: train: 2 of 3 clips have several labels; the class of each, the first of its row that is in the class "
            "list, is used"
        )
    ]


def test_label_sets_of_no_samples() -> None:
    assert (LabelSets.of([]).several, len(LabelSets.of([]).label_index_L)) == (0, 0)


def test_a_clip_s_labels_are_distinct_and_without_line_ends() -> None:
    clip = Clip("abc", 0, 10, "singing", "train", other_labels=("humming",))

    assert (clip.labels, Clip("abc", 0, 10, LABELS[0], "train").labels) == (("singing", "humming"), (LABELS[0],))
    with pytest.raises(ValueError, match="contain one twice"):
        dataclasses.replace(clip, other_labels=("singing",))
    with pytest.raises(ValueError, match="line end or another control character"):
        dataclasses.replace(clip, other_labels=("a\nb",))
