"""Container recipes: hadolint finds no fault, and both take the same files and install them in the same way."""

import platform
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HADOLINT = Path(sys.executable).parent / "hadolint"
INSTALLED = {"kinetics_sounds", "manifests", "pipelines", "train", "pyproject.toml", "README.md", "LICENSE"}
"""What the package is made of."""


def lint(dockerfile: str) -> subprocess.CompletedProcess[str]:
    if (sys.platform, platform.machine()) != ("linux", "x86_64"):
        pytest.skip("hadolint is installed on Linux on x86_64 alone")
    argv = [str(HADOLINT), "--no-color", "-"]
    return subprocess.run(argv, input=dockerfile, capture_output=True, text=True, check=False, timeout=60)


def sections(name: str) -> list[dict[str, str]]:
    """Header and sections of each stage of an Apptainer definition file."""
    stages = re.split(r"^(?=Bootstrap:)", (ROOT / name).read_text(), flags=re.MULTILINE)[1:]
    found = []
    for stage in stages:
        header, *parts = re.split(r"^%(?=[a-z])", stage, flags=re.MULTILINE)
        named = (part.partition("\n") for part in parts)
        found.append({"header": header} | {title: text for title, _, text in named})
    return found


def allowed() -> set[str]:
    """What .dockerignore lets through."""
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in lines
    return {line.removeprefix("!") for line in lines if line.startswith("!")}


def test_hadolint_finds_no_fault_in_the_dockerfile() -> None:
    done = lint((ROOT / "Dockerfile").read_text())

    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize(
    ("line", "other", "rule"),
    [
        ("FROM python:3.11-slim-bookworm AS build", "FROM python AS build", "DL3006"),
        ("WORKDIR /work", "WORKDIR work", "DL3000"),
        ("USER 1000", "USER root", "DL3002"),
    ],
)
def test_hadolint_finds_planted_faults(line: str, other: str, rule: str) -> None:
    text = (ROOT / "Dockerfile").read_text()
    assert line in text

    done = lint(text.replace(line, other))

    assert done.returncode == 1
    assert rule in done.stdout


def test_the_builder_is_sent_what_is_installed_and_no_more() -> None:
    assert allowed() == INSTALLED | {"constraints.txt"}
    assert all((ROOT / name).exists() for name in allowed())


def test_apptainer_makes_what_docker_makes() -> None:
    docker, (build, final) = (ROOT / "Dockerfile").read_text(), sections("apptainer.def")
    bases = re.findall(r"^FROM (\S+)", docker, flags=re.MULTILINE)
    [install] = re.findall(r"\S+/pip install .*", docker)
    [copied] = re.findall(r"^COPY --from=build (.*)$", docker, flags=re.MULTILINE)

    assert [re.findall(r"^From: (.*)$", stage["header"], flags=re.MULTILINE) for stage in (build, final)] == [
        [base] for base in bases
    ]
    assert {line.split()[0] for line in build["files"].splitlines() if line.strip()} == allowed()
    assert build["arguments"].split() == re.findall(r"^ARG (.*)$", docker, flags=re.MULTILINE)
    assert install in build["post"].replace("{{ EXTRAS }}", "$EXTRAS").replace(" --no-cache-dir", "")
    assert final["files from build"].split() == copied.split()
