"""ks-eval cam: Grad-CAM pictures of the pixels and sounds that a run's encoders respond to.

The map of a layer with channels A_k is ReLU(sum over k of w_k A_k), with w_k the mean over all positions of the gradient of a
score with respect to A_k (Selvaraju et al., arXiv 1610.02391). The score needs no label:

* of pretrained encoders, the cosine of the clip's video and audio feature;
* of a method with `logits(video_BD, audio_BD)`, such as a fine-tuned one, the logit of the predicted class.

Shape suffixes: B clips, C channels, T frames, H and W pixels, L classes.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kinetics_sounds import files, stream
from kinetics_sounds.address import Address
from kinetics_sounds.command import DONE
from kinetics_sounds.errors import RunError, SettingsError
from kinetics_sounds.extras import pip_install
from kinetics_sounds.media.decode import encode_jpeg
from kinetics_sounds.settings import Parsed

from ...config.settings import at_least
from ...data.colormap import magma
from ...data.dataset import default_cache
from ...distributed import devices
from ...models.backbones import feature_width
from .. import results
from ..encoders import Encoders, load_selected
from ..eval_data import open_eval_data
from ..features import stage

Score = Callable[[Tensor, Tensor], Tensor]
"""Maps the encoder inputs of B clips to one score each, (B,)."""
GAP = 4
"""Pixels between two images of a picture."""
SIDE = 112
"""Height of the frames in pixels below which a picture is enlarged by a whole factor."""
SCORES = False
"""Whether the protocol reports scores."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Draw Grad-CAM maps of a run's encoders: one picture per clip, and results.json.

    Examples:
      ks-eval cam --run runs/avcl_k32
      ks-eval cam --run runs/avcl_k32 --samples 32 --on_split val --out maps

    A picture shows frames of the clip and its mel-spectrogram (low bands at the bottom), and below them the same with the map
    overlaid: bright regions contribute to the score.

    exit code: 0 done; 2 usage error; 3 stopped by a signal or a full disk, run again; 4 a bug, or a failing disk.
    """

    run: Path
    """Folder of a training run."""
    checkpoint: str = "last"
    """Checkpoint: last, best, or a name such as step-00000500."""
    untrained: bool = False
    """Draw maps of the same encoders with their initial weights."""
    shards: Address | None = None
    """Folder or URL of the shards. Default: the shards that the run was trained on, if they are a folder."""
    cache: Path = field(default_factory=default_cache)
    """Cache folder for remote shards, shared by all processes on this machine."""
    cache_gb: float = 100.0
    """Maximum cache size in gigabytes (1e9 bytes)."""
    on_split: str | None = None
    """Split of the clips. Default: test, else val, else the run's training split."""
    samples: int = 8
    """Number of clips, evenly spaced in the split."""
    frames: int = 4
    """Number of frames per picture, evenly spaced in the clip."""
    layer: str = "conv5"
    """Layer of both encoders to explain."""
    device: str = "auto"
    """cpu, cuda, or auto (cuda if available)."""
    out: Path | None = None
    """Folder of the pictures. Default: RUN/eval/cam."""
    json: bool = False
    """Print the results as JSON on standard output."""


@dataclass(frozen=True, slots=True, eq=False)
class Explained:
    """Maps of a clip in [0, 1], of the size of the encoders' inputs."""

    score: float
    video_THW: Tensor
    audio_HW: Tensor
    """Mean over the time steps that a mel-spectrogram is repeated to."""


def evaluate(parsed: Parsed[Settings]) -> int:
    """Draw the pictures; return the exit code."""
    settings = parsed.settings
    at_least(settings, samples=1, frames=1)
    its = open_eval_data(settings)
    facts, dataset, on, split = its.facts, its.dataset, its.on, its.split
    encoders = load_selected(settings)
    encoders.view.check(split.dataset, encoders.view_settings)
    encoders.method.to(devices.pick_device(settings.device))
    out = results.folder(settings, "cam")
    try:
        score, what = score_of(encoders)
        drawn = []
        for number in spaced(len(split), settings.samples):
            with stream.sample(split, number) as sample:
                inputs = encoders.preprocess(sample)
                views = encoders.view.eval_views(sample, encoders.view_settings, 1)
            shown = {"video": views["video"], "audio": views["audio"][0]}
            found = explain(encoders, inputs, score, layer=settings.layer)
            name = f"{split.key(number)}.jpg"
            if encoders.view.inputs(encoders.view_settings).audio_time_first:
                shown["audio"] = shown["audio"].transpose(-1, -2)
                found = replace(found, audio_HW=found.audio_HW.T)
            flipped = getattr(encoders.view_settings, "audio_colours", "none") == "magma"
            files.write_bytes(out / name, encode_jpeg(picture(found, shown, frames=settings.frames, flipped=flipped)))
            drawn.append(
                {
                    "key": split.key(number),
                    "label": dataset.labels[int(split.label_index_N[number])],
                    "file": name,
                    "score": found.score,
                    "blank": [
                        side for side, map_ in (("video", found.video_THW), ("audio", found.audio_HW)) if not map_.any()
                    ],
                }
            )
    except ValueError as error:
        raise RunError(f"{settings.run}: cannot be explained: {error}") from error
    of_split = results.of_split(settings, its.shards, dataset, on, facts)
    head = results.head("cam", settings.run, facts, encoders.checkpoint, **of_split)
    document = {
        **head,
        "layer": settings.layer,
        "score": what,
        "samples": len(drawn),
        "frames": settings.frames,
    }
    results.tell_replaced(out / "results.json", document)
    document["clips"] = drawn
    files.write_bytes(out / "results.json", (json.dumps(document, indent=2) + "\n").encode())
    lines = [f"{len(drawn)} pictures of what {what} comes from: {out}", *results.note_seen(head, len(split))]
    print(json.dumps(document) if settings.json else "\n".join(lines))
    return DONE


def spaced(total: int, wanted: int) -> list[int]:
    """At most `wanted` evenly spaced indices below `total`, starting at 0."""
    wanted = min(total, wanted)
    return [total * place // wanted for place in range(wanted)]


def score_of(encoders: Encoders) -> tuple[Score, str]:
    """The score to explain for a run, and its name (see the module docstring). Raises ValueError if there is none."""
    logits = getattr(encoders.method, "logits", None)
    if logits is not None:
        return _of_features(encoders, predicted(logits)), "the predicted class"
    video, audio = feature_width(encoders.video), feature_width(encoders.audio)
    if video != audio:
        raise ValueError(f"cosines need equal widths: video {video}, audio {audio}")
    return cosine(encoders), "the cosine of video and audio"


def cosine(encoders: Encoders) -> Score:
    """Cosine of the two pooled features of each clip."""
    return lambda video, audio: F.cosine_similarity(encoders.video(video), encoders.audio(audio))


def _of_features(encoders: Encoders, score: Score) -> Score:
    """Score of both pooled features; an unused feature gets a zero gradient instead of none."""

    def scored(video: Tensor, audio: Tensor) -> Tensor:
        video_BD: Tensor = encoders.video(video)
        audio_BD: Tensor = encoders.audio(audio)
        return score(video_BD, audio_BD) + 0 * (video_BD.sum(dim=1) + audio_BD.sum(dim=1))

    return scored


def predicted(logits: Callable[[Tensor, Tensor], Tensor]) -> Score:
    """Highest of each clip's logits (B, L)."""
    return lambda video, audio: logits(video, audio).amax(dim=1)


def explain(encoders: Encoders, inputs: dict[str, Tensor], score: Score, *, layer: str = "conv5") -> Explained:
    """Maps of one clip, from the encoder inputs.

    Raises SettingsError for an unknown layer.
    """
    video, audio = inputs["video"], inputs["audio"]
    video_map, audio_map = (
        unit_range(spread(grad_cam(score, stage(side, layer), (video, audio)), tuple(shown.shape[2:])))[0]
        for side, shown in ((encoders.video, video), (encoders.audio, audio))
    )
    with torch.no_grad():
        value = float(score(video, audio)[0])
    audio_HW = audio_map.mean(dim=0) if audio_map.ndim == 3 else audio_map
    return Explained(value, video_map.cpu(), audio_HW.cpu())


def grad_cam(score: Score, layer: nn.Module, inputs: tuple[Tensor, Tensor]) -> Tensor:
    """Grad-CAM of the score of each clip, at the layer's resolution: (B, [T,] H, W), at least 0.

    Raises SettingsError if captum is not installed.
    """
    try:
        from captum.attr import LayerGradCam
    except ImportError as error:
        raise SettingsError(f"ks-eval cam needs captum: {pip_install('eval')}") from error
    maps: Tensor = LayerGradCam(score, layer).attribute(inputs, relu_attributions=True)
    return maps[:, 0].detach()


def spread(map_B: Tensor, size: tuple[int, ...]) -> Tensor:
    """Interpolate maps (B, [T,] H, W) linearly to `size`."""
    mode = "trilinear" if len(size) == 3 else "bilinear"
    return F.interpolate(map_B[:, None], size=size, mode=mode, align_corners=False)[:, 0]


def unit_range(map_B: Tensor) -> Tensor:
    """Scale each clip's map to [0, 1]; a constant map becomes 0."""
    flat = map_B.flatten(1)
    least, most = (bound.view(-1, *[1] * (map_B.ndim - 1)) for bound in (flat.amin(dim=1), flat.amax(dim=1)))
    return torch.where(most > least, (map_B - least) / (most - least).clamp_min(torch.finfo(map_B.dtype).tiny), 0.0)


def picture(found: Explained, shown: dict[str, Tensor], *, frames: int, flipped: bool = False) -> np.ndarray:
    """Picture of frames and mel-spectrogram of a clip, and below them the same with maps: uint8 (H, W, 3).

    `shown` are the view's "video", uint8 (1, T, H, W, 3), and "audio", (H, W) with low bands first (for (T, H, W), the mean
    over T is drawn). `flipped`: the encoder received the mel-spectrogram with low bands last, so its map has them last too.
    """
    frames_THWC = shown["video"][0].cpu().numpy()
    numbers = spaced(len(frames_THWC), frames)
    plain = [frames_THWC[number] for number in numbers]
    over = [overlaid(frames_THWC[number], found.video_THW[number].numpy()) for number in numbers]
    audio = shown["audio"].cpu().float()
    mel_HW = (audio.mean(dim=0) if audio.ndim == 3 else audio).flip(0)
    least, most = float(mel_HW.min()), float(mel_HW.max())
    grey_HW = ((mel_HW - least) / max(most - least, 1e-12) * 255).round().byte().numpy()
    mel_HWC = np.repeat(grey_HW[:, :, None], 3, axis=2)
    map_HW = found.audio_HW if flipped else found.audio_HW.flip(0)
    plain, over = [*plain, mel_HWC], [*over, overlaid(mel_HWC, map_HW.numpy())]
    return _tiled([plain, over])


def overlaid(image_HWC: np.ndarray, map_HW: np.ndarray) -> np.ndarray:
    """Blend image and color map half and half: uint8 (H, W, 3)."""
    heat_HWC = magma(torch.from_numpy(map_HW)[None])[0].permute(1, 2, 0).numpy() * 255
    mixed: np.ndarray = (image_HWC / 2 + heat_HWC / 2).round().astype(np.uint8)
    return mixed


def _tiled(rows: list[list[np.ndarray]]) -> np.ndarray:
    """Arrange images in a grid on white, all as high as the highest; enlarge small ones."""
    high = max(1, SIDE // rows[0][0].shape[0]) * max(image.shape[0] for row in rows for image in row)
    gap = ((0, GAP), (0, GAP), (0, 0))
    tiles = [[np.pad(_of_height(image, high), gap, constant_values=255) for image in row] for row in rows]
    return np.concatenate([np.concatenate(row, axis=1) for row in tiles], axis=0)


def _of_height(image_HWC: np.ndarray, high: int) -> np.ndarray:
    """The image scaled to a height by its nearest pixels."""
    own, width = image_HWC.shape[:2]
    scaled: np.ndarray = image_HWC[np.arange(high) * own // high][:, np.arange(width * high // own) * own // high]
    return scaled
