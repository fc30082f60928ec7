"""ks-shard: from a manifest's clips to WebDataset tars of frames, mel-spectrograms and sound."""

import contextlib
import dataclasses
import functools
import hashlib
import json
import os
import signal
import sys
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from kinetics_sounds import __version__, files, manifest, progress
from kinetics_sounds.clip import SPLITS, Outcome
from kinetics_sounds.errors import SettingsError, ShardError, StoppedError
from kinetics_sounds.manifest import Manifest
from kinetics_sounds.media import encode, ffmpeg, mel
from kinetics_sounds.settings import DONE, SOME_FAILED, STOPPED, Stop, command, only_one, parse, stoppable
from kinetics_sounds.shards import index, layout
from kinetics_sounds.shards.index import Dataset, Index, Left, SplitFacts
from kinetics_sounds.shards.writer import Sample, ShardWriter

from . import executors
from .executors import local
from .stages import pack
from .stages.pack import Packing

TASK_SECONDS = 900.0
"""A clip's whole task is killed after this; ffmpeg has the shorter `--timeout`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Pack a build's clips into WebDataset shards. Run it again to go on where it stopped.

    Examples:
      ks-shard
      ks-shard --manifest data/k32/manifest.parquet --out /shared/k32 --workers 16
      ks-shard --short_side 256 --audio none

    exit code: 0 every ok clip packed; 1 done, some could not be; 2 misuse; 3 stopped, run again.
    """

    manifest: Path | None = None
    """manifest.parquet of a build; default: the only one under data/."""
    out: Path | None = None
    """Folder of the shards; default: shards beside the manifest."""
    short_side: int = 128
    """Pixels of the stored frames' shorter side; even. The aspect is kept."""
    audio: Literal["flac", "none"] = "flac"
    """Whether the 24 kHz sound is kept beside the mel-spectrogram."""
    shard_bytes: int = 256_000_000
    """A shard is closed once it holds this many bytes."""
    seed: int = 0
    """Of the one shuffle that decides the samples' order in the tars."""
    workers: int = field(default_factory=lambda: os.cpu_count() or 1)
    """Processes; each uses one core. The bytes do not depend on it."""
    timeout: float = 300.0
    """Seconds that one ffmpeg run may take."""
    json: bool = False
    """Print the result as JSON on standard output."""


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of `ks-shard`."""
    return command("ks-shard", lambda: shard(parse(Settings, argv, prog="ks-shard").settings))


def shard(settings: Settings) -> int:
    """Pack what is not packed yet; returns the exit code."""
    _check(settings)
    path = settings.manifest or only_one("data/*/manifest.parquet", option="manifest", make="ks-build")
    made = manifest.read(path)
    out = settings.out or path.parent / "shards"
    say = sys.stderr if settings.json else sys.stdout
    print(f"manifest: {path}\nout: {out}", file=say)
    if made.classes.note:
        print(f"classes: {made.classes.name} ({made.classes.note})", file=say)
    packing = Packing(
        folder=path.parent.absolute(),
        scratch=out.absolute() / files.SCRATCH,
        labels=made.classes.labels,
        encoding=encode.Encoding(short_side=settings.short_side),
        mel=mel.Mel(),
        audio=settings.audio == "flac",
        timeout_seconds=settings.timeout,
        versions=f"kinetics-sounds {__version__}; ffmpeg {ffmpeg.version()}; {mel.versions()}",
    )
    orders = {split: _order(made, split, settings.seed) for split in SPLITS}
    orders = {split: outcomes for split, outcomes in orders.items() if outcomes}
    if not orders:
        raise SettingsError(f"{path}: no clip of it is ok, so there is nothing to pack; see its status column")
    recipe = _recipe(orders, packing, settings)
    with (
        files.exclusive(out, command="ks-shard"),
        stoppable(signal.SIGINT, signal.SIGTERM) as stop,
        files.scratch(out.absolute()),
    ):
        for split in SPLITS:
            files.remove_parts(out / split)
        with contextlib.closing(_Pool(functools.partial(pack.pack, packing=packing), workers=settings.workers)) as pool:
            done = {
                split: _split(out, split, outcomes, packing, recipe, settings, stop, pool)
                for split, outcomes in orders.items()
            }
        if stop:
            print("stopped after the last whole shard; run the same command to go on", file=sys.stderr)
            return STOPPED
        dataset = _dataset(done, made, packing, recipe, settings)
        index.write(out / layout.DATASET, dataset)
    for split, indices in done.items():
        for left in (left for each in indices for left in each.left):
            print(f"left out of {split}: {left.key}: {left.status}: {left.detail}", file=sys.stderr)
    facts = {split: dataclasses.asdict(facts) for split, facts in dataset.splits.items()}
    text = "\n".join(f"{split}: {each['samples']} samples in {each['shards']} shards" for split, each in facts.items())
    print(json.dumps(facts) if settings.json else f"{text}\ndataset: {out / layout.DATASET}")
    return SOME_FAILED if any(facts.left for facts in dataset.splits.values()) else DONE


class _Pool(local.Pool[Outcome, dict[str, bytes] | Left]):
    """Hands a task in once more whose process died or ran past its time: machines can be busy."""

    def __init__(self, function: Callable[[Outcome], dict[str, bytes] | Left], *, workers: int) -> None:
        """Nothing is started before the first task."""
        super().__init__(function, workers=workers)
        self._again: set[Outcome] = set()

    def finished(self, seconds: float) -> list[tuple[Outcome, dict[str, bytes] | Left | executors.Failed]]:
        """As the pool's own, without the ends that are no ends yet."""
        ended = []
        for task, result in super().finished(seconds):
            lost = isinstance(result, executors.Failed) and result.cause is not executors.Cause.RAISED
            if lost and task not in self._again:
                self._again.add(task)
                self.submit(task, timeout_seconds=TASK_SECONDS)
            else:
                ended.append((task, result))
        return ended


def _check(settings: Settings) -> None:
    for name in ("shard_bytes", "workers", "timeout"):
        if not 0 < getattr(settings, name) < float("inf"):
            raise SettingsError(f"--{name} {getattr(settings, name)}: must be more than 0")
    if settings.short_side < 16 or settings.short_side % 2:
        raise SettingsError(f"--short_side {settings.short_side}: must be even and at least 16")


def _order(made: Manifest, split: str, seed: int) -> list[Outcome]:
    """The split's ok clips, shuffled once: a function of the keys and the seed alone."""
    usable = [outcome for outcome in made.outcomes if outcome.media is not None and outcome.clip.split == split]
    usable.sort(key=lambda outcome: outcome.clip.key)
    lots = np.random.default_rng([seed, zlib.crc32(split.encode())]).permutation(len(usable))
    return [usable[lot] for lot in lots]


def _recipe(orders: dict[str, list[Outcome]], packing: Packing, settings: Settings) -> str:
    """Fingerprint of all that decides the shards' bytes."""
    clips = [(o.clip.key, o.clip.label, o.media and o.media.sha256) for each in orders.values() for o in each]
    facts = [layout.SCHEMA, clips, pack.recipe(packing), settings.shard_bytes]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def _split(
    out: Path,
    split: str,
    outcomes: list[Outcome],
    packing: Packing,
    recipe: str,
    settings: Settings,
    stop: Stop,
    pool: executors.Pool[Outcome, dict[str, bytes] | Left],
) -> list[Index]:
    """Every shard of one split: the whole ones that are there, then the rest."""
    indices = _finished(out, split, recipe)
    position = sum(len(each.keys) + len(each.left) for each in indices)
    if position == len(outcomes) or stop:
        return indices
    results = executors.in_order(pool, outcomes[position:], timeout_seconds=TASK_SECONDS, stop=stop.__bool__)
    with progress.bar(f"ks-shard {split}", len(outcomes), done=position) as bar:
        while position < len(outcomes):
            with ShardWriter(layout.tar_path(out, split, len(indices)), recipe=recipe) as writer:
                for outcome, result in results:
                    position += 1
                    bar.advance("packed" if isinstance(result, dict) else "left out")
                    if isinstance(result, executors.Failed):  # not known to be the clip's own fault: nothing is settled
                        again = "" if result.cause is executors.Cause.RAISED else "; run the same command to go on"
                        raise StoppedError(f"{outcome.clip.key}: {result.detail}{again}")
                    if isinstance(result, dict):
                        writer.write(
                            Sample(
                                key=outcome.clip.key,
                                label_index=packing.labels.index(outcome.clip.label),
                                parts=result,
                            )
                        )
                    else:
                        writer.leave(result)
                    if writer.bytes >= settings.shard_bytes:
                        break
                else:
                    if position < len(outcomes):  # asked to stop: what is not a whole shard is made again
                        return indices
                indices.append(writer.close())
    return indices


def _finished(out: Path, split: str, recipe: str) -> list[Index]:
    """The shards that are whole, from the first on; refuses those of another manifest, other settings or tools."""
    indices: list[Index] = []
    while True:
        tar = layout.tar_path(out, split, len(indices))
        if not (layout.index_path(tar).is_file() and tar.is_file()):
            return indices
        found = index.read_index(layout.index_path(tar))
        if found.recipe != recipe:
            raise ShardError(
                f"{out}: holds shards of another manifest, other settings or another ffmpeg; choose another --out, or "
                "delete the folder to make them anew"
            )
        if tar.stat().st_size != found.bytes:
            raise ShardError(f"{tar}: its size is not what its index says; delete both to make them anew")
        indices.append(found)


def _dataset(
    done: dict[str, list[Index]], made: Manifest, packing: Packing, recipe: str, settings: Settings
) -> Dataset:
    keys = {split: [key for each in indices for key in each.keys] for split, indices in done.items()}
    return Dataset(
        recipe=recipe,
        fingerprint=manifest.fingerprint(key for each in keys.values() for key in each),
        classes=made.classes.name,
        note=made.classes.note,
        labels=made.classes.labels,
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
        frames=dataclasses.asdict(packing.encoding) | {"codec": "h264", "gop": encode.GOP},
        mel=dataclasses.asdict(packing.mel) | {"preset": "paper"},
        audio={"codec": settings.audio, "sample_rate": encode.SAMPLE_RATE, "channels": 1},
        shuffle_seed=settings.seed,
        shard_bytes=settings.shard_bytes,
        versions={"kinetics-sounds": __version__, "ffmpeg": ffmpeg.version()},
    )


if __name__ == "__main__":
    sys.exit(main())
