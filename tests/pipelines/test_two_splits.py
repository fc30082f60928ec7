"""Videos whose clips stand in two splits."""

from pathlib import Path

import pytest

from kinetics_sounds.clip import Clip
from kinetics_sounds.pipelines import shard
from kinetics_sounds.pipelines.two_splits import in_two_splits

from .publishing.builds import outcome, write


def test_the_first_of_the_videos_is_named_with_all_their_splits() -> None:
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

    assert in_two_splits(clips + files) == (
        "2 videos have clips in two splits (train, val, test), such as b, so scores may be too high: see ks-publish check"
    )
    assert in_two_splits([*clips[:2], *files]) == ""


def test_packing_tells_of_them_before_it_looks_for_the_clips(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clips = [Clip("a", 3, 13, "tapping pen", "train"), Clip("a", 20, 30, "tapping pen", "test")]
    path = write(tmp_path, [outcome(each) for each in clips])

    assert shard.main([f"--manifest={path}"]) == 2

    assert f"{path}: 1 video has clips in two splits (train, test), such as a, " in capsys.readouterr().err
