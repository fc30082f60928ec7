"""Console scripts where a dependency is not installed: one line with the remedy, and a doctor that lists all."""

import json
import signal
import subprocess
import sys
import venv
from importlib import metadata
from pathlib import Path

import pytest

from kinetics_sounds import command, console
from kinetics_sounds.extras import pip_install

ROOT = Path(__file__).parents[1]
RUN = "import sys; from kinetics_sounds import console; sys.exit(console.run(*sys.argv[1:2], sys.argv[2:]))"


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Python of an environment that has this package and nothing else, as after `pip install --no-deps`."""
    folder = tmp_path_factory.mktemp("bare")
    venv.create(folder, symlinks=True)
    [site] = folder.glob("lib/python3*/site-packages")
    package = site / "kinetics_sounds"
    package.mkdir()
    for path in (*(ROOT / "kinetics_sounds").iterdir(), *(ROOT / name for name in ("pipelines", "train", "manifests"))):
        (package / path.name).symlink_to(path)
    info = site / "kinetics_sounds-0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(metadata.distribution("kinetics-sounds").read_text("METADATA") or "")
    return folder / "bin/python"


def run(python: Path, *words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    argv = [str(python), "-c", RUN, *words]
    return subprocess.run(argv, capture_output=True, text=True, check=False, timeout=120, cwd=cwd)


@pytest.mark.parametrize("prog", [each for each in console.COMMANDS if each != "ks-doctor"])
def test_a_command_without_its_dependencies_names_one_and_the_remedy(prog: str, python: Path, tmp_path: Path) -> None:
    done = run(python, prog, "--classes", "k32", cwd=tmp_path)

    assert (done.returncode, done.stdout) == (2, "")
    [line] = done.stderr.splitlines()
    assert line.startswith(f"{prog}: error: ")
    assert "pip install 'kinetics-sounds" in line


def test_the_doctor_without_dependencies_lists_them(python: Path, tmp_path: Path) -> None:
    code = (
        "import json, sys; from kinetics_sounds.pipelines.checks import Asked, packages; "
        "found = [*packages.packages(Asked()), *packages.commands(Asked())]; "
        "print(json.dumps({each.name: [each.verdict, each.found] for each in found}))"
    )
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True, timeout=60, cwd=tmp_path)
    found = json.loads(done.stdout)

    for name in ("av", "jsonargparse", "numpy", "pyarrow", "pyyaml"):
        assert found[f"package {name}"] == ["missing", "is not installed"]
    assert found["ks-build"][0] == "missing"
    assert "is not installed" in found["ks-build"][1]
    assert "ks-doctor" in found["commands"][1]


@pytest.mark.slow
def test_the_doctor_without_dependencies_ends_its_report(python: Path, tmp_path: Path) -> None:
    done = run(python, "ks-doctor", cwd=tmp_path)

    assert (done.returncode, done.stderr) == (1, "")
    assert "missing  package numpy " in done.stdout
    assert "ok       open files" in done.stdout
    assert done.stdout.splitlines()[-1].startswith("found: ")


def test_options_of_the_doctor_need_what_parses_them(python: Path, tmp_path: Path) -> None:
    done = run(python, "ks-doctor", "--json", cwd=tmp_path)

    assert done.returncode == 2
    assert done.stderr.startswith("ks-doctor: error: the package ")


@pytest.mark.parametrize(
    ("module", "told"),
    [
        ("nowhere.part", ("the package nowhere is not installed", pip_install())),
        ("nowhere_at_all", ("the package nowhere-at-all is not installed", pip_install())),
        ("json.nothing", None),
        ("numpy.nothing", None),
        ("kinetics_sounds.nothing", None),
        (None, None),
    ],
)
def test_only_a_package_that_is_not_installed_is_no_bug(module: str | None, told: tuple[str, str] | None) -> None:
    assert command.missing_package(ModuleNotFoundError(name=module)) == told


@pytest.mark.parametrize(
    ("module", "name", "extra"),
    [
        ("captum", "captum", "eval"),
        ("yaml", "pyyaml", ""),
        ("torch", "torch", "train"),
        ("sklearn", "scikit-learn", "eval"),
        ("huggingface_hub", "huggingface-hub", "publish"),  # the first of two that have it
    ],
)
def test_the_remedy_names_the_extra(module: str, name: str, extra: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)

    missing = command.missing_package(ModuleNotFoundError(name=module))

    assert missing == (f"the package {name} is not installed", pip_install(extra))


def test_a_package_is_missed_in_one_line_where_ours_is_on_the_path_but_not_installed(
    python: Path, tmp_path: Path
) -> None:
    """Without its metadata neither its version nor its extras are known."""
    [info] = python.parents[1].glob("lib/python3*/site-packages/kinetics_sounds-0.dist-info")
    there = info.rename(tmp_path / "elsewhere")
    try:
        done = run(python, "ks-build", "--classes", "k32", cwd=tmp_path)
        version = subprocess.run(
            [str(python), "-c", "import kinetics_sounds; print(kinetics_sounds.__version__)"],
            capture_output=True,
            cwd=tmp_path,
            text=True,
            check=True,
        )
    finally:
        there.rename(info)

    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1)
    assert done.stderr.startswith("ks-build: error: the package ")
    assert done.stderr.endswith(f"{pip_install()}\n")
    assert version.stdout == "0+unknown\n"


def test_a_package_missed_in_mid_run_is_told_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    def body() -> int:
        raise ModuleNotFoundError(name="nowhere")

    assert command.command("ks-view", body) == 2
    assert capsys.readouterr().err == (
        "ks-view: error: the package nowhere is not installed; to install it and all else that is missing: "
        f"{pip_install()}\n"
    )


@pytest.mark.slow
@pytest.mark.parametrize(("handler", "code"), [("default_int_handler", -signal.SIGINT), ("SIG_IGN", 7)])
def test_an_interrupt_ends_a_command_that_is_still_importing_unless_it_is_ignored(
    handler: str, code: int, tmp_path: Path
) -> None:
    """Some packages swallow any exception of an optional import, and KeyboardInterrupt with it."""
    script = f"""
import signal, sys
from kinetics_sounds import console
signal.signal(signal.SIGINT, signal.{handler})
class Finder:
    def find_spec(self, name, *rest):
        if name == "kinetics_sounds.pipelines.view":
            print("importing", flush=True)
            try:
                signal.sigtimedwait([], 1)
            except BaseException:
                pass
            sys.exit(7)
sys.meta_path.insert(0, Finder())
console.run("ks-view", [])
"""
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "importing\n"
        process.send_signal(signal.SIGINT)
        told = process.stderr.read()

    assert (process.returncode, told) == (code, "")
