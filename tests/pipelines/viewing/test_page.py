"""The page is one file that needs no network, allows none, and runs nothing but its own scripts."""

import base64
import hashlib
import re
from html.parser import HTMLParser
from importlib import resources
from pathlib import Path

import pytest

from kinetics_sounds.pipelines import viewing
from kinetics_sounds.pipelines.viewing import page

from .made import HOSTILE, document

VOID = {"meta", "wbr"}


class Parsed(HTMLParser):
    """Which tags occur, what the scripts and styles hold, and that each tag is closed in its turn."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.inside: list[tuple[str, str]] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ("script", "style") and data.strip():
            self.inside.append((self.open[-1], data))


def written(tmp_path: Path, text: str, *, runs: bool = False) -> str:
    path = tmp_path / "view.html"
    told = {"columns": [], "count": 0, "sets": [{"name": text}], "runs": [{"name": text}] if runs else []}
    path.write_bytes(page.html_of(title=text, lines=[text], document=told, media=[text]))
    return path.read_text("utf-8")


def test_a_title_breaks_between_its_words_first(tmp_path: Path) -> None:
    assert "<h1>runs/<wbr>a_<wbr>&lt;b</h1>" in written(tmp_path, "runs/a_<b")


def test_hostile_strings_add_no_tag_and_come_back_as_they_were(tmp_path: Path) -> None:
    hostile, plain = (Parsed(written(tmp_path, text)) for text in (HOSTILE, "plain"))

    assert [tag for tag, _ in hostile.tags if tag != "wbr"] == [tag for tag, _ in plain.tags]
    assert not [attrs for _, attrs in hostile.tags if any(name.startswith("on") for name in attrs)]
    written(tmp_path, HOSTILE)
    assert document(tmp_path / "view.html")["sets"] == [{"name": HOSTILE}]
    assert document(tmp_path / "view.html", "media") == [HOSTILE]


@pytest.mark.parametrize("runs", [False, True])
def test_the_policy_names_every_script_and_style_by_its_hash_and_no_other_origin(tmp_path: Path, runs: bool) -> None:
    parsed = Parsed(written(tmp_path, "plain", runs=runs))
    (policy,) = (attrs["content"] for _, attrs in parsed.tags if attrs.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))

    def hashes(kind: str) -> list[str]:
        found = [data for tag, data in parsed.inside if tag == kind and not data.startswith(("{", "["))]
        digests = (base64.b64encode(hashlib.sha256(each.encode()).digest()).decode() for each in found)
        return [f"'sha256-{digest}'" for digest in digests]

    assert rules["script-src"].split() == hashes("script")
    assert len(hashes("script")) == 1 + runs
    assert rules["style-src"].split() == hashes("style")
    assert rules["default-src"] == rules["base-uri"] == rules["form-action"] == "'none'"
    assert rules["img-src"] == "data:"
    assert rules["media-src"] == "data: file: 'self'"
    assert "unsafe" not in policy
    assert "connect-src" not in rules


def test_nothing_is_loaded_from_anywhere(tmp_path: Path) -> None:
    parsed = Parsed(written(tmp_path, "plain", runs=True))

    assert not [attrs for _, attrs in parsed.tags if attrs.keys() & {"src", "href"}]
    urls = [url for _, data in parsed.inside for url in re.findall(r"https?://[^\s\"')]+", data)]
    assert urls == ["https://github.com/leeoniya/uPlot"]  # in the comment that names its licence's owner


def test_no_asset_ends_its_own_element_or_makes_html_of_text() -> None:
    ours = [*page.SCRIPTS, *page.STYLES]
    for name in (*ours, *page.PLOTS, *page.PLOT_STYLES):
        text = resources.files(viewing).joinpath("assets", name).read_text("utf-8")
        assert not re.search(r"</(script|style)|<!--", text, flags=re.IGNORECASE)
        if name in ours:
            assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function", text)


def test_nan_and_infinity_are_refused() -> None:
    with pytest.raises(ValueError, match="Out of range float"):
        page.html_of(title="", lines=[], document={"count": float("nan")}, media=[])
