"""Truths about the encoders. Sizes are counted on the meta device, where tensors have shapes but no numbers."""

import math
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from kinetics_sounds.train.interface import Encoder
from kinetics_sounds.train.models.backbones import (
    CHANNELS,
    PaddedConv3d,
    avid_r2plus1d,
    c3d,
    conv2d,
    feature_width,
    layer_widths,
    middle_channels,
    r2plus1d,
    r2plus1d_18,
    r3d,
    resnet18,
)

ALL: tuple[ModuleType, ...] = (avid_r2plus1d, c3d, conv2d, r2plus1d, r2plus1d_18, r3d, resnet18)
TOTALS = {
    c3d: (27_661_440, 27_657_984, 5_504, 76.99),
    r3d: (14_361_792, 14_342_976, 5_760, 39.77),
    r2plus1d: (14_365_303, 14_346_477, 14_350, 42.72),
    r2plus1d_18: (31_300_125, 31_300_125 - 2 * 49 * 45, 2 * (109 + 832 + 1_676 + 3_352 + 6_706), 81.04),
    avid_r2plus1d: (15_379_136, 15_379_136 - 2 * 147 * 64, 2 * (64 + 8 * 960), 12.32),
    conv2d: (4_725_696 + 2 * 49 * 64, 4_725_696, 2 * (64 + 2 * 960), 11.12),
    resnet18: (11_170_240 + 2 * 49 * 64, 11_170_240, 2 * (64 + 4 * 960 + 896), 15.52),
}
"""Parameters with 3 and with 1 input channel, running values of the batch norms, GFLOP of a sample (methods 1.5, 3.3, 4.1).

Norms of R(2+1)D-18 have 45 + 64 channels in the stem, 4 x (144 + 64) in conv2, and in conv3 to conv5 twice either middle (230 and
288, 460 and 576, 921 and 1,152) and five times the outputs. Norms of the last three have 64 after the stem, and in their stages
64 + 128 + 256 + 512 = 960 for each norm of a stage, of which ResNet-18 has 896 more in its shortcuts.
"""


def pairs(inputs: int, first: int, second: int, outputs: int) -> int:
    """Parameters of a stage of two blocks whose convolutions over space and time have norms of so many channels between them."""
    shortcut = inputs * outputs + 2 * outputs if inputs != outputs else 0
    found = sum(
        9 * given * middle + 2 * middle + 3 * middle * outputs + 2 * outputs
        for given, middle in ((inputs, first), (outputs, first), (outputs, second), (outputs, second))
    )
    return found + shortcut


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
    r2plus1d_18: [
        ("conv1", 147 * 45 + 90 + 3 * 45 * 64 + 128, (64, 16, 56, 56)),
        ("conv2", pairs(64, 144, 144, 64), (64, 16, 56, 56)),
        ("conv3", pairs(64, 230, 288, 128), (128, 8, 28, 28)),
        ("conv4", pairs(128, 460, 576, 256), (256, 4, 14, 14)),
        ("conv5", pairs(256, 921, 1_152, 512), (512, 2, 7, 7)),
    ],
    avid_r2plus1d: [
        ("conv1", 28_224 + 128, (64, 16, 28, 28)),
        ("conv2", 4 * 12 * 64**2 + 1_024, (64, 16, 28, 28)),
        ("conv3", 9 * 64 * 128 + 3 * 128**2 + 3 * 12 * 128**2 + 64 * 128 + 2_048, (128, 8, 14, 14)),
        ("conv4", 9 * 128 * 256 + 3 * 256**2 + 3 * 12 * 256**2 + 128 * 256 + 4_096, (256, 4, 7, 7)),
        ("conv5", 9 * 256 * 512 + 3 * 512**2 + 3 * 12 * 512**2 + 256 * 512 + 8_192, (512, 2, 4, 4)),
    ],
    conv2d: [
        ("conv1", 9_408 + 128, (64, 16, 56, 56)),
        ("conv2", 73_728 + 256, (64, 16, 28, 28)),
        ("conv3", 221_184 + 512, (128, 16, 14, 14)),
        ("conv4", 884_736 + 1_024, (256, 16, 7, 7)),
        ("conv5", 3_538_944 + 2_048, (512, 16, 7, 7)),
    ],
    resnet18: [
        ("conv1", 9_408 + 128, (64, 16, 56, 56)),
        ("conv2", 147_456 + 512, (64, 16, 28, 28)),
        ("conv3", 73_728 + 3 * 147_456 + 8_192 + 1_280, (128, 16, 14, 14)),
        ("conv4", 294_912 + 3 * 589_824 + 32_768 + 2_560, (256, 16, 7, 7)),
        ("conv5", 1_179_648 + 3 * 2_359_296 + 131_072 + 5_120, (512, 16, 4, 4)),
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
def test_maps_are_what_each_stage_gives_pooled_over_time_and_space_and_the_last_is_the_feature(
    backbone: ModuleType,
) -> None:
    torch.manual_seed(0)
    encoder = backbone.build(backbone.Settings(width=2)).eval()
    pooled: Callable[..., Tensor] = torch.amax if backbone in (avid_r2plus1d, conv2d) else torch.mean
    video_BCTHW = torch.rand(2, 3, 8, 16, 16)
    given: dict[str, Tensor] = {}
    for name in ("conv3", "conv4", "conv5"):
        encoder.get_submodule(name).register_forward_hook(
            lambda _module, _inputs, output, name=name: given.__setitem__(name, output)
        )

    maps = encoder.maps(video_BCTHW, ("conv3", "conv4", "conv5"))

    assert list(maps) == ["conv3", "conv4", "conv5"]
    assert all(torch.equal(maps[name], given[name]) for name in given)
    assert all(torch.equal(encoder.pool(maps[name]), pooled(given[name], dim=(2, 3, 4))) for name in given)
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
    assert middle_channels(inputs, outputs, time=time, space=space) == middle


@each
@pytest.mark.parametrize("change", [{"width": 0}, {"channels": 0}])
def test_a_network_that_cannot_be_is_refused(backbone: ModuleType, change: dict[str, int]) -> None:
    make: Callable[..., Any] = backbone.Settings

    with pytest.raises(ValueError, match="must be at least 1"):
        make(**change)


@pytest.mark.parametrize(("depth", "count"), [(10, 7_015_616), (18, 15_379_136), (34, 28_861_632)])
def test_avids_video_network_of_each_depth_makes_of_8_frames_one_and_of_224_pixels_7(depth: int, count: int) -> None:
    with torch.device("meta"):
        encoder = avid_r2plus1d.build(avid_r2plus1d.Settings(depth=depth))

    maps = encoder.maps(torch.empty(2, 3, 8, 224, 224, device="meta"), ("conv5",))

    assert parameters(encoder) == count
    assert maps["conv5"].shape == (2, 512, 1, 7, 7)


@pytest.mark.parametrize(
    ("backbone", "given", "made"),
    [
        (conv2d, (200, 257), (512, 1, 13, 17)),
        (conv2d, (100, 129), (512, 1, 7, 9)),
        (resnet18, (40, 100), (512, 1, 2, 4)),
    ],
)
def test_a_spectrogram_is_one_time_step(
    backbone: ModuleType, given: tuple[int, int], made: tuple[int, int, int, int]
) -> None:
    maps = paper(backbone, 1).maps(torch.empty(2, 1, 1, *given, device="meta"), ("conv5",))

    assert maps["conv5"].shape == (2, *made)


@pytest.mark.parametrize("backbone", [conv2d, resnet18])
def test_a_network_over_space_encodes_each_time_step_by_itself(backbone: ModuleType) -> None:
    torch.manual_seed(0)
    encoder = backbone.build(backbone.Settings(width=2, channels=1)).eval()
    sound_BCTHW = torch.rand(2, 1, 3, 24, 20)

    whole = encoder.maps(sound_BCTHW, ("conv5",))["conv5"]

    steps = [encoder.maps(step, ("conv5",))["conv5"] for step in torch.split(sound_BCTHW, 1, dim=2)]
    torch.testing.assert_close(whole, torch.cat(steps, dim=2))


@pytest.mark.parametrize("backbone", [avid_r2plus1d, conv2d])
def test_the_greatest_value_or_the_mean_is_taken_of_each_channel(backbone: ModuleType) -> None:
    """Of 1, 2, ... 8 by hand: 8 and 4.5."""
    maps_BCTHW = torch.arange(1.0, 9.0).view(1, 1, 2, 2, 2)

    for pool, value in (("max", 8.0), ("mean", 4.5)):
        assert backbone.build(backbone.Settings(width=1, pool=pool)).pool(maps_BCTHW).tolist() == [[value]]
    assert backbone.build(backbone.Settings(width=1)).pooling == "max"


def norm(weights: Mapping[str, Tensor], name: str, maps: Tensor) -> Tensor:
    """In evaluation mode, from the formula."""
    shift, scale, mean, variance = (
        weights[f"{name}.{part}"].view(-1, *[1] * (maps.ndim - 2))
        for part in ("bias", "weight", "running_mean", "running_var")
    )
    return (maps - mean) / (variance + 1e-5).sqrt() * scale + shift


def plane(weights: Mapping[str, Tensor], name: str, maps_BCHW: Tensor, *, stride: int) -> Tensor:
    """A 2-D convolution with the weights of one over space."""
    kernel = weights[f"{name}.weight"][:, :, 0]
    return F.conv2d(maps_BCHW, kernel, stride=stride, padding=kernel.shape[-1] // 2)


def scrambled(encoder: nn.Module) -> dict[str, Tensor]:
    """Its weights and statistics after all were drawn anew, so that no norm is an identity."""
    for name, value in encoder.state_dict().items():
        if value.is_floating_point():
            value.copy_(torch.rand(value.shape) + 0.5 if "var" in name else torch.randn(value.shape) / 2)
    return encoder.eval().state_dict()


def test_avids_audio_network_is_two_dimensional() -> None:
    """Written again with 2-D convolutions: strides 2, 2, 2, 2 and 1."""
    torch.manual_seed(0)
    encoder = conv2d.build(conv2d.Settings(width=2, channels=1))
    weights, sound_BCHW = scrambled(encoder), torch.rand(2, 1, 40, 33)

    maps = norm(weights, "conv1.1", plane(weights, "conv1.0", sound_BCHW, stride=2)).relu()
    for stage, stride in (("conv2", 2), ("conv3", 2), ("conv4", 2), ("conv5", 1)):
        maps = norm(weights, f"{stage}.1", plane(weights, f"{stage}.0", maps, stride=stride)).relu()
        maps = norm(weights, f"{stage}.4", plane(weights, f"{stage}.3", maps, stride=1)).relu()

    assert maps.shape == (2, 16, 3, 3)
    torch.testing.assert_close(encoder(sound_BCHW[:, :, None]), F.adaptive_max_pool2d(maps, 1).flatten(1))


def test_resnet18_is_that_of_its_paper() -> None:
    """Written again with 2-D convolutions: two blocks a stage, of which the first of conv3 to conv5 halves and projects."""
    torch.manual_seed(0)
    encoder = resnet18.build(resnet18.Settings(width=2, channels=1))
    weights, sound_BCHW = scrambled(encoder), torch.rand(2, 1, 40, 33)

    maps = norm(weights, "conv1.1", plane(weights, "conv1.0", sound_BCHW, stride=2)).relu()
    maps = F.max_pool2d(maps, 3, stride=2, padding=1)
    for stage in ("conv2", "conv3", "conv4", "conv5"):
        for block in (1, 2) if stage == "conv2" else (0, 1):  # behind the pool in conv2
            own, stride = f"{stage}.{block}", 2 if stage != "conv2" and block == 0 else 1
            inner = norm(weights, f"{own}.residual.1", plane(weights, f"{own}.residual.0", maps, stride=stride)).relu()
            inner = norm(weights, f"{own}.residual.4", plane(weights, f"{own}.residual.3", inner, stride=1))
            if stride == 2:
                maps = norm(weights, f"{own}.shortcut.1", plane(weights, f"{own}.shortcut.0", maps, stride=2))
            maps = (maps + inner).relu()

    assert maps.shape == (2, 16, 2, 2)
    torch.testing.assert_close(encoder(sound_BCHW[:, :, None]), maps.mean(dim=(2, 3)))


def test_r2plus1d_18_is_torchvisions() -> None:
    """Written again: a block's two pairs have as many middle channels, and its shortcut a norm of its own."""
    torch.manual_seed(0)
    block = r2plus1d_18.Block(2, 3, stride=2)
    weights, video_BCTHW = scrambled(block), torch.rand(2, 2, 5, 8, 7)
    assert len(weights["residual.0.weight"]) == len(weights["residual.6.weight"]) == 27 * 6 // (18 + 9)

    maps = F.conv3d(video_BCTHW, weights["residual.0.weight"], stride=(1, 2, 2), padding=(0, 1, 1))
    maps = F.conv3d(
        norm(weights, "residual.1", maps).relu(), weights["residual.3.weight"], stride=(2, 1, 1), padding=(1, 0, 0)
    )
    maps = F.conv3d(norm(weights, "residual.4", maps).relu(), weights["residual.6.weight"], padding=(0, 1, 1))
    maps = F.conv3d(norm(weights, "residual.7", maps).relu(), weights["residual.9.weight"], padding=(1, 0, 0))
    straight = norm(weights, "shortcut.1", F.conv3d(video_BCTHW, weights["shortcut.0.weight"], stride=2))
    maps = (norm(weights, "residual.10", maps) + straight).relu()

    assert maps.shape == (2, 3, 3, 4, 4)
    torch.testing.assert_close(block(video_BCTHW), maps)


@pytest.mark.parametrize("backbone", [resnet18, r2plus1d_18], ids=["resnet18", "r2plus1d_18"])
def test_residual_networks_of_torchvision_begin_with_its_weights(backbone: ModuleType) -> None:
    """Normal with standard deviation sqrt(2 / (outputs * kernel)), kaiming_normal_ in mode fan_out."""
    torch.manual_seed(0)
    for each in backbone.build(backbone.Settings()).modules():
        if isinstance(each, nn.Conv3d):
            right = math.sqrt(2 / (each.out_channels * math.prod(each.kernel_size)))
            assert each.weight.std().item() == pytest.approx(right, rel=0.1)


def test_a_block_of_avids_network_adds_its_shortcut_before_the_last_norm() -> None:
    """Written again: four convolutions, no norm of the shortcut's own, and the last norm behind the sum."""
    torch.manual_seed(0)
    block = avid_r2plus1d.Block(2, 3, stride=2)
    weights, video_BCTHW = scrambled(block), torch.rand(2, 2, 5, 8, 7)

    maps = F.conv3d(video_BCTHW, weights["residual.0.weight"], stride=(1, 2, 2), padding=(0, 1, 1))
    maps = F.conv3d(
        norm(weights, "residual.1", maps).relu(), weights["residual.3.weight"], stride=(2, 1, 1), padding=(1, 0, 0)
    )
    maps = F.conv3d(norm(weights, "residual.4", maps).relu(), weights["residual.6.weight"], padding=(0, 1, 1))
    maps = F.conv3d(norm(weights, "residual.7", maps).relu(), weights["residual.9.weight"], padding=(1, 0, 0))
    maps = norm(weights, "norm", maps + F.conv3d(video_BCTHW, weights["shortcut.weight"], stride=2)).relu()

    assert maps.shape == (2, 3, 3, 4, 4)
    torch.testing.assert_close(block(video_BCTHW), maps)


@each
def test_every_weight_learns(backbone: ModuleType) -> None:
    torch.manual_seed(0)
    encoder = backbone.build(backbone.Settings(width=2))

    encoder(torch.rand(4, 3, 8, 32, 32)).square().sum().backward()

    for name, weight in encoder.named_parameters():
        assert weight.grad is not None, name
        assert weight.grad.isfinite().all(), name
    first = next(encoder.parameters()).grad
    assert first is not None
    assert first.any()


def test_a_depth_that_avid_has_not_is_refused() -> None:
    with pytest.raises(ValueError, match="depth 50 must be 10, 18 or 34"):
        avid_r2plus1d.Settings(depth=50)


def test_a_module_without_a_width_is_no_backbone() -> None:
    with pytest.raises(ValueError, match="Flatten is not a backbone: set its attribute dim"):
        feature_width(nn.Flatten())


@each
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


@pytest.mark.parametrize("backbone", ALL, ids=lambda module: module.__name__.rpartition(".")[2])
def test_convolutions_whose_channels_are_no_multiple_of_8_can_be_padded(backbone: ModuleType) -> None:
    with torch.device("meta"):
        network = backbone.build(backbone.Settings(channels=1))
    odd = [each for each in network.modules() if isinstance(each, nn.Conv3d) and each.in_channels % CHANNELS]
    assert odd
    assert all(isinstance(each, PaddedConv3d) for each in odd)


@pytest.mark.parametrize("channels", [1, 3, 83])
def test_padded_channels_change_no_result_and_no_gradient(channels: int) -> None:
    torch.manual_seed(0)
    convolution = PaddedConv3d(channels, 4, (3, 7, 7), stride=(1, 2, 2), padding=(1, 3, 3)).double()
    given = torch.randn(2, channels, 4, 10, 10, dtype=torch.float64)
    found = []
    for way in (convolution, convolution.padded):
        convolution.zero_grad()
        result = way(given)
        result.square().sum().backward()
        found.append((result.detach(), convolution.weight.grad, convolution.bias.grad))
    torch.testing.assert_close(found[1], found[0], rtol=1e-12, atol=1e-10)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_pads_in_bfloat16_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    convolution, asked = PaddedConv3d(3, 4, 3).cuda(), list[torch.dtype]()
    plain = nn.Conv3d.forward

    def padded(self: PaddedConv3d, given: Tensor) -> Tensor:
        asked.append(torch.get_autocast_dtype("cuda"))
        return plain(self, given)

    monkeypatch.setattr(PaddedConv3d, "padded", padded)
    given = torch.rand(1, 3, 4, 8, 8, device="cuda")
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        with torch.autocast("cuda", dtype=dtype, enabled=dtype is not torch.float32):
            convolution(given)
    assert asked == [torch.bfloat16]
