"""How fast clips come out of shards, over the bare decoders' loops and over a plain webdataset + decord pipeline.

Everything on one core, in one run, each measured in turn and five times over; the tables give medians and their ratios. A
clip is 16 frames of its own sample at a random start (or at the start of a group of pictures), with the mel-spectrogram.

    python benchmarks/stream_speed.py --videos FOLDER [--clips 60] [--seconds 4]
"""

import argparse
import io
import itertools
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from kinetics_sounds import sampling, stream
from kinetics_sounds.errors import MediaError
from kinetics_sounds.media import probe
from kinetics_sounds.shards import layout
from kinetics_sounds.train.data import fetcher, loader, sampler
from kinetics_sounds.train.data.bad_samples import BadSampleLog
from kinetics_sounds.train.data.views import clip_and_mel

FRAMES = 16
BATCH = 16
RUNS = 5
FOREVER = 10**9
Start = Literal["random", "gop"]


def main() -> None:
    """Make the sets, measure, print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=Path, required=True, help="Folder of videos, at any depth.")
    parser.add_argument("--clips", type=int, default=60)
    parser.add_argument("--seconds", type=float, default=4.0, help="Of each of the five measurements of a row.")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        names = make_sets(Path(name), chosen.videos, chosen.clips)
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # what is started from here on inherits it
        torch.set_num_threads(1)
        print(
            f"{datetime.now(UTC):%Y-%m-%d}, {platform.machine()}, one core, Python {platform.python_version()}, ",
            end="",
        )
        print(f"torch {torch.__version__}; {len(names)} clips: {', '.join(names)}\n")
        h264, jpeg = (stream.open_split(Path(name) / codec, "val") for codec in ("h264", "jpeg"))
        for start in ("random", "gop"):
            rows = {
                "bare torchcodec loop": bare_torchcodec(h264, start),
                "stream": of_stream(h264, start),
                "loader, one worker, view of the paper": of_loader(h264, start),
                "plain webdataset + decord": plain_webdataset(h264, start),
                "the same in a DataLoader, one worker, view of the paper": plain_dataloader(h264, start),
            }
            if start == "gop":
                rows["the same at random starts"] = plain_dataloader(h264, "random")
            table(f"H.264, {start} starts", measured(rows, chosen.seconds))
        rows = {
            "bare simplejpeg loop": bare_simplejpeg(jpeg),
            "stream": of_stream(jpeg, "random"),
            "loader, one worker, view of the paper": of_loader(jpeg, "random"),
        }
        table("JPEG, random starts", measured(rows, chosen.seconds))


def make_sets(folder: Path, videos: Path, clips: int) -> list[str]:
    """Build the clips of a folder and pack them twice; returns the names of the clips that are packed."""
    (folder / "videos").mkdir()
    rows = ["label,youtube_id,time_start,time_end,split"]
    names: dict[str, str] = {}
    for path in sorted(path for path in videos.rglob("*") if path.suffix in (".mp4", ".webm", ".mkv", ".avi", ".mov")):
        try:
            found = probe.probe(path)
        except MediaError:
            continue
        length = min(10, int(found.seconds or 0))
        if found.video and found.audio and length >= 4 and len(names) < clips:
            made = f"made-up-{len(names):03d}"
            names[made] = f"{path.parent.name}/{path.stem}"
            (folder / "videos" / f"{made}{path.suffix}").symlink_to(path.absolute())
            rows.append(f"something,{made},0,{length},val")
    (folder / "list.csv").write_text("\n".join(rows) + "\n")
    (folder / "classes.txt").write_text("something\n")
    lists = ["--classes", folder / "classes.txt", "--annotations", folder / "list.csv", "--splits", "val"]
    source = ["--source", f"local:{folder / 'videos'}", "--min_coverage", "0.5"]
    command("build", *lists, *source, "--out", folder / "out")
    for codec in ("h264", "jpeg"):
        command("shard", "--manifest", folder / "out" / "manifest.parquet", "--codec", codec, "--out", folder / codec)
    split = stream.open_split(folder / "h264", "val")
    return sorted(names[split.key(number)[: len("made-up-000")]] for number in range(len(split)))


def command(module: str, *arguments: object) -> None:
    """Run one of our commands, quietly."""
    argv = [sys.executable, "-m", f"kinetics_sounds.pipelines.{module}", *map(str, arguments)]
    done = subprocess.run(argv, check=False, capture_output=True, text=True)
    if done.returncode not in (0, 1):
        raise SystemExit(f"{module} ended with {done.returncode}: {done.stderr}")


def measured(rows: dict[str, Iterator[int]], seconds: float) -> dict[str, list[float]]:
    """Clips a second of each row, five times over, in turn; every `next` of a row gives how many clips it took."""
    found: dict[str, list[float]] = {name: [] for name in rows}
    for run in range(RUNS + 1):  # the first is a warm-up
        for name, clips in rows.items():
            began, done = time.perf_counter(), 0
            while time.perf_counter() - began < (seconds if run else 1.0):
                done += next(clips)
            if run:
                found[name].append(done / (time.perf_counter() - began))
    return found


def table(title: str, found: dict[str, list[float]]) -> None:
    """Medians, and their ratios to the first row and to the others of another kind."""
    floor = statistics.median(next(iter(found.values())))
    print(f"## {title}\n\n| | clips/s, median | least | most | over the first row |\n|---|---|---|---|---|")
    for name, speeds in found.items():
        middle = statistics.median(speeds)
        print(f"| {name} | {middle:.0f} | {min(speeds):.0f} | {max(speeds):.0f} | **{middle / floor:.2f}** |")
    print()


def starts(split: stream.Split, start: Start) -> Iterator[tuple[int, list[int], np.random.Generator]]:
    """Sample after sample, for ever: its number, and the frames of a clip."""
    generator = np.random.default_rng(0)
    lengths = []
    for number in range(len(split)):
        with stream.sample(split, number) as sample:
            lengths.append(sample.meta.num_frames)
    while True:
        for number in generator.permutation(len(split)):
            length = lengths[number]
            yield int(number), taken(length, start, generator), generator


def taken(length: int, start: Start, generator: np.random.Generator) -> list[int]:
    """The frames of a clip at a start of either kind."""
    draw = sampling.gop_aligned_start if start == "gop" else sampling.random_start
    return sampling.frame_indices(draw(length, FRAMES, generator), FRAMES, length=length)


def bare_torchcodec(split: stream.Split, start: Start) -> Iterator[int]:
    """The decoder over bytes in memory, and nothing else."""
    from torchcodec.decoders import VideoDecoder

    films = [_part(split, number, layout.FRAMES) for number in range(len(split))]
    for number, numbers, _ in starts(split, start):
        decoder = VideoDecoder(films[number], dimension_order="NHWC", num_ffmpeg_threads=1, seek_mode="approximate")
        decoder.get_frames_at(numbers)
        yield 1


def bare_simplejpeg(split: stream.Split) -> Iterator[int]:
    """The decoder over bytes in memory, and nothing else."""
    import simplejpeg

    films = []
    for number in range(len(split)):
        sizes = json.loads(_part(split, number, layout.META))["frame_bytes"]
        data = io.BytesIO(_part(split, number, layout.JPEGS))
        films.append([data.read(size) for size in sizes])
    for number, numbers, _ in starts(split, "random"):
        for each in numbers:
            simplejpeg.decode_jpeg(films[number][each])
        yield 1


def _part(split: stream.Split, number: int, name: str) -> bytes:
    with stream.sample(split, number) as sample:
        return sample.part(name)


def of_stream(split: stream.Split, start: Start) -> Iterator[int]:
    """Ours, in one process: read from the tar, checked, decoded, with the mel-spectrogram."""
    for number, _, generator in starts(split, start):
        with stream.sample(split, number) as sample:
            sample.frames(taken(sample.meta.num_frames, start, generator))
            sample.mel()
        yield 1


def of_loader(split: stream.Split, start: Start) -> Iterator[int]:
    """Ours as the trainer uses it: another process on the same core, resized, cropped, in batches of 16."""
    settings = clip_and_mel.Settings(start=start)
    samples = fetcher.Samples(split=split, view=clip_and_mel.__name__, settings=settings)
    order = sampler.Order(split=split, batch=BATCH, seed=0, first_step=0, steps=FOREVER)
    bad_log = BadSampleLog(None, split, max_bad_fraction=0.0)
    with loader.train_batches(samples, order, loading=loader.Loading(workers=1), bad_log=bad_log) as batches:
        for _ in batches:
            yield BATCH


def plain_webdataset(split: stream.Split, start: Start) -> Iterator[int]:
    """What anybody would write, in one process."""
    for _ in plain(split, start):
        yield 1


def plain_dataloader(split: stream.Split, start: Start) -> Iterator[int]:
    """The same in torch's DataLoader, resized and cropped as the paper has it."""
    from torch.nn import functional as F
    from torch.utils.data import DataLoader, IterableDataset

    def view(frames_THWC: np.ndarray, mel_FT: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        clip_TCHW = torch.from_numpy(frames_THWC).permute(0, 3, 1, 2)
        clip_TCHW = F.interpolate(clip_TCHW, size=(128, 171), mode="bilinear", antialias=True)
        mel_11FT = torch.from_numpy(mel_FT.astype(np.float32))[None, None]
        mel_11FT = F.interpolate(mel_11FT, size=(128, 128), mode="bilinear", antialias=True)
        return clip_TCHW[:, :, 8:120, 8:120].contiguous(), mel_11FT[0, 0, 8:120, 8:120]

    class Plain(IterableDataset[Any]):
        def __iter__(self) -> Iterator[Any]:
            torch.set_num_threads(1)
            return (view(*sample) for sample in plain(split, start))

    for _ in DataLoader(Plain(), batch_size=BATCH, num_workers=1, multiprocessing_context="fork"):
        yield BATCH


def plain(split: stream.Split, start: Start) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Samples of the tars from end to end, over and over, each to frames and mel-spectrogram as they are stored."""
    import decord
    import webdataset

    generator = np.random.default_rng(0)

    def decode(parts: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
        reader = decord.VideoReader(io.BytesIO(parts["mp4"]), num_threads=1)
        frames_THWC = reader.get_batch(taken(len(reader), start, generator)).asnumpy()
        return frames_THWC, np.load(io.BytesIO(parts["mel.npy"]))

    urls = [tar.place for tar in split.tars]
    for _ in itertools.count():
        yield from webdataset.WebDataset(urls, shardshuffle=False, empty_check=False).map(decode)


if __name__ == "__main__":
    main()
