"""ks-eval cluster_head: a run's own clusters against the classes, by an independent loop."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import normalized_mutual_info_score

from kinetics_sounds import stream
from kinetics_sounds.train import evaluate, pretrain
from kinetics_sounds.train.evaluation.encoders import load

Argv = Callable[..., list[str]]


@pytest.fixture(scope="module")
def run(small: Argv, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """IICL in its second stage, with as many clusters as classes."""
    out = tmp_path_factory.mktemp("iicl") / "run"
    sizes = ("dim=4", "hidden=8", "clusters=2", "first_stage=0")
    assert pretrain.main(small(out, "--method=iicl", "--steps=2", *(f"--iicl.{each}" for each in sizes))) == 0
    return out


def judged(run: Path, out: Path, *more: str) -> dict[str, Any]:
    options = [f"--run={run}", f"--out={out}", "--workers=0", "--device=cpu", "--batch=4", *more]
    assert evaluate.main(["cluster_head", *options]) == 0
    told: dict[str, Any] = json.loads((out / "results.json").read_text())
    return told


@pytest.mark.parametrize("clips", [1, 2])
def test_its_scores_are_those_of_the_most_likely_clusters(clips: int, run: Path, shards: Path, tmp_path: Path) -> None:
    """Each test sample by itself, clip by clip; ACC by both pairings of two clusters with two classes."""
    told = judged(run, tmp_path, f"--clips={clips}")
    encoders, split = load(run), stream.open_split(shards, "test")
    method: Any = encoders.method.eval()
    chosen: dict[str, list[int]] = {"": [], "video_": [], "audio_": []}
    for number in range(len(split)):
        with stream.sample(split, number) as sample, torch.inference_mode():
            arrays = {
                name: each[None]
                for name, each in encoders.view.eval_views(sample, encoders.view_settings, clips).items()
            }
            inputs = encoders.view.augment(arrays, encoders.view_settings)
            sides = torch.zeros(2, 2)
            for clip in range(clips):
                sides[0] += method.assign("video", encoders.video(inputs["video"][:, clip]))[0]
            sides[1] = clips * method.assign("audio", encoders.audio(inputs["audio"][:, 0]))[0]
        for prefix, side in (("", sides.sum(dim=0)), ("video_", sides[0]), ("audio_", sides[1])):
            chosen[prefix].append(int(side.argmax()))
    labels = split.label_index_N
    for prefix, clusters in chosen.items():
        same = float(np.mean(labels == np.array(clusters)))
        assert told["scores"][f"{prefix}acc"] == pytest.approx(100 * max(same, 1 - same))
        assert told["scores"][f"{prefix}nmi"] == pytest.approx(100 * normalized_mutual_info_score(labels, clusters))
    assert (told["samples"], told["clips"], told["clusters"]) == (6, clips, 2)


def test_it_can_be_asked_of_untrained_weights(run: Path, tmp_path: Path) -> None:
    assert judged(run, tmp_path, "--untrained")["checkpoint"] == "untrained"


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (
            ("--iicl.first_stage=1", "--steps=4"),
            "learns from step 2 on, and this checkpoint is of step 2; take a later",
        ),
        (("--iicl.cluster_weight=0",), r"never learns in this run \(--iicl.cluster_weight 0\)"),
    ],
)
def test_a_head_that_has_not_learnt_is_refused(
    options: tuple[str, ...], told: str, small: Argv, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two steps an epoch: the checkpoint of step 2 is the last of the first stage."""
    run, sizes = tmp_path / "run", ("dim=4", "hidden=8", "clusters=2")
    argv = small(run, "--method=iicl", "--steps=2", "--batch=6", *(f"--iicl.{each}" for each in sizes), *options)
    assert pretrain.main(argv) == 0

    asked = ["cluster_head", f"--run={run}", "--checkpoint=step-00000002", f"--out={tmp_path}", "--device=cpu"]
    assert evaluate.main(asked) == 2
    assert re.search(told, capsys.readouterr().err)


def test_a_run_without_a_cluster_head_is_refused(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate.main(["cluster_head", f"--run={finished}", f"--out={tmp_path}", "--device=cpu"]) == 2
    assert (
        "its method has no cluster head; take ks-eval cluster, which finds clusters by k-means"
        in capsys.readouterr().err
    )
