"""What a page says of a run is what the run's folder says."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from kinetics_sounds.errors import RunError
from kinetics_sounds.pipelines import view
from kinetics_sounds.pipelines.viewing import runs

from . import made


def run(folder: Path, *, lines: int = 3, **scores: float) -> Path:
    """A run's folder with so many lines of metrics, and a result of trained and untrained encoders."""
    folder.mkdir(parents=True)
    facts = {
        "recipe": "avcl_k32",
        "classes": "k32",
        "train_split": "train",
        "data": {"samples": 40, "steps": 9, "batch": 4},
    }
    (folder / "run.json").write_text(json.dumps(facts))
    told = [{"step": n, "loss": 4 - n / 1000, "odd": math.nan if n == 1 else float(n)} for n in range(lines)]
    (folder / "metrics.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in told) + '{"step": 9, "lo')
    for name, top1 in {"linear": 61.25, "linear_untrained": 31.5}.items():
        result(folder / f"eval/{name}", name.endswith("untrained"), top1=top1, **scores)
    return folder


def result(folder: Path, untrained: bool, step: int = 9, fingerprint: str = "f", /, **scores: float) -> None:
    folder.mkdir(parents=True)
    head = {
        "probe": "linear",
        "checkpoint": "untrained" if untrained else f"step-{step:08d}",
        "on_split": "test",
        "fingerprint": fingerprint,
        "samples": 5,
    }
    (folder / "results.json").write_text(json.dumps(head | {"scores": scores}))


def test_curves_leave_out_what_is_not_finite_and_a_line_that_is_being_written(tmp_path: Path) -> None:
    found = runs.read(run(tmp_path / "run"))

    assert found.curves["loss"].steps == (0, 1, 2)
    assert found.curves["loss"].values == (4.0, 3.999, 3.998)
    assert found.curves["odd"].values == (0.0, None, 2.0)
    assert found.facts == {
        "recipe": "avcl_k32",
        "classes": "k32",
        "train_split": "train",
        "samples": "40",
        "steps": "9",
        "batch": "4",
    }


def test_what_was_changed_on_resume_is_among_the_facts(tmp_path: Path) -> None:
    folder = run(tmp_path / "run")
    facts = json.loads((folder / "run.json").read_text())
    changes = [{"step": 3, "setting": "steps", "before": 4, "after": 9}]
    for told, shown in (
        (changes, "steps 9 from step 3 on (was 4)"),
        ([], None),
        ("steps", None),
        ([{"step": 3}], None),
    ):
        (folder / "run.json").write_text(json.dumps(facts | {"changed_on_resume": told}))

        assert runs.read(folder).facts.get("resumed_with") == shown


def test_results_of_other_clips_or_of_an_earlier_checkpoint_are_told_apart(tmp_path: Path) -> None:
    folder = run(tmp_path / "run")
    result(folder / "eval/other", False, 9, "g", top1=25.0)
    result(folder / "eval/earlier", False, 4, top1=50.0)

    found = {each.scores["top1"]: each for each in runs.read(folder).results}

    assert found[61.25].asked == found[31.5].asked == found[50.0].asked != found[25.0].asked
    assert [found[top1].old_step for top1 in (61.25, 31.5, 50.0, 25.0)] == [None, None, 4, None]
    assert found[25.0].clips == 5


def test_a_long_curve_is_thinned_evenly_and_keeps_its_end(tmp_path: Path) -> None:
    found = runs.read(run(tmp_path / "run", lines=4001))

    curve = found.curves["loss"]
    assert (curve.every, len(curve.steps)) == (3, 1334)
    assert curve.steps[-2:] == (3997, 4000)


def test_results_of_trained_and_untrained_encoders_are_told_apart(tmp_path: Path) -> None:
    folder = run(tmp_path / "run", top1_low=58.0, top1_high=64.0, bad=math.inf)

    found = runs.read(folder)

    assert [(each.probe, each.split, each.untrained, each.scores["top1"]) for each in found.results] == [
        ("linear", "test", False, 61.25),
        ("linear", "test", True, 31.5),
    ]
    assert found.results[0].scores == {"top1": 61.25, "top1_low": 58.0, "top1_high": 64.0}


def test_maps_and_bad_samples_are_those_of_the_folder(tmp_path: Path) -> None:
    folder = run(tmp_path / "run")
    (folder / "eval/cam").mkdir()
    clips = [{"key": "k_0", "label": "humming", "file": "../k_0.jpg", "score": 0.5}]
    (folder / "eval/cam/results.json").write_text(json.dumps({"probe": "cam", "clips": clips}))
    (folder / "eval/cam/k_0.jpg").write_bytes(b"\xff\xd8")
    (folder / "quarantine.jsonl").write_text('{"key": "k_1", "tar": "train-000000.tar", "reason": "is torn"}\n')

    found = runs.read(folder)

    assert [(each.key, each.label, each.score, each.jpeg) for each in found.maps] == [
        ("k_0", "humming", 0.5, b"\xff\xd8")
    ]
    assert (list(found.bad), found.bad_count) == ([{"key": "k_1", "reason": "is torn"}], 1)
    (folder / "eval/cam/k_0.jpg").unlink()
    with pytest.raises(RunError, match=r"k_0\.jpg: cannot be read .*make it again with ks-eval cam"):
        runs.read(folder)


@pytest.mark.parametrize("link", ["eval/cam/k_0.jpg", "eval/linear/results.json", "eval/linear/neighbours.json"])
def test_nothing_that_a_link_leads_to_outside_of_the_run_is_shown(tmp_path: Path, link: str) -> None:
    """A stranger's run, whose page the reader may pass on."""
    folder, private = run(tmp_path / "run"), tmp_path / "private"
    results = json.dumps({"probe": "cam", "clips": [{"key": "k_0", "file": "k_0.jpg"}]})
    for place in (folder / "eval/cam", private):
        place.mkdir()
        (place / "results.json").write_text(results)
        (place / "k_0.jpg").write_bytes(b"\xff\xd8 of a holiday")
    assert runs.read(folder).maps
    (folder / link).unlink(missing_ok=True)
    (folder / link).symlink_to(private / "k_0.jpg")

    with pytest.raises(RunError, match="leads out of the run's folder"):
        runs.read(folder)


def publish(folder: Path) -> Path:
    """What `ks-publish run` leaves of a run: facts, results by name, sums; neither metrics nor bad samples."""
    for path in sorted((folder / "eval").glob("*/results.json")):
        (folder / "results").mkdir(exist_ok=True)
        path.rename(folder / f"results/{path.parent.name}.json")
    (folder / "metrics.jsonl").unlink()
    (folder / "SHA256SUMS").write_text("")
    return folder


def test_a_published_run_shows_its_results_and_no_curves(tmp_path: Path) -> None:
    whole = runs.read(run(tmp_path / "run"))

    found = runs.read(publish(tmp_path / "run"))

    assert found.published
    assert not whole.published
    assert (found.facts, found.results, found.curves) == (whole.facts, whole.results, {})


def test_a_published_run_gets_its_page_beside_it(tmp_path: Path) -> None:
    folder = publish(run(tmp_path / "avcl"))
    before = sorted(folder.rglob("*"))

    assert view.main([str(folder)]) == 0

    assert sorted(folder.rglob("*")) == before
    assert made.document(tmp_path / "avcl.html")["runs"][0]["published"]


def near(key: str, **of_clip: Any) -> dict[str, Any]:
    return {"key": key, "label": made.HOSTILE, **of_clip}


def test_neighbours_are_those_of_trained_encoders(tmp_path: Path) -> None:
    folder = run(tmp_path / "run")
    query = near("k_0", sounds=[near("k_1", cosine=0.123456)], pictures=[near("k_0", cosine=1.0)])
    for name, checkpoint in (("crossmodal", "step-00000009"), ("crossmodal_untrained", "untrained")):
        (folder / f"eval/{name}").mkdir()
        queries = [query] if name == "crossmodal" else []
        (folder / f"eval/{name}/neighbours.json").write_text(json.dumps({"checkpoint": checkpoint, "queries": queries}))

    assert runs.read(folder).neighbours == [{**query, "sounds": [near("k_1", cosine=0.12346)]}]
    (folder / "eval/crossmodal/neighbours.json").write_text('{"queries": [{}]}')
    with pytest.raises(RunError, match="tells of no neighbours"):
        runs.read(folder)


@pytest.mark.parametrize("cosine", ["NaN", "1e999", "1" + "0" * 400])
def test_a_cosine_that_is_no_finite_number_is_damage(tmp_path: Path, cosine: str) -> None:
    folder = run(tmp_path / "run")
    (folder / "eval/crossmodal").mkdir()
    query = near("k_0", sounds=[near("k_1", cosine="COSINE")], pictures=[])
    text = json.dumps({"queries": [query]}).replace('"COSINE"', cosine)
    (folder / "eval/crossmodal/neighbours.json").write_text(text)

    with pytest.raises(RunError, match="tells of no neighbours"):
        runs.read(folder)


def test_numbers_that_no_float_holds_and_lists_that_are_none_are_left_out_of_the_page(tmp_path: Path) -> None:
    folder, huge = run(tmp_path / "run"), "1" + "0" * 400
    lines = [
        '{"step": NaN, "loss": 1}',
        f'{{"step": {huge}, "loss": 1}}',
        f'{{"step": 1, "loss": {huge}}}',
        '{"step": 2, "loss": 3}',
    ]
    (folder / "metrics.jsonl").write_text("\n".join([*lines, ""]))
    (folder / "eval/linear/results.json").write_text(f'{{"probe": "linear", "scores": {{"top1": {huge}, "top5": 70}}}}')
    (folder / "eval/cam").mkdir()
    (folder / "eval/cam/results.json").write_text('{"probe": "cam", "clips": 3}')

    assert view.main([str(folder)]) == 0

    [found] = made.document(folder / "view.html")["runs"]
    assert found["curves"]["loss"] == {"steps": [1, 2], "values": [None, 3.0], "every": 1}
    assert found["results"][0]["scores"] == {"top5": 70}
    assert found["maps"] == []


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("run.json", "[]", "is not a table"),
        ("run.json", "{", "cannot be read"),
        ("metrics.jsonl", "{}\nno\n", "metrics.jsonl:2: is not JSON"),
        ("metrics.jsonl", "[" * 100_000 + "\n", "metrics.jsonl:1: is not JSON"),
    ],
)
def test_damage_is_told(tmp_path: Path, name: str, text: str, said: str) -> None:
    folder = run(tmp_path / "run")
    (folder / name).write_text(text)

    with pytest.raises(RunError, match=said):
        runs.read(folder)


def test_a_page_of_runs_alone_has_no_clips(tmp_path: Path) -> None:
    folders = [run(tmp_path / name) for name in ("a", "b")]

    assert view.main([*map(str, folders), "--out", str(tmp_path / "runs.html")]) == 0

    document: dict[str, Any] = made.document(tmp_path / "runs.html")
    assert [each["name"] for each in document["runs"]] == [str(folder) for folder in folders]
    assert (document["count"], document["columns"]) == (0, [])


def test_a_folder_of_a_comparison_names_the_runs_in_it(tmp_path: Path) -> None:
    for seed in range(4):
        run(tmp_path / f"avcl/seed-{seed}/run")
    first = tmp_path / "avcl/seed-0/run"

    for folder, runs_in_it in (
        (first.parent, f"runs in it: {first}"),
        (tmp_path / "avcl", f"runs in it: {first}, {tmp_path}/avcl/seed-1/run, {tmp_path}/avcl/seed-2/run and 1 more"),
        (tmp_path, f"runs in it: {first}, {tmp_path}/avcl/seed-1/run, {tmp_path}/avcl/seed-2/run and 1 more"),
    ):
        with pytest.raises(RunError) as refused:
            runs.read(folder)
        assert str(refused.value).endswith(f"ks-publish run; {runs_in_it}")


@pytest.mark.parametrize("text", ["a: [", "method: avcl\navcl: {place: /home/ann/secret}", "seed: ~/secret"])
def test_a_config_that_is_damaged_or_has_a_path_costs_only_its_settings(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, text: str
) -> None:
    folders = [run(tmp_path / name) for name in ("a", "b")]
    for folder, told in zip(folders, ("seed: 1", text), strict=True):
        (folder / "config.yaml").write_text(told)
    page = tmp_path / "runs.html"

    assert view.main([*map(str, folders), f"--out={page}"]) == 0

    one, other = made.document(page)["runs"]
    assert (one["settings"], other["settings"]) == ({"seed": "1"}, {})
    assert other["facts"]["settings"] == "not shown: config.yaml has what ks-train does not write"
    assert f"settings are not shown: {folders[1] / 'config.yaml'}: " in caplog.text
    assert "secret" not in page.read_text()


def test_no_path_of_what_a_run_was_resumed_with_or_evaluated_with_is_in_the_page(tmp_path: Path) -> None:
    folder = run(tmp_path / "run")
    facts = json.loads((folder / "run.json").read_text())
    changes = [{"step": 3, "setting": "mine.place", "before": "/home/ann", "after": "~/secret"}]
    (folder / "run.json").write_text(json.dumps(facts | {"changed_on_resume": changes}))
    path = folder / "eval/linear/results.json"
    for name, place in (("linear", "/srv/secret"), ("again", "/srv/other")):
        (folder / f"eval/{name}").mkdir(exist_ok=True)
        told = json.loads(path.read_text()) | {"settings": {"place": place}}
        (folder / f"eval/{name}/results.json").write_text(json.dumps(told))

    assert view.main([str(folder)]) == 0

    [found] = made.document(folder / "view.html")["runs"]
    assert found["facts"]["resumed_with"] == "mine.place PATH from step 3 on (was PATH)"
    assert {each["differs"] for each in found["results"]} == {"settings.place PATH", "no settings.place"}
    assert "secret" not in (folder / "view.html").read_text()


def test_settings_that_differ_far_behind_are_shown_cut(tmp_path: Path) -> None:
    folders = [run(tmp_path / name) for name in ("a", "b")]
    for folder, end in zip(folders, "xy", strict=True):
        (folder / "config.yaml").write_text(f"optim: {{name: '{'a' * 99},{end}'}}")

    assert view.main([*map(str, folders), f"--out={tmp_path / 'runs.html'}"]) == 0

    shown = [each["settings"] for each in made.document(tmp_path / "runs.html")["runs"]]
    assert shown == [{"optim.name": f"{'a' * 99},"}] * 2


def test_untrained_encoders_without_a_gate_stand_beside_all_that_were_fine_tuned_with_one(tmp_path: Path) -> None:
    """Of the settings of fine-tuning: another rate is another setting."""
    folder = run(tmp_path / "run")
    for name, top1, rate, gate in (("on", 70, 0.1, True), ("off", 60, 0.1, False), ("fast", 50, 0.2, True)):
        result(folder / f"eval/{name}", False, top1=top1)
        path = folder / f"eval/{name}/results.json"
        more = {"probe": "finetune", "settings": {"lr": rate, "gate": gate}}
        path.write_text(json.dumps(json.loads(path.read_text()) | more))
    result(folder / "eval/untrained", True, top1=20)
    told = json.loads((folder / "eval/untrained/results.json").read_text()) | {"probe": "finetune"}
    told["settings"] = {"lr": 0.1, "gate": False}
    (folder / "eval/untrained/results.json").write_text(json.dumps(told))

    assert view.main([str(folder)]) == 0

    [found] = made.document(folder / "view.html")["runs"]
    tuned = [each for each in found["results"] if each["probe"] == "finetune"]
    beside: dict[str, list[float]] = {}
    for each in tuned:
        beside.setdefault(each["basis"], []).append(each["scores"]["top1"])
    assert sorted(map(sorted, beside.values())) == [[20, 60], [20, 70], [50]]
