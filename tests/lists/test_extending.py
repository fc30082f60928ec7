"""What docs/extending.md says of a format of lists, done as it says."""

from pathlib import Path

from kinetics_sounds import lists

from ..documents import EXAMPLES, installed

FORMAT = "kinetics_sounds/lists/sentences.py"


def test_a_new_format_is_one_file(tmp_path: Path) -> None:
    path = tmp_path / "train.txt"
    path.write_text("aaaaaaaaaaa from 27 to 37: bowling\n../x from 2 to 3: bowling\n")

    with installed(FORMAT, tmp_path):
        clip_list = lists.recognise(path)
        good, bad = lists.read(clip_list)

    assert (clip_list.format, clip_list.split) == ("sentences", "train")
    assert (good.youtube_id, good.time_start, good.time_end, good.labels) == ("aaaaaaaaaaa", 27, 37, ("bowling",))
    assert "is not a video ID" in bad.trouble


def test_every_example_is_used_by_a_test() -> None:
    assert [path for path in EXAMPLES if path.startswith("kinetics_sounds/lists")] == [FORMAT]
