"""Keys name clips both ways, and every status is of one kind."""

import pickle
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kinetics_sounds.clip import SPLITS, Clip, Kind, Media, Outcome, Status, label_folder, parse_key

IDS = st.from_regex(r"[A-Za-z0-9_-]{1,64}", fullmatch=True)
MEDIA = Media(
    path="clips/bowling/a_000001_000011.mp4",
    bytes=1,
    sha256="0" * 64,
    duration_seconds=10.0,
    fps=30.0,
    width=340,
    height=256,
    num_frames=300,
    audio_rate=44_100,
    audio_channels=2,
    audio_rms_db=-20.0,
    audio_offset_seconds=0.013,
    silent=False,
    still=True,
    other_streams="1 video, 2 audio",
    rotation=90,
    decode_errors=3,
)


def clip(youtube_id: str = "5JzkrOVhPOw", start: int = 27, end: int = 37, split: str = "val") -> Clip:
    return Clip(youtube_id, start, end, "bowling", split)


# --- Keys -------------------------------------------------------------------------------------------------------------


def test_a_key_is_the_mirrors_own_name() -> None:
    assert clip().key == "5JzkrOVhPOw_000027_000037"


@pytest.mark.parametrize("youtube_id", ["-abc", "--", "_", "a_000001_000011", "000001_000002_000003", "x" * 64])
def test_a_key_is_read_back_as_it_was_made(youtube_id: str) -> None:
    assert parse_key(clip(youtube_id, 0, 999_999).key) == (youtube_id, 0, 999_999)


@given(youtube_id=IDS, start=st.integers(0, 999_998), seconds=st.integers(1, 20))
def test_any_key_is_read_back_as_it_was_made(youtube_id: str, start: int, seconds: int) -> None:
    made = clip(youtube_id, start, min(start + seconds, 999_999))

    assert parse_key(made.key) == (youtube_id, made.time_start, made.time_end)
    assert "." not in made.key


@given(text=st.text(max_size=40))
def test_what_is_read_as_a_key_spells_the_same_key_again(text: str) -> None:
    found = parse_key(text)

    if found:
        assert f"{found[0]}_{found[1]:06d}_{found[2]:06d}" == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "5JzkrOVhPOw",
        "5JzkrOVhPOw_27_37",
        "_000027_000037",
        "5JzkrOVhPOw_000027_000037.mp4",
        "5JzkrOVhPOw_000027_000037\n",
        "../5JzkrOVhPOw_000027_000037",
        "5Jzk OVhPOw_000027_000037",
        "5JzkrOVhPOw_\u0660\u0660\u0660\u0660\u0662\u0667_000037",  # digits, but Arabic ones
    ],
)
def test_what_is_no_key_is_none(text: str) -> None:
    assert parse_key(text) is None


# --- Clips ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "youtube_id",
    ["", "a b", "a/b", "../a", "a.b", "a\n", "a\0", "é", "a;rm", "$(a)", "a%(title)s", "{youtube_id}", "x" * 65],
)
def test_a_clip_refuses_an_id_that_could_not_name_a_file(youtube_id: str) -> None:
    with pytest.raises(ValueError, match="is not a video ID"):
        clip(youtube_id)


@pytest.mark.parametrize(("start", "end"), [(-1, 9), (10, 10), (11, 10), (0, 1_000_000)])
def test_a_clip_refuses_what_is_no_span(start: int, end: int) -> None:
    with pytest.raises(ValueError, match=f"{start} to {end} is not a valid span in seconds"):
        clip(start=start, end=end)


@pytest.mark.parametrize("split", ["", "validate", "VAL", "dev"])
def test_a_clip_refuses_a_split_and_lists_the_valid_ones(split: str) -> None:
    with pytest.raises(ValueError, match="is not a split \\(one of train, val, test\\)"):
        clip(split=split)


@pytest.mark.parametrize("label", ["two\nlines", "tab\there", "nothing\0", "\x1bcolour"])
def test_a_clip_refuses_a_label_that_would_be_two_lines_or_columns(label: str) -> None:
    """As a fingerprint's line it could say what two other clips do."""
    with pytest.raises(ValueError, match="control character"):
        Clip("abc", 0, 10, label, "val")


def test_a_clip_is_as_long_as_its_span() -> None:
    assert clip(start=27, end=37).seconds == 10


def test_splits_are_three() -> None:
    assert SPLITS == ("train", "val", "test")


# --- Folders ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("label", "folder"),
    [
        ("playing piano", "playing piano"),
        ("tango dancing (couples), slow & 'blue'", "tango dancing (couples), slow & 'blue'"),
        ("../x", "_x"),
        ("a/b", "a_b"),
        ("a\\b", "a_b"),
        ("..", "_"),
        (".", "_"),
        ("", "_"),
        ("   ", "_"),
        (".hidden", "hidden"),
        ('say "hi"\n', "say _hi__"),
        ("a\0b", "a_b"),
        ("jouer du cor français", "jouer du cor français"),
        ("\ud800", "_"),
    ],
)
def test_a_label_becomes_one_harmless_folder_name(label: str, folder: str) -> None:
    assert label_folder(label) == folder


@given(label=st.text(max_size=300))
def test_any_label_names_a_folder_that_can_be_made_and_lies_inside(label: str) -> None:
    folder = label_folder(label)

    assert 1 <= len(folder.encode()) <= 100
    assert not set(folder) & set('/\\\0\n\r"*?<>|:')
    assert folder == folder.strip(". ")
    assert (Path("/clips") / folder).parent == Path("/clips")


def test_a_label_of_wide_letters_still_fits_a_file_system(tmp_path: Path) -> None:
    (tmp_path / label_folder("漢" * 300)).mkdir()  # 100 of them were 300 bytes, and 255 is the most

    assert label_folder("漢" * 300) == "漢" * 33


# --- Statuses ---------------------------------------------------------------------------------------------------------

KINDS = {
    Kind.OK: "ok",
    Kind.PERMANENT: "private removed account_terminated geo_blocked age_restricted login_required unavailable live "
    "no_video no_audio too_short corrupt too_large bad_aspect out_of_sync",
    Kind.RETRY: "not_tried not_in_source occupied unreadable dubbed no_formats network http_4xx http_5xx truncated timeout "
    "crashed",
    Kind.BLOCKED: "disk_full bot_check rate_limited",
}


def test_the_list_of_statuses_is_closed_and_each_is_of_one_kind() -> None:
    assert {kind: {status.value for status in Status if status.kind is kind} for kind in Kind} == {
        kind: set(names.split()) for kind, names in KINDS.items()
    }
    assert len(Status) == len(" ".join(KINDS.values()).split())


@pytest.mark.parametrize("status", Status)
def test_a_status_is_its_own_text_and_is_found_by_it(status: Status) -> None:
    assert status == status.value == str(status)
    assert Status.of(status.value) is status


@pytest.mark.parametrize("status", Status)
def test_a_status_keeps_its_kind_on_the_way_between_processes(status: Status) -> None:
    arrived = pickle.loads(pickle.dumps(status))

    assert arrived is status
    assert arrived.kind is status.kind


def test_what_a_status_says_of_another_try_and_of_its_source() -> None:
    outages = {"network", "http_5xx", "timeout"}

    assert {status.value for status in Status if status.is_outage} == outages
    assert {status.value for status in Status if status.is_transient} == outages | {"http_4xx", "truncated", "crashed"}
    assert {status.value for status in Status if status.is_refusal} == {"bot_check", "rate_limited"}
    assert {status.value for status in Status if status.is_blocking} == outages | {
        "bot_check",
        "rate_limited",
        "disk_full",
    }


@pytest.mark.parametrize(("word", "named"), [("timeout", True), ("retry", True), ("stop", False), ("network", False)])
def test_a_status_is_named_by_itself_or_by_its_kind(word: str, named: bool) -> None:
    assert Status.TIMEOUT.is_named({word}) is named


@pytest.mark.parametrize("text", ["", "OK", "gone", "permanent"])
def test_what_is_no_status_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a status"):
        Status.of(text)


# --- Outcomes ---------------------------------------------------------------------------------------------------------


def test_an_ok_clip_without_a_file_cannot_be() -> None:
    with pytest.raises(ValueError, match="status ok with media None"):
        Outcome(clip=clip(), status=Status.OK)


@pytest.mark.parametrize("status", [status for status in Status if status is not Status.OK])
def test_a_clip_that_is_not_ok_has_no_file(status: Status) -> None:
    with pytest.raises(ValueError, match=f"status {status} with media"):
        Outcome(clip=clip(), status=status, media=MEDIA)


def test_an_outcome_survives_the_way_between_processes() -> None:
    outcome = Outcome(clip=clip(), status=Status.OK, detail="é", source="local:/a", media=MEDIA, tool_versions="av 18")

    assert pickle.loads(pickle.dumps(outcome)) == outcome


def test_times_to_the_millisecond_are_in_the_key() -> None:
    clip = Clip("abc", 1.5, 4, "zumba", "train")

    assert (clip.key, clip.seconds) == ("abc_000001500_000004000", 2.5)
    assert Clip("abc", 1.0, 4.0, "zumba", "train") == Clip("abc", 1, 4, "zumba", "train")
    assert repr(Clip("abc", 1.0, 4.0, "zumba", "train").time_start) == "1"


@pytest.mark.parametrize("seconds", [0.0005, 1.00001])
def test_a_fraction_of_a_millisecond_is_refused(seconds: float) -> None:
    with pytest.raises(ValueError, match="is not in whole milliseconds"):
        Clip("abc", seconds, 4, "zumba", "train")


@pytest.mark.parametrize("name", ["a.b", "a/b", "ä", "k" * 93, "a b"])
def test_a_name_that_could_not_be_in_a_tar_is_no_key(name: str) -> None:
    with pytest.raises(ValueError, match="is not a key"):
        Clip("", 0, 1, "zumba", "all", name=name)


def test_a_clip_has_an_id_or_a_name() -> None:
    assert Clip("", 0, 1, "zumba", "all", name="-x_" + "k" * 89).key == "-x_" + "k" * 89
    with pytest.raises(ValueError, match="is not a key"):
        Clip("abc", 0, 1, "zumba", "all", name="k")
