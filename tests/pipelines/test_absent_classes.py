"""Classes that a split lacks."""

from pathlib import Path

import pytest

from kinetics_sounds.clip import Clip, Status
from kinetics_sounds.pipelines import shard
from kinetics_sounds.pipelines.absent_classes import lines

from .publishing.builds import outcome, write


def test_each_split_with_clips_is_told_with_the_classes_that_it_lacks() -> None:
    ok = [("train", "a"), ("train", "b"), ("train", "c"), ("test", "b")]

    assert list(lines("abc", ok)) == ["test: no ok clip of 2 of 3 classes: 'a', 'c'"]
    assert list(lines("ab", ok[:2])) == []


def test_packing_tells_of_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The clip that could not be built is in no split."""
    clips = [Clip("a", 3, 13, "tapping pen", "train"), Clip("b", 3, 13, "playing drums", "train")]
    tests = [
        outcome(Clip("c", 3, 13, "playing drums", "test")),
        outcome(Clip("d", 3, 13, "tapping pen", "test"), Status.PRIVATE),
        outcome(Clip("e", 3, 13, "playing drums", "val", other_labels=("tapping pen",))),  # of both
    ]
    path = write(tmp_path, [*map(outcome, clips), *tests], labels=("playing drums", "tapping pen"))

    assert shard.main([f"--manifest={path}"]) == 2
    assert f"{path}: test: no ok clip of 1 of 2 classes: 'tapping pen'\n" in (told := capsys.readouterr().err)
    assert "val: no ok clip" not in told
