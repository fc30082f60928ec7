"""`make install` with a pip that only speaks."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PIP = """\
Obtaining file:///tmp/x
Collecting torch<3,>=2.2 (from kinetics-sounds==0.2.0)
  Downloading torch-2.9.0-cp311-cp311-manylinux_2_28_x86_64.whl.metadata (30 kB)
  Downloading torch-2.9.0-cp311-cp311-manylinux_2_28_x86_64.whl (899.8 MB)
     899.8/899.8 MB 2.3 MB/s eta 0:00:00
  Using cached numpy-2.1.0-cp311-cp311-manylinux_2_17_x86_64.whl (16.0 MB)
  Downloading rich-14.1.0-py3-none-any.whl (2.4 MB)
Installing collected packages: torch, numpy, rich
Successfully installed numpy-2.1.0 rich-14.1.0 torch-2.9.0
"""
SHOWN = [
    "Downloading torch-2.9.0-cp311-cp311-manylinux_2_28_x86_64.whl (899.8 MB)",
    "Using cached numpy-2.1.0-cp311-cp311-manylinux_2_17_x86_64.whl (16.0 MB)",
    "Installing collected packages",
]


@pytest.mark.skipif(shutil.which("make") is None, reason="GNU make is not installed")
@pytest.mark.parametrize("code", [0, 1])
def test_installing_shows_large_downloads_and_fails_if_pip_does(code: int, tmp_path: Path) -> None:
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "said").write_text(PIP)
    (tmp_path / ".venv/bin").mkdir(parents=True)
    (tmp_path / ".venv/.installed").touch()
    os.utime(tmp_path / ".venv/.installed", (0, 0))  # of an older pyproject.toml
    for path, text in {
        tmp_path / "python": "exit 0",
        tmp_path / ".venv/bin/python": f"cat said; echo why >&2; exit {code}",
    }.items():
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)

    argv = ["make", "install", f"PYTHON={tmp_path / 'python'}"]
    alone = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}  # of `make test`
    done = subprocess.run(argv, cwd=tmp_path, env=alone, capture_output=True, text=True, check=False)

    assert done.stdout.splitlines()[-3:] == SHOWN
    assert "why\n" in done.stderr
    assert (done.returncode != 0) == (code != 0) == (not (tmp_path / ".venv/.installed").exists())
