"""The tests of the youtube source on the lowest yt-dlp that pyproject.toml allows and on the newest there is.

    python benchmarks/yt_dlp_versions.py

The tests replace one method that is private to yt-dlp, and its messages change: this says when, before a user does. Each
version is installed with its own scripts for JavaScript runtimes into a folder of its own below `build/`; the environment
stays as it is. Needs pip and a package index; about two minutes. Ends with 1 where a test fails.
"""

import os
import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
TESTS = sorted(str(path) for path in ROOT.glob("tests/sources/test_youtube*.py"))


def main() -> int:
    """Test both, whatever comes of the first."""
    return max([test(install("lowest", f"yt-dlp=={lowest()}")), test(install("newest", "yt-dlp"))])


def lowest() -> str:
    """The version that pyproject.toml names as enough."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    asked = next(each for each in map(Requirement, project["dependencies"]) if canonicalize_name(each.name) == "yt-dlp")
    return next(each.version for each in asked.specifier if each.operator == ">=")


def install(name: str, requirement: str) -> Path:
    """A folder with that yt-dlp alone and the scripts that it asks for by their exact version."""
    folder = ROOT / "build" / "yt-dlp" / name
    pip(folder, requirement)
    made = next(each for each in metadata.distributions(path=[str(folder)]) if each.name == "yt-dlp")
    scripts = next(line for line in made.requires or [] if re.match(r"yt-dlp-ejs.*extra == .default.", line))
    pip(folder, scripts.partition(";")[0])
    return folder


def pip(folder: Path, requirement: str) -> None:
    """Install without what it depends on: that is in the environment."""
    words = ["--quiet", "--disable-pip-version-check", "--no-deps", "--upgrade", "--target", str(folder), requirement]
    subprocess.run([sys.executable, "-m", "pip", "install", *words], check=True)


def test(folder: Path) -> int:
    """Run the tests with the yt-dlp of that folder; returns pytest's exit code."""
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    asked = [sys.executable, "-c", "import yt_dlp.version as v; print(v.__version__, v.__file__)"]
    told = subprocess.run(asked, check=True, capture_output=True, text=True, env=environment).stdout.split()
    if not Path(told[1]).is_relative_to(folder):
        raise RuntimeError(f"{folder}: not the yt-dlp that Python imports, which is {told[1]}")
    print(f"yt-dlp {told[0]} ({folder.name})", flush=True)
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", *TESTS], check=False, cwd=ROOT, env=environment
    ).returncode


if __name__ == "__main__":
    sys.exit(main())
