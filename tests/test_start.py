"""Commands start at once: what is answered without torch imports none, and nobody waits for what is not used.

Modules are counted, for they are the same on a busy machine; seconds are held against those of `import torch` in the same run.
"""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from kinetics_sounds import __version__
from kinetics_sounds.extras import pip_install
from kinetics_sounds.pipelines import demo

SLOW = (
    "captum",
    "librosa",
    "matplotlib",
    "numba",
    "pandas",
    "rich",
    "scipy",
    "sklearn",
    "stamina",
    "webdataset",
    "yt_dlp",
)
"""Packages that take a tenth of a second or more, and that no `--help` needs."""
MOST_MODULES = 720
"""Of a command that does not import torch, Python's own among them."""
MODULES = {
    "ks-build": "pipelines.build",
    "ks-shard": "pipelines.shard",
    "ks-export": "pipelines.export",
    "ks-publish": "pipelines.publish",
    "ks-view": "pipelines.view",
    "ks-demo": "pipelines.demo",
    "ks-doctor": "pipelines.doctor",
    "ks-train": "train.__main__",
    "ks-eval": "train.evaluate",
}
LIGHT = (
    *(f"{command} --version" for command in MODULES),
    *(f"{command} --help" for command in MODULES if command != "ks-train"),
    *(
        "ks-build",
        "ks-build --classes nowhere.txt",
        "ks-shard",
        "ks-shard --short_side 7",
        "ks-view",
        "ks-export ogn --out out",
    ),
    *(
        "ks-train --list",
        "ks-train bnech",
        "ks-eval --list",
        "ks-eval",
        "ks-eval linaer --run nowhere",
        "ks-doctor --timeout 0",
    ),
)
TORCH = ("ks-train --help", "ks-eval knn --run nowhere")
MORE_TORCH = (
    *("ks-train --nonsense", "ks-train --config nowhere", "ks-train bench --help", "ks-train compare --help"),
    *("ks-eval linear --help", "ks-eval sounds --help"),
)
"""What shows or reads the options of methods, backbones, views or probes."""
WATCHED = """
import contextlib, importlib, io, os, sys, time
sys.modules.update(dict.fromkeys(os.environ.get("HIDDEN", "").split()))  # as if they were not installed
with contextlib.redirect_stdout(io.StringIO()) as said, contextlib.redirect_stderr(said):
    main = importlib.import_module(f"kinetics_sounds.{sys.argv[1]}").main
    try:
        code = main(sys.argv[2:])
    except SystemExit as end:
        code = end.code
names = [name for name, module in sys.modules.items() if module is not None]
print(time.process_time(), code, *names, sep="\\n")
sys.stderr.write(said.getvalue())
"""


def python(code: str, *words: str, cwd: Path, **environment: str) -> tuple[str, str]:
    """What a process of its own says on standard output and on standard error."""
    argv = [sys.executable, "-c", code, *words]
    done = subprocess.run(
        argv,
        check=True,
        capture_output=True,
        text=True,
        cwd=cwd,
        timeout=120,
        env={**environment, "PATH": "/usr/bin:/bin"},
    )
    return done.stdout, done.stderr


def watched(line: str, cwd: Path, *, hidden: str = "") -> tuple[float, int, list[str], str]:
    """The CPU seconds of a command, its exit code, the modules that it imported, and what it said."""
    command, *words = line.split()
    out, said = python(WATCHED, MODULES[command], *words, cwd=cwd, HIDDEN=hidden)
    seconds, code, *names = out.splitlines()
    return float(seconds), int(code), names, said


def slow_ones(names: list[str]) -> set[str]:
    return {name.partition(".")[0] for name in names}.intersection(SLOW)


@pytest.mark.parametrize("line", LIGHT)
def test_what_needs_no_torch_imports_none_and_little_else(line: str, tmp_path: Path) -> None:
    _, code, names, said = watched(line, tmp_path)

    assert code == (0 if line.endswith(("--help", "--version", "--list")) else 2)
    if line.endswith("--version"):
        assert said == f"{line.split()[0]} {__version__}\n"
    assert "torch" not in names
    assert slow_ones(names) == set()
    assert len(names) < MOST_MODULES


@pytest.fixture(scope="module")
def torch_modules(tmp_path_factory: pytest.TempPathFactory) -> int:
    """How many modules torch alone imports."""
    counted, _ = python("import sys, torch; print(len(sys.modules))", cwd=tmp_path_factory.mktemp("torch"))
    return int(counted)


@pytest.mark.slow
@pytest.mark.parametrize(
    "line", [*TORCH, *(pytest.param(line, marks=pytest.mark.slow_campaign) for line in MORE_TORCH)]
)
def test_what_needs_torch_imports_little_else(line: str, torch_modules: int, tmp_path: Path) -> None:
    _, code, names, _ = watched(line, tmp_path)

    assert code == (0 if line.endswith("--help") else 2)
    assert "torch" in names
    assert slow_ones(names) == set()
    assert len(names) < torch_modules + MOST_MODULES


@pytest.mark.slow_campaign
def test_the_seconds_are_few_beside_those_of_torch(tmp_path: Path) -> None:
    """CPU seconds, of two tries the better. Measured: torch 1.5, ks-build 0.6, ks-train --list 0.2, ks-train --help 2.1."""

    def best(line: str) -> float:
        return min(watched(line, tmp_path)[0] for _ in range(2))

    torch = min(float(python("import time, torch; print(time.process_time())", cwd=tmp_path)[0]) for _ in range(2))

    assert all(best(line) < torch for line in ("ks-build --help", "ks-shard --help", "ks-train --list"))
    assert all(best(line) < 2 * torch for line in ("ks-train --help", "ks-eval linear --help"))


@pytest.mark.parametrize(
    "line", ["ks-train", "ks-train --help", "ks-train compare avcl_k32", "ks-eval linear --run here", "ks-demo"]
)
def test_without_torch_it_is_said_what_to_install(line: str, tmp_path: Path) -> None:
    _, code, _, said = watched(line, tmp_path, hidden="torch")

    command = line.split()[0]
    assert code == 2
    assert said == f"{command}: error: {command} needs PyTorch: {pip_install('train')}\n"


@pytest.mark.parametrize("line", ["ks-train --list", "ks-eval --help"])
def test_without_torch_the_recipes_and_the_probes_are_listed(line: str, tmp_path: Path) -> None:
    assert watched(line, tmp_path, hidden="torch safetensors tensorboard")[1] == 0


@pytest.mark.slow
def test_building_and_packing_a_clip_imports_neither_torch_nor_librosa(tmp_path: Path) -> None:
    """In no process: a module of each name lies before the real one and leaves a file where it is imported."""
    for name in ("torch", "librosa"):
        trap = f"import pathlib\npathlib.Path({str(tmp_path / name)!r}).touch()\nraise ModuleNotFoundError(name={name!r})\n"
        (tmp_path / "traps").mkdir(exist_ok=True)
        (tmp_path / "traps" / f"{name}.py").write_text(trap)
    (tmp_path / "videos").mkdir()
    video = demo.Video(class_index=0, number=0, seed=0)
    demo.render((video, tmp_path / "videos"))
    (tmp_path / "one.txt").write_text("archery\n")
    (tmp_path / "one.csv").write_text(
        f"label,youtube_id,time_start,time_end,split\narchery,{video.youtube_id},0,4,train\n"
    )
    build = "--classes one.txt --annotations one.csv --splits train --source local:videos --out build --workers 1"

    for command, words in (("build", build), ("shard", "--manifest build/manifest.parquet --workers 1")):
        argv = [shutil.which(f"ks-{command}", path=str(Path(sys.executable).parent)) or "", *words.split()]
        environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(tmp_path / "traps")}
        done = subprocess.run(argv, check=False, capture_output=True, text=True, cwd=tmp_path, env=environment)
        assert done.returncode == 0, done.stderr

    assert [path.name for path in (tmp_path / "build/shards/train").glob("*.tar")] == ["train-000000.tar"]
    assert not (tmp_path / "torch").exists()
    assert not (tmp_path / "librosa").exists()
