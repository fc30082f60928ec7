"""Build a run's model from its settings, seeded, with a limit on its size."""

import contextlib
import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from kinetics_sounds import plugins
from kinetics_sounds.errors import RunError, SettingsError, first_line
from kinetics_sounds.settings import Parsed
from kinetics_sounds.stream import Split

from ..config import run_folder
from ..config.settings import PLUGINS, SomeSettings, TrainSettings, backbones_of, missing_module
from ..data.loader import Loading
from ..interface import Batch, Data, Method, Moment, Output, checked_output
from ..models.backbones import tied_copy

MOST_PARAMETERS = 1 << 32
"""Maximum parameters of a model: 150 times those of the paper."""
MOST_UNSEEN = 1 << 16
"""Maximum of any numeric model setting, if the model cannot be built on the meta device."""


def loading(settings: TrainSettings, device: torch.device) -> Loading:
    """Data-loading options of a run."""
    return Loading(
        workers=settings.workers,
        prefetch_batches=settings.prefetch_batches,
        sample_timeout=settings.sample_timeout,
        device=device,
    )


def window(settings: TrainSettings, split: Split) -> int | None:
    """Shards to shuffle together; None: all.

    For a remote shard set larger than the cache: as many as fill half of it, so that the next ones can be prefetched meanwhile.
    """
    if settings.window is not None or split.cache is None:
        return settings.window
    sizes, room = [tar.bytes for tar in split.tars], int(settings.cache_gb * 1e9)
    return None if sum(sizes) <= room else max(1, room // (2 * max(sizes)))


@dataclass(frozen=True)
class ModelBundle:
    """The method with its encoders, and the view that makes its inputs."""

    method: Method
    view: ModuleType
    view_settings: Any

    def output(self, arrays: Mapping[str, Tensor], moment: Moment, *, trains: bool = True) -> Output:
        """Run the method on a micro-batch of loader arrays, on the model's device.

        `trains`: the rows are from the training split. Raises RunError if the method returns no `Output`.
        """
        with torch.autocast(arrays["place"].device.type, enabled=False):  # bf16 cannot represent all gray levels
            made = self.view.augment(arrays, self.view_settings)
        batch = Batch(
            video=made.get("video"),
            audio=made.get("audio"),
            label=arrays["label"],
            place=arrays["place"],
            row=arrays["index"] if trains else None,
        )
        return checked_output(self.method(batch, moment), self.method)


def build_meta(parsed: Parsed[SomeSettings], data: Data) -> Method:
    """Build the model on the meta device, without memory; raise SettingsError if it is invalid or too large.

    A model that needs real values during construction (a tensor's `item()`) is built with them.
    """
    with torch.random.fork_rng(devices=[]):
        try:
            with torch.device("meta"):
                model = _build(parsed, data).method
        except (RuntimeError, OverflowError, TypeError) as error:
            if _largest(parsed) > MOST_UNSEEN:  # sizes may overflow 64 bits
                raise SettingsError(f"{_networks(parsed)}: cannot build the model ({first_line(error)})") from error
            model = _build(parsed, data).method
    count = sum(parameter.numel() for parameter in model.parameters())
    if count > MOST_PARAMETERS:
        raise SettingsError(
            f"{_networks(parsed)}: the model has {count:.2g} parameters, more than {MOST_PARAMETERS:.2g}; give a "
            "smaller one"
        )
    if data.samples:  # evaluation may use other clips
        _check_encoders(parsed, model)
    return model


@torch.no_grad()
def _check_encoders(parsed: Parsed[SomeSettings], model: Method) -> None:
    """Raise SettingsError if an encoder raises ValueError for the shape that the view gives; computes nothing."""
    chosen = parsed.settings
    inputs = plugins.load(PLUGINS["view"], chosen.view).inputs(parsed.groups[chosen.view])
    audio_option = "backbone" if chosen.encoders == "shared" else "audio_backbone"
    for modality, option, name in zip(
        run_folder.ENCODERS, ("backbone", audio_option), backbones_of(chosen), strict=True
    ):
        if modality not in model.reads:
            continue
        try:
            with contextlib.suppress(RuntimeError):  # a network that reads values of tensors is not checked
                getattr(model, modality)(torch.empty(2, *getattr(inputs, modality), device="meta"))
        except ValueError as error:
            raise SettingsError(
                f"--{option} {name}: cannot encode the {modality} of --view {chosen.view}: {error}"
            ) from error


def _networks(parsed: Parsed[SomeSettings]) -> str:
    """The backbone options of a run, for messages."""
    return ", ".join(f"--{name}" for name in dict.fromkeys(backbones_of(parsed.settings)))


def _largest(parsed: Parsed[SomeSettings]) -> float:
    """Largest number among the settings of a run's method and backbones."""
    names = (parsed.settings.method, *backbones_of(parsed.settings))
    groups = (dataclasses.asdict(parsed.groups[name]) for name in names if name in parsed.groups)
    return max((value for group in groups for value in group.values() if isinstance(value, int | float)), default=0)


def build_model(parsed: Parsed[SomeSettings], data: Data) -> ModelBundle:
    """Build the untrained model of a run; its weights are a function of the seed. Raises like `build_meta`."""
    build_meta(parsed, data)
    return _build(parsed, data)


class EncodersOnly(Method):
    """The encoders of a run whose method is not installed, for evaluation."""

    def __init__(self, name: str, *, video: nn.Module, audio: nn.Module) -> None:
        super().__init__()
        self.name, self.video, self.audio = name, video, audio

    def embed(self, modality: str, feature_BD: Tensor) -> Tensor:
        """There are no heads: raises RunError."""
        raise RunError(missing_module("method", self.name))


def _build(parsed: Parsed[SomeSettings], data: Data) -> ModelBundle:
    chosen = parsed.settings
    needed = bool(data.samples) or not missing_module("method", chosen.method)
    method = plugins.load(PLUGINS["method"], chosen.method) if needed else None
    video_backbone, audio_backbone = (plugins.load(PLUGINS["backbone"], name) for name in backbones_of(chosen))
    view = plugins.load(PLUGINS["view"], chosen.view)
    view_settings = parsed.groups[chosen.view]
    torch.manual_seed(chosen.seed)
    video = video_backbone.build(parsed.groups[chosen.backbone])
    audio = _audio_encoder(parsed, audio_backbone, video)
    if method is None:
        return ModelBundle(EncodersOnly(chosen.method, video=video, audio=audio), view, view_settings)
    try:
        model: Method = method.build(parsed.groups[chosen.method], video=video, audio=audio, data=data)
        if data.samples:  # evaluation may use other clips
            model.check(view.inputs(view_settings))
    except ValueError as error:
        raise SettingsError(f"--{chosen.method}: {error}") from error
    inputs = view.inputs(view_settings)
    if data.samples and (lacks := [name for name in model.reads if getattr(inputs, name) is None]):
        raise SettingsError(
            f"--{chosen.view}: gives no {' and no '.join(lacks)}, which --method {chosen.method} learns from; give shards that "
            "have it, or a method of one modality (ks-eval finetune --supervised.modalities video)"
        )
    given = inputs.views
    if model.views != given:
        raise SettingsError(
            f"--{chosen.view}.views {given}: --method {chosen.method} compares {model.views} views of a sample; give "
            f"--{chosen.view}.views {model.views}"
        )
    return ModelBundle(model, view, view_settings)


def _audio_encoder(parsed: Parsed[SomeSettings], backbone: ModuleType, video: nn.Module) -> nn.Module:
    """Build the audio encoder for the view's layout, or tie it to the video encoder's weights."""
    chosen = parsed.settings
    _, name = backbones_of(chosen)
    network, channels = parsed.groups[name], parsed.groups[chosen.view].audio_channels
    if chosen.encoders == "separate":
        audio: nn.Module = backbone.build(dataclasses.replace(network, channels=channels))
        return audio
    if name != chosen.backbone:
        raise SettingsError(
            f"--encoders shared: the one encoder is a {chosen.backbone}, and not a {name} for the audio; leave --audio_backbone "
            "out, or give --encoders separate"
        )
    if channels != network.channels:
        raise SettingsError(
            f"--encoders shared: the one encoder takes {network.channels} channels, and the audio has {channels}; "
            f"give --{chosen.view}.audio_channels {network.channels}"
        )
    return tied_copy(video)


def rebuild(folder: Path) -> ModelBundle:
    """Build the untrained model of a run for evaluation, without memory banks."""
    return build_model(run_folder.model_of(folder), run_folder.data_for_evaluation(run_folder.read_facts(folder)))
