"""How opening a set and reading it grow with the set's size and the number of workers; prints tables, draws a plot.

Sets of any size are made of real indexes beside empty (sparse) tars: opening reads no sample. Workers read real clips.

    python benchmarks/stream_scale.py --videos FOLDER [--plot benchmarks/stream_scale.svg] [--largest 1000000]
"""

import argparse
import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from stream_speed import BATCH, FOREVER, make_sets

from kinetics_sounds import stream
from kinetics_sounds.shards import index, layout
from kinetics_sounds.shards.index import Dataset, Index, SplitFacts
from kinetics_sounds.train.data import fetcher, loader, sampler
from kinetics_sounds.train.data.bad_samples import BadSampleLog
from kinetics_sounds.train.data.views import clip_and_mel

PER_SHARD = 250
"""Samples of a shard of 256 MB."""
PARTS = (layout.AUDIO, layout.META, layout.MEL, layout.FRAMES)
RUNS = 5
OPEN = """
import json, re, sys, time
from pathlib import Path
from kinetics_sounds import stream
def peak(): return 1024 * int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
before, began = peak(), time.perf_counter()
split = stream.open_split(sys.argv[1], "train")
opened = time.perf_counter() - began
began = time.perf_counter()
stream.order(split.count_S, seed=0, epoch=0)
print(json.dumps({"seconds": opened, "order": time.perf_counter() - began, "bytes": peak() - before, "samples": len(split)}))
"""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=Path, required=True, help="Folder of videos, at any depth.")
    parser.add_argument("--plot", type=Path, default=Path("benchmarks/stream_scale.svg"))
    parser.add_argument("--largest", type=int, default=1_000_000)
    parser.add_argument("--clips", type=int, default=60)
    chosen = parser.parse_args()
    print(f"{datetime.now(UTC):%Y-%m-%d}, {platform.machine()}, Python {platform.python_version()}\n")
    sizes = [size for size in (1_000, 10_000, 100_000, 1_000_000) if size <= chosen.largest]
    opened = []
    print("| samples | shards | opened in s | peak memory it added, MB | an epoch's order, s |\n|---|---|---|---|---|")
    for size in sizes:
        with tempfile.TemporaryDirectory() as name:
            make(Path(name), size)
            found = [open_once(Path(name)) for _ in range(RUNS)]
        middle = {what: statistics.median(each[what] for each in found) for what in found[0]}
        opened.append(middle)
        told = f"{middle['seconds']:.2f} | {middle['bytes'] / 1e6:.0f} | {middle['order']:.3f}"
        print(f"| {size:,} | {-(-size // PER_SHARD):,} | {told} |")
    print("\n| workers | clips/s, median of five | over one worker |\n|---|---|---|")
    counts = [0, 1, 2, 3, 4]
    with tempfile.TemporaryDirectory() as name:
        make_sets(Path(name), chosen.videos, chosen.clips)
        speeds = [with_workers(stream.open_split(Path(name) / "h264", "val"), count) for count in counts]
    for count, speed in zip(counts, speeds, strict=True):
        print(f"| {count} | {speed:.0f} | {speed / speeds[1]:.2f} |")
    draw(chosen.plot, sizes, opened, counts, speeds)


def make(folder: Path, samples: int) -> None:
    """A set of so many samples whose tars hold nothing."""
    random = np.random.default_rng(0)
    shards = -(-samples // PER_SHARD)
    for shard in range(shards):
        count = min(PER_SHARD, samples - shard * PER_SHARD)
        size_NP = random.integers([250_000, 500, 131_200, 150_000], [350_000, 600, 131_201, 400_000], (count, 4))
        padded_NP = -(-size_NP // 512) * 512 + 512
        offset_NP = (np.cumsum(padded_NP) - padded_NP.ravel() + 512).reshape(count, 4)
        tar = layout.tar_path(folder, "train", shard)
        tar.parent.mkdir(parents=True, exist_ok=True)
        total = int(padded_NP.sum()) + 1024
        with tar.open("wb") as out:
            out.truncate(total)
        keys = [f"{random.bytes(6).hex()[:11]}_{first:06d}_{first + 10:06d}" for first in range(count)]
        keys = [f"{shard:05d}{key[5:]}" for key in keys]
        made = Index(
            recipe="",
            bytes=total,
            sha256="0" * 64,
            parts=PARTS,
            keys=tuple(keys),
            label_indices=tuple(random.integers(0, 100, count).tolist()),
            offsets=tuple(map(tuple, offset_NP.tolist())),
            sizes=tuple(map(tuple, size_NP.tolist())),
            crcs=tuple(map(tuple, random.integers(0, 2**32, (count, 4)).tolist())),
        )
        index.write(layout.index_path(tar), made)
    facts = SplitFacts(shards=shards, samples=samples, bytes=0, left=0, fingerprint="")
    dataset = Dataset(
        recipe="",
        fingerprint="",
        classes="made up",
        note="",
        labels=tuple(map(str, range(100))),
        parts=PARTS,
        splits={"train": facts},
        frames={},
        mel={},
        audio={},
        shuffle_seed=0,
        shard_bytes=256_000_000,
        versions={},
    )
    index.write(folder / layout.DATASET, dataset)


def open_once(folder: Path) -> dict[str, float]:
    """In a process of its own, imports apart."""
    done = subprocess.run([sys.executable, "-c", OPEN, str(folder)], check=True, capture_output=True, text=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def with_workers(split: stream.Split, workers: int, *, seconds: float = 4.0) -> float:
    """Clips a second of the loader with AVCL's view."""
    samples = fetcher.Samples(split=split, view=clip_and_mel.__name__, settings=clip_and_mel.Settings())
    batch = min(BATCH, len(split))
    order = sampler.Order(split=split, batch=batch, seed=0, first_step=0, steps=FOREVER)
    bad_log = BadSampleLog(None, split, max_bad_fraction=0.0)
    speeds = []
    with loader.train_batches(
        samples, order, loading=loader.Loading(workers=workers, prefetch_batches=2 + 2 * workers), bad_log=bad_log
    ) as batches:
        for _ in range(RUNS + 1):
            began, done = time.perf_counter(), 0
            while time.perf_counter() - began < seconds:
                next(batches)
                done += batch
            speeds.append(done / (time.perf_counter() - began))
    return statistics.median(speeds[1:])  # the first is a warm-up


def draw(path: Path, sizes: list[int], opened: list[dict[str, float]], counts: list[int], speeds: list[float]) -> None:
    """Three small pictures side by side."""
    import matplotlib as mpl

    mpl.use("svg")
    from matplotlib import pyplot as plt

    figure, (time_, memory, workers) = plt.subplots(1, 3, figsize=(11, 3.2), layout="constrained")
    time_.loglog(sizes, [each["seconds"] for each in opened], "o-")
    time_.set(title="opening a set", xlabel="samples", ylabel="s")
    memory.loglog(sizes, [each["bytes"] / 1e6 for each in opened], "o-")
    memory.set(title="peak memory it adds", xlabel="samples", ylabel="MB")
    workers.plot(counts, speeds, "o-")
    workers.set(title="clips from the loader, 2 cores", xlabel="workers", ylabel="clips/s", ylim=(0, None))
    figure.savefig(path, metadata={"Date": None})


if __name__ == "__main__":
    main()
