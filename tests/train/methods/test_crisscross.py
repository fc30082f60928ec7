"""CrissCross: which views are compared, through what no gradient goes, and its sizes."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from kinetics_sounds.train.interface import Method
from kinetics_sounds.train.methods import crisscross
from kinetics_sounds.train.optim.optimizer import Optim, make_optimizer, rates

from .flat import DATA, NOW, Flat, batch, parameters, without_heads

SMALL = {"dim": 8, "hidden": 4}


def method(**settings: Any) -> crisscross.CrissCross:
    torch.manual_seed(0)
    chosen = crisscross.Settings(**{"dim": 5, "hidden": 4, **settings})
    return crisscross.build(chosen, video=Flat(), audio=Flat(), data=DATA)


def test_heads_have_the_sizes_of_the_paper() -> None:
    """Of 512 channels: projector 9,455,616, predictor 2,100,736 (methods 5.2)."""
    made = crisscross.build(crisscross.Settings(), video=Flat(512), audio=Flat(512), data=DATA)

    assert [parameters(each) for each in made.heads.values()] == [9_455_616] * 2
    assert [parameters(each) for each in made.predictors.values()] == [2_100_736] * 2
    assert 15_379_136 + 11_170_240 + 2 * (9_455_616 + 2_100_736) == 49_662_080  # with its encoders
    assert made.views == 2


@pytest.mark.parametrize(
    ("terms", "pairs"),
    [
        ("v1v2", ["v1v2"]),
        ("a1a2", ["a1a2"]),
        ("intra", ["v1v2", "a1a2"]),
        ("sync", ["v1a1", "v2a2"]),
        ("async", ["v1a2", "v2a1"]),
        ("v1v2,sync,async", ["v1v2", "v1a1", "v2a2", "v1a2", "v2a1"]),
        ("intra,sync,async", ["v1v2", "a1a2", "v1a1", "v2a2", "v1a2", "v2a1"]),
    ],
)
def test_the_loss_is_the_mean_over_the_pairs_of_its_terms(terms: str, pairs: list[str]) -> None:
    """With heads and predictors that hand on what they are given: minus the cosine of both embeddings of a pair."""
    made, given = without_heads(method(terms=terms)), batch(views=2)
    assert given.video is not None
    assert given.audio is not None
    z = {f"v{view + 1}": made.video(given.video[:, view]) for view in range(2)}
    z |= {f"a{view + 1}": made.audio(given.audio[:, view]) for view in range(2)}
    expected = [-F.cosine_similarity(z[pair[:2]], z[pair[2:]]).mean() for pair in pairs]
    output = made(given, NOW)

    torch.testing.assert_close(output.loss, torch.stack(expected).mean())
    assert set(output.logs) == {"loss", *terms.split(",")}


def test_it_is_the_mean_of_intra_sync_and_async() -> None:
    output = method()(batch(views=2), NOW)

    torch.testing.assert_close(
        output.loss.detach(), torch.stack([output.logs[name] for name in ("intra", "sync", "async")]).mean()
    )


def test_collapsed_it_is_minus_one() -> None:
    made, given = without_heads(method()), batch(views=2)
    for encoder in (made.video, made.audio):
        nn.init.zeros_(encoder.layer.weight)
        nn.init.ones_(encoder.layer.bias)

    assert made(given, NOW).loss.item() == pytest.approx(-1)


def test_no_gradient_goes_through_what_is_predicted() -> None:
    """With a predictor that says the same whatever it is given, nothing is left to learn for the encoders."""
    made = method()
    for predictor in made.predictors.values():
        last = list(predictor.modules())[-1]
        assert isinstance(last, nn.Linear)
        nn.init.zeros_(last.weight)
    made(batch(views=2), NOW).loss.backward()

    for name, each in (*made.video.named_parameters(), *made.heads.named_parameters()):
        assert each.grad is not None, name
        assert each.grad.abs().max() == 0, name


def test_one_predictor_may_serve_both_behind_embeddings_of_length_one() -> None:
    made = method(predictor="common")
    seen: list[torch.Tensor] = []
    made.predictors["common"].register_forward_pre_hook(lambda _, given: seen.append(given[0].detach()))
    made(batch(views=2), NOW)

    assert len(seen) == 4
    torch.testing.assert_close(torch.cat(seen).norm(dim=1), torch.ones(16))


def test_a_projector_of_two_layers() -> None:
    """6 - 5 - 5, each with a bias and a batch norm."""
    assert parameters(method(projector_layers=2).heads) == 2 * ((6 * 5 + 5 + 10) + (5 * 5 + 5 + 10))


def test_the_predictors_rate_is_constant_where_the_others_follow_a_cosine() -> None:
    """2e-3 throughout, from 2e-4 to 1e-4 for the rest (methods 5.4)."""
    optim = Optim(
        name="adam",
        lr=2e-4,
        schedule="cosine",
        min_lr_ratio=0.5,
        schedules={"predictors.*": "constant"},
        lr_multipliers={"predictors.*": 10.0},
    )
    optimizer = make_optimizer(method(), optim)
    assert {group["factor"] for group in optimizer.param_groups} == {1.0, 10.0}
    for step, rate in ((0, 2e-4), (50, 1.5e-4), (100, 1e-4)):
        found = rates(optim, step, steps=100, plateau=None)
        assert found["cosine"] == pytest.approx(rate)
        assert 10 * found["constant"] == pytest.approx(2e-3)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"terms": "intra,later"}, "there is no 'later'"),
        ({"terms": "intra,v1v2"}, "none twice"),
        ({"terms": ""}, "name at least one"),
        ({"dim": 0}, "must be at least 1"),
    ],
)
def test_settings_that_mean_nothing_are_refused(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        crisscross.Settings(**wrong)


def test_its_embedding_is_the_projectors_output() -> None:
    """What any method with a projection head a modality gives; one without gives the features themselves."""
    made = method()
    feature_BD = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))

    for modality in ("video", "audio"):
        torch.testing.assert_close(made.embed(modality, feature_BD), made.heads[modality](feature_BD))
    assert Method.embed(Flat(), "video", feature_BD) is feature_BD
