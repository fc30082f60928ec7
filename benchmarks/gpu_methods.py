"""What a step of every method costs on one GPU, at the batch of its recipe.

    python benchmarks/gpu_methods.py [--rows "avcl_k32;moco_k32"] [--precision bf16] [--seconds 4] [--options="--compile"]

Each row is built as ks-train builds it and takes real steps, augmentations too, on random arrays that lie on the device already:
the ceiling, without a loader. A batch that does not fit is tried with activation checkpointing, and then halved until it does.
`--options` are options of ks-train for all rows. Without a GPU it says "not measured", and nothing else; `--device cpu --batch 2`
runs it all the same.
"""

import argparse
import gc
import shlex
import sys
import time
from datetime import UTC, datetime
from typing import Any

import torch
from methods_size import data_of_recipe
from torch import Tensor

from kinetics_sounds.train.config.settings import TrainSettings
from kinetics_sounds.train.distributed.process_group import World
from kinetics_sounds.train.engine.build import ModelBundle
from kinetics_sounds.train.engine.setup import TrainComponents, make_components
from kinetics_sounds.train.engine.step import NotFiniteError
from kinetics_sounds.train.interface import Data, Moment

LOG_MEL = ("--clip_and_log_mel.audio_mean=[0.5]", "--clip_and_log_mel.audio_std=[0.3]")
SPECTROGRAM = ("--clip_and_spectrogram.audio_mean=[0.5]", "--clip_and_spectrogram.audio_std=[0.3]")
"""Of random arrays; ks-shard stats computes those of a set."""
ROWS: dict[str, tuple[str, ...]] = {
    "avcl_k32": (),
    "avcl_k32_recommended": (),
    "avcl_k32, batch 256": ("--batch=256",),
    "avcl_k32, batch 256, c3d": ("--batch=256", "--backbone=c3d"),
    "avcl_k32, batch 256, r2plus1d": ("--batch=256", "--backbone=r2plus1d"),
    "avcl_k32, batch 256, float32": ("--batch=256", "--precision=float32"),
    "avcl_k32, batch 256, activation checkpointing": ("--batch=256", "--activation_checkpointing"),
    "avcl_k32, batch 256, 4 micro-batches": ("--batch=256", "--grad_accum_steps=4"),
    "moco_k32": (),
    "avid_k400": SPECTROGRAM,
    "cma_k400": SPECTROGRAM,
    "iicl_k400, first stage": LOG_MEL,
    "iicl_k400, second stage": ("--iicl.first_stage=0", *LOG_MEL),
    "iic_k32": (),
    "simsiam_k32": (),
    "barlow_k32": (),
    "crisscross_k400": LOG_MEL,
    "simclr_k32": (),
    "byol_k32": (),
    "avcl_k32, batch 256, compiled": ("--batch=256", "--compile"),
}
"""What each row's recipe is given beside it."""
WARM_UP = 2


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--rows", default="", help="names of rows, by semicolons; default: all")
    parser.add_argument("--precision", default="bf16")
    parser.add_argument("--batch", type=int, help="instead of the recipe's")
    parser.add_argument("--seconds", type=float, default=4.0, help="least of a row")
    parser.add_argument("--options", default="", help="of ks-train, for all rows")
    parser.add_argument("--cudnn_benchmark", action="store_true", help="have cuDNN try its algorithms for each shape")
    asked = parser.parse_args()
    if asked.device == "cuda" and not torch.cuda.is_available():
        print("not measured: there is no GPU here")
        return
    torch.backends.cudnn.benchmark = asked.cudnn_benchmark
    where = torch.cuda.get_device_name() if asked.device == "cuda" else asked.device
    words = [asked.precision, *(["cudnn.benchmark"] if asked.cudnn_benchmark else []), *shlex.split(asked.options)]
    print(f"{datetime.now(UTC):%Y-%m-%d}, {where}, torch {torch.__version__}; {' '.join(words)}\n")
    print("| recipe | samples | first loss | samples/s | ms a step | its MFU | peak GB | hours of the whole recipe |")
    print("|---|---|---|---|---|---|---|---|")
    rows = [row for row in ROWS if not asked.rows or row in asked.rows.split(";")]
    for row in rows:
        print(told(row, asked), flush=True)


def told(row: str, asked: argparse.Namespace) -> str:
    """A row of the table: the first of the ways to run it that fits."""
    batch, failed = asked.batch, ""
    while True:
        options = [f"--precision={asked.precision}", "--optim.lr=1e-6", *ROWS[row], *shlex.split(asked.options)]
        more = ("--activation_checkpointing",) if failed else ()
        try:
            return f"| {row}{failed} {measured(row.partition(',')[0], [*options, *more], batch, asked)}"
        except (NotFiniteError, RuntimeError) as error:  # memory that is not there is a RuntimeError
            print(f"{row}{failed}, batch {batch or 'its own'}: {str(error)[:300]}", file=sys.stderr, flush=True)
            if batch == 2:
                raise
        gc.collect()
        torch.cuda.empty_cache()
        if failed:
            batch = max(2, (batch or data_of_recipe(row, tuple(options))[1].batch) // 2)
        failed = ", checkpointing"


def measured(recipe: str, options: list[str], batch: int | None, asked: argparse.Namespace) -> str:
    """The cells of a row; raises OutOfMemoryError."""
    chosen = (*options, *([f"--batch={batch}"] if batch else []))
    parsed, data = data_of_recipe(recipe, chosen)
    device = torch.device(asked.device)
    nothing: Any = None  # the split, of which the model needs nothing
    components = make_components(parsed, nothing, data, World(0, 1, device))
    if recipe.startswith("cma"):  # as if AVID had been trained before
        components.bundle.method.memory().partition.fill_(2.2)
    arrays = made(components.bundle, data, parsed.settings, device)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    first = float("nan")
    for step in range(WARM_UP):
        output = components.train_step(arrays, Moment(seed=0, step=step, epoch=0))
        first = float(output.loss) if step == 0 else first
    seconds = timed(components, arrays, asked.seconds, device)
    speed, steps = data.batch / seconds, data.steps
    used = components.utilization
    share = f"{used.mfu(speed):.0%}" if used is not None else ""
    peak = torch.cuda.max_memory_allocated() / 1e9 if device.type == "cuda" else 0.0
    hours = seconds * steps / 3600
    return f"| {data.batch} | {first:.4g} | {speed:.0f} | {1000 * seconds:.1f} | {share} | {peak:.1f} | {hours:.1f} |"


def made(built: ModelBundle, data: Data, settings: TrainSettings, device: torch.device) -> dict[str, Tensor]:
    """Random arrays of a batch, as the loader gives them."""
    random = torch.Generator(device).manual_seed(settings.seed)
    arrays = {}
    for name, (shape, dtype) in built.view.arrays(built.view_settings).items():
        shape = (data.batch, *shape)
        if dtype is torch.uint8:
            arrays[name] = torch.randint(256, shape, dtype=dtype, device=device, generator=random)
        else:
            arrays[name] = torch.rand(shape, dtype=dtype, device=device, generator=random)
    place = torch.arange(data.batch, device=device)
    return {**arrays, "label": place % data.classes, "index": place, "place": place}


def timed(components: TrainComponents, arrays: dict[str, Tensor], least: float, device: torch.device) -> float:
    """Seconds of a step, in the mean of at least one."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    began, steps = time.perf_counter(), 0
    while steps < 1 or time.perf_counter() - began < least:
        components.train_step(arrays, Moment(seed=0, step=WARM_UP + steps, epoch=0))
        steps += 1
    if device.type == "cuda":
        torch.cuda.synchronize()
    return (time.perf_counter() - began) / steps


if __name__ == "__main__":
    main()
