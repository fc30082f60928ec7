"""The authors' names of their networks' tensors, and the conversion to ours.

The names were read in their code (facebookresearch/AVID-CMA at 93a8dfd, pritamqu/CrissCross at 3827bdc), of which nothing is
copied. Heads of AVID have the same layers in the same places as ours; those of CrissCross are not published.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from kinetics_sounds.errors import RunError, SettingsError

from ..config.run_folder import ENCODERS

R2PLUS1D = {0: "spt_conv1", 1: "spt_bn1", 3: "tmp_conv1", 4: "tmp_bn1", 6: "spt_conv2", 7: "spt_bn2", 9: "tmp_conv2"}
"""Layers of a residual block of R(2+1)D, by our index."""
PLAIN = {0: "conv1", 1: "bn1", 3: "conv2", 4: "bn2"}
"""Layers of a plain or residual 2-D block, by our index."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Authors:
    """Whose weights they are, and how their files name the parts of the model."""

    title: str
    repository: str
    """On GitHub."""
    license: str
    parts: Mapping[str, str]
    """Our prefix of a module to theirs; the encoders come first."""


AVID = Authors(
    title="Morgado, Vasconcelos and Misra, arXiv 2004.12943",
    repository="facebookresearch/AVID-CMA",
    license="CC BY-NC 4.0",
    parts={
        "video.": "video_model.",
        "audio.": "audio_model.",
        "heads.video.": "video_proj.projection.",
        "heads.audio.": "audio_proj.projection.",
    },
)
CRISSCROSS = Authors(
    title="Sarkar and Etemad, arXiv 2111.05329",
    repository="pritamqu/CrissCross",
    license="CC BY-NC 4.0",
    parts={"video.": "video_backbone.", "audio.": "audio_backbone."},
)
METHODS = {"avid": AVID, "cma": AVID, "crisscross": CRISSCROSS}
"""Authors of published weights, by method."""


@dataclass(frozen=True, slots=True)
class Converted:
    """Weights by our names."""

    tensors: dict[str, Tensor]
    left_out: tuple[str, ...]
    """Names in the file that our model has no place for."""
    lacks: tuple[str, ...]
    """Modules and buffers of our model, at its top level, that the file has nothing of."""


def authors_of(method: str, backbones: Sequence[str]) -> Authors:
    """Authors of published weights of a method; raises SettingsError for another method, or other backbones than theirs."""
    if method not in METHODS:
        raise SettingsError(f"--recipe: its method is {method}; weights are published of {', '.join(METHODS)}")
    if unknown := [name for name in backbones if name not in BACKBONES]:
        raise SettingsError(f"--recipe: its backbone is {unknown[0]}; weights are published of {', '.join(BACKBONES)}")
    return METHODS[method]


def with_prefix(tensors: Mapping[str, Tensor], authors: Authors, encoder: str) -> dict[str, Tensor]:
    """Tensors with the names of the whole model, if the file has a single encoder whose names have no prefix."""
    if any(name.startswith(tuple(authors.parts.values())) for name in tensors):
        return dict(tensors)
    return {authors.parts[f"{encoder}."] + name: value for name, value in tensors.items()}


def convert(
    found: Mapping[str, Tensor], wanted: Mapping[str, Tensor], authors: Authors, backbones: Sequence[str]
) -> Converted:
    """Rename the tensors `found` to those `wanted` (of a model on the meta device), and reshape 2-D convolutions to our 3-D ones.

    `backbones` are the names of the video and the audio backbone. A module or buffer other than the encoders may be missing as a
    whole. Raises RunError that names what is missing, of another shape or not finite.
    """
    names = {own: _theirs(own, authors, dict(zip(ENCODERS, backbones, strict=True))) for own in wanted}
    tops = dict.fromkeys(own.partition(".")[0] for own in wanted)
    there = {own.partition(".")[0] for own, name in names.items() if name in found}
    lacks = tuple(top for top in tops if top not in there and top not in ENCODERS)
    missing = [name for own, name in names.items() if own.partition(".")[0] not in lacks and name not in found]
    if missing:
        raise RunError(f"lacks {', '.join(missing[:3])}{f' and {len(missing) - 3} more' if len(missing) > 3 else ''}")
    kept = {own: name for own, name in names.items() if own.partition(".")[0] not in lacks}
    tensors = {own: _fitted(found[name], wanted[own], name) for own, name in kept.items()}
    used = set(kept.values())
    return Converted(tensors, tuple(name for name in found if name not in used), lacks)


def _fitted(value: Tensor, wanted: Tensor, name: str) -> Tensor:
    """The tensor in the shape and type of ours; raises RunError if it cannot have that shape or is not finite."""
    fits = value[:, :, None] if value.ndim == 4 and wanted.ndim == 5 else value
    if fits.shape != wanted.shape:
        raise RunError(f"its {name} is {tuple(value.shape)}, where this network needs {tuple(wanted.shape)}")
    if not torch.isfinite(fits).all():
        raise RunError(f"its {name} is not finite")
    return fits.to(wanted.dtype).contiguous()


def _theirs(own: str, authors: Authors, backbones: Mapping[str, str]) -> str:
    """The authors' name of a tensor of ours; ours where they have none."""
    for ours, prefix in authors.parts.items():
        if own.startswith(ours):
            encoder, rest = ours.removesuffix("."), own.removeprefix(ours)
            return prefix + (BACKBONES[backbones[encoder]](rest) if encoder in backbones else rest)
    return own


def _avid_r2plus1d(name: str) -> str:
    if found := re.fullmatch(r"conv([2-5])\.(\d+)\.residual\.(\d+)\.(\w+)", name):
        layer, block, index, kind = found.groups()
        return f"conv{layer}x.{block}.{R2PLUS1D[int(index)]}.{kind}"
    if found := re.fullmatch(r"conv([2-5])\.(\d+)\.(shortcut|norm)\.(\w+)", name):
        layer, block, part, kind = found.groups()
        return f"conv{layer}x.{block}.{'res_conv' if part == 'shortcut' else 'out_bn'}.{kind}"
    return name


def _conv2d(name: str) -> str:
    if found := re.fullmatch(r"conv([2-5])\.(\d+)\.(\w+)", name):
        return f"block{int(found[1]) - 1}.{PLAIN[int(found[2])]}.{found[3]}"
    return name


def _resnet18(name: str) -> str:
    if found := re.fullmatch(r"conv([2-5])\.(\d+)\.(residual|shortcut)\.(\d+)\.(\w+)", name):
        layer, block, part, index, kind = found.groups()
        first = 1 if layer == "2" else 0  # our conv2 begins with the pooling that is the end of their conv1
        inner = PLAIN[int(index)] if part == "residual" else f"downsample.{index}"
        return f"block{int(layer) - 1}.{int(block) - first}.{inner}.{kind}"
    return name


BACKBONES: Mapping[str, Callable[[str], str]] = {
    "avid_r2plus1d": _avid_r2plus1d,
    "conv2d": _conv2d,
    "resnet18": _resnet18,
}
"""Converts our name of a tensor within a backbone to the authors', by backbone."""
