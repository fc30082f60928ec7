"""Write a published folder from a build's manifest, atomically, and only if something changed."""

import hashlib
import re
import shutil
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from kinetics_sounds import files, manifest, progress
from kinetics_sounds.classes import ClassList, shipped_note
from kinetics_sounds.clip import SPLITS, Media, Outcome
from kinetics_sounds.errors import ManifestError, PublishError
from kinetics_sounds.manifest import Manifest

from . import card, contents, croissant, datasheet, likeness, made_from, swap, tables, versions
from .contents import CHANGES, SUMS
from .facts import LICENSES, Counts, Facts, License, license_of
from .likeness import Hashes
from .made_from import MadeFrom
from .options import CREATOR, PublishOptions
from .origin import origin_of, rebuilt_from, shared_names, split_leak
from .previous import Previous, previous, refuse_foreign
from .versions import Changes

DERIVED_NOTE = "labels derived from the rows of a copy of a manifest"
"""Replaces a class list's note that contains a local path."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """Result of publishing."""

    folder: Path
    facts: Facts
    changed: bool
    """Whether anything was written."""
    failed: Mapping[str, str]
    """Keys of ok clips without hashes, and why."""
    old_version: str = ""
    """Version that was in the folder; empty if there was none."""
    media_removed: int = 0
    """Number of clips removed from the folder."""
    left_url: str = ""
    """Page of the version before that is not the one of this version."""


class Stopped(Exception):  # noqa: N818 - no error: someone asked for it
    """Stopped by a signal; computed hashes are kept for the next run."""


def publish_folder(made: Manifest, build: Path, options: PublishOptions, stop: Callable[[], bool]) -> Made:
    """Write the published folder of a manifest whose clips are below `build`; raises `Stopped` after a signal.

    Raises PublishError if the existing folder is not a published one or was edited, ManifestError for labels that cannot be
    published and clips that `--media` cannot copy, SettingsError for an invalid next version.
    """
    if not made.outcomes:
        raise ManifestError("the manifest has no rows, so there is nothing to publish; check the options of ks-build")
    classes = publishable(made.classes)
    out = options.out.resolve()
    with swap.staging(out) as new:
        before = previous(out)
        lists = _lists(made, build, options, before)
        known = dict(before.hashes) if before else {}
        failed: dict[str, str] = {}
        if options.hashes:
            failed = _add_hashes(known, made, build, options, new.parent, stop)
        counts = _write_tables(new, made, known if options.hashes else {})
        sums = _copy_media(new, out, made, build, before, stop) if options.media else {}
        if stop():
            raise Stopped
        sums |= {name: files.sha256(new / name) for name in contents.names(new) if name.startswith("splits/")}
        base = _base(made, lists, counts=counts, classes=classes, options=options, before=before, sums=sums)
        facts, changed = _write_documents(new, out, base, options, before)
        if changed:
            own = [*before.sums, SUMS] if before else []
            refuse_foreign(new, out, own)
            swap.exchange(new, out, own=own)
        else:
            swap.discard(out)
    gone = [
        name for name in (before.sums if before else {}) if name.startswith(f"{contents.MEDIA}/") and name not in sums
    ]
    return Made(
        folder=options.out,
        facts=facts,
        changed=changed,
        failed=failed,
        old_version=before.published.version if before else "",
        media_removed=len(gone),
        left_url=before.url if before and before.url.startswith("http") and before.url != facts.url else "",
    )


def publishable(classes: ClassList) -> ClassList:
    """The class list as published: labels in form NFC, without local paths; raises ManifestError for an unpublishable label."""
    labels = tuple(unicodedata.normalize("NFC", label) for label in classes.labels)
    for label in labels:
        if fault := tables.label_fault(label):
            raise ManifestError(
                f"the label {label!r} {fault}, so no list can contain it; build again with another class list"
            )
    if len(set(labels)) < len(labels):
        raise ManifestError(
            "two labels differ only in their Unicode form; build again with a class list that has one of them"
        )
    note = DERIVED_NOTE if classes.note.startswith(manifest.DERIVED) else shipped_note(classes.note)
    return ClassList(classes.name, labels, note)


def _add_hashes(
    known: dict[str, Hashes],
    made: Manifest,
    build: Path,
    options: PublishOptions,
    folder: Path,
    stop: Callable[[], bool],
) -> dict[str, str]:
    """Compute missing hashes; returns the keys without hashes, and why."""
    media = [(outcome.clip.key, outcome.media) for outcome in made.outcomes if outcome.media]
    wanted = {each.sha256: build / each.path for _, each in media if each.sha256 not in known}
    computed, failed = likeness.compute(
        wanted, workers=options.workers, timeout_seconds=options.timeout_seconds, folder=folder, stop=stop
    )
    if stop():
        raise Stopped
    known.update(computed)
    return {key: failed[each.sha256] for key, each in media if each.sha256 in failed}


def _write_tables(new: Path, made: Manifest, hashes: Mapping[str, Hashes]) -> Counts:
    """Write CSV and Parquet of each split that has rows."""
    indices = {label: place for place, label in enumerate(made.classes.labels)}
    several = made.several_labels
    counts = Counts()
    by_split: defaultdict[str, list[Outcome]] = defaultdict(list)
    for outcome in made.outcomes:
        by_split[outcome.clip.split].append(outcome)
    for split in (split for split in SPLITS if split in by_split):
        outcomes = sorted(by_split[split], key=lambda each: (indices[each.clip.label], each.clip.key))
        rows = (
            tables.row_of(
                each,
                indices[each.clip.label],
                hashes.get(each.media.sha256, ("", "")) if each.media else ("", ""),
                several_labels=several,
            )
            for each in outcomes
        )
        tables.write(contents.csv_path(new, split), counts.counted(rows), several_labels=several)
    return counts


def media_name(outcome: Outcome, media: Media) -> str:
    """Path of a clip in the folder, with `--media`."""
    suffix = Path(media.path).suffix
    suffix = suffix if re.fullmatch(r"\.[a-z0-9]{1,5}", suffix) else ".mp4"
    return f"{contents.MEDIA}/{outcome.clip.split}/{outcome.clip.key}{suffix}"


def _copy_media(
    new: Path, out: Path, made: Manifest, build: Path, before: Previous | None, stop: Callable[[], bool]
) -> dict[str, str]:
    """Put the clips into the new folder, hard-linked from the previous version if unchanged; returns their SHA-256."""
    sums: dict[str, str] = {}
    clips = [(outcome, outcome.media) for outcome in made.outcomes if outcome.media]
    with progress.bar("ks-publish --media", len(clips)) as bar:
        for outcome, media in clips:
            name = media_name(outcome, media)
            files.make_folder((new / name).parent)
            if before and before.sums.get(name) == media.sha256 and (out / name).is_file():
                _link(out / name, new / name)
                bar.advance("there already")
            else:
                _copy(build / media.path, new / name, media.sha256)
                bar.advance("copied")
            sums[name] = media.sha256
            if stop():
                raise Stopped
    return sums


def _link(path: Path, place: Path) -> None:
    try:
        place.hardlink_to(path)
    except OSError:  # a file system without links
        shutil.copyfile(path, place)


def _copy(path: Path, place: Path, sha256: str) -> None:
    digest = hashlib.sha256()
    try:
        with path.open("rb") as source, place.open("wb") as out, files.named(place):
            while data := source.read(1 << 20):
                digest.update(data)
                out.write(data)
    except FileNotFoundError as error:
        raise ManifestError(
            f"{path}: is missing; run ks-build again with --check_bytes, or leave --media out"
        ) from error
    if digest.hexdigest() != sha256:
        raise ManifestError(
            f"{path}: its SHA-256 differs from the manifest; run ks-build again with --check_bytes, or leave --media out"
        )


def _lists(made: Manifest, build: Path, options: PublishOptions, before: Previous | None) -> MadeFrom:
    """Lists that the build was made from; raises PublishError if the version before names some, and this one would not."""
    lists, creator = made_from.read(build, made), _creator(options, before)
    if creator != CREATOR:  # else another anonymous set of the name would be taken for an earlier version
        lists = lists.of(options.name, creator)
    if before and before.made_from and not lists.text:
        raise PublishError(
            f"{options.out}: version {before.published.version} names what it was made from ({before.made_from}), and this one "
            f"would not: {build / made_from.REPORT} {lists.trouble or 'names no lists'}; run the same ks-build again, or choose "
            "another --out"
        )
    return lists


def _creator(options: PublishOptions, before: Previous | None) -> str:
    return options.creator or (before.creator if before else CREATOR)


def _license(options: PublishOptions, before: Previous | None, lists: MadeFrom) -> License:
    """The license chosen, else that of the version before, else that of the lists, else the first."""
    chosen = options.license or (before.license if before else "")
    return LICENSES[chosen] if chosen else license_of(lists) or next(iter(LICENSES.values()))


def _base(
    made: Manifest,
    lists: MadeFrom,
    *,
    counts: Counts,
    classes: ClassList,
    options: PublishOptions,
    before: Previous | None,
    sums: Mapping[str, str],
) -> Facts:
    """Facts for the documents, apart from the version's number and date."""
    version = before.published.version if before else options.version or versions.FIRST
    origin = origin_of(made.outcomes)
    creator = _creator(options, before)
    page = before.url if before and before.creator in (creator, CREATOR) else f"urn:kinetics-sounds:{options.name}"
    return Facts(
        published=counts.published(options.name, version, classes.name),
        classes=classes,
        origin=origin,
        rebuilt_from=rebuilt_from(made.outcomes, origin),
        shared_names=shared_names(made.outcomes),
        split_leak=split_leak(made.outcomes),
        counts=counts,
        creator=creator,
        url=options.url or page,
        license=_license(options, before, lists),
        date=options.date or (before.date if before else _today()),
        media=options.media,
        shards=options.shards,
        made_from=lists,
        changes=Changes(),
        history=before.history if before else "",
        old_name=before.published.name if before and before.published.name != options.name else "",
        sums=sums,
    )


def _write_documents(
    new: Path, out: Path, base: Facts, options: PublishOptions, before: Previous | None
) -> tuple[Facts, bool]:
    """Write the documents with the next version number; returns their facts, and whether anything changed."""
    if before is None:
        return _written(new, base, card.changes(base)), True
    old_changes = f"# Changes\n\n{base.history}".encode() if base.history else card.changes(base)
    same = _written(new, base, old_changes)
    if options.version in (None, before.published.version) and _is_unchanged(new, same, out, before):
        return same, not before.whole
    changes = replace(
        versions.changes(before.records, versions.records(contents.rows_of(new))),
        remapped=versions.remapped(before.labels, {label: place for place, label in enumerate(base.classes.labels)}),
    )
    version = options.version or versions.following(before.published.version, changes.least)
    versions.check(version, before.published.version, changes.least)
    published = replace(base.published, version=version)
    facts = replace(base, published=published, date=options.date or _today(), changes=changes)
    return _written(new, facts, card.changes(facts)), True


def _today() -> str:
    return datetime.now(UTC).date().isoformat()


def _written(new: Path, facts: Facts, changes: bytes) -> Facts:
    """Write the documents and checksums, replacing those of another version; returns the complete facts."""
    early = {
        contents.CLASSES: card.classes_text(facts),
        contents.FINGERPRINTS: contents.fingerprints_text(facts.published),
    }
    sums = dict(facts.sums) | _write_all(new, early)
    facts = replace(facts, sums=sums, sizes={name: (new / name).stat().st_size for name in sums})
    late = {
        contents.CARD: card.card(facts),
        contents.CROISSANT: croissant.croissant(facts),
        contents.CITATION: card.citation(facts),
        contents.DATASHEET: datasheet.datasheet(facts),
        contents.LICENSE: card.license_text(facts),
        CHANGES: changes,
    }
    facts = replace(facts, sums=sums | _write_all(new, late))
    files.write_bytes(new / SUMS, contents.sums_text(facts.sums))
    return facts


def _write_all(folder: Path, documents: Mapping[str, bytes]) -> dict[str, str]:
    """Write files; returns their SHA-256."""
    for name, data in documents.items():
        files.write_bytes(folder / name, data)
    return {name: hashlib.sha256(data).hexdigest() for name, data in documents.items()}


def _is_unchanged(new: Path, facts: Facts, out: Path, before: Previous) -> bool:
    """Whether the existing folder has the same contents; Parquet files may differ by pyarrow's version."""
    compared = [name for name in facts.sums if not name.endswith((".parquet", contents.CROISSANT))]
    if set(facts.sums) != set(before.sums) or any(facts.sums[name] != before.sums[name] for name in compared):
        return False
    return _without_parquet(new / contents.CROISSANT) == _without_parquet(out / contents.CROISSANT)


def _without_parquet(path: Path) -> object:
    document = files.read_json(path, most_bytes=contents.MOST_BYTES) if path.is_file() else None
    if isinstance(document, dict) and isinstance(document.get("distribution"), list):
        kept = [each for each in document["distribution"] if not _is_parquet(each)]
        return document | {"distribution": kept}
    return document


def _is_parquet(entry: object) -> bool:
    return isinstance(entry, dict) and str(entry.get("contentUrl")).endswith(".parquet")
