"""ks-view: a single HTML file that shows a build, a shard set, a published folder or a run, without network access."""

import json
import sys
import urllib.parse
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from kinetics_sounds import remote
from kinetics_sounds.address import Address
from kinetics_sounds.command import DONE, SOME_FAILED, command
from kinetics_sounds.errors import SettingsError
from kinetics_sounds.interrupts import ended_by_interrupt
from kinetics_sounds.quantities import byte_size, plural
from kinetics_sounds.settings import only_one, parse

PROG = "ks-view [PATH ...]"
MOST_EMBEDDED = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class ViewSettings:
    """Write a single HTML file that shows clips, their outcomes, and training runs; it needs no network.

    Examples:
      ks-view data/k32
      ks-view data/k32/shards published/k32 --out report.html
      ks-view hf://datasets/USER/k32
      ks-view data/k32 --run runs/avcl_k32 --run runs/simclr_k32 --embed 60

    A PATH is a build's folder or manifest (or a copy of it), a shard set, a published folder, or a run (published or not);
    several are shown together. Of a shard set at a URL (s3://, gs://, hf://, http(s)://) only the indexes are read. Clips that
    are not embedded are played from disk by their paths relative to the page, so do not move the file.

    exit code: 0 done; 1 done, some clips could not be embedded; 2 usage error; 3 stopped; 4 a bug, or a failing disk.
    """

    path: tuple[Address, ...] = field(default=(), metadata={"repeat": True})
    """Data to show; repeatable; may be given as first arguments, without --path. Default: the only build under data/, unless
    --run is given."""
    run: tuple[Path, ...] = field(default=(), metadata={"repeat": True})
    """Folder of a training run to show: curves, results and Grad-CAM maps; repeatable, for comparison."""
    out: Path | None = None
    """Output HTML file. Default: view.html in the first PATH if that is a build or an unpublished run, else PATH.html; of a URL
    its last part, in the working directory."""
    title: str | None = None
    """Title of the page. Default: the names of the data shown."""
    embed: int = 24
    """Number of clips to embed, small, with their mel-spectrograms; about 0.15 MB each."""
    seed: int = 0
    """Seed of the random choice of embedded clips."""
    timeout: float = 60.0
    """Time limit of ffmpeg per embedded clip, in seconds."""
    json: bool = False
    """Print a summary of the page as JSON on standard output."""


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of `ks-view`."""
    words = list(sys.argv[1:] if argv is None else argv)
    count = next((number for number, word in enumerate(words) if word.startswith("-")), len(words))
    named = [f"--path={word}" for word in words[:count]] + words[count:]
    return command("ks-view", lambda: view(parse(ViewSettings, named, prog=PROG).settings))


def view(settings: ViewSettings) -> int:
    """Write the page; returns the exit code."""
    _check(settings)
    places = [_place(each) for each in settings.path]
    if not places and not settings.run:
        places = [only_one("data/*/manifest.parquet", option="PATH", make="ks-build").parent]
    with ended_by_interrupt():
        from .viewing import report, runs, sets  # they import what reads tables

    trained = [path for path in places if isinstance(path, Path) and runs.is_run(path)]
    ran = [runs.read(path) for path in (*trained, *settings.run)]
    found = [sets.read(place) for place in places if place not in trained]
    first = (*places, *settings.run)[0]
    own = [its.folder for its in found if its.kind == "build"]
    own += [path for path in (*trained, *settings.run) if not runs.is_published(path)]
    out = settings.out or _default_out(first, inside=first in own)
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
        told = f"{plural(written.rows, 'clip')}, {written.embedded} embedded, {plural(len(ran), 'run')}"
        print(f"{told}: {byte_size(out.stat().st_size)}\nview: {out}")
    return SOME_FAILED if written.failed else DONE


def _place(given: Address) -> Path | Address:
    return given if remote.is_url(given) else Path(given.real)


def _default_out(place: Path | Address, *, inside: bool) -> Path:
    """Inside a build or a run; beside what must not be changed; here for what is at a URL."""
    if isinstance(place, Address):
        return Path(f"{Path(urllib.parse.urlsplit(str(place)).path).name or 'view'}.html")
    if inside:
        return place / "view.html"
    whole = place if place.name not in ("", "..") else place.resolve()
    return whole.with_name(f"{whole.name if place.is_dir() else whole.stem}.html")


def _check(settings: ViewSettings) -> None:
    if not 0 <= settings.embed <= MOST_EMBEDDED:
        raise SettingsError(f"--embed {settings.embed}: must be from 0 to {MOST_EMBEDDED}")
    if not 0 < settings.timeout < float("inf"):
        raise SettingsError(f"--timeout {settings.timeout:g}: must be more than 0 seconds")
    if settings.out is not None and settings.out.suffix.lower() not in (".html", ".htm"):
        raise SettingsError(f"--out {settings.out}: is not an HTML file; give a name that ends in .html")
    if settings.out is not None and not settings.out.parent.parent.is_dir():
        raise SettingsError(
            f"--out {settings.out}: there is no folder {settings.out.parent.parent}; make it, or correct that"
        )


if __name__ == "__main__":
    sys.exit(main())
