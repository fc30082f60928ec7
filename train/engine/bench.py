"""ks-train bench: throughput of the data loader, of the model, and of both together, and which one is the bottleneck."""

import itertools
import json
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kinetics_sounds import files
from kinetics_sounds.address import Address
from kinetics_sounds.command import DONE
from kinetics_sounds.errors import RunError, SettingsError
from kinetics_sounds.quantities import byte_size
from kinetics_sounds.settings import Parsed
from kinetics_sounds.stream import Split

from ..config import recipes, run_folder
from ..config.settings import TrainSettings, check_used, paths_from_config, read_settings_as
from ..data import dataset, fetcher, loader, sampler
from ..data.bad_samples import BadSampleLog
from ..distributed import devices
from ..distributed.process_group import World
from ..interface import Moment
from . import build, resume
from .setup import make_components
from .step import NotFiniteError

WARM_UP = 3
"""Warm-up steps that are not measured."""
FOREVER = 10**9
"""More steps than any measurement takes."""
AS_FAST = 0.95
"""If both together reach this fraction of the speed of one alone, that one is the bottleneck."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchSettings(TrainSettings):
    """Measure the throughput of the loader, of the model on one cached batch, and of both together.

    Examples:
      ks-train bench
      ks-train bench --config avcl_k32 --batch 64 --workers 12
      ks-train bench --config avcl_tiny --seconds 5 --out bench

    exit code: 0 done; 2 usage error; 3 stopped by a signal or a full disk, run again; 4 a bug, or a failing disk.
    """

    out: Path | None = None
    """Folder to write bench.json to. Default: print the result only."""
    json: bool = False
    """Print the result as JSON on standard output; all else goes to standard error."""
    seconds: float = 20.0
    """Minimum seconds per measurement; at least two steps are measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Speed:
    """Result of one measurement."""

    samples_per_second: float
    wait_share: float
    """Fraction of the time spent waiting for data."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """Results of all three measurements."""

    loader: Speed
    model: Speed
    both: Speed
    account: Mapping[str, float]
    """Loader statistics of both together."""
    peak_bytes: int
    """Peak device memory in bytes; 0 if the device does not report it."""
    mfu: float | None = None
    """Model FLOPs utilization of the model alone; None if the device's peak is unknown."""

    @property
    def bound(self) -> str:
        """The bottleneck: "the model", "the loader" or "the cores"."""
        if self.both.samples_per_second >= AS_FAST * self.model.samples_per_second:
            return "the model"
        if self.both.samples_per_second >= AS_FAST * self.loader.samples_per_second:
            return "the loader"
        return "the cores"  # loader and model compete for them


def bench(argv: Sequence[str]) -> int:
    """Run `ks-train bench`; return the exit code."""
    parsed = read_settings_as(BenchSettings, argv, prog="ks-train bench")
    say = sys.stderr if parsed.settings.json else sys.stdout
    print(paths_from_config(argv, parsed), end="", file=say)
    shards = run_folder.find_shards(parsed.settings, parsed.configs)
    split = dataset.open_split(parsed.settings, shards, parsed.settings.train_split)
    if not parsed.configs:
        parsed = read_settings_as(
            BenchSettings, ["--config", recipes.recipe_for(split.dataset.classes), *argv], prog="ks-train bench"
        )
    check_used(argv, parsed)
    settings = parsed.settings
    if settings.batch > len(split):
        raise SettingsError(
            f"--batch {settings.batch}: is larger than the split {split.name!r}, which has {len(split)}"
        )
    parsed = resume.complete_view(parsed, shards, split)
    device = devices.pick_device(settings.device)
    print(
        f"recipe: {run_folder.recipe_name(parsed.configs[-1])}, batch {settings.batch}, {settings.workers} workers, {device}\n"
        f"shards: {shards}, {split.name}: {len(split)} samples",
        file=say,
    )
    try:
        result = measure(parsed, split, device, shards=shards)
    except NotFiniteError as error:
        raise RunError(f"loss not finite ({error}); bench a recipe that learns, with a lower --optim.lr") from error
    document = {"bound": result.bound, **_flat(result)}
    print(json.dumps(document) if settings.json else format_result(result))
    if settings.out is not None:
        files.write_bytes(settings.out / "bench.json", (json.dumps(document, indent=2) + "\n").encode())
        print(f"result: {settings.out / 'bench.json'}", file=say)
    return DONE


def measure(parsed: Parsed[BenchSettings], split: Split, device: torch.device, *, shards: Address) -> Result:
    """Run the three measurements one after the other; raises NotFiniteError."""
    settings, world = parsed.settings, World(0, 1, device)
    data = run_folder.data_of(split, settings)
    components = make_components(parsed, split, data, world)
    built, train_step = components.bundle, components.train_step
    facts = run_folder.facts(split, data, recipe="", shards=shards, versions=resume.versions())
    resume.begin(parsed, built.method, facts, world)
    built.method.on_epoch(Moment(settings.seed, 0, 0), torch.from_numpy(split.label_index_N))
    samples = fetcher.Samples(split=split, view=built.view.__name__, settings=built.view_settings, seed=settings.seed)
    bad_log = BadSampleLog(None, split, max_bad_fraction=settings.max_bad_fraction)

    def batches() -> Any:  # noqa: ANN401 - a context manager of Batches
        order = sampler.Order(
            split=split,
            batch=settings.batch,
            seed=settings.seed,
            first_step=0,
            steps=FOREVER,
            window=build.window(settings, split),
            grad_accum_steps=settings.grad_accum_steps,
        )
        return loader.train_batches(samples, order, loading=build.loading(settings, device), bad_log=bad_log)

    def learn(batch: Mapping[str, Tensor]) -> None:
        train_step(batch, Moment(settings.seed, 0, 0))

    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    with batches() as found:
        alone = _speed(found, lambda _: None, settings, device)
        cached = next(found)
    model_alone = _speed(itertools.repeat(cached), learn, settings, device)
    with batches() as found:
        both = _speed(found, learn, settings, device)
        account = found.account()
    peak = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else 0
    used = components.utilization
    mfu = used.mfu(model_alone.samples_per_second) if used is not None else None
    return Result(loader=alone, model=model_alone, both=both, account=account, peak_bytes=peak, mfu=mfu)


def _speed(batches: Iterable[dict[str, Tensor]], use: Any, settings: BenchSettings, device: torch.device) -> Speed:  # noqa: ANN401
    """Samples per second loaded and used."""
    source = iter(batches)
    for batch in itertools.islice(source, WARM_UP):
        use(batch)
    _synchronise(device)
    began, waited, steps = time.perf_counter(), 0.0, 0
    while steps < 2 or time.perf_counter() - began < settings.seconds:
        asked = time.perf_counter()
        batch = next(source)
        waited += time.perf_counter() - asked
        use(batch)
        steps += 1
        if device.type == "cuda" and steps % settings.log_every == 0:
            _synchronise(device)  # like the trainer when it logs, so that the host does not run ahead indefinitely
    _synchronise(device)
    elapsed = time.perf_counter() - began
    return Speed(samples_per_second=steps * settings.batch / elapsed, wait_share=waited / elapsed)


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _flat(result: Result) -> dict[str, float]:
    speeds = {"loader": result.loader, "model": result.model, "both": result.both}
    return {
        **{f"{name}_samples_per_second": each.samples_per_second for name, each in speeds.items()},
        "data_wait_share": result.both.wait_share,
        "peak_bytes": result.peak_bytes,
        **({} if result.mfu is None else {"model_mfu": result.mfu}),
        **result.account,
    }


def format_result(result: Result) -> str:
    """Format the result for printing."""
    account = result.account
    share = result.both.samples_per_second / result.model.samples_per_second
    waiting = f"{result.both.wait_share:.0%} of the time waiting for data"
    times = [
        f"{account[f'{what}_ms_p50']:.1f} ms (95%: {account[f'{what}_ms_p95']:.1f})" for what in ("decode", "read")
    ]
    lines = [
        f"loader alone: {result.loader.samples_per_second:8.1f} samples/s",
        f"model alone:  {result.model.samples_per_second:8.1f} samples/s, on one cached batch",
        f"both:         {result.both.samples_per_second:8.1f} samples/s, {share:.0%} of the model alone; {waiting}",
        f"a sample: decode {times[0]}, read {times[1]}; {account['queue_depth']:.1f} batches ready",
    ]
    if result.mfu is not None:
        lines.append(f"mfu of the model alone: {result.mfu:.1%} of the device's peak")
    if result.peak_bytes:
        lines.append(f"peak memory of the device: {byte_size(result.peak_bytes)}")
    remedy = {
        "the model": "more --workers would not help",
        "the loader": "use more --workers, shards packed with --codec jpeg, or --clip_and_mel.start gop",
        "the cores": "loader and model compete for them: use more cores, or shards packed with --codec jpeg",
    }
    return "\n".join([*lines, f"bound by: {result.bound} ({remedy[result.bound]})"])
