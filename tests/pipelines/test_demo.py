import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from kinetics_sounds.command import Stop, stoppable
from kinetics_sounds.errors import StoppedError
from kinetics_sounds.pipelines import build, demo, shard
from kinetics_sounds.train import evaluate, pretrain

from .conftest import Inline, inline
from .viewing import made

MAINS: dict[str, Callable[[list[str]], int]] = {
    "pipelines.build": build.main,
    "pipelines.shard": shard.main,
    "train": pretrain.main,
    "train.evaluate": evaluate.main,
}


def look(out: Path, said: str, *, clips: int, recall: str) -> None:
    """At all that a quick demo leaves."""
    guessing, untrained, trained = json.loads((out / "scores.json").read_text())
    assert [row["encoders"] for row in (guessing, untrained, trained)] == ["guessing", "untrained", "trained"]
    assert guessing["linear top1"] == pytest.approx(100 / 6)
    assert set(trained) == {"encoders", "linear top1", "knn top1", f"crossmodal video_to_audio_{recall}"}
    told, embedded = made.document(out / "report.html"), made.document(out / "report.html", "media")
    assert (told["count"], len(embedded)) == (clips, 12)
    (run,) = told["runs"]
    assert {"loss", "data_wait_share"} <= set(run["curves"])
    found = {(each["probe"], each["untrained"]): each["scores"] for each in run["results"]}
    assert set(found) == {(probe, untrained) for probe in demo.PROBES for untrained in (True, False)}
    assert found["linear", False]["top1"] == trained["linear top1"]
    assert {each["probe"]: each["main"] for each in run["results"]} == {"linear": "top1", "knn": "top1"} | {
        "crossmodal": f"video_to_audio_{'r10' if recall == 'r10' else 'r1'}"
    }
    (took,) = re.findall(r"All steps before this report took ([^<]*)\.</p>", (out / "report.html").read_text())
    assert f"all steps before the report took {took}\n" in said
    assert {len(query["sounds"]) for query in run["neighbours"]} == {5}
    assert str(out / "report.html") in said
    assert f"\n{demo.QUICK_NOTE}\n" in said
    assert f"<p>{demo.QUICK_NOTE}</p>" in (out / "report.html").read_text()
    assert [each["classes"] for each in told["sets"]] == ["demo6"]
    report = json.loads((out / "build/report.json").read_text())
    assert report["statuses"] == {"ok": clips}
    clip = next((out / "build/clips").rglob("*.mp4"))
    assert not clip.is_symlink()  # cut out of what yt-dlp downloaded


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning:tensorboard")
def test_a_world_of_half_the_size_goes_the_whole_way_in_one_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """By the words of the demo, which the commands take as they would in processes of their own.

    Without a note on the results of an earlier run of the demo.
    """
    earlier = tmp_path / "demo/run/eval/knn/results.json"
    earlier.parent.mkdir(parents=True)
    earlier.write_text('{"run": "elsewhere"}')

    def run(module: str, *arguments: object, stop: Stop) -> None:
        assert not stop
        if module == "train.evaluate":  # a moved demo must find its shards
            assert arguments[arguments.index("--shards") + 1] == tmp_path / "demo/build/shards"
        assert MAINS[module]([str(each) for each in arguments]) == 0

    inline(monkeypatch)
    monkeypatch.setattr(demo.local, "Pool", lambda render, **_: Inline(render))
    monkeypatch.setattr(demo, "run_step", run)
    monkeypatch.setattr(demo, "QUICK", (24, 2))
    monkeypatch.setitem(demo.PROBES, "crossmodal", ("video_to_audio_r5", "r5_chance"))  # of six clips to judge

    assert demo.main(["--quick", "--out", str(tmp_path / "demo")]) == 0

    said = capsys.readouterr()
    look(tmp_path / "demo", said.out, clips=24, recall="r5")
    assert "replaces the result" not in said.err


@pytest.mark.slow
@pytest.mark.slow_campaign
@pytest.mark.timeout(400)
def test_the_quick_demo_goes_the_whole_way(tmp_path: Path) -> None:
    began = time.monotonic()
    argv = [sys.executable, "-m", "kinetics_sounds.pipelines.demo", "--quick", "--out", str(tmp_path / "demo")]

    shown = subprocess.run(argv, check=False, capture_output=True, text=True, timeout=390)

    assert shown.returncode == 0, shown.stderr[-2000:]
    assert time.monotonic() - began < 390
    look(tmp_path / "demo", shown.stdout, clips=48, recall="r10")


CHILD = """
import os, signal, sys, time
signal.signal(signal.SIGINT, {handler})
os.kill(os.getppid(), signal.SIGINT)
{then}
"""
"""A step during which the demo alone gets Ctrl-C."""


@pytest.mark.parametrize(
    ("handler", "then", "told"),
    [
        ("lambda *_: sys.exit(3)", "time.sleep(30)", "ks-child was stopped; run ks-demo again"),
        ("signal.SIG_IGN", "", "by SIGINT; run ks-demo again"),
    ],
    ids=["passed on", "at the end of the step"],
)
def test_an_interrupt_of_the_demo_alone_ends_it(
    handler: str, then: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The signal is passed on to the running step; a step that ignores it is finished, and the next one does not begin."""
    (tmp_path / "steps").mkdir()
    (tmp_path / "steps/child.py").write_text(CHILD.format(handler=handler, then=then))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(demo, "PACKAGE", "steps")
    monkeypatch.setitem(demo.COMMANDS, "child", "ks-child")

    with stoppable(signal.SIGINT) as stop:
        with pytest.raises(StoppedError, match=told):
            demo.run_step("child", stop=stop)
        with pytest.raises(StoppedError, match="by SIGINT"):
            demo.run_step("no such command", stop=stop)


def test_sigterm_while_videos_are_rendered_stops_the_demo(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rendered: list[str] = []

    def render(task: tuple[demo.Video, Path]) -> None:
        rendered.append(task[0].youtube_id)
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(demo.local, "Pool", lambda _, **__: Inline(render))

    assert demo.main(["--quick", "--out", str(tmp_path / "demo")]) == 3

    assert len(rendered) < 48
    assert capsys.readouterr().err.endswith("ks-demo: stopped: by SIGTERM; run ks-demo again to resume\n")


@pytest.mark.parametrize("option", ["--steps", "--workers"])
def test_a_number_below_one_is_refused_before_anything_is_rendered(
    option: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert demo.main([option, "0", "--out", str(tmp_path / "demo")]) == 2

    assert f"{option} 0: must be at least 1" in capsys.readouterr().err
    assert not (tmp_path / "demo").exists()


def test_a_resumed_demo_tells_the_minutes_of_all_its_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped in its training after 60 + 30 s, it renders nothing again and trains for 90 s more: three minutes."""
    seconds = iter([0.0, 60.0, 100.0, 130.0, 200.0, 200.0, 300.0, 390.0])
    monkeypatch.setattr(demo.time, "monotonic", lambda: next(seconds))
    first = demo.Clock(tmp_path / "seconds.json", clips=840)
    with first.stage("videos"):
        pass
    assert first.told() == "1.0 minutes"
    with pytest.raises(StoppedError), first.stage("training"):
        raise StoppedError("by a signal")

    second = demo.Clock(tmp_path / "seconds.json", clips=840)
    for stage in ("videos", "training"):
        with second.stage(stage):
            pass

    assert second.told() == "3.0 minutes, 1.5 of them in this run"
    announced = capsys.readouterr().out
    assert announced.count("1/6 render the videos (about ") == announced.count("4/6 train without labels (about ") == 2


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '{"videos": 1.0}',
        json.dumps(dict.fromkeys(demo.STAGES, -1.0)),
        json.dumps(dict.fromkeys(demo.STAGES, "1")),
    ],
)
def test_a_damaged_record_of_seconds_counts_for_nothing(text: str, tmp_path: Path) -> None:
    (tmp_path / "seconds.json").write_text(text)

    assert demo.Clock(tmp_path / "seconds.json", clips=48).told() == "0.0 minutes"
