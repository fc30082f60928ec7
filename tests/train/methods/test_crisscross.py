"""CrissCross: which views are compared, through what no gradient goes, and its sizes."""

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from kinetics_sounds.train.interface import Method
from kinetics_sounds.train.methods import crisscross
from kinetics_sounds.train.optim.lr_schedule import Plateau
from kinetics_sounds.train.optim.optimizer import Optim, make_optimizer, rates, set_rates

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


@pytest.mark.parametrize("predictor", ["separate", "common"])
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
def test_the_loss_is_the_mean_over_the_pairs_of_its_terms(terms: str, pairs: list[str], predictor: Any) -> None:
    """Of a pair minus half of the cosine of each prediction with the other's embedding (Eq. 1), by heads that all differ."""
    made, given = method(terms=terms, predictor=predictor), batch(views=2)
    again = copy.deepcopy(made)  # batch norms keep what they see
    z, p = {}, {}
    for modality, inputs in (("video", given.video), ("audio", given.audio)):
        assert inputs is not None
        for view in range(2):
            name = f"{modality[0]}{view + 1}"
            z[name] = again.heads[modality](getattr(again, modality)(inputs[:, view]))
            if predictor == "common":
                z[name] = z[name] / z[name].norm(dim=1, keepdim=True)
            p[name] = again.predictors["common" if predictor == "common" else modality](z[name])

    def term(pair: str) -> torch.Tensor:
        one, other = pair[:2], pair[2:]
        half, rest = (F.cosine_similarity(p[x], z[y]).mean() for x, y in ((one, other), (other, one)))
        return -half / 2 - rest / 2

    output = made(given, NOW)

    torch.testing.assert_close(output.loss, torch.stack([term(pair) for pair in pairs]).mean())
    assert set(output.logs) == {"loss", *terms.split(",")}


class Normed(Flat):
    """With a batch norm behind the layer, which hands on what it is given."""

    def __init__(self) -> None:
        super().__init__()
        nn.init.eye_(self.layer.weight)
        nn.init.zeros_(self.layer.bias)
        self.norm = nn.BatchNorm1d(self.dim)

    def forward(self, given: torch.Tensor) -> torch.Tensor:
        features: torch.Tensor = self.norm(super().forward(given))
        return features


def test_batch_norms_see_one_view_at_a_time() -> None:
    """Running means move a tenth of the way to the mean of each, and of four rows of a view the embeddings' mean is 0."""
    torch.manual_seed(0)
    made, given = (
        crisscross.build(crisscross.Settings(**SMALL), video=Normed(), audio=Normed(), data=DATA),
        batch(views=2),
    )
    embeddings: list[torch.Tensor] = []
    for predictor in made.predictors.values():
        predictor.register_forward_pre_hook(lambda _, given: embeddings.append(given[0].detach()))
    made(given, NOW)

    passes = [int(each) for name, each in made.named_buffers() if name.endswith("num_batches_tracked")]
    assert passes == [2] * (2 + 2 * 3 + 2)
    for encoder, inputs in ((made.video, given.video), (made.audio, given.audio)):
        assert inputs is not None
        first, second = inputs[:, 0].mean(dim=0), inputs[:, 1].mean(dim=0)
        torch.testing.assert_close(encoder.norm.running_mean, 0.9 * 0.1 * first + 0.1 * second)
    assert len(embeddings) == 4
    for each in embeddings:
        torch.testing.assert_close(each.mean(dim=0), torch.zeros(8), atol=1e-6, rtol=0)


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


def test_the_predictors_rate_is_fixed_where_the_others_follow_a_warm_up_and_a_cosine() -> None:
    """2e-3 throughout, from 2e-5 over 2e-4 to 1e-4 for the rest (methods 5.4)."""
    optim = Optim(
        name="adam",
        lr=2e-4,
        schedule="cosine",
        min_lr_ratio=0.5,
        warmup_steps=9,
        schedules={"predictors.*": "fixed"},
        lr_multipliers={"predictors.*": 10.0},
    )
    made = method()
    optimizer = make_optimizer(made, optim)
    for step, rate in ((0, 2e-5), (9, 2e-4), (59, 1.5e-4), (109, 1e-4)):
        set_rates(optimizer, rates(optim, step, steps=109, plateau=Plateau()))
        found = {id(each): group["lr"] for group in optimizer.param_groups for each in group["params"]}
        for name, each in made.named_parameters():
            assert found[id(each)] == pytest.approx(2e-3 if name.startswith("predictors.") else rate), name


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
