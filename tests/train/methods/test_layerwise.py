"""A linear classifier a layer: the sizes of AVID's protocol, grids counted by hand, and encoders that stay as they are."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F

from kinetics_sounds.train.interface import Data
from kinetics_sounds.train.methods import layerwise
from kinetics_sounds.train.methods.layerwise import Layerwise, grid_features, grid_side
from kinetics_sounds.train.models.backbones import avid_r2plus1d, conv2d, r2plus1d, r3d, tied_copy

from ..batches import MOMENT, as_batch

SMALL = {"features": 64}

ROWS = 6


def made(*, classes: int = 3, shared: bool = False, **settings: Any) -> Layerwise:
    torch.manual_seed(0)
    video = r3d.build(r3d.Settings(width=2, channels=1))
    audio = tied_copy(video) if shared else r3d.build(r3d.Settings(width=2, channels=1))
    data = Data(classes=classes, samples=9)
    return layerwise.build(layerwise.Settings(features=64, **settings), video=video, audio=audio, data=data)


def arrays(frames: int = 4) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    sides = {name: torch.rand(ROWS, 1, frames, 16, 16, generator=generator) for name in ("video", "audio")}
    return {**sides, "label": torch.arange(ROWS) % 3}


@pytest.mark.parametrize(
    ("modality", "backbones", "shape"),
    [
        ("video", (r3d, r3d), (3, 16, 112, 112)),
        ("audio", (r2plus1d, r2plus1d), (3, 16, 112, 112)),
        ("video", (avid_r2plus1d, conv2d), (3, 8, 224, 224)),
        ("audio", (avid_r2plus1d, conv2d), (3, 1, 200, 257)),
    ],
)
def test_at_full_size_it_has_the_features_of_the_paper(modality: Any, backbones: Any, shape: tuple[int, ...]) -> None:
    """Methods 3.6: 64, 128, 256, 512 channels on grids of 12, 8, 6, 4 a side; on shapes alone."""
    with torch.device("meta"):
        video, audio = (backbone.build(backbone.Settings()) for backbone in backbones)
        asked = layerwise.Settings(modality=modality)
        model = layerwise.build(asked, video=video, audio=audio, data=Data(classes=400, samples=1))
        features = model.features(torch.empty(2, *shape))

    assert model.sides == {"conv2": 12, "conv3": 8, "conv4": 6, "conv5": 4}
    assert [tuple(each.shape) for each in features.values()] == [(2, 9216), (2, 8192), (2, 9216), (2, 8192)]
    learn = sum(each.numel() for each in model.parameters() if each.requires_grad)
    assert learn == sum(2 * width + 400 * width + 400 for width in (9216, 8192, 9216, 8192))


@pytest.mark.parametrize(
    ("channels", "features", "side"), [(64, 9216, 12), (128, 9216, 8), (113, 9216, 9), (1, 1, 1), (16, 64, 2)]
)
def test_a_grid_is_the_largest_square_that_makes_no_more_features(channels: int, features: int, side: int) -> None:
    assert grid_side(channels, features) == side
    assert channels * side**2 <= features < channels * (side + 1) ** 2


def test_a_feature_is_the_greatest_value_over_time_and_a_cell() -> None:
    """Of a ramp that is the last value of the last frame's cell, row by row."""
    ramp_BCTHW = torch.arange(2 * 2 * 3 * 4 * 4.0).view(2, 2, 3, 4, 4)
    feature_BD = grid_features(ramp_BCTHW, 2)

    corners_BCHW = ramp_BCTHW[:, :, 2, 1::2, 1::2]
    assert torch.equal(feature_BD, corners_BCHW.reshape(2, 8))
    assert torch.equal(grid_features(ramp_BCTHW[:, :, 2], 2), feature_BD)  # maps without a time
    assert torch.equal(feature_BD, F.adaptive_max_pool3d(ramp_BCTHW, (1, 2, 2)).flatten(1))


def test_classifiers_that_know_nothing_lose_log_c_each() -> None:
    model = made()
    for head in model.heads.values():
        torch.nn.init.zeros_(head[1].weight)
        torch.nn.init.zeros_(head[1].bias)
    step = model(as_batch(arrays()), MOMENT)

    assert step.loss.item() == pytest.approx(4 * 1.0986123)  # four layers, three classes
    assert step.logs["conv3_loss"].item() == pytest.approx(1.0986123)
    assert set(step.logs) == {"loss", *(f"conv{n}_{what}" for n in (2, 3, 4, 5) for what in ("loss", "top1"))}


def test_a_layer_learns_what_it_would_learn_alone() -> None:
    together, alone = made(), made(layers="conv4")
    alone.heads["conv4"].load_state_dict(together.heads["conv4"].state_dict())
    for model in (together, alone):
        model(as_batch(arrays()), MOMENT).loss.backward()

    for one, other in zip(together.heads["conv4"].parameters(), alone.heads["conv4"].parameters(), strict=True):
        assert one.grad is not None
        assert other.grad is not None
        assert torch.equal(one.grad, other.grad)


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("modality", ["video", "audio"])
def test_encoders_stay_as_they_are_to_the_bit(modality: Any, shared: bool) -> None:
    """Their running statistics too, in training mode, with a decay on all that learns; the other modality is not looked at."""
    model = made(modality=modality, shared=shared).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    optimizer = torch.optim.SGD([each for each in model.parameters() if each.requires_grad], lr=0.1, weight_decay=0.5)
    given = {name: value for name, value in arrays().items() if name in (modality, "label")}
    for _ in range(2):
        optimizer.zero_grad()
        model(as_batch(given), MOMENT).loss.backward()
        optimizer.step()

    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {name for name in before if name.startswith("heads.")}


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"layers": "conv2,conv9"}, "R3D has no layer conv9; it has: conv1, conv2, conv3, conv4, conv5"),
        ({"layers": "conv2,conv2"}, "layers 'conv2,conv2' must be names, each once"),
        ({"layers": " ,"}, "must be names"),
        ({"classes": 1}, "nothing to classify"),
    ],
)
def test_what_cannot_be_is_refused(settings: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        made(**settings)
    with pytest.raises(ValueError, match="features 0 must be from 1"):
        layerwise.Settings(features=0)
    with pytest.raises(ValueError, match="65 channels make more than 64 features"):
        grid_side(65, 64)
    with pytest.raises(ValueError, match="the view gives no video"):
        made()(as_batch({"label": torch.zeros(2, dtype=torch.int64)}), MOMENT)
