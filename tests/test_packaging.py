"""What is installed is what is here, owns one name, and each part imports only what lies below it."""

import ast
import importlib
import inspect
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import venv
import zipfile
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

import kinetics_sounds
from kinetics_sounds import console

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent
PYPROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
FOLDERS = {  # where the installed name's parts lie
    "kinetics_sounds": ROOT / "kinetics_sounds",
    "kinetics_sounds.manifests": ROOT / "manifests",
    "kinetics_sounds.pipelines": ROOT / "pipelines",
    "kinetics_sounds.train": ROOT / "train",
}
DATA = {
    "kinetics_sounds.manifests.classes",
    "kinetics_sounds.pipelines.viewing.assets",
    "kinetics_sounds.train.protocols",
    "kinetics_sounds.train.recipes",
}


def sources() -> dict[str, Path]:
    """Every Python file of the package by the place that it has when installed."""
    return {
        f"{name.replace('.', '/')}/{path.relative_to(folder).as_posix()}": path
        for name, folder in FOLDERS.items()
        for path in sorted(folder.rglob("*.py"))
    }


def run(*argv: object, cwd: Path, seconds: float = 240) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(each) for each in argv], cwd=cwd, capture_output=True, text=True, check=False, timeout=seconds
    )


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the source distribution and the wheel that was built from it, and what the builder said."""
    tree, dist = tmp_path_factory.mktemp("tree"), tmp_path_factory.mktemp("dist")
    for folder in FOLDERS.values():
        shutil.copytree(folder, tree / folder.name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tree)
    done = run(sys.executable, "-m", "build", "--no-isolation", "--outdir", dist, tree, cwd=tree)
    assert done.returncode == 0, done.stdout + done.stderr
    (dist / "log").write_text(done.stdout + done.stderr)
    return dist


@pytest.fixture(scope="module")
def wheel(built: Path) -> Path:
    [path] = built.glob("*.whl")
    return path


# --- What is kept -----------------------------------------------------------------------------------------------------


def test_every_file_that_is_kept_has_a_plain_name() -> None:
    """A command that took a URL for a path once left a folder `http:` here, and one of its files was added."""
    if not (ROOT / ".git").exists():
        pytest.skip("this is no clone")
    names = run("git", "ls-files", "-z", cwd=ROOT).stdout.split("\0")

    assert "pyproject.toml" in names
    assert [name for name in names if not re.fullmatch(r"[A-Za-z0-9._/-]*", name)] == []


# --- What is installed ----------------------------------------------------------------------------------------------


def test_every_package_is_listed_and_every_listed_one_is_there() -> None:
    settings = PYPROJECT["tool"]["setuptools"]
    found = {place.removesuffix("/__init__.py").replace("/", ".") for place in sources() if "__init__" in place}

    assert len(settings["packages"]) == len(set(settings["packages"]))
    assert set(settings["packages"]) == found | DATA
    assert {name: ROOT / folder for name, folder in settings["package-dir"].items()} == FOLDERS


def test_every_folder_of_python_is_a_package() -> None:
    for place, path in sources().items():
        assert (path.parent / "__init__.py").is_file(), f"{place} lies in a folder without __init__.py"


@pytest.mark.slow
def test_the_wheel_owns_one_name(wheel: Path) -> None:
    checked = run(BIN / "check-wheel-contents", "--config", ROOT / "pyproject.toml", wheel, cwd=ROOT)
    names = zipfile.ZipFile(wheel).namelist()

    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == {"kinetics_sounds"}


@pytest.mark.slow
def test_the_wheel_holds_all_the_code_and_all_the_data(wheel: Path) -> None:
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    data = {
        f"kinetics_sounds/{path.relative_to(ROOT).as_posix().removeprefix('kinetics_sounds/')}"
        for pattern in (
            *("manifests/classes/*.txt", "manifests/classes/*.csv", "manifests/*.md"),
            *(
                "train/recipes/*.yaml",
                "train/protocols/*.yaml",
                "kinetics_sounds/media/*.npz",
                "pipelines/viewing/assets/*.*",
            ),
        )
        for path in ROOT.glob(pattern)
    }

    assert len(data) > 8
    assert names == {*sources(), *data, "kinetics_sounds/py.typed"}


@pytest.mark.slow
def test_the_source_distribution_holds_what_the_wheel_needs(built: Path) -> None:
    [path] = built.glob("*.tar.gz")
    with tarfile.open(path) as opened:
        names = {name.partition("/")[2] for name in opened.getnames()}

    assert names >= {path.relative_to(ROOT).as_posix() for path in sources().values()}
    assert names >= {"pyproject.toml", "README.md", "LICENSE", "manifests/classes/k32.txt"}


@pytest.mark.slow
def test_the_builder_warns_of_nothing(built: Path) -> None:
    log = (built / "log").read_text()

    assert "absent from the `packages` configuration" not in log
    assert "Deprecat" not in log


@pytest.mark.slow
def test_the_wheel_works_away_from_the_tree(wheel: Path, tmp_path: Path) -> None:
    zipfile.ZipFile(wheel).extractall(tmp_path)
    code = """
import importlib, pkgutil, sys
sys.path.insert(0, sys.argv[1])
import kinetics_sounds
from kinetics_sounds import classes
names = [each.name for each in pkgutil.walk_packages(kinetics_sounds.__path__, "kinetics_sounds.")]
for name in names:
    if not name.endswith("__main__"):
        importlib.import_module(name)
files = [module.__file__ for name, module in sys.modules.items() if name.startswith("kinetics_sounds") and module.__file__]
assert len(files) > 40 and all(each.startswith(sys.argv[1]) for each in files), files
print(len(classes.read("k32").labels))
"""
    done = run(sys.executable, "-c", code, tmp_path, cwd=tmp_path)

    assert done.returncode == 0, done.stderr
    assert done.stdout == "32\n"


@pytest.fixture(scope="module")
def commands(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the wheel's commands, in an environment of its own that has the dependencies of this one."""
    folder = tmp_path_factory.mktemp("installed")
    venv.create(folder, symlinks=True)
    options = ["--no-deps", "--no-index", "--disable-pip-version-check"]
    done = run(sys.executable, "-m", "pip", "--python", folder / "bin/python", "install", *options, wheel, cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    [site] = folder.glob("lib/python3*/site-packages")
    (site / "dependencies.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    return folder / "bin"


@pytest.mark.slow
def test_the_installed_wheel_s_commands_run_away_from_the_tree(commands: Path, tmp_path: Path) -> None:
    assert {path.name for path in commands.glob("ks-*")} == set(PYPROJECT["project"]["scripts"])
    place = run(commands / "python", "-c", "import kinetics_sounds; print(kinetics_sounds.__file__)", cwd=tmp_path)
    recipes = run(commands / "ks-train", "--list", cwd=tmp_path)
    (tmp_path / "list.csv").write_text("label,youtube_id,time_start,time_end,split\nbowling,abcdefghijk,0,10,train\n")
    (tmp_path / "classes.txt").write_text("bowling\n")
    options = ["--classes", "classes.txt", "--annotations", "list.csv", "--source", "local:.", "--dry_run"]
    planned = run(commands / "ks-build", *options, cwd=tmp_path)

    assert Path(place.stdout.strip()).is_relative_to(commands.parent)
    assert recipes.returncode == 0, recipes.stderr
    assert "avcl_k32" in recipes.stdout
    assert planned.returncode == 0, planned.stderr


@pytest.mark.slow_campaign
@pytest.mark.timeout(3600)
def test_the_wheel_runs_the_demo_in_a_clean_environment(wheel: Path, tmp_path: Path) -> None:
    """Installed with what it depends on, as the README says it; the index is that of this machine's pip."""
    venv.create(tmp_path / "venv", with_pip=True, symlinks=True)
    commands = tmp_path / "venv/bin"
    (tmp_path / "work").mkdir()
    for argv in (
        [commands / "pip", "install", "--quiet", "--constraint", ROOT / "constraints.txt", f"{wheel}[train]"],
        [commands / "ks-build", "--help"],
        [commands / "ks-doctor"],
        [commands / "ks-demo", "--quick"],
    ):
        done = run(*argv, cwd=tmp_path / "work", seconds=1500)
        assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "work/demo-quick/report.html").is_file()


def test_the_version_has_one_value() -> None:
    assert kinetics_sounds.__version__ == PYPROJECT["project"]["version"] == metadata.version("kinetics-sounds")


@pytest.mark.parametrize("script", PYPROJECT["project"]["scripts"])
def test_a_command_is_a_main_that_takes_arguments_and_gives_an_exit_code(script: str) -> None:
    module, _, name = PYPROJECT["project"]["scripts"][script].partition(":")
    entry = getattr(importlib.import_module(module), name)
    main = importlib.import_module(f"kinetics_sounds.{console.COMMANDS[script]}").main

    assert entry.args == (script,)
    for each in (entry, main):
        [argument] = inspect.signature(each).parameters.values()
        assert (argument.name, argument.default) == ("argv", None)
        assert inspect.signature(each).return_annotation is int


def test_every_tool_that_is_imported_is_declared() -> None:
    """A name that only came along with another tool goes when that tool changes its mind."""
    project = PYPROJECT["project"]
    extras = [each for name, group in project["optional-dependencies"].items() if name != "dev" for each in group]
    dependencies = {
        re.split(r"[\[<>=; ]", each)[0].lower().replace("_", "-") for each in [*project["dependencies"], *extras]
    }
    distributions = metadata.packages_distributions()
    undeclared = {
        f"{place} imports {top}"
        for place, path in sources().items()
        for top in imported(path) - {"kinetics_sounds", *sys.stdlib_module_names}
        if not dependencies.intersection(owner.lower().replace("_", "-") for owner in distributions.get(top, []))
    }

    assert undeclared == set()


def test_a_node_that_only_builds_needs_no_torch() -> None:
    """The extra [train] brings what only the trainer imports, [all] brings every other extra, and [dev] that."""
    extras = {name: set(group) for name, group in PYPROJECT["project"]["optional-dependencies"].items()}
    [every] = extras["all"]
    names = {re.split(r"[\[<>=; ]", each)[0] for each in extras["train"]}

    assert names == {"safetensors", "tensorboard", "torch"}
    assert not names & {re.split(r"[\[<>=; ]", each)[0] for each in PYPROJECT["project"]["dependencies"]}
    assert set(every.removeprefix("kinetics-sounds[").removesuffix("]").split(",")) == extras.keys() - {"all", "dev"}
    assert "kinetics-sounds[all]" in extras["dev"]
    for place, path in sources().items():
        assert place.startswith("kinetics_sounds/train/") or not names & imported(path), place


def imported(path: Path) -> set[str]:
    """Top-level names that a file imports from elsewhere, at any depth of its code."""
    nodes = list(ast.walk(ast.parse(path.read_text())))
    plain = {each.name for node in nodes if isinstance(node, ast.Import) for each in node.names}
    parts = {node.module for node in nodes if isinstance(node, ast.ImportFrom) and not node.level and node.module}
    return {name.partition(".")[0] for name in plain | parts}


# --- Who may import whom --------------------------------------------------------------------------------------------

LAYERS = "Programs sit on the library and never on each other"
LIBRARY = "The library, top to bottom"
BUILDER = "The builder, top to bottom"
TRAINER = "The trainer, top to bottom"
SIBLINGS = "Siblings are strangers, so adding one is one file"
TORCH = "torch stays in the trainer"
MEDIA = "One door: media tools"
VIOLATIONS = [
    (LAYERS, "kinetics_sounds/stream.py", "import train.models.heads"),
    (LAYERS, "kinetics_sounds/media/mel.py", "import pipelines.synthetic.scenes"),
    (LAYERS, "pipelines/synthetic/scenes.py", "import train.models.heads"),
    (LAYERS, "train/models/heads.py", "import pipelines.synthetic.scenes"),
    (LIBRARY, "kinetics_sounds/errors.py", "from . import files"),
    (LIBRARY, "kinetics_sounds/media/mel.py", "from .. import manifest"),
    (LIBRARY, "kinetics_sounds/shards/layout.py", "from .. import stream"),
    (LIBRARY, "kinetics_sounds/retry.py", "from . import web"),
    (LIBRARY, "kinetics_sounds/config_text.py", "from . import settings"),
    (LIBRARY, "kinetics_sounds/attic.py", "import os"),  # a new module says in which layer it lies
    (BUILDER, "pipelines/fetching/plan.py", "from .. import build"),
    (BUILDER, "pipelines/executors/local.py", "from .. import shard"),
    (BUILDER, "pipelines/process_pool.py", "from .executors import slurm"),
    (BUILDER, "pipelines/layouts/ogm.py", "from ..exporting import placing"),
    (TRAINER, "train/models/heads.py", "from .. import pretrain"),
    (TRAINER, "train/models/backbones/r3d.py", "from ...methods import avcl"),
    (TRAINER, "train/data/loader.py", "from ..config import settings"),
    ("Evaluation, top to bottom", "train/evaluation/features.py", "from .protocols import sounds"),
    ("Conversion, top to bottom", "train/conversion/limited.py", "from . import pickled"),
    ("Fetching, top to bottom", "pipelines/fetching/worker.py", "from . import driver"),
    ("Fetching, top to bottom", "pipelines/fetching/task.py", "from . import worker"),
    ("Fetching, top to bottom", "pipelines/fetching/list_plan.py", "from . import list_report"),
    ("Packing, top to bottom", "pipelines/packing/encode_sample.py", "from . import upload"),
    ("Publishing, top to bottom", "pipelines/publishing/tables.py", "from . import card"),
    ("Viewing, top to bottom", "pipelines/viewing/sets.py", "from . import report"),
    ("Exporting, top to bottom", "pipelines/exporting/placing.py", "from . import job"),
    (SIBLINGS, "pipelines/executors/local.py", "from . import ray"),
    (SIBLINGS, "pipelines/layouts/ogm.py", "from . import mmaction2"),
    (SIBLINGS, "kinetics_sounds/datasets/ucf101.py", "from . import hmdb51"),
    (SIBLINGS, "kinetics_sounds/media/decode/decord.py", "from . import pyav"),
    (SIBLINGS, "kinetics_sounds/sources/local.py", "from . import youtube"),
    (SIBLINGS, "kinetics_sounds/lists/ogm_ge_followers.py", "from . import ogm_ge"),
    (SIBLINGS, "train/probes/knn.py", "from . import linear"),
    ("Protocols are strangers to each other", "train/evaluation/protocols/sounds.py", "from . import finetune"),
    ("Checks are strangers to each other", "pipelines/checks/filesystem.py", "from . import machine"),
    (TORCH, "kinetics_sounds/stream.py", "import torch"),
    (TORCH, "pipelines/synthetic/scenes.py", "from torch import nn"),
    ("One door: yt-dlp", "kinetics_sounds/sources/local.py", "import yt_dlp"),
    ("One door: yt-dlp", "pipelines/build.py", "from yt_dlp.utils import DownloadError"),
    *(
        (MEDIA, "train/models/heads.py", f"import {tool}")
        for tool in ("av", "ffmpeg", "imageio_ffmpeg", "decord", "librosa")
    ),
    *((MEDIA, "pipelines/viewing/page.py", f"import {tool}") for tool in ("soundfile", "torchcodec", "simplejpeg")),
    ("One door: webdataset", "kinetics_sounds/stream.py", "import webdataset"),
    ("One door: mlcroissant", "pipelines/publishing/check.py", "import mlcroissant"),
    ("One door: wandb", "train/engine/metrics.py", "import wandb"),
    ("One door: ray", "pipelines/executors/slurm/__init__.py", "import ray"),
    ("One door: submitit", "pipelines/executors/local.py", "import submitit"),
    ("One door: pebble", "pipelines/executors/local.py", "import pebble"),
    ("One door: fsspec", "kinetics_sounds/cache.py", "import fsspec"),
    ("One door: huggingface_hub", "kinetics_sounds/remote.py", "import huggingface_hub"),
    ("One door: stamina", "kinetics_sounds/annotations.py", "import stamina"),
    ("One door: pandas", "kinetics_sounds/ledger.py", "import pandas"),
    ("No cycles", "kinetics_sounds/media/probe.py", "from . import trim"),
]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of the code that a test may spoil."""
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for folder in FOLDERS.values():
        for path in folder.rglob("*.py"):
            copy = tmp_path / path.relative_to(ROOT)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, copy)
    return tmp_path


def contracts(tree: Path) -> dict[str, str]:
    """What the checker says of each contract: KEPT or BROKEN."""
    done = run(BIN / "lint-imports", "--no-cache", "--no-logo", cwd=tree)
    return dict(re.findall(r"^(\S.*) (KEPT|BROKEN)$", done.stdout, flags=re.MULTILINE))


def declared() -> set[str]:
    return {contract["name"] for contract in PYPROJECT["tool"]["importlinter"]["contracts"]}


def test_every_contract_has_a_violation_here() -> None:
    assert {contract for contract, _, _ in VIOLATIONS} == declared()


@pytest.mark.slow
def test_the_code_keeps_its_contracts(tree: Path) -> None:
    assert contracts(tree) == dict.fromkeys(declared(), "KEPT")


@pytest.mark.slow
def test_a_violation_of_each_contract_is_caught(tree: Path) -> None:
    """The first of each, all in one tree: the checker tells of each contract which modules broke it."""
    firsts = {contract: (file, line) for contract, file, line in reversed(VIOLATIONS)}
    for file, line in firsts.values():
        with (tree / file).open("a") as source:
            source.write(f"\n{line}\n")
    said = run(BIN / "lint-imports", "--no-cache", "--no-logo", cwd=tree).stdout
    _, *parts = re.split(r"^(.+)\n-+\n", said.partition("Broken contracts\n")[2], flags=re.MULTILINE)
    told = dict(zip(parts[::2], parts[1::2], strict=True))

    assert told.keys() == declared()
    for contract, (file, _) in firsts.items():
        assert f".{Path(file.removesuffix('/__init__.py')).stem}" in told[contract], contract


@pytest.mark.slow_campaign
@pytest.mark.parametrize(("contract", "file", "line"), VIOLATIONS)
def test_a_violation_is_caught(tree: Path, contract: str, file: str, line: str) -> None:
    with (tree / file).open("a") as source:
        source.write(f"\n{line}\n")

    assert contracts(tree)[contract] == "BROKEN"


@pytest.mark.parametrize(
    "line",
    [
        "import kinetics_sounds.train",
        "import kinetics_sounds.pipelines.build",
        "from kinetics_sounds import train",
        "from kinetics_sounds.train.models import heads",
        "from kinetics_sounds.pipelines.build import main",
    ],
)
@pytest.mark.parametrize(
    "file", ["kinetics_sounds/stream.py", "pipelines/synthetic/scenes.py", "train/models/heads.py"]
)
def test_the_installed_names_of_programs_are_banned(tree: Path, file: str, line: str) -> None:
    """import-linter does not see imports under the installed name; ruff does."""
    with (tree / file).open("a") as source:
        source.write(f"\n{line}\n")
    found = run(BIN / "ruff", "check", "--no-cache", "--select", "TID251", "--output-format", "concise", ".", cwd=tree)

    assert found.returncode == 1
    assert re.findall(r"^(\S+?):\d+:\d+: TID251", found.stdout, flags=re.MULTILINE) == [file]


def test_nothing_is_excused() -> None:
    for contract in PYPROJECT["tool"]["importlinter"]["contracts"]:
        assert "ignore_imports" not in contract, contract["name"]
