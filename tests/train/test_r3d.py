"""Truths about R3D. Sizes are counted on the meta device, where tensors have shapes but no numbers."""

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from kinetics_sounds.train.backbones import Backbone, feature_width, r3d

STAGES = [
    ("conv1", 28_224 + 128, (64, 16, 56, 56)),
    ("conv2", 221_440, (64, 16, 56, 56)),
    ("conv3", 672_512, (128, 8, 28, 28)),
    ("conv4", 2_688_512, (256, 4, 14, 14)),
    ("conv5", 10_750_976, (512, 2, 7, 7)),
]


def paper(channels: int = 3) -> r3d.R3D:
    with torch.device("meta"):
        return r3d.build(r3d.Settings(channels=channels))


def parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize(("channels", "total"), [(3, 14_361_792), (1, 14_342_976)])
def test_parameter_count(channels: int, total: int) -> None:
    assert parameters(paper(channels)) == total


@pytest.mark.parametrize(("stage", "total", "shape"), STAGES)
def test_parameter_count_and_output_shape_of_each_stage(stage: str, total: int, shape: tuple[int, ...]) -> None:
    encoder = paper()
    maps: list[Tensor] = []
    module = encoder.get_submodule(stage)
    module.register_forward_hook(lambda _module, _inputs, output: maps.append(output))

    encoder(torch.empty(2, 3, 16, 112, 112, device="meta"))

    assert parameters(module) == total
    assert maps[0].shape == (2, *shape)


def test_pooled_feature_is_512_wide() -> None:
    encoder = paper()

    assert encoder(torch.empty(2, 3, 16, 112, 112, device="meta")).shape == (2, 512)
    assert encoder.dim == feature_width(encoder) == 512
    assert isinstance(encoder, Backbone)


def test_batch_norms_keep_5760_running_values() -> None:
    running = [buffer for name, buffer in paper().named_buffers() if "running" in name]

    assert sum(buffer.numel() for buffer in running) == 5_760


@pytest.mark.parametrize(("frames", "gflop"), [(16, 39.77), (1, 4.7)])
def test_work_of_one_sample(frames: int, gflop: float) -> None:
    with FlopCounterMode(display=False) as counter:
        paper()(torch.empty(1, 3, frames, 112, 112, device="meta"))

    assert counter.get_total_flops() / 1e9 == pytest.approx(gflop, abs=0.05)


@pytest.mark.parametrize("frames", [1, 3, 16])
def test_any_number_of_frames_gives_a_finite_feature_that_is_never_negative(frames: int) -> None:
    torch.manual_seed(0)
    encoder = r3d.build(r3d.Settings(width=4, channels=1))

    features_BD = encoder(torch.rand(2, 1, frames, 24, 20))

    assert features_BD.shape == (2, 32)
    assert features_BD.isfinite().all()
    assert (features_BD >= 0).all()
    assert features_BD.count_nonzero() > 0


def test_samples_do_not_see_each_other_in_eval_mode() -> None:
    torch.manual_seed(0)
    encoder = r3d.build(r3d.Settings(width=2)).eval()
    video_BCTHW = torch.rand(3, 3, 4, 16, 16)

    torch.testing.assert_close(encoder(video_BCTHW)[1:2], encoder(video_BCTHW[1:2]))


def test_a_module_without_a_width_is_no_backbone() -> None:
    with pytest.raises(ValueError, match="Flatten is no backbone: set its attribute dim"):
        feature_width(nn.Flatten())
