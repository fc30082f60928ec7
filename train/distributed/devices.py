"""Which device a process computes on."""

import os

import torch

from kinetics_sounds.errors import SettingsError


def pick_device(name: str) -> torch.device:
    """The device that a `--device` names; raises SettingsError where it is not there."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name.startswith("cuda") and os.environ.get("WORLD_SIZE", "1") != "1":
        return torch.device("cuda")  # each rank takes its own of them, and no other
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError) as error:
        raise SettingsError(
            f"--device {name}: is not to be had here ({str(error).splitlines()[0]}); try cpu"
        ) from error
    return device


def check_devices(devices: int, device: str) -> None:
    """Raise SettingsError where this machine has GPUs, but fewer than `--devices`; CPUs are shared by any number."""
    if device == "cpu" or not torch.cuda.is_available():
        return
    there = torch.cuda.device_count()
    if devices > there:
        raise SettingsError(f"--devices {devices}: this machine has {there}; give --devices {there}, or --device cpu")
