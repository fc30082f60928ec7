"""ks-shard: from a manifest's clips to WebDataset tars of frames, mel-spectrograms and sound."""

import contextlib
import dataclasses
import hashlib
import json
import os
import signal
import sys
import zlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np

from kinetics_sounds import files, manifest, progress, remote
from kinetics_sounds.address import Address
from kinetics_sounds.clip import SPLITS, Media, Outcome
from kinetics_sounds.errors import BUG_BELOW, FaultError, ManifestError, SettingsError, ShardError, StoppedError
from kinetics_sounds.manifest import Manifest
from kinetics_sounds.media import encode, frames, mel
from kinetics_sounds.settings import DONE, SOME_FAILED, STOPPED, Stop, command, only_one, parse, stoppable
from kinetics_sounds.shards import index, layout
from kinetics_sounds.shards.index import Dataset, Index, Left, SplitFacts
from kinetics_sounds.shards.writer import Sample, ShardWriter

from . import executors, upload, verify
from .stages import pack
from .stages.pack import Packing, Refused, Task

TASK_SECONDS = 900.0
"""A clip's whole task is killed after this; ffmpeg has the shorter `--timeout`."""
OTHER = "holds shards of another manifest, other settings or another ffmpeg; choose another --out, or delete it to make them anew"

MOST_NAMED = 20
"""Clips that are named of those that are not there."""

Made = dict[str, bytes] | Left | Refused
"""What becomes of a clip."""
Kept = Mapping[int, Index]
"""The shards of a split that are there, by their numbers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Pack a build's clips into WebDataset shards. Run it again to go on where it stopped.

    Examples:
      ks-shard
      ks-shard --manifest data/k32/manifest.parquet --out /shared/k32 --workers 16
      ks-shard --short_side 256 --codec jpeg --audio none
      ks-shard --out s3://bucket/k32 --executor slurm --slurm.partition cpu --workers 32
      ks-shard --check_bytes
      ks-shard --verify data/k32/shards --verify_decode

    exit code: 0 every ok clip packed, or every sample sound; 1 done, some are not; 2 misuse, no set to verify, or a clip that is
    not what the manifest says; 3 stopped, run again; 4 a bug, or a disk that fails.
    """

    manifest: Path | None = None
    """manifest.parquet of a build, or a copy beside it that lacks rows (Parquet, or CSV called *.csv); default: the only
    one under data/."""
    out: Address | None = None
    """Folder of the shards, or a URL (s3://, gs://, hf://, http://) to which they are sent once all are made and checked;
    default, and where they are made for a URL: shards beside the manifest."""
    codec: Literal["h264", "jpeg"] = "h264"
    """How frames are stored: video in closed groups of 16, or each a JPEG: seven times the bytes, a third of the work to
    read."""
    short_side: int = 128
    """Pixels of the stored frames' shorter side; even. The aspect is kept."""
    quality: int = 90
    """Of --codec jpeg, 1 to 100."""
    fast_decode: bool = False
    """Decode the clips without their loop filter: a sixth less work; frames some 45 dB (at worst 38) from the exact ones."""
    mel: Literal["paper", "authors"] = "paper"
    """The mel-spectrogram: the paper's text (10 ms window and hop), or what its authors' scripts do (43 and 21 ms)."""
    audio: Literal["flac", "none"] = "flac"
    """Whether the 24 kHz sound is kept beside the mel-spectrogram."""
    shard_bytes: int = 256_000_000
    """A shard is closed once it holds this many bytes."""
    seed: int = 0
    """Of the one shuffle that decides the samples' order in the tars."""
    executor: Literal["local", "ray", "slurm"] = "local"
    """Where workers run: processes here, a Ray cluster, or Slurm array jobs. The clips and the shards' folder must be seen by
    all of them."""
    workers: int = field(default_factory=lambda: os.cpu_count() or 1)
    """Processes; each uses one core. The bytes do not depend on it."""
    timeout: float = 300.0
    """Seconds that one ffmpeg run may take."""
    check_bytes: bool = False
    """Read every shard that is there, at the URL of --out too, and make or send anew those whose SHA-256 is not their index's, or
    whose index is damaged; without this option sizes alone are compared."""
    verify: Address | None = None
    """Check this shard set (a folder or a URL) against its indexes, and pack nothing."""
    verify_decode: bool = False
    """With --verify: also decode every sample."""
    json: bool = False
    """Print the result as JSON on standard output."""


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of `ks-shard`."""

    def run() -> int:
        parsed = parse(Settings, argv, prog="ks-shard", groups=executors.options())
        _check(parsed.settings, parsed.groups)
        return shard(parsed.settings, parsed.groups) if parsed.settings.verify is None else _verify(parsed.settings)

    return command("ks-shard", run)


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What is to be packed, and where."""

    made: Manifest
    orders: Mapping[str, Sequence[Outcome]]
    """Of each split that has any, the ok clips in the samples' order."""
    packing: Packing
    recipe: str
    """Fingerprint of all that decides the shards' bytes."""
    shard_bytes: int
    out: Path
    url: Address | None
    """Where the set is sent in the end."""


def shard(settings: Settings, groups: Mapping[str, Any]) -> int:
    """Pack what is not packed yet, and send what is not there yet; returns the exit code.

    `groups` holds the own options of executors, by their names.
    """
    job = _prepare(settings)
    with (
        files.exclusive(job.out, command="ks-shard"),
        stoppable(signal.SIGINT, signal.SIGTERM) as stop,
        files.scratch(job.out.absolute()) as scratch,
    ):
        files.remove_parts(job.out, layout.DATASET)
        for split in SPLITS:
            files.remove_parts(job.out / split, f"{split}-*.tar", f"{split}-*.json")
        kept = _all_kept(job, stop, check_bytes=settings.check_bytes)
        _look_at_clips(job, kept, stop)

        def start() -> executors.Pool[Task, Made]:
            own = groups.get(settings.executor)
            return executors.start(
                settings.executor, pack.attempt, workers=settings.workers, folder=scratch, chosen=own
            )

        with contextlib.closing(_Twice(start, workers=settings.workers)) as pool:
            done = {split: _split(job, split, kept[split], stop, pool) for split in job.orders}
        dataset = _dataset(done, job, settings)
        if not stop:
            index.write(job.out / layout.DATASET, dataset)
            if job.url:
                upload.upload(job.out, job.url, done, stop=stop.__bool__, check_bytes=settings.check_bytes)
        if stop:
            print("stopped after the last whole shard; run the same command to go on", file=sys.stderr)
            return STOPPED
    for split, indices in done.items():
        for left in (left for each in indices for left in each.left):
            print(f"left out of {split}: {left.key}: {left.status}: {left.detail}", file=sys.stderr)
    facts = {split: dataclasses.asdict(facts) for split, facts in dataset.splits.items()}
    text = "\n".join(f"{split}: {each['samples']} samples in {each['shards']} shards" for split, each in facts.items())
    place = remote.join(job.url, layout.DATASET) if job.url else job.out / layout.DATASET
    print(json.dumps(facts) if settings.json else f"{text}\ndataset: {place}")
    return SOME_FAILED if any(facts.left for facts in dataset.splits.values()) else DONE


MENDING = (
    "to mend it: run ks-shard again with the options that made the set and --check_bytes, which makes anew what is not whole; or "
    "copy each tar that is named again, with the .json beside it, from where both are whole"
)
PACKED_SO = (
    "a sample whose content is wrong in a tar that is whole was packed so, and no copy mends it: pack into a new folder (another "
    "--out), or leave its clip out by a --manifest without that row"
)


def _verify(settings: Settings) -> int:
    """Check a set; returns the exit code."""
    place = settings.verify or Address("")
    with stoppable(signal.SIGINT, signal.SIGTERM) as stop:
        found = verify.verify(place, decode=settings.verify_decode, workers=settings.workers, stop=stop.__bool__)
    if stop:
        print("stopped before all was checked", file=sys.stderr)
        return STOPPED
    if settings.json:
        print(json.dumps(dataclasses.asdict(found)))
    else:
        for fault in found.faults:
            print(f"{fault.place}: {f'sample {fault.key}: ' if fault.key else ''}{fault.what}")
        bad = len({(fault.place, fault.key) for fault in found.faults})
        print(f"{place}: {found.samples} samples in {found.shards} shards, {bad or 'nothing'} bad")
        if not all(fault.packed for fault in found.faults):
            print(MENDING)
        if any(fault.packed for fault in found.faults):
            print(PACKED_SO)
    return SOME_FAILED if found.faults else DONE


def _prepare(settings: Settings) -> Job:
    """Read what the settings name, and print what was chosen; nothing is written.

    Raises SettingsError where there is nothing to pack, ShardError where another set lies at the URL.
    """
    path = settings.manifest or only_one("data/*/manifest.parquet", option="manifest", make="ks-build")
    made = manifest.read(path)
    url = settings.out if settings.out and remote.is_url(settings.out) else None
    out = Path(settings.out.real) if settings.out and not url else path.parent / "shards"
    say = sys.stderr if settings.json else sys.stdout
    print(f"manifest: {path}\nout: {out}" + (f", then {url}" if url else ""), file=say)
    if made.classes.note:
        print(f"classes: {made.classes.name} ({made.classes.note})", file=say)
    encoding = encode.Encoding(
        codec=settings.codec,
        short_side=settings.short_side,
        quality=settings.quality,
        fast_decode=settings.fast_decode,
    )
    packing = Packing(
        folder=path.parent.absolute(),
        scratch=out.absolute() / files.SCRATCH,
        encoding=encoding,
        mel=mel.PRESETS[settings.mel],
        audio=settings.audio == "flac",
        timeout_seconds=settings.timeout,
        versions=pack.versions(encoding),
    )
    orders = {split: _order(made, split, settings.seed) for split in SPLITS}
    orders = {split: outcomes for split, outcomes in orders.items() if outcomes}
    if not orders:
        raise SettingsError(f"{path}: no clip of it is ok, so there is nothing to pack; see its status column")
    first = next(outcome.media.path for each in orders.values() for outcome in each if outcome.media)
    if not (path.parent / Path(first).parts[0]).is_dir() and not (out / layout.DATASET).is_file():
        raise SettingsError(
            f"{path}: its clips ({first} and so on) are not beside it; keep a manifest and copies of it in the build's folder"
        )
    recipe = _recipe(orders, made.classes.labels, packing, settings.shard_bytes)
    if url and upload.holds_another(url, recipe):
        raise ShardError(f"{url}: {OTHER}")
    return Job(
        made=made, orders=orders, packing=packing, recipe=recipe, shard_bytes=settings.shard_bytes, out=out, url=url
    )


class _Twice:
    """A pool that hands a task in once more whose process died or ran past its time: machines can be busy."""

    def __init__(self, start: Callable[[], executors.Pool[Task, Made]], *, workers: int) -> None:
        """Nothing is started before the first task."""
        self.workers = workers
        self._start = start
        self._pool: executors.Pool[Task, Made] | None = None
        self._again: set[Task] = set()

    @property
    def busy(self) -> int:
        """Tasks handed in whose results were not taken yet."""
        return self._pool.busy if self._pool else 0

    def submit(self, task: Task, *, timeout_seconds: float) -> None:
        """Hand in a task, which is killed once it has run this long."""
        self._pool = self._pool or self._start()
        self._pool.submit(task, timeout_seconds=timeout_seconds)

    def finished(self, seconds: float) -> list[tuple[Task, Made | executors.Failed]]:
        """As the pool's own, without the ends that are no ends yet."""
        ended = []
        for task, result in self._pool.finished(seconds) if self._pool else ():
            lost = isinstance(result, executors.Failed) and result.cause is not executors.Cause.RAISED
            if lost and task not in self._again:
                self._again.add(task)
                self.submit(task, timeout_seconds=TASK_SECONDS)
            else:
                ended.append((task, result))
        return ended

    def close(self) -> None:
        """End the processes and what they run."""
        if self._pool:
            self._pool.close()


def _check(settings: Settings, groups: Mapping[str, Any]) -> None:
    for name in ("shard_bytes", "workers", "timeout"):
        if not 0 < getattr(settings, name) < float("inf"):
            raise SettingsError(f"--{name} {getattr(settings, name)}: must be more than 0")
    if settings.short_side < 16 or settings.short_side % 2:
        raise SettingsError(f"--short_side {settings.short_side}: must be even and at least 16")
    if settings.short_side**2 > frames.MAX_PIXELS:
        raise SettingsError(
            f"--short_side {settings.short_side}: frames of more than {frames.MAX_PIXELS} pixels are not read"
        )
    if not 1 <= settings.quality <= 100:
        raise SettingsError(f"--quality {settings.quality}: must be from 1 to 100")
    if settings.quality != encode.Encoding().quality and settings.codec != "jpeg":
        raise SettingsError(f"--quality {settings.quality}: is of JPEGs alone; add --codec jpeg, or leave it out")
    if settings.verify_decode and settings.verify is None:
        raise SettingsError("--verify_decode: says how to verify; add --verify SHARDS, or leave it out")
    if settings.check_bytes and settings.verify is not None:
        raise SettingsError(
            "--check_bytes: --verify reads every byte already, and mends nothing; leave one of them out"
        )
    for name, chosen in groups.items():  # whoever gave them believes that it is asked
        if name != settings.executor and chosen != type(chosen)():
            raise SettingsError(
                f"--{name}.*: options of an executor that is not asked; add --executor {name}, or leave them out"
            )


def _order(made: Manifest, split: str, seed: int) -> list[Outcome]:
    """The split's ok clips, shuffled once: a function of the keys and the seed alone."""
    usable = [outcome for outcome in made.outcomes if outcome.media is not None and outcome.clip.split == split]
    usable.sort(key=lambda outcome: outcome.clip.key)
    lots = np.random.default_rng([seed, zlib.crc32(split.encode())]).permutation(len(usable))
    return [usable[lot] for lot in lots]


def _decisive(outcome: Outcome) -> tuple[str | None, ...]:
    """What of a clip decides its sample's bytes."""
    clip, media = outcome.clip, outcome.media
    channel = () if media is None or media.audio_channel in ("", encode.MIX) else (media.audio_channel,)
    return clip.key, clip.label, media and media.sha256, *channel


def _recipe(orders: Mapping[str, Sequence[Outcome]], labels: Sequence[str], packing: Packing, shard_bytes: int) -> str:
    """Fingerprint of all that decides the shards' bytes."""
    clips = [_decisive(outcome) for each in orders.values() for outcome in each]
    facts = [layout.SCHEMA, clips, labels, pack.recipe(packing), shard_bytes]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def _split(job: Job, split: str, kept: Kept, stop: Stop, pool: executors.Pool[Task, Made]) -> list[Index]:
    """Every shard of one split, in order: a kept one where it is the next, else it is made."""
    outcomes = job.orders[split]
    starts = _starts(outcomes, kept)
    indices: list[Index] = []
    position, results = 0, None
    done = sum(map(_clips, kept.values()))
    with progress.bar(f"ks-shard {split}", len(outcomes), done=done, shown=done < len(outcomes)) as bar:
        while position < len(outcomes):
            number = len(indices)
            if starts.get(number) == position:
                indices.append(kept[number])
                position, results = position + _clips(kept[number]), None
                continue
            results = results or _results(job, outcomes, position, starts.values(), pool, stop)
            with ShardWriter(layout.tar_path(job.out, split, number), recipe=job.recipe) as writer:
                for task, result in results:
                    position += 1
                    _add(writer, task, result)
                    bar.advance("packed" if isinstance(result, dict) else "left out")
                    if writer.bytes >= job.shard_bytes:
                        break
                else:
                    if position < len(outcomes):  # asked to stop: what is not a whole shard is made again
                        return indices
                indices.append(writer.close())
    return indices


def _starts(outcomes: Sequence[Outcome], kept: Kept) -> dict[int, int]:
    """The place in the order at which each kept shard begins."""
    places = {outcome.clip.key: place for place, outcome in enumerate(outcomes)}
    keys = {number: [*each.keys, *(left.key for left in each.left)] for number, each in kept.items()}
    return {number: min((places.get(key, -1) for key in keys[number]), default=-1) for number in kept}


def _clips(made: Index) -> int:
    """How many clips of the order became a shard."""
    return len(made.keys) + len(made.left)


def _results(
    job: Job,
    outcomes: Sequence[Outcome],
    position: int,
    starts: Collection[int],
    pool: executors.Pool[Task, Made],
    stop: Stop,
) -> Iterator[tuple[Task, Made | executors.Failed]]:
    """The clips from `position` on with what becomes of each; those of a shard that is kept are begun only if it is asked for."""
    label_index = {label: place for place, label in enumerate(job.made.classes.labels)}
    ends = {start for start in starts if start > position} | {len(outcomes)}
    for first, end in pairwise([position, *sorted(ends)]):
        tasks = (
            Task(outcome=each, label_index=label_index[each.clip.label], packing=job.packing)
            for each in outcomes[first:end]
        )
        yield from executors.in_order(pool, tasks, timeout_seconds=TASK_SECONDS, stop=stop.__bool__)


def _add(writer: ShardWriter, task: Task, result: Made | executors.Failed) -> None:
    """Write what became of a clip.

    Raises ManifestError for what a person must do first, StoppedError for what is not known to be the clip's own fault, and
    FaultError for a bug or a disk that fails: nothing is settled.
    """
    key = task.outcome.clip.key
    if isinstance(result, Refused):
        raise result.error(f"{key}: {result.reason}")
    if isinstance(result, executors.Failed):
        if result.cause is executors.Cause.RAISED:
            raise FaultError(f"{key}: {result.detail}; {BUG_BELOW}\n{result.trace}")
        raise StoppedError(f"{key}: {result.detail}; run the same command to go on")
    if isinstance(result, Left):
        writer.leave(result)
    else:
        writer.write(Sample(key=key, label_index=task.label_index, parts=result))


def _all_kept(job: Job, stop: Stop, *, check_bytes: bool) -> Mapping[str, Kept]:
    """The shards of every split that are there and need not be made: by their sizes, or with `check_bytes` by all their bytes.

    Raises ShardError where anything in the folder is another set's, and without `check_bytes` for what is damaged.
    """
    found = _indexes(job, check_bytes=check_bytes)

    def difference(tar: Path) -> str:
        made = found[tar][2]
        try:
            return files.difference(tar, size=made.bytes, digest=made.sha256 if check_bytes else "")
        except OSError as error:
            if not check_bytes:
                raise _unreadable(tar, error) from error
            return f"cannot be read: {error.strerror}"

    kept: dict[str, dict[int, Index]] = {split: {} for split in SPLITS}
    with progress.bar("ks-shard --check_bytes", len(found), shown=check_bytes) as bar:
        for tar, differs in files.in_threads(difference, found):
            bar.advance("changed" if differs else "whole")
            split, number, made = found[tar]
            if not differs:
                kept[split][number] = made
            elif check_bytes:
                progress.log.warning("%s: %s; it is made anew", tar, differs)
            elif tar.exists():
                raise ShardError(f"{tar}: {differs}; run ks-shard again with --check_bytes to make it anew")
            if stop:
                break
    return kept


def _indexes(job: Job, *, check_bytes: bool) -> dict[Path, tuple[str, int, Index]]:
    """The indexes that are there: of each tar its split, its number in it and what its index says; raises as `_all_kept`."""
    found: dict[Path, tuple[str, int, Index]] = {}
    damaged: list[ShardError] = []
    for split in SPLITS:
        for path in sorted((job.out / split).glob(f"{split}-*.json")):
            number = path.stem.removeprefix(f"{split}-")
            if not number.isdecimal() or layout.tar_path(job.out, split, int(number)).stem != path.stem:
                continue
            try:
                found[path.with_suffix(".tar")] = (split, int(number), index.read_index(path))
            except ShardError as fault:
                if isinstance(fault.__cause__, OSError):
                    raise _unreadable(path, fault.__cause__) from fault
                damaged.append(fault)
    recipes = {made.recipe for _, _, made in found.values()}
    with contextlib.suppress(ShardError):  # not there yet, or damaged: it is written anew
        recipes.add(index.read_dataset(job.out).recipe)
    if recipes - {job.recipe}:
        raise ShardError(f"{job.out}: {OTHER}")
    if damaged and not check_bytes:
        raise damaged[0]
    if damaged and not recipes:
        raise ShardError(
            f"{damaged[0]}; but nothing that is whole says that this was the same set: if it was, delete it"
        )
    for error in damaged:
        progress.log.warning("%s; the latter is done now", error)
    return found


def _unreadable(path: Path, error: OSError) -> StoppedError | FaultError:
    what = f"{path}: cannot be read: {error.strerror}"
    kind = FaultError if error.errno in files.FAILING else StoppedError
    return kind(f"{what}; see that the disk is there, then run the same command to go on")


def _look_at_clips(job: Job, kept: Mapping[str, Kept], stop: Stop) -> None:
    """Raise ManifestError that names the clips still to be packed that are missing or of another size.

    Their bytes are compared when they are packed, since then they are read. Raises StoppedError where the disk fails.
    """
    wrong: list[str] = []

    def difference(media: Media) -> str:
        path = job.packing.folder / media.path
        try:
            return files.difference(path, size=media.bytes)
        except OSError as error:
            raise _unreadable(path, error) from error

    for split, outcomes in job.orders.items():
        packed = {key for made in kept[split].values() for key in (*made.keys, *(left.key for left in made.left))}
        wanted = (each.media for each in outcomes if each.media and each.clip.key not in packed)
        for media, differs in files.in_threads(difference, wanted):
            if differs:
                wrong.append(f"{job.packing.folder / media.path}: {differs}")
            if stop:
                return
    if wrong:
        named = [*wrong[:MOST_NAMED], *([f"and {len(wrong) - MOST_NAMED} more"] if len(wrong) > MOST_NAMED else [])]
        told = "\n".join(named)
        raise ManifestError(
            f"of the clips, {len(wrong)} are not what the manifest names; {pack.mending(job.packing.folder)}:\n{told}"
        )


def _dataset(done: Mapping[str, Sequence[Index]], job: Job, settings: Settings) -> Dataset:
    keys = {split: [key for each in indices for key in each.keys] for split, indices in done.items()}
    classes, packing = job.made.classes, job.packing
    return Dataset(
        recipe=job.recipe,
        fingerprint=manifest.fingerprint(key for each in keys.values() for key in each),
        classes=classes.name,
        note=classes.note,
        labels=classes.labels,
        parts=next((each.parts for indices in done.values() for each in indices if each.parts), ()),
        splits={
            split: SplitFacts(
                shards=len(indices),
                samples=len(keys[split]),
                bytes=sum(each.bytes for each in indices),
                left=sum(len(each.left) for each in indices),
                fingerprint=manifest.fingerprint(keys[split]),
            )
            for split, indices in done.items()
        },
        frames=encode.recipe(packing.encoding),
        mel=dataclasses.asdict(packing.mel) | {"preset": settings.mel},
        audio={"codec": settings.audio, "sample_rate": encode.SAMPLE_RATE, "channels": 1},
        shuffle_seed=settings.seed,
        shard_bytes=job.shard_bytes,
        versions=dict(each.split(" ", 1) for each in packing.versions.split("; ")),
    )


if __name__ == "__main__":
    sys.exit(main())
