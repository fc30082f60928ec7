"""Truths about folders of labelled sounds: how they are read, and how five folds and two lists judge an encoder."""

import contextlib
import statistics
import warnings
import wave
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.io import wavfile
from torch import Tensor

from kinetics_sounds.errors import AnnotationError, MediaError
from kinetics_sounds.train.evaluation import audio_datasets
from kinetics_sounds.train.evaluation.audio_datasets import Recording
from kinetics_sounds.train.probes import bootstrap_ci, svm

RATE = 8000
SVM = pytest.importorskip("sklearn.svm")
LITTLE = 64 * 2**20
"""Bytes, for a file of kilobytes."""
Memory = Callable[[int], contextlib.AbstractContextManager[None]]


def tone(hertz: float, *, rate: int = RATE, seconds: float = 0.25) -> np.ndarray:
    return np.sin(2 * np.pi * hertz * np.arange(int(rate * seconds)) / rate)


def write_wav(path: Path, sound: np.ndarray, *, rate: int = RATE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    wavfile.write(path, rate, np.round(sound * 32767).astype(np.int16))
    return path


def as_rf64(riff: bytes | bytearray, claimed: int) -> bytes:
    """The same WAV file in the form for more than 4 GB, whose header claims so many bytes of samples."""
    sizes = (len(riff) + 36 - 8, claimed, 0)
    ds64 = b"ds64" + (28).to_bytes(4, "little") + b"".join(size.to_bytes(8, "little") for size in sizes) + bytes(4)
    return b"RF64" + b"\xff" * 4 + b"WAVE" + ds64 + riff[12:40] + b"\xff" * 4 + riff[44:]


def loudest_band(waveform: np.ndarray) -> Tensor:
    """An encoder that hears pitch: the spectrum's energy in eight bands, one rendering for each half of the sound."""
    halves = [np.abs(np.fft.rfft(half)) ** 2 for half in np.array_split(waveform, 2)]
    bands = [[band.sum() / half.sum() for band in np.array_split(half, 8)] for half in halves]
    return torch.tensor(bands, dtype=torch.float32)


@pytest.fixture
def esc(tmp_path: Path) -> Path:
    """Sounds of 3 classes, two of each in 5 folds, low, middle and high."""
    rng = np.random.default_rng(0)
    for each in sounds_of(tmp_path):
        hertz = (300, 1800, 3300)[int(each.label)]
        wave = 0.5 * tone(hertz + 40 * each.fold) + 0.01 * rng.standard_normal(RATE // 4)
        write_wav(each.path, wave)
    return tmp_path


def sounds_of(folder: Path) -> list[Recording]:
    return [
        Recording(folder / f"audio/{fold}-{target}-{take}.wav", str(target), fold)
        for fold in range(1, 6)
        for target in range(3)
        for take in "AB"
    ]


class TestReadList:
    def test_a_file_and_its_label_on_each_line(self, esc: Path) -> None:
        (esc / "train.txt").write_text("audio/1-0-A.wav\tbusy street\n\naudio/1-1-A.wav park\n")

        assert audio_datasets.read_list(esc / "train.txt", esc) == (
            Recording(esc / "audio/1-0-A.wav", "busy street"),
            Recording(esc / "audio/1-1-A.wav", "park"),
        )

    @pytest.mark.parametrize("content", [None, b"\xff\xfe\x00"])
    def test_a_list_that_is_missing_or_no_text_is_refused(self, content: bytes | None, tmp_path: Path) -> None:
        if content:
            (tmp_path / "train.txt").write_bytes(content)
        with pytest.raises(AnnotationError, match="cannot be read as UTF-8 text"):
            audio_datasets.read_list(tmp_path / "train.txt", tmp_path)

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("", "lists no sound"),
            ("/etc/hostname bus\n", "'/etc/hostname' is not a file in"),
            ("audio/1/../../../x.wav bus\n", "is not a file in"),
            ("audio/1-0-A.wav\n", r"train.txt:1: audio/1-0-A.wav has no label"),
            ("\naudio/none.wav bus\n", r"train.txt:2: .*none.wav is missing"),
            ("../secret.wav bus\n", "is not a file in"),
            ("audio/1-0-A.wav bus\naudio/1-0-A.wav bus\n", "more than once"),
        ],
    )
    def test_what_cannot_be_is_refused_with_its_place(self, text: str, message: str, esc: Path) -> None:
        (esc / "train.txt").write_text(text)

        with pytest.raises(AnnotationError, match=message):
            audio_datasets.read_list(esc / "train.txt", esc)


class TestReadWav:
    @pytest.mark.parametrize("kind", [np.uint8, np.int16, np.int32, np.float32, np.float64])
    def test_every_sample_format_has_the_same_full_scale(self, kind: type, tmp_path: Path) -> None:
        steps = {
            "uint8": [0, 64, 128, 192],
            "int16": [-(2**15), -(2**14), 0, 2**14],
            "int32": [-(2**31), -(2**30), 0, 2**30],
        }
        wavfile.write(tmp_path / "a.wav", RATE, np.array(steps.get(kind.__name__, [-1, -0.5, 0, 0.5]), dtype=kind))

        waveform = audio_datasets.read_wav(tmp_path / "a.wav", sample_rate=RATE)

        assert waveform.dtype == np.float32
        assert waveform.tolist() == [-1, -0.5, 0, 0.5]

    def test_channels_are_averaged(self, tmp_path: Path) -> None:
        wavfile.write(tmp_path / "a.wav", RATE, np.array([[0.5, -0.5], [1, 0], [0, 0.25]], dtype=np.float32))

        assert audio_datasets.read_wav(tmp_path / "a.wav", sample_rate=RATE).tolist() == [0, 0.5, 0.125]

    def test_it_is_resampled_to_the_rate_that_is_asked(self, tmp_path: Path) -> None:
        write_wav(tmp_path / "a.wav", 0.5 * tone(440, rate=44_100), rate=44_100)

        waveform = audio_datasets.read_wav(tmp_path / "a.wav", sample_rate=24_000)

        assert len(waveform) == 6000
        middle = slice(100, -100)
        assert waveform[middle] == pytest.approx(0.5 * tone(440, rate=24_000)[middle], abs=0.01)

    @pytest.mark.parametrize(
        "content", [b"", b"ID3 not a wav", b"RIFF\x04\x00\x00\x00WAVE"], ids=["empty", "other", "no sound"]
    )
    def test_what_is_no_wav_is_refused_by_name(self, content: bytes, tmp_path: Path) -> None:
        (tmp_path / "a.wav").write_bytes(content)

        with pytest.raises(MediaError, match=r"a\.wav: cannot be read as a WAV file"):
            audio_datasets.read_wav(tmp_path / "a.wav", sample_rate=RATE)

    @pytest.mark.parametrize("rate", [0, 1, 999, 2_000_000_000])
    def test_a_rate_that_cannot_be_is_refused(self, rate: int, tmp_path: Path) -> None:
        path = write_wav(tmp_path / "a.wav", tone(440))
        data = bytearray(path.read_bytes())
        data[24:32] = rate.to_bytes(4, "little") + (2 * rate % 2**32).to_bytes(4, "little")  # and bytes a second
        path.write_bytes(data)

        with pytest.raises(MediaError, match=f"holds 2000 samples at {rate} Hz"):
            audio_datasets.read_wav(path, sample_rate=RATE)

    @pytest.mark.parametrize(("rate", "samples"), [(1_000, 48_000), (999_983, 49)])
    def test_a_strange_rate_takes_little_memory(self, rate: int, samples: int, tmp_path: Path, memory: Memory) -> None:
        path = write_wav(tmp_path / "a.wav", tone(440), rate=rate)

        with memory(LITTLE):
            assert len(audio_datasets.read_wav(path, sample_rate=24_000)) == samples

    @pytest.mark.parametrize(
        ("kind", "claimed"),
        [("RIFF", 4_001), ("RIFF", 2**32 - 1), ("RF64", 4_001), ("RF64", 2**50), ("RF64", 2**64 - 1)],
    )
    def test_a_header_that_claims_more_than_there_is_takes_little_memory(
        self, kind: str, claimed: int, tmp_path: Path, memory: Memory
    ) -> None:
        path = write_wav(tmp_path / "a.wav", tone(440))
        data = bytearray(path.read_bytes())
        if kind == "RIFF":
            data[40:44] = claimed.to_bytes(4, "little")
        path.write_bytes(as_rf64(data, claimed) if kind == "RF64" else data)

        with memory(LITTLE), pytest.raises(MediaError, match=r"a\.wav: cannot be read as a WAV file"):
            audio_datasets.read_wav(path, sample_rate=RATE)

    def test_a_whole_rf64_file_is_read(self, tmp_path: Path) -> None:
        path = write_wav(tmp_path / "a.wav", tone(440))
        before = audio_datasets.read_wav(path, sample_rate=RATE)
        path.write_bytes(as_rf64(path.read_bytes(), 4_000))

        assert audio_datasets.read_wav(path, sample_rate=RATE).tolist() == before.tolist()

    def test_what_takes_more_memory_than_there_is_is_refused(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = write_wav(tmp_path / "a.wav", tone(440))
        monkeypatch.setattr(wavfile, "read", lambda _: np.zeros(2**57))

        with pytest.raises(MediaError, match=r"a\.wav: cannot be read as a WAV file: Unable to allocate"):
            audio_datasets.read_wav(path, sample_rate=RATE)

    @pytest.mark.parametrize(
        ("wave", "message"), [([], "holds 0 samples at 8000 Hz"), ([0, np.nan], "samples that are not finite")]
    )
    def test_no_sound_and_numbers_that_are_not_finite_are_refused(
        self, wave: list[float], message: str, tmp_path: Path
    ) -> None:
        wavfile.write(tmp_path / "a.wav", RATE, np.array(wave, dtype=np.float32))

        with pytest.raises(MediaError, match=message):
            audio_datasets.read_wav(tmp_path / "a.wav", sample_rate=RATE)

    def test_a_recording_of_more_than_an_hour_is_refused(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = write_wav(tmp_path / "a.wav", tone(440))
        seconds = len(tone(440)) / RATE
        monkeypatch.setattr(audio_datasets, "MAX_SECONDS", seconds)
        assert len(audio_datasets.read_wav(path, sample_rate=RATE)) == len(tone(440))
        monkeypatch.setattr(audio_datasets, "MAX_SECONDS", seconds / 2)
        with pytest.raises(MediaError, match=rf"a\.wav: holds {len(tone(440))} samples at {RATE} Hz"):
            audio_datasets.read_wav(path, sample_rate=RATE)

    def test_24_bits_have_the_same_full_scale(self, tmp_path: Path) -> None:
        with wave.open(str(tmp_path / "a.wav"), "wb") as out:
            out.setparams((1, 3, RATE, 0, "NONE", ""))
            out.writeframes(b"".join(value.to_bytes(3, "little", signed=True) for value in (2**22, -(2**23), 0)))

        assert audio_datasets.read_wav(tmp_path / "a.wav", sample_rate=RATE).tolist() == [0.5, -1, 0]

    def test_floats_of_no_width_are_refused(self, tmp_path: Path) -> None:
        wavfile.write(tmp_path / "a.wav", RATE, np.zeros(40, dtype=np.float32))
        data = bytearray((tmp_path / "a.wav").read_bytes())
        data[28:34] = (5 * RATE).to_bytes(4, "little") + (5).to_bytes(2, "little")  # bytes a second, and a sample
        (tmp_path / "a.wav").write_bytes(data)

        with pytest.raises(MediaError, match=r"a\.wav: cannot be read as a WAV file"):
            audio_datasets.read_wav(tmp_path / "a.wav", sample_rate=RATE)

    def test_a_file_that_is_gone_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(MediaError, match=r"gone\.wav: cannot be read as a WAV file: .*No such file"):
            audio_datasets.read_wav(tmp_path / "gone.wav", sample_rate=RATE)

    def test_a_file_that_ends_early_is_refused(self, tmp_path: Path) -> None:
        path = write_wav(tmp_path / "a.wav", tone(440))
        path.write_bytes(path.read_bytes()[:-100])

        with pytest.raises(MediaError, match=r"a\.wav: .*: it ends early: 4000 bytes are claimed where 3900 are left"):
            audio_datasets.read_wav(path, sample_rate=RATE)

    @given(seed=st.integers(0, 2**32), cut=st.booleans(), rf64=st.booleans())
    @settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    def test_a_damaged_file_is_read_or_refused_and_never_a_bug(
        self, seed: int, cut: bool, rf64: bool, tmp_path: Path, memory: Memory
    ) -> None:
        rng = np.random.default_rng(seed)
        data = bytearray(write_wav(tmp_path / "a.wav", tone(440, seconds=0.01)).read_bytes())
        if rf64:
            data = bytearray(as_rf64(data, 160))
        for _ in range(rng.integers(1, 4)):
            data[rng.integers(84 if rf64 else 48)] = rng.integers(256)
        (tmp_path / "a.wav").write_bytes(data[: rng.integers(len(data))] if cut else data)

        with memory(LITTLE), contextlib.suppress(MediaError):
            assert np.isfinite(audio_datasets.read_wav(tmp_path / "a.wav", sample_rate=RATE)).all()

    def test_other_chunks_do_not_warn(self, tmp_path: Path) -> None:
        path = write_wav(tmp_path / "a.wav", tone(440))
        data = path.read_bytes()
        size = int.from_bytes(data[4:8], "little") + 12
        path.write_bytes(data[:4] + size.to_bytes(4, "little") + data[8:36] + b"odd \x04\x00\x00\x00abcd" + data[36:])

        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert len(audio_datasets.read_wav(path, sample_rate=RATE)) == RATE // 4


class TestEncode:
    def test_each_recording_is_heard_once_at_the_rate_that_is_asked(self, esc: Path) -> None:
        found = sounds_of(esc)[:3]
        heard: list[tuple[Any, int]] = []

        def encoder(waveform: np.ndarray) -> Tensor:
            heard.append((waveform.dtype, len(waveform)))
            return torch.full((2, 5), float(len(heard)))

        features_NKD = audio_datasets.encode(found, encoder, sample_rate=RATE // 2)

        assert heard == [(np.float32, RATE // 8)] * 3
        assert features_NKD.shape == (3, 2, 5)
        assert features_NKD[:, 0, 0].tolist() == [1, 2, 3]

    @pytest.mark.parametrize(
        ("second", "message"),
        [
            (torch.ones(3), r"1-0-B.wav: features must be \(K, D\) like the first's \(1, 3\), got \(3,\)"),
            (torch.ones(2, 3), "features must be"),
            (torch.full((1, 3), torch.nan), "1-0-B.wav: has features that are not finite"),
        ],
    )
    def test_features_that_do_not_fit_are_refused_by_name(self, second: Tensor, message: str, esc: Path) -> None:
        found = sounds_of(esc)[:2]
        answers = iter([torch.ones(1, 3), second])

        with pytest.raises(ValueError, match=message):
            audio_datasets.encode(found, lambda _: next(answers), sample_rate=RATE)

    @pytest.mark.parametrize("shape", [(3,), (0, 3)])
    def test_so_is_a_first_that_is_no_table(self, shape: tuple[int, ...], esc: Path) -> None:
        found = sounds_of(esc)[:1]

        with pytest.raises(ValueError, match=r"features must be \(K, D\)"):
            audio_datasets.encode(found, lambda _: torch.ones(shape), sample_rate=RATE)


def labelled(folds: list[int], labels: Sequence[str]) -> list[Recording]:
    return [
        Recording(Path(f"{row:03}.wav"), label, fold)
        for row, (fold, label) in enumerate(zip(folds, labels, strict=True))
    ]


def noisy(seed: int, labels: Sequence[str]) -> Tensor:
    """One rendering a recording: its label's corner plus noise."""
    kinds = sorted(set(labels))
    corner = torch.eye(len(kinds), 4)[[kinds.index(label) for label in labels]]
    return (corner + torch.randn(len(labels), 4, generator=torch.Generator().manual_seed(seed)))[:, None]


class TestCrossValidate:
    FOLDS, LABELS = [1 + row % 5 for row in range(60)], ["abc"[row // 5 % 3] for row in range(60)]

    def test_a_whole_folder_of_sounds_that_an_encoder_tells_apart(self, esc: Path) -> None:
        found = sounds_of(esc)
        features_NKD = audio_datasets.encode(found, loudest_band, sample_rate=RATE)

        metrics = audio_datasets.cross_validate(found, features_NKD, svm.Settings())

        assert (metrics["top1"], metrics["top1_std"]) == (100, 0)
        assert metrics["top1_chance"] == pytest.approx(100 / 3)
        assert set(metrics) == {
            *("top1", "top1_std", "top1_chance", "selected_on_test"),
            *(f"fold{fold}_{name}" for fold in range(1, 6) for name in ("top1", "c")),
        }

    def test_agrees_with_scikit_learn_fold_by_fold(self) -> None:
        found, features_NKD = labelled(self.FOLDS, self.LABELS), noisy(0, self.LABELS)
        metrics = audio_datasets.cross_validate(found, features_NKD, svm.Settings(cs=(0.1,)))

        row_ND, fold_N, label_N = features_NKD[:, 0].numpy(), np.array(self.FOLDS), np.array(self.LABELS)
        scores = []
        for fold in range(1, 6):
            out_N = fold_N == fold
            oracle = SVM.LinearSVC(C=0.1, dual=False).fit(row_ND[~out_N], label_N[~out_N])
            scores.append(100 * oracle.score(row_ND[out_N], label_N[out_N]))
        assert [metrics[f"fold{fold}_top1"] for fold in range(1, 6)] == pytest.approx(scores)
        assert metrics["top1"] == pytest.approx(statistics.fmean(scores))
        assert metrics["top1_std"] == pytest.approx(statistics.stdev(scores)) != 0

    def test_a_mean_of_folds_counts_each_fold_the_same(self) -> None:
        """Fold 1 holds one clip, mislabelled; fold 2 holds four, told right."""
        found = labelled([1, 2, 2, 2, 2, 3, 3, 3, 3], ["b", *"aabb", *"aabb"])
        features_NKD = torch.tensor([-1.0, -1, -1, 1, 1, -1, -1, 1, 1])[:, None, None]

        metrics = audio_datasets.cross_validate(found, features_NKD, svm.Settings(cs=(1.0,)))

        assert [metrics[f"fold{fold}_top1"] for fold in (1, 2, 3)] == [0, 100, 100]
        assert metrics["top1"] == pytest.approx(200 / 3)

    def test_folds_that_teach_choose_c_and_the_judged_one_only_where_it_may(self) -> None:
        found, features_NKD = labelled(self.FOLDS, self.LABELS), noisy(1, self.LABELS)
        # other labels for fold 1 leave its own C alone, but not that of the others
        turned = [
            Recording(each.path, "bca"["abc".index(each.label)] if each.fold == 1 else each.label, each.fold)
            for each in found
        ]

        honest, moved = (audio_datasets.cross_validate(some, features_NKD, svm.Settings()) for some in (found, turned))
        optimistic = audio_datasets.cross_validate(found, features_NKD, svm.Settings(select="test"))

        assert honest["fold1_c"] == moved["fold1_c"]
        assert honest != moved
        assert (honest["selected_on_test"], optimistic["selected_on_test"]) == (0, 1)
        for fold in range(1, 6):
            assert optimistic[f"fold{fold}_top1"] >= honest[f"fold{fold}_top1"]
        assert any(optimistic[f"fold{fold}_c"] != honest[f"fold{fold}_c"] for fold in range(1, 6))

    def test_the_official_folds_are_kept_whole_while_c_is_chosen(self) -> None:
        """Each sound's double lies in its fold, under a random label: only who splits folds believes in memory."""
        rng = torch.Generator().manual_seed(0)
        folds, labels = (
            [1 + row % 4 for row in range(24)],
            ["ab"[int(bit)] for bit in torch.randint(2, (24,), generator=rng)],
        )
        row_ND = torch.randn(24, 40, generator=rng)
        found, features_NKD = labelled(folds * 2, labels * 2), torch.cat([row_ND, row_ND])[:, None]
        part_M = torch.tensor([each.fold for each in found if each.fold != 1])
        out_N = torch.tensor([each.fold == 1 for each in found])
        class_N = torch.tensor(["ab".index(each.label) for each in found])
        trial = svm.Trial(features_NKD[~out_N], class_N[~out_N], features_NKD[out_N], class_N[out_N])
        options = svm.Settings(cs=(1e-4, 1e-2, 1.0))

        metrics = audio_datasets.cross_validate(found, features_NKD, options)

        split = svm.folds(trial.target_M, [str(each.path) for each in found if each.fold != 1], folds=3)
        assert metrics["fold1_c"] == svm.select_C(trial, part_M, classes=2, settings=options)
        assert metrics["fold1_c"] != svm.select_C(trial, split, classes=2, settings=options)

    def test_two_folds_are_enough_and_one_is_not(self) -> None:
        """Class a is rare, and one part in each of the two folds: only a strong machine finds it."""
        labels = [*"bbbbabbbba"] * 4
        features_NKD = torch.tensor([-1.0 if label == "a" else 1.0 for label in labels])[:, None, None] + 1

        two = audio_datasets.cross_validate(labelled([1] * 20 + [2] * 20, labels), features_NKD, svm.Settings())

        assert two["top1"] == 100
        assert two["fold1_c"] > 1e-5
        with pytest.raises(ValueError, match=r"at least two folds, got \[1\]"):
            audio_datasets.cross_validate(labelled([1] * 40, labels), features_NKD, svm.Settings())


class TestTrainTest:
    LABELS = tuple("abc"[row % 3] for row in range(45))

    def both(self, **changes: Any) -> dict[str, float]:
        fit, on = (
            labelled([0] * 45, self.LABELS),
            [Recording(Path(f"on{row}"), label) for row, label in enumerate(self.LABELS)],
        )
        metrics: dict[str, float] = audio_datasets.train_test(
            fit, noisy(3, self.LABELS), on, noisy(4, self.LABELS), settings=svm.Settings(**changes)
        )
        return metrics

    def test_two_lists_of_sounds_that_an_encoder_tells_apart(self, esc: Path) -> None:
        for name, folds in (("train", "123"), ("test", "45")):
            lines = [
                f"audio/{fold}-{target}-{take}.wav\tpitch{target}"
                for fold in folds
                for target in range(3)
                for take in "AB"
            ]
            (esc / f"{name}.txt").write_text("\n".join(lines))
        fit, on = (audio_datasets.read_list(esc / f"{name}.txt", esc) for name in ("train", "test"))
        fit_MKD, on_NKD = (audio_datasets.encode(each, loudest_band, sample_rate=RATE) for each in (fit, on))

        metrics = audio_datasets.train_test(fit, fit_MKD, on, on_NKD, settings=svm.Settings())

        assert (metrics["top1"], metrics["top1_low"], metrics["top1_high"]) == (
            100,
            pytest.approx(100 * 12 / 15.8415, abs=1e-3),
            100,
        )
        assert metrics["top1_chance"] == pytest.approx(100 / 3)

    def test_agrees_with_scikit_learn(self) -> None:
        oracle = SVM.LinearSVC(C=0.1, dual=False).fit(noisy(3, self.LABELS)[:, 0].numpy(), self.LABELS)
        right_N = torch.tensor(oracle.predict(noisy(4, self.LABELS)[:, 0].numpy()) == np.array(self.LABELS))

        metrics = self.both(cs=(0.1,))

        assert metrics["top1"] == pytest.approx(100 * right_N.double().mean().item())
        assert (metrics["top1_low"], metrics["top1_high"]) == bootstrap_ci(right_N)
        assert (metrics["c"], metrics["selected_on_test"]) == (0.1, 0)

    def test_the_papers_way_is_marked_and_never_scores_less(self) -> None:
        honest, optimistic = self.both(), self.both(select="test")

        assert (honest["selected_on_test"], optimistic["selected_on_test"]) == (0, 1)
        assert optimistic["top1"] == max(self.both(cs=(c,))["top1"] for c in svm.Settings().cs) >= honest["top1"]

    def test_a_label_that_was_not_taught_is_missed(self) -> None:
        fit = labelled([0] * 4, ["a", "a", "b", "b"])
        on = [Recording(Path(f"on{row}"), label) for row, label in enumerate(["b", "z"])]
        row = torch.tensor([-1.0, -1, 1, 1])[:, None, None]

        metrics = audio_datasets.train_test(fit, row, on, torch.ones(2, 1, 1), settings=svm.Settings())

        assert (metrics["top1"], metrics["top1_chance"]) == (50, 25)

    def test_a_sound_in_both_lists_is_refused(self) -> None:
        some = labelled([0, 0], ["a", "b"])

        with pytest.raises(AnnotationError, match=r"001\.wav: is in both lists"):
            audio_datasets.train_test(some, torch.ones(2, 1, 1), some[1:], torch.ones(1, 1, 1), settings=svm.Settings())

    def test_one_sound_a_label_can_hold_nothing_out_to_choose_c(self) -> None:
        some = labelled([0, 0, 0], "aab")
        row = torch.ones(2, 1, 1)

        with pytest.raises(ValueError, match=r"give one C with --svm\.cs"):
            audio_datasets.train_test(some[1:], row, some[:1], row[:1], settings=svm.Settings())
