"""ks-eval sounds: folders of tones in the layouts of ESC-50 and DCASE, told apart by a run's audio encoder."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.io import wavfile

from kinetics_sounds import progress
from kinetics_sounds.errors import AnnotationError, ListError
from kinetics_sounds.train import RawClip, evaluate, load
from kinetics_sounds.train.evaluation import audio_datasets, sound_features
from kinetics_sounds.train.evaluation.protocols import sounds
from kinetics_sounds.train.probes import svm

pytest.importorskip("sklearn")

PITCHES = {"low": 200.0, "high": 5000.0}
RATE = 16_000


def write_tone(path: Path, hertz: float, *, seed: int) -> None:
    """Half a second of a tone in a little noise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    time = np.arange(RATE // 2) / RATE
    noise = np.random.default_rng(seed).normal(0, 0.01, len(time))
    wavfile.write(path, RATE, (0.5 * np.sin(2 * np.pi * hertz * time) + noise).astype(np.float32))


@pytest.fixture(scope="module")
def esc(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five folds of two tones: ten files."""
    folder = tmp_path_factory.mktemp("esc")
    rows = ["filename,fold,target,category,src_file"]
    for fold in range(1, 6):
        for target, (pitch, hertz) in enumerate(PITCHES.items()):
            source = 10 * fold + target
            name = f"{fold}-{source}-A-{target}.wav"
            write_tone(folder / "audio" / name, hertz, seed=10 * fold + target)
            rows.append(f"{name},{fold},{target},{pitch},{source}")
    (folder / "meta").mkdir()
    (folder / "meta" / "esc50.csv").write_text("\n".join(rows) + "\n")
    return folder


@pytest.fixture(scope="module")
def dcase(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight files of two tones, divided in two ways."""
    folder = tmp_path_factory.mktemp("dcase")
    lines = []
    for number in range(8):
        label = list(PITCHES)[number % 2]
        write_tone(folder / "audio" / f"{number}.wav", PITCHES[label], seed=number)
        lines.append(f"audio/{number}.wav\t{label}\n")
    (folder / "meta.txt").write_text("".join(lines))
    (folder / "evaluation_setup").mkdir()
    for fold, on in ((1, slice(0, 4)), (2, slice(4, 8))):
        (folder / "evaluation_setup" / f"fold{fold}_train.txt").write_text(
            "".join(line for line in lines if line not in lines[on])
        )
        (folder / "evaluation_setup" / f"fold{fold}_evaluate.txt").write_text("".join(lines[on]))
    return folder


@pytest.fixture
def judge(finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., dict[str, Any]]:
    """A function from a folder and more options to the results of `ks-eval sounds` on the finished run."""

    def results(folder: Path, *more: str) -> dict[str, Any]:
        argv = ["sounds", f"--run={finished}", f"--folder={folder}", f"--out={tmp_path / 'out'}", "--device=cpu", *more]
        assert evaluate.main([*argv, "--svm.cs=[1000.0]"]) == 0
        told: dict[str, Any] = json.loads((tmp_path / "out" / "results.json").read_text())
        return told

    return results


class TestEsc50:
    def test_the_score_is_the_mean_of_the_five_folds(self, judge: Callable[..., dict[str, Any]], esc: Path) -> None:
        told = judge(esc)

        scores = told["scores"]
        assert scores["top1"] == pytest.approx(np.mean([scores[f"fold{fold}_top1"] for fold in range(1, 6)]))
        assert scores["top1_chance"] == 50
        assert scores["fold5_c"] == 1000
        assert (told["samples"], told["on_split"], told["checkpoint"]) == (10, str(esc), "step-00000006")

    def test_tones_of_two_pitches_are_told_apart(self, judge: Callable[..., dict[str, Any]], esc: Path) -> None:
        assert judge(esc)["scores"]["top1"] == 100

    def test_windows_are_learnt_from_one_by_one(self, judge: Callable[..., dict[str, Any]], esc: Path) -> None:
        told = judge(esc, "--windows=3", "--seconds=0.2", "--features=conv5")

        assert (told["windows"], told["seconds"], told["features"]) == (3, 0.2, "conv5")
        assert told["scores"]["top1"] == 100

    def test_the_untrained_encoder_has_other_features(
        self, judge: Callable[..., dict[str, Any]], esc: Path, finished: Path
    ) -> None:
        tone = np.sin(np.arange(12_000, dtype=np.float32))
        before, after = (
            sound_features.encode_sound(load(finished, name), [tone], kind="pooled") for name in (None, "last")
        )

        assert judge(esc, "--untrained")["checkpoint"] == "untrained"
        assert not torch.allclose(before, after)

    def test_progress_of_encoding_and_of_each_c_is_told(
        self, finished: Path, esc: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Ten recordings; in each of five folds two values of C and the final fit."""
        told: list[str] = []
        monkeypatch.setattr(progress.log, "info", lambda text, *values: told.append(text % values))
        argv = [
            "sounds",
            f"--run={finished}",
            f"--folder={esc}",
            f"--out={tmp_path}",
            "--device=cpu",
            "--svm.cs=[1, 1000]",
        ]
        assert evaluate.main(argv) == 0

        assert any(line.startswith("encoding recordings 10/10 ") for line in told)
        assert any(line.startswith("fitting classifiers 15/15 ") for line in told)


class TestDcase:
    def test_the_score_is_the_mean_of_the_divisions(self, judge: Callable[..., dict[str, Any]], dcase: Path) -> None:
        told = judge(dcase)

        assert told["samples"] == 8
        assert told["scores"]["fold1_top1"] == told["scores"]["fold2_top1"] == told["scores"]["top1"] == 100
        assert told["scores"]["top1_chance"] == 50

    def test_one_division_has_an_interval(
        self, judge: Callable[..., dict[str, Any]], dcase: Path, tmp_path: Path
    ) -> None:
        folder = Path(shutil.copytree(dcase, tmp_path / "one"))
        for name, old in (("train", "fold1_train"), ("test", "fold1_evaluate")):
            shutil.move(folder / "evaluation_setup" / f"{old}.txt", folder / f"{name}.txt")

        scores = judge(folder)["scores"]

        assert {name: scores[name] for name in ("top1", "top1_low", "top1_high", "c")} == {
            "top1": 100,
            "top1_low": pytest.approx(100 * 4 / 7.8415, abs=1e-3),  # Wilson's bound of four hits of four
            "top1_high": 100,
            "c": 1000,
        }

    def test_the_lists_of_2019_and_later_are_read_as_the_earlier_ones(self, dcase: Path, tmp_path: Path) -> None:
        folder = Path(shutil.copytree(dcase, tmp_path / "later"))
        for path in (folder / "evaluation_setup").glob("*.txt"):
            path.with_suffix(".csv").write_text("filename\tscene_label\n" + path.read_text())
            path.unlink()

        assert sounds.fingerprint(sounds.read(folder), folder) == sounds.fingerprint(sounds.read(dcase), dcase)

    def test_lists_are_read_before_folders_that_are_called_as_the_scenes_of_2014(
        self, dcase: Path, tmp_path: Path
    ) -> None:
        folder = Path(shutil.copytree(dcase, tmp_path / "named"))
        (folder / "scenes_stereo").mkdir()
        (folder / "set1" / "scenes_stereo").mkdir(parents=True)

        assert sounds.fingerprint(sounds.read(folder), folder) == sounds.fingerprint(sounds.read(dcase), dcase)
        for name, old in (("train", "fold1_train"), ("test", "fold1_evaluate")):
            shutil.move(folder / "evaluation_setup" / f"{old}.txt", folder / f"{name}.txt")
        assert sounds.read(folder).divisions == (sounds.read(folder).divisions[0],)

    def test_a_fold_whose_lists_are_there_in_both_forms_counts_once(self, dcase: Path, tmp_path: Path) -> None:
        folder = Path(shutil.copytree(dcase, tmp_path / "both"))
        lists = folder / "evaluation_setup"
        for name in ("fold1_train", "fold1_evaluate", "fold2_evaluate"):
            (lists / f"{name}.csv").write_text("filename\tscene_label\n" + (lists / f"{name}.txt").read_text())
        (lists / "fold2_evaluate.txt").unlink()  # of the second fold, what teaches is a .txt, what is judged a .csv

        assert sounds.fingerprint(sounds.read(folder), folder) == sounds.fingerprint(sounds.read(dcase), dcase)

    @pytest.mark.parametrize("name", ["fold1_train", "fold2_evaluate"])
    def test_two_lists_of_one_fold_that_differ_are_refused(self, name: str, dcase: Path, tmp_path: Path) -> None:
        folder = Path(shutil.copytree(dcase, tmp_path / "differ"))
        lists = folder / "evaluation_setup"
        (lists / f"{name}.csv").write_text("".join((lists / f"{name}.txt").read_text().splitlines(keepends=True)[1:]))

        with pytest.raises(ListError, match=rf"{name}\.csv: lists other sounds or labels than .*{name}\.txt"):
            sounds.read(folder)

    def test_a_sound_that_teaches_in_one_division_may_be_judged_in_another(self, dcase: Path) -> None:
        found = sounds.read(dcase)

        assert len(found.recordings) == len({each.path for each in found.recordings}) == 8
        assert {each.path.name for each in found.divisions[0][0]} == {f"{number}.wav" for number in range(4, 8)}
        assert {each.path.name for each in found.divisions[1][1]} == {f"{number}.wav" for number in range(4, 8)}

    def test_scores_of_divisions_are_those_of_each_alone(self, dcase: Path) -> None:
        """Features that tell half of the clips apart."""
        found = sounds.read(dcase)
        features_NKD = torch.randn(8, 2, 3, generator=torch.Generator().manual_seed(0))
        settings = svm.Settings(cs=(1.0,))
        row = {each.path: number for number, each in enumerate(found.recordings)}

        scores = sounds.score(found, features_NKD, settings)

        for number, (fit, on) in enumerate(found.divisions, start=1):
            rows = [[row[each.path] for each in part] for part in (fit, on)]
            alone = audio_datasets.train_test(fit, features_NKD[rows[0]], on, features_NKD[rows[1]], settings=settings)
            assert scores[f"fold{number}_top1"] == alone["top1"]


class TestScenes:
    """DCASE 2014, small: two recordings of two classes in either half."""

    @pytest.fixture
    def scenes(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        monkeypatch.setattr(audio_datasets, "SCENE_RECORDINGS", 4)
        monkeypatch.setattr(audio_datasets, "SCENE_CLASSES", 2)
        for seed, half in enumerate(sounds.SCENES):
            for number in (1, 2):
                for label, hertz in PITCHES.items():
                    path = tmp_path / "dcase" / "set1" / half / half / f"{label}{number:02d}.wav"
                    write_tone(path, hertz, seed=10 * seed + number)
        return tmp_path / "dcase"

    @pytest.mark.parametrize("inner", ["", "set1"])
    def test_one_half_teaches_and_the_other_is_judged(
        self, judge: Callable[..., dict[str, Any]], scenes: Path, inner: str
    ) -> None:
        told = judge(scenes / inner, "--svm.folds=2")

        assert (told["samples"], told["scores"]["top1"], told["scores"]["top1_chance"]) == (8, 100, 50)
        [(fit, on)] = sounds.read(scenes / inner).divisions
        assert {each.path.parent.name for each in fit} == {"scenes_stereo"}
        assert {each.path.parent.name for each in on} == {"scenes_stereo_testset"}

    def test_half_of_it_is_told_in_one_line(
        self, scenes: Path, finished: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        shutil.rmtree(scenes / "set1" / "scenes_stereo")

        assert evaluate.main(["sounds", f"--run={finished}", f"--folder={scenes}", "--device=cpu"]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert "has no recording in a folder scenes_stereo; give --folder where both parts are unpacked" in line

    def test_a_half_that_is_not_whole_is_told_with_what_it_has(self, scenes: Path) -> None:
        (scenes / "set1/scenes_stereo/scenes_stereo/low02.wav").unlink()

        with pytest.raises(
            AnnotationError,
            match=r"scenes_stereo has 3 recordings of 2 classes \(high 2, low 1\), where DCASE 2014 has 4",
        ):
            sounds.read(scenes)

    def test_what_macos_leaves_is_no_recording(self, scenes: Path) -> None:
        (scenes / "set1/scenes_stereo/scenes_stereo/._low01.wav").write_bytes(b"an attribute")

        assert len(sounds.read(scenes).recordings) == 8


class TestFeatures:
    def test_are_the_audio_encoders_of_the_mel_spectrogram_that_the_shards_hold(self, finished: Path) -> None:
        encoders = load(finished)
        tone = np.sin(np.arange(12_000, dtype=np.float32) / 5)
        grey_THWC = np.full((16, 40, 40, 3), 128, dtype=np.uint8)
        _, expected_D = encoders.features(RawClip(frames_THWC=grey_THWC, fps=25.0, mel_FT=encoders.mel_image(tone)))

        found_KD = sound_features.encode_sound(encoders, [tone, tone], kind="pooled")

        torch.testing.assert_close(found_KD, expected_D.expand(2, -1), rtol=1e-4, atol=1e-5)


class TestWindows:
    WAVE = np.arange(10, dtype=np.float32)

    @pytest.mark.parametrize(
        ("count", "length", "found"),
        [
            (1, None, [(0, 10)]),
            (1, 4, [(3, 7)]),
            (2, 4, [(0, 4), (6, 10)]),
            (3, 4, [(0, 4), (3, 7), (6, 10)]),
            (2, 20, [(0, 10), (0, 10)]),
        ],
    )
    def test_are_evenly_spaced(self, count: int, length: int | None, found: list[tuple[int, int]]) -> None:
        windows = sound_features.windows(self.WAVE, count, length=length)

        assert [window.tolist() for window in windows] == [list(range(*each)) for each in found]


class TestFingerprint:
    def test_is_that_of_the_set_and_not_of_its_order_or_place(self, esc: Path, tmp_path: Path) -> None:
        here, there = esc, Path(shutil.copytree(esc, tmp_path / "moved"))
        recordings, moved = (sounds.read(folder).recordings for folder in (here, there))

        told = sounds.fingerprint(sounds.Sounds(recordings), here)

        assert told == sounds.fingerprint(sounds.Sounds(moved[::-1]), there)
        assert told != sounds.fingerprint(sounds.Sounds(recordings[1:]), here)

    def test_lists_that_are_swapped_or_divided_in_another_way_are_another_set(self, dcase: Path) -> None:
        found = sounds.read(dcase)
        first, second = found.divisions
        others = [(first[::-1], second), (second, first), (first,), (second,)]

        told = {sounds.fingerprint(sounds.Sounds(found.recordings, each), dcase) for each in others}

        assert len(told | {sounds.fingerprint(found, dcase)}) == 5

    def test_files_of_the_same_name_in_two_folders_are_two(self) -> None:
        folder = Path("set")
        one, other = (audio_datasets.Recording(folder / inner / "1.wav", "bus", 1) for inner in "ab")

        assert sounds.fingerprint(sounds.Sounds((one,)), folder) != sounds.fingerprint(sounds.Sounds((other,)), folder)


class TestMisuse:
    @pytest.mark.parametrize(
        ("argv", "complaint"),
        [
            (
                ["--folder={tmp}"],
                r"is not a folder of sounds: it has no meta/esc50.csv, no train.txt, no set1/scenes_stereo",
            ),
            (["--folder={esc}", "--windows=2"], r"--windows 2: .* set their length with --seconds"),
            (["--folder={esc}", "--windows=0"], r"--windows 0: must be at least 1"),
            (["--folder={esc}", "--seconds=0"], r"--seconds 0.0: must be more than 0"),
            (["--folder={esc}", "--svm.folds=1"], r"--svm\.folds 1: must be at least 2; see ks-eval sounds --help"),
            (["--folder={esc}", "--run=/nowhere"], r"/nowhere: is not a training run"),
            ([], r"folder"),
        ],
    )
    def test_is_told_in_one_line(
        self,
        argv: list[str],
        complaint: str,
        finished: Path,
        esc: Path,
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        options = [word.format(tmp=tmp_path, esc=esc) for word in argv]

        assert evaluate.main(["sounds", f"--run={finished}", "--device=cpu", *options]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert re.search(complaint, line), line

    def test_a_division_without_its_other_half_names_the_file(self, dcase: Path, tmp_path: Path) -> None:
        folder = Path(shutil.copytree(dcase, tmp_path / "half"))
        (folder / "evaluation_setup" / "fold2_evaluate.txt").unlink()

        with pytest.raises(ListError, match=r"fold2_evaluate.txt: is missing; give --folder"):
            sounds.read(folder)

    def test_a_recording_that_is_not_there_is_named(self, esc: Path, tmp_path: Path) -> None:
        folder = Path(shutil.copytree(esc, tmp_path / "part"))
        (folder / "audio/3-31-A-1.wav").unlink()

        with pytest.raises(AnnotationError, match=r"audio/3-31-A-1\.wav: is missing; fetch it"):
            sounds.read(folder)

    def test_what_cannot_be_judged_fairly_is_refused_before_anything_is_encoded(
        self,
        finished: Path,
        esc: Path,
        dcase: Path,
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        one, twice = Path(shutil.copytree(esc, tmp_path / "one")), Path(shutil.copytree(dcase, tmp_path / "twice"))
        lines = (one / "meta" / "esc50.csv").read_text().splitlines()
        (one / "meta" / "esc50.csv").write_text("\n".join(lines[:3]))
        with (twice / "evaluation_setup" / "fold2_train.txt").open("a") as more:
            more.write("audio/5.wav\thigh\n")
        monkeypatch.delattr(sounds, "encode")

        for folder, complaint in (
            (one, "has recordings of fold 1 alone"),
            (twice, "audio/5.wav is in fold2 twice, as train and test"),
        ):
            assert evaluate.main(["sounds", f"--run={finished}", f"--folder={folder}", "--device=cpu"]) == 2
            assert complaint in capsys.readouterr().err
