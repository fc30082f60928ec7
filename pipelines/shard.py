"""ks-shard: pack a manifest's clips into WebDataset shards of frames, mel-spectrograms and audio."""

import contextlib
import dataclasses
import json
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from kinetics_sounds import cores, datasets, files, manifest, remote
from kinetics_sounds.address import Address
from kinetics_sounds.command import DONE, SOME_FAILED, STOPPED, check_subcommand, command, stoppable
from kinetics_sounds.errors import SettingsError
from kinetics_sounds.media import encode, mel, mp4
from kinetics_sounds.quantities import plural
from kinetics_sounds.settings import parse
from kinetics_sounds.shards import index, layout

from . import absent_classes, executors, several_splits
from .attempts import RetryOnce
from .manifest_option import manifest_path
from .packing import (
    dataset_manifest,
    driver,
    encode_sample,
    facts,
    measure_file,
    resume,
    stats,
    upload,
    verify,
)
from .packing import job as packing_job
from .packing.encode_sample import Packing, Task
from .packing.job import Job, Made, clip_order
from .unfinished import unfinished


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardSettings:
    """Pack the clips of a build into WebDataset shards. Run again to resume.

    Examples:
      ks-shard
      ks-shard --manifest data/k32/manifest.parquet --out /shared/k32 --workers 16
      ks-shard --short_side 256 --codec jpeg --audio none
      ks-shard --dataset ucf101 --folder /data/UCF101 --short_side 256
      ks-shard --out s3://bucket/k32 --executor slurm --slurm.partition cpu --workers 32
      ks-shard --check_bytes
      ks-shard --verify data/k32/shards --verify_decode
      ks-shard stats data/k32/shards

    exit code: 0 all ok clips packed, or all samples valid; 1 done, some are not, or files of a data set are missing or broken; 2
    usage error, no set to verify, or a clip that differs from the manifest; 3 stopped, run again; 4 a bug, or a failing disk.
    """

    manifest: Path | None = None
    """manifest.parquet of a build, its folder, or a filtered copy beside it (Parquet, or CSV named *.csv). Default: the only
    one under data/. With --dataset: the one to write, or its folder; by default data/NAME, whatever --out is, which is refused
    if it was written from another --folder. If one that is given was, it is not replaced if --folder lacks a clip of it, or has
    it in another size, class or fold."""
    dataset: str | None = field(default=None, metadata={"package": datasets.__name__})
    """Pack a data set with lists of its own, from --folder. In a set with folds, fold1_train and fold1_test name splits."""
    folder: Path | None = None
    """Folder of --dataset as it ships: its files and its lists. It is only read."""
    modality: Literal["auto", "both", "video", "audio"] = "auto"
    """What to pack of --dataset's files; those without are left out. auto: what the papers use, such as video of ucf101."""
    out: Address | None = None
    """Output folder, or a URL (s3://, gs://, http://, hf://datasets/USER/NAME) to upload to once all shards are written and
    verified. Default, and local folder of an upload: shards, beside the manifest. A missing Hub repository is created,
    private."""
    codec: Literal["h264", "jpeg"] = "h264"
    """How frames are stored: H.264 in closed groups of 16, or one JPEG each (seven times the bytes, read 1.3 times as
    fast)."""
    short_side: int = 128
    """Shorter side of the stored frames in pixels, even. The aspect ratio is kept."""
    quality: int = 90
    """JPEG quality of --codec jpeg, 1 to 100."""
    fast_decode: bool = False
    """Decode the clips without the loop filter: one sixth faster; frames differ from the exact ones by about 45 dB PSNR (38
    at worst)."""
    mel: Literal["paper", "authors"] = "paper"
    """Mel-spectrogram parameters: those of the paper (10 ms window and hop), or of its authors' scripts (43 and 21 ms)."""
    audio: Literal["flac", "none"] = "flac"
    """Format of the 24 kHz audio stored beside the mel-spectrogram; none: not stored."""
    shard_bytes: int = 256_000_000
    """Target size of a shard in bytes: it is closed once it holds as many."""
    seed: int = 0
    """Seed of the shuffle that orders samples across shards."""
    executor: str = field(default="local", metadata={"package": executors.__name__})
    """Where workers run: processes on this machine, a Ray cluster, or Slurm array jobs. All of them must see the clips and
    the shards' folder."""
    workers: int = field(default_factory=cores.usable)
    """Number of worker processes, one core each. The output does not depend on it."""
    timeout: float = 300.0
    """Time limit of one ffmpeg run, in seconds."""
    check_bytes: bool = False
    """Verify the SHA-256 of existing shards, at the URL of --out too, and make or upload again those that differ from their
    index or whose index is damaged. Without it only sizes are compared (on the Hub always the SHA-256, without a download)."""
    verify: Address | None = None
    """Verify this shard set (a folder or a URL) against its indexes, and pack nothing."""
    verify_decode: bool = False
    """With --verify: also decode every sample."""
    json: bool = False
    """Print the result as JSON on standard output."""


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of `ks-shard`."""
    words = list(sys.argv[1:] if argv is None else argv)
    if words and words[0] == "stats":
        return command("ks-shard stats", lambda: stats.main(words[1:]))

    def run() -> int:
        check_subcommand("ks-shard", words, ["stats"])
        parsed = parse(ShardSettings, words, prog="ks-shard", groups=executors.options())
        _check(parsed.settings, parsed.groups)
        if parsed.settings.verify is not None:
            return _verify(parsed.settings)
        return (_shard_dataset if parsed.settings.dataset else shard)(parsed.settings, parsed.groups)

    return command("ks-shard", run)


def _shard_dataset(settings: ShardSettings, groups: Mapping[str, Any]) -> int:
    """Write the manifest of a data set and pack it; returns the exit code."""
    name = str(settings.dataset)
    path = manifest_path(settings.manifest or Path("data", name, "manifest.parquet"))
    asked = dataset_manifest.Asked(
        name=name,
        folder=settings.folder or Path(),
        path=path,
        is_given=settings.manifest is not None,
        modality=None if settings.modality == "auto" else settings.modality,
        check_bytes=settings.check_bytes,
        timeout_seconds=settings.timeout,
    )

    def start(scratch: Path) -> dataset_manifest.Pool:
        own = groups.get(settings.executor)
        return executors.start(
            settings.executor, measure_file.attempt, workers=settings.workers, folder=scratch, chosen=own
        )

    with stoppable(signal.SIGINT, signal.SIGTERM) as stop:
        written = dataset_manifest.write(
            asked,
            start,
            workers=settings.workers,
            stop=stop,
            check=lambda made: resume.check_same_set(_job(settings, path, made)),
        )
    if written is None:
        print(f"stopped by {stop} while files were measured; run the same command again to resume", file=sys.stderr)
        return STOPPED
    for line in written.lines():
        print(line, file=sys.stderr)
    code = shard(dataclasses.replace(settings, manifest=path), groups)
    return SOME_FAILED if code == DONE and written.lost else code


def shard(settings: ShardSettings, groups: Mapping[str, Any]) -> int:
    """Pack the missing shards and upload the missing files; returns the exit code.

    `groups` holds each executor's own options, by its name.
    """
    job = _prepare(settings)
    with (
        files.exclusive(job.out, command="ks-shard"),
        stoppable(signal.SIGINT, signal.SIGTERM) as stop,
        files.scratch(job.out.absolute()) as scratch,
    ):
        files.remove_parts(job.out, layout.DATASET)
        for split in layout.SPLITS:
            files.remove_parts(job.out / split, f"{split}-*.tar", f"{split}-*.json")
        kept = resume.whole_shards(job, stop, check_bytes=settings.check_bytes)
        resume.check_clips(job, kept, stop)

        def start() -> executors.Pool[Task, Made]:
            own = groups.get(settings.executor)
            return executors.start(
                settings.executor, encode_sample.attempt, workers=settings.workers, folder=scratch, chosen=own
            )

        with contextlib.closing(RetryOnce(start, workers=settings.workers)) as pool:
            done = {split: driver.pack_split(job, split, kept[split], stop, pool) for split in job.orders}
        dataset = facts.dataset(done, job, preset=settings.mel, shuffle_seed=settings.seed)
        if not stop:
            index.write(job.out / layout.DATASET, dataset)
            if job.url:
                upload.upload(job.out, job.url, done, stop=stop.__bool__, check_bytes=settings.check_bytes)
        if stop:
            print(
                f"stopped by {stop} after the last whole shard; run the same command again to resume", file=sys.stderr
            )
            return STOPPED
    for split, indices in done.items():
        for left in (left for each in indices for left in each.left):
            print(f"left out of {split}: {left.key}: {left.status}: {left.detail}", file=sys.stderr)
    counts = {split: dataclasses.asdict(each) for split, each in dataset.every_split.items()}
    text = "\n".join(
        f"{split}: {plural(each['samples'], 'sample')} in {plural(each['shards'], 'shard')}"
        for split, each in counts.items()
    )
    place = remote.join(job.url, layout.DATASET) if job.url else job.out / layout.DATASET
    train = facts.train_command(dataset, str(job.url or job.out))
    following = train if dataset.modality == "both" else "ks-eval --list, the papers' protocols"
    print(json.dumps(counts) if settings.json else f"{text}\ndataset: {place}\nnext: {following}")
    return SOME_FAILED if any(each.left for each in dataset.splits.values()) else DONE


MENDING = (
    "to repair it: run ks-shard again with the options of the set and --check_bytes, which rebuilds damaged files; "
    "or copy each listed tar again, with the .json beside it, from an intact copy"
)
PACKED_SO = (
    "a sample with wrong content in an intact tar was packed like this; copying does not help: pack into a new folder (another "
    "--out), or use a --manifest without its row"
)


def _verify(settings: ShardSettings) -> int:
    """Verify a set; returns the exit code."""
    place = settings.verify or Address("")
    with stoppable(signal.SIGINT, signal.SIGTERM) as stop:
        found = verify.verify(place, decode=settings.verify_decode, workers=settings.workers, stop=stop.__bool__)
    if stop:
        print(f"stopped by {stop} before everything was checked", file=sys.stderr)
        return STOPPED
    if settings.json:
        print(json.dumps(dataclasses.asdict(found)))
    else:
        for fault in found.faults:
            print(f"{fault.place}: {f'sample {fault.key}: ' if fault.key else ''}{fault.what}")
        bad = len({(fault.place, fault.key) for fault in found.faults})
        print(f"{place}: {plural(found.samples, 'sample')} in {plural(found.shards, 'shard')}, {bad or 'nothing'} bad")
        if not all(fault.packed for fault in found.faults):
            print(MENDING)
        if any(fault.packed for fault in found.faults):
            print(PACKED_SO)
    return SOME_FAILED if found.faults else DONE


def _prepare(settings: ShardSettings) -> Job:
    """Read the inputs named by the settings, and print them; writes nothing.

    Raises SettingsError if there is nothing to pack, ShardError if the URL has another set.
    """
    path = manifest_path(settings.manifest)
    made = manifest.read(path)
    out, url = _places(settings, path)
    log = sys.stderr if settings.json else sys.stdout
    print(f"manifest: {path}\nout: {out}" + (f", then {url}" if url else ""), file=log)
    if made.classes.note:
        print(f"class list: {made.classes.name} ({made.classes.note.rstrip('.')})", file=log)
    for told in unfinished(made, path.parent):
        print(f"{path}: {told}", file=sys.stderr)
    if found := several_splits.in_several_splits(each.clip for each in made.outcomes if each.media is not None):
        print(f"{path}: {several_splits.text(found)}", file=sys.stderr)
    ok = ((each.clip.split, label) for each in made.outcomes if each.media is not None for label in each.clip.labels)
    for told in absent_classes.lines(made.classes.labels, ok):
        print(f"{path}: {told}", file=sys.stderr)
    job = _job(settings, path, made)
    if not job.orders:
        raise SettingsError(f"{path}: has no ok clip, so there is nothing to pack; see its status column")
    first = next(outcome.media.path for each in job.orders.values() for outcome in each if outcome.media)
    if not (path.parent / Path(first).parts[0]).is_dir() and not (out / layout.DATASET).is_file():
        raise SettingsError(
            f"{path}: its clips ({first} and so on) are not beside it; keep a manifest and copies of it in the build's folder"
        )
    return job


def _places(settings: ShardSettings, path: Path) -> tuple[Path, Address | None]:
    """Folder of the shards of the manifest at `path`, and the URL to upload them to."""
    url = settings.out if settings.out and remote.is_url(settings.out) else None
    return Path(settings.out.real) if settings.out and not url else path.parent / "shards", url


def _job(settings: ShardSettings, path: Path, made: manifest.Manifest) -> Job:
    """The job of packing a manifest that is, or will be, at `path`; raises ShardError if the URL has another set."""
    out, url = _places(settings, path)
    encoding = encode.Encoding(
        codec=settings.codec,
        short_side=settings.short_side,
        quality=settings.quality,
        fast_decode=settings.fast_decode,
    )
    orders = {split: clip_order(made, split, settings.seed) for split in layout.SPLITS}
    orders = {split: outcomes for split, outcomes in orders.items() if outcomes}
    packing = Packing(
        folder=path.parent.absolute(),
        scratch=out.absolute() / files.SCRATCH,
        encoding=encoding,
        mel=mel.PRESETS[settings.mel],
        audio=settings.audio == "flac",
        modality=packing_job.modality(made),
        folds=made.folds,
        several_labels=any(outcome.clip.other_labels for each in orders.values() for outcome in each),
        timeout_seconds=settings.timeout,
        versions=encode_sample.versions(encoding)[0],
    )
    return resume.with_recipe(
        Job(made=made, orders=orders, packing=packing, recipe="", shard_bytes=settings.shard_bytes, out=out, url=url)
    )


def _check(settings: ShardSettings, groups: Mapping[str, Any]) -> None:
    for name in ("shard_bytes", "workers", "timeout"):
        if not 0 < getattr(settings, name) < float("inf"):
            raise SettingsError(f"--{name} {getattr(settings, name)}: must be more than 0")
    if settings.short_side < 16 or settings.short_side % 2:
        raise SettingsError(f"--short_side {settings.short_side}: must be even and at least 16")
    if settings.short_side**2 > mp4.MAX_PIXELS:
        raise SettingsError(
            f"--short_side {settings.short_side}: frames of more than {mp4.MAX_PIXELS} pixels are not supported"
        )
    if not 1 <= settings.quality <= 100:
        raise SettingsError(f"--quality {settings.quality}: must be from 1 to 100")
    if settings.quality != encode.Encoding().quality and settings.codec != "jpeg":
        raise SettingsError(f"--quality {settings.quality}: only applies to JPEGs; add --codec jpeg, or leave it out")
    if (settings.dataset is None) != (settings.folder is None):
        raise SettingsError(
            "--dataset and --folder: are needed together: the name of the data set, and its folder as it ships"
        )
    if settings.modality != "auto" and settings.dataset is None:
        raise SettingsError("--modality: only applies to a data set; add --dataset, or leave it out")
    if settings.dataset is not None and settings.verify is not None:
        raise SettingsError("--dataset: packs, and --verify packs nothing; leave one of them out")
    if settings.verify_decode and settings.verify is None:
        raise SettingsError("--verify_decode: requires --verify; add --verify SHARDS, or leave it out")
    if settings.check_bytes and settings.verify is not None:
        raise SettingsError(
            "--check_bytes: --verify reads every byte already, and repairs nothing; leave one of them out"
        )
    for name, chosen in groups.items():  # whoever gave them believes that it is asked
        if name != settings.executor and chosen != type(chosen)():
            raise SettingsError(
                f"--{name}.*: options of an executor that is not used; add --executor {name}, or leave them out"
            )


if __name__ == "__main__":
    sys.exit(main())
