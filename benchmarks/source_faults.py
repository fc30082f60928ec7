"""Fail each open and each read of a clip's file once, in the cut of ks-build and in the packing of ks-shard.

    python benchmarks/source_faults.py --errors EIO EACCES ESTALE ENOTCONN --out source_faults.json

Needs strace. Per file, call, error and place one child is forked, traced, and its k-th open or read of that file fails
(of each thread: ffmpeg has several). A verdict for good, or a clip or sample other than the undisturbed one, is a fault of
ours: it is printed, and the exit code is 1.
"""

import argparse
import dataclasses
import hashlib
import itertools
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from kinetics_sounds.clip import Clip, Kind, Media, Outcome, Status
from kinetics_sounds.errors import StoppedError
from kinetics_sounds.media import encode, ffmpeg, mel
from kinetics_sounds.pipelines import tasks
from kinetics_sounds.pipelines.stages import pack
from kinetics_sounds.pipelines.tasks import ClipTask
from kinetics_sounds.shards.index import Left

OPENS, READS = "openat", "read,pread64,readv"
MOST = 400
"""Places looked for; a run in which nothing was failed ends the search sooner."""


class Result(NamedTuple):
    """What became of a clip or a sample."""

    status: str
    """As the manifest says; `stopped` where ks-shard ends, to be run again."""
    detail: str
    made: dict[str, Any]
    """Of an ok clip what was measured, of a sample the checksums of its parts."""

    def right(self, undisturbed: "Result") -> bool:
        """Whether nothing was said for good that is not so, and what was made is what is made without faults."""
        retried = {status.value for status in Status if status.kind is Kind.RETRY} | {"stopped"}
        return self.status in retried or self == undisturbed


def tool(*words: object) -> None:
    """Run ffmpeg."""
    subprocess.run([ffmpeg.executable(), "-nostdin", "-y", "-v", "error", *map(str, words)], check=True, timeout=120)


def films(folder: Path) -> dict[str, Path]:
    """A clip that is linked, and three videos that are cut."""
    source = ("-f", "lavfi", "-i", "testsrc2=s=320x240:r=25:d=6", "-f", "lavfi", "-i", "sine=f=440:d=6")
    codec = ("-c:v", "libx264", "-preset", "ultrafast", "-g", 25, "-c:a", "aac")
    folder.mkdir()
    tool(*source, *codec, folder / "AbCdEfGhIjK_000000_000006.mp4")
    for number, suffix in enumerate(("mp4", "mkv", "ts")):
        tool("-i", folder / "AbCdEfGhIjK_000000_000006.mp4", "-c", "copy", folder / f"whole-{number}.{suffix}")
    return {path.name: path for path in sorted(folder.iterdir())}


def build(path: Path, out: Path) -> Callable[[], Result]:
    """What a worker of ks-build does with a file."""
    trimmed = path.stem.endswith("_000006")
    clip = Clip("AbCdEfGhIjK", 0, 6, "x", "val") if trimmed else Clip(path.stem, 1, 5, "x", "val")
    task = ClipTask(
        clip=clip,
        spec=f"local:{path.parent}",
        location=str(path),
        out=out,
        scratch=out / "scratch",
        folder=out / "scratch" / "task",
        min_coverage=0.9,
        timeout_seconds=60,
    )

    def run() -> Result:
        outcome = tasks.obtain(task).outcome
        return Result(outcome.status.value, outcome.detail, dataclasses.asdict(outcome.media) if outcome.media else {})

    return run


def shard(media: Media, out: Path) -> Callable[[], Result]:
    """What a worker of ks-shard does with a clip."""
    encoding = encode.Encoding(short_side=64)
    packing = pack.Packing(
        folder=out,
        scratch=out,
        encoding=encoding,
        mel=mel.Mel(),
        audio=True,
        timeout_seconds=60,
        versions=pack.versions(encoding),
    )
    clip = Clip("AbCdEfGhIjK", 0, 6, "x", "val")
    outcome = Outcome(clip=clip, status=Status.OK, media=media)

    def run() -> Result:
        try:
            made = pack.pack(pack.Task(outcome=outcome, label_index=0, packing=packing))
        except (StoppedError, OSError) as error:
            return Result("stopped", f"{type(error).__name__}: {error}", {})
        if isinstance(made, Left):
            return Result(made.status, made.detail, {})
        return Result("ok", "", {name: hashlib.sha256(data).hexdigest() for name, data in made.items()})

    return run


def forked(run: Callable[[], Result], *, path: Path, inject: str) -> tuple[Result, bool]:
    """The result of a child of this process that was traced meanwhile, and whether anything was failed in it."""
    with tempfile.TemporaryDirectory() as name:
        told, log = Path(name) / "result.json", Path(name) / "calls"
        reads, writes = os.pipe()
        child = os.fork()
        if child == 0:
            os.read(reads, 1)  # until the tracer is there
            try:
                result = run()
            except BaseException as error:  # noqa: BLE001 - told to whoever started this
                result = Result("raised", repr(error), {})
            told.write_text(json.dumps(result))
            os._exit(0)
        calls = inject.partition(":")[0]
        argv = ["strace", "-f", "-qq", "-o", log, "-P", path, "-e", f"trace={calls}", "-e", f"inject={inject}"]
        with subprocess.Popen([*map(str, argv), "-p", str(child)], stderr=subprocess.DEVNULL):
            status = Path(f"/proc/{child}/status")
            while not re.search(r"^TracerPid:\s*[1-9]", status.read_text(), re.MULTILINE):
                time.sleep(0.002)
            os.write(writes, b"x")
            os.waitpid(child, 0)
        os.close(reads)
        os.close(writes)
        return Result(*json.loads(told.read_text())), "(INJECTED)" in log.read_text("utf-8", "replace")


def cases(work: Path, chosen: Collection[str]) -> Iterator[tuple[str, Path, Callable[[], Result]]]:
    """What is done, with which file, and how."""
    out = work / "build"
    (out / "scratch").mkdir(parents=True)
    for name, path in films(work / "videos").items():
        if chosen and name not in chosen:
            continue
        yield f"ks-build {name}", path, build(path, out)
        if name.startswith("AbC"):
            clip = out / "clip.mp4"
            shutil.copyfile(path, clip)
            media = Media(**build(path, out)().made)
            yield f"ks-shard {name}", clip, shard(dataclasses.replace(media, path=clip.name), out)


def main() -> int:
    """Fail every place of every file; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--errors", nargs="+", default=["EIO", "EACCES", "ESTALE", "ENOTCONN"])
    parser.add_argument("--files", nargs="*", default=[], help="names of the four files; default: all")
    parser.add_argument("--every", type=int, default=1, help="of the reads, only each so manieth")
    parser.add_argument("--out", type=Path, help="a JSON of the counts")
    asked = parser.parse_args()
    print(f"{datetime.now(UTC):%Y-%m-%d}, {platform.machine()}, {os.cpu_count()} cores")
    counts: Counter[str] = Counter()
    wrong = 0
    with tempfile.TemporaryDirectory() as name:
        for what, path, run in cases(Path(name), asked.files):
            undisturbed = run()
            if undisturbed.status != "ok":
                raise SystemExit(f"{what}: {undisturbed} without any fault")
            for calls, error in itertools.product((OPENS, READS), asked.errors):
                for place in range(1, MOST, asked.every if calls == READS else 1):
                    result, failed = forked(run, path=path, inject=f"{calls}:error={error}:when={place}")
                    if not failed:
                        break
                    counts[f"{what}: {result.status}"] += 1
                    if not result.right(undisturbed):
                        wrong += 1
                        print(f"WRONG {what} {calls} {error} when={place}: {result}", flush=True)
                print(f"{what}: {calls.partition(',')[0]} {error}: up to {place - 1}", flush=True)
    print(json.dumps(counts, indent=1))
    print(f"{counts.total()} faults injected, {wrong} of them told wrongly")
    if asked.out:
        asked.out.write_text(json.dumps({"counts": counts, "wrong": wrong}, indent=1) + "\n")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
