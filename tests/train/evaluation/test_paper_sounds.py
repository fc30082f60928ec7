"""Sounds classified as the papers do: numbers are those of loops that are written out here."""

import dataclasses
import json
import math
import re
import statistics
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.io import wavfile
from torch import nn

from kinetics_sounds import memory
from kinetics_sounds.train import RawClip, evaluate
from kinetics_sounds.train.data.views import clip_and_log_mel
from kinetics_sounds.train.evaluation import audio_datasets, linear_head, papers, sound_features
from kinetics_sounds.train.evaluation.encoders import Encoders, load
from kinetics_sounds.train.evaluation.features import time_pooled
from kinetics_sounds.train.evaluation.protocols import sounds
from kinetics_sounds.train.probes import svm
from kinetics_sounds.train.probes.svm import Trial

SVM = pytest.importorskip("sklearn.svm")
RATE = 16_000
CS = (1e-4, 1e-2, 1.0)


@pytest.fixture(scope="module")
def esc(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three folds of two noises, three files each, which are hard to tell apart."""
    folder = tmp_path_factory.mktemp("esc")
    rows = ["filename,fold,target,category,src_file"]
    (folder / "audio").mkdir()
    (folder / "meta").mkdir()
    for fold in (1, 2, 3):
        for number in range(6):
            target = number % 2
            rng = np.random.default_rng(10 * fold + number)
            time = np.arange(RATE // 2) / RATE
            tone = (0.02 + 0.02 * target) * np.sin(2 * np.pi * (400 + 300 * rng.random()) * time)
            name = f"{fold}-{10 * fold + number}-A-{target}.wav"
            wavfile.write(folder / "audio" / name, RATE, (tone + rng.normal(0, 0.1, len(time))).astype(np.float32))
            rows.append(f"{name},{fold},{target},{['quiet', 'loud'][target]},{10 * fold + number}")
    (folder / "meta" / "esc50.csv").write_text("\n".join(rows) + "\n")
    return folder


@pytest.fixture
def judge(finished: Path, esc: Path, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """A function from a protocol and more options to the results of the finished run."""

    def results(name: str, *more: str) -> dict[str, Any]:
        argv = [
            f"--protocol={name}",
            f"--run={finished}",
            f"--folder={esc}",
            f"--out={tmp_path / 'out'}",
            "--device=cpu",
        ]
        assert evaluate.main([*argv, *more]) == 0
        told: dict[str, Any] = json.loads((tmp_path / "out" / "results.json").read_text())
        return told

    return results


def dark(made: Encoders, wave: np.ndarray) -> RawClip:
    frames_THWC = np.zeros((round(len(wave) / made.mel.sample_rate * 25), 16, 16, 3), dtype=np.uint8)
    return RawClip(
        frames_THWC=frames_THWC, fps=25.0, mel_FT=made.mel_image(wave), sound=wave, of=made.dataset, key="a sound"
    )


@torch.no_grad()
def encoded(finished: Path, esc: Path, *, clips: int) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Last maps of the whole file, and of random clips of it, by file name."""
    made = load(finished)
    found = {}
    for path in sorted((esc / "audio").iterdir()):
        wave = audio_datasets.read_wav(path, sample_rate=made.mel.sample_rate)
        generator = np.random.default_rng([0, zlib.crc32(wave.tobytes())])
        shown = []
        for _ in range(clips):
            assert int(generator.integers(1)) == 0  # where the clip begins: the whole file
            view = made.view.train_view(dark(made, wave), made.view_settings, generator)
            inputs = made.view.augment({name: each[None] for name, each in view.items()}, made.view_settings)
            shown.append(made.audio.maps(inputs["audio"][0], ("conv5",))["conv5"].flatten().numpy())
        whole = made.preprocess(dark(made, wave))["audio"]
        found[path.name] = (made.audio.maps(whole, ("conv5",))["conv5"].flatten().numpy(), np.stack(shown))
    return found


def accuracy(machine: Any, names: list[str], of: dict[str, tuple[np.ndarray, np.ndarray]]) -> float:
    right = [(machine.decision_function(of[name][0][None])[0] > 0) == (int(name[-5]) == 1) for name in names]
    return 100 * float(np.mean(right))


def test_the_svm_of_random_clips_and_its_c_are_those_of_a_plain_loop(
    judge: Callable[..., dict[str, Any]], finished: Path, esc: Path
) -> None:
    """C is the smallest of those that are best on the evaluated fold, as the papers choose it."""
    more = ("--fit_clips=2", "--svm.select=test", f"--svm.cs={[*CS]}", "--windows=1", "--svm.iterations=5000")
    told = judge("esc50_avid", *more)["scores"]
    of = encoded(finished, esc, clips=2)
    top1 = []
    for fold in (1, 2, 3):
        on = [name for name in of if name[0] == str(fold)]
        fit = [name for name in of if name[0] != str(fold)]
        rows = np.concatenate([of[name][1] for name in fit]).astype(np.float64)
        targets = np.repeat([int(name[-5]) for name in fit], 2)
        scores = {}
        for c in CS:
            machine = SVM.LinearSVC(C=c, dual=False, max_iter=5000).fit(rows, targets)
            scores[c] = accuracy(machine, on, of)
        best = max(CS, key=lambda c: (scores[c], -c))
        top1.append(scores[best])
        assert (told[f"fold{fold}_c"], told[f"fold{fold}_top1"]) == (best, pytest.approx(scores[best]))

    assert told["top1"] == pytest.approx(statistics.fmean(top1))
    half = 4.302653 * statistics.stdev(top1) / math.sqrt(3)  # Student's t of 95 %, two degrees of freedom
    assert told["top1_high"] == pytest.approx(min(100, statistics.fmean(top1) + half), abs=1e-4)
    assert told["selected_on_test"] == 1


def test_c_of_the_training_folds_does_not_look_at_the_test_fold(
    judge: Callable[..., dict[str, Any]], finished: Path, esc: Path
) -> None:
    told = judge("esc50_avid", "--fit_clips=1", f"--svm.cs={[*CS]}", "--windows=1", "--svm.iterations=5000")["scores"]
    of = encoded(finished, esc, clips=1)
    rest, chosen = ("2", "3"), {}
    for c in CS:
        right = 0.0
        for out in rest:
            fit = [name for name in of if name[0] in rest and name[0] != out]
            rows = np.concatenate([of[name][1] for name in fit]).astype(np.float64)
            machine = SVM.LinearSVC(C=c, dual=False, max_iter=5000).fit(rows, [int(name[-5]) for name in fit])
            held = {name: (of[name][1][0], of[name][1]) for name in of if name[0] == out}
            right += accuracy(machine, list(held), held)
        chosen[c] = right

    assert told["fold1_c"] == max(CS, key=lambda c: (chosen[c], -c))
    assert told["selected_on_test"] == 0


ESC50, DCASE2014 = (2000, [(1600, 400)] * 5), (200, [(100, 100)])
WIDTHS = {"esc50_avid": 113_152, "dcase_avid": 113_152, "esc50_crisscross": 10_752, "esc50_crisscross_2s": 4608}
WIDTHS |= {f"esc50_avid_small_conv{layer}": 9216 for layer in (2, 3, 4, 5)}
"""Numbers of a clip's maps, as the papers' networks have them."""


@pytest.mark.parametrize("name", sorted(WIDTHS))
def test_the_memory_that_a_protocol_says_is_that_of_its_rows(name: str) -> None:
    protocol = papers.find(name)
    recordings, divisions = ESC50 if name.startswith("esc50") else DCASE2014
    counts = {each: int(protocol.options[each]) for each in ("windows", "fit_clips")}

    needed = audio_datasets.fit_bytes(recordings, divisions, **counts, dim=WIDTHS[name], classifier=svm.Settings())

    (told,) = re.findall(r"up to (\d+) GB of memory", "\n".join(protocol.head))
    assert round(needed / 1e9) == int(told)


def test_memory_by_hand() -> None:
    """Ten recordings, eight to train on: their features, a copy of a fold, and of what is fitted 24 bytes a number more."""
    options = {"windows": 1, "fit_clips": 3, "dim": 5}
    stored, copies, fitted = 4 * 10 * (1 + 3) * 5, 4 * (8 * 3 + 2 * 1) * 5, 24 * 8 * 3 * 5

    found = [
        audio_datasets.fit_bytes(10, [(8, 2), (7, 3)], **options, classifier=each)
        for each in (svm.Settings(), linear_head.Settings())
    ]
    assert found == [stored + copies + fitted, stored + copies]


def test_what_does_not_fit_into_memory_is_refused_before_it_is_encoded(
    finished: Path, esc: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(memory, "total", lambda: 100_000_000)
    argv = ["sounds", f"--run={finished}", f"--folder={esc}", "--device=cpu", "--features=map", "--fit_clips=1000000"]

    assert evaluate.main(argv) == 2

    assert re.search(
        r"--fit_clips 1000000: takes up to [0-9.]+ GB for 18,000,000 rows of [0-9,]+ numbers; there are 0.1 GB; give fewer",
        capsys.readouterr().err,
    )


def test_where_the_machine_s_memory_is_not_known_nothing_is_said_of_it(
    judge: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(memory, "total", lambda: math.inf)
    judge("dcase_iicl", "--windows=2", "--seconds=0.2", "--head.epochs=1")

    assert re.search(r"(?m)^memory: up to [0-9.]+ GB for 36 rows of [0-9,]+ numbers$", capsys.readouterr().out)


def test_a_linear_classifier_is_told_by_its_settings(judge: Callable[..., dict[str, Any]]) -> None:
    told = judge("dcase_iicl", "--windows=2", "--seconds=0.2", "--head.epochs=3")

    assert told["given"] == {"head.epochs": 3, "seconds": 0.2, "windows": 2}
    assert (told["uses"], told["windows"]) == ("sounds", 2)
    assert {"fold1_top1", "top1", "top1_std"} <= told["scores"].keys()
    assert "fold1_c" not in told["scores"]
    assert told["note"].startswith("this is esc50 (2 classes), the protocol is for DCASE 2014 (10 classes): ")


def test_the_linear_classifier_is_adam_on_cross_entropy() -> None:
    """One batch an epoch and no dropout: by the formulas of Kingma and Ba, with the penalty in the gradient."""
    rng = torch.Generator().manual_seed(1)
    fit_MKD, on_NKD = torch.randn(4, 2, 3, generator=rng), torch.randn(5, 2, 3, generator=rng)
    target_M = torch.tensor([0, 1, 2, 1])
    settings = linear_head.Settings(epochs=4, batch=512, lr=0.05, weight_decay=0.1, dropout=0.0, seed=3)
    torch.manual_seed(3)
    head = nn.Linear(3, 3)
    values = [head.weight.detach().double().numpy(), head.bias.detach().double().numpy()]
    first, second = ([np.zeros_like(value) for value in values] for _ in range(2))
    rows, hot = fit_MKD.flatten(0, 1).double().numpy(), np.eye(3)[target_M.repeat_interleave(2)]

    def softmax(logits: np.ndarray) -> np.ndarray:
        powers: np.ndarray = np.exp(logits - logits.max(axis=-1, keepdims=True))
        shares: np.ndarray = powers / powers.sum(axis=-1, keepdims=True)
        return shares

    for step in range(1, 5):
        error = (softmax(rows @ values[0].T + values[1]) - hot) / len(rows)
        for number, gradient in enumerate((error.T @ rows, error.sum(axis=0))):
            gradient = gradient + 0.1 * values[number]
            first[number] = 0.9 * first[number] + 0.1 * gradient
            second[number] = 0.999 * second[number] + 0.001 * gradient**2
            mean, spread = first[number] / (1 - 0.9**step), second[number] / (1 - 0.999**step)
            values[number] = values[number] - 0.05 * mean / (np.sqrt(spread) + 1e-8)
    mine = softmax(on_NKD.double().numpy() @ values[0].T + values[1]).mean(axis=1)

    found_NC = linear_head.probabilities(Trial(fit_MKD, target_M, on_NKD, torch.zeros(5)), classes=3, settings=settings)
    np.testing.assert_allclose(found_NC.numpy(), mine, atol=1e-5)


@pytest.mark.parametrize(("columns", "dim"), [(7, 4608), (16, 10752), (4, 1536)])
def test_maps_pooled_over_time_have_the_papers_widths(columns: int, dim: int) -> None:
    assert time_pooled(torch.rand(2, 512, 3, columns)).shape == (2, dim)


def test_maps_pooled_over_time_by_hand() -> None:
    """The largest of columns 0-2, 2-4 and 4-6: 2, 4 and 6, whose squares sum to 56."""
    found = time_pooled(torch.arange(7.0).view(1, 1, 1, 7))

    torch.testing.assert_close(found, torch.tensor([[2.0, 4.0, 6.0]]) / math.sqrt(56))
    assert torch.equal(time_pooled(torch.arange(7.0).view(1, 1, 1, 1, 7)), found)


def test_a_longer_sound_is_rendered_as_the_view_would(finished: Path) -> None:
    settings = clip_and_log_mel.Settings(
        frames=1, views=2, temporal="mild", crop=16, resize=16, audio_mean=(0.0,), audio_std=(1.0,)
    )
    made = dataclasses.replace(load(finished), view=clip_and_log_mel, view_settings=settings)
    asked = sounds.Settings(run=finished, folder=finished, view_seconds=5.0, fit_clips=1, audio_augment="spec_mask")
    heard = sounds._heard(made, asked)

    assert heard.view.inputs(heard.view_settings).audio == (1, 1, 80, 500)
    assert (heard.view_settings.audio_augment, heard.view_settings.views) == ("spec_mask", 1)
    assert made.view.inputs(made.view_settings).audio == (1, 1, 80, 200)


def test_maps_of_a_layer_are_pooled_to_the_largest_square_grid(finished: Path) -> None:
    """R3D of width 2 has 2, 4, 8 and 16 channels in conv2 to conv5; of 16 channels 24 x 24 cells are 9216 numbers."""
    made, wave = load(finished), np.random.default_rng(0).normal(0, 0.1, 12_000).astype(np.float32)
    for layer, channels in (("conv2", 2), ("conv4", 8), ("conv5", 16)):
        found_KD = sound_features.encode_sound(made, [wave], kind="grid", layer=layer)
        maps = made.audio.maps(made.preprocess(dark(made, wave))["audio"], (layer,))[layer]
        side = math.isqrt(9216 // channels)
        assert found_KD.shape == (1, channels * side**2)
        assert found_KD.view(channels, -1).amax(dim=1).tolist() == pytest.approx(maps.amax(dim=(0, 2, 3, 4)).tolist())


def test_random_clips_differ_are_repeated_and_follow_the_seed(finished: Path) -> None:
    made, wave = load(finished), np.random.default_rng(0).normal(0, 0.1, 12_000).astype(np.float32)
    one, again, other = (
        sound_features.encode_random(made, wave, clips=3, length=6_000, seed=seed, kind="pooled") for seed in (0, 0, 1)
    )

    assert one.shape[0] == 3
    assert not torch.equal(one[0], one[1])
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--audio_augment=spec_mask",), "is for random clips; give --fit_clips too"),
        (("--head.epochs=3",), "--head.*: options of a classifier that is not used (--classifier svm)"),
        (("--classifier=linear", "--svm.folds=2"), "--svm.*: options of a classifier that is not used"),
        (("--view_seconds=5",), "this run's renders the whole; for windows of it give --seconds instead"),
        (("--view_seconds=2", "--seconds=2"), "such as crisscross_k400; this run's renders the whole\n"),
        (("--view_seconds=-1",), "--view_seconds -1.0: must be more than 0"),
        (("--fit_clips=-1",), "--fit_clips"),
        (("--layer=conv3",), "--features pooled are of the last one; give map or grid"),
        (("--layer=conv9", "--features=map"), "has no layer 'conv9'; it has: conv1"),
        (("--fit_clips=1", "--audio_augment=loud"), "loud"),
        (("--classifier=linear", "--head.lr=0"), "head"),
    ],
)
def test_options_without_effect_are_refused(
    more: tuple[str, ...], said: str, finished: Path, esc: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate.main(["sounds", f"--run={finished}", f"--folder={esc}", "--device=cpu", *more]) == 2
    assert said in capsys.readouterr().err
