"""The shipped class lists keep their promises, and a user's own list is read or refused with a remedy."""

import csv
import subprocess
import sys
import unicodedata
from importlib import resources
from pathlib import Path

import pytest

from kinetics_sounds import classes
from kinetics_sounds.classes import ClassList
from kinetics_sounds.errors import ClassListError

SHIPPED = {"k31": 31, "k32": 32, "k100": 100, "k400": 400}


def table(name: str) -> list[dict[str, str]]:
    file = resources.files("kinetics_sounds.manifests") / "classes" / name
    return list(csv.DictReader(file.read_text("utf-8").splitlines()))


def write(folder: Path, data: str | bytes, name: str = "mine.txt") -> str:
    path = folder / name
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return str(path)


# --- What is shipped --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "size"), SHIPPED.items())
def test_a_shipped_list_has_the_size_of_its_name(name: str, size: int) -> None:
    labels = classes.read(name).labels

    assert len(labels) == len(set(labels)) == size


def test_each_shipped_list_holds_the_one_before() -> None:
    k31, k32, k100, k400 = (set(classes.read(name).labels) for name in SHIPPED)

    assert k31 < k32 < k100 < k400
    assert k32 - k31 == {"strumming guitar"}


def test_every_shipped_list_says_what_its_user_must_know() -> None:
    folder = resources.files("kinetics_sounds.manifests") / "classes"

    assert {file.name for file in folder.iterdir() if file.name.endswith(".txt")} == {f"{name}.txt" for name in SHIPPED}
    assert set(classes.NOTES) == set(SHIPPED)
    assert "34 names" in classes.read("k32").note
    assert "reconstruction" in classes.read("k100").note


def test_k100_marks_38_labels_as_facts_and_62_as_our_proposal() -> None:
    rows = table("k100.csv")
    of = {status: [row["label"] for row in rows if row["status"] == status] for status in ("fact", "proposal")}

    assert (len(of["fact"]), len(of["proposal"])) == (38, 62)
    assert len(rows) == 100
    assert set(classes.read("k32").labels) < set(of["fact"])
    assert {row["label"] for row in rows} == set(classes.read("k100").labels)


def test_the_table_of_the_34_names_gives_k31_and_k32() -> None:
    rows = table("ks34_to_k400.csv")

    assert len(rows) == 34
    assert {row["original_2017"] for row in rows if not row["k400_label"]} == {"typing", "patting"}
    for name in ("k31", "k32"):
        assert {row["k400_label"] for row in rows if row[f"in_{name}"] == "1"} == set(classes.read(name).labels)


# --- How a list is found ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_list_is_found_with_and_without_its_suffix(name: str, tmp_path: Path, cd: None) -> None:
    assert classes.read(name) == classes.read(f"{name}.txt")
    assert classes.read(name).name == name


def test_a_file_beats_a_shipped_name_and_has_no_note(tmp_path: Path, cd: None) -> None:
    write(tmp_path, "my own label\n", "k100.txt")

    assert classes.read("k100.txt").labels == ("my own label",)
    assert classes.read("k100.txt").note == ""
    assert len(classes.read("k100").labels) == 100


def test_a_folder_of_a_shipped_name_is_no_list(tmp_path: Path, cd: None) -> None:
    (tmp_path / "k32").mkdir()

    assert len(classes.read("k32").labels) == 32


def test_a_list_is_called_after_its_file(tmp_path: Path) -> None:
    assert classes.read(write(tmp_path, "bowling\n", "my sports.txt")).name == "my sports"


def test_a_home_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "bowling\n")
    monkeypatch.setenv("HOME", str(tmp_path))

    assert classes.read("~/mine.txt").labels == ("bowling",)


def test_the_home_of_nobody_is_an_error_of_the_user() -> None:
    with pytest.raises(ClassListError, match=r"~no-such-user/mine\.txt: there is no such class list"):
        classes.read("~no-such-user/mine.txt")


@pytest.fixture
def cd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


# --- How a list is read -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        "bowling\nplaying piano\n",
        "bowling\nplaying piano",
        "bowling\r\nplaying piano\r\n",
        "\ufeffbowling\nplaying piano\n",
        "\n\n  bowling\t\n\n# a comment\n   # another\nplaying piano # and one behind\n",
    ],
)
def test_two_labels_are_two_labels_however_the_file_is_written(data: str, tmp_path: Path) -> None:
    assert classes.read(write(tmp_path, data)).labels == ("bowling", "playing piano")


def test_labels_keep_their_order_and_their_letters(tmp_path: Path) -> None:
    assert classes.read(write(tmp_path, "zumba\nmassaging person's head\nà la carte\n")).labels == (
        "zumba",
        "massaging person's head",
        "à la carte",
    )


def test_a_label_that_stands_twice_is_named_with_both_lines(tmp_path: Path) -> None:
    place = write(tmp_path, "bowling\n# x\nzumba\n bowling \n")

    with pytest.raises(ClassListError, match=r"mine\.txt:4: label 'bowling' is already on line 1; remove one"):
        classes.read(place)


def test_all_labels_that_stand_twice_are_told_at_once_but_ten_at_most(tmp_path: Path) -> None:
    labels = [f"label {number}" for number in range(12)]
    place = write(tmp_path, "\n".join([*labels, "", "# a comment", *labels]))

    with pytest.raises(ClassListError) as caught:
        classes.read(place)
    first, *others = str(caught.value).splitlines()
    assert first == f"{place}:15: label 'label 0' is already on line 1; remove one"
    assert (len(others), others[-1]) == (10, "and 2 more")


def test_two_forms_of_unicode_are_one_label(tmp_path: Path) -> None:
    place = write(tmp_path, unicodedata.normalize("NFC", "à\n") + unicodedata.normalize("NFD", "à\n"))

    with pytest.raises(ClassListError, match=r"mine\.txt:2: label '.*' is already on line 1"):
        classes.read(place)


@pytest.mark.parametrize("data", ["", "\n\n", "# nothing but a comment\n", "\ufeff"])
def test_an_empty_list_is_refused(data: str, tmp_path: Path) -> None:
    with pytest.raises(ClassListError, match="the class list is empty; write one Kinetics label per line"):
        classes.read(write(tmp_path, data))


@pytest.mark.parametrize("data", [b"caf\xe9\n", "bowling\n".encode("utf-16")])
def test_a_list_that_is_not_utf_8_is_refused(data: bytes, tmp_path: Path) -> None:
    with pytest.raises(ClassListError, match=r"mine\.txt: cannot be read as UTF-8 text"):
        classes.read(write(tmp_path, data))


@pytest.mark.parametrize("source", ["k101", "k1000.txt", "K100"])
def test_an_unknown_name_is_told_the_valid_ones_and_the_nearest(source: str) -> None:
    with pytest.raises(ClassListError, match=r"shipped names: k100, k31, k32, k400 \(did you mean .*'k100'") as caught:
        classes.read(source)

    assert str(caught.value).startswith(f"{source}: there is no such class list; give a text file")


@pytest.mark.parametrize("source", ["", ".", "no/such/k100.txt", "/nowhere/k100"])
def test_a_path_that_is_not_there_is_not_replaced_by_a_shipped_list(source: str) -> None:
    with pytest.raises(ClassListError, match="there is no such class list"):
        classes.read(source)


def test_shipped_lists_are_found_from_any_folder(tmp_path: Path) -> None:
    code = "from kinetics_sounds import classes; print(len(classes.read('k100.txt').labels))"
    result = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)

    assert result.stdout == "100\n"


# --- AudioSet's table of its labels, as it ships ----------------------------------------------------------------------

AUDIOSET = 'index,mid,display_name\n0,/m/09x0r,"Speech"\n1,/m/05zppz,"Male speech, man speaking"\n'


def audioset(folder: Path, text: str) -> ClassList:
    path = folder / "class_labels_indices.csv"
    path.write_text(text, newline="")
    return classes.read(str(path))


@pytest.mark.parametrize("text", [AUDIOSET, AUDIOSET.replace("\n", "\r\n"), "\ufeff" + AUDIOSET, AUDIOSET + "\n"])
def test_audioset_s_names_are_the_labels_and_its_mids_their_ids(tmp_path: Path, text: str) -> None:
    found = audioset(tmp_path, text)

    assert (found.name, found.note) == ("class_labels_indices", "")
    assert found.labels == ("Speech", "Male speech, man speaking")
    assert found.ids == ("/m/09x0r", "/m/05zppz")


def test_rows_may_be_left_out_of_audioset_s_table(tmp_path: Path) -> None:
    found = audioset(tmp_path, "index,mid,display_name\n1,/m/05zppz,Male\n137,/m/04rlf,Music\n")

    assert (found.labels, found.ids) == (("Male", "Music"), ("/m/05zppz", "/m/04rlf"))


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("0,/m/04rlf,Music", r"csv:4: '0,/m/04rlf,Music' is not a row index,mid,display_name, the indices ascending"),
        ("2,/m/04rlf,Music, loud", r"csv:4: .* is not a row index,mid,display_name"),
        ("2,,Music", r"csv:4: .* is not a row"),
        ("2,/m/04rlf,", r"csv:4: .* is not a row"),
        ('2,/m/04rlf,"a\nb"', r"csv:5: .* is not a row"),
        ("2,/m/09x0r,Music", r"csv:4: label '/m/09x0r' is already on line 2"),
        ("2,/m/04rlf,Speech", r"csv:4: label 'Speech' is already on line 2"),
        ('2,/m/04rlf,"Music', r"csv:4: is not a CSV: unexpected end of data"),
    ],
)
def test_a_wrong_row_of_audioset_s_table_is_named(tmp_path: Path, row: str, said: str) -> None:
    with pytest.raises(ClassListError, match=said):
        audioset(tmp_path, f"{AUDIOSET}{row}\n")


def test_all_wrong_rows_of_audioset_s_table_are_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(ClassListError) as caught:
        audioset(tmp_path, f"{AUDIOSET}2,,Music\n3,/m/09x0r,Song\n4,/m/04rlf,\n")

    places = [line.partition(": ")[0].rpartition(":")[2] for line in str(caught.value).splitlines()]
    assert places == ["4", "5", "6"]


def test_a_text_list_of_that_name_is_read_line_by_line(tmp_path: Path) -> None:
    found = audioset(tmp_path, "Speech\nMale speech, man speaking\n")

    assert (found.labels, found.ids) == (("Speech", "Male speech, man speaking"), ())


# --- Labels that may be one -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("slip", ["claping", "clapping", "clappnig", "cllapping", "calpping"])
def test_a_lost_letter_and_two_swapped_ones_are_nearly_the_same(slip: str) -> None:
    found = classes.nearly_same(["barking", "clapping", slip])

    assert set(map(frozenset, found)) == ({frozenset(("clapping", slip))} if slip != "clapping" else set())


@pytest.mark.parametrize(
    "pair",
    [
        ("shaking head", "shaving head"),
        ("pushing car", "pushing cart"),
        ("Harmonic", "Harmonica"),
        ("Stream", "Steam"),
        ("round II", "round III"),
        ("camera 1", "camera 11"),
        ("/m/07qjznt", "/m/07qjzn"),
        ("kick_ball", "pick_ball"),
    ],
)
def test_other_classes_are_not_nearly_the_same(pair: tuple[str, str]) -> None:
    assert classes.nearly_same(pair) == []


@pytest.mark.parametrize("name", SHIPPED)
def test_no_two_classes_of_a_shipped_list_are_nearly_the_same(name: str) -> None:
    assert classes.nearly_same(classes.read(name).labels) == []


def test_classes_are_told_with_their_clips() -> None:
    told = "classes with nearly the same name: 'claping' (1 clip) and 'clapping' (20 clips)"

    assert classes.nearly_same_text({"clapping": 20, "claping": 1, "dog": 3}) == told
    assert classes.nearly_same_text({"clapping": 20, "dog": 3}) == ""
