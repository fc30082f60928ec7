"""How well ks-build and ks-shard keep their cores busy.

Real clips are cut out of whole videos and packed, once with one worker and once with as many as there are cores. The work
itself is the CPU time of the first; what the second could do at best is cores x wall. Their ratio is what is not lost to
starting, waiting, writing and the driver.

    python benchmarks/build_speed.py --videos FOLDER [--clips 60] [--seconds 10]
"""

import argparse
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from kinetics_sounds.errors import MediaError
from kinetics_sounds.media import probe


@dataclass(frozen=True)
class Took:
    """Of one command with all its processes."""

    wall: float
    cpu: float


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=Path, required=True, help="Folder of videos, at any depth.")
    parser.add_argument("--clips", type=int, default=60)
    parser.add_argument("--seconds", type=int, default=10)
    chosen = parser.parse_args()
    cores = len(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        count, pixels = prepare(folder, chosen.videos, chosen.clips, chosen.seconds)
        print(f"{datetime.now(UTC):%Y-%m-%d}, {platform.machine()}, {cores} cores, Python {platform.python_version()}")
        print(
            f"{count} clips of up to {chosen.seconds} s from {chosen.videos.name}, {pixels / count / 1e3:.0f} kpixel a frame\n"
        )
        print(
            "| command | one worker: CPU s | wall s | workers | CPU s | wall s | CPU of one worker / (cores x wall) |"
        )
        print("|---|---|---|---|---|---|---|")
        one, many = (commands(folder, workers) for workers in (1, cores))
        for command in one:
            print(row(command, one[command], many[command], cores))
        print(row("both", total(one), total(many), cores))


def prepare(folder: Path, videos: Path, clips: int, seconds: int) -> tuple[int, int]:
    """Link videos with picture and sound under made-up ids, and annotate a span of each."""
    (folder / "videos").mkdir()
    rows, pixels = ["label,youtube_id,time_start,time_end,split"], 0
    for path in sorted(path for path in videos.rglob("*") if path.suffix in (".mp4", ".webm", ".mkv", ".avi", ".mov")):
        try:
            found = probe.probe(path)
        except MediaError:
            continue
        length = min(seconds, int(found.seconds or 0))
        if found.video and found.audio and length >= 4 and len(rows) <= clips:
            (folder / "videos" / f"made-up-{len(rows):03d}{path.suffix}").symlink_to(path.absolute())
            rows.append(f"something,made-up-{len(rows):03d},0,{length},val")
            pixels += found.video.width * found.video.height
    (folder / "list.csv").write_text("\n".join(rows) + "\n")
    (folder / "classes.txt").write_text("something\n")
    return len(rows) - 1, pixels


def commands(folder: Path, workers: int) -> dict[str, Took]:
    """Both commands with so many workers."""
    out = folder / f"out-{workers}"
    source = ["--source", f"local:{folder / 'videos'}", "--min_coverage", "0.5"]
    lists = ["--classes", folder / "classes.txt", "--annotations", folder / "list.csv", "--splits", "val"]
    return {
        "ks-build": run("build", *lists, *source, "--out", out, "--workers", workers),
        "ks-shard": run("shard", "--manifest", out / "manifest.parquet", "--workers", workers),
    }


def run(module: str, *arguments: object) -> Took:
    """One command; its CPU time with that of all that it started."""
    argv = [sys.executable, "-m", f"kinetics_sounds.pipelines.{module}", *map(str, arguments)]
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    done = subprocess.run(argv, check=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wall, after = time.monotonic() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode not in (0, 1):
        raise SystemExit(f"{module} ended with {done.returncode}")
    return Took(wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


def total(parts: dict[str, Took]) -> Took:
    """One after the other."""
    return Took(sum(part.wall for part in parts.values()), sum(part.cpu for part in parts.values()))


def row(name: str, one: Took, many: Took, cores: int) -> str:
    """A line of the table."""
    busy = one.cpu / (cores * many.wall)
    return f"| {name} | {one.cpu:.1f} | {one.wall:.1f} | {cores} | {many.cpu:.1f} | {many.wall:.1f} | **{busy:.2f}** |"


if __name__ == "__main__":
    main()
