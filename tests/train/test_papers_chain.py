"""From a data set as it ships to a paper's protocol: packed by ks-shard, judged by ks-eval, on every fold."""

import json
from pathlib import Path
from typing import Any

import pytest

from kinetics_sounds.pipelines import shard
from kinetics_sounds.train import evaluate

from ..pipelines.packing.datasets import shapes

pytestmark = pytest.mark.slow


def results(out: Path) -> dict[str, Any]:
    told: dict[str, Any] = json.loads((out / "results.json").read_text())
    return told


def test_ucf101_is_packed_and_judged_by_two_protocols(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = shapes.ucf101(tmp_path / "UCF101")
    monkeypatch.chdir(tmp_path)
    assert shard.main(["--dataset=ucf101", f"--folder={folder}", "--short_side=48", "--workers=1"]) == 0
    options = [f"--run={finished}", "--shards=data/ucf101/shards", "--device=cpu"]
    small = ["--epochs=2", "--clips_per_video=1", "--batch=4", "--frames=4", "--crop=32", "--clips=2", "--workers=0"]
    small += ["--supervised.head_epochs=1", "--optim.milestones=[0.5]", "--out=tuned"]

    assert evaluate.main(["--protocol=retrieval_ucf101_crisscross", *options, "--out=retrieved", "--clips=2"]) == 0
    assert evaluate.main(["--protocol=ucf101_avid_8", *options, *small]) == 0

    found, tuned = (results(tmp_path / name) for name in ("retrieved", "tuned"))
    assert (found["on_split"], found["samples"], found["classes"]) == ("fold1_test", 2, "ucf101")
    assert found["scores"]["r1_chance"] == pytest.approx(50)
    assert list(tuned["folds"]) == ["fold1", "fold2", "fold3"]
    assert (tuned["samples"], tuned["given"]["epochs"]) == (6, 2)
    assert 0 <= tuned["scores"]["top1"] <= 100
    assert "AVID 3, AVID+CMA from AudioSet: top1 88.6" in capfd.readouterr().out


@pytest.mark.parametrize("name", ["esc50_crisscross", "esc50_avid"])
def test_esc50_is_judged_as_it_ships(finished: Path, tmp_path: Path, name: str) -> None:
    folder = shapes.esc50(tmp_path / "ESC-50")
    small = ["--fit_clips=2", "--svm.cs=[1.0]", "--view_seconds=null", f"--out={tmp_path / 'out'}", "--device=cpu"]

    assert evaluate.main([f"--protocol={name}", f"--run={finished}", f"--folder={folder}", *small]) == 0
    told = results(tmp_path / "out")
    assert len([score for score in told["scores"] if score.endswith("_top1")]) == 5
    equal = told["scores"]["top1_std"] == 0  # then there is no interval over folds
    assert ("top1_low" in told["scores"]) != equal
