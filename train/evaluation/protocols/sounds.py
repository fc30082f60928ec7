"""ks-eval sounds: classify a folder of labeled sounds by a linear SVM on the audio encoder's features.

Shape suffixes: K windows of a recording, N recordings, D feature channels.
"""

import hashlib
import json
import re
import statistics
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from kinetics_sounds.command import DONE
from kinetics_sounds.errors import AnnotationError, RunError, SettingsError
from kinetics_sounds.settings import Parsed
from kinetics_sounds.shards import layout

from ...config import run_folder
from ...config.settings import at_least
from ...distributed import devices
from ...probes import svm
from .. import results
from ..audio_datasets import (
    SCENES,
    Recording,
    check_apart,
    cross_validate,
    encode,
    read_folds,
    read_list,
    read_scenes,
    train_test,
)
from ..encoders import Encoders, RawClip, load_selected
from ..features import Kind
from ..features import encode as encode_inputs

_LISTS = (".txt", ".csv")
"""File suffixes of DCASE's lists."""
FPS = 25.0
"""Frame rate of the black frames that accompany a sound, for views that place it in a video."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Evaluate a run's audio encoder on a folder of labeled WAV files, with a linear SVM on its frozen features.

    Examples:
      ks-eval sounds --run runs/avcl_k32 --folder ESC-50-master
      ks-eval sounds --run runs/avcl_k32 --folder ESC-50-master --windows 10 --seconds 2
      ks-eval sounds --run runs/avcl_k32 --folder dcase --svm.select test

    Supported folders:
      meta/esc50.csv, audio/*.wav                       ESC-50: mean over its folds
      set1/scenes_stereo/, set1/scenes_stereo_testset/  DCASE 2014: training half and test half; bus01.wav is a "bus"
      evaluation_setup/fold1_train.txt, ...             later years of DCASE: lists of "file label", each with its
                                                        fold1_evaluate.txt (.txt or .csv): mean over the folds
      train.txt, test.txt                               the same for one division

    exit code: 0 done; 2 usage error; 3 stopped by a signal or a full disk, run again; 4 a bug, or a failing disk.
    """

    run: Path
    """Folder of a training run."""
    folder: Path
    """Folder of the sounds."""
    checkpoint: str = "last"
    """Checkpoint: last, best, or a name such as step-00000500."""
    untrained: bool = False
    """Evaluate the same encoder with its initial weights: the baseline."""
    windows: int = 1
    """Evenly spaced windows per recording: each is a training row; decision values are averaged for evaluation."""
    seconds: float | None = None
    """Window length in seconds. Default: the whole recording."""
    features: Kind = "pooled"
    """pooled: encoder output. unit: encoder output, L2-normalized. conv5: maps of the last layer, max-pooled 2 x 2."""
    device: str = "auto"
    """cpu, cuda, or auto (cuda if available)."""
    out: Path | None = None
    """Folder of the results. Default: RUN/eval/sounds."""
    json: bool = False
    """Print the results as JSON on standard output."""


GROUPS = {"svm": svm.Settings}


@dataclass(frozen=True, slots=True)
class Sounds:
    """Recordings of a folder, and their official division."""

    recordings: tuple[Recording, ...]
    """Each file once, with its official fold if that is the division."""
    divisions: tuple[tuple[tuple[Recording, ...], tuple[Recording, ...]], ...] = ()
    """Pairs of training and test recordings, if the folder lists them."""


def evaluate(parsed: Parsed[Settings]) -> int:
    """Evaluate the encoder; return the exit code."""
    settings = parsed.settings
    at_least(settings, windows=1)
    if settings.seconds is None and settings.windows > 1:
        raise SettingsError(
            f"--windows {settings.windows}: would all be the whole recording; set their length with --seconds"
        )
    if settings.seconds is not None and not 0 < settings.seconds < float("inf"):
        raise SettingsError(f"--seconds {settings.seconds}: must be more than 0")
    facts = run_folder.read_facts(settings.run)
    sounds = read(settings.folder)
    encoders = load_selected(settings)
    encoders.method.to(devices.pick_device(settings.device))
    sample_rate = encoders.mel.sample_rate
    length = None if settings.seconds is None else max(1, round(settings.seconds * sample_rate))
    try:
        features_NKD = encode(
            sounds.recordings,
            lambda waveform: encode_sound(
                encoders, windows(waveform, settings.windows, length=length), kind=settings.features
            ),
            sample_rate=sample_rate,
        )
        scores = score(sounds, features_NKD, parsed.groups["svm"])
    except ValueError as error:  # non-finite features, or too few sounds to select C
        raise RunError(f"{settings.run}: cannot be evaluated on {settings.folder}: {error}") from error
    head = results.head(
        "sounds",
        settings.run,
        facts,
        encoders.checkpoint,
        on_split=str(settings.folder),
        fingerprint=fingerprint(sounds, settings.folder),
    )
    found = {
        **head,
        "samples": len(sounds.recordings),
        "windows": settings.windows,
        "seconds": settings.seconds,
        "features": settings.features,
        "scores": scores,
    }
    out = results.folder(settings, "sounds")
    results.write(out, found)
    print(json.dumps(found) if settings.json else results.format_scores(found, out, what="recordings"))
    return DONE


def read(folder: Path) -> Sounds:
    """Read the recordings of a folder in one of the layouts that `Settings` lists.

    Raises AnnotationError for an unknown layout, for damaged lists or missing files, and for invalid divisions: a single fold,
    a file in both lists of a division, or two different lists of one fold.
    """
    if (folder / "meta" / "esc50.csv").is_file():
        return Sounds(read_folds(folder / "meta" / "esc50.csv", folder / "audio"))
    divisions = tuple(_divisions(folder))
    if not divisions:
        for place in (folder / "set1", folder):
            if any((place / half).is_dir() for half in SCENES):
                fit, on = read_scenes(place)
                return Sounds((*fit, *on), ((fit, on),))
        raise AnnotationError(
            f"{folder}: is not a folder of sounds: it has no meta/esc50.csv, no train.txt, no set1/{SCENES[0]} and no "
            "evaluation_setup/fold1_train.txt; see ks-eval sounds --help"
        )
    for fit, on in divisions:
        check_apart(fit, on)
    distinct = {each.path: each for division in divisions for part in division for each in part}
    return Sounds(tuple(distinct.values()), divisions)


def score(sounds: Sounds, features_NKD: Tensor, settings: svm.Settings) -> dict[str, float]:
    """Accuracies in percent, "top1" and each fold's, from `cross_validate` or `train_test`.

    `features_NKD` are those of `sounds.recordings`. Raises AnnotationError and ValueError like these.
    """
    if not sounds.divisions:
        return cross_validate(sounds.recordings, features_NKD, settings)
    row = {each.path: number for number, each in enumerate(sounds.recordings)}
    found = []
    for fit, on in sounds.divisions:
        rows = [[row[each.path] for each in part] for part in (fit, on)]
        found.append(train_test(fit, features_NKD[rows[0]], on, features_NKD[rows[1]], settings=settings))
    if len(found) == 1:
        return found[0]
    top1 = [each["top1"] for each in found]
    return {
        "top1": statistics.fmean(top1),
        "top1_std": statistics.stdev(top1),
        "top1_chance": statistics.fmean(each["top1_chance"] for each in found),
        **{f"fold{n}_{name}": each[name] for n, each in enumerate(found, start=1) for name in ("top1", "c")},
        "selected_on_test": found[0]["selected_on_test"],
    }


def windows(waveform: np.ndarray, count: int, *, length: int | None) -> list[np.ndarray]:
    """`count` evenly spaced windows of `length` samples, from start to end; a single one is the middle.

    With `length` None, or for a recording that is not longer, each window is the whole recording.
    """
    room = 0 if length is None else max(0, len(waveform) - length)
    end = None if length is None else length
    starts = [room // 2] if count == 1 else [room * place // (count - 1) for place in range(count)]
    return [waveform[start : None if end is None else start + end] for start in starts]


@torch.no_grad()
def encode_sound(encoders: Encoders, waveforms: Sequence[np.ndarray], *, kind: Kind) -> Tensor:
    """Features of waveforms, mono float32 at the mel's sample rate: float32 (K, D).

    Each is rendered by the run's view as in evaluation, with black frames.
    """
    inputs = [encoders.preprocess(_dark(encoders, waveform))["audio"] for waveform in waveforms]
    return encode_inputs(encoders.audio, torch.cat(inputs), kind=kind).cpu()


def fingerprint(sounds: Sounds, folder: Path) -> str:
    """SHA-256 over each recording of each list: list and division, path in `folder`, label and fold."""
    lists = {
        f"{n} {side}": part
        for n, both in enumerate(sounds.divisions)
        for side, part in zip(("fit", "on"), both, strict=True)
    }
    lines = [
        json.dumps([name, each.path.relative_to(folder).as_posix(), each.label, each.fold])
        for name, part in (lists or {"folds": sounds.recordings}).items()
        for each in part
    ]
    return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()


def _dark(encoders: Encoders, waveform: np.ndarray) -> RawClip:
    frames = max(1, round(len(waveform) / encoders.mel.sample_rate * FPS))
    parts = encoders.view.inputs(encoders.view_settings).parts
    black_THWC = np.broadcast_to(np.zeros((1, 16, 16, 3), dtype=np.uint8), (frames, 16, 16, 3))
    return RawClip(
        frames_THWC=black_THWC,
        fps=FPS,
        mel_FT=encoders.mel_image(waveform) if layout.MEL in parts else None,
        sound=waveform,
        of=encoders.dataset,
        key="a sound",
    )


def _divisions(folder: Path) -> Iterator[tuple[tuple[Recording, ...], tuple[Recording, ...]]]:
    """Training and test recordings of each pair of lists in a folder; raises like `read`."""
    if (folder / "train.txt").is_file():
        yield read_list(folder / "train.txt", folder), read_list(folder / "test.txt", folder)
        return
    trains = defaultdict[int, list[Path]](list)
    for path in sorted((folder / "evaluation_setup").glob("fold*_train.*"), reverse=True):  # .txt before .csv
        if path.suffix in _LISTS and (found := re.fullmatch(r"fold(\d+)_train", path.stem)):
            trains[int(found[1])].append(path)
    for _, paths in sorted(trains.items()):
        beside = [path.with_name(path.name.replace("_train", "_evaluate")) for path in paths]
        there = [path.with_suffix(suffix) for path in beside for suffix in (path.suffix, *_LISTS)]
        judged = list(dict.fromkeys(path for path in there if path.is_file()))
        yield _agreed(paths, folder), _agreed(judged or beside[:1], folder)


def _agreed(lists: Sequence[Path], folder: Path) -> tuple[Recording, ...]:
    """Recordings of a list that may exist in two formats; raises AnnotationError if they differ."""
    first, *others = (read_list(path, folder) for path in lists)
    for path, other in zip(lists[1:], others, strict=True):
        if set(other) != set(first):
            raise AnnotationError(f"{path}: lists other sounds or labels than {lists[0]}; delete the one that is wrong")
    return first
