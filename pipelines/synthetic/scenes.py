"""Small synthetic audio-visual dataset whose six classes differ only in their dynamics.

A class is a motion of the picture and a temporal pattern of the sound, both at the clip's own tempo. Everything else is random
and independent of the class: colours, texture, direction, pitch, loudness and noise. Each picture starts from a random pose that
its motion leaves equally random, so single frames have the same distribution in every class. Each sound is at any moment a single
tone, of equal power before its loudness is drawn; the four classes with moving pitch cover the same pitches for the same time, so
even the average spectrum only shows whether the pitch moves.

Array names end in their axes: T frames, H rows, W columns, P = H·W pixels, N samples.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating]

_TEMPO, _PICTURE, _SOUND = range(3)
"""Independent random streams of a clip: drawing more from one does not change the others."""

_LUMA = np.array([0.299, 0.587, 0.114])


@dataclass(frozen=True, slots=True, kw_only=True)
class SceneSettings:
    """Size and length of a rendered clip."""

    side_pixels: int = 36
    """Height and width in pixels; even, as H.264 4:2:0 requires, with room for random crops of 32."""
    frames_per_second: int = 10
    seconds: float = 4.0
    sample_rate_hz: int = 24_000


class _Kind(NamedTuple):
    """One class: speed of each part of the pose, and temporal pattern of the sound."""

    name: str
    swing: Callable[[Floats, np.random.Generator], Floats]
    """Relative pitch as a function of beats [shape=(N,)], from -1 to 1."""
    sideways: float = 0
    """Pixels per step; there are ten steps per second at tempo 1."""
    upward: float = 0
    turn: float = 0
    """Radians per step."""
    zoom: float = 0
    """Radians per step of the sine that sets the zoom."""
    jumps: float = 0
    """Jumps to a random position per step."""
    gated: bool = False
    """Whether the sound is off for half of each beat."""


def _steady(beat_N: Floats, _: np.random.Generator) -> Floats:
    return np.zeros_like(beat_N)


def _rising(beat_N: Floats, _: np.random.Generator) -> Floats:
    return 2 * (beat_N % 1) - 1


def _falling(beat_N: Floats, _: np.random.Generator) -> Floats:
    return 1 - 2 * (beat_N % 1)


def _wavering(beat_N: Floats, _: np.random.Generator) -> Floats:
    return np.asarray(4 * np.abs(beat_N % 1 - 0.5) - 1)


def _hopping(beat_N: Floats, rng: np.random.Generator) -> Floats:
    return np.asarray(rng.uniform(-1, 1, int(beat_N[-1]) + 1)[beat_N.astype(int)])


_KINDS = (
    _Kind("drifting sideways", _wavering, sideways=2),
    _Kind("drifting up and down", _steady, upward=1, gated=True),
    _Kind("turning", _rising, turn=0.16),
    _Kind("swelling and shrinking", _falling, zoom=0.9),
    _Kind("jumping about", _hopping, jumps=0.8),
    _Kind("standing still", _steady),
)

CLASSES: tuple[str, ...] = tuple(kind.name for kind in _KINDS)


def tempo(class_index: int, seed: int) -> float:
    """Tempo of the clip, from 0.5 to 1: ten motion steps and four sound beats per second at tempo 1."""
    return float(_rng(class_index, seed, _TEMPO).uniform(0.5, 1))


def render(
    class_index: int, seed: int, settings: SceneSettings
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32]]:
    """Frames [shape=(T, H, W, 3)] and waveform [shape=(N,)] within ±1 of one clip, a function of the arguments."""
    kind, pace = _KINDS[class_index], tempo(class_index, seed)
    second_T = np.arange(round(settings.seconds * settings.frames_per_second)) / settings.frames_per_second
    second_N = np.arange(round(settings.seconds * settings.sample_rate_hz)) / settings.sample_rate_hz
    frame_THWC = _picture(kind, 10 * pace * second_T, settings.side_pixels, rng=_rng(class_index, seed, _PICTURE))
    wave_N = _sound(kind, 4 * pace * second_N, settings.sample_rate_hz, rng=_rng(class_index, seed, _SOUND))
    return frame_THWC, wave_N


def _rng(class_index: int, seed: int, stream: int) -> np.random.Generator:
    return np.random.default_rng([seed, class_index, stream])


def _picture(kind: _Kind, step_T: Floats, side: int, *, rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    """A texture on a torus seen through a moving, rotating, zooming window; positions are complex numbers x + iy."""
    torus = 3 * side  # wider than the window's diagonal at the widest zoom, so nothing is seen twice
    step_T = rng.choice([-1, 1]) * step_T
    drift_T = (kind.sideways + 1j * kind.upward) * step_T
    lens_T = np.exp(0.45 * np.sin(rng.uniform(0, 2 * np.pi) + kind.zoom * step_T))
    lens_T = lens_T * np.exp(1j * (rng.uniform(0, 2 * np.pi) + kind.turn * step_T))
    stay_T = (kind.jumps * np.abs(step_T) + rng.uniform()).astype(int)
    origin_T = (rng.uniform(0, torus, (stay_T[-1] + 1, 2)) @ [1, 1j])[stay_T]

    x = np.arange(side) - (side - 1) / 2
    window_P = (x + 1j * x[:, None]).ravel()
    place_TP = origin_T[:, None] + lens_T[:, None] * (window_P + drift_T[:, None])
    blend_THW1 = _bilinear(_texture(torus, rng), place_TP).reshape(-1, side, side, 1)

    valley, peak = _colours(rng)
    noise_THWC = rng.standard_normal((*blend_THW1.shape[:3], 3), dtype=np.float32)
    return np.asarray(np.clip(valley + (peak - valley) * blend_THW1 + 3 * noise_THWC, 0, 255), np.uint8)


def _texture(side: int, rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """Random blobs, from 0 to 1 [shape=(side, side)], periodic at the edges."""
    frequency = np.fft.fftfreq(side)
    blur = np.exp(-2 * (np.pi * rng.uniform(1.2, 2.5)) ** 2 * (frequency[:, None] ** 2 + frequency**2))
    field = np.fft.ifft2(np.fft.fft2(rng.standard_normal((side, side))) * blur).real
    return np.asarray(1 / (1 + np.exp(-2 * (field - field.mean()) / field.std())), np.float32)


def _colours(rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """Two random colours [shape=(2, 3)] in 0 to 255, different in brightness: 4:2:0 video reduces chroma resolution."""
    while True:
        pair = rng.uniform(0, 255, (2, 3))
        if np.abs((pair[0] - pair[1]) @ _LUMA) > 64:
            return pair.astype(np.float32)


def _bilinear(torus_HW: npt.NDArray[np.float32], place_TP: npt.NDArray[np.complexfloating]) -> Floats:
    """Bilinear interpolation of the torus at positions x + iy [shape=(T, P)]."""
    side = len(torus_HW)
    wrapped = np.pad(torus_HW, (0, 1), mode="wrap").ravel()
    column, row = np.floor(place_TP.real), np.floor(place_TP.imag)
    right, down = (place_TP.real - column).astype(np.float32), (place_TP.imag - row).astype(np.float32)
    corner = (row.astype(np.int32) % side) * (side + 1) + column.astype(np.int32) % side
    upper = wrapped[corner] * (1 - right) + wrapped[corner + 1] * right
    lower = wrapped[corner + side + 1] * (1 - right) + wrapped[corner + side + 2] * right
    return np.asarray(upper * (1 - down) + lower * down)


def _sound(kind: _Kind, beat_N: Floats, rate_hz: int, *, rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """A tone whose pitch swings by up to three quarters of an octave either way, optionally pulsed."""
    beat_N = beat_N + rng.uniform()
    base_hz = 250 * 10 ** rng.uniform()
    hertz_N = base_hz * np.exp2(0.75 * kind.swing(beat_N, rng))
    tone_N = np.sin(2 * np.pi * np.cumsum(hertz_N / rate_hz))
    if kind.gated:
        tone_N *= np.clip(0.5 + 8 * np.sin(2 * np.pi * beat_N), 0, 1)  # edges of some 10 ms, so that nothing clicks
    tone_N /= np.sqrt(np.mean(tone_N**2))
    noise_N = 10 ** (rng.uniform(-50, -20) / 20) * rng.standard_normal(len(beat_N), dtype=np.float32)
    loudness = 0.25 * 10 ** (rng.uniform(-30, 0) / 20)
    return np.asarray(loudness * (tone_N + noise_N), np.float32)
