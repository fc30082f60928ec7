"""Real Kinetics and VGGSound clips from build to score; skipped where the data are not beside the checkout."""

import csv
import json
from pathlib import Path

import pytest

from kinetics_sounds import manifest
from kinetics_sounds.clip import Status
from kinetics_sounds.pipelines import build, shard
from kinetics_sounds.train import evaluate, pretrain

from .conftest import inline

DATA = Path(__file__).parents[3] / "shared" / "data"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not DATA.is_dir(), reason=f"no test data at {DATA}"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:tensorboard"),
]

SMALL = ["--workers", "0", "--log_every", "1"]


@pytest.mark.slow_campaign
def test_kinetics_clips_of_two_classes(tmp_path: Path) -> None:
    classes, out = tmp_path / "two.txt", tmp_path / "B"
    classes.write_text("arm wrestling\nbungee jumping\n")
    annotations = DATA / "k400/activitynet_kinetics-400_val.csv"
    with annotations.open(newline="") as lines:
        annotated = {
            row["youtube_id"]: row for row in csv.DictReader(lines) if row["label"] in classes.read_text().splitlines()
        }
    present = {path.stem for path in (DATA / "videos/k400").iterdir()}
    argv = ["--classes", str(classes), "--annotations", str(annotations), "--splits", "val", "--out", str(out)]

    assert build.main([*argv, "--source", f"local:{DATA / 'videos/k400'}"]) == 1

    outcomes = manifest.read(out / "manifest.parquet").outcomes
    assert len(outcomes) == len(annotated) == 99
    assert {o.clip.key for o in outcomes if o.status is Status.OK} == present
    assert {o.status for o in outcomes if o.clip.key not in present} == {Status.NOT_IN_SOURCE}
    assert shard.main(["--manifest", str(out / "manifest.parquet")]) == 0
    run = tmp_path / "run"
    train = ["--config", "avcl_tiny", "--shards", str(out / "shards"), "--train_split", "val", "--out", str(run)]
    assert pretrain.main([*train, "--batch", "2", "--steps", "3", *SMALL]) == 0
    assert evaluate.main(["crossmodal", "--run", str(run), "--clips", "2", "--workers", "0"]) == 0
    results = json.loads((run / "eval/crossmodal/results.json").read_text())
    assert (results["samples"], results["on_split"]) == (4, "val")


@pytest.mark.slow_campaign
def test_vggsound_clips_in_three_splits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inline(monkeypatch)
    videos, rows = tmp_path / "videos", ["label,youtube_id,time_start,time_end,split"]
    videos.mkdir()
    with (DATA / "videos/manifest.csv").open(newline="") as lines:
        files = [row for row in csv.DictReader(lines) if row["file"].startswith("vgg_vas/") and int(row["width"]) < 700]
    for number, row in enumerate(sorted(files, key=lambda row: int(row["bytes"]))[:12]):
        seconds = int(float(row["duration"]))
        split = ("train", "train", "val", "test")[number % 4]
        rows.append(f"{('one', 'two')[number // 4 % 2]},clip-{number},0,{seconds},{split}")
        (videos / f"clip-{number}_{0:06d}_{seconds:06d}.mp4").symlink_to(DATA / "videos" / row["file"])
    classes, annotations, out = tmp_path / "two.txt", tmp_path / "list.csv", tmp_path / "B"
    classes.write_text("one\ntwo\n")
    annotations.write_text("\n".join(rows) + "\n")
    argv = ["--classes", str(classes), "--annotations", str(annotations), "--source", f"local:{videos}"]

    assert build.main([*argv, "--out", str(out)]) == 0

    assert shard.main(["--manifest", str(out / "manifest.parquet"), "--short_side", "36"]) == 0
    run = tmp_path / "run"
    train = ["--config", "avcl_tiny", "--shards", str(out / "shards"), "--out", str(run)]
    assert pretrain.main([*train, "--batch", "4", "--steps", "2", *SMALL]) == 0
    assert evaluate.main(["linear", "--run", str(run), "--clips", "2", "--workers", "0"]) == 0
    results = json.loads((run / "eval/linear/results.json").read_text())
    assert (results["on_split"], results["fit_split"], results["samples"]) == ("test", "train", 3)
    assert 0 <= results["scores"]["top1"] <= 100
