"""The set that a paper's protocol is run on: another one than the paper's is told, and one that lacks folds is refused."""

import dataclasses
import json
import shutil
from pathlib import Path

import pytest

from kinetics_sounds.shards import index, layout, reader
from kinetics_sounds.train import evaluate
from kinetics_sounds.train.evaluation import papers


@pytest.mark.parametrize("name", sorted(papers.protocols()))
def test_the_set_of_a_protocol_is_the_one_that_its_header_begins_with(name: str) -> None:
    protocol = papers.find(name)
    (data,) = (line.partition(":")[2].strip() for line in protocol.head if line.startswith("data:"))

    assert data.startswith(protocol.data.title)
    assert protocol.with_sound == any(
        word in "\n".join(protocol.head) for word in ("with sound", "audio encoder, the", "Sounds find")
    )


@pytest.mark.parametrize(
    ("protocol", "name", "classes", "sound", "said"),
    [
        ("linear_ucf101_iicl", "ucf101", 101, False, ""),
        ("svm_kinetics_crisscross", "kinetics", 400, True, ""),
        (
            "linear_ucf101_iicl",
            "hmdb51",
            51,
            True,
            "this is hmdb51 (51 classes), the protocol is for UCF101 (101 classes)",
        ),
        (
            "linear_ucf101_iicl",
            "ucf101",
            4,
            True,
            "this is ucf101 (4 classes), the protocol is for UCF101 (101 classes)",
        ),
        (
            "svm_kinetics_sounds_crisscross",
            "k31",
            31,
            True,
            "this is k31 (31 classes), the protocol is for Kinetics-Sounds (32",
        ),
        (
            "cluster_ucf101_iicl",
            "ucf101",
            101,
            False,
            "this is ucf101 without sound, the protocol is for videos with sound",
        ),
        ("cluster_ucf101_iicl", "ucf101", 101, True, ""),
    ],
)
def test_a_set_that_is_not_the_papers_is_told(protocol: str, name: str, classes: int, sound: bool, said: str) -> None:
    found = papers.find(protocol).note_on(name, classes, sound=sound)

    assert found.startswith(said)
    assert found.endswith("the paper's scores are not comparable") == bool(said)


def test_the_note_is_printed_below_the_papers_scores_and_recorded(
    finished: Path, folded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = [
        "--protocol=retrieval_ucf101_iicl",
        f"--run={finished}",
        f"--shards={folded}",
        f"--out={tmp_path}",
        "--clips=1",
    ]

    assert evaluate.main([*argv, "--workers=0"]) == 0

    note = "this is folded (2 classes), the protocol is for UCF101 (101 classes): the paper's scores are not comparable"
    assert capsys.readouterr().out.endswith(f"\nnote: {note}\n")
    assert json.loads((tmp_path / "results.json").read_text())["note"] == f"made by tests; {note}"


def test_a_set_without_one_of_the_folds_is_refused_before_the_first(
    finished: Path, folded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shards = Path(shutil.copytree(folded, tmp_path / "two"))
    dataset = reader.read_dataset(folded)
    folds = {name: each for name, each in dataset.folds.items() if not name.startswith("fold3")}
    index.write(shards / layout.DATASET, dataclasses.replace(dataset, folds=folds))
    argv = ["--protocol=svm_ucf101_crisscross", f"--run={finished}", f"--shards={shards}", f"--out={tmp_path / 'out'}"]

    assert evaluate.main(argv) == 2

    said = capsys.readouterr().err
    assert "has no split fold3_test, fold3_train, and svm_ucf101_crisscross takes fold1_test" in said
    assert (
        "(UCF101 with its lists: ks-shard --dataset ucf101 --folder FOLDER --short_side 256), or splits of your" in said
    )
    assert not (tmp_path / "out").exists()
