"""Bits of what a picture shows and of how a sound changes, which a new encoding hardly flips (`likeness` compares them).

A bit is 1 where something is there: a pattern in the picture, a change of that pattern, a change in the sound. A black picture
has zeros, as have a still one (for change) and silence. Everything is looked at on a grid of seconds, not of frames.
"""

import math

import numpy as np

from .encode import SAMPLE_RATE
from .messages import SILENCE_DB

GRID_SECONDS = 10.0
"""Length of most sets' clips (`grid_seconds`)."""
SIDE = 32
"""Pixels of the picture that is hashed, whatever its aspect."""
MOMENTS = 9
"""Evenly spaced, at which the picture is looked at."""
MOMENT_SHARE = 0.8
"""Of the time between two moments, over which the picture is averaged: another frame rate has other frames."""
PATTERNS = 32
"""Coarsest patterns (of the cosine transform) of each picture and of each change of it, a bit each."""
LEAST_PATTERN = 16.0
"""Strength from which a pattern is there: half a grey level, RMS over the picture. Below, codecs invent and remove it."""
COLUMNS, BANDS = 25, 17
"""Of the sound's spectrogram; a bit tells of two neighbouring columns and two bands."""
COLUMN_SHARE = 3.0
"""Length of a column over the distance of two: they overlap, so that a little delay changes little."""
BAND_HZ = (200.0, 4000.0)
"""What all codecs and sample rates keep."""
WINDOW, HOP = 2048, 512
"""Samples at 24 kHz."""
FLOOR_DB = -50.0
"""Under the loudest column and band: what is softer is not told apart."""
SILENT_DB = -60.0
"""Loudness below which there is nothing to hear: codecs turn digital silence into soft noise and back."""
LEAST_CHANGE_DB = 1.0
"""From which the sound's change between two columns and bands counts."""
LEAST_SOUND_SECONDS = 1.0
"""A shorter sound has no spectrogram worth a hash."""


def loudness_db(waveform: np.ndarray) -> float:
    """RMS of 16-bit samples in decibels under full scale; `SILENCE_DB` at the least."""
    power = float(np.square(waveform, dtype=np.float64).mean()) if waveform.size else 0.0
    return max(10 * math.log10(power / 2**30), SILENCE_DB) if power else SILENCE_DB


def picture_bits(times: np.ndarray, pictures: np.ndarray) -> np.ndarray:
    """The bits of a picture hash, from each frame's start and end in seconds and its grey levels (T, `SIDE`, `SIDE`).

    First the patterns of each moment's picture, then those of the change from each moment to the next.
    """
    order = np.argsort(times[:, 0], kind="stable")
    starts = times[order, 0]
    begin, end = float(starts[0]), max(float(times.max()), float(starts[-1]) + 1e-3)
    ends = np.append(starts[1:], end)
    step = grid_seconds(end - begin) / MOMENTS
    looks_MSS = np.zeros((MOMENTS, SIDE, SIDE))
    there = np.zeros(MOMENTS, dtype=bool)
    for moment in range(MOMENTS):
        first = begin + (moment + (1 - MOMENT_SHARE) / 2) * step
        shares = np.clip(np.minimum(ends, first + MOMENT_SHARE * step) - np.maximum(starts, first), 0, None)
        shown = np.flatnonzero(shares)
        there[moment] = shown.size > 0
        if shown.size:
            weights = shares[shown] / shares.sum()
            looks_MSS[moment] = np.tensordot(weights, pictures[order[shown]].astype(np.float64), 1)
    patterns_MP = _patterns(looks_MSS)
    changes_MP = np.diff(patterns_MP, axis=0) * (there[1:] & there[:-1])[:, None]
    return np.concatenate([patterns_MP, changes_MP]) > LEAST_PATTERN


def grid_seconds(seconds: float) -> float:
    """Length of the grid on which a clip of so many seconds is looked at: 10, or that doubled or halved.

    A tenth more may be left over. So a clip whose last frames are cut off, or that another frame rate makes longer, is
    looked at in the same moments; only near 1.1 times such a length (11 s, 5.5 s) may it be taken for another.
    """
    doublings = math.ceil(math.log2(max(seconds, 1e-3) / (1.1 * GRID_SECONDS)))
    return GRID_SECONDS * 2.0 ** max(doublings, -4)


def _patterns(looks_MSS: np.ndarray) -> np.ndarray:
    """How strong the coarsest patterns of pictures are, but for their brightness: shape (M, `PATTERNS`)."""
    places = np.arange(SIDE)
    basis_KS = np.cos(np.pi * places[:, None] * (2 * places + 1) / (2 * SIDE)) * math.sqrt(2 / SIDE)
    basis_KS[0] /= math.sqrt(2)
    strength_MKK = basis_KS @ looks_MSS @ basis_KS.T
    coarse = sorted((row + column, row, column) for row in range(8) for column in range(8))[1 : PATTERNS + 1]
    chosen_MP: np.ndarray = strength_MKK[:, [row for _, row, _ in coarse], [column for _, _, column in coarse]]
    return chosen_MP


def sound_bits(waveform: np.ndarray, seconds: float) -> np.ndarray:
    """The bits of a sound hash, of 16-bit samples at 24 kHz in a clip of so many seconds.

    As Haitsma and Kalker's: whether a band rises against its neighbour from one column to the next (2002, "A Highly Robust
    Audio Fingerprinting System"), here over the columns of a fixed grid.
    """
    grid = grid_seconds(seconds)
    heard = waveform[: round(grid * SAMPLE_RATE)]
    if heard.size < LEAST_SOUND_SECONDS * SAMPLE_RATE or loudness_db(heard) < SILENT_DB:
        return np.zeros((COLUMNS - 1, BANDS - 1), dtype=bool)
    energy_TB = _energy(heard)
    total_TB = np.concatenate([np.zeros((1, BANDS)), np.cumsum(energy_TB, axis=0)])
    step = grid * SAMPLE_RATE / HOP / COLUMNS
    centres = (np.arange(COLUMNS) + 0.5) * step
    first, last = (np.clip(centres + side * COLUMN_SHARE / 2 * step, 0, len(energy_TB)) for side in (-1, 1))
    begun, done = (
        np.stack([np.interp(at, np.arange(len(total_TB)), band) for band in total_TB.T], axis=1) for at in (first, last)
    )
    mean_CB = (done - begun) / np.maximum(last - first, 1)[:, None]
    level_CB = 10 * np.log10(mean_CB + mean_CB.max() * 10 ** (FLOOR_DB / 10))
    there = last - first > COLUMN_SHARE / 4 * step
    rises_CB = np.diff(np.diff(level_CB, axis=1), axis=0) * (there[1:] & there[:-1])[:, None]
    bits: np.ndarray = rises_CB > LEAST_CHANGE_DB
    return bits


def _energy(heard: np.ndarray) -> np.ndarray:
    """Energy in each band of each window: shape (T, `BANDS`)."""
    padded = np.pad(heard.astype(np.float32) / 2**15, WINDOW // 2)
    windows = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[::HOP]
    edges = np.round(np.geomspace(*BAND_HZ, BANDS + 1) * WINDOW / SAMPLE_RATE).astype(int)
    hann = np.hanning(WINDOW).astype(np.float32)
    energy = []
    for first in range(0, len(windows), HOP):  # some at a time, for memory
        spectrum = np.fft.rfft(windows[first : first + HOP] * hann, axis=1)[:, : edges[-1]]
        energy.append(np.add.reduceat(spectrum.real**2 + spectrum.imag**2, edges[:-1], axis=1))
    return np.concatenate(energy)
