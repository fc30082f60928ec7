"""A published folder to the Hub: says what is to be sent and under which licence, asks, sends, and says what comes after."""

import signal
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import yaml

from kinetics_sounds import files, hub
from kinetics_sounds.address import Address
from kinetics_sounds.command import DONE, stoppable
from kinetics_sounds.errors import SettingsError

MEDIA = {
    **dict.fromkeys((".mp4", ".avi", ".mkv", ".webm", ".mov"), "videos"),
    **dict.fromkeys((".wav", ".flac", ".mp3", ".m4a", ".ogg", ".opus"), "sounds"),
    **dict.fromkeys((".jpg", ".jpeg", ".png", ".webp", ".gif"), "pictures"),
    **dict.fromkeys((".tar", ".npy", ".npz"), "shards and arrays"),
}
"""What the files of a suffix hold that was somebody's video; the others are tables, texts and weights."""
MOST_CARD_BYTES = 4 << 20
"""A card is not longer."""
LEFT_OUT = (files.PART, files.SCRATCH, ".lock")
"""Ends of the names of what is no part of a folder."""
STALE = {"dataset": ("splits/*",), "model": ("checkpoints/*", "results/*")}
"""Files of an earlier push that no card of a later one speaks of: they are deleted there."""
DOI = (
    'for a DOI: press "Generate DOI" in the section DOI of {page}/settings (which restrains what may be changed later: '
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
    """Send a whole folder to a place on the Hub after saying what it is; returns the exit code.

    `kind` is what `to` has to be. A repository that is not there is made, private unless `public`; one that is there stays as it
    is. Asks before anything is sent unless `yes`. Raises SettingsError for another kind of place, for a folder with nothing in
    it or names that the Hub does not take, and where nobody can be asked; RemoteError and StoppedError as `hub.push`.
    """
    place = check_place(to, kind)
    items = _items(folder)
    if not yes and not sys.stdin.isatty():
        raise SettingsError("--push: asks before it sends, and there is no terminal to ask on; add --yes to send")
    private = hub.is_private(place)
    print("\n".join(_plan(folder, place, items, private=private, public=public)), file=sys.stderr)
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
            drop=STALE[kind],
            stop=stop.__bool__,
        )
    page = hub.page(place)
    print(f"{page}: {done.sent} files sent in {done.commits} commits, {done.there} were there already", file=sys.stderr)
    print(DOI.format(page=page), file=sys.stderr)
    return DONE


def check_place(to: Address | str, kind: Literal["dataset", "model"]) -> hub.Place:
    """Where it goes; raises SettingsError where that is no place for such a thing."""
    like = "hf://datasets/USER/NAME" if kind == "dataset" else "hf://USER/NAME"
    if not hub.is_hub(to):
        raise SettingsError(f"--push {Address(to)}: is no place on the Hub; give {like}")
    place = hub.parse(to)
    if place.kind != kind:
        raise SettingsError(f"--push {place}: is for a {place.kind}, and this is a {kind}; give {like}")
    return place


def _items(folder: Path) -> list[hub.Item]:
    """The files of a folder in the order of their names; raises SettingsError where there are none, or not all can be sent."""
    found = []
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if any(part.endswith(LEFT_OUT) for part in Path(name).parts):
            continue
        if path.is_symlink():
            raise SettingsError(f"{files.as_text(path)}: is a link, and only files are sent; put the file in its place")
        if path.is_file():
            if not all(map(hub.is_name, name.split("/"))):
                raise SettingsError(
                    f"{files.as_text(path)!r}: cannot be called so on the Hub; use letters, digits, dots, `_` and `-`"
                )
            found.append(hub.Item(path=path, name=name))
    if not found:
        raise SettingsError(f"{folder}: holds no file to send; write it first with --out {folder}")
    return found


def _plan(folder: Path, place: hub.Place, items: list[hub.Item], *, private: bool | None, public: bool) -> list[str]:
    """What is to be sent, to whom it will be open, and under which licence."""
    sizes = {each.name: each.path.stat().st_size for each in items}
    media: Counter[str] = Counter()
    held: Counter[str] = Counter()
    for name, size in sizes.items():
        if what := MEDIA.get(Path(name).suffix.lower()):
            media[what] += 1
            held[what] += size
    seen = private if private is not None else not public
    is_there = "is there, and stays" if private is not None else "is not there, and is made"
    lines = [
        f"folder: {folder}",
        f"to: {place} ({place.kind}), which {is_there} {'private' if seen else 'PUBLIC: anybody can read it'}",
        f"files: {len(items)}, {_bytes(sum(sizes.values()))}",
        f"licence: {_licence(folder) or 'none is said in README.md, so nobody may use it'}",
    ]
    told = ", ".join(f"{count} {what} ({_bytes(held[what])})" for what, count in sorted(media.items()))
    lines.append(
        f"media: {told}; see that you may share it" if told else "media: none; tables, texts and weights alone"
    )
    if public and private:
        lines.append("note: --public changes no repository that is there; its owner does, in its settings")
    return lines


def _licence(folder: Path) -> str:
    """What the head of a card says of it; empty where it says nothing."""
    try:
        with (folder / "README.md").open("rb") as file:
            text = file.read(MOST_CARD_BYTES).decode("utf-8", "replace")
        head = text.split("---\n", 2)
        told = yaml.safe_load(head[1]) if text.startswith("---\n") and len(head) == 3 else None
    except (FileNotFoundError, yaml.YAMLError):
        return ""
    found = (told.get("license_name") or told.get("license")) if isinstance(told, dict) else None
    return "".join(each for each in str(found)[:100] if each.isprintable()) if found else ""


def _bytes(count: int) -> str:
    """So many bytes, in the unit that is read best."""
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count} bytes"
