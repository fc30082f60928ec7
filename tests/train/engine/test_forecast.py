"""What a run says of its checkpoints before its first step."""

import shutil
from pathlib import Path

import pytest
import torch
from torch import nn

from kinetics_sounds.train.engine import forecast
from kinetics_sounds.train.optim.optimizer import Optim


@pytest.mark.parametrize(("name", "bytes_"), [("sgd", 8_800), ("lars", 8_800), ("adam", 12_800), ("adamw", 12_800)])
def test_a_checkpoint_holds_weights_buffers_and_the_moments_of_what_learns(name: str, bytes_: int) -> None:
    """1,000 weights that learn, 4,000 bytes; 200 that do not, or are a buffer, 800 bytes."""
    model = nn.Module()
    model.learns, model.frozen = nn.Parameter(torch.zeros(1_000)), nn.Parameter(torch.zeros(100), requires_grad=False)
    model.register_buffer("mean", torch.zeros(100))

    assert forecast.checkpoint_bytes(model, Optim(name=name)) == bytes_


@pytest.mark.parametrize(("free", "said"), [(3_000_000, False), (2_000_000, True)])
def test_a_disk_that_is_too_small_is_told_before_the_first_step(
    free: int, said: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Checkpoints of 0.8 MB, two that are kept and the one being written."""
    used = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: used._replace(free=free))

    text = forecast.format_forecast(nn.Linear(1, 50_000), Optim(), steps=600, steps_per_epoch=3, keep=2, out=tmp_path)

    assert text.startswith(
        f"steps: 600, 3 per epoch\ndisk: 2 checkpoints of about 0.8 MB each, {free / 1e6:.1f} MB free"
    )
    assert text.endswith("; they may not fit") is said


@pytest.mark.parametrize(("warmup", "said"), [(11, False), (12, True), (70, True)])
def test_a_run_that_never_ends_its_warm_up_is_told_so(warmup: int, said: bool, tmp_path: Path) -> None:
    optim = Optim(name="sgd", warmup_steps=warmup)
    text = forecast.format_forecast(nn.Linear(2, 2), optim, steps=12, steps_per_epoch=3, keep=2, out=tmp_path)

    assert (f"steps: 12, 3 per epoch; all of them warm-up (--optim.warmup_steps {warmup})\n" in text) == said
