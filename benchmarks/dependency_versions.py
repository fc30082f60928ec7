"""The fast tests on the lowest versions that pyproject.toml allows, or on the newest that a package index has.

    python benchmarks/dependency_versions.py lowest|newest [--python 3.13]

`>=` lets in what nobody has tried: this says when it breaks, before a user does. uv chooses versions of what the package and its
extras need, and of tools for tests the newest that go with those; it installs them into an environment of its own below
`build/versions/`. torch and torchcodec stay those of this environment, since others bring gigabytes of CUDA (and another Python
does). Prints what differs from `constraints.txt`, then what pytest says; ends with its exit code. Needs a package index; some
minutes.
"""

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[1]
RESOLUTIONS = {"lowest": "lowest-direct", "newest": "highest"}
KEPT = ("torch", "torchcodec")
UNUSED = ("datasets",)
"""Only slow tests use it, and it needs a newer pyarrow than the package does."""
UV = Path(sys.executable).with_name("uv")


def main(argv: Sequence[str] | None = None) -> int:
    """Choose, install, test."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("which", choices=RESOLUTIONS)
    parser.add_argument("--python", help="version or path of another Python to test with")
    told = parser.parse_args(argv)
    folder = ROOT / "build" / "versions" / told.which
    folder.mkdir(parents=True, exist_ok=True)
    chosen = choose(folder, RESOLUTIONS[told.which], told.python)
    print(table(pins(ROOT / "constraints.txt"), pins(chosen)), flush=True)
    return test(install(folder / "environment", chosen, told.python))


def choose(folder: Path, resolution: str, python: str | None) -> Path:
    """Write exact versions to a file of that folder: of what the package needs by that resolution, of other tools the newest."""
    forced, needed, every = (folder / f"{name}.txt" for name in ("forced", "needed", "every"))
    kept = {name: Version(metadata.version(name)) for name in KEPT}
    lines = [f"{name}=={version.public if python else version}" for name, version in kept.items()]
    forced.write_text("\n".join([*lines, *(f"{name}; python_version < '3'" for name in UNUSED)]), "utf-8")
    words: list[str | Path] = [
        "pip",
        "compile",
        "pyproject.toml",
        "--upgrade",
        "--no-header",
        "--no-annotate",
        "--override",
        forced,
    ]
    words += ["--python", python or sys.executable]
    uv(*words, "--extra", "all", "--resolution", resolution, "--output-file", needed)
    uv(*words, "--extra", "dev", "--constraint", needed, "--output-file", every)
    return every


def install(environment: Path, chosen: Path, python: str | None) -> Path:
    """Make an environment with exactly these and this tree; returns its Python."""
    uv("venv", "--clear", "--python", python or sys.executable, environment)
    uv("pip", "sync", "--python", environment, chosen)
    uv("pip", "install", "--python", environment, "--no-deps", "--editable", ".")
    return environment / "bin" / "python"


def uv(*words: str | Path) -> None:
    """Run uv in the tree, with pip's PIP_FIND_LINKS, which uv does not read by itself."""
    links = ",".join(os.environ.get("PIP_FIND_LINKS", "").split())
    subprocess.run([UV, *words, "--quiet"], check=True, cwd=ROOT, env={"UV_FIND_LINKS": links, **os.environ})


def pins(path: Path) -> dict[str, str]:
    """Versions of a file of `name==version` by canonical name."""
    asked = map(Requirement, path.read_text("utf-8").splitlines())
    return {canonicalize_name(each.name): str(each.specifier).removeprefix("==") for each in asked}


def table(usual: dict[str, str], chosen: dict[str, str]) -> str:
    """What differs, a line each: name, the version in constraints.txt, the version here."""
    rows = [(name, usual.get(name, "-"), version) for name, version in chosen.items() if usual.get(name) != version]
    lines = [f"{name:32} {was:>20} {version:>20}" for name, was, version in [("", "constraints.txt", "tested"), *rows]]
    return "\n".join([*lines, f"{len(rows)} of {len(chosen)} versions differ"])


def test(python: Path) -> int:
    """Run the fast tests with that Python; returns pytest's exit code."""
    words = ["-m", "pytest", "-q", "-n", "2", "-m", "not slow and not slow_campaign", "--hypothesis-profile", "quick"]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return subprocess.run([python, *words], check=False, cwd=ROOT, env=environment).returncode


if __name__ == "__main__":
    sys.exit(main())
