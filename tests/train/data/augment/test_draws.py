"""What augmentations draw: the ranges and shares of CrissCross's table (methods 5.3), over thousands of draws.

Of 4,000 uniform draws the least and greatest come within a three-hundredth of their range to its ends.
"""

import functools
from typing import Any

import numpy as np
import pytest
import torch

from kinetics_sounds import plugins
from kinetics_sounds.train.data import augment, crops
from kinetics_sounds.train.data.augment import resize_crop, spec_mask, time_warp

DRAWS = 4000
RANGES: dict[str, list[tuple[float, float]]] = {
    # brightness, contrast, saturation, hue, and then which of the four comes first, second ...
    "colour_jitter": [(0.6, 1.4), (0.6, 1.4), (0.6, 1.4), (-0.2, 0.2), (0, 3), (0, 3), (0, 3), (0, 3)],
    "gaussian_blur": [(0.1, 2.0)],
    "grey": [],
    "cutout": [(1, 20), (0, 1), (0, 1)],
    "cutout_multiply": [(1, 20), (0, 1), (0, 1)],
    "volume_jitter": [(0.8, 1.2)],
    # two masks of bands and two of columns: width, place
    "spec_mask": [(0, 9), (0, 1), (0, 9), (0, 1), (0, 19), (0, 1), (0, 19), (0, 1)],
    "resize_crop": [(0.6, 1.5), (0.6, 1.5), (0, 1), (0, 1)],
    "time_warp": [(0, 1), (-1, 1)],
}
WHOLE = {
    *(("colour_jitter", place) for place in range(4, 8)),
    *(("spec_mask", place) for place in range(0, 8, 2)),
    *(("cutout", 0), ("cutout_multiply", 0)),
}
"""What is a whole number: its ends are met, and all between are as frequent."""
PROBABILITIES = {name: {"gaussian_blur": 0.5, "grey": 0.2}.get(name, 1.0) for name in RANGES}


@functools.cache
def drawn(name: str) -> np.ndarray:
    module: Any = plugins.load(augment.__name__, name)
    generator = np.random.default_rng(0)
    return np.array([list(module.draw(generator)) for _ in range(DRAWS)]).reshape(DRAWS, -1)


def test_no_augmentation_is_left_out() -> None:
    assert RANGES.keys() == set(plugins.names(augment.__name__))


@pytest.mark.parametrize("name", RANGES)
def test_numbers_fill_their_ranges(name: str) -> None:
    found, ranges = drawn(name), RANGES[name]
    assert found.shape == (DRAWS, len(ranges))
    for place, (least, most) in enumerate(ranges):
        column = found[:, place]
        near = 0 if (name, place) in WHOLE else (most - least) / 300
        assert least <= column.min() <= least + near, place
        assert most - near <= column.max() <= most, place
        assert column.mean() == pytest.approx((least + most) / 2, abs=(most - least) / 40), place
        if (name, place) in WHOLE:
            assert {*column.tolist()} == {*range(int(least), int(most) + 1)}, place


@pytest.mark.parametrize("name", RANGES)
def test_each_is_done_as_often_as_the_table_says(name: str) -> None:
    module: Any = plugins.load(augment.__name__, name)

    assert PROBABILITIES[name] == module.PROBABILITY


def test_what_the_numbers_are_of() -> None:
    """A canvas as high and half as long again; masks narrower than 10 bands and 20 columns; a window of 20 columns."""
    assert (resize_crop.CANVAS, resize_crop.SCALES) == ((1.0, 1.5), (0.6, 1.5))
    assert (spec_mask.WIDEST, spec_mask.MASKS) == ({1: 10, 2: 20}, 2)
    assert time_warp.WINDOW == 20


def test_a_multi_scale_crop_has_an_area_and_an_aspect_of_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    """From 0.08 of the picture's area to all of it, aspects from 3/4 to 4/3; looked at before it is resized."""
    monkeypatch.setattr(crops, "resized", lambda frames_THWC, height, width: frames_THWC)
    picture_THWC, generator = torch.zeros(1, 200, 200, 1), np.random.default_rng(0)
    found = [crops.multi_scale_crop(picture_THWC, 112, generator).shape[1:3] for _ in range(DRAWS)]
    tall, wide = np.array(found).T
    area, aspect = tall * wide / 200**2, wide / tall

    assert area.min() == pytest.approx(0.08, abs=0.005)
    assert area.max() > 0.98
    assert (aspect.min(), aspect.max()) == (pytest.approx(3 / 4, abs=0.02), pytest.approx(4 / 3, abs=0.02))


def test_a_flip_is_done_half_of_the_time() -> None:
    picture_THWC = torch.arange(2.0)[None, None, :, None]
    generator = np.random.default_rng(0)
    flipped = [crops.random_flip(picture_THWC, generator)[0, 0, 0, 0].item() for _ in range(2000)]

    assert np.mean(flipped) == pytest.approx(0.5, abs=0.05)
