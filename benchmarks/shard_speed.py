"""What ks-shard costs over bare decoding, and what it keeps.

Real clips are linked or cut by ks-build, then packed by one worker. The floor is the CPU time of the same ffmpeg that decodes
the same clips, picture and sound, to nothing with one thread. ks-shard's is that of the command with all its processes, less
that of the same command on one tiny clip: imports and the start of a worker, which a set of any size pays once. The ratio
includes all else: scaling, encoding, mel-spectrograms, FLAC, tars, hashes and the driver. Each is measured right after
a floor of its own; medians of five.

    python benchmarks/shard_speed.py --videos FOLDER [--clips 60] [--rounds 5]
"""

import argparse
import platform
import re
import resource
import statistics
import subprocess
import tempfile
from contextlib import ExitStack
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import numpy as np
from build_speed import run

from kinetics_sounds import manifest, stream
from kinetics_sounds.errors import MediaError
from kinetics_sounds.media import encode, ffmpeg, probe, synthesize
from kinetics_sounds.shards import layout

LARGE = 480
"""Lines of the shorter side from which a clip counts as large."""
SECONDS = 10
VARIANTS = {
    "exact": (),
    "--fast_decode": ("--fast_decode",),
    "--codec jpeg": ("--codec", "jpeg"),
}


def main() -> None:
    """Measure and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=Path, required=True, help="Folder of videos, at any depth.")
    parser.add_argument("--clips", type=int, default=60, help="At most so many large ones, and so many small.")
    parser.add_argument("--rounds", type=int, default=5)
    chosen = parser.parse_args()
    print(
        f"{datetime.now(UTC):%Y-%m-%d}, {cpu_name()}, {platform.machine()}, Python {platform.python_version()}, ",
        end="",
    )
    print(f"ffmpeg {ffmpeg.version()}, numpy {version('numpy')}; one worker, medians of {chosen.rounds}\n")
    with ExitStack() as stack:
        folders = [Path(stack.enter_context(tempfile.TemporaryDirectory())) for _ in range(3)]
        build(folders[0], {"tiny": made_up(folders[0])})
        for title, folder, videos in (
            (f"Clips of {LARGE} lines and more", folders[1], found(chosen.videos, chosen.clips, large=True)),
            ("Small clips", folders[2], found(chosen.videos, chosen.clips, large=False)),
        ):
            clips = build(folder, videos)
            print(f"## {title}\n\n{len(clips)} clips of up to {SECONDS} s: {', '.join(sorted(videos))}\n")
            speeds(folder, clips, folders[0], rounds=chosen.rounds)
            contents(folder, clips)


def cpu_name() -> str:
    """As Linux calls it."""
    told = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    return told[1] if told else "unknown CPU"


def found(videos: Path, most: int, *, large: bool) -> dict[str, Path]:
    """Videos of at least four seconds with picture and sound, by what they are called in the report."""
    chosen: dict[str, Path] = {}
    for path in sorted(path for path in videos.rglob("*") if path.suffix in (".mp4", ".webm", ".mkv", ".avi", ".mov")):
        try:
            seen = probe.probe(path)
        except MediaError:
            continue
        if not (seen.video and seen.audio and (seen.seconds or 0) >= 4 and len(chosen) < most):
            continue
        if (min(seen.video.width, seen.video.height) >= LARGE) == large:
            chosen[f"{path.parent.name}/{path.stem}"] = path
    return chosen


def made_up(folder: Path) -> Path:
    """A clip whose packing is next to nothing."""
    path = folder / "tiny.mp4"
    sound = np.zeros(24_000, dtype=np.float32)
    synthesize.write_mp4(path, np.zeros((10, 48, 48, 3), dtype=np.uint8), sound, fps=10, sample_rate=24_000)
    return path


def build(folder: Path, videos: dict[str, Path]) -> list[Path]:
    """Have ks-build link the videos that are as long as their span, and cut the others; returns the clips."""
    (folder / "videos").mkdir()
    rows = ["label,youtube_id,time_start,time_end,split"]
    for number, path in enumerate(videos.values()):
        seconds = min(SECONDS, int(probe.probe(path).seconds or 0)) or 1
        key = f"made-up-{number:03d}"
        fits = (probe.probe(path).seconds or 0) < seconds + 1
        name = f"{key}_{0:06d}_{seconds:06d}" if fits else key
        (folder / "videos" / f"{name}{path.suffix}").symlink_to(path.absolute())
        rows.append(f"something,{key},0,{seconds},val")
    (folder / "list.csv").write_text("\n".join(rows) + "\n")
    (folder / "classes.txt").write_text("something\n")
    lists = ["--classes", folder / "classes.txt", "--annotations", folder / "list.csv", "--splits", "val"]
    run("build", *lists, "--source", f"local:{folder / 'videos'}", "--min_coverage", "0.5", "--out", folder / "out")
    outcomes = manifest.read(folder / "out/manifest.parquet").outcomes
    return [folder / "out" / outcome.media.path for outcome in outcomes if outcome.media]


def speeds(folder: Path, clips: list[Path], tiny_folder: Path, *, rounds: int) -> None:
    """Print CPU seconds and ratios; each row has a floor of its own, measured beside it, for machines have moods."""
    floors: dict[str, list[float]] = {name: [] for name in VARIANTS}
    starts: dict[str, list[float]] = {name: [] for name in VARIANTS}
    whole: dict[str, list[float]] = {name: [] for name in VARIANTS}
    for turn in range(rounds):
        for number, (name, options) in enumerate(VARIANTS.items()):
            out = f"{number}-{turn}"
            starts[name].append(packing(tiny_folder, f"{folder.name}-{out}", *options))
            floors[name].append(sum(decoding(clip) for clip in clips))
            whole[name].append(packing(folder, out, *options))
    print(
        "| | start: CPU s | decoding: CPU s | ks-shard beyond its start: CPU s | over decoding: median | least | most |"
    )
    print("|---|---|---|---|---|---|---|")
    for name in VARIANTS:
        start, floor = statistics.median(starts[name]), statistics.median(floors[name])
        took = [each - start for each in whole[name]]
        ratios = sorted(each / base for each, base in zip(took, floors[name], strict=True))
        middle = statistics.median(ratios)
        print(f"| {name} | {start:.1f} | {floor:.1f} | {statistics.median(took):.1f} | ", end="")
        print(f"**{middle:.2f}** | {ratios[0]:.2f} | {ratios[-1]:.2f} |")
    print()


def decoding(clip: Path) -> float:
    """CPU seconds of ffmpeg alone."""
    wanted = ["-map", "0:v:0", "-map", "0:a:0", "-f", "null", "-"]
    return cpu_seconds(["-threads", "1", "-i", str(clip), *wanted])


def cpu_seconds(arguments: list[str]) -> float:
    """Of ffmpeg with these arguments."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([ffmpeg.executable(), "-nostdin", "-v", "error", *arguments], check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def packing(folder: Path, out: str, *options: str) -> float:
    """CPU seconds of ks-shard with all its processes, for a set that is not there yet."""
    where = ["--manifest", folder / "out/manifest.parquet", "--out", folder / out]
    return run("shard", *where, "--workers", 1, *options).cpu


def contents(folder: Path, clips: list[Path]) -> None:
    """Print bytes and fidelity a clip."""
    sizes = {
        f"{part} ({name})" if part in (layout.FRAMES, layout.JPEGS) else part: column
        for number, name in enumerate(VARIANTS)
        for part, column in part_sizes(folder / f"{number}-0").items()
    }
    exact = stream.open_split(folder / "0-0", "val")
    of_key = {clip.stem: clip for clip in clips}
    of_fast, of_codec = [], []
    for number in range(len(exact)):
        with stream.sample(exact, number) as sample:
            stored = folder / "stored.mp4"
            stored.write_bytes(sample.part(layout.FRAMES))
        small = probe.probe(stored).video
        if small:
            source = of_key[exact.key(number)]
            of_fast.append(psnr(source, source, small, fast=True))
            of_codec.append(psnr(source, stored, small))
    print("| a clip | median | least | most |\n|---|---|---|---|")
    for part, each in sizes.items():
        print(f"| {part}, kB | {np.median(each) / 1e3:.1f} | {each.min() / 1e3:.1f} | {each.max() / 1e3:.1f} |")
    for title, values in (
        ("frames of --fast_decode to exact ones before encoding, PSNR dB", of_fast),
        ("stored frames to scaled ones before encoding, PSNR dB", of_codec),
    ):
        finite = [value for value in values if value < float("inf")]
        alike = f" ({len(values) - len(finite)} alike)" if len(finite) < len(values) else ""
        print(f"| {title}{alike} | {statistics.median(finite):.1f} | {min(finite):.1f} | {max(finite):.1f} |")
    print()


def part_sizes(folder: Path) -> dict[str, np.ndarray]:
    """Bytes of each part of each sample."""
    split = stream.open_split(folder, "val")
    return {part: split.size_NP[:, column] for column, part in enumerate(split.dataset.parts)}


def psnr(source: Path, other: Path, small: probe.Video, *, fast: bool = False) -> float:
    """Of the other's frames to the source's, both at the stored size and rate, all planes."""
    scale = f"fps={small.fps}:start_time=0,scale={small.width}:{small.height}:flags={encode.AREA_SCALE},setsar=1,format=yuv420p"
    skip = ["-skip_loop_filter", "all"] if fast else []
    graph = f"[0:v]{scale}[a];[1:v]{scale}[b];[a][b]psnr=shortest=1"
    inputs = ["-i", str(source), *skip, "-i", str(other)]
    argv = [ffmpeg.executable(), "-nostdin", "-hide_banner", "-nostats", *inputs, "-lavfi", graph, "-f", "null", "-"]
    said = subprocess.run(argv, check=True, capture_output=True, text=True).stderr
    told = re.search(r"PSNR .*average:(\S+)", said)
    return float(told[1]) if told else float("nan")


if __name__ == "__main__":
    main()
