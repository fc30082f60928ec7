"""CMA's positives: who is mined, what is then left to draw, and how many of them are of the anchor's class."""

from collections.abc import Callable, Mapping
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from kinetics_sounds.train.models import mining
from kinetics_sounds.train.models.mining import CRITERIA, Criterion

RHO: Mapping[Criterion, Callable[[tuple[float, float]], float]] = {
    "min": min,
    "max": max,
    "video": lambda both: both[0],
    "audio": lambda both: both[1],
}


def banks(samples: int = 50, dim: int = 8) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    video, audio = (F.normalize(torch.randn(samples, dim, generator=generator), dim=1) for _ in range(2))
    return video, audio


@pytest.mark.parametrize("criterion", CRITERIA)
@pytest.mark.parametrize("block", [1, 7, 1000])
def test_positives_are_those_of_brute_force(criterion: Criterion, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A list sorted for every sample, by plain Python, whatever number of them is looked at together."""
    video, audio = banks()
    monkeypatch.setattr(mining, "MOST_SCORES", block * len(video))
    mined = mining.mine(video, audio, criterion=criterion, count=4)

    for anchor in range(len(video)):
        cosines = [
            (float(video[anchor] @ video[other]), float(audio[anchor] @ audio[other])) for other in range(len(video))
        ]
        rho = RHO[criterion]
        others = sorted(set(range(len(video))) - {anchor}, key=lambda other: -rho(cosines[other]))
        assert mined[anchor].tolist() == sorted(others[:4])


def test_all_others_are_the_most_that_can_be_mined() -> None:
    video, audio = banks(samples=4)

    assert mining.mine(video, audio, criterion="min", count=3).tolist() == [[1, 2, 3], [0, 2, 3], [0, 1, 3], [0, 1, 2]]
    for count in (0, 4):
        with pytest.raises(ValueError, match=f"{count} positives per sample are not available among 4"):
            mining.mine(video, audio, criterion="min", count=count)


@given(st.sets(st.integers(0, 19), min_size=1, max_size=19))
def test_draws_hit_every_row_that_is_not_excluded_once(excluded: set[int]) -> None:
    draws = torch.arange(20 - len(excluded))[None]
    rows = mining.outside(draws, torch.tensor([sorted(excluded)])).tolist()[0]

    assert rows == sorted(set(range(20)) - excluded)


def test_precision_is_the_share_of_the_anchors_class() -> None:
    """Of anchor 0 (class 7) one of two is right, of anchor 3 none; anchor 2 has no label and does not count."""
    labels = torch.tensor([7, 7, -1, 5])
    positives = torch.tensor([[1, 2], [0, 1], [0, 1]])

    assert mining.precision(positives, torch.tensor([0, 2, 3]), labels).item() == 0.25
    assert mining.precision(positives[1:2], torch.tensor([2]), labels).item() == 0


@pytest.mark.parametrize(("samples", "most", "count"), [(5, 10, 5), (10, 10, 10), (1000, 7, 7)])
def test_anchors_are_spread_from_the_first_row_to_the_last(samples: int, most: int, count: int) -> None:
    rows = mining.evenly(samples, most).tolist()

    assert (len(rows), rows[0], rows[-1]) == (count, 0, samples - 1)
    gaps = [after - before for before, after in pairwise(rows)]
    assert max(gaps) - min(gaps) <= 1
