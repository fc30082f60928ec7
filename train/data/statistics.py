"""Mean and standard deviation that views standardize audio by: given, or computed from the training split.

Shapes: B batch, A sounds, T time, F bins.
"""

import dataclasses
import functools
import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from kinetics_sounds.address import Address
from kinetics_sounds.errors import SettingsError
from kinetics_sounds.shards import stats
from kinetics_sounds.shards.stats import Numbers
from kinetics_sounds.stream import Split

EPSILON = 1e-5
"""Added to each bin's standard deviation."""
Values = tuple[float, ...]
"""One value for all bins, or one per bin; empty: those of the shard set."""


def check(mean: Values, std: Values, *, bins: int) -> None:
    """Raise ValueError for an invalid mean or standard deviation for this number of bins."""
    counts = len(mean), len(std)
    if (0 in counts and counts != (0, 0)) or not {0, 1, bins}.issuperset(counts):
        raise ValueError(
            f"audio_mean and audio_std must have one number for all bins, or one for each of {bins}, not {counts[0]} "
            f"and {counts[1]}"
        )
    if not all(map(math.isfinite, (*mean, *std))) or min(std, default=0) < 0:
        raise ValueError("audio_mean must be finite, and audio_std at least 0")


def of_set(numbers: Numbers, shards: Address, split: Split, before: Mapping[str, Any]) -> tuple[Values, Values]:
    """Mean and standard deviation of a split, to six digits; a resumed run keeps its own if they are the same.

    Raises ShardError if the shard set has no suitable statistics.
    """
    alike = all(before.get(name) == value for name, value in dataclasses.asdict(numbers).items())
    if alike and before.get("audio_mean"):
        return tuple(before["audio_mean"]), tuple(before["audio_std"])
    its = stats.find(shards, split.dataset, split.name, numbers)
    return _rounded(its.mean), _rounded(its.std)


def standardised(audio: Tensor, mean: Values, std: Values, *, view: str, bins_last: bool = True) -> Tensor:
    """Subtract each bin's mean and divide by its deviation: (B, A, T, F), or (B, A, F, T) if bins are not last.

    Raises SettingsError, which names the view's options, if there are no statistics.
    """
    if not mean:
        raise SettingsError(
            f"--{view}.audio_mean and audio_std: are not set; give them, or let ks-train take what ks-shard stats computed"
        )
    means, deviations = (_constant(each, audio.device) for each in (mean, std))
    if not bins_last:
        means, deviations = means[:, None], deviations[:, None]
    return (audio - means) / (deviations + EPSILON)


@functools.lru_cache(maxsize=16)
def _constant(values: Values, device: torch.device) -> Tensor:
    """Tensor on the device, cached."""
    return torch.tensor(values, dtype=torch.float32, device=device)


def _rounded(values: Values) -> Values:
    """Rounded to six digits, for config.yaml."""
    return tuple(float(f"{value:.6g}") for value in values)
