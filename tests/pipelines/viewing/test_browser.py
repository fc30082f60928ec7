"""The page in a real browser, opened from the disk: it filters, plays, follows, saves, and asks the network for nothing."""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Dialog, Locator, Page, expect

from kinetics_sounds import lists
from kinetics_sounds.media.decode import encode_jpeg
from kinetics_sounds.pipelines import view

from ...shards.sets import make
from . import made, test_runs

pytestmark = pytest.mark.slow

KEYS = [clip.key for clip in made.clips()]


@dataclass
class Opened:
    """A page in a browser, and what it did besides showing itself."""

    page: Page
    said: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    alarms: list[str] = field(default_factory=list)

    def bar(self, group: str, name: str) -> None:
        """Press the bar that is called so."""
        self.bars(group).get_by_role("button", name=re.compile(rf"^{re.escape(name)}: ")).click()

    def bars(self, group: str) -> Locator:
        return self.page.get_by_role("group", name=group, exact=True)

    def counts(self, group: str) -> dict[str, str]:
        """What the bars of a group say."""
        labels = (
            self.bars(group).locator(".bar").evaluate_all("bars => bars.map(bar => bar.getAttribute('aria-label'))")
        )
        return {name: told for name, _, told in (label.rpartition(": ") for label in labels)}

    @property
    def told(self) -> str:
        return self.page.get_by_role("status").inner_text()

    def keys(self) -> list[str]:
        """Of the cards on the screen."""
        return self.page.locator(".card .key").all_inner_texts()


def start(browser: Browser, path: Path, hash_: str = "", **how: Any) -> Opened:
    size: Any = {"width": 1280, "height": 900}
    page = browser.new_context(**{"viewport": size, **how}).new_page()
    opened = Opened(page)
    page.on("console", lambda message: opened.said.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: opened.said.append(str(error)))
    page.on("request", lambda request: opened.asked.append(request.url))

    def alarmed(dialog: Dialog) -> None:
        opened.alarms.append(dialog.message)
        dialog.dismiss()

    page.on("dialog", alarmed)
    page.goto(path.as_uri() + hash_)
    expect(page.locator("html")).to_have_attribute("data-ready", "yes")
    return opened


def until(page: Page, holds: Callable[[], bool]) -> None:
    """Wait for up to ten seconds; the page's policy forbids playwright's own waiting for an expression."""
    for _ in range(200):
        if holds():
            return
        page.wait_for_timeout(50)
    pytest.fail("it never came to hold")


@pytest.fixture
def opened(browser: Browser, page_of_build: Path) -> Iterator[Opened]:
    """The page of the build; after each test nothing may have been complained of, run, or asked of a network."""
    found = start(browser, page_of_build)
    yield found
    assert found.said == []
    assert found.alarms == []
    assert [url for url in found.asked if not url.startswith(("file:", "data:", "blob:"))] == []
    found.page.context.close()


def test_the_bars_say_what_the_manifest_says(opened: Opened) -> None:
    assert opened.told == "10 of 10 clips"
    assert opened.counts("outcome") == {"ok": "7 clips", "private": "2 clips", "too_short": "1 clip"}
    assert opened.counts("class") == {
        "humming": "4 clips",
        "tapping pen": "3 clips",
        made.HOSTILE: "0 of 3 clips ok",
    }
    assert opened.counts("split") == {"train": "4 of 6 clips ok", "val": "1 of 2 clips ok", "test": "2 clips"}
    assert opened.counts("flags") == {"silent": "2 clips", "decode errors": "1 clip"}
    assert opened.counts("clip file") == {"in this page": "3 clips", "on disk": "4 clips", "none": "3 clips"}


def test_a_bar_filters_all_else_and_escape_lets_go(opened: Opened) -> None:
    opened.bar("outcome", "private")

    assert opened.told == "2 of 10 clips"
    assert opened.counts("outcome")["ok"] == "7 clips"  # by all other filters: it may be added to this one
    assert opened.counts("class")["humming"] == "0 clips"
    assert sorted(opened.keys()) == sorted([KEYS[2], KEYS[5]])
    opened.bar("outcome", "too_short")
    assert opened.told == "3 of 10 clips"
    opened.page.keyboard.press("Escape")
    assert opened.told == "10 of 10 clips"


def test_histograms_and_flags_filter_too_and_by_the_keyboard(opened: Opened) -> None:
    opened.bars("decode errors").get_by_role("button", name=re.compile("^3: ")).focus()
    opened.page.keyboard.press("Enter")

    assert opened.told == "1 of 10 clips"
    assert opened.keys() == [KEYS[3]]
    opened.page.keyboard.press("Enter")
    opened.bar("flags", "silent")
    assert sorted(opened.keys()) == sorted(KEYS[:2])


def test_search_finds_keys_classes_and_messages(opened: Opened) -> None:
    for text, found in (
        (KEYS[4][3:11], "1 of 10 clips"),
        ("TAPPING", "3 of 10 clips"),
        ("error:", "3 of 10 clips"),
        ("pen TRAIN", "2 of 10 clips"),  # words of two columns
        ("tapping error: test", "0 of 10 clips"),
        ('"tapping pen" train', "2 of 10 clips"),
        ('"pen tapping"', "0 of 10 clips"),
    ):
        opened.page.keyboard.press("Escape")
        opened.page.keyboard.press("/")
        opened.page.keyboard.type(text)
        expect(opened.page.get_by_role("status")).to_have_text(found)
        opened.page.get_by_role("heading", name="Clips").click()


@pytest.mark.parametrize("where", ["in this page", "on disk"])
def test_a_clip_plays_and_its_playhead_moves(opened: Opened, where: str) -> None:
    opened.bar("clip file", where)
    card = opened.page.locator(".card").first
    video = card.locator("video")

    # with `auto` chromium draws the first frame of a clip below the fold too; files on a disk are read when they are seen
    expect(video).to_have_js_property("preload", "auto" if where == "in this page" else "metadata")
    video.evaluate("video => { video.muted = true; return video.play(); }")

    expect(video).to_have_js_property("paused", value=False)
    until(opened.page, lambda: video.evaluate("video => video.currentTime") > 0.3)
    assert video.evaluate("video => video.videoWidth") > 0
    if where == "in this page":
        assert 10 < card.locator(".playhead").evaluate("line => parseFloat(line.style.left)") < 100
        video.evaluate("video => video.pause()")
        card.locator(".mel").click(position={"x": 1, "y": 5})
        until(opened.page, lambda: video.evaluate("video => video.currentTime") < 0.3)
    else:
        assert card.locator(".mel").count() == 0


def test_an_address_with_a_key_shows_that_clip(browser: Browser, page_of_build: Path) -> None:
    opened = start(browser, page_of_build, f"#key={KEYS[5]}")
    shown = opened.page.get_by_role("region", name=made.HOSTILE)

    expect(shown).to_contain_text(KEYS[5])
    expect(shown).to_contain_text(f"ERROR: {made.HOSTILE}")
    opened.page.keyboard.press("Escape")
    expect(shown).to_be_hidden()
    opened.page.get_by_role("link", name=KEYS[0]).first.click()
    expect(opened.page.get_by_role("heading", name="humming")).to_be_focused()
    opened.page.goto(page_of_build.as_uri() + "#key=nothing%20of%E0")
    expect(opened.page.get_by_role("heading", name="is not among these clips")).to_be_visible()
    assert opened.said == opened.alarms == []


def test_the_shown_clips_are_saved_as_a_list_that_builds_read(opened: Opened, tmp_path: Path) -> None:
    opened.bar("outcome", "private")

    with opened.page.expect_download() as download:
        opened.page.get_by_role("button", name="Save shown as CSV").click()
    path = tmp_path / "clips.csv"
    download.value.save_as(path)

    first, *lines = path.read_text().splitlines()
    assert first == "key,label,split"
    assert all(line.partition(",")[2].startswith("\"'=</script>") for line in lines)  # which no spreadsheet runs
    entries = list(lists.read(lists.recognise(path)))
    assert {(e.name, e.labels, e.split) for e in entries} == {
        (clip.key, (clip.label,), clip.split) for clip in (made.clips()[n] for n in (2, 5))
    }


def test_what_the_saved_list_is_for_stands_beside_the_button(opened: Opened, browser: Browser, tmp_path: Path) -> None:
    """Keys without times, such as of files in class folders, are none that a build can look up."""
    expect(opened.page.get_by_text("for ks-build --clips", exact=True)).to_be_visible()
    make(tmp_path / "shards", (2,))
    assert view.main([str(tmp_path / "shards"), "--embed=0", f"--out={tmp_path / 'page.html'}"]) == 0

    other = start(browser, tmp_path / "page.html")

    expect(other.page.get_by_text("not for ks-build --clips")).to_be_visible()
    other.page.context.close()


def test_what_was_typed_a_moment_ago_is_saved(opened: Opened, tmp_path: Path) -> None:
    at_once = """key => {
        const search = document.getElementById("search");
        search.value = key;
        search.dispatchEvent(new Event("input"));
        [...document.querySelectorAll("button")].find((each) => each.textContent === "Save shown as CSV").click();
    }"""

    with opened.page.expect_download() as download:
        opened.page.evaluate(at_once, KEYS[4])
    download.value.save_as(tmp_path / "clips.csv")

    _, *lines = (tmp_path / "clips.csv").read_text().splitlines()
    assert [line.partition(",")[0] for line in lines] == [KEYS[4]]


def test_no_cell_of_a_saved_list_is_a_formula_or_more_than_one_cell(opened: Opened) -> None:
    """Keys of a shard set are what its maker wrote."""
    rows = [
        {"key": '=1+1,"x"', "label": "@a", "split": "=2"},
        {"key": "-bcdefghijk_000001_000005", "label": "b", "split": ""},
    ]
    table = f"{{text: (name, row) => {json.dumps(rows)}[row][name]}}"

    assert opened.page.evaluate(f"csvOf({table}, [0, 1])").splitlines() == [
        "key,label,split",
        '"\'=1+1,""x""",\'@a,\'=2',
        "-bcdefghijk_000001_000005,b,",
    ]


def test_the_table_has_the_same_clips_in_an_order_of_choice(opened: Opened) -> None:
    opened.page.get_by_role("button", name="table", exact=True).click()
    opened.page.get_by_label("order").select_option("duration_seconds -1")

    rows = opened.page.get_by_role("region", name="table of clips").get_by_role("row").all()[1:]

    assert len(rows) == 10
    assert rows[0].get_by_role("cell").first.inner_text() == KEYS[9]
    assert "2.09 s" in rows[0].inner_text()
    opened.bar("split", "train")  # of the clips 0, 1, 4, 5, 8 and 9, of which 5 and 8 have no duration
    keys = opened.page.get_by_role("region", name="table of clips").locator("tbody td:first-child").all_inner_texts()
    assert keys == [KEYS[n] for n in (9, 4, 1, 0, 5, 8)]


@pytest.mark.parametrize("width", [390, 900, 1280])
def test_the_table_scrolls_within_the_page(browser: Browser, page_of_build: Path, width: int) -> None:
    opened = start(browser, page_of_build, viewport={"width": width, "height": 844})
    opened.page.get_by_role("button", name="table").click()

    assert opened.page.get_by_role("region", name="table of clips").is_visible()
    assert opened.page.evaluate("document.documentElement.scrollWidth") == width
    opened.page.context.close()


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 390)])
def test_there_is_no_serious_accessibility_fault(
    browser: Browser, page_of_build: Path, scheme: str, width: int
) -> None:
    how = {"viewport": {"width": width, "height": 844}, "color_scheme": scheme}
    opened = start(browser, page_of_build, f"#key={KEYS[1]}", **how)
    if width < 500:
        opened.page.get_by_text("Filters", exact=True).click()

    faults = Axe().run(opened.page).response["violations"]

    assert [(each["impact"], each["id"], each["nodes"][0]["html"]) for each in faults] == []
    assert opened.page.evaluate("document.documentElement.scrollWidth") == width
    opened.page.context.close()


@pytest.fixture(scope="module")
def page_of_runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of two runs, one of which has maps, neighbours and a bad sample; their names are hostile."""
    folder = tmp_path_factory.mktemp("runs")
    one = test_runs.run(folder / "<img src=x onerror=alert(1)>", top1_low=58.0, top1_high=64.0, top1_chance=25.0)
    two = test_runs.run(folder / "two", lines=40)
    cam = one / "eval/cam"
    cam.mkdir()
    clip = {"key": KEYS[0], "label": made.HOSTILE, "score": 0.5, "file": "a.jpg"}
    (cam / "results.json").write_text(json.dumps({"probe": "cam", "clips": [clip]}))
    (cam / "a.jpg").write_bytes(encode_jpeg(np.full((40, 60, 3), 120, np.uint8)))
    (one / "quarantine.jsonl").write_text(json.dumps({"key": made.HOSTILE, "reason": made.HOSTILE}) + "\n")
    (one / "eval/crossmodal").mkdir()
    found = [test_runs.near(KEYS[0], cosine=0.75), test_runs.near(KEYS[1], cosine=0.5)]
    query = test_runs.near(KEYS[0], sounds=found, pictures=found)
    (one / "eval/crossmodal/neighbours.json").write_text(json.dumps({"queries": [query]}))
    argv = ["--run", str(one), "--run", str(two), "--out", str(folder / "runs.html"), "--title", made.HOSTILE]
    assert view.main(argv) == 0
    return folder / "runs.html"


def test_a_set_whose_clips_are_elsewhere_is_shown_as_a_table(browser: Browser, tmp_path: Path) -> None:
    folder = make(tmp_path / "shards", (2, 1))
    assert view.main([f"file://{folder}", "--out", str(tmp_path / "k3.html")]) == 0

    opened = start(browser, tmp_path / "k3.html")

    expect(opened.page.get_by_role("button", name="table", exact=True)).to_have_attribute("aria-pressed", "true")
    rows = opened.page.get_by_role("region", name="table of clips").get_by_role("row")
    assert rows.nth(2).get_by_role("cell").all_inner_texts()[:4] == ["k_1", "ok", "clapping", "train"]
    expect(opened.page.get_by_label("order").locator("option").first).to_have_text("as in the data")
    assert opened.said == opened.alarms == []
    opened.page.context.close()


def test_a_published_run_says_what_it_leaves_out(browser: Browser, tmp_path: Path) -> None:
    folder = test_runs.publish(test_runs.run(tmp_path / "avcl"))
    assert view.main([str(folder)]) == 0

    opened = start(browser, tmp_path / "avcl.html")

    expect(opened.page.get_by_text("avcl: a published run, without its metrics.")).to_be_visible()
    expect(opened.page.get_by_role("region", name="table of results")).to_contain_text("61.3")
    expect(opened.page.get_by_role("heading", name="Bad samples")).to_have_count(0)
    assert opened.said == opened.alarms == []
    opened.page.context.close()


def scores(within: Page | Locator, name: str) -> str:
    """Text of a table, each interval on the line of its score."""
    return within.get_by_role("region", name=name).inner_text().replace("\n(", " (").replace(")\n\t", ")\t")


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 390)])
def test_runs_stand_side_by_side(browser: Browser, page_of_runs: Path, scheme: str, width: int) -> None:
    opened = start(browser, page_of_runs, viewport={"width": width, "height": 844}, color_scheme=scheme)
    page = opened.page

    expect(page.get_by_role("img", name=re.compile(r"^loss by step; last .*: 3.998, .*two: 3.961$"))).to_be_visible()
    until(page, lambda: page.locator(".plot canvas").count() == 2)
    table = scores(page, "table of results")
    assert table.startswith("metric (test, 5 clips)\tguessing\t")
    told = "linear top1\t25.0\t31.5 (58.0\u201364.0)\t61.3 (58.0\u201364.0)\t31.5\t61.3"
    assert told in table
    top = scores(page.get_by_role("banner"), "main results")
    assert top.endswith(told)
    expect(page.get_by_role("figure").filter(has_text="loss")).to_contain_text("what training minimises")
    expect(page.get_by_role("img", name=f"Grad-CAM of {KEYS[0]}")).to_have_js_property("naturalWidth", 60)
    expect(page.get_by_text("ks-eval cam --run")).to_have_count(1)
    expect(page.get_by_text("· its own")).to_have_count(2)
    expect(page.get_by_role("region", name="table of bad samples")).to_contain_text(made.HOSTILE)
    assert page.evaluate("document.documentElement.scrollWidth") == width
    faults = Axe().run(page).response["violations"]
    assert [(each["impact"], each["id"], each["nodes"][0]["html"]) for each in faults] == []
    assert opened.said == opened.alarms == []
    assert [url for url in opened.asked if not url.startswith(("file:", "data:"))] == []
    page.context.close()
