"""What is taken over from the documents of a published folder, which may be a stranger's."""

import json
from pathlib import Path
from typing import Any

import pytest

from kinetics_sounds.pipelines import list_origin

PAGE, LICENSE = "https://example.org/k32", "https://creativecommons.org/licenses/by/4.0/"


def folder(path: Path, fingerprints: Any, croissant: Any) -> Path:
    for name, document in (("fingerprints.json", fingerprints), ("croissant.json", croissant)):
        (path / name).write_text(document if isinstance(document, str) else json.dumps(document))
    return path


def test_the_documents_name_the_set_its_creator_and_its_license(tmp_path: Path) -> None:
    croissant = {
        "creator": {"name": "A. Author"},
        "url": PAGE,
        "license": LICENSE,
        "description": "more",
        "creditText": "the list a.csv",
    }
    said = list_origin.of_folder(folder(tmp_path, {"name": "k32", "version": "1.2.0"}, croissant))

    who = {"name": "k32", "version": "1.2.0", "creator": "A. Author", "url": PAGE, "license": LICENSE}
    assert said == who | {"made_from": "the list a.csv"}


@pytest.mark.parametrize("broken", ["", "{", "[]", "1", "[" * 100_000])
def test_a_broken_document_says_nothing(broken: str, tmp_path: Path) -> None:
    assert list_origin.of_folder(folder(tmp_path, {"version": "1.0.0"}, broken)) == {
        "name": tmp_path.name,
        "version": "1.0.0",
    }
    assert list_origin.of_folder(folder(tmp_path, broken, {"url": PAGE})) == {"name": tmp_path.name, "url": PAGE}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("creator", "two\nlines"),
        ("creator", "\x1b[31mred"),
        ("creator", "\ud800"),
        ("creator", " "),
        ("creator", 7),
        ("url", "javascript:alert(1)"),
        ("url", "file:///etc/passwd"),
        ("url", "https://user:word@example.org/"),
        ("url", "https://example.org/<script>"),
        ("url", "https://example.org/" + "a" * 500),
        ("license", "urn:mine"),
        ("url", [PAGE]),
    ],
    ids=repr,
)
def test_what_is_no_line_of_text_or_no_web_page_is_left_out(name: str, text: object) -> None:
    assert list_origin.checked({"name": "k32", name: text, "other": "text"}) == {"name": "k32"}


def test_a_long_text_is_cut() -> None:
    assert list_origin.checked({"creator": "a" * 1000}) == {"creator": "a" * 200}
    assert list_origin.checked({"made_from": "a" * 3000}) == {"made_from": "a" * 2000}
