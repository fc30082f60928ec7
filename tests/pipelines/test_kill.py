"""SIGKILL at random moments: what comes out in the end is what would have come out at once."""

import contextlib
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kinetics_sounds import files, manifest
from kinetics_sounds.pipelines import build, shard

if TYPE_CHECKING:
    from collections.abc import Callable

    from .conftest import Folder

from .conftest import inline
from .test_build import arguments
from .test_shard import tars

KILLS = pytest.mark.parametrize("kills", [2, pytest.param(6, marks=pytest.mark.slow_campaign)])


def run_killed(module: str, argv: list[str], *, kills: int, longest_seconds: float) -> int:
    """Start a command, SIGKILL it after a random while, `kills` times; then let it end. Returns its exit code."""
    lots = random.Random(f"{module}{kills}")
    command = [sys.executable, "-m", f"kinetics_sounds.pipelines.{module}", *argv]
    for _ in range(kills):
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            time.sleep(lots.uniform(0.8, longest_seconds))
            process.send_signal(signal.SIGKILL)
    return subprocess.run(command, check=False, capture_output=True, timeout=120).returncode


@pytest.fixture(scope="module")
def undisturbed(folder: "Folder", tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("undisturbed") / "out"
    with pytest.MonkeyPatch.context() as patch:
        inline(patch)
        build.main(arguments(folder, out))
        small = ["--short_side", "32", "--shard_bytes", "200000"]
        assert shard.main(["--manifest", str(out / "manifest.parquet"), *small]) == 0
    return out


@pytest.mark.slow
@KILLS
def test_a_build_killed_again_and_again_ends_with_the_same_manifest(
    kills: int, folder: "Folder", undisturbed: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"

    code = run_killed("build", arguments(folder, out), kills=kills, longest_seconds=4.0)

    assert code == 1
    assert manifest.read(out / "manifest.parquet") == manifest.read(undisturbed / "manifest.parquet")
    clips = {path.relative_to(out): path.read_bytes() for path in out.rglob("*.mp4")}
    assert clips == {path.relative_to(undisturbed): path.read_bytes() for path in undisturbed.rglob("*.mp4")}
    assert not (out / files.SCRATCH).exists()


@pytest.mark.slow
@KILLS
def test_a_packing_killed_again_and_again_ends_with_the_same_bytes(
    kills: int, undisturbed: Path, tmp_path: Path
) -> None:
    out = tmp_path / "shards"
    argv = ["--manifest", str(undisturbed / "manifest.parquet"), "--short_side", "32", "--shard_bytes", "200000"]

    code = run_killed("shard", [*argv, "--out", str(out), "--workers", "1"], kills=kills, longest_seconds=5.0)

    assert code == 0
    assert tars(out) == tars(undisturbed / "shards")
    assert (out / "dataset.json").read_bytes() == (undisturbed / "shards/dataset.json").read_bytes()
    assert not [path for path in out.rglob("*") if path.name.endswith(".part") or path.name == files.SCRATCH]


@pytest.mark.slow
def test_a_build_asked_to_stop_says_so_and_goes_on_later(folder: "Folder", undisturbed: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = [sys.executable, "-m", "kinetics_sounds.pipelines.build", *arguments(folder, out)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while not (out / "ledger.sqlite").exists():
            time.sleep(0.05)
        time.sleep(0.3)
        process.send_signal(signal.SIGTERM)
        code = process.wait(timeout=60)

    rows = manifest.read(out / "manifest.parquet").outcomes
    assert code == 3
    assert len(rows) == len(folder.expected)
    assert subprocess.run(command, check=False, capture_output=True).returncode == 1
    assert manifest.read(out / "manifest.parquet") == manifest.read(undisturbed / "manifest.parquet")


def kill_when(module: str, argv: list[str], reached: "Callable[[], bool]") -> None:
    """Start a command and SIGKILL it as soon as `reached()` is true."""
    command = [sys.executable, "-m", f"kinetics_sounds.pipelines.{module}", *argv]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while not reached():
            assert process.poll() is None
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)


@pytest.mark.slow_campaign
@pytest.mark.slow
def test_a_check_of_bytes_that_is_killed_does_no_harm(folder: "Folder", undisturbed: Path, tmp_path: Path) -> None:
    """The build as it has found what differs, the packing as it makes it anew; the next run ends whole."""
    out = tmp_path / "out"
    shutil.copytree(undisturbed, out, symlinks=True)
    clip = next((out / "clips").rglob("whole_000002_000004.mp4"))
    tar = sorted((out / "shards/train").glob("*.tar"))[0]
    whole = {path: path.read_bytes() for path in (clip, tar)}
    for path, data in whole.items():
        path.write_bytes(data[:2000] + b"?" + data[2001:])
        assert path.read_bytes() != data

    def found() -> bool:
        with contextlib.closing(sqlite3.connect(out / "ledger.sqlite", timeout=60)) as ledger:
            return bool(ledger.execute("SELECT 1 FROM outcomes WHERE status = 'not_tried'").fetchall())

    kill_when("build", [*arguments(folder, out), "--check_bytes"], found)
    assert build.main(arguments(folder, out)) == 1
    assert clip.read_bytes() == whole[clip]
    assert manifest.read(out / "manifest.parquet") == manifest.read(undisturbed / "manifest.parquet")

    argv = ["--manifest", str(out / "manifest.parquet"), "--short_side", "32", "--shard_bytes", "200000"]
    kill_when("shard", [*argv, "--check_bytes"], lambda: any((out / "shards").rglob("*.part")))
    assert shard.main([*argv, "--check_bytes"]) == 0
    assert tars(out / "shards") == tars(undisturbed / "shards")
    for path in (undisturbed / "shards").rglob("*.json"):
        assert (out / path.relative_to(undisturbed)).read_bytes() == path.read_bytes()
