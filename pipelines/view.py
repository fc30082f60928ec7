"""ks-view: one HTML file of a build, a shard set, a published folder or a run, opened from the disk without a network."""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from kinetics_sounds import files
from kinetics_sounds.command import DONE, SOME_FAILED, command
from kinetics_sounds.errors import SettingsError
from kinetics_sounds.settings import only_one, parse

MOST_EMBEDDED = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class ViewSettings:
    """Write one HTML file that shows clips, what became of them, and training runs; it needs no network.

    Examples:
      ks-view data/k32
      ks-view data/k32/shards published/k32 --out report.html
      ks-view data/k32 --run runs/avcl_k32 --run runs/simclr_k32 --embed 60

    A PATH is a build's folder or manifest (or a copy of it), a shard set, a published folder, or a run; several are shown
    together. Clips that are not embedded play from where they lie, so keep the file where it is written.

    exit code: 0 done; 1 done, some clips could not be embedded; 2 misuse; 3 stopped; 4 a bug, or a disk that fails.
    """

    path: tuple[Path, ...] = field(default=(), metadata={"repeat": True})
    """What to show; repeatable, and may be said without --path, before all options. Default: the only build under data/,
    unless there is a --run."""
    run: tuple[Path, ...] = field(default=(), metadata={"repeat": True})
    """Folder of a training run: its curves, results and maps; repeatable, to compare."""
    out: Path | None = None
    """HTML file that is written; default: view.html in the first PATH where that is a build or a run, else PATH.html."""
    title: str | None = None
    """Of the page; default: the names of what it shows."""
    embed: int = 24
    """Clips that are embedded, small, with their mel-spectrograms; about 0.15 MB each."""
    seed: int = 0
    """Of the choice of embedded clips."""
    timeout: float = 60.0
    """Seconds that ffmpeg may take for one embedded clip."""
    json: bool = False
    """Print what was written as JSON on standard output."""


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of `ks-view`."""
    words = list(sys.argv[1:] if argv is None else argv)
    count = next((number for number, word in enumerate(words) if word.startswith("-")), len(words))
    named = [f"--path={word}" for word in words[:count]] + words[count:]
    return command("ks-view", lambda: view(parse(ViewSettings, named, prog="ks-view").settings))


def view(settings: ViewSettings) -> int:
    """Write the page; returns the exit code."""
    _check(settings)
    paths = list(settings.path)
    if not paths and not settings.run:
        paths = [only_one("data/*/manifest.parquet", option="path", make="ks-build").parent]
    from .viewing import report, runs, sets  # they import what reads tables

    ran = [runs.read(path) for path in (*(path for path in paths if runs.is_run(path)), *settings.run)]
    found = [sets.read(path) for path in paths if not runs.is_run(path)]
    kinds = {its.name: its.kind for its in found}
    first = (*paths, *settings.run)[0]
    out = settings.out or _default_out(first, kinds.get(files.as_text(first), "run"))
    written = report.write(
        out,
        title=settings.title or ", ".join([*(its.name for its in found), *(run.name for run in ran)]),
        found=found,
        ran=ran,
        embed=settings.embed,
        seed=settings.seed,
        timeout_seconds=settings.timeout,
    )
    report.tell(written)
    if settings.json:
        said = {"file": str(out), "clips": written.rows, "embedded": written.embedded, "failed": len(written.failed)}
        print(json.dumps(said | {"bytes": out.stat().st_size}))
    else:
        megabytes = out.stat().st_size / 1e6
        print(f"{written.rows} clips, {written.embedded} embedded, {len(ran)} runs: {megabytes:.1f} MB\nview: {out}")
    return SOME_FAILED if written.failed else DONE


def _default_out(path: Path, kind: str) -> Path:
    """Within a build or a run; beside what is whole as it is."""
    if kind in ("build", "run"):
        return path / "view.html"
    return path.absolute().with_name(f"{path.absolute().stem}.html")


def _check(settings: ViewSettings) -> None:
    if not 0 <= settings.embed <= MOST_EMBEDDED:
        raise SettingsError(f"--embed {settings.embed}: must be from 0 to {MOST_EMBEDDED}")
    if not 0 < settings.timeout < float("inf"):
        raise SettingsError(f"--timeout {settings.timeout:g}: must be more than 0 seconds")
    if settings.out is not None and settings.out.suffix.lower() not in (".html", ".htm"):
        raise SettingsError(f"--out {settings.out}: is no HTML file; give a name that ends in .html")


if __name__ == "__main__":
    sys.exit(main())
