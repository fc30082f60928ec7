"""Each published list's format is recognised as itself alone, and its rows say what they say."""

import csv
import io
import os
import pickle
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kinetics_sounds import files, lists, plugins
from kinetics_sounds.clip import Clip
from kinetics_sounds.errors import ListError, SettingsError
from kinetics_sounds.lists import Entry

ID = "-aB3_567890"
PUBLISHED = "label,youtube_id,time_start,time_end,split,key,status,label_index,bytes,sha256"
SAMPLES: dict[str, list[list[str]]] = {  # by format, lists of it as they lie in the wild
    "kinetics": [
        ["label,youtube_id,time_start,time_end,split,is_cc", f"abseiling,{ID},417,427,val,0"],
        ["label,youtube_id,time_start,time_end,split", f"abseiling,{ID},417,427,validate"],
        ["youtube_id,time_start,time_end,split", f"{ID},417,427,test"],
        ['"label","youtube_id","time_start","time_end","split"', f'"a, b","{ID}","0","10","train"'],
        ["label,youtube_id,time_start,time_end,split,source", f"abseiling,{ID},,,train,x"],
    ],
    "ogm_ge": [[f"{ID}_000058_000068,10,4", f"{ID}_000000_000010,10,30"], [f"{ID}_2,10,23", f"{ID}_37,10,16"]],
    "ogm_ge_followers": [
        [f"{ID}_000058_000068 4"],
        [f"{ID}_58 4", f"{ID}_0 0"],
        [f"train/a/{ID}_000058_000068 4"],
        [f"{ID}_000058_000068 10 4", f"{ID}_000058_000068 10 5"],
        [f"visual/{ID}_000058_000068 audio/x.wav 10 4"],
        [f"{ID} 4"],
    ],
    "crisscross": [[f"playing_xylophone/{ID}_000005_000015.avi", f"hurling_(sport)/{ID}_000005_000015.avi"]],
    "mmaction2": [
        [f"abseiling/{ID}_000005_000015.mp4 0"],
        [f"{ID}_000005_000015.mp4 0"],
        [f"tap dancing/{ID}_000005_000015.mp4 299 0"],
        [f"abseiling/{ID}_000005_000015 299 0", f"a/b/{ID}_000005_000015 8 0"],
    ],
    "vggsound": [
        [f"{ID},30,people marching,train", f'{ID},000001,"alligators, crocodiles hissing",test'],
        [f"{ID},30,alligators, crocodiles hissing,train"],
    ],
    "audioset": [
        [
            "# Segments csv created Sun Mar  5 10:54:31 2017",
            "# num_ytids=1, num_segs=1, num_unique_labels=2, num_positive_labels=2",
            "# YTID, start_seconds, end_seconds, positive_labels",
            f'{ID}, 30.000, 40.000, "/m/09x0r,/t/dd00088"',
        ]
    ],
    "published": [[PUBLISHED, f"abseiling,'{ID},417,427,val,'{ID}_000417_000427,ok,0,9,{'0' * 64}"]],
    "csv_with_key": [
        ["key", f"{ID}_000058_000068"],
        ["note,key,split,label", f"'=x(),'{ID}_000058_000068,val,abseiling"],
        [",key,label,split", f"0,{ID}_000058_000068,abseiling,val"],  # as pandas' to_csv() writes it
    ],
}


def write(folder: Path, lines: Sequence[str], *, end: str = "\n", name: str = "list.txt", mark: str = "") -> Path:
    path = folder / name
    path.write_bytes((mark + end.join([*lines, ""])).encode())
    return path


def entries(path: Path) -> list[Entry]:
    return list(lists.read(lists.recognise(path)))


def said(entry: Entry) -> tuple[object, ...]:
    return (
        entry.youtube_id,
        entry.time_start,
        entry.time_end,
        entry.labels or entry.folder,
        entry.label_index,
        entry.split,
    )


# --- Recognising ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "sample"), [(name, each) for name, all_ in SAMPLES.items() for each in all_])
def test_a_list_is_of_one_format(name: str, sample: list[str], tmp_path: Path) -> None:
    path = write(tmp_path, sample)

    fitting = [each for each in lists.formats() if plugins.load("kinetics_sounds.lists", each).fits(sample)]

    assert fitting == [name]
    assert lists.recognise(path).format == name
    assert [entry.trouble for entry in entries(path)] == [""] * len(entries(path))


def test_every_format_has_a_sample_and_a_name_of_its_own() -> None:
    """A module that is imported takes the place of whatever has its name in the package."""
    assert set(SAMPLES) == set(lists.formats())
    assert all(isinstance(getattr(lists, name), ModuleType) for name in SAMPLES)


@pytest.mark.parametrize("name", SAMPLES)
@pytest.mark.parametrize(("end", "mark"), [("\r\n", ""), ("\n", "\ufeff"), ("  \n", ""), ("\n\n \n", "\ufeff")])
def test_line_ends_marks_blanks_and_blank_lines_change_nothing(name: str, end: str, mark: str, tmp_path: Path) -> None:
    for number, sample in enumerate(SAMPLES[name]):
        plain = entries(write(tmp_path, sample, name=f"{number}.txt"))
        other = entries(write(tmp_path, sample, end=end, mark=mark, name=f"{number}_other.txt"))

        assert list(map(said, other)) == list(map(said, plain))


@pytest.mark.parametrize(
    "lines",
    [
        ["hello 5"],
        ["Some words about a list, 5"],
        ["a,b,c"],
        ["label,id,start"],
        ["abseiling"],
        ["../../etc/passwd 3"],
        [f"{ID}_000058_000068,10,4", "and a comment"],
        [f"{ID}_000058_000068,10,4", f"{ID}_000058_000068 4"],
        ["# a comment", f"{ID}, 30.000, 40.000, /m/09x0r"],
        [f"{ID},30,people marching,dev"],
        ["key;label", f"{ID}_000058_000068;a"],
        ["{}"],
        ["<script>alert(1)</script> 4"],
    ],
)
def test_what_is_of_no_format_is_refused_with_all_of_them(lines: list[str], tmp_path: Path) -> None:
    with pytest.raises(
        ListError, match=r"list\.txt: has an unknown format: it begins with .*\n  audioset: ID"
    ) as error:
        lists.recognise(write(tmp_path, lines))

    assert ("';'" in str(error.value)) == (";" in lines[0])


@pytest.mark.parametrize("text", ["", "\n \n"])
def test_an_empty_list_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text(text)

    with pytest.raises(ListError, match="is empty"):
        lists.recognise(tmp_path / "list.txt")


def test_a_format_that_is_insisted_on_must_fit(tmp_path: Path) -> None:
    path = write(tmp_path, SAMPLES["ogm_ge_followers"][0])

    assert lists.recognise(path, name="ogm_ge_followers").format == "ogm_ge_followers"
    with pytest.raises(
        ListError, match=r"does not have --clips_format ogm_ge: it begins with .*, not ID_000027_000037,10,23"
    ):
        lists.recognise(path, name="ogm_ge")
    with pytest.raises(SettingsError, match=r"no list is called 'ogmge'.*ogm_ge"):
        lists.recognise(path, name="ogmge")


def test_a_pickle_is_refused_and_never_opened(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return Path.touch, (tmp_path / "sprung",)  # type: ignore[return-value]

    np.save(tmp_path / "avcil.npy", np.array({"a": Trap()}, dtype=object), allow_pickle=True)
    np.savez(tmp_path / "avcil.npz", a=np.zeros(1))
    (tmp_path / "new.pkl").write_bytes(pickle.dumps({"a": Trap()}, protocol=4))
    (tmp_path / "old.pkl").write_bytes(pickle.dumps({"a": 1}, protocol=0))

    for name in ("avcil.npy", "avcil.npz", "new.pkl", "old.pkl"):
        with pytest.raises(
            ListError, match=f"{name}: is .* pickle.* can run any program when it is read: it is not opened"
        ):
            lists.recognise(tmp_path / name)
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"PAR1....", "Parquet"),
        (b"\x1f\x8b\x08", "gzip"),
        ("key\n".encode("utf-16"), "UTF-16"),
        (b"k\0e\0y\0", "UTF-16 or not text"),
        (b"key\nna\xefve\n", "not UTF-8"),
        (b"key," + b"x" * (lists.MAX_LINE + 9), "a line of more than 65536 characters"),
    ],
)
def test_what_is_no_text_is_refused(data: bytes, why: str, tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_bytes(data)

    with pytest.raises(ListError, match=why):
        entries(tmp_path / "list.csv")


def test_a_list_has_a_bounded_length(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, ["key", *(f"{ID}_{n:06d}_000999" for n in range(5))])
    monkeypatch.setattr(lists, "MAX_ROWS", 4)
    with pytest.raises(ListError, match="more than 4 rows"):
        entries(path)
    monkeypatch.setattr(lists, "MAX_BYTES", 10)
    with pytest.raises(ListError, match="is larger than"):
        entries(path)


def test_a_cell_longer_than_csv_allows_is_refused(tmp_path: Path) -> None:
    """A quote that is never closed: the lines behind it are one cell."""
    long = ["a" * 60_000] * 5
    for begin in (
        *(SAMPLES[name][0] for name in ("audioset", "vggsound", "kinetics", "published", "csv_with_key")),
        [],
    ):
        path = write(tmp_path, [*begin, f'{ID},0,10,"', *long])

        with pytest.raises(ListError, match=r"list\.txt"):
            entries(path)


def test_a_pipe_is_refused_and_never_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.csv")
    with pytest.raises(ListError, match=r"pipe\.csv: it is a named pipe; write its output to a file"):
        lists.recognise(tmp_path / "pipe.csv")

    reading, writing = os.pipe()  # what a shell gives for <(command)
    try:
        with pytest.raises(ListError, match="it is a named pipe"):
            lists.recognise(Path(f"/dev/fd/{reading}"))
    finally:
        os.close(reading)
        os.close(writing)


def test_a_missing_list_and_a_url_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ListError, match=r"none\.txt: there is no such list"):
        lists.recognise(tmp_path / "none.txt")
    with pytest.raises(ListError, match="download the list and give its path"):
        lists.find("https://example.org/list.csv")
    with pytest.raises(ListError, match="without splits"):
        lists.find(str(tmp_path))


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("my_train.txt", "train"),
        ("my_test.txt", "test"),
        ("validate.csv", "val"),
        ("eval_segments.csv", "test"),
        ("kinetics-400_val.csv", "val"),
        ("train_and_test.txt", ""),
        ("training.txt", "train"),
        ("trainer.txt", ""),
        ("list.txt", ""),
        ("latest.txt", ""),
    ],
)
def test_a_file_s_name_tells_its_split_by_a_whole_word(name: str, split: str) -> None:
    assert lists.split_of(Path(name)) == split


@pytest.mark.parametrize(
    ("name", "left"),
    [("my_train", "my"), ("ks.test.list", "ks.list"), ("train", ""), ("k400-val_31", "k400_31"), ("x", "x")],
)
def test_the_word_of_the_split_goes_from_a_name(name: str, left: str) -> None:
    assert lists.without_split(name) == left


# --- Rows -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "number", "expected"),
    [
        ("kinetics", 0, (ID, 417, 427, ("abseiling",), None, "val")),
        ("kinetics", 1, (ID, 417, 427, ("abseiling",), None, "val")),
        ("kinetics", 2, (ID, 417, 427, None, None, "test")),
        ("kinetics", 3, (ID, 0, 10, ("a, b",), None, "train")),
        ("kinetics", 4, (ID, None, None, ("abseiling",), None, "train")),
        ("ogm_ge", 0, (ID, 58, 68, None, 4, None)),
        ("ogm_ge", 1, (ID, 2, None, None, 23, None)),
        ("ogm_ge_followers", 2, (ID, 58, 68, None, 4, None)),
        ("ogm_ge_followers", 4, (ID, 58, 68, None, 4, None)),
        ("ogm_ge_followers", 5, (ID, None, None, None, 4, None)),
        ("crisscross", 0, (ID, 5, 15, "playing_xylophone", None, None)),
        ("mmaction2", 2, (ID, 5, 15, None, 0, None)),
        ("vggsound", 1, (ID, 30, 40, ("alligators, crocodiles hissing",), None, "train")),
        ("audioset", 0, (ID, 30, 40, ("/m/09x0r", "/t/dd00088"), None, None)),
        ("published", 0, (ID, 417, 427, ("abseiling",), None, "val")),
        ("csv_with_key", 0, (ID, 58, 68, None, None, None)),
        ("csv_with_key", 1, (ID, 58, 68, ("abseiling",), None, "val")),
        ("csv_with_key", 2, (ID, 58, 68, ("abseiling",), None, "val")),
    ],
)
def test_a_row_says_what_it_says(name: str, number: int, expected: tuple[object, ...], tmp_path: Path) -> None:
    assert said(entries(write(tmp_path, SAMPLES[name][number]))[0]) == expected


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        (f"{ID}_000001_000011", (ID, 1, 11)),
        (f"a/b/{ID}_000001_000011.mp4", (ID, 1, 11)),
        (f"{ID}_5", (ID, 5, None)),
        ("abcdefghijk_27_37", ("abcdefghijk", 27, 37)),
        ("a/___________7_000037.mp4", ("___________7", 37, None)),  # of twelve letters: no id of a video
        ("_____12_345_6_70", ("_____12_345", 6, 70)),
        (ID, (ID, None, None)),
        ("abcdefgh_12", ("abcdefgh_12", None, None)),  # of the length of an id
        ("abcde_12345_6", ("abcde_12345", 6, None)),
        ("x_000001_000011", ("x", 1, 11)),
        ("-_000001_000002", ("-", 1, 2)),
    ],
)
def test_a_name_is_taken_apart(name: str, parts: tuple[object, ...]) -> None:
    assert lists.parse_name(name) == parts


@pytest.mark.parametrize("name", ["", "a b", "..", "a.b_000001_000011", "é", "a" * 65, "x\n"])
def test_what_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="is not a clip's name"):
        lists.parse_name(name)


@pytest.mark.parametrize(
    ("row", "trouble"),
    [
        ("a,../../x,0,10,val", "is not a video ID"),
        ("a,<script>,0,10,val", "is not a video ID"),
        ("a,x y,0,10,val", "rename a file with a blank in its name"),
        ("a,x.mp4,0,10,val", "leave the extension off"),
        ("a,,0,10,val", "is not a video ID"),
        (f"a,{ID},10,0,val", "10 to 0 is not a valid span"),
        (f"a,{ID},0.5,10,val", "'0.5' is not a whole number"),
        (f"a,{ID},nan,10,val", "'nan' is not a whole number"),
        (f"a,{ID},-1,10,val", "'-1' is not a whole number"),
        (f"a,{ID},0,1e9,val", "'1e9' is not a whole number"),
        (f"a,{ID},soon,10,val", "soon"),
        (f"a,{ID},0,10,dev", "split 'dev' is none of train"),
        (f"a,{ID},0,10", "the row has too few cells"),
        (f"a,b,{ID},0,10,val", "the row has too many cells"),
        (f'"a\nb",{ID},0,10,val', "a line end"),
    ],
)
def test_a_row_that_names_no_clip_says_why_and_the_others_are_read(row: str, trouble: str, tmp_path: Path) -> None:
    good = f"a,{ID},0,10,val"
    first, bad, last = entries(write(tmp_path, ["label,youtube_id,time_start,time_end,split", good, row, good]))

    assert (first.trouble, last.trouble) == ("", "")
    assert trouble in bad.trouble


@pytest.mark.parametrize(
    ("lines", "where"),
    [
        ([*SAMPLES["ogm_ge"][0], *[f"{ID}_1,10,1"] * 60, "nonsense"], ":63:"),
        ([*SAMPLES["ogm_ge_followers"][0], *[f"{ID}_1 1"] * 60, "nonsense"], ":62:"),
        ([*SAMPLES["crisscross"][0], *[f"a/{ID}_000005_000015.avi"] * 60, "nonsense"], ":63:"),
        ([*SAMPLES["mmaction2"][0], *[f"{ID}_1.mp4 1"] * 60, "nonsense"], ":62:"),
        ([*SAMPLES["vggsound"][0], *[f"{ID},1,a,train"] * 60, "nonsense"], ":63:"),
        ([*SAMPLES["audioset"][0], *[f"{ID}, 1.0, 2.0, x"] * 60, "nonsense"], ":65:"),
        ([*SAMPLES["csv_with_key"][0], f'"{ID}'], ":3:"),
    ],
)
def test_a_line_of_another_shape_is_refused_with_its_place(lines: list[str], where: str, tmp_path: Path) -> None:
    with pytest.raises(ListError, match=f"{where} is not a row of the format"):
        entries(write(tmp_path, lines))


def test_a_published_row_must_hold_together(tmp_path: Path) -> None:
    rows = [
        f"a,{ID},1,11,val,{ID}_000001_000012,ok,0,9,00",
        f"a,{ID},1,11,val,{ID}_000001_000011,,0,9,00",
        f"a,{ID},1,11,,{ID}_000001_000011,ok,0,9,00",
        f"a,{ID},1,11,val,{ID}_000001_000011,private,0,,",
    ]
    found = entries(write(tmp_path, [PUBLISHED, *rows]))

    assert [bool(each.trouble) for each in found] == [True, True, True, False]
    assert found[3].status == "private"


def test_a_column_labels_of_somebody_s_own_is_told_to_be_renamed(tmp_path: Path) -> None:
    found = entries(write(tmp_path, [f"{PUBLISHED},labels", f"a,{ID},1,11,val,{ID}_000001_000011,ok,0,9,00,outdoors"]))

    assert "if the column `labels` is your own, rename it" in found[0].trouble


# --- Anything ---------------------------------------------------------------------------------------------------------

ids = st.from_regex(r"[A-Za-z0-9_-]{11}", fullmatch=True)
spans = st.tuples(st.integers(0, 999_998), st.integers(1, 999_999)).filter(lambda span: span[0] < span[1])
texts = st.text(st.characters(exclude_categories=("Cs", "Cc", "Zl", "Zp")), min_size=1).map(str.strip).filter(bool)


@given(
    youtube_id=ids, span=spans, folder=st.sampled_from(["", "a/", "a/b c/"]), end=st.sampled_from(["", ".mp4", ".wav"])
)
def test_any_key_is_read_back_from_any_path(youtube_id: str, span: tuple[int, int], folder: str, end: str) -> None:
    key = Clip(youtube_id, *span, "a", "val").key

    assert lists.parse_name(f"{folder}{key}{end}") == (youtube_id, *span)
    assert lists.parse_name(f"{folder}{youtube_id}_{span[0]}_{span[1]}{end}") == (youtube_id, *span)
    assert lists.parse_name(f"{folder}{youtube_id}_{span[0]}{end}") == (youtube_id, span[0], None)
    assert lists.parse_name(f"{folder}{youtube_id}{end}") == (youtube_id, None, None)


@settings(deadline=None)
@given(label=texts, youtube_id=ids, span=spans, split=st.sampled_from(["train", "val", "test"]))
def test_any_row_is_read_back(
    label: str, youtube_id: str, span: tuple[int, int], split: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.getbasetemp()
    key = Clip(youtube_id, *span, label, split).key
    row: dict[str, object] = {
        "label": label,
        "youtube_id": youtube_id,
        "time_start": span[0],
        "time_end": span[1],
        "split": split,
    }
    tables: dict[str, dict[str, object]] = {
        "kinetics": dict(row),
        "published": row | {"key": key, "status": "ok", "detail": label},
        "csv_with_key": {"other": label, "key": key, "label": label, "split": split},
    }
    for name, cells in tables.items():
        out = io.StringIO(newline="")
        writer = csv.DictWriter(out, list(cells))
        writer.writeheader()
        harmless = {column: files.for_people(str(cell)) for column, cell in cells.items()}
        writer.writerow(cells if name == "kinetics" and not label.startswith("'") else harmless)
        path = folder / f"{name}.csv"
        path.write_text(out.getvalue(), encoding="utf-8", newline="")
        clip_list = lists.recognise(path)
        [found] = lists.read(clip_list)

        assert clip_list.format == name
        assert said(found) == (youtube_id, *span, (label,), None, split)


@settings(deadline=None)
@given(text=st.text(max_size=200))
def test_any_text_is_read_or_refused(text: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "any.txt"
    audioset = "# x\n# YTID, start_seconds, end_seconds, positive_labels\n"
    for begin in ("", f"{ID}_1,10,4\n", "key\n", f"{PUBLISHED}\n", f"{ID},30,a,train\n", audioset):
        path.write_text(begin + text, encoding="utf-8", newline="")
        try:
            found = entries(path)
        except ListError:
            continue
        assert all(entry.trouble or entry.youtube_id for entry in found)
