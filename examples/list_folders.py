"""List clips in class folders as an annotation CSV and a class list for ks-build.

    python examples/list_folders.py /data/clips --out mine

Below the folder: `train/CLASS/FILE.mp4`, and the same in `val` and `test`, as far as there are. Writes `mine.csv`, a row for each
clip from 0 to its length in whole seconds, and `mine.txt`, the classes; nothing is overwritten. Needs kinetics-sounds.
"""

import argparse
import csv
import shlex
import sys
from collections import Counter, defaultdict
from pathlib import Path

from kinetics_sounds import classes, datasets, files
from kinetics_sounds.clip import YOUTUBE_ID
from kinetics_sounds.command import command
from kinetics_sounds.datasets import Listing
from kinetics_sounds.errors import ListError, MediaError, SettingsError
from kinetics_sounds.folders import first_free
from kinetics_sounds.media import probe
from kinetics_sounds.quantities import first_of, plural

NAMED = 10
"""Number of names of a kind that the message lists."""


def check_names(listing: Listing) -> None:
    """Raise ListError for all files and folders whose names a build cannot take."""
    stems = defaultdict[str, list[str]](list)
    for row in listing.rows:
        stems[Path(row.path).stem.lower()].append(row.path)
    wrong = [row.path for row in listing.rows if not YOUTUBE_ID.fullmatch(Path(row.path).stem)]
    twice = [" and ".join(paths) for paths in stems.values() if len(paths) > 1]
    labels = [label for label in listing.labels if "#" in label or label != label.strip() or not label.isprintable()]
    kinds = (
        ("rename files to at most 64 letters (A to Z), digits, '-' and '_'", wrong),
        ("rename files of one name, or of names that differ only in case", twice),
        ("rename class folders without '#', line ends and blanks at the ends", labels),
    )
    if told := [f"{what}: {first_of(map(files.as_text, names), NAMED)}" for what, names in kinds if names]:
        raise ListError("\n".join(["a build cannot take all of the names:", *told]))


def seconds(path: Path) -> int:
    """Length of a clip in whole seconds, at least 1: rounded, but down where less than 95% would be there."""
    try:
        length = probe.probe(path).seconds
        if length is None:
            length = max((span.last_seconds for span in probe.spans(path) if span is not None), default=0.0)
    except MediaError:
        return 1  # the build says what is wrong with it
    whole = round(length)
    return max(1, whole if length >= 0.95 * whole else int(length))


def write(folder: Path, out: str) -> int:
    """Write the CSV and the class list, and print the command that follows."""
    table, labels = Path(f"{out}.csv"), Path(f"{out}.txt")
    if there := [str(path) for path in (table, labels) if path.exists()]:
        raise SettingsError(f"{' and '.join(there)}: already there; give another --out, or delete it")
    if not folder.is_dir():
        raise SettingsError(f"{folder}: is not a folder")
    listing = datasets.load("kinetics").read(folder)
    if listing.has_lists:
        raise SettingsError(f"{folder}: has lists of its clips; give these to ks-build --annotations")
    check_names(listing)
    lengths = dict(files.in_threads(seconds, [folder / row.path for row in listing.rows]))
    with table.open("x", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("label", "youtube_id", "time_start", "time_end", "split"))
        for row in listing.rows:
            path = folder / row.path
            writer.writerow((row.label, path.stem, 0, lengths[path], row.split))
    with labels.open("x", encoding="utf-8") as file:
        file.writelines(f"{label}\n" for label in listing.labels)
    for told in (*listing.left_out(), classes.nearly_same_text(Counter(row.label for row in listing.rows))):
        if told:
            print(told, file=sys.stderr)
    print(
        f"{table}: {plural(len(listing.rows), 'clip')} of {plural(len(listing.labels), 'class', 'classes')}: {labels}"
    )
    print(f"next: {following(folder, table, labels)}")
    return 0


def following(folder: Path, table: Path, labels: Path) -> str:
    """The command of the build, in a folder that is not there yet."""
    text = f"ks-build --classes {shlex.quote(str(labels))} --annotations {shlex.quote(str(table))} "
    text += f"--source {shlex.quote(f'local:{folder}')} --local.trimmed yes"
    usual = Path("data") / labels.stem
    out = first_free(usual, lambda path: not path.exists())
    return text if out == usual else f"{text} --out {shlex.quote(str(out))}"


def main(words: list[str]) -> int:
    """Read the command line and list the clips."""
    about, _, more = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(
        description=about, epilog=more, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="folder with train/CLASS/FILE.mp4 and so on")
    parser.add_argument(
        "--out", required=True, metavar="NAME", help="name of the files to write, without .csv and .txt"
    )
    given = parser.parse_args(words)
    return command("list_folders", lambda: write(given.folder, given.out))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
