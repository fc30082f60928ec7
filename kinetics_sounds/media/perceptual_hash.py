"""Perceptual hashes of picture and audio, which re-encoding hardly changes (compared by `likeness`).

A bit is 1 if something is present: a pattern in the picture, a change of that pattern, a change in the audio. Black pictures,
still pictures (for changes) and silence give zeros. Everything is sampled on a grid of seconds, not of frames.
"""

import math

import numpy as np

from .encode import SAMPLE_RATE
from .messages import SILENCE_DB

GRID_SECONDS = 10.0
"""Duration of most sets' clips (`grid_seconds`)."""
SIDE = 32
"""Side of the picture that is hashed, in pixels, whatever its aspect ratio."""
MOMENTS = 9
"""Number of evenly spaced moments at which the picture is sampled."""
MOMENT_SHARE = 0.8
"""Fraction of the time between two moments over which the picture is averaged, so that the frame rate does not matter."""
PATTERNS = 32
"""Number of lowest cosine transform coefficients of each picture and each change, one bit each."""
LEAST_PATTERN = 16.0
"""Threshold of a coefficient: half a grey level, RMS over the picture. Weaker ones are created and removed by codecs."""
COLUMNS, BANDS = 25, 17
"""Size of the audio's spectrogram; a bit compares two neighbouring columns and two bands."""
COLUMN_SHARE = 3.0
"""Length of a column relative to the distance of two: they overlap, so that a small delay changes little."""
BAND_HZ = (200.0, 4000.0)
"""Frequency range kept by all codecs and sample rates."""
WINDOW, HOP = 2048, 512
"""FFT window and hop in samples at 24 kHz."""
FLOOR_DB = -50.0
"""Dynamic range below the loudest column and band."""
SILENT_DB = -60.0
"""Loudness in dBFS below which audio counts as silent: codecs turn digital silence into soft noise and back."""
LEAST_CHANGE_DB = 1.0
"""Minimum change between two columns and bands, in decibels, for a bit to be set."""
LEAST_SOUND_SECONDS = 1.0
"""Minimum duration of audio for a hash."""


def loudness_db(waveform: np.ndarray) -> float:
    """RMS level of 16-bit samples in dBFS; at least `SILENCE_DB`."""
    power = float(np.square(waveform, dtype=np.float64).mean()) if waveform.size else 0.0
    return max(10 * math.log10(power / 2**30), SILENCE_DB) if power else SILENCE_DB


def picture_bits(times: np.ndarray, pictures: np.ndarray) -> np.ndarray:
    """Bits of a picture hash, from each frame's start and end in seconds and its grey levels (T, `SIDE`, `SIDE`).

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
    """Length of the sampling grid for a clip of this duration: 10 s, or that doubled or halved.

    The clip may be a tenth longer. So a clip whose last frames are missing, or that another frame rate makes longer, is sampled
    at the same moments; only near 1.1 times such a length (11 s, 5.5 s) may two versions use different grids.
    """
    doublings = math.ceil(math.log2(max(seconds, 1e-3) / (1.1 * GRID_SECONDS)))
    return GRID_SECONDS * 2.0 ** max(doublings, -4)


def _patterns(looks_MSS: np.ndarray) -> np.ndarray:
    """Strength of the lowest coefficients of pictures, without the mean: shape (M, `PATTERNS`)."""
    places = np.arange(SIDE)
    basis_KS = np.cos(np.pi * places[:, None] * (2 * places + 1) / (2 * SIDE)) * math.sqrt(2 / SIDE)
    basis_KS[0] /= math.sqrt(2)
    strength_MKK = basis_KS @ looks_MSS @ basis_KS.T
    coarse = sorted((row + column, row, column) for row in range(8) for column in range(8))[1 : PATTERNS + 1]
    chosen_MP: np.ndarray = strength_MKK[:, [row for _, row, _ in coarse], [column for _, _, column in coarse]]
    return chosen_MP


def sound_bits(waveform: np.ndarray, seconds: float) -> np.ndarray:
    """Bits of an audio hash, from 16-bit samples at 24 kHz in a clip of this duration.

    After Haitsma and Kalker (2002, "A Highly Robust Audio Fingerprinting System"): whether the difference of neighbouring bands
    rises from one column to the next, here over the columns of a fixed grid.
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
    """Energy per band and window: shape (T, `BANDS`)."""
    padded = np.pad(heard.astype(np.float32) / 2**15, WINDOW // 2)
    windows = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[::HOP]
    edges = np.round(np.geomspace(*BAND_HZ, BANDS + 1) * WINDOW / SAMPLE_RATE).astype(int)
    hann = np.hanning(WINDOW).astype(np.float32)
    energy = []
    for first in range(0, len(windows), HOP):  # some at a time, for memory
        spectrum = np.fft.rfft(windows[first : first + HOP] * hann, axis=1)[:, : edges[-1]]
        energy.append(np.add.reduceat(spectrum.real**2 + spectrum.imag**2, edges[:-1], axis=1))
    return np.concatenate(energy)
