"""Tables, findings and axes of a page in a real browser: in order, whole, and each said once."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, expect

from kinetics_sounds import plugins
from kinetics_sounds.clip import Clip
from kinetics_sounds.pipelines import publish, view
from kinetics_sounds.pipelines.publishing import likeness

from ..publishing import builds
from . import test_runs
from .test_browser import start, until

pytestmark = pytest.mark.slow


def test_the_clips_nearest_to_one_another_can_be_played_where_they_are_told(browser: Browser, tmp_path: Path) -> None:
    """A query clip with two neighbours: one is listed twice, the other is not on the page."""
    clips = [builds.clip(number) for number in range(3)]
    path = builds.write(tmp_path / "build", [builds.outcome(each) for each in clips])
    folder = test_runs.run(tmp_path / "run")
    (folder / "eval/crossmodal").mkdir()
    sounds = [test_runs.near(clips[2].key, cosine=0.5), test_runs.near("elsewhere", cosine=0.25)]
    query = test_runs.near(clips[0].key, sounds=sounds, pictures=sounds[:1])
    (folder / "eval/crossmodal/neighbours.json").write_text(json.dumps({"queries": [query]}))
    assert view.main([str(path.parent), f"--run={folder}", f"--out={tmp_path / 'page.html'}", "--embed=0"]) == 0

    opened = start(browser, tmp_path / "page.html")
    near = opened.page.get_by_role("region", name="Nearest neighbours")
    expect(near.get_by_role("article")).to_have_count(0)
    near.get_by_text("play these clips").click()

    expect(near.get_by_role("article")).to_have_count(2)
    for article, key in zip(near.get_by_role("article").all(), (clips[0].key, clips[2].key), strict=True):
        expect(article).to_contain_text(key)
    opened.page.context.close()


def test_a_run_without_results_has_no_columns_and_the_command_that_makes_them(browser: Browser, tmp_path: Path) -> None:
    folders = [test_runs.run(tmp_path / name) for name in ("one", "two")]
    shutil.rmtree(folders[1] / "eval")
    argv = [f"--run={folder}" for folder in folders]
    assert view.main([*argv, f"--out={tmp_path / 'runs.html'}"]) == 0

    opened = start(browser, tmp_path / "runs.html")

    table = opened.page.get_by_role("region", name="table of results")
    heads = table.get_by_role("columnheader").all_inner_texts()
    assert heads == ["metric (test, 5 clips)", f"{folders[0]}, untrained", f"{folders[0]}, trained"]
    results = opened.page.get_by_role("region", name="Results", exact=True)
    expect(results.locator("code")).to_have_text(f"ks-eval linear knn crossmodal --run {folders[1]}")
    opened.page.context.close()


def test_results_of_other_clips_are_a_table_of_their_own_without_empty_cells(browser: Browser, tmp_path: Path) -> None:
    folders = [test_runs.run(tmp_path / name) for name in ("one", "two")]
    shutil.rmtree(folders[1] / "eval")
    test_runs.result(folders[1] / "eval/linear", False, 9, "g", top1=25.0)
    assert view.main([*(f"--run={folder}" for folder in folders), f"--out={tmp_path / 'runs.html'}"]) == 0

    opened = start(browser, tmp_path / "runs.html")

    for label in ("main results", "table of results"):
        for place, of, digits in ((label, "f", "31.5"), (f"{label}, 2", "g", "25.0")):
            cells = opened.page.get_by_role("region", name=place, exact=True).locator("td").all_inner_texts()
            assert cells[:2] == [f"linear top1, fingerprint {of}", digits]
            assert "" not in cells
    opened.page.context.close()


def test_rows_of_another_set_than_a_runs_own_name_it(browser: Browser, tmp_path: Path) -> None:
    """Of two runs, one was trained on the class list that both were evaluated on."""
    folders = [test_runs.run(tmp_path / name) for name in ("other", "own")]
    for folder in folders:
        for path in folder.glob("eval/*/results.json"):
            path.write_text(json.dumps(json.loads(path.read_text()) | {"classes": "w"}))
    own = folders[1] / "run.json"
    own.write_text(json.dumps(json.loads(own.read_text()) | {"classes": "w"}))
    assert view.main([*(f"--run={folder}" for folder in folders), f"--out={tmp_path / 'runs.html'}"]) == 0

    opened = start(browser, tmp_path / "runs.html")

    for label in ("main results", "table of results"):
        table = opened.page.get_by_role("region", name=label, exact=True)
        expect(table.get_by_role("columnheader").first).to_have_text("metric (test of w, 5 clips)")
        expect(table.locator("tbody tr")).to_have_count(1)
    opened.page.context.close()


def test_a_chosen_value_is_no_percentage_and_settings_that_differ_are_named_in_the_rows(
    browser: Browser, tmp_path: Path
) -> None:
    folders = [test_runs.run(tmp_path / name) for name in ("one", "two")]
    for folder, clips, seed in zip(folders, (2, 10), (0, 1), strict=True):
        head = {"probe": "svm", "checkpoint": "step-00000009", "on_split": "test", "samples": 5, "clips": clips}
        scores = {"top1": 50.0, "c": 1e-5, "selected_on_test": 1.0}
        (folder / "eval/svm").mkdir()
        (folder / "eval/svm/results.json").write_text(json.dumps(head | {"scores": scores}))
        (folder / "config.yaml").write_text(
            f"method: avcl\nseed: {seed}\noptim: {{lr: 0.002}}\navcl: {{gate_b: {seed}}}\n"
        )
    assert view.main([*(f"--run={folder}" for folder in folders), f"--out={tmp_path / 'runs.html'}"]) == 0

    opened = start(browser, tmp_path / "runs.html")

    def rows(table: str) -> list[list[str]]:
        found = opened.page.get_by_role("region", name=table, exact=True).locator("tbody tr").all()
        return [row.locator("td").all_inner_texts() for row in found]

    assert rows("table of results, 2") == [["svm top1, clips per video 2", "50.0"]]
    assert rows("table of results, 3") == [["svm top1, clips per video 10", "50.0"]]
    assert rows("table of chosen values") == [
        ["svm c, clips per video 2", "1.00e-5"],
        ["svm selected on test, clips per video 2", "yes"],
    ]
    assert rows("table of runs")[-4:] == [
        ["method", "avcl", "avcl"],
        ["seed", "0", "1"],
        ["optim.lr", "0.002", "0.002"],
        ["avcl.gate_b", "0", "1"],
    ]
    opened.page.context.close()


def test_linear_comes_before_crossmodal_and_the_main_metric_first(browser: Browser, tmp_path: Path) -> None:
    folder = test_runs.run(tmp_path / "one")
    (folder / "eval/crossmodal").mkdir()
    scores = {"video_to_audio_r1": 1.0, "video_to_audio_r10": 10.0, "r10_chance": 5.0}
    told = {"probe": "crossmodal", "checkpoint": "step-00000009", "on_split": "test", "samples": 5, "scores": scores}
    (folder / "eval/crossmodal/results.json").write_text(json.dumps(told))
    assert view.main([str(folder)]) == 0

    opened = start(browser, folder / "view.html")

    def names(table: str) -> list[str]:
        return opened.page.get_by_role("region", name=table).locator("tbody td:first-child").all_inner_texts()

    both = ["linear top1", "crossmodal video to audio r10"]
    assert names("main results") == both
    assert names("table of results") == [*both, "crossmodal video to audio r1"]
    opened.page.context.close()


@pytest.mark.parametrize("width", [390, 1280])
def test_scores_fit_a_phone_with_each_interval_in_one_line(browser: Browser, tmp_path: Path, width: int) -> None:
    folder = test_runs.run(tmp_path / "one", top1_low=58.12, top1_high=64.88, top1_chance=100 / 6)
    assert view.main([str(folder)]) == 0

    opened = start(browser, folder / "view.html", viewport={"width": width, "height": 844})

    for name in ("main results", "table of results"):
        table = opened.page.get_by_role("region", name=name)
        assert table.evaluate("table => table.scrollWidth <= table.clientWidth")
        assert table.locator(".interval").evaluate_all("all => all.map(each => each.getClientRects().length)") == [1, 1]
    opened.page.context.close()


def test_the_words_of_every_probe_that_has_a_score_stand_on_top(browser: Browser, tmp_path: Path) -> None:
    folder = test_runs.run(tmp_path / "one", top1_low=58.0, top1_high=64.0, top1_chance=100 / 6)
    probes = plugins.names("kinetics_sounds.train.probes")
    for probe in probes:
        path = folder / f"eval/{probe}/results.json"
        test_runs.result(path.parent, False, top1=50.0) if probe != "linear" else None
        path.write_text(json.dumps(json.loads(path.read_text()) | {"probe": probe}))
    assert view.main([str(folder)]) == 0

    opened = start(browser, folder / "view.html")

    first, *others = opened.page.get_by_role("banner").locator(".words").all_inner_texts()
    told = "Percent, with 95% intervals. guessing: by chance; untrained: the same encoders before training."
    assert first == told
    assert sorted(line.partition(":")[0] for line in others) == probes
    opened.page.context.close()


def test_only_columns_that_are_shown_are_explained(browser: Browser, tmp_path: Path) -> None:
    """Neither intervals nor guessing, which the result has not, nor untrained encoders, which were not evaluated."""
    folder = test_runs.run(tmp_path / "one")
    shutil.rmtree(folder / "eval/linear_untrained")
    assert view.main([str(folder)]) == 0

    opened = start(browser, folder / "view.html")

    assert opened.page.get_by_role("columnheader").all_inner_texts()[:2] == ["metric (test, 5 clips)", "trained"]
    words = opened.page.get_by_role("banner").locator(".words")
    expect(words.first).to_have_text("Percent.")
    opened.page.context.close()


def test_top5_of_few_classes_is_folded_away(browser: Browser, tmp_path: Path) -> None:
    """Whoever guesses five of ten classes is right half of the time."""
    many = test_runs.run(tmp_path / "many", top5=60.0, top1_chance=100 / 11, top5_chance=500 / 11)
    few = test_runs.run(tmp_path / "few", top5=60.0, top1_chance=10.0, top5_chance=50.0)

    def metrics(folder: Path) -> list[str]:
        assert view.main([str(folder)]) == 0
        opened = start(browser, folder / "view.html")
        results = opened.page.get_by_role("region", name="Results", exact=True)
        expect(results.get_by_role("region")).to_have_count(1)
        shown = results.locator("tbody td:first-child:visible").all_inner_texts()
        if results.locator("summary").count():
            results.locator("summary").click()
            expect(opened.page.get_by_role("region", name="table of top5")).to_contain_text("linear top5")
        opened.page.context.close()
        return shown

    assert metrics(many) == ["linear top1", "linear top5"]
    assert metrics(few) == ["linear top1"]


def test_a_table_that_is_cut_off_has_a_shadow_where_there_is_more(browser: Browser, page_of_build: Path) -> None:
    opened = start(browser, page_of_build)
    opened.page.get_by_role("button", name="table", exact=True).click()
    table = opened.page.get_by_role("region", name="table of clips")
    box = table.bounding_box()
    assert box

    def edge() -> bytes:
        """The end of the head, where no text is before it is scrolled."""
        clip: Any = {"x": box["x"] + box["width"] - 6, "y": box["y"] + 3, "width": 3, "height": 3}
        return opened.page.screenshot(clip=clip)

    before = edge()
    table.evaluate("table => { table.scrollLeft = table.scrollWidth; }")
    until(opened.page, lambda: edge() != before)
    opened.page.context.close()


def test_a_finding_is_its_place_a_sentence_and_the_other_keys_as_links(browser: Browser, tmp_path: Path) -> None:
    twice = [builds.outcome(builds.clip(n, split="train"), sha256="ab" * 32) for n in (0, 1)]
    leaks = [
        builds.outcome(Clip("same", n, n + 10, builds.LABELS[0], split)) for n, split in ((3, "train"), (40, "test"))
    ]
    builds.write(tmp_path, [*twice, *leaks])
    assert view.main([str(tmp_path), "--embed=0"]) == 0

    opened = start(browser, tmp_path / "view.html")

    items = opened.page.get_by_role("region", name="Duplicates and leaks").get_by_role("listitem")
    keys = [each.clip.key for each in (*twice, *leaks)]
    labels = " and ".join(repr(each.clip.label) for each in twice)
    assert items.all_inner_texts() == [
        f"video leak same: the video is in test and train: {keys[3]}, {keys[2]}",
        f"same content {keys[0]}: in train; the same bytes in train, labelled {labels}: {keys[1]}",
    ]
    assert items.nth(0).get_by_role("link").all_inner_texts() == [keys[3], keys[2]]
    assert items.nth(1).get_by_role("link").all_inner_texts() == keys[:2]
    opened.page.context.close()


def test_of_a_re_encoded_copy_each_key_stands_beside_its_split_and_once(
    browser: Browser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, copy = builds.clip(0, split="train"), builds.clip(1, split="test")
    made = [builds.outcome(each, audio_rms_db=-20.0 - n / 9) for n, each in enumerate((first, copy))]
    known = {builds.sha256(each.key): builds.hashes(7, flips=9 * n) for n, each in enumerate((first, copy))}
    monkeypatch.setattr(likeness, "compute", lambda wanted, **_: ({each: known[each] for each in wanted}, {}))
    builds.write(tmp_path / "build", made)
    out = tmp_path / "out"
    assert publish.main(["--manifest", str(tmp_path / "build"), "--out", str(out)]) == 0
    assert view.main([str(out), "--embed=0", f"--out={tmp_path / 'view.html'}"]) == 0

    opened = start(browser, tmp_path / "view.html")

    items = opened.page.get_by_role("region", name="Duplicates and leaks").get_by_role("listitem")
    split = {first.key: "train", copy.key: "test"}
    keys = items.get_by_role("link").all_inner_texts()
    assert sorted(keys) == sorted(split)
    told = f"in {split[keys[0]]}; a re-encoded copy in {split[keys[1]]}"
    assert items.all_inner_texts() == [f"alike {keys[0]}: {told}: {keys[1]}"]
    opened.page.context.close()


def test_the_ends_of_an_axis_are_called_as_its_bars(browser: Browser, tmp_path: Path) -> None:
    levels = [-70.0, *(float(n) for n in range(-32, -20) for _ in range(40)), -3.0]
    builds.write(tmp_path, [builds.outcome(builds.clip(n), audio_rms_db=level) for n, level in enumerate(levels)])
    assert view.main([str(tmp_path), "--embed=0"]) == 0

    opened = start(browser, tmp_path / "view.html")

    names = list(opened.counts("loudness, RMS"))
    ends = opened.bars("loudness, RMS").locator(".axis span").all_inner_texts()
    assert (ends[0], ends[2]) == (names[0].removesuffix(" dB"), names[-1].replace(" dB", ""))
    assert ends[0].startswith("below -")
    opened.page.context.close()
