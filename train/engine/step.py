"""One update of the weights: precision, accumulation, the gradients of all ranks, and a stop before a bad one.

Shape suffixes: B samples of this rank's batch.
"""

import math
from collections.abc import Iterator, Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ..distributed import gradients
from ..methods import Step
from .build import ModelBundle

Precision = Literal["float32", "bf16", "fp16"]
DTYPES = {"float32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class NotFiniteError(Exception):
    """A loss that is no number; nothing was updated."""


class TrainStep:
    """Updates a model from batches. Losses are computed in float32 whatever the precision."""

    def __init__(
        self,
        built: ModelBundle,
        optimizer: torch.optim.Optimizer,
        *,
        precision: Precision = "float32",
        accumulate: int = 1,
        clip_norm: float | None = None,
        device: torch.device,
    ) -> None:
        """`accumulate` parts of a batch go through the model one after another: less memory, but each is compared alone."""
        self._built, self._optimizer = built, optimizer
        self._accumulate, self._clip_norm, self._device = accumulate, clip_norm, device
        self._dtype = DTYPES[precision]
        self._scaler = torch.amp.GradScaler(device.type, enabled=precision == "fp16")

    def __call__(self, batch: Mapping[str, Tensor]) -> Step:
        """Learn from this rank's part of a batch, on the device; raises NotFiniteError for a loss that is no number.

        Where gradients are cut, the logs have their length before the cut, "grad_norm".
        """
        self._optimizer.zero_grad(set_to_none=True)
        steps = []
        for part in _parts(batch, self._accumulate):
            with self.autocast():
                step = self._built.step(part)
            self._scaler.scale(step.loss / self._accumulate).backward()  # type: ignore[no-untyped-call]
            steps.append(step)
        outcome = _mean(steps)
        learning = [parameter for group in self._optimizer.param_groups for parameter in group["params"]]
        gradients.average_gradients(learning)
        if not math.isfinite(outcome.loss.item()):
            bad = [name for name, value in outcome.logs.items() if not value.isfinite()]
            raise NotFiniteError(", ".join(bad or ["loss"]))
        if self._clip_norm is not None:
            self._scaler.unscale_(self._optimizer)
            length = nn.utils.clip_grad_norm_(learning, self._clip_norm)
            if length.isfinite():  # else fp16 leaves this step out
                outcome = Step(outcome.loss, {**outcome.logs, "grad_norm": length.detach()})
        self._scaler.step(self._optimizer)
        self._scaler.update()
        return outcome

    def autocast(self) -> torch.autocast:
        """The precision of the encoders, for validation too."""
        return torch.autocast(self._device.type, dtype=self._dtype, enabled=self._dtype is not torch.float32)

    def state(self) -> dict[str, Any]:
        """What a run that goes on must know besides the optimiser: fp16's scale."""
        return self._scaler.state_dict()

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from `state`."""
        if state:
            self._scaler.load_state_dict(dict(state))


def _parts(batch: Mapping[str, Tensor], count: int) -> Iterator[dict[str, Tensor]]:
    """A batch in `count` parts, which differ by one sample at most."""
    pieces = {name: value_B.tensor_split(count) for name, value_B in batch.items()}
    for number in range(count):
        yield {name: piece[number] for name, piece in pieces.items()}


def _mean(steps: list[Step]) -> Step:
    if len(steps) == 1:
        return Step(steps[0].loss.detach(), steps[0].logs)
    logs = {name: torch.stack([step.logs[name] for step in steps]).mean() for name in steps[0].logs}
    return Step(torch.stack([step.loss.detach() for step in steps]).mean(), logs)
