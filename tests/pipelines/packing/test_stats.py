"""ks-shard stats, on sounds whose spectrograms numpy holds all at once."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from kinetics_sounds import manifest
from kinetics_sounds.address import Address
from kinetics_sounds.media import encode
from kinetics_sounds.media.log_mel import LogMel, log_mel
from kinetics_sounds.media.spectrogram import Spectrogram, log_spectrogram
from kinetics_sounds.pipelines import shard
from kinetics_sounds.pipelines.packing import stats as heard
from kinetics_sounds.shards import index, layout, stats
from kinetics_sounds.shards.index import SplitFacts

from ...shards.sets import make
from ..conftest import Inline

RATE = encode.SAMPLE_RATE
COUNTS = (3, 1, 2)
NUMBERS = Spectrogram(window_seconds=0.1, n_fft=64, hop_seconds=0.01)
OPTIONS = ("--window_seconds=0.1", "--n_fft=64", "--hop_seconds=0.01", "--workers=1")
LENGTHS = (0.04, 0.1, 0.25, 0.1, 0.3, 0.2)
"""Seconds of the sounds: shorter than a window, as long, and longer."""


def sound(number: int) -> np.ndarray:
    """Noise whose level is the sample's own, as it is stored: float32 (samples,)."""
    noise = np.random.default_rng(number).normal(0, 0.02 * (number + 1), round(LENGTHS[number] * RATE))
    return (np.round(np.clip(noise, -0.9, 0.9) * 32768) / 32768).astype(np.float32)


def parts(number: int) -> dict[str, bytes]:
    flac, waveform = io.BytesIO(), sound(number)
    soundfile.write(flac, waveform, RATE, format="FLAC", subtype="PCM_16")
    meta = {"num_frames": 1, "fps": 25.0, "label_index": number % 3, "audio_samples": len(waveform)}
    return {layout.AUDIO: flac.getvalue(), layout.META: json.dumps(meta).encode()}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Six sounds in three shards."""
    facts = SplitFacts(shards=3, samples=6, bytes=0, left=0, fingerprint=manifest.fingerprint(["k"]))
    return make(tmp_path / "set", COUNTS, parts=parts, splits={"train": facts})


@pytest.fixture
def one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """No worker is started: for tests to which processes do not matter."""
    monkeypatch.setattr(heard.local, "Pool", lambda function, workers: Inline(function))


def run(*argv: str) -> int:
    code: int = shard.main(["stats", *argv])
    return code


def columns(number: int) -> np.ndarray:
    """All columns of a sound's windows, by hand: 0.25 s are covered by those from 0, 0.075 and 0.15 s on."""
    starts = {2: (0, 1800, 3600), 4: (0, 2400, 4800), 5: (0, 2400)}.get(number, (0,))
    return np.concatenate([log_spectrogram(sound(number)[start : start + 2400], NUMBERS) for start in starts])


def expected(*numbers: int) -> tuple[np.ndarray, np.ndarray]:
    all_TF = np.concatenate([columns(number) for number in numbers]).astype(np.float64)
    return all_TF.mean(axis=0), all_TF.std(axis=0)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_they_are_numpys_over_all_windows(folder: Path, workers: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(str(folder), *OPTIONS, f"--workers={workers}") == 0

    (found,) = stats.read(Address(str(folder)))
    mean_F, std_F = expected(*range(6))
    np.testing.assert_allclose(found.mean, mean_F, rtol=1e-9)
    np.testing.assert_allclose(found.std, std_F, rtol=1e-7)
    assert (found.samples, found.windows, found.split, found.numbers) == (6, 11, "train", NUMBERS)
    dataset = index.read_dataset(folder)
    assert (found.fingerprint, found.data_recipe) == (dataset.splits["train"].fingerprint, dataset.recipe)
    assert "train: 6 samples, 11 windows; mean " in capsys.readouterr().out


@pytest.mark.slow
def test_a_set_at_a_url_is_heard_through_the_cache_and_has_them_there(folder: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"

    assert run(f"file://{folder}", *OPTIONS, f"--cache={cache}") == 0
    assert run(str(folder), *OPTIONS, "--window_seconds=0.05") == 0

    first, _ = stats.read(Address(str(folder)))
    np.testing.assert_allclose(first.mean, expected(*range(6))[0], rtol=1e-9)
    assert len(list(cache.glob("*.*"))) >= 3


@pytest.mark.usefixtures("one_process")
class TestInOneProcess:
    def test_as_json(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert run(str(folder), *OPTIONS, "--json") == 0

        told = json.loads(capsys.readouterr().out)
        assert told["samples"] == 6
        assert told["numbers"] == {"window_seconds": 0.1, "n_fft": 64, "hop_seconds": 0.01}
        np.testing.assert_allclose(told["mean"], expected(*range(6))[0])

    def test_of_log_mel_spectrograms(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        numbers = LogMel(window_seconds=0.1, n_fft=64, frame_seconds=0.004, bands=5, epsilon=1e-6)
        options = ("--kind=log_mel", "--frame_seconds=0.004", "--bands=5", "--epsilon=1e-6")
        starts = {2: (0, 1800, 3600), 4: (0, 2400, 4800), 5: (0, 2400)}

        assert run(str(folder), *OPTIONS, *options) == 0

        windows = [sound(number)[start : start + 2400] for number in range(6) for start in starts.get(number, (0,))]
        columns_FT = np.concatenate([log_mel(each, numbers) for each in windows], axis=1).astype(np.float64)
        (found,) = stats.read(Address(str(folder)))
        assert (found.numbers, found.windows) == (numbers, 11)
        np.testing.assert_allclose(found.mean, columns_FT.mean(axis=1), rtol=1e-9)
        np.testing.assert_allclose(found.std, columns_FT.std(axis=1), rtol=1e-6)
        assert " dB" not in capsys.readouterr().out

    def test_the_only_set_is_found(
        self, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.chdir(tmp_path)
        Path("data/k32").mkdir(parents=True)
        Path("data/k32/shards").symlink_to(folder)

        assert run(*OPTIONS) == 0
        assert capsys.readouterr().out.startswith("shards: data/k32/shards\n")

    def test_bad_samples_are_named_and_left_out(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        def spoilt(number: int) -> dict[str, bytes]:
            return parts(number) | ({layout.AUDIO: b"no sound"} if number == 4 else {})

        facts = SplitFacts(shards=3, samples=6, bytes=0, left=0, fingerprint="")
        folder = make(tmp_path / "set", COUNTS, parts=spoilt, splits={"train": facts})

        assert run(str(folder), *OPTIONS) == 1

        (found,) = stats.read(Address(str(folder)))
        np.testing.assert_allclose(found.mean, expected(0, 1, 2, 3, 5)[0], rtol=1e-9)
        assert found.samples == 5
        assert "left out: " in (told := capsys.readouterr().err)
        assert "sample k_4: the stored sound does not decode" in told

    def test_silence_has_a_deviation_of_exactly_zero(self, tmp_path: Path) -> None:
        def silent(number: int) -> dict[str, bytes]:
            made, flac = parts(number), io.BytesIO()
            soundfile.write(flac, np.zeros(len(sound(number))), RATE, format="FLAC", subtype="PCM_16")
            return made | {layout.AUDIO: flac.getvalue()}

        assert run(str(make(tmp_path / "set", (2,), parts=silent)), *OPTIONS) == 0

        (found,) = stats.read(Address(str(tmp_path / "set")))
        assert set(found.mean) == {-100.0}
        assert set(found.std) == {0.0}

    @pytest.mark.parametrize(
        ("argv", "complaint"),
        [
            (["--split=val"], "has no split 'val'; it has: train"),
            (["--n_fft=1022"], "--n_fft 1022 must be a multiple of 4"),
            (
                ["--kind=log_mel", "--n_fft=512"],
                "--frame_seconds 0.064 must be more than 0 and no longer than n_fft, 0.032 s",
            ),
            (["--hop_seconds=3"], "--hop_seconds 3.0 must be"),
            (["--workers=0"], "--workers and --cache_gb: must be more than 0"),
            (["--bins=3"], "--bins"),
        ],
    )
    def test_misuse_is_told(
        self, folder: Path, argv: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert run(str(folder), *argv) == 2
        assert complaint in capsys.readouterr().err
        assert not (folder / layout.STATS).exists()

    @pytest.mark.parametrize(
        ("change", "complaint"),
        [
            (lambda folder: layout.index_path(tar(folder)).unlink(), "train-000001.json"),
            (lambda folder: tar(folder).unlink(), "train-000001.tar"),
            (lambda folder: (folder / layout.DATASET).unlink(), "has no shard set"),
        ],
    )
    def test_a_set_that_is_not_whole_is_told(
        self, folder: Path, change: Callable[[Path], Any], complaint: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        change(folder)

        assert run(str(folder), *OPTIONS) == 2
        assert complaint in capsys.readouterr().err
        assert not (folder / layout.STATS).exists()

    def test_a_set_without_sound_is_told_how_it_has_some(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        folder = make(tmp_path / "set", (2,), parts=lambda number: {layout.META: parts(number)[layout.META]})

        assert run(str(folder)) == 2
        assert "has no flac; make the set again with ks-shard --audio flac" in capsys.readouterr().err


def tar(folder: Path) -> Path:
    return layout.tar_path(folder, "train", 1)
