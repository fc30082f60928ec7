"""Input of an export: the clips in order, and the facts recorded in the export's folder."""

import dataclasses
import hashlib
import json
import re
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from kinetics_sounds import files, fingerprints, manifest, stream
from kinetics_sounds.classes import ClassList
from kinetics_sounds.clip import SPLITS, Clip, Media, parse_key
from kinetics_sounds.errors import ManifestError, SettingsError, ShardError
from kinetics_sounds.quantities import first_lines
from kinetics_sounds.shards import index
from kinetics_sounds.shards import layout as parts

from .. import attempts, layouts
from ..layouts import Entry
from ..manifest_option import BUILD_OF_FOLDERS, manifest_path
from ..unfinished import unfinished

NAME = "export.json"
SCHEMA = 1
MOST_BYTES = 1 << 24
"""Maximum size of `export.json` in bytes."""
MOST_NAMED = 20
"""Maximum number of clips or files listed in a message."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """A clip and where to read it."""

    entry: Entry
    media: Media | None
    """For a clip of a build: its measurements."""
    number: int = 0
    """For a sample of a shard set: its index in the split."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """Input of an export."""

    layout: str
    settings: layouts.CommonSettings
    place: Path
    """The manifest, or the folder of shards."""
    clips: Path
    """Absolute path of the folder that clips' paths are relative to, or of the shards."""
    labels: tuple[str, ...]
    """Sorted labels."""
    items: Sequence[Item]
    """Sorted by split and key."""
    facts: Mapping[str, object]
    """Everything that determines the export's bytes, as in `export.json`."""
    unfinished: tuple[str, ...] = ()
    """What the build has still to do."""


def prepare(layout: str, settings: layouts.CommonSettings) -> Job:
    """Read the inputs named by the settings; nothing is written.

    Raises SettingsError, ManifestError or ShardError if there is nothing to export, or not in this layout.
    """
    if settings.manifest and settings.shards:
        raise SettingsError("--manifest and --shards: give only one of them")
    found = _of_shards(layout, settings) if settings.shards else _of_manifest(layout, settings)
    module, entries = layouts.load(layout), [item.entry for item in found.items]
    module.check(settings, entries)
    facts = {
        "schema": SCHEMA,
        "layout": layout,
        "options": layouts.options(settings),
        "recipe": module.recipe(settings),
        **found.facts,
        "selection": fingerprints.selection((each.key, each.clip.label, each.clip.split) for each in entries),
    }
    return dataclasses.replace(found, facts=facts)


def _of_manifest(layout: str, settings: layouts.CommonSettings) -> Job:
    path = manifest_path(settings.manifest)
    made = manifest.read(path)
    if made.folds is not None:
        raise SettingsError(
            f"{path}: is the manifest of a data set ({made.classes.name}); only builds can be exported; {BUILD_OF_FOLDERS}"
        )
    classes = _classes(path, made.classes)
    labels = tuple(sorted(classes.labels))
    place = {label: number for number, label in enumerate(labels)}
    clips = [(outcome.clip, outcome.media) for outcome in made.outcomes if outcome.media]
    if not clips:
        raise SettingsError(f"{path}: has no ok clip, so there is nothing to export; see its status column")
    items = [
        Item(entry=Entry(clip=clip, index=place[clip.label], suffix=_suffix(media)), media=media)
        for clip, media in clips
    ]
    channels = sorted(
        (clip.key, media.audio_channel) for clip, media in clips if media.audio_channel not in ("", "mix")
    )
    content = fingerprints.content((clip.key, clip.label, clip.split, media.sha256) for clip, media in clips)
    facts = {
        "from": "clips",
        "classes": classes.name,
        "note": classes.note,
        "labels": labels,
        "content": content,
        "channels": _digest(channels),
    }
    if made.several_labels:
        facts["labels_of_clips"] = _digest(sorted((clip.key, clip.labels) for clip, _ in clips))
    return Job(
        layout=layout,
        settings=settings,
        place=path,
        clips=path.parent.absolute(),
        labels=labels,
        items=_in_order(items),
        facts=facts,
        unfinished=tuple(unfinished(made, path.parent)),
    )


def _classes(path: Path, found: ClassList) -> ClassList:
    """Class list of a manifest; for a copy, that of the original manifest beside it, since rows may be missing.

    Raises SettingsError for a copy without the original that lacks labels: other projects' code would renumber the classes.
    """
    if not found.note.startswith(manifest.DERIVED):
        return found
    own = path.with_name("manifest.parquet")
    if own.is_file():
        classes = manifest.read_classes(own)
        places = [classes.labels.index(label) for label in found.labels if label in classes.labels]
        whole = not classes.note.startswith(manifest.DERIVED)
        if whole and len(places) == len(found.labels) and places == sorted(places):
            return classes
    if found.note.endswith(manifest.GAPS):
        raise SettingsError(
            f"{path}: is a copy of a manifest without rows of some labels, so the classes would be renumbered; keep it "
            "beside the build's own manifest.parquet, or keep one row of each label (of any status)"
        )
    return found


def _of_shards(layout: str, settings: layouts.CommonSettings) -> Job:
    folder = settings.shards or Path()
    if not layouts.load(layout).SHARDS:
        raise SettingsError(f"--shards: {layout} needs whole clips, which shards do not contain; give --manifest")
    dataset = index.read_dataset(folder)
    if dataset.modality != "both" or dataset.folds:
        raise SettingsError(f"--shards {folder}: is a data set ({dataset.classes}); only builds can be exported")
    if parts.FRAMES not in dataset.parts:
        raise SettingsError(
            f"--shards {folder}: contains single JPEGs (--codec jpeg); give shards of --codec h264, or --manifest"
        )
    labels = tuple(sorted(dataset.labels))
    place = {label: number for number, label in enumerate(labels)}
    items: list[Item] = []
    for name in dataset.splits:
        split = stream.open_split(folder, name)
        for number in range(len(split)):
            clip = _clip(split.key(number), dataset.labels[int(split.label_index_N[number])], name, folder)
            items.append(Item(entry=Entry(clip=clip, index=place[clip.label]), media=None, number=number))
    if not items:
        raise SettingsError(f"{folder}: has no samples, so there is nothing to export")
    facts = {
        "from": "shards",
        "classes": dataset.classes,
        "note": dataset.note,
        "labels": labels,
        "content": dataset.recipe,
    }
    return Job(
        layout=layout,
        settings=settings,
        place=folder,
        clips=folder.absolute(),
        labels=labels,
        items=_in_order(items),
        facts=facts,
    )


def _clip(key: str, label: str, split: str, folder: Path) -> Clip:
    parsed = parse_key(key)
    try:
        return Clip(*(parsed or ("", 0, 0)), label, split)
    except ValueError as error:
        raise ShardError(f"{folder}: {key} is not a clip's key; make the set again with ks-shard") from error


def _in_order(items: Sequence[Item]) -> Sequence[Item]:
    return sorted(items, key=lambda item: (SPLITS.index(item.entry.clip.split), item.entry.key))


def _suffix(media: Media) -> str:
    """Extension of a clip's file, as part of a name that other projects' code reads."""
    suffix = Path(media.path).suffix.lower()
    return suffix if re.fullmatch(r"\.[a-z0-9]{2,5}", suffix) else ".mp4"


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()


def check_clips(job: Job, known: Container[str]) -> None:
    """Raise ManifestError listing the clips still to be exported that are missing or of another size.

    Their bytes are verified when they are read for the export.
    """

    def difference(item: Item) -> str:
        return files.difference(job.clips / item.media.path, size=item.media.bytes) if item.media else ""

    missing = (item for item in job.items if item.entry.key not in known)
    found = files.in_threads(difference, missing)
    wrong = [f"{job.clips / item.media.path}: {differs}" for item, differs in found if item.media and differs]
    if wrong:
        raise ManifestError(
            f"{len(wrong)} clips differ from the manifest; {attempts.remedy(job.clips, then='ks-export')}:\n"
            + first_lines(wrong, MOST_NAMED)
        )


def claim(out: Path, facts: Mapping[str, object]) -> None:
    """Mark a locked folder as this export's; raises SettingsError as `check_folder`."""
    check_folder(out, facts)
    if not (out / NAME).exists():
        files.write_bytes(out / NAME, _written(facts))


def _written(facts: Mapping[str, object]) -> bytes:
    return (json.dumps(facts, indent=1, sort_keys=True) + "\n").encode()


def check_folder(out: Path, facts: Mapping[str, object]) -> None:
    """Raise SettingsError if a folder holds another export, or anything else; changes nothing."""
    path = out / NAME
    if not path.exists():
        if out.exists() and (others := sorted(each.name for each in out.iterdir() if not each.name.startswith("."))):
            raise SettingsError(f"{out}: contains {others[0]!r} and no export; choose another --out, or an empty one")
        return
    try:
        there = files.read_json(path, most_bytes=MOST_BYTES)
    except (OSError, ValueError) as error:
        raise SettingsError(f"{path}: cannot be read ({error}); choose another --out, or delete that folder") from error
    wanted = json.loads(_written(facts))
    if there != wanted:
        differs = [name for name, value in wanted.items() if not isinstance(there, dict) or there.get(name) != value]
        raise SettingsError(
            f"{out}: contains an export of another manifest, settings or tools (other {', '.join(differs) or 'facts'}); "
            "choose another --out, or delete it to rebuild it"
        )
