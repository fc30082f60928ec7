"""ks-train: the loop. Shards in, checkpoints out; killed at any moment, it goes on from the last checkpoint exactly."""

import json
import logging
import math
import signal
import sys
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import nn

from kinetics_sounds import __version__, files, progress, stream
from kinetics_sounds.errors import RunError, SettingsError
from kinetics_sounds.redact import redact
from kinetics_sounds.settings import DONE, STOPPED, Parsed, Stop, command, stoppable

from . import bench, checkpoint, loader, run
from .quarantine import Quarantine
from .run import Optim, Settings
from .schedule import learning_rate

DEAD_SHARE_ALARM = 0.5
"""Above this share of dead channels the model is collapsing (methods 1.6)."""

FREE = (
    *("shards", "out", "recipe", "workers", "ahead", "sample_seconds", "max_bad_share", "cache", "cache_gb"),
    *("device", "channels_last"),
    *("log_every", "save_every", "keep", "resume", "list", "epochs", "steps"),
)
"""Settings that a resumed run may change: where and how it runs, and how long (a schedule then bends to the new length)."""

UNTRIED = "None of them but avcl_tiny has been run at full size here; scores of the paper are the paper's."

log = logging.getLogger("kinetics_sounds")


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of `ks-train`."""
    words = sys.argv[1:] if argv is None else argv
    if words and words[0] == "bench":
        return command("ks-train bench", lambda: bench.bench(words[1:]))
    return command("ks-train", lambda: pretrain(words))


def pretrain(argv: Sequence[str]) -> int:
    """Train as argv and recipe say; returns the exit code."""
    parsed = run.read(argv)
    if parsed.settings.list:
        print(list_recipes())
        return DONE
    shards = run.find_shards(parsed.settings)
    split = run.open_split(parsed.settings, shards, parsed.settings.train_split)
    if not parsed.configs:
        recipe = run.recipe_for(split.dataset.classes)
        print(f"recipe: {recipe} (the recommended one; see --list)")
        argv = ["--config", recipe, *argv]
        parsed = run.read(argv)
    name = run.recipe_name(parsed.configs[-1])
    out = parsed.settings.out or Path("runs") / name
    window = _window(parsed.settings, split, out)
    chosen = [f"--shards={shards}", f"--out={out}", *([f"--window={window}"] if window else [])]
    parsed = run.read([*argv, *chosen])  # so that config.yaml says the same again
    settings = parsed.settings
    note = f" ({split.dataset.note})" if split.dataset.note else ""
    print(f"shards: {redact(shards)}, {split.name}: {len(split)} samples of {split.dataset.classes}{note}\nout: {out}")
    if settings.batch > len(split):
        raise SettingsError(
            f"--batch {settings.batch}: is larger than the split {split.name!r} of {redact(shards)}, "
            f"which has {len(split)} samples; give --batch {len(split)} or less"
        )
    with files.exclusive(out, command="ks-train"):
        return _train(parsed, split, shards=shards, out=out, recipe=name)


def _train(parsed: Parsed[Settings], split: stream.Split, *, shards: str, out: Path, recipe: str) -> int:
    settings = parsed.settings
    built = run.build(parsed)
    built.view.check(split.dataset, built.view_settings)
    device = run.pick_device(settings.device)
    model = built.model.to(device)
    if settings.channels_last:
        model = model.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    optimizer = run.make_optimizer(model, settings.optim)
    per_epoch = len(split) // settings.batch
    steps = settings.steps or settings.epochs * per_epoch
    facts = run.facts(split, recipe=recipe, shards=shards, versions=_versions())
    first = _resume(out, parsed, facts, model, optimizer)
    if first >= steps:
        print(f"trained: {first} steps are done already; checkpoint: {checkpoint.latest(out / 'checkpoints')}")
        return DONE
    files.write_bytes(out / "config.yaml", parsed.text.encode())
    files.write_bytes(out / "run.json", (json.dumps(facts, indent=2) + "\n").encode())

    samples = loader.Samples(split=split, view=built.view.__name__, settings=built.view_settings, seed=settings.seed)
    order = loader.Order(
        split=split, batch=settings.batch, seed=settings.seed, first_step=first, steps=steps, window=settings.window
    )
    quarantine = Quarantine(out / "quarantine.jsonl", split, most_share=settings.max_bad_share)
    state = _state(parsed, facts)
    step = first
    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
    with (
        stoppable(*signals) as stop,
        loader.train_batches(samples, order, loading=run.loading(settings, device), quarantine=quarantine) as batches,
        Metrics(out, first_step=first) as metrics,
        progress.bar("ks-train", steps, done=first) as bar,
    ):
        model.train()
        for batch in metrics.timed(batches):
            rate = _rate(settings.optim, step, steps)
            for group in optimizer.param_groups:
                group["lr"] = rate
            outcome = run.learn(built, batch, optimizer)
            step += 1
            metrics.count(settings.batch)
            bar.advance(note=metrics.note)
            ends = step == steps or bool(stop)
            saves = ends or step % settings.save_every == 0
            if saves or step % settings.log_every == 0:
                logs = {name: float(value) for name, value in outcome.logs.items()}
                _check_finite(logs, step)
                metrics.write(step, {**logs, "lr": rate, "epoch": step / per_epoch, **batches.account()})
            if saves:
                _check_finite({"weights": _largest_weight(model)}, step)
                checkpoint.save(
                    out / "checkpoints", step, model=model, optimizer=optimizer, state=state, keep=settings.keep
                )
            if ends:
                break
    return _farewell(stop, step, steps, out, probe="linear" if len(split.dataset.splits) > 1 else "crossmodal")


def _rate(optim: Optim, step: int, steps: int) -> float:
    warmup = min(optim.warmup_steps, steps)
    return learning_rate(step, base=optim.lr, steps=steps, warmup_steps=warmup, kind=optim.schedule)


def _window(settings: Settings, split: stream.Split, out: Path) -> int | None:
    """Shards that are shuffled together: a run that goes on keeps its own, however much the cache holds now."""
    last = checkpoint.latest(out / "checkpoints")
    if settings.window is None and last is not None:
        kept = checkpoint.read_state(last).get("window")
        return kept if isinstance(kept, int) else None
    return run.window(settings, split)


def _state(parsed: Parsed[Settings], facts: Mapping[str, Any]) -> dict[str, Any]:
    """All that decides what the next step sees, besides the step: with it a resume is exact."""
    told = _flat(yaml.safe_load(parsed.text))
    decisive = {name: value for name, value in told.items() if name not in FREE}
    return {**decisive, "fingerprint": facts["fingerprint"], "data_recipe": facts["data_recipe"]}


def _flat(document: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings by their names on the command line, `optim.lr`."""
    flat: dict[str, Any] = {}
    for name, value in document.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return flat


def _resume(
    out: Path, parsed: Parsed[Settings], facts: Mapping[str, Any], model: nn.Module, optimizer: torch.optim.Optimizer
) -> int:
    """Fill model and optimiser from the last checkpoint; returns the step to go on with."""
    path = checkpoint.latest(out / "checkpoints")
    if path is None:
        return 0
    if parsed.settings.resume == "none":
        raise RunError(f"{out}: holds a run at {path.name}; choose another --out, or go on with --resume auto")
    state = checkpoint.read_state(path)
    for name, value in _state(parsed, facts).items():
        if state.get(name) != value:
            raise RunError(
                f"{path}: was trained with {name} {state.get(name)}, not {value}; choose another --out, or the same {name}"
            )
    checkpoint.load_model(path, model)
    checkpoint.load_optimizer(path, model, optimizer)
    print(f"resumed: {path}")
    return int(state["step"])


def _check_finite(logs: Mapping[str, float], step: int) -> None:
    bad = [name for name, value in logs.items() if not math.isfinite(value)]
    if bad:
        raise RunError(f"step {step}: {', '.join(bad)} not finite; lower --optim.lr (the last checkpoint is kept)")


def _largest_weight(model: nn.Module) -> float:
    """The largest magnitude, or NaN where there is one."""
    return float(torch.stack([parameter.detach().abs().amax() for parameter in model.parameters()]).amax())


def _farewell(stop: Stop, step: int, steps: int, out: Path, *, probe: str) -> int:
    path = checkpoint.latest(out / "checkpoints")
    if stop and step < steps:
        print(f"stopped by {stop.by.name if stop.by else 'a signal'} at step {step} of {steps}; saved {path}")
        return STOPPED
    print(f"trained: {steps} steps\ncheckpoint: {path}\nnext: ks-eval {probe} --run {out}")
    return DONE


@dataclass
class Metrics:
    """metrics.jsonl and TensorBoard: losses, samples a second, and the share of time spent waiting for data."""

    out: Path
    first_step: int
    note: str = ""
    """The last losses, for the progress bar."""

    def __enter__(self) -> "Metrics":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # TensorBoard's own imports warn of their dependencies
            from torch.utils.tensorboard import SummaryWriter
        path = self.out / "metrics.jsonl"
        kept = [line for line in _lines(path) if _step(line) <= self.first_step]
        files.write_bytes(path, b"".join(kept))  # what a killed run wrote after its last checkpoint is made again
        self._file = path.open("ab")
        self._board = SummaryWriter(str(self.out / "tensorboard"), purge_step=self.first_step + 1)
        self._samples, self._waited, self._began = 0, 0.0, time.perf_counter()
        self._alarmed = False
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self._board.close()

    def timed(self, batches: Iterator[dict[str, torch.Tensor]]) -> Iterator[dict[str, torch.Tensor]]:
        """The same batches; the time until each one comes is counted as waiting."""
        while True:
            asked = time.perf_counter()
            batch = next(batches, None)
            if batch is None:
                return
            self._waited += time.perf_counter() - asked
            yield batch

    def count(self, samples: int) -> None:
        """So many samples were learnt from."""
        self._samples += samples

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """One line; speeds are those since the last."""
        elapsed = time.perf_counter() - self._began
        speeds = {"samples_per_second": self._samples / elapsed, "data_wait_share": self._waited / elapsed}
        line = {"step": step, **values, **speeds}
        self._file.write((json.dumps(line) + "\n").encode())
        self._file.flush()
        for name, value in line.items():
            self._board.add_scalar(name, value, step)
        self._board.flush()
        self.note = f"loss={values['loss']:.4g} wait={speeds['data_wait_share']:.0%}"
        if values.get("dead_channels", 0.0) > DEAD_SHARE_ALARM and not self._alarmed:
            self._alarmed = True
            log.warning(
                "step %d: %.0f%% of the channels are dead: the model is collapsing", step, 100 * values["dead_channels"]
            )
        self._samples, self._waited, self._began = 0, 0.0, time.perf_counter()


def _lines(path: Path) -> list[bytes]:
    """Whole lines of a file that may have been cut off in its last."""
    return (
        [line for line in path.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")] if path.exists() else []
    )


def _step(line: bytes) -> float:
    """The step that a line of metrics tells of; infinite for a damaged line, which is dropped."""
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return math.inf


def _versions() -> dict[str, str]:
    return {"kinetics-sounds": __version__, "torch": torch.__version__, "python": sys.version.split()[0]}


def list_recipes() -> str:
    """Every recipe with its head."""
    told = ["\n".join([name, *(f"    {line}" for line in recipe.head)]) for name, recipe in run.recipes().items()]
    return "\n\n".join([*told, UNTRIED])


if __name__ == "__main__":
    sys.exit(main())
