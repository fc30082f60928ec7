"""How time and memory of ks-build's driver grow with the number of annotations.

Workers are left out: every clip is answered at once, seven in ten with a file (an empty one) and three dead, so what is
measured is what the driver itself costs: plan, hand out, ledger, manifest, report. Then the same command is run again with
the full ledger, which is what a resume costs.

    python benchmarks/build_scale.py [--rows 62500 125000 250000 306245 500000 1000000]
"""

import argparse
import contextlib
import io
import json
import os
import platform
import random
import resource
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from unittest import mock

from kinetics_sounds import classes
from kinetics_sounds.clip import Media, Outcome, Status, label_folder
from kinetics_sounds.pipelines import build
from kinetics_sounds.pipelines.fetching.task import ClipDone

DEAD = (Status.PRIVATE, Status.REMOVED, Status.UNAVAILABLE)
ROWS = (62_500, 125_000, 250_000, 306_245, 500_000, 1_000_000)


class Answers:
    """A pool whose workers take no time."""

    workers = 500

    def __init__(self) -> None:
        self.tasks: list[Any] = []

    @property
    def busy(self) -> int:
        """Tasks whose answers were not taken yet."""
        return len(self.tasks)

    def submit(self, task: Any, *, timeout_seconds: float) -> None:  # noqa: ANN401
        """Take a task."""
        self.tasks.append(task)

    def finished(self, seconds: float) -> list[tuple[Any, ClipDone]]:
        """Answer every task."""
        tasks, self.tasks = self.tasks, []
        return [(task, answer(task)) for task in tasks]

    def close(self) -> None:
        """Nothing runs."""


def answer(task: Any) -> ClipDone:  # noqa: ANN401
    """Three clips in ten are dead, by their keys; the others have an empty file."""
    clip = task.clip
    lot = random.Random(clip.key).random()
    versions = "kinetics-sounds 0.1.0; ffmpeg n9.0.2; yt-dlp 2026.8.19"
    if lot < 0.3:
        status, detail = DEAD[int(lot * 10)], "ERROR: [youtube] Video unavailable. This video is not available [yt-dlp]"
        return ClipDone(
            outcome=Outcome(clip=clip, status=status, detail=detail, source=task.spec, tool_versions=versions)
        )
    path = task.out / "clips" / label_folder(clip.label) / f"{clip.key}.mp4"
    path.parent.mkdir(parents=True, exist_ok=True)
    os.close(os.open(path, os.O_CREAT))
    media = Media(
        path=path.relative_to(task.out).as_posix(),
        bytes=0,
        sha256=random.Random(clip.key).randbytes(32).hex(),
        duration_seconds=10.0,
        fps=29.97,
        width=640,
        height=360,
        num_frames=300,
        audio_rate=44_100,
        audio_channels=2,
        audio_rms_db=-20.5,
        audio_offset_seconds=0.0,
        silent=False,
        still=False,
        other_streams="",
        rotation=0,
        decode_errors=0,
    )
    return ClipDone(outcome=Outcome(clip=clip, status=Status.OK, source=task.spec, media=media, tool_versions=versions))


def annotations(path: Path, rows: int) -> None:
    """A list of so many clips, with Kinetics-400's labels and shares of the splits."""
    labels, lot = classes.read("k400").labels, random.Random(0)
    splits = lot.choices(("train", "validate", "test"), weights=(246_534, 19_906, 39_805), k=rows)
    with path.open("w") as out:
        out.write("label,youtube_id,time_start,time_end,split,is_cc\n")
        for number, split in enumerate(splits):
            name, start = f"{lot.getrandbits(40):010x}{number:07x}", lot.randrange(300)
            out.write(f'"{lot.choice(labels)}",{name},{start},{start + 10},{split},0\n')


def once(folder: Path) -> dict[str, float]:
    """One run of the command in this process; seconds and peak memory."""
    began = time.monotonic()
    argv = ["--classes", "k400", "--annotations", str(folder / "list.csv"), "--source", "youtube:http://x/{youtube_id}"]
    with (
        mock.patch.object(build.executors, "start", return_value=Answers()),
        contextlib.redirect_stdout(io.StringIO()),
    ):
        code = build.main([*argv, "--out", str(folder / "out"), "--json"])
    used = resource.getrusage(resource.RUSAGE_SELF)
    if code != 1:
        raise SystemExit(f"ended with {code}")
    return {
        "wall": time.monotonic() - began,
        "cpu": used.ru_utime + used.ru_stime,
        "peak_mb": used.ru_maxrss / 1024,
    }


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=list(ROWS))
    parser.add_argument("--once", type=Path, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.once:
        print(json.dumps(once(chosen.once)))
        return
    cores = os.cpu_count()
    print(f"{datetime.now(UTC):%Y-%m-%d}, {platform.machine()}, {cores} cores, Python {platform.python_version()}\n")
    print("| rows | build, CPU s | µs a row | peak MB | resume, wall s | resume, CPU s | µs a row | peak MB |")
    print("|---|---|---|---|---|---|---|---|")
    for rows in chosen.rows:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            annotations(folder / "list.csv", rows)
            first, second = (run(folder) for _ in range(2))
        print(
            f"| {rows} | {first['cpu']:.1f} | {first['cpu'] / rows * 1e6:.0f} | {first['peak_mb']:.0f} "
            f"| {second['wall']:.1f} | {second['cpu']:.1f} | {second['cpu'] / rows * 1e6:.0f} | {second['peak_mb']:.0f} |",
            flush=True,
        )


def run(folder: Path) -> dict[str, float]:
    """One run in a process of its own."""
    argv = [sys.executable, __file__, "--once", str(folder)]
    done = subprocess.run(argv, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    found: dict[str, float] = json.loads(done.stdout)
    return found


if __name__ == "__main__":
    main()
