"""Convert the weights that the authors of AVID, CMA or CrissCross published to a run folder.

    python -m kinetics_sounds.train.convert_weights --recipe avid_k400 --weights AVID_Kinetics_Cross-N1024_checkpoint.pth.tar ...

Their files are pickles. They are read as weights only, in a process with limits, and written as safetensors:

OUT/config.yaml                settings of the recipe
OUT/run.json                   whose weights they are, of which files, and what was left out
OUT/checkpoints/step-00000000/ the weights
"""

import dataclasses
import json
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from kinetics_sounds import files
from kinetics_sounds.command import DONE, command
from kinetics_sounds.errors import RunError, SettingsError
from kinetics_sounds.settings import Parsed, parse

from .config import run_folder
from .config.settings import TrainSettings, backbones_of, read_settings
from .conversion import names, pickled
from .engine import build, checkpoint, resume
from .interface import Data

PROG = "convert_weights"
UNKNOWN = Data(classes=1, samples=0)
"""Data of the authors' training, which their files do not tell."""
MOST_SHOWN = 12
"""Maximum number of names to show of what was left out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConvertSettings:
    """Convert the weights that the authors of AVID, CMA or CrissCross published to a run folder for ks-eval and train.load.

    Examples:
      python -m kinetics_sounds.train.convert_weights --recipe cma_k400
          --weights AVID-CMA_Kinetics_InstX-N1024-PosW-N64-Top32_checkpoint.pth.tar
          --audio_stats audio-spectDB-24k-513-norm-stats.npz --out runs/cma_of_its_authors
      python -m kinetics_sounds.train.convert_weights --recipe crisscross_k400
          --weights vid_crisscross_kinetics_400.pth.tar --audio_weights aud_crisscross_kinetics_400.pth.tar
      ks-eval linear --run runs/cma_of_its_authors --shards data/k32/shards

    Each file is read in a process with limits on memory, time and size, as weights only: nothing of it is run. A .zip around
    one has to be unpacked first.

    exit code: 0 converted; 2 usage error, or a file that holds no such weights; 3 a full disk; 4 a bug, or a failing disk.
    """

    recipe: str
    """Recipe of the network and its inputs: avid_k400, cma_k400, crisscross_k400, or a YAML file."""
    weights: Path
    """The authors' file (.pth.tar), of both networks or of the video network."""
    audio_weights: Path | None = None
    """The authors' file of the audio network, if it is another one (CrissCross)."""
    audio_stats: Path | None = None
    """Mean and deviation that the authors standardize the sound by: the .npz file of AVID's repository (datasets/assets).
    Default: those of the recipe (CrissCross)."""
    out: Path | None = None
    """Run folder to write. Default: runs/RECIPE_published."""
    json: bool = False
    """Print the result as JSON on standard output."""


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point."""
    words = list(sys.argv[1:] if argv is None else argv)
    return command(PROG, lambda: _run(words))


def _run(words: Sequence[str]) -> int:
    settings = parse(ConvertSettings, words, prog=PROG).settings
    parsed = read_settings(["--config", settings.recipe])
    recipe = run_folder.recipe_name(parsed.configs[-1])
    authors = names.authors_of(parsed.settings.method, backbones_of(parsed.settings))
    out = settings.out or Path("runs", f"{recipe}_published")
    if out.exists():
        raise SettingsError(f"--out {out}: is there already; give another folder")
    part = files.part_of(out)
    files.make_folder(out.parent)
    try:
        with files.scratch(part) as scratch:
            parsed = _with_statistics(parsed, settings, scratch)
            model = build.build_meta(parsed, UNKNOWN)
            converted = _converted(settings, model, parsed, scratch)
        facts = _facts(settings, recipe, authors, converted)
        checkpoint.save_tensors(part / "checkpoints", 0, {"model": converted.tensors}, state={})
        files.write_bytes(part / "config.yaml", run_folder.config_text(parsed).encode())
        files.write_bytes(part / "run.json", (json.dumps(facts, indent=2) + "\n").encode())
        part.replace(out)
        files.sync_folder(out.parent)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    _tell(settings, out, converted)
    return DONE


def _with_statistics(parsed: Parsed[TrainSettings], settings: ConvertSettings, scratch: Path) -> Parsed[TrainSettings]:
    """Settings with the view's mean and deviation; raises SettingsError if neither recipe nor file has them."""
    view = parsed.settings.view
    if settings.audio_stats is None:
        if getattr(parsed.groups[view], "audio_mean", "none needed"):
            return parsed
        raise SettingsError(
            f"--audio_stats: is required, because {settings.recipe} standardizes the sound by numbers of its training data; "
            "AVID's are datasets/assets/audio-spectDB-24k-513-norm-stats.npz in its repository"
        )
    mean, std = pickled.read_statistics(settings.audio_stats, scratch)
    try:
        group = dataclasses.replace(parsed.groups[view], audio_mean=mean, audio_std=std)
    except (TypeError, ValueError) as error:  # the view has no such settings, or of another length
        raise SettingsError(f"--audio_stats {settings.audio_stats}: does not fit {settings.recipe}: {error}") from error
    return dataclasses.replace(parsed, groups={**parsed.groups, view: group})


def _converted(
    settings: ConvertSettings, model: nn.Module, parsed: Parsed[TrainSettings], scratch: Path
) -> names.Converted:
    """Weights of the files by our names, with all that was left out; raises RunError that names the file."""
    backbones = backbones_of(parsed.settings)
    authors = names.authors_of(parsed.settings.method, backbones)
    tensors: dict[str, Tensor] = {}
    others: list[str] = []
    for encoder, path in zip(run_folder.ENCODERS, (settings.weights, settings.audio_weights), strict=True):
        if path is not None:
            found = pickled.read_weights(path, scratch)
            named = names.with_prefix(found.tensors, authors, encoder)
            fitting = {name for name in named if encoder == "video" or name.startswith(authors.parts["audio."])}
            tensors |= {name: named[name] for name in named if name in fitting}
            others += [*found.others, *(name for name in named if name not in fitting)]
    try:
        converted = names.convert(tensors, model.state_dict(), authors, backbones)
    except RunError as error:
        told = " and ".join(str(path) for path in (settings.weights, settings.audio_weights) if path)
        remedy = f"give weights of {settings.recipe}, or another --recipe"
        if not any(name.startswith(authors.parts["audio."]) for name in tensors):
            remedy = "give the file of the audio network, too, with --audio_weights"
        raise RunError(f"{told}: {error}; {remedy}") from error
    return dataclasses.replace(converted, left_out=(*converted.left_out, *others))


def _facts(
    settings: ConvertSettings, recipe: str, authors: names.Authors, converted: names.Converted
) -> dict[str, Any]:
    """Contents of run.json: what is not known of the authors' training is empty."""
    paths = [path for path in (settings.weights, settings.audio_weights) if path]
    return {
        "recipe": recipe,
        "shards": "",
        "train_split": "train",
        "fingerprint": "",
        "data": UNKNOWN._asdict(),
        "note": f"weights published by their authors ({authors.title}), converted, not trained here",
        "versions": resume.versions(),
        "published": {
            "authors": authors.title,
            "repository": authors.repository,
            "license": authors.license,
            "files": [
                {"name": files.as_text(path.name), "bytes": path.stat().st_size, "sha256": files.sha256(path)}
                for path in paths
            ],
            "lacks": list(converted.lacks),
            "left_out": list(converted.left_out),
        },
    }


def _tell(settings: ConvertSettings, out: Path, converted: names.Converted) -> None:
    """Print the result."""
    tops: dict[str, int] = {}
    for name in converted.left_out:
        top = name.partition(".")[0]
        tops[top] = tops.get(top, 0) + 1
    shown = [f"{top} ({count})" for top, count in list(tops.items())[:MOST_SHOWN]]
    if settings.json:
        result = {
            "folder": files.as_text(out),
            "tensors": len(converted.tensors),
            "lacks": list(converted.lacks),
            "left_out": list(converted.left_out),
        }
        print(json.dumps(result))
        return
    print(f"{out}: {len(converted.tensors)} tensors converted")
    print(f"left out of the file: {', '.join(shown) or 'nothing'}{', ...' if len(tops) > MOST_SHOWN else ''}")
    print(f"not in the file: {', '.join(converted.lacks) or 'nothing'}")
    print(f"next: ks-eval linear --run {out} --shards SHARDS")


if __name__ == "__main__":
    sys.exit(main())
