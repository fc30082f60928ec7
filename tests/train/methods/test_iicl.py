"""IICL: its loss and gradients, which stage learns what, its heads' sizes, and that samples of a batch do not mix."""

import copy
import json
import math
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

SMALL = {"dim": 8, "hidden": 8, "clusters": 5, "first_stage": 2}
TINY = {"first_stage": 1}

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


def samples(video: torch.Tensor, audio: torch.Tensor) -> Any:
    """Their picture and their sound, six numbers each."""
    return batch(rows=len(video))._replace(video=video[:, None], audio=audio[:, None])


def as_it_is(**settings: Any) -> iicl.Iicl:
    """Encoders and heads hand on what they are given: six clusters."""
    made = method(clusters=6, **settings)
    made.video, made.audio = nn.Identity(), nn.Identity()
    for heads in (made.instance, made.cluster):
        for name in heads:
            heads[name] = nn.Identity()
    return made


SURE = 100 * torch.eye(6)
"""Six samples, orthogonal to each other, each in a cluster of its own (but for e^-100)."""


def apart(temperature: float) -> float:
    """InfoNCE both ways of six pairs that are alike and orthogonal to all others (methods 4.5)."""
    return 2 * math.log(1 + 5 * math.exp(-1 / temperature))


def test_each_weight_and_each_temperature_has_its_own_place() -> None:
    """Samples 2 log(1 + 5 e^(-1/0.5)), clusters 2 log(1 + 5 e^(-1/0.25)), all used as often: entropy 2 log 6."""
    its = {"temperature": 0.5, "cluster_temperature": 0.25, "instance_weight": 3.0, "cluster_weight": 0.125}
    made = as_it_is(**its)(samples(SURE, SURE), SECOND)

    assert made.logs["instance"].item() == pytest.approx(apart(0.5), rel=1e-5)
    assert made.logs["cluster"].item() == pytest.approx(apart(0.25), rel=1e-5)
    assert made.logs["entropy"].item() == pytest.approx(2 * math.log(6), rel=1e-5)
    expected = 3 * apart(0.5) + 0.125 * (apart(0.25) - 2 * math.log(6))
    assert made.loss.item() == pytest.approx(expected, rel=1e-5)


def test_clusters_of_either_modality_count_as_used() -> None:
    """All pictures are in cluster 0, half of the sounds in cluster 3 and half in cluster 5: three of six."""
    logs = as_it_is()(samples(SURE[[0] * 6], SURE[[3, 5] * 3]), SECOND).logs
    again = as_it_is()(samples(SURE[[3, 5] * 3], SURE[[0] * 6]), SECOND).logs

    assert logs["clusters_used"].item() == again["clusters_used"].item() == 0.5


def test_gradients_are_those_of_the_formula() -> None:
    """Of all parameters, by autograd of methods 4.3 written out (in float64, with unequal weights and temperatures)."""
    made = method(temperature=0.4, cluster_temperature=0.7, instance_weight=1.5, cluster_weight=0.3).double()
    video, audio = (
        torch.randn(5, 6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) for seed in (1, 2)
    )
    made(samples(video, audio), SECOND).loss.backward()
    found = {name: each.grad for name, each in made.named_parameters()}

    again = copy.deepcopy(made)
    again.zero_grad()
    seen, heard = again.video(video), again.audio(audio)

    def contrast(one: torch.Tensor, other: torch.Tensor, temperature: float) -> torch.Tensor:
        cosine = (one @ other.T) / (one.norm(dim=1)[:, None] * other.norm(dim=1)[None])
        alike = (cosine / temperature).exp()
        return torch.stack([-(alike.diag() / alike.sum(dim=side)).log().mean() for side in (0, 1)]).sum()

    z, y = ([head(side) for side in (seen, heard)] for head in (again.instance["both"], again.cluster["both"]))
    y = [side.exp() / side.exp().sum(dim=1, keepdim=True) for side in y]
    entropy = sum(-(side.mean(dim=0) * side.mean(dim=0).log()).sum() for side in y)
    loss = 1.5 * contrast(z[0], z[1], 0.4) + 0.3 * (contrast(y[0].T, y[1].T, 0.7) - entropy)
    loss.backward()

    assert len(found) == 2 * 2 + 2 * 4  # the encoders' layers, and two of both heads
    for name, each in again.named_parameters():
        torch.testing.assert_close(found[name], each.grad, msg=f"{name}: ".__add__)


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


def test_each_modality_goes_through_its_own_heads() -> None:
    """Sounds' heads see nothing: their samples are all alike, and no cluster is likelier than another."""
    made = as_it_is(shared_heads=False)
    for heads in (made.instance, made.cluster):
        heads["audio"] = nn.Linear(6, 6)
        nn.init.zeros_(heads["audio"].weight)
        nn.init.ones_(heads["audio"].bias)
    logs = made(samples(SURE, SURE), SECOND).logs

    assert logs["instance"].item() == pytest.approx(2 * math.log(6))
    assert logs["cluster"].item() == pytest.approx(2 * math.log(6))
    assert logs["entropy"].item() == pytest.approx(2 * math.log(6))


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
        *(f"--iicl.{name}={value}" for name, value in (SMALL | TINY).items()),
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
