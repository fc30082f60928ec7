"""ks-eval vote: what it writes of a run with a classifier, and what it refuses."""

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from kinetics_sounds.shards import index, layout
from kinetics_sounds.stream import open_split
from kinetics_sounds.train import evaluate
from kinetics_sounds.train.data.loader import Loading
from kinetics_sounds.train.evaluation import votes
from kinetics_sounds.train.evaluation.encoders import load

from ...conftest import write_set


def voted(run: Path, out: Path, *more: str) -> dict[str, Any]:
    options = [f"--run={run}", f"--out={out}", "--workers=0", "--device=cpu", "--batch=4", "--clips=3", *more]
    assert evaluate.main(["vote", *options]) == 0
    told: dict[str, Any] = json.loads((out / "results.json").read_text())
    return told


def test_its_scores_are_those_of_the_clips_and_of_their_vote(classified: Path, shards: Path, tmp_path: Path) -> None:
    told = voted(classified, tmp_path, "--vote=prob")

    assert (told["probe"], told["run"], told["checkpoint"]) == ("vote", str(classified), "step-00000003")
    assert (told["on_split"], told["samples"], told["clips"], told["vote"]) == ("test", 6, 3, "prob")
    assert told["fingerprint"] == open_split(shards, "test").dataset.splits["test"].fingerprint
    loading = Loading(workers=0, device=torch.device("cpu"))
    logit_NKC, label_N = votes.clip_logits(
        load(classified), open_split(shards, "test"), clips=3, batch=4, loading=loading
    )
    right_NK = logit_NKC.argmax(dim=2) == label_N[:, None]
    right_N = logit_NKC.softmax(dim=2).sum(dim=1).argmax(dim=1) == label_N
    scores = told["scores"]
    assert scores["clip_top1"] == pytest.approx(100 * right_NK.double().mean().item())
    assert scores["top1"] == pytest.approx(100 * right_N.double().mean().item())
    assert 0 <= scores["top1_low"] <= scores["top1"] <= scores["top1_high"] <= 100
    assert (scores["top5"], scores["clip_top5"], scores["top1_chance"]) == (100, 100, 50)  # of two classes
    assert scores["selected_on_test"] == 0
    with (tmp_path / "results.csv").open(newline="") as table:
        assert {row["metric"]: float(row["value"]) for row in csv.DictReader(table)} == scores


def test_a_checkpoint_that_was_chosen_on_the_judged_split_is_called_so(classified: Path, tmp_path: Path) -> None:
    assert voted(classified, tmp_path, "--checkpoint=best", "--clips=1")["scores"]["selected_on_test"] == 1


def test_a_set_without_the_training_split_is_enough(classified: Path, shards: Path, tmp_path: Path) -> None:
    """Of the class list, which the classifier tells apart, each is guessed."""
    copy = Path(shutil.copytree(shards, tmp_path / "shards"))
    for path in [each for each in copy.rglob("*train*") if each.is_file()]:
        path.unlink()

    told = voted(classified, tmp_path / "out", f"--shards={copy}", "--clips=1")
    assert told["scores"]["top1_chance"] == 50


def test_it_tells_of_clips_of_the_training(
    classified: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = voted(classified, tmp_path, "--on_split=train", "--clips=1")

    assert told["seen_in_training"] == told["samples"]
    assert capsys.readouterr().out.endswith("note: the run was trained on these clips (train)\n")


def test_it_says_of_a_fine_tuning_what_the_fine_tuning_said(finished: Path, tmp_path: Path) -> None:
    tuned = tmp_path / "tuned"
    options = [f"--run={finished}", f"--out={tuned}", "--workers=0", "--device=cpu", "--clips=3", "--epochs=1"]
    assert evaluate.main(["finetune", *options, "--batch=4"]) == 0
    first = json.loads((tuned / "results.json").read_text())["scores"]

    again = voted(tuned, tmp_path / "again")["scores"]

    assert {name: again[name] for name in first} == pytest.approx(first)


def test_a_run_without_a_classifier_is_told_what_to_do(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate.main(["vote", f"--run={finished}", f"--out={tmp_path / 'out'}", "--device=cpu"]) == 2
    assert "its method (Avcl) has no classifier, so clips cannot vote; train one" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_set_of_other_classes_is_refused(
    classified: Path, films: dict[int, bytes], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By their list's name, and by their number."""
    write_set(tmp_path / "set", {"test": (4,)}, films, classes="other")
    argv = ["vote", f"--run={classified}", f"--shards={tmp_path / 'set'}", f"--out={tmp_path / 'out'}", "--device=cpu"]
    assert evaluate.main(argv) == 2
    assert "is of 2 classes (other), and the run's classifier tells 2 apart (tiny)" in capsys.readouterr().err

    path = tmp_path / "set" / layout.DATASET
    document = json.loads(path.read_bytes()) | {"classes": "tiny", "labels": ["even", "odd", "neither"]}
    path.write_bytes(index.seal(document))
    assert evaluate.main(argv) == 2
    assert "is of 3 classes (tiny), and the run's classifier tells 2 apart (tiny)" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("option", "complaint"),
    [
        ("--clips=0", "--clips 0: must be at least 1"),
        ("--vote=most", "--vote most: must be logit or prob"),
        ("--on_split=nope", "has no split 'nope'; it has: train, test"),
        ("--untrained", "--untrained"),
    ],
)
def test_what_cannot_be_is_refused(
    option: str, complaint: str, classified: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate.main(["vote", f"--run={classified}", "--device=cpu", option]) == 2
    assert complaint in capsys.readouterr().err
