"""What is checked before a commit: the same as `make check`, and the length of the subject; and what `make quick` leaves out."""

import ast
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from .conftest import SLOW_FILES

ROOT = Path(__file__).parents[1]
CONFIG = ROOT / ".pre-commit-config.yaml"


def test_the_hooks_run_what_make_check_runs() -> None:
    [repository] = yaml.safe_load(CONFIG.read_text())["repos"]
    hooks = [hook["entry"] for hook in repository["hooks"] if "stages" not in hook]
    recipe = re.search(r"(?m)^check: .*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text())

    assert recipe is not None
    assert hooks == [line.strip().replace("$(BIN)", ".venv/bin") for line in recipe[1].splitlines()]


@pytest.mark.skipif(shutil.which("git") is None, reason="hooks are git's")
@pytest.mark.parametrize(("length", "code"), [(71, 0), (72, 1)])
def test_a_long_subject_is_refused(length: int, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRE_COMMIT_HOME", str(tmp_path / "cache"))
    subprocess.run(["git", "init", "--quiet", tmp_path], check=True)
    shutil.copy(CONFIG, tmp_path)
    subprocess.run(["git", "-C", tmp_path, "add", CONFIG.name], check=True)
    (tmp_path / "message").write_text("s" * length + f"\n\n{'a long line of the body ' * 9}\n")
    words = ["run", "--hook-stage", "commit-msg", "--commit-msg-filename", "message"]
    done = subprocess.run(
        [Path(sys.executable).parent / "pre-commit", *words], cwd=tmp_path, capture_output=True, text=True, check=False
    )

    assert done.returncode == code, done.stdout + done.stderr


def test_every_file_that_is_slow_is_there() -> None:
    """Else `make quick` takes it in again where it was renamed."""
    assert {path.name for path in (ROOT / "tests").rglob("test_*.py")} >= SLOW_FILES


def test_files_and_functions_are_short() -> None:
    """Lines of the product: at most 350 of a file, 60 of a function."""
    paths = [path for folder in ("kinetics_sounds", "pipelines", "train") for path in (ROOT / folder).rglob("*.py")]
    texts = {path: path.read_text("utf-8") for path in paths}
    long_files = [path.name for path, text in texts.items() if len(text.splitlines()) > 350]
    functions = [
        (path.name, each.name, (each.end_lineno or each.lineno) - each.lineno + 1)
        for path, text in texts.items()
        for each in ast.walk(ast.parse(text))
        if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)
    ]

    assert len(functions) > 2000
    assert long_files == []
    assert [each for each in functions if each[2] > 60] == []
