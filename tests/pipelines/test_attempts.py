"""A clip is tried twice, and only what two tries agree on is believed."""

from collections.abc import Callable
from pathlib import Path

import pytest

from kinetics_sounds.clip import Kind
from kinetics_sounds.errors import MediaError
from kinetics_sounds.media import error_status
from kinetics_sounds.media.trim import UnreadableError
from kinetics_sounds.pipelines import attempts


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    (tmp_path / "clip.mp4").write_bytes(b"a clip")
    return tmp_path / "clip.mp4"


def answers(*each: int | Exception) -> tuple[Callable[[], int], list[int | Exception]]:
    """What gives or raises these one after another, and those that it was not asked for yet."""
    left = list(each)

    def act() -> int:
        if isinstance(found := left.pop(0), Exception):
            raise found
        return found

    return act, left


@pytest.mark.parametrize(
    ("each", "found", "frames"),
    [
        ([50], 50, 50),
        ([49], 49, 0),  # how many there are is not known
        ([49, 50], 50, 50),
        ([MediaError("killed"), 50], 50, 50),
        ([MediaError("killed"), 49], 49, 0),
        ([49, 49], 49, 50),  # it was measured otherwise
    ],
)
def test_the_first_good_try_counts_or_what_two_agree_on(
    clip: Path, each: list[int | Exception], found: int, frames: int
) -> None:
    act, left = answers(*each)

    assert attempts.in_two_tries(act, clip, decoded=int, frames=frames) == found
    assert left == []


@pytest.mark.parametrize(
    ("first", "told"),
    [
        (48, "the first attempt decoded 48 frames, the second decoded 49"),
        (MediaError("x"), "the first attempt failed, the second decoded 49"),
    ],
)
def test_tries_that_are_both_no_good_and_differ_say_nothing_of_the_clip(
    clip: Path, first: int | Exception, told: str
) -> None:
    act, _ = answers(first, 49)

    with pytest.raises(UnreadableError, match=f"clip.mp4: {told}, but there are 50") as caught:
        attempts.in_two_tries(act, clip, decoded=int, frames=50)
    assert error_status.status(caught.value).kind is Kind.RETRY


def test_a_second_failure_is_the_clip_s_and_a_file_that_cannot_be_read_the_disk_s(clip: Path) -> None:
    act, left = answers(MediaError("one"), MediaError("two"), MediaError("three"))
    with pytest.raises(MediaError, match="two"):
        attempts.in_two_tries(act, clip)
    clip.unlink()
    with pytest.raises(FileNotFoundError):
        attempts.in_two_tries(act, clip)
    assert left == []
