"""A classifier on both encoders: sizes that the paper's numbers fix, and losses that a reader can check in the head."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from kinetics_sounds.train.interface import Batch, Data
from kinetics_sounds.train.methods import supervised
from kinetics_sounds.train.methods.supervised import Supervised
from kinetics_sounds.train.models.heads import Amfm

from ..batches import MOMENT, as_batch

SMALL = {"dropout": 0.0}
TINY = {"dropout": 0.5}


class Pixels(nn.Module):
    """The first `dim` pixels as the feature."""

    def __init__(self, dim: int = 4) -> None:
        super().__init__()
        self.dim = dim
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, video_BCTHW: Tensor) -> Tensor:
        return self.scale * video_BCTHW.flatten(1)[:, : self.dim]


def made(*, classes: int = 3, dim: int = 4, **settings: Any) -> Supervised:
    torch.manual_seed(0)
    video, audio = Pixels(dim), Pixels(dim)
    return supervised.build(
        supervised.Settings(**settings), video=video, audio=audio, data=Data(classes=classes, samples=9)
    )


def batch(label: list[int]) -> Batch:
    generator = torch.Generator().manual_seed(0)
    sides = {name: torch.rand(len(label), 1, 1, 2, 2, generator=generator) for name in ("video", "audio")}
    return as_batch({**sides, "label": torch.tensor(label)})


@pytest.mark.parametrize(("classes", "parameters"), [(34, 542_242), (100, 576_100)])
def test_the_papers_classifier_has_its_size(classes: int, parameters: int) -> None:
    """Methods 1.12 #26: 1024 to 512 to C."""
    model = made(classes=classes, dim=512)
    assert sum(each.numel() for each in model.classifier.parameters()) == parameters


def test_one_modality_halves_what_the_classifier_sees() -> None:
    for modalities, width in (("both", 8), ("video", 4), ("audio", 4)):
        first = next(made(modalities=modalities, classifier="linear").classifier.parameters())
        assert first.shape == (3, width)


def test_a_classifier_that_knows_nothing_loses_log_c_and_hits_a_class_of_c() -> None:
    model = made(classifier="linear")
    for parameter in model.classifier.parameters():
        nn.init.zeros_(parameter)

    step = model(batch([0, 0, 1, 2]), MOMENT)

    assert step.loss.item() == pytest.approx(math.log(3))
    assert step.logs["top1"] == 50  # all equal: the first class is named, which two of four are


def test_only_the_wanted_encoder_learns() -> None:
    for modalities, learns in (("both", (True, True)), ("video", (True, False)), ("audio", (False, True))):
        model = made(modalities=modalities)
        model(batch([0, 1, 2]), MOMENT).loss.backward()
        assert tuple(each.scale.grad is not None for each in (model.video, model.audio)) == learns


def test_dropout_is_for_training_alone() -> None:
    model = made(dropout=0.9, hidden=64)
    inputs = batch([0, 1, 2])
    torch.manual_seed(0)
    assert model(inputs, MOMENT).loss != model(inputs, MOMENT).loss

    model.eval()
    assert model(inputs, MOMENT).loss == model(inputs, MOMENT).loss


def test_a_gate_of_ones_is_no_gate() -> None:
    """AMFM with a zero excitation and a bias of one."""
    with_gate, without = made(gate=True, classifier="linear"), made(gate=False, classifier="linear")
    assert isinstance(with_gate.amfm, Amfm)
    for excite in with_gate.amfm.excite:
        nn.init.zeros_(excite[0].weight)
        nn.init.ones_(excite[0].bias)
    without.classifier.load_state_dict(with_gate.classifier.state_dict())
    inputs = batch([0, 1, 2])

    assert torch.equal(with_gate(inputs, MOMENT).loss, without(inputs, MOMENT).loss)


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        ({"hidden": 0}, "hidden must be at least 1"),
        ({"dropout": 1.0}, "dropout from 0 to below 1"),
        ({"gate": True, "modalities": "video"}, "a gate needs both modalities, not video alone"),
        ({"classes": 1}, "nothing to classify"),
    ],
)
def test_what_cannot_be_is_refused(wrong: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        made(**wrong)


def test_a_gate_needs_equal_widths() -> None:
    with pytest.raises(ValueError, match="video has 4, audio 2"):
        supervised.build(
            supervised.Settings(gate=True), video=Pixels(4), audio=Pixels(2), data=Data(classes=2, samples=2)
        )
