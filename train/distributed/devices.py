"""Device selection."""

import os
import platform
import re
from pathlib import Path

import torch

from kinetics_sounds import cores
from kinetics_sounds.errors import SettingsError
from kinetics_sounds.quantities import plural

PEAK_TFLOPS = {
    "H200 NVL": (835.5, 417.5),
    "H200": (989.4, 494.7),
    "H100 NVL": (835.5, 417.5),
    "H100 PCIe": (756.0, 378.0),
    "H100": (989.4, 494.7),
    "A100": (312.0, 156.0),
    "A10": (125.0, 62.5),
    "L40S": (362.0, 183.0),
    "L4": (121.0, 60.0),
    "V100": (125.0, 15.7),
    "T4": (65.0, 8.1),
}
"""Dense peak TFLOP/s by GPU name (vendor data sheets): in bf16 or fp16, and in float32, where cuDNN convolutions use TF32 if
available."""
WITHOUT_BF16 = ("V100", "T4")
"""GPUs whose tensor cores support fp16 only; bf16 is emulated."""
PART = "MIG"
"""Marks a GPU slice (MIG) by name; its peak depends on its size."""


def peak_tflops(name: str, precision: str) -> float | None:
    """Peak TFLOP/s of a GPU by name; None for unknown GPUs or precisions, and for GPU slices."""
    words = set(re.split(r"[^A-Za-z0-9]+", name))
    if PART in words:
        return None
    for known, (half, single) in PEAK_TFLOPS.items():
        if words.issuperset(known.split()):
            if precision == "bf16" and known in WITHOUT_BF16:
                return None
            return single if precision == "float32" else half
    return None


def is_cpu(name: str) -> bool:
    """Whether `--device` resolves to the CPU; opens no device, as a process that only starts ranks must not."""
    return name == "cpu" or (name == "auto" and not torch.cuda.is_available())


def pick_device(name: str) -> torch.device:
    """Resolve `--device`; raise SettingsError if the device is not available."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name.startswith("cuda") and os.environ.get("WORLD_SIZE", "1") != "1":
        return torch.device("cuda")  # each rank uses its own GPU only
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError) as error:
        raise SettingsError(f"--device {name}: is not available ({str(error).splitlines()[0]}); try cpu") from error
    return device


def computes_on(device: torch.device) -> str:
    """What decides the last digits of a run beside its seed: the GPU, or the CPU with its instruction set and threads.

    oneDNN and MKL choose kernels by the instruction set, and sums are split by threads: both change the order of additions.
    """
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    if device.type != "cpu":
        return str(device)
    return f"{_cpu_name()}, {torch.backends.cpu.get_cpu_capability()}, {plural(torch.get_num_threads(), 'thread')}"


def _cpu_name() -> str:
    """The CPU by Linux's name, elsewhere by its architecture."""
    try:
        told = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    except FileNotFoundError:
        told = None
    return told[1] if told else platform.machine()


def check_devices(devices: int, device: str) -> None:
    """Raise SettingsError if this machine has GPUs, but fewer than `--devices`. CPUs can be shared by any number."""
    if device == "cpu" or not torch.cuda.is_available():
        return
    there = torch.cuda.device_count()
    if devices > there:
        raise SettingsError(f"--devices {devices}: this machine has {there}; give --devices {there}, or --device cpu")


def limit_threads(ranks: int = 1) -> None:
    """Divide this process's cores among the ranks: threads of torch on each, unless the user's OMP_NUM_THREADS says how many.

    torch counts the cores of the affinity, but not the quota of control groups: threads beyond it are stopped in mid-operation.
    """
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, min(torch.get_num_threads(), cores.usable()) // ranks))
