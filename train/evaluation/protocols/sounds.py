"""ks-eval sounds: classify a folder of labeled sounds by a linear classifier on the audio encoder's features.

Shape suffixes: K windows of a recording, N recordings, D feature channels.
"""

import dataclasses
import functools
import hashlib
import json
import math
import statistics
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from torch import Tensor

from kinetics_sounds import datasets, memory
from kinetics_sounds.command import DONE
from kinetics_sounds.datasets import dcase2014
from kinetics_sounds.errors import AnnotationError, RunError, SettingsError
from kinetics_sounds.settings import Parsed

from ...config import run_folder
from ...config.settings import at_least
from ...distributed import devices
from ...probes import svm
from .. import linear_head, results, training
from ..audio_datasets import (
    Classifier,
    Recording,
    check_apart,
    check_scenes,
    cross_validate,
    encode,
    fit_bytes,
    read_list,
    recordings_of,
    train_test,
)
from ..encoders import Encoders, load_selected
from ..sound_features import encode_random, encode_sound, windows

SCENES = tuple(dcase2014.SPLITS.values())
"""Folders of DCASE 2014: training half, test half."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Evaluate a run's audio encoder on a folder of labeled WAV files, with a linear classifier on its frozen features.

    Examples:
      ks-eval sounds --run runs/avcl_k32 --folder ESC-50-master
      ks-eval sounds --run runs/avcl_k32 --folder ESC-50-master --windows 10 --seconds 2
      ks-eval sounds --run runs/avcl_k32 --folder dcase --svm.select test
      ks-eval sounds --run runs/crisscross_k400 --folder ESC-50-master --view_seconds 5 --fit_clips 100 --features time

    Supported folders:
      meta/esc50.csv, audio/*.wav                       ESC-50: mean over its folds
      set1/scenes_stereo/, set1/scenes_stereo_testset/  DCASE 2014: training half and test half; bus01.wav is a "bus"
      meta.txt, evaluation_setup/fold1_train.txt, ...   later years of DCASE, each list with its fold1_evaluate.txt or
                                                        fold1_test.txt (.txt or .csv): mean over the folds
      train.txt, test.txt                               your own sounds: a line of "file label" for each

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
    view_seconds: float | None = None
    """Length of sound that the view renders, for views that render a window. Default: the run's."""
    fit_clips: int = 0
    """Random, augmented clips per recording to train on, instead of the windows; 0: none."""
    audio_augment: str | None = None
    """Comma-separated augmentations of --fit_clips, for views that have the choice. Default: the run's."""
    features: Literal["pooled", "unit", "conv5", "map", "time", "grid"] = "pooled"
    """pooled: encoder output. unit: encoder output, L2-normalized. conv5: maps of the last layer, max-pooled 2 x 2. map: these
    maps as they are (AVID). time: max-pooled over three steps of time, every two, and L2-normalized over time (CrissCross).
    grid: max-pooled to the largest square grid of at most 9216 values."""
    layer: str = "conv5"
    """Layer whose maps are taken."""
    classifier: Literal["svm", "linear"] = "svm"
    """svm: linear SVM, see --svm. linear: linear classifier trained by Adam, whose probabilities are averaged, see --head."""
    seed: int = 0
    """Seed of the random clips."""
    device: str = "auto"
    """cpu, cuda, or auto (cuda if available)."""
    out: Path | None = None
    """Folder of the results. Default: RUN/eval/sounds."""
    json: bool = False
    """Print the results as JSON on standard output."""


GROUPS = {"svm": svm.Settings, "head": linear_head.Settings}


@dataclass(frozen=True, slots=True)
class Sounds:
    """Recordings of a folder, and their official division."""

    recordings: tuple[Recording, ...]
    """Each file once, with its official fold if that is the division."""
    divisions: tuple[tuple[tuple[Recording, ...], tuple[Recording, ...]], ...] = ()
    """Pairs of training and test recordings, if the folder lists them."""

    @property
    def sizes(self) -> list[tuple[int, int]]:
        """Numbers of training and of test recordings, of each division or fold."""
        if self.divisions:
            return [(len(fit), len(on)) for fit, on in self.divisions]
        counts = Counter(each.fold for each in self.recordings)
        return [(len(self.recordings) - count, count) for count in counts.values()]


def evaluate(parsed: Parsed[Settings]) -> int:
    """Evaluate the encoder; return the exit code."""
    settings, classifier = parsed.settings, _checked(parsed)
    facts = run_folder.read_facts(settings.run)
    sounds = read(settings.folder)
    encoders = _heard(load_selected(settings), settings)
    encoders.method.to(devices.pick_device(settings.device))
    sample_rate = encoders.mel.sample_rate
    length = None if settings.seconds is None else max(1, round(settings.seconds * sample_rate))

    def encode_windows(waveform: np.ndarray) -> Tensor:
        parts = windows(waveform, settings.windows, length=length)
        return encode_sound(encoders, parts, kind=settings.features, layer=settings.layer)

    try:
        first_1KD = encode(sounds.recordings[:1], encode_windows, sample_rate=sample_rate)
        _check_memory(settings, classifier, sounds, dim=first_1KD.shape[2])
        features_NKD = encode(sounds.recordings, encode_windows, sample_rate=sample_rate, title="encoding recordings")
        fit_NKD = None
        if settings.fit_clips:
            draw = functools.partial(
                encode_random,
                encoders,
                clips=settings.fit_clips,
                length=length,
                seed=settings.seed,
                kind=settings.features,
                layer=settings.layer,
            )
            fit_NKD = encode(sounds.recordings, draw, sample_rate=sample_rate, title="encoding random clips")
        scores = score(sounds, features_NKD, classifier, fit_NKD=fit_NKD)
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
        "layer": settings.layer,
        "view_seconds": settings.view_seconds,
        "fit_clips": settings.fit_clips,
        "settings": {"classifier": settings.classifier, "seed": settings.seed, **dataclasses.asdict(classifier)},
        "scores": scores,
    }
    out = results.folder(settings, "sounds")
    results.write(out, found)
    print(json.dumps(found) if settings.json else results.format_scores(found, out, what="recordings"))
    return DONE


def _check_memory(settings: Settings, classifier: Classifier, sounds: Sounds, *, dim: int) -> None:
    """Print the memory that features of `dim` numbers and the fit will take; raises SettingsError if it is more than there is."""
    needed = fit_bytes(
        len(sounds.recordings),
        sounds.sizes,
        windows=settings.windows,
        fit_clips=settings.fit_clips,
        dim=dim,
        classifier=classifier,
    )
    rows = len(sounds.recordings) * (settings.fit_clips or settings.windows)
    there = memory.total()
    told = f"up to {needed / 1e9:.1f} GB for {rows:,} rows of {dim:,} numbers"
    told += f"; there are {there / 1e9:.1f} GB" if math.isfinite(there) else ""
    if needed > there:
        option = f"--fit_clips {settings.fit_clips}" if settings.fit_clips else f"--windows {settings.windows}"
        raise SettingsError(f"{option}: takes {told}; give fewer, or --features pooled, or take a larger machine")
    if not settings.json:
        print(f"memory: {told}")


def _checked(parsed: Parsed[Settings]) -> Classifier:
    """The classifier's options; raises SettingsError for options out of range, contradicting each other or without effect."""
    settings = parsed.settings
    at_least(settings, windows=1, fit_clips=0, seed=0)
    if settings.seconds is None and settings.windows > 1:
        raise SettingsError(
            f"--windows {settings.windows}: would all be the whole recording; set their length with --seconds"
        )
    for name in ("seconds", "view_seconds"):
        value = getattr(settings, name)
        if value is not None and not 0 < value < float("inf"):
            raise SettingsError(f"--{name} {value}: must be more than 0")
    if settings.audio_augment is not None and not settings.fit_clips:
        raise SettingsError(f"--audio_augment {settings.audio_augment}: is for random clips; give --fit_clips too")
    if settings.features in ("pooled", "unit") and settings.layer != "conv5":
        raise SettingsError(
            f"--layer {settings.layer}: --features {settings.features} are of the last one; give map or grid"
        )
    used, idle = ("svm", "head") if settings.classifier == "svm" else ("head", "svm")
    if parsed.groups[idle] != GROUPS[idle]():
        raise SettingsError(
            f"--{idle}.*: options of a classifier that is not used (--classifier {settings.classifier})"
        )
    classifier: Classifier = parsed.groups[used]
    return classifier


def _heard(encoders: Encoders, settings: Settings) -> Encoders:
    """Encoders whose view gives one view of a sound, of the length asked for, and with the augmentations asked for.

    Raises SettingsError for what the view does not have.
    """
    changes = {"window_seconds": settings.view_seconds, "audio_augment": settings.audio_augment}
    changes = {name: value for name, value in changes.items() if value is not None}
    view = training.single(encoders.view, encoders.view_settings)
    if settings.view_seconds is not None and getattr(view, "audio", "") == "mel":
        needs = (
            "needs a run whose view renders a window of sound, such as crisscross_k400; this run's renders the whole"
        )
        instead = "" if settings.seconds else "; for windows of it give --seconds instead"
        raise SettingsError(f"--view_seconds {settings.view_seconds}: {needs}{instead}")
    try:
        return dataclasses.replace(encoders, view_settings=dataclasses.replace(view, **changes))
    except (TypeError, ValueError) as error:
        raise SettingsError(f"--view_seconds and --audio_augment: the run's view cannot have these: {error}") from error


def read(folder: Path) -> Sounds:
    """Read the recordings of a folder in one of the layouts that `Settings` lists.

    Raises AnnotationError for an unknown layout, missing files and a file in both lists of a division, ListError for lists that
    are wrong.
    """
    name = data_set(folder)
    if name is None:
        return _own_lists(folder)
    listing = datasets.load(name).read(folder)
    datasets.check(listing)
    found = recordings_of(listing, folder)
    if name == "esc50":  # a recording is for testing in one fold, and for training in the others
        folds = [row.folds.index("test") + 1 for row in listing.rows]
        if len(set(folds)) < 2:
            raise AnnotationError(f"{folder}: has recordings of fold {folds[0]} alone; at least two folds are needed")
        return Sounds(tuple(dataclasses.replace(each, fold=fold) for each, fold in zip(found, folds, strict=True)))
    parts_N = [row.folds or (row.split,) for row in listing.rows]

    def part(place: int, split: str) -> tuple[Recording, ...]:
        return tuple(each for each, parts in zip(found, parts_N, strict=True) if parts[place] == split)

    divisions = tuple((part(place, "train"), part(place, "test")) for place in range(len(parts_N[0])))
    if name == "dcase2014":
        for half, those in zip(SCENES, divisions[0], strict=True):
            check_scenes(folder, half, those)
    return Sounds(found, divisions)


def _own_lists(folder: Path) -> Sounds:
    """Recordings of `train.txt` and `test.txt`; raises AnnotationError if there is no `train.txt`."""
    if not (folder / "train.txt").is_file():
        raise AnnotationError(
            f"{folder}: is not a folder of sounds: it has no meta/esc50.csv, no train.txt, no set1/{SCENES[0]} and no "
            "evaluation_setup/fold1_train.txt; see ks-eval sounds --help"
        )
    fit, on = (read_list(folder / f"{part}.txt", folder) for part in ("train", "test"))
    check_apart(fit, on)
    return Sounds((*fit, *on), ((fit, on),))


def data_set(folder: Path) -> str | None:
    """Name of the data set that lies in a folder; None if none does, or the user's own lists lie there."""
    if (folder / "meta" / "esc50.csv").is_file():
        return "esc50"
    if (folder / "train.txt").is_file():
        return None
    if any((folder / "evaluation_setup").glob("fold*_train.*")):
        return "dcase"
    there = any((place / half).is_dir() for place in (folder / "set1", folder) for half in SCENES)
    return "dcase2014" if there else None


def score(
    sounds: Sounds, features_NKD: Tensor, settings: Classifier, *, fit_NKD: Tensor | None = None
) -> dict[str, float]:
    """Accuracies in percent, "top1" and each fold's, from `cross_validate` or `train_test`.

    `features_NKD` are those of `sounds.recordings`, and `fit_NKD` those to fit on, if they are others. Raises AnnotationError and
    ValueError like these.
    """
    if not sounds.divisions:
        return cross_validate(sounds.recordings, features_NKD, settings, fit_NKD=fit_NKD)
    taught_NKD = features_NKD if fit_NKD is None else fit_NKD
    row = {each.path: number for number, each in enumerate(sounds.recordings)}
    found = []
    for fit, on in sounds.divisions:
        rows = [[row[each.path] for each in part] for part in (fit, on)]
        found.append(train_test(fit, taught_NKD[rows[0]], on, features_NKD[rows[1]], settings=settings))
    if len(found) == 1:
        return found[0]
    top1 = [each["top1"] for each in found]
    return {
        "top1": statistics.fmean(top1),
        "top1_std": statistics.stdev(top1),
        "top1_chance": statistics.fmean(each["top1_chance"] for each in found),
        **{f"fold{n}_{name}": each[name] for n, each in enumerate(found, 1) for name in ("top1", "c") if name in each},
        "selected_on_test": found[0]["selected_on_test"],
    }


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
