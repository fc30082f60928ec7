"""Labeled sounds to evaluate an audio encoder on: data sets as they ship, and lists of one's own.

Recordings are encoded before; a linear SVM (see `probes.svm`) or a linear head is fitted on some and evaluated on the others.

Shape suffixes: N recordings, K renderings of a recording (crops, augmentations: each is a training row, and their decision
values are averaged for evaluation), D feature channels.
"""

import io
import statistics
import struct
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path, PurePosixPath

import numpy as np
import torch
from torch import Tensor

from kinetics_sounds import progress
from kinetics_sounds.datasets import Listing
from kinetics_sounds.errors import AnnotationError, MediaError

from ..probes import bounded, percent, svm, topk_hits
from . import linear_head

Classifier = svm.Settings | linear_head.Settings
"""Options of the classifier, which say which one it is."""
Encoder = Callable[[np.ndarray], Tensor]
"""Maps a waveform, mono float32 in [-1, 1] of shape (samples,), to float32 features (K, D)."""

_UNREADABLE = (
    OSError,
    MemoryError,
    OverflowError,
    ValueError,
    TypeError,
    ZeroDivisionError,
    UnboundLocalError,
    struct.error,
    UserWarning,
)
"""Exceptions of scipy for an invalid or damaged WAV file."""
MIN_RATE, MAX_RATE = 1_000, 1_000_000
"""Valid sample rates in hertz; others mean a damaged file. At 1 Hz, a file of a second would last hours."""
MAX_STEPS = 10_000
"""Maximum denominator of the resampling ratio: exact for common rates, else within 1e-4."""
SCENE_RECORDINGS, SCENE_CLASSES = 100, 10
"""Number of recordings and classes in each half; each recording has 30 s."""
FITTING = "fitting classifiers"
"""Title of the progress of fits."""
MAX_SECONDS = 3600.0
"""Maximum length of a recording, which is resampled in memory."""


class _Claimed(io.BytesIO):
    """A file's bytes; raises ValueError if more are requested than exist, because scipy trusts the header's size."""

    def read(self, size: int | None = -1, /) -> bytes:
        found = super().read(size)
        if found and size is not None and len(found) < size:
            raise ValueError(f"it ends early: {size} bytes are claimed where {len(found)} are left")
        return found


@dataclass(frozen=True, slots=True)
class Recording:
    """A labeled sound file."""

    path: Path
    label: str
    fold: int = 0
    """Official fold; 0 if there are none."""


def read_list(path: Path, audio: Path) -> tuple[Recording, ...]:
    """Read a DCASE-style list (per line: file, white space, label) of files in the folder `audio`.

    A header line with the columns filename and scene_label, used since 2019, is skipped. Raises AnnotationError for a list that
    cannot be read, is empty or lists a file twice, for a line without a label, and for a file outside the folder or missing.
    """
    found = []
    for number, line in enumerate(_text(path).splitlines(), start=1):
        if line.strip() and line.split() != ["filename", "scene_label"]:
            name, *label = line.split(maxsplit=1)
            found.append(_recording(name, "".join(label), audio, where=f"{path}:{number}"))
    return _checked(found, path)


def recordings_of(listing: Listing, folder: Path) -> tuple[Recording, ...]:
    """The recordings of a data set in `folder`, a row each; raises AnnotationError for a file that is missing."""
    for row in listing.rows:
        if not (folder / row.path).is_file():
            raise AnnotationError(f"{folder / row.path}: is missing; fetch it: scores are of all recordings")
    return tuple(Recording(folder / row.path, row.label) for row in listing.rows)


def check_scenes(folder: Path, part: str, recordings: Sequence[Recording]) -> None:
    """Raise AnnotationError if a part of DCASE 2014, which has no lists, is not whole."""
    counts = Counter(each.label for each in recordings)
    if (len(recordings), len(counts)) != (SCENE_RECORDINGS, SCENE_CLASSES):
        told = ", ".join(f"{label} {count}" for label, count in sorted(counts.items()))
        raise AnnotationError(
            f"{folder}: {part} has {len(recordings)} recordings of {len(counts)} classes ({told}), where DCASE 2014 has "
            f"{SCENE_RECORDINGS} of {SCENE_CLASSES}; unpack its archive again"
        )


def read_wav(path: Path, *, sample_rate: int) -> np.ndarray:
    """Read a WAV file, average its channels and resample to `sample_rate` hertz: float32 (samples,) in [-1, 1].

    Raises MediaError for a file that is not a complete integer or float WAV, is empty, has a sample rate outside `MIN_RATE` and
    `MAX_RATE`, is longer than `MAX_SECONDS` or contains non-finite samples. Sizes claimed by the header allocate no memory.
    """
    from scipy.io import wavfile
    from scipy.signal import resample_poly

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", wavfile.WavFileWarning)  # the file ends early
            warnings.filterwarnings("ignore", "Chunk .* not understood", wavfile.WavFileWarning)
            rate, sample_TC = wavfile.read(_Claimed(path.read_bytes()))
    except _UNREADABLE as error:
        raise MediaError(
            f"{path}: cannot be read as a WAV file: {error}; convert it, or remove it from the list"
        ) from error
    if not sample_TC.size or not MIN_RATE <= rate <= MAX_RATE or len(sample_TC) > MAX_SECONDS * rate:
        raise MediaError(f"{path}: holds {sample_TC.size} samples at {rate} Hz; repair it, or remove it from the list")
    if sample_TC.dtype == np.uint8:
        sample_TC = (sample_TC.astype(np.float32) - 128) / 128
    elif np.issubdtype(sample_TC.dtype, np.integer):
        sample_TC = sample_TC / -float(np.iinfo(sample_TC.dtype).min)
    wave = np.asarray(sample_TC, dtype=np.float64).reshape(len(sample_TC), -1).mean(axis=1)
    if not np.isfinite(wave).all():
        raise MediaError(f"{path}: holds samples that are not finite; remove it from the list")
    ratio = Fraction(sample_rate, rate).limit_denominator(MAX_STEPS)
    waveform: np.ndarray = resample_poly(wave, ratio.numerator, ratio.denominator).astype(np.float32)
    return waveform


def encode(recordings: Sequence[Recording], encoder: Encoder, *, sample_rate: int, title: str = "") -> Tensor:
    """Features of all recordings, read at `sample_rate` hertz: float32 (N, K, D). Progress is shown with a title.

    Raises MediaError for a file that cannot be read, ValueError for features that differ in shape or are not finite.
    """
    features_NKD = torch.empty(0)
    with progress.bar(title, len(recordings), shown=bool(title)) as bar:
        for place, recording in enumerate(recordings):
            found_KD = encoder(read_wav(recording.path, sample_rate=sample_rate)).detach().float().cpu()
            first = features_NKD.shape[1:] if place else found_KD.shape
            if found_KD.ndim != 2 or 0 in found_KD.shape or found_KD.shape != first:
                raise ValueError(
                    f"{recording.path}: features must be (K, D) like the first's {tuple(first)}, got {tuple(found_KD.shape)}"
                )
            if not found_KD.isfinite().all():
                raise ValueError(f"{recording.path}: has features that are not finite: the encoder has diverged")
            if not place:
                features_NKD = torch.empty(len(recordings), *first)
            features_NKD[place] = found_KD
            bar.advance()
    return features_NKD


def cross_validate(
    recordings: Sequence[Recording], features_NKD: Tensor, settings: Classifier, *, fit_NKD: Tensor | None = None
) -> dict[str, float]:
    """Cross-validate over the folds, in percent: "top1" is the mean over folds.

    `fit_NKD` are the renderings of the same recordings to fit on, if not `features_NKD`. "top1_std" is the standard deviation
    over folds (sample), "fold1_top1" and "fold1_c" etc. each fold's accuracy and the SVM's C, "top1_chance" the chance level,
    "selected_on_test" 1 if C was selected on the evaluated fold, otherwise by cross-validation over the training folds. Raises
    ValueError for fewer than two folds and like `svm.select_C`.
    """
    fold_N = torch.tensor([each.fold for each in recordings])
    folds = torch.unique(fold_N).tolist()
    if len(folds) < 2:
        raise ValueError(f"cross-validation needs at least two folds, got {folds}")
    class_N, classes = _classes(recordings, recordings)
    fit_NKD = features_NKD if fit_NKD is None else fit_NKD
    metrics: dict[str, float] = {}
    with progress.bar(FITTING, len(folds) * _fits(settings)) as bar:
        for fold in folds:
            out_N = fold_N == fold
            trial = svm.Trial(fit_NKD[~out_N], class_N[~out_N], features_NKD[out_N], class_N[out_N])
            teaching = [str(each.path) for each in recordings if each.fold != fold]
            part_M = fold_N[~out_N] if len(folds) > 2 else None
            hit_N, chosen = _judged(trial, part_M, teaching, classes=classes, settings=settings, bar=bar)
            metrics |= {f"fold{fold}_top1": percent(hit_N)} | {
                f"fold{fold}_{name}": value for name, value in chosen.items()
            }
    scores = [metrics[f"fold{fold}_top1"] for fold in folds]
    return {
        "top1": statistics.fmean(scores),
        "top1_std": statistics.stdev(scores),
        "top1_chance": 100 / classes,
        **metrics,
        "selected_on_test": _selected_on_test(settings),
    }


def fit_bytes(
    recordings: int,
    divisions: Sequence[tuple[int, int]],
    *,
    windows: int,
    fit_clips: int,
    dim: int,
    classifier: Classifier,
) -> int:
    """Memory that fitting on a folder of sounds takes at most: the features and their copies.

    `divisions` are the numbers of recordings to train and to test on; `fit_clips` clips of `dim` numbers each are fitted on, 0:
    the windows. Numbers are float32; the SVM takes them as float64, and liblinear keeps a copy of 16 bytes a number.
    """
    fitted = fit_clips or windows
    stored = 4 * recordings * (windows + fit_clips)
    svm_copies = 8 + 16 if isinstance(classifier, svm.Settings) else 0
    taken = max((4 + svm_copies) * train * fitted + 4 * test * windows for train, test in divisions)
    return dim * (stored + taken)


def _fits(settings: Classifier) -> int:
    """Steps of progress of `_judged`: each C that is tried, and the final fit."""
    return 1 + (len(settings.cs) if isinstance(settings, svm.Settings) and len(settings.cs) > 1 else 0)


def _judged(
    trial: svm.Trial,
    part_M: Tensor | None,
    keys: Sequence[str],
    *,
    classes: int,
    settings: Classifier,
    bar: progress.Bar,
) -> tuple[Tensor, dict[str, float]]:
    """Whether each recording is classified correctly (N,), and the SVM's C; advances the bar by `_fits`.

    C is cross-validated over the parts (M,) of the training recordings, or over those that the SVM makes of their keys.
    """
    if isinstance(settings, linear_head.Settings):
        score_NC = linear_head.probabilities(trial, classes=classes, settings=settings)
        bar.advance()
        return topk_hits(score_NC, trial.right_N[:, None] == torch.arange(classes), k=1), {}
    part_M = svm.folds(trial.target_M, keys, folds=settings.folds) if part_M is None else part_M
    c = svm.select_C(trial, part_M, classes=classes, settings=settings, tried=bar.advance)
    hit_N = svm.correct(trial, classes=classes, c=c, iterations=settings.iterations)
    bar.advance()
    return hit_N, {"c": c}


def _selected_on_test(settings: Classifier) -> float:
    return float(isinstance(settings, svm.Settings) and settings.select == "test")


def train_test(
    fit: Sequence[Recording], fit_MKD: Tensor, on: Sequence[Recording], on_NKD: Tensor, *, settings: Classifier
) -> dict[str, float]:
    """Fit on the recordings `fit` and evaluate on `on`, in percent: "top1" with "top1_low" and "top1_high".

    Also the SVM's "c", "top1_chance" and "selected_on_test", 1 if C was selected on the evaluated recordings, otherwise by
    cross-validation in `fit`. A recording whose label is not in `fit` is a miss. Raises AnnotationError like `check_apart`,
    ValueError like `svm.select_C`.
    """
    check_apart(fit, on)
    target_M, classes = _classes(fit, fit)
    right_N, _ = _classes(on, fit)
    trial = svm.Trial(fit_MKD, target_M, on_NKD, right_N)
    with progress.bar(FITTING, _fits(settings)) as bar:
        keys = [str(each.path) for each in fit]
        hit_N, chosen = _judged(trial, None, keys, classes=classes, settings=settings, bar=bar)
    return {
        **bounded("top1", hit_N),
        "top1_chance": percent(right_N >= 0) / classes,
        **chosen,
        "selected_on_test": _selected_on_test(settings),
    }


def check_apart(fit: Sequence[Recording], on: Sequence[Recording]) -> None:
    """Raise AnnotationError for a recording in both lists."""
    twice = {each.path for each in fit} & {each.path for each in on}
    if twice:
        raise AnnotationError(f"{min(twice)}: is in both lists; a sound must not be in both training and test")


def _classes(recordings: Sequence[Recording], known: Sequence[Recording]) -> tuple[Tensor, int]:
    """Class index of each recording among the sorted labels of `known`, -1 for others: (N,), and the number of classes."""
    index = {label: number for number, label in enumerate(sorted({each.label for each in known}))}
    return torch.tensor([index.get(each.label, -1) for each in recordings]), len(index)


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise AnnotationError(f"{path}: cannot be read as UTF-8 text: {error}") from error


def _recording(name: str, label: str, audio: Path, *, where: str) -> Recording:
    label = label.strip()
    inner = PurePosixPath(name)
    if inner.is_absolute() or ".." in inner.parts or "\0" in name:
        raise AnnotationError(f"{where}: {name!r} is not a file in {audio}; fix or remove the row")
    if not label:
        raise AnnotationError(f"{where}: {name} has no label; fix or remove the row")
    if not (audio / inner).is_file():
        raise AnnotationError(f"{where}: {audio / inner} is missing; fetch it, or name the folder that holds {name}")
    return Recording(audio / inner, label)


def _checked(found: list[Recording], place: Path) -> tuple[Recording, ...]:
    twice = [path for path, count in Counter(each.path for each in found).items() if count > 1]
    if twice:
        raise AnnotationError(
            f"{place}: names {twice[0]} more than once; a sound must not be in both training and test"
        )
    if not found:
        raise AnnotationError(f"{place}: lists no sound; one line per sound is needed")
    return tuple(found)
