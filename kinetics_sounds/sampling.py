"""Choose the stored frames of a view and the matching audio window: index arithmetic only, nothing is read here.

A view takes `frames` frames, `step` stored frames apart: 1 takes consecutive ones; `step_of` computes it for a requested rate. A
start is the index of a stored frame. Times are in seconds from the beginning of the clip.
"""

import math

import numpy as np

SAMPLE_RATE = 24_000
"""Sample rate of the stored audio in hertz."""
GOP = 16
"""Stored frames per closed group of pictures: a view that begins with one decodes no other frames."""
SAME_RATE = 1 / 500
"""Tolerance for treating one rate as a multiple of another: 29.97 and 30 differ by half of it."""
_ROUNDING = 1e-6
"""Rounding tolerance for products of rates, in stored frames."""


def step_of(fps: float, rate: float) -> float:
    """Stored frames between consecutive frames of a view, for `rate` frames per second of a clip stored at `fps`.

    Rounded to an integer if the rates are nearly multiples, so that no frame of 29.97 fps is taken twice to make 30. Raises
    ValueError unless both rates are positive.
    """
    if not (0 < fps < math.inf and 0 < rate < math.inf):
        raise ValueError(f"rates must be positive, not fps {fps} and rate {rate}")
    step = fps / rate
    whole = round(step)
    return float(whole) if abs(step - whole) <= step * SAME_RATE else step


def last_start(length: int, frames: int, *, step: float = 1) -> int:
    """Last start at which a view fits into a clip of `length` stored frames; 0 if none does.

    Raises ValueError if there are no frames to take.
    """
    if length < 1 or frames < 1 or not 0 < step < math.inf:
        raise ValueError(f"{frames} frames with step {step} were requested from a clip of {length}")
    return max(length - max(math.ceil(frames * step - _ROUNDING), 1), 0)


def frame_indices(start: int, frames: int, *, length: int, step: float = 1) -> list[int]:
    """Indices of the stored frames of a view: at each moment the frame shown then. A short clip is repeated."""
    return [(start + math.floor(place * step + _ROUNDING)) % length for place in range(frames)]


def random_start(length: int, frames: int, generator: np.random.Generator, *, step: float = 1) -> int:
    """Uniformly random start among those at which the view fits; a single random draw."""
    return int(generator.integers(last_start(length, frames, step=step) + 1))


def gop_aligned_start(length: int, frames: int, generator: np.random.Generator, *, step: float = 1) -> int:
    """Uniformly random start among those that begin a GOP and at which the view fits; a single random draw."""
    return GOP * int(generator.integers(last_start(length, frames, step=step) // GOP + 1))


def uniform_starts(length: int, frames: int, clips: int, *, step: float = 1) -> list[int]:
    """`clips` evenly spaced starts, including the first and the last that fit; a single one is in the middle.

    Raises ValueError for `clips` below 1.
    """
    if clips < 1:
        raise ValueError(f"clips must be at least 1, not {clips}")
    last = last_start(length, frames, step=step)
    return [last * place // (clips - 1) for place in range(clips)] if clips > 1 else [last // 2]


def start_at(seconds: float, length: int, frames: int, *, fps: float, step: float = 1) -> int:
    """The frame shown at a time, or the nearest start at which the view fits."""
    return min(max(math.floor(seconds * fps + _ROUNDING), 0), last_start(length, frames, step=step))


def start_within(
    begin: float, end: float, length: int, frames: int, generator: np.random.Generator, *, fps: float, step: float = 1
) -> int:
    """Uniformly random start such that the view lies between two times in seconds; a single random draw.

    The view also stays within the clip. If it is longer than the interval, it is centred on it.
    """
    last = last_start(length, frames, step=step)
    low, high = math.ceil(begin * fps - _ROUNDING), math.floor(end * fps - frames * step + _ROUNDING)
    if high < low:
        low = high = (low + high) // 2
    low, high = (min(max(each, 0), last) for each in (low, high))
    return int(generator.integers(low, high + 1))


def span(start: int, frames: int, *, fps: float, step: float = 1) -> tuple[float, float]:
    """Begin and end of a view in seconds, `frames` x `step` stored frames apart."""
    return start / fps, (start + frames * step) / fps


def centred_window(
    begin: float, end: float, generator: np.random.Generator, *, seconds: float, jitter: float, track: int
) -> tuple[int, int]:
    """First sample and sample count of a window of `seconds` whose centre is at most `jitter` seconds off the span's.

    Uniform over all positions within a track of `track` samples; jitter 0 is for evaluation. At an edge, the nearest window
    within the track is used; a track shorter than the window is returned whole. A single random draw.
    """
    middle = (begin + end - seconds) / 2
    return _window(middle - jitter, middle + jitter, generator, seconds=seconds, track=track)


def covering_window(
    begin: float, end: float, generator: np.random.Generator, *, seconds: float, track: int
) -> tuple[int, int]:
    """First sample and sample count of a window of `seconds` that contains the span, at a uniformly random position.

    If the span is longer, the window lies anywhere within it: the span of a whole clip gives a random window. A track of `track`
    samples that is shorter than the window is returned whole. A single random draw.
    """
    places = (end - seconds, begin)
    return _window(min(places), max(places), generator, seconds=seconds, track=track)


def _window(
    earliest: float, latest: float, generator: np.random.Generator, *, seconds: float, track: int
) -> tuple[int, int]:
    """A window that begins between two times and lies within the track, or as close to them as possible."""
    if not 0 < seconds < math.inf or earliest > latest:
        raise ValueError(f"a window of {seconds} s from {earliest} s to {latest} s is invalid")
    count = min(max(round(seconds * SAMPLE_RATE), 1), track)
    low, high = (min(max(round(time * SAMPLE_RATE), 0), track - count) for time in (earliest, latest))
    return int(generator.integers(low, high + 1)), count
