"""ks-shard: from a manifest's clips to WebDataset tars of frames, mel-spectrograms and sound."""

import contextlib
import dataclasses
import hashlib
import json
import os
import signal
import sys
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from kinetics_sounds import files, manifest, progress, remote
from kinetics_sounds.clip import SPLITS, Outcome
from kinetics_sounds.errors import SettingsError, ShardError, StoppedError
from kinetics_sounds.manifest import Manifest
from kinetics_sounds.media import encode, frames, mel
from kinetics_sounds.redact import redact
from kinetics_sounds.settings import DONE, SOME_FAILED, STOPPED, Stop, command, only_one, parse, stoppable
from kinetics_sounds.shards import index, layout
from kinetics_sounds.shards.index import Dataset, Index, Left, SplitFacts
from kinetics_sounds.shards.writer import Sample, ShardWriter

from . import executors, upload, verify
from .stages import pack
from .stages.pack import Packing, Task

TASK_SECONDS = 900.0
"""A clip's whole task is killed after this; ffmpeg has the shorter `--timeout`."""
OTHER = "holds shards of another manifest, other settings or another ffmpeg; choose another --out, or delete it to make them anew"

Made = dict[str, bytes] | Left
"""What becomes of a clip."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Pack a build's clips into WebDataset shards. Run it again to go on where it stopped.

    Examples:
      ks-shard
      ks-shard --manifest data/k32/manifest.parquet --out /shared/k32 --workers 16
      ks-shard --short_side 256 --codec jpeg --audio none
      ks-shard --out s3://bucket/k32 --executor slurm --slurm.partition cpu --workers 32
      ks-shard --verify data/k32/shards --verify_decode

    exit code: 0 every ok clip packed, or every sample sound; 1 done, some are not; 2 misuse, or no set to verify; 3 stopped,
    run again.
    """

    manifest: Path | None = None
    """manifest.parquet of a build, or a copy beside it that lacks rows (Parquet, or CSV called *.csv); default: the only
    one under data/."""
    out: str | None = None
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
    verify: str | None = None
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
    url: str | None
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
        for folder in (job.out, *(job.out / split for split in SPLITS)):
            files.remove_parts(folder)
        finished = _all_finished(job)

        def start() -> executors.Pool[Task, Made]:
            own = groups.get(settings.executor)
            return executors.start(settings.executor, pack.pack, workers=settings.workers, folder=scratch, chosen=own)

        with contextlib.closing(_Twice(start, workers=settings.workers)) as pool:
            done = {split: _split(job, split, finished[split], stop, pool) for split in job.orders}
        dataset = _dataset(done, job, settings)
        if not stop:
            index.write(job.out / layout.DATASET, dataset)
            if job.url:
                upload.upload(job.out, job.url, done, stop=stop.__bool__)
        if stop:
            print("stopped after the last whole shard; run the same command to go on", file=sys.stderr)
            return STOPPED
    for split, indices in done.items():
        for left in (left for each in indices for left in each.left):
            print(f"left out of {split}: {left.key}: {left.status}: {left.detail}", file=sys.stderr)
    facts = {split: dataclasses.asdict(facts) for split, facts in dataset.splits.items()}
    text = "\n".join(f"{split}: {each['samples']} samples in {each['shards']} shards" for split, each in facts.items())
    place = redact(remote.join(job.url, layout.DATASET)) if job.url else job.out / layout.DATASET
    print(json.dumps(facts) if settings.json else f"{text}\ndataset: {place}")
    return SOME_FAILED if any(facts.left for facts in dataset.splits.values()) else DONE


MENDING = (
    "to mend it: delete each tar that is named, with the .json beside it, and run ks-shard again with the same options; or copy "
    "both again from where they are whole (ks-shard alone looks at sizes, not at every byte)"
)


def _verify(settings: Settings) -> int:
    """Check a set; returns the exit code."""
    place = settings.verify or ""
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
        print(f"{redact(place)}: {found.samples} samples in {found.shards} shards, {bad or 'nothing'} bad")
        if bad:
            print(MENDING)
    return SOME_FAILED if found.faults else DONE


def _prepare(settings: Settings) -> Job:
    """Read what the settings name, and print what was chosen; nothing is written.

    Raises SettingsError where there is nothing to pack, ShardError where another set lies at the URL.
    """
    path = settings.manifest or only_one("data/*/manifest.parquet", option="manifest", make="ks-build")
    made = manifest.read(path)
    url = settings.out if settings.out and remote.is_url(settings.out) else None
    out = Path(settings.out) if settings.out and not url else path.parent / "shards"
    say = sys.stderr if settings.json else sys.stdout
    print(f"manifest: {path}\nout: {out}" + (f", then {redact(url)}" if url else ""), file=say)
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
    if not (path.parent / Path(first).parts[0]).is_dir():
        raise SettingsError(
            f"{path}: its clips ({first} and so on) are not beside it; keep a manifest and copies of it in the build's folder"
        )
    recipe = _recipe(orders, made.classes.labels, packing, settings.shard_bytes)
    if url and upload.holds_another(url, recipe):
        raise ShardError(f"{redact(url)}: {OTHER}")
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


def _recipe(orders: Mapping[str, Sequence[Outcome]], labels: Sequence[str], packing: Packing, shard_bytes: int) -> str:
    """Fingerprint of all that decides the shards' bytes."""
    clips = [(o.clip.key, o.clip.label, o.media and o.media.sha256) for each in orders.values() for o in each]
    facts = [layout.SCHEMA, clips, labels, pack.recipe(packing), shard_bytes]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def _split(job: Job, split: str, indices: list[Index], stop: Stop, pool: executors.Pool[Task, Made]) -> list[Index]:
    """Every shard of one split: the whole ones that are there (`indices`), then the rest."""
    outcomes = job.orders[split]
    position = sum(len(each.keys) + len(each.left) for each in indices)
    if position == len(outcomes) or stop:
        return indices
    number = {label: place for place, label in enumerate(job.made.classes.labels)}
    tasks = [
        Task(outcome=each, label_index=number[each.clip.label], packing=job.packing) for each in outcomes[position:]
    ]
    results = executors.in_order(pool, tasks, timeout_seconds=TASK_SECONDS, stop=stop.__bool__)
    with progress.bar(f"ks-shard {split}", len(outcomes), done=position) as bar:
        while position < len(outcomes):
            with ShardWriter(layout.tar_path(job.out, split, len(indices)), recipe=job.recipe) as writer:
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


def _add(writer: ShardWriter, task: Task, result: Made | executors.Failed) -> None:
    """Write what became of a clip; raises StoppedError for what is not known to be its own fault: nothing is settled."""
    key = task.outcome.clip.key
    if isinstance(result, executors.Failed):
        again = "" if result.cause is executors.Cause.RAISED else "; run the same command to go on"
        raise StoppedError(f"{key}: {result.detail}{again}")
    if isinstance(result, Left):
        writer.leave(result)
    else:
        writer.write(Sample(key=key, label_index=task.label_index, parts=result))


def _all_finished(job: Job) -> dict[str, list[Index]]:
    """The whole shards of every split; raises ShardError where anything in the folder is another set's."""
    finished = {split: _finished(job, split) for split in SPLITS}
    try:
        told = index.read_dataset(job.out).recipe
    except ShardError:  # not there yet, or damaged: it is written anew
        told = job.recipe
    if told != job.recipe:
        raise ShardError(f"{job.out}: {OTHER}")
    return finished


def _finished(job: Job, split: str) -> list[Index]:
    """The shards that are whole, from the first on; refuses those of another manifest, other settings or tools."""
    indices: list[Index] = []
    while True:
        tar = layout.tar_path(job.out, split, len(indices))
        if not (layout.index_path(tar).is_file() and tar.is_file()):
            return indices
        found = index.read_index(layout.index_path(tar))
        if found.recipe != job.recipe:
            raise ShardError(f"{job.out}: {OTHER}")
        if tar.stat().st_size != found.bytes:
            raise ShardError(f"{tar}: its size is not what its index says; delete both to make them anew")
        indices.append(found)


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
