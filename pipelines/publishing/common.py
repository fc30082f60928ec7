"""The clips that two sets share, as a folder of its own on which two papers can be compared."""

from collections.abc import Collection
from pathlib import Path

from kinetics_sounds import files
from kinetics_sounds.clip import SPLITS
from kinetics_sounds.errors import PublishError

from . import contents, swap, tables
from .facts import Counts
from .markdown import escape, plain
from .sets import ClipSet

VERSION = "1.0.0"


def write(out: Path, shared: ClipSet, keys: Collection[str], *, names: tuple[str, str]) -> None:
    """Write the rows of these keys as splits, with class list, fingerprints and checksums, into a folder that is not there."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise PublishError(f"{out}: is there already; choose another --out")
    if any(shared.rows[key][name] is None for key in keys for name in ("label", "split", "time_end")):
        raise PublishError("two lists say too little of their clips for a split of their own; compare with a manifest")
    out = out.absolute()
    with swap.staging(out) as new:
        counts = Counts()
        for split in SPLITS:
            rows = sorted(
                (row for key, row in shared.rows.items() if key in keys and row["split"] == split),
                key=lambda row: (str(row["label"]), str(row["key"])),
            )
            if rows:
                tables.write(contents.csv_path(new, split), counts.counted(rows))
        published = counts.published(contents.COMMON, VERSION, contents.COMMON)
        labels = "".join(f"{label}\n" for label in shared.labels)
        clips = ", ".join(f"{split} {each['clips']}" for split, each in published.splits.items())
        told = [
            f"# Clips that {escape(names[0])} and {escape(names[1])} share",
            "",
            "Same key, same label, same split in both. Rebuild them with `ks-build --clips FOLDER`.",
            "",
            f"- clips: {clips or 'none'}",
            f"- selection: {published.selection}",
        ]
        documents = {
            contents.CLASSES: f"# labels of {plain(names[0])} and {plain(names[1])}\n{labels}".encode(),
            contents.FINGERPRINTS: contents.fingerprints_text(published),
            contents.CARD: ("\n".join(told) + "\n").encode(),
        }
        for name, data in documents.items():
            files.write_bytes(new / name, data)
        sums = {path.relative_to(new).as_posix(): files.sha256(path) for path in new.rglob("*") if path.is_file()}
        files.write_bytes(new / contents.SUMS, contents.sums_text(sums))
        swap.exchange(new, out, own=())
