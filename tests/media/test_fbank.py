"""The filter bank against kaldi-native-fbank, where that makes one, and against numbers that can be worked out by hand."""

from pathlib import Path

import kaldi_native_fbank
import numpy as np
import pytest
import soundfile

from kinetics_sounds.media import fbank

RATE = 16_000
PADDING = 4.503877 / (2 * 5.141276)
"""What a row of padding, which is 0, becomes."""
FLOOR = (np.log(np.finfo(np.float32).eps) + 4.503877) / (2 * 5.141276)
"""What a band without energy becomes."""


def kaldi(waveform: np.ndarray, *, rate: int, bands: int) -> np.ndarray:
    """The independent implementation: shape (frames, bands)."""
    options = kaldi_native_fbank.FbankOptions()
    options.frame_opts.samp_freq = rate
    options.frame_opts.dither = 0.0
    options.frame_opts.window_type = "hanning"
    options.frame_opts.frame_shift_ms = 10.0
    options.mel_opts.num_bins = bands
    options.use_energy = False
    options.htk_compat = True
    bank = kaldi_native_fbank.OnlineFbank(options)
    bank.accept_waveform(rate, waveform.astype(np.float32))
    bank.input_finished()
    return np.array([bank.get_frame(row) for row in range(bank.num_frames_ready)])


def sound(rate: int = RATE) -> np.ndarray:
    """Two seconds: a rising tone and noise around an offset."""
    times = np.arange(2 * rate) / rate
    noise = np.random.default_rng(0).normal(0, 0.02, times.size)
    return np.asarray(0.3 * np.sin(2 * np.pi * (200 + 900 * times) * times) + noise + 0.1)


@pytest.mark.parametrize(("rate", "bands"), [(16_000, 23), (16_000, 80), (48_000, 80)])
def test_it_is_kaldi_s(rate: int, bands: int) -> None:
    found = fbank.log_energies(sound(rate), rate=rate, bands=bands)

    assert found.shape == (198, bands)
    np.testing.assert_allclose(found, kaldi(sound(rate), rate=rate, bands=bands), atol=2e-3)


def test_kaldi_native_fbank_makes_no_bank_of_128_bands_at_16_khz() -> None:
    """Why we make it: once it does, it can take our place."""
    with pytest.raises(ValueError, match="num_mel_bins too large"):
        kaldi(sound(), rate=RATE, bands=128)


def test_a_stored_bank_is_padded_and_scaled(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", sound(), RATE, subtype="PCM_16")
    heard = soundfile.read(tmp_path / "a.wav")[0]

    found = fbank.of_wav(tmp_path / "a.wav")

    expected = (fbank.log_energies(heard - heard.mean(), rate=RATE) + 4.503877) / (2 * 5.141276)
    assert found.dtype == np.float32
    assert found.shape == (1024, 128)
    np.testing.assert_allclose(found[:198], expected, atol=1e-5)
    np.testing.assert_allclose(found[198:], PADDING, rtol=1e-6)


def test_a_tone_is_loudest_in_the_band_that_holds_it() -> None:
    """Mels are 1127 ln(1 + f / 700): 20 Hz has 31.75, 1000 Hz 999.99, 8000 Hz 2840.02; a band is 21.77 wide, and 1000 Hz lies
    968.2 above the first edge, which is 44.5 bands: in the middle between centres 43 and 44 (counted from 0)."""
    times = np.arange(RATE) / RATE

    found = fbank.log_energies(0.5 * np.sin(2 * np.pi * 1000 * times), rate=RATE)

    assert {int(row.argmax()) for row in found} <= {43, 44}


def test_the_band_that_holds_no_frequency_is_at_the_floor(tmp_path: Path) -> None:
    """Frequencies of the transform lie 31.25 Hz apart; band 3 reaches from 62.96 to 93.01 Hz, between the second and third."""
    soundfile.write(tmp_path / "a.wav", sound(), RATE, subtype="PCM_16")

    found = fbank.of_wav(tmp_path / "a.wav")[:198]

    assert [band for band in range(128) if found[:, band].max() < FLOOR + 1e-5] == [3]


def test_what_is_longer_than_1024_rows_is_cut_and_silence_is_the_floor(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros(11 * RATE), RATE, subtype="PCM_16")

    np.testing.assert_allclose(fbank.of_wav(tmp_path / "a.wav"), np.full((1024, 128), FLOOR), rtol=1e-5)


@pytest.mark.parametrize("samples", [0, 399])
def test_a_sound_without_a_whole_window_is_padding(samples: int, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.full(samples, 0.5), RATE, subtype="PCM_16")

    np.testing.assert_allclose(fbank.of_wav(tmp_path / "a.wav"), PADDING, rtol=1e-6)
