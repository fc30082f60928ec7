"""The scripts of `examples/slurm`, submitted by the lines of docs/clusters.md to a real Slurm, with small sizes and data."""

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

from kinetics_sounds import manifest
from kinetics_sounds.train import pretrain

from ...pages import ROOT, commands, stood_in, unsaid
from ...train.conftest import COUNTS, LENGTHS, SMALL, film, write_set
from ..conftest import video
from .conftest import BIN, ONE_SLURM, Cluster, wait_for

pytestmark = [pytest.mark.slow, ONE_SLURM, pytest.mark.usefixtures("slurm_cluster")]
PAGE = "docs/clusters.md"
SMALLER = {
    "--gpus-per-node=8": "--gpus-per-node=1",
    "--ntasks-per-node=8": "--ntasks-per-node=1",
    "--cpus-per-task=8": "--cpus-per-task=1",
    "--cpus-per-task=32": "--cpus-per-task=1",
    "--nodes=4": "--nodes=2",
}
PAUSE = 0.5
"""Seconds between two questions to Slurm, each of which is a process."""
STEPS = 40
FEW = (*SMALL[1:], f"--steps={STEPS}", "--save_every=5")
"""Options of a small run, without its recipe."""


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment of a job, which is the submitter's: our commands are on the PATH."""
    monkeypatch.setenv("PATH", f"{BIN}{os.pathsep}{os.environ['PATH']}")


def ask(*words: object) -> str:
    return subprocess.run(list(map(str, words)), check=True, capture_output=True, text=True, cwd=ROOT).stdout.strip()


def places(folder: Path) -> dict[str, str]:
    """By the page's names: this folder in place of the shared one, and a class list of a single label."""
    kept = {f"/shared/{name}": f"{folder}/{name}" for name in ("k100", "runs/avcl_k100")}
    return {"/shared": str(folder), **kept, "k100": f"{folder}/classes.txt"}


def submit(script: str, folder: Path, table: dict[str, str], *more: str, options: tuple[str, ...] = ()) -> str:
    """The job of the page's only line with this script."""
    [line] = [each.words for each in commands(PAGE) if f"examples/slurm/{script}" in each.words]
    words = stood_in(line[1:], {**places(folder), **SMALLER, **table})
    return ask("sbatch", "--parsable", f"--chdir={folder}", *options, *words, *more)


def state(job: str) -> str:
    return ask("squeue", "--noheader", "--states=all", "--format=%T", f"--job={job}")


def start_again(job: str, times: int) -> None:
    """See a job requeued for the so manieth time, without the two minutes that Slurm lets it wait."""

    def runs() -> bool:
        subprocess.run(["scontrol", "update", f"JobId={job}", "StartTime=now"], check=False, capture_output=True)
        shown = ask("scontrol", "show", "job", job)
        return "JobState=RUNNING" in shown and f"Restarts={times} " in shown

    assert wait_for(runs, pause=PAUSE), ask("scontrol", "show", "job", job)


def last_step(run: Path) -> int:
    return max((int(path.name[5:]) for path in run.glob("checkpoints/step-????????")), default=0)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What every node sees: shards to train on, and in `alone` a run of one process that nobody disturbed."""
    folder = tmp_path_factory.mktemp("shared")
    films = {number: film(number, LENGTHS[number % len(LENGTHS)], folder) for number in range(2 * len(LENGTHS))}
    write_set(folder / "k100/shards", COUNTS, films, classes="tiny")
    assert pretrain.main([SMALL[0], *FEW, f"--shards={folder}/k100/shards", f"--out={folder}/alone"]) == 0
    return folder


def losses(run: Path) -> dict[int, float]:
    """By step; each step is there once."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    found = {line["step"]: line["loss"] for line in lines}
    assert len(found) == len(lines)
    return found


def trains(folder: Path, name: str, *, nodes: int) -> tuple[str, Path, Path]:
    """The page's training as a job that has saved once: the job, its run and its log."""
    run, smaller = folder / f"runs/{name}", {"avcl_k100_recommended": "avcl_tiny", "--nodes=2": f"--nodes={nodes}"}
    table = {"/shared/runs/avcl_k100": str(run), **smaller}
    job = submit("train.sbatch", folder, table, *FEW, options=("--partition=both",))
    log = folder / f"ks-train-{job}.log"
    assert wait_for(lambda: last_step(run) >= 5, seconds=90), log.read_text()
    return job, run, log


def told(log: Path) -> list[str]:
    return re.findall(r"(?m)^(stopped by \w+|resumed|trained: \d+ steps)", log.read_text())


def test_a_training_that_is_requeued_learns_what_it_would_have_learnt(shared: Path) -> None:
    job, run, log = trains(shared, "one", nodes=1)
    ask("scontrol", "requeue", job)
    start_again(job, 1)

    assert wait_for(lambda: state(job) == "COMPLETED", seconds=90, pause=PAUSE), state(job)
    assert told(log) == ["stopped by SIGTERM", "resumed", f"trained: {STEPS} steps"]
    assert losses(run) == losses(shared / "alone")


@pytest.mark.slow_campaign
def test_a_training_on_two_nodes_saves_when_its_time_is_nearly_over_and_is_queued_again(shared: Path) -> None:
    """The signal is the one that the script asks Slurm for."""
    job, run, log = trains(shared, "two", nodes=2)
    ask("scancel", "--signal=USR1", job)

    assert wait_for(lambda: state(job) == "PENDING", pause=PAUSE), log.read_text()
    ask("scancel", job)
    assert told(log) == ["stopped by SIGUSR1"]
    said = (
        log.read_text().replace(str(run), "/shared/runs/avcl_k100").replace("sees", "node1").replace("blind", "node2")
    )
    assert unsaid(PAGE, said) == []
    ours, alone = losses(run), losses(shared / "alone")
    assert max(ours) == last_step(run) < STEPS
    assert [ours[step] for step in (1, 2, 3)] == pytest.approx([alone[step] for step in (1, 2, 3)], rel=1e-3)


def clips(folder: Path) -> tuple[str, ...]:
    """Options of ks-build for two clips below `folder / "kinetics400"`."""
    (folder / "classes.txt").write_text("archery\n")
    rows = ["label,youtube_id,time_start,time_end,split"]
    for number in range(2):
        rows.append(f"archery,clip{number:07d},7,9,train")
        video(folder / f"kinetics400/clip{number:07d}_000007_000009.mp4", seconds=2, seed=number)
    (folder / "list.csv").write_text("\n".join([*rows, ""]))
    return ("--annotations", str(folder / "list.csv"))


def built(folder: Path) -> list[str]:
    return [str(each.status) for each in manifest.read(folder / "k100/manifest.parquet").outcomes]


def test_a_build_in_a_job_submits_an_array_that_does_not_inherit_its_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then the page's other lines for Slurm, as from a login node: the build is complete, its clips are packed."""
    for name in ("SLURM_MEM_PER_CPU", "SLURM_MEM_PER_NODE"):  # of two jobs, and srun refuses to choose
        monkeypatch.setenv(name, "1")
    small, more = {"cpu": "seeing", "64": "1"}, ("--slurm.memory_gb", "0")
    of_build = (*more, *clips(tmp_path))
    job = submit("build.sbatch", tmp_path, small, *of_build)
    assert wait_for(lambda: state(job) == "COMPLETED", seconds=60, pause=PAUSE), (
        tmp_path / f"ks-build-{job}.log"
    ).read_text()
    assert built(tmp_path) == ["ok", "ok"]

    monkeypatch.undo()
    monkeypatch.setenv("PATH", f"{BIN}{os.pathsep}{os.environ['PATH']}")
    lines = [each.words for each in commands(PAGE) if each.name.startswith("ks-") and "slurm" in each.words]
    assert [line[0] for line in lines] == ["ks-build", "ks-shard"]
    for line in lines:
        words = stood_in(line, {**places(tmp_path), **small})
        ask(*words, *(of_build if line[0] == "ks-build" else more))
    assert json.loads((tmp_path / "k100/shards/dataset.json").read_text())["splits"]["train"]["samples"] == 2


SAVES = 'trap "sleep 0.5; exit 3" TERM; mkdir began || mkdir again; sleep 30 & wait'


def test_a_driver_that_saved_is_queued_again_and_a_cancelled_one_is_not(tmp_path: Path) -> None:
    job = ask("sbatch", "--parsable", f"--chdir={tmp_path}", "examples/slurm/build.sbatch", "bash", "-c", SAVES)
    assert wait_for((tmp_path / "began").exists)
    ask("scancel", "--signal=TERM", "--batch", job)
    start_again(job, 1)
    assert wait_for((tmp_path / "again").exists)
    ask("scancel", job)

    assert wait_for(lambda: "COMPLETING" not in state(job), pause=PAUSE)
    assert state(job) == "CANCELLED"


@pytest.mark.slow_campaign
def test_a_ray_within_a_job_has_all_its_nodes(tmp_path: Path) -> None:
    more = clips(tmp_path)
    job = submit("ray.sbatch", tmp_path, {"128": "2"}, *more, options=("--partition=both",))

    assert wait_for(lambda: state(job) == "COMPLETED", seconds=90, pause=PAUSE), (
        tmp_path / f"ks-ray-{job}.log"
    ).read_text()
    assert built(tmp_path) == ["ok", "ok"]
    assert (tmp_path / f"ks-ray-{job}.ray-0.log").read_text().count("Ray runtime started") == 2


@pytest.mark.slow_campaign
def test_the_lines_for_a_ray_that_runs(ray_cluster: Cluster, tmp_path: Path) -> None:
    more = clips(tmp_path)
    table = {**places(tmp_path), "HEAD:6379": ray_cluster.options.address, "64": "1"}
    lines = [each.words for each in commands(PAGE) if each.name.startswith("ks-") and "ray" in each.words]
    assert [line[0] for line in lines] == ["ks-build", "ks-shard"]
    for line in lines:
        ask(*stood_in(line, table), *(more if line[0] == "ks-build" else ()))

    assert json.loads((tmp_path / "k100/shards/dataset.json").read_text())["splits"]["train"]["samples"] == 2
