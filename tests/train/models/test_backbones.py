"""Truths about the three encoders. Sizes are counted on the meta device, where tensors have shapes but no numbers."""

from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from kinetics_sounds.train.interface import Encoder
from kinetics_sounds.train.models.backbones import c3d, feature_width, layer_widths, r2plus1d, r3d

ALL: tuple[ModuleType, ...] = (c3d, r2plus1d, r3d)
TOTALS = {
    c3d: (27_661_440, 27_657_984, 5_504, 76.99),
    r3d: (14_361_792, 14_342_976, 5_760, 39.77),
    r2plus1d: (14_365_303, 14_346_477, 14_350, 42.72),
}
"""Parameters with 3 and with 1 input channel, running values of the batch norms, GFLOP of a sample (methods 1.5)."""
STAGES = {
    c3d: [
        ("conv1", 5_248 + 128, (64, 16, 112, 112)),
        ("conv2", 221_312 + 256, (128, 16, 56, 56)),
        ("conv3", 884_992 + 512 + 1_769_728 + 512, (256, 8, 28, 28)),
        ("conv4", 3_539_456 + 1_024 + 7_078_400 + 1_024, (512, 4, 14, 14)),
        ("conv5", 2 * (7_078_400 + 1_024), (512, 2, 7, 7)),
    ],
    r3d: [
        ("conv1", 28_224 + 128, (64, 16, 56, 56)),
        ("conv2", 221_440, (64, 16, 56, 56)),
        ("conv3", 672_512, (128, 8, 28, 28)),
        ("conv4", 2_688_512, (256, 4, 14, 14)),
        ("conv5", 10_750_976, (512, 2, 7, 7)),
    ],
    r2plus1d: [
        ("conv1", 28_303 + 128, (64, 16, 56, 56)),
        ("conv2", 222_016, (64, 16, 56, 56)),
        ("conv3", 673_120, (128, 8, 28, 28)),
        ("conv4", 2_689_090, (256, 4, 14, 14)),
        ("conv5", 10_752_646, (512, 2, 7, 7)),
    ],
}
each = pytest.mark.parametrize("backbone", ALL, ids=lambda module: module.__name__.rpartition(".")[2])


def paper(backbone: ModuleType, channels: int = 3) -> Any:
    with torch.device("meta"):
        return backbone.build(backbone.Settings(channels=channels))


def parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@each
def test_parameter_counts(backbone: ModuleType) -> None:
    assert (parameters(paper(backbone)), parameters(paper(backbone, 1))) == TOTALS[backbone][:2]


@each
def test_parameter_count_and_output_shape_of_each_stage(backbone: ModuleType) -> None:
    encoder = paper(backbone)
    maps: list[Tensor] = []
    for name, _, _ in STAGES[backbone]:
        encoder.get_submodule(name).register_forward_hook(lambda _module, _inputs, output: maps.append(output))

    encoder(torch.empty(2, 3, 16, 112, 112, device="meta"))

    assert [parameters(encoder.get_submodule(name)) for name, _, _ in STAGES[backbone]] == [
        total for _, total, _ in STAGES[backbone]
    ]
    assert [tuple(each.shape) for each in maps] == [(2, *shape) for _, _, shape in STAGES[backbone]]


@each
def test_the_pooled_feature_is_512_wide(backbone: ModuleType) -> None:
    encoder = paper(backbone)

    assert encoder(torch.empty(2, 3, 16, 112, 112, device="meta")).shape == (2, 512)
    assert encoder.dim == feature_width(encoder) == 512
    assert isinstance(encoder, Encoder)


@each
def test_the_pooled_maps_of_its_layers_are_as_wide_as_their_channels(backbone: ModuleType) -> None:
    encoder = paper(backbone)
    width = {name: shape[0] for name, _, shape in STAGES[backbone]}

    maps = encoder.maps(torch.empty(2, 3, 16, 112, 112, device="meta"), encoder.layers)

    assert {name: encoder.pool(each).shape for name, each in maps.items()} == {
        name: (2, channels) for name, channels in width.items()
    }


@each
def test_maps_are_what_each_stage_gives_pooled_as_means_and_the_last_is_the_feature(backbone: ModuleType) -> None:
    torch.manual_seed(0)
    encoder = backbone.build(backbone.Settings(width=2)).eval()
    video_BCTHW = torch.rand(2, 3, 8, 16, 16)
    given: dict[str, Tensor] = {}
    for name in ("conv3", "conv4", "conv5"):
        encoder.get_submodule(name).register_forward_hook(
            lambda _module, _inputs, output, name=name: given.__setitem__(name, output)
        )

    maps = encoder.maps(video_BCTHW, ("conv3", "conv4", "conv5"))

    assert list(maps) == ["conv3", "conv4", "conv5"]
    assert all(torch.equal(maps[name], given[name]) for name in given)
    assert all(torch.equal(encoder.pool(maps[name]), given[name].mean(dim=(2, 3, 4))) for name in given)
    assert torch.equal(encoder.pool(maps["conv5"]), encoder(video_BCTHW))


@each
def test_no_layer_behind_the_last_one_that_is_asked_for_is_computed(backbone: ModuleType) -> None:
    encoder = backbone.build(backbone.Settings(width=2))
    ran: list[str] = []
    for name in encoder.layers:
        encoder.get_submodule(name).register_forward_hook(lambda *_, name=name: ran.append(name))

    maps = encoder.maps(torch.rand(2, 3, 8, 16, 16), ("conv3", "conv1"))

    assert list(maps) == ["conv3", "conv1"]  # as they were asked for
    assert ran == ["conv1", "conv2", "conv3"]
    with pytest.raises(KeyError, match="conv6"):
        encoder.maps(torch.rand(2, 3, 8, 16, 16), ("conv6",))


@each
def test_running_values_of_the_batch_norms(backbone: ModuleType) -> None:
    running = [buffer for name, buffer in paper(backbone).named_buffers() if "running" in name]

    assert sum(buffer.numel() for buffer in running) == TOTALS[backbone][2]


@each
def test_work_of_one_sample(backbone: ModuleType) -> None:
    with FlopCounterMode(display=False) as counter:
        paper(backbone)(torch.empty(1, 3, 16, 112, 112, device="meta"))

    assert counter.get_total_flops() / 1e9 == pytest.approx(TOTALS[backbone][3], abs=0.05)


def test_one_frame_is_an_eighth_of_the_work_of_r3d() -> None:
    with FlopCounterMode(display=False) as counter:
        paper(r3d)(torch.empty(1, 3, 1, 112, 112, device="meta"))

    assert counter.get_total_flops() / 1e9 == pytest.approx(4.7, abs=0.05)


@each
@pytest.mark.parametrize("frames", [1, 3, 8, 16])
def test_a_feature_is_finite_and_never_negative(backbone: ModuleType, frames: int) -> None:
    torch.manual_seed(0)
    encoder = backbone.build(backbone.Settings(width=4, channels=1))
    video_BCTHW = torch.rand(2, 1, frames, 32, 24)
    if backbone is c3d and frames < 8:
        with pytest.raises(ValueError, match="needs 8 frames"):
            encoder(video_BCTHW)
        return

    features_BD = encoder(video_BCTHW)

    assert features_BD.shape == (2, 32)
    assert features_BD.isfinite().all()
    assert (features_BD >= 0).all()
    assert features_BD.count_nonzero() > 0


@each
def test_samples_do_not_see_each_other_in_eval_mode(backbone: ModuleType) -> None:
    torch.manual_seed(0)
    encoder = backbone.build(backbone.Settings(width=2)).eval()
    video_BCTHW = torch.rand(3, 3, 8, 16, 16)

    torch.testing.assert_close(encoder(video_BCTHW)[1:2], encoder(video_BCTHW[1:2]))


@pytest.mark.parametrize(
    ("inputs", "outputs", "time", "space", "middle"),
    [
        *((3, 64, 3, 7, 83), (1, 64, 3, 7, 39), (64, 64, 3, 3, 144), (64, 128, 3, 3, 230), (128, 128, 3, 3, 288)),
        *((128, 256, 3, 3, 460), (256, 256, 3, 3, 576), (256, 512, 3, 3, 921), (512, 512, 3, 3, 1152)),
        *((64, 128, 1, 1, 42), (128, 256, 1, 1, 85), (256, 512, 1, 1, 170)),
    ],
)
def test_channels_between_the_halves_of_a_split_convolution(
    inputs: int, outputs: int, time: int, space: int, middle: int
) -> None:
    assert r2plus1d.middle_channels(inputs, outputs, time=time, space=space) == middle


@each
@pytest.mark.parametrize("change", [{"width": 0}, {"channels": 0}])
def test_a_network_that_cannot_be_is_refused(backbone: ModuleType, change: dict[str, int]) -> None:
    make: Callable[..., Any] = backbone.Settings

    with pytest.raises(ValueError, match="must be at least 1"):
        make(**change)


def test_a_module_without_a_width_is_no_backbone() -> None:
    with pytest.raises(ValueError, match="Flatten is no backbone: set its attribute dim"):
        feature_width(nn.Flatten())


@pytest.mark.parametrize("backbone", [c3d, r2plus1d, r3d])
def test_the_channels_of_layers_are_known_without_an_input(backbone: ModuleType) -> None:
    """Of C3D conv2 has twice those of conv1, which is its stem; the weights are not touched."""
    encoder = backbone.build(backbone.Settings(width=2, channels=1))
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    double = 2 if backbone is c3d else 1

    assert layer_widths(encoder, ("conv4", "conv2")) == {"conv4": 8 * double, "conv2": 2 * double}
    assert all(torch.equal(value, before[name]) for name, value in encoder.state_dict().items())
    with pytest.raises(ValueError, match="has no layer conv6; it has: conv1, "):
        layer_widths(encoder, ("conv2", "conv6"))
    with pytest.raises(ValueError, match="Linear has no layer conv2; it has: none"):
        layer_widths(nn.Linear(1, 1), ("conv2",))
