"""Build a run's model from its settings: bounded, seeded, on whatever data the method is told of."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from kinetics_sounds import plugins
from kinetics_sounds.errors import SettingsError, first_line
from kinetics_sounds.settings import Parsed
from kinetics_sounds.stream import Split

from ..config import run_folder
from ..config.settings import PLUGINS, SomeSettings, TrainSettings, backbones_of
from ..data.loader import Loading
from ..interface import Batch, Data, Method, Moment, Output
from ..models.backbones import tied_copy

MOST_PARAMETERS = 1 << 32
"""Of a model: 150 times those of the paper."""
MOST_UNSEEN = 1 << 16
"""No setting of a model is larger that takes memory before its parameters are counted."""


def loading(settings: TrainSettings, device: torch.device) -> Loading:
    """How batches come to the device."""
    return Loading(
        workers=settings.workers, ahead=settings.ahead, sample_seconds=settings.sample_seconds, device=device
    )


def window(settings: TrainSettings, split: Split) -> int | None:
    """Shards that are shuffled together: None is all of them.

    Of a remote set that does not fit into it, as many as half the cache holds, so that the next ones can come meanwhile.
    """
    if settings.window is not None or split.cache is None:
        return settings.window
    sizes, room = [tar.bytes for tar in split.tars], int(settings.cache_gb * 1e9)
    return None if sum(sizes) <= room else max(1, room // (2 * max(sizes)))


@dataclass(frozen=True)
class ModelBundle:
    """What a run's settings make: the model, and how its inputs are made."""

    method: Method
    view: ModuleType
    view_settings: Any

    def output(self, arrays: Mapping[str, Tensor], moment: Moment, *, trains: bool = True) -> Output:
        """What the method says of a micro-batch of the loader's arrays, on the model's device.

        `trains` says that they are rows of the training split.
        """
        with torch.autocast(arrays["place"].device.type, enabled=False):  # bf16 has a step of a grey level
            made = self.view.augment(arrays, self.view_settings)
        batch = Batch(
            video=made.get("video"),
            audio=made.get("audio"),
            label=arrays["label"],
            place=arrays["place"],
            row=arrays["number"] if trains else None,
        )
        output: Output = self.method(batch, moment)
        return output


def outline(parsed: Parsed[SomeSettings], data: Data) -> Method:
    """The model of a run without its numbers, which takes no memory; raises SettingsError for one that nobody could have.

    A model that cannot be made without numbers (one that asks a tensor for its `item()`) is made with them.
    """
    with torch.random.fork_rng(devices=[]):
        try:
            with torch.device("meta"):
                model = _build(parsed, data).method
        except (RuntimeError, OverflowError, TypeError) as error:
            if _largest(parsed) > MOST_UNSEEN:  # perhaps of sizes that have no product in 64 bits
                raise SettingsError(f"{_networks(parsed)}: makes no model ({first_line(error)})") from error
            model = _build(parsed, data).method
    count = sum(parameter.numel() for parameter in model.parameters())
    if count > MOST_PARAMETERS:
        raise SettingsError(
            f"{_networks(parsed)}: the model has {count:.2g} parameters, more than {MOST_PARAMETERS:.2g}; give a "
            "smaller one"
        )
    return model


def _networks(parsed: Parsed[SomeSettings]) -> str:
    """The options of a run's backbones, as a message names them."""
    return ", ".join(f"--{name}" for name in dict.fromkeys(backbones_of(parsed.settings)))


def _largest(parsed: Parsed[SomeSettings]) -> float:
    """The largest number among the settings of a run's method and backbones."""
    names = (parsed.settings.method, *backbones_of(parsed.settings))
    groups = (dataclasses.asdict(parsed.groups[name]) for name in names)
    return max((value for group in groups for value in group.values() if isinstance(value, int | float)), default=0)


def build_model(parsed: Parsed[SomeSettings], data: Data) -> ModelBundle:
    """The untrained model of a run on such data: its weights are a function of the seed. Raises as `outline`."""
    outline(parsed, data)
    return _build(parsed, data)


def _build(parsed: Parsed[SomeSettings], data: Data) -> ModelBundle:
    chosen = parsed.settings
    method = plugins.load(PLUGINS["method"], chosen.method)
    video_backbone, audio_backbone = (plugins.load(PLUGINS["backbone"], name) for name in backbones_of(chosen))
    view = plugins.load(PLUGINS["view"], chosen.view)
    view_settings = parsed.groups[chosen.view]
    torch.manual_seed(chosen.seed)
    video = video_backbone.build(parsed.groups[chosen.backbone])
    audio = _audio_encoder(parsed, audio_backbone, video)
    try:
        model: Method = method.build(parsed.groups[chosen.method], video=video, audio=audio, data=data)
        if data.samples:  # evaluation may look at other clips
            model.check(view.inputs(view_settings))
    except ValueError as error:
        raise SettingsError(f"--{chosen.method}: {error}") from error
    given = view.inputs(view_settings).views
    if model.views != given:
        raise SettingsError(
            f"--{chosen.view}.views {given}: --method {chosen.method} compares {model.views} views of a sample; give "
            f"--{chosen.view}.views {model.views}"
        )
    return ModelBundle(model, view, view_settings)


def _audio_encoder(parsed: Parsed[SomeSettings], backbone: ModuleType, video: nn.Module) -> nn.Module:
    """An encoder for the audio as the view lays it out, or one with the video's own weights."""
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
    """The untrained model of a run, for evaluation: without memory banks."""
    return build_model(run_folder.model_of(folder), run_folder.evaluated(run_folder.read_facts(folder)))
