"""What ks-build is told: its options, and which of them cannot be."""

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kinetics_sounds import lists
from kinetics_sounds.address import Address
from kinetics_sounds.clip import SPLITS, Kind, Status
from kinetics_sounds.errors import SettingsError
from kinetics_sounds.settings import choices

from .. import executors
from .list_plan import FROM_ANNOTATIONS

RETRIABLE = tuple(dict.fromkeys(each.value for each in (*Kind, *Status) if each.value != "ok"))
"""What `--retry` takes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Build clips and their manifest from a class list or a published list of clips. Run it again to go on where it stopped.

    Examples:
      ks-build --classes k100.txt
      ks-build --classes k32 --source local:/data/k400 --source cvdf --source youtube --workers 8
      ks-build --classes k32 --source youtube --youtube.cookies cookies.txt --youtube.proxy socks5://127.0.0.1:1080
      ks-build --classes k100 --source cvdf --executor slurm --slurm.partition cpu --workers 32
      ks-build --classes k32 --source local:/data/k400 --check_bytes
      ks-build --clips published/k32 --source cvdf --source youtube
      ks-build --clips my_train.txt --clips my_test.txt --classes k31 --source local:/data/k400
      ks-build --classes mine.txt --annotations val.csv --splits val --limit 20 --dry_run

    exit code: 0 every clip ok; 1 done, some clips have another status, or are not those of the published list; 2 misuse;
    3 stopped, run again; 4 a bug, or a disk that fails.
    """

    classes: str | None = None
    """Class list: a text file with one Kinetics label a line, or a shipped name (k31, k32, k100, k400). With --clips it may be
    left out: it is the published folder's, else the lists' labels, sorted."""
    clips: tuple[str, ...] = field(default=(), metadata={"repeat": True})
    """Build exactly what a list names; repeatable: a folder that ks-publish made or one of its CSVs, a paper's list (Kinetics,
    OGM-GE and those who follow it, CrissCross, mmaction2, VGGSound, AudioSet), any CSV with a column "key"."""
    clips_format: str = field(default="auto", metadata={"package": lists.__name__, "also": ("auto",)})
    """Format of the lists; auto: recognised by their first lines."""
    clips_split: str = ""
    """Split of listed rows that say none: train, val, test, or "annotations" (that of the annotations). Default: what the file's
    name tells by a word such as train or test, else that of the annotations."""
    annotations: tuple[Address, ...] = ()
    """Kinetics CSVs, paths or URLs; default: the official Kinetics-400 lists of the splits asked for. With --clips they are
    read where you name them, and where rows lack times, label or split or have class indices."""
    splits: str = "train,val,test"
    """Splits to build, separated by commas."""
    source: tuple[Address, ...] = field(default=(), metadata={"repeat": True})
    """Where clips come from, tried in the order given; repeatable: local:DIR, cvdf, cvdf:URL, cvdf:DIR (a folder of the
    mirror's tar parts), youtube. Default: youtube."""
    out: Path | None = None
    """Folder of the build; default: data/NAME after the class list, or after the list that --clips names."""
    limit: int | None = None
    """At most this many clips a split, drawn by their keys."""
    per_class: int | None = None
    """At most this many clips a class and split, drawn by their keys."""
    executor: str = field(default="local", metadata={"package": executors.__name__})
    """Where workers run: processes here, a Ray cluster, or Slurm array jobs. --out must be seen by all of them."""
    workers: int = field(default_factory=lambda: os.cpu_count() or 1)
    """Processes; each uses one core."""
    min_coverage: float = 0.9
    """Share of the annotated span that picture and sound must each cover; clips that are there already stay."""
    timeout: float = 300.0
    """Seconds that one ffmpeg run may take."""
    retry: str = "retry,stop"
    """What an earlier run left that is tried again: kinds (retry, stop, permanent) or statuses, separated by commas."""
    attempts: int = 3
    """Tries of one clip within a run, where trying again may help."""
    retry_wait: float = 15.0
    """Seconds before the second try; it trebles for each next one, with jitter."""
    patience: float = 7200.0
    """Seconds that a source may refuse everything (bot check, rate limit, no network), probed now and then with one clip,
    before the build stops with exit code 3."""
    check_bytes: bool = False
    """Read every clip that is there and make anew those whose SHA-256 is not the one that was built, or whose source's own file
    (where that is linked) has changed; without this option sizes alone are compared."""
    dry_run: bool = False
    """Only say what would be asked of which source, and what to expect; opens some of a folder's files."""
    json: bool = False
    """Print the report, or the forecast of --dry_run, as JSON on standard output."""


def check(settings: Settings) -> None:
    """Raise SettingsError for what cannot be."""
    if settings.classes is None and not settings.clips:
        raise SettingsError("say what to build: --classes (such as k32), or a published list with --clips")
    if not settings.clips and (settings.clips_split or settings.clips_format != "auto"):
        raise SettingsError("--clips_split and --clips_format are of lists; name one with --clips, or leave them out")
    if settings.clips_split:
        choices(settings.clips_split, (*SPLITS, FROM_ANNOTATIONS), option="clips_split")
    for name in ("limit", "per_class", "workers", "timeout", "attempts"):
        value = getattr(settings, name)
        if value is not None and not 0 < value < float("inf"):
            raise SettingsError(f"--{name} {value}: must be more than 0")
    for name in ("retry_wait", "patience"):
        if not 0 <= getattr(settings, name) < float("inf"):
            raise SettingsError(f"--{name} {getattr(settings, name)}: must be 0 or more seconds")
    if not 0 <= settings.min_coverage <= 1:
        raise SettingsError(f"--min_coverage {settings.min_coverage}: is a share, from 0 to 1")


def check_groups(groups: Mapping[str, Any], used: Collection[str]) -> None:
    """Refuse options of a source or executor that is not asked: whoever gave them believes that it is."""
    for name, chosen in groups.items():
        if name not in used and chosen != type(chosen)():
            kind = "executor" if name in executors.options() else "source"
            a_kind = f"an {kind}" if kind == "executor" else f"a {kind}"
            raise SettingsError(
                f"--{name}.*: options of {a_kind} that is not asked; add --{kind} {name}, or leave them out"
            )
