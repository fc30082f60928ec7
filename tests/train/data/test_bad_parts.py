"""Stored parts that are not what their set says: the sample gives way to another, is named and counted; a test names it."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from torch import Tensor

from kinetics_sounds.shards import layout
from kinetics_sounds.stream import Sample, open_split
from kinetics_sounds.train import evaluate, pretrain
from kinetics_sounds.train.data.views import clip_and_mel

from ..conftest import COUNTS, LENGTHS, stored, write_set

Argv = Callable[..., list[str]]
WrongSet = Callable[..., Path]
BAD = 8
"""A training sample; 12 and later ones are test samples."""


@pytest.fixture
def wrong_set(films: dict[int, bytes], tmp_path: Path) -> WrongSet:
    """A function from the parts that a sample has otherwise to the set's folder; with sound."""

    def made(parts: Mapping[str, bytes], *, number: int = BAD) -> Path:
        folder = tmp_path / "set"
        write_set(folder, COUNTS, films, classes="tiny", sound=True, wrong={number: parts})
        return folder

    return made


def mel_of(value: float, npy: Callable[[np.ndarray], bytes]) -> dict[str, bytes]:
    """Half a grey mel-spectrogram with one value that is another."""
    mel_FT = np.full((256, 256), 0.5)
    mel_FT[3, 200] = value
    return {layout.MEL: npy(mel_FT)}


def meta(**changes: object) -> dict[str, bytes]:
    """Of sample `BAD`, changed."""
    right = {"num_frames": LENGTHS[BAD % len(LENGTHS)], "fps": 10.0, "label_index": 0, "audio_samples": 10_000}
    return {layout.META: json.dumps(right | changes).encode()}


def reasons(out: Path) -> list[tuple[str, str]]:
    lines = [json.loads(line) for line in (out / "quarantine.jsonl").read_text().splitlines()]
    return [(line["key"], line["reason"]) for line in lines]


@pytest.mark.parametrize(
    ("value", "said"),
    [(np.nan, "nan"), (np.inf, "inf"), (1.5, "1.5"), (-0.5, "-0.5")],
)
def test_a_mel_that_holds_another_number_gives_way_and_is_named_and_counted(
    value: float, said: str, wrong_set: WrongSet, npy: Callable[[np.ndarray], bytes], small: Argv, tmp_path: Path
) -> None:
    """Not "lower the learning rate"."""
    folder, out = wrong_set(mel_of(value, npy)), tmp_path / "run"

    assert pretrain.main(small(out, f"--shards={folder}", "--max_bad_fraction=0.1", "--steps=3")) == 0

    [(key, reason)] = reasons(out)
    assert key == open_split(folder, "train").key(BAD)
    assert reason.endswith(f"sample {key}: its mel-spectrogram holds 1 values outside of 0 to 1, such as {said}")
    counted = [json.loads(line)["bad_samples"] for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert counted[-1] == 1


PARTS: dict[str, tuple[Callable[[Callable[[np.ndarray], bytes], Path], dict[str, bytes]], str]] = {
    "mel of other columns": (
        lambda npy, _: {layout.MEL: npy(np.zeros((256, 255)))},
        "its mel-spectrogram is 256 x 255, not 256 x 256",
    ),
    "larger frames": (
        lambda _, folder: {layout.FRAMES: stored(np.zeros((LENGTHS[0], 48, 48, 3), np.uint8), folder)},
        "its frames are 48 x 48",
    ),
    "fewer frames": (lambda *_: meta(num_frames=19), "the stored clip has 20 frames, not 19"),
    "more frames": (lambda *_: meta(num_frames=21), "the stored clip has 20 frames, not 21"),
}


@pytest.mark.parametrize("case", PARTS)
def test_parts_of_another_size_than_the_set_or_their_metadata_say_give_way(
    case: str, wrong_set: WrongSet, npy: Callable[[np.ndarray], bytes], small: Argv, tmp_path: Path
) -> None:
    make, said = PARTS[case]
    folder, out = wrong_set(make(npy, tmp_path)), tmp_path / "run"

    assert pretrain.main(small(out, f"--shards={folder}", "--max_bad_fraction=0.1", "--steps=3")) == 0

    [(key, reason)] = reasons(out)
    assert key == open_split(folder, "train").key(BAD)
    assert reason.endswith(f"sample {key}: {said}")


@pytest.mark.parametrize("samples", [9_999, 10_001, 0])
def test_sound_of_another_length_than_its_metadata_say_gives_way(
    samples: int, wrong_set: WrongSet, small: Argv, tmp_path: Path
) -> None:
    """0 would have been learnt as silence."""
    folder, out = wrong_set(meta(audio_samples=samples)), tmp_path / "run"
    view = ("--clip_and_mel.audio=waveform", "--clip_and_mel.mel_crop=56")

    assert pretrain.main(small(out, f"--shards={folder}", "--max_bad_fraction=0.1", "--steps=3", *view)) == 0

    [(_, reason)] = reasons(out)
    assert reason.endswith(f"the stored sound has 10000 samples, not {samples}")


def test_more_bad_mels_than_may_be_end_the_run_and_its_error_names_one(
    wrong_set: WrongSet,
    npy: Callable[[np.ndarray], bytes],
    small: Argv,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = wrong_set(mel_of(np.nan, npy))

    assert pretrain.main(small(tmp_path / "run", f"--shards={folder}")) == 2

    line = capsys.readouterr().err.splitlines()[-1]
    assert "1 of the 12 samples of 'train' are bad, more than --max_bad_fraction allows" in line
    assert f"sample {open_split(folder, 'train').key(BAD)}: its mel-spectrogram holds 1 values" in line
    assert "optim.lr" not in line


def test_a_validation_names_it_and_leaves_none_out(
    wrong_set: WrongSet,
    npy: Callable[[np.ndarray], bytes],
    small: Argv,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = wrong_set(mel_of(np.nan, npy), number=13)

    assert pretrain.main(small(tmp_path / "run", f"--shards={folder}", "--val_split=test")) == 2

    line = capsys.readouterr().err.splitlines()[-1]
    key = open_split(folder, "test").key(1)
    assert f"sample {key}: its mel-spectrogram holds 1 values outside of 0 to 1, such as nan" in line
    assert "an evaluation must not skip samples: repair the shards (see ks-shard --verify DIR --verify_decode)" in line


@pytest.mark.parametrize("probe", ["knn", "finetune"])
def test_an_evaluation_names_it(
    probe: str,
    finished: Path,
    wrong_set: WrongSet,
    npy: Callable[[np.ndarray], bytes],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = wrong_set(mel_of(2.0, npy), number=13)
    more = ["--epochs=1", "--batch=12", f"--out={tmp_path / 'tuned'}"] if probe == "finetune" else []

    words = [probe, f"--run={finished}", f"--shards={folder}", "--workers=0", "--device=cpu", "--clips=1", *more]
    assert evaluate.main(words) == 2

    line = capsys.readouterr().err.splitlines()[-1]
    assert f"sample {open_split(folder, 'test').key(1)}: its mel-spectrogram holds 1 values" in line


def test_whatever_a_view_makes_that_is_no_number_is_a_bad_sample_of_that_view(
    small: Argv, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A view of one's own may divide by nothing."""
    right = clip_and_mel.train_view

    def view(sample: Sample, *rest: object) -> dict[str, Tensor]:
        made: dict[str, Tensor] = right(sample, *rest)
        return {**made, "audio": made["audio"] / 0} if sample.key.startswith(f"clip{BAD:07d}") else made

    monkeypatch.setattr(clip_and_mel, "train_view", view)
    assert pretrain.main(small(tmp_path, "--max_bad_fraction=0.1", "--steps=3")) == 0

    [(key, reason)] = reasons(tmp_path)
    assert reason.endswith(f"sample {key}: its 'audio' contains non-finite values")
