import dataclasses
import math
from collections.abc import Callable
from typing import Any

import librosa
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kinetics_sounds.media import mel
from kinetics_sounds.media.mel import Mel

PAPER = Mel()
RATE = PAPER.sample_rate


def librosas_filters(**numbers: Any) -> np.ndarray:
    """Of `librosa.filters.mel`, which takes two seconds to import: not every worker need wait."""
    from librosa.filters import mel as filters

    found: np.ndarray = filters(**numbers)
    return found


def tone(hertz: float, *, seconds: float = 1, amplitude: float = 0.5) -> np.ndarray:
    times = np.arange(round(seconds * RATE)) / RATE
    return (amplitude * np.sin(2 * np.pi * hertz * times)).astype(np.float32)


def noise(*, seconds: float = 1, amplitude: float = 0.3, seed: int = 0) -> np.ndarray:
    samples = np.random.default_rng(seed).standard_normal(round(seconds * RATE))
    return (amplitude * np.clip(samples, -3, 3) / 3).astype(np.float32)


AUTHORS = mel.PRESETS["authors"]


def oracle(waveform: np.ndarray) -> np.ndarray:
    """The same image in float64 from torch: STFT, filters, decibels, pooling, each written out."""
    signal = torch.from_numpy(waveform.astype(np.float64))
    spectrum = torch.stft(
        signal, 2048, 240, 240, torch.hann_window(240, dtype=torch.float64), pad_mode="constant", return_complex=True
    )
    weights = librosas_filters(sr=24_000, n_fft=2048, n_mels=256, fmin=0, fmax=12_000, dtype=np.float64)
    power_FT = torch.from_numpy(weights) @ spectrum.abs() ** 2
    decibels_FT = 10 * torch.log10(torch.clamp(power_FT, min=1e-30))
    image_FT = torch.clamp((decibels_FT - decibels_FT.max()) / 80 + 1, min=0)
    return torch.nn.functional.adaptive_avg_pool1d(image_FT, 256).numpy()


# --- The image ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seconds", [0.5, 1, 2.56, 2.6, 10])
def test_the_image_is_256_by_256_between_0_and_1(seconds: float) -> None:
    image = mel.mel_image(noise(seconds=seconds), PAPER)

    assert image.shape == (256, 256)
    assert image.dtype == np.float32
    assert np.isfinite(image).all()
    assert image.min() >= 0
    assert 0.9 < image.max() <= 1


@pytest.mark.parametrize("samples", [0, 1, 239, 240, 241, 479, 480, 2047, 2048, 2049])
def test_a_very_short_sound_has_an_image(samples: int) -> None:
    image = mel.mel_image(noise()[:samples], PAPER)

    assert image.shape == (256, 256)
    assert np.isfinite(image).all()
    assert (image.max() > 0.9) == (samples > 1)


def test_ten_seconds_have_1001_columns_before_pooling() -> None:
    assert mel.power(noise(seconds=10), PAPER).shape == (256, 1001)


def test_silence_is_exactly_0_everywhere() -> None:
    assert np.count_nonzero(mel.mel_image(np.zeros(RATE, np.float32), PAPER)) == 0


def test_what_no_one_hears_stays_dark() -> None:
    """A reference that sank with the sound would show a tone at -120 dB as bright as any."""
    loudest = [float(mel.mel_image(tone(1000, amplitude=10 ** (db / 20)), PAPER).max()) for db in (0, -60, -100, -120)]

    assert loudest[:2] == pytest.approx([1, 1], abs=0.01)
    assert loudest[2] == pytest.approx(0.5, abs=0.01)  # 40 dB under the floor, of a range of 80
    assert loudest[3] == pytest.approx(0.25, abs=0.01)


def test_the_floor_does_not_depend_on_how_the_cpu_takes_a_sine() -> None:
    """The C library's own sine, one sample at a time, of a tone 60 dB under full scale."""
    samples = [0.001 * math.sin(2 * math.pi * 1000 * number / RATE) for number in range(RATE)]

    assert mel.floor_power(PAPER) == mel.power(np.array(samples, dtype=np.float32), PAPER).max()


def test_half_as_loud_is_the_same_image() -> None:
    waveform = noise(amplitude=0.5)

    assert np.array_equal(mel.mel_image(waveform, PAPER), mel.mel_image(waveform / 2, PAPER))


def test_40_decibels_less_is_half_the_brightness() -> None:
    """A loud second and one of a hundredth of its amplitude: 1 and 1 - 40 / 80."""
    waveform = np.concatenate([tone(1000), tone(1000, amplitude=0.005)])
    image = mel.mel_image(waveform, PAPER)

    assert image[:, 60].max() == pytest.approx(1, abs=0.01)
    assert image[:, 200].max() == pytest.approx(0.5, abs=0.01)


def test_noise_leaves_no_band_empty() -> None:
    image = mel.mel_image(noise(seconds=2), PAPER)

    assert image.max(axis=1).min() > 0.5


@pytest.mark.filterwarnings("ignore:Empty filters")
@pytest.mark.parametrize(("n_fft", "empty"), [(240, 98), (512, 42), (1024, 0), (2048, 0)])
def test_the_window_s_own_length_would_leave_bands_empty(n_fft: int, empty: int) -> None:
    """Why the window is padded to 2048: 10 ms alone have 121 frequencies for 256 bands."""
    weights = librosas_filters(sr=RATE, n_fft=n_fft, n_mels=256, fmin=0, fmax=RATE / 2)

    assert int((weights.max(axis=1) == 0).sum()) == empty


@pytest.mark.parametrize("hertz", [100, 440, 1000, 2500, 5000, 9000, 11_500])
def test_a_tone_is_brightest_in_its_own_band(hertz: float) -> None:
    """Low bands come first; band b is centred on the (b + 1)th of 258 equally spaced mels."""
    centres = librosa.mel_frequencies(n_mels=258, fmin=0, fmax=RATE / 2)[1:-1]
    image = mel.mel_image(tone(hertz), PAPER)
    brightest = int(image[:, 100].argmax())

    spacing = centres[min(brightest + 1, 255)] - centres[max(brightest - 1, 0)]
    assert centres[brightest] == pytest.approx(hertz, abs=max(spacing, 60))
    if hertz >= 1000:
        assert abs(brightest - int(np.abs(centres - hertz).argmin())) <= 1


def test_a_click_is_bright_at_its_time() -> None:
    """At 2.5 s of 10: a quarter of the way along."""
    waveform = np.zeros(10 * RATE, np.float32)
    waveform[round(2.5 * RATE) : round(2.5 * RATE) + 240] = 0.5

    column = mel.mel_image(waveform, PAPER).mean(axis=0)
    assert abs(int(column.argmax()) - 64) <= 1
    assert np.count_nonzero(column) <= 3


@pytest.mark.parametrize(
    "waveform",
    [noise(seconds=3), tone(1000), np.concatenate([tone(300), noise(seed=1), tone(6000)])],
    ids=["noise", "tone", "sequence"],
)
def test_the_image_is_what_torch_makes_of_it_too(waveform: np.ndarray) -> None:
    assert mel.mel_image(waveform, PAPER) == pytest.approx(oracle(waveform), abs=1e-4)


def test_the_image_is_the_same_every_time() -> None:
    first, second = (mel.mel_image(noise(), PAPER).tobytes() for _ in range(2))

    assert first == second


def test_every_number_can_be_another() -> None:
    small = dataclasses.replace(PAPER, bands=64, columns=100, n_fft=1024, win_length=480, hop_length=480)

    assert mel.mel_image(noise(), small).shape == (64, 100)


def test_the_waveform_is_left_as_it_was() -> None:
    waveform = noise()
    before = waveform.copy()
    mel.mel_image(waveform, PAPER)

    assert np.array_equal(waveform, before)


def test_the_image_lies_row_by_row_in_memory() -> None:
    """So does its file, and what reads it need not turn it round."""
    assert mel.mel_image(noise(), PAPER).flags.c_contiguous


def test_the_blocks_of_the_transform_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = mel.mel_image(noise(seconds=3), PAPER)
    for block in (1, 100, 1000):
        monkeypatch.setattr(mel, "BLOCK", block)
        assert np.array_equal(mel.mel_image(noise(seconds=3), PAPER), whole)


# --- The authors' ---------------------------------------------------------------------------------------------------


def authors_oracle(waveform: np.ndarray) -> np.ndarray:
    """The same image in float64 from torch, as `oracle` is: librosa's defaults written out."""
    signal = torch.from_numpy(waveform.astype(np.float64))
    spectrum = torch.stft(
        signal, 2048, 512, 1024, torch.hann_window(1024, dtype=torch.float64), pad_mode="constant", return_complex=True
    )
    weights = librosas_filters(sr=24_000, n_fft=2048, n_mels=256, fmin=0, fmax=12_000, dtype=np.float64)
    decibels_FT = 10 * torch.log10(torch.clamp(torch.from_numpy(weights) @ spectrum.abs() ** 2, min=1e-10))
    decibels_FT = torch.clamp(decibels_FT, min=decibels_FT.max() - 80)
    image_FT = (decibels_FT - decibels_FT.min()) / (decibels_FT.max() - decibels_FT.min())
    return torch.nn.functional.adaptive_avg_pool1d(image_FT, 256).numpy()


def librosas_own(waveform: np.ndarray) -> np.ndarray:
    """The same image by librosa's own functions, as the authors call them."""
    power_FT = librosa.feature.melspectrogram(
        y=waveform, sr=24_000, n_fft=2048, win_length=1024, hop_length=512, n_mels=256, fmax=12_000
    )
    decibels_FT = librosa.power_to_db(power_FT, ref=np.max)
    image_FT = (decibels_FT - decibels_FT.min()) / (decibels_FT.max() - decibels_FT.min())
    return torch.nn.functional.adaptive_avg_pool1d(torch.from_numpy(image_FT), 256).numpy()


@pytest.mark.parametrize(
    "waveform",
    [noise(seconds=3), tone(1000, seconds=10), noise(amplitude=1e-4), np.concatenate([tone(300), 0 * tone(300)])],
    ids=["noise", "tone", "a soft noise", "half silent"],
)
@pytest.mark.parametrize(
    "theirs",
    [
        authors_oracle,
        pytest.param(librosas_own, marks=pytest.mark.slow_campaign),  # which it compiles first, for half a minute
    ],
)
def test_the_authors_image_is_librosa_s(waveform: np.ndarray, theirs: Callable[[np.ndarray], np.ndarray]) -> None:
    assert mel.mel_image(waveform, AUTHORS) == pytest.approx(theirs(waveform), abs=1e-4)


def test_ten_seconds_have_the_469_columns_of_the_authors_files() -> None:
    assert mel.power(noise(seconds=10), AUTHORS).shape == (256, 469)


def test_the_authors_image_reaches_from_0_to_1_however_soft_the_sound() -> None:
    for amplitude in (0.3, 0.003):
        image = mel.mel_image(tone(1000, amplitude=amplitude), AUTHORS)
        assert image.min() == 0
        assert image.max() == pytest.approx(1, abs=0.02)  # the mean of some columns, one of which is 1


@pytest.mark.parametrize("samples", [0, 1, 100, RATE])
def test_silence_is_exactly_0_in_the_authors_image_too(samples: int) -> None:
    assert np.count_nonzero(mel.mel_image(np.zeros(samples, np.float32), AUTHORS)) == 0


def test_silence_is_0_where_nothing_bounds_the_power() -> None:
    boundless = dataclasses.replace(PAPER, floor_db=None)

    assert np.count_nonzero(mel.mel_image(np.zeros(RATE, np.float32), boundless)) == 0


def test_a_tone_is_in_the_same_band_of_either_image() -> None:
    for hertz in (440, 5000):
        bands = [int(mel.mel_image(tone(hertz), preset)[:, 100].argmax()) for preset in (PAPER, AUTHORS)]
        assert abs(bands[0] - bands[1]) <= 3


# --- Pooling --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("time", [1, 2, 100, 255, 256, 257, 511, 512, 1000, 1001, 3001])
def test_pooling_is_torch_s_adaptive_mean(time: int) -> None:
    image_FT = np.random.default_rng(time).standard_normal((5, time)).astype(np.float32)
    expected = torch.nn.functional.adaptive_avg_pool1d(torch.from_numpy(image_FT), 256)

    assert mel.adaptive_mean(image_FT, 256) == pytest.approx(expected.numpy(), abs=1e-6)


@settings(max_examples=60, deadline=None)
@given(time=st.integers(1, 400), columns=st.integers(1, 400))
def test_pooling_agrees_at_every_length(time: int, columns: int) -> None:
    image_FT = np.arange(2 * time, dtype=np.float64).reshape(2, time)
    expected = torch.nn.functional.adaptive_avg_pool1d(torch.from_numpy(image_FT), columns)

    assert mel.adaptive_mean(image_FT, columns) == pytest.approx(expected.numpy(), abs=1e-9)


def test_pooling_four_steps_to_two_takes_the_mean_of_pairs() -> None:
    assert mel.adaptive_mean(np.array([[1.0, 3.0, 5.0, 7.0]]), 2).tolist() == [[2, 6]]
    assert mel.adaptive_mean(np.array([[1.0, 3.0, 5.0]]), 2).tolist() == [[2, 4]]  # the middle one counts in both
