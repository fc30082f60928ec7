"""Kill parts of a build at random moments, run it again, and compare what comes out with what an undisturbed build gave.

Each trial is a build of its own: once, at a random moment, the driver, one of its workers or (Ray) a node of a cluster of
three is ended with SIGKILL. If the driver was killed the same command is run again. Then the manifest must be equal, every
clip's file must have the same bytes, and no file may be left over. A build that lost a worker must end so by itself.

    python benchmarks/kill_matrix.py [--trials 50] [--executor local|ray]
"""

import argparse
import contextlib
import os
import platform
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from kinetics_sounds import files, manifest
from kinetics_sounds.media import synthesize

VIDEOS = 12
"""Each with a clip that is cut out of it, and one that is as long as it is."""
NODES = 3


def main() -> None:
    """Run the trials and print what came of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=50)
    parser.add_argument("--executor", choices=["local", "ray"], default="local")
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    lot = random.Random(chosen.seed)
    print(f"{datetime.now(UTC):%Y-%m-%d}, {platform.machine()}, {os.cpu_count()} cores; --executor {chosen.executor}")
    victims: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder)
        true = folder / "undisturbed"
        began = time.monotonic()
        if subprocess.run(command(folder, true), check=False, capture_output=True).returncode != 1:
            raise SystemExit("the undisturbed build did not end with 1")
        longest = time.monotonic() - began
        for trial in range(chosen.trials):
            out = folder / f"trial-{trial}"
            if chosen.executor == "ray":
                victims[ray_trial(folder, out, lot, longest)] += 1
            else:
                victims[local_trial(folder, out, lot, longest)] += 1
            if wrong := differences(true, out):
                raise SystemExit(f"trial {trial}: {wrong}")
            print(".", end="", flush=True)
    print(f"\n{chosen.trials} trials, killed: {dict(victims)}; every manifest and every clip equal")


def prepare(folder: Path) -> None:
    """Small videos, good and bad, and a list of clips in them."""
    rows = ["label,youtube_id,time_start,time_end,split"]
    times = np.arange(24_000 * 6) / 24_000
    (folder / "videos").mkdir()
    for number in range(VIDEOS):
        still = np.random.default_rng(number).integers(0, 255, (96, 128, 3), dtype=np.uint8)
        frames = np.stack([np.roll(still, step, axis=1) for step in range(90)])
        wave = (0.3 * np.sin(2 * np.pi * (300 + 50 * number) * times)).astype(np.float32)
        synthesize.write_mp4(folder / f"videos/video-{number}.mp4", frames, wave, fps=15, sample_rate=24_000)
        rows += [f"humming,video-{number},{start},{start + 4},val" for start in (0, 2)]
    (folder / "videos/broken.mp4").write_bytes(bytes(4096))
    rows += ["humming,broken,0,4,val", "humming,video-0,30,34,val", "humming,absent,0,4,val"]
    (folder / "list.csv").write_text("\n".join(rows) + "\n")
    (folder / "classes.txt").write_text("humming\n")


def command(folder: Path, out: Path, *more: str) -> list[str]:
    """The build."""
    lists = ["--classes", str(folder / "classes.txt"), "--annotations", str(folder / "list.csv"), "--splits", "val"]
    where = ["--source", f"local:{folder / 'videos'}", "--out", str(out), "--workers", "2", "--retry_wait", "0.2"]
    return [sys.executable, "-m", "kinetics_sounds.pipelines.build", *lists, *where, *more]


def local_trial(folder: Path, out: Path, lot: random.Random, longest: float) -> str:
    """One build whose driver or one of whose processes is killed; who it was."""
    said = out.with_suffix(".log")
    with said.open("wb") as log, subprocess.Popen(command(folder, out), stdout=log, stderr=log) as driver:
        time.sleep(lot.uniform(0.3, longest))
        victim = "driver"
        if driver.poll() is not None:
            victim = "nobody (it was done)"
        elif (below := working(driver.pid)) and lot.random() < 0.5:
            chosen = lot.choice(sorted(below, key=lambda each: each.pid))
            victim = below[chosen]
            with contextlib.suppress(psutil.NoSuchProcess):
                chosen.kill()
        else:
            driver.send_signal(signal.SIGKILL)
        code = driver.wait()
    if victim == "driver":
        code = subprocess.run(command(folder, out), check=False, capture_output=True).returncode
    if code != 1 or not (out / "manifest.parquet").is_file():  # without a rerun, where only a worker was killed
        raise SystemExit(f"the build ended with {code} after {victim} was killed:\n{said.read_text()}")
    return victim


def working(driver: int) -> dict[psutil.Process, str]:
    """The driver's workers, and what they run."""
    found: dict[psutil.Process, str] = {}
    with contextlib.suppress(psutil.NoSuchProcess):
        for child in psutil.Process(driver).children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                words = " ".join(child.cmdline())
                if "ffmpeg" in words:
                    found[child] = "an ffmpeg"
                elif "spawn_main" in words:
                    found[child] = "a worker"
    return found


def ray_trial(folder: Path, out: Path, lot: random.Random, longest: float) -> str:
    """One build on a cluster of three nodes, one of which is killed under it."""
    with cluster() as nodes:
        argv = command(folder, out, "--executor", "ray", "--ray.address", nodes.address)
        said = out.with_suffix(".log")
        with said.open("wb") as log, subprocess.Popen(argv, stdout=log, stderr=log) as driver:
            time.sleep(lot.uniform(2.0, 4.0 + longest))
            done = driver.poll() is not None
            nodes.remove_node(lot.choice(nodes.workers), allow_graceful=False)
            if driver.wait(timeout=300) != 1:
                raise SystemExit(f"the build ended with {driver.returncode} after a node was lost:\n{said.read_text()}")
    return "nobody (it was done)" if done else "node"


@contextlib.contextmanager
def cluster() -> Iterator[Any]:
    """Three Ray nodes on this machine; the head has no work to do."""
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "object_store_memory": 80 << 20})
    try:
        made.workers = [made.add_node(num_cpus=1, object_store_memory=80 << 20) for _ in range(NODES - 1)]
        made.wait_for_nodes()
        yield made
    finally:
        made.shutdown()


def differences(true: Path, out: Path) -> str:
    """What is not as in the undisturbed build; empty where all is."""
    expected, found = (manifest.read(each / "manifest.parquet") for each in (true, out))
    if found != expected:
        rows = zip(expected.outcomes, found.outcomes, strict=True)
        return "the manifests differ: " + "; ".join(f"{one} is {other}" for one, other in rows if one != other)
    clips, others = (
        {path.relative_to(each): files.sha256(path) for path in (each / "clips").rglob("*") if path.is_file()}
        for each in (true, out)
    )
    if clips != others:
        return f"the clips differ: {sorted(set(clips.items()) ^ set(others.items()))}"
    left = [path for path in out.rglob("*") if path.name.endswith(files.PART) or path.name == files.SCRATCH]
    return f"left over: {left}" if left else ""


if __name__ == "__main__":
    main()
