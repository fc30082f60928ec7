"""Options of ks-build, and the checks on their values."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kinetics_sounds import cores, lists
from kinetics_sounds.address import Address
from kinetics_sounds.clip import SPLITS, Kind, Status
from kinetics_sounds.errors import SettingsError
from kinetics_sounds.settings import choices

from .. import executors
from .list_plan import FROM_ANNOTATIONS

RETRIABLE = tuple(dict.fromkeys(each.value for each in (*Kind, *Status) if each.value != "ok"))
"""Values that `--retry` accepts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildSettings:
    """Build clips and their manifest from a class list or a published list of clips. Run again to resume.

    Examples:
      ks-build --classes k100.txt
      ks-build --classes k32 --source local:/data/k400 --source cvdf --source youtube --workers 8
      ks-build --classes k32 --source youtube --youtube.cookies cookies.txt --youtube.proxy socks5://127.0.0.1:1080
      ks-build --classes k100 --source cvdf --executor slurm --slurm.partition cpu --workers 32
      ks-build --classes k32 --source local:/data/k400 --check_bytes
      ks-build --clips vggsound.csv --source 'archives:hf://datasets/OWNER/NAME' --archives.names '{id}_{start:06d}'
      ks-build --clips published/k32 --source cvdf --source youtube
      ks-build --clips my_train.txt --clips my_test.txt --classes k31 --source local:/data/k400
      ks-build --clips balanced_train_segments.csv --classes class_labels_indices.csv --source youtube
      ks-build --status --out data/k32
      ks-build --classes mine.txt --annotations val.csv --splits val --limit 20 --dry_run

    exit code: 0 every clip ok; 1 done, some clips are missing, or differ from the published list; 2 usage error;
    3 stopped, run again; 4 a bug, or a failing disk.
    """

    classes: str | None = None
    """Class list: a text file with one label per line, AudioSet's class_labels_indices.csv, or a shipped name (k31, k32, k100,
    k400). Optional with --clips; default there: the published folder's class list, else the rows' first labels, sorted."""
    clips: tuple[str, ...] = field(default=(), metadata={"repeat": True})
    """Build exactly the clips of this list; repeatable. A folder made by ks-publish or one of its CSVs, a paper's list
    (Kinetics, OGM-GE and its followers, CrissCross, mmaction2, VGGSound, AudioSet), or any CSV with a column "key". Of
    several labels of a clip the first of its row that is in the class list is its class; the manifest has all."""
    clips_format: str = field(default="auto", metadata={"package": lists.__name__, "also": ("auto",)})
    """Format of the --clips lists; auto: detect from the first lines."""
    clips_split: str = ""
    """Split of list rows that have none: train, val, test, or "annotations" (look it up in the annotations). Default:
    inferred from the file name (a word such as train or test), else looked up in the annotations."""
    annotations: tuple[Address, ...] = ()
    """Kinetics annotation CSVs, paths or URLs. Default: the official Kinetics-400 lists of --splits. With --clips they are
    read if you name them, or if rows lack times, label or split, or have class indices."""
    splits: str = "train,val,test"
    """Splits to build, comma-separated."""
    source: tuple[Address, ...] = field(default=(), metadata={"repeat": True})
    """Source of the clips; repeatable, tried in the order given: local:DIR, archives:PLACE (tar files: a folder, a file, or
    an http(s)://, hf://, s3:// or gs:// URL), cvdf, cvdf:URL, cvdf:DIR (a folder with the mirror's tar files), youtube.
    Default: youtube; it must be given for a folder that was built from another."""
    out: Path | None = None
    """Output folder. Default: data/NAME, named after the class list or the --clips list."""
    limit: int | None = None
    """Maximum number of clips per split, sampled by key. Default: all."""
    per_class: int | None = None
    """Maximum number of clips per class and split, sampled by key. Default: all."""
    executor: str = field(default="local", metadata={"package": executors.__name__})
    """Where workers run: processes on this machine, a Ray cluster, or Slurm array jobs. All of them must see --out."""
    workers: int = field(default_factory=cores.usable)
    """Number of worker processes, one core each."""
    min_coverage: float = 0.9
    """Minimum fraction (0 to 1) of the annotated span that picture and sound must each cover. Clips judged by an earlier run
    with another value stay so; the summary counts them, and says how to judge them again."""
    timeout: float = 300.0
    """Time limit of one ffmpeg run, in seconds."""
    retry: str = "retry,stop"
    """Failures of earlier runs to retry: kinds (retry, stop, permanent) or statuses, comma-separated."""
    attempts: int = 3
    """Maximum attempts per clip within a run, for transient errors."""
    retry_wait: float = 15.0
    """Seconds before the second attempt; tripled for each further one, with jitter."""
    patience: float = 7200.0
    """Seconds that a source may refuse every request (bot check, rate limit, no network) before the build stops with exit
    code 3. Meanwhile it is probed with one clip at a time."""
    check_bytes: bool = False
    """Verify the SHA-256 of existing clips and rebuild those that differ, or whose linked source file has changed. Without it
    only file sizes are compared."""
    dry_run: bool = False
    """Print what would be requested from each source and what to expect, without fetching; opens some files of a local
    folder."""
    status: bool = False
    """Print how far the build in --out is (default: the only one under data/), also while it runs, and build nothing."""
    json: bool = False
    """Print the report (with --dry_run: the forecast; with --status: the status) as JSON on standard output."""


def check(settings: BuildSettings) -> None:
    """Raise SettingsError for invalid values or combinations of options."""
    if settings.classes is None and not settings.clips:
        raise SettingsError("give --classes (such as k32), or a published list with --clips")
    if not settings.clips and (settings.clips_split or settings.clips_format != "auto"):
        raise SettingsError(
            "--clips_split and --clips_format only apply to lists; give one with --clips, or leave them out"
        )
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
        raise SettingsError(f"--min_coverage {settings.min_coverage}: must be a fraction from 0 to 1")


def check_groups(groups: Mapping[str, Any], *, executor: str, sources: Collection[str]) -> None:
    """Raise SettingsError for options of a source or executor that is not used: the user believes that it is."""
    for name, chosen in groups.items():
        kind = "executor" if name in executors.options() else "source"
        used = (executor,) if kind == "executor" else sources  # `local` is the name of one of each
        if name not in used and chosen != type(chosen)():
            a_kind = f"an {kind}" if kind == "executor" else f"a {kind}"
            raise SettingsError(
                f"--{name}.*: options of {a_kind} that is not used; add --{kind} {name}, or leave them out"
            )
