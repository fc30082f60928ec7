"""A clip's name is formatted by a pattern: each clip has one of its own, and a pattern that cannot name clips is refused."""

from typing import Literal

import hypothesis
import hypothesis.strategies as st
import pytest

from kinetics_sounds.clip import Clip
from kinetics_sounds.clip_names import MAX_CHARS, MAX_DEPTH, PATTERNS, ClipNames, of_file, tail
from kinetics_sounds.errors import SettingsError

CLIP = Clip("---g-f_I2yQ", 1, 11, "people marching", "train")
IDS = st.text("ab_-0123", min_size=1, max_size=8)


def names(pattern: str = "", trimmed: Literal["auto", "yes", "no"] = "auto") -> ClipNames:
    return ClipNames(pattern, trimmed=trimmed, option="--local.names")


@st.composite
def clips(draw: st.DrawFn) -> Clip:
    start = draw(st.integers(0, 999_000) | st.integers(0, 9_990_000).map(lambda ms: ms / 1000))
    end = round(start + draw(st.sampled_from([1, 10, 0.5])), 3)
    label = draw(st.sampled_from(["a", "a/b", "playing ../x", "é", "."]))
    return Clip(draw(IDS), start, end, label, draw(st.sampled_from(["train", "val"])))


@pytest.mark.parametrize(
    ("pattern", "name"),
    [
        ("{id}", "---g-f_I2yQ"),
        ("{id}_{start:06d}", "---g-f_I2yQ_000001"),
        ("{id}_{start}_{end}", "---g-f_I2yQ_1_11"),
        ("{id}_{start_ms}_{end_ms}", "---g-f_I2yQ_1000_11000"),
        ("{id}_{start:.3f}", "---g-f_I2yQ_1.000"),
        ("{label}/{id}", "people marching/---g-f_I2yQ"),
        ("{split}/{label}/v_{id}-{end:3d}", "train/people marching/v_---g-f_I2yQ- 11"),
    ],
)
def test_a_name_is_the_pattern_with_the_clips_fields(pattern: str, name: str) -> None:
    timed = "start" in pattern or "end" in pattern

    found = names(pattern).of(CLIP)
    assert next(iter(found)) == name
    assert list(found) == list(dict.fromkeys((name, name.replace("people marching", "people_marching"))))
    assert set(found.values()) == {True if timed else None}
    assert set(names(pattern, "no").of(CLIP).values()) == {timed}
    assert names(pattern).check([CLIP]) == f"--local.names: '{pattern}', such as {name}.mp4 for {CLIP.key}"
    assert tail(f"a/b/c/{name}", names(pattern).depth) == name


def test_without_a_pattern_the_usual_names_are_known_trimmed_ones_first() -> None:
    assert names(trimmed="no").of(CLIP) == {
        "---g-f_I2yQ_000001_000011": True,
        "---g-f_I2yQ_1_11": True,
        "---g-f_I2yQ_1000_11000": True,
        "---g-f_I2yQ": False,
    }
    assert names().examples == PATTERNS
    assert names().check([CLIP, CLIP]) == ""


def test_a_time_that_is_not_in_whole_seconds_has_no_name_where_the_pattern_wants_it_whole() -> None:
    clip = Clip("abc", 1.5, 2.5, "x", "val")

    assert names("{id}_{start:06d}").of(clip) == {}
    assert names("{id}_{start:06d}").check([clip]) == "--local.names: '{id}_{start:06d}', which names none of the clips"
    assert names("{id}_{start}_{end_ms:06d}").of(clip) == {"abc_1.5_002500": True}
    assert "{id}_{start_ms}" in names().near(clip)["abc_1500"]
    assert len(names().near(clip)) == 2  # and abc_1.5


@pytest.mark.parametrize(
    ("pattern", "why"),
    [
        ("{start}", "lacks {id}"),
        ("{id}/{what}", r"has no field \{what\}.*fields: id, start, end, start_ms, end_ms, split, label"),
        ("{}", r"has no field \{\}"),
        ("{0}", r"has no field \{0\}"),
        ("{id.__class__}", r"has no field \{id.__class__\}"),
        ("{id[0]}", r"has no field \{id\[0\]\}"),
        ("{id}_{start}_{start}", r"has \{start\} twice"),
        ("{id}_{start:10d}", "has no format"),
        ("{id!r}", "has no format 'r' for {id}"),
        ("{id:>99999999999}", "has no format"),
        ("{id}{start:999999999d}", "has no format"),
        ("{id}{start:{end}}", "has no format"),
        ("{id}{start:x}", "has no format"),
        ("{id", "expected '}'"),
        ("id}", "Single '}'"),
        ("../{id}", r"must be a relative path.*it would call a first clip '../---g-f_I2yQ'"),
        ("/{id}", "must be a relative path"),
        ("{id}/", "must be a relative path"),
        ("./{id}", "must be a relative path"),
        ("a//{id}", "must be a relative path"),
        (r"a\{id}", "must be a relative path"),
        ("{id}\n", "must be a relative path"),
        ("a/b/c/d/{id}", f"is longer than {MAX_DEPTH}"),
        ("x" * 61 + "{id}", "60 characters"),
        ("{id}.MP4", "must leave out the extension"),
    ],
)
def test_a_pattern_that_cannot_name_clips_is_refused_with_an_example(pattern: str, why: str) -> None:
    with pytest.raises(SettingsError, match=why) as raised:
        names(pattern)

    assert str(raised.value).startswith("--local.names ")
    assert "'{id}_{start:06d}' calls it '---g-f_I2yQ_000001'" in str(raised.value)


def test_two_trimmed_files_of_one_name_are_refused_and_a_whole_video_is_for_all_its_clips() -> None:
    two = [Clip("abc", 1, 11, "x", "val"), Clip("abc", 1, 6, "x", "val")]

    with pytest.raises(
        SettingsError, match=r"both abc_000001_000011 and abc_000001_000006 would be abc_1; add a field"
    ):
        names("{id}_{start}").check(two)
    with pytest.raises(SettingsError, match=r"both .* would be abc;"):
        names("{id}", "yes").check(two)
    assert names("{id}").check(two).endswith("such as abc.mp4 for abc_000001_000011")
    assert names("{id}_{start}_{end}").check(two)


@hypothesis.given(
    st.lists(clips(), min_size=2, max_size=6, unique_by=lambda clip: clip.key),
    st.sampled_from(
        ["{id}_{start:06d}", "{id}_{start}_{end}", "{start}{id}", "{label}/{id}-{start_ms}", "{id}{end:.1f}"]
    ),
)
def test_clips_have_names_of_their_own_or_are_refused(several: list[Clip], pattern: str) -> None:
    naming = names(pattern)
    given = [name for clip in several for name in naming.of(clip)]
    try:
        naming.check(several)
    except SettingsError:
        assert len(set(given)) < len(given)
    else:
        assert len(set(given)) == len(given)


@hypothesis.given(
    clips(),
    st.lists(st.sampled_from(["{start}", "{end:06d}", "{end_ms}", "_", "-", " x"]), max_size=4, unique=True).map(
        "".join
    ),
    st.sampled_from(["", "{label}/", "{split}/{label}/"]),
    st.sampled_from(["", "a", "b/../c", "x" * 400]),
)
def test_a_name_leads_nowhere_and_is_found_at_the_end_of_its_own_path(
    clip: Clip, more: str, folders: str, above: str
) -> None:
    naming = names(f"{folders}{{id}}{more}")
    for name in naming.of(clip):
        assert not {"", ".", ".."}.intersection(name.split("/"))
        assert len(name) <= MAX_CHARS
        found = of_file(f"{above}/{name}.webm")
        assert found is not None
        assert tail(found[0], naming.depth) == name


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("a.mp4", "a"),
        ("./x/a.MP4", "x/a"),
        ("a.mp4.mkv", "a"),
        ("a.b.mp4", "a.b"),
        ("/1/2/3/4/5/a.ts", "3/4/5/a"),
        ("x//./y/a.mp4", "x/y/a"),
        ("../../a.mp4", "../../a"),  # a name that no clip has
        ("a.txt", None),
        ("a", None),
        (".mp4", None),
        ("mp4", None),
        ("x" * 300 + ".mp4", "x" * 300),
        ("x" * 301 + ".mp4", None),
        ("p/" + "x" * 299 + ".mp4", "x" * 299),  # as much of the path as may be kept
    ],
)
def test_a_file_is_called_by_the_end_of_its_path_without_extensions(path: str, name: str | None) -> None:
    found = of_file(path)

    assert (found and found[0]) == name
    assert found is None or found[1] == "." + path.rpartition(".")[2].lower()
