"""Check of torch, by the trainer's own diagnosis (`kinetics_sounds.train.diagnostics.torch_report`), run as a process."""

import json
import math
import os
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from kinetics_sounds.command import INSTALL_TORCH, has_torch

from . import PYTHON, Asked, Finding, Verdict, ending, last_words

EXAMINE = "kinetics_sounds.train.diagnostics.torch_report"
DRIVER = Path("/proc/driver/nvidia/version")
TOLERANCE = {"float32": 5e-3, "bfloat16": 3e-2}
"""Maximum relative error of rounding: TF32 has 10 mantissa bits and bfloat16 has 7."""


def torch(_asked: Asked) -> Iterator[Finding]:
    """Version of torch, its devices, and whether it computes correctly on each."""
    if not has_torch():
        found = "is not installed: builds and packs without it; ks-train, ks-eval and ks-demo need it"
        yield Finding("torch", Verdict.WARNING, found, INSTALL_TORCH)
        return
    examined = subprocess.run([*PYTHON, "-m", EXAMINE], check=False, capture_output=True, text=True)
    if examined.returncode != 0:
        remedy = "reinstall torch for this machine: https://pytorch.org/get-started/locally names the build"
        found = ending(examined.returncode) + last_words(examined.stderr)
        yield Finding("torch", Verdict.MISSING, found, remedy)
        return
    yield from findings(json.loads(examined.stdout))


def findings(examined: Mapping[str, Any]) -> Iterator[Finding]:
    """Findings of a `Report` of `kinetics_sounds.train.diagnostics.torch_report`."""
    version = examined["version"]
    if version.startswith("2.9."):
        found = f"{version}: its 3-D convolutions are slow, and on some GPUs incorrect in bfloat16"
        yield Finding("torch", Verdict.WARNING, found, "pip install 'torch!=2.9.*'")
    else:
        yield Finding("torch", Verdict.OK, f"{version}, {examined['threads']} threads")
    yield _devices(examined)
    for agreement in examined["agreements"]:
        yield _agreement(agreement)


def _devices(examined: Mapping[str, Any]) -> Finding:
    devices = [f"{each['name']} ({each['memory_bytes'] / 2**30:.0f} GiB)" for each in examined["devices"]]
    if devices:
        return Finding("cuda", Verdict.OK, f"CUDA {examined['cuda']}: {', '.join(devices)}")
    if not DRIVER.exists():
        return Finding("cuda", Verdict.OK, "no NVIDIA GPU here: builds need none, training uses the CPU")
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
    why = f"CUDA_VISIBLE_DEVICES={hidden}" if hidden is not None else f"torch is built for CUDA {examined['cuda']}"
    remedy = "unset CUDA_VISIBLE_DEVICES, or install the torch build that https://pytorch.org/get-started/locally names"
    return Finding("cuda", Verdict.WARNING, f"an NVIDIA driver is here, but torch sees no device ({why})", remedy)


def _agreement(agreement: Mapping[str, Any]) -> Finding:
    """Finding on the accuracy of a device's convolutions in one data type."""
    device, dtype, error = agreement["device"], agreement["dtype"], agreement["error"]
    name = f"conv3d {dtype} {device}"
    away = {part: float(agreement[part]) for part in ("forward", "gradient")}
    found = error or ", ".join(f"{part} off by {value:.1g}" for part, value in away.items()) + " of the largest value"
    right = not error and all(math.isfinite(value) and value <= TOLERANCE[dtype] for value in away.values())
    if dtype == "bfloat16" and device == "cpu":
        found += "" if right else "; some CPUs compute it incorrectly, and this is one"
        remedy = "" if right else "train in float32 on this CPU, as ks-train does"
        return Finding(name, Verdict.OK if right else Verdict.WARNING, found, remedy)
    if right:
        return Finding(name, Verdict.OK, found)
    if dtype == "float32":
        return Finding(name, Verdict.MISSING, found, "install another torch: training results with this one are wrong")
    return Finding(name, Verdict.WARNING, found, "train in float32 on this device, or install another torch")
