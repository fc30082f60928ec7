"""ks-eval cluster_head: a run's own clusters against the classes, by an independent loop."""

import itertools
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from sklearn.metrics import normalized_mutual_info_score

from kinetics_sounds import stream
from kinetics_sounds.train import evaluate, pretrain
from kinetics_sounds.train.evaluation.encoders import load

from ...conftest import write_set

Argv = Callable[..., list[str]]
CLIPS, CLUSTERS = 3, 3
SEED = 27
"""Of cluster heads that tell apart what is asked below."""
VIEW = ("crop=28", "resize=32", "frames=4", "window_seconds=0.05", "n_fft=256", "frame_seconds=0.016", "bands=12")
"""A sound so short that each clip of a sample has its own."""
OPTIONS = (
    *("--config=avcl_tiny", "--batch=4", "--steps=1", "--workers=0", "--device=cpu", "--r3d.width=2"),
    *("--view=clip_and_log_mel", "--clip_and_log_mel.audio_mean=[-9]", "--clip_and_log_mel.audio_std=[3]"),
    *(f"--clip_and_log_mel.{each}" for each in VIEW),
    *("--method=iicl", "--iicl.first_stage=0", "--iicl.shared_heads=false", f"--iicl.clusters={CLUSTERS}"),
    *("--iicl.dim=4", "--iicl.hidden=16"),
)


@pytest.fixture(scope="module")
def heard(tmp_path_factory: pytest.TempPathFactory, films: dict[int, bytes]) -> Path:
    """16 test samples of two classes, with their sounds."""
    folder = tmp_path_factory.mktemp("heard") / "shards"
    write_set(folder, {"train": (8,), "test": (9, 7)}, films, classes="tiny", sound=True)
    return folder


def features(run: Path, shards: Path) -> dict[str, torch.Tensor]:
    """Pooled features of both modalities of each clip of each test sample, one by one: (N, CLIPS, D)."""
    encoders, split = load(run), stream.open_split(shards, "test")
    encoders.method.eval()
    found: dict[str, list[torch.Tensor]] = {"video": [], "audio": []}
    for number in range(len(split)):
        with stream.sample(split, number) as sample, torch.inference_mode():
            made = encoders.view.eval_views(sample, encoders.view_settings, CLIPS)
            inputs = encoders.view.augment({name: each[None] for name, each in made.items()}, encoders.view_settings)
            for name, encoder in (("video", encoders.video), ("audio", encoders.audio)):
                found[name].append(torch.cat([encoder(inputs[name][:, clip]) for clip in range(CLIPS)]))
    return {name: torch.stack(each) for name, each in found.items()}


@pytest.fixture(scope="module")
def run(heard: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """IICL in its second stage, whose cluster heads are made to tell samples, clips and modalities apart."""
    out = tmp_path_factory.mktemp("iicl") / "run"
    assert pretrain.main([*OPTIONS, f"--shards={heard}", f"--out={out}"]) == 0
    path = out / "checkpoints" / "step-00000001" / "model.safetensors"
    weights, generator = load_file(path), torch.Generator().manual_seed(SEED)
    for name, feature_NKD in features(out, heard).items():
        feature_RD = feature_NKD.flatten(0, 1)
        spread_D = feature_RD.std(dim=0)
        first = torch.randn(16, len(spread_D), generator=generator) / torch.where(spread_D > 0, spread_D, 1)
        weights[f"cluster.{name}.0.weight"] = first
        weights[f"cluster.{name}.0.bias"] = -first @ feature_RD.mean(dim=0)
        weights[f"cluster.{name}.2.weight"] = torch.randn(CLUSTERS, 16, generator=generator)
        weights[f"cluster.{name}.2.bias"] = torch.zeros(CLUSTERS)
    save_file(weights, path)
    return out


def judged(run: Path, out: Path, *more: str) -> dict[str, Any]:
    options = [f"--run={run}", f"--out={out}", "--workers=0", "--device=cpu", "--batch=4", *more]
    assert evaluate.main(["cluster_head", *options]) == 0
    told: dict[str, Any] = json.loads((out / "results.json").read_text())
    return told


def scores(video_NC: torch.Tensor, audio_NC: torch.Tensor, labels: np.ndarray) -> dict[str, float]:
    """NMI and ACC of the most likely clusters, of which each class gets one: the best of all ways to deal them out."""
    found = {}
    for prefix, side_NC in (("", video_NC + audio_NC), ("video_", video_NC), ("audio_", audio_NC)):
        clusters = side_NC.argmax(dim=1).numpy()
        ways = (np.array(way)[labels] for way in itertools.permutations(range(CLUSTERS), 2))
        found[f"{prefix}acc"] = 100 * max(float(np.mean(way == clusters)) for way in ways)
        found[f"{prefix}nmi"] = 100 * normalized_mutual_info_score(labels, clusters)
    return found


def test_its_scores_are_those_of_the_most_likely_clusters(run: Path, heard: Path, tmp_path: Path) -> None:
    """Of probabilities averaged over clips, each with its own sound; what a loop with a mistake finds has other scores."""
    labels = stream.open_split(heard, "test").label_index_N
    method: Any = load(run).method
    with torch.inference_mode():
        logit = {name: method.cluster[name](each_NKD) for name, each_NKD in features(run, heard).items()}
    video_NKC, audio_NKC = (torch.softmax(logit[name], dim=2) for name in ("video", "audio"))
    video_NC, audio_NC = video_NKC.mean(dim=1), audio_NKC.mean(dim=1)
    mistakes = {
        "no softmax": (logit["video"].mean(dim=1), logit["audio"].mean(dim=1)),
        "video for audio": (audio_NC, video_NC),
        "the first clip": (video_NKC[:, 0], audio_NKC[:, 0]),
        "the first sound": (video_NC, audio_NKC[:, 0]),
        "samples for clips": tuple(
            each.transpose(0, 1).reshape(each.shape).mean(dim=1) for each in (video_NKC, audio_NKC)
        ),
    }
    told = judged(run, tmp_path, f"--clips={CLIPS}")

    assert {name: told["scores"][name] for name in scores(video_NC, audio_NC, labels)} == pytest.approx(
        scores(video_NC, audio_NC, labels)
    )
    for name, (video, audio) in mistakes.items():
        assert scores(video, audio, labels) != pytest.approx(scores(video_NC, audio_NC, labels)), name
    for each_NC in (video_NC, audio_NC):
        assert {*each_NC.argmax(dim=1).tolist()} == {*range(CLUSTERS)}
    assert (told["samples"], told["clips"], told["clusters"]) == (16, CLIPS, CLUSTERS)


def test_it_can_be_asked_of_untrained_weights(run: Path, tmp_path: Path) -> None:
    told = judged(run, tmp_path, "--untrained", "--on_split=train")

    assert (told["checkpoint"], told["seen_in_training"]) == ("untrained", 0)


def test_a_checkpoint_that_was_selected_on_the_evaluated_split_is_told(run: Path, tmp_path: Path) -> None:
    chosen = Path(shutil.copytree(run, tmp_path / "run"))
    config, state = chosen / "config.yaml", chosen / "checkpoints/step-00000001/state.json"
    config.write_text(f"{config.read_text()}val_split: test\n")
    state.write_text(json.dumps(json.loads(state.read_text()) | {"best": {"step": 1, "value": 0.5}}))

    told = {name: judged(chosen, tmp_path / name, f"--checkpoint={name}") for name in ("best", "last")}
    assert [each["scores"].get("selected_on_test") for each in told.values()] == [1, None]


def test_it_tells_of_clips_of_the_training(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert judged(run, tmp_path, "--on_split=train")["seen_in_training"] == 8
    assert "note: the run was trained on these clips (train)\n" in capsys.readouterr().out


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
