"""Videos with clips in more than one split."""

from pathlib import Path

import pytest

from kinetics_sounds.clip import Clip
from kinetics_sounds.pipelines import shard
from kinetics_sounds.pipelines.several_splits import in_several_splits, text

from .publishing.builds import outcome, write


def test_the_first_of_the_videos_is_named_with_its_splits() -> None:
    """b is in train and test, c in train and val; a, and files of a data set, in one."""
    parts = [
        ("a", 1, "train"),
        ("c", 1, "train"),
        ("c", 2, "val"),
        ("b", 3, "train"),
        ("b", 9, "test"),
        ("a", 5, "train"),
    ]
    clips = [Clip(video, start, start + 1, "x", split) for video, start, split in parts]
    files = [Clip("", 0, 1, "x", split, name=split) for split in ("train", "test")]

    found = in_several_splits(clips + files)
    assert found == {"videos": 2, "such_as": {"b": ["test", "train"], "c": ["train", "val"]}}
    assert (
        text(found) == "2 videos have clips in more than one split (such as b: test, train), so scores may be too high"
    )
    assert in_several_splits([*clips[:2], *files]) == {}


def test_packing_tells_of_them_before_it_looks_for_the_clips(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clips = [Clip("a", 3, 13, "tapping pen", "train"), Clip("a", 20, 30, "tapping pen", "all")]
    path = write(tmp_path, [outcome(each) for each in clips])

    assert shard.main([f"--manifest={path}"]) == 2

    assert f"{path}: 1 video has clips in more than one split (such as a: all, train), " in capsys.readouterr().err
