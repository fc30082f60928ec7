"""Find existing complete shards, and check that the remaining clips match the manifest."""

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path

from kinetics_sounds import files, progress
from kinetics_sounds.clip import Media
from kinetics_sounds.command import Stop
from kinetics_sounds.errors import FaultError, ManifestError, ShardError, StoppedError
from kinetics_sounds.quantities import first_lines
from kinetics_sounds.shards import index, layout
from kinetics_sounds.shards.index import Index

from . import encode_sample, upload
from .encode_sample import Packing
from .job import OTHER, Job, WholeShards
from .job import recipe as fingerprint

MOST_NAMED = 20
"""Maximum number of missing clips listed in a message."""


def whole_shards(job: Job, stop: Stop, *, check_bytes: bool) -> Mapping[str, WholeShards]:
    """Existing shards of every split that need not be written: checked by size, or with `check_bytes` by SHA-256.

    Raises ShardError if anything in the folder belongs to another set, and without `check_bytes` for damaged files.
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

    kept: dict[str, dict[int, Index]] = {split: {} for split in layout.SPLITS}
    with progress.bar("ks-shard --check_bytes", len(found), shown=check_bytes) as bar:
        for tar, differs in files.in_threads(difference, found):
            bar.advance("changed" if differs else "whole")
            split, number, made = found[tar]
            if not differs:
                kept[split][number] = made
            elif check_bytes:
                progress.log.warning("%s: %s; it will be rebuilt", tar, differs)
            elif tar.exists():
                raise ShardError(f"{tar}: {differs}; run ks-shard again with --check_bytes to rebuild it")
            if stop:
                break
    return kept


def _indexes(job: Job, *, check_bytes: bool) -> dict[Path, tuple[str, int, Index]]:
    """Existing indexes by path of the tar, with split and number; raises as `whole_shards`."""
    found: dict[Path, tuple[str, int, Index]] = {}
    damaged: list[ShardError] = []
    for split, number, path in _index_paths(job.out):
        try:
            found[path.with_suffix(".tar")] = (split, number, index.read_index(path))
        except ShardError as fault:
            if isinstance(fault.__cause__, OSError):
                raise _unreadable(path, fault.__cause__) from fault
            damaged.append(fault)
    recipes = {made.recipe for _, _, made in found.values()}
    with contextlib.suppress(ShardError):  # not there yet, or damaged: it is written anew
        recipes.add(index.read_dataset(job.out).recipe)
    if recipes - {job.recipe}:
        raise ShardError(f"{job.out}: {OTHER}{_other_clips(job, found)}")
    if damaged and not check_bytes:
        raise damaged[0]
    if damaged and not recipes:
        raise ShardError(f"{damaged[0]}; but no intact file shows that this was the same set: if it was, delete it")
    for error in damaged:
        progress.log.warning("%s; the latter will be done now", error)
    return found


def _other_clips(job: Job, found: Mapping[Path, tuple[str, int, Index]]) -> str:
    """How many clips a manifest has more and fewer than a finished set; empty if they are the same, or it is not finished."""
    packed = {key for _, _, made in found.values() for key in (*made.keys, *(left.key for left in made.left))}
    wanted = {each.clip.key for outcomes in job.orders.values() for each in outcomes}
    if wanted == packed or not (job.out / layout.DATASET).is_file():
        return ""
    more, fewer = len(wanted - packed), len(packed - wanted)
    return (
        f" (of this manifest's clips {more} are not in the shards, and {fewer} of the shards' are not in the manifest)"
    )


def _index_paths(folder: Path) -> Iterator[tuple[str, int, Path]]:
    """Indexes below a folder: split, number of the tar, and path."""
    for split in layout.SPLITS:
        for path in sorted((folder / split).glob(f"{split}-*.json")):
            number = path.stem.removeprefix(f"{split}-")
            if number.isdecimal() and layout.tar_path(folder, split, int(number)).stem == path.stem:
                yield split, int(number), path


def recipe_of(folder: Path) -> str:
    """Recipe of the set in a folder, from the first file that states it; empty if none does."""
    with contextlib.suppress(ShardError):
        return index.read_dataset(folder).recipe
    for _, _, path in _index_paths(folder):
        with contextlib.suppress(ShardError):
            return index.read_index(path).recipe
    return ""


def with_recipe(job: Job) -> Job:
    """Set the job's recipe: that of the existing set, if it has the bytes of this job.

    Raises ShardError if the URL has another set.
    """
    recipes: dict[str, Packing] = {}
    for versions in encode_sample.versions(job.packing.encoding):
        packing = dataclasses.replace(job.packing, versions=versions)
        recipes[fingerprint(job.orders, job.made.classes.labels, packing, job.shard_bytes)] = packing
    there = recipe_of(job.out)
    for recipe in [there] if there in recipes else recipes:
        if not (job.url and upload.holds_another(job.url, recipe)):
            return dataclasses.replace(job, recipe=recipe, packing=recipes[recipe])
    raise ShardError(f"{job.url}: {OTHER}")


def check_same_set(job: Job) -> None:
    """Raise ShardError if the folder has shards of another set."""
    if recipe_of(job.out) not in ("", job.recipe):
        _indexes(job, check_bytes=False)


def _unreadable(path: Path, error: OSError) -> StoppedError | FaultError:
    what = f"{path}: cannot be read: {error.strerror}"
    kind = FaultError if error.errno in files.FAILING else StoppedError
    return kind(f"{what}; check that the disk is available, then run the same command again to resume")


def check_clips(job: Job, kept: Mapping[str, WholeShards], stop: Stop) -> None:
    """Raise ManifestError listing the clips still to be packed that are missing or of another size.

    Their bytes are verified when they are packed. Raises StoppedError if the disk fails.
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
        raise ManifestError(
            f"{len(wrong)} clips differ from the manifest; {encode_sample.remedy_for(job.packing)}:\n"
            + first_lines(wrong, MOST_NAMED)
        )
