"""Which stored frames a view takes, and which sound goes with them: numbers alone, nothing is read here.

A view takes `frames` frames, each `step` stored frames after the one before: 1 takes consecutive ones, `step_of` says it
for a wanted rate. A start is the number of a stored frame. Seconds count from the beginning of the clip.
"""

import math

import numpy as np

SAMPLE_RATE = 24_000
"""Hertz of the stored sound."""
GOP = 16
"""Stored frames in a closed group of pictures: a view that begins with one decodes nothing else."""
SAME_RATE = 1 / 500
"""Rates this near to a whole multiple of each other are meant to be one: 29.97 and 30 differ by half of it."""
_ROUNDING = 1e-6
"""Stored frames by which a product of rates may miss a whole number."""


def step_of(fps: float, rate: float) -> float:
    """Stored frames from one taken frame to the next, to take `rate` a second of a clip stored at `fps`.

    It is whole where the rates are nearly so, so that no frame of 29.97 is taken twice to make 30. Raises ValueError where
    a rate is not positive.
    """
    if not (0 < fps < math.inf and 0 < rate < math.inf):
        raise ValueError(f"rates must be positive, not fps {fps} and rate {rate}")
    step = fps / rate
    whole = round(step)
    return float(whole) if abs(step - whole) <= step * SAME_RATE else step


def last_start(length: int, frames: int, *, step: float = 1) -> int:
    """The last start from which a view still fits into a clip of `length` stored frames; 0 where none does.

    Raises ValueError where there is nothing to take.
    """
    if length < 1 or frames < 1 or not 0 < step < math.inf:
        raise ValueError(f"{frames} frames by steps of {step} are asked of a clip of {length}")
    return max(length - max(math.ceil(frames * step - _ROUNDING), 1), 0)


def frame_indices(start: int, frames: int, *, length: int, step: float = 1) -> list[int]:
    """The stored frames of a view: at each moment the one that is shown then. A short clip begins again."""
    return [(start + math.floor(place * step + _ROUNDING)) % length for place in range(frames)]


def random_start(length: int, frames: int, generator: np.random.Generator, *, step: float = 1) -> int:
    """Any start from which the view fits, each as likely; one draw."""
    return int(generator.integers(last_start(length, frames, step=step) + 1))


def gop_aligned_start(length: int, frames: int, generator: np.random.Generator, *, step: float = 1) -> int:
    """Any start at the beginning of a group of pictures from which the view fits, each as likely; one draw."""
    return GOP * int(generator.integers(last_start(length, frames, step=step) // GOP + 1))


def uniform_starts(length: int, frames: int, clips: int, *, step: float = 1) -> list[int]:
    """`clips` evenly spaced starts, the first and the last that fit among them; one clip is the middle.

    Raises ValueError for no clip.
    """
    if clips < 1:
        raise ValueError(f"clips must be at least 1, not {clips}")
    last = last_start(length, frames, step=step)
    return [last * place // (clips - 1) for place in range(clips)] if clips > 1 else [last // 2]


def start_at(seconds: float, length: int, frames: int, *, fps: float, step: float = 1) -> int:
    """The start that is shown at a time, or the nearest one from which the view fits."""
    return min(max(math.floor(seconds * fps + _ROUNDING), 0), last_start(length, frames, step=step))


def start_within(
    begin: float, end: float, length: int, frames: int, generator: np.random.Generator, *, fps: float, step: float = 1
) -> int:
    """Any start from which the view lies between two times in seconds, each as likely; one draw.

    The clip's own ends bound it too. Where the view is longer than the time between, it lies about its middle.
    """
    last = last_start(length, frames, step=step)
    low, high = math.ceil(begin * fps - _ROUNDING), math.floor(end * fps - frames * step + _ROUNDING)
    if high < low:
        low = high = (low + high) // 2
    low, high = (min(max(each, 0), last) for each in (low, high))
    return int(generator.integers(low, high + 1))


def span(start: int, frames: int, *, fps: float, step: float = 1) -> tuple[float, float]:
    """When a view begins and ends, in seconds: `frames` x `step` stored frames lie between."""
    return start / fps, (start + frames * step) / fps


def centred_window(
    begin: float, end: float, generator: np.random.Generator, *, seconds: float, jitter: float, track: int
) -> tuple[int, int]:
    """First sample and count of the `seconds` of sound whose middle is at most `jitter` seconds off the span's.

    Each place within a track of `track` samples is as likely; jitter 0 is for tests. A span at the edge has the nearest
    window within the track, and a shorter track is given whole. One draw.
    """
    middle = (begin + end - seconds) / 2
    return _window(middle - jitter, middle + jitter, generator, seconds=seconds, track=track)


def covering_window(
    begin: float, end: float, generator: np.random.Generator, *, seconds: float, track: int
) -> tuple[int, int]:
    """First sample and count of `seconds` of sound in which the span lies anywhere, each place as likely.

    Where the span is longer, the window lies anywhere in it: that of a whole clip gives a random window. A track of `track`
    samples that is shorter than the window is given whole. One draw.
    """
    places = (end - seconds, begin)
    return _window(min(places), max(places), generator, seconds=seconds, track=track)


def _window(
    earliest: float, latest: float, generator: np.random.Generator, *, seconds: float, track: int
) -> tuple[int, int]:
    """A window that begins between two times and lies within the track, or as near to them as it can."""
    if not 0 < seconds < math.inf or earliest > latest:
        raise ValueError(f"a window of {seconds} s from {earliest} s to {latest} s cannot be")
    count = min(max(round(seconds * SAMPLE_RATE), 1), track)
    low, high = (min(max(round(time * SAMPLE_RATE), 0), track - count) for time in (earliest, latest))
    return int(generator.integers(low, high + 1)), count
