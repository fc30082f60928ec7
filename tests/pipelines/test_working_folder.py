"""Files that lie where a command is run are never imported, by whatever process."""

import contextlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from kinetics_sounds.pipelines import executors
from kinetics_sounds.pipelines.checks import Asked, Verdict, apart, machine
from kinetics_sounds.pipelines.executors import slurm

SHADOWS = ("csv", "pickle", "random", "select", "selectors", "socket", "struct", "tempfile", "threading", "zipfile")
COMMAND = """
from kinetics_sounds import command

def run():
    {body}
    return 0

if __name__ == "__main__":
    raise SystemExit(command.command("ks", run))
"""
POOL = """
    from kinetics_sounds.pipelines.process_pool import SupervisedPool
    pool = SupervisedPool(abs, workers=1)
    pool.submit(-1, timeout_seconds=20)
    assert pool.finished(20) == [(-1, 1)]
    pool.close()
"""
WORKER = """
    from kinetics_sounds.train.data.workers import start_method
    process = start_method("colorsys").Process(target=abs, args=(-1,))
    process.start()
    process.join(20)
    assert process.exitcode == 0
"""
COUNTED = """
    import multiprocessing
    multiprocessing.get_context("spawn").Semaphore()
"""
CHILD = """
    import subprocess, sys
    subprocess.run([sys.executable, "-c", "import csv"], check=True)
"""


@pytest.fixture
def shadowed(tmp_path: Path) -> Path:
    """A folder with files that are called like modules and tell when they are imported."""
    for name in SHADOWS:
        telling = f'open({str(tmp_path / "IMPORTED")!r}, "a").write("{name} ")\nraise SystemExit("my own script")\n'
        (tmp_path / f"{name}.py").write_text(telling)
    return tmp_path


def imported(folder: Path) -> str:
    path = folder / "IMPORTED"
    return path.read_text() if path.exists() else ""


def python(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """As a command is run: its own folder is on the path, and the working folder is not."""
    env = {name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"}
    return subprocess.run([sys.executable, *words], cwd=folder, env=env, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("body", [POOL, WORKER, COUNTED, CHILD], ids=["pool", "fork server", "tracker", "child"])
def test_no_process_of_a_command_imports_them(
    body: str, shadowed: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    script = tmp_path_factory.mktemp("bin") / "ks.py"
    script.write_text(COMMAND.format(body=body.strip()))

    done = python(shadowed, str(script))

    assert imported(shadowed) == ""
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("body", [POOL, WORKER], ids=["pool", "fork server"])
def test_nor_do_workers_whose_machine_ran_no_command_before(
    body: str, shadowed: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    script = tmp_path_factory.mktemp("bin") / "node.py"
    script.write_text(f"if __name__ == '__main__':\n    {body.strip()}\n")

    done = python(shadowed, str(script))

    assert imported(shadowed) == ""
    assert done.returncode == 0, done.stderr


def test_no_check_of_the_doctor_imports_them(shadowed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(shadowed)
    monkeypatch.delenv("PYTHONSAFEPATH", raising=False)

    assert [found.verdict for found in apart(machine.clock, Asked())] == [Verdict.OK]
    assert imported(shadowed) == ""


def test_a_rank_of_torchrun_does_not_import_them(shadowed: Path) -> None:
    done = python(shadowed, "-m", "kinetics_sounds.plugins")  # so torchrun starts one: python -m

    assert imported(shadowed) == ""
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_no_job_imports_them(shadowed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(shadowed)
    monkeypatch.delenv("PYTHONSAFEPATH", raising=False)  # nor does every cluster hand the environment on
    options = slurm.Options(cluster="local", patience=slurm.LEAST_PATIENCE)
    with contextlib.closing(executors.start("slurm", eval, workers=1, folder=tmp_path, chosen=options)) as pool:
        command = pool._executor._executor._submitit_command_str
        pool.submit("__import__('sys').path", timeout_seconds=30)
        while not (found := pool.finished(10)):
            pass

    [(_, path)] = found
    assert not {"", str(shadowed)}.intersection(path)
    assert imported(shadowed) == ""
    assert " -P " in command
