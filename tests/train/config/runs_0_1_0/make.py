"""What made the runs of this folder, in a checkout of 0.1.0: `.venv/bin/python …/make.py FOLDER`.

FOLDER/avcl              finished: the paper's gate, AdamW with a cosine
FOLDER/supervised        finished: begun with the weights of `avcl`
FOLDER/stopped           stopped by SIGTERM at step 7 of 10, in mid-epoch: SGD, plateau, validated after each epoch of 3 steps
FOLDER/end.safetensors   the model that `stopped` became when 0.1.0 went on with it
FOLDER/fp16.json         state.json of `stopped`, had it been trained in fp16
FOLDER/found.json        of each run, the features of the first test sample, and the scores of `ks-eval knn --clips 2`
"""

import importlib
import importlib.util
import json
import re
import shutil
import signal
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from unittest import mock

import torch

from kinetics_sounds import stream, train
from kinetics_sounds.train import evaluate, pretrain

RUNS = ("avcl", "supervised", "stopped")
TINY = (
    *("--config=avcl_tiny", "--workers=0", "--device=cpu", "--batch=4", "--log_every=1", "--keep=1", "--r3d.width=1"),
    *(
        "--clip_and_mel.frames=4",
        "--clip_and_mel.crop=24",
        "--clip_and_mel.mel_resize=32",
        "--clip_and_mel.mel_crop=24",
    ),
)
AVCL = ("--steps=6", "--avcl.amfm_stage=pretrain")
SUPERVISED = ("--steps=6", "--method=supervised", "--supervised.hidden=8", "--supervised.gate=true")
STOPPED = (
    *(
        "--steps=10",
        "--save_every=20",
        "--val_split=test",
        "--optim.name=sgd",
        "--optim.lr=0.2",
        "--clip_norm=1",
        "--seed=2",
        "--optim.warmup_steps=0",
    ),
    *("--optim.schedule=plateau", "--optim.patience=0"),
)


def main(out: Path) -> None:
    """Make all of it."""
    with tempfile.TemporaryDirectory() as scratch:
        shards = Path(scratch, "shards")
        make_set(shards)
        tiny = [*TINY, f"--shards={shards}"]
        assert pretrain.main([*tiny, *AVCL, f"--out={out / 'avcl'}"]) == 0
        assert pretrain.main([*tiny, *SUPERVISED, f"--init={out / 'avcl'}", f"--out={out / 'supervised'}"]) == 0
        assert stop_at(7, [*tiny, *STOPPED, f"--out={out / 'stopped'}"]) == 3
        shutil.copytree(out / "stopped", Path(scratch, "end"))
        assert pretrain.main([*tiny, *STOPPED, f"--out={Path(scratch, 'end')}"]) == 0
        shutil.copy(Path(scratch, "end/checkpoints/step-00000010/model.safetensors"), out / "end.safetensors")
        found = {run: evaluated(out / run, shards) for run in RUNS}
    (out / "found.json").write_text(json.dumps(found) + "\n")
    state = json.loads((out / "stopped/checkpoints/step-00000007/state.json").read_text())
    state |= {"precision": "fp16", "scaler": torch.amp.GradScaler("cpu", init_scale=2.0**11).state_dict()}
    (out / "fp16.json").write_text(json.dumps(state, indent=2) + "\n")
    for run in RUNS:
        strip(out / run)


def make_set(shards: Path) -> None:
    """Write the set of the tests in this checkout."""
    spec = importlib.util.spec_from_file_location("conftest", "tests/train/conftest.py")
    assert spec is not None
    assert spec.loader is not None
    tests = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tests)
    shards.parent.mkdir(exist_ok=True)
    lengths = tests.LENGTHS
    films = {number: tests.film(number, lengths[number % len(lengths)], shards.parent) for number in range(8)}
    tests.write_set(shards, tests.COUNTS, films, classes="tiny")


def stop_at(step: int, argv: list[str]) -> int:
    """Train, with SIGTERM as the metrics of the step before are written; returns the exit code."""
    metrics = importlib.import_module("kinetics_sounds.train.metrics").Metrics
    write = metrics.write

    def written(self: object, at: int, values: Mapping[str, float]) -> None:
        write(self, at, values)
        if at == step - 1:
            signal.raise_signal(signal.SIGTERM)

    with mock.patch.object(metrics, "write", written):
        return int(pretrain.main(argv))


def evaluated(run: Path, shards: Path) -> dict[str, object]:
    """What `found.json` says of a run."""
    with stream.sample(stream.open_split(shards, "test"), 0) as sample:
        video_D, audio_D = train.load(run).features(sample)
    with tempfile.TemporaryDirectory() as results:
        argv = [f"--run={run}", f"--out={results}", f"--shards={shards}", "--workers=0", "--device=cpu", "--clips=2"]
        assert evaluate.main(["knn", *argv]) == 0
        scores = json.loads(Path(results, "results.json").read_text())["scores"]
    return {"video": video_D.tolist(), "audio": audio_D.tolist(), "knn": scores}


def strip(run: Path) -> None:
    """Leave what a run is opened or gone on with, to keep the folder small, and no place of the machine that made it."""
    for checkpoint in run.glob("checkpoints/*"):
        if checkpoint.name != "step-00000007":
            (checkpoint / "optimizer.safetensors").unlink()
    (run / "metrics.jsonl").unlink()
    shutil.rmtree(run / "tensorboard")
    (run / ".lock").unlink()
    config = run / "config.yaml"
    text = re.sub(r"(?m)^(shards|out|init|cache): /.*$", r"\1: /elsewhere", config.read_text())
    config.write_text(text)
    facts = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**facts, "shards": "/elsewhere"}, indent=2) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
