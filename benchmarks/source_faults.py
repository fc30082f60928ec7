"""Fail each open and each read of a clip's file once, in the cut of ks-build and in the packing of ks-shard.

    apt-get install fuse3; pip install mfusepy
    python benchmarks/source_faults.py --errors EIO EACCES ESTALE ENOTCONN --out source_faults.json

The files lie in a file system of this program's own, which fails the k-th open or read of them, once. A verdict for good, or
a clip or sample other than the undisturbed one, is a fault of ours: it is printed, and the exit code is 1.
"""

import argparse
import contextlib
import dataclasses
import errno
import hashlib
import itertools
import json
import multiprocessing
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from kinetics_sounds.address import Address
from kinetics_sounds.clip import Clip, Kind, Media, Outcome, Status
from kinetics_sounds.errors import StoppedError
from kinetics_sounds.media import encode, ffmpeg, mel
from kinetics_sounds.pipelines.fetching import worker
from kinetics_sounds.pipelines.fetching.task import ClipTask
from kinetics_sounds.pipelines.packing import encode_sample
from kinetics_sounds.shards.index import SkippedClip

MOST = 400
"""Opens or reads of one run that are looked for; a run in which nothing was failed ends the search, a longer one is an error."""


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
        spec=Address(f"local:{path.parent}"),
        locations=(str(path),),
        out=out,
        scratch=out / "scratch",
        folder=out / "scratch" / "task",
        min_coverage=0.9,
        timeout_seconds=60,
    )

    def run() -> Result:
        outcome = worker.process_clip(task).outcome
        return Result(outcome.status.value, outcome.detail, dataclasses.asdict(outcome.media) if outcome.media else {})

    return run


def shard(media: Media, folder: Path, out: Path) -> Callable[[], Result]:
    """What a worker of ks-shard does with a clip."""
    encoding = encode.Encoding(short_side=64)
    packing = encode_sample.Packing(
        folder=folder,
        scratch=out,
        encoding=encoding,
        mel=mel.Mel(),
        audio=True,
        timeout_seconds=60,
        versions=encode_sample.versions(encoding)[0],
    )
    clip = Clip("AbCdEfGhIjK", 0, 6, "x", "val")
    outcome = Outcome(clip=clip, status=Status.OK, media=media)

    def run() -> Result:
        try:
            made = encode_sample.pack(encode_sample.Task(outcome=outcome, label_index=0, packing=packing))
        except (StoppedError, OSError) as error:
            return Result("stopped", f"{type(error).__name__}: {error}", {})
        if isinstance(made, SkippedClip):
            return Result(made.status, made.detail, {})
        return Result("ok", "", {name: hashlib.sha256(data).hexdigest() for name, data in made.items()})

    return run


class Plan:
    """What the file system is to fail next; shared with its process."""

    def __init__(self) -> None:
        self.reads, self.countdown, self.number, self.failed = (multiprocessing.Value("i", 0) for _ in range(4))

    def set(self, *, reads: bool, place: int, number: int) -> None:
        """Fail the open or read of this place, counted from 1."""
        self.reads.value, self.countdown.value, self.number.value, self.failed.value = int(reads), place, number, 0

    def pass_by(self, *, reads: bool) -> int:
        """Count a call; the errno that it is to fail with, or 0."""
        if reads != bool(self.reads.value) or self.countdown.value <= 0:
            return 0
        self.countdown.value -= 1
        self.failed.value = int(self.countdown.value == 0)
        return self.number.value if self.failed.value else 0


def serve(folder: Path, mount: Path, plan: Plan) -> None:
    """Show a folder at another place, with what the plan fails; until it is unmounted."""
    import mfusepy

    class Faulty(mfusepy.Operations):  # type: ignore[misc]
        """The folder, only to be read."""

        def _fail(self, *, reads: bool) -> None:
            if number := plan.pass_by(reads=reads):
                raise mfusepy.FuseOSError(number)

        def getattr(self, path: str, fh: int | None = None) -> dict[str, Any]:
            found = (folder / path.lstrip("/")).stat()
            return {
                name: getattr(found, name)
                for name in ("st_mode", "st_size", "st_nlink", "st_mtime", "st_uid", "st_gid")
            }

        def readdir(self, path: str, fh: int) -> list[str]:
            return [".", "..", *os.listdir(folder / path.lstrip("/"))]  # noqa: PTH208

        def open(self, path: str, flags: int) -> int:
            self._fail(reads=False)
            return os.open(folder / path.lstrip("/"), os.O_RDONLY)

        def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
            self._fail(reads=True)
            return os.pread(fh, size, offset)

        def release(self, path: str, fh: int) -> int:
            os.close(fh)
            return 0

    mfusepy.FUSE(Faulty(), str(mount), foreground=True, nothreads=True, ro=True, direct_io=True)


@contextlib.contextmanager
def mounted(folder: Path, mount: Path, plan: Plan) -> Iterator[None]:
    """The folder at another place, while the block runs."""
    mount.mkdir()
    server = multiprocessing.Process(target=serve, args=(folder, mount, plan))
    server.start()
    while not mount.is_mount():
        time.sleep(0.01)
    try:
        yield
    finally:
        subprocess.run(["fusermount3", "-u", "-z", str(mount)], check=True)
        server.join(10)
        server.kill()


def cases(videos: Path, out: Path, chosen: Collection[str]) -> Iterator[tuple[str, Callable[[], Result]]]:
    """What is done with each file, and how."""
    (out / "scratch").mkdir(parents=True)
    for path in sorted(videos.iterdir()):
        if chosen and path.name not in chosen:
            continue
        yield f"ks-build {path.name}", build(path, out)
        if path.name.startswith("AbC"):
            media = Media(**build(path, out)().made)
            yield f"ks-shard {path.name}", shard(dataclasses.replace(media, path=path.name), videos, out)


def main() -> int:
    """Fail every place of every file; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--errors", nargs="+", default=["EIO", "EACCES", "ESTALE", "ENOTCONN"])
    parser.add_argument("--files", nargs="*", default=[], help="names of the four files; default: all")
    parser.add_argument("--every", type=int, default=1, help="fail only every n-th read")
    parser.add_argument("--out", type=Path, help="a JSON of the counts")
    asked = parser.parse_args()
    print(f"{datetime.now(UTC):%Y-%m-%d}, {platform.machine()}, {os.cpu_count()} cores")
    counts: Counter[str] = Counter()
    wrong, plan = 0, Plan()
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        films(work / "kept")
        with mounted(work / "kept", work / "videos", plan):
            for what, run in cases(work / "videos", work / "build", asked.files):
                undisturbed = run()
                if undisturbed.status != "ok":
                    raise SystemExit(f"{what}: {undisturbed} without any fault")
                for reads, error in itertools.product((False, True), asked.errors):
                    for place in range(1, MOST + 1, asked.every if reads else 1):
                        plan.set(reads=reads, place=place, number=getattr(errno, error))
                        result = run()
                        if not plan.failed.value:
                            break
                        counts[f"{what}: {result.status}"] += 1
                        if not result.right(undisturbed):
                            wrong += 1
                            print(f"WRONG {what} {'read' if reads else 'open'} {place} {error}: {result}", flush=True)
                    else:
                        raise SystemExit(
                            f"{what}: {'read' if reads else 'open'} {MOST} was not the last one; raise MOST in {__file__}"
                        )
                    print(f"{what}: {'read' if reads else 'open'} {error}: up to {place - 1}", flush=True)
                plan.set(reads=False, place=0, number=0)
    print(json.dumps(counts, indent=1))
    print(f"{counts.total()} faults injected, {wrong} of them told wrongly")
    if asked.out:
        asked.out.write_text(json.dumps({"counts": counts, "wrong": wrong}, indent=1) + "\n")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
