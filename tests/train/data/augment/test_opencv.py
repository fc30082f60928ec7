"""Blur, hue, grey and both resizings against OpenCV 5.0.0, whose numbers `benchmarks/opencv_numbers.py` prints."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor

from kinetics_sounds.train.data import crops
from kinetics_sounds.train.data.augment import colour_jitter, gaussian_blur, grey, resize_crop

PIXELS = ((0, 0), (0, 111), (111, 5), (50, 60), (111, 111), (3, 2))
"""Rows and columns of which the numbers are."""


@pytest.fixture(scope="module")
def picture() -> Tensor:
    """(37 y + 91 x + 53 c + 7 x y) mod 256 of 255: (3, 112, 112)."""
    c, y, x = np.mgrid[0:3, 0:112, 0:112]
    return torch.from_numpy(((37 * y + 91 * x + 53 * c + 7 * x * y) % 256) / 255).float()


def at(image: Tensor) -> Tensor:
    """The values (..., H, W) of the six pixels: (6, ...)."""
    return torch.stack([image[..., row, column] for row, column in PIXELS])


def same(image: Tensor, theirs: Sequence[float] | Sequence[Sequence[float]]) -> None:
    torch.testing.assert_close(at(image), torch.tensor(theirs), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("sigma", "theirs"),
    [
        (
            0.8,
            [
                *([0.279886, 0.467238, 0.633053], [0.398937, 0.562386, 0.519652], [0.61565, 0.563171, 0.405919]),
                *([0.513957, 0.477694, 0.376461], [0.374136, 0.372216, 0.538029], [0.493403, 0.518064, 0.54632]),
            ],
        ),
        (
            2.0,
            [
                *([0.471033, 0.524813, 0.546217], [0.523882, 0.49848, 0.496715], [0.5066, 0.54613, 0.480782]),
                *([0.477911, 0.477783, 0.459191], [0.463902, 0.48036, 0.499865], [0.502925, 0.523394, 0.523117]),
            ],
        ),
    ],
)
def test_blur(sigma: float, theirs: list[list[float]], picture: Tensor) -> None:
    """A kernel of 11 pixels, mirrored about the last one."""
    found = gaussian_blur.apply(picture[None, :, None], torch.tensor([[sigma]]))[0, :, 0]

    same(found, theirs)


@pytest.mark.parametrize(
    ("turn", "theirs"),
    [
        (
            -0.2,
            [
                *([0.0, 0.415686, 0.124706], [0.458824, 0.87451, 0.58353], [0.632941, 0.203922, 1.0]),
                *([0.796078, 0.048628, 0.0], [0.403922, 0.819608, 0.528628], [0.309804, 0.72549, 0.43451]),
            ],
        ),
        (
            0.07,
            [
                *([0.0, 0.033255, 0.415686], [0.458824, 0.492078, 0.87451], [1.0, 0.330432, 0.203922]),
                *([0.253882, 0.796078, 0.0], [0.403922, 0.437177, 0.819608], [0.309804, 0.343059, 0.72549]),
            ],
        ),
    ],
)
def test_hue(turn: float, theirs: list[list[float]], picture: Tensor) -> None:
    numbers = torch.tensor([[1.0, 1.0, 1.0, turn, 0.0, 1.0, 2.0, 3.0]])
    found = colour_jitter.apply(picture[None, :, None], numbers)[0, :, 0]

    same(found, theirs)


def test_grey(picture: Tensor) -> None:
    found = grey.apply(picture[None, :, None], torch.zeros(1, 0))[0, 0, 0]

    theirs = [0.169392, 0.628216, 0.465643, 0.64318, 0.573314, 0.479196]
    same(found, theirs)


def test_a_piece_of_a_spectrogram_is_stretched_bicubically(picture: Tensor) -> None:
    """Rows 20 to 83, columns 10 to 89: of the canvas of 168 columns these are 38 to 117."""
    numbers = torch.tensor([[64.5 / 112, 80.5 / 112, 20.5 / 49, 38.5 / 89]])
    found = resize_crop.apply(picture[:1], numbers)[0]

    theirs = [0.983552, 0.134484, 0.365726, 0.584388, 0.651693, 0.467541]
    same(found, theirs)


def test_frames_are_squashed_bilinearly(picture: Tensor) -> None:
    """To 128 x 171, both larger, where antialiasing does nothing."""
    found = crops.resized(picture.permute(1, 2, 0)[None], 128, 171)[0].permute(2, 0, 1)

    theirs = [
        *([0.0, 0.207843, 0.415686], [0.784944, 0.461472, 0.196709], [0.058331, 0.266174, 0.474017]),
        *([0.422631, 0.356194, 0.477258], [0.596481, 0.804324, 0.451314], [0.719763, 0.440506, 0.269494]),
    ]
    same(found, theirs)
