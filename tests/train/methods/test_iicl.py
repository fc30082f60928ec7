"""IICL: which stage learns what, its heads' sizes, and that samples of a batch do not mix."""

import json
import shutil
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from kinetics_sounds.train import pretrain
from kinetics_sounds.train.interface import Data
from kinetics_sounds.train.losses.infonce import infonce_loss
from kinetics_sounds.train.methods import iicl
from kinetics_sounds.train.models.backbones import r3d

from .flat import DATA, NOW, Flat, batch, parameters

SMALL = {"dim": 8, "hidden": 8, "clusters": 5, "first_stage": 1}

SECOND = NOW._replace(epoch=1)


def method(**settings: Any) -> iicl.Iicl:
    torch.manual_seed(0)
    chosen = iicl.Settings(**{"dim": 5, "hidden": 7, "clusters": 4, "first_stage": 1, "attention": False, **settings})
    return iicl.build(chosen, video=Flat(), audio=Flat(), data=DATA)


def test_heads_have_the_sizes_of_the_paper() -> None:
    """512 - 512 - 1,024 and 512 - 512 - 400 (methods 4.1)."""
    made = iicl.build(iicl.Settings(), video=r3d.build(r3d.Settings()), audio=r3d.build(r3d.Settings()), data=DATA)

    assert (parameters(made.instance), parameters(made.cluster)) == (787_968, 467_856)
    assert made.attention is not None
    assert parameters(made.attention) == 0


def test_the_first_stage_is_infonce_of_the_heads_outputs_and_the_second_adds_clusters() -> None:
    made, given = method(), batch()
    assert given.video is not None
    assert given.audio is not None
    video, audio = made.video(given.video[:, 0]), made.audio(given.audio[:, 0])
    head = made.instance["both"]
    expected = infonce_loss(head(video), head(audio), temperature=0.5)
    first, second = made(given, NOW), made(given, SECOND)

    torch.testing.assert_close(first.loss, expected)
    assert set(first.logs) == {"loss", "instance"}
    torch.testing.assert_close(second.loss, expected + 0.5 * (second.logs["cluster"] - second.logs["entropy"]))
    assert 0 < second.logs["clusters_used"] <= 1


def test_features_that_are_evaluated_see_one_modality() -> None:
    """Embeddings and cluster probabilities are the heads' of pooled features, whether or not co-attention is trained."""
    made = method(shared_heads=False).eval()
    feature_BD = torch.randn(3, 6, generator=torch.Generator().manual_seed(0))

    for modality in ("video", "audio"):
        torch.testing.assert_close(made.embed(modality, feature_BD), made.instance[modality](feature_BD))
        probability_BC = made.assign(modality, feature_BD)
        torch.testing.assert_close(probability_BC, torch.softmax(made.cluster[modality](feature_BD), dim=1))
    assert not torch.allclose(made.embed("video", feature_BD), made.embed("audio", feature_BD))


@pytest.mark.parametrize(("steps", "first_stage", "weight"), [(30, 3, 0.5), (31, 3, 0.5), (30, 3, 0.0), (30, 0, 0.5)])
def test_a_run_that_ends_before_its_second_stage_is_refused(steps: int, first_stage: int, weight: float) -> None:
    """Ten steps an epoch: the second stage begins at step 30, and the last step of 30 is number 29."""
    data = DATA._replace(steps=steps, steps_per_epoch=10)
    settings = iicl.Settings(
        dim=4, hidden=4, clusters=3, attention=False, first_stage=first_stage, cluster_weight=weight
    )
    refused = (steps, first_stage, weight) == (30, 3, 0.5)

    told = "ends after 30 steps, and the cluster loss joins after 30"
    with pytest.raises(ValueError, match=told) if refused else nullcontext():
        iicl.build(settings, video=Flat(), audio=Flat(), data=data)


def test_clusters_learn_nothing_in_the_first_stage() -> None:
    made, given = method(), batch()
    made(given, NOW).loss.backward()
    assert all(each.grad is None for each in made.cluster.parameters())
    assert all(each.grad is not None for each in made.instance.parameters())
    made(given, SECOND).loss.backward()
    assert all(each.grad is not None for each in made.cluster.parameters())


def test_samples_alone_and_clusters_alone() -> None:
    """Rows of its ablation."""
    given = batch()
    assert set(method(cluster_weight=0.0)(given, SECOND).logs) == {"loss", "instance"}
    alone = method(instance_weight=0.0, first_stage=0)(given, NOW)
    torch.testing.assert_close(alone.loss, 0.5 * (alone.logs["cluster"] - alone.logs["entropy"]))
    assert "instance" not in alone.logs


def test_attention_mixes_no_samples() -> None:
    """What the heads see of a sample is the same without the others."""
    torch.manual_seed(0)
    networks = [r3d.build(r3d.Settings(width=2)) for _ in range(2)]
    made = iicl.build(
        iicl.Settings(dim=4, hidden=4, clusters=3), video=networks[0], audio=networks[1], data=DATA
    ).eval()
    whole = batch()._replace(video=torch.rand(3, 1, 3, 16, 32, 32), audio=torch.rand(3, 1, 3, 1, 32, 32))
    assert whole.video is not None
    assert whole.audio is not None
    first = whole._replace(video=whole.video[:1], audio=whole.audio[:1])
    with torch.no_grad():
        for side, alone in zip(made._sides(whole), made._sides(first), strict=True):
            torch.testing.assert_close(side[:1], alone)


def test_heads_of_their_own() -> None:
    assert parameters(method(shared_heads=False).instance) == 2 * parameters(method().instance)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"clusters": 1}, "clusters at least 2"),
        ({"temperature": 0.0}, "temperatures more than 0"),
        ({"cluster_weight": -1.0}, "must be at least 0"),
        ({"instance_weight": 0.0}, "and --iicl.first_stage 0"),
    ],
)
def test_settings_that_mean_nothing_are_refused(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        iicl.Settings(**wrong)


def test_encoders_that_do_not_fit_are_refused() -> None:
    data = Data(classes=2, samples=20)
    with pytest.raises(ValueError, match="provides no maps of its layers"):
        iicl.build(iicl.Settings(), video=Flat(), audio=Flat(), data=data)
    with pytest.raises(ValueError, match="give encoders of the same width"):
        iicl.build(iicl.Settings(attention=False), video=Flat(6), audio=Flat(5), data=data)
    apart = iicl.Settings(attention=False, shared_heads=False, dim=4)
    assert isinstance(iicl.build(apart, video=Flat(6), audio=Flat(5), data=data), nn.Module)


def test_a_run_that_was_killed_in_its_first_stage_goes_on_exactly(
    small: Callable[..., list[str]], tmp_path: Path
) -> None:
    """Of three steps an epoch: killed after the second, when the cluster head had no state, and ended in the second stage."""
    run, whole = tmp_path / "run", tmp_path / "whole"
    options = (
        "--method=iicl",
        *(f"--iicl.{name}={value}" for name, value in SMALL.items()),
        "--optim.name=adam",
        "--keep=3",
    )
    assert pretrain.main(small(whole, *options)) == 0
    shutil.copytree(whole, run)
    for step in (4, 6):
        shutil.rmtree(run / "checkpoints" / f"step-{step:08}", ignore_errors=True)
    assert [path.name for path in (run / "checkpoints").glob("step-*")] == ["step-00000002"]
    states = {path.name for path in (run / "checkpoints" / "step-00000002").iterdir()}

    assert pretrain.main(small(run, *options)) == 0

    last = [each / "checkpoints" / "step-00000006" for each in (whole, run)]
    made, again = ({path.name: path.read_bytes() for path in each.glob("*.safetensors")} for each in last)
    assert again == made
    assert made.keys() <= states
    logged = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [each["step"] for each in logged if "cluster" in each] == [4, 5, 6]
