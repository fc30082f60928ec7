"""One update of the weights: precision, accumulation, the gradients of all ranks, and a stop before a bad one.

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
    """A loss that is no number; nothing was updated."""


class TrainStep:
    """Updates a model from batches. Losses are computed in float32 whatever the precision."""

    def __init__(
        self,
        built: ModelBundle,
        optimizer: torch.optim.Optimizer,
        *,
        precision: Precision = "float32",
        micro_sizes: Sequence[int] | None = None,
        clip_norm: float | None = None,
        device: torch.device,
    ) -> None:
        """`micro_sizes` are this rank's rows of each micro-batch (`sampler.micro_batches`); None: one micro-batch of all.

        Gradients are accumulated over micro-batches: less memory, but samples of two are not compared.
        """
        self._built, self._optimizer = built, optimizer
        self._sizes, self._clip_norm, self._device = list(micro_sizes or ()), clip_norm, device
        self._dtype = DTYPES[precision]
        self._scaler = torch.amp.GradScaler(device.type, enabled=precision == "fp16")

    def __call__(self, arrays: Mapping[str, Tensor], moment: Moment) -> Output:
        """Learn from this rank's part of a batch, on the device; raises NotFiniteError for a loss that is no number.

        `after_update` follows a step that was taken. Where gradients are cut, the logs have their length before the cut,
        "grad_norm".
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
        if self._clip_norm is not None:
            self._scaler.unscale_(self._optimizer)
            length = nn.utils.clip_grad_norm_(learning, self._clip_norm)
            if length.isfinite():  # else fp16 leaves this step out
                outcome = Output(outcome.loss, {**outcome.logs, "grad_norm": length.detach()})
        before = self._scaler.get_scale()
        self._scaler.step(self._optimizer)
        self._scaler.update()
        if self._scaler.get_scale() >= before:  # a scale that shrinks says that the step was left out
            self._built.method.after_update(_by_place(outputs, arrays["place"]), moment)
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


def _mean(outputs: list[Output]) -> Output:
    if len(outputs) == 1:
        return Output(outputs[0].loss.detach(), outputs[0].logs)
    logs = {name: torch.stack([output.logs[name] for output in outputs]).mean() for name in outputs[0].logs}
    return Output(torch.stack([output.loss.detach() for output in outputs]).mean(), logs)


@torch.no_grad()
def _by_place(outputs: list[Output], place_B: Tensor) -> dict[str, Tensor]:
    """What was kept of all ranks' rows of a step, in the order of their places: (N, ...) each."""
    names = sorted(outputs[0].kept)
    if not names:
        return {}
    order_N = gather.gather(place_B).argsort()
    return {name: gather.gather(torch.cat([output.kept[name] for output in outputs]))[order_N] for name in names}
