"""Crops and flips, on pictures whose pixels say where they come from."""

import numpy as np
import pytest
import torch
from torch import Tensor

from kinetics_sounds.train.data import crops


def placed(height: int = 60, width: int = 80, frames: int = 2) -> Tensor:
    """Red is a pixel's row and green its column, in every frame."""
    row, column = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    frame = torch.stack([row, column, 0 * row], dim=-1).to(torch.uint8)
    return frame.expand(frames, -1, -1, -1)


def test_a_multi_scale_crop_is_a_part_of_the_area_and_aspect_that_are_said() -> None:
    """Rows and columns that are seen span it; squashed to 30 pixels a side the ends lie up to half a step within."""
    areas, aspects = [], []
    for seed in range(200):
        seen = crops.multi_scale_crop(placed(), 30, np.random.default_rng(seed)).float()
        tall, wide = ((seen[0, ..., axis].max() - seen[0, ..., axis].min()).item() * 30 / 29 for axis in (0, 1))
        areas.append(tall * wide / 4800)
        aspects.append(wide / tall)

    assert seen.shape == (2, 30, 30, 3)
    assert torch.equal(seen[0], seen[1])
    assert min(areas) < 0.12
    assert 0.85 < max(areas) <= 1.05
    assert 0.65 < min(aspects) < 0.85
    assert 1.2 < max(aspects) < 1.5


def test_the_least_area_of_a_multi_scale_crop_can_be_said() -> None:
    """Half a frame of 60 x 80 is 2,400 pixels; the ends lie up to half a step within."""
    for seed in range(60):
        seen = crops.multi_scale_crop(placed(), 30, np.random.default_rng(seed), least_area=0.5).float()
        tall, wide = ((seen[0, ..., axis].max() - seen[0, ..., axis].min()).item() * 30 / 29 for axis in (0, 1))
        assert tall * wide / 4800 > 0.45


@pytest.mark.parametrize(
    ("height", "width", "side", "size"),
    [
        (60, 80, 30, (30, 40)),
        (80, 60, 30, (40, 30)),
        (60, 80, 120, (120, 160)),
        (36, 37, 32, (32, 33)),
        (9, 9, 9, (9, 9)),
    ],
)
def test_the_short_side_is_resized_and_the_aspect_kept(
    height: int, width: int, side: int, size: tuple[int, int]
) -> None:
    made = crops.short_side_resized(placed(height, width), side)

    assert made.shape == (2, *size, 3)
    assert made.dtype == torch.uint8
    middle = made[0, size[0] // 2, size[1] // 2, :2].tolist()
    assert middle == pytest.approx([height / 2, width / 2], abs=1.5)


def test_a_flip_is_of_all_frames_or_of_none_half_of_the_time() -> None:
    flipped = 0
    for seed in range(200):
        found = crops.random_flip(placed(), np.random.default_rng(seed))
        is_flipped = bool(found[0, 0, 0, 1] == 79)
        assert torch.equal(found, placed().flip(2) if is_flipped else placed())
        flipped += is_flipped

    assert flipped == pytest.approx(100, abs=25)


def test_the_centre_crop_is_in_the_middle() -> None:
    found = crops.centre_crop(placed(), 20)

    assert found[0, 0, 0].tolist() == [20, 30, 0]
    assert found.shape == (2, 20, 20, 3)


def test_a_random_crop_reaches_every_place() -> None:
    tops = {int(crops.random_crop(placed(8, 8), 6, np.random.default_rng(seed))[0, 0, 0, 0]) for seed in range(60)}

    assert tops == {0, 1, 2}
