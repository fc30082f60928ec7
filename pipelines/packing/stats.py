"""ks-shard stats: mean and standard deviation of a set's (log-mel) spectrograms, used by views for standardisation.

Shape suffixes: T columns, F bins.
"""

import contextlib
import dataclasses
import json
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from kinetics_sounds import cores, progress, stream
from kinetics_sounds.address import Address
from kinetics_sounds.cache import Cache, default_cache
from kinetics_sounds.command import DONE, SOME_FAILED, STOPPED, stoppable
from kinetics_sounds.errors import BadSampleError, KineticsSoundsError, MediaError, SettingsError, ShardError
from kinetics_sounds.media.log_mel import LogMel, log_mel
from kinetics_sounds.media.spectrogram import Spectrogram, covering_starts, log_spectrogram
from kinetics_sounds.quantities import plural
from kinetics_sounds.settings import only_one, parse
from kinetics_sounds.shards import layout, reader, stats
from kinetics_sounds.shards.index import Dataset
from kinetics_sounds.shards.stats import Numbers, Statistics

from ..executors import Failed, in_order, local

SHARD_SECONDS = 3600.0
"""Time limit for the sums of one shard."""
PLACE = "SHARDS"
"""Name of the positional argument (the shard set) in --help."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StatsSettings:
    """Compute mean and standard deviation per frequency bin over a split, and store them in stats.json beside dataset.json.

    Examples:
      ks-shard stats
      ks-shard stats data/k32/shards --split train
      ks-shard stats s3://bucket/k32 --n_fft 512 --hop_seconds 0.02
      ks-shard stats --kind log_mel --n_fft 512 --frame_seconds 0.025 --hop_seconds 0.02 --bands 40 --epsilon 1e-6

    Each sample's audio is covered by evenly spaced windows. ks-train reads the statistics with --view clip_and_spectrogram or
    clip_and_log_mel; run this again after the set has changed. Entries of different parameters are kept side by side.

    exit code: 0 done; 1 done, some damaged samples left out; 2 usage error; 3 stopped, run again; 4 a bug, or a failing disk.
    """

    split: str = "train"
    """Split to compute the statistics from."""
    kind: Literal["spectrogram", "log_mel"] = "spectrogram"
    """Log spectrograms of the stored audio (for --view clip_and_spectrogram), or log-mel spectrograms of resampled audio (for
    --view clip_and_log_mel)."""
    window_seconds: float = Spectrogram().window_seconds
    """Length of the window in seconds, as in the view."""
    n_fft: int = Spectrogram().n_fft
    """FFT size in samples, as in the view. A spectrogram has n_fft / 4 + 1 bins."""
    hop_seconds: float = Spectrogram().hop_seconds
    """Hop between columns in seconds, as in the view."""
    sample_rate: int = LogMel().sample_rate
    """log_mel only: sample rate in hertz to resample to."""
    frame_seconds: float = LogMel().frame_seconds
    """log_mel only: length of the Hann window in seconds, at most n_fft samples."""
    bands: int = LogMel().bands
    """log_mel only: number of mel bands."""
    epsilon: float = LogMel().epsilon
    """log_mel only: constant added to the power before the logarithm."""
    workers: int = field(default_factory=cores.usable)
    """Number of worker processes; each reads one shard at a time."""
    cache: Path = field(default_factory=default_cache)
    """Folder that caches shards of a remote set, shared by all processes of this machine."""
    cache_gb: float = 100.0
    """Maximum size of the cache in gigabytes (1e9 bytes)."""
    json: bool = False
    """Print the entry as JSON on standard output."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardTask:
    """One shard to compute sums over."""

    place: Address
    split: str
    number: int
    numbers: Numbers
    cache: Cache | None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sums:
    """Sums over the columns of all windows: float64, shape (F,)."""

    samples: int = 0
    windows: int = 0
    total_F: np.ndarray
    square_F: np.ndarray
    bad: tuple[str, ...] = ()
    """Errors of the samples that were left out."""

    def __add__(self, other: "Sums") -> "Sums":
        """Sums over both sets of windows."""
        return Sums(
            samples=self.samples + other.samples,
            windows=self.windows + other.windows,
            total_F=self.total_F + other.total_F,
            square_F=self.square_F + other.square_F,
            bad=self.bad + other.bad,
        )


def main(argv: Sequence[str]) -> int:
    """`ks-shard stats [SHARDS]`; returns the exit code."""
    words = list(argv)
    place = words.pop(0) if words and not words[0].startswith("-") else None
    settings = parse(StatsSettings, words, prog=f"ks-shard stats [{PLACE}]").settings
    return compute(settings, None if place is None else Address(place))


def compute(settings: StatsSettings, place: Address | None) -> int:
    """Compute and store the statistics of a split; returns the exit code.

    Raises SettingsError and ShardError for invalid input.
    """
    if settings.workers < 1 or not 0 < settings.cache_gb < float("inf"):
        raise SettingsError("--workers and --cache_gb: must be more than 0")
    try:
        numbers = _numbers(settings)
    except ValueError as error:
        raise SettingsError(f"--{error}") from error
    if place is None:
        place = Address(str(only_one("data/*/shards/dataset.json", option=PLACE, make="ks-shard").parent))
    dataset = reader.read_dataset(place)
    _check(dataset, settings.split, place)
    print(f"shards: {place}", file=sys.stderr if settings.json else sys.stdout)
    cache = Cache.for_set(place, settings.cache, gigabytes=settings.cache_gb)
    tasks = [
        ShardTask(place=place, split=settings.split, number=number, numbers=numbers, cache=cache)
        for number in range(dataset.every_split[settings.split].shards)
    ]
    with stoppable(signal.SIGINT, signal.SIGTERM) as stop:
        found = list(_heard(tasks, workers=settings.workers, stop=stop.__bool__))
    if stop:
        print(f"stopped by {stop} before all samples were processed; run the same command again", file=sys.stderr)
        return STOPPED
    sums = sum(found[1:], start=found[0])
    for what in sums.bad:
        print(f"left out: {what}", file=sys.stderr)
    entry = entry_of(sums, dataset, settings.split, numbers)
    stats.add(place, entry)
    if settings.json:
        print(json.dumps(dataclasses.asdict(entry)))
    else:
        unit = " dB" if settings.kind == "spectrogram" else ""
        mean, std = (f"{min(values):.1f} to {max(values):.1f}{unit}" for values in (entry.mean, entry.std))
        counts = f"{plural(entry.samples, 'sample')}, {plural(entry.windows, 'window')}"
        print(f"{entry.split}: {counts}; mean {mean}, std {std}\n{place}: {layout.STATS}")
    return SOME_FAILED if sums.bad else DONE


def entry_of(sums: Sums, dataset: Dataset, split: str, numbers: Numbers) -> Statistics:
    """Entry for a split from its sums; raises ShardError if there are no samples."""
    if not sums.samples:
        raise ShardError(f"no sample of {split} has readable audio; see ks-shard --verify")
    count = sums.windows * numbers.columns
    mean_F = sums.total_F / count
    std_F = np.sqrt(np.maximum(sums.square_F / count - mean_F**2, 0))
    return Statistics(
        split=split,
        fingerprint=dataset.every_split[split].fingerprint,
        samples=sums.samples,
        windows=sums.windows,
        numbers=numbers,
        mean=tuple(mean_F.tolist()),
        std=tuple(std_F.tolist()),
        data_recipe=dataset.recipe,
    )


@dataclass(frozen=True, slots=True, eq=False)
class ShardResult:
    """Result for a shard."""

    sums: Sums | None
    fault: str = ""
    """Why it could not be read."""


def shard_sums(task: ShardTask) -> ShardResult:
    """Sums of a shard without its damaged samples. Runs in a worker."""
    try:
        split = reader.open_shard(task.place, task.split, task.number, cache=task.cache)
        sums = _nothing(task.numbers)
        for number in range(len(split)):
            with stream.sample(split, number) as sample:
                try:
                    sums += sums_of(sample.waveform(), task.numbers)
                except (BadSampleError, MediaError) as error:
                    what = str(error)
                    bad = what if what.startswith(str(sample)) else f"{sample}: {what}"
                    sums = dataclasses.replace(sums, bad=(*sums.bad, bad))
    except KineticsSoundsError as error:
        return ShardResult(None, str(error))
    return ShardResult(sums)


def sums_of(waveform: np.ndarray, numbers: Numbers) -> Sums:
    """Sums over the windows that cover a track, float32 (samples,)."""
    starts = covering_starts(len(waveform), numbers.samples)
    windows = (waveform[start : start + numbers.samples] for start in starts)
    columns_TF = np.concatenate([_image(window, numbers) for window in windows]).astype(np.float64)
    return Sums(samples=1, windows=len(starts), total_F=columns_TF.sum(axis=0), square_F=(columns_TF**2).sum(axis=0))


def _image(window: np.ndarray, numbers: Numbers) -> np.ndarray:
    """Spectrogram of a window as computed by a view, before standardisation: float32 (T, F)."""
    return log_mel(window, numbers).T if isinstance(numbers, LogMel) else log_spectrogram(window, numbers)


def _numbers(settings: StatsSettings) -> Numbers:
    """Raises ValueError for invalid parameters."""
    kind: type[Numbers] = LogMel if settings.kind == "log_mel" else Spectrogram
    return kind(**{each.name: getattr(settings, each.name) for each in dataclasses.fields(kind)})


def _nothing(numbers: Numbers) -> Sums:
    return Sums(total_F=np.zeros(numbers.bins), square_F=np.zeros(numbers.bins))


def _heard(tasks: Sequence[ShardTask], *, workers: int, stop: Callable[[], bool]) -> Iterator[Sums]:
    """Sums of each shard in order; raises ShardError for an unreadable one."""
    pool: local.Pool[ShardTask, ShardResult] = local.Pool(shard_sums, workers=min(workers, len(tasks)))
    with contextlib.closing(pool), progress.bar("ks-shard stats", len(tasks)) as bar:
        for task, found in in_order(pool, tasks, timeout_seconds=SHARD_SECONDS, stop=stop):
            if isinstance(found, Failed):
                raise ShardError(f"{task.place}: {layout.tar_path(Path(), task.split, task.number)}: {found.detail}")
            if found.sums is None:
                raise ShardError(found.fault)
            bar.advance("read")
            yield found.sums


def _check(dataset: Dataset, split: str, place: Address) -> None:
    """Raise ShardError if the split has no samples or no audio."""
    if split not in dataset.every_split:
        raise ShardError(f"{place}: has no split {split!r}; it has: {', '.join(dataset.every_split) or 'none'}")
    if dataset.modality == "video":
        raise ShardError(f"{place}: has no sound, which the statistics are of")
    if layout.AUDIO not in dataset.parts:
        raise ShardError(f"{place}: has no {layout.AUDIO}; make the set again with ks-shard --audio flac")
    if not dataset.every_split[split].samples:
        raise ShardError(f"{place}: its {split} has no samples; choose another --split")
