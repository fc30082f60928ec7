"""Upload a published folder to the Hub, after a summary with its license and a confirmation.

Only files listed in SHA256SUMS are uploaded.
"""

import signal
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import yaml

from kinetics_sounds import files, hub
from kinetics_sounds.address import Address
from kinetics_sounds.command import DONE, stoppable
from kinetics_sounds.errors import SettingsError
from kinetics_sounds.quantities import byte_size, plural

from . import contents
from .contents import SUMS
from .markdown import plain

MEDIA = {
    **dict.fromkeys((".mp4", ".avi", ".mkv", ".webm", ".mov"), "videos"),
    **dict.fromkeys((".wav", ".flac", ".mp3", ".m4a", ".ogg", ".opus"), "sounds"),
    **dict.fromkeys((".jpg", ".jpeg", ".png", ".webp", ".gif"), "pictures"),
    **dict.fromkeys((".tar", ".npy", ".npz"), "shards and arrays"),
}
"""Kind of third-party media by file extension; all other files are tables, texts and weights."""
MOST_CARD_BYTES = 4 << 20
"""Maximum size of a card in bytes."""
STALE = {"dataset": ("splits/*", "clips/*"), "model": ("checkpoints/*", "results/*")}
"""Files of an earlier push that are deleted on the Hub if the new version does not have them."""
MOST_NAMED = 20
"""Maximum number of files of a kind that are listed."""
HISTORY = (
    "note: the git history of the repository keeps what is deleted; to purge it, with huggingface_hub: "
    "HfApi().super_squash_history({repo!r}, repo_type={kind!r}), and of large files what list_lfs_files finds, with "
    "permanently_delete_lfs_files"
)
DOI = (
    'for a DOI: press "Generate DOI" in the section DOI of {page}/settings (which limits later changes: '
    "https://huggingface.co/docs/hub/doi); or archive a release on Zenodo, which reads CITATION.cff"
)


def push(
    folder: Path,
    to: Address | str,
    *,
    kind: Literal["dataset", "model"],
    yes: bool,
    public: bool = False,
    ask: Callable[[str], str] = input,
) -> int:
    """Upload a published folder to the Hub, after printing what is sent and where; returns the exit code.

    `kind` is the required type of `to`. A missing repository is created, private unless `public`; the visibility of an existing
    one is not changed. Asks for confirmation before anything is sent or deleted, unless `yes`. Raises SettingsError for another
    type of repository, an incomplete folder, names that the Hub does not accept, and if nobody can be asked; RemoteError and
    StoppedError as `hub.push`.
    """
    place = check_place(to, kind)
    items = _items(folder)
    if not yes and not sys.stdin.isatty():
        raise SettingsError("--push: asks for confirmation, but there is no terminal; add --yes to send")
    private = hub.is_private(place)
    stale = hub.surplus(place, items, STALE[kind]) if private is not None else []
    plan = [
        *_plan(folder, place, items, private=private, public=public),
        *_strays(folder, items),
        *_deletions(place, stale),
    ]
    print("\n".join(plan), file=sys.stderr)
    if not yes and ask("send it? [y/N] ").strip().lower() not in ("y", "yes"):
        print("nothing was sent", file=sys.stderr)
        return DONE
    with stoppable(signal.SIGINT, signal.SIGTERM) as stop:
        done = hub.push(
            place,
            [each for each in items if each.name != "README.md"],
            last=[each for each in items if each.name == "README.md"],
            what=f"ks-publish to {place}",
            message="Publish with kinetics-sounds",
            private=not public,
            drop=stale,
            stop=stop.__bool__,
        )
    page = hub.page(place)
    print(
        f"{page}: {plural(done.sent, 'file')} sent in {plural(done.commits, 'commit')}, {done.there} existed already",
        file=sys.stderr,
    )
    if done.deleted:
        print(f"deleted there: {_named(stale)}\n{HISTORY.format(repo=place.repo, kind=place.kind)}", file=sys.stderr)
    print(DOI.format(page=page), file=sys.stderr)
    return DONE


def check_place(to: Address | str, kind: Literal["dataset", "model"]) -> hub.Place:
    """The target; raises SettingsError if it is not a repository of this type."""
    like = "hf://datasets/USER/NAME" if kind == "dataset" else "hf://USER/NAME"
    if not hub.is_hub(to):
        raise SettingsError(f"--push {Address(to)}: is not a location on the Hub; give {like}")
    place = hub.parse(to)
    if place.kind != kind:
        raise SettingsError(f"--push {place}: is for a {place.kind}, but this is a {kind}; give {like}")
    return place


def _items(folder: Path) -> list[hub.Item]:
    """The folder's own files, sorted by name; raises SettingsError if one is missing or cannot be sent."""
    if not (folder / SUMS).is_file():
        raise SettingsError(
            f"{folder}: has no {SUMS}, which lists the files to send; write it first with --out {folder}"
        )
    found = []
    for name in sorted([*contents.read_sums(folder), SUMS]):
        path = folder / name
        if not all(map(hub.is_name, name.split("/"))):
            raise SettingsError(
                f"{files.as_text(path)!r}: is not a valid name on the Hub; use letters, digits, dots, `_` and `-`"
            )
        if path.resolve() != folder.resolve() / name:
            raise SettingsError(f"{files.as_text(path)}: is a link, but only files are sent; replace it by the file")
        if not path.is_file():
            raise SettingsError(f"{files.as_text(path)}: is missing, but listed in {SUMS}; write the folder again")
        found.append(hub.Item(path=path, name=name))
    return found


def _strays(folder: Path, items: list[hub.Item]) -> list[str]:
    """Files of a folder that are not sent, except those of git and the Hub."""
    own = {each.name for each in items}
    names = [path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*")) if not _is_folder(path)]
    others = [name for name in names if name not in own and not contents.is_of_the_hub(name)]
    return [f"not sent, since not written by ks-publish: {_named(others)}"] if others else []


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def _deletions(place: hub.Place, stale: list[str]) -> list[str]:
    if not stale:
        return []
    return [
        f"to be deleted there, from an earlier version: {_named(stale)}",
        HISTORY.format(repo=place.repo, kind=place.kind),
    ]


def _named(names: list[str]) -> str:
    """Number of files, and some names."""
    more = f", and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return f"{plural(len(names), 'file')}: {', '.join(plain(files.as_text(name)) for name in names[:MOST_NAMED])}{more}"


def _plan(folder: Path, place: hub.Place, items: list[hub.Item], *, private: bool | None, public: bool) -> list[str]:
    """What is to be sent, who will be able to see it, and the license."""
    sizes = {each.name: each.path.stat().st_size for each in items}
    media: Counter[str] = Counter()
    held: Counter[str] = Counter()
    for name, size in sizes.items():
        if what := MEDIA.get(Path(name).suffix.lower()):
            media[what] += 1
            held[what] += size
    seen = private if private is not None else not public
    is_there = "is there, and stays" if private is not None else "does not exist, and will be created"
    lines = [
        f"folder: {folder}",
        f"to: {place} ({place.kind}), which {is_there} {'private' if seen else 'PUBLIC: anyone can read it'}",
        f"files: {len(items)}, {byte_size(sum(sizes.values()))}",
        f"licence: {licence_of(folder) or 'none in README.md, so nobody may use it'}",
    ]
    told = ", ".join(f"{count} {what} ({byte_size(held[what])})" for what, count in sorted(media.items()))
    lines.append(
        f"media: {told}; check that you may share it" if told else "media: none; only tables, texts and weights"
    )
    if public and private:
        lines.append("note: --public does not change an existing repository; its owner can, in its settings")
    return lines


def licence_of(folder: Path) -> str:
    """License in the header of a card; empty if there is none."""
    told = header_of(folder)
    found = told.get("license_name") or told.get("license")
    return "".join(each for each in str(found)[:100] if each.isprintable()) if found else ""


def header_of(folder: Path) -> dict[str, Any]:
    """The Hub's header of a card; empty if there is none."""
    try:
        with (folder / "README.md").open("rb") as file:
            text = file.read(MOST_CARD_BYTES).decode("utf-8", "replace")
        head = text.split("---\n", 2)
        told = yaml.safe_load(head[1]) if text.startswith("---\n") and len(head) == 3 else None
    except (FileNotFoundError, yaml.YAMLError):
        return {}
    return told if isinstance(told, dict) else {}
