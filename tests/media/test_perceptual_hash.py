import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kinetics_sounds.media import perceptual_hash
from kinetics_sounds.media.encode import SAMPLE_RATE
from kinetics_sounds.media.perceptual_hash import MOMENTS, SIDE, grid_seconds, loudness_db, picture_bits, sound_bits


def times(count: int, *, fps: float, begin: float = 0.0) -> np.ndarray:
    """Start and end of each frame."""
    starts = begin + np.arange(count) / fps
    return np.stack([starts, starts + 1 / fps], axis=1)


def halves(left: int, right: int) -> np.ndarray:
    picture = np.full((SIDE, SIDE), left, dtype=np.uint8)
    picture[:, SIDE // 2 :] = right
    return picture


def tune(seconds: float, *, amplitude: float = 3000, seed: int = 0) -> np.ndarray:
    """Three tones at a time, others every 0.3 s."""
    rng = np.random.default_rng(seed)
    pitches = rng.uniform(200, 4000, (int(seconds / 0.3) + 1, 3)).repeat(round(0.3 * SAMPLE_RATE), axis=0)
    phases = 2 * np.pi * np.cumsum(pitches[: round(seconds * SAMPLE_RATE)] / SAMPLE_RATE, axis=0)
    waveform: np.ndarray = (amplitude * np.sin(phases).sum(axis=1)).astype(np.int16)
    return waveform


# --- Grid -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "grid"),
    [(10, 10), (9.6, 10), (10.9, 10), (5.6, 10), (5.4, 5), (11.1, 20), (30, 40), (600, 640), (0.04, 0.625), (0, 0.625)],
)
def test_the_grid_has_the_length_of_a_clip_or_that_halved_or_doubled(seconds: float, grid: float) -> None:
    assert grid_seconds(seconds) == grid


@given(st.floats(0, 600))
def test_the_grid_covers_a_clip_but_for_a_tenth_and_is_not_much_longer(seconds: float) -> None:
    grid = grid_seconds(seconds)

    assert seconds <= 1.1 * grid * (1 + 1e-9)
    assert grid == 0.625 or seconds >= 0.55 * grid * (1 - 1e-9)


# --- Picture --------------------------------------------------------------------------------------------------------


def test_a_bright_left_half_is_one_kind_of_pattern_in_each_moment_and_no_change() -> None:
    """Against the columns' cosines (of 1, 2, 3 … half waves) a step from bright to dark is + 0 - 0 + …; rows have none."""
    bits = picture_bits(times(100, fps=10), np.tile(halves(200, 50), (100, 1, 1)))
    other = picture_bits(times(100, fps=10), np.tile(halves(50, 200), (100, 1, 1)))

    assert bits[:MOMENTS].sum() == 2 * MOMENTS  # half waves 1 and 5; 3 and 7 are negative
    assert other[:MOMENTS].sum() == 2 * MOMENTS
    assert not (bits & other).any()
    assert not bits[MOMENTS:].any()


def test_a_picture_that_turns_over_halfway_changes_once() -> None:
    """The middle one of nine moments sees half of both, so both steps are changes."""
    pictures = np.stack([halves(200, 50)] * 50 + [halves(50, 200)] * 50)

    changes = picture_bits(times(100, fps=10), pictures)[MOMENTS:]

    assert changes.sum(axis=1).tolist() == [0, 0, 0, 2, 2, 0, 0, 0]


@pytest.mark.parametrize("grey", [0, 16, 128, 255])
def test_a_picture_of_one_grey_has_no_bits_however_bright(grey: int) -> None:
    assert not picture_bits(times(100, fps=10), np.full((100, SIDE, SIDE), grey, np.uint8)).any()


def test_another_frame_rate_and_another_order_of_the_frames_change_nothing() -> None:
    pictures = np.random.default_rng(1).integers(0, 255, (100, SIDE, SIDE), dtype=np.uint8)
    bits = picture_bits(times(100, fps=10), pictures)
    order = np.random.default_rng(2).permutation(100)

    assert np.array_equal(picture_bits(times(200, fps=20), pictures.repeat(2, axis=0)), bits)
    assert np.array_equal(picture_bits(times(100, fps=10)[order], pictures[order]), bits)
    assert np.array_equal(picture_bits(times(100, fps=10, begin=0.5), pictures), bits)


def test_one_frame_is_looked_at_once() -> None:
    bits = picture_bits(times(1, fps=25), halves(200, 50)[None])

    assert bits[0].sum() == 2
    assert bits.sum() == 2


def test_a_clip_that_ends_early_has_no_pattern_and_no_change_after_it() -> None:
    bits = picture_bits(times(60, fps=10), np.tile(halves(200, 50), (60, 1, 1)))

    assert bits[:MOMENTS].sum(axis=1).tolist() == [2] * 6 + [0] * 3
    assert not bits[MOMENTS:].any()


# --- Sound ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "waveform",
    [
        np.zeros(10 * SAMPLE_RATE, np.int16),
        np.zeros(0, np.int16),
        tune(10, amplitude=10),  # -69 dB
        tune(0.9),
    ],
)
def test_what_cannot_be_heard_has_no_bits(waveform: np.ndarray) -> None:
    assert not sound_bits(waveform, 10).any()


def test_a_steady_tone_has_hardly_a_bit_and_a_sound_that_changes_has_many() -> None:
    tone = (8000 * np.sin(2 * np.pi * 1000 * np.arange(10 * SAMPLE_RATE) / SAMPLE_RATE)).astype(np.int16)

    assert sound_bits(tone, 10).sum() < 24
    assert sound_bits(tune(10), 10).sum() > 60


def test_loudness_changes_no_bit_and_half_a_second_of_delay_most_of_them() -> None:
    loud, soft = tune(10), tune(10, amplitude=300)
    bits, softer = sound_bits(loud, 10), sound_bits(soft, 10)
    late = sound_bits(np.concatenate([np.zeros(SAMPLE_RATE // 2, np.int16), loud])[: len(loud)], 10)

    assert (bits ^ softer).sum() < 0.05 * bits.sum()
    assert (bits ^ late).sum() > 0.7 * (bits | late).sum()


def test_what_comes_after_the_picture_and_how_long_the_sound_is_matter_little() -> None:
    sound = tune(10)
    bits = sound_bits(sound, 10)

    assert np.array_equal(sound_bits(np.concatenate([sound, tune(3, seed=5)]), 10), bits)
    short = sound_bits(sound[: 6 * SAMPLE_RATE], 10)
    assert np.array_equal(short[:12], bits[:12])
    assert not short[16:].any()


def test_loudness_is_that_of_a_full_scale_square_wave_at_0_db() -> None:
    assert loudness_db(np.full(100, -(2**15), np.int16)) == 0
    assert loudness_db(np.full(100, 2**14, np.int16)) == pytest.approx(-6.02, abs=0.01)
    assert loudness_db(np.zeros(100, np.int16)) == loudness_db(np.zeros(0, np.int16)) == -200


def test_no_shape_of_sound_breaks_it() -> None:
    for count in (1, SAMPLE_RATE, SAMPLE_RATE + 1, perceptual_hash.HOP * 100, 11 * SAMPLE_RATE):
        for seconds in (0.04, 1.0, 9.99, 600.0):
            assert sound_bits(tune(12)[:count], seconds).shape == (24, 16)
