"""One optimizer step: mixed precision, gradient accumulation, gradient averaging, and a check for non-finite losses.

Shape suffixes: B samples of this rank's batch.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ..distributed import gather, gradients
from ..interface import Moment, Output
from .build import ModelBundle

Precision = Literal["float32", "bf16", "fp16"]
DTYPES = {"float32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class NotFiniteError(Exception):
    """The loss is NaN or infinite; the weights were not updated."""


class TrainStep:
    """Updates a model from batches. Losses are computed in float32 at any precision."""

    def __init__(
        self,
        built: ModelBundle,
        optimizer: torch.optim.Optimizer,
        *,
        precision: Precision = "float32",
        micro_sizes: Sequence[int] | None = None,
        max_grad_norm: float | None = None,
        device: torch.device,
    ) -> None:
        """Store the model, the optimizer and the options of the step.

        `micro_sizes` are this rank's rows in each micro-batch (`sampler.micro_batches`); None: a single micro-batch. Samples of
        different micro-batches are not compared by the loss.
        """
        self._built, self._optimizer = built, optimizer
        self._sizes, self._max_grad_norm, self._device = list(micro_sizes or ()), max_grad_norm, device
        self._dtype = DTYPES[precision]
        self._scaler = torch.amp.GradScaler(device.type, enabled=precision == "fp16")

    def __call__(self, arrays: Mapping[str, Tensor], moment: Moment) -> Output:
        """Train on this rank's rows of a batch, on the device; raises NotFiniteError if the loss is not finite.

        `after_update` is called only if the step was not skipped by the gradient scaler. With clipping, the logs contain
        "grad_norm", the norm before clipping.
        """
        self._optimizer.zero_grad(set_to_none=True)
        sizes = self._sizes or [len(arrays["place"])]
        pieces = {name: torch.split(value_B, sizes) for name, value_B in arrays.items()}
        outputs = []
        for micro in range(len(sizes)):
            with self.autocast():
                part = {name: piece[micro] for name, piece in pieces.items()}
                outputs.append(self._built.output(part, moment._replace(micro=micro)))
            self._scaler.scale(outputs[-1].loss / len(sizes)).backward()  # type: ignore[no-untyped-call]
        outcome = _mean(outputs)
        learning = [parameter for group in self._optimizer.param_groups for parameter in group["params"]]
        gradients.average_gradients(learning)
        if not math.isfinite(outcome.loss.item()):
            bad = [name for name, value in outcome.logs.items() if not value.isfinite()]
            raise NotFiniteError(", ".join(bad or ["loss"]))
        if self._max_grad_norm is not None:
            self._scaler.unscale_(self._optimizer)
            length = nn.utils.clip_grad_norm_(learning, self._max_grad_norm)
            if length.isfinite():  # else the scaler skips this step
                outcome = Output(outcome.loss, {**outcome.logs, "grad_norm": length.detach()})
        before = self._scaler.get_scale()
        self._scaler.step(self._optimizer)
        self._scaler.update()
        if self._scaler.get_scale() >= before:  # the scale shrinks if the step was skipped
            self._built.method.after_update(_by_place(outputs, arrays["place"]), moment)
        return outcome

    def autocast(self) -> torch.autocast:
        """Autocast context of the encoders' precision, also for validation."""
        return torch.autocast(self._device.type, dtype=self._dtype, enabled=self._dtype is not torch.float32)

    def state(self) -> dict[str, Any]:
        """State to save besides the optimizer: the loss scale of fp16."""
        return self._scaler.state_dict()

    def load(self, state: Mapping[str, Any]) -> None:
        """Restore `state`."""
        if state:
            self._scaler.load_state_dict(dict(state))


def _mean(outputs: list[Output]) -> Output:
    if len(outputs) == 1:
        return Output(outputs[0].loss.detach(), outputs[0].logs)
    logs = {name: torch.stack([output.logs[name] for output in outputs]).mean() for name in outputs[0].logs}
    return Output(torch.stack([output.loss.detach() for output in outputs]).mean(), logs)


@torch.no_grad()
def _by_place(outputs: list[Output], place_B: Tensor) -> dict[str, Tensor]:
    """Tensors kept by the outputs of all ranks, sorted by position in the global batch: (N, ...) each."""
    names = sorted(outputs[0].kept)
    if not names:
        return {}
    order_N = gather.gather(place_B).argsort()
    return {name: gather.gather(torch.cat([output.kept[name] for output in outputs]))[order_N] for name in names}
