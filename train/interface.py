"""Interfaces of methods, encoders and views, and the values that the trainer passes to them.

Shape suffixes: B rows of this rank in one micro-batch, N rows of all ranks, V views of a sample, C channels, T time, H and W
pixels, D feature channels.
"""

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn

from kinetics_sounds.address import Address
from kinetics_sounds.errors import RunError
from kinetics_sounds.shards.index import Dataset
from kinetics_sounds.stream import Sample, Split

Arrays = dict[str, tuple[tuple[int, ...], torch.dtype]]
"""Shape and dtype of each array, by name."""


class Data(NamedTuple):
    """Facts about the training split and the run that a method may depend on.

    Runs saved before a field existed get its default.
    """

    classes: int
    samples: int
    """Rows of the training split; 0 when built for evaluation, where no memory bank or queue is allocated."""
    steps: int = 0
    """Optimizer steps of the whole run."""
    steps_per_epoch: int = 0
    batch: int = 0
    """Global batch size: samples per step, over all ranks and micro-batches."""


class Batch(NamedTuple):
    """Rows of this rank in one global micro-batch, on the model's device."""

    video: Tensor | None
    """float32 (B, V, C, T, H, W), augmented; None if the view has no video."""
    audio: Tensor | None
    """float32 (B, V, C, T, H, W), in the layout of the audio encoder."""
    label: Tensor
    """int64 (B,); -1 means unlabeled."""
    place: Tensor
    """int64 (B,), position in the step's global batch."""
    row: Tensor | None
    """int64 (B,), row of the training split; None for any other split."""


class Moment(NamedTuple):
    """Position of a micro-batch within a run: a pure function of settings and step, so nothing has to be saved for resume."""

    seed: int
    step: int
    """Optimizer steps before this one."""
    epoch: int
    micro: int = 0
    """Index of the micro-batch within the step."""

    def rng(self, name: str) -> np.random.Generator:
        """Random generator of this step, the same on every rank and in every micro-batch.

        Draw for the whole global batch (`Data.batch` rows) and index the result with `Batch.place`; then results do not depend
        on the number of ranks or micro-batches.
        """
        return np.random.default_rng([self.seed, self.step, zlib.crc32(name.encode())])


class Output(NamedTuple):
    """Result of a method's forward pass on one micro-batch."""

    loss: Tensor
    """Scalar loss over the rows of all ranks in this micro-batch (gather features first, see `distributed`)."""
    logs: dict[str, Tensor]
    """Detached scalars to log, by name."""
    kept: Mapping[str, Tensor] = {}
    """Detached tensors (B, ...) that `after_update` receives, gathered over all ranks and micro-batches."""


def checked_output(output: object, method: nn.Module) -> Output:
    """The result of a method's forward pass; raises RunError if it is no `Output`."""
    if isinstance(output, Output):
        return output
    kind = Tensor if isinstance(output, Tensor) else type(output)  # no subclass, where FLOPs are counted
    raise RunError(
        f"{type(method).__name__}.forward: must return Output(loss, logs) of interface.py, not {kind.__name__}"
    )


class Method(nn.Module):
    """A self-supervised method: owns one encoder per modality, and computes the loss of a batch."""

    video: nn.Module
    """Encoder that ks-eval evaluates, like `audio`."""
    audio: nn.Module
    views: int = 1
    """Number of views V that the view must provide."""
    validates: bool = True
    """Whether `forward` works on a split other than the training split."""
    follows_steps: bool = False
    """Whether anything besides the learning rate depends on `Data.steps`, for example a momentum schedule."""
    reads: tuple[str, ...] = ("video", "audio")
    """Modalities of a batch that it learns from."""
    INIT: tuple[str, ...] = ("video.", "audio.")
    """Prefixes of the weights that `--init_from` loads. The first two are the encoders and required."""
    NEEDS: tuple[str, ...] = ()
    """Further prefixes that `--init_from` must find, with equal shapes."""
    AFTER: str = ""
    """Name of the method whose runs have the weights of `NEEDS`."""
    REPLICATED: tuple[str, ...] = ()
    """Prefixes of buffers that are equal on all ranks (memory banks, queues): saved in a file of their own, never broadcast,
    and not loaded by ks-eval."""

    def encoders(self) -> list[nn.Module]:
        """All distinct encoders, including momentum encoders; these are compiled and activation-checkpointed."""
        return list({id(each): each for each in (self.video, self.audio)}.values())

    def embed(self, modality: str, feature_BD: Tensor) -> Tensor:
        """Projection-head embedding of pooled features of "video" or "audio", as compared by the loss: (B, D) to (B, E)."""
        heads = getattr(self, "heads", {})
        return heads[modality](feature_BD) if modality in heads else feature_BD

    def check(self, inputs: "Inputs") -> None:
        """Raise ValueError if the method cannot learn from the inputs of a view."""

    def adopt(self, facts: Mapping[str, Any], own: Mapping[str, Any]) -> None:
        """Compare the `run.json` of the `--init_from` run (`facts`) with this run's (`own`); raise RunError if incompatible.

        `facts` is empty for a checkpoint outside a run folder.
        """

    def forward(self, batch: Batch, moment: Moment) -> Output:
        """Loss of a micro-batch. Changes no state, except a constant estimated at step 0, micro-batch 0.

        In evaluation mode it changes no state of the method.
        """
        raise NotImplementedError

    def on_epoch(self, moment: Moment, labels: Tensor) -> None:
        """Called on every rank before the first step of an epoch, and not on resume in mid-epoch; keep results in buffers.

        `labels` are those of the training split, int64 (rows,).
        """

    def after_update(self, kept: Mapping[str, Tensor], moment: Moment) -> None:
        """Called on every rank after each successful optimizer step: update momentum encoders, banks and queues here.

        `kept` is `Output.kept` gathered over all ranks and micro-batches, in the order of `Batch.place`: (N, ...).
        """


@runtime_checkable
class Encoder(Protocol):
    """A network that maps (B, C, T, H, W) to pooled features (B, D)."""

    dim: int
    """Channels D of the pooled feature."""
    layers: tuple[str, ...]
    """Names of the layers whose maps can be requested; the last one is the one pooled."""

    def maps(self, inputs_BCTHW: Tensor, layers: Sequence[str], /) -> dict[str, Tensor]:
        """Unpooled maps of these layers, in one forward pass. This is the method that is compiled."""
        ...

    def pool(self, maps: Tensor, /) -> Tensor:
        """Pool maps (B, channels, ...) to (B, channels)."""
        ...

    def __call__(self, inputs_BCTHW: Tensor, /) -> Tensor:
        """Pooled maps of the last layer: (B, D)."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """Shapes and stored parts of a view's inputs."""

    views: int
    """Number of views V of a training sample."""
    video: tuple[int, ...] | None
    """(C, T, H, W) of one view for the video encoder."""
    audio: tuple[int, ...] | None
    """(C, T, H, W) of one view for the audio encoder."""
    parts: tuple[str, ...]
    """Parts of a stored sample to read, besides the frames."""
    audio_time_first: bool = False
    """Whether the audio's H is time and W frequency (low first); otherwise H is frequency and W time."""
    reads_mel: bool = True
    """Whether the view uses stored mel-spectrograms or their parameters. Such a run is only evaluated on shards with equal
    parameters."""


class View(Protocol):
    """A module of `data/views/`: turns a stored sample into arrays (in a worker), then encoder inputs (on the device)."""

    Settings: type

    def inputs(self, settings: Any) -> Inputs:  # noqa: ANN401 - its own Settings
        """Shapes and stored parts of the inputs."""
        ...

    def check(self, dataset: Dataset, settings: Any) -> None:  # noqa: ANN401
        """Raise ShardError if a shard set does not suit the view."""
        ...

    def arrays(self, settings: Any, clips: int | None = None) -> Arrays:  # noqa: ANN401
        """Shapes and dtypes that `train_view` and `val_view` return, or `eval_views` for this number of clips."""
        ...

    def train_view(self, sample: Sample, settings: Any, generator: np.random.Generator) -> dict[str, Tensor]:  # noqa: ANN401
        """V random views: each array is (V, ...); "draws" (float32) holds the random numbers that `augment` uses."""
        ...

    def val_view(self, sample: Sample, settings: Any) -> dict[str, Tensor]:  # noqa: ANN401
        """V deterministic views."""
        ...

    def eval_views(self, sample: Sample, settings: Any, clips: int) -> dict[str, Tensor]:  # noqa: ANN401
        """Evenly spaced clips: "video" (clips, ...), and "audio" (1, ...) for all clips or (clips, ...) for each."""
        ...

    def augment(self, arrays: Mapping[str, Tensor], settings: Any) -> dict[str, Tensor]:  # noqa: ANN401
        """Augment on the device: arrays (B, V, ...) to "video" and "audio", float32 (B, V, C, T, H, W)."""
        ...

    def complete(self, settings: Any, shards: Address, split: Split, before: Mapping[str, Any]) -> Any:  # noqa: ANN401
        """Fill in settings that depend on the training split, such as normalization statistics. Optional.

        `before` holds the view's settings of a resumed run, and is empty for a new one. Raises ShardError if the shard set
        lacks what is needed.
        """
        ...

    def single(self, settings: Any) -> Any:  # noqa: ANN401
        """The settings with one view. Optional, for views that have more to change than `views`."""
        ...

    def plain(self, settings: Any) -> Any:  # noqa: ANN401
        """The settings with one view and no color or sound augmentation, for probes such as ks-eval layerwise. Optional."""
        ...


def replicated(model: nn.Module) -> tuple[str, ...]:
    """`Method.REPLICATED` of a model; empty for any other module."""
    return tuple(getattr(model, "REPLICATED", ()))
