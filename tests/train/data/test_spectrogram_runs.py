"""Runs whose view takes the set's statistics: by the commands, from a set to what is judged."""

import dataclasses
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from scipy.io import wavfile

from kinetics_sounds import stream, train
from kinetics_sounds.address import Address
from kinetics_sounds.pipelines import shard
from kinetics_sounds.shards import index, layout, stats
from kinetics_sounds.train import RawClip, evaluate, pretrain
from kinetics_sounds.train.data.loader import Loading
from kinetics_sounds.train.data.views import clip_and_spectrogram as view
from kinetics_sounds.train.engine import bench
from kinetics_sounds.train.evaluation import votes

from ..conftest import write_set

pytestmark = pytest.mark.slow

NUMBERS = ("--window_seconds=0.05", "--n_fft=64", "--hop_seconds=0.005")
VIEW = (
    *("--view=clip_and_spectrogram", "--method=avid", "--avid.negatives=4", "--avid.hidden=8", "--avid.dim=8"),
    *(f"--clip_and_spectrogram.{each}" for each in ("frames=4", "rate=10", "crop=28")),
    *(f"--clip_and_spectrogram.{each.removeprefix('--')}" for each in NUMBERS),
)


@pytest.fixture(scope="module")
def bare(films: dict[int, bytes], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six training and two test samples with their sound, without statistics; not to be changed."""
    folder = tmp_path_factory.mktemp("bare") / "shards"
    write_set(folder, {"train": (4, 2), "test": (2,)}, films, classes="tiny", sound=True)
    return folder


@pytest.fixture(scope="module")
def heard(bare: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with the training split's statistics; not to be changed."""
    folder = tmp_path_factory.mktemp("heard") / "shards"
    shutil.copytree(bare, folder)
    assert shard.main(["stats", str(folder), "--workers=1", *NUMBERS]) == 0
    return folder


@pytest.fixture(scope="module")
def trained(heard: Path, small: Callable[..., list[str]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of four steps; not to be changed."""
    out = tmp_path_factory.mktemp("runs") / "heard"
    assert pretrain.main(small(out, f"--shards={heard}", "--steps=4", *VIEW)) == 0
    return out


def settings_of(run: Path) -> view.Settings:
    found: view.Settings = train.load(run).view_settings
    return found


def test_without_statistics_the_command_that_computes_them_is_named(
    bare: Path, small: Callable[..., list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert pretrain.main(small(tmp_path / "run", f"--shards={bare}", *VIEW)) == 2

    command = f"ks-shard stats {bare} --split train --window_seconds 0.05 --n_fft 64 --hop_seconds 0.005"
    assert f"compute them with: {command}\n" in capsys.readouterr().err
    assert not (tmp_path / "run" / "config.yaml").exists()


@pytest.mark.parametrize("command", [(), ("bench",)])
def test_a_set_that_does_not_suit_is_told_before_its_statistics_are_missed(
    command: tuple[str, ...],
    bare: Path,
    small: Callable[..., list[str]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """They would be of a set that will be rebuilt."""
    argv = small(tmp_path / "run", f"--shards={bare}", *VIEW, "--clip_and_spectrogram.crop=224")

    assert pretrain.main([*command, *argv]) == 2
    assert "the view needs 256: ks-shard --short_side 256" in capsys.readouterr().err


def test_a_user_may_give_the_numbers(bare: Path, small: Callable[..., list[str]], tmp_path: Path) -> None:
    """In a recipe or on the command line; then nothing is asked of the set."""
    (tmp_path / "mine.yaml").write_text(
        "clip_and_spectrogram: {audio_mean: [-40], audio_std: [12.5]}\n", encoding="utf-8"
    )
    mine = f"--config={tmp_path / 'mine.yaml'}"
    own = ("--clip_and_spectrogram.audio_mean=[-39.0]", "--clip_and_spectrogram.audio_std=[12.0]")

    for name, given, mean in (("recipe", (mine,), (-40.0,)), ("options", own, (-39.0,))):
        argv = small(tmp_path / name, f"--shards={bare}", "--steps=1", *VIEW, *given)
        assert pretrain.main(argv) == 0
        assert settings_of(tmp_path / name).audio_mean == mean


def test_the_runs_config_says_the_sets_numbers(trained: Path, heard: Path) -> None:
    """So that it is standardised alike wherever it is evaluated, and again: config.yaml read back says the same."""
    (entry,) = stats.read(Address(str(heard)))
    told = yaml.safe_load((trained / "config.yaml").read_text())["clip_and_spectrogram"]

    np.testing.assert_allclose(told["audio_mean"], entry.mean, rtol=5e-6)
    np.testing.assert_allclose(told["audio_std"], entry.std, rtol=5e-6)
    assert len(told["audio_mean"]) == 17
    assert all(number == float(f"{number:.6g}") for number in told["audio_mean"])
    assert settings_of(trained).audio_mean == tuple(told["audio_mean"])


def test_a_run_goes_on_exactly_with_its_own_numbers(
    heard: Path, trained: Path, small: Callable[..., list[str]], tmp_path: Path
) -> None:
    """Whatever the set says by then, and by the same command."""
    own, run = tmp_path / "shards", tmp_path / "run"
    shutil.copytree(heard, own)
    shutil.copytree(trained, run)
    shutil.rmtree(run / "checkpoints" / "step-00000004")
    (own / layout.STATS).unlink()

    assert pretrain.main(small(run, f"--shards={own}", "--steps=4", *VIEW)) == 0

    for path in (trained / "checkpoints" / "step-00000004").glob("*.safetensors"):
        assert (run / "checkpoints" / "step-00000004" / path.name).read_bytes() == path.read_bytes()
    assert settings_of(run) == settings_of(trained)


def test_a_run_that_goes_on_with_another_window_asks_for_no_statistics_that_it_may_not_take(
    heard: Path, trained: Path, small: Callable[..., list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Only with --resume anyway it needs those of its new window."""
    run = Path(shutil.copytree(trained, tmp_path / "run"))
    argv = small(run, f"--shards={heard}", "--steps=8", *VIEW, "--clip_and_spectrogram.window_seconds=0.1")

    for resume, said in (
        ("auto", "was trained with clip_and_spectrogram.window_seconds 0.05, not 0.1; choose another --out"),
        ("anyway", "has no statistics of train for log spectrograms of window_seconds 0.1"),
    ):
        assert pretrain.main([*argv, f"--resume={resume}"]) == 2
        assert said in capsys.readouterr().err
    again = [*argv[:-1], "--resume=auto"]
    assert pretrain.main(again) == 0


def test_a_set_at_a_url_has_its_statistics_there(
    heard: Path, trained: Path, small: Callable[..., list[str]], tmp_path: Path
) -> None:
    argv = small(tmp_path / "run", f"--shards=file://{heard}", f"--cache={tmp_path / 'cache'}", "--steps=1", *VIEW)

    assert pretrain.main(argv) == 0
    assert settings_of(tmp_path / "run") == settings_of(trained)


def test_training_standardises_the_sound(trained: Path, heard: Path) -> None:
    """Over the training split's tracks each bin has mean 0 and deviation 1, where a track is one window."""
    encoders, split = train.load(trained), stream.open_split(heard, "train")
    found = []
    for number in range(len(split)):
        with stream.sample(split, number) as sample:
            found.append(encoders.preprocess(sample)["audio"])
    audio_NCTHW = torch.cat(found)

    assert audio_NCTHW.shape == (6, 1, 1, 10, 17)
    assert audio_NCTHW.mean(dim=(0, 1, 2, 3)).abs().max() < 0.3
    assert (audio_NCTHW.std(dim=(0, 1, 2, 3)) - 1).abs().max() < 0.5


def test_features_are_those_of_a_clip_of_your_own(trained: Path, heard: Path) -> None:
    encoders, split = train.load(trained), stream.open_split(heard, "test")
    with stream.sample(split, 0) as sample:
        frames_THWC = sample.frames(range(sample.meta.num_frames))
        own = RawClip(frames_THWC=frames_THWC, fps=sample.meta.fps, sound=sample.waveform())
        stored, mine = (encoders.features(each, clips=3) for each in (sample, own))
        given = encoders.preprocess(sample, clips=3)

    assert given["video"].shape == (3, 3, 4, 28, 28)
    assert given["audio"].shape == (3, 1, 1, 10, 17)
    assert all(torch.equal(one, other) for one, other in zip(stored, mine, strict=True))
    torch.testing.assert_close(
        stored[1], torch.stack([encoders.audio(each[None])[0] for each in given["audio"]]).mean(0)
    )


@pytest.fixture
def other_mel(heard: Path, tmp_path: Path) -> Path:
    """The same set with other mel-spectrograms, which the view does not read."""
    folder = Path(shutil.copytree(heard, tmp_path / "other"))
    dataset = index.read_dataset(folder)
    index.write(folder / layout.DATASET, dataclasses.replace(dataset, mel=dataset.mel | {"preset": "authors"}))
    return folder


@pytest.mark.parametrize("clips", [1, 3])
def test_it_is_judged(trained: Path, clips: int, other_mel: Path, tmp_path: Path) -> None:
    argv = ["knn", "crossmodal", f"--run={trained}", f"--clips={clips}", "--workers=0", f"--out={tmp_path}"]
    where = ["--on_split=test", "--fit_split=train", f"--shards={other_mel}"]

    assert evaluate.main([*argv, "--device=cpu", *where]) == 0

    for name in ("knn", "crossmodal"):
        assert json.loads((tmp_path / name / "results.json").read_text())["samples"] == 2


def test_layers_are_judged_on_a_set_with_other_mel_spectrograms(trained: Path, other_mel: Path, tmp_path: Path) -> None:
    argv = ["layerwise", f"--run={trained}", f"--shards={other_mel}", f"--out={tmp_path / 'layers'}", "--layers=conv5"]

    assert evaluate.main([*argv, "--epochs=1", "--batch=2", "--clips=1", "--workers=0", "--device=cpu"]) == 0


def test_clips_vote_each_with_its_own_sound(trained: Path, other_mel: Path, tmp_path: Path) -> None:
    out = tmp_path / "tuned"
    argv = ["finetune", f"--run={trained}", f"--shards={other_mel}", f"--out={out}", "--epochs=1", "--batch=2"]

    assert evaluate.main([*argv, "--clips=2", "--workers=0", "--device=cpu", "--supervised.modalities=audio"]) == 0
    assert settings_of(out) == settings_of(trained)

    encoders, split = train.load(out), stream.open_split(other_mel, "test")
    found_NKC, label_N = votes.clip_logits(
        encoders, split, clips=2, batch=2, loading=Loading(workers=0, device=torch.device("cpu"))
    )
    for number in range(2):
        with stream.sample(split, number) as sample:
            audio_KCTHW = encoders.preprocess(sample, clips=2)["audio"]
            own_KC = encoders.method.logits(None, encoders.audio(audio_KCTHW))
        torch.testing.assert_close(found_NKC[number], own_KC)
        assert not torch.equal(audio_KCTHW[0], audio_KCTHW[1])
        assert (own_KC[0] - own_KC[1]).abs().max() > 1e-4  # so that one sound for both clips would be seen
    right_N = found_NKC.mean(dim=1).argmax(dim=1) == label_N
    assert json.loads((out / "results.json").read_text())["scores"]["top1"] == 100 * right_N.float().mean()


def test_sounds_alone_are_judged(trained: Path, tmp_path: Path) -> None:
    """Tones high and low, a recording a line; each of ten windows of 0.05 s is one that the view hears."""
    folder = tmp_path / "sounds"
    folder.mkdir()
    lines = []
    for number in range(8):
        times = np.arange(24_000 // 4) / 24_000
        tone = 0.3 * np.sin(2 * np.pi * (300 if number % 2 else 6000) * times)
        wavfile.write(folder / f"{number}.wav", 24_000, (tone * 32767).astype(np.int16))
        lines.append(f"{number}.wav\t{'low' if number % 2 else 'high'}\n")
    (folder / "train.txt").write_text("".join(lines[:4]))
    (folder / "test.txt").write_text("".join(lines[4:]))

    argv = ["sounds", f"--run={trained}", f"--folder={folder}", "--windows=3", "--seconds=0.05", "--device=cpu"]
    assert evaluate.main([*argv, f"--out={tmp_path / 'out'}"]) == 0
    assert json.loads((tmp_path / "out" / "results.json").read_text())["scores"]["top1"] == 100


def test_pictures_have_time_to_the_right(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The spectrogram's 17 bins stand above each other, and its ten columns side by side, as does its map."""
    pytest.importorskip("captum")
    from kinetics_sounds.train.evaluation.protocols import cam

    seen, draw = [], cam.picture

    def picture(found: cam.Explained, shown: dict[str, torch.Tensor], **more: bool) -> np.ndarray:
        seen.append((tuple(shown["audio"].shape), tuple(found.audio_HW.shape)))
        drawn: np.ndarray = draw(found, shown, **more)
        return drawn

    monkeypatch.setattr(cam, "picture", picture)

    assert evaluate.main(["cam", f"--run={trained}", "--samples=1", "--device=cpu", f"--out={tmp_path}"]) == 0
    assert seen == [((17, 10), (17, 10))]


def test_its_speed_can_be_measured(
    heard: Path, small: Callable[..., list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules[bench.__name__], "WARM_UP", 0)
    argv = [word for word in small(tmp_path / "bench", f"--shards={heard}", *VIEW) if "--save_every" not in word]

    assert bench.bench([*argv, "--seconds=0.01"]) == 0
