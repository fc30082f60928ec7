"""Log-mel spectrograms against librosa's, and against what can be said of tones by hand."""

import dataclasses
from collections.abc import Callable
from typing import Any

import librosa
import numpy as np
import pytest
import torch

from kinetics_sounds.media.log_mel import LogMel, log_mel
from kinetics_sounds.media.resample import resampled

Oracle = Callable[[np.ndarray, LogMel], np.ndarray]
RATE = 24_000
CRISSCROSS = LogMel()
IICL = LogMel(n_fft=512, frame_seconds=0.025, hop_seconds=0.02, bands=40, epsilon=1e-6)


def noise(samples: int, amplitude: float = 0.1) -> np.ndarray:
    return (amplitude * np.random.default_rng(0).standard_normal(samples)).astype(np.float32)


def tone(hertz: float, samples: int) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * hertz * np.arange(samples) / RATE)).astype(np.float32)


@pytest.mark.parametrize(("numbers", "shape"), [(CRISSCROSS, (80, 201)), (IICL, (40, 101))])
def test_the_papers_shapes(numbers: LogMel, shape: tuple[int, int]) -> None:
    image_FT = log_mel(noise(2 * RATE), numbers)

    assert (numbers.bins, numbers.columns) == image_FT.shape == shape
    assert image_FT.dtype == np.float32


def librosas_own(sound: np.ndarray, numbers: LogMel) -> np.ndarray:
    """Power of the mel bands by librosa, from beginning to end."""
    found: np.ndarray = librosa.feature.melspectrogram(
        y=sound,
        sr=numbers.sample_rate,
        n_fft=numbers.n_fft,
        win_length=round(numbers.frame_seconds * numbers.sample_rate),
        hop_length=numbers.hop,
        n_mels=numbers.bands,
        fmin=0,
        fmax=numbers.sample_rate / 2,
        pad_mode="reflect",
    )
    return found


def torchs(sound: np.ndarray, numbers: LogMel) -> np.ndarray:
    """The same by torch's short-time Fourier transform and librosa's filters."""
    long = round(numbers.frame_seconds * numbers.sample_rate)
    spectrum_KT = torch.stft(
        torch.from_numpy(sound),
        numbers.n_fft,
        hop_length=numbers.hop,
        win_length=long,
        window=torch.hann_window(long),
        pad_mode="reflect",
        return_complex=True,
    )
    from librosa.filters import mel as filters  # two seconds, which not every worker need wait

    filters_FK = filters(
        sr=numbers.sample_rate, n_fft=numbers.n_fft, n_mels=numbers.bands, fmin=0, fmax=numbers.sample_rate / 2
    )
    found: np.ndarray = filters_FK @ spectrum_KT.abs().square().numpy()
    return found


@pytest.mark.parametrize("numbers", [CRISSCROSS, IICL, LogMel(window_seconds=0.3, sample_rate=8000, frame_seconds=0.1)])
@pytest.mark.parametrize("amplitude", [0.5, 1e-4])
@pytest.mark.parametrize(
    "oracle",
    [torchs, pytest.param(librosas_own, marks=pytest.mark.slow_campaign)],  # which it compiles first, for half a minute
)
def test_it_is_librosas_of_the_resampled_sound(oracle: Oracle, numbers: LogMel, amplitude: float) -> None:
    waveform = noise(numbers.samples, amplitude)
    mel_FT = oracle(resampled(waveform, rate=RATE, to=numbers.sample_rate), numbers)

    np.testing.assert_allclose(log_mel(waveform, numbers), np.log(mel_FT + numbers.epsilon), atol=1e-4)


@pytest.mark.parametrize("numbers", [CRISSCROSS, IICL])
def test_a_tone_is_loudest_in_the_band_about_it(numbers: LogMel) -> None:
    """Of bands equally wide in Slaney's mels between 0 and 8 kHz, the nearest centre."""
    centres = librosa.mel_frequencies(numbers.bands + 2, fmin=0, fmax=8000)[1:-1]
    for hertz in (600, 3000):
        loudest = log_mel(tone(hertz, 2 * RATE), numbers).mean(axis=1).argmax()
        assert abs(int(loudest) - int(np.abs(centres - hertz).argmin())) <= 1


def test_what_16_khz_cannot_hold_is_not_heard() -> None:
    """A tone of 10 kHz would fold to 6."""
    image_FT = log_mel(tone(10_000, 2 * RATE), CRISSCROSS)[:, 10:-10]

    assert image_FT.max() < np.log(1.19e-7) + 0.1


def test_a_click_is_in_its_column_and_silence_is_the_epsilon() -> None:
    waveform = np.zeros(2 * RATE, dtype=np.float32)
    waveform[RATE] = 1
    image_FT = log_mel(waveform, CRISSCROSS)

    assert image_FT.mean(axis=0).argmax() == 100
    np.testing.assert_allclose(image_FT[:, :50], np.log(1.19e-7), rtol=1e-5)


@pytest.mark.parametrize("seconds", [0.0, 0.01, 1.3])
def test_a_shorter_sound_has_silence_after_it_and_of_a_longer_one_the_beginning_is_heard(seconds: float) -> None:
    sound = noise(round(seconds * RATE))
    padded = np.concatenate([sound, np.zeros(2 * RATE - len(sound), dtype=np.float32)])

    np.testing.assert_array_equal(log_mel(sound, CRISSCROSS), log_mel(padded, CRISSCROSS))
    longer = noise(3 * RATE)
    np.testing.assert_array_equal(log_mel(longer, CRISSCROSS), log_mel(longer[: 2 * RATE], CRISSCROSS))


@pytest.mark.parametrize(
    ("said", "complaint"),
    [
        ({"sample_rate": 999}, "sample_rate 999 must be from 1000 to 192000"),
        ({"n_fft": 1023}, "n_fft 1023 must be even"),
        ({"n_fft": 8192}, "n_fft 8192"),
        ({"bands": 0}, "bands 0 must be from 1 to half of n_fft, 512"),
        ({"bands": 513}, "bands 513"),
        ({"frame_seconds": 0.0641}, "frame_seconds 0.0641 must be more than 0 and no longer than n_fft, 0.064 s"),
        ({"frame_seconds": 0.0}, "frame_seconds 0.0"),
        ({"hop_seconds": 0.0}, "hop_seconds 0.0 must be"),
        ({"hop_seconds": 3.0}, "no more than window_seconds 2.0"),
        ({"window_seconds": 1e9}, "of up to 3600"),
        ({"window_seconds": 3600.0}, "larger than any sound"),
        ({"epsilon": 0.0}, "epsilon 0.0"),
        ({"epsilon": float("nan")}, "epsilon nan"),
    ],
)
def test_numbers_that_cannot_be_are_refused(said: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        dataclasses.replace(CRISSCROSS, **said)
