from pathlib import Path

import pytest

from kinetics_sounds.classes import ClassList
from kinetics_sounds.clip import Clip
from kinetics_sounds.errors import AnnotationError, ClassListError
from kinetics_sounds.pipelines.fetching.plan import overlapping, plan

HEAD = "label,youtube_id,time_start,time_end,split\n"
CLASSES = ClassList("two", ("b", "a"))


def lists(folder: Path, *texts: str) -> list[Path]:
    paths = [folder / f"{number}.csv" for number in range(len(texts))]
    for path, text in zip(paths, texts, strict=True):
        path.write_text(HEAD + text)
    return paths


def test_clips_come_by_split_then_label_in_the_lists_order_then_key(tmp_path: Path) -> None:
    paths = lists(tmp_path, "a,z,0,10,val\na,y,0,10,train\nb,x,0,10,train\nb,w,0,10,train\n")

    keys = [clip.youtube_id for clip in plan(CLASSES, paths, splits=("train", "val")).clips]

    assert keys == ["w", "x", "y", "z"]


def test_a_clip_that_two_lists_tell_alike_counts_once(tmp_path: Path) -> None:
    paths = lists(tmp_path, "a,x,0,10,val\nb,y,0,10,val\nc,y,0,10,val\n", "a,x,0,10,validate\nb,y,0,10,train\n")

    planned = plan(CLASSES, paths, splits=("val",))

    assert (len(planned.clips), planned.repeated) == (2, 1)
    assert plan(CLASSES, paths[:1], splits=("val",), limit=1).repeated == 0


@pytest.mark.parametrize("other", ["b,x,0,10,val", "a,x,0,10,train"])
def test_a_clip_that_two_rows_tell_differently_is_refused_with_both_places(tmp_path: Path, other: str) -> None:
    paths = lists(tmp_path, "a,x,0,10,val\nb,y,0,10,val\n", other + "\n")

    with pytest.raises(AnnotationError, match=r"1\.csv:2: x_000000_000010 .*0\.csv:2"):
        plan(CLASSES, paths, splits=("train", "val"))


def test_a_label_that_no_list_knows_is_refused_with_the_closest(tmp_path: Path) -> None:
    paths = lists(tmp_path, "playing guitar,x,0,10,val\n")

    with pytest.raises(ClassListError, match=r"'playing gitar' \(did you mean 'playing guitar'\?\)"):
        plan(ClassList("mine", ("playing gitar",)), paths, splits=("val",))


def test_labels_that_no_list_knows_are_refused_beside_those_that_it_has(tmp_path: Path) -> None:
    paths = lists(tmp_path, "".join(f"{label},x{label},0,10,val\n" for label in "hgfedcba"))

    with pytest.raises(ClassListError) as refused:
        plan(ClassList("mine", ("drum", "a", "cello")), paths, splits=("val",))

    assert str(refused.value) == (
        "class list mine: the annotations have no label 'drum', 'cello'; they have 'a', 'b', 'c', 'd', 'e' and 3 more; "
        "correct the spelling, or remove from the list what has no rows"
    )


def test_a_label_that_is_another_word_is_not_suggested(tmp_path: Path) -> None:
    paths = lists(tmp_path, "drumming,x,0,10,val\n")

    with pytest.raises(
        ClassListError, match=r"have no label 'dog barking'; they have 'drumming'; .* remove from the list"
    ):
        plan(ClassList("mine", ("dog barking", "drumming")), paths, splits=("val",))


def test_nothing_left_is_refused(tmp_path: Path) -> None:
    paths = lists(tmp_path, "a,x,0,10,val\nb,y,0,10,val\n")

    with pytest.raises(AnnotationError, match="no clip of two in train"):
        plan(CLASSES, paths, splits=("train",))


def test_a_larger_limit_keeps_what_a_smaller_one_had(tmp_path: Path) -> None:
    rows = "".join(f"{label},{label}{number},0,10,train\n" for label in "ab" for number in range(20))
    paths = lists(tmp_path, rows)

    few = set(plan(CLASSES, paths, splits=("train",), limit=5).clips)
    more = set(plan(CLASSES, paths, splits=("train",), limit=9).clips)
    each = plan(CLASSES, paths, splits=("train",), per_class=3).clips

    assert len(few) == 5
    assert few < more
    assert [clip.label for clip in each] == ["b"] * 3 + ["a"] * 3


def test_overlapping_clips_of_two_classes_are_told_by_video() -> None:
    def dog(name: str, start: int, end: int) -> Clip:
        return Clip(name, start, end, "dog", "train")

    def cat(name: str, start: int, end: int) -> Clip:
        return Clip(name, start, end, "cat", "train")

    fine = [dog("a", 0, 2), cat("a", 2, 4), dog("b", 0, 4), dog("b", 2, 6), dog("c", 0, 2), cat("d", 1, 3)]
    long = [dog("e", 0, 20), cat("e", 12, 14), dog("e", 3, 5), cat("e", 8, 9)]

    assert overlapping(fine) == ""
    assert overlapping([*fine, *long]) == (
        "1 video with overlapping clips of two classes, one of which may be wrong: "
        "e_000000_000020 'dog' and e_000008_000009 'cat'"
    )
    four = [clip for name in "fghi" for clip in (dog(name, 0, 2), cat(name, 1, 3))]
    assert overlapping(four).startswith("4 videos with overlapping clips")
    assert overlapping(four).endswith("h_000000_000002 'dog' and h_000001_000003 'cat' and 1 more")
    assert overlapping([*four, Clip("x", 0, 2, "dog", "train", other_labels=("cat",))]) == ""
