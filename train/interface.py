"""What a method, an encoder and a view are, and what the trainer hands them.

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
from kinetics_sounds.shards.index import Dataset
from kinetics_sounds.stream import Sample, Split

Arrays = dict[str, tuple[tuple[int, ...], torch.dtype]]
"""Shape and type of each array, by name."""


class Data(NamedTuple):
    """What a method may need to know of the training split and of the run; runs of before a field was there have its default."""

    classes: int
    samples: int
    """Rows of the split; 0 where the model is built for evaluation: then no memory bank and no queue is made."""
    steps: int = 0
    """Updates of the whole run."""
    steps_per_epoch: int = 0
    batch: int = 0
    """Samples a step, of all ranks and micro-batches."""


class Batch(NamedTuple):
    """Rows of one global micro-batch that this rank has, on the model's device."""

    video: Tensor | None
    """Float (B, V, C, T, H, W), augmented; None where the view gives none."""
    audio: Tensor | None
    """Float (B, V, C, T, H, W), laid out for the audio encoder."""
    label: Tensor
    """int64 (B,); -1: none."""
    place: Tensor
    """int64 (B,), position in the step's global batch."""
    row: Tensor | None
    """int64 (B,), row of the training split; None for any other split."""


class Moment(NamedTuple):
    """Where in a run a batch lies: a function of settings and position alone, so there is nothing to resume."""

    seed: int
    step: int
    """Updates before this one."""
    epoch: int
    micro: int = 0
    """Number of the micro-batch within the step."""

    def rng(self, name: str) -> np.random.Generator:
        """Randomness of this step: the same on every rank and in every micro-batch.

        Draw for the step's global batch (`Data.batch` rows) and take the rows at `Batch.place`: then nothing that is drawn
        depends on the number of ranks or of micro-batches.
        """
        return np.random.default_rng([self.seed, self.step, zlib.crc32(name.encode())])


class Output(NamedTuple):
    """What a method says of a micro-batch."""

    loss: Tensor
    """Scalar to minimise, of all ranks' rows of this micro-batch (see `distributed`: gather first)."""
    logs: dict[str, Tensor]
    """Detached scalars to plot, by name."""
    kept: Mapping[str, Tensor] = {}
    """Detached (B, ...), handed to `after_update` with the rows of all ranks and micro-batches."""


class Method(nn.Module):
    """A way to learn: owns one encoder a modality, and turns a batch into a loss."""

    video: nn.Module
    """What ks-eval evaluates."""
    audio: nn.Module
    views: int = 1
    """V that the view must give."""
    validates: bool = True
    """Whether `forward` can be asked of a split that is not trained on."""
    follows_steps: bool = False
    """Whether anything but the learning rate depends on `Data.steps`, as a momentum schedule does."""
    INIT: tuple[str, ...] = ("video.", "audio.")
    """Prefixes of the weights that `--init` carries over; a run without the first two is refused."""
    NEEDS: tuple[str, ...] = ()
    """Of the others those that `--init` must find too, in the same shapes."""
    AFTER: str = ""
    """The method whose run has them."""
    REPLICATED: tuple[str, ...] = ()
    """Prefixes of buffers that every rank computes alike (memory banks, queues): kept in a file of their own in a checkpoint,
    never broadcast, and not loaded by ks-eval."""

    def encoders(self) -> list[nn.Module]:
        """Every distinct encoder, momentum copies too: what is compiled and checkpointed."""
        return list({id(each): each for each in (self.video, self.audio)}.values())

    def embed(self, modality: str, feature_BD: Tensor) -> Tensor:
        """The embedding that the loss compares, of pooled features of "video" or "audio": (B, D) to (B, E).

        That of the projection head `heads[modality]` where the method has one, else the features themselves.
        """
        heads = getattr(self, "heads", {})
        return heads[modality](feature_BD) if modality in heads else feature_BD

    def check(self, inputs: "Inputs") -> None:
        """Raise ValueError for inputs of a view that it cannot learn from."""

    def adopt(self, facts: Mapping[str, Any], own: Mapping[str, Any]) -> None:
        """Look at `run.json` of the run whose weights were taken (`--init`), and at this run's own; raise RunError if unlike.

        Of a checkpoint that lies in no run there are no `facts`.
        """

    def forward(self, batch: Batch, moment: Moment) -> Output:
        """The loss of a micro-batch. Writes no state, but for a constant that is estimated at step 0, micro-batch 0.

        In evaluation mode nothing of the method changes.
        """
        raise NotImplementedError

    def on_epoch(self, moment: Moment, labels: Tensor) -> None:
        """Before an epoch's first step, on every rank; never in mid-epoch, so what it finds must be buffers.

        `labels` are those of the training split, int64 (rows,).
        """

    def after_update(self, kept: Mapping[str, Tensor], moment: Moment) -> None:
        """After an optimizer step that was taken, on every rank: momentum encoders, banks, queues.

        `kept` is `Output.kept` of all ranks and micro-batches, in the order of `Batch.place`: (N, ...).
        """


@runtime_checkable
class Encoder(Protocol):
    """A network that turns (B, C, T, H, W) into pooled features (B, D)."""

    dim: int
    """Channels of the pooled feature."""
    layers: tuple[str, ...]
    """Names of the layers whose maps can be asked for; the last one is pooled."""

    def maps(self, inputs_BCTHW: Tensor, layers: Sequence[str], /) -> dict[str, Tensor]:
        """Unpooled maps of these layers, in one pass: the one entry that is compiled, and evaluated by layer."""
        ...

    def pool(self, maps: Tensor, /) -> Tensor:
        """Maps (B, channels, ...) to (B, channels)."""
        ...

    def __call__(self, inputs_BCTHW: Tensor, /) -> Tensor:
        """The pooled maps of the last layer: (B, D)."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """What a view gives."""

    views: int
    """V of a training sample."""
    video: tuple[int, ...] | None
    """(C, T, H, W) of one view for the video encoder."""
    audio: tuple[int, ...] | None
    """(C, T, H, W) of one view for the audio encoder."""
    parts: tuple[str, ...]
    """Parts of a stored sample that are read, besides the frames."""
    audio_time_first: bool = False
    """Whether H of the audio is time and W frequency, low ones first; else H is frequency, and W time."""
    reads_mel: bool = True
    """Whether a set's mel-spectrograms are read, or the numbers that they are made with: a run is not judged on others."""


class View(Protocol):
    """A module of `data/views/`: how a stored sample becomes arrays (in a worker), and these what encoders take."""

    Settings: type

    def inputs(self, settings: Any) -> Inputs:  # noqa: ANN401 - its own Settings
        """Shapes and parts."""
        ...

    def check(self, dataset: Dataset, settings: Any) -> None:  # noqa: ANN401
        """Raise ShardError where a set does not suit."""
        ...

    def arrays(self, settings: Any, clips: int | None = None) -> Arrays:  # noqa: ANN401
        """What `train_view` and `val_view` give of a sample, or `eval_views` of so many clips."""
        ...

    def train_view(self, sample: Sample, settings: Any, generator: np.random.Generator) -> dict[str, Tensor]:  # noqa: ANN401
        """V random views: each array (V, ...); "draws", float32, holds what `augment` needs of randomness."""
        ...

    def val_view(self, sample: Sample, settings: Any) -> dict[str, Tensor]:  # noqa: ANN401
        """V views with nothing random."""
        ...

    def eval_views(self, sample: Sample, settings: Any, clips: int) -> dict[str, Tensor]:  # noqa: ANN401
        """Evenly spaced clips: "video" (clips, ...), and "audio" of all of them (1, ...) or of each (clips, ...)."""
        ...

    def augment(self, arrays: Mapping[str, Tensor], settings: Any) -> dict[str, Tensor]:  # noqa: ANN401
        """On the device: arrays (B, V, ...) to "video" and "audio", float32 (B, V, C, T, H, W)."""
        ...

    def complete(self, settings: Any, shards: Address, split: Split, before: Mapping[str, Any]) -> Any:  # noqa: ANN401
        """The settings with what they leave to the training split, for a run to keep; a view without such has no `complete`.

        `before` are the view's settings of the run that goes on; none of a new one. Raises ShardError where the set lacks it.
        """
        ...

    def plain(self, settings: Any) -> Any:  # noqa: ANN401
        """The settings of one view without changes of colour or sound, for a classifier of frozen features (ks-eval layerwise).

        A view that knows of no such changes has no `plain`.
        """
        ...


def replicated(model: nn.Module) -> tuple[str, ...]:
    """`Method.REPLICATED` of a model; none of a module that is no method."""
    return tuple(getattr(model, "REPLICATED", ()))
