"""Log spectrograms against librosa's, and against what can be said of tones by hand."""

import dataclasses
import itertools
from collections.abc import Callable
from typing import Any

import librosa
import numpy as np
import pytest
import scipy.signal
import soxr
import torch
from hypothesis import given
from hypothesis import strategies as st

from kinetics_sounds.media.resample import resampled
from kinetics_sounds.media.spectrogram import Spectrogram, covering_starts, hann, in_silence, log_spectrogram

RATE = 24_000
MAIN = Spectrogram()
SMALL = Spectrogram(n_fft=512, hop_seconds=0.02)


def noise(samples: int, *, amplitude: float = 0.1, seed: int = 0) -> np.ndarray:
    return (amplitude * np.random.default_rng(seed).standard_normal(samples)).astype(np.float32)


def tone(hertz: float, samples: int, *, amplitude: float = 0.5, rate: int = RATE) -> np.ndarray:
    return (amplitude * np.sin(2 * np.pi * hertz * np.arange(samples) / rate)).astype(np.float32)


def oracle(waveform: np.ndarray, numbers: Spectrogram) -> np.ndarray:
    """As AVID's code has it, in float64: librosa's functions, written out with torch's short-time Fourier transform."""
    spectrum_KT = torch.stft(
        torch.from_numpy(waveform.astype(np.float64)),
        numbers.n_fft,
        numbers.hop,
        window=torch.hann_window(numbers.n_fft, dtype=torch.float64),
        pad_mode="reflect",
        return_complex=True,
    )
    power_FT = pooled(spectrum_KT.abs().square().numpy(), numbers)
    decibels_FT = 10 * np.log10(np.maximum(power_FT, 1e-10))
    return np.asarray(np.maximum(decibels_FT, decibels_FT.max() - 100).T)


def librosas_own(waveform: np.ndarray, numbers: Spectrogram) -> np.ndarray:
    """The same by librosa itself."""
    spectrum_KT = librosa.stft(
        waveform.astype(np.float64), n_fft=numbers.n_fft, hop_length=numbers.hop, window="hann", pad_mode="reflect"
    )
    power_FT = pooled(np.abs(spectrum_KT) ** 2, numbers)
    decibels_FT: np.ndarray = librosa.power_to_db(power_FT, ref=1.0, amin=1e-10, top_db=100)
    return decibels_FT.T


def pooled(power_KT: np.ndarray, numbers: Spectrogram) -> np.ndarray:
    """Frequency 0 alone, then the mean of each pair."""
    pairs_FT = (power_KT[1::2] + power_KT[2::2]) / 2
    return np.concatenate([power_KT[:1], pairs_FT])[:, : numbers.columns]


# --- The image ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("numbers", "shape"), [(MAIN, (200, 257)), (SMALL, (100, 129))])
def test_the_papers_shapes(numbers: Spectrogram, shape: tuple[int, int]) -> None:
    image_TF = log_spectrogram(noise(2 * RATE), numbers)

    assert (numbers.columns, numbers.bins) == image_TF.shape == shape
    assert image_TF.dtype == np.float32


@pytest.mark.parametrize("numbers", [MAIN, SMALL, Spectrogram(window_seconds=0.5, n_fft=256, hop_seconds=0.005)])
@pytest.mark.parametrize("amplitude", [0.5, 1e-3])
@pytest.mark.parametrize(
    "told",
    [oracle, pytest.param(librosas_own, marks=pytest.mark.slow_campaign)],  # which it compiles first, for half a minute
)
def test_it_is_librosas(
    told: Callable[[np.ndarray, Spectrogram], np.ndarray], numbers: Spectrogram, amplitude: float
) -> None:
    waveform = noise(numbers.samples, amplitude=amplitude) + tone(880, numbers.samples, amplitude=amplitude)

    np.testing.assert_allclose(log_spectrogram(waveform, numbers), told(waveform, numbers), atol=0.02)


def test_a_window_of_silence_and_a_click_reaches_100_decibels_down() -> None:
    click = np.zeros(2 * RATE, dtype=np.float32)
    click[RATE] = 1

    image_TF = log_spectrogram(click, MAIN)

    np.testing.assert_allclose(image_TF, oracle(click, MAIN), atol=1e-3)
    # 1 s is the middle of column 100, where the window is 1: its power is 1, 0 dB, at every frequency.
    np.testing.assert_allclose(image_TF[100], 0, atol=1e-3)
    assert image_TF.min() == -100
    assert (image_TF[:97] == -100).all()  # windows reach 512 samples, 2.1 columns, to either side


def test_silence_is_at_the_floor() -> None:
    assert (log_spectrogram(np.zeros(2 * RATE, dtype=np.float32), MAIN) == -100).all()


def test_a_tone_lies_in_its_pair_of_frequencies() -> None:
    """3 kHz is frequency 128 of 1024 at 24 kHz; 0 stands alone, so 127 and 128 are the 64th pair."""
    image_TF = log_spectrogram(tone(3000, 2 * RATE), MAIN)

    assert (image_TF[3:-3].argmax(axis=1) == 64).all()  # at the ends the mirrored tone has a jump
    # Amplitude 0.5 under a Hann window of 1024 has magnitude 0.5 / 2 * 512 = 128, and half of it in both neighbours.
    assert image_TF[100, 64] == pytest.approx(10 * np.log10(128**2 * (1 + 0.25) / 2), abs=0.01)


def test_half_the_amplitude_is_6_decibels_less_where_nothing_is_at_the_floor() -> None:
    loud = noise(2 * RATE)

    np.testing.assert_allclose(
        log_spectrogram(loud, MAIN) - log_spectrogram(loud / 2, MAIN), 20 * np.log10(2), atol=1e-3
    )


def test_the_loudest_value_that_counts_is_of_the_window() -> None:
    """A column that begins where the window ends is left out, with its loudness."""
    quiet = np.concatenate([noise(2 * RATE - 600, amplitude=1e-4), noise(600, amplitude=1.0)])
    numbers = dataclasses.replace(MAIN, window_seconds=1.5)

    image_TF = log_spectrogram(quiet[: numbers.samples], numbers)

    assert image_TF.shape == (150, 257)
    np.testing.assert_allclose(image_TF, oracle(quiet[: numbers.samples], numbers), atol=0.02)


@pytest.mark.parametrize("samples", [0, 1, 100, RATE])
def test_a_shorter_sound_has_silence_after_it(samples: int) -> None:
    sound = noise(samples)
    padded = np.concatenate([sound, np.zeros(2 * RATE - samples, dtype=np.float32)])

    assert np.array_equal(log_spectrogram(sound, MAIN), log_spectrogram(padded, MAIN))
    assert np.array_equal(in_silence(sound, 2 * RATE), padded)


def test_of_a_long_enough_sound_nothing_is_changed() -> None:
    sound = noise(10)

    assert in_silence(sound, 10) is sound


@pytest.mark.parametrize(
    ("said", "complaint"),
    [
        ({"n_fft": 1022}, "n_fft 1022 must be a multiple of 4"),
        ({"n_fft": 0}, "n_fft 0 must be"),
        ({"n_fft": 8192}, "up to 4096"),
        ({"hop_seconds": 0.0}, "hop_seconds 0.0 must be more than 0"),
        ({"hop_seconds": float("nan")}, "hop_seconds nan"),
        ({"hop_seconds": 3.0}, "no more than window_seconds 2.0"),
        ({"window_seconds": float("inf")}, "window_seconds inf"),
        ({"window_seconds": 3600.0, "hop_seconds": 1 / RATE}, "larger than any sound"),
    ],
)
def test_numbers_that_make_no_image_are_refused(said: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        Spectrogram(**said)


# --- Windows that cover a track -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("length", "starts"),
    [(0, [0]), (3, [0]), (10, [0]), (11, [0, 1]), (20, [0, 10]), (25, [0, 7, 15]), (30, [0, 10, 20])],
)
def test_windows_of_ten_that_cover_a_track(length: int, starts: list[int]) -> None:
    assert covering_starts(length, 10) == starts


@given(st.integers(1, 10_000), st.integers(1, 500))
def test_windows_leave_no_sample_out(length: int, count: int) -> None:
    starts = covering_starts(length, count)

    assert starts[0] == 0
    assert starts[-1] == max(length - count, 0)
    assert all(0 <= later - earlier <= count for earlier, later in itertools.pairwise(starts))


# --- Another rate ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("hertz", [50, 440, 3000, 7000])
def test_a_tone_stays_the_same_tone_at_another_rate(hertz: float) -> None:
    found = resampled(tone(hertz, RATE), rate=RATE, to=16_000)

    assert len(found) == 16_000
    assert found.dtype == np.float32
    np.testing.assert_allclose(found[200:-200], tone(hertz, 16_000, rate=16_000)[200:-200], atol=1e-5)


@pytest.mark.parametrize("hertz", [8500, 11_000])
def test_what_has_no_place_at_the_lower_rate_is_not_folded(hertz: float) -> None:
    assert np.abs(resampled(tone(hertz, RATE), rate=RATE, to=16_000)[200:-200]).max() < 1e-5


def soxrs(sound: np.ndarray) -> np.ndarray:
    """What librosa calls."""
    found: np.ndarray = soxr.resample(sound, RATE, 16_000, quality="soxr_hq")
    return found


def resampled_by_librosa(sound: np.ndarray) -> np.ndarray:
    found: np.ndarray = librosa.resample(sound, orig_sr=RATE, target_sr=16_000)
    return found


@pytest.mark.parametrize(
    "told",
    [soxrs, pytest.param(resampled_by_librosa, marks=pytest.mark.slow_campaign)],  # compiles too
)
def test_it_is_librosas_and_scipys_but_for_the_edge_of_the_band(told: Callable[[np.ndarray], np.ndarray]) -> None:
    """scipy's filter is of another design: 0.2 % of full scale from ours, below 6 kHz."""
    sound = np.sum([tone(hertz, RATE, amplitude=0.1) for hertz in (100, 900, 2500, 5500)], axis=0)

    found = resampled(sound, rate=RATE, to=16_000)

    np.testing.assert_allclose(found, told(sound), atol=1e-6)
    np.testing.assert_allclose(found[200:-200], scipy.signal.resample_poly(sound, 2, 3)[200:-200], atol=2e-3)


@pytest.mark.parametrize("samples", [0, 1, 2, 3, 1000])
def test_short_sounds_have_their_share_of_samples(samples: int) -> None:
    assert len(resampled(noise(samples), rate=3, to=2)) == -(-samples * 2 // 3)


def test_at_the_same_rate_nothing_changes() -> None:
    sound = noise(100)

    assert np.array_equal(resampled(sound, rate=RATE, to=RATE), sound)


@pytest.mark.parametrize(("rate", "to"), [(0, 16_000), (24_000, 0), (-1, 1)])
def test_rates_must_be_positive(rate: int, to: int) -> None:
    with pytest.raises(ValueError, match="rates must be positive"):
        resampled(noise(10), rate=rate, to=to)


def test_the_window_is_librosas_at_every_length() -> None:
    from librosa.filters import get_window  # a second, which not every worker need wait

    for length in range(2, 4097):
        assert hann(length).tobytes() == get_window("hann", length).astype(np.float32).tobytes()


def test_the_window_of_four_samples() -> None:
    """1/2 - 1/2 cos(2 pi n / 4), a period of which has four samples."""
    np.testing.assert_allclose(hann(4), [0, 0.5, 1, 0.5], atol=1e-7)
