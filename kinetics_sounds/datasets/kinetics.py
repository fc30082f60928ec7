"""Kinetics-400, 600, 700 and Kinetics-Sounds, or any other data set in folders of splits and classes: pictures and sounds.

With lists (`train.csv`, `val.csv` or `validate.csv`, `test.csv`, in `annotations/`, beside the videos, or in a folder such as
`kinetics600/`, as DeepMind and CVDF ship them) the files are found by their names, `ID_000027_000037.mp4`, in flat folders, class
folders or any others; those in the mirror's `replacement/` come first. Without lists: `train/CLASS/FILE.mp4`, and the same in
`val` (or `validate`, `validation`) and `test`, as far as there are; then nothing can be missing.
"""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from .. import annotations, files
from ..annotations import SPLIT_NAMES
from ..classes import normal
from ..clip import SPLITS, SUFFIXES, UNREAD, Clip
from ..errors import AnnotationError, ListError, SourceError
from ..list_entry import header
from ..lists import SPLIT_WORDS
from ..media.encode import Modality
from ..quantities import MOST_LINES, first_lines, first_of, plural
from . import Listing, Row, files_below, media_below, named

MODALITY: Modality = "both"
BESIDE = (".txt", ".csv")
"""Files that may lie beside the class folders and beside the videos in them; any others are named as left out."""
OTHER_WORDS = SPLIT_WORDS | {"evaluation": "test", "dev": "val"}
"""Split that a folder of this name in any case is taken to mean, and is to be called."""
PLACES = ("annotations", "", "annotations/deepmind")
"""Folders in which the lists may lie, or in a folder `kinetics600` and so on there; the first that has any is read."""
_LIST = re.compile(rf"(?:(?:kinetics|k)[-_]?(?:[0-9]{{3}}[-_])?(?:2020[-_])?)?(?P<split>{'|'.join(SPLIT_NAMES)})\.csv")
MOST_HEADER = 1000
"""Maximum length of a list's first line in characters."""
REPLACEMENT = "replacement"
"""Folder of sound copies of corrupted files, in the mirror's Kinetics-400."""


def read(folder: Path) -> Listing:
    """Rows of the lists, or of the class folders if there are none; raises ListError for lists or folders that are wrong."""
    lists = _lists(folder)
    return _listed(folder, lists) if lists else _in_class_folders(folder)


def _lists(folder: Path) -> list[Path]:
    """The list of each split, from the first place that has any; raises ListError if a split has two there."""
    for place in PLACES:
        found: dict[str, Path] = {}
        for path in sorted([*(folder / place).glob("*.csv"), *(folder / place).glob("kinetics[0-9]*/*.csv")]):
            match = _LIST.fullmatch(path.name)
            if match and not path.stat().st_size:
                raise ListError(f"{path}: is empty; download the list again")
            if not match or "youtube_id" not in _header(path):
                continue
            split = SPLIT_NAMES[match["split"]]
            if split in found:
                raise ListError(f"{path}: is a second list of {split} beside {found[split]}; move one away")
            found[split] = path
        if found:
            return [found[split] for split in SPLITS if split in found]
    return []


def _header(path: Path) -> list[str]:
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as text:
        return header(text.readline(MOST_HEADER))


def _listed(folder: Path, lists: Iterable[Path]) -> Listing:
    clips = _clips(lists)
    labels = tuple(sorted({clip.label for clip, _ in clips.values()}))
    by_name = {_letters(label): label for label in labels}
    found: dict[str, str] = {}
    unlisted, wrong = list[str](), list[str]()
    for path in sorted(media_below(folder, folder, SUFFIXES), key=lambda path: (not _replaces(path), path)):
        clip, place = clips.get(key := Path(path).stem, (None, ""))
        if clip is None:
            unlisted.append(path)
            continue
        if told := _misplaced(path, clip, by_name):
            wrong.append(f"{place}: {clip.key} is {told}, but the file is {named([path])}")
        found.setdefault(key, path)
    if wrong:
        raise ListError(first_lines(wrong))
    rows = tuple(
        Row(path=found.get(key, f"{clip.split}/{key}.mp4"), label=clip.label, split=clip.split)
        for key, (clip, _) in clips.items()
    )
    return Listing(labels=labels, rows=rows, unlisted=tuple(sorted(unlisted)))


def _clips(lists: Iterable[Path]) -> dict[str, tuple[Clip, str]]:
    """Each clip of the lists with the place of its row, by key; raises ListError for a list that is wrong."""
    clips: dict[str, tuple[Clip, str]] = {}
    wrong: list[str] = []
    for path in lists:
        try:
            if "label" not in _header(path):
                raise ListError(
                    f"{path}: has no column 'label', like the first release of Kinetics-400's test list; use DeepMind's, "
                    "or move it away to leave the split out"
                )
            read = annotations.read(path, labels=None).clips
        except (AnnotationError, OSError, ValueError) as error:
            raise ListError(f"{path}: cannot be read: {error}") from error
        for clip, line in read:
            place = f"{path}:{line}"
            other, before = clips.setdefault(clip.key, (clip, place))
            if other != clip:
                told = f"is {clip.label!r} in {clip.split}, but {before} has {other.label!r} in {other.split}"
                wrong.append(f"{place}: {clip.key} {told}; remove one of the two rows")
    if wrong:
        raise ListError(first_lines(wrong))
    return clips


def _misplaced(path: str, clip: Clip, by_name: Mapping[str, str]) -> str:
    """The split or class of a clip whose file lies in the folder of another one; empty if it does not."""
    above = Path(path).parts[:-1]
    if _replaces(path):
        return ""
    splits = [SPLIT_NAMES[part] for part in above if part in SPLIT_NAMES]
    if splits and clip.split not in splits:
        return f"in {clip.split}"
    label = by_name.get(_letters(above[-1])) if above else None
    return "" if label in (None, clip.label) else repr(clip.label)


def _replaces(path: str) -> bool:
    return path.startswith(f"{REPLACEMENT}/")


def _letters(text: str) -> str:
    """Letters and digits alone: class folders have `_` or nothing in place of blanks, brackets and apostrophes."""
    return re.sub(r"[\W_]", "", text).lower()


def _in_class_folders(folder: Path) -> Listing:
    """Every file is of the class that its folder is called; raises ListError if there are none or they lie otherwise."""
    rows, unread = list[Row](), list[str]()
    others, beside = _beside_splits(folder)
    wrong = _misnamed(folder, beside)
    folders = [
        f"{name}/ ({'cannot be read' if count is None else plural(count, 'video')})" for name, count in beside.items()
    ]
    for name, split in SPLIT_NAMES.items():
        below = files_below(folder, folder / name)
        paths = [path for path in below if path.lower().endswith(SUFFIXES)]
        unread += [path for path in below if path.lower().endswith(UNREAD)]
        others += [path for path in below if _is_other(path)]
        folders += _without_videos(folder, name, below)
        if strange := {path: None for path in paths if len(Path(path).parts) != 3}:
            wrong.append(
                f"{folder}: not in {name}/CLASS/: {named(strange)}; move these files into {name}/CLASS/; or, if "
                f"lists name them (train.csv and so on), give ks-build these as --annotations, or put them into "
                f"{folder / PLACES[0]} for ks-shard"
            )
        rows += [
            Row(path=path, label=files.as_text(Path(path).parent.name), split=split)
            for path in paths
            if path not in strange
        ]
    if not rows and not wrong:
        raise ListError(
            f"{folder}: has no list such as annotations/train.csv, and no file like train/CLASS/FILE.mp4; move class "
            f"folders below train/ and test/, or list the clips: ks-build --classes LIST --annotations CSV "
            f"--source local:{folder}"
        )
    if wrong := [*wrong, *_colliding(folder, rows)]:
        raise ListError("\n".join(wrong))
    labels = tuple(sorted({row.label for row in rows}))
    return Listing(
        labels=labels,
        rows=tuple(rows),
        unlisted=tuple(others),
        has_lists=False,
        unread=tuple(unread),
        folders=tuple(folders),
    )


def _beside_splits(folder: Path) -> tuple[list[str], dict[str, int | None]]:
    """Files beside the folders of the splits, and other folders, each with the number of its videos: `Test` is one."""
    places = sorted(
        place for place in folder.iterdir() if place.name not in SPLIT_NAMES and not place.name.startswith(".")
    )
    files = [place.name for place in places if not place.is_dir() and not place.name.lower().endswith(BESIDE)]
    return files, {place.name: _videos(folder, place) for place in places if place.is_dir()}


def _videos(folder: Path, place: Path) -> int | None:
    """Number of videos below a folder; None if it cannot be read, such as `lost+found`."""
    try:
        return len(media_below(folder, place, (*SUFFIXES, *UNREAD)))
    except SourceError:
        return None


def _misnamed(folder: Path, beside: Mapping[str, int | None]) -> list[str]:
    """A line for each folder with videos that is called like a split, but in another case or by another word."""
    wrong, there = list[str](), {place.name for place in folder.iterdir()}  # in their own case on any disk
    for name, count in beside.items():
        if count and (split := OTHER_WORDS.get(name.lower())):
            remedy = "move its class folders into" if split in there else f"rename {name}/ to"
            told = f"{name}/ ({plural(count, 'video')}) is not the name of a split"
            wrong.append(f"{folder}: {told}; {remedy} {split}/, or move it away to leave it out")
    return wrong


def _is_other(path: str) -> bool:
    """Whether a file below a split's folder is neither a video nor of a kind that may lie beside videos."""
    beside = BESIDE if len(Path(path).parts) > 2 else ()
    return not path.lower().endswith((*SUFFIXES, *UNREAD, *beside))


def _without_videos(folder: Path, name: str, below: Iterable[str]) -> list[str]:
    """Class folders of a split without a video, as they are named in messages; `below` are the split's files."""
    held = {Path(path).parts[1] for path in below if path.lower().endswith((*SUFFIXES, *UNREAD))}
    places = sorted((folder / name).iterdir()) if (folder / name).is_dir() else []
    empty = (place.name for place in places if place.name not in held and place.is_dir())
    return [f"{name}/{each}/ (0 videos)" for each in empty if not each.startswith(".")]


def _colliding(folder: Path, rows: Iterable[Row]) -> list[str]:
    """A line if there are class folders whose names differ only in case, blanks, `_` and `-`."""
    folders: dict[str, dict[str, str]] = {}
    for row in rows:
        name = re.sub(r"[\s_-]+", " ", normal(row.label)).casefold().strip()
        folders.setdefault(name, {}).setdefault(row.label, str(Path(row.path).parent))
    several = [" and ".join(places.values()) for places in folders.values() if len(places) > 1]
    told = first_of(map(files.as_text, several), MOST_LINES)
    remedy = (
        "call both folders the same, or, if they are two, by names that differ in more than case, blanks, '_' and '-'"
    )
    return [f"{folder}: {told} would be two classes; {remedy}"] if several else []
