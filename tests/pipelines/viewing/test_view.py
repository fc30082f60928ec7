"""ks-view: what it takes, where it writes, and what it says."""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from unittest.mock import Mock

import pytest

from kinetics_sounds.pipelines import build, view
from kinetics_sounds.pipelines.viewing import media, page, sets

from ...shards.sets import make, upload
from ..conftest import Folder
from ..publishing import builds
from . import made


def test_a_build_s_page_says_what_its_manifest_says(page_of_build: Path) -> None:
    columns = made.columns(page_of_build)
    by_key = {each.clip.key: each for each in made.outcomes()}

    assert sorted(columns["key"]) == sorted(by_key)
    for key, status, label, split, seconds in zip(
        *(columns[name] for name in ("key", "status", "label", "split", "duration_seconds")), strict=True
    ):
        outcome = by_key[key]
        assert (status, label, split) == (outcome.status.value, outcome.clip.label, outcome.clip.split)
        assert outcome.media is None or seconds == pytest.approx(outcome.media.duration_seconds, abs=0.005)


def test_embedded_clips_are_small_films_with_the_picture_of_their_sound(page_of_build: Path) -> None:
    columns, embedded = made.columns(page_of_build), made.document(page_of_build, "media")

    assert len(embedded) == 3
    assert {columns["status"][each["row"]] for each in embedded} == {"ok"}
    assert {columns["where"][each["row"]] for each in embedded} == {"in this page"}
    assert all(each["video"].startswith("data:video/mp4;base64,") and len(each["video"]) < 80_000 for each in embedded)
    assert all(each["mel"].startswith("data:image/png;base64,iVBOR") for each in embedded)


def test_links_lead_from_the_page_to_the_clips(page_of_build: Path) -> None:
    columns = made.columns(page_of_build)
    paths = [file.replace("\0", key) for file, key in zip(columns["file"], columns["key"], strict=True) if file]

    assert len(paths) == 7
    assert all((page_of_build.parent / path).is_file() for path in paths)


def test_links_lead_there_from_another_folder_too(tmp_path: Path) -> None:
    builds.write(tmp_path / "build", made.outcomes(), labels=made.LABELS)

    assert view.main([str(tmp_path / "build"), "--embed", "0", "--out", str(tmp_path / "pages/all.html")]) == 0

    patterns = {file for file in made.columns(tmp_path / "pages/all.html")["file"] if file}
    assert patterns == {f"../build/clips/{n} #?%/\0.mp4" for n in (0, 1, 2)} - {"../build/clips/2 #?%/\0.mp4"}


def test_a_sample_shows_as_many_classes_as_it_can_and_is_the_same_for_the_same_seed(tmp_path: Path) -> None:
    many = [builds.outcome(builds.clip(n, label=builds.LABELS[0 if n < 90 else 1 + n % 2])) for n in range(100)]
    builds.write(tmp_path, many)
    found = [sets.read(tmp_path)]

    drawn = [[row.label for _, _, row in media.choose(found, 3, seed=seed)] for seed in (0, 0, 1)]
    numbers = [[number for number, _, _ in media.choose(found, 6, seed=seed)] for seed in (0, 0, 1)]

    assert all(set(labels) == set(builds.LABELS) for labels in drawn)
    assert numbers[0] == numbers[1] != numbers[2]


def test_a_folder_that_cannot_be_written_to_is_told_before_any_clip_is_embedded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    builds.write(tmp_path, [builds.outcome(builds.clip(0))])
    asked = Mock(return_value=iter(()))
    monkeypatch.setattr(media, "embed", asked)

    assert view.main([str(tmp_path), "--out", "/proc/pages/view.html"]) == 2

    asked.assert_not_called()
    assert "/proc/pages" in capsys.readouterr().err


def test_a_page_that_fails_on_the_way_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    builds.write(tmp_path / "build", [builds.outcome(builds.clip(0))])

    def broken(**_: object) -> bytes:
        raise ValueError("no page")

    monkeypatch.setattr(page, "html_of", broken)
    (tmp_path / "pages").mkdir()

    assert view.main([str(tmp_path / "build"), "--embed", "0", "--out", str(tmp_path / "pages/view.html")]) == 4

    assert list((tmp_path / "pages").iterdir()) == []


def test_a_clip_that_cannot_be_embedded_is_named_and_the_page_is_written(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    builds.write(tmp_path, [builds.outcome(builds.clip(0))])

    assert view.main([str(tmp_path), "--json"]) == 1

    assert f"not embedded: {builds.clip(0).key}: " in caplog.text
    told = json.loads(capsys.readouterr().out)
    assert told == {
        "file": str(tmp_path / "view.html"),
        "clips": 1,
        "embedded": 0,
        "failed": 1,
        "bytes": (tmp_path / "view.html").stat().st_size,
    }


def test_what_is_whole_as_it_is_gets_its_page_beside_it(tmp_path: Path) -> None:
    folder = builds.published(tmp_path, builds.outcomes(5))
    before = sorted(folder.rglob("*"))

    assert view.main([str(folder)]) == 0
    assert view.main([str(tmp_path / "build/manifest.parquet"), "--embed", "0"]) == 0

    assert sorted(folder.rglob("*")) == before
    assert (tmp_path / "out.html").is_file()
    assert (tmp_path / "build/manifest.html").is_file()


def test_pages_of_folders_that_differ_after_a_dot_have_names_of_their_own(tmp_path: Path) -> None:
    for name in ("k3.1", "k3.2"):
        assert view.main([str(make(tmp_path / name, (1,))), "--embed=0"]) == 0

    assert sorted(path.name for path in tmp_path.glob("*.html")) == ["k3.1.html", "k3.2.html"]


def test_a_set_at_a_url_gets_its_page_here_without_clips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path / "sets/k3", (2, 1))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")

    assert view.main([f"file://{tmp_path}/sets/k3"]) == 0

    assert made.columns(Path("k3.html"))["key"] == ["k_0", "k_1", "k_2"]
    assert made.document(Path("k3.html"), "media") == []
    header = Path("k3.html").read_text().partition("<noscript>")[0]
    assert "Only its indexes were read, so its clips cannot be played here." in header
    assert "embedded" not in header


def test_a_secret_of_a_url_is_not_in_its_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = upload(make(tmp_path / "set", (1,)), "memory://ann:WORD@host/k3")
    monkeypatch.chdir(tmp_path)

    assert view.main([url]) == 0

    assert "WORD" not in (tmp_path / "k3.html").read_text()


def test_a_set_at_the_root_of_a_host_gets_a_page_with_a_name_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = upload(make(tmp_path / "set", (1,)), "memory://root-of-a-host")
    monkeypatch.chdir(tmp_path)

    assert view.main([url]) == 0

    assert [path.name for path in tmp_path.glob("*.html")] == ["view.html"]


def told(page: Path) -> str:
    """The last line below a page's title: which clips can be played."""
    return page.read_text().partition("<noscript>")[0].rpartition("<p>")[2].partition("</p>")[0]


def test_a_page_says_which_clips_can_be_played(page_of_build: Path, tmp_path: Path) -> None:
    assert told(page_of_build) == (
        "Embedded, small, with mel-spectrograms: 3 clips, a sample drawn with seed 0. "
        "Played from their files, found relative to this page, without a mel-spectrogram: 4 clips."
    )
    folder = page_of_build.parent
    assert view.main([str(folder), f"--out={tmp_path / 'all.html'}"]) == 0
    assert told(tmp_path / "all.html") == "Embedded, small, with mel-spectrograms: all clips with a file."
    published = builds.published(tmp_path, builds.outcomes(5))
    assert view.main([str(published)]) == 0
    assert told(tmp_path / "out.html") == "Their files are not here, so no clip can be played."
    assert view.main([str(make(tmp_path / "shards", (1,))), "--embed=0"]) == 0
    assert told(tmp_path / "shards.html") == "Only in the shards: 1 clip; --embed embeds more."


def test_the_page_of_a_relative_path_is_named_relatively(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make(tmp_path / "sets/k3", (1,))
    monkeypatch.chdir(tmp_path)

    assert view.main(["sets/k3", "--embed=0"]) == 0
    monkeypatch.chdir(tmp_path / "sets/k3")
    assert view.main([".", "--embed=0"]) == 0

    said = [line for line in capsys.readouterr().out.splitlines() if line.startswith("view: ")]
    assert said == ["view: sets/k3.html", f"view: {tmp_path}/sets/k3.html"]


def test_several_paths_make_one_table_that_says_which_is_which(tmp_path: Path) -> None:
    for name, count in (("a", 3), ("b", 5)):
        builds.write(tmp_path / name, builds.outcomes(count))

    argv = [str(tmp_path / "a"), str(tmp_path / "b"), "--embed", "0", "--out", str(tmp_path / "both.html")]
    assert view.main(argv) == 0

    assert Counter(made.columns(tmp_path / "both.html")["set"]) == {str(tmp_path / "a"): 3, str(tmp_path / "b"): 5}


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["."], "is not a manifest, build, shard set, published folder or run"),
        (["--run", "."], "is not a training run (run.json or metrics.jsonl is missing)"),
        ([], "nothing matches data/*/manifest.parquet here; make it with ks-build"),
        (["--embed", "501"], "--embed 501: must be from 0 to 500"),
        (["--timeout", "0"], "--timeout 0: must be more than 0 seconds"),
        (["--out", "report"], "--out report: is not an HTML file"),
        (["--out", "no/x/v.html"], "--out no/x/v.html: there is no folder no; make it, or correct that"),
    ],
)
def test_misuse_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], argv: list[str], said: str
) -> None:
    monkeypatch.chdir(tmp_path)

    assert view.main(argv) == 2
    assert said in capsys.readouterr().err


def test_help_comes_without_the_readers_of_tables() -> None:
    code = (
        "import sys; from kinetics_sounds.pipelines import view; "
        "print([name for name in ('pandas', 'pyarrow', 'torch') if name in sys.modules])"
    )

    shown = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=60)

    assert shown.stdout == "[]\n"


def test_a_real_build_s_page_counts_what_its_report_counts(folder: Folder, tmp_path: Path) -> None:
    argv = ["--classes", str(folder.classes), "--annotations", str(folder.annotations), "--workers", "1"]
    assert build.main([*argv, "--source", f"local:{folder.videos}", "--out", str(tmp_path / "B")]) == 1

    assert view.main([str(tmp_path / "B"), "--embed", "1"]) == 0

    report, columns = json.loads((tmp_path / "B/report.json").read_text()), made.columns(tmp_path / "B/view.html")
    assert Counter(columns["status"]) == report["statuses"]
    coverage = Counter(zip(columns["split"], columns["label"], strict=True))
    assert {
        (split, label): each["annotated"]
        for split, classes in report["coverage"].items()
        for label, each in classes.items()
    } == coverage


def test_the_file_of_the_source_is_told_where_there_is_one(tmp_path: Path) -> None:
    names = {}
    for name, origin in (("own", "camB/IMG_1.mp4"), ("youtube", "")):
        path = builds.write(tmp_path / name, [builds.outcome(builds.clip(1), origin=origin)])
        assert view.main([str(path.parent), "--embed=0", f"--out={tmp_path / name}.html"]) == 0
        names[name] = {column["name"] for column in made.document(tmp_path / f"{name}.html")["columns"]}

    assert names["own"] - names["youtube"] == {"origin"}
