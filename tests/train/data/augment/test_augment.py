"""What augmentations do to pictures and mel-spectrograms, against Pillow, SciPy, colorsys and numbers worked out by hand."""

import colorsys
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance
from scipy import ndimage
from torch import Tensor

from kinetics_sounds import plugins
from kinetics_sounds.train.data import augment
from kinetics_sounds.train.data.augment import (
    colour_jitter,
    cutout,
    cutout_multiply,
    gaussian_blur,
    grey,
    resize_crop,
    spec_mask,
    time_warp,
    volume_jitter,
)

NAMES = plugins.names(augment.__name__)
VIDEO = {name for name in NAMES if plugins.load(augment.__name__, name).MODALITY == "video"}


def module(name: str) -> Any:
    return plugins.load(augment.__name__, name)


def clips(renderings: int = 2, frames: int = 3, side: int = 40) -> Tensor:
    """Pictures of whole 256ths, as a decoder gives them."""
    generator = torch.Generator().manual_seed(0)
    return torch.randint(256, (renderings, 3, frames, side, side), generator=generator).float() / 255


def mels(renderings: int = 2, bands: int = 30, columns: int = 50) -> Tensor:
    return torch.rand(renderings, bands, columns, generator=torch.Generator().manual_seed(0))


def pictures(clip_CTHW: Tensor) -> list[Image.Image]:
    return [Image.fromarray((frame * 255).round().byte().permute(1, 2, 0).numpy()) for frame in clip_CTHW.unbind(1)]


def draws(each: ModuleType, seed: int = 0, rows: int = 2) -> Tensor:
    generator = np.random.default_rng(seed)
    return torch.tensor([list(each.draw(generator)) for _ in range(rows)], dtype=torch.float32).view(rows, each.DRAWS)


def only(step: int, amount: float) -> Tensor:
    """Numbers of a colour jitter whose other steps do nothing."""
    factors = [1.0, 1.0, 1.0, 0.0]
    factors[step] = amount
    return torch.tensor([[*factors, 0.0, 1.0, 2.0, 3.0]])


@pytest.mark.parametrize("name", NAMES)
class TestEach:
    def test_a_still_clip_stays_still(self, name: str) -> None:
        if name in VIDEO:
            still = clips()[:, :, :1].expand(-1, -1, 3, -1, -1)
            changed = module(name).apply(still, draws(module(name)))
            torch.testing.assert_close(changed, changed[:, :, :1].expand_as(changed))

    def test_the_result_stays_in_range_and_shape(self, name: str) -> None:
        given = clips() if name in VIDEO else mels()
        for seed in range(5):
            numbers = torch.cat([torch.ones(2, 1), draws(module(name), seed)], dim=1)
            changed = augment.apply_all((module(name),), given, numbers, within=None if name in VIDEO else (0, 1))
            assert changed.shape == given.shape
            assert changed.min() >= 0
            assert changed.max() <= 1 + 1e-6

    def test_a_rendering_does_not_depend_on_the_others(self, name: str) -> None:
        given = clips() if name in VIDEO else mels()
        numbers = draws(module(name))
        both = module(name).apply(given, numbers)
        for row in (0, 1):
            torch.testing.assert_close(both[[row]], module(name).apply(given[[row]], numbers[[row]]))

    @pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
    def test_a_gpu_does_what_a_cpu_does_to_rounding(self, name: str) -> None:
        given = clips(side=112) if name in VIDEO else mels(columns=101)
        for seed in range(5):
            numbers = draws(module(name), seed)
            expected = module(name).apply(given, numbers)
            torch.testing.assert_close(
                module(name).apply(given.cuda(), numbers.cuda()).cpu(), expected, atol=1e-5, rtol=0
            )

    def test_it_draws_as_many_numbers_as_it_says(self, name: str) -> None:
        assert len(module(name).draw(np.random.default_rng(0))) == module(name).DRAWS
        assert 0 < module(name).PROBABILITY <= 1


def test_what_is_drawn_for_nothing_leaves_everything_as_it_is() -> None:
    video, audio = (
        augment.find(",".join(names), modality=modality)
        for modality, names in (("video", sorted(VIDEO)), ("audio", sorted(set(NAMES) - VIDEO)))
    )

    for chosen, given in ((video, clips()), (audio, mels())):
        assert torch.equal(augment.apply_all(chosen, given, torch.zeros(2, augment.draws_width(chosen))), given)


def test_they_are_done_one_after_the_other_and_each_has_its_own_numbers() -> None:
    chosen = augment.find("cutout, grey", modality="video")
    numbers = torch.stack([augment.draw_all(chosen, np.random.default_rng(seed)) for seed in (0, 1)])
    numbers[:, 4] = torch.tensor([1.0, 0.0])  # the first clip grey, the second not
    found = augment.apply_all(chosen, clips(), numbers)

    cut = cutout.apply(clips(), numbers[:, 1:4])
    torch.testing.assert_close(found[0], grey.apply(cut, numbers)[0])
    torch.testing.assert_close(found[1], cut[1])


def test_how_often_each_is_done_is_its_probability() -> None:
    chosen = augment.find("grey,gaussian_blur", modality="video")
    generator = np.random.default_rng(0)
    numbers = torch.stack([augment.draw_all(chosen, generator) for _ in range(4000)])

    assert numbers[:, 0].mean().item() == pytest.approx(0.2, abs=0.02)
    assert numbers[:, 1].mean().item() == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("volume_jitter", "volume_jitter is an augmentation of audio, not of video"),
        (
            "gray",
            (
                "unknown video augmentation 'gray'; available: colour_jitter, cutout, cutout_multiply, flip, "
                r"gaussian_blur, grey, multi_scale_crop \(did you mean 'grey'\?\)"
            ),
        ),
    ],
)
def test_a_name_of_none_is_refused(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        augment.find(text, modality="video")


@pytest.mark.parametrize(
    ("step", "enhance"), [(0, ImageEnhance.Brightness), (1, ImageEnhance.Contrast), (2, ImageEnhance.Color)]
)
@pytest.mark.parametrize("factor", [0.6, 1.3])
def test_brightness_contrast_and_saturation_are_pillow_s(step: int, enhance: Any, factor: float) -> None:
    """To the rounding of Pillow's levels, of which its luma and its mean are whole numbers."""
    clip = clips(1)
    changed = colour_jitter.apply(clip, only(step, factor))[0]
    for ours, picture in zip(changed.unbind(1), pictures(clip[0]), strict=True):
        theirs = np.asarray(enhance(picture).enhance(factor))
        assert np.abs(ours.permute(1, 2, 0).numpy() * 255 - theirs).max() <= 2


@pytest.mark.parametrize("turn", [-0.2, 0.07, 0.2])
def test_hue_is_turned_as_colorsys_turns_it(turn: float) -> None:
    clip = clips(1, frames=1, side=6)
    changed = colour_jitter.apply(clip, only(3, turn))[0, :, 0].flatten(1).T
    for (red, green, blue), ours in zip(clip[0, :, 0].flatten(1).T.tolist(), changed, strict=True):
        hue, saturation, value = colorsys.rgb_to_hsv(red, green, blue)
        theirs = colorsys.hsv_to_rgb((hue + turn) % 1, saturation, value)
        torch.testing.assert_close(ours, torch.tensor(theirs), atol=1e-5, rtol=0)


def test_the_order_of_the_steps_counts() -> None:
    """Brighter by 1.4 and then less contrast, and the other way round."""
    clip = clips(1)
    numbers = torch.tensor([[1.4, 0.6, 1.0, 0.0, 0.0, 1.0, 2.0, 3.0]])
    swapped = torch.tensor([[1.4, 0.6, 1.0, 0.0, 1.0, 0.0, 2.0, 3.0]])
    one, other = (colour_jitter.apply(clip, order) for order in (numbers, swapped))

    assert not torch.allclose(one, other)
    torch.testing.assert_close(other, colour_jitter.apply(colour_jitter.apply(clip, only(1, 0.6)), only(0, 1.4)))


def test_grey_is_pillow_s_luma() -> None:
    clip = clips(1)
    for ours, picture in zip(grey.apply(clip, torch.zeros(1, 0))[0].unbind(1), pictures(clip[0]), strict=True):
        assert torch.equal(ours[0], ours[1])
        assert np.abs(ours[0].numpy() * 255 - np.asarray(picture.convert("L"))).max() <= 1


@pytest.mark.parametrize("sigma", [0.1, 0.8, 2.0])
def test_blur_is_scipy_s_with_a_kernel_of_eleven_pixels_at_112(sigma: float) -> None:
    clip = clips(1, frames=1, side=112)
    blurred = gaussian_blur.apply(clip, torch.tensor([[sigma]]))[0, :, 0]
    for ours, channel in zip(blurred, clip[0, :, 0], strict=True):
        theirs = ndimage.gaussian_filter(channel.numpy(), sigma, mode="mirror", radius=5)
        np.testing.assert_allclose(ours.numpy(), theirs, atol=1e-5)


def test_cutout_covers_one_square_of_its_side_with_the_clip_s_mean() -> None:
    clip = clips(1)
    filled = cutout.apply(clip, torch.tensor([[7.0, 0.0, 0.999]]))
    covered = (filled != clip).any(dim=1)[0, 0]

    assert covered.nonzero().amin(0).tolist() == [0, 33]
    assert covered.nonzero().amax(0).tolist() == [6, 39]
    torch.testing.assert_close(filled[0, :, :, 3, 36], clip.mean().expand(3, 3))


def test_the_code_s_cutout_multiplies() -> None:
    clip, numbers = clips(1), torch.tensor([[7.0, 0.0, 0.0]])

    torch.testing.assert_close(
        cutout_multiply.apply(clip, numbers)[0, :, :, :7, :7], clip[0, :, :, :7, :7] * clip.mean()
    )


def test_a_sound_twice_as_loud_is_six_decibels_of_eighty_higher() -> None:
    """20 log10(2) = 6.0206 dB; what would pass the top stays there, and silence gets louder only by as much."""
    found = volume_jitter.apply(torch.tensor([[[0.0, 0.5, 0.99]]]), torch.tensor([[2.0]]))

    torch.testing.assert_close(found, torch.tensor([[[0.07526, 0.57526, 1.0]]]), atol=1e-5, rtol=0)


def test_masks_cover_their_bands_and_columns_with_the_mean() -> None:
    """3 bands at the top, none, 5 columns at the end, and 2 at the beginning."""
    mel = mels(1)
    numbers = torch.tensor([[3.0, 0.0, 0.0, 0.5, 5.0, 0.999, 2.0, 0.0]])
    found = spec_mask.apply(mel, numbers)[0]
    covered = found != mel[0]

    expected = torch.zeros(30, 50, dtype=torch.bool)
    expected[:3], expected[:, 45:], expected[:, :2] = True, True, True
    assert torch.equal(covered, expected)
    torch.testing.assert_close(found[expected], mel.mean().expand(int(expected.sum())))


def test_a_piece_of_the_spectrogram_s_own_size_and_place_is_the_spectrogram() -> None:
    """Of a canvas of 75 columns the spectrogram has 12 to 61: place 12 of 26."""
    mel = mels(1)
    found = resize_crop.apply(mel, torch.tensor([[1.0, 1.0, 0.0, 12.5 / 26]]))

    torch.testing.assert_close(found, mel)


def test_a_longer_piece_has_silence_at_its_sides() -> None:
    """One and a half times as long, the whole canvas: the first and last sixth are its zeros."""
    found = resize_crop.apply(torch.ones(1, 30, 60), torch.tensor([[1.0, 1.5, 0.0, 0.0]]))[0]

    assert torch.equal(found[:, :8], torch.zeros(30, 8))
    torch.testing.assert_close(found[:, 14:46], torch.ones(30, 32), atol=0.05, rtol=0)


def test_a_standardised_spectrogram_keeps_its_range_and_gets_its_mean_around_it() -> None:
    """Of mean 0 and deviation 1: nothing is cut off at 0 or 1, and what is added is 0."""
    mel = (mels(1) - 0.5) * 8
    found = resize_crop.apply(mel, torch.tensor([[1.0, 1.0, 0.0, 12.5 / 26]]))
    longer = resize_crop.apply(torch.full((1, 30, 60), -3.0), torch.tensor([[1.0, 1.5, 0.0, 0.0]]))[0]

    torch.testing.assert_close(found, mel)
    assert torch.equal(longer[:, :8], torch.zeros(30, 8))
    torch.testing.assert_close(longer[:, 14:46], torch.full((30, 32), -3.0), atol=0.15, rtol=0)


def test_a_warp_moves_its_column_and_leaves_both_ends() -> None:
    """Of 101 columns that are their own number: number 50 comes to lie at 50 + 19."""
    ramp = (torch.arange(101.0) / 100).expand(1, 4, 101)
    found = time_warp.apply(ramp, torch.tensor([[0.5, 1.0]]))[0, 0]

    assert found[69].item() == pytest.approx(0.5, abs=1e-5)
    assert found[[0, 100]].tolist() == pytest.approx([0, 1])
    assert (found.diff() > 0).all()


def test_a_short_spectrogram_is_not_warped() -> None:
    assert torch.equal(time_warp.apply(mels(1, columns=41), torch.tensor([[0.5, 1.0]])), mels(1, columns=41))
