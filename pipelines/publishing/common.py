"""The common subset of two datasets as a folder of its own, on which two papers can be compared.

If one of them has the clips' statuses, it is written as splits of a published folder; two lists give lists.
"""

import csv
import io
from collections.abc import Collection, Sequence
from pathlib import Path

from kinetics_sounds import files, fingerprints
from kinetics_sounds.clip import SPLITS
from kinetics_sounds.errors import PublishError

from . import contents, swap, tables
from .facts import Counts
from .markdown import escape, plain
from .origin import IN_DIR
from .sets import ClipSet
from .tables import Row

VERSION = "1.0.0"


def write(out: Path, a: ClipSet, b: ClipSet, keys: Collection[str], *, different: int) -> None:
    """Write the rows of these keys as splits, with class list and checksums, into a new folder.

    `different`: number of clips left out because they are known to differ.

    Raises PublishError if the folder exists, or if two lists lack required fields.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise PublishError(f"{out}: already exists; choose another --out")
    full = next((each for each in (a, b) if each.is_full), None)
    rows = [row for key, row in full.rows.items() if key in keys] if full else _listed(a, b, keys)
    labels = full.labels if full else tuple(sorted({str(row["label"]) for row in rows}))
    rows.sort(key=lambda row: (str(row["label"]), str(row["key"])))
    by_split = {split: found for split in SPLITS if (found := [row for row in rows if row["split"] == split])}
    out = out.absolute()
    with swap.staging(out) as new:
        told = _write_splits(new, by_split) if full else _write_lists(new, by_split)
        counts = ", ".join(f"{split} {len(found)}" for split, found in by_split.items())
        command = rebuild("FOLDER", listed=full is None)
        lines = [
            f"# Clips that {escape(a.name)} and {escape(b.name)} share",
            "",
            f"Same key, label and split in both. Rebuild them with `{command}` ({IN_DIR}).",
            "",
            f"- clips: {counts or 'none'}",
            *told,
            *_other_bytes(a, b, keys, different),
        ]
        classes = f"# labels of {plain(a.name)} and {plain(b.name)}\n" + "".join(f"{label}\n" for label in labels)
        files.write_bytes(new / contents.CLASSES, classes.encode())
        files.write_bytes(new / contents.CARD, ("\n".join(lines) + "\n").encode())
        sums = {path.relative_to(new).as_posix(): files.sha256(path) for path in new.rglob("*") if path.is_file()}
        files.write_bytes(new / contents.SUMS, contents.sums_text(sums))
        swap.exchange(new, out, own=())


def rebuild(folder: str, *, listed: bool) -> str:
    """The command that builds a common split's clips, from another source than YouTube; `listed`: it consists of lists."""
    classes = f" --classes {folder}/{contents.CLASSES}" if listed else ""
    return f"ks-build --clips {folder}{classes} --source local:DIR --out data/common"


def _other_bytes(a: ClipSet, b: ClipSet, keys: Collection[str], different: int) -> list[str]:
    """Lines of the card about clips whose bytes are not the same in both."""
    pairs = [(a.rows[key]["sha256"], b.rows[key]["sha256"]) for key in keys]
    other = sum(None not in pair and len(set(pair)) > 1 for pair in pairs)
    lines = [f"- with other bytes in the two, alike or not compared: {other}"] if other else []
    lines += [f"- left out, known to differ in picture or sound: {different}"] if different else []
    return lines


def _listed(a: ClipSet, b: ClipSet, keys: Collection[str]) -> list[Row]:
    """Fields of each clip from either list; raises PublishError if required ones are missing or cannot be written."""
    rows: list[Row] = []
    for key in keys:
        ours, theirs = a.rows[key], b.rows[key]
        row = {name: theirs[name] if value is None else value for name, value in ours.items()}
        if any(row[name] is None for name in ("label", "split", "time_start", "time_end")):
            raise PublishError("two lists have too few fields for a common split; compare with a manifest")
        if fault := tables.label_fault(str(row["label"])):
            raise PublishError(f"the label {row['label']!r} of {key} {fault}, so no list can contain it; fix the lists")
        rows.append(row)
    return rows


def _write_splits(new: Path, by_split: dict[str, list[Row]]) -> list[str]:
    """Write splits in the published format, and their fingerprints; returns the lines of the card about these."""
    counts = Counts()
    several = any(tables.LABELS in row for rows in by_split.values() for row in rows)
    for split, rows in by_split.items():
        tables.write(contents.csv_path(new, split), counts.counted(rows), several_labels=several)
    published = counts.published(contents.COMMON, VERSION, contents.COMMON)
    files.write_bytes(new / contents.FINGERPRINTS, contents.fingerprints_text(published))
    return [f"- selection: {published.selection}"]


def _write_lists(new: Path, by_split: dict[str, list[Row]]) -> list[str]:
    """Write lists in Kinetics' format: without statuses, so without fingerprints."""
    for split, rows in by_split.items():
        files.write_bytes(contents.csv_path(new, split), _list_text(rows))
    everything = [row for rows in by_split.values() for row in rows]
    selection = fingerprints.selection((str(r["key"]), str(r["label"]), str(r["split"])) for r in everything)
    return [
        f"- selection, if all of them are available: {selection}",
        "- content: not known, because both are lists, without bytes and statuses",
    ]


def _list_text(rows: Sequence[Row]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(contents.LISTED)
    writer.writerows(
        [files.for_people(str(row[name])) if name == "label" else row[name] for name in contents.LISTED] for row in rows
    )
    return text.getvalue().encode()
