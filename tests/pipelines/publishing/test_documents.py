"""Card, datasheet, citation: complete, and nothing that a label or a name holds does anything in them."""

import csv
import json
import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from kinetics_sounds import classes
from kinetics_sounds.clip import Clip, Status
from kinetics_sounds.clip_names import ANOTHER_FILE, ONE_OF_SEVERAL, SPAN_ALONE
from kinetics_sounds.extras import pip_install
from kinetics_sounds.pipelines.publishing import check, contents, markdown, tables
from kinetics_sounds.pipelines.publishing.origin import KINETICS, OWN, YOUTUBE, origin_of

from .builds import clip, outcome, outcomes, published

HOSTILE = (
    "<script>alert(1)</script>",
    '=HYPERLINK("http://evil.example","x")',
    "'=escaped",
    "../../etc/passwd",
    "a | b",
    "[x](javascript:alert(1))",
    "![](http://evil.example/x.png)",
    "www.evil.example",
    "**bold** `code` @someone",
    "\u202eesrever",
    '"quoted", comma',
    "${jndi} {{x}}",
    "---",
)


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = [outcome(clip(n, label=label)) for n, label in enumerate(HOSTILE)]
    folder = tmp_path_factory.mktemp("hostile")
    note = "<img src=x onerror=alert(1)> ---\n# heading \u202e"
    options = ["--creator", "</script><b>\u202eA: 'Name'\"", "--name", "evil"]
    return published(folder, made, *options, labels=HOSTILE, name='"><b>\nx', note=note)


def test_hostile_labels_come_back_as_they_are(hostile: Path) -> None:
    rows = list(contents.rows_of(hostile))
    assert {str(row["label"]) for row in rows} == set(HOSTILE)
    assert classes.read(str(hostile / "classes.txt")).labels == HOSTILE
    assert list(check.check(hostile, with_croissant=False)) == []


def test_no_cell_of_a_csv_is_a_formula(hostile: Path) -> None:
    for split in contents.splits_of(hostile):
        with contents.csv_path(hostile, split).open(newline="") as text:
            labels = [row["label"] for row in csv.DictReader(text)]
        assert [label for label in labels if label.startswith(("=", "+", "-", "@"))] == []


@pytest.mark.parametrize("name", ["README.md", "DATASHEET.md", "LICENSE.md", "CHANGES.md"])
def test_nothing_in_markdown_is_html_a_link_or_hidden(hostile: Path, name: str) -> None:
    text = (hostile / name).read_text("utf-8")
    assert not re.search(r"<[a-zA-Z/!]", text)
    assert "\u202e" not in text
    links = re.findall(r"(?<!\\)\]\(([^)]*)\)", text)
    assert all(link.startswith("https://creativecommons.org/") for link in links)
    assert not re.search(r"(?<![\\\w/.])(https?://|www\.)evil", text)
    rows = [line for line in text.splitlines() if line.startswith("|")]
    heads = {line.replace(r"\|", "").count("|") for line in rows}
    assert heads <= {4, 5}


@pytest.mark.parametrize(
    ("name", "shown"),
    [("k32", "`k32`"), ("my_list v2", "`my_list v2`"), ("my_list`x", r"my\_list\`x"), ("<b>", "&lt;b&gt;"), (" ", " ")],
)
def test_a_name_is_shown_as_it_is(name: str, shown: str) -> None:
    assert markdown.code(name) == shown


def test_the_head_of_the_card_is_what_the_hub_reads(hostile: Path, tmp_path: Path) -> None:
    for folder, name in ((hostile, "evil"), (published(tmp_path, outcomes(), note=classes.NOTES["k100"]), "few")):
        text = (folder / "README.md").read_text("utf-8")
        _, head, body = text.split("---\n", 2)
        read = yaml.safe_load(head)
        assert read["pretty_name"] == name
        assert read["license"] == "cc-by-4.0"
        [config] = read["configs"]
        assert [each["path"] for each in config["data_files"]] == [
            f"splits/{split}.parquet" for split in contents.splits_of(folder)
        ]
        assert all((folder / each["path"]).is_file() for each in config["data_files"])
        assert ("reconstruction" in body) == (name == "few")
        for word in ("ks-build --clips FOLDER", "Fingerprints", "To have a row removed", "no media"):
            assert word in body


def test_json_and_yaml_hold_texts_and_nothing_else(hostile: Path) -> None:
    croissant = json.loads((hostile / "croissant.json").read_text())
    assert "\u202e" not in json.dumps(croissant, ensure_ascii=False)
    assert croissant["license"] == "https://creativecommons.org/licenses/by/4.0/"
    assert {field["name"] for field in croissant["recordSet"][1]["field"]} == set(tables.COLUMNS)
    citation = yaml.safe_load((hostile / "CITATION.cff").read_text("utf-8"))
    assert citation["authors"] == [{"name": "</script><b>U+202EA: 'Name'\""}]


def test_the_citation_has_all_that_cff_1_2_asks_for(tmp_path: Path) -> None:
    out = published(tmp_path, outcomes(), "--date", "2026-11-28", "--creator", "A. Name")
    read = yaml.safe_load((out / "CITATION.cff").read_text())

    assert {"cff-version", "message", "title", "authors"} <= set(read)
    assert (read["cff-version"], read["type"], read["version"]) == ("1.2.0", "dataset", "1.0.0")
    assert read["date-released"] == "2026-11-28"
    assert read["license"] == "CC-BY-4.0"
    assert "references" not in read  # clips of nobody's list


# --- Where the clips come from ----------------------------------------------------------------------------------------


def of(origin: str, folder: Path, *options: str, code: int = 0) -> Path:
    """The published folder of three clips of Kinetics, of other YouTube videos, or of one's own files."""
    labels = ("bowling", "archery") if origin == "kinetics" else ("dog barking", "bowling")
    names = (
        ("door-17", "dQw4w9WgXcQ", "video_00001") if origin == "own" else ("dQw4w9WgXcQ", "jNQXAC9IVRw", "9bZkp7q19f0")
    )
    made = [outcome(Clip(name, 0, 10, labels[n % 2], "train")) for n, name in enumerate(names)]
    return published(folder, made, *options, code=code, labels=labels, name="mine")


NAMES = ("README.md", "DATASHEET.md", "LICENSE.md", "CITATION.cff", "croissant.json")


@pytest.mark.parametrize(
    ("origin", "title", "words"),
    [
        (
            "kinetics",
            "Kinetics-Sounds mine",
            {"Kinetics", "youtube.com/t/terms", "YouTube", "Creative Commons Attribution 4.0."},
        ),
        ("youtube", "mine", {"youtube.com/t/terms", "YouTube"}),
        ("own", "mine", set()),
    ],
)
def test_documents_name_kinetics_and_youtube_only_where_the_clips_are_theirs(
    origin: str, title: str, words: set[str], tmp_path: Path
) -> None:
    out = of(origin, tmp_path)
    texts = {name: (out / name).read_text().replace("kinetics-sounds", "").replace("youtube_id", "") for name in NAMES}

    told = {
        word
        for word in ("Kinetics", "youtube.com/t/terms", "YouTube", "Creative Commons Attribution 4.0.")
        if any(word in text.replace("Kinetics-Sounds", "Kinetics") for text in texts.values())
    }
    assert told == words
    assert f"# {title}, version 1.0.0\n" in texts["README.md"].replace("\\", "")
    assert yaml.safe_load(texts["CITATION.cff"])["title"] == title
    assert ("references" in yaml.safe_load(texts["CITATION.cff"])) == (origin == "kinetics")
    assert json.loads(texts["croissant.json"])["name"] == ("-mine" if origin == "kinetics" else "mine")
    assert ("usageInfo" in json.loads(texts["croissant.json"])) == (origin != "own")
    assert list(check.check(out, with_croissant=False)) == []


@pytest.mark.parametrize("origin", ["kinetics", "own"])
def test_the_card_of_own_videos_is_rebuilt_from_their_folder(origin: str, tmp_path: Path) -> None:
    """ks-build without a source would ask YouTube for them."""
    card = (of(origin, tmp_path) / "README.md").read_text()

    own = (
        " --source local:DIR    # DIR has the videos; whole videos: add --local.trimmed no; files that are the clips "
        "themselves: --local.trimmed yes"
    )
    assert f"\n{pip_install(comment=True)}\nks-build --clips FOLDER{own if origin == 'own' else ''}\n" in card


@pytest.mark.parametrize(("origin", "youtube"), [("kinetics", True), ("own", False)])
def test_media_are_told_of_in_the_words_of_their_origin(
    origin: str, youtube: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    of(origin, tmp_path, "--media", code=2)  # there are no files to copy: refused after the warning

    said = capsys.readouterr().err
    assert "--media: The folder `clips/` contains media. " in said
    assert ("YouTube" in said) == youtube


def clips(ids: Iterable[str], label: str = "bowling") -> list[Clip]:
    return [Clip(name, 0, 10, label, "train") for name in ids]


REAL = [f"{number:010d}A" for number in range(100)]
"""IDs as YouTube's are."""


def test_one_odd_id_takes_nothing_from_what_is_said_of_kinetics() -> None:
    mixed = origin_of(map(outcome, [*clips(REAL), *clips(["door-17"])]))

    assert (mixed.prefix, mixed.of, mixed.cites_kinetics) == (
        "Kinetics-Sounds ",
        " of Kinetics and of other videos",
        True,
    )
    assert mixed.terms == KINETICS.terms
    assert mixed.rights == f"Of Kinetics: {KINETICS.rights} Of other videos: {OWN.rights}"
    assert KINETICS.removal in mixed.removal
    assert mixed.media == f"Of Kinetics: {KINETICS.media}; Of other videos: {OWN.media}"


def test_a_mixture_is_published_with_the_texts_of_each(tmp_path: Path) -> None:
    made = [outcome(each) for each in (*clips(["dQw4w9WgXcQ", "jNQXAC9IVRw"]), *clips(["door-17"]))]
    out = published(tmp_path, made, labels=("bowling",), name="mine")

    assert "The clips of Kinetics and of other videos in the dataset" in (out / "README.md").read_text()
    assert all(each.rights in (out / "LICENSE.md").read_text() for each in (KINETICS, OWN))
    assert "references" in yaml.safe_load((out / "CITATION.cff").read_text())
    assert list(check.check(out, with_croissant=False)) == []


@pytest.mark.parametrize(
    ("made", "of"),
    [
        ([], OWN.of),
        (
            clips(f"video_{number:05d}" for number in range(100)),
            OWN.of,
        ),  # a third ends in a letter that YouTube's may have
        (clips(REAL), KINETICS.of),
        (clips(REAL, "dog barking"), YOUTUBE.of),
        (
            [*clips(REAL[:60]), *clips(REAL[60:], "building sandcastle")],
            " of Kinetics and of YouTube videos",
        ),  # Kinetics-700
        (
            [*clips(REAL[:20]), *clips(REAL[20:], "dog barking")],
            YOUTUBE.of,
        ),  # as VGGSound, which has some of the labels
        ([*clips(REAL, "dog barking"), *clips(["door-17"] * 9)], " of YouTube videos and of other videos"),
    ],
)
def test_the_origin_is_that_of_the_clips(made: list[Clip], of: str) -> None:
    assert origin_of(map(outcome, made)).of == of


@pytest.mark.parametrize(
    ("names", "source", "of"),
    [
        ([REAL[0], "door-17"], "local:videos", ""),  # one file of one's own whose name looks like an ID
        ([REAL[0], "door-17", "door-18"], "youtube", " of Kinetics and of other videos"),
    ],
)
def test_a_name_like_an_id_is_youtubes_if_the_clip_was_asked_there(names: list[str], source: str, of: str) -> None:
    assert origin_of(replace(outcome(each), source=source) for each in clips(names)).of == of


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        (["youtube"], ""),
        (["local:videos"], ""),  # videos of YouTube, wherever this copy was
        (["cvdf:https://example.org", "youtube"], " --source cvdf --source youtube"),
    ],
)
def test_the_card_of_youtubes_videos_tells_where_all_can_get_them(asked: list[str], told: str, tmp_path: Path) -> None:
    made = [replace(outcome(each), source=source) for each, source in zip(clips(REAL), asked, strict=False)]
    card = (published(tmp_path, made, labels=("bowling",)) / "README.md").read_text()

    assert f"\nks-build --clips FOLDER{told}\n" in card


def test_clips_whose_files_name_is_not_unique_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = f"{ANOTHER_FILE} too_short"  # such as a broken copy in another container
    remarks = [ONE_OF_SEVERAL, f"{SPAN_ALONE}; {other}; {ONE_OF_SEVERAL}", SPAN_ALONE, "", other]
    made = [replace(outcome(clip(n)), detail=detail) for n, detail in enumerate(remarks)]
    made.append(replace(outcome(clip(5), Status.TOO_SHORT), detail=f"{ONE_OF_SEVERAL}, of a clip that is not there"))
    told = "2 ok clips are of a file whose name another, different file had too: rebuilt elsewhere, it may be the other one"

    assert f"\n{told}.\n" in (published(tmp_path / "a", made) / "README.md").read_text()
    assert f"manifest.parquet: {told}\n" in capsys.readouterr().err
    assert "whose name" not in (published(tmp_path / "b", made[2:]) / "README.md").read_text()


LEAKING = ((0, "train"), (10, "val"))
"""Start and split of the clips of each video."""


def test_videos_in_several_splits_are_told_in_card_and_datasheet(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = [outcome(Clip(name, start, 10 + start, "bowling", split)) for name in "ab" for start, split in LEAKING]
    told = "2 videos have clips in more than one split (such as a: train, val), so scores may be too high"
    one = published(tmp_path / "one", made, labels=("bowling",))
    assert f"manifest.parquet: {told}; ks-publish check" in capsys.readouterr().err

    several = [replace(made[0], detail=ONE_OF_SEVERAL), *made[1:]]
    two = published(tmp_path / "two", several, labels=("bowling",))
    for out, more in ((one, ""), (two, "; 1 of these may be several videos of one name")):
        assert f"\n{markdown.escape(told + more)}.\n" in (out / "README.md").read_text()
        assert f" Yes, those of the files. {markdown.escape(told + more)}.\n" in (out / "DATASHEET.md").read_text()
    none = published(tmp_path / "none", made[:1], labels=("bowling",))
    assert "more than one split" not in (none / "README.md").read_text() + (none / "DATASHEET.md").read_text()


def test_the_same_bytes_under_two_labels_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, other, same = clip(0), clip(1), clip(3)
    assert one.label == same.label
    published(tmp_path / "a", [outcome(one, sha256="0" * 64), outcome(same, sha256="0" * 64), outcome(other)])
    assert "bytes" not in capsys.readouterr().err

    out = published(tmp_path / "b", [outcome(one, sha256="0" * 64), outcome(other, sha256="0" * 64)])
    told = (
        f"clips with the same bytes have different labels: {one.key}, {other.key}; ks-publish check {out} lists them\n"
    )
    assert told in capsys.readouterr().err


@pytest.mark.parametrize("origin", ["kinetics", "own"])
def test_the_card_says_what_a_selection_identifies(origin: str, tmp_path: Path) -> None:
    card = (of(origin, tmp_path) / "README.md").read_text()

    assert (
        "*selection* is equal if and only if two datasets have the same keys with the same labels in the same" in card
    )
    assert ("is a video on YouTube and its span" in card) == (origin == "kinetics")
    assert ("is a file's name and its span, whatever the file shows" in card) == (origin == "own")


def test_card_and_datasheet_say_that_clips_may_be_linked(tmp_path: Path) -> None:
    out = published(tmp_path, outcomes())

    assert "by decoding and encoding, or linked if a file already was the span;" in (out / "README.md").read_text()
    assert "by decoding and encoding (or linked, if a file already was the span)" in (out / "DATASHEET.md").read_text()


def test_the_datasheet_guesses_no_uses(tmp_path: Path) -> None:
    assert (
        "**What else could it be used for?** Not known."
        in (published(tmp_path, outcomes()) / "DATASHEET.md").read_text()
    )


def test_the_datasheet_has_the_headings_of_its_authors(tmp_path: Path) -> None:
    text = (published(tmp_path, outcomes()) / "DATASHEET.md").read_text()
    assert re.findall(r"(?m)^## (.*)$", text) == [
        "Motivation",
        "Composition",
        "Collection process",
        "Preprocessing, cleaning, labeling",
        "Uses",
        "Distribution",
        "Maintenance",
    ]
    assert "Not known." in text


@settings(deadline=None)
@given(st.text())
def test_an_escaped_text_has_no_mark_left(text: str) -> None:
    escaped = markdown.escape(text)
    assert not re.search(r"[<>\"\n\r\u202e]", escaped)
    assert not re.search(r"(?<!\\)(?:\\\\)*[`*_\[\]|]", escaped)
    assert escaped.isprintable() or set(escaped) - {" "}


@settings(deadline=None, max_examples=30)
@given(
    st.lists(
        st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"], exclude_characters="#"), min_size=1)
        .map(str.strip)
        .filter(lambda label: label and not tables.label_fault(label)),
        min_size=1,
        max_size=4,
    )
)
def test_any_label_goes_through_csv_and_parquet(labels: list[str]) -> None:
    import tempfile

    rows = [tables.row_of(outcome(clip(n, label=label)), n) for n, label in enumerate(labels)]
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "a.csv"
        assert tables.write(path, rows) == len(rows)
        assert list(tables.read_csv(path)) == list(tables.read_parquet(path.with_suffix(".parquet"))) == rows
