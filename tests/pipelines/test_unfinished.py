"""What a build has still to do, as the commands after it tell."""

from pathlib import Path

import pytest

from kinetics_sounds import files, manifest
from kinetics_sounds.clip import Status
from kinetics_sounds.pipelines import publish
from kinetics_sounds.pipelines.unfinished import unfinished

from .publishing.builds import clip, outcome, published, write

STOPPED = [outcome(clip(0)), *(outcome(clip(number), Status.NOT_TRIED) for number in range(1, 15))]
"""One clip of 15 was built, then Ctrl-C."""
TOLD = "14 of 15 clips were not tried yet; finish the build first (run the same ks-build again)"


def lines(folder: Path, *statuses: Status) -> list[str]:
    path = write(folder, [outcome(clip(number), status) for number, status in enumerate(statuses)])
    return list(unfinished(manifest.read(path), folder))


def test_clips_that_were_not_tried_or_failed_for_now_are_counted(tmp_path: Path) -> None:
    """Of a build that came to its end, what is gone or in no source is no work left."""
    assert lines(tmp_path, Status.OK, Status.PRIVATE, Status.NOT_IN_SOURCE) == []
    assert lines(tmp_path, Status.OK, Status.NOT_TRIED, Status.NETWORK, Status.NETWORK, Status.RATE_LIMITED) == [
        "1 of 5 clips was not tried yet; finish the build first (run the same ks-build again)",
        "3 of 5 clips failed for now (2 network, 1 rate_limited); the same ks-build tries them again",
    ]


def test_a_build_that_runs_is_told_while_it_holds_its_folder(tmp_path: Path) -> None:
    with files.exclusive(tmp_path, command="ks-build"):
        running = lines(tmp_path, Status.OK)

    assert running == [f"ks-build is running in {tmp_path}, and this manifest is of the run before; wait for its end"]
    assert lines(tmp_path, Status.OK) == []


def test_publishing_a_stopped_build_warns_and_names_the_next_steps(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = published(tmp_path, STOPPED)

    shown, warned = capsys.readouterr()
    assert warned == f"{tmp_path}/build/manifest.parquet: {TOLD}\n"
    steps = [line for line in shown.splitlines() if line.startswith("next")]
    assert steps == [f"next: {TOLD}", f"next: ks-publish check {out}", "next steps, for a DOI:"]


def test_publishing_tells_of_a_video_in_two_splits_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two clips of one video, of which the later is for testing."""
    first, other = clip(1, split="train"), clip(2, split="train")
    second = type(first)(first.youtube_id, 100, 110, first.label, "test")
    path = write(tmp_path, [outcome(first), outcome(second), outcome(other)])

    assert publish.main(["--manifest", str(path), "--out", str(tmp_path / "out"), "--no_hashes"]) == 0

    assert capsys.readouterr().err == (
        f"{path}: 1 video has clips in more than one split (such as {first.youtube_id}: test, train), so scores may be too "
        f"high; ks-publish check {tmp_path}/out lists them\n"
    )
