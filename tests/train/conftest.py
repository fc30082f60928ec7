"""A shard set small enough to train on in a second, and the options that make a run on it small."""

import dataclasses
import io
import json
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import soundfile

from kinetics_sounds.media import encode, probe, synthesize
from kinetics_sounds.shards import index, layout
from kinetics_sounds.shards.index import Dataset, SplitFacts
from kinetics_sounds.shards.writer import Sample, ShardWriter
from kinetics_sounds.stream import Split, open_split
from kinetics_sounds.train import pretrain
from kinetics_sounds.train.data.workers import start_method
from kinetics_sounds.train.distributed import launch

SIDE = 36
"""Pixels of the stored frames."""
LENGTHS = (20, 24, 33, 40)
"""Frames of the clips, in turn."""
COUNTS = {"train": (5, 1, 6), "test": (4, 2)}
"""Samples in each shard of a split."""
RECIPE = "a set made by tests"
SMALL = (
    *("--config=avcl_tiny", "--workers=0", "--device=cpu", "--batch=4", "--steps=6", "--log_every=1", "--save_every=2"),
    *("--r3d.width=2", "--clip_and_mel.frames=8"),
)

OTHERS = {"--backbone=": "--r3d.", "--view=": "--clip_and_mel."}
"""Options that choose another network or view, whose own options are left out of SMALL then."""


def film(seed: int, frames: int, folder: Path) -> bytes:
    """A drifting texture as a stored clip."""
    rng = np.random.default_rng(seed)
    texture_HWC = rng.integers(0, 256, (SIDE // 6, SIDE // 6, 3), dtype=np.uint8).repeat(6, 0).repeat(6, 1)
    frames_THWC = np.stack([np.roll(texture_HWC, (seed % 3 + 1) * number, axis=seed % 2) for number in range(frames)])
    return stored(frames_THWC, folder)


def stored(frames_THWC: np.ndarray, folder: Path) -> bytes:
    """Frames, uint8 (T, H, W, 3), as ks-shard stores them."""
    path = folder / "source.mp4"
    rate, fps = 8_000, 10
    synthesize.write_mp4(path, frames_THWC, np.zeros(rate * len(frames_THWC) // fps), fps=fps, sample_rate=rate)
    how = encode.Encoding(short_side=min(frames_THWC.shape[1:3]))
    made = encode.encode(path, found=probe.probe(path), scratch=folder, encoding=how, timeout_seconds=60)
    assert made.num_frames == len(frames_THWC)
    return made.mp4


def as_npy(mel_FT: np.ndarray) -> bytes:
    """A mel-spectrogram (F, T) as ks-shard stores it."""
    out = io.BytesIO()
    np.save(out, mel_FT.astype(np.float16))
    return out.getvalue()


@pytest.fixture(scope="session")
def npy() -> Callable[[np.ndarray], bytes]:
    """The function that stores a mel-spectrogram."""
    return as_npy


def sample(number: int, films: Mapping[int, bytes], frames: int, *, sound: bool) -> Sample:
    """Sample `number`: classes alternate, mels and films repeat after a while; its sound is some thousand samples of noise."""
    rng = np.random.default_rng(number)
    mel_FT = rng.random((8, 8)).repeat(32, 0).repeat(32, 1) * (0.5 + number % 2 / 2)
    meta: dict[str, object] = {"num_frames": frames, "fps": 10.0, "label_index": number % 2}
    parts = {layout.FRAMES: films[number % len(films)], layout.MEL: as_npy(mel_FT)}
    if sound:
        waveform, flac = rng.normal(0, 0.1, 2_000 + 1_000 * number), io.BytesIO()
        soundfile.write(flac, waveform, encode.SAMPLE_RATE, format="FLAC", subtype="PCM_16")
        parts[layout.AUDIO] = flac.getvalue()
        meta["audio_samples"] = len(waveform)
    return Sample(
        key=f"clip{number:07d}_{number:06d}_{number + 10:06d}",
        label_index=number % 2,
        parts=parts | {layout.META: json.dumps(meta).encode()},
    )


def write_set(
    folder: Path,
    counts: Mapping[str, tuple[int, ...]],
    films: Mapping[int, bytes],
    *,
    classes: str,
    sound: bool = False,
    wrong: Mapping[int, Mapping[str, bytes]] | None = None,
) -> None:
    """Write a set whose samples are numbered through its splits and shards, some with other parts, summed as if right."""
    number, facts = 0, {}
    for split, sizes in counts.items():
        for shard, size in enumerate(sizes):
            with ShardWriter(layout.tar_path(folder, split, shard), recipe=RECIPE) as writer:
                for _ in range(size):
                    made = sample(number, films, LENGTHS[number % len(LENGTHS)], sound=sound)
                    parts = {**made.parts, **(wrong or {}).get(number, {})}
                    writer.write(dataclasses.replace(made, parts=parts))
                    number += 1
                writer.close()
        facts[split] = SplitFacts(
            shards=len(sizes),
            samples=sum(sizes),
            bytes=0,
            left=0,
            fingerprint=f"{split} of {counts}",
            selection=f"selection of {split}",
            content=f"content of {split}",
        )
    dataset = Dataset(
        recipe=RECIPE,
        fingerprint="both",
        classes=classes,
        note="made by tests",
        labels=("even", "odd"),
        parts=tuple(sorted((layout.FRAMES, layout.MEL, layout.META, *([layout.AUDIO] if sound else [])))),
        splits=facts,
        frames={"short_side": SIDE},
        mel={"preset": "paper", "bands": 256, "columns": 256},
        audio={},
        shuffle_seed=0,
        shard_bytes=1,
        versions={},
    )
    index.write(folder / layout.DATASET, dataset)


@pytest.fixture(scope="session")
def films(tmp_path_factory: pytest.TempPathFactory) -> dict[int, bytes]:
    """Distinct clips of the set's lengths."""
    folder = tmp_path_factory.mktemp("films")
    return {number: film(number, LENGTHS[number % len(LENGTHS)], folder) for number in range(2 * len(LENGTHS))}


@pytest.fixture(scope="session")
def shards(tmp_path_factory: pytest.TempPathFactory, films: dict[int, bytes]) -> Path:
    """12 training and 6 test samples of two classes in shards of unequal size; not to be changed."""
    folder = tmp_path_factory.mktemp("set") / "shards"
    write_set(folder, COUNTS, films, classes="tiny")
    return folder


@pytest.fixture(scope="session")
def seven(tmp_path_factory: pytest.TempPathFactory, films: dict[int, bytes]) -> Path:
    """30 training samples in seven shards of unequal size; not to be changed."""
    folder = tmp_path_factory.mktemp("seven") / "shards"
    write_set(folder, {"train": (5, 1, 6, 2, 9, 3, 4)}, films, classes="tiny")
    return folder


@pytest.fixture(scope="session")
def sounding(tmp_path_factory: pytest.TempPathFactory, films: dict[int, bytes]) -> Path:
    """4 training samples with their sound, of which number n has 2 000 + 1 000 n samples; not to be changed."""
    folder = tmp_path_factory.mktemp("sounding") / "shards"
    write_set(folder, {"train": (3, 1)}, films, classes="tiny", sound=True)
    return folder


@pytest.fixture(scope="session")
def single(tmp_path_factory: pytest.TempPathFactory, films: dict[int, bytes]) -> Path:
    """One test sample; not to be changed."""
    folder = tmp_path_factory.mktemp("single") / "shards"
    write_set(folder, {"test": (1,)}, films, classes="tiny")
    return folder


@pytest.fixture(scope="session")
def split(shards: Path) -> Split:
    """The training split: samples 0 to 11, of which number n has LENGTHS[n % 4] frames and the label n % 2."""
    return open_split(shards, "train")


@pytest.fixture(scope="session")
def small(shards: Path) -> Callable[..., list[str]]:
    """A function from a run's folder, and more options, to the argv of a six-step run of less than a second."""

    def argv(out: Path, *more: str) -> list[str]:
        others = [own for option, own in OTHERS.items() if any(word.startswith(option) for word in more)]
        return [
            *(word for word in SMALL if not word.startswith(tuple(others))),
            f"--shards={shards}",
            f"--out={out}",
            *more,
        ]

    return argv


@pytest.fixture
def forked_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ranks come from the fork server, which has imported most once for all: seconds less for each.

    They begin with the server's environment and print where it prints: for tests to which neither matters.
    """
    start_method("torch", "torch._dynamo", pretrain.__name__)
    real = launch.start_processes
    monkeypatch.setattr(
        launch,
        "start_processes",
        lambda *arguments, **more: real(*arguments, **{**more, "start_method": "forkserver"}),
    )


@pytest.fixture(scope="session")
def finished(small: Callable[..., list[str]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of six steps that nobody interrupted; not to be changed."""
    out = tmp_path_factory.mktemp("runs") / "finished"
    assert pretrain.main(small(out)) == 0
    return out
