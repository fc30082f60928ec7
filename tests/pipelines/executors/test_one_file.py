"""An executor is one file of the package's folder: nothing else names it."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kinetics_sounds.pipelines import build, executors, shard

if TYPE_CHECKING:
    from ..conftest import Folder

FILE = '''"""Tasks one by one, in this process."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Options:
    """How they are carried out."""

    log: Path = Path("log")
    """File that gets a line a task."""


class Pool:
    """No process is started."""

    def __init__(self, function, *, workers, folder, options):
        self.function, self.workers, self.options, self.tasks = function, workers, options or Options(), []

    @property
    def busy(self):
        return len(self.tasks)

    def submit(self, task, *, timeout_seconds):
        self.tasks.append(task)
        with self.options.log.open("a") as log:
            print(task.clip.key, file=log)

    def finished(self, seconds):
        tasks, self.tasks = self.tasks, []
        return [(task, self.function(task)) for task in tasks]

    def close(self):
        self.tasks.clear()
'''


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An executor called `here`."""
    (tmp_path / "more").mkdir()
    (tmp_path / "more/here.py").write_text(FILE)
    monkeypatch.setattr(executors, "__path__", [*executors.__path__, str(tmp_path / "more")])
    yield
    sys.modules.pop(f"{executors.__name__}.here", None)
    vars(executors).pop("here", None)


@pytest.mark.usefixtures("here")
def test_a_new_file_builds_and_has_its_own_options(folder: "Folder", tmp_path: Path) -> None:
    (tmp_path / "one.txt").write_text("humming\n")
    (tmp_path / "one.csv").write_text("label,youtube_id,time_start,time_end,split\nhumming,-trimmed_0,7,9,val\n")
    lists = ["--classes", str(tmp_path / "one.txt"), "--annotations", str(tmp_path / "one.csv"), "--splits", "val"]
    place = ["--source", f"local:{folder.videos}", "--out", str(tmp_path / "out")]

    code = build.main([*lists, *place, "--executor", "here", "--here.log", str(tmp_path / "log")])

    assert code == 0
    assert (tmp_path / "log").read_text() == "-trimmed_0_000007_000009\n"
    assert (tmp_path / "out/clips/humming/-trimmed_0_000007_000009.mp4").is_file()


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("main", [build.main, shard.main], ids=["ks-build", "ks-shard"])
def test_help_and_refusals_name_it(main: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    shown = capsys.readouterr().out

    code = main(["--classes", "k32", "--executor", "her"] if main is build.main else ["--executor", "her"])

    assert "--executor {here,local,ray,slurm}" in shown
    assert "--here.log" in shown
    assert code == 2
    told = "--executor: 'her' is none of here, local, ray, slurm (did you mean 'here'?)"
    assert told in capsys.readouterr().err


def test_a_wrong_name_is_refused_before_anything_is_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"

    code = build.main(["--classes", str(tmp_path / "nowhere.txt"), "--out", str(out), "--executor", "slrum"])

    assert code == 2
    assert "(did you mean 'slurm'?)" in capsys.readouterr().err
    assert not out.exists()
